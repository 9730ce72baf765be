//! Replicated logs behind one interface: a process embeds a [`Log`] and sees commands in one order.
//!
//! A host forwards to [`Log::step`] the log's messages, timers and flushes and its own boot, calls
//! [`Log::propose`] where it wants something ordered, and after each of these hands on the log's effects
//! ([`Effects::absorb`]) and handles [`Log::take_deliveries`] in order:
//!
//! - [`Delivery::Snapshot`] replaces the host's state (at boot, or when it has fallen far behind);
//! - [`Delivery::Entry`] is applied to it. The position tells a proposer whether the entry at its index is its
//!   own. Every replica is handed the same entries in the same order, but after a restart again from its
//!   snapshot on: state that outlives the process elsewhere must skip what it has applied;
//! - [`Delivery::ReadReady`] allows a linearizable read of the state as it now stands.
//!
//! From time to time the host gives its state to [`Log::compact`], which shortens the log.
//!
//! # The order of leaders
//!
//! Entries are delivered leader by leader, those of each in the order of its proposals: the terms of deliveries never
//! go down. Of a leader's proposals a prefix is delivered, and the rest is lost. A leader is *established*
//! ([`Log::established`]) once it has been delivered all that will ever be delivered of earlier leaders. A host whose
//! commands build on one another, as a primary's do, proposes from then on and on top of that; so there is one
//! sequence of commands, each built on those before. (Zab calls it *primary order* and *primary integrity*: Junqueira,
//! Reed and Serafini, DSN 2011. Raft has it by Log Matching and Leader Completeness; plain Paxos does not, see
//! [`paxos`].)
//!
//! A command may enter the log twice (its proposer did not learn that it had entered and retried). Commands
//! are idempotent, or their host filters them with [`session::Sessions`].

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base::observation::Mark;
use crate::base::options::{Choice, Millis, MillisRange, Number, declare};
use crate::base::process::{Addr, Effects, FileId, Input, WallTime, Wire};
use crate::base::zoo::{self, Bug};

pub mod connectivity;
pub mod paxos;
mod progress;
pub mod raft;
mod replica;
pub mod session;
mod storage;

pub use replica::ReplicaTimer;
pub use storage::{Accepted, Entry};

use paxos::{Paxos, PaxosMessage};
use raft::{Raft, RaftMessage};

/// The rare branches that a log marks, under either protocol.
pub const MARKS: &[Mark] = &[
    (
        "log.torn-tail-cut",
        "a crash tore the log's last record, and the restart cut it off",
    ),
    (
        "log.damaged",
        "a replica read a damaged log and stopped, to read it again",
    ),
    ("log.leader-deposed", "a leader heard of a higher term"),
    (
        "log.leader-unheard",
        "a leader that no majority answers stepped down",
    ),
    (
        "log.snapshot-installed",
        "a follower took a leader's snapshot in place of entries",
    ),
    (
        "log.snapshot-in-election",
        "a replica without a leader took a snapshot, or a leader gave way while its snapshot was under way to a follower",
    ),
    (
        "log.leader-change-in-doubt",
        "a leader took over with entries of which it did not know whether they were committed",
    ),
    (
        "log.overtaken-value-dropped",
        "a leader found a deposed leader's value behind one of its successor's (`multi-paxos`)",
    ),
];

/// A position in a log, from 1. Zero is before the first entry.
pub type Index = u64;

/// A term of leadership: Raft's term, Paxos's ballot number.
pub type Term = u64;

/// What a log orders.
pub trait Command:
    Clone + Eq + Hash + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Size on the wire in bytes.
    fn size_bytes(&self) -> u32 {
        64
    }
}

impl Command for u64 {}

/// Where an entry is, and whose: two entries with the same position are the same entry, for a leader puts one entry at
/// each index (Ongaro and Ousterhout, USENIX ATC 2014, section 5.3; under Multi-Paxos an entry keeps its position when
/// other leaders propose it again). Ordered as logs compare in an election: by term, then by index.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// The term of the leader that created the entry.
    pub term: Term,
    /// Where it is in the log.
    pub index: Index,
}

/// The state of a host after all entries up to a position.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last entry covered; the zero position before the first snapshot.
    pub last: Position,
    /// The state, encoded by the host.
    pub state: Arc<Vec<u8>>,
}

/// Which protocol keeps the replicas alike. [`Algorithm::live_under`] says which links each needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Raft (Ongaro and Ousterhout, USENIX ATC 2014).
    Raft,
    /// Multi-Paxos (Lamport, "Paxos Made Simple", 2001, section 3).
    MultiPaxos,
}

impl Choice for Algorithm {}

declare! {
    /// How a log is run. The defaults suit replicas up to a few hundred milliseconds apart.
    pub struct Options {
        /// The protocol: `raft` or `multi-paxos`.
        algorithm: Algorithm = Algorithm::Raft,
        /// Time between a leader's heartbeats: below the shortest election timeout, for every follower campaigns
        /// otherwise before it hears from its leader.
        heartbeat_ms: Millis = Millis::new(100),
        /// Election timeout. The minimum is also how long a replica that hears from a leader stands by it, and how
        /// long a leader goes on that hears from no majority.
        election_ms: MillisRange = MillisRange::new(600, 1_200),
        /// Most entries in one message.
        max_batch: Number<1, 65_536> = Number::new(64),
        /// Most messages with entries under way to one follower.
        max_in_flight: Number<1, 1_024> = Number::new(8),
    }
}

impl Options {
    /// Whether the options go together.
    ///
    /// # Errors
    ///
    /// When no leader could stay one.
    pub fn fit(&self) -> Result<(), String> {
        match self.heartbeat_ms.ns() < self.election_ms.min_ns() {
            true => Ok(()),
            false => Err(
                "heartbeats come no sooner than elections: every follower would campaign against its leader".into(),
            ),
        }
    }
}

/// One replica's place in its group.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// Names the log in observations.
    pub group: u16,
    /// This replica.
    pub me: Addr,
    /// All replicas of the group, this one included, without repetition.
    pub members: Vec<Addr>,
    /// The file that the log alone uses.
    pub file: FileId,
    /// Owner of the log's flushes: its host passes `Flushed` with this owner on.
    pub flush_owner: u8,
    /// How the log is run.
    pub options: Options,
}

impl Config {
    /// How many replicas make a majority.
    pub fn majority(&self) -> usize {
        match zoo::planted(Bug::HalfIsMajority) {
            true => self.members.len().div_ceil(2),
            false => self.members.len() / 2 + 1,
        }
    }

    /// The other replicas.
    pub fn peers(&self) -> impl Iterator<Item = Addr> + '_ {
        let me = self.me;
        self.members.iter().copied().filter(move |peer| *peer != me)
    }
}

/// What a log hands to its host, in this order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Delivery<C> {
    /// Replace the state by this one.
    Snapshot(Snapshot),
    /// Apply a committed entry. Indexes ascend, with gaps where a leader put a no-op entry.
    Entry {
        /// The entry's position.
        position: Position,
        /// Its content.
        command: C,
    },
    /// A read asked for with [`Log::read_index`] may be answered from the state as it stands.
    ReadReady {
        /// The read.
        read: u64,
    },
    /// This replica ceased to lead before it could confirm a read: ask another.
    ReadRefused {
        /// The read.
        read: u64,
    },
}

/// Only a leader can do that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
#[error("this replica does not lead")]
pub struct NotLeader {
    /// Who does, as far as the replica knows.
    pub hint: Option<Addr>,
}

/// A message between replicas.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LogMessage<C> {
    /// Raft's.
    Raft(RaftMessage<C>),
    /// Multi-Paxos's.
    Paxos(PaxosMessage<C>),
}

impl<C: Command> Wire for LogMessage<C> {
    fn label(&self) -> &'static str {
        match self {
            LogMessage::Raft(message) => message.label(),
            LogMessage::Paxos(message) => message.label(),
        }
    }

    fn size_bytes(&self) -> u32 {
        match self {
            LogMessage::Raft(message) => message.size_bytes(),
            LogMessage::Paxos(message) => message.size_bytes(),
        }
    }
}

/// A timer of a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LogTimer {
    /// Raft's.
    Raft(ReplicaTimer),
    /// Multi-Paxos's.
    Paxos(ReplicaTimer),
}

/// A replica of a log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Log<C: Command> {
    /// Kept by Raft.
    Raft(Raft<C>),
    /// Kept by Multi-Paxos.
    Paxos(Paxos<C>),
}

/// The effects of a log.
pub type LogEffects<C> = Effects<LogMessage<C>, LogTimer>;

impl<C: Command> Log<C> {
    /// A replica that has not booted.
    ///
    /// # Panics
    ///
    /// When the replica is not a member of its own group.
    pub fn new(config: Config) -> Self {
        assert!(config.members.contains(&config.me), "{config:?}");
        match config.options.algorithm {
            Algorithm::Raft => Log::Raft(Raft::new(config)),
            Algorithm::MultiPaxos => Log::Paxos(Paxos::new(config)),
        }
    }

    /// Handles an input. `Flushed` of other owners is ignored, so that a host may pass on all of them.
    pub fn step(
        &mut self,
        now: WallTime,
        input: Input<LogMessage<C>, LogTimer>,
        out: &mut LogEffects<C>,
    ) {
        match self {
            Log::Raft(raft) => {
                let unwrap_message = |message| match message {
                    LogMessage::Raft(message) => Some(message),
                    LogMessage::Paxos(_) => None,
                };
                let unwrap_timer = |timer| match timer {
                    LogTimer::Raft(timer) => Some(timer),
                    LogTimer::Paxos(_) => None,
                };
                if let Some(input) = unwrap_input(input, unwrap_message, unwrap_timer) {
                    with_raft(out, |out| raft.step(now, input, out));
                }
            }
            Log::Paxos(paxos) => {
                let unwrap_message = |message| match message {
                    LogMessage::Paxos(message) => Some(message),
                    LogMessage::Raft(_) => None,
                };
                let unwrap_timer = |timer| match timer {
                    LogTimer::Paxos(timer) => Some(timer),
                    LogTimer::Raft(_) => None,
                };
                if let Some(input) = unwrap_input(input, unwrap_message, unwrap_timer) {
                    with_paxos(out, |out| paxos.step(now, input, out));
                }
            }
        }
    }

    /// Puts a command into the log. It is ordered once an entry with the position returned is delivered. It is lost
    /// once an entry with a higher term is delivered before: another leader has taken over. Proposing it again
    /// is right either way, for commands are idempotent or filtered. A leader takes proposals from its election on;
    /// what they come after is known only once it is [established](Log::established).
    ///
    /// # Errors
    ///
    /// [`NotLeader`] at a replica that does not lead.
    pub fn propose(&mut self, command: C, out: &mut LogEffects<C>) -> Result<Position, NotLeader> {
        match self {
            Log::Raft(raft) => with_raft(out, |out| raft.propose(command, out)),
            Log::Paxos(paxos) => with_paxos(out, |out| paxos.propose(command, out)),
        }
    }

    /// Asks for a linearizable read, answered by [`Delivery::ReadReady`] or [`Delivery::ReadRefused`] with
    /// the same number.
    ///
    /// # Errors
    ///
    /// [`NotLeader`] at a replica that does not lead.
    pub fn read_index(&mut self, read: u64, out: &mut LogEffects<C>) -> Result<(), NotLeader> {
        match self {
            Log::Raft(raft) => with_raft(out, |out| raft.read_index(read, out)),
            Log::Paxos(paxos) => with_paxos(out, |out| paxos.read_index(read, out)),
        }
    }

    /// Replaces the log up to and including `index` by the host's state at that point. Does nothing where a
    /// snapshot reaches that far already.
    ///
    /// # Panics
    ///
    /// When the entry at `index` has not been delivered.
    pub fn compact(&mut self, index: Index, state: Vec<u8>, out: &mut LogEffects<C>) {
        match self {
            Log::Raft(raft) => with_raft(out, |out| raft.compact(index, state, out)),
            Log::Paxos(paxos) => with_paxos(out, |out| paxos.compact(index, state, out)),
        }
    }

    /// What the host has to do now. Call after every other call.
    pub fn take_deliveries(&mut self) -> Vec<Delivery<C>> {
        match self {
            Log::Raft(raft) => raft.take_deliveries(),
            Log::Paxos(paxos) => paxos.take_deliveries(),
        }
    }

    /// Whether this replica leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        match self {
            Log::Raft(raft) => raft.is_leader(),
            Log::Paxos(paxos) => paxos.is_leader(),
        }
    }

    /// The term in which this replica leads, as far as it knows, once all entries of earlier leaders that will ever
    /// be delivered have been handed out by [`Log::take_deliveries`]. What it proposes in this term is delivered
    /// after all that has been delivered by now, or never.
    pub fn established(&self) -> Option<Term> {
        match self {
            Log::Raft(raft) => raft.established(),
            Log::Paxos(paxos) => paxos.established(),
        }
    }

    /// Who leads, as far as this replica knows.
    pub fn leader(&self) -> Option<Addr> {
        match self {
            Log::Raft(raft) => raft.leader(),
            Log::Paxos(paxos) => paxos.leader(),
        }
    }

    /// The replica's current term: in Paxos, the highest ballot that it has promised.
    pub fn term(&self) -> Term {
        match self {
            Log::Raft(raft) => raft.term(),
            Log::Paxos(paxos) => paxos.term(),
        }
    }

    /// The last entry's position, or the snapshot's.
    pub fn last(&self) -> Position {
        match self {
            Log::Raft(raft) => raft.last(),
            Log::Paxos(paxos) => paxos.last(),
        }
    }

    /// The last entry that the snapshot covers.
    pub fn snapshot_last(&self) -> Position {
        match self {
            Log::Raft(raft) => raft.snapshot_last(),
            Log::Paxos(paxos) => paxos.snapshot_last(),
        }
    }

    /// The entry at `index`, unless the snapshot covers it or the log ends before it.
    pub fn entry(&self, index: Index) -> Option<&Entry<C>> {
        match self {
            Log::Raft(raft) => raft.entry(index),
            Log::Paxos(paxos) => paxos.entry(index),
        }
    }

    /// The last index that this replica knows to be committed, and has delivered.
    pub fn committed(&self) -> Index {
        match self {
            Log::Raft(raft) => raft.committed(),
            Log::Paxos(paxos) => paxos.committed(),
        }
    }
}

/// Lends Raft an effects list of its own kind and takes over what it adds.
fn with_raft<C: Command, R>(
    out: &mut LogEffects<C>,
    act: impl FnOnce(&mut Effects<RaftMessage<C>, ReplicaTimer>) -> R,
) -> R {
    let mut inner = Effects::default();
    let result = act(&mut inner);
    out.absorb(&mut inner, LogMessage::Raft, LogTimer::Raft);
    result
}

/// As [`with_raft`], for Multi-Paxos.
fn with_paxos<C: Command, R>(
    out: &mut LogEffects<C>,
    act: impl FnOnce(&mut Effects<PaxosMessage<C>, ReplicaTimer>) -> R,
) -> R {
    let mut inner = Effects::default();
    let result = act(&mut inner);
    out.absorb(&mut inner, LogMessage::Paxos, LogTimer::Paxos);
    result
}

/// The input in a protocol's own terms; nothing if it is of another protocol.
fn unwrap_input<M, T, M2, T2>(
    input: Input<M, T>,
    message_of: impl Fn(M) -> Option<M2>,
    timer_of: impl Fn(T) -> Option<T2>,
) -> Option<Input<M2, T2>> {
    Some(match input {
        Input::Boot(disk) => Input::Boot(disk),
        Input::Message { from, message } => Input::Message {
            from,
            message: message_of(message)?,
        },
        Input::Timer(timer) => Input::Timer(timer_of(timer)?),
        Input::Flushed(flush) => Input::Flushed(flush),
        Input::FlushFailed(flush) => Input::FlushFailed(flush),
    })
}
