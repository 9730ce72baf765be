//! What made a run fail: from which instant on it could not be saved, and without which single fault, transaction or
//! message it passes.
//!
//! *The point of no return.* A run's fates (delays, losses, timers, flushes) are followed up to an instant and drawn anew
//! from there on, many times. The share of these runs that still fail says how much was settled at that instant. The share
//! at the start says how likely the plan alone makes the failure. Where it rises most, the events of that instant
//! matter.
//!
//! *What it needed.* One thing is taken away, and everything else is left as it was: the other faults at the same times,
//! every other message with its fate. A thing without which the run passes was necessary, in this run. It need not be
//! the cause: every transaction that the failure is about is necessary, too.

use rayon::prelude::*;
use serde::Serialize;

use crate::base::process::NodeId;
use crate::base::txn::TxnId;
use crate::fault::When;
use crate::plan::Plan;
use crate::plan::fates::{FateSource, Fates};
use crate::registry::Registry;
use crate::run::failure::{self, Class};
use crate::run::trace::{DropReason, TraceEvent, TraceKind};
use crate::run::{Run, Watch};
use crate::scenario::Scenario;

/// How the work is bounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Runs for each instant.
    pub redraws: usize,
    /// Instants that are looked at, at most.
    pub instants_max: usize,
    /// Faults, transactions and messages that are taken away one by one, at most, of each.
    pub removals_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            redraws: 20,
            instants_max: 24,
            removals_max: 40,
        }
    }
}

/// How many of the runs that were redrawn from an instant on failed in the same class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Share {
    /// The instant, nanoseconds of simulated time: what was drawn before it is as recorded.
    pub from_ns: u64,
    /// Runs that failed in the same class.
    pub failed: usize,
    /// Runs that broke another promise.
    pub otherwise: usize,
    /// Runs.
    pub runs: usize,
}

impl Share {
    /// The share of runs that failed in the same class.
    pub fn share(&self) -> f64 {
        self.failed as f64 / self.runs.max(1) as f64
    }
}

/// What was taken away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Thing {
    /// A fault, by its position in the plan.
    Fault(usize),
    /// A transaction.
    Transaction(TxnId),
    /// A message that arrived, by the line of the trace at which it was sent: now the network loses it.
    Arrival(usize),
    /// A message that the network lost, likewise: now it arrives.
    Loss(usize),
}

/// What became of the run without something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Removal {
    /// What was taken away.
    pub thing: Thing,
    /// Whether the run then still failed in the same class.
    pub still_fails: bool,
    /// Whether it then broke another promise.
    pub fails_otherwise: bool,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explained {
    /// The class of the failure.
    pub class: Class,
    /// By instant.
    pub shares: Vec<Share>,
    /// The two instants between which the share rises most, as positions in `shares`. None where it does not rise: the
    /// plan alone decides.
    pub turn: Option<(usize, usize)>,
    /// The lines of the trace between these two instants.
    pub lines: Option<(usize, usize)>,
    /// What was taken away, one thing at a time.
    pub removals: Vec<Removal>,
    /// Things that were not tried, because there are too many.
    pub not_tried: usize,
    /// Whether faults kept their times when others were taken away. Otherwise they strike after as many events.
    pub at_times: bool,
    /// How many runs it took.
    pub runs: usize,
}

/// A recorded run that is to be explained.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// What can run it.
    pub registry: &'a Registry,
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The protocol.
    pub protocol: &'a str,
    /// The plan as it happened.
    pub plan: &'a Plan,
    /// The fates as the world drew them.
    pub fates: &'a Fates,
    /// The run, with its trace.
    pub run: &'a Run,
    /// In which class it failed.
    pub class: &'a Class,
    /// The transactions whose messages are taken away.
    pub suspects: &'a [TxnId],
    /// The line of the trace at which it had failed, where one is known. Else the end counts.
    pub failed_by: Option<usize>,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Same,
    Other,
    Passed,
}

impl Case<'_> {
    fn events(&self) -> &[TraceEvent] {
        self.run.kept.trace.as_deref().unwrap_or_default()
    }

    fn end(&self, plan: &Plan, fates: FateSource) -> Result<End, String> {
        let protocol = self.registry.get(self.protocol)?;
        let run = protocol.run(self.scenario, plan, fates, false, Watch::Afterwards)?;
        Ok(
            match (failure::shows(&run, self.class), failure::class(&run)) {
                (true, _) => End::Same,
                (false, Some(_)) => End::Other,
                (false, None) => End::Passed,
            },
        )
    }

    /// Redraws from an instant on.
    fn share(&self, from_ns: u64, redraws: usize) -> Result<Share, String> {
        let ends = (0..redraws as u64).into_par_iter().map(|nth| {
            let fates = FateSource::Redrawn {
                fates: self.fates.clone(),
                from_ns,
                seed: self.fates.seed.wrapping_add(1 + nth),
            };
            self.end(self.plan, fates)
        });
        let ends = ends.collect::<Result<Vec<End>, String>>()?;
        let count = |wanted: End| ends.iter().filter(|end| **end == wanted).count();
        Ok(Share {
            from_ns,
            failed: count(End::Same),
            otherwise: count(End::Other),
            runs: redraws,
        })
    }

    /// The plan with its faults at the times at which they struck, so that taking one away moves no other.
    fn timed(&self) -> Plan {
        let mut plan = self.plan.clone();
        for event in self.events() {
            if let TraceKind::FaultBegan { fault } = event.what
                && let Some(fault) = plan.faults.get_mut(fault)
            {
                fault.when = When::At(event.at_ns);
            }
        }
        plan
    }
}

/// Explains a run.
///
/// # Errors
///
/// When the protocol does not run on the scenario any more.
pub fn explain(
    case: &Case<'_>,
    limits: Limits,
    progress: &mut dyn FnMut(usize),
) -> Result<Explained, String> {
    let (shares, turn) = point_of_no_return(case, limits, progress)?;
    let mut runs = shares.iter().map(|share| share.runs).sum();
    let lines = turn.map(|(before, after)| {
        let events = case.events();
        let first = |from_ns| events.partition_point(|event| event.at_ns < from_ns);
        (first(shares[before].from_ns), first(shares[after].from_ns))
    });
    let mut plan = case.timed();
    let recorded = || FateSource::Recorded(case.fates.clone());
    let at_times = case.end(&plan, recorded())? == End::Same;
    if !at_times {
        plan = case.plan.clone();
    }
    runs += 1;
    let (things, not_tried) = things(case, lines, limits.removals_max);
    let removals = things.par_iter().map(|thing| {
        let (plan, fates) = without(case, &plan, *thing);
        let end = case.end(&plan, FateSource::Recorded(fates))?;
        Ok(Removal {
            thing: *thing,
            still_fails: end == End::Same,
            fails_otherwise: end == End::Other,
        })
    });
    let removals = removals.collect::<Result<Vec<Removal>, String>>()?;
    runs += removals.len();
    progress(runs);
    Ok(Explained {
        class: case.class.clone(),
        shares,
        turn,
        lines,
        removals,
        not_tried,
        at_times,
        runs,
    })
}

/// The shares by instant, and where they rise most.
type Shares = (Vec<Share>, Option<(usize, usize)>);

/// Looks at a few instants, then between the two where the share rises most, until they are neighbours.
fn point_of_no_return(
    case: &Case<'_>,
    limits: Limits,
    progress: &mut dyn FnMut(usize),
) -> Result<Shares, String> {
    let events = case.events();
    let failed_by = case.failed_by.unwrap_or(events.len().saturating_sub(1));
    let mut instants: Vec<u64> = events.iter().take(failed_by + 1).map(|e| e.at_ns).collect();
    // Redrawing from the instant after the last one changes nothing that led to the failure.
    instants.push(instants.last().map_or(0, |last| last + 1));
    instants.dedup();
    let last = instants.len() - 1;
    let first_look = (limits.instants_max / 3).clamp(2, 8);
    let mut looked: Vec<(usize, Share)> = Vec::new();
    let mut places: Vec<usize> = (0..=first_look).map(|n| last * n / first_look).collect();
    places.dedup();
    for place in places {
        looked.push((place, case.share(instants[place], limits.redraws)?));
        progress(looked.len() * limits.redraws);
    }
    let steepest = |looked: &[(usize, Share)]| {
        let rise = |at: &usize| looked[at + 1].1.failed as i64 - looked[*at].1.failed as i64;
        // Of equal rises the last: what came later decided.
        let at = (0..looked.len().saturating_sub(1)).max_by_key(rise)?;
        (rise(&at) > 0).then_some(at)
    };
    while looked.len() < limits.instants_max {
        let Some(at) = steepest(&looked) else { break };
        let (low, high) = (looked[at].0, looked[at + 1].0);
        if high - low <= 1 {
            break;
        }
        let middle = (low + high) / 2;
        let share = case.share(instants[middle], limits.redraws)?;
        looked.insert(at + 1, (middle, share));
        progress(looked.len() * limits.redraws);
    }
    let turn = steepest(&looked).map(|at| (at, at + 1));
    Ok((looked.into_iter().map(|(_, share)| share).collect(), turn))
}

/// The transactions that a message names.
fn names(detail: &str, suspects: &[TxnId]) -> bool {
    let names = |txn: &TxnId| detail.contains(&format!("TxnId({})", txn.0));
    suspects.iter().any(names)
}

/// What can be taken away, and how much of it is too much: faults that struck, transactions, and messages between machines
/// that name a suspect or were sent where the share rises.
fn things(case: &Case<'_>, turn: Option<(usize, usize)>, most: usize) -> (Vec<Thing>, usize) {
    let events = case.events();
    let faults = 0..case.plan.faults.len();
    let faults: Vec<Thing> = faults.map(Thing::Fault).collect();
    let suspects = case.suspects.iter().copied();
    let others = { case.plan.operations.iter() }
        .map(|planned| planned.txn.id)
        .filter(|txn| !case.suspects.contains(txn));
    let transactions: Vec<Thing> = suspects.chain(others).map(Thing::Transaction).collect();
    let mut messages = Vec::new();
    let lost: Vec<u64> = { events.iter() }
        .filter_map(|event| match event.what {
            TraceKind::Dropped {
                id,
                why: DropReason::Lost,
                ..
            } => Some(id),
            _ => None,
        })
        .collect();
    let failed_by = case.failed_by.unwrap_or(events.len());
    for (line, event) in events.iter().enumerate().take(failed_by + 1) {
        let TraceKind::Sent {
            id,
            from,
            to,
            detail,
            ..
        } = &event.what
        else {
            continue;
        };
        let in_turn = turn.is_some_and(|(first, end)| (first..end).contains(&line));
        if from.node == to.node || !(in_turn || names(detail, case.suspects)) {
            continue;
        }
        messages.push(match lost.binary_search(id).is_ok() || lost.contains(id) {
            true => Thing::Loss(line),
            false => Thing::Arrival(line),
        });
    }
    // The last messages before the failure are the nearest to it.
    messages.reverse();
    let mut all = Vec::new();
    let mut not_tried = 0;
    for some in [faults, transactions, messages] {
        not_tried += some.len().saturating_sub(most);
        all.extend(some.into_iter().take(most));
    }
    (all, not_tried)
}

/// The plan and the fates without one thing.
fn without(case: &Case<'_>, plan: &Plan, thing: Thing) -> (Plan, Fates) {
    let (mut plan, mut fates) = (plan.clone(), case.fates.clone());
    match thing {
        Thing::Fault(at) => drop(plan.faults.remove(at)),
        Thing::Transaction(txn) => plan.operations.retain(|planned| planned.txn.id != txn),
        Thing::Arrival(line) | Thing::Loss(line) => {
            let lost = matches!(thing, Thing::Arrival(_));
            if let Some((from, to, position)) = fate_of(case.events(), line) {
                let mut links = fates.links.iter_mut();
                let link = links.find(|link| (link.from, link.to) == (from, to));
                if let Some(fate) = link.and_then(|link| link.messages.get_mut(position)) {
                    *fate = fate.with_loss(lost);
                }
            }
        }
    }
    (plan, fates)
}

/// The link on which the message of this line was sent, and its place among the fates there. A message within a machine, or
/// to a place where nobody listens, has no fate.
pub fn fate_of(events: &[TraceEvent], line: usize) -> Option<(NodeId, NodeId, usize)> {
    let link = |event: &TraceEvent| match event.what {
        TraceKind::Sent { from, to, .. } if from.node != to.node => Some((from.node, to.node)),
        _ => None,
    };
    let wanted = link(events.get(line)?)?;
    let nobody = |event: &TraceEvent| {
        matches!(
            event.what,
            TraceKind::Dropped {
                why: DropReason::NobodyThere,
                ..
            }
        )
    };
    // The loss of a message to nobody follows its sending at once.
    let has_fate =
        |at: &usize| link(&events[*at]) == Some(wanted) && !events.get(at + 1).is_some_and(nobody);
    let before = (0..line).filter(has_fate).count();
    has_fate(&line).then_some((wanted.0, wanted.1, before))
}
