//! The transaction dependency graph, its strongly connected components, and the shortest cycle of each class.
//!
//! Every class of cycle is first *decided* in linear time, by Tarjan's algorithm on nested edge sets: write
//! dependencies (G0), with read dependencies (G1c), the product of the graph with one bit "the last edge was
//! an anti-dependency" (G-single and G-nonadjacent, hence snapshot isolation: Cerone, Gotsman, PODC 2016), all
//! edges (G2); then all of these with session edges, and with real-time edges. Only inside a component is a
//! shortest cycle searched, breadth first, within a budget of steps: when it runs out, the cycle that is
//! reported is a cycle of its class still, though maybe not the shortest.
//!
//! Real time is an interval order, and never stored as pairs: each completion is a *barrier* node that leads
//! to the next barrier and to the transactions invoked before that. As interval orders hold no two independent
//! pairs (a < b and c < d imply a < d or c < b: Fishburn 1970), a shortest cycle has at most one real-time edge.

use std::collections::BTreeMap;

use super::history::{History, NEVER, Status, TxnId};
use super::{AnomalyKind, Boundary, Model, Options};

/// The kind of an edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EdgeKind {
    /// Write dependency.
    Ww,
    /// Read dependency.
    Wr,
    /// Anti-dependency.
    Rw,
    /// Session order.
    Process,
    /// Out of an auxiliary node: continues the edge that led into it.
    Through,
    /// Real-time order.
    Realtime,
}

impl EdgeKind {
    const ALL: [EdgeKind; 6] = [
        EdgeKind::Ww,
        EdgeKind::Wr,
        EdgeKind::Rw,
        EdgeKind::Process,
        EdgeKind::Through,
        EdgeKind::Realtime,
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

const WW: u8 = 1 << EdgeKind::Ww as u8;
const WR: u8 = 1 << EdgeKind::Wr as u8;
const RW: u8 = 1 << EdgeKind::Rw as u8;
const PROCESS: u8 = 1 << EdgeKind::Process as u8;
const THROUGH: u8 = 1 << EdgeKind::Through as u8;
const REALTIME: u8 = 1 << EdgeKind::Realtime as u8;

const NODE_BITS: u32 = 29;
const NODE_MASK: u32 = (1 << NODE_BITS) - 1;
const NONE: u32 = u32::MAX;

/// An edge of a cycle between two transactions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edge {
    /// Comes first.
    pub from: TxnId,
    /// Comes after.
    pub to: TxnId,
    /// Why.
    pub kind: EdgeKind,
}

/// Collects the edges of a [`Graph`].
#[derive(Clone)]
pub struct GraphBuilder {
    nodes: u32,
    edges: Vec<(u32, u32)>,
    counts: [u64; 6],
}

impl GraphBuilder {
    /// A graph of `txns` transactions, the nodes from 0.
    pub fn new(txns: usize) -> Self {
        GraphBuilder {
            nodes: u32::try_from(txns).expect("fewer than 2^29 transactions"),
            edges: Vec::new(),
            counts: [0; 6],
        }
    }

    /// A node that stands for a set of edges: one that leads into it continues along each
    /// [`EdgeKind::Through`] out of it.
    pub fn auxiliary(&mut self) -> u32 {
        self.nodes += 1;
        self.nodes - 1
    }

    /// Adds an edge; a loop is none.
    pub fn add(&mut self, from: u32, to: u32, kind: EdgeKind) {
        if from != to {
            self.counts[kind as usize] += 1;
            self.edges.push((from, (kind as u32) << NODE_BITS | to));
        }
    }

    /// How many edges were added.
    pub fn edge_count(&self) -> usize {
        self.edges.len()
    }

    /// How many edges of a kind were added.
    pub fn count(&self, kind: EdgeKind) -> u64 {
        self.counts[kind as usize]
    }

    /// The graph, with session and real-time order of those transactions that are `live`.
    pub fn finish(mut self, history: &History, live: impl Fn(TxnId) -> bool) -> Graph {
        self.add_sessions(history, &live);
        let txns = history.len() as u32;
        assert!(self.nodes < NODE_MASK, "fewer than 2^29 nodes");
        let mut start = vec![0u32; self.nodes as usize + 2];
        for &(from, _) in &self.edges {
            start[from as usize + 2] += 1;
        }
        for at in 2..start.len() {
            start[at] += start[at - 1];
        }
        let mut targets = vec![0u32; self.edges.len()];
        for &(from, target) in &self.edges {
            let slot = &mut start[from as usize + 1];
            targets[*slot as usize] = target;
            *slot += 1;
        }
        start.pop();
        Graph {
            txns,
            nodes: self.nodes,
            start,
            targets,
            realtime: Realtime::of(history, live),
        }
    }

    /// Links the transactions of each session. One that is indeterminate may take effect at any later time, so
    /// nothing of its session follows it.
    fn add_sessions(&mut self, history: &History, live: &impl Fn(TxnId) -> bool) {
        let mut sessions: BTreeMap<u64, Vec<TxnId>> = BTreeMap::new();
        for txn in by_instant(history, live, |id| history.header(id).invoke) {
            let process = history.header(txn).process;
            sessions.entry(process).or_default().push(txn);
        }
        for session in sessions.values() {
            let done = |txn: &&TxnId| history.header(**txn).status == Status::Ok;
            let precedes =
                |a: TxnId, b: TxnId| history.header(a).complete < history.header(b).invoke;
            let mut last = None;
            let mut links = Vec::new();
            for txn in session {
                links.extend(last.map(|last| (last, *txn)));
                last = Some(txn).filter(done).copied().or(last);
            }
            if links.iter().all(|&(a, b)| precedes(a, b)) {
                for (a, b) in links {
                    self.add(a, b, EdgeKind::Process);
                }
            } else {
                self.add_overlapping(history, session);
            }
        }
    }

    /// Orders a session whose transactions overlap, or touch at an instant: by barriers, as for real time.
    fn add_overlapping(&mut self, history: &History, session: &[TxnId]) {
        let complete = |txn: TxnId| history.header(txn).complete;
        let done =
            |txn: &TxnId| history.header(*txn).status == Status::Ok && complete(*txn) != NEVER;
        let mut completed: Vec<TxnId> = session.iter().copied().filter(done).collect();
        completed.sort_by_key(|&txn| complete(txn));
        let barriers: Vec<u32> = completed.iter().map(|_| self.auxiliary()).collect();
        for (&txn, &barrier) in completed.iter().zip(&barriers) {
            self.add(txn, barrier, EdgeKind::Process);
        }
        for pair in barriers.windows(2) {
            self.add(pair[0], pair[1], EdgeKind::Through);
        }
        for &txn in session {
            let invoke = history.header(txn).invoke;
            let before = completed.partition_point(|&other| complete(other) < invoke);
            if let Some(&barrier) = before.checked_sub(1).and_then(|at| barriers.get(at)) {
                self.add(barrier, txn, EdgeKind::Through);
            }
        }
    }
}

/// The live transactions, in the order of an instant.
fn by_instant(
    history: &History,
    live: &impl Fn(TxnId) -> bool,
    instant: impl Fn(TxnId) -> u64,
) -> Vec<TxnId> {
    let mut order: Vec<TxnId> = (0..history.len() as u32).filter(|&id| live(id)).collect();
    if !order.is_sorted_by_key(|&id| instant(id)) {
        order.sort_by_cached_key(|&id| instant(id));
    }
    order
}

/// Real-time order, by barriers.
struct Realtime {
    /// Of each transaction, the barrier at its completion.
    barrier: Vec<u32>,
    /// `order[first[b]..first[b + 1]]` were invoked after barrier `b` and not after the next.
    first: Vec<u32>,
    order: Vec<TxnId>,
    /// Instants of invocation and completion.
    span: Vec<(u64, u64)>,
}

impl Realtime {
    fn of(history: &History, live: impl Fn(TxnId) -> bool) -> Self {
        let done = |id: TxnId| {
            let header = history.header(id);
            header.status == Status::Ok && header.complete != NEVER && live(id)
        };
        let completed = by_instant(history, &done, |id| history.header(id).complete);
        let mut order = by_instant(history, &live, |id| history.header(id).invoke);
        let mut barrier = vec![NONE; history.len()];
        let mut first = Vec::with_capacity(completed.len() + 1);
        let mut at = 0;
        for (index, &id) in completed.iter().enumerate() {
            barrier[id as usize] = index as u32;
            let complete = history.header(id).complete;
            while at < order.len() && history.header(order[at]).invoke <= complete {
                at += 1;
            }
            first.push(at as u32);
        }
        first.push(order.len() as u32);
        order.shrink_to_fit();
        let span = |id| {
            let header = history.header(id);
            (
                header.invoke,
                if done(id) { header.complete } else { NEVER },
            )
        };
        Realtime {
            barrier,
            first,
            order,
            span: (0..history.len() as u32).map(span).collect(),
        }
    }
}

/// A dependency graph: transactions, then auxiliary nodes, then barriers.
pub struct Graph {
    txns: u32,
    nodes: u32,
    start: Vec<u32>,
    targets: Vec<u32>,
    realtime: Realtime,
}

impl Graph {
    fn node_count(&self) -> usize {
        self.nodes as usize + self.realtime.first.len() - 1
    }

    /// The `k`th edge out of a node.
    #[inline]
    fn successor(&self, node: u32, k: u32) -> Option<(u32, EdgeKind)> {
        let Some(barrier) = node.checked_sub(self.nodes) else {
            let at = self.start[node as usize] + k;
            let end = self.start[node as usize + 1];
            if at < end {
                let target = self.targets[at as usize];
                let kind = EdgeKind::ALL[(target >> NODE_BITS) as usize];
                return Some((target & NODE_MASK, kind));
            }
            let has_barrier = at == end && node < self.txns;
            let barrier = has_barrier.then(|| self.realtime.barrier[node as usize])?;
            return (barrier != NONE).then(|| (self.nodes + barrier, EdgeKind::Realtime));
        };
        if k == 0 && (barrier as usize) + 2 < self.realtime.first.len() {
            return Some((node + 1, EdgeKind::Through));
        }
        let last = (barrier as usize) + 2 >= self.realtime.first.len();
        let at = self.realtime.first[barrier as usize] + k - u32::from(!last);
        let end = self.realtime.first[barrier as usize + 1];
        (at < end).then(|| (self.realtime.order[at as usize], EdgeKind::Through))
    }

    fn edges(&self, node: u32) -> impl Iterator<Item = (u32, EdgeKind)> {
        (0..).map_while(move |k| self.successor(node, k))
    }

    /// Did `first` complete before `second` was invoked?
    fn precedes(&self, first: TxnId, second: TxnId) -> bool {
        self.realtime.span[first as usize].1 < self.realtime.span[second as usize].0
    }

    /// The components of two or more transactions under all edges, each sorted.
    pub fn components(&self) -> Vec<Vec<u32>> {
        let all = Restriction {
            mask: !0,
            mode: Mode::Any,
            within: None,
        };
        let roots = 0..self.nodes;
        let mut tarjan = Tarjan::new(self.node_count());
        tarjan.run(self, &all, roots)
    }
}

/// The part of a graph that a search may use.
struct Restriction<'a> {
    mask: u8,
    /// How anti-dependencies may occur; if that depends on the edge before, states are `2 * node + automaton state`.
    mode: Mode,
    /// The component of each node, and the one to stay in.
    within: Option<(&'a [u32], u32)>,
}

impl Restriction<'_> {
    fn admits(&self, node: u32) -> bool {
        self.within
            .is_none_or(|(of, component)| of[node as usize] == component)
    }

    /// The `k`th successor state, which may be none although more follow.
    #[inline]
    fn step(&self, graph: &Graph, state: u32, k: u32) -> Option<Option<u32>> {
        let doubled = self.mode.doubles();
        let (node, bit) = match doubled {
            true => (state >> 1, state & 1 == 1),
            false => (state, false),
        };
        let (to, kind) = graph.successor(node, k)?;
        if self.mask & kind.bit() == 0 || !self.admits(to) {
            return Some(None);
        }
        if !doubled {
            return Some(Some(to));
        }
        let next = self.mode.step(bit, kind);
        Some(next.map(|bit| to << 1 | u32::from(bit)))
    }
}

/// Tarjan's algorithm with an explicit stack. The arrays outlive a run: states visited once stay visited,
/// until [`Tarjan::forget`].
struct Tarjan {
    /// 0 is unvisited; afterwards the low link, or `DONE`.
    low: Vec<u32>,
    next: u32,
    stack: Vec<u32>,
    calls: Vec<(u32, u32, u32)>,
}

const DONE: u32 = u32::MAX;

impl Tarjan {
    fn new(states: usize) -> Self {
        Tarjan {
            low: vec![0; states],
            next: 1,
            stack: Vec::new(),
            calls: Vec::new(),
        }
    }

    fn forget(&mut self, states: impl Iterator<Item = u32>) {
        for state in states {
            self.low[state as usize] = 0;
        }
        self.next = 1;
    }

    /// The components with more than one state, each sorted.
    fn run(
        &mut self,
        graph: &Graph,
        part: &Restriction,
        roots: impl Iterator<Item = u32>,
    ) -> Vec<Vec<u32>> {
        let mut components = Vec::new();
        for root in roots {
            if self.low[root as usize] == 0 {
                self.visit(graph, part, root, &mut components);
            }
        }
        components
    }

    fn visit(
        &mut self,
        graph: &Graph,
        part: &Restriction,
        root: u32,
        components: &mut Vec<Vec<u32>>,
    ) {
        self.open(root);
        while let Some(&mut (state, ref mut k, index)) = self.calls.last_mut() {
            let step = part.step(graph, state, *k);
            *k += 1;
            match step {
                Some(None) => {}
                Some(Some(to)) => match self.low[to as usize] {
                    0 => self.open(to),
                    DONE => {}
                    low => {
                        let mine = &mut self.low[state as usize];
                        *mine = (*mine).min(low);
                    }
                },
                None => self.close(state, index, components),
            }
        }
    }

    fn open(&mut self, state: u32) {
        self.low[state as usize] = self.next;
        self.stack.push(state);
        self.calls.push((state, 0, self.next));
        self.next += 1;
    }

    fn close(&mut self, state: u32, index: u32, components: &mut Vec<Vec<u32>>) {
        self.calls.pop();
        let low = self.low[state as usize];
        if let Some(&(caller, _, _)) = self.calls.last() {
            let callers = &mut self.low[caller as usize];
            *callers = (*callers).min(low);
        }
        if low < index {
            return;
        }
        let at = self.stack.iter().rposition(|&s| s == state);
        let at = at.expect("an open state is on the stack");
        for &member in &self.stack[at..] {
            self.low[member as usize] = DONE;
        }
        if self.stack.len() - at > 1 {
            let mut component = self.stack[at..].to_vec();
            component.sort_unstable();
            components.push(component);
        }
        self.stack.truncate(at);
    }
}

/// Which edges beyond the data dependencies a cycle may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// None.
    Data,
    /// Session order.
    Process,
    /// Real-time order, which holds that of sessions.
    Realtime,
}

/// How anti-dependencies may occur on a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    /// Write dependencies only.
    G0,
    /// No anti-dependency.
    G1c,
    /// None adjacent.
    Nonadjacent,
    /// Each right after a read dependency. Prefix consistency (Cerone, Bernardi, Gotsman, CONCUR 2015) gives every
    /// transaction a snapshot, a prefix of one commit order: a read dependency says that the writer committed before the
    /// reader's snapshot, an anti-dependency that the reader's snapshot came before the overwriter's commit, a write
    /// dependency orders two commits, and a transaction's snapshot comes before its commit. These orders of instants
    /// are acyclic if and only if such an execution exists, and only a read dependency leads to a snapshot.
    Prefix,
    /// Any.
    G2,
}

const ORDERS: [Order; 3] = [Order::Data, Order::Process, Order::Realtime];
const CLASSES: [Class; 4] = [Class::G0, Class::G1c, Class::Nonadjacent, Class::G2];

impl Class {
    fn mask(self, order: Order) -> u8 {
        let data = match self {
            Class::G0 => WW,
            Class::G1c => WW | WR,
            Class::Nonadjacent | Class::Prefix | Class::G2 => WW | WR | RW,
        };
        THROUGH
            | data
            | match order {
                Order::Data => 0,
                Order::Process => PROCESS,
                Order::Realtime => REALTIME,
            }
    }

    /// The automaton whose product with the graph decides the class, given its edges.
    fn mode(self) -> Mode {
        match self {
            Class::Nonadjacent => Mode::Alternate,
            Class::Prefix => Mode::Snapshot,
            Class::G0 | Class::G1c | Class::G2 => Mode::Any,
        }
    }
}

/// A cycle and its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cycle {
    /// The anomaly that it is.
    pub kind: AnomalyKind,
    /// The edges: each one's `to` is the next one's `from`, around.
    pub edges: Vec<Edge>,
}

impl Cycle {
    /// The weakest models that the cycle contradicts: those that forbid its kind, prefix consistency (see the class of
    /// that name), and update serializability (PL-3U: Hansdah and Patnaik 1986; Adya, section 4.3) if no two
    /// transactions on it only read.
    pub(super) fn refutes(&self, is_update: impl Fn(TxnId) -> bool) -> Vec<Model> {
        let mut refuted = self.kind.refutes();
        if self.is_of_data() {
            let readers = self.edges.iter().filter(|edge| !is_update(edge.from));
            let prefix = Mode::Snapshot
                .admits(&self.edges)
                .then_some(Model::PrefixNoSession);
            let update = (readers.count() < 2).then_some(Model::UpdateSerializable);
            refuted.extend(prefix.into_iter().chain(update));
        }
        Boundary::of(refuted, []).violated
    }

    fn is_of_data(&self) -> bool {
        let is_time = |edge: &Edge| matches!(edge.kind, EdgeKind::Process | EdgeKind::Realtime);
        !self.edges.iter().any(is_time)
    }
}

/// What [`cycles`] found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cycles {
    /// The shortest cycle of each component and class that is not implied by a worse one in it, and two transactions that
    /// overwrote what the other read, beside it; then one that refutes prefix consistency and one that refutes update
    /// serializability, if there are such and none before does.
    pub found: Vec<Cycle>,
    /// Models that the budget did not suffice to decide.
    pub open: Vec<Model>,
    /// Was the budget spent, so that some cycle is not the shortest or not of the worst class?
    pub exhausted: bool,
    /// The sets of transactions that may lie on one cycle of data dependencies with one anti-dependency, if there may be
    /// such a cycle.
    pub(super) skewed: Vec<Vec<TxnId>>,
}

/// Finds a cycle for each class and component. `is_update` tells who wrote.
pub fn cycles(graph: &Graph, options: &Options, is_update: impl Fn(TxnId) -> bool) -> Cycles {
    let components = graph.components();
    if components.is_empty() {
        return Cycles::default();
    }
    let mut search = Search::new(graph, options.steps_max);
    for component in &components {
        search.component(component);
    }
    search
        .out
        .found
        .sort_by_key(|cycle| (cycle.kind, cycle.edges.len()));
    search.unless_refuted(Model::PrefixNoSession, &components, &is_update);
    search.unless_refuted(Model::UpdateSerializable, &components, &is_update);
    search.skewed(&components);
    search.out
}

struct Search<'g> {
    graph: &'g Graph,
    tarjan: Tarjan,
    /// The innermost component of each node, while it is searched.
    within: Vec<u32>,
    components: u32,
    paths: Paths,
    steps_left: u64,
    out: Cycles,
}

/// A component under the edges of one class and order.
struct Part {
    class: Class,
    order: Order,
    /// Sorted; of the form `2 * node + last_was_rw` if the class is [`Class::Nonadjacent`].
    states: Vec<u32>,
    /// The mark of its nodes in [`Search::within`].
    id: u32,
}

impl Part {
    fn nodes(&self) -> Vec<u32> {
        let shift = u32::from(self.class.mode().doubles());
        let mut nodes: Vec<u32> = self.states.iter().map(|&state| state >> shift).collect();
        nodes.dedup();
        nodes
    }

    /// Can the anti-dependency be an edge of a cycle of the class?
    fn holds_rw(&self, edge: &Edge) -> bool {
        let (before, after) = match self.class {
            Class::Nonadjacent => (0, 1),
            Class::Prefix => (1, 0),
            _ => return true,
        };
        let holds = |state| self.states.binary_search(&state).is_ok();
        holds(2 * edge.from + before) && holds(2 * edge.to + after)
    }
}

impl<'g> Search<'g> {
    fn new(graph: &'g Graph, steps_max: u64) -> Self {
        let nodes = graph.node_count();
        Search {
            graph,
            tarjan: Tarjan::new(2 * nodes),
            within: vec![NONE; nodes],
            components: 0,
            paths: Paths::new(nodes),
            steps_left: steps_max,
            out: Cycles::default(),
        }
    }

    /// Searches one component of the whole graph.
    fn component(&mut self, nodes: &[u32]) {
        let from = self.out.found.len();
        for order in ORDERS {
            for class in CLASSES {
                for states in self.split(nodes, class, order) {
                    let mut part = Part {
                        class,
                        order,
                        states,
                        id: 0,
                    };
                    part.id = self.claim(&part.nodes());
                    if !self.is_implied(from, &part, name(class, order)) {
                        self.search(from, &part);
                    }
                }
            }
        }
        let mut found = self.out.found[from..].iter();
        if found.all(|cycle| cycle.kind != AnomalyKind::G2Item)
            && let Some(edges) = self.mutual_rw(nodes)
        {
            let kind = AnomalyKind::WriteSkew;
            self.out.found.push(Cycle { kind, edges });
        }
    }

    /// Where cycles with one anti-dependency may be.
    fn skewed(&mut self, components: &[Vec<u32>]) {
        let of_one = |cycle: &Cycle| cycle.kind == AnomalyKind::GSingle;
        if !self.out.exhausted && !self.out.found.iter().any(of_one) {
            return;
        }
        let txns = self.graph.txns;
        for nodes in components {
            for states in self.split(nodes, Class::Nonadjacent, Order::Data) {
                let mut part: Vec<TxnId> = states.iter().map(|state| state >> 1).collect();
                part.retain(|&node| node < txns);
                part.dedup();
                self.out.skewed.push(part);
            }
        }
    }

    /// Adds a cycle that refutes the model, if there is one and none so far does.
    fn unless_refuted(
        &mut self,
        model: Model,
        components: &[Vec<u32>],
        is_update: &impl Fn(TxnId) -> bool,
    ) {
        let refutes = |cycle: &Cycle| {
            let mut refuted = cycle.refutes(is_update).into_iter();
            refuted.any(|weakest| model.implies(weakest))
        };
        if self.out.found.iter().any(refutes) {
            return;
        }
        let cycle = components.iter().find_map(|nodes| match model {
            Model::PrefixNoSession => self.shortest_of(nodes, Class::Prefix),
            _ => self.of_updates(nodes, is_update),
        });
        if let Some(edges) = cycle {
            let kind = classify(&edges).expect("a cycle");
            let cycle = Cycle { kind, edges };
            assert!(refutes(&cycle), "{model}: {cycle:?}");
            self.out.found.push(cycle);
        }
    }

    /// A shortest cycle of a class of data dependencies inside `nodes`.
    fn shortest_of(&mut self, nodes: &[u32], class: Class) -> Option<Vec<Edge>> {
        let states = self.split(nodes, class, Order::Data).into_iter().next()?;
        let mut part = Part {
            class,
            order: Order::Data,
            states,
            id: 0,
        };
        part.id = self.claim(&part.nodes());
        self.through(&part, &[class.mode()])
    }

    /// A cycle of transactions of which one at most only read.
    fn of_updates(
        &mut self,
        nodes: &[u32],
        is_update: &impl Fn(TxnId) -> bool,
    ) -> Option<Vec<Edge>> {
        let txns = self.graph.txns;
        let (updates, readers): (Vec<u32>, Vec<u32>) =
            (nodes.iter()).partition(|&&node| node >= txns || is_update(node));
        let among = self.shortest_of(&updates, Class::G2);
        if among.is_some() {
            return among;
        }
        let id = self.claim(&updates);
        readers.into_iter().find_map(|reader| {
            let before = std::mem::replace(&mut self.within[reader as usize], id);
            let found = self.around(reader, id);
            self.within[reader as usize] = before;
            found
        })
    }

    /// A shortest cycle through a transaction that only read, inside the part marked `id`.
    fn around(&mut self, reader: TxnId, id: u32) -> Option<Vec<Edge>> {
        let within = |node: u32| self.within[node as usize] == id;
        let edges = self.graph.edges(reader);
        let seeds: Vec<u32> = edges
            .filter(|&(to, kind)| kind == EdgeKind::Rw && within(to))
            .map(|(to, _)| to)
            .collect();
        let paths = seeds.into_iter().filter_map(|seed| {
            if self.steps_left == 0 {
                self.out.exhausted = true;
                self.leave_open(Model::UpdateSerializable);
                return None;
            }
            let goal = Goal {
                from: seed,
                was_rw: false,
                to: Target::Txn(reader),
                mask: Class::G2.mask(Order::Data),
                mode: Mode::Any,
            };
            let found = (self.paths).find(self.graph, (&self.within, id), &goal, u32::MAX);
            self.steps_left = self.steps_left.saturating_sub(self.paths.steps);
            match found {
                Outcome::Found(path) => Some(path),
                _ => None,
            }
        });
        let path = paths.min_by_key(Vec::len)?;
        Some(closed(reader, EdgeKind::Rw, path))
    }

    /// Two transactions that overwrote what the other read, told by edges between the two: the one sort of G2-item that
    /// shows beside a worse cycle without a search for disjoint paths.
    fn mutual_rw(&self, nodes: &[u32]) -> Option<Vec<Edge>> {
        let txns = self.graph.txns;
        let from = nodes.iter().copied().filter(|&node| node < txns);
        let mut pairs: Vec<(TxnId, TxnId)> = from
            .flat_map(|from| {
                let edges = self.graph.edges(from);
                let rw = edges.filter(|&(to, kind)| kind == EdgeKind::Rw && to < txns);
                rw.map(move |(to, _)| (from, to))
            })
            .collect();
        pairs.sort_unstable();
        let mutual =
            |&&(from, to): &&(TxnId, TxnId)| from < to && pairs.binary_search(&(to, from)).is_ok();
        let &(one, other) = pairs.iter().find(mutual)?;
        let rw = |from, to| Edge {
            from,
            to,
            kind: EdgeKind::Rw,
        };
        Some(vec![rw(one, other), rw(other, one)])
    }

    /// Notes that the budget did not suffice to decide the model.
    fn leave_open(&mut self, model: Model) {
        if !self.out.open.contains(&model) {
            self.out.open.push(model);
        }
    }

    /// The components inside `nodes` of one class of edges, as sorted lists of states.
    fn split(&mut self, nodes: &[u32], class: Class, order: Order) -> Vec<Vec<u32>> {
        let id = self.claim(nodes);
        let part = Restriction {
            mask: class.mask(order),
            mode: class.mode(),
            within: Some((&self.within, id)),
        };
        let states = |&node: &u32| match part.mode.doubles() {
            true => [2 * node, 2 * node + 1],
            false => [node, node],
        };
        let states = nodes.iter().flat_map(states);
        self.tarjan.forget(states.clone());
        self.tarjan.run(self.graph, &part, states)
    }

    /// Marks the nodes as one component.
    fn claim(&mut self, nodes: &[u32]) -> u32 {
        self.components += 1;
        for &node in nodes {
            self.within[node as usize] = self.components;
        }
        self.components
    }

    /// Does a cycle found inside this component (since `from`) imply the kind already?
    fn is_implied(&self, from: usize, part: &Part, kind: AnomalyKind) -> bool {
        let inside = |edge: &Edge| self.within[edge.from as usize] == part.id;
        let mut found = self.out.found[from..].iter();
        found.any(|cycle| cycle.kind.implies(kind) && cycle.edges.iter().all(inside))
    }

    fn search(&mut self, from: usize, part: &Part) {
        let modes: &[Mode] = match (part.class, part.order) {
            (Class::G0 | Class::G1c, _) => &[Mode::NoRw],
            (Class::Nonadjacent, Order::Realtime) => &[Mode::OneRw, Mode::Alternate],
            (Class::Nonadjacent, _) => &[Mode::NoRw, Mode::Alternate],
            (Class::Prefix, _) => &[Mode::Snapshot],
            (Class::G2, _) => &[Mode::Any],
        };
        let cycle = match part.order {
            Order::Realtime => self.realtime(part, modes),
            _ => self.through(part, modes),
        };
        // A walk that visits a transaction twice holds a cycle of a worse class, which has been found.
        if let Some(edges) = cycle
            && let Some(kind) = classify(&edges)
            && !self.is_implied(from, part, kind)
        {
            self.out.found.push(Cycle { kind, edges });
        }
    }

    /// The shortest cycle through an edge that every cycle of the class must have.
    fn through(&mut self, part: &Part, modes: &[Mode]) -> Option<Vec<Edge>> {
        let needed = match (part.class, part.order) {
            (Class::Nonadjacent | Class::Prefix | Class::G2, _) => RW,
            (_, Order::Process) => PROCESS,
            (Class::G1c, _) => WR,
            _ => WW,
        };
        let mut seeds = self.edges_inside(part, needed);
        seeds.retain(|seed| part.holds_rw(seed));
        let first = *seeds.first()?;
        for &mode in modes {
            let goal = |seed: &Edge| Goal {
                from: seed.to,
                was_rw: seed.kind == EdgeKind::Rw && mode == Mode::Alternate,
                to: Target::Txn(seed.from),
                mask: part.class.mask(part.order),
                mode,
            };
            match self.shortest(&seeds, part.id, goal) {
                Attempt::Found(seed, path) => return Some(closed(seed.from, seed.kind, path)),
                Attempt::None => {}
                Attempt::Exhausted => {
                    // A cycle with one anti-dependency may be there, whatever is shown instead.
                    if (part.class, part.order, mode)
                        == (Class::Nonadjacent, Order::Data, Mode::NoRw)
                    {
                        self.leave_open(Model::ConsistentView);
                    }
                    return self.any_cycle(part, first.to);
                }
            }
        }
        None
    }

    /// The shortest cycle with one real-time edge: a path from a transaction to one that completed before
    /// it was invoked.
    fn realtime(&mut self, part: &Part, modes: &[Mode]) -> Option<Vec<Edge>> {
        let mut starts = part.nodes();
        starts.retain(|&node| node < self.graph.txns);
        for &mode in modes {
            let goal = |&start: &u32| Goal {
                from: start,
                was_rw: false,
                to: Target::Before(start),
                mask: part.class.mask(Order::Data),
                mode,
            };
            match self.shortest(&starts, part.id, goal) {
                Attempt::Found(to, mut path) => {
                    let from = path.last().expect("a path has an edge").to;
                    let kind = EdgeKind::Realtime;
                    path.push(Edge { from, to, kind });
                    return Some(path);
                }
                Attempt::None => {}
                Attempt::Exhausted => return self.any_cycle(part, starts[0]),
            }
        }
        None
    }

    /// The edges of the wanted kinds inside a component that leave a transaction; they may end at an auxiliary node.
    fn edges_inside(&self, part: &Part, wanted: u8) -> Vec<Edge> {
        let within = |node: u32| self.within[node as usize] == part.id;
        let mut nodes = part.nodes();
        nodes.retain(|&node| node < self.graph.txns);
        let edges = nodes.into_iter().flat_map(|from| {
            let edges = self.graph.edges(from);
            let wanted = edges.filter(move |&(to, kind)| kind.bit() & wanted != 0 && within(to));
            wanted.map(move |(to, kind)| Edge { from, to, kind })
        });
        edges.collect()
    }

    /// The shortest path over all seeds: tried by growing length, so that the first found is the shortest.
    fn shortest<S: Copy>(&mut self, seeds: &[S], id: u32, goal: impl Fn(&S) -> Goal) -> Attempt<S> {
        let mut open: Vec<S> = seeds.to_vec();
        for length_max in 1.. {
            let mut still_open = Vec::new();
            for seed in open {
                let scope = (self.within.as_slice(), id);
                let found = self.paths.find(self.graph, scope, &goal(&seed), length_max);
                self.steps_left = self.steps_left.saturating_sub(self.paths.steps);
                match found {
                    Outcome::Found(path) => return Attempt::Found(seed, path),
                    Outcome::TooLong => still_open.push(seed),
                    Outcome::NoPath => {}
                }
                if self.steps_left == 0 {
                    self.out.exhausted = true;
                    return Attempt::Exhausted;
                }
            }
            if still_open.is_empty() {
                break;
            }
            open = still_open;
        }
        Attempt::None
    }

    /// Some cycle of the component, in linear time: a walk from a state back to it, shortened.
    fn any_cycle(&mut self, part: &Part, node: u32) -> Option<Vec<Edge>> {
        let mode = part.class.mode();
        let restriction = Restriction {
            mask: part.class.mask(part.order),
            mode,
            within: Some((&self.within, part.id)),
        };
        let states = |state: &u32| part.states.binary_search(state).is_ok();
        let start = match mode.doubles() {
            true => [2 * node + 1, 2 * node].into_iter().find(states)?,
            false => node,
        };
        let walk = closed_walk(self.graph, &restriction, start)?;
        let edges = simple(self.resolve(&walk, &restriction), mode);
        Some(one_realtime_edge(self.graph, edges))
    }

    /// The edges between transactions along a closed walk over states.
    fn resolve(&self, walk: &[u32], part: &Restriction) -> Vec<Edge> {
        let shift = u32::from(part.mode.doubles());
        let is_txn = |state: &u32| state >> shift < self.graph.txns;
        let first = walk.iter().position(is_txn);
        let first = first.expect("transactions on a cycle");
        let around = |at: usize| walk[(first + at) % walk.len()];
        let mut edges: Vec<Edge> = Vec::new();
        let (mut from, mut kind) = (around(0) >> shift, None);
        for at in 0..walk.len() {
            let (state, next) = (around(at), around(at + 1));
            let leads = |k: &u32| part.step(self.graph, state, *k) == Some(Some(next));
            let k = (0..).find(leads).expect("neighbours on a walk");
            let step = self.graph.successor(state >> shift, k);
            kind = kind.or(step.map(|(_, kind)| kind));
            if is_txn(&next) {
                let (to, kind) = (next >> shift, kind.take().expect("set above"));
                edges.push(Edge { from, to, kind });
                from = to;
            }
        }
        edges
    }
}

/// The cycle of an edge and a path back; the edge ends where the path begins.
fn closed(from: TxnId, kind: EdgeKind, mut path: Vec<Edge>) -> Vec<Edge> {
    let to = path.first().expect("a path has an edge").from;
    path.insert(0, Edge { from, to, kind });
    path
}

/// A cycle that visits no transaction twice, out of a closed walk that the automaton admits. Of the two closed walks into
/// which one falls at a transaction that it visits twice the automaton admits at least one.
fn simple(mut walk: Vec<Edge>, mode: Mode) -> Vec<Edge> {
    loop {
        let mut seen = BTreeMap::new();
        let mut edges = walk.iter().enumerate();
        let twice = edges.find_map(|(at, edge)| Some((seen.insert(edge.from, at)?, at)));
        let Some((first, second)) = twice else {
            return walk;
        };
        let inner: Vec<Edge> = walk.drain(first..second).collect();
        if mode.admits(&inner) {
            walk = inner;
        }
    }
}

/// A shortest closed walk through a state, as the states on it.
fn closed_walk(graph: &Graph, part: &Restriction, start: u32) -> Option<Vec<u32>> {
    let mut parent = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(state) = queue.pop_front() {
        for next in (0..).map_while(|k| part.step(graph, state, k)).flatten() {
            if next == start {
                let mut walk = vec![state];
                while *walk.last().expect("not empty") != start {
                    walk.push(parent[walk.last().expect("not empty")]);
                }
                walk.reverse();
                return Some(walk);
            }
            parent.entry(next).or_insert_with(|| {
                queue.push_back(next);
                state
            });
        }
    }
    None
}

/// Shortens a cycle until it holds at most one real-time edge, which interval orders always allow.
fn one_realtime_edge(graph: &Graph, mut edges: Vec<Edge>) -> Vec<Edge> {
    loop {
        let is_realtime = |at: &usize| edges[*at].kind == EdgeKind::Realtime;
        let realtime: Vec<usize> = (0..edges.len()).filter(is_realtime).collect();
        let &[first, second, ..] = realtime.as_slice() else {
            return edges;
        };
        let (a, d) = (edges[first].from, edges[second].to);
        // Cycle: a -> b ~> c -> d ~> a. Either a precedes d, or c precedes b.
        edges = if graph.precedes(a, d) {
            let mut rest = edges.split_off(second + 1);
            rest.extend_from_slice(&edges[..first]);
            rest
        } else {
            edges[first + 1..second].to_vec()
        };
        let (from, to) = match (edges.last(), edges.first()) {
            (Some(last), Some(first)) => (last.to, first.from),
            _ => unreachable!("real-time order alone has no cycle"),
        };
        edges.push(Edge {
            from,
            to,
            kind: EdgeKind::Realtime,
        });
    }
}

/// The name of a class, for the weakest cycle in it.
fn name(class: Class, order: Order) -> AnomalyKind {
    use AnomalyKind::*;
    let names = match class {
        Class::G0 => [G0, G0Process, G0Realtime],
        Class::G1c => [G1c, G1cProcess, G1cRealtime],
        Class::Nonadjacent | Class::Prefix => {
            [GNonadjacent, GNonadjacentProcess, GNonadjacentRealtime]
        }
        Class::G2 => [G2Item, G2ItemProcess, G2ItemRealtime],
    };
    names[order as usize]
}

/// The name of a cycle; none if it visits a transaction twice.
pub fn classify(edges: &[Edge]) -> Option<AnomalyKind> {
    use AnomalyKind::*;
    let mut nodes: Vec<TxnId> = edges.iter().map(|edge| edge.from).collect();
    nodes.sort_unstable();
    if nodes.windows(2).any(|pair| pair[0] == pair[1]) {
        return None;
    }
    let count = |kind| edges.iter().filter(|edge| edge.kind == kind).count();
    let is_rw = |at: usize| edges[at % edges.len()].kind == EdgeKind::Rw;
    let adjacent = (0..edges.len()).any(|at| is_rw(at) && is_rw(at + 1));
    let names = match (count(EdgeKind::Rw), count(EdgeKind::Wr)) {
        (0, 0) => [G0, G0Process, G0Realtime],
        (0, _) => [G1c, G1cProcess, G1cRealtime],
        (1, _) => [GSingle, GSingleProcess, GSingleRealtime],
        _ if !adjacent => [GNonadjacent, GNonadjacentProcess, GNonadjacentRealtime],
        _ => [G2Item, G2ItemProcess, G2ItemRealtime],
    };
    let order = match (count(EdgeKind::Process), count(EdgeKind::Realtime)) {
        (_, 1..) => Order::Realtime,
        (1.., _) => Order::Process,
        _ => Order::Data,
    };
    Some(names[order as usize])
}

/// What a search over many seeds came to.
enum Attempt<S> {
    Found(S, Vec<Edge>),
    None,
    Exhausted,
}

/// How anti-dependencies may occur on a path: an automaton of two states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Not at all.
    NoRw,
    /// Exactly once.
    OneRw,
    /// Nowhere adjacent.
    Alternate,
    /// Only right after a read dependency.
    Snapshot,
    /// Anyhow.
    Any,
}

impl Mode {
    /// The state after an edge; none if the edge is not allowed.
    fn step(self, state: bool, kind: EdgeKind) -> Option<bool> {
        match (self, kind) {
            (_, EdgeKind::Through) => Some(state),
            (Mode::NoRw, EdgeKind::Rw) => None,
            (Mode::OneRw | Mode::Alternate, EdgeKind::Rw) => (!state).then_some(true),
            (Mode::OneRw, _) => Some(state),
            (Mode::Snapshot, EdgeKind::Rw) => state.then_some(false),
            (Mode::Snapshot, _) => Some(kind == EdgeKind::Wr),
            _ => Some(false),
        }
    }

    /// Does what may come next depend on the edge before, so that a component search needs two states a node?
    fn doubles(self) -> bool {
        matches!(self, Mode::Alternate | Mode::Snapshot)
    }

    /// Is the cycle one that goes around for ever?
    fn admits(self, cycle: &[Edge]) -> bool {
        let pairs = (0..cycle.len()).map(|at| (cycle[at].kind, cycle[(at + 1) % cycle.len()].kind));
        pairs.into_iter().all(|pair| match (self, pair) {
            (Mode::Alternate, pair) => pair != (EdgeKind::Rw, EdgeKind::Rw),
            (Mode::Snapshot, (before, EdgeKind::Rw)) => before == EdgeKind::Wr,
            _ => true,
        })
    }
}

enum Target {
    /// This transaction; by an edge that is no anti-dependency, if the path began after one.
    Txn(TxnId),
    /// Any that completed before this one was invoked.
    Before(TxnId),
}

struct Goal {
    /// A transaction, or an auxiliary node behind which the path begins.
    from: u32,
    was_rw: bool,
    to: Target,
    mask: u8,
    mode: Mode,
}

impl Goal {
    fn reached(&self, graph: &Graph, state: u32) -> bool {
        let (node, bit) = (state >> 1, state & 1 == 1);
        match self.to {
            Target::Txn(to) => match self.mode {
                Mode::Snapshot => node == to && bit,
                _ => node == to && !(self.was_rw && bit),
            },
            Target::Before(end) => {
                let exactly_one = self.mode != Mode::OneRw || bit;
                exactly_one && node < graph.txns && graph.precedes(node, end)
            }
        }
    }
}

enum Outcome {
    Found(Vec<Edge>),
    /// None of this length, though there may be a longer one.
    TooLong,
    NoPath,
}

/// Breadth-first search over states `2 * node + automaton state`, with arrays that are reused.
struct Paths {
    /// The search and depth in which a state was first seen.
    seen: Vec<(u32, u32)>,
    parent: Vec<(u32, EdgeKind)>,
    /// Anti-dependencies on the best path to a state.
    cost: Vec<u32>,
    search: u32,
    /// Edges looked at by the last search.
    steps: u64,
}

impl Paths {
    fn new(nodes: usize) -> Self {
        Paths {
            seen: vec![(0, 0); 2 * nodes],
            parent: vec![(NONE, EdgeKind::Through); 2 * nodes],
            cost: vec![0; 2 * nodes],
            search: 0,
            steps: 0,
        }
    }

    /// The shortest path, and of several that with the fewest anti-dependencies.
    fn find(
        &mut self,
        graph: &Graph,
        (within, id): (&[u32], u32),
        goal: &Goal,
        length_max: u32,
    ) -> Outcome {
        (self.search, self.steps) = (self.search + 1, 0);
        let start = 2 * goal.from + u32::from(goal.was_rw);
        self.seen[start as usize] = (self.search, 0);
        (self.parent[start as usize].0, self.cost[start as usize]) = (NONE, 0);
        let mut frontier = vec![start];
        // What is behind an auxiliary node is where the path begins.
        let first = u32::from(goal.from < graph.txns);
        for depth in first..=length_max {
            let mut next = Vec::new();
            let expand = |paths: &mut Paths, state: u32, next: &mut Vec<u32>| {
                for (to, kind) in graph.edges(state >> 1) {
                    paths.steps += 1;
                    if goal.mask & kind.bit() == 0 || within[to as usize] != id {
                        continue;
                    }
                    if let Some(bit) = goal.mode.step(state & 1 == 1, kind) {
                        paths.reach(state, to << 1 | u32::from(bit), kind, depth, next);
                    }
                }
            };
            for &state in &frontier {
                expand(self, state, &mut next);
            }
            let mut at = 0;
            while at < next.len() {
                // Auxiliary nodes cost nothing: what is behind them belongs to the same depth.
                if next[at] >> 1 >= graph.txns {
                    let state = next.swap_remove(at);
                    expand(self, state, &mut next);
                } else {
                    at += 1;
                }
            }
            let reached = next.iter().filter(|&&state| goal.reached(graph, state));
            if let Some(&end) = reached.min_by_key(|&&state| self.cost[state as usize]) {
                return Outcome::Found(self.path(graph, end));
            }
            if next.is_empty() {
                return Outcome::NoPath;
            }
            frontier = next;
        }
        Outcome::TooLong
    }

    fn reach(&mut self, from: u32, to: u32, kind: EdgeKind, depth: u32, next: &mut Vec<u32>) {
        let cost = self.cost[from as usize] + u32::from(kind == EdgeKind::Rw);
        let slot = to as usize;
        let is_new = self.seen[slot].0 != self.search;
        let is_better = self.seen[slot] == (self.search, depth) && cost < self.cost[slot];
        if is_new || is_better {
            self.seen[slot] = (self.search, depth);
            self.parent[slot] = (from, kind);
            self.cost[slot] = cost;
        }
        if is_new {
            next.push(to);
        }
    }

    /// The edges between transactions on the path that ends in a state.
    fn path(&self, graph: &Graph, end: u32) -> Vec<Edge> {
        let mut edges = Vec::new();
        let (mut state, mut to) = (end, end >> 1);
        loop {
            let (from, kind) = self.parent[state as usize];
            if from == NONE {
                edges.reverse();
                return edges;
            }
            state = from;
            if from >> 1 < graph.txns {
                edges.push(Edge {
                    from: from >> 1,
                    to,
                    kind,
                });
                to = from >> 1;
            }
        }
    }
}
