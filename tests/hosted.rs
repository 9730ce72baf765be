//! The protocol code that the simulator runs, under every schedule of small worlds: one transaction over two shards, one
//! machine for each shard, one for the coordinator, one for the client.
//!
//! Atomicity is read off the shards' ledgers, from outside; ends and promises come from what processes observe. A mutant
//! whose disk lies (flushes complete without making anything durable) has to be caught.

use ordain::base::process::{Addr, Effect, Effects, Input, Process, WallTime};
use ordain::model::checker::leads_to::Report;
use ordain::model::worlds::stack::{Seen, ask, ends, leaves_doubt, safety};
use ordain::model::worlds::world::{Action, Budget, Host, World};
use ordain::model::worlds::{DATA, FRONT, NONE, SINGLE_FAULTS, layout, transfer};
use ordain::protocol::kit::client::ClientTimer;
use ordain::protocol::saga::{self, Saga};
use ordain::protocol::two_phase::{self, TwoPhase};
use ordain::protocol::{Autopsy, Protocol};
use ordain::shard::ShardState;
use ordain::shard::recovery::Recovery;

/// A process on a disk that says "flushed" at once, and keeps nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct OnDisk<P> {
    process: P,
    lies: bool,
}

impl<P: Process> Process for OnDisk<P> {
    type Message = P::Message;
    type Timer = P::Timer;

    fn step(
        &mut self,
        now: WallTime,
        input: Input<P::Message, P::Timer>,
        out: &mut Effects<P::Message, P::Timer>,
    ) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Effects::default();
            self.process.step(now, input, &mut effects);
            for effect in effects.drain() {
                match effect {
                    Effect::Flush(flush) if self.lies => inputs.insert(0, Input::Flushed(flush)),
                    other => out.push(other),
                }
            }
        }
    }
}

impl<P: Autopsy> Autopsy for OnDisk<P> {
    fn autopsy(&self) -> Option<ShardState> {
        self.process.autopsy()
    }

    fn recovery(&self) -> Recovery {
        self.process.recovery()
    }
}

type Hosted<P> = Host<OnDisk<P>, Seen>;
type Checked<P> = Report<World<OnDisk<P>, Seen>, Action<<P as Process>::Timer>>;

fn host<Pr: Protocol>(
    options: &Pr::Options,
    lies: bool,
    budget: Budget,
    timers: impl Fn(Addr, &<Pr::Process as Process>::Timer) -> Option<u8> + Send + Sync + 'static,
) -> Hosted<Pr::Process> {
    let deployment = Pr::deploy(&layout(), options, &[transfer(0)]).expect("a small deployment");
    let on_disk = |process| OnDisk { process, lies };
    let processes = deployment
        .processes
        .into_iter()
        .map(|node| node.into_iter().map(on_disk).collect());
    Host::new(processes.collect(), budget, Seen::default(), Seen::note)
        .expose([FRONT, DATA[0], DATA[1]])
        .limit_timers(timers)
}

/// More states than any of these worlds has.
const LIMIT: u32 = 400_000;

fn check<P: Autopsy>(host: &Hosted<P>, restarts: bool) -> Checked<P> {
    let checker = host.fair(restarts, LIMIT).expect("small");
    ask(checker, &safety(), vec![ends(), leaves_doubt()])
        .check()
        .expect("small")
}

/// Everything but the two liveness properties.
fn is_safe<P: Process>(report: &Checked<P>) -> bool {
    report
        .verdicts
        .iter()
        .all(|verdict| verdict.holds || verdict.kind.is_liveness())
}

fn holds<P: Process>(report: &Checked<P>, name: &str) -> bool {
    report.verdict(name).expect("it was asked").holds
}

/// The steps of a counterexample, for a message.
fn steps<'r, P: Process>(report: &'r Checked<P>, name: &str) -> Vec<&'r str> {
    let found = report
        .verdict(name)
        .and_then(|verdict| verdict.counterexample.as_ref());
    found.map(|found| found.names()).unwrap_or_default()
}

fn commit(lies: bool, budget: Budget) -> Hosted<two_phase::Node> {
    host::<TwoPhase>(
        &two_phase::Options::default(),
        lies,
        budget,
        |_, timer| match timer {
            // The client counts its requests. A participant's own count, of lock requests, stops by itself.
            two_phase::Timer::Client(ClientTimer::Resend(_)) => Some(2),
            _ => None,
        },
    )
}

fn orchestrate(lies: bool, budget: Budget) -> Hosted<saga::Node> {
    host::<Saga>(
        &saga::Options::default(),
        lies,
        budget,
        |_, timer| match timer {
            saga::Timer::Client(ClientTimer::Resend(_)) => Some(2),
            _ => None,
        },
    )
}

#[test]
fn two_phase_commit_is_atomic_and_ends_under_any_one_fault_if_machines_come_back() {
    for budget in SINGLE_FAULTS {
        let report = check(&commit(false, budget), true);
        assert!(
            is_safe::<two_phase::Node>(&report),
            "{budget:?}: {:?}",
            report.verdicts
        );
        for name in ["ends", "leaves doubt"] {
            assert!(
                holds::<two_phase::Node>(&report, name),
                "{budget:?}: {:?}",
                steps::<two_phase::Node>(&report, name)
            );
        }
    }
}

#[test]
fn two_phase_commit_blocks_in_doubt_if_the_manager_may_stay_down() {
    let crash = Budget { crashes: 1, ..NONE };
    let report = check(&commit(false, crash).expose([FRONT]), false);
    assert!(
        is_safe::<two_phase::Node>(&report),
        "blocked, and still atomic"
    );
    assert!(!holds::<two_phase::Node>(&report, "leaves doubt"));
    let lasso = steps::<two_phase::Node>(&report, "leaves doubt");
    assert!(
        lasso.iter().any(|step| step.starts_with("crash n0")),
        "{lasso:?}"
    );
    assert!(holds::<two_phase::Node>(
        &check(&commit(false, crash).expose([FRONT]), true),
        "leaves doubt"
    ));
}

#[test]
fn two_phase_commit_on_a_lying_disk_is_caught() {
    // A participant's own assertion finds it: a commit arrives for a vote that the crash took away.
    let crash = Budget { crashes: 1, ..NONE };
    let caught = std::panic::catch_unwind(|| check(&commit(true, crash), true));
    let panic = caught.expect_err("an assertion of the participant's");
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    assert_eq!(text, Some("T1 commits without a vote"));
}

#[test]
fn a_saga_ends_whole_if_messages_and_flushes_fail() {
    for budget in [
        NONE,
        Budget { losses: 1, ..NONE },
        Budget {
            failed_flushes: 1,
            ..NONE
        },
    ] {
        let report = check(&orchestrate(false, budget), true);
        assert!(
            is_safe::<saga::Node>(&report),
            "{budget:?}: {:?}",
            report.verdicts
        );
        assert!(
            holds::<saga::Node>(&report, "ends"),
            "{budget:?}: {:?}",
            steps::<saga::Node>(&report, "ends")
        );
    }
}

#[test]
fn a_saga_on_a_lying_disk_is_caught() {
    let report = check(&orchestrate(true, Budget { crashes: 1, ..NONE }), true);
    assert!(!holds::<saga::Node>(
        &report,
        "what was acknowledged stands"
    ));
}
