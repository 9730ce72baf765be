//! What a data machine is made of: the write-ahead log below everything that must survive a crash, the lock
//! manager, the storage engines, and the two stores that a protocol may work on: one of newest versions, and one of
//! versions by timestamp.

pub mod engine;
pub mod ledger;
pub mod locks;
pub mod postgres;
pub mod recovery;
pub mod scylla;
pub mod store;
pub mod versions;
pub mod wal;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::txn::{Key, Row, ShardId, TxnId, WriteId};

/// One write that a shard's state contains, in the order of application.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The row.
    pub key: Key,
    /// The write, or the compensation of one.
    pub write: WriteId,
}

/// What an autopsy finds at one copy of a shard.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ShardState {
    /// The shard.
    pub shard: ShardId,
    /// Position of the region of this copy.
    pub region: usize,
    /// Every row.
    pub rows: BTreeMap<Key, Row>,
    /// Every write applied since the start, in order.
    pub ledger: Vec<LedgerEntry>,
    /// Transactions in doubt: the copy has voted yes and does not know the decision.
    pub in_doubt: BTreeSet<TxnId>,
    /// How far the copy has applied its log, where the protocol has one. Everything up to there is in the state, and what comes after
    /// it may be, where transactions that do not touch one another overtake one another.
    pub applied_to: u64,
    /// How many entries of the ledger, from the first, are of positions up to `applied_to`.
    pub up_to_applied: usize,
}
