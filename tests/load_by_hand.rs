//! What a person works out with pencil and paper about load, and what runs show: Little's law, saturation, and the capacity
//! of a hot row. Delays are exact: no jitter, no time for the CPU unless a table says so, flushes of 10 us.
//!
//! And what clients do when answers are lost: duplicates with other ids, none with the same.

use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::report::show::show;
use ordain::run::Run;
use ordain::scenario::Scenario;
use ordain::verdict::{Finding, Status};

use crate::scenarios::shipped;

/// One message delay, and one flush, milliseconds.
const DELAY_MS: f64 = 10.0;
const FLUSH_MS: f64 = 0.01;

fn exact(operation: &str, workload: &str) -> Scenario {
    let text = format!(
        "name = \"exact\"\nsummary = \"Exact delays\"\n\
         [phases]\nsafety = \"10s\"\nsettle = \"30s\"\npower-cycle = \"0s\"\n\
         [[region]]\nname = \"here\"\ncloud = \"a\"\n\
         [network]\nwithin-zone = \"10ms\"\njitter = \"0%\"\n\
         [machines]\nhandle = \"0s\"\noperation = \"0s\"\nflush = \"10us\"\nflush-jitter = \"0s\"\n\
         [[table]]\nname = \"wallets\"\nengine = \"postgres\"\nrows = 1000\ninitial = 1000\nhomes = [\"here\"]\n{operation}\n\
         [[table]]\nname = \"merchants\"\nengine = \"postgres\"\nrows = 10\nhomes = [\"here\"]\n\
         [workload]\nevenly = true\n{workload}"
    );
    Registry::standard()
        .read_scenario("exact", &text, &[])
        .unwrap_or_else(|bad| panic!("{bad}"))
}

fn run(scenario: &Scenario, protocol: &str) -> Run {
    let plan = Plan::draw(scenario, 1);
    let run = Registry::standard().run(scenario, protocol, &plan, false);
    run.expect("it can be deployed")
}

fn assert_near(found: f64, expected: f64, share: f64) {
    let off = (found - expected).abs();
    assert!(off <= expected * share, "{found} is not {expected}");
}

#[test]
fn requests_under_way_follow_littles_law() {
    let scenario = exact(
        "",
        "transactions = 500\nrate = 1000.0\n[[workload.transaction]]\nname = \"put\"\n\
         [[workload.transaction.step]]\ntable = \"wallets\"\ndo = \"put\"\nrow = \"next\"\n",
    );
    let run = run(&scenario, "naive");
    assert_eq!(run.verdict.counts.committed, 500);
    // A coordinator is in charge from the request to the shard's answer: two delays and a flush. One comes each millisecond.
    let in_charge_ms = 2.0 * DELAY_MS + FLUSH_MS;
    let under_way = (1000.0 * in_charge_ms / 1000.0).ceil();
    assert_eq!(run.verdict.metrics.open_max as f64, under_way);
    assert_near(run.latency_ms.p50, in_charge_ms + 2.0 * DELAY_MS, 0.001);
}

#[test]
fn twice_as_many_requests_as_a_table_can_serve_queue_for_as_long_as_they_come() {
    let scenario = exact(
        "operation = \"1ms\"",
        "transactions = 1000\nrate = 2000.0\n[[workload.transaction]]\nname = \"look\"\n\
         [[workload.transaction.step]]\ntable = \"wallets\"\ndo = \"read\"\n",
    );
    let run = run(&scenario, "naive");
    assert_eq!(run.verdict.counts.committed, 1000);
    // Request k comes after k/2 ms and is served after k ms: it waits k/2 ms, besides four delays and its own service.
    let waits = |k: f64| 4.0 * DELAY_MS + 1.0 + k / 2.0;
    assert_near(run.latency_ms.p50, waits(500.0), 0.02);
    assert_near(run.latency_ms.p99, waits(990.0), 0.02);
}

#[test]
fn a_hot_row_passes_one_payment_in_five_message_delays() {
    let scenario = exact(
        "",
        "transactions = 100\nrate = 100.0\n[[workload.transaction]]\nname = \"pay\"\n\
         [[workload.transaction.step]]\ntable = \"wallets\"\ndo = \"add\"\nby = -1\nrow = \"next\"\n\
         [[workload.transaction.step]]\ntable = \"merchants\"\ndo = \"add\"\nby = 1\nrow = \"hot\"\nhot-share = \"100%\"\n",
    );
    // Locked, the initiator's vote, prepare, the merchant's vote, the decision: five delays and three flushes.
    let held_ms = 5.0 * DELAY_MS + 3.0 * FLUSH_MS;
    let shown = show(&scenario, &Plan::draw(&scenario, 1), Vec::new());
    assert_eq!(shown.hot_rows[0].row, "merchants/0");
    assert_near(shown.hot_rows[0].held_ms, held_ms, 1e-9);
    assert!(
        shown
            .warnings
            .iter()
            .any(|warning| warning.contains("requests will queue"))
    );
    let run = run(&scenario, "2pc");
    assert_eq!(run.verdict.counts.committed, 100);
    // Payment k comes after 10 k ms and gets the row after k holders: eight delays in all for the first of them.
    let latency = |k: f64| 8.0 * DELAY_MS + k * (held_ms - 10.0);
    assert_near(run.latency_ms.p50, latency(49.5), 0.03);
    assert_near(run.latency_ms.p99, latency(98.0), 0.03);
}

fn found(run: &Run, property: &str) -> Option<(Finding, u64)> {
    let mut properties = run.verdict.properties.iter();
    let found = properties.find(|found| found.name == property)?;
    Some((found.outcome, found.instances))
}

#[test]
fn customers_pay_twice_under_every_protocol_where_a_retry_has_another_id_and_under_none_with_the_same()
 {
    let other_ids = shipped("duplicate-payment", &[]);
    let same_id = shipped("duplicate-payment", &[("clients.new-id", "false")]);
    for protocol in &other_ids.protocols {
        for (scenario, twice) in [(&other_ids, true), (&same_id, false)] {
            let run = run(scenario, protocol);
            let broken = { run.verdict.properties.iter() }
                .filter(|property| property.status == Status::Violation)
                .map(|property| (property.name, property.counterexample.as_deref()));
            assert_eq!(broken.collect::<Vec<_>>(), vec![], "{protocol}");
            match found(&run, "no-duplicates") {
                Some((outcome, instances)) => {
                    assert!(twice, "{protocol}");
                    // Two seconds without answers, at 36 payments a second.
                    assert_eq!(outcome, Finding::Broken, "{protocol}");
                    assert!(instances >= 20, "{protocol}: {instances}");
                }
                None => assert!(!twice, "{protocol}"),
            }
            assert_eq!(
                found(&run, "applied-once").map(|(outcome, _)| outcome),
                Some(Finding::Held)
            );
            assert!(
                run.verdict.counts.committed > 100,
                "{protocol}: {:?}",
                run.verdict.counts
            );
        }
    }
}

#[test]
fn the_payment_system_tells_which_protocol_loses_what() {
    let scenario = shipped("payments", &[]);
    let broken = |run: &Run, property: &str| {
        found(run, property).map(|(outcome, _)| outcome) == Some(Finding::Broken)
    };
    let violations = |run: &Run| {
        let of_run = { run.verdict.properties.iter() }
            .filter(|property| property.status == Status::Violation);
        of_run
            .map(|property| (property.name, property.counterexample.clone()))
            .collect::<Vec<_>>()
    };
    let naive = run(&scenario, "naive");
    assert!(
        broken(&naive, "atomicity"),
        "orders of refused charges stand"
    );
    let two_phase = run(&scenario, "2pc");
    let saga = run(&scenario, "saga");
    let calvin = run(&scenario, "calvin");
    for run in [&two_phase, &saga, &calvin] {
        assert_eq!(violations(run), vec![], "{}", run.protocol);
        assert!(!broken(run, "invariant"), "{}", run.protocol);
        let declined = run.verdict.counts.declined as f64;
        assert_near(declined, 18_000.0 * 0.8 * 0.04, 0.15);
    }
    assert!(
        broken(&saga, "no-intermediate-states"),
        "readers see halves of payments"
    );
    let blocked = |run: &Run| run.verdict.metrics.blocked_txn_s;
    assert!(
        blocked(&two_phase) > blocked(&calvin),
        "requests wait for the coordinator"
    );
}
