//! What a scenario means, before anything runs: machines, distances, load, hot rows, and what is worth a second look.
//!
//! The load is counted, not derived: the operations of one plan are drawn and looked at.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::base::process::NodeId;
use crate::base::txn::{Key, Target, Txn};
use crate::plan::{Plan, PlannedOperation, Start};
use crate::scenario::units::human_ns;
use crate::scenario::{Arrivals, Scenario};

/// How many hot rows are listed.
const ROWS_LISTED: usize = 5;

/// A machine, and what it is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ShownMachine {
    /// `region/role`.
    pub name: String,
    /// Zone of its region.
    pub zone: u16,
    /// What runs there.
    pub role: String,
}

/// The way from one region to another.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Distance {
    /// The senders' region.
    pub from: String,
    /// The receivers' region.
    pub to: String,
    /// One way, without jitter, milliseconds.
    pub latency_ms: f64,
    /// Messages lost, in percent.
    pub loss_percent: f64,
    /// Bytes a second; 0 is unlimited.
    pub bandwidth: u64,
}

/// A row that many transactions touch.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct HotRow {
    /// `table/row`.
    pub row: String,
    /// Transactions a second that touch it and write something.
    pub per_s: f64,
    /// Mean time for which two-phase commit holds it, milliseconds.
    pub held_ms: f64,
    /// How many a second can hold it one after another.
    pub capacity_per_s: f64,
}

/// What a scenario means.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Shown {
    /// Its name.
    pub scenario: String,
    /// Its summary.
    pub summary: String,
    /// The protocols that `compare` runs.
    pub protocols: Vec<String>,
    /// The machines.
    pub machines: Vec<ShownMachine>,
    /// The ways between regions.
    pub distances: Vec<Distance>,
    /// How requests arrive, in words.
    pub arrivals: String,
    /// Seconds from the first arrival to the last; absent in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrivals_last_s: Option<f64>,
    /// Transactions of the mix, with their share in percent; empty for built-in workloads.
    pub mix: Vec<(String, f64)>,
    /// The rows that most transactions touch.
    pub hot_rows: Vec<HotRow>,
    /// What is worth a second look.
    pub warnings: Vec<String>,
}

/// Looks at a scenario and at its plan of a seed. `warnings` are those of the protocols.
pub fn show(scenario: &Scenario, plan: &Plan, warnings: Vec<String>) -> Shown {
    let first = |operation: &&PlannedOperation| !matches!(operation.start, Start::Retry { .. });
    let operations: Vec<&PlannedOperation> = plan.operations.iter().filter(first).collect();
    let due = |operation: &&PlannedOperation| match operation.start {
        Start::At(at_ns) => Some(at_ns),
        _ => None,
    };
    let times: Vec<u64> = operations.iter().filter_map(due).collect();
    let span_ns = times
        .iter()
        .max()
        .zip(times.iter().min())
        .map(|(last, first)| last - first);
    let hot_rows = hot_rows(scenario, &operations, span_ns);
    let mut shown = Shown {
        scenario: scenario.name.clone(),
        summary: scenario.summary.clone(),
        protocols: scenario.protocols.clone(),
        machines: machines(scenario),
        distances: distances(scenario),
        arrivals: arrivals(scenario),
        arrivals_last_s: span_ns.map(|ns| ns as f64 / 1e9),
        mix: mix(scenario),
        hot_rows,
        warnings,
    };
    let own = own_warnings(scenario, times.iter().max().copied(), &shown.hot_rows);
    shown.warnings.splice(0..0, own);
    shown
}

fn machines(scenario: &Scenario) -> Vec<ShownMachine> {
    let layout = &scenario.layout;
    let role = |at: usize| -> String {
        let node = NodeId(at as u16);
        let region = &layout.regions[usize::from(scenario.places[at].region)];
        if region.fronts.contains(&node) {
            return "coordinators, sequencers, replicas of logs".to_owned();
        }
        let Some(shard) = region.data.iter().position(|data| *data == node) else {
            return "client sessions".to_owned();
        };
        let of = &layout.shards[shard];
        let table = &layout.tables[usize::from(of.table.0)];
        let what = match usize::from(scenario.places[at].region) == of.home {
            true => "home",
            false => "copy, under protocols that replicate shards",
        };
        format!("rows of {} ({what})", table.name)
    };
    let shown = |(at, place): (usize, &crate::scenario::Place)| ShownMachine {
        name: place.name.clone(),
        zone: place.zone,
        role: role(at),
    };
    scenario.places.iter().enumerate().map(shown).collect()
}

/// One way, between any two machines, without jitter.
fn delay_ns(scenario: &Scenario, from: NodeId, to: NodeId) -> u64 {
    if from == to {
        return 0;
    }
    let class = scenario.links[usize::from(from.0)][usize::from(to.0)];
    scenario.link_classes[usize::from(class)].latency.base_ns
}

fn distances(scenario: &Scenario) -> Vec<Distance> {
    let regions = &scenario.layout.regions;
    let mut distances = Vec::new();
    for from in regions {
        for to in regions.iter().filter(|to| to.name != from.name) {
            let class = scenario.links[usize::from(from.client.0)][usize::from(to.client.0)];
            let link = &scenario.link_classes[usize::from(class)];
            distances.push(Distance {
                from: from.name.clone(),
                to: to.name.clone(),
                latency_ms: link.latency.base_ns as f64 / 1e6,
                loss_percent: f64::from(link.loss_ppm) / 1e4,
                bandwidth: link.bandwidth,
            });
        }
    }
    distances
}

fn arrivals(scenario: &Scenario) -> String {
    let workload = &scenario.workload;
    match workload.arrivals {
        Arrivals::Open { per_s, evenly } => {
            let how = match evenly {
                true => "evenly",
                false => "at random (Poisson)",
            };
            let changes = { workload.profile.as_ref() }
                .map_or(String::new(), |profile| format!("; {}", profile.describe()));
            format!(
                "{} transactions, {per_s} a second, {how}{changes}",
                workload.transactions
            )
        }
        Arrivals::Closed { sessions, think_ns } => format!(
            "{} transactions of {sessions} sessions, each with {} between a reply and the next",
            workload.transactions,
            human_ns(think_ns)
        ),
    }
}

fn mix(scenario: &Scenario) -> Vec<(String, f64)> {
    let mix = &scenario.workload.transactions_of_steps;
    let total: f64 = mix.iter().map(|one| f64::from(one.weight)).sum();
    let share = |weight: u32| 100.0 * f64::from(weight) / total;
    mix.iter()
        .map(|one| (one.name.clone(), share(one.weight)))
        .collect()
}

/// How long two-phase commit holds a row for a transaction, when nobody is in its way and the manager is separate.
///
/// The initiator, which keeps the first row that is written, asks all keepers for locks. Once all have answered, it forces
/// its vote and tells the manager, which asks the others to prepare. They force their votes and answer; the manager forces
/// the decision and tells everybody.
fn held_ns(scenario: &Scenario, txn: &Txn, row: Key) -> u64 {
    let layout = &scenario.layout;
    let home = |key: Key| layout.home(layout.shard_of(key));
    let delay = |from, to| delay_ns(scenario, from, to);
    let flush_ns = scenario.flush.base_ns + scenario.flush.jitter_ns;
    let first = match txn.effects.first().map(|effect| effect.target) {
        Some(Target::Key(key) | Target::Choice { on: key, .. }) => key,
        None => row,
    };
    let (initiator, keeper) = (home(first), home(row));
    let others: Vec<NodeId> = { txn.keys().into_iter().map(home) }
        .filter(|other| *other != initiator)
        .collect();
    if others.is_empty() {
        return flush_ns;
    }
    let region = layout.shards[usize::from(layout.shard_of(first).0)].home;
    let manager = layout.regions[region].fronts[0];
    let farthest = |from: NodeId| {
        let there_and_back = others
            .iter()
            .map(|other| delay(from, *other) + delay(*other, from));
        there_and_back.max().unwrap_or(0)
    };
    let all_locked = farthest(initiator) - delay(initiator, keeper);
    let votes = flush_ns + delay(initiator, manager) + farthest(manager) + flush_ns;
    all_locked + votes + flush_ns + delay(manager, keeper)
}

fn hot_rows(
    scenario: &Scenario,
    operations: &[&PlannedOperation],
    span_ns: Option<u64>,
) -> Vec<HotRow> {
    let Some(span_ns) = span_ns.filter(|ns| *ns > 0) else {
        return Vec::new();
    };
    let mut rows: BTreeMap<Key, (u64, u64)> = BTreeMap::new();
    for operation in operations {
        if operation.txn.is_read_only() {
            continue;
        }
        let mut keys = operation.txn.keys();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let held_ns = held_ns(scenario, &operation.txn, key);
            let (count, held) = rows.entry(key).or_default();
            *count += 1;
            *held += held_ns;
        }
    }
    let mut rows: Vec<(Key, (u64, u64))> = rows.into_iter().collect();
    rows.sort_by_key(|(key, (count, _))| (std::cmp::Reverse(*count), *key));
    rows.truncate(ROWS_LISTED);
    let hot = |(key, (count, held_ns)): (Key, (u64, u64))| {
        let held_ms = held_ns as f64 / count as f64 / 1e6;
        HotRow {
            row: format!(
                "{}/{}",
                scenario.layout.tables[usize::from(key.table.0)].name,
                key.row
            ),
            per_s: count as f64 * 1e9 / span_ns as f64,
            held_ms,
            capacity_per_s: 1e3 / held_ms,
        }
    };
    rows.into_iter().map(hot).collect()
}

fn own_warnings(scenario: &Scenario, last_ns: Option<u64>, rows: &[HotRow]) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(last_ns) = last_ns.filter(|last_ns| *last_ns > scenario.safety_ns) {
        warnings.push(format!(
            "the last request comes at {}, after the safety phase of {}: no fault strikes any more",
            human_ns(last_ns),
            human_ns(scenario.safety_ns)
        ));
    }
    for row in rows.iter().filter(|row| row.per_s > row.capacity_per_s) {
        warnings.push(format!(
            "row {} is asked for {:.1} times a second, and two-phase commit can hold it {:.1} times: requests will queue",
            row.row, row.per_s, row.capacity_per_s
        ));
    }
    if scenario.faults.is_empty() {
        warnings.push("there is no fault: `fuzz` and `--swarm` draw some".to_owned());
    }
    warnings
}

impl Shown {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = format!("{}: {}\n", self.scenario, self.summary);
        let mut line = |text: String| {
            let _ = writeln!(out, "{text}");
        };
        line(format!("protocols: {}", self.protocols.join(", ")));
        line("\nmachines".to_owned());
        let widest = self.machines.iter().map(|machine| machine.name.len()).max();
        for machine in &self.machines {
            let width = widest.unwrap_or(0);
            line(format!(
                "  {:width$}  zone {}  {}",
                machine.name, machine.zone, machine.role
            ));
        }
        if !self.distances.is_empty() {
            line("\nbetween regions, one way".to_owned());
        }
        for distance in &self.distances {
            let mut text = format!(
                "  {} -> {}: {} ms",
                distance.from, distance.to, distance.latency_ms
            );
            if distance.loss_percent > 0.0 {
                let _ = write!(text, ", {} % lost", distance.loss_percent);
            }
            if distance.bandwidth > 0 {
                let _ = write!(text, ", {} bytes a second", distance.bandwidth);
            }
            line(text);
        }
        line("\nload".to_owned());
        line(format!("  {}", self.arrivals));
        if let Some(last_s) = self.arrivals_last_s {
            line(format!(
                "  from the first arrival to the last: {last_s:.1} s (seed 1)"
            ));
        }
        for (name, share) in &self.mix {
            line(format!("  {share:.1} % {name}"));
        }
        if !self.hot_rows.is_empty() {
            line("\nhottest rows (seed 1)".to_owned());
        }
        for row in &self.hot_rows {
            line(format!(
                "  {}: {:.1} a second; two-phase commit holds it {:.2} ms, so {:.1} a second at most",
                row.row, row.per_s, row.held_ms, row.capacity_per_s
            ));
        }
        if !self.warnings.is_empty() {
            line("\nworth a second look".to_owned());
        }
        for warning in &self.warnings {
            line(format!("  {warning}"));
        }
        out
    }
}
