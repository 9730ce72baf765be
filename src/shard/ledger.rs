//! Which writes a copy of a shard contains, in the order of application. It is what an autopsy reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::LedgerEntry;
use crate::base::txn::{Key, WriteId};
use crate::base::zoo;

/// Every write that a copy contains.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// Each write, and its place in the order of application.
    places: BTreeMap<LedgerEntry, u64>,
}

impl Ledger {
    /// Whether this write is part of the state.
    pub fn contains(&self, key: Key, write: WriteId) -> bool {
        self.places.contains_key(&LedgerEntry { key, write })
    }

    /// Enters a write after all others.
    ///
    /// # Panics
    ///
    /// When it was entered before: the caller has applied it twice.
    pub fn enter(&mut self, key: Key, write: WriteId) {
        let place = self.places.len() as u64;
        let entry = LedgerEntry { key, write };
        let before = self.places.insert(entry, place);
        assert!(before.is_none() || zoo::any(), "{entry:?} is applied once");
    }

    /// The writes in the order of application.
    pub fn in_order(&self) -> Vec<LedgerEntry> {
        let mut entries: Vec<_> = self
            .places
            .iter()
            .map(|(entry, at)| (*at, *entry))
            .collect();
        entries.sort_unstable();
        entries.into_iter().map(|(_, entry)| entry).collect()
    }
}
