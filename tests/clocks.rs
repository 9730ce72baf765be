//! Clocks with a declared bound: the interval that a process is told holds true time in every run, but for planned lies;
//! and what the run says about lies is what processes saw.

use std::any::Any;
use std::collections::BTreeSet;

use ordain::base::monitor::{Monitor, Violation};
use ordain::base::observation::Observed;
use ordain::base::process::{Addr, Delay, Effects, Input, Interval, NodeId, Process, WallTime};
use ordain::campaign::swarm::draw;
use ordain::plan::Plan;
use ordain::plan::clocks::{Lie, lies};
use ordain::protocol::Deployment;
use ordain::registry::Registry;
use ordain::scenario::Scenario;
use ordain::sim;
use proptest::prelude::*;

const TICK_NS: u64 = 2_000_000;

/// Looks at its clock again and again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Watch {
    bound_ns: u64,
    last: Option<Interval>,
}

impl Process for Watch {
    type Message = u64;
    type Timer = ();

    fn step(&mut self, now: WallTime, _: Input<u64, ()>, out: &mut Effects<u64, ()>) {
        self.last = Some(Interval::around(now, self.bound_ns));
        out.set_timer((), Delay::exactly(TICK_NS));
    }
}

/// The machines whose interval did not hold true time at some step.
#[derive(Default)]
struct TrueTime {
    looks: u64,
    misled: BTreeSet<NodeId>,
}

impl Monitor<Watch> for TrueTime {
    fn observe(&mut self, _: &Observed) -> Result<(), Violation> {
        Ok(())
    }

    fn watches_steps(&self) -> bool {
        true
    }

    fn after_step(&mut self, at_ns: u64, by: Addr, process: &Watch) -> Result<(), Violation> {
        let interval = process.last.expect("it has just looked");
        let now = WallTime(WallTime::START.0 + at_ns);
        self.looks += 1;
        if interval.is_after(now) || interval.is_before(now) {
            self.misled.insert(by.node);
        }
        Ok(())
    }
}

fn scenario(more: &str) -> Scenario {
    let text = format!(
        r#"name = "clocks"
summary = "Clocks that step and drift within a bound"
protocols = ["naive"]

[phases]
safety = "2s"
settle = "100ms"
power-cycle = "100ms"

[[region]]
name = "here"
cloud = "aurora"

[[region]]
name = "there"
cloud = "aurora"
clock-offset = "-3ms"

[network]
between-regions = "10ms"

[machines]
clock-bound = "10ms"
clock-drift-ppm = 50

[[table]]
name = "accounts"
engine = "postgres"
rows = 10
homes = ["here"]

[workload]
kind = "transfer"
transactions = 1
rate = 5.0

[[fault]]
kind = "clock-step"
nodes = ["there"]
by = "-2ms"
at = ["100ms", "1900ms"]

[[fault]]
kind = "clock-drift"
nodes = ["here"]
ppm = 900
at = ["0s", "1s"]
for = ["10ms", "1s"]

[swarm]
probability = "60%"
{more}
"#
    );
    Registry::standard()
        .read_scenario("clocks.toml", &text, &[])
        .unwrap_or_else(|bad| panic!("{bad}"))
}

/// What the run says about lies, and what processes saw.
fn run(scenario: &Scenario, plan: &Plan) -> (Vec<Lie>, TrueTime) {
    let bound_ns = scenario.clocks.bound_ns.expect("it is declared");
    let watch = Watch {
        bound_ns,
        last: None,
    };
    let machines = plan.environment.machines.len();
    let deployment = Deployment {
        processes: vec![vec![watch]; machines],
    };
    let mut record = sim::simulate(sim::Run {
        faults: &plan.faults,
        monitors: vec![Box::new(TrueTime::default())],
        ..sim::Run::new(&plan.environment, deployment, plan.seed)
    })
    .expect("machines and processes fit");
    let end_ns = record.marks.ended_ns;
    let told = lies(
        &plan.environment,
        &plan.faults,
        &record.struck,
        bound_ns,
        end_ns,
    );
    let monitor: Box<dyn Any> = record.monitors.remove(0);
    (told, *monitor.downcast::<TrueTime>().expect("ours"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn true_time_is_within_the_interval_unless_a_lie_is_planned(seed in any::<u64>()) {
        let honest = scenario("classes = [\"clock-step\", \"clock-drift\", \"crash\", \"pause\"]");
        let plan = draw(&honest, seed);
        let (told, seen) = run(&honest, &plan);
        prop_assert!(seen.looks > 1_000);
        prop_assert_eq!(told, vec![]);
        prop_assert_eq!(seen.misled.len(), 0);
    }
}

/// Of the runs with a liar, at least nine in ten show true time outside of the interval, at the machines that the run names.
#[test]
fn a_planned_lie_takes_true_time_out_of_the_interval() {
    let lying = scenario("classes = [\"clock-step\", \"clock-drift\", \"clock-liar\"]");
    let (mut planned, mut shown) = (0, 0);
    for seed in 0..120 {
        let plan = draw(&lying, seed);
        let (told, seen) = run(&lying, &plan);
        let named: BTreeSet<NodeId> = told.iter().map(|lie| lie.node).collect();
        assert!(seen.misled.is_subset(&named), "seed {seed}: {told:?}");
        let mut without = lying.clone();
        without
            .swarm
            .classes
            .retain(|class| class.name() != "clock-liar");
        let is_planned = draw(&without, seed) != plan;
        assert!(is_planned || named.is_empty(), "seed {seed}: {told:?}");
        if is_planned {
            planned += 1;
            shown += u64::from(seen.misled == named && !named.is_empty());
        }
    }
    assert!(planned >= 40, "{planned} of 120 plans lie");
    assert!(shown * 10 >= planned * 9, "{shown} of {planned} lies show");
}
