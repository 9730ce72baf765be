//! The numbers that the literature predicts, reproduced by the shipped scenarios.

use std::fmt::Write as _;

use crate::scenarios::shipped;
use ordain::campaign::compare::{Line, compare};
use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::scenario::Scenario;
use ordain::sim::trace::{TraceEvent, TraceKind};

fn line(scenario: &Scenario, protocol: &str, seeds: u64) -> Line {
    let seeds: Vec<u64> = (1..=seeds).collect();
    let compared = compare(
        &Registry::standard(),
        scenario,
        &[protocol.to_owned()],
        &seeds,
        |_| {},
    )
    .expect("it runs");
    compared
        .protocols
        .into_iter()
        .next()
        .expect("one protocol was asked for")
}

fn broken(line: &Line, property: &str) -> f64 {
    let found = line
        .properties
        .iter()
        .find(|found| found.name == property)
        .expect(property);
    found.broken as f64
}

/// Two standard deviations of a binomial share.
fn two_sigma(p: f64, n: f64) -> f64 {
    2.0 * (p * (1.0 - p) / n).sqrt()
}

#[test]
fn one_node_in_three_failing_2_percent_leaves_2_percent_of_transfers_half_applied() {
    let line = line(&shipped("naive-partial", &[]), "naive", 10_000);
    let share = broken(&line, "atomicity") / 10_000.0;
    assert!((share - 0.02).abs() <= two_sigma(0.02, 10_000.0), "{share}");
    // The missing write is missing money: in every such run, and in no other.
    assert_eq!(broken(&line, "invariant"), broken(&line, "atomicity"));
}

#[test]
fn aborts_are_told_by_reason_and_each_is_counted_once() {
    let line = line(&shipped("crossfire", &[]), "2pc", 10);
    let sum: u64 = line.aborts.values().map(|aborted| aborted.count).sum();
    assert_eq!(sum, line.counts.aborted);
    let under = |under: &ordain::verdict::Aborted| under.under_faults <= under.count;
    assert!(line.aborts.values().all(under));
    assert!(line.aborts.len() > 1, "{:?}", line.aborts);
    let struck: u64 = { line.aborts.values() }
        .map(|aborted| aborted.under_faults)
        .sum();
    assert!(struck > 0, "crossfire has faults all the time");
}

#[test]
fn failure_rates_of_1_1_and_2_percent_leave_3_95_percent_of_transfers_failing_nearly_all_half_applied()
 {
    let rates = [("fault.0.probability", "1%"), ("fault.1.probability", "1%")];
    let line = line(&shipped("naive-partial", &rates), "naive", 10_000);
    let any_failure = 1.0 - 0.99 * 0.99 * 0.98;
    let share = broken(&line, "durability") / 10_000.0;
    assert!(
        (share - any_failure).abs() <= two_sigma(any_failure, 10_000.0),
        "{share}"
    );
    let partial = broken(&line, "atomicity") / broken(&line, "durability");
    assert!(
        partial > 0.99,
        "all three fail together in 2 of a million runs: {partial}"
    );
}

#[test]
fn about_14_000_payments_queue_behind_one_in_doubt_for_90_seconds() {
    let line = line(&shipped("locked-merchant", &[]), "2pc", 1);
    // Arrivals in 90 s are Poisson with mean 14,004 and standard deviation 118; a few more arrive while the
    // stand-by recovers and the queue begins to drain.
    let queued = line.open_max as f64;
    assert!((queued - 14_004.0).abs() <= 3.0 * 118.4, "{queued}");
    assert!(
        (line.outage_max_s - 90.0).abs() < 1.0,
        "{}",
        line.outage_max_s
    );
    assert_eq!(line.violations, 0);
}

#[test]
fn seats_held_in_vain_follow_littles_law_and_none_is_lost_or_sold_twice() {
    let line = line(&shipped("seat-booking", &[]), "saga", 1);
    // 800 attempts a second, 4 % of which hold a seat for about 0.2 s until it is released.
    let expected = 800.0 * 0.04 * 0.2;
    let held = line.held_in_vain_mean;
    assert!(
        (held / expected - 1.0).abs() <= 0.15,
        "{held} against {expected}"
    );
    let invariant = line
        .properties
        .iter()
        .find(|found| found.name == "invariant")
        .expect("judged");
    assert_eq!((invariant.held, invariant.broken), (1, 0));
    assert_eq!(line.violations, 0);
}

#[test]
fn five_other_seeds_tell_the_same_story_about_settlement() {
    let scenario = shipped("settlement", &[]);
    let seeds = 5;
    let calvin = line(&scenario, "calvin", seeds);
    assert_eq!(calvin.kept, seeds);
    assert_eq!(
        (
            calvin.counts.aborted,
            calvin.counts.indeterminate,
            calvin.counts.blocked
        ),
        (0, 0, 0)
    );
    let two_phase = line(&scenario, "2pc", seeds);
    assert_eq!(two_phase.kept, seeds, "blocking is what it promises");
    assert!(
        two_phase.blocked_txn_s / seeds as f64 > 100.0,
        "{}",
        two_phase.blocked_txn_s
    );
    assert!(two_phase.in_doubt_txn_s > 0.0);
    let saga = line(&scenario, "saga", seeds);
    assert_eq!(
        saga.kept, seeds,
        "it promises nothing about what readers see"
    );
    assert_eq!(broken(&saga, "no-intermediate-states"), seeds as f64);
    assert_eq!(broken(&saga, "atomicity"), 0.0);
    let naive = line(&scenario, "naive", seeds);
    assert_eq!(broken(&naive, "atomicity"), seeds as f64);
}

/// The delay of every message between machines, in milliseconds. Flushes cost next to nothing beside it.
const DELAY_MS: u64 = 10;

/// One transfer over `participants` shards without faults, in one region with a front machine for each of seven acceptors.
fn one_transfer(participants: usize, protocol: &str, options: &str) -> Vec<TraceEvent> {
    let mut text = format!(
        "name = \"one\"\nsummary = \"One transfer\"\n\
         [phases]\nsafety = \"2s\"\nsettle = \"5s\"\npower-cycle = \"0s\"\n\
         [[region]]\nname = \"here\"\ncloud = \"a\"\nzones = 7\n\
         [network]\nwithin-zone = \"{DELAY_MS}ms\"\nbetween-zones = \"{DELAY_MS}ms\"\njitter = \"0%\"\n\
         [machines]\nflush = \"10us\"\nflush-jitter = \"0us\"\n\
         [workload]\nkind = \"transfer\"\ntransactions = 1\nrate = 10.0\nlegs = {participants}\n\
         [protocol.{protocol}]\n{options}\n"
    );
    for table in 0..participants {
        writeln!(
            text,
            "[[table]]\nname = \"t{table}\"\nengine = \"postgres\"\nrows = 10\ninitial = 1000\nhomes = [\"here\"]"
        )
        .expect("memory takes every write");
    }
    let scenario = Registry::standard()
        .read_scenario("one", &text, &[])
        .unwrap_or_else(|bad| panic!("{bad}"));
    let plan = Plan::draw(&scenario, 1);
    let run = Registry::standard()
        .run(&scenario, protocol, &plan, true)
        .expect("it runs");
    assert_eq!(run.verdict.counts.committed, 1);
    run.kept.trace.expect("it was asked for")
}

/// What the commit phase of one transaction costs.
#[derive(PartialEq, Eq, Debug)]
struct Cost {
    /// Messages between machines.
    messages: usize,
    /// Message delays from the initiator's vote until every participant knows the decision.
    delays: u64,
    /// Flushes from the first forced vote to the decision.
    forced: usize,
}

fn commit_cost(trace: &[TraceEvent]) -> Cost {
    let (mut messages, mut other, mut forced) = (0, Vec::new(), 0);
    let (mut initiated, mut decided) = (false, false);
    let (mut voted_ns, mut resolved_ns) = (None, 0);
    for event in trace {
        match &event.what {
            TraceKind::Sent {
                from, to, label, ..
            } if from.node != to.node => match label.as_ref() {
                "begin-commit" | "prepare" | "prepared" | "accepted" | "pre-commit"
                | "pre-committed" | "commit" => messages += 1,
                "request" | "lock" | "locked" | "ack" | "end" | "reply" => {}
                label => other.push(label.to_owned()),
            },
            TraceKind::Observed { name, .. } => {
                initiated |= name == "initiated";
                decided |= name == "decided";
                match name.as_ref() {
                    "voted" => voted_ns = voted_ns.or(Some(event.at_ns)),
                    "resolved" => resolved_ns = event.at_ns,
                    _ => {}
                }
            }
            // The decision is observed in the step that its own flush leads to.
            TraceKind::Flushed { ok: true, .. } if initiated && !decided => forced += 1,
            _ => {}
        }
    }
    assert!(decided);
    assert_eq!(other, Vec::<String>::new());
    let took_ns = resolved_ns - voted_ns.expect("somebody voted");
    let delay_ns = DELAY_MS * 1_000_000;
    Cost {
        messages,
        delays: (took_ns + delay_ns / 2) / delay_ns,
        forced,
    }
}

/// Gray and Lamport, "Consensus on Transaction Commit", TODS 31(1), 2006, section 2.2: 3N - 1 messages, 3N - 3 with the
/// coordinator on a participant's machine, and N + 1 stable writes up to the decision.
#[test]
fn the_trace_of_a_failure_free_commit_has_3n_minus_1_messages_and_n_plus_1_forced_writes() {
    for n in 2..=8 {
        let forced = n + 1;
        let cost = |coordinator| {
            let options = format!("coordinator = \"{coordinator}\"");
            commit_cost(&one_transfer(n, "2pc", &options))
        };
        let expected = |messages, delays| Cost {
            messages,
            delays,
            forced,
        };
        assert_eq!(cost("separate"), expected(3 * n - 1, 4), "N = {n}");
        assert_eq!(cost("co-located"), expected(3 * n - 3, 3), "N = {n}");
    }
}

/// Skeen 1981, figure 3, in Gray and Lamport's convention: two-phase commit's 3N - 1 messages and four delays, and an exchange
/// with every participant more. Each forces its vote and its PreCommit before the decision; the coordinator forces nothing.
#[test]
fn three_phase_commit_has_an_exchange_and_a_forced_write_of_each_participant_more() {
    for n in 2..=8 {
        let forced = 2 * n;
        let cost = |coordinator| {
            let options = format!("coordinator = \"{coordinator}\"");
            commit_cost(&one_transfer(n, "3pc", &options))
        };
        let expected = |messages, delays| Cost {
            messages,
            delays,
            forced,
        };
        assert_eq!(cost("separate"), expected(5 * n - 1, 6), "N = {n}");
        assert_eq!(cost("co-located"), expected(5 * n - 5, 5), "N = {n}");
    }
}

/// Gray and Lamport 2006, section 4.3 and table 1, with their conventions: F + 1 of the 2F + 1 acceptors are used, the leader
/// hosts one of them, the first vote travels with its `begin-commit`, and acknowledgements are not counted.
#[test]
fn paxos_commit_costs_what_gray_and_lamport_count() {
    for f in 0..=3 {
        for n in 2..=8 {
            let forced = n + f + 1;
            let cost = |acceptors, faster| {
                let options =
                    format!("tolerated = {f}\nacceptors = \"{acceptors}\"\nfaster = {faster}");
                commit_cost(&one_transfer(n, "paxos-commit", &options))
            };
            let expected = |messages, delays| Cost {
                messages,
                delays,
                forced,
            };
            let at = format!("N = {n}, F = {f}");
            // With one acceptor, which is the leader's, nothing has to travel between the two.
            let plain_delays = if f == 0 { 4 } else { 5 };
            let plain = expected((n + 1) * (f + 3) - 4, plain_delays);
            assert_eq!(cost("separate", false), plain, "{at}");
            let faster = expected(n * (2 * f + 3) - 1, 4);
            assert_eq!(cost("separate", true), faster, "{at}");
            if n > 2 * f {
                let plain = expected(n * (f + 3) - 3, plain_delays - 1);
                assert_eq!(cost("co-located", false), plain, "{at}");
                let faster = expected((n - 1) * (2 * f + 3), 3);
                assert_eq!(cost("co-located", true), faster, "{at}");
            }
        }
    }
}

/// The same plan: an initiator's coordinator dies for ever after the votes.
#[test]
fn paxos_commit_and_three_phase_commit_go_on_where_two_phase_commit_blocks_behind_a_dead_coordinator()
 {
    let scenario = shipped("coordinator-dead", &[]);
    let seeds = 5;
    let two_phase = line(&scenario, "2pc", seeds);
    assert_eq!(two_phase.kept, seeds, "blocking is what it promises");
    let three_phase = line(&scenario, "3pc", seeds);
    assert_eq!(three_phase.kept, seeds, "{:?}", three_phase.properties);
    assert_eq!(three_phase.counts.indeterminate, 0);
    assert!(two_phase.blocked_txn_s > 10.0 * three_phase.blocked_txn_s);
    assert!(three_phase.counts.committed > 2 * two_phase.counts.committed);
    let paxos = line(&scenario, "paxos-commit", seeds);
    assert_eq!(paxos.kept, seeds, "{:?}", paxos.properties);
    assert_eq!(paxos.counts.indeterminate, 0);
    assert!(
        two_phase.blocked_txn_s > 100.0 * paxos.blocked_txn_s,
        "{} against {}",
        two_phase.blocked_txn_s,
        paxos.blocked_txn_s
    );
    assert!(paxos.counts.committed > 2 * two_phase.counts.committed);
}
