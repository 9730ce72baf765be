//! Calvin over each log and in each layout of its sequencers keeps its promises, and does its work: a run that commits
//! nothing keeps every promise, too.

use crate::scenarios::shipped;
use ordain::campaign::swarm;
use ordain::plan::Plan;
use ordain::protocol::Protocol;
use ordain::protocol::calvin::Calvin;
use ordain::registry::Registry;
use ordain::run::Run;
use ordain::scenario::Scenario;
use ordain::verdict::{Conclusion, Status};
use rayon::prelude::*;

/// Seeds of each scenario, log and layout under swarm faults.
const SEEDS: u64 = 40;

/// A log and a layout, as a scenario names them.
type Variant = (&'static str, &'static str);

const VARIANTS: [Variant; 4] = [
    ("raft", "one-group"),
    ("raft", "group-per-region"),
    ("multi-paxos", "one-group"),
    ("multi-paxos", "group-per-region"),
];

fn scenario(name: &str, (log, layout): Variant) -> Scenario {
    shipped(
        name,
        &[
            ("protocol.calvin.log.algorithm", log),
            ("protocol.calvin.sequencers", layout),
        ],
    )
}

fn calvin(scenario: &Scenario, plan: &Plan) -> Run {
    Registry::standard()
        .run(scenario, Calvin::NAME, plan, false)
        .expect("it can be deployed")
}

/// Runs that broke a promise, or committed nothing, each with what happened.
#[derive(Default)]
struct Exceptions {
    broken: Vec<String>,
    idle: Vec<String>,
}

fn exceptions(runs: &[(String, Run)]) -> Exceptions {
    let mut found = Exceptions::default();
    for (name, run) in runs {
        let broken = { run.verdict.properties.iter() }
            .filter(|property| property.status == Status::Violation)
            .map(|property| format!("{}: {:?}", property.name, property.counterexample));
        let broken: Vec<String> = broken.collect();
        if run.verdict.verdict != Conclusion::Kept {
            found.broken.push(format!("{name}: {broken:?}"));
        }
        if run.verdict.counts.committed == 0 {
            let counts = run.verdict.counts;
            let why = match counts.declined == counts.invoked {
                true => "every guard declined".to_owned(),
                false => format!("{counts:?}"),
            };
            found.idle.push(format!("{name}: {why}"));
        }
    }
    found
}

#[test]
fn every_shipped_scenario_commits_over_each_log_in_each_layout() {
    let named = { ordain::cli::SHIPPED.iter() }
        .map(|(name, _)| *name)
        .filter(|name| {
            let scenario = shipped(name, &[]);
            // Where something stays broken a log may be excused: `tests/incidents.rs` judges those.
            let heals = scenario.faults.iter().all(|fault| !fault.permanent);
            let mut protocols = scenario.protocols.iter();
            heals && protocols.any(|protocol| protocol == Calvin::NAME)
        });
    let jobs: Vec<(&str, Variant)> = named.flat_map(|name| VARIANTS.map(|v| (name, v))).collect();
    assert!(jobs.len() >= 6 * VARIANTS.len(), "{jobs:?}");
    let runs: Vec<(String, Run)> = { jobs.par_iter() }
        .map(|(name, variant)| {
            let scenario = scenario(name, *variant);
            let run = calvin(&scenario, &Plan::draw(&scenario, 1));
            (format!("{name} {variant:?}"), run)
        })
        .collect();
    let Exceptions { broken, idle } = exceptions(&runs);
    assert!(
        broken.is_empty() && idle.is_empty(),
        "{broken:#?} {idle:#?}"
    );
}

#[test]
fn under_swarm_faults_promises_hold_and_work_is_done_over_each_log_in_each_layout() {
    for name in ["storm", "crossfire", "churn"] {
        for variant in VARIANTS {
            let scenario = scenario(name, variant);
            let runs: Vec<(String, Run)> = (1..=SEEDS)
                .into_par_iter()
                .map(|seed| {
                    let run = calvin(&scenario, &swarm::draw(&scenario, seed));
                    (format!("{name} {variant:?} seed {seed}"), run)
                })
                .collect();
            let Exceptions { broken, idle } = exceptions(&runs);
            assert!(broken.is_empty(), "{broken:#?}");
            assert!(idle.len() * 100 <= runs.len(), "{idle:#?}");
        }
    }
}
