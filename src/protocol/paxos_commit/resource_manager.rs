//! A resource manager: its vote is the value of an instance of Paxos, in ballot 0. The initiator's begins the commit phase.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Ballot, Group, Message, Out, Site, Start, Timer};
use crate::base::observation::Observation;
use crate::base::process::{Addr, WallTime};
use crate::base::txn::{ShardId, TxnId};
use crate::base::zoo::{self, Bug};
use crate::protocol::kit::execution::Part;
use crate::protocol::kit::participant::{
    self, Commitment, Marks, Never, Participant, Setting, participant_marks,
};
use crate::protocol::kit::votes::{Tally, Votes};

/// For how many times `takeover-ms` an initiator avoids a leader that has left it in doubt.
const SUSPECTED_TIMES: u64 = 10;

/// A data machine.
pub type ResourceManager = Participant<Member>;

type Vote = participant::Vote<Member>;

/// What a resource manager keeps in memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Member {
    site: Arc<Site>,
    /// Faster Paxos Commit: the acceptors that have accepted `Prepared` in every instance of what is in doubt here.
    accepted: BTreeMap<TxnId, Votes<Addr>>,
    /// Leaders that left this initiator in doubt: it begins with others for a while.
    suspects: BTreeSet<Addr>,
}

pub(super) fn resource_manager(site: Arc<Site>, shard: ShardId) -> ResourceManager {
    let checkpoint_min_bytes = site.options.checkpoint_min_bytes();
    let member = Member {
        site,
        accepted: BTreeMap::new(),
        suspects: BTreeSet::new(),
    };
    Participant::new(shard, checkpoint_min_bytes, member)
}

impl Commitment for Member {
    type Message = Message;
    type Timer = Timer;
    type Vote = Arc<Group>;
    type Start = Arc<Start>;
    type Record = Never;
    type Checkpoint = ();
    type Continuation = Never;

    const MARKS: Marks = participant_marks!("paxos-commit");
    const DAMAGED: &'static str = "a resource manager's log is damaged";

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
        if self.site.options.announce_restarts {
            for other in { self.site.layout.shard_ids() }.filter(|other| *other != shard) {
                let to = self.site.resource_manager(other);
                out.send(to, Message::Restarted { shard, boot });
            }
        }
    }

    fn inquiry(txn: TxnId) -> Timer {
        Timer::Inquire(txn)
    }

    fn begin(
        initiator: &ResourceManager,
        txn: TxnId,
        parts: Vec<Part>,
    ) -> (Arc<Group>, Arc<Start>) {
        let Member { site, suspects, .. } = &initiator.own;
        let members = parts.iter().map(|part| part.shard).collect();
        let group = site.group(txn, initiator.shard(), members, suspects);
        let group = Arc::new(group);
        let start = Start {
            group: Arc::clone(&group),
            initiator: initiator.shard(),
            parts,
        };
        (group, Arc::new(start))
    }

    fn coordinator(vote: &Vote) -> Addr {
        vote.own.leader()
    }

    fn members(vote: &Vote) -> BTreeSet<ShardId> {
        vote.own.members.clone()
    }

    fn on_voting(this: &mut ResourceManager, vote: &Arc<Vote>, out: &mut Out) {
        if zoo::planted(Bug::PaxosVoteNotForced) {
            this.cast_to(vote, vote.own.active(), out);
        }
    }

    fn cast(this: &mut ResourceManager, vote: &Arc<Vote>, out: &mut Out) {
        if zoo::planted(Bug::PaxosAckAtVote)
            && let Some(origin) = &vote.origin
        {
            this.reply_committed(vote.txn, origin.client, origin.reads.clone(), out);
        }
        this.cast_to(vote, vote.own.active(), out);
    }

    fn on_message(
        this: &mut ResourceManager,
        now: WallTime,
        from: Addr,
        message: Message,
        out: &mut Out,
    ) {
        match message {
            Message::Client(message) => this.on_client(now, from, message, out),
            Message::Execution(message) => this.on_execution(now, from, message, out),
            Message::Prepare { group, part } => this.prepare(from, group.txn, &part, group, out),
            Message::Accepted { txn, ballot } => this.on_accepted(from, txn, ballot, out),
            Message::Commit { txn } => this.on_commit(from, txn, out),
            Message::Abort { txn, why } => this.abort(txn, why, out),
            Message::Restarted { shard, boot } => this.on_restarted(from, shard, boot, out),
            _ => {}
        }
    }

    fn on_timer(this: &mut ResourceManager, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Execution(timer) => this.on_execution_timer(timer, out),
            Timer::Inquire(txn) => this.inquire(txn, out),
            Timer::Trust(leader) => {
                this.own.suspects.remove(&leader);
            }
            _ => {}
        }
    }

    fn on_forget(&mut self, txn: TxnId, _: &mut Out) {
        self.accepted.remove(&txn);
    }
}

impl ResourceManager {
    /// Sends the vote (phase 2a of ballot 0), and repeats it if nothing comes back.
    fn cast_to(&self, vote: &Vote, acceptors: &[Addr], out: &mut Out) {
        let (group, shard) = (&vote.own, self.shard());
        for acceptor in acceptors {
            let message = match &vote.origin {
                Some(origin) if *acceptor == group.leader() => {
                    Message::BeginCommit(Arc::clone(&origin.start))
                }
                _ => Message::Prepared {
                    group: Arc::clone(group),
                    shard,
                },
            };
            out.send(*acceptor, message);
        }
        let inquiry = self.own.site.options.inquiry_ms.about();
        out.set_timer(Timer::Inquire(vote.txn), inquiry);
    }

    /// In doubt for a while: all acceptors have to hear of the transaction, so that one of them brings it to an end.
    fn inquire(&mut self, txn: TxnId, out: &mut Out) {
        let Some(vote) = self.in_doubt(txn) else {
            return;
        };
        out.observe(Observation::Mark("paxos-commit.in-doubt"));
        self.cast_to(&vote, &vote.own.acceptors, out);
        let leader = vote.own.leader();
        if vote.origin.is_some() && self.own.suspects.insert(leader) {
            out.observe(Observation::Mark("paxos-commit.leader-suspected"));
            let takeover = self.own.site.options.takeover_ms;
            let patience = takeover.about_times(SUSPECTED_TIMES);
            out.set_timer(Timer::Trust(leader), patience);
        }
    }

    /// Faster Paxos Commit: a resource manager learns for itself that `Prepared` is chosen in every instance.
    fn on_accepted(&mut self, acceptor: Addr, txn: TxnId, ballot: Ballot, out: &mut Out) {
        let Some(vote) = self.in_doubt(txn) else {
            return;
        };
        if ballot != Ballot::ZERO {
            return;
        }
        let acceptors = || Votes::of_majority(vote.own.acceptors.iter().copied());
        let accepted = self.own.accepted.entry(txn).or_insert_with(acceptors);
        if accepted.record(acceptor, true) == Tally::Accepted {
            let commit = true;
            out.observe(Observation::Decided { txn, commit });
            self.on_commit(vote.own.leader(), txn, out);
        }
    }

    fn on_commit(&mut self, leader: Addr, txn: TxnId, out: &mut Out) {
        self.own.accepted.remove(&txn);
        self.commit(leader, txn, out);
    }
}
