//! The merged log, executed one transaction after the other: what a version of a row is.
//!
//! The spec names the version of a row by the position in the log that wrote it. In the code a version is a value and its
//! writer. Which of them is meant by a position follows from the log alone, and from what the transactions say that they do
//! ([`Txn::evaluate`](crate::base::txn::Txn::evaluate)).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::observation::Outcome;
use crate::base::txn::{Evaluation, Key, Read, Row, ShardId, TxnId, Value, WriteId};
use crate::protocol::calvin::messages::Entry;
use crate::scenario::layout::Layout;

/// What the occurrence at which a transaction ends reads, writes and answers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ending {
    /// Its place in the merged log.
    pub position: u64,
    /// The transaction with its footprint.
    pub entry: Arc<Entry>,
    /// The rows read, by shard and key.
    pub reads: BTreeMap<ShardId, Vec<Read>>,
    /// The rows written, as they are afterwards.
    pub after: BTreeMap<ShardId, Vec<Read>>,
    /// What the client is told.
    pub outcome: Outcome,
}

/// What an occurrence of a transaction in the log is.
pub enum Slot {
    /// The transaction ends here; what it does is told if it was asked for.
    Ends(Option<Box<Ending>>),
    /// It has ended before.
    Again,
    /// Its reconnaissance was overtaken: it does nothing here.
    Moved,
}

/// The state of the rows after the log so far.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Serial {
    log: Vec<TxnId>,
    /// Those that were ever written.
    rows: BTreeMap<Key, Row>,
    /// Where transactions ended.
    ended: BTreeMap<TxnId, u64>,
}

impl Serial {
    /// The last position.
    pub fn end(&self) -> u64 {
        self.log.len() as u64
    }

    /// The transaction at a position, from 1.
    pub fn at(&self, position: u64) -> Option<TxnId> {
        self.log.get(position.checked_sub(1)? as usize).copied()
    }

    /// Whether a transaction ended after a position.
    pub fn ended_after(&self, txn: TxnId, position: u64) -> bool {
        self.ended.get(&txn).is_some_and(|at| *at > position)
    }

    /// Executes what comes next in the log, and tells what that does if `wanted`.
    pub fn append(&mut self, entry: &Arc<Entry>, layout: &Layout, wanted: bool) -> Slot {
        let txn = entry.txn.id;
        self.log.push(txn);
        if self.ended.contains_key(&txn) {
            return Slot::Again;
        }
        let keys = entry.footprint.reads.iter();
        let rows: BTreeMap<Key, Row> = keys.map(|key| (*key, self.row(*key, layout))).collect();
        let (writes, declined) = match entry.txn.evaluate(&entry.footprint, |key| rows.get(&key)) {
            Evaluation::Moved => return Slot::Moved,
            Evaluation::Declined(guard) => (Vec::new(), Some(Outcome::Declined { guard })),
            Evaluation::Commit(writes) => (writes, None),
        };
        let mut after = BTreeMap::new();
        for write in writes {
            // A write outside the footprint is no reason to panic here: what it does is judged like the others.
            let before = rows.get(&write.key).cloned();
            let before = before.unwrap_or_else(|| self.row(write.key, layout));
            let value = write.op.apply(&before.value);
            let writer = WriteId { txn, undo: false };
            let row = Row { value, writer };
            self.rows.insert(write.key, row.clone());
            after.insert(write.key, row);
        }
        self.ended.insert(txn, self.end());
        let reads = || rows.iter().map(read);
        let ending = || Ending {
            position: self.end(),
            entry: Arc::clone(entry),
            reads: by_shard(reads(), layout),
            after: by_shard(after.iter().map(read), layout),
            outcome: declined.unwrap_or_else(|| Outcome::Committed {
                reads: reads().collect(),
            }),
        };
        Slot::Ends(wanted.then(ending).map(Box::new))
    }

    fn row(&self, key: Key, layout: &Layout) -> Row {
        let table = &layout.tables[usize::from(key.table.0)];
        let initial = || match key.row < table.rows {
            true => Row::initial(table.initial.clone()),
            false => Row::initial(Value::Int(0)),
        };
        self.rows.get(&key).cloned().unwrap_or_else(initial)
    }
}

fn read((key, row): (&Key, &Row)) -> Read {
    Read {
        key: *key,
        row: row.clone(),
    }
}

fn by_shard(rows: impl Iterator<Item = Read>, layout: &Layout) -> BTreeMap<ShardId, Vec<Read>> {
    let mut shards: BTreeMap<ShardId, Vec<Read>> = BTreeMap::new();
    for read in rows {
        let shard = layout.shard_of(read.key);
        shards.entry(shard).or_default().push(read);
    }
    shards
}
