//! A satisfiability solver whose theory is order: clauses over Boolean variables, and a graph in which each
//! arc is guarded by a literal and the arcs whose guards are true must form no cycle.
//!
//! Conflict-driven clause learning (Marques-Silva and Sakallah 1999; first unique implication point, two
//! watched literals, Luby restarts, saved phases) over the acyclicity theory of MonoSAT (Bayless et al., AAAI
//! 2015) and PolySI (Huang et al., PVLDB 2023): the true arcs are kept in a topological order after Pearce
//! and Kelly (JEA 2006), and an arc that would close a cycle gives the clause "not all of these guards".
//!
//! The solver is deterministic: no clock, no randomness, and a budget that counts steps.
//!
//! ```
//! use ordain::check::solver::{Arc, Outcome, Solver};
//!
//! // Either 0 before 1 or 1 before 0, and 1 must precede 2, and 2 must precede 0.
//! let mut solver = Solver::new(3);
//! let first = solver.new_variable(true);
//! solver.add_arc(Arc { from: 0, to: 1, guard: Some(first) });
//! solver.add_arc(Arc { from: 1, to: 0, guard: Some(!first) });
//! solver.add_arc(Arc { from: 1, to: 2, guard: None });
//! solver.add_arc(Arc { from: 2, to: 0, guard: None });
//! assert_eq!(solver.solve(1_000), Outcome::Satisfiable);
//! assert!(solver.is_true(!first));
//! assert_eq!(solver.order(), [1, 2, 0]);
//! ```

use std::collections::BTreeSet;
use std::ops::Not;

use super::topology::Topology;

/// A variable or its negation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Literal(u32);

impl Literal {
    fn variable(self) -> usize {
        (self.0 >> 1) as usize
    }

    fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether it is the variable itself and not its negation.
    fn is_positive(self) -> bool {
        self.0 & 1 == 0
    }
}

impl Not for Literal {
    type Output = Self;

    fn not(self) -> Self {
        Self(self.0 ^ 1)
    }
}

/// `from` comes before `to`, if the guard is true or absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arc {
    /// The earlier node.
    pub from: u32,
    /// The later node.
    pub to: u32,
    /// When the arc counts; always, without one.
    pub guard: Option<Literal>,
}

/// What a search found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// There is an assignment; [`Solver::order`] is a topological order of its arcs.
    Satisfiable,
    /// There is none.
    Unsatisfiable,
    /// The budget ended first.
    BudgetExceeded,
}

/// How much work a search was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effort {
    /// Watched clauses visited, and nodes visited while the topological order was repaired.
    pub steps: u64,
    /// Variables assigned by choice and not by propagation.
    pub decisions: u64,
    /// Contradictions met.
    pub conflicts: u64,
}

/// Why a literal is true.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    /// A decision, or a fact.
    None,
    /// The clause of this index, all of whose other literals are false.
    Clause(u32),
}

/// The instance and the state of the search.
#[derive(Clone, Debug)]
pub struct Solver {
    /// By variable: 0 unassigned, 1 true, -1 false.
    values: Vec<i8>,
    phases: Vec<bool>,
    levels: Vec<u32>,
    reasons: Vec<Reason>,
    activities: Vec<f64>,
    /// How much a conflict adds to an activity; grows, which is how older conflicts fade.
    bump: f64,
    queue: ActivityHeap,
    clauses: Vec<Vec<Literal>>,
    /// By literal: the clauses to visit when it becomes false.
    watches: Vec<Vec<u32>>,
    /// By literal: the arcs that it guards.
    guarded: Vec<Vec<u32>>,
    arcs: Vec<Arc>,
    graph: Topology,
    trail: Vec<Literal>,
    /// Trail length at each decision.
    trail_limits: Vec<usize>,
    clauses_done: usize,
    arcs_done: usize,
    arcs_on_cycles: BTreeSet<u32>,
    /// Whether a contradiction holds without any decision.
    contradictory: bool,
    effort: Effort,
}

/// Activities are scaled down when one passes this, far from the end of the floating-point range.
const ACTIVITY_MAX: f64 = 1e100;
/// The share of a variable's activity that survives one conflict.
const ACTIVITY_KEPT: f64 = 0.95;
/// Conflicts in the unit of the Luby sequence.
const RESTART_UNIT: u64 = 64;

impl Solver {
    /// An instance over the nodes `0..nodes` with no variables, clauses or arcs.
    pub fn new(nodes: u32) -> Self {
        Self {
            values: Vec::new(),
            phases: Vec::new(),
            levels: Vec::new(),
            reasons: Vec::new(),
            activities: Vec::new(),
            bump: 1.0,
            queue: ActivityHeap::default(),
            clauses: Vec::new(),
            watches: Vec::new(),
            guarded: Vec::new(),
            arcs: Vec::new(),
            graph: Topology::new(nodes),
            trail: Vec::new(),
            trail_limits: Vec::new(),
            clauses_done: 0,
            arcs_done: 0,
            arcs_on_cycles: BTreeSet::new(),
            contradictory: false,
            effort: Effort::default(),
        }
    }

    /// A new variable's positive literal. `guess` is the value that a decision tries first.
    pub fn new_variable(&mut self, guess: bool) -> Literal {
        let variable = self.values.len();
        self.values.push(0);
        self.phases.push(guess);
        self.levels.push(0);
        self.reasons.push(Reason::None);
        self.activities.push(0.0);
        self.watches.extend([Vec::new(), Vec::new()]);
        self.guarded.extend([Vec::new(), Vec::new()]);
        self.queue.push(variable as u32, &self.activities);
        Literal(u32::try_from(2 * variable).expect("fewer than 2^31 variables"))
    }

    /// Demands that one of the literals be true.
    ///
    /// # Panics
    /// If a search has begun.
    pub fn add_clause(&mut self, literals: &[Literal]) {
        assert!(
            self.trail_limits.is_empty(),
            "clauses are added before the search"
        );
        let mut clause = literals.to_vec();
        clause.sort_unstable();
        clause.dedup();
        if clause.windows(2).any(|pair| pair[0] == !pair[1]) {
            return;
        }
        if clause.iter().any(|&literal| self.is_true(literal)) {
            return;
        }
        clause.retain(|&literal| self.value(literal) == 0);
        match clause.as_slice() {
            [] => self.contradictory = true,
            [fact] => self.assign(*fact, Reason::None),
            _ => {
                self.attach(clause);
            }
        }
    }

    /// Adds an arc.
    ///
    /// # Panics
    /// If a node is out of range or a search has begun.
    pub fn add_arc(&mut self, arc: Arc) {
        assert!(
            self.trail_limits.is_empty() && self.arcs_done == 0,
            "arcs are added before the search"
        );
        assert!(arc.from < self.graph.nodes() && arc.to < self.graph.nodes());
        let index = self.arcs.len() as u32;
        self.arcs.push(arc);
        match arc.guard {
            Some(guard) => self.guarded[guard.index()].push(index),
            None => self.graph.push((arc.from, arc.to), index),
        }
    }

    /// Whether the literal is true in the assignment found.
    pub fn is_true(&self, literal: Literal) -> bool {
        self.value(literal) == 1
    }

    /// All nodes, in an order that respects every true arc.
    pub fn order(&self) -> &[u32] {
        self.graph.order()
    }

    /// The arcs on the cycles met so far, by their number in the order of their addition. Where no clause was added,
    /// those of them that a contradiction rests on are among these.
    pub fn arcs_on_cycles(&self) -> &BTreeSet<u32> {
        &self.arcs_on_cycles
    }

    /// The work done so far.
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// Searches for an assignment. Gives up once `budget` steps were made.
    pub fn solve(&mut self, budget: u64) -> Outcome {
        if self.contradictory || !self.graph.sort() {
            return Outcome::Unsatisfiable;
        }
        let mut restarts = 0;
        loop {
            let conflicts_max = self.effort.conflicts + RESTART_UNIT * luby(restarts);
            if let Some(outcome) = self.search(budget, conflicts_max) {
                return outcome;
            }
            self.backtrack(0);
            restarts += 1;
        }
    }

    /// Searches until an outcome, or until it is time to restart.
    fn search(&mut self, budget: u64, conflicts_max: u64) -> Option<Outcome> {
        loop {
            if let Some(conflict) = self.propagate() {
                self.effort.conflicts += 1;
                if self.trail_limits.is_empty() {
                    self.contradictory = true;
                    return Some(Outcome::Unsatisfiable);
                }
                self.learn(&conflict);
            } else if self.effort.steps > budget {
                return Some(Outcome::BudgetExceeded);
            } else if self.effort.conflicts >= conflicts_max {
                return None;
            } else {
                let Some(decision) = self.next_decision() else {
                    return Some(Outcome::Satisfiable);
                };
                self.effort.decisions += 1;
                self.trail_limits.push(self.trail.len());
                self.assign(decision, Reason::None);
            }
        }
    }

    fn next_decision(&mut self) -> Option<Literal> {
        while let Some(variable) = self.queue.pop(&self.activities) {
            if self.values[variable as usize] == 0 {
                let positive = Literal(2 * variable);
                return Some(if self.phases[variable as usize] {
                    positive
                } else {
                    !positive
                });
            }
        }
        None
    }

    fn value(&self, literal: Literal) -> i8 {
        let value = self.values[literal.variable()];
        if literal.is_positive() { value } else { -value }
    }

    fn assign(&mut self, literal: Literal, reason: Reason) {
        debug_assert_eq!(self.value(literal), 0);
        let variable = literal.variable();
        self.values[variable] = if literal.is_positive() { 1 } else { -1 };
        self.levels[variable] = self.trail_limits.len() as u32;
        self.reasons[variable] = reason;
        self.trail.push(literal);
    }

    fn attach(&mut self, clause: Vec<Literal>) -> u32 {
        debug_assert!(clause.len() >= 2);
        let index = self.clauses.len() as u32;
        self.watches[clause[0].index()].push(index);
        self.watches[clause[1].index()].push(index);
        self.clauses.push(clause);
        index
    }

    /// Draws every consequence; a contradiction is returned as literals that are all false and cannot be.
    fn propagate(&mut self) -> Option<Vec<Literal>> {
        loop {
            if self.clauses_done < self.trail.len() {
                let falsified = !self.trail[self.clauses_done];
                self.clauses_done += 1;
                if let Some(conflict) = self.visit_watches(falsified) {
                    return Some(conflict);
                }
            } else if self.arcs_done < self.trail.len() {
                let literal = self.trail[self.arcs_done];
                self.arcs_done += 1;
                if let Some(conflict) = self.insert_arcs(literal) {
                    return Some(conflict);
                }
            } else {
                return None;
            }
        }
    }

    fn visit_watches(&mut self, falsified: Literal) -> Option<Vec<Literal>> {
        let mut watching = std::mem::take(&mut self.watches[falsified.index()]);
        let mut conflict = None;
        watching.retain(|&index| {
            if conflict.is_some() {
                return true;
            }
            self.effort.steps += 1;
            let (keep, contradiction) = self.visit_clause(index, falsified);
            conflict = contradiction;
            keep
        });
        // A clause never moves its watch to the literal just falsified, so nothing was added meanwhile.
        debug_assert!(self.watches[falsified.index()].is_empty());
        self.watches[falsified.index()] = watching;
        conflict
    }

    /// Restores a clause's watches after one became false: whether the watch stays, and a contradiction.
    fn visit_clause(&mut self, index: u32, falsified: Literal) -> (bool, Option<Vec<Literal>>) {
        let mut clause = std::mem::take(&mut self.clauses[index as usize]);
        if clause[0] == falsified {
            clause.swap(0, 1);
        }
        let other = clause[0];
        let mut result = (true, None);
        if !self.is_true(other) {
            match (2..clause.len()).find(|&at| self.value(clause[at]) >= 0) {
                Some(at) => {
                    clause.swap(1, at);
                    self.watches[clause[1].index()].push(index);
                    result.0 = false;
                }
                None if self.value(other) == 0 => self.assign(other, Reason::Clause(index)),
                None => result.1 = Some(clause.clone()),
            }
        }
        self.clauses[index as usize] = clause;
        result
    }

    fn insert_arcs(&mut self, literal: Literal) -> Option<Vec<Literal>> {
        for at in 0..self.guarded[literal.index()].len() {
            let index = self.guarded[literal.index()][at];
            let arc = self.arcs[index as usize];
            let ends = (arc.from, arc.to);
            if let Err(path) = self.graph.insert(ends, index, &mut self.effort.steps) {
                let cycle: Vec<u32> = path.into_iter().chain([index]).collect();
                let guards = cycle
                    .iter()
                    .filter_map(|&arc| self.arcs[arc as usize].guard);
                let mut clause: Vec<Literal> = guards.map(Literal::not).collect();
                self.arcs_on_cycles.extend(cycle);
                clause.sort_unstable();
                clause.dedup();
                return Some(clause);
            }
        }
        None
    }

    /// Turns a contradiction into a clause, goes back to where the clause has a consequence, and draws it.
    fn learn(&mut self, conflict: &[Literal]) {
        let (clause, level) = self.analyze(conflict);
        self.backtrack(level);
        self.bump /= ACTIVITY_KEPT;
        let fact = clause[0];
        if clause.len() == 1 {
            debug_assert_eq!(level, 0);
            self.assign(fact, Reason::None);
        } else {
            let index = self.attach(clause);
            self.assign(fact, Reason::Clause(index));
        }
    }

    /// The clause at the first unique implication point, its asserting literal first and one of the
    /// highest other level second; and that level.
    fn analyze(&mut self, conflict: &[Literal]) -> (Vec<Literal>, u32) {
        let current = self.trail_limits.len() as u32;
        let mut seen = vec![false; self.values.len()];
        let mut clause = vec![];
        let mut open = 0;
        let mut at = self.trail.len();
        let mut antecedent = conflict.to_vec();
        let asserting = loop {
            for &literal in &antecedent {
                let variable = literal.variable();
                if seen[variable] || self.levels[variable] == 0 {
                    continue;
                }
                seen[variable] = true;
                self.bump_activity(variable);
                if self.levels[variable] == current {
                    open += 1;
                } else {
                    clause.push(literal);
                }
            }
            let literal = loop {
                at -= 1;
                if seen[self.trail[at].variable()] {
                    break self.trail[at];
                }
            };
            open -= 1;
            if open == 0 {
                break !literal;
            }
            let Reason::Clause(index) = self.reasons[literal.variable()] else {
                unreachable!("only the decision has no reason, and it is the last of its level")
            };
            antecedent = self.clauses[index as usize]
                .iter()
                .copied()
                .filter(|&l| l != literal)
                .collect();
        };
        clause.sort_by_key(|literal| std::cmp::Reverse(self.levels[literal.variable()]));
        let level = clause
            .first()
            .map_or(0, |literal| self.levels[literal.variable()]);
        clause.insert(0, asserting);
        (clause, level)
    }

    fn bump_activity(&mut self, variable: usize) {
        self.activities[variable] += self.bump;
        if self.activities[variable] > ACTIVITY_MAX {
            self.activities
                .iter_mut()
                .for_each(|activity| *activity /= ACTIVITY_MAX);
            self.bump /= ACTIVITY_MAX;
        }
        self.queue.raise(variable as u32, &self.activities);
    }

    fn backtrack(&mut self, level: u32) {
        let Some(&length) = self.trail_limits.get(level as usize) else {
            return;
        };
        for at in (length..self.trail.len()).rev() {
            let literal = self.trail[at];
            for &index in self.guarded[literal.index()].iter().rev() {
                let arc = self.arcs[index as usize];
                self.graph.remove((arc.from, arc.to), index);
            }
            let variable = literal.variable();
            self.values[variable] = 0;
            self.phases[variable] = literal.is_positive();
            self.queue.push(variable as u32, &self.activities);
        }
        self.trail.truncate(length);
        self.trail_limits.truncate(level as usize);
        self.clauses_done = length;
        self.arcs_done = self.arcs_done.min(length);
    }
}

/// The Luby sequence: 1, 1, 2, 1, 1, 2, 4, ...
fn luby(mut index: u64) -> u64 {
    let mut size = 1;
    while size < index + 1 {
        size = 2 * size + 1;
    }
    while size - 1 != index {
        size = (size - 1) / 2;
        index %= size;
    }
    size.div_ceil(2)
}

/// The unassigned variables, most active first and then lowest first.
#[derive(Clone, Debug, Default)]
struct ActivityHeap {
    heap: Vec<u32>,
    /// By variable: its index in `heap`, or `ABSENT`.
    place: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl ActivityHeap {
    fn push(&mut self, variable: u32, activities: &[f64]) {
        if self.place.len() <= variable as usize {
            self.place.resize(variable as usize + 1, ABSENT);
        }
        if self.place[variable as usize] == ABSENT {
            self.place[variable as usize] = self.heap.len() as u32;
            self.heap.push(variable);
            self.raise(variable, activities);
        }
    }

    fn pop(&mut self, activities: &[f64]) -> Option<u32> {
        let top = *self.heap.first()?;
        self.place[top as usize] = ABSENT;
        let last = self.heap.pop().expect("the heap has a first");
        if last != top {
            self.heap[0] = last;
            self.place[last as usize] = 0;
            self.sink(0, activities);
        }
        Some(top)
    }

    /// Moves a variable whose activity grew to where it belongs.
    fn raise(&mut self, variable: u32, activities: &[f64]) {
        let mut at = self.place[variable as usize];
        if at == ABSENT {
            return;
        }
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.precedes(at, parent, activities) {
                break;
            }
            self.swap(at, parent);
            at = parent;
        }
    }

    fn sink(&mut self, mut at: u32, activities: &[f64]) {
        loop {
            let mut first = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if (child as usize) < self.heap.len() && self.precedes(child, first, activities) {
                    first = child;
                }
            }
            if first == at {
                return;
            }
            self.swap(at, first);
            at = first;
        }
    }

    fn precedes(&self, a: u32, b: u32, activities: &[f64]) -> bool {
        let (a, b) = (self.heap[a as usize], self.heap[b as usize]);
        let by_activity = activities[b as usize].total_cmp(&activities[a as usize]);
        by_activity.then(a.cmp(&b)).is_lt()
    }

    fn swap(&mut self, a: u32, b: u32) {
        self.heap.swap(a as usize, b as usize);
        self.place[self.heap[a as usize] as usize] = a;
        self.place[self.heap[b as usize] as usize] = b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_core::{Rng, SeedableRng};

    #[test]
    fn luby_sequence_is_the_published_one() {
        let first: Vec<u64> = (0..15).map(luby).collect();
        assert_eq!(first, [1, 1, 2, 1, 1, 2, 4, 1, 1, 2, 1, 1, 2, 4, 8]);
    }

    /// A variable and its sign.
    type Signed = (usize, bool);

    /// A random instance: clauses as literals (variable, sign) and arcs with optional guards.
    struct Instance {
        nodes: u32,
        variables: usize,
        clauses: Vec<Vec<Signed>>,
        arcs: Vec<(u32, u32, Option<Signed>)>,
    }

    fn draw(rng: &mut ChaCha8Rng, below: usize) -> usize {
        (rng.next_u32() as usize) % below
    }

    impl Instance {
        fn random(rng: &mut ChaCha8Rng) -> Self {
            let (nodes, variables) = (2 + draw(rng, 5), 1 + draw(rng, 7));
            let literal = |rng: &mut ChaCha8Rng| (draw(rng, variables), draw(rng, 2) == 0);
            let clauses = (0..draw(rng, 12))
                .map(|_| (0..1 + draw(rng, 3)).map(|_| literal(rng)).collect())
                .collect();
            let arcs = (0..draw(rng, 20))
                .map(|_| {
                    let guard = (draw(rng, 6) > 0).then(|| literal(rng));
                    (draw(rng, nodes) as u32, draw(rng, nodes) as u32, guard)
                })
                .collect();
            Self {
                nodes: nodes as u32,
                variables,
                clauses,
                arcs,
            }
        }

        /// Whether some assignment satisfies the clauses and leaves the arcs acyclic, by trying all.
        fn satisfiable(&self) -> bool {
            (0..1u32 << self.variables)
                .any(|bits| self.holds(&|(v, sign)| (bits >> v & 1 == 1) == sign))
        }

        fn holds(&self, value: &dyn Fn((usize, bool)) -> bool) -> bool {
            let arcs: Vec<(u32, u32)> = self
                .arcs
                .iter()
                .filter(|(_, _, guard)| guard.is_none_or(value))
                .map(|&(from, to, _)| (from, to))
                .collect();
            self.clauses
                .iter()
                .all(|clause| clause.iter().any(|&literal| value(literal)))
                && acyclic(self.nodes, &arcs)
        }

        fn solver(&self) -> (Solver, Vec<Literal>) {
            let mut solver = Solver::new(self.nodes);
            let variables: Vec<Literal> = (0..self.variables)
                .map(|v| solver.new_variable(v % 2 == 0))
                .collect();
            let literal =
                |(v, sign): (usize, bool)| if sign { variables[v] } else { !variables[v] };
            for clause in &self.clauses {
                solver.add_clause(&clause.iter().map(|&l| literal(l)).collect::<Vec<_>>());
            }
            for &(from, to, guard) in &self.arcs {
                solver.add_arc(Arc {
                    from,
                    to,
                    guard: guard.map(literal),
                });
            }
            (solver, variables)
        }
    }

    /// Repeatedly removes nodes that nothing enters.
    fn acyclic(nodes: u32, arcs: &[(u32, u32)]) -> bool {
        let mut left: Vec<u32> = (0..nodes).collect();
        loop {
            let entered = |node: u32| {
                arcs.iter()
                    .any(|&(from, to)| to == node && left.contains(&from))
            };
            let kept: Vec<u32> = left.iter().copied().filter(|&node| entered(node)).collect();
            if kept.len() == left.len() {
                return left.is_empty();
            }
            left = kept;
        }
    }

    #[test]
    fn agrees_with_enumeration_on_random_instances_and_its_assignments_hold() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut counts = [0; 2];
        for round in 0..20_000 {
            let instance = Instance::random(&mut rng);
            let (mut solver, variables) = instance.solver();
            let found = solver.solve(u64::MAX) == Outcome::Satisfiable;
            assert_eq!(found, instance.satisfiable(), "instance {round}");
            counts[usize::from(found)] += 1;
            if found {
                assert!(instance.holds(&|(v, sign)| solver.is_true(variables[v]) == sign));
                assert_order_respects_true_arcs(&instance, &solver, &variables);
            }
        }
        assert!(
            counts.iter().all(|&count| count > 2_000),
            "both answers occur: {counts:?}"
        );
    }

    fn assert_order_respects_true_arcs(
        instance: &Instance,
        solver: &Solver,
        variables: &[Literal],
    ) {
        let position = |node: u32| solver.order().iter().position(|&n| n == node);
        for &(from, to, guard) in &instance.arcs {
            if guard.is_none_or(|(v, sign)| solver.is_true(variables[v]) == sign) {
                assert!(position(from) < position(to));
            }
        }
    }

    /// The pigeonhole principle, false, and exponential for resolution: a few holes are a long search.
    fn pigeons(holes: usize) -> Solver {
        let mut solver = Solver::new(1);
        let at: Vec<Vec<Literal>> = (0..=holes)
            .map(|_| (0..holes).map(|_| solver.new_variable(false)).collect())
            .collect();
        for pigeon in &at {
            solver.add_clause(pigeon);
        }
        for (i, a) in at.iter().enumerate() {
            for b in &at[..i] {
                for hole in 0..holes {
                    solver.add_clause(&[!a[hole], !b[hole]]);
                }
            }
        }
        solver
    }

    #[test]
    fn a_small_budget_ends_in_unknown_and_a_large_one_in_the_answer() {
        assert_eq!(pigeons(7).solve(100), Outcome::BudgetExceeded);
        assert_eq!(pigeons(5).solve(u64::MAX), Outcome::Unsatisfiable);
    }

    #[test]
    fn the_same_instance_costs_the_same_steps() {
        let effort = || {
            let mut solver = pigeons(5);
            solver.solve(u64::MAX);
            solver.effort()
        };
        assert_eq!(effort(), effort());
    }
}
