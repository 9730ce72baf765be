//! What clients saw, as a history for the checkers.
//!
//! List workloads become list-append histories. Every other workload becomes a register history in which
//! each version has a unique value, the write that made it: clients are told which version they read, so a
//! checker recovers all dependencies although the quantities themselves repeat. The autopsy's order of each
//! row's versions is given along, which makes the check complete.

use std::collections::BTreeMap;

use super::Evidence;
use super::ledger::Ledger;
use super::lives::Lives;
use crate::base::observation::Outcome;
use crate::base::txn::{Key, Op, Read, Txn, TxnId, Value, WriteId};
use crate::check::{Anomaly, History, HistoryBuilder, Status};

/// A history, with the way back from the checker's numbers to transactions.
pub struct Seen {
    /// For the checkers.
    pub history: History,
    /// By position in the history.
    txns: Vec<TxnId>,
}

impl Seen {
    /// An anomaly in words, with the checker's numbers turned back into names.
    pub fn explain(&self, anomaly: &Anomaly) -> String {
        let names: Vec<String> = anomaly
            .transactions
            .iter()
            .map(|id| match self.txns.get(*id as usize) {
                Some(txn) => format!("transaction {id} of the history is {txn}"),
                None => format!("transaction {id}"),
            })
            .collect();
        format!("{} ({})", anomaly.explanation, names.join("; "))
    }
}

/// A row as a number for the checkers.
pub(super) fn key_number(key: Key) -> u64 {
    u64::from(key.table.0) << 32 | u64::from(key.row)
}

/// A version as a number for the checkers.
pub(super) fn version_number(write: WriteId) -> u64 {
    write.txn.0 * 2 + u64::from(write.undo)
}

/// The history of a run's clients.
pub fn of_clients(evidence: &Evidence<'_>, lives: &Lives, ledger: &Ledger) -> Seen {
    // Where updates may be lost, a list is not the history of its appends. Then versions are told apart by who wrote them.
    let is_history = !evidence.promises.isolation().allows_lost_updates();
    let lists = evidence.scenario.workload.is_of_lists() && is_history;
    let mut builder = HistoryBuilder::new();
    let mut txns = Vec::new();
    let mut undone = Vec::new();
    for operation in &evidence.plan.operations {
        let txn = &operation.txn;
        let Some(life) = lives.by_txn.get(&txn.id) else {
            continue;
        };
        let Some((invoked_ns, session)) = life.invoked else {
            continue;
        };
        let (status, complete) = match &life.returned {
            Some((at_ns, Outcome::Committed { .. })) => (Status::Ok, Some(*at_ns)),
            Some((at_ns, Outcome::Aborted { .. } | Outcome::Declined { .. })) => {
                (Status::Fail, Some(*at_ns))
            }
            Some((_, Outcome::Unknown)) | None => (Status::Info, None),
        };
        builder.begin(u64::from(session), invoked_ns);
        let reads = match life.known() {
            Some(Outcome::Committed { reads }) => reads.as_slice(),
            _ => &[],
        };
        add_reads(&mut builder, reads, lists);
        let written = written_keys(txn, ledger, reads);
        for (key, op) in &written {
            match op {
                Op::Append(element) if lists => builder.append(key_number(*key), *element),
                _ => builder.write(
                    key_number(*key),
                    version_number(WriteId {
                        txn: txn.id,
                        undo: false,
                    }),
                ),
            }
        }
        builder.end(status, complete);
        txns.push(txn.id);
        let undo = WriteId {
            txn: txn.id,
            undo: true,
        };
        let of_undo = |(key, _): &(Key, Op)| {
            ledger
                .orders
                .get(key)
                .is_some_and(|order| order.contains(&undo))
                .then_some(*key)
        };
        let keys: Vec<Key> = written.iter().filter_map(of_undo).collect();
        if !keys.is_empty() && !lists {
            undone.push((invoked_ns, undo, keys));
        }
    }
    // A compensation is a transaction of its own, made by the system at some time after the saga began.
    for (position, (from_ns, undo, keys)) in undone.into_iter().enumerate() {
        builder.begin(u64::from(u32::MAX) + 1 + position as u64, from_ns);
        for key in keys {
            builder.write(key_number(key), version_number(undo));
        }
        builder.end(Status::Info, None);
        txns.push(undo.txn);
    }
    if !lists {
        for (key, order) in &ledger.orders {
            let versions: Vec<u64> = order.iter().map(|write| version_number(*write)).collect();
            builder.version_order(key_number(*key), &versions);
        }
    }
    Seen {
        history: builder.finish(),
        txns,
    }
}

fn add_reads(builder: &mut HistoryBuilder, reads: &[Read], lists: bool) {
    for read in reads {
        let key = key_number(read.key);
        match &read.row.value {
            Value::List(list) if lists => builder.read_list(key, list),
            _ if read.row.writer == WriteId::default() => builder.read(key, None),
            _ => builder.read(key, Some(version_number(read.row.writer))),
        }
    }
}

/// The rows that a transaction wrote, or would have. Where a row depends on a value, the client's reads or
/// the ledger say which it was.
fn written_keys(txn: &Txn, ledger: &Ledger, reads: &[Read]) -> Vec<(Key, Op)> {
    let value_of = |pointer: Key| {
        reads
            .iter()
            .find(|read| read.key == pointer)
            .map_or(0, |read| read.row.value.as_int())
    };
    if !txn.is_dependent() || !reads.is_empty() {
        return txn
            .writes(value_of)
            .into_iter()
            .map(|write| (write.key, write.op))
            .collect();
    }
    // Nobody was told: every way that the ledger shows it went, else the way of the initial values.
    let plain = txn.writes(value_of);
    let went = |other: i64| {
        let writes = txn.writes(|_| other);
        writes
            .iter()
            .any(|write| ledger.stands(txn.id, write.key) && !plain.contains(write))
            .then_some(writes)
    };
    let writes = went(i64::MAX).or_else(|| went(i64::MIN)).unwrap_or(plain);
    writes
        .into_iter()
        .map(|write| (write.key, write.op))
        .collect()
}

/// Readers that saw intermediate states.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Intermediate {
    /// Committed transactions that read some of another transaction's rows after it and some before it, or
    /// that read a version compensated later.
    pub readers: u64,
    /// Committed transactions that read two rows or more.
    pub exercised: u64,
    /// The first of them, in words.
    pub example: Option<String>,
    /// What the first of them saw: `compensated-read` or `fractured-read`.
    pub shape: &'static str,
}

/// Counts the readers that saw a transaction half done (read skew against a single writer: a *fractured
/// read*, Bailis et al., SIGMOD 2014) or a version that was compensated later (a dirty read).
pub fn intermediate(evidence: &Evidence<'_>, lives: &Lives, ledger: &Ledger) -> Intermediate {
    let position: BTreeMap<Key, BTreeMap<WriteId, usize>> = ledger
        .orders
        .iter()
        .map(|(key, order)| {
            (
                *key,
                order
                    .iter()
                    .enumerate()
                    .map(|(at, w)| (*w, at + 1))
                    .collect(),
            )
        })
        .collect();
    let place = |key: Key, write: WriteId| match write == WriteId::default() {
        true => Some(0),
        false => position
            .get(&key)
            .and_then(|order| order.get(&write))
            .copied(),
    };
    let mut seen = Intermediate::default();
    for operation in &evidence.plan.operations {
        let reader = operation.txn.id;
        let Some(life) = lives.by_txn.get(&reader) else {
            continue;
        };
        let Some(Outcome::Committed { reads }) = life.known() else {
            continue;
        };
        if reads.len() < 2 {
            continue;
        }
        seen.exercised += 1;
        let found = reads.iter().find_map(|read| {
            let writer = read.row.writer;
            let undone = WriteId {
                txn: writer.txn,
                undo: true,
            };
            if !writer.undo && place(read.key, undone).is_some() {
                let example = format!(
                    "{reader} read {writer_txn}'s version of row {}, which was compensated later",
                    read.key,
                    writer_txn = writer.txn
                );
                return Some(("compensated-read", example));
            }
            let missed = reads.iter().find(|other| {
                let theirs = place(other.key, writer).filter(|_| writer != WriteId::default());
                let mine = place(other.key, other.row.writer);
                matches!((mine, theirs), (Some(mine), Some(theirs)) if mine < theirs)
            })?;
            let example = format!(
                "{reader} read {}'s version of row {}, and of row {} a version before {}'s",
                writer.txn, read.key, missed.key, writer.txn
            );
            Some(("fractured-read", example))
        });
        if let Some((shape, example)) = found {
            seen.readers += 1;
            if seen.example.is_none() {
                (seen.shape, seen.example) = (shape, Some(example));
            }
        }
    }
    seen
}
