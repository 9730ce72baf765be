//! Small scenarios whose verdict or figures were wrong once, found by playing public incident reports and their extremes:
//! `tests/world-reports/*.toml`. One function for each, named for the fact.

use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::report;
use ordain::run::Run;
use ordain::scenario::Scenario;
use ordain::verdict::{Conclusion, Finding, Property, VacuityKind};

fn scenario(name: &str, overrides: &[(&str, &str)]) -> Scenario {
    let path = format!("tests/world-reports/{name}.toml");
    let text = std::fs::read_to_string(&path).expect("it is there");
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let overrides: Vec<_> = overrides.iter().map(owned).collect();
    Registry::standard()
        .read_scenario(&path, &text, &overrides)
        .unwrap_or_else(|bad| panic!("{bad}"))
}

fn play(name: &str, protocol: &str, seed: u64, overrides: &[(&str, &str)]) -> Run {
    let scenario = scenario(name, overrides);
    let plan = Plan::draw(&scenario, seed);
    Registry::standard()
        .run(&scenario, protocol, &plan, false)
        .expect("it can be deployed")
}

/// A new leader had nothing to commit, so the sequencer's leadership never began: none of 100, and "as promised".
#[test]
fn calvin_over_multi_paxos_commits_all_that_it_commits_over_raft() {
    let logs = ["raft", "multi-paxos"];
    let committed = logs.map(|log| {
        let run = play(
            "multi-paxos",
            "calvin",
            1,
            &[("protocol.calvin.log.algorithm", log)],
        );
        assert_eq!(run.verdict.verdict, Conclusion::Kept);
        run.verdict.counts.committed
    });
    assert_eq!(committed, [100, 100]);
}

/// What is said about a scenario that is refused.
fn refused(name: &str, overrides: &[(&str, &str)]) -> String {
    let path = format!("tests/world-reports/{name}.toml");
    let text = std::fs::read_to_string(&path).expect("it is there");
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let overrides: Vec<_> = overrides.iter().map(owned).collect();
    let read = Registry::standard().read_scenario(&path, &text, &overrides);
    read.map(drop).expect_err("it is refused").to_string()
}

/// Participants in doubt asked again at once, and time stood still for ever.
#[test]
fn an_inquiry_after_no_time_at_all_is_refused() {
    let text = refused("multi-paxos", &[("protocol.2pc.inquiry-ms", "0")]);
    let expected = "expected whole milliseconds from 1 to 86400000";
    assert!(text.contains(expected), "{text}");
}

/// As nanoseconds it wrapped around to 0.45 ms, and all 100 aborted.
#[test]
fn a_vote_timeout_that_64_bits_of_nanoseconds_do_not_hold_is_refused() {
    let huge = [("protocol.2pc.vote-timeout-ms", "18446744073710")];
    let text = refused("multi-paxos", &huge);
    assert!(text.contains("integer `18446744073710`"), "{text}");
}

/// The fault never struck, and nobody said a word.
#[test]
fn a_fault_that_waits_for_a_misspelt_observation_is_refused() {
    let text = refused("never-strikes", &[]);
    assert!(
        text.starts_with("tests/world-reports/never-strikes.toml:26:"),
        "{text}"
    );
    assert!(text.contains("did you mean `log.became-leader`?"), "{text}");
}

/// The invariant was "violated" by the overflow of its own sum.
#[test]
fn rows_whose_sum_64_bits_do_not_hold_are_refused() {
    let text = refused("multi-paxos", &[("table.0.initial", "9223372036854775807")]);
    assert!(text.contains("sums are kept in 64 bits"), "{text}");
}

fn progress(run: &Run) -> &Property {
    let mut properties = run.verdict.properties.iter();
    let found = properties.find(|property| property.name == "progress");
    found.expect("it is judged")
}

/// Row 2: nothing arrived, and everything was "as promised".
#[test]
fn a_run_in_which_every_message_is_lost_is_vacuous() {
    for (protocol, entry) in [
        ("naive", "a coordinator"),
        ("2pc", "an initiating participant"),
        ("saga", "an orchestrator"),
        ("calvin", "a sequencer"),
    ] {
        let run = play("deaf", protocol, 1, &[]);
        assert_eq!(run.verdict.verdict, Conclusion::Vacuous, "{protocol}");
        let vacuity = run.verdict.vacuity.expect("a reason");
        assert_eq!(vacuity.kind, VacuityKind::NothingReached);
        assert_eq!(vacuity.reason, format!("0 of 100 requests reached {entry}"));
        let wanted = format!("the verdict is vacuous, expected kept: {}", vacuity.reason);
        assert_eq!(run.unexpected, [wanted]);
    }
}

/// Row 2: a star of four of five is left. Raft may stand still in it, by its rules, and Multi-Paxos may not.
#[test]
fn a_star_in_which_raft_stands_still_leaves_progress_untested_and_multi_paxos_goes_on() {
    let no_cycle = ("phases.power-cycle", "\"0s\"");
    let run = play("omni-constrained-perm", "calvin", 3, &[no_cycle]);
    assert_eq!(run.verdict.counts.committed, 132);
    assert_eq!(run.verdict.verdict, Conclusion::Vacuous);
    let vacuity = run.verdict.vacuity.as_ref().expect("a reason");
    assert_eq!(vacuity.kind, VacuityKind::ProgressUntested);
    let why = "468 did not: legitimately unable";
    assert!(vacuity.reason.contains(why), "{}", vacuity.reason);
    let paxos = ("protocol.calvin.log.algorithm", "multi-paxos");
    let run = play("omni-constrained-perm", "calvin", 3, &[no_cycle, paxos]);
    assert_eq!(run.verdict.counts.committed, 600);
    assert_eq!(
        run.verdict.verdict,
        Conclusion::Kept,
        "{:?}",
        progress(&run)
    );
}

/// Row 6: the same machines are out of reach, whether a cut names them or what loses every message does.
#[test]
fn a_region_that_loses_every_message_blocks_as_one_that_is_cut_off() {
    let judged = ["perm-minority", "perm-degrade100"].map(|name| {
        let run = play(name, "2pc", 1, &[]);
        let property = progress(&run).clone();
        assert_eq!(
            run.verdict.verdict,
            Conclusion::Kept,
            "{name}: {property:?}"
        );
        assert!(
            property.observed.contains("promised to block"),
            "{property:?}"
        );
        (property.observed, property.exercised)
    });
    assert_eq!(judged[0], judged[1]);
    assert!(judged[0].1 > 0, "the other regions go on");
}

/// Row 6: a disk that refuses every flush is broken.
#[test]
fn a_disk_that_refuses_every_flush_blocks_as_promised() {
    let run = play("pg-disk-full", "2pc", 1, &[("phases.settle", "\"5s\"")]);
    let property = progress(&run);
    let why = "promised to block while a/acc0 stays broken";
    assert!(property.observed.contains(why), "{property:?}");
    assert!(property.exercised > 0);
}

/// Row 13: a refused step was forced again each 0.6 ms, for ever. Now the machine halts, and restarts after a second.
#[test]
fn a_disk_that_refuses_every_flush_is_not_asked_again_at_once() {
    let run = play("pg-disk-full", "saga", 1, &[]);
    // The disk fails for 55 s: two flushes for each of its restarts, and those of the others.
    assert!(run.flushes < 5_000, "{}", run.flushes);
    assert!(run.events < 100_000, "{}", run.events);
}

/// Row 10: the moment never came, and nobody said a word.
#[test]
fn a_fault_whose_moment_never_comes_is_named_in_every_output() {
    let waits_for = ("fault.0.after.observation", "calvin.checkpoint-damaged");
    let run = play("never-strikes", "calvin", 1, &[waits_for]);
    let why = "`calvin.checkpoint-damaged` was not observed where it looks";
    assert_eq!(run.never_struck.len(), 1);
    assert_eq!(
        (run.never_struck[0].fault, run.never_struck[0].why.as_str()),
        (1, why)
    );
    let text = report::text::run(&run);
    assert!(
        text.contains(&format!("\nfault 1 never struck: {why}\n")),
        "{text}"
    );
    let struck = ("fault.0.after.observation", "initiated");
    assert!(
        play("never-strikes", "calvin", 1, &[struck])
            .never_struck
            .is_empty()
    );
}

/// Row 11: clients queued on their own machine, and that was not counted: 2,669 ms.
#[test]
fn latency_begins_when_the_client_meant_to_ask() {
    let overload = [("workload.rate", "800"), ("phases.power-cycle", "\"0s\"")];
    let p99_ms = play("thr", "naive", 1, &overload).latency_ms.p99;
    assert!((p99_ms - 3_421.0).abs() < 5.0, "{p99_ms}");
}

/// Row 14: a queue that resends keep alive was reported as ordinary latency.
#[test]
fn a_system_that_stays_slow_after_the_fault_has_not_recovered() {
    let run = play("metastable", "saga", 1, &[]);
    let recovery = run.verdict.metrics.recovery.expect("it is measured");
    assert_eq!(recovery.after_s, None, "{recovery:?}");
    assert!(
        recovery.last_ms.is_none_or(|ms| ms > 1_000.0),
        "{recovery:?}"
    );
    assert!(recovery.before_ms < 100.0, "{recovery:?}");
    let text = report::text::run(&run);
    assert!(
        text.contains("DID NOT RECOVER after the last fault"),
        "{text}"
    );
    // Patient clients do not keep the queue alive.
    let patient = [
        ("protocol.saga.client-resend-ms", "60000"),
        ("protocol.saga.resend-ms", "60000"),
    ];
    let run = play("metastable", "saga", 1, &patient);
    let recovery = run.verdict.metrics.recovery.expect("it is measured");
    assert!(recovery.after_s.is_some(), "{recovery:?}");
}

/// Row 7: clients waited for 24 s while nothing was in the log, and the longest stall was 0.00 s.
#[test]
fn an_election_that_takes_long_is_an_outage_to_clients() {
    let run = play("omni-constrained", "calvin", 3, &[]);
    let outage_s = run.verdict.metrics.outage_max_s;
    assert!((23.0..26.0).contains(&outage_s), "{outage_s}");
    assert_eq!(run.verdict.counts.committed, 600);
}

/// The run's state properties, by name.
fn state(run: &Run) -> Vec<(&'static str, Finding, &str)> {
    let names = [
        "atomicity",
        "durability",
        "applied-once",
        "invariant",
        "replicas-agree",
        "isolation",
        "step-isolation",
    ];
    let properties = run.verdict.properties.iter();
    let judged = properties.filter(|property| names.contains(&property.name));
    judged
        .map(|property| (property.name, property.outcome, property.observed.as_str()))
        .collect()
}

/// Asserts that nothing was found broken, nor left unknown, in a state that was looked at.
fn assert_state_is_whole(name: &str, protocol: &str, run: &Run) {
    for (property, outcome, observed) in state(run) {
        let sagas_see_one_another = protocol == "saga" && property == "isolation";
        assert!(
            sagas_see_one_another || [Finding::Held, Finding::Vacuous].contains(&outcome),
            "{name} {protocol}: {property} is {outcome:?}: {observed}"
        );
    }
    let exercised = |name: &str| {
        let mut properties = run.verdict.properties.iter();
        let found = properties.find(|property| property.name == name);
        found.expect("it is judged").exercised
    };
    for property in ["atomicity", "durability", "applied-once", "invariant"] {
        assert!(exercised(property) > 0, "{name} {protocol}: {property}");
    }
    let verdict = run.verdict.verdict;
    let unbroken = [Conclusion::Kept, Conclusion::Vacuous];
    assert!(
        unbroken.contains(&verdict),
        "{name} {protocol}: {verdict:?}"
    );
}

/// Row 3: the election took longer than the power cycle, half of all messages were lost, or each region lacked another
/// shard. The autopsy looked before copies had applied their log: "100 of 100 lost".
#[test]
fn copies_that_recover_slowly_have_lost_nothing() {
    let longer = [("phases.settle", "\"200s\"")];
    for (name, overrides) in [
        ("slow-election", &[][..]),
        ("half-loss", &longer[..]),
        ("perm-feed-cut", &[][..]),
    ] {
        let run = play(name, "calvin", 1, overrides);
        assert_state_is_whole(name, "calvin", &run);
    }
}

/// Row 3: whoever stops waiting says that he does not know.
#[test]
fn a_recovery_that_does_not_end_within_its_bound_makes_state_unknown_and_no_violation() {
    let scenario = scenario("slow-election", &[]);
    let mut plan = Plan::draw(&scenario, 1);
    // All requests return within the safety phase. No election is over within ten settle phases after the power cut.
    plan.environment.safety_ns = 60_000_000_000;
    plan.environment.settle_ns = 100_000_000;
    plan.environment.power_cycle_ns = 100_000_000;
    let run = Registry::standard()
        .run(&scenario, "calvin", &plan, false)
        .expect("it can be deployed");
    assert_eq!(run.verdict.verdict, Conclusion::Unknown);
    for (property, outcome, observed) in state(&run) {
        if ["atomicity", "durability", "invariant"].contains(&property) {
            assert_eq!(outcome, Finding::Unknown, "{property}: {observed}");
            let why = "nothing can be told of 100 transactions: recovery had not ended: a/front0 waits for a leader";
            assert!(observed.contains(why), "{property}: {observed}");
        } else {
            assert!(
                [Finding::Held, Finding::Vacuous].contains(&outcome),
                "{property}: {observed}"
            );
        }
    }
}

/// Rows 4, 5 and 6: machines that are off, stand still or are cut off for ever keep their disks. They were judged as if
/// these were empty, and sums as if sagas that wait for them were over.
#[test]
fn disks_of_machines_that_are_gone_for_ever_are_read_through_recovery() {
    let gone = [
        "perm-dark",
        "perm-pause",
        "perm-majority-crash",
        "perm-feed-cut",
        "perm-minority",
        "perm-degrade100",
        "pg-disk-full",
    ];
    for name in gone {
        for protocol in ["2pc", "saga", "calvin"] {
            let run = play(name, protocol, 1, &[("phases.settle", "\"10s\"")]);
            assert_state_is_whole(name, protocol, &run);
        }
    }
}

/// The same without a power cut at the end: what is up is read as it stands, and what is broken is repaired first.
#[test]
fn machines_that_are_gone_for_ever_are_read_without_a_power_cut_too() {
    let quick = [
        ("phases.settle", "\"10s\""),
        ("phases.power-cycle", "\"0s\""),
    ];
    for name in ["perm-dark", "perm-pause", "perm-minority"] {
        for protocol in ["2pc", "saga", "calvin"] {
            let run = play(name, protocol, 1, &quick);
            assert_state_is_whole(name, protocol, &run);
        }
    }
}
