//! Refinement: every step of the running code is a step that its spec allows, several of them, or none.
//!
//! For each protocol an [`Abstraction`] says which state of the spec the processes are in. It is a function of what the
//! stepped process holds and of *history*: which messages were ever sent, and what a process has acted on and then
//! forgotten in a crash (history variables; Abadi and Lamport, "The existence of refinement mappings", TCS 82(2), 1991).
//! Whether the spec allows a step is asked of the spec's own model ([`path`]): the one whose graph equals TLC's. There is
//! no second copy of the rules here.
//!
//! # Two ways to check
//!
//! - [`check_edges`]: on every edge of the graph of a small hosted world ([`crate::model::worlds::world`]).
//! - [`Online`]: on every step of a simulated run, as a [`Monitor`].
//!
//! # What counts as allowed
//!
//! A step of the code is one input to one process with all its effects. It may be a *stutter* (the spec's state stays) or
//! a finite sequence of spec steps, for instance a decision and the messages that carry it. Three things are abstracted:
//!
//! - *Budgets* bound the exploration of a spec and mean nothing to the code: they are refilled before every step.
//! - *Crashes* show when the process boots again. Nobody can tell a process that is down from a slow one. A process that
//!   halts in a step has crashed in it: what it held then is gone.
//! - *Messages* stay in flight for ever once sent (`Duplicates` in the specs): whatever the network delivers, late, twice or
//!   not at all, was sent, and so may be received. TLC checks the specs' safety with that constant too.
//!
//! # Invariants
//!
//! - The search is finite: it never takes back what has to stay, so a refusal means that there is no path.
//! - Nothing here changes a run.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use stateright::Model;

use super::spec::{Spec, Value};
use crate::base::digest::stable_hash;
use crate::base::monitor::{Monitor, Violation};
use crate::base::observation::Observed;
use crate::base::process::{Addr, Effect, Effects, Input, Process};
use crate::base::txn::TxnId;
use crate::model::checker::graph::{self, Counts, Fingerprint, Observer, Step, Unfinished};
use crate::model::worlds::world::{Action, Host, World};
use crate::protocol::Protocol;
use crate::protocol::kit::node::Node;
use crate::protocol::naive::Naive;

pub mod calvin;
pub mod raft;
pub mod saga;
pub mod three_phase;
mod transactions;
pub mod two_phase;

/// A process, perhaps inside another one that interferes with it.
pub trait Shows<N>: Process {
    /// The process itself.
    fn shown(&self) -> &N;
}

impl<S, C> Shows<Node<S, C>> for Node<S, C>
where
    Node<S, C>: Process,
{
    fn shown(&self) -> &Self {
        self
    }
}

/// A spec in which a path between two states can be searched for.
pub trait Guided: Spec {
    /// What tells its constants from those of other instances.
    fn shape(&self) -> u64;

    /// Refills the budgets, which bound a behaviour and are not part of the protocol.
    fn refill(&self, state: &mut Self::State);

    /// Actions that may lead there, enabled or not: all that the search looks at. Those that cannot may be left out.
    fn towards(&self, at: &Self::State, _to: &Self::State, actions: &mut Vec<Self::Action>) {
        self.actions(at, actions);
    }

    /// How much is left to do: 0 if and only if the states are equal.
    fn distance(&self, from: &Self::State, to: &Self::State) -> u32;

    /// Whether a path to `to` may go through `at`. Has to hold in finitely many states.
    fn may_pass(&self, from: &Self::State, at: &Self::State, to: &Self::State) -> bool;
}

/// Why the spec does not allow a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoPath {
    /// The spec's state before.
    pub before: String,
    /// What the code made of it.
    pub after: String,
    /// The allowed action that comes nearest, and what it would have made of it.
    pub nearest: Option<(String, String)>,
}

impl Display for NoPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { before, after, .. } = self;
        write!(f, "no step of the spec leads from {before} to {after}")?;
        match &self.nearest {
            Some((action, state)) => write!(f, "; the nearest is {action}, to {state}"),
            None => f.write_str("; it allows no step at all"),
        }
    }
}

/// The spec's actions, by name, that lead from one state to the other; none for a stutter. Short, not always shortest.
///
/// # Errors
///
/// [`NoPath`] if the spec does not allow it.
pub fn path<M: Guided>(
    model: &M,
    before: &M::State,
    after: &M::State,
) -> Result<Arc<[&'static str]>, NoPath> {
    let (mut before, mut after) = (before.clone(), after.clone());
    model.refill(&mut before);
    model.refill(&mut after);
    if before == after {
        return Ok(Arc::from([]));
    }
    let mut seen = HashSet::<_, Hashing>::from_iter([before.clone()]);
    let mut frontier = vec![(model.distance(&before, &after), before.clone(), Vec::new())];
    let mut actions = Vec::new();
    while let Some(at) = nearest(&frontier) {
        let (_, state, trail) = frontier.swap_remove(at);
        model.towards(&state, &after, &mut actions);
        for action in actions.drain(..) {
            let label = M::label(&action);
            let Some(mut next) = model.next_state(&state, action) else {
                continue;
            };
            model.refill(&mut next);
            if !model.may_pass(&before, &next, &after) {
                continue;
            }
            let mut trail = trail.clone();
            trail.push(label);
            if next == after {
                return Ok(trail.into());
            }
            if seen.insert(next.clone()) {
                frontier.push((model.distance(&next, &after), next, trail));
            }
        }
    }
    Err(refusal(model, &before, &after))
}

/// The entry with least left to do, the latest of equals.
fn nearest<S>(frontier: &[(u32, S, Vec<&'static str>)]) -> Option<usize> {
    let least = frontier.iter().enumerate().rev();
    least
        .min_by_key(|(_, (left, _, trail))| (*left, trail.len()))
        .map(|(at, _)| at)
}

fn refusal<M: Guided>(model: &M, before: &M::State, after: &M::State) -> NoPath {
    let mut actions = Vec::new();
    model.actions(before, &mut actions);
    let next = actions.into_iter().filter_map(|action| {
        let name = format!("{action:?}");
        let mut next = model.next_state(before, action)?;
        model.refill(&mut next);
        Some((model.distance(&next, after), name, next))
    });
    let nearest = next.min_by_key(|(left, ..)| *left);
    NoPath {
        before: shown(model, before),
        after: shown(model, after),
        nearest: nearest.map(|(_, name, next)| (name, shown(model, &next))),
    }
}

/// A state without the budgets, which say nothing.
fn shown<M: Guided>(model: &M, state: &M::State) -> String {
    match model.view(state) {
        Value::Record(mut fields) => {
            fields.retain(|(name, _)| name != "budget");
            Value::Record(fields).to_string()
        }
        value => value.to_string(),
    }
}

/// What a step is about, read off its input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The process boots.
    Boot,
    /// A transaction.
    Of(TxnId),
    /// Anything else.
    Other,
}

/// What one step of the code did to one instance of the spec.
#[derive(Clone, Debug)]
pub struct Change<M: Spec, N> {
    /// Which instance.
    pub name: N,
    /// Its constants.
    pub model: M,
    /// Its state before.
    pub before: M::State,
    /// Its state after.
    pub after: M::State,
}

/// The states of the spec's instances that a deployment is in, kept up to date step by step.
pub trait Abstraction<P: Process>: Clone + Eq + Hash + Debug + Send + 'static {
    /// The spec.
    type Spec: Guided<State: Clone + Eq + Hash + Debug + Send> + Send;
    /// What tells its instances apart: a transaction, a log.
    type Name: Clone + Ord + Hash + Display + Debug + Send;

    /// The property's name in violations and verdicts.
    const PROPERTY: &'static str = PROPERTY;

    /// What the step that begins is about.
    fn cause(input: &Input<P::Message, P::Timer>) -> Cause;

    /// Takes note of what the step that begins is a reaction to, where more has to be known of it than its cause.
    fn hears(&mut self, _by: Addr, _input: &Input<P::Message, P::Timer>) {}

    /// Takes in a step, and says what it did to the instances that it touched. Those that stay as they were may be left out.
    fn step(
        &mut self,
        by: Addr,
        cause: Cause,
        process: &P,
        effects: &Effects<P::Message, P::Timer>,
    ) -> Vec<Change<Self::Spec, Self::Name>>;

    /// All instances so far with their states.
    fn instances(&self) -> Vec<Standing<P, Self>>;
}

/// How many steps of the code were stutters, and how many were steps of the spec.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Tally {
    /// Steps of the code.
    pub steps: u64,
    /// Those that left every instance of the spec as it was.
    pub stutters: u64,
    /// Those that were steps of the spec.
    pub moves: u64,
    /// The spec's actions that they were, by name.
    pub actions: BTreeMap<&'static str, u64>,
    /// The most spec steps in one step of the code.
    pub longest: usize,
}

impl Tally {
    /// Judges a step's changes. An error names the first instance that the spec does not allow to change so.
    fn take<M: Guided<State: PartialEq>, N: Clone>(
        &mut self,
        changes: Vec<Change<M, N>>,
        mut judge: impl FnMut(Change<M, N>) -> Judged,
    ) -> Result<(), (N, NoPath)> {
        self.steps += 1;
        let mut moved = false;
        for change in changes {
            if change.before == change.after {
                continue;
            }
            let name = change.name.clone();
            let trail = judge(change).map_err(|refusal| (name, refusal))?;
            moved |= !trail.is_empty();
            self.longest = self.longest.max(trail.len());
            for action in trail.iter() {
                *self.actions.entry(action).or_default() += 1;
            }
        }
        match moved {
            true => self.moves += 1,
            false => self.stutters += 1,
        }
        Ok(())
    }

    /// In words.
    pub fn describe(&self) -> String {
        format!(
            "{} steps of the code: {} stutters, {} steps of the spec",
            self.steps, self.stutters, self.moves
        )
    }
}

/// The refinement of a hosted world.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// Sizes of the world's graph; zeros if an edge is broken, at which the walk stops.
    pub counts: Counts,
    /// The edges of that graph.
    pub tally: Tally,
    /// The first edge that the spec does not allow: the steps that lead there, and why.
    pub broken: Option<(Vec<String>, NoPath)>,
}

/// Checks every edge of a world's graph. The world's monitor has to be the abstraction ([`shadow`]).
///
/// # Errors
///
/// [`Unfinished`] if the world has more than `limit` states.
pub fn check_edges<P, A>(host: &Host<P, A>, limit: u32) -> Result<Checked, Unfinished>
where
    P: Process,
    A: Abstraction<P>,
{
    let mut edges = Edges::<P, A> {
        tally: Tally::default(),
        reached: BTreeMap::new(),
        broken: None,
        judged: HashMap::new(),
    };
    let counts = match graph::explore(host, limit, &mut edges) {
        Err(Unfinished::Stopped) => Counts::default(),
        explored => explored?,
    };
    Ok(Checked {
        counts,
        tally: edges.tally,
        broken: edges.broken,
    })
}

/// A world whose monitor is the abstraction.
pub fn shadow<P, A>(host: Host<P, A>) -> Host<P, A>
where
    P: Process,
    A: Abstraction<P>,
{
    host.watch(|abstraction, by, input, process, effects| {
        if !halts(effects) {
            abstraction.hears(by, input);
            abstraction.step(by, A::cause(input), process, effects);
        }
    })
}

/// Whether the process is gone with this step.
fn halts<M, T>(effects: &Effects<M, T>) -> bool {
    let mut effects = effects.iter();
    effects.any(|effect| matches!(effect, Effect::Halt(_)))
}

/// A state of an abstraction's spec.
pub type StateOf<P, A> = <<A as Abstraction<P>>::Spec as Model>::State;

/// An instance of an abstraction's spec: name, constants, state.
pub type Standing<P, A> = (
    <A as Abstraction<P>>::Name,
    <A as Abstraction<P>>::Spec,
    StateOf<P, A>,
);

/// Judgements by instance.
type Edged<P, A> = HashMap<(<A as Abstraction<P>>::Name, StateOf<P, A>, StateOf<P, A>), Judged>;

/// Judgements by shape.
type Known<P, A> = HashMap<(u64, StateOf<P, A>, StateOf<P, A>), Judged, Hashing>;

type Judged = Result<Trail, NoPath>;

/// The names of a path's actions.
type Trail = Arc<[&'static str]>;

struct Edges<P: Process, A: Abstraction<P>> {
    tally: Tally,
    /// How each node but the initial ones was first reached.
    reached: BTreeMap<u32, (u32, Action<P::Timer>)>,
    broken: Option<(Vec<String>, NoPath)>,
    /// What was judged before: most edges repeat a step of the spec.
    judged: Edged<P, A>,
}

impl<P: Process, A: Abstraction<P>> Edges<P, A> {
    fn changes(before: &A, after: &A) -> Vec<Change<A::Spec, A::Name>> {
        let known: BTreeMap<_, _> = { before.instances().into_iter() }
            .map(|(name, _, state)| (name, state))
            .collect();
        let change = |(name, model, after): (A::Name, A::Spec, StateOf<P, A>)| {
            let initial = || model.init_states().swap_remove(0);
            let before = known.get(&name).cloned().unwrap_or_else(initial);
            Change {
                name,
                model,
                before,
                after,
            }
        };
        after.instances().into_iter().map(change).collect()
    }

    fn trail(&self, mut node: u32, last: &Action<P::Timer>) -> Vec<String> {
        let mut steps = vec![last.to_string()];
        while let Some((from, action)) = self.reached.get(&node) {
            steps.push(action.to_string());
            node = *from;
        }
        steps.reverse();
        steps
    }
}

impl<P: Process, A: Abstraction<P>> Observer<Host<P, A>> for Edges<P, A> {
    fn enter(&mut self, _: u32, _: u32, _: &World<P, A>) -> Result<(), Unfinished> {
        Ok(())
    }

    fn step(&mut self, step: &Step<'_, Host<P, A>>) -> Result<(), Unfinished> {
        if step.to > step.from && !self.reached.contains_key(&step.to) {
            let way = (step.from, step.action.clone());
            self.reached.insert(step.to, way);
        }
        let changes = Self::changes(&step.before.seen, &step.after.seen);
        let judged = &mut self.judged;
        let taken = self.tally.take(changes, |change| {
            let Change {
                name,
                model,
                before,
                after,
            } = change;
            let judge = |(_, before, after): &_| path(&model, before, after);
            let known = judged.entry((name, before, after));
            known.or_insert_with_key(judge).clone()
        });
        if let Err((_, refusal)) = taken {
            self.broken = Some((self.trail(step.from, step.action), refusal));
            return Err(Unfinished::Stopped);
        }
        Ok(())
    }
}

/// The most judgements that are remembered at once.
const REMEMBERED: usize = 1 << 14;

/// Judgements that runs of this process left behind for the next, by the types of process and abstraction. A judgement is a
/// function of what it is about, so who made it changes nothing but the time. One map for each run under way.
static LEFT_BEHIND: Mutex<BTreeMap<TypeId, Vec<Box<dyn Any + Send>>>> = Mutex::new(BTreeMap::new());

/// The refinement of a simulated run, step by step.
pub struct Online<P: Process, A: Abstraction<P>> {
    abstraction: A,
    cause: Cause,
    tally: Arc<Mutex<Tally>>,
    /// Instances that have left their spec: one report each.
    broken: BTreeSet<A::Name>,
    /// Transactions of one shape go the same ways: most steps were judged before.
    judged: Known<P, A>,
    /// What becomes of these in the end.
    leave_behind: Option<fn(Known<P, A>)>,
    process: PhantomData<fn(P)>,
}

type Hashing = std::hash::BuildHasherDefault<Fingerprint>;

impl<P: Process, A: Abstraction<P>> Online<P, A> {
    /// A monitor, and where it counts.
    pub fn new(abstraction: A) -> (Self, Arc<Mutex<Tally>>) {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let online = Self {
            abstraction,
            cause: Cause::Other,
            tally: Arc::clone(&tally),
            broken: BTreeSet::new(),
            judged: HashMap::default(),
            leave_behind: None,
            process: PhantomData,
        };
        (online, tally)
    }

    /// The same, with the judgements of earlier runs. All abstractions of one type have to agree on what a
    /// [shape](Guided::shape) stands for.
    fn with_judgements_left_behind(abstraction: A) -> (Self, Arc<Mutex<Tally>>)
    where
        A: 'static,
        Known<P, A>: Send,
    {
        let (mut online, tally) = Self::new(abstraction);
        let mut left = LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner);
        let left = left.get_mut(&TypeId::of::<(P, A)>()).and_then(Vec::pop);
        if let Some(judged) = left.and_then(|left| left.downcast::<Known<P, A>>().ok()) {
            online.judged = *judged;
        }
        online.leave_behind = Some(|judged| {
            let mut left = LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner);
            let left = left.entry(TypeId::of::<(P, A)>()).or_default();
            left.push(Box::new(judged));
        });
        (online, tally)
    }
}

impl<P: Process, A: Abstraction<P>> Drop for Online<P, A> {
    fn drop(&mut self) {
        if let Some(leave_behind) = self.leave_behind {
            leave_behind(std::mem::take(&mut self.judged));
        }
    }
}

impl<P: Process, A: Abstraction<P>> Monitor<P> for Online<P, A> {
    fn observe(&mut self, _: &Observed) -> Result<(), Violation> {
        Ok(())
    }

    fn watches_steps(&self) -> bool {
        true
    }

    fn before_step(&mut self, by: Addr, input: &Input<P::Message, P::Timer>) {
        self.cause = A::cause(input);
        self.abstraction.hears(by, input);
    }

    fn effects_of_step(
        &mut self,
        at_ns: u64,
        by: Addr,
        process: &P,
        effects: &Effects<P::Message, P::Timer>,
    ) -> Result<(), Violation> {
        if halts(effects) {
            return Ok(());
        }
        let mut changes = self.abstraction.step(by, self.cause, process, effects);
        changes.retain(|change| !self.broken.contains(&change.name));
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let judged = &mut self.judged;
        let taken = tally.take(changes, |change| {
            let key = (change.model.shape(), change.before, change.after);
            if let Some(known) = judged.get(&key) {
                return known.clone();
            }
            if judged.len() >= REMEMBERED {
                judged.clear();
            }
            let new = path(&change.model, &key.1, &key.2);
            judged.insert(key, new.clone());
            new
        });
        taken.map_err(|(name, refusal)| {
            let explanation = format!("{name}: after a step of {by} {refusal}");
            self.broken.insert(name);
            Violation {
                at_ns,
                by,
                property: A::PROPERTY,
                explanation,
            }
        })
    }
}

/// One in this many transactions of a simulated run is held against its spec. All of them would cost more than the run.
pub const SAMPLED: u64 = 4;

/// Which transactions are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Sample {
    one_in: u64,
}

impl Default for Sample {
    fn default() -> Self {
        Self { one_in: 1 }
    }
}

impl Sample {
    fn has(self, txn: &TxnId) -> bool {
        self.one_in == 1 || stable_hash(txn).is_multiple_of(self.one_in)
    }
}

/// The name of a protocol's own refinement in violations and verdicts.
pub const PROPERTY: &str = "refinement";

/// That of the replicated logs that a protocol embeds.
pub const LOG_PROPERTY: &str = "log-refinement";

/// A monitor of a protocol's runs, and where it counts.
pub type Watch<P> = (Box<dyn Monitor<P>>, Arc<Mutex<Tally>>);

/// A protocol whose runs can be held against its spec.
pub trait Refined: Protocol {
    /// The monitor for a deployment with these options.
    ///
    /// # Errors
    ///
    /// Why the spec does not speak of such deployments.
    fn watch(options: &Self::Options) -> Result<Watch<Self::Process>, &'static str>;

    /// The monitor for the logs of a deployment with these options; nothing where the protocol embeds none. An error says
    /// why their spec does not speak of them.
    fn watch_logs(_: &Self::Options) -> Option<Result<Watch<Self::Process>, &'static str>> {
        None
    }
}

impl Refined for Naive {
    fn watch(_: &Self::Options) -> Result<Watch<Self::Process>, &'static str> {
        Err("the protocol has no spec")
    }
}

/// The monitor that an abstraction makes.
fn watch<P: Process, A: Abstraction<P>>(abstraction: A) -> Watch<P> {
    let (online, tally) = Online::<P, A>::with_judgements_left_behind(abstraction);
    (Box::new(online), tally)
}
