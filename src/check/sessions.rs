//! The four session guarantees (Terry et al., PDIS 1994), decided for lists and for registers.
//!
//! Lists show the order of their versions: [`workload::sessions`](super::workload::sessions) reads it off. Of a register's versions
//! nobody sees the order. A guarantee holds if there is one, for each register, that it is consistent with: the initial value
//! first, and
//! - *monotonic reads*: what a session reads later is not older than what it read before;
//! - *read your writes*: what a session reads is not older than what it wrote before;
//! - *writes follow reads*: what a session writes is newer than what it read before.
//!
//! Each demand is an edge between two versions, so an order exists if and only if the edges form no cycle. *Monotonic writes* says
//! that a session's writes are ordered as it made them, which some order always does: registers alone cannot break it.

//!
//! Read atomicity, causal consistency and prefix consistency may include sessions (Biswas and Enea, OOPSLA 2019). The history
//! is extended, and the checker of the same model without sessions decides. In the extension each transaction also writes a
//! key of its own. It reads the keys of the transactions that its session must see: [`as_reads`].

use std::collections::{BTreeMap, BTreeSet};

use super::explain::{self, Cast};
use super::history::Object;
use super::workload;
use super::{Anomaly, AnomalyKind, History, KeyId, Model, Op, Status, Txn, TxnId, register};

/// What was found of a guarantee.
pub(super) struct Found {
    pub anomalies: Vec<Anomaly>,
    /// Why it may fail all the same.
    pub open: Option<&'static str>,
}

/// A session has at most so many pairs of operations on a register that are looked at.
const PAIRS_MAX: usize = 20_000_000;

/// Decides a guarantee; none if the model is no guarantee of sessions.
pub(super) fn judge(history: &History, model: Model) -> Option<Found> {
    let kind = match model {
        Model::MonotonicReads => AnomalyKind::NonMonotonicRead,
        Model::MonotonicWrites => AnomalyKind::NonMonotonicWrite,
        Model::ReadYourWrites => AnomalyKind::ReadYourWritesViolation,
        Model::WritesFollowReads => AnomalyKind::WritesFollowReadsViolation,
        _ => return None,
    };
    let mut anomalies = workload::sessions(history);
    anomalies.retain(|anomaly| anomaly.kind == kind);
    let objects = history.objects();
    let registers = objects.contains(&Some(Object::Register));
    let is_known = |object| matches!(object, None | Some(Object::List | Object::Register));
    let mut open = None;
    if !objects.iter().copied().all(is_known) {
        open = Some("session guarantees are judged of lists and registers only");
    } else if registers && kind == AnomalyKind::NonMonotonicWrite {
        open = Some("registers do not show in which order they were written");
    } else if registers && register::values_repeat(history) {
        open = Some("values repeat, so that it is open from whom they were read");
    } else if registers {
        match Demands::of(history, kind) {
            Some(demands) => anomalies.extend(demands.contradictions(history, kind)),
            None => open = Some("a session has too many operations on one register"),
        }
    }
    Some(Found { anomalies, open })
}

/// The same model without sessions, of those whose sessions are told by [`as_reads`].
pub(super) fn without_sessions(model: Model) -> Option<Model> {
    match model {
        Model::ReadAtomic => Some(Model::ReadAtomicNoSession),
        Model::CausalConsistency => Some(Model::CausalConsistencyNoSession),
        Model::Prefix => Some(Model::PrefixNoSession),
        _ => None,
    }
}

/// The history in which whoever must see its session's past also reads it, so that the history satisfies the model without sessions
/// exactly if the original satisfies it with them. None if it holds something else than lists and registers.
///
/// Each transaction writes one more key, which is its own. A transaction reads the keys of the last committed ones of its process
/// that had completed before it: so the session's order is part of what is read, and of every order that respects that. Where
/// visibility is not transitive (read atomicity) it also reads the keys of the last ones that wrote what it reads; of those
/// before them it must see nothing, for the order of sessions puts them before these.
pub(super) fn as_reads(history: &History, model: Model) -> Option<History> {
    let objects = history.objects();
    let is_known = |object| matches!(object, None | Some(Object::List | Object::Register));
    if !objects.iter().copied().all(is_known) {
        return None;
    }
    let mut order: Vec<Txn<'_>> = history.txns().filter(Txn::may_have_happened).collect();
    order.sort_by_key(|txn| (txn.header.invoke, txn.id));
    let mut sessions = BTreeMap::<(u64, Option<KeyId>), Vec<TxnId>>::new();
    let mut seen = vec![Vec::new(); history.len()];
    for txn in &order {
        let process = txn.header.process;
        let read = txn.ops().filter(|_| model == Model::ReadAtomic);
        let read = read.filter_map(|op| match op {
            Op::Read { key, .. } | Op::ReadList { key, .. } | Op::Cas { key, .. } => Some(key),
            _ => None,
        });
        let keys: BTreeSet<Option<KeyId>> = read.map(Some).chain([None]).collect();
        for key in keys {
            let before = sessions.get(&(process, key)).map_or(&[][..], Vec::as_slice);
            seen[txn.id as usize].extend(last_before(history, before, txn.header.invoke));
        }
        seen[txn.id as usize].sort_unstable();
        seen[txn.id as usize].dedup();
        if txn.header.status == Status::Ok {
            let written = txn.ops().filter_map(|op| match op {
                Op::Append { key, .. } | Op::Write { key, .. } | Op::Cas { key, .. } => Some(key),
                _ => None,
            });
            let keys: BTreeSet<Option<KeyId>> = written.map(Some).chain([None]).collect();
            for key in keys {
                sessions.entry((process, key)).or_default().push(txn.id);
            }
        }
    }
    let lists = objects.contains(&Some(Object::List));
    Some(history.with_sights(&seen, lists))
}

/// Of a process's transactions, in the order of their invocations, those that had completed before an instant, but for those that had
/// completed before another of these was invoked.
fn last_before(history: &History, txns: &[TxnId], instant: u64) -> Vec<TxnId> {
    let mut last = Vec::new();
    let mut latest_invoke = 0;
    for &txn in txns.iter().rev() {
        let header = history.header(txn);
        if header.complete >= instant {
            continue;
        }
        // A process does one thing at a time, so that the first one without a successor is nearly always the only one.
        if !last.is_empty() && header.complete < latest_invoke {
            break;
        }
        latest_invoke = header.invoke.max(latest_invoke);
        last.push(txn);
    }
    last
}

/// A version of a register; none is the initial one.
type Version = Option<u64>;

/// By an older version, the newer ones, and the transactions that say so.
type Edges = BTreeMap<Version, BTreeMap<Version, (TxnId, TxnId)>>;

/// Which version must be older than which, by register.
#[derive(Default)]
struct Demands(BTreeMap<KeyId, Edges>);

/// What a session did to a register.
#[derive(Default)]
struct Past {
    reads: BTreeMap<Version, TxnId>,
    last_read: Option<(Version, TxnId)>,
    writes: BTreeMap<Version, TxnId>,
}

impl Demands {
    fn of(history: &History, kind: AnomalyKind) -> Option<Demands> {
        let mut order: Vec<Txn<'_>> = history.txns().filter(Txn::may_have_happened).collect();
        order.sort_by_key(|txn| (txn.header.invoke, txn.id));
        let mut sessions = BTreeMap::<(u64, KeyId), Past>::new();
        let (mut demands, mut pairs) = (Demands::default(), 0);
        for txn in &order {
            let is_certain = txn.header.status == Status::Ok;
            for op in txn.ops() {
                let (read, written) = match op {
                    Op::Read { value, .. } => (Some(value), None),
                    Op::Write { value, .. } => (None, Some(value)),
                    Op::Cas { expected, new, .. } => (Some(Some(expected)), Some(new)),
                    _ => continue,
                };
                let key = op.key();
                let past = sessions.entry((txn.header.process, key)).or_default();
                let initial = history.initial_value(key);
                let version = |value: Version| value.filter(|_| value != initial);
                let edges = demands.0.entry(key).or_default();
                let mut demand = |older: Version, newer: Version, since: TxnId| {
                    pairs += 1;
                    if older != newer {
                        let newer_ones = edges.entry(older).or_default();
                        newer_ones.entry(newer).or_insert((since, txn.id));
                    }
                };
                if let Some(read) = read.map(version).filter(|_| is_certain) {
                    match kind {
                        AnomalyKind::NonMonotonicRead => {
                            if let Some((before, since)) = past.last_read {
                                demand(before, read, since);
                            }
                        }
                        AnomalyKind::ReadYourWritesViolation => {
                            let writes = past.writes.iter();
                            writes.for_each(|(&own, &since)| demand(own, read, since));
                        }
                        _ => {}
                    }
                    past.last_read = Some((read, txn.id));
                    past.reads.entry(read).or_insert(txn.id);
                }
                if let Some(written) = written {
                    if kind == AnomalyKind::WritesFollowReadsViolation {
                        let reads = past.reads.iter();
                        reads.for_each(|(&read, &since)| demand(read, Some(written), since));
                    }
                    if is_certain {
                        past.writes.insert(Some(written), txn.id);
                    }
                }
                if pairs > PAIRS_MAX {
                    return None;
                }
            }
        }
        Some(demands)
    }

    /// Of each register whose demands contradict one another, one cycle of them.
    fn contradictions(mut self, history: &History, kind: AnomalyKind) -> Vec<Anomaly> {
        let mut found = Vec::new();
        for (&key, edges) in &mut self.0 {
            // The initial version is older than all.
            let back = edges.iter().find_map(|(&older, newer)| {
                let &why = newer.get(&None)?;
                Some(vec![(older, None, why)])
            });
            let Some(cycle) = back.or_else(|| cycle(edges)) else {
                continue;
            };
            let mut cast = Cast::default();
            let show = |version: Version| match version {
                None => "the initial value".to_owned(),
                Some(value) => history.show_value(value),
            };
            let steps: Vec<String> = cycle
                .iter()
                .map(|&(older, newer, (first, second))| {
                    let (a, b) = (cast.name(first), cast.name(second));
                    let (older, newer) = (show(older), show(newer));
                    let session = history.show_value(history.header(first).process);
                    let did = match kind {
                        AnomalyKind::NonMonotonicRead => {
                            format!("read {older} in {a} and then {newer} in {b}")
                        }
                        AnomalyKind::ReadYourWritesViolation => {
                            format!("wrote {older} in {a} and then read {newer} in {b}")
                        }
                        _ => format!("read {older} in {a} and then wrote {newer} in {b}"),
                    };
                    format!("session {session} {did}, so {newer} is the newer")
                })
                .collect();
            let text = format!(
                "Of key {}: {}; no order of its values allows that.",
                history.show_key(key),
                steps.join("; ")
            );
            found.push(explain::fact(history, kind, Some(key), cast, &text));
        }
        found
    }
}

/// A demand: the older version, the newer one, and why.
type Demand = (Version, Version, (TxnId, TxnId));

/// A cycle of demands, if there is one.
fn cycle(edges: &Edges) -> Option<Vec<Demand>> {
    let mut done = BTreeSet::new();
    for &start in edges.keys() {
        // Depth first: the demands that lead to where the search stands, and what is left to try at each step.
        let mut path: Vec<Demand> = Vec::new();
        let mut on_path = BTreeSet::from([start]);
        let mut left = vec![newer_than(edges, start)];
        if done.contains(&start) {
            continue;
        }
        while let Some(options) = left.last_mut() {
            let here = path.last().map_or(start, |&(_, newer, _)| newer);
            let Some((next, why)) = options.pop() else {
                left.pop();
                path.pop();
                on_path.remove(&here);
                done.insert(here);
                continue;
            };
            path.push((here, next, why));
            if on_path.contains(&next) {
                let begin = path.iter().position(|&(older, ..)| older == next);
                return Some(path.split_off(begin.unwrap_or(0)));
            }
            if done.contains(&next) {
                path.pop();
                continue;
            }
            on_path.insert(next);
            left.push(newer_than(edges, next));
        }
    }
    None
}

fn newer_than(edges: &Edges, version: Version) -> Vec<(Version, (TxnId, TxnId))> {
    let newer = edges.get(&version).into_iter().flatten();
    newer.map(|(&version, &why)| (version, why)).collect()
}
