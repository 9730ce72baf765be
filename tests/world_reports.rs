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
