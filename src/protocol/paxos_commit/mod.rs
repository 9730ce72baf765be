//! Paxos Commit and Faster Paxos Commit over strict two-phase locking.
//!
//! Source: Gray and Lamport, "Consensus on Transaction Commit", TODS 31(1), 2006: section 4 (the algorithm, its cost and
//! the faster variant), section 5 (its relation to two-phase commit).
//!
//! # Who does what
//!
//! Each resource manager (a shard that takes part) has an instance of Paxos of its own, in which its vote is chosen:
//! `Prepared` or `Aborted`. A transaction commits if and only if `Prepared` is chosen in every instance. 2F + 1 acceptors
//! remember the votes; F of them may fail. Ballot 0 of an instance belongs to its resource manager, every higher ballot to
//! the leader who takes it.
//!
//! ```text
//!   client -- request --> initiator                               execution (kit::execution)
//!                         initiator -- begin-commit --> leader    with the initiator's own vote
//!                         leader -- prepare --> the other RMs
//!                         RM -- prepared (2a) --> F + 1 acceptors
//!                         acceptor -- accepted (2b) --> leader    once for all instances; faster: to every RM
//!                         leader -- commit --> all RMs            faster: not sent
//!   client <-- reply -- initiator
//!                         RM -- ack --> leader -- end --> acceptors     not in Gray and Lamport's figures
//! ```
//!
//! The leader's machine hosts one of the acceptors, so what they say to one another costs nothing. That makes
//! (N + 1)(F + 3) - 4 messages and five message delays, or N(2F + 3) - 1 and four for the faster variant, and N + F + 1
//! forced writes. With F = 0 it is two-phase commit.
//!
//! # Who fails
//!
//! An acceptor that has heard of a transaction and not of its end takes over after a while (`takeover-ms`): it asks all
//! acceptors at a higher ballot what they have accepted (1a, 1b), takes the vote of the highest ballot in each instance and
//! `Aborted` in free ones, and proposes that (2a). So a leader that dies after the votes delays the transaction, and does
//! not block it. A resource manager in doubt repeats its vote to *all* acceptors, so that each of them hears of it. An
//! initiator in doubt suspects its leader, and begins its next transactions with another acceptor as their leader.
//!
//! A resource manager that votes no has never voted `Prepared`. Its instance can choose nothing but `Aborted`, so whoever
//! hears of the no may abort at once (section 4.2).
//!
//! # Why old messages are harmless
//!
//! A vote names the grant under which its locks were held ([`Grant`](crate::protocol::kit::execution::Grant)): a
//! resource manager that has lost its grant votes no for ever. Acceptors never forget an outcome: an old vote that
//! arrives after it is answered with it, and begins nothing.

mod acceptor;
mod coordinator;
mod leader;
mod resource_manager;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
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

pub use coordinator::Coordinator;
pub use resource_manager::{Member, ResourceManager};

/// Where acceptors and leaders run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// On front machines: the leader on the first one of the initiator's region, the others spread over the regions.
    #[default]
    Separate,
    /// Beside the resource managers: the leader on the initiator's machine, each other acceptor beside another shard.
    CoLocated,
}

impl Choice for Placement {}

declare! {
    /// Options, `[protocol.paxos-commit]` in a scenario. All times in milliseconds.
    pub struct Options {
        /// F: how many acceptors may fail. There are 2F + 1; 0 is two-phase commit.
        tolerated: Number<0, 3> = Number::new(1),
        /// Where acceptors and leaders run: `separate` or `co-located`.
        acceptors: Placement = Placement::Separate,
        /// Whether acceptors tell every resource manager at once, instead of the leader (Faster Paxos Commit).
        faster: bool = false,
        /// How long without an answer until a message of the execution or commit phase is sent again;
        /// requests for locks, which may have to wait, less and less often.
        resend_ms: Millis = Millis::new(250),
        /// Whether a restarted resource manager says so to everybody: then nobody finds out by having to send again.
        announce_restarts: bool = true,
        /// How often a resource manager in doubt repeats its vote, to all acceptors.
        inquiry_ms: Millis = Millis::new(500),
        /// How long the leader waits for the outcome before it takes a higher ballot. Other acceptors wait two, three or
        /// more times as long, in the order in which the transaction lists them.
        takeover_ms: Millis = Millis::new(1_000),
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

    /// 2F + 1.
    fn acceptors_needed(&self) -> usize {
        2 * self.tolerated.size() + 1
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

    fn resource_manager(&self, shard: ShardId) -> Addr {
        execution::participant(&self.layout, shard)
    }

    /// The acceptor beside a shard.
    fn beside(&self, shard: ShardId) -> Addr {
        let node = self.layout.home(shard);
        Addr { node, port: 1 }
    }

    /// Every process that is an acceptor, and a leader where need be: neighbours in this list lie in different regions where
    /// that is possible.
    fn coordinators(&self) -> Vec<Addr> {
        match self.options.acceptors {
            Placement::CoLocated => self
                .layout
                .shard_ids()
                .map(|shard| self.beside(shard))
                .collect(),
            Placement::Separate => {
                let regions = &self.layout.regions;
                let zones = { regions.iter() }.map(|region| region.fronts.len()).max();
                let of_zone = |zone: usize| {
                    let fronts = regions
                        .iter()
                        .filter_map(move |region| region.fronts.get(zone));
                    fronts.map(|node| Addr {
                        node: *node,
                        port: 0,
                    })
                };
                (0..zones.unwrap_or(0)).flat_map(of_zone).collect()
            }
        }
    }

    fn leader(&self, initiator: ShardId) -> Addr {
        match self.options.acceptors {
            Placement::CoLocated => self.beside(initiator),
            Placement::Separate => {
                let home = self.layout.shards[usize::from(initiator.0)].home;
                Addr {
                    node: self.layout.regions[home].fronts[0],
                    port: 0,
                }
            }
        }
    }

    /// The transaction's acceptors: the leader's first, co-located ones beside its resource managers as far as there are
    /// enough of them, and then whoever comes next in the list of all.
    fn acceptors(&self, leader: Addr, members: &BTreeSet<ShardId>) -> Vec<Addr> {
        let all = self.coordinators();
        let at = all.iter().position(|addr| *addr == leader);
        let from = at.expect("a leader is an acceptor");
        let in_turn = all[from..].iter().chain(&all[..from]).copied();
        let beside = members.iter().map(|shard| self.beside(*shard));
        let beside = beside.filter(|addr| all.contains(addr));
        let mut acceptors: Vec<Addr> = Vec::new();
        for addr in [leader].into_iter().chain(beside).chain(in_turn) {
            if !acceptors.contains(&addr) {
                acceptors.push(addr);
            }
        }
        acceptors.truncate(self.options.acceptors_needed());
        acceptors
    }

    /// A transaction's group. The first of its acceptors that is no suspect leads; if all are, the usual leader does.
    fn group(
        &self,
        txn: TxnId,
        initiator: ShardId,
        members: BTreeSet<ShardId>,
        suspects: &BTreeSet<Addr>,
    ) -> Group {
        let mut acceptors = self.acceptors(self.leader(initiator), &members);
        let trusted = { acceptors.iter() }.position(|acceptor| !suspects.contains(acceptor));
        acceptors.rotate_left(trusted.unwrap_or(0));
        Group {
            txn,
            members,
            acceptors,
        }
    }
}

/// A transaction's resource managers and acceptors.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Group {
    /// The transaction.
    pub txn: TxnId,
    /// Its resource managers. Each is an instance of Paxos.
    pub members: BTreeSet<ShardId>,
    /// Its acceptors, 2F + 1 of them. The first one is the leader of ballot 0.
    pub acceptors: Vec<Addr>,
}

impl Group {
    /// F + 1.
    fn quorum(&self) -> usize {
        self.acceptors.len() / 2 + 1
    }

    fn leader(&self) -> Addr {
        self.acceptors[0]
    }

    /// The acceptors that are asked as long as nobody fails (Gray and Lamport, section 4.2).
    fn active(&self) -> &[Addr] {
        &self.acceptors[..self.quorum()]
    }
}

/// A ballot. Ballot 0, which is nobody's, is that in which resource managers vote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Ballot {
    /// Larger ones go first.
    pub round: u64,
    /// Whose it is.
    pub leader: Option<Addr>,
}

impl Ballot {
    const ZERO: Ballot = Ballot {
        round: 0,
        leader: None,
    };
}

/// What an instance chooses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Vote {
    /// The resource manager is prepared.
    Prepared,
    /// It is not, and never will be.
    Aborted,
}

/// The votes that an acceptor has accepted, each with its ballot, by instance.
pub type Accepted = BTreeMap<ShardId, (Ballot, Vote)>;

/// What is decided.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Decision {
    /// Every instance has chosen `Prepared`.
    Commit,
    /// Some instance has chosen `Aborted`, or can choose nothing else.
    Abort(AbortReason),
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
    /// Initiator to leader: collect the votes. The initiator's own, `Prepared` at ballot 0, travels with it.
    BeginCommit(Arc<Start>),
    /// Leader to resource manager: vote.
    Prepare {
        /// Who takes part.
        group: Arc<Group>,
        /// What is asked of this resource manager.
        part: Arc<Part>,
    },
    /// Resource manager to acceptor, phase 2a of ballot 0: this instance's value is `Prepared`.
    Prepared {
        /// Who takes part.
        group: Arc<Group>,
        /// The instance.
        shard: ShardId,
    },
    /// Resource manager to leader: it has not prepared, and never will.
    No {
        /// The transaction.
        txn: TxnId,
        /// The resource manager.
        shard: ShardId,
    },
    /// Leader to acceptor, phase 1a in all instances: promise, and say what was accepted.
    Collect {
        /// Who takes part.
        group: Arc<Group>,
        /// The ballot.
        ballot: Ballot,
    },
    /// Acceptor to leader, phase 1b in all instances.
    Promise {
        /// The transaction.
        txn: TxnId,
        /// The ballot that is promised.
        ballot: Ballot,
        /// What was accepted in earlier ballots.
        accepted: Accepted,
    },
    /// Leader to acceptor, phase 2a of a higher ballot in all instances.
    Propose {
        /// Who takes part.
        group: Arc<Group>,
        /// The ballot.
        ballot: Ballot,
        /// The value of each instance.
        votes: BTreeMap<ShardId, Vote>,
    },
    /// Acceptor to leader, phase 2b in all instances at once; in the faster variant to every resource manager.
    Accepted {
        /// The transaction.
        txn: TxnId,
        /// The ballot. At ballot 0 every accepted value is `Prepared`.
        ballot: Ballot,
    },
    /// Leader to resource manager: the decision.
    Commit {
        /// The transaction.
        txn: TxnId,
    },
    /// Leader to resource manager: the decision.
    Abort {
        /// The transaction.
        txn: TxnId,
        /// Why.
        why: AbortReason,
    },
    /// Resource manager to leader: the commit is durable here.
    Ack {
        /// The transaction.
        txn: TxnId,
        /// The resource manager.
        shard: ShardId,
    },
    /// To a leader who asks about what is decided.
    Decided {
        /// Who takes part.
        group: Arc<Group>,
        /// The decision.
        decision: Decision,
    },
    /// Leader to acceptor: everybody has acted on the decision, or will learn of it. Nobody has to take over.
    End {
        /// The transaction.
        txn: TxnId,
        /// The decision.
        decision: Decision,
    },
    /// Resource manager to all others, after a restart: the locks of what it had not voted for are gone.
    Restarted {
        /// The resource manager.
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
            Message::Collect { .. } => "collect",
            Message::Promise { .. } => "promise",
            Message::Propose { .. } => "propose",
            Message::Accepted { .. } => "accepted",
            Message::Commit { .. } => "commit",
            Message::Abort { .. } => "abort",
            Message::Ack { .. } => "ack",
            Message::Decided { .. } => "decided",
            Message::End { .. } => "end",
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
    /// A resource manager is in doubt.
    Inquire(TxnId),
    /// A leader misses votes or acks.
    Resend(TxnId),
    /// An acceptor has heard of a transaction, and not of its end.
    TakeOver(TxnId),
    /// A leader was suspected for long enough.
    Trust(Addr),
}

carries_client!(Message, Timer);
carries_execution!(Message, Timer);

type Out = Effects<Message, Timer>;

/// A process of the protocol: a data machine's is a resource manager, and the initiator of its clients' transactions; a
/// coordinator is an acceptor, and a leader where need be.
pub type Node = node::Node<ResourceManager, Coordinator>;

/// The protocol.
#[derive(Clone, Copy, Debug)]
pub struct PaxosCommit;

impl Protocol for PaxosCommit {
    type Process = Node;
    type Options = Options;

    const MARKS: &'static [&'static [Mark]] = &[
        &[
            (
                "paxos-commit.in-doubt",
                "a resource manager was in doubt long enough to repeat its vote to all acceptors",
            ),
            (
                "paxos-commit.leader-suspected",
                "an initiator was left in doubt, and begins with another leader for a while",
            ),
            (
                "paxos-commit.recovered-accepted",
                "an acceptor restarted with votes of an undecided transaction",
            ),
            (
                "paxos-commit.took-over",
                "an acceptor took a higher ballot for a transaction of another leader",
            ),
            (
                "paxos-commit.free-instance",
                "a leader proposed `Aborted` in an instance for which no acceptor had a vote",
            ),
            (
                "paxos-commit.all-prepared",
                "a leader found at a higher ballot that everybody had voted, and committed",
            ),
            (
                "paxos-commit.overtaken",
                "an acceptor ignored a ballot below the one that it had promised",
            ),
            (
                "paxos-commit.learned",
                "a leader took a higher ballot for what was decided already",
            ),
        ],
        &Member::MARKS,
        execution::MARKS,
        journal::MARKS,
    ];
    const NAME: &'static str = "paxos-commit";
    const TITLE: &'static str = "Paxos Commit and Faster Paxos Commit, strict two-phase locking \
                                 (Gray and Lamport 2006)";
    const ENTRY: &'static str = "an initiating resource manager";

    fn carried(layout: &Layout, options: &Options) -> Result<(), String> {
        let there_are = Site::new(layout, options).coordinators().len();
        let needed = options.acceptors_needed();
        if there_are >= needed {
            return Ok(());
        }
        let tolerated = options.tolerated.get();
        let carried = there_are.saturating_sub(1) / 2;
        let (place, remedy) = match options.acceptors {
            Placement::Separate => ("on a front machine", "regions or zones"),
            Placement::CoLocated => ("beside another shard", "shards"),
        };
        Err(format!(
            "`tolerated = {tolerated}` takes {needed} acceptors, each {place}, and there is room for {there_are}: \
             add {remedy}, or tolerate {carried}"
        ))
    }

    fn promises(_: &Options) -> Promises {
        Promises::of([
            Promise::Isolation(Isolation::StrictSerializable),
            Promise::Atomicity(Atomicity::AllOrNothing),
            Promise::Durability,
            Promise::Progress(Progress::Quorum),
        ])
    }

    /// The initiator talks to the client and to all participants.
    fn needs(layout: &Layout, _: &Options, operation: &PlannedOperation) -> Vec<(NodeId, NodeId)> {
        let client = layout.regions[usize::from(operation.region)].client;
        let initiator = layout.home(layout.shard_of(home_key(&operation.txn)));
        let keys = operation.txn.every_key();
        let participants = keys.iter().map(|key| layout.home(layout.shard_of(*key)));
        let with = participants.map(|shard| (initiator, shard));
        [(client, initiator)].into_iter().chain(with).collect()
    }

    /// F + 1 acceptors talk to one another and to all participants.
    fn quorums(
        layout: &Layout,
        options: &Options,
        operation: &PlannedOperation,
    ) -> Vec<Vec<(NodeId, NodeId)>> {
        let site = Site::new(layout, options);
        let keys = operation.txn.every_key();
        let members: BTreeSet<ShardId> = keys.iter().map(|key| layout.shard_of(*key)).collect();
        let initiator = layout.shard_of(home_key(&operation.txn));
        let group = site.group(operation.txn.id, initiator, members, &BTreeSet::new());
        let acceptors: Vec<NodeId> = group.acceptors.iter().map(|addr| addr.node).collect();
        let participants: Vec<NodeId> = group.members.iter().map(|s| layout.home(*s)).collect();
        let with = |chosen: Vec<NodeId>| {
            let others = chosen.iter().chain(&participants).copied();
            let pairs = chosen
                .iter()
                .flat_map(|a| others.clone().map(move |b| (*a, b)));
            pairs.collect()
        };
        if options.acceptors == Placement::CoLocated && operation.txn.is_dependent() {
            // Which shards take part, and have acceptors beside them, shows only when it runs.
            return vec![with(
                site.coordinators().iter().map(|addr| addr.node).collect(),
            )];
        }
        // Every set of F + 1, as a bit mask: there are at most 35.
        let sets =
            (0u32..1 << acceptors.len()).filter(|set| set.count_ones() as usize == group.quorum());
        sets.map(|set| {
            let is_chosen = |(at, _): &(usize, &NodeId)| set >> at & 1 == 1;
            let chosen = acceptors.iter().enumerate().filter(is_chosen);
            with(chosen.map(|(_, node)| *node).collect())
        })
        .collect()
    }

    fn deploy(
        layout: &Layout,
        options: &Options,
        operations: &[PlannedOperation],
    ) -> Result<Deployment<Node>, String> {
        Self::carried(layout, options)?;
        let site = Arc::new(Site::new(layout, options));
        let patience = Patience::new(Some(options.client_resend_ms), options.client_give_up_ms);
        let entry = |operation: &PlannedOperation| {
            vec![site.resource_manager(layout.shard_of(home_key(&operation.txn)))]
        };
        Ok(Deployment::on(layout)
            .homes(|shard| resource_manager::resource_manager(Arc::clone(&site), shard))
            .coordinators(site.coordinators(), |at| {
                Coordinator::new(Arc::clone(&site), at)
            })
            .clients(operations, patience, entry))
    }
}
