//! The lock-based, the compensating and the careless protocol in the simulated world, under everything that the
//! storm scenario throws at them: what each promises holds on every seed, and what it does not promise breaks.

use crate::scenarios::shipped;
use ordain::campaign::compare::{Line, compare};
use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::scenario::Scenario;

const SEEDS: u64 = 100;

fn line(scenario: &Scenario, protocol: &str) -> Line {
    let seeds: Vec<u64> = (1..=SEEDS).collect();
    let compared = compare(
        &Registry::standard(),
        scenario,
        &[protocol.to_owned()],
        &seeds,
        |_| {},
    )
    .expect("it runs");
    let mut lines = compared.protocols.into_iter();
    lines.next().expect("one protocol was asked for")
}

fn assert_as_promised(line: &Line) {
    let broken = line
        .properties
        .iter()
        .filter(|property| property.broken > 0);
    let broken: Vec<_> = broken
        .map(|found| (found.name, &found.counterexample))
        .collect();
    assert_eq!((line.kept, line.violations), (SEEDS, 0), "{broken:?}");
    assert_work_was_done(line);
}

/// A storm that nothing survives shows nothing: most transactions commit.
fn assert_work_was_done(line: &Line) {
    let counts = line.counts;
    assert!(counts.committed * 2 > counts.invoked, "{counts:?}");
    assert_eq!(line.vacuous, 0);
}

fn broken(line: &Line, property: &str) -> u64 {
    let mut found = line
        .properties
        .iter()
        .filter(|found| found.name == property);
    found.next().expect("it is judged").broken
}

#[test]
fn two_phase_commit_is_atomic_and_strict_and_ends_once_all_machines_are_back() {
    let line = line(&shipped("storm", &[]), "2pc");
    assert_as_promised(&line);
    assert_eq!(
        (broken(&line, "atomicity"), broken(&line, "isolation")),
        (0, 0)
    );
    assert!(
        line.blocked_txn_s > 0.0,
        "it blocks while machines are away"
    );
}

#[test]
fn two_phase_commit_with_every_option_keeps_its_promises() {
    let options = [
        ("protocol.2pc.coordinator", "\"co-located\""),
        ("protocol.2pc.cooperative-termination", "true"),
        ("protocol.2pc.read-only-optimisation", "true"),
        ("protocol.2pc.one-participant-optimisation", "true"),
    ];
    assert_as_promised(&line(&shipped("storm", &options), "2pc"));
}

#[test]
fn paxos_commit_is_atomic_and_strict_and_ends() {
    for (acceptors, faster, tolerated) in [
        ("separate", "false", "1"),
        ("separate", "true", "1"),
        ("co-located", "false", "0"),
        ("separate", "false", "0"),
    ] {
        let acceptors = format!("\"{acceptors}\"");
        let options = [
            ("protocol.paxos-commit.acceptors", acceptors.as_str()),
            ("protocol.paxos-commit.faster", faster),
            ("protocol.paxos-commit.tolerated", tolerated),
        ];
        let line = line(&shipped("storm", &options), "paxos-commit");
        assert_as_promised(&line);
        let broken = |property| broken(&line, property);
        assert_eq!((broken("atomicity"), broken("isolation")), (0, 0));
    }
}

/// Its assumption holds: whatever is silent has crashed.
#[test]
fn three_phase_commit_is_atomic_and_strict_and_ends_in_a_storm_of_crashes() {
    for coordinator in ["\"separate\"", "\"co-located\""] {
        let options = [("protocol.3pc.coordinator", coordinator)];
        let line = line(&shipped("crash-storm", &options), "3pc");
        assert_as_promised(&line);
        let promised = { line.properties.iter() }.find(|found| found.name == "atomicity");
        assert_eq!(promised.expect("it is judged").released, 0, "it is owed");
    }
}

#[test]
fn every_saga_ends_all_done_or_all_compensated() {
    for locks in ["\"none\"", "\"wait\"", "\"refuse\""] {
        let line = line(
            &shipped("storm", &[("protocol.saga.semantic-locks", locks)]),
            "saga",
        );
        assert_as_promised(&line);
        assert_eq!(broken(&line, "atomicity"), 0);
    }
}

#[test]
fn percolator_is_atomic_and_every_read_a_snapshot() {
    let restarts = ("protocol.percolator.restarts", "5");
    let short = [
        ("protocol.percolator.gc-life-ms", "1000"),
        ("protocol.percolator.timestamp-lease", "2"),
        ("protocol.percolator.checkpoint-kib", "1"),
        restarts,
    ];
    for options in [&[][..], &[restarts], &short] {
        assert_as_promised(&line(&shipped("storm", options), "percolator"));
    }
}

#[test]
fn ramp_is_atomic_and_no_read_is_fractured() {
    let short = [
        ("protocol.ramp.termination-ms", "500"),
        ("protocol.ramp.gc-life-ms", "1000"),
        ("protocol.ramp.timestamp-lease", "2"),
        ("protocol.ramp.checkpoint-kib", "1"),
    ];
    for options in [&[][..], &short] {
        let line = line(&shipped("storm", options), "ramp");
        assert_as_promised(&line);
        let broken = |property| broken(&line, property);
        assert_eq!(
            (broken("atomicity"), broken("no-intermediate-states")),
            (0, 0)
        );
    }
}

#[test]
fn the_monolith_is_atomic_and_strict_and_ends_once_its_machine_is_back() {
    for region in ["\"east\"", "\"west\""] {
        let options = [("protocol.monolith.region", region)];
        let line = line(&shipped("storm", &options), "monolith");
        assert_as_promised(&line);
        let broken = |property| broken(&line, property);
        assert_eq!((broken("atomicity"), broken("isolation")), (0, 0));
    }
}

#[test]
fn spanner_is_atomic_and_strictly_serializable_while_clocks_keep_their_bound() {
    let short = [
        ("protocol.spanner.log-entries", "4"),
        ("protocol.spanner.log.election-ms", "[150, 300]"),
        ("protocol.spanner.log.heartbeat-ms", "40"),
    ];
    let paxos = [("protocol.spanner.log.algorithm", "multi-paxos")];
    let off = [("protocol.spanner.commit-wait", "false")];
    for options in [&[][..], &short, &paxos, &off] {
        assert_as_promised(&line(&shipped("bounded-clocks", options), "spanner"));
    }
}

#[test]
fn xa_is_atomic_and_strict_without_heuristic_decisions_and_with_them_for_all_others() {
    let short = [
        ("protocol.xa.recovery-ms", "300"),
        ("protocol.xa.transaction-timeout-ms", "1000"),
        ("protocol.xa.commit-return", "\"decision-logged\""),
        ("protocol.xa.checkpoint-kib", "1"),
    ];
    let two_phases = [
        ("protocol.xa.one-phase", "false"),
        ("protocol.xa.read-only", "false"),
    ];
    for options in [&[][..], &short, &two_phases] {
        let line = line(&shipped("storm", options), "xa");
        assert_as_promised(&line);
        let broken = |property| broken(&line, property);
        assert_eq!((broken("atomicity"), broken("isolation")), (0, 0));
    }
    for way in ["\"commit\"", "\"rollback\""] {
        let alone = [
            ("protocol.xa.heuristic-ms", "300"),
            ("protocol.xa.heuristic", way),
        ];
        assert_as_promised(&line(&shipped("storm", &alone), "xa"));
    }
}

#[test]
fn commit_everywhere_leaves_transactions_half_done() {
    let line = line(&shipped("storm", &[]), "naive");
    assert_work_was_done(&line);
    assert!(
        broken(&line, "atomicity") > SEEDS / 4,
        "{:?}",
        line.properties
    );
}

/// A run remembers judgements of earlier ones; they must change nothing but the time.
#[test]
fn a_run_after_others_is_judged_like_the_first() {
    let scenario = shipped("storm", &[]);
    for protocol in [
        "2pc",
        "3pc",
        "paxos-commit",
        "saga",
        "calvin",
        "percolator",
        "monolith",
        "ramp",
        "xa",
    ] {
        let judged = |seed| {
            let plan = Plan::draw(&scenario, seed);
            let run = Registry::standard()
                .run(&scenario, protocol, &plan, false)
                .expect("it can be deployed");
            serde_json::to_value(&run).expect("plain data")
        };
        let first = judged(1);
        let _others = [judged(2), judged(3)];
        assert_eq!(judged(1), first, "{protocol}");
    }
}
