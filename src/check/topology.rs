//! A topological order that follows the arcs as they come (Pearce, Kelly, *A Dynamic Topological Sort Algorithm
//! for Directed Acyclic Graphs*, ACM JEA 11, 2006): an arc that agrees with the order costs nothing, one that
//! does not costs a walk through the nodes between its ends, and one that closes a cycle is refused with it.

use std::collections::VecDeque;

/// Arcs and a topological order of their nodes.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    /// By node: target and index of each arc that leaves it.
    out: Vec<Vec<(u32, u32)>>,
    /// By node: source of each arc that enters it.
    into: Vec<Vec<u32>>,
    order: Vec<u32>,
    /// By node: its index in `order`.
    position: Vec<u32>,
    /// By node: visited in the round of this number.
    mark: Vec<u64>,
    round: u64,
}

impl Topology {
    /// So many nodes, in the order of their numbers, and no arc.
    pub fn new(nodes: u32) -> Self {
        let count = nodes as usize;
        Self {
            out: vec![Vec::new(); count],
            into: vec![Vec::new(); count],
            order: (0..nodes).collect(),
            position: (0..nodes).collect(),
            mark: vec![0; count],
            round: 0,
        }
    }

    /// The number of nodes.
    pub fn nodes(&self) -> u32 {
        self.order.len() as u32
    }

    /// Another node, behind all others; its number.
    pub fn add_node(&mut self) -> u32 {
        let node = self.nodes();
        self.out.push(Vec::new());
        self.into.push(Vec::new());
        self.order.push(node);
        self.position.push(node);
        self.mark.push(0);
        node
    }

    /// The nodes in topological order.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// The arcs out of a node: target and index.
    pub fn out_of(&self, node: u32) -> &[(u32, u32)] {
        &self.out[node as usize]
    }

    /// The sources of the arcs into a node.
    pub fn sources_of(&self, node: u32) -> &[u32] {
        &self.into[node as usize]
    }

    /// Adds an arc and leaves the order as it is, for [`sort`](Self::sort) to make.
    pub fn push(&mut self, (from, to): (u32, u32), index: u32) {
        self.out[from as usize].push((to, index));
        self.into[to as usize].push(from);
    }

    /// Undoes the latest `push` of this arc, if it was pushed.
    pub fn remove(&mut self, (from, to): (u32, u32), index: u32) {
        if self.out[from as usize].last() == Some(&(to, index)) {
            self.out[from as usize].pop();
            let source = self.into[to as usize].pop();
            debug_assert_eq!(source, Some(from));
        }
    }

    /// Orders the nodes from nothing; false if there is a cycle.
    pub fn sort(&mut self) -> bool {
        let mut missing: Vec<usize> = self.into.iter().map(Vec::len).collect();
        let mut ready: VecDeque<u32> = (0..self.nodes())
            .filter(|&node| missing[node as usize] == 0)
            .collect();
        let mut order = Vec::with_capacity(self.order.len());
        while let Some(node) = ready.pop_front() {
            order.push(node);
            for &(to, _) in &self.out[node as usize] {
                missing[to as usize] -= 1;
                if missing[to as usize] == 0 {
                    ready.push_back(to);
                }
            }
        }
        let acyclic = order.len() == self.order.len();
        if acyclic {
            for (position, &node) in order.iter().enumerate() {
                self.position[node as usize] = position as u32;
            }
            self.order = order;
        }
        acyclic
    }

    /// Adds an arc and repairs the order, or returns the arcs of a shortest path that it would close,
    /// the last one first.
    pub fn insert(
        &mut self,
        (from, to): (u32, u32),
        index: u32,
        steps: &mut u64,
    ) -> Result<(), Vec<u32>> {
        *steps += 1;
        if from == to {
            return Err(Vec::new());
        }
        let low = self.position[to as usize];
        let high = self.position[from as usize];
        if low < high {
            let after = self.reach_forward(to, from, high, steps)?;
            let before = self.reach_backward(from, low, steps);
            self.reorder(before, after);
        }
        self.push((from, to), index);
        Ok(())
    }

    /// The nodes that `start` reaches up to position `high`, unless it reaches `goal`.
    fn reach_forward(
        &mut self,
        start: u32,
        goal: u32,
        high: u32,
        steps: &mut u64,
    ) -> Result<Vec<u32>, Vec<u32>> {
        self.round += 1;
        self.mark[start as usize] = self.round;
        let mut found = vec![start];
        // Parallel to `found`: which entry led here, by which arc.
        let mut parents = vec![(0, u32::MAX)];
        let mut at = 0;
        while at < found.len() {
            *steps += 1;
            for &(to, arc) in &self.out[found[at] as usize] {
                if to == goal {
                    let mut path = vec![arc];
                    let mut back = at;
                    while back != 0 {
                        path.push(parents[back].1);
                        back = parents[back].0;
                    }
                    return Err(path);
                }
                let fresh = self.mark[to as usize] != self.round;
                if fresh && self.position[to as usize] < high {
                    self.mark[to as usize] = self.round;
                    found.push(to);
                    parents.push((at, arc));
                }
            }
            at += 1;
        }
        Ok(found)
    }

    /// The nodes from position `low` on that reach `start`.
    fn reach_backward(&mut self, start: u32, low: u32, steps: &mut u64) -> Vec<u32> {
        self.round += 1;
        self.mark[start as usize] = self.round;
        let mut found = vec![start];
        let mut at = 0;
        while at < found.len() {
            *steps += 1;
            for &from in &self.into[found[at] as usize] {
                let fresh = self.mark[from as usize] != self.round;
                if fresh && self.position[from as usize] > low {
                    self.mark[from as usize] = self.round;
                    found.push(from);
                }
            }
            at += 1;
        }
        found
    }

    /// Puts `before` ahead of `after`, in the positions that the two sets hold now.
    fn reorder(&mut self, mut before: Vec<u32>, mut after: Vec<u32>) {
        before.sort_by_key(|&node| self.position[node as usize]);
        after.sort_by_key(|&node| self.position[node as usize]);
        before.append(&mut after);
        let mut places: Vec<u32> = before
            .iter()
            .map(|&node| self.position[node as usize])
            .collect();
        places.sort_unstable();
        for (node, place) in before.into_iter().zip(places) {
            self.order[place as usize] = node;
            self.position[node as usize] = place;
        }
    }
}
