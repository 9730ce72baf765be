//! Progress: what was owed, by what stays broken after healing, and whether it came within the settle phase.
//!
//! Bounded leads-to, from the client's side. A request that was sent before healing returns by the end of the settle phase,
//! whether or not the protocol has heard of it; what the protocol took charge of ends ([`obligations`](super::obligations)). That
//! is owed where the promise's conditions hold ([`Progress`]), which is a question about the machines and links that are left
//! ([`connectivity`](super::connectivity)). Everything else is excused, with a reason: *promised to block*, or *legitimately
//! unable*.

use std::collections::{BTreeMap, BTreeSet};

use super::connectivity::Connectivity;
use super::lives::Lives;
use super::{Evidence, Finding, Property, property};
use crate::base::process::NodeId;
use crate::base::txn::Key;
use crate::consensus::connectivity::Shape;
use crate::plan::PlannedOperation;
use crate::protocol::Progress;

const TOO_LATE: &str = "sent after healing, with less than the whole bound to return";
const GAVE_UP: &str = "its client gave up";

/// Why something is not owed.
type Excuse = String;

/// What is owed to an operation, as far as machines and links go.
struct Claim {
    /// That its client is answered.
    answer: Result<(), Excuse>,
    /// That it ends once the protocol has taken charge of it.
    end: Result<(), Excuse>,
}

/// Judges the promise of progress.
pub(super) fn judge(evidence: &Evidence<'_>, lives: &Lives) -> Property {
    let promised = match evidence.promises.progress() {
        Progress::None => None,
        Progress::AllBack => Some("requests return once all machines that they need are back"),
        Progress::Quorum => Some("requests return while participants and a quorum are connected"),
        Progress::Log { .. } => Some("requests return while a majority is connected"),
    };
    let left = Connectivity::after_healing(&evidence.plan.environment, &evidence.plan.faults);
    let mut claims = claims(evidence, &left);
    let by_needs = matches!(
        evidence.promises.progress(),
        Progress::AllBack | Progress::Quorum
    );
    if by_needs && !left.is_whole() {
        excuse_who_waits_behind(evidence, lives, &mut claims);
    }
    let healed_ns = evidence.plan.environment.safety_ns;
    let owed = &lives.obligations;
    let (mut exercised, mut waiting, mut open) = (0, Vec::new(), Vec::new());
    let mut excused: BTreeMap<&str, u64> = BTreeMap::new();
    for (operation, claim) in evidence.plan.operations.iter().zip(&claims) {
        let txn = operation.txn.id;
        let Some(life) = lives.by_txn.get(&txn) else {
            continue;
        };
        let in_time = |at_ns: Option<u64>| at_ns.is_some_and(|at_ns| at_ns <= healed_ns);
        let invoked_ns = life.invoked.map(|(at_ns, _)| at_ns);
        let answer = match &claim.answer {
            _ if owed.was_given_up(txn) => Err(GAVE_UP),
            Err(excuse) => Err(excuse.as_str()),
            Ok(()) if !in_time(invoked_ns) => Err(TOO_LATE),
            Ok(()) => Ok(()),
        };
        let end = claim.end.is_ok() && in_time(life.initiated_ns) && owed.is_in_charge(txn);
        exercised += u64::from(answer.is_ok() || end);
        let (unanswered, unended) = (owed.owes_answer(txn), owed.owes_end(txn));
        if end && unended {
            open.push(txn);
        } else if answer.is_ok() && unanswered {
            waiting.push(txn);
        } else if let Err(excuse) = answer
            && (unanswered || unended || owed.was_given_up(txn))
        {
            *excused.entry(excuse).or_default() += 1;
        }
    }
    let mut excuses: Vec<(u64, &str)> = excused.into_iter().map(|(why, n)| (n, why)).collect();
    excuses.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let words = |(count, why): &(u64, &str)| format!("{count} did not: {why}");
    let others: u64 = excuses.iter().skip(2).map(|(count, _)| count).sum();
    let others = (others > 0).then(|| format!("{others} did not for other reasons of this kind"));
    let excuses: Vec<String> = excuses.iter().take(2).map(words).chain(others).collect();
    let missed = waiting.len() + open.len();
    let (outcome, observed) = match (missed, exercised) {
        (0, 0) => (Finding::Held, "nothing was owed".to_owned()),
        (0, n) => (Finding::Held, format!("{n} of {n} owed returned and ended")),
        (_, n) => (
            Finding::Broken,
            format!(
                "of {n} owed, {} clients wait and {} transactions are open",
                waiting
                    .iter()
                    .chain(&open)
                    .filter(|txn| owed.owes_answer(**txn))
                    .count(),
                open.len()
            ),
        ),
    };
    let observed = [vec![observed], excuses].concat().join("; ");
    let (first, shape) = match (open.first(), waiting.first()) {
        (Some(open), _) => (Some(*open), "never-ended"),
        (None, waiting) => (waiting.copied(), "never-answered"),
    };
    let example = first.map(|txn| lives.describe(txn));
    property("progress", promised, outcome, observed, exercised, example)
        .shaped(shape)
        .counted(missed)
}

fn claims(evidence: &Evidence<'_>, left: &Connectivity) -> Vec<Claim> {
    let operations = &evidence.plan.operations;
    let all_owed = || Claim {
        answer: Ok(()),
        end: Ok(()),
    };
    if left.is_whole() {
        return operations.iter().map(|_| all_owed()).collect();
    }
    match evidence.promises.progress() {
        Progress::None => operations.iter().map(|_| all_owed()).collect(),
        Progress::AllBack | Progress::Quorum => {
            assert_eq!(
                evidence.needs.len(),
                operations.len(),
                "each operation has its needs"
            );
            let operations = operations.iter().zip(evidence.needs);
            operations
                .map(|(operation, needs)| all_back(evidence, left, operation, needs))
                .collect()
        }
        Progress::Log { needs, merged } => log(evidence, left, needs, merged),
    }
}

fn name<'a>(evidence: &Evidence<'a>, node: NodeId) -> &'a str {
    &evidence.plan.environment.machines[usize::from(node.0)].name
}

/// Every pair of machines that has to talk for the operation does; the client's pairs count for its answer alone.
fn all_back(
    evidence: &Evidence<'_>,
    left: &Connectivity,
    operation: &PlannedOperation,
    needs: &[(NodeId, NodeId)],
) -> Claim {
    let client = evidence.scenario.layout.regions[usize::from(operation.region)].client;
    let broken = |(a, b): &(NodeId, NodeId)| -> Option<Excuse> {
        if let Some(down) = [*a, *b].into_iter().find(|node| !left.is_up(*node)) {
            let down = name(evidence, down);
            return Some(format!("promised to block while {down} stays broken"));
        }
        let (from, to) = (name(evidence, *a), name(evidence, *b));
        let apart = format!("promised to block while {from} and {to} stay apart");
        (!left.exchange(*a, *b)).then_some(apart)
    };
    let (of_client, of_others): (Vec<_>, Vec<_>) = needs
        .iter()
        .partition(|(a, b)| *a == client || *b == client);
    let first =
        |pairs: Vec<&(NodeId, NodeId)>| pairs.into_iter().find_map(broken).map_or(Ok(()), Err);
    let end = first(of_others);
    Claim {
        answer: end.clone().and(first(of_client)),
        end,
    }
}

/// A transaction that needs what stays broken may hold locks for ever: who wants a row of its, and has not come to an end,
/// may wait for it, and hold rows that others want.
fn excuse_who_waits_behind(evidence: &Evidence<'_>, lives: &Lives, claims: &mut [Claim]) {
    let rows = |operation: &PlannedOperation| operation.txn.every_key();
    let operations = &evidence.plan.operations;
    let owed = &lives.obligations;
    let was_sent = |operation: &PlannedOperation| {
        let life = lives.by_txn.get(&operation.txn.id);
        life.is_some_and(|life| life.invoked.is_some())
    };
    let mut held: BTreeSet<Key> = operations
        .iter()
        .zip(claims.iter())
        .filter(|(operation, claim)| claim.end.is_err() && was_sent(operation))
        .flat_map(|(operation, _)| rows(operation))
        .collect();
    let excuse = "promised to block behind transactions that need what stays broken";
    loop {
        let before = held.len();
        for (operation, claim) in operations.iter().zip(claims.iter_mut()) {
            let txn = operation.txn.id;
            let is_stuck = owed.owes_answer(txn) || owed.owes_end(txn);
            let rows = rows(operation);
            if claim.end.is_ok() && is_stuck && rows.iter().any(|key| held.contains(key)) {
                *claim = Claim {
                    answer: Err(excuse.to_owned()),
                    end: Err(excuse.to_owned()),
                };
                held.extend(rows);
            }
        }
        if held.len() == before {
            return;
        }
    }
}

/// The log has a leader that goes on, whichever it is: under each that may lead there is a region that serves the client.
fn log(evidence: &Evidence<'_>, left: &Connectivity, needs: Shape, merged: bool) -> Vec<Claim> {
    let layout = &evidence.scenario.layout;
    let fronts: Vec<NodeId> = layout.fronts().collect();
    let shape = Shape::of(fronts.len(), |a, b| left.passes(fronts[a], fronts[b]));
    let reached = |front: NodeId| {
        let reached = fronts.iter().filter(|other| left.exchange(front, **other));
        reached.count()
    };
    let may_lead: Vec<NodeId> = { fronts.iter().copied() }
        .filter(|front| reached(*front) * 2 > fronts.len())
        .collect();
    let live: Result<(), Excuse> = match shape {
        Shape::Scattered => {
            Err("legitimately unable: no replica of the log reaches a majority".into())
        }
        Shape::Hub if needs > Shape::Hub => Err(
            "legitimately unable: no majority of the log's replicas all reach one another".into(),
        ),
        _ if merged && !left.all_exchange(&may_lead) => Err(
            "legitimately unable: leaders of logs that are merged may not reach one another".into(),
        ),
        _ => Ok(()),
    };
    // A region serves from a front if all of its copies are up, and reach one another and the front.
    let serves = |client: Option<NodeId>, front: NodeId| {
        let region = layout.region_of(front).expect("a front is in a region");
        let copies = &layout.regions[region].data;
        left.all_exchange(&[copies.as_slice(), &[front]].concat())
            && client.is_none_or(|client| {
                let mut copies = copies.iter();
                left.exchange(client, front) && copies.all(|copy| left.passes(*copy, client))
            })
    };
    // Whoever leads the log; or all who lead those that are merged.
    let leaders: Vec<&[NodeId]> = match merged {
        true => vec![may_lead.as_slice()],
        false => may_lead.chunks(1).collect(),
    };
    let is_served = |client: Option<NodeId>| {
        let hears = |front: NodeId, from: &[NodeId]| {
            from.iter().all(|leader| left.exchange(*leader, front))
        };
        leaders.iter().all(|from| {
            let mut hearing = fronts.iter().filter(|front| hears(**front, from));
            hearing.any(|front| serves(client, *front))
        })
    };
    let end = live.and_then(|()| match is_served(None) {
        true => Ok(()),
        false => Err("legitimately unable: no region has all of its copies".to_owned()),
    });
    let by_region = layout.regions.iter().map(|region| {
        end.clone()
            .and_then(|()| match is_served(Some(region.client)) {
                true => Ok(()),
                false => Err(format!(
                    "legitimately unable: {} does not reach a region that could serve it",
                    name(evidence, region.client)
                )),
            })
    });
    let by_region: Vec<Result<(), Excuse>> = by_region.collect();
    let operations = evidence.plan.operations.iter();
    operations
        .map(|operation| Claim {
            answer: by_region[usize::from(operation.region)].clone(),
            end: end.clone(),
        })
        .collect()
}
