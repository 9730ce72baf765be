//! `specs/raft_disk/RaftDisk.tla` in Rust: Raft whose memory runs ahead of its disk, on a network that uses up nothing.
//!
//! The spec holds the explanations; here the same actions stand in the same order under the same names. Terms and indexes
//! are as wide as in the running code, because this is what it is held against ([`crate::model::refine::raft`]).

use std::collections::BTreeSet;

use stateright::{Model, Property};

use super::raft_log::{Role, SERVERS_MAX, Server};
use super::value::{Config, ConfigError, Value};
use super::{Invariant, Members, Spec, label, unknown};
use crate::model::checker::leads_to::FairChecker;

/// The constants of the spec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RaftDisk {
    /// How many servers.
    pub count: u8,
    /// The last term.
    pub max_term: u64,
    /// What a behaviour may contain.
    pub budget: Budget,
    /// Only one succession of three servers (`SafeSuccession`).
    pub succession: bool,
    /// The step that a broken variant adds.
    pub flaw: Option<Flaw>,
}

/// The broken variants in `MCRaftDiskBroken.tla`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// Messages do not wait for the disk.
    SpeakEarly,
    /// The leader counts what it has not flushed.
    CountUnflushed,
    /// A voter does not look at the log.
    VoteBlindly,
}

/// What may still happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Budget {
    /// Entries that clients ask for.
    pub entry: u8,
    /// Crashes.
    pub crash: u8,
}

/// A message that was sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Message {
    /// The sender.
    pub from: Server,
    /// The receiver.
    pub to: Server,
    /// The sender's term.
    pub term: u64,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Body {
    /// A candidate asks for a vote; its log's length and last term.
    Ask {
        /// Length.
        len: u64,
        /// Last term.
        last: u64,
    },
    /// A vote.
    Vote,
    /// A leader's entries after `prev`, possibly none.
    Append {
        /// The index before the entries.
        prev: u64,
        /// The term of the entry there.
        prev_term: u64,
        /// The entries' terms.
        entries: Vec<u64>,
        /// How much the leader has committed.
        commit: u64,
    },
    /// The follower's durable log is the leader's up to here.
    Ack {
        /// The index.
        upto: u64,
    },
}

/// What a server wrote, or has in memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Saved {
    /// The latest term seen.
    pub term: u64,
    /// Who got the vote in it.
    pub vote: Option<Server>,
    /// The terms of the log's entries.
    pub log: Vec<u64>,
    /// How much of it a snapshot covers.
    pub snap: u64,
}

/// One server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Replica {
    /// `saved[i]`.
    pub saved: Vec<Saved>,
    /// `outbox[i]`.
    pub outbox: BTreeSet<Message>,
    /// `role[i]`.
    pub role: Role,
    /// `granted[i]`.
    pub granted: Members,
    /// `match[i]`.
    pub matched: Vec<u64>,
    /// `commit[i]`.
    pub commit: u64,
}

/// The variables of the spec.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State {
    /// `saved`, `outbox`, `role`, `granted`, `match` and `commit`.
    pub replicas: Vec<Replica>,
    /// `net`.
    pub net: BTreeSet<Message>,
    /// `down`.
    pub down: Members,
    /// `elected`: term and server.
    pub elected: BTreeSet<(u64, Server)>,
    /// `chosen`: index and term.
    pub chosen: BTreeSet<(u64, u64)>,
    /// `budget`.
    pub budget: Budget,
}

/// The actions of the spec. What a message's sender chooses stands here as well.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // RaftDisk.tla explains each.
pub enum Action {
    Timeout(Server),
    AskVote(Server, Server),
    HearTerm(Server, u64),
    Resign(Server),
    ReceiveAsk(Message),
    ReceiveVote(Message),
    BecomeLeader(Server),
    Request(Server),
    SendAppend(Server, Server, u64, u64),
    SendSnapshot(Server, Server),
    ReceiveAppend(Message),
    LearnCommit(Server, u64),
    Acknowledge(Server, Server, u64),
    ReceiveAck(Message),
    Commit(Server, u64),
    Compact(Server, u64),
    Flush(Server, usize),
    Crash(Server, Saved),
    Restart(Server),
    SpeakEarly(Server),
    CountUnflushed(Server),
    VoteBlindly(Message),
}

impl Action {
    /// Whether it is among those of `NextSuccession`.
    fn is_of_succession(&self) -> bool {
        let (first, third) = (Server(0), Server(2));
        match self {
            Action::Timeout(i) | Action::AskVote(i, _) => *i == third,
            Action::SendAppend(i, _, prev, _) => *i == first && *prev == 0,
            Action::Resign(_)
            | Action::Request(_)
            | Action::SendSnapshot(..)
            | Action::Compact(..) => false,
            _ => true,
        }
    }
}

/// How much of two logs is the same.
fn common(a: &[u64], b: &[u64]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn last_term(log: &[u64]) -> u64 {
    log.last().copied().unwrap_or(0)
}

fn term_at(log: &[u64], index: u64) -> u64 {
    match index {
        0 => 0,
        index => log[index as usize - 1],
    }
}

/// `Holds` and `HoldsAll`: whether a log has what comes before the entries, and the entries too.
fn holds(log: &[u64], body: &Body) -> (bool, bool) {
    let Body::Append {
        prev,
        prev_term,
        entries,
        ..
    } = body
    else {
        return (false, false);
    };
    let start = *prev as usize;
    let holds = *prev == 0 || log.get(start - 1) == Some(prev_term);
    let end = start + entries.len();
    (holds, holds && log.get(start..end) == Some(entries))
}

/// `UpTo`.
fn up_to(body: &Body) -> u64 {
    match body {
        Body::Append { prev, entries, .. } => prev + entries.len() as u64,
        _ => 0,
    }
}

impl Replica {
    /// A server before its first step, in a group of this many.
    pub fn new(count: u8) -> Self {
        Self {
            saved: vec![Saved::default()],
            outbox: BTreeSet::new(),
            role: Role::Follower,
            granted: Members::default(),
            matched: vec![0; usize::from(count)],
            commit: 0,
        }
    }

    /// `Mem`.
    pub fn mem(&self) -> &Saved {
        self.saved.last().expect("at least one")
    }

    fn log(&self) -> &[u64] {
        &self.mem().log
    }

    /// `Sure`.
    pub fn is_sure(&self) -> bool {
        let (first, last) = (&self.saved[0], self.mem());
        (first.term, first.vote) == (last.term, last.vote)
    }

    /// `Synced`.
    pub fn synced(&self) -> u64 {
        let each = self
            .saved
            .iter()
            .map(|saved| common(&saved.log, self.log()));
        each.min().expect("at least one") as u64
    }

    fn write(&mut self, change: impl FnOnce(&mut Saved)) {
        let mut saved = self.mem().clone();
        change(&mut saved);
        self.saved.push(saved);
    }

    fn follow(&mut self) {
        self.role = Role::Follower;
        self.granted = Members::default();
        self.matched.fill(0);
    }

    /// `Survivors`: what a crash may leave.
    fn survivors(&self) -> BTreeSet<Saved> {
        let mut survivors: BTreeSet<Saved> = self.saved.iter().cloned().collect();
        for pair in self.saved.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            for len in common(&before.log, &after.log) + 1..=after.log.len() {
                let log = after.log[..len].to_vec();
                survivors.insert(Saved {
                    log,
                    ..after.clone()
                });
            }
        }
        survivors
    }

    /// Whether something is among the [survivors](Self::survivors).
    fn may_leave(&self, left: &Saved) -> bool {
        let torn = |pair: &[Saved]| {
            let (before, after) = (&pair[0], &pair[1]);
            (left.term, left.vote, left.snap) == (after.term, after.vote, after.snap)
                && left.log.len() > common(&before.log, &after.log)
                && after.log.starts_with(&left.log)
        };
        self.saved.contains(left) || self.saved.windows(2).any(torn)
    }
}

impl State {
    fn of(&self, i: Server) -> &Replica {
        &self.replicas[usize::from(i.0)]
    }

    fn of_mut(&mut self, i: Server) -> &mut Replica {
        &mut self.replicas[usize::from(i.0)]
    }

    fn is_up(&self, i: Server) -> bool {
        !self.down.has(i.0)
    }

    fn may_say(&self, message: &Message) -> bool {
        !self.net.contains(message) && !self.of(message.from).outbox.contains(message)
    }

    /// `Say`.
    fn say(&mut self, message: Message) {
        let from = self.of_mut(message.from);
        match from.is_sure() {
            true => self.net.insert(message),
            false => from.outbox.insert(message),
        };
    }

    /// The latest term on any disk.
    fn durable_term(&self) -> u64 {
        let terms = self.replicas.iter().map(|replica| replica.saved[0].term);
        terms.max().unwrap_or(0)
    }

    /// `Told`.
    fn told(&self, i: Server) -> impl Iterator<Item = &Message> {
        let term = self.of(i).mem().term;
        let is_told = move |message: &&Message| {
            let append = matches!(message.body, Body::Append { .. });
            append && message.to == i && message.term == term
        };
        self.net.iter().filter(is_told)
    }

    /// `Verified`.
    fn verified(&self, i: Server) -> u64 {
        let replica = self.of(i);
        let held = self
            .told(i)
            .filter(|message| holds(replica.log(), &message.body).1);
        held.map(|message| up_to(&message.body))
            .fold(replica.commit, u64::max)
    }

    /// The most that a leader of its term has told a server to be committed.
    fn told_commit(&self, i: Server) -> u64 {
        let commits = self.told(i).map(|message| match message.body {
            Body::Append { commit, .. } => commit,
            _ => 0,
        });
        commits.max().unwrap_or(0)
    }

    fn choose(&mut self, i: Server, upto: u64) {
        let log = self.of(i).log().to_vec();
        self.chosen.extend((1..=upto).zip(log));
    }
}

/// What a candidate says.
fn ask(state: &State, i: Server, j: Server) -> Message {
    let mem = state.of(i).mem();
    Message {
        from: i,
        to: j,
        term: mem.term,
        body: Body::Ask {
            len: mem.log.len() as u64,
            last: last_term(&mem.log),
        },
    }
}

/// `Entries`: entries `prev + 1` to `n`; the log has to reach that far.
fn entries(state: &State, i: Server, j: Server, (prev, n): (u64, u64), commit: u64) -> Message {
    let mem = state.of(i).mem();
    let body = Body::Append {
        prev,
        prev_term: term_at(&mem.log, prev),
        entries: mem.log[prev as usize..n as usize].to_vec(),
        commit,
    };
    Message {
        from: i,
        to: j,
        term: mem.term,
        body,
    }
}

/// A voter's or a follower's answer.
fn answer(state: &State, i: Server, j: Server, body: Body) -> Message {
    Message {
        from: i,
        to: j,
        term: state.of(i).mem().term,
        body,
    }
}

impl RaftDisk {
    fn servers(&self) -> impl Iterator<Item = Server> + use<> {
        (0..self.count).map(Server)
    }

    fn quorum(&self, count: usize) -> bool {
        2 * count > usize::from(self.count)
    }

    /// Whether a quorum holds the entry at `n`. The leader counts its own entries up to `mine`.
    fn is_replicated(&self, leader: &Replica, i: Server, n: u64, mine: u64) -> bool {
        let held = |j: &Server| match *j == i {
            true => mine >= n,
            false => leader.matched[usize::from(j.0)] >= n,
        };
        self.quorum(self.servers().filter(held).count())
    }

    /// Whether an action is enabled: its guard.
    pub fn allows(&self, state: &State, action: &Action) -> bool {
        (!self.succession || action.is_of_succession()) && self.is_enabled(state, action)
    }

    fn is_enabled(&self, state: &State, action: &Action) -> bool {
        match action {
            Action::Timeout(i)
            | Action::AskVote(i, _)
            | Action::HearTerm(i, _)
            | Action::Resign(i)
            | Action::BecomeLeader(i)
            | Action::Request(i)
            | Action::SendAppend(i, ..)
            | Action::SendSnapshot(i, _)
            | Action::LearnCommit(i, _)
            | Action::Acknowledge(i, ..)
            | Action::Commit(i, _)
            | Action::Compact(i, _)
            | Action::CountUnflushed(i) => state.is_up(*i) && self.allows_alone(state, *i, action),
            Action::ReceiveAsk(message)
            | Action::ReceiveVote(message)
            | Action::ReceiveAppend(message)
            | Action::ReceiveAck(message) => {
                let arrives = state.is_up(message.to) && state.net.contains(message);
                arrives && Self::allows_receipt(state, message, true)
            }
            Action::VoteBlindly(message) => {
                let arrives = state.is_up(message.to) && state.net.contains(message);
                let flaw = self.flaw == Some(Flaw::VoteBlindly);
                flaw && arrives && Self::allows_receipt(state, message, false)
            }
            Action::Flush(i, k) => state.is_up(*i) && (2..=state.of(*i).saved.len()).contains(k),
            Action::Crash(i, left) => {
                let may = state.is_up(*i) && state.budget.crash > 0;
                may && state.of(*i).may_leave(left)
            }
            Action::Restart(i) => !state.is_up(*i),
            Action::SpeakEarly(i) => {
                let flaw = self.flaw == Some(Flaw::SpeakEarly);
                flaw && state.is_up(*i) && !state.of(*i).outbox.is_empty()
            }
        }
    }

    /// The guards of what a server that is up does by itself.
    fn allows_alone(&self, state: &State, i: Server, action: &Action) -> bool {
        let replica = state.of(i);
        let (mem, role) = (replica.mem(), replica.role);
        let len = mem.log.len() as u64;
        let leads = role == Role::Leader;
        match *action {
            Action::Timeout(_) => !leads && mem.term < self.max_term,
            Action::AskVote(_, j) => {
                role == Role::Candidate && i != j && state.may_say(&ask(state, i, j))
            }
            Action::HearTerm(_, t) => t > mem.term && t <= state.durable_term(),
            Action::Resign(_) => role != Role::Follower,
            Action::BecomeLeader(_) => {
                let voted = self.quorum(replica.granted.len() as usize);
                role == Role::Candidate && voted && replica.is_sure()
            }
            Action::Request(_) => leads && state.budget.entry > 0,
            Action::SendAppend(_, j, prev, n) => {
                let tells = n.max(replica.commit) > 0 && prev <= n && n <= len;
                let message = || entries(state, i, j, (prev, n), replica.commit);
                leads && i != j && tells && state.may_say(&message())
            }
            Action::SendSnapshot(_, j) => {
                let message = || entries(state, i, j, (0, mem.snap), mem.snap);
                leads && i != j && (1..=len).contains(&mem.snap) && state.may_say(&message())
            }
            Action::LearnCommit(_, n) => {
                let limit = || state.verified(i).min(state.told_commit(i));
                role == Role::Follower && n > replica.commit && n <= limit()
            }
            Action::Acknowledge(_, j, n) => {
                let told = || state.told(i).any(|message| message.from == j);
                let limit = || state.verified(i).min(replica.synced());
                let message = || answer(state, i, j, Body::Ack { upto: n });
                let follows = role == Role::Follower && n > 0;
                follows && told() && n <= limit() && state.may_say(&message())
            }
            Action::Commit(_, n) => {
                let own = || n <= len && mem.log[n as usize - 1] == mem.term;
                let new = leads && n > replica.commit && own();
                new && self.is_replicated(replica, i, n, replica.synced())
            }
            Action::Compact(_, n) => n > mem.snap && n <= replica.commit,
            Action::CountUnflushed(_) => {
                let n = replica.commit + 1;
                let flaw = self.flaw == Some(Flaw::CountUnflushed);
                let own = || n <= len && mem.log[n as usize - 1] == mem.term;
                flaw && leads && own() && self.is_replicated(replica, i, n, len)
            }
            ref other => unreachable!("{other:?} is no step of a server alone"),
        }
    }

    /// The guards of taking in a message that is there; of a request for a vote, one that is as up to date or is not.
    fn allows_receipt(state: &State, message: &Message, up_to_date: bool) -> bool {
        let (i, from) = (message.to, message.from);
        let replica = state.of(i);
        let mem = replica.mem();
        let current = message.term == mem.term;
        match message.body {
            Body::Ask { len, last } => {
                let free = mem.vote.is_none_or(|voted| voted == from);
                let complete = (last, len) >= (last_term(&mem.log), mem.log.len() as u64);
                let says = || state.may_say(&answer(state, i, from, Body::Vote));
                current && free && complete == up_to_date && says()
            }
            Body::Vote => {
                let new = !replica.granted.has(from.0);
                current && replica.role == Role::Candidate && new
            }
            Body::Append { .. } => current && holds(&mem.log, &message.body) == (true, false),
            Body::Ack { upto } => {
                let new = upto > replica.matched[usize::from(from.0)];
                current && replica.role == Role::Leader && new
            }
        }
    }

    /// What an enabled action does.
    fn apply(state: &mut State, action: &Action) {
        match action {
            Action::Timeout(i) => {
                let replica = state.of_mut(*i);
                replica.write(|mem| (mem.term, mem.vote) = (mem.term + 1, Some(*i)));
                replica.role = Role::Candidate;
                replica.granted = Members::default().with(i.0);
            }
            Action::AskVote(i, j) => state.say(ask(state, *i, *j)),
            Action::HearTerm(i, t) => {
                let replica = state.of_mut(*i);
                replica.write(|mem| (mem.term, mem.vote) = (*t, None));
                replica.follow();
            }
            Action::Resign(i) => state.of_mut(*i).follow(),
            Action::ReceiveAsk(message)
            | Action::ReceiveVote(message)
            | Action::ReceiveAppend(message)
            | Action::ReceiveAck(message)
            | Action::VoteBlindly(message) => Self::receive(state, message),
            Action::BecomeLeader(i) => {
                let replica = state.of_mut(*i);
                let term = replica.mem().term;
                replica.follow();
                replica.role = Role::Leader;
                state.elected.insert((term, *i));
            }
            Action::Request(i) => {
                state.of_mut(*i).write(|mem| mem.log.push(mem.term));
                state.budget.entry -= 1;
            }
            Action::SendAppend(i, j, prev, n) => {
                let commit = state.of(*i).commit;
                state.say(entries(state, *i, *j, (*prev, *n), commit));
            }
            Action::SendSnapshot(i, j) => {
                let snap = state.of(*i).mem().snap;
                state.say(entries(state, *i, *j, (0, snap), snap));
            }
            Action::LearnCommit(i, n) | Action::Commit(i, n) => {
                state.of_mut(*i).commit = *n;
                state.choose(*i, *n);
            }
            Action::Acknowledge(i, j, n) => {
                state.say(answer(state, *i, *j, Body::Ack { upto: *n }));
            }
            Action::Compact(i, n) => state.of_mut(*i).write(|mem| mem.snap = *n),
            Action::CountUnflushed(i) => {
                let n = state.of(*i).commit + 1;
                state.of_mut(*i).commit = n;
                state.choose(*i, n);
            }
            Action::Flush(..) | Action::Crash(..) | Action::Restart(_) | Action::SpeakEarly(_) => {
                Self::disk_step(state, action)
            }
        }
    }

    fn receive(state: &mut State, message: &Message) {
        let (i, from) = (message.to, message.from);
        let replica = state.of_mut(i);
        match &message.body {
            Body::Ask { .. } => {
                if replica.mem().vote.is_none() {
                    replica.write(|mem| mem.vote = Some(from));
                }
                state.say(answer(state, i, from, Body::Vote));
            }
            Body::Vote => replica.granted = replica.granted.with(from.0),
            Body::Append { prev, entries, .. } => {
                replica.write(|mem| {
                    mem.log.truncate(*prev as usize);
                    mem.log.extend_from_slice(entries);
                });
                replica.follow();
            }
            Body::Ack { upto } => replica.matched[usize::from(from.0)] = *upto,
        }
    }

    fn disk_step(state: &mut State, action: &Action) {
        match action {
            Action::Flush(i, k) => {
                let replica = state.of_mut(*i);
                replica.saved.drain(..k - 1);
                if replica.is_sure() {
                    let said = std::mem::take(&mut replica.outbox);
                    state.net.extend(said);
                }
            }
            Action::Crash(i, left) => {
                let replica = state.of_mut(*i);
                replica.saved = vec![left.clone()];
                replica.outbox.clear();
                replica.follow();
                replica.commit = left.snap;
                state.down = state.down.with(i.0);
                state.budget.crash -= 1;
            }
            Action::Restart(i) => state.down = state.down.without(i.0),
            Action::SpeakEarly(i) => {
                let said = std::mem::take(&mut state.of_mut(*i).outbox);
                state.net.extend(said);
            }
            other => unreachable!("{other:?} has nothing to do with the disk"),
        }
    }

    /// `InitSuccession`.
    fn init_succession(&self) -> State {
        let in_term_one = |vote: Option<Server>, log: &[u64]| Saved {
            term: 1,
            vote,
            log: log.to_vec(),
            snap: 0,
        };
        let (first, none) = (Server(0), &[]);
        let mut replicas = vec![Replica::new(self.count); usize::from(self.count)];
        for replica in &mut replicas {
            replica.saved = vec![in_term_one(None, none)];
        }
        replicas[0].saved = vec![
            in_term_one(Some(first), none),
            in_term_one(Some(first), &[1]),
        ];
        replicas[0].role = Role::Leader;
        replicas[1].saved = vec![in_term_one(Some(first), none)];
        State {
            replicas,
            net: BTreeSet::new(),
            down: Members::default(),
            elected: BTreeSet::from([(1, first)]),
            chosen: BTreeSet::new(),
            budget: Budget {
                entry: 0,
                ..self.budget
            },
        }
    }

    /// What a server may do by itself, if its guard allows.
    fn server_actions(&self, state: &State, i: Server, offered: &mut Vec<Action>) {
        use Action::*;
        let replica = state.of(i);
        let len = replica.log().len() as u64;
        offered.extend([
            Timeout(i),
            Resign(i),
            BecomeLeader(i),
            Request(i),
            Restart(i),
        ]);
        offered.extend([SpeakEarly(i), CountUnflushed(i)]);
        let later = replica.mem().term + 1..=state.durable_term();
        offered.extend(later.map(|t| HearTerm(i, t)));
        for j in self.servers() {
            offered.extend([AskVote(i, j), SendSnapshot(i, j)]);
            for n in 0..=len {
                offered.extend((0..=n).map(|prev| SendAppend(i, j, prev, n)));
            }
            offered.extend((1..=len).map(|n| Acknowledge(i, j, n)));
        }
        for n in 1..=len {
            offered.extend([LearnCommit(i, n), Commit(i, n), Compact(i, n)]);
        }
        offered.extend((2..=replica.saved.len()).map(|k| Flush(i, k)));
        offered.extend(replica.survivors().into_iter().map(|left| Crash(i, left)));
    }

    fn type_ok(&self, state: &State) -> bool {
        let entries = u64::from(self.budget.entry);
        let written = |saved: &Saved| {
            let len = saved.log.len() as u64;
            let terms = saved.log.iter().all(|term| (1..=saved.term).contains(term));
            saved.term <= self.max_term && len <= entries && terms && saved.snap <= len
        };
        let fits = |replica: &Replica| {
            let mem = replica.mem();
            (mem.snap..=mem.log.len() as u64).contains(&replica.commit)
                && (!replica.is_sure() || replica.outbox.is_empty())
                && (replica.role != Role::Leader || replica.is_sure())
                && replica.matched.iter().all(|matched| *matched <= entries)
                && replica.saved.iter().all(written)
        };
        let terms = 1..=self.max_term;
        state.replicas.iter().all(fits)
            && state
                .net
                .iter()
                .all(|message| terms.contains(&message.term))
            && state.budget.entry <= self.budget.entry
            && state.budget.crash <= self.budget.crash
    }

    fn election_safety(&self, state: &State) -> bool {
        let terms: BTreeSet<u64> = state.elected.iter().map(|(term, _)| *term).collect();
        terms.len() == state.elected.len()
    }

    fn log_matching(&self, state: &State) -> bool {
        let matching = |a: &[u64], b: &[u64]| {
            let same = common(a, b);
            a.iter().zip(b).skip(same).all(|(a, b)| a != b)
        };
        let mut logs = state.replicas.iter().map(Replica::log);
        logs.all(|a| state.replicas.iter().all(|b| matching(a, b.log())))
    }

    fn leader_completeness(&self, state: &State) -> bool {
        let mut leaders = { state.replicas.iter() }.filter(|replica| replica.role == Role::Leader);
        leaders.all(|leader| {
            let mem = leader.mem();
            let mut older = state.chosen.iter().filter(|(_, term)| *term < mem.term);
            older.all(|(n, term)| mem.log.get(*n as usize - 1) == Some(term))
        })
    }

    fn chosen_is_durable(&self, state: &State) -> bool {
        state.chosen.iter().all(|(n, term)| {
            let has = |saved: &Saved| saved.log.get(*n as usize - 1) == Some(term);
            let holds = |replica: &&Replica| replica.saved.iter().all(has);
            self.quorum(state.replicas.iter().filter(holds).count())
        })
    }

    fn state_machine_safety(&self, state: &State) -> bool {
        let indexes: BTreeSet<u64> = state.chosen.iter().map(|(n, _)| *n).collect();
        indexes.len() == state.chosen.len()
    }
}

fn number(number: u64) -> Value {
    Value::Int(number as i64)
}

fn numbers(numbers: &[u64]) -> Value {
    Value::seq(numbers.iter().map(|n| number(*n)))
}

fn message_view(message: &Message) -> Value {
    let (type_, said) = match &message.body {
        Body::Ask { len, last } => ("ask", vec![("len", number(*len)), ("last", number(*last))]),
        Body::Vote => ("vote", Vec::new()),
        Body::Append {
            prev,
            prev_term,
            entries,
            commit,
        } => {
            let said = vec![
                ("prev", number(*prev)),
                ("prevTerm", number(*prev_term)),
                ("entries", numbers(entries)),
                ("commit", number(*commit)),
            ];
            ("append", said)
        }
        Body::Ack { upto } => ("ack", vec![("match", number(*upto))]),
    };
    let head = [
        ("type", Value::text(type_)),
        ("from", (message.from.0 + 1).into()),
        ("to", (message.to.0 + 1).into()),
        ("term", number(message.term)),
    ];
    let fields = head.into_iter().chain(said);
    Value::Record(
        fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn saved_view(saved: &Saved) -> Value {
    Value::record([
        ("term", number(saved.term)),
        ("vote", saved.vote.map_or(0, |i| i.0 + 1).into()),
        ("log", numbers(&saved.log)),
        ("snap", number(saved.snap)),
    ])
}

impl Model for RaftDisk {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        if self.succession {
            return vec![self.init_succession()];
        }
        vec![State {
            replicas: vec![Replica::new(self.count); usize::from(self.count)],
            net: BTreeSet::new(),
            down: Members::default(),
            elected: BTreeSet::new(),
            chosen: BTreeSet::new(),
            budget: self.budget,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for i in self.servers() {
            self.server_actions(state, i, actions);
        }
        let receive = |message: &Message| match message.body {
            Body::Ask { .. } => Action::ReceiveAsk(message.clone()),
            Body::Vote => Action::ReceiveVote(message.clone()),
            Body::Append { .. } => Action::ReceiveAppend(message.clone()),
            Body::Ack { .. } => Action::ReceiveAck(message.clone()),
        };
        actions.extend(state.net.iter().map(receive));
        if self.flaw == Some(Flaw::VoteBlindly) {
            let asks = { state.net.iter() }.filter(|m| matches!(m.body, Body::Ask { .. }));
            actions.extend(asks.cloned().map(Action::VoteBlindly));
        }
        actions.retain(|action| self.allows(state, action));
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        self.allows(before, &action).then(|| {
            let mut after = before.clone();
            Self::apply(&mut after, &action);
            after
        })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        Self::invariants()
            .iter()
            .map(|&(name, holds)| Property::always(name, holds))
            .collect()
    }
}

impl Spec for RaftDisk {
    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let flaw = match config.specification.as_str() {
            "Safe" | "SafeSuccession" => None,
            "SpecSpeakEarly" => Some(Flaw::SpeakEarly),
            "SpecCountUnflushed" => Some(Flaw::CountUnflushed),
            "SpecVoteBlindly" => Some(Flaw::VoteBlindly),
            other => return Err(unknown("specification", other)),
        };
        Ok(Self {
            count: config.positive("Count", SERVERS_MAX)?,
            max_term: config.number("MaxTerm", 9)?.into(),
            budget: Budget {
                entry: config.number("MaxEntries", 9)?,
                crash: config.number("MaxCrashes", 9)?,
            },
            succession: matches!(
                config.specification.as_str(),
                "SafeSuccession" | "SpecVoteBlindly"
            ),
            flaw,
        })
    }

    fn view(&self, state: &State) -> Value {
        let each = |of: &dyn Fn(&Replica) -> Value| Value::seq(state.replicas.iter().map(of));
        let pair = |a: u64, b: u64| Value::seq([number(a), number(b)]);
        let elected = { state.elected.iter() }.map(|(term, i)| pair(*term, u64::from(i.0) + 1));
        let chosen = state.chosen.iter().map(|(n, term)| pair(*n, *term));
        let messages = |set: &BTreeSet<Message>| Value::set(set.iter().map(message_view));
        let role = |role: Role| Value::text(&format!("{role:?}").to_lowercase());
        let budget = [
            ("entry", state.budget.entry.into()),
            ("crash", state.budget.crash.into()),
        ];
        Value::record([
            (
                "saved",
                each(&|replica| Value::seq(replica.saved.iter().map(saved_view))),
            ),
            ("outbox", each(&|replica| messages(&replica.outbox))),
            ("role", each(&|replica| role(replica.role))),
            ("granted", each(&|replica| replica.granted.numbers())),
            ("match", each(&|replica| numbers(&replica.matched))),
            ("commit", each(&|replica| number(replica.commit))),
            ("net", messages(&state.net)),
            ("down", state.down.numbers()),
            ("elected", Value::set(elected)),
            ("chosen", Value::set(chosen)),
            ("budget", Value::record(budget)),
        ])
    }

    fn label(action: &Action) -> &'static str {
        label!(action, Timeout AskVote HearTerm Resign ReceiveAsk ReceiveVote BecomeLeader Request SendAppend
            SendSnapshot ReceiveAppend LearnCommit Acknowledge ReceiveAck Commit Compact Flush Crash Restart SpeakEarly
            CountUnflushed VoteBlindly)
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
        match specification {
            "Safe" | "SafeSuccession" | "SpecSpeakEarly" | "SpecCountUnflushed"
            | "SpecVoteBlindly" => Ok(checker),
            other => Err(unknown("specification", other)),
        }
    }

    fn promise<'m>(
        &'m self,
        _: FairChecker<'m, Self>,
        name: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError> {
        Err(unknown("property", name))
    }
}
