//! A resource manager: votes, stays in doubt until it hears the decision, and acts on it. The initiator's also answers
//! clients, and begins the commit phase of what was executed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Ballot, Group, Message, Out, Site, Start, Timer};
use crate::base::hlc::Stamp;
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::process::{Addr, Delay, Disk, FileId, Input, Process, WallTime};
use crate::base::txn::{Key, Read, ShardId, Txn, TxnId, Write};
use crate::base::zoo::{self, Bug};
use crate::protocol::Autopsy;
use crate::protocol::kit::client::ClientMessage;
use crate::protocol::kit::execution::{
    self, Around, Attempt, End, Executed, Execution, Kept, Part,
};
use crate::protocol::kit::journal::Journal;
use crate::shard::ShardState;
use crate::shard::locks::Mode;
use crate::shard::recovery::Recovery;
use crate::shard::store::Store;

const LOG: FileId = FileId(0);

/// For how many times `takeover-ms` an initiator avoids a leader that has left it in doubt.
const SUSPECTED_TIMES: u64 = 10;

/// How many committed transactions' reads are kept for replies that got lost.
const REPLIES_KEPT: usize = 1_024;

/// What only the initiator's vote holds: what it takes to begin the commit phase and to answer the client.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Origin {
    start: Arc<Start>,
    client: Addr,
    reads: Vec<Read>,
}

/// A vote for `Prepared`: all that is needed to survive a crash in doubt.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Vote {
    group: Arc<Group>,
    stamp: Stamp,
    attempt: Attempt,
    initiator: Addr,
    locks: Vec<(Key, Mode)>,
    writes: Vec<Write>,
    origin: Option<Origin>,
}

/// What the log holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum Record {
    /// A restart. Forced before anything is granted.
    Boot,
    /// A vote for `Prepared`. Forced before it is cast.
    Prepared(Arc<Vote>),
    /// The decision is commit. Forced before it is acknowledged.
    Committed(TxnId),
    /// The decision is abort. Lazy: whoever has lost it asks again.
    Aborted(TxnId),
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
    },
}

/// What follows a forced record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Continuation {
    Boot,
    Voted(TxnId),
    Committed(TxnId),
    Refused {
        txn: TxnId,
        outcome: Outcome,
        client: Addr,
    },
}

/// A transaction that a resource manager votes for (Gray and Lamport, figure 1: prepared, committed). While it is working,
/// the [`Execution`] knows of it; an aborted one is gone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// The vote is on its way to the disk. If the abort overtakes it, here is why.
    Preparing {
        vote: Arc<Vote>,
        doomed: Option<AbortReason>,
    },
    /// In doubt. In the faster variant these acceptors have accepted `Prepared` in every instance.
    Prepared {
        vote: Arc<Vote>,
        accepted: BTreeSet<Addr>,
    },
    /// The decision to commit is on its way to the disk, and this leader waits for the acknowledgement.
    Committing { vote: Arc<Vote>, leader: Addr },
}

impl Phase {
    fn vote(&self) -> &Arc<Vote> {
        let (Phase::Preparing { vote, .. }
        | Phase::Prepared { vote, .. }
        | Phase::Committing { vote, .. }) = self;
        vote
    }
}

/// A data machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ResourceManager {
    site: Arc<Site>,
    me: Addr,
    shard: ShardId,
    journal: Journal<Record, Continuation>,
    store: Store,
    execution: Execution,
    votes: BTreeMap<TxnId, Phase>,
    committed: BTreeSet<TxnId>,
    /// Transactions that it had voted for and that were aborted: late duplicates are told apart.
    aborted: BTreeSet<TxnId>,
    boot: u64,
    ready: bool,
    /// What arrived before this boot was durable.
    early: Vec<(Addr, Message)>,
    // The initiator's part.
    /// Refused, and the record is on its way to the disk.
    refusing: BTreeSet<TxnId>,
    /// Transactions whose client was told that they took no effect.
    refused: BTreeMap<TxnId, Outcome>,
    /// What the latest committed transactions read, for replies that got lost.
    replies: BTreeMap<TxnId, Vec<Read>>,
    /// Leaders that left this initiator in doubt: it begins with others for a while.
    suspects: BTreeSet<Addr>,
}

impl Process for ResourceManager {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        match input {
            Input::Boot(disk) => self.boot(&disk, out),
            Input::Message { from, message } if self.ready => {
                self.receive(now, from, message, out);
            }
            Input::Message { from, message } => self.early.push((from, message)),
            Input::Timer(Timer::Execution(timer)) => self.execute(out, |execution, around, out| {
                execution.on_timer(timer, around, out);
            }),
            Input::Timer(Timer::Inquire(txn)) => self.inquire(txn, out),
            Input::Timer(Timer::Trust(leader)) => {
                self.suspects.remove(&leader);
            }
            Input::Timer(_) => {}
            Input::Flushed(flush) => {
                let settled = self.journal.flushed(flush);
                for next in settled.durable {
                    self.durable(now, next, out);
                }
                for next in settled.lost {
                    self.lost(next, out);
                }
            }
            Input::FlushFailed(flush) => self.journal.flush_failed(flush, out),
        }
        while let Some(message) = self.execution.next_to_self() {
            self.on_execution(now, self.me, message, out);
        }
        let is_durable = |phase: &&Phase| !matches!(phase, Phase::Preparing { .. });
        let snapshot = || Record::Checkpoint {
            boot: self.boot,
            store: Box::new(self.store.clone()),
            prepared: { self.votes.values() }
                .filter(is_durable)
                .map(|phase| Arc::clone(phase.vote()))
                .collect(),
            committed: self.committed.clone(),
            aborted: self.aborted.clone(),
            refused: self.refused.clone(),
        };
        self.journal.pump(snapshot, out);
    }
}

impl Autopsy for ResourceManager {
    fn autopsy(&self) -> Option<ShardState> {
        let region = self.site.layout.shards[usize::from(self.shard.0)].home;
        let in_doubt = { self.votes.iter() }
            .filter(|(_, phase)| matches!(phase, Phase::Prepared { .. }))
            .map(|(txn, _)| *txn);
        Some(self.store.autopsy(region, in_doubt.collect()))
    }

    /// It ends when this resource manager is in doubt about nothing.
    fn recovery(&self) -> Recovery {
        if !self.ready {
            return Recovery::waits("for its restart to be on the disk");
        }
        Recovery::waits_on(self.votes.keys().copied().collect(), "for the decision on")
    }
}

impl ResourceManager {
    pub(super) fn new(site: Arc<Site>, shard: ShardId) -> Self {
        let me = site.resource_manager(shard);
        Self {
            store: Store::new(&site.layout, shard),
            journal: Journal::new(LOG, site.options.checkpoint_min_bytes()),
            execution: Execution::new(me),
            site,
            me,
            shard,
            votes: BTreeMap::new(),
            committed: BTreeSet::new(),
            aborted: BTreeSet::new(),
            boot: 0,
            ready: false,
            early: Vec::new(),
            refusing: BTreeSet::new(),
            refused: BTreeMap::new(),
            replies: BTreeMap::new(),
            suspects: BTreeSet::new(),
        }
    }

    fn receive(&mut self, now: WallTime, from: Addr, message: Message, out: &mut Out) {
        match message {
            Message::Client(ClientMessage::Request { txn }) => self.on_request(now, from, txn, out),
            Message::Execution(message) => self.on_execution(now, from, message, out),
            Message::Prepare { group, part } => self.on_prepare(from, group, &part, out),
            Message::Accepted { txn, ballot } => self.on_accepted(from, txn, ballot, out),
            Message::Commit { txn } => self.on_commit(from, txn, out),
            Message::Abort { txn, why } => self.on_abort(txn, why, out),
            Message::Restarted { shard, boot } => self.execute(out, |execution, around, out| {
                execution.on_restarted(shard, boot, around, out);
                execution.probe_those_of(from, around, out);
            }),
            _ => {}
        }
    }

    // Execution.

    fn execute<R>(
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

    fn on_execution(
        &mut self,
        now: WallTime,
        from: Addr,
        message: execution::Message,
        out: &mut Out,
    ) {
        let txn = message.txn();
        let is_over = self.committed.contains(&txn) || self.aborted.contains(&txn);
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
                self.refusing.insert(txn);
                self.refuse(txn, outcome, client);
            }
            None => {}
        }
    }

    /// Releases all locks of a transaction and drops it.
    fn forget(&mut self, txn: TxnId, out: &mut Out) {
        if self.votes.remove(&txn).is_some() {
            out.cancel_timer(Timer::Inquire(txn));
        }
        self.execute(out, |execution, around, out| {
            execution.forget(txn, around, out);
        });
    }

    // Requests and replies.

    fn on_request(&mut self, now: WallTime, client: Addr, txn: Arc<Txn>, out: &mut Out) {
        let id = txn.id;
        if let Some(outcome) = self.refused.get(&id) {
            let (outcome, txn, commit) = (outcome.clone(), id, false);
            out.observe(Observation::Ended { txn, commit });
            return self.reply(id, client, outcome, out);
        }
        if self.committed.contains(&id) {
            out.observe(Observation::Mark("paxos-commit.reply-repeated"));
            let reads = self.replies.get(&id).cloned().unwrap_or_default();
            return self.reply(id, client, Outcome::Committed { reads }, out);
        }
        let is_open = self.execution.is_running(id) || self.refusing.contains(&id);
        let is_voting = { self.votes.get(&id) }.is_some_and(|phase| phase.vote().origin.is_some());
        if is_open || is_voting {
            return; // The answer will come.
        }
        if self.aborted.contains(&id) {
            // A crash may have come between the abort and the reply.
            let why = AbortReason::Presumed;
            return self.refuse(id, Outcome::Aborted { why }, client);
        }
        self.execute(out, |execution, around, out| {
            execution.begin(now, client, txn, around, out);
        });
    }

    fn reply(&mut self, txn: TxnId, client: Addr, outcome: Outcome, out: &mut Out) {
        let reply = ClientMessage::Reply { txn, outcome };
        out.send(client, Message::Client(reply));
    }

    fn reply_committed(&mut self, txn: TxnId, client: Addr, reads: Vec<Read>, out: &mut Out) {
        self.replies.insert(txn, reads.clone());
        if self.replies.len() > REPLIES_KEPT {
            self.replies.pop_first();
        }
        self.reply(txn, client, Outcome::Committed { reads }, out);
    }

    /// Ends a transaction that takes no effect: durably first, then the client learns of it.
    fn refuse(&mut self, txn: TxnId, outcome: Outcome, client: Addr) {
        let record = Record::Refused {
            txn,
            outcome: outcome.clone(),
        };
        let next = Continuation::Refused {
            txn,
            outcome,
            client,
        };
        self.journal.force(record, next);
    }

    fn refusal_durable(&mut self, txn: TxnId, outcome: Outcome, client: Addr, out: &mut Out) {
        self.refusing.remove(&txn);
        self.refused.insert(txn, outcome.clone());
        let commit = false;
        out.observe(Observation::Ended { txn, commit });
        self.reply(txn, client, outcome, out);
    }

    // The vote.

    /// The initiator is the first resource manager that prepares.
    fn begin_commit(&mut self, executed: Executed, out: &mut Out) {
        let Executed {
            txn,
            client,
            parts,
            reads,
        } = executed;
        let mine = { parts.iter() }.find(|part| part.shard == self.shard);
        let writes = mine.expect("the initiator takes part").writes.clone();
        let members = parts.iter().map(|part| part.shard).collect();
        let group = self.site.group(txn, self.shard, members, &self.suspects);
        let group = Arc::new(group);
        let start = Start {
            group: Arc::clone(&group),
            initiator: self.shard,
            parts,
        };
        let start = Arc::new(start);
        let origin = Origin {
            start,
            client,
            reads,
        };
        self.vote(group, writes, Some(origin), out);
    }

    fn on_prepare(&mut self, leader: Addr, group: Arc<Group>, part: &Part, out: &mut Out) {
        let (txn, shard) = (group.txn, self.shard);
        if self.committed.contains(&txn) {
            return self.acknowledge_again(leader, txn, out);
        }
        match self.votes.get(&txn) {
            None if self.execution.holds_under(txn, part.grant) => {
                self.vote(group, part.writes.clone(), None, out);
            }
            None => {
                // The locks under which it was read are gone: a crash, or an abort that this repeats.
                if !self.aborted.contains(&txn) {
                    out.observe(Observation::Mark("paxos-commit.grant-lost"));
                    self.observe_no(txn, out);
                }
                out.send(leader, Message::No { txn, shard });
            }
            Some(Phase::Prepared { vote, .. }) => {
                let vote = Arc::clone(vote);
                self.cast(&vote, vote.group.active(), out);
            }
            Some(Phase::Preparing { .. } | Phase::Committing { .. }) => {}
        }
    }

    fn observe_no(&mut self, txn: TxnId, out: &mut Out) {
        let (shard, yes) = (self.shard, false);
        out.observe(Observation::Voted { txn, shard, yes });
    }

    /// Forces a vote for `Prepared`.
    fn vote(
        &mut self,
        group: Arc<Group>,
        writes: Vec<Write>,
        origin: Option<Origin>,
        out: &mut Out,
    ) {
        let txn = group.txn;
        let Kept {
            stamp,
            attempt,
            initiator,
            locks,
        } = self.execution.keep(txn);
        let vote = Arc::new(Vote {
            group,
            stamp,
            attempt,
            initiator,
            locks,
            writes,
            origin,
        });
        let record = Record::Prepared(Arc::clone(&vote));
        let doomed = None;
        if zoo::planted(Bug::PaxosVoteNotForced) {
            self.cast(&vote, vote.group.active(), out);
        }
        self.votes.insert(txn, Phase::Preparing { vote, doomed });
        self.journal.force(record, Continuation::Voted(txn));
    }

    /// The vote is durable: from here on only the decision releases the locks.
    fn vote_durable(&mut self, txn: TxnId, out: &mut Out) {
        let phase = { self.votes.get_mut(&txn) }.expect("a vote under way is known");
        let Phase::Preparing { vote, doomed } = phase else {
            unreachable!("{txn} has voted in {phase:?}");
        };
        let (vote, doomed) = (Arc::clone(vote), *doomed);
        *phase = Phase::Prepared {
            vote: Arc::clone(&vote),
            accepted: BTreeSet::new(),
        };
        out.work(vote.writes.len() as u32);
        let staged = self.store.prepare(txn, &vote.writes);
        staged.expect("exclusive locks keep other writers out");
        let (shard, yes) = (self.shard, true);
        out.observe(Observation::Voted { txn, shard, yes });
        out.cancel_timer(Timer::Execution(execution::Timer::Probe(txn)));
        if zoo::planted(Bug::PaxosAckAtVote)
            && let Some(Origin { client, reads, .. }) = &vote.origin
        {
            self.reply_committed(txn, *client, reads.clone(), out);
        }
        match doomed {
            Some(why) => self.on_abort(txn, why, out),
            None => self.cast(&vote, vote.group.active(), out),
        }
    }

    /// Sends the vote (phase 2a of ballot 0), and repeats it if nothing comes back.
    fn cast(&mut self, vote: &Vote, acceptors: &[Addr], out: &mut Out) {
        let (group, shard) = (&vote.group, self.shard);
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
        let inquiry = self.site.options.inquiry_ms.about();
        out.set_timer(Timer::Inquire(group.txn), inquiry);
    }

    /// In doubt for a while: all acceptors have to hear of the transaction, so that one of them brings it to an end.
    fn inquire(&mut self, txn: TxnId, out: &mut Out) {
        if let Some(Phase::Prepared { vote, .. }) = self.votes.get(&txn) {
            let vote = Arc::clone(vote);
            out.observe(Observation::Mark("paxos-commit.in-doubt"));
            self.cast(&vote, &vote.group.acceptors, out);
            let leader = vote.group.leader();
            if vote.origin.is_some() && self.suspects.insert(leader) {
                out.observe(Observation::Mark("paxos-commit.leader-suspected"));
                let patience = self.site.options.takeover_ms.about_times(SUSPECTED_TIMES);
                out.set_timer(Timer::Trust(leader), patience);
            }
        }
    }

    // The decision.

    /// Faster Paxos Commit: a resource manager learns for itself that `Prepared` is chosen in every instance.
    fn on_accepted(&mut self, acceptor: Addr, txn: TxnId, ballot: Ballot, out: &mut Out) {
        let Some(Phase::Prepared { vote, accepted }) = self.votes.get_mut(&txn) else {
            return;
        };
        if ballot != Ballot::ZERO {
            return;
        }
        accepted.insert(acceptor);
        if accepted.len() >= vote.group.quorum() {
            let leader = vote.group.leader();
            let commit = true;
            out.observe(Observation::Decided { txn, commit });
            self.on_commit(leader, txn, out);
        }
    }

    fn on_commit(&mut self, leader: Addr, txn: TxnId, out: &mut Out) {
        let Some(phase) = self.votes.get_mut(&txn) else {
            assert!(
                self.committed.contains(&txn) || zoo::any(),
                "{txn} commits without a vote"
            );
            return self.acknowledge_again(leader, txn, out);
        };
        match phase {
            Phase::Prepared { vote, .. } => {
                let vote = Arc::clone(vote);
                *phase = Phase::Committing {
                    vote: Arc::clone(&vote),
                    leader,
                };
                out.cancel_timer(Timer::Inquire(txn));
                self.force_commit(txn);
                if let Some(Origin { client, reads, .. }) = &vote.origin {
                    self.reply_committed(txn, *client, reads.clone(), out);
                }
            }
            // The acknowledgement will follow, to whoever asks last.
            Phase::Committing { leader: to, .. } => *to = leader,
            Phase::Preparing { .. } => {
                assert!(zoo::any(), "{txn} commits before its vote is durable")
            }
        }
    }

    fn force_commit(&mut self, txn: TxnId) {
        let next = Continuation::Committed(txn);
        self.journal.force(Record::Committed(txn), next);
    }

    fn commit_durable(&mut self, txn: TxnId, out: &mut Out) {
        let phase = self.votes.get(&txn).cloned();
        let Some(Phase::Committing { vote, leader }) = phase else {
            unreachable!("{txn} has committed in {phase:?}");
        };
        let (shard, commit, position) = (self.shard, true, self.store.next_position());
        self.committed.insert(txn);
        out.observe(Observation::Resolved { txn, shard, commit });
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
        self.forget(txn, out);
        out.send(leader, Message::Ack { txn, shard });
    }

    /// The first acknowledgement was lost, or a crash came between the record and the words.
    fn acknowledge_again(&mut self, leader: Addr, txn: TxnId, out: &mut Out) {
        let (shard, commit) = (self.shard, true);
        out.observe(Observation::Resolved { txn, shard, commit });
        out.send(leader, Message::Ack { txn, shard });
    }

    /// Lazily recorded and not acknowledged: whoever loses it asks again.
    fn on_abort(&mut self, txn: TxnId, why: AbortReason, out: &mut Out) {
        let Some(phase) = self.votes.get_mut(&txn) else {
            return self.forget(txn, out);
        };
        match phase {
            Phase::Preparing { doomed, .. } => *doomed = Some(why),
            Phase::Prepared { vote, .. } => {
                let vote = Arc::clone(vote);
                let (shard, commit) = (self.shard, false);
                self.journal.write_lazily(Record::Aborted(txn));
                let undone = self.store.rollback_prepared(txn);
                undone.expect("a prepared transaction can be rolled back");
                self.aborted.insert(txn);
                out.observe(Observation::Resolved { txn, shard, commit });
                self.forget(txn, out);
                if let Some(Origin { client, .. }) = &vote.origin {
                    self.refuse(txn, Outcome::Aborted { why }, *client);
                }
            }
            Phase::Committing { .. } => {
                assert!(zoo::any(), "{txn} is aborted for {why:?} while it commits")
            }
        }
    }

    // The log.

    fn durable(&mut self, now: WallTime, next: Continuation, out: &mut Out) {
        match next {
            Continuation::Boot => self.serve(now, out),
            Continuation::Voted(txn) => self.vote_durable(txn, out),
            Continuation::Committed(txn) => self.commit_durable(txn, out),
            Continuation::Refused {
                txn,
                outcome,
                client,
            } => self.refusal_durable(txn, outcome, client, out),
        }
    }

    /// What a failed flush took for certain: a vote becomes a no, everything else is tried again.
    fn lost(&mut self, next: Continuation, out: &mut Out) {
        match next {
            Continuation::Boot => self.journal.force(Record::Boot, next),
            Continuation::Voted(txn) => self.vote_lost(txn, out),
            Continuation::Committed(txn) => self.force_commit(txn),
            Continuation::Refused {
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
        out.observe(Observation::Mark("paxos-commit.vote-not-durable"));
        self.forget(txn, out);
        let group = &vote.group;
        match &vote.origin {
            // No vote was cast: no leader has heard of the transaction.
            Some(Origin { client, .. }) => {
                let shards = group.members.clone();
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
                out.send(group.leader(), Message::No { txn, shard });
            }
        }
    }

    // Recovery: whatever has a vote and no decision is in doubt again, with its locks.

    fn boot(&mut self, disk: &Disk, out: &mut Out) {
        let Ok(records) = self.journal.open(disk.file(LOG), out) else {
            return out.halt("a resource manager's log is damaged");
        };
        for record in records {
            self.replay(record);
        }
        let shard = self.shard;
        for (txn, phase) in &self.votes {
            let (txn, yes) = (*txn, true);
            self.execution
                .retake(txn, phase.vote().locks.iter().copied());
            out.observe(Observation::Mark("paxos-commit.recovered-in-doubt"));
            out.observe(Observation::Voted { txn, shard, yes });
            out.observe(Observation::Locked { txn, shard });
            out.set_timer(Timer::Inquire(txn), Delay::exactly(0));
        }
        self.journal.force(Record::Boot, Continuation::Boot);
    }

    fn replay(&mut self, record: Record) {
        match record {
            Record::Boot => self.boot += 1,
            Record::Prepared(vote) => {
                let staged = self.store.prepare(vote.group.txn, &vote.writes);
                staged.expect("a prepared transaction had its rows to itself");
                self.recover(vote);
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
                if self.recover_end(txn) {
                    let undone = self.store.rollback_prepared(txn);
                    undone.expect("a prepared transaction can be rolled back");
                }
                self.aborted.insert(txn);
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
            } => {
                self.boot = boot;
                self.store = *store;
                self.committed = committed;
                self.aborted = aborted;
                self.refused = refused;
                prepared.into_iter().for_each(|vote| self.recover(vote));
            }
        }
    }

    fn recover(&mut self, vote: Arc<Vote>) {
        let txn = vote.group.txn;
        self.execution
            .recover(txn, vote.stamp, vote.attempt, vote.initiator);
        let accepted = BTreeSet::new();
        self.votes.insert(txn, Phase::Prepared { vote, accepted });
    }

    fn recover_end(&mut self, txn: TxnId) -> bool {
        self.execution.recover_end(txn);
        self.votes.remove(&txn).is_some()
    }

    /// This boot is durable: grants made from here on differ from all earlier ones.
    fn serve(&mut self, now: WallTime, out: &mut Out) {
        self.boot += 1;
        self.execution.serve(self.boot);
        self.ready = true;
        if self.boot > 1 && self.site.options.announce_restarts {
            let (shard, boot) = (self.shard, self.boot);
            let site = Arc::clone(&self.site);
            for other in site.layout.shard_ids().filter(|other| *other != shard) {
                out.send(
                    site.resource_manager(other),
                    Message::Restarted { shard, boot },
                );
            }
        }
        for (from, message) in std::mem::take(&mut self.early) {
            self.receive(now, from, message, out);
        }
    }
}
