//! `specs/three_phase/ThreePhase.tla` in Rust: three-phase commit with an elected coordinator.
//!
//! The spec holds the explanations; here the same actions stand in the same order under the same names.

use stateright::{Model, Property};

use super::value::{Config, ConfigError, Value};
use super::{Invariant, Members, Spec, label, unknown};
use crate::model::checker::leads_to::{FairChecker, Strength};

/// The largest number of participants.
pub const PARTICIPANTS_MAX: usize = 7;

/// The constants of the spec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThreePhase {
    /// How many participants.
    pub participants: u8,
    /// The faults that a behaviour may contain.
    pub budget: Budget,
    /// Nobody is elected: each decides by its own timeout.
    pub own_timeouts: bool,
    /// The step that a broken variant adds.
    pub flaw: Option<Flaw>,
}

/// The broken variants in `MCThreePhaseBroken.tla`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// The coordinator commits when it has sent PreCommit.
    CommitUnacked,
    /// A restarted participant decides alone.
    LeadFallen,
    /// An elected coordinator aborts although a live participant is pre-committed.
    AbortUncertain,
    /// An elected coordinator commits without bringing the others to PreCommit.
    CommitAtOnce,
    /// A participant obeys a coordinator that was replaced.
    ObeyReplaced,
    /// PreCommit is acknowledged before it is forced.
    CrashForgetsPreCommit,
}

/// What the coordinator does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // The field's own terms.
pub enum Coordinator {
    Idle,
    Waiting,
    Precommitting,
    Committed,
    Aborted,
    Left,
}

/// What a participant has done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Participant {
    Working,
    Prepared,
    Precommitted,
    Committed,
    Aborted,
}

impl Participant {
    /// `InDoubt`.
    pub fn in_doubt(self) -> bool {
        matches!(self, Self::Prepared | Self::Precommitted)
    }

    /// `Final`.
    fn is_final(self) -> bool {
        matches!(self, Self::Committed | Self::Aborted)
    }
}

/// What travels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Message {
    CanCommit,
    Yes,
    No,
    PreCommit,
    Ack,
    Ask,
    Uncertain,
    Committable,
    WasPrepared,
    WasPrecommitted,
    Commit,
    Abort,
}

const MESSAGES: [Message; 12] = [
    Message::CanCommit,
    Message::Yes,
    Message::No,
    Message::PreCommit,
    Message::Ack,
    Message::Ask,
    Message::Uncertain,
    Message::Committable,
    Message::WasPrepared,
    Message::WasPrecommitted,
    Message::Commit,
    Message::Abort,
];

/// The faults that may still happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Budget {
    /// Crashes of the coordinator.
    pub coord: u8,
    /// Crashes of participants.
    pub part: u8,
    /// Nodes that are suspected and have not crashed.
    pub wrong: u8,
    /// Nodes that are cut off.
    pub cut: u8,
}

/// The messages that were ever sent: for each kind and receiver the senders.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Net(pub [[Members; PARTICIPANTS_MAX + 1]; MESSAGES.len()]);

impl Net {
    fn has(&self, message: Message, from: u8, to: u8) -> bool {
        self.0[message as usize][usize::from(to)].has(from)
    }

    /// Adds a message.
    pub fn put(&mut self, message: Message, from: u8, to: u8) {
        let senders = &mut self.0[message as usize][usize::from(to)];
        *senders = senders.with(from);
    }

    /// All pairs of sets of senders.
    fn pairs<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (u8, u8)> + 'a {
        let flat = |net: &'a Self| net.0.iter().flatten().map(|senders| senders.0);
        flat(self).zip(flat(other))
    }

    /// How many messages differ.
    pub fn differ(&self, other: &Self) -> u32 {
        self.pairs(other).map(|(a, b)| (a ^ b).count_ones()).sum()
    }

    /// Whether it holds nothing that the other one does not.
    pub fn within(&self, other: &Self) -> bool {
        self.pairs(other).all(|(a, b)| a & !b == 0)
    }
}

/// The variables of the spec.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State {
    /// `coord`.
    pub coord: Coordinator,
    /// `part`, by number from 1; beyond the number of participants `Working`.
    pub part: [Participant; PARTICIPANTS_MAX + 1],
    /// `down`.
    pub down: Members,
    /// `fallen`.
    pub fallen: Members,
    /// `suspected`.
    pub suspected: Members,
    /// `apart`.
    pub apart: Members,
    /// `follows`, by number from 1.
    pub follows: [u8; PARTICIPANTS_MAX + 1],
    /// `net`.
    pub net: Net,
    /// `budget`.
    pub budget: Budget,
}

/// The actions of the spec. Nodes are numbers, the coordinator 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // ThreePhase.tla explains each.
pub enum Action {
    Begin,
    PreCommit,
    DecideCommit,
    DecideAbort,
    CrashCoordinator,
    VoteYes(u8),
    VoteNo(u8),
    /// The participant, and the coordinator that it obeys.
    EnterPreCommit(u8, u8),
    LearnCommit(u8),
    LearnAbort(u8),
    CrashParticipant(u8),
    RestartParticipant(u8),
    Suspect(u8),
    Lead(u8),
    /// The participant, and the one that asks.
    Answer(u8, u8),
    LeadAbort(u8),
    LeadPreCommit(u8),
    LeadCommit(u8),
    RecoverCommit(u8),
    RecoverAbort(u8),
    TimeoutAbort(u8),
    TimeoutCommit(u8),
    CutOff(u8),
    CommitUnacked,
    LeadFallen(u8),
    AbortUncertain(u8),
    CommitAtOnce(u8),
    ObeyReplaced(u8, u8),
    CrashForgetsPreCommit(u8),
}

/// Set operations that only this model needs.
fn union(a: Members, b: Members) -> Members {
    Members(a.0 | b.0)
}

fn within(a: Members, b: Members) -> bool {
    a.0 & !b.0 == 0
}

impl State {
    /// What a participant has done.
    pub fn part(&self, p: u8) -> Participant {
        self.part[usize::from(p)]
    }

    /// Notes what a participant has done.
    pub fn set(&mut self, p: u8, part: Participant) {
        self.part[usize::from(p)] = part;
    }

    fn follows(&self, p: u8) -> u8 {
        self.follows[usize::from(p)]
    }

    fn survives(&self, p: u8) -> bool {
        !self.fallen.has(p)
    }

    fn leads(&self, p: u8) -> bool {
        self.survives(p) && self.follows(p) == p
    }

    fn alive(&self, x: u8) -> bool {
        if x == 0 {
            self.coord != Coordinator::Left
        } else {
            !self.down.has(x)
        }
    }
}

impl ThreePhase {
    /// `Nodes`.
    fn nodes(&self) -> Members {
        Members::first(self.participants + 1)
    }

    /// `Participants`.
    fn all(&self) -> Members {
        self.nodes().without(0)
    }

    fn each(&self) -> impl Iterator<Item = u8> + use<> {
        1..=self.participants
    }

    /// `ToAll`.
    pub fn tell_all(&self, state: &mut State, message: Message, from: u8) {
        for to in self.each().filter(|to| *to != from) {
            state.net.put(message, from, to);
        }
    }

    fn told_all(&self, state: &State, message: Message, from: u8) -> bool {
        let mut others = self.each().filter(|to| *to != from);
        others.all(|to| state.net.has(message, from, to))
    }

    fn far(&self, state: &State, x: u8) -> Members {
        if state.apart.has(x) {
            Members(self.nodes().0 & !state.apart.0)
        } else {
            state.apart
        }
    }

    fn from(&self, state: &State, message: Message, x: u8) -> Members {
        let senders = state.net.0[message as usize][usize::from(x)];
        Members(senders.0 & !self.far(state, x).0)
    }

    fn suspects(&self, state: &State, x: u8) -> Members {
        union(state.suspected, self.far(state, x)).without(x)
    }

    fn flawed(&self, flaw: Flaw, enabled: bool, action: Action, actions: &mut Vec<Action>) {
        if enabled && self.flaw == Some(flaw) {
            actions.push(action);
        }
    }

    fn coordinator_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let acks = self.from(state, Message::Ack, 0);
        match state.coord {
            Coordinator::Idle => actions.push(Action::Begin),
            Coordinator::Waiting => {
                if within(self.all(), self.from(state, Message::Yes, 0)) {
                    actions.push(Action::PreCommit);
                }
                actions.push(Action::DecideAbort);
            }
            Coordinator::Precommitting => {
                let ended = within(self.all(), union(acks, self.suspects(state, 0)));
                if ended && !acks.is_empty() {
                    actions.push(Action::DecideCommit);
                }
                self.flawed(Flaw::CommitUnacked, true, Action::CommitUnacked, actions);
            }
            Coordinator::Committed | Coordinator::Aborted | Coordinator::Left => {}
        }
        let begun = !matches!(state.coord, Coordinator::Idle | Coordinator::Left);
        if begun && state.budget.coord > 0 {
            actions.push(Action::CrashCoordinator);
        }
    }

    fn fault_actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.coord == Coordinator::Idle {
            return;
        }
        for x in self.nodes().iter() {
            let may = state.fallen.has(x) || state.budget.wrong > 0;
            if may && !state.suspected.has(x) {
                actions.push(Action::Suspect(x));
            }
            if state.budget.cut > 0 && !state.apart.has(x) {
                actions.push(Action::CutOff(x));
            }
        }
    }

    fn participant_actions(&self, state: &State, p: u8, actions: &mut Vec<Action>) {
        let part = state.part(p);
        if state.down.has(p) {
            return actions.push(Action::RestartParticipant(p));
        }
        if part == Participant::Working {
            if self.from(state, Message::CanCommit, p).has(0) {
                actions.push(Action::VoteYes(p));
            }
            actions.push(Action::VoteNo(p));
        }
        if state.coord != Coordinator::Idle && state.budget.part > 0 {
            actions.push(Action::CrashParticipant(p));
            let forgets = part == Participant::Precommitted;
            let action = Action::CrashForgetsPreCommit(p);
            self.flawed(Flaw::CrashForgetsPreCommit, forgets, action, actions);
        }
        if !part.in_doubt() {
            return;
        }
        if !self.from(state, Message::Commit, p).is_empty() {
            actions.push(Action::LearnCommit(p));
        }
        if !self.from(state, Message::Abort, p).is_empty() {
            actions.push(Action::LearnAbort(p));
        }
        if state.survives(p) {
            self.survivor_actions(state, p, actions);
        } else {
            self.recovery_actions(state, p, actions);
        }
    }

    /// What one in doubt may do that has never crashed.
    fn survivor_actions(&self, state: &State, p: u8, actions: &mut Vec<Action>) {
        let uncertain = state.part(p) == Participant::Prepared;
        let follows = state.follows(p);
        let suspects = self.suspects(state, p);
        for x in self.from(state, Message::PreCommit, p).iter() {
            if follows <= x && !state.net.has(Message::Ack, p, x) {
                actions.push(Action::EnterPreCommit(p, x));
            }
            let replaced = uncertain && x < follows;
            let action = Action::ObeyReplaced(p, x);
            self.flawed(Flaw::ObeyReplaced, replaced, action, actions);
        }
        for x in self.from(state, Message::Ask, p).iter() {
            if follows < x {
                actions.push(Action::Answer(p, x));
            }
        }
        if self.own_timeouts && suspects.has(0) {
            actions.push(match uncertain {
                true => Action::TimeoutAbort(p),
                false => Action::TimeoutCommit(p),
            });
        }
        if !self.own_timeouts && follows < p && within(Members::first(p), suspects) {
            actions.push(Action::Lead(p));
        }
        if state.leads(p) {
            self.leader_actions(state, p, actions);
        }
    }

    fn leader_actions(&self, state: &State, p: u8, actions: &mut Vec<Action>) {
        let uncertain = state.part(p) == Participant::Prepared;
        let suspects = self.suspects(state, p);
        let others = self.all().without(p);
        let heard = |message| self.from(state, message, p);
        let (doubtful, committable) = (heard(Message::Uncertain), heard(Message::Committable));
        if uncertain && within(others, union(doubtful, suspects)) {
            actions.push(Action::LeadAbort(p));
        }
        let answered = within(others, union(union(doubtful, committable), suspects));
        let sent = self.told_all(state, Message::PreCommit, p);
        if answered && (!uncertain || !committable.is_empty()) && !sent {
            actions.push(Action::LeadPreCommit(p));
        }
        let acked = within(others, union(heard(Message::Ack), suspects));
        if !uncertain && sent && acked {
            actions.push(Action::LeadCommit(p));
        }
        let ignores = uncertain && answered;
        let action = Action::AbortUncertain(p);
        self.flawed(Flaw::AbortUncertain, ignores, action, actions);
        let action = Action::CommitAtOnce(p);
        self.flawed(Flaw::CommitAtOnce, !uncertain, action, actions);
    }

    /// What one in doubt may do that has crashed, and is back.
    fn recovery_actions(&self, state: &State, p: u8, actions: &mut Vec<Action>) {
        let uncertain = state.part(p) == Participant::Prepared;
        let others = self.all().without(p);
        let prepared = self.from(state, Message::WasPrepared, p);
        let precommitted = self.from(state, Message::WasPrecommitted, p);
        let all = within(others, union(prepared, precommitted));
        if all && (!uncertain || !precommitted.is_empty()) {
            actions.push(Action::RecoverCommit(p));
        }
        if uncertain && within(others, prepared) {
            actions.push(Action::RecoverAbort(p));
        }
        let everybody = within(self.nodes().without(p), self.suspects(state, p));
        let action = Action::LeadFallen(p);
        self.flawed(Flaw::LeadFallen, uncertain && everybody, action, actions);
    }

    fn coordinator_step(&self, after: &mut State, action: Action) {
        let (coord, told) = match action {
            Action::Begin => (Coordinator::Waiting, Message::CanCommit),
            Action::PreCommit => (Coordinator::Precommitting, Message::PreCommit),
            Action::DecideCommit | Action::CommitUnacked => {
                (Coordinator::Committed, Message::Commit)
            }
            Action::DecideAbort => (Coordinator::Aborted, Message::Abort),
            other => unreachable!("{other:?} is no step of the coordinator"),
        };
        after.coord = coord;
        self.tell_all(after, told, 0);
    }

    fn commit(&self, after: &mut State, p: u8) {
        after.set(p, Participant::Committed);
        self.tell_all(after, Message::Commit, p);
    }

    fn abort(&self, after: &mut State, p: u8) {
        after.set(p, Participant::Aborted);
        self.tell_all(after, Message::Abort, p);
    }

    fn crash(&self, after: &mut State, p: u8, part: Participant) {
        after.down = after.down.with(p);
        after.fallen = after.fallen.with(p);
        after.set(p, part);
        after.budget.part -= 1;
    }

    fn restart(&self, after: &mut State, p: u8) {
        after.down = after.down.without(p);
        let told = match after.part(p) {
            Participant::Prepared => Message::WasPrepared,
            Participant::Precommitted => Message::WasPrecommitted,
            Participant::Committed => Message::Commit,
            Participant::Working | Participant::Aborted => {
                after.net.put(Message::No, p, 0);
                Message::Abort
            }
        };
        self.tell_all(after, told, p);
    }

    fn follow(&self, after: &mut State, p: u8, x: u8) {
        after.follows[usize::from(p)] = x;
    }

    fn any(&self, state: &State, part: Participant) -> bool {
        self.each().any(|p| state.part(p) == part)
    }

    fn atomicity(&self, state: &State) -> bool {
        let committed = self.any(state, Participant::Committed);
        let aborted = self.any(state, Participant::Aborted);
        !(aborted && (committed || state.coord == Coordinator::Committed))
            && !(committed && state.coord == Coordinator::Aborted)
    }

    fn commit_needs_votes(&self, state: &State) -> bool {
        let committed =
            state.coord == Coordinator::Committed || self.any(state, Participant::Committed);
        !committed || self.each().all(|q| state.net.has(Message::Yes, q, 0))
    }

    fn none_uncertain(&self, state: &State) -> bool {
        let survivor_is = |part| {
            let mut survivors = self.each().filter(|p| state.survives(*p));
            survivors.any(|p| state.part(p) == part)
        };
        let committed =
            state.coord == Coordinator::Committed || survivor_is(Participant::Committed);
        !(committed && survivor_is(Participant::Prepared))
    }

    fn type_ok(&self, state: &State) -> bool {
        let Budget {
            coord,
            part,
            wrong,
            cut,
        } = state.budget;
        let senders = state.net.0.iter().flatten();
        let sets = [state.fallen, state.suspected, state.apart];
        { sets.iter().chain(senders) }.all(|set| within(*set, self.nodes()))
            && within(state.down, state.fallen.without(0))
            && state.follows.iter().all(|x| *x <= self.participants)
            && (coord <= self.budget.coord && part <= self.budget.part)
            && (wrong <= self.budget.wrong && cut <= self.budget.cut)
    }
}

impl Model for ThreePhase {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            coord: Coordinator::Idle,
            part: [Participant::Working; PARTICIPANTS_MAX + 1],
            down: Members::default(),
            fallen: Members::default(),
            suspected: Members::default(),
            apart: Members::default(),
            follows: [0; PARTICIPANTS_MAX + 1],
            net: Net::default(),
            budget: self.budget,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.coordinator_actions(state, actions);
        self.fault_actions(state, actions);
        for p in self.each() {
            self.participant_actions(state, p, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        use Action::*;
        let mut state = *before;
        let after = &mut state;
        match action {
            Begin | PreCommit | DecideCommit | DecideAbort | CommitUnacked => {
                self.coordinator_step(after, action);
            }
            CrashCoordinator => {
                after.coord = Coordinator::Left;
                after.fallen = after.fallen.with(0);
                after.budget.coord -= 1;
            }
            VoteYes(p) => {
                after.set(p, Participant::Prepared);
                after.net.put(Message::Yes, p, 0);
            }
            VoteNo(p) => {
                after.net.put(Message::No, p, 0);
                self.abort(after, p);
            }
            EnterPreCommit(p, x) => {
                after.set(p, Participant::Precommitted);
                after.net.put(Message::Ack, p, x);
                self.follow(after, p, x);
            }
            ObeyReplaced(p, x) => {
                after.set(p, Participant::Precommitted);
                after.net.put(Message::Ack, p, x);
            }
            LearnCommit(p) | LeadCommit(p) | RecoverCommit(p) | TimeoutCommit(p)
            | CommitAtOnce(p) => self.commit(after, p),
            LearnAbort(p) | LeadAbort(p) | RecoverAbort(p) | TimeoutAbort(p) | LeadFallen(p)
            | AbortUncertain(p) => self.abort(after, p),
            CrashParticipant(p) => {
                let kept = match after.part(p) {
                    Participant::Working => Participant::Aborted,
                    part => part,
                };
                self.crash(after, p, kept);
            }
            CrashForgetsPreCommit(p) => self.crash(after, p, Participant::Prepared),
            RestartParticipant(p) => self.restart(after, p),
            Suspect(x) => {
                after.suspected = after.suspected.with(x);
                if !after.fallen.has(x) {
                    after.budget.wrong -= 1;
                }
            }
            Lead(p) => {
                self.follow(after, p, p);
                self.tell_all(after, Message::Ask, p);
            }
            Answer(p, x) => {
                let answer = match after.part(p) {
                    Participant::Prepared => Message::Uncertain,
                    _ => Message::Committable,
                };
                after.net.put(answer, p, x);
                self.follow(after, p, x);
            }
            LeadPreCommit(p) => {
                after.set(p, Participant::Precommitted);
                self.tell_all(after, Message::PreCommit, p);
            }
            CutOff(x) => {
                after.apart = after.apart.with(x);
                after.budget.cut -= 1;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        Self::invariants()
            .iter()
            .map(|&(name, holds)| Property::always(name, holds))
            .collect()
    }
}

impl Spec for ThreePhase {
    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let flaw = match config.specification.as_str() {
            "Safe" | "Spec" | "SpecReturns" => None,
            "SpecCommitUnacked" => Some(Flaw::CommitUnacked),
            "SpecLeadFallen" => Some(Flaw::LeadFallen),
            "SpecAbortUncertain" => Some(Flaw::AbortUncertain),
            "SpecCommitAtOnce" => Some(Flaw::CommitAtOnce),
            "SpecObeyReplaced" => Some(Flaw::ObeyReplaced),
            "SpecCrashForgetsPreCommit" => Some(Flaw::CrashForgetsPreCommit),
            other => return Err(unknown("specification", other)),
        };
        Ok(Self {
            participants: config.positive("N", PARTICIPANTS_MAX as u8)?,
            budget: Budget {
                coord: config.number("MaxCoordCrashes", 1)?,
                part: config.number("MaxPartCrashes", 9)?,
                wrong: config.number("MaxWrong", 9)?,
                cut: config.number("MaxCuts", 9)?,
            },
            own_timeouts: config.truth("OwnTimeouts")?,
            flaw,
        })
    }

    fn view(&self, state: &State) -> Value {
        let text = |word: &dyn std::fmt::Debug| Value::text(&format!("{word:?}").to_lowercase());
        let set = |members: Members| Value::set(members.iter().map(Value::from));
        let net = MESSAGES.into_iter().flat_map(|message| {
            let type_ = text(&message);
            let receivers = state.net.0[message as usize].into_iter().zip(0u8..);
            receivers.flat_map(move |(senders, to)| {
                let type_ = type_.clone();
                senders.iter().map(move |from| {
                    let (from, to) = (Value::from(from), Value::from(to));
                    Value::record([("type", type_.clone()), ("from", from), ("to", to)])
                })
            })
        });
        let Budget {
            coord,
            part,
            wrong,
            cut,
        } = state.budget;
        Value::record([
            ("coord", text(&state.coord)),
            (
                "part",
                Value::seq(self.each().map(|p| text(&state.part(p)))),
            ),
            ("down", set(state.down)),
            ("fallen", set(state.fallen)),
            ("suspected", set(state.suspected)),
            ("apart", set(state.apart)),
            (
                "follows",
                Value::seq(self.each().map(|p| Value::from(state.follows(p)))),
            ),
            ("net", Value::set(net)),
            (
                "budget",
                Value::record([
                    ("coord", coord.into()),
                    ("part", part.into()),
                    ("wrong", wrong.into()),
                    ("cut", cut.into()),
                ]),
            ),
        ])
    }

    fn label(action: &Action) -> &'static str {
        label!(action, Begin PreCommit DecideCommit DecideAbort CrashCoordinator VoteYes VoteNo EnterPreCommit LearnCommit
            LearnAbort CrashParticipant RestartParticipant Suspect Lead Answer LeadAbort LeadPreCommit LeadCommit RecoverCommit
            RecoverAbort TimeoutAbort TimeoutCommit CutOff CommitUnacked LeadFallen AbortUncertain CommitAtOnce ObeyReplaced
            CrashForgetsPreCommit)
    }

    fn invariants() -> &'static [(&'static str, Invariant<Self>)] {
        &[
            ("TypeOK", Self::type_ok),
            ("Atomicity", Self::atomicity),
            ("CommitNeedsVotes", Self::commit_needs_votes),
            ("NoneUncertain", Self::none_uncertain),
        ]
    }

    fn assume<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        specification: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError> {
        use Action::*;
        let weak = Strength::Weak;
        let each = || self.each();
        let pairs = || each().flat_map(move |p| (0..=self.participants).map(move |x| (p, x)));
        let steps = |checker: FairChecker<'m, Self>| {
            checker
                .weak("PreCommit", |action| *action == PreCommit)
                .weak("DecideCommit", |action| *action == DecideCommit)
                .weak("DecideAbort", |action| *action == DecideAbort)
                .each(weak, "VoteNo", each(), |p, action| *action == VoteNo(*p))
                .each(weak, "Lead", each(), |p, action| *action == Lead(*p))
                .each(weak, "LeadAbort", each(), |p, action| {
                    *action == LeadAbort(*p)
                })
                .each(weak, "LeadPreCommit", each(), |p, action| {
                    *action == LeadPreCommit(*p)
                })
                .each(weak, "LeadCommit", each(), |p, action| {
                    *action == LeadCommit(*p)
                })
                .each(weak, "RecoverCommit", each(), |p, action| {
                    *action == RecoverCommit(*p)
                })
                .each(weak, "RecoverAbort", each(), |p, action| {
                    *action == RecoverAbort(*p)
                })
        };
        let suspicion = |checker: FairChecker<'m, Self>| {
            (0..=self.participants).fold(checker, |checker, x| {
                checker.constraint(
                    weak,
                    format!("Suspect({x}) of who has crashed"),
                    move |before, action, _| before.fallen.has(x) && *action == Suspect(x),
                )
            })
        };
        let told = move |state: &State, message, p| {
            let senders = self.from(state, message, p);
            senders.iter().any(|x| state.alive(x))
        };
        let learning = |checker: FairChecker<'m, Self>| {
            each().fold(checker, |checker, p| {
                checker
                    .constraint(
                        weak,
                        format!("LearnCommit({p}) from who is up"),
                        move |before, action, _| {
                            *action == LearnCommit(p) && told(before, Message::Commit, p)
                        },
                    )
                    .constraint(
                        weak,
                        format!("LearnAbort({p}) from who is up"),
                        move |before, action, _| {
                            *action == LearnAbort(p) && told(before, Message::Abort, p)
                        },
                    )
            })
        };
        let delivery = |checker: FairChecker<'m, Self>| {
            pairs().fold(checker, |checker, (p, x)| {
                checker
                    .constraint(
                        weak,
                        format!("EnterPreCommit({p}, {x}) while {x} is up"),
                        move |before, action, _| *action == EnterPreCommit(p, x) && before.alive(x),
                    )
                    .constraint(
                        weak,
                        format!("Answer({p}, {x}) while {x} is up"),
                        move |before, action, _| *action == Answer(p, x) && before.alive(x),
                    )
            })
        };
        let progress =
            |checker: FairChecker<'m, Self>| delivery(learning(suspicion(steps(checker))));
        Ok(match specification {
            "Spec" => progress(checker),
            "SpecReturns" => {
                progress(checker).each(weak, "RestartParticipant", each(), |p, action| {
                    *action == RestartParticipant(*p)
                })
            }
            "Safe"
            | "SpecCommitUnacked"
            | "SpecLeadFallen"
            | "SpecAbortUncertain"
            | "SpecCommitAtOnce"
            | "SpecObeyReplaced"
            | "SpecCrashForgetsPreCommit" => checker,
            other => return Err(unknown("specification", other)),
        })
    }

    fn promise<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        name: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError> {
        Ok(match name {
            "Stable" => checker.always_step(name, |before, _, after| {
                let kept = |p| !before.part(p).is_final() || before.part(p) == after.part(p);
                self.each().all(kept)
            }),
            "Termination" => checker.leads_to(
                name,
                |state| state.coord != Coordinator::Idle,
                |state| self.each().all(|p| state.part(p).is_final()),
            ),
            "SurvivorsEnd" => checker.leads_to(
                name,
                |state| state.coord != Coordinator::Idle,
                |state| {
                    let mut survivors = self.each().filter(|p| state.survives(*p));
                    survivors.all(|p| state.part(p).is_final())
                },
            ),
            other => return Err(unknown("property", other)),
        })
    }
}
