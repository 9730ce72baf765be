//! What holding runs against their specs costs: the same simulated runs alone, with the refinement monitor, and with the
//! one that follows the logs which a protocol embeds.
//!
//! `cargo bench --bench refine` plays the same plans of `storm` and of `settlement` in each way, in turns, and compares CPU
//! times (user and system). The goal is a ratio: a monitor takes less than 30 % of a run's time.

#![allow(clippy::print_stdout)] // A bench prints its table.

use ordain::registry::Registry;
use std::hint::black_box;
use std::time::Duration;

use ordain::model::refine::{Refined, Watch};
use ordain::plan::Plan;
use ordain::protocol::Protocol;
use ordain::protocol::calvin::Calvin;
use ordain::protocol::saga::Saga;
use ordain::protocol::two_phase::TwoPhase;
use ordain::scenario::Scenario;
use ordain::sim;

#[path = "support/cost.rs"]
mod cost;
use cost::{Cost, OWN, timed};

const SCENARIOS: [(&str, &str); 2] = [
    ("storm", include_str!("../scenarios/storm.toml")),
    ("settlement", include_str!("../scenarios/settlement.toml")),
];

/// Plans of each scenario.
const SEEDS: u64 = 12;

/// CPU time after which enough plans have been played alone: many ticks of the clock that counts it.
const ENOUGH: Duration = Duration::from_secs(2);

/// The ways to play a plan: what is watched beside the run itself.
#[derive(Clone, Copy)]
enum Way {
    Alone,
    Transactions,
    Logs,
}

/// The monitor of a way; nothing for a run alone, and where the protocol embeds no log.
fn monitor<P: Refined>(way: Way) -> Option<Watch<P::Process>> {
    let options = <P as Protocol>::Options::default();
    let watch = match way {
        Way::Alone => return None,
        Way::Transactions => P::watch(&options),
        Way::Logs => P::watch_logs(&options)?,
    };
    Some(watch.expect("it has a spec"))
}

/// One run; how many steps the monitor judged.
fn play<P: Refined>(scenario: &Scenario, plan: &Plan, way: Way) -> u64 {
    let options = <P as Protocol>::Options::default();
    let deployment = P::deploy(&scenario.layout, &options, &plan.operations).expect("it fits");
    let mut run = sim::Run::new(&plan.environment, deployment, plan.seed);
    run.faults = &plan.faults;
    let (monitors, tally) = monitor::<P>(way).unzip();
    run.monitors.extend(monitors);
    black_box(sim::simulate(run).expect("it runs").events);
    tally.map_or(0, |tally| tally.lock().expect("nobody panicked").steps)
}

fn compare<P: Refined>(scenario: &Scenario) {
    let plans: Vec<Plan> = (1..=SEEDS).map(|seed| Plan::draw(scenario, seed)).collect();
    let ways: &[Way] = match monitor::<P>(Way::Logs) {
        Some(_) => &[Way::Alone, Way::Transactions, Way::Logs],
        None => &[Way::Alone, Way::Transactions],
    };
    let nothing = Cost {
        wall: Duration::ZERO,
        cpu: Duration::ZERO,
    };
    let mut sums = vec![(nothing, 0); ways.len()];
    let mut played = 0;
    while sums[0].0.cpu < ENOUGH {
        let plan = &plans[played % plans.len()];
        played += 1;
        for (way, (sum, steps)) in ways.iter().zip(&mut sums) {
            let (cost, judged) = timed(OWN, || play::<P>(scenario, plan, *way));
            (sum.wall, sum.cpu) = (sum.wall + cost.wall, sum.cpu + cost.cpu);
            *steps += judged;
        }
    }
    let alone = sums[0].0;
    println!("  {}: {played} runs, alone {alone}", P::NAME);
    for (way, (cost, steps)) in ways.iter().zip(&sums).skip(1) {
        let name = match way {
            Way::Alone => unreachable!("it was skipped"),
            Way::Transactions => "transactions watched",
            Way::Logs => "logs watched",
        };
        let times = cost.of(alone);
        println!("    {name} {cost}; {times}; {steps} steps judged");
    }
}

fn main() {
    for (name, text) in SCENARIOS {
        println!("{name}");
        let scenario = Registry::standard()
            .read_scenario(name, text, &[])
            .expect("a good scenario");
        compare::<TwoPhase>(&scenario);
        compare::<Saga>(&scenario);
        compare::<Calvin>(&scenario);
    }
}
