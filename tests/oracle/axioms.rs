//! Consistency models by their axioms, executed: abstract executions after Cerone, Bernardi and Gotsman, *A
//! Framework for Transactional Consistency Models with Atomic Visibility* (CONCUR 2015), and update serializability.
//!
//! An execution is a total order of the transactions (arbitration, AR) and for each of them the set of earlier ones
//! that it sees (visibility, VIS). A read returns the version of the last visible writer of the key, or the
//! transaction's own (EXT, INT). What a model adds is one line in [`Axiomatic::allows`]. As in that paper there are no
//! sessions, and time does not matter.
//!
//! Of lists: an append installs a version, the one before it in AR with one more element; a transaction that reads a
//! list after appending to it has seen the version that it installs.
//!
//! All orders and all sets are tried, but for one thing: no set that holds another one which explains the reads too, for
//! a set only ever constrains what is in it and what sees it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Op, State, Status, Txn, Value, list_at, run, take, written_keys};

/// The models that are defined by axioms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Axiomatic {
    /// Nothing but atomic visibility.
    ReadAtomic,
    /// TRANSVIS: what a visible transaction saw is visible.
    CausalConsistency,
    /// NOCONFLICT: of two writers of a key one sees the other.
    UpdateAtomic,
    /// TRANSVIS and NOCONFLICT.
    ParallelSnapshotIsolation,
    /// PREFIX: what comes before something visible is visible.
    Prefix,
    /// PREFIX and NOCONFLICT.
    SnapshotIsolation,
    /// TOTALVIS: all before is visible.
    Serializable,
    /// Not by axioms of visibility: the transactions that write, with any one that only reads, can be put in a
    /// serial order that agrees with one order of versions (Hansdah and Patnaik 1986; Adya's PL-3U).
    UpdateSerializable,
}

/// All of them.
pub const AXIOMATIC: [Axiomatic; 8] = [
    Axiomatic::ReadAtomic,
    Axiomatic::CausalConsistency,
    Axiomatic::UpdateAtomic,
    Axiomatic::ParallelSnapshotIsolation,
    Axiomatic::Prefix,
    Axiomatic::SnapshotIsolation,
    Axiomatic::Serializable,
    Axiomatic::UpdateSerializable,
];

/// Whether some execution of the model gives the history.
pub fn is_execution(model: Axiomatic, history: &[Txn]) -> bool {
    is_execution_of(model, false, history)
}

/// The same, where each transaction sees what its process had committed before it was invoked (SESSION: the order of sessions is part
/// of visibility).
pub fn is_execution_in_sessions(model: Axiomatic, history: &[Txn]) -> bool {
    is_execution_of(model, true, history)
}

fn is_execution_of(model: Axiomatic, sessions: bool, history: &[Txn]) -> bool {
    let certain: Vec<&Txn> = history.iter().filter(|t| t.status == Status::Ok).collect();
    let maybe: Vec<&Txn> = (history.iter())
        .filter(|t| t.status == Status::Info)
        .collect();
    (0..1u32 << maybe.len()).any(|chosen| {
        let mut happened = certain.clone();
        let picked = (0..maybe.len()).filter(|i| chosen >> i & 1 == 1);
        happened.extend(picked.map(|i| maybe[i]));
        match model {
            Axiomatic::UpdateSerializable => update_serializable(&happened),
            _ => extends((model, sessions), &mut Vec::new(), &happened),
        }
    })
}

/// A transaction in its place in AR.
struct Placed<'a> {
    txn: &'a Txn,
    /// Which of those before it are visible.
    visible: u32,
    /// The versions that it installed.
    versions: State,
}

impl Axiomatic {
    /// May a transaction that writes these keys see just these of the ones before it?
    fn allows(self, log: &[Placed<'_>], visible: u32, writes: &BTreeSet<u32>) -> bool {
        let sees = |at: usize| visible >> at & 1 == 1;
        let mut places = 0..log.len();
        let transitive = || {
            let mut seen = (0..log.len()).filter(|&at| sees(at));
            seen.all(|at| log[at].visible & !visible == 0)
        };
        let prefix = || visible & (visible + 1) == 0;
        let no_conflict = || {
            let conflicts = |at: usize| log[at].versions.keys().any(|key| writes.contains(key));
            (0..log.len()).all(|at| sees(at) || !conflicts(at))
        };
        match self {
            Axiomatic::ReadAtomic => true,
            Axiomatic::CausalConsistency => transitive(),
            Axiomatic::UpdateAtomic => no_conflict(),
            Axiomatic::ParallelSnapshotIsolation => transitive() && no_conflict(),
            Axiomatic::Prefix => prefix(),
            Axiomatic::SnapshotIsolation => prefix() && no_conflict(),
            Axiomatic::Serializable => places.all(sees),
            Axiomatic::UpdateSerializable => unreachable!("it is not defined by visibility"),
        }
    }
}

/// The newest version of each key that some of the transactions installed.
fn state(log: &[Placed<'_>], includes: impl Fn(usize) -> bool) -> State {
    let mut state = State::new();
    for (_, placed) in log.iter().enumerate().filter(|(at, _)| includes(*at)) {
        state.extend(placed.versions.clone());
    }
    state
}

/// Whether the remaining transactions can follow the log.
fn extends<'a>(
    (model, sessions): (Axiomatic, bool),
    log: &mut Vec<Placed<'a>>,
    remaining: &[&'a Txn],
) -> bool {
    let precedes = |one: &Txn, other: &Txn| {
        let ended = one.status == Status::Ok && one.complete < other.invoke;
        sessions && ended && one.process == other.process
    };
    remaining.is_empty()
        || (0..remaining.len()).any(|next| {
            let (txn, rest) = take(remaining, next);
            if rest.iter().any(|other| precedes(other, txn)) {
                return false;
            }
            let past: u32 = (log.iter().zip(0..))
                .map(|(placed, at)| u32::from(precedes(placed.txn, txn)) << at)
                .sum();
            let writes = written_keys(txn);
            let mut sets: Vec<u32> = (0..1u32 << log.len()).collect();
            sets.sort_unstable_by_key(|set| set.count_ones());
            let mut explain: Vec<u32> = Vec::new();
            sets.into_iter().any(|visible| {
                let is_larger = |smaller: &u32| smaller & !visible == 0;
                let lacks_past = past & !visible != 0;
                if lacks_past
                    || explain.iter().any(is_larger)
                    || !model.allows(log, visible, &writes)
                {
                    return false;
                }
                let Some(versions) = install(log, txn, visible) else {
                    return false;
                };
                explain.push(visible);
                log.push(Placed {
                    txn,
                    visible,
                    versions,
                });
                let found = extends((model, sessions), log, &rest);
                log.pop();
                found
            })
        })
}

/// The versions that a transaction installs at the end of the log, if that set explains its reads.
fn install(log: &[Placed<'_>], txn: &Txn, visible: u32) -> Option<State> {
    let snapshot = state(log, |at| visible >> at & 1 == 1);
    let newest = state(log, |_| true);
    let mut seen = run(txn, &snapshot)?;
    let writes = written_keys(txn);
    seen.retain(|key, _| writes.contains(key));
    for (key, version) in &mut seen {
        let Value::List(list) = version else { continue };
        let (before, now) = (list_at(&snapshot, *key), list_at(&newest, *key));
        if before != now && reads_own(txn, *key) {
            return None;
        }
        let own = list.split_off(before.len());
        *list = now;
        list.extend(own);
    }
    Some(seen)
}

/// Does the transaction read the list after appending to it?
fn reads_own(txn: &Txn, list: u32) -> bool {
    let mut ops = txn.ops.iter();
    let appended = ops.any(|op| matches!(op, Op::Append(key, _) if *key == list));
    appended && ops.any(|op| matches!(op, Op::ReadList(key, _) if *key == list))
}

/// By key, its writers in the order of a serial execution.
type Versions = BTreeMap<u32, Vec<usize>>;

fn update_serializable(happened: &[&Txn]) -> bool {
    let (updates, readers): (Vec<&Txn>, Vec<&Txn>) =
        (happened.iter()).partition(|txn| !written_keys(txn).is_empty());
    // By order of versions: the serial executions with that order, as the states that they go through.
    let mut executions = BTreeMap::<Versions, Vec<Vec<State>>>::new();
    let mut order = Vec::new();
    serial_executions(&updates, &mut order, vec![State::new()], &mut executions);
    executions.values().any(|executions| {
        readers.iter().all(|reader| {
            let mut states = executions.iter().flatten();
            states.any(|state| run(reader, state).is_some())
        })
    })
}

fn serial_executions(
    updates: &[&Txn],
    order: &mut Vec<usize>,
    states: Vec<State>,
    found: &mut BTreeMap<Versions, Vec<Vec<State>>>,
) {
    if order.len() == updates.len() {
        let mut versions = Versions::new();
        for &at in &*order {
            for key in written_keys(updates[at]) {
                versions.entry(key).or_default().push(at);
            }
        }
        found.entry(versions).or_default().push(states);
        return;
    }
    for next in (0..updates.len())
        .filter(|at| !order.contains(at))
        .collect::<Vec<_>>()
    {
        let Some(after) = run(updates[next], &states[states.len() - 1]) else {
            continue;
        };
        let mut states = states.clone();
        states.push(after);
        order.push(next);
        serial_executions(updates, order, states, found);
        order.pop();
    }
}
