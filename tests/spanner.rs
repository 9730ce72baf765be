//! Spanner in the simulated world: what commit wait costs and buys, what a lying clock breaks, and round trips.

use crate::scenarios::shipped;
use ordain::check::parse::{self, Strictness};
use ordain::check::{self, Model, Options};
use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::run::Run;
use ordain::scenario::Scenario;
use ordain::verdict::Conclusion;

fn run(scenario: &Scenario, protocol: &str, seed: u64) -> Run {
    let plan = Plan::draw(scenario, seed);
    Registry::standard()
        .run(scenario, protocol, &plan, true)
        .expect("it can be deployed")
}

/// Three regions, each 10 ms from the others, one way and always; disks and processors that cost next to nothing.
fn even(overrides: &[(&str, &str)]) -> Scenario {
    let text = r#"name = "even"
summary = "Every round trip takes 20 ms"
protocols = ["spanner"]

[phases]
safety = "20s"
settle = "20s"
power-cycle = "1s"

[[region]]
name = "a"
cloud = "x"

[[region]]
name = "b"
cloud = "x"

[[region]]
name = "c"
cloud = "x"

[network]
within-zone = "1us"
between-regions = "10ms"
jitter = "0%"

[machines]
handle = "0s"
operation = "0s"
flush = "1us"
flush-jitter = "0s"
clock-bound = "1ms"

[[table]]
name = "rows"
engine = "postgres"
rows = 1000
initial = 1000
homes = ["a"]

[workload]
kind = "transfer"
transactions = 40
rate = 5.0
start = "2s"
"#;
    let overrides = overrides.iter();
    let overrides: Vec<(String, String)> = overrides
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Registry::standard()
        .read_scenario("even.toml", text, &overrides)
        .unwrap_or_else(|bad| panic!("{bad}"))
}

const ROUND_TRIP_MS: f64 = 20.0;

/// The median latency of committed transactions.
fn p50(overrides: &[(&str, &str)], seed: u64) -> f64 {
    let run = run(&even(overrides), "spanner", seed);
    assert_eq!(run.verdict.verdict, Conclusion::Kept, "{run:?}");
    assert!(
        run.verdict.counts.committed >= 35,
        "{:?}",
        run.verdict.counts
    );
    run.latency_ms.p50
}

#[test]
fn commit_wait_is_free_until_twice_the_bound_exceeds_replication_and_then_costs_twice_the_bound() {
    let at = |bound_ms: u32| {
        let bound = format!("{bound_ms}ms");
        p50(
            &[
                ("machines.clock-bound", &bound),
                ("workload.clients", "[\"a\"]"),
            ],
            1,
        )
    };
    let (small, just_below) = (at(1), at(9));
    assert!((small - just_below).abs() < 0.5, "{small} {just_below}");
    // 2 x 15 ms is 10 ms more than the round trip that it overlaps.
    let above = at(15);
    assert!((above - small - 10.0).abs() < 1.0, "{small} {above}");
    for (bound_ms, more) in [(20, 5.0), (30, 15.0), (50, 35.0)] {
        let slower = at(bound_ms);
        assert!(
            (slower - above - 2.0 * more).abs() < 1.0,
            "{bound_ms}: {above} {slower}"
        );
    }
}

/// The smallest median over the regions in which clients and leaders may be.
fn fastest(overrides: &[(&str, &str)]) -> f64 {
    let mut fastest = f64::MAX;
    for seed in 1..=4 {
        for client in ["[\"a\"]", "[\"b\"]", "[\"c\"]"] {
            let mut all = overrides.to_vec();
            all.push(("workload.clients", client));
            fastest = fastest.min(p50(&all, seed));
        }
    }
    fastest / ROUND_TRIP_MS
}

#[test]
fn critical_paths_are_one_round_of_consensus_for_one_group_and_two_for_several() {
    let is = |measured: f64, round_trips: f64| {
        assert!(
            (measured - round_trips).abs() < 0.05,
            "{measured} instead of {round_trips}"
        );
    };
    // From the leader's own region: one group logs one record.
    is(fastest(&[]), 1.0);
    // Leaders in one region: the participant logs its prepare record, then the coordinator its commit record.
    is(fastest(&[("table.0.homes", "[\"a\",\"a\"]")]), 2.0);
    // A strong read: its timestamp is made safe by one record.
    is(fastest(&[("workload.reads", "\"100%\"")]), 1.0);
}

/// Whether the history that clients saw is strictly serializable.
fn is_strict(run: &Run) -> bool {
    let history = parse::read(run.kept.history.as_bytes(), Strictness::Strict).expect("a history");
    let report = check::check(&history, &Options::new(Model::StrictSerializable));
    report.verdict == check::Verdict::Valid
}

#[test]
fn with_a_liar_reads_are_stale_and_calvin_keeps_every_promise_on_the_same_plan() {
    let scenario = shipped("clock-liar", &[]);
    let mut stale = 0;
    for seed in 1..=8 {
        let spanner = run(&scenario, "spanner", seed);
        assert!(!spanner.clock_lies.is_empty(), "the run knows");
        stale += u32::from(!is_strict(&spanner));
        let others = spanner.verdict.properties.iter();
        let others = others.filter(|property| property.name != "isolation");
        for property in others {
            assert!(
                !format!("{:?}", property.status).contains("Violation"),
                "{property:?}"
            );
        }
        let calvin = run(&scenario, "calvin", seed);
        assert_eq!(calvin.verdict.verdict, Conclusion::Kept, "seed {seed}");
        assert!(is_strict(&calvin));
    }
    assert!(stale >= 6, "stale in {stale} of 8 runs");
    // The same without the lie.
    let honest = shipped("clock-liar", &[("fault", "[]")]);
    for seed in 1..=4 {
        let spanner = run(&honest, "spanner", seed);
        assert_eq!(spanner.verdict.verdict, Conclusion::Kept, "seed {seed}");
        assert!(spanner.clock_lies.is_empty() && is_strict(&spanner));
    }
}

#[test]
fn without_commit_wait_real_time_is_broken_although_clocks_keep_their_bound() {
    let mut reversed = 0;
    for seed in 1..=8 {
        let off = run(&shipped("causal-reverse", &[]), "spanner", seed);
        assert_eq!(
            off.verdict.verdict,
            Conclusion::Kept,
            "it promises serializability"
        );
        assert!(off.clock_lies.is_empty());
        reversed += u32::from(!is_strict(&off));
        let wait = [("protocol.spanner.commit-wait", "true")];
        let on = run(&shipped("causal-reverse", &wait), "spanner", seed);
        assert_eq!(on.verdict.verdict, Conclusion::Kept, "seed {seed}");
        assert!(is_strict(&on), "seed {seed}");
        assert!(on.latency_ms.p50 > off.latency_ms.p50);
    }
    assert!(reversed >= 6, "reversed in {reversed} of 8 runs");
}

#[test]
fn groups_go_on_without_a_region() {
    let dark = r#"[{kind="dark",nodes=["north"],at="2s",for="7s"}]"#;
    for seed in 1..=4 {
        let scenario = shipped(
            "bounded-clocks",
            &[("fault", dark), ("workload.clients", "[\"east\",\"west\"]")],
        );
        let run = run(&scenario, "spanner", seed);
        assert_eq!(run.verdict.verdict, Conclusion::Kept, "seed {seed}");
        let outage_s = run.verdict.metrics.outage_max_s;
        assert!(outage_s < 4.0, "seed {seed}: {outage_s}");
    }
}

#[test]
fn no_bound_and_no_quorum_are_refused_with_a_place_and_a_way_out() {
    let refused = |overrides: &[(&str, &str)]| {
        let text = std::fs::read_to_string("scenarios/bounded-clocks.toml").expect("shipped");
        let mut text = text.replace("clock-bound = \"100ms\"\n", "");
        for (from, to) in overrides {
            text = text.replace(from, to);
        }
        let bad = Registry::standard().read_scenario("bounded-clocks.toml", &text, &[]);
        bad.expect_err("it is refused").to_string()
    };
    let no_bound = refused(&[]);
    assert!(
        no_bound.contains("add `clock-bound` to [machines]"),
        "{no_bound}"
    );
    let bound = (
        "clock-skew = \"60ms\"",
        "clock-bound = \"100ms\"\nclock-skew = \"60ms\"",
    );
    let table = (
        "[network]",
        "[protocol.spanner]\ntolerated = 2\n\n[network]",
    );
    let no_quorum = refused(&[bound, table]);
    assert!(no_quorum.contains("it takes 5"), "{no_quorum}");
    assert!(no_quorum.contains("bounded-clocks.toml:"), "{no_quorum}");
}
