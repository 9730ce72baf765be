//! Where things are: the machines of a scenario and the shards that live on them.
//!
//! The machines are the same whatever the protocol, so that one fault plan strikes all protocols alike;
//! a protocol uses those that it needs. Every region has, for each of its zones, a *front* machine
//! (coordinator, orchestrator, sequencer and log replica), one *data* machine for each shard, and one
//! *client* machine from which the region's sessions run.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::process::NodeId;
use crate::base::txn::{Key, ShardId, TableId, Value};

/// Which storage engine a table lives on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// PostgreSQL-like: multi-version, `PREPARE TRANSACTION`.
    Postgres,
    /// ScyllaDB-like: cells with write timestamps, the latest wins; lightweight transactions.
    Scylla,
}

/// A table: rows placed round robin over its shards.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Table {
    /// Its name in the scenario.
    pub name: String,
    /// The engine of its shards.
    pub engine: EngineKind,
    /// Its shards: no other table lives there.
    pub shards: Vec<ShardId>,
    /// Number of rows.
    pub rows: u32,
    /// What every row starts with.
    pub initial: Value,
}

/// A shard and where it lives.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Shard {
    /// The table whose rows it holds.
    pub table: TableId,
    /// The engine.
    pub engine: EngineKind,
    /// Position of the region that holds the only copy under protocols that do not replicate shards.
    pub home: usize,
}

/// The machines of a region.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// The cloud that it belongs to.
    pub cloud: String,
    /// One front machine for each zone.
    pub fronts: Vec<NodeId>,
    /// One data machine for each shard, by [`ShardId`].
    pub data: Vec<NodeId>,
    /// The machine of the region's client sessions.
    pub client: NodeId,
}

/// All of it, with every name resolved to a position.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Layout {
    /// The regions, in the scenario's order.
    pub regions: Vec<Region>,
    /// The tables, by [`TableId`].
    pub tables: Vec<Table>,
    /// The shards, by [`ShardId`].
    pub shards: Vec<Shard>,
    /// Number of machines: node ids are `0..nodes`.
    pub nodes: u16,
    /// How far each machine's wall clock is from true time at most, as the scenario declares it; in nanoseconds. `None`:
    /// nothing is declared.
    pub clock_bound_ns: Option<u64>,
}

impl Layout {
    /// The shard that holds a row.
    pub fn shard_of(&self, key: Key) -> ShardId {
        let shards = &self.tables[usize::from(key.table.0)].shards;
        shards[key.row as usize % shards.len()]
    }

    /// Every shard.
    pub fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards.len() as u16).map(ShardId)
    }

    /// Rows by the shards that hold them.
    pub fn by_shard(
        &self,
        keys: impl IntoIterator<Item = Key>,
    ) -> BTreeMap<ShardId, BTreeSet<Key>> {
        let mut by_shard: BTreeMap<ShardId, BTreeSet<Key>> = BTreeMap::new();
        for key in keys {
            let rows = by_shard.entry(self.shard_of(key)).or_default();
            rows.insert(key);
        }
        by_shard
    }

    /// The rows that a shard starts with.
    pub fn initial_rows(&self, shard: ShardId) -> impl Iterator<Item = (Key, Value)> + '_ {
        let table_id = self.shards[usize::from(shard.0)].table;
        let table = &self.tables[usize::from(table_id.0)];
        (0..table.rows)
            .map(move |row| Key {
                table: table_id,
                row,
            })
            .filter(move |key| self.shard_of(*key) == shard)
            .map(|key| (key, table.initial.clone()))
    }

    /// Every front machine, region by region: the replicas of a log that spans regions.
    pub fn fronts(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.regions
            .iter()
            .flat_map(|region| region.fronts.iter().copied())
    }

    /// The machine that holds the only copy of a shard, under protocols that do not replicate shards.
    pub fn home(&self, shard: ShardId) -> NodeId {
        self.regions[self.shards[usize::from(shard.0)].home].data[usize::from(shard.0)]
    }

    /// The region whose machines include `node`.
    pub fn region_of(&self, node: NodeId) -> Option<usize> {
        self.regions.iter().position(|region| {
            region.client == node || region.fronts.contains(&node) || region.data.contains(&node)
        })
    }
}
