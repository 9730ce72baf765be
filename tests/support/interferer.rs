//! The real process behind something that interferes with its inputs and effects, in small worlds and simulated runs.
#![allow(dead_code, reason = "every test file uses its part")]

use ordain::registry::Registry;
use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};

use ordain::base::process::{Effect, Effects, Input, Process, WallTime};
use ordain::model::refine::{self, Abstraction, Checked, Online, Shows, Tally};
use ordain::model::worlds::calvin::timer_limit;
use ordain::model::worlds::world::{Budget, Host};
use ordain::model::worlds::{DATA, FRONT, layout, transfer};
use ordain::plan::PlannedOperation;
use ordain::protocol::Protocol;
use ordain::protocol::calvin::{self, Calvin};
use ordain::sim;

/// More states than any of these worlds has.
pub const LIMIT: u32 = 1_000_000;

/// What interferes: it sees the node, the input and the effects, and says what is done instead.
pub type Meddler<N> = fn(&N, EffectsOf<N>) -> EffectsOf<N>;
pub type EffectOf<N> = Effect<<N as Process>::Message, <N as Process>::Timer>;
pub type EffectsOf<N> = Vec<EffectOf<N>>;
pub type Inspector<N> =
    fn(&N, Input<<N as Process>::Message, <N as Process>::Timer>) -> Option<InputOf<N>>;
pub type InputOf<N> = Input<<N as Process>::Message, <N as Process>::Timer>;

/// The two kinds of interference: inputs are replaced before the node sees them, `None` swallows one; effects after.
pub struct Meddling<N: Process> {
    inputs: Inspector<N>,
    effects: Meddler<N>,
}

impl<N: Process> Clone for Meddling<N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N: Process> Copy for Meddling<N> {}

/// A process that is interfered with, in a world where all are in the same way.
#[derive(Clone)]
pub struct Meddled<N: Process> {
    node: N,
    meddling: Meddling<N>,
}

impl<N: Process> PartialEq for Meddled<N> {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

impl<N: Process> Eq for Meddled<N> {}

impl<N: Process> Hash for Meddled<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.node.hash(state);
    }
}

impl<N: Process> Debug for Meddled<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt(f)
    }
}

impl<N: Process> Process for Meddled<N> {
    type Message = N::Message;
    type Timer = N::Timer;

    fn step(&mut self, now: WallTime, input: InputOf<N>, out: &mut Effects<N::Message, N::Timer>) {
        let Some(input) = (self.meddling.inputs)(&self.node, input) else {
            return;
        };
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut done = Effects::default();
            self.node.step(now, input, &mut done);
            let meant: Vec<_> = done.drain().collect();
            for effect in (self.meddling.effects)(&self.node, meant) {
                match effect {
                    // A flush that was replaced by its owner's number backwards: see `unflushed`.
                    Effect::Flush(flush) if flush.owner == SKIPPED => {
                        let flush = ordain::base::process::FlushId { owner: 0, ..flush };
                        inputs.insert(0, Input::Flushed(flush));
                    }
                    effect => out.push(effect),
                }
            }
        }
    }
}

impl<N: Process> Shows<N> for Meddled<N> {
    fn shown(&self) -> &N {
        &self.node
    }
}

/// Marks a flush that never happens and is said to have succeeded.
const SKIPPED: u8 = 255;

/// The flush "succeeds" at once, and nothing is durable.
pub fn unflushed<M, T>(effects: Vec<Effect<M, T>>) -> Vec<Effect<M, T>> {
    let skip = |effect| match effect {
        Effect::Flush(flush) => Effect::Flush(ordain::base::process::FlushId {
            owner: SKIPPED,
            ..flush
        }),
        effect => effect,
    };
    effects.into_iter().map(skip).collect()
}

pub fn honest<N: Process>(_: &N, effects: EffectsOf<N>) -> EffectsOf<N> {
    effects
}

pub fn all<N: Process>(_: &N, input: InputOf<N>) -> Option<InputOf<N>> {
    Some(input)
}

/// Processes that are interfered with, by node.
pub fn meddled<N: Process>(
    processes: Vec<Vec<N>>,
    inputs: Inspector<N>,
    effects: Meddler<N>,
) -> Vec<Vec<Meddled<N>>> {
    let meddling = Meddling { inputs, effects };
    let meddled = |node| Meddled { node, meddling };
    let nodes = processes.into_iter();
    nodes
        .map(|node| node.into_iter().map(meddled).collect())
        .collect()
}

pub fn world<Pr: Protocol, A: Abstraction<Meddled<Pr::Process>>>(
    options: &Pr::Options,
    start: A,
    operations: &[PlannedOperation],
    budget: Budget,
    inputs: Inspector<Pr::Process>,
    effects: Meddler<Pr::Process>,
) -> Host<Meddled<Pr::Process>, A> {
    let deployment = Pr::deploy(&layout(), options, operations).expect("a small deployment");
    let processes = meddled(deployment.processes, inputs, effects);
    let host = Host::new(processes, budget, start, |_, _, _| {}).expose([FRONT, DATA[0], DATA[1]]);
    refine::shadow(host)
}

/// Calvin with one transaction; faults reach the sequencer alone, which is elected twice.
pub fn sequencer<A: Abstraction<Meddled<calvin::Node>>>(
    start: A,
    budget: Budget,
    inputs: Inspector<calvin::Node>,
    effects: Meddler<calvin::Node>,
) -> Checked {
    let (options, operations) = (calvin::Options::default(), [transfer(0)]);
    let host = world::<Calvin, A>(&options, start, &operations, budget, inputs, effects)
        .expose([FRONT])
        .limit_timers(|_, timer| timer_limit(timer, 2));
    refine::check_edges(&host, LIMIT).expect("small")
}

pub fn assert_refines(checked: &Checked, tally: &mut Tally, context: &str) {
    if let Some((steps, refusal)) = &checked.broken {
        panic!("{context}: {}: {refusal}", steps.join(", "));
    }
    assert!(checked.tally.moves > 0 && checked.tally.stutters > 0);
    add_actions(tally, &checked.tally);
}

/// Some step leaves the spec, which allows another one in its place.
pub fn assert_refused(name: &str, checked: Checked) {
    let (steps, refusal) = checked.broken.expect(name);
    assert!(!steps.is_empty() && refusal.nearest.is_some(), "{name}");
}

fn add_actions(sum: &mut Tally, tally: &Tally) {
    for (action, count) in &tally.actions {
        *sum.actions.entry(action).or_default() += count;
    }
}

/// These actions of the spec have to be taken somewhere: otherwise nothing would be known about them.
pub fn assert_taken(tally: &Tally, actions: &[&str]) {
    let missing: Vec<_> = { actions.iter() }
        .filter(|action| !tally.actions.contains_key(**action))
        .collect();
    assert!(missing.is_empty(), "never taken: {missing:?}");
}

const STORM: &str = include_str!("../../scenarios/storm.toml");

/// A simulated storm over a protocol, perhaps interfered with: how it fared and what it broke.
pub fn simulated<Pr: Protocol, A: Abstraction<Meddled<Pr::Process>>>(
    seed: u64,
    start: A,
    inputs: Inspector<Pr::Process>,
    effects: Meddler<Pr::Process>,
) -> (Tally, Vec<String>) {
    simulated_with::<Pr, A>(&Pr::Options::default(), seed, start, inputs, effects)
}

/// The same with these options.
pub fn simulated_with<Pr: Protocol, A: Abstraction<Meddled<Pr::Process>>>(
    options: &Pr::Options,
    seed: u64,
    start: A,
    inputs: Inspector<Pr::Process>,
    effects: Meddler<Pr::Process>,
) -> (Tally, Vec<String>) {
    let scenario = Registry::standard()
        .read_scenario("storm.toml", STORM, &[])
        .expect("a good scenario");
    let plan = ordain::plan::Plan::draw(&scenario, seed);
    let deployment = Pr::deploy(&scenario.layout, options, &plan.operations).expect("it fits");
    let deployment = ordain::protocol::Deployment {
        processes: meddled(deployment.processes, inputs, effects),
    };
    let (online, tally) = Online::new(start);
    let mut run = sim::Run::new(&plan.environment, deployment, seed);
    run.faults = &plan.faults;
    run.monitors = vec![Box::new(online)];
    let record = sim::simulate(run).expect("it runs");
    let broken = record.violations.into_iter().map(|v| v.explanation);
    let tally = tally.lock().unwrap().clone();
    (tally, broken.collect())
}

/// Whether interference breaks the refinement in some of so many storms.
pub fn breaks_with<Pr: Protocol, A: Abstraction<Meddled<Pr::Process>>>(
    options: &Pr::Options,
    storms: u64,
    start: impl Fn() -> A,
    inputs: Inspector<Pr::Process>,
    effects: Meddler<Pr::Process>,
) -> bool {
    let broken = |seed| simulated_with::<Pr, A>(options, seed, start(), inputs, effects).1;
    (0..storms).any(|seed| !broken(seed).is_empty())
}

/// Runs of unchanged code through so many storms refine their spec, and take these of its actions.
pub fn assert_storms_refine<Pr: Protocol, A: Abstraction<Meddled<Pr::Process>>>(
    storms: u64,
    start: impl Fn() -> A,
    actions: &[&str],
) {
    assert_storms_refine_with::<Pr, A>(&Pr::Options::default(), storms, start, actions);
}

/// The same with these options.
pub fn assert_storms_refine_with<Pr: Protocol, A: Abstraction<Meddled<Pr::Process>>>(
    options: &Pr::Options,
    storms: u64,
    start: impl Fn() -> A,
    actions: &[&str],
) {
    let mut taken = Tally::default();
    for seed in 0..storms {
        let (tally, broken) = simulated_with::<Pr, A>(options, seed, start(), all, honest);
        assert!(tally.moves > 0 && broken.is_empty(), "{seed}: {broken:#?}");
        add_actions(&mut taken, &tally);
    }
    assert_taken(&taken, actions);
}
