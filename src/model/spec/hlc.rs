//! `specs/hlc/Hlc.tla` in Rust: hybrid logical clocks over skewed wall clocks.
//!
//! The spec holds the explanations; here the same actions stand in the same order under the same names.

use std::collections::BTreeSet;
use std::fmt;

use stateright::{Model, Property};

use super::value::{Config, ConfigError, Value};
use super::{Invariant, Members, Spec, label, unknown};
use crate::model::checker::leads_to::FairChecker;

/// The largest number of nodes.
pub const NODES_MAX: usize = 4;

/// The constants of the spec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hlc {
    /// How many nodes.
    pub count: u8,
    /// The last reading of a wall clock.
    pub max_time: u8,
    /// How far the wall clocks really run apart.
    pub skew: u8,
    /// How far they are said to run apart, at most.
    pub eps: u8,
    /// What a behaviour may contain.
    pub budget: Budget,
    /// A wall clock may be set back for ever.
    pub forever_back: bool,
    /// The step that a broken variant adds.
    pub flaw: Option<Flaw>,
}

/// The broken variants in `MCHlcBroken.tla`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// A node restarts from its wall clock alone.
    RestartForgets,
    /// The stamp is the wall clock.
    SendWallClock,
    /// A receiver takes over the sender's `l`, but not the sender's `c`.
    ReceiveIgnoresCounter,
}

/// What may still happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Budget {
    /// Messages sent.
    pub send: u8,
    /// Wall clocks set back.
    pub back: u8,
    /// Crashes.
    pub crash: u8,
    /// Lost messages.
    pub loss: u8,
    /// Cut-off nodes.
    pub cut: u8,
}

/// A stamp: `l`, then `c`. The derived order is the lexicographic one.
pub type Stamp = (u8, u8);

/// A node by number, from 0; shown as in the spec, where numbers start from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct N(pub u8);

impl fmt::Debug for N {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 + 1)
    }
}

/// A message in flight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Message {
    /// The sender.
    pub from: N,
    /// The receiver.
    pub to: N,
    /// The stamp of the send event.
    pub stamp: Stamp,
}

/// The variables of the spec; entries beyond the number of nodes stay zero.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State {
    /// `pt`.
    pub pt: [u8; NODES_MAX],
    /// `clock`.
    pub clock: [Stamp; NODES_MAX],
    /// `floor`.
    pub floor: [Stamp; NODES_MAX],
    /// `past`.
    pub past: [Stamp; NODES_MAX],
    /// `net`.
    pub net: BTreeSet<Message>,
    /// `down`.
    pub down: Members,
    /// `cut`.
    pub cut: Members,
    /// `budget`.
    pub budget: Budget,
}

/// The actions of the spec.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // Hlc.tla explains each.
pub enum Action {
    Tick(N),
    StepBack(N),
    StepBackForever(N),
    Send(N, N),
    Receive(Message),
    Crash(N),
    Restart(N),
    Lose(Message),
    Cut(N),
    Heal(N),
    RestartForgets(N),
    SendWallClock(N, N),
    ReceiveIgnoresCounter(Message),
}

/// Figure 5 of the paper: the stamp of an event at wall-clock time `pt` that knows two stamps.
fn event(pt: u8, mine: Stamp, other: Stamp) -> Stamp {
    let l = mine.0.max(other.0).max(pt);
    let c = match (l == mine.0, l == other.0) {
        (true, true) => mine.1.max(other.1) + 1,
        (true, false) => mine.1 + 1,
        (false, true) => other.1 + 1,
        (false, false) => 0,
    };
    (l, c)
}

impl Hlc {
    fn nodes(&self) -> impl Iterator<Item = N> + use<> {
        (0..self.count).map(N)
    }

    fn readings<'s>(&self, state: &'s State) -> &'s [u8] {
        &state.pt[..usize::from(self.count)]
    }

    fn node_actions(&self, state: &State, i: N, actions: &mut Vec<Action>) {
        let mut when = |enabled: bool, action: Action| {
            if enabled {
                actions.push(action);
            }
        };
        let pt = state.pt[usize::from(i.0)];
        let fastest = self.readings(state).iter().max().copied().unwrap_or(0);
        let slowest = self.readings(state).iter().min().copied().unwrap_or(0);
        when(
            pt < self.max_time && pt < slowest + self.skew,
            Action::Tick(i),
        );
        let may_go_back = pt > 0 && fastest < pt + self.skew;
        when(may_go_back && state.budget.back > 0, Action::StepBack(i));
        when(may_go_back && self.forever_back, Action::StepBackForever(i));
        let up = !state.down.has(i.0);
        for j in self
            .nodes()
            .filter(|j| *j != i && up && state.budget.send > 0)
        {
            when(true, Action::Send(i, j));
            when(
                self.flaw == Some(Flaw::SendWallClock),
                Action::SendWallClock(i, j),
            );
        }
        when(up && state.budget.crash > 0, Action::Crash(i));
        when(!up, Action::Restart(i));
        when(
            !up && self.flaw == Some(Flaw::RestartForgets),
            Action::RestartForgets(i),
        );
        when(!state.cut.has(i.0) && state.budget.cut > 0, Action::Cut(i));
        when(state.cut.has(i.0), Action::Heal(i));
    }

    fn message_actions(&self, state: &State, message: Message, actions: &mut Vec<Action>) {
        let linked = !state.cut.has(message.from.0) && !state.cut.has(message.to.0);
        if linked && !state.down.has(message.to.0) {
            actions.push(Action::Receive(message));
            if self.flaw == Some(Flaw::ReceiveIgnoresCounter) {
                actions.push(Action::ReceiveIgnoresCounter(message));
            }
        }
        if !linked || state.budget.loss > 0 {
            actions.push(Action::Lose(message));
        }
    }

    fn send(after: &mut State, from: N, to: N, stamp: Stamp) {
        let i = usize::from(from.0);
        (after.clock[i], after.floor[i]) = (stamp, stamp);
        after.past[i] = after.past[i].max(stamp);
        after.net.insert(Message { from, to, stamp });
        after.budget.send -= 1;
    }

    fn receive(after: &mut State, message: Message, other: Stamp) {
        let i = usize::from(message.to.0);
        after.net.remove(&message);
        after.past[i] = after.past[i].max(message.stamp);
        after.clock[i] = event(after.pt[i], after.clock[i], other);
    }

    fn fault(after: &mut State, action: Action) {
        match action {
            Action::Crash(i) => {
                let at = usize::from(i.0);
                (after.clock[at], after.past[at]) = ((0, 0), after.floor[at]);
                after.down = after.down.with(i.0);
                after.budget.crash -= 1;
            }
            Action::Restart(i) => {
                after.down = after.down.without(i.0);
                after.clock[usize::from(i.0)] = after.floor[usize::from(i.0)];
            }
            Action::RestartForgets(i) => {
                after.down = after.down.without(i.0);
                after.clock[usize::from(i.0)] = (after.pt[usize::from(i.0)], 0);
            }
            Action::Lose(message) => {
                after.net.remove(&message);
                if !after.cut.has(message.from.0) && !after.cut.has(message.to.0) {
                    after.budget.loss -= 1;
                }
            }
            Action::Cut(i) => {
                after.cut = after.cut.with(i.0);
                after.budget.cut -= 1;
            }
            Action::Heal(i) => after.cut = after.cut.without(i.0),
            other => unreachable!("{other:?} is no fault"),
        }
    }

    /// What the next stamp's `l` would be, at least.
    fn now(state: &State, i: N) -> u8 {
        let at = usize::from(i.0);
        if state.down.has(i.0) {
            0
        } else {
            state.clock[at].0.max(state.pt[at])
        }
    }

    fn type_ok(&self, state: &State) -> bool {
        let stamp = |stamp: &Stamp| stamp.0 <= self.max_time && stamp.1 <= 2 * self.budget.send;
        let all = Members::first(self.count);
        let Budget {
            send,
            back,
            crash,
            loss,
            cut,
        } = state.budget;
        state.pt.iter().all(|pt| *pt <= self.max_time)
            && [state.clock, state.floor, state.past]
                .iter()
                .flatten()
                .all(stamp)
            && state.net.iter().all(|message| stamp(&message.stamp))
            && (state.down.0 | state.cut.0) & !all.0 == 0
            && (send <= self.budget.send && back <= self.budget.back && crash <= self.budget.crash)
            && (loss <= self.budget.loss && cut <= self.budget.cut)
    }

    fn within_eps(&self, state: &State) -> bool {
        self.nodes()
            .map(|i| usize::from(i.0))
            .all(|i| state.clock[i].0 <= state.pt[i] + self.eps)
    }

    fn causal(&self, before: &State, after: &State) -> bool {
        let sent = after.budget.send < before.budget.send;
        self.nodes().map(|i| usize::from(i.0)).all(|i| {
            let new = sent && after.floor[i] != before.floor[i];
            !new || before.past[i] < after.floor[i]
        })
    }

    fn fresh(&self, before: &State, after: &State) -> bool {
        let rises = |i: N| before.floor[usize::from(i.0)] < after.floor[usize::from(i.0)];
        after.budget.send >= before.budget.send || self.nodes().any(rises)
    }

    fn monotone(&self, before: &State, after: &State) -> bool {
        let down = |i: N| before.down.has(i.0) || after.down.has(i.0);
        self.nodes()
            .all(|i| down(i) || after.clock[usize::from(i.0)] >= before.clock[usize::from(i.0)])
    }
}

impl Model for Hlc {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let zero = [(0, 0); NODES_MAX];
        vec![State {
            pt: [0; NODES_MAX],
            clock: zero,
            floor: zero,
            past: zero,
            net: BTreeSet::new(),
            down: Members::default(),
            cut: Members::default(),
            budget: self.budget,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for i in self.nodes() {
            self.node_actions(state, i, actions);
        }
        for message in &state.net {
            self.message_actions(state, *message, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        use Action::*;
        let mut after = before.clone();
        match action {
            Tick(i) => after.pt[usize::from(i.0)] += 1,
            StepBack(i) => {
                after.pt[usize::from(i.0)] -= 1;
                after.budget.back -= 1;
            }
            StepBackForever(i) => after.pt[usize::from(i.0)] -= 1,
            Send(i, j) => {
                let mine = before.clock[usize::from(i.0)];
                Self::send(
                    &mut after,
                    i,
                    j,
                    event(before.pt[usize::from(i.0)], mine, mine),
                );
            }
            SendWallClock(i, j) => Self::send(&mut after, i, j, (before.pt[usize::from(i.0)], 0)),
            Receive(message) => Self::receive(&mut after, message, message.stamp),
            ReceiveIgnoresCounter(message) => {
                Self::receive(&mut after, message, (message.stamp.0, 0))
            }
            Crash(_) | Restart(_) | RestartForgets(_) | Lose(_) | Cut(_) | Heal(_) => {
                Self::fault(&mut after, action)
            }
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

impl Spec for Hlc {
    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let flaw = match config.specification.as_str() {
            "Safe" | "SpecStopped" | "SpecForeverBack" | "Spec" => None,
            "SpecRestartForgets" => Some(Flaw::RestartForgets),
            "SpecSendWallClock" => Some(Flaw::SendWallClock),
            "SpecReceiveIgnoresCounter" => Some(Flaw::ReceiveIgnoresCounter),
            other => return Err(unknown("specification", other)),
        };
        Ok(Self {
            count: config.positive("Count", NODES_MAX as u8)?,
            max_time: config.number("MaxTime", 9)?,
            skew: config.number("Skew", 9)?,
            eps: config.number("Eps", 9)?,
            budget: Budget {
                send: config.number("MaxSends", 9)?,
                back: config.number("MaxStepsBack", 9)?,
                crash: config.number("MaxCrashes", 9)?,
                loss: config.number("MaxLosses", 9)?,
                cut: config.number("MaxCuts", 9)?,
            },
            forever_back: config.specification == "SpecForeverBack",
            flaw,
        })
    }

    fn view(&self, state: &State) -> Value {
        let stamp = |stamp: &Stamp| Value::seq([stamp.0.into(), stamp.1.into()]);
        let stamps =
            |stamps: &[Stamp]| Value::seq(stamps[..usize::from(self.count)].iter().map(stamp));
        let message = |message: &Message| {
            Value::record([
                ("from", (message.from.0 + 1).into()),
                ("to", (message.to.0 + 1).into()),
                ("stamp", stamp(&message.stamp)),
            ])
        };
        let Budget {
            send,
            back,
            crash,
            loss,
            cut,
        } = state.budget;
        let budget = [
            ("send", send.into()),
            ("back", back.into()),
            ("crash", crash.into()),
            ("loss", loss.into()),
            ("cut", cut.into()),
        ];
        Value::record([
            (
                "pt",
                Value::seq(self.readings(state).iter().map(|pt| (*pt).into())),
            ),
            ("clock", stamps(&state.clock)),
            ("floor", stamps(&state.floor)),
            ("past", stamps(&state.past)),
            ("net", Value::set(state.net.iter().map(message))),
            ("down", state.down.numbers()),
            ("cut", state.cut.numbers()),
            ("budget", Value::record(budget)),
        ])
    }

    fn label(action: &Action) -> &'static str {
        label!(action, Tick StepBack StepBackForever Send Receive Crash Restart Lose Cut Heal RestartForgets SendWallClock
            ReceiveIgnoresCounter)
    }

    fn invariants() -> &'static [(&'static str, Invariant<Self>)] {
        &[("TypeOK", Self::type_ok), ("WithinEps", Self::within_eps)]
    }

    fn assume<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        specification: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError> {
        use crate::model::checker::leads_to::Strength::Weak;
        let back = |checker: FairChecker<'m, Self>| {
            checker.each(Weak, "Restart", self.nodes(), |i, action| {
                *action == Action::Restart(*i)
            })
        };
        Ok(match specification {
            "SpecStopped" => back(checker),
            "Spec" | "SpecForeverBack" => {
                back(checker).each(Weak, "Tick", self.nodes(), |i, action| {
                    *action == Action::Tick(*i)
                })
            }
            "Safe" | "SpecRestartForgets" | "SpecSendWallClock" | "SpecReceiveIgnoresCounter" => {
                checker
            }
            other => return Err(unknown("specification", other)),
        })
    }

    fn promise<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        name: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError> {
        Ok(match name {
            "Causal" => checker.always_step(name, |before, _, after| self.causal(before, after)),
            "Fresh" => checker.always_step(name, |before, _, after| self.fresh(before, after)),
            "Monotone" => {
                checker.always_step(name, |before, _, after| self.monotone(before, after))
            }
            // One conjunct for each node and reading; the verdicts of one name are taken together.
            "Overtaken" => self.nodes().fold(checker, |checker, i| {
                (1..=self.max_time).fold(checker, |checker, x| {
                    checker.leads_to(
                        name,
                        move |state| state.floor[usize::from(i.0)].0 == x,
                        move |state| self.nodes().all(|j| Self::now(state, j) >= x),
                    )
                })
            }),
            other => return Err(unknown("property", other)),
        })
    }
}
