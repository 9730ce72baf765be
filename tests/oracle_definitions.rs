//! The oracle itself is held to the textbook anomalies, whose verdicts are known from the literature.

use crate::oracle::{MODELS, Model, Op, Status, Txn, admits};

/// A committed transaction of its own process.
fn txn(process: u32, invoke: u64, complete: u64, ops: Vec<Op>) -> Txn {
    Txn {
        process,
        invoke,
        complete,
        status: Status::Ok,
        ops,
    }
}

/// Which of [`MODELS`] admit the history: serializable, its session and strict variants, then snapshot
/// isolation and its variants.
fn verdicts(history: &[Txn]) -> [bool; 6] {
    MODELS.map(|model| admits(model, history))
}

const NONE: [bool; 6] = [false; 6];
const ALL: [bool; 6] = [true; 6];

#[test]
fn write_skew_is_snapshot_isolated_and_not_serializable() {
    let history = [
        txn(0, 0, 10, vec![Op::Read(1, None), Op::Write(2, 1)]),
        txn(1, 0, 10, vec![Op::Read(2, None), Op::Write(1, 1)]),
    ];
    assert_eq!(verdicts(&history), [false, false, false, true, true, true]);
}

#[test]
fn lost_update_is_admitted_by_no_model() {
    let history = [
        txn(0, 0, 10, vec![Op::Read(1, None), Op::Write(1, 1)]),
        txn(1, 0, 10, vec![Op::Read(1, None), Op::Write(1, 2)]),
    ];
    assert_eq!(verdicts(&history), NONE);
}

#[test]
fn long_fork_is_admitted_by_no_model() {
    let history = [
        txn(0, 0, 10, vec![Op::Write(1, 1)]),
        txn(1, 0, 10, vec![Op::Write(2, 1)]),
        txn(2, 0, 10, vec![Op::Read(1, Some(1)), Op::Read(2, None)]),
        txn(3, 0, 10, vec![Op::Read(1, None), Op::Read(2, Some(1))]),
    ];
    assert_eq!(verdicts(&history), NONE);
}

#[test]
fn a_stale_read_breaks_only_the_models_with_real_time() {
    let mut history = [
        txn(0, 0, 1, vec![Op::Write(1, 1)]),
        txn(1, 2, 3, vec![Op::Read(1, None)]),
    ];
    assert_eq!(verdicts(&history), [true, true, false, true, true, false]);
    history[1].process = 0;
    assert_eq!(verdicts(&history), [true, false, false, true, false, false]);
}

#[test]
fn an_indeterminate_write_may_be_seen_late_or_never() {
    let write = Txn {
        status: Status::Info,
        ..txn(0, 0, 1, vec![Op::Write(1, 1)])
    };
    let seen_late = [
        write.clone(),
        txn(1, 5, 6, vec![Op::Read(1, None)]),
        txn(1, 7, 8, vec![Op::Read(1, Some(1))]),
    ];
    assert_eq!(verdicts(&seen_late), ALL);
    let never = [write.clone(), txn(1, 5, 6, vec![Op::Read(1, None)])];
    assert_eq!(verdicts(&never), ALL);
    let forgotten = [
        write,
        txn(1, 5, 6, vec![Op::Read(1, Some(1))]),
        txn(1, 7, 8, vec![Op::Read(1, None)]),
    ];
    assert_eq!(
        verdicts(&forgotten),
        [true, false, false, true, false, false]
    );
}

#[test]
fn a_failed_write_that_is_read_is_admitted_by_no_model() {
    let history = [
        Txn {
            status: Status::Fail,
            ..txn(0, 0, 1, vec![Op::Append(1, 1)])
        },
        txn(1, 0, 9, vec![Op::ReadList(1, vec![1])]),
    ];
    assert_eq!(verdicts(&history), NONE);
}

#[test]
fn intermediate_values_and_forgotten_own_writes_are_admitted_by_no_model() {
    let intermediate = [
        txn(0, 0, 10, vec![Op::Write(1, 1), Op::Write(1, 2)]),
        txn(1, 0, 10, vec![Op::Read(1, Some(1))]),
    ];
    assert_eq!(verdicts(&intermediate), NONE);
    let internal = [txn(
        0,
        0,
        10,
        vec![Op::Append(1, 1), Op::ReadList(1, vec![])],
    )];
    assert_eq!(verdicts(&internal), NONE);
}

#[test]
fn the_read_only_anomaly_of_fekete_is_snapshot_isolated_and_not_serializable() {
    // Fekete, O'Neil and O'Neil 2004: x = 1, y = 2 (keys); the reader sees the deposit and not the debit.
    let history = [
        txn(
            0,
            0,
            90,
            vec![Op::Read(1, None), Op::Read(2, None), Op::Write(1, -11)],
        ),
        txn(1, 10, 20, vec![Op::Read(2, None), Op::Write(2, 20)]),
        txn(2, 30, 40, vec![Op::Read(1, None), Op::Read(2, Some(20))]),
    ];
    assert_eq!(verdicts(&history), [false, false, false, true, true, true]);
    assert!(
        admits(Model::StrictSerializable, &history[..2]),
        "without the reader it is serial"
    );
}
