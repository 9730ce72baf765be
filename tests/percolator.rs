//! What snapshot isolation costs and what it does not keep: Percolator in the simulated world.

use crate::scenarios::shipped;
use ordain::check::parse::{self, Strictness};
use ordain::check::{self, AnomalyKind, Model, Options};
use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::run::Run;
use ordain::verdict::{Conclusion, Finding};

fn run(scenario: &str, protocol: &str, seed: u64, overrides: &[(&str, &str)]) -> Run {
    let scenario = shipped(scenario, overrides);
    let plan = Plan::draw(&scenario, seed);
    Registry::standard()
        .run(&scenario, protocol, &plan, true)
        .expect("it can be deployed")
}

/// What the checker says of a run's history at a model, from the file that the run leaves.
fn checked(run: &Run, model: Model) -> check::Report {
    let history = parse::read(run.kept.history.as_bytes(), Strictness::Strict).expect("a history");
    check::check(&history, &Options::new(model))
}

#[test]
fn write_skew_is_found_under_percolator_and_not_under_two_phase_commit_on_the_same_plans() {
    let mut skewed = 0;
    for seed in 1..=10 {
        let percolator = run("write-skew", "percolator", seed, &[]);
        assert_eq!(percolator.verdict.verdict, Conclusion::Kept, "seed {seed}");
        let serializable = checked(&percolator, Model::Serializable);
        if serializable.verdict == check::Verdict::Invalid {
            skewed += 1;
            let worst = serializable.anomalies.first().expect("it is shown");
            let skew = matches!(worst.kind, AnomalyKind::WriteSkew | AnomalyKind::G2Item);
            assert!(skew, "seed {seed}: {}", worst.explanation);
        }
        let snapshot = checked(&percolator, Model::SnapshotIsolation);
        assert_eq!(snapshot.verdict, check::Verdict::Valid, "seed {seed}");
        let two_phase = run("write-skew", "2pc", seed, &[]);
        let strict = checked(&two_phase, Model::StrictSerializable);
        assert_eq!(strict.verdict, check::Verdict::Valid, "seed {seed}");
        assert!(two_phase.verdict.counts.committed > 40);
    }
    assert!(skewed >= 3, "write skew in {skewed} of 10 runs");
}

#[test]
fn a_crashed_coordinators_locks_hold_others_up_for_no_longer_than_their_time_to_live() {
    // The front machine dies for good at the first moment at which it holds locks; its clients are in the other region.
    let crash = r#"[{kind="crash",nodes=["east/front0"],after={observation="locked",from="2s",count=2,latest="4s"},for="4s"}]"#;
    let overrides = [
        ("fault", crash),
        ("protocol.percolator.lock-ttl-ms", "1000"),
        ("workload.rate", "20.0"),
    ];
    let mut expired = 0;
    for seed in 1..=10 {
        // The oracle lives on that machine: during its outage nobody starts, and locks still expire.
        let run = run("write-skew", "percolator", seed, &overrides);
        assert_eq!(run.verdict.verdict, Conclusion::Kept, "seed {seed}");
        let progress = run.verdict.properties.iter().find(|p| p.name == "progress");
        assert_eq!(progress.map(|p| p.outcome), Some(Finding::Held));
        expired += run
            .marks
            .get("percolator.lock-expired")
            .copied()
            .unwrap_or(0);
    }
    assert!(expired > 0, "some locks outlived their coordinator");
}

#[test]
fn without_faults_and_conflicts_the_messages_are_those_of_the_paper() {
    // Ten transactions, one after the other, each over two shards. Messages within a machine are not counted, so that
    // nobody works from the oracle's region.
    let overrides = [
        ("workload.clients", "[\"west\"]"),
        ("workload.kind", "\"transfer\""),
        // A power cut would take the last `finished`, which is not forced: it would be sent again.
        ("phases.power-cycle", "\"0s\""),
        ("table.0.initial", "1000"),
        ("workload.transactions", "10"),
        ("workload.rate", "1.0"),
        ("workload.evenly", "true"),
        ("phases.safety", "15s"),
    ];
    let run = run("write-skew", "percolator", 1, &overrides);
    assert_eq!(run.verdict.counts.committed, 10);
    let sent = |label| run.messages_by_label.get(label).copied().unwrap_or(0);
    for (label, each) in [
        ("request", 1),
        ("get-timestamp", 2),
        ("read", 2),
        ("prewrite", 2),
        ("commit", 1),
        ("roll-forward", 1),
        ("finished", 1),
        ("check-status", 0),
    ] {
        assert_eq!(sent(label), each * 10, "{label}");
    }
}
