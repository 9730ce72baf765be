//! Several protocols on the same plans, side by side.

pub mod paired;

use std::collections::BTreeMap;

use paired::Paired;
use rayon::prelude::*;
use serde::Serialize;

use crate::plan::Plan;
use crate::registry::Registry;
use crate::run::{self, NeverStruck, Run};
use crate::scenario::Scenario;
use crate::verdict::{Aborts, Conclusion, Counts, Finding};

/// One protocol's line: sums over its runs, medians of their medians.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Line {
    /// The protocol.
    pub protocol: String,
    /// Number of runs.
    pub runs: u64,
    /// Whether the protocol promises nothing, so that there is little to keep.
    pub promises_nothing: bool,
    /// How many kept every promise.
    pub kept: u64,
    /// How many broke a promise.
    pub violations: u64,
    /// How many could not be decided.
    pub unknown: u64,
    /// How many put nothing to the test.
    pub vacuous: u64,
    /// How many were not as the scenario expects.
    pub unexpected: u64,
    /// Properties over all runs.
    pub properties: Vec<PropertyLine>,
    /// Sums.
    pub counts: Counts,
    /// What the system aborted, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aborts: Aborts,
    /// Latency of committed transactions, milliseconds: median over the runs of each run's percentile.
    pub latency_p50_ms: f64,
    /// 99th percentile, likewise.
    pub latency_p99_ms: f64,
    /// Sum over all runs of transaction-seconds beyond the patience, while the protocol was in charge.
    pub blocked_txn_s: f64,
    /// The same, while clients had no answer.
    pub unanswered_txn_s: f64,
    /// Sum of transaction-seconds in doubt.
    pub in_doubt_txn_s: f64,
    /// Longest time that a branch was prepared at a shard in any run, seconds.
    pub prepared_age_max_s: f64,
    /// Most versions that the oldest prepared branch of a shard kept from being cleaned up in any run.
    pub versions_kept_max: u64,
    /// Longest outage that clients saw in any run, seconds.
    pub outage_max_s: f64,
    /// Largest time to recover after the last fault, seconds, of the runs that did. See [`time_to_recover`].
    ///
    /// [`time_to_recover`]: crate::verdict::time_to_recover
    pub recovered_s: Option<f64>,
    /// How many runs did not recover after the last fault.
    pub never_recovered: u64,
    /// Faults that never struck, and in how many runs.
    pub never_struck: Vec<(NeverStruck, u64)>,
    /// Largest number of transactions under way at one moment of any run.
    pub open_max: u64,
    /// Time-average number of saga steps whose effects stood and were compensated later.
    pub held_in_vain_mean: f64,
    /// Messages between machines for each transaction taken charge of.
    pub messages_per_txn: f64,
    /// Flushes for each transaction taken charge of.
    pub flushes_per_txn: f64,
    /// The runs' digests, by seed.
    pub digests: BTreeMap<u64, String>,
}

/// A property over all runs of a protocol.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PropertyLine {
    /// Its name.
    pub name: &'static str,
    /// What is promised.
    pub promised: String,
    /// In how many runs it held.
    pub held: u64,
    /// In how many it was broken.
    pub broken: u64,
    /// In how many it was not owed, because the plan broke what the promise hangs on.
    pub released: u64,
    /// In how many it had no chance to fail.
    pub vacuous: u64,
    /// In how many it could not be decided.
    pub unknown: u64,
    /// What the first broken run showed, or else the first run.
    pub observed: String,
    /// The first counterexample, with its seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counterexample: Option<(u64, String)>,
}

/// A comparison.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// The scenario's name.
    pub scenario: String,
    /// Its summary.
    pub summary: String,
    /// The seeds that were run.
    pub seeds: Vec<u64>,
    /// One line a protocol, in the order asked for.
    pub protocols: Vec<Line>,
    /// Differences from the first protocol, seed by seed, if there are several protocols and seeds.
    pub paired: Option<Paired>,
}

/// How a plan is drawn from a scenario and a seed: [`Plan::draw`], or [`crate::campaign::swarm::draw`].
pub type Draw = fn(&Scenario, u64) -> Plan;

/// Runs every protocol on the scenario's own plan of every seed; see [`compare_plans`].
///
/// # Errors
///
/// As [`compare_plans`].
pub fn compare(
    registry: &Registry,
    scenario: &Scenario,
    protocols: &[String],
    seeds: &[u64],
    done: impl Fn(&Run) + Sync,
) -> Result<Comparison, String> {
    compare_plans(registry, scenario, protocols, seeds, Plan::draw, done)
}

/// Runs every protocol on the plans of every seed. `done` is called after each run, from several threads;
/// `failing` is given every run that broke a promise or an expectation.
///
/// # Errors
///
/// When a protocol does not exist or does not fit the scenario.
pub fn compare_plans(
    registry: &Registry,
    scenario: &Scenario,
    protocols: &[String],
    seeds: &[u64],
    draw: Draw,
    done: impl Fn(&Run) + Sync,
) -> Result<Comparison, String> {
    let jobs: Vec<(&String, u64)> = protocols
        .iter()
        .flat_map(|protocol| seeds.iter().map(move |seed| (protocol, *seed)))
        .collect();
    let runs: Vec<Run> = jobs
        .par_iter()
        .map(|(protocol, seed)| {
            let mut run = registry.run(scenario, protocol, &draw(scenario, *seed), false)?;
            run.kept = run::Kept::default();
            done(&run);
            Ok(run)
        })
        .collect::<Result<_, String>>()?;
    let line = |protocol: &String| {
        let of_protocol: Vec<&Run> = runs
            .iter()
            .filter(|run| run.protocol == *protocol)
            .collect();
        sum(protocol, &of_protocol)
    };
    Ok(Comparison {
        scenario: scenario.name.clone(),
        summary: scenario.summary.clone(),
        seeds: seeds.to_vec(),
        protocols: protocols.iter().map(line).collect(),
        paired: paired::compare(protocols, &runs),
    })
}

fn aborts(runs: &[&Run]) -> Aborts {
    let mut sums = Aborts::new();
    for (reason, aborted) in runs.iter().flat_map(|run| &run.verdict.aborts) {
        let sum = sums.entry(*reason).or_default();
        sum.count += aborted.count;
        sum.under_faults += aborted.under_faults;
    }
    sums
}

fn never_struck(runs: &[&Run]) -> Vec<(NeverStruck, u64)> {
    let mut counts: BTreeMap<NeverStruck, u64> = BTreeMap::new();
    for idle in runs.iter().flat_map(|run| &run.never_struck) {
        *counts.entry(idle.clone()).or_default() += 1;
    }
    counts.into_iter().collect()
}

fn sum(protocol: &str, runs: &[&Run]) -> Line {
    let words = |word| {
        runs.iter()
            .filter(|run| run.verdict.verdict == word)
            .count() as u64
    };
    let total = |of: fn(&Run) -> f64| runs.iter().map(|run| of(run)).sum::<f64>();
    let counts = runs
        .iter()
        .fold(Counts::default(), |sum, run| sum.plus(&run.verdict.counts));
    let recoveries = runs.iter().filter_map(|run| run.verdict.metrics.recovery);
    let per_txn = |sum: f64| sum / (counts.initiated.max(1) as f64);
    Line {
        protocol: protocol.to_owned(),
        runs: runs.len() as u64,
        promises_nothing: runs.iter().all(|run| run.verdict.promises_nothing),
        kept: words(Conclusion::Kept),
        violations: words(Conclusion::Violation),
        unknown: words(Conclusion::Unknown),
        vacuous: words(Conclusion::Vacuous),
        unexpected: runs.iter().filter(|run| !run.unexpected.is_empty()).count() as u64,
        properties: properties(runs),
        counts,
        aborts: aborts(runs),
        latency_p50_ms: median(runs.iter().map(|run| run.latency_ms.p50)),
        latency_p99_ms: median(runs.iter().map(|run| run.latency_ms.p99)),
        blocked_txn_s: total(|run| run.verdict.metrics.blocked_txn_s),
        unanswered_txn_s: total(|run| run.verdict.metrics.unanswered_txn_s),
        in_doubt_txn_s: total(|run| run.verdict.metrics.in_doubt_txn_s),
        prepared_age_max_s: runs
            .iter()
            .map(|run| run.verdict.metrics.prepared_age_max_s)
            .fold(0.0, f64::max),
        versions_kept_max: runs
            .iter()
            .map(|run| run.verdict.metrics.versions_kept_max)
            .max()
            .unwrap_or(0),
        outage_max_s: runs
            .iter()
            .map(|run| run.verdict.metrics.outage_max_s)
            .fold(0.0, f64::max),
        recovered_s: recoveries
            .clone()
            .filter_map(|r| r.after_s)
            .reduce(f64::max),
        never_recovered: recoveries.filter(|r| r.after_s.is_none()).count() as u64,
        never_struck: never_struck(runs),
        open_max: runs
            .iter()
            .map(|run| run.verdict.metrics.open_max)
            .max()
            .unwrap_or(0),
        held_in_vain_mean: median(runs.iter().map(|run| run.verdict.metrics.held_in_vain_mean)),
        messages_per_txn: per_txn(total(|run| run.messages as f64)),
        flushes_per_txn: per_txn(total(|run| run.flushes as f64)),
        digests: runs
            .iter()
            .map(|run| (run.seed, run.digest.to_string()))
            .collect(),
    }
}

fn properties(runs: &[&Run]) -> Vec<PropertyLine> {
    let Some(first) = runs.first() else {
        return Vec::new();
    };
    let line = |position: usize| {
        let of_run = |run: &&Run| run.verdict.properties[position].clone();
        let all: Vec<_> = runs.iter().map(of_run).collect();
        let count = |finding| {
            all.iter()
                .filter(|property| property.outcome == finding)
                .count() as u64
        };
        let broken = all
            .iter()
            .position(|property| property.outcome == Finding::Broken);
        let shown = &all[broken.unwrap_or(0)];
        let released = all.iter().filter(|property| property.released.is_some());
        PropertyLine {
            name: shown.name,
            promised: shown.promised.clone(),
            held: count(Finding::Held),
            broken: count(Finding::Broken),
            released: released.count() as u64,
            vacuous: count(Finding::Vacuous),
            unknown: count(Finding::Unknown),
            observed: match &shown.released {
                Some(how) => format!("{} (not owed: {how})", shown.observed),
                None => shown.observed.clone(),
            },
            counterexample: broken.and_then(|at| {
                all[at]
                    .counterexample
                    .clone()
                    .map(|example| (runs[at].seed, example))
            }),
        }
    };
    (0..first.verdict.properties.len()).map(line).collect()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}
