//! Isolation: what clients saw, judged by the checker at the promised level.

use super::ledger::Ledger;
use super::lives::Lives;
use super::{Evidence, Finding, Property, history, property};
use crate::check::{self, Model};
use crate::protocol::Isolation;

/// The checker's model of a level; none where nothing is promised.
fn model_of(isolation: Isolation) -> Option<Model> {
    match isolation {
        Isolation::None => None,
        Isolation::ReadCommitted => Some(Model::ReadCommitted),
        // Sessions are a promise of their own.
        Isolation::ReadAtomic => Some(Model::ReadAtomicNoSession),
        Isolation::SnapshotIsolation => Some(Model::SnapshotIsolation),
        Isolation::Serializable => Some(Model::Serializable),
        Isolation::StrictSerializable => Some(Model::StrictSerializable),
    }
}

/// What clients saw, judged at the promised model; where nothing is promised, at strict serializability, as
/// a measurement.
pub(super) fn judge(evidence: &Evidence<'_>, lives: &Lives, ledger: &Ledger) -> Property {
    let promised = model_of(evidence.promises.isolation());
    let model = promised.unwrap_or(Model::StrictSerializable);
    checked(("isolation", promised, model), evidence, lives, ledger)
}

/// What clients saw, held against a model: the property's name, what is promised, and the model.
fn checked(
    (name, promised, model): (&'static str, Option<Model>, Model),
    evidence: &Evidence<'_>,
    lives: &Lives,
    ledger: &Ledger,
) -> Property {
    let seen = history::of_clients(evidence, lives, ledger);
    let report = check::check(&seen.history, &check::Options::new(model));
    let outcome = match report.verdict {
        check::Verdict::Valid => Finding::Held,
        check::Verdict::Invalid => Finding::Broken,
        check::Verdict::Unknown => Finding::Unknown,
    };
    let observed = match outcome {
        Finding::Held => model.name().to_owned(),
        Finding::Broken => {
            let kinds: Vec<String> = report
                .counts
                .iter()
                .map(|(kind, count)| format!("{count} {kind}"))
                .collect();
            format!("not {}: {}", model.name(), kinds.join(", "))
        }
        _ => report.notes.join("; "),
    };
    let counterexample = report
        .anomalies
        .first()
        .map(|anomaly| seen.explain(anomaly));
    property(
        name,
        promised.map(Model::name),
        outcome,
        observed,
        report.exercised.reads_nonempty,
        counterexample,
    )
    .shaped(
        report
            .anomalies
            .first()
            .map_or("", |worst| worst.kind.name()),
    )
    .counted(report.counts.values().sum::<u64>() as usize)
}

/// Where less is promised than that no update is lost: what a serializable history would not have, by the names of the
/// anomalies (lost update, write skew). A measurement.
pub(super) fn beyond(evidence: &Evidence<'_>, lives: &Lives, ledger: &Ledger) -> Option<Property> {
    let beyond = ("serializability", None, Model::Serializable);
    let is_asked = evidence.promises.isolation().allows_lost_updates();
    is_asked.then(|| checked(beyond, evidence, lives, ledger))
}

/// Reads that saw some of a transaction's effects and not others, or effects that were compensated later:
/// what a saga shows to everybody who looks.
pub(super) fn intermediate_states(
    evidence: &Evidence<'_>,
    lives: &Lives,
    ledger: &Ledger,
) -> Property {
    let seen = history::intermediate(evidence, lives, ledger);
    // A reader that sees half of a transaction breaks read atomicity, and all that is above it.
    let promised = evidence.promises.isolation() >= Isolation::ReadAtomic;
    let (outcome, observed) = match seen.readers {
        0 => (Finding::Held, "none seen".to_owned()),
        n => (
            Finding::Broken,
            format!("seen by {n} of {} readers", seen.exercised),
        ),
    };
    property(
        "no-intermediate-states",
        promised.then_some("no transaction half seen"),
        outcome,
        observed,
        seen.exercised,
        seen.example,
    )
    .shaped(seen.shape)
    .counted(seen.readers as usize)
}
