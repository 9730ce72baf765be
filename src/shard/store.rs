//! A copy of a shard: an engine, and the ledger of every write that it contains.
//!
//! The ledger makes writes idempotent by [`WriteId`] (an inbox in the same local transaction), where the
//! engine makes them idempotent by position. It is also what an autopsy reads.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::engine::{AnyEngine, Engine, EngineError};
use crate::base::txn::{Key, Read, Row, ShardId, TxnId, Write, WriteId};
use crate::base::zoo::{self, Bug};
use crate::scenario::layout::{EngineKind, Layout};
use crate::shard::ShardState;
use crate::shard::ledger::Ledger;

/// A checkpoint that cannot be restored.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("the checkpoint cannot be read: {0}")]
pub struct BadCheckpoint(String);

/// A copy of a shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Store {
    shard: ShardId,
    engine: AnyEngine,
    ledger: Ledger,
    /// Writes of prepared transactions.
    prepared: BTreeMap<TxnId, Vec<Write>>,
    /// The highest position applied.
    position: u64,
}

impl Store {
    /// A shard as the scenario starts with it.
    pub fn new(layout: &Layout, shard: ShardId) -> Self {
        let kind = layout.shards[usize::from(shard.0)].engine;
        let mut engine = AnyEngine::new(kind);
        for (key, value) in layout.initial_rows(shard) {
            engine.load(key, Row::initial(value));
        }
        Self {
            shard,
            engine,
            ledger: Ledger::default(),
            prepared: BTreeMap::new(),
            position: 0,
        }
    }

    /// The rows of all shards in one engine of this kind, under the name of the first shard: a database that is not
    /// partitioned.
    pub fn of_all(layout: &Layout, kind: EngineKind) -> Self {
        let mut engine = AnyEngine::new(kind);
        let rows = layout
            .shard_ids()
            .flat_map(|shard| layout.initial_rows(shard));
        for (key, value) in rows {
            engine.load(key, Row::initial(value));
        }
        Self {
            shard: ShardId(0),
            engine,
            ledger: Ledger::default(),
            prepared: BTreeMap::new(),
            position: 0,
        }
    }

    /// Which shard it is.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The highest position applied.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The position after the highest applied: the next one where the shard itself counts.
    pub fn next_position(&self) -> u64 {
        self.position + 1
    }

    /// The newest committed version of a row, if the shard has it.
    pub fn read(&self, key: Key) -> Option<&Row> {
        self.engine.read(key)
    }

    /// The newest committed versions of those of `keys` that the shard has.
    pub fn reads<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) -> Vec<Read> {
        let read = |key: &Key| {
            let row = self.read(*key)?.clone();
            Some(Read { key: *key, row })
        };
        keys.into_iter().filter_map(read).collect()
    }

    /// Whether this write is part of the state.
    pub fn contains(&self, key: Key, write: WriteId) -> bool {
        self.ledger.contains(key, write)
    }

    /// Commits writes in one local transaction at `position`. Those that are part of the state already
    /// change nothing; the others' rows are returned.
    ///
    /// # Panics
    ///
    /// When a write is new and `position` is not above its row's: an order of application that goes
    /// backwards is a bug of the protocol, and so is a write to a row that carries a prepared one.
    pub fn apply(&mut self, position: u64, writer: WriteId, writes: &[Write]) -> Vec<Key> {
        let no_inbox = zoo::planted(Bug::CompensatedTwice) || zoo::planted(Bug::StepAppliedTwice);
        let is_new = |write: &&Write| no_inbox || !self.contains(write.key, writer);
        let new: Vec<Write> = writes.iter().filter(is_new).copied().collect();
        for write in &new {
            let newest = self.engine.position_of(write.key);
            assert!(
                position > newest,
                "{}: {writer:?} at {position}, after {newest}",
                write.key
            );
        }
        match self.engine.apply(position, writer, &new) {
            Ok(()) => self.enter(position, writer, &new),
            Err(conflict) => panic!("{}: a write that holds no lock: {conflict}", self.shard),
        }
    }

    /// Makes a transaction's writes ready under its id. Preparing it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`EngineError::Conflict`] where another prepared transaction wrote one of the rows.
    pub fn prepare(&mut self, txn: TxnId, writes: &[Write]) -> Result<(), EngineError> {
        if self.prepared.contains_key(&txn) {
            return Ok(());
        }
        self.engine.prepare(txn, writes)?;
        self.prepared.insert(txn, writes.to_vec());
        Ok(())
    }

    /// Commits a prepared transaction at `position`; its rows are returned.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotPrepared`], also when it has been committed before.
    pub fn commit_prepared(&mut self, position: u64, txn: TxnId) -> Result<Vec<Key>, EngineError> {
        self.engine.commit_prepared(position, txn)?;
        let writes = self.prepared.remove(&txn).unwrap_or_default();
        Ok(self.enter(position, WriteId { txn, undo: false }, &writes))
    }

    /// Forgets a prepared transaction.
    ///
    /// # Errors
    ///
    /// [`EngineError::NotPrepared`].
    pub fn rollback_prepared(&mut self, txn: TxnId) -> Result<(), EngineError> {
        self.engine.rollback_prepared(txn)?;
        self.prepared.remove(&txn);
        Ok(())
    }

    /// The prepared transactions and their writes.
    pub fn prepared(&self) -> &BTreeMap<TxnId, Vec<Write>> {
        &self.prepared
    }

    /// The whole copy as bytes.
    pub fn checkpoint(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always serialises")
    }

    /// A copy from the bytes of a checkpoint.
    ///
    /// # Errors
    ///
    /// When they are not a checkpoint's.
    pub fn restore(bytes: &[u8]) -> Result<Self, BadCheckpoint> {
        postcard::from_bytes(bytes).map_err(|error| BadCheckpoint(error.to_string()))
    }

    /// What an autopsy finds. `region` is the position of this copy's region.
    pub fn autopsy(&self, region: usize, in_doubt: BTreeSet<TxnId>) -> ShardState {
        let ledger = self.ledger.in_order();
        ShardState {
            shard: self.shard,
            region,
            rows: { self.engine.rows() }
                .map(|(key, row)| (key, row.clone()))
                .collect(),
            up_to_applied: ledger.len(),
            ledger,
            in_doubt,
            applied_to: self.position,
        }
    }

    fn enter(&mut self, position: u64, write: WriteId, writes: &[Write]) -> Vec<Key> {
        self.position = self.position.max(position);
        for Write { key, .. } in writes {
            self.ledger.enter(*key, write);
        }
        writes.iter().map(|write| write.key).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::txn::{Op, TableId, Value};
    use crate::scenario::layout::{Region, Shard, Table};
    use crate::shard::LedgerEntry;
    use crate::{base::process::NodeId, shard::postgres::Postgres};

    fn store(engine: EngineKind) -> Store {
        let layout = Layout {
            regions: vec![Region {
                name: "eu".into(),
                cloud: "a".into(),
                fronts: vec![NodeId(0)],
                data: vec![NodeId(1)],
                client: NodeId(2),
            }],
            tables: vec![Table {
                name: "accounts".into(),
                engine,
                shards: vec![ShardId(0)],
                rows: 4,
                initial: Value::List([].into()),
            }],
            shards: vec![Shard {
                table: TableId(0),
                engine,
                home: 0,
            }],
            nodes: 3,
            clock_bound_ns: None,
        };
        Store::new(&layout, ShardId(0))
    }

    fn key(row: u32) -> Key {
        Key {
            table: TableId(0),
            row,
        }
    }

    /// What a random log does to a shard.
    #[derive(Clone, Debug)]
    enum Step {
        Apply(WriteId, Vec<Write>),
        Prepare(TxnId, Vec<Write>),
        Commit(TxnId),
        Rollback(TxnId),
        Checkpoint,
    }

    fn writes() -> impl Strategy<Value = Vec<Write>> {
        let op = prop_oneof![
            (0i64..5).prop_map(Op::Add),
            (0i64..9).prop_map(Op::Put),
            (0u64..50).prop_map(Op::Append),
            (0u64..50).prop_map(Op::Remove),
        ];
        prop::collection::btree_map(0u32..5, op, 1..4).prop_map(|writes| {
            { writes.into_iter() }
                .map(|(row, op)| Write { key: key(row), op })
                .collect()
        })
    }

    fn step() -> impl Strategy<Value = Step> {
        let txn = || (1u64..8).prop_map(TxnId);
        let id = (txn(), any::<bool>()).prop_map(|(txn, undo)| WriteId { txn, undo });
        prop_oneof![
            3 => (id, writes()).prop_map(|(id, writes)| Step::Apply(id, writes)),
            2 => (txn(), writes()).prop_map(|(txn, writes)| Step::Prepare(txn, writes)),
            2 => txn().prop_map(Step::Commit),
            1 => txn().prop_map(Step::Rollback),
            1 => Just(Step::Checkpoint),
        ]
    }

    /// A shard as a map and a set.
    #[derive(Default)]
    struct Model {
        rows: BTreeMap<Key, Row>,
        done: Vec<LedgerEntry>,
        prepared: BTreeMap<TxnId, Vec<Write>>,
    }

    impl Model {
        fn write(&mut self, writer: WriteId, writes: &[Write]) {
            for Write { key, op } in writes {
                let entry = LedgerEntry {
                    key: *key,
                    write: writer,
                };
                if !self.done.contains(&entry) {
                    self.done.push(entry);
                    let initial = || Row::initial(Value::Int(0));
                    let row = self.rows.entry(*key).or_insert_with(initial);
                    let value = op.apply(&row.value);
                    *row = Row { value, writer };
                }
            }
        }

        fn is_held(&self, write: &Write) -> bool {
            let mut held = self.prepared.values().flatten();
            held.any(|held| held.key == write.key)
        }

        /// The step as a protocol that locks rows would take it: `None` if it would not.
        fn admits(&self, step: &Step) -> bool {
            match step {
                Step::Apply(id, writes) => {
                    let done = |write: &Write| {
                        let (key, write) = (write.key, *id);
                        self.done.contains(&LedgerEntry { key, write })
                    };
                    { writes.iter() }.all(|write| done(write) || !self.is_held(write))
                }
                Step::Prepare(txn, writes) => {
                    let used = self.done.iter().any(|entry| entry.write.txn == *txn);
                    let held = writes.iter().any(|write| self.is_held(write));
                    self.prepared.contains_key(txn) || (!used && !held)
                }
                Step::Commit(txn) | Step::Rollback(txn) => self.prepared.contains_key(txn),
                Step::Checkpoint => true,
            }
        }

        fn take(&mut self, step: &Step) {
            match step {
                Step::Apply(id, writes) => self.write(*id, writes),
                Step::Prepare(txn, writes) => {
                    let known = self.prepared.entry(*txn);
                    known.or_insert_with(|| writes.clone());
                }
                Step::Commit(txn) => {
                    let writes = self.prepared.remove(txn).unwrap();
                    let (txn, undo) = (*txn, false);
                    self.write(WriteId { txn, undo }, &writes);
                }
                Step::Rollback(txn) => {
                    self.prepared.remove(txn);
                }
                Step::Checkpoint => {}
            }
        }
    }

    fn take(store: &mut Store, step: &Step) {
        let position = store.next_position();
        match step {
            Step::Apply(id, writes) => {
                store.apply(position, *id, writes);
                assert_eq!(store.apply(position + 1, *id, writes), [], "a duplicate");
            }
            Step::Prepare(txn, writes) => store.prepare(*txn, writes).unwrap(),
            Step::Commit(txn) => {
                store.commit_prepared(position, *txn).unwrap();
                let again = store.commit_prepared(position + 1, *txn);
                assert_eq!(again, Err(EngineError::NotPrepared(*txn)));
            }
            Step::Rollback(txn) => store.rollback_prepared(*txn).unwrap(),
            Step::Checkpoint => *store = Store::restore(&store.checkpoint()).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn both_engines_end_in_the_state_of_a_trivial_model_for_the_same_log(
            log in prop::collection::vec(step(), 1..60),
        ) {
            let mut model = Model::default();
            let mut stores = [store(EngineKind::Postgres), store(EngineKind::Scylla)];
            for row in 0..4 {
                model.rows.insert(key(row), Row::initial(Value::List([].into())));
            }
            for step in &log {
                if !model.admits(step) {
                    continue;
                }
                model.take(step);
                stores.iter_mut().for_each(|store| take(store, step));
                for (key, row) in &model.rows {
                    prop_assert_eq!(stores[0].read(*key), Some(row));
                    prop_assert_eq!(stores[1].read(*key), Some(row));
                }
            }
            let in_doubt: BTreeSet<TxnId> = model.prepared.keys().copied().collect();
            for store in &stores {
                let held: BTreeSet<TxnId> = store.prepared().keys().copied().collect();
                prop_assert_eq!(&held, &in_doubt);
                prop_assert_eq!(store.autopsy(0, held).ledger, model.done.clone());
            }
        }

        /// Recovery by replay: a log applied again from any point on, as after a crash that kept more state
        /// than the checkpoint says, changes nothing in an engine, by position alone.
        #[test]
        fn replaying_a_suffix_of_the_log_changes_no_engine(
            log in prop::collection::vec(writes(), 1..30),
            from in any::<prop::sample::Index>(),
        ) {
            let mut outcomes = Vec::new();
            for kind in [EngineKind::Postgres, EngineKind::Scylla] {
                let mut engine = AnyEngine::new(kind);
                let mut apply = |at: usize| {
                    let txn = TxnId(at as u64);
                    engine.apply(at as u64 + 1, WriteId { txn, undo: false }, &log[at]).unwrap();
                    engine.clone()
                };
                let once = (0..log.len()).map(&mut apply).last().unwrap();
                let again = (from.index(log.len())..log.len()).map(apply).last().unwrap();
                prop_assert_eq!(&once, &again);
                outcomes.push(once.rows().map(|(key, row)| (key, row.clone())).collect::<Vec<_>>());
            }
            prop_assert_eq!(&outcomes[0], &outcomes[1]);
        }

        #[test]
        fn a_snapshot_reads_every_row_as_it_was(
            log in prop::collection::vec(writes(), 1..30),
            at in any::<prop::sample::Index>(),
        ) {
            let mut engine = Postgres::default();
            let position = at.index(log.len()) as u64 + 1;
            let mut then = BTreeMap::new();
            for (at, writes) in (1u64..).zip(&log) {
                let writer = WriteId { txn: TxnId(at), undo: false };
                engine.apply(at, writer, writes).unwrap();
                if at == position {
                    engine.open_snapshot(position);
                    then = engine.rows().map(|(key, row)| (key, row.clone())).collect();
                }
            }
            for row in 0..5 {
                let seen = engine.read_at(key(row), position);
                let initial = Row::initial(Value::Int(0));
                let expected = then.get(&key(row));
                prop_assert!(seen == expected || (expected.is_none() && seen == Some(&initial)));
            }
        }
    }

    #[test]
    fn an_engine_refuses_a_second_prepared_writer_of_a_row_and_names_the_first() {
        for kind in [EngineKind::Postgres, EngineKind::Scylla] {
            let mut engine = AnyEngine::new(kind);
            let write = [Write {
                key: key(1),
                op: Op::Add(1),
            }];
            engine.prepare(TxnId(1), &write).unwrap();
            let conflict = Err(EngineError::Conflict {
                key: key(1),
                holder: TxnId(1),
            });
            assert_eq!(engine.prepare(TxnId(2), &write), conflict);
            let writer = WriteId {
                txn: TxnId(2),
                undo: false,
            };
            assert_eq!(engine.apply(1, writer, &write), conflict);
            engine.rollback_prepared(TxnId(1)).unwrap();
            assert_eq!(engine.apply(1, writer, &write), Ok(()));
        }
    }

    #[test]
    fn without_snapshots_a_row_keeps_one_version() {
        let mut engine = Postgres::default();
        let write = [Write {
            key: key(1),
            op: Op::Put(1),
        }];
        let mut sizes = BTreeSet::new();
        for position in 200..300 {
            engine.apply(position, WriteId::default(), &write).unwrap();
            sizes.insert(postcard::to_stdvec(&engine).unwrap().len());
        }
        assert_eq!(sizes.len(), 1);
    }
}
