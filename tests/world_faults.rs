//! Every kind of fault shows its effect, and the effect ends when the fault does.

use crate::support::*;
use ordain::base::process::{Delay, WallTime};
use ordain::fault::{CrashLoss, Fault, FaultKind, Latency, OneWay, When};
use ordain::sim::trace::TraceKind;

/// What a ticker's echo receives without faults: one number every 10 ms, less the last one's way.
fn all() -> Vec<u64> {
    (1..200).collect()
}

/// The numbers that are missing at the echo.
fn missing(record: &ordain::sim::Record<Actor>) -> Vec<u64> {
    let seen = actor(record, 1).numbers();
    all().into_iter().filter(|n| !seen.contains(n)).collect()
}

/// Milliseconds of true time since the start, by a perfect clock.
fn ms(reading: WallTime) -> u64 {
    (reading.0 - WallTime::START.0) / MS
}

fn degrade() -> FaultKind {
    FaultKind::Degrade {
        from: nodes(&[0]),
        to: nodes(&[1]),
        loss_ppm: 0,
        duplicate_ppm: 0,
        reorder_ppm: 0,
        latency: Latency {
            base_ns: 0,
            jitter_ns: 0,
        },
        bandwidth: 0,
        one_way: OneWay::NO,
    }
}

#[test]
fn without_faults_every_message_arrives_once_in_order_after_the_latency() {
    let record = ping(&world(2), &[]);
    let echo = actor(&record, 1);
    assert_eq!(echo.numbers(), all());
    assert!(
        echo.seen
            .iter()
            .all(|(_, number, now)| ms(*now) == number * 10 + 1)
    );
    assert_eq!(record.messages["ask"].delivered, 199);
    assert_eq!(record.messages["ask"].dropped, 0);
    assert_eq!(record.simulated_ns, 2 * SECOND);
}

#[test]
fn a_cut_loses_what_is_sent_while_it_lasts_in_its_direction_only() {
    let cut = |from, to, both_ways| FaultKind::Cut {
        from: nodes(&[from]),
        to: nodes(&[to]),
        both_ways,
    };
    // Number 10 leaves at 100 ms and is under way when the cut begins.
    let there = ping(&world(2), &[fault(100, 100, cut(0, 1, false))]);
    let expected: Vec<u64> = (10..20).collect();
    assert_eq!(missing(&there), expected);
    assert_eq!(there.messages["answer"].dropped, 0);
    let back = ping(&world(2), &[fault(100, 100, cut(1, 0, false))]);
    assert_eq!(missing(&back), Vec::<u64>::new());
    assert_eq!(back.messages["answer"].dropped, 10);
    let both = ping(&world(2), &[fault(95, 100, cut(1, 0, true))]);
    assert_eq!(both.messages["ask"].dropped, 10);
}

#[test]
fn messages_under_way_when_a_cut_begins_still_arrive() {
    let mut slow = world(2);
    slow.link_classes[0].latency.base_ns = 50 * MS;
    let cut = FaultKind::Cut {
        from: nodes(&[0]),
        to: nodes(&[1]),
        both_ways: true,
    };
    let record = ping(&slow, &[fault(95, 100, cut)]);
    let expected: Vec<u64> = (10..20).collect();
    let seen = actor(&record, 1).numbers();
    let lost: Vec<u64> = (1..190).filter(|n| !seen.contains(n)).collect();
    assert_eq!(lost, expected);
}

#[test]
fn a_partial_cut_leaves_other_links_alone() {
    let roles = [
        Role::Ticker {
            to: addr(2),
            every: Delay::exactly(10 * MS),
        },
        Role::Ticker {
            to: addr(2),
            every: Delay::exactly(10 * MS),
        },
        Role::Echo,
    ];
    let cut = FaultKind::Cut {
        from: nodes(&[0]),
        to: nodes(&[2]),
        both_ways: true,
    };
    let record = run(&world(3), &[fault(95, 100, cut)], &roles);
    let from = |node| {
        actor(&record, 2)
            .seen
            .iter()
            .filter(|(from, ..)| *from == addr(node))
            .count()
    };
    assert_eq!((from(0), from(1)), (189, 199));
}

#[test]
fn overlapping_cuts_end_with_the_last_of_them() {
    let cut = || FaultKind::Cut {
        from: nodes(&[0]),
        to: nodes(&[1]),
        both_ways: false,
    };
    let record = ping(&world(2), &[fault(95, 100, cut()), fault(145, 150, cut())]);
    let expected: Vec<u64> = (10..30).collect();
    assert_eq!(missing(&record), expected);
}

#[test]
fn a_flapping_link_comes_and_goes_and_stays_when_the_fault_ends() {
    let flap = FaultKind::Flap {
        from: nodes(&[0]),
        to: nodes(&[1]),
        down_ns: 20 * MS,
        up_ns: 30 * MS,
    };
    let record = ping(&world(2), &[fault(95, 100, flap)]);
    assert_eq!(missing(&record), [10, 11, 15, 16]);
}

#[test]
fn a_lossy_link_loses_and_recovers() {
    let lossy = FaultKind::Degrade {
        loss_ppm: 1_000_000,
        from: nodes(&[0]),
        to: nodes(&[1]),
        duplicate_ppm: 0,
        reorder_ppm: 0,
        latency: Latency {
            base_ns: 0,
            jitter_ns: 0,
        },
        bandwidth: 0,
        one_way: OneWay::NO,
    };
    let record = ping(&world(2), &[fault(95, 100, lossy)]);
    let expected: Vec<u64> = (10..20).collect();
    assert_eq!(missing(&record), expected);
}

#[test]
fn a_link_that_duplicates_delivers_twice() {
    let mut kind = degrade();
    if let FaultKind::Degrade { duplicate_ppm, .. } = &mut kind {
        *duplicate_ppm = 1_000_000;
    }
    let record = ping(&world(2), &[fault(95, 100, kind)]);
    let seen = actor(&record, 1).numbers();
    let twice: Vec<u64> = all()
        .into_iter()
        .filter(|n| seen.iter().filter(|m| *m == n).count() == 2)
        .collect();
    assert_eq!(twice, (10..20).collect::<Vec<_>>());
    assert_eq!(record.messages["ask"].duplicated, 10);
    assert_eq!(missing(&record), Vec::<u64>::new());
}

#[test]
fn messages_overtake_one_another_only_where_the_link_reorders() {
    let mut jittery = world(2);
    jittery.link_classes[0].latency = Latency {
        base_ns: 20 * MS,
        jitter_ns: 20 * MS,
    };
    let order = |faults: &[Fault]| actor(&ping(&jittery, faults), 1).numbers();
    assert!(order(&[]).is_sorted(), "jitter alone never reorders");
    let mut kind = degrade();
    if let FaultKind::Degrade { reorder_ppm, .. } = &mut kind {
        *reorder_ppm = 500_000;
    }
    let seen = order(&[fault(95, 400, kind)]);
    assert!(!seen.is_sorted());
    let after: Vec<u64> = seen.into_iter().filter(|n| *n >= 70).collect();
    assert!(after.is_sorted(), "the fault is over");
}

#[test]
fn added_latency_delays_and_goes_away() {
    let mut kind = degrade();
    if let FaultKind::Degrade { latency, .. } = &mut kind {
        latency.base_ns = 4 * MS;
    }
    let record = ping(&world(2), &[fault(95, 100, kind)]);
    for (_, number, now) in &actor(&record, 1).seen {
        let late_ms = if (10..20).contains(number) { 4 } else { 0 };
        assert_eq!(ms(*now), number * 10 + 1 + late_ms);
    }
}

#[test]
fn links_that_are_degraded_one_way_carry_the_other_as_usual() {
    let later = |there: [u16; 2], one_way| {
        let mut kind = degrade();
        let FaultKind::Degrade {
            from,
            to,
            latency,
            one_way: of_kind,
            ..
        } = &mut kind
        else {
            unreachable!("it degrades");
        };
        (*from, *to) = (nodes(&there[..1]), nodes(&there[1..]));
        latency.base_ns = 4 * MS;
        *of_kind = one_way;
        let record = ping(&world(2), &[fault(95, 100, kind)]);
        let seen = &actor(&record, 1).seen;
        let late = seen
            .iter()
            .filter(|(_, number, now)| ms(*now) == number * 10 + 5);
        late.count()
    };
    // Machine 0 sends to machine 1; ten messages pass while the fault lasts.
    assert_eq!(later([0, 1], OneWay(true)), 10);
    assert_eq!(later([1, 0], OneWay(true)), 0, "the other direction");
    assert_eq!(later([1, 0], OneWay::NO), 10);
}

#[test]
fn a_narrow_link_makes_messages_queue() {
    let mut kind = degrade();
    if let FaultKind::Degrade { bandwidth, .. } = &mut kind {
        *bandwidth = 50_000; // A message of 1,000 bytes takes 20 ms; one is sent every 10 ms.
    }
    let record = ping(&world(2), &[fault(95, 100, kind)]);
    for (_, number, now) in &actor(&record, 1).seen {
        let expected_ms = match number {
            10..20 => 101 + 20 * (number - 9),
            // Order holds: nobody overtakes the last message that queued.
            20..30 => 301,
            _ => 10 * number + 1,
        };
        assert_eq!(ms(*now), expected_ms, "number {number}");
    }
}

#[test]
fn a_crash_stops_a_machine_until_it_ends_and_its_timers_with_it() {
    let crash = FaultKind::Crash {
        nodes: nodes(&[1]),
        loss: CrashLoss::Lost,
    };
    let record = ping(&world(2), &[fault(95, 100, crash)]);
    assert_eq!(actor(&record, 1).numbers(), (20..200).collect::<Vec<_>>());
    assert_eq!(record.messages["ask"].dropped, 10);
    let crash = FaultKind::Crash {
        nodes: nodes(&[0]),
        loss: CrashLoss::Lost,
    };
    let record = ping(&world(2), &[fault(95, 100, crash)]);
    let ticker = actor(&record, 0);
    assert_eq!(
        ms(ticker.fired[0]),
        205,
        "10 ms after the machine came back"
    );
    assert_eq!(actor(&record, 1).seen.len(), 9 + 180);
}

#[test]
fn overlapping_crashes_end_with_the_last_of_them() {
    let crash = || FaultKind::Crash {
        nodes: nodes(&[1]),
        loss: CrashLoss::Lost,
    };
    let record = ping(
        &world(2),
        &[fault(95, 100, crash()), fault(145, 150, crash())],
    );
    assert_eq!(record.messages["ask"].dropped, 20);
    let restarts = record.trace.unwrap();
    let restarts = restarts
        .iter()
        .filter(|line| matches!(line.what, TraceKind::Restarted { .. }));
    assert_eq!(restarts.count(), 1);
}

#[test]
fn messages_sent_before_a_restart_are_delivered_after_it() {
    let mut slow = world(2);
    slow.link_classes[0].latency.base_ns = 50 * MS;
    let crash = FaultKind::Crash {
        nodes: nodes(&[0, 1]),
        loss: CrashLoss::Lost,
    };
    let record = ping(&slow, &[fault(95, 20, crash)]);
    // Numbers 7, 8 and 9 left before the crash and arrive after it.
    assert_eq!(actor(&record, 1).numbers()[..4], [7, 8, 9, 1]);
}

#[test]
fn unflushed_bytes_are_lost_kept_or_torn_as_the_fault_says() {
    let found = |loss| {
        let crash = FaultKind::Crash {
            nodes: nodes(&[0]),
            loss,
        };
        let hoarder = Role::Hoarder { every_ns: 10 * MS };
        let record = run(&world(1), &[fault(105, 10, crash)], &[hoarder]);
        actor(&record, 0).booted_with.clone()
    };
    assert_eq!(found(CrashLoss::Lost), Vec::<u8>::new());
    assert_eq!(found(CrashLoss::Kept), (1..=10).collect::<Vec<u8>>());
    assert_eq!(
        found(CrashLoss::Torn(1 << 14)),
        [1, 2],
        "a quarter of ten bytes"
    );
}

#[test]
fn flushed_bytes_survive_every_crash() {
    let crash = FaultKind::Crash {
        nodes: nodes(&[0]),
        loss: CrashLoss::Lost,
    };
    let writer = Role::Writer { every_ns: 10 * MS };
    let record = run(&world(1), &[fault(105, 10, crash)], &[writer]);
    assert_eq!(actor(&record, 0).booted_with, (1..=10).collect::<Vec<u8>>());
}

#[test]
fn a_flush_under_way_at_a_crash_never_completes() {
    let mut slow = world(1);
    slow.machines[0].flush.base_ns = 8 * MS;
    let crash = FaultKind::Crash {
        nodes: nodes(&[0]),
        loss: CrashLoss::Lost,
    };
    let writer = Role::Writer { every_ns: 10 * MS };
    let record = run(&slow, &[fault(105, 1, crash)], &[writer]);
    let writer = actor(&record, 0);
    assert_eq!(writer.booted_with, (1..=9).collect::<Vec<u8>>());
    assert_eq!(
        writer.flushed[0].0, 1,
        "the first answer is for the new incarnation's first flush"
    );
}

#[test]
fn a_paused_machine_handles_what_waited_when_it_resumes() {
    let record = ping(
        &world(2),
        &[fault(95, 100, FaultKind::Pause { nodes: nodes(&[1]) })],
    );
    let echo = actor(&record, 1);
    assert_eq!(echo.numbers(), all(), "nothing is lost");
    for (_, number, now) in &echo.seen {
        let expected_ms = if (10..20).contains(number) {
            195
        } else {
            number * 10 + 1
        };
        assert_eq!(ms(*now), expected_ms);
    }
    let record = ping(
        &world(2),
        &[fault(95, 100, FaultKind::Pause { nodes: nodes(&[0]) })],
    );
    let fired: Vec<u64> = actor(&record, 0).fired.iter().map(|now| ms(*now)).collect();
    assert_eq!(
        fired[8..11],
        [90, 195, 205],
        "a timer that is due fires late, once"
    );
}

#[test]
fn a_busy_machine_makes_inputs_queue_and_a_slow_one_more_so() {
    let mut busy = world(2);
    busy.machines[1].handle_ns = 6 * MS;
    let slow = FaultKind::Slow {
        nodes: nodes(&[1]),
        percent: 200,
    };
    let record = ping(&busy, &[fault(95, 100, slow)]);
    for (_, number, now) in &actor(&record, 1).seen {
        // At 12 ms for one every 10 ms the machine falls behind; at 6 ms it catches up.
        let expected_ms = match number {
            10..18 => 101 + 12 * (number - 9),
            18..22 => 197 + 6 * (number - 17),
            _ => 10 * number + 1 + 6,
        };
        assert_eq!(ms(*now), expected_ms, "number {number}");
    }
}

#[test]
fn charged_operations_delay_the_answer() {
    let mut priced = world(2);
    priced.machines[1].operation_ns = MS / 2;
    let record = run(&priced, &[], &[ticker(), Role::Worker(6)]);
    let (_, number, now) = actor(&record, 0).seen[0];
    assert_eq!((number, ms(now)), (1, 10 + 1 + 3 + 1));
}

#[test]
fn flushes_queue_and_slow_disks_take_longer() {
    let writer = Role::Writer { every_ns: 10 * MS };
    let took = |record: &ordain::sim::Record<Actor>, flush: usize| {
        let (number, ok, now) = actor(record, 0).flushed[flush];
        assert!(ok);
        ms(now) - number * 10
    };
    let slow = FaultKind::SlowFlush {
        nodes: nodes(&[0]),
        percent: 1_500,
    };
    let record = run(&world(1), &[fault(95, 100, slow)], &[writer]);
    assert_eq!([took(&record, 0), took(&record, 8)], [1, 1]);
    assert_eq!(
        [took(&record, 9), took(&record, 10), took(&record, 18)],
        [15, 20, 60]
    );
    assert_eq!(took(&record, 40), 1);
}

#[test]
fn a_failed_flush_loses_the_bytes_and_says_so() {
    let failing = FaultKind::FailFlush {
        nodes: nodes(&[0]),
        probability_ppm: 1_000_000,
        kept_ppm: 0,
    };
    let crash = FaultKind::Crash {
        nodes: nodes(&[0]),
        loss: CrashLoss::Kept,
    };
    let writer = Role::Writer { every_ns: 10 * MS };
    let record = run(
        &world(1),
        &[fault(95, 100, failing.clone()), fault(305, 10, crash)],
        &[writer],
    );
    let writer = actor(&record, 0);
    let expected: Vec<u8> = (1..=9).chain(20..=30).collect();
    assert_eq!(writer.booted_with, expected);
    let writer = Role::Writer { every_ns: 10 * MS };
    let record = run(&world(1), &[fault(95, 100, failing)], &[writer]);
    let failed = actor(&record, 0).flushed.iter().filter(|(_, ok, _)| !ok);
    assert_eq!(
        failed.map(|(number, ..)| *number).collect::<Vec<_>>(),
        (10..20).collect::<Vec<_>>()
    );
}

/// Of ten failed flushes of one byte each: a prefix of one byte is none.
#[test]
fn the_bytes_of_a_failed_flush_survive_as_often_as_the_fault_says() {
    let booted_with = |kept_ppm| {
        let failing = FaultKind::FailFlush {
            nodes: nodes(&[0]),
            probability_ppm: 1_000_000,
            kept_ppm,
        };
        let crash = FaultKind::Crash {
            nodes: nodes(&[0]),
            loss: CrashLoss::Lost,
        };
        let writer = Role::Writer { every_ns: 10 * MS };
        let faults = [fault(95, 100, failing), fault(305, 10, crash)];
        let record = run(&world(1), &faults, &[writer]);
        let failed = actor(&record, 0).flushed.iter().filter(|(_, ok, _)| !ok);
        assert_eq!(failed.count(), 0, "the crash took that memory");
        actor(&record, 0).booted_with.clone()
    };
    let all: Vec<u8> = (1..=30).collect();
    let sound: Vec<u8> = (1..=9).chain(20..=30).collect();
    assert_eq!(booted_with(0), sound);
    let survivors = booted_with(1_000_000).len() - sound.len();
    assert!((1..10).contains(&survivors), "{survivors} of 10");
    let in_order = booted_with(500_000);
    assert!(in_order.iter().all(|byte| all.contains(byte)) && in_order.is_sorted());
}

#[test]
fn a_failing_flush_takes_the_flushes_behind_it_along() {
    let mut slow = world(1);
    slow.machines[0].flush.base_ns = 35 * MS;
    let failing = FaultKind::FailFlush {
        nodes: nodes(&[0]),
        probability_ppm: 1_000_000,
        kept_ppm: 0,
    };
    let writer = Role::Writer { every_ns: 10 * MS };
    // Only the first flush is asked for while flushes fail; it ends at 45 ms, with three more behind it.
    let record = run(&slow, &[fault(5, 10, failing)], &[writer]);
    let ended = &actor(&record, 0).flushed[..4];
    assert!(
        ended.iter().all(|(_, ok, now)| !ok && ms(*now) == 45),
        "{ended:?}"
    );
}

#[test]
fn a_corrupted_read_flips_one_bit_at_the_next_boot_only() {
    let corrupt = FaultKind::CorruptRead {
        node: nodes(&[0])[0],
        port: 0,
        file: 0,
        position: 1 << 31,
    };
    let crash = || FaultKind::Crash {
        nodes: nodes(&[0]),
        loss: CrashLoss::Lost,
    };
    let writer = || Role::Writer { every_ns: 10 * MS };
    let crashes = [fault(105, 10, crash()), fault(50, 200, corrupt.clone())];
    let record = run(&world(1), &crashes, &[writer()]);
    let expected: Vec<u8> = (1..=10).map(|n| if n == 6 { 6 ^ 1 } else { n }).collect();
    assert_eq!(actor(&record, 0).booted_with, expected);
    let again = [
        fault(105, 3, crash()),
        fault(110, 3, crash()),
        fault(50, 200, corrupt.clone()),
    ];
    let record = run(&world(1), &again, &[writer()]);
    assert_eq!(actor(&record, 0).booted_with, (1..=10).collect::<Vec<u8>>());
    let healed = [fault(105, 10, crash()), fault(50, 20, corrupt)];
    let record = run(&world(1), &healed, &[writer()]);
    assert_eq!(actor(&record, 0).booted_with, (1..=10).collect::<Vec<u8>>());
}

#[test]
fn a_clock_steps_and_steps_back_and_timers_do_not_notice() {
    for by_ms in [-70i64, 70] {
        let step = FaultKind::ClockStep {
            nodes: nodes(&[1]),
            by_ns: by_ms * MS as i64,
        };
        let record = ping(&world(2), &[fault(95, 100, step.clone())]);
        for (_, number, now) in &actor(&record, 1).seen {
            let off_ms = if (10..20).contains(number) { by_ms } else { 0 };
            assert_eq!(ms(*now) as i64, *number as i64 * 10 + 1 + off_ms);
        }
        let step = FaultKind::ClockStep {
            nodes: nodes(&[0]),
            by_ns: by_ms * MS as i64,
        };
        let record = ping(&world(2), &[fault(95, 100, step)]);
        assert!(
            actor(&record, 1)
                .seen
                .iter()
                .all(|(_, number, now)| ms(*now) == number * 10 + 1)
        );
    }
}

#[test]
fn a_drifting_clock_runs_away_and_its_timers_with_it_until_it_is_set_right() {
    let drift = FaultKind::ClockDrift {
        nodes: nodes(&[0]),
        by_ppm: 100_000,
    };
    let mut record = ping(&world(2), &[fault(100, 500, drift)]);
    let trace = record.trace.take().unwrap();
    let asks: Vec<u64> = trace
        .iter()
        .filter(|line| matches!(&line.what, TraceKind::Sent { label, .. } if label == "ask"))
        .map(|line| line.at_ns / 1_000)
        .collect();
    // In 500 ms the fast clock sees 550 ms: five more timers.
    assert_eq!(
        asks.iter()
            .filter(|at| (100_001..600_000).contains(*at))
            .count(),
        54
    );
    assert_eq!(asks[10], 109_090, "10 ms of a clock that is 10 % fast");
    let fired = &actor(&record, 0).fired;
    let last = fired.last().unwrap();
    assert_eq!(ms(*last), asks.last().unwrap() / 1_000, "set right again");
    assert_eq!(ms(fired[30]), 310, "by its own clock it was in time");
}

#[test]
fn clocks_begin_with_their_offset() {
    let mut skewed = world(2);
    skewed.machines[1].clock_offset_ns = -(500 * MS as i64);
    let record = ping(&skewed, &[]);
    let (_, _, now) = actor(&record, 1).seen[0];
    assert_eq!(now.0, WallTime::START.0 + 11 * MS - 500 * MS);
}

#[test]
fn the_settle_phase_heals_everything_but_what_is_permanent() {
    let open_ended = |permanent| Fault {
        when: When::At(500 * MS),
        for_ns: None,
        permanent,
        kind: FaultKind::Cut {
            from: nodes(&[0]),
            to: nodes(&[1]),
            both_ways: true,
        },
    };
    let healed = ping(&world(2), &[open_ended(false)]);
    assert_eq!(actor(&healed, 1).numbers().last(), Some(&199));
    assert_eq!(healed.marks.settle_began_ns, Some(SECOND));
    let broken = ping(&world(2), &[open_ended(true)]);
    assert_eq!(actor(&broken, 1).numbers().last(), Some(&49));
    let down = FaultKind::Crash {
        nodes: nodes(&[1]),
        loss: CrashLoss::Lost,
    };
    let down = Fault {
        kind: down,
        ..open_ended(true)
    };
    let dead = ping(&world(2), &[down]);
    assert!(
        dead.processes.iter().all(|(at, _)| *at != addr(1)),
        "a machine that is down has no processes"
    );
}

#[test]
fn faults_do_not_begin_in_the_settle_phase() {
    let cut = FaultKind::Cut {
        from: nodes(&[0]),
        to: nodes(&[1]),
        both_ways: true,
    };
    let record = ping(&world(2), &[fault(1_200, 100, cut)]);
    assert_eq!(missing(&record), Vec::<u64>::new());
}

#[test]
fn a_fault_aimed_at_a_moment_strikes_there_and_replays_without_the_aim() {
    let aimed = Fault {
        when: When::Moment {
            from_ns: 100 * MS,
            observation: "asked".to_owned(),
            by: None,
            count: 3,
            latest_ns: None,
        },
        for_ns: Some(50 * MS),
        permanent: false,
        kind: FaultKind::Crash {
            nodes: nodes(&[1]),
            loss: CrashLoss::Lost,
        },
    };
    let record = ping(&world(2), &[aimed]);
    let trace = record.trace.as_ref().unwrap();
    let crash = trace
        .iter()
        .find(|line| matches!(line.what, TraceKind::Crashed { .. }))
        .unwrap();
    assert_eq!(
        crash.at_ns,
        121 * MS,
        "numbers 10, 11 and 12 were asked since 100 ms"
    );
    assert!(matches!(record.faults[0].when, When::AfterEvent(_)));
    let replayed = ping(&world(2), &record.faults);
    assert_eq!(replayed.digest, record.digest);
    assert_eq!(
        ordain::sim::trace::first_difference(trace, replayed.trace.as_ref().unwrap()),
        None
    );
}

#[test]
fn a_machine_that_restarts_while_it_is_paused_goes_on_when_the_pause_ends() {
    let pause = || FaultKind::Pause { nodes: nodes(&[1]) };
    let crash = || FaultKind::Crash {
        nodes: nodes(&[1]),
        loss: CrashLoss::Lost,
    };
    // Back to back, so that the restarted machine's first turn comes as early as it can.
    let faults: Vec<Fault> = (0..40)
        .flat_map(|round| {
            let at_ms = 100 + 20 * round;
            [fault(at_ms, 10, pause()), fault(at_ms + 2, 8, crash())]
        })
        .collect();
    let record = ping(&world(2), &faults);
    let boots = record.trace.iter().flatten();
    let boots = boots
        .filter(|line| matches!(line.what, TraceKind::Restarted { .. }))
        .count();
    assert!(boots >= 40, "{boots}");
    assert!(record.processes.iter().any(|(at, _)| *at == addr(1)));
}

#[test]
fn a_moment_that_never_comes_strikes_at_its_latest_time_and_replays() {
    let aimed = |latest_ns| Fault {
        when: When::Moment {
            from_ns: 100 * MS,
            observation: "never made".to_owned(),
            by: None,
            count: 1,
            latest_ns,
        },
        for_ns: Some(50 * MS),
        permanent: false,
        kind: FaultKind::Crash {
            nodes: nodes(&[1]),
            loss: CrashLoss::Lost,
        },
    };
    let record = ping(&world(2), &[aimed(Some(125 * MS))]);
    assert_eq!(record.faults[0].when, When::At(125 * MS));
    assert_eq!(ping(&world(2), &record.faults).digest, record.digest);
    let never = ping(&world(2), &[aimed(None)]);
    assert_eq!(never.faults, []);
    assert_eq!(never.digest, ping(&world(2), &[]).digest);
}

#[test]
fn a_panic_is_recorded_with_its_input_and_the_supervisor_restarts_the_machine() {
    let mut quiet = world(2);
    quiet.safety_ns = 200 * MS;
    quiet.settle_ns = 0;
    let record = run(&quiet, &[], &[ticker(), Role::Fragile(3)]);
    let panic = &record.panics[0];
    assert_eq!((panic.at_ns, panic.by), (31 * MS, addr(1)));
    assert!(panic.input.contains("Ask(3)"), "{}", panic.input);
    assert!(
        panic.message.contains("this number is too much"),
        "{}",
        panic.message
    );
    assert!(
        panic.message.contains("support/mod.rs"),
        "{}",
        panic.message
    );
    assert_eq!(
        actor(&record, 1).numbers()[0],
        8,
        "back 50 ms later, at 81 ms"
    );
}

#[test]
fn a_machine_that_panics_over_and_over_stays_down_in_the_end() {
    let mut quiet = world(2);
    quiet.supervisor_ns = MS;
    let fragile = Role::Fragile(1);
    // The ticker is restarted again and again, so that it always sends the first number.
    let crashes: Vec<Fault> = (0..30)
        .map(|n| {
            fault(
                15 + n * 20,
                1,
                FaultKind::Crash {
                    nodes: nodes(&[0]),
                    loss: CrashLoss::Lost,
                },
            )
        })
        .collect();
    let record = run(&quiet, &crashes, &[ticker(), fragile]);
    assert_eq!(record.panics.len(), 10);
    assert!(record.processes.iter().all(|(at, _)| *at != addr(1)));
}

#[test]
fn the_power_cycle_restarts_every_machine_but_those_of_clients() {
    let mut cycled = world(2);
    cycled.power_cycle_ns = 50 * MS;
    cycled.machines[0].client = true;
    let record = run(
        &cycled,
        &[],
        &[ticker(), Role::Writer { every_ns: 10 * MS }],
    );
    assert_eq!(record.marks.power_cycled_ns, Some(2 * SECOND));
    assert_eq!(record.simulated_ns, 2 * SECOND + 50 * MS);
    assert_eq!(record.processes.len(), 1, "the client's machine is off");
    assert_eq!(actor(&record, 1).booted_with.len(), 199);
    assert_eq!(actor(&record, 1).sent, 4, "it ran on for 50 ms");
}
