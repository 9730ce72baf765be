//! What RAMP keeps and what it does not: fractured reads beside other protocols, lost updates as a measurement, and the
//! paper's round trips.

use crate::scenarios::shipped;
use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::run::Run;
use ordain::sim::trace::TraceKind;
use ordain::verdict::{Conclusion, Finding, Property, Status};

const SEEDS: u64 = 5;

fn run(protocol: &str, seed: u64, overrides: &[(&str, &str)]) -> Run {
    let scenario = shipped("fractured-reads", overrides);
    let plan = Plan::draw(&scenario, seed);
    Registry::standard()
        .run(&scenario, protocol, &plan, true)
        .expect("it can be deployed")
}

fn property<'a>(run: &'a Run, name: &str) -> &'a Property {
    let mut found = run.verdict.properties.iter().filter(|p| p.name == name);
    found.next().expect(name)
}

#[test]
fn commit_everywhere_shows_fractured_reads_and_ramp_and_two_phase_commit_do_not_on_the_same_plans()
{
    let (mut halves, mut repaired) = (0, 0);
    for seed in 1..=SEEDS {
        halves += property(&run("naive", seed, &[]), "no-intermediate-states").instances;
        for protocol in ["ramp", "2pc"] {
            let run = run(protocol, seed, &[]);
            assert_eq!(
                run.verdict.verdict,
                Conclusion::Kept,
                "{protocol}, seed {seed}"
            );
            assert!(
                run.verdict.counts.committed > 150,
                "{protocol}, seed {seed}"
            );
            let looked = property(&run, "no-intermediate-states");
            assert_eq!(looked.status, Status::Kept, "{protocol}, seed {seed}");
            repaired += run.marks.get("ramp.fractured-read-repaired").unwrap_or(&0);
        }
    }
    assert!(halves > 10, "{halves} readers saw halves");
    assert!(
        repaired > 10,
        "{repaired} readers repaired what they had read"
    );
}

#[test]
fn lost_updates_are_measured_and_no_violation() {
    let transfers = [
        ("workload.kind", "\"transfer\""),
        ("table.0.initial", "1000"),
        ("table.1.initial", "1000"),
        ("workload.legs", "2"),
    ];
    let (mut anomalies, mut off) = (0, 0);
    for seed in 1..=SEEDS {
        let run = run("ramp", seed, &transfers);
        assert_eq!(run.verdict.verdict, Conclusion::Kept, "seed {seed}");
        let beyond = property(&run, "serializability");
        assert_eq!(beyond.status, Status::NotPromised, "seed {seed}");
        anomalies += u64::from(beyond.outcome == Finding::Broken);
        off += u64::from(property(&run, "invariant").outcome == Finding::Broken);
        assert!(
            property(&run, "isolation").status == Status::Kept,
            "seed {seed}"
        );
    }
    assert!(
        anomalies > 0 && off > 0,
        "{anomalies} runs that are not serializable, {off} with other sums"
    );
}

/// Ten transactions, one after the other: no races. Every kind of message is counted from the trace.
#[test]
fn a_write_takes_two_rounds_and_a_read_one() {
    // The first transaction writes in any case: there is nothing to read yet.
    for (reads, writers) in [("100%", 1), ("0%", 10)] {
        let overrides = [
            ("workload.transactions", "10"),
            ("workload.rate", "1.0"),
            ("workload.evenly", "true"),
            ("workload.reads", reads),
            ("phases.safety", "15s"),
            ("phases.power-cycle", "\"0s\""),
        ];
        let overrides = overrides.map(|(key, value)| match key {
            "workload.reads" | "phases.safety" => (key, format!("\"{value}\"")),
            _ => (key, value.to_owned()),
        });
        let overrides: Vec<(&str, &str)> = { overrides.iter() }
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        let run = run("ramp", 1, &overrides);
        assert_eq!(run.verdict.counts.committed, 10);
        let sent = |label| run.messages_by_label.get(label).copied().unwrap_or(0);
        assert!(sent("get") > 0);
        // One message to each of at most four shards.
        let prepared = sent("prepare");
        assert!((writers..=4 * writers).contains(&prepared), "{prepared}");
        assert_eq!(sent("get-version"), 0, "nobody races");
        // As many questions as answers: each round once.
        for (question, answer) in [("prepare", "prepared"), ("commit", "committed")] {
            assert_eq!(sent(question), sent(answer));
        }
        assert_eq!(sent("prepare"), sent("commit"));
        assert_eq!(sent("get"), sent("rows"));
        let trace = run.kept.trace.as_ref().expect("it was asked for");
        let locks = trace.iter().filter(
            |event| matches!(&event.what, TraceKind::Observed { name, .. } if name == "lock-wait"),
        );
        assert_eq!(locks.count(), 0);
    }
}
