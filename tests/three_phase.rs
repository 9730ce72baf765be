//! Three-phase commit where its assumption holds, and where it does not: the split brain, on staged plans and found by the swarm.

use ordain::campaign::swarm;
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
    assert_eq!(torn, 5, "each time, one side commits and the other aborts");
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

/// The coordinator's machine dies for good in the middle of sending PreCommit: the message to one side is lost, and it crashes once the
/// other side has it on its disk.
#[test]
fn one_crash_splits_who_decide_by_their_own_timeouts_and_not_who_elect_one_of_them() {
    let crash = "[[fault]]\nkind = \"partition\"\nnodes = [\"east/front0\"]\nto = [\"west/accounts1\"]\none-way = true\nfor = \"10s\"\n\
                 after = { observation = \"voted\", from = \"5s\", count = 2, latest = \"6s\" }\n\
                 [[fault]]\nkind = \"crash\"\nnodes = [\"east/front0\"]\npermanent = true\n\
                 after = { observation = \"3pc.pre-committed\", by = \"east/accounts0\", from = \"5s\" }\n";
    let text = std::fs::read_to_string("scenarios/three-phase-split-brain.toml").expect("shipped");
    let calm = text.split("[[fault]]").next().expect("a fault");
    let outcome = |termination: &str| {
        let own = format!("{calm}[protocol.3pc]\ntermination = \"{termination}\"\n{crash}");
        let scenario = Registry::standard()
            .read_scenario("crash", &own, &[])
            .unwrap_or_else(|bad| panic!("{bad}"));
        let runs = (1..=5).map(|seed| {
            let run = play(&scenario, "3pc", &Plan::draw(&scenario, seed));
            let atomicity = property(&run, "atomicity").outcome;
            (run.verdict.verdict, atomicity)
        });
        runs.collect::<Vec<_>>()
    };
    let elected = outcome("elected");
    assert!(
        elected
            .iter()
            .all(|(_, atomicity)| *atomicity == Finding::Held),
        "{elected:?}"
    );
    let alone = outcome("own-timeout");
    let torn = { alone.iter() }.filter(|(_, atomicity)| *atomicity == Finding::Broken);
    // Where the transfer began in the west, its coordinator lives on.
    assert!(torn.count() > 0, "{alone:?}");
    let violation = { alone.iter() }.any(|(verdict, _)| *verdict == Conclusion::Violation);
    assert!(!violation, "nothing of the kind is promised: {alone:?}");
}

#[test]
fn the_swarm_finds_the_split_brain() {
    let scenario = shipped("three-phase-split-brain", &[("swarm.own-faults", "false")]);
    let found = (1..=100).find(|seed| {
        let run = play(&scenario, "3pc", &swarm::draw(&scenario, *seed));
        assert_ne!(
            run.verdict.verdict,
            Conclusion::Violation,
            "{seed}: {:?}",
            run.verdict
        );
        property(&run, "atomicity").outcome == Finding::Broken
    });
    assert!(found.is_some(), "none of 100 plans splits it");
}
