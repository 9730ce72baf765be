//! The orchestrator: a durable state machine for each saga.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Message, Out, Refusal, Site, Step, StepRequest, Timer};
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::process::{Addr, FileId, Input, Process, WallTime};
use crate::base::txn::{Footprint, Guard, Key, Read, Row, ShardId, Txn, TxnId};
use crate::base::zoo::{self, Bug};
use crate::protocol::Autopsy;
use crate::protocol::kit::client::ClientMessage;
use crate::protocol::kit::durable;
use crate::protocol::kit::journal::Journal;
use crate::scenario::layout::Layout;
use crate::shard::recovery::Recovery;

const LOG: FileId = FileId(0);

/// How many committed transactions' reads are kept for replies that got lost.
const REPLIES_KEPT: usize = 1_024;

/// A saga as it begins.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Plan {
    txn: TxnId,
    client: Addr,
    steps: Vec<Step>,
    /// Position of the pivot among the steps.
    pivot: u16,
    /// What was read beforehand.
    reads: Vec<Read>,
}

impl Plan {
    /// The steps of a transaction, given the rows of its pointers.
    fn new(layout: &Layout, txn: &Txn, client: Addr, rows: &BTreeMap<Key, Row>) -> Self {
        let value_of = |key: Key| rows.get(&key).map_or(0, |row| row.value.as_int());
        let mut steps: Vec<Step> = Vec::new();
        let mut pivot = 0;
        for (at, write) in txn.writes(value_of).into_iter().enumerate() {
            let shard = layout.shard_of(write.key);
            if steps.last().is_none_or(|step| step.shard != shard) {
                steps.push(Step {
                    shard,
                    reads: BTreeSet::new(),
                    guards: Vec::new(),
                    writes: Vec::new(),
                });
            }
            let last = steps.len() - 1;
            steps[last].reads.insert(write.key);
            steps[last].writes.push(write);
            if txn.pivot.is_none_or(|pivot| usize::from(pivot) >= at) {
                pivot = last as u16;
            }
        }
        for (at, guard) in txn.guards.iter().enumerate() {
            let is_there = |step: &&mut Step| {
                let mut keys = guard.keys().iter();
                keys.all(|key| layout.shard_of(*key) == step.shard)
            };
            let compensatable = steps.iter_mut().take(usize::from(pivot) + 1);
            if let Some(step) = { compensatable }.find(is_there) {
                step.reads.extend(guard.keys());
                step.guards.push((at as u16, guard.clone()));
            }
        }
        Self {
            txn: txn.id,
            client,
            steps,
            pivot,
            reads: Vec::new(),
        }
    }

    /// The rows to read beforehand: those that no step returns.
    fn upfront(&self, footprint: &Footprint) -> BTreeSet<Key> {
        let covered = |key: &&Key| self.steps.iter().any(|step| step.reads.contains(key));
        let keys = footprint.reads.iter().filter(|key| !covered(key));
        keys.copied().collect()
    }

    /// The first guard that no step checks and that does not hold on what was read.
    fn failing_guard(&self, guards: &[Guard], rows: &BTreeMap<Key, Row>) -> Option<u16> {
        let value_of = |key: Key| rows.get(&key).map_or(0, |row| row.value.as_int());
        let is_checked = |at: usize| {
            let mut checked = self.steps.iter().flat_map(|step| &step.guards);
            checked.any(|(checked, _)| usize::from(*checked) == at)
        };
        let mut guards = guards.iter().enumerate();
        let failing = guards.find(|(at, guard)| !is_checked(*at) && !guard.holds(value_of));
        failing.map(|(at, _)| at as u16)
    }

    fn shards(&self) -> BTreeSet<ShardId> {
        self.steps.iter().map(|step| step.shard).collect()
    }
}

/// What the log holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum Record {
    /// A saga, before its first step.
    Begin(Arc<Plan>),
    /// Before the pivot is sent: from here on the saga goes forward, unless the pivot is refused.
    Pivot { txn: TxnId, reads: Vec<Read> },
    /// The saga goes backward, undoing the steps below `undo`, and this is what the client will be told.
    Aborting {
        txn: TxnId,
        outcome: Outcome,
        undo: u16,
    },
    /// A transaction that was declined before it became a saga.
    Refused { txn: TxnId, outcome: Outcome },
    /// Nothing is left to do. Lazy.
    End { txn: TxnId, outcome: Outcome },
    /// Everything before this record.
    Checkpoint {
        running: Vec<(Arc<Plan>, Durable)>,
        ended: BTreeMap<TxnId, Outcome>,
    },
}

/// How far a saga has durably come.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum Durable {
    Begun,
    Pivot(Vec<Read>),
    Aborting { outcome: Outcome, undo: u16 },
}

/// What follows a forced record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Continuation {
    Begin(Arc<Plan>),
    Pivot(TxnId),
    Aborting(TxnId),
    Refused {
        txn: TxnId,
        outcome: Outcome,
        client: Addr,
    },
}

/// A transaction whose values are being read before it becomes a saga.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Gathering {
    txn: Arc<Txn>,
    client: Addr,
    rows: BTreeMap<Key, Row>,
    missing: BTreeSet<Key>,
    /// Gathered; on its way to the disk.
    complete: bool,
}

/// What a saga is doing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// This step is out.
    Forward(u16),
    /// The record before the pivot is on its way to the disk.
    Pivoting,
    /// So is the decision to go backward.
    Aborting { outcome: Outcome, undo: u16 },
    /// Steps below this one are to be undone, the last one first.
    Backward { outcome: Outcome, undo: u16 },
    /// All steps are done; these shards still mark the saga's rows.
    Confirming(BTreeSet<ShardId>),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Running {
    plan: Arc<Plan>,
    durable: Durable,
    reads: BTreeMap<Key, Row>,
    phase: Phase,
}

impl Running {
    /// The step to compensate next, with `undo` of them left: the last one first.
    fn next_undo(&self, undo: u16) -> u16 {
        match &self.durable {
            Durable::Aborting { undo: all, .. } if zoo::planted(Bug::CompensationInOrder) => {
                all - undo
            }
            _ => undo - 1,
        }
    }
}

/// Where a saga stands, seen from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SagaView {
    /// This step is out.
    Forward(u16),
    /// The step before the pivot is done; the record before the pivot is on its way to the disk.
    Pivoting,
    /// The decision to go backward is on its way to the disk.
    Turning,
    /// This step is being undone.
    Backward(u16),
    /// All steps are done.
    Completed,
    /// It had no effect, or has none any more.
    Compensated,
}

/// An orchestrator.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Orchestrator {
    site: Arc<Site>,
    journal: Journal<Record, Continuation>,
    gathering: BTreeMap<TxnId, Gathering>,
    running: BTreeMap<TxnId, Running>,
    /// What clients were told. Committed ones without their reads.
    ended: BTreeMap<TxnId, Outcome>,
    replies: BTreeMap<TxnId, Vec<Read>>,
}

fn as_reads(rows: &BTreeMap<Key, Row>) -> Vec<Read> {
    let read = |(key, row): (&Key, &Row)| Read {
        key: *key,
        row: row.clone(),
    };
    rows.iter().map(read).collect()
}

fn as_rows(reads: &[Read]) -> BTreeMap<Key, Row> {
    let row = |read: &Read| (read.key, read.row.clone());
    reads.iter().map(row).collect()
}

impl Orchestrator {
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self {
            journal: Journal::new(LOG, site.options.checkpoint_min_bytes()),
            site,
            gathering: BTreeMap::new(),
            running: BTreeMap::new(),
            ended: BTreeMap::new(),
            replies: BTreeMap::new(),
        }
    }

    /// Where a saga stands here, if it has begun.
    pub fn view(&self, txn: TxnId) -> Option<SagaView> {
        let Some(running) = self.running.get(&txn) else {
            let outcome = self.ended.get(&txn)?;
            return Some(match outcome {
                Outcome::Committed { .. } => SagaView::Completed,
                _ => SagaView::Compensated,
            });
        };
        Some(match &running.phase {
            Phase::Forward(step) => SagaView::Forward(*step),
            Phase::Pivoting => SagaView::Pivoting,
            Phase::Aborting { .. } => SagaView::Turning,
            Phase::Backward { undo, .. } => SagaView::Backward(running.next_undo(*undo)),
            Phase::Confirming(_) => SagaView::Completed,
        })
    }

    /// The steps of a running saga, and the position of its pivot.
    pub fn steps(&self, txn: TxnId) -> Option<(&[Step], u16)> {
        let plan = &self.running.get(&txn)?.plan;
        Some((&plan.steps, plan.pivot))
    }

    /// Whether rows of unfinished sagas are marked.
    pub fn has_locks(&self) -> bool {
        self.site.has_locks()
    }

    /// The sagas that have begun and not ended.
    pub fn open(&self) -> impl Iterator<Item = TxnId> + '_ {
        self.running.keys().copied()
    }
}

impl Process for Orchestrator {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        durable::step(self, now, input, out);
    }
}

impl durable::Durable<Record, Continuation> for Orchestrator {
    const DAMAGED: &'static str = "an orchestrator's log is damaged";

    fn journal(&mut self) -> &mut Journal<Record, Continuation> {
        &mut self.journal
    }

    fn checkpoint(&self) -> Record {
        let running = |running: &Running| (Arc::clone(&running.plan), running.durable.clone());
        Record::Checkpoint {
            running: self.running.values().map(running).collect(),
            ended: self.ended.clone(),
        }
    }

    /// Backward before the pivot, forward after.
    fn recover(&mut self, records: Vec<Record>, out: &mut Out) {
        let mut sagas: BTreeMap<TxnId, (Arc<Plan>, Durable)> = BTreeMap::new();
        for record in records {
            self.replay(record, &mut sagas);
        }
        for (txn, (plan, durable)) in sagas {
            self.resume(txn, plan, durable, out);
        }
    }

    fn on_message(&mut self, _: WallTime, from: Addr, message: Message, out: &mut Out) {
        match message {
            Message::Client(ClientMessage::Request { txn }) => self.on_request(from, txn, out),
            Message::Values { txn, rows } => self.on_values(txn, rows, out),
            Message::Done { txn, step, rows } => self.on_done(txn, step, rows, out),
            Message::Refused { txn, step, refusal } => self.on_refused(txn, step, refusal, out),
            Message::Compensated { txn, step } => self.on_compensated(txn, step, out),
            Message::Confirmed { txn, shard } => self.on_confirmed(txn, shard, out),
            message => unreachable!("{message:?} is for a client or a shard"),
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Resend(txn) => self.resend(txn, out),
            Timer::StepTimeout(txn) => self.time_out(txn, out),
            _ => {}
        }
    }

    fn on_durable(&mut self, _: WallTime, next: Continuation, out: &mut Out) {
        self.follow(next, out);
    }

    fn on_lost(&mut self, next: Continuation, _: &mut Out) {
        self.force(next);
    }
}

impl Autopsy for Orchestrator {
    /// It ends when no saga is left to be completed or undone.
    fn recovery(&self) -> Recovery {
        Recovery::waits_on(self.open().collect(), "for the steps of")
    }
}

impl Orchestrator {
    // Requests, and what must be read before a saga begins.

    fn on_request(&mut self, client: Addr, txn: Arc<Txn>, out: &mut Out) {
        let id = txn.id;
        if let Some(outcome) = self.ended.get(&id) {
            let commit = matches!(outcome, Outcome::Committed { .. });
            let outcome = match self.replies.get(&id) {
                Some(reads) => Outcome::Committed {
                    reads: reads.clone(),
                },
                None => outcome.clone(),
            };
            out.observe(Observation::Mark("saga.reply-repeated"));
            // Stated again, because a crash may have come between the record and the words.
            out.observe(Observation::Ended { txn: id, commit });
            return self.reply(id, client, outcome, out);
        }
        if self.running.contains_key(&id) || self.gathering.contains_key(&id) {
            return; // The answer will come.
        }
        out.observe(Observation::Initiated { txn: id });
        let gathering = Gathering {
            client,
            rows: BTreeMap::new(),
            missing: txn.pointers(),
            complete: false,
            txn,
        };
        self.gathering.insert(id, gathering);
        self.gather(id, out);
    }

    fn reply(&self, txn: TxnId, client: Addr, outcome: Outcome, out: &mut Out) {
        let reply = ClientMessage::Reply { txn, outcome };
        out.send(client, Message::Client(reply));
    }

    fn on_values(&mut self, txn: TxnId, rows: Vec<Read>, out: &mut Out) {
        let Some(gathering) = self.gathering.get_mut(&txn) else {
            return;
        };
        for Read { key, row } in rows {
            if gathering.missing.remove(&key) {
                gathering.rows.insert(key, row);
            }
        }
        if gathering.missing.is_empty() && !gathering.complete {
            self.gather(txn, out);
        }
    }

    /// Reads what is missing, first the pointers and then the rest, until the saga can begin.
    fn gather(&mut self, id: TxnId, out: &mut Out) {
        let gathering = { self.gathering.get_mut(&id) }.expect("it is being gathered");
        if gathering.missing.is_empty() {
            let (txn, client) = (Arc::clone(&gathering.txn), gathering.client);
            let rows = &gathering.rows;
            let mut plan = Plan::new(&self.site.layout, &txn, client, rows);
            let value_of = |key: Key| rows.get(&key).map_or(0, |row| row.value.as_int());
            let upfront = plan.upfront(&txn.footprint(value_of));
            let missing = { upfront.into_iter() }.filter(|key| !rows.contains_key(key));
            let missing: BTreeSet<Key> = missing.collect();
            if missing.is_empty() {
                gathering.complete = true;
                plan.reads = as_reads(rows);
                let declined = plan.failing_guard(&txn.guards, rows);
                return self.begin(plan, declined, out);
            }
            gathering.missing = missing;
        }
        self.send_reads(id, out);
    }

    fn send_reads(&mut self, txn: TxnId, out: &mut Out) {
        let missing = self.gathering[&txn].missing.iter().copied();
        for (shard, keys) in self.site.layout.by_shard(missing) {
            let to = self.site.shard_process(shard);
            out.send(to, Message::Read { txn, keys });
        }
        out.set_timer(Timer::Resend(txn), self.site.options.resend_ms.about());
    }

    fn begin(&mut self, plan: Plan, declined: Option<u16>, out: &mut Out) {
        let (txn, client) = (plan.txn, plan.client);
        out.cancel_timer(Timer::Resend(txn));
        if let Some(guard) = declined {
            let outcome = Outcome::Declined { guard };
            return self.force(Continuation::Refused {
                txn,
                outcome,
                client,
            });
        }
        if plan.steps.is_empty() {
            return self.end_read_only(plan, out);
        }
        self.force(Continuation::Begin(Arc::new(plan)));
    }

    /// A transaction that only reads: nothing to remember, and a repetition reads again.
    fn end_read_only(&mut self, plan: Plan, out: &mut Out) {
        let (txn, commit) = (plan.txn, true);
        self.gathering.remove(&txn);
        out.observe(Observation::Decided { txn, commit });
        out.observe(Observation::Ended { txn, commit });
        let reads = plan.reads;
        self.reply(txn, plan.client, Outcome::Committed { reads }, out);
    }

    // Forward.

    fn begun(&mut self, plan: Arc<Plan>, out: &mut Out) {
        let txn = plan.txn;
        self.gathering.remove(&txn);
        if self.site.options.acknowledge_at_start {
            let reads = Vec::new();
            self.reply(txn, plan.client, Outcome::Committed { reads }, out);
        }
        let running = Running {
            durable: Durable::Begun,
            reads: as_rows(&plan.reads),
            phase: Phase::Forward(0),
            plan,
        };
        self.running.insert(txn, running);
        self.advance(txn, 0, out);
    }

    /// Takes the next step; before the pivot the log has to know.
    fn advance(&mut self, txn: TxnId, step: u16, out: &mut Out) {
        let running = { self.running.get_mut(&txn) }.expect("it is running");
        let is_pivot = step == running.plan.pivot;
        // A saga whose first step is the pivot has begun with it.
        let is_logged = running.durable != Durable::Begun || zoo::planted(Bug::PivotNotLogged);
        if is_pivot && step > 0 && !is_logged {
            running.phase = Phase::Pivoting;
            out.cancel_timer(Timer::Resend(txn));
            out.cancel_timer(Timer::StepTimeout(txn));
            return self.force(Continuation::Pivot(txn));
        }
        running.phase = Phase::Forward(step);
        let timeout = self.site.options.step_timeout_ms;
        match step < running.plan.pivot && timeout.unless_never().is_some() {
            true => out.set_timer(Timer::StepTimeout(txn), timeout.exactly()),
            false => out.cancel_timer(Timer::StepTimeout(txn)),
        }
        self.resend(txn, out);
    }

    fn on_done(&mut self, txn: TxnId, step: u16, rows: Vec<Read>, out: &mut Out) {
        let Some(running) = self.running.get_mut(&txn) else {
            return;
        };
        if running.phase != Phase::Forward(step) {
            return; // A duplicate.
        }
        for Read { key, row } in rows {
            running.reads.entry(key).or_insert(row);
        }
        if step == running.plan.pivot {
            let commit = true;
            out.observe(Observation::Decided { txn, commit });
        }
        if usize::from(step) + 1 < running.plan.steps.len() {
            self.advance(txn, step + 1, out);
        } else {
            self.complete(txn, out);
        }
    }

    /// All steps are done.
    fn complete(&mut self, txn: TxnId, out: &mut Out) {
        let running = { self.running.get_mut(&txn) }.expect("it is running");
        let (client, reads) = (running.plan.client, as_reads(&running.reads));
        if !self.site.options.acknowledge_at_start {
            self.replies.insert(txn, reads.clone());
            if self.replies.len() > REPLIES_KEPT {
                self.replies.pop_first();
            }
            self.reply(txn, client, Outcome::Committed { reads }, out);
        }
        if !self.site.has_locks() {
            return self.end(txn, Outcome::Committed { reads: Vec::new() }, out);
        }
        let running = { self.running.get_mut(&txn) }.expect("it is running");
        running.phase = Phase::Confirming(running.plan.shards());
        self.resend(txn, out);
    }

    fn on_confirmed(&mut self, txn: TxnId, shard: ShardId, out: &mut Out) {
        let Some(running) = self.running.get_mut(&txn) else {
            return;
        };
        if let Phase::Confirming(missing) = &mut running.phase {
            missing.remove(&shard);
            if missing.is_empty() {
                self.end(txn, Outcome::Committed { reads: Vec::new() }, out);
            }
        }
    }

    fn end(&mut self, txn: TxnId, outcome: Outcome, out: &mut Out) {
        self.running.remove(&txn);
        out.cancel_timer(Timer::Resend(txn));
        out.cancel_timer(Timer::StepTimeout(txn));
        let commit = matches!(outcome, Outcome::Committed { .. });
        out.observe(Observation::Ended { txn, commit });
        self.ended.insert(txn, outcome.clone());
        self.journal.write_lazily(Record::End { txn, outcome });
    }

    // Backward.

    fn on_refused(&mut self, txn: TxnId, step: u16, refusal: Refusal, out: &mut Out) {
        let Some(running) = self.running.get(&txn) else {
            return;
        };
        if running.phase != Phase::Forward(step) {
            return; // A duplicate.
        }
        let pivot = running.plan.pivot;
        let undo = match refusal {
            // Durably refused: only the steps before it are undone.
            Refusal::Guard(_) | Refusal::Busy => step,
            // The refused step is blocked too: a duplicate of it might still be taken.
            Refusal::Disk if step < pivot => step + 1,
            Refusal::Disk => return, // Again, when the timer fires.
        };
        assert!(step <= pivot, "retriable: without guards, ignoring marks");
        let outcome = match refusal {
            Refusal::Guard(guard) => Outcome::Declined { guard },
            Refusal::Busy | Refusal::Disk => Outcome::Aborted {
                why: AbortReason::Compensated,
            },
        };
        self.go_backward(txn, outcome, undo, out);
    }

    fn time_out(&mut self, txn: TxnId, out: &mut Out) {
        let Some(running) = self.running.get(&txn) else {
            return;
        };
        if let Phase::Forward(step) = running.phase
            && step < running.plan.pivot
        {
            let why = AbortReason::Timeout;
            let undo = step + u16::from(!zoo::planted(Bug::TimedOutStepForgotten));
            self.go_backward(txn, Outcome::Aborted { why }, undo, out);
        }
    }

    /// Undoes the steps below `undo`, once the log says so.
    fn go_backward(&mut self, txn: TxnId, outcome: Outcome, undo: u16, out: &mut Out) {
        out.observe(Observation::Mark("saga.backward"));
        out.cancel_timer(Timer::Resend(txn));
        out.cancel_timer(Timer::StepTimeout(txn));
        let running = { self.running.get_mut(&txn) }.expect("it is running");
        running.phase = Phase::Aborting { outcome, undo };
        self.force(Continuation::Aborting(txn));
    }

    fn compensate_below(&mut self, txn: TxnId, undo: u16, outcome: Outcome, out: &mut Out) {
        let running = { self.running.get_mut(&txn) }.expect("it is running");
        if undo > 0 {
            running.phase = Phase::Backward { outcome, undo };
            return self.resend(txn, out);
        }
        let client = running.plan.client;
        if !self.site.options.acknowledge_at_start {
            self.reply(txn, client, outcome.clone(), out);
        }
        self.end(txn, outcome, out);
    }

    fn on_compensated(&mut self, txn: TxnId, step: u16, out: &mut Out) {
        let Some(running) = self.running.get(&txn) else {
            return;
        };
        if let Phase::Backward { outcome, undo } = &running.phase
            && running.next_undo(*undo) == step
        {
            self.compensate_below(txn, undo - 1, outcome.clone(), out);
        }
    }

    /// Sends, and sends again, what the transaction is waiting to have answered.
    fn resend(&mut self, txn: TxnId, out: &mut Out) {
        if self
            .gathering
            .get(&txn)
            .is_some_and(|gathering| !gathering.complete)
        {
            return self.send_reads(txn, out);
        }
        let Some(running) = self.running.get(&txn) else {
            return;
        };
        let Running { plan, phase, .. } = running;
        match phase {
            Phase::Forward(step) => {
                let what = plan.steps[usize::from(*step)].clone();
                let to = self.site.shard_process(what.shard);
                let (step, retriable) = (*step, *step > plan.pivot);
                let request = StepRequest {
                    txn,
                    step,
                    retriable,
                    what,
                };
                out.send(to, Message::Step(Arc::new(request)));
                if zoo::planted(Bug::NotRetried) && step >= plan.pivot {
                    return;
                }
            }
            Phase::Backward { undo, .. } => {
                let step = running.next_undo(*undo);
                let to = self.site.shard_process(plan.steps[usize::from(step)].shard);
                out.send(to, Message::Compensate { txn, step });
            }
            Phase::Confirming(missing) => {
                for shard in missing {
                    let to = self.site.shard_process(*shard);
                    out.send(to, Message::Confirm { txn });
                }
            }
            Phase::Pivoting | Phase::Aborting { .. } => return,
        }
        out.set_timer(Timer::Resend(txn), self.site.options.resend_ms.about());
    }

    // The log.

    /// Forces the record that `next` waits for; again after a failed flush, which has left nothing behind.
    fn force(&mut self, next: Continuation) {
        let record = match &next {
            Continuation::Begin(plan) => Record::Begin(Arc::clone(plan)),
            Continuation::Pivot(txn) => Record::Pivot {
                txn: *txn,
                reads: as_reads(&self.running[txn].reads),
            },
            Continuation::Aborting(txn) => match &self.running[txn].phase {
                Phase::Aborting { outcome, undo } => Record::Aborting {
                    txn: *txn,
                    outcome: outcome.clone(),
                    undo: *undo,
                },
                phase => unreachable!("{txn} goes backward in {phase:?}"),
            },
            Continuation::Refused { txn, outcome, .. } => Record::Refused {
                txn: *txn,
                outcome: outcome.clone(),
            },
        };
        self.journal.force(record, next);
    }

    /// A record is durable.
    fn follow(&mut self, next: Continuation, out: &mut Out) {
        match next {
            Continuation::Begin(plan) => self.begun(plan, out),
            Continuation::Pivot(txn) => {
                let running = { self.running.get_mut(&txn) }.expect("it is running");
                running.durable = Durable::Pivot(as_reads(&running.reads));
                let pivot = running.plan.pivot;
                if zoo::planted(Bug::AckAtPivot) {
                    let (client, reads) = (running.plan.client, as_reads(&running.reads));
                    self.reply(txn, client, Outcome::Committed { reads }, out);
                }
                self.advance(txn, pivot, out);
            }
            Continuation::Aborting(txn) => {
                let running = { self.running.get_mut(&txn) }.expect("it is running");
                let Phase::Aborting { outcome, undo } = running.phase.clone() else {
                    unreachable!("{txn} went backward in {:?}", running.phase);
                };
                running.durable = Durable::Aborting {
                    outcome: outcome.clone(),
                    undo,
                };
                let commit = false;
                out.observe(Observation::Decided { txn, commit });
                self.compensate_below(txn, undo, outcome, out);
            }
            Continuation::Refused {
                txn,
                outcome,
                client,
            } => {
                self.gathering.remove(&txn);
                self.ended.insert(txn, outcome.clone());
                let commit = false;
                out.observe(Observation::Ended { txn, commit });
                self.reply(txn, client, outcome, out);
            }
        }
    }

    fn replay(&mut self, record: Record, sagas: &mut BTreeMap<TxnId, (Arc<Plan>, Durable)>) {
        let advance = |sagas: &mut BTreeMap<TxnId, (Arc<Plan>, Durable)>, txn, to| {
            let (_, durable) = { sagas.get_mut(&txn) }.expect("a saga begins first");
            *durable = to;
        };
        match record {
            Record::Begin(plan) => {
                sagas.insert(plan.txn, (plan, Durable::Begun));
            }
            Record::Pivot { txn, reads } => advance(sagas, txn, Durable::Pivot(reads)),
            Record::Aborting { txn, outcome, undo } => {
                advance(sagas, txn, Durable::Aborting { outcome, undo });
            }
            Record::Refused { txn, outcome } | Record::End { txn, outcome } => {
                sagas.remove(&txn);
                self.ended.insert(txn, outcome);
            }
            Record::Checkpoint { running, ended } => {
                self.ended = ended;
                let running = running.into_iter();
                *sagas = running
                    .map(|(plan, durable)| (plan.txn, (plan, durable)))
                    .collect();
            }
        }
    }

    fn resume(&mut self, txn: TxnId, plan: Arc<Plan>, durable: Durable, out: &mut Out) {
        let pivot = plan.pivot;
        let reads = match &durable {
            Durable::Pivot(reads) => as_rows(reads),
            Durable::Begun | Durable::Aborting { .. } => as_rows(&plan.reads),
        };
        // Stated again, because the crash may have come between the record and the words.
        out.observe(Observation::Initiated { txn });
        let running = Running {
            plan,
            durable: durable.clone(),
            reads,
            phase: Phase::Forward(pivot),
        };
        self.running.insert(txn, running);
        match durable {
            Durable::Begun if pivot > 0 => {
                out.observe(Observation::Mark("saga.backward-recovery"));
                let why = AbortReason::Presumed;
                let undo = pivot - u16::from(zoo::planted(Bug::LastStepForgotten));
                self.go_backward(txn, Outcome::Aborted { why }, undo, out);
            }
            Durable::Begun | Durable::Pivot(_) => {
                out.observe(Observation::Mark("saga.forward-recovery"));
                self.advance(txn, pivot, out);
            }
            Durable::Aborting { outcome, undo } => {
                out.observe(Observation::Mark("saga.compensation-resumed"));
                let commit = false;
                out.observe(Observation::Decided { txn, commit });
                let undo = match zoo::planted(Bug::AbortingForgotten) {
                    true => 0,
                    false => undo,
                };
                self.compensate_below(txn, undo, outcome, out);
            }
        }
    }
}
