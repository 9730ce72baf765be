//! Read atomicity and causal consistency, decided in polynomial time.
//!
//! Abstract executions (Cerone, Bernardi, Gotsman, CONCUR 2015) have a total order of the transactions (arbitration)
//! and for each one the set of earlier transactions that it sees. A read returns the version of the last visible writer
//! of its key, so whoever was read is visible; causal consistency adds that visibility is transitive. More need
//! not be visible, since that only adds to what arbitration must respect: of the writers of a key that a reader of it sees, the
//! one that it read from is the last. So with visibility at its smallest, who was read directly (read atomicity)
//! or through others (causal consistency), a history is an execution of the model if and only if these demands, read dependencies
//! and the known orders of versions form no cycle (Biswas, Enea, *On the Complexity of Checking Transactional
//! Consistency*, OOPSLA 2019). As in the first paper there are no sessions, and time does not matter.
//!
//! What is here enumerates the demands: a [`Sight`] each. Not every pair of a reader and a writer that it sees is one: what a
//! transaction passes on to those who read from it are, of each key, only the writers that arbitration does not already put
//! before another of them (the idea of AWDIT, Møldrup and Pavlogiannis, PLDI 2025, whose sessions give it a bound
//! that there is none for here).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::KeyId;

/// What a transaction read and wrote, by indices into one slice of these.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Viewer {
    /// Ascending by key: its reads of what others wrote, one of each key.
    pub reads: Vec<View>,
    /// Ascending: the keys that it wrote.
    pub writes: Vec<Written>,
}

/// A read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct View {
    pub key: KeyId,
    /// Who wrote the version; none for the initial one, and for one whose writer is not among those that matter.
    pub source: Option<u32>,
    /// Later versions have this rank or a higher one, where ranks are known.
    pub later: u32,
}

/// A write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Written {
    pub key: KeyId,
    /// The place in the order of versions; 0 for all where that is not known.
    pub rank: u32,
}

/// A transaction that read a key and sees another writer of it than the one that it read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sight {
    pub reader: u32,
    /// Index into the reader's reads.
    pub read: usize,
    /// Whom it sees.
    pub writer: u32,
    /// The rank of that one's version.
    pub rank: u32,
}

/// The budget was spent before all was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Exceeded;

impl Viewer {
    /// The rank of what it wrote to a key.
    pub fn written(&self, key: KeyId) -> Option<u32> {
        let at = self.writes.binary_search_by_key(&key, |write| write.key);
        Some(self.writes[at.ok()?].rank)
    }

    fn read(&self, key: KeyId) -> Option<usize> {
        self.reads.binary_search_by_key(&key, |read| read.key).ok()
    }

    /// Those that it read from, each once.
    pub fn sources(&self) -> Vec<u32> {
        let mut sources: Vec<u32> = self.reads.iter().filter_map(|read| read.source).collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// The reads of keys that the other one wrote: index and rank of what that one wrote.
    pub fn common(&self, other: &Viewer) -> Vec<(usize, u32)> {
        match self.reads.len() <= other.writes.len() {
            true => {
                let reads = self.reads.iter().enumerate();
                let written = reads.map(|(at, read)| Some((at, other.written(read.key)?)));
                written.flatten().collect()
            }
            false => {
                let writes = other.writes.iter();
                let read = writes.map(|write| Some((self.read(write.key)?, write.rank)));
                read.flatten().collect()
            }
        }
    }
}

/// Takes steps from a budget.
fn spend(steps_left: &mut u64, steps: usize) -> Result<(), Exceeded> {
    *steps_left = steps_left.saturating_sub(steps as u64);
    match *steps_left {
        0 => Err(Exceeded),
        _ => Ok(()),
    }
}

/// Tells whom readers see that they read from directly.
pub(super) fn direct(
    viewers: &[Viewer],
    steps_left: &mut u64,
    mut tell: impl FnMut(Sight),
) -> Result<(), Exceeded> {
    for (reader, viewer) in (0u32..).zip(viewers) {
        for writer in viewer.sources() {
            let source = &viewers[writer as usize];
            spend(steps_left, 1 + viewer.reads.len().min(source.writes.len()))?;
            for (read, rank) in viewer.common(source) {
                if viewer.reads[read].source != Some(writer) {
                    tell(Sight {
                        reader,
                        read,
                        writer,
                        rank,
                    });
                }
            }
        }
    }
    Ok(())
}

/// A writer that is visible to whoever sees a transaction: key, rank, writer.
type Visible = (KeyId, u32, u32);

/// Tells whom readers see through others, of each key those that arbitration does not put before another one that is told of, or
/// before one that was read on the way.
///
/// # Panics
///
/// If the read dependencies have a cycle.
pub(super) fn transitive(
    viewers: &[Viewer],
    steps_left: &mut u64,
    mut tell: impl FnMut(Sight),
) -> Result<(), Exceeded> {
    let order = order(viewers);
    let last_read = last_reads(viewers, &order);
    let wanted = |key: KeyId, place: usize| last_read.get(&key).is_some_and(|&last| last > place);
    let mut readers_left = vec![0u32; viewers.len()];
    for source in viewers.iter().flat_map(Viewer::sources) {
        readers_left[source as usize] += 1;
    }
    let mut passed_on: Vec<Vec<Visible>> = vec![Vec::new(); viewers.len()];
    for (&reader, place) in order.iter().zip(1..) {
        let viewer = &viewers[reader as usize];
        let mut visible: Vec<Visible> = Vec::new();
        for source in viewer.sources() {
            visible.extend(&passed_on[source as usize]);
            let left = &mut readers_left[source as usize];
            *left -= 1;
            if *left == 0 {
                passed_on[source as usize] = Vec::new();
            }
        }
        spend(steps_left, 1 + visible.len())?;
        visible.sort_unstable();
        visible.dedup();
        keep_highest(&mut visible);
        for &(key, rank, writer) in &visible {
            if let Some(read) = viewer.read(key)
                && viewer.reads[read].source != Some(writer)
            {
                tell(Sight {
                    reader,
                    read,
                    writer,
                    rank,
                });
            }
        }
        if readers_left[reader as usize] > 0 {
            visible.retain(|&(key, ..)| {
                let settled = viewer.read(key).is_some() || viewer.written(key).is_some();
                !settled && wanted(key, place)
            });
            let read = viewer.reads.iter().filter_map(|read| {
                let source = read.source?;
                let rank = viewers[source as usize].written(read.key);
                let rank = rank.expect("who was read wrote the key");
                (viewer.written(read.key).is_none()).then_some((read.key, rank, source))
            });
            let own = viewer.writes.iter().map(|w| (w.key, w.rank, reader));
            visible.extend(read.chain(own).filter(|&(key, ..)| wanted(key, place)));
            passed_on[reader as usize] = visible;
        }
    }
    Ok(())
}

/// Of each key only those of the highest rank; sorted.
fn keep_highest(visible: &mut Vec<Visible>) {
    let mut kept: Vec<Visible> = Vec::with_capacity(visible.len());
    for of_key in visible.chunk_by(|one, other| one.0 == other.0) {
        let (.., highest, _) = of_key[of_key.len() - 1];
        kept.extend(of_key.iter().filter(|(_, rank, _)| *rank == highest));
    }
    *visible = kept;
}

/// The transactions so that each comes after those that it read from, as near to their own order as that allows.
fn order(viewers: &[Viewer]) -> Vec<u32> {
    let mut readers: Vec<Vec<u32>> = vec![Vec::new(); viewers.len()];
    let mut missing = vec![0usize; viewers.len()];
    for (reader, viewer) in (0u32..).zip(viewers) {
        for source in viewer.sources() {
            readers[source as usize].push(reader);
            missing[reader as usize] += 1;
        }
    }
    let free = (0..viewers.len() as u32).filter(|&at| missing[at as usize] == 0);
    let mut ready: BinaryHeap<Reverse<u32>> = free.map(Reverse).collect();
    let mut order = Vec::with_capacity(viewers.len());
    while let Some(Reverse(next)) = ready.pop() {
        order.push(next);
        for &reader in &readers[next as usize] {
            missing[reader as usize] -= 1;
            if missing[reader as usize] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    assert_eq!(order.len(), viewers.len(), "reads without a cycle");
    order
}

/// Of each key, the place in the order, from 1, of the last one who reads it.
fn last_reads(viewers: &[Viewer], order: &[u32]) -> BTreeMap<KeyId, usize> {
    let reads = order.iter().zip(1..).flat_map(|(&reader, place)| {
        let reads = viewers[reader as usize].reads.iter();
        reads.map(move |read| (read.key, place))
    });
    reads.collect()
}

/// The shortest way from a transaction that the goal admits to this reader, by reads: the transactions on it, the
/// reader last. None if there is none of fewer than `length` reads.
pub(super) fn shortest_sight(
    viewers: &[Viewer],
    (reader, length): (u32, usize),
    goal: impl Fn(u32) -> bool,
    steps_left: &mut u64,
) -> Result<Option<Vec<u32>>, Exceeded> {
    let mut next = BTreeMap::from([(reader, reader)]);
    let mut frontier = vec![reader];
    let mut reads = 1;
    while reads < length && !frontier.is_empty() {
        reads += 1;
        let mut before = Vec::new();
        for &at in &frontier {
            let sources = viewers[at as usize].sources();
            spend(steps_left, 1 + sources.len())?;
            for source in sources {
                if next.contains_key(&source) {
                    continue;
                }
                next.insert(source, at);
                if goal(source) {
                    let mut way = vec![source];
                    while way[way.len() - 1] != reader {
                        way.push(next[&way[way.len() - 1]]);
                    }
                    return Ok(Some(way));
                }
                before.push(source);
            }
        }
        frontier = before;
    }
    Ok(None)
}
