//! Sweeps: a comparison at each of several points, which differ in a few keys of the scenario.
//!
//! A point is a choice of a value for every axis. Every point runs all protocols on the same seeds, so that curves differ by
//! protocol and by point, and by nothing else. A measurement is a mean over seeds, with the interval that covers it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::compare::{self, Comparison, Draw, paired};
use crate::plan::random::Stream;
use crate::registry::Registry;
use crate::run::Run;
use crate::scenario::Scenario;

/// What is measured, with its unit. `None`: the run has no such value.
type Measure = (&'static str, fn(&Run) -> Option<f64>);

/// The measurements of a sweep, in the order in which they are shown.
pub const MEASURES: [Measure; 8] = [
    ("committed a second", |run| {
        let busy_s = run.verdict.metrics.busy_s;
        (busy_s > 0.0).then(|| run.verdict.counts.committed as f64 / busy_s)
    }),
    ("committed, %", |run| {
        share(run, run.verdict.counts.committed)
    }),
    ("aborted by the system, %", |run| {
        share(run, run.verdict.counts.aborted)
    }),
    ("latency p50, ms", |run| {
        paired::latency(run, run.latency_ms.p50)
    }),
    ("latency p99, ms", |run| {
        paired::latency(run, run.latency_ms.p99)
    }),
    ("longest outage seen by clients, s", |run| {
        Some(run.verdict.metrics.outage_max_s)
    }),
    ("messages per transaction", |run| {
        paired::per_txn(run, run.messages)
    }),
    ("flushes per transaction", |run| {
        paired::per_txn(run, run.flushes)
    }),
];

fn share(run: &Run, count: u64) -> Option<f64> {
    let invoked = run.verdict.counts.invoked;
    (invoked > 0).then(|| 100.0 * count as f64 / invoked as f64)
}

/// A key of the scenario, and the values that it takes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Axis {
    /// The key, as in `workload.rate`.
    pub key: String,
    /// Its values, as text.
    pub values: Vec<String>,
}

/// A sweep, as it is kept in a file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sweep {
    /// Of this document: it changes when a field is renamed, removed or changes its meaning.
    pub schema: u32,
    /// The version of ordain that ran it.
    pub ordain: String,
    /// The scenario's name.
    pub scenario: String,
    /// What the scenario is about.
    pub summary: String,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// What differs.
    pub axes: Vec<Axis>,
    /// The protocols, in the order asked for.
    pub protocols: Vec<String>,
    /// Probability with which an interval covers the mean.
    pub confidence: f64,
    /// The points, the last axis changing fastest.
    pub points: Vec<Point>,
}

/// The version of the document.
pub const SCHEMA: u32 = 1;

/// One choice of values.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Point {
    /// The values, in the order of the axes.
    pub at: Vec<String>,
    /// Digest of the scenario with these values: a point of another scenario is not taken for this one's.
    pub digest: String,
    /// What came out for each protocol, in the order of the sweep.
    pub protocols: Vec<AtPoint>,
}

/// A protocol at a point.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AtPoint {
    /// Its name.
    pub protocol: String,
    /// Runs in which every promise was kept.
    pub kept: u64,
    /// Runs in which one was broken.
    pub violations: u64,
    /// Runs of which too little is known.
    pub unknown: u64,
    /// Runs in which nothing was put to the test.
    pub vacuous: u64,
    /// Runs that are not as the scenario expects, or, without expectations, as promised.
    pub unexpected: u64,
    /// Digest of its runs: equal digests mean equal runs.
    pub runs: String,
    /// The measurements, by name.
    pub measured: BTreeMap<String, Measured>,
}

/// A measurement at a point.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Mean over the seeds that have a value.
    pub mean: f64,
    /// The interval that covers the mean; none with fewer seeds than [`paired::PAIRS_MIN`].
    pub interval: Option<(f64, f64)>,
    /// The value of each seed that has one.
    pub values: BTreeMap<u64, f64>,
}

/// All choices of values, the last axis changing fastest.
pub fn choices(axes: &[Axis]) -> Vec<Vec<String>> {
    axes.iter().fold(vec![Vec::new()], |choices, axis| {
        let longer = |choice: &Vec<String>| {
            let with = |value: &String| [&choice[..], std::slice::from_ref(value)].concat();
            axis.values.iter().map(with).collect::<Vec<_>>()
        };
        choices.iter().flat_map(longer).collect()
    })
}

impl Sweep {
    /// A sweep with no points yet.
    pub fn new(scenario: &Scenario, seeds: &[u64], axes: Vec<Axis>, protocols: &[String]) -> Self {
        Self {
            schema: SCHEMA,
            ordain: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: scenario.name.clone(),
            summary: scenario.summary.clone(),
            seeds: seeds.to_vec(),
            axes,
            protocols: protocols.to_vec(),
            confidence: paired::CONFIDENCE,
            points: Vec::new(),
        }
    }

    /// Keys whose values make no difference: every run is the same, whatever they are.
    pub fn without_effect(&self) -> Vec<&str> {
        let is_idle = |&at: &usize| {
            let mut of_rest = BTreeMap::new();
            self.points.iter().all(|point| {
                let mut rest = point.at.clone();
                rest.remove(at);
                let runs = point.protocols.iter().map(|of| of.runs.as_str());
                let runs: Vec<&str> = runs.collect();
                *of_rest.entry(rest).or_insert_with(|| runs.clone()) == runs
            })
        };
        let several = |at: &usize| self.axes[*at].values.len() > 1;
        let axes = (0..self.axes.len()).filter(several).filter(is_idle);
        axes.map(|at| self.axes[at].key.as_str()).collect()
    }

    /// The point of an earlier sweep, if it is the same work: version, scenario, seeds and protocols.
    pub fn point_of(&self, earlier: &Sweep, digest: &str) -> Option<Point> {
        let is_same_work = earlier.schema == self.schema
            && earlier.ordain == self.ordain
            && earlier.seeds == self.seeds
            && earlier.protocols == self.protocols;
        let mut points = earlier.points.iter().filter(|_| is_same_work);
        points.find(|point| point.digest == digest).cloned()
    }
}

/// What makes a point's scenario what it is.
pub fn digest(scenario: &Scenario) -> String {
    short_digest(scenario.text.as_bytes())
}

fn short_digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// Runs one point. `done` is called after each run, from several threads.
///
/// # Errors
///
/// When a protocol does not exist or does not fit the scenario.
pub fn point(
    registry: &Registry,
    scenario: &Scenario,
    (protocols, seeds): (&[String], &[u64]),
    draw: Draw,
    at: Vec<String>,
    done: impl Fn() + Sync,
) -> Result<Point, String> {
    let values = Mutex::new(BTreeMap::<(String, &'static str), BTreeMap<u64, f64>>::new());
    let compared = compare::compare_plans(registry, scenario, protocols, seeds, draw, |run| {
        let mut values = values
            .lock()
            .expect("no thread panics while it holds the values");
        for (name, of) in MEASURES {
            if let Some(value) = of(run) {
                let place = values.entry((run.protocol.clone(), name)).or_default();
                place.insert(run.seed, value);
            }
        }
        done();
    })?;
    let mut values = values.into_inner().expect("all threads are done");
    let Comparison {
        protocols: lines, ..
    } = compared;
    let protocol = |line: compare::Line| {
        let mut measured = BTreeMap::new();
        for (name, _) in MEASURES {
            if let Some(values) = values.remove(&(line.protocol.clone(), name)) {
                measured.insert(name.to_owned(), summed(&line.protocol, name, &at, values));
            }
        }
        AtPoint {
            protocol: line.protocol,
            kept: line.kept,
            violations: line.violations,
            unknown: line.unknown,
            vacuous: line.vacuous,
            unexpected: line.unexpected,
            runs: short_digest(format!("{:?}", line.digests).as_bytes()),
            measured,
        }
    };
    let protocols = lines.into_iter().map(protocol).collect();
    Ok(Point {
        digest: digest(scenario),
        protocols,
        at,
    })
}

fn summed(protocol: &str, name: &str, at: &[String], values: BTreeMap<u64, f64>) -> Measured {
    let all: Vec<f64> = values.values().copied().collect();
    let mut stream = Stream::new(0, &("sweep", protocol, name, at));
    let enough = all.len() >= paired::PAIRS_MIN;
    Measured {
        mean: all.iter().sum::<f64>() / all.len() as f64,
        interval: enough.then(|| paired::interval(&all, &mut stream)),
        values,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_has_every_choice_once_and_the_last_axis_changes_fastest() {
        let axis = |key: &str, values: [&str; 2]| Axis {
            key: key.to_owned(),
            values: values.map(str::to_owned).to_vec(),
        };
        let choices = choices(&[axis("a", ["1", "2"]), axis("b", ["x", "y"])]);
        assert_eq!(choices, [["1", "x"], ["1", "y"], ["2", "x"], ["2", "y"]]);
        assert_eq!(super::choices(&[]), [Vec::<String>::new()]);
    }
}
