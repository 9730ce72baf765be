//! The transaction manager, with the application program beside it: it runs a client's transaction, calls the resource
//! managers, decides, and resolves what a scan finds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Call, Code, CommitReturn, Message, Out, Site, Timer, Xid};
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::process::{Addr, Delay, FileId, Input, Process, WallTime};
use crate::base::txn::{Read, ShardId, Txn, TxnId};
use crate::protocol::Autopsy;
use crate::protocol::kit::client::ClientMessage;
use crate::protocol::kit::durable::{self, Durable, Incarnation};
use crate::protocol::kit::execution::{self, Around, Attempt, End, Executed, Execution, Part};
use crate::protocol::kit::journal::Journal;
use crate::protocol::kit::replies::{Replies, reply};
use crate::protocol::kit::votes::{Tally, Votes};

const LOG: FileId = FileId(0);

/// A branch that was not as it was called: the transaction, and the resource manager.
type BranchId = (TxnId, ShardId);

/// What the log holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum Record {
    /// A new incarnation. Forced before it does anything.
    Boot,
    /// The decision to commit. Forced before anybody hears of it.
    Commit { txn: TxnId, decision: Decision },
    /// What a branch did on its own, or that it cannot be known. Forced before it may be forgotten there.
    Heuristic {
        branch: BranchId,
        code: Code,
        /// What was decided.
        commit: bool,
    },
    /// Every branch has answered. Lazy.
    End { txn: TxnId },
    /// The client is about to be told that its transaction took no effect. Forced, because a late duplicate of the request
    /// must not give it one.
    Refused { txn: TxnId, outcome: Outcome },
    /// Everything before this record.
    Checkpoint {
        incarnation: u64,
        committed: BTreeMap<TxnId, Decision>,
        unanswered: BTreeMap<TxnId, BTreeSet<ShardId>>,
        heuristics: BTreeMap<BranchId, Code>,
        refused: BTreeMap<TxnId, Outcome>,
    },
}

/// A decision to commit.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Decision {
    attempt: Attempt,
    /// The branches that were prepared.
    branches: BTreeSet<ShardId>,
}

/// What follows a forced record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Continuation {
    Boot,
    Decided(TxnId),
    Heuristic {
        branch: BranchId,
        code: Code,
        xid: Xid,
        commit: bool,
    },
    Refused {
        txn: TxnId,
        outcome: Outcome,
        client: Addr,
    },
}

/// What was executed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Work {
    client: Addr,
    attempt: Attempt,
    parts: Vec<Part>,
    reads: Vec<Read>,
}

impl Work {
    fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.parts.iter().map(|part| part.shard)
    }
}

/// Where a transaction stands after its execution.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// `xa_end` is called.
    Ending {
        work: Work,
        returned: Votes<ShardId>,
    },
    /// `xa_prepare` is called.
    Preparing {
        work: Work,
        votes: Votes<ShardId>,
        /// Those that only read and have left.
        readers: BTreeSet<ShardId>,
    },
    /// `xa_commit(TMONEPHASE)` is called: the resource manager decides.
    Alone { work: Work },
    /// The decision is on its way to the disk.
    Deciding { work: Work, decision: Decision },
    /// `xa_commit` is called. After a restart nobody knows the client before it asks again, nor what was read.
    Committed {
        returned: Votes<ShardId>,
        client: Option<Addr>,
        reads: Vec<Read>,
    },
}

impl Phase {
    /// What was executed, while the decision is open.
    fn work(&self) -> Option<&Work> {
        match self {
            Phase::Ending { work, .. }
            | Phase::Preparing { work, .. }
            | Phase::Alone { work }
            | Phase::Deciding { work, .. } => Some(work),
            Phase::Committed { .. } => None,
        }
    }
}

/// A transaction manager.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TransactionManager {
    site: Arc<Site>,
    me: Addr,
    journal: Journal<Record, Continuation>,
    incarnation: Incarnation<Message>,
    execution: Execution,
    open: BTreeMap<TxnId, Phase>,
    committed: BTreeMap<TxnId, Decision>,
    /// Branches that decided alone, durably: what they did.
    heuristics: BTreeMap<BranchId, Code>,
    /// Those whose record is on its way to the disk.
    recording: BTreeSet<BranchId>,
    /// Committed in this incarnation without a record: in one phase, or by readers only.
    unrecorded: BTreeSet<TxnId>,
    /// Rolled back in this incarnation for want of a record.
    presumed: BTreeSet<TxnId>,
    replies: Replies,
}

impl TransactionManager {
    pub(super) fn new(site: Arc<Site>, me: Addr) -> Self {
        Self {
            journal: Journal::new(LOG, site.options.checkpoint_min_bytes()),
            site,
            me,
            incarnation: Incarnation::default(),
            execution: Execution::new(me),
            open: BTreeMap::new(),
            committed: BTreeMap::new(),
            heuristics: BTreeMap::new(),
            recording: BTreeSet::new(),
            unrecorded: BTreeSet::new(),
            presumed: BTreeSet::new(),
            replies: Replies::default(),
        }
    }

    /// What a transaction came to by heuristic decisions, as far as known; nothing if no branch decided alone.
    pub fn outcome(&self, txn: TxnId) -> Option<Code> {
        let its = (txn, ShardId(0))..=(txn, ShardId(u16::MAX));
        let codes: Vec<Code> = self.heuristics.range(its).map(|(_, code)| *code).collect();
        let count = |wanted| codes.iter().filter(|code| **code == wanted).count();
        let (committed, rolled_back) = (count(Code::HeurCom), count(Code::HeurRb));
        if codes.is_empty() {
            return None;
        }
        if count(Code::HeurHaz) > 0 {
            return Some(Code::HeurHaz);
        }
        let decided = { self.committed.get(&txn) }.map(|decision| decision.branches.len());
        Some(match decided {
            Some(_) if rolled_back == 0 => Code::HeurCom,
            Some(branches) if rolled_back == branches => Code::HeurRb,
            None if committed == 0 => Code::HeurRb,
            Some(_) | None => Code::HeurMix,
        })
    }
}

impl Process for TransactionManager {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        durable::step(self, now, input, out);
    }
}

impl Autopsy for TransactionManager {}

impl Durable<Record, Continuation> for TransactionManager {
    const DAMAGED: &'static str = "the transaction manager's log is damaged";

    fn journal(&mut self) -> &mut Journal<Record, Continuation> {
        &mut self.journal
    }

    fn checkpoint(&self) -> Record {
        let unanswered = self.open.iter().filter_map(|(txn, phase)| match phase {
            Phase::Committed { returned, .. } => Some((*txn, returned.missing().collect())),
            _ => None,
        });
        Record::Checkpoint {
            incarnation: self.incarnation.number(),
            committed: self.committed.clone(),
            unanswered: unanswered.collect(),
            heuristics: self.heuristics.clone(),
            refused: self.replies.refusals().clone(),
        }
    }

    fn on_message(&mut self, now: WallTime, from: Addr, message: Message, out: &mut Out) {
        if let Some(message) = self.incarnation.admit(from, message) {
            self.receive(now, from, message, out);
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Execution(timer) => self.execute(out, |execution, around, out| {
                execution.on_timer(timer, around, out);
            }),
            Timer::Resend(txn) => self.call(txn, out),
            Timer::Timeout(txn) => self.time_out(txn, out),
            Timer::Scan => self.scan(false, out),
            Timer::Client(_) | Timer::InDoubt(_) | Timer::Heuristic(_) | Timer::Purge(_) => {}
        }
    }

    fn on_durable(&mut self, now: WallTime, next: Continuation, out: &mut Out) {
        match next {
            Continuation::Boot => self.serve(now, out),
            Continuation::Decided(txn) => self.decided(txn, out),
            Continuation::Heuristic {
                branch,
                code,
                xid,
                commit,
            } => self.heuristic_recorded(branch, code, xid, commit, out),
            Continuation::Refused {
                txn,
                outcome,
                client,
            } => self.refused(txn, outcome, client, out),
        }
    }

    fn on_lost(&mut self, next: Continuation, _: &mut Out) {
        self.force(next);
    }

    /// A commit record says who may not have heard. Everything else is presumed to be rolled back.
    fn recover(&mut self, records: Vec<Record>, out: &mut Out) {
        for record in records {
            self.replay(record);
        }
        for txn in self.open.keys() {
            let (txn, commit) = (*txn, true);
            out.observe(Observation::Decided { txn, commit });
            out.observe(Observation::Mark("xa.decision-recovered"));
            out.set_timer(Timer::Resend(txn), Delay::exactly(0));
        }
        self.force(Continuation::Boot);
    }
}

impl TransactionManager {
    // The log.

    /// Forces the record that `next` waits for; again after a failed flush, which has left nothing behind.
    fn force(&mut self, next: Continuation) {
        let record = match &next {
            Continuation::Boot => Record::Boot,
            Continuation::Decided(txn) => match self.open.get(txn) {
                Some(Phase::Deciding { decision, .. }) => Record::Commit {
                    txn: *txn,
                    decision: decision.clone(),
                },
                phase => unreachable!("{txn} is decided in {phase:?}"),
            },
            Continuation::Heuristic {
                branch,
                code,
                commit,
                ..
            } => Record::Heuristic {
                branch: *branch,
                code: *code,
                commit: *commit,
            },
            Continuation::Refused { txn, outcome, .. } => Record::Refused {
                txn: *txn,
                outcome: outcome.clone(),
            },
        };
        self.journal.force(record, next);
    }

    fn replay(&mut self, record: Record) {
        match record {
            Record::Boot => self.incarnation.replay(),
            Record::Commit { txn, decision } => {
                self.await_returns(txn, decision.branches.clone());
                self.committed.insert(txn, decision);
            }
            Record::Heuristic { branch, code, .. } => {
                self.heuristics.insert(branch, code);
                let (txn, shard) = branch;
                if let Some(Phase::Committed { returned, .. }) = self.open.get_mut(&txn) {
                    returned.record(shard, true);
                }
            }
            Record::End { txn } => {
                self.open.remove(&txn);
            }
            Record::Refused { txn, outcome } => self.replies.refused(txn, outcome),
            Record::Checkpoint {
                incarnation,
                committed,
                unanswered,
                heuristics,
                refused,
            } => {
                self.incarnation.restore(incarnation);
                self.committed = committed;
                self.open.clear();
                for (txn, branches) in unanswered {
                    self.await_returns(txn, branches);
                }
                self.heuristics = heuristics;
                self.replies.restore(refused);
            }
        }
    }

    fn await_returns(&mut self, txn: TxnId, branches: BTreeSet<ShardId>) {
        let phase = Phase::Committed {
            returned: Votes::of_all(branches),
            client: None,
            reads: Vec::new(),
        };
        self.open.insert(txn, phase);
    }

    /// The incarnation is durable: its attempts differ from all earlier ones.
    fn serve(&mut self, now: WallTime, out: &mut Out) {
        let early = self.incarnation.begin();
        let incarnation = self.incarnation.number();
        self.execution.serve(incarnation);
        if incarnation > 1 {
            self.scan(true, out);
        } else {
            out.set_timer(Timer::Scan, self.site.options.recovery_ms.about());
        }
        for (from, message) in early {
            self.receive(now, from, message, out);
        }
    }

    fn receive(&mut self, now: WallTime, from: Addr, message: Message, out: &mut Out) {
        match message {
            Message::Client(ClientMessage::Request { txn }) => self.on_request(now, from, txn, out),
            Message::Execution(message) => self.on_execution(now, from, message, out),
            Message::Return {
                call,
                xid,
                shard,
                code,
            } => self.on_return(from, call, xid, shard, code, out),
            Message::Committed { txn, shard } => self.on_committed(txn, shard, out),
            Message::RolledBack { txn, shard } => self.on_no(txn, shard, out),
            Message::Recovered { shard, xids } => self.on_recovered(shard, xids, out),
            Message::Restarted { shard, boot } => self.on_restarted(shard, boot, out),
            message => unreachable!("{message:?} is not for a transaction manager"),
        }
    }

    // Clients.

    fn on_request(&mut self, now: WallTime, client: Addr, txn: Arc<Txn>, out: &mut Out) {
        let id = txn.id;
        if let Some(outcome) = self.replies.refusal(id) {
            let (outcome, txn, commit) = (outcome.clone(), id, false);
            out.observe(Observation::Ended { txn, commit });
            return reply(client, id, outcome, out);
        }
        match self.open.get_mut(&id) {
            Some(Phase::Committed { client: asker, .. }) => {
                *asker = Some(client); // The answer will come.
                return;
            }
            Some(_) => return,
            None => {}
        }
        if self.committed.contains_key(&id) || self.unrecorded.contains(&id) {
            out.observe(Observation::Mark("xa.reply-repeated"));
            let reads = self.replies.reads(id);
            return self.answer(id, client, reads, out);
        }
        if self.execution.is_running(id) || self.replies.is_ending(id) {
            return; // The answer will come.
        }
        self.execute(out, |execution, around, out| {
            execution.begin(now, client, txn, around, out);
        });
    }

    /// Tells the client of a commit, unless heuristic decisions make it something else.
    fn answer(&mut self, txn: TxnId, client: Addr, reads: Vec<Read>, out: &mut Out) {
        let outcome = match self.outcome(txn) {
            None | Some(Code::HeurCom) => {
                self.replies.committed(txn, reads.clone());
                Outcome::Committed { reads }
            }
            Some(_) => Outcome::Unknown,
        };
        reply(client, txn, outcome, out);
    }

    /// Ends a transaction that takes no effect: durably first, then the client learns of it.
    fn refuse(&mut self, txn: TxnId, outcome: Outcome, client: Addr) {
        self.replies.ending(txn);
        self.force(Continuation::Refused {
            txn,
            outcome,
            client,
        });
    }

    fn refused(&mut self, txn: TxnId, outcome: Outcome, client: Addr, out: &mut Out) {
        self.replies.refused(txn, outcome.clone());
        let commit = false;
        out.observe(Observation::Ended { txn, commit });
        reply(client, txn, outcome, out);
    }

    // The application program.

    /// Runs a step of the execution, and passes on what it asks for.
    fn execute<R>(
        &mut self,
        out: &mut Out,
        step: impl FnOnce(&mut Execution, &Around<'_>, &mut execution::Out) -> R,
    ) -> R {
        let Site {
            layout, execution, ..
        } = &*self.site;
        let around = Around::initiator(layout, execution, self.me);
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
        if self.open.contains_key(&message.txn()) {
            return; // Its locks are needed: what would take them away is late.
        }
        let is_over = false;
        let end = self.execute(out, |execution, around, out| {
            execution.on_message(now, from, message, is_over, around, out)
        });
        match end {
            Some(End::Executed(executed)) => self.end_branches(executed, out),
            Some(End::Refused {
                txn,
                client,
                outcome,
            }) => self.refuse(txn, outcome, client),
            None => {}
        }
    }

    fn end_branches(&mut self, executed: Executed, out: &mut Out) {
        let Executed {
            txn,
            client,
            attempt,
            parts,
            reads,
        } = executed;
        let work = Work {
            client,
            attempt,
            parts,
            reads,
        };
        let returned = Votes::of_all(work.shards());
        self.open.insert(txn, Phase::Ending { work, returned });
        let timeout = self.site.options.transaction_timeout_ms.exactly();
        out.set_timer(Timer::Timeout(txn), timeout);
        self.call(txn, out);
    }

    // The calls.

    /// Makes the calls of the phase whose returns are missing, and makes them again.
    fn call(&mut self, txn: TxnId, out: &mut Out) {
        if let Some(Phase::Committed { returned, .. }) = self.open.get(&txn)
            && returned.tally() == Tally::Accepted
        {
            return self.complete(txn, out); // A crash had come between the last return and the end.
        }
        if self.calls(txn, |_| true, out) {
            out.set_timer(Timer::Resend(txn), self.site.options.resend_ms.about());
        }
    }

    /// Calls those resource managers whose return is missing and of whom `of` holds. Whether returns are awaited.
    fn calls(&self, txn: TxnId, of: impl Fn(ShardId) -> bool, out: &mut Out) -> bool {
        let Some(phase) = self.open.get(&txn) else {
            return false;
        };
        let site = &self.site;
        let mut send = |shard: ShardId, message: Message| {
            if of(shard) {
                out.send(site.resource_manager(shard), message);
            }
        };
        match phase {
            Phase::Ending { work, returned } => {
                let (xid, missing) = (xid(txn, work), |part: &&Part| returned.misses(part.shard));
                for part in work.parts.iter().filter(missing) {
                    let (shard, part) = (part.shard, Arc::new(part.clone()));
                    send(shard, Message::End { xid, part });
                }
            }
            Phase::Preparing { work, votes, .. } => {
                let (xid, missing) = (xid(txn, work), |part: &&Part| votes.misses(part.shard));
                for part in work.parts.iter().filter(missing) {
                    let (shard, grant) = (part.shard, part.grant);
                    send(shard, Message::Prepare { xid, grant });
                }
            }
            Phase::Alone { work } => {
                let part = &work.parts[0];
                let (xid, one_phase) = (xid(txn, work), Some(part.grant));
                send(part.shard, Message::Commit { xid, one_phase });
            }
            Phase::Deciding { .. } => return false,
            Phase::Committed { returned, .. } => {
                let attempt = self.committed[&txn].attempt;
                let (xid, one_phase) = (Xid { txn, attempt }, None);
                for shard in returned.missing() {
                    send(shard, Message::Commit { xid, one_phase });
                }
            }
        }
        true
    }

    /// A resource manager has restarted: what it had not prepared is gone, and what it was called is forgotten.
    fn on_restarted(&mut self, shard: ShardId, boot: u64, out: &mut Out) {
        self.execute(out, |execution, around, out| {
            execution.on_restarted(shard, boot, around, out);
        });
        for txn in self.open.keys() {
            self.calls(*txn, |missing| missing == shard, out);
        }
    }

    // The returns.

    fn on_return(
        &mut self,
        from: Addr,
        call: Call,
        xid: Xid,
        shard: ShardId,
        code: Code,
        out: &mut Out,
    ) {
        match (call, code) {
            (Call::Start, _) => self.on_duplicate(xid.txn, out),
            (Call::End, _) => self.on_ended(xid, shard, code == Code::Ok, out),
            (Call::Prepare, _) => self.on_vote(from, xid, shard, code, out),
            (Call::Commit, Code::NotA | Code::RbRollback) => self.on_unknown(xid, shard, out),
            (Call::Commit, _) => self.on_heuristic(xid, shard, code, true, out),
            (Call::Rollback, _) => self.on_heuristic(xid, shard, code, false, out),
        }
    }

    /// `XAER_DUPID`: an earlier incarnation had come further, and its branches are rolled back by the scan.
    fn on_duplicate(&mut self, txn: TxnId, out: &mut Out) {
        if let Some(client) = self.withdraw(txn, out) {
            let why = AbortReason::Presumed;
            self.refuse(txn, Outcome::Aborted { why }, client);
        }
    }

    fn withdraw(&mut self, txn: TxnId, out: &mut Out) -> Option<Addr> {
        self.execute(out, |execution, around, out| {
            execution.withdraw(txn, around, out)
        })
    }

    fn on_ended(&mut self, xid: Xid, shard: ShardId, ok: bool, out: &mut Out) {
        let txn = xid.txn;
        let Some(Phase::Ending { work, returned }) = self.open.get_mut(&txn) else {
            return;
        };
        if work.attempt != xid.attempt {
            return;
        }
        match returned.record(shard, ok) {
            Tally::Open => {}
            Tally::Refused => self.roll_back(txn, AbortReason::VotedNo, Some(shard), out),
            Tally::Accepted => {
                let work = work.clone();
                let one_phase = self.site.options.one_phase && work.parts.len() == 1;
                let phase = if one_phase {
                    out.cancel_timer(Timer::Timeout(txn)); // Whether it commits is not ours to say any more.
                    Phase::Alone { work }
                } else {
                    Phase::Preparing {
                        votes: Votes::of_all(work.shards()),
                        work,
                        readers: BTreeSet::new(),
                    }
                };
                self.open.insert(txn, phase);
                self.call(txn, out);
            }
        }
    }

    fn on_vote(&mut self, from: Addr, xid: Xid, shard: ShardId, code: Code, out: &mut Out) {
        let txn = xid.txn;
        if code == Code::Ok && self.is_stray(xid) {
            return self.presume_rollback(from, xid, out);
        }
        let Some(Phase::Preparing {
            work,
            votes,
            readers,
        }) = self.open.get_mut(&txn)
        else {
            return;
        };
        if work.attempt != xid.attempt {
            return;
        }
        if code == Code::ReadOnly {
            readers.insert(shard);
        }
        match votes.record(shard, code != Code::NotA) {
            Tally::Open => {}
            Tally::Accepted => self.decide(txn, out),
            Tally::Refused => self.roll_back(txn, AbortReason::VotedNo, Some(shard), out),
        }
    }

    /// A vote that was not durable. Of which attempt it does not say: rolling back is always safe before the decision, and the scan
    /// finds a branch that is prepared all the same.
    fn on_no(&mut self, txn: TxnId, shard: ShardId, out: &mut Out) {
        if let Some(Phase::Preparing { votes, .. }) = self.open.get_mut(&txn)
            && votes.record(shard, false) == Tally::Refused
        {
            self.roll_back(txn, AbortReason::VotedNo, Some(shard), out);
        }
    }

    fn time_out(&mut self, txn: TxnId, out: &mut Out) {
        let phase = self.open.get(&txn);
        if let Some(Phase::Ending { .. } | Phase::Preparing { .. }) = phase {
            out.observe(Observation::Mark("xa.timeout"));
            self.roll_back(txn, AbortReason::Timeout, None, out);
        }
    }

    /// Presumed rollback: no record is written of it, and no return is awaited. A branch that does not hear of it is found by
    /// the scan. Who refused has rolled back already.
    fn roll_back(&mut self, txn: TxnId, why: AbortReason, refused: Option<ShardId>, out: &mut Out) {
        let (work, readers) = match self.open.remove(&txn) {
            Some(Phase::Ending { work, .. } | Phase::Alone { work }) => (work, BTreeSet::new()),
            Some(Phase::Preparing { work, readers, .. }) => (work, readers),
            phase => unreachable!("{txn} is rolled back in {phase:?}"),
        };
        out.cancel_timer(Timer::Timeout(txn));
        out.cancel_timer(Timer::Resend(txn));
        let commit = false;
        out.observe(Observation::Decided { txn, commit });
        let xid = xid(txn, &work);
        let stays = |shard: &ShardId| !readers.contains(shard) && refused != Some(*shard);
        for shard in work.shards().filter(stays) {
            let to = self.site.resource_manager(shard);
            out.send(to, Message::Rollback { xid, why });
        }
        self.refuse(txn, Outcome::Aborted { why }, work.client);
    }

    /// Every vote is yes. Where all have only read, there is nothing left to do.
    fn decide(&mut self, txn: TxnId, out: &mut Out) {
        let phase = self.open.remove(&txn);
        let Some(Phase::Preparing { work, readers, .. }) = phase else {
            unreachable!("{txn} is decided in {phase:?}");
        };
        out.cancel_timer(Timer::Timeout(txn));
        out.cancel_timer(Timer::Resend(txn));
        let branches: BTreeSet<ShardId> = { work.shards() }
            .filter(|shard| !readers.contains(shard))
            .collect();
        if branches.is_empty() {
            return self.committed_unrecorded(txn, work, out);
        }
        let attempt = work.attempt;
        let decision = Decision { attempt, branches };
        self.open.insert(txn, Phase::Deciding { work, decision });
        self.force(Continuation::Decided(txn));
    }

    fn committed_unrecorded(&mut self, txn: TxnId, work: Work, out: &mut Out) {
        let commit = true;
        self.unrecorded.insert(txn);
        self.answer(txn, work.client, work.reads, out);
        out.observe(Observation::Ended { txn, commit });
    }

    fn decided(&mut self, txn: TxnId, out: &mut Out) {
        let phase = self.open.remove(&txn);
        let Some(Phase::Deciding { work, decision }) = phase else {
            unreachable!("{txn} was not being decided, but {phase:?}");
        };
        let commit = true;
        out.observe(Observation::Decided { txn, commit });
        self.await_returns(txn, decision.branches.clone());
        self.committed.insert(txn, decision);
        if self.site.options.commit_return == CommitReturn::DecisionLogged {
            self.answer(txn, work.client, work.reads, out);
        } else if let Some(Phase::Committed { client, reads, .. }) = self.open.get_mut(&txn) {
            (*client, *reads) = (Some(work.client), work.reads);
        }
        self.call(txn, out);
    }

    /// A branch is committed: in the second phase, in one phase, or in one phase by an earlier incarnation, which had written
    /// nothing.
    fn on_committed(&mut self, txn: TxnId, shard: ShardId, out: &mut Out) {
        match self.open.get_mut(&txn) {
            Some(Phase::Committed { .. }) => self.returned(txn, shard, out),
            Some(Phase::Alone { work }) => {
                let work = work.clone();
                self.open.remove(&txn);
                out.cancel_timer(Timer::Resend(txn));
                self.committed_unrecorded(txn, work, out);
            }
            Some(_) => {}
            None => {
                if let Some(client) = self.withdraw(txn, out) {
                    out.observe(Observation::Mark("xa.one-phase-recovered"));
                    let commit = true;
                    self.unrecorded.insert(txn);
                    self.answer(txn, client, Vec::new(), out);
                    out.observe(Observation::Ended { txn, commit });
                }
            }
        }
    }

    /// `xa_commit` has returned: the branch owes nothing more.
    fn returned(&mut self, txn: TxnId, shard: ShardId, out: &mut Out) {
        let Some(Phase::Committed { returned, .. }) = self.open.get_mut(&txn) else {
            return;
        };
        if returned.record(shard, true) == Tally::Accepted {
            self.complete(txn, out);
        }
    }

    /// Every branch has answered `xa_commit`.
    fn complete(&mut self, txn: TxnId, out: &mut Out) {
        out.cancel_timer(Timer::Resend(txn));
        self.journal.write_lazily(Record::End { txn });
        if let Some(code) = self.outcome(txn) {
            mark_outcome(code, out);
        }
        if let Some(Phase::Committed {
            client: Some(client),
            reads,
            ..
        }) = self.open.remove(&txn)
        {
            self.answer(txn, client, reads, out);
        }
        let commit = true;
        out.observe(Observation::Ended { txn, commit });
    }

    // Heuristic decisions.

    /// `xa_commit` finds no branch. In one phase it was never committed. In the second phase it had been prepared: what became
    /// of it is gone, and cannot be known.
    fn on_unknown(&mut self, xid: Xid, shard: ShardId, out: &mut Out) {
        let txn = xid.txn;
        match self.open.get(&txn) {
            Some(Phase::Alone { work }) if work.attempt == xid.attempt => {
                self.roll_back(txn, AbortReason::VotedNo, Some(shard), out);
            }
            Some(Phase::Committed { returned, .. })
                if returned.misses(shard) && self.committed[&txn].attempt == xid.attempt =>
            {
                self.on_heuristic(xid, shard, Code::HeurHaz, true, out);
            }
            _ => {}
        }
    }

    /// A branch did as it thought best: that is recorded, and then forgotten there.
    fn on_heuristic(&mut self, xid: Xid, shard: ShardId, code: Code, commit: bool, out: &mut Out) {
        let branch = (xid.txn, shard);
        if self.heuristics.contains_key(&branch) {
            return self.forget(xid, shard, out);
        }
        if self.recording.insert(branch) {
            self.force(Continuation::Heuristic {
                branch,
                code,
                xid,
                commit,
            });
        }
    }

    fn heuristic_recorded(
        &mut self,
        branch: BranchId,
        code: Code,
        xid: Xid,
        commit: bool,
        out: &mut Out,
    ) {
        let (txn, shard) = branch;
        self.recording.remove(&branch);
        self.heuristics.insert(branch, code);
        if code != Code::HeurHaz {
            self.forget(xid, shard, out);
        }
        if commit {
            self.returned(txn, shard, out);
        } else if let Some(code) = self.outcome(txn) {
            mark_outcome(code, out);
        }
    }

    fn forget(&self, xid: Xid, shard: ShardId, out: &mut Out) {
        out.send(self.site.resource_manager(shard), Message::Forget { xid });
    }

    // The recovery scan.

    fn scan(&self, restarted: bool, out: &mut Out) {
        for shard in self.site.layout.shard_ids() {
            let to = self.site.resource_manager(shard);
            out.send(to, Message::Recover { restarted });
        }
        out.set_timer(Timer::Scan, self.site.options.recovery_ms.about());
    }

    /// The log knows the decision, or there was none.
    fn on_recovered(&mut self, shard: ShardId, xids: Vec<Xid>, out: &mut Out) {
        let to = self.site.resource_manager(shard);
        for xid in xids {
            let decision = { self.committed.get(&xid.txn) };
            if decision.is_some_and(|decision| decision.attempt == xid.attempt) {
                out.observe(Observation::Mark("xa.scan-committed"));
                let one_phase = None;
                out.send(to, Message::Commit { xid, one_phase });
            } else if self.is_stray(xid) {
                self.presume_rollback(to, xid, out);
            }
        }
    }

    /// Whether nothing is known of this attempt: it is neither under way nor to commit.
    fn is_stray(&self, xid: Xid) -> bool {
        let Xid { txn, attempt } = xid;
        let open = { self.open.get(&txn) }.and_then(Phase::work);
        let decision = self.committed.get(&txn);
        open.is_none_or(|work| work.attempt != attempt)
            && decision.is_none_or(|decision| decision.attempt != attempt)
    }

    fn presume_rollback(&mut self, to: Addr, xid: Xid, out: &mut Out) {
        let (txn, commit, why) = (xid.txn, false, AbortReason::Presumed);
        let is_known = self.open.contains_key(&txn)
            || self.committed.contains_key(&txn)
            || self.unrecorded.contains(&txn)
            || self.execution.is_running(txn);
        if !is_known && self.presumed.insert(txn) {
            out.observe(Observation::Decided { txn, commit });
            out.observe(Observation::Ended { txn, commit });
        }
        out.observe(Observation::Mark("xa.presumed-abort"));
        out.send(to, Message::Rollback { xid, why });
    }
}

fn xid(txn: TxnId, work: &Work) -> Xid {
    let attempt = work.attempt;
    Xid { txn, attempt }
}

fn mark_outcome(code: Code, out: &mut Out) {
    out.observe(Observation::Mark(match code {
        Code::HeurCom => "xa.heuristic-commit",
        Code::HeurRb => "xa.heuristic-rollback",
        Code::HeurMix => "xa.heuristic-mixed",
        Code::HeurHaz => "xa.heuristic-hazard",
        code => unreachable!("{} is no outcome", code.name()),
    }));
}
