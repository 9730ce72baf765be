//! Small worlds of the protocol code in stateright's Explorer: safety properties with their counterexamples, and readable
//! states.
//!
//! A state is the world with two monitors: one for the properties, and the abstraction, which says which state of the spec
//! the processes are in. Both take the same steps, so each step is held against the spec on the way. A step that the spec
//! does not allow makes the state after it a counterexample of `refinement`.
//!
//! Leads-to is not shown: stateright's `eventually` overlooks cycles, and knows no fairness. `ordain model` decides it.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::hash::Hash;

use stateright::{Model, Property};

use super::refine::{self, Abstraction, StateOf};
use super::spec::{Spec, Value};
use crate::base::process::Process;
use crate::model::checker::leads_to::FairChecker;
use crate::model::worlds::world::{Action, Host, World};

/// A predicate on the states of a world, with its name.
pub type Named<P, G> = (&'static str, fn(&World<P, G>) -> bool);

/// What is asked of the single states of a world.
pub struct Asked<P: Process, G> {
    /// Hold in all states.
    pub always: Vec<Named<P, G>>,
    /// Hold in some state: they guard against worlds that do too little.
    pub sometimes: Vec<Named<P, G>>,
}

impl<P: Process, G: Clone + Eq + Hash + Debug> Asked<P, G> {
    /// Asks a fair checker the same.
    pub fn of<'m>(&self, mut checker: FairChecker<'m, Host<P, G>>) -> FairChecker<'m, Host<P, G>>
    where
        P: 'm,
        G: 'm,
    {
        for &(name, holds) in &self.always {
            checker = checker.always(name, holds);
        }
        for &(name, holds) in &self.sometimes {
            checker = checker.sometimes(name, holds);
        }
        checker
    }
}

/// A world with what is asked of it, and with its abstraction.
pub struct Explored<P: Process, G, A> {
    world: Host<P, G>,
    shadow: Host<P, A>,
    asked: Asked<P, G>,
}

/// How many properties can be shown.
const SHOWN_MAX: usize = 8;

impl<P, G, A> Explored<P, G, A>
where
    P: Process,
    G: Clone + Eq + Hash + Debug,
    A: Abstraction<P>,
{
    /// Both hosts must have the same processes and faults; `shadow` is what [`refine::shadow`] makes.
    ///
    /// # Panics
    ///
    /// If more is asked than can be shown.
    pub fn new(world: Host<P, G>, shadow: Host<P, A>, asked: Asked<P, G>) -> Self {
        assert!(asked.always.len() + asked.sometimes.len() <= SHOWN_MAX);
        Self {
            world,
            shadow,
            asked,
        }
    }

    /// Stateright's properties are plain functions: each asks the predicate of its number.
    fn holds<const N: usize>(&self, state: &Shown<P, G, A>) -> bool {
        let mut asked = self.asked.always.iter().chain(&self.asked.sometimes);
        let (_, holds) = asked.nth(N).expect("a property for each that is asked");
        holds(&state.world)
    }
}

/// A state of an [`Explored`] world; its `Debug` is a table.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shown<P: Process, G: Hash, A: Hash> {
    world: World<P, G>,
    shadow: World<P, A>,
    /// Why the spec does not allow the step into this state, or an earlier one.
    refused: Option<String>,
}

impl<P: Process, G: Hash + Debug, A: Abstraction<P>> Debug for Shown<P, G, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, model, state) in self.shadow.seen.instances() {
            let mut state = model.view(&state);
            if let Value::Record(variables) = &mut state {
                // It bounds the spec's own graph, and means nothing to the code.
                variables.retain(|(variable, _)| variable != "budget");
            }
            writeln!(f, "spec    {name}: {state}")?;
        }
        if let Some(refusal) = &self.refused {
            writeln!(f, "refused {refusal}")?;
        }
        writeln!(f, "seen    {:?}", self.world.seen)?;
        write!(f, "{}", self.world)
    }
}

/// Why the spec does not allow a step; `None` if it does.
fn refusal<P: Process, A: Abstraction<P>>(before: &A, after: &A) -> Option<String> {
    let known = before.instances().into_iter();
    let known: BTreeMap<A::Name, StateOf<P, A>> =
        { known }.map(|(name, _, state)| (name, state)).collect();
    after
        .instances()
        .into_iter()
        .find_map(|(name, model, state)| {
            let initial = || model.init_states().swap_remove(0);
            let before = known.get(&name).cloned().unwrap_or_else(initial);
            let refused = refine::path(&model, &before, &state).err()?;
            Some(format!("{name}: {refused}"))
        })
}

impl<P, G, A> Model for Explored<P, G, A>
where
    P: Process,
    G: Clone + Eq + Hash + Debug,
    A: Abstraction<P>,
{
    type State = Shown<P, G, A>;
    type Action = Action<P::Timer>;

    fn init_states(&self) -> Vec<Self::State> {
        let both = self
            .world
            .init_states()
            .into_iter()
            .zip(self.shadow.init_states());
        both.map(|(world, shadow)| Shown {
            world,
            shadow,
            refused: None,
        })
        .collect()
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>) {
        self.world.actions(&state.world, actions);
    }

    fn next_state(&self, before: &Self::State, action: Self::Action) -> Option<Self::State> {
        let shadow = self.shadow.next_state(&before.shadow, action.clone())?;
        let refused = || refusal::<P, A>(&before.shadow.seen, &shadow.seen);
        Some(Shown {
            world: self.world.next_state(&before.world, action)?,
            refused: before.refused.clone().or_else(refused),
            shadow,
        })
    }

    fn format_action(&self, action: &Self::Action) -> String {
        action.to_string()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        type Ask<M> = fn(&M, &<M as Model>::State) -> bool;
        let asks: [Ask<Self>; SHOWN_MAX] = [
            Self::holds::<0>,
            Self::holds::<1>,
            Self::holds::<2>,
            Self::holds::<3>,
            Self::holds::<4>,
            Self::holds::<5>,
            Self::holds::<6>,
            Self::holds::<7>,
        ];
        let Asked { always, sometimes } = &self.asked;
        let of_all = always.iter().zip(asks);
        let of_some = sometimes.iter().zip(asks.into_iter().skip(always.len()));
        let refines = Property::always(refine::PROPERTY, |_: &Self, state: &Self::State| {
            state.refused.is_none()
        });
        of_all
            .map(|((name, _), ask)| Property::always(name, ask))
            .chain([refines])
            .chain(of_some.map(|((name, _), ask)| Property::sometimes(name, ask)))
            .collect()
    }
}
