//! Sagas in the simulated world: what others see of unfinished sagas has the name that it has for transactions.

#[path = "support/scenarios.rs"]
mod scenarios;

use ordain::plan::Plan;
use ordain::scenario::Scenario;
use ordain::stack::{self, Run};
use ordain::verdict::{Finding, Property, Status};
use scenarios::shipped;

const SEEDS: u64 = 40;

fn property<'a>(run: &'a Run, name: &str) -> &'a Property {
    let mut properties = run.verdict.properties.iter();
    properties.find(|found| found.name == name).expect("judged")
}

fn runs(scenario: &Scenario, protocol: &str) -> Vec<Run> {
    let run = |seed| {
        let plan = Plan::draw(scenario, seed);
        stack::run(scenario, protocol, &plan, false).expect("it runs")
    };
    (1..=SEEDS).map(run).collect()
}

#[test]
fn what_others_see_of_unfinished_sagas_is_named_and_breaks_no_promise() {
    let runs = runs(&shipped("storm", &[]), "saga");
    for run in &runs {
        let whole = property(run, "saga-isolation");
        assert!(whole.exercised > 0, "seed {}", run.seed);
        assert_ne!(whole.status, Status::Violation);
    }
    let broken = |name: &str| {
        let broken = runs.iter().map(|run| property(run, name));
        broken
            .filter(|found| found.outcome == Finding::Broken)
            .count()
    };
    assert!(
        broken("isolation") > 0,
        "as one transaction it is not isolated"
    );
    let named = runs.iter().map(|run| property(run, "saga-isolation"));
    let named: Vec<&Property> = named
        .filter(|found| found.outcome == Finding::Broken)
        .collect();
    assert!(!named.is_empty());
    for found in named {
        let kinds = ["G1a", "G1b", "dirty-update"];
        assert!(
            kinds.iter().any(|kind| found.observed.contains(kind)),
            "{found:?}"
        );
        let example = found.counterexample.as_deref().expect("an example");
        assert!(
            example.contains("saga") && example.contains("step"),
            "{example}"
        );
    }
}

#[test]
fn semantic_locks_keep_others_from_building_on_what_is_compensated_later() {
    let count = |locks: &str| {
        let scenario = shipped("storm", &[("protocol.saga.semantic-locks", locks)]);
        let runs = runs(&scenario, "saga");
        let broken = runs.iter().map(|run| property(run, "saga-isolation"));
        broken
            .filter(|found| found.observed.contains("dirty-update"))
            .count()
    };
    let (without, with) = (count("none"), count("refuse"));
    assert!(
        with < without,
        "{with} of {SEEDS} runs with locks, {without} without"
    );
}

#[test]
fn other_protocols_have_no_steps_to_judge() {
    let scenario = shipped("storm", &[]);
    let run = stack::run(&scenario, "2pc", &Plan::draw(&scenario, 1), false).expect("it runs");
    let mut names = run.verdict.properties.iter().map(|property| property.name);
    assert!(!names.any(|name| name == "saga-isolation"));
}
