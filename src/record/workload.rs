//! What clients ask of a database: transactions drawn by a seed, numbered in one sequence.
//!
//! The n-th transaction of a seed is always the same. Which client executes it, and when, is up to the threads.
//! Keys retire after a number of writes and are replaced by new ones, so that lists stay short while keys stay contended
//! (as Jepsen's `append` and `wr` workloads do).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::plan::random::Stream;

/// A kind of workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Transactions of appends to lists and reads of whole lists: the reads show the order of all versions.
    ListAppend,
    /// Transactions of blind writes and reads of registers. Each value is written once for a key.
    Registers,
    /// Transfers between accounts, and reads of all of them: what they hold together stays the same.
    Bank,
    /// Single writes, and reads of two keys, to see two writes in opposite orders.
    LongFork,
}

/// Sizes of a workload.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Shape {
    /// How many keys are in use at once.
    pub keys: u64,
    /// After so many writes a key is replaced by a new one.
    pub writes_per_key: u64,
    /// A transaction has one operation to so many.
    pub operations_max: u64,
    /// How many accounts a bank has.
    pub accounts: u64,
    /// What each account holds at first.
    pub balance: u64,
    /// Which part of the transactions that write is rolled back by its client.
    pub rollbacks: f64,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            keys: 5,
            writes_per_key: 32,
            operations_max: 4,
            accounts: 6,
            balance: 20,
            rollbacks: 0.05,
        }
    }
}

/// One operation of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Append a value to a list.
    Append {
        /// The list.
        key: u64,
        /// The value.
        value: u64,
    },
    /// Read a whole list.
    ReadList {
        /// The list.
        key: u64,
    },
    /// Overwrite a register.
    Write {
        /// The register.
        key: u64,
        /// The value.
        value: u64,
    },
    /// Read a register.
    Read {
        /// The register.
        key: u64,
    },
}

impl Op {
    /// What it is about.
    pub fn key(self) -> u64 {
        match self {
            Op::Append { key, .. }
            | Op::ReadList { key }
            | Op::Write { key, .. }
            | Op::Read { key } => key,
        }
    }

    /// Does it change anything?
    pub fn is_write(self) -> bool {
        matches!(self, Op::Append { .. } | Op::Write { .. })
    }
}

/// What a transaction does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Operations, one statement each, in this order.
    Txn(Vec<Op>),
    /// Reads two balances, and writes both. Fails if the first account holds too little.
    Transfer {
        /// The account that pays.
        from: u64,
        /// The account that is paid.
        to: u64,
        /// How much.
        amount: u64,
    },
    /// Reads all balances, one statement each.
    Balances {
        /// How many accounts there are, numbered from 0.
        accounts: u64,
    },
}

/// One transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// What it does.
    pub request: Request,
    /// Its client rolls it back at the end: nobody may ever see what it wrote.
    pub rollback: bool,
}

/// What one operation returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Nothing: it was a write.
    Nothing,
    /// A list, oldest element first.
    List(Vec<u64>),
    /// A register; none if it was never written.
    Value(Option<u64>),
}

/// What a committed transaction returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Of each operation.
    Txn(Vec<Seen>),
    /// Of a transfer.
    Transferred,
    /// Of a read of all balances.
    Balances(BTreeMap<u64, i64>),
}

/// How a transaction ended, as far as its client knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Completion {
    /// It committed.
    Ok(Answer),
    /// It certainly did not, for this reason.
    Fail(String),
    /// It may have, for this reason: nobody knows.
    Info(String),
}

impl Asked {
    /// The function and the value of the record of its invocation.
    pub fn record(&self) -> (&'static str, Value) {
        match &self.request {
            Request::Txn(ops) => {
                let value = ops.iter().map(|op| match *op {
                    Op::Append { key, value } => json!(["append", key, value]),
                    Op::Write { key, value } => json!(["w", key, value]),
                    Op::ReadList { key } | Op::Read { key } => json!(["r", key, null]),
                });
                ("txn", value.collect())
            }
            Request::Transfer { from, to, amount } => (
                "transfer",
                json!({ "from": from, "to": to, "amount": amount }),
            ),
            Request::Balances { .. } => ("read", Value::Null),
        }
    }

    /// The value of the record of its success.
    ///
    /// # Panics
    /// If the answer is to another request.
    pub fn answered(&self, answer: &Answer) -> Value {
        match (&self.request, answer) {
            (Request::Txn(ops), Answer::Txn(seen)) => {
                assert_eq!(ops.len(), seen.len(), "an answer for each operation");
                let pairs = ops.iter().zip(seen);
                let value = pairs.map(|(op, seen)| match (*op, seen) {
                    (Op::ReadList { key }, Seen::List(list)) => json!(["r", key, list]),
                    (Op::Read { key }, Seen::Value(value)) => json!(["r", key, value]),
                    (Op::Append { key, value }, Seen::Nothing) => json!(["append", key, value]),
                    (Op::Write { key, value }, Seen::Nothing) => json!(["w", key, value]),
                    (op, seen) => panic!("{seen:?} is no answer to {op:?}"),
                });
                value.collect()
            }
            (Request::Transfer { .. }, Answer::Transferred) => self.record().1,
            (Request::Balances { .. }, Answer::Balances(balances)) => {
                let text = balances
                    .iter()
                    .map(|(key, held)| (key.to_string(), json!(held)));
                Value::Object(text.collect())
            }
            (request, answer) => panic!("{answer:?} is no answer to {request:?}"),
        }
    }

    /// The answer that the value of a record states, if it is one to this request.
    pub fn answer(&self, value: &Value) -> Option<Answer> {
        match &self.request {
            Request::Txn(ops) => {
                let told = value.as_array()?;
                let same = told.len() == ops.len();
                let seen = ops.iter().zip(told).map(|(op, told)| seen(*op, told));
                let seen: Option<Vec<Seen>> = seen.collect();
                seen.filter(|_| same).map(Answer::Txn)
            }
            Request::Transfer { .. } => Some(Answer::Transferred),
            Request::Balances { .. } => {
                let told = value.as_object()?.iter();
                let told = told.map(|(key, held)| Some((key.parse().ok()?, held.as_i64()?)));
                told.collect::<Option<_>>().map(Answer::Balances)
            }
        }
    }
}

/// What `["r", key, result]` and its like say of an operation; none if they are about another one.
fn seen(op: Op, told: &Value) -> Option<Seen> {
    let [name, key, result] = &told.as_array()?[..] else {
        return None;
    };
    let expected = match op {
        Op::Append { .. } => "append",
        Op::Write { .. } => "w",
        Op::ReadList { .. } | Op::Read { .. } => "r",
    };
    if name != expected || key.as_u64() != Some(op.key()) {
        return None;
    }
    match op {
        Op::Append { value, .. } | Op::Write { value, .. } => {
            (result.as_u64() == Some(value)).then_some(Seen::Nothing)
        }
        Op::ReadList { .. } if result.is_null() => Some(Seen::List(Vec::new())),
        Op::ReadList { .. } => {
            let list = result.as_array()?.iter().map(Value::as_u64);
            list.collect::<Option<_>>().map(Seen::List)
        }
        Op::Read { .. } if result.is_null() => Some(Seen::Value(None)),
        Op::Read { .. } => result.as_u64().map(|value| Seen::Value(Some(value))),
    }
}

/// A key in use.
#[derive(Clone, Copy, Debug)]
struct Active {
    key: u64,
    writes: u64,
}

/// The transactions of a workload, one after the other.
#[derive(Clone, Debug)]
pub struct Generator {
    workload: Workload,
    shape: Shape,
    stream: Stream,
    active: Vec<Active>,
    /// Of each pair of keys in use, what is still to be done with it. For [`Workload::LongFork`].
    agendas: Vec<Vec<Asked>>,
    next_key: u64,
}

impl Generator {
    /// The sequence of a seed.
    pub fn new(workload: Workload, shape: Shape, seed: u64) -> Self {
        let mut generator = Generator {
            workload,
            shape,
            stream: Stream::new(seed, &"transactions for a real database"),
            active: Vec::new(),
            agendas: Vec::new(),
            next_key: 0,
        };
        match workload {
            Workload::LongFork => {
                let pairs = shape.keys.div_ceil(2);
                generator.agendas = (0..pairs).map(|_| generator.agenda()).collect();
            }
            _ => generator.active = (0..shape.keys).map(|_| generator.new_key()).collect(),
        }
        generator
    }

    /// The next transaction.
    pub fn next_asked(&mut self) -> Asked {
        let request = match self.workload {
            Workload::ListAppend | Workload::Registers => self.txn(),
            Workload::Bank => self.bank(),
            Workload::LongFork => {
                let at = self.stream.below(self.agendas.len() as u64) as usize;
                let asked = self.agendas[at].pop().expect("none in use is empty");
                if self.agendas[at].is_empty() {
                    self.agendas[at] = self.agenda();
                }
                return asked;
            }
        };
        let writes = match &request {
            Request::Txn(ops) => ops.iter().any(|op| op.is_write()),
            Request::Transfer { .. } => true,
            Request::Balances { .. } => false,
        };
        let drawn = self.stream.chance(self.shape.rollbacks);
        Asked {
            request,
            rollback: writes && drawn,
        }
    }

    /// Reads of everything that was ever written, for after the run: what was acknowledged has to be there.
    pub fn final_reads(&self) -> Vec<Asked> {
        let read = |request| Asked {
            request,
            rollback: false,
        };
        let keys: Vec<u64> = (0..self.next_key).collect();
        let of_keys = |keys: &[u64]| {
            let ops = keys.iter().map(|&key| match self.workload {
                Workload::ListAppend => Op::ReadList { key },
                _ => Op::Read { key },
            });
            read(Request::Txn(ops.collect()))
        };
        match self.workload {
            Workload::Bank => vec![read(self.balances())],
            // A reader of many keys would be a reader of a long fork that nobody asked for.
            Workload::LongFork => keys.chunks(2).map(of_keys).collect(),
            _ => {
                let size = self.shape.operations_max.max(1) as usize;
                keys.chunks(size).map(of_keys).collect()
            }
        }
    }

    fn new_key(&mut self) -> Active {
        let key = self.next_key;
        self.next_key += 1;
        Active { key, writes: 0 }
    }

    fn txn(&mut self) -> Request {
        let count = self.stream.between(1, self.shape.operations_max);
        let ops = (0..count).map(|_| self.op());
        Request::Txn(ops.collect())
    }

    fn op(&mut self) -> Op {
        let lists = self.workload == Workload::ListAppend;
        let at = self.stream.below(self.active.len() as u64) as usize;
        let key = self.active[at].key;
        if self.stream.chance(0.5) {
            return match lists {
                true => Op::ReadList { key },
                false => Op::Read { key },
            };
        }
        self.active[at].writes += 1;
        let value = self.active[at].writes;
        if value == self.shape.writes_per_key {
            self.active[at] = self.new_key();
        }
        match lists {
            true => Op::Append { key, value },
            false => Op::Write { key, value },
        }
    }

    fn balances(&self) -> Request {
        Request::Balances {
            accounts: self.shape.accounts,
        }
    }

    fn bank(&mut self) -> Request {
        if self.stream.chance(0.5) {
            return self.balances();
        }
        let from = self.stream.below(self.shape.accounts);
        let other = self.stream.below(self.shape.accounts - 1);
        Request::Transfer {
            from,
            to: other + u64::from(other >= from),
            amount: self.stream.between(1, 5),
        }
    }

    /// Two writes and some reads of both, in any order; the reads in either order of the keys.
    fn agenda(&mut self) -> Vec<Asked> {
        const READS: usize = 8;
        let (a, b) = (self.new_key().key, self.new_key().key);
        let mut agenda: Vec<Request> = [a, b]
            .map(|key| Request::Txn(vec![Op::Write { key, value: 1 }]))
            .into();
        for _ in 0..READS {
            let (first, second) = match self.stream.chance(0.5) {
                true => (a, b),
                false => (b, a),
            };
            let reads = [first, second].map(|key| Op::Read { key });
            agenda.push(Request::Txn(reads.into()));
        }
        for at in (1..agenda.len()).rev() {
            agenda.swap(at, self.stream.below(at as u64 + 1) as usize);
        }
        let asked = agenda.into_iter().map(|request| Asked {
            request,
            rollback: false,
        });
        asked.collect()
    }
}
