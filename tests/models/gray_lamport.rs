//! `specs/litmus/GrayLamport.tla` in Rust: shared by the litmus test and the bench.

use ordain::model::checker::leads_to::{FairChecker, Strength};
use stateright::Model;

/// Two-phase commit with this many participants, at most 8.
#[derive(Clone, Copy)]
pub struct GrayLamport(pub u8);

/// Sets of participants are bit masks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub participants: [Participant; 8],
    pub manager: Manager,
    /// The manager has their votes.
    pub heard: u8,
    /// Their votes have been sent.
    pub voted: u8,
    pub commit_sent: bool,
    pub abort_sent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Participant {
    Working,
    Prepared,
    Committed,
    Aborted,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Manager {
    Init,
    Committed,
    Aborted,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    TMReceivePrepared(u8),
    TMCommit,
    TMAbort,
    RMPrepare(u8),
    RMChooseToAbort(u8),
    RMReceiveCommit(u8),
    RMReceiveAbort(u8),
}

impl Model for GrayLamport {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            participants: [Participant::Working; 8],
            manager: Manager::Init,
            heard: 0,
            voted: 0,
            commit_sent: false,
            abort_sent: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let undecided = state.manager == Manager::Init;
        if undecided && state.heard.count_ones() == u32::from(self.0) {
            actions.push(Action::TMCommit);
        }
        if undecided {
            actions.push(Action::TMAbort);
        }
        for rm in 0..self.0 {
            if undecided && state.voted >> rm & 1 == 1 {
                actions.push(Action::TMReceivePrepared(rm));
            }
            if state.participants[usize::from(rm)] == Participant::Working {
                actions.extend([Action::RMPrepare(rm), Action::RMChooseToAbort(rm)]);
            }
            if state.commit_sent {
                actions.push(Action::RMReceiveCommit(rm));
            }
            if state.abort_sent {
                actions.push(Action::RMReceiveAbort(rm));
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut after = *before;
        match action {
            Action::TMReceivePrepared(rm) => after.heard |= 1 << rm,
            Action::TMCommit => (after.manager, after.commit_sent) = (Manager::Committed, true),
            Action::TMAbort => (after.manager, after.abort_sent) = (Manager::Aborted, true),
            Action::RMPrepare(rm) => {
                after.participants[usize::from(rm)] = Participant::Prepared;
                after.voted |= 1 << rm;
            }
            Action::RMChooseToAbort(rm) | Action::RMReceiveAbort(rm) => {
                after.participants[usize::from(rm)] = Participant::Aborted;
            }
            Action::RMReceiveCommit(rm) => {
                after.participants[usize::from(rm)] = Participant::Committed
            }
        }
        Some(after)
    }
}

impl GrayLamport {
    fn members<'s>(&self, state: &'s State) -> &'s [Participant] {
        &state.participants[..usize::from(self.0)]
    }

    pub fn consistent(&self, state: &State) -> bool {
        let any = |participant| self.members(state).contains(&participant);
        !(any(Participant::Committed) && any(Participant::Aborted))
    }

    pub fn in_doubt(&self, state: &State) -> bool {
        self.members(state).contains(&Participant::Prepared)
    }

    pub fn ended(&self, state: &State) -> bool {
        let decided = |p: &Participant| matches!(p, Participant::Committed | Participant::Aborted);
        self.members(state).iter().all(decided)
    }

    /// The constraints of `Undecided`, and with `may_abort` those of `Spec`.
    pub fn fair(&self, may_abort: bool) -> FairChecker<'_, Self> {
        let mut checker =
            FairChecker::new(self).weak("TMCommit", |action| *action == Action::TMCommit);
        if may_abort {
            checker = checker.weak("TMAbort", |action| *action == Action::TMAbort);
        }
        checker
            .each(
                Strength::Weak,
                "RMReceiveCommit",
                0..self.0,
                |rm, action| *action == Action::RMReceiveCommit(*rm),
            )
            .each(Strength::Weak, "RMReceiveAbort", 0..self.0, |rm, action| {
                *action == Action::RMReceiveAbort(*rm)
            })
    }
}
