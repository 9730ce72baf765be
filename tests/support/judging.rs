//! Runs that are judged by what a test says is promised and was observed.

use ordain::base::monitor::Monitor;
use ordain::base::observation::Observed;
use ordain::plan::Plan;
use ordain::plan::fates::FateSource;
use ordain::protocol::kit::client::ClientMessage;
use ordain::protocol::{Autopsy, Promises, Protocol};
use ordain::scenario::Scenario;
use ordain::sim::{self, Record};
use ordain::verdict::{self, Evidence, Verdict};

/// Plays a plan, with these monitors alone.
pub fn play<P: Protocol>(
    scenario: &Scenario,
    plan: &Plan,
    options: &P::Options,
    monitors: Vec<Box<dyn Monitor<P::Process>>>,
) -> Record<P::Process> {
    let deployment = P::deploy(&scenario.layout, options, &plan.operations).expect("it fits");
    let mut run = sim::Run::new(&plan.environment, deployment, plan.seed);
    run.faults = &plan.faults;
    run.fates = FateSource::Seed(plan.seed);
    run.monitors = monitors;
    sim::simulate(run).expect("the inputs fit")
}

/// Judges what a run did by these promises and observations.
pub fn judge<P: Autopsy>(
    scenario: &Scenario,
    plan: &Plan,
    record: &Record<P>,
    promises: &Promises,
    observations: &[Observed],
) -> Verdict {
    let states: Vec<_> = { record.processes.iter() }
        .filter_map(|(_, process)| process.autopsy())
        .collect();
    verdict::judge(&Evidence {
        scenario,
        plan,
        promises,
        entry: "a coordinator",
        clock_lies: &[],
        requests_delivered: { record.messages.get(ClientMessage::REQUEST) }
            .map_or(0, |counts| counts.delivered),
        events: record.events,
        needs: &[],
        observations,
        states: &states,
        unrecovered: &Default::default(),
        end_ns: record.marks.ended_ns,
        monitored: &record.violations,
        log_tests: 0,
        refinement: Err("not asked for here"),
        log_refinement: None,
        panics: &record.panics,
        struck: &[],
    })
}
