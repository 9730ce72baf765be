//! The roles together, on the test host: the paper's figures, costs, crashes, repetitions, and what is not promised.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::base::observation::Observation;
use crate::base::txn::{Guard, Op, Read, Value, WriteId};
use crate::protocol::testing::*;
use crate::shard::LedgerEntry;

type Host = Bench<<Ramp as Protocol>::Process>;

const T1: TxnId = TxnId(1);
const T2: TxnId = TxnId(2);

/// The items of the paper's figure 2, each on a shard of its own.
fn x() -> Key {
    key(0, 0)
}

fn y() -> Key {
    key(1, 0)
}

/// Writes both items blindly.
fn put(id: u64, value: i64) -> Txn {
    txn(id, &[(x(), Op::Put(value)), (y(), Op::Put(value))], vec![])
}

fn look(id: u64) -> Txn {
    let mut txn = txn(id, &[], vec![]);
    txn.reads = vec![Target::Key(x()), Target::Key(y())];
    txn
}

fn host(options: &Options, txns: Vec<(u16, Txn)>) -> Host {
    let operations = txns.into_iter().enumerate();
    let operations: Vec<PlannedOperation> = operations
        .map(|(at, (region, txn))| PlannedOperation {
            region,
            ..operation(at as u32, txn)
        })
        .collect();
    let layout = layout(2, 1, Value::Int(10));
    let mut host = Bench::new(Ramp::deploy(&layout, options, &operations).unwrap());
    for addr in host.flushing() {
        host.flush(addr); // The coordinators' first leases.
    }
    host
}

fn start(host: &mut Host) {
    let timer = host.next_timer().expect("a client starts");
    host.fire(timer);
}

/// Everything in order, but for messages of this name between these, which wait.
fn all_but(host: &mut Host, is_held: impl Fn(&Flight<Message>) -> bool) {
    for _ in 0..1_000 {
        if let Some(addr) = host.flushing().first().copied() {
            host.flush(addr);
        } else if let Some(at) = host.flights.iter().position(|flight| !is_held(flight)) {
            host.deliver(at);
        } else {
            return;
        }
    }
    panic!("it does not end");
}

fn settle(host: &mut Host, returned: usize) {
    let done = host.settle(10_000, |host| {
        host.outcomes().len() == returned && host.unended().is_empty()
    });
    assert!(done, "{}", host.log);
}

fn values(host: &Host) -> [i64; 2] {
    let states = host.autopsy();
    [x(), y()].map(|key| {
        states[&ShardId(u16::from(key.table.0))].rows[&key]
            .value
            .as_int()
    })
}

fn reads(host: &Host, txn: TxnId) -> Vec<i64> {
    match &host.outcomes()[&txn] {
        Outcome::Committed { reads } => reads.iter().map(|read| read.row.value.as_int()).collect(),
        outcome => panic!("{txn} is {outcome:?}"),
    }
}

fn marks(host: &Host) -> BTreeSet<&'static str> {
    let mark = |(_, what): &(Addr, Observation)| match what {
        Observation::Mark(name) => Some(*name),
        _ => None,
    };
    host.observed.iter().filter_map(mark).collect()
}

fn counts(host: &Host) -> BTreeMap<&'static str, usize> {
    let mut sent: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, _, label) in &host.sent {
        *sent.entry(label).or_default() += 1;
    }
    sent
}

fn fronts() -> [Addr; 2] {
    [0, 1].map(|region| Addr::on(layout(2, 1, Value::Int(0)).regions[region].fronts[0]))
}

/// Figure 2: T1 has committed at x's server and is prepared at y's when T2 reads. T2 gets x1 and y0, sees y in the write set
/// of x1, and fetches y1.
#[test]
fn a_reader_in_the_middle_of_a_commit_repairs_what_it_has_read() {
    let mut host = host(&Options::default(), vec![(0, put(1, 1)), (1, look(2))]);
    start(&mut host);
    let y_server = Addr::on(layout(2, 1, Value::Int(0)).home(ShardId(1)));
    let to_y = |flight: &Flight<Message>| {
        matches!(flight.message, Message::Commit { .. }) && flight.to == y_server
    };
    all_but(&mut host, to_y);
    assert_eq!(values(&host), [1, 10], "half of it is visible");
    start(&mut host);
    all_but(&mut host, to_y);
    assert_eq!(reads(&host, T2), [1, 1]);
    assert_eq!(counts(&host).get("get-version"), Some(&1));
    settle(&mut host, 2);
    assert_eq!(values(&host), [1, 1]);
}

#[test]
fn a_reader_before_the_commit_reads_what_was_and_needs_no_second_round() {
    let mut host = host(&Options::default(), vec![(0, put(1, 1)), (1, look(2))]);
    start(&mut host);
    let is_commit = |flight: &Flight<Message>| matches!(flight.message, Message::Commit { .. });
    all_but(&mut host, is_commit);
    start(&mut host);
    all_but(&mut host, is_commit);
    assert_eq!(reads(&host, T2), [10, 10]);
    assert_eq!(counts(&host).get("get-version"), None);
}

#[test]
fn a_blind_write_costs_two_rounds_and_a_read_one() {
    let mut writer = host(&Options::default(), vec![(0, put(1, 1))]);
    let flushed = writer.flushed;
    settle(&mut writer, 1);
    let expected = [
        ("commit", 2),
        ("committed", 2),
        ("prepare", 2),
        ("prepared", 2),
        ("reply", 1),
        ("request", 1),
    ];
    assert_eq!(counts(&writer), expected.into());
    assert_eq!(
        writer.flushed - flushed,
        4,
        "prepare and commit, at each shard"
    );
    let mut reader = host(&Options::default(), vec![(0, look(1))]);
    settle(&mut reader, 1);
    let expected = [("get", 2), ("reply", 1), ("request", 1), ("rows", 2)];
    assert_eq!(counts(&reader), expected.into());
}

/// Message delays until the client knows, if everything that is under way arrives at the same time.
fn delays(txn: Txn) -> usize {
    let mut host = host(&Options::default(), vec![(0, txn)]);
    start(&mut host);
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
fn round_trips_are_those_of_the_paper() {
    // To the coordinator and back, and as many round trips: two for writes, one for reads, three for both.
    assert_eq!(delays(put(1, 1)), 2 + 2 * 2);
    assert_eq!(delays(look(1)), 2 + 2);
    assert_eq!(
        delays(txn(1, &[(x(), Op::Add(1)), (y(), Op::Add(1))], vec![])),
        2 + 3 * 2
    );
}

#[test]
fn shards_that_have_all_prepared_commit_when_the_coordinator_is_gone() {
    let options = Options {
        client_give_up_ms: Millis::new(2_000),
        ..Options::default()
    };
    let mut host = host(&options, vec![(0, put(1, 1))]);
    start(&mut host);
    all_but(&mut host, |flight| {
        matches!(flight.message, Message::Prepared { .. })
    });
    host.crash_clean(fronts()[0].node);
    host.flights.clear();
    let known = |host: &Host| values(host) == [1, 1];
    assert!(host.settle(10_000, known), "{}", host.log);
    assert!(marks(&host).contains("ramp.terminated-commit"));
}

#[test]
fn a_shard_that_has_not_prepared_bars_and_the_others_discard() {
    let options = Options {
        client_give_up_ms: Millis::new(2_000),
        ..Options::default()
    };
    let mut host = host(&options, vec![(0, put(1, 1))]);
    start(&mut host);
    let y_server = Addr::on(layout(2, 1, Value::Int(0)).home(ShardId(1)));
    let to_y = |flight: &Flight<Message>| {
        matches!(flight.message, Message::Prepare(_)) && flight.to == y_server
    };
    all_but(&mut host, to_y);
    let late = host.flights.remove(0);
    host.crash_clean(fronts()[0].node);
    host.flights.clear();
    let in_doubt = |host: &Host| {
        host.autopsy()
            .values()
            .any(|state| !state.in_doubt.is_empty())
    };
    assert!(in_doubt(&host));
    assert!(host.settle(10_000, |host| !in_doubt(host)), "{}", host.log);
    assert!(marks(&host).contains("ramp.terminated-abort"));
    // The prepare comes after all.
    host.flights.push(late);
    all_but(&mut host, |_| false);
    assert_eq!((values(&host), in_doubt(&host)), ([10, 10], false));
}

#[test]
fn a_coordinator_that_comes_too_late_begins_again() {
    let mut host = host(&Options::default(), vec![(0, put(1, 1))]);
    start(&mut host);
    let y_server = Addr::on(layout(2, 1, Value::Int(0)).home(ShardId(1)));
    let to_y = |flight: &Flight<Message>| {
        matches!(flight.message, Message::Prepare(_)) && flight.to == y_server
    };
    all_but(&mut host, to_y);
    while !marks(&host).contains("ramp.barred") {
        let timer = host.next_timer().expect("the shard waits");
        host.fire(timer);
        all_but(&mut host, to_y);
    }
    settle(&mut host, 1);
    assert!(
        marks(&host).contains("ramp.attempt-barred"),
        "{:?}",
        marks(&host)
    );
    assert_eq!(values(&host), [1, 1]);
}

#[test]
fn a_request_that_is_sent_again_takes_effect_once_though_the_coordinator_has_forgotten_it() {
    for lost in ["prepared", "committed", "reply"] {
        let add = txn(1, &[(x(), Op::Add(1)), (y(), Op::Add(1))], vec![]);
        let mut host = host(&Options::default(), vec![(0, add)]);
        start(&mut host);
        all_but(&mut host, |flight| flight.message.label() == lost);
        host.flights.clear();
        host.crash_clean(fronts()[0].node);
        host.boot(fronts()[0].node);
        settle(&mut host, 1);
        assert_eq!(values(&host), [11, 11], "{lost}");
        let ended_before = marks(&host).contains("ramp.ended-before");
        assert!(ended_before, "{lost}: {:?}", marks(&host));
    }
}

#[test]
fn what_was_declined_stays_declined_though_its_guard_holds_when_it_is_asked_again() {
    let guard = Guard::SumAtLeast {
        keys: vec![x()],
        at_least: 20,
    };
    let declines = txn(1, &[(x(), Op::Add(-7))], vec![guard]);
    let raises = txn(2, &[(x(), Op::Add(30))], vec![]);
    let mut host = host(&Options::default(), vec![(0, declines), (1, raises)]);
    start(&mut host);
    all_but(&mut host, |flight| flight.message.label() == "reply");
    host.flights.clear();
    host.crash_clean(fronts()[0].node);
    host.boot(fronts()[0].node);
    settle(&mut host, 2);
    assert_eq!(host.outcomes()[&T1], Outcome::Declined { guard: 0 });
    assert_eq!(values(&host)[0], 40);
}

#[test]
fn timestamps_are_not_used_again_after_a_restart() {
    let options = Options {
        timestamp_lease: Number::new(5),
        ..Options::default()
    };
    let mut host = host(&options, vec![(0, put(1, 1)), (0, put(2, 2))]);
    start(&mut host);
    let is_reply = |host: &Host| host.outcomes().len() == 1;
    assert!(host.settle(1_000, is_reply));
    host.crash_clean(fronts()[0].node);
    host.boot(fronts()[0].node);
    settle(&mut host, 2);
    assert_eq!(values(&host), [2, 2], "the later one is above");
}

/// The documented weakness: two transactions read 10, and each adds 1.
#[test]
fn an_update_is_lost_between_a_read_and_a_write() {
    let add = |id| txn(id, &[(x(), Op::Add(1))], vec![]);
    let mut host = host(&Options::default(), vec![(0, add(1)), (1, add(2))]);
    start(&mut host);
    start(&mut host);
    settle(&mut host, 2);
    assert_eq!(values(&host)[0], 11);
    let ledger = &host.autopsy()[&ShardId(0)].ledger;
    assert_eq!(ledger.len(), 2, "both have taken effect");
}

/// Read atomicity, from the ledgers and from what clients read.
fn check_read_atomicity(host: &Host) -> usize {
    let states = host.autopsy();
    let mut orders: BTreeMap<Key, Vec<TxnId>> = BTreeMap::new();
    for LedgerEntry { key, write } in states.values().flat_map(|state| &state.ledger) {
        let order = orders.entry(*key).or_insert_with(|| vec![TxnId::INITIAL]);
        order.push(write.txn);
    }
    let place = |key: Key, txn: TxnId| orders.get(&key)?.iter().position(|other| *other == txn);
    let mut looked_at = 0;
    for (reader, outcome) in host.outcomes() {
        let Outcome::Committed { reads } = outcome else {
            continue;
        };
        for Read { key, row } in &reads {
            let writer = row.writer;
            let stands = writer == WriteId::default() || place(*key, writer.txn).is_some();
            assert!(
                stands,
                "{reader} reads {key} of {}, which never committed",
                writer.txn
            );
            for other in &reads {
                let (Some(seen), Some(of_writer)) = (
                    place(other.key, other.row.writer.txn),
                    place(other.key, writer.txn),
                ) else {
                    continue;
                };
                looked_at += 1;
                let whole = writer == WriteId::default() || seen >= of_writer;
                assert!(whole, "{reader} sees half of {}", writer.txn);
            }
        }
    }
    looked_at
}

#[test]
fn under_trouble_all_is_atomic_and_no_read_is_fractured() {
    let layout = layout(4, 2, Value::Int(20));
    let (mut committed, mut looked_at, mut seen) = (0, 0, BTreeSet::new());
    for seed in 0..120 {
        let options = Options {
            timestamp_lease: Number::new([1, 5, 1_000][seed as usize % 3]),
            termination_ms: Millis::new(500),
            checkpoint_kib: Number::new(1),
            ..Options::default()
        };
        let operations = contended(&layout, 12, &mut Dice(seed));
        let trouble = if seed % 4 == 0 { CALM } else { ROUGH };
        let host = run::<Ramp>(&layout, &options, &operations, trouble, seed);
        check_atomicity(&host, &operations);
        looked_at += check_read_atomicity(&host);
        let outcomes = host.outcomes();
        let is_committed = |end: &&Outcome| matches!(end, Outcome::Committed { .. });
        committed += outcomes.values().filter(is_committed).count();
        let aborted = |end: &Outcome| matches!(end, Outcome::Aborted { .. });
        assert!(!outcomes.values().any(aborted), "seed {seed}");
        seen.extend(marks(&host));
    }
    assert!(
        committed > 700 && looked_at > 1_000,
        "{committed}, {looked_at}"
    );
    for mark in [
        "ramp.fractured-read-repaired",
        "ramp.terminated-commit",
        "ramp.terminated-abort",
        "ramp.ended-before",
        "ramp.overwritten-from-the-start",
    ] {
        assert!(seen.contains(mark), "{mark}: {seen:?}");
    }
}

#[test]
fn a_reader_starts_over_when_the_version_that_it_has_missed_was_collected() {
    let options = Options {
        gc_life_ms: Millis::new(1_000),
        client_resend_ms: Millis::new(60_000),
        ..Options::default()
    };
    let writers = [(0, put(1, 1)), (0, put(3, 3))];
    let mut host = host(&options, [&writers[..], &[(1, look(2))]].concat());
    (0..3).for_each(|_| start(&mut host));
    let x_server = Addr::on(layout(2, 1, Value::Int(0)).home(ShardId(0)));
    let is_later = |flight: &Flight<Message>| match &flight.message {
        Message::Client(ClientMessage::Request { txn }) => txn.id == TxnId(3),
        _ => false,
    };
    let get_x = |flight: &Flight<Message>| flight.message.label() == "get" && flight.to == x_server;
    let is_early = |flight: &Flight<Message>| match &flight.message {
        Message::Client(ClientMessage::Request { txn }) => txn.id != T2,
        _ => get_x(flight),
    };
    // T2 reads y before T1 commits, x afterwards, and has missed y's version of T1.
    all_but(&mut host, is_early);
    all_but(&mut host, |flight| is_later(flight) || get_x(flight));
    let second = |flight: &Flight<Message>| flight.message.label() == "get-version";
    all_but(&mut host, |flight| is_later(flight) || second(flight));
    assert_eq!(counts(&host).get("get-version"), Some(&1));
    // T3 overwrites both, and the versions of T1 become old.
    while host.now_ns < 3_500_000_000 {
        all_but(&mut host, second);
        let timer = host.next_timer().expect("versions are collected");
        host.fire(timer);
    }
    settle(&mut host, 3);
    assert!(
        marks(&host).contains("ramp.version-gone"),
        "{:?}",
        marks(&host)
    );
    assert_eq!(reads(&host, T2), [3, 3]);
}
