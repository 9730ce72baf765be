//! A participant of an atomic commitment protocol: a shard under strict two-phase locking that executes transactions, votes,
//! stays in doubt until it hears the decision, acts on it, and recovers with its locks.
//!
//! Sources: Gray, "Notes on Data Base Operating Systems", 1978, section 5.8.3; Bernstein, Hadzilacos and Goodman,
//! "Concurrency Control and Recovery in Database Systems", 1987, sections 7.3 and 7.4 (what every such protocol keeps); Gray
//! and Lamport, "Consensus on Transaction Commit", TODS 31(1), 2006, figure 1 (its states; there it is a resource manager).
//!
//! ```text
//!             executes (kit::execution)            vote durable                  commit durable
//!   working ---------------------------> preparing ------------> prepared ----------> committing ---------> committed
//!      |                                     |                  (in doubt)     told
//!      |  guard, wound, lost grant           | flush failed          | told
//!      +-----------> refused                 +-------> aborted <-----+
//! ```
//!
//! The participant of a transaction's first row is its *initiator*: it also answers the client, and begins the commit phase of
//! what was executed. A protocol adds what it says: [`Commitment`] holds its messages, what its votes record besides, how a
//! vote is cast, and what a participant in doubt does. Whoever decides (a transaction manager, acceptors, the participants
//! themselves) is the protocol's alone; it tells a participant by [`Participant::commit`] and [`Participant::abort`].
//!
//! # What is forced
//!
//! | record | before |
//! |---|---|
//! | boot | anything is granted: grants of earlier boots are void |
//! | vote, with its locks and writes | it is cast |
//! | commit | it is acknowledged |
//! | refusal | the client learns of it |
//! | commit of a transaction with one participant | anybody learns of it |
//!
//! An abort is written lazily and not acknowledged: whoever loses it is in doubt again, and asks.
//!
//! ```
//! use ordain::base::process::{Addr, Effect, Effects, Input, NodeId, Process, WallTime};
//! use ordain::base::txn::{ShardId, Txn, TxnId};
//! use ordain::model::worlds::{CLIENT, layout, transfer};
//! use ordain::protocol::kit::client::ClientMessage;
//! use ordain::protocol::two_phase::{Message, TwoPhase};
//! use ordain::protocol::Protocol;
//!
//! // Two-phase commit's participants are of this kind. The initiator of a transfer asks both shards for locks.
//! let mut deployment = TwoPhase::deploy(&layout(), &Default::default(), &[]).unwrap();
//! let home = layout().home(ShardId(0));
//! let participant = &mut deployment.processes[usize::from(home.0)][0];
//! let mut out = Effects::default();
//! participant.step(WallTime::START, Input::Boot(Default::default()), &mut out);
//! let flush = out.drain().find_map(|effect| match effect {
//!     Effect::Flush(flush) => Some(flush),
//!     _ => None,
//! });
//! participant.step(WallTime::START, Input::Flushed(flush.unwrap()), &mut out); // Its boot is durable.
//! let message = Message::Client(ClientMessage::Request { txn: transfer(0).txn.into() });
//! let from = Addr::on(CLIENT);
//! participant.step(WallTime::START, Input::Message { from, message }, &mut out);
//! let asked = out.drain().any(|effect| matches!(effect, Effect::Send { message: Message::Execution(_), .. }));
//! assert!(asked);
//! ```

mod commit;
mod recovery;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::client::ClientMessage;
use super::durable::{self, Incarnation};
use super::execution::{self, Around, Attempt, End, Execution, Grant, Part};
use super::journal::Journal;
use super::node::Carries;
use super::replies::Replies;
use crate::base::hlc::Stamp;
use crate::base::observation::{AbortReason, Mark, Outcome};
use crate::base::process::{Addr, Effects, FileId, Input, Process, WallTime, Wire};
use crate::base::txn::{Key, Read, ShardId, TxnId, Write};
use crate::base::zoo::{self, Bug};
use crate::protocol::Autopsy;
use crate::scenario::layout::Layout;
use crate::shard::ShardState;
use crate::shard::locks::Mode;
use crate::shard::recovery::Recovery;
use crate::shard::store::Store;

const LOG: FileId = FileId(0);

/// The marks of a protocol's participants, by the protocol's name: `participant_marks!("2pc")`, for [`Commitment::MARKS`] and
/// [`Protocol::MARKS`](crate::protocol::Protocol::MARKS).
#[doc(hidden)]
#[macro_export]
macro_rules! participant_marks {
    ($protocol:literal) => {
        [
            (
                concat!($protocol, ".recovered-in-doubt"),
                "a participant restarted with a vote and no decision",
            ),
            (
                concat!($protocol, ".vote-not-durable"),
                "a vote's flush failed",
            ),
            (
                concat!($protocol, ".grant-lost"),
                "a participant was to prepare under locks that it no longer held",
            ),
            (
                concat!($protocol, ".reply-repeated"),
                "a repeated request was answered from memory",
            ),
        ]
    };
}

#[doc(inline)]
pub use participant_marks;

/// The marks of a participant.
pub type Marks = [Mark; 4];
const RECOVERED_IN_DOUBT: usize = 0;
const VOTE_NOT_DURABLE: usize = 1;
const GRANT_LOST: usize = 2;
const REPLY_REPEATED: usize = 3;

/// What may stand in a record: plain data.
pub trait Data:
    Clone + Eq + Hash + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl<D: Clone + Eq + Hash + Debug + Serialize + DeserializeOwned + Send + Sync + 'static> Data
    for D
{
}

/// For a protocol that has no records of its own: there is no value of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Never {}

/// What a participant looks at and does not change.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Where rows live.
    pub layout: &'a Layout,
    /// Pauses and limits of the execution.
    pub execution: &'a execution::Options,
    /// Whether a transaction with one participant commits there, without anybody else (Gray 1978: local transactions).
    pub one_participant: bool,
}

/// The effects of a participant.
pub type Out<P> = Effects<<P as Commitment>::Message, <P as Commitment>::Timer>;

/// A commit protocol, as its participants have it. A value of it is what a participant keeps in memory for the protocol.
pub trait Commitment: Clone + Eq + Hash + Debug + Send + Sync + Sized + 'static {
    /// What travels.
    type Message: Wire + Carries<ClientMessage> + Carries<execution::Message>;
    /// The timers of all its processes.
    type Timer: Clone + Ord + Hash + Debug + Send + Sync + Carries<execution::Timer> + 'static;
    /// What a durable vote holds besides what every protocol's does: whom to ask for the decision, say.
    type Vote: Data;
    /// What the initiator's vote holds besides: what it takes to begin the commit phase.
    type Start: Data;
    /// Its own records, of what lies between a vote and the decision. [`Never`] if it has none.
    type Record: Data;
    /// What of its own state a checkpoint keeps. `()` if it has no records of its own.
    type Checkpoint: Data + Default;
    /// What follows its own records. [`Never`] if it has none.
    type Continuation: Clone + Eq + Hash + Debug + Send + Sync + 'static;

    /// [`participant_marks!`] of its name.
    const MARKS: Marks;
    /// Why a participant halts whose log is damaged.
    const DAMAGED: &'static str = "a participant's log is damaged";

    /// What is around.
    fn setting(&self) -> Setting<'_>;

    // What it says.

    /// A participant's no to who asked it to vote.
    fn no(txn: TxnId, shard: ShardId) -> Self::Message;

    /// A participant's word that its commit is durable.
    fn ack(txn: TxnId, shard: ShardId) -> Self::Message;

    /// Tells of a restart: what the shard had not voted for has lost its locks. Whoever gets that calls
    /// [`Participant::on_restarted`].
    fn announce(&self, shard: ShardId, boot: u64, out: &mut Out<Self>);

    /// The timer of a participant in doubt: when it fires, the protocol asks.
    fn inquiry(txn: TxnId) -> Self::Timer;

    // The vote.

    /// At the initiator: what its vote holds for a transaction with these parts.
    fn begin(
        participant: &Participant<Self>,
        txn: TxnId,
        parts: Vec<Part>,
    ) -> (Self::Vote, Self::Start);

    /// Who collects this vote.
    fn coordinator(vote: &Vote<Self>) -> Addr;

    /// All participants of a transaction, from the initiator's vote.
    fn members(vote: &Vote<Self>) -> BTreeSet<ShardId>;

    /// The vote is durable, and nothing speaks against it: sends it, and arms the [inquiry](Self::inquiry).
    fn cast(participant: &mut Participant<Self>, vote: &Arc<Vote<Self>>, out: &mut Out<Self>);

    // Inputs.

    /// Handles a message. The kit has handlers for what is not the protocol's: [`Participant::on_client`],
    /// [`on_execution`](Participant::on_execution) and [`on_restarted`](Participant::on_restarted).
    fn on_message(
        participant: &mut Participant<Self>,
        now: WallTime,
        from: Addr,
        message: Self::Message,
        out: &mut Out<Self>,
    );

    /// Handles a timer. The kit has a handler for those of the execution: [`Participant::on_execution_timer`].
    fn on_timer(participant: &mut Participant<Self>, timer: Self::Timer, out: &mut Out<Self>);

    // What only some protocols have.

    /// A vote is on its way to the disk.
    fn on_voting(_: &mut Participant<Self>, _vote: &Arc<Vote<Self>>, _: &mut Out<Self>) {}

    /// The participant is in doubt from here on: its vote is durable, or was before a crash.
    fn on_doubt(_: &mut Participant<Self>, _txn: TxnId, _: &mut Out<Self>) {}

    /// A transaction that had voted is dropped: its locks are about to be released.
    fn on_forget(&mut self, _txn: TxnId, _: &mut Out<Self>) {}

    /// Whether the protocol knows by its own records that a transaction gets no locks any more.
    fn is_over(&self, _txn: TxnId) -> bool {
        false
    }

    /// Answers a request that comes again, or lets it wait, where its own records say so.
    fn on_repeated(
        _: &mut Participant<Self>,
        _txn: TxnId,
        _client: Addr,
        _: &mut Out<Self>,
    ) -> Repeated {
        Repeated::NotMine
    }

    /// A transaction with this participant alone is over: it has committed, durably, or its record is lost for good. By default
    /// `asker` is the client of this initiator.
    fn on_alone(
        participant: &mut Participant<Self>,
        alone: Alone,
        has_committed: bool,
        out: &mut Out<Self>,
    ) {
        participant.answer_alone(alone, has_committed, out);
    }

    /// After a restart: everything else is recovered.
    fn on_recovered(_: &mut Participant<Self>, _: &mut Out<Self>) {}

    /// Replays a record of its own.
    fn replay(_: &mut Participant<Self>, record: Self::Record) {
        unreachable!("{record:?} is replayed by nobody");
    }

    /// What of its own state a checkpoint keeps.
    fn checkpoint(&self) -> Self::Checkpoint {
        Self::Checkpoint::default()
    }

    /// Takes up its own state from a checkpoint.
    fn restore(&mut self, _: Self::Checkpoint) {}

    /// A record of its own is durable.
    fn on_durable(_: &mut Participant<Self>, next: Self::Continuation, _: &mut Out<Self>) {
        unreachable!("{next:?} follows nothing");
    }

    /// A record of its own is not in the log, and never will be.
    fn on_lost(_: &mut Participant<Self>, next: Self::Continuation, _: &mut Out<Self>) {
        unreachable!("{next:?} follows nothing");
    }
}

/// A transaction with one participant, in the hands of that one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Alone {
    /// The transaction.
    pub txn: TxnId,
    /// What it writes.
    pub writes: Vec<Write>,
    /// Whom to answer.
    pub asker: Addr,
    /// What it has read.
    pub reads: Vec<Read>,
}

/// What a protocol says to a request that comes again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeated {
    /// It is answered, or the answer will come.
    Settled,
    /// Its own records do not know the transaction.
    NotMine,
}

/// What only the initiator's vote holds: what it takes to begin the commit phase and to answer the client.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Origin<P: Commitment> {
    /// What begins the commit phase.
    pub start: P::Start,
    /// Whom to answer.
    pub client: Addr,
    /// Every row that was read.
    pub reads: Vec<Read>,
}

/// A yes vote: all that is needed to survive a crash in doubt.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Vote<P: Commitment> {
    /// The transaction.
    pub txn: TxnId,
    /// Its age.
    pub stamp: Stamp,
    /// The attempt that got the locks.
    pub attempt: Attempt,
    /// Whose attempt it is.
    pub initiator: Addr,
    /// Its locks here.
    pub locks: Vec<(Key, Mode)>,
    /// What it is to write here.
    pub writes: Vec<Write>,
    /// What the protocol adds.
    pub own: P::Vote,
    /// At the initiator.
    pub origin: Option<Origin<P>>,
}

/// What the log holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub enum Record<P: Commitment> {
    /// A restart. Forced before anything is granted.
    Boot,
    /// A yes vote. Forced before it is cast.
    Prepared(Arc<Vote<P>>),
    /// The decision is commit. Forced before it is acknowledged.
    Committed(TxnId),
    /// The decision is abort. Lazy: whoever has lost it asks again.
    Aborted(TxnId),
    /// A transaction with no other participant commits.
    CommittedAlone {
        /// The transaction.
        txn: TxnId,
        /// What it writes.
        writes: Vec<Write>,
    },
    /// The client is about to be told that its transaction took no effect. Forced, because a late duplicate of
    /// the request must not give it one.
    Refused {
        /// The transaction.
        txn: TxnId,
        /// What the client is told.
        outcome: Outcome,
    },
    /// The protocol's own.
    Own(P::Record),
    /// Everything before this record.
    Checkpoint {
        /// How often the participant has booted.
        boot: u64,
        /// Its rows, with the writes of prepared transactions.
        store: Box<Store>,
        /// Votes without a decision.
        prepared: Vec<Arc<Vote<P>>>,
        /// Transactions that have committed.
        committed: BTreeSet<TxnId>,
        /// Transactions that it had voted for and that were aborted.
        aborted: BTreeSet<TxnId>,
        /// What clients were told.
        refused: BTreeMap<TxnId, Outcome>,
        /// The protocol's own.
        own: P::Checkpoint,
    },
}

/// What follows a forced record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Continuation<P: Commitment> {
    /// The participant serves.
    Boot,
    /// The vote is cast.
    Voted(TxnId),
    /// Effects, locks, acknowledgement.
    Committed(TxnId),
    /// Effects, locks, reply.
    CommittedAlone(Alone),
    /// The client is told.
    Refused {
        /// The transaction.
        txn: TxnId,
        /// What the client is told.
        outcome: Outcome,
        /// The client.
        client: Addr,
    },
    /// The protocol's own.
    Own(P::Continuation),
}

/// A transaction that a participant votes yes for (Gray and Lamport, figure 1: prepared, committed). While it is working,
/// the [`Execution`] knows of it; an aborted one is gone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Phase<P: Commitment> {
    /// The vote is on its way to the disk. If the abort overtakes it, here is why.
    Preparing {
        /// The vote.
        vote: Arc<Vote<P>>,
        /// Why it is aborted.
        doomed: Option<AbortReason>,
    },
    /// In doubt.
    Prepared(Arc<Vote<P>>),
    /// The decision to commit is on its way to the disk.
    Committing {
        /// The vote.
        vote: Arc<Vote<P>>,
        /// Who waits for the acknowledgement: whoever told it last.
        coordinator: Addr,
    },
}

impl<P: Commitment> Phase<P> {
    /// The vote, durable or not.
    pub fn any_vote(&self) -> &Arc<Vote<P>> {
        let (Phase::Preparing { vote, .. }
        | Phase::Prepared(vote)
        | Phase::Committing { vote, .. }) = self;
        vote
    }

    /// The durable vote.
    pub fn vote(&self) -> Option<&Arc<Vote<P>>> {
        match self {
            Phase::Preparing { .. } => None,
            Phase::Prepared(vote) | Phase::Committing { vote, .. } => Some(vote),
        }
    }
}

/// A participant: the process of a shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Participant<P: Commitment> {
    /// What it keeps for the protocol.
    pub own: P,
    me: Addr,
    shard: ShardId,
    journal: Journal<Record<P>, Continuation<P>>,
    incarnation: Incarnation<P::Message>,
    store: Store,
    execution: Execution,
    votes: BTreeMap<TxnId, Phase<P>>,
    committed: BTreeSet<TxnId>,
    /// Transactions that it had voted for and that were aborted: late duplicates are told apart.
    aborted: BTreeSet<TxnId>,
    // The initiator's part.
    replies: Replies,
}

impl<P: Commitment> Participant<P> {
    /// A shard as the scenario starts with it. Its log is shortened by a checkpoint above `checkpoint_min_bytes`.
    pub fn new(shard: ShardId, checkpoint_min_bytes: usize, own: P) -> Self {
        let layout = own.setting().layout;
        let me = execution::participant(layout, shard);
        Self {
            store: Store::new(layout, shard),
            journal: Journal::new(LOG, checkpoint_min_bytes),
            own,
            me,
            shard,
            incarnation: Incarnation::default(),
            execution: Execution::new(me),
            votes: BTreeMap::new(),
            committed: BTreeSet::new(),
            aborted: BTreeSet::new(),
            replies: Replies::default(),
        }
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Its address.
    pub fn me(&self) -> Addr {
        self.me
    }

    /// A transaction for which it votes, or has voted, yes.
    pub fn phase(&self, txn: TxnId) -> Option<&Phase<P>> {
        self.votes.get(&txn)
    }

    /// The vote of a transaction that is in doubt here.
    pub fn in_doubt(&self, txn: TxnId) -> Option<Arc<Vote<P>>> {
        match self.votes.get(&txn)? {
            Phase::Prepared(vote) => Some(Arc::clone(vote)),
            Phase::Preparing { .. } | Phase::Committing { .. } => None,
        }
    }

    /// The transactions for which it votes, or has voted, yes, and whose decision it has not acted on.
    pub fn voted(&self) -> impl Iterator<Item = TxnId> + '_ {
        self.votes.keys().copied()
    }

    /// Whether the transaction has committed here, durably.
    pub fn has_committed(&self, txn: TxnId) -> bool {
        self.committed.contains(&txn)
    }

    /// Whether it had voted for the transaction, which was aborted.
    pub fn has_aborted(&self, txn: TxnId) -> bool {
        self.aborted.contains(&txn)
    }

    /// The grant of a transaction that has or awaits locks here which may still be taken away.
    pub fn grant(&self, txn: TxnId) -> Option<Grant> {
        self.execution.grant(txn)
    }

    /// The transactions that have, await or keep locks here.
    pub fn open(&self) -> impl Iterator<Item = TxnId> + '_ {
        self.execution.open()
    }

    /// Forces a record of the protocol's own.
    pub fn force(&mut self, record: P::Record, next: P::Continuation) {
        let next = Continuation::Own(next);
        self.journal.force(Record::Own(record), next);
    }

    /// Runs a step of the execution, and passes on what it asks for.
    fn execute<R>(
        &mut self,
        out: &mut Out<P>,
        step: impl FnOnce(&mut Execution, &Around<'_>, &mut execution::Out) -> R,
    ) -> R {
        let setting = self.own.setting();
        let around =
            Around::participant(setting.layout, setting.execution, self.shard, &self.store);
        let mut effects = execution::Out::default();
        let result = step(&mut self.execution, &around, &mut effects);
        out.absorb(&mut effects, Carries::wrap, Carries::wrap);
        result
    }

    // Execution.

    /// A message of the execution.
    pub fn on_execution(
        &mut self,
        now: WallTime,
        from: Addr,
        message: execution::Message,
        out: &mut Out<P>,
    ) {
        let txn = message.txn();
        let is_over =
            self.committed.contains(&txn) || self.aborted.contains(&txn) || self.own.is_over(txn);
        let end = self.execute(out, |execution, around, out| {
            execution.on_message(now, from, message, is_over, around, out)
        });
        match end {
            Some(End::Executed(executed)) => self.begin_commit(executed, out),
            Some(End::Refused {
                txn,
                client,
                outcome,
            }) => {
                self.replies.ending(txn);
                self.refuse(txn, outcome, client);
            }
            None => {}
        }
    }

    /// A timer of the execution.
    pub fn on_execution_timer(&mut self, timer: execution::Timer, out: &mut Out<P>) {
        self.execute(out, |execution, around, out| {
            execution.on_timer(timer, around, out);
        });
    }

    /// A participant has restarted: asks it again for what it had granted, and whether what it initiated still runs.
    pub fn on_restarted(&mut self, from: Addr, shard: ShardId, boot: u64, out: &mut Out<P>) {
        self.execute(out, |execution, around, out| {
            execution.on_restarted(shard, boot, around, out);
        });
        self.on_initiator_restarted(from, out);
    }

    /// An initiator has restarted: asks it whether what it initiated still runs.
    pub fn on_initiator_restarted(&mut self, from: Addr, out: &mut Out<P>) {
        self.execute(out, |execution, around, out| {
            execution.probe_those_of(from, around, out);
        });
    }
}

impl<P: Commitment> Process for Participant<P> {
    type Message = P::Message;
    type Timer = P::Timer;

    fn step(&mut self, now: WallTime, input: Input<P::Message, P::Timer>, out: &mut Out<P>) {
        let input = match input {
            Input::FlushFailed(flush) if zoo::planted(Bug::FailedFlushIgnored) => {
                Input::Flushed(flush)
            }
            input => input,
        };
        durable::step(self, now, input, out);
    }
}

impl<P: Commitment> Autopsy for Participant<P> {
    fn autopsy(&self) -> Option<ShardState> {
        let region = self.own.setting().layout.shards[usize::from(self.shard.0)].home;
        let in_doubt = { self.votes.iter() }
            .filter(|(_, phase)| matches!(phase, Phase::Prepared(_)))
            .map(|(txn, _)| *txn);
        Some(self.store.autopsy(region, in_doubt.collect()))
    }

    /// It ends when this participant is in doubt about nothing, and its own votes and decisions are on the disk.
    fn recovery(&self) -> Recovery {
        if !self.incarnation.is_durable() {
            return Recovery::waits("for its restart to be on the disk");
        }
        Recovery::waits_on(self.voted().collect(), "for the decision on")
    }
}
