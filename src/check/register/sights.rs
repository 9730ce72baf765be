//! Read atomicity and causal consistency of registers, where every read has one possible source.
//!
//! Of two writers of a key whom a reader sees, the one that it read from is the newer: such demands ([`visibility`]), read
//! dependencies, and what is known of the orders of versions (lists beside the registers, and what was told) hold in some
//! order of the transactions, or they form a cycle, which is shown. That a version and the one which its
//! reader wrote have nothing between them is not among what is known: neither model forbids lost updates.

use std::collections::VecDeque;

use super::super::polygraph::components;
use super::super::visibility::{self, Sight, View, Viewer, Written};
use super::super::{Boundary, Dependency, Step};
use super::*;

/// What one of the two models says of a history.
pub(super) enum Sighted {
    /// It allows it.
    Holds,
    /// It does not.
    Fails(Anomaly),
}

/// A shortest cycle is looked for from so many transactions.
const CYCLE_STARTS_MAX: usize = 256;

/// Why one transaction comes before another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// It was read.
    Read(KeyId),
    /// Its version is known to be the older one.
    Order(KeyId),
    /// This transaction sees both and read from the other.
    Sight(u32, KeyId),
}

/// Between two transactions, by their places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Edge {
    from: u32,
    to: u32,
    why: Why,
}

/// The transactions that happened, and whom each read from.
pub(super) struct Question<'a> {
    history: &'a History,
    facts: &'a Facts,
    /// Ascending indices of the facts.
    present: Vec<u32>,
    viewers: Vec<Viewer>,
    /// Read dependencies, and known orders of versions.
    known: Vec<Edge>,
}

impl<'a> Question<'a> {
    /// None if some read has several possible sources.
    pub fn of(history: &'a History, facts: &'a Facts, members: &[u32]) -> Option<Self> {
        let (present, maybe) = happened(&facts.txns, members, &Fixed::new());
        let mut reads = present
            .iter()
            .flat_map(|&at| &facts.txns[at as usize].reads);
        if maybe.contains(&true) || reads.any(|read| read.sources.len() > 1) {
            return None;
        }
        let mut question = Question {
            history,
            facts,
            present,
            viewers: Vec::new(),
            known: Vec::new(),
        };
        let viewers = question.present.iter().map(|&at| question.viewer(at));
        question.viewers = viewers.collect();
        question.add_reads();
        question.add_orders();
        Some(question)
    }

    fn place(&self, index: u32) -> Option<u32> {
        let at = self.present.binary_search(&index);
        at.ok().map(|at| at as u32)
    }

    fn viewer(&self, index: u32) -> Viewer {
        let txn = &self.facts.txns[index as usize];
        let reads = txn.reads.iter().map(|read| View {
            key: read.key,
            source: read.sources.first().and_then(|&source| self.place(source)),
            later: 0,
        });
        let writes = txn.writes.iter().map(|&(key, _)| Written { key, rank: 0 });
        let (mut reads, mut writes): (Vec<View>, Vec<Written>) =
            (reads.collect(), writes.collect());
        reads.sort_unstable_by_key(|read| read.key);
        writes.sort_unstable();
        Viewer { reads, writes }
    }

    fn add_reads(&mut self) {
        for (reader, viewer) in (0u32..).zip(&self.viewers) {
            let edges = viewer.reads.iter().filter_map(|read| {
                Some(Edge {
                    from: read.source?,
                    to: reader,
                    why: Why::Read(read.key),
                })
            });
            self.known.extend(edges);
        }
    }

    /// Orders of versions that reads of lists show, or that were told: each before the next, and the last before all whose
    /// versions nobody saw.
    fn add_orders(&mut self) {
        let is_shown =
            |key: &KeyId| self.facts.chains.contains_key(key) && !self.facts.derived.contains(key);
        let mut writers = BTreeMap::<KeyId, Vec<u32>>::new();
        for (at, viewer) in (0u32..).zip(&self.viewers) {
            for write in viewer.writes.iter().filter(|write| is_shown(&write.key)) {
                writers.entry(write.key).or_default().push(at);
            }
        }
        for (key, writers) in writers {
            let chain = self.facts.chains.get(&key).into_iter().flatten();
            let chain: Vec<u32> = chain.filter_map(|&index| self.place(index)).collect();
            let Some(&last) = chain.last() else { continue };
            let seen: BTreeSet<u32> = chain.iter().copied().collect();
            let unseen = writers.into_iter().filter(|at| !seen.contains(at));
            let unseen: Vec<(u32, u32)> = unseen.map(|at| (last, at)).collect();
            let pairs = chain.windows(2).map(|pair| (pair[0], pair[1]));
            for (from, to) in pairs.chain(unseen).filter(|(from, to)| from != to) {
                let why = Why::Order(key);
                self.known.push(Edge { from, to, why });
            }
        }
    }

    /// Decides read atomicity; or causal consistency, given that read atomicity holds. None if the budget is spent.
    pub fn judge(&self, model: Model, steps_max: u64) -> Option<Sighted> {
        let mut steps_left = steps_max;
        let mut edges = self.known.clone();
        let mut missed: Option<Sight> = None;
        let tell = |sight: Sight| {
            let read = &self.viewers[sight.reader as usize].reads[sight.read];
            match read.source {
                Some(source) => edges.push(Edge {
                    from: sight.writer,
                    to: source,
                    why: Why::Sight(sight.reader, read.key),
                }),
                None => missed = missed.or(Some(sight)),
            }
        };
        let told = match model {
            Model::ReadAtomicNoSession => visibility::direct(&self.viewers, &mut steps_left, tell),
            _ => visibility::transitive(&self.viewers, &mut steps_left, tell),
        };
        told.ok()?;
        if let Some(sight) = missed {
            return Some(Sighted::Fails(self.initial(model, sight)));
        }
        let cycle = shortest_cycle(self.present.len() as u32, &edges);
        Some(match cycle {
            Some(cycle) => Sighted::Fails(self.cycle(model, &cycle)),
            None => Sighted::Holds,
        })
    }

    fn id(&self, place: u32) -> TxnId {
        self.facts.txns[self.present[place as usize] as usize].id
    }

    fn written(&self, place: u32, key: KeyId) -> u64 {
        let txn = &self.facts.txns[self.present[place as usize] as usize];
        txn.written(key).expect("a writer")
    }

    fn version(&self, place: u32, key: KeyId) -> String {
        let value = self.history.show_value(self.written(place, key));
        format!("{}={value}", self.history.show_key(key))
    }

    /// The transactions through which a reader sees a writer, or the nearest that the goal admits too: that one first, the
    /// reader last.
    fn way(&self, model: Model, sight: (u32, u32), goal: impl Fn(u32) -> bool) -> Vec<u32> {
        let (reader, writer) = sight;
        if model == Model::ReadAtomicNoSession {
            return vec![writer, reader];
        }
        let mut unlimited = u64::MAX;
        let goal = |at| at == writer || goal(at);
        let from = (reader, usize::MAX);
        let way = visibility::shortest_sight(&self.viewers, from, goal, &mut unlimited);
        way.expect("no budget").expect("it was seen")
    }

    /// What the second one read from the first.
    fn read_key(&self, from: u32, to: u32) -> KeyId {
        let mut reads = self.viewers[to as usize].reads.iter();
        let read = reads.find(|read| read.source == Some(from));
        read.expect("a read dependency").key
    }

    fn step(&self, from: u32, to: u32, because: Dependency) -> Step {
        Step {
            from: self.id(from),
            to: self.id(to),
            because,
            ordered_by: None,
        }
    }

    fn read_step(&self, from: u32, to: u32, key: KeyId) -> Step {
        let value = self.written(from, key);
        let key = self.history.show_key(key);
        self.step(from, to, Dependency::WriteRead { key, value })
    }

    /// A reader of the initial version who sees somebody that wrote the key.
    fn initial(&self, model: Model, sight: Sight) -> Anomaly {
        let read = &self.viewers[sight.reader as usize].reads[sight.read];
        // Others who wrote the key may be seen by fewer steps.
        let wrote = |at: u32| self.viewers[at as usize].written(read.key).is_some();
        let way = self.way(model, (sight.reader, sight.writer), wrote);
        let because = Dependency::ReadWrite {
            key: self.history.show_key(read.key),
            read: None,
            written: self.written(way[0], read.key),
        };
        let mut steps = vec![self.step(sight.reader, way[0], because)];
        for pair in way.windows(2) {
            steps.push(self.read_step(pair[0], pair[1], self.read_key(pair[0], pair[1])));
        }
        let kind = AnomalyKind::GSingle;
        let refutes = kind.refutes().into_iter().chain([model]);
        let refutes = Boundary::of(refutes, []).violated;
        explain::cycle(self.history, kind, refutes, steps)
    }

    fn cycle(&self, model: Model, cycle: &[Edge]) -> Anomaly {
        let mut cast = Cast::of(cycle.iter().map(|edge| self.id(edge.from)));
        let mut text = String::new();
        for (at, edge) in cycle.iter().enumerate() {
            let [from, to] = [edge.from, edge.to].map(|place| cast.name(self.id(place)));
            let because = self.because(model, edge, &mut cast);
            let (however, end) = match at + 1 == cycle.len() {
                true => ("However, ", ": a contradiction!"),
                false => ("", "."),
            };
            text += &format!("  - {however}{from} < {to}, because {because}{end}\n");
        }
        let any = |is: fn(&Why) -> bool| cycle.iter().any(|edge| is(&edge.why));
        let kind = match model {
            _ if !any(|why| matches!(why, Why::Sight(..))) => {
                match any(|why| matches!(why, Why::Read(_))) {
                    true => AnomalyKind::G1c,
                    false => AnomalyKind::G0,
                }
            }
            Model::ReadAtomicNoSession => AnomalyKind::FracturedRead,
            _ => AnomalyKind::NotCausallyConsistent,
        };
        Anomaly {
            kind,
            refutes: kind.refutes(),
            cycle: cycle.iter().map(|edge| self.edge_step(edge)).collect(),
            transactions: cast.members().to_vec(),
            key: None,
            explanation: format!("{}Then:\n{text}", cast.introduce(self.history)),
        }
    }

    fn edge_step(&self, edge: &Edge) -> Step {
        match edge.why {
            Why::Read(key) => self.read_step(edge.from, edge.to, key),
            Why::Order(key) | Why::Sight(_, key) => {
                let because = Dependency::WriteWrite {
                    key: self.history.show_key(key),
                    from_value: self.written(edge.from, key),
                    to_value: self.written(edge.to, key),
                };
                self.step(edge.from, edge.to, because)
            }
        }
    }

    fn because(&self, model: Model, edge: &Edge, cast: &mut Cast) -> String {
        let mut name = |place: u32| cast.name(self.id(place));
        let (from, to) = (name(edge.from), name(edge.to));
        match edge.why {
            Why::Read(key) => {
                format!(
                    "{to} read {}, which {from} wrote",
                    self.version(edge.from, key)
                )
            }
            Why::Order(key) => format!(
                "{to} wrote {} after {from} wrote {}, as its versions show",
                self.version(edge.to, key),
                self.version(edge.from, key)
            ),
            Why::Sight(reader, key) => {
                let way = self.way(model, (reader, edge.from), |_| false);
                let reads = way.windows(2).rev().map(|pair| {
                    let read = self.version(pair[0], self.read_key(pair[0], pair[1]));
                    format!("{} read {read} of {}", name(pair[1]), name(pair[0]))
                });
                let reads: Vec<String> = reads.collect();
                format!(
                    "{} read {} of {to} and not {} of {from}, whom it sees ({})",
                    name(reader),
                    self.version(edge.to, key),
                    self.version(edge.from, key),
                    reads.join(", ")
                )
            }
        }
    }
}

/// A shortest cycle, as far as those from [`CYCLE_STARTS_MAX`] transactions show.
fn shortest_cycle(nodes: u32, edges: &[Edge]) -> Option<Vec<Edge>> {
    let component = components(nodes, edges.iter().map(|edge| (edge.from, edge.to)));
    let mut out = BTreeMap::<u32, Vec<Edge>>::new();
    for edge in edges {
        if component[edge.from as usize] == component[edge.to as usize] {
            out.entry(edge.from).or_default().push(*edge);
        }
    }
    let mut best: Option<Vec<Edge>> = None;
    for &start in out.keys().take(CYCLE_STARTS_MAX) {
        let length = best.as_ref().map_or(usize::MAX, Vec::len);
        best = cycle_through(start, &out, length).or(best);
    }
    best
}

/// A shortest cycle through a transaction, if it has fewer edges than so many.
fn cycle_through(start: u32, out: &BTreeMap<u32, Vec<Edge>>, length: usize) -> Option<Vec<Edge>> {
    let mut reached = BTreeMap::<u32, (usize, Edge)>::new();
    let mut queue = VecDeque::from([(start, 1)]);
    while let Some((at, depth)) = queue.pop_front() {
        if depth >= length {
            return None;
        }
        for &edge in out.get(&at).into_iter().flatten() {
            if let Entry::Vacant(fresh) = reached.entry(edge.to) {
                fresh.insert((depth, edge));
                queue.push_back((edge.to, depth + 1));
            }
            if edge.to == start {
                let mut cycle = vec![edge];
                while cycle[cycle.len() - 1].from != start {
                    cycle.push(reached[&cycle[cycle.len() - 1].from].1);
                }
                cycle.reverse();
                return Some(cycle);
            }
        }
    }
    None
}
