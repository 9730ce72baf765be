//! Shrinking: the smallest plan that still fails the same way.
//!
//! Delta debugging over faults and transactions, then edits of everything within and around them: machines,
//! regions and shards, a fault's machines and times, a transaction's reads and effects, phases, clocks, drawn
//! options, and the noise of links and disks. A candidate is kept only if its run fails in the same
//! [`Class`]; rounds are repeated until one changes nothing, so the result is locally minimal:
//! every single edit of the last round was tried on it, and none of the results fails in the class.
//! Where that is not small yet, removals are tried together with other seeds: a chance of the network or of a timer
//! falls on a message or an arming by its position, and a removal moves it elsewhere.
//!
//! Left as they are: the bounds that the verdict judges by (settle phase, recovery after the power cut), the
//! links' floors and the machines' speeds, the tables, and the choices of timers and disks that follow from
//! the seed: protocols need those to break ties, so there is no calm choice to turn them into.

mod edits;
mod extent;
mod layout;
mod search;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

pub use extent::Extent;
pub use search::{Case, Oracle, Progress};

use crate::base::process::NodeId;
use crate::fault::When;
use crate::plan::{Plan, Start};
use crate::registry::Registry;
use crate::run::Run;
use crate::run::failure::{self, Class};
use crate::scenario::Scenario;
use crate::sim::trace::{TraceEvent, TraceKind};
use search::Search;

/// How many runs shrinking may take unless told otherwise.
pub const BUDGET: usize = 5_000;

/// The smallest case that a search found.
#[derive(Clone, Debug)]
pub struct Reduced {
    /// The case.
    pub case: Case,
    /// Candidates judged, each counted once, however many threads judged them.
    pub runs: usize,
    /// No single edit of the case still fails. Otherwise the budget was used up first.
    pub locally_minimal: bool,
}

/// Reduces a case that fails, as far as single edits and pairs of removals lead within the budget. The result
/// depends on the case, the oracle and the budget, and not on the number of threads.
pub fn reduce(
    case: Case,
    fails: &Oracle<'_>,
    budget: usize,
    progress: &mut dyn FnMut(Progress),
) -> Reduced {
    let mut search = Search::new(case, fails, budget, progress);
    reduce_further(&mut search);
    search.reduced()
}

fn reduce_further(search: &mut Search<'_>) {
    loop {
        let before = search.case.digest();
        stage(search, "noise", |search| search.edits(&edits::calm));
        stage(search, "options", |search| search.edits(&edits::as_stated));
        stage(search, "faults", |search| {
            search.ddmin(faults, &keep_faults)
        });
        stage(search, "machines", |search| search.edits(&layout::smaller));
        stage(search, "transactions", |search| {
            search.ddmin(operations, &keep_operations)
        });
        stage(search, "within transactions", |search| {
            search.edits(&edits::within_transactions)
        });
        stage(search, "within faults", |search| {
            search.edits(&edits::within_faults)
        });
        stage(search, "times", |search| search.edits(&edits::times));
        if search.case.digest() != before && !search.exhausted {
            continue;
        }
        // A round without change: every single edit was tried. Two at once may still lead on.
        stage(search, "pairs", |search| {
            search.pairs(faults, &keep_faults);
            search.pairs(operations, &keep_operations);
        });
        if search.case.digest() == before && !is_small(&search.case) {
            stage(search, "other seeds", |search| {
                search.reseeded(operations, &keep_operations);
                search.reseeded(faults, &keep_faults);
            });
        }
        if search.case.digest() == before || search.exhausted {
            return;
        }
    }
}

fn stage(search: &mut Search<'_>, name: &'static str, of: impl FnOnce(&mut Search<'_>)) {
    search.stage = name;
    if !search.exhausted {
        of(search);
    }
}

fn faults(case: &Case) -> usize {
    case.plan.faults.len()
}

fn operations(case: &Case) -> usize {
    case.plan.operations.len()
}

fn keep_faults(case: &Case, kept: &[usize]) -> Case {
    let mut case = case.clone();
    case.plan.faults = kept
        .iter()
        .map(|at| case.plan.faults[*at].clone())
        .collect();
    case
}

fn keep_operations(case: &Case, kept: &[usize]) -> Case {
    let mut case = case.clone();
    let operations = &case.plan.operations;
    case.plan.operations = kept.iter().map(|at| operations[*at].clone()).collect();
    case
}

/// A shrunk plan, with what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Shrunk {
    /// The protocol.
    pub protocol: String,
    /// The class that was kept.
    pub class: Class,
    /// The scenario that the plan stands on: its layout may have fewer machines.
    #[serde(skip)]
    pub scenario: Scenario,
    /// The smallest plan. Faults may still be aimed at moments; `run.kept.plan` has it as it happened.
    #[serde(skip)]
    pub plan: Plan,
    /// Its run, with trace and fates.
    #[serde(skip)]
    pub run: Run,
    /// How much there was before.
    pub before: Extent,
    /// How much is left.
    pub after: Extent,
    /// What was removed, line by line.
    pub removed: Vec<String>,
    /// Runs taken.
    pub runs: usize,
    /// Runs allowed.
    pub budget: usize,
    /// Every single edit of the result was tried, and none still fails in the class. Otherwise the budget was
    /// used up first.
    pub locally_minimal: bool,
}

/// Why nothing was shrunk.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CannotShrink {
    /// The plan does not fail in the class.
    #[error("the plan does not fail as {wanted}: {}", found.as_ref().map_or("its run broke no promise".to_owned(), |found| format!("it fails as {found}")))]
    NotShown {
        /// The class asked for.
        wanted: Class,
        /// How it fails, if it does.
        found: Option<Class>,
    },
    /// The plan cannot be run.
    #[error("{0}")]
    Run(String),
}

/// The smallest plan that still fails in the class, within a budget of runs ([`BUDGET`] is a good one).
/// `progress` is told after every few runs how far it has come. Runs go on as many threads as the current rayon
/// pool has; the result does not depend on their number.
///
/// # Errors
///
/// When the plan cannot be run, or does not fail in the class.
pub fn shrink(
    registry: &Registry,
    scenario: &Scenario,
    protocol: &str,
    plan: &Plan,
    class: &Class,
    budget: usize,
    progress: &mut dyn FnMut(Progress),
) -> Result<Shrunk, CannotShrink> {
    let whole = Case {
        scenario: Arc::new(scenario.clone()),
        plan: plan.clone(),
    };
    let first = run(registry, &whole, protocol)?;
    if !failure::shows(&first, class) {
        return Err(CannotShrink::NotShown {
            wanted: class.clone(),
            found: failure::class(&first),
        });
    }
    let fails = |case: &Case| {
        let run = registry.run(&case.scenario, protocol, &case.plan, false);
        run.is_ok_and(|run| failure::shows(&run, class))
    };
    let ways: &[fn(&mut Search<'_>, &Run)] = match has_aims(plan) {
        true => &[in_time, at_moments],
        false => &[in_time],
    };
    let mut smallest: Option<Reduced> = None;
    let mut runs = 0;
    for way in ways {
        let mut search = Search::new(whole.clone(), &fails, budget - runs, progress);
        search.first(1, &|case, _| {
            let mut case = case.clone();
            case.scenario = Arc::new(layout::only_for(&case.scenario, protocol)?);
            Some(case)
        });
        way(&mut search, &first);
        reduce_further(&mut search);
        runs += search.runs();
        let found = search.reduced();
        smallest = match smallest {
            Some(known) if rank(&known) <= rank(&found) => Some(known),
            _ => Some(found),
        };
        if smallest.as_ref().is_some_and(|found| is_small(&found.case)) || runs >= budget {
            break;
        }
    }
    let smallest = smallest.expect("there is at least one way");
    finish(
        registry,
        &whole,
        &first,
        class,
        protocol,
        Reduced { runs, ..smallest },
        budget,
    )
}

/// Small enough not to look for a smaller result by more than edits.
fn is_small(case: &Case) -> bool {
    faults(case) <= 5 && operations(case) <= 6
}

fn rank(reduced: &Reduced) -> (usize, usize) {
    let (faults, operations) = (faults(&reduced.case), operations(&reduced.case));
    (faults + operations, operations)
}

fn run(registry: &Registry, case: &Case, protocol: &str) -> Result<Run, CannotShrink> {
    registry
        .run(&case.scenario, protocol, &case.plan, true)
        .map_err(CannotShrink::Run)
}

fn finish(
    registry: &Registry,
    whole: &Case,
    first: &Run,
    class: &Class,
    protocol: &str,
    reduced: Reduced,
    budget: usize,
) -> Result<Shrunk, CannotShrink> {
    let last = run(registry, &reduced.case, protocol)?;
    assert!(
        failure::shows(&last, class),
        "the smallest plan fails only sometimes: ordain is not deterministic"
    );
    Ok(Shrunk {
        protocol: protocol.to_owned(),
        class: class.clone(),
        before: Extent::of(whole, first),
        after: Extent::of(&reduced.case, &last),
        removed: extent::removed(whole, &reduced.case),
        scenario: reduced.case.scenario.as_ref().clone(),
        plan: reduced.case.plan,
        run: last,
        runs: reduced.runs,
        budget,
        locally_minimal: reduced.locally_minimal,
    })
}

fn has_aims(plan: &Plan) -> bool {
    plan.faults
        .iter()
        .any(|fault| !matches!(fault.when, When::At(_)))
}

/// Puts everything that hangs on the course of the run at the time when it happened, as far as the plan then
/// still fails: faults aimed at moments or placed after a number of events (any edit shifts those numbers),
/// and operations of sessions that wait for a reply.
fn in_time(search: &mut Search<'_>, first: &Run) {
    let began = faults_began(first);
    // A fault that follows an event strikes after it; at the very instant of the event it would come first.
    let timed = |case: &Case, fault: usize, later_ns: u64| {
        let planned = case.plan.faults.get(fault)?;
        let at_ns = began.get(&fault)? + later_ns;
        let aimed = !matches!(planned.when, When::At(_));
        aimed.then_some(When::At(at_ns))
    };
    let all_timed = |case: &Case, later_ns: u64| {
        let mut case = case.clone();
        for fault in 0..case.plan.faults.len() {
            if let Some(when) = timed(&case, fault, later_ns) {
                case.plan.faults[fault].when = when;
            }
        }
        case
    };
    let opened = |case: &Case| in_open_loop(case, first);
    let together = |case: &Case, way: usize| match way {
        0 => opened(&all_timed(case, 1)),
        1 => opened(&all_timed(case, 0)),
        2 => Some(all_timed(case, 1)),
        _ => Some(all_timed(case, 0)),
    };
    if search.first(4, &together).is_none() {
        for fault in 0..search.case.plan.faults.len() {
            search.first(2, &|case, way| {
                let when = timed(case, fault, 1 - way as u64)?;
                let mut case = case.clone();
                case.plan.faults[fault].when = when;
                Some(case)
            });
        }
    }
    search.first(1, &|case, _| opened(case));
}

/// Aims every fault that was placed after a number of events at what was observed in that event, as far as
/// the plan then still fails: an aim finds its moment again when edits have moved it.
fn at_moments(search: &mut Search<'_>, first: &Run) {
    let began = faults_began(first);
    for fault in 0..search.case.plan.faults.len() {
        search.first(1, &|case, _| {
            let When::AfterEvent(event) = case.plan.faults[fault].when else {
                return None;
            };
            let mut case = case.clone();
            case.plan.faults[fault].when = moment(first, *began.get(&fault)?, event)?;
            Some(case)
        });
    }
    search.first(1, &|case, _| in_open_loop(case, first));
}

/// The moment at which a machine made its last observation of an event, counted from that instant on.
fn moment(run: &Run, from_ns: u64, event: u64) -> Option<When> {
    let lines = run.kept.trace.iter().flatten();
    let observed = lines.filter_map(|line| match &line.what {
        TraceKind::Observed { by, name, .. } => Some((line, by.node, name.as_ref())),
        _ => None,
    });
    let until: Vec<(&TraceEvent, NodeId, &str)> = observed
        .filter(|(line, ..)| line.event <= event && line.at_ns >= from_ns)
        .collect();
    let (_, by, observation) = *until.last().filter(|(line, ..)| line.event == event)?;
    let same = until
        .iter()
        .filter(|(_, node, name)| *node == by && *name == observation);
    Some(When::Moment {
        from_ns,
        observation: observation.to_owned(),
        by: Some(by),
        count: same.count() as u32,
        latest_ns: None,
    })
}

/// When each fault began, by its position in the plan.
fn faults_began(run: &Run) -> BTreeMap<usize, u64> {
    let lines = run.kept.trace.iter().flatten();
    let began = |line: &TraceEvent| match line.what {
        TraceKind::FaultBegan { fault } => Some((fault, line.at_ns)),
        _ => None,
    };
    lines.filter_map(began).collect()
}

/// Lets every operation of a session that waits for replies start about when it did, as a session of its own.
fn in_open_loop(case: &Case, first: &Run) -> Option<Case> {
    let waits = |start: &Start| matches!(start, Start::Think(_));
    if !{ case.plan.operations.iter() }.any(|operation| waits(&operation.start)) {
        return None;
    }
    let invoked: BTreeMap<_, _> = first.kept.invoked_ns.iter().copied().collect();
    let mut case = case.clone();
    // What never started, for want of a reply, never happened.
    case.plan
        .operations
        .retain(|operation| invoked.contains_key(&operation.txn.id));
    for (session, operation) in case.plan.operations.iter_mut().enumerate() {
        operation.session = session as u32;
        operation.start = Start::At(invoked[&operation.txn.id]);
    }
    Some(case)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(overrides: &[(&str, &str)], protocol: &str, of: usize) -> (Case, Run) {
        let (name, text) = crate::cli::SHIPPED[of];
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let overrides: Vec<_> = overrides.iter().map(owned).collect();
        let scenario = Registry::standard()
            .read_scenario(name, text, &overrides)
            .unwrap_or_else(|bad| panic!("{bad}"));
        let drawn = Plan::draw(&scenario, 1);
        let run = Registry::standard()
            .run(&scenario, protocol, &drawn, true)
            .expect("it runs");
        let plan = run.kept.plan.clone().expect("kept");
        let scenario = Arc::new(scenario);
        (Case { scenario, plan }, run)
    }

    fn again(case: &Case, protocol: &str) -> Run {
        Registry::standard()
            .run(&case.scenario, protocol, &case.plan, true)
            .expect("it runs")
    }

    #[test]
    fn an_aim_made_from_a_recorded_plan_strikes_at_the_same_event() {
        let overrides = [
            ("workload.transactions", "300"),
            ("fault.0.after.from", "1500ms"),
            ("fault.0.after.latest", "4s"),
        ];
        let (mut case, first) = recorded(&overrides, "2pc", 1);
        let When::AfterEvent(event) = case.plan.faults[0].when else {
            panic!(
                "the coordinator died after the votes: {:?}",
                case.plan.faults
            );
        };
        let run = again(&case, "2pc");
        assert_eq!(run.digest, first.digest, "a recorded plan replays");
        let aim = moment(&run, faults_began(&run)[&0], event).expect("the last vote was seen");
        assert!(
            matches!(&aim, When::Moment { observation, .. } if observation == "voted"),
            "{aim:?}"
        );
        case.plan.faults[0].when = aim;
        assert_eq!(again(&case, "2pc").digest, first.digest);
    }

    #[test]
    fn sessions_that_wait_for_replies_open_into_nearly_the_same_invocations() {
        let overrides = [("workload.transactions", "60")];
        let (mut case, _) = recorded(&overrides, "2pc", 0);
        for (at, operation) in case.plan.operations.iter_mut().enumerate() {
            operation.session = at as u32 % 4;
            operation.region = (at % 4 == 3).into();
            operation.start = Start::Think(if at < 4 { 1_000_000_000 } else { 5_000_000 });
        }
        let closed = again(&case, "2pc");
        let opened = in_open_loop(&case, &closed).expect("there are sessions that wait");
        assert!({ opened.plan.operations.iter() }.all(|o| matches!(o.start, Start::At(_))));
        let invoked =
            |run: &Run| -> BTreeMap<_, _> { run.kept.invoked_ns.iter().copied().collect() };
        let (before, after) = (invoked(&closed), invoked(&again(&opened, "2pc")));
        assert!(before.len() == 60 && before.keys().eq(after.keys()));
        // Clients' timers run at their clocks' rates, and starting takes some CPU time.
        for (txn, at_ns) in before {
            assert!(after[&txn].abs_diff(at_ns) < 1_000_000, "{txn}");
        }
        assert!(in_open_loop(&opened, &closed).is_none());
    }
}
