//! The verdict on a recorded history: what `ordain check` says of it, and whether it was put to the test at all.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::workload::{Shape, Workload};
use super::{Ended, Recording};
use crate::check::workload::Property;
use crate::check::{self, Bank, History, KeyId, Model, Op, Report, Verdict, parse};

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The history satisfies the model.
    Kept,
    /// It does not.
    Violated,
    /// Nobody can say.
    Unknown,
    /// It satisfies the model, and hardly could have done otherwise.
    Vacuous,
    /// The run ended before its time.
    Incomplete,
}

/// A judged history.
pub struct Judged {
    /// The history, as it was read from the file.
    pub history: History,
    /// What the checkers say.
    pub report: Report,
    /// What it all comes to.
    pub outcome: Outcome,
    /// Transactions that began while another one was under way on the same key, one of them writing.
    pub contended: u64,
    /// Why the outcome is neither kept nor violated.
    pub why: Vec<String>,
}

/// Judges the history in a file.
///
/// # Errors
/// If it cannot be read, or is no history.
pub fn judge(
    path: &Path,
    (workload, shape): (Workload, &Shape),
    model: Model,
    recording: &Recording,
    faults_wanted: bool,
) -> Result<Judged, parse::ParseError> {
    let mut history = parse::read_file(path, parse::Strictness::Strict)?;
    if workload == Workload::Bank {
        // In a short history nobody may have read or transferred.
        let _ = history.take_for(check::Object::Account);
    }
    let bank = Bank {
        total: (shape.accounts * shape.balance) as i64,
        overdraft: false,
    };
    let options = check::Options {
        bank: (workload == Workload::Bank).then_some(bank),
        ..check::Options::new(model)
    };
    let mut report = check::check(&history, &options);
    let mut why = Vec::new();
    if workload == Workload::LongFork
        && let Err(unfit) = report.add_property(&history, Property::LongFork, &options)
    {
        why.push(unfit.to_string());
    }
    report.require_evidence(&history);
    let contended = contended(&history);
    if recording.counts.committed == 0 {
        why.push("no transaction committed".into());
    } else if contended == 0 {
        why.push(
            "no two transactions that overlapped in time touched the same key, with a write among them: isolation was not put to \
             the test"
                .into(),
        );
    }
    if faults_wanted && recording.faults.is_empty() {
        why.push("no fault struck".into());
    }
    let incomplete = match &recording.ended {
        Ended::Done | Ended::Violation => None,
        Ended::Interrupted => Some("it was interrupted".to_owned()),
        Ended::Lost(what) | Ended::NothingCommits(what) | Ended::Broken(what) => Some(what.clone()),
    };
    let outcome = match report.verdict {
        Verdict::Invalid => Outcome::Violated,
        _ if incomplete.is_some() => Outcome::Incomplete,
        _ if !why.is_empty() => Outcome::Vacuous,
        Verdict::Unknown => Outcome::Unknown,
        Verdict::Valid => Outcome::Kept,
    };
    why.splice(0..0, incomplete);
    Ok(Judged {
        history,
        report,
        outcome,
        contended,
        why,
    })
}

/// How many transactions began while a conflicting one was under way.
fn contended(history: &History) -> u64 {
    let mut by_key = BTreeMap::<KeyId, Vec<(u64, u64, bool, check::TxnId)>>::new();
    for txn in history.txns().filter(|txn| txn.may_have_happened()) {
        let mut keys = BTreeMap::<KeyId, bool>::new();
        for op in txn.ops() {
            let reads = matches!(
                op,
                Op::Read { .. } | Op::ReadList { .. } | Op::ReadUnknown { .. }
            );
            *keys.entry(op.key()).or_default() |= !reads;
        }
        for (key, writes) in keys {
            let (invoke, complete) = (txn.header.invoke, txn.header.complete);
            by_key
                .entry(key)
                .or_default()
                .push((invoke, complete, writes, txn.id));
        }
    }
    let mut contended = std::collections::BTreeSet::new();
    for spans in by_key.values_mut() {
        spans.sort_unstable();
        let (mut any_until, mut writer_until) = (0, 0);
        for &(invoke, complete, writes, id) in spans.iter() {
            if writer_until > invoke || writes && any_until > invoke {
                contended.insert(id);
            }
            any_until = any_until.max(complete);
            if writes {
                writer_until = writer_until.max(complete);
            }
        }
    }
    contended.len() as u64
}
