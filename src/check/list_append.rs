//! List-append histories: the version order of each key is what the reads show, so the dependency graph is
//! known and the check is exact and linear.
//!
//! A read returns the whole list, so the longest read of a key gives the order of all versions up to it, and
//! every append that committed and was never read comes after them, in an order that nobody saw.
//! (Kingsbury, Alvaro, *Elle: Inferring Isolation Anomalies from Experimental Observations*, VLDB 2020.)
//!
//! - A failed transaction has no effects: one that is seen is an aborted read (G1a).
//! - An indeterminate transaction of which one append was seen did commit, and what it read counts if it is
//!   known; one of which nothing was seen is left out, since leaving it out can only remove contradictions.

use std::collections::BTreeMap;

mod sights;

use super::anomaly::Models;
use super::explain::{self, Cast};
use super::graph::{self, Edge, EdgeKind, GraphBuilder};
use super::history::{History, Kind, ListRef, Status};
use super::{
    Anomaly, AnomalyKind, Boundary, Dependency, Exercised, KeyId, Model, Op, Options, Phase,
    Report, Step, TxnId, Verdict,
};

const NONE: u32 = u32::MAX;

/// The append is its transaction's last to the key.
const FINAL: u8 = 1;
/// Somebody read it.
const SEEN: u8 = 2;
/// Several transactions that may have committed appended the same value.
const AMBIGUOUS: u8 = 4;

/// Checks the list operations of a history.
pub fn check(history: &History, options: &Options) -> Report {
    check_observed(history, options, &mut |_| {})
}

/// The same, which tells an observer of each phase when it begins.
pub fn check_observed(
    history: &History,
    options: &Options,
    observer: &mut dyn FnMut(Phase),
) -> Report {
    observer(Phase::Versions);
    let index = Index::of(history);
    let mut findings = Findings::new(history, options, &index);
    findings.lists();
    observer(Phase::Dependencies);
    let mut builder = GraphBuilder::new(history.len());
    let tails = Tails::add(&index, &mut builder);
    index.add_write_edges(&tails, &mut builder);
    findings.transactions(&tails, &mut builder);
    findings.lost_updates();
    findings.exercised.edges_ww = builder.count(EdgeKind::Ww);
    findings.exercised.edges_wr = builder.count(EdgeKind::Wr);
    findings.exercised.edges_rw = builder.count(EdgeKind::Rw);
    let live = |txn: TxnId| index.live[txn as usize];
    let edges = tails.has_choice().then(|| builder.clone());
    let graph = builder.finish(history, live);
    observer(Phase::Cycles);
    let updates = index.updates();
    let cycles = graph::cycles(&graph, options, |txn| updates[txn as usize]);
    let choices = tails.choices(&graph, edges.is_some() && !cycles.found.is_empty());
    drop(graph);
    observer(Phase::Explanations);
    let skewed = findings.cycles(cycles, &updates);
    if let (Some(edges), false) = (edges, choices.is_empty()) {
        findings.unseen_orders(&edges, &choices, &updates);
    }
    findings.sights(&skewed);
    findings.report()
}

/// One append.
#[derive(Clone, Copy, Debug)]
struct Append {
    value: u64,
    txn: TxnId,
}

/// The list that gives a key's version order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    /// Nobody read anything.
    Nothing,
    /// The longest list read, of this trunk.
    Trunk(u32),
    /// Told from inside the database.
    Told,
}

/// What is wrong with a list, as the shortest prefix that shows it.
#[derive(Clone, Copy, Debug)]
struct Flaws {
    /// Elements in common with the key's version order.
    agrees: u32,
    /// Shortest prefixes with: an element twice, one that nobody appended, one whose append failed.
    duplicate: u32,
    garbage: u32,
    failed: u32,
}

/// Who appended what, and in which order it took effect.
struct Index<'h> {
    history: &'h History,
    /// `appends[append_start[k]..append_start[k + 1]]` are those to key `k`, by value.
    append_start: Vec<u32>,
    appends: Vec<Append>,
    flags: Vec<u8>,
    /// The index of each append in its key's versions, or `NONE`.
    version: Vec<u32>,
    /// `versions[version_start[k]..version_start[k + 1]]` are the effective appends, in order.
    version_start: Vec<u32>,
    versions: Vec<u32>,
    /// Where a key's order holds elements that are no versions (failed, garbage, repeated): their positions.
    dead: BTreeMap<KeyId, Vec<u32>>,
    source: Vec<Source>,
    /// Elements of each trunk that some transaction read which committed.
    read_len: Vec<u32>,
    flaws: Vec<Flaws>,
    /// Transactions that committed, as far as anybody can tell.
    live: Vec<bool>,
    /// Values that several transactions appended: key, value.
    ambiguous: Vec<(KeyId, u64)>,
}

impl<'h> Index<'h> {
    fn of(history: &'h History) -> Self {
        let (append_start, appends) = group_appends(history);
        let mut index = Index {
            history,
            append_start,
            flags: vec![0; appends.len()],
            version: vec![NONE; appends.len()],
            appends,
            version_start: Vec::with_capacity(history.key_count() + 1),
            versions: Vec::new(),
            dead: BTreeMap::new(),
            source: vec![Source::Nothing; history.key_count()],
            read_len: vec![0; history.trunks.len()],
            flaws: Vec::with_capacity(history.trunks.len()),
            live: history
                .txns()
                .map(|txn| txn.header.status == Status::Ok)
                .collect(),
            ambiguous: Vec::new(),
        };
        index.sort_appends();
        index.mark_final();
        index.settle();
        index.choose_sources();
        index.order_versions();
        index.compare_trunks();
        index
    }

    fn key_appends(&self, key: KeyId) -> std::ops::Range<usize> {
        let key = key as usize;
        self.append_start[key] as usize..self.append_start[key + 1] as usize
    }

    /// Sorts each key's appends by value and settles who counts as the writer of a repeated one: the only
    /// one that did not fail.
    fn sort_appends(&mut self) {
        let history = self.history;
        for key in 0..history.key_count() as u32 {
            let range = self.key_appends(key);
            let appends = &mut self.appends[range.clone()];
            if appends.windows(2).all(|pair| pair[0].value < pair[1].value) {
                continue;
            }
            let failed = |append: &Append| history.header(append.txn).status == Status::Fail;
            appends.sort_unstable_by_key(|append| (append.value, failed(append), append.txn));
            for at in 1..appends.len() {
                let same = appends[at - 1].value == appends[at].value;
                if same && !failed(&appends[at]) {
                    self.flags[range.start + at] |= AMBIGUOUS;
                    self.flags[range.start + at - 1] |= AMBIGUOUS;
                    self.ambiguous.push((key, appends[at].value));
                }
            }
        }
    }

    /// The append of a value: the first of several.
    fn find(&self, key: KeyId, value: u64) -> Option<usize> {
        let range = self.key_appends(key);
        let appends = &self.appends[range.clone()];
        let first = appends.first()?.value;
        // Values mostly count up from 1 without a gap.
        let guess = usize::try_from(value.checked_sub(first)?).unwrap_or(usize::MAX);
        let is_first = |at: usize| at == 0 || appends[at - 1].value != value;
        if appends
            .get(guess)
            .is_some_and(|append| append.value == value)
            && is_first(guess)
        {
            return Some(range.start + guess);
        }
        let at = appends.partition_point(|append| append.value < value);
        (appends.get(at)?.value == value).then_some(range.start + at)
    }

    fn mark_final(&mut self) {
        let history = self.history;
        // Of each key, the transaction that appended last and the append.
        let mut last = vec![(NONE, 0usize); history.key_count()];
        for txn in history.txns() {
            for at in history.op_range(txn.id).rev() {
                if history.kinds[at] != Kind::Append {
                    continue;
                }
                let key = history.op_keys[at];
                if last[key as usize].0 != txn.id {
                    let append = self.find_of(key, history.args[at], txn.id);
                    self.flags[append] |= FINAL;
                    last[key as usize] = (txn.id, append);
                }
            }
        }
    }

    /// The append of a value by this very transaction.
    fn find_of(&self, key: KeyId, value: u64, txn: TxnId) -> usize {
        let at = self.find(key, value).expect("every append is indexed");
        let same = self.appends[at..]
            .iter()
            .position(|append| append.txn == txn);
        at + same.expect("every append is indexed")
    }

    /// Finds out what was read by transactions that committed, and with that which indeterminate ones did:
    /// those of which somebody saw an append. What these read, if they know, counts too, and so on.
    fn settle(&mut self) {
        let history = self.history;
        let mut waiting: Vec<TxnId> = Vec::new();
        for txn in history.txns() {
            match txn.header.status {
                Status::Ok => self.count_reads(txn.id, &mut Vec::new()),
                Status::Info => waiting.push(txn.id),
                Status::Fail => {}
            }
        }
        waiting.retain(|&txn| {
            let mut kinds = history.kinds[history.op_range(txn)].iter();
            kinds.any(|&kind| kind == Kind::ReadList)
        });
        if waiting.is_empty() {
            return;
        }
        let mut settled = vec![0; history.trunks.len()];
        let mut grown: Vec<u32> = (0..history.trunks.len() as u32).collect();
        for key in 0..history.key_count() as u32 {
            for &value in history.version_order(key).unwrap_or_default() {
                self.effective(key, value);
            }
        }
        let writers = register_writers(history);
        loop {
            for trunk in grown.drain(..) {
                let key = history.trunks[trunk as usize].key;
                let fresh = settled[trunk as usize]..self.read_len[trunk as usize] as usize;
                settled[trunk as usize] = fresh.end;
                for at in fresh {
                    self.effective(key, history.trunks[trunk as usize].elements[at]);
                }
            }
            self.follow_registers(&writers);
            let (ready, rest) = waiting.iter().partition(|&&txn| self.live[txn as usize]);
            waiting = rest;
            let ready: Vec<TxnId> = ready;
            if ready.is_empty() {
                return;
            }
            for txn in ready {
                self.count_reads(txn, &mut grown);
            }
        }
    }

    /// Lists beside registers: one of whose writes of a register was read happened, too.
    fn follow_registers(&mut self, writers: &BTreeMap<(KeyId, u64), Option<TxnId>>) {
        let history = self.history;
        let mut follow = !writers.is_empty();
        while follow {
            follow = false;
            for txn in history.txns() {
                if !self.live[txn.id as usize] {
                    continue;
                }
                for op in txn.ops() {
                    let (Op::Read {
                        key,
                        value: Some(value),
                    }
                    | Op::Cas {
                        key,
                        expected: value,
                        ..
                    }) = op
                    else {
                        continue;
                    };
                    if let Some(&Some(writer)) = writers.get(&(key, value)) {
                        follow |= !std::mem::replace(&mut self.live[writer as usize], true);
                    }
                }
            }
        }
    }

    /// Counts what a transaction read, and notes the trunks of which that is more than was known.
    fn count_reads(&mut self, txn: TxnId, grown: &mut Vec<u32>) {
        let history = self.history;
        for at in history.op_range(txn) {
            let list = ListRef::unpack(history.args[at]);
            if history.kinds[at] == Kind::ReadList && list.len > 0 {
                let length = &mut self.read_len[list.trunk as usize];
                if *length < list.len {
                    *length = list.len;
                    grown.push(list.trunk);
                }
            }
        }
    }

    /// Chooses the longest read of each key, or what was told.
    fn choose_sources(&mut self) {
        for (trunk, at) in self.history.trunks.iter().zip(0..) {
            let len = self.read_len[at as usize];
            let best = &mut self.source[trunk.key as usize];
            let longer = match *best {
                Source::Nothing => len > 0,
                Source::Trunk(other) => len > self.read_len[other as usize],
                Source::Told => false,
            };
            if longer {
                *best = Source::Trunk(at);
            }
        }
        for key in 0..self.history.key_count() as u32 {
            if self.history.version_order(key).is_some() {
                self.source[key as usize] = Source::Told;
            }
        }
    }

    /// The elements that give the version order of a key.
    fn order(&self, key: KeyId) -> &'h [u64] {
        match self.source[key as usize] {
            Source::Nothing => &[],
            Source::Trunk(at) => self.trunk(at),
            Source::Told => self.history.version_order(key).unwrap_or_default(),
        }
    }

    /// What was read of a trunk.
    fn trunk(&self, at: u32) -> &'h [u64] {
        let elements = &self.history.trunks[at as usize].elements;
        &elements[..self.read_len[at as usize] as usize]
    }

    fn order_versions(&mut self) {
        for key in 0..self.history.key_count() as u32 {
            self.version_start.push(self.versions.len() as u32);
            let start = self.versions.len();
            for (position, &value) in self.order(key).iter().enumerate() {
                let append = self.effective(key, value);
                let fresh = append.filter(|&append| self.version[append] == NONE);
                match fresh {
                    Some(append) => {
                        self.version[append] = (self.versions.len() - start) as u32;
                        self.versions.push(append as u32);
                    }
                    None => self.dead.entry(key).or_default().push(position as u32),
                }
            }
        }
        self.version_start.push(self.versions.len() as u32);
    }

    /// The append of a value that was seen, if there is one such and it did not fail.
    fn effective(&mut self, key: KeyId, value: u64) -> Option<usize> {
        let append = self.find(key, value)?;
        self.flags[append] |= SEEN;
        let txn = self.appends[append].txn as usize;
        if self.flags[append] & AMBIGUOUS != 0 {
            return None;
        }
        let failed = self.history.header(txn as u32).status == Status::Fail;
        self.live[txn] |= !failed;
        (!failed).then_some(append)
    }

    fn compare_trunks(&mut self) {
        for at in 0..self.history.trunks.len() as u32 {
            let key = self.history.trunks[at as usize].key;
            let flaws = match self.source[key as usize] {
                Source::Trunk(main) if main == at && !self.dead.contains_key(&key) => Flaws {
                    agrees: self.read_len[at as usize],
                    duplicate: NONE,
                    garbage: NONE,
                    failed: NONE,
                },
                _ => self.flaws(key, self.trunk(at)),
            };
            self.flaws.push(flaws);
        }
    }

    fn flaws(&mut self, key: KeyId, list: &[u64]) -> Flaws {
        let order = self.order(key);
        let agrees = list.iter().zip(order).take_while(|(a, b)| a == b).count();
        let mut flaws = Flaws {
            agrees: agrees as u32,
            duplicate: NONE,
            garbage: NONE,
            failed: NONE,
        };
        let mut seen = std::collections::BTreeSet::new();
        for (&value, len) in list.iter().zip(1u32..) {
            if !seen.insert(value) {
                flaws.duplicate = flaws.duplicate.min(len);
            }
            self.effective(key, value);
            match self.find(key, value) {
                None => flaws.garbage = flaws.garbage.min(len),
                Some(append) if self.has_failed(append) => flaws.failed = flaws.failed.min(len),
                Some(_) => {}
            }
        }
        flaws
    }

    fn has_failed(&self, append: usize) -> bool {
        self.history.header(self.appends[append].txn).status == Status::Fail
    }

    fn versions(&self, key: KeyId) -> &[u32] {
        let key = key as usize;
        &self.versions[self.version_start[key] as usize..self.version_start[key + 1] as usize]
    }

    fn writer(&self, append: u32) -> TxnId {
        self.appends[append as usize].txn
    }

    /// How many versions a prefix of the key's order holds.
    fn version_count(&self, key: KeyId, len: u32) -> u32 {
        if self.dead.is_empty() {
            return len;
        }
        let dead = self.dead.get(&key);
        len - dead.map_or(0, |dead| dead.partition_point(|&at| at < len)) as u32
    }

    /// The number of versions that a read saw, without the reader's own at the end; none if the list is
    /// not a prefix of the key's order.
    fn version_read(&self, key: KeyId, list: ListRef, reader: TxnId) -> Option<u32> {
        if list.len > 0 && list.len > self.flaws[list.trunk as usize].agrees {
            return None;
        }
        let mut count = self.version_count(key, list.len);
        let versions = self.versions(key);
        while count > 0 && self.writer(versions[count as usize - 1]) == reader {
            count -= 1;
        }
        Some(count)
    }

    /// Does the list hold the value?
    fn holds(&self, key: KeyId, list: ListRef, value: u64) -> bool {
        let Some(append) = self.find(key, value) else {
            return false;
        };
        if self.flags[append] & SEEN == 0 || list.len == 0 {
            return false;
        }
        let on_timeline = list.len <= self.flaws[list.trunk as usize].agrees;
        match self.version[append] {
            at if at != NONE && on_timeline => at < self.version_count(key, list.len),
            _ => self.history.list(list).contains(&value),
        }
    }

    /// Each version's writer precedes the next one's, and the last one's all whose appends nobody saw.
    fn add_write_edges(&self, tails: &Tails, builder: &mut GraphBuilder) {
        for key in 0..self.history.key_count() as u32 {
            let versions = self.versions(key);
            for pair in versions.windows(2) {
                builder.add(self.writer(pair[0]), self.writer(pair[1]), EdgeKind::Ww);
            }
            if let Some(&last) = versions.last() {
                tails.link(key, self.writer(last), EdgeKind::Ww, builder);
            }
        }
    }

    /// The first append of a transaction to a key that nobody saw.
    fn unseen(&self, key: KeyId, txn: TxnId) -> Option<Append> {
        let unseen = |&at: &usize| self.appends[at].txn == txn && self.is_unseen(at);
        let range = self.key_appends(key);
        Some(self.appends[range.into_iter().find(unseen)?])
    }

    /// Who appended anything.
    fn updates(&self) -> Vec<bool> {
        let mut updates = vec![false; self.history.len()];
        for append in &self.appends {
            updates[append.txn as usize] = true;
        }
        updates
    }

    fn is_unseen(&self, append: usize) -> bool {
        self.flags[append] & (SEEN | AMBIGUOUS) == 0 && self.live[self.appends[append].txn as usize]
    }
}

/// Which transactions committed, as far as reads show: those that the client knows of, and indeterminate ones of
/// which somebody saw an effect.
pub(super) fn live(history: &History) -> Vec<bool> {
    Index::of(history).live
}

/// By register and value, the only transaction that can have written it; none if there are several.
fn register_writers(history: &History) -> BTreeMap<(KeyId, u64), Option<TxnId>> {
    let mut writers = BTreeMap::<(KeyId, u64), Option<TxnId>>::new();
    for txn in history.txns().filter(|txn| txn.may_have_happened()) {
        for op in txn.ops() {
            if let Op::Write { key, value }
            | Op::Cas {
                key, new: value, ..
            } = op
            {
                let only = writers.entry((key, value)).or_insert(Some(txn.id));
                *only = only.filter(|&id| id == txn.id);
            }
        }
    }
    writers
}

/// Groups all appends by key, in the order of the history.
fn group_appends(history: &History) -> (Vec<u32>, Vec<Append>) {
    let mut start = vec![0u32; history.key_count() + 2];
    for (kind, &key) in history.kinds.iter().zip(&history.op_keys) {
        start[key as usize + 2] += u32::from(*kind == Kind::Append);
    }
    for at in 2..start.len() {
        start[at] += start[at - 1];
    }
    let count = *start.last().expect("at least two entries") as usize;
    let mut appends = vec![Append { value: 0, txn: 0 }; count];
    for txn in history.txns() {
        for at in history.op_range(txn.id) {
            if history.kinds[at] == Kind::Append {
                let slot = &mut start[history.op_keys[at] as usize + 1];
                appends[*slot as usize] = Append {
                    value: history.args[at],
                    txn: txn.id,
                };
                *slot += 1;
            }
        }
    }
    start.pop();
    (start, appends)
}

/// For each key, the transactions whose appends nobody saw: they follow the last version seen.
///
/// Many readers of the last version times many such writers would be quadratic, so each key has a chain of
/// auxiliary nodes for the prefixes of its writers and one for the suffixes: a writer that is a reader too
/// reaches all others by two edges.
struct Tails {
    /// Of each key: where its members start.
    start: Vec<u32>,
    members: Vec<TxnId>,
    /// Of each key: its first auxiliary node. Node `2 i` stands for members `0..=i`, `2 i + 1` for `i..`.
    nodes: Vec<u32>,
}

impl Tails {
    fn add(index: &Index, builder: &mut GraphBuilder) -> Self {
        let mut tails = Tails {
            start: Vec::new(),
            members: Vec::new(),
            nodes: Vec::new(),
        };
        for key in 0..index.history.key_count() as u32 {
            let start = tails.members.len();
            tails.start.push(start as u32);
            let unseen = index.key_appends(key).filter(|&at| index.is_unseen(at));
            tails.members.extend(unseen.map(|at| index.appends[at].txn));
            tails.members[start..].sort_unstable();
            let mut fresh = tails.members.split_off(start);
            fresh.dedup();
            tails.nodes.push(Self::chain(&fresh, builder));
            tails.members.append(&mut fresh);
        }
        tails.start.push(tails.members.len() as u32);
        tails
    }

    /// The auxiliary nodes for these members; none are needed for one.
    fn chain(members: &[TxnId], builder: &mut GraphBuilder) -> u32 {
        if members.len() < 2 {
            return NONE;
        }
        let through = EdgeKind::Through;
        let nodes: Vec<u32> = members
            .iter()
            .flat_map(|_| [(), ()])
            .map(|()| builder.auxiliary())
            .collect();
        for (at, &member) in members.iter().enumerate() {
            builder.add(nodes[2 * at], member, through);
            builder.add(nodes[2 * at + 1], member, through);
            if at > 0 {
                builder.add(nodes[2 * at], nodes[2 * at - 2], through);
                builder.add(nodes[2 * at - 1], nodes[2 * at + 1], through);
            }
        }
        nodes[0]
    }

    fn members(&self, key: KeyId) -> &[TxnId] {
        let key = key as usize;
        &self.members[self.start[key] as usize..self.start[key + 1] as usize]
    }

    /// Does some key have several members?
    fn has_choice(&self) -> bool {
        self.start.windows(2).any(|pair| pair[1] - pair[0] > 1)
    }

    /// The sets of members of one key whose order matters: those in one component of the graph. Between
    /// components any topological order will do.
    fn choices(&self, graph: &graph::Graph, wanted: bool) -> Vec<(KeyId, Vec<TxnId>)> {
        let mut choices = Vec::new();
        let components = if wanted {
            graph.components()
        } else {
            Vec::new()
        };
        let keys = 0..self.start.len() as u32 - 1;
        for key in keys.filter(|&key| wanted && self.members(key).len() > 1) {
            for component in &components {
                let inside = |member: &&TxnId| component.binary_search(member).is_ok();
                let members: Vec<TxnId> =
                    self.members(key).iter().filter(inside).copied().collect();
                if members.len() > 1 {
                    choices.push((key, members));
                }
            }
        }
        choices
    }

    /// Adds edges from a transaction to all members but itself.
    fn link(&self, key: KeyId, from: TxnId, kind: EdgeKind, builder: &mut GraphBuilder) {
        let members = self.members(key);
        if let &[member] = members {
            builder.add(from, member, kind);
        }
        if members.len() < 2 {
            return;
        }
        let first = self.nodes[key as usize];
        let last = members.len() - 1;
        match members.binary_search(&from) {
            Err(_) => builder.add(from, first + 2 * last as u32, kind),
            Ok(at) => {
                if at > 0 {
                    builder.add(from, first + 2 * (at as u32 - 1), kind);
                }
                if at < last {
                    builder.add(from, first + 2 * (at as u32 + 1) + 1, kind);
                }
            }
        }
    }
}

/// A transaction's own view of a key: the list that it read last and what it appended since.
#[derive(Default)]
struct View {
    base: Option<ListRef>,
    /// The external version that it read first, if any.
    version: Option<u32>,
    own: Vec<u64>,
}

/// Collects the anomalies.
struct Findings<'a> {
    history: &'a History,
    options: &'a Options,
    index: &'a Index<'a>,
    anomalies: Vec<Anomaly>,
    counts: BTreeMap<AnomalyKind, u64>,
    /// The models that what was counted refutes.
    refuted: Models,
    exercised: Exercised,
    notes: Vec<String>,
    /// Models left open because a budget was spent.
    open: Vec<Model>,
    /// Key, version read, transaction: of those that read a version and then appended to it.
    updates: Vec<(KeyId, u32, TxnId)>,
}

impl<'a> Findings<'a> {
    fn new(history: &'a History, options: &'a Options, index: &'a Index<'a>) -> Self {
        Findings {
            history,
            options,
            index,
            anomalies: Vec::new(),
            counts: BTreeMap::new(),
            refuted: Models::default(),
            exercised: Exercised::default(),
            notes: Vec::new(),
            open: Vec::new(),
            updates: Vec::new(),
        }
    }

    /// Counts an anomaly; true if it should be explained.
    fn count(&mut self, kind: AnomalyKind) -> bool {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count == 1 {
            let refuted = kind.refutes().into_iter().collect();
            self.refuted = self.refuted.or(refuted);
        }
        *count <= self.options.examples_max as u64
    }

    fn fact(
        &mut self,
        kind: AnomalyKind,
        key: KeyId,
        txns: &[TxnId],
        say: impl FnOnce(&mut Cast) -> String,
    ) {
        if self.count(kind) {
            let mut cast = Cast::of(txns.iter().copied());
            let sentence = say(&mut cast);
            self.anomalies.push(explain::fact(
                self.history,
                kind,
                Some(key),
                cast,
                &sentence,
            ));
        }
    }

    /// What the version orders alone show.
    fn lists(&mut self) {
        for &(key, value) in &self.index.ambiguous {
            let (key, value) = (self.history.show_key(key), self.history.show_value(value));
            self.notes.push(format!(
                "{value} was appended to key {key} more than once by transactions that may have committed: \
                 appends must be unique, and nothing is inferred from this one"
            ));
        }
        let keys: Vec<KeyId> = self.index.dead.keys().copied().collect();
        for key in keys {
            self.dirty_updates(key);
        }
    }

    /// A failed transaction's version that a committed one built on.
    fn dirty_updates(&mut self, key: KeyId) {
        let index = self.index;
        let mut dirty = None;
        for &value in index.order(key) {
            let Some(append) = index.find(key, value) else {
                continue;
            };
            let txn = index.appends[append].txn;
            match (self.history.header(txn).status, dirty) {
                (Status::Fail, None) => dirty = Some(append),
                (Status::Ok, Some(first)) => {
                    let first = index.appends[first];
                    let history = self.history;
                    self.fact(AnomalyKind::DirtyUpdate, key, &[first.txn, txn], |cast| {
                        format!(
                            "{} aborted, but its append of {} to key {} is part of the version that {} \
                             committed by appending {}.",
                            cast.name(first.txn),
                            history.show_value(first.value),
                            history.show_key(key),
                            cast.name(txn),
                            history.show_value(value)
                        )
                    });
                    dirty = None;
                }
                _ => {}
            }
        }
    }

    /// What each transaction shows by itself, and the edges of its reads.
    fn transactions(&mut self, tails: &Tails, builder: &mut GraphBuilder) {
        let history = self.history;
        // Of each key, the last transaction that touched it.
        let mut touched = vec![NONE; history.key_count()];
        for txn in history.txns() {
            match txn.header.status {
                Status::Fail => self.exercised.failed += 1,
                Status::Info => self.exercised.indeterminate += 1,
                Status::Ok => {}
            }
            self.exercised.transactions += u64::from(txn.header.status != Status::Fail);
            let mut repeats = false;
            for at in history.op_range(txn.id) {
                let key = history.op_keys[at];
                repeats |= touched[key as usize] == txn.id;
                touched[key as usize] = txn.id;
                match history.kinds[at] {
                    Kind::Append => self.exercised.writes += 1,
                    Kind::ReadList if self.index.live[txn.id as usize] => {
                        let list = ListRef::unpack(history.args[at]);
                        self.read(txn.id, key, list, tails, builder);
                    }
                    _ => {}
                }
            }
            if repeats && self.index.live[txn.id as usize] {
                self.internal(txn.id);
            }
        }
    }

    fn read(
        &mut self,
        txn: TxnId,
        key: KeyId,
        list: ListRef,
        tails: &Tails,
        builder: &mut GraphBuilder,
    ) {
        self.exercised.reads += 1;
        self.exercised.reads_nonempty += u64::from(list.len > 0);
        let index = self.index;
        if list.len > 0 {
            self.flaws_of_read(txn, key, list);
        }
        let versions = index.versions(key);
        match index.version_read(key, list, txn) {
            Some(count) => {
                let count = count as usize;
                if count > 0 {
                    builder.add(index.writer(versions[count - 1]), txn, EdgeKind::Wr);
                }
                match versions.get(count) {
                    Some(&next) => builder.add(txn, index.writer(next), EdgeKind::Rw),
                    None => tails.link(key, txn, EdgeKind::Rw, builder),
                }
            }
            None => {
                // Not on the timeline: only the last element's writer is certain.
                let last = *self
                    .history
                    .list(list)
                    .last()
                    .expect("an empty list agrees");
                if let Some(append) = index.find(key, last)
                    && index.flags[append] & AMBIGUOUS == 0
                    && !index.has_failed(append)
                {
                    builder.add(index.appends[append].txn, txn, EdgeKind::Wr);
                }
            }
        }
    }

    fn flaws_of_read(&mut self, txn: TxnId, key: KeyId, list: ListRef) {
        let (history, index) = (self.history, self.index);
        let flaws = index.flaws[list.trunk as usize];
        let elements = history.list(list);
        let show = |len: u32| history.show_value(elements[len as usize - 1]);
        let name = history.show_key(key);
        if list.len >= flaws.duplicate {
            self.fact(AnomalyKind::DuplicateElements, key, &[txn], |cast| {
                let element = show(flaws.duplicate);
                format!(
                    "{} read key {name} as a list that holds {element} twice.",
                    cast.name(txn)
                )
            });
        }
        if list.len >= flaws.garbage {
            self.fact(AnomalyKind::GarbageRead, key, &[txn], |cast| {
                let element = show(flaws.garbage);
                format!(
                    "{} read {element} from key {name}, which nobody appended.",
                    cast.name(txn)
                )
            });
        }
        if list.len >= flaws.failed {
            let value = elements[flaws.failed as usize - 1];
            let writer = index.find(key, value).expect("it failed, so it exists");
            let writer = index.appends[writer].txn;
            self.fact(AnomalyKind::G1a, key, &[txn, writer], |cast| {
                format!(
                    "{} observed {} in key {name}, which {} appended; but {} aborted.",
                    cast.name(txn),
                    show(flaws.failed),
                    cast.name(writer),
                    cast.name(writer)
                )
            });
        }
        if list.len > flaws.agrees {
            self.incompatible(txn, key, list, flaws.agrees as usize);
        }
        self.intermediate(txn, key, elements);
    }

    fn incompatible(&mut self, txn: TxnId, key: KeyId, list: ListRef, agrees: usize) {
        let (history, index) = (self.history, self.index);
        let order = index.order(key);
        let told = index.source[key as usize] == Source::Told;
        if !told && order.len() <= agrees {
            return;
        }
        let other = index.reader_of_order(key);
        let txns: Vec<TxnId> = [Some(txn), other].into_iter().flatten().collect();
        self.fact(AnomalyKind::IncompatibleOrder, key, &txns, |cast| {
            let read = explain::list(history, history.list(list));
            let (name, order) = (history.show_key(key), explain::list(history, order));
            let whole = match other {
                Some(other) => format!("{} read it as {order}", cast.name(other)),
                None => format!("its versions are {order}"),
            };
            format!(
                "{} read key {name} as {read}, but {whole}: neither is a prefix of the other.",
                cast.name(txn)
            )
        });
    }

    /// Reads of a version that its writer had not finished.
    fn intermediate(&mut self, txn: TxnId, key: KeyId, elements: &[u64]) {
        let (history, index) = (self.history, self.index);
        let last = *elements.last().expect("not empty");
        let Some(append) = index.find(key, last) else {
            return;
        };
        let writer = index.appends[append].txn;
        if index.flags[append] & (FINAL | AMBIGUOUS) != 0 || writer == txn {
            return;
        }
        self.fact(AnomalyKind::G1b, key, &[txn, writer], |cast| {
            let own = history.txn(writer).ops();
            let mut after = own.filter_map(|op| match op {
                Op::Append { key: k, value } if k == key => Some(value),
                _ => None,
            });
            let next = after.by_ref().skip_while(|&value| value != last).nth(1);
            format!(
                "{} observed {}'s append of {} to key {} as the last element, but {} went on to append {}.",
                cast.name(txn),
                cast.name(writer),
                history.show_value(last),
                history.show_key(key),
                cast.name(writer),
                history.show_value(next.expect("it is not the final append"))
            )
        });
    }

    /// Compares each of a transaction's reads with its own earlier operations on the key.
    fn internal(&mut self, txn: TxnId) {
        let (history, index) = (self.history, self.index);
        let mut views: BTreeMap<KeyId, View> = BTreeMap::new();
        for at in history.op_range(txn) {
            let (key, arg) = (history.op_keys[at], history.args[at]);
            match history.kinds[at] {
                Kind::Append => {
                    let view = views.entry(key).or_default();
                    if let Some(version) = view.version
                        && view.own.is_empty()
                    {
                        self.updates.push((key, version, txn));
                    }
                    view.own.push(arg);
                }
                Kind::ReadList => {
                    let list = ListRef::unpack(arg);
                    let view = views.entry(key).or_default();
                    let consistent =
                        view.base.is_none() && view.own.is_empty() || view.explains(history, list);
                    if !consistent {
                        let (base, own) = (view.base, view.own.clone());
                        self.inconsistent(txn, key, list, base, &own);
                    }
                    if view.version.is_none() && view.own.is_empty() {
                        view.version = index.version_read(key, list, txn);
                    }
                    view.base = Some(list);
                    view.own.clear();
                }
                _ => {}
            }
        }
        self.future_reads(txn);
        self.own_order(txn);
    }

    /// A transaction's appends to a key must take effect in its own order; one that nobody saw is the last.
    fn own_order(&mut self, txn: TxnId) {
        let (history, index) = (self.history, self.index);
        let mut last: BTreeMap<KeyId, (u32, u64)> = BTreeMap::new();
        for op in history.txn(txn).ops() {
            let Op::Append { key, value } = op else {
                continue;
            };
            let append = index.find_of(key, value, txn);
            let version = index.version[append];
            if version == NONE && !index.is_unseen(append) {
                continue;
            }
            let before = last.insert(key, (version, value));
            if let Some((_, earlier)) = before.filter(|&(before, _)| before > version) {
                self.fact(AnomalyKind::CyclicVersions, key, &[txn], |cast| {
                    format!(
                        "{} appended {} to key {} before {}, but {} took effect first.",
                        cast.name(txn),
                        history.show_value(earlier),
                        history.show_key(key),
                        history.show_value(value),
                        history.show_value(value)
                    )
                });
            }
        }
    }

    fn inconsistent(
        &mut self,
        txn: TxnId,
        key: KeyId,
        list: ListRef,
        base: Option<ListRef>,
        own: &[u64],
    ) {
        let history = self.history;
        self.fact(AnomalyKind::Internal, key, &[txn], |cast| {
            let expected = match base {
                Some(base) => {
                    let mut whole = history.list(base).to_vec();
                    whole.extend_from_slice(own);
                    explain::list(history, &whole)
                }
                None => format!("a list that ends in {}", explain::list(history, own)),
            };
            format!(
                "{} read key {} as {}, but after its own earlier operations it must be {expected}.",
                cast.name(txn),
                history.show_key(key),
                explain::list(history, history.list(list)),
            )
        });
    }

    /// Reads that hold an element which the transaction appends only later.
    fn future_reads(&mut self, txn: TxnId) {
        let (history, index) = (self.history, self.index);
        let mut own: Vec<(KeyId, u64)> = Vec::new();
        for at in history.op_range(txn).rev() {
            let (key, arg) = (history.op_keys[at], history.args[at]);
            match history.kinds[at] {
                Kind::Append => own.push((key, arg)),
                Kind::ReadList => {
                    let list = ListRef::unpack(arg);
                    let later = own.iter().rev().filter(|(k, _)| *k == key);
                    let mut seen = later.filter(|(_, value)| index.holds(key, list, *value));
                    if let Some(&(_, value)) = seen.next() {
                        self.fact(AnomalyKind::FutureRead, key, &[txn], |cast| {
                            let name = history.show_key(key);
                            let value = history.show_value(value);
                            format!(
                                "{} observed {value} in key {name} before it appended it.",
                                cast.name(txn)
                            )
                        });
                    }
                }
                _ => {}
            }
        }
    }

    /// Several transactions that read one version and appended to it.
    fn lost_updates(&mut self) {
        let mut updates = std::mem::take(&mut self.updates);
        updates.sort_unstable();
        updates.dedup();
        for group in updates.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let &[(key, version, first), (_, _, second), ..] = group else {
                continue;
            };
            let (history, index) = (self.history, self.index);
            let txns: Vec<TxnId> = group.iter().map(|&(_, _, txn)| txn).collect();
            self.fact(AnomalyKind::LostUpdate, key, &txns, |cast| {
                let name = history.show_key(key);
                let state = match version.checked_sub(1) {
                    None => "its initial (empty) state".to_string(),
                    Some(at) => {
                        let append = index.versions(key)[at as usize];
                        format!("the version that ends in {}", history.show_value(index.appends[append as usize].value))
                    }
                };
                format!(
                    "{} and {} both read key {name} in {state} and both appended to it: one update was made \
                     without regard to the other.",
                    cast.name(first),
                    cast.name(second)
                )
            });
        }
    }

    /// Tells of the cycles; returns where there may be such that only atomic visibility forbids.
    fn cycles(&mut self, cycles: graph::Cycles, updates: &[bool]) -> Vec<Vec<TxnId>> {
        self.open.extend(cycles.open);
        if cycles.exhausted {
            self.notes_on_budget();
        }
        for cycle in cycles.found {
            let mut refutes = cycle.refutes(|txn| updates[txn as usize]);
            refutes.extend(self.index.refuted_by_sight(&cycle.edges));
            let tells_more = refutes.iter().any(|&model| !self.refuted.refute(model));
            let is_pair = cycle.edges.len() == 2
                && matches!(cycle.kind, AnomalyKind::G2Item | AnomalyKind::WriteSkew);
            let skew = is_pair.then(|| self.index.steps(cycle.edges.clone()));
            let skew = skew.filter(|steps| of_two_keys(steps));
            if cycle.kind != AnomalyKind::WriteSkew {
                self.refuted = self.refuted.or(refutes.iter().copied().collect());
                if self.count(cycle.kind) || tells_more {
                    let steps = self.index.steps(cycle.edges);
                    let refutes = refutes.clone();
                    self.anomalies
                        .push(explain::cycle(self.history, cycle.kind, refutes, steps));
                }
            }
            if let Some(steps) = skew
                && self.count(AnomalyKind::WriteSkew)
            {
                let kind = AnomalyKind::WriteSkew;
                self.anomalies
                    .push(explain::cycle(self.history, kind, refutes, steps));
            }
        }
        cycles.skewed
    }

    /// Every model orders even those writers of a key of which nobody read. Where a serial order exists that order
    /// will do; otherwise all orders are tried, for there is no graph to read it from.
    fn unseen_orders(
        &mut self,
        edges: &GraphBuilder,
        choices: &[(KeyId, Vec<TxnId>)],
        updates: &[bool],
    ) {
        let serial = [
            Model::Serializable,
            Model::StrongSessionSerializable,
            Model::StrictSerializable,
        ];
        let refuted = self.refuted;
        let standing = |model: &Model| !refuted.refute(*model);
        let asked: Vec<Model> = ORDERED
            .into_iter()
            .filter(standing)
            .filter(|&model| {
                !serial
                    .iter()
                    .filter(|s| standing(s))
                    .any(|s| s.implies(model))
            })
            .collect();
        if asked.is_empty() {
            return;
        }
        let Some(refuted) =
            self.index
                .refuted_by_every_order(edges, choices, (&asked, updates), self.options)
        else {
            self.open.extend(asked);
            return self.notes_on_budget();
        };
        let weakest = Boundary::drawn(refuted, Models::default()).violated;
        for model in weakest.into_iter().filter(|model| ORDERED.contains(model)) {
            self.no_order(model, choices);
        }
    }

    /// Whatever order the unread appends took effect in, the history is outside of the model.
    fn no_order(&mut self, model: Model, choices: &[(KeyId, Vec<TxnId>)]) {
        let kind = match model {
            Model::StrongSnapshotIsolation => AnomalyKind::NotStrongSnapshotIsolated,
            Model::StrongSessionSnapshotIsolation => AnomalyKind::NotStrongSessionSnapshotIsolated,
            Model::UpdateSerializable => AnomalyKind::NotSerializable,
            _ => AnomalyKind::NotSnapshotIsolated,
        };
        self.refuted = self.refuted.or([model].into_iter().collect());
        let txns: Vec<TxnId> = choices.iter().flat_map(|(_, txns)| txns.clone()).collect();
        let history = self.history;
        let keys = choices.iter().map(|&(key, _)| history.show_key(key));
        let keys: Vec<String> = keys.collect();
        let explained = self.anomalies.len();
        self.fact(kind, choices[0].0, &txns, |_| {
            let keys = keys.join(", ");
            let then = match model {
                Model::UpdateSerializable => {
                    "the transactions that wrote, with one that only read, could not be put in any order"
                }
                Model::PrefixNoSession | Model::ConsistentView => {
                    "some transaction would have to have missed what it depends on"
                }
                _ => "some transaction's snapshot would have to be taken after its own commit",
            };
            format!(
                "these appended to key {keys} and nobody read the result; whichever came first, {then} \
                 ({model} fails)."
            )
        });
        for anomaly in &mut self.anomalies[explained..] {
            anomaly.refutes = vec![model];
        }
    }

    fn notes_on_budget(&mut self) {
        self.notes.push(format!(
            "the budget of {} steps was spent: some cycle may not be the shortest, or hide a worse one",
            self.options.steps_max
        ));
    }

    fn report(self) -> Report {
        let counts = self.counts.iter();
        let counts = counts.map(|(kind, &count)| (kind.name(), count)).collect();
        let decided = DECIDED.iter().copied();
        let is_open = |model: &Model| match model {
            Model::ForwardConsistentView | Model::ParallelSnapshotIsolation => {
                self.open.contains(&Model::ConsistentView)
            }
            model => self.open.contains(model),
        };
        let mut held: Vec<Model> = decided.filter(|model| !is_open(model)).collect();
        if !self.index.ambiguous.is_empty() {
            held.clear();
        }
        let mut report = Report::new(
            self.options,
            self.anomalies,
            self.exercised,
            held,
            self.notes,
        );
        report.counts = counts;
        report.refute(self.refuted);
        if report.verdict == Verdict::Unknown {
            report.notes.push(format!(
                "list-append histories that violate stronger models do not decide {}",
                self.options.model
            ));
        }
        report
    }
}

/// The permutation that the lowest digits of `number` (in the factorial base) stand for; divides them off.
fn permutation(txns: &[TxnId], number: &mut u64) -> Vec<TxnId> {
    let mut left = txns.to_vec();
    let mut chosen = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let base = left.len() as u64;
        chosen.push(left.remove((*number % base) as usize));
        *number /= base;
    }
    chosen
}

/// The models whose violations always show as anomalies here.
const DECIDED: [Model; 20] = [
    Model::ReadUncommitted,
    Model::ReadCommitted,
    Model::StrongSessionReadUncommitted,
    Model::StrongSessionReadCommitted,
    Model::StrongReadUncommitted,
    Model::StrongReadCommitted,
    Model::ConsistentView,
    Model::ForwardConsistentView,
    Model::ReadAtomicNoSession,
    Model::CausalConsistencyNoSession,
    Model::ParallelSnapshotIsolation,
    Model::PrefixNoSession,
    Model::UpdateSerializable,
    Model::RepeatableRead,
    Model::SnapshotIsolation,
    Model::StrongSessionSnapshotIsolation,
    Model::StrongSnapshotIsolation,
    Model::Serializable,
    Model::StrongSessionSerializable,
    Model::StrictSerializable,
];

/// Those for which it matters in which order appends took effect that nobody read. Parallel snapshot isolation and PL-FCV
/// (whose transactions may start as early as they like) go with PL-2+: all three forbid cycles with one anti-dependency.
const ORDERED: [Model; 6] = [
    Model::ConsistentView,
    Model::PrefixNoSession,
    Model::UpdateSerializable,
    Model::SnapshotIsolation,
    Model::StrongSessionSnapshotIsolation,
    Model::StrongSnapshotIsolation,
];

impl View {
    /// Is the list what was read before, with what was appended since?
    fn explains(&self, history: &History, list: ListRef) -> bool {
        let elements = history.list(list);
        let Some(split) = elements.len().checked_sub(self.own.len()) else {
            return false;
        };
        let (old, new) = elements.split_at(split);
        let base_holds = match self.base {
            None => true,
            Some(base) if base.len as usize != split => false,
            Some(base) => base.trunk == list.trunk || history.list(base) == old,
        };
        base_holds && new == self.own
    }
}

/// Are the two steps of a cycle anti-dependencies on different keys?
fn of_two_keys(steps: &[Step]) -> bool {
    let key = |step: &Step| match &step.because {
        Dependency::ReadWrite { key, .. } => Some(key.clone()),
        _ => None,
    };
    matches!(steps, [one, two] if key(one) != key(two))
}

/// Two steps as one, where that is still a reason: a session's order is transitive, and so is a list's. Whoever saw an
/// element saw those before it, and whoever missed one missed those after it. Only where the two steps speak of one
/// version in the middle: a transaction may have appended several, on either side of the others.
fn joined(one: &Step, two: &Step) -> Option<Step> {
    use Dependency::{Process, ReadWrite, WriteRead, WriteWrite};
    let because = match (&one.because, &two.because) {
        (Process { process }, Process { .. }) => Process { process: *process },
        (
            WriteWrite {
                key,
                from_value,
                to_value: middle,
            },
            WriteWrite {
                key: same,
                from_value: version,
                to_value,
            },
        ) if (key, middle) == (same, version) => WriteWrite {
            key: key.clone(),
            from_value: *from_value,
            to_value: *to_value,
        },
        (
            WriteWrite {
                key,
                from_value,
                to_value: middle,
            },
            WriteRead {
                key: same,
                value: version,
            },
        ) if (key, middle) == (same, version) => WriteRead {
            key: key.clone(),
            value: *from_value,
        },
        (
            ReadWrite {
                key,
                read,
                written: middle,
            },
            WriteWrite {
                key: same,
                from_value: version,
                to_value,
            },
        ) if (key, middle) == (same, version) => ReadWrite {
            key: key.clone(),
            read: *read,
            written: *to_value,
        },
        _ => return None,
    };
    (one.from != two.to).then_some(Step {
        from: one.from,
        to: two.to,
        because,
        ordered_by: None,
    })
}

impl Index<'_> {
    /// Which of the models asked about does every order of the choices refute? None if trying all orders would look
    /// at more edges than allowed.
    fn refuted_by_every_order(
        &self,
        edges: &GraphBuilder,
        choices: &[(KeyId, Vec<TxnId>)],
        (asked, updates): (&[Model], &[bool]),
        options: &Options,
    ) -> Option<Models> {
        let orders = choices.iter().try_fold(1u64, |orders, (_, txns)| {
            (2..=txns.len() as u64).try_fold(orders, |orders, n| orders.checked_mul(n))
        })?;
        let steps = orders.checked_mul(edges.edge_count() as u64 + self.history.len() as u64)?;
        if steps > options.steps_max {
            return None;
        }
        let mut refuted: Models = asked.iter().copied().collect();
        for mut number in 0..orders {
            if refuted == Models::default() {
                break;
            }
            let mut builder = edges.clone();
            for (_, txns) in choices {
                let chosen = permutation(txns, &mut number);
                for pair in chosen.windows(2) {
                    builder.add(pair[0], pair[1], EdgeKind::Ww);
                }
            }
            let graph = builder.finish(self.history, |txn| self.live[txn as usize]);
            let is_update = |txn: TxnId| updates[txn as usize];
            let cycles = graph::cycles(&graph, options, is_update);
            if cycles.exhausted {
                return None;
            }
            let weakest = cycles
                .found
                .iter()
                .flat_map(|cycle| cycle.refutes(is_update));
            let here: Models = weakest.collect();
            let fails = |model: &Model| refuted.contains(*model) && here.refute(*model);
            refuted = asked.iter().copied().filter(fails).collect();
        }
        Some(refuted)
    }

    /// A transaction that read the list which gives the key's order.
    fn reader_of_order(&self, key: KeyId) -> Option<TxnId> {
        let Source::Trunk(trunk) = self.source[key as usize] else {
            return None;
        };
        let len = self.read_len[trunk as usize];
        let history = self.history;
        let reads = |at: usize| {
            history.kinds[at] == Kind::ReadList
                && history.op_keys[at] == key
                && ListRef::unpack(history.args[at]) == ListRef { trunk, len }
        };
        let mut txns = history.txns().filter(|txn| self.live[txn.id as usize]);
        txns.find_map(|txn| history.op_range(txn.id).any(reads).then_some(txn.id))
    }

    /// Says why, for each edge of a cycle; joins edges that say one thing together, and starts at the smallest
    /// transaction.
    fn steps(&self, edges: Vec<Edge>) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for edge in edges {
            let mut step = Step {
                from: edge.from,
                to: edge.to,
                because: self.because(&edge),
                ordered_by: None,
            };
            while let Some(joined) = steps.last().and_then(|last| joined(last, &step)) {
                steps.pop();
                step = joined;
            }
            steps.push(step);
        }
        while let [first, .., last] = steps.as_slice()
            && let Some(joined) = joined(last, first)
        {
            steps.pop();
            steps[0] = joined;
        }
        let smallest = steps.iter().enumerate().min_by_key(|(_, step)| step.from);
        let at = smallest.map_or(0, |(at, _)| at);
        steps.rotate_left(at);
        steps
    }

    fn because(&self, edge: &Edge) -> Dependency {
        let history = self.history;
        let dependency = match edge.kind {
            EdgeKind::Ww => self.why_ww(edge),
            EdgeKind::Wr => self.why_wr(edge),
            EdgeKind::Rw => self.why_rw(edge),
            EdgeKind::Process => Some(Dependency::Process {
                process: history.header(edge.from).process,
            }),
            EdgeKind::Realtime => Some(Dependency::Realtime {
                complete: history.header(edge.from).complete,
                invoke: history.header(edge.to).invoke,
            }),
            EdgeKind::Through => None,
        };
        dependency.expect("an edge of the graph has a reason in the history")
    }

    fn why_ww(&self, edge: &Edge) -> Option<Dependency> {
        self.history.txn(edge.to).ops().find_map(|op| {
            let Op::Append { key, value } = op else {
                return None;
            };
            let append = self.find_of(key, value, edge.to);
            let versions = self.versions(key);
            let before = match self.version[append] {
                NONE if self.is_unseen(append) => versions.last(),
                NONE => None,
                at => versions.get((at as usize).checked_sub(1)?),
            };
            let before = self.appends[*before? as usize];
            (before.txn == edge.from).then(|| Dependency::WriteWrite {
                key: self.history.show_key(key),
                from_value: before.value,
                to_value: value,
            })
        })
    }

    /// The lists that a transaction read, with the versions that they hold.
    fn reads(&self, txn: TxnId) -> impl Iterator<Item = (KeyId, ListRef, Option<u32>)> {
        let history = self.history;
        let range = history.op_range(txn);
        let reads = range.filter(|&at| history.kinds[at] == Kind::ReadList);
        reads.map(move |at| {
            let (key, list) = (history.op_keys[at], ListRef::unpack(history.args[at]));
            (key, list, self.version_read(key, list, txn))
        })
    }

    fn why_wr(&self, edge: &Edge) -> Option<Dependency> {
        self.reads(edge.to).find_map(|(key, list, version)| {
            let append = match version {
                Some(count) => {
                    let at = (count as usize).checked_sub(1)?;
                    self.appends[self.versions(key)[at] as usize]
                }
                None => self.appends[self.find(key, *self.history.list(list).last()?)?],
            };
            (append.txn == edge.from).then(|| Dependency::WriteRead {
                key: self.history.show_key(key),
                value: append.value,
            })
        })
    }

    fn why_rw(&self, edge: &Edge) -> Option<Dependency> {
        self.reads(edge.from).find_map(|(key, list, version)| {
            let count = version? as usize;
            let versions = self.versions(key);
            let next = match versions.get(count) {
                Some(&next) => self.appends[next as usize],
                None => self.unseen(key, edge.to)?,
            };
            let read = count.checked_sub(1).map(|at| versions[at] as usize);
            // A list without a version may still hold what is none: an element that nobody appended, or that failed.
            let own = |value: u64| {
                let append = self.find(key, value);
                append.is_some_and(|append| self.appends[append].txn == edge.from)
            };
            let mut held = self.history.list(list).iter().rev();
            (next.txn == edge.to).then(|| Dependency::ReadWrite {
                key: self.history.show_key(key),
                read: (read.map(|append| self.appends[append].value))
                    .or_else(|| held.find(|&&value| !own(value)).copied()),
                written: next.value,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HistoryBuilder, Verdict};
    use super::*;

    /// Reads `x [1 2]`-like lines: process, invoke, complete (or `-`), status, operations.
    fn history(text: &str) -> History {
        let mut builder = HistoryBuilder::new();
        let key = |name: &str| u64::from(name.as_bytes()[0]);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (head, ops) = line.split_once(':').expect("head: ops");
            let head: Vec<&str> = head.split_whitespace().collect();
            builder.begin(head[0].parse().unwrap(), head[1].parse().unwrap());
            for op in ops.split(',').map(str::trim) {
                let words: Vec<&str> = op.split_whitespace().collect();
                let numbers = |words: &[&str]| -> Vec<u64> {
                    words.iter().map(|word| word.parse().unwrap()).collect()
                };
                match words[0] {
                    "a" => builder.append(key(words[1]), words[2].parse().unwrap()),
                    "r" if words.get(2) == Some(&"?") => builder.read_unknown(key(words[1])),
                    "r" => builder.read_list(key(words[1]), &numbers(&words[2..])),
                    other => panic!("{other}"),
                }
            }
            let status = match head[3] {
                "ok" => Status::Ok,
                "fail" => Status::Fail,
                _ => Status::Info,
            };
            builder.end(status, head[2].parse().ok());
        }
        builder.finish()
    }

    fn kinds(text: &str) -> Vec<&'static str> {
        let report = check(&history(text), &Options::default());
        report.counts.keys().copied().collect()
    }

    #[test]
    fn a_serial_history_is_strictly_serializable() {
        let report = check(
            &history(
                "0 1 2 ok: a x 1, r y
                 1 3 4 ok: r x 1, a x 2, a y 1
                 0 5 6 ok: r x 1 2, r y 1",
            ),
            &Options::default(),
        );
        assert_eq!(report.anomalies, []);
        assert_eq!(report.verdict, Verdict::Valid);
        assert_eq!(report.boundary.possible, [Model::StrictSerializable]);
        assert_eq!(report.exercised.edges_wr, 3);
    }

    #[test]
    fn an_observer_hears_of_each_phase_once_and_in_order() {
        let history = history("0 1 2 ok: a x 1\n1 3 4 ok: r x");
        let mut heard = Vec::new();
        let report = check_observed(&history, &Options::default(), &mut |phase| {
            heard.push(phase)
        });
        let (first, last) = (Phase::Versions, Phase::Explanations);
        assert_eq!((heard.first(), heard.last()), (Some(&first), Some(&last)));
        assert!(heard.windows(2).all(|pair| pair[0] < pair[1]), "{heard:?}");
        assert_eq!(report, check(&history, &Options::default()));
    }

    #[test]
    fn interleaved_appends_are_a_dirty_write() {
        let found = kinds(
            "0 1 9 ok: a x 1, a y 1
             1 1 9 ok: a x 2, a y 2
             2 1 9 ok: r x 1 2
             3 1 9 ok: r y 2 1",
        );
        assert_eq!(found, ["G0"]);
    }

    #[test]
    fn reading_each_others_writes_is_circular_information_flow() {
        let found = kinds(
            "0 1 9 ok: a x 1, r y 1
             1 1 9 ok: a y 1, r x 1",
        );
        assert_eq!(found, ["G1c"]);
    }

    #[test]
    fn reading_half_of_a_transaction_is_read_skew() {
        let found = kinds(
            "0 1 9 ok: a x 1, a y 1
             1 1 9 ok: r x 1, r y
             2 1 9 ok: r x 1, r y 1",
        );
        assert_eq!(found, ["G-single-item"]);
    }

    #[test]
    fn write_skew_is_g2_and_spares_snapshot_isolation() {
        let text = "0 1 9 ok: r x, a y 1
                    1 1 9 ok: r y, a x 1
                    2 10 11 ok: r x 1, r y 1";
        assert_eq!(kinds(text), ["G2-item", "write-skew"]);
        let si = check(&history(text), &Options::new(Model::SnapshotIsolation));
        assert_eq!(si.verdict, Verdict::Valid);
    }

    #[test]
    fn opposite_views_of_two_writes_are_nonadjacent_antidependencies() {
        let found = kinds(
            "0 1 9 ok: a x 1
             1 1 9 ok: a y 1
             2 1 9 ok: r x 1, r y
             3 1 9 ok: r y 1, r x",
        );
        assert_eq!(found, ["G-nonadjacent-item"]);
    }

    #[test]
    fn a_stale_read_violates_only_real_time() {
        let text = "0 1 2 ok: a x 1
                    1 3 4 ok: r x";
        assert_eq!(kinds(text), ["G-single-item-realtime"]);
        let report = check(
            &history(text),
            &Options::new(Model::StrongSessionSerializable),
        );
        assert_eq!(report.verdict, Verdict::Valid);
        assert_eq!(kinds("0 1 3 ok: a x 1\n1 3 4 ok: r x"), [""; 0]);
    }

    #[test]
    fn a_session_that_misses_its_own_append_violates_its_order() {
        let text = "0 1 2 ok: a x 1
                    0 3 4 ok: r x";
        assert_eq!(kinds(text), ["G-single-item-process"]);
    }

    #[test]
    fn failed_effects_must_not_be_seen_and_indeterminate_ones_may() {
        assert_eq!(kinds("0 1 2 fail: a x 1\n1 3 4 ok: r x 1"), ["G1a"]);
        assert_eq!(kinds("0 1 - info: a x 1\n1 3 4 ok: r x 1"), [""; 0]);
        assert_eq!(kinds("0 1 - info: a x 1\n1 3 4 ok: r x"), [""; 0]);
        let late = "0 1 2 info: a x 1, a y 1
                    1 3 4 ok: r x
                    1 5 6 ok: r x 1
                    1 7 8 ok: r y";
        assert_eq!(kinds(late), ["G-single-item-process"]);
    }

    #[test]
    fn two_updates_of_one_version_lose_one() {
        let found = kinds(
            "0 1 9 ok: r x, a x 1
             1 1 9 ok: r x, a x 2",
        );
        assert_eq!(found, ["G2-item", "lost-update"]);
    }

    #[test]
    fn single_transactions_must_agree_with_themselves() {
        assert_eq!(kinds("0 1 2 ok: a x 1, r x"), ["internal"]);
        assert_eq!(kinds("0 1 2 ok: a x 1, r x 1, a x 2, r x 1 2"), [""; 0]);
        assert_eq!(kinds("0 1 2 ok: r x 1, a x 1"), ["future-read"]);
    }

    #[test]
    fn intermediate_garbage_repeated_and_diverging_reads_are_named() {
        let g1b = kinds("0 1 9 ok: a x 1, a x 2\n1 1 9 ok: r x 1");
        assert_eq!(g1b, ["G-single-item", "G1b"]);
        assert_eq!(kinds("0 1 2 ok: r x 7"), ["garbage-read"]);
        let twice = kinds("0 1 2 ok: a x 1\n1 3 4 ok: r x 1 1");
        assert_eq!(twice, ["duplicate-elements"]);
        let diverging = kinds(
            "0 1 9 ok: a x 1
             1 1 9 ok: a x 2
             2 1 9 ok: r x 1 2
             3 1 9 ok: r x 2",
        );
        assert_eq!(diverging, ["incompatible-order"]);
    }

    #[test]
    fn a_transactions_appends_take_effect_in_its_own_order() {
        let swapped = "0 1 2 ok: a x 1, a x 2\n1 3 4 ok: r x 2 1";
        assert_eq!(kinds(swapped), ["G1b", "cyclic-versions"]);
        let first_missing = "0 1 2 ok: a x 1, a x 2\n1 3 4 ok: r x 2";
        assert_eq!(kinds(first_missing), ["G-single-item", "cyclic-versions"]);
        assert_eq!(kinds("0 1 2 ok: a x 1, a x 2\n1 3 4 ok: r x 1 2"), [""; 0]);
    }

    #[test]
    fn a_commit_on_top_of_an_aborted_append_is_a_dirty_update() {
        let found = kinds(
            "0 1 2 fail: a x 1
             1 3 4 ok: a x 2
             2 5 6 ok: r x 1 2",
        );
        assert_eq!(found, ["G1a", "dirty-update"]);
    }

    #[test]
    fn writers_that_nobody_read_still_follow_the_readers() {
        let many: String = (0..50)
            .map(|n| format!("{n} 1 9 ok: a x {}\n", n + 1))
            .collect();
        assert_eq!(kinds(&many), [""; 0]);
        let late = format!("{many}60 10 11 ok: r x");
        assert_eq!(kinds(&late), ["G-single-item-realtime"]);
    }

    #[test]
    fn a_value_appended_twice_leaves_the_verdict_open() {
        let text = "0 1 2 ok: a x 1\n1 3 4 ok: a x 1\n2 5 6 ok: r x 1";
        let report = check(&history(text), &Options::default());
        assert_eq!(report.verdict, Verdict::Unknown);
        assert!(report.notes[0].contains("more than once"));
        assert_eq!(
            kinds("0 1 2 fail: a x 1\n1 3 4 ok: a x 1\n2 5 6 ok: r x 1"),
            [""; 0]
        );
    }
}
