//! Two-phase commit with presumed abort over strict two-phase locking.
//!
//! Sources: Gray, "Notes on Data Base Operating Systems" (1978), section 5.8.3; Mohan, Lindsay and Obermarck,
//! "Transaction Management in the R* Distributed Database Management System", TODS 11(4), 1986, section 3
//! (presumed abort); Gray and Lamport, "Consensus on Transaction Commit", TODS 31(1), 2006, section 2 (the
//! message pattern and the counts).
//!
//! # Who does what
//!
//! Clients send a transaction to the *initiating* participant: the data machine of its first row. That one
//! runs it: it locks and reads at all participants, evaluates the procedure, forces its own vote, and hands
//! everything over to the transaction manager with the first `prepared` message.
//!
//! ```text
//!   client -- request --> initiator                               execution
//!                         initiator -- lock --> participants
//!                         initiator <-- locked -- participants
//!                         initiator -- prepared --> manager       commit: 1
//!                         manager -- prepare --> the others               N - 1
//!                         the others -- prepared --> manager              N - 1
//!                         manager -- commit --> all                       N
//!   client <-- reply -- initiator
//!                         all -- ack --> manager                  not in Gray and Lamport's figure
//! ```
//!
//! That makes 3N - 1 messages and N + 1 forced writes up to the decision; 3N - 3 messages with the manager on
//! the initiator's machine, where two of them stay on it.
//!
//! # Why old messages are harmless
//!
//! Presuming abort is dangerous where a network delivers late: a manager that has answered "abort" for want of
//! a record must never collect votes for that transaction afterwards. So the initiator's `prepared` names the
//! manager's *incarnation*, which every restart raises, and a manager takes up no transaction of an earlier one.
//! Likewise a `prepare` names the *grant* under which a participant held its locks when they were read, and a
//! participant that has lost that grant votes no, even if a stray `lock` has got it the same locks again.
//!
//! # Restarts
//!
//! A restarted participant has its votes and nothing else: neither the queue of those who wait for locks nor the locks
//! of transactions that it has not voted for. It says so to everybody (`restarted`), and initiators and managers ask
//! again at once for what they miss from it. That message may be lost like any other: asking again after a while
//! (`resend-ms`) is what the protocol rests on, and the announcement only makes it soon.

mod heuristic;
mod manager;
mod participant;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kit::deploy::home_key;
use super::kit::journal;
use super::kit::node::{self, carries_client, carries_execution};
use super::kit::participant::Commitment;
use super::{Atomicity, Deployment, Isolation, Progress, Promise, Promises, Protocol};
use crate::base::observation::{AbortReason, Mark};
use crate::base::options::{Choice, Millis, Number, declare};
use crate::base::process::{Addr, Effects, NodeId, Wire, message_bytes};
use crate::base::txn::{ShardId, TxnId};
use crate::plan::PlannedOperation;
use crate::protocol::kit::client::{ClientMessage, ClientTimer, Patience};
use crate::protocol::kit::execution::{self, Part};
use crate::scenario::layout::Layout;

pub use heuristic::Heuristic;
pub use manager::{Manager, ManagerView};
pub use participant::{Member, Participant, ParticipantView};

/// Where the transaction manager runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// On the first front machine of the initiator's region.
    #[default]
    Separate,
    /// On the initiator's own machine.
    CoLocated,
}

impl Choice for Placement {}
impl Choice for Heuristic {}

declare! {
    /// Options, `[protocol.2pc]` in a scenario. All times in milliseconds.
    pub struct Options {
        /// Where the transaction manager runs: `separate` or `co-located`.
        coordinator: Placement = Placement::Separate,
        /// Whether participants in doubt also ask one another (Bernstein, Hadzilacos and Goodman 1987, section 7.4).
        cooperative_termination: bool = false,
        /// Whether participants other than the initiator that only read vote `read`, force nothing, and leave
        /// after the first phase (Mohan, Lindsay and Obermarck, section 3.1).
        read_only_optimisation: bool = false,
        /// Whether a transaction with one participant commits there, without the manager.
        one_participant_optimisation: bool = false,
        /// How long without an answer until a message of the execution or commit phase is sent again;
        /// requests for locks, which may have to wait, less and less often.
        resend_ms: Millis = Millis::new(250),
        /// Whether a restarted participant says so to everybody, instead of to its manager alone: then nobody finds
        /// out by having to send again.
        announce_restarts: bool = true,
        /// How often a participant in doubt asks for the decision.
        inquiry_ms: Millis = Millis::new(500),
        /// What a participant does that has been in doubt for `heuristic-after-ms`: `wait` for the decision, however
        /// long that takes, or `commit` or `abort` alone (XA's heuristic decisions). Then atomicity is promised for
        /// all other transactions only, and isolation for none.
        heuristic: Heuristic = Heuristic::Wait,
        /// How long a participant waits in doubt before it decides alone, up to half as much again.
        heuristic_after_ms: Millis = Millis::new(10_000),
        /// How long the manager waits for votes before it decides to abort.
        vote_timeout_ms: Millis = Millis::new(5_000),
        /// How often a participant that has granted locks asks whether the transaction is still running.
        probe_ms: Millis = Millis::new(2_000),
        /// Longest pause of a wounded transaction before it starts again with its old timestamp; 0: none.
        restart_pause_ms: Millis<0> = Millis::new(10),
        /// How often a transaction may be wounded before its client learns of it; 0: any number of times.
        restarts: Number<0, 1_000_000> = Number::new(0),
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

    fn execution(&self) -> execution::Options {
        execution::Options {
            resend_ms: self.resend_ms,
            probe_ms: self.probe_ms,
            restart_pause_ms: self.restart_pause_ms,
            restarts: self.restarts,
        }
    }
}

/// What every process of a deployment knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Site {
    layout: Layout,
    options: Options,
    execution: execution::Options,
}

impl Site {
    fn new(layout: &Layout, options: &Options) -> Self {
        Self {
            layout: layout.clone(),
            options: options.clone(),
            execution: options.execution(),
        }
    }

    fn participant(&self, shard: ShardId) -> Addr {
        execution::participant(&self.layout, shard)
    }

    /// The manager of the transactions that a shard initiates.
    fn manager(&self, initiator: ShardId) -> Addr {
        let region = &self.layout.regions[self.layout.shards[usize::from(initiator.0)].home];
        match self.options.coordinator {
            Placement::Separate => Addr::on(region.fronts[0]),
            Placement::CoLocated => Addr {
                node: self.layout.home(initiator),
                port: 1,
            },
        }
    }

    fn managers(&self) -> BTreeSet<Addr> {
        let shards = self.layout.shard_ids();
        shards.map(|shard| self.manager(shard)).collect()
    }
}

/// The initiator's yes vote, which begins the commit phase.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The transaction.
    pub txn: TxnId,
    /// The initiator.
    pub initiator: ShardId,
    /// The incarnation of the manager that is to collect the votes. No other one may.
    pub incarnation: u64,
    /// All participants, the initiator included.
    pub parts: Vec<Part>,
}

impl Start {
    pub(crate) fn shards(&self) -> BTreeSet<ShardId> {
        self.parts.iter().map(|part| part.shard).collect()
    }

    /// The participants of the second phase: all of them, or those that do more than read.
    pub(crate) fn stayers(&self, options: &Options) -> BTreeSet<ShardId> {
        let stays = |part: &&Part| !(options.read_only_optimisation && self.leaves(part));
        self.parts
            .iter()
            .filter(stays)
            .map(|part| part.shard)
            .collect()
    }

    fn leaves(&self, part: &Part) -> bool {
        part.writes.is_empty() && part.shard != self.initiator
    }
}

/// A request to vote.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PrepareRequest {
    /// The transaction.
    pub txn: TxnId,
    /// What is asked of this participant.
    pub part: Part,
    /// The participants of the second phase; who is not among them may leave after voting.
    pub peers: BTreeSet<ShardId>,
}

/// What travels.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// From or to a client.
    Client(ClientMessage),
    /// Between initiator and participants, before anybody votes.
    Execution(execution::Message),
    /// Initiator to manager: a yes vote with everybody's part.
    Start(Arc<Start>),
    /// Manager to participant: vote.
    Prepare(Arc<PrepareRequest>),
    /// Participant to manager: a yes vote.
    Prepared {
        /// The transaction.
        txn: TxnId,
        /// The participant.
        shard: ShardId,
    },
    /// Participant to manager: a yes vote of one that only read and has left.
    Read {
        /// The transaction.
        txn: TxnId,
        /// The participant.
        shard: ShardId,
    },
    /// Participant to manager: a no vote.
    No {
        /// The transaction.
        txn: TxnId,
        /// The participant.
        shard: ShardId,
    },
    /// Manager to participant: the decision.
    Commit {
        /// The transaction.
        txn: TxnId,
    },
    /// Manager to participant: the decision, or the presumption.
    Abort {
        /// The transaction.
        txn: TxnId,
        /// Why.
        why: AbortReason,
    },
    /// Participant to manager: the commit is durable here.
    Ack {
        /// The transaction.
        txn: TxnId,
        /// The participant.
        shard: ShardId,
    },
    /// Participant in doubt to manager: what was decided?
    Inquiry {
        /// The transaction.
        txn: TxnId,
    },
    /// Participant in doubt to another: what do you know?
    PeerInquiry {
        /// The transaction.
        txn: TxnId,
    },
    /// The answer, from one who knows or whose vote was still free.
    PeerAnswer {
        /// The transaction.
        txn: TxnId,
        /// The decision.
        commit: bool,
    },
    /// Participant to everybody, after a restart: what was asked of it, and the locks of all that it had not
    /// voted for, are gone. Managers answer those whose transactions they manage.
    Restarted {
        /// The participant.
        shard: ShardId,
        /// How often it has booted. Grants of earlier boots are void.
        boot: u64,
    },
    /// Manager to participant: its incarnation.
    Hello {
        /// How often it has booted.
        incarnation: u64,
    },
}

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Client(message) => message.label(),
            Message::Execution(message) => message.label(),
            Message::Start(_) | Message::Prepared { .. } => "prepared",
            Message::Prepare(_) => "prepare",
            Message::Read { .. } => "read",
            Message::No { .. } => "no",
            Message::Commit { .. } => "commit",
            Message::Abort { .. } => "abort",
            Message::Ack { .. } => "ack",
            Message::Inquiry { .. } => "inquiry",
            Message::PeerInquiry { .. } => "peer-inquiry",
            Message::PeerAnswer { .. } => "peer-answer",
            Message::Restarted { .. } => "restarted",
            Message::Hello { .. } => "hello",
        }
    }

    fn size_bytes(&self) -> u32 {
        let rows = match self {
            Message::Execution(message) => return message.size_bytes(),
            Message::Start(start) => start.parts.iter().map(|part| part.writes.len()).sum(),
            Message::Prepare(request) => request.part.writes.len(),
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
    /// An execution's.
    Execution(execution::Timer),
    /// A participant is in doubt.
    Inquire(TxnId),
    /// A participant has been in doubt for too long.
    Heuristic(TxnId),
    /// The manager misses votes or acks.
    Resend(TxnId),
    /// The manager has waited for votes long enough.
    VoteTimeout(TxnId),
}

carries_client!(Message, Timer);
carries_execution!(Message, Timer);

type Out = Effects<Message, Timer>;

/// A process of the protocol. A data machine's is a participant, and the initiator of its clients' transactions.
pub type Node = node::Node<Participant, Manager>;

/// The protocol.
#[derive(Clone, Copy, Debug)]
pub struct TwoPhase;

impl Protocol for TwoPhase {
    type Process = Node;
    type Options = Options;

    const MARKS: &'static [&'static [Mark]] = &[
        &[
            (
                "2pc.in-doubt",
                "a participant was in doubt long enough to ask",
            ),
            (
                "2pc.decision-recovered",
                "a manager restarted with a decision that somebody had not acknowledged",
            ),
            (
                "2pc.presumed-abort",
                "a manager answered abort for want of a record",
            ),
            (
                "2pc.stale-incarnation",
                "a vote reached a manager that had restarted since the locks were taken",
            ),
            ("2pc.vote-timeout", "a manager waited for votes in vain"),
            (
                "2pc.peer-knew",
                "a participant in doubt learned the decision from another (`cooperative-termination`)",
            ),
            (
                "2pc.heuristic-decision",
                "a participant in doubt decided alone (`heuristic`)",
            ),
            (
                "2pc.heuristic-mixed",
                "what a participant had decided alone was not what was decided (XA_HEURMIX)",
            ),
        ],
        &Member::MARKS,
        execution::MARKS,
        journal::MARKS,
    ];
    const NAME: &'static str = "2pc";
    const TITLE: &'static str = "Two-phase commit, presumed abort, strict two-phase locking \
                                 (Gray 1978; Mohan, Lindsay and Obermarck 1986)";
    const ENTRY: &'static str = "an initiating participant";

    fn promises(options: &Options) -> Promises {
        let (isolation, atomicity) = match options.heuristic {
            Heuristic::Wait => (Isolation::StrictSerializable, Atomicity::AllOrNothing),
            Heuristic::Commit | Heuristic::Abort => (Isolation::None, Atomicity::UnlessAlone),
        };
        Promises::of([
            Promise::Isolation(isolation),
            Promise::Atomicity(atomicity),
            Promise::Durability,
            Promise::Progress(Progress::AllBack),
        ])
    }

    /// The initiator talks to the client, the manager and all participants, and the manager to all participants.
    fn needs(
        layout: &Layout,
        options: &Options,
        operation: &PlannedOperation,
    ) -> Vec<(NodeId, NodeId)> {
        let site = Site::new(layout, options);
        let client = layout.regions[usize::from(operation.region)].client;
        let initiator = layout.shard_of(home_key(&operation.txn));
        let manager = site.manager(initiator).node;
        let initiator = layout.home(initiator);
        let keys = operation.txn.every_key();
        let participants = keys.iter().map(|key| layout.home(layout.shard_of(*key)));
        let with = participants.flat_map(|shard| [(initiator, shard), (manager, shard)]);
        [(client, initiator), (initiator, manager)]
            .into_iter()
            .chain(with)
            .collect()
    }

    fn deploy(
        layout: &Layout,
        options: &Options,
        operations: &[PlannedOperation],
    ) -> Result<Deployment<Node>, String> {
        let site = Arc::new(Site::new(layout, options));
        let patience = Patience::new(Some(options.client_resend_ms), options.client_give_up_ms);
        let entry = |operation: &PlannedOperation| {
            vec![site.participant(layout.shard_of(home_key(&operation.txn)))]
        };
        Ok(Deployment::on(layout)
            .homes(|shard| participant::participant(Arc::clone(&site), shard))
            .coordinators(site.managers(), |at| Manager::new(Arc::clone(&site), at))
            .clients(operations, patience, entry))
    }
}
