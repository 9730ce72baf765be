//! A resource manager: it keeps rows, locks and prepared branches, and does as it is called. It never asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::heuristic::{self, Alone};
use super::{Call, Code, Message, Options, Out, Site, Timer, Xid};
use crate::base::observation::{AbortReason, Observation};
use crate::base::process::{Addr, WallTime};
use crate::base::txn::{ShardId, TxnId};
use crate::protocol::kit::execution::{self, Grant, LockRequest, Part};
use crate::protocol::kit::participant::{
    self, Commitment, Marks, Never, Phase, Setting, participant_marks,
};

/// A data machine.
pub type ResourceManager = participant::Participant<Branch>;

pub(super) type Vote = participant::Vote<Branch>;

/// Who coordinates a branch: what its vote records.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Superior {
    manager: Addr,
}

/// What a resource manager keeps in memory of its branches.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Branch {
    site: Arc<Site>,
    /// Branches whose work is done and that are not prepared.
    ended: BTreeMap<TxnId, Arc<Part>>,
    /// Commits in one phase that are on their way to the disk.
    one_phase: BTreeMap<TxnId, Xid>,
    /// What is being decided alone.
    pub(super) deciding: BTreeMap<TxnId, bool>,
    /// What was decided alone, until it is forgotten.
    pub(super) alone: BTreeMap<TxnId, Alone>,
    /// What was decided alone and is forgotten. That no branch may start again is all that is left of it.
    pub(super) forgotten: BTreeSet<TxnId>,
}

pub(super) fn resource_manager(site: Arc<Site>, shard: ShardId) -> ResourceManager {
    let checkpoint_min_bytes = site.options.checkpoint_min_bytes();
    let branch = Branch {
        site,
        ended: BTreeMap::new(),
        one_phase: BTreeMap::new(),
        deciding: BTreeMap::new(),
        alone: BTreeMap::new(),
        forgotten: BTreeSet::new(),
    };
    ResourceManager::new(shard, checkpoint_min_bytes, branch)
}

/// Which global transaction a vote is for.
pub(super) fn xid_of(vote: &Vote) -> Xid {
    let (txn, attempt) = (vote.txn, vote.attempt);
    Xid { txn, attempt }
}

impl Commitment for Branch {
    type Message = Message;
    type Timer = Timer;
    type Vote = Superior;
    type Start = Never;
    type Record = heuristic::Record;
    type Checkpoint = heuristic::Kept;
    type Continuation = heuristic::Continuation;

    const DAMAGED: &'static str = "a resource manager's log is damaged";
    const MARKS: Marks = participant_marks!("xa");

    fn setting(&self) -> Setting<'_> {
        Setting {
            layout: &self.site.layout,
            execution: &self.site.execution,
            one_participant: false,
        }
    }

    fn no(txn: TxnId, shard: ShardId) -> Message {
        Message::RolledBack { txn, shard }
    }

    fn ack(txn: TxnId, shard: ShardId) -> Message {
        Message::Committed { txn, shard }
    }

    fn announce(&self, shard: ShardId, boot: u64, out: &mut Out) {
        for manager in self.site.layout.fronts() {
            out.send(Addr::on(manager), Message::Restarted { shard, boot });
        }
    }

    fn inquiry(txn: TxnId) -> Timer {
        Timer::InDoubt(txn)
    }

    fn begin(_: &ResourceManager, txn: TxnId, _: Vec<Part>) -> (Superior, Never) {
        unreachable!("{txn}: clients talk to transaction managers")
    }

    fn coordinator(vote: &Vote) -> Addr {
        vote.own.manager
    }

    fn members(vote: &Vote) -> BTreeSet<ShardId> {
        unreachable!("{}: only an initiator knows the others", vote.txn)
    }

    fn on_doubt(this: &mut ResourceManager, txn: TxnId, out: &mut Out) {
        this.limit_doubt(txn, out);
    }

    /// The return of `xa_prepare`.
    fn cast(this: &mut ResourceManager, vote: &Arc<Vote>, out: &mut Out) {
        let (xid, manager) = (xid_of(vote), vote.own.manager);
        this.returns(manager, Call::Prepare, xid, Code::Ok, out);
        let scanned = this.options().recovery_ms.about();
        out.set_timer(Timer::InDoubt(xid.txn), scanned);
    }

    fn on_message(
        this: &mut ResourceManager,
        now: WallTime,
        from: Addr,
        message: Message,
        out: &mut Out,
    ) {
        match message {
            Message::Execution(execution::Message::Lock(request)) => {
                this.on_start(now, from, request, out);
            }
            Message::Execution(message) => this.on_execution(now, from, message, out),
            Message::End { xid, part } => this.on_end(from, xid, part, out),
            Message::Prepare { xid, grant } => this.on_prepare(from, xid, grant, out),
            Message::Commit { xid, one_phase } => this.on_commit(from, xid, one_phase, out),
            Message::Rollback { xid, why } => this.on_rollback(now, from, xid, why, out),
            Message::Recover { restarted } => this.on_recover(from, restarted, out),
            Message::Forget { xid } => this.forget_alone(xid.txn, "xa.forgotten", out),
            Message::Client(_)
            | Message::Return { .. }
            | Message::Committed { .. }
            | Message::RolledBack { .. }
            | Message::Recovered { .. }
            | Message::Restarted { .. } => {
                unreachable!("{message:?} is for a transaction manager")
            }
        }
    }

    fn on_timer(this: &mut ResourceManager, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Execution(timer) => this.on_execution_timer(timer, out),
            Timer::InDoubt(txn) if this.in_doubt(txn).is_some() => {
                out.observe(Observation::Mark("xa.in-doubt"));
            }
            Timer::Heuristic(txn) => this.decide_alone(txn, out),
            Timer::Purge(txn) => this.forget_alone(txn, "xa.purged", out),
            Timer::InDoubt(_)
            | Timer::Client(_)
            | Timer::Resend(_)
            | Timer::Timeout(_)
            | Timer::Scan => {}
        }
    }

    fn on_alone(
        this: &mut ResourceManager,
        alone: participant::Alone,
        has_committed: bool,
        out: &mut Out,
    ) {
        let (txn, shard) = (alone.txn, this.shard());
        let xid = { this.own.one_phase.remove(&txn) }.expect("it was to commit in one phase");
        if has_committed {
            out.observe(Observation::Mark("xa.one-phase"));
            return out.send(alone.asker, Message::Committed { txn, shard });
        }
        this.returns(alone.asker, Call::Commit, xid, Code::RbRollback, out);
    }

    // What was decided alone.

    fn on_forget(&mut self, txn: TxnId, out: &mut Out) {
        out.cancel_timer(Timer::Heuristic(txn));
    }

    fn is_over(&self, txn: TxnId) -> bool {
        self.alone.contains_key(&txn) || self.forgotten.contains(&txn)
    }

    fn on_recovered(this: &mut ResourceManager, out: &mut Out) {
        this.recall_alone(out);
    }

    fn replay(this: &mut ResourceManager, record: heuristic::Record) {
        this.replay_alone(record);
    }

    fn checkpoint(&self) -> heuristic::Kept {
        let alone = self.alone.values();
        let alone = alone.map(|alone| (Arc::clone(&alone.vote), alone.commit));
        heuristic::Kept {
            alone: alone.collect(),
            forgotten: self.forgotten.clone(),
        }
    }

    fn restore(&mut self, kept: heuristic::Kept) {
        self.forgotten = kept.forgotten;
        for (vote, commit) in kept.alone {
            self.keep_decided_alone(vote, commit);
        }
    }

    fn on_durable(this: &mut ResourceManager, next: heuristic::Continuation, out: &mut Out) {
        match next {
            heuristic::Continuation::Decided(txn) => this.decided_alone(txn, out),
            heuristic::Continuation::Forgotten(txn) => this.forgotten_alone(txn, out),
        }
    }

    fn on_lost(this: &mut ResourceManager, next: heuristic::Continuation, _: &mut Out) {
        match next {
            heuristic::Continuation::Decided(txn) => this.force_decided_alone(txn),
            heuristic::Continuation::Forgotten(txn) => this.force_forgotten(txn),
        }
    }
}

impl ResourceManager {
    /// The deployment's options.
    pub(super) fn options(&self) -> &Options {
        &self.own.site.options
    }

    fn returns(&self, manager: Addr, call: Call, xid: Xid, code: Code, out: &mut Out) {
        let shard = self.shard();
        out.send(
            manager,
            Message::Return {
                call,
                xid,
                shard,
                code,
            },
        );
    }

    /// The work of a branch that may be prepared: it holds the locks under which it read.
    fn ended(&self, txn: TxnId, grant: Grant) -> Option<Arc<Part>> {
        let part = self.own.ended.get(&txn)?;
        let holds = part.grant == grant && self.grant(txn) == Some(grant);
        holds.then(|| Arc::clone(part))
    }

    /// Gives back the locks of a branch that only read. There is nothing to carry out, and nothing to write.
    fn leave_read_only(&mut self, txn: TxnId, part: &Part, out: &mut Out) -> bool {
        let leaves = part.writes.is_empty() && self.options().read_only;
        if leaves {
            let held = self.leave(txn, part, out);
            assert!(held, "{txn} holds its locks");
            self.own.ended.remove(&txn);
            out.observe(Observation::Mark("xa.read-only"));
        }
        leaves
    }

    // The calls.

    /// `xa_start`, with the statements that lock and read. Whoever has a trace of an earlier attempt says so: its transaction
    /// manager has lost its memory.
    fn on_start(&mut self, now: WallTime, from: Addr, request: Arc<LockRequest>, out: &mut Out) {
        let (txn, attempt, shard) = (request.txn, request.attempt, self.shard());
        if self.has_committed(txn) {
            return out.send(from, Message::Committed { txn, shard });
        }
        let other = |phase: &Phase<Branch>| phase.any_vote().attempt != attempt;
        let is_over = self.has_aborted(txn) || self.own.is_over(txn);
        if is_over || self.phase(txn).is_some_and(other) {
            out.observe(Observation::Mark("xa.duplicate-xid"));
            let xid = Xid { txn, attempt };
            return self.returns(from, Call::Start, xid, Code::DupId, out);
        }
        self.on_execution(now, from, execution::Message::Lock(request), out);
    }

    /// `xa_end`, with the statements that write.
    fn on_end(&mut self, from: Addr, xid: Xid, part: Arc<Part>, out: &mut Out) {
        let code = if self.grant(xid.txn) == Some(part.grant) {
            let mut ended = std::mem::take(&mut self.own.ended);
            ended.retain(|txn, part| self.grant(*txn) == Some(part.grant));
            ended.insert(xid.txn, part);
            self.own.ended = ended;
            Code::Ok
        } else {
            Code::NotA
        };
        self.returns(from, Call::End, xid, code, out);
    }

    /// `xa_prepare`. What was decided alone in the meantime was prepared.
    fn on_prepare(&mut self, from: Addr, xid: Xid, grant: Grant, out: &mut Out) {
        let txn = xid.txn;
        let alone = { self.own.alone.get(&txn) }.map(|alone| xid_of(&alone.vote));
        let voted =
            { self.phase(txn) }.map(|phase| (xid_of(phase.any_vote()), phase.vote().is_some()));
        match voted {
            Some((known, false)) if known == xid => {} // The vote follows once it is durable.
            Some((known, true)) if known == xid => {
                self.returns(from, Call::Prepare, xid, Code::Ok, out);
            }
            _ if alone == Some(xid) => self.returns(from, Call::Prepare, xid, Code::Ok, out),
            _ => match self.ended(txn, grant) {
                Some(part) if self.leave_read_only(txn, &part, out) => {
                    self.returns(from, Call::Prepare, xid, Code::ReadOnly, out);
                }
                Some(part) => {
                    self.own.ended.remove(&txn);
                    let manager = from;
                    self.prepare(from, txn, &part, Superior { manager }, out);
                }
                None => {
                    out.observe(Observation::Mark("xa.grant-lost"));
                    self.returns(from, Call::Prepare, xid, Code::NotA, out);
                }
            },
        }
    }

    /// `xa_commit`, in one phase or in the second.
    fn on_commit(&mut self, from: Addr, xid: Xid, one_phase: Option<Grant>, out: &mut Out) {
        let (txn, shard) = (xid.txn, self.shard());
        if self.report_alone(from, Call::Commit, xid, out) {
            return;
        }
        if { self.phase(txn) }.is_some_and(|phase| xid_of(phase.any_vote()) == xid) {
            return self.commit(from, txn, out);
        }
        if self.has_committed(txn) {
            return self.commit(from, txn, out); // The return was lost.
        }
        if self.own.one_phase.contains_key(&txn) {
            return; // It follows once the commit is durable.
        }
        match one_phase.and_then(|grant| self.ended(txn, grant)) {
            Some(part) if self.leave_read_only(txn, &part, out) => {
                out.send(from, Message::Committed { txn, shard });
            }
            Some(part) => {
                self.own.ended.remove(&txn);
                self.own.one_phase.insert(txn, xid);
                self.commit_alone(participant::Alone {
                    txn,
                    writes: part.writes.clone(),
                    asker: from,
                    reads: Vec::new(),
                });
            }
            None => self.returns(from, Call::Commit, xid, Code::NotA, out),
        }
    }

    /// `xa_rollback`: it drops this attempt's branch and no other one. Nobody waits for its return, but where it was decided
    /// alone.
    fn on_rollback(
        &mut self,
        now: WallTime,
        from: Addr,
        xid: Xid,
        why: AbortReason,
        out: &mut Out,
    ) {
        let Xid { txn, attempt } = xid;
        if self.report_alone(from, Call::Rollback, xid, out) {
            return;
        }
        match { self.phase(txn) }.map(|phase| xid_of(phase.any_vote())) {
            Some(known) if known == xid => self.abort(txn, why, out),
            Some(_) => {}
            None => {
                let release = execution::Message::Release { txn, attempt };
                self.on_execution(now, from, release, out);
            }
        }
    }

    /// `xa_recover`: the branches of this transaction manager that are prepared or heuristically completed.
    fn on_recover(&mut self, from: Addr, restarted: bool, out: &mut Out) {
        if restarted {
            self.on_initiator_restarted(from, out);
        }
        let prepared = { self.voted() }.filter_map(|txn| self.in_doubt(txn));
        let alone = { self.own.alone.values() }.map(|alone| Arc::clone(&alone.vote));
        let all = prepared.chain(alone);
        let its = all.filter(|vote| vote.own.manager == from);
        let xids = its.map(|vote| xid_of(&vote)).collect();
        let shard = self.shard();
        out.send(from, Message::Recovered { shard, xids });
    }
}
