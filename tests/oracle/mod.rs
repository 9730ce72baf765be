//! The brute-force oracle: what a consistency model *means*, executed.
//!
//! It tries every subset of the indeterminate transactions and every order of the rest, and runs the
//! transactions on a plain map. It infers nothing, prunes only prefixes that already failed, and shares
//! no code and no type with `ordain::check`, so that an agreement between the two is evidence. Keep it
//! that way, and keep histories at six or seven transactions.
//!
//! Definitions:
//! - serializable: some total order explains every read (Papadimitriou 1979; Adya's PL-3);
//! - snapshot isolation: some commit order, and for each transaction a snapshot of an earlier prefix of
//!   it, such that reads see the snapshot and the transaction's own writes, and no transaction that
//!   committed between the snapshot and the commit wrote a key that this one writes (Berenson et al.
//!   1995, first committer wins; the snapshot may be old, as in Elnikety's generalised form);
//! - *strict* or *strong*: where one transaction completed before another was invoked, the first is
//!   ordered before the second and is in its snapshot;
//! - *strong session*: the same, only between transactions of one process.
//!
//! Failed transactions never happened. Indeterminate ones may have, at any time after their invocation.

// Each integration test compiles this file for itself and uses a part of it.
#![allow(dead_code)]

pub mod axioms;
pub mod convert;
pub mod generate;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rayon::prelude::*;

/// How often each thing was seen, and disagreements in words.
pub type Outcome<K> = (BTreeMap<K, u64>, Vec<String>);

/// Compares what is drawn from each seed, on all threads, and sums up how often what was seen.
///
/// # Panics
///
/// If there is a disagreement.
pub fn assert_agreement<K: Ord + Send>(
    seeds: Range<u64>,
    compare: impl Fn(u64) -> Outcome<K> + Sync + Send,
) -> BTreeMap<K, u64> {
    let all = seeds.into_par_iter().map(compare);
    let none = || (BTreeMap::new(), Vec::new());
    let (tally, disagreements): Outcome<K> = all.reduce(none, |mut sum, other| {
        for (key, count) in other.0 {
            *sum.0.entry(key).or_default() += count;
        }
        sum.1.extend(other.1);
        sum
    });
    let first: Vec<_> = disagreements.iter().take(20).collect();
    assert!(
        disagreements.is_empty(),
        "{}: {first:#?}",
        disagreements.len()
    );
    tally
}

/// One step of a transaction. Reads whose result is unknown say nothing: leave them out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Sets a register.
    Write(u32, i64),
    /// What a read of a register returned; `None` is the initial state.
    Read(u32, Option<i64>),
    /// Appends to a list.
    Append(u32, i64),
    /// What a read of a list returned; empty is the initial state.
    ReadList(u32, Vec<i64>),
}

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It committed.
    Ok,
    /// It did not happen.
    Fail,
    /// It may have happened.
    Info,
}

/// A transaction as a client saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Txn {
    /// The client.
    pub process: u32,
    /// When it was invoked.
    pub invoke: u64,
    /// When its outcome was known; ignored for [`Status::Info`].
    pub complete: u64,
    /// The outcome.
    pub status: Status,
    /// The steps, in order.
    pub ops: Vec<Op>,
}

/// The models that the oracle can decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// Some order.
    Serializable,
    /// Some order that respects each process's own order.
    StrongSessionSerializable,
    /// Some order that respects real time.
    StrictSerializable,
    /// Some commit order and snapshots.
    SnapshotIsolation,
    /// The same; a process's snapshots contain what it committed before.
    StrongSessionSnapshotIsolation,
    /// The same; snapshots contain everything that had completed.
    StrongSnapshotIsolation,
}

/// All of them.
pub const MODELS: [Model; 6] = [
    Model::Serializable,
    Model::StrongSessionSerializable,
    Model::StrictSerializable,
    Model::SnapshotIsolation,
    Model::StrongSessionSnapshotIsolation,
    Model::StrongSnapshotIsolation,
];

/// Whether the model admits the history.
pub fn admits(model: Model, history: &[Txn]) -> bool {
    let certain: Vec<&Txn> = history.iter().filter(|t| t.status == Status::Ok).collect();
    let maybe: Vec<&Txn> = history
        .iter()
        .filter(|t| t.status == Status::Info)
        .collect();
    assert!(
        certain.len() + maybe.len() <= 10,
        "the oracle is for small histories"
    );
    (0..1u32 << maybe.len()).any(|chosen| {
        let mut happened = certain.clone();
        happened.extend(
            (0..maybe.len())
                .filter(|i| chosen >> i & 1 == 1)
                .map(|i| maybe[i]),
        );
        match model {
            Model::Serializable | Model::StrongSessionSerializable | Model::StrictSerializable => {
                serial_order(model, &State::new(), &happened)
            }
            _ => commit_order(model, &mut Log::new(), &happened),
        }
    })
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Value {
    Register(i64),
    List(Vec<i64>),
}

type State = BTreeMap<u32, Value>;

/// Whether the model demands that `a` takes effect before `b`.
fn must_precede(model: Model, a: &Txn, b: &Txn) -> bool {
    let completed_first = a.status == Status::Ok && a.complete < b.invoke;
    match model {
        Model::Serializable | Model::SnapshotIsolation => false,
        Model::StrongSessionSerializable | Model::StrongSessionSnapshotIsolation => {
            completed_first && a.process == b.process
        }
        Model::StrictSerializable | Model::StrongSnapshotIsolation => completed_first,
    }
}

/// Runs a transaction; `None` if one of its reads returned something else than the state holds.
fn run(txn: &Txn, state: &State) -> Option<State> {
    let mut state = state.clone();
    for op in &txn.ops {
        match op {
            Op::Write(key, value) => {
                state.insert(*key, Value::Register(*value));
            }
            Op::Append(key, value) => {
                let mut list = list_at(&state, *key);
                list.push(*value);
                state.insert(*key, Value::List(list));
            }
            Op::Read(key, expected) => {
                let found = match state.get(key) {
                    None => None,
                    Some(Value::Register(value)) => Some(*value),
                    Some(Value::List(_)) => panic!("key {key} is both a list and a register"),
                };
                if found != *expected {
                    return None;
                }
            }
            Op::ReadList(key, expected) => {
                if list_at(&state, *key) != *expected {
                    return None;
                }
            }
        }
    }
    Some(state)
}

fn list_at(state: &State, key: u32) -> Vec<i64> {
    match state.get(&key) {
        None => Vec::new(),
        Some(Value::List(list)) => list.clone(),
        Some(Value::Register(_)) => panic!("key {key} is both a list and a register"),
    }
}

/// Whether the remaining transactions can be put in some order, starting from this state.
fn serial_order(model: Model, state: &State, remaining: &[&Txn]) -> bool {
    remaining.is_empty()
        || (0..remaining.len()).any(|next| {
            let (txn, rest) = take(remaining, next);
            !rest.iter().any(|other| must_precede(model, other, txn))
                && run(txn, state).is_some_and(|after| serial_order(model, &after, &rest))
        })
}

fn take<'a>(from: &[&'a Txn], index: usize) -> (&'a Txn, Vec<&'a Txn>) {
    let mut rest = from.to_vec();
    let taken = rest.remove(index);
    (taken, rest)
}

/// What was committed so far, in commit order.
struct Log<'a> {
    /// `states[n]` is the state after the first `n` commits.
    states: Vec<State>,
    committed: Vec<&'a Txn>,
}

impl Log<'_> {
    fn new() -> Self {
        Self {
            states: vec![State::new()],
            committed: Vec::new(),
        }
    }
}

fn written_keys(txn: &Txn) -> BTreeSet<u32> {
    let written = |op: &Op| match op {
        Op::Write(key, _) | Op::Append(key, _) => Some(*key),
        Op::Read(..) | Op::ReadList(..) => None,
    };
    txn.ops.iter().filter_map(written).collect()
}

/// Whether the remaining transactions can commit in some order after the log, each with some snapshot.
fn commit_order<'a>(model: Model, log: &mut Log<'a>, remaining: &[&'a Txn]) -> bool {
    remaining.is_empty()
        || (0..remaining.len()).any(|next| {
            let (txn, rest) = take(remaining, next);
            if rest.iter().any(|other| must_precede(model, other, txn)) {
                return false;
            }
            (0..=log.committed.len()).any(|snapshot| {
                let Some(after) = commit(model, log, txn, snapshot) else {
                    return false;
                };
                log.states.push(after);
                log.committed.push(txn);
                let found = commit_order(model, log, &rest);
                log.states.pop();
                log.committed.pop();
                found
            })
        })
}

/// The state after `txn` commits with a snapshot of the first `snapshot` commits, where that is allowed.
fn commit(model: Model, log: &Log<'_>, txn: &Txn, snapshot: usize) -> Option<State> {
    let mine = written_keys(txn);
    for concurrent in &log.committed[snapshot..] {
        let conflict = !written_keys(concurrent).is_disjoint(&mine);
        if conflict || must_precede(model, concurrent, txn) {
            return None;
        }
    }
    let seen = run(txn, &log.states[snapshot])?;
    let mut after = log.states[log.committed.len()].clone();
    for key in mine {
        after.insert(key, seen[&key].clone());
    }
    Some(after)
}
