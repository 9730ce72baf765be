//! A shard's versions, each with the write set of its transaction.
//!
//! [`crate::shard::versions`] does not fit here. It has locks, and refuses a write below a version that is there already.
//! RAMP has no locks: a version may commit below others, and is then overwritten from the start. And a reader may ask for
//! a version that is still in doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::PrepareRequest;
use crate::base::txn::{Key, Row, ShardId, TxnId, WriteId};
use crate::base::zoo::{self, Bug};
use crate::scenario::layout::Layout;
use crate::shard::{LedgerEntry, ShardState};

/// A transaction's place in the order of versions. Nobody else has the same one: it is a number of the coordinator's, and
/// the coordinator's machine. Zero is the initial state's.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Counted by the coordinator, above all that it has seen.
    pub number: u64,
    /// Its machine.
    pub coordinator: u16,
}

impl Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}.{}", self.number, self.coordinator)
    }
}

/// A version of a row as readers get it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Version {
    /// The row.
    pub row: Row,
    /// All rows that its transaction wrote: the metadata of the paper.
    pub write_set: Arc<BTreeSet<Key>>,
}

/// What a server knows of a timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fate {
    /// Its versions are here, durably, and may commit or not.
    Prepared,
    /// They have committed.
    Committed,
    /// They are not here, and never will be.
    Barred,
}

/// A transaction whose versions are here and in doubt.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Prepared {
    /// The transaction.
    pub txn: TxnId,
    /// The rows that it writes here.
    pub keys: BTreeSet<Key>,
    /// All shards that have to prepare.
    pub shards: BTreeSet<ShardId>,
}

/// A copy of a shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Versions {
    shard: ShardId,
    rows: BTreeMap<Key, BTreeMap<Timestamp, Version>>,
    /// The latest committed version of each row.
    latest: BTreeMap<Key, Timestamp>,
    prepared: BTreeMap<Timestamp, Prepared>,
    /// Everything that has committed: the ledger.
    committed: BTreeMap<Timestamp, (TxnId, BTreeSet<Key>)>,
    barred: BTreeSet<Timestamp>,
}

impl Versions {
    /// A shard as the scenario starts with it.
    pub fn new(layout: &Layout, shard: ShardId) -> Self {
        let initial = |value| Version {
            row: Row::initial(value),
            write_set: Arc::default(),
        };
        let zero = Timestamp::default();
        let rows: BTreeMap<Key, BTreeMap<Timestamp, Version>> = { layout.initial_rows(shard) }
            .map(|(key, value)| (key, BTreeMap::from([(zero, initial(value))])))
            .collect();
        Self {
            shard,
            latest: rows.keys().map(|key| (*key, zero)).collect(),
            rows,
            prepared: BTreeMap::new(),
            committed: BTreeMap::new(),
            barred: BTreeSet::new(),
        }
    }

    /// What is known of a timestamp; nothing if nobody has named it.
    pub fn fate(&self, at: Timestamp) -> Option<Fate> {
        if self.committed.contains_key(&at) {
            Some(Fate::Committed)
        } else if self.prepared.contains_key(&at) {
            Some(Fate::Prepared)
        } else {
            self.barred.contains(&at).then_some(Fate::Barred)
        }
    }

    /// The transaction whose versions of this timestamp are in doubt.
    pub fn prepared(&self, at: Timestamp) -> Option<&Prepared> {
        self.prepared.get(&at)
    }

    /// The timestamps in doubt.
    pub fn in_doubt(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.prepared.keys().copied()
    }

    /// The transactions in doubt that write here.
    pub fn owners(&self) -> BTreeSet<TxnId> {
        let writers = self.prepared.values().filter(|own| !own.keys.is_empty());
        writers.map(|own| own.txn).collect()
    }

    /// GET without a timestamp: the latest committed version.
    pub fn latest(&self, key: Key) -> Option<(Timestamp, &Version)> {
        let versions = self.rows.get(&key)?;
        if zoo::planted(Bug::ReadServesPrepared) {
            let (at, version) = versions.last_key_value()?;
            return Some((*at, version));
        }
        let at = self.latest.get(&key)?;
        Some((*at, versions.get(at)?))
    }

    /// GET with a timestamp: that version, whether or not it has committed here. Nothing if it was collected.
    pub fn at(&self, key: Key, at: Timestamp) -> Option<&Version> {
        self.rows.get(&key)?.get(&at)
    }

    /// PREPARE: adds versions.
    pub fn prepare(&mut self, request: &PrepareRequest) {
        let txn = request.txn;
        let writer = WriteId { txn, undo: false };
        for (key, value) in &request.rows {
            let version = Version {
                row: Row {
                    value: value.clone(),
                    writer,
                },
                write_set: Arc::clone(&request.write_set),
            };
            let versions = self.rows.entry(*key).or_default();
            versions.insert(request.at, version);
        }
        let prepared = Prepared {
            txn,
            keys: request.rows.keys().copied().collect(),
            shards: request.shards.clone(),
        };
        self.prepared.insert(request.at, prepared);
    }

    /// COMMIT: makes versions visible where they are the latest. Returns what was in doubt until now.
    pub fn commit(&mut self, at: Timestamp) -> Option<Prepared> {
        let prepared = self.prepared.remove(&at)?;
        for key in &prepared.keys {
            let latest = self.latest.entry(*key).or_default();
            *latest = at.max(*latest);
        }
        self.committed
            .insert(at, (prepared.txn, prepared.keys.clone()));
        Some(prepared)
    }

    /// Discards versions in doubt, and sees to it that they never come back. Returns what was in doubt until now.
    pub fn bar(&mut self, at: Timestamp) -> Option<Prepared> {
        self.barred.insert(at);
        let prepared = self.prepared.remove(&at)?;
        for key in &prepared.keys {
            if let Some(versions) = self.rows.get_mut(key) {
                versions.remove(&at);
            }
        }
        Some(prepared)
    }

    /// The latest committed versions: what [`collect`](Self::collect) may drop the predecessors of, later on.
    pub fn marks(&self) -> BTreeMap<Key, Timestamp> {
        self.latest.clone()
    }

    /// Forgets versions below these that are not in doubt.
    pub fn collect(&mut self, below: &BTreeMap<Key, Timestamp>) {
        let prepared = &self.prepared;
        for (key, versions) in &mut self.rows {
            if let Some(kept) = below.get(key) {
                versions.retain(|at, _| at >= kept || prepared.contains_key(at));
            }
        }
    }

    /// Whether a row has more than one version.
    pub fn has_history(&self) -> bool {
        self.rows.values().any(|versions| versions.len() > 1)
    }

    /// For the zoo: a checkpoint of the values alone.
    pub fn without_metadata(&self) -> Self {
        let mut bare = self.clone();
        for version in bare.rows.values_mut().flat_map(BTreeMap::values_mut) {
            version.write_set = Arc::default();
        }
        bare
    }

    /// What an autopsy finds: the latest committed versions, and all writes in the order of their timestamps. `region` is
    /// the position of this copy's region.
    pub fn autopsy(&self, region: usize) -> ShardState {
        let row = |(key, at): (&Key, &Timestamp)| Some((*key, self.at(*key, *at)?.row.clone()));
        let entries = self.committed.values().flat_map(|(txn, keys)| {
            let write = WriteId {
                txn: *txn,
                undo: false,
            };
            keys.iter().map(move |key| LedgerEntry { key: *key, write })
        });
        let ledger: Vec<LedgerEntry> = entries.collect();
        ShardState {
            shard: self.shard,
            region,
            rows: self.latest.iter().filter_map(row).collect(),
            up_to_applied: ledger.len(),
            ledger,
            in_doubt: self.owners(),
            applied_to: self.committed.len() as u64,
        }
    }
}
