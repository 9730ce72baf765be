//! A protocol's stack in a small world: what a monitor sees of it, what is asked, and the checks themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::net::SocketAddr;

use stateright::Model;

use super::world::{Budget, Host, Monitor, World};
use super::{
    BAD_DISK, CRASH, CUT, Code, DATA, DUPLICATE, Examined, LATE, LOSS, NONE, Setting, SmallWorld,
    TXN, layout, transfer,
};
use crate::base::observation::{Observation, Outcome as Reply};
use crate::base::process::{Addr, Process};
use crate::base::txn::ShardId;
use crate::model::checker::leads_to::{FairChecker, Kind, Report};
use crate::model::explorer::{Asked, Explored};
use crate::model::refine::{self, Abstraction, Checked};
use crate::model::spec::{CheckError, Outcome, PropertyOutcome};
use crate::plan::PlannedOperation;
use crate::protocol::{Atomicity, Autopsy, Progress, Protocol};
use crate::shard::ShardState;

/// What a monitor remembers of the transaction, and of no other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Seen {
    /// The protocol took charge.
    pub initiated: bool,
    /// It owes nothing more.
    pub ended: bool,
    /// Decisions.
    pub decided: BTreeSet<bool>,
    /// Decisions as shards learned them.
    pub resolved: BTreeMap<ShardId, bool>,
    /// The client knows that it committed.
    pub told_committed: bool,
    /// Shards that have voted yes, do not know the decision, and have not decided alone.
    pub in_doubt: BTreeSet<ShardId>,
    /// The transaction writes to one shard only.
    pub writes_once: bool,
}

impl Seen {
    /// Takes in an observation.
    pub fn note(&mut self, _: Addr, observation: &Observation) {
        if observation.txn().is_some_and(|txn| txn != TXN) {
            return;
        }
        match observation {
            Observation::Initiated { .. } => self.initiated = true,
            Observation::Ended { .. } => self.ended = true,
            Observation::Voted {
                shard, yes: true, ..
            } => {
                self.in_doubt.insert(*shard);
            }
            Observation::Decided { commit, .. } => {
                self.decided.insert(*commit);
            }
            Observation::DecidedAlone { shard, .. } => {
                self.in_doubt.remove(shard);
            }
            Observation::Resolved { shard, commit, .. } => {
                self.resolved.insert(*shard, *commit);
                self.in_doubt.remove(shard);
            }
            Observation::Returned {
                outcome: Reply::Committed { .. },
                ..
            } => self.told_committed = true,
            _ => {}
        }
    }
}

/// The shards in which the transaction's effect stands, if all machines are up.
pub(super) fn standing<P: Autopsy>(world: &World<P, Seen>) -> Option<BTreeSet<ShardId>> {
    let states: Vec<ShardState> = world
        .processes()
        .flat_map(|(_, process)| process.copies())
        .collect();
    let stands = |state: &ShardState| {
        let mut of_txn = state.ledger.iter().filter(|entry| entry.write.txn == TXN);
        of_txn.next_back().is_some_and(|entry| !entry.write.undo)
    };
    let standing = { states.iter() }.filter(|state| stands(state));
    (states.len() == DATA.len()).then(|| standing.map(|state| state.shard).collect())
}

/// How many shards the transaction writes to.
fn written(seen: &Seen) -> usize {
    if seen.writes_once { 1 } else { DATA.len() }
}

/// What is asked of every state of a world, about the one transaction or the first.
pub fn safety<P: Autopsy>() -> Asked<P, Seen> {
    Asked {
        always: vec![
            ("one decision", |world| world.seen.decided.len() <= 1),
            ("decided alike", |world| {
                let Seen {
                    resolved, decided, ..
                } = &world.seen;
                let alike = |commit: &bool| decided.is_empty() || decided.contains(commit);
                resolved.values().all(alike)
            }),
            ("all or nothing", |world| {
                let whole = |shards: BTreeSet<_>| [0, written(&world.seen)].contains(&shards.len());
                !world.seen.ended || standing(world).is_none_or(whole)
            }),
            ("what was acknowledged stands", |world| {
                let owed = world.seen.told_committed && world.seen.ended;
                let whole = |shards: BTreeSet<_>| shards.len() == written(&world.seen);
                !owed || standing(world).is_none_or(whole)
            }),
        ],
        sometimes: vec![("commits", |world| world.seen.told_committed)],
    }
}

/// `P ~> Q`, with its name.
pub type LeadsTo<P> = (
    &'static str,
    fn(&World<P, Seen>) -> bool,
    fn(&World<P, Seen>) -> bool,
);

/// What was initiated ends.
pub fn ends<P: Process>() -> LeadsTo<P> {
    (
        "ends",
        |world| world.seen.initiated,
        |world| world.seen.ended,
    )
}

/// Who is in doubt leaves it.
pub fn leaves_doubt<P: Process>() -> LeadsTo<P> {
    (
        "leaves doubt",
        |world| !world.seen.in_doubt.is_empty(),
        |world| world.seen.in_doubt.is_empty(),
    )
}

/// Asks a fair checker these.
pub fn ask<'m, P: Process>(
    mut checker: FairChecker<'m, Host<P, Seen>>,
    safety: &Asked<P, Seen>,
    liveness: Vec<LeadsTo<P>>,
) -> FairChecker<'m, Host<P, Seen>> {
    checker = safety.of(checker);
    for (name, from, to) in liveness {
        checker = checker.leads_to(name, from, to);
    }
    checker
}

/// A protocol's code on [`layout`].
pub struct Stack<P: Protocol> {
    /// Its options.
    pub options: P::Options,
    /// What clients do.
    pub operations: Vec<PlannedOperation>,
    /// How often a timer may fire; for ever where it says nothing. Without limits on those that drive counters the graph
    /// would be infinite.
    pub timers: fn(&<P::Process as Process>::Timer) -> Option<u8>,
    /// What the monitor starts with.
    pub seen: Seen,
    /// What is asked of single states.
    pub safety: fn() -> Asked<P::Process, Seen>,
    /// What is asked besides, where the world is lively.
    pub liveness: fn() -> Vec<LeadsTo<P::Process>>,
}

impl<P: Protocol> Stack<P> {
    fn host<G>(&self, setting: &Setting, start: G, note: Monitor<G>) -> Host<P::Process, G>
    where
        G: Clone + Eq + Hash + Debug,
    {
        let deployment = P::deploy(&layout(), &self.options, &self.operations);
        let processes = deployment.expect("a small deployment").processes;
        let timers = self.timers;
        Host::new(processes, setting.budget, start, note)
            .expose(setting.exposed.iter().copied())
            .limit_timers(move |_, timer| timers(timer))
    }

    fn judge(&self, setting: &Setting, limit: u32) -> Result<Outcome, CheckError> {
        let world = self.host(setting, self.seen.clone(), Seen::note);
        let liveness = if setting.lively {
            (self.liveness)()
        } else {
            Vec::new()
        };
        let checker = world.fair(setting.restarts, limit)?;
        let judged = ask(checker, &(self.safety)(), liveness).check()?;
        Ok(outcome(setting, judged))
    }
}

impl<P: Protocol> Code for Stack<P>
where
    P::Options: Send + Sync,
{
    fn check(&self, setting: &Setting, limit: u32) -> Result<Examined, CheckError> {
        Ok(Examined {
            outcome: self.judge(setting, limit)?,
            edges: None,
        })
    }

    fn serve(&self, _: &Setting, _: SocketAddr) -> Result<(), &'static str> {
        Err(
            "the Explorer shows the states of code beside those of its spec, and this protocol has none",
        )
    }
}

/// A protocol's code with its spec: every edge of the world's graph is held against it.
pub struct Specified<P: Protocol, A> {
    /// The code.
    pub stack: Stack<P>,
    /// The spec's states before the first step.
    pub start: fn() -> A,
}

impl<P, A> Code for Specified<P, A>
where
    P: Protocol<Options: Send + Sync>,
    A: Abstraction<P::Process> + Sync,
{
    fn check(&self, setting: &Setting, limit: u32) -> Result<Examined, CheckError> {
        let mut outcome = self.stack.judge(setting, limit)?;
        let world = self.stack.host(setting, (self.start)(), ignore);
        let checked = held(world, limit)?;
        outcome.properties.push(refinement(&checked));
        Ok(Examined {
            outcome,
            edges: Some(checked.tally),
        })
    }

    fn serve(&self, setting: &Setting, address: SocketAddr) -> Result<(), &'static str> {
        let world = self
            .stack
            .host(setting, self.stack.seen.clone(), Seen::note);
        let shadow = self.stack.host(setting, (self.start)(), ignore);
        serve(world, shadow, (self.stack.safety)(), address);
        Ok(())
    }
}

/// The outcome of a fair check of a world.
pub(super) fn outcome<S, A>(setting: &Setting, judged: Report<S, A>) -> Outcome {
    let summary = |outcome: PropertyOutcome| PropertyOutcome {
        fairness: match outcome.fairness.is_empty() {
            true => Vec::new(),
            false => fairness(setting),
        },
        ..outcome
    };
    // The states of whole nodes are long, and the steps' names say what led to them.
    let by_name = |verdict| PropertyOutcome::of(verdict, |_, _| String::new());
    let verdicts = judged.verdicts.iter().map(by_name);
    Outcome {
        counts: judged.counts,
        properties: verdicts.map(summary).collect(),
        elapsed: std::time::Duration::ZERO,
    }
}

/// The constraints of [`Host::fair`] by kind: there is one for each message, link and timer.
fn fairness(setting: &Setting) -> Vec<String> {
    let mut fairness = vec![
        "WF each delivery, flush, heal".to_owned(),
        "SF each timer".to_owned(),
    ];
    if setting.restarts {
        fairness.push("WF each restart".to_owned());
    }
    fairness
}

/// Every edge of a world against the spec.
pub(super) fn held<P: Process, A: Abstraction<P>>(
    world: Host<P, A>,
    limit: u32,
) -> Result<Checked, CheckError> {
    Ok(refine::check_edges(&refine::shadow(world), limit)?)
}

pub(super) fn refinement(checked: &Checked) -> PropertyOutcome {
    let broken = checked.broken.as_ref();
    let text = |(steps, refusal): &(Vec<String>, _)| format!("{}\n{refusal}", steps.join("\n"));
    PropertyOutcome {
        name: refine::PROPERTY.to_owned(),
        kind: Kind::Step,
        fairness: Vec::new(),
        holds: broken.is_none(),
        exercised: checked.tally.moves,
        counterexample: broken.map(text).unwrap_or_default(),
        steps: { broken }
            .map(|(steps, _)| steps.clone())
            .unwrap_or_default(),
    }
}

/// Serves stateright's Explorer of a world beside its spec.
pub(super) fn serve<P: Process, G, A: Abstraction<P> + Sync>(
    world: Host<P, G>,
    shadow: Host<P, A>,
    asked: Asked<P, G>,
    address: SocketAddr,
) where
    G: Clone + Eq + Hash + Debug + Send + Sync + 'static,
{
    let explored = Explored::new(world, refine::shadow(shadow), asked);
    explored.checker().serve(address);
}

/// A monitor that takes in whole steps instead ([`refine::shadow`]).
pub(super) fn ignore<G>(_: &mut G, _: Addr, _: &Observation) {}

/// Worlds for a protocol without a spec: no fault, and each kind of fault alone. Only what it promises is asked. Every
/// timer fires at most twice, so that the graph is finite. Liveness is asked only where timers do not have to make up for a
/// fault.
pub fn promised_worlds<P: Protocol<Options: Send + Sync> + 'static>() -> Vec<SmallWorld> {
    worlds_with::<P>(P::NAME, &P::Options::default())
}

/// The same with options of which some suit the few machines of a small world.
pub fn worlds_with<P: Protocol<Options: Send + Sync> + 'static>(
    name: &str,
    options: &P::Options,
) -> Vec<SmallWorld> {
    let promises = P::promises(options);
    let liveness: fn() -> Vec<LeadsTo<P::Process>> = match promises.progress() {
        Progress::None => Vec::new,
        _ => || vec![ends()],
    };
    let safety: fn() -> Asked<P::Process, Seen> =
        match (promises.atomicity(), promises.durability()) {
            (Atomicity::None, _) | (_, false) => || Asked {
                always: Vec::new(),
                ..self::safety()
            },
            _ => self::safety,
        };
    let world = |suffix: &str, budget: Budget, about| {
        let stack = Stack::<P> {
            options: options.clone(),
            operations: vec![transfer(0)],
            timers: |_| Some(2),
            seen: Seen::default(),
            safety,
            liveness,
        };
        let name = format!("{name}{suffix}");
        SmallWorld::new(name, stack, budget, about)
    };
    vec![
        world("", NONE, "The protocol's code without faults."),
        world(
            "-crash",
            CRASH,
            "One machine crashes at any moment, and comes back: safety only.",
        )
        .safety_only(),
        world("-loss", LOSS, "One message is lost: safety only.").safety_only(),
        world("-duplicate", DUPLICATE, "One message arrives twice."),
        world("-timeout", LATE, "One timer fires too early."),
        world(
            "-cut",
            CUT,
            "Two machines are cut off from one another, and find one another again: safety only.",
        )
        .safety_only(),
        world("-disk", BAD_DISK, "One flush fails: safety only.").safety_only(),
    ]
}
