//! The smallest part of a list history that already shows an anomaly: of its transactions none can be spared.
//!
//! A part is what is left when some transactions had never been ([`History::list_part`]); a part of a history that
//! a model allows is allowed, but for the models between read committed and parallel snapshot isolation that ask whom a reader
//! sees: who read a list sees who appended last, and in a part that is another one. To start with: the transactions that the anomaly names, those that wrote what they read, and
//! reads that show in which order the versions that it speaks of came. Of these, as many as can be are left out: first by
//! bisection (as in Junker, *QuickXplain*, AAAI 2004), then one by one. Each trial checks a part of a few
//! transactions; the whole history is passed over a fixed number of times, however many anomalies there are.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use super::anomaly::Models;
use super::explain::{self, Cast};
use super::history::{History, Kind, ListRef, Status};
use super::{
    Anomaly, AnomalyKind, Boundary, Dependency, KeyId, Model, Op, Options, Report, Step, TxnId,
    list_append,
};

/// No more transactions than this are tried as the start; with more, an anomaly keeps those that it names.
const START_MAX: usize = 4096;

/// Trials may look at so many operations and elements of lists for one anomaly: a constant, so that a verdict's anomalies
/// are the same everywhere.
const WORK_MAX: u64 = 1_000_000;

/// Reduces the transactions of each explained anomaly of lists to a set of which none can be spared, and says in its
/// explanation what the added ones show. A note counts those for which the search would have been too long.
pub(super) fn shrink(history: &History, report: &mut Report) {
    let starts = starts(history, &report.anomalies);
    let all: BTreeSet<TxnId> = starts.iter().flatten().copied().collect();
    let all: Vec<TxnId> = all.into_iter().collect();
    let base = Base::of(history, all);
    let mut left = 0;
    for (anomaly, start) in report.anomalies.iter_mut().zip(starts) {
        let named = anomaly.transactions.clone();
        // What a cycle refutes beyond its kind may show by something else in a part, and then its kind has to do.
        let mut sorts = vec![anomaly.sort(), Sort::of(anomaly.kind)];
        sorts.dedup();
        let found = sorts.iter().find_map(|sort| {
            base.smallest(sort, &named, &start).or_else(|| {
                let every: Vec<TxnId> = (0..history.len() as TxnId).collect();
                let whole = is_small(history, &every).then(|| Base::of(history, every.clone()))?;
                whole.smallest(sort, &named, &every)
            })
        });
        match found {
            Some(found) => rewrite(history, anomaly, found),
            None => left += 1,
        }
    }
    if left > 0 {
        report.notes.push(format!(
            "of {left} anomalies the smallest set of transactions that shows them was not sought"
        ));
    }
}

/// What must show: an anomaly of the kind that refutes these models.
#[derive(PartialEq, Eq)]
struct Sort {
    kind: AnomalyKind,
    refutes: Vec<Model>,
}

impl Anomaly {
    fn sort(&self) -> Sort {
        Sort {
            kind: self.kind,
            refutes: self.refutes.clone(),
        }
    }
}

impl Sort {
    /// Whatever is of the kind.
    fn of(kind: AnomalyKind) -> Self {
        Sort {
            kind,
            refutes: kind.refutes(),
        }
    }

    fn holds(&self, anomaly: &Anomaly) -> bool {
        anomaly.kind == self.kind && self.refutes.iter().all(|&model| anomaly.violates(model))
    }
}

/// What it takes to look at a transaction: its operations, and the elements of its lists.
fn work(history: &History, id: TxnId) -> u64 {
    let of_op = |op: Op<'_>| match op {
        Op::ReadList { list, .. } => 1 + list.len() as u64,
        _ => 1,
    };
    1 + history.txn(id).ops().map(of_op).sum::<u64>()
}

/// Can these transactions be a start?
fn is_small(history: &History, ids: &[TxnId]) -> bool {
    ids.len() <= START_MAX && ids.iter().map(|&id| work(history, id)).sum::<u64>() <= WORK_MAX
}

/// A part of the history in which all sets of transactions are tried.
struct Base {
    /// The part's transactions in the history.
    ids: Vec<TxnId>,
    part: History,
    /// What it takes to look at each.
    work: Vec<u64>,
    /// What trials may still look at for the anomaly under way.
    work_left: Cell<u64>,
}

/// A set of transactions that shows an anomaly, none of which can be spared, and how it does.
struct Smallest {
    members: Vec<TxnId>,
    /// The anomaly as it is found in the part of these members alone, with the history's transactions.
    shown: Anomaly,
}

impl Base {
    /// `ids` ascend.
    fn of(history: &History, ids: Vec<TxnId>) -> Self {
        let part = history.list_part(&ids);
        let work = (0..part.len() as TxnId).map(|id| work(&part, id));
        Base {
            ids,
            work: work.collect(),
            part,
            work_left: Cell::new(0),
        }
    }

    /// The anomaly of this sort in the part of some members, if it is there. Beyond the budget none is, and
    /// [`work_left`](Self::work_left) is 0.
    fn shown(&self, sort: &Sort, members: &BTreeSet<TxnId>) -> Option<Anomaly> {
        if self.work_left.get() == 0 {
            return None;
        }
        let local = members.iter().map(|id| {
            let at = self.ids.binary_search(id);
            at.expect("a transaction of the base") as TxnId
        });
        let local: Vec<TxnId> = local.collect();
        let needed: u64 = local.iter().map(|&at| self.work[at as usize]).sum();
        let left = self.work_left.get().saturating_sub(needed);
        self.work_left.set(left);
        if left == 0 {
            return None;
        }
        let options = Options {
            examples_max: 1,
            ..Options::default()
        };
        let report = list_append::check(&self.part.list_part(&local), &options);
        let mut anomalies = report.anomalies.into_iter();
        let mut shown = anomalies.find(|anomaly| sort.holds(anomaly))?;
        let members: Vec<TxnId> = members.iter().copied().collect();
        let global = |id: &mut TxnId| *id = members[*id as usize];
        shown.transactions.iter_mut().for_each(global);
        for step in &mut shown.cycle {
            global(&mut step.from);
            global(&mut step.to);
        }
        Some(shown)
    }

    /// A smallest set out of `start` (of which `named` are kept if they can be) that shows the sort; None if not
    /// even all of them do, or the budget ends.
    fn smallest(&self, sort: &Sort, named: &[TxnId], start: &[TxnId]) -> Option<Smallest> {
        self.work_left.set(WORK_MAX);
        let mut members: BTreeSet<TxnId> = start.iter().copied().collect();
        self.shown(sort, &members)?;
        let mut needed: BTreeSet<TxnId> = named.iter().copied().collect();
        let mut rest: Vec<TxnId> = members.difference(&needed).copied().collect();
        // What the anomaly names stays; of the rest, the prefix up to the next needed one.
        while !rest.is_empty() && self.shown(sort, &needed).is_none() {
            let with = |length: usize| {
                let mut set = needed.clone();
                set.extend(&rest[..length]);
                self.shown(sort, &set).is_some()
            };
            let (mut low, mut high) = (0, rest.len());
            while low < high {
                let middle = low + (high - low) / 2;
                match with(middle) {
                    true => high = middle,
                    false => low = middle + 1,
                }
            }
            if self.work_left.get() == 0 {
                return None;
            }
            if high == 0 {
                break;
            }
            needed.insert(rest[high - 1]);
            rest.truncate(high - 1);
        }
        if self.shown(sort, &needed).is_some() {
            members = needed;
        }
        // Names may change with what is left out, so that "shows" is not monotone: one by one until nothing changes.
        let mut at = 0;
        let mut order: Vec<TxnId> = members.iter().rev().copied().collect();
        order.sort_by_key(|id| named.contains(id));
        while let Some(&id) = order.get(at) {
            if self.work_left.get() == 0 {
                return None;
            }
            members.remove(&id);
            if self.shown(sort, &members).is_some() {
                order.remove(at);
                at = 0;
            } else {
                members.insert(id);
                at += 1;
            }
        }
        let shown = self.shown(sort, &members)?;
        let members = members.into_iter().collect();
        Some(Smallest { members, shown })
    }
}

/// For each anomaly, a set of transactions that should suffice to show it.
fn starts(history: &History, anomalies: &[Anomaly]) -> Vec<Vec<TxnId>> {
    let wanted: Vec<BTreeSet<(KeyId, u64)>> = anomalies
        .iter()
        .map(|anomaly| wanted(history, anomaly))
        .collect();
    let all: BTreeSet<(KeyId, u64)> = wanted.iter().flatten().copied().collect();
    let readers = readers(history, &all);
    let writers = writers(history, &all);
    let starts = anomalies.iter().zip(&wanted).map(|(anomaly, wanted)| {
        let named = anomaly.transactions.iter().copied();
        let mut start: BTreeSet<TxnId> = named.collect();
        start.extend(wanted.iter().filter_map(|version| readers.get(version)));
        if anomaly.cycle.is_empty() {
            start.extend(wanted.iter().filter_map(|version| writers.get(version)));
        }
        let start: Vec<TxnId> = start.into_iter().collect();
        match is_small(history, &start) {
            true => start,
            false => anomaly.transactions.clone(),
        }
    });
    starts.collect()
}

/// The elements of which it matters who read them, and, if the anomaly is no cycle, who appended them.
fn wanted(history: &History, anomaly: &Anomaly) -> BTreeSet<(KeyId, u64)> {
    let mut wanted = BTreeSet::new();
    for step in &anomaly.cycle {
        if let Dependency::WriteWrite {
            key,
            from_value,
            to_value,
        } = &step.because
        {
            let key = key_named(history, step.to, key);
            wanted.extend([(key, *from_value), (key, *to_value)]);
        }
    }
    for &id in &anomaly.transactions {
        let txn = history.txn(id);
        let unknown = txn.header.status == Status::Info;
        for op in txn.ops() {
            let about = anomaly.cycle.is_empty()
                && (anomaly.key.as_ref()).is_none_or(|key| *key == history.show_key(op.key()));
            match op {
                Op::Append { key, value } if unknown || about => {
                    wanted.insert((key, value));
                }
                Op::ReadList { key, list } if about => {
                    wanted.extend(list.iter().map(|&value| (key, value)));
                }
                _ => {}
            }
        }
    }
    wanted
}

/// The key of this name that a transaction touched.
fn key_named(history: &History, txn: TxnId, name: &str) -> KeyId {
    let mut keys = history.txn(txn).ops().map(|op| op.key());
    let key = keys.find(|&key| history.show_key(key) == name);
    key.expect("an edge is about a key that both its transactions touched")
}

/// For each of the elements, the committed transaction that read the shortest list with it.
fn readers(history: &History, wanted: &BTreeSet<(KeyId, u64)>) -> BTreeMap<(KeyId, u64), TxnId> {
    let mut places: Vec<Vec<(u32, u64)>> = vec![Vec::new(); history.trunks.len()];
    for (trunk, places) in history.trunks.iter().zip(&mut places) {
        let elements = trunk.elements.iter().enumerate();
        let held = elements.filter(|(_, value)| wanted.contains(&(trunk.key, **value)));
        places.extend(held.map(|(place, &value)| (place as u32, value)));
    }
    let mut readers = BTreeMap::<(KeyId, u64), (u32, TxnId)>::new();
    for txn in history.txns().filter(|t| t.header.status == Status::Ok) {
        for at in history.op_range(txn.id) {
            let list = ListRef::unpack(history.args[at]);
            if history.kinds[at] != Kind::ReadList || list.len == 0 {
                continue;
            }
            let held = places[list.trunk as usize].iter();
            for &(_, value) in held.take_while(|(place, _)| *place < list.len) {
                let read = (list.len, txn.id);
                let known = readers.entry((history.op_keys[at], value)).or_insert(read);
                *known = read.min(*known);
            }
        }
    }
    let readers = readers.into_iter();
    readers.map(|(version, (_, id))| (version, id)).collect()
}

/// Who appended the elements.
fn writers(history: &History, wanted: &BTreeSet<(KeyId, u64)>) -> BTreeMap<(KeyId, u64), TxnId> {
    let mut writers = BTreeMap::new();
    for txn in history.txns().filter(|_| !wanted.is_empty()) {
        for op in txn.ops() {
            if let Op::Append { key, value } = op
                && wanted.contains(&(key, value))
            {
                writers.entry((key, value)).or_insert(txn.id);
            }
        }
    }
    writers
}

/// Tells the anomaly anew, with the transactions that show it.
fn rewrite(history: &History, anomaly: &mut Anomaly, found: Smallest) {
    let Smallest { members, shown } = found;
    if !anomaly.cycle.is_empty() {
        let whole = anomaly.transactions.iter().all(|id| members.contains(id));
        let (refutes, steps) = match whole && anomaly.sort().holds(&shown) {
            true => (anomaly.refutes.clone(), std::mem::take(&mut anomaly.cycle)),
            // Of a list that lost its newest element another writer is seen, so that a part may fail in more.
            false => {
                let both = (anomaly.refuted().and_stronger()).and(shown.refuted().and_stronger());
                let both = Boundary::drawn(both, Models::default()).violated;
                (both, as_read(history, shown.cycle))
            }
        };
        let sort = (anomaly.kind, refutes);
        *anomaly = explain::cycle_shown(history, sort, steps, &members);
        return;
    }
    let named = anomaly.transactions.clone();
    let mut cast = named.clone();
    cast.retain(|id| members.contains(id));
    let then = conclusion(&anomaly.explanation);
    let stays = |(at, id): (usize, &TxnId)| !mentions(then, at + 1) || cast.get(at) == Some(id);
    // Where one of whom the sentence speaks can be spared, what the others alone show is told instead.
    let (then, note) = match named.iter().enumerate().all(stays) {
        true => (then, ""),
        false => {
            cast = shown.transactions;
            let note = "  - (Of lists, only what these appended is told.)\n";
            (conclusion(&shown.explanation), note)
        }
    };
    let others = members.iter().filter(|id| !cast.contains(id));
    let others: Vec<TxnId> = others.copied().collect();
    cast.extend(others);
    let introduction = Cast::of(cast.iter().copied()).introduce_needed(history);
    anomaly.explanation = format!("{introduction}Then:\n{note}{then}");
    anomaly.transactions = cast;
}

/// What an explanation says after it has introduced the transactions.
fn conclusion(explanation: &str) -> &str {
    let (_, then) = explanation
        .split_once("Then:\n")
        .expect("every explanation has a conclusion");
    then
}

/// Does a text speak of the transaction with this number in its cast?
fn mentions(text: &str, number: usize) -> bool {
    let name = format!("T{number}");
    let mut found = text.match_indices(&name);
    found.any(|(at, _)| {
        let next = text[at + name.len()..].chars().next();
        next.is_none_or(|next| !next.is_ascii_digit())
    })
}

/// The steps of a cycle found in a part, whose lists lack the elements of others: what was read is what the
/// history says.
fn as_read(history: &History, mut steps: Vec<Step>) -> Vec<Step> {
    for step in &mut steps {
        let Dependency::ReadWrite { key, read, written } = &mut step.because else {
            continue;
        };
        let mut lists = history.txn(step.from).ops().filter_map(|op| match op {
            Op::ReadList { key: k, list } if history.show_key(k) == *key => Some(list),
            _ => None,
        });
        let missed = lists.find(|list| !list.contains(written));
        *read = missed.and_then(|list| list.last().copied());
    }
    steps
}
