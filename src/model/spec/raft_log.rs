//! `specs/raft_log/RaftLog.tla` in Rust: bounded Raft with elections, replication, persistence and restart.
//!
//! The spec holds the explanations; here the same actions stand in the same order under the same names.

use std::collections::BTreeSet;
use std::fmt;

use stateright::{Model, Property};

use super::value::{Config, ConfigError, Value};
use super::{Invariant, Members, Spec, label, unknown};
use crate::model::leads_to::{FairChecker, Strength};

/// The largest number of servers.
pub const SERVERS_MAX: u8 = 5;

/// The constants of the spec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RaftLog {
    /// How many servers.
    pub count: u8,
    /// The last term.
    pub max_term: u8,
    /// What a behaviour may contain.
    pub budget: Budget,
    /// The network may become stable for good.
    pub stability: bool,
    /// And then election timers no longer collide.
    pub patience: bool,
    /// The step that a broken variant adds.
    pub flaw: Option<Flaw>,
}

/// The broken variants in `MCRaftLogBroken.tla`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// A vote is sent before it is on disk.
    CrashForgetsVote,
    /// An entry is acknowledged before it is on disk.
    CrashForgetsEntry,
    /// A leader commits what only it has.
    CommitAlone,
}

/// What a server does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // The field's own terms.
pub enum Role {
    Follower,
    Candidate,
    Leader,
}

/// What may still happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Budget {
    /// Entries that clients ask for.
    pub entry: u8,
    /// Requests sent again although nothing was lost; grows by one with each loss.
    pub repeat: u8,
    /// Crashes.
    pub crash: u8,
    /// Lost messages.
    pub loss: u8,
    /// Cut-off servers.
    pub cut: u8,
}

/// A server by number, from 0; shown as in the spec, where numbers start from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server(pub u8);

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 + 1)
    }
}

/// A message in flight.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Message {
    /// The sender.
    pub from: Server,
    /// The receiver.
    pub to: Server,
    /// The sender's term.
    pub term: u8,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Body {
    /// A candidate asks for a vote; its log's length and last term.
    Ask {
        /// Length.
        len: u8,
        /// Last term.
        last: u8,
    },
    /// A vote.
    Vote,
    /// A leader's entries after `prev`.
    Append {
        /// The index before the entries.
        prev: u8,
        /// The term of the entry there.
        prev_term: u8,
        /// The entries' terms.
        entries: Vec<u8>,
        /// How much the leader has committed.
        commit: u8,
    },
    /// The follower's log matches the leader's up to here.
    Ack {
        /// The index.
        upto: u8,
    },
}

/// One server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Replica {
    /// `term[i]`.
    pub term: u8,
    /// `vote[i]`.
    pub vote: Option<Server>,
    /// `log[i]`: the terms of its entries.
    pub log: Vec<u8>,
    /// `role[i]`.
    pub role: Role,
    /// `granted[i]`.
    pub granted: Members,
    /// `match[i]`.
    pub matched: Vec<u8>,
    /// `commit[i]`.
    pub commit: u8,
}

/// The variables of the spec.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State {
    /// `term`, `vote`, `log`, `role`, `granted`, `match` and `commit`.
    pub replicas: Vec<Replica>,
    /// `net`.
    pub net: BTreeSet<Message>,
    /// `down`.
    pub down: Members,
    /// `cut`.
    pub cut: Members,
    /// `stable`.
    pub stable: bool,
    /// `elected`: term and server.
    pub elected: BTreeSet<(u8, Server)>,
    /// `chosen`: index and term.
    pub chosen: BTreeSet<(u8, u8)>,
    /// `tried`.
    pub tried: BTreeSet<Message>,
    /// `budget`.
    pub budget: Budget,
}

/// The actions of the spec.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // RaftLog.tla explains each.
pub enum Action {
    Timeout(Server),
    AskVote(Server, Server),
    ReceiveAsk(Message),
    ReceiveVote(Message),
    BecomeLeader(Server),
    Request(Server),
    SendAppend(Server, Server),
    ReceiveAppend(Message),
    ReceiveAck(Message),
    Commit(Server, u8),
    Crash(Server),
    Restart(Server),
    Lose(Message),
    Cut(Server),
    Heal(Server),
    Stabilise,
    CrashForgetsVote(Server),
    CrashForgetsEntry(Server),
    CommitAlone(Server),
}

impl Replica {
    fn last_term(&self) -> u8 {
        self.log.last().copied().unwrap_or(0)
    }

    /// Section 5.4.1: whether a log that ends like this is at least as up to date as ours.
    fn admits(&self, last: u8, len: u8) -> bool {
        (last, usize::from(len)) >= (self.last_term(), self.log.len())
    }

    fn len(&self) -> u8 {
        self.log.len() as u8
    }

    fn step_down(&mut self, term: u8) {
        self.become_follower();
        self.term = term;
    }

    fn become_follower(&mut self) {
        self.role = Role::Follower;
        self.granted = Members::default();
        self.matched.fill(0);
    }

    /// Whether the log has the leader's entry at `prev`.
    fn fits(&self, prev: u8, prev_term: u8) -> bool {
        prev == 0 || self.log.get(usize::from(prev) - 1) == Some(&prev_term)
    }

    /// Takes over entries after `prev`, cutting the log back only where it contradicts.
    fn merge(&mut self, prev: u8, entries: &[u8]) {
        let (start, end) = (usize::from(prev), usize::from(prev) + entries.len());
        if self.log.get(start..end) != Some(entries) {
            self.log.truncate(start);
            self.log.extend_from_slice(entries);
        }
    }
}

impl State {
    fn of(&self, i: Server) -> &Replica {
        &self.replicas[usize::from(i.0)]
    }

    fn of_mut(&mut self, i: Server) -> &mut Replica {
        &mut self.replicas[usize::from(i.0)]
    }

    fn may_send(&self, request: &Message) -> bool {
        let free = self.stable || self.budget.repeat > 0 || !self.tried.contains(request);
        free && !self.net.contains(request)
    }

    fn send(&mut self, request: Message) {
        let again = !self.tried.insert(request.clone());
        if again && !self.stable {
            self.budget.repeat -= 1;
        }
        self.net.insert(request);
    }

    fn arrives(&self, message: &Message) -> bool {
        !self.down.has(message.to.0) && !self.on_cut_link(message)
    }

    fn on_cut_link(&self, message: &Message) -> bool {
        self.cut.has(message.to.0) || self.cut.has(message.from.0)
    }

    fn choose(&mut self, i: Server, upto: u8) {
        let log = self.of(i).log.clone();
        self.chosen.extend((1..=upto).zip(log));
    }

    fn forget(&mut self, i: Server) {
        let replica = self.of_mut(i);
        replica.become_follower();
        replica.commit = 0;
        self.down = self.down.with(i.0);
        self.budget.crash -= 1;
    }
}

impl RaftLog {
    fn servers(&self) -> impl Iterator<Item = Server> + use<> {
        (0..self.count).map(Server)
    }

    fn quorum(&self, count: usize) -> bool {
        2 * count > usize::from(self.count)
    }

    fn is_live(state: &State, i: Server) -> bool {
        !state.down.has(i.0) && !state.cut.has(i.0)
    }

    fn live<'s>(&self, state: &'s State) -> impl Iterator<Item = &'s Replica> + use<'s> {
        let live = self.servers().filter(|i| Self::is_live(state, *i));
        live.map(|i| state.of(i)).collect::<Vec<_>>().into_iter()
    }

    fn can_win(&self, state: &State, i: Server) -> bool {
        let replica = state.of(i);
        let voters = self
            .live(state)
            .filter(|voter| voter.admits(replica.last_term(), replica.len()));
        Self::is_live(state, i) && replica.role != Role::Leader && self.quorum(voters.count())
    }

    fn has_leader(&self, state: &State) -> bool {
        let last = self.live(state).map(|replica| replica.term).max();
        self.live(state)
            .any(|replica| replica.role == Role::Leader && Some(replica.term) == last)
    }

    fn may_time_out(&self, state: &State, i: Server) -> bool {
        if !state.stable {
            return state.of(i).term + u8::from(self.stability) < self.max_term;
        }
        let first = self.servers().find(|j| self.can_win(state, *j));
        !self.has_leader(state) && (!self.patience || first == Some(i))
    }

    fn ask(state: &State, i: Server, j: Server) -> Message {
        let replica = state.of(i);
        let body = Body::Ask {
            len: replica.len(),
            last: replica.last_term(),
        };
        Message {
            from: i,
            to: j,
            term: replica.term,
            body,
        }
    }

    fn append(state: &State, i: Server, j: Server) -> Message {
        let replica = state.of(i);
        let prev = replica.matched[usize::from(j.0)];
        let body = Body::Append {
            prev,
            prev_term: usize::from(prev)
                .checked_sub(1)
                .map_or(0, |at| replica.log[at]),
            entries: replica.log[usize::from(prev)..].to_vec(),
            commit: replica.commit,
        };
        Message {
            from: i,
            to: j,
            term: replica.term,
            body,
        }
    }

    fn server_actions(&self, state: &State, i: Server, actions: &mut Vec<Action>) {
        let replica = state.of(i);
        let mut when = |enabled: bool, action: Action| {
            if enabled {
                actions.push(action);
            }
        };
        let up = !state.down.has(i.0);
        let leads = up && replica.role == Role::Leader;
        let stands = up && replica.role == Role::Candidate;
        let patient = replica.term >= self.max_term || !self.may_time_out(state, i);
        when(up && !leads && !patient, Action::Timeout(i));
        when(
            stands && self.quorum(replica.granted.len() as usize),
            Action::BecomeLeader(i),
        );
        let kept_back = u8::from(self.stability && !state.stable);
        let lasts = state
            .replicas
            .iter()
            .all(|other| other.term <= replica.term);
        let asked = state.budget.entry > kept_back && (!state.stable || lasts);
        when(leads && asked, Action::Request(i));
        let alone = self.flaw == Some(Flaw::CommitAlone) && replica.commit < replica.len();
        when(leads && alone, Action::CommitAlone(i));
        for j in self.servers() {
            let asks =
                stands && !replica.granted.has(j.0) && state.may_send(&Self::ask(state, i, j));
            when(asks, Action::AskVote(i, j));
            let tells = replica.matched[usize::from(j.0)] < replica.len()
                || state.of(j).commit < replica.commit;
            let sends = leads && i != j && tells && state.may_send(&Self::append(state, i, j));
            when(sends, Action::SendAppend(i, j));
        }
        for n in replica.commit + 1..=replica.len() {
            let holders = replica
                .matched
                .iter()
                .filter(|matched| **matched >= n)
                .count();
            let own = replica.log[usize::from(n) - 1] == replica.term;
            when(leads && own && self.quorum(holders), Action::Commit(i, n));
        }
        self.fault_actions(state, i, actions);
    }

    fn fault_actions(&self, state: &State, i: Server, actions: &mut Vec<Action>) {
        let mut when = |enabled: bool, action: Action| {
            if enabled {
                actions.push(action);
            }
        };
        let down = state.down.has(i.0);
        let may_crash = !down && !state.stable && state.budget.crash > 0;
        when(may_crash, Action::Crash(i));
        when(down, Action::Restart(i));
        when(
            !state.stable && !state.cut.has(i.0) && state.budget.cut > 0,
            Action::Cut(i),
        );
        when(state.cut.has(i.0), Action::Heal(i));
        when(
            may_crash && self.flaw == Some(Flaw::CrashForgetsVote),
            Action::CrashForgetsVote(i),
        );
        let loses_entry = self.flaw == Some(Flaw::CrashForgetsEntry) && !state.of(i).log.is_empty();
        when(may_crash && loses_entry, Action::CrashForgetsEntry(i));
    }

    fn message_actions(&self, state: &State, message: &Message, actions: &mut Vec<Action>) {
        if state.arrives(message) {
            actions.push(match message.body {
                Body::Ask { .. } => Action::ReceiveAsk(message.clone()),
                Body::Vote => Action::ReceiveVote(message.clone()),
                Body::Append { .. } => Action::ReceiveAppend(message.clone()),
                Body::Ack { .. } => Action::ReceiveAck(message.clone()),
            });
        }
        if state.on_cut_link(message) || (!state.stable && state.budget.loss > 0) {
            actions.push(Action::Lose(message.clone()));
        }
    }

    fn server_step(&self, before: &State, after: &mut State, action: &Action) {
        match *action {
            Action::Timeout(i) => {
                let replica = after.of_mut(i);
                replica.term += 1;
                replica.vote = Some(i);
                replica.role = Role::Candidate;
                replica.granted = Members::default().with(i.0);
            }
            Action::AskVote(i, j) => after.send(Self::ask(before, i, j)),
            Action::BecomeLeader(i) => {
                let replica = after.of_mut(i);
                let (term, len) = (replica.term, replica.len());
                replica.become_follower();
                replica.role = Role::Leader;
                replica.matched[usize::from(i.0)] = len;
                after.elected.insert((term, i));
            }
            Action::Request(i) => {
                let replica = after.of_mut(i);
                replica.log.push(replica.term);
                replica.matched[usize::from(i.0)] = replica.len();
                after.budget.entry -= 1;
            }
            Action::SendAppend(i, j) => after.send(Self::append(before, i, j)),
            Action::CommitAlone(i) => {
                let next = before.of(i).commit + 1;
                after.of_mut(i).commit = next;
                after.choose(i, next);
            }
            Action::Commit(i, n) => {
                after.of_mut(i).commit = n;
                after.choose(i, n);
            }
            ref other => unreachable!("{other:?} is no step of a server alone"),
        }
    }

    fn receive(after: &mut State, message: &Message) {
        after.net.remove(message);
        let replica = after.of_mut(message.to);
        match message.body {
            Body::Ask { len, last } => {
                let later = message.term > replica.term;
                let vote_free = replica.vote.is_none_or(|voted| voted == message.from);
                let free = later || (message.term == replica.term && vote_free);
                let grants = free && replica.admits(last, len);
                if later {
                    replica.step_down(message.term);
                    replica.vote = None;
                }
                if grants {
                    replica.vote = Some(message.from);
                    let vote = Message {
                        from: message.to,
                        to: message.from,
                        term: message.term,
                        body: Body::Vote,
                    };
                    after.net.insert(vote);
                }
            }
            Body::Vote => {
                if replica.role == Role::Candidate && message.term == replica.term {
                    replica.granted = replica.granted.with(message.from.0);
                }
            }
            Body::Append { .. } => Self::receive_append(after, message),
            Body::Ack { upto } => {
                if replica.role == Role::Leader && message.term == replica.term {
                    let matched = &mut replica.matched[usize::from(message.from.0)];
                    *matched = upto.max(*matched);
                }
            }
        }
    }

    fn receive_append(after: &mut State, message: &Message) {
        let Body::Append {
            prev,
            prev_term,
            ref entries,
            commit,
        } = message.body
        else {
            unreachable!("{message:?} appends nothing")
        };
        let replica = after.of_mut(message.to);
        if message.term < replica.term || !replica.fits(prev, prev_term) {
            return;
        }
        if message.term > replica.term {
            replica.vote = None;
        }
        replica.step_down(message.term);
        replica.merge(prev, entries);
        let upto = prev + entries.len() as u8;
        replica.commit = replica.commit.max(commit.min(upto));
        let known = replica.commit;
        after.choose(message.to, known);
        let ack = Message {
            from: message.to,
            to: message.from,
            term: message.term,
            body: Body::Ack { upto },
        };
        after.net.insert(ack);
    }

    fn fault(after: &mut State, action: &Action) {
        match action {
            Action::Crash(i) => after.forget(*i),
            Action::CrashForgetsVote(i) => {
                after.forget(*i);
                after.of_mut(*i).vote = None;
            }
            Action::CrashForgetsEntry(i) => {
                after.forget(*i);
                after.of_mut(*i).log.pop();
            }
            Action::Restart(i) => after.down = after.down.without(i.0),
            Action::Lose(message) => {
                after.net.remove(message);
                after.budget.repeat += 1;
                if !after.on_cut_link(message) {
                    after.budget.loss -= 1;
                }
            }
            Action::Cut(i) => {
                after.cut = after.cut.with(i.0);
                after.budget.cut -= 1;
            }
            Action::Heal(i) => after.cut = after.cut.without(i.0),
            Action::Stabilise => after.stable = true,
            other => unreachable!("{other:?} is no fault"),
        }
    }

    fn type_ok(&self, state: &State) -> bool {
        let entries = self.budget.entry;
        let fits = |replica: &Replica| {
            replica.term <= self.max_term
                && replica.len() <= entries
                && replica
                    .log
                    .iter()
                    .all(|term| (1..=replica.term).contains(term))
                && replica.commit <= replica.len()
                && replica.matched.iter().all(|matched| *matched <= entries)
        };
        let Budget {
            entry,
            crash,
            loss,
            cut,
            ..
        } = state.budget;
        state.replicas.iter().all(fits)
            && state
                .net
                .iter()
                .all(|message| (1..=self.max_term).contains(&message.term))
            && (entry <= entries && crash <= self.budget.crash)
            && (loss <= self.budget.loss && cut <= self.budget.cut)
    }

    fn election_safety(&self, state: &State) -> bool {
        let terms: BTreeSet<u8> = state.elected.iter().map(|(term, _)| *term).collect();
        terms.len() == state.elected.len()
    }

    fn log_matching(&self, state: &State) -> bool {
        let matching = |a: &Replica, b: &Replica| {
            let shorter = a.log.len().min(b.log.len());
            (0..shorter).all(|n| a.log[n] != b.log[n] || a.log[..=n] == b.log[..=n])
        };
        state
            .replicas
            .iter()
            .all(|a| state.replicas.iter().all(|b| matching(a, b)))
    }

    fn leader_completeness(&self, state: &State) -> bool {
        let leaders = state
            .replicas
            .iter()
            .filter(|replica| replica.role == Role::Leader);
        leaders.into_iter().all(|leader| {
            let older = state.chosen.iter().filter(|(_, term)| *term < leader.term);
            older
                .into_iter()
                .all(|(n, term)| leader.log.get(usize::from(*n) - 1) == Some(term))
        })
    }

    fn chosen_is_durable(&self, state: &State) -> bool {
        state.chosen.iter().all(|(n, term)| {
            let holds = |replica: &&Replica| replica.log.get(usize::from(*n) - 1) == Some(term);
            self.quorum(state.replicas.iter().filter(holds).count())
        })
    }

    fn state_machine_safety(&self, state: &State) -> bool {
        let indexes: BTreeSet<u8> = state.chosen.iter().map(|(n, _)| *n).collect();
        indexes.len() == state.chosen.len()
    }

    fn progress(&self, state: &State) -> bool {
        state.replicas.iter().all(|replica| replica.commit > 0)
    }
}

fn message_view(message: &Message) -> Value {
    let (from, to, term) = (
        (message.from.0 + 1).into(),
        (message.to.0 + 1).into(),
        message.term.into(),
    );
    let head = |type_: &str| {
        [
            ("type", Value::text(type_)),
            ("from", from),
            ("to", to),
            ("term", term),
        ]
    };
    let tail: Vec<(&str, Value)> = match &message.body {
        Body::Ask { len, last } => vec![("len", (*len).into()), ("last", (*last).into())],
        Body::Vote => vec![],
        Body::Append {
            prev,
            prev_term,
            entries,
            commit,
        } => vec![
            ("prev", (*prev).into()),
            ("prevTerm", (*prev_term).into()),
            (
                "entries",
                Value::seq(entries.iter().map(|term| (*term).into())),
            ),
            ("commit", (*commit).into()),
        ],
        Body::Ack { upto } => vec![("match", (*upto).into())],
    };
    let type_ = match message.body {
        Body::Ask { .. } => "ask",
        Body::Vote => "vote",
        Body::Append { .. } => "append",
        Body::Ack { .. } => "ack",
    };
    Value::Record(
        head(type_)
            .into_iter()
            .chain(tail)
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

impl Model for RaftLog {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let replica = Replica {
            term: 0,
            vote: None,
            log: Vec::new(),
            role: Role::Follower,
            granted: Members::default(),
            matched: vec![0; usize::from(self.count)],
            commit: 0,
        };
        vec![State {
            replicas: vec![replica; usize::from(self.count)],
            net: BTreeSet::new(),
            down: Members::default(),
            cut: Members::default(),
            stable: false,
            elected: BTreeSet::new(),
            chosen: BTreeSet::new(),
            tried: BTreeSet::new(),
            budget: self.budget,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for i in self.servers() {
            self.server_actions(state, i, actions);
        }
        for message in &state.net {
            self.message_actions(state, message, actions);
        }
        let healed = state.net.is_empty() && state.cut.is_empty() && state.down.is_empty();
        if self.stability && !state.stable && healed {
            actions.push(Action::Stabilise);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        use Action::*;
        let mut after = before.clone();
        match &action {
            Timeout(_) | AskVote(..) | BecomeLeader(_) | Request(_) | SendAppend(..)
            | Commit(..) | CommitAlone(_) => {
                self.server_step(before, &mut after, &action);
            }
            ReceiveAsk(message)
            | ReceiveVote(message)
            | ReceiveAppend(message)
            | ReceiveAck(message) => {
                Self::receive(&mut after, message);
            }
            Crash(_) | CrashForgetsVote(_) | CrashForgetsEntry(_) | Restart(_) | Lose(_)
            | Cut(_) | Heal(_) | Stabilise => Self::fault(&mut after, &action),
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

impl Spec for RaftLog {
    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let flaw = match config.specification.as_str() {
            "Safe" | "Spec" => None,
            "SpecCrashForgetsVote" => Some(Flaw::CrashForgetsVote),
            "SpecCrashForgetsEntry" => Some(Flaw::CrashForgetsEntry),
            "SpecCommitAlone" => Some(Flaw::CommitAlone),
            other => return Err(unknown("specification", other)),
        };
        Ok(Self {
            count: config.positive("Count", SERVERS_MAX)?,
            max_term: config.number("MaxTerm", 9)?,
            budget: Budget {
                entry: config.number("MaxEntries", 9)?,
                repeat: config.number("MaxRepeats", 9)?,
                crash: config.number("MaxCrashes", 9)?,
                loss: config.number("MaxLosses", 9)?,
                cut: config.number("MaxCuts", 9)?,
            },
            stability: config.truth("Stability")?,
            patience: config.truth("Patience")?,
            flaw,
        })
    }

    fn view(&self, state: &State) -> Value {
        let each = |of: &dyn Fn(&Replica) -> Value| Value::seq(state.replicas.iter().map(of));
        let numbers = |numbers: &[u8]| Value::seq(numbers.iter().map(|number| (*number).into()));
        let Budget {
            entry,
            repeat,
            crash,
            loss,
            cut,
        } = state.budget;
        let budget = [
            ("entry", entry.into()),
            ("repeat", repeat.into()),
            ("crash", crash.into()),
            ("loss", loss.into()),
            ("cut", cut.into()),
        ];
        let elected = state
            .elected
            .iter()
            .map(|(term, i)| Value::seq([(*term).into(), (i.0 + 1).into()]));
        let chosen = state
            .chosen
            .iter()
            .map(|(n, term)| Value::seq([(*n).into(), (*term).into()]));
        Value::record([
            ("term", each(&|replica| replica.term.into())),
            (
                "vote",
                each(&|replica| replica.vote.map_or(0, |i| i.0 + 1).into()),
            ),
            ("log", each(&|replica| numbers(&replica.log))),
            (
                "role",
                each(&|replica| Value::text(&format!("{:?}", replica.role).to_lowercase())),
            ),
            ("granted", each(&|replica| replica.granted.numbers())),
            ("match", each(&|replica| numbers(&replica.matched))),
            ("commit", each(&|replica| replica.commit.into())),
            ("net", Value::set(state.net.iter().map(message_view))),
            ("down", state.down.numbers()),
            ("cut", state.cut.numbers()),
            ("stable", state.stable.into()),
            ("elected", Value::set(elected)),
            ("chosen", Value::set(chosen)),
            ("tried", Value::set(state.tried.iter().map(message_view))),
            ("budget", Value::record(budget)),
        ])
    }

    fn label(action: &Action) -> &'static str {
        label!(action, Timeout AskVote ReceiveAsk ReceiveVote BecomeLeader Request SendAppend ReceiveAppend ReceiveAck
            Commit Crash Restart Lose Cut Heal Stabilise CrashForgetsVote CrashForgetsEntry CommitAlone)
    }

    fn invariants() -> &'static [(&'static str, Invariant<Self>)] {
        &[
            ("TypeOK", Self::type_ok),
            ("ElectionSafety", Self::election_safety),
            ("LogMatching", Self::log_matching),
            ("LeaderCompleteness", Self::leader_completeness),
            ("ChosenIsDurable", Self::chosen_is_durable),
            ("StateMachineSafety", Self::state_machine_safety),
        ]
    }

    fn assume<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        specification: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError> {
        use Action::*;
        let each = |checker: FairChecker<'m, Self>, name, class: fn(&Server, &Action) -> bool| {
            checker.each(Strength::Weak, name, self.servers(), class)
        };
        Ok(match specification {
            "Spec" => {
                let checker = each(checker, "Timeout", |i, action| *action == Timeout(*i));
                let checker = each(checker, "BecomeLeader", |i, action| {
                    *action == BecomeLeader(*i)
                });
                let checker = each(checker, "Request", |i, action| *action == Request(*i));
                let checker = each(
                    checker,
                    "AskVote",
                    |i, action| matches!(action, AskVote(from, _) if from == i),
                );
                let checker = each(
                    checker,
                    "SendAppend",
                    |i, action| matches!(action, SendAppend(from, _) if from == i),
                );
                let checker = each(
                    checker,
                    "ReceiveAsk",
                    |i, action| matches!(action, ReceiveAsk(m) if m.to == *i),
                );
                let checker = each(
                    checker,
                    "ReceiveVote",
                    |i, action| matches!(action, ReceiveVote(m) if m.to == *i),
                );
                let checker = each(
                    checker,
                    "ReceiveAppend",
                    |i, action| matches!(action, ReceiveAppend(m) if m.to == *i),
                );
                let checker = each(
                    checker,
                    "ReceiveAck",
                    |i, action| matches!(action, ReceiveAck(m) if m.to == *i),
                );
                each(
                    checker,
                    "Commit",
                    |i, action| matches!(action, Commit(leader, _) if leader == i),
                )
            }
            "Safe" | "SpecCrashForgetsVote" | "SpecCrashForgetsEntry" | "SpecCommitAlone" => {
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
        match name {
            "Progress" => {
                Ok(checker.leads_to(name, |state| state.stable, |state| self.progress(state)))
            }
            other => Err(unknown("property", other)),
        }
    }
}
