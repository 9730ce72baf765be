//! What isolation broke, as a graph: the history that clients saw is judged once more, and its first anomaly is told
//! with the names of transactions and rows.

use std::collections::BTreeMap;

use serde::Serialize;

use super::names::Names;
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
    let by_start: BTreeMap<u64, Vec<TxnId>> = {
        let mut by_start: BTreeMap<u64, Vec<TxnId>> = BTreeMap::new();
        for (txn, at_ns) in &run.kept.invoked_ns {
            by_start.entry(*at_ns).or_default().push(*txn);
        }
        by_start
    };
    let sessions: BTreeMap<TxnId, u64> = { run.kept.observations.iter() }
        .filter_map(|observed| match observed.what {
            crate::base::observation::Observation::Invoked { txn, session } => {
                Some((txn, u64::from(session)))
            }
            _ => None,
        })
        .collect();
    let txn_of = |id: check::TxnId| {
        let header = history.header(id);
        let started = by_start.get(&header.invoke)?;
        let of_session = |txn: &&TxnId| sessions.get(*txn) == Some(&header.process);
        started.iter().find(of_session).copied()
    };
    let known: Vec<TxnId> = { anomaly.transactions.iter() }
        .filter_map(|id| txn_of(*id))
        .collect();
    Some((cycle(anomaly, &txn_of, names), known))
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
        Dependency::WriteWrite { key, .. } | Dependency::VersionVersion { key, .. } => (
            "ww",
            format!("{to} wrote {} after {from} wrote it", row(key, names)),
        ),
        Dependency::WriteRead { key, .. } | Dependency::VersionRead { key, .. } => (
            "wr",
            format!("{to} read {} as {from} had written it", row(key, names)),
        ),
        Dependency::ReadWrite { key, .. } | Dependency::VersionReplaced { key, .. } => (
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
