//! What holding a run against its spec costs: the same simulated runs with and without the refinement monitor.
//!
//! The goal is a ratio: the monitor takes less than 30 % of a run's time.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ordain::model::refine::Refined;
use ordain::plan::Plan;
use ordain::protocol::Protocol;
use ordain::protocol::calvin::Calvin;
use ordain::protocol::saga::Saga;
use ordain::protocol::two_phase::TwoPhase;
use ordain::scenario::Scenario;
use ordain::{sim, stack};

const STORM: &str = include_str!("../scenarios/storm.toml");

fn run<P: Refined>(scenario: &Scenario, plan: &Plan, watched: bool) -> u64 {
    let options = <P as Protocol>::Options::default();
    let deployment = P::deploy(&scenario.layout, &options, &plan.operations).expect("it fits");
    let mut run = sim::Run::new(&plan.environment, deployment, plan.seed);
    run.faults = &plan.faults;
    if watched {
        run.monitors
            .push(P::watch(&options).expect("it has a spec").0);
    }
    sim::simulate(run).expect("it runs").events
}

fn compare<P: Refined>(criterion: &mut Criterion) {
    let scenario = stack::read_scenario("storm.toml", STORM, &[]).expect("a good scenario");
    let plan = Plan::draw(&scenario, 1);
    let mut group = criterion.benchmark_group(format!("refinement/{}", P::NAME));
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(5));
    for (name, watched) in [("alone", false), ("watched", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(run::<P>(&scenario, &plan, watched)));
        });
    }
    group.finish();
}

fn refinement(criterion: &mut Criterion) {
    compare::<TwoPhase>(criterion);
    compare::<Saga>(criterion);
    compare::<Calvin>(criterion);
}

criterion_group!(benches, refinement);
criterion_main!(benches);
