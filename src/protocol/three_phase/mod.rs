//! Three-phase commit over strict two-phase locking, with an elected coordinator where the first one fails.
//!
//! Sources: Skeen, "Nonblocking commit protocols", SIGMOD 1981 (the protocol, and the theorem behind it); Skeen and
//! Stonebraker, "A formal model of crash recovery in a distributed system", TSE 9(3), 1983; Bernstein, Hadzilacos and
//! Goodman, "Concurrency Control and Recovery in Database Systems", 1987, section 7.5 (the termination protocol as it is here).
//!
//! # Who does what
//!
//! ```text
//!   client -- request --> initiator                                execution (kit::execution)
//!                         initiator -- begin-commit --> coordinator     with the initiator's own yes
//!                         coordinator -- prepare --> the others         1: canCommit
//!                         the others -- prepared --> coordinator
//!                         coordinator -- pre-commit --> all             2: everybody knows that all voted yes
//!                         all -- pre-committed --> coordinator          each has forced that
//!                         coordinator -- commit --> all                 3: doCommit
//!   client <-- reply -- initiator
//!                         all -- ack --> coordinator               not in Skeen's figure
//! ```
//!
//! That makes 5N - 1 messages and six message delays; 5N - 5 and five with the coordinator on the initiator's machine. 2N
//! writes are forced up to the decision.
//!
//! # Who fails
//!
//! A participant in doubt asks again and again. Whoever is up answers, if only that it is waiting, too. A node that has been
//! silent for `silence-ms` has crashed: that is the protocol's assumption. When the coordinator has, the first participant
//! that has not is elected ([`termination`]). A participant that has crashed itself leads no more, and is told by
//! those that have not; where all have crashed, the records of all decide.
//!
//! The coordinator keeps nothing on its disk but how often it has booted. What it decided stands in the participants'
//! records: it commits only when one of them at least has forced its PreCommit, and each that has not, has crashed.
//!
//! # Why it splits
//!
//! A cut, a pause or a slow link looks like a crash. Then two coordinators decide, each with those whom it hears: one side has
//! PreCommit and commits, the other has not and aborts. Nothing here prevents that ([`ThreePhase::promises`]).

mod coordinator;
mod participant;
mod silence;
mod termination;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kit::deploy::home_key;
use super::kit::journal;
use super::kit::node::{self, carries_client, carries_execution};
use super::kit::participant::Commitment;
use super::promises::Assumption;
use super::{Atomicity, Deployment, Isolation, Progress, Promise, Promises, Protocol};
use crate::base::observation::{AbortReason, Mark};
use crate::base::options::{Choice, Millis, Number, declare};
use crate::base::process::{Addr, Effects, NodeId, Wire, message_bytes};
use crate::base::txn::{ShardId, TxnId};
use crate::plan::PlannedOperation;
use crate::protocol::kit::client::{ClientMessage, ClientTimer, Patience};
use crate::protocol::kit::execution::{self, Part};
use crate::scenario::layout::Layout;

pub use coordinator::{Coordinator, CoordinatorView};
pub use participant::{Doubt, Member, Participant};

/// Where the coordinator runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// On the first front machine of the initiator's region.
    #[default]
    Separate,
    /// On the initiator's own machine.
    CoLocated,
}

/// What participants do when the coordinator is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Termination {
    /// The first one that is up is elected, and decides for all.
    #[default]
    Elected,
    /// Each decides alone: it commits if it is pre-committed, else it aborts.
    OwnTimeout,
}

impl Choice for Placement {}
impl Choice for Termination {}

declare! {
    /// Options, `[protocol.3pc]` in a scenario. All times in milliseconds.
    pub struct Options {
        /// Where the coordinator runs: `separate` or `co-located`.
        coordinator: Placement = Placement::Separate,
        /// What participants do when the coordinator is gone: `elected` (one of them decides for all) or `own-timeout`
        /// (each decides alone, as Skeen's timeout transitions for two sites; it splits after a single crash, and
        /// promises neither atomicity nor isolation).
        termination: Termination = Termination::Elected,
        /// How long somebody who is asked again and again has to be silent to be taken for crashed. The promises hold while
        /// whoever is up answers within half of it.
        silence_ms: Millis = Millis::new(3_000),
        /// How long without an answer until a message of the execution or commit phase is sent again;
        /// requests for locks, which may have to wait, less and less often.
        resend_ms: Millis = Millis::new(250),
        /// Whether a restarted participant says so to everybody: then nobody finds out by having to send again.
        announce_restarts: bool = true,
        /// How often a participant in doubt asks.
        inquiry_ms: Millis = Millis::new(500),
        /// How long the coordinator waits for votes before it decides to abort.
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

    /// How many questions in a row, one every `pause`, stay unanswered by who is taken for crashed.
    fn rounds(&self, pause: Millis) -> u64 {
        self.silence_ms.ns().div_ceil(pause.ns()).max(1)
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
            execution: execution::Options {
                resend_ms: options.resend_ms,
                probe_ms: options.probe_ms,
                restart_pause_ms: options.restart_pause_ms,
                restarts: options.restarts,
            },
        }
    }

    fn participant(&self, shard: ShardId) -> Addr {
        execution::participant(&self.layout, shard)
    }

    /// The coordinator of the transactions that a shard initiates.
    fn coordinator(&self, initiator: ShardId) -> Addr {
        let region = &self.layout.regions[self.layout.shards[usize::from(initiator.0)].home];
        match self.options.coordinator {
            Placement::Separate => Addr::on(region.fronts[0]),
            Placement::CoLocated => Addr {
                node: self.layout.home(initiator),
                port: 1,
            },
        }
    }

    fn coordinators(&self) -> BTreeSet<Addr> {
        let shards = self.layout.shard_ids();
        shards.map(|shard| self.coordinator(shard)).collect()
    }

    /// Who coordinates a transaction that a shard initiates: the next one in turn that is no suspect; the usual one, if all are.
    fn trusted(&self, initiator: ShardId, suspects: &BTreeSet<Addr>) -> Addr {
        let usual = self.coordinator(initiator);
        let all = self.coordinators();
        let in_turn = all.range(usual..).chain(all.range(..usual));
        let mut trusted = in_turn.filter(|addr| !suspects.contains(addr));
        trusted.next().copied().unwrap_or(usual)
    }
}

/// The order in which nodes coordinate a transaction: the coordinator is 0, its participants follow by the order of their shards
/// from 1.
pub type Rank = u8;

/// The coordinator's rank.
pub const COORDINATOR: Rank = 0;

/// A transaction's coordinator and participants.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Group {
    /// The transaction.
    pub txn: TxnId,
    /// Its participants.
    pub members: BTreeSet<ShardId>,
    /// Its coordinator.
    pub coordinator: Addr,
    /// The incarnation of the coordinator that is to collect the votes. No other one may: it would have forgotten
    /// what it has said.
    pub incarnation: u64,
}

impl Group {
    /// A participant's rank.
    pub fn rank(&self, shard: ShardId) -> Rank {
        let at = self.members.iter().position(|member| *member == shard);
        1 + at.expect("only members are ranked") as Rank
    }

    /// The participants with their ranks, in that order.
    fn ranked(&self) -> impl Iterator<Item = (Rank, ShardId)> + '_ {
        (1..).zip(self.members.iter().copied())
    }

    /// Where the node of a rank is.
    fn addr(&self, site: &Site, rank: Rank) -> Addr {
        let shard = { self.ranked() }.find(|(of, _)| *of == rank);
        shard.map_or(self.coordinator, |(_, shard)| site.participant(shard))
    }

    /// Whose address this is.
    fn rank_of(&self, site: &Site, addr: Addr) -> Option<Rank> {
        if addr == self.coordinator {
            return Some(COORDINATOR);
        }
        let mut ranked = self.ranked();
        ranked
            .find(|(_, shard)| site.participant(*shard) == addr)
            .map(|(rank, _)| rank)
    }
}

/// What begins the commit phase.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Start {
    /// Who takes part.
    pub group: Arc<Group>,
    /// The initiator.
    pub initiator: ShardId,
    /// Everybody's part, the initiator's included.
    pub parts: Vec<Part>,
}

/// What travels.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// From or to a client.
    Client(ClientMessage),
    /// Between initiator and participants, before anybody votes.
    Execution(execution::Message),
    /// Initiator to coordinator: collect the votes. The initiator's own yes travels with it.
    BeginCommit(Arc<Start>),
    /// Coordinator to participant, phase 1: vote.
    Prepare {
        /// Who takes part.
        group: Arc<Group>,
        /// What is asked of this participant.
        part: Arc<Part>,
    },
    /// Participant to coordinator: yes.
    Prepared {
        /// The transaction.
        txn: TxnId,
        /// The participant.
        shard: ShardId,
    },
    /// Participant to coordinator: no. It has not voted yes, and never will.
    No {
        /// The transaction.
        txn: TxnId,
        /// The participant.
        shard: ShardId,
    },
    /// Coordinator, or who was elected, to participant, phase 2: all have voted yes.
    PreCommit {
        /// The transaction.
        txn: TxnId,
        /// Who says so.
        by: Rank,
    },
    /// Participant to coordinator, or to who was elected: that is on its disk (Skeen's ack).
    PreCommitted {
        /// The transaction.
        txn: TxnId,
        /// The participant.
        shard: ShardId,
        /// Whose PreCommit it was.
        by: Rank,
    },
    /// The decision, phase 3: from whoever knows it.
    Commit {
        /// The transaction.
        txn: TxnId,
    },
    /// The decision: from whoever knows it, or has not voted and never will.
    Abort {
        /// The transaction.
        txn: TxnId,
        /// Why.
        why: AbortReason,
    },
    /// Participant to coordinator: the commit is durable here.
    Ack {
        /// The transaction.
        txn: TxnId,
        /// The participant.
        shard: ShardId,
    },
    /// From a participant in doubt: what is the decision, and is anybody there?
    Inquiry {
        /// The transaction.
        txn: TxnId,
        /// The incarnation of its coordinator.
        incarnation: u64,
    },
    /// The answer of one that is up, and does not know either.
    Waiting {
        /// The transaction.
        txn: TxnId,
    },
    /// Coordinator to participant: it has restarted, and knows nothing of the transaction.
    Left {
        /// The transaction.
        txn: TxnId,
        /// Its incarnation now.
        incarnation: u64,
    },
    /// From a participant that has restarted in doubt, to all: what is the decision? Here is what its disk holds.
    Recovered {
        /// The transaction.
        txn: TxnId,
        /// The participant.
        shard: ShardId,
        /// The incarnation of the coordinator.
        incarnation: u64,
        /// Whether it is pre-committed.
        precommitted: bool,
    },
    /// Who was elected to the others: obey, and say what you know.
    Ask {
        /// The transaction.
        txn: TxnId,
        /// Who was elected.
        by: Rank,
    },
    /// The answer of one in doubt.
    State {
        /// The transaction.
        txn: TxnId,
        /// The participant.
        shard: ShardId,
        /// Whether it is pre-committed (committable), or uncertain.
        committable: bool,
    },
    /// Coordinator to participants, after a restart: begin with this incarnation.
    Hello {
        /// Its incarnation now.
        incarnation: u64,
    },
    /// Participant to all others, after a restart: the locks of what it had not voted for are gone.
    Restarted {
        /// The participant.
        shard: ShardId,
        /// How often it has booted. Grants of earlier boots are void.
        boot: u64,
    },
}

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Client(message) => message.label(),
            Message::Execution(message) => message.label(),
            Message::BeginCommit(_) => "begin-commit",
            Message::Prepare { .. } => "prepare",
            Message::Prepared { .. } => "prepared",
            Message::No { .. } => "no",
            Message::PreCommit { .. } => "pre-commit",
            Message::PreCommitted { .. } => "pre-committed",
            Message::Commit { .. } => "commit",
            Message::Abort { .. } => "abort",
            Message::Ack { .. } => "ack",
            Message::Inquiry { .. } => "inquiry",
            Message::Waiting { .. } => "waiting",
            Message::Left { .. } => "left",
            Message::Recovered { .. } => "recovered",
            Message::Ask { .. } => "ask",
            Message::State { .. } => "state",
            Message::Hello { .. } => "hello",
            Message::Restarted { .. } => "restarted",
        }
    }

    fn size_bytes(&self) -> u32 {
        let rows = match self {
            Message::Execution(message) => return message.size_bytes(),
            Message::BeginCommit(start) => start.parts.iter().map(|part| part.writes.len()).sum(),
            Message::Prepare { part, .. } => part.writes.len(),
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
    /// A participant is in doubt, or was elected.
    Inquire(TxnId),
    /// A coordinator misses votes, or acknowledgements of PreCommit or of the commit.
    Resend(TxnId),
    /// A coordinator has waited long enough for votes.
    VoteTimeout(TxnId),
    /// A coordinator was avoided for long enough.
    Trust(Addr),
}

carries_client!(Message, Timer);
carries_execution!(Message, Timer);

type Out = Effects<Message, Timer>;

/// A process of the protocol: a data machine's is a participant, and the initiator of its clients' transactions.
pub type Node = node::Node<Participant, Coordinator>;

/// The protocol.
#[derive(Clone, Copy, Debug)]
pub struct ThreePhase;

impl Protocol for ThreePhase {
    type Process = Node;
    type Options = Options;

    const MARKS: &'static [&'static [Mark]] = &[
        &[
            (
                "3pc.suspected",
                "a participant in doubt took the coordinator for crashed",
            ),
            ("3pc.pre-committed", "a participant has forced PreCommit"),
            (
                "3pc.coordinator-avoided",
                "an initiator was left in doubt, and begins with another coordinator for a while",
            ),
            (
                "3pc.coordinator-left",
                "a coordinator was asked about a transaction that it had forgotten in a crash",
            ),
            (
                "3pc.vote-timeout",
                "a coordinator did not get all votes in time",
            ),
            (
                "3pc.committed-without-all",
                "a coordinator committed although a participant had crashed after its vote",
            ),
            ("3pc.elected", "a participant took the coordinator's place"),
            (
                "3pc.elected-aborts",
                "all whom the elected coordinator heard were uncertain",
            ),
            (
                "3pc.elected-commits",
                "somebody whom the elected coordinator heard was pre-committed",
            ),
            (
                "3pc.all-crashed",
                "all participants had crashed, and their records decided",
            ),
            (
                "3pc.gave-up-vote",
                "a participant was asked for the decision before it had voted, and votes no",
            ),
            (
                "3pc.split",
                "a participant heard of the other decision than it had acted on",
            ),
            (
                "3pc.decided-alone",
                "a participant decided by its own timeout",
            ),
        ],
        &Member::MARKS,
        execution::MARKS,
        journal::MARKS,
    ];
    const NAME: &'static str = "3pc";
    const TITLE: &'static str =
        "three-phase commit with an elected coordinator, strict two-phase locking (Skeen 1981)";
    const ENTRY: &'static str = "an initiating participant";

    /// A silence is the only sign of a crash. So all hangs on it, but for what was made durable before anybody was told.
    fn promises(options: &Options) -> Promises {
        let ends = Promise::Progress(Progress::AllBack);
        let within_ns = options.silence_ms.ns() / 2;
        let promises = match options.termination {
            Termination::Elected => Promises::of([
                Promise::Isolation(Isolation::StrictSerializable),
                Promise::Atomicity(Atomicity::AllOrNothing),
                Promise::Durability,
                ends,
            ]),
            Termination::OwnTimeout => Promises::of([ends]),
        };
        promises.assuming(Assumption::Synchrony { within_ns })
    }

    /// The participants exchange messages with one another, and the initiator with the client. The coordinator may stay away.
    fn needs(layout: &Layout, _: &Options, operation: &PlannedOperation) -> Vec<(NodeId, NodeId)> {
        let client = layout.regions[usize::from(operation.region)].client;
        let initiator = layout.home(layout.shard_of(home_key(&operation.txn)));
        let keys = operation.txn.every_key();
        let members: BTreeSet<NodeId> = { keys.iter() }
            .map(|key| layout.home(layout.shard_of(*key)))
            .chain([initiator])
            .collect();
        let pairs = { members.iter() }.flat_map(|a| members.iter().map(move |b| (*a, *b)));
        pairs.chain([(client, initiator)]).collect()
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
            .coordinators(site.coordinators(), |_| Coordinator::new(Arc::clone(&site)))
            .clients(operations, patience, entry))
    }
}
