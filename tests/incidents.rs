//! Public incidents as scenarios (`scenarios/incidents/`): on one plan each, the harm is there without the remedy, and gone
//! with it.

use ordain::plan::Plan;
use ordain::registry::Registry;
use ordain::run::Run;
use ordain::verdict::{Conclusion, Finding};

use crate::scenarios::shipped;

fn play(name: &str, protocol: &str, overrides: &[(&str, &str)]) -> Run {
    let scenario = shipped(name, overrides);
    let plan = Plan::draw(&scenario, 1);
    Registry::standard()
        .run(&scenario, protocol, &plan, false)
        .expect("it can be deployed")
}

/// How often a property broke.
fn broken(run: &Run, property: &str) -> u64 {
    let mut properties = run.verdict.properties.iter();
    let property = properties
        .find(|known| known.name == property)
        .expect("it is judged");
    match property.outcome {
        Finding::Broken => property.instances,
        _ => 0,
    }
}

#[test]
fn cloudflare_2020_a_log_that_may_be_led_from_the_middle_goes_on() {
    let raft = play("cloudflare-2020", "calvin", &[]);
    let paxos = [("protocol.calvin.log.algorithm", "multi-paxos")];
    let paxos = play("cloudflare-2020", "calvin", &paxos);
    assert!(
        raft.verdict.counts.committed < 300,
        "{:?}",
        raft.verdict.counts
    );
    assert_eq!(paxos.verdict.counts.committed, 600);
    assert_eq!(paxos.verdict.verdict, Conclusion::Kept);
}

#[test]
fn github_2018_one_order_for_both_coasts_leaves_no_transfer_half_applied() {
    let naive = play("github-2018", "naive", &[]);
    assert!(
        broken(&naive, "atomicity") > 100,
        "{:?}",
        naive.verdict.properties
    );
    let calvin = play("github-2018", "calvin", &[]);
    assert_eq!(broken(&calvin, "atomicity"), 0);
    assert_eq!(calvin.verdict.verdict, Conclusion::Kept);
    assert_eq!(calvin.verdict.counts.committed, 900);
}

#[test]
fn fsyncgate_2018_a_vote_that_cannot_be_forced_is_a_no() {
    let naive = play("fsyncgate-2018", "naive", &[]);
    assert!(
        broken(&naive, "durability") > 10,
        "{:?}",
        naive.verdict.properties
    );
    let two_phase = play("fsyncgate-2018", "2pc", &[]);
    assert!(
        two_phase.marks["journal.flush-failed"] > 10,
        "{:?}",
        two_phase.marks
    );
    assert_eq!(two_phase.verdict.verdict, Conclusion::Kept);
}

#[test]
fn orphaned_prepared_transactions_hold_their_locks_until_somebody_decides() {
    let orphaned = play("orphaned-prepared", "2pc", &[]);
    assert_eq!(
        orphaned.verdict.verdict,
        Conclusion::Kept,
        "it is promised to block"
    );
    let decided = [
        ("protocol.2pc.heuristic", "abort"),
        ("protocol.2pc.heuristic-after-ms", "2000"),
    ];
    let decided = play("orphaned-prepared", "2pc", &decided);
    let outage_s = [&orphaned, &decided].map(|run| run.verdict.metrics.outage_max_s);
    assert!(outage_s[0] > 50.0 && outage_s[1] < 10.0, "{outage_s:?}");
}

#[test]
fn metastable_retries_patience_lets_the_queue_drain() {
    let recovered = |overrides: &[(&str, &str)]| {
        let run = play("metastable-retries", "saga", overrides);
        let recovery = run.verdict.metrics.recovery.expect("it is measured");
        recovery.after_s.is_some()
    };
    assert!(!recovered(&[]));
    let patient = [
        ("protocol.saga.client-resend-ms", "60000"),
        ("protocol.saga.resend-ms", "60000"),
    ];
    assert!(recovered(&patient));
}

#[test]
fn strasbourg_2021_copies_elsewhere_answer_everybody_outside() {
    let [two_phase, calvin] = ["2pc", "calvin"].map(|name| play("strasbourg-2021", name, &[]));
    assert_eq!(calvin.verdict.verdict, Conclusion::Kept);
    let committed = [&two_phase, &calvin].map(|run| run.verdict.counts.committed);
    assert!(committed[1] > committed[0] + 100, "{committed:?}");
}
