//! Exports of a run, each held against the rules of the tool that reads it.

use std::collections::{BTreeMap, BTreeSet};

use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::report::export;
use ordain::report::page::model::{self, RunPage};
use ordain::run::Run;
use ordain::run::trace::TraceKind;
use serde_json::Value;

const HALF_SEEN: &str = include_str!("browser/half-seen.toml");
const HOSTILE: &str = include_str!("browser/hostile.toml");

fn recorded(scenario: &str, protocol: &str) -> (Run, RunPage) {
    let registry = Registry::standard();
    let scenario = registry.read_scenario("a scenario of the test", scenario, &[]);
    let scenario = scenario.unwrap_or_else(|bad| panic!("{bad}"));
    let plan = Plan::draw(&scenario, 1);
    let run = registry.record(&scenario, protocol, &plan);
    let run = run.expect("it runs");
    let plan = run.kept.plan.clone().expect("it was recorded");
    let page = model::run_page(&scenario, &plan, &run, Vec::new(), usize::MAX);
    (run, page)
}

fn both() -> [(Run, RunPage); 2] {
    [recorded(HALF_SEEN, "saga"), recorded(HOSTILE, "2pc")]
}

/// How often each kind of line occurs in the trace.
fn count(run: &Run, wanted: impl Fn(&TraceKind) -> bool) -> usize {
    let trace = run.kept.trace.as_deref().expect("it was recorded");
    trace.iter().filter(|event| wanted(&event.what)).count()
}

fn is_delivery(what: &TraceKind) -> bool {
    matches!(what, TraceKind::Delivered { .. })
}

type Clock = BTreeMap<String, u64>;

/// What ShiViz demands: a host's own component counts its events from 1, without a gap, and no clock goes back. What makes it
/// useful: the clock of an arrival has seen all that the clock of the sending had.
#[test]
fn vector_clocks_count_the_events_of_each_host_and_follow_messages() {
    for (run, page) in both() {
        let text = export::shiviz(&page);
        let mut lines = text.lines();
        let parser = lines.next().expect("the first line is the parser");
        assert!(parser.contains("(?<host>") && parser.contains("(?<clock>"));
        assert_eq!(lines.next(), Some(""), "there is one execution");
        let lines: Vec<&str> = lines.collect();
        let (mut latest, mut events) = (BTreeMap::<&str, Clock>::new(), 0);
        // Sendings that nothing has arrived from, by label, sender and receiver.
        let mut sent: BTreeMap<(&str, &str, &str), Vec<Clock>> = BTreeMap::new();
        let mut arrivals = 0;
        for pair in lines.chunks(2) {
            let [head, what] = pair else {
                panic!("two lines an event: {pair:?}");
            };
            let mut parts = head.splitn(3, ' ');
            let (_, host) = (parts.next(), parts.next().expect("a host"));
            let clock: Clock = serde_json::from_str(parts.next().expect("a clock")).expect("JSON");
            let before = latest.insert(host, clock.clone()).unwrap_or_default();
            let own = before.get(host).copied().unwrap_or(0);
            assert_eq!(clock[host], own + 1, "{host}: {what}");
            assert!(before.iter().all(|(other, time)| clock[other] >= *time));
            events += 1;
            let words: Vec<&str> = what.split([' ', ':']).collect();
            match words[..] {
                ["sent", label, "to", to, ..] => {
                    sent.entry((label, host, to)).or_default().push(clock);
                }
                ["received", label, "from", from, ..] => {
                    arrivals += 1;
                    let candidates = &sent[&(label, from, host)];
                    let covers =
                        |theirs: &Clock| theirs.iter().all(|(other, time)| clock[other] >= *time);
                    assert!(candidates.iter().any(covers), "{head}\n{what}");
                }
                _ => {}
            }
        }
        let lost = count(&run, |what| matches!(what, TraceKind::Dropped { .. }));
        assert_eq!(events + lost, count(&run, |_| true));
        assert!(arrivals > 100 && arrivals == count(&run, is_delivery));
    }
}

#[test]
fn a_trace_for_perfetto_closes_what_it_opens_and_names_every_process() {
    for (run, page) in both() {
        let trace: Value = serde_json::from_str(&export::perfetto(&page)).expect("JSON");
        let events = trace["traceEvents"].as_array().expect("events");
        let number = |event: &Value, field: &str| event[field].as_u64().expect("a number");
        let named: BTreeSet<u64> = { events.iter() }
            .filter(|event| event["name"] == "process_name")
            .map(|event| number(event, "pid"))
            .collect();
        assert_eq!(named.len(), page.machines.len() + 2);
        let mut open: BTreeMap<u64, f64> = BTreeMap::new();
        let (mut spans, mut arrows) = (BTreeMap::<&str, usize>::new(), 0);
        let mut started: BTreeMap<u64, f64> = BTreeMap::new();
        for event in events {
            assert!(named.contains(&number(event, "pid")), "{event}");
            let at = event["ts"].as_f64().unwrap_or(0.0);
            assert!(at >= 0.0, "{event}");
            match event["ph"].as_str().expect("a phase") {
                "b" => {
                    let category = event["cat"].as_str().expect("a category");
                    *spans.entry(category).or_default() += 1;
                    assert_eq!(open.insert(number(event, "id"), at), None);
                }
                "e" => {
                    let begun = open.remove(&number(event, "id"));
                    assert!(begun.is_some_and(|begun| begun <= at), "{event}");
                }
                "s" => drop(started.insert(number(event, "id"), at)),
                "f" => {
                    let begun = started.remove(&number(event, "id"));
                    assert!(begun.is_some_and(|begun| begun <= at), "{event}");
                    arrows += 1;
                }
                "X" => assert!(event["dur"].as_f64().is_some_and(|dur| dur >= 0.0)),
                "M" | "i" => {}
                other => panic!("{other} is not written"),
            }
        }
        assert!(open.is_empty() && started.is_empty());
        assert_eq!(arrows, count(&run, is_delivery));
        assert_eq!(spans["transaction"] as u64, run.verdict.counts.invoked);
        let shards_lock = run.protocol == "2pc";
        assert_eq!(
            spans.get("lock").is_some_and(|spans| *spans > 10),
            shards_lock
        );
    }
}

#[test]
fn tables_have_a_line_for_each_transaction_and_event_and_read_back() {
    for (run, page) in both() {
        let text = export::transactions(&page);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let head = reader.headers().expect("a head").clone();
        let column = |name: &str| {
            let at = head.iter().position(|column| column == name);
            at.unwrap_or_else(|| panic!("no column {name}"))
        };
        let rows: Vec<_> = reader.records().map(|row| row.expect("a row")).collect();
        assert_eq!(rows.len(), page.transactions.len());
        let committed = { rows.iter() }.filter(|row| &row[column("outcome")] == "committed");
        assert_eq!(committed.count() as u64, run.verdict.counts.committed);
        for row in &rows {
            let time = |name: &str| row[column(name)].parse::<f64>().ok();
            if let (Some(from), Some(to)) = (time("invoked_ms"), time("returned_ms")) {
                assert!(0.0 <= from && from <= to, "{row:?}");
            }
        }
        let text = export::events(&page);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let rows: Vec<_> = reader.records().map(|row| row.expect("a row")).collect();
        let lines = |row: &csv::StringRecord| row[0].parse::<usize>().expect("a line");
        let lines: Vec<usize> = rows.iter().map(lines).collect();
        assert_eq!(lines, (0..count(&run, |_| true)).collect::<Vec<_>>());
    }
}

#[test]
fn the_first_lines_of_each_export_are_as_they_were() {
    let (_, page) = recorded(HALF_SEEN, "saga");
    let first = |text: String| text.lines().take(14).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!("shiviz", first(export::shiviz(&page)));
    insta::assert_snapshot!("transactions", first(export::transactions(&page)));
    insta::assert_snapshot!("events", first(export::events(&page)));
}
