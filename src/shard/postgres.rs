//! A PostgreSQL-like engine: multi-version rows, `PREPARE TRANSACTION` and `COMMIT PREPARED` by name.
//!
//! An update does not overwrite: it adds a version marked with its creator (`xmin`) and marks the old one with
//! the same transaction as its deleter (`xmax`). Who sees which follows from the two marks (PostgreSQL
//! documentation, chapter 13.2 and the comment on `HeapTupleSatisfiesMVCC`). Where PostgreSQL looks the state
//! of a transaction up, a mark here holds it, as hint bits do. Versions that no snapshot can see are pruned
//! when their row is next written, as heap-only-tuple pruning does; a row without open snapshots on it keeps
//! one committed version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::engine::{ABSENT, Engine, EngineError};
use crate::base::txn::{Key, Row, TxnId, Write, WriteId};

/// The state of the transaction that created or deleted a version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum Mark {
    /// It committed at this position.
    Committed(u64),
    /// It is prepared under this name.
    Prepared(TxnId),
}

impl Mark {
    fn committed_by(self, position: u64) -> bool {
        matches!(self, Mark::Committed(at) if at <= position)
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Version {
    xmin: Mark,
    xmax: Option<Mark>,
    row: Row,
}

impl Version {
    fn visible_at(&self, position: u64) -> bool {
        self.xmin.committed_by(position)
            && !self.xmax.is_some_and(|xmax| xmax.committed_by(position))
    }
}

/// The engine.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Postgres {
    /// Versions of each row, oldest first.
    heap: BTreeMap<Key, Vec<Version>>,
    /// Prepared transactions (`pg_prepared_xacts`) and the rows that they wrote.
    prepared: BTreeMap<TxnId, Vec<Key>>,
    /// Open snapshots by position, and how often each is open.
    snapshots: BTreeMap<u64, u32>,
}

impl Postgres {
    /// Opens a snapshot: until [`close_snapshot`](Self::close_snapshot), versions that were the newest at
    /// `position` stay readable.
    pub fn open_snapshot(&mut self, position: u64) {
        *self.snapshots.entry(position).or_default() += 1;
    }

    /// Closes a snapshot that was opened at `position`.
    pub fn close_snapshot(&mut self, position: u64) {
        if let Some(open) = self.snapshots.get_mut(&position) {
            *open -= 1;
            if *open == 0 {
                self.snapshots.remove(&position);
            }
        }
    }

    /// The row as it was right after `position`, which must be that of an open snapshot or not below the
    /// newest write.
    pub fn read_at(&self, key: Key, position: u64) -> Option<&Row> {
        let versions = self.heap.get(&key)?.iter().rev();
        let mut seen = versions.filter(|version| version.visible_at(position));
        seen.next().map(|version| &version.row)
    }

    fn newest(&self, key: Key) -> Option<&Version> {
        let mut versions = self.heap.get(&key)?.iter().rev();
        let committed = |version: &&Version| matches!(version.xmin, Mark::Committed(_));
        versions.find(committed)
    }

    fn check_conflicts(&self, writes: &[Write]) -> Result<(), EngineError> {
        let holder = |key: Key| match self.heap.get(&key)?.last()?.xmin {
            Mark::Prepared(holder) => Some(EngineError::Conflict { key, holder }),
            Mark::Committed(_) => None,
        };
        match writes.iter().find_map(|write| holder(write.key)) {
            Some(conflict) => Err(conflict),
            None => Ok(()),
        }
    }

    /// `UPDATE` of the newest version.
    fn update(&mut self, mark: Mark, writer: WriteId, write: &Write) {
        let versions = self.heap.entry(write.key).or_insert_with(|| {
            vec![Version {
                xmin: Mark::Committed(0),
                xmax: None,
                row: Row::initial(ABSENT),
            }]
        });
        let before = versions.last_mut().expect("a row has a version");
        before.xmax = Some(mark);
        let value = write.op.apply(&before.row.value);
        versions.push(Version {
            xmin: mark,
            xmax: None,
            row: Row { value, writer },
        });
    }

    /// Removes the versions that neither an open snapshot nor a new one can see.
    fn prune(&mut self, key: Key) {
        let oldest_snapshot = self.snapshots.keys().next().copied().unwrap_or(u64::MAX);
        if let Some(versions) = self.heap.get_mut(&key) {
            let dead = |mark: Mark| mark.committed_by(oldest_snapshot);
            versions.retain(|version| !version.xmax.is_some_and(dead));
            assert!(!versions.is_empty(), "a row keeps its newest version");
        }
    }
}

impl Engine for Postgres {
    fn load(&mut self, key: Key, row: Row) {
        let version = Version {
            xmin: Mark::Committed(0),
            xmax: None,
            row,
        };
        self.heap.insert(key, vec![version]);
    }

    fn read(&self, key: Key) -> Option<&Row> {
        self.newest(key).map(|version| &version.row)
    }

    fn position_of(&self, key: Key) -> u64 {
        match self.newest(key).map(|version| version.xmin) {
            Some(Mark::Committed(at)) => at,
            _ => 0,
        }
    }

    fn apply(
        &mut self,
        position: u64,
        writer: WriteId,
        writes: &[Write],
    ) -> Result<(), EngineError> {
        let is_new = |write: &&Write| position > self.position_of(write.key);
        let new: Vec<Write> = writes.iter().filter(is_new).copied().collect();
        self.check_conflicts(&new)?;
        for write in &new {
            self.update(Mark::Committed(position), writer, write);
            self.prune(write.key);
        }
        Ok(())
    }

    fn prepare(&mut self, gid: TxnId, writes: &[Write]) -> Result<(), EngineError> {
        if self.prepared.contains_key(&gid) {
            return Err(EngineError::AlreadyPrepared(gid));
        }
        self.check_conflicts(writes)?;
        let writer = WriteId {
            txn: gid,
            undo: false,
        };
        for write in writes {
            self.update(Mark::Prepared(gid), writer, write);
        }
        let keys = writes.iter().map(|write| write.key).collect();
        self.prepared.insert(gid, keys);
        Ok(())
    }

    fn commit_prepared(&mut self, position: u64, gid: TxnId) -> Result<(), EngineError> {
        let keys = self
            .prepared
            .remove(&gid)
            .ok_or(EngineError::NotPrepared(gid))?;
        let (ours, committed) = (Mark::Prepared(gid), Mark::Committed(position));
        for key in keys {
            assert!(position > self.position_of(key), "positions of a row rise");
            for version in self.heap.get_mut(&key).into_iter().flatten() {
                if version.xmin == ours {
                    version.xmin = committed;
                }
                if version.xmax == Some(ours) {
                    version.xmax = Some(committed);
                }
            }
            self.prune(key);
        }
        Ok(())
    }

    fn rollback_prepared(&mut self, gid: TxnId) -> Result<(), EngineError> {
        let keys = self
            .prepared
            .remove(&gid)
            .ok_or(EngineError::NotPrepared(gid))?;
        let ours = Mark::Prepared(gid);
        for key in keys {
            let versions = self.heap.entry(key).or_default();
            versions.retain(|version| version.xmin != ours);
            for version in versions.iter_mut().filter(|v| v.xmax == Some(ours)) {
                version.xmax = None;
            }
        }
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = (Key, &Row)> {
        let keys = self.heap.keys().copied();
        keys.filter_map(|key| self.newest(key).map(|version| (key, &version.row)))
    }
}
