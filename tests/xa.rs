//! What XA users know it for, staged: a transaction that is half committed by heuristic decision, and orphaned prepared branches.

use crate::scenarios::shipped;
use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::run::Run;
use ordain::verdict::{Conclusion, Finding};

const SEEDS: u64 = 3;

fn run(scenario: &str, protocol: &str, seed: u64, overrides: &[(&str, &str)]) -> Run {
    let scenario = shipped(scenario, overrides);
    let plan = Plan::draw(&scenario, seed);
    let run = Registry::standard().run(&scenario, protocol, &plan, false);
    run.expect("it can be deployed")
}

/// How many transactions were found half committed of those that a branch decided alone; none where nobody may.
fn mixed(run: &Run) -> u64 {
    let mut properties = run.verdict.properties.iter();
    let found = properties.find(|property| property.name == "heuristic-outcomes");
    let found = found.filter(|property| property.outcome == Finding::Broken);
    found.map_or(0, |property| property.instances)
}

#[test]
fn a_cut_after_the_decision_leaves_a_payment_half_committed_or_its_branch_an_orphan() {
    for seed in 1..=SEEDS {
        let alone = run("heuristic-mix", "xa", seed, &[]);
        assert_eq!(alone.verdict.verdict, Conclusion::Kept, "seed {seed}");
        assert!(mixed(&alone) > 0, "seed {seed}");
        assert!(alone.marks["xa.heuristic-mixed"] > 0, "seed {seed}");
        assert!(alone.marks["xa.forgotten"] > 0, "seed {seed}");

        let waits = [("protocol.xa.heuristic-ms", "0")];
        let orphaned = run("heuristic-mix", "xa", seed, &waits);
        assert_eq!(orphaned.verdict.verdict, Conclusion::Kept, "seed {seed}");
        assert_eq!(mixed(&orphaned), 0);
        for run in [&alone, &orphaned] {
            let counts = &run.verdict.counts;
            assert!(counts.committed * 4 > counts.invoked * 3, "{counts:?}");
        }
        // The orphans live as long as the cut; who decides alone waits for two or three seconds.
        let [alone, orphaned] = [&alone, &orphaned].map(|run| &run.verdict.metrics);
        assert!(
            orphaned.prepared_age_max_s > 9.0 && alone.prepared_age_max_s < 3.5,
            "seed {seed}: {}, {}",
            orphaned.prepared_age_max_s,
            alone.prepared_age_max_s
        );
        assert!(
            orphaned.versions_kept_max > alone.versions_kept_max,
            "seed {seed}: {}, {}",
            orphaned.versions_kept_max,
            alone.versions_kept_max
        );
    }
}

/// The transaction manager stays away for good: the branches stay, and so do the versions behind them.
#[test]
fn orphaned_prepared_branches_stay_until_somebody_decides() {
    let orphaned = run_incident(&[]);
    let decided = run_incident(&[("protocol.xa.heuristic-ms", "2000")]);
    for run in [&orphaned, &decided] {
        assert_eq!(run.verdict.verdict, Conclusion::Kept);
    }
    let age_s = [&orphaned, &decided].map(|run| run.verdict.metrics.prepared_age_max_s);
    assert!(age_s[0] > 50.0 && age_s[1] < 5.0, "{age_s:?}");
}

fn run_incident(overrides: &[(&str, &str)]) -> Run {
    run("orphaned-prepared", "xa", 1, overrides)
}
