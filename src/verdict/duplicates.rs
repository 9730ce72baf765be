//! Duplicates: what was asked for once and took effect twice, because a client tried again under another id.

use std::collections::BTreeMap;

use super::ledger::Ledger;
use super::lives::Lives;
use super::{Evidence, Finding, Property, property};
use crate::base::txn::{Target, Txn, TxnId};
use crate::plan::Start;

/// Whether each request took effect once at most, where clients retry under other ids. No protocol promises that: to it
/// they are different transactions.
pub(super) fn judge(evidence: &Evidence<'_>, lives: &Lives, ledger: &Ledger) -> Option<Property> {
    let mut attempts: BTreeMap<TxnId, Vec<&Txn>> = BTreeMap::new();
    for operation in &evidence.plan.operations {
        let of = match operation.start {
            Start::Retry { of, .. } => of,
            _ => operation.txn.id,
        };
        attempts.entry(of).or_default().push(&operation.txn);
    }
    attempts.values().find(|attempts| attempts.len() > 1)?;
    let was_sent = |txn: &&&Txn| {
        let life = lives.by_txn.get(&txn.id);
        life.is_some_and(|life| life.invoked.is_some())
    };
    let stands = |txn: &&&Txn| {
        let mut effects = txn.effects.iter();
        effects.any(|effect| match effect.target {
            Target::Key(key) => ledger.stands(txn.id, key),
            Target::Choice {
                then, otherwise, ..
            } => ledger.stands(txn.id, then) || ledger.stands(txn.id, otherwise),
        })
    };
    let (mut retried, mut twice, mut example) = (0, 0_usize, None);
    for (first, attempts) in &attempts {
        let sent: Vec<&&Txn> = attempts.iter().filter(was_sent).collect();
        if sent.len() < 2 || sent[0].is_read_only() {
            continue;
        }
        retried += 1;
        let standing: Vec<String> = { sent.iter().copied() }
            .filter(stands)
            .map(|txn| txn.id.to_string())
            .collect();
        if standing.len() > 1 {
            twice += 1;
            example.get_or_insert_with(|| {
                format!(
                    "the request of {first} was sent {} times, and took effect as {}",
                    sent.len(),
                    standing.join(" and ")
                )
            });
        }
    }
    let (outcome, observed) = match twice {
        0 => (
            Finding::Held,
            "each request took effect once at most".to_owned(),
        ),
        n => (
            Finding::Broken,
            format!("{n} of {retried} requests that were sent again took effect twice"),
        ),
    };
    let judged = property("no-duplicates", None, outcome, observed, retried, example);
    Some(judged.shaped("took-effect-twice").counted(twice))
}
