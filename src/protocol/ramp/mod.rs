//! RAMP-Fast: read atomicity without locks. Versions carry the write set of their transaction, and readers repair what they
//! have read by it.
//!
//! Sources: Bailis, Fekete, Hellerstein, Ghodsi and Stoica, "Scalable Atomic Visibility with RAMP Transactions", SIGMOD
//! 2014, algorithm 1 and section 4.3 (cooperative termination); the same, ACM TODS 41(3), 2016.
//!
//! ```text
//!   client -- request --> coordinator
//!                         coordinator -- get --> shards          the latest committed versions
//!                         coordinator -- get-version --> shards  only what they show to be missing, by timestamp
//!                         coordinator -- prepare --> shards      versions with the write set: durable, and invisible
//!                         coordinator -- commit --> shards       visible
//!   client <-- reply -- coordinator
//! ```
//!
//! # What a transaction of ordain is here
//!
//! RAMP has writes of given values, and reads. A transaction with guards, `add`, `append` or targets that depend on values
//! is run as a read transaction followed by a write transaction: the coordinator reads, evaluates, and writes the resulting
//! values blindly. Between the two somebody else may write the same rows. That update is lost, and no promise is broken:
//! read atomicity does not forbid it. A transaction that only puts values reads nothing first.
//!
//! # Timestamps
//!
//! A timestamp is a number of the coordinator's and its machine (the paper's client id and sequence number). The number is
//! above all that the coordinator has seen in versions, so that what a transaction writes follows what it has read. A
//! coordinator leases numbers on its disk, so that a restart repeats none.
//!
//! # A request that is sent twice
//!
//! One shard of every transaction, its *home*, takes part in each attempt at it, and prepares another attempt only after it
//! has barred the one before. So a transaction takes effect once. It also records, durably, when a transaction is declined.

mod coordinator;
mod shard;
mod versions;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kit::client::{ClientMessage, ClientTimer, Patience};
use super::kit::deploy::own_front;
use super::kit::journal;
use super::kit::node::{Node, carries_client};
use super::{Atomicity, Deployment, Isolation, Progress, Promise, Promises, Protocol};
use crate::base::observation::{Mark, Outcome};
use crate::base::options::{Millis, Number, declare};
use crate::base::process::{Addr, Effects, NodeId, Wire, message_bytes};
use crate::base::txn::{Key, ShardId, Target, Txn, TxnId, Value};
use crate::plan::PlannedOperation;
use crate::scenario::layout::Layout;

pub use coordinator::Coordinator;
pub use shard::Shard;
pub use versions::{Fate, Timestamp, Version, Versions};

declare! {
    /// Options, `[protocol.ramp]` in a scenario. All times in milliseconds.
    pub struct Options {
        /// How long versions stay in doubt until their shard asks the others of the write set.
        termination_ms: Millis<500> = Millis::new(3_000),
        /// How long versions are kept that have a successor, at least. A transaction that reads longer than that starts
        /// over.
        gc_life_ms: Millis<1_000> = Millis::new(20_000),
        /// How many timestamps a coordinator takes with one write to its disk.
        timestamp_lease: Number<1, 1_000_000> = Number::new(1_000),
        /// How long without an answer until a message is sent again.
        resend_ms: Millis = Millis::new(250),
        /// Logs are shortened by a checkpoint above this size, in KiB.
        checkpoint_kib: Number<1, 1_048_576> = Number::new(64),
        /// How long a client waits before it sends its request again.
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

    /// The shard that takes part in every attempt: that of the first row that is written whatever the values are, else of
    /// the row that decides where the first write goes. None for a transaction that writes nothing.
    fn home(&self, txn: &Txn) -> Option<ShardId> {
        let known = |target: &Target| match *target {
            Target::Key(key) => Some(key),
            Target::Choice { .. } => None,
        };
        let mut targets = txn.effects.iter().map(|effect| &effect.target);
        let first = targets.clone().find_map(known);
        let key = first.or_else(|| match *targets.next()? {
            Target::Key(key) | Target::Choice { on: key, .. } => Some(key),
        })?;
        Some(self.layout.shard_of(key))
    }
}

/// Versions for a shard to prepare.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PrepareRequest {
    /// The transaction.
    pub txn: TxnId,
    /// The attempt.
    pub at: Timestamp,
    /// The rows of this shard, and what they are to hold. Empty for a home that is not written.
    pub rows: BTreeMap<Key, Value>,
    /// All rows that the attempt writes.
    pub write_set: Arc<BTreeSet<Key>>,
    /// All shards that have to prepare.
    pub shards: BTreeSet<ShardId>,
    /// The transaction's home.
    pub home: ShardId,
}

/// How a transaction ended, as its home knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum End {
    /// It has committed at this timestamp, in these shards.
    Committed(Timestamp, BTreeSet<ShardId>),
    /// It took no effect and never will: this is its outcome.
    Closed(Outcome),
}

/// Rows to read: each at a timestamp, or its latest version.
pub type Wanted = BTreeMap<Key, Option<Timestamp>>;

/// What travels.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// From or to a client.
    Client(ClientMessage),
    /// Coordinator to shard: what is in these rows?
    Get {
        /// The transaction.
        txn: TxnId,
        /// The coordinator's count of its questions about it.
        question: u64,
        /// The rows.
        wanted: Wanted,
    },
    /// Shard to coordinator.
    Rows {
        /// The transaction.
        txn: TxnId,
        /// As in the question.
        question: u64,
        /// The shard.
        shard: ShardId,
        /// The versions.
        rows: BTreeMap<Key, (Timestamp, Version)>,
    },
    /// Shard to coordinator: a version that was asked for by timestamp is not here any more.
    Gone {
        /// The transaction.
        txn: TxnId,
        /// As in the question.
        question: u64,
    },
    /// Coordinator to shard: PREPARE.
    Prepare(Arc<PrepareRequest>),
    /// Shard to coordinator: the versions are durable.
    Prepared {
        /// The transaction.
        txn: TxnId,
        /// The attempt.
        at: Timestamp,
        /// The shard.
        shard: ShardId,
    },
    /// Shard to coordinator: the attempt is barred here, and will never be prepared.
    Refused {
        /// The transaction.
        txn: TxnId,
        /// The attempt.
        at: Timestamp,
    },
    /// Coordinator to shard: COMMIT.
    Commit {
        /// The transaction.
        txn: TxnId,
        /// The attempt.
        at: Timestamp,
    },
    /// Shard to coordinator: the versions are visible, durably.
    Committed {
        /// The transaction.
        txn: TxnId,
        /// The attempt.
        at: Timestamp,
        /// The shard.
        shard: ShardId,
    },
    /// Coordinator to home: this is how the transaction ends, unless it has committed.
    Close {
        /// The transaction.
        txn: TxnId,
        /// How it ends.
        outcome: Outcome,
    },
    /// Home to coordinator: this is how the transaction ended, durably.
    Ended {
        /// The transaction.
        txn: TxnId,
        /// The end.
        end: End,
    },
    /// Shard in doubt to another one of the write set: what has become of this attempt?
    Ask {
        /// The attempt.
        at: Timestamp,
    },
    /// The answer.
    Answer {
        /// The attempt.
        at: Timestamp,
        /// Who answers.
        shard: ShardId,
        /// What it knows, durably.
        fate: Fate,
    },
}

carries_client!(Message, Timer);

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Client(message) => message.label(),
            Message::Get { wanted, .. } if wanted.values().any(Option::is_some) => "get-version",
            Message::Get { .. } => "get",
            Message::Rows { .. } => "rows",
            Message::Gone { .. } => "gone",
            Message::Prepare(_) => "prepare",
            Message::Prepared { .. } => "prepared",
            Message::Refused { .. } => "refused",
            Message::Commit { .. } => "commit",
            Message::Committed { .. } => "committed",
            Message::Close { .. } => "close",
            Message::Ended { .. } => "ended",
            Message::Ask { .. } => "ask",
            Message::Answer { .. } => "answer",
        }
    }

    /// Versions carry their write sets.
    fn size_bytes(&self) -> u32 {
        let rows = match self {
            Message::Get { wanted, .. } => wanted.len(),
            Message::Rows { rows, .. } => {
                let of_one = |(_, version): &(Timestamp, Version)| 1 + version.write_set.len();
                rows.values().map(of_one).sum()
            }
            Message::Prepare(request) => request.rows.len() + request.write_set.len(),
            _ => 0,
        };
        message_bytes(rows)
    }
}

/// The timers of all processes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// A client's.
    Client(ClientTimer),
    /// Coordinator: the transaction has had no answer for a while.
    Resend(TxnId),
    /// Shard: an attempt has been in doubt for long.
    Terminate(Timestamp),
    /// Shard: versions may have become old.
    Collect,
}

type Out = Effects<Message, Timer>;

/// The protocol.
#[derive(Clone, Copy, Debug)]
pub struct Ramp;

impl Protocol for Ramp {
    type Process = Node<Shard, Coordinator>;
    type Options = Options;

    const MARKS: &'static [&'static [Mark]] = &[
        &[
            (
                "ramp.fractured-read-repaired",
                "a reader saw from write sets what it had missed, and fetched it by timestamp",
            ),
            (
                "ramp.version-gone",
                "a version that a reader had missed was collected already, and it read again",
            ),
            (
                "ramp.in-doubt",
                "a shard had versions in doubt long enough to ask the others",
            ),
            (
                "ramp.terminated-commit",
                "shards in doubt found that all had prepared, or one had committed",
            ),
            (
                "ramp.terminated-abort",
                "a shard in doubt found that another one had barred the versions",
            ),
            (
                "ramp.barred",
                "a shard that had not prepared was asked, and promised never to",
            ),
            (
                "ramp.attempt-barred",
                "a coordinator came too late with a prepare, and began again",
            ),
            (
                "ramp.ended-before",
                "a repeated request found out that its transaction had ended",
            ),
            (
                "ramp.overwritten-from-the-start",
                "a version committed below one that was there already",
            ),
        ],
        journal::MARKS,
    ];
    const NAME: &'static str = "ramp";
    const TITLE: &'static str =
        "RAMP-Fast: read atomic transactions without locks (Bailis et al. 2014)";

    fn promises(_: &Options) -> Promises {
        Promises::of([
            Promise::Isolation(Isolation::ReadAtomic),
            Promise::Atomicity(Atomicity::AllOrNothing),
            Promise::Durability,
            Promise::Progress(Progress::AllBack),
            Promise::NoSystemAborts,
        ])
    }

    /// The coordinator talks to its client and to all shards, and the shards to one another.
    fn needs(layout: &Layout, _: &Options, operation: &PlannedOperation) -> Vec<(NodeId, NodeId)> {
        let client = layout.regions[usize::from(operation.region)].client;
        let coordinator = own_front(layout, operation).node;
        let keys = operation.txn.every_key();
        let home = |key: Key| layout.home(layout.shard_of(key));
        let shards: BTreeSet<NodeId> = keys.into_iter().map(home).collect();
        let mut needs = vec![(client, coordinator)];
        needs.extend(shards.iter().map(|shard| (coordinator, *shard)));
        needs.extend({ shards.iter() }.flat_map(|a| shards.iter().map(move |b| (*a, *b))));
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
        Ok(Deployment::on(layout)
            .fronts(|_, node| Coordinator::new(Arc::clone(&site), node))
            .homes(|shard| Shard::new(Arc::clone(&site), shard))
            .clients(operations, patience, |operation| {
                vec![own_front(layout, operation)]
            }))
    }
}
