//! What clients saw, as data: the columnar history that every checker reads.
//!
//! A history is built once, by [`HistoryBuilder`], and never changes. Operations live in three parallel
//! columns (13 bytes each) and lists that are prefixes of one another share their elements, so that a
//! history whose text is quadratic (every read repeats the whole list) costs memory in the number of
//! *distinct* elements only.
//!
//! ```
//! use ordain::check::history::{HistoryBuilder, Status};
//! let mut history = HistoryBuilder::new();
//! history.begin(0, 1);
//! history.append(7, 100);
//! history.end(Status::Ok, Some(2));
//! history.begin(1, 3);
//! history.read_list(7, &[100]);
//! history.end(Status::Ok, Some(4));
//! let history = history.finish();
//! assert_eq!(history.len(), 2);
//! ```

use std::collections::{BTreeMap, BTreeSet};

/// Index of a transaction in its [`History`]: dense, from 0, in the order of [`HistoryBuilder::begin`].
pub type TxnId = u32;

/// Index of a key in its [`History`]: dense, from 0, in the order of first use.
pub type KeyId = u32;

/// An instant at which a transaction that never completed "completes".
pub const NEVER: u64 = u64::MAX;

/// Values from here on may stand for a text, see [`HistoryBuilder::name`].
pub(super) const NAME_BASE: u64 = 1 << 63;

/// What a client knows about the fate of its transaction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Status {
    /// Committed, and the client was told.
    Ok,
    /// Certainly without effect.
    Fail,
    /// Indeterminate: it may have committed, now or at any later time, or never.
    Info,
}

impl Status {
    /// As Jepsen writes it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Fail => "fail",
            Status::Info => "info",
        }
    }
}

/// One operation of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Op<'a> {
    /// Append `value` to the list under `key`. Appended values are unique per key.
    Append {
        /// The list's key.
        key: KeyId,
        /// The appended element.
        value: u64,
    },
    /// Read the whole list under `key`; a list that does not exist is empty.
    ReadList {
        /// The list's key.
        key: KeyId,
        /// Every element, oldest first.
        list: &'a [u64],
    },
    /// Overwrite the register `key` blindly.
    Write {
        /// The register's key.
        key: KeyId,
        /// The new value.
        value: u64,
    },
    /// Read the register `key`.
    Read {
        /// The register's key.
        key: KeyId,
        /// The value, or `None` for the initial state.
        value: Option<u64>,
    },
    /// Compare the register with `expected` and, being equal, set it to `new`.
    Cas {
        /// The register's key.
        key: KeyId,
        /// The value that must be there.
        expected: u64,
        /// The value set.
        new: u64,
    },
    /// Add `delta` to a counter, or the element `delta` to a set.
    Add {
        /// The counter's or set's key.
        key: KeyId,
        /// The addend.
        delta: i64,
    },
    /// Add an element that is no number to a set.
    Insert {
        /// The set's key.
        key: KeyId,
        /// The element: a [name](HistoryBuilder::name).
        value: u64,
    },
    /// Put `value` at the end of a queue.
    Enqueue {
        /// The queue's key.
        key: KeyId,
        /// What was put into it.
        value: u64,
    },
    /// Take what is at the head of a queue.
    Dequeue {
        /// The queue's key.
        key: KeyId,
        /// What came out, or `None` if the queue was found empty.
        value: Option<u64>,
    },
    /// Take what is at the head of a queue, whatever it is: the client never learnt it.
    DequeueUnknown {
        /// The queue's key.
        key: KeyId,
    },
    /// A read whose result the client never learnt.
    ReadUnknown {
        /// The key.
        key: KeyId,
    },
}

impl Op<'_> {
    /// The key that the operation touches.
    pub fn key(&self) -> KeyId {
        match *self {
            Op::Append { key, .. }
            | Op::ReadList { key, .. }
            | Op::Write { key, .. }
            | Op::Read { key, .. }
            | Op::Cas { key, .. }
            | Op::Add { key, .. }
            | Op::Insert { key, .. }
            | Op::Enqueue { key, .. }
            | Op::Dequeue { key, .. }
            | Op::DequeueUnknown { key }
            | Op::ReadUnknown { key } => key,
        }
    }
}

/// The column form of an operation's kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Append,
    ReadList,
    Write,
    Read,
    ReadNil,
    Cas,
    Add,
    Insert,
    Enqueue,
    Dequeue,
    DequeueNil,
    DequeueUnknown,
    ReadUnknown,
}

impl Kind {
    /// Is it an operation on lists?
    pub fn is_list(self) -> bool {
        matches!(self, Kind::Append | Kind::ReadList)
    }

    /// Is it an operation on a register?
    pub fn is_register(self) -> bool {
        matches!(self, Kind::Write | Kind::Read | Kind::ReadNil | Kind::Cas)
    }
}

/// A list read, as a prefix of a shared trunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ListRef {
    /// Index into the history's trunks.
    pub trunk: u32,
    /// How many of the trunk's elements were read.
    pub len: u32,
}

impl ListRef {
    fn pack(self) -> u64 {
        u64::from(self.trunk) << 32 | u64::from(self.len)
    }

    /// The inverse of the packing used in the argument column.
    pub fn unpack(arg: u64) -> Self {
        ListRef {
            trunk: (arg >> 32) as u32,
            len: arg as u32,
        }
    }
}

/// The longest of a family of lists, each a prefix of the next.
#[derive(Clone, Debug)]
pub(super) struct Trunk {
    /// The key that the lists were read from.
    pub key: KeyId,
    /// The elements, oldest first.
    pub elements: Vec<u64>,
    /// Next older trunk of the same key, or [`NONE`].
    older: u32,
}

/// No trunk.
const NONE: u32 = u32::MAX;

/// How many trunks of one key a new list is compared with before it founds its own.
const TRUNKS_TRIED: usize = 8;

/// Header of a transaction, without its operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The client process: at most one of its transactions is outstanding.
    pub process: u64,
    /// Instant of the invocation.
    pub invoke: u64,
    /// Instant of the completion, or [`NEVER`].
    pub complete: u64,
    /// What the client was told.
    pub status: Status,
}

/// A transaction in a [`History`].
#[derive(Clone, Copy)]
pub struct Txn<'a> {
    /// Its index.
    pub id: TxnId,
    /// Process, instants and status.
    pub header: Header,
    history: &'a History,
}

impl<'a> Txn<'a> {
    /// The operations, in program order.
    pub fn ops(&self) -> impl ExactSizeIterator<Item = Op<'a>> + DoubleEndedIterator + use<'a> {
        let history = self.history;
        history.op_range(self.id).map(move |op| history.op(op))
    }

    /// May the transaction's effects exist: it committed, or nobody knows that it did not?
    pub fn may_have_happened(&self) -> bool {
        self.header.status != Status::Fail
    }
}

/// Transactions as their clients saw them.
#[derive(Clone, Default)]
pub struct History {
    headers: Vec<Header>,
    /// `op_start[t]..op_start[t + 1]` are the operations of transaction `t`.
    op_start: Vec<u32>,
    pub(super) kinds: Vec<Kind>,
    pub(super) op_keys: Vec<KeyId>,
    pub(super) args: Vec<u64>,
    cas: Vec<(u64, u64)>,
    pub(super) trunks: Vec<Trunk>,
    newest_trunk: Vec<u32>,
    keys: Vec<u64>,
    names: Vec<Box<str>>,
    version_orders: BTreeMap<KeyId, Vec<u64>>,
    accounts: BTreeSet<KeyId>,
    balances: BTreeSet<TxnId>,
    initial: BTreeMap<KeyId, u64>,
    workload: Option<Object>,
    skipped: Vec<Skipped>,
    remarks: Vec<String>,
}

/// What a key holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Object {
    /// Written, read, compared and set. A mutex is one that is compared and set between two values.
    Register,
    /// Added to, and read as a number (two's complement).
    Counter,
    /// Elements added, and read as a list in any order.
    Set,
    /// Appended to, and read as a list.
    List,
    /// Values put in at the end and taken out at the head.
    Queue,
    /// The balance of a bank's account. All of them together are one object.
    Account,
}

/// Something that a file holds and nobody judges.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Skipped {
    /// What it is, in words.
    pub what: String,
    /// How many.
    pub count: u64,
    /// Why it is not judged.
    pub why: &'static str,
}

/// The sorts of operations on a key.
#[derive(Clone, Default)]
struct Seen {
    account: bool,
    append: bool,
    list: bool,
    write: bool,
    value: bool,
    add: bool,
    insert: bool,
    queue: bool,
}

impl Seen {
    fn note(&mut self, kind: Kind) {
        match kind {
            Kind::Append => self.append = true,
            Kind::ReadList => self.list = true,
            Kind::Write | Kind::Cas => self.write = true,
            Kind::Read => self.value = true,
            Kind::Add => self.add = true,
            Kind::Insert => self.insert = true,
            Kind::Enqueue | Kind::Dequeue | Kind::DequeueNil | Kind::DequeueUnknown => {
                self.queue = true;
            }
            Kind::ReadNil | Kind::ReadUnknown => {}
        }
    }

    /// What the key holds for certain. Operations that do not fit to it are judged as ones that it cannot have executed.
    fn object(&self) -> Option<Object> {
        let object = match self {
            Seen { account: true, .. } => Object::Account,
            Seen { queue: true, .. } => Object::Queue,
            Seen { append: true, .. } => Object::List,
            Seen { insert: true, .. } => Object::Set,
            Seen {
                add: true,
                list: true,
                ..
            } => Object::Set,
            Seen { add: true, .. } => Object::Counter,
            Seen { write: true, .. } => Object::Register,
            _ => return None,
        };
        Some(object)
    }

    /// What the key holds for certain, if it is not this object.
    fn other_than(&self, object: Object) -> Option<Object> {
        match (object, self.object()) {
            // Additions without reads tell nothing more.
            (Object::Set, Some(Object::Counter)) if !self.value => None,
            (Object::Set, None) if self.value => Some(Object::Register),
            (Object::Counter | Object::Register, None) if self.list => Some(Object::List),
            (_, told) => told.filter(|&told| told != object),
        }
    }

    /// What a key may hold that was only read, beside keys that hold these.
    fn guess(&self, told: &BTreeSet<Object>) -> Option<Object> {
        let fitting: &[Object] = match self {
            Seen { list: true, .. } => &[Object::List, Object::Set],
            Seen { value: true, .. } => &[Object::Register, Object::Counter],
            _ => &[Object::Register, Object::Counter, Object::List, Object::Set],
        };
        let mut others = fitting
            .iter()
            .copied()
            .filter(|object| told.contains(object));
        let only = others.next().filter(|_| others.next().is_none());
        only.or(match self {
            Seen { list: true, .. } => Some(Object::List),
            Seen { value: true, .. } => Some(Object::Register),
            _ => told.contains(&Object::List).then_some(Object::List),
        })
    }
}

impl History {
    /// The number of transactions.
    pub fn len(&self) -> usize {
        self.headers.len()
    }

    /// Are there no transactions?
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// The number of distinct keys; key ids run from 0 to here.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// The number of operations.
    pub fn op_count(&self) -> usize {
        self.kinds.len()
    }

    /// One transaction.
    ///
    /// # Panics
    /// If there is no such transaction.
    pub fn txn(&self, id: TxnId) -> Txn<'_> {
        Txn {
            id,
            header: self.headers[id as usize],
            history: self,
        }
    }

    /// All transactions, in the order of their ids.
    pub fn txns(&self) -> impl ExactSizeIterator<Item = Txn<'_>> {
        (0..self.headers.len() as u32).map(|id| self.txn(id))
    }

    /// One transaction's header.
    pub fn header(&self, id: TxnId) -> &Header {
        &self.headers[id as usize]
    }

    /// The caller's own number (or name, see [`HistoryBuilder::name`]) of a key.
    pub fn key_value(&self, key: KeyId) -> u64 {
        self.keys[key as usize]
    }

    /// A key as text.
    pub fn show_key(&self, key: KeyId) -> String {
        self.show_value(self.keys[key as usize])
    }

    /// A value as text.
    pub fn show_value(&self, value: u64) -> String {
        match value
            .checked_sub(NAME_BASE)
            .and_then(|i| self.names.get(usize::try_from(i).ok()?))
        {
            Some(name) => name.to_string(),
            None => value.to_string(),
        }
    }

    /// A value as a number that may be below zero: files give those by their texts, programs in two's complement.
    pub(super) fn signed_value(&self, value: u64) -> Option<i64> {
        let at = value.checked_sub(NAME_BASE);
        match at.and_then(|at| self.names.get(usize::try_from(at).ok()?)) {
            Some(name) => name.parse().ok(),
            None => Some(value as i64),
        }
    }

    /// The values that stand for numbers below zero, which files give by their texts.
    pub(super) fn signed_names(&self) -> BTreeMap<i64, u64> {
        let numbers = self.names.iter().zip(NAME_BASE..);
        let negative = numbers.filter(|(name, _)| name.starts_with('-'));
        negative
            .filter_map(|(name, value)| Some((name.parse().ok()?, value)))
            .collect()
    }

    /// A value as JSON: a number, or its name.
    pub(super) fn json_value(&self, value: u64) -> serde_json::Value {
        let at = value.checked_sub(NAME_BASE);
        match at.and_then(|at| self.names.get(usize::try_from(at).ok()?)) {
            Some(name) => name.to_string().into(),
            None => value.into(),
        }
    }

    /// The true order of the versions under `key`, where somebody could look inside the database.
    pub fn version_order(&self, key: KeyId) -> Option<&[u64]> {
        self.version_orders.get(&key).map(Vec::as_slice)
    }

    /// The list operations of these transactions (ascending, each once), as if the others had never been: what only others
    /// appended is missing from all lists and version orders.
    ///
    /// A part of a history that a model allows is allowed by it, since appends do not depend on what is there.
    /// Elements that nobody appended stay. The part's transactions are numbered by their places in `members`.
    pub fn list_part(&self, members: &[TxnId]) -> History {
        let stays = self.elements_of_part(members);
        let kept = |key: KeyId, list: &[u64]| -> Vec<u64> {
            let kept = list.iter().filter(|&&value| stays.contains(&(key, value)));
            kept.copied().collect()
        };
        let mut part = self.rebuild(members.iter().copied(), |part, name, op| match op {
            Op::Append { value, .. } => part.append(name, value),
            Op::ReadList { key, list } => part.read_list(name, &kept(key, list)),
            _ => {}
        });
        for (&key, order) in &self.version_orders {
            let order = kept(key, order);
            if !order.is_empty() {
                part.version_order(self.key_value(key), &order);
            }
        }
        part.finish()
    }

    /// These transactions, with what `copy` takes over of each operation and its key's name.
    fn rebuild(
        &self,
        members: impl IntoIterator<Item = TxnId>,
        copy: impl Fn(&mut HistoryBuilder, u64, Op<'_>),
    ) -> HistoryBuilder {
        let mut builder = HistoryBuilder::new();
        builder.history.names.clone_from(&self.names);
        for id in members {
            let header = self.header(id);
            builder.begin(header.process, header.invoke);
            for op in self.txn(id).ops() {
                copy(&mut builder, self.key_value(op.key()), op);
            }
            let complete = (header.complete != NEVER).then_some(header.complete);
            builder.end(header.status, complete);
        }
        builder
    }

    /// The keys that hold a bank's balances.
    pub(super) fn accounts(&self) -> &BTreeSet<KeyId> {
        &self.accounts
    }

    /// The transactions that read the balances of all accounts at once, as a map.
    pub(super) fn balances(&self) -> &BTreeSet<TxnId> {
        &self.balances
    }

    /// What a register held before anybody wrote it, where that is known: no read found nothing there.
    pub(super) fn initial_value(&self, key: KeyId) -> Option<u64> {
        self.initial.get(&key).copied()
    }

    /// Is it known of some register what it held at first?
    pub(super) fn has_initial_values(&self) -> bool {
        !self.initial.is_empty()
    }

    /// Says what all registers held before anybody wrote them: a number below 2^63, or a name. False if there is no register.
    pub fn start_registers_at(&mut self, text: &str) -> bool {
        let number = text
            .parse::<i64>()
            .ok()
            .and_then(|number| u64::try_from(number).ok());
        let known = self
            .names
            .iter()
            .zip(NAME_BASE..)
            .find(|(name, _)| &***name == text);
        let value = number.or(known.map(|(_, value)| value)).unwrap_or_else(|| {
            self.names.push(text.into());
            NAME_BASE + self.names.len() as u64 - 1
        });
        let registers = self.objects().into_iter().zip(0..);
        let registers = registers.filter(|&(object, _)| object == Some(Object::Register));
        for (_, key) in registers {
            self.initial.entry(key).or_insert(value);
        }
        !self.initial.is_empty()
    }

    /// What was read and is not judged, and why.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Remarks on what a file leaves open.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// What each key holds, told from all operations on it, those that failed too. A key that was only read holds what the
    /// others hold, if its reads fit and the others agree; `None` if nothing tells.
    pub fn objects(&self) -> Vec<Option<Object>> {
        let mut seen = vec![Seen::default(); self.keys.len()];
        for (kind, &key) in self.kinds.iter().zip(&self.op_keys) {
            seen[key as usize].note(*kind);
        }
        for &key in &self.accounts {
            seen[key as usize].account = true;
        }
        if let Some(workload) = self.workload {
            return seen.iter().map(|_| Some(workload)).collect();
        }
        let told: BTreeSet<Object> = seen.iter().filter_map(Seen::object).collect();
        let objects = seen
            .iter()
            .map(|seen| seen.object().or_else(|| seen.guess(&told)));
        objects.collect()
    }

    /// Takes all keys for this object, whatever a guess would say.
    ///
    /// # Errors
    /// If a key holds something else for certain: its name, and what it is.
    pub fn take_for(&mut self, workload: Object) -> Result<(), (String, Object)> {
        let mut seen = vec![Seen::default(); self.keys.len()];
        for (kind, &key) in self.kinds.iter().zip(&self.op_keys) {
            seen[key as usize].note(*kind);
        }
        for (seen, key) in seen.iter_mut().zip(0..) {
            seen.account = self.accounts.contains(&key);
            if let Some(other) = seen.other_than(workload) {
                return Err((self.show_key(key), other));
            }
        }
        self.workload = Some(workload);
        Ok(())
    }

    /// Does each transaction touch one object? A bank's accounts are one.
    pub fn is_local(&self) -> bool {
        let object = |key: KeyId| match self.accounts.contains(&key) {
            true => None,
            false => Some(key),
        };
        self.txns().all(|txn| {
            let mut keys = txn.ops().map(|op| object(op.key()));
            keys.next().is_none_or(|first| keys.all(|key| key == first))
        })
    }

    /// The operations on some keys, of the same transactions.
    pub(super) fn keys_part(&self, keeps: impl Fn(KeyId) -> bool) -> History {
        let mut part = self.rebuild(0..self.len() as TxnId, |part, name, op| match op {
            op if !keeps(op.key()) => {}
            op => part.push_op(name, op),
        });
        for (&key, order) in self.version_orders.iter().filter(|(key, _)| keeps(**key)) {
            part.version_order(self.key_value(key), order);
        }
        for (&key, &value) in self.initial.iter().filter(|(key, _)| keeps(**key)) {
            part.initial(self.key_value(key), value);
        }
        for &key in self.accounts.iter().filter(|key| keeps(**key)) {
            part.account(self.key_value(key));
        }
        part.history.balances.clone_from(&self.balances);
        part.history.workload = self.workload;
        part.finish()
    }

    /// The same history, in which the initial value of each register is what its readers find before anybody wrote it: nothing.
    /// Then nobody can have read nothing, which becomes a value that nobody wrote. None if somebody wrote a register's
    /// initial value again, so that it is open which of the two was read.
    pub(super) fn without_initial_values(&self) -> Option<History> {
        let initial = |key: KeyId| self.initial.get(&key).copied();
        let again = |op: Op<'_>| match op {
            Op::Write { key, value }
            | Op::Cas {
                key, new: value, ..
            } => initial(key) == Some(value),
            _ => false,
        };
        if (0..self.kinds.len()).any(|at| again(self.op(at))) {
            return None;
        }
        let nothing = NAME_BASE + self.names.len() as u64;
        let mut part = self.rebuild(0..self.len() as TxnId, |part, name, op| match op {
            Op::Read { key, value } if initial(key).is_some() => match value {
                Some(value) => part.read(name, Some(value).filter(|_| initial(key) != Some(value))),
                None => part.read(name, Some(nothing)),
            },
            Op::Cas { key, expected, new } if initial(key) == Some(expected) => {
                part.read(name, None);
                part.write(name, new);
            }
            op => part.push_op(name, op),
        });
        part.history.names.push("nil".into());
        for (&key, order) in &self.version_orders {
            part.version_order(self.key_value(key), order);
        }
        Some(part.finish())
    }

    /// The same history, in which each transaction also writes a key of its own and reads those of these transactions: lists or registers.
    pub(super) fn with_sights(&self, seen: &[Vec<TxnId>], lists: bool) -> History {
        let mut steps = BTreeMap::<u64, u64>::new();
        let names: Vec<String> = (self.headers.iter())
            .map(|header| {
                let step = steps.entry(header.process).or_default();
                *step += 1;
                format!("session {}, step {step}", self.show_value(header.process))
            })
            .collect();
        let mut builder = HistoryBuilder::new();
        builder.history.names.clone_from(&self.names);
        for (txn, seen) in self.txns().zip(seen) {
            builder.begin(txn.header.process, txn.header.invoke);
            for &other in seen {
                let key = builder.name(&names[other as usize]);
                match lists {
                    true => builder.read_list(key, &[1]),
                    false => builder.read(key, Some(1)),
                }
            }
            for op in txn.ops() {
                builder.push_op(self.key_value(op.key()), op);
            }
            let key = builder.name(&names[txn.id as usize]);
            match lists {
                true => builder.append(key, 1),
                false => builder.write(key, 1),
            }
            let complete = (txn.header.complete != NEVER).then_some(txn.header.complete);
            builder.end(txn.header.status, complete);
        }
        for (&key, order) in &self.version_orders {
            builder.version_order(self.key_value(key), order);
        }
        for (&key, &value) in &self.initial {
            builder.initial(self.key_value(key), value);
        }
        builder.finish()
    }

    /// The elements that these transactions appended, and those that they read and nobody appended.
    fn elements_of_part(&self, members: &[TxnId]) -> BTreeSet<(KeyId, u64)> {
        let (mut own, mut foreign) = (BTreeSet::new(), BTreeSet::new());
        for op in members.iter().flat_map(|&id| self.txn(id).ops()) {
            match op {
                Op::Append { key, value } => drop(own.insert((key, value))),
                Op::ReadList { key, list } => foreign.extend(list.iter().map(|&v| (key, v))),
                _ => {}
            }
        }
        for at in 0..self.kinds.len() {
            if self.kinds[at] == Kind::Append {
                foreign.remove(&(self.op_keys[at], self.args[at]));
            }
        }
        own.extend(foreign);
        own
    }

    /// The positions of a transaction's operations in the columns.
    pub(super) fn op_range(&self, id: TxnId) -> std::ops::Range<usize> {
        self.op_start[id as usize] as usize..self.op_start[id as usize + 1] as usize
    }

    /// The operation at a position in the columns.
    pub(super) fn op(&self, at: usize) -> Op<'_> {
        let (key, arg) = (self.op_keys[at], self.args[at]);
        match self.kinds[at] {
            Kind::Append => Op::Append { key, value: arg },
            Kind::ReadList => Op::ReadList {
                key,
                list: self.list(ListRef::unpack(arg)),
            },
            Kind::Write => Op::Write { key, value: arg },
            Kind::Read => Op::Read {
                key,
                value: Some(arg),
            },
            Kind::ReadNil => Op::Read { key, value: None },
            Kind::Cas => {
                let (expected, new) = self.cas[arg as usize];
                Op::Cas { key, expected, new }
            }
            Kind::Add => Op::Add {
                key,
                delta: arg as i64,
            },
            Kind::Insert => Op::Insert { key, value: arg },
            Kind::Enqueue => Op::Enqueue { key, value: arg },
            Kind::Dequeue => Op::Dequeue {
                key,
                value: Some(arg),
            },
            Kind::DequeueNil => Op::Dequeue { key, value: None },
            Kind::DequeueUnknown => Op::DequeueUnknown { key },
            Kind::ReadUnknown => Op::ReadUnknown { key },
        }
    }

    /// The elements that a list reference stands for.
    pub(super) fn list(&self, list: ListRef) -> &[u64] {
        if list.len == 0 {
            return &[];
        }
        &self.trunks[list.trunk as usize].elements[..list.len as usize]
    }
}

/// Builds a [`History`] transaction by transaction: [`begin`](Self::begin), operations, [`end`](Self::end).
///
/// Instants are any numbers that grow with real time (nanoseconds, line numbers). One transaction precedes
/// another in real time if its completion is *strictly* smaller than the other's invocation, so equal
/// instants are concurrent.
#[derive(Default)]
pub struct HistoryBuilder {
    history: History,
    key_ids: Table,
    name_ids: BTreeMap<Box<str>, u64>,
    open: bool,
    /// By key: whether an operation took it for a list, and whether one took it for a register.
    taken_for: Vec<(bool, bool)>,
    /// A key that was taken for both.
    torn: Option<KeyId>,
}

impl HistoryBuilder {
    /// An empty history.
    pub fn new() -> Self {
        let mut builder = HistoryBuilder::default();
        builder.history.op_start.push(0);
        builder
    }

    /// Starts a transaction of `process`, invoked at `invoke`.
    ///
    /// # Panics
    /// If the transaction before it was not ended, or there are 2^32 of them.
    pub fn begin(&mut self, process: u64, invoke: u64) -> TxnId {
        assert!(!self.open, "the transaction before was not ended");
        self.open = true;
        let id = u32::try_from(self.history.headers.len()).expect("fewer than 2^32 transactions");
        self.history.headers.push(Header {
            process,
            invoke,
            complete: NEVER,
            status: Status::Info,
        });
        id
    }

    /// Ends the transaction; `complete` is `None` if no answer ever came.
    ///
    /// # Panics
    /// If no transaction was begun, or it completes before its invocation.
    pub fn end(&mut self, status: Status, complete: Option<u64>) {
        assert!(self.open, "no transaction was begun");
        self.open = false;
        let header = self.history.headers.last_mut().expect("begun above");
        header.status = status;
        header.complete = complete.unwrap_or(NEVER);
        assert!(header.invoke <= header.complete, "completed before invoked");
        let end = u32::try_from(self.history.kinds.len()).expect("fewer than 2^32 operations");
        self.history.op_start.push(end);
    }

    /// Adds an append.
    pub fn append(&mut self, key: u64, value: u64) {
        self.push(Kind::Append, key, value);
    }

    /// Adds a list read that returned `list`.
    pub fn read_list(&mut self, key: u64, list: &[u64]) {
        let id = self.key_id(key);
        let list = self.intern(id, list).pack();
        self.push_id(Kind::ReadList, id, list);
    }

    /// Adds a blind write of a register.
    pub fn write(&mut self, key: u64, value: u64) {
        self.push(Kind::Write, key, value);
    }

    /// Adds a read of a register.
    pub fn read(&mut self, key: u64, value: Option<u64>) {
        match value {
            Some(value) => self.push(Kind::Read, key, value),
            None => self.push(Kind::ReadNil, key, 0),
        }
    }

    /// Adds a compare-and-set.
    pub fn cas(&mut self, key: u64, expected: u64, new: u64) {
        let arg = self.history.cas.len() as u64;
        self.history.cas.push((expected, new));
        self.push(Kind::Cas, key, arg);
    }

    /// Adds an increment of a counter or an addition to a set.
    pub fn add(&mut self, key: u64, delta: i64) {
        self.push(Kind::Add, key, delta as u64);
    }

    /// Adds a read whose result is not known: every read of a transaction that is not [`Status::Ok`].
    pub fn read_unknown(&mut self, key: u64) {
        self.push(Kind::ReadUnknown, key, 0);
    }

    /// Adds an element that is no number to a set.
    pub fn insert(&mut self, key: u64, value: u64) {
        self.push(Kind::Insert, key, value);
    }

    /// Adds a value put into a queue.
    pub fn enqueue(&mut self, key: u64, value: u64) {
        self.push(Kind::Enqueue, key, value);
    }

    /// Adds a value taken out of a queue, or that it was found empty.
    pub fn dequeue(&mut self, key: u64, value: Option<u64>) {
        match value {
            Some(value) => self.push(Kind::Dequeue, key, value),
            None => self.push(Kind::DequeueNil, key, 0),
        }
    }

    /// Adds a value taken out of a queue that nobody learnt.
    pub fn dequeue_unknown(&mut self, key: u64) {
        self.push(Kind::DequeueUnknown, key, 0);
    }

    /// Says that a key holds the balance of an account, of which it is not known what it was at first.
    pub fn account(&mut self, key: u64) {
        let key = self.key_id(key);
        self.history.accounts.insert(key);
    }

    /// Says that the transaction under way read the balances of all accounts at once.
    ///
    /// # Panics
    /// If no transaction is under way.
    pub fn balances(&mut self) {
        assert!(self.open, "balances outside of a transaction");
        let last = self.history.headers.len() - 1;
        self.history.balances.insert(last as TxnId);
    }

    /// Says what a register held before anybody wrote it.
    pub fn initial(&mut self, key: u64, value: u64) {
        let key = self.key_id(key);
        self.history.initial.insert(key, value);
    }

    /// Notes that something is not judged, and why.
    pub fn skip(&mut self, what: String, count: u64, why: &'static str) {
        self.history.skipped.push(Skipped { what, count, why });
    }

    /// Notes what a file leaves open.
    pub fn remark(&mut self, remark: String) {
        self.history.remarks.push(remark);
    }

    /// Adds an operation of another history under this key, with the names of that history.
    fn push_op(&mut self, name: u64, op: Op<'_>) {
        match op {
            Op::Append { value, .. } => self.append(name, value),
            Op::ReadList { list, .. } => self.read_list(name, list),
            Op::Write { value, .. } => self.write(name, value),
            Op::Read { value, .. } => self.read(name, value),
            Op::Cas { expected, new, .. } => self.cas(name, expected, new),
            Op::Add { delta, .. } => self.add(name, delta),
            Op::Insert { value, .. } => self.insert(name, value),
            Op::Enqueue { value, .. } => self.enqueue(name, value),
            Op::Dequeue { value, .. } => self.dequeue(name, value),
            Op::DequeueUnknown { .. } => self.dequeue_unknown(name),
            Op::ReadUnknown { .. } => self.read_unknown(name),
        }
    }

    /// States the true order of all versions of `key`, oldest first, as seen inside the database. Makes
    /// the check complete where clients did not read enough. False if it was stated before, and is replaced.
    pub fn version_order(&mut self, key: u64, values: &[u64]) -> bool {
        let id = self.key_id(key);
        let before = self.history.version_orders.insert(id, values.to_vec());
        before.is_none()
    }

    /// A number that stands for `text` as a key or value, for texts that are no integer below 2^63.
    pub fn name(&mut self, text: &str) -> u64 {
        if let Some(&id) = self.name_ids.get(text) {
            return id;
        }
        let id = NAME_BASE + self.history.names.len() as u64;
        self.history.names.push(text.into());
        self.name_ids.insert(text.into(), id);
        id
    }

    /// A value as text.
    pub(super) fn show_value(&self, value: u64) -> String {
        self.history.show_value(value)
    }

    /// A key that some operation took for a list and some other for a register, as text.
    pub(super) fn torn_key(&self) -> Option<String> {
        self.torn.map(|key| self.history.show_key(key))
    }

    /// Takes reads of nothing from keys that hold lists or sets to be reads of an empty list: a file may write both as
    /// nil.
    pub(super) fn nil_reads_of_lists(&mut self) {
        let objects = self.history.objects();
        let history = &mut self.history;
        let columns = history.kinds.iter_mut().zip(&history.op_keys);
        for ((kind, &key), arg) in columns.zip(&mut history.args) {
            let holds_list = matches!(objects[key as usize], Some(Object::List | Object::Set));
            if *kind == Kind::ReadNil && holds_list {
                *kind = Kind::ReadList;
                *arg = ListRef {
                    trunk: NONE,
                    len: 0,
                }
                .pack();
            }
        }
    }

    /// The finished history.
    ///
    /// # Panics
    /// If a transaction was begun and not ended.
    pub fn finish(self) -> History {
        assert!(!self.open, "the last transaction was not ended");
        self.history
    }

    fn push(&mut self, kind: Kind, key: u64, arg: u64) {
        let id = self.key_id(key);
        self.push_id(kind, id, arg);
    }

    fn push_id(&mut self, kind: Kind, key: KeyId, arg: u64) {
        assert!(self.open, "an operation outside of a transaction");
        let (list, register) = &mut self.taken_for[key as usize];
        *list |= kind.is_list();
        *register |= kind.is_register() && kind != Kind::ReadNil;
        if *list && *register {
            self.torn = Some(key);
        }
        self.history.kinds.push(kind);
        self.history.op_keys.push(key);
        self.history.args.push(arg);
    }

    fn key_id(&mut self, key: u64) -> KeyId {
        let next = self.history.keys.len() as u32;
        let id = self.key_ids.get_or_insert(key, next);
        if id == next {
            self.history.keys.push(key);
            self.history.newest_trunk.push(NONE);
            self.taken_for.push((false, false));
        }
        id
    }

    /// Finds a trunk that the list is a prefix of or extends, or founds one.
    fn intern(&mut self, key: KeyId, list: &[u64]) -> ListRef {
        let len = u32::try_from(list.len()).expect("fewer than 2^32 elements");
        let newest = self.history.newest_trunk[key as usize];
        let mut at = newest;
        for _ in 0..TRUNKS_TRIED {
            if at == NONE {
                break;
            }
            let trunk = &mut self.history.trunks[at as usize];
            let common = trunk.elements.len().min(list.len());
            if trunk.elements[..common] == list[..common] {
                trunk.elements.extend_from_slice(&list[common..]);
                return ListRef { trunk: at, len };
            }
            at = trunk.older;
        }
        if list.is_empty() {
            return ListRef {
                trunk: NONE,
                len: 0,
            };
        }
        let at = self.history.trunks.len() as u32;
        self.history.trunks.push(Trunk {
            key,
            elements: list.to_vec(),
            older: newest,
        });
        self.history.newest_trunk[key as usize] = at;
        ListRef { trunk: at, len }
    }
}

/// An open-addressing map from `u64` to `u32`: a tenth of the cost of the standard map with its keyed hash,
/// and the same on every run. The mixing is that of splitmix64, so that keys that differ in few bits spread.
#[derive(Default, Clone)]
pub(super) struct Table {
    slots: Vec<(u64, u32)>,
    len: usize,
}

impl Table {
    fn slot(&self, key: u64) -> usize {
        let mut z = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mask = self.slots.len() - 1;
        let mut at = (z ^ (z >> 31)) as usize & mask;
        while self.slots[at].1 != NONE && self.slots[at].0 != key {
            at = (at + 1) & mask;
        }
        at
    }

    /// The value under `key`, which becomes `value` if there was none. `u32::MAX` is not a value.
    pub fn get_or_insert(&mut self, key: u64, value: u32) -> u32 {
        debug_assert!(value != NONE);
        if (self.len + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let at = self.slot(key);
        if self.slots[at].1 == NONE {
            self.slots[at] = (key, value);
            self.len += 1;
        }
        self.slots[at].1
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(16);
        let old = std::mem::replace(&mut self.slots, vec![(0, NONE); size]);
        for (key, value) in old.into_iter().filter(|&(_, value)| value != NONE) {
            let at = self.slot(key);
            self.slots[at] = (key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_are_prefixes_share_one_trunk() {
        let mut builder = HistoryBuilder::new();
        builder.begin(0, 0);
        for list in [&[1, 2][..], &[1], &[], &[1, 2, 3], &[1, 2, 3, 4]] {
            builder.read_list(9, list);
        }
        builder.end(Status::Ok, Some(1));
        let history = builder.finish();
        assert_eq!(history.trunks.len(), 1);
        let lists: Vec<Op> = history.txn(0).ops().collect();
        let list = |list: &'static [u64]| Op::ReadList { key: 0, list };
        assert_eq!(
            lists,
            [
                list(&[1, 2]),
                list(&[1]),
                list(&[]),
                list(&[1, 2, 3]),
                list(&[1, 2, 3, 4])
            ]
        );
    }

    #[test]
    fn diverging_lists_keep_their_own_elements() {
        let mut builder = HistoryBuilder::new();
        builder.begin(0, 0);
        for n in 0..20 {
            builder.read_list(1, &[n, n + 1]);
        }
        builder.read_list(1, &[19, 20, 21]);
        builder.end(Status::Ok, None);
        let history = builder.finish();
        assert_eq!(history.trunks.len(), 20);
        for (n, op) in history.txn(0).ops().take(20).enumerate() {
            let n = n as u64;
            assert_eq!(
                op,
                Op::ReadList {
                    key: 0,
                    list: &[n, n + 1]
                }
            );
        }
    }

    #[test]
    fn names_print_as_their_text_and_numbers_as_numbers() {
        let mut builder = HistoryBuilder::new();
        let x = builder.name(":x");
        assert_eq!(x, builder.name(":x"));
        builder.begin(0, 0);
        builder.append(x, 5);
        builder.end(Status::Info, None);
        let history = builder.finish();
        assert_eq!(history.show_key(0), ":x");
        assert_eq!(history.show_value(5), "5");
        assert_eq!(history.show_value(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn the_table_finds_what_was_put_in_and_nothing_else() {
        let mut table = Table::default();
        for n in 0..10_000u32 {
            assert_eq!(table.get_or_insert(u64::from(n) << 40, n), n);
        }
        assert_eq!(table.get_or_insert(5 << 40, 77), 5);
        assert_eq!(table.get_or_insert(1, 10_000), 10_000);
    }
}
