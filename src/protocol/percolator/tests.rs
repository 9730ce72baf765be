//! The roles together, on the test host; the paper's figures, crashes, repetitions and conflicts.

use std::collections::{BTreeMap, BTreeSet};

use super::oracle::Oracle;
use super::*;
use crate::base::observation::{AbortReason, Observation};
use crate::base::process::{Disk, Effect};
use crate::base::txn::{Guard, Op, Value, WriteId};
use crate::protocol::testing::*;
use crate::shard::LedgerEntry;

type Host = Bench<<Percolator as Protocol>::Process>;

const T1: TxnId = TxnId(1);
const T2: TxnId = TxnId(2);

/// Bob's account, and Joe's, each on a shard of its own.
fn bob() -> Key {
    key(0, 0)
}

fn joe() -> Key {
    key(1, 0)
}

/// Bob gives 7 to Joe (Peng and Dabek 2010, figure 4).
fn gift(id: u64) -> Txn {
    txn(id, &[(bob(), Op::Add(-7)), (joe(), Op::Add(7))], vec![])
}

fn look(id: u64) -> Txn {
    let mut txn = txn(id, &[], vec![]);
    txn.reads = vec![Target::Key(bob()), Target::Key(joe())];
    txn
}

fn host(options: &Options, txns: Vec<(u16, Txn)>) -> Host {
    let operations = txns
        .into_iter()
        .enumerate()
        .map(|(at, (region, txn))| PlannedOperation {
            region,
            ..operation(at as u32, txn)
        });
    let operations: Vec<PlannedOperation> = operations.collect();
    let layout = layout(2, 1, Value::Int(10));
    Bench::new(Percolator::deploy(&layout, options, &operations).unwrap())
}

/// Everything in order, until a message of this name is under way.
fn until(host: &mut Host, label: &str) {
    for _ in 0..10_000 {
        if host
            .flights
            .iter()
            .any(|flight| flight.message.label() == label)
        {
            return;
        }
        if let Some(addr) = host.flushing().first() {
            host.flush(*addr);
        } else if !host.flights.is_empty() {
            host.deliver(0);
        } else {
            let timer = host.next_timer().expect("something happens");
            host.fire(timer);
        }
    }
    panic!("no {label} within 10,000 steps");
}

fn settle(host: &mut Host, returned: usize) {
    let settled = host.settle(100_000, |host| {
        let states = host.autopsy();
        let in_doubt = states.values().any(|state| !state.in_doubt.is_empty());
        host.outcomes().len() == returned && host.unended().is_empty() && !in_doubt
    });
    assert!(settled, "{}", host.log);
}

/// Two clients send their requests before either is answered.
fn start_both(host: &mut Host) {
    for _ in 0..2 {
        let start = host.next_timer().expect("a client starts");
        host.fire(start);
    }
}

/// The newest values of Bob and Joe, and who has locked a row of either.
fn columns(host: &Host) -> ([i64; 2], [Vec<TxnId>; 2]) {
    let states = host.autopsy();
    let of = |key: Key| &states[&ShardId(u16::from(key.table.0))];
    let value = |key: Key| of(key).rows[&key].value.as_int();
    let locks = |key: Key| of(key).in_doubt.iter().copied().collect();
    ([value(bob()), value(joe())], [locks(bob()), locks(joe())])
}

fn marks(host: &Host) -> BTreeSet<&'static str> {
    let mark = |(_, what): &(Addr, Observation)| match what {
        Observation::Mark(name) => Some(*name),
        _ => None,
    };
    host.observed.iter().filter_map(mark).collect()
}

fn reads(host: &Host, txn: TxnId) -> Vec<i64> {
    match &host.outcomes()[&txn] {
        Outcome::Committed { reads } => reads.iter().map(|read| read.row.value.as_int()).collect(),
        outcome => panic!("{txn} is {outcome:?}"),
    }
}

#[test]
fn the_columns_are_those_of_the_papers_figure_4() {
    let mut host = host(&Options::default(), vec![(0, gift(1))]);
    let none = || [vec![], vec![]];
    until(&mut host, "prewrite");
    assert_eq!(columns(&host), ([10, 10], none()), "1: the initial state");
    until(&mut host, "prewritten");
    assert_eq!(
        columns(&host),
        ([10, 10], [vec![T1], vec![]]),
        "2: the primary is locked"
    );
    until(&mut host, "get-timestamp");
    assert_eq!(
        columns(&host),
        ([10, 10], [vec![T1], vec![T1]]),
        "3: the secondary too"
    );
    until(&mut host, "committed");
    assert_eq!(
        columns(&host),
        ([3, 10], [vec![], vec![T1]]),
        "4: the commit point"
    );
    until(&mut host, "finished");
    assert_eq!(
        columns(&host),
        ([3, 17], none()),
        "5: the secondary's lock is a version"
    );
    settle(&mut host, 1);
    assert_eq!(reads(&host, T1), [10, 10]);
}

#[test]
fn a_transaction_costs_two_timestamps_one_prewrite_a_shard_and_one_commit() {
    let mut host = host(&Options::default(), vec![(0, gift(1))]);
    settle(&mut host, 1);
    let mut sent: BTreeMap<&str, usize> = BTreeMap::new();
    host.sent
        .iter()
        .for_each(|(_, _, label)| *sent.entry(label).or_default() += 1);
    let expected = [
        ("commit", 1),
        ("committed", 1),
        ("finished", 1),
        ("get-timestamp", 2),
        ("prewrite", 2),
        ("prewritten", 2),
        ("read", 2),
        ("reply", 1),
        ("request", 1),
        ("roll-forward", 1),
        ("rows", 2),
        ("timestamp", 2),
    ];
    assert_eq!(sent, expected.into());
}

/// Message delays until the client knows, if everything that is under way arrives at the same time.
fn delays(effects: &[(Key, Op)]) -> usize {
    let mut host = host(&Options::default(), vec![(0, txn(1, effects, vec![]))]);
    for addr in host.flushing() {
        host.flush(addr); // The oracle's first lease.
    }
    let start = host.next_timer().expect("the client starts");
    host.fire(start);
    let mut delays = 0;
    while host.outcomes().is_empty() {
        delays += 1;
        for _ in 0..host.flights.len() {
            host.deliver(0);
        }
        for addr in host.flushing() {
            host.flush(addr);
        }
    }
    delays
}

#[test]
fn the_critical_path_is_that_of_the_papers_figure_6() {
    // To the coordinator and back, and five or six times to others and back: timestamp, read, prewrite of the primary,
    // prewrite of the others, timestamp, commit.
    assert_eq!(delays(&[(bob(), Op::Add(1))]), 2 + 5 * 2);
    assert_eq!(
        delays(&[(bob(), Op::Add(1)), (joe(), Op::Add(1))]),
        2 + 6 * 2
    );
}

#[test]
fn a_reader_rolls_a_committed_lock_forward_when_the_coordinator_has_crashed() {
    let mut host = host(&Options::default(), vec![(0, gift(1)), (1, look(2))]);
    until(&mut host, "committed");
    host.flights
        .retain(|flight| flight.message.label() != "committed");
    let front = layout(2, 1, Value::Int(0)).regions[0].fronts[0];
    host.crash_clean(front);
    host.boot(front);
    for addr in host.flushing() {
        host.flush(addr);
    }
    settle(&mut host, 2);
    assert_eq!(columns(&host).0, [3, 17]);
    assert!(
        marks(&host).contains("percolator.ended-before"),
        "{:?}",
        marks(&host)
    );
    assert_eq!(
        reads(&host, T1),
        [10, 10],
        "read again, as of the start timestamp"
    );
}

#[test]
fn locks_of_a_crashed_coordinator_are_rolled_back_when_their_time_is_over() {
    let options = Options {
        client_give_up_ms: Millis::new(2_000),
        ..Options::default()
    };
    // The client gives up, so that nobody repeats the request.
    let mut host = host(&options, vec![(0, gift(1))]);
    until(&mut host, "prewritten");
    host.deliver(0);
    until(&mut host, "prewritten");
    assert_eq!(columns(&host).1, [vec![T1], vec![T1]]);
    host.crash_clean(layout(2, 1, Value::Int(0)).regions[0].fronts[0]);
    host.flights.clear();
    let gone = |host: &Host| columns(host).1 == [vec![], vec![]];
    assert!(host.settle(10_000, gone), "{}", host.log);
    assert_eq!(columns(&host).0, [10, 10]);
    assert!(marks(&host).contains("percolator.lock-expired"));
}

#[test]
fn a_coordinator_that_is_too_slow_finds_its_lock_gone_and_aborts() {
    let mut host = host(&Options::default(), vec![(0, gift(1))]);
    until(&mut host, "commit");
    let commit = host.flights.remove(0);
    while !marks(&host).contains("percolator.lock-expired") {
        let timer = host.next_timer().unwrap();
        host.fire(timer);
        host.flights
            .retain(|flight| flight.message.label() != "commit");
    }
    host.flights.push(commit);
    settle(&mut host, 1);
    let why = AbortReason::LockExpired;
    assert_eq!(host.outcomes()[&T1], Outcome::Aborted { why });
    assert_eq!(columns(&host).0, [10, 10]);
}

#[test]
fn of_two_concurrent_writers_of_a_row_the_second_aborts_or_starts_over() {
    for (restarts, expected) in [(0, [3, 17]), (3, [-4, 24])] {
        let options = Options {
            restarts: Number::new(restarts),
            ..Options::default()
        };
        let mut host = host(&options, vec![(0, gift(1)), (1, gift(2))]);
        start_both(&mut host);
        settle(&mut host, 2);
        assert_eq!(columns(&host).0, expected);
        let why = AbortReason::WriteConflict;
        let outcomes = host.outcomes();
        let aborted = outcomes
            .values()
            .filter(|end| **end == Outcome::Aborted { why });
        assert_eq!(aborted.count(), usize::from(restarts == 0));
    }
}

#[test]
fn a_transaction_that_declined_stays_declined_though_its_guard_holds_when_it_is_asked_again() {
    let needs_20 = |key| Guard::SumAtLeast {
        keys: vec![key],
        at_least: 20,
    };
    let declines = txn(1, &[(bob(), Op::Add(-7))], vec![needs_20(bob())]);
    let raises = txn(2, &[(bob(), Op::Add(30))], vec![]);
    let mut host = host(&Options::default(), vec![(0, declines), (1, raises)]);
    until(&mut host, "give-up");
    until(&mut host, "ended");
    host.flights
        .retain(|flight| flight.message.label() != "ended");
    let front = layout(2, 1, Value::Int(0)).regions[0].fronts[0];
    host.crash_clean(front);
    host.boot(front);
    settle(&mut host, 2);
    assert_eq!(host.outcomes()[&T1], Outcome::Declined { guard: 0 });
    assert_eq!(columns(&host).0[0], 40);
}

#[test]
fn write_skew_is_possible() {
    // Each takes 10 from one account if both together hold 20.
    let both = || Guard::SumAtLeast {
        keys: vec![bob(), joe()],
        at_least: 20,
    };
    let takes = |id, key| txn(id, &[(key, Op::Add(-10))], vec![both()]);
    let mut host = host(
        &Options::default(),
        vec![(0, takes(1, bob())), (1, takes(2, joe()))],
    );
    start_both(&mut host);
    settle(&mut host, 2);
    assert_eq!(columns(&host).0, [0, 0]);
    let committed = |end: &Outcome| matches!(end, Outcome::Committed { .. });
    assert!(host.outcomes().values().all(committed));
}

/// First committer wins, seen from the ledgers and from what clients read: whoever wrote a row had read the version
/// that the write replaced, and nobody saw half of a transaction.
fn check_snapshots(host: &Host) {
    let states = host.autopsy();
    let mut orders: BTreeMap<Key, Vec<TxnId>> = BTreeMap::new();
    for LedgerEntry { key, write } in states.values().flat_map(|state| &state.ledger) {
        let order = orders.entry(*key).or_insert_with(|| vec![TxnId::INITIAL]);
        order.push(write.txn);
    }
    let place = |key: Key, txn: TxnId| orders.get(&key)?.iter().position(|other| *other == txn);
    for (txn, outcome) in host.outcomes() {
        let Outcome::Committed { reads } = outcome else {
            continue;
        };
        for read in &reads {
            let writer = read.row.writer;
            assert_ne!(
                writer,
                WriteId { txn, undo: false },
                "{txn} reads its own write"
            );
            if let Some(written) = place(read.key, txn) {
                let before = orders[&read.key][written - 1];
                assert_eq!(before, writer.txn, "{txn} overwrites {} unseen", read.key);
            }
            for other in &reads {
                let (Some(seen), Some(of_writer)) = (
                    place(other.key, other.row.writer.txn),
                    place(other.key, writer.txn),
                ) else {
                    continue;
                };
                let whole = writer == WriteId::default() || seen >= of_writer;
                assert!(whole, "{txn} sees half of {}", writer.txn);
            }
        }
    }
}

#[test]
fn under_trouble_all_is_atomic_and_every_read_a_snapshot() {
    let layout = layout(4, 2, Value::Int(20));
    let (mut committed, mut conflicts, mut seen) = (0, 0, BTreeSet::new());
    for seed in 0..120 {
        let options = Options {
            restarts: Number::new(seed % 3),
            timestamp_lease: Number::new([1, 5, 1_000][seed as usize % 3]),
            checkpoint_kib: Number::new(1),
            ..Options::default()
        };
        let operations = contended(&layout, 12, &mut Dice(seed));
        let trouble = if seed % 4 == 0 { CALM } else { ROUGH };
        let host = run::<Percolator>(&layout, &options, &operations, trouble, seed);
        check_atomicity(&host, &operations);
        check_snapshots(&host);
        let outcomes = host.outcomes();
        let is = |wanted: fn(&Outcome) -> bool| outcomes.values().filter(|end| wanted(end)).count();
        committed += is(|end| matches!(end, Outcome::Committed { .. }));
        conflicts += is(|end| matches!(end, Outcome::Aborted { .. }));
        seen.extend(marks(&host));
    }
    assert!(
        committed > 700 && conflicts > 20,
        "{committed} committed, {conflicts} aborted"
    );
    for mark in [
        "percolator.rolled-forward",
        "percolator.rolled-back",
        "percolator.ended-before",
    ] {
        assert!(seen.contains(mark), "{mark}: {seen:?}");
    }
}

/// An oracle with its disk.
struct Clock {
    oracle: Oracle,
    options: Options,
    durable: Vec<u8>,
    cached: Vec<u8>,
    flushes: Vec<crate::base::process::FlushId>,
    given: Vec<u64>,
}

impl Clock {
    fn new(lease: u64) -> Self {
        let options = Options {
            timestamp_lease: Number::new(lease),
            checkpoint_kib: Number::new(1),
            ..Options::default()
        };
        let mut clock = Self {
            oracle: Oracle::new(&options),
            options,
            durable: Vec::new(),
            cached: Vec::new(),
            flushes: Vec::new(),
            given: Vec::new(),
        };
        clock.crash();
        clock
    }

    fn step(&mut self, input: Input<Message, Timer>) {
        let mut out = Out::default();
        self.oracle.step(WallTime(0), input, &mut out);
        for effect in out.drain() {
            match effect {
                Effect::Append { bytes, .. } => self.cached.extend(bytes),
                Effect::Replace { bytes, .. } => self.cached = bytes,
                Effect::Flush(flush) => self.flushes.push(flush),
                Effect::Observe(_) => {}
                Effect::Halt(_) => return self.crash(),
                Effect::Send {
                    message: Message::Timestamp { at, .. },
                    ..
                } => self.given.push(at.0),
                effect => panic!("{effect:?}"),
            }
        }
    }

    fn ask(&mut self) {
        let from = Addr::on(NodeId(9));
        let message = Message::GetTimestamp {
            txn: T2,
            attempt: 0,
            start: None,
        };
        self.step(Input::Message { from, message });
    }

    fn flush(&mut self) {
        if !self.flushes.is_empty() {
            self.durable = self.cached.clone();
            let flush = self.flushes.remove(0);
            self.step(Input::Flushed(flush));
        }
    }

    /// A flush fails. `kept`: its bytes are on the disk nevertheless.
    fn fail(&mut self, kept: bool) {
        if !self.flushes.is_empty() {
            if kept {
                self.durable = self.cached.clone();
            }
            self.cached = self.durable.clone();
            let flush = self.flushes.remove(0);
            self.step(Input::FlushFailed(flush));
        }
    }

    /// Loses what was not flushed, and starts again.
    fn crash(&mut self) {
        self.cached = self.durable.clone();
        self.flushes.clear();
        self.oracle = Oracle::new(&self.options);
        let mut disk = Disk::default();
        *disk.file_mut(crate::base::process::FileId(0)) = self.durable.clone();
        self.step(Input::Boot(disk));
    }
}

#[test]
fn the_oracle_only_rises_whatever_crashes_or_fails() {
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let mut clock = Clock::new([1, 2, 7, 1_000][dice.below(4)]);
        for _ in 0..200 {
            match dice.below(20) {
                0 => clock.crash(),
                1 => clock.fail(dice.percent(50)),
                2..=6 => clock.flush(),
                _ => clock.ask(),
            }
        }
        assert!(clock.given.is_sorted_by(|a, b| a < b), "{:?}", clock.given);
        assert!(clock.given.len() > 20, "{:?}", clock.given);
    }
}

#[test]
fn the_oracle_answers_from_memory_once_it_has_a_lease() {
    let mut clock = Clock::new(100);
    clock.flush();
    for asked in 1..=50 {
        clock.ask();
        assert_eq!(clock.given.len(), asked);
    }
    assert!(clock.flushes.is_empty(), "half of the lease is left");
    clock.ask();
    assert_eq!(
        (clock.given.len(), clock.flushes.len()),
        (51, 1),
        "the next lease comes in time"
    );
}
