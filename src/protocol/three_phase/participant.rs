//! A participant: votes, enters PreCommit, and acts on the decision. The initiator's begins the commit phase.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::silence::Silence;
use super::termination::Leading;
use super::{COORDINATOR, Group, Message, Out, Rank, Site, Start, Timer};
use crate::base::observation::{AbortReason, Observation};
use crate::base::process::{Addr, WallTime};
use crate::base::txn::{ShardId, TxnId};
use crate::base::zoo::{self, Bug};
use crate::protocol::kit::execution::Part;
use crate::protocol::kit::participant::{
    self, Commitment, Marks, Phase, Repeated, Setting, participant_marks,
};

/// A data machine.
pub type Participant = participant::Participant<Member>;

pub(super) type Vote = participant::Vote<Member>;

/// What a participant keeps in memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Member {
    pub(super) site: Arc<Site>,
    /// What is in doubt here.
    pub(super) doubts: BTreeMap<TxnId, Doubt>,
    /// The incarnations of coordinators, where they have restarted.
    incarnations: BTreeMap<Addr, u64>,
    /// Coordinators that left this initiator in doubt: it begins with others for a while.
    pub(super) suspects: BTreeSet<Addr>,
}

/// A transaction in doubt: how far it has come between the vote and the decision.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Doubt {
    /// The latest coordinator that this participant has answered: its own rank once it was elected.
    pub follows: Rank,
    /// Whose PreCommit is on the disk, if one is.
    pub precommitted: Option<Rank>,
    /// Whose PreCommit is on its way to the disk.
    pub(super) entering: Option<Rank>,
    /// Whether this participant has crashed since it voted. Then it may have missed anything.
    pub fallen: bool,
    /// Who is taken for crashed.
    pub(super) silence: Silence,
    /// Whether it has told the others to enter PreCommit, as an elected coordinator.
    pub told: bool,
    /// What it does as an elected coordinator.
    pub(super) leading: Option<Leading>,
    /// Whom it tells of the commit that it has decided, once that is on its disk.
    pub(super) tells: Vec<Addr>,
    /// What participants that have crashed, too, hold on their disks: whether they are pre-committed.
    pub(super) recovered: BTreeMap<ShardId, bool>,
}

impl Doubt {
    /// Whether its decision to abort is on its way to the disk. Nothing that others say changes it any more.
    pub(super) fn is_aborting(&self) -> bool {
        matches!(self.leading, Some(Leading::Aborting))
    }
}

/// What the log holds between a vote and the decision.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Record {
    /// All have voted yes. Forced before it is acknowledged.
    PreCommitted {
        /// The transaction.
        txn: TxnId,
        /// Who has said so.
        by: Rank,
    },
    /// The decision of an elected coordinator to abort. Forced before anybody hears of it: where all crash, the
    /// participants' records decide.
    Aborted(TxnId),
}

/// What follows these records.
pub type Continuation = Record;

pub(super) fn participant(site: Arc<Site>, shard: ShardId) -> Participant {
    let checkpoint_min_bytes = site.options.checkpoint_min_bytes();
    let member = Member {
        site,
        doubts: BTreeMap::new(),
        incarnations: BTreeMap::new(),
        suspects: BTreeSet::new(),
    };
    Participant::new(shard, checkpoint_min_bytes, member)
}

impl Commitment for Member {
    type Message = Message;
    type Timer = Timer;
    type Vote = Arc<Group>;
    type Start = Arc<Start>;
    type Record = Record;
    /// Who has entered PreCommit of what, and by whose word.
    type Checkpoint = BTreeMap<TxnId, Rank>;
    type Continuation = Continuation;

    const MARKS: Marks = participant_marks!("3pc");

    fn setting(&self) -> Setting<'_> {
        Setting {
            layout: &self.site.layout,
            execution: &self.site.execution,
            one_participant: false,
        }
    }

    fn no(txn: TxnId, shard: ShardId) -> Message {
        Message::No { txn, shard }
    }

    fn ack(txn: TxnId, shard: ShardId) -> Message {
        Message::Ack { txn, shard }
    }

    fn announce(&self, shard: ShardId, boot: u64, out: &mut Out) {
        let restarted = || Message::Restarted { shard, boot };
        out.send(self.site.coordinator(shard), restarted());
        if self.site.options.announce_restarts {
            for other in { self.site.layout.shard_ids() }.filter(|other| *other != shard) {
                out.send(self.site.participant(other), restarted());
            }
        }
    }

    fn inquiry(txn: TxnId) -> Timer {
        Timer::Inquire(txn)
    }

    fn begin(initiator: &Participant, txn: TxnId, parts: Vec<Part>) -> (Arc<Group>, Arc<Start>) {
        let Member {
            site,
            incarnations,
            suspects,
            ..
        } = &initiator.own;
        let coordinator = site.trusted(initiator.shard(), suspects);
        let group = Arc::new(Group {
            txn,
            members: parts.iter().map(|part| part.shard).collect(),
            coordinator,
            incarnation: incarnations.get(&coordinator).copied().unwrap_or(1),
        });
        let start = Start {
            group: Arc::clone(&group),
            initiator: initiator.shard(),
            parts,
        };
        (group, Arc::new(start))
    }

    fn coordinator(vote: &Vote) -> Addr {
        vote.own.coordinator
    }

    fn members(vote: &Vote) -> BTreeSet<ShardId> {
        vote.own.members.clone()
    }

    fn on_voting(this: &mut Participant, vote: &Arc<Vote>, out: &mut Out) {
        if zoo::planted(Bug::ThreePhaseVoteNotForced) {
            this.say_yes(vote, out);
        }
    }

    fn on_doubt(this: &mut Participant, txn: TxnId, _: &mut Out) {
        this.own.doubts.entry(txn).or_default();
    }

    fn cast(this: &mut Participant, vote: &Arc<Vote>, out: &mut Out) {
        if zoo::planted(Bug::ThreePhaseAckAtVote)
            && let Some(origin) = &vote.origin
        {
            this.reply_committed(vote.txn, origin.client, origin.reads.clone(), out);
        }
        this.say_yes(vote, out);
        this.arm(vote.txn, out);
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
            Message::Prepare { group, part } => this.prepare(from, group.txn, &part, group, out),
            Message::PreCommit { txn, by } => this.on_pre_commit(from, txn, by, out),
            Message::Commit { txn } => this.on_commit(from, txn, out),
            Message::Abort { txn, why } => this.on_abort(from, txn, why, out),
            Message::Inquiry { txn, .. } => this.on_inquiry(from, txn, out),
            Message::Waiting { txn } => this.heard(from, txn),
            Message::Left { txn, incarnation } => this.on_left(from, txn, incarnation, out),
            Message::Recovered {
                txn,
                shard,
                precommitted,
                ..
            } => this.on_recovered(from, txn, shard, precommitted, out),
            Message::Ask { txn, by } => this.on_ask(from, txn, by, out),
            Message::State {
                txn,
                shard,
                committable,
            } => this.on_state(from, txn, shard, committable, out),
            Message::PreCommitted { txn, shard, by } => {
                this.on_pre_committed(from, txn, shard, by, out)
            }
            Message::Hello { incarnation } => this.on_hello(from, incarnation),
            Message::Restarted { shard, boot } => this.on_restarted(from, shard, boot, out),
            Message::BeginCommit(_)
            | Message::Prepared { .. }
            | Message::No { .. }
            | Message::Ack { .. } => {}
        }
    }

    fn on_timer(this: &mut Participant, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Execution(timer) => this.on_execution_timer(timer, out),
            Timer::Inquire(txn) => this.inquire(txn, out),
            Timer::Trust(coordinator) => {
                this.own.suspects.remove(&coordinator);
            }
            Timer::Client(_) | Timer::Resend(_) | Timer::VoteTimeout(_) => {}
        }
    }

    /// An end is durable.
    fn on_forget(&mut self, txn: TxnId, out: &mut Out) {
        let tells = self.doubts.remove(&txn).map(|doubt| doubt.tells);
        for addr in tells.unwrap_or_default() {
            out.send(addr, Message::Commit { txn });
        }
    }

    /// The commit may be durable, and the crash have come before it was said that the transaction has ended.
    fn on_repeated(this: &mut Participant, txn: TxnId, _: Addr, out: &mut Out) -> Repeated {
        if this.has_committed(txn) {
            let commit = true;
            out.observe(Observation::Ended { txn, commit });
        }
        Repeated::NotMine
    }

    fn on_recovered(this: &mut Participant, _: &mut Out) {
        // What has ended by now was in doubt while the log was read.
        let ended = { this.own.doubts.keys().copied() }.filter(|txn| this.in_doubt(*txn).is_none());
        for txn in ended.collect::<Vec<_>>() {
            this.own.doubts.remove(&txn);
        }
        for doubt in this.own.doubts.values_mut() {
            doubt.fallen = !zoo::planted(Bug::ThreePhaseRestartedLeads);
        }
    }

    fn replay(this: &mut Participant, record: Record) {
        match record {
            Record::PreCommitted { txn, by } => {
                this.own.doubts.entry(txn).or_default().precommitted = Some(by);
            }
            Record::Aborted(txn) => {
                if this.in_doubt(txn).is_some() {
                    this.replay_end(txn, false);
                }
                this.remember(txn, false);
            }
        }
    }

    fn checkpoint(&self) -> BTreeMap<TxnId, Rank> {
        let doubts = self.doubts.iter();
        doubts
            .filter_map(|(txn, doubt)| Some((*txn, doubt.precommitted?)))
            .collect()
    }

    fn restore(&mut self, precommitted: BTreeMap<TxnId, Rank>) {
        for (txn, by) in precommitted {
            self.doubts.entry(txn).or_default().precommitted = Some(by);
        }
    }

    fn on_durable(this: &mut Participant, next: Continuation, out: &mut Out) {
        match next {
            Record::PreCommitted { txn, by } => this.pre_commit_durable(txn, by, out),
            Record::Aborted(txn) => this.abort_durable(txn, out),
        }
    }

    fn on_lost(this: &mut Participant, next: Continuation, _: &mut Out) {
        let (Record::PreCommitted { txn, .. } | Record::Aborted(txn)) = next;
        if this.in_doubt(txn).is_some() {
            this.force(next, next);
        }
    }
}

/// What the rest of this protocol looks at.
impl Participant {
    /// What is known of a transaction in doubt.
    pub fn doubt(&self, txn: TxnId) -> Option<&Doubt> {
        self.own.doubts.get(&txn)
    }

    /// The group of a transaction that this participant votes, or has voted, yes for.
    pub fn group(&self, txn: TxnId) -> Option<&Arc<Group>> {
        self.phase(txn).map(|phase| &phase.any_vote().own)
    }

    /// Whom it takes for crashed, in this transaction.
    pub fn suspects(&self, txn: TxnId) -> Vec<Rank> {
        let (Some(group), Some(doubt)) = (self.group(txn), self.doubt(txn)) else {
            return Vec::new();
        };
        let rounds = self.rounds();
        let ranks = [COORDINATOR].into_iter();
        let ranks = ranks.chain(group.ranked().map(|(rank, _)| rank));
        ranks
            .filter(|rank| doubt.silence.suspects(*rank, rounds))
            .collect()
    }

    /// Whether each participant decides by its own timeout.
    pub fn decides_alone(&self) -> bool {
        self.own.site.options.termination == super::Termination::OwnTimeout
    }

    pub(super) fn rounds(&self) -> u64 {
        let options = &self.own.site.options;
        options.rounds(options.inquiry_ms)
    }

    pub(super) fn arm(&self, txn: TxnId, out: &mut Out) {
        let inquiry = self.own.site.options.inquiry_ms.about();
        out.set_timer(Timer::Inquire(txn), inquiry);
    }

    /// The vote, and a transaction in doubt here.
    pub(super) fn doubtful(&mut self, txn: TxnId) -> Option<(Arc<Vote>, &mut Doubt)> {
        let vote = self.in_doubt(txn)?;
        Some((vote, self.own.doubts.get_mut(&txn)?))
    }

    /// Somebody is up.
    pub(super) fn heard(&mut self, from: Addr, txn: TxnId) {
        let site = Arc::clone(&self.own.site);
        if let Some((vote, doubt)) = self.doubtful(txn)
            && let Some(rank) = vote.own.rank_of(&site, from)
        {
            doubt.silence.heard(rank);
        }
    }

    // Phase 1.

    fn say_yes(&self, vote: &Vote, out: &mut Out) {
        let (txn, shard) = (vote.txn, self.shard());
        let message = match &vote.origin {
            Some(origin) => Message::BeginCommit(Arc::clone(&origin.start)),
            None => Message::Prepared { txn, shard },
        };
        out.send(vote.own.coordinator, message);
    }

    pub(super) fn on_hello(&mut self, coordinator: Addr, incarnation: u64) {
        let known = self.own.incarnations.entry(coordinator).or_insert(1);
        *known = incarnation.max(*known);
    }

    // Phase 2.

    /// It obeys the coordinator, or who was elected in its place, but nobody who came before one that it has answered.
    fn on_pre_commit(&mut self, from: Addr, txn: TxnId, by: Rank, out: &mut Out) {
        self.heard(from, txn);
        let Some((_, doubt)) = self.doubtful(txn) else {
            return self.tell(from, txn, out);
        };
        let obeys = doubt.follows <= by || zoo::planted(Bug::ThreePhaseObeysReplaced);
        if doubt.fallen {
            self.tell_record(from, txn, out);
        } else if !obeys || doubt.is_aborting() {
            out.send(from, Message::Waiting { txn });
        } else if doubt.precommitted.is_some() {
            doubt.follows = by.max(doubt.follows);
            self.acknowledge(txn, by, out);
        } else if doubt.entering.is_some() {
            doubt.entering = doubt.entering.max(Some(by));
            out.send(from, Message::Waiting { txn });
        } else {
            self.enter(txn, by, out);
        }
    }

    /// Forces PreCommit.
    pub(super) fn enter(&mut self, txn: TxnId, by: Rank, out: &mut Out) {
        let record = Record::PreCommitted { txn, by };
        self.force(record, record);
        if zoo::planted(Bug::ThreePhasePreCommitNotForced) && by == COORDINATOR {
            self.acknowledge(txn, by, out);
        }
        if let Some((_, doubt)) = self.doubtful(txn) {
            doubt.entering = Some(by);
        }
    }

    fn pre_commit_durable(&mut self, txn: TxnId, by: Rank, out: &mut Out) {
        let shard = self.shard();
        let Some((vote, doubt)) = self.doubtful(txn) else {
            return;
        };
        let by = doubt.entering.take().unwrap_or(by);
        doubt.precommitted = Some(by);
        out.observe(Observation::Mark("3pc.pre-committed"));
        if by == vote.own.rank(shard) {
            return self.lead_on(txn, out);
        }
        doubt.follows = by.max(doubt.follows);
        self.acknowledge(txn, by, out);
    }

    pub(super) fn acknowledge(&self, txn: TxnId, by: Rank, out: &mut Out) {
        let shard = self.shard();
        if let Some(group) = self.group(txn) {
            let to = group.addr(&self.own.site, by);
            out.send(to, Message::PreCommitted { txn, shard, by });
        }
    }

    // Phase 3.

    /// The decision is commit. The initiator's word to the client is the last thing that is owed: whoever is in doubt asks.
    pub(super) fn on_commit(&mut self, from: Addr, txn: TxnId, out: &mut Out) {
        self.heard(from, txn);
        if self.own.doubts.get(&txn).is_some_and(Doubt::is_aborting) {
            return;
        }
        match self.phase(txn) {
            Some(Phase::Prepared(vote)) => {
                if vote.origin.is_some() {
                    let commit = true;
                    out.observe(Observation::Ended { txn, commit });
                }
                self.commit(from, txn, out);
            }
            Some(Phase::Committing { .. }) => self.commit(from, txn, out),
            Some(Phase::Preparing { .. }) => {}
            None if self.has_committed(txn) => self.commit(from, txn, out),
            // Only where somebody was suspected falsely.
            None => {
                out.observe(Observation::Mark("3pc.split"));
                self.tell(from, txn, out);
            }
        }
    }

    fn on_abort(&mut self, from: Addr, txn: TxnId, why: AbortReason, out: &mut Out) {
        self.heard(from, txn);
        if self.own.doubts.get(&txn).is_some_and(Doubt::is_aborting) {
            return;
        }
        let commits = matches!(self.phase(txn), Some(Phase::Committing { .. }));
        if commits || self.has_committed(txn) {
            return out.observe(Observation::Mark("3pc.split"));
        }
        self.abort(txn, why, out);
    }

    /// Tells somebody who asks how it has ended here. One that has not voted yes votes no instead: it never will.
    pub(super) fn tell(&mut self, to: Addr, txn: TxnId, out: &mut Out) {
        let message = match self.phase(txn) {
            // Its records are on their way to the disk.
            Some(Phase::Preparing { .. } | Phase::Committing { .. }) => Message::Waiting { txn },
            Some(Phase::Prepared(_)) => unreachable!("{txn} is in doubt"),
            None if self.has_committed(txn) => Message::Commit { txn },
            None => {
                let why = AbortReason::Presumed;
                if self.grant(txn).is_some() {
                    out.observe(Observation::Mark("3pc.gave-up-vote"));
                }
                self.abort(txn, why, out);
                Message::Abort { txn, why }
            }
        };
        out.send(to, message);
    }
}
