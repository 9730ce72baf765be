//! Percolator: snapshot isolation from a timestamp oracle, multi-version storage and locks in the rows.
//!
//! Source: Peng and Dabek, "Large-scale Incremental Processing Using Distributed Transactions and Notifications", OSDI
//! 2010, section 2. What is not in the paper follows TiDB (Huang et al., "TiDB: A Raft-based HTAP Database", VLDB 2020).
//!
//! # Who does what
//!
//! A *coordinator* on a front machine is the paper's client library. It keeps nothing on disk. The *oracle* hands out
//! timestamps. A *shard* keeps the versions and the locks of its rows.
//!
//! ```text
//!   client -- request --> coordinator
//!                         coordinator -- get-timestamp --> oracle        start timestamp
//!                         coordinator -- read --> shards                 a snapshot
//!                         coordinator -- prewrite --> primary's shard    locks, with the values to come
//!                         coordinator -- prewrite --> the others
//!                         coordinator -- get-timestamp --> oracle        commit timestamp
//!                         coordinator -- commit --> primary's shard      the commit point
//!   client <-- reply -- coordinator
//!                         coordinator -- roll-forward --> the others
//!                         the others -- finished --> primary's shard
//! ```
//!
//! Whether a transaction has committed is recorded in one row, the *primary*. A reader that meets a lock asks the
//! primary's shard, and rolls the lock forward or back.
//!
//! # Crashed coordinators
//!
//! The primary's lock lives for `lock-ttl-ms`. Then its shard rolls the attempt back, and a coordinator that is only slow
//! finds its lock gone when it commits. The primary's lock names the shards of the others, as in TiDB's async commit. So
//! its shard finishes what a crashed coordinator left, and knows when a transaction has ended.
//!
//! # A request that is sent twice
//!
//! Coordinators forget. A repeated request becomes a new *attempt* with a new start timestamp, maybe on another front
//! machine. The primary is the same row in every attempt, and its shard records durably how the transaction ended. So a
//! transaction takes effect once. An answer other than "committed" is recorded there too, before it is given: an older
//! attempt could otherwise decline while a newer one commits. What a committed attempt has read is read again, at its
//! start timestamp.

mod coordinator;
mod oracle;
mod shard;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kit::client::{ClientMessage, ClientTimer, Patience};
use super::kit::deploy::{fronts_in_turn, own_front};
use super::kit::journal;
use super::kit::node::{Node, carries_client};
use super::{Atomicity, Autopsy, Deployment, Isolation, Progress, Promise, Promises, Protocol};
use crate::base::observation::{Mark, Outcome};
use crate::base::options::{Millis, Number, declare};
use crate::base::process::{Addr, Effects, Input, NodeId, Process, WallTime, Wire};
use crate::base::txn::{Key, Read, ShardId, Target, Txn, TxnId, Value};
use crate::plan::PlannedOperation;
use crate::scenario::layout::Layout;
use crate::shard::versions::{Lock, Refusal, Timestamp};

pub use coordinator::Coordinator;
pub use oracle::Oracle;
pub use shard::Shard;

declare! {
    /// Options, `[protocol.percolator]` in a scenario. All times in milliseconds.
    pub struct Options {
        /// How long a transaction's locks live: then others may roll it back. A live transaction that takes longer aborts.
        lock_ttl_ms: Millis<500> = Millis::new(3_000),
        /// How long a reader that meets a lock of a transaction under way waits until it reads again.
        lock_wait_ms: Millis = Millis::new(10),
        /// How often a transaction that loses a write-write conflict starts over before its client learns of it.
        restarts: Number<0, 1_000> = Number::new(0),
        /// How long versions are kept that have a successor, at least. A transaction that reads longer than that starts
        /// over.
        gc_life_ms: Millis<1_000> = Millis::new(20_000),
        /// How many timestamps the oracle hands out for one write to its disk.
        timestamp_lease: Number<1, 1_000_000> = Number::new(1_000),
        /// How long without an answer until a message is sent again.
        resend_ms: Millis = Millis::new(250),
        /// Logs are shortened by a checkpoint above this size, in KiB.
        checkpoint_kib: Number<1, 1_048_576> = Number::new(64),
        /// How long a client waits before it sends its request again, to the next front machine.
        client_resend_ms: Millis = Millis::new(5_000),
        /// When a client gives up, and takes the outcome for unknown; 0: never.
        client_give_up_ms: Millis<0> = Millis::new(0),
    }
}

impl Options {
    fn checkpoint_min_bytes(&self) -> usize {
        self.checkpoint_kib.size() * 1024
    }
}

/// What every process of a deployment knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Site {
    layout: Layout,
    options: Options,
}

impl Site {
    fn shard(&self, shard: ShardId) -> Addr {
        Addr::on(self.layout.home(shard))
    }

    fn shard_of(&self, key: Key) -> Addr {
        self.shard(self.layout.shard_of(key))
    }

    fn oracle(&self) -> Addr {
        oracle_of(&self.layout)
    }
}

/// The oracle is the second process on the first front machine.
fn oracle_of(layout: &Layout) -> Addr {
    Addr {
        port: 1,
        ..Addr::on(layout.regions[0].fronts[0])
    }
}

/// The row that records whether a transaction has committed: the same in every attempt. It is the first row that is
/// written whatever the values are, else the row that decides where the first write goes.
fn primary_of(txn: &Txn) -> Option<Key> {
    let known = |target: &Target| match *target {
        Target::Key(key) => Some(key),
        Target::Choice { .. } => None,
    };
    let mut targets = txn.effects.iter().map(|effect| &effect.target);
    let first = targets.clone().find_map(known);
    first.or_else(|| match *targets.next()? {
        Target::Key(key) | Target::Choice { on: key, .. } => Some(key),
    })
}

/// What an attempt locks in a shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PrewriteRequest {
    /// Whose locks.
    pub lock: Lock,
    /// The rows, and what they are to hold. Nothing for a primary that is not written.
    pub rows: BTreeMap<Key, Option<Value>>,
    /// For the primary's shard: the other shards in which the attempt locks rows.
    pub secondaries: BTreeSet<ShardId>,
}

/// What has become of a lock's owner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Fate {
    /// It has committed, at this time.
    Committed(Timestamp),
    /// It was rolled back.
    RolledBack,
}

/// How a transaction ended, whichever of its attempts did that.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum End {
    /// The attempt that started then committed.
    Committed {
        /// The attempt.
        start: Timestamp,
        /// When.
        commit: Timestamp,
    },
    /// It took no effect and never will: this is its outcome.
    Closed(Outcome),
}

/// What travels.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// From or to a client.
    Client(ClientMessage),
    /// Coordinator to oracle.
    GetTimestamp {
        /// The transaction.
        txn: TxnId,
        /// The coordinator's count of its attempts at it.
        attempt: u64,
        /// The attempt's start timestamp, where a commit timestamp is asked for.
        start: Option<Timestamp>,
    },
    /// Oracle to coordinator.
    Timestamp {
        /// The transaction.
        txn: TxnId,
        /// As in the request.
        attempt: u64,
        /// As in the request.
        start: Option<Timestamp>,
        /// The timestamp: above all that were handed out before the request arrived.
        at: Timestamp,
    },
    /// Coordinator to shard: what is in these rows at this time?
    Read {
        /// The transaction.
        txn: TxnId,
        /// The time.
        at: Timestamp,
        /// The rows.
        keys: BTreeSet<Key>,
    },
    /// Shard to coordinator.
    Rows {
        /// The transaction.
        txn: TxnId,
        /// The time.
        at: Timestamp,
        /// The shard.
        shard: ShardId,
        /// The rows.
        rows: Vec<Read>,
    },
    /// Shard to coordinator: these locks hide what the rows are.
    Locked {
        /// The transaction that reads.
        txn: TxnId,
        /// The time.
        at: Timestamp,
        /// The shard.
        shard: ShardId,
        /// The locks.
        locks: BTreeSet<Lock>,
    },
    /// Shard to coordinator: versions of that time are gone.
    TooOld {
        /// The transaction.
        txn: TxnId,
        /// The time.
        at: Timestamp,
    },
    /// Coordinator to shard: lock these rows.
    Prewrite(Arc<PrewriteRequest>),
    /// Shard to coordinator: they are locked, durably.
    Prewritten {
        /// The transaction.
        txn: TxnId,
        /// The attempt.
        start: Timestamp,
        /// The shard.
        shard: ShardId,
    },
    /// Shard to coordinator: the attempt cannot commit, for it did not get its locks, or has lost them.
    Refused {
        /// The transaction.
        txn: TxnId,
        /// The attempt.
        start: Timestamp,
        /// Why.
        why: Refusal,
    },
    /// Coordinator to the primary's shard: commit.
    Commit {
        /// The attempt.
        lock: Lock,
        /// The commit timestamp.
        commit: Timestamp,
    },
    /// Primary's shard to coordinator: it has committed, durably.
    Committed {
        /// The transaction.
        txn: TxnId,
        /// The attempt.
        start: Timestamp,
        /// When it committed.
        commit: Timestamp,
    },
    /// Coordinator to the primary's shard: this attempt is given up. With an outcome, the transaction is.
    GiveUp {
        /// The attempt.
        lock: Lock,
        /// How the transaction ends, unless it has committed.
        close: Option<Outcome>,
    },
    /// Primary's shard to coordinator: the attempt is rolled back, durably.
    RolledBack {
        /// The transaction.
        txn: TxnId,
        /// The attempt.
        start: Timestamp,
    },
    /// Primary's shard to coordinator: this is how the transaction ended, durably.
    Ended {
        /// The transaction.
        txn: TxnId,
        /// The attempt that asked.
        start: Timestamp,
        /// The end.
        end: End,
    },
    /// Coordinator of a reader to the primary's shard: what has become of the owner of a lock?
    CheckStatus {
        /// Whose lock it is.
        lock: Lock,
        /// The transaction that reads.
        reader: TxnId,
        /// Where it met the lock.
        shard: ShardId,
    },
    /// The answer; no fate while the owner is under way.
    Status {
        /// As in the question.
        lock: Lock,
        /// As in the question.
        reader: TxnId,
        /// As in the question.
        shard: ShardId,
        /// What has become of the owner.
        fate: Option<Fate>,
    },
    /// To a shard: roll a lock forward or back. From the owner's coordinator, a reader's, or the primary's shard.
    Resolve {
        /// Whose lock.
        lock: Lock,
        /// What has become of the owner.
        fate: Fate,
        /// The transaction that wants to read, if one does.
        reader: Option<TxnId>,
    },
    /// Shard to the coordinator of a reader: the lock is gone.
    Resolved {
        /// The transaction that reads.
        reader: TxnId,
        /// The shard.
        shard: ShardId,
    },
    /// Shard to the primary's shard: this attempt holds no lock here, and never will, durably.
    Finished {
        /// The attempt.
        start: Timestamp,
        /// The shard.
        shard: ShardId,
    },
}

carries_client!(Message, Timer);

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Client(message) => message.label(),
            Message::GetTimestamp { .. } => "get-timestamp",
            Message::Timestamp { .. } => "timestamp",
            Message::Read { .. } => "read",
            Message::Rows { .. } => "rows",
            Message::Locked { .. } => "locked",
            Message::TooOld { .. } => "too-old",
            Message::Prewrite(_) => "prewrite",
            Message::Prewritten { .. } => "prewritten",
            Message::Refused { .. } => "refused",
            Message::Commit { .. } => "commit",
            Message::Committed { .. } => "committed",
            Message::GiveUp { .. } => "give-up",
            Message::RolledBack { .. } => "rolled-back",
            Message::Ended { .. } => "ended",
            Message::CheckStatus { .. } => "check-status",
            Message::Status { .. } => "status",
            Message::Resolve { fate, .. } => match fate {
                Fate::Committed(_) => "roll-forward",
                Fate::RolledBack => "roll-back",
            },
            Message::Resolved { .. } => "resolved",
            Message::Finished { .. } => "finished",
        }
    }
}

/// The timers of all processes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// A client's.
    Client(ClientTimer),
    /// Coordinator: the transaction has had no answer for a while.
    Resend(TxnId),
    /// Coordinator: the owner of a lock was under way, and may have ended.
    LockWait(TxnId),
    /// Primary's shard: the attempt's time to live is over.
    Expire(Timestamp),
    /// Primary's shard: the attempt has ended, and other shards may not know.
    Finish(Timestamp),
    /// Shard: versions may have become old.
    Collect,
}

type Out = Effects<Message, Timer>;

/// A process on a front machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Front {
    /// It runs transactions.
    Coordinator(Coordinator),
    /// It hands out timestamps.
    Oracle(Box<Oracle>),
}

impl Process for Front {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        match self {
            Front::Coordinator(coordinator) => coordinator.step(input, out),
            Front::Oracle(oracle) => oracle.step(now, input, out),
        }
    }
}

impl Autopsy for Front {}

/// The protocol.
#[derive(Clone, Copy, Debug)]
pub struct Percolator;

impl Protocol for Percolator {
    type Process = Node<Shard, Front>;
    type Options = Options;

    const MARKS: &'static [&'static [Mark]] = &[
        &[
            (
                "percolator.write-conflict",
                "a transaction lost a row to one that committed first, or was about to",
            ),
            (
                "percolator.rolled-forward",
                "a reader met a lock of a transaction that had committed, and rolled it forward",
            ),
            (
                "percolator.rolled-back",
                "a reader met a lock of a transaction that had been rolled back, and removed it",
            ),
            (
                "percolator.lock-expired",
                "a coordinator did not come back in time, and its transaction was rolled back",
            ),
            (
                "percolator.finished-for-coordinator",
                "the primary's shard told other shards how a transaction ended, because nobody else did",
            ),
            (
                "percolator.late-prewrite",
                "a prewrite came after its attempt had been rolled back",
            ),
            (
                "percolator.ended-before",
                "a repeated request found out that its transaction had ended",
            ),
            (
                "percolator.snapshot-too-old",
                "the versions that a transaction wanted to read were gone, and it started over",
            ),
        ],
        journal::MARKS,
    ];
    const NAME: &'static str = "percolator";
    const TITLE: &'static str =
        "Percolator: snapshot isolation by a timestamp oracle (Peng and Dabek 2010)";

    fn promises(_: &Options) -> Promises {
        Promises::of([
            Promise::Isolation(Isolation::SnapshotIsolation),
            Promise::Atomicity(Atomicity::AllOrNothing),
            Promise::Durability,
            Promise::Progress(Progress::AllBack),
        ])
    }

    /// The coordinator talks to its client, to the oracle and to all shards, and the primary's shard to the others.
    fn needs(layout: &Layout, _: &Options, operation: &PlannedOperation) -> Vec<(NodeId, NodeId)> {
        let client = layout.regions[usize::from(operation.region)].client;
        let coordinator = own_front(layout, operation).node;
        let home = |key: Key| layout.home(layout.shard_of(key));
        let shards: Vec<NodeId> = operation.txn.every_key().into_iter().map(home).collect();
        let mut needs = vec![(client, coordinator), (coordinator, oracle_of(layout).node)];
        needs.extend(shards.iter().map(|shard| (coordinator, *shard)));
        if let Some(primary) = primary_of(&operation.txn) {
            needs.extend(shards.iter().map(|shard| (home(primary), *shard)));
        }
        needs
    }

    fn deploy(
        layout: &Layout,
        options: &Options,
        operations: &[PlannedOperation],
    ) -> Result<Deployment<Self::Process>, String> {
        let site = Arc::new(Site {
            layout: layout.clone(),
            options: options.clone(),
        });
        let patience = Patience::new(Some(options.client_resend_ms), options.client_give_up_ms);
        let coordinator = || Front::Coordinator(Coordinator::new(Arc::clone(&site)));
        Ok(Deployment::on(layout)
            .fronts(|_, _| coordinator())
            .coordinators([site.oracle()], |_| {
                Front::Oracle(Box::new(Oracle::new(&site.options)))
            })
            .homes(|shard| Shard::new(Arc::clone(&site), shard))
            .clients(operations, patience, |operation| {
                fronts_in_turn(layout, operation)
            }))
    }
}
