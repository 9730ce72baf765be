//! Two-phase commit whose participants lose patience in doubt: what they decide alone may be wrong, and nothing else is.

use crate::judging::{judge, play};
use crate::scenarios::shipped;
use ordain::base::observation::{Observation, Observed};
use ordain::base::options::Millis;
use ordain::plan::Plan;
use ordain::protocol::Protocol;
use ordain::protocol::two_phase::{Heuristic, Options, TwoPhase};
use ordain::scenario::Scenario;
use ordain::verdict::{Finding, Property, Status};

const SEEDS: u64 = 60;

/// A run, judged by what it did and by what `told` leaves of the observations.
fn judged(
    scenario: &Scenario,
    options: &Options,
    seed: u64,
    told: fn(&Observation) -> bool,
) -> Vec<Property> {
    let plan = Plan::draw(scenario, seed);
    let record = play::<TwoPhase>(scenario, &plan, options, Vec::new());
    let observations: Vec<Observed> = { record.observations.iter() }
        .filter(|observed| told(&observed.what))
        .cloned()
        .collect();
    let promises = TwoPhase::promises(options);
    judge(scenario, &plan, &record, &promises, &observations).properties
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
            heuristic_after_ms: Millis::new(1_000),
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
