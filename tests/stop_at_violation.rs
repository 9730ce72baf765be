//! The checker of isolation that runs along with a simulation: it never stops a protocol that keeps its promise, it stops
//! one that breaks it, and what it stops at the checker of whole histories finds in the part that was run.

use crate::judging::{judge, play};
use crate::scenarios::shipped;
use ordain::base::monitor::Monitor;
use ordain::base::process::Process;
use ordain::plan::Plan;
use ordain::protocol::naive::Naive;
use ordain::protocol::{Isolation, Promise, Protocol};
use ordain::registry::Registry;
use ordain::scenario::Scenario;
use ordain::verdict::along::{Along, PROPERTY};
use ordain::verdict::{Finding, Verdict};

const SEEDS: u64 = 40;

fn storm(workload: &str) -> Scenario {
    shipped("storm", &[("workload.kind", &format!("\"{workload}\""))])
}

fn isolation(verdict: &Verdict) -> Finding {
    let mut properties = verdict.properties.iter();
    let found = properties.find(|property| property.name == PROPERTY);
    found.expect("it is judged").outcome
}

#[test]
fn protocols_that_keep_their_promise_are_never_stopped() {
    for workload in ["list-append", "register"] {
        let scenario = storm(workload);
        for protocol in ["2pc", "calvin"] {
            for seed in 1..=SEEDS / 4 {
                let plan = Plan::draw(&scenario, seed);
                let stopped = Registry::standard().run_until_violation(&scenario, protocol, &plan);
                let stopped = stopped.expect("it promises serializability");
                let whole = Registry::standard()
                    .run(&scenario, protocol, &plan, false)
                    .expect("it runs");
                assert_eq!(
                    isolation(&whole.verdict),
                    Finding::Held,
                    "{protocol} {seed}"
                );
                assert_eq!(stopped.digest, whole.digest, "{workload} {protocol} {seed}");
            }
        }
    }
}

#[test]
fn a_protocol_that_promises_no_serializability_is_refused() {
    let scenario = storm("list-append");
    let plan = Plan::draw(&scenario, 1);
    for protocol in ["saga", "naive"] {
        let refused = Registry::standard().run_until_violation(&scenario, protocol, &plan);
        assert!(refused.unwrap_err().contains("does not promise"));
    }
}

/// Runs the careless protocol, judged as if it promised strict serializability, along or afterwards.
fn careless(scenario: &Scenario, plan: &Plan, along: bool) -> (Verdict, usize) {
    let strict = Isolation::StrictSerializable;
    let monitor = || Along::new(scenario, plan, strict).expect("serializability");
    let monitors = along.then(|| boxed(monitor()));
    let options = Default::default();
    let record = play::<Naive>(scenario, plan, &options, monitors.into_iter().collect());
    let promises = Naive::promises(&options).and(Promise::Isolation(strict));
    let judged = judge(scenario, plan, &record, &promises, &record.observations);
    (judged, record.violations.len())
}

fn boxed<P: Process>(monitor: impl Monitor<P>) -> Box<dyn Monitor<P>> {
    Box::new(monitor)
}

#[test]
fn a_careless_protocol_is_stopped_exactly_when_its_whole_history_is_invalid() {
    let (mut stopped, mut agreed) = (0, 0);
    for workload in ["list-append", "register"] {
        let scenario = storm(workload);
        for seed in 1..=SEEDS {
            let plan = Plan::draw(&scenario, seed);
            let (along, violations) = careless(&scenario, &plan, true);
            let (whole, _) = careless(&scenario, &plan, false);
            assert_eq!(
                isolation(&along),
                isolation(&whole),
                "{workload} {seed}: {whole:#?}"
            );
            if violations == 0 {
                continue;
            }
            stopped += 1;
            // The order of registers' versions comes from the autopsy, which cannot read a machine that is down when
            // the run is stopped; lists need no autopsy.
            let found = &along.properties[0];
            agreed += u64::from(found.observed.starts_with("not strict-serializable"));
            assert!(
                workload == "register" || agreed == stopped,
                "{workload} {seed}: only the online checker objects: {found:?}"
            );
            assert!(along.counts.invoked <= whole.counts.invoked);
        }
    }
    assert!(stopped > SEEDS / 4, "{stopped}");
    assert!(agreed * 10 > stopped * 8, "{agreed} of {stopped}");
}
