//! `specs/ramp/Ramp.tla` in Rust: RAMP-Fast, with cooperative termination.
//!
//! The spec holds the explanations; here the same actions stand in the same order under the same names.

use std::fmt;

use stateright::{Model, Property};

use super::value::{Config, ConfigError, Value};
use super::{Invariant, Members, Spec, label, unknown};
use crate::model::checker::leads_to::FairChecker;
use crate::model::checker::leads_to::Strength::Weak;

/// The largest number of items.
pub const ITEMS_MAX: usize = 3;
/// The largest number of transactions.
pub const TXNS_MAX: usize = 3;

/// The constants of the spec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ramp {
    /// How many items there are.
    pub items: u8,
    /// How many transactions write.
    pub count: u8,
    /// How many crashes of servers there may be.
    pub crashes: u8,
    /// The step that a broken variant adds.
    pub flaw: Option<Flaw>,
}

/// The broken variants in `MCRampBroken.tla`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// The reader is content with the first round.
    SkipSecondRound,
    /// The second round asks for the latest version again.
    FetchLatest,
    /// The first round takes a version that is prepared.
    GetPrepared,
    /// The coordinator commits at each server as soon as that one has prepared.
    CommitEarly,
    /// A server in doubt loses patience.
    GiveUpInDoubt,
    /// A server says that it will never prepare, and prepares.
    PrepareBarred,
    /// A crash takes a prepared version with it.
    CrashForgets,
}

/// An item by number, from 0; `i1`, `i2` and so on in the spec.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct I(pub u8);

impl fmt::Debug for I {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "i{}", self.0 + 1)
    }
}

/// A transaction by its timestamp, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct T(pub u8);

impl fmt::Debug for T {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a server knows of a version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Fate {
    /// Nothing.
    #[default]
    None,
    /// It is there, and in doubt.
    Prepared,
    /// It has committed.
    Committed,
    /// It is not there, and never will be.
    Barred,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Fate::None => "none",
            Fate::Prepared => "prepared",
            Fate::Committed => "committed",
            Fate::Barred => "barred",
        }
    }

    fn stands(self) -> bool {
        matches!(self, Fate::Prepared | Fate::Committed)
    }
}

/// The variables of the spec; entries beyond the numbers of items and transactions stay as they are by default.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State {
    /// `writes`.
    pub writes: [Members; TXNS_MAX],
    /// `acked`.
    pub acked: [Members; TXNS_MAX],
    /// `decided`, transactions by number from 0.
    pub decided: Members,
    /// `version`.
    pub version: [[Fate; ITEMS_MAX]; TXNS_MAX],
    /// `down`.
    pub down: Members,
    /// `round`.
    pub round: u8,
    /// `asked`.
    pub asked: Members,
    /// `got`.
    pub got: [u8; ITEMS_MAX],
    /// `need`.
    pub need: [u8; ITEMS_MAX],
    /// `budget`.
    pub budget: u8,
}

impl State {
    fn of(&self, t: T, i: I) -> Fate {
        self.version[at(t)][usize::from(i.0)]
    }

    fn write_set(&self, t: T) -> impl Iterator<Item = I> + use<> {
        self.writes[at(t)].iter().map(I)
    }

    /// Whether any of the servers of the write set gives this answer.
    fn answers(&self, t: T, fate: Fate) -> bool {
        self.write_set(t).any(|i| self.of(t, i) == fate)
    }

    /// Whether the transaction's versions are at all servers of its write set.
    fn stands(&self, t: T) -> bool {
        self.write_set(t).all(|i| self.of(t, i).stands())
    }

    fn is_done(&self) -> bool {
        self.round == 2 && self.asked.is_empty()
    }
}

/// The position of a transaction.
fn at(t: T) -> usize {
    usize::from(t.0) - 1
}

/// The actions of the spec.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // Ramp.tla explains each.
pub enum Action {
    Prepare(T, I),
    Decide(T),
    Commit(T, I),
    Get(I),
    Compare,
    Fetch(I),
    Bar(T, I),
    TerminateCommit(T, I),
    TerminateAbort(T, I),
    Crash(I),
    Restart(I),
    SkipSecondRound,
    FetchLatest(I),
    GetPrepared(T, I),
    CommitEarly(T, I),
    GiveUpInDoubt(T, I),
    PrepareBarred(T, I),
    CrashForgets(T, I),
}

impl Ramp {
    fn txns(&self) -> impl Iterator<Item = T> + use<> {
        (1..=self.count).map(T)
    }

    fn items(&self) -> impl Iterator<Item = I> + use<> {
        (0..self.items).map(I)
    }

    /// Every pair of a transaction and an item.
    fn pairs(&self) -> impl Iterator<Item = (T, I)> + use<> {
        let items = self.items;
        self.txns()
            .flat_map(move |t| (0..items).map(move |i| (t, I(i))))
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn latest(&self, state: &State, i: I) -> u8 {
        let committed = self.txns().filter(|t| state.of(*t, i) == Fate::Committed);
        committed.map(|t| t.0).max().unwrap_or(0)
    }

    fn missed(&self, state: &State, i: I) -> u8 {
        let read = self.items().map(|j| state.got[usize::from(j.0)]);
        let wrote = read.filter(|t| *t > 0 && state.writes[at(T(*t))].has(i.0));
        wrote.max().unwrap_or(0)
    }

    /// What may happen to a transaction's version of an item.
    fn version_actions(&self, state: &State, t: T, i: I, actions: &mut Vec<Action>) {
        let mut when = |enabled: bool, action: Action| {
            if enabled {
                actions.push(action);
            }
        };
        let up = !state.down.has(i.0);
        let fate = state.of(t, i);
        let prepared = up && fate == Fate::Prepared;
        let is_written = up && state.writes[at(t)].has(i.0);
        when(is_written && fate == Fate::None, Action::Prepare(t, i));
        when(prepared && state.decided.has(t.0 - 1), Action::Commit(t, i));
        let is_asked = is_written && fate == Fate::None && state.answers(t, Fate::Prepared);
        when(is_asked, Action::Bar(t, i));
        let all_prepared = { state.write_set(t) }.all(|j| state.of(t, j) == Fate::Prepared);
        when(
            prepared && (state.answers(t, Fate::Committed) || all_prepared),
            Action::TerminateCommit(t, i),
        );
        when(
            prepared && state.answers(t, Fate::Barred),
            Action::TerminateAbort(t, i),
        );
        let reads = up && state.round == 1 && state.asked.has(i.0);
        when(
            self.has(Flaw::GetPrepared) && reads && prepared && t.0 > self.latest(state, i),
            Action::GetPrepared(t, i),
        );
        when(
            self.has(Flaw::CommitEarly) && prepared && state.acked[at(t)].has(i.0),
            Action::CommitEarly(t, i),
        );
        when(
            self.has(Flaw::GiveUpInDoubt) && prepared,
            Action::GiveUpInDoubt(t, i),
        );
        when(
            self.has(Flaw::PrepareBarred) && is_written && fate == Fate::Barred,
            Action::PrepareBarred(t, i),
        );
        when(
            self.has(Flaw::CrashForgets) && prepared && state.budget > 0,
            Action::CrashForgets(t, i),
        );
    }

    /// What may happen to an item's server, and to the reader there.
    fn item_actions(&self, state: &State, i: I, actions: &mut Vec<Action>) {
        let mut when = |enabled: bool, action: Action| {
            if enabled {
                actions.push(action);
            }
        };
        let up = !state.down.has(i.0);
        let is_asked = up && state.asked.has(i.0);
        when(is_asked && state.round == 1, Action::Get(i));
        let second = is_asked && state.round == 2;
        let need = state.need[usize::from(i.0)];
        let is_there = need > 0 && state.of(T(need.max(1)), i).stands();
        when(second && is_there, Action::Fetch(i));
        when(
            second && self.has(Flaw::FetchLatest),
            Action::FetchLatest(i),
        );
        when(up && state.budget > 0, Action::Crash(i));
        when(!up, Action::Restart(i));
    }

    fn read(after: &mut State, i: I, timestamp: u8) {
        after.got[usize::from(i.0)] = timestamp;
        after.asked = after.asked.without(i.0);
    }

    fn crash(after: &mut State, i: I) {
        after.down = after.down.with(i.0);
        after.budget -= 1;
    }

    fn type_ok(&self, state: &State) -> bool {
        let items = Members::first(self.items);
        let within = |set: &Members| set.0 & !items.0 == 0;
        { state.writes.iter().chain(&state.acked) }.all(within)
            && state.decided.0 & !Members::first(self.count).0 == 0
            && within(&state.down)
            && within(&state.asked)
            && matches!(state.round, 1 | 2)
            && { state.got.iter().chain(&state.need) }.all(|t| *t <= self.count)
            && state.budget <= self.crashes
    }

    fn read_atomicity(&self, state: &State) -> bool {
        let got = |i: I| state.got[usize::from(i.0)];
        !state.is_done()
            || self.items().filter(|i| got(*i) > 0).all(|i| {
                let t = T(got(i));
                state.write_set(t).all(|j| got(j) >= t.0)
            })
    }

    fn no_dirty_reads(&self, state: &State) -> bool {
        { state.got.iter() }.all(|t| *t == 0 || state.stands(T(*t)))
    }

    fn atomicity(&self, state: &State) -> bool {
        self.txns()
            .all(|t| !(state.answers(t, Fate::Committed) && state.answers(t, Fate::Barred)))
    }

    fn durability(&self, state: &State) -> bool {
        { state.decided.iter() }.all(|t| state.stands(T(t + 1)))
    }

    fn stable(&self, before: &State, after: &State) -> bool {
        self.pairs().all(|(t, i)| match before.of(t, i) {
            Fate::None | Fate::Prepared => true,
            fate => after.of(t, i) == fate,
        })
    }
}

impl Model for Ramp {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let all = Members::first(self.items);
        let mut states = vec![State {
            writes: Default::default(),
            acked: Default::default(),
            decided: Members::default(),
            version: Default::default(),
            down: Members::default(),
            round: 1,
            asked: all,
            got: [0; ITEMS_MAX],
            need: [0; ITEMS_MAX],
            budget: self.crashes,
        }];
        for t in self.txns() {
            let with = |state: &State| {
                let state = state.clone();
                let sets = (1..=all.0).map(Members);
                sets.map(move |set| {
                    let mut state = state.clone();
                    state.writes[at(t)] = set;
                    state
                })
            };
            states = states.iter().flat_map(with).collect();
        }
        states
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for t in self.txns() {
            let is_acked = state.acked[at(t)] == state.writes[at(t)];
            if !state.decided.has(t.0 - 1) && is_acked {
                actions.push(Action::Decide(t));
            }
        }
        for (t, i) in self.pairs() {
            self.version_actions(state, t, i, actions);
        }
        for i in self.items() {
            self.item_actions(state, i, actions);
        }
        if state.round == 1 && state.asked.is_empty() {
            actions.push(Action::Compare);
            if self.has(Flaw::SkipSecondRound) {
                actions.push(Action::SkipSecondRound);
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        use Action::*;
        let mut after = before.clone();
        let mut becomes = |t: T, i: I, fate: Fate| after.version[at(t)][usize::from(i.0)] = fate;
        match action {
            Prepare(t, i) | PrepareBarred(t, i) => {
                becomes(t, i, Fate::Prepared);
                after.acked[at(t)] = after.acked[at(t)].with(i.0);
            }
            Decide(t) => after.decided = after.decided.with(t.0 - 1),
            Commit(t, i) | TerminateCommit(t, i) | CommitEarly(t, i) => {
                becomes(t, i, Fate::Committed);
            }
            Bar(t, i) | TerminateAbort(t, i) | GiveUpInDoubt(t, i) => becomes(t, i, Fate::Barred),
            Get(i) | FetchLatest(i) => Self::read(&mut after, i, self.latest(before, i)),
            GetPrepared(t, i) => Self::read(&mut after, i, t.0),
            Compare => {
                after.round = 2;
                for i in self.items() {
                    after.need[usize::from(i.0)] = self.missed(before, i);
                }
                let lacks = |i: &I| before.got[usize::from(i.0)] < self.missed(before, *i);
                after.asked =
                    { self.items().filter(lacks) }.fold(Members::default(), |set, i| set.with(i.0));
            }
            SkipSecondRound => after.round = 2,
            Fetch(i) => Self::read(&mut after, i, before.need[usize::from(i.0)]),
            Crash(i) => Self::crash(&mut after, i),
            CrashForgets(t, i) => {
                becomes(t, i, Fate::None);
                Self::crash(&mut after, i);
            }
            Restart(i) => after.down = after.down.without(i.0),
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

impl Spec for Ramp {
    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let flaw = match config.specification.as_str() {
            "Safe" | "Spec" | "SpecAlone" => None,
            "SpecSkipSecondRound" => Some(Flaw::SkipSecondRound),
            "SpecFetchLatest" => Some(Flaw::FetchLatest),
            "SpecGetPrepared" => Some(Flaw::GetPrepared),
            "SpecCommitEarly" => Some(Flaw::CommitEarly),
            "SpecGiveUpInDoubt" => Some(Flaw::GiveUpInDoubt),
            "SpecPrepareBarred" => Some(Flaw::PrepareBarred),
            "SpecCrashForgets" => Some(Flaw::CrashForgets),
            other => return Err(unknown("specification", other)),
        };
        Ok(Self {
            items: config.models("Items", "i", ITEMS_MAX as u8)?,
            count: config.positive("Count", TXNS_MAX as u8)?,
            crashes: config.number("MaxCrashes", 9)?,
            flaw,
        })
    }

    fn view(&self, state: &State) -> Value {
        let item = |i: I| Value::model(format_args!("{i:?}"));
        let count = usize::from(self.count);
        let sets = |sets: &[Members]| Value::seq(sets[..count].iter().map(|set| set.view("i")));
        let versions = |t: T| {
            let of = |i: I| (item(i), Value::text(state.of(t, i).name()));
            Value::function(self.items().map(of))
        };
        let numbers = |numbers: &[u8; ITEMS_MAX]| {
            let of = |i: I| (item(i), numbers[usize::from(i.0)].into());
            Value::function(self.items().map(of))
        };
        Value::record([
            ("writes", sets(&state.writes)),
            ("acked", sets(&state.acked)),
            ("decided", state.decided.numbers()),
            ("version", Value::seq(self.txns().map(versions))),
            ("down", state.down.view("i")),
            ("round", state.round.into()),
            ("asked", state.asked.view("i")),
            ("got", numbers(&state.got)),
            ("need", numbers(&state.need)),
            ("budget", state.budget.into()),
        ])
    }

    fn label(action: &Action) -> &'static str {
        label!(action, Prepare Decide Commit Get Compare Fetch Bar TerminateCommit TerminateAbort Crash Restart
            SkipSecondRound FetchLatest GetPrepared CommitEarly GiveUpInDoubt PrepareBarred CrashForgets)
    }

    fn invariants() -> &'static [(&'static str, Invariant<Self>)] {
        &[
            ("TypeOK", Self::type_ok),
            ("ReadAtomicity", Self::read_atomicity),
            ("NoDirtyReads", Self::no_dirty_reads),
            ("Atomicity", Self::atomicity),
            ("Durability", Self::durability),
        ]
    }

    fn assume<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        specification: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError> {
        let readers = |checker: FairChecker<'m, Self>| {
            checker
                .weak("Compare", |action| *action == Action::Compare)
                .each(Weak, "Get", self.items(), |i, action| {
                    *action == Action::Get(*i)
                })
                .each(Weak, "Fetch", self.items(), |i, action| {
                    *action == Action::Fetch(*i)
                })
                .each(Weak, "Restart", self.items(), |i, action| {
                    *action == Action::Restart(*i)
                })
        };
        Ok(match specification {
            "SpecAlone" => readers(checker),
            "Spec" => readers(checker)
                .each(Weak, "Bar", self.pairs(), |(t, i), action| {
                    *action == Action::Bar(*t, *i)
                })
                .each(Weak, "TerminateCommit", self.pairs(), |(t, i), action| {
                    *action == Action::TerminateCommit(*t, *i)
                })
                .each(Weak, "TerminateAbort", self.pairs(), |(t, i), action| {
                    *action == Action::TerminateAbort(*t, *i)
                }),
            _ => checker,
        })
    }

    fn promise<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        name: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError> {
        Ok(match name {
            "Stable" => checker.always_step(name, |before, _, after| self.stable(before, after)),
            // One conjunct for each version; the verdicts of one name are taken together.
            "Terminates" => self.pairs().fold(checker, |checker, (t, i)| {
                checker.leads_to(
                    name,
                    move |state| state.of(t, i) == Fate::Prepared,
                    move |state| state.of(t, i) != Fate::Prepared,
                )
            }),
            "ReadersEnd" => checker.eventually(name, State::is_done),
            other => return Err(unknown("property", other)),
        })
    }
}
