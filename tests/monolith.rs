//! The legacy system beside distributed ones: latency by distance, and what a dark region does to each.

use crate::scenarios::shipped;
use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::run::Run;
use ordain::verdict::Conclusion;

fn settlement(protocol: &str, overrides: &[(&str, &str)]) -> Run {
    let scenario = shipped("settlement", overrides);
    let plan = Plan::draw(&scenario, 1);
    let run = Registry::standard().run(&scenario, protocol, &plan, false);
    let run = run.expect("it can be deployed");
    assert_eq!(run.verdict.verdict, Conclusion::Kept, "{protocol}");
    run
}

/// The median latency of clients of one region, without faults, in milliseconds.
fn median_ms(protocol: &str, region: &str) -> f64 {
    let clients = format!("[\"{region}\"]");
    let overrides = [
        ("workload.clients", clients.as_str()),
        ("workload.transactions", "200"),
        ("fault", "[]"),
    ];
    settlement(protocol, &overrides).latency_ms.p50
}

#[test]
fn latency_is_the_distance_and_one_flush_and_nobody_near_is_served_faster() {
    let near = median_ms("monolith", "frankfurt");
    // Round trips to London and New York are 12 and 80 ms, with 5 % of jitter each way.
    for (region, distance_ms) in [("london", 12.0), ("newyork", 80.0)] {
        let far = median_ms("monolith", region);
        let more = far - near;
        assert!(
            (more / distance_ms - 1.0).abs() < 0.15,
            "{region}: {far} ms, {near} ms near by"
        );
    }
    for other in ["2pc", "calvin"] {
        let distributed = median_ms(other, "frankfurt");
        assert!(
            distributed > 4.0 * near,
            "{other}: {distributed} against {near} ms"
        );
    }
}

#[test]
fn a_dark_region_stops_everybody_if_the_machine_is_there_and_nobody_else_otherwise() {
    let others = ("workload.clients", "[\"frankfurt\", \"newyork\"]");
    let outage_s = |protocol: &str, region: &str| {
        let overrides = [others, ("protocol.monolith.region", region)];
        settlement(protocol, &overrides)
            .verdict
            .metrics
            .outage_max_s
    };
    // London is dark for six seconds. Answers that were under way when it began still arrive.
    let (elsewhere, there) = (
        outage_s("monolith", "\"frankfurt\""),
        outage_s("monolith", "\"london\""),
    );
    assert!(elsewhere < 1.0, "{elsewhere}");
    assert!(there > 5.9, "{there}");
    assert!(
        outage_s("calvin", "\"london\"") < 4.0,
        "two regions are a majority"
    );
}
