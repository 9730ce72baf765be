//! The replicated state of a group: versions of its rows, what is prepared, and how transactions ended that it
//! coordinates.
//!
//! All of it changes by commands of the group's log, in the same way on every replica. Locks are not in it: a leader keeps
//! them in memory, and takes those of prepared transactions again when it takes over (section 4.2.1).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Age, Attempt};
use crate::base::observation::Outcome;
use crate::base::process::message_bytes;
use crate::base::txn::{Key, Read, Row, ShardId, TxnId, Value};
use crate::consensus::{Command as LogCommand, Position};
use crate::protocol::kit::replicated::StateMachine;
use crate::scenario::layout::Layout;
use crate::shard::locks::Mode;
use crate::shard::versions::{Lock, Timestamp, Unreadable, Versions};

/// A participant's promise: it holds these locks until it learns the decision.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Prepared {
    /// The prepare timestamp: the attempt commits above it, if it does.
    pub at: Timestamp,
    /// The transaction's age.
    pub age: Age,
    /// The locks.
    pub locks: Vec<(Key, Mode)>,
}

/// How a transaction ended that the group coordinates.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct End {
    /// The attempt that ended it.
    pub attempt: Attempt,
    /// The commit timestamp. An outcome without effects has one, too: nobody learns of it before that time has passed.
    pub at: Timestamp,
    /// What the client is told.
    pub outcome: Outcome,
    /// The participants that may not have acted on it.
    pub missing: BTreeSet<ShardId>,
}

impl End {
    /// When it committed, if it did.
    pub fn commit(&self) -> Option<Timestamp> {
        matches!(self.outcome, Outcome::Committed { .. }).then_some(self.at)
    }
}

/// What the log orders.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Command {
    /// A participant prepares.
    Prepare {
        /// The attempt.
        attempt: Attempt,
        /// The promise.
        prepared: Prepared,
        /// What its rows are to hold.
        writes: BTreeMap<Key, Value>,
    },
    /// The coordinator decides: a transaction ends, once and for all.
    End {
        /// How.
        end: End,
        /// What rows of this group are to hold.
        writes: BTreeMap<Key, Value>,
    },
    /// A participant learns the decision on an attempt.
    Resolve {
        /// The attempt.
        attempt: Attempt,
        /// When it committed; nothing if it did not.
        commit: Option<Timestamp>,
    },
    /// All participants have acted on the end of a transaction.
    Forget {
        /// The transaction.
        txn: TxnId,
    },
    /// From here on no transaction gets a timestamp at or below this one: it is safe to read there.
    Advance {
        /// The timestamp.
        at: Timestamp,
    },
}

impl LogCommand for Command {
    fn size_bytes(&self) -> u32 {
        let rows = match self {
            Command::Prepare { writes, .. } | Command::End { writes, .. } => writes.len(),
            _ => 0,
        };
        message_bytes(rows)
    }
}

/// What a command did.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Applied {
    /// An attempt is prepared.
    Prepared(Attempt),
    /// A transaction has ended; the rows of this group that it wrote. `None`: it had ended before, and nothing happened.
    Ended(TxnId, Option<Vec<Key>>),
    /// The decision on a prepared attempt has been acted on; the rows that it wrote.
    Resolved {
        /// The attempt.
        attempt: Attempt,
        /// Whether it committed.
        commit: bool,
        /// Whether it was prepared until now.
        was_prepared: bool,
        /// The rows that it wrote.
        written: Vec<Key>,
    },
    /// Nobody has to be told.
    Quiet,
}

/// The state.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Group {
    versions: Versions,
    prepared: BTreeMap<Attempt, Prepared>,
    ended: BTreeMap<TxnId, End>,
    /// No transaction gets a timestamp at or below this one any more. All that have one are in this state: it is the
    /// group's safe time, but for what is prepared (section 4.1.3).
    safe: Timestamp,
}

impl Group {
    /// A shard as the scenario starts with it.
    pub fn new(layout: &Layout, shard: ShardId) -> Self {
        Self {
            versions: Versions::new(layout, shard),
            prepared: BTreeMap::new(),
            ended: BTreeMap::new(),
            safe: Timestamp(0),
        }
    }

    /// The versions of the rows.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// See [`Group`].
    pub fn safe(&self) -> Timestamp {
        self.safe
    }

    /// Everything that is prepared.
    pub fn prepared(&self) -> &BTreeMap<Attempt, Prepared> {
        &self.prepared
    }

    /// How a transaction ended, if it did and this group coordinates it.
    pub fn end(&self, txn: TxnId) -> Option<&End> {
        self.ended.get(&txn)
    }

    /// Ended transactions whose participants may not have acted on it.
    pub fn unfinished(&self) -> impl Iterator<Item = (TxnId, &End)> {
        let unfinished = self.ended.iter().filter(|(_, end)| !end.missing.is_empty());
        unfinished.map(|(txn, end)| (*txn, end))
    }

    /// The newest versions of rows, for who holds locks on them.
    pub fn newest(&self, keys: impl IntoIterator<Item = Key>) -> Vec<Read> {
        let read = |key| Read {
            key,
            row: self
                .row(key, Timestamp(u64::MAX))
                .unwrap_or_else(|_| absent()),
        };
        keys.into_iter().map(read).collect()
    }

    /// A row at a timestamp.
    ///
    /// # Errors
    ///
    /// A transaction that is prepared may commit below it.
    pub fn row(&self, key: Key, at: Timestamp) -> Result<Row, Unreadable> {
        let row = self.versions.read(key, at)?;
        Ok(row.cloned().unwrap_or_else(absent))
    }

    /// Locks and writes rows at once.
    fn write(&mut self, attempt: Attempt, at: Timestamp, writes: BTreeMap<Key, Value>) -> Vec<Key> {
        // The leader leaves room for it.
        let start = Timestamp(at.0 - 1);
        self.intend(attempt, start, writes);
        self.versions.commit(start, at).unwrap_or_default()
    }

    fn intend(&mut self, attempt: Attempt, start: Timestamp, writes: BTreeMap<Key, Value>) {
        let Some(primary) = writes.keys().next().copied() else {
            return;
        };
        let txn = attempt.txn;
        let rows = writes.into_iter().map(|(key, value)| (key, Some(value)));
        let lock = Lock {
            txn,
            start,
            primary,
        };
        let locked = self.versions.lock(lock, rows.collect());
        assert!(
            locked.is_ok() || crate::base::zoo::any(),
            "{attempt:?} at {start} holds the locks of its rows: {locked:?}"
        );
    }
}

fn absent() -> Row {
    Row::initial(Value::Int(0))
}

impl StateMachine for Group {
    type Command = Command;
    type Output = Applied;

    fn apply(&mut self, _: Position, command: Command) -> Applied {
        match command {
            Command::Prepare {
                attempt,
                prepared,
                writes,
            } => {
                self.safe = self.safe.max(prepared.at);
                self.intend(attempt, prepared.at, writes);
                self.prepared.insert(attempt, prepared);
                Applied::Prepared(attempt)
            }
            Command::End { end, writes } => {
                self.safe = self.safe.max(end.at);
                let txn = end.attempt.txn;
                if self.ended.contains_key(&txn) {
                    return Applied::Ended(txn, None);
                }
                let written = self.write(end.attempt, end.at, writes);
                self.ended.insert(txn, end);
                Applied::Ended(txn, Some(written))
            }
            Command::Resolve { attempt, commit } => {
                let prepared = self.prepared.remove(&attempt);
                let mut written = Vec::new();
                if let Some(prepared) = &prepared {
                    match commit {
                        Some(at) => {
                            self.safe = self.safe.max(at);
                            let rows = self.versions.commit(prepared.at, at);
                            written = rows.unwrap_or_default();
                        }
                        None => self.versions.roll_back(prepared.at),
                    }
                }
                Applied::Resolved {
                    attempt,
                    commit: commit.is_some(),
                    was_prepared: prepared.is_some(),
                    written,
                }
            }
            Command::Forget { txn } => {
                if let Some(end) = self.ended.get_mut(&txn) {
                    end.missing.clear();
                }
                Applied::Quiet
            }
            Command::Advance { at } => {
                self.safe = self.safe.max(at);
                Applied::Quiet
            }
        }
    }
}
