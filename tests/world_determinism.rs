//! The same inputs give the same run, wherever and whenever it runs, drawn or replayed.

use std::any::Any;
use std::collections::BTreeSet;

use crate::support::*;
use ordain::base::monitor::{Monitor, Violation};
use ordain::base::observation::{Observation, Observed};
use ordain::base::process::{Addr, Delay};
use ordain::fault::{CrashLoss, Fault, FaultKind, Latency, When};
use ordain::plan::Environment;
use ordain::plan::fates::{FateSource, LinkFates, MessageFate};
use ordain::sim::trace::first_difference;
use ordain::sim::{Options, Record, Run, RunError, simulate};

/// Four machines that talk to one another over imperfect links, with everything random turned on.
fn stormy() -> (Environment, Vec<Fault>, Vec<Role>) {
    let mut environment = world(4);
    let link = &mut environment.link_classes[0];
    link.latency = Latency {
        base_ns: 2 * MS,
        jitter_ns: MS,
    };
    (link.loss_ppm, link.duplicate_ppm, link.reorder_ppm) = (20_000, 20_000, 20_000);
    for machine in &mut environment.machines {
        machine.handle_ns = 20_000;
        machine.flush.jitter_ns = MS;
        machine.clock_drift_ppm = 40;
    }
    let crash = FaultKind::Crash {
        nodes: nodes(&[3]),
        loss: CrashLoss::Torn(20_000),
    };
    let fail = FaultKind::FailFlush {
        nodes: nodes(&[3]),
        probability_ppm: 300_000,
        kept_ppm: 500_000,
    };
    let drift = FaultKind::ClockDrift {
        nodes: nodes(&[0]),
        by_ppm: 5_000,
    };
    let faults = vec![
        fault(300, 100, crash),
        fault(500, 200, fail),
        fault(100, 700, drift),
    ];
    let ticker = |to| Role::Ticker {
        to: addr(to),
        every: Delay::between(2 * MS, 5 * MS),
    };
    let roles = vec![
        ticker(1),
        Role::Echo,
        ticker(1),
        Role::Writer { every_ns: 3 * MS },
    ];
    (environment, faults, roles)
}

fn storm(source: FateSource, faults: &[Fault], record_fates: bool) -> Record<Actor> {
    let (environment, _, roles) = stormy();
    let mut run = Run::new(&environment, actors(&roles), 0);
    run.faults = faults;
    run.fates = source;
    run.options = Options {
        trace: true,
        record_fates,
        ..Options::default()
    };
    simulate(run).expect("the inputs fit")
}

#[test]
fn a_run_is_the_same_on_two_threads_and_another_seed_gives_another() {
    let digests = |seed: u64| {
        let run = move || storm(FateSource::Seed(seed), &stormy().1, false).digest;
        let (first, second) = (std::thread::spawn(run), std::thread::spawn(run));
        (first.join().unwrap(), second.join().unwrap())
    };
    let (first, second) = digests(1);
    assert_eq!(first, second);
    assert_ne!(first, digests(2).0);
}

#[test]
fn the_digest_of_a_known_run_never_changes() {
    // A literal on purpose: it holds debug and release builds, machines and versions together. A change
    // here means that recorded runs no longer replay, and GENERATOR or PLAN_VERSION must say so.
    let record = storm(FateSource::Seed(1), &stormy().1, false);
    assert_eq!((record.events, record.digest.to_string().as_str()), KNOWN);
}

const KNOWN: (u64, &str) = (5318, "4e269814e4bd7b4479c16447881e4208");

#[test]
fn keeping_trace_and_fates_does_not_change_a_run() {
    let (environment, faults, roles) = stormy();
    let mut run = Run::new(&environment, actors(&roles), 1);
    run.faults = &faults;
    let bare = simulate(run).unwrap();
    assert_eq!(
        bare.digest,
        storm(FateSource::Seed(1), &faults, true).digest
    );
    assert!(bare.trace.is_none() && bare.fates.is_none());
}

#[test]
fn recorded_fates_replay_the_run_without_drawing() {
    let faults = stormy().1;
    let first = storm(FateSource::Seed(7), &faults, true);
    let fates = first.fates.unwrap();
    let json = serde_json::to_string(&fates).unwrap();
    let fates = serde_json::from_str(&json).unwrap();
    let again = storm(FateSource::Recorded(fates), &faults, true);
    assert_eq!(
        first_difference(&first.trace.unwrap(), &again.trace.unwrap()),
        None
    );
    assert_eq!(first.digest, again.digest);
}

#[test]
fn a_changed_fate_is_found_as_the_first_difference() {
    let faults = stormy().1;
    let first = storm(FateSource::Seed(7), &faults, true);
    let mut fates = first.fates.unwrap();
    fates.links[0].messages[5] = MessageFate::new(true, false, 0, None);
    let again = storm(FateSource::Recorded(fates), &faults, false);
    let found = first_difference(&first.trace.unwrap(), &again.trace.unwrap()).unwrap();
    assert!(
        found.line > 5 && found.recorded != found.replayed,
        "{found:?}"
    );
}

#[test]
fn a_record_that_ends_early_goes_on_calmly() {
    let faults = stormy().1;
    let mut fates = storm(FateSource::Seed(7), &faults, true).fates.unwrap();
    for LinkFates { messages, .. } in &mut fates.links {
        messages.clear();
    }
    let calm = storm(FateSource::Recorded(fates), &faults, true);
    assert!(
        calm.messages
            .values()
            .all(|counts| counts.dropped == 0 && counts.duplicated == 0)
    );
    let drawn = calm.fates.unwrap().links;
    assert!(
        drawn
            .iter()
            .all(|link| link.messages.iter().all(|fate| *fate == MessageFate::CALM))
    );
}

#[test]
fn removing_a_fault_leaves_the_fates_on_other_links_unchanged() {
    let faults = stormy().1;
    let cut = FaultKind::Cut {
        from: nodes(&[0]),
        to: nodes(&[1]),
        both_ways: false,
    };
    let more: Vec<Fault> = faults
        .iter()
        .cloned()
        .chain([fault(200, 300, cut)])
        .collect();
    let with = storm(FateSource::Seed(3), &more, true).fates.unwrap().links;
    let without = storm(FateSource::Seed(3), &faults, true)
        .fates
        .unwrap()
        .links;
    assert!(with.len() >= 4);
    for link in &with {
        let other = without
            .iter()
            .find(|other| (other.from, other.to) == (link.from, link.to))
            .unwrap();
        let common = link.messages.len().min(other.messages.len());
        assert!(common > 0 && link.messages[..common] == other.messages[..common]);
    }
}

/// Says that all is settled after so many marks, and finds fault with one of them.
struct Counter {
    marks: u64,
    enough: u64,
    unwanted: Option<u64>,
    steps: u64,
}

impl Monitor<Actor> for Counter {
    fn observe(&mut self, observed: &Observed) -> Result<(), Violation> {
        if let Observation::Mark("asked") = observed.what {
            self.marks += 1;
        }
        if self.unwanted == Some(self.marks) {
            let explanation = format!("mark {}", self.marks);
            return Err(Violation {
                at_ns: observed.at_ns,
                by: observed.by,
                property: "unwanted",
                explanation,
            });
        }
        Ok(())
    }

    fn watches_steps(&self) -> bool {
        true
    }

    fn after_step(
        &mut self,
        _: u64,
        _: ordain::base::process::Addr,
        _: &Actor,
    ) -> Result<(), Violation> {
        self.steps += 1;
        Ok(())
    }

    fn settled(&self) -> bool {
        self.marks >= self.enough
    }
}

fn watched(enough: u64, unwanted: Option<u64>, stop_on_violation: bool) -> Record<Actor> {
    let environment = world(2);
    let mut run = watch(&environment, &[ticker(), Role::Echo], enough, unwanted);
    run.options.stop_on_violation = stop_on_violation;
    simulate(run).unwrap()
}

fn watch<'a>(
    environment: &'a Environment,
    roles: &[Role],
    enough: u64,
    unwanted: Option<u64>,
) -> Run<'a, Actor> {
    let mut run = Run::new(environment, actors(roles), 1);
    run.monitors.push(Box::new(Counter {
        marks: 0,
        enough,
        unwanted,
        steps: 0,
    }));
    run
}

#[test]
fn a_run_ends_once_a_monitor_says_that_all_is_settled_but_never_in_the_safety_phase() {
    assert_eq!(watched(10, None, true).simulated_ns, SECOND);
    let record = watched(120, None, true);
    assert_eq!(record.simulated_ns, 1_201 * MS);
    assert!(record.marks.settled);
    let record = watched(1_000, None, true);
    assert_eq!(
        (record.simulated_ns, record.marks.settled),
        (2 * SECOND, false)
    );
}

/// Waits, at the end of a run, until so many processes are there.
struct Present {
    wanted: usize,
    seen: BTreeSet<Addr>,
}

impl Monitor<Actor> for Present {
    fn observe(&mut self, _: &Observed) -> Result<(), Violation> {
        Ok(())
    }

    fn look(&mut self, of: Addr, _: &Actor) {
        self.seen.insert(of);
    }

    fn may_end(&mut self) -> bool {
        std::mem::take(&mut self.seen).len() >= self.wanted
    }
}

#[test]
fn a_run_waits_at_its_end_while_a_monitor_misses_a_machine_and_no_longer_than_its_bound() {
    let ended = |power_cycle_ns, fragile, enough, wanted| {
        let to_fragile = Role::Ticker {
            to: addr(3),
            every: Delay::exactly(10 * MS),
        };
        let environment = Environment {
            power_cycle_ns,
            settle_ns: 500 * MS,
            ..world(4)
        };
        let roles = [ticker(), Role::Echo, to_fragile, Role::Fragile(fragile)];
        let mut run = watch(&environment, &roles, enough, None);
        let seen = BTreeSet::new();
        run.monitors.push(Box::new(Present { wanted, seen }));
        let record = simulate(run).unwrap();
        let settled_ns = record.marks.settle_ended_ns.unwrap();
        (settled_ns, record.simulated_ns - settled_ns)
    };
    // Machine 3 is down from 1,051 ms to 1,101 ms. It is looked for every 100 ms.
    assert_eq!(ended(0, 105, 104, 4), (1_041 * MS, 0));
    assert_eq!(ended(0, 105, 106, 3), (1_061 * MS, 0));
    assert_eq!(ended(0, 105, 106, 4), (1_061 * MS, 100 * MS));
    // After a power cut all are back at once; and nobody waits for what never comes beyond ten settle phases.
    assert_eq!(ended(50 * MS, 105, 106, 4), (1_061 * MS, 50 * MS));
    assert_eq!(ended(50 * MS, 105, 106, 5), (1_061 * MS, 5_050 * MS));
}

#[test]
fn what_stays_broken_is_repaired_before_the_disks_are_read() {
    let broken = |kind| Fault {
        when: When::At(500 * MS),
        for_ns: None,
        permanent: true,
        kind,
    };
    let down = FaultKind::Crash {
        nodes: nodes(&[1]),
        loss: CrashLoss::Lost,
    };
    let still = FaultKind::Pause { nodes: nodes(&[1]) };
    for kind in [down, still] {
        let environment = Environment {
            power_cycle_ns: 50 * MS,
            ..world(2)
        };
        let faults = [broken(kind)];
        let mut run = Run::new(&environment, actors(&[ticker(), Role::Echo]), 1);
        run.faults = &faults;
        let record = simulate(run).unwrap();
        let settled_ns = record.marks.settle_ended_ns.unwrap();
        let asked = { record.observations.iter() }
            .filter(|seen| seen.by == addr(1) && seen.at_ns > settled_ns);
        assert!(record.processes.iter().any(|(at, _)| *at == addr(1)));
        assert!(asked.count() > 0, "it is on the network again");
    }
}

#[test]
fn a_violation_stops_the_run_or_marks_it_and_monitors_come_back() {
    let record = watched(1_000, Some(5), true);
    assert_eq!(
        (record.violations.len(), record.violations[0].at_ns),
        (1, 51 * MS)
    );
    assert_eq!(record.simulated_ns, 51 * MS);
    let record = watched(1_000, Some(5), false);
    assert_eq!(
        (record.violations.len(), record.simulated_ns),
        (1, 2 * SECOND)
    );
    let monitor: Box<dyn Any> = record.monitors.into_iter().next().unwrap();
    let monitor = monitor.downcast::<Counter>().unwrap();
    assert_eq!(monitor.marks, 199);
    assert_eq!(monitor.steps, 2 + 3 * 199, "boots, timers, asks, answers");
}

#[test]
fn contradictory_inputs_are_errors() {
    let environment = world(2);
    let attempt = |environment: &Environment, roles: &[Role], faults: &[Fault]| {
        let mut run = Run::new(environment, actors(roles), 1);
        run.faults = faults;
        simulate(run).err()
    };
    let three = [ticker(), Role::Echo, Role::Idle];
    assert_eq!(
        attempt(&environment, &three, &[]),
        Some(RunError::Deployment {
            nodes: 3,
            machines: 2
        })
    );
    let unknown = fault(1, 1, FaultKind::Pause { nodes: nodes(&[9]) });
    let found = attempt(&environment, &[Role::Idle], &[unknown]);
    assert!(matches!(
        found,
        Some(RunError::UnknownMachine {
            fault: 0,
            machines: 2,
            ..
        })
    ));
    let still = FaultKind::Flap {
        from: nodes(&[0]),
        to: nodes(&[1]),
        down_ns: 0,
        up_ns: 0,
    };
    assert_eq!(
        attempt(&environment, &[Role::Idle], &[fault(1, 1, still)]),
        Some(RunError::Flap { fault: 0 })
    );
    let mut torn = world(2);
    torn.links[1].pop();
    assert!(matches!(
        attempt(&torn, &[Role::Idle], &[]),
        Some(RunError::Links { .. })
    ));
}

#[test]
fn a_run_that_never_lets_time_pass_ends_after_its_events() {
    let environment = world(1);
    let mut deployment = actors(&[Role::Ticker {
        to: addr(0),
        every: Delay::exactly(0),
    }]);
    deployment.processes[0].push(Actor::new(Role::Idle));
    let mut run = Run::new(&environment, deployment, 1);
    run.options.events_max = 1_000;
    let record = simulate(run).unwrap();
    assert_eq!((record.events, record.simulated_ns), (1_000, 0));
}
