//! The roles together, on the test host, and the state machine by itself.

use super::group::{Applied, End, Prepared};
use super::*;
use crate::base::observation::Outcome;
use crate::base::txn::Op;
use crate::consensus::Position;
use crate::protocol::kit::replicated::StateMachine;
use crate::protocol::testing::*;

type Host = Bench<<Spanner as Protocol>::Process>;

/// Everybody hears from the leaders, until the copies hold what clients were told.
fn catch_up(host: &mut Host, operations: &[PlannedOperation]) {
    let caught_up = host.settle(200_000, |host: &Host| {
        let stands = standing(&host.autopsy());
        let outcomes = host.outcomes();
        operations.iter().all(|operation| {
            let txn = &operation.txn;
            let expected = match outcomes.get(&txn.id) {
                Some(Outcome::Committed { .. }) => txn.effects.len(),
                _ => 0,
            };
            stands.get(&txn.id).map_or(0, BTreeSet::len) == expected
        })
    });
    assert!(caught_up, "copies differ from what clients were told");
}

fn contend(trouble: Trouble, options: &Options, seeds: std::ops::Range<u64>) {
    let layout = layout(3, 4, Value::Int(10));
    for seed in seeds {
        let operations = contended(&layout, 8, &mut Dice(seed));
        let mut host = run::<Spanner>(&layout, options, &operations, trouble, seed);
        catch_up(&mut host, &operations);
        check_atomicity(&host, &operations);
        check_strictly_serializable(&host);
    }
}

#[test]
fn contended_transactions_are_atomic_and_strictly_serializable() {
    contend(CALM, &Options::default(), 0..30);
}

#[test]
fn they_are_under_crashes_loss_and_repetition() {
    let rough = Trouble {
        steps: 1_500,
        ..ROUGH
    };
    contend(rough, &Options::default(), 0..40);
}

#[test]
fn they_are_over_multi_paxos_with_short_logs() {
    let short = Options {
        log_entries: Number::new(2),
        log: consensus::Options {
            algorithm: consensus::Algorithm::MultiPaxos,
            ..consensus::Options::default()
        },
        ..Options::default()
    };
    let rough = Trouble {
        steps: 1_500,
        ..ROUGH
    };
    contend(rough, &short, 100..130);
}

#[test]
fn machines_that_cannot_carry_it_are_refused() {
    let two_regions = layout(1, 1, Value::Int(0));
    let refused = |layout: &Layout, options: &Options| Spanner::carried(layout, options);
    assert_eq!(refused(&two_regions, &Options::default()), Ok(()));
    let one_spare = Options {
        tolerated: Number::new(1),
        ..Options::default()
    };
    let no_quorum = refused(&two_regions, &one_spare).unwrap_err();
    assert!(no_quorum.contains("it takes 3"), "{no_quorum}");
    let unbounded = Layout {
        clock_bound_ns: None,
        ..two_regions
    };
    let no_bound = refused(&unbounded, &Options::default()).unwrap_err();
    assert!(no_bound.contains("`clock-bound`"), "{no_bound}");
}

fn attempt(txn: u64) -> Attempt {
    Attempt {
        txn: TxnId(txn),
        coordinator: ShardId(0),
        term: 1,
        number: txn,
    }
}

fn prepare(txn: u64, at: u64, value: i64) -> Command {
    let attempt = attempt(txn);
    Command::Prepare {
        attempt,
        prepared: Prepared {
            at: Timestamp(at),
            age: Age {
                since: WallTime(0),
                txn: attempt.txn,
            },
            locks: vec![(key(0, 0), Mode::Exclusive)],
        },
        writes: BTreeMap::from([(key(0, 0), Value::Int(value))]),
    }
}

fn resolve(txn: u64, commit: Option<u64>) -> Command {
    Command::Resolve {
        attempt: attempt(txn),
        commit: commit.map(Timestamp),
    }
}

fn end(txn: u64, at: u64, value: i64) -> Command {
    let reads = Vec::new();
    Command::End {
        end: End {
            attempt: attempt(txn),
            at: Timestamp(at),
            outcome: Outcome::Committed { reads },
            missing: BTreeSet::new(),
        },
        writes: BTreeMap::from([(key(0, 0), Value::Int(value))]),
    }
}

fn value_at(group: &Group, at: u64) -> Option<i64> {
    let row = group.row(key(0, 0), Timestamp(at)).ok()?;
    Some(row.value.as_int())
}

#[test]
fn a_prepared_transaction_holds_reads_back_above_its_timestamp_and_only_there() {
    let mut group = Group::new(&layout(1, 1, Value::Int(10)), ShardId(0));
    let apply = |group: &mut Group, command| group.apply(Position::default(), command);
    apply(&mut group, prepare(1, 5, 11));
    assert_eq!(group.safe(), Timestamp(5));
    assert_eq!(value_at(&group, 5), Some(10));
    assert_eq!(value_at(&group, 6), None, "it may commit there");
    apply(&mut group, resolve(1, Some(8)));
    assert_eq!(value_at(&group, 7), Some(10));
    assert_eq!(value_at(&group, 8), Some(11));
    // One that aborts leaves nothing.
    apply(&mut group, prepare(2, 12, 99));
    apply(&mut group, resolve(2, None));
    assert_eq!(value_at(&group, 20), Some(11));
    assert!(group.prepared().is_empty());
}

#[test]
fn a_transaction_ends_once_and_decisions_may_come_again() {
    let mut group = Group::new(&layout(1, 1, Value::Int(10)), ShardId(0));
    let mut apply = |command| group.apply(Position::default(), command);
    let written = vec![key(0, 0)];
    assert_eq!(
        apply(end(1, 4, 11)),
        Applied::Ended(TxnId(1), Some(written.clone()))
    );
    assert_eq!(apply(end(1, 9, 12)), Applied::Ended(TxnId(1), None));
    apply(prepare(2, 20, 13));
    let resolved = |was_prepared, written| Applied::Resolved {
        attempt: attempt(2),
        commit: true,
        was_prepared,
        written,
    };
    assert_eq!(apply(resolve(2, Some(21))), resolved(true, written));
    assert_eq!(apply(resolve(2, Some(21))), resolved(false, vec![]));
    assert_eq!(value_at(&group, 30), Some(13));
    assert_eq!(value_at(&group, 9), Some(11));
}

#[test]
fn coordinators_of_a_transaction_are_the_same_in_every_attempt() {
    let layout = layout(2, 2, Value::Int(0));
    let txn = txn(
        1,
        &[(key(1, 0), Op::Add(1)), (key(0, 1), Op::Add(1))],
        vec![],
    );
    assert_eq!(coordinator_of(&layout, &txn), ShardId(1));
}
