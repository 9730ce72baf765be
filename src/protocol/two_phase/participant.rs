//! A participant: its vote goes to the transaction manager, whom it asks when it is in doubt. The initiator's vote begins the
//! commit phase.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::heuristic::{self, Alone, Deciding, Decision};
use super::{Message, Options, Out, PrepareRequest, Site, Start, Timer};
use crate::base::observation::{AbortReason, Observation};
use crate::base::process::{Addr, WallTime};
use crate::base::txn::{ShardId, TxnId};
use crate::base::zoo::{self, Bug};
use crate::protocol::kit::execution::{Grant, Part};
use crate::protocol::kit::participant::{
    self, Commitment, Marks, Phase, Repeated, Setting, participant_marks,
};

/// A data machine.
pub type Participant = participant::Participant<Member>;

pub(super) type Vote = participant::Vote<Member>;

/// Who else takes part in the second phase.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Others {
    pub(super) manager: Addr,
    pub(super) peers: BTreeSet<ShardId>,
}

/// What a participant keeps in memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Member {
    pub(super) site: Arc<Site>,
    /// As initiator: the manager's incarnation, as far as known.
    incarnation: u64,
    /// What is being decided alone.
    pub(super) deciding: BTreeMap<TxnId, Deciding>,
    /// What was decided alone, until the decision is known.
    pub(super) alone: BTreeMap<TxnId, Alone>,
    /// What was decided alone, and otherwise than it should have been.
    pub(super) mixed: BTreeSet<TxnId>,
}

pub(super) fn participant(site: Arc<Site>, shard: ShardId) -> Participant {
    let checkpoint_min_bytes = site.options.checkpoint_min_bytes();
    let member = Member {
        site,
        incarnation: 1,
        deciding: BTreeMap::new(),
        alone: BTreeMap::new(),
        mixed: BTreeSet::new(),
    };
    Participant::new(shard, checkpoint_min_bytes, member)
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

impl Participant {
    /// Where a transaction stands here.
    pub fn view(&self, txn: TxnId) -> ParticipantView {
        match self.phase(txn) {
            _ if self.own.mixed.contains(&txn) => ParticipantView::Mixed {
                did: !self.has_committed(txn),
            },
            _ if self.has_committed(txn) => ParticipantView::Committed,
            Some(Phase::Preparing { .. }) => ParticipantView::Preparing,
            Some(Phase::Prepared(_) | Phase::Committing { .. }) => ParticipantView::Prepared,
            None => match (self.grant(txn), self.own.alone.get(&txn)) {
                (Some(grant), _) => ParticipantView::Working(grant),
                (None, Some(alone)) => ParticipantView::Alone { did: alone.did() },
                (None, None) => ParticipantView::Absent,
            },
        }
    }

    /// The deployment's options.
    pub fn options(&self) -> &Options {
        &self.own.site.options
    }

    /// What this participant, as its initiator, has voted yes for, durably, and its manager.
    pub fn initiated(&self, txn: TxnId) -> Option<(Arc<Start>, Addr)> {
        let vote = self.phase(txn)?.vote()?;
        Some((Arc::clone(&vote.origin.as_ref()?.start), vote.own.manager))
    }
}

impl Commitment for Member {
    type Message = Message;
    type Timer = Timer;
    type Vote = Others;
    type Start = Arc<Start>;
    type Record = heuristic::Record;
    type Checkpoint = heuristic::Kept;
    type Continuation = heuristic::Continuation;

    const MARKS: Marks = participant_marks!("2pc");

    fn setting(&self) -> Setting<'_> {
        Setting {
            layout: &self.site.layout,
            execution: &self.site.execution,
            one_participant: self.site.options.one_participant_optimisation,
        }
    }

    fn no(txn: TxnId, shard: ShardId) -> Message {
        Message::No { txn, shard }
    }

    fn ack(txn: TxnId, shard: ShardId) -> Message {
        Message::Ack { txn, shard }
    }

    fn announce(&self, shard: ShardId, boot: u64, out: &mut Out) {
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

    fn inquiry(txn: TxnId) -> Timer {
        Timer::Inquire(txn)
    }

    fn begin(initiator: &Participant, txn: TxnId, parts: Vec<Part>) -> (Others, Arc<Start>) {
        let Member {
            site, incarnation, ..
        } = &initiator.own;
        let start = Start {
            txn,
            initiator: initiator.shard(),
            incarnation: *incarnation,
            parts,
        };
        let others = Others {
            manager: site.manager(initiator.shard()),
            peers: start.stayers(&site.options),
        };
        (others, Arc::new(start))
    }

    fn coordinator(vote: &Vote) -> Addr {
        vote.own.manager
    }

    fn members(vote: &Vote) -> BTreeSet<ShardId> {
        { vote.origin.as_ref() }.map_or_else(BTreeSet::new, |origin| origin.start.shards())
    }

    fn on_voting(this: &mut Participant, vote: &Arc<Vote>, out: &mut Out) {
        if zoo::planted(Bug::VoteNotForced) && vote.origin.is_none() {
            this.send_vote(vote, out);
        }
    }

    fn on_doubt(this: &mut Participant, txn: TxnId, out: &mut Out) {
        this.limit_doubt(txn, out);
    }

    /// To the manager, which answers; if nothing comes back, the participant asks.
    fn cast(this: &mut Participant, vote: &Arc<Vote>, out: &mut Out) {
        if zoo::planted(Bug::AckAtVote)
            && let Some(origin) = &vote.origin
        {
            this.reply_committed(vote.txn, origin.client, origin.reads.clone(), out);
        }
        this.send_vote(vote, out);
        let inquiry = this.own.site.options.inquiry_ms.about();
        out.set_timer(Timer::Inquire(vote.txn), inquiry);
    }

    fn on_message(
        this: &mut Participant,
        now: WallTime,
        from: Addr,
        message: Message,
        out: &mut Out,
    ) {
        match message {
            Message::Client(message) => this.on_client(now, from, message, out),
            Message::Execution(message) => this.on_execution(now, from, message, out),
            Message::Prepare(request) => this.on_prepare(from, &request, out),
            Message::Commit { txn } => this.on_commit(from, txn, out),
            Message::Abort { txn, why } => this.on_abort(txn, why, out),
            Message::PeerInquiry { txn } => this.on_peer_inquiry(from, txn, out),
            Message::PeerAnswer { txn, commit } => this.on_peer_answer(txn, commit, out),
            Message::Hello { incarnation } => {
                this.own.incarnation = this.own.incarnation.max(incarnation);
            }
            Message::Restarted { shard, boot } => this.on_restarted(from, shard, boot, out),
            Message::Start(_)
            | Message::Prepared { .. }
            | Message::Read { .. }
            | Message::No { .. }
            | Message::Ack { .. }
            | Message::Inquiry { .. } => unreachable!("{message:?} is for a manager"),
        }
    }

    fn on_timer(this: &mut Participant, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Execution(timer) => this.on_execution_timer(timer, out),
            Timer::Inquire(_) if zoo::planted(Bug::NeverInquires) => {}
            Timer::Inquire(txn) => this.inquire(txn, out),
            Timer::Heuristic(txn) => this.decide_alone(txn, out),
            Timer::Client(_) | Timer::Resend(_) | Timer::VoteTimeout(_) => {}
        }
    }

    // What was decided alone.

    fn on_forget(&mut self, txn: TxnId, out: &mut Out) {
        out.cancel_timer(Timer::Heuristic(txn));
    }

    fn is_over(&self, txn: TxnId) -> bool {
        self.alone.contains_key(&txn)
    }

    fn on_repeated(this: &mut Participant, txn: TxnId, client: Addr, out: &mut Out) -> Repeated {
        if this.own.mixed.contains(&txn) {
            this.reply_mixed(txn, client, out);
            return Repeated::Settled;
        }
        if this.own.alone.contains_key(&txn) {
            return Repeated::Settled; // The answer will come.
        }
        Repeated::NotMine
    }

    fn on_recovered(this: &mut Participant, out: &mut Out) {
        this.recall_alone(out);
        if zoo::planted(Bug::InDoubtAbortsAtRestart) {
            for txn in this.voted().collect::<Vec<_>>() {
                this.on_abort(txn, AbortReason::Presumed, out);
            }
        }
    }

    fn replay(this: &mut Participant, record: heuristic::Record) {
        this.replay_alone(record);
    }

    fn checkpoint(&self) -> heuristic::Kept {
        heuristic::Kept {
            alone: self.alone.values().map(Alone::kept).collect(),
            mixed: self.mixed.clone(),
        }
    }

    fn restore(&mut self, kept: heuristic::Kept) {
        self.mixed = kept.mixed;
        for (vote, commit) in kept.alone {
            self.keep_decided_alone(vote, commit);
        }
    }

    fn on_durable(this: &mut Participant, next: heuristic::Continuation, out: &mut Out) {
        match next {
            heuristic::Continuation::Decided(txn) => this.decided_alone(txn, out),
            heuristic::Continuation::Learned { txn, decision } => this.learned(txn, decision, out),
        }
    }

    fn on_lost(this: &mut Participant, next: heuristic::Continuation, _: &mut Out) {
        match next {
            heuristic::Continuation::Decided(txn) => this.force_decided_alone(txn),
            heuristic::Continuation::Learned { txn, decision } => this.force_learned(txn, decision),
        }
    }
}

impl Participant {
    // Phase one.

    fn on_prepare(&mut self, manager: Addr, request: &PrepareRequest, out: &mut Out) {
        let (txn, shard, peers) = (request.txn, self.shard(), &request.peers);
        if !peers.contains(&shard) {
            let vote = if self.leave(txn, &request.part, out) {
                Message::Read { txn, shard }
            } else {
                Message::No { txn, shard }
            };
            return out.send(manager, vote);
        }
        if self.in_doubt(txn).is_some() || self.own.alone.contains_key(&txn) {
            return out.send(manager, Message::Prepared { txn, shard });
        }
        let peers = peers.clone();
        self.prepare(manager, txn, &request.part, Others { manager, peers }, out);
    }

    /// Sends the yes vote to the manager. The initiator's says all that the manager needs to begin.
    fn send_vote(&self, vote: &Vote, out: &mut Out) {
        let (txn, shard) = (vote.txn, self.shard());
        let message = match &vote.origin {
            Some(origin) => Message::Start(Arc::clone(&origin.start)),
            None => Message::Prepared { txn, shard },
        };
        out.send(vote.own.manager, message);
    }

    // Phase two.

    /// In doubt for a while: ask. The initiator repeats its vote, should the first one have been lost.
    fn inquire(&mut self, txn: TxnId, out: &mut Out) {
        if self.own.deciding.contains_key(&txn) {
            return;
        }
        let alone = || {
            self.own
                .alone
                .get(&txn)
                .map(|alone| Arc::clone(&alone.vote))
        };
        let Some(vote) = self.in_doubt(txn).or_else(alone) else {
            return;
        };
        if zoo::planted(Bug::InDoubtTimesOut) {
            return self.on_abort(txn, AbortReason::Timeout, out);
        }
        out.observe(Observation::Mark("2pc.in-doubt"));
        let site = Arc::clone(&self.own.site);
        match &vote.origin {
            Some(_) => self.send_vote(&vote, out),
            None => out.send(vote.own.manager, Message::Inquiry { txn }),
        }
        if site.options.cooperative_termination {
            for peer in { vote.own.peers.iter() }.filter(|peer| **peer != self.shard()) {
                out.send(site.participant(*peer), Message::PeerInquiry { txn });
            }
        }
        out.set_timer(Timer::Inquire(txn), site.options.inquiry_ms.about());
    }

    /// Cooperative termination: who has not voted yet aborts, and can say so because it will vote no.
    fn on_peer_inquiry(&mut self, from: Addr, txn: TxnId, out: &mut Out) {
        if self.own.alone.contains_key(&txn) || self.own.deciding.contains_key(&txn) {
            return;
        }
        let commit = match self.phase(txn) {
            Some(Phase::Prepared(_)) if zoo::planted(Bug::PeerInDoubtAnswersAbort) => false,
            Some(Phase::Prepared(_) | Phase::Preparing { .. }) => return,
            Some(Phase::Committing { .. }) => true,
            None if self.grant(txn).is_some() => {
                if !zoo::planted(Bug::WorkingPeerKeepsItsVote) {
                    self.forget(txn, out);
                }
                false
            }
            None => self.has_committed(txn),
        };
        out.send(from, Message::PeerAnswer { txn, commit });
    }

    fn on_peer_answer(&mut self, txn: TxnId, commit: bool, out: &mut Out) {
        out.observe(Observation::Mark("2pc.peer-knew"));
        if commit {
            let manager = self.own.site.manager(self.shard());
            self.on_commit(manager, txn, out);
        } else {
            self.on_abort(txn, AbortReason::Presumed, out);
        }
    }

    fn on_commit(&mut self, from: Addr, txn: TxnId, out: &mut Out) {
        let decision: Decision = (true, AbortReason::Presumed);
        if self.learn_late(txn, decision, out) {
            return;
        }
        // A peer may have told it; the manager waits for the acknowledgement.
        let manager = { self.phase(txn) }.map_or(from, |phase| phase.any_vote().own.manager);
        self.commit(manager, txn, out);
    }

    pub(super) fn on_abort(&mut self, txn: TxnId, why: AbortReason, out: &mut Out) {
        if !self.learn_late(txn, (false, why), out) {
            self.abort(txn, why, out);
        }
    }
}
