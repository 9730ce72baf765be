//! `specs/raft_log/RaftLog.tla` in Rust: bounded Raft with elections, replication, persistence and restart.
//!
//! The spec holds the explanations; here the same actions stand in the same order under the same names.

use std::collections::BTreeSet;
use std::fmt;

use stateright::{Model, Property};

use super::value::{Config, ConfigError, Value};
use super::{Invariant, Members, Spec, label, unknown};
use crate::model::checker::leads_to::{FairChecker, Strength};

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
    /// How many servers take turns as candidates; 0: anybody may stand.
    pub turns: u8,
    /// Whether behaviours start from figure 8c of the Raft paper, not from empty servers.
    pub from_figure_8: bool,
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
    /// A voter does not compare logs: the first that asks gets its vote (section 5.4.1).
    VoteBlindly,
    /// An entry of an earlier term is committed because a majority has it (section 5.4.2).
    CommitOldTerm,
    /// A follower keeps what contradicts its leader.
    KeepConflict,
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
    /// `chosen`: index, term, and the term in which it was first committed.
    pub chosen: BTreeSet<(u8, u8, u8)>,
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
    VoteBlindly(Message),
    CommitOldTerm(Server, u8),
    KeepConflict(Message),
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

    /// Whether a vote for this candidate in this term would be the only one.
    fn vote_is_free(&self, candidate: Server, term: u8) -> bool {
        let undecided = self.vote.is_none_or(|voted| voted == candidate);
        term > self.term || (term == self.term && undecided)
    }

    /// Whether entries after `prev` contradict the log, which reaches `prev`.
    fn contradicts(&self, prev: u8, entries: &[u8]) -> bool {
        let own = self.log.get(usize::from(prev)..).unwrap_or_default();
        own.iter().zip(entries).any(|(own, sent)| own != sent)
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

    fn choose(&mut self, i: Server, upto: u8, committed_in: u8) {
        let log = self.of(i).log.clone();
        for (n, term) in (1..=upto).zip(log) {
            if !self.chosen.iter().any(|&(at, of, _)| (at, of) == (n, term)) {
                self.chosen.insert((n, term, committed_in));
            }
        }
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

    fn may_stand(&self, i: Server, term: u8) -> bool {
        self.turns == 0 || i.0 == (term - 1) % self.turns
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
        let patient = replica.term >= self.max_term
            || !self.may_time_out(state, i)
            || !self.may_stand(i, replica.term + 1);
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
            let commits = leads && self.quorum(holders);
            let own = replica.log[usize::from(n) - 1] == replica.term;
            when(commits && own, Action::Commit(i, n));
            let careless = self.flaw == Some(Flaw::CommitOldTerm) && !own;
            when(commits && careless, Action::CommitOldTerm(i, n));
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
            actions.extend(self.careless_receipt(state, message));
        }
        if state.on_cut_link(message) || (!state.stable && state.budget.loss > 0) {
            actions.push(Action::Lose(message.clone()));
        }
    }

    /// What a broken variant does with a message that arrives.
    fn careless_receipt(&self, state: &State, message: &Message) -> Option<Action> {
        let replica = state.of(message.to);
        match (self.flaw?, &message.body) {
            (Flaw::VoteBlindly, Body::Ask { len, last }) => {
                let careless = replica.vote_is_free(message.from, message.term)
                    && !replica.admits(*last, *len);
                careless.then(|| Action::VoteBlindly(message.clone()))
            }
            (Flaw::KeepConflict, Body::Append { prev, entries, .. }) => {
                let careless = message.term >= replica.term
                    && *prev <= replica.len()
                    && replica.contradicts(*prev, entries);
                careless.then(|| Action::KeepConflict(message.clone()))
            }
            _ => None,
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
                after.choose(i, next, before.of(i).term);
            }
            Action::Commit(i, n) | Action::CommitOldTerm(i, n) => {
                after.of_mut(i).commit = n;
                after.choose(i, n, before.of(i).term);
            }
            ref other => unreachable!("{other:?} is no step of a server alone"),
        }
    }

    fn receive(after: &mut State, message: &Message) {
        after.net.remove(message);
        let replica = after.of_mut(message.to);
        match message.body {
            Body::Ask { len, last } => {
                let grants =
                    replica.vote_is_free(message.from, message.term) && replica.admits(last, len);
                if message.term > replica.term {
                    replica.step_down(message.term);
                    replica.vote = None;
                }
                if grants {
                    Self::grant(after, message);
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

    /// The vote that a candidate asked for.
    fn grant(after: &mut State, ask: &Message) {
        after.of_mut(ask.to).vote = Some(ask.from);
        after.net.insert(Self::reply(ask, Body::Vote));
    }

    fn reply(request: &Message, body: Body) -> Message {
        Message {
            from: request.to,
            to: request.from,
            term: request.term,
            body,
        }
    }

    /// `VoteBlindly`.
    fn vote_blindly(after: &mut State, ask: &Message) {
        after.net.remove(ask);
        let replica = after.of_mut(ask.to);
        if ask.term > replica.term {
            replica.step_down(ask.term);
        }
        Self::grant(after, ask);
    }

    /// `KeepConflict`.
    fn keep_conflict(after: &mut State, message: &Message) {
        after.net.remove(message);
        Self::take_entries(after, message, |replica, prev, entries| {
            let known = replica.log.len() - usize::from(prev);
            let beyond = entries.get(known..).unwrap_or_default();
            replica.log.extend_from_slice(beyond);
        });
    }

    fn receive_append(after: &mut State, message: &Message) {
        let Body::Append {
            prev, prev_term, ..
        } = message.body
        else {
            unreachable!("{message:?} appends nothing")
        };
        let replica = after.of(message.to);
        if message.term >= replica.term && replica.fits(prev, prev_term) {
            Self::take_entries(after, message, Replica::merge);
        }
    }

    /// Follows the leader: its entries, as `merge` takes them over, and its commit index.
    fn take_entries(after: &mut State, message: &Message, merge: impl Fn(&mut Replica, u8, &[u8])) {
        let Body::Append {
            prev,
            ref entries,
            commit,
            ..
        } = message.body
        else {
            unreachable!("{message:?} appends nothing")
        };
        let replica = after.of_mut(message.to);
        if message.term > replica.term {
            replica.vote = None;
        }
        replica.step_down(message.term);
        merge(replica, prev, entries);
        let upto = prev + entries.len() as u8;
        replica.commit = replica.commit.max(commit.min(upto));
        let known = replica.commit;
        after.choose(message.to, known, message.term);
        let ack = Self::reply(message, Body::Ack { upto });
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

    /// `InitFigure8`: three servers in term 3, whose leader has sent an old entry to one of the others.
    fn figure_8(empty: State) -> State {
        let [first, second, third] = [0, 1, 2].map(Server);
        let body = Body::Append {
            prev: 0,
            prev_term: 0,
            entries: vec![1],
            commit: 0,
        };
        let old_entry = Message {
            from: first,
            to: third,
            term: 3,
            body,
        };
        let mut state = State {
            net: BTreeSet::from([old_entry.clone()]),
            tried: BTreeSet::from([old_entry]),
            elected: BTreeSet::from([(1, first), (2, second), (3, first)]),
            ..empty
        };
        let mut first_log = vec![1, 3];
        first_log.truncate(usize::from(state.budget.entry));
        let made = first_log.len() as u8;
        state.budget.entry -= made;
        for (i, vote, log) in [
            (first, Some(first), first_log),
            (second, None, vec![2]),
            (third, Some(first), vec![]),
        ] {
            let replica = state.of_mut(i);
            replica.term = 3;
            replica.vote = vote;
            replica.log = log;
        }
        let leader = state.of_mut(first);
        leader.role = Role::Leader;
        leader.matched[0] = made;
        state
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
            let older = state.chosen.iter();
            older
                .filter(|(_, _, committed_in)| *committed_in < leader.term)
                .all(|(n, term, _)| leader.log.get(usize::from(*n) - 1) == Some(term))
        })
    }

    fn chosen_is_durable(&self, state: &State) -> bool {
        state.chosen.iter().all(|(n, term, _)| {
            let holds = |replica: &&Replica| replica.log.get(usize::from(*n) - 1) == Some(term);
            self.quorum(state.replicas.iter().filter(holds).count())
        })
    }

    fn state_machine_safety(&self, state: &State) -> bool {
        let indexes: BTreeSet<u8> = state.chosen.iter().map(|(n, ..)| *n).collect();
        let entries: BTreeSet<_> = state.chosen.iter().map(|(n, of, _)| (n, of)).collect();
        indexes.len() == entries.len()
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
        let empty = State {
            replicas: vec![replica; usize::from(self.count)],
            net: BTreeSet::new(),
            down: Members::default(),
            cut: Members::default(),
            stable: false,
            elected: BTreeSet::new(),
            chosen: BTreeSet::new(),
            tried: BTreeSet::new(),
            budget: self.budget,
        };
        if !self.from_figure_8 {
            return vec![empty];
        }
        vec![Self::figure_8(empty)]
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
            | Commit(..) | CommitAlone(_) | CommitOldTerm(..) => {
                self.server_step(before, &mut after, &action);
            }
            ReceiveAsk(message)
            | ReceiveVote(message)
            | ReceiveAppend(message)
            | ReceiveAck(message) => {
                Self::receive(&mut after, message);
            }
            VoteBlindly(message) => Self::vote_blindly(&mut after, message),
            KeepConflict(message) => Self::keep_conflict(&mut after, message),
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
            "Safe" | "SafeFigure8" | "Spec" => None,
            "SpecCrashForgetsVote" => Some(Flaw::CrashForgetsVote),
            "SpecCrashForgetsEntry" => Some(Flaw::CrashForgetsEntry),
            "SpecCommitAlone" => Some(Flaw::CommitAlone),
            "SpecVoteBlindly" => Some(Flaw::VoteBlindly),
            "SpecCommitOldTerm" => Some(Flaw::CommitOldTerm),
            "SpecKeepConflict" => Some(Flaw::KeepConflict),
            other => return Err(unknown("specification", other)),
        };
        let from_figure_8 = matches!(
            config.specification.as_str(),
            "SafeFigure8" | "SpecCommitOldTerm" | "SpecKeepConflict"
        );
        let shape = (config.number("Count", 9)?, config.number("MaxEntries", 9)?);
        if from_figure_8 && (shape.0 != 3 || shape.1 == 0) {
            return Err(ConfigError::Constant {
                name: "Count or MaxEntries".to_owned(),
                expected: "three servers and at least one entry, as in figure 8",
            });
        }
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
            turns: config.number("Turns", SERVERS_MAX)?,
            from_figure_8,
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
            .map(|(n, term, by)| Value::seq([(*n).into(), (*term).into(), (*by).into()]));
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
            Commit Crash Restart Lose Cut Heal Stabilise CrashForgetsVote CrashForgetsEntry CommitAlone
            VoteBlindly CommitOldTerm KeepConflict)
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
            "Safe" | "SafeFigure8" => checker,
            _ if self.flaw.is_some() => checker,
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
