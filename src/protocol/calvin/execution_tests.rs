//! Shards under a hostile schedule against a serial interpreter of the same log.
//!
//! No world here: a schedule says which message arrives next, twice or never, which flush completes, and
//! which machine crashes. Whatever it says, the copies of every region end in the state that executing the log
//! one transaction after another gives, and every reply is that execution's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::messages::{Batch, Entry, Message};
use super::shard::Shard;
use super::{Options, Place, Timer};
use crate::base::hlc::Stamp;
use crate::base::observation::{Observation, Outcome};
use crate::base::options::Number;
use crate::base::process::{
    Addr, Disk, Effect, Effects, FlushId, Input, NodeId, Process, WallTime,
};
use crate::base::txn::ShardId;
use crate::base::txn::*;
use crate::protocol::Autopsy;
use crate::protocol::kit::client::ClientMessage;
use crate::scenario::layout::{self, EngineKind, Layout, Region, Table};

const SHARDS: u16 = 3;
const REGIONS: u16 = 2;
const ROWS: u32 = 9;

fn key(row: u32) -> Key {
    Key {
        table: TableId(0),
        row,
    }
}

/// Regions of a front, a machine for each shard, and a client.
pub(super) fn layout() -> Layout {
    let machines = 2 + SHARDS;
    let region = |region: u16| {
        let first = region * machines;
        Region {
            name: format!("r{region}"),
            cloud: "a".into(),
            fronts: vec![NodeId(first)],
            data: (1..=SHARDS).map(|n| NodeId(first + n)).collect(),
            client: NodeId(first + SHARDS + 1),
        }
    };
    let shards = (0..SHARDS).map(|shard| layout::Shard {
        table: TableId(0),
        engine: EngineKind::Postgres,
        home: usize::from(shard % REGIONS),
    });
    Layout {
        regions: (0..REGIONS).map(region).collect(),
        tables: vec![Table {
            name: "accounts".into(),
            engine: EngineKind::Postgres,
            shards: (0..SHARDS).map(ShardId).collect(),
            rows: ROWS,
            initial: Value::Int(10),
        }],
        shards: shards.collect(),
        nodes: REGIONS * machines,
        clock_bound_ns: None,
    }
}

// --- The oracle ------------------------------------------------------------------------------------------

/// Executes a log one transaction after another. Shares nothing with the code under test but what a
/// transaction is.
#[derive(Clone)]
struct Serial {
    rows: BTreeMap<Key, Row>,
    outcomes: BTreeMap<TxnId, Outcome>,
}

impl Serial {
    fn new() -> Self {
        let row = |row| (key(row), Row::initial(Value::Int(10)));
        Self {
            rows: (0..ROWS).map(row).collect(),
            outcomes: BTreeMap::new(),
        }
    }

    fn execute(&mut self, entry: &Entry) {
        if self.outcomes.contains_key(&entry.txn.id) {
            return;
        }
        let row = |key: &Key| (*key, self.rows[key].clone());
        let seen: BTreeMap<Key, Row> = entry.footprint.reads.iter().map(row).collect();
        let outcome = match entry.txn.evaluate(&entry.footprint, |key| seen.get(&key)) {
            Evaluation::Moved => return,
            Evaluation::Declined(guard) => Outcome::Declined { guard },
            Evaluation::Commit(writes) => {
                for Write { key, op } in writes {
                    let value = op.apply(&self.rows[&key].value);
                    let (txn, undo) = (entry.txn.id, false);
                    let writer = WriteId { txn, undo };
                    self.rows.insert(key, Row { value, writer });
                }
                let reads = seen.into_iter().map(|(key, row)| Read { key, row });
                Outcome::Committed {
                    reads: reads.collect(),
                }
            }
        };
        self.outcomes.insert(entry.txn.id, outcome);
    }
}

// --- The hostile world -----------------------------------------------------------------------------------

struct Machine {
    pristine: Shard,
    shard: Shard,
    disk: Disk,
    /// Appends and replacements that no flush covers yet, and flushes.
    unflushed: Vec<DiskOperation>,
}

enum DiskOperation {
    Append(crate::base::process::FileId, Vec<u8>),
    Replace(crate::base::process::FileId, Vec<u8>),
    Flush(FlushId),
}

struct World {
    layout: Arc<Layout>,
    machines: BTreeMap<Addr, Machine>,
    in_flight: Vec<(Addr, Addr, Message)>,
    /// The merged log, by first position.
    log: Vec<(u64, Arc<Batch>)>,
    serial: Serial,
    checkpoints: BTreeMap<Addr, u64>,
    /// The log up to here is gone, for those that ask.
    floor: u64,
    replies: Vec<(TxnId, Outcome)>,
    marks: BTreeMap<&'static str, u32>,
}

fn addr(node: NodeId) -> Addr {
    Addr { node, port: 0 }
}

impl World {
    fn new(options: Options) -> Self {
        let layout = Arc::new(layout());
        let options = Arc::new(options);
        let mut machines = BTreeMap::new();
        for (region, machine) in layout.regions.iter().enumerate() {
            for (shard, node) in machine.data.iter().enumerate() {
                let place = Place {
                    layout: Arc::clone(&layout),
                    options: Arc::clone(&options),
                    region,
                };
                let shard = Shard::new(place, ShardId(shard as u16));
                let machine = Machine {
                    pristine: shard.clone(),
                    shard,
                    disk: Disk::default(),
                    unflushed: Vec::new(),
                };
                machines.insert(addr(*node), machine);
            }
        }
        let mut world = Self {
            layout,
            machines,
            in_flight: Vec::new(),
            log: Vec::new(),
            serial: Serial::new(),
            checkpoints: BTreeMap::new(),
            floor: 0,
            replies: Vec::new(),
            marks: BTreeMap::new(),
        };
        for at in world.machines.keys().copied().collect::<Vec<_>>() {
            world.step(at, Input::Boot(Disk::default()));
        }
        world
    }

    fn end(&self) -> u64 {
        let end = |(first, batch): &(u64, Arc<Batch>)| first + batch.entries.len() as u64 - 1;
        self.log.last().map_or(0, end)
    }

    /// The log grows by a batch, and every region's shards hear of it.
    fn sequence(&mut self, entries: Vec<Arc<Entry>>) {
        let (first, stamp) = (self.end() + 1, Stamp::default());
        for entry in &entries {
            self.serial.execute(entry);
        }
        let batch = (first, Arc::new(Batch { stamp, entries }));
        self.log.push(batch.clone());
        for to in self.machines.keys().copied().collect::<Vec<_>>() {
            let message = Message::Feed {
                batches: vec![batch.clone()],
                floor: self.floor,
            };
            self.in_flight.push((self.front_near(to), to, message));
        }
    }

    fn front_near(&self, shard: Addr) -> Addr {
        let region = self.layout.region_of(shard.node).unwrap();
        addr(self.layout.regions[region].fronts[0])
    }

    fn step(&mut self, at: Addr, input: Input<Message, Timer>) {
        let mut out = Effects::default();
        let machine = self.machines.get_mut(&at).unwrap();
        machine.shard.step(WallTime::START, input, &mut out);
        for effect in out.drain() {
            match effect {
                Effect::Send { to, message } => self.in_flight.push((at, to, message)),
                Effect::Append { file, bytes } => {
                    machine.unflushed.push(DiskOperation::Append(file, bytes));
                }
                Effect::Replace { file, bytes } => {
                    machine.unflushed.push(DiskOperation::Replace(file, bytes));
                }
                Effect::Flush(flush) => machine.unflushed.push(DiskOperation::Flush(flush)),
                Effect::Observe(Observation::Mark(mark)) => {
                    *self.marks.entry(mark).or_default() += 1;
                }
                _ => {}
            }
        }
    }

    /// Brings what was written before the first flush under way to the disk, or with `all` everything.
    fn reach_disk(machine: &mut Machine, all: bool) -> Option<FlushId> {
        let mut flushed = None;
        let mut operations = std::mem::take(&mut machine.unflushed).into_iter();
        for operation in operations.by_ref() {
            match operation {
                DiskOperation::Append(file, bytes) => {
                    machine.disk.file_mut(file).extend(bytes);
                }
                DiskOperation::Replace(file, bytes) => *machine.disk.file_mut(file) = bytes,
                DiskOperation::Flush(flush) if !all => {
                    flushed = Some(flush);
                    break;
                }
                DiskOperation::Flush(_) => {}
            }
        }
        machine.unflushed = operations.collect();
        flushed
    }

    fn flush(&mut self, at: Addr, ok: bool) {
        let machine = self.machines.get_mut(&at).unwrap();
        let is_flush = |operation: &DiskOperation| matches!(operation, DiskOperation::Flush(_));
        let Some(first) = machine.unflushed.iter().position(is_flush) else {
            return;
        };
        if ok {
            let flush = Self::reach_disk(machine, false).unwrap();
            self.step(at, Input::Flushed(flush));
        } else {
            let DiskOperation::Flush(flush) = machine.unflushed[first] else {
                unreachable!()
            };
            machine.unflushed.drain(..=first);
            self.step(at, Input::FlushFailed(flush));
        }
    }

    fn crash(&mut self, at: Addr, kept: bool) {
        let machine = self.machines.get_mut(&at).unwrap();
        if kept {
            Self::reach_disk(machine, true);
        }
        machine.unflushed.clear();
        machine.shard = machine.pristine.clone();
        let disk = machine.disk.clone();
        self.step(at, Input::Boot(disk));
    }

    fn deliver(&mut self, which: usize, again: bool) {
        let (from, to, message) = match again {
            true => self.in_flight[which].clone(),
            false => self.in_flight.swap_remove(which),
        };
        if self.machines.contains_key(&to) {
            self.step(to, Input::Message { from, message });
        } else {
            self.deliver_outside(from, to, message);
        }
    }

    /// What fronts and clients do, as far as a shard can tell.
    fn deliver_outside(&mut self, from: Addr, front: Addr, message: Message) {
        let floor = self.floor;
        match message {
            Message::Client(ClientMessage::Reply { txn, outcome }) => {
                self.replies.push((txn, outcome));
            }
            Message::Follow { after, .. } => {
                let answer = if after < floor {
                    Message::Compacted { floor }
                } else {
                    let batches = self.log.iter().filter(|(first, _)| *first > after);
                    let batches = batches.cloned().collect();
                    Message::Feed { batches, floor }
                };
                self.in_flight.push((front, from, answer));
            }
            Message::Restart(entry) => self.restart(&entry),
            Message::Checkpointed { position, .. } => {
                let known = self.checkpoints.entry(from).or_default();
                *known = position.max(*known);
            }
            other => panic!("{other:?} to {front}"),
        }
    }

    /// What a front does, with a reconnaissance of the latest state.
    fn restart(&mut self, entry: &Entry) {
        let newer = |other: &Entry| other.txn.id == entry.txn.id && other.attempt > entry.attempt;
        let mut sequenced = self.log.iter().flat_map(|(_, batch)| &batch.entries);
        if sequenced.any(|other| newer(other)) {
            return;
        }
        let value_of = |key: Key| self.serial.rows[&key].value.as_int();
        let again = Entry {
            footprint: entry.txn.footprint(value_of),
            attempt: entry.attempt + 1,
            ..entry.clone()
        };
        self.sequence(vec![Arc::new(again)]);
    }

    /// As a front may: what every copy of a region has a durable checkpoint of is forgotten.
    fn forget(&mut self) {
        let region_floor = |region: &Region| {
            let of = |node: &NodeId| self.checkpoints.get(&addr(*node)).copied().unwrap_or(0);
            region.data.iter().map(of).min().unwrap()
        };
        let floors = self.layout.regions.iter().map(region_floor);
        self.floor = self.floor.max(floors.max().unwrap());
    }

    /// Takes one step that the schedule names.
    fn act(&mut self, choice: Choice) {
        let machines: Vec<Addr> = self.machines.keys().copied().collect();
        match choice {
            Choice::Deliver(which, again) if !self.in_flight.is_empty() => {
                self.deliver(which.index(self.in_flight.len()), again);
            }
            Choice::Lose(which) if !self.in_flight.is_empty() => {
                let which = which.index(self.in_flight.len());
                self.in_flight.swap_remove(which);
            }
            Choice::Flush(which, ok) => self.flush(*which.get(&machines), ok),
            Choice::Crash(which, kept) => self.crash(*which.get(&machines), kept),
            Choice::Housekeeping(which) => {
                self.step(*which.get(&machines), Input::Timer(Timer::Housekeeping));
                self.step(*which.get(&machines), Input::Timer(Timer::Gathering));
            }
            Choice::Sequence(entries) => {
                let entries = entries.into_iter().map(Arc::new).collect();
                self.sequence(entries);
            }
            Choice::Forget => self.forget(),
            Choice::Deliver(..) | Choice::Lose(_) => {}
        }
    }

    /// From now on everything works. Runs until all copies have applied the whole log.
    fn settle(&mut self) {
        for _ in 0..60 {
            let machines: Vec<Addr> = self.machines.keys().copied().collect();
            for at in &machines {
                self.flush(*at, true);
                self.step(*at, Input::Timer(Timer::Housekeeping));
                self.step(*at, Input::Timer(Timer::Gathering));
            }
            while !self.in_flight.is_empty() {
                self.deliver(0, false);
            }
            let applied = |m: &Machine| m.shard.autopsy().map(|copy| copy.applied_to);
            let done = self
                .machines
                .values()
                .all(|m| applied(m) == Some(self.end()));
            if done && self.unended().is_empty() {
                return;
            }
        }
        panic!("the copies do not catch up: {:?} unended", self.unended());
    }

    fn unended(&self) -> BTreeSet<TxnId> {
        let entries = self.log.iter().flat_map(|(_, batch)| &batch.entries);
        let ids = entries.map(|entry| entry.txn.id);
        ids.filter(|id| !self.serial.outcomes.contains_key(id))
            .collect()
    }

    /// Every copy holds what serial execution gives, and every reply was true.
    fn check(&self) -> Result<(), TestCaseError> {
        for machine in self.machines.values() {
            let copy = machine.shard.autopsy().expect("it keeps one");
            let here = |key: &Key| self.layout.shard_of(*key) == copy.shard;
            let expected = self.serial.rows.iter().filter(|(key, _)| here(key));
            let expected: BTreeMap<_, _> = expected.map(|(k, r)| (*k, r.clone())).collect();
            prop_assert_eq!(
                &copy.rows,
                &expected,
                "{} in region {}",
                copy.shard,
                copy.region
            );
            let ledger: BTreeSet<_> = copy.ledger.iter().collect();
            prop_assert_eq!(ledger.len(), copy.ledger.len(), "every write once");
        }
        for (txn, outcome) in &self.replies {
            prop_assert_eq!(Some(outcome), self.serial.outcomes.get(txn), "{}", txn);
        }
        Ok(())
    }
}

// --- Schedules -------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Choice {
    Deliver(prop::sample::Index, bool),
    Lose(prop::sample::Index),
    Flush(prop::sample::Index, bool),
    Crash(prop::sample::Index, bool),
    Housekeeping(prop::sample::Index),
    Sequence(Vec<Entry>),
    Forget,
}

/// The transaction of an id: the same whenever the id comes up again, so that duplicates are duplicates.
fn txn_of(id: u64) -> Txn {
    let at = |n: u64| key(((id * 7 + n * 5) % u64::from(ROWS)) as u32);
    let other = |n: u64| key(((id * 7 + n * 5 + 3) % u64::from(ROWS)) as u32);
    let choice = Target::Choice {
        on: at(0),
        at_least: 8 + (id % 5) as i64,
        then: at(1),
        otherwise: other(2),
    };
    let effect = |target, op| crate::base::txn::Effect { target, op };
    let (reads, guards, effects) = match id % 5 {
        // A transfer that may decline.
        0 => (
            vec![],
            vec![Guard::SumAtLeast {
                keys: vec![at(0)],
                at_least: 4,
            }],
            vec![
                effect(Target::Key(at(0)), Op::Add(-4)),
                effect(Target::Key(at(1)), Op::Add(4)),
            ],
        ),
        // Reads only, of several shards.
        1 => (
            vec![Target::Key(at(0)), Target::Key(at(1)), Target::Key(at(2))],
            vec![],
            vec![],
        ),
        // Writes where a pointer says.
        2 => (vec![], vec![], vec![effect(choice, Op::Put(id as i64))]),
        // Reads here, writes there: a passive participant.
        3 => (
            vec![Target::Key(at(1))],
            vec![],
            vec![effect(Target::Key(at(0)), Op::Add(1))],
        ),
        // Reads where a pointer says, and moves pointers.
        _ => (
            vec![choice],
            vec![],
            vec![effect(
                Target::Key(at(0)),
                Op::Add(if id.is_multiple_of(2) { 3 } else { -3 }),
            )],
        ),
    };
    Txn {
        id: TxnId(id),
        reads,
        guards,
        effects,
        pivot: None,
    }
}

/// An entry of a transaction with any footprint that a reconnaissance might have found.
fn entry() -> impl Strategy<Value = Entry> {
    (1u64..40, any::<bool>(), 0..REGIONS).prop_map(|(id, high, region)| {
        let txn = txn_of(id);
        let pointer = if high { 1_000 } else { -1_000 };
        Entry {
            footprint: txn.footprint(|_| pointer),
            txn: Arc::new(txn),
            attempt: 0,
            client: addr(layout().regions[usize::from(region)].client),
            region,
        }
    })
}

fn choice() -> impl Strategy<Value = Choice> {
    let which = any::<prop::sample::Index>;
    prop_oneof![
        30 => (which(), prop::bool::weighted(0.1)).prop_map(|(w, again)| Choice::Deliver(w, again)),
        3 => which().prop_map(Choice::Lose),
        4 => (which(), prop::bool::weighted(0.9)).prop_map(|(w, ok)| Choice::Flush(w, ok)),
        1 => (which(), any::<bool>()).prop_map(|(w, kept)| Choice::Crash(w, kept)),
        3 => which().prop_map(Choice::Housekeeping),
        5 => prop::collection::vec(entry(), 1..6).prop_map(Choice::Sequence),
        1 => Just(Choice::Forget),
    ]
}

fn options(checkpoint_every: u64) -> Options {
    Options {
        checkpoint_every: Number::new(checkpoint_every),
        ..Options::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn overlapped_execution_under_any_schedule_equals_serial_execution_in_log_order(
        choices in prop::collection::vec(choice(), 1..400),
        checkpoint_every in 1u64..30,
    ) {
        let mut world = World::new(options(checkpoint_every));
        for choice in choices {
            world.act(choice);
        }
        world.settle();
        world.check()?;
        // A power cut of everything, and replay, change nothing.
        for at in world.machines.keys().copied().collect::<Vec<_>>() {
            world.crash(at, false);
        }
        world.settle();
        world.check()?;
    }
}

fn entry_of(id: u64, pointer: i64) -> Entry {
    let txn = txn_of(id);
    Entry {
        footprint: txn.footprint(|_| pointer),
        txn: Arc::new(txn),
        attempt: 0,
        client: addr(layout().regions[0].client),
        region: 0,
    }
}

#[test]
fn a_duplicate_in_the_log_changes_nothing_and_is_answered_alike() {
    let mut world = World::new(options(1000));
    let transfer = entry_of(5, 0);
    world.sequence(vec![Arc::new(transfer.clone())]);
    world.sequence(vec![Arc::new(transfer.clone()), Arc::new(transfer)]);
    world.settle();
    world.check().unwrap();
    assert_eq!(world.replies.len(), 3);
    assert!(world.marks["calvin.duplicate-in-log"] > 0);
}

#[test]
fn an_overtaken_reconnaissance_is_repeated_until_the_transaction_ends() {
    let mut world = World::new(options(1000));
    world.sequence(vec![Arc::new(entry_of(2, -1_000))]); // The pointer holds 10: the other side.
    world.settle();
    world.check().unwrap();
    assert!(world.marks["calvin.reconnaissance-overtaken"] > 0);
    assert_eq!(world.replies.len(), 1, "the client sees the end only");
}

#[test]
fn a_copy_whose_log_is_gone_takes_a_checkpoint_from_another_region() {
    let mut world = World::new(options(5));
    let lost = addr(world.layout.regions[1].data[0]);
    for id in 1..30 {
        world.sequence(vec![Arc::new(entry_of(id * 5, 0))]);
    }
    // Region 1's first shard hears nothing while the others go on and forget.
    world.in_flight.retain(|(_, to, _)| *to != lost);
    for _ in 0..20 {
        let machines: Vec<Addr> = world.machines.keys().copied().collect();
        for at in machines.into_iter().filter(|at| *at != lost) {
            world.flush(at, true);
        }
        while let Some(next) = world.in_flight.iter().position(|(_, to, _)| *to != lost) {
            world.deliver(next, false);
        }
    }
    world.in_flight.clear();
    world.forget();
    assert!(world.floor > 0);
    world.settle();
    world.check().unwrap();
    assert!(world.marks["calvin.state-transfer"] > 0);
}

#[test]
fn a_damaged_checkpoint_is_found_and_replaced() {
    let mut world = World::new(options(3));
    for id in 1..20 {
        world.sequence(vec![Arc::new(entry_of(id * 5, 0))]);
    }
    world.settle();
    world.settle();
    let at = addr(world.layout.regions[0].data[1]);
    let machine = world.machines.get_mut(&at).unwrap();
    let file = machine.disk.file_mut(super::replica::CHECKPOINT);
    let middle = file.len() / 2;
    file[middle] ^= 4;
    world.crash(at, false);
    world.settle();
    world.check().unwrap();
    assert_eq!(world.marks["calvin.checkpoint-damaged"], 1);
}
