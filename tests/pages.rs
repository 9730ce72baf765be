//! Pages and explanations: what they say, that they ask for nothing, and that nothing in them runs that a scenario names.
//! `tests/browser/run` uses the pages in a browser.

use ordain::base::txn::TxnId;
use ordain::campaign::compare;
use ordain::campaign::explain::{Case, Explained, Limits, Thing, explain, fate_of};
use ordain::plan::Plan;
use ordain::plan::fates::Fates;
use ordain::registry::Registry;
use ordain::report::page::comparison::{self, Life};
use ordain::report::page::model::{self, RunPage, Told};
use ordain::report::page::{self, explain as told_why, names};
use ordain::run::Run;
use ordain::run::failure::Class;
use ordain::run::trace::{DropReason, TraceKind};
use ordain::scenario::Scenario;

const HALF_SEEN: &str = include_str!("browser/half-seen.toml");
const HOSTILE: &str = include_str!("browser/hostile.toml");

fn scenario(text: &str) -> Scenario {
    let read = Registry::standard().read_scenario("a scenario of the test", text, &[]);
    read.unwrap_or_else(|bad| panic!("{bad}"))
}

/// A recorded run, with the plan as it happened.
fn recorded(scenario: &Scenario, protocol: &str, seed: u64) -> (Plan, Run) {
    let plan = Plan::draw(scenario, seed);
    let run = Registry::standard().record(scenario, protocol, &plan);
    let run = run.expect("it runs");
    (run.kept.plan.clone().expect("it was recorded"), run)
}

fn page_of(scenario: &Scenario, plan: &Plan, run: &Run, events_max: usize) -> RunPage {
    model::run_page(
        scenario,
        plan,
        run,
        vec!["ordain run".to_owned()],
        events_max,
    )
}

/// The part of a page that people read first, as text.
fn first_screen(page: &RunPage) -> String {
    let mut lines = vec![format!("{} {:?}", page.verdict, page.class)];
    lines.extend(page.remarks.iter().cloned());
    lines.extend(page.story.iter().map(|sentence| sentence.text()));
    for promise in &page.promises {
        lines.push(format!(
            "{} | {} | {} | {} | {}",
            promise.name, promise.promised, promise.observed, promise.status, promise.exercised
        ));
    }
    lines.join("\n")
}

#[test]
fn the_first_screen_tells_what_broke_with_names_and_times() {
    let scenario = scenario(HALF_SEEN);
    let (plan, run) = recorded(&scenario, "saga", 1);
    let page = page_of(&scenario, &plan, &run, model::EVENTS_MAX);
    insta::assert_snapshot!("half_seen", first_screen(&page));
}

#[test]
fn a_page_shows_all_events_of_a_short_run_each_once() {
    let scenario = scenario(HALF_SEEN);
    let (plan, run) = recorded(&scenario, "saga", 1);
    let page = page_of(&scenario, &plan, &run, model::EVENTS_MAX);
    let trace = run.kept.trace.as_deref().expect("it was recorded");
    let mut lines: Vec<usize> = page.points.iter().map(|point| point.3).collect();
    for message in &page.messages {
        lines.push(message.5);
        lines.extend(message.7.iter().map(|(line, _)| *line));
        lines.extend(message.8.map(|(line, _, _)| line));
    }
    lines.sort_unstable();
    assert_eq!(lines, (0..trace.len()).collect::<Vec<_>>());
    assert_eq!(page.shown.left_out, "");
    let committed = page
        .transactions
        .iter()
        .filter(|txn| txn.outcome == "committed");
    assert_eq!(committed.count() as u64, run.verdict.counts.committed);
}

#[test]
fn a_long_run_is_shown_around_its_failure_and_says_what_is_left_out() {
    let scenario = scenario(HALF_SEEN);
    let (plan, run) = recorded(&scenario, "saga", 1);
    let lines = run.kept.trace.as_ref().expect("it was recorded").len();
    let page = page_of(&scenario, &plan, &run, 500);
    let shown = &page.shown;
    assert_eq!((shown.lines, shown.to - shown.from), (lines, 500));
    assert!(
        shown
            .left_out
            .contains(&format!("{} of {lines} events are left out", lines - 500))
    );
    let line = page.focus.line.expect("a failure has a place");
    assert!((shown.from..shown.to).contains(&line), "{line} {shown:?}");
    assert!(page.messages.len() + page.points.len() <= 500);
}

#[test]
fn a_hostile_scenario_stays_data() {
    let scenario = scenario(HOSTILE);
    let (plan, run) = recorded(&scenario, "2pc", 1);
    let page = page_of(&scenario, &plan, &run, model::EVENTS_MAX);
    let html = page::run(&page, "</pre><script>alert(2)</script>{{data}}");
    assert_eq!(
        html.matches("<script").count(),
        2,
        "the data and the page's own script"
    );
    assert_eq!(html.matches("</script").count(), 2);
    assert!(!html.contains("alert(1)</"), "the summary is data");
    assert!(html.contains("&lt;/pre&gt;&lt;script&gt;alert(2)"));
    assert_eq!(
        html.matches("id=\"data\"").count(),
        1,
        "a hole in a text is no hole"
    );
}

#[test]
fn a_page_names_no_place_on_any_network() {
    let scenario = scenario(HALF_SEEN);
    let (plan, run) = recorded(&scenario, "saga", 1);
    let html = page::run(&page_of(&scenario, &plan, &run, 100), "");
    let namespace = "http://www.w3.org/2000/svg";
    for scheme in ["http:", "https:", "//cdn", "@import", "url("] {
        let found = html.matches(scheme).count();
        let allowed = namespace.matches(scheme).count() + usize::from(scheme == "url(");
        assert!(found <= allowed, "{scheme}: {found}");
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn ids_become_names_and_what_only_looks_like_one_stays() {
    let scenario = scenario(HALF_SEEN);
    let plan = Plan::draw(&scenario, 1);
    let names = names::Names::new(&plan.environment, &scenario.layout);
    let debug = "Prepare { txn: TxnId(12), keys: [Key { table: TableId(0), row: 3 }], from: Addr { node: NodeId(0), port: 0 }, MyTxnId(4) }";
    assert_eq!(
        names.debug(debug),
        "Prepare { txn: T12, keys: [accounts/3], from: east/front0, MyTxnId(4) }"
    );
    assert_eq!(
        names.sentence("n1:0 saw row 0/7 at s0, not s9, n99 or 0/8; its effects on 0/1, 0/2 stand"),
        "east/accounts0 saw row accounts/7 at accounts0, not s9, n99 or 0/8; its effects on accounts/1, accounts/2 stand"
    );
    assert_eq!(
        names::mentioned("T5 read T4's row, not 5T or xT6"),
        [TxnId(5), TxnId(4)]
    );
    let long = names::bounded(&"ü".repeat(300));
    assert!(
        long.starts_with("üü") && long.ends_with("(60 more characters)"),
        "{long}"
    );
}

/// A run of the half-seen transfer, explained.
fn explained(scenario: &Scenario, plan: &Plan, run: &Run) -> Explained {
    let class: Class = "no-intermediate-states/fractured-read"
        .parse()
        .expect("a class");
    let told = Told::new(scenario, plan, run);
    let suspects = model::suspects(&told);
    let fates = run.kept.fates.clone().expect("they were recorded");
    let case = Case {
        registry: &Registry::standard(),
        scenario,
        protocol: "saga",
        plan,
        fates: &fates,
        run,
        class: &class,
        suspects: &suspects.transactions,
        failed_by: None,
    };
    let limits = Limits {
        redraws: 4,
        instants_max: 5,
        removals_max: 3,
    };
    explain(&case, limits, &mut |_| {}).expect("it runs")
}

#[test]
fn an_explanation_ends_where_nothing_is_drawn_any_more_and_depends_on_no_thread() {
    let scenario = scenario(HALF_SEEN);
    let (plan, run) = recorded(&scenario, "saga", 1);
    let found = explained(&scenario, &plan, &run);
    let last = found.shares.last().expect("instants were looked at");
    assert_eq!(
        (last.failed, last.otherwise),
        (4, 0),
        "after the last event the run is as recorded"
    );
    assert!(found.shares.is_sorted_by_key(|share| share.from_ns));
    assert!(found.at_times, "faults keep their times");
    assert!(found.not_tried > 0, "200 transactions are more than 3");
    let again = again_on_a_thread(&scenario, &plan, &run);
    assert_eq!(found, again);
    let told = Told::new(&scenario, &plan, &run);
    insta::assert_snapshot!(
        "half_seen_why",
        told_why::text(&told_why::why(&told, &found))
    );
}

/// The same on a thread of its own, where the pool of threads is entered from outside.
fn again_on_a_thread(scenario: &Scenario, plan: &Plan, run: &Run) -> Explained {
    std::thread::scope(|scope| {
        let again = scope.spawn(|| explained(scenario, plan, run));
        again.join().expect("it does not panic")
    })
}

#[test]
fn a_message_that_is_taken_away_is_that_message() {
    let scenario = scenario(HALF_SEEN);
    let (plan, run) = recorded(&scenario, "saga", 1);
    let fates = run.kept.fates.clone().expect("they were recorded");
    let events = run.kept.trace.as_deref().expect("it was recorded");
    let mut looked_at = 0;
    for line in (0..events.len()).step_by(events.len() / 12) {
        let next = (line..events.len()).find(|at| fate_of(events, *at).is_some());
        let Some(line) = next else { break };
        let (from, to, position) = fate_of(events, line).expect("it was found");
        let TraceKind::Sent { id, .. } = events[line].what else {
            panic!("only messages have fates of links");
        };
        let mut edited: Fates = fates.clone();
        let link = edited
            .links
            .iter_mut()
            .find(|link| (link.from, link.to) == (from, to));
        let fate = &mut link.expect("the link was used").messages[position];
        if fate.lost() {
            continue;
        }
        *fate = fate.with_loss(true);
        let again = Registry::standard().replay(&scenario, "saga", &plan, &edited);
        let again = again.expect("it runs").kept.trace.expect("it was recorded");
        // Up to the sending nothing has changed, and then the message is lost, or met a cut that it would have met before.
        assert_eq!(again[..=line], events[..=line], "line {line}");
        let lost = again.iter().find_map(|event| match event.what {
            TraceKind::Dropped { id: of, why, .. } if of == id => Some(why),
            _ => None,
        });
        assert!(
            matches!(lost, Some(DropReason::Lost | DropReason::Cut)),
            "line {line}: {lost:?}"
        );
        looked_at += 1;
    }
    assert!(looked_at >= 8, "{looked_at}");
}

#[test]
fn what_a_failure_is_about_is_needed_for_it() {
    let scenario = scenario(HALF_SEEN);
    let (plan, run) = recorded(&scenario, "saga", 1);
    let found = explained(&scenario, &plan, &run);
    let of_faults = found
        .removals
        .iter()
        .filter(|removal| matches!(removal.thing, Thing::Fault(_)));
    let still_fails: Vec<bool> = of_faults.map(|removal| removal.still_fails).collect();
    assert!(!still_fails.is_empty());
    // docs/a-failing-seed.md: the power failure is not the cause.
    assert!(
        still_fails.iter().all(|fails| *fails),
        "{:?}",
        found.removals
    );
}

#[test]
fn a_comparison_says_what_came_out_in_three_sentences() {
    let scenario = scenario(HALF_SEEN);
    let protocols = ["2pc", "saga", "calvin"].map(str::to_owned);
    let compared = compare::compare(
        &Registry::standard(),
        &scenario,
        &protocols,
        &[1, 2],
        |_| {},
    );
    let compared = compared.expect("it runs");
    let lives = protocols.iter().map(|protocol| {
        let (plan, run) = recorded(&scenario, protocol, 1);
        Life::of(&scenario, &plan, &run)
    });
    let page = comparison::page(
        &compared,
        "ordain compare".to_owned(),
        Some((1, lives.collect())),
    );
    assert_eq!(page.story.len(), 3);
    insta::assert_snapshot!("comparison_story", page.story.join("\n"));
    for protocol in &page.protocols {
        let life = protocol.life.as_ref().expect("each has one");
        assert_eq!(
            (life.transactions.len(), life.latencies.len()),
            (200, 100),
            "{}",
            protocol.name
        );
        assert!(life.latencies.is_sorted());
    }
    let html = page::comparison(&page, "as text");
    assert_eq!(html.matches("<script").count(), 2);
}
