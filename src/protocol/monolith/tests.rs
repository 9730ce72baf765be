//! The database on the test host: what it costs, what a crash leaves, and requests that come twice.

use std::collections::BTreeMap;

use super::*;
use crate::base::observation::{AbortReason, Outcome};
use crate::base::process::NodeId;
use crate::base::txn::{Guard, Key, Op, Txn, TxnId, Value};
use crate::protocol::testing::*;

type Host = Bench<Node>;

fn host(options: &Options, txns: Vec<Txn>) -> Host {
    let operations = txns.into_iter().enumerate();
    let operations: Vec<PlannedOperation> = operations
        .map(|(at, txn)| operation(at as u32, txn))
        .collect();
    let layout = layout(3, 1, Value::Int(10));
    Bench::new(Monolith::deploy(&layout, options, &operations).unwrap())
}

/// Rows of three shards, which elsewhere lie on three machines.
fn transfer(id: u64) -> Txn {
    let effects = [
        (key(0, 0), Op::Add(-6)),
        (key(1, 0), Op::Add(3)),
        (key(2, 0), Op::Add(3)),
    ];
    txn(id, &effects, vec![])
}

fn machine() -> Addr {
    Addr::on(layout(3, 1, Value::Int(0)).regions[0].data[0])
}

fn rows(host: &Host) -> Vec<i64> {
    let states = host.autopsy();
    let values = states.values().flat_map(|state| state.rows.values());
    values.map(|row| row.value.as_int()).collect()
}

fn start(host: &mut Host) {
    let timer = host.next_timer().expect("a client starts");
    host.fire(timer);
}

#[test]
fn a_transaction_over_three_shards_costs_two_messages_and_one_flush() {
    let mut host = host(&Options::default(), vec![transfer(1)]);
    start(&mut host);
    host.deliver(0);
    assert_eq!(
        rows(&host),
        [10, 10, 10],
        "nothing is visible before it is durable"
    );
    host.flush(machine());
    host.deliver(0);
    let sent: Vec<&str> = host.sent.iter().map(|(_, _, label)| *label).collect();
    assert_eq!(
        (sent.as_slice(), host.flushed),
        (["request", "reply"].as_slice(), 1)
    );
    assert_eq!(rows(&host), [4, 13, 13]);
    assert!(matches!(
        host.outcomes()[&TxnId(1)],
        Outcome::Committed { .. }
    ));
}

#[test]
fn the_autopsy_shows_each_shard_with_its_own_rows_and_writes() {
    let mut host = host(&Options::default(), vec![transfer(1)]);
    assert!(host.settle(100, |host| host.outcomes().len() == 1));
    let states = host.autopsy();
    assert_eq!(states.len(), 3);
    for (shard, state) in states {
        let tables: Vec<u16> = state
            .rows
            .keys()
            .map(|key: &Key| u16::from(key.table.0))
            .collect();
        assert_eq!(tables, [shard.0]);
        assert_eq!(state.ledger.len(), 1);
    }
}

#[test]
fn a_crash_before_the_flush_leaves_nothing_and_one_after_it_everything() {
    for is_durable in [false, true] {
        let mut host = host(&Options::default(), vec![transfer(1)]);
        start(&mut host);
        host.deliver(0);
        if is_durable {
            host.flush(machine());
        }
        host.flights.clear();
        host.crash_clean(machine().node);
        host.boot(machine().node);
        let expected = if is_durable {
            [4, 13, 13]
        } else {
            [10, 10, 10]
        };
        assert_eq!(rows(&host), expected);
        // The client asks again, and the transaction takes effect once.
        assert!(host.settle(100, |host| host.outcomes().len() == 1));
        assert_eq!(rows(&host), [4, 13, 13]);
    }
}

#[test]
fn what_was_refused_stays_refused_after_a_crash_though_its_guard_would_hold_now() {
    let guard = Guard::SumAtLeast {
        keys: vec![key(0, 0)],
        at_least: 11,
    };
    let declines = txn(1, &[(key(0, 0), Op::Add(-1))], vec![guard]);
    let raises = txn(2, &[(key(0, 0), Op::Add(5))], vec![]);
    let options = Options {
        checkpoint_kib: Number::new(1),
        ..Options::default()
    };
    let mut host = host(&options, vec![declines, raises]);
    start(&mut host);
    host.duplicate(0);
    let late = host.flights.remove(0);
    assert!(host.settle(100, |host| host.outcomes().len() == 2));
    assert_eq!(host.outcomes()[&TxnId(1)], Outcome::Declined { guard: 0 });
    host.crash_clean(machine().node);
    host.boot(machine().node);
    host.flights.push(late);
    host.deliver(0);
    assert!(host.flushing().is_empty(), "it is answered from memory");
    assert_eq!(rows(&host)[0], 15);
}

#[test]
fn a_flush_that_fails_aborts_what_it_was_for() {
    let mut host = host(&Options::default(), vec![transfer(1)]);
    start(&mut host);
    host.deliver(0);
    host.fail_flush(machine(), true);
    assert!(host.settle(100, |host| host.outcomes().len() == 1));
    let why = AbortReason::ApplyFailed;
    assert_eq!(host.outcomes()[&TxnId(1)], Outcome::Aborted { why });
    assert_eq!(rows(&host), [10, 10, 10]);
}

#[test]
fn the_machine_is_in_the_region_that_the_option_names_and_others_are_refused() {
    let layout = layout(3, 1, Value::Int(10));
    let placed = |region: &str| {
        let options = Options {
            region: region.into(),
            ..Options::default()
        };
        let deployment = Monolith::deploy(&layout, &options, &[])?;
        let on = |(node, processes): (usize, &Vec<Node>)| {
            let is_database = matches!(processes.first(), Some(node::Node::Coordinator(_)));
            is_database.then_some(NodeId(node as u16))
        };
        let machines: Vec<NodeId> = { deployment.processes.iter().enumerate() }
            .filter_map(on)
            .collect();
        Ok::<_, String>(machines)
    };
    assert_eq!(placed(""), Ok(vec![layout.regions[0].data[0]]));
    assert_eq!(placed("us"), Ok(vec![layout.regions[1].data[0]]));
    let refused = "`region`: no region is called `mars`: write one of `eu`, `us`";
    assert_eq!(placed("mars"), Err(refused.to_owned()));
}

#[test]
fn under_trouble_it_is_atomic_and_strictly_serializable() {
    let layout = layout(4, 2, Value::Int(20));
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..120 {
        let options = Options {
            checkpoint_kib: Number::new(1),
            restarts: Number::new(seed % 3),
            ..Options::default()
        };
        let operations = contended(&layout, 12, &mut Dice(seed));
        let trouble = if seed % 4 == 0 { CALM } else { ROUGH };
        let host = run::<Monolith>(&layout, &options, &operations, trouble, seed);
        check_atomicity(&host, &operations);
        check_strictly_serializable(&host);
        for outcome in host.outcomes().values() {
            let end = match outcome {
                Outcome::Committed { .. } => "committed",
                Outcome::Declined { .. } => "declined",
                Outcome::Aborted { .. } => "aborted",
                Outcome::Unknown => "unknown",
            };
            *ends.entry(end).or_default() += 1;
        }
    }
    assert!(ends["committed"] > 700 && ends["declined"] > 50, "{ends:?}");
}
