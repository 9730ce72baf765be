//! Two-phase commit whose participants lose patience in doubt: what they decide alone may be wrong, and nothing else is.

#[path = "support/scenarios.rs"]
mod scenarios;

use ordain::fates::FateSource;
use ordain::plan::Plan;
use ordain::protocol::two_phase::{Heuristic, Options, TwoPhase};
use ordain::protocol::{Autopsy, Promises, Protocol};
use ordain::record::{Observation, Observed};
use ordain::scenario::Scenario;
use ordain::sim;
use ordain::verdict::{self, Evidence, Finding, Property, Status};
use scenarios::shipped;

const SEEDS: u64 = 60;

/// A run, judged by what it did and by what `told` leaves of the observations.
fn judged(
    scenario: &Scenario,
    options: &Options,
    seed: u64,
    told: fn(&Observation) -> bool,
) -> Vec<Property> {
    let plan = Plan::draw(scenario, seed);
    let deployment =
        TwoPhase::deploy(&scenario.layout, options, &plan.operations).expect("it fits");
    let mut run = sim::Run::new(&plan.environment, deployment, plan.seed);
    run.faults = &plan.faults;
    run.fates = FateSource::Seed(plan.seed);
    let record = sim::simulate(run).expect("the inputs fit");
    let states: Vec<_> = { record.processes.iter() }
        .filter_map(|(_, process)| process.autopsy())
        .collect();
    let observations: Vec<Observed> = { record.observations.iter() }
        .filter(|observed| told(&observed.what))
        .cloned()
        .collect();
    let promises: Promises = TwoPhase::promises(options);
    let verdict = verdict::judge(&Evidence {
        scenario,
        plan: &plan,
        promises,
        observations: &observations,
        states: &states,
        end_ns: record.marks.ended_ns,
        monitored: &record.violations,
        log_tests: 0,
        refinement: Err("nobody decides alone there"),
        log_refinement: None,
        panics: &record.panics,
    });
    verdict.properties
}

fn property<'a>(properties: &'a [Property], name: &str) -> &'a Property {
    let mut named = properties.iter().filter(|property| property.name == name);
    named.next().expect("it is judged")
}

#[test]
fn a_mixed_outcome_is_counted_and_excused_only_where_a_participant_said_that_it_decided_alone() {
    let scenario = shipped("crossfire", &[]);
    for heuristic in [Heuristic::Commit, Heuristic::Abort] {
        let options = Options {
            heuristic,
            heuristic_after_ms: 1_000,
            ..Options::default()
        };
        let mut mixed = 0;
        for seed in 1..=SEEDS {
            let properties = judged(&scenario, &options, seed, |_| true);
            for name in [
                "atomicity",
                "durability",
                "no-phantom-effects",
                "applied-once",
            ] {
                let found = property(&properties, name);
                assert_ne!(found.status, Status::Violation, "seed {seed}: {found:?}");
            }
            let outcomes = property(&properties, "heuristic-outcomes");
            if outcomes.outcome != Finding::Broken {
                continue;
            }
            mixed += 1;
            assert_eq!(outcomes.status, Status::NotPromised);
            // The same run, had the participant kept silent.
            let silent = |what: &Observation| !matches!(what, Observation::DecidedAlone { .. });
            let silent = judged(&scenario, &options, seed, silent);
            assert_eq!(property(&silent, "atomicity").status, Status::Violation);
        }
        assert!(mixed > 0, "{heuristic:?}: no run of {SEEDS} was mixed");
    }
}
