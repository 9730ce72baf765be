//! The specs in `specs/`, a second time: models in Rust whose reachable graphs are *identical* to those that TLC finds.
//!
//! Identical, not similar: [`Graph`] writes every state as a TLA+ value and every step as an edge labelled with
//! the name of the spec's action, in an order that depends on neither tool. `specs/graphs` writes TLC's dump in the same
//! way and compares the two line by line; the digest of that text stands in the manifest, so that `cargo test`
//! notices a change without Java.
//!
//! A model is built from the `.cfg` that TLC reads ([`Config`]), so that constants, fairness and properties cannot drift
//! apart, and its verdicts are compared with the folder's `manifest.json`.
//!
//! # Invariants
//!
//! - One Rust action is one instance of one TLA+ action with one successor: the counts of generated states agree.
//! - `Model::actions` lists what is enabled; `next_state` is a function of both and never refuses a listed action.
//! - Models are bounded by budgets in their state, never by a boundary or a symmetry: liveness stays sound.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::time::{Duration, Instant};

use stateright::Model;

use crate::model::checker::graph::{self, Counts, Observer, Step, Unfinished};
use crate::model::checker::leads_to::{Counterexample, FairChecker, Kind, Refusal, Verdict};

pub mod calvin;
pub mod hlc;
pub mod raft_disk;
pub mod raft_log;
pub mod ramp;
pub mod saga;
pub mod three_phase;
pub mod two_phase;
pub mod value;

pub use value::{Config, ConfigError, Value};

/// A state predicate of a spec.
pub type Invariant<M> = fn(&M, &<M as Model>::State) -> bool;

/// A Rust model of a TLA+ spec.
pub trait Spec: Model<State: Clone + Hash + Eq + Debug, Action: Clone + Debug> + Sized {
    /// The model that a `.cfg` describes, `SPECIFICATION` included: a broken variant is a specification of its own.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a constant is missing or too large, or the specification unknown.
    fn from_config(config: &Config) -> Result<Self, ConfigError>;

    /// The state as a record of the spec's variables.
    fn view(&self, state: &Self::State) -> Value;

    /// The spec's name of an action, without parameters, as TLC labels it.
    fn label(action: &Self::Action) -> &'static str;

    /// The spec's invariants by name.
    fn invariants() -> &'static [(&'static str, Invariant<Self>)];

    /// Adds the fairness constraints of a specification.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unknown`] if the spec has no such formula.
    fn assume<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        specification: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError>;

    /// Adds a property that the `.cfg` names under PROPERTIES.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unknown`] if the spec has no such formula.
    fn promise<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        name: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError>;
}

/// An error for a name that a spec does not know.
pub(crate) fn unknown(what: &'static str, name: &str) -> ConfigError {
    ConfigError::Unknown {
        what,
        name: name.to_owned(),
    }
}

/// A whole reachable graph in canonical form: states as TLA+ text in sorted order, edges by position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Graph {
    /// The states, sorted by text.
    pub states: Vec<String>,
    /// Positions of the initial states, ascending.
    pub initial: Vec<u32>,
    /// Source, label, target; sorted and without duplicates. Steps that change nothing are edges like others.
    pub edges: Vec<(u32, &'static str, u32)>,
}

struct Collect<S>(Vec<S>);

impl<M: Model<State: Clone>> Observer<M> for Collect<M::State> {
    fn enter(&mut self, _: u32, _: u32, state: &M::State) -> Result<(), Unfinished> {
        self.0.push(state.clone());
        Ok(())
    }

    fn step(&mut self, _: &Step<'_, M>) -> Result<(), Unfinished> {
        Ok(())
    }
}

impl Graph {
    /// The graph of a model of at most `limit` states.
    ///
    /// # Errors
    ///
    /// See [`Unfinished`].
    ///
    /// # Panics
    ///
    /// If two different states have the same text: then `view` leaves something out.
    pub fn of<M: Spec>(model: &M, limit: u32) -> Result<Self, Unfinished> {
        let mut found = Collect(Vec::new());
        graph::explore(model, limit, &mut found)?;
        let positions: BTreeMap<String, usize> = found
            .0
            .iter()
            .enumerate()
            .map(|(at, state)| (model.view(state).to_string(), at))
            .collect();
        assert_eq!(
            positions.len(),
            found.0.len(),
            "different states have different texts"
        );
        let rank: BTreeMap<&str, u32> = positions
            .keys()
            .zip(0..)
            .map(|(text, rank)| (text.as_str(), rank))
            .collect();
        let rank_of = |state: &M::State| rank[model.view(state).to_string().as_str()];
        let mut edges = Vec::new();
        let mut actions = Vec::new();
        for state in &found.0 {
            let from = rank_of(state);
            model.actions(state, &mut actions);
            for action in actions.drain(..) {
                let label = M::label(&action);
                let after = model
                    .next_state(state, action)
                    .expect("a listed action has a successor");
                edges.push((from, label, rank_of(&after)));
            }
        }
        edges.sort_unstable();
        edges.dedup();
        let mut initial: Vec<u32> = model.init_states().iter().map(rank_of).collect();
        initial.sort_unstable();
        drop(rank);
        Ok(Self {
            states: positions.into_keys().collect(),
            initial,
            edges,
        })
    }

    /// Blake3 of the text, in hexadecimal: what the manifests record.
    pub fn digest(&self) -> String {
        blake3::hash(self.to_string().as_bytes())
            .to_hex()
            .to_string()
    }
}

/// One line a state, an initial state, an edge; `specs/graphs` writes TLC's dump in the same words.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, state) in self.states.iter().enumerate() {
            writeln!(f, "state {number} {state}")?;
        }
        for number in &self.initial {
            writeln!(f, "initial {number}")?;
        }
        for (from, label, to) in &self.edges {
            writeln!(f, "edge {from} {label} {to}")?;
        }
        Ok(())
    }
}

/// What checking an instance found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outcome {
    /// Sizes, as TLC counts them.
    pub counts: Counts,
    /// One verdict for each name in the `.cfg`, in its order.
    pub properties: Vec<PropertyOutcome>,
    /// Wall-clock time of exploration and checks together.
    #[serde(skip)]
    pub elapsed: Duration,
}

/// The verdict on one property.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PropertyOutcome {
    /// The spec's name for it.
    pub name: String,
    /// Its shape.
    pub kind: Kind,
    /// The fairness constraints that it assumed; empty for safety.
    pub fairness: Vec<String>,
    /// The verdict.
    pub holds: bool,
    /// How often it had a chance to fail.
    pub exercised: u64,
    /// The names of the counterexample's steps, where it does not hold; `(cycle)` marks where a lasso closes.
    pub steps: Vec<String>,
    /// The whole counterexample with its states, for people.
    #[serde(skip)]
    pub counterexample: String,
}

impl PropertyOutcome {
    /// Takes in another conjunct of the same property: it holds if all do, and is as well exercised as the least.
    fn join(&mut self, conjunct: Self) {
        let exercised = self.exercised.min(conjunct.exercised);
        if self.holds {
            *self = conjunct;
        }
        self.exercised = exercised;
    }

    /// `show` says what a step, from one state to the other, did.
    pub(crate) fn of<S, A>(
        verdict: &Verdict<S, A>,
        show: impl Fn(Option<&S>, &S) -> String,
    ) -> Self {
        let shown = verdict.counterexample.as_ref();
        let names =
            |shown: &Counterexample<S, A>| shown.names().into_iter().map(str::to_owned).collect();
        Self {
            name: verdict.name.clone(),
            kind: verdict.kind,
            fairness: verdict.fairness.clone(),
            holds: verdict.holds,
            exercised: verdict.exercised,
            steps: shown.map(names).unwrap_or_default(),
            counterexample: shown.map(|shown| shown.describe(show)).unwrap_or_default(),
        }
    }
}

/// The variables that differ between two states, all of them without the first, as TLC writes them.
fn changes<M: Spec>(model: &M, before: Option<&M::State>, after: &M::State) -> String {
    let variables = |state| match model.view(state) {
        Value::Record(variables) => variables,
        value => vec![("state".to_owned(), value)],
    };
    let before = before.map(variables).unwrap_or_default();
    let changed = variables(after)
        .into_iter()
        .filter(|variable| !before.contains(variable));
    let shown: Vec<String> = changed
        .map(|(name, value)| format!("/\\ {name} = {value}"))
        .collect();
    shown.join(" ")
}

/// A model of a spec with its constants, its type forgotten.
pub struct Instance {
    /// Folder below `specs/`.
    pub folder: &'static str,
    /// The name of its `.cfg`.
    pub name: &'static str,
    /// The `.cfg`.
    pub config: Config,
    make: Maker,
}

type Maker = fn(&Config) -> Result<Box<dyn Checkable>, ConfigError>;

trait Checkable {
    fn check(&self, config: &Config, limit: u32) -> Result<Outcome, CheckError>;
    fn graph(&self, limit: u32) -> Result<Graph, Unfinished>;
    fn serve(self: Box<Self>, address: std::net::SocketAddr);
}

/// Why an instance has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Its `.cfg` does not fit the model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It was not explored to the end.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was not explored to the end.
    #[error(transparent)]
    Unfinished(#[from] Unfinished),
}

impl<M> Checkable for M
where
    M: Spec<State: Send + Sync, Action: PartialEq + Send + Sync> + Send + Sync + 'static,
{
    fn check(&self, config: &Config, limit: u32) -> Result<Outcome, CheckError> {
        let started = Instant::now();
        let mut checker =
            self.assume(FairChecker::new(self).limit(limit), &config.specification)?;
        for name in &config.invariants {
            let known = M::invariants().iter().find(|(known, _)| known == name);
            let &(_, holds) = known.ok_or_else(|| unknown("invariant", name))?;
            checker = checker.always(name, move |state| holds(self, state));
        }
        for name in &config.properties {
            checker = self.promise(checker, name)?;
        }
        let report = checker.check()?;
        let mut properties: Vec<PropertyOutcome> = Vec::new();
        for verdict in &report.verdicts {
            let outcome =
                PropertyOutcome::of(verdict, |before, after| changes(self, before, after));
            let known = properties
                .iter_mut()
                .find(|known| known.name == outcome.name);
            match known {
                Some(known) => known.join(outcome),
                None => properties.push(outcome),
            }
        }
        Ok(Outcome {
            counts: report.counts,
            properties,
            elapsed: started.elapsed(),
        })
    }

    fn graph(&self, limit: u32) -> Result<Graph, Unfinished> {
        Graph::of(self, limit)
    }

    fn serve(self: Box<Self>, address: std::net::SocketAddr) {
        (*self).checker().serve(address);
    }
}

impl Instance {
    /// Explores it once and decides every property that its `.cfg` lists.
    ///
    /// # Errors
    ///
    /// See [`CheckError`].
    pub fn check(&self, limit: u32) -> Result<Outcome, CheckError> {
        (self.make)(&self.config)?.check(&self.config, limit)
    }

    /// Its reachable graph in canonical form.
    ///
    /// # Errors
    ///
    /// See [`CheckError`].
    pub fn graph(&self, limit: u32) -> Result<Graph, CheckError> {
        Ok((self.make)(&self.config)?.graph(limit)?)
    }

    /// What serves stateright's Explorer at an address, until the process ends.
    ///
    /// # Errors
    ///
    /// See [`CheckError`].
    pub fn explorer(&self) -> Result<Box<dyn FnOnce(std::net::SocketAddr)>, CheckError> {
        let model = (self.make)(&self.config)?;
        Ok(Box::new(move |address| model.serve(address)))
    }
}

fn boxed<M>(config: &Config) -> Result<Box<dyn Checkable>, ConfigError>
where
    M: Spec<State: Send + Sync, Action: PartialEq + Send + Sync> + Send + Sync + 'static,
{
    Ok(Box::new(M::from_config(config)?))
}

macro_rules! instances {
    ($($folder:literal as $model:ty { $($name:literal)* })*) => {
        /// Every model of every spec, in the order of the manifests.
        ///
        /// # Panics
        ///
        /// If a `.cfg` that was compiled in cannot be read; a test reads them all.
        pub fn instances() -> Vec<Instance> {
            vec![$($(Instance {
                folder: $folder,
                name: $name,
                config: Config::parse(include_str!(concat!("../../../specs/", $folder, "/", $name, ".cfg")))
                    .unwrap_or_else(|error| panic!("{}/{}.cfg: {error}", $folder, $name)),
                make: boxed::<$model>,
            }),*),*]
        }

        /// The `manifest.json` of each folder below `specs/` that has a Rust model.
        pub const MANIFESTS: &[(&str, &str)] =
            &[$(($folder, include_str!(concat!("../../../specs/", $folder, "/manifest.json")))),*];
    };
}

instances! {
    "calvin" as calvin::Calvin {
        "MCCalvinSmall" "MCCalvinCutOff" "MCCalvinCrash" "MCCalvinDuplicates" "MCCalvinForeverWeak"
        "MCCalvinForeverStrong" "MCCalvinThree" "MCCalvinRing" "MCCalvinCheckpoint" "MCCalvinActive" "MCCalvinCode"
        "MCCalvinCodeAgain" "MCCalvinCodeThree" "MCCalvinReadAhead" "MCCalvinExecuteAgain" "MCCalvinCrashForgetsReads"
    }
    "hlc" as hlc::Hlc {
        "MCHlcSmall" "MCHlcNetwork" "MCHlcStepsBack" "MCHlcStopped" "MCHlcForeverBack" "MCHlcLiar" "MCHlcThree" "MCHlcRestartForgets"
        "MCHlcSendWallClock" "MCHlcReceiveIgnoresCounter"
    }
    "raft_disk" as raft_disk::RaftDisk {
        "MCRaftDiskCode" "MCRaftDiskCrash" "MCRaftDiskThree" "MCRaftDiskSuccession" "MCRaftDiskSpeakEarly"
        "MCRaftDiskCountUnflushed" "MCRaftDiskVoteBlindly"
    }
    "raft_log" as raft_log::RaftLog {
        "MCRaftLogSmall" "MCRaftLogStable" "MCRaftLogCollide" "MCRaftLogEntries" "MCRaftLogNetwork" "MCRaftLogThree"
        "MCRaftLogSuccession" "MCRaftLogFigure8"
        "MCRaftLogCrashForgetsVote" "MCRaftLogCrashForgetsEntry" "MCRaftLogCommitAlone"
        "MCRaftLogVoteBlindly" "MCRaftLogCommitOldTerm" "MCRaftLogKeepConflict"
    }
    "ramp" as ramp::Ramp {
        "MCRampSmall" "MCRampAlone" "MCRampMany" "MCRampThree" "MCRampSkipSecondRound" "MCRampFetchLatest" "MCRampGetPrepared"
        "MCRampCommitEarly" "MCRampGiveUpInDoubt" "MCRampPrepareBarred" "MCRampCrashForgets"
    }
    "saga" as saga::Saga {
        "MCSagaSmall" "MCSagaOrphan" "MCSagaFaults" "MCSagaMisplaced" "MCSagaForeverWeak" "MCSagaForeverStrong"
        "MCSagaDirtyRead" "MCSagaSemanticLocks" "MCSagaLarge" "MCSagaCode" "MCSagaCodeLocks" "MCSagaCompensateBlindly"
        "MCSagaRushBack" "MCSagaGiveUpPivot"
    }
    "three_phase" as three_phase::ThreePhase {
        "MCThreePhaseSmall" "MCThreePhaseStaysDown" "MCThreePhaseAllCrash" "MCThreePhaseTotalFailure" "MCThreePhaseThree"
        "MCThreePhaseLast" "MCThreePhaseSuspicion" "MCThreePhasePartition" "MCThreePhaseOwnTimeout" "MCThreePhaseCode"
        "MCThreePhaseCommitUnacked" "MCThreePhaseLeadFallen" "MCThreePhaseAbortUncertain" "MCThreePhaseCommitAtOnce"
        "MCThreePhaseObeyReplaced" "MCThreePhaseCrashForgetsPreCommit"
    }
    "two_phase" as two_phase::TwoPhase {
        "MCTwoPhaseSmall" "MCTwoPhaseBlocking" "MCTwoPhasePeers" "MCTwoPhaseCrashes" "MCTwoPhaseNetwork" "MCTwoPhaseForeverWeak"
        "MCTwoPhaseForeverTimed" "MCTwoPhaseForeverStrong" "MCTwoPhaseMixed" "MCTwoPhaseCode" "MCTwoPhaseCodePeers"
        "MCTwoPhaseReaders" "MCTwoPhaseCodeReaders" "MCTwoPhaseAlone" "MCTwoPhaseCodeAlone" "MCTwoPhaseEndEarly"
        "MCTwoPhaseDecideUnlogged" "MCTwoPhaseCrashForgetsVote" "MCTwoPhaseGiveUpInDoubt" "MCTwoPhaseTellInDoubt" "MCTwoPhaseTellUnbound"
        "MCTwoPhaseLeaveWithWrites" "MCTwoPhaseTellLeft" "MCTwoPhaseAckAlone"
    }
}

/// The name of an action's variant, which is the name of the spec's action.
macro_rules! label {
    ($action:expr, $($name:ident)*) => {
        match $action {
            $(Action::$name { .. } => stringify!($name),)*
        }
    };
}
pub(crate) use label;

/// A set of up to eight things numbered from 0, or a number of each of eight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Members(pub u8);

impl Members {
    /// The first `count`.
    pub const fn first(count: u8) -> Self {
        assert!(count <= 8);
        Self(((1_u16 << count) - 1) as u8)
    }

    /// Whether it is a member.
    pub const fn has(self, member: u8) -> bool {
        self.0 & 1 << member != 0
    }

    /// The set and this member.
    #[must_use]
    pub const fn with(self, member: u8) -> Self {
        Self(self.0 | 1 << member)
    }

    /// The set without this member.
    #[must_use]
    pub const fn without(self, member: u8) -> Self {
        Self(self.0 & !(1 << member))
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The members, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..8).filter(move |&member| self.has(member))
    }

    /// As a set of numbers from 1.
    pub fn numbers(self) -> Value {
        Value::set(self.iter().map(|member| Value::from(member + 1)))
    }

    /// As a set of model values `x1`, `x2`, and so on.
    pub fn view(self, prefix: &str) -> Value {
        Value::set(
            self.iter()
                .map(|member| Value::model(format_args!("{prefix}{}", member + 1))),
        )
    }
}

#[cfg(test)]
mod tests;
