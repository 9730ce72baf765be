use std::collections::BTreeMap;

use super::*;
use crate::base::observation::{Observation, Outcome};
use crate::base::txn::{Op, TxnId, Value};
use crate::plan::PlannedOperation;
use crate::protocol::testing::*;

/// Seat, wallet, ticket: three shards, the wallet being the pivot.
fn booking(id: u64, funds_needed: i64) -> crate::base::txn::Txn {
    let effects = [
        (key(0, 0), Op::Add(-1)),
        (key(1, 0), Op::Add(-funds_needed)),
        (key(2, 0), Op::Add(1)),
    ];
    let guards = vec![
        Guard::SumAtLeast {
            keys: vec![key(0, 0)],
            at_least: 1,
        },
        Guard::SumAtLeast {
            keys: vec![key(1, 0)],
            at_least: funds_needed,
        },
    ];
    crate::base::txn::Txn {
        pivot: Some(1),
        ..txn(id, &effects, guards)
    }
}

fn bench(options: &Options, operations: &[PlannedOperation]) -> (Layout, Bench<Node>) {
    let layout = layout(3, 1, Value::Int(10));
    let deployment = Saga::deploy(&layout, options, operations).unwrap();
    (layout, Bench::new(deployment))
}

fn returned(table: &Bench<Node>) -> bool {
    !table.outcomes().is_empty() && table.unended().is_empty()
}

fn values(table: &Bench<Node>) -> Vec<i64> {
    let states = table.autopsy();
    let rows = states.values().flat_map(|state| state.rows.values());
    rows.map(|row| row.value.as_int()).collect()
}

fn labels(table: &Bench<Node>) -> Vec<&'static str> {
    table.sent.iter().map(|(_, _, label)| *label).collect()
}

#[test]
fn steps_are_taken_one_after_the_other() {
    let (_, mut table) = bench(&Options::default(), &[operation(1, booking(1, 10))]);
    assert!(table.settle(1_000, returned));
    assert_eq!(values(&table), [9, 0, 11]);
    let expected = [
        "request", "step", "done", "step", "done", "step", "done", "reply",
    ];
    assert_eq!(labels(&table), expected);
    assert!(matches!(
        table.outcomes()[&TxnId(1)],
        Outcome::Committed { .. }
    ));
}

#[test]
fn a_refused_pivot_is_compensated_for_and_the_client_learns_which_guard_failed() {
    let (_, mut table) = bench(&Options::default(), &[operation(1, booking(1, 11))]);
    assert!(table.settle(1_000, returned));
    assert_eq!(values(&table), [10, 10, 10]);
    assert_eq!(table.outcomes()[&TxnId(1)], Outcome::Declined { guard: 1 });
    let ledger = &table.autopsy()[&ShardId(0)].ledger;
    let undone: Vec<bool> = ledger.iter().map(|entry| entry.write.undo).collect();
    assert_eq!(undone, [false, true], "the seat was taken and given back");
}

#[test]
fn compensation_runs_in_reverse_order() {
    let mut transaction = booking(1, 10);
    transaction.pivot = None;
    transaction.guards = vec![Guard::SumAtLeast {
        keys: vec![key(2, 0)],
        at_least: 11,
    }];
    let (_, mut table) = bench(&Options::default(), &[operation(1, transaction)]);
    assert!(table.settle(1_000, returned));
    let compensated = table.observed.iter().filter_map(|(_, what)| match what {
        Observation::Compensated { step, .. } => Some(*step),
        _ => None,
    });
    assert_eq!(compensated.collect::<Vec<_>>(), [1, 0]);
    assert_eq!(values(&table), [10, 10, 10]);
}

/// Runs until `stop` was observed, then crashes the orchestrator and brings it back.
fn crash_orchestrator_after(stop: impl Fn(&Bench<Node>) -> bool) -> Bench<Node> {
    let (layout, mut table) = bench(&Options::default(), &[operation(1, booking(1, 10))]);
    while !stop(&table) {
        if let Some(addr) = table.flushing().first() {
            table.flush(*addr);
        } else if !table.flights.is_empty() {
            table.deliver(0);
        } else {
            let timer = table.next_timer().unwrap();
            table.fire(timer);
        }
    }
    table.flights.clear();
    let front = layout.regions[0].fronts[0];
    table.crash(front, &mut Dice(0));
    table.boot(front);
    assert!(table.settle(1_000, returned));
    table
}

fn steps_sent(table: &Bench<Node>) -> usize {
    labels(table)
        .iter()
        .filter(|label| **label == "step")
        .count()
}

#[test]
fn an_orchestrator_that_dies_before_the_pivot_goes_backward() {
    let done_one = |table: &Bench<Node>| labels(table).contains(&"done");
    let table = crash_orchestrator_after(done_one);
    assert_eq!(values(&table), [10, 10, 10]);
    assert!(matches!(
        table.outcomes()[&TxnId(1)],
        Outcome::Aborted { .. }
    ));
}

#[test]
fn an_orchestrator_that_dies_after_the_pivot_was_sent_goes_forward() {
    let table = crash_orchestrator_after(|table| steps_sent(table) == 2);
    assert_eq!(values(&table), [9, 0, 11]);
    assert!(matches!(
        table.outcomes()[&TxnId(1)],
        Outcome::Committed { .. }
    ));
}

#[test]
fn a_compensation_that_overtakes_its_step_blocks_it() {
    // Before its record is durable as well as after.
    for flush_between in [true, false] {
        overtake(flush_between);
    }
}

/// The orchestrator's message reaches the first shard.
fn deliver_to_first(layout: &Layout, table: &mut Bench<Node>, message: Message) {
    let from = Addr {
        node: layout.regions[0].fronts[0],
        port: 0,
    };
    let to = Addr {
        node: layout.home(ShardId(0)),
        port: 0,
    };
    table.flights.insert(0, Flight { from, to, message });
    table.deliver(0);
}

/// Takes one from the first shard's first row.
fn take_one(txn: u64, retriable: bool) -> Message {
    Message::Step(Arc::new(StepRequest {
        txn: TxnId(txn),
        step: 0,
        retriable,
        what: Step {
            shard: ShardId(0),
            reads: [key(0, 0)].into(),
            guards: vec![],
            writes: vec![crate::base::txn::Write {
                key: key(0, 0),
                op: Op::Add(-1),
            }],
        },
    }))
}

fn overtake(flush_between: bool) {
    let (layout, mut table) = bench(&Options::default(), &[]);
    let (txn, step) = (TxnId(1), 0);
    for message in [Message::Compensate { txn, step }, take_one(1, false)] {
        deliver_to_first(&layout, &mut table, message);
        if flush_between {
            flush_everything(&mut table);
        }
    }
    flush_everything(&mut table);
    assert_eq!(values(&table), [10, 10, 10]);
    assert_eq!(labels(&table), ["compensated"]);
}

fn flush_everything(table: &mut Bench<Node>) {
    while let Some(addr) = table.flushing().first().copied() {
        table.flush(addr);
    }
}

fn standing_or_nothing(table: &Bench<Node>, operations: &[PlannedOperation]) {
    check_atomicity(table, operations);
    for state in table.autopsy().values() {
        let entries: std::collections::BTreeSet<_> = state.ledger.iter().collect();
        assert_eq!(
            entries.len(),
            state.ledger.len(),
            "every write happens once"
        );
    }
}

fn all_options() -> Vec<Options> {
    [
        SemanticLocks::None,
        SemanticLocks::Wait,
        SemanticLocks::Refuse,
    ]
    .map(|semantic_locks| Options {
        semantic_locks,
        ..Options::default()
    })
    .into()
}

#[test]
fn under_crashes_losses_duplicates_and_failing_disks_every_saga_ends_all_done_or_all_compensated() {
    let layout = layout(4, 2, Value::Int(20));
    let mut marks = BTreeMap::<&str, usize>::new();
    for options in all_options() {
        for seed in 0..200 {
            let mut operations = contended(&layout, 12, &mut Dice(seed));
            for operation in &mut operations {
                if operation.txn.id.0 % 3 == 0 && !operation.txn.effects.is_empty() {
                    operation.txn.pivot = Some(0);
                }
            }
            let table = run::<Saga>(&layout, &options, &operations, ROUGH, seed);
            standing_or_nothing(&table, &operations);
            let total: i64 = values(&table).into_iter().sum();
            assert_eq!(total, 4 * 2 * 20, "seed {seed}");
            for (_, what) in &table.observed {
                if let Observation::Mark(mark) = what {
                    *marks.entry(mark).or_default() += 1;
                }
            }
        }
    }
    for mark in [
        "saga.backward",
        "saga.backward-recovery",
        "saga.forward-recovery",
        "saga.compensation-resumed",
        "saga.empty-compensation",
        "saga.blocked-step",
        "saga.step-not-durable",
        "saga.marked-row",
    ] {
        assert!(
            marks.contains_key(mark),
            "{mark} was never reached: {marks:?}"
        );
    }
}

fn marking(semantic_locks: SemanticLocks) -> (Layout, Bench<Node>) {
    let options = Options {
        semantic_locks,
        ..Options::default()
    };
    bench(&options, &[])
}

#[test]
fn a_step_that_queued_while_its_row_was_being_marked_waits_for_the_mark_too() {
    let txn = TxnId(1);
    for (locks, at_once, in_the_end) in [
        (SemanticLocks::None, 8, 8),
        (SemanticLocks::Wait, 9, 8),
        (SemanticLocks::Refuse, 9, 9),
    ] {
        let (layout, mut table) = marking(locks);
        deliver_to_first(&layout, &mut table, take_one(1, false));
        // The first is not durable yet, and has marked nothing.
        deliver_to_first(&layout, &mut table, take_one(2, false));
        flush_everything(&mut table);
        assert_eq!(values(&table)[0], at_once, "{locks:?}");
        deliver_to_first(&layout, &mut table, Message::Confirm { txn });
        flush_everything(&mut table);
        assert_eq!(values(&table)[0], in_the_end, "{locks:?}");
    }
}

#[test]
fn a_step_that_ignores_a_mark_leaves_it_where_it_was() {
    let (layout, mut table) = marking(SemanticLocks::Wait);
    for message in [take_one(1, false), take_one(2, true)] {
        deliver_to_first(&layout, &mut table, message);
        flush_everything(&mut table);
    }
    assert_eq!(values(&table)[0], 8, "the second must succeed");
    for (ends, left) in [(2, 8), (1, 7)] {
        let txn = TxnId(ends);
        deliver_to_first(&layout, &mut table, Message::Confirm { txn });
        flush_everything(&mut table);
        deliver_to_first(&layout, &mut table, take_one(3, false));
        flush_everything(&mut table);
        assert_eq!(values(&table)[0], left, "after {txn}");
    }
}

/// A duplicate of a step that was turned away may come when the row is free. If it were taken then, and were the pivot, a point of
/// no return would be undone.
#[test]
fn a_step_that_was_turned_away_is_not_taken_later_even_after_a_crash() {
    let (layout, mut table) = marking(SemanticLocks::Refuse);
    let txn = TxnId(1);
    deliver_to_first(&layout, &mut table, take_one(1, false));
    flush_everything(&mut table);
    deliver_to_first(&layout, &mut table, take_one(2, false));
    assert_eq!(
        labels(&table),
        ["done"],
        "not before the refusal is durable"
    );
    flush_everything(&mut table);
    deliver_to_first(&layout, &mut table, Message::Confirm { txn });
    flush_everything(&mut table);
    let home = layout.home(ShardId(0));
    table.crash(home, &mut Dice(0));
    table.boot(home);
    deliver_to_first(&layout, &mut table, take_one(2, false));
    flush_everything(&mut table);
    assert_eq!(values(&table)[0], 9);
    assert_eq!(labels(&table), ["done", "refused", "confirmed", "refused"]);
}

#[test]
fn a_compensation_and_a_refusal_on_the_way_to_the_disk_leave_the_step_untaken_in_either_order() {
    for compensation_first in [true, false] {
        let (layout, mut table) = marking(SemanticLocks::Refuse);
        let (txn, step) = (TxnId(2), 0);
        deliver_to_first(&layout, &mut table, take_one(1, false));
        flush_everything(&mut table);
        let mut messages = [take_one(2, false), Message::Compensate { txn, step }];
        if compensation_first {
            messages.reverse();
        }
        for message in messages {
            deliver_to_first(&layout, &mut table, message);
        }
        flush_everything(&mut table);
        deliver_to_first(&layout, &mut table, Message::Confirm { txn: TxnId(1) });
        deliver_to_first(&layout, &mut table, take_one(2, false));
        flush_everything(&mut table);
        assert_eq!(values(&table)[0], 9, "{compensation_first}");
        let compensated = labels(&table).contains(&"compensated");
        assert!(compensated, "{compensation_first}");
    }
}

/// The saga takes a seat, cannot pay for it, and gives it back.
#[test]
fn a_reader_sees_what_will_be_compensated_unless_rows_are_marked() {
    let seen = |semantic_locks| -> i64 {
        let options = Options {
            semantic_locks,
            ..Options::default()
        };

        let mut read = txn(2, &[], vec![]);
        read.reads = vec![crate::base::txn::Target::Key(key(0, 0))];
        let reader = PlannedOperation {
            start: crate::plan::Start::At(1),
            ..operation(2, read)
        };
        let (_, mut table) = bench(&options, &[operation(1, booking(1, 11)), reader]);
        let start = table.next_timer().unwrap();
        table.fire(start);
        while !labels(&table).contains(&"done") {
            match table.flushing().first() {
                Some(addr) => table.flush(*addr),
                None => table.deliver(0),
            }
        }
        // The first step is done and its answer is on its way: let the reader in and keep the saga waiting.
        let answer = table.flights.pop().unwrap();
        let start = table.next_timer().unwrap();
        table.fire(start);
        while !table.flights.is_empty() {
            table.deliver(0);
        }
        table.flights.push(answer);
        let all = |table: &Bench<Node>| table.outcomes().len() == 2 && table.unended().is_empty();
        assert!(table.settle(1_000, all));
        match &table.outcomes()[&TxnId(2)] {
            Outcome::Committed { reads } => reads.iter().map(|read| read.row.value.as_int()).sum(),
            outcome => panic!("{outcome:?}"),
        }
    };
    assert_eq!(seen(SemanticLocks::None), 9);
    assert_eq!(seen(SemanticLocks::Wait), 10);
}
