//! The reachable graph of a [`stateright::Model`], walked once and counted as TLC counts.
//!
//! [`explore`] is the walk: breadth first, every state entered once, every step shown once. [`Graph`] is what the
//! fair checker in [`super::leads_to`] keeps of it: no states, only node numbers, edges with the fairness constraints
//! that they belong to, and one bit for each state predicate. States come back by replaying the model
//! ([`Graph::replay`]), so memory does not grow with the size of a state.
//!
//! # Invariants
//!
//! - Nodes are numbered in breadth-first order from 0; the initial states come first.
//! - States are told apart by a 128-bit fingerprint ([`Fingerprint`]). TLC and stateright use 64 bits, with which two of
//!   two million states share one with a probability of 10^-7; here it is about 10^-26.
//! - A step that leaves the state as it was is counted as generated and is no edge: every state may stutter anyway, and
//!   fairness speaks of `<<A>>_vars`, steps that change something.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use stateright::Model;

/// Stands for "no node".
pub const NO_NODE: u32 = u32::MAX;

/// Sizes, as TLC 2.15 reports them with one worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Counts {
    /// Distinct reachable states.
    pub distinct: u64,
    /// States generated: the initial ones and one for each step, duplicates included.
    pub generated: u64,
    /// Levels of the breadth-first search; initial states alone are one level.
    pub depth: u32,
    /// Steps into states outside [`Model::within_boundary`], which are neither entered nor counted as distinct.
    pub cut: u64,
}

/// Why a graph could not be built.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfinished {
    /// The observer has seen enough.
    #[error("the walk was stopped")]
    Stopped,
    /// More states than asked for.
    #[error(
        "more than {limit} distinct states: give the model smaller budgets, or raise the limit"
    )]
    TooManyStates {
        /// The limit.
        limit: u32,
    },
    /// More edges than 32-bit offsets can address.
    #[error("more than {} steps", u32::MAX)]
    TooManySteps,
    /// More distinct sets of constraints on one edge than 16 bits can number.
    #[error(
        "more than 65536 different sets of fairness constraints on one step: use fewer constraints"
    )]
    TooManyClasses,
}

/// Sees the walk. Steps come grouped by their first state, in node order.
pub trait Observer<M: Model> {
    /// A new state. `parent` is the node it was first reached from, [`NO_NODE`] for an initial state.
    fn enter(&mut self, node: u32, parent: u32, state: &M::State) -> Result<(), Unfinished>;

    /// A step that changes the state. `to` is [`NO_NODE`] where it crosses the boundary.
    fn step(&mut self, step: &Step<'_, M>) -> Result<(), Unfinished>;
}

/// One step of the walk.
pub struct Step<'a, M: Model> {
    /// Node of the state before.
    pub from: u32,
    /// Node of the state after; [`NO_NODE`] outside the boundary.
    pub to: u32,
    /// The state before.
    pub before: &'a M::State,
    /// The action.
    pub action: &'a M::Action,
    /// The state after.
    pub after: &'a M::State,
}

/// Walks the whole graph breadth first.
///
/// # Errors
///
/// [`Unfinished::TooManyStates`] beyond `limit` distinct states, and whatever the observer returns.
pub fn explore<M>(
    model: &M,
    limit: u32,
    observer: &mut impl Observer<M>,
) -> Result<Counts, Unfinished>
where
    M: Model,
    M::State: Hash + PartialEq,
    M::Action: Clone,
{
    walk(model, limit, observer).map(|(counts, _)| counts)
}

/// As [`explore`], also giving the fingerprints in node order.
fn walk<M>(
    model: &M,
    limit: u32,
    observer: &mut impl Observer<M>,
) -> Result<(Counts, Vec<u128>), Unfinished>
where
    M: Model,
    M::State: Hash + PartialEq,
    M::Action: Clone,
{
    let mut walk = Walk {
        seen: Seen::default(),
        queue: VecDeque::new(),
        counts: Counts::default(),
        limit,
    };
    for state in model.init_states() {
        walk.counts.generated += 1;
        walk.find_or_enter(model, state, NO_NODE, observer)?;
    }
    let (mut from, mut level_end) = (0, 0);
    let mut actions = Vec::new();
    while let Some(before) = walk.queue.pop_front() {
        if from == level_end {
            walk.counts.depth += 1;
            level_end = walk.seen.len();
        }
        model.actions(&before, &mut actions);
        for action in actions.drain(..) {
            walk.take(model, from, &before, &action, observer)?;
        }
        from += 1;
    }
    assert_eq!(
        from,
        walk.seen.len(),
        "every state that was entered is expanded"
    );
    walk.counts.distinct = u64::from(walk.seen.len());
    Ok((walk.counts, walk.seen.fingerprints))
}

struct Walk<S> {
    seen: Seen,
    queue: VecDeque<S>,
    counts: Counts,
    limit: u32,
}

impl<S: Hash + PartialEq> Walk<S> {
    fn take<M>(
        &mut self,
        model: &M,
        from: u32,
        before: &S,
        action: &M::Action,
        observer: &mut impl Observer<M>,
    ) -> Result<(), Unfinished>
    where
        M: Model<State = S>,
        M::Action: Clone,
    {
        let Some(after) = model.next_state(before, action.clone()) else {
            return Ok(());
        };
        self.counts.generated += 1;
        if after == *before {
            return Ok(());
        }
        // The step needs the state that the queue takes over: look it up, show it, then hand it over.
        let (to, new) = self.locate(model, &after)?;
        if new {
            observer.enter(to, from, &after)?;
        }
        observer.step(&Step {
            from,
            to,
            before,
            action,
            after: &after,
        })?;
        if new {
            self.queue.push_back(after);
        }
        Ok(())
    }

    fn find_or_enter<M: Model<State = S>>(
        &mut self,
        model: &M,
        state: S,
        parent: u32,
        observer: &mut impl Observer<M>,
    ) -> Result<(), Unfinished> {
        let (node, new) = self.locate(model, &state)?;
        if new {
            observer.enter(node, parent, &state)?;
            self.queue.push_back(state);
        }
        Ok(())
    }

    /// The node of a state and whether it is new.
    fn locate<M: Model<State = S>>(
        &mut self,
        model: &M,
        state: &S,
    ) -> Result<(u32, bool), Unfinished> {
        if !model.within_boundary(state) {
            self.counts.cut += 1;
            return Ok((NO_NODE, false));
        }
        let (node, new) = self.seen.number(fingerprint(state));
        if new && node >= self.limit {
            return Err(Unfinished::TooManyStates { limit: self.limit });
        }
        Ok((node, new))
    }
}

/// Two independent 64-bit hashes of a state by folded multiplication, side by side.
///
/// Only compared within one process, never kept.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    low: u64,
    high: u64,
}

impl Default for Fingerprint {
    fn default() -> Self {
        Self {
            low: 0x243f_6a88_85a3_08d3,
            high: 0x1319_8a2e_0370_7344,
        }
    }
}

/// The fingerprint of a value.
pub fn fingerprint(value: &impl Hash) -> u128 {
    let mut hasher = Fingerprint::default();
    value.hash(&mut hasher);
    // One more word, so that the last one written is diffused like the others.
    hasher.word(0xa409_3822_299f_31d0);
    u128::from(hasher.high) << 64 | u128::from(hasher.low)
}

impl Fingerprint {
    fn word(&mut self, word: u64) {
        // Odd constants: digits of pi and of the golden ratio, as good as any others.
        self.low = folded(self.low ^ word, 0x9e37_79b9_7f4a_7c15);
        self.high = folded(self.high.rotate_left(23) ^ word, 0x082e_fa98_ec4e_6c89);
    }
}

/// The two halves of the 128-bit product, mixed.
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.word(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        let mut tail = [0; 8];
        tail[..words.remainder().len()].copy_from_slice(words.remainder());
        // The length keeps [1] and [1, 0] apart.
        self.word(u64::from_le_bytes(tail) ^ (bytes.len() as u64).rotate_left(56));
    }

    fn write_u8(&mut self, word: u8) {
        self.word(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.word(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.word(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.word(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.word(word as u64);
    }

    /// The low half, for use as an ordinary hasher.
    fn finish(&self) -> u64 {
        self.low
    }
}

/// Fingerprints in order of arrival, with an open-addressing index that stores 32-bit positions only.
#[derive(Default)]
struct Seen {
    fingerprints: Vec<u128>,
    slots: Vec<u32>,
}

impl Seen {
    fn len(&self) -> u32 {
        self.fingerprints.len() as u32
    }

    /// The number of a fingerprint, and whether it is new.
    fn number(&mut self, print: u128) -> (u32, bool) {
        if self.fingerprints.len() * 3 >= self.slots.len() * 2 {
            self.grow();
        }
        let slot = self.slot_of(print);
        if self.slots[slot] != NO_NODE {
            return (self.slots[slot], false);
        }
        let node = self.len();
        self.slots[slot] = node;
        self.fingerprints.push(print);
        (node, true)
    }

    /// Where the fingerprint is, or the empty slot where it belongs.
    fn slot_of(&self, print: u128) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = print as usize & mask;
        loop {
            let node = self.slots[slot];
            if node == NO_NODE || self.fingerprints[node as usize] == print {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }

    fn grow(&mut self) {
        self.slots = vec![NO_NODE; (self.slots.len() * 2).max(64)];
        for node in 0..self.len() {
            let slot = self.slot_of(self.fingerprints[node as usize]);
            self.slots[slot] = node;
        }
    }
}

/// A set of predicates or constraints by number, at most 64.
pub type Bits = u64;

/// A state and the steps taken from it.
pub type Replayed<M> = (
    <M as Model>::State,
    Vec<(<M as Model>::Action, <M as Model>::State)>,
);

/// What the fair checker keeps of the walk.
#[derive(Debug)]
pub struct Graph {
    /// Sizes.
    pub counts: Counts,
    fingerprints: Vec<u128>,
    parents: Vec<u32>,
    /// First node of each breadth-first level.
    levels: Vec<u32>,
    /// The edges of node n are those numbered `offsets[n]..offsets[n + 1]`.
    offsets: Vec<u32>,
    targets: Vec<u32>,
    classes: Vec<u16>,
    class_sets: Vec<Bits>,
    facts: Vec<Bits>,
    enabled: Vec<Bits>,
}

impl Graph {
    /// Explores `model`, keeping `facts(state)` for each node and `classes(before, action, after)` for each edge.
    ///
    /// # Errors
    ///
    /// See [`Unfinished`].
    pub fn build<M>(
        model: &M,
        limit: u32,
        facts: impl FnMut(&M::State) -> Bits,
        classes: impl FnMut(&Step<'_, M>) -> Bits,
    ) -> Result<Self, Unfinished>
    where
        M: Model,
        M::State: Hash + PartialEq,
        M::Action: Clone,
    {
        let graph = Self {
            counts: Counts::default(),
            fingerprints: Vec::new(),
            parents: Vec::new(),
            levels: Vec::new(),
            offsets: Vec::new(),
            targets: Vec::new(),
            classes: Vec::new(),
            class_sets: Vec::new(),
            facts: Vec::new(),
            enabled: Vec::new(),
        };
        let mut keeper = Keeper {
            graph,
            facts,
            classes,
        };
        let (counts, fingerprints) = walk(model, limit, &mut keeper)?;
        let mut graph = keeper.graph;
        graph.counts = counts;
        graph.fingerprints = fingerprints;
        graph.close_offsets(counts.distinct as usize);
        graph.find_levels();
        Ok(graph)
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether the model has no initial state.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// The initial nodes.
    pub fn initial(&self) -> std::ops::Range<u32> {
        // Initial states are entered first, so they are exactly the first level.
        self.level(0)
    }

    /// The nodes of one breadth-first level, counted from 0; empty past the last.
    pub fn level(&self, level: usize) -> std::ops::Range<u32> {
        let end = self.len() as u32;
        let start = self.levels.get(level).copied().unwrap_or(end);
        start..self.levels.get(level + 1).copied().unwrap_or(end)
    }

    /// Number of breadth-first levels.
    pub fn level_count(&self) -> usize {
        self.levels.len()
    }

    /// Number of edges: steps that change the state and stay within the boundary.
    pub fn edge_count(&self) -> usize {
        self.targets.len()
    }

    /// Which predicates hold in a node.
    pub fn facts(&self, node: u32) -> Bits {
        self.facts[node as usize]
    }

    /// Which constraints have a step out of this node, anywhere in the full graph: ENABLED.
    pub fn enabled(&self, node: u32) -> Bits {
        self.enabled[node as usize]
    }

    /// The numbers of the edges that leave a node.
    pub fn edges(&self, node: u32) -> std::ops::Range<usize> {
        self.offsets[node as usize] as usize..self.offsets[node as usize + 1] as usize
    }

    /// Where an edge leads.
    pub fn target(&self, edge: usize) -> u32 {
        self.targets[edge]
    }

    /// To which constraints an edge belongs.
    pub fn class(&self, edge: usize) -> Bits {
        self.class_sets[usize::from(self.classes[edge])]
    }

    /// The node from which a node was first reached, [`NO_NODE`] for an initial one: following it gives a shortest path.
    pub fn parent(&self, node: u32) -> u32 {
        self.parents[node as usize]
    }

    /// Bytes that the graph takes, spare capacity included.
    pub fn size_bytes(&self) -> usize {
        self.fingerprints.capacity() * 16
            + (self.parents.capacity()
                + self.levels.capacity()
                + self.offsets.capacity()
                + self.targets.capacity())
                * 4
            + self.classes.capacity() * 2
            + (self.class_sets.capacity() + self.facts.capacity() + self.enabled.capacity()) * 8
    }

    /// The states and actions along a path of nodes that begins with an initial one.
    ///
    /// `wanted` says for each step which action to prefer where several lead to the same state.
    ///
    /// # Panics
    ///
    /// If the model does not reproduce the path: its `actions` or `next_state` are not functions of the state.
    pub fn replay<M>(
        &self,
        model: &M,
        path: &[u32],
        mut wanted: impl FnMut(usize, &Step<'_, M>) -> bool,
    ) -> Replayed<M>
    where
        M: Model,
        M::State: Hash + PartialEq,
        M::Action: Clone,
    {
        let is_at =
            |state: &M::State, node: u32| fingerprint(state) == self.fingerprints[node as usize];
        let initial = || {
            model
                .init_states()
                .into_iter()
                .find(|state| is_at(state, path[0]))
        };
        let start = initial().expect("the path begins with an initial state");
        let mut steps: Vec<(M::Action, M::State)> = Vec::new();
        for (at, pair) in path.windows(2).enumerate() {
            let before = steps.last().map_or(&start, |(_, state)| state);
            let mut actions = Vec::new();
            model.actions(before, &mut actions);
            let mut found = None;
            for action in actions {
                let Some(after) = model.next_state(before, action.clone()) else {
                    continue;
                };
                if !is_at(&after, pair[1]) {
                    continue;
                }
                let step = Step {
                    from: pair[0],
                    to: pair[1],
                    before,
                    action: &action,
                    after: &after,
                };
                let best = wanted(at, &step);
                if best || found.is_none() {
                    found = Some((action, after));
                }
                if best {
                    break;
                }
            }
            steps.push(found.expect("the model gives the same steps again"));
        }
        (start, steps)
    }

    fn close_offsets(&mut self, nodes: usize) {
        // States without steps never opened an edge list.
        self.offsets.resize(nodes + 1, self.targets.len() as u32);
        self.enabled.resize(nodes, 0);
        self.offsets.shrink_to_fit();
        self.targets.shrink_to_fit();
        self.classes.shrink_to_fit();
    }

    fn find_levels(&mut self) {
        let mut level_of_next = 0;
        for node in 0..self.parents.len() as u32 {
            let parent = self.parents[node as usize];
            // A node whose parent lies in the newest level opens a level of its own.
            let opens = if parent == NO_NODE {
                node == 0
            } else {
                parent >= level_of_next
            };
            if opens {
                level_of_next = node;
                self.levels.push(node);
            }
        }
        assert_eq!(
            self.levels.len(),
            self.counts.depth as usize,
            "levels by parent equal levels by queue"
        );
    }

    fn class_number(&mut self, class: Bits) -> Result<u16, Unfinished> {
        // Few sets occur, the same ones again and again: a linear search from the front is cheapest.
        if let Some(known) = self.class_sets.iter().position(|&set| set == class) {
            return Ok(known as u16);
        }
        let number =
            u16::try_from(self.class_sets.len()).map_err(|_| Unfinished::TooManyClasses)?;
        self.class_sets.push(class);
        Ok(number)
    }
}

struct Keeper<F, C> {
    graph: Graph,
    facts: F,
    classes: C,
}

impl<M, F, C> Observer<M> for Keeper<F, C>
where
    M: Model,
    F: FnMut(&M::State) -> Bits,
    C: FnMut(&Step<'_, M>) -> Bits,
{
    fn enter(&mut self, node: u32, parent: u32, state: &M::State) -> Result<(), Unfinished> {
        assert_eq!(node as usize, self.graph.parents.len());
        self.graph.parents.push(parent);
        self.graph.facts.push((self.facts)(state));
        Ok(())
    }

    fn step(&mut self, step: &Step<'_, M>) -> Result<(), Unfinished> {
        let class = (self.classes)(step);
        let graph = &mut self.graph;
        let edges = u32::try_from(graph.targets.len()).map_err(|_| Unfinished::TooManySteps)?;
        graph
            .offsets
            .resize(graph.offsets.len().max(step.from as usize + 1), edges);
        graph.enabled.resize(graph.offsets.len(), 0);
        graph.enabled[step.from as usize] |= class;
        if step.to != NO_NODE {
            let class = graph.class_number(class)?;
            graph.targets.push(step.to);
            graph.classes.push(class);
        }
        Ok(())
    }
}
