use super::*;
use crate::base::observation::{Observation, Outcome};
use crate::base::txn::{Op, TxnId, Value};
use crate::protocol::testing::*;

/// One failure-free commit over the first `n` shards: the messages of the commit phase between machines, the flushes
/// up to the decision, and the acknowledgements. Beside them only the execution's messages travel.
fn count(n: u8, coordinator: Placement) -> (usize, usize, usize) {
    let layout = layout(7, 2, Value::Int(100));
    let options = Options {
        coordinator,
        ..Options::default()
    };
    let effects: Vec<_> = (0..n).map(|shard| (key(shard, 0), Op::Add(1))).collect();
    let operations = [operation(1, txn(1, &effects, vec![]))];
    let mut table = Bench::new(TwoPhase::deploy(&layout, &options, &operations).unwrap());
    for addr in table.flushing() {
        table.flush(addr); // Every process records its boot, before anything starts.
    }
    let flushed = table.flushed;
    let is_decided = |what: &Observation| matches!(what, Observation::Decided { .. });
    let mut forced = None;
    while table.unended().contains(&TxnId(1)) || table.outcomes().is_empty() {
        if let Some(addr) = table.flushing().first() {
            table.flush(*addr);
        } else if table.flights.is_empty() {
            let timer = table.next_timer().unwrap();
            table.fire(timer);
        } else {
            table.deliver(0);
        }
        if forced.is_none() && table.observed.iter().any(|(_, what)| is_decided(what)) {
            forced = Some(table.flushed - flushed);
        }
    }
    assert!(matches!(
        table.outcomes()[&TxnId(1)],
        Outcome::Committed { .. }
    ));
    let between_machines = |labels: &[&str]| {
        let sent = table.sent.iter();
        sent.filter(|(from, to, label)| from.node != to.node && labels.contains(label))
            .count()
    };
    let commit_phase = between_machines(&["prepare", "prepared", "commit"]);
    let acks = between_machines(&["ack"]);
    let execution = between_machines(&["request", "lock", "locked", "reply"]);
    let all = { table.sent.iter() }.filter(|(from, to, _)| from.node != to.node);
    assert_eq!(
        all.count(),
        commit_phase + acks + execution,
        "{:?}",
        table.sent
    );
    (commit_phase, forced.unwrap(), acks)
}

/// Gray and Lamport, section 2.2 and table 1: 3N - 1 messages, 3N - 3 co-located, N + 1 stable writes.
#[test]
fn a_failure_free_commit_costs_what_gray_and_lamport_count() {
    for n in 2..=7 {
        let participants = usize::from(n);
        let separate = count(n, Placement::Separate);
        assert_eq!(
            separate,
            (3 * participants - 1, participants + 1, participants)
        );
        let together = count(n, Placement::CoLocated);
        assert_eq!(
            together,
            (3 * participants - 3, participants + 1, participants - 1)
        );
    }
}

fn all_options() -> Vec<Options> {
    let plain = Options::default();
    let helpful = Options {
        coordinator: Placement::CoLocated,
        cooperative_termination: true,
        ..Options::default()
    };
    let lean = Options {
        read_only_optimisation: true,
        one_participant_optimisation: true,
        cooperative_termination: true,
        restarts: Number::new(2),
        ..Options::default()
    };
    vec![plain, helpful, lean]
}

#[test]
fn under_crashes_losses_duplicates_and_failing_disks_every_transaction_ends_all_or_nothing() {
    for options in all_options() {
        let (committed, marks) =
            fuzz_commitment::<TwoPhase>(&layout(4, 2, Value::Int(20)), &options, ROUGH, 0..300);
        assert!(committed > 300, "{committed}: {options:?}");
        for mark in [
            "2pc.decision-recovered",
            "2pc.presumed-abort",
            "2pc.recovered-in-doubt",
            "2pc.vote-not-durable",
            "2pc.grant-lost",
            "execution.grant-void",
            "execution.wounded",
        ] {
            assert!(marks.contains(mark), "{mark} was never reached: {marks:?}");
        }
    }
}

/// Nobody stays in doubt, whoever was not decided alone is all or nothing, and what was decided alone is recorded: after
/// any number of crashes each participant still has done what it said.
#[test]
fn only_what_a_participant_decided_alone_can_be_half_done() {
    for heuristic in [Heuristic::Commit, Heuristic::Abort] {
        let options = Options {
            heuristic,
            heuristic_after_ms: Millis::new(20),
            cooperative_termination: true,
            ..Options::default()
        };
        let layout = layout(4, 2, Value::Int(20));
        let (mut decided_alone, mut mixed) = (0, 0);
        for seed in 0..300 {
            let operations = contended(&layout, 12, &mut Dice(seed));
            let table = run::<TwoPhase>(&layout, &options, &operations, ROUGH, seed);
            check_decisions(&table);
            let states = table.autopsy();
            let mut alone = BTreeSet::new();
            for (_, what) in &table.observed {
                match what {
                    Observation::DecidedAlone { txn, shard, commit } => {
                        alone.insert(*txn);
                        let state = &states[shard];
                        let writes = { state.ledger.iter() }.any(|entry| entry.write.txn == *txn);
                        assert!(*commit || !writes, "{txn} at {shard}:\n{}", table.log);
                        assert!(!state.in_doubt.contains(txn), "{txn} at {shard}");
                    }
                    Observation::Mark("2pc.heuristic-mixed") => mixed += 1,
                    _ => {}
                }
            }
            let bound: Vec<_> = { operations.iter() }
                .filter(|operation| !alone.contains(&operation.txn.id))
                .cloned()
                .collect();
            decided_alone += alone.len();
            check_atomicity(&table, &bound);
        }
        assert!(
            decided_alone > 20 && mixed > 5,
            "{heuristic:?}: {decided_alone}, {mixed}"
        );
    }
}

#[test]
fn without_faults_nothing_is_aborted_by_the_system() {
    for options in all_options() {
        let layout = layout(4, 2, Value::Int(20));
        let options = Options {
            restarts: Number::new(0),
            ..options
        };
        for seed in 0..60 {
            let operations = contended(&layout, 12, &mut Dice(seed));
            let calm = Trouble { timer: 0, ..CALM };
            let table = run::<TwoPhase>(&layout, &options, &operations, calm, seed);
            check_strictly_serializable(&table);
            let outcomes = table.outcomes();
            let aborted = |outcome: &&Outcome| matches!(outcome, Outcome::Aborted { .. });
            assert_eq!(outcomes.values().filter(aborted).count(), 0, "{outcomes:?}");
        }
    }
}
