//! Shrinking on planted bugs: what hundreds of faults and transactions hid comes down to a handful.

#[path = "support/scenarios.rs"]
mod scenarios;
use ordain::registry::Registry;

use ordain::campaign::shrink::{Shrunk, shrink};
use ordain::plan::Plan;
use ordain::run::failure::{self, Class};
use ordain::scenario::Scenario;
use ordain::{base::zoo, campaign::swarm, report};
use scenarios::shipped;

/// The first swarm plan that the bug makes fail, and how.
fn caught(scenario: &Scenario, protocol: &str) -> (Plan, Class) {
    let failing = (1..400).find_map(|seed| {
        let plan = swarm::draw(scenario, seed);
        let run = Registry::standard()
            .run(scenario, protocol, &plan, false)
            .expect("it runs");
        Some((plan, failure::class(&run)?))
    });
    failing.expect("one of 400 plans catches it")
}

fn shrunk(bug: &str) -> Shrunk {
    let planted = zoo::by_name(bug).expect("it is planted");
    let scenario = shipped(planted.scenario, &[]);
    zoo::with(Some(planted.bug), || {
        let (plan, class) = caught(&scenario, planted.protocol);
        shrink(
            &Registry::standard(),
            &scenario,
            planted.protocol,
            &plan,
            &class,
            2_000,
            &mut |_| {},
        )
        .expect("it fails")
    })
}

#[test]
fn planted_bugs_of_every_layer_shrink_to_five_faults_and_six_transactions_at_most() {
    for bug in [
        "2pc.in-doubt-aborts-at-restart",
        "locks.readers-ignore-writers",
        "saga.step-applied-twice",
    ] {
        let shrunk = shrunk(bug);
        assert!(
            shrunk.after.faults <= 5 && shrunk.after.transactions <= 6,
            "{bug}: {}",
            report::plan::shrunk(&shrunk)
        );
    }
}
