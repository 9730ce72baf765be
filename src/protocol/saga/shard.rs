//! A shard: takes steps and undoes them, each as one local transaction under local locks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Message, Out, Refusal, SemanticLocks, Site, StepRequest, Timer};
use crate::base::observation::Observation;
use crate::base::process::{Addr, FileId, Input, Process, WallTime};
use crate::base::txn::{Key, Op, Read, ShardId, TxnId, Write, WriteId};
use crate::base::zoo::{self, Bug};
use crate::protocol::Autopsy;
use crate::protocol::kit::durable::{self, Durable};
use crate::protocol::kit::journal::Journal;
use crate::shard::ShardState;
use crate::shard::locks::{Locks, Mode};
use crate::shard::store::Store;

const LOG: FileId = FileId(0);

/// What has become of a step here. Remembered for good: late duplicates are recognised by it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum Fate {
    /// It stands.
    Applied {
        /// The rows before, for the answer.
        rows: Vec<Read>,
        /// What undoes it.
        undo: Vec<Write>,
    },
    /// A guard did not hold.
    Refused(u16),
    /// It is undone, or was blocked before it came.
    Compensated,
    /// It met a marked row, and is refused.
    Busy,
}

/// What has become of a step, seen from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepView {
    /// It stands.
    Applied,
    /// A guard did not hold, or a row was marked.
    Refused,
    /// It is undone, or was blocked before it came.
    Compensated,
}

/// What the log holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum Record {
    Applied {
        txn: TxnId,
        step: u16,
        writes: Vec<Write>,
        rows: Vec<Read>,
    },
    Refused {
        txn: TxnId,
        step: u16,
        guard: u16,
    },
    Compensated {
        txn: TxnId,
        step: u16,
    },
    Confirmed {
        txn: TxnId,
    },
    /// Everything before this record.
    Checkpoint {
        store: Box<Store>,
        fates: Vec<((TxnId, u16), Fate)>,
        marks: Vec<(Key, TxnId)>,
    },
    Busy {
        txn: TxnId,
        step: u16,
    },
}

/// What somebody wants of the shard, under the local locks that it takes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Job {
    Read {
        txn: TxnId,
        keys: BTreeSet<Key>,
    },
    Step(Arc<StepRequest>),
    /// What becomes of a step that met a marked row.
    RefuseBusy {
        txn: TxnId,
        step: u16,
    },
    Compensate {
        txn: TxnId,
        step: u16,
    },
    Confirm {
        txn: TxnId,
    },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Request {
    from: Addr,
    job: Job,
}

/// A shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Shard {
    site: Arc<Site>,
    shard: ShardId,
    journal: Journal<Record, u64>,
    store: Store,
    fates: BTreeMap<(TxnId, u16), Fate>,
    /// Semantic locks: rows that an unfinished saga has written. Steps after a pivot ignore them, so that a row can have several.
    marks: BTreeSet<(Key, TxnId)>,
    tickets: u64,
    /// Local locks, granted in the order of arrival, until what was done under them is durable.
    locks: Locks<u64>,
    requests: BTreeMap<u64, Request>,
    /// Steps that wait for locks or for the disk.
    active: BTreeMap<(TxnId, u16), u64>,
    /// Requests that wait for marked rows.
    parked: BTreeMap<u64, Request>,
    /// Steps that nobody has seen here and whose compensation is being forced: one that arrives now comes too
    /// late, although no record says so yet.
    blocking: BTreeSet<(TxnId, u16)>,
}

impl Shard {
    pub(super) fn new(site: Arc<Site>, shard: ShardId) -> Self {
        Self {
            store: Store::new(&site.layout, shard),
            journal: Journal::new(LOG, site.options.checkpoint_min_bytes()),
            site,
            shard,
            fates: BTreeMap::new(),
            marks: BTreeSet::new(),
            tickets: 0,
            locks: Locks::default(),
            requests: BTreeMap::new(),
            active: BTreeMap::new(),
            parked: BTreeMap::new(),
            blocking: BTreeSet::new(),
        }
    }

    /// What has durably become of a step here; nothing if it is not decided.
    pub fn view(&self, txn: TxnId, step: u16) -> Option<StepView> {
        Some(match self.fates.get(&(txn, step))? {
            Fate::Applied { .. } => StepView::Applied,
            Fate::Refused(_) | Fate::Busy => StepView::Refused,
            Fate::Compensated => StepView::Compensated,
        })
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }
}

impl Autopsy for Shard {
    fn autopsy(&self) -> Option<ShardState> {
        let region = self.site.layout.shards[usize::from(self.shard.0)].home;
        Some(self.store.autopsy(region, BTreeSet::new()))
    }
}

impl Process for Shard {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        durable::step(self, now, input, out);
    }
}

impl Durable<Record, u64> for Shard {
    const DAMAGED: &'static str = "a shard's log is damaged";

    fn journal(&mut self) -> &mut Journal<Record, u64> {
        &mut self.journal
    }

    fn checkpoint(&self) -> Record {
        Record::Checkpoint {
            store: Box::new(self.store.clone()),
            fates: { self.fates.iter() }
                .filter(|_| !zoo::planted(Bug::CheckpointDropsFates))
                .map(|(at, fate)| (*at, fate.clone()))
                .collect(),
            marks: self.marks.iter().copied().collect(),
        }
    }

    fn recover(&mut self, records: Vec<Record>, _: &mut Out) {
        for record in records {
            self.replay(record);
        }
    }

    fn on_message(&mut self, _: WallTime, from: Addr, message: Message, out: &mut Out) {
        let job = match message {
            Message::Read { txn, keys } => Job::Read { txn, keys },
            Message::Step(request) => Job::Step(request),
            Message::Compensate { txn, step } => Job::Compensate { txn, step },
            Message::Confirm { txn } => Job::Confirm { txn },
            message => unreachable!("{message:?} is for a client or an orchestrator"),
        };
        self.admit(Request { from, job }, out);
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out) {
        if let Timer::LockWait(ticket) = timer {
            self.wait_no_longer(ticket, out);
        }
    }

    fn on_durable(&mut self, _: WallTime, ticket: u64, out: &mut Out) {
        self.act(ticket, out);
    }

    /// A step that could not be made durable is refused; to refuse and to undo is tried again.
    fn on_lost(&mut self, ticket: u64, out: &mut Out) {
        let Request { from, job } = self.requests[&ticket].clone();
        match job {
            Job::Step(step) => {
                let (txn, step, refusal) = (step.txn, step.step, Refusal::Disk);
                out.observe(Observation::Mark("saga.step-not-durable"));
                out.send(from, Message::Refused { txn, step, refusal });
                self.finish(ticket, out);
            }
            Job::RefuseBusy { txn, step } => {
                out.observe(Observation::Mark("saga.step-not-durable"));
                self.journal.force(Record::Busy { txn, step }, ticket);
            }
            Job::Compensate { txn, step } => {
                self.journal
                    .force(Record::Compensated { txn, step }, ticket);
            }
            Job::Confirm { txn } => self.journal.force(Record::Confirmed { txn }, ticket),
            Job::Read { .. } => unreachable!("a read writes nothing"),
        }
    }
}

impl Shard {
    // Admission: duplicates, marked rows, local locks.

    fn admit(&mut self, request: Request, out: &mut Out) {
        match &request.job {
            Job::Step(step) => {
                let name = (step.txn, step.step);
                if self.has_fate(name) {
                    return self.answer_step(request.from, name, out);
                }
                if self.active.contains_key(&name) || self.parked_step(name).is_some() {
                    return; // A duplicate of one that is being served.
                }
            }
            Job::Compensate { txn, step } => self.never_take((*txn, *step)),
            Job::Read { .. } | Job::Confirm { .. } => {}
            Job::RefuseBusy { .. } => unreachable!("nobody asks for a refusal"),
        }
        self.tickets += 1;
        match self.is_marked(&request.job) {
            true => self.park(self.tickets, request, out),
            false => self.lock(self.tickets, request, out),
        }
    }

    /// Whether this is a duplicate of a step whose fate is settled.
    fn has_fate(&self, name: (TxnId, u16)) -> bool {
        self.fates.contains_key(&name) && !zoo::planted(Bug::StepAppliedTwice)
    }

    fn never_take(&mut self, name: (TxnId, u16)) {
        if let Some(ticket) = self.parked_step(name) {
            self.parked.remove(&ticket);
        }
    }

    fn parked_step(&self, name: (TxnId, u16)) -> Option<u64> {
        let is_it = |request: &Request| match &request.job {
            Job::Step(step) => (step.txn, step.step) == name,
            _ => false,
        };
        let mut parked = self.parked.iter();
        parked
            .find(|(_, request)| is_it(request))
            .map(|(ticket, _)| *ticket)
    }

    /// Whether a row belongs to another unfinished saga, for those who care.
    fn is_marked(&self, job: &Job) -> bool {
        let of_another = |key: &Key, txn: TxnId| self.owners(*key).any(|owner| owner != txn);
        match job {
            Job::Read { txn, keys } => keys.iter().any(|key| of_another(key, *txn)),
            Job::Step(step) => {
                let mut keys = step.what.reads.iter();
                !step.retriable && keys.any(|key| of_another(key, step.txn))
            }
            Job::RefuseBusy { .. } | Job::Compensate { .. } | Job::Confirm { .. } => false,
        }
    }

    /// The unfinished sagas that have written a row.
    fn owners(&self, key: Key) -> impl Iterator<Item = TxnId> {
        let of_key = (key, TxnId(0))..=(key, TxnId(u64::MAX));
        self.marks.range(of_key).map(|(_, owner)| *owner)
    }

    /// A request whose turn has come behind a step that marked its rows meanwhile: it waits like one that comes now, and
    /// without local locks.
    fn park_after_all(&mut self, ticket: u64, out: &mut Out) {
        let request = self.forget(ticket);
        self.park(ticket, request, out);
        self.release(ticket, out);
    }

    fn park(&mut self, ticket: u64, request: Request, out: &mut Out) {
        out.observe(Observation::Mark("saga.marked-row"));
        if self.site.options.semantic_locks == SemanticLocks::Refuse {
            return self.refuse_busy(ticket, request, out);
        }
        if let Job::Step(step) = &request.job {
            let (txn, shard) = (step.txn, self.shard);
            let key = { step.what.reads.iter() }.find(|key| self.owners(**key).next().is_some());
            if let Some(key) = key.copied() {
                out.observe(Observation::LockWait { txn, shard, key });
            }
        }
        self.parked.insert(ticket, request);
        let wait = self.site.options.lock_wait_ms.exactly();
        out.set_timer(Timer::LockWait(ticket), wait);
    }

    fn wait_no_longer(&mut self, ticket: u64, out: &mut Out) {
        if let Some(request) = self.parked.remove(&ticket) {
            self.refuse_busy(ticket, request, out);
        }
    }

    /// A step is refused durably: a duplicate of it that comes when the row is free must not be taken, for its saga is going back, perhaps from
    /// its pivot, which cannot be undone. A reader is not told: it asks again by itself.
    fn refuse_busy(&mut self, ticket: u64, Request { from, job }: Request, out: &mut Out) {
        if let Job::Step(request) = job {
            let (txn, step) = (request.txn, request.step);
            if self.is_settled((txn, step), from, out) {
                return;
            }
            let job = Job::RefuseBusy { txn, step };
            self.active.insert((txn, step), ticket);
            self.requests.insert(ticket, Request { from, job });
            self.journal.force(Record::Busy { txn, step }, ticket);
        }
    }

    /// Queues for the rows' local locks; all at once and in the order of tickets, so that nobody deadlocks.
    fn lock(&mut self, ticket: u64, request: Request, out: &mut Out) {
        let exclusive = |writes: &[Write]| -> Vec<(Key, Mode)> {
            let writes = writes.iter();
            writes.map(|write| (write.key, Mode::Exclusive)).collect()
        };
        let shared = |keys: &BTreeSet<Key>| -> Vec<(Key, Mode)> {
            keys.iter().map(|key| (*key, Mode::Shared)).collect()
        };
        let wanted = match &request.job {
            Job::Read { keys, .. } => shared(keys),
            Job::Step(step) => {
                self.active.insert((step.txn, step.step), ticket);
                let mut wanted = exclusive(&step.what.writes);
                wanted.extend(shared(&step.what.reads));
                wanted
            }
            Job::Compensate { txn, step } => self.compensation_locks((*txn, *step)),
            Job::RefuseBusy { .. } | Job::Confirm { .. } => Vec::new(),
        };
        out.work(wanted.len() as u32);
        self.requests.insert(ticket, request);
        let answer = self.locks.request(ticket, wanted);
        assert!(answer.younger_holders.is_empty(), "tickets rise");
        if answer.waits.is_empty() {
            self.execute(ticket, out);
        }
    }

    /// The rows of the step to undo. If it is still under way, the compensation queues behind it.
    fn compensation_locks(&self, name: (TxnId, u16)) -> Vec<(Key, Mode)> {
        let writes = match (self.active.get(&name), self.fates.get(&name)) {
            (Some(ticket), _) => match &self.requests[ticket].job {
                Job::Step(step) => &step.what.writes,
                Job::RefuseBusy { .. } => return Vec::new(),
                job => unreachable!("{job:?} is no step"),
            },
            (None, Some(Fate::Applied { undo, .. })) => undo,
            (None, _) => return Vec::new(),
        };
        let writes = writes.iter();
        writes.map(|write| (write.key, Mode::Exclusive)).collect()
    }

    fn finish(&mut self, ticket: u64, out: &mut Out) {
        self.forget(ticket);
        self.release(ticket, out);
    }

    fn forget(&mut self, ticket: u64) -> Request {
        let request = { self.requests.remove(&ticket) }.expect("it is served");
        match &request.job {
            Job::Step(step) => self.active.remove(&(step.txn, step.step)),
            Job::RefuseBusy { txn, step } => self.active.remove(&(*txn, *step)),
            Job::Read { .. } | Job::Compensate { .. } | Job::Confirm { .. } => None,
        };
        request
    }

    /// Gives up the local locks, and lets those behind have their turn.
    fn release(&mut self, ticket: u64, out: &mut Out) {
        for ready in self.locks.release(ticket) {
            self.execute(ready, out);
        }
    }

    /// Rows were unmarked: those who waited for them are admitted again.
    fn unpark(&mut self, out: &mut Out) {
        let is_free = |(_, request): &(&u64, &Request)| !self.is_marked(&request.job);
        let free: Vec<u64> = { self.parked.iter().filter(is_free) }
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in free {
            out.cancel_timer(Timer::LockWait(ticket));
            if let Some(request) = self.parked.remove(&ticket) {
                self.admit(request, out);
            }
        }
    }

    // Execution, under local locks.

    fn execute(&mut self, ticket: u64, out: &mut Out) {
        let Request { from, job } = self.requests[&ticket].clone();
        match job {
            Job::Read { .. } if self.is_marked(&job) => self.park_after_all(ticket, out),
            Job::Read { txn, keys } => {
                let rows = self.store.reads(&keys);
                out.send(from, Message::Values { txn, rows });
                self.finish(ticket, out);
            }
            Job::Step(step) => self.take(ticket, &step, out),
            Job::RefuseBusy { .. } => unreachable!("it takes no locks"),
            Job::Compensate { txn, step } => match self.fates.get(&(txn, step)) {
                Some(Fate::Compensated | Fate::Refused(_) | Fate::Busy) => {
                    out.send(from, Message::Compensated { txn, step });
                    self.finish(ticket, out);
                }
                fate => {
                    if fate.is_none() {
                        self.blocking.insert((txn, step));
                        self.never_take((txn, step));
                    }
                    self.journal
                        .force(Record::Compensated { txn, step }, ticket);
                }
            },
            Job::Confirm { txn } if !self.marks.iter().any(|(_, owner)| *owner == txn) => {
                let shard = self.shard;
                out.send(from, Message::Confirmed { txn, shard });
                self.finish(ticket, out);
            }
            Job::Confirm { txn } => self.journal.force(Record::Confirmed { txn }, ticket),
        }
    }

    /// Takes a step if its guards hold; either way durably, so that a duplicate cannot do otherwise.
    fn take(&mut self, ticket: u64, request: &StepRequest, out: &mut Out) {
        let (txn, step, what) = (request.txn, request.step, &request.what);
        if self.is_settled((txn, step), self.requests[&ticket].from, out) {
            return self.finish(ticket, out);
        }
        if self.is_marked(&self.requests[&ticket].job) {
            return self.park_after_all(ticket, out);
        }
        assert!(
            self.locks.holds_all(ticket),
            "a step without its local locks"
        );
        let record = match self.failing_guard(request) {
            Some(guard) => Record::Refused { txn, step, guard },
            None => Record::Applied {
                txn,
                step,
                writes: what.writes.clone(),
                rows: self.store.reads(&what.reads),
            },
        };
        self.journal.force(record, ticket);
    }

    /// Whether what becomes of a step is settled, or about to be by its compensation: then it is answered for.
    fn is_settled(&self, name: (TxnId, u16), from: Addr, out: &mut Out) -> bool {
        if self.has_fate(name) {
            self.answer_step(from, name, out);
            return true;
        }
        let is_blocked = self.blocking.contains(&name);
        if is_blocked {
            out.observe(Observation::Mark("saga.blocked-step"));
        }
        is_blocked
    }

    fn failing_guard(&self, request: &StepRequest) -> Option<u16> {
        let value_of = |key: Key| self.store.read(key).map_or(0, |row| row.value.as_int());
        let mut guards = request.what.guards.iter();
        let failing = guards.find(|(_, guard)| !guard.holds(value_of));
        failing.map(|(guard, _)| *guard)
    }

    fn answer_step(&self, to: Addr, (txn, step): (TxnId, u16), out: &mut Out) {
        match self.fates.get(&(txn, step)) {
            Some(Fate::Applied { rows, .. }) => {
                let rows = rows.clone();
                out.send(to, Message::Done { txn, step, rows });
            }
            Some(Fate::Refused(guard)) => {
                let refusal = Refusal::Guard(*guard);
                out.send(to, Message::Refused { txn, step, refusal });
            }
            Some(Fate::Busy) => {
                let refusal = Refusal::Busy;
                out.send(to, Message::Refused { txn, step, refusal });
            }
            Some(Fate::Compensated) => out.observe(Observation::Mark("saga.blocked-step")),
            None => {}
        }
    }

    // The log.

    fn act(&mut self, ticket: u64, out: &mut Out) {
        let Request { from, job } = self.requests[&ticket].clone();
        let shard = self.shard;
        match job {
            Job::Step(request) => {
                let (txn, step) = (request.txn, request.step);
                self.step_durable(&request, out);
                self.answer_step(from, (txn, step), out);
            }
            Job::RefuseBusy { txn, step } => {
                self.refused_busy((txn, step));
                self.answer_step(from, (txn, step), out);
            }
            Job::Compensate { txn, step } => {
                self.blocking.remove(&(txn, step));
                match self.compensate((txn, step)) {
                    true => out.observe(Observation::Compensated { txn, shard, step }),
                    false => out.observe(Observation::Mark("saga.empty-compensation")),
                }
                out.send(from, Message::Compensated { txn, step });
            }
            Job::Confirm { txn } => {
                self.marks.retain(|(_, owner)| *owner != txn);
                out.send(from, Message::Confirmed { txn, shard });
            }
            Job::Read { .. } => unreachable!("a read writes nothing"),
        }
        self.finish(ticket, out);
        self.unpark(out);
    }

    /// A compensation may have come first.
    fn refused_busy(&mut self, name: (TxnId, u16)) {
        self.fates.entry(name).or_insert(Fate::Busy);
    }

    /// The record that `take` forced is durable. Nobody else could touch its rows meanwhile, so the guards say
    /// what they said then.
    fn step_durable(&mut self, request: &StepRequest, out: &mut Out) {
        let (txn, step, what) = (request.txn, request.step, &request.what);
        if let Some(guard) = self.failing_guard(request) {
            self.fates.insert((txn, step), Fate::Refused(guard));
            return;
        }
        let rows = self.store.reads(&what.reads);
        let (shard, position) = (self.shard, self.store.next_position());
        let keys = self.apply((txn, step), &what.writes, rows);
        out.observe(Observation::Applied {
            txn,
            shard,
            position,
            keys,
        });
    }

    fn apply(&mut self, name: (TxnId, u16), writes: &[Write], rows: Vec<Read>) -> Vec<Key> {
        let (txn, undo) = (name.0, false);
        let compensation = |write: &Write| {
            let before = { self.store.read(write.key) }.expect("a written row exists");
            let (key, mut op) = (write.key, write.op.compensation(&before.value));
            if zoo::planted(Bug::RestoresPreImage) {
                op = Op::Put(before.value.as_int());
            }
            Write { key, op }
        };
        let fate = Fate::Applied {
            rows,
            undo: writes.iter().rev().map(compensation).collect(),
        };
        self.fates.insert(name, fate);
        if self.site.has_locks() {
            self.marks
                .extend(writes.iter().map(|write| (write.key, txn)));
        }
        let position = self.store.next_position();
        self.store.apply(position, WriteId { txn, undo }, writes)
    }

    /// Undoes a step; false if there was nothing to undo, and the step is blocked.
    fn compensate(&mut self, name: (TxnId, u16)) -> bool {
        if self.fates.get(&name) == Some(&Fate::Busy) {
            return false;
        }
        let fate = self.fates.insert(name, Fate::Compensated);
        if fate.is_none() && zoo::planted(Bug::LateStepNotBlocked) {
            self.fates.remove(&name);
        }
        let Some(Fate::Applied { undo: writes, rows }) = fate else {
            return false;
        };
        if zoo::planted(Bug::CompensatedTwice) {
            let undo = writes.clone();
            self.fates.insert(name, Fate::Applied { rows, undo });
        }
        let (txn, undo) = (name.0, true);
        let position = self.store.next_position();
        self.store.apply(position, WriteId { txn, undo }, &writes);
        for write in writes {
            self.marks.remove(&(write.key, txn));
        }
        true
    }

    fn replay(&mut self, record: Record) {
        match record {
            Record::Applied {
                txn,
                step,
                writes,
                rows,
            } => {
                self.apply((txn, step), &writes, rows);
            }
            Record::Refused { txn, step, guard } => {
                self.fates.insert((txn, step), Fate::Refused(guard));
            }
            Record::Busy { txn, step } => self.refused_busy((txn, step)),
            Record::Compensated { txn, step } => {
                self.compensate((txn, step));
            }
            Record::Confirmed { txn } => self.marks.retain(|(_, owner)| *owner != txn),
            Record::Checkpoint {
                store,
                fates,
                marks,
            } => {
                self.store = *store;
                self.fates = fates.into_iter().collect();
                self.marks = marks.into_iter().collect();
            }
        }
    }
}
