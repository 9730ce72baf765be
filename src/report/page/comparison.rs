//! A comparison as data for its page: what came out in three sentences, the measurements, the promises, and one seed in
//! detail for the pictures.

use serde::Serialize;

use super::model::{self, RunPage};
use super::story::shown_ms;
use crate::campaign::compare::paired::Paired;
use crate::campaign::compare::{Comparison, Line};
use crate::plan::Plan;
use crate::report::text;
use crate::run::Run;
use crate::scenario::Scenario;
use crate::verdict::Conclusion;

/// A comparison's page as data.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ComparisonPage {
    /// `comparison`.
    pub page: &'static str,
    /// Version of this format.
    pub version: u32,
    /// The version of ordain that wrote it.
    pub ordain: &'static str,
    /// The scenario's name.
    pub scenario: String,
    /// What the scenario is about.
    pub summary: String,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The command that repeats it.
    pub command: String,
    /// What came out, in sentences.
    pub story: Vec<String>,
    /// The protocols, in the order asked for.
    pub protocols: Vec<Column>,
    /// Names of the measurements, with their units.
    pub measurements: Vec<&'static str>,
    /// Differences from the first protocol, seed by seed.
    pub paired: Option<Paired>,
    /// The seed that the pictures show.
    pub pictured: Option<u64>,
    /// The faults of that seed: what, from and to in milliseconds from the first fault. A protocol may meet a fault that
    /// waits for a moment at a time of its own; these are the times under the first protocol.
    pub faults: Vec<Struck>,
}

/// A protocol.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The word for its runs.
    pub verdict: String,
    /// `bad`, `good` or `neither`.
    pub tone: &'static str,
    /// Its values, in the order of the measurements.
    pub values: Vec<f64>,
    /// Its properties: name, promised, observed, status.
    pub promises: Vec<(&'static str, String, String, &'static str)>,
    /// One run of it, for the pictures.
    pub life: Option<Life>,
}

/// A fault that struck: what, from and to, milliseconds from the first fault.
pub type Struck = (String, f64, Option<f64>);

/// A run for the pictures, and the faults that struck in it.
pub type Pictured = (Life, Vec<Struck>);

/// A request: planned start, answer, outcome, taken charge of, ended; in milliseconds from the first fault.
pub type Request = (
    Option<f64>,
    Option<f64>,
    &'static str,
    Option<f64>,
    Option<f64>,
);

/// What the pictures show of a run: times in milliseconds from the first fault.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Life {
    /// The end of the run.
    pub end_ms: f64,
    /// The start of the run.
    pub start_ms: f64,
    /// From when on a transaction counts as blocked.
    pub patience_ms: f64,
    /// The requests that clients sent.
    pub transactions: Vec<Request>,
    /// Stretches of doubt.
    pub doubt: Vec<(f64, Option<f64>)>,
    /// Latencies of committed transactions in milliseconds, at these shares of them: 1 %, 2 %, ... 100 %.
    pub latencies: Vec<f64>,
}

impl Life {
    /// Of a run that kept its trace.
    pub fn of(scenario: &Scenario, plan: &Plan, run: &Run) -> Pictured {
        // No event is shown, only what follows from them.
        let page: RunPage = model::run_page(scenario, plan, run, Vec::new(), 1);
        let transactions = page.transactions.iter();
        let mut latencies: Vec<f64> = transactions
            .clone()
            .filter(|txn| txn.outcome == "committed")
            .filter_map(|txn| Some(txn.returned_ms? - txn.asked_ms?))
            .collect();
        latencies.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let rank = (latencies.len() * percent).div_ceil(100).max(1) - 1;
            latencies.get(rank).map(|ms| (ms * 1e3).round() / 1e3)
        };
        let faults = page.faults.iter().filter_map(|fault| {
            let what = fault
                .text
                .split_once(": ")
                .map_or(fault.text.as_str(), |(_, what)| what);
            Some((what.to_owned(), fault.from_ms?, fault.to_ms))
        });
        let life = Life {
            end_ms: page.end_ms,
            start_ms: -page.origin_ms,
            patience_ms: page.patience_ms,
            transactions: transactions
                .filter(|txn| txn.invoked_ms.is_some())
                .map(|txn| {
                    (
                        txn.asked_ms,
                        txn.returned_ms,
                        txn.outcome,
                        txn.initiated_ms,
                        txn.ended_ms,
                    )
                })
                .collect(),
            doubt: { page.bars.iter() }
                .filter(|bar| bar.kind == "doubt")
                .map(|bar| (bar.from_ms, bar.to_ms))
                .collect(),
            latencies: (1..=100).filter_map(at).collect(),
        };
        (life, faults.collect())
    }
}

/// A measurement: its name with its unit, and its value for a protocol.
type Measurement = (&'static str, fn(&Line) -> f64);

const MEASUREMENTS: [Measurement; 13] = [
    ("committed", |line| line.counts.committed as f64),
    ("declined by their own guard", |line| {
        line.counts.declined as f64
    }),
    ("aborted by the system", |line| line.counts.aborted as f64),
    ("outcome unknown to the client", |line| {
        line.counts.indeterminate as f64
    }),
    ("longest outage seen by clients, s", |line| {
        line.outage_max_s
    }),
    ("blocked, transactions", |line| line.counts.blocked as f64),
    ("blocked, transaction-seconds", |line| line.blocked_txn_s),
    ("in doubt, transaction-seconds", |line| line.in_doubt_txn_s),
    ("unanswered, transaction-seconds", |line| {
        line.unanswered_txn_s
    }),
    ("latency p50, ms", |line| line.latency_p50_ms),
    ("latency p99, ms", |line| line.latency_p99_ms),
    ("messages per transaction", |line| line.messages_per_txn),
    ("flushes per transaction", |line| line.flushes_per_txn),
];

/// The comparison as data for its page. `lives` has one run of each protocol, if there is one, and the seed of it.
pub fn page(
    comparison: &Comparison,
    command: String,
    lives: Option<(u64, Vec<Pictured>)>,
) -> ComparisonPage {
    let (pictured, lives) = lives.unzip();
    let lives = lives.unwrap_or_default();
    let faults = lives.first().map(|(_, faults)| faults.clone());
    let mut lives = lives.into_iter().map(|(life, _)| life);
    ComparisonPage {
        page: "comparison",
        version: 1,
        ordain: env!("CARGO_PKG_VERSION"),
        scenario: comparison.scenario.clone(),
        summary: comparison.summary.clone(),
        seeds: comparison.seeds.clone(),
        command,
        story: story(comparison),
        protocols: { comparison.protocols.iter() }
            .map(|line| column(line, lives.next()))
            .collect(),
        measurements: MEASUREMENTS.iter().map(|(name, _)| *name).collect(),
        paired: comparison.paired.clone(),
        pictured,
        faults: faults.unwrap_or_default(),
    }
}

fn column(line: &Line, life: Option<Life>) -> Column {
    let word = match line {
        line if line.violations > 0 => Conclusion::Violation,
        line if line.unknown > 0 => Conclusion::Unknown,
        line if line.vacuous > 0 => Conclusion::Vacuous,
        _ => Conclusion::Kept,
    };
    let verdict = text::conclusion(word, line.promises_nothing);
    let of = match word {
        Conclusion::Violation => line.violations,
        Conclusion::Unknown => line.unknown,
        Conclusion::Vacuous => line.vacuous,
        Conclusion::Kept => line.kept,
    };
    let promise = |property: &crate::campaign::compare::PropertyLine| {
        let promised = property.promised != "nothing";
        let status = match property {
            property if property.broken > property.released && promised => "broken",
            property if property.unknown > 0 => "unknown",
            property if property.vacuous == line.runs => "vacuous",
            _ if promised => "kept",
            _ => "not promised",
        };
        let observed = match (line.runs, property.broken) {
            (1, _) | (_, 0) => property.observed.clone(),
            (runs, broken) => format!(
                "broken in {broken} of {runs} runs, such as: {}",
                property.observed
            ),
        };
        (property.name, property.promised.clone(), observed, status)
    };
    Column {
        name: line.protocol.clone(),
        verdict: match line.runs {
            1 => verdict.to_owned(),
            runs => format!("{verdict} in {of} of {runs}"),
        },
        tone: match word {
            Conclusion::Violation => "bad",
            Conclusion::Kept => "good",
            _ => "neither",
        },
        values: MEASUREMENTS.iter().map(|(_, of)| of(line)).collect(),
        promises: line.properties.iter().map(promise).collect(),
        life,
    }
}

/// Names in a row, as a sentence has them.
fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The three sentences: promises, the outage, the cost.
pub fn story(comparison: &Comparison) -> Vec<String> {
    let lines = &comparison.protocols;
    if lines.is_empty() {
        return Vec::new();
    }
    vec![promises(lines), outage(lines), cost(lines)]
}

fn promises(lines: &[Line]) -> String {
    let is_kept = |line: &&Line| line.kept == line.runs && !line.promises_nothing;
    let kept: Vec<&str> = { lines.iter() }
        .filter(is_kept)
        .map(|line| line.protocol.as_str())
        .collect();
    let broke = |line: &Line| {
        let broken = line.properties.iter();
        let broken: Vec<&str> = broken
            .filter(|property| {
                property.broken > property.released && property.promised != "nothing"
            })
            .map(|property| property.name)
            .collect();
        let runs = match line.runs {
            1 => String::new(),
            runs => format!(" in {} of {runs} runs", line.violations),
        };
        format!("{} broke {}{runs}", line.protocol, listed(&broken))
    };
    let mut clauses = Vec::new();
    if !kept.is_empty() {
        let promise = if kept.len() == 1 {
            "it promises"
        } else {
            "they promise"
        };
        clauses.push(format!("{} kept what {promise}", listed(&kept)));
    }
    clauses.extend(lines.iter().filter(|line| line.violations > 0).map(broke));
    for line in lines.iter().filter(|line| line.promises_nothing) {
        let shown = line
            .properties
            .iter()
            .filter(|property| property.broken > 0);
        let shown: Vec<&str> = shown.map(|property| property.name).collect();
        clauses.push(match shown.is_empty() {
            true => format!("{} promises nothing, and nothing went wrong", line.protocol),
            false => format!(
                "{} promises nothing, and showed no {}",
                line.protocol,
                listed(&shown)
            ),
        });
    }
    let undecided = lines
        .iter()
        .filter(|line| line.violations == 0 && line.unknown + line.vacuous > 0);
    clauses.extend(
        undecided.map(|line| format!("{} was not put to the test in every run", line.protocol)),
    );
    format!("Promises: {}.", clauses.join("; "))
}

fn outage(lines: &[Line]) -> String {
    let longest = |line: &Line| format!("{} {}", line.protocol, shown_ms(line.outage_max_s * 1e3));
    let waits: Vec<String> = lines.iter().map(longest).collect();
    let blocked: Vec<String> = { lines.iter() }
        .filter(|line| line.counts.blocked > 0)
        .map(|line| {
            format!(
                "{} blocked {} transactions for {:.1} transaction-seconds",
                line.protocol, line.counts.blocked, line.blocked_txn_s
            )
        })
        .collect();
    let blocked = match blocked.is_empty() {
        true => "nobody blocked a transaction".to_owned(),
        false => blocked.join(", "),
    };
    format!(
        "Outage: clients waited longest for any answer under {}; {blocked}.",
        waits.join(", ")
    )
}

fn cost(lines: &[Line]) -> String {
    let of = |line: &Line| {
        format!(
            "{} took {} in the median, {:.1} messages and {:.1} flushes a transaction, and {} % of its transactions committed",
            line.protocol,
            shown_ms(line.latency_p50_ms),
            line.messages_per_txn,
            line.flushes_per_txn,
            line.counts.committed * 100 / line.counts.invoked.max(1)
        )
    };
    let all: Vec<String> = lines.iter().map(of).collect();
    format!("Cost: {}.", all.join("; "))
}
