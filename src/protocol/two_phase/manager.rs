//! The transaction manager: collects votes, decides, and tells until everybody has heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Message, Out, Part, PrepareRequest, Site, Start, Timer};
use crate::base::observation::{AbortReason, Observation};
use crate::base::process::{Addr, Delay, FileId, Input, Process, WallTime};
use crate::base::txn::{ShardId, TxnId};
use crate::base::zoo::{self, Bug};
use crate::protocol::Autopsy;
use crate::protocol::kit::durable::{self, Durable, Incarnation};
use crate::protocol::kit::journal::Journal;
use crate::protocol::kit::votes::{Tally, Votes};

const LOG: FileId = FileId(0);

/// What the manager's log holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum Record {
    /// A new incarnation. Forced before it does anything.
    Boot,
    /// The decision to commit. Forced before anybody hears of it.
    Commit {
        txn: TxnId,
        participants: BTreeSet<ShardId>,
    },
    /// Every participant has acknowledged. Lazy.
    End { txn: TxnId },
    /// Everything before this record.
    Checkpoint {
        incarnation: u64,
        unacked: Vec<(TxnId, BTreeSet<ShardId>)>,
        committed: BTreeSet<TxnId>,
    },
}

/// What follows a forced record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Continuation {
    Boot,
    Decided(TxnId),
}

/// A transaction in the manager's hands (Gray and Lamport, section 2).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// Votes are missing.
    Collecting {
        start: Arc<Start>,
        votes: Votes<ShardId>,
    },
    /// All votes are yes; the decision is on its way to the disk.
    Deciding { participants: BTreeSet<ShardId> },
    /// Decided; the participants acknowledge.
    Committed { acks: Votes<ShardId> },
}

/// Where a transaction stands at its manager, seen from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ManagerView {
    /// Nothing is known of it.
    Unknown,
    /// These votes are missing.
    Collecting(BTreeSet<ShardId>),
    /// All votes are yes; the decision is on its way to the disk.
    Deciding,
    /// Committed; these participants have not acknowledged.
    Committed(BTreeSet<ShardId>),
    /// Committed and acknowledged by all.
    Ended,
    /// Aborted, or presumed to be.
    Aborted,
}

/// A transaction manager.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Manager {
    site: Arc<Site>,
    me: Addr,
    journal: Journal<Record, Continuation>,
    incarnation: Incarnation<Message>,
    open: BTreeMap<TxnId, Phase>,
    committed: BTreeSet<TxnId>,
    /// Aborted in this incarnation, by decision or by presumption.
    aborted: BTreeSet<TxnId>,
}

impl Manager {
    pub(super) fn new(site: Arc<Site>, me: Addr) -> Self {
        Self {
            journal: Journal::new(LOG, site.options.checkpoint_min_bytes()),
            site,
            me,
            incarnation: Incarnation::default(),
            open: BTreeMap::new(),
            committed: BTreeSet::new(),
            aborted: BTreeSet::new(),
        }
    }

    /// Where a transaction stands here.
    pub fn view(&self, txn: TxnId) -> ManagerView {
        match self.open.get(&txn) {
            Some(Phase::Collecting { votes, .. }) => {
                ManagerView::Collecting(votes.missing().collect())
            }
            Some(Phase::Deciding { .. }) => ManagerView::Deciding,
            Some(Phase::Committed { acks }) => ManagerView::Committed(acks.missing().collect()),
            None if self.committed.contains(&txn) => ManagerView::Ended,
            None if self.aborted.contains(&txn) => ManagerView::Aborted,
            None => ManagerView::Unknown,
        }
    }

    /// How often it has booted, this time included.
    pub fn incarnation(&self) -> u64 {
        self.incarnation.number() + u64::from(!self.incarnation.is_durable())
    }
}

impl Process for Manager {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        durable::step(self, now, input, out);
    }
}

impl Autopsy for Manager {}

impl Durable<Record, Continuation> for Manager {
    const DAMAGED: &'static str = "the transaction manager's log is damaged";

    fn journal(&mut self) -> &mut Journal<Record, Continuation> {
        &mut self.journal
    }

    fn checkpoint(&self) -> Record {
        let committed = self.open.iter().filter_map(|(txn, phase)| match phase {
            Phase::Committed { acks } => Some((*txn, acks.missing().collect())),
            Phase::Collecting { .. } | Phase::Deciding { .. } => None,
        });
        Record::Checkpoint {
            incarnation: self.incarnation.number(),
            unacked: committed.collect(),
            committed: self.committed.clone(),
        }
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

    fn on_durable(&mut self, _: WallTime, next: Continuation, out: &mut Out) {
        match next {
            Continuation::Boot => self.serve(out),
            Continuation::Decided(txn) => self.decided(txn, out),
        }
    }

    fn on_lost(&mut self, next: Continuation, _: &mut Out) {
        self.force(next);
    }

    /// A commit record says who may not have heard. Everything else is presumed aborted.
    fn recover(&mut self, records: Vec<Record>, out: &mut Out) {
        for record in records {
            self.replay(record);
        }
        for txn in self.open.keys() {
            let (txn, commit) = (*txn, true);
            out.observe(Observation::Decided { txn, commit });
            out.observe(Observation::Mark("2pc.decision-recovered"));
            out.set_timer(Timer::Resend(txn), Delay::exactly(0));
        }
        self.force(Continuation::Boot);
    }
}

impl Manager {
    fn replay(&mut self, record: Record) {
        match record {
            Record::Boot => self.incarnation.replay(),
            Record::Commit { txn, participants } => {
                let acks = Votes::of_all(participants);
                self.open.insert(txn, Phase::Committed { acks });
                self.committed.insert(txn);
            }
            Record::End { txn } => {
                self.open.remove(&txn);
            }
            Record::Checkpoint {
                incarnation,
                unacked,
                committed,
            } => {
                self.incarnation.restore(incarnation);
                self.committed = committed;
                let acks = |unacked| Phase::Committed {
                    acks: Votes::of_all(unacked),
                };
                let open = unacked
                    .into_iter()
                    .map(|(txn, unacked): (TxnId, BTreeSet<ShardId>)| (txn, acks(unacked)));
                self.open = open.collect();
            }
        }
    }

    /// The incarnation is durable: whoever initiates with this manager must know it.
    fn serve(&mut self, out: &mut Out) {
        let early = self.incarnation.begin();
        let incarnation = self.incarnation.number();
        if incarnation > 1 {
            let site = Arc::clone(&self.site);
            for shard in { site.layout.shard_ids() }.filter(|shard| site.manager(*shard) == self.me)
            {
                out.send(site.participant(shard), Message::Hello { incarnation });
            }
        }
        for (from, message) in early {
            self.receive(from, message, out);
        }
    }

    fn receive(&mut self, from: Addr, message: Message, out: &mut Out) {
        match message {
            Message::Start(start) => self.on_start(from, start, out),
            Message::Prepared { txn, shard } | Message::Read { txn, shard } => {
                self.on_yes(txn, shard, out);
            }
            Message::No { txn, shard } => self.on_no(txn, shard, out),
            Message::Ack { txn, shard } => self.on_ack(txn, shard, out),
            Message::Inquiry { txn } => self.on_inquiry(from, txn, out),
            Message::Restarted { shard, .. } => self.on_restarted(from, shard, out),
            _ => {}
        }
    }

    // Phase one.

    /// The initiator's `prepared`: collect the others' votes.
    fn on_start(&mut self, from: Addr, start: Arc<Start>, out: &mut Out) {
        let txn = start.txn;
        if self.open.contains_key(&txn) {
            return; // A duplicate: the answer is on its way, or will be.
        }
        let incarnation = self.incarnation.number();
        let is_current = start.incarnation == incarnation;
        if !is_current || self.committed.contains(&txn) || self.aborted.contains(&txn) {
            if !is_current {
                out.observe(Observation::Mark("2pc.stale-incarnation"));
                out.send(from, Message::Hello { incarnation });
            }
            return self.on_inquiry(from, txn, out);
        }
        let mut others = start.shards();
        others.remove(&start.initiator);
        let votes = Votes::of_all(others);
        self.open.insert(txn, Phase::Collecting { start, votes });
        let vote_timeout = self.site.options.vote_timeout_ms.exactly();
        out.set_timer(Timer::VoteTimeout(txn), vote_timeout);
        self.resend(txn, out);
        self.decide_if_unanimous(txn, out);
    }

    fn on_yes(&mut self, txn: TxnId, shard: ShardId, out: &mut Out) {
        if let Some(Phase::Collecting { votes, .. }) = self.open.get_mut(&txn) {
            votes.record(shard, true);
            self.decide_if_unanimous(txn, out);
        }
    }

    /// One who has voted keeps to it: what says no after that is the echo of a reader that has left.
    fn on_no(&mut self, txn: TxnId, shard: ShardId, out: &mut Out) {
        if let Some(Phase::Collecting { votes, .. }) = self.open.get_mut(&txn)
            && votes.record(shard, false) == Tally::Refused
        {
            self.abort(txn, AbortReason::VotedNo, out);
        }
    }

    fn time_out(&mut self, txn: TxnId, out: &mut Out) {
        if let Some(Phase::Collecting { .. }) = self.open.get(&txn) {
            out.observe(Observation::Mark("2pc.vote-timeout"));
            self.abort(txn, AbortReason::Timeout, out);
        }
    }

    // Phase two.

    fn decide_if_unanimous(&mut self, txn: TxnId, out: &mut Out) {
        let Some(Phase::Collecting { start, votes }) = self.open.get(&txn) else {
            return;
        };
        if votes.tally() == Tally::Accepted {
            let participants = start.stayers(&self.site.options);
            out.cancel_timer(Timer::VoteTimeout(txn));
            out.cancel_timer(Timer::Resend(txn));
            self.open.insert(txn, Phase::Deciding { participants });
            if zoo::planted(Bug::DecisionNotForced) {
                let record = self.record_of(&Continuation::Decided(txn));
                self.journal.write_lazily(record);
                return self.decided(txn, out);
            }
            self.force(Continuation::Decided(txn));
        }
    }

    /// Presumed abort: nothing is written, nobody has to acknowledge, and the transaction is forgotten but for
    /// duplicates of its messages within this incarnation.
    fn abort(&mut self, txn: TxnId, why: AbortReason, out: &mut Out) {
        let told = match self.open.remove(&txn) {
            Some(Phase::Collecting { start, .. }) => start.shards(),
            Some(phase) => unreachable!("{txn} is aborted in {phase:?}"),
            None => BTreeSet::new(),
        };
        self.aborted.insert(txn);
        out.cancel_timer(Timer::VoteTimeout(txn));
        out.cancel_timer(Timer::Resend(txn));
        let commit = false;
        out.observe(Observation::Decided { txn, commit });
        for shard in told {
            out.send(self.site.participant(shard), Message::Abort { txn, why });
        }
        out.observe(Observation::Ended { txn, commit });
    }

    fn decided(&mut self, txn: TxnId, out: &mut Out) {
        let Some(Phase::Deciding { participants }) = self.open.remove(&txn) else {
            unreachable!("{txn} was not being decided");
        };
        let (commit, acks) = (true, Votes::of_all(participants));
        out.observe(Observation::Decided { txn, commit });
        self.committed.insert(txn);
        self.open.insert(txn, Phase::Committed { acks });
        self.resend(txn, out);
    }

    /// Forces the record that `next` waits for; again after a failed flush, which has left nothing behind.
    fn force(&mut self, next: Continuation) {
        self.journal.force(self.record_of(&next), next);
    }

    fn record_of(&self, next: &Continuation) -> Record {
        match next {
            Continuation::Boot => Record::Boot,
            Continuation::Decided(txn) => match self.open.get(txn) {
                Some(Phase::Deciding { participants }) => Record::Commit {
                    txn: *txn,
                    participants: participants.clone(),
                },
                phase => unreachable!("{txn} is decided in {phase:?}"),
            },
        }
    }

    fn on_ack(&mut self, txn: TxnId, shard: ShardId, out: &mut Out) {
        let Some(Phase::Committed { acks }) = self.open.get_mut(&txn) else {
            return;
        };
        let mut is_complete = acks.record(shard, true) == Tally::Accepted;
        if zoo::planted(Bug::EndAfterFirstAck) {
            is_complete = true;
            self.committed.remove(&txn);
        }
        if is_complete {
            self.open.remove(&txn);
            out.cancel_timer(Timer::Resend(txn));
            self.journal.write_lazily(Record::End { txn });
            let commit = true;
            out.observe(Observation::Ended { txn, commit });
        }
    }

    /// No record means abort.
    fn on_inquiry(&mut self, from: Addr, txn: TxnId, out: &mut Out) {
        if self.committed.contains(&txn) {
            return out.send(from, Message::Commit { txn });
        }
        if self.open.contains_key(&txn) {
            return; // Not decided yet.
        }
        if zoo::planted(Bug::NoRecordMeansCommit) && !self.aborted.contains(&txn) {
            return out.send(from, Message::Commit { txn });
        }
        let why = AbortReason::Presumed;
        if !self.aborted.contains(&txn) {
            out.observe(Observation::Mark("2pc.presumed-abort"));
            self.abort(txn, why, out);
        }
        out.send(from, Message::Abort { txn, why });
    }

    /// A participant has restarted: it does not know what it was asked, and may not know this incarnation.
    fn on_restarted(&mut self, from: Addr, shard: ShardId, out: &mut Out) {
        if self.site.manager(shard) == self.me {
            let incarnation = self.incarnation.number();
            out.send(from, Message::Hello { incarnation });
        }
        for txn in self.open.keys() {
            self.ask(*txn, |missing| missing == shard, out);
        }
    }

    /// Sends, and sends again, what the phase is waiting to have answered.
    fn resend(&mut self, txn: TxnId, out: &mut Out) {
        let decided = match self.open.get(&txn) {
            Some(Phase::Collecting { .. }) => false,
            Some(Phase::Committed { .. }) => true,
            Some(Phase::Deciding { .. }) | None => return,
        };
        self.ask(txn, |_| true, out);
        if decided && zoo::planted(Bug::DecisionSentOnce) {
            return;
        }
        out.set_timer(Timer::Resend(txn), self.site.options.resend_ms.about());
    }

    /// Asks those participants whose answer is missing and of whom `of` holds.
    fn ask(&self, txn: TxnId, of: impl Fn(ShardId) -> bool, out: &mut Out) {
        match &self.open[&txn] {
            Phase::Collecting { start, votes } => {
                let wanted = |part: &&Part| votes.misses(part.shard) && of(part.shard);
                for part in start.parts.iter().filter(wanted) {
                    let request = PrepareRequest {
                        txn,
                        part: part.clone(),
                        peers: start.stayers(&self.site.options),
                    };
                    let to = self.site.participant(part.shard);
                    out.send(to, Message::Prepare(Arc::new(request)));
                }
            }
            Phase::Committed { acks } => {
                for shard in acks.missing().filter(|shard| of(*shard)) {
                    out.send(self.site.participant(shard), Message::Commit { txn });
                }
            }
            Phase::Deciding { .. } => {}
        }
    }
}
