//! Transactions as data: the same operation runs unchanged under every protocol.
//!
//! A [`Txn`] declares what it reads, the guards under which it may take effect, and its effects, each with
//! a compensation for protocols that undo instead of locking. [`Txn::evaluate`] is the whole procedure:
//! deterministic, free of side effects, and keyed by [`TxnId`] so that engines apply it at most once.
//!
//! A *dependent* transaction (Thomson et al., SIGMOD 2012, section 3.2.1) has a [`Target`] whose key
//! follows from a value: its footprint is known only after a reconnaissance read, and [`Txn::evaluate`]
//! says [`Evaluation::Moved`] when the value has changed since.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::zoo::{self, Bug};

/// Identifies a transaction, and with it every duplicate, retry and replay of it. Zero is the writer of
/// the initial state and never a client's transaction.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TxnId(pub u64);

impl TxnId {
    /// The writer of the initial state.
    pub const INITIAL: TxnId = TxnId(0);
}

impl Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{}", self.0)
    }
}

/// A table of the scenario, by position.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableId(pub u8);

/// A data partition, by position.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u16);

impl Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// A row of a table: the unit of locking, versioning and placement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Key {
    /// The table.
    pub table: TableId,
    /// The row within the table.
    pub row: u32,
}

impl Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.table.0, self.row)
    }
}

/// What a row holds.
///
/// Text formats show a number or an array. Binary ones (logs, checkpoints) say first which it is, because
/// they do not describe themselves.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Value {
    /// A quantity: a balance, a position, a number of free seats, a register.
    Int(i64),
    /// A list that only grows, for histories that show their own version order (Elle, section 4). Shared, because a read
    /// is copied into messages, outcomes, logs and histories.
    List(Arc<[u64]>),
}

/// A value as text formats show it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TextValue<'a> {
    Int(i64),
    List(Cow<'a, [u64]>),
}

/// A value as binary formats hold it.
#[derive(Serialize, Deserialize)]
enum BinaryValue<'a> {
    Int(i64),
    List(Cow<'a, [u64]>),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self, serializer.is_human_readable()) {
            (Value::Int(value), true) => TextValue::Int(*value).serialize(serializer),
            (Value::List(list), true) => TextValue::List(Cow::Borrowed(list)).serialize(serializer),
            (Value::Int(value), false) => BinaryValue::Int(*value).serialize(serializer),
            (Value::List(list), false) => {
                BinaryValue::List(Cow::Borrowed(list)).serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            TextValue::deserialize(deserializer).map(|value| match value {
                TextValue::Int(value) => Value::Int(value),
                TextValue::List(list) => Value::List(list.into()),
            })
        } else {
            BinaryValue::deserialize(deserializer).map(|value| match value {
                BinaryValue::Int(value) => Value::Int(value),
                BinaryValue::List(list) => Value::List(list.into()),
            })
        }
    }
}

impl Value {
    /// The quantity; a list counts its elements.
    pub fn as_int(&self) -> i64 {
        match self {
            Value::Int(value) => *value,
            Value::List(list) => list.len() as i64,
        }
    }
}

/// Which write made a version: a transaction writes a key at most once, and undoes that at most once.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct WriteId {
    /// The writing transaction.
    pub txn: TxnId,
    /// Whether this is the compensation of that transaction's write.
    #[serde(default)]
    pub undo: bool,
}

/// A version of a row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The content.
    pub value: Value,
    /// The write that made this version.
    pub writer: WriteId,
}

impl Row {
    /// A row as the scenario starts with it.
    pub fn initial(value: Value) -> Self {
        Self {
            value,
            writer: WriteId::default(),
        }
    }
}

/// What an effect does to one row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Add to a quantity.
    Add(i64),
    /// Replace a quantity.
    Put(i64),
    /// Append to a list an element that no other operation appends.
    Append(u64),
    /// Remove an element from a list: only ever a compensation.
    Remove(u64),
}

impl Op {
    /// The value after this operation on `value`. An operation on the wrong kind of row replaces it, so
    /// that the procedure is total; scenarios are validated so that this does not happen.
    pub fn apply(self, value: &Value) -> Value {
        match (self, value) {
            (Op::Add(by), value) => Value::Int(value.as_int().saturating_add(by)),
            (Op::Put(value), _) => Value::Int(value),
            (Op::Append(element), Value::List(list)) => {
                Value::List(list.iter().copied().chain([element]).collect())
            }
            (Op::Append(element), Value::Int(_)) => Value::List([element].into()),
            (Op::Remove(element), Value::List(list)) => {
                Value::List(list.iter().copied().filter(|e| *e != element).collect())
            }
            (Op::Remove(_), Value::Int(_)) => Value::List([].into()),
        }
    }

    /// The operation that semantically undoes this one, given the value that it replaced (Garcia-Molina
    /// and Salem, SIGMOD 1987: a compensating transaction, not a restored pre-image, wherever the
    /// operation commutes). A `Put` can only restore, and so loses updates made in between.
    pub fn compensation(self, before: &Value) -> Op {
        match self {
            Op::Add(by) => Op::Add(-by),
            Op::Put(_) => Op::Put(before.as_int()),
            Op::Append(element) => Op::Remove(element),
            Op::Remove(element) => Op::Append(element),
        }
    }
}

/// Where an effect or a read goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A key known in advance.
    Key(Key),
    /// A key that follows from a value: `then` if the row `on` holds at least `at_least`, else
    /// `otherwise`. The transaction is dependent, and `on` belongs to its read set.
    Choice {
        /// The row that decides.
        on: Key,
        /// The threshold.
        at_least: i64,
        /// The key at or above the threshold.
        then: Key,
        /// The key below it.
        otherwise: Key,
    },
}

impl Target {
    fn resolve(&self, value_of: &impl Fn(Key) -> i64) -> Key {
        match *self {
            Target::Key(key) => key,
            Target::Choice {
                on,
                at_least,
                then,
                otherwise,
            } => {
                if value_of(on) >= at_least {
                    then
                } else {
                    otherwise
                }
            }
        }
    }
}

/// A condition on rows: where it fails, the transaction declines, which is its own logic and no
/// system-induced abort.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// The rows' quantities add up to at least `at_least`. One key makes it local to a shard.
    SumAtLeast {
        /// The rows, without repetition.
        keys: Vec<Key>,
        /// The bound.
        at_least: i64,
    },
    /// The rows' quantities add up to at most `at_most`.
    SumAtMost {
        /// The rows, without repetition.
        keys: Vec<Key>,
        /// The bound.
        at_most: i64,
    },
}

impl Guard {
    /// The rows that the guard reads.
    pub fn keys(&self) -> &[Key] {
        match self {
            Guard::SumAtLeast { keys, .. } | Guard::SumAtMost { keys, .. } => keys,
        }
    }

    /// Whether the guard holds, given each of its rows' quantities.
    pub fn holds(&self, value_of: impl Fn(Key) -> i64) -> bool {
        let sum = |keys: &[Key]| keys.iter().map(|key| value_of(*key)).sum::<i64>();
        match self {
            Guard::SumAtLeast { keys, at_least } => sum(keys) >= *at_least,
            Guard::SumAtMost { keys, at_most } => sum(keys) <= *at_most,
        }
    }
}

/// One write of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Effect {
    /// The row.
    pub target: Target,
    /// What happens to it.
    pub op: Op,
}

/// A transaction: a stored procedure's call with everything it will do. Every field is always written,
/// because logs keep transactions in a format that does not describe itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Txn {
    /// Identity, across retries.
    pub id: TxnId,
    /// Rows that the client wants to see, besides those that guards and effects touch (every one of
    /// those is returned too, as it was before the transaction).
    #[serde(default)]
    pub reads: Vec<Target>,
    /// Conditions, all of which must hold.
    #[serde(default)]
    pub guards: Vec<Guard>,
    /// Writes, in the order in which a saga performs them; no key twice.
    #[serde(default)]
    pub effects: Vec<Effect>,
    /// For sagas: the position in `effects` of the pivot. Effects before it are compensatable, those
    /// after it retriable. `None`: all are compensatable, and the last one is the pivot.
    #[serde(default)]
    pub pivot: Option<u16>,
}

/// The rows that a transaction touches.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Footprint {
    /// Rows read, including every row written (each is returned as it was before).
    pub reads: BTreeSet<Key>,
    /// Rows written.
    pub writes: BTreeSet<Key>,
}

/// A resolved write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Write {
    /// The row.
    pub key: Key,
    /// What happens to it.
    pub op: Op,
}

/// A row as a transaction saw it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Read {
    /// The row.
    pub key: Key,
    /// The version seen, before the transaction's own writes.
    pub row: Row,
}

/// What the procedure decides.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Evaluation {
    /// Every guard holds: these writes, in the order of the effects.
    Commit(Vec<Write>),
    /// The guard at this position does not hold.
    Declined(u16),
    /// The values lead to other rows than the footprint that was locked or sequenced.
    Moved,
}

impl Txn {
    /// Whether the footprint depends on values.
    pub fn is_dependent(&self) -> bool {
        self.targets()
            .any(|target| matches!(target, Target::Choice { .. }))
    }

    /// Whether the transaction writes nothing.
    pub fn is_read_only(&self) -> bool {
        self.effects.is_empty()
    }

    /// The rows whose values decide where the transaction goes: empty unless it is dependent.
    pub fn pointers(&self) -> BTreeSet<Key> {
        self.targets()
            .filter_map(|target| match target {
                Target::Key(_) => None,
                Target::Choice { on, .. } => Some(*on),
            })
            .collect()
    }

    /// The rows touched, given the quantities of the [`pointers`](Self::pointers). For a transaction that
    /// is not dependent `value_of` is never called.
    pub fn footprint(&self, value_of: impl Fn(Key) -> i64) -> Footprint {
        let writes: BTreeSet<Key> = self
            .effects
            .iter()
            .map(|effect| effect.target.resolve(&value_of))
            .collect();
        let mut reads = writes.clone();
        reads.extend(self.reads.iter().map(|target| target.resolve(&value_of)));
        reads.extend(self.guards.iter().flat_map(|guard| guard.keys()));
        reads.extend(self.pointers());
        Footprint { reads, writes }
    }

    /// Every row that the transaction may touch, whatever its pointers hold.
    pub fn every_key(&self) -> BTreeSet<Key> {
        let sides = [i64::MIN, i64::MAX].map(|value| self.footprint(|_| value).reads);
        sides.into_iter().flatten().collect()
    }

    /// The writes, given the quantities of the pointers, whether or not the guards hold.
    pub fn writes(&self, value_of: impl Fn(Key) -> i64) -> Vec<Write> {
        self.effects
            .iter()
            .map(|effect| Write {
                key: effect.target.resolve(&value_of),
                op: effect.op,
            })
            .collect()
    }

    /// Runs the procedure on the rows of `footprint`, which `row` must know.
    ///
    /// # Panics
    ///
    /// When `row` lacks a row of the footprint: a protocol that gets here without having read what it
    /// declared is broken.
    pub fn evaluate<'a>(
        &self,
        footprint: &Footprint,
        row: impl Fn(Key) -> Option<&'a Row>,
    ) -> Evaluation {
        let value_of = |key: Key| match row(key) {
            Some(row) => row.value.as_int(),
            None => panic!("{}: row {key} was declared and not read", self.id),
        };
        let moved = self.is_dependent() && self.footprint(value_of) != *footprint;
        if moved && !zoo::planted(Bug::FootprintNotRechecked) {
            return Evaluation::Moved;
        }
        match self.guards.iter().position(|guard| !guard.holds(value_of)) {
            Some(guard) => Evaluation::Declined(guard as u16),
            None => Evaluation::Commit(self.writes(value_of)),
        }
    }

    /// Every row that it may touch, whatever the values; some more than once.
    pub fn keys(&self) -> Vec<Key> {
        let of_target = |target: &Target| match *target {
            Target::Key(key) => vec![key],
            Target::Choice {
                on,
                then,
                otherwise,
                ..
            } => vec![on, then, otherwise],
        };
        let mut keys: Vec<Key> = self.targets().flat_map(of_target).collect();
        keys.extend(self.guards.iter().flat_map(Guard::keys));
        keys
    }

    /// A row that two effects write, whatever the pointers hold.
    pub fn written_twice(&self) -> Option<Key> {
        let mut written = BTreeSet::new();
        let known = |effect: &Effect| match effect.target {
            Target::Key(key) => Some(key),
            Target::Choice { .. } => None,
        };
        let mut keys = self.effects.iter().filter_map(known);
        keys.find(|key| !written.insert(*key))
    }

    fn targets(&self) -> impl Iterator<Item = &Target> {
        self.reads
            .iter()
            .chain(self.effects.iter().map(|effect| &effect.target))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn key(row: u32) -> Key {
        Key {
            table: TableId(0),
            row,
        }
    }

    fn rows(values: &[i64]) -> BTreeMap<Key, Row> {
        let row = |(at, value): (usize, &i64)| (key(at as u32), Row::initial(Value::Int(*value)));
        values.iter().enumerate().map(row).collect()
    }

    fn among<'a>(rows: &'a BTreeMap<Key, Row>) -> impl Fn(Key) -> Option<&'a Row> {
        |key| rows.get(&key)
    }

    fn dependent() -> Txn {
        let choice = Target::Choice {
            on: key(0),
            at_least: 10,
            then: key(1),
            otherwise: key(2),
        };
        Txn {
            id: TxnId(1),
            reads: vec![],
            guards: vec![],
            effects: vec![Effect {
                target: choice,
                op: Op::Put(7),
            }],
            pivot: None,
        }
    }

    #[test]
    fn a_dependent_transaction_moves_when_its_pointer_changes_sides() {
        let txn = dependent();
        let footprint = txn.footprint(|_| 3);
        assert_eq!(footprint.writes, BTreeSet::from([key(2)]));
        assert!(
            footprint.reads.contains(&key(0)),
            "the pointer belongs to the read set"
        );
        assert_eq!(
            txn.evaluate(&footprint, among(&rows(&[9, 0, 0]))),
            Evaluation::Commit(vec![Write {
                key: key(2),
                op: Op::Put(7)
            }])
        );
        assert_eq!(
            txn.evaluate(&footprint, among(&rows(&[10, 0, 0]))),
            Evaluation::Moved
        );
    }

    #[test]
    fn the_first_guard_that_fails_is_the_one_named() {
        let mut txn = dependent();
        txn.effects = vec![Effect {
            target: Target::Key(key(0)),
            op: Op::Add(-5),
        }];
        txn.guards = vec![
            Guard::SumAtLeast {
                keys: vec![key(0), key(1)],
                at_least: 5,
            },
            Guard::SumAtMost {
                keys: vec![key(1)],
                at_most: 0,
            },
        ];
        let footprint = txn.footprint(|_| 0);
        assert_eq!(
            txn.evaluate(&footprint, among(&rows(&[2, 2]))),
            Evaluation::Declined(0)
        );
        assert_eq!(
            txn.evaluate(&footprint, among(&rows(&[4, 2]))),
            Evaluation::Declined(1)
        );
        assert!(matches!(
            txn.evaluate(&footprint, among(&rows(&[5, 0]))),
            Evaluation::Commit(_)
        ));
    }

    #[test]
    fn transactions_and_values_survive_text_and_binary_formats() {
        let mut txn = dependent();
        txn.guards = vec![Guard::SumAtMost {
            keys: vec![key(3)],
            at_most: -1,
        }];
        for txn in [dependent(), txn] {
            let binary = postcard::to_stdvec(&txn).unwrap();
            assert_eq!(postcard::from_bytes::<Txn>(&binary).unwrap(), txn);
            let text = serde_json::to_string(&txn).unwrap();
            assert_eq!(serde_json::from_str::<Txn>(&text).unwrap(), txn);
        }
        for (value, text) in [
            (Value::Int(-3), "-3"),
            (Value::List([4, 5].into()), "[4,5]"),
            (Value::List([].into()), "[]"),
        ] {
            let binary = postcard::to_stdvec(&value).unwrap();
            assert_eq!(postcard::from_bytes::<Value>(&binary).unwrap(), value);
            assert_eq!(serde_json::to_string(&value).unwrap(), text);
            assert_eq!(serde_json::from_str::<Value>(text).unwrap(), value);
        }
    }

    #[test]
    fn a_compensation_undoes_its_operation_even_after_commuting_writes() {
        for (op, before) in [
            (Op::Add(5), Value::Int(3)),
            (Op::Append(9), Value::List([1].into())),
            (Op::Put(4), Value::Int(2)),
        ] {
            assert_eq!(op.compensation(&before).apply(&op.apply(&before)), before);
        }
        let after = Op::Add(1).apply(&Op::Add(5).apply(&Value::Int(0)));
        assert_eq!(
            Op::Add(5).compensation(&Value::Int(0)).apply(&after),
            Value::Int(1)
        );
    }
}
