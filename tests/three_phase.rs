//! Three-phase commit where its assumption holds, and where it does not: the split brain, on staged plans and found by the swarm.

use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::run::Run;
use ordain::scenario::Scenario;
use ordain::verdict::{Conclusion, Finding, Property, Status};

use crate::scenarios::shipped;

fn play(scenario: &Scenario, protocol: &str, plan: &Plan) -> Run {
    Registry::standard()
        .run(scenario, protocol, plan, false)
        .expect("it can be deployed")
}

fn property<'a>(run: &'a Run, name: &str) -> &'a Property {
    let mut properties = run.verdict.properties.iter();
    properties
        .find(|known| known.name == name)
        .expect("it is judged")
}

#[test]
fn a_partition_after_pre_commit_reached_one_side_tears_a_transaction_apart_and_is_no_violation() {
    let scenario = shipped("three-phase-split-brain", &[]);
    let mut torn = 0;
    for seed in 1..=5 {
        let plan = Plan::draw(&scenario, seed);
        let run = play(&scenario, "3pc", &plan);
        let atomicity = property(&run, "atomicity");
        torn += u64::from(atomicity.outcome == Finding::Broken);
        assert_ne!(atomicity.status, Status::Violation, "{atomicity:?}");
        assert!(atomicity.released.is_some(), "{atomicity:?}");
        assert_ne!(
            run.verdict.verdict,
            Conclusion::Violation,
            "{:?}",
            run.verdict
        );
        // The code has done nothing that its spec does not allow.
        let refinement = property(&run, "refinement");
        assert_eq!(refinement.outcome, Finding::Held, "{refinement:?}");
        // Two-phase commit waits, on the same plan.
        let patient = play(&scenario, "2pc", &plan);
        assert_eq!(
            patient.verdict.verdict,
            Conclusion::Kept,
            "{:?}",
            patient.verdict
        );
    }
    assert!(
        torn > 0,
        "one side commits and the other aborts, in some seed"
    );
}

#[test]
fn without_the_partition_nothing_is_torn_apart_and_the_promises_are_owed() {
    let scenario = shipped("three-phase-split-brain", &[]);
    for seed in 1..=5 {
        let mut plan = Plan::draw(&scenario, seed);
        plan.faults.clear();
        let run = play(&scenario, "3pc", &plan);
        assert_eq!(run.verdict.verdict, Conclusion::Kept, "{:?}", run.verdict);
        let atomicity = property(&run, "atomicity");
        assert_eq!(atomicity.outcome, Finding::Held);
        assert!(atomicity.is_promised());
    }
}
