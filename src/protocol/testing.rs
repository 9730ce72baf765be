//! A tiny host for protocol tests: everything that could happen next is on the table, and either a script or a
//! dice picks what does. It shares nothing with the simulator, so the two check one another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use petgraph::graphmap::DiGraphMap;

use super::{Autopsy, Deployment, Protocol};
use crate::base::observation::{Observation, Outcome};
use crate::base::process::*;
use crate::base::txn::*;
use crate::plan::{PlannedOperation, Start};
use crate::scenario::layout::*;
use crate::shard::{LedgerEntry, ShardState};

/// Two regions, each with a front, a client machine, and a copy of each of `shards` shards, whose tables
/// alternate between the engines and whose homes alternate between the regions. Table t is shard t.
pub fn layout(shards: u16, rows: u32, initial: Value) -> Layout {
    let per_region = 2 + shards;
    let region = |at: u16| Region {
        name: ["eu", "us"][usize::from(at)].into(),
        cloud: "a".into(),
        fronts: vec![NodeId(at * per_region)],
        data: (0..shards)
            .map(|s| NodeId(at * per_region + 1 + s))
            .collect(),
        client: NodeId(at * per_region + 1 + shards),
    };
    let engine = |shard: u16| [EngineKind::Postgres, EngineKind::Scylla][usize::from(shard % 2)];
    Layout {
        regions: vec![region(0), region(1)],
        tables: (0..shards)
            .map(|shard| Table {
                name: format!("t{shard}"),
                engine: engine(shard),
                shards: vec![ShardId(shard)],
                rows,
                initial: initial.clone(),
            })
            .collect(),
        shards: (0..shards)
            .map(|shard| Shard {
                table: TableId(shard as u8),
                engine: engine(shard),
                home: usize::from(shard % 2),
            })
            .collect(),
        nodes: 2 * per_region,
        clock_bound_ns: Some(5_000_000),
    }
}

/// Row `row` of shard `shard` in such a layout.
pub fn key(shard: u8, row: u32) -> Key {
    let table = TableId(shard);
    Key { table, row }
}

/// A transaction of effects on known rows.
pub fn txn(id: u64, effects: &[(Key, Op)], guards: Vec<Guard>) -> Txn {
    let effect = |(key, op): &(Key, Op)| crate::base::txn::Effect {
        target: Target::Key(*key),
        op: *op,
    };
    Txn {
        id: TxnId(id),
        reads: vec![],
        guards,
        effects: effects.iter().map(effect).collect(),
        pivot: None,
    }
}

/// An operation that starts with the run, from the first region.
pub fn operation(session: u32, txn: Txn) -> PlannedOperation {
    let (region, start) = (0, Start::At(0));
    PlannedOperation {
        region,
        session,
        start,
        txn,
    }
}

/// A small generator of choices (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

struct Live<P: Process> {
    process: P,
    timers: BTreeMap<P::Timer, u64>,
    pending: Vec<(FileId, Vec<u8>, bool)>,
    flushes: Vec<(FlushId, usize)>,
}

/// A message under way.
pub struct Flight<M> {
    pub from: Addr,
    pub to: Addr,
    pub message: M,
}

/// The host.
pub struct Bench<P: Process> {
    pristine: BTreeMap<Addr, P>,
    live: BTreeMap<Addr, Live<P>>,
    disks: BTreeMap<Addr, Disk>,
    pub flights: Vec<Flight<P::Message>>,
    /// Time, in nanoseconds: moves only when a timer fires.
    pub now_ns: u64,
    /// Everything observed, in order.
    pub observed: Vec<(Addr, Observation)>,
    /// Every message sent, by whom and to whom.
    pub sent: Vec<(Addr, Addr, &'static str)>,
    /// Flushes that succeeded so far.
    pub flushed: usize,
    /// What the last steps did, in words.
    pub log: String,
}

impl<P: Process> Bench<P> {
    pub fn new(deployment: Deployment<P>) -> Self {
        let mut table = Self {
            pristine: BTreeMap::new(),
            live: BTreeMap::new(),
            disks: BTreeMap::new(),
            flights: Vec::new(),
            now_ns: 0,
            observed: Vec::new(),
            sent: Vec::new(),
            flushed: 0,
            log: String::new(),
        };
        for (node, processes) in deployment.processes.into_iter().enumerate() {
            for (port, process) in processes.into_iter().enumerate() {
                let node = NodeId(node as u16);
                let port = port as u8;
                table.pristine.insert(Addr { node, port }, process);
            }
        }
        let nodes: BTreeSet<NodeId> = table.pristine.keys().map(|addr| addr.node).collect();
        nodes.into_iter().for_each(|node| table.boot(node));
        table
    }

    pub fn nodes(&self) -> Vec<NodeId> {
        let nodes: BTreeSet<NodeId> = self.pristine.keys().map(|addr| addr.node).collect();
        nodes.into_iter().collect()
    }

    pub fn is_up(&self, node: NodeId) -> bool {
        self.live.keys().any(|addr| addr.node == node)
    }

    /// Loses, keeps or tears what was not flushed.
    pub fn crash(&mut self, node: NodeId, dice: &mut Dice) {
        let down: Vec<Addr> = self
            .live
            .keys()
            .copied()
            .filter(|a| a.node == node)
            .collect();
        for addr in down {
            let live = self.live.remove(&addr).unwrap();
            let survivors = dice.below(live.pending.len() + 1);
            for (at, (file, bytes, replace)) in live.pending.iter().enumerate().take(survivors + 1)
            {
                let whole = at < survivors;
                let disk = self.disks.entry(addr).or_default().file_mut(*file);
                match (whole, replace) {
                    (true, true) => *disk = bytes.clone(),
                    (true, false) => disk.extend(bytes),
                    (false, false) => disk.extend(&bytes[..dice.below(bytes.len() + 1)]),
                    (false, true) => {}
                }
            }
        }
    }

    /// Loses what was not flushed.
    pub fn crash_clean(&mut self, node: NodeId) {
        self.live.retain(|addr, _| addr.node != node);
    }

    pub fn boot(&mut self, node: NodeId) {
        let up: Vec<Addr> = self
            .pristine
            .keys()
            .copied()
            .filter(|a| a.node == node)
            .collect();
        for addr in up {
            let live = Live {
                process: self.pristine[&addr].clone(),
                timers: BTreeMap::new(),
                pending: Vec::new(),
                flushes: Vec::new(),
            };
            self.live.insert(addr, live);
            let disk = self.disks.entry(addr).or_default().clone();
            self.step(addr, Input::Boot(disk));
        }
    }

    fn step(&mut self, addr: Addr, input: Input<P::Message, P::Timer>) {
        let live = self.live.get_mut(&addr).unwrap();
        let mut out = Effects::default();
        live.process.step(WallTime(self.now_ns), input, &mut out);
        let mut halted = false;
        for effect in out.drain() {
            match effect {
                crate::base::process::Effect::Send { to, message } => {
                    let _ = writeln!(self.log, "  {addr} -> {to} {}", message.label());
                    self.sent.push((addr, to, message.label()));
                    let from = addr;
                    self.flights.push(Flight { from, to, message });
                }
                crate::base::process::Effect::SetTimer { timer, after } => {
                    live.timers.insert(timer, self.now_ns + after.max_ns);
                }
                crate::base::process::Effect::CancelTimer(timer) => {
                    live.timers.remove(&timer);
                }
                crate::base::process::Effect::Append { file, bytes } => {
                    live.pending.push((file, bytes, false));
                }
                crate::base::process::Effect::Replace { file, bytes } => {
                    live.pending.push((file, bytes, true));
                }
                crate::base::process::Effect::Flush(id) => {
                    let _ = writeln!(self.log, "  {addr} flushes");
                    live.flushes.push((id, live.pending.len()));
                }
                crate::base::process::Effect::Work(_) => {}
                crate::base::process::Effect::Observe(what) => {
                    let _ = writeln!(self.log, "  {addr} {what:?}");
                    self.observed.push((addr, what));
                }
                crate::base::process::Effect::Halt(why) => {
                    let _ = writeln!(self.log, "  {addr} halts: {why}");
                    halted = true;
                    break;
                }
            }
        }
        if halted {
            self.crash_clean(addr.node);
        }
    }

    pub fn deliver(&mut self, at: usize) {
        let Flight { from, to, message } = self.flights.remove(at);
        if self.live.contains_key(&to) {
            self.step(to, Input::Message { from, message });
        }
    }

    pub fn duplicate(&mut self, at: usize) {
        let Flight { from, to, message } = &self.flights[at];
        let copy = Flight {
            from: *from,
            to: *to,
            message: message.clone(),
        };
        self.flights.push(copy);
    }

    /// The processes with a flush under way.
    pub fn flushing(&self) -> Vec<Addr> {
        let flushing = self
            .live
            .iter()
            .filter(|(_, live)| !live.flushes.is_empty());
        flushing.map(|(addr, _)| *addr).collect()
    }

    pub fn flush(&mut self, addr: Addr) {
        let live = self.live.get_mut(&addr).unwrap();
        let (id, covers) = live.flushes.remove(0);
        for (file, bytes, replace) in live.pending.drain(..covers) {
            let disk = self.disks.entry(addr).or_default().file_mut(file);
            match replace {
                true => *disk = bytes,
                false => disk.extend(bytes),
            }
        }
        live.flushes
            .iter_mut()
            .for_each(|(_, later)| *later -= covers);
        self.flushed += 1;
        self.step(addr, Input::Flushed(id));
    }

    /// Its flushes fail. `kept`: what they were to make durable is on the disk nevertheless.
    pub fn fail_flush(&mut self, addr: Addr, kept: bool) {
        let live = self.live.get_mut(&addr).unwrap();
        for (file, bytes, replace) in live.pending.drain(..).filter(|_| kept) {
            let disk = self.disks.entry(addr).or_default().file_mut(file);
            match replace {
                true => *disk = bytes,
                false => disk.extend(bytes),
            }
        }
        for (id, _) in std::mem::take(&mut live.flushes) {
            self.step(addr, Input::FlushFailed(id));
        }
    }

    /// The timer that is due first.
    pub fn next_timer(&self) -> Option<(u64, Addr, P::Timer)> {
        let timers = self.live.iter().flat_map(|(addr, live)| {
            live.timers
                .iter()
                .map(|(timer, due)| (*due, *addr, timer.clone()))
        });
        timers.min()
    }

    pub fn fire(&mut self, (due, addr, timer): (u64, Addr, P::Timer)) {
        self.now_ns = self.now_ns.max(due);
        if let Some(live) = self.live.get_mut(&addr)
            && live.timers.remove(&timer).is_some()
        {
            self.step(addr, Input::Timer(timer));
        }
    }

    /// Delivers, flushes and fires in order until nothing is under way or `done`; false after `steps_max`.
    pub fn settle(&mut self, steps_max: usize, done: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..steps_max {
            for node in self.nodes() {
                if !self.is_up(node) {
                    self.boot(node); // It halted itself.
                }
            }
            if let Some(addr) = self.flushing().first() {
                self.flush(*addr);
            } else if !self.flights.is_empty() {
                self.deliver(0);
            } else if done(self) {
                return true;
            } else if let Some(timer) = self.next_timer() {
                self.fire(timer);
            } else {
                return false;
            }
        }
        false
    }

    /// What each client learned.
    pub fn outcomes(&self) -> BTreeMap<TxnId, Outcome> {
        let returned = self.observed.iter().filter_map(|(_, what)| match what {
            Observation::Returned { txn, outcome, .. } => Some((*txn, outcome.clone())),
            _ => None,
        });
        returned.collect()
    }

    /// Transactions that were initiated and have not ended.
    pub fn unended(&self) -> BTreeSet<TxnId> {
        let mut open = BTreeSet::new();
        for (_, what) in &self.observed {
            match what {
                Observation::Initiated { txn } => open.insert(*txn),
                _ => false,
            };
        }
        for (_, what) in &self.observed {
            if let Observation::Ended { txn, .. } = what {
                open.remove(txn);
            }
        }
        open
    }
}

impl<P: Autopsy> Bench<P> {
    pub fn autopsy(&self) -> BTreeMap<ShardId, ShardState> {
        let states = self.live.values().flat_map(|live| live.process.copies());
        states.map(|state| (state.shard, state)).collect()
    }
}

/// How the dice treats a run.
#[derive(Clone, Copy)]
pub struct Trouble {
    /// In percent of steps.
    pub crash: usize,
    pub lose: usize,
    pub duplicate: usize,
    pub fail_flush: usize,
    /// In percent of steps: a timer fires though messages are under way.
    pub timer: usize,
    pub steps: usize,
}

pub const ROUGH: Trouble = Trouble {
    crash: 1,
    lose: 4,
    duplicate: 6,
    fail_flush: 2,
    timer: 4,
    steps: 600,
};

pub const CALM: Trouble = Trouble {
    crash: 0,
    lose: 0,
    duplicate: 0,
    fail_flush: 0,
    timer: 1,
    steps: 600,
};

/// Runs operations under trouble, then heals everything and lets them end.
///
/// # Panics
///
/// When they do not.
pub fn run<Pr: Protocol>(
    layout: &Layout,
    options: &Pr::Options,
    operations: &[PlannedOperation],
    trouble: Trouble,
    seed: u64,
) -> Bench<Pr::Process> {
    let mut table = Bench::new(Pr::deploy(layout, options, operations).unwrap());
    let mut dice = Dice(seed);
    let clients: BTreeSet<NodeId> = layout.regions.iter().map(|region| region.client).collect();
    for _ in 0..trouble.steps {
        let servers = table
            .nodes()
            .into_iter()
            .filter(|node| !clients.contains(node));
        let servers: Vec<NodeId> = servers.collect();
        if dice.percent(trouble.crash) {
            let node = servers[dice.below(servers.len())];
            table.crash(node, &mut dice);
        }
        for node in servers {
            if !table.is_up(node) && dice.percent(4) {
                table.boot(node);
            }
        }
        let flushing = table.flushing();
        if !flushing.is_empty() && dice.percent(40) {
            let addr = flushing[dice.below(flushing.len())];
            match dice.percent(trouble.fail_flush) {
                true => table.fail_flush(addr, dice.percent(50)),
                false => table.flush(addr),
            }
        } else if !table.flights.is_empty() && !dice.percent(trouble.timer) {
            let at = dice.below(table.flights.len());
            if dice.percent(trouble.duplicate) {
                table.duplicate(at);
            }
            match dice.percent(trouble.lose) {
                true => drop(table.flights.remove(at)),
                false => table.deliver(at),
            }
        } else if let Some(timer) = table.next_timer() {
            table.fire(timer);
        }
    }
    for node in table.nodes() {
        if !table.is_up(node) {
            table.boot(node);
        }
    }
    let all = operations.len();
    let done = |table: &Bench<Pr::Process>| {
        table.outcomes().len() == all
            && table.unended().is_empty()
            && table
                .autopsy()
                .values()
                .all(|state| state.in_doubt.is_empty())
    };
    let ended = table.settle(200_000, done);
    assert!(
        ended,
        "seed {seed}: {} of {all} returned, {:?} have not ended\n{}",
        table.outcomes().len(),
        table.unended(),
        table.log
    );
    table
}

/// Effects that stand: writes in the ledgers without their compensation.
pub fn standing(states: &BTreeMap<ShardId, ShardState>) -> BTreeMap<TxnId, BTreeSet<Key>> {
    let mut standing: BTreeMap<TxnId, BTreeSet<Key>> = BTreeMap::new();
    for LedgerEntry { key, write } in states.values().flat_map(|state| &state.ledger) {
        let keys = standing.entry(write.txn).or_default();
        match write.undo {
            false => keys.insert(*key),
            true => keys.remove(key),
        };
    }
    standing.retain(|_, keys| !keys.is_empty());
    standing
}

/// All or nothing, and what the client was told.
pub fn check_atomicity<P: Autopsy>(table: &Bench<P>, operations: &[PlannedOperation]) {
    let standing = standing(&table.autopsy());
    let outcomes = table.outcomes();
    for operation in operations {
        let txn = &operation.txn;
        let stands = standing.get(&txn.id).cloned().unwrap_or_default();
        let outcome = &outcomes[&txn.id];
        let expected = match outcome {
            Outcome::Committed { .. } => txn.effects.len(),
            Outcome::Declined { .. } | Outcome::Aborted { .. } => 0,
            Outcome::Unknown => panic!("nobody gives up"),
        };
        assert_eq!(
            stands.len(),
            expected,
            "{txn:?} is {outcome:?}, {stands:?} stand"
        );
    }
}

/// Strict serializability, from the versions that committed transactions saw and the order in which the shards
/// applied writes: no cycle of write-write, write-read, read-write and real-time dependencies.
pub fn check_strictly_serializable<P: Autopsy>(table: &Bench<P>) {
    let mut graph = DiGraphMap::<u64, &str>::new();
    let mut next: BTreeMap<(Key, TxnId), TxnId> = BTreeMap::new();
    for state in table.autopsy().values() {
        let mut last: BTreeMap<Key, TxnId> = BTreeMap::new();
        for LedgerEntry { key, write } in &state.ledger {
            let before = last.insert(*key, write.txn).unwrap_or(TxnId::INITIAL);
            next.insert((*key, before), write.txn);
            graph.add_edge(before.0, write.txn.0, "ww");
        }
    }
    for (txn, outcome) in table.outcomes() {
        let Outcome::Committed { reads } = outcome else {
            continue;
        };
        for read in reads {
            graph.add_edge(read.row.writer.txn.0, txn.0, "wr");
            match next.get(&(read.key, read.row.writer.txn)) {
                Some(overwriter) if *overwriter != txn => {
                    graph.add_edge(txn.0, overwriter.0, "rw");
                }
                _ => {}
            }
        }
    }
    let mut returned: Vec<TxnId> = Vec::new();
    for (_, what) in &table.observed {
        match what {
            Observation::Invoked { txn, .. } => {
                for before in &returned {
                    graph.add_edge(before.0, txn.0, "real time");
                }
            }
            Observation::Returned {
                txn,
                outcome: Outcome::Committed { .. },
                ..
            } => returned.push(*txn),
            _ => {}
        }
    }
    let cyclic: Vec<Vec<u64>> = { petgraph::algo::tarjan_scc(&graph).into_iter() }
        .filter(|component| component.len() > 1)
        .collect();
    let edges: Vec<_> = graph.all_edges().collect();
    assert!(
        cyclic.is_empty(),
        "not strictly serializable: {cyclic:?} of {edges:?}"
    );
}

/// Transfers, some dependent, some that read only, over few rows: much contention.
pub fn contended(layout: &Layout, count: u32, dice: &mut Dice) -> Vec<PlannedOperation> {
    let shards = layout.shards.len();
    let pick = |dice: &mut Dice| {
        let rows = layout.tables[0].rows as usize;
        key(dice.below(shards) as u8, dice.below(rows) as u32)
    };
    (0..count)
        .map(|at| {
            let mut keys = BTreeSet::new();
            while keys.len() < 3 {
                keys.insert(pick(dice));
            }
            let mut keys: Vec<Key> = keys.into_iter().collect();
            let turn = dice.below(3);
            keys.rotate_left(turn);
            let id = u64::from(at) + 1;
            let guard = Guard::SumAtLeast {
                keys: vec![keys[0]],
                at_least: 5,
            };
            let move_5 = [(keys[0], Op::Add(-5)), (keys[1], Op::Add(5))];
            let mut txn = txn(id, &move_5, vec![guard]);
            match dice.below(4) {
                0 => {
                    txn.effects.clear();
                    txn.guards.clear();
                    txn.reads = keys.iter().map(|key| Target::Key(*key)).collect();
                }
                1 => {
                    txn.effects[1].target = Target::Choice {
                        on: keys[0],
                        at_least: 8,
                        then: keys[1],
                        otherwise: keys[2],
                    };
                }
                2 => txn.guards.push(Guard::SumAtMost {
                    keys: vec![keys[1], keys[2]],
                    at_most: 40,
                }),
                _ => {}
            }
            let (region, session) = ((at % 2) as u16, at);
            let start = Start::At(dice.below(30) as u64 * 1_000_000);
            PlannedOperation {
                region,
                session,
                start,
                txn,
            }
        })
        .collect()
}

/// What the trace says is a behaviour of an atomic commitment protocol: no two decisions, nobody who does otherwise, and no
/// commit without everybody's yes.
pub fn check_decisions<P: Autopsy>(table: &Bench<P>) {
    let mut decided = BTreeMap::new();
    for (_, what) in &table.observed {
        match what {
            Observation::Decided { txn, commit }
            | Observation::Resolved { txn, commit, .. }
            | Observation::Ended { txn, commit } => {
                let before = *decided.entry(*txn).or_insert(*commit);
                assert_eq!(
                    before, *commit,
                    "{txn} is decided both ways:\n{}",
                    table.log
                );
            }
            Observation::Voted {
                txn, yes: false, ..
            } => {
                let before = *decided.entry(*txn).or_insert(false);
                assert!(!before, "{txn} was committed against a no:\n{}", table.log);
            }
            _ => {}
        }
    }
}

/// Runs contended transfers under trouble, a run for each seed, and holds an atomic commitment protocol against everything that
/// it promises. Returns how many transactions committed, and which rare branches were taken.
pub fn fuzz_commitment<Pr: Protocol>(
    layout: &Layout,
    options: &Pr::Options,
    trouble: Trouble,
    seeds: std::ops::Range<u64>,
) -> (usize, BTreeSet<&'static str>) {
    let (mut committed, mut marks) = (0, BTreeSet::new());
    for seed in seeds {
        let operations = contended(layout, 12, &mut Dice(seed));
        let table = run::<Pr>(layout, options, &operations, trouble, seed);
        check_atomicity(&table, &operations);
        check_strictly_serializable(&table);
        check_decisions(&table);
        let states = table.autopsy();
        let rows = states.values().flat_map(|state| state.rows.values());
        let total: i64 = rows.map(|row| row.value.as_int()).sum();
        let initial = |table: &Table| i64::from(table.rows) * table.initial.as_int();
        assert_eq!(
            total,
            layout.tables.iter().map(initial).sum::<i64>(),
            "seed {seed}"
        );
        let outcomes = table.outcomes();
        let commits = |outcome: &&Outcome| matches!(outcome, Outcome::Committed { .. });
        committed += outcomes.values().filter(commits).count();
        marks.extend(table.observed.iter().filter_map(|(_, what)| match what {
            Observation::Mark(mark) => Some(*mark),
            _ => None,
        }));
    }
    (committed, marks)
}
