//! `specs/saga/Saga.tla` in Rust: an orchestrated saga with a pivot.
//!
//! The spec holds the explanations; here the same actions stand in the same order under the same names.

use std::fmt;

use stateright::{Model, Property};

use super::value::{Config, ConfigError, Value};
use super::{Invariant, Members, Spec, label, unknown};
use crate::model::checker::leads_to::{FairChecker, Strength};

/// The largest number of steps.
pub const STEPS_MAX: usize = 6;

/// The constants of the spec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Saga {
    /// How many steps.
    pub steps: u8,
    /// The pivot, numbered from 0.
    pub pivot: u8,
    /// Steps after the pivot may refuse.
    pub refusers: bool,
    /// The faults that a behaviour may contain.
    pub budget: Budget,
    /// Losses and cuts may recur for ever.
    pub forever: bool,
    /// Clients read what the services hold.
    pub readers: bool,
    /// They wait for the end of the saga.
    pub semantic_locks: bool,
    /// Messages are never used up.
    pub duplicates: bool,
    /// A crash takes the position back to the last forced record.
    pub lazy_log: bool,
    /// The step that a broken variant adds.
    pub flaw: Option<Flaw>,
}

/// The broken variants in `MCSagaBroken.tla`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// A compensation of a step that did not happen leaves no tombstone.
    CompensateBlindly,
    /// One compensation does not wait for the one before.
    RushBack,
    /// A pivot that timed out is taken for one that did not happen.
    GiveUpPivot,
}

/// Where the saga stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // The field's own terms.
pub enum Phase {
    Idle,
    Forward,
    Backward,
    Completed,
    Compensated,
}

/// The reply to the orchestrator's current step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Reply {
    None,
    Ok,
    No,
}

/// What a service did.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Service {
    None,
    Done,
    Refused,
    Undone,
}

/// The messages between the orchestrator and one service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Message {
    Do,
    Undo,
    Done,
    Refused,
    Undone,
}

const MESSAGES: [Message; 5] = [
    Message::Do,
    Message::Undo,
    Message::Done,
    Message::Refused,
    Message::Undone,
];

/// The faults that may still happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Budget {
    /// Crashes of the orchestrator.
    pub orch: u8,
    /// Crashes of services.
    pub service: u8,
    /// Lost messages.
    pub loss: u8,
    /// Cut links.
    pub cut: u8,
}

/// The variables of the spec. Steps are numbered from 0 here, from 1 there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State {
    /// `phase`.
    pub phase: Phase,
    /// `step`.
    pub step: S,
    /// `up`.
    pub up: bool,
    /// `reply`.
    pub reply: Reply,
    /// `svc`, beyond the number of steps `None`.
    pub svc: [Service; STEPS_MAX],
    /// `down`.
    pub down: Members,
    /// `cut`.
    pub cut: Members,
    /// `net`: for each kind of message the steps that it speaks of.
    pub net: [Members; MESSAGES.len()],
    /// `seen`.
    pub seen: Members,
    /// `budget`.
    pub budget: Budget,
}

/// A step and its service by number, from 0; shown as in the spec.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct S(pub u8);

impl fmt::Debug for S {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 + 1)
    }
}

/// The actions of the spec.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // Saga.tla explains each.
pub enum Action {
    Begin,
    Ask,
    AskUndo,
    ReceiveDone(S),
    ReceiveRefused(S),
    ReceiveUndone(S),
    Advance,
    Retreat,
    GiveUp,
    Insist,
    BackUp,
    CrashOrchestrator,
    RestartOrchestrator,
    /// Where it takes up its work again.
    RecoverFromLog(S),
    Execute(S),
    Refuse(S),
    Repeat(S),
    Compensate(S),
    CrashService(S),
    RestartService(S),
    Read(S),
    Lose(Message, S),
    Cut(S),
    Heal(S),
    CompensateBlindly(S),
    RushBack,
    GiveUpPivot,
}

impl State {
    /// Whether this message is in flight.
    pub fn in_flight(&self, message: Message, i: S) -> bool {
        self.net[message as usize].has(i.0)
    }

    fn svc(&self, i: S) -> Service {
        self.svc[usize::from(i.0)]
    }

    fn put(&mut self, message: Message, i: S) {
        let set = &mut self.net[message as usize];
        *set = set.with(i.0);
    }

    /// Takes a message off the network.
    fn lose(&mut self, message: Message, i: S) {
        let set = &mut self.net[message as usize];
        *set = set.without(i.0);
    }

    fn at_service(&self, message: Message, i: S) -> bool {
        self.in_flight(message, i) && !self.cut.has(i.0) && !self.down.has(i.0)
    }

    fn at_orchestrator(&self, message: Message, i: S) -> bool {
        self.in_flight(message, i) && !self.cut.has(i.0) && self.up
    }

    fn finished(&self) -> bool {
        matches!(self.phase, Phase::Completed | Phase::Compensated)
    }

    /// Turns to the step before the present one.
    fn step_back(&mut self) {
        if self.step.0 == 0 {
            self.phase = Phase::Compensated;
        } else {
            (self.phase, self.step) = (Phase::Backward, S(self.step.0 - 1));
        }
        self.reply = Reply::None;
    }
}

impl Saga {
    fn each(&self) -> impl Iterator<Item = S> + use<> {
        (0..self.steps).map(S)
    }

    /// What a delivery does to the network: `Without` in the spec.
    fn take(&self, after: &mut State, message: Message, i: S) {
        if !self.duplicates {
            after.lose(message, i);
        }
    }

    fn hear(&self, after: &mut State, message: Message, i: S, during: Phase, what: Reply) {
        self.take(after, message, i);
        if after.phase == during && after.step == i && after.reply == Reply::None {
            after.reply = what;
        }
    }

    fn answer(&self, after: &mut State, (request, answer): (Message, Message), i: S, to: Service) {
        self.take(after, request, i);
        after.svc[usize::from(i.0)] = to;
        after.put(answer, i);
    }

    /// Where an orchestrator that has forgotten its position takes it up.
    fn recovered(&self, state: &State, actions: &mut Vec<Action>) {
        let pivot = self.pivot;
        let from = match state.phase {
            Phase::Forward if state.step.0 < pivot => pivot - 1..pivot,
            Phase::Forward => pivot..pivot + 1,
            Phase::Backward => state.step.0..pivot,
            Phase::Idle | Phase::Completed | Phase::Compensated => 0..0,
        };
        actions.extend(from.map(|step| Action::RecoverFromLog(S(step))));
    }

    fn orchestrator_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let mut when = |enabled: bool, action: Action| {
            if enabled {
                actions.push(action);
            }
        };
        when(state.phase == Phase::Idle, Action::Begin);
        when(!state.up, Action::RestartOrchestrator);
        if !state.up {
            if self.lazy_log {
                self.recovered(state, actions);
            }
            return;
        }
        let (forward, backward) = (
            state.phase == Phase::Forward,
            state.phase == Phase::Backward,
        );
        let open = state.reply == Reply::None;
        when(
            forward && open && !state.in_flight(Message::Do, state.step),
            Action::Ask,
        );
        when(
            backward && open && !state.in_flight(Message::Undo, state.step),
            Action::AskUndo,
        );
        when(forward && state.reply == Reply::Ok, Action::Advance);
        when(
            forward && state.reply == Reply::No && state.step.0 <= self.pivot,
            Action::Retreat,
        );
        when(forward && open && state.step.0 < self.pivot, Action::GiveUp);
        when(
            forward && state.reply == Reply::No && state.step.0 > self.pivot,
            Action::Insist,
        );
        when(backward && state.reply == Reply::Ok, Action::BackUp);
        when(
            (forward || backward) && state.budget.orch > 0,
            Action::CrashOrchestrator,
        );
        let pivot_open = forward && open && state.step.0 == self.pivot;
        when(
            self.flaw == Some(Flaw::GiveUpPivot) && pivot_open,
            Action::GiveUpPivot,
        );
        let asked =
            backward && open && state.step.0 > 0 && state.in_flight(Message::Undo, state.step);
        when(self.flaw == Some(Flaw::RushBack) && asked, Action::RushBack);
    }

    fn service_actions(&self, state: &State, i: S, actions: &mut Vec<Action>) {
        let mut when = |enabled: bool, action: Action| {
            if enabled {
                actions.push(action);
            }
        };
        when(
            state.at_orchestrator(Message::Done, i),
            Action::ReceiveDone(i),
        );
        when(
            state.at_orchestrator(Message::Refused, i),
            Action::ReceiveRefused(i),
        );
        when(
            state.at_orchestrator(Message::Undone, i),
            Action::ReceiveUndone(i),
        );
        let (svc, asked) = (state.svc(i), state.at_service(Message::Do, i));
        when(asked && svc == Service::None, Action::Execute(i));
        when(
            asked && svc == Service::None && (i.0 <= self.pivot || self.refusers),
            Action::Refuse(i),
        );
        when(asked && svc != Service::None, Action::Repeat(i));
        let undo = state.at_service(Message::Undo, i);
        when(undo, Action::Compensate(i));
        let blind = self.flaw == Some(Flaw::CompensateBlindly) && svc == Service::None;
        when(undo && blind, Action::CompensateBlindly(i));
        when(
            !state.down.has(i.0) && state.budget.service > 0,
            Action::CrashService(i),
        );
        when(state.down.has(i.0), Action::RestartService(i));
        let readable =
            self.readers && svc == Service::Done && (!self.semantic_locks || state.finished());
        when(readable && !state.seen.has(i.0), Action::Read(i));
        when(!state.cut.has(i.0) && state.budget.cut > 0, Action::Cut(i));
        when(state.cut.has(i.0), Action::Heal(i));
        let may_lose = self.forever || state.cut.has(i.0) || state.budget.loss > 0;
        for message in MESSAGES {
            when(
                may_lose && state.in_flight(message, i),
                Action::Lose(message, i),
            );
        }
    }

    fn orchestrator_step(&self, after: &mut State, action: Action) {
        match action {
            Action::Begin => after.phase = Phase::Forward,
            Action::Ask => after.put(Message::Do, after.step),
            Action::AskUndo => after.put(Message::Undo, after.step),
            Action::Advance => {
                after.reply = Reply::None;
                if after.step.0 + 1 == self.steps {
                    after.phase = Phase::Completed;
                } else {
                    after.step = S(after.step.0 + 1);
                }
            }
            Action::Retreat | Action::BackUp => after.step_back(),
            Action::GiveUp | Action::GiveUpPivot => after.phase = Phase::Backward,
            Action::RushBack => after.step = S(after.step.0 - 1),
            Action::Insist => after.reply = Reply::None,
            Action::CrashOrchestrator => {
                (after.up, after.reply) = (false, Reply::None);
                after.budget.orch -= 1;
            }
            Action::RestartOrchestrator => after.up = true,
            Action::RecoverFromLog(step) => {
                if after.phase == Phase::Forward && step.0 < self.pivot {
                    after.phase = Phase::Backward;
                }
                (after.up, after.step) = (true, step);
            }
            Action::ReceiveDone(i) => self.hear(after, Message::Done, i, Phase::Forward, Reply::Ok),
            Action::ReceiveRefused(i) => {
                self.hear(after, Message::Refused, i, Phase::Forward, Reply::No)
            }
            Action::ReceiveUndone(i) => {
                self.hear(after, Message::Undone, i, Phase::Backward, Reply::Ok)
            }
            other => unreachable!("{other:?} is no step of the orchestrator"),
        }
    }

    fn service_step(&self, after: &mut State, action: Action) {
        match action {
            Action::Execute(i) => {
                self.answer(after, (Message::Do, Message::Done), i, Service::Done)
            }
            Action::Refuse(i) => {
                self.answer(after, (Message::Do, Message::Refused), i, Service::Refused)
            }
            Action::Repeat(i) => {
                let svc = after.svc(i);
                let answer = if svc == Service::Done {
                    Message::Done
                } else {
                    Message::Refused
                };
                self.answer(after, (Message::Do, answer), i, svc);
            }
            Action::Compensate(i) => {
                let refused = after.svc(i) == Service::Refused;
                let becomes = if refused {
                    Service::Refused
                } else {
                    Service::Undone
                };
                self.answer(after, (Message::Undo, Message::Undone), i, becomes);
            }
            Action::CompensateBlindly(i) => {
                self.answer(after, (Message::Undo, Message::Undone), i, Service::None)
            }
            Action::CrashService(i) => {
                after.down = after.down.with(i.0);
                after.budget.service -= 1;
            }
            Action::RestartService(i) => after.down = after.down.without(i.0),
            Action::Read(i) => after.seen = after.seen.with(i.0),
            other => unreachable!("{other:?} is no step of a service"),
        }
    }

    fn network_step(&self, after: &mut State, action: Action) {
        match action {
            Action::Lose(message, i) => {
                after.lose(message, i);
                if !after.cut.has(i.0) && !self.forever {
                    after.budget.loss -= 1;
                }
            }
            Action::Cut(i) => {
                after.cut = after.cut.with(i.0);
                if !self.forever {
                    after.budget.cut -= 1;
                }
            }
            Action::Heal(i) => after.cut = after.cut.without(i.0),
            other => unreachable!("{other:?} is no step of the network"),
        }
    }

    fn type_ok(&self, state: &State) -> bool {
        let all = Members::first(self.steps);
        let sets = [state.down, state.cut, state.seen]
            .into_iter()
            .chain(state.net);
        let Budget {
            orch,
            service,
            loss,
            cut,
        } = state.budget;
        sets.into_iter().all(|set| set.0 & !all.0 == 0)
            && state.step.0 < self.steps
            && (orch <= self.budget.orch && service <= self.budget.service)
            && (loss <= self.budget.loss && cut <= self.budget.cut)
    }

    fn all_or_nothing(&self, state: &State) -> bool {
        match state.phase {
            Phase::Completed => self.each().all(|i| state.svc(i) == Service::Done),
            Phase::Compensated => self.each().all(|i| state.svc(i) != Service::Done),
            Phase::Idle | Phase::Forward | Phase::Backward => true,
        }
    }

    fn reverse_order(&self, state: &State) -> bool {
        let first_undone = self.each().find(|&i| state.svc(i) == Service::Undone);
        first_undone.is_none_or(|first| {
            self.each()
                .all(|i| i <= first || state.svc(i) != Service::Done)
        })
    }

    fn forward_after_pivot(&self, state: &State) -> bool {
        state.svc(S(self.pivot)) != Service::Done
            || (state.phase != Phase::Backward
                && self.each().all(|i| state.svc(i) != Service::Undone))
    }

    fn no_dirty_read(&self, state: &State) -> bool {
        state
            .seen
            .iter()
            .all(|i| state.svc(S(i)) != Service::Undone)
    }
}

impl Model for Saga {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            phase: Phase::Idle,
            step: S(0),
            up: true,
            reply: Reply::None,
            svc: [Service::None; STEPS_MAX],
            down: Members::default(),
            cut: Members::default(),
            net: [Members::default(); MESSAGES.len()],
            seen: Members::default(),
            budget: self.budget,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.orchestrator_actions(state, actions);
        for i in self.each() {
            self.service_actions(state, i, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        use Action::*;
        let mut after = *before;
        match action {
            Begin | Ask | AskUndo | ReceiveDone(_) | ReceiveRefused(_) | ReceiveUndone(_)
            | Advance | Retreat | GiveUp | Insist | BackUp | CrashOrchestrator
            | RestartOrchestrator | RecoverFromLog(_) | RushBack | GiveUpPivot => {
                self.orchestrator_step(&mut after, action);
            }
            Execute(_) | Refuse(_) | Repeat(_) | Compensate(_) | CompensateBlindly(_)
            | CrashService(_) | RestartService(_) | Read(_) => {
                self.service_step(&mut after, action)
            }
            Lose(..) | Cut(_) | Heal(_) => self.network_step(&mut after, action),
        }
        Some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        Self::invariants()
            .iter()
            .map(|&(name, holds)| Property::always(name, holds))
            .collect()
    }
}

impl Spec for Saga {
    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let flaw = match config.specification.as_str() {
            "Safe" | "SpecOrphan" | "Spec" | "SpecStrong" => None,
            "SpecCompensateBlindly" => Some(Flaw::CompensateBlindly),
            "SpecRushBack" => Some(Flaw::RushBack),
            "SpecGiveUpPivot" => Some(Flaw::GiveUpPivot),
            other => return Err(unknown("specification", other)),
        };
        let steps = config.positive("Steps", STEPS_MAX as u8)?;
        Ok(Self {
            steps,
            pivot: config.positive("Pivot", steps)? - 1,
            refusers: config.truth("Refusers")?,
            budget: Budget {
                orch: config.number("MaxOrchCrashes", 9)?,
                service: config.number("MaxServiceCrashes", 9)?,
                loss: config.number("MaxLosses", 9)?,
                cut: config.number("MaxCuts", 9)?,
            },
            forever: config.truth("Forever")?,
            readers: config.truth("Readers")?,
            semantic_locks: config.truth("SemanticLocks")?,
            duplicates: config.truth("Duplicates")?,
            lazy_log: config.truth("LazyLog")?,
            flaw,
        })
    }

    fn view(&self, state: &State) -> Value {
        let text = |word: &dyn fmt::Debug| Value::text(&format!("{word:?}").to_lowercase());
        let number = |i: S| Value::from(i.0 + 1);
        let net = MESSAGES.into_iter().flat_map(|message| {
            let type_ = text(&message);
            let about = state.net[message as usize].iter();
            about.map(move |i| Value::record([("type", type_.clone()), ("step", number(S(i)))]))
        });
        let Budget {
            orch,
            service,
            loss,
            cut,
        } = state.budget;
        let budget = [
            ("orch", orch.into()),
            ("service", service.into()),
            ("loss", loss.into()),
            ("cut", cut.into()),
        ];
        Value::record([
            ("phase", text(&state.phase)),
            ("step", number(state.step)),
            ("up", state.up.into()),
            ("reply", text(&state.reply)),
            (
                "svc",
                Value::function(self.each().map(|i| (number(i), text(&state.svc(i))))),
            ),
            ("down", state.down.numbers()),
            ("cut", state.cut.numbers()),
            ("net", Value::set(net)),
            ("seen", state.seen.numbers()),
            ("budget", Value::record(budget)),
        ])
    }

    fn label(action: &Action) -> &'static str {
        label!(action, Begin Ask AskUndo ReceiveDone ReceiveRefused ReceiveUndone Advance Retreat GiveUp Insist BackUp
            CrashOrchestrator RestartOrchestrator RecoverFromLog Execute Refuse Repeat Compensate CrashService RestartService Read
            Lose Cut Heal CompensateBlindly RushBack GiveUpPivot)
    }

    fn invariants() -> &'static [(&'static str, Invariant<Self>)] {
        &[
            ("TypeOK", Self::type_ok),
            ("AllOrNothing", Self::all_or_nothing),
            ("ReverseOrder", Self::reverse_order),
            ("ForwardAfterPivot", Self::forward_after_pivot),
            ("NoDirtyRead", Self::no_dirty_read),
        ]
    }

    fn assume<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        specification: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError> {
        use Action::*;
        let progress = |checker: FairChecker<'m, Self>| {
            [Ask, AskUndo, Advance, Retreat, Insist, BackUp]
                .into_iter()
                .fold(checker, |checker, fair| {
                    checker.weak(format!("{fair:?}"), move |action| *action == fair)
                })
                .each(
                    Strength::Weak,
                    "RestartService",
                    self.each(),
                    |i, action| *action == RestartService(*i),
                )
                .each(Strength::Weak, "Heal", self.each(), |i, action| {
                    *action == Heal(*i)
                })
        };
        let delivery = |checker: FairChecker<'m, Self>, strength| {
            checker
                .each(strength, "Serve", self.each(), |i, action| {
                    [Execute(*i), Refuse(*i), Repeat(*i), Compensate(*i)].contains(action)
                })
                .each(strength, "HearFrom", self.each(), |i, action| {
                    [ReceiveDone(*i), ReceiveRefused(*i), ReceiveUndone(*i)].contains(action)
                })
        };
        let returns = |checker: FairChecker<'m, Self>| {
            checker.weak("RestartOrchestrator", |action| {
                *action == RestartOrchestrator
            })
        };
        Ok(match specification {
            "SpecOrphan" => delivery(progress(checker), Strength::Weak),
            "Spec" => returns(delivery(progress(checker), Strength::Weak)),
            "SpecStrong" => returns(delivery(progress(checker), Strength::Strong)),
            "Safe" | "SpecCompensateBlindly" | "SpecRushBack" | "SpecGiveUpPivot" => checker,
            other => return Err(unknown("specification", other)),
        })
    }

    fn promise<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        name: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError> {
        match name {
            "Termination" => {
                Ok(checker.leads_to(name, |state| state.phase != Phase::Idle, State::finished))
            }
            other => Err(unknown("property", other)),
        }
    }
}
