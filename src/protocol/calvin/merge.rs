//! One order from several logs: batches by stamp, each as soon as nothing can come before it.
//!
//! # Why the order is strict
//!
//! Stamps strictly increase within a group's log, so a group whose log has been seen up to a stamp has
//! nothing to add below it. A batch is handed on once every group has been seen past its stamp; hence every
//! replica hands on the same sequence, whatever order the logs arrive in.
//!
//! The order also respects real time. A client's transaction is acknowledged only once a replica has executed
//! it, so when the acknowledgement is sent, each group's *committed* log holds an entry with a larger stamp.
//! Whatever a client asks for afterwards is proposed after that entry was committed, by a leader that knew it or
//! one that is deposed without knowing; so it lies after it in its group's log, or nowhere
//! ([`crate::consensus::Log::established`]), hence has a larger stamp still. No clock was trusted: a
//! skewed one makes stamps run ahead, and the other groups' leaders follow as soon as they hear of it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::messages::Batch;
use crate::base::hlc::Stamp;
use crate::base::zoo::{self, Bug};

/// A point of the merged order: everything up to it, nothing after it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Cut {
    /// Number of transactions before the cut.
    pub position: u64,
    /// Stamp of the last batch before the cut.
    pub stamp: Stamp,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Group {
    /// Stamp of the group's last entry received.
    last: Stamp,
    /// Every later entry of the group that is not part of the merged order has a larger stamp.
    seen: Stamp,
    /// Committed and not yet merged.
    queue: VecDeque<Arc<Batch>>,
    /// Index and stamp of the entries above the last compaction.
    indexes: VecDeque<(u64, Stamp)>,
}

/// Merges the groups' logs. With one group it passes its log through.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Merge {
    groups: Vec<Group>,
    merged: Cut,
}

impl Merge {
    /// A merge of as many groups, before their first entries.
    pub fn new(groups: usize) -> Self {
        Self {
            groups: vec![Group::default(); groups],
            merged: Cut::default(),
        }
    }

    /// The group's next committed entry.
    ///
    /// # Panics
    ///
    /// When its stamp is not above that of the group's entry before: the leader broke its promise.
    pub fn push(&mut self, group: u16, index: u64, batch: Arc<Batch>) {
        let merged = self.merged;
        let group = &mut self.groups[usize::from(group)];
        let stamp = batch.stamp;
        assert!(
            stamp > group.last || zoo::any(),
            "{stamp:?} after {:?}",
            group.last
        );
        group.last = stamp;
        group.seen = group.seen.max(stamp);
        group.indexes.push_back((index, stamp));
        // An entry below a cut that another group's snapshot brought was merged before, elsewhere.
        if stamp > merged.stamp && !batch.entries.is_empty() {
            group.queue.push_back(batch);
        }
    }

    /// The group's log up to `index` was replaced by a snapshot that was taken at `cut`. Answers whether
    /// that moved the merged order forward, over batches that this replica has not seen.
    pub fn install(&mut self, group: u16, cut: Cut) -> bool {
        let own = &mut self.groups[usize::from(group)];
        own.indexes.clear();
        own.seen = own.seen.max(cut.stamp);
        let moved = cut.position > self.merged.position;
        if moved {
            self.merged = cut;
            for group in &mut self.groups {
                // Who took the cut had seen every group past it.
                group.seen = group.seen.max(cut.stamp);
                group.queue.retain(|batch| batch.stamp > cut.stamp);
            }
        }
        moved
    }

    /// The next batch of the merged order with the position of its first transaction, if no group can come
    /// before it any more.
    pub fn pop(&mut self) -> Option<(u64, Arc<Batch>)> {
        let (stamp, group) = self.head()?;
        if self.awaited(stamp).next().is_some() {
            return None;
        }
        let batch = self.groups[group].queue.pop_front()?;
        let first = self.merged.position + 1;
        assert!(
            stamp > self.merged.stamp || zoo::any(),
            "the merged order only rises"
        );
        self.merged = Cut {
            position: self.merged.position + batch.entries.len() as u64,
            stamp,
        };
        Some((first, batch))
    }

    /// Where the merged order stands.
    pub fn merged(&self) -> Cut {
        self.merged
    }

    /// The largest stamp of a batch that waits for other groups.
    pub fn waiting(&self) -> Option<Stamp> {
        let last = |group: &Group| group.queue.back().map(|batch| batch.stamp);
        self.groups.iter().filter_map(last).max()
    }

    /// A bound on the stamps of the group's entries received: the last one's, or above it.
    pub fn seen(&self, group: u16) -> Stamp {
        self.groups[usize::from(group)].seen
    }

    /// Forgets the entries of a group up to `cut` and returns the index of the last of them, if there is one.
    pub fn compact(&mut self, group: u16, cut: Cut) -> Option<u64> {
        let indexes = &mut self.groups[usize::from(group)].indexes;
        let mut last = None;
        while let Some((index, _)) = indexes.front().filter(|(_, stamp)| *stamp <= cut.stamp) {
            last = Some(*index);
            indexes.pop_front();
        }
        last
    }

    fn head(&self) -> Option<(Stamp, usize)> {
        let head = |(at, group): (usize, &Group)| Some((group.queue.front()?.stamp, at));
        self.groups.iter().enumerate().filter_map(head).min()
    }

    /// Groups that might still come before `stamp`.
    fn awaited(&self, stamp: Stamp) -> impl Iterator<Item = u16> + '_ {
        let near_ns = match zoo::planted(Bug::WatermarkTooEarly) {
            true => 50_000_000,
            false => 0,
        };
        let behind = move |(_, group): &(usize, &Group)| {
            group.seen < stamp && group.seen.wall_ns + near_ns <= stamp.wall_ns
        };
        let at = |(at, _): (usize, &Group)| at as u16;
        self.groups.iter().enumerate().filter(behind).map(at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::process::{Addr, NodeId};
    use crate::base::txn::{Footprint, Txn, TxnId};
    use crate::protocol::calvin::messages::Entry;

    fn entry(id: u64) -> Arc<Entry> {
        let txn = Txn {
            id: TxnId(id),
            reads: vec![],
            guards: vec![],
            effects: vec![],
            pivot: None,
        };
        Arc::new(Entry {
            txn: Arc::new(txn),
            footprint: Footprint::default(),
            attempt: 0,
            client: Addr {
                node: NodeId(0),
                port: 0,
            },
            region: 0,
        })
    }

    fn stamp(wall_ns: u64, group: u16) -> Stamp {
        Stamp {
            wall_ns,
            logical: 0,
            node: group,
        }
    }

    fn batch(wall_ns: u64, group: u16, entries: usize) -> Arc<Batch> {
        let entries = (0..entries as u64).map(|n| entry(wall_ns * 100 + u64::from(group) * 10 + n));
        Arc::new(Batch {
            stamp: stamp(wall_ns, group),
            entries: entries.collect(),
        })
    }

    type Logs = Vec<Vec<Arc<Batch>>>;

    /// Per group: increments of the stamp, and batch sizes, zero being a watermark.
    fn logs() -> impl Strategy<Value = Logs> {
        let log = prop::collection::vec((1u64..5, 0usize..3), 0..12);
        prop::collection::vec(log, 1..4).prop_map(|logs| {
            let with_stamps = |(group, log): (usize, Vec<(u64, usize)>)| {
                let mut wall = 0;
                let batch = |(by, entries): (u64, usize)| {
                    wall += by;
                    batch(wall, group as u16, entries)
                };
                log.into_iter().map(batch).collect()
            };
            logs.into_iter().enumerate().map(with_stamps).collect()
        })
    }

    /// Sorting is the definition: all batches by stamp, cut where some group's log ends.
    fn by_definition(logs: &Logs) -> Vec<(u64, Arc<Batch>)> {
        let last = |log: &Vec<Arc<Batch>>| log.last().map_or(Stamp::default(), |b| b.stamp);
        let bound = logs.iter().map(last).min().unwrap_or_default();
        let mut all: Vec<_> = logs.iter().flatten().cloned().collect();
        all.retain(|batch| batch.stamp <= bound && !batch.entries.is_empty());
        all.sort_by_key(|batch| batch.stamp);
        let mut position = 1;
        let place = |batch: Arc<Batch>| {
            let first = position;
            position += batch.entries.len() as u64;
            (first, batch)
        };
        all.into_iter().map(place).collect()
    }

    /// Feeds the logs in the order of `turns` (each picks a group), popping all along.
    fn merge_in(logs: &Logs, turns: &[usize], merge: &mut Merge) -> Vec<(u64, Arc<Batch>)> {
        let mut next = vec![0; logs.len()];
        let mut popped = Vec::new();
        let rest = (0..logs.len()).flat_map(|group| vec![group; logs[group].len()]);
        for group in turns.iter().map(|turn| turn % logs.len()).chain(rest) {
            if let Some(batch) = logs[group].get(next[group]) {
                next[group] += 1;
                merge.push(group as u16, next[group] as u64, Arc::clone(batch));
                popped.extend(std::iter::from_fn(|| merge.pop()));
            }
        }
        popped
    }

    proptest! {
        #[test]
        fn the_merged_order_is_the_order_of_stamps_whatever_the_order_of_arrival(
            logs in logs(),
            turns in prop::collection::vec(0usize..4, 0..40),
        ) {
            let merged = merge_in(&logs, &turns, &mut Merge::new(logs.len()));
            prop_assert_eq!(merged, by_definition(&logs));
        }

        /// A replica that starts from another's snapshots goes on with the same batches at the same positions.
        #[test]
        fn a_merge_that_starts_from_a_cut_continues_the_same_order(
            logs in logs(),
            turns in prop::collection::vec(0usize..4, 0..40),
            at in any::<prop::sample::Index>(),
        ) {
            let whole = by_definition(&logs);
            prop_assume!(!whole.is_empty());
            let taken = at.index(whole.len());
            let (first, batch) = &whole[taken];
            let cut = Cut {
                position: first + batch.entries.len() as u64 - 1,
                stamp: batch.stamp,
            };
            // Only the first group has compacted its log: the others' entries below the cut arrive.
            let mut merge = Merge::new(logs.len());
            prop_assert!(merge.install(0, cut));
            let mut rest = logs.clone();
            rest[0].retain(|batch| batch.stamp > cut.stamp);
            let merged = merge_in(&rest, &turns, &mut merge);
            prop_assert_eq!(&merged[..], &whole[taken + 1..]);
        }
    }

    #[test]
    fn a_batch_waits_until_the_idle_group_has_said_how_far_it_is() {
        let mut merge = Merge::new(2);
        merge.push(0, 1, batch(5, 0, 1));
        assert_eq!(merge.pop(), None);
        assert_eq!(merge.waiting(), Some(stamp(5, 0)));
        merge.push(1, 1, batch(4, 1, 0));
        assert_eq!(
            merge.pop(),
            None,
            "a watermark below the stamp says nothing"
        );
        merge.push(1, 2, batch(6, 1, 0));
        assert_eq!(merge.pop(), Some((1, batch(5, 0, 1))));
    }

    #[test]
    #[should_panic(expected = "after")]
    fn a_stamp_that_does_not_rise_is_refused() {
        let mut merge = Merge::new(2);
        merge.push(0, 1, batch(5, 0, 1));
        merge.push(0, 2, batch(5, 0, 1));
    }

    #[test]
    fn compaction_names_the_last_index_at_or_below_the_cut() {
        let mut merge = Merge::new(1);
        for (index, wall) in [(2, 10), (3, 20), (5, 30)] {
            merge.push(0, index, batch(wall, 0, 1));
        }
        let first = std::iter::from_fn(|| merge.pop()).nth(1);
        assert_eq!(first, Some((2, batch(20, 0, 1))));
        let cut = Cut {
            position: 2,
            stamp: stamp(20, 0),
        };
        assert_eq!(merge.compact(0, cut), Some(3));
        assert_eq!(merge.compact(0, cut), None);
    }
}
