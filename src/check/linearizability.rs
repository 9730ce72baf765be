//! Linearizability, key by key: registers with compare-and-set, counters, sets, lists.
//!
//! Linearizability is local (Herlihy and Wing, TOPLAS 1990): a history has it if each object's part has it, so each
//! key is searched for itself. The search is Lowe's just-in-time variant (*Testing for linearizability*, 2017)
//! of Wing and Gong's: it walks through the invocations and completions in the order of time and keeps the set of
//! *configurations* that are possible by now: the object's state, and which of the outstanding operations have
//! taken effect. Only when an operation completes must it have taken effect, so only then is anything tried. The
//! set is the memoisation: two ways to the same configuration are one.
//!
//! Two reductions keep it small, and neither loses a linearization. An outstanding read that fits takes effect at
//! once, because it changes nothing. Of two configurations that differ only in that one has spent more of
//! the indeterminate operations, the one that has spent fewer can do whatever the other can.
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

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rayon::prelude::*;

use super::explain::{self, Cast};
use super::history::NEVER;
use super::{
    Anomaly, AnomalyKind, Exercised, History, KeyId, Model, Op, Options, Report, Status, TxnId,
};

/// What a key holds, told from the operations on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Object {
    /// Written, read, compared and set.
    Register,
    /// Added to, and read as a number (two's complement).
    Counter,
    /// Elements added, and read as a list in any order.
    Set,
    /// Appended to, and read as a list.
    List,
}

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
    /// The budget ended first.
    Exceeded,
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
    let outcomes: Vec<(KeyId, Outcome)> = parts
        .par_iter()
        .map(|(&key, part)| {
            let object = object(key).unwrap_or_else(|| part.object());
            (key, part.search(history, object, options.steps_max))
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
            Outcome::Exceeded => undecided.push(format!(
                "key {}: not decided within {} steps",
                history.show_key(key),
                options.steps_max
            )),
        }
    }
    if !Model::Linearizable.implies(options.model) {
        undecided.push(format!(
            "{}: keys were checked one by one, which cannot prove it",
            options.model
        ));
    }
    Report::new(options, anomalies, exercised(history, &parts), undecided)
}

/// Checks one key.
pub fn check_key(history: &History, key: KeyId, steps_max: u64) -> Outcome {
    let parts = partition(history);
    let part = parts.get(&key);
    part.map_or(Outcome::Linearizable, |part| {
        part.search(history, part.object(), steps_max)
    })
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
    let others: Vec<String> = outstanding.iter().map(|&other| cast.name(other)).collect();
    let beside = match others.is_empty() {
        true => "nothing else was outstanding".into(),
        false => format!("outstanding beside it were {}", others.join(", ")),
    };
    let sentence = format!(
        "By the time that {name} completed it must have taken effect. Whatever order the operations before took \
         effect in, key {} then held {}; {beside}; and from there no order lets {name} return what it did: a \
         contradiction!",
        history.show_key(key),
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
    let mut parts = BTreeMap::<KeyId, Part<'_>>::new();
    for txn in history.txns().filter(|txn| txn.may_have_happened()) {
        let mut touched = BTreeMap::<KeyId, Vec<Op<'_>>>::new();
        for op in txn.ops() {
            touched.entry(op.key()).or_default().push(op);
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
}

impl State {
    fn initial(object: Object) -> Self {
        match object {
            Object::Register => State::Register(None),
            Object::Counter => State::Counter(0),
            Object::Set => State::Set(BTreeSet::new()),
            Object::List => State::List(Vec::new()),
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
            (State::Set(held), Op::Add { delta, .. }) => {
                held.insert(*delta as u64);
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
            _ => false,
        }
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
        }
    }
}

/// What may be the case at an instant. Calls are indices into [`Part::calls`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Configuration {
    state: State,
    /// Of the outstanding calls that will complete: those that have taken effect, ascending.
    done: Vec<u32>,
    /// Of the indeterminate calls: those that have taken effect, ascending.
    spent: Vec<u32>,
}

/// How many states an explanation lists.
const STATES_SHOWN: usize = 4;

impl<'a> Part<'a> {
    /// What the key holds.
    ///
    /// A key on which operations of different objects meet is judged as the first that fits; then the others can
    /// never be executed and are reported.
    fn object(&self) -> Object {
        let has =
            |test: fn(&Op<'_>) -> bool| self.calls.iter().flat_map(|call| &call.ops).any(test);
        if has(|op| matches!(op, Op::Append { .. })) {
            Object::List
        } else if has(|op| matches!(op, Op::ReadList { .. })) {
            Object::Set
        } else if has(|op| matches!(op, Op::Add { .. })) {
            Object::Counter
        } else {
            Object::Register
        }
    }

    /// Invocations and completions in the order of time; at one instant, invocations first.
    fn events(&self) -> Vec<(u64, bool, u32)> {
        let mut events = Vec::new();
        for (at, call) in self.calls.iter().enumerate() {
            events.push((call.invoke, false, at as u32));
            if !call.is_indeterminate() {
                events.push((call.complete, true, at as u32));
            }
        }
        events.sort_unstable();
        events
    }

    fn search(&self, history: &History, object: Object, steps_max: u64) -> Outcome {
        let state = State::initial(object);
        let start = Configuration {
            state,
            done: Vec::new(),
            spent: Vec::new(),
        };
        let mut possible = BTreeSet::from([start]);
        let mut outstanding: Vec<u32> = Vec::new();
        let mut steps = 0;
        for (_, completes, call) in self.events() {
            if !completes {
                outstanding.push(call);
                if self.calls[call as usize].is_read_only() {
                    possible = possible
                        .into_iter()
                        .map(|c| self.with_reads(c, &[call]))
                        .collect();
                }
                continue;
            }
            let Some(next) = self.complete(&possible, &outstanding, call, &mut steps, steps_max)
            else {
                return Outcome::Exceeded;
            };
            outstanding.retain(|&other| other != call);
            if next.is_empty() {
                return self.stuck(history, call, &outstanding, &possible);
            }
            possible = next;
        }
        Outcome::Linearizable
    }

    fn stuck(
        &self,
        history: &History,
        call: u32,
        outstanding: &[u32],
        possible: &BTreeSet<Configuration>,
    ) -> Outcome {
        let states: BTreeSet<&State> = possible.iter().map(|c| &c.state).collect();
        let mut shown: Vec<String> = states
            .iter()
            .take(STATES_SHOWN)
            .map(|state| state.show(history))
            .collect();
        if states.len() > STATES_SHOWN {
            shown.push(format!(
                "one of {} other values",
                states.len() - STATES_SHOWN
            ));
        }
        Outcome::Stuck {
            txn: self.calls[call as usize].txn,
            outstanding: outstanding
                .iter()
                .map(|&at| self.calls[at as usize].txn)
                .collect(),
            states: shown,
        }
    }

    /// Lets those of these outstanding reads take effect that return what the state holds.
    fn with_reads(&self, mut configuration: Configuration, outstanding: &[u32]) -> Configuration {
        for &at in outstanding {
            let call = &self.calls[at as usize];
            let fits = || configuration.state.after(call).is_some();
            if call.is_read_only() && !configuration.done.contains(&at) && fits() {
                insert(&mut configuration.done, at);
            }
        }
        configuration
    }

    /// The configurations in which the completing call has taken effect, or `None` if the budget ends.
    fn complete(
        &self,
        possible: &BTreeSet<Configuration>,
        outstanding: &[u32],
        completing: u32,
        steps: &mut u64,
        steps_max: u64,
    ) -> Option<BTreeSet<Configuration>> {
        let mut seen = Frontier::default();
        let mut work: VecDeque<Configuration> = possible
            .iter()
            .filter(|&c| seen.insert(c))
            .cloned()
            .collect();
        let mut finished = Frontier::default();
        while let Some(mut configuration) = work.pop_front() {
            *steps += 1;
            if *steps > steps_max {
                return None;
            }
            if let Ok(at) = configuration.done.binary_search(&completing) {
                configuration.done.remove(at);
                finished.insert(&configuration);
                continue;
            }
            let mut tried: Vec<&[Op<'a>]> = Vec::new();
            for &next in outstanding {
                let call = &self.calls[next as usize];
                let taken =
                    configuration.done.contains(&next) || configuration.spent.contains(&next);
                if taken || call.is_indeterminate() && tried.contains(&&call.ops[..]) {
                    continue;
                }
                if call.is_indeterminate() {
                    // Of those that do the same, it does not matter which one is spent.
                    tried.push(&call.ops);
                }
                let Some(state) = configuration.state.after(call) else {
                    continue;
                };
                let mut after = Configuration {
                    state,
                    ..configuration.clone()
                };
                match call.is_indeterminate() {
                    true => insert(&mut after.spent, next),
                    false => insert(&mut after.done, next),
                }
                let after = self.with_reads(after, outstanding);
                if seen.insert(&after) {
                    work.push_back(after);
                }
            }
        }
        Some(finished.into_configurations())
    }
}

fn insert(sorted: &mut Vec<u32>, item: u32) {
    if let Err(at) = sorted.binary_search(&item) {
        sorted.insert(at, item);
    }
}

/// A state, and which outstanding calls have taken effect.
type Position = (State, Vec<u32>);

/// Configurations of which none has spent a superset of what an otherwise equal one has.
#[derive(Default)]
struct Frontier(BTreeMap<Position, Vec<Vec<u32>>>);

impl Frontier {
    /// Adds a configuration, unless one is there that can do whatever it can.
    fn insert(&mut self, configuration: &Configuration) -> bool {
        let Configuration { state, done, spent } = configuration;
        let known = self.0.entry((state.clone(), done.clone())).or_default();
        let covers =
            |less: &[u32], more: &[u32]| less.iter().all(|at| more.binary_search(at).is_ok());
        if known.iter().any(|less| covers(less, spent)) {
            return false;
        }
        known.retain(|more| !covers(spent, more));
        known.push(spent.clone());
        true
    }

    fn into_configurations(self) -> BTreeSet<Configuration> {
        let all = self.0.into_iter().flat_map(|((state, done), spents)| {
            let each = move |spent| Configuration {
                state: state.clone(),
                done: done.clone(),
                spent,
            };
            spents.into_iter().map(each)
        });
        all.collect()
    }
}
