//! Temporal properties of any [`stateright::Model`] under weak and strong fairness.
//!
//! stateright's `eventually` has no fairness and misses counterexamples that end in a cycle or pass a join of two paths.
//! [`FairChecker`] decides `[]P`, `<>P`, `[]<>P`, `<>[]P` and `P ~> Q` exactly, on finite graphs, with TLA+'s meaning:
//! every state may stutter for ever unless a fairness constraint forbids it.
//!
//! It can be used alone. A crate that depends on ordain is built with madsim's flag: its `.cargo/config.toml` needs
//! `rustflags = ["--cfg", "madsim"]` under `[build]`, and the same as `rustdocflags` for its own doc tests. (A `RUSTFLAGS`
//! variable replaces the first.) Without the flag ordain does not compile, and says why.
//!
//! ```
//! use ordain::model::checker::leads_to::FairChecker;
//! use stateright::Model;
//!
//! /// A message is sent, lost and sent again, until it is delivered.
//! struct LossyLink;
//!
//! #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
//! enum Link { Idle, InFlight, Delivered }
//!
//! #[derive(Clone, Copy, PartialEq, Eq, Debug)]
//! enum Step { Send, Lose, Deliver }
//!
//! impl Model for LossyLink {
//!     type State = Link;
//!     type Action = Step;
//!     fn init_states(&self) -> Vec<Link> { vec![Link::Idle] }
//!     fn actions(&self, link: &Link, actions: &mut Vec<Step>) {
//!         match link {
//!             Link::Idle => actions.push(Step::Send),
//!             Link::InFlight => actions.extend([Step::Lose, Step::Deliver]),
//!             Link::Delivered => {}
//!         }
//!     }
//!     fn next_state(&self, _: &Link, step: Step) -> Option<Link> {
//!         Some(match step { Step::Send => Link::InFlight, Step::Lose => Link::Idle, Step::Deliver => Link::Delivered })
//!     }
//! }
//!
//! // Weak fairness is not enough: the link may lose the message again and again, which disables Deliver each time.
//! let report = FairChecker::new(&LossyLink)
//!     .weak("Send", |step| *step == Step::Send)
//!     .weak("Deliver", |step| *step == Step::Deliver)
//!     .leads_to("delivery", |link| *link == Link::InFlight, |link| *link == Link::Delivered)
//!     .check()
//!     .unwrap();
//! let lasso = report.verdicts[0].counterexample.as_ref().unwrap();
//! assert_eq!(lasso.names(), ["Send", "(cycle)", "Lose", "Send"]);
//!
//! // Strong fairness is enough: what is enabled again and again happens.
//! let report = FairChecker::new(&LossyLink)
//!     .weak("Send", |step| *step == Step::Send)
//!     .strong("Deliver", |step| *step == Step::Deliver)
//!     .leads_to("delivery", |link| *link == Link::InFlight, |link| *link == Link::Delivered)
//!     .check()
//!     .unwrap();
//! assert!(report.verdicts[0].holds);
//! ```
//!
//! # Method
//!
//! A violation of each property is a fair infinite behaviour that stays, from some point on, in a set of nodes H (for
//! `P ~> Q` those reachable through not-Q from a node with P and not Q), and for `<>[]P` meets not-P again and again. In a
//! finite graph such a behaviour exists if and only if some strongly connected set C within H (single nodes count, because
//! every state may stutter) satisfies each constraint:
//!
//! - WF(A): an A-step inside C, or a node of C in which A is disabled;
//! - SF(A): an A-step inside C, or A disabled in all of C.
//!
//! "A-step" is `<<A>>_vars` (a step of A that changes the state) and ENABLED is taken on the *full* graph, so a step that
//! would leave H still counts as enabled. Maximal components suffice for WF: what fails in C fails in each part of C. For SF it
//! does not: a component that fails SF(A) has A enabled somewhere and no A-step inside, so every fair part avoids the A-enabled
//! nodes: they are deleted and the rest is decomposed again (Emerson and Lei 1987; Manna and Pnueli 1995, "Temporal
//! Verification of Reactive Systems", section on checking fair response). Components come from Tarjan's algorithm (1972), with
//! an explicit stack.
//!
//! Linear in the edges for weak fairness; times the number of strong constraints in the worst case.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Display};
use std::hash::Hash;
use std::time::{Duration, Instant};

use stateright::{Expectation, Model};

use super::graph::{Bits, Counts, Graph, NO_NODE, Step, Unfinished};

/// Weak: an action that is enabled for ever is taken. Strong: an action that is enabled again and again is taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// `WF_vars(A)`.
    Weak,
    /// `SF_vars(A)`.
    Strong,
}

impl Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Strength::Weak => "WF",
            Strength::Strong => "SF",
        })
    }
}

/// The shape of a property; the names are those of `specs/*/manifest.json`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `[]P`: P in every reachable state.
    #[serde(alias = "invariant")]
    Always,
    /// `[][P]_vars`: P of every step that changes the state.
    #[serde(rename = "action")]
    Step,
    /// P in at least one reachable state. Not a property of behaviours: it guards against models that do too little.
    Sometimes,
    /// `<>P`.
    Eventually,
    /// `[]<>P`.
    InfinitelyOften,
    /// `<>[]P`.
    EventuallyAlways,
    /// `P ~> Q`, that is `[](P => <>Q)`.
    LeadsTo,
}

impl Kind {
    /// Whether fairness can change the verdict.
    pub fn is_liveness(self) -> bool {
        !matches!(self, Kind::Always | Kind::Step | Kind::Sometimes)
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Always => "always",
            Kind::Step => "action",
            Kind::Sometimes => "sometimes",
            Kind::Eventually => "eventually",
            Kind::InfinitelyOften => "infinitely-often",
            Kind::EventuallyAlways => "eventually-always",
            Kind::LeadsTo => "leads-to",
        })
    }
}

/// Why no verdict was reached.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The graph could not be built.
    #[error(transparent)]
    Unfinished(#[from] Unfinished),
    /// Liveness on a truncated graph would be unsound.
    #[error(
        "{steps} steps cross the model's boundary: liveness needs the whole graph; bound the state with a budget instead"
    )]
    Bounded {
        /// Steps that were cut.
        steps: u64,
    },
    /// Predicates and constraints are bits of one word.
    #[error("{what}: {count} of them, at most 64 fit")]
    TooMany {
        /// State predicates or constraints.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// `assuming` named a constraint that does not exist.
    #[error("no fairness constraint is called {name:?}")]
    UnknownConstraint {
        /// The name.
        name: String,
    },
    /// The model has no initial state: everything would hold.
    #[error("the model has no initial state, so that every property would hold")]
    NoInitialState,
}

type StatePredicate<'m, S> = Box<dyn Fn(&S) -> bool + 'm>;
type StepPredicate<'m, M> =
    Box<dyn Fn(&<M as Model>::State, &<M as Model>::Action, &<M as Model>::State) -> bool + 'm>;

/// The first step, by its nodes, that breaks a step predicate.
type BadStep = Option<(u32, u32)>;

struct Constraint<'m, M: Model> {
    name: String,
    strength: Strength,
    class: StepPredicate<'m, M>,
}

/// What a property says, with its predicates as bit numbers.
#[derive(Clone, Copy)]
enum Formula {
    Always(u32),
    Step(usize),
    Sometimes(u32),
    Eventually(u32),
    InfinitelyOften(u32),
    EventuallyAlways(u32),
    LeadsTo(u32, u32),
}

struct Property {
    name: String,
    formula: Formula,
    /// Names of the constraints that may be assumed; `None` for all.
    assuming: Option<Vec<String>>,
}

impl Property {
    fn kind(&self) -> Kind {
        match self.formula {
            Formula::Always(_) => Kind::Always,
            Formula::Step(_) => Kind::Step,
            Formula::Sometimes(_) => Kind::Sometimes,
            Formula::Eventually(_) => Kind::Eventually,
            Formula::InfinitelyOften(_) => Kind::InfinitelyOften,
            Formula::EventuallyAlways(_) => Kind::EventuallyAlways,
            Formula::LeadsTo(..) => Kind::LeadsTo,
        }
    }
}

/// Fairness constraints and properties of one model, to be checked on one exploration.
pub struct FairChecker<'m, M: Model> {
    model: &'m M,
    limit: u32,
    predicates: Vec<StatePredicate<'m, M::State>>,
    step_predicates: Vec<StepPredicate<'m, M>>,
    constraints: Vec<Constraint<'m, M>>,
    properties: Vec<Property>,
}

impl<'m, M> FairChecker<'m, M>
where
    M: Model,
    M::State: Clone + Hash + PartialEq,
    M::Action: Clone,
{
    /// A checker without constraints or properties.
    pub fn new(model: &'m M) -> Self {
        Self {
            model,
            limit: u32::MAX - 1,
            predicates: Vec::new(),
            step_predicates: Vec::new(),
            constraints: Vec::new(),
            properties: Vec::new(),
        }
    }

    /// Refuses graphs of more than this many distinct states.
    pub fn limit(mut self, states: u32) -> Self {
        self.limit = states;
        self
    }

    /// `WF_vars(A)`, where A is the class of actions that `class` accepts.
    pub fn weak(self, name: impl Into<String>, class: impl Fn(&M::Action) -> bool + 'm) -> Self {
        self.constraint(Strength::Weak, name.into(), move |_, action, _| {
            class(action)
        })
    }

    /// `SF_vars(A)`, where A is the class of actions that `class` accepts.
    pub fn strong(self, name: impl Into<String>, class: impl Fn(&M::Action) -> bool + 'm) -> Self {
        self.constraint(Strength::Strong, name.into(), move |_, action, _| {
            class(action)
        })
    }

    /// One constraint for each process (or message, or transaction): `\A p \in processes : WF_vars(A(p))`, named `A(p)`.
    pub fn each<P: Debug + 'm>(
        mut self,
        strength: Strength,
        name: &str,
        processes: impl IntoIterator<Item = P>,
        class: impl Fn(&P, &M::Action) -> bool + Clone + 'm,
    ) -> Self {
        for process in processes {
            let (name, class) = (format!("{name}({process:?})"), class.clone());
            self = self.constraint(strength, name, move |_, action, _| class(&process, action));
        }
        self
    }

    /// A constraint on a class of *steps*: (state before, action, state after). For classes that an action's name does not
    /// decide, and for fairness on a part of the variables, `WF_x(A)`: accept the steps of A that change x.
    pub fn constraint(
        mut self,
        strength: Strength,
        name: impl Into<String>,
        class: impl Fn(&M::State, &M::Action, &M::State) -> bool + 'm,
    ) -> Self {
        self.constraints.push(Constraint {
            name: name.into(),
            strength,
            class: Box::new(class),
        });
        self
    }

    /// `[]P`.
    pub fn always(mut self, name: impl Into<String>, p: impl Fn(&M::State) -> bool + 'm) -> Self {
        let formula = Formula::Always(self.predicate(p));
        self.property(name, formula)
    }

    /// `[][P]_vars`: P of every step that changes the state.
    pub fn always_step(
        mut self,
        name: impl Into<String>,
        p: impl Fn(&M::State, &M::Action, &M::State) -> bool + 'm,
    ) -> Self {
        self.step_predicates.push(Box::new(p));
        let formula = Formula::Step(self.step_predicates.len() - 1);
        self.property(name, formula)
    }

    /// P can be reached.
    pub fn sometimes(
        mut self,
        name: impl Into<String>,
        p: impl Fn(&M::State) -> bool + 'm,
    ) -> Self {
        let formula = Formula::Sometimes(self.predicate(p));
        self.property(name, formula)
    }

    /// `<>P`.
    pub fn eventually(
        mut self,
        name: impl Into<String>,
        p: impl Fn(&M::State) -> bool + 'm,
    ) -> Self {
        let formula = Formula::Eventually(self.predicate(p));
        self.property(name, formula)
    }

    /// `[]<>P`.
    pub fn infinitely_often(
        mut self,
        name: impl Into<String>,
        p: impl Fn(&M::State) -> bool + 'm,
    ) -> Self {
        let formula = Formula::InfinitelyOften(self.predicate(p));
        self.property(name, formula)
    }

    /// `<>[]P`.
    pub fn eventually_always(
        mut self,
        name: impl Into<String>,
        p: impl Fn(&M::State) -> bool + 'm,
    ) -> Self {
        let formula = Formula::EventuallyAlways(self.predicate(p));
        self.property(name, formula)
    }

    /// `P ~> Q`.
    pub fn leads_to(
        mut self,
        name: impl Into<String>,
        p: impl Fn(&M::State) -> bool + 'm,
        q: impl Fn(&M::State) -> bool + 'm,
    ) -> Self {
        let formula = Formula::LeadsTo(self.predicate(p), self.predicate(q));
        self.property(name, formula)
    }

    /// The properties that the model itself declares, `eventually` with TLA+'s meaning instead of stateright's.
    pub fn declared_properties(mut self) -> Self {
        let model = self.model;
        for declared in model.properties() {
            let holds = move |state: &M::State| (declared.condition)(model, state);
            self = match declared.expectation {
                Expectation::Always => self.always(declared.name, holds),
                Expectation::Eventually => self.eventually(declared.name, holds),
                Expectation::Sometimes => self.sometimes(declared.name, holds),
            };
        }
        self
    }

    /// Lets the property added last assume only these constraints, instead of all of them.
    ///
    /// # Panics
    ///
    /// If no property was added yet.
    pub fn assuming<N: Into<String>>(mut self, constraints: impl IntoIterator<Item = N>) -> Self {
        let last = self
            .properties
            .last_mut()
            .expect("`assuming` follows a property");
        last.assuming = Some(constraints.into_iter().map(Into::into).collect());
        self
    }

    fn predicate(&mut self, p: impl Fn(&M::State) -> bool + 'm) -> u32 {
        self.predicates.push(Box::new(p));
        self.predicates.len() as u32 - 1
    }

    fn property(mut self, name: impl Into<String>, formula: Formula) -> Self {
        self.properties.push(Property {
            name: name.into(),
            formula,
            assuming: None,
        });
        self
    }

    /// Explores the model once and decides every property.
    ///
    /// # Errors
    ///
    /// See [`Refusal`]. A violated property is not an error.
    pub fn check(&self) -> Result<Report<M::State, M::Action>, Refusal>
    where
        M::Action: Debug,
    {
        let assumed = self.assumed_constraints()?;
        let started = Instant::now();
        let (graph, bad_steps) = self.explore()?;
        let explore_time = started.elapsed();
        let live = self
            .properties
            .iter()
            .any(|property| property.kind().is_liveness());
        if graph.is_empty() {
            return Err(Refusal::NoInitialState);
        }
        if live && graph.counts.cut > 0 {
            return Err(Refusal::Bounded {
                steps: graph.counts.cut,
            });
        }
        let started = Instant::now();
        let verdicts = self
            .properties
            .iter()
            .zip(assumed)
            .map(|(property, assumed)| self.decide(&graph, property, assumed, &bad_steps))
            .collect();
        let check_time = started.elapsed();
        Ok(Report {
            counts: graph.counts,
            graph_bytes: graph.size_bytes(),
            explore_time,
            check_time,
            verdicts,
        })
    }

    /// The constraints that each property may assume, as bits.
    fn assumed_constraints(&self) -> Result<Vec<Bits>, Refusal> {
        for (what, count) in [
            ("state predicates", self.predicates.len()),
            ("fairness constraints", self.constraints.len()),
        ] {
            if count > Bits::BITS as usize {
                return Err(Refusal::TooMany { what, count });
            }
        }
        let bits_of = |names: &Vec<String>| {
            names.iter().try_fold(0, |bits, name| {
                let bit = self
                    .constraints
                    .iter()
                    .position(|constraint| constraint.name == *name);
                bit.map(|bit| bits | 1 << bit)
                    .ok_or_else(|| Refusal::UnknownConstraint { name: name.clone() })
            })
        };
        let all = self
            .constraints
            .iter()
            .enumerate()
            .fold(0, |bits, (bit, _)| bits | 1 << bit);
        self.properties
            .iter()
            .map(|property| property.assuming.as_ref().map_or(Ok(all), bits_of))
            .collect()
    }

    /// The graph, and for each step predicate the first step that breaks it.
    fn explore(&self) -> Result<(Graph, Vec<BadStep>), Unfinished> {
        let mut bad_steps = vec![None; self.step_predicates.len()];
        let facts = |state: &M::State| {
            self.predicates
                .iter()
                .enumerate()
                .fold(0, |bits, (bit, p)| bits | Bits::from(p(state)) << bit)
        };
        let classes = |step: &Step<'_, M>| {
            for (bad, p) in bad_steps.iter_mut().zip(&self.step_predicates) {
                if bad.is_none() && step.to != NO_NODE && !p(step.before, step.action, step.after) {
                    *bad = Some((step.from, step.to));
                }
            }
            self.class_of(step)
        };
        let graph = Graph::build(self.model, self.limit, facts, classes)?;
        Ok((graph, bad_steps))
    }

    fn class_of(&self, step: &Step<'_, M>) -> Bits {
        let member =
            |c: &Constraint<'m, M>| Bits::from((c.class)(step.before, step.action, step.after));
        self.constraints
            .iter()
            .enumerate()
            .fold(0, |bits, (bit, constraint)| {
                bits | member(constraint) << bit
            })
    }

    fn decide(
        &self,
        graph: &Graph,
        property: &Property,
        assumed: Bits,
        bad_steps: &[BadStep],
    ) -> Verdict<M::State, M::Action>
    where
        M::Action: Debug,
    {
        let holds_in = |bit: u32| move |node: u32| graph.facts(node) >> bit & 1 == 1;
        let nodes = || 0..graph.len() as u32;
        let count = |p: &dyn Fn(u32) -> bool| nodes().filter(|&node| p(node)).count() as u64;
        let search = |starts: &[u32], inside: &dyn Fn(u32) -> bool, again: &dyn Fn(u32) -> bool| {
            let (weak, strong) = self.split(assumed);
            Search::new(graph, weak, strong, again).run(starts, inside)
        };
        let mut witness = None;
        let (exercised, path) = match property.formula {
            Formula::Always(p) => {
                let bad = nodes().find(|&node| !holds_in(p)(node));
                (graph.counts.distinct, bad.map(|node| Path::to(graph, node)))
            }
            Formula::Step(index) => {
                let bad = bad_steps[index].map(|(from, to)| Path::to(graph, from).then(to));
                (graph.edge_count() as u64, bad)
            }
            Formula::Sometimes(p) => {
                let found = nodes().find(|&node| holds_in(p)(node));
                witness = found.map(|node| Path::to(graph, node));
                (count(&holds_in(p)), None)
            }
            Formula::Eventually(p) => {
                let starts: Vec<u32> = graph.initial().filter(|&node| !holds_in(p)(node)).collect();
                (
                    starts.len() as u64,
                    search(&starts, &|node| !holds_in(p)(node), &|_| true),
                )
            }
            Formula::InfinitelyOften(p) => {
                let starts: Vec<u32> = nodes().filter(|&node| !holds_in(p)(node)).collect();
                (
                    starts.len() as u64,
                    search(&starts, &|node| !holds_in(p)(node), &|_| true),
                )
            }
            Formula::EventuallyAlways(p) => {
                let starts: Vec<u32> = graph.initial().collect();
                (
                    count(&|node| !holds_in(p)(node)),
                    search(&starts, &|_| true, &|node| !holds_in(p)(node)),
                )
            }
            Formula::LeadsTo(p, q) => {
                let starts: Vec<u32> = nodes()
                    .filter(|&node| holds_in(p)(node) && !holds_in(q)(node))
                    .collect();
                (
                    starts.len() as u64,
                    search(&starts, &|node| !holds_in(q)(node), &|_| true),
                )
            }
        };
        let holds = match property.formula {
            Formula::Sometimes(_) => witness.is_some(),
            _ => path.is_none(),
        };
        let live = property.kind().is_liveness();
        Verdict {
            name: property.name.clone(),
            kind: property.kind(),
            fairness: if live {
                self.fairness_names(assumed)
            } else {
                Vec::new()
            },
            holds,
            exercised,
            counterexample: path
                .map(|path| self.tell(graph, &path, if live { assumed } else { 0 })),
            example: witness.map(|path| self.tell(graph, &path, 0)),
        }
    }

    /// The weak and the strong constraints among these.
    fn split(&self, assumed: Bits) -> (Bits, Bits) {
        let strong = self
            .constraints
            .iter()
            .enumerate()
            .filter(|(_, constraint)| constraint.strength == Strength::Strong)
            .fold(0, |bits, (bit, _)| bits | 1 << bit);
        (assumed & !strong, assumed & strong)
    }

    fn fairness_names(&self, assumed: Bits) -> Vec<String> {
        ones(assumed).map(|bit| self.constraint_name(bit)).collect()
    }

    fn constraint_name(&self, bit: u32) -> String {
        let constraint = &self.constraints[bit as usize];
        format!("{} {}", constraint.strength, constraint.name)
    }

    /// Turns a path of nodes into states and actions by running the model along it.
    fn tell(&self, graph: &Graph, path: &Path, assumed: Bits) -> Counterexample<M::State, M::Action>
    where
        M::Action: Debug,
    {
        let nodes: Vec<u32> = path.moves.iter().map(|step| step.to).collect();
        let wanted = |at: usize, step: &Step<'_, M>| {
            let class = path.moves[at + 1].class;
            class == 0 || self.class_of(step) & class == class
        };
        let (initial, steps) = graph.replay(self.model, &nodes, wanted);
        let mut steps: Vec<NamedStep<M::State, M::Action>> = steps
            .into_iter()
            .map(|(action, state)| NamedStep {
                name: self.model.format_action(&action),
                action,
                state,
            })
            .collect();
        let cycle = path.cycle_from.map(|from| steps.split_off(from));
        let why_fair = self.why_fair(graph, path, assumed);
        Counterexample {
            initial,
            stem: steps,
            cycle,
            why_fair,
        }
    }

    /// For each constraint, what on the cycle satisfies it.
    fn why_fair(&self, graph: &Graph, path: &Path, assumed: Bits) -> Vec<(String, &'static str)> {
        let Some(from) = path.cycle_from else {
            return Vec::new();
        };
        let cycle = &path.moves[from..];
        let taken = cycle[1..].iter().fold(0, |bits, step| bits | step.class);
        let enabled = |at: &Move| graph.enabled(at.to);
        let sometimes_enabled = cycle.iter().fold(0, |bits, at| bits | enabled(at));
        let sometimes_disabled = cycle.iter().fold(0, |bits, at| bits | !enabled(at));
        ones(assumed)
            .map(|bit| {
                let is = |bits: Bits| bits >> bit & 1 == 1;
                let why = match () {
                    () if is(taken) => "taken on the cycle",
                    () if !is(sometimes_enabled) => "disabled all along the cycle",
                    () => {
                        assert!(
                            is(sometimes_disabled) && is(self.split(assumed).0),
                            "the cycle is fair"
                        );
                        "disabled at a point of the cycle"
                    }
                };
                (self.constraint_name(bit), why)
            })
            .collect()
    }
}

/// The numbers of the bits that are set.
fn ones(bits: Bits) -> impl Iterator<Item = u32> {
    (0..Bits::BITS).filter(move |bit| bits >> bit & 1 == 1)
}

/// What a check found.
#[derive(Clone, PartialEq, Debug)]
pub struct Report<S, A> {
    /// Sizes of the reachable graph.
    pub counts: Counts,
    /// Bytes that the graph took, without the search's own arrays.
    pub graph_bytes: usize,
    /// Time spent exploring.
    pub explore_time: Duration,
    /// Time spent deciding all properties.
    pub check_time: Duration,
    /// One for each property, in the order in which they were added.
    pub verdicts: Vec<Verdict<S, A>>,
}

impl<S, A> Report<S, A> {
    /// The verdict on the property of this name.
    pub fn verdict(&self, name: &str) -> Option<&Verdict<S, A>> {
        self.verdicts.iter().find(|verdict| verdict.name == name)
    }
}

/// Whether a property holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict<S, A> {
    /// The property.
    pub name: String,
    /// Its shape.
    pub kind: Kind,
    /// The constraints that it assumed, such as `WF Deliver`; empty for safety.
    pub fairness: Vec<String>,
    /// The verdict.
    pub holds: bool,
    /// How often the property had a chance to fail: for `P ~> Q` the states with P and not Q, for `<>P` the initial states without
    /// P, for `[]<>P` and `<>[]P` the states without P, for a step property the steps, otherwise the states. A liveness
    /// property with 0 holds *vacuously*.
    pub exercised: u64,
    /// A behaviour that violates it.
    pub counterexample: Option<Counterexample<S, A>>,
    /// For `sometimes`: a behaviour that reaches it.
    pub example: Option<Counterexample<S, A>>,
}

/// A behaviour: for safety a finite one, for liveness a stem and a cycle that repeats for ever.
#[derive(Clone, PartialEq, Debug)]
pub struct Counterexample<S, A> {
    /// The first state.
    pub initial: S,
    /// The steps from there to the bad state, or to the cycle.
    pub stem: Vec<NamedStep<S, A>>,
    /// For liveness: the steps that repeat for ever, ending in the state where they begin; empty if the behaviour stutters.
    pub cycle: Option<Vec<NamedStep<S, A>>>,
    /// For liveness: each fairness constraint, and why it allows this.
    pub why_fair: Vec<(String, &'static str)>,
}

/// A step of a counterexample.
#[derive(Clone, PartialEq, Debug)]
pub struct NamedStep<S, A> {
    /// The action as the model names it.
    pub name: String,
    /// The action.
    pub action: A,
    /// The state after it.
    pub state: S,
}

impl<S, A> Counterexample<S, A> {
    /// The names of the steps, with `(cycle)` before those that repeat and `(stutter)` where nothing happens any more.
    pub fn names(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.stem.iter().map(|step| step.name.as_str()).collect();
        match &self.cycle {
            None => {}
            Some(cycle) if cycle.is_empty() => all.push("(stutter)"),
            Some(cycle) => {
                all.push("(cycle)");
                all.extend(cycle.iter().map(|step| step.name.as_str()));
            }
        }
        all
    }

    /// A line for each step with its name and what `show` makes of the state before it (none for the first) and the one
    /// after it; then, by reason, the constraints that allow the cycle.
    pub fn describe(&self, mut show: impl FnMut(Option<&S>, &S) -> String) -> String {
        let mut lines = Vec::new();
        let mut before = None;
        let mut line = |name: &str, after| {
            let number = lines.len();
            let text = format!("{number:>3}. {name:<20} {}", show(before, after));
            lines.push(text.trim_end().to_owned());
            before = Some(after);
            number
        };
        line("start", &self.initial);
        for step in &self.stem {
            line(&step.name, &step.state);
        }
        let mut repeats_from = None;
        for step in self.cycle.iter().flatten() {
            let number = line(&step.name, &step.state);
            repeats_from.get_or_insert(number);
        }
        match repeats_from {
            Some(from) => lines.insert(from, "     then for ever:".to_owned()),
            None if self.cycle.is_some() => lines.push("     nothing happens any more".to_owned()),
            None => {}
        }
        let mut reasons = Vec::<(&str, Vec<&str>)>::new();
        for (name, reason) in &self.why_fair {
            match reasons.iter_mut().find(|(known, _)| known == reason) {
                Some((_, names)) => names.push(name),
                None => reasons.push((reason, vec![name])),
            }
        }
        for (reason, names) in reasons {
            lines.push(format!("     fair, {reason}: {}", names.join(", ")));
        }
        lines.join("\n") + "\n"
    }
}

impl<S: Debug, A> Display for Counterexample<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(|_, state| format!("{state:?}")))
    }
}

/// A node on a path and the constraints that the step into it has to belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Move {
    to: u32,
    class: Bits,
}

/// A path of nodes from an initial one; `cycle_from` is the position of the node at which it closes.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Path {
    moves: Vec<Move>,
    cycle_from: Option<usize>,
}

impl Path {
    /// A shortest path to a node.
    fn to(graph: &Graph, node: u32) -> Self {
        let mut moves = vec![Move { to: node, class: 0 }];
        let mut at = node;
        while graph.parent(at) != NO_NODE {
            at = graph.parent(at);
            moves.push(Move { to: at, class: 0 });
        }
        moves.reverse();
        Self {
            moves,
            cycle_from: None,
        }
    }

    fn then(mut self, to: u32) -> Self {
        self.moves.push(Move { to, class: 0 });
        self
    }
}

/// The search for a fair component, with its scratch arrays indexed by node.
struct Search<'g> {
    graph: &'g Graph,
    weak: Bits,
    strong: Bits,
    /// The cycle has to meet a node of this kind.
    again: &'g dyn Fn(u32) -> bool,
    /// The part of H that a node belongs to; 0 outside.
    region: Vec<u32>,
    /// Tarjan's visiting order, 0 before the visit.
    order: Vec<u32>,
    low: Vec<u32>,
    /// The component that a node was put into, 0 before.
    component: Vec<u32>,
    components: u32,
    /// Components that are fair, ascending.
    fair: Vec<u32>,
}

/// What one component offers.
struct Offer {
    /// Constraints with a step inside.
    inside: Bits,
    /// Constraints enabled in some node, and disabled in some node.
    enabled: Bits,
    disabled: Bits,
    again: bool,
}

impl<'g> Search<'g> {
    fn new(graph: &'g Graph, weak: Bits, strong: Bits, again: &'g dyn Fn(u32) -> bool) -> Self {
        let zeros = || vec![0; graph.len()];
        Self {
            graph,
            weak,
            strong,
            again,
            region: zeros(),
            order: zeros(),
            low: zeros(),
            component: zeros(),
            components: 0,
            fair: Vec::new(),
        }
    }

    /// A fair lasso that from one of `starts` on stays `inside`.
    fn run(mut self, starts: &[u32], inside: &dyn Fn(u32) -> bool) -> Option<Path> {
        let nodes = self.reach(starts, inside);
        self.find_fair(nodes);
        if self.fair.is_empty() {
            return None;
        }
        let mut path = self.stem(starts, inside);
        self.close_cycle(&mut path);
        Some(path)
    }

    /// H: the nodes reachable from `starts` through `inside`, as region 1.
    fn reach(&mut self, starts: &[u32], inside: &dyn Fn(u32) -> bool) -> Vec<u32> {
        let mut found: Vec<u32> = starts.to_vec();
        starts
            .iter()
            .for_each(|&node| self.region[node as usize] = 1);
        let mut next = 0;
        while let Some(&node) = found.get(next) {
            next += 1;
            for edge in self.graph.edges(node) {
                let to = self.graph.target(edge);
                if self.region[to as usize] == 0 && inside(to) {
                    self.region[to as usize] = 1;
                    found.push(to);
                }
            }
        }
        found
    }

    /// Fills `fair`. Regions are worked off one by one: the first is H, each other what a failed SF leaves of a component.
    fn find_fair(&mut self, nodes: Vec<u32>) {
        let mut regions = 1;
        let mut work = vec![(1, nodes)];
        while let Some((region, nodes)) = work.pop() {
            let mut rests = Vec::new();
            self.components_of(region, &nodes, &mut |search, members| {
                if let Some(failed) = search.judge(members) {
                    rests.push((failed, members.to_vec()));
                }
            });
            for (failed, members) in rests {
                regions += 1;
                let rest = self.without_enabled(regions, failed, members);
                if !rest.is_empty() {
                    work.push((regions, rest));
                }
            }
        }
        self.fair.sort_unstable();
    }

    /// Notes a fair component; gives the strong constraints to recurse on where only they fail.
    fn judge(&mut self, members: &[u32]) -> Option<Bits> {
        let offer = self.offer(members);
        let unmet_weak = self.weak & !offer.inside & !offer.disabled;
        let unmet_strong = self.strong & !offer.inside & offer.enabled;
        if unmet_weak != 0 || !offer.again {
            return None;
        }
        if unmet_strong == 0 {
            self.fair.push(self.components);
            return None;
        }
        Some(unmet_strong)
    }

    fn offer(&self, members: &[u32]) -> Offer {
        let mut offer = Offer {
            inside: 0,
            enabled: 0,
            disabled: 0,
            again: false,
        };
        for &node in members {
            offer.enabled |= self.graph.enabled(node);
            offer.disabled |= !self.graph.enabled(node);
            offer.again = offer.again || (self.again)(node);
            for edge in self.graph.edges(node) {
                if self.component[self.graph.target(edge) as usize] == self.components {
                    offer.inside |= self.graph.class(edge);
                }
            }
        }
        offer
    }

    /// Makes the members in which none of `failed` is enabled a region of their own.
    fn without_enabled(&mut self, region: u32, failed: Bits, mut members: Vec<u32>) -> Vec<u32> {
        members.retain(|&node| self.graph.enabled(node) & failed == 0);
        for &node in &members {
            self.region[node as usize] = region;
            self.order[node as usize] = 0;
            self.component[node as usize] = 0;
        }
        members
    }

    /// Tarjan's algorithm on one region, calling `each` with every component's members.
    fn components_of(
        &mut self,
        region: u32,
        nodes: &[u32],
        each: &mut impl FnMut(&mut Self, &[u32]),
    ) {
        let mut visited = 0;
        let mut stack = Vec::new();
        let mut calls: Vec<(u32, usize)> = Vec::new();
        for &root in nodes {
            if self.order[root as usize] != 0 {
                continue;
            }
            self.visit(root, &mut visited, &mut stack, &mut calls);
            while let Some((node, edge)) = calls.last_mut() {
                if *edge < self.graph.edges(*node).end {
                    let to = self.graph.target(*edge);
                    let from = *node as usize;
                    *edge += 1;
                    if self.region[to as usize] != region {
                        continue;
                    }
                    if self.order[to as usize] == 0 {
                        self.visit(to, &mut visited, &mut stack, &mut calls);
                    } else if self.component[to as usize] == 0 {
                        self.low[from] = self.low[from].min(self.order[to as usize]);
                    }
                } else {
                    let (node, _) = calls.pop().expect("just seen");
                    if let Some(&(caller, _)) = calls.last() {
                        self.low[caller as usize] =
                            self.low[caller as usize].min(self.low[node as usize]);
                    }
                    if self.low[node as usize] == self.order[node as usize] {
                        self.pop_component(node, &mut stack, each);
                    }
                }
            }
        }
    }

    fn visit(
        &mut self,
        node: u32,
        visited: &mut u32,
        stack: &mut Vec<u32>,
        calls: &mut Vec<(u32, usize)>,
    ) {
        *visited += 1;
        self.order[node as usize] = *visited;
        self.low[node as usize] = *visited;
        stack.push(node);
        calls.push((node, self.graph.edges(node).start));
    }

    fn pop_component(
        &mut self,
        root: u32,
        stack: &mut Vec<u32>,
        each: &mut impl FnMut(&mut Self, &[u32]),
    ) {
        let at = stack
            .iter()
            .rposition(|&node| node == root)
            .expect("a root is on the stack");
        self.components += 1;
        for &node in &stack[at..] {
            self.component[node as usize] = self.components;
        }
        each(self, &stack[at..]);
        stack.truncate(at);
    }

    fn is_fair(&self, node: u32) -> bool {
        self.fair
            .binary_search(&self.component[node as usize])
            .is_ok()
    }

    /// A shortest path from an initial node to one of `starts` and on, inside, to a fair component.
    fn stem(&self, starts: &[u32], inside: &dyn Fn(u32) -> bool) -> Path {
        let mut starts = starts.to_vec();
        starts.sort_unstable();
        let mut starts = starts.into_iter().peekable();
        // Node numbers rise with depth, so the starts of one level are a run.
        let mut came_from = vec![NO_NODE; self.graph.len()];
        let mut seen = vec![false; self.graph.len()];
        let mut frontier: Vec<u32> = Vec::new();
        for level in 0.. {
            while let Some(start) = starts.next_if(|&start| start < self.graph.level(level).end) {
                if !std::mem::replace(&mut seen[start as usize], true) {
                    frontier.push(start);
                }
            }
            if let Some(&end) = frontier.iter().find(|&&node| self.is_fair(node)) {
                return self.join(end, &came_from);
            }
            let mut next = Vec::new();
            for node in frontier {
                for edge in self.graph.edges(node) {
                    let to = self.graph.target(edge);
                    if inside(to) && !std::mem::replace(&mut seen[to as usize], true) {
                        came_from[to as usize] = node;
                        next.push(to);
                    }
                }
            }
            frontier = next;
        }
        unreachable!("every fair component can be reached from a start")
    }

    fn join(&self, end: u32, came_from: &[u32]) -> Path {
        let mut inner = vec![];
        let mut at = end;
        while came_from[at as usize] != NO_NODE {
            inner.push(Move { to: at, class: 0 });
            at = came_from[at as usize];
        }
        let mut path = Path::to(self.graph, at);
        path.moves.extend(inner.into_iter().rev());
        path
    }

    /// Walks from the path's end through its component until every constraint has its witness, and back.
    fn close_cycle(&self, path: &mut Path) {
        let end = |path: &Path| path.moves.last().expect("a path has a node").to;
        let members = self.component[end(path) as usize];
        if let Some(walk) = self.walk(members, end(path), |at| self.idles(members, at.to)) {
            // Standing still there for ever is fair: the easiest counterexample to read.
            path.moves.extend(walk);
            path.cycle_from = Some(path.moves.len() - 1);
            return;
        }
        let from = path.moves.len() - 1;
        let home = end(path);
        let mut goals = self.goals(members);
        let mut met_again = false;
        let meet = |at: Move, first: bool, goals: &mut Bits, met_again: &mut bool| {
            *goals &= !(self.weak & !self.graph.enabled(at.to));
            *goals &= if first { !0 } else { !at.class };
            *met_again |= (self.again)(at.to);
        };
        meet(
            Move { to: home, class: 0 },
            true,
            &mut goals,
            &mut met_again,
        );
        while goals != 0 || !met_again {
            let serves = |at: Move| {
                at.class & goals != 0
                    || self.weak & goals & !self.graph.enabled(at.to) != 0
                    || (!met_again && (self.again)(at.to))
            };
            let walk = self
                .walk(members, end(path), serves)
                .expect("a fair component has every witness");
            for at in walk {
                meet(at, false, &mut goals, &mut met_again);
                path.moves.push(at);
            }
        }
        path.moves.extend(
            self.walk(members, end(path), |at| at.to == home)
                .expect("strongly connected"),
        );
        path.cycle_from = Some(from);
    }

    /// The constraints that need a witness on the cycle: all weak ones, and the strong ones enabled somewhere.
    fn goals(&self, members: u32) -> Bits {
        let nodes = 0..self.graph.len() as u32;
        let enabled = nodes
            .filter(|&node| self.component[node as usize] == members)
            .fold(0, |bits, node| bits | self.graph.enabled(node));
        self.weak | self.strong & enabled
    }

    /// Whether stuttering for ever in this node is fair and meets `again`.
    fn idles(&self, members: u32, node: u32) -> bool {
        assert_eq!(self.component[node as usize], members);
        self.graph.enabled(node) & (self.weak | self.strong) == 0 && (self.again)(node)
    }

    /// A shortest walk inside a component, possibly of no steps, whose last move is accepted.
    fn walk(&self, members: u32, from: u32, accept: impl Fn(Move) -> bool) -> Option<Vec<Move>> {
        if accept(Move { to: from, class: 0 }) {
            return Some(Vec::new());
        }
        let mut came_by: std::collections::BTreeMap<u32, (u32, Bits)> =
            [(from, (NO_NODE, 0))].into();
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            for edge in self.graph.edges(node) {
                let at = Move {
                    to: self.graph.target(edge),
                    class: self.graph.class(edge),
                };
                if self.component[at.to as usize] != members {
                    continue;
                }
                if accept(at) {
                    return Some(unwind(&came_by, node, at));
                }
                came_by.entry(at.to).or_insert_with(|| {
                    queue.push_back(at.to);
                    (node, at.class)
                });
            }
        }
        None
    }
}

/// The walk that ends with the move `last` out of `node`.
fn unwind(
    came_by: &std::collections::BTreeMap<u32, (u32, Bits)>,
    mut node: u32,
    last: Move,
) -> Vec<Move> {
    let mut moves = vec![last];
    while let Some(&(before, class)) = came_by.get(&node)
        && before != NO_NODE
    {
        moves.push(Move { to: node, class });
        node = before;
    }
    moves.reverse();
    moves
}
