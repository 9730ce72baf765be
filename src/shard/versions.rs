//! A copy of a shard that keeps the versions of its rows by commit timestamp (multi-version storage).
//!
//! A reader names a timestamp and sees the newest version at or below it. A writer *locks* its rows first: it leaves
//! an [`Intent`] that holds the values to come, who writes them, and where the fate of the transaction is recorded.
//! Committing turns the intent into versions, rolling back removes it. These are the columns `lock`, `data` and
//! `write` of Peng and Dabek, "Large-scale Incremental Processing Using Distributed Transactions and Notifications",
//! OSDI 2010, section 2.2. Other systems call the same thing a write intent or a provisional record.
//!
//! The start timestamp identifies an attempt of a transaction: nobody else has the same one.
//!
//! - A reader that meets a lock below its timestamp learns whose it is, and not what the row was: the lock's owner may
//!   have a commit timestamp below the reader's ([`Unreadable::Locked`]).
//! - An attempt that was rolled back can never lock again, however late its messages come ([`Refusal::RolledBack`]).
//! - Below the *safe time* versions that nobody needs are gone. Reads there are refused, not wrong, and so are locks
//!   ([`Versions::collect`]).
//!
//! ```
//! use std::collections::BTreeMap;
//! use ordain::base::txn::{ShardId, TxnId, Value};
//! use ordain::model::worlds::{layout, transfer};
//! use ordain::shard::versions::{Lock, Timestamp, Unreadable, Versions};
//!
//! let key = transfer(0).txn.keys()[0];
//! let mut versions = Versions::new(&layout(), ShardId(0));
//! let lock = Lock { txn: TxnId(7), start: Timestamp(3), primary: key };
//! versions.lock(lock, BTreeMap::from([(key, Some(Value::Int(5)))])).unwrap();
//!
//! // A reader at 4 cannot know: the owner may commit at 4 or later. One at 2 reads the initial value.
//! assert_eq!(versions.read(key, Timestamp(4)), Err(Unreadable::Locked(lock)));
//! assert_eq!(versions.read(key, Timestamp(2)).unwrap().unwrap().value, Value::Int(10));
//!
//! versions.commit(Timestamp(3), Timestamp(6));
//! assert_eq!(versions.read(key, Timestamp(4)).unwrap().unwrap().value, Value::Int(10));
//! assert_eq!(versions.read(key, Timestamp(6)).unwrap().unwrap().value, Value::Int(5));
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use super::ShardState;
use super::ledger::Ledger;
use crate::base::txn::{Key, Row, ShardId, TxnId, Value, WriteId};
use crate::base::zoo::{self, Bug};
use crate::scenario::layout::Layout;

/// A place in the order of transactions. Zero is the initial state's, and below all others.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

/// Who has locked a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Lock {
    /// The transaction.
    pub txn: TxnId,
    /// When this attempt of it started.
    pub start: Timestamp,
    /// The row that records whether the attempt has committed.
    pub primary: Key,
}

/// What an attempt has locked in a shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Intent {
    /// Whose it is.
    pub lock: Lock,
    /// The rows, and what they are to hold. Nothing where a row is locked and stays as it is.
    pub rows: BTreeMap<Key, Option<Value>>,
}

/// Why a row cannot be read at a timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// Somebody who started before may commit below the timestamp.
    Locked(Lock),
    /// The timestamp is below the safe time.
    TooOld,
}

/// Why rows cannot be locked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// Somebody else has locked one of them.
    Locked(Lock),
    /// One of them has a version that was committed after the attempt started, at this time.
    Conflict(Timestamp),
    /// The attempt was rolled back here.
    RolledBack,
    /// The attempt started at or below the safe time.
    TooOld,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Version {
    /// When the attempt that wrote it started.
    start: Timestamp,
    /// Nothing, where the row was locked and stayed as it was. Readers skip it, writers do not.
    row: Option<Row>,
}

/// A copy of a shard, with the versions of its rows.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Versions {
    shard: ShardId,
    /// By row, then by commit timestamp.
    rows: BTreeMap<Key, BTreeMap<Timestamp, Version>>,
    /// By the owner's start timestamp.
    intents: BTreeMap<Timestamp, Intent>,
    /// The start timestamp of the one who has locked the row.
    locked: BTreeMap<Key, Timestamp>,
    /// Start timestamps above the safe time of attempts that were rolled back.
    rolled_back: BTreeSet<Timestamp>,
    safe: Timestamp,
    ledger: Ledger,
    /// The largest commit timestamp.
    newest: Timestamp,
}

impl Versions {
    /// A shard as the scenario starts with it.
    pub fn new(layout: &Layout, shard: ShardId) -> Self {
        let initial = |value| {
            let (start, row) = (Timestamp(0), Some(Row::initial(value)));
            BTreeMap::from([(Timestamp(0), Version { start, row })])
        };
        let rows = layout.initial_rows(shard);
        Self {
            shard,
            rows: rows.map(|(key, value)| (key, initial(value))).collect(),
            intents: BTreeMap::new(),
            locked: BTreeMap::new(),
            rolled_back: BTreeSet::new(),
            safe: Timestamp(0),
            ledger: Ledger::default(),
            newest: Timestamp(0),
        }
    }

    /// The newest version of a row at or below a timestamp; nothing if the shard has no such row. Who has locked a row
    /// reads it at the own start timestamp as if it were not locked.
    ///
    /// # Errors
    ///
    /// When that cannot be known: see [`Unreadable`].
    pub fn read(&self, key: Key, at: Timestamp) -> Result<Option<&Row>, Unreadable> {
        if at < self.safe {
            return Err(Unreadable::TooOld);
        }
        if let Some(lock) = self.lock_of(key)
            && lock.start < at
            && !zoo::planted(Bug::ReadIgnoresLocks)
        {
            return Err(Unreadable::Locked(lock));
        }
        let below = self.rows.get(&key).map(|versions| versions.range(..=at));
        let newest =
            below.and_then(|below| below.rev().find_map(|(_, version)| version.row.as_ref()));
        Ok(newest)
    }

    /// When the newest version of a row at or below a timestamp was committed, whether or not the row can be read then.
    pub fn version_of(&self, key: Key, at: Timestamp) -> Option<Timestamp> {
        let versions = self.rows.get(&key)?;
        let mut below = versions.range(..=at).rev();
        let newest = below.find(|(_, version)| version.row.is_some());
        newest.map(|(at, _)| *at)
    }

    /// Who has locked a row.
    pub fn lock_of(&self, key: Key) -> Option<Lock> {
        let start = self.locked.get(&key)?;
        Some(self.intents[start].lock)
    }

    /// What the attempt that started then has locked here.
    pub fn intent(&self, start: Timestamp) -> Option<&Intent> {
        self.intents.get(&start)
    }

    /// Everything that is locked, in the order of start timestamps.
    pub fn intents(&self) -> impl Iterator<Item = &Intent> {
        self.intents.values()
    }

    /// Whether an attempt may lock these rows.
    ///
    /// # Errors
    ///
    /// Why not: the first reason of the first row.
    pub fn may_lock<'a>(
        &self,
        start: Timestamp,
        keys: impl IntoIterator<Item = &'a Key>,
    ) -> Result<(), Refusal> {
        if self.rolled_back.contains(&start) {
            return Err(Refusal::RolledBack);
        }
        if start <= self.safe {
            return Err(Refusal::TooOld);
        }
        for key in keys {
            match self.lock_of(*key) {
                Some(lock) if lock.start != start => return Err(Refusal::Locked(lock)),
                _ => {}
            }
            let newest = self
                .rows
                .get(key)
                .and_then(|versions| versions.last_key_value());
            match newest {
                Some((commit, _))
                    if *commit >= start && !zoo::planted(Bug::WriteConflictIgnored) =>
                {
                    return Err(Refusal::Conflict(*commit));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Locks rows for an attempt, all of them or none. Once an attempt has locked rows here, locking changes nothing.
    ///
    /// # Errors
    ///
    /// As [`may_lock`](Self::may_lock), and then nothing has changed.
    pub fn lock(&mut self, lock: Lock, rows: BTreeMap<Key, Option<Value>>) -> Result<(), Refusal> {
        if self.intents.contains_key(&lock.start) {
            return Ok(());
        }
        self.may_lock(lock.start, rows.keys())?;
        self.locked
            .extend(rows.keys().map(|key| (*key, lock.start)));
        self.intents.insert(lock.start, Intent { lock, rows });
        Ok(())
    }

    /// Turns an attempt's intent into versions, and returns the rows that have a new value. Nothing if the attempt has
    /// locked nothing here.
    ///
    /// # Panics
    ///
    /// When `commit` is not above the attempt's start and above the rows' versions: whoever hands out timestamps has
    /// given one too early.
    pub fn commit(&mut self, start: Timestamp, commit: Timestamp) -> Option<Vec<Key>> {
        let Intent { lock, rows } = self.intents.remove(&start)?;
        assert!(
            commit > start || zoo::any(),
            "{} starts at {start} and commits at {commit}",
            lock.txn
        );
        let writer = WriteId {
            txn: lock.txn,
            undo: false,
        };
        let mut written = Vec::new();
        for (key, value) in rows {
            self.locked.remove(&key);
            let row = value.map(|value| Row { value, writer });
            if row.is_some() {
                self.ledger.enter(key, writer);
                written.push(key);
            }
            let versions = self.rows.entry(key).or_default();
            let newest = versions
                .last_key_value()
                .map_or(Timestamp(0), |(at, _)| *at);
            assert!(
                commit > newest || zoo::any(),
                "{key} at {commit}, after {newest}"
            );
            versions.insert(commit, Version { start, row });
        }
        self.newest = self.newest.max(commit);
        Some(written)
    }

    /// Removes an attempt's intent, and sees to it that the attempt never locks here again.
    pub fn roll_back(&mut self, start: Timestamp) {
        if let Some(intent) = self.intents.remove(&start) {
            self.locked.retain(|key, _| !intent.rows.contains_key(key));
        }
        if start > self.safe {
            self.rolled_back.insert(start);
        }
    }

    /// Whether this attempt was rolled back here, or started so early that it cannot lock any more.
    pub fn is_barred(&self, start: Timestamp) -> bool {
        start <= self.safe || self.rolled_back.contains(&start)
    }

    /// Raises the safe time to `to`, or as far as intents let it, and forgets what nobody can ask for any more: versions
    /// that have a successor at or below the safe time.
    pub fn collect(&mut self, to: Timestamp) {
        let oldest = self.intents.keys().next();
        let held_at = oldest.map_or(u64::MAX, |start| start.0 - 1);
        self.safe = self.safe.max(to.min(Timestamp(held_at)));
        let safe = self.safe;
        for versions in self.rows.values_mut() {
            let below = versions.range(..=safe).rev();
            let mut with_row = below.filter(|(_, version)| version.row.is_some());
            let kept = with_row.next().map(|(at, _)| *at);
            versions.retain(|at, _| *at > safe || Some(*at) == kept);
        }
        self.rolled_back = self.rolled_back.split_off(&Timestamp(safe.0 + 1));
    }

    /// The safe time: reads below it are refused.
    pub fn safe(&self) -> Timestamp {
        self.safe
    }

    /// Whether a higher safe time could make room.
    pub fn has_history(&self) -> bool {
        !self.rolled_back.is_empty() || self.rows.values().any(|versions| versions.len() > 1)
    }

    /// The transactions that hold locks.
    pub fn owners(&self) -> BTreeSet<TxnId> {
        let intents = self.intents.values();
        intents.map(|intent| intent.lock.txn).collect()
    }

    /// What an autopsy finds: the newest committed versions. Owners of intents are in doubt. `region` is the position of
    /// this copy's region.
    pub fn autopsy(&self, region: usize) -> ShardState {
        let newest = |versions: &BTreeMap<Timestamp, Version>| {
            versions
                .values()
                .rev()
                .find_map(|version| version.row.clone())
        };
        let rows = self.rows.iter();
        let ledger = self.ledger.in_order();
        ShardState {
            shard: self.shard,
            region,
            rows: rows
                .filter_map(|(key, versions)| Some((*key, newest(versions)?)))
                .collect(),
            up_to_applied: ledger.len(),
            ledger,
            in_doubt: self.owners(),
            applied_to: self.newest.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::process::NodeId;
    use crate::base::txn::TableId;
    use crate::scenario::layout::{EngineKind, Region, Shard, Table};

    const ROWS: u32 = 3;

    fn versions() -> Versions {
        let (name, engine) = ("accounts".to_owned(), EngineKind::Postgres);
        let layout = Layout {
            regions: vec![Region {
                name: "eu".into(),
                cloud: "a".into(),
                fronts: vec![NodeId(0)],
                data: vec![NodeId(1)],
                client: NodeId(2),
            }],
            tables: vec![Table {
                name,
                engine,
                shards: vec![ShardId(0)],
                rows: ROWS,
                initial: Value::Int(0),
            }],
            shards: vec![Shard {
                table: TableId(0),
                engine,
                home: 0,
            }],
            nodes: 3,
            clock_bound_ns: None,
        };
        Versions::new(&layout, ShardId(0))
    }

    fn key(row: u32) -> Key {
        let table = TableId(0);
        Key { table, row }
    }

    fn lock(start: u64) -> Lock {
        let (txn, start, primary) = (TxnId(start), Timestamp(start), key(0));
        Lock {
            txn,
            start,
            primary,
        }
    }

    /// What happens to a shard. Attempts are named by their start timestamps.
    #[derive(Clone, Debug)]
    enum Step {
        Lock {
            start: u64,
            rows: BTreeMap<Key, Option<Value>>,
        },
        Commit {
            start: u64,
            after: u64,
        },
        RollBack {
            start: u64,
        },
        Collect {
            to: u64,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let value = prop::option::weighted(0.8, (1i64..1000).prop_map(Value::Int));
        let rows = prop::collection::btree_map((0..ROWS).prop_map(key), value, 1..3);
        let start = || 1u64..30;
        prop_oneof![
            4 => (start(), rows).prop_map(|(start, rows)| Step::Lock { start, rows }),
            3 => (start(), 1u64..4).prop_map(|(start, after)| Step::Commit { start, after }),
            1 => start().prop_map(|start| Step::RollBack { start }),
            1 => (0u64..40).prop_map(|to| Step::Collect { to }),
        ]
    }

    /// A shard as a list of everything that was ever written: nothing is removed.
    #[derive(Clone, Default)]
    struct Model {
        /// Row, commit timestamp, start timestamp, value.
        writes: Vec<(Key, u64, u64, Option<Value>)>,
        locks: Vec<(u64, BTreeMap<Key, Option<Value>>)>,
        rolled_back: Vec<u64>,
        safe: u64,
        clock: u64,
    }

    impl Model {
        fn newest(&self, key: Key) -> u64 {
            let of_row = self.writes.iter().filter(|write| write.0 == key);
            of_row.map(|write| write.1).max().unwrap_or(0)
        }

        fn lock(&mut self, start: u64, rows: &BTreeMap<Key, Option<Value>>) -> bool {
            if self.locks.iter().any(|(owner, _)| *owner == start) {
                return true;
            }
            let held = |key: &Key| self.locks.iter().any(|(_, rows)| rows.contains_key(key));
            let free = |key: &Key| !held(key) && self.newest(*key) < start;
            let bars = self.rolled_back.contains(&start) || start <= self.safe;
            let may = !bars && rows.keys().all(free);
            if may {
                self.locks.push((start, rows.clone()));
            }
            may
        }

        fn remove(&mut self, start: u64) -> Option<BTreeMap<Key, Option<Value>>> {
            let at = self.locks.iter().position(|(owner, _)| *owner == start)?;
            Some(self.locks.remove(at).1)
        }

        /// `None` where it cannot be known.
        fn read(&self, key: Key, at: u64) -> Option<Value> {
            let blocks =
                |(start, rows): &(u64, BTreeMap<Key, _>)| *start < at && rows.contains_key(&key);
            if at < self.safe || self.locks.iter().any(blocks) {
                return None;
            }
            let visible = self
                .writes
                .iter()
                .filter(|write| write.0 == key && write.1 <= at);
            let with_value = visible.filter(|write| write.3.is_some());
            let newest = with_value.max_by_key(|write| write.1);
            Some(newest.map_or(Value::Int(0), |write| write.3.clone().unwrap()))
        }

        /// Takes a step, and says whether it was refused. A commit timestamp is above everything handed out before, as an
        /// oracle's is.
        fn take(&mut self, step: &Step) -> (bool, Option<u64>) {
            match step {
                Step::Lock { start, rows } => {
                    self.clock = self.clock.max(*start);
                    (self.lock(*start, rows), None)
                }
                Step::Commit { start, after } => {
                    let Some(rows) = self.remove(*start) else {
                        return (false, Some(self.clock + after));
                    };
                    self.clock += after;
                    let commit = self.clock;
                    self.writes.extend(
                        rows.into_iter()
                            .map(|(key, value)| (key, commit, *start, value)),
                    );
                    (true, Some(commit))
                }
                Step::RollBack { start } => {
                    self.remove(*start);
                    self.rolled_back.push(*start);
                    (true, None)
                }
                Step::Collect { to } => {
                    let held = self.locks.iter().map(|(start, _)| start - 1).min();
                    self.safe = self.safe.max((*to).min(held.unwrap_or(u64::MAX)));
                    (true, None)
                }
            }
        }
    }

    /// A step as a log holds it.
    fn take(versions: &mut Versions, step: &Step, commit: Option<u64>) -> bool {
        match step {
            Step::Lock { start, rows } => versions.lock(lock(*start), rows.clone()).is_ok(),
            Step::Commit { start, .. } => versions
                .commit(Timestamp(*start), Timestamp(commit.unwrap()))
                .is_some(),
            Step::RollBack { start } => {
                versions.roll_back(Timestamp(*start));
                true
            }
            Step::Collect { to } => {
                versions.collect(Timestamp(*to));
                true
            }
        }
    }

    /// No transaction writes twice: an attempt that has committed does not start again.
    fn is_repeated(model: &Model, step: &Step) -> bool {
        matches!(step, Step::Lock { start, .. } if model.writes.iter().any(|write| write.2 == *start))
    }

    proptest! {
        #[test]
        fn every_read_lock_and_recovery_is_that_of_a_list_of_all_writes(
            steps in prop::collection::vec(step(), 1..60),
            checkpoint_at in 0usize..60,
        ) {
            let (mut model, mut versions) = (Model::default(), versions());
            let mut checkpoint = versions.clone();
            let mut log: Vec<(Step, Option<u64>)> = Vec::new();
            for (at, step) in steps.iter().enumerate() {
                if is_repeated(&model, step) {
                    continue;
                }
                let (taken, commit) = model.take(step);
                prop_assert_eq!(take(&mut versions, step, commit), taken, "{:?}", step);
                log.push((step.clone(), commit));
                // A crash after every step: a checkpoint and the log after it give the same shard.
                if at == checkpoint_at {
                    let bytes = postcard::to_stdvec(&versions).unwrap();
                    checkpoint = postcard::from_bytes(&bytes).unwrap();
                    log.clear();
                }
                let mut recovered = checkpoint.clone();
                for (step, commit) in &log {
                    take(&mut recovered, step, *commit);
                }
                prop_assert_eq!(&recovered, &versions);
                prop_assert_eq!(versions.safe(), Timestamp(model.safe));
                for row in 0..ROWS {
                    for at in 0..model.clock + 2 {
                        let read = versions.read(key(row), Timestamp(at)).ok();
                        let value = read.map(|row| row.expect("an initial row").value.clone());
                        prop_assert_eq!(value, model.read(key(row), at), "row {} at {}", row, at);
                    }
                }
            }
            let state = versions.autopsy(0);
            let owners = model.locks.iter().map(|(start, _)| TxnId(*start)).collect();
            prop_assert_eq!(state.in_doubt, owners);
            // In the ledger: every write of a value, in the order of commit timestamps for each row.
            let mut writes = model.writes.clone();
            writes.retain(|write| write.3.is_some());
            for row in 0..ROWS {
                let of_row = state.ledger.iter().filter(|entry| entry.key == key(row));
                let found: Vec<u64> = of_row.map(|entry| entry.write.txn.0).collect();
                let of_row = writes.iter().filter(|write| write.0 == key(row));
                let wanted: Vec<u64> = of_row.map(|write| write.2).collect();
                prop_assert_eq!(found, wanted);
            }
        }

        #[test]
        fn collecting_forgets_what_nobody_can_ask_for_and_nothing_else(
            steps in prop::collection::vec(step(), 1..40),
            to in 0u64..60,
        ) {
            let (mut model, mut versions) = (Model::default(), versions());
            for step in &steps {
                if !is_repeated(&model, step) {
                    let (_, commit) = model.take(step);
                    take(&mut versions, step, commit);
                }
            }
            let before = versions.clone();
            versions.collect(Timestamp(to));
            for row in (0..ROWS).map(key) {
                let kept = &versions.rows[&row];
                let below = kept.range(..=versions.safe).count();
                prop_assert!(below <= 1, "one version below the safe time is enough");
                for at in versions.safe.0..model.clock + 2 {
                    let at = Timestamp(at);
                    prop_assert_eq!(before.read(row, at), versions.read(row, at));
                }
            }
        }
    }

    #[test]
    fn a_locked_row_hides_what_it_was_from_later_readers_only() {
        let mut versions = versions();
        versions
            .lock(lock(5), BTreeMap::from([(key(0), Some(Value::Int(7)))]))
            .unwrap();
        assert_eq!(
            versions.read(key(0), Timestamp(6)),
            Err(Unreadable::Locked(lock(5)))
        );
        for at in [4, 5] {
            let row = versions.read(key(0), Timestamp(at)).unwrap().unwrap();
            assert_eq!(
                row.value,
                Value::Int(0),
                "the owner reads below its own lock, too"
            );
        }
    }

    #[test]
    fn a_row_that_was_only_locked_keeps_its_value_and_stops_older_writers() {
        let mut versions = versions();
        versions
            .lock(lock(5), BTreeMap::from([(key(0), None)]))
            .unwrap();
        assert_eq!(versions.commit(Timestamp(5), Timestamp(9)), Some(vec![]));
        let row = versions.read(key(0), Timestamp(9)).unwrap().unwrap();
        assert_eq!(
            (row.value.clone(), row.writer),
            (Value::Int(0), WriteId::default())
        );
        let late = versions.may_lock(Timestamp(8), [&key(0)]);
        assert_eq!(late, Err(Refusal::Conflict(Timestamp(9))));
        assert!(versions.autopsy(0).ledger.is_empty());
    }

    #[test]
    fn an_attempt_that_was_rolled_back_never_locks_again_even_when_its_mark_is_collected() {
        let mut versions = versions();
        versions.roll_back(Timestamp(5));
        assert_eq!(
            versions.may_lock(Timestamp(5), [&key(0)]),
            Err(Refusal::RolledBack)
        );
        versions.collect(Timestamp(5));
        assert!(versions.rolled_back.is_empty());
        assert_eq!(
            versions.may_lock(Timestamp(5), [&key(0)]),
            Err(Refusal::TooOld)
        );
        assert!(versions.is_barred(Timestamp(5)) && !versions.is_barred(Timestamp(6)));
    }

    #[test]
    fn an_intent_holds_the_safe_time_back() {
        let mut versions = versions();
        versions
            .lock(lock(5), BTreeMap::from([(key(0), Some(Value::Int(7)))]))
            .unwrap();
        versions.collect(Timestamp(20));
        assert_eq!(versions.safe(), Timestamp(4));
        versions.roll_back(Timestamp(5));
        versions.collect(Timestamp(20));
        assert_eq!(versions.safe(), Timestamp(20));
        assert_eq!(
            versions.read(key(0), Timestamp(19)),
            Err(Unreadable::TooOld)
        );
    }
}
