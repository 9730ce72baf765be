//! Small scenarios whose verdict or figures were wrong once, found by playing public incident reports and their extremes:
//! `tests/world-reports/*.toml`. One function for each, named for the fact.

use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::run::Run;
use ordain::scenario::Scenario;
use ordain::verdict::Word;

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
        assert_eq!(run.verdict.verdict, Word::Ok);
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
