//! The coordinator: collects votes, brings everybody to PreCommit, and commits (Skeen 1981, figure 3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::silence::Silence;
use super::{COORDINATOR, Group, Message, Out, Rank, Site, Start, Timer};
use crate::base::observation::{AbortReason, Observation};
use crate::base::process::{Addr, FileId, Input, Process, WallTime};
use crate::base::txn::{ShardId, TxnId};
use crate::base::zoo::{self, Bug};
use crate::protocol::Autopsy;
use crate::protocol::kit::durable::{self, Durable, Incarnation};
use crate::protocol::kit::journal::Journal;
use crate::protocol::kit::votes::{Tally, Votes};

const LOG: FileId = FileId(0);

/// What the log holds: how often the coordinator has booted, and nothing of any transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Record {
    /// A new incarnation. Forced before it does anything.
    Boot,
    /// Everything before this record.
    Checkpoint {
        /// How often it has booted.
        incarnation: u64,
    },
}

/// What follows a forced record: the coordinator serves.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Booted;

/// A transaction in the coordinator's hands.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Open {
    group: Arc<Group>,
    phase: Phase,
    silence: Silence,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// Phase 1: votes are missing.
    Collecting {
        start: Arc<Start>,
        votes: Votes<ShardId>,
    },
    /// Phase 2: these have acknowledged PreCommit.
    PreCommitting { acks: BTreeSet<ShardId> },
    /// Phase 3: the decision is commit. These have not said that they are done.
    Telling { missing: BTreeSet<ShardId> },
}

/// Where a transaction stands at its coordinator, seen from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoordinatorView {
    /// Nothing is known of it.
    Unknown,
    /// Votes are missing.
    Waiting,
    /// Acks are missing.
    PreCommitting,
    /// It has committed.
    Committed,
    /// It has aborted.
    Aborted,
    /// It has left it to the participants, none of which could acknowledge.
    Left,
}

/// A coordinator.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Coordinator {
    site: Arc<Site>,
    journal: Journal<Record, Booted>,
    incarnation: Incarnation<Message>,
    open: BTreeMap<TxnId, Open>,
    /// What this incarnation has decided: why, if it was abort.
    decisions: BTreeMap<TxnId, Option<AbortReason>>,
    /// What it has left to the participants.
    left: BTreeSet<TxnId>,
}

impl Process for Coordinator {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        durable::step(self, now, input, out);
    }
}

impl Autopsy for Coordinator {}

impl Durable<Record, Booted> for Coordinator {
    const DAMAGED: &'static str = "a coordinator's log is damaged";

    fn journal(&mut self) -> &mut Journal<Record, Booted> {
        &mut self.journal
    }

    fn checkpoint(&self) -> Record {
        Record::Checkpoint {
            incarnation: self.incarnation.number(),
        }
    }

    fn recover(&mut self, records: Vec<Record>, _: &mut Out) {
        for record in records {
            match record {
                Record::Boot => self.incarnation.replay(),
                Record::Checkpoint { incarnation } => self.incarnation.restore(incarnation),
            }
        }
        self.journal.force(Record::Boot, Booted);
    }

    fn on_message(&mut self, _: WallTime, from: Addr, message: Message, out: &mut Out) {
        if let Some(message) = self.incarnation.admit(from, message) {
            self.receive(from, message, out);
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Resend(txn) => self.resend(txn, out),
            Timer::VoteTimeout(txn) => self.time_out(txn, out),
            _ => {}
        }
    }

    fn on_durable(&mut self, _: WallTime, _: Booted, out: &mut Out) {
        let early = self.incarnation.begin();
        if self.incarnation.number() > 1 {
            self.greet(out);
        }
        for (from, message) in early {
            self.receive(from, message, out);
        }
    }

    fn on_lost(&mut self, _: Booted, _: &mut Out) {
        self.journal.force(Record::Boot, Booted);
    }
}

impl Coordinator {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self {
            journal: Journal::new(LOG, site.options.checkpoint_min_bytes()),
            site,
            incarnation: Incarnation::default(),
            open: BTreeMap::new(),
            decisions: BTreeMap::new(),
            left: BTreeSet::new(),
        }
    }

    /// Where a transaction stands here.
    pub fn view(&self, txn: TxnId) -> CoordinatorView {
        let decision = self.decisions.get(&txn);
        match (self.open.get(&txn).map(|open| &open.phase), decision) {
            (_, Some(None)) => CoordinatorView::Committed,
            (_, Some(Some(_))) => CoordinatorView::Aborted,
            (Some(Phase::Collecting { .. }), None) => CoordinatorView::Waiting,
            (Some(Phase::PreCommitting { .. }), None) => CoordinatorView::PreCommitting,
            (Some(Phase::Telling { .. }), None) => unreachable!("{txn}: told and not decided"),
            (None, None) if self.left.contains(&txn) => CoordinatorView::Left,
            (None, None) => CoordinatorView::Unknown,
        }
    }

    /// How often it has booted, this time included.
    pub fn incarnation(&self) -> u64 {
        self.incarnation.number() + u64::from(!self.incarnation.is_durable())
    }

    /// Whom it takes for crashed, in this transaction.
    pub fn suspects(&self, txn: TxnId) -> Vec<Rank> {
        let rounds = self.rounds();
        let open = self.open.get(&txn);
        let suspected = open.into_iter().flat_map(|open| {
            let ranks = open.group.ranked().map(|(rank, _)| rank);
            ranks.filter(|rank| open.silence.suspects(*rank, rounds))
        });
        suspected.collect()
    }

    fn rounds(&self) -> u64 {
        self.site.options.rounds(self.site.options.resend_ms)
    }

    /// Whoever initiates with this coordinator must know its incarnation.
    fn greet(&self, out: &mut Out) {
        for shard in self.site.layout.shard_ids() {
            self.greet_one(shard, out);
        }
    }

    fn greet_one(&self, shard: ShardId, out: &mut Out) {
        let incarnation = self.incarnation.number();
        out.send(self.site.participant(shard), Message::Hello { incarnation });
    }

    fn receive(&mut self, from: Addr, message: Message, out: &mut Out) {
        match message {
            Message::BeginCommit(start) => self.on_begin_commit(from, start, out),
            Message::Prepared { txn, shard } => self.on_prepared(txn, shard, out),
            Message::No { txn, shard } => self.on_no(txn, shard, out),
            Message::PreCommitted { txn, shard, .. } => self.on_pre_committed(txn, shard, out),
            Message::Ack { txn, shard } => self.on_ack(txn, shard, out),
            Message::Commit { txn } | Message::Abort { txn, .. } => self.on_ended(from, txn, out),
            Message::Inquiry { txn, incarnation } => {
                self.on_inquiry(from, txn, incarnation, out);
            }
            Message::Recovered {
                txn,
                shard,
                incarnation,
                ..
            } => self.on_recovered(from, txn, shard, incarnation, out),
            Message::Restarted { shard, .. } if self.incarnation.number() > 1 => {
                self.greet_one(shard, out);
            }
            _ => {}
        }
    }

    fn send_members(&self, group: &Group, out: &mut Out, message: impl Fn() -> Message) {
        for shard in &group.members {
            out.send(self.site.participant(*shard), message());
        }
    }

    // Phase 1.

    fn on_begin_commit(&mut self, from: Addr, start: Arc<Start>, out: &mut Out) {
        let group = Arc::clone(&start.group);
        let txn = group.txn;
        let is_known = self.open.contains_key(&txn) || self.decisions.contains_key(&txn);
        if is_known || self.left.contains(&txn) || group.incarnation != self.incarnation.number() {
            return self.on_inquiry(from, txn, group.incarnation, out);
        }
        let others = { group.members.iter().copied() }.filter(|shard| *shard != start.initiator);
        let votes = Votes::of_all(others);
        let open = Open {
            group,
            phase: Phase::Collecting { start, votes },
            silence: Silence::default(),
        };
        self.open.insert(txn, open);
        let vote_timeout = self.site.options.vote_timeout_ms.exactly();
        out.set_timer(Timer::VoteTimeout(txn), vote_timeout);
        self.ask(txn, out);
        self.pre_commit_if_unanimous(txn, out);
    }

    fn on_prepared(&mut self, txn: TxnId, shard: ShardId, out: &mut Out) {
        if let Some(open) = self.open.get_mut(&txn)
            && let Phase::Collecting { votes, .. } = &mut open.phase
        {
            votes.record(shard, true);
            self.pre_commit_if_unanimous(txn, out);
        }
    }

    fn on_no(&mut self, txn: TxnId, shard: ShardId, out: &mut Out) {
        if let Some(open) = self.open.get_mut(&txn)
            && let Phase::Collecting { votes, .. } = &mut open.phase
            && votes.record(shard, false) == Tally::Refused
        {
            self.abort(txn, AbortReason::VotedNo, out);
        }
    }

    fn time_out(&mut self, txn: TxnId, out: &mut Out) {
        let phase = self.open.get(&txn).map(|open| &open.phase);
        if let Some(Phase::Collecting { .. }) = phase {
            out.observe(Observation::Mark("3pc.vote-timeout"));
            self.abort(txn, AbortReason::Timeout, out);
        }
    }

    /// Nobody is pre-committed: nobody has to hear of it from this coordinator.
    fn abort(&mut self, txn: TxnId, why: AbortReason, out: &mut Out) {
        let open = { self.open.remove(&txn) }.expect("it collects votes");
        out.cancel_timer(Timer::VoteTimeout(txn));
        out.cancel_timer(Timer::Resend(txn));
        self.decisions.insert(txn, Some(why));
        let commit = false;
        out.observe(Observation::Decided { txn, commit });
        self.send_members(&open.group, out, || Message::Abort { txn, why });
        out.observe(Observation::Ended { txn, commit });
    }

    // Phase 2.

    fn pre_commit_if_unanimous(&mut self, txn: TxnId, out: &mut Out) {
        let Some(open) = self.open.get_mut(&txn) else {
            return;
        };
        let Phase::Collecting { votes, .. } = &open.phase else {
            return;
        };
        if votes.tally() == Tally::Accepted {
            let acks = BTreeSet::new();
            open.phase = Phase::PreCommitting { acks };
            out.cancel_timer(Timer::VoteTimeout(txn));
            self.ask(txn, out);
            if zoo::planted(Bug::ThreePhaseCommitUnacked) {
                self.commit(txn, out);
            }
        }
    }

    fn on_pre_committed(&mut self, txn: TxnId, shard: ShardId, out: &mut Out) {
        if let Some(open) = self.open.get_mut(&txn)
            && let Phase::PreCommitting { acks } = &mut open.phase
        {
            acks.insert(shard);
            open.silence.heard(open.group.rank(shard));
            self.commit_if_acknowledged(txn, out);
        }
    }

    /// Every participant holds PreCommit on its disk, or has crashed; and one does. Where none does, those that crashed will
    /// decide when they are back.
    fn commit_if_acknowledged(&mut self, txn: TxnId, out: &mut Out) {
        let rounds = self.rounds();
        let Some(open) = self.open.get(&txn) else {
            return;
        };
        let Phase::PreCommitting { acks } = &open.phase else {
            return;
        };
        let settled = |(rank, shard): (Rank, ShardId)| {
            acks.contains(&shard) || open.silence.suspects(rank, rounds)
        };
        if !{ open.group.ranked() }.all(settled) {
            return;
        }
        if acks.is_empty() {
            self.open.remove(&txn);
            self.left.insert(txn);
            return out.cancel_timer(Timer::Resend(txn));
        }
        if acks.len() < open.group.members.len() {
            out.observe(Observation::Mark("3pc.committed-without-all"));
        }
        self.commit(txn, out);
    }

    // Phase 3.

    fn commit(&mut self, txn: TxnId, out: &mut Out) {
        let open = { self.open.get_mut(&txn) }.expect("it awaits acks");
        let missing = open.group.members.clone();
        open.phase = Phase::Telling { missing };
        self.decisions.insert(txn, None);
        let commit = true;
        out.observe(Observation::Decided { txn, commit });
        self.ask(txn, out);
    }

    fn on_ack(&mut self, txn: TxnId, shard: ShardId, out: &mut Out) {
        let Some(open) = self.open.get_mut(&txn) else {
            return;
        };
        match &mut open.phase {
            Phase::Telling { missing } => {
                missing.remove(&shard);
                self.end_if_told(txn, out);
            }
            Phase::PreCommitting { .. } | Phase::Collecting { .. } => {
                let rank = open.group.rank(shard);
                self.lose(txn, rank, out);
            }
        }
    }

    /// Everybody has committed, or will ask when it is back.
    fn end_if_told(&mut self, txn: TxnId, out: &mut Out) {
        let rounds = self.rounds();
        let Some(open) = self.open.get(&txn) else {
            return;
        };
        let Phase::Telling { missing } = &open.phase else {
            return;
        };
        let mut missing = missing.iter().map(|shard| open.group.rank(*shard));
        if missing.all(|rank| open.silence.suspects(rank, rounds)) {
            self.open.remove(&txn);
            out.cancel_timer(Timer::Resend(txn));
            let commit = true;
            out.observe(Observation::Ended { txn, commit });
        }
    }

    // Silence.

    /// Somebody obeys another coordinator, and has ended without this one: nothing more is to be expected from it.
    fn on_ended(&mut self, from: Addr, txn: TxnId, out: &mut Out) {
        let rank = { self.open.get(&txn) }.and_then(|open| open.group.rank_of(&self.site, from));
        if let Some(rank) = rank {
            self.lose(txn, rank, out);
        }
    }

    /// A participant has crashed.
    fn lose(&mut self, txn: TxnId, rank: Rank, out: &mut Out) {
        if let Some(open) = self.open.get_mut(&txn) {
            open.silence.lost(rank);
            self.commit_if_acknowledged(txn, out);
        }
    }

    fn on_recovered(
        &mut self,
        from: Addr,
        txn: TxnId,
        shard: ShardId,
        incarnation: u64,
        out: &mut Out,
    ) {
        if let Some(open) = self.open.get(&txn)
            && !self.decisions.contains_key(&txn)
        {
            let rank = open.group.rank(shard);
            return self.lose(txn, rank, out);
        }
        self.on_inquiry(from, txn, incarnation, out);
    }

    fn on_inquiry(&mut self, from: Addr, txn: TxnId, incarnation: u64, out: &mut Out) {
        let now = self.incarnation.number();
        let answer = match self.decisions.get(&txn) {
            Some(None) => Message::Commit { txn },
            Some(Some(why)) => Message::Abort { txn, why: *why },
            None if self.left.contains(&txn) || incarnation < now => {
                out.observe(Observation::Mark("3pc.coordinator-left"));
                let incarnation = now;
                Message::Left { txn, incarnation }
            }
            None => Message::Waiting { txn },
        };
        if let Some(open) = self.open.get_mut(&txn)
            && let Some(rank) = open.group.rank_of(&self.site, from)
        {
            open.silence.heard(rank);
        }
        out.send(from, answer);
    }

    /// Acts on the silence so far, and asks again.
    fn resend(&mut self, txn: TxnId, out: &mut Out) {
        self.end_if_told(txn, out);
        self.commit_if_acknowledged(txn, out);
        self.ask(txn, out);
    }

    /// Asks whoever has not answered.
    fn ask(&mut self, txn: TxnId, out: &mut Out) {
        let rounds = self.rounds();
        let Some(open) = self.open.get_mut(&txn) else {
            return;
        };
        let group = Arc::clone(&open.group);
        let asked: Vec<(ShardId, Message)> = match &open.phase {
            Phase::Collecting { start, votes } => {
                let parts = start.parts.iter();
                let missing = parts.filter(|part| votes.misses(part.shard));
                let prepare = |part: &super::Part| {
                    let (group, part) = (Arc::clone(&group), Arc::new(part.clone()));
                    (part.shard, Message::Prepare { group, part })
                };
                missing.map(prepare).collect()
            }
            Phase::PreCommitting { acks } => {
                let by = COORDINATOR;
                let missing = group.members.iter().filter(|shard| !acks.contains(shard));
                missing
                    .map(|shard| (*shard, Message::PreCommit { txn, by }))
                    .collect()
            }
            Phase::Telling { missing } => {
                let missing = missing.iter();
                missing
                    .map(|shard| (*shard, Message::Commit { txn }))
                    .collect()
            }
        };
        for (shard, message) in asked {
            let rank = group.rank(shard);
            if !open.silence.suspects(rank, rounds) {
                open.silence.asked(rank, rounds);
                out.send(self.site.participant(shard), message);
            }
        }
        out.set_timer(Timer::Resend(txn), self.site.options.resend_ms.about());
    }
}
