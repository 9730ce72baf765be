//! How much there is in a case, and what is gone from one to another.

use serde::Serialize;

use super::search::Case;
use crate::base::options::Chosen;
use crate::fault::Link;
use crate::plan::Machine;
use crate::run::Run;
use crate::scenario::units::human_ns;

/// How much there is to read in a case and its run.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Extent {
    /// Faults in the plan.
    pub faults: usize,
    /// Machines, clients' included.
    pub machines: usize,
    /// Shards.
    pub shards: usize,
    /// Client operations in the plan.
    pub transactions: usize,
    /// Reads, guards and effects of all transactions.
    pub steps: usize,
    /// Simulated time, milliseconds.
    pub simulated_ms: f64,
    /// Events of the run.
    pub events: u64,
}

impl Extent {
    /// The extent of a case and its run.
    pub fn of(case: &Case, run: &Run) -> Extent {
        Extent {
            faults: case.plan.faults.len(),
            machines: case.plan.environment.machines.len(),
            shards: case.scenario.layout.shards.len(),
            transactions: case.plan.operations.len(),
            steps: steps(case),
            simulated_ms: run.simulated_ms,
            events: run.events,
        }
    }
}

fn steps(case: &Case) -> usize {
    let txns = case.plan.operations.iter().map(|operation| &operation.txn);
    txns.map(|txn| txn.reads.len() + txn.guards.len() + txn.effects.len())
        .sum()
}

/// What is gone, in words, line by line.
pub(super) fn removed(before: &Case, after: &Case) -> Vec<String> {
    let mut lines = Vec::new();
    let mut counted = |what: &str, before: usize, after: usize| {
        if after < before {
            lines.push(format!("{} of {before} {what}", before - after));
        }
    };
    let (old, new) = (&before.plan, &after.plan);
    counted("faults", old.faults.len(), new.faults.len());
    let struck = |case: &Case| -> usize {
        let faults = case.plan.faults.iter();
        faults.map(|fault| fault.kind.nodes().len()).sum()
    };
    counted("machines named by faults", struck(before), struck(after));
    counted("transactions", old.operations.len(), new.operations.len());
    counted("reads, guards and effects", steps(before), steps(after));
    let (was, is) = (&before.scenario.layout, &after.scenario.layout);
    counted("regions", was.regions.len(), is.regions.len());
    counted("shards", was.shards.len(), is.shards.len());
    counted("front machines", was.fronts().count(), is.fronts().count());
    let rows = |case: &Case| -> usize {
        let tables = case.scenario.layout.tables.iter();
        tables.map(|table| table.rows as usize).sum()
    };
    counted("rows", rows(before), rows(after));
    let options = |case: &Case| case.plan.options.values().map(Chosen::len).sum();
    counted("drawn options", options(before), options(after));
    lines.extend(noises(before, after));
    let (was, is) = (&old.environment, &new.environment);
    if is.safety_ns < was.safety_ns {
        let (from, to) = (human_ns(was.safety_ns), human_ns(is.safety_ns));
        lines.push(format!("safety phase of {from}, now {to}"));
    }
    if is.power_cycle_ns == 0 && was.power_cycle_ns > 0 {
        lines.push("the power cut of all machines at the end".to_owned());
    }
    lines
}

/// The noises that some link or machine had before and none, or fewer, have now.
fn noises(before: &Case, after: &Case) -> Vec<String> {
    type OfLink = fn(&Link) -> bool;
    type OfMachine = fn(&Machine) -> bool;
    let links: [(&str, OfLink); 5] = [
        ("loss of messages", |link| link.loss_ppm > 0),
        ("duplication of messages", |link| link.duplicate_ppm > 0),
        ("reordering of messages", |link| link.reorder_ppm > 0),
        ("jitter of links", |link| link.latency.jitter_ns > 0),
        ("limits of bandwidth", |link| link.bandwidth > 0),
    ];
    let machines: [(&str, OfMachine); 3] = [
        ("offsets of clocks", |machine| machine.clock_offset_ns != 0),
        ("drift of clocks", |machine| machine.clock_drift_ppm != 0),
        ("jitter of flushes", |machine| machine.flush.jitter_ns > 0),
    ];
    let of_links = |case: &Case, has: OfLink| {
        let links = case.plan.environment.link_classes.iter();
        links.filter(|link| has(link)).count()
    };
    let of_machines = |case: &Case, has: OfMachine| {
        let machines = case.plan.environment.machines.iter();
        machines.filter(|machine| has(machine)).count()
    };
    let links = links.map(|(name, has)| (name, of_links(before, has), of_links(after, has)));
    let machines =
        machines.map(|(name, has)| (name, of_machines(before, has), of_machines(after, has)));
    let line = |(name, before, after): (&str, usize, usize)| match after {
        0 if before > 0 => Some(format!("all {name}")),
        _ if after < before => Some(format!("some {name}")),
        _ => None,
    };
    links.into_iter().chain(machines).filter_map(line).collect()
}
