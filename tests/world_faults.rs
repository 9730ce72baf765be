//! Every kind of fault shows its effect, and the effect ends when the fault does.

mod support;

use ordain::plan::CrashLoss;
use ordain::plan::FaultKind;
use support::*;

#[test]
fn without_faults_every_message_arrives_once_in_order_after_the_latency() {
    let record = ping(&world(2), &[]);
    let echo = actor(&record, 1);
    assert_eq!(echo.numbers(), (1..200).collect::<Vec<_>>());
    assert_eq!(record.messages["ask"].delivered, 199);
    assert_eq!(record.messages["ask"].dropped, 0);
    assert_eq!(record.simulated_ns, 2 * SECOND);
}

#[test]
fn a_cut_loses_what_is_sent_while_it_lasts_and_nothing_else() {
    let cut = FaultKind::Cut {
        from: nodes(&[0]),
        to: nodes(&[1]),
        both_ways: false,
    };
    let record = ping(&world(2), &[fault(95, 100, cut)]);
    let expected: Vec<u64> = (1..=9).chain(20..200).collect();
    assert_eq!(actor(&record, 1).numbers(), expected);
    assert_eq!(record.messages["ask"].dropped, 10);
}

#[test]
fn a_crash_stops_a_machine_until_it_ends() {
    let crash = FaultKind::Crash {
        nodes: nodes(&[1]),
        loss: CrashLoss::Lost,
    };
    let record = ping(&world(2), &[fault(95, 100, crash)]);
    assert_eq!(actor(&record, 1).numbers(), (20..200).collect::<Vec<_>>());
    assert_eq!(record.messages["ask"].dropped, 10);
}
