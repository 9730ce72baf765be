//! `specs/two_phase/TwoPhase.tla` in Rust: two-phase commit with presumed abort.
//!
//! The spec holds the explanations; here the same actions stand in the same order under the same names.

use std::fmt;

use stateright::{Model, Property};

use super::value::{Config, ConfigError, Value};
use super::{Invariant, Members, Spec, label, unknown};
use crate::model::checker::leads_to::{FairChecker, Strength};

/// The largest number of participants.
pub const PARTICIPANTS_MAX: usize = 8;

/// The constants of the spec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TwoPhase {
    /// How many participants.
    pub participants: u8,
    /// Those of them that only read.
    pub readers: Members,
    /// The faults that a behaviour may contain.
    pub budget: Budget,
    /// Losses and cuts may recur for ever.
    pub forever: bool,
    /// Messages are never used up.
    pub duplicates: bool,
    /// Participants in doubt also ask one another.
    pub cooperative: bool,
    /// What a participant in doubt may do alone.
    pub heuristics: Heuristics,
    /// A crash may take the record of an abort.
    pub lazy_aborts: bool,
    /// The step that a broken variant adds.
    pub flaw: Option<Flaw>,
}

/// What a participant in doubt may do alone: `HeuristicCommits`, `HeuristicAborts`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[allow(missing_docs)] // Names of constants.
pub struct Heuristics {
    pub commits: bool,
    pub aborts: bool,
}

/// The broken variants in `MCTwoPhaseBroken.tla`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// The coordinator forgets a committed transaction before all acks are in.
    EndEarly,
    /// The coordinator acts on the decision before the commit record is forced.
    DecideUnlogged,
    /// A vote leaves before the prepared record is flushed.
    CrashForgetsVote,
    /// A participant in doubt aborts alone.
    GiveUpInDoubt,
    /// A participant in doubt answers another that it aborted.
    TellInDoubt,
    /// A participant that has not voted answers abort, and votes yes later.
    TellUnbound,
    /// A participant with something to write votes as if it had only read.
    LeaveWithWrites,
    /// A reader that has left answers like one that never voted.
    TellLeft,
    /// A participant that decided alone acknowledges a commit before it knows of it.
    AckAlone,
}

/// What the coordinator does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // The field's own terms.
pub enum Coordinator {
    Idle,
    Waiting,
    Committed,
    Aborted,
    Ended,
    Down,
}

/// The coordinator's durable record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Record {
    None,
    Commit,
    End,
}

/// What a participant has done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Participant {
    Working,
    Prepared,
    Committed,
    Aborted,
    Left,
    /// Done alone, and not known to be right.
    AloneCommitted,
    AloneAborted,
    /// Done alone, and known to be wrong.
    MixedCommitted,
    MixedAborted,
}

impl Participant {
    /// Whether nothing changes it any more: `Final`.
    fn is_final(self) -> bool {
        use Participant::*;
        match self {
            Committed | Aborted | Left | MixedCommitted | MixedAborted => true,
            Working | Prepared | AloneCommitted | AloneAborted => false,
        }
    }

    /// `Alone`.
    fn is_alone(self) -> bool {
        matches!(self, Self::AloneCommitted | Self::AloneAborted)
    }

    /// Whether it has committed its effects, or undone them: `Done`.
    fn done(self) -> Option<bool> {
        use Participant::*;
        match self {
            Committed | AloneCommitted | MixedCommitted => Some(true),
            Aborted | AloneAborted | MixedAborted => Some(false),
            Working | Prepared | Left => None,
        }
    }

    /// Which decision it knows: `Knows`.
    fn knows(self) -> Option<bool> {
        use Participant::*;
        match self {
            Committed | MixedAborted => Some(true),
            Aborted | MixedCommitted => Some(false),
            Working | Prepared | Left | AloneCommitted | AloneAborted => None,
        }
    }

    /// `ToldCommit` and `ToldAbort`.
    fn told(self, commit: bool) -> Self {
        use Participant::*;
        match (self, commit) {
            (Prepared | AloneCommitted, true) => Committed,
            (AloneAborted, true) => MixedAborted,
            (Working | Prepared | AloneAborted, false) => Aborted,
            (AloneCommitted, false) => MixedCommitted,
            (state, _) => state,
        }
    }
}

/// The messages between the coordinator and one participant, and those of the participants: from or to the one that asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Message {
    Prepare,
    Commit,
    Abort,
    Yes,
    Read,
    No,
    Ack,
    Inquiry,
    Ask,
    TellCommit,
    TellAbort,
}

const MESSAGES: [Message; 11] = [
    Message::Prepare,
    Message::Commit,
    Message::Abort,
    Message::Yes,
    Message::Read,
    Message::No,
    Message::Ack,
    Message::Inquiry,
    Message::Ask,
    Message::TellCommit,
    Message::TellAbort,
];

/// The faults that may still happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Budget {
    /// Crashes of the coordinator.
    pub coord: u8,
    /// Crashes of participants.
    pub part: u8,
    /// Lost messages.
    pub loss: u8,
    /// Cut links.
    pub cut: u8,
}

/// The variables of the spec.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State {
    /// `coord`.
    pub coord: Coordinator,
    /// `await`.
    pub awaited: Members,
    /// `record`.
    pub record: Record,
    /// `part`, beyond the number of participants `Working`.
    pub part: [Participant; PARTICIPANTS_MAX],
    /// `down`.
    pub down: Members,
    /// `cut`.
    pub cut: Members,
    /// `net`: for each kind of message the participants that it is on the way to or from.
    pub net: [Members; MESSAGES.len()],
    /// `budget`.
    pub budget: Budget,
}

/// A participant by number, from 0; shown as the spec's model value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct P(pub u8);

impl fmt::Debug for P {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0 + 1)
    }
}

/// The actions of the spec.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // TwoPhase.tla explains each.
pub enum Action {
    Begin,
    SendPrepare(P),
    ReceiveYes(P),
    ReceiveRead(P),
    ReceiveNo(P),
    DecideCommit,
    DecideAbort,
    SendCommit(P),
    SendAbort(P),
    ReceiveAck(P),
    End,
    AnswerInquiry(P),
    AnswerFromMemory(P),
    CrashCoordinator,
    RestartCoordinator,
    VoteYes(P),
    VoteRead(P),
    VoteNo(P),
    Revote(P),
    GiveUp(P),
    LearnCommit(P),
    LearnAbort(P),
    Inquire(P),
    HeuristicCommit(P),
    HeuristicAbort(P),
    AskPeers(P),
    /// The one that answers, and the one that asked.
    TellCommit(P, P),
    TellAbort(P, P),
    HearCommit(P),
    HearAbort(P),
    CrashParticipant(P),
    RestartParticipant(P),
    Lose(Message, P),
    Cut(P),
    Heal(P),
    EndEarly,
    DecideUnlogged,
    CrashForgetsVote(P),
    GiveUpInDoubt(P),
    TellInDoubt(P, P),
    TellUnbound(P, P),
    LeaveWithWrites(P),
    TellLeft(P, P),
    AckAlone(P),
}

impl State {
    /// Whether this message is in flight.
    pub fn in_flight(&self, message: Message, p: P) -> bool {
        self.net[message as usize].has(p.0)
    }

    fn part(&self, p: P) -> Participant {
        self.part[usize::from(p.0)]
    }

    fn set(&mut self, p: P, part: Participant) {
        self.part[usize::from(p.0)] = part;
    }

    fn put(&mut self, message: Message, p: P) {
        let set = &mut self.net[message as usize];
        *set = set.with(p.0);
    }

    /// Takes a message off the network.
    fn lose(&mut self, message: Message, p: P) {
        let set = &mut self.net[message as usize];
        *set = set.without(p.0);
    }

    fn at_participant(&self, message: Message, p: P) -> bool {
        self.in_flight(message, p) && !self.cut.has(p.0) && !self.down.has(p.0)
    }

    fn at_coordinator(&self, message: Message, p: P) -> bool {
        self.in_flight(message, p) && !self.cut.has(p.0) && self.coord != Coordinator::Down
    }
}

impl TwoPhase {
    fn all(&self) -> Members {
        Members::first(self.participants)
    }

    /// `Stayers`.
    fn stayers(&self) -> Members {
        Members(self.all().0 & !self.readers.0)
    }

    fn each(&self) -> impl Iterator<Item = P> {
        (0..self.participants).map(P)
    }

    /// What may happen at the coordinator, except for arriving messages.
    fn coordinator_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let collected = state.awaited.is_empty();
        match state.coord {
            Coordinator::Idle => actions.push(Action::Begin),
            Coordinator::Waiting if collected => {
                actions.push(Action::DecideCommit);
                self.flawed(Flaw::DecideUnlogged, Action::DecideUnlogged, actions);
            }
            Coordinator::Waiting => actions.push(Action::DecideAbort),
            Coordinator::Committed if collected => actions.push(Action::End),
            Coordinator::Committed => self.flawed(Flaw::EndEarly, Action::EndEarly, actions),
            Coordinator::Down => actions.push(Action::RestartCoordinator),
            Coordinator::Aborted | Coordinator::Ended => {}
        }
        let may_crash = !matches!(state.coord, Coordinator::Idle | Coordinator::Down);
        if may_crash && state.budget.coord > 0 {
            actions.push(Action::CrashCoordinator);
        }
    }

    /// What may happen between the coordinator and one participant.
    fn link_actions(&self, state: &State, p: P, actions: &mut Vec<Action>) {
        let awaited = state.awaited.has(p.0);
        let mut when = |enabled: bool, action: Action| {
            if enabled {
                actions.push(action);
            }
        };
        let silent = |message| awaited && !state.in_flight(message, p);
        when(
            state.coord == Coordinator::Waiting && silent(Message::Prepare),
            Action::SendPrepare(p),
        );
        when(
            state.coord == Coordinator::Committed && silent(Message::Commit),
            Action::SendCommit(p),
        );
        when(
            state.coord == Coordinator::Aborted && awaited,
            Action::SendAbort(p),
        );
        when(state.at_coordinator(Message::Yes, p), Action::ReceiveYes(p));
        when(
            state.at_coordinator(Message::Read, p),
            Action::ReceiveRead(p),
        );
        when(state.at_coordinator(Message::No, p), Action::ReceiveNo(p));
        when(state.at_coordinator(Message::Ack, p), Action::ReceiveAck(p));
        when(
            state.at_coordinator(Message::Inquiry, p),
            Action::AnswerInquiry(p),
        );
        let remembers = self.cooperative && state.coord == Coordinator::Ended;
        when(
            remembers && state.at_coordinator(Message::Inquiry, p),
            Action::AnswerFromMemory(p),
        );
        when(!state.cut.has(p.0) && state.budget.cut > 0, Action::Cut(p));
        when(state.cut.has(p.0), Action::Heal(p));
        let may_lose = self.forever || state.cut.has(p.0) || state.budget.loss > 0;
        for message in MESSAGES {
            when(
                may_lose && state.in_flight(message, p),
                Action::Lose(message, p),
            );
        }
    }

    fn participant_actions(&self, state: &State, p: P, actions: &mut Vec<Action>) {
        if state.down.has(p.0) {
            return actions.push(Action::RestartParticipant(p));
        }
        let part = state.part(p);
        if state.at_participant(Message::Prepare, p) {
            match part {
                Participant::Working if self.readers.has(p.0) => {
                    actions.extend([Action::VoteRead(p), Action::VoteNo(p)]);
                }
                Participant::Working => {
                    actions.extend([Action::VoteYes(p), Action::VoteNo(p)]);
                    self.flawed(Flaw::LeaveWithWrites, Action::LeaveWithWrites(p), actions);
                }
                _ => actions.push(Action::Revote(p)),
            }
        }
        if part == Participant::Working {
            actions.push(Action::GiveUp(p));
        }
        if state.at_participant(Message::Commit, p) {
            actions.push(Action::LearnCommit(p));
        }
        if state.at_participant(Message::Abort, p) {
            actions.push(Action::LearnAbort(p));
        }
        let in_doubt = part == Participant::Prepared
            || part.is_alone()
            || (self.lazy_aborts && part == Participant::Aborted);
        if in_doubt && !state.in_flight(Message::Inquiry, p) {
            actions.push(Action::Inquire(p));
        }
        if self.cooperative && in_doubt && !state.in_flight(Message::Ask, p) {
            actions.push(Action::AskPeers(p));
        }
        if state.in_flight(Message::TellCommit, p) {
            actions.push(Action::HearCommit(p));
        }
        if state.in_flight(Message::TellAbort, p) {
            actions.push(Action::HearAbort(p));
        }
        if state.budget.part > 0 {
            actions.push(Action::CrashParticipant(p));
        }
        if part.is_alone() && !state.in_flight(Message::Ack, p) {
            self.flawed(Flaw::AckAlone, Action::AckAlone(p), actions);
        }
        if part == Participant::Prepared || (self.lazy_aborts && part == Participant::Aborted) {
            if self.heuristics.commits {
                actions.push(Action::HeuristicCommit(p));
            }
            if self.heuristics.aborts {
                actions.push(Action::HeuristicAbort(p));
            }
        }
        if part == Participant::Prepared {
            self.flawed(Flaw::GiveUpInDoubt, Action::GiveUpInDoubt(p), actions);
            if state.budget.part > 0 {
                self.flawed(Flaw::CrashForgetsVote, Action::CrashForgetsVote(p), actions);
            }
        }
    }

    /// What a participant that is up answers the others that have asked.
    fn answers(&self, state: &State, q: P, actions: &mut Vec<Action>) {
        let part = state.part(q);
        let knows = self.knows_commit(state, q);
        let asking = self
            .each()
            .filter(|p| *p != q && state.in_flight(Message::Ask, *p) && !state.down.has(q.0));
        for p in asking {
            if knows && !state.in_flight(Message::TellCommit, p) {
                actions.push(Action::TellCommit(q, p));
            }
            if state.in_flight(Message::TellAbort, p) {
                continue;
            }
            match part {
                Participant::Working => {
                    actions.push(Action::TellAbort(q, p));
                    self.flawed(Flaw::TellUnbound, Action::TellUnbound(q, p), actions);
                }
                Participant::Aborted | Participant::MixedCommitted => {
                    actions.push(Action::TellAbort(q, p));
                }
                Participant::Prepared => {
                    self.flawed(Flaw::TellInDoubt, Action::TellInDoubt(q, p), actions);
                }
                Participant::Left => {
                    self.flawed(Flaw::TellLeft, Action::TellLeft(q, p), actions);
                }
                Participant::Committed
                | Participant::AloneCommitted
                | Participant::AloneAborted
                | Participant::MixedAborted => {}
            }
        }
    }

    /// `KnowsCommit`.
    fn knows_commit(&self, state: &State, q: P) -> bool {
        let told = [Message::Commit, Message::TellCommit];
        let on_the_way = || told.iter().any(|message| state.in_flight(*message, q));
        let part = state.part(q);
        part.knows() == Some(true)
            || (part == Participant::Prepared && self.duplicates && on_the_way())
    }

    /// What a delivery does to the network: `Without` in the spec.
    fn take(&self, after: &mut State, message: Message, p: P) {
        if !self.duplicates {
            after.lose(message, p);
        }
    }

    fn flawed(&self, flaw: Flaw, action: Action, actions: &mut Vec<Action>) {
        if self.flaw == Some(flaw) {
            actions.push(action);
        }
    }

    fn coordinator_step(&self, after: &mut State, action: Action) {
        match action {
            Action::Begin => (after.coord, after.awaited) = (Coordinator::Waiting, self.all()),
            Action::DecideCommit => {
                (after.coord, after.record, after.awaited) =
                    (Coordinator::Committed, Record::Commit, self.stayers());
            }
            Action::DecideUnlogged => {
                (after.coord, after.awaited) = (Coordinator::Committed, self.all())
            }
            Action::DecideAbort => {
                (after.coord, after.awaited) = (Coordinator::Aborted, self.all())
            }
            Action::End | Action::EndEarly => {
                (after.coord, after.record, after.awaited) =
                    (Coordinator::Ended, Record::End, Members::default());
            }
            Action::CrashCoordinator => {
                (after.coord, after.awaited) = (Coordinator::Down, Members::default());
                after.budget.coord -= 1;
            }
            Action::RestartCoordinator => {
                (after.coord, after.awaited) = match after.record {
                    Record::None => (Coordinator::Aborted, Members::default()),
                    Record::Commit => (Coordinator::Committed, self.stayers()),
                    Record::End => (Coordinator::Ended, Members::default()),
                };
            }
            other => unreachable!("{other:?} is no step of the coordinator alone"),
        }
    }

    /// A message that the coordinator sends to or receives from one participant.
    fn exchange(&self, after: &mut State, action: Action) {
        match action {
            Action::SendPrepare(p) => after.put(Message::Prepare, p),
            Action::SendCommit(p) => after.put(Message::Commit, p),
            Action::SendAbort(p) => {
                after.put(Message::Abort, p);
                after.awaited = after.awaited.without(p.0);
            }
            Action::ReceiveYes(p) | Action::ReceiveRead(p) => {
                let message = match action {
                    Action::ReceiveYes(_) => Message::Yes,
                    _ => Message::Read,
                };
                self.take(after, message, p);
                if after.coord == Coordinator::Waiting {
                    after.awaited = after.awaited.without(p.0);
                }
            }
            Action::ReceiveNo(p) => {
                self.take(after, Message::No, p);
                if after.coord == Coordinator::Waiting {
                    (after.coord, after.awaited) = (Coordinator::Aborted, self.all().without(p.0));
                }
            }
            Action::ReceiveAck(p) => {
                self.take(after, Message::Ack, p);
                if after.coord == Coordinator::Committed {
                    after.awaited = after.awaited.without(p.0);
                }
            }
            Action::AnswerInquiry(p) => {
                self.take(after, Message::Inquiry, p);
                match after.coord {
                    Coordinator::Committed => after.put(Message::Commit, p),
                    Coordinator::Aborted | Coordinator::Ended => after.put(Message::Abort, p),
                    Coordinator::Idle | Coordinator::Waiting | Coordinator::Down => {}
                }
            }
            Action::AnswerFromMemory(p) => {
                self.take(after, Message::Inquiry, p);
                after.put(Message::Commit, p);
            }
            other => unreachable!("{other:?} is no message at the coordinator"),
        }
    }

    fn participant_step(&self, after: &mut State, action: Action) {
        match action {
            Action::VoteYes(p) => {
                self.take(after, Message::Prepare, p);
                after.set(p, Participant::Prepared);
                after.put(Message::Yes, p);
            }
            Action::VoteRead(p) | Action::LeaveWithWrites(p) => {
                self.take(after, Message::Prepare, p);
                after.set(p, Participant::Left);
                after.put(Message::Read, p);
            }
            Action::VoteNo(p) => {
                self.take(after, Message::Prepare, p);
                after.set(p, Participant::Aborted);
                after.put(Message::No, p);
            }
            Action::Revote(p) => {
                self.take(after, Message::Prepare, p);
                let part = after.part(p);
                if part == Participant::Prepared || part.is_alone() {
                    after.put(Message::Yes, p);
                } else if part == Participant::Left || part.knows() == Some(false) {
                    after.put(Message::No, p);
                }
            }
            Action::GiveUp(p) | Action::GiveUpInDoubt(p) => after.set(p, Participant::Aborted),
            Action::LearnCommit(p) | Action::HearCommit(p) => {
                let message = match action {
                    Action::LearnCommit(_) => Message::Commit,
                    _ => Message::TellCommit,
                };
                self.take(after, message, p);
                after.set(p, after.part(p).told(true));
                after.put(Message::Ack, p);
            }
            Action::LearnAbort(p) | Action::HearAbort(p) => {
                let message = match action {
                    Action::LearnAbort(_) => Message::Abort,
                    _ => Message::TellAbort,
                };
                self.take(after, message, p);
                after.set(p, after.part(p).told(false));
            }
            Action::Inquire(p) => after.put(Message::Inquiry, p),
            Action::HeuristicCommit(p) => after.set(p, Participant::AloneCommitted),
            Action::HeuristicAbort(p) => after.set(p, Participant::AloneAborted),
            Action::AckAlone(p) => after.put(Message::Ack, p),
            Action::AskPeers(p) => after.put(Message::Ask, p),
            Action::TellCommit(_, p) => after.put(Message::TellCommit, p),
            Action::TellAbort(q, p) => {
                if after.part(q) == Participant::Working {
                    after.set(q, Participant::Aborted);
                }
                after.put(Message::TellAbort, p);
            }
            Action::TellInDoubt(_, p) | Action::TellUnbound(_, p) | Action::TellLeft(_, p) => {
                after.put(Message::TellAbort, p);
            }
            Action::CrashParticipant(p) | Action::CrashForgetsVote(p) => {
                let forgets = matches!(action, Action::CrashForgetsVote(_));
                if after.part(p) == Participant::Working || forgets {
                    after.set(p, Participant::Aborted);
                }
                after.down = after.down.with(p.0);
                after.budget.part -= 1;
            }
            Action::RestartParticipant(p) => after.down = after.down.without(p.0),
            other => unreachable!("{other:?} is no step of a participant"),
        }
    }

    fn network_step(&self, after: &mut State, action: Action) {
        match action {
            Action::Lose(message, p) => {
                after.lose(message, p);
                if !after.cut.has(p.0) && !self.forever {
                    after.budget.loss -= 1;
                }
            }
            Action::Cut(p) => {
                after.cut = after.cut.with(p.0);
                if !self.forever {
                    after.budget.cut -= 1;
                }
            }
            Action::Heal(p) => after.cut = after.cut.without(p.0),
            other => unreachable!("{other:?} is no step of the network"),
        }
    }

    fn ended(&self, state: &State) -> bool {
        self.each().all(|p| state.part(p).is_final())
    }

    fn any(&self, state: &State, part: Participant) -> bool {
        self.each().any(|p| state.part(p) == part)
    }

    /// `Undone`.
    fn undone(&self, state: &State, p: P) -> bool {
        let part = state.part(p);
        let lost = part == Participant::Left && !self.readers.has(p.0);
        part.done() == Some(false) || lost
    }

    fn atomicity(&self, state: &State) -> bool {
        let committed = |p: P| state.part(p).done() == Some(true);
        !(self.each().any(committed) && self.each().any(|p| self.undone(state, p)))
    }

    fn atomicity_unless_alone(&self, state: &State) -> bool {
        !(self.any(state, Participant::Committed) && self.any(state, Participant::Aborted))
    }

    fn mixed_is_true(&self, state: &State) -> bool {
        let recorded = state.record != Record::None;
        (recorded || !self.any(state, Participant::MixedAborted))
            && (!recorded || !self.any(state, Participant::MixedCommitted))
    }

    fn commit_is_logged(&self, state: &State) -> bool {
        let stays = |part: Participant| {
            let prepared = part == Participant::Prepared || part.is_alone();
            prepared || part.knows() == Some(true)
        };
        let voted = |p: P| match self.readers.has(p.0) {
            true => state.part(p) == Participant::Left,
            false => stays(state.part(p)),
        };
        let recorded = state.record != Record::None;
        (recorded || !self.any(state, Participant::Committed))
            && (!recorded || self.each().all(voted))
    }

    fn end_is_final(&self, state: &State) -> bool {
        let knows = |p: P| self.readers.has(p.0) || state.part(p).knows() == Some(true);
        state.record != Record::End || self.each().all(knows)
    }

    /// Whether a participant may go from one state to the other: `Stable`.
    fn is_stable(&self, before: Participant, after: Participant) -> bool {
        let forgot = self.lazy_aborts && before == Participant::Aborted && after.is_alone();
        let kept = !before.is_final() || after == before || forgot;
        kept && (!before.is_alone() || after.done() == before.done())
    }

    fn one_phase_for_readers(&self, state: &State) -> bool {
        let spared = |set: Members| set.0 & self.readers.0 == 0;
        let silent = |message: Message| spared(state.net[message as usize]);
        silent(Message::Commit)
            && silent(Message::Ack)
            && (state.coord != Coordinator::Committed || spared(state.awaited))
    }

    fn type_ok(&self, state: &State) -> bool {
        let within = |set: Members| set.0 & !self.all().0 == 0;
        let Budget {
            coord,
            part,
            loss,
            cut,
        } = state.budget;
        let sets = [state.awaited, state.down, state.cut]
            .into_iter()
            .chain(state.net);
        sets.into_iter().all(within)
            && (coord <= self.budget.coord && part <= self.budget.part)
            && (loss <= self.budget.loss && cut <= self.budget.cut)
    }
}

impl Model for TwoPhase {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            coord: Coordinator::Idle,
            awaited: Members::default(),
            record: Record::None,
            part: [Participant::Working; PARTICIPANTS_MAX],
            down: Members::default(),
            cut: Members::default(),
            net: [Members::default(); MESSAGES.len()],
            budget: self.budget,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.coordinator_actions(state, actions);
        for p in self.each() {
            self.link_actions(state, p, actions);
            self.participant_actions(state, p, actions);
            self.answers(state, p, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        use Action::*;
        let mut after = *before;
        match action {
            Begin | DecideCommit | DecideUnlogged | DecideAbort | End | EndEarly
            | CrashCoordinator | RestartCoordinator => self.coordinator_step(&mut after, action),
            SendPrepare(_) | SendCommit(_) | SendAbort(_) | ReceiveYes(_) | ReceiveRead(_)
            | ReceiveNo(_) | ReceiveAck(_) | AnswerInquiry(_) | AnswerFromMemory(_) => {
                self.exchange(&mut after, action)
            }
            VoteYes(_)
            | VoteRead(_)
            | LeaveWithWrites(_)
            | VoteNo(_)
            | Revote(_)
            | GiveUp(_)
            | GiveUpInDoubt(_)
            | LearnCommit(_)
            | LearnAbort(_)
            | Inquire(_)
            | HeuristicCommit(_)
            | HeuristicAbort(_)
            | AckAlone(_)
            | AskPeers(_)
            | TellCommit(..)
            | TellAbort(..)
            | TellInDoubt(..)
            | TellUnbound(..)
            | TellLeft(..)
            | HearCommit(_)
            | HearAbort(_)
            | CrashParticipant(_)
            | CrashForgetsVote(_)
            | RestartParticipant(_) => {
                self.participant_step(&mut after, action);
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

impl Spec for TwoPhase {
    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let flaw = match config.specification.as_str() {
            "Safe" | "Spec" | "SpecPeers" | "SpecAlone" | "SpecReturns" | "SpecTimed"
            | "SpecStrong" => None,
            "SpecEndEarly" => Some(Flaw::EndEarly),
            "SpecDecideUnlogged" => Some(Flaw::DecideUnlogged),
            "SpecCrashForgetsVote" => Some(Flaw::CrashForgetsVote),
            "SpecGiveUpInDoubt" => Some(Flaw::GiveUpInDoubt),
            "SpecTellInDoubt" => Some(Flaw::TellInDoubt),
            "SpecTellUnbound" => Some(Flaw::TellUnbound),
            "SpecLeaveWithWrites" => Some(Flaw::LeaveWithWrites),
            "SpecTellLeft" => Some(Flaw::TellLeft),
            "SpecAckAlone" => Some(Flaw::AckAlone),
            other => return Err(unknown("specification", other)),
        };
        let budget = Budget {
            coord: config.number("MaxCoordCrashes", 9)?,
            part: config.number("MaxPartCrashes", 9)?,
            loss: config.number("MaxLosses", 9)?,
            cut: config.number("MaxCuts", 9)?,
        };
        let participants = config.models("Participants", "p", PARTICIPANTS_MAX as u8)?;
        Ok(Self {
            participants,
            readers: config.some_models("Readers", "p", participants)?,
            budget,
            forever: config.truth("Forever")?,
            duplicates: config.truth("Duplicates")?,
            cooperative: config.truth("Cooperative")?,
            heuristics: Heuristics {
                commits: config.truth("HeuristicCommits")?,
                aborts: config.truth("HeuristicAborts")?,
            },
            lazy_aborts: config.truth("LazyAborts")?,
            flaw,
        })
    }

    fn view(&self, state: &State) -> Value {
        let text = |word: &dyn fmt::Debug| Value::text(&format!("{word:?}").to_lowercase());
        let name = |p: P| Value::model(format_args!("{p:?}"));
        let net = MESSAGES.into_iter().flat_map(|message| {
            let type_ = text(&message);
            state.net[message as usize]
                .iter()
                .map(move |p| Value::record([("type", type_.clone()), ("rm", name(P(p)))]))
        });
        let Budget {
            coord,
            part,
            loss,
            cut,
        } = state.budget;
        Value::record([
            ("coord", text(&state.coord)),
            ("await", state.awaited.view("p")),
            ("record", text(&state.record)),
            (
                "part",
                Value::function(self.each().map(|p| (name(p), text(&state.part(p))))),
            ),
            ("down", state.down.view("p")),
            ("cut", state.cut.view("p")),
            ("net", Value::set(net)),
            (
                "budget",
                Value::record([
                    ("coord", coord.into()),
                    ("part", part.into()),
                    ("loss", loss.into()),
                    ("cut", cut.into()),
                ]),
            ),
        ])
    }

    fn label(action: &Action) -> &'static str {
        label!(action, Begin SendPrepare ReceiveYes ReceiveRead ReceiveNo DecideCommit DecideAbort SendCommit SendAbort ReceiveAck
            End AnswerInquiry AnswerFromMemory CrashCoordinator RestartCoordinator VoteYes VoteRead VoteNo Revote GiveUp LearnCommit LearnAbort
            Inquire HeuristicCommit HeuristicAbort AskPeers TellCommit TellAbort HearCommit HearAbort TellInDoubt TellUnbound TellLeft CrashParticipant RestartParticipant Lose Cut Heal
            EndEarly DecideUnlogged CrashForgetsVote GiveUpInDoubt LeaveWithWrites AckAlone)
    }

    fn invariants() -> &'static [(&'static str, Invariant<Self>)] {
        &[
            ("TypeOK", Self::type_ok),
            ("Atomicity", Self::atomicity),
            ("AtomicityUnlessAlone", Self::atomicity_unless_alone),
            ("MixedIsTrue", Self::mixed_is_true),
            ("CommitIsLogged", Self::commit_is_logged),
            ("EndIsFinal", Self::end_is_final),
            ("OnePhaseForReaders", Self::one_phase_for_readers),
        ]
    }

    fn assume<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        specification: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError> {
        use Action::*;
        let each = || (0..self.participants).map(P);
        let progress = |checker: FairChecker<'m, Self>| {
            let weak = Strength::Weak;
            checker
                .weak("DecideCommit", |action| *action == DecideCommit)
                .weak("DecideAbort", |action| *action == DecideAbort)
                .weak("End", |action| *action == End)
                .each(weak, "SendCommit", each(), |p, action| {
                    *action == SendCommit(*p)
                })
                .each(weak, "GiveUp", each(), |p, action| *action == GiveUp(*p))
                .each(weak, "Inquire", each(), |p, action| *action == Inquire(*p))
                .each(weak, "RestartParticipant", each(), |p, action| {
                    *action == RestartParticipant(*p)
                })
                .each(weak, "Heal", each(), |p, action| *action == Heal(*p))
        };
        let delivery = |checker: FairChecker<'m, Self>, strength| {
            checker
                .each(strength, "AnswerInquiry", each(), |p, action| {
                    *action == AnswerInquiry(*p)
                })
                .each(strength, "LearnCommit", each(), |p, action| {
                    *action == LearnCommit(*p)
                })
                .each(strength, "LearnAbort", each(), |p, action| {
                    *action == LearnAbort(*p)
                })
                .each(strength, "ReceiveAck", each(), |p, action| {
                    *action == ReceiveAck(*p)
                })
        };
        let peering = |checker: FairChecker<'m, Self>| {
            let weak = Strength::Weak;
            let pairs = || each().flat_map(move |q| each().map(move |p| (q, p)));
            checker
                .each(weak, "AskPeers", each(), |p, action| {
                    *action == AskPeers(*p)
                })
                .each(weak, "HearCommit", each(), |p, action| {
                    *action == HearCommit(*p)
                })
                .each(weak, "HearAbort", each(), |p, action| {
                    *action == HearAbort(*p)
                })
                .each(weak, "TellCommit", pairs(), |(q, p), action| {
                    *action == TellCommit(*q, *p)
                })
                .each(weak, "TellAbort", pairs(), |(q, p), action| {
                    *action == TellAbort(*q, *p)
                })
        };
        let alone = |checker: FairChecker<'m, Self>| {
            checker.each(
                Strength::Weak,
                "HeuristicCommit or HeuristicAbort",
                each(),
                |p, action| [HeuristicCommit(*p), HeuristicAbort(*p)].contains(action),
            )
        };
        let returns = |checker: FairChecker<'m, Self>| {
            checker.weak("RestartCoordinator", |action| *action == RestartCoordinator)
        };
        let sending = |checker: FairChecker<'m, Self>| {
            each().fold(checker, |checker, p| {
                checker
                    .constraint(
                        Strength::Strong,
                        format!("Inquire({p:?}) while the link is up"),
                        move |before, action, _| !before.cut.has(p.0) && *action == Inquire(p),
                    )
                    .constraint(
                        Strength::Strong,
                        format!("SendCommit({p:?}) while the link is up"),
                        move |before, action, _| !before.cut.has(p.0) && *action == SendCommit(p),
                    )
            })
        };
        Ok(match specification {
            "Spec" => delivery(progress(checker), Strength::Weak),
            "SpecPeers" => peering(delivery(progress(checker), Strength::Weak)),
            "SpecAlone" => alone(delivery(progress(checker), Strength::Weak)),
            "SpecReturns" => returns(delivery(progress(checker), Strength::Weak)),
            "SpecTimed" => returns(delivery(progress(checker), Strength::Strong)),
            "SpecStrong" => sending(returns(delivery(progress(checker), Strength::Strong))),
            "Safe"
            | "SpecEndEarly"
            | "SpecDecideUnlogged"
            | "SpecCrashForgetsVote"
            | "SpecGiveUpInDoubt"
            | "SpecTellInDoubt"
            | "SpecTellUnbound"
            | "SpecLeaveWithWrites"
            | "SpecTellLeft"
            | "SpecAckAlone" => checker,
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
                self.each()
                    .all(|p| self.is_stable(before.part(p), after.part(p)))
            }),
            "Termination" => checker.leads_to(
                name,
                |state| state.coord != Coordinator::Idle,
                |state| self.ended(state),
            ),
            "Spreads" => checker.leads_to(
                name,
                |state| {
                    let known = [Participant::Committed, Participant::Aborted];
                    known.iter().any(|part| self.any(state, *part))
                },
                |state| self.ended(state),
            ),
            "Released" => checker.leads_to(
                name,
                |state| state.coord != Coordinator::Idle,
                |state| {
                    let released = |part: Participant| part.is_final() || part.is_alone();
                    self.each().all(|p| released(state.part(p)))
                },
            ),
            "Forgotten" => checker.leads_to(
                name,
                |state| state.record == Record::Commit,
                |state| state.record == Record::End,
            ),
            other => return Err(unknown("property", other)),
        })
    }
}
