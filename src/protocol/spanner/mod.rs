//! Spanner: two-phase commit across groups that Paxos replicates, and timestamps from clocks with a declared bound.
//!
//! Source: Corbett et al., "Spanner: Google's Globally-Distributed Database", OSDI 2012, sections 3 and 4.
//!
//! # Who does what
//!
//! Each shard is a *group*: a copy in every region, kept alike by a replicated log ([`Replicated`]). The leader of a group
//! keeps its lock table, in memory. A transaction that writes is run by the leader of one of its groups, its *coordinator*:
//! the one that holds the first row it writes. (In the paper, the client reads, and then names a coordinator.)
//!
//! ```text
//!   client -- request --> a replica of the coordinator's group -- forward --> its leader
//!                         coordinator -- lock --> leaders of the other groups
//!                         coordinator <-- locked -- with the rows
//!                         coordinator -- prepare --> the others       each: a prepare record in its log
//!                         coordinator <-- prepared --                 with a prepare timestamp
//!                         a commit record in the coordinator's log, and commit wait beside it
//!   client <-- reply -- coordinator
//!                         coordinator -- decision --> the others      each: a record in its log; locks are released
//!                         coordinator <-- done --
//! ```
//!
//! # Timestamps
//!
//! A commit timestamp is at least `TT.now().latest`, and above all prepare timestamps and all that the leader has given out
//! (section 4.2.1). *Commit wait*: nobody sees the transaction before that time has certainly passed (`TT.after`). So if
//! one transaction ends before another begins, its timestamp is smaller, while every clock keeps its bound.
//!
//! A transaction that only reads takes no locks. It reads everywhere at `TT.now().latest`. A group serves that once its
//! *safe time* has come so far (section 4.1.3): no transaction will get a timestamp at or below it, and none that has one
//! is prepared on those rows.
//!
//! # What differs from the paper
//!
//! - There are no leader leases. A leader makes a read's timestamp safe with a record in the log, and needs no clock for
//!   that. A read costs one round of consensus, unless something newer was committed meanwhile.
//! - Locks are asked for in their strongest mode before anything is read.
//! - Safe time is held back by prepared transactions row by row, as the paper proposes in section 4.2.4.
//! - Versions are not collected.

mod coordinator;
mod group;
mod participant;
mod reader;
mod replica;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kit::client::{ClientMessage, ClientTimer, Patience};
use super::kit::deploy::home_key;
use super::kit::node::{Node, carries_client};
use super::kit::replicated::Replicated;
use super::promises::Assumption;
use super::{Atomicity, Deployment, Isolation, Progress, Promise, Promises, Protocol};
use crate::base::observation::Mark;
use crate::base::options::{Millis, Number, Unfit, declare};
use crate::base::process::{Addr, Effects, FileId, NodeId, WallTime, Wire, message_bytes};
use crate::base::txn::{Key, Read, ShardId, Txn, TxnId, Value};
use crate::consensus::{self, Config, LogMessage, LogTimer, Term};
use crate::plan::PlannedOperation;
use crate::scenario::layout::Layout;
use crate::shard::locks::Mode;
use crate::shard::versions::Timestamp;

use group::Command;

pub use group::Group;
pub use replica::Replica;

declare! {
    /// Options, `[protocol.spanner]` in a scenario. All times in milliseconds.
    pub struct Options {
        /// Whether a transaction waits until its timestamp has certainly passed (`TT.after`) before anybody sees it. Without
        /// that wait, only serializability is left.
        commit_wait: bool = true,
        /// F, how many regions it must be possible to lose while all groups go on. Fewer than 2F + 1 regions are refused.
        tolerated: Number<0, 8> = Number::new(0),
        /// How many entries a group's log keeps until it is shortened to a snapshot.
        log_entries: Number<1, 1_000_000> = Number::new(256),
        /// How long without an answer until a message is sent again, to the next replica of the group.
        resend_ms: Millis = Millis::new(250),
        /// How often the leader of a group asks what has become of a transaction that holds locks there.
        inquire_ms: Millis = Millis::new(1_000),
        /// Longest pause of a wounded transaction before it starts again with its old age; 0: none.
        restart_pause_ms: Millis<0> = Millis::new(10),
        /// How long a client waits before it sends its request again, to the next replica.
        client_resend_ms: Millis = Millis::new(2_000),
        /// When a client gives up, and takes the outcome for unknown; 0: never.
        client_give_up_ms: Millis<0> = Millis::new(0),
        /// How the groups' logs are run: see `[protocol.spanner.log]`.
        log: consensus::Options = consensus::Options::default(),
    }
}

/// A transaction's age: wound-wait lets the older go first. The same in all attempts of a coordinator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Age {
    /// When its coordinator got it, by its clock.
    pub since: WallTime,
    /// The transaction.
    pub txn: TxnId,
}

/// One run of a transaction. A wounded transaction runs again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// The transaction.
    pub txn: TxnId,
    /// The group that coordinates it.
    pub coordinator: ShardId,
    /// The term in which that group's leader runs it.
    pub term: Term,
    /// Counts that leader's attempts.
    pub number: u64,
}

/// Locks that an attempt needs in a group: all that it has asked for there so far, too.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LockRequest {
    /// The attempt.
    pub attempt: Attempt,
    /// Its age.
    pub age: Age,
    /// 0, and 1 for the rows that a dependent transaction found out about in round 0.
    pub round: u8,
    /// The rows and how.
    pub wanted: Vec<(Key, Mode)>,
}

/// What a group is to prepare.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PrepareRequest {
    /// The attempt.
    pub attempt: Attempt,
    /// The term of the group's leader that granted the locks.
    pub term: Term,
    /// What its rows are to hold.
    pub writes: BTreeMap<Key, Value>,
}

/// What travels.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// From or to a client.
    Client(ClientMessage),
    /// Between replicas of a group.
    Log(LogMessage<Command>),
    /// Replica to its group's leader: a client's request.
    Forward {
        /// Whom to answer.
        client: Addr,
        /// The transaction.
        txn: Arc<Txn>,
    },
    /// Replica that does not lead to whoever takes it for a leader.
    NotLeader {
        /// The transaction.
        txn: TxnId,
        /// The group.
        group: ShardId,
        /// Who leads, as far as it knows.
        leader: Option<Addr>,
    },
    /// Coordinator to participant: lock and read these rows.
    Lock(Arc<LockRequest>),
    /// Participant to coordinator: the locks are held, and this is what the rows are.
    Locked {
        /// The attempt.
        attempt: Attempt,
        /// As in the request.
        round: u8,
        /// The participant.
        group: ShardId,
        /// The term of its leader.
        term: Term,
        /// The rows.
        rows: Vec<Read>,
    },
    /// Participant to coordinator: an older transaction wants one of the locks.
    Wound {
        /// The attempt.
        attempt: Attempt,
    },
    /// Coordinator to participant: this attempt needs its locks no more and will never be prepared.
    Release {
        /// The attempt.
        attempt: Attempt,
    },
    /// Coordinator to participant.
    Prepare(Arc<PrepareRequest>),
    /// Participant to coordinator: it will commit if it is told to.
    Prepared {
        /// The attempt.
        attempt: Attempt,
        /// The participant.
        group: ShardId,
        /// The prepare timestamp.
        at: Timestamp,
    },
    /// Participant to coordinator: it does not hold the locks, and will not prepare.
    Refused {
        /// The attempt.
        attempt: Attempt,
    },
    /// Participant to coordinator: what has become of this attempt, which holds locks here?
    Inquire {
        /// The attempt.
        attempt: Attempt,
        /// The participant.
        group: ShardId,
    },
    /// Coordinator to participant.
    Decision {
        /// The attempt.
        attempt: Attempt,
        /// When it committed; nothing if it did not.
        commit: Option<Timestamp>,
    },
    /// Participant to coordinator: it has acted on the decision, durably.
    Done {
        /// The attempt.
        attempt: Attempt,
        /// The participant.
        group: ShardId,
    },
    /// Reader to a group: what is in these rows at this time?
    Read {
        /// The transaction.
        txn: TxnId,
        /// The time.
        at: Timestamp,
        /// The rows.
        keys: BTreeSet<Key>,
    },
    /// The answer.
    Rows {
        /// The transaction.
        txn: TxnId,
        /// The time.
        at: Timestamp,
        /// The group.
        group: ShardId,
        /// The rows.
        rows: Vec<Read>,
    },
}

carries_client!(Message, Timer);

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Client(message) => message.label(),
            Message::Log(message) => message.label(),
            Message::Forward { .. } => "forward",
            Message::NotLeader { .. } => "not-leader",
            Message::Lock(_) => "lock",
            Message::Locked { .. } => "locked",
            Message::Wound { .. } => "wound",
            Message::Release { .. } => "release",
            Message::Prepare(_) => "prepare",
            Message::Prepared { .. } => "prepared",
            Message::Refused { .. } => "refused",
            Message::Inquire { .. } => "inquire",
            Message::Decision { commit, .. } => match commit {
                Some(_) => "commit",
                None => "abort",
            },
            Message::Done { .. } => "done",
            Message::Read { .. } => "read",
            Message::Rows { .. } => "rows",
        }
    }

    fn size_bytes(&self) -> u32 {
        let rows = match self {
            Message::Log(message) => return message.size_bytes(),
            Message::Lock(request) => request.wanted.len(),
            Message::Locked { rows, .. } | Message::Rows { rows, .. } => rows.len(),
            Message::Prepare(request) => request.writes.len(),
            Message::Read { keys, .. } => keys.len(),
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
    /// The log's.
    Log(LogTimer),
    /// Coordinator: a transaction has had no answer for a while.
    Resend(TxnId),
    /// Coordinator: a wounded transaction starts again.
    Restart(TxnId),
    /// Coordinator: a commit timestamp may have passed.
    CommitWait(TxnId),
    /// Coordinator: participants may not know how a transaction ended.
    Finish(TxnId),
    /// Participant: an attempt has held locks for a while.
    Inquire(Attempt),
    /// Reader: a group has not answered.
    Reread(TxnId),
    /// A version that somebody reads may have passed.
    ReadWait,
}

pub(crate) type Out = Effects<Message, Timer>;

/// What every process of a deployment knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Site {
    layout: Layout,
    options: Options,
    /// How far clocks are from true time at most, nanoseconds.
    bound_ns: u64,
}

impl Site {
    fn replica(&self, region: usize, group: ShardId) -> Addr {
        Addr::on(self.layout.regions[region].data[usize::from(group.0)])
    }

    fn replicas(&self, group: ShardId) -> Vec<Addr> {
        let regions = 0..self.layout.regions.len();
        regions.map(|region| self.replica(region, group)).collect()
    }

    /// Whom to take for a group's leader at first.
    fn first_guess(&self, group: ShardId) -> Addr {
        self.replica(self.layout.shards[usize::from(group.0)].home, group)
    }

    /// The replica of a group after this one, in turn.
    fn next_replica(&self, group: ShardId, after: Addr) -> Addr {
        let replicas = self.replicas(group);
        let at = replicas.iter().position(|replica| *replica == after);
        replicas[at.map_or(0, |at| (at + 1) % replicas.len())]
    }
}

/// The group that coordinates a transaction: the same in every attempt.
fn coordinator_of(layout: &Layout, txn: &Txn) -> ShardId {
    layout.shard_of(home_key(txn))
}

/// The protocol.
#[derive(Clone, Copy, Debug)]
pub struct Spanner;

impl Protocol for Spanner {
    type Process = Node<Replica>;
    type Options = Options;

    const MARKS: &'static [&'static [Mark]] = &[
        &[
            (
                "spanner.commit-wait",
                "a commit record was replicated before its timestamp had certainly passed",
            ),
            (
                "spanner.wounded",
                "an older transaction took a lock (wound-wait)",
            ),
            (
                "spanner.prepared-taken-over",
                "a leader took over with prepared transactions, and took their locks again",
            ),
            (
                "spanner.end-taken-over",
                "a leader took over with an ended transaction whose participants may not know",
            ),
            (
                "spanner.locks-lost",
                "a participant was to prepare under locks that an earlier leader had granted",
            ),
            (
                "spanner.presumed-abort",
                "a participant asked about an attempt that its coordinator does not know",
            ),
            (
                "spanner.ended-before",
                "a repeated request was answered from the group's state",
            ),
            (
                "spanner.read-behind-prepared",
                "a snapshot read waited for a transaction that is prepared",
            ),
            (
                "spanner.read-waits",
                "a snapshot read waited until a version's timestamp had certainly passed",
            ),
            (
                "spanner.safe-time-advanced",
                "a leader made a read's timestamp safe with a record in the log",
            ),
            (
                "spanner.follower-read",
                "a replica that does not lead served a snapshot read",
            ),
        ],
        consensus::MARKS,
    ];
    const NAME: &'static str = "spanner";
    const TITLE: &'static str =
        "Spanner: two-phase commit over replicated groups, commit wait (Corbett et al. 2012)";
    const ENTRY: &'static str = "a replica";

    fn fit(options: &Options) -> Result<(), Unfit> {
        options.log.fit().map_err(|message| Unfit {
            option: "log.heartbeat-ms",
            message,
        })
    }

    fn carried(layout: &Layout, options: &Options) -> Result<(), String> {
        if layout.clock_bound_ns.is_none() {
            return Err(
                "timestamps need clocks with a declared bound: add `clock-bound` to [machines]"
                    .into(),
            );
        }
        let (regions, tolerated) = (layout.regions.len(), options.tolerated.size());
        if regions < 2 * tolerated + 1 {
            return Err(format!(
                "{regions} regions form no quorum without {tolerated} of them: it takes {}; add regions, or lower `tolerated`",
                2 * tolerated + 1
            ));
        }
        Ok(())
    }

    fn promises(options: &Options) -> Promises {
        let serializable = Promises::of([Promise::Isolation(Isolation::Serializable)]);
        let strict = Promises::of([Promise::Isolation(Isolation::StrictSerializable)]);
        let isolation = match options.commit_wait {
            true => strict.assuming(Assumption::BoundedClocks),
            false => serializable,
        };
        isolation
            .and(Promise::Atomicity(Atomicity::AllOrNothing))
            .and(Promise::Durability)
            .and(Promise::Progress(Progress::AllBack))
    }

    /// The client talks to the coordinator's group, and the replicas of all groups of the transaction with one another.
    fn needs(layout: &Layout, _: &Options, operation: &PlannedOperation) -> Vec<(NodeId, NodeId)> {
        let client = layout.regions[usize::from(operation.region)].client;
        let keys = operation.txn.every_key();
        let mut groups: BTreeSet<ShardId> = keys.iter().map(|key| layout.shard_of(*key)).collect();
        let coordinator = coordinator_of(layout, &operation.txn);
        groups.insert(coordinator);
        let of = |group: ShardId| {
            let regions = layout.regions.iter();
            regions.map(move |region| region.data[usize::from(group.0)])
        };
        let all: Vec<NodeId> = groups.into_iter().flat_map(of).collect();
        let pairs = all.iter().flat_map(|a| all.iter().map(|b| (*a, *b)));
        of(coordinator)
            .map(|replica| (client, replica))
            .chain(pairs)
            .collect()
    }

    fn deploy(
        layout: &Layout,
        options: &Options,
        operations: &[PlannedOperation],
    ) -> Result<Deployment<Self::Process>, String> {
        Self::carried(layout, options)?;
        let site = Arc::new(Site {
            layout: layout.clone(),
            options: options.clone(),
            bound_ns: layout.clock_bound_ns.unwrap_or_default(),
        });
        let log = |region: usize, group: ShardId| {
            let config = Config {
                group: group.0,
                me: site.replica(region, group),
                members: site.replicas(group),
                file: FileId(0),
                flush_owner: 0,
                options: options.log.clone(),
            };
            let entries_max = options.log_entries.get();
            Replicated::new(config, Group::new(layout, group), entries_max)
        };
        let patience = Patience::new(Some(options.client_resend_ms), options.client_give_up_ms);
        let entries = |operation: &PlannedOperation| {
            let group = coordinator_of(layout, &operation.txn);
            let (own, all) = (usize::from(operation.region), layout.regions.len());
            let in_turn = (own..all).chain(0..own);
            in_turn.map(|region| site.replica(region, group)).collect()
        };
        Ok(Deployment::on(layout)
            .copies(|region, group| {
                Replica::new(Arc::clone(&site), region, group, log(region, group))
            })
            .clients(operations, patience, entries))
    }
}
