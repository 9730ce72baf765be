//! What inference leaves open, as clauses and guarded arcs for the [solver](super::super::solver).

use std::collections::{BTreeMap, BTreeSet};

use super::super::solver::{self, Literal, Solver};
use super::{CyclicCore, Edge, KeyId, OpenRead, Pair, Problem, Why};

/// The open rest as clauses and guarded arcs.
pub(super) struct Encoding<'p, 'a> {
    problem: &'p Problem<'a>,
    core: &'p CyclicCore,
    pub solver: Solver,
    /// By place: the literal that says that an indeterminate transaction happened.
    presence: BTreeMap<u32, Literal>,
    /// Who wrote the key first, where that was open.
    before: BTreeMap<(KeyId, u32, u32), Literal>,
    /// Orders that propagation forced.
    forced: BTreeSet<(KeyId, u32, u32)>,
    /// The literal that guards a reader's anti-dependency on a writer.
    overtaken: BTreeMap<(KeyId, u32, u32), Literal>,
    guarded: Vec<(Literal, Edge)>,
    /// The solver's arcs.
    arcs: Vec<Edge>,
}

/// What the solver chose.
pub(super) struct Chosen {
    pub edges: Vec<Edge>,
    pub absent: BTreeSet<u32>,
}

impl<'p, 'a> Encoding<'p, 'a> {
    pub fn new(
        problem: &'p Problem<'a>,
        core: &'p CyclicCore,
        forced: &[Pair],
        open: &[Pair],
    ) -> Self {
        let mut encoding = Encoding {
            problem,
            core,
            solver: Solver::new(core.count),
            presence: BTreeMap::new(),
            before: BTreeMap::new(),
            forced: forced
                .iter()
                .map(|pair| (pair.key, pair.first, pair.second))
                .collect(),
            overtaken: BTreeMap::new(),
            guarded: Vec::new(),
            arcs: Vec::new(),
        };
        for place in problem
            .places()
            .filter(|&place| problem.maybe[place as usize])
        {
            let happened = encoding.solver.new_variable(false);
            encoding.presence.insert(place, happened);
        }
        let fixed = forced.iter().flat_map(|&pair| problem.edges(pair));
        for edge in problem.known.iter().copied().chain(fixed) {
            encoding.add_arc(edge, None);
        }
        for &(place, edge) in &problem.conditional {
            encoding.guard(encoding.presence[&place], edge);
        }
        for &pair in open {
            encoding.add_pair(pair);
        }
        encoding
    }

    fn guard(&mut self, guard: Literal, edge: Edge) {
        self.guarded.push((guard, edge));
        self.add_arc(edge, Some(guard));
    }

    fn add_arc(&mut self, edge: Edge, guard: Option<Literal>) {
        if let Some(Edge { from, to, .. }) = self.core.inside(edge) {
            self.solver.add_arc(solver::Arc { from, to, guard });
            self.arcs.push(edge);
        }
    }

    /// The edges on the cycles that the solver met.
    pub fn edges_on_cycles(&self) -> Vec<Edge> {
        let arcs = self.solver.arcs_on_cycles().iter();
        arcs.map(|&arc| self.arcs[arc as usize]).collect()
    }

    /// One of the two orders holds, if both transactions happened. The one that completed first is tried
    /// first: real databases mostly commit in that order.
    fn add_pair(&mut self, pair: Pair) {
        let finished = |place| {
            let txn = self.problem.txn(place);
            (txn.complete, txn.invoke)
        };
        let guess = finished(pair.first) <= finished(pair.second);
        let forward = self.solver.new_variable(guess);
        let mut absent: Vec<Literal> = [pair.first, pair.second]
            .iter()
            .filter_map(|place| self.presence.get(place))
            .map(|&l| !l)
            .collect();
        let backward = if absent.is_empty() {
            !forward
        } else {
            let backward = self.solver.new_variable(false);
            absent.extend([forward, backward]);
            self.solver.add_clause(&absent);
            backward
        };
        for (literal, pair) in [(forward, pair), (backward, pair.swapped())] {
            self.before
                .insert((pair.key, pair.first, pair.second), literal);
            for edge in self.problem.edges(pair) {
                self.guard(literal, edge);
            }
        }
    }

    pub fn add_open_reads(&mut self) {
        for read in &self.problem.open_reads {
            let mut one_of: Vec<Literal> = Vec::new();
            one_of.extend(self.presence.get(&read.reader).map(|&happened| !happened));
            for &source in &read.sources {
                let from_here = self.solver.new_variable(false);
                one_of.push(from_here);
                self.add_source(read, source, from_here);
            }
            self.solver.add_clause(&one_of);
        }
    }

    /// What follows if the read comes from this source: the source happened and came before, and each other
    /// writer of the key came before the source or after the reader.
    fn add_source(&mut self, read: &OpenRead, source: Option<u32>, from_here: Literal) {
        if let Some(writer) = source {
            if let Some(&happened) = self.presence.get(&writer) {
                self.solver.add_clause(&[!from_here, happened]);
            }
            self.guard(
                from_here,
                self.problem
                    .dependency(writer, read.reader, Why::WriteRead(read.key)),
            );
        }
        let others = self
            .problem
            .writers
            .get(&read.key)
            .into_iter()
            .flatten()
            .copied();
        for other in others.filter(|&other| Some(other) != source) {
            let mut clause = vec![!from_here];
            clause.extend(self.presence.get(&other).map(|&happened| !happened));
            if other == read.reader {
                // Its own write follows its read.
                let Some(writer) = source else { continue };
                match self.order(read.key, writer, other) {
                    Order::Known(true) => continue,
                    Order::Known(false) => {}
                    Order::Open(literal) => clause.push(literal),
                }
            } else {
                match source.map_or(Order::Known(false), |writer| {
                    self.order(read.key, other, writer)
                }) {
                    Order::Known(true) => continue,
                    Order::Known(false) => {}
                    Order::Open(literal) => clause.push(literal),
                }
                clause.push(self.overtakes(read, other));
            }
            self.solver.add_clause(&clause);
        }
    }

    /// The literal that lets the reader's anti-dependency on the writer hold.
    fn overtakes(&mut self, read: &OpenRead, writer: u32) -> Literal {
        let name = (read.key, read.reader, writer);
        if let Some(&literal) = self.overtaken.get(&name) {
            return literal;
        }
        let literal = self.solver.new_variable(false);
        self.overtaken.insert(name, literal);
        self.guard(
            literal,
            self.problem.anti_dependency(read.reader, writer, read.key),
        );
        literal
    }

    /// Whether the key was written by the one before the other.
    fn order(&self, key: KeyId, first: u32, second: u32) -> Order {
        if let Some(&literal) = self.before.get(&(key, first, second)) {
            return Order::Open(literal);
        }
        let name = (key, first, second);
        let known = self.forced.contains(&name)
            || self.problem.follows.contains(&name)
            || self.problem.outranks(key, first, second)
            || self.problem.precedes(first, second);
        Order::Known(known)
    }

    pub fn chosen(&self) -> Chosen {
        let holds = |literal: Literal| self.solver.is_true(literal);
        Chosen {
            edges: self
                .guarded
                .iter()
                .filter(|(guard, _)| holds(*guard))
                .map(|&(_, edge)| edge)
                .collect(),
            absent: self
                .presence
                .iter()
                .filter(|(_, l)| !holds(**l))
                .map(|(&place, _)| place)
                .collect(),
        }
    }
}

/// What is known about the order of two writers of a key.
enum Order {
    Known(bool),
    Open(Literal),
}
