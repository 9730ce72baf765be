//! What a copy of a shard is: a function of the merged log up to a position, and its form on disk.
//!
//! Everything here is deterministic. Two copies that executed the same prefix of the log hold the same rows
//! and the same history, whatever overlapped, crashed or arrived twice on the way there.
//!
//! # On disk
//!
//! Nothing is forced while transactions execute: the log is durable, and execution can be repeated. Every so
//! many positions a checkpoint is taken: the file [`CHECKPOINT`] is replaced, and the history since the
//! previous one is appended to [`HISTORY`], under one flush. A crash in between leaves a history that is longer
//! than the checkpoint says; the surplus is dropped, because replaying the log makes it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::messages::{Before, Push, Restart, Transfer};
use crate::base::observation::Outcome;
use crate::base::process::{Disk, Effects, FileId};
use crate::base::txn::{Key, Read, Row, ShardId, TxnId, Value, Write, WriteId};
use crate::base::zoo::{self, Bug};
use crate::scenario::layout::Layout;
use crate::shard::engine::{AnyEngine, Engine};
use crate::shard::wal::{self, Wal};
use crate::shard::{LedgerEntry, ShardState};

/// The latest checkpoint, replaced as a whole.
pub const CHECKPOINT: FileId = FileId(0);
/// The transactions that ended, appended checkpoint by checkpoint.
pub const HISTORY: FileId = FileId(1);

/// A transaction that ended at a shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// The transaction.
    pub txn: TxnId,
    /// Its rows written here.
    pub wrote: Vec<Key>,
    /// How it ended, where this shard is one that answers for it; `None` again once so many have ended since
    /// that it is forgotten.
    pub outcome: Option<Arc<Outcome>>,
}

/// The state at a position, without the history.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Every transaction up to here has been executed, none after it.
    pub position: u64,
    /// Nobody replays positions up to here.
    pub floor: u64,
    /// The rows.
    pub rows: Vec<(Key, Row)>,
    /// Pushes that a peer might ask for.
    pub retained: BTreeMap<u64, Arc<Push>>,
    /// Restarts owed.
    pub restarts: BTreeMap<TxnId, Restart>,
}

/// A checkpoint that waits for the transactions up to its position, while later ones go ahead.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Pending {
    position: u64,
    /// Rows that later transactions have overwritten, as they were at `position`.
    before: BTreeMap<Key, Row>,
}

/// A record of [`HISTORY`].
#[derive(Serialize, Deserialize)]
struct Chapter<E> {
    /// Position of the checkpoint that it leads up to.
    position: u64,
    ended: Vec<(u64, E)>,
}

/// A copy of a shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Replica {
    shard: ShardId,
    engine: AnyEngine,
    history: BTreeMap<u64, Ended>,
    ended: BTreeMap<TxnId, u64>,
    /// Outcomes before this position are forgotten, and how many are not.
    forgotten_below: u64,
    remembered: usize,
    /// Pushes made, by position: peers that replay ask for them again.
    pub retained: BTreeMap<u64, Arc<Push>>,
    /// Restarts owed by this shard, which holds the transactions' lowest pointer row.
    pub restarts: BTreeMap<TxnId, Restart>,
    pending: Option<Pending>,
    /// The latest checkpoint taken.
    latest: Arc<Checkpoint>,
    wal: Wal,
    /// The file holds something else than the history up to `latest`: rewrite it next time.
    rewrite: bool,
}

impl Replica {
    /// A shard as the scenario starts with it.
    pub fn new(layout: &Layout, shard: ShardId) -> Self {
        let rows = layout.initial_rows(shard);
        let rows = rows.map(|(key, value)| (key, Row::initial(value)));
        let initial = Checkpoint {
            rows: rows.collect(),
            ..Checkpoint::default()
        };
        Self::from_parts(layout, shard, Arc::new(initial), BTreeMap::new())
    }

    fn from_parts(
        layout: &Layout,
        shard: ShardId,
        latest: Arc<Checkpoint>,
        history: BTreeMap<u64, Ended>,
    ) -> Self {
        let kind = layout.shards[usize::from(shard.0)].engine;
        let mut engine = AnyEngine::new(kind);
        for (key, row) in &latest.rows {
            engine.load(*key, row.clone());
        }
        Self {
            shard,
            engine,
            ended: { history.iter() }
                .filter(|_| !zoo::planted(Bug::SessionsNotInSnapshot))
                .map(|(at, end)| (end.txn, *at))
                .collect(),
            forgotten_below: 0,
            remembered: { history.values() }
                .filter(|end| end.outcome.is_some())
                .count(),
            history,
            retained: latest.retained.clone(),
            restarts: latest.restarts.clone(),
            pending: None,
            latest,
            wal: Wal::new(HISTORY),
            rewrite: false,
        }
    }

    /// The copy that a disk holds. Damage makes it an empty one, which the log or another region refills;
    /// the second part says whether there was any.
    pub fn boot<M, T>(
        layout: &Layout,
        shard: ShardId,
        disk: &Disk,
        out: &mut Effects<M, T>,
    ) -> (Self, bool) {
        match Self::read(layout, shard, disk, out) {
            Some(replica) => (replica, false),
            None => {
                let mut replica = Self::new(layout, shard);
                replica.rewrite = true;
                (replica, true)
            }
        }
    }

    fn read<M, T>(
        layout: &Layout,
        shard: ShardId,
        disk: &Disk,
        out: &mut Effects<M, T>,
    ) -> Option<Self> {
        let mut checkpoints = wal::recover::<Checkpoint>(disk.file(CHECKPOINT)).ok()?;
        let Some(latest) = checkpoints.records.pop() else {
            // Nothing was ever completed: a history alone is the beginning of the first checkpoint.
            let mut replica = Self::new(layout, shard);
            replica.rewrite = !disk.file(HISTORY).is_empty();
            return Some(replica);
        };
        let history = disk.file(HISTORY);
        let (wal, read) = Wal::open::<Chapter<Ended>, _, _>(HISTORY, history, out).ok()?;
        let upto = read.records.last().map_or(0, |last| last.position);
        if upto < latest.position {
            return None;
        }
        let chapters = read.records.into_iter();
        let chapters = chapters.take_while(|chapter| chapter.position <= latest.position);
        let history = chapters.flat_map(|chapter| chapter.ended).collect();
        let mut replica = Self::from_parts(layout, shard, Arc::new(latest), history);
        replica.wal = wal;
        replica.rewrite = upto > replica.latest.position;
        Some(replica)
    }

    /// The copy that another region sent.
    pub fn install(layout: &Layout, shard: ShardId, transfer: &Transfer) -> Self {
        let history = transfer.history.iter().cloned().collect();
        let latest = Arc::clone(&transfer.checkpoint);
        let mut replica = Self::from_parts(layout, shard, latest, history);
        replica.rewrite = true;
        replica
    }

    /// What another region needs to become a copy of this one's latest checkpoint.
    pub fn transfer(&self) -> Transfer {
        let upto = self.history.range(..=self.latest.position);
        Transfer {
            checkpoint: Arc::clone(&self.latest),
            history: upto.map(|(at, end)| (*at, end.clone())).collect(),
        }
    }

    /// Position of the latest checkpoint taken.
    pub fn checkpointed(&self) -> u64 {
        self.latest.position
    }

    /// The floor when the latest checkpoint was taken: its retained pushes are those above.
    pub fn checkpoint_floor(&self) -> u64 {
        self.latest.floor
    }

    /// A row, if a table holds it.
    pub fn row(&self, key: Key) -> Option<&Row> {
        self.engine.read(key)
    }

    /// A row. One that no table holds reads as an empty quantity.
    pub fn read_row(&self, key: Key) -> Row {
        let absent = || Row::initial(Value::Int(0));
        self.row(key).cloned().unwrap_or_else(absent)
    }

    /// Rows, in order.
    pub fn rows<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Vec<Read> {
        let read = |key: &Key| Read {
            key: *key,
            row: self.read_row(*key),
        };
        keys.map(read).collect()
    }

    /// What this shard knows of earlier occurrences of the transaction at `position`.
    pub fn before(&self, txn: TxnId) -> Before {
        let end = { self.ended.get(&txn) }.and_then(|at| self.history.get(at));
        end.map_or(Before::Unended, |end| Before::Ended(end.outcome.clone()))
    }

    /// Makes the transaction's local part of its end, once and for all.
    ///
    /// # Panics
    ///
    /// When the transaction has ended before: the caller did not look.
    pub fn end(
        &mut self,
        position: u64,
        txn: TxnId,
        writes: &[Write],
        outcome: Option<Arc<Outcome>>,
    ) {
        if let Some(pending) = self.pending.as_mut().filter(|p| position > p.position) {
            for write in writes {
                let row = self.engine.read(write.key).cloned();
                let row = row.unwrap_or_else(|| Row::initial(Value::Int(0)));
                pending.before.entry(write.key).or_insert(row);
            }
        }
        let writer = WriteId { txn, undo: false };
        if let Err(conflict) = self.engine.apply(position, writer, writes) {
            panic!(
                "{}: no engine holds prepared writes here: {conflict}",
                self.shard
            );
        }
        let wrote = writes.iter().map(|write| write.key).collect();
        self.remembered += usize::from(outcome.is_some());
        let end = Ended {
            txn,
            wrote,
            outcome,
        };
        assert_eq!(self.history.insert(position, end), None);
        let before = self.ended.insert(txn, position);
        assert!(before.is_none() || zoo::any(), "{txn} ends once");
    }

    /// Forgets the oldest outcomes so that `keep` remain. The transactions' ids stay.
    pub fn forget(&mut self, keep: usize) {
        while self.remembered > keep {
            let oldest = self.history.range_mut(self.forgotten_below..).next();
            let Some((at, end)) = oldest else { return };
            self.remembered -= usize::from(end.outcome.take().is_some());
            self.forgotten_below = at + 1;
        }
    }

    /// From now on the state at `position` can be told, whatever transactions after it do. To be called
    /// before any of those executes. Nothing happens while another checkpoint is pending.
    pub fn plan_checkpoint(&mut self, position: u64) {
        self.pending.get_or_insert(Pending {
            position,
            before: BTreeMap::new(),
        });
    }

    /// The position of a pending checkpoint.
    pub fn planned(&self) -> Option<u64> {
        self.pending.as_ref().map(|pending| pending.position)
    }

    /// Takes the pending checkpoint; every transaction up to its position has been executed. Durable with the
    /// next flush.
    pub fn take_checkpoint<M, T>(&mut self, floor: u64, out: &mut Effects<M, T>) {
        let Some(Pending { position, before }) = self.pending.take() else {
            return;
        };
        let then = |(key, row): (Key, &Row)| {
            let before = before.get(&key);
            let before = before.filter(|_| !zoo::planted(Bug::FuzzyCheckpoint));
            (key, before.unwrap_or(row).clone())
        };
        let restarts = self.restarts.iter().filter(|(_, r)| r.position <= position);
        let since = self.latest.position;
        self.latest = Arc::new(Checkpoint {
            position,
            floor,
            rows: self.engine.rows().map(then).collect(),
            retained: { self.retained.range(..=position) }
                .map(|(at, push)| (*at, Arc::clone(push)))
                .collect(),
            restarts: restarts.map(|(txn, r)| (*txn, r.clone())).collect(),
        });
        self.write_checkpoint(since, out);
    }

    /// Writes the latest checkpoint again: after a flush that failed, or a transfer.
    pub fn rewrite_checkpoint<M, T>(&mut self, out: &mut Effects<M, T>) {
        self.rewrite = true;
        self.write_checkpoint(0, out);
    }

    fn write_checkpoint<M, T>(&mut self, since: u64, out: &mut Effects<M, T>) {
        let position = self.latest.position;
        let since = if self.rewrite { 0 } else { since };
        let ended = self.history.range(since + 1..=position);
        let chapter = Chapter {
            position,
            ended: ended.map(|(at, end)| (*at, end)).collect(),
        };
        if self.rewrite {
            self.wal.rewrite([chapter], out);
            self.rewrite = false;
        } else {
            self.wal.append(&chapter, out);
        }
        out.replace(CHECKPOINT, wal::encode(0, &*self.latest));
    }

    /// What an autopsy finds.
    pub fn autopsy(&self, region: usize, applied_to: u64) -> ShardState {
        let rows = self.engine.rows().map(|(key, row)| (key, row.clone()));
        let writes = self.history.values().flat_map(|end| {
            let write = WriteId {
                txn: end.txn,
                undo: false,
            };
            let entry = move |key: &Key| LedgerEntry { key: *key, write };
            end.wrote.iter().map(entry)
        });
        let up_to_applied = self.history.range(..=applied_to);
        ShardState {
            shard: self.shard,
            region,
            rows: rows.collect(),
            ledger: writes.collect(),
            in_doubt: Default::default(),
            applied_to,
            up_to_applied: up_to_applied.map(|(_, end)| end.wrote.len()).sum(),
        }
    }
}
