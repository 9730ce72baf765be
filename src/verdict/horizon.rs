//! What prepared branches keep from being cleaned up.
//!
//! A prepared transaction may still commit, so that nothing it can see may be removed: `VACUUM` gets no further than the oldest
//! one, in the whole database and not only on the rows that it wrote (PostgreSQL's manual, `PREPARE TRANSACTION`). Each row
//! written since then leaves a version behind that would otherwise be gone.
//!
//! ```
//! use ordain::base::observation::Observation;
//! use ordain::base::txn::{Key, ShardId, TableId, TxnId};
//! use ordain::verdict::horizon::Horizon;
//!
//! let (shard, keys) = (ShardId(0), vec![Key { table: TableId(0), row: 0 }]);
//! let mut horizon = Horizon::default();
//! horizon.observe(1_000, &Observation::Voted { txn: TxnId(1), shard, yes: true });
//! horizon.observe(2_000, &Observation::Applied { txn: TxnId(2), shard, position: 1, keys });
//! assert_eq!((horizon.versions_max(), horizon.age_max_ns(5_000)), (1, 4_000));
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::base::observation::Observation;
use crate::base::txn::{ShardId, TxnId};

/// The prepared branches of a shard, and what it has written.
#[derive(Clone, Debug, Default)]
struct Shard {
    /// The oldest first: since when, how many rows had been written then, and whose it is.
    prepared: BTreeSet<(u64, u64, TxnId)>,
    by_txn: BTreeMap<TxnId, (u64, u64)>,
    written: u64,
}

/// Follows the oldest prepared branch of every shard.
#[derive(Clone, Debug, Default)]
pub struct Horizon {
    shards: BTreeMap<ShardId, Shard>,
    age_max_ns: u64,
    versions_max: u64,
}

impl Horizon {
    /// Takes notice of an observation; in order of time.
    pub fn observe(&mut self, at_ns: u64, what: &Observation) {
        match what {
            Observation::Voted {
                txn,
                shard,
                yes: true,
            } => {
                let shard = self.shards.entry(*shard).or_default();
                let since = (at_ns, shard.written);
                if *shard.by_txn.entry(*txn).or_insert(since) == since {
                    shard.prepared.insert((since.0, since.1, *txn));
                }
            }
            Observation::Resolved { txn, shard, .. }
            | Observation::DecidedAlone { txn, shard, .. } => {
                let shard = self.shards.entry(*shard).or_default();
                if let Some((since_ns, written)) = shard.by_txn.remove(txn) {
                    shard.prepared.remove(&(since_ns, written, *txn));
                    self.age_max_ns = self.age_max_ns.max(at_ns - since_ns);
                }
            }
            Observation::Applied { shard, keys, .. } => {
                let shard = self.shards.entry(*shard).or_default();
                shard.written += keys.len() as u64;
                if let Some((_, written, _)) = shard.prepared.first() {
                    self.versions_max = self.versions_max.max(shard.written - written);
                }
            }
            _ => {}
        }
    }

    /// The longest time that a branch was prepared, up to `end_ns`, nanoseconds.
    pub fn age_max_ns(&self, end_ns: u64) -> u64 {
        let oldest = self.shards.values().filter_map(|s| s.prepared.first());
        let ages = oldest.map(|(since_ns, ..)| end_ns.saturating_sub(*since_ns));
        ages.fold(self.age_max_ns, u64::max)
    }

    /// The most versions that the oldest prepared branch of a shard kept from being cleaned up.
    pub fn versions_max(&self) -> u64 {
        self.versions_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::txn::{Key, TableId};

    const SHARD: ShardId = ShardId(3);

    fn vote(txn: u64) -> Observation {
        let (txn, shard, yes) = (TxnId(txn), SHARD, true);
        Observation::Voted { txn, shard, yes }
    }

    fn resolve(txn: u64) -> Observation {
        let (txn, shard, commit) = (TxnId(txn), SHARD, true);
        Observation::Resolved { txn, shard, commit }
    }

    fn write(shard: ShardId, rows: u32) -> Observation {
        let table = TableId(0);
        Observation::Applied {
            txn: TxnId(9),
            shard,
            position: 1,
            keys: (0..rows).map(|row| Key { table, row }).collect(),
        }
    }

    #[test]
    fn the_oldest_branch_keeps_back_what_its_shard_writes_until_it_is_resolved() {
        let mut horizon = Horizon::default();
        for (at_ns, what) in [
            (0, write(SHARD, 5)), // Nobody is prepared.
            (10, vote(1)),
            (20, write(SHARD, 2)),
            (25, write(ShardId(4), 50)), // Another shard.
            (30, vote(2)),
            (35, vote(2)), // Stated again, after a restart.
            (40, write(SHARD, 1)),
            (50, resolve(1)),
            (60, write(SHARD, 1)), // Two since the second one's vote.
        ] {
            horizon.observe(at_ns, &what);
        }
        assert_eq!(horizon.versions_max(), 3);
        assert_eq!(horizon.age_max_ns(60), 40);
        assert_eq!(horizon.age_max_ns(100), 70, "the second one stays");
    }
}
