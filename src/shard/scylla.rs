//! A ScyllaDB-like engine: cells with write timestamps of which the latest wins, and lightweight
//! transactions that compare before they set.
//!
//! It has no transactions over rows, no versions and no prepare. The shard proxy in front of it, which is part
//! of this engine, adds them: the timestamp of every write is its position in the order of application, so
//! a replayed write loses against its own trace; a prepared write is an *intent* cell beside the row, set by a
//! lightweight transaction `IF intent = NULL`; commit is a batch that writes the value with the position as
//! timestamp and deletes the intent. A shard is one process and does its batches one at a time, which is what
//! makes them atomic here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::engine::{ABSENT, Engine, EngineError};
use crate::base::txn::{Key, Op, Row, TxnId, Write, WriteId};

/// A cell: what was written, and when.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Cell<T> {
    content: T,
    timestamp: u64,
}

impl<T: Ord> Cell<T> {
    /// Last write wins; of two with one timestamp the larger content does (Apache Cassandra,
    /// `Cells.reconcile`), so that replicas agree in whatever order writes reach them.
    fn merge(&mut self, content: T, timestamp: u64) {
        if (timestamp, &content) > (self.timestamp, &self.content) {
            *self = Cell { content, timestamp };
        }
    }
}

/// A row of the proxy's schema.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Cells {
    /// The row's content with its writer: one cell, so that the two never come from different writes.
    row: Cell<Row>,
    /// The undecided write, if there is one.
    intent: Option<(TxnId, Op)>,
}

/// The engine with its proxy.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Scylla {
    table: BTreeMap<Key, Cells>,
    /// The proxy's own table: prepared transactions and the rows that carry their intents.
    staged: BTreeMap<TxnId, Vec<Key>>,
}

impl Scylla {
    fn cells(&mut self, key: Key) -> &mut Cells {
        self.table.entry(key).or_insert_with(|| Cells {
            row: Cell {
                content: Row::initial(ABSENT),
                timestamp: 0,
            },
            intent: None,
        })
    }

    /// `UPDATE ... USING TIMESTAMP position IF row = what the new value was computed from`.
    fn compare_and_set(&mut self, position: u64, writer: WriteId, write: &Write) {
        let cells = self.cells(write.key);
        if position > cells.row.timestamp {
            let value = write.op.apply(&cells.row.content.value);
            cells.row.merge(Row { value, writer }, position);
        }
    }

    fn check_intents(&self, writes: &[Write]) -> Result<(), EngineError> {
        let holder = |key: Key| {
            let (holder, _) = self.table.get(&key)?.intent?;
            Some(EngineError::Conflict { key, holder })
        };
        match writes.iter().find_map(|write| holder(write.key)) {
            Some(conflict) => Err(conflict),
            None => Ok(()),
        }
    }
}

impl Engine for Scylla {
    fn load(&mut self, key: Key, row: Row) {
        self.cells(key).row = Cell {
            content: row,
            timestamp: 0,
        };
    }

    fn read(&self, key: Key) -> Option<&Row> {
        self.table.get(&key).map(|cells| &cells.row.content)
    }

    fn position_of(&self, key: Key) -> u64 {
        self.table.get(&key).map_or(0, |cells| cells.row.timestamp)
    }

    fn apply(
        &mut self,
        position: u64,
        writer: WriteId,
        writes: &[Write],
    ) -> Result<(), EngineError> {
        let is_new = |write: &&Write| position > self.position_of(write.key);
        let new: Vec<Write> = writes.iter().filter(is_new).copied().collect();
        self.check_intents(&new)?;
        for write in &new {
            self.compare_and_set(position, writer, write);
        }
        Ok(())
    }

    fn prepare(&mut self, gid: TxnId, writes: &[Write]) -> Result<(), EngineError> {
        if self.staged.contains_key(&gid) {
            return Err(EngineError::AlreadyPrepared(gid));
        }
        self.check_intents(writes)?;
        for write in writes {
            self.cells(write.key).intent = Some((gid, write.op));
        }
        let keys = writes.iter().map(|write| write.key).collect();
        self.staged.insert(gid, keys);
        Ok(())
    }

    fn commit_prepared(&mut self, position: u64, gid: TxnId) -> Result<(), EngineError> {
        let keys = self
            .staged
            .remove(&gid)
            .ok_or(EngineError::NotPrepared(gid))?;
        let writer = WriteId {
            txn: gid,
            undo: false,
        };
        for key in keys {
            assert!(position > self.position_of(key), "positions of a row rise");
            let intent = self.cells(key).intent.take();
            let (holder, op) = intent.expect("a staged transaction's rows carry its intents");
            assert_eq!(holder, gid, "an intent has one holder");
            self.compare_and_set(position, writer, &Write { key, op });
        }
        Ok(())
    }

    fn rollback_prepared(&mut self, gid: TxnId) -> Result<(), EngineError> {
        let keys = self
            .staged
            .remove(&gid)
            .ok_or(EngineError::NotPrepared(gid))?;
        for key in keys {
            self.cells(key).intent = None;
        }
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = (Key, &Row)> {
        let cells = self.table.iter();
        cells.map(|(key, cells)| (*key, &cells.row.content))
    }
}
