//! Every rare branch that a protocol declares is reached by some run of a small campaign.

use std::collections::BTreeSet;

use ordain::campaign::swarm;
use ordain::registry::Registry;
use ordain::scenario::Scenario;
use rayon::prelude::*;

/// Runs of each variant, at most.
const SEEDS: u64 = 240;

fn scenario(name: &str, overrides: &[(&str, &str)]) -> Scenario {
    let path = format!("scenarios/{name}.toml");
    let text = std::fs::read_to_string(&path).expect("shipped");
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let overrides: Vec<_> = overrides.iter().map(own).collect();
    Registry::standard()
        .read_scenario(&path, &text, &overrides)
        .unwrap_or_else(|bad| panic!("{bad}"))
}

/// Runs the variants seed by seed until every mark that the protocol declares was reached.
fn assert_all_reached(protocol: &str, variants: &[Scenario]) {
    assert_all_reached_but(protocol, variants, &[]);
}

/// The same without some marks that others reach: runs of Calvin over the same log, or staged runs.
fn assert_all_reached_but(protocol: &str, variants: &[Scenario], elsewhere: &[&str]) {
    let mut missing: BTreeSet<&str> = { Registry::standard().marks(protocol).into_iter() }
        .map(|(name, _)| name)
        .collect();
    assert!(!missing.is_empty());
    missing.retain(|mark| !elsewhere.contains(mark));
    for first in (0..SEEDS).step_by(16) {
        let jobs: Vec<(&Scenario, u64)> = variants
            .iter()
            .flat_map(|scenario| (first..first + 16).map(move |seed| (scenario, seed)))
            .collect();
        let reached: Vec<Vec<&str>> = jobs
            .par_iter()
            .map(|(scenario, seed)| {
                let plan = swarm::draw(scenario, *seed);
                let run = Registry::standard()
                    .run(scenario, protocol, &plan, false)
                    .expect("it can be deployed");
                run.marks.into_keys().collect()
            })
            .collect();
        missing.retain(|mark| !reached.iter().any(|marks| marks.contains(mark)));
        if missing.is_empty() {
            return;
        }
    }
    panic!("{protocol}: no run of {SEEDS} seeds reached {missing:?}");
}

#[test]
fn every_mark_of_two_phase_commit_is_reached() {
    let cooperative = ("protocol.2pc.cooperative-termination", "true");
    let hasty = ("protocol.2pc.vote-timeout-ms", "500");
    let silent = ("protocol.2pc.announce-restarts", "false");
    let impatient = [
        ("protocol.2pc.heuristic", "\"commit\""),
        ("protocol.2pc.heuristic-after-ms", "1000"),
    ];
    let variants = [
        scenario("storm", &impatient),
        scenario("storm", &[cooperative]),
        scenario("storm", &[hasty]),
        scenario("storm", &[silent]),
    ];
    assert_all_reached("2pc", &variants);
}

#[test]
fn every_mark_of_paxos_commit_is_reached() {
    // Dependent trades ask twice: an unannounced restart in between changes the grant.
    let silent = ("protocol.paxos-commit.announce-restarts", "false");
    let variants = [scenario("storm", &[]), scenario("crossfire", &[silent])];
    assert_all_reached("paxos-commit", &variants);
}

#[test]
fn every_mark_of_three_phase_commit_is_reached() {
    let alone = ("protocol.3pc.termination", "\"own-timeout\"");
    let hasty = ("protocol.3pc.vote-timeout-ms", "500");
    let short = ("protocol.3pc.silence-ms", "600");
    let silent = ("protocol.3pc.announce-restarts", "false");
    let variants = [
        scenario("crash-storm", &[]),
        scenario("crash-storm", &[hasty, silent]),
        scenario("storm", &[short]),
        scenario("crossfire", &[silent, short]),
        scenario("storm", &[alone, short]),
    ];
    // A split takes a cut in a moment of some milliseconds: staged in tests/three_phase.rs and in a transcript.
    assert_all_reached_but("3pc", &variants, &["3pc.split"]);
}

#[test]
fn every_mark_of_sagas_is_reached() {
    let locks = ("protocol.saga.semantic-locks", "wait");
    let small = ("workload.transactions", "100");
    let variants = [
        scenario("storm", &[]),
        scenario("storm", &[locks]),
        scenario("seat-booking", &[small, ("phases.safety", "5s")]),
    ];
    assert_all_reached("saga", &variants);
}

#[test]
fn every_mark_of_calvin_is_reached() {
    let forgetful = [
        ("protocol.calvin.checkpoint-every", "4"),
        ("protocol.calvin.log-retained", "4"),
        ("protocol.calvin.replies-kept", "1"),
    ];
    let groups = [
        forgetful[0],
        ("protocol.calvin.sequencers", "group-per-region"),
    ];
    let paxos = ("protocol.calvin.log.algorithm", "multi-paxos");
    let variants = [
        scenario("storm", &[]),
        scenario("storm", &forgetful),
        scenario("storm", &groups),
        scenario("churn", &[paxos]),
    ];
    assert_all_reached("calvin", &variants);
}

#[test]
fn every_mark_of_percolator_is_reached() {
    let hasty = [
        ("protocol.percolator.lock-ttl-ms", "500"),
        ("protocol.percolator.gc-life-ms", "1000"),
    ];
    let variants = [
        scenario("storm", &[]),
        scenario("storm", &hasty),
        scenario("crossfire", &hasty[1..]),
    ];
    assert_all_reached("percolator", &variants);
}

#[test]
fn every_mark_of_xa_is_reached() {
    let alone = |way| {
        [
            ("protocol.xa.heuristic-ms", "300"),
            ("protocol.xa.heuristic", way),
            ("protocol.xa.purge-ms", "1000"),
        ]
    };
    let hasty = [("protocol.xa.transaction-timeout-ms", "500")];
    let variants = [
        scenario("storm", &alone("\"commit\"")),
        scenario("storm", &alone("\"rollback\"")),
        scenario("storm", &hasty),
        scenario("crossfire", &[]),
    ];
    assert_all_reached("xa", &variants);
}

#[test]
fn every_mark_of_ramp_is_reached() {
    let hasty = [
        ("protocol.ramp.termination-ms", "500"),
        ("protocol.ramp.gc-life-ms", "1000"),
    ];
    let variants = [
        scenario("storm", &[]),
        scenario("storm", &hasty),
        scenario("crossfire", &hasty),
    ];
    assert_all_reached("ramp", &variants);
}

#[test]
fn every_mark_of_the_monolith_is_reached() {
    // What fails and is torn elsewhere strikes the one machine if it is called like the machine that is struck.
    let there = [("protocol.monolith.checkpoint-kib", "1")];
    let variants = [scenario("storm", &[]), scenario("crossfire", &there)];
    assert_all_reached("monolith", &variants);
}

#[test]
fn every_mark_of_spanner_is_reached() {
    let short = [
        ("protocol.spanner.log-entries", "4"),
        ("protocol.spanner.log.election-ms", "[150, 300]"),
        ("protocol.spanner.log.heartbeat-ms", "40"),
        ("protocol.spanner.inquire-ms", "200"),
    ];
    let paxos = [
        short[0],
        short[1],
        short[2],
        short[3],
        ("protocol.spanner.log.algorithm", "multi-paxos"),
    ];
    let variants = [
        scenario("bounded-clocks", &[]),
        scenario("bounded-clocks", &short),
        scenario("bounded-clocks", &paxos),
    ];
    assert_all_reached_but("spanner", &variants, &["log.snapshot-in-election"]);
}

#[test]
fn every_mark_of_commit_everywhere_is_reached() {
    assert_all_reached("naive", &[scenario("storm", &[])]);
}
