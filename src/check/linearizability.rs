//! Linearizability, key by key: registers with compare-and-set, counters, sets, lists.
//!
//! Linearizability is local (Herlihy and Wing, TOPLAS 1990): a history has it if each object's part has it, so each
//! key is searched for itself. The search is Lowe's just-in-time variant (*Testing for linearizability*, 2017)
//! of Wing and Gong's: it walks through the invocations and completions in the order of time and keeps the set of
//! *configurations* that are possible by now: the object's state, and which of the outstanding operations have
//! taken effect. Only when an operation completes must it have taken effect, so only then is anything tried. The
//! set is the memoisation: two ways to the same configuration are one.
//!
//! Four reductions keep it small, and none loses a linearization. An outstanding read that fits takes effect at
//! once, because it changes nothing. Indeterminate calls that do the same are interchangeable. Of two configurations that
//! differ only in that one has spent more of the indeterminate calls, the one that has spent fewer can do
//! whatever the other can. And calls on a register are tried only from the value that they need, and only towards
//! values from which the completing call can be reached.
//!
//! A transaction counts as one operation on each key that it touches: what it does to that key, at one instant.
//!
//! ```
//! use ordain::check::{HistoryBuilder, Model, Options, Status, Verdict, linearizability};
//!
//! let mut history = HistoryBuilder::new();
//! for (process, invoke, complete, value) in [(0, 1, 2, Some(7)), (1, 3, 4, None)] {
//!     history.begin(process, invoke);
//!     match value {
//!         Some(value) => history.write(1, value),
//!         None => history.read(1, None), // stale: the write had completed
//!     }
//!     history.end(Status::Ok, Some(complete));
//! }
//! let report = linearizability::check(&history.finish(), &Options::new(Model::Linearizable));
//! assert_eq!(report.verdict, Verdict::Invalid);
//! ```

mod counter;
mod search;
mod set;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rayon::prelude::*;

use super::explain::{self, Cast};
pub use super::history::Object;
use super::history::{NAME_BASE, NEVER};
use super::{
    Anomaly, AnomalyKind, Exercised, History, KeyId, Model, Op, Options, Report, Status, TxnId,
};
use search::Found;

/// The verdict on one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A linearization exists.
    Linearizable,
    /// None does: when this transaction completed it could not have taken effect.
    Stuck {
        /// The transaction.
        txn: TxnId,
        /// The others that were outstanding then.
        outstanding: Vec<TxnId>,
        /// The values that the key may have held just before, a few of them.
        states: Vec<String>,
    },
    /// None does, as a few transactions show.
    Impossible {
        /// The transactions; the sentence calls them T1, T2, ... in this order.
        txns: Vec<TxnId>,
        /// Why.
        sentence: String,
    },
    /// The budget ended first.
    Exceeded,
}

/// Transactions that show that there is no linearization, and why; the sentence calls them T1, T2, ... in their order.
struct Contradiction {
    txns: Vec<TxnId>,
    sentence: String,
}

/// Checks every key of a history by itself, each with the whole budget of steps. What a key holds is told from
/// the operations on it; see [`check_objects`] where these may not suffice.
///
/// The verdict is about [`Model::Linearizable`]: for another model it can be invalid, but not valid.
pub fn check(history: &History, options: &Options) -> Report {
    check_objects(history, options, |_| None)
}

/// The same, where it is known what some keys hold: a counter that was only read looks like a register.
pub fn check_objects(
    history: &History,
    options: &Options,
    object: impl Fn(KeyId) -> Option<Object> + Sync,
) -> Report {
    let parts = partition(history);
    let told = history.objects();
    let outcomes: Vec<(KeyId, Outcome)> = parts
        .par_iter()
        .map(|(&key, part)| {
            let object = object(key).or(told[key as usize]);
            let object = object.unwrap_or(Object::Register);
            (key, part.search(history, (key, object), options.steps_max))
        })
        .collect();
    let mut anomalies = Vec::new();
    let mut undecided = Vec::new();
    for (key, outcome) in outcomes {
        match outcome {
            Outcome::Linearizable => {}
            Outcome::Stuck {
                txn,
                outstanding,
                states,
            } => {
                anomalies.push(anomaly(history, key, txn, outstanding, &states));
            }
            Outcome::Impossible { txns, sentence } => {
                let cast = Cast::of(txns);
                let kind = AnomalyKind::NotLinearizable;
                anomalies.push(explain::fact(history, kind, Some(key), cast, &sentence));
            }
            Outcome::Exceeded => undecided.push(format!(
                "{}: not decided within {} steps",
                name(history, key),
                options.steps_max
            )),
        }
    }
    let held = undecided.is_empty().then_some(Model::Linearizable);
    if !Model::Linearizable.implies(options.model) {
        undecided.push(format!(
            "{}: keys were checked one by one, which cannot prove it",
            options.model
        ));
    }
    let exercised = exercised(history, &parts);
    Report::new(options, anomalies, exercised, held, undecided)
}

/// Checks one key.
pub fn check_key(history: &History, key: KeyId, steps_max: u64) -> Outcome {
    let parts = partition(history);
    let part = parts.get(&key);
    part.map_or(Outcome::Linearizable, |part| {
        let object = history.objects()[key as usize].unwrap_or(Object::Register);
        part.search(history, (key, object), steps_max)
    })
}

/// What a key's part is called: accounts are judged together.
fn name(history: &History, key: KeyId) -> String {
    match history.accounts().contains(&key) {
        true => "the accounts together".into(),
        false => format!("key {}", history.show_key(key)),
    }
}

fn exercised(history: &History, parts: &BTreeMap<KeyId, Part<'_>>) -> Exercised {
    let mut counts = Exercised::default();
    for txn in history.txns() {
        match txn.header.status {
            Status::Ok => counts.transactions += 1,
            Status::Info => {
                counts.transactions += 1;
                counts.indeterminate += 1;
            }
            Status::Fail => counts.failed += 1,
        }
    }
    for op in parts
        .values()
        .flat_map(|part| &part.calls)
        .flat_map(|call| &call.ops)
    {
        match op {
            Op::Read { value, .. } => {
                counts.reads += 1;
                counts.reads_nonempty += u64::from(value.is_some());
            }
            Op::ReadList { list, .. } => {
                counts.reads += 1;
                counts.reads_nonempty += u64::from(!list.is_empty());
            }
            Op::Dequeue { value, .. } => {
                counts.reads += 1;
                counts.reads_nonempty += u64::from(value.is_some());
            }
            Op::ReadUnknown { .. } => {}
            _ => counts.writes += 1,
        }
    }
    counts
}

fn anomaly(
    history: &History,
    key: KeyId,
    txn: TxnId,
    outstanding: Vec<TxnId>,
    states: &[String],
) -> Anomaly {
    let mut cast = Cast::of([txn]);
    let name = cast.name(txn);
    let others = outstanding.iter().take(OUTSTANDING_SHOWN);
    let others: Vec<String> = others.map(|&other| cast.name(other)).collect();
    let beside = match outstanding.len() - others.len() {
        _ if others.is_empty() => "nothing else was outstanding".into(),
        0 => format!("outstanding beside it were {}", others.join(", ")),
        more => {
            let others = others.join(", ");
            format!("outstanding beside it were {others} and {more} more")
        }
    };
    let sentence = format!(
        "By the time that {name} completed it must have taken effect. Whatever order the operations before took \
         effect in, {} then held {}; {beside}; and from there no order lets {name} return what it did: a \
         contradiction!",
        self::name(history, key),
        states.join(" or ")
    );
    explain::fact(
        history,
        AnomalyKind::NotLinearizable,
        Some(key),
        cast,
        &sentence,
    )
}

/// One transaction's effect on one key.
struct Call<'a> {
    txn: TxnId,
    invoke: u64,
    /// [`NEVER`] unless it certainly happened.
    complete: u64,
    ops: Vec<Op<'a>>,
}

impl Call<'_> {
    fn is_read_only(&self) -> bool {
        let reads = |op: &Op<'_>| {
            matches!(
                op,
                Op::Read { .. } | Op::ReadList { .. } | Op::ReadUnknown { .. }
            )
        };
        self.ops.iter().all(reads)
    }

    fn is_indeterminate(&self) -> bool {
        self.complete == NEVER
    }
}

/// One key's part of a history.
struct Part<'a> {
    calls: Vec<Call<'a>>,
}

fn partition(history: &History) -> BTreeMap<KeyId, Part<'_>> {
    let accounts = history.accounts();
    let bank = accounts.first().copied();
    let object = |key: KeyId| bank.filter(|_| accounts.contains(&key)).unwrap_or(key);
    let mut parts = BTreeMap::<KeyId, Part<'_>>::new();
    for txn in history.txns().filter(|txn| txn.may_have_happened()) {
        let mut touched = BTreeMap::<KeyId, Vec<Op<'_>>>::new();
        for op in txn.ops() {
            touched.entry(object(op.key())).or_default().push(op);
        }
        let certain = txn.header.status == Status::Ok;
        for (key, ops) in touched {
            let complete = if certain { txn.header.complete } else { NEVER };
            let call = Call {
                txn: txn.id,
                invoke: txn.header.invoke,
                complete,
                ops,
            };
            // One that may never have happened and changes nothing constrains nothing.
            if certain || !call.is_read_only() {
                parts
                    .entry(key)
                    .or_insert_with(|| Part { calls: Vec::new() })
                    .calls
                    .push(call);
            }
        }
    }
    parts
}

/// The value of an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum State {
    Register(Option<u64>),
    Counter(i64),
    Set(BTreeSet<u64>),
    List(Vec<u64>),
    Queue(VecDeque<u64>),
    Bank(BTreeMap<KeyId, Balance>),
}

/// An account's balance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Balance {
    /// Nobody read it yet: what was moved to it so far.
    Moved(i64),
    Known(i64),
}

impl Balance {
    fn add(&mut self, delta: i64) {
        let (Balance::Moved(amount) | Balance::Known(amount)) = self;
        *amount = amount.wrapping_add(delta);
    }

    /// Reads it; false if it is another.
    fn is(&mut self, amount: i64) -> bool {
        let fits = match *self {
            Balance::Moved(_) => true,
            Balance::Known(known) => known == amount,
        };
        *self = Balance::Known(amount);
        fits
    }
}

impl State {
    /// The state before any call, of a register with what it is known to have held.
    fn initial(object: Object, value: Option<u64>) -> Self {
        match object {
            Object::Register => State::Register(value),
            Object::Counter => State::Counter(0),
            Object::Set => State::Set(BTreeSet::new()),
            Object::List => State::List(Vec::new()),
            Object::Queue => State::Queue(VecDeque::new()),
            Object::Account => State::Bank(BTreeMap::new()),
        }
    }

    /// Executes an operation; false if it cannot have returned what it did.
    fn apply(&mut self, op: &Op<'_>) -> bool {
        match (self, op) {
            (_, Op::ReadUnknown { .. }) => true,
            (State::Register(held), Op::Write { value, .. }) => {
                *held = Some(*value);
                true
            }
            (State::Register(held), Op::Read { value, .. }) => held == value,
            (State::Register(held), Op::Cas { expected, new, .. }) => {
                held.replace(*new) == Some(*expected)
            }
            (State::Counter(held), Op::Add { delta, .. }) => {
                *held = held.wrapping_add(*delta);
                true
            }
            (State::Counter(held), Op::Read { value, .. }) => *held == value.unwrap_or(0) as i64,
            (State::Set(held), Op::Insert { value, .. }) => {
                held.insert(*value);
                true
            }
            (State::Set(held), Op::ReadList { list, .. }) => {
                held.len() == list.len() && list.iter().all(|element| held.contains(element))
            }
            (State::List(held), Op::Append { value, .. }) => {
                held.push(*value);
                true
            }
            (State::List(held), Op::ReadList { list, .. }) => held == list,
            (State::Queue(held), Op::Enqueue { value, .. }) => {
                held.push_back(*value);
                true
            }
            (State::Queue(held), Op::Dequeue { value, .. }) => held.pop_front() == *value,
            (State::Queue(held), Op::DequeueUnknown { .. }) => {
                held.pop_front();
                true
            }
            (State::Bank(held), Op::Add { key, delta }) => {
                held.entry(*key).or_insert(Balance::Moved(0)).add(*delta);
                true
            }
            (State::Bank(held), Op::Write { key, value }) => {
                held.insert(*key, Balance::Known(*value as i64));
                true
            }
            (
                State::Bank(held),
                Op::Read {
                    key,
                    value: Some(value),
                },
            ) => held
                .entry(*key)
                .or_insert(Balance::Moved(0))
                .is(*value as i64),
            _ => false,
        }
    }

    /// What it costs to copy, in calls looked at.
    fn cost(&self) -> u64 {
        let elements = match self {
            State::Register(_) | State::Counter(_) => 0,
            State::Set(set) => set.len(),
            State::List(list) => list.len(),
            State::Queue(queue) => queue.len(),
            State::Bank(accounts) => accounts.len(),
        };
        1 + elements as u64 / 8
    }

    fn after(&self, call: &Call<'_>) -> Option<State> {
        let mut state = self.clone();
        call.ops.iter().all(|op| state.apply(op)).then_some(state)
    }

    fn show(&self, history: &History) -> String {
        match self {
            State::Register(None) => "nothing".into(),
            State::Register(Some(value)) => history.show_value(*value),
            State::Counter(value) => value.to_string(),
            State::Set(set) => explain::list(history, &set.iter().copied().collect::<Vec<_>>()),
            State::List(list) => explain::list(history, list),
            State::Queue(queue) => {
                explain::list(history, &queue.iter().copied().collect::<Vec<_>>())
            }
            State::Bank(accounts) => {
                let balance = |(&key, balance): (&KeyId, &Balance)| match balance {
                    Balance::Known(amount) => format!("{} {amount}", history.show_key(key)),
                    Balance::Moved(amount) => {
                        format!("{} unknown {amount:+}", history.show_key(key))
                    }
                };
                let balances: Vec<String> = accounts.iter().map(balance).collect();
                format!("{{{}}}", balances.join(", "))
            }
        }
    }
}

/// How many states an explanation lists.
const STATES_SHOWN: usize = 4;

/// How many outstanding calls an explanation names.
const OUTSTANDING_SHOWN: usize = 16;

impl<'a> Part<'a> {
    fn search(&self, history: &History, (key, object): (KeyId, Object), steps_max: u64) -> Outcome {
        let numbers = self.with_numbers(history, object);
        let calls = numbers.as_deref().unwrap_or(&self.calls);
        let contradiction = match object {
            Object::Set => match set::decide(history, calls) {
                Some(Ok(())) => return Outcome::Linearizable,
                Some(Err(contradiction)) => Some(contradiction),
                None => None,
            },
            Object::Counter => counter::out_of_bounds(calls),
            _ => None,
        };
        if let Some(Contradiction { txns, sentence }) = contradiction {
            return Outcome::Impossible { txns, sentence };
        }
        let initial = State::initial(object, history.initial_value(key));
        match search::search(calls, (object, initial), steps_max) {
            Found::Linearization => Outcome::Linearizable,
            Found::Exceeded => Outcome::Exceeded,
            Found::Stuck { call, states } => Outcome::Stuck {
                txn: self.calls[call as usize].txn,
                outstanding: self.outstanding_beside(call),
                states: show_states(history, &states),
            },
        }
    }

    /// The calls as the object has them, or `None` if they are so already. An `add` to a set names an element. Numbers of a
    /// counter and of accounts are in two's complement; files give those below zero by their texts.
    fn with_numbers(&self, history: &History, object: Object) -> Option<Vec<Call<'a>>> {
        let mut ops = self.calls.iter().flat_map(|call| &call.ops);
        let differs = match object {
            Object::Set => ops.any(|op| matches!(op, Op::Add { .. })),
            Object::Counter | Object::Account => ops.any(|op| {
                matches!(op, Op::Read { value: Some(value), .. } | Op::Write { value, .. } if *value >= NAME_BASE)
            }),
            _ => false,
        };
        if !differs {
            return None;
        }
        let names = match object {
            Object::Set => history.signed_names(),
            _ => BTreeMap::new(),
        };
        let number = |value| history.signed_value(value).map_or(value, |n| n as u64);
        let converted = |op: &Op<'a>| match *op {
            Op::Read { key, value } if object != Object::Set => {
                let value = value.map(number);
                Op::Read { key, value }
            }
            Op::Write { key, value } if object == Object::Account => {
                let value = number(value);
                Op::Write { key, value }
            }
            Op::Add { key, delta } if object == Object::Set => {
                let named = names.get(&delta).filter(|_| delta < 0);
                let value = named.map_or(delta as u64, |&value| value);
                Op::Insert { key, value }
            }
            op => op,
        };
        let converted = self.calls.iter().map(|call| Call {
            ops: call.ops.iter().map(converted).collect(),
            ..*call
        });
        Some(converted.collect())
    }

    /// The others that were outstanding when a call completed, in the order of their invocations.
    fn outstanding_beside(&self, call: u32) -> Vec<TxnId> {
        let Call { complete, .. } = self.calls[call as usize];
        let key = |at: u32| (self.calls[at as usize].complete, at);
        let invoked = search::events(&self.calls);
        let others = invoked.iter().filter(|&&(time, completes, at)| {
            !completes && time <= complete && key(at) > (complete, call)
        });
        others
            .map(|&(_, _, at)| self.calls[at as usize].txn)
            .collect()
    }
}

fn show_states(history: &History, states: &BTreeSet<State>) -> Vec<String> {
    let shown = states.iter().take(STATES_SHOWN);
    let mut shown: Vec<String> = shown.map(|state| state.show(history)).collect();
    if states.len() > STATES_SHOWN {
        let more = states.len() - STATES_SHOWN;
        shown.push(format!("one of {more} other values"));
    }
    shown
}
