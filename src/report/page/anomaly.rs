//! What isolation broke, as a graph: the history that clients saw is judged once more, and its first anomaly is told
//! with the names of transactions and rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::names::Names;
use crate::base::observation::Observation;
use crate::base::txn::{Key, TableId, TxnId};
use crate::check::{self, Anomaly, Dependency, Model, Step};
use crate::run::Run;

/// An anomaly for a picture.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Cycle {
    /// Its kind, in Adya's terms: `G-single`.
    pub kind: String,
    /// The transactions, in the order of the cycle.
    pub nodes: Vec<String>,
    /// Who has to come before whom, and why.
    pub edges: Vec<Edge>,
}

/// One dependency.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Edge {
    /// Position in the nodes.
    pub from: usize,
    /// Position in the nodes.
    pub to: usize,
    /// Its kind: `ww`, `wr`, `rw`, `process` or `realtime`.
    pub kind: &'static str,
    /// Why, as a sentence without an end.
    pub why: String,
}

/// The first anomaly of the run's isolation, with the transactions that show it. None where isolation held, or where the
/// clients' history alone does not show what broke it.
pub fn of(run: &Run, names: &Names<'_>) -> Option<(Option<Cycle>, Vec<TxnId>)> {
    let mut properties = run.verdict.properties.iter();
    let isolation = properties.find(|property| property.name == "isolation")?;
    // What the promise hangs on may follow the model's name.
    let name = isolation.promised.split_whitespace().next();
    let model = name.and_then(|name| name.parse::<Model>().ok());
    let model = model.unwrap_or(Model::StrictSerializable);
    isolation.counterexample.as_ref()?;
    let history = check::parse::read(
        run.kept.history.as_bytes(),
        check::parse::Reading::default(),
    );
    let history = history.ok()?;
    let report = check::check(&history, &check::Options::new(model));
    let anomaly = report.anomalies.first()?;
    let sent = sent(run);
    // Whoever reads a history from a file counts its records from 0, whatever their times.
    let records: Vec<&str> = run.kept.history.lines().collect();
    let txn_of = |id: check::TxnId| {
        let at = usize::try_from(history.header(id).invoke).ok()?;
        let record: Invocation = serde_json::from_str(records.get(at)?).ok()?;
        sent.get(&(record.process, record.time)).copied()
    };
    let known: Vec<TxnId> = { anomaly.transactions.iter() }
        .filter_map(|id| txn_of(*id))
        .collect();
    Some((cycle(anomaly, &txn_of, names), known))
}

/// What is needed of a history's record to know whose it is.
#[derive(Deserialize)]
struct Invocation {
    process: u64,
    time: u64,
}

/// The transactions by session and start: a session has one under way at a time.
fn sent(run: &Run) -> BTreeMap<(u64, u64), TxnId> {
    let observed = run.kept.observations.iter();
    let sent = observed.filter_map(|observed| match observed.what {
        Observation::Invoked { txn, session } => Some(((u64::from(session), observed.at_ns), txn)),
        _ => None,
    });
    sent.collect()
}

fn cycle(
    anomaly: &Anomaly,
    txn_of: &dyn Fn(check::TxnId) -> Option<TxnId>,
    names: &Names<'_>,
) -> Option<Cycle> {
    if anomaly.cycle.is_empty() {
        return None;
    }
    let ids: Vec<check::TxnId> = anomaly.cycle.iter().map(|step| step.from).collect();
    // A write that nobody's session made is the compensation of a saga.
    let name = |id| txn_of(id).map_or_else(|| "a compensation".to_owned(), |txn| txn.to_string());
    let edge = |step: &Step| {
        let place = |id| ids.iter().position(|other| *other == id);
        let (kind, why) = because(step, &name(step.from), &name(step.to), names);
        Some(Edge {
            from: place(step.from)?,
            to: place(step.to)?,
            kind,
            why,
        })
    };
    Some(Cycle {
        kind: anomaly.kind.name().to_owned(),
        nodes: ids.iter().map(|id| name(*id)).collect(),
        edges: anomaly.cycle.iter().filter_map(edge).collect(),
    })
}

/// The row that a key of the history stands for.
fn row(key: &str, names: &Names<'_>) -> String {
    let Ok(number) = key.parse::<u64>() else {
        return key.to_owned();
    };
    match u8::try_from(number >> 32) {
        Ok(table) => names.row(Key {
            table: TableId(table),
            row: number as u32,
        }),
        Err(_) => key.to_owned(),
    }
}

fn because(step: &Step, from: &str, to: &str, names: &Names<'_>) -> (&'static str, String) {
    match &step.because {
        Dependency::WriteWrite { key, .. } => (
            "ww",
            format!("{to} wrote {} after {from} wrote it", row(key, names)),
        ),
        Dependency::WriteRead { key, .. } => (
            "wr",
            format!("{to} read {} as {from} had written it", row(key, names)),
        ),
        Dependency::ReadWrite { key, .. } => (
            "rw",
            format!(
                "{from} read {} as it was before {to} wrote it",
                row(key, names)
            ),
        ),
        Dependency::Process { .. } => (
            "process",
            format!("the same client session sent {from} before {to}"),
        ),
        Dependency::Realtime { .. } => (
            "realtime",
            format!("{from} had returned before {to} was sent"),
        ),
    }
}
