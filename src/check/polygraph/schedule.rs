//! A guess at an order of the transactions, in time linear in the history: one after the other commits, each as soon as
//! what must come before it has come.
//!
//! Transactions come in the order of their completions. Before one of them comes whatever the [edges](Edge) put
//! before it, and before it overwrites a version come the readers of that version, for whose sake others come
//! earlier than they completed. That suffices for most possible histories. Where it does not, something would have to
//! come before itself, and this circle tells what was wrong: at least one of the orders of versions that it
//! rests on. So a conflict is a clause, and one that rests on a single order proves the opposite one.

use super::{Edge, KeyId, NEVER, Pair, Problem};

const NOBODY: u32 = u32::MAX;
/// A schedule is given up when its conflicts have more nodes than this, and than the history.
const CONFLICT_NODES_MAX: usize = 1_000;

/// What the nodes wait for that were fixed before.
#[derive(Clone, Copy)]
pub(super) struct Order<'e> {
    /// Hold in any case.
    pub certain: &'e [Edge],
    /// Are assumed.
    pub assumed: &'e [Edge],
}

/// Something would come before itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Conflict {
    /// At least one of these orders is the other way round.
    pub not_all: Vec<Pair>,
    /// Whether an assumed edge has a part in it.
    pub assumed: bool,
    /// The certain edges that have a part in it, by index.
    pub certain: Vec<u32>,
    /// The nodes on the circle.
    pub nodes: Vec<u32>,
}

/// Why a node waits for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    /// The edge of this index, where assumed edges come after the certain ones.
    Edge(u32),
    /// The pair's first version is there, the other would overwrite it, and a reader has not come yet; or, under
    /// snapshot isolation, the first's writer has taken its snapshot and not committed.
    Overwrites(Pair),
}

/// A node that waits, and what for.
struct Frame {
    node: u32,
    /// Its next incoming edge to look at.
    next_edge: usize,
    /// Why the frame below waits for this one, if there is one.
    reason: Option<Reason>,
}

/// The edges by their targets.
struct Incoming {
    starts: Vec<u32>,
    /// Source, and index of the edge.
    sources: Vec<(u32, u32)>,
}

impl Incoming {
    fn new(nodes: u32, order: Order<'_>) -> Self {
        let mut starts = vec![0u32; nodes as usize + 1];
        let all = || order.certain.iter().chain(order.assumed);
        for edge in all() {
            starts[edge.to as usize + 1] += 1;
        }
        for node in 0..nodes as usize {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut sources = vec![(0, 0); starts[nodes as usize] as usize];
        for (index, edge) in (0u32..).zip(all()) {
            let at = &mut next[edge.to as usize];
            sources[*at as usize] = (edge.from, index);
            *at += 1;
        }
        Incoming { starts, sources }
    }

    fn get(&self, node: u32, at: usize) -> Option<(u32, u32)> {
        let at = self.starts[node as usize] as usize + at;
        (at < self.starts[node as usize + 1] as usize).then(|| self.sources[at])
    }
}

/// Who wrote which version, and who read it; versions are numbered by writer, then key.
struct Versions {
    /// By writer: its first version.
    of: Vec<u32>,
    /// By version: its first reader.
    starts: Vec<u32>,
    /// Those that write the key too come last.
    readers: Vec<u32>,
}

impl Versions {
    fn new(problem: &Problem<'_>) -> Self {
        let mut of = vec![0];
        for place in problem.places() {
            of.push(of[place as usize] + problem.txn(place).writes.len() as u32);
        }
        let count = of[problem.present.len()] as usize;
        let version = |key: KeyId, writer: u32| {
            let writes = &problem.txn(writer).writes;
            let at = writes.binary_search_by_key(&key, |&(key, _)| key);
            of[writer as usize] as usize + at.expect("who is read from wrote")
        };
        let mut read: Vec<(usize, bool, u32)> = Vec::new();
        for (&(key, writer), readers) in &problem.readers {
            let version = version(key, writer);
            let entry = |&reader: &u32| {
                let overwrites = problem.txn(reader).written(key).is_some();
                (version, overwrites, reader)
            };
            read.extend(readers.iter().map(entry));
        }
        read.sort_unstable();
        let mut starts = vec![0u32; count + 1];
        read.iter().for_each(|read| starts[read.0 + 1] += 1);
        for version in 0..count {
            starts[version + 1] += starts[version];
        }
        Versions {
            of,
            starts,
            readers: read.into_iter().map(|read| read.2).collect(),
        }
    }
}

/// A key's state.
#[derive(Clone, Copy)]
struct Current {
    /// Who wrote the version that is there; [`NOBODY`] of the initial one, whose readers' edges are known.
    writer: u32,
    /// Its readers of which it is not known that they have come.
    readers: (u32, u32),
    /// Under snapshot isolation, a writer between its snapshot and its commit.
    holder: u32,
}

struct Scheduler<'p, 'a> {
    problem: &'p Problem<'a>,
    incoming: Incoming,
    certain_count: usize,
    versions: Versions,
    /// By key.
    current: Vec<Current>,
    come: Vec<bool>,
    waiting: Vec<bool>,
    stack: Vec<Frame>,
    events: Vec<u32>,
    conflicts: Vec<Conflict>,
    /// Nodes in all conflicts.
    recorded: usize,
}

/// An order of the nodes, in which each read finds its version; or what stood in the way. `sorted` is a topological order
/// of the edges.
pub(super) fn schedule(
    problem: &Problem<'_>,
    order: Order<'_>,
    sorted: &[u32],
) -> Result<Vec<u32>, Vec<Conflict>> {
    let keys = problem.writers.keys().next_back().map_or(0, |&key| key + 1);
    let nobody = Current {
        writer: NOBODY,
        readers: (0, 0),
        holder: NOBODY,
    };
    let mut scheduler = Scheduler {
        problem,
        incoming: Incoming::new(problem.nodes, order),
        certain_count: order.certain.len(),
        versions: Versions::new(problem),
        current: vec![nobody; keys as usize],
        come: vec![false; problem.nodes as usize],
        waiting: vec![false; problem.nodes as usize],
        stack: Vec::new(),
        events: Vec::with_capacity(sorted.len()),
        conflicts: Vec::new(),
        recorded: 0,
    };
    for node in scheduler.by_urgency(sorted) {
        scheduler.bring(node);
        if scheduler.recorded > CONFLICT_NODES_MAX.max(sorted.len()) {
            break;
        }
    }
    if scheduler.conflicts.is_empty() {
        Ok(scheduler.events)
    } else {
        Err(scheduler.conflicts)
    }
}

impl Scheduler<'_, '_> {
    /// The nodes by the earliest completion of what waits for them, and themselves; of an indeterminate
    /// transaction only that tells when it happened.
    fn by_urgency(&self, sorted: &[u32]) -> Vec<u32> {
        let mut urgency: Vec<u64> = (0..self.problem.nodes)
            .map(|node| match self.place(node) {
                Some(place) => self.problem.txn(place).complete,
                None => NEVER,
            })
            .collect();
        for &node in sorted.iter().rev() {
            let own = urgency[node as usize];
            let mut at = 0;
            while let Some((source, _)) = self.incoming.get(node, at) {
                urgency[source as usize] = urgency[source as usize].min(own);
                at += 1;
            }
        }
        let mut nodes = sorted.to_vec();
        nodes.sort_by_key(|&node| urgency[node as usize]);
        nodes
    }

    /// The transaction that a node belongs to; `None` for a barrier.
    fn place(&self, node: u32) -> Option<u32> {
        let place = if self.problem.level.snapshot {
            node / 2
        } else {
            node
        };
        (place < self.problem.present.len() as u32).then_some(place)
    }

    fn takes_snapshot(&self, node: u32) -> bool {
        !self.problem.level.snapshot || node.is_multiple_of(2)
    }

    fn commits(&self, node: u32) -> bool {
        !self.problem.level.snapshot || !node.is_multiple_of(2)
    }

    /// Lets the node come, and before it what must.
    fn bring(&mut self, node: u32) {
        if self.come[node as usize] {
            return;
        }
        self.wait_for(node, None);
        while let Some(&Frame { node, .. }) = self.stack.last() {
            match self.obstacle(node) {
                Some((other, reason)) if self.waiting[other as usize] => {
                    self.record_conflict(other, reason);
                    // It comes all the same: what else is wrong is worth knowing.
                    self.come_now(node);
                }
                Some((other, reason)) => self.wait_for(other, Some(reason)),
                None => self.come_now(node),
            }
        }
    }

    fn wait_for(&mut self, node: u32, reason: Option<Reason>) {
        self.waiting[node as usize] = true;
        self.stack.push(Frame {
            node,
            next_edge: 0,
            reason,
        });
    }

    /// What must come before the topmost frame's node and has not.
    fn obstacle(&mut self, node: u32) -> Option<(u32, Reason)> {
        let frame = self.stack.last_mut()?;
        while let Some((source, index)) = self.incoming.get(node, frame.next_edge) {
            if !self.come[source as usize] {
                return Some((source, Reason::Edge(index)));
            }
            frame.next_edge += 1;
        }
        let place = self.place(node)?;
        let problem = self.problem;
        let writes = &problem.txn(place).writes;
        writes
            .iter()
            .find_map(|&(key, _)| self.in_use(node, place, key))
    }

    /// Who must come before the node of this transaction, given the version of the key that is there.
    fn in_use(&mut self, node: u32, place: u32, key: KeyId) -> Option<(u32, Reason)> {
        let Current { writer, holder, .. } = self.current[key as usize];
        let overwrites = |first| {
            Reason::Overwrites(Pair {
                key,
                first,
                second: place,
            })
        };
        let held = holder != NOBODY && holder != place && self.takes_snapshot(node);
        if held {
            return Some((self.problem.commit(holder), overwrites(holder)));
        }
        self.drop_readers_that_came(key);
        let (from, to) = self.current[key as usize].readers;
        let waiting = self.versions.readers[from as usize..to as usize].iter();
        let before = waiting
            .filter(|&&reader| reader != place)
            .map(|&reader| self.problem.anti_dependency(reader, place, key))
            .find(|edge| edge.to == node && !self.come[edge.from as usize]);
        before.map(|edge| (edge.from, overwrites(writer)))
    }

    fn drop_readers_that_came(&mut self, key: KeyId) {
        let (mut from, to) = self.current[key as usize].readers;
        let done = |reader: u32| {
            let overwrites = self.problem.txn(reader).written(key).is_some();
            let last = if overwrites {
                self.problem.commit(reader)
            } else {
                self.problem.begin(reader)
            };
            self.come[last as usize]
        };
        while from < to && done(self.versions.readers[from as usize]) {
            from += 1;
        }
        self.current[key as usize].readers.0 = from;
    }

    fn come_now(&mut self, node: u32) {
        self.stack.pop();
        self.waiting[node as usize] = false;
        self.come[node as usize] = true;
        self.events.push(node);
        let Some(place) = self.place(node) else {
            return;
        };
        let commits = self.commits(node);
        let problem = self.problem;
        for (at, &(key, _)) in (0u32..).zip(&problem.txn(place).writes) {
            let current = &mut self.current[key as usize];
            if !commits {
                // After a conflict the commit may have come first.
                if !self.come[problem.commit(place) as usize] {
                    current.holder = place;
                }
                continue;
            }
            let version = (self.versions.of[place as usize] + at) as usize;
            *current = Current {
                writer: place,
                readers: (
                    self.versions.starts[version],
                    self.versions.starts[version + 1],
                ),
                holder: NOBODY,
            };
        }
    }

    /// The topmost frame waits for a node below it.
    fn record_conflict(&mut self, other: u32, reason: Reason) {
        let below = self.stack.iter().rposition(|frame| frame.node == other);
        let circle = &self.stack[below.expect("it waits")..];
        let reasons = circle[1..].iter().filter_map(|frame| frame.reason);
        let (mut not_all, mut certain) = (Vec::new(), Vec::new());
        let mut assumed = false;
        for reason in reasons.chain([reason]) {
            match reason {
                Reason::Overwrites(pair) => not_all.push(pair),
                Reason::Edge(index) if (index as usize) < self.certain_count => certain.push(index),
                Reason::Edge(_) => assumed = true,
            }
        }
        not_all.sort_unstable();
        not_all.dedup();
        self.recorded += circle.len();
        self.conflicts.push(Conflict {
            not_all,
            assumed,
            certain,
            nodes: circle.iter().map(|frame| frame.node).collect(),
        });
    }
}
