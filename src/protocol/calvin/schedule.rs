//! The conflict graph: who must wait for whom, so that what is disjoint overlaps and what conflicts runs in
//! log order.
//!
//! A transaction's node joins the graph when its turn in the log comes, with an edge from the transactions
//! that are last in line for each of its rows: that is a first-in-first-out lock queue for each row, filled in
//! log order (Thomson et al., SIGMOD 2012, section 3.2), with reads of the same row side by side. A
//! transaction runs once no edge leads to it, and takes its own edges away when it is done. Edges lead from
//! lower positions to higher ones only, so there is no cycle: no deadlock, and nothing to abort for.

use std::cmp::Ordering;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use petgraph::graphmap::GraphMap;
use petgraph::{Directed, Direction};

use crate::base::digest::StableHasher;
use crate::base::txn::{Key, TxnId};
use crate::base::zoo::{self, Bug};

/// What a transaction locks at a shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Locks {
    /// The transaction: two occurrences of one transaction run one after the other, also where they only
    /// read, so that the second finds that the first has ended.
    pub txn: TxnId,
    /// Rows read and not written: shared.
    pub reads: Vec<Key>,
    /// Rows written: exclusive.
    pub writes: Vec<Key>,
}

/// What is locked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Resource {
    Txn(TxnId),
    Row(Key),
}

/// The end of a row's queue: whom the next in line waits for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Tail {
    /// The last writer that is not done.
    writer: Option<u64>,
    /// Readers after it that are not done.
    readers: BTreeSet<u64>,
}

/// The transactions of a shard that are not done, by position in the merged order.
#[derive(Clone, Debug, Default)]
pub struct ConflictGraph {
    graph: GraphMap<u64, (), Directed, BuildHasherDefault<StableHasher>>,
    locks: BTreeMap<u64, Locks>,
    tails: BTreeMap<Resource, Tail>,
}

impl Tail {
    /// Whether nobody is in line.
    fn is_over(&self) -> bool {
        self.writer.is_none() && self.readers.is_empty()
    }
}

impl Locks {
    fn resources(&self) -> impl Iterator<Item = (Resource, bool)> + '_ {
        let own = std::iter::once((Resource::Txn(self.txn), true));
        let writes = self.writes.iter().map(|key| (Resource::Row(*key), true));
        let reads = self.reads.iter().map(|key| (Resource::Row(*key), false));
        own.chain(writes).chain(reads)
    }
}

impl ConflictGraph {
    /// Whether `position` waits for nobody.
    pub fn is_free(&self, position: u64) -> bool {
        let mut before = self.graph.neighbors_directed(position, Direction::Incoming);
        before.next().is_none()
    }

    /// The transaction at `position`, the highest so far, asks for its locks. Answers the rows for which it
    /// waits: it holds all the others, and runs when it holds all.
    pub fn admit(&mut self, position: u64, locks: Locks) -> Vec<Key> {
        assert!(
            self.locks
                .keys()
                .next_back()
                .is_none_or(|last| *last < position)
        );
        self.graph.add_node(position);
        let mut awaited = Vec::new();
        for (resource, exclusive) in locks.resources() {
            let tail = self.tails.entry(resource).or_default();
            let wait_for_readers =
                exclusive && !tail.readers.is_empty() && !zoo::planted(Bug::WritersIgnoreReaders);
            if wait_for_readers {
                for reader in &tail.readers {
                    self.graph.add_edge(*reader, position, ());
                }
            } else if let Some(writer) = tail.writer {
                let overtakes = zoo::planted(Bug::ReaderOvertakesInGraph) && !exclusive;
                let mut before = self.graph.neighbors_directed(writer, Direction::Incoming);
                if !overtakes || before.next().is_none() {
                    self.graph.add_edge(writer, position, ());
                }
            }
            if let Resource::Row(key) = resource
                && (wait_for_readers || tail.writer.is_some())
            {
                awaited.push(key);
            }
            if exclusive {
                tail.readers.clear();
                tail.writer = Some(position);
            } else {
                tail.readers.insert(position);
            }
        }
        self.locks.insert(position, locks);
        awaited
    }

    /// The transaction at `position` is done. Answers those that now wait for nobody, in log order.
    ///
    /// # Panics
    ///
    /// When it was not admitted, or waits itself.
    pub fn finish(&mut self, position: u64) -> Vec<u64> {
        assert!(self.is_free(position), "{position} holds all its locks");
        let locks = self.locks.remove(&position);
        let locks = locks.expect("only what was admitted finishes");
        for (resource, _) in locks.resources() {
            let Entry::Occupied(mut entry) = self.tails.entry(resource) else {
                assert!(zoo::any(), "{resource:?} was asked for at {position}");
                continue;
            };
            let tail = entry.get_mut();
            tail.readers.remove(&position);
            tail.writer = tail.writer.filter(|writer| *writer != position);
            if tail.is_over() {
                entry.remove();
            }
        }
        let mut followers: Vec<u64> = self.graph.neighbors(position).collect();
        self.graph.remove_node(position);
        followers.retain(|follower| self.is_free(*follower));
        followers.sort_unstable();
        followers
    }

    /// Whether nothing is admitted and not done.
    pub fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }

    fn sorted_edges(&self) -> BTreeSet<(u64, u64)> {
        self.graph.all_edges().map(|(a, b, ())| (a, b)).collect()
    }
}

// The graph follows from the locks and the order of finishing, and has no equality of its own.
impl PartialEq for ConflictGraph {
    fn eq(&self, other: &Self) -> bool {
        let same = self.locks == other.locks && self.tails == other.tails;
        same && self.sorted_edges().cmp(&other.sorted_edges()) == Ordering::Equal
    }
}

impl Eq for ConflictGraph {}

impl Hash for ConflictGraph {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.locks.hash(state);
        self.sorted_edges().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::txn::TableId;

    fn key(row: u32) -> Key {
        Key {
            table: TableId(0),
            row,
        }
    }

    fn locks(txn: u64, reads: &[u32], writes: &[u32]) -> Locks {
        Locks {
            txn: TxnId(txn),
            reads: reads.iter().map(|row| key(*row)).collect(),
            writes: writes.iter().map(|row| key(*row)).collect(),
        }
    }

    fn conflict(a: &Locks, b: &Locks) -> bool {
        let touches = |l: &Locks, key: &Key| l.reads.contains(key) || l.writes.contains(key);
        a.txn == b.txn
            || a.writes.iter().any(|key| touches(b, key))
            || b.writes.iter().any(|key| touches(a, key))
    }

    #[test]
    fn readers_of_a_row_run_side_by_side_between_its_writers() {
        let mut graph = ConflictGraph::default();
        assert!(graph.admit(1, locks(1, &[], &[0])).is_empty());
        assert_eq!(graph.admit(2, locks(2, &[0], &[])), [key(0)]);
        assert_eq!(graph.admit(3, locks(3, &[0], &[5])), [key(0)]);
        assert_eq!(graph.admit(4, locks(4, &[], &[0])), [key(0)]);
        assert!(graph.admit(5, locks(5, &[7], &[])).is_empty());
        assert_eq!(graph.finish(1), [2, 3]);
        assert!(graph.finish(3).is_empty());
        assert_eq!(graph.finish(2), [4]);
        assert!(graph.finish(5).is_empty());
        assert!(graph.finish(4).is_empty());
        assert!(graph.is_empty());
        assert_eq!(graph, ConflictGraph::default(), "nothing is left behind");
    }

    #[test]
    fn two_occurrences_of_a_transaction_that_only_reads_run_one_after_the_other() {
        let mut graph = ConflictGraph::default();
        graph.admit(1, locks(9, &[0], &[]));
        graph.admit(2, locks(9, &[0], &[]));
        assert!(graph.is_free(1) && !graph.is_free(2));
        assert_eq!(graph.finish(1), [2]);
    }

    fn some_locks() -> impl Strategy<Value = Locks> {
        let rows = prop::collection::btree_map(0u32..8, any::<bool>(), 1..4);
        (1u64..60, rows).prop_map(|(txn, rows)| {
            let of_kind = |write: bool| {
                let keys = rows.iter().filter(move |(_, kind)| **kind == write);
                keys.map(|(row, _)| key(*row)).collect()
            };
            Locks {
                txn: TxnId(txn),
                reads: of_kind(false),
                writes: of_kind(true),
            }
        })
    }

    proptest! {
        /// Against the definition: a transaction is free exactly if no earlier one that is not done conflicts
        /// with it, directly or (where it is free to be cautious) not at all.
        #[test]
        fn a_transaction_is_free_exactly_when_no_earlier_conflicting_one_is_unfinished(
            all in prop::collection::vec(some_locks(), 1..30),
            choices in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..90),
        ) {
            let mut graph = ConflictGraph::default();
            let mut open: BTreeMap<u64, Locks> = BTreeMap::new();
            let mut next = 0;
            for (admit, which) in choices {
                if admit && next < all.len() {
                    graph.admit(next as u64, all[next].clone());
                    open.insert(next as u64, all[next].clone());
                    next += 1;
                } else {
                    let free: Vec<u64> =
                        open.keys().copied().filter(|at| graph.is_free(*at)).collect();
                    prop_assert!(open.is_empty() || !free.is_empty(), "no deadlock");
                    if !free.is_empty() {
                        let done = free[which.index(free.len())];
                        open.remove(&done);
                        let woken = graph.finish(done);
                        prop_assert!(woken.iter().all(|at| graph.is_free(*at)));
                    }
                }
                for (at, locks) in &open {
                    let mut earlier = open.range(..at);
                    let blocked = earlier.any(|(_, earlier)| conflict(earlier, locks));
                    prop_assert_eq!(graph.is_free(*at), !blocked);
                }
            }
        }
    }
}
