//! An ordinary `async fn` lives in the same world as processes: same network, same faults, same digest.

use std::time::Duration;

use crate::support::*;
use ordain::base::observation::Observation;
use ordain::base::process::{NodeId, WallTime};
use ordain::fault::{CrashLoss, Fault, FaultKind};
use ordain::sim::{Guest, GuestSocket, Record, Run, simulate};

/// Answers every number, and remembers in memory only how many it has answered.
async fn echo(socket: GuestSocket<Actor>) {
    let mut answered = 0;
    loop {
        let (from, message) = socket.recv().await;
        if let Number::Ask(number) = message {
            answered += 1;
            socket.send(from, Number::Answer(number * 1_000 + answered));
            socket.observe(&Observation::Mark("answered"));
        }
    }
}

fn with_guest(faults: &[Fault], guest: Guest<Actor>) -> Record<Actor> {
    let environment = world(2);
    let mut run = Run::new(&environment, actors(&[ticker()]), 1);
    run.faults = faults;
    run.guests.push(guest);
    run.options.trace = true;
    simulate(run).expect("the inputs fit")
}

fn echo_guest() -> Guest<Actor> {
    Guest::new(NodeId(1), echo)
}

#[test]
fn an_echo_guest_talks_to_a_process() {
    let record = with_guest(&[], echo_guest());
    let seen = &actor(&record, 0).seen;
    assert_eq!(seen.len(), 199);
    for (position, (_, number, now)) in seen.iter().enumerate() {
        let n = position as u64 + 1;
        assert_eq!(*number, n * 1_000 + n);
        // There and back in 2 ms, plus the nanoseconds that madsim charges for polling the guest.
        let took_ns = now.0 - WallTime::START.0 - n * 10 * MS;
        assert!((2 * MS..2 * MS + 2_000).contains(&took_ns), "{took_ns}");
    }
    assert_eq!(record.observations.len(), 199);
}

#[test]
fn a_guest_is_cut_off_and_crashed_like_any_machine() {
    let cut = FaultKind::Cut {
        from: nodes(&[0]),
        to: nodes(&[1]),
        both_ways: true,
    };
    let crash = FaultKind::Crash {
        nodes: nodes(&[1]),
        loss: CrashLoss::Lost,
    };
    let record = with_guest(&[fault(95, 100, cut), fault(395, 100, crash)], echo_guest());
    let seen = actor(&record, 0).numbers();
    let expected: Vec<u64> = (1..10)
        .map(|n| n * 1_000 + n)
        .chain((20..40).map(|n| n * 1_000 + n - 10))
        .chain((50..200).map(|n| n * 1_000 + n - 49))
        .collect();
    assert_eq!(
        seen, expected,
        "lost while cut off and down, and counting anew after the crash"
    );
}

#[test]
fn a_paused_guest_answers_when_it_resumes() {
    let pause = FaultKind::Pause { nodes: nodes(&[1]) };
    let record = with_guest(&[fault(95, 100, pause)], echo_guest());
    let seen = &actor(&record, 0).seen;
    assert_eq!(seen.len(), 199);
    let at_ms = |number: usize| (seen[number - 1].2.0 - WallTime::START.0) / MS;
    assert_eq!(
        [at_ms(9), at_ms(10), at_ms(19), at_ms(20)],
        [92, 196, 196, 202]
    );
}

#[test]
fn a_guests_run_is_deterministic() {
    let digest = || with_guest(&[], echo_guest()).digest;
    assert_eq!(digest(), digest());
}

#[test]
fn a_guest_sleeps_by_the_worlds_clock_and_by_madsims() {
    let guest = Guest::new(NodeId(1), |socket: GuestSocket<Actor>| async move {
        for number in 1..=3 {
            socket.sleep(Duration::from_micros(250)).await;
            socket.send(addr(0), Number::Answer(number));
        }
        for number in 4..=6 {
            madsim::time::sleep(Duration::from_millis(30)).await;
            socket.send(addr(0), Number::Answer(number));
        }
        let spawned = socket.clone();
        let task = madsim::task::spawn(async move {
            spawned.sleep(Duration::from_millis(5)).await;
            spawned.send(addr(0), Number::Answer(7));
        });
        task.await.expect("nobody cancels it");
    });
    let record = with_guest(&[], guest);
    let seen: Vec<(u64, u64)> = actor(&record, 0)
        .seen
        .iter()
        .map(|(_, number, now)| (*number, (now.0 - WallTime::START.0) / 10_000))
        .collect();
    let expected = [
        (1, 125),
        (2, 150),
        (3, 175),
        (4, 3175 - 100),
        (5, 6075),
        (6, 9075),
        (7, 9575),
    ];
    for ((number, at), (expected_number, expected_at)) in seen.iter().zip(expected) {
        assert_eq!(*number, expected_number);
        // Within 20 us: polls and madsim's timers add nanoseconds.
        assert!(
            (*at as i64 - expected_at as i64 - 100 * i64::from(*number > 3)).abs() <= 2,
            "{seen:?}"
        );
    }
    assert_eq!(seen.len(), 7);
}

#[test]
fn a_guest_that_panics_is_recorded_and_restarted() {
    let guest = Guest::new(NodeId(1), |socket: GuestSocket<Actor>| async move {
        let (_, message) = socket.recv().await;
        panic!("cannot stand {message:?}");
    });
    let record = with_guest(&[], guest);
    assert_eq!(record.panics.len(), 10, "until the supervisor gives up");
    assert!(record.panics[0].message.contains("cannot stand Ask(1)"));
}

#[test]
fn nobody_listens_once_a_guest_has_returned() {
    let guest = Guest::new(NodeId(1), |socket: GuestSocket<Actor>| async move {
        socket.recv().await;
    });
    let record = with_guest(&[], guest);
    assert_eq!(
        (
            record.messages["ask"].delivered,
            record.messages["ask"].dropped
        ),
        (1, 199 - 1)
    );
}
