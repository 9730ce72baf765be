//! The registry: what ordain can do with a protocol, whatever the types of its processes.
//!
//! A [`Protocol`] has types of its own for processes, messages and options. Everything that works on protocols by
//! name (the command line, campaigns, reports, tests) asks a [`Registry`] and sees the object-safe [`Registered`].
//! [`Registry::standard`] holds the protocols of this crate, one line each. Another crate adds its own:
//!
//! ```no_run
//! use ordain::registry::Registry;
//! # use ordain::protocol::naive::Naive as Mine;
//!
//! fn main() -> std::process::ExitCode {
//!     ordain::cli::main(Registry::standard().with::<Mine>())
//! }
//! ```
//!
//! With that, `run`, `compare`, `fuzz`, `shrink`, `replay`, `list` and `model` work for it.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::base::observation::{MOMENTS, Mark, NAMES};
use crate::base::options::Described;
use crate::model::refine::Refined;
use crate::model::worlds::stack::promised_worlds;
use crate::model::worlds::{InSmallWorlds, SmallWorld};
use crate::plan::Plan;
use crate::plan::fates::{FateSource, Fates};
use crate::protocol::{
    Promises, Protocol, calvin::Calvin, monolith::Monolith, naive::Naive,
    paxos_commit::PaxosCommit, percolator::Percolator, ramp::Ramp, saga::Saga, spanner::Spanner,
    three_phase::ThreePhase, two_phase::TwoPhase, xa::Xa,
};
use crate::run::{self, Run, Watch, Watchers};
use crate::scenario::problem::meant;
use crate::scenario::swarm::OptionSpace;
use crate::scenario::{BadInput, FaultSpec, Problem, Scenario, WhenSpec};

/// A protocol as `ordain list` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Listed {
    /// Its name on the command line.
    pub name: &'static str,
    /// Full name and source.
    pub title: &'static str,
    /// What it promises with default options.
    pub promises: Promises,
    /// Its options with their defaults, as a scenario states them.
    pub options: serde_json::Value,
    /// What each of them is, and may be.
    pub described: Vec<Described>,
}

/// What ordain does with a protocol. Implemented for every [`Protocol`] by [`Registry::with`].
pub trait Registered: Send + Sync {
    /// Its name, title, promises and options.
    fn listed(&self) -> Listed;

    /// The rare branches that its code marks, with what each of them is.
    fn marks(&self) -> Vec<Mark>;

    /// What is wrong with the scenario's options for it, or with its machines.
    fn problems(&self, scenario: &Scenario) -> Vec<Problem>;

    /// What a run of the scenario is unlikely to show of it.
    fn warnings(&self, scenario: &Scenario) -> Vec<String>;

    /// Its options, for swarm plans to draw from.
    fn option_space(&self) -> OptionSpace;

    /// Runs a plan and judges it: see [`run::execute`].
    ///
    /// # Errors
    ///
    /// When the scenario's options or machines do not fit the protocol, or `watch` asks for what it does not promise.
    fn run(
        &self,
        scenario: &Scenario,
        plan: &Plan,
        fates: FateSource,
        keep: bool,
        watch: Watch,
    ) -> Result<Run, String>;

    /// Its code in small worlds, as `ordain model` lists them.
    fn worlds(&self) -> Vec<SmallWorld>;
}

/// A protocol with what watches its runs, and its small worlds.
struct Entry<P: Protocol> {
    watchers: fn(&P::Options) -> Watchers<P::Process>,
    worlds: fn() -> Vec<SmallWorld>,
}

impl<P: Protocol> Registered for Entry<P> {
    fn listed(&self) -> Listed {
        let options = P::Options::default();
        Listed {
            name: P::NAME,
            title: P::TITLE,
            promises: P::promises(&options),
            options: serde_json::to_value(&options).expect("options are plain data"),
            described: run::options::described::<P>(),
        }
    }

    fn marks(&self) -> Vec<Mark> {
        P::MARKS.concat()
    }

    fn problems(&self, scenario: &Scenario) -> Vec<Problem> {
        run::options::problems::<P>(scenario)
    }

    fn warnings(&self, scenario: &Scenario) -> Vec<String> {
        run::warnings::of::<P>(scenario)
    }

    fn option_space(&self) -> OptionSpace {
        run::options::space::<P>()
    }

    fn run(
        &self,
        scenario: &Scenario,
        plan: &Plan,
        fates: FateSource,
        keep: bool,
        watch: Watch,
    ) -> Result<Run, String> {
        run::execute::<P>(scenario, plan, fates, keep, watch, self.watchers)
    }

    fn worlds(&self) -> Vec<SmallWorld> {
        (self.worlds)()
    }
}

/// The protocols that a program knows, in the order in which tables list them.
pub struct Registry {
    protocols: Vec<Box<dyn Registered>>,
}

impl Registry {
    /// No protocol yet.
    pub fn empty() -> Self {
        Self {
            protocols: Vec::new(),
        }
    }

    /// The protocols of this crate.
    pub fn standard() -> Self {
        Self::empty()
            .with::<Naive>()
            .with_spec::<TwoPhase>()
            .with_spec::<ThreePhase>()
            .with_worlds::<PaxosCommit>()
            .with_spec::<Saga>()
            .with_spec::<Calvin>()
            .with::<Percolator>()
            .with::<Monolith>()
            .with_worlds::<Spanner>()
            .with::<Ramp>()
            .with_worlds::<Xa>()
    }

    /// Adds a protocol.
    ///
    /// # Panics
    ///
    /// When another protocol has the same name.
    pub fn with<P: Protocol<Options: Send + Sync> + 'static>(self) -> Self {
        self.add(Box::new(Entry::<P> {
            watchers: |_| Watchers::none(),
            worlds: promised_worlds::<P>,
        }))
    }

    /// Adds a protocol that brings small worlds of its own, and has no spec.
    ///
    /// # Panics
    ///
    /// When another protocol has the same name.
    pub fn with_worlds<P: InSmallWorlds<Options: Send + Sync> + 'static>(self) -> Self {
        self.add(Box::new(Entry::<P> {
            watchers: |_| Watchers::none(),
            worlds: P::worlds,
        }))
    }

    /// Adds a protocol whose runs and small worlds are held against a spec.
    ///
    /// # Panics
    ///
    /// When another protocol has the same name.
    pub fn with_spec<P: Refined + InSmallWorlds + 'static>(self) -> Self {
        self.add(Box::new(Entry::<P> {
            watchers: |options| Watchers {
                own: P::watch(options),
                logs: P::watch_logs(options),
            },
            worlds: P::worlds,
        }))
    }

    fn add(mut self, protocol: Box<dyn Registered>) -> Self {
        let name = protocol.listed().name;
        assert!(
            !self.names().contains(&name),
            "two protocols are called `{name}`"
        );
        self.protocols.push(protocol);
        self
    }

    /// The names of the protocols.
    pub fn names(&self) -> Vec<&'static str> {
        self.iter().map(|protocol| protocol.listed().name).collect()
    }

    /// Every protocol.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Registered> {
        self.protocols.iter().map(Box::as_ref)
    }

    /// Every protocol, as `ordain list` shows it.
    pub fn list(&self) -> Vec<Listed> {
        self.iter().map(Registered::listed).collect()
    }

    /// The protocol of that name.
    ///
    /// # Errors
    ///
    /// When there is none: which there are.
    pub fn get(&self, name: &str) -> Result<&dyn Registered, String> {
        let mut all = self.iter();
        all.find(|protocol| protocol.listed().name == name)
            .ok_or_else(|| {
                let names = self.names().join(", ");
                format!("there is no protocol `{name}`; there are {names}")
            })
    }

    /// The rare branches that a protocol's code marks; nothing if there is no such protocol.
    pub fn marks(&self, protocol: &str) -> Vec<Mark> {
        self.get(protocol)
            .map(Registered::marks)
            .unwrap_or_default()
    }

    /// Reads a scenario and checks it against the protocols that it names: their options, and whether they can
    /// be deployed on its machines.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, with places and remedies.
    pub fn read_scenario(
        &self,
        file_name: &str,
        text: &str,
        overrides: &[(String, String)],
    ) -> Result<Scenario, BadInput> {
        let mut scenario = Scenario::read(file_name, text, &self.names(), overrides)?;
        let spaces = self.iter().map(|protocol| {
            let name = protocol.listed().name.to_owned();
            (name, protocol.option_space())
        });
        scenario.option_spaces = spaces.collect();
        self.leave_out_what_machines_do_not_carry(&mut scenario);
        let named = scenario.protocols.iter().chain(scenario.options.keys());
        let named: BTreeSet<&str> = named.map(String::as_str).collect();
        let known = named.into_iter().filter_map(|name| self.get(name).ok());
        let mut problems: Vec<Problem> = known
            .flat_map(|protocol| protocol.problems(&scenario))
            .collect();
        problems.extend(self.unheard_of(&scenario));
        problems.sort_by_key(|problem| problem.span.start);
        match problems.is_empty() {
            true => Ok(scenario),
            false => Err(BadInput {
                file: file_name.to_owned(),
                text: scenario.text,
                problems,
            }),
        }
    }

    /// A scenario that does not say which protocols run means all that its machines carry, and those whose options it states.
    fn leave_out_what_machines_do_not_carry(&self, scenario: &mut Scenario) {
        let table = scenario.text.parse::<toml::Table>();
        if table.is_ok_and(|table| table.contains_key("protocols")) {
            return;
        }
        let runs = |name: &String| {
            let is_carried = |protocol: &dyn Registered| protocol.problems(scenario).is_empty();
            scenario.options.contains_key(name) || self.get(name).is_ok_and(is_carried)
        };
        scenario.protocols = scenario
            .protocols
            .iter()
            .filter(|name| runs(name))
            .cloned()
            .collect();
    }

    /// Faults that wait for an observation which nobody makes.
    fn unheard_of(&self, scenario: &Scenario) -> Vec<Problem> {
        let marks: Vec<Mark> = self.iter().flat_map(Registered::marks).collect();
        let marks = marks.iter().map(|(name, _)| *name);
        let names: BTreeSet<&str> = NAMES.into_iter().chain(MOMENTS).chain(marks).collect();
        let unheard_of = |spec: &FaultSpec| match &spec.when {
            WhenSpec::Moment {
                observation,
                named_at,
                ..
            } if !names.contains(observation.as_str()) => {
                let help = match meant(observation, names.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("observations are {} and marks", NAMES.join(", ")),
                };
                let message = format!("nobody ever observes `{observation}`");
                Some(Problem::new(named_at.clone(), message, help))
            }
            _ => None,
        };
        scenario.faults.iter().filter_map(unheard_of).collect()
    }

    /// Runs the plan under a protocol and judges it. With `keep`, the trace, the fates and the plan as it
    /// happened are kept.
    ///
    /// # Errors
    ///
    /// When there is no such protocol, or the scenario's options or machines do not fit it.
    pub fn run(
        &self,
        scenario: &Scenario,
        protocol: &str,
        plan: &Plan,
        keep: bool,
    ) -> Result<Run, String> {
        let fates = FateSource::Seed(plan.seed);
        let protocol = self.get(protocol)?;
        protocol.run(scenario, plan, fates, keep, Watch::Afterwards)
    }

    /// Runs the plan and keeps everything that a run's folder holds. The kept plan leaves out faults whose moment never
    /// came, and a trace names faults by their position in the plan. So the kept plan is what runs here.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn record(&self, scenario: &Scenario, protocol: &str, plan: &Plan) -> Result<Run, String> {
        let run = self.run(scenario, protocol, plan, true)?;
        match &run.kept.plan {
            Some(kept) if kept.faults.len() < plan.faults.len() => {
                let again = self.run(scenario, protocol, kept, true)?;
                assert_eq!(
                    again.digest, run.digest,
                    "a plan without its aims gave another digest: ordain is not deterministic"
                );
                Ok(again)
            }
            _ => Ok(run),
        }
    }

    /// Runs the plan under a protocol, judges its isolation event by event, and ends it at the first violation.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), and when the protocol does not promise serializability.
    pub fn run_until_violation(
        &self,
        scenario: &Scenario,
        protocol: &str,
        plan: &Plan,
    ) -> Result<Run, String> {
        let fates = FateSource::Seed(plan.seed);
        let protocol = self.get(protocol)?;
        protocol.run(scenario, plan, fates, false, Watch::Along)
    }

    /// Runs a recorded plan with its recorded fates, drawing nothing.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn replay(
        &self,
        scenario: &Scenario,
        protocol: &str,
        plan: &Plan,
        fates: &Fates,
    ) -> Result<Run, String> {
        let fates = FateSource::Recorded(fates.clone());
        let protocol = self.get(protocol)?;
        protocol.run(scenario, plan, fates, true, Watch::Afterwards)
    }

    /// The small worlds of every protocol's code.
    pub fn worlds(&self) -> Vec<SmallWorld> {
        self.iter().flat_map(Registered::worlds).collect()
    }
}
