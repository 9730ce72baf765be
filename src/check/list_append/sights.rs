//! Read atomicity and causal consistency of lists: a transaction that read a key and sees somebody who appended to it
//! what it did not read.
//!
//! The order of versions is known, so each such pair is a contradiction by itself: an anti-dependency, write
//! dependencies of one key, then read dependencies, one for read atomicity. (An append installs a version, the one
//! before with one element more: who read it has seen who appended last, and not who appended before.) Beyond that both
//! models forbid cycles of write and read dependencies, which read committed does too. Cycles with one anti-dependency
//! are all within sets that the search for cycles knows; where there are none, as whenever parallel snapshot isolation holds,
//! nothing is looked at. Appends that nobody read come after all others, and their order is nobody's to see.

use super::super::visibility::{self, Sight, View, Viewer, Written};
use super::*;

impl Index<'_> {
    /// The place of a transaction's newest version of a key, if it appended to it; an append that nobody saw has the last.
    fn rank(&self, append: usize) -> Option<u32> {
        let rank = self.version[append];
        (rank != NONE || self.is_unseen(append)).then_some(rank)
    }

    /// Did the reader read a key without what the writer appended to it?
    fn misses(&self, reader: TxnId, writer: TxnId) -> bool {
        let appends = self.history.txn(writer).ops().filter_map(|op| match op {
            Op::Append { key, value } => {
                let rank = self.rank(self.find_of(key, value, writer));
                Some((key, rank?))
            }
            _ => None,
        });
        let appends: Vec<(KeyId, u32)> = appends.collect();
        let missed = |(key, _, version): (KeyId, ListRef, Option<u32>)| {
            let later =
                |&(k, rank): &(KeyId, u32)| k == key && version.is_some_and(|count| rank >= count);
            appends.iter().any(later)
        };
        self.reads(reader).any(missed)
    }

    /// The model of visibility that a cycle of dependencies contradicts: its only anti-dependency leads, by the order of one
    /// key's versions, to someone whom the reader sees.
    pub(super) fn refuted_by_sight(&self, cycle: &[Edge]) -> Option<Model> {
        let start = cycle.iter().position(|edge| edge.kind == EdgeKind::Rw)?;
        let reader = cycle[start].from;
        let rest = (1..cycle.len()).map(|at| cycle[(start + at) % cycle.len()]);
        let rest: Vec<Edge> = rest.collect();
        let written = rest.iter().take_while(|edge| edge.kind == EdgeKind::Ww);
        let (_, read) = rest.split_at(written.count());
        let seen = read.first()?.from;
        let by_reads = read.iter().all(|edge| edge.kind == EdgeKind::Wr);
        (by_reads && self.misses(reader, seen)).then_some(match read.len() {
            1 => Model::ReadAtomicNoSession,
            _ => Model::CausalConsistencyNoSession,
        })
    }

    /// What the transactions of a part read of one another, and wrote. `part` ascends.
    fn viewers(&self, part: &[TxnId]) -> Vec<Viewer> {
        let viewer = |&id: &TxnId| {
            let mut reads: Vec<View> = Vec::new();
            for (key, _, version) in self.reads(id) {
                let Some(later) = version else { continue };
                let newest = later.checked_sub(1);
                let newest = newest.map(|at| self.writer(self.versions(key)[at as usize]));
                let source = newest.and_then(|id| part.binary_search(&id).ok());
                let source = source.map(|at| at as u32);
                reads.push(View { key, source, later });
            }
            reads.sort_unstable_by_key(|read| read.key);
            reads.dedup_by_key(|read| read.key);
            let mut writes: Vec<Written> = Vec::new();
            for op in self.history.txn(id).ops() {
                if let Op::Append { key, value } = op
                    && let Some(rank) = self.rank(self.find_of(key, value, id))
                {
                    writes.push(Written { key, rank });
                }
            }
            // Of each key the newest.
            writes.sort_unstable_by_key(|write| (write.key, std::cmp::Reverse(write.rank)));
            writes.dedup_by_key(|write| write.key);
            Viewer { reads, writes }
        };
        part.iter().map(viewer).collect()
    }

    /// The dependencies that contradict one another where the first of these reads a key without what the last
    /// appended to it, whom it sees by the reads along the way.
    fn cycle_of(&self, way: &[TxnId]) -> Vec<Edge> {
        let (seen, reader) = (way[0], way[way.len() - 1]);
        let missed = self.reads(reader).find_map(|(key, _, version)| {
            let count = version? as usize;
            let versions = &self.versions(key)[count..];
            let at = versions.iter().position(|&v| self.writer(v) == seen);
            let unseen = || self.unseen(key, seen).map(|_| versions.len());
            Some((key, count, at.or_else(unseen)?))
        });
        let (key, count, between) = missed.expect("the reader misses what the other appended");
        let between = &self.versions(key)[count..][..between];
        let mut edges: Vec<Edge> = Vec::new();
        let mut from = reader;
        for to in between.iter().map(|&v| self.writer(v)).chain([seen]) {
            if from != to {
                let kind = match edges.is_empty() {
                    true => EdgeKind::Rw,
                    false => EdgeKind::Ww,
                };
                edges.push(Edge { from, to, kind });
                from = to;
            }
        }
        let reads = way.windows(2).map(|pair| Edge {
            from: pair[0],
            to: pair[1],
            kind: EdgeKind::Wr,
        });
        edges.extend(reads);
        edges
    }
}

impl Findings<'_> {
    /// Decides read atomicity and causal consistency, given where there may be cycles with one anti-dependency.
    pub(super) fn sights(&mut self, skewed: &[Vec<TxnId>]) {
        let mut steps_left = self.options.steps_max;
        for model in [
            Model::ReadAtomicNoSession,
            Model::CausalConsistencyNoSession,
        ] {
            for part in skewed {
                // A part less, or a weaker model that fails, settles it.
                if self.refuted.refute(model) {
                    return;
                }
                let viewers = self.index.viewers(part);
                match shortest(model, &viewers, &mut steps_left) {
                    Ok(None) => {}
                    Ok(Some(way)) => {
                        let way: Vec<TxnId> = way.iter().map(|&at| part[at as usize]).collect();
                        self.seen_and_missed(model, &way);
                    }
                    Err(visibility::Exceeded) => {
                        self.open.push(model);
                        self.open.push(Model::CausalConsistencyNoSession);
                        self.notes.push(format!(
                            "{model}: not decided within {} steps",
                            self.options.steps_max
                        ));
                        return;
                    }
                }
            }
        }
    }

    fn seen_and_missed(&mut self, model: Model, way: &[TxnId]) {
        let edges = self.index.cycle_of(way);
        let kind = graph::classify(&edges).expect("no transaction is visited twice");
        assert_eq!(self.index.refuted_by_sight(&edges), Some(model));
        let mut refutes: Models = kind.refutes().into_iter().collect();
        refutes = refutes.or([model].into_iter().collect());
        self.refuted = self.refuted.or(refutes);
        self.count(kind);
        let refutes = Boundary::drawn(refutes, Models::default()).violated;
        let steps = self.index.steps(edges);
        (self.anomalies).push(explain::cycle(self.history, kind, refutes, steps));
    }
}

/// The shortest way by reads from someone to a reader who missed what that one appended, in a part where the model may
/// fail and no weaker one does.
fn shortest(
    model: Model,
    viewers: &[Viewer],
    steps_left: &mut u64,
) -> Result<Option<Vec<u32>>, visibility::Exceeded> {
    let is_missed = |sight: &Sight| {
        let read = &viewers[sight.reader as usize].reads[sight.read];
        sight.rank >= read.later
    };
    let mut missed: Vec<Sight> = Vec::new();
    let tell = |sight| missed.extend(Some(sight).filter(is_missed));
    if model == Model::ReadAtomicNoSession {
        visibility::direct(viewers, steps_left, tell)?;
        let first = missed.first();
        return Ok(first.map(|sight| vec![sight.writer, sight.reader]));
    }
    visibility::transitive(viewers, steps_left, tell)?;
    let mut best: Option<Vec<u32>> = None;
    missed.dedup_by_key(|sight| sight.reader);
    for sight in missed {
        let reader = &viewers[sight.reader as usize];
        let length = best.as_ref().map_or(usize::MAX, |way| way.len() - 1);
        let goal = |writer: u32| {
            let mut common = reader.common(&viewers[writer as usize]).into_iter();
            common.any(|(read, rank)| rank >= reader.reads[read].later)
        };
        match visibility::shortest_sight(viewers, (sight.reader, length), goal, steps_left) {
            Ok(Some(way)) => best = Some(way),
            Ok(None) => {}
            // What was found is one, if maybe not the shortest.
            Err(exceeded) => return best.map(Some).ok_or(exceeded),
        }
    }
    Ok(best)
}
