//! The exact decision for register histories: is there an order of each key's versions under which the
//! history satisfies a model?
//!
//! A history of registers fixes who read from whom and leaves open in which order a key's writers follow one
//! another: a polygraph (Papadimitriou 1979). For each pair of writers of a key one of two sets of edges
//! holds: `i` before `j` and every reader of `i` before `j`, or the same with `i` and `j` exchanged
//! (the generalised constraints of Cobra, Tan et al., OSDI 2020). [`Problem::decide`] works in three stages:
//!
//! 1. *inference*: the edges that hold in any case: reads, reads of the initial state, writes that follow a read
//!    of the same key, sessions or real time (by barriers: at most three edges a transaction);
//! 2. *propagation*: a choice that would close a cycle is discarded, until nothing changes, on the nodes that
//!    can lie on a cycle at all (the strongly connected part of all edges that may hold);
//! 3. *search*: the rest goes to the [solver](super::solver).
//!
//! Snapshot isolation uses two nodes for each transaction, its snapshot and its commit (the BC-polygraphs
//! of Viper, Zhang et al., EuroSys 2023): a dependency orders commit before snapshot, an anti-dependency
//! snapshot before commit, and first-committer-wins is what remains. Its cycles are those of `(ww|wr|so);rw?`
//! (Cerone and Gotsman, PODC 2016).
//!
//! Values written more than once leave open who was read from. Then each possible source is a variable of
//! its own, and so is the presence of an indeterminate transaction that only such reads may have seen.
//! An indeterminate transaction that no read can have seen is left out: without it the rest is no harder.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

mod encoding;
mod schedule;

use super::history::{KeyId, NEVER, TxnId};
use super::solver::{self, Outcome};
use encoding::Encoding;
use schedule::Conflict;

/// A read of a key before any write of the transaction's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Read {
    pub key: KeyId,
    /// `None` is the initial state.
    pub value: Option<u64>,
    /// The transactions that may have written the value, by index; empty for the initial state.
    pub sources: Vec<u32>,
}

/// What matters of a transaction that happened or may have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RegisterTxn {
    pub id: TxnId,
    pub process: u64,
    pub invoke: u64,
    /// [`NEVER`] unless it certainly committed.
    pub complete: u64,
    /// Committed, as its client was told.
    pub certain: bool,
    /// Its effects were seen in a list, so it happened.
    pub seen: bool,
    pub reads: Vec<Read>,
    /// The last value written to each key.
    pub writes: Vec<(KeyId, u64)>,
}

impl RegisterTxn {
    /// The last value that it wrote to a key.
    pub fn written(&self, key: KeyId) -> Option<u64> {
        self.writes
            .iter()
            .find(|(k, _)| *k == key)
            .map(|&(_, value)| value)
    }
}

/// Which transactions the model orders by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TimeOrder {
    /// None.
    Free,
    /// Those of one process, where one completed before the other was invoked.
    Session,
    /// All of which one completed before the other was invoked.
    Realtime,
}

/// A model that can be decided exactly.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Level {
    /// Snapshot isolation instead of serializability.
    pub snapshot: bool,
    /// What time demands in addition.
    pub order: TimeOrder,
}

/// The stage that decided.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stage {
    /// A read that no model allows (aborted, intermediate, of nothing, against the transaction itself).
    Direct,
    /// The edges that hold in any case.
    Inference,
    /// The first guess at an order.
    Schedule,
    /// The choices that the edges force, and so on.
    Propagation,
    /// The solver.
    Search,
}

/// What came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// Possible: the events in an order that explains every read.
    Possible(Vec<Event>),
    /// Impossible.
    Impossible,
    /// The budget was too small.
    Exceeded,
}

/// A moment of a transaction, by index. A serializable one has only its commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// It takes its snapshot.
    Begin(u32),
    /// Its writes become visible.
    Commit(u32),
}

/// Why an edge holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// A transaction's snapshot is no later than its commit.
    Within,
    /// Into, along or out of a chain of barriers.
    Time,
    /// The order of two versions.
    WriteWrite(KeyId),
    /// A version and its reader.
    WriteRead(KeyId),
    /// A reader and a later version.
    ReadWrite(KeyId),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Edge {
    pub from: u32,
    pub to: u32,
    pub why: Why,
}

impl Edge {
    fn ends(&self) -> (u32, u32) {
        (self.from, self.to)
    }
}

/// Two writers of a key whose order is open. Indices are places in [`Problem::present`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Pair {
    pub key: KeyId,
    pub first: u32,
    pub second: u32,
}

impl Pair {
    pub fn swapped(self) -> Self {
        Pair {
            key: self.key,
            first: self.second,
            second: self.first,
        }
    }

    /// The same for both orders: the lower place is the first.
    fn one_way(self) -> Self {
        if self.first < self.second {
            self
        } else {
            self.swapped()
        }
    }
}

/// A read of which it is open where it comes from, or whether its transaction happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OpenRead {
    pub reader: u32,
    pub key: KeyId,
    /// `None` is the initial state.
    pub sources: Vec<Option<u32>>,
}

/// For keys of which a part of the version order is known (lists, of which somebody read a prefix): who wrote
/// these versions, oldest first, by index. All other versions are newer.
pub(super) type Chains = BTreeMap<KeyId, Vec<u32>>;

/// What a history says, as far as orders of versions go.
pub(super) struct Facts {
    pub txns: Vec<RegisterTxn>,
    pub chains: Chains,
    /// The keys whose chains rest on it that no update may be lost: that others come after them is so in some models only.
    pub derived: BTreeSet<KeyId>,
}

/// The sources that a proof by cases has fixed, by reader (index of the transaction) and key.
pub(super) type Fixed = BTreeMap<(u32, KeyId), u32>;

/// The question for some of the transactions and one level.
pub(super) struct Problem<'a> {
    txns: &'a [RegisterTxn],
    level: Level,
    /// The transactions in question, as indices into `txns`.
    pub present: Vec<u32>,
    /// By place in `present`: may it be absent?
    maybe: Vec<bool>,
    nodes: u32,
    pub known: Vec<Edge>,
    /// After [`decide`](Self::decide): whoever had a part in a conflict, by index.
    pub suspects: BTreeSet<u32>,
    /// Edges that hold if a transaction (a place in `present`) happened.
    conditional: Vec<(u32, Edge)>,
    pub open_reads: Vec<OpenRead>,
    /// Who writes a key, ascending by invocation.
    writers: BTreeMap<KeyId, Vec<u32>>,
    /// Who certainly reads a writer's version of a key.
    readers: BTreeMap<(KeyId, u32), Vec<u32>>,
    /// Pairs `(i, j)` of writers of a key of which `j` read from `i`.
    follows: BTreeSet<(KeyId, u32, u32)>,
    /// The known part of a key's version order.
    chains: BTreeMap<KeyId, Vec<u32>>,
    /// Where in its key's chain a writer is.
    ranks: BTreeMap<(KeyId, u32), u32>,
    /// The stage that decided, and the solver's effort.
    pub stage: Stage,
    pub effort: solver::Effort,
}

/// What conflicts taught about the orders of versions.
struct Learnt {
    /// Certain orders that were open before.
    forced: BTreeSet<Pair>,
    /// Orders that either way are possible for all that is known; the lower place is the first.
    open: BTreeSet<Pair>,
    /// The edges that hold: what was known, then those of the forced orders.
    certain: Vec<Edge>,
    /// The conflicts that forced an order, with the number of certain edges before it.
    proofs: Vec<(usize, Conflict)>,
}

impl Learnt {
    fn new(known: &[Edge]) -> Self {
        Learnt {
            forced: BTreeSet::new(),
            open: BTreeSet::new(),
            certain: known.to_vec(),
            proofs: Vec::new(),
        }
    }

    fn learn(&mut self, conflicts: Vec<Conflict>, edges: impl Fn(Pair) -> Vec<Edge>) {
        for conflict in conflicts {
            match conflict.not_all[..] {
                [wrong] if !conflict.assumed => {
                    self.open.remove(&wrong.one_way());
                    if self.forced.insert(wrong.swapped()) {
                        self.proofs.push((self.certain.len(), conflict));
                        self.certain.extend(edges(wrong.swapped()));
                    }
                }
                _ => {
                    let pairs = conflict.not_all.iter().map(|pair| pair.one_way());
                    let decided = |pair: &Pair| {
                        self.forced.contains(pair) || self.forced.contains(&pair.swapped())
                    };
                    self.open
                        .extend(pairs.filter(|pair| !decided(pair)).collect::<Vec<_>>());
                }
            }
        }
    }

    /// Why a certain edge holds, if it was not known before.
    fn reason(&self, index: usize) -> Option<&Conflict> {
        let after = self.proofs.partition_point(|&(start, _)| start <= index);
        Some(&self.proofs.get(after.checked_sub(1)?)?.1)
    }
}

/// More open pairs than this exceed any budget: they would not fit in memory comfortably.
const PAIRS_MAX: usize = 4_000_000;
/// Propagation keeps a bit for each pair of nodes that may lie on a cycle; beyond, the search does all.
const CLOSURE_NODES_MAX: usize = 8_192;
/// A shortest cycle is looked for from so many of its component's nodes.
const CYCLE_STARTS_MAX: usize = 256;

impl<'a> Problem<'a> {
    /// The question whether `members` (ascending indices into the transactions) satisfy the level. A read whose possible
    /// sources are not all members says nothing: so a part of a possible history is possible.
    pub fn new(facts: &'a Facts, members: &[u32], level: Level, fixed: &Fixed) -> Self {
        let txns = &facts.txns[..];
        let (present, maybe) = happened(txns, members, fixed);
        let mut problem = Problem {
            txns,
            level,
            nodes: present.len() as u32 * if level.snapshot { 2 } else { 1 },
            present,
            maybe,
            known: Vec::new(),
            conditional: Vec::new(),
            suspects: BTreeSet::new(),
            open_reads: Vec::new(),
            writers: BTreeMap::new(),
            readers: BTreeMap::new(),
            follows: BTreeSet::new(),
            chains: BTreeMap::new(),
            ranks: BTreeMap::new(),
            stage: Stage::Inference,
            effort: solver::Effort::default(),
        };
        problem.index_writers();
        problem.index_chains(&facts.chains);
        problem.order_in_time();
        problem.infer_from_reads(members, fixed);
        problem.infer_version_orders();
        problem
    }

    fn txn(&self, place: u32) -> &'a RegisterTxn {
        &self.txns[self.present[place as usize] as usize]
    }

    fn places(&self) -> std::ops::Range<u32> {
        0..self.present.len() as u32
    }

    /// The node of a transaction's snapshot.
    fn begin(&self, place: u32) -> u32 {
        if self.level.snapshot {
            2 * place
        } else {
            place
        }
    }

    /// The node of a transaction's commit.
    fn commit(&self, place: u32) -> u32 {
        if self.level.snapshot {
            2 * place + 1
        } else {
            place
        }
    }

    /// The transaction that a node belongs to, as an index; `None` for a barrier.
    pub fn owner(&self, node: u32) -> Option<u32> {
        let place = if self.level.snapshot { node / 2 } else { node };
        self.present.get(place as usize).copied()
    }

    /// Whether it is open if the transaction in this place happened.
    pub fn may_be_absent(&self, place: u32) -> bool {
        self.maybe[place as usize]
    }

    /// Where a transaction's read of a key certainly comes from; both are indices.
    pub fn source(&self, reader: u32, key: KeyId) -> Option<u32> {
        let place = self.present.binary_search(&reader).ok()? as u32;
        let mut sources = self
            .readers
            .iter()
            .filter(|((k, _), readers)| *k == key && readers.contains(&place));
        sources
            .next()
            .map(|(&(_, writer), _)| self.present[writer as usize])
    }

    fn dependency(&self, from: u32, to: u32, why: Why) -> Edge {
        Edge {
            from: self.commit(from),
            to: self.begin(to),
            why,
        }
    }

    /// The reader's version is older than the writer's. Where both write the key under snapshot isolation, the
    /// reader also committed before the writer's snapshot: after the writer's commit it could not have read
    /// so old a version, and beside it first-committer-wins forbids.
    fn anti_dependency(&self, reader: u32, writer: u32, key: KeyId) -> Edge {
        let why = Why::ReadWrite(key);
        if self.txn(reader).written(key).is_some() {
            return self.dependency(reader, writer, why);
        }
        Edge {
            from: self.begin(reader),
            to: self.commit(writer),
            why,
        }
    }

    /// The edges that hold if `pair.first` wrote the key before `pair.second`.
    pub fn edges(&self, pair: Pair) -> Vec<Edge> {
        let ww = self.dependency(pair.first, pair.second, Why::WriteWrite(pair.key));
        let readers = self
            .readers
            .get(&(pair.key, pair.first))
            .map_or(&[][..], Vec::as_slice);
        let overtaken = readers.iter().filter(|&&reader| reader != pair.second);
        let rw = overtaken.map(|&reader| self.anti_dependency(reader, pair.second, pair.key));
        std::iter::once(ww).chain(rw).collect()
    }

    fn index_writers(&mut self) {
        for place in self.places() {
            for &(key, _) in &self.txn(place).writes {
                self.writers.entry(key).or_default().push(place);
            }
        }
        let (txns, present) = (self.txns, &self.present);
        for writers in self.writers.values_mut() {
            writers.sort_by_key(|&place| (txns[present[place as usize] as usize].invoke, place));
        }
    }

    fn index_chains(&mut self, chains: &Chains) {
        for (&key, chain) in chains {
            let places = chain
                .iter()
                .filter_map(|index| self.present.binary_search(index).ok());
            let places: Vec<u32> = places.map(|place| place as u32).collect();
            for (rank, &place) in places.iter().enumerate() {
                self.ranks.insert((key, place), rank as u32);
            }
            self.chains.insert(key, places);
        }
    }

    /// Whether the known part of the version order puts one before the other.
    fn outranks(&self, key: KeyId, first: u32, second: u32) -> bool {
        match (
            self.ranks.get(&(key, first)),
            self.ranks.get(&(key, second)),
        ) {
            (Some(first), Some(second)) => first < second,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Whether the known part of the version order puts one before the other; both are indices.
    pub fn shown_older(&self, key: KeyId, first: u32, second: u32) -> bool {
        let place = |index| {
            self.present
                .binary_search(&index)
                .ok()
                .map(|place| place as u32)
        };
        match (place(first), place(second)) {
            (Some(first), Some(second)) => self.outranks(key, first, second),
            _ => false,
        }
    }

    /// Whether an index's version is in the known part of the version order.
    pub fn is_ranked(&self, key: KeyId, index: u32) -> bool {
        let place = self.present.binary_search(&index);
        place.is_ok_and(|place| self.ranks.contains_key(&(key, place as u32)))
    }

    /// Whether time alone puts one before the other.
    fn precedes(&self, a: u32, b: u32) -> bool {
        let (a, b) = (self.txn(a), self.txn(b));
        let completed = a.complete < b.invoke;
        match self.level.order {
            TimeOrder::Free => false,
            TimeOrder::Session => completed && a.process == b.process,
            TimeOrder::Realtime => completed,
        }
    }

    /// Splits places into those that time compares with one another.
    fn time_groups(&self, places: &[u32]) -> Vec<Vec<u32>> {
        match self.level.order {
            TimeOrder::Free => Vec::new(),
            TimeOrder::Realtime => vec![places.to_vec()],
            TimeOrder::Session => {
                let mut groups = BTreeMap::<u64, Vec<u32>>::new();
                for &place in places {
                    groups
                        .entry(self.txn(place).process)
                        .or_default()
                        .push(place);
                }
                groups.into_values().collect()
            }
        }
    }

    fn order_in_time(&mut self) {
        if self.level.snapshot {
            for place in self.places() {
                let edge = Edge {
                    from: self.begin(place),
                    to: self.commit(place),
                    why: Why::Within,
                };
                self.known.push(edge);
            }
        }
        let all: Vec<u32> = self.places().collect();
        for group in self.time_groups(&all) {
            self.add_barriers(group);
        }
    }

    /// Orders whatever completed before a barrier before whatever was invoked after it.
    fn add_barriers(&mut self, mut starts: Vec<u32>) {
        let mut ends = starts.clone();
        starts.sort_by_key(|&place| self.txn(place).invoke);
        ends.sort_by_key(|&place| self.txn(place).complete);
        let mut ends = ends.into_iter().peekable();
        let mut barrier = None;
        for start in starts {
            let invoke = self.txn(start).invoke;
            if ends
                .peek()
                .is_some_and(|&end| self.txn(end).complete < invoke)
            {
                let next = self.nodes;
                self.nodes += 1;
                if let Some(last) = barrier {
                    self.known.push(Edge {
                        from: last,
                        to: next,
                        why: Why::Time,
                    });
                }
                while let Some(&end) = ends.peek().filter(|&&end| self.txn(end).complete < invoke) {
                    ends.next();
                    self.known.push(Edge {
                        from: self.commit(end),
                        to: next,
                        why: Why::Time,
                    });
                }
                barrier = Some(next);
            }
            if let Some(from) = barrier {
                self.known.push(Edge {
                    from,
                    to: self.begin(start),
                    why: Why::Time,
                });
            }
        }
    }

    fn infer_from_reads(&mut self, members: &[u32], fixed: &Fixed) {
        for reader in self.places() {
            for read in &self.txn(reader).reads {
                let Some(sources) =
                    usable_sources(read, self.present[reader as usize], members, fixed)
                else {
                    continue;
                };
                let place = |index: u32| {
                    self.present
                        .binary_search(&index)
                        .expect("sources are present")
                };
                let sources: Vec<Option<u32>> = match read.value {
                    None => vec![None],
                    Some(_) => sources
                        .iter()
                        .map(|&index| Some(place(index) as u32))
                        .collect(),
                };
                if self.maybe[reader as usize] || sources.len() > 1 {
                    self.open_reads.push(OpenRead {
                        reader,
                        key: read.key,
                        sources,
                    });
                } else if let [Some(writer)] = sources[..] {
                    self.known
                        .push(self.dependency(writer, reader, Why::WriteRead(read.key)));
                    self.readers
                        .entry((read.key, writer))
                        .or_default()
                        .push(reader);
                    if self.txn(reader).written(read.key).is_some() {
                        self.follows.insert((read.key, writer, reader));
                    }
                } else {
                    self.read_initial(reader, read.key);
                }
            }
        }
    }

    /// The reader comes before each writer of the key: it suffices to say so of those that have no writer
    /// before them in time.
    fn read_initial(&mut self, reader: u32, key: KeyId) {
        let writers = self.writers.get(&key).cloned().unwrap_or_default();
        let next = match (self.chains.get(&key), self.level.order) {
            // The second, in case that the reader is the first.
            (Some(chain), _) if chain.len() > 1 => chain[..2].to_vec(),
            (_, TimeOrder::Realtime) => self.frontier(&writers, 0),
            _ => writers,
        };
        for writer in next.into_iter().filter(|&writer| writer != reader) {
            self.add_conditional(writer, self.anti_dependency(reader, writer, key));
        }
    }

    /// Adds an edge that holds if the transaction happened.
    fn add_conditional(&mut self, place: u32, edge: Edge) {
        if self.maybe[place as usize] {
            self.conditional.push((place, edge));
        } else {
            self.known.push(edge);
        }
    }

    /// Of writers sorted by invocation, from an index on: those that follow none of these in time.
    fn frontier(&self, writers: &[u32], from: usize) -> Vec<u32> {
        let mut earliest_complete = NEVER;
        let mut found = Vec::new();
        for &writer in &writers[from..] {
            let txn = self.txn(writer);
            if txn.invoke > earliest_complete {
                break;
            }
            earliest_complete = earliest_complete.min(txn.complete);
            found.push(writer);
        }
        found
    }

    /// Where two versions' order is certain, readers of the first precede the writer of the second.
    fn infer_version_orders(&mut self) {
        let mut ordered = self.follows.clone();
        for &key in self.writers.keys() {
            for group in self.time_groups(&self.unranked(key)) {
                for &writer in &group {
                    let complete = self.txn(writer).complete;
                    let later = group.partition_point(|&other| self.txn(other).invoke <= complete);
                    let next = self.frontier(&group, later);
                    ordered.extend(next.into_iter().map(|other| (key, writer, other)));
                }
            }
        }
        for (&key, chain) in &self.chains {
            ordered.extend(chain.windows(2).map(|pair| (key, pair[0], pair[1])));
            let Some(&last) = chain.last() else { continue };
            ordered.extend(
                self.unranked(key)
                    .into_iter()
                    .map(|writer| (key, last, writer)),
            );
        }
        for (key, first, second) in ordered {
            for edge in self.edges(Pair { key, first, second }) {
                self.add_conditional(second, edge);
            }
        }
    }

    /// The writers of a key outside of its chain, which orders all others and comes before them.
    fn unranked(&self, key: KeyId) -> Vec<u32> {
        let writers = self.writers.get(&key).into_iter().flatten().copied();
        writers
            .filter(|writer| !self.ranks.contains_key(&(key, *writer)))
            .collect()
    }

    /// The pairs of writers whose order is open; `None` if there are too many.
    pub fn pairs(&self) -> Option<Vec<Pair>> {
        let mut pairs = Vec::new();
        for &key in self.writers.keys() {
            let writers = self.unranked(key);
            for (at, &first) in writers.iter().enumerate() {
                for &second in &writers[at + 1..] {
                    if self.precedes(first, second) {
                        if self.level.order == TimeOrder::Realtime {
                            break; // Writers come by invocation: all others follow in time too.
                        }
                        continue;
                    }
                    let known = self.follows.contains(&(key, first, second))
                        || self.follows.contains(&(key, second, first));
                    if !known {
                        pairs.push(Pair { key, first, second });
                    }
                }
                if pairs.len() > PAIRS_MAX {
                    return None;
                }
            }
        }
        Some(pairs)
    }

    /// Decides, within a budget in steps.
    pub fn decide(&mut self, steps_max: u64) -> Decision {
        self.stage = Stage::Inference;
        let Some(sorted) = topological_order(self.nodes, &self.known) else {
            return Decision::Impossible;
        };
        if self.open_reads.is_empty() {
            return self.decide_lazily(sorted, steps_max);
        }
        let Some(pairs) = self.pairs() else {
            return Decision::Exceeded;
        };
        let core = self.cyclic_core(&self.potential_edges(&pairs));
        self.stage = Stage::Propagation;
        let Some((forced, open)) = self.propagate(&core, pairs) else {
            return Decision::Impossible;
        };
        self.stage = Stage::Search;
        let mut encoding = Encoding::new(self, &core, &forced, &open);
        encoding.add_open_reads();
        let outcome = encoding.solver.solve(steps_max);
        let chosen = encoding.chosen();
        self.effort = encoding.solver.effort();
        match outcome {
            Outcome::BudgetExceeded => Decision::Exceeded,
            Outcome::Unsatisfiable => Decision::Impossible,
            Outcome::Satisfiable => {
                let forced = forced.iter().flat_map(|&pair| self.edges(pair));
                let edges = self.known.iter().copied().chain(chosen.edges).chain(forced);
                let order = topological_order(self.nodes, &edges.collect::<Vec<_>>());
                self.witness(order.expect("the chosen edges are acyclic"), &chosen.absent)
            }
        }
    }

    /// Decides where each read has one source. A key with many writers has far too many pairs of them to look at,
    /// and few matter: those that stood in the way of a guess. An order of these alone that does not exist
    /// proves that there is none of all; one that does is the next guess, and holds or brings other pairs in.
    fn decide_lazily(&mut self, mut sorted: Vec<u32>, steps_max: u64) -> Decision {
        self.stage = Stage::Schedule;
        let mut learnt = Learnt::new(&self.known);
        let mut assumed = Vec::new();
        loop {
            let order = schedule::Order {
                certain: &learnt.certain,
                assumed: &assumed,
            };
            let conflicts = match schedule::schedule(self, order, &sorted) {
                Ok(nodes) => return self.witness(nodes, &BTreeSet::new()),
                Err(conflicts) => conflicts,
            };
            self.effort.steps += u64::from(self.nodes);
            self.effort.conflicts += conflicts.len() as u64;
            self.stage = self.stage.max(Stage::Propagation);
            learnt.learn(conflicts, |pair| self.edges(pair));
            if topological_order(self.nodes, &learnt.certain).is_none() {
                let cycle = self.shortest_cycle(&learnt.certain);
                self.suspects = self.involved(&learnt, cycle.unwrap_or_default());
                return Decision::Impossible;
            }
            if self.effort.steps > steps_max {
                return Decision::Exceeded;
            }
            assumed.clear();
            if !learnt.open.is_empty() {
                self.stage = Stage::Search;
                match self.order_pairs(&learnt, steps_max) {
                    Ok(edges) => assumed = edges,
                    Err(decision) => return decision,
                }
            }
            let all: Vec<Edge> = learnt.certain.iter().chain(&assumed).copied().collect();
            let acyclic = topological_order(self.nodes, &all);
            sorted = acyclic.expect("the solver chose no cycle");
        }
    }

    /// Who has a part in the edges: the transactions, by index, on them, on the circles that made them certain, and
    /// that wrote what was read there.
    fn involved(&self, learnt: &Learnt, mut edges: Vec<Edge>) -> BTreeSet<u32> {
        let mut places = BTreeMap::new();
        for (index, edge) in learnt.certain.iter().enumerate().rev() {
            places.insert((edge.from, edge.to), index);
        }
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        while let Some(edge) = edges.pop() {
            if !seen.insert((edge.from, edge.to)) {
                continue;
            }
            found.extend([edge.from, edge.to].map(|node| self.owner(node)));
            if let (Why::ReadWrite(key), Some(reader)) = (edge.why, self.owner(edge.from)) {
                let mut reads = self.txns[reader as usize].reads.iter();
                let sources = reads.find(|read| read.key == key).map(|read| &read.sources);
                found.extend(sources.into_iter().flatten().map(|&source| Some(source)));
            }
            let place = places.get(&(edge.from, edge.to));
            let Some(conflict) = place.and_then(|&place| learnt.reason(place)) else {
                continue;
            };
            found.extend(conflict.nodes.iter().map(|&node| self.owner(node)));
            let writers = conflict
                .not_all
                .iter()
                .flat_map(|pair| [pair.first, pair.second]);
            found.extend(writers.map(|place| Some(self.present[place as usize])));
            edges.extend(
                conflict
                    .certain
                    .iter()
                    .map(|&index| learnt.certain[index as usize]),
            );
        }
        found.into_iter().flatten().collect()
    }

    /// The edges of some order of the pairs that are open, whatever becomes of all others.
    fn order_pairs(&mut self, learnt: &Learnt, steps_max: u64) -> Result<Vec<Edge>, Decision> {
        let open: Vec<Pair> = learnt.open.iter().copied().collect();
        let forced: Vec<Pair> = learnt.forced.iter().copied().collect();
        let mut potential = learnt.certain.clone();
        potential.extend(self.edges_either_way(&open));
        let core = self.cyclic_core(&potential);
        let mut encoding = Encoding::new(self, &core, &forced, &open);
        let outcome = encoding.solver.solve(steps_max - self.effort.steps);
        let (chosen, on_cycles) = (encoding.chosen().edges, encoding.edges_on_cycles());
        let effort = encoding.solver.effort();
        self.effort.steps += effort.steps;
        self.effort.decisions += effort.decisions;
        self.effort.conflicts += effort.conflicts;
        match outcome {
            Outcome::BudgetExceeded => Err(Decision::Exceeded),
            Outcome::Unsatisfiable => {
                self.suspects = self.involved(learnt, on_cycles);
                Err(Decision::Impossible)
            }
            Outcome::Satisfiable => Ok(chosen),
        }
    }

    /// Whatever holds if the pairs are ordered one way or the other.
    fn edges_either_way(&self, pairs: &[Pair]) -> impl Iterator<Item = Edge> {
        let both = pairs.iter().flat_map(|&pair| [pair, pair.swapped()]);
        both.flat_map(|pair| self.edges(pair))
    }

    /// All edges that may hold.
    fn potential_edges(&self, pairs: &[Pair]) -> Vec<Edge> {
        let mut edges = self.known.clone();
        edges.extend(self.conditional.iter().map(|&(_, edge)| edge));
        edges.extend(self.edges_either_way(pairs));
        for read in &self.open_reads {
            for source in read.sources.iter().flatten() {
                edges.push(self.dependency(*source, read.reader, Why::WriteRead(read.key)));
            }
            for &writer in self.writers.get(&read.key).into_iter().flatten() {
                edges.push(self.anti_dependency(read.reader, writer, read.key));
            }
        }
        edges
    }

    /// Numbers the nodes that may lie on a cycle.
    fn cyclic_core(&self, potential: &[Edge]) -> CyclicCore {
        let component = components(self.nodes, potential.iter().map(Edge::ends));
        let mut sizes = vec![0u32; self.nodes as usize];
        component.iter().for_each(|&c| sizes[c as usize] += 1);
        let mut number = vec![u32::MAX; self.nodes as usize];
        let mut count = 0;
        for node in 0..self.nodes as usize {
            if sizes[component[node] as usize] > 1 {
                number[node] = count;
                count += 1;
            }
        }
        CyclicCore {
            component,
            number,
            count,
        }
    }

    /// Discards choices that would close a cycle until nothing changes: what is forced and what is open, or
    /// `None` for a contradiction.
    fn propagate(&self, core: &CyclicCore, pairs: Vec<Pair>) -> Option<(Vec<Pair>, Vec<Pair>)> {
        let (maybe, mut open): (Vec<Pair>, Vec<Pair>) = pairs
            .into_iter()
            .partition(|pair| self.maybe[pair.first as usize] || self.maybe[pair.second as usize]);
        let mut forced = Vec::new();
        let mut edges: Vec<Edge> = self
            .known
            .iter()
            .filter_map(|&edge| core.inside(edge))
            .collect();
        if core.count as usize > CLOSURE_NODES_MAX {
            open.extend(maybe);
            return Some((forced, open));
        }
        loop {
            let reach = Closure::new(core.count, &edges)?;
            let before = open.len();
            let mut undecided = Vec::new();
            for pair in open {
                let closes = |pair| {
                    self.edges(pair)
                        .into_iter()
                        .any(|edge| core.closes(edge, &reach))
                };
                let order = match (closes(pair), closes(pair.swapped())) {
                    (true, true) => return None,
                    (false, false) => {
                        undecided.push(pair);
                        continue;
                    }
                    (false, true) => pair,
                    (true, false) => pair.swapped(),
                };
                edges.extend(
                    self.edges(order)
                        .into_iter()
                        .filter_map(|edge| core.inside(edge)),
                );
                forced.push(order);
            }
            open = undecided;
            if open.len() == before {
                break;
            }
        }
        open.extend(maybe);
        Some((forced, open))
    }

    /// The order as events, which are replayed before anybody sees them.
    fn witness(&self, order: Vec<u32>, absent: &BTreeSet<u32>) -> Decision {
        let stride = if self.level.snapshot { 2 } else { 1 };
        let events: Vec<Event> = order
            .into_iter()
            .filter(|&node| {
                node < self.present.len() as u32 * stride && !absent.contains(&(node / stride))
            })
            .map(|node| {
                let index = self.present[(node / stride) as usize];
                if self.level.snapshot && node % 2 == 0 {
                    Event::Begin(index)
                } else {
                    Event::Commit(index)
                }
            })
            .collect();
        let explained = replay(self.txns, &self.present, self.level, &events);
        assert!(explained, "a witness that does not explain the history");
        Decision::Possible(events)
    }

    /// A cheapest cycle among the edges: fewest transactions, then fewest anti-dependencies.
    pub fn shortest_cycle(&self, edges: &[Edge]) -> Option<Vec<Edge>> {
        let component = components(self.nodes, edges.iter().map(Edge::ends));
        let mut out = vec![Vec::new(); self.nodes as usize];
        for edge in edges {
            if component[edge.from as usize] == component[edge.to as usize] {
                out[edge.from as usize].push(*edge);
            }
        }
        let starts = (0..self.nodes)
            .filter(|&node| !out[node as usize].is_empty() && self.owner(node).is_some());
        let mut best: Option<(u64, Vec<Edge>)> = None;
        for start in starts.take(CYCLE_STARTS_MAX) {
            let bound = best.as_ref().map_or(u64::MAX, |(cost, _)| *cost);
            if let Some(found) = self.cycle_through(start, &out, bound) {
                best = Some(found);
            }
        }
        best.map(|(_, cycle)| cycle)
    }

    /// What an edge adds to a cycle's cost: barriers cost once, on entry.
    fn cost(&self, edge: Edge) -> u64 {
        match edge.why {
            Why::Within => 0,
            Why::Time if self.owner(edge.from).is_none() => 0,
            Why::ReadWrite(_) => 1_001,
            Why::Time | Why::WriteWrite(_) | Why::WriteRead(_) => 1_000,
        }
    }

    /// The cheapest cycle through a node, if it is cheaper than the bound (Dijkstra).
    fn cycle_through(&self, start: u32, out: &[Vec<Edge>], bound: u64) -> Option<(u64, Vec<Edge>)> {
        let mut costs = BTreeMap::<u32, (u64, Edge)>::new();
        let mut heap = BinaryHeap::from([std::cmp::Reverse((0u64, start))]);
        while let Some(std::cmp::Reverse((cost, node))) = heap.pop() {
            let arrived = costs.get(&node).map(|&(known, _)| known);
            if node == start && arrived.is_some_and(|known| known == cost) {
                return Some((cost, trace_back(start, &costs)));
            }
            if node != start && arrived.is_some_and(|known| known < cost) {
                continue;
            }
            for &edge in &out[node as usize] {
                let total = cost + self.cost(edge);
                let better = costs.get(&edge.to).is_none_or(|&(known, _)| total < known);
                if total < bound && better {
                    costs.insert(edge.to, (total, edge));
                    heap.push(std::cmp::Reverse((total, edge.to)));
                }
            }
        }
        None
    }
}

fn trace_back(start: u32, costs: &BTreeMap<u32, (u64, Edge)>) -> Vec<Edge> {
    let mut cycle = vec![costs[&start].1];
    while cycle[cycle.len() - 1].from != start {
        cycle.push(costs[&cycle[cycle.len() - 1].from].1);
    }
    cycle.reverse();
    cycle
}

/// The members that happened, and those that may have: certain ones, and whatever these may have read
/// from. An indeterminate transaction whose value can only come from it happened.
pub(super) fn happened(
    txns: &[RegisterTxn],
    members: &[u32],
    fixed: &Fixed,
) -> (Vec<u32>, Vec<bool>) {
    let mut certain = BTreeSet::new();
    let mut work: Vec<u32> = members
        .iter()
        .copied()
        .filter(|&index| {
            let txn = &txns[index as usize];
            txn.certain || txn.seen
        })
        .collect();
    while let Some(index) = work.pop() {
        if certain.insert(index) {
            for read in &txns[index as usize].reads {
                if let Some([source]) = usable_sources(read, index, members, fixed) {
                    work.push(*source);
                }
            }
        }
    }
    let mut possible = BTreeSet::new();
    let mut work: Vec<u32> = certain.iter().copied().collect();
    while let Some(index) = work.pop() {
        if possible.insert(index) {
            for read in &txns[index as usize].reads {
                work.extend(
                    usable_sources(read, index, members, fixed)
                        .into_iter()
                        .flatten(),
                );
            }
        }
    }
    let maybe = possible
        .iter()
        .map(|index| !certain.contains(index))
        .collect();
    (possible.into_iter().collect(), maybe)
}

/// Where a read may come from, or `None` if one of the possible sources is no member.
fn usable_sources<'a>(
    read: &'a Read,
    reader: u32,
    members: &[u32],
    fixed: &'a Fixed,
) -> Option<&'a [u32]> {
    let known = read
        .sources
        .iter()
        .all(|source| members.binary_search(source).is_ok());
    let sources = match fixed.get(&(reader, read.key)) {
        Some(source) => std::slice::from_ref(source),
        None => &read.sources,
    };
    known.then_some(sources)
}

/// Executes the events: whether reads return what the state (or the snapshot) holds, snapshots are not
/// overtaken, and time is respected. Reads whose sources are not all members are not looked at.
fn replay(txns: &[RegisterTxn], members: &[u32], level: Level, events: &[Event]) -> bool {
    let mut state = BTreeMap::<KeyId, (u64, u32)>::new();
    let mut snapshots = BTreeMap::<u32, Vec<Option<u32>>>::new();
    let writers_seen =
        |state: &BTreeMap<KeyId, (u64, u32)>, txn: &RegisterTxn| -> Vec<Option<u32>> {
            txn.writes
                .iter()
                .map(|(key, _)| state.get(key).map(|&(_, writer)| writer))
                .collect()
        };
    let reads_hold = |state: &BTreeMap<KeyId, (u64, u32)>, txn: &RegisterTxn| {
        txn.reads.iter().all(|read| {
            let blind = read
                .sources
                .iter()
                .any(|source| members.binary_search(source).is_err());
            blind || state.get(&read.key).map(|&(value, _)| value) == read.value
        })
    };
    let mut latest_invoke = BTreeMap::<u64, u64>::new();
    for &event in events {
        let (Event::Begin(index) | Event::Commit(index)) = event;
        let txn = &txns[index as usize];
        let session = if level.order == TimeOrder::Realtime {
            0
        } else {
            txn.process
        };
        let latest = latest_invoke.entry(session).or_default();
        if level.order != TimeOrder::Free && txn.complete < *latest {
            return false;
        }
        *latest = txn.invoke.max(*latest);
        let reads_now = matches!(event, Event::Begin(_)) || !level.snapshot;
        if reads_now && !reads_hold(&state, txn) {
            return false;
        }
        match event {
            Event::Begin(_) => {
                snapshots.insert(index, writers_seen(&state, txn));
            }
            Event::Commit(_) => {
                if level.snapshot && snapshots.remove(&index) != Some(writers_seen(&state, txn)) {
                    return false;
                }
                state.extend(txn.writes.iter().map(|&(key, value)| (key, (value, index))));
            }
        }
    }
    true
}

/// The nodes that may lie on a cycle.
struct CyclicCore {
    /// By node: its strongly connected component.
    component: Vec<u32>,
    /// By node: its number among those that may lie on a cycle.
    number: Vec<u32>,
    count: u32,
}

impl CyclicCore {
    /// The edge between numbers, if it may lie on a cycle.
    fn inside(&self, edge: Edge) -> Option<Edge> {
        let (from, to) = (edge.from as usize, edge.to as usize);
        let inside = self.component[from] == self.component[to] && self.number[from] != u32::MAX;
        inside.then(|| Edge {
            from: self.number[from],
            to: self.number[to],
            why: edge.why,
        })
    }

    /// Whether the edge would close a cycle.
    fn closes(&self, edge: Edge, reach: &Closure) -> bool {
        edge.from == edge.to
            || self
                .inside(edge)
                .is_some_and(|edge| reach.reaches(edge.to, edge.from))
    }
}

/// Which nodes reach which, as one bit each.
struct Closure {
    words: usize,
    bits: Vec<u64>,
}

impl Closure {
    /// The closure of the edges; `None` if they are cyclic.
    fn new(nodes: u32, edges: &[Edge]) -> Option<Self> {
        let order = topological_order(nodes, edges)?;
        let words = (nodes as usize).div_ceil(64);
        let mut out = vec![Vec::new(); nodes as usize];
        edges
            .iter()
            .for_each(|edge| out[edge.from as usize].push(edge.to));
        let mut bits = vec![0; words * nodes as usize];
        for node in order.into_iter().rev() {
            let row = node as usize * words;
            for &to in &out[node as usize] {
                bits[row + to as usize / 64] |= 1 << (to % 64);
                for word in 0..words {
                    bits[row + word] |= bits[to as usize * words + word];
                }
            }
        }
        Some(Closure { words, bits })
    }

    fn reaches(&self, from: u32, to: u32) -> bool {
        self.bits[from as usize * self.words + to as usize / 64] >> (to % 64) & 1 == 1
    }
}

/// A topological order, or `None` if there is a cycle.
fn topological_order(nodes: u32, edges: &[Edge]) -> Option<Vec<u32>> {
    let mut missing = vec![0u32; nodes as usize];
    let mut out = vec![Vec::new(); nodes as usize];
    for edge in edges {
        missing[edge.to as usize] += 1;
        out[edge.from as usize].push(edge.to);
    }
    let mut ready: Vec<u32> = (0..nodes)
        .rev()
        .filter(|&node| missing[node as usize] == 0)
        .collect();
    let mut order = Vec::with_capacity(nodes as usize);
    while let Some(node) = ready.pop() {
        order.push(node);
        for &to in &out[node as usize] {
            missing[to as usize] -= 1;
            if missing[to as usize] == 0 {
                ready.push(to);
            }
        }
    }
    (order.len() == nodes as usize).then_some(order)
}

/// By node: the number of its strongly connected component (Tarjan 1972, without recursion).
pub(super) fn components(nodes: u32, edges: impl Iterator<Item = (u32, u32)>) -> Vec<u32> {
    const NEW: u32 = u32::MAX;
    let count = nodes as usize;
    let mut out = vec![Vec::new(); count];
    edges.for_each(|(from, to)| out[from as usize].push(to));
    let (mut index, mut low) = (vec![NEW; count], vec![0; count]);
    let mut component = vec![NEW; count];
    let (mut stack, mut visited, mut found) = (Vec::new(), 0, 0);
    for root in 0..nodes {
        if index[root as usize] != NEW {
            continue;
        }
        let mut calls = vec![(root, 0usize)];
        while let Some(&mut (node, ref mut next)) = calls.last_mut() {
            let at = node as usize;
            if *next == 0 {
                (index[at], low[at]) = (visited, visited);
                visited += 1;
                stack.push(node);
            }
            if let Some(&to) = out[at].get(*next) {
                *next += 1;
                if index[to as usize] == NEW {
                    calls.push((to, 0));
                } else if component[to as usize] == NEW {
                    low[at] = low[at].min(index[to as usize]);
                }
                continue;
            }
            calls.pop();
            if let Some(&(parent, _)) = calls.last() {
                low[parent as usize] = low[parent as usize].min(low[at]);
            }
            if low[at] == index[at] {
                while let Some(member) = stack.pop() {
                    component[member as usize] = found;
                    if member == node {
                        break;
                    }
                }
                found += 1;
            }
        }
    }
    component
}
