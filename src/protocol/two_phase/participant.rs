//! A participant: votes, stays in doubt until it hears the decision, and acts on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::heuristic::{Alone, Decision};
use super::{Message, Options, Out, PrepareRequest, Site, Start, Timer};
use crate::base::hlc::Stamp;
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::process::{Addr, Delay, Disk, FileId, Input, Process, WallTime};
use crate::base::txn::{Key, Read, ShardId, TxnId, Write, WriteId};
use crate::base::zoo::{self, Bug};
use crate::protocol::Autopsy;
use crate::protocol::kit::client::ClientMessage;
use crate::protocol::kit::execution::{self, Around, Attempt, Execution, Grant, Kept};
use crate::protocol::kit::journal::Journal;
use crate::shard::ShardState;
use crate::shard::locks::Mode;
use crate::shard::recovery::Recovery;
use crate::shard::store::Store;

const LOG: FileId = FileId(0);

/// What only the initiator's vote holds: what it takes to begin the commit phase and to answer the client.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) start: Arc<Start>,
    pub(super) client: Addr,
    pub(super) reads: Vec<Read>,
}

/// A yes vote: all that is needed to survive a crash in doubt.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Vote {
    pub(super) txn: TxnId,
    pub(super) stamp: Stamp,
    pub(super) attempt: Attempt,
    pub(super) initiator: Addr,
    pub(super) manager: Addr,
    pub(super) peers: BTreeSet<ShardId>,
    pub(super) locks: Vec<(Key, Mode)>,
    pub(super) writes: Vec<Write>,
    pub(super) origin: Option<Origin>,
}

/// What the log holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) enum Record {
    /// A restart. Forced before anything is granted.
    Boot,
    /// A yes vote. Forced before it is cast.
    Prepared(Arc<Vote>),
    /// The decision is commit. Forced before it is acknowledged.
    Committed(TxnId),
    /// The decision is abort. Lazy: whoever has lost it asks again, and abort is presumed.
    Aborted(TxnId),
    /// A transaction with no other participant commits.
    CommittedAlone { txn: TxnId, writes: Vec<Write> },
    /// Decided alone, after too long in doubt. Forced before it is done.
    DecidedAlone { txn: TxnId, commit: bool },
    /// The decision on what was decided alone; `mixed` if that was otherwise. Forced before the coordinator may forget.
    Learned {
        txn: TxnId,
        commit: bool,
        mixed: bool,
    },
    /// The client is about to be told that its transaction took no effect. Forced, because a late duplicate of
    /// the request must not give it one.
    Refused { txn: TxnId, outcome: Outcome },
    /// Everything before this record.
    Checkpoint {
        boot: u64,
        store: Box<Store>,
        prepared: Vec<Arc<Vote>>,
        committed: BTreeSet<TxnId>,
        aborted: BTreeSet<TxnId>,
        refused: BTreeMap<TxnId, Outcome>,
        alone: Vec<(Arc<Vote>, bool)>,
        mixed: BTreeSet<TxnId>,
    },
}

/// What follows a forced record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Then {
    Boot,
    Voted(TxnId),
    Committed(TxnId),
    DecidedAlone(TxnId),
    Learned {
        txn: TxnId,
        decision: Decision,
    },
    CommittedAlone {
        txn: TxnId,
        writes: Vec<Write>,
        client: Addr,
        reads: Vec<Read>,
    },
    Refused {
        txn: TxnId,
        outcome: Outcome,
        client: Addr,
    },
}

/// A transaction that a participant votes yes for (Gray and Lamport, figure 1: prepared, committed). While it is working,
/// the [`Execution`] knows of it; an aborted one is gone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Phase {
    /// The vote is on its way to the disk. If the abort overtakes it, here is why.
    Preparing {
        vote: Arc<Vote>,
        doomed: Option<AbortReason>,
    },
    /// In doubt.
    Prepared(Arc<Vote>),
    /// The decision to commit is on its way to the disk.
    Committing(Arc<Vote>),
    /// This participant's own decision is on its way to the disk. If the coordinator's overtakes it, here it is.
    DecidingAlone {
        vote: Arc<Vote>,
        commit: bool,
        told: Option<Decision>,
    },
}

impl Phase {
    /// The durable vote.
    pub(super) fn vote(&self) -> Option<&Arc<Vote>> {
        match self {
            Phase::Prepared(vote) | Phase::Committing(vote) | Phase::DecidingAlone { vote, .. } => {
                Some(vote)
            }
            Phase::Preparing { .. } => None,
        }
    }

    /// The vote, durable or not.
    pub(super) fn any_vote(&self) -> &Vote {
        match self {
            Phase::Preparing { vote, .. }
            | Phase::Prepared(vote)
            | Phase::Committing(vote)
            | Phase::DecidingAlone { vote, .. } => vote,
        }
    }
}

/// Where a transaction stands at a participant, seen from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParticipantView {
    /// It has no locks here: not yet, or no more.
    Absent,
    /// It has or awaits locks.
    Working(Grant),
    /// The vote is on its way to the disk.
    Preparing,
    /// Voted yes, durably; the decision is unknown or not yet durable.
    Prepared,
    /// Committed, durably.
    Committed,
    /// Decided alone, durably; the decision is unknown or not yet durable.
    Alone {
        /// Whether it committed.
        did: bool,
    },
    /// The decision is known, durably, and not what was done alone.
    Mixed {
        /// Whether it had committed.
        did: bool,
    },
}

/// A data machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Participant {
    pub(super) site: Arc<Site>,
    pub(super) me: Addr,
    pub(super) shard: ShardId,
    pub(super) journal: Journal<Record, Then>,
    pub(super) store: Store,
    pub(super) execution: Execution,
    pub(super) votes: BTreeMap<TxnId, Phase>,
    pub(super) committed: BTreeSet<TxnId>,
    /// Transactions that this participant had voted for and that were aborted: late duplicates are told apart.
    pub(super) aborted: BTreeSet<TxnId>,
    /// What was decided alone, until the decision is known.
    pub(super) alone: BTreeMap<TxnId, Alone>,
    /// What was decided alone, and otherwise than it should have been.
    pub(super) mixed: BTreeSet<TxnId>,
    boot: u64,
    ready: bool,
    /// What arrived before this boot was durable.
    early: Vec<(Addr, Message)>,
    // The initiator's part.
    /// Executed or refused, and that they end here is on its way to the disk.
    pub(super) ending: BTreeSet<TxnId>,
    /// Transactions whose client was told that they took no effect.
    pub(super) refused: BTreeMap<TxnId, Outcome>,
    /// What the latest committed transactions read, for replies that got lost.
    pub(super) replies: BTreeMap<TxnId, Vec<Read>>,
    /// The manager's incarnation, as far as known.
    pub(super) incarnation: u64,
}

impl Participant {
    pub(super) fn new(site: Arc<Site>, shard: ShardId) -> Self {
        let me = site.participant(shard);
        Self {
            store: Store::new(&site.layout, shard),
            journal: Journal::new(LOG, site.options.checkpoint_min_bytes()),
            site,
            me,
            shard,
            execution: Execution::new(me),
            votes: BTreeMap::new(),
            committed: BTreeSet::new(),
            aborted: BTreeSet::new(),
            alone: BTreeMap::new(),
            mixed: BTreeSet::new(),
            boot: 0,
            ready: false,
            early: Vec::new(),
            ending: BTreeSet::new(),
            refused: BTreeMap::new(),
            replies: BTreeMap::new(),
            incarnation: 1,
        }
    }

    /// Where a transaction stands here.
    pub fn view(&self, txn: TxnId) -> ParticipantView {
        match self.votes.get(&txn) {
            _ if self.mixed.contains(&txn) => ParticipantView::Mixed {
                did: !self.committed.contains(&txn),
            },
            _ if self.committed.contains(&txn) => ParticipantView::Committed,
            Some(Phase::Preparing { .. }) => ParticipantView::Preparing,
            Some(Phase::Prepared(_) | Phase::Committing(_) | Phase::DecidingAlone { .. }) => {
                ParticipantView::Prepared
            }
            None => match (self.execution.grant(txn), self.alone.get(&txn)) {
                (Some(grant), _) => ParticipantView::Working(grant),
                (None, Some(alone)) => ParticipantView::Alone { did: alone.did() },
                (None, None) => ParticipantView::Absent,
            },
        }
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The deployment's options.
    pub fn options(&self) -> &Options {
        &self.site.options
    }

    /// What this participant, as its initiator, has voted yes for, durably, and its manager.
    pub fn initiated(&self, txn: TxnId) -> Option<(Arc<Start>, Addr)> {
        let vote = self.votes.get(&txn)?.vote()?;
        Some((Arc::clone(&vote.origin.as_ref()?.start), vote.manager))
    }

    /// The transactions that have locks here.
    pub fn open(&self) -> impl Iterator<Item = TxnId> + '_ {
        self.execution.open()
    }
}

impl Autopsy for Participant {
    fn autopsy(&self) -> Option<ShardState> {
        let region = self.site.layout.shards[usize::from(self.shard.0)].home;
        let in_doubt = self
            .votes
            .iter()
            .filter_map(|(txn, phase)| matches!(phase, Phase::Prepared(_)).then_some(*txn));
        Some(self.store.autopsy(region, in_doubt.collect()))
    }

    /// It ends when this participant is in doubt about nothing, and its own votes and decisions are on the disk. Whoever needs
    /// the manager's word is in doubt.
    fn recovery(&self) -> Recovery {
        if !self.ready {
            return Recovery::waits("for its restart to be on the disk");
        }
        Recovery::waits_on(self.votes.keys().copied().collect(), "for the decision on")
    }
}

impl Process for Participant {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        match input {
            Input::Boot(disk) => self.boot(&disk, out),
            Input::Message { from, message } if self.ready => {
                self.receive(now, from, message, out);
            }
            Input::Message { from, message } => self.early.push((from, message)),
            Input::Timer(timer) => self.on_timer(timer, out),
            Input::Flushed(flush) => {
                let settled = self.journal.flushed(flush);
                for then in settled.durable {
                    self.durable(now, then, out);
                }
                for then in settled.lost {
                    self.lost(then, out);
                }
            }
            Input::FlushFailed(flush) if zoo::planted(Bug::FailedFlushIgnored) => {
                for then in self.journal.flushed(flush).durable {
                    self.durable(now, then, out);
                }
            }
            Input::FlushFailed(flush) => self.journal.flush_failed(flush, out),
        }
        while let Some(message) = self.execution.next_to_self() {
            self.on_execution(now, self.me, message, out);
        }
        let snapshot = || Record::Checkpoint {
            boot: self.boot,
            store: Box::new(self.store.clone()),
            prepared: { self.votes.values() }
                .filter(|_| !zoo::planted(Bug::CheckpointDropsVotes))
                .filter_map(|phase| phase.vote().map(Arc::clone))
                .collect(),
            committed: self.committed.clone(),
            aborted: self.aborted.clone(),
            refused: self.refused.clone(),
            alone: self.alone.values().map(Alone::kept).collect(),
            mixed: self.mixed.clone(),
        };
        self.journal.pump(snapshot, out);
    }
}

impl Participant {
    /// Runs a step of the execution, and passes on what it asks for.
    pub(super) fn execute<R>(
        &mut self,
        out: &mut Out,
        step: impl FnOnce(&mut Execution, &Around<'_>, &mut execution::Out) -> R,
    ) -> R {
        let around = Around {
            layout: &self.site.layout,
            options: &self.site.execution,
            shard: self.shard,
            store: &self.store,
        };
        let mut effects = execution::Out::default();
        let result = step(&mut self.execution, &around, &mut effects);
        out.absorb(&mut effects, Message::Execution, Timer::Execution);
        result
    }

    fn receive(&mut self, now: WallTime, from: Addr, message: Message, out: &mut Out) {
        match message {
            Message::Client(ClientMessage::Request { txn }) => self.on_request(now, from, txn, out),
            Message::Execution(message) => self.on_execution(now, from, message, out),
            Message::Prepare(request) => self.on_prepare(from, &request, out),
            Message::Commit { txn } => self.on_commit(from, txn, out),
            Message::Abort { txn, why } => self.on_abort(txn, why, out),
            Message::PeerInquiry { txn } => self.on_peer_inquiry(from, txn, out),
            Message::PeerAnswer { txn, commit } => {
                out.observe(Observation::Mark("2pc.peer-knew"));
                match commit {
                    true => self.on_commit(self.site.manager(self.shard), txn, out),
                    false => self.on_abort(txn, AbortReason::Presumed, out),
                }
            }
            Message::Hello { incarnation } => self.incarnation = self.incarnation.max(incarnation),
            Message::Restarted { shard, boot } => self.execute(out, |execution, around, out| {
                execution.on_restarted(shard, boot, around, out);
                execution.probe_those_of(from, around, out);
            }),
            Message::Client(ClientMessage::Reply { .. })
            | Message::Start(_)
            | Message::Prepared { .. }
            | Message::Read { .. }
            | Message::No { .. }
            | Message::Ack { .. }
            | Message::Inquiry { .. } => unreachable!("{message:?} is for a client or a manager"),
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Execution(timer) => self.execute(out, |execution, around, out| {
                execution.on_timer(timer, around, out);
            }),
            Timer::Inquire(_) if zoo::planted(Bug::NeverInquires) => {}
            Timer::Inquire(txn) => self.inquire(txn, out),
            Timer::Heuristic(txn) => self.decide_alone(txn, out),
            Timer::Client(_) | Timer::Resend(_) | Timer::VoteTimeout(_) => {}
        }
    }

    // Execution.

    fn on_execution(
        &mut self,
        now: WallTime,
        from: Addr,
        message: execution::Message,
        out: &mut Out,
    ) {
        let txn = message.txn();
        let is_over = self.committed.contains(&txn)
            || self.aborted.contains(&txn)
            || self.alone.contains_key(&txn);
        let end = self.execute(out, |execution, around, out| {
            execution.on_message(now, from, message, is_over, around, out)
        });
        if let Some(end) = end {
            self.on_end(end);
        }
    }

    /// Releases all locks of a transaction and drops it.
    pub(super) fn forget(&mut self, txn: TxnId, out: &mut Out) {
        if self.votes.remove(&txn).is_some() {
            out.cancel_timer(Timer::Inquire(txn));
            out.cancel_timer(Timer::Heuristic(txn));
        }
        self.execute(out, |execution, around, out| {
            execution.forget(txn, around, out);
        });
    }

    // Phase one.

    fn on_prepare(&mut self, manager: Addr, request: &PrepareRequest, out: &mut Out) {
        let (txn, shard) = (request.txn, self.shard);
        if self.committed.contains(&txn) {
            return self.acknowledge_again(manager, txn, out);
        }
        let holds_locks = self.execution.holds_under(txn, request.part.grant);
        match self.votes.get(&txn) {
            None if holds_locks && !request.peers.contains(&shard) => {
                self.forget(txn, out);
                out.send(manager, Message::Read { txn, shard });
            }
            None if holds_locks => {
                let writes = request.part.writes.clone();
                self.vote(txn, manager, request.peers.clone(), writes, None);
                if zoo::planted(Bug::VoteNotForced) {
                    out.send(manager, Message::Prepared { txn, shard });
                }
            }
            Some(Phase::Prepared(_) | Phase::DecidingAlone { .. }) => {
                out.send(manager, Message::Prepared { txn, shard });
            }
            None if self.alone.contains_key(&txn) => {
                out.send(manager, Message::Prepared { txn, shard });
            }
            Some(Phase::Preparing { .. } | Phase::Committing(_)) => {}
            None => {
                // The locks under which it was read are gone: a crash, or an abort that this repeats.
                if !self.aborted.contains(&txn) && request.peers.contains(&shard) {
                    out.observe(Observation::Mark("2pc.grant-lost"));
                    self.observe_no(txn, out);
                }
                out.send(manager, Message::No { txn, shard });
            }
        }
    }

    /// Forces a yes vote.
    pub(super) fn vote(
        &mut self,
        txn: TxnId,
        manager: Addr,
        peers: BTreeSet<ShardId>,
        writes: Vec<Write>,
        origin: Option<Origin>,
    ) {
        let Kept {
            stamp,
            attempt,
            initiator,
            locks,
        } = self.execution.keep(txn);
        let vote = Arc::new(Vote {
            txn,
            stamp,
            attempt,
            initiator,
            manager,
            peers,
            locks,
            writes,
            origin,
        });
        let record = Record::Prepared(Arc::clone(&vote));
        let doomed = None;
        self.votes.insert(txn, Phase::Preparing { vote, doomed });
        self.journal.force(record, Then::Voted(txn));
    }

    fn observe_no(&mut self, txn: TxnId, out: &mut Out) {
        let (shard, yes) = (self.shard, false);
        out.observe(Observation::Voted { txn, shard, yes });
    }

    /// The vote is durable: from here on only the decision releases the locks.
    fn vote_durable(&mut self, txn: TxnId, out: &mut Out) {
        let phase = { self.votes.get_mut(&txn) }.expect("a vote under way is known");
        let Phase::Preparing { vote, doomed } = phase else {
            unreachable!("{txn} has voted in {phase:?}");
        };
        let (vote, doomed) = (Arc::clone(vote), *doomed);
        *phase = Phase::Prepared(Arc::clone(&vote));
        out.work(vote.writes.len() as u32);
        let staged = self.store.prepare(txn, &vote.writes);
        staged.expect("exclusive locks keep other writers out");
        let (shard, yes) = (self.shard, true);
        out.observe(Observation::Voted { txn, shard, yes });
        out.cancel_timer(Timer::Execution(execution::Timer::Probe(txn)));
        if zoo::planted(Bug::AckAtVote)
            && let Some(Origin { client, reads, .. }) = &vote.origin
        {
            self.reply_committed(txn, *client, reads.clone(), out);
        }
        self.limit_doubt(txn, out);
        match doomed {
            Some(why) => self.on_abort(txn, why, out),
            None => self.cast(&vote, out),
        }
    }

    /// Sends the yes vote to the manager, and asks if nothing comes back.
    fn cast(&mut self, vote: &Vote, out: &mut Out) {
        let (txn, shard) = (vote.txn, self.shard);
        let message = match &vote.origin {
            Some(origin) => Message::Start(Arc::clone(&origin.start)),
            None => Message::Prepared { txn, shard },
        };
        out.send(vote.manager, message);
        let inquiry = self.site.options.inquiry_ms.about();
        out.set_timer(Timer::Inquire(txn), inquiry);
    }

    // Phase two.

    /// In doubt for a while: ask. The initiator repeats its vote, which says all that the manager needs to
    /// begin, should the first one have been lost.
    fn inquire(&mut self, txn: TxnId, out: &mut Out) {
        let vote = match self.votes.get(&txn) {
            Some(Phase::Prepared(vote)) => Arc::clone(vote),
            Some(_) => return,
            None => match self.alone.get(&txn) {
                Some(alone) => Arc::clone(&alone.vote),
                None => return,
            },
        };
        if zoo::planted(Bug::InDoubtTimesOut) {
            return self.on_abort(txn, AbortReason::Timeout, out);
        }
        out.observe(Observation::Mark("2pc.in-doubt"));
        match &vote.origin {
            Some(_) => self.cast(&vote, out),
            None => out.send(vote.manager, Message::Inquiry { txn }),
        }
        if self.site.options.cooperative_termination {
            for peer in { vote.peers.iter() }.filter(|peer| **peer != self.shard) {
                out.send(self.site.participant(*peer), Message::PeerInquiry { txn });
            }
        }
        let inquiry = self.site.options.inquiry_ms.about();
        out.set_timer(Timer::Inquire(txn), inquiry);
    }

    /// Cooperative termination: who has not voted yet aborts, and can say so because it will vote no.
    fn on_peer_inquiry(&mut self, from: Addr, txn: TxnId, out: &mut Out) {
        if self.alone.contains_key(&txn) {
            return;
        }
        let commit = match self.votes.get(&txn) {
            Some(Phase::Prepared(_)) if zoo::planted(Bug::PeerInDoubtAnswersAbort) => false,
            Some(Phase::Prepared(_) | Phase::Preparing { .. } | Phase::DecidingAlone { .. }) => {
                return;
            }
            Some(Phase::Committing(_)) => true,
            None if self.execution.grant(txn).is_some() => {
                if !zoo::planted(Bug::WorkingPeerKeepsItsVote) {
                    self.forget(txn, out);
                }
                false
            }
            None => self.committed.contains(&txn),
        };
        out.send(from, Message::PeerAnswer { txn, commit });
    }

    fn on_commit(&mut self, manager: Addr, txn: TxnId, out: &mut Out) {
        if self.learn_late(txn, (true, AbortReason::Presumed), out) {
            return;
        }
        let Some(phase) = self.votes.get_mut(&txn) else {
            assert!(
                self.committed.contains(&txn) || zoo::any(),
                "{txn} commits without a vote"
            );
            return self.acknowledge_again(manager, txn, out);
        };
        match phase {
            Phase::Prepared(vote) => {
                let vote = Arc::clone(vote);
                *phase = Phase::Committing(Arc::clone(&vote));
                out.cancel_timer(Timer::Inquire(txn));
                self.journal
                    .force(Record::Committed(txn), Then::Committed(txn));
                if let Some(Origin { client, reads, .. }) = &vote.origin {
                    self.reply_committed(txn, *client, reads.clone(), out);
                }
            }
            Phase::Committing(_) => {} // A duplicate: the acknowledgement will follow.
            phase => assert!(
                self.committed.contains(&txn) || zoo::any(),
                "{txn} commits in {phase:?}"
            ),
        }
    }

    fn commit_durable(&mut self, txn: TxnId, out: &mut Out) {
        let phase = self.votes.get(&txn).cloned();
        let Some(Phase::Committing(vote)) = phase else {
            unreachable!("{txn} has committed in {phase:?}");
        };
        let (shard, commit) = (self.shard, true);
        self.committed.insert(txn);
        out.observe(Observation::Resolved { txn, shard, commit });
        self.finish(txn, &vote, commit, out);
        self.forget(txn, out);
        out.send(vote.manager, Message::Ack { txn, shard });
    }

    /// Makes the effects of a prepared transaction visible, or undoes them.
    pub(super) fn finish(&mut self, txn: TxnId, vote: &Vote, commit: bool, out: &mut Out) {
        if !commit {
            let undone = self.store.rollback_prepared(txn);
            return undone.expect("a prepared transaction can be rolled back");
        }
        let (shard, position) = (self.shard, self.store.next_position());
        out.work(vote.writes.len() as u32);
        let keys = self.store.commit_prepared(position, txn);
        let keys = keys.expect("a prepared transaction commits");
        if !keys.is_empty() {
            out.observe(Observation::Applied {
                txn,
                shard,
                position,
                keys,
            });
        }
    }

    /// The first acknowledgement was lost, or a crash came between the record and the words.
    fn acknowledge_again(&mut self, manager: Addr, txn: TxnId, out: &mut Out) {
        let (shard, commit) = (self.shard, true);
        out.observe(Observation::Resolved { txn, shard, commit });
        out.send(manager, Message::Ack { txn, shard });
    }

    /// Presumed abort: lazily recorded, not acknowledged.
    fn on_abort(&mut self, txn: TxnId, why: AbortReason, out: &mut Out) {
        if self.learn_late(txn, (false, why), out) {
            return;
        }
        let Some(phase) = self.votes.get_mut(&txn) else {
            return self.forget(txn, out);
        };
        match phase {
            Phase::Preparing { doomed, .. } => *doomed = Some(why),
            Phase::Prepared(vote) => {
                let vote = Arc::clone(vote);
                let (shard, commit) = (self.shard, false);
                self.journal.write_lazily(Record::Aborted(txn));
                self.finish(txn, &vote, commit, out);
                self.aborted.insert(txn);
                out.observe(Observation::Resolved { txn, shard, commit });
                self.forget(txn, out);
                if let Some(Origin { client, .. }) = &vote.origin {
                    self.refuse(txn, Outcome::Aborted { why }, *client);
                }
            }
            phase => unreachable!("{txn} is aborted for {why:?} in {phase:?}"),
        }
    }

    // The log.

    fn durable(&mut self, now: WallTime, then: Then, out: &mut Out) {
        match then {
            Then::Boot => self.serve(now, out),
            Then::Voted(txn) => self.vote_durable(txn, out),
            Then::Committed(txn) => self.commit_durable(txn, out),
            Then::DecidedAlone(txn) => self.decided_alone(txn, out),
            Then::Learned { txn, decision } => self.learned(txn, decision, out),
            Then::CommittedAlone {
                txn,
                writes,
                client,
                reads,
            } => {
                self.alone_durable(txn, &writes, out);
                self.reply_committed(txn, client, reads, out);
            }
            Then::Refused {
                txn,
                outcome,
                client,
            } => self.refusal_durable(txn, outcome, client, out),
        }
    }

    /// What a failed flush took for certain: a vote becomes a no, everything else is tried again.
    fn lost(&mut self, then: Then, out: &mut Out) {
        match then {
            Then::Boot => self.journal.force(Record::Boot, then),
            Then::Voted(txn) => self.vote_lost(txn, out),
            Then::Committed(txn) => self.journal.force(Record::Committed(txn), then),
            Then::DecidedAlone(txn) => self.force_decided_alone(txn),
            Then::Learned { txn, decision } => self.force_learned(txn, decision),
            Then::CommittedAlone { txn, client, .. } => {
                let why = AbortReason::ApplyFailed;
                self.forget(txn, out);
                self.refuse(txn, Outcome::Aborted { why }, client);
            }
            Then::Refused {
                txn,
                outcome,
                client,
            } => self.refuse(txn, outcome, client),
        }
    }

    fn vote_lost(&mut self, txn: TxnId, out: &mut Out) {
        let phase = self.votes.get(&txn).cloned();
        let Some(Phase::Preparing { vote, .. }) = phase else {
            unreachable!("{txn} could not vote in {phase:?}");
        };
        out.observe(Observation::Mark("2pc.vote-not-durable"));
        self.forget(txn, out);
        match &vote.origin {
            // No vote was cast: the manager has not heard of the transaction.
            Some(Origin { client, start, .. }) => {
                let shards = start.shards();
                self.execute(out, |execution, around, out| {
                    execution.release_others(txn, vote.attempt, shards, around, out);
                });
                self.aborted.insert(txn);
                let why = AbortReason::VotedNo;
                self.refuse(txn, Outcome::Aborted { why }, *client);
            }
            None => {
                let shard = self.shard;
                self.observe_no(txn, out);
                out.send(vote.manager, Message::No { txn, shard });
            }
        }
    }

    // Recovery: whatever has a vote and no decision is in doubt again, with its locks.

    fn boot(&mut self, disk: &Disk, out: &mut Out) {
        let Ok(records) = self.journal.open(disk.file(LOG), out) else {
            return out.halt("a participant's log is damaged");
        };
        let shard = self.shard;
        for record in records {
            if let Record::CommittedAlone { txn, .. } = record {
                // Stated again, because the crash may have come between the record and the words.
                let commit = true;
                out.observe(Observation::Decided { txn, commit });
                out.observe(Observation::Resolved { txn, shard, commit });
                out.observe(Observation::Ended { txn, commit });
            }
            self.replay(record);
        }
        for (txn, phase) in &self.votes {
            let txn = *txn;
            if let Phase::Prepared(vote) = phase
                && !zoo::planted(Bug::LocksLostAtRestart)
            {
                self.execution.retake(txn, vote.locks.iter().copied());
            }
            let yes = true;
            out.observe(Observation::Mark("2pc.recovered-in-doubt"));
            out.observe(Observation::Voted { txn, shard, yes });
            out.observe(Observation::Locked { txn, shard });
            out.set_timer(Timer::Inquire(txn), Delay::exactly(0));
            self.limit_doubt(txn, out);
        }
        self.recall_alone(out);
        if zoo::planted(Bug::InDoubtAbortsAtRestart) {
            for txn in self.votes.keys().copied().collect::<Vec<_>>() {
                self.on_abort(txn, AbortReason::Presumed, out);
            }
        }
        self.journal.force(Record::Boot, Then::Boot);
    }

    fn replay(&mut self, record: Record) {
        match record {
            Record::Boot => self.boot += 1,
            Record::Prepared(vote) => {
                let staged = self.store.prepare(vote.txn, &vote.writes);
                staged.expect("a prepared transaction had its rows to itself");
                self.recover_vote(vote);
            }
            Record::Committed(txn) => {
                let position = self.store.next_position();
                let done = self.store.commit_prepared(position, txn);
                done.expect("a commit follows its vote");
                self.recover_end(txn);
                self.committed.insert(txn);
            }
            Record::Aborted(txn) => {
                // A checkpoint that came between the abort and this record has dropped it already.
                if self.recover_end(txn).is_some() {
                    let undone = self.store.rollback_prepared(txn);
                    undone.expect("a prepared transaction can be rolled back");
                }
                self.aborted.insert(txn);
            }
            Record::DecidedAlone { txn, commit } => {
                let phase = self.recover_end(txn).expect("a vote precedes it");
                let vote = phase.vote().expect("only a vote is recovered");
                let position = self.store.next_position();
                let done = match commit {
                    true => self.store.commit_prepared(position, txn).map(drop),
                    false => self.store.rollback_prepared(txn),
                };
                done.expect("a decision follows its vote");
                self.keep_decided_alone(Arc::clone(vote), commit);
            }
            Record::Learned { txn, commit, mixed } => {
                self.alone.remove(&txn);
                self.note_learned(txn, commit, mixed);
            }
            Record::CommittedAlone { txn, writes } => {
                let position = self.store.next_position();
                let writer = WriteId { txn, undo: false };
                self.store.apply(position, writer, &writes);
                self.committed.insert(txn);
            }
            Record::Refused { txn, outcome } => {
                self.refused.insert(txn, outcome);
            }
            Record::Checkpoint {
                boot,
                store,
                prepared,
                committed,
                aborted,
                refused,
                alone,
                mixed,
            } => {
                self.boot = boot;
                self.store = *store;
                self.committed = committed;
                self.aborted = aborted;
                self.refused = refused;
                self.mixed = mixed;
                for (vote, commit) in alone {
                    self.keep_decided_alone(vote, commit);
                }
                prepared
                    .into_iter()
                    .for_each(|vote| self.recover_vote(vote));
            }
        }
    }

    fn recover_vote(&mut self, vote: Arc<Vote>) {
        self.execution
            .recover(vote.txn, vote.stamp, vote.attempt, vote.initiator);
        self.votes.insert(vote.txn, Phase::Prepared(vote));
    }

    fn recover_end(&mut self, txn: TxnId) -> Option<Phase> {
        self.execution.recover_end(txn);
        self.votes.remove(&txn)
    }

    /// This boot is durable: grants made from here on differ from all earlier ones.
    fn serve(&mut self, now: WallTime, out: &mut Out) {
        self.boot += 1;
        self.execution.serve(self.boot);
        self.ready = true;
        if self.boot > 1 {
            self.announce_restart(out);
        }
        for (from, message) in std::mem::take(&mut self.early) {
            self.receive(now, from, message, out);
        }
    }

    fn announce_restart(&mut self, out: &mut Out) {
        let (shard, boot) = (self.shard, self.boot);
        let mut told = BTreeSet::from([self.site.manager(shard)]);
        if self.site.options.announce_restarts {
            told.extend(self.site.managers());
            let others = { self.site.layout.shard_ids() }.filter(|other| *other != shard);
            told.extend(others.map(|other| self.site.participant(other)));
        }
        for to in told {
            out.send(to, Message::Restarted { shard, boot });
        }
    }
}
