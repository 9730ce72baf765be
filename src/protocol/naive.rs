//! Commit everywhere: what a service does that sends its writes to every database and hopes.
//!
//! The coordinator, a front machine of the client's region, sends COMMIT with the effects to every shard at the
//! same time. Each shard makes its part durable on its own, or refuses: because its disk does, or because a
//! guard on its own rows does not hold. When all have answered, the client is told. What it is told after a
//! partial failure is a matter of policy, and none of the three policies repairs anything: this protocol
//! promises nothing.
//!
//! A transaction that needs values before it knows what to send (dependent rows, or a guard over several
//! shards) reads them first, without locks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kit::deploy::own_front;
use super::kit::durable::{self, Durable};
use super::kit::journal::{self, CHECKPOINT_MIN_BYTES, Journal};
use super::kit::node::{self, carries_client};
use super::{Autopsy, Deployment, Promises, Protocol};
use crate::base::observation::{AbortReason, Mark, Observation, Outcome};
use crate::base::options::{Choice, Millis, declare};
use crate::base::process::{Addr, Effects, FileId, Input, Process, WallTime, Wire};
use crate::base::txn::{Footprint, Guard, Key, Read, Row, ShardId, Txn, TxnId, Write, WriteId};
use crate::plan::PlannedOperation;
use crate::protocol::kit::client::{ClientMessage, ClientTimer, Patience};
use crate::scenario::layout::Layout;
use crate::shard::ShardState;
use crate::shard::store::Store;

const LOG: FileId = FileId(0);

/// What the client is told when some shards have refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnPartialFailure {
    /// That it committed: the coordinator has done its part.
    #[default]
    SaySuccess,
    /// That it did not.
    SayFailure,
    /// Nothing: those that refused are asked again, for ever.
    Retry,
}

impl Choice for OnPartialFailure {}

declare! {
    /// Options, `[protocol.naive]` in a scenario. All times in milliseconds.
    pub struct Options {
        /// What the client is told when some shards have refused: `say-success`, `say-failure` or `retry`.
        on_partial_failure: OnPartialFailure = OnPartialFailure::SaySuccess,
        /// How long the coordinator waits for answers: what is missing then counts as refused, or is sent again
        /// under `retry`.
        answer_timeout_ms: Millis = Millis::new(2_000),
        /// When a client gives up, and takes the outcome for unknown; 0: never.
        client_give_up_ms: Millis<0> = Millis::new(10_000),
    }
}

/// A shard's part of a transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CommitRequest {
    /// The transaction.
    pub txn: TxnId,
    /// Rows to return, as they were before.
    pub reads: BTreeSet<Key>,
    /// Conditions on the shard's own rows, with their positions in the transaction.
    pub guards: Vec<(u16, Guard)>,
    /// What to write.
    pub writes: Vec<Write>,
}

/// A shard's answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// Its part is durable and visible; the rows are as they were before.
    Applied(Vec<Read>),
    /// A guard does not hold.
    Declined(u16),
    /// Its part could not be made durable.
    Failed,
}

/// What travels.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// From or to a client.
    Client(ClientMessage),
    /// Coordinator to shard: what is in these rows?
    Read {
        /// The transaction.
        txn: TxnId,
        /// The rows.
        keys: BTreeSet<Key>,
    },
    /// Shard to coordinator.
    Values {
        /// The transaction.
        txn: TxnId,
        /// The shard.
        shard: ShardId,
        /// The rows.
        rows: Vec<Read>,
    },
    /// Coordinator to shard: commit your part.
    Commit(Arc<CommitRequest>),
    /// Shard to coordinator.
    Answer {
        /// The transaction.
        txn: TxnId,
        /// The shard.
        shard: ShardId,
        /// What came of it.
        answer: Answer,
    },
}

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Client(message) => message.label(),
            Message::Read { .. } => "read",
            Message::Values { .. } => "values",
            Message::Commit(_) => "commit",
            Message::Answer { answer, .. } => match answer {
                Answer::Applied(_) => "applied",
                Answer::Declined(_) | Answer::Failed => "refused",
            },
        }
    }
}

/// The timers of all processes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// A client's.
    Client(ClientTimer),
    /// The coordinator has waited for answers long enough.
    Answers(TxnId),
}

carries_client!(Message, Timer);

type Out = Effects<Message, Timer>;

/// A transaction at its coordinator, which keeps nothing on disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Coordination {
    txn: Arc<Txn>,
    client: Addr,
    rows: BTreeMap<Key, Row>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// Values are needed before anything can be sent.
    Reading { missing: BTreeSet<ShardId> },
    /// COMMIT is out.
    Committing {
        requests: BTreeMap<ShardId, Arc<CommitRequest>>,
        answers: BTreeMap<ShardId, Answer>,
    },
}

/// A coordinator.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Coordinator {
    layout: Arc<Layout>,
    options: Options,
    open: BTreeMap<TxnId, Coordination>,
}

impl Process for Coordinator {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, _: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        match input {
            Input::Message { from, message } => match message {
                Message::Client(ClientMessage::Request { txn }) => self.on_request(from, txn, out),
                Message::Values { txn, shard, rows } => self.on_values(txn, shard, rows, out),
                Message::Answer { txn, shard, answer } => self.on_answer(txn, shard, answer, out),
                message => unreachable!("{message:?} is for a client or a shard"),
            },
            Input::Timer(Timer::Answers(txn)) => self.time_out(txn, out),
            Input::Timer(Timer::Client(_))
            | Input::Boot(_)
            | Input::Flushed(_)
            | Input::FlushFailed(_) => {}
        }
    }
}

impl Autopsy for Coordinator {}

impl Coordinator {
    fn shard_process(&self, shard: ShardId) -> Addr {
        Addr::on(self.layout.home(shard))
    }

    fn is_local(&self, guard: &Guard) -> bool {
        self.layout.by_shard(guard.keys().iter().copied()).len() == 1
    }

    fn on_request(&mut self, client: Addr, txn: Arc<Txn>, out: &mut Out) {
        let id = txn.id;
        if self.open.contains_key(&id) {
            return;
        }
        out.observe(Observation::Initiated { txn: id });
        let remote = txn.guards.iter().filter(|guard| !self.is_local(guard));
        let mut needed = txn.pointers();
        needed.extend(remote.flat_map(|guard| guard.keys()));
        let coordination = Coordination {
            txn,
            client,
            rows: BTreeMap::new(),
            phase: Phase::Reading {
                missing: self
                    .layout
                    .by_shard(needed.iter().copied())
                    .into_keys()
                    .collect(),
            },
        };
        self.open.insert(id, coordination);
        for (shard, keys) in self.layout.by_shard(needed) {
            out.send(self.shard_process(shard), Message::Read { txn: id, keys });
        }
        self.arm(id, out);
        self.commit_if_read(id, out);
    }

    fn arm(&self, txn: TxnId, out: &mut Out) {
        out.set_timer(
            Timer::Answers(txn),
            self.options.answer_timeout_ms.exactly(),
        );
    }

    fn on_values(&mut self, txn: TxnId, shard: ShardId, rows: Vec<Read>, out: &mut Out) {
        let Some(open) = self.open.get_mut(&txn) else {
            return;
        };
        if let Phase::Reading { missing } = &mut open.phase
            && missing.remove(&shard)
        {
            open.rows
                .extend(rows.into_iter().map(|read| (read.key, read.row)));
            self.commit_if_read(txn, out);
        }
    }

    /// Sends COMMIT to every shard, unless a guard over several of them fails on what was read.
    fn commit_if_read(&mut self, id: TxnId, out: &mut Out) {
        let open = &self.open[&id];
        if !matches!(&open.phase, Phase::Reading { missing } if missing.is_empty()) {
            return;
        }
        let txn = Arc::clone(&open.txn);
        let value_of = |key: Key| open.rows.get(&key).map_or(0, |row| row.value.as_int());
        let fails = |guard: &Guard| !self.is_local(guard) && !guard.holds(value_of);
        if let Some(guard) = txn.guards.iter().position(fails) {
            let guard = guard as u16;
            return self.end(id, Outcome::Declined { guard }, false, out);
        }
        let Footprint { reads, .. } = txn.footprint(value_of);
        let mut requests = BTreeMap::new();
        for (shard, reads) in self.layout.by_shard(reads) {
            let here = |key: &Key| reads.contains(key);
            let guards = txn
                .guards
                .iter()
                .enumerate()
                .filter(|(_, guard)| self.is_local(guard) && guard.keys().iter().all(here));
            let writes = txn.writes(value_of).into_iter();
            let request = CommitRequest {
                txn: id,
                guards: guards
                    .map(|(at, guard)| (at as u16, guard.clone()))
                    .collect(),
                writes: writes.filter(|write| here(&write.key)).collect(),
                reads,
            };
            requests.insert(shard, Arc::new(request));
        }
        for (shard, request) in &requests {
            let to = self.shard_process(*shard);
            out.send(to, Message::Commit(Arc::clone(request)));
        }
        let answers = BTreeMap::new();
        let phase = Phase::Committing { requests, answers };
        { self.open.get_mut(&id) }.expect("it is open").phase = phase;
        self.conclude_if_answered(id, out);
    }

    fn on_answer(&mut self, txn: TxnId, shard: ShardId, answer: Answer, out: &mut Out) {
        let Some(open) = self.open.get_mut(&txn) else {
            return;
        };
        if let Phase::Committing { answers, .. } = &mut open.phase {
            if !matches!(answers.get(&shard), Some(Answer::Applied(_))) {
                answers.insert(shard, answer);
            }
            self.conclude_if_answered(txn, out);
        }
    }

    /// All have answered: tell the client, whatever they said.
    fn conclude_if_answered(&mut self, txn: TxnId, out: &mut Out) {
        let Phase::Committing { requests, answers } = &self.open[&txn].phase else {
            return;
        };
        if answers.len() < requests.len() {
            return;
        }
        let mut reads: Vec<Read> = Vec::new();
        let mut refusal = None;
        for answer in answers.values() {
            match answer {
                Answer::Applied(rows) => reads.extend(rows.iter().cloned()),
                Answer::Declined(guard) => refusal = Some(Outcome::Declined { guard: *guard }),
                Answer::Failed => {
                    let why = AbortReason::ApplyFailed;
                    refusal = refusal.or(Some(Outcome::Aborted { why }));
                }
            }
        }
        reads.sort();
        let committed = Outcome::Committed { reads };
        match (refusal, self.options.on_partial_failure) {
            (None, _) => self.end(txn, committed, true, out),
            (Some(_), OnPartialFailure::SaySuccess) => {
                out.observe(Observation::Mark("naive.partial-failure"));
                self.end(txn, committed, false, out);
            }
            (Some(refusal), OnPartialFailure::SayFailure) => {
                out.observe(Observation::Mark("naive.partial-failure"));
                self.end(txn, refusal, false, out);
            }
            (Some(_), OnPartialFailure::Retry) => {} // When the timer fires.
        }
    }

    fn time_out(&mut self, txn: TxnId, out: &mut Out) {
        let retry = self.options.on_partial_failure == OnPartialFailure::Retry;
        let Some(open) = self.open.get_mut(&txn) else {
            return;
        };
        match &mut open.phase {
            Phase::Reading { missing } if retry => {
                let missing = missing.clone();
                for (shard, keys) in self.layout.by_shard(self.needed(txn)) {
                    if missing.contains(&shard) {
                        out.send(self.shard_process(shard), Message::Read { txn, keys });
                    }
                }
                self.arm(txn, out);
            }
            Phase::Reading { .. } => {
                let why = AbortReason::Timeout;
                self.end(txn, Outcome::Aborted { why }, false, out);
            }
            Phase::Committing { requests, answers } if retry => {
                let applied =
                    |shard: &ShardId| matches!(answers.get(shard), Some(Answer::Applied(_)));
                for (shard, request) in requests.iter().filter(|(shard, _)| !applied(shard)) {
                    let to = Addr::on(self.layout.home(*shard));
                    out.send(to, Message::Commit(Arc::clone(request)));
                }
                self.arm(txn, out);
            }
            Phase::Committing { requests, answers } => {
                for shard in requests.keys() {
                    answers.entry(*shard).or_insert(Answer::Failed);
                }
                self.conclude_if_answered(txn, out);
            }
        }
    }

    /// The rows that are read before anything is sent.
    fn needed(&self, txn: TxnId) -> BTreeSet<Key> {
        let txn = &self.open[&txn].txn;
        let remote = txn.guards.iter().filter(|guard| !self.is_local(guard));
        let mut needed = txn.pointers();
        needed.extend(remote.flat_map(|guard| guard.keys()));
        needed
    }

    fn end(&mut self, txn: TxnId, outcome: Outcome, commit: bool, out: &mut Out) {
        let open = { self.open.remove(&txn) }.expect("it is open");
        out.cancel_timer(Timer::Answers(txn));
        out.observe(Observation::Decided { txn, commit });
        out.observe(Observation::Ended { txn, commit });
        let reply = ClientMessage::Reply { txn, outcome };
        out.send(open.client, Message::Client(reply));
    }
}

/// What a shard's log holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum Record {
    /// A transaction's part, in the order of application.
    Applied { txn: TxnId, writes: Vec<Write> },
    /// Everything before this record.
    Checkpoint(Box<Store>),
}

/// What follows a forced record: the part becomes visible, and its coordinator learns of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Continuation {
    coordinator: Addr,
    request: Arc<CommitRequest>,
}

/// A shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Shard {
    shard: ShardId,
    region: usize,
    store: Store,
    journal: Journal<Record, Continuation>,
    /// Parts on their way to the disk.
    under_way: BTreeSet<TxnId>,
}

impl Process for Shard {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        durable::step(self, now, input, out);
    }
}

impl Durable<Record, Continuation> for Shard {
    const DAMAGED: &'static str = "a shard's log is damaged";

    fn journal(&mut self) -> &mut Journal<Record, Continuation> {
        &mut self.journal
    }

    fn checkpoint(&self) -> Record {
        Record::Checkpoint(Box::new(self.store.clone()))
    }

    fn recover(&mut self, records: Vec<Record>, _: &mut Out) {
        for record in records {
            match record {
                Record::Applied { txn, writes } => {
                    let position = self.store.next_position();
                    let writer = WriteId { txn, undo: false };
                    self.store.apply(position, writer, &writes);
                }
                Record::Checkpoint(store) => self.store = *store,
            }
        }
    }

    fn on_message(&mut self, _: WallTime, from: Addr, message: Message, out: &mut Out) {
        match message {
            Message::Read { txn, keys } => {
                let (shard, rows) = (self.shard, self.store.reads(&keys));
                out.work(keys.len() as u32);
                out.send(from, Message::Values { txn, shard, rows });
            }
            Message::Commit(request) => self.on_commit(from, request, out),
            message => unreachable!("{message:?} is for a client or a coordinator"),
        }
    }

    fn on_durable(&mut self, _: WallTime, next: Continuation, out: &mut Out) {
        self.apply(&next, out);
    }

    fn on_lost(&mut self, next: Continuation, out: &mut Out) {
        let txn = next.request.txn;
        self.under_way.remove(&txn);
        self.answer(next.coordinator, txn, Answer::Failed, out);
    }
}

impl Autopsy for Shard {
    fn autopsy(&self) -> Option<ShardState> {
        Some(self.store.autopsy(self.region, BTreeSet::new()))
    }
}

impl Shard {
    /// Checks the guards on its own rows, and forces the writes.
    fn on_commit(&mut self, coordinator: Addr, request: Arc<CommitRequest>, out: &mut Out) {
        let txn = request.txn;
        out.work(request.reads.len() as u32);
        let writer = WriteId { txn, undo: false };
        let done = |write: &Write| self.store.contains(write.key, writer);
        if request.writes.iter().any(done) {
            // A repetition, whose first answer was lost. What it had read is gone.
            return self.answer(coordinator, txn, Answer::Applied(Vec::new()), out);
        }
        let value_of = |key: Key| self.store.read(key).map_or(0, |row| row.value.as_int());
        let fails = |(_, guard): &&(u16, Guard)| !guard.holds(value_of);
        if let Some((guard, _)) = request.guards.iter().find(fails) {
            let answer = Answer::Declined(*guard);
            return self.answer(coordinator, txn, answer, out);
        }
        if request.writes.is_empty() {
            let reads = self.store.reads(&request.reads);
            return self.answer(coordinator, txn, Answer::Applied(reads), out);
        }
        if self.under_way.insert(txn) {
            let record = Record::Applied {
                txn,
                writes: request.writes.clone(),
            };
            let next = Continuation {
                coordinator,
                request,
            };
            self.journal.force(record, next);
        }
    }

    fn apply(&mut self, part: &Continuation, out: &mut Out) {
        let (request, shard) = (&part.request, self.shard);
        let txn = request.txn;
        self.under_way.remove(&txn);
        let reads = self.store.reads(&request.reads);
        let position = self.store.next_position();
        let writer = WriteId { txn, undo: false };
        let keys = self.store.apply(position, writer, &request.writes);
        out.observe(Observation::Applied {
            txn,
            shard,
            position,
            keys,
        });
        self.answer(part.coordinator, txn, Answer::Applied(reads), out);
    }

    fn answer(&self, to: Addr, txn: TxnId, answer: Answer, out: &mut Out) {
        let shard = self.shard;
        out.send(to, Message::Answer { txn, shard, answer });
    }
}

/// A process of the protocol.
pub type Node = node::Node<Shard, Coordinator>;

/// The protocol.
#[derive(Clone, Copy, Debug)]
pub struct Naive;

impl Protocol for Naive {
    type Process = Node;
    type Options = Options;

    const MARKS: &'static [&'static [Mark]] = &[
        &[(
            "naive.partial-failure",
            "a part of a commit failed and the others stood",
        )],
        journal::MARKS,
    ];
    const NAME: &'static str = "naive";
    const TITLE: &'static str = "Commit everywhere and hope";

    fn promises(_: &Options) -> Promises {
        Promises::nothing()
    }

    fn deploy(
        layout: &Layout,
        options: &Options,
        operations: &[PlannedOperation],
    ) -> Result<Deployment<Node>, String> {
        let shared = Arc::new(layout.clone());
        let coordinator = |_, _| Coordinator {
            layout: Arc::clone(&shared),
            options: options.clone(),
            open: BTreeMap::new(),
        };
        let shard = |shard: ShardId| Shard {
            shard,
            region: layout.shards[usize::from(shard.0)].home,
            store: Store::new(layout, shard),
            journal: Journal::new(LOG, CHECKPOINT_MIN_BYTES),
            under_way: BTreeSet::new(),
        };
        let patience = Patience::new(None, options.client_give_up_ms);
        let entries = |operation: &PlannedOperation| vec![own_front(layout, operation)];
        Ok(Deployment::on(layout)
            .fronts(coordinator)
            .homes(shard)
            .clients(operations, patience, entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::txn::{Op, Value};
    use crate::protocol::testing::*;

    const TRANSFER: [(Key, Op); 3] = [
        (
            Key {
                table: crate::base::txn::TableId(0),
                row: 0,
            },
            Op::Add(-500),
        ),
        (
            Key {
                table: crate::base::txn::TableId(1),
                row: 0,
            },
            Op::Add(250),
        ),
        (
            Key {
                table: crate::base::txn::TableId(2),
                row: 0,
            },
            Op::Add(250),
        ),
    ];

    /// One transfer over three shards. The last one's flush fails `failures` times; what it writes in between does not.
    fn transfer(policy: OnPartialFailure, failures: usize) -> Bench<Node> {
        let layout = layout(3, 1, Value::Int(1_000));
        let options = Options {
            on_partial_failure: policy,
            ..Options::default()
        };
        let operations = [operation(1, txn(1, &TRANSFER, vec![]))];
        let mut table = Bench::new(Naive::deploy(&layout, &options, &operations).unwrap());
        let unlucky = Addr {
            node: layout.home(ShardId(2)),
            port: 0,
        };
        let mut failures = failures;
        let mut in_doubt = false;
        while table.outcomes().is_empty() {
            if let Some(addr) = table.flushing().first().copied() {
                if addr == unlucky && failures > 0 && !in_doubt {
                    failures -= 1;
                    in_doubt = true;
                    table.fail_flush(addr, false);
                } else {
                    in_doubt &= addr != unlucky;
                    table.flush(addr);
                }
            } else if !table.flights.is_empty() {
                table.deliver(0);
            } else {
                let timer = table.next_timer().unwrap();
                table.fire(timer);
            }
        }
        table
    }

    fn sum(table: &Bench<Node>) -> i64 {
        let states = table.autopsy();
        let rows = states.values().flat_map(|state| state.rows.values());
        rows.map(|row| row.value.as_int()).sum()
    }

    #[test]
    fn with_every_disk_working_all_parts_stand() {
        let table = transfer(OnPartialFailure::SaySuccess, 0);
        assert_eq!(sum(&table), 3_000);
        let outcomes = table.outcomes();
        let Outcome::Committed { reads } = &outcomes[&TxnId(1)] else {
            panic!("{outcomes:?}");
        };
        assert_eq!(reads.len(), 3);
    }

    #[test]
    fn saying_success_loses_a_write_and_nobody_knows() {
        let table = transfer(OnPartialFailure::SaySuccess, 1);
        assert!(matches!(
            table.outcomes()[&TxnId(1)],
            Outcome::Committed { .. }
        ));
        assert_eq!(sum(&table), 2_750, "the credit is missing");
    }

    #[test]
    fn saying_failure_leaves_writes_behind() {
        let table = transfer(OnPartialFailure::SayFailure, 1);
        assert!(matches!(
            table.outcomes()[&TxnId(1)],
            Outcome::Aborted { .. }
        ));
        assert_eq!(sum(&table), 2_750, "the debit stands");
    }

    #[test]
    fn retrying_gets_there_as_long_as_the_coordinator_lives() {
        let table = transfer(OnPartialFailure::Retry, 2);
        assert!(matches!(
            table.outcomes()[&TxnId(1)],
            Outcome::Committed { .. }
        ));
        assert_eq!(sum(&table), 3_000);
    }

    #[test]
    fn a_coordinator_that_dies_in_between_leaves_a_partial_commit_whatever_the_policy() {
        let layout = layout(3, 1, Value::Int(1_000));
        let options = Options {
            on_partial_failure: OnPartialFailure::Retry,
            ..Options::default()
        };
        let operations = [operation(1, txn(1, &TRANSFER, vec![]))];
        let mut table = Bench::new(Naive::deploy(&layout, &options, &operations).unwrap());
        let start = table.next_timer().unwrap();
        table.fire(start);
        table.deliver(0);
        table.deliver(0); // The first shard's COMMIT; the others' are lost with the coordinator.
        table.flights.clear();
        table.crash(layout.regions[0].fronts[0], &mut Dice(1));
        table.boot(layout.regions[0].fronts[0]);
        let returned = |table: &Bench<Node>| !table.outcomes().is_empty();
        assert!(table.settle(1_000, returned));
        assert_eq!(table.outcomes()[&TxnId(1)], Outcome::Unknown);
        assert_eq!(sum(&table), 2_500);
    }

    #[test]
    fn a_guard_on_one_shard_does_not_stop_the_others() {
        let layout = layout(2, 1, Value::Int(10));
        let guard = Guard::SumAtLeast {
            keys: vec![key(0, 0)],
            at_least: 50,
        };
        let effects = [(key(0, 0), Op::Add(-50)), (key(1, 0), Op::Add(50))];
        let operations = [operation(1, txn(1, &effects, vec![guard]))];
        let options = Options {
            on_partial_failure: OnPartialFailure::SayFailure,
            ..Options::default()
        };
        let mut table = Bench::new(Naive::deploy(&layout, &options, &operations).unwrap());
        assert!(table.settle(1_000, |table| !table.outcomes().is_empty()));
        let declined = Outcome::Declined { guard: 0 };
        assert_eq!(table.outcomes()[&TxnId(1)], declined);
        assert_eq!(sum(&table), 70, "money from nowhere");
    }

    #[test]
    fn under_trouble_transfers_are_left_half_done() {
        let layout = layout(4, 2, Value::Int(20));
        let mut partial = 0;
        for seed in 0..40 {
            let operations = contended(&layout, 12, &mut Dice(seed));
            let trouble = Trouble { crash: 0, ..ROUGH };
            let table = run::<Naive>(&layout, &Options::default(), &operations, trouble, seed);
            let standing = standing(&table.autopsy());
            partial += { operations.iter() }
                .filter_map(|operation| Some((operation, standing.get(&operation.txn.id)?)))
                .filter(|(operation, keys)| keys.len() < operation.txn.effects.len())
                .count();
        }
        assert!(partial > 10, "{partial}");
    }
}
