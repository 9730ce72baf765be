//! Judges a history while it happens, and stops at the first event that makes it invalid.
//!
//! Events come in the order of their instants: invocations with what the transaction will write, completions with
//! what it read and, from whoever can look inside the database, the versions of a key as they come to stand.
//! Lists need none of the latter, since reads show their order; registers need it for every version.
//! Decides the serializable models, from plain to strict ([`TimeOrder`]); what it stops at, the checkers of whole
//! histories find too, in the same prefix.
//!
//! The dependency graph is kept in a topological order that follows its edges ([Pearce and
//! Kelly](super::topology)). Of each key there is a *tail*: a node between the last version known (its writer and
//! its readers) and whatever follows it, so that readers times writers is no product. Under real-time order the
//! past is dropped again: whatever leads to a completion that precedes every transaction under way can be on no
//! further cycle, unless it has writes of which nobody knows the place. Of the versions that the past wrote,
//! a key keeps their number and a digest (two polynomials modulo 2^61 - 1), so that memory follows what is under
//! way, the number of keys, and the transactions whose fate nobody knows. To read a version that the past has
//! replaced is a violation by itself. (Writes that nobody reads and nobody tells of stay without a place, and are
//! held for good: a later read must hold them.)
//!
//! ```
//! use ordain::check::online::{Action, Online};
//! use ordain::check::{Status, register::TimeOrder};
//!
//! let mut online = Online::new(TimeOrder::Realtime);
//! online.invoke(1, 100, 0, &[(7, 1)]).unwrap();
//! online.complete(2, 100, Status::Ok, &[Action::Append { key: 7, value: 1 }]).unwrap();
//! online.invoke(3, 101, 1, &[]).unwrap();
//! let stale = online.complete(4, 101, Status::Ok, &[Action::ReadList { key: 7, list: &[] }]);
//! assert_eq!(stale.unwrap_err().transactions, [100, 101]);
//! ```

use std::collections::{BTreeMap, BTreeSet};

pub use super::polygraph::TimeOrder;
use super::topology::Topology;
use super::{AnomalyKind, Status};

/// No node: what it would stand for is past.
const PAST: u32 = u32::MAX;

/// How many nodes are collected before the past is dropped, unless told otherwise.
const SLACK: usize = 1024;

/// One operation of a transaction. Keys and values are the caller's numbers; a key's values are unique.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action<'a> {
    /// Append `value` to the list under `key`.
    Append {
        /// The list's key.
        key: u64,
        /// The appended element.
        value: u64,
    },
    /// A read of the whole list under `key`.
    ReadList {
        /// The list's key.
        key: u64,
        /// Every element, oldest first.
        list: &'a [u64],
    },
    /// Overwrite the register `key`. Only a transaction's last write of a key is a version.
    Write {
        /// The register's key.
        key: u64,
        /// The new version.
        value: u64,
    },
    /// A read of the register `key`.
    Read {
        /// The register's key.
        key: u64,
        /// The version, or `None` for the initial state.
        value: Option<u64>,
    },
}

/// Why one transaction precedes the next in a cycle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Because {
    /// It wrote the key earlier.
    WriteWrite(u64),
    /// Its write of the key was read.
    WriteRead(u64),
    /// It read the key before the other wrote it.
    ReadWrite(u64),
    /// It completed before the other was invoked.
    Time,
    /// By way of transactions that are held no more.
    Past,
}

/// The first event that made the history invalid.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{explanation}")]
pub struct Stop {
    /// The anomaly; a cycle is that of the model ([`AnomalyKind::NotSerializable`] and its kin). None if the
    /// events are no history: a value written twice.
    pub kind: Option<AnomalyKind>,
    /// The transactions that it takes, by the caller's numbers.
    pub transactions: Vec<u64>,
    /// The cycle, if it is one: each transaction with why it precedes the next; the last precedes the first.
    pub cycle: Vec<(u64, Because)>,
    /// In words.
    pub explanation: String,
}

/// What a node stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    Txn(u64),
    /// Between a key's last version and what follows it.
    Tail(u64),
    /// After some completions, before later invocations.
    Barrier,
    /// A barrier up to which the past was dropped: what is left of that past leads to it, and by it to the next
    /// one, or every write without a place would lead to every later one.
    Floor,
    /// A transaction that failed.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    from: u32,
    to: u32,
    because: Because,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Write {
    key: u64,
    value: u64,
    /// Its place in the key's order is known.
    placed: bool,
    /// The transaction writes it if it commits.
    certain: bool,
}

/// A transaction that is under way, or whose writes have no place yet.
#[derive(Clone, Debug)]
struct Txn {
    node: u32,
    process: u64,
    sequence: u64,
    /// The barrier that it was invoked after.
    since: u32,
    /// It committed, as far as anybody can tell.
    live: bool,
    writes: Vec<Write>,
}

impl Txn {
    fn is_placed(&self) -> bool {
        self.writes.iter().all(|write| write.placed)
    }

    fn has_unplaced(&self, key: u64) -> bool {
        let mut writes = self.writes.iter();
        writes.any(|write| write.key == key && !write.placed)
    }
}

#[derive(Clone, Copy, Debug)]
struct Version {
    value: u64,
    writer: u32,
}

/// Versions that only their number and a digest are known of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Frozen {
    len: usize,
    digest: [u64; 2],
    /// The newest of them.
    last: u64,
}

impl Frozen {
    fn push(&mut self, value: u64) {
        const PRIME: u128 = (1 << 61) - 1;
        // Digits of pi: nothing up the sleeve.
        const BASES: [u128; 2] = [0x0243_f6a8_885a_308d, 0x0313_198a_2e03_7073];
        for (digest, base) in self.digest.iter_mut().zip(BASES) {
            *digest = ((u128::from(*digest) * base + u128::from(value) + 1) % PRIME) as u64;
        }
        self.len += 1;
        self.last = value;
    }

    fn of(values: &[u64]) -> Self {
        let mut frozen = Frozen::default();
        values.iter().for_each(|&value| frozen.push(value));
        frozen
    }
}

/// What is known of a key's versions.
#[derive(Clone, Debug)]
struct Key {
    frozen: Frozen,
    /// The versions after these, oldest first.
    versions: Vec<Version>,
    /// How many versions were told of.
    told: usize,
    /// Who wrote the last version.
    last: u32,
    /// After that one and its readers, before what comes next; [`PAST`] if there is none.
    tail: u32,
    /// Writes by those who committed, without a place: they come after the last version.
    unplaced: Vec<(u32, u64)>,
    /// Readers of the last version with an unplaced write of their own.
    updaters: Vec<u32>,
    /// Readers of unplaced versions.
    early: BTreeMap<u64, Vec<u32>>,
}

impl Default for Key {
    fn default() -> Self {
        Key {
            frozen: Frozen::default(),
            versions: Vec::new(),
            told: 0,
            last: PAST,
            tail: PAST,
            unplaced: Vec::new(),
            updaters: Vec::new(),
            early: BTreeMap::new(),
        }
    }
}

/// The barriers behind which invocations come.
#[derive(Clone, Copy, Debug)]
struct Front {
    /// Of the completions before the instant `at`.
    before: u32,
    /// Of those up to it.
    upto: u32,
    at: u64,
}

/// What a transaction knows of a key by its own operations.
enum View {
    List(Vec<u64>),
    /// Appended to, and not read before.
    Tail(Vec<u64>),
    Register(Option<u64>),
}

/// The checker.
#[derive(Clone, Debug)]
pub struct Online {
    order: TimeOrder,
    graph: Topology,
    nodes: Vec<Node>,
    links: Vec<Link>,
    keys: BTreeMap<u64, Key>,
    /// Keys that hold nodes.
    active: BTreeSet<u64>,
    txns: BTreeMap<u64, Txn>,
    /// Transactions under way, by the sequence of their invocations.
    outstanding: BTreeMap<u64, u64>,
    /// By key and value: who writes it, while it has no place.
    writers: BTreeMap<(u64, u64), u64>,
    /// By key and value: its place among all versions of the key.
    places: BTreeMap<(u64, u64), usize>,
    /// By process under session order, else one.
    fronts: BTreeMap<u64, Front>,
    sequence: u64,
    now: u64,
    slack: usize,
    drop_at: usize,
    steps: u64,
    exercised: u64,
}

impl Online {
    /// A checker of an empty history, for serializability with this much of the order of time.
    pub fn new(order: TimeOrder) -> Self {
        Online {
            order,
            graph: Topology::new(0),
            nodes: Vec::new(),
            links: Vec::new(),
            keys: BTreeMap::new(),
            active: BTreeSet::new(),
            txns: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            writers: BTreeMap::new(),
            places: BTreeMap::new(),
            fronts: BTreeMap::new(),
            sequence: 0,
            now: 0,
            slack: SLACK,
            drop_at: SLACK,
            steps: 0,
            exercised: 0,
        }
    }

    /// Drops the past when the graph has grown to twice what was left the last time and `slack` nodes more (1024,
    /// if not set): more memory for less work.
    #[must_use]
    pub fn with_slack(mut self, slack: usize) -> Self {
        self.slack = slack;
        self.drop_at = slack;
        self
    }

    /// How many nodes the graph holds now.
    pub fn held(&self) -> usize {
        self.nodes.len()
    }

    /// Steps of work so far: arcs added, and nodes visited while the order was repaired.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How many reads saw somebody's write: how often anything could have been wrong.
    pub fn exercised(&self) -> u64 {
        self.exercised
    }

    /// A transaction of `process` is invoked at an instant. `writes` are the keys and values that it writes if it
    /// commits, in its own order.
    ///
    /// # Errors
    ///
    /// If a value was written to a key before.
    ///
    /// # Panics
    ///
    /// If the instant is before that of an event before, or the transaction is known.
    pub fn invoke(
        &mut self,
        at: u64,
        txn: u64,
        process: u64,
        writes: &[(u64, u64)],
    ) -> Result<(), Stop> {
        assert!(at >= self.now, "events come in the order of time");
        self.now = at;
        let node = self.node(Node::Txn(txn));
        let since = self.since(process, at);
        if since != PAST {
            self.link(since, node, Because::Time)?;
        }
        self.sequence += 1;
        let known = self.txns.insert(
            txn,
            Txn {
                node,
                process,
                sequence: self.sequence,
                since,
                live: false,
                writes: Vec::new(),
            },
        );
        assert!(known.is_none(), "T{txn} was invoked before");
        self.outstanding.insert(self.sequence, txn);
        for &(key, value) in writes {
            self.announce(txn, key, value, true)?;
        }
        Ok(())
    }

    /// A transaction under way may write this, depending on what it reads: that is known when it completes.
    ///
    /// # Errors
    ///
    /// If the value was written to the key before.
    ///
    /// # Panics
    ///
    /// If the transaction is not known.
    pub fn may_write(&mut self, txn: u64, key: u64, value: u64) -> Result<(), Stop> {
        self.announce(txn, key, value, false)
    }

    /// A transaction completes at an instant, with these operations. Only of a success are they looked at.
    ///
    /// # Errors
    ///
    /// What makes the history invalid.
    ///
    /// # Panics
    ///
    /// If the transaction is not under way, or the instant is before that of an event before.
    pub fn complete(
        &mut self,
        at: u64,
        txn: u64,
        status: Status,
        actions: &[Action<'_>],
    ) -> Result<(), Stop> {
        assert!(at >= self.now, "events come in the order of time");
        self.now = at;
        let sequence = self.txns.get(&txn).map(|txn| txn.sequence);
        let sequence = sequence.filter(|sequence| self.outstanding.contains_key(sequence));
        let sequence = sequence.unwrap_or_else(|| panic!("T{txn} is not under way"));
        match status {
            Status::Fail => self.fail(txn)?,
            Status::Info => {}
            Status::Ok => {
                self.settle_writes(txn, actions)?;
                self.commit(txn)?;
                self.reads(txn, actions)?;
                let (node, process) = (self.txns[&txn].node, self.txns[&txn].process);
                self.completed(node, process, at)?;
            }
        }
        self.outstanding.remove(&sequence);
        if self.txns.get(&txn).is_some_and(Txn::is_placed) {
            self.txns.remove(&txn);
        }
        if self.nodes.len() > self.drop_at {
            self.drop_past()?;
            self.drop_at = 2 * self.nodes.len() + self.slack;
        }
        Ok(())
    }

    /// The next version of a key came to stand, as seen inside the database.
    ///
    /// # Errors
    ///
    /// What makes the history invalid.
    pub fn version(&mut self, key: u64, value: u64) -> Result<(), Stop> {
        let known = self.keys.entry(key).or_default();
        let at = known.told;
        known.told += 1;
        let Some(at) = at.checked_sub(known.frozen.len) else {
            return Ok(());
        };
        if let Some(version) = known.versions.get(at) {
            if version.value == value {
                return Ok(());
            }
            return Err(self.stop(
                AnomalyKind::IncompatibleOrder,
                &[],
                format!("reads of key {key} show another order of versions than the database has at {value}"),
            ));
        }
        self.place(key, value, None)?;
        self.relink(key)
    }

    // Time.

    /// The barrier that an invocation comes after.
    fn since(&self, process: u64, at: u64) -> u32 {
        let front = match self.order {
            TimeOrder::Free => None,
            TimeOrder::Session => self.fronts.get(&process),
            TimeOrder::Realtime => self.fronts.get(&0),
        };
        front.map_or(PAST, |front| match front.at < at {
            true => front.upto,
            false => front.before,
        })
    }

    fn completed(&mut self, node: u32, process: u64, at: u64) -> Result<(), Stop> {
        let process = match self.order {
            TimeOrder::Free => return Ok(()),
            TimeOrder::Session => process,
            TimeOrder::Realtime => 0,
        };
        let front = self.fronts.get(&process).copied();
        let upto = match front {
            Some(front) if front.at == at => front.upto,
            _ => {
                let upto = self.node(Node::Barrier);
                let before = front.map_or(PAST, |front| front.upto);
                if before != PAST {
                    self.link(before, upto, Because::Time)?;
                }
                self.fronts.insert(process, Front { before, upto, at });
                upto
            }
        };
        self.link(node, upto, Because::Time)
    }

    // Writes.

    fn announce(&mut self, txn: u64, key: u64, value: u64, certain: bool) -> Result<(), Stop> {
        let again = self.writers.insert((key, value), txn).is_some();
        if again || self.places.contains_key(&(key, value)) {
            return Err(Stop {
                kind: None,
                transactions: vec![txn],
                cycle: Vec::new(),
                explanation: format!(
                    "T{txn} writes {value} to key {key}, which was written before: values must be unique"
                ),
            });
        }
        self.txn(txn).writes.push(Write {
            key,
            value,
            placed: false,
            certain,
        });
        Ok(())
    }

    fn txn(&mut self, txn: u64) -> &mut Txn {
        self.txns.get_mut(&txn).expect("a transaction that is held")
    }

    fn fail(&mut self, txn: u64) -> Result<(), Stop> {
        let failed = self.txns.remove(&txn).expect("it was under way");
        if failed.live {
            let text = format!("T{txn} aborted, but one of its writes was read or came to stand");
            return Err(self.stop(AnomalyKind::G1a, &[txn], text));
        }
        for write in &failed.writes {
            self.writers.remove(&(write.key, write.value));
        }
        self.nodes[failed.node as usize] = Node::Nothing;
        Ok(())
    }

    /// Compares what a transaction was to write with what it wrote.
    fn settle_writes(&mut self, txn: u64, actions: &[Action<'_>]) -> Result<(), Stop> {
        let mut wrote: Vec<(u64, u64)> = Vec::new();
        for action in actions {
            match *action {
                Action::Append { key, value } => wrote.push((key, value)),
                Action::Write { key, value } => {
                    wrote.retain(|&(other, _)| other != key);
                    wrote.push((key, value));
                }
                Action::ReadList { .. } | Action::Read { .. } => {}
            }
        }
        let announced = self.txn(txn).writes.clone();
        for write in &announced {
            if wrote.contains(&(write.key, write.value)) {
                continue;
            }
            if write.placed {
                let text = format!(
                    "T{txn} did not write {} to key {}, which was read or came to stand",
                    write.value, write.key
                );
                return Err(self.stop(AnomalyKind::GarbageRead, &[txn], text));
            }
            self.writers.remove(&(write.key, write.value));
            let node = self.txn(txn).node;
            self.txn(txn).writes.retain(|other| other != write);
            let key = self.keys.entry(write.key).or_default();
            key.unplaced.retain(|&other| other != (node, write.value));
        }
        for (key, value) in wrote {
            let mut known = announced.iter();
            if !known.any(|write| (write.key, write.value) == (key, value)) {
                self.announce(txn, key, value, false)?;
            }
        }
        let known = self.txn(txn);
        let (node, live) = (known.node, known.live);
        let mut sure = Vec::new();
        for write in known.writes.iter_mut().filter(|write| !write.certain) {
            write.certain = true;
            sure.push(*write);
        }
        for write in sure.into_iter().filter(|write| live && !write.placed) {
            self.join_tail(write.key, write.value, node)?;
        }
        Ok(())
    }

    /// The transaction committed: all its writes stand, or will.
    fn commit(&mut self, txn: u64) -> Result<(), Stop> {
        let committed = self.txn(txn);
        if std::mem::replace(&mut committed.live, true) {
            return Ok(());
        }
        let node = committed.node;
        let writes = committed.writes.clone();
        for write in writes.iter().filter(|write| !write.placed && write.certain) {
            self.join_tail(write.key, write.value, node)?;
        }
        Ok(())
    }

    /// A write without a place comes after the last version and its readers.
    fn join_tail(&mut self, key: u64, value: u64, node: u32) -> Result<(), Stop> {
        let known = self.keys.entry(key).or_default();
        self.active.insert(key);
        let joined = known.unplaced.iter().any(|&(other, _)| other == node);
        known.unplaced.push((node, value));
        if joined || node == known.last {
            return Ok(());
        }
        let updaters = known.updaters.clone();
        if known.tail == PAST {
            self.tail(key)?;
        } else {
            let tail = known.tail;
            self.link(tail, node, Because::WriteWrite(key))?;
        }
        for updater in updaters.into_iter().filter(|&updater| updater != node) {
            self.link(updater, node, Because::ReadWrite(key))?;
        }
        Ok(())
    }

    /// The tail of a key, made if there is none: after the last version, before the writes without a place.
    fn tail(&mut self, key: u64) -> Result<u32, Stop> {
        let known = &self.keys[&key];
        if known.tail != PAST {
            return Ok(known.tail);
        }
        let last = known.last;
        let after: BTreeSet<u32> = known.unplaced.iter().map(|&(node, _)| node).collect();
        let tail = self.node(Node::Tail(key));
        self.active.insert(key);
        self.key(key).tail = tail;
        if last != PAST {
            self.link(last, tail, Because::WriteWrite(key))?;
        }
        for node in after.into_iter().filter(|&node| node != last) {
            self.link(tail, node, Because::WriteWrite(key))?;
        }
        Ok(tail)
    }

    fn key(&mut self, key: u64) -> &mut Key {
        self.keys.get_mut(&key).expect("a key that was used")
    }

    /// Appends a value to a key's order of versions.
    fn place(&mut self, key: u64, value: u64, reader: Option<u64>) -> Result<(), Stop> {
        let Some(writer) = self.writers.remove(&(key, value)) else {
            return Err(self.nobodys(key, value, reader));
        };
        self.place_in_txn(writer, key, value)?;
        self.commit(writer)?;
        let node = self.txns[&writer].node;
        let known = self.key(key);
        known.unplaced.retain(|&other| other != (node, value));
        let (last, tail) = (known.last, known.tail);
        let updaters = std::mem::take(&mut known.updaters);
        let place = known.frozen.len + known.versions.len();
        known.versions.push(Version {
            value,
            writer: node,
        });
        known.last = node;
        if node != last {
            known.tail = PAST;
        }
        let early = known.early.remove(&value).unwrap_or_default();
        self.active.insert(key);
        self.places.insert((key, value), place);
        if node != last {
            match tail {
                PAST if last == PAST => {}
                PAST => self.link(last, node, Because::WriteWrite(key))?,
                tail => self.link(tail, node, Because::WriteWrite(key))?,
            }
        }
        for updater in updaters.into_iter().filter(|&updater| updater != node) {
            self.link(updater, node, Because::ReadWrite(key))?;
        }
        for reader in early {
            self.read_last(key, reader)?;
        }
        if self.txns[&writer].is_placed()
            && !self.outstanding.contains_key(&self.txns[&writer].sequence)
        {
            self.txns.remove(&writer);
        }
        Ok(())
    }

    /// Notes that a write has its place: a transaction's writes of a key take effect in its own order.
    fn place_in_txn(&mut self, writer: u64, key: u64, value: u64) -> Result<(), Stop> {
        let mut writes = self.txn(writer).writes.iter_mut();
        let first = writes.find(|write| write.key == key && !write.placed);
        let first = first.expect("a write of this key has no place");
        if first.value == value {
            first.placed = true;
            return Ok(());
        }
        let text = format!(
            "T{writer} wrote {} to key {key} before {value}, but {value} took effect first",
            first.value
        );
        Err(self.stop(AnomalyKind::CyclicVersions, &[writer], text))
    }

    /// Puts the writes without a place behind the last version.
    fn relink(&mut self, key: u64) -> Result<(), Stop> {
        let known = &self.keys[&key];
        let last = known.last;
        if known.unplaced.iter().any(|&(node, _)| node != last) {
            self.tail(key)?;
        }
        Ok(())
    }

    // Reads.

    fn reads(&mut self, txn: u64, actions: &[Action<'_>]) -> Result<(), Stop> {
        let mut views: BTreeMap<u64, View> = BTreeMap::new();
        for (at, action) in actions.iter().enumerate() {
            match *action {
                Action::Append { key, value } => {
                    match views.entry(key).or_insert_with(|| View::Tail(Vec::new())) {
                        View::List(list) | View::Tail(list) => list.push(value),
                        View::Register(_) => panic!("key {key} holds a list and a register"),
                    }
                }
                Action::Write { key, value } => {
                    views.insert(key, View::Register(Some(value)));
                }
                Action::ReadList { key, list } => {
                    let later = |other: &Action<'_>| {
                        matches!(other, Action::Append { key: k, value }
                        if *k == key && list.contains(value))
                    };
                    if actions[at..].iter().any(later) {
                        let text =
                            format!("T{txn} read an element of key {key} before it appended it");
                        return Err(self.stop(AnomalyKind::FutureRead, &[txn], text));
                    }
                    let fits = match views.get(&key) {
                        None => true,
                        Some(View::List(known)) => known == list,
                        Some(View::Tail(own)) => list.ends_with(own),
                        Some(View::Register(_)) => panic!("key {key} holds a list and a register"),
                    };
                    if !fits {
                        return Err(self.internal(txn, key));
                    }
                    if !matches!(views.get(&key), Some(View::List(_))) {
                        self.read_list(txn, key, list)?;
                    }
                    views.insert(key, View::List(list.to_vec()));
                }
                Action::Read { key, value } => match views.get(&key) {
                    Some(View::Register(known)) if *known == value => {}
                    Some(_) => return Err(self.internal(txn, key)),
                    None => {
                        let later = |other: &Action<'_>| {
                            matches!(*other, Action::Write { key: k, value: v }
                                if k == key && Some(v) == value)
                        };
                        if actions[at..].iter().any(later) {
                            let text = format!(
                                "T{txn} read its own write of key {key} before it wrote it"
                            );
                            return Err(self.stop(AnomalyKind::FutureRead, &[txn], text));
                        }
                        self.read_register(txn, key, value)?;
                        views.insert(key, View::Register(value));
                    }
                },
            }
        }
        Ok(())
    }

    fn internal(&self, txn: u64, key: u64) -> Stop {
        let text = format!("T{txn} read key {key} otherwise than its own operations before say");
        self.stop(AnomalyKind::Internal, &[txn], text)
    }

    fn read_list(&mut self, txn: u64, key: u64, list: &[u64]) -> Result<(), Stop> {
        self.exercised += u64::from(!list.is_empty());
        let node = self.txns[&txn].node;
        let known = self.keys.entry(key).or_default();
        let frozen = known.frozen;
        if list.len() < frozen.len {
            return Err(self.stale(txn, key));
        }
        let (old, new) = list.split_at(frozen.len);
        let common = known.versions.len().min(new.len());
        let same = known.versions[..common]
            .iter()
            .zip(new)
            .all(|(version, value)| version.value == *value);
        if !same || Frozen::of(old) != frozen {
            let text = format!(
                "T{txn} read key {key} as a list of {} elements that is no prefix of the order of its versions",
                list.len()
            );
            return Err(self.stop(AnomalyKind::IncompatibleOrder, &[txn], text));
        }
        for &value in &new[common..] {
            self.place(key, value, Some(txn))?;
        }
        let known = &self.keys[&key];
        let own = known.versions[..new.len()].iter().rev();
        let own = own.take_while(|version| version.writer == node).count();
        self.read_version(txn, key, new.len() - own)?;
        self.relink(key)
    }

    fn read_register(&mut self, txn: u64, key: u64, value: Option<u64>) -> Result<(), Stop> {
        self.exercised += u64::from(value.is_some());
        let node = self.txns[&txn].node;
        let frozen = self.keys.entry(key).or_default().frozen;
        let Some(value) = value else {
            return match frozen.len {
                0 => self.read_version(txn, key, 0),
                _ => Err(self.stale(txn, key)),
            };
        };
        if let Some(&place) = self.places.get(&(key, value)) {
            return self.read_version(txn, key, place + 1 - frozen.len);
        }
        if frozen.len > 0 && frozen.last == value {
            return self.read_version(txn, key, 0);
        }
        match self.writers.get(&(key, value)) {
            Some(&writer) => {
                self.commit(writer)?;
                let source = self.txns[&writer].node;
                self.key(key).early.entry(value).or_default().push(node);
                self.link(source, node, Because::WriteRead(key))
            }
            None => Err(self.nobodys(key, value, Some(txn))),
        }
    }

    /// A transaction read the version after `count` of those that are not frozen.
    fn read_version(&mut self, txn: u64, key: u64, count: usize) -> Result<(), Stop> {
        let node = self.txns[&txn].node;
        let known = &self.keys[&key];
        let writer = match count.checked_sub(1) {
            Some(at) => known.versions[at].writer,
            None if known.versions.is_empty() => known.last,
            None => PAST,
        };
        let next = known.versions.get(count).map(|version| version.writer);
        let unfinished = match (next, self.owner(writer)) {
            (Some(next), _) => next == writer,
            (None, Some(owner)) => self
                .txns
                .get(&owner)
                .is_some_and(|txn| txn.has_unplaced(key)),
            (None, None) => false,
        };
        if unfinished && writer != PAST && writer != node {
            let owner = self
                .owner(writer)
                .expect("versions are written by transactions");
            let text = format!("T{txn} read a version of key {key} that T{owner} had not finished");
            return Err(self.stop(AnomalyKind::G1b, &[owner, txn], text));
        }
        if writer != PAST && writer != node {
            self.link(writer, node, Because::WriteRead(key))?;
        }
        match next {
            Some(next) if next == node => Ok(()),
            Some(next) => self.link(node, next, Because::ReadWrite(key)),
            None => self.read_last(key, node),
        }
    }

    /// A transaction read a key's last version: whatever comes next comes after it.
    fn read_last(&mut self, key: u64, node: u32) -> Result<(), Stop> {
        let known = &self.keys[&key];
        if !known.unplaced.iter().any(|&(writer, _)| writer == node) {
            let tail = self.tail(key)?;
            return self.link(node, tail, Because::ReadWrite(key));
        }
        // A tail leads to those who write next, so one of these cannot lead to it.
        let others: BTreeSet<u32> = known.unplaced.iter().map(|&(writer, _)| writer).collect();
        self.key(key).updaters.push(node);
        for other in others.into_iter().filter(|&other| other != node) {
            self.link(node, other, Because::ReadWrite(key))?;
        }
        Ok(())
    }

    fn stale(&self, txn: u64, key: u64) -> Stop {
        let text = format!(
            "T{txn} read a version of key {key} that had been replaced before T{txn} was invoked"
        );
        self.stop(self.cycle_kind(), &[txn], text)
    }

    fn nobodys(&self, key: u64, value: u64, reader: Option<u64>) -> Stop {
        let who = reader.map_or("the database".to_owned(), |txn| format!("T{txn}"));
        let text = format!(
            "{who} shows {value} in key {key}, which is no version of it now: nobody wrote it, its writer \
             aborted, or it was replaced long before"
        );
        let transactions: Vec<u64> = reader.into_iter().collect();
        self.stop(AnomalyKind::GarbageRead, &transactions, text)
    }

    // The graph.

    fn node(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        self.graph.add_node()
    }

    fn owner(&self, node: u32) -> Option<u64> {
        match self.nodes.get(node as usize) {
            Some(&Node::Txn(txn)) => Some(txn),
            _ => None,
        }
    }

    fn link(&mut self, from: u32, to: u32, because: Because) -> Result<(), Stop> {
        let index = self.links.len() as u32;
        self.links.push(Link { from, to, because });
        match self.graph.insert((from, to), index, &mut self.steps) {
            Ok(()) => Ok(()),
            Err(path) => {
                let arcs = std::iter::once(index).chain(path.into_iter().rev());
                let links: Vec<Link> = arcs.map(|arc| self.links[arc as usize]).collect();
                Err(self.cycle(&links))
            }
        }
    }

    fn cycle_kind(&self) -> AnomalyKind {
        match self.order {
            TimeOrder::Free => AnomalyKind::NotSerializable,
            TimeOrder::Session => AnomalyKind::NotStrongSessionSerializable,
            TimeOrder::Realtime => AnomalyKind::NotStrictSerializable,
        }
    }

    fn stop(&self, kind: AnomalyKind, transactions: &[u64], explanation: String) -> Stop {
        Stop {
            kind: Some(kind),
            transactions: transactions.to_vec(),
            cycle: Vec::new(),
            explanation,
        }
    }

    /// The transactions of a cycle, each with why it precedes the next. An edge through a tail or a barrier has the
    /// reason of its first part, but a reader before a tail and a writer after it are an anti-dependency.
    fn cycle(&self, links: &[Link]) -> Stop {
        let is_txn = |link: &Link| self.owner(link.from).is_some();
        let first = links.iter().position(is_txn).unwrap_or(0);
        let around = links[first..].iter().chain(&links[..first]);
        let mut steps: Vec<(u64, Because)> = around
            .filter_map(|link| Some((self.owner(link.from)?, link.because)))
            .collect();
        let smallest = (0..steps.len()).min_by_key(|&at| steps[at].0).unwrap_or(0);
        steps.rotate_left(smallest);
        let mut text = String::new();
        for (at, &(from, because)) in steps.iter().enumerate() {
            let to = steps[(at + 1) % steps.len()].0;
            let why = match because {
                Because::WriteWrite(key) => format!("T{from} wrote key {key} before T{to} did"),
                Because::WriteRead(key) => format!("T{to} read what T{from} wrote to key {key}"),
                Because::ReadWrite(key) => format!("T{from} read key {key} before T{to} wrote it"),
                Because::Time => format!("T{from} completed before T{to} was invoked"),
                Because::Past => format!("transactions before both lead from T{from} to T{to}"),
            };
            let (start, end) = match at + 1 == steps.len() {
                true => ("; however, ", ": a contradiction"),
                false if at == 0 => ("", ""),
                false => ("; ", ""),
            };
            text.push_str(&format!("{start}{why}{end}"));
        }
        let mut transactions: Vec<u64> = steps.iter().map(|&(txn, _)| txn).collect();
        transactions.sort_unstable();
        Stop {
            kind: Some(self.cycle_kind()),
            transactions,
            cycle: steps,
            explanation: text,
        }
    }

    // Forgetting.

    /// Drops what can be on no further cycle. Under real-time order that is whatever leads to the barrier before
    /// the oldest transaction under way, except for transactions with writes that have no place yet and the tails
    /// behind which these may come; paths between what stays become edges.
    fn drop_past(&mut self) -> Result<(), Stop> {
        let oldest = self.outstanding.values().next();
        let floor = match oldest {
            Some(txn) => self.txns[txn].since,
            None => self.since(0, self.now),
        };
        if self.order != TimeOrder::Realtime || floor == PAST {
            return Ok(());
        }
        for key in self.active.clone() {
            if self.keys[&key].last != PAST {
                self.tail(key)?;
            }
        }
        let past = self.reaching(floor);
        self.nodes[floor as usize] = Node::Floor;
        let stays = self.staying(&past);
        let mut links = self.contracted(&stays);
        let mut entered = vec![false; self.nodes.len()];
        for link in &links {
            entered[link.to as usize] = true;
        }
        // A tail that nothing leads to is made again when somebody reads; a floor has nothing left above it.
        let kept = |node: u32| {
            let needed = match self.nodes[node as usize] {
                Node::Tail(_) | Node::Floor => entered[node as usize] || node == floor,
                _ => true,
            };
            stays[node as usize] && needed
        };
        let order: Vec<u32> = self
            .graph
            .order()
            .iter()
            .copied()
            .filter(|&n| kept(n))
            .collect();
        let mut renamed = vec![PAST; self.nodes.len()];
        for (new, &old) in order.iter().enumerate() {
            renamed[old as usize] = new as u32;
        }
        links.retain(|link| {
            renamed[link.from as usize] != PAST && renamed[link.to as usize] != PAST
        });
        self.nodes = order.iter().map(|&old| self.nodes[old as usize]).collect();
        self.graph = Topology::new(order.len() as u32);
        for (index, link) in links.iter_mut().enumerate() {
            (link.from, link.to) = (renamed[link.from as usize], renamed[link.to as usize]);
            self.graph.push((link.from, link.to), index as u32);
        }
        self.links = links;
        self.rename(&past, |node| match node {
            PAST => PAST,
            node => renamed[node as usize],
        });
        Ok(())
    }

    /// What leads to a node.
    fn reaching(&self, node: u32) -> Vec<bool> {
        let mut reaching = vec![false; self.nodes.len()];
        reaching[node as usize] = true;
        let mut stack = vec![node];
        while let Some(node) = stack.pop() {
            for &from in self.graph.sources_of(node) {
                if !std::mem::replace(&mut reaching[from as usize], true) {
                    stack.push(from);
                }
            }
        }
        reaching
    }

    fn staying(&self, past: &[bool]) -> Vec<bool> {
        let mut stays: Vec<bool> = (0..self.nodes.len())
            .map(|at| match self.nodes[at] {
                Node::Nothing => false,
                Node::Txn(txn) => !past[at] || self.txns.contains_key(&txn),
                Node::Tail(key) => !past[at] || self.keys[&key].tail == at as u32,
                Node::Barrier => !past[at],
                Node::Floor => true,
            })
            .collect();
        for key in &self.active {
            for &reader in self.keys[key].early.values().flatten() {
                stays[reader as usize] = true;
            }
        }
        stays
    }

    /// The edges between what stays, and one for each path through what does not.
    fn contracted(&self, stays: &[bool]) -> Vec<Link> {
        let mut links = Vec::new();
        let mut visited = vec![PAST; stays.len()];
        for from in (0..stays.len() as u32).filter(|&node| stays[node as usize]) {
            let mut stack = vec![from];
            while let Some(node) = stack.pop() {
                for &(to, arc) in self.graph.out_of(node) {
                    if std::mem::replace(&mut visited[to as usize], from) == from {
                        continue;
                    }
                    if !stays[to as usize] {
                        stack.push(to);
                        continue;
                    }
                    let because = match node == from {
                        true => self.links[arc as usize].because,
                        false => Because::Past,
                    };
                    links.push(Link { from, to, because });
                }
            }
        }
        links
    }

    /// Freezes the versions that the past wrote, and gives all nodes their new numbers.
    fn rename(&mut self, past: &[bool], renamed: impl Fn(u32) -> u32) {
        for txn in self.txns.values_mut() {
            (txn.node, txn.since) = (renamed(txn.node), renamed(txn.since));
        }
        for front in self.fronts.values_mut() {
            (front.before, front.upto) = (renamed(front.before), renamed(front.upto));
        }
        let mut idle = Vec::new();
        for &at in &self.active {
            let key = self.keys.get_mut(&at).expect("an active key was used");
            let is_past =
                |version: &Version| version.writer == PAST || past[version.writer as usize];
            let old = key
                .versions
                .iter()
                .take_while(|version| is_past(version))
                .count();
            for version in key.versions.drain(..old) {
                key.frozen.push(version.value);
                self.places.remove(&(at, version.value));
            }
            for version in &mut key.versions {
                version.writer = renamed(version.writer);
            }
            (key.last, key.tail) = (renamed(key.last), renamed(key.tail));
            let nodes = key
                .updaters
                .iter_mut()
                .chain(key.early.values_mut().flatten());
            nodes.for_each(|node| *node = renamed(*node));
            key.unplaced
                .iter_mut()
                .for_each(|(node, _)| *node = renamed(*node));
            let holds = key.last != PAST || key.tail != PAST || !key.versions.is_empty();
            if !holds && key.unplaced.is_empty() && key.early.is_empty() && key.updaters.is_empty()
            {
                idle.push(at);
            }
        }
        for key in idle {
            self.active.remove(&key);
        }
    }
}
