//! Raft's log against `specs/raft_disk/RaftDisk.tla`, one instance of the spec for each log: `RaftLog.tla` with what the code
//! adds to it, a disk that is slower than memory, batches sent from a guess, snapshots.
//!
//! | spec | code |
//! |---|---|
//! | `saved` | what was written to the file since the last flush that completed: term and vote, entries, the end of the snapshot; the last is what [`Raft`] has in memory, the first what the disk is known to hold |
//! | `outbox` | [`Raft::waiting`] |
//! | `role`, `granted` | a candidate that only asks whether it could win (pre-vote) is a follower |
//! | `match`, `commit` | [`Raft::matched`], [`Raft::committed`] |
//! | `net` | what was ever sent; a snapshot is all of the log that it covers, with as much committed |
//! | `down` | none: a crash shows at the next boot, as what the file held then |
//!
//! Not messages of the spec: pre-votes, refusals, heartbeats from the log's start, acknowledgements of nothing, rounds of reads. What
//! a term in them does is `HearTerm`, what a leader's presence does to a candidate is `Resign`. Entries are terms; that entries of one
//! term and index are one command is judged by [`crate::verdict::log_safety`].
//!
//! History: the log below a snapshot, which the code forgets; what was written and not flushed, which only the disk knows.
//!
//! # Runs
//!
//! In a small world ([`Logs::whole`]) a state of the spec is all of the group's. Logs of simulated runs have no bound, so there
//! ([`Logs::windowed`]) a step is judged on what the spec's rules for it can see: the stepped replica, the message that it
//! takes in, what it says, how much of the leader's log it has verified, and the terms on the others' disks; and of its log
//! only what lies above the step's *base*, below which the step touches and names nothing. Indexes count from the base.
//! The rules are the spec's own ([`RaftDisk`]); they see a shorter log. What this does not see:
//!
//! - that a message taken in was sent: the network of a simulated run delivers nothing else;
//! - whether entries at or below the base agree between replicas: they are committed, or more than [`WINDOW`] below the
//!   end, and judged by log safety;
//! - the content of a snapshot, and what a log held before one replaced it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::sync::Arc;

use super::{Abstraction, Cause, Change, Guided, LOG_PROPERTY};
use crate::base::digest::stable_hash;
use crate::base::observation::{LogEvent, Observation};
use crate::base::process::{Addr, Effect, Effects, Input, Process};
use crate::consensus::raft::{Raft, RaftMessage};
use crate::consensus::{Command, Index, Log, LogMessage, Term};
use crate::model::spec::Members;
use crate::model::spec::raft_disk::{
    Action, Body, Budget, Message as Sent, RaftDisk as Spec, Replica, Saved, State,
};
use crate::model::spec::raft_log::{Role, Server};
use crate::protocol::calvin::messages::Batch;
use crate::protocol::calvin::{Message, Node, Timer};

/// How far below the end of its log a step may look.
pub const WINDOW: u64 = 256;

/// One in this many routine steps of a simulated run is judged (entries, acknowledgements, heartbeats). Boots, elections
/// and changes of leadership are all judged.
pub const SAMPLED: u64 = 16;

/// The most replicas that the spec's model has.
const REPLICAS_MAX: usize = 8;

/// A process that embeds replicated logs.
pub trait KeepsLogs: Process {
    /// What they order.
    type Command: Command;

    /// The logs.
    fn logs(&self) -> impl Iterator<Item = &Log<Self::Command>>;

    /// The log that a message is about, and what it says.
    fn log_message(message: &Self::Message) -> Option<(u16, &LogMessage<Self::Command>)>;

    /// The log that a timer belongs to.
    fn log_timer(timer: &Self::Timer) -> Option<u16>;
}

impl KeepsLogs for Node {
    type Command = Arc<Batch>;

    fn logs(&self) -> impl Iterator<Item = &Log<Arc<Batch>>> {
        let front = match self {
            Node::Coordinator(front) => Some(front),
            Node::Shard(_) | Node::Client(_) => None,
        };
        front.into_iter().flat_map(|front| front.logs())
    }

    fn log_message(message: &Message) -> Option<(u16, &LogMessage<Arc<Batch>>)> {
        match message {
            Message::Log { group, message } => Some((*group, message)),
            _ => None,
        }
    }

    fn log_timer(timer: &Timer) -> Option<u16> {
        match timer {
            Timer::Log { group, .. } => Some(*group),
            _ => None,
        }
    }
}

/// Names a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogId(pub u16);

impl Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log {}", self.0)
    }
}

/// The spec for this many replicas: no message is used up, and no budget.
fn spec(count: usize) -> Spec {
    Spec {
        count: count as u8,
        max_term: u64::MAX,
        budget: Budget { entry: 9, crash: 9 },
        succession: false,
        flaw: None,
    }
}

// ---- The search -------------------------------------------------------------------------------------------

impl Guided for Spec {
    fn shape(&self) -> u64 {
        u64::from(self.count)
    }

    fn refill(&self, state: &mut State) {
        state.budget = self.budget;
    }

    fn towards(&self, at: &State, to: &State, actions: &mut Vec<Action>) {
        for (i, (now, then)) in (0..).map(Server).zip(at.replicas.iter().zip(&to.replicas)) {
            let says = |message: &&Sent| message.from == i && !at.net.contains(*message);
            let said = to.net.iter().filter(says).chain(&then.outbox);
            if now == then && said.clone().next().is_none() && !at.down.has(i.0) {
                continue;
            }
            said.for_each(|message| actions.extend(to_say(message)));
            to_change(i, now, then, actions);
            let heard = at.net.iter().filter(|message| message.to == i);
            actions.extend(heard.map(|message| match message.body {
                Body::Ask { .. } => Action::ReceiveAsk(message.clone()),
                Body::Vote => Action::ReceiveVote(message.clone()),
                Body::Append { .. } => Action::ReceiveAppend(message.clone()),
                Body::Ack { .. } => Action::ReceiveAck(message.clone()),
            }));
        }
    }

    fn distance(&self, from: &State, to: &State) -> u32 {
        let replicas = from.replicas.iter().zip(&to.replicas);
        let replicas: u32 = replicas.map(|(a, b)| apart(a, b)).sum();
        replicas
            + differ(&from.net, &to.net)
            + differ(&from.elected, &to.elected)
            + u32::from(from.chosen != to.chosen)
            + (from.down.0 ^ to.down.0).count_ones()
    }

    /// Messages stay, and nothing is written but what ends up written or was there.
    fn may_pass(&self, from: &State, at: &State, to: &State) -> bool {
        let written = |((before, now), after): ((&Replica, &Replica), &Replica)| {
            let known = |saved| before.saved.contains(saved) || after.saved.contains(saved);
            let few = now.saved.len() <= before.saved.len() + after.saved.len();
            (before != after || now == after) && few && now.saved.iter().all(known)
        };
        let replicas = from.replicas.iter().zip(&at.replicas).zip(&to.replicas);
        from.net.is_subset(&at.net)
            && at.net.is_subset(&to.net)
            && at.elected.is_subset(&to.elected)
            && at.chosen.is_subset(&to.chosen)
            && replicas.into_iter().all(written)
    }
}

fn differ<T: Ord>(a: &BTreeSet<T>, b: &BTreeSet<T>) -> u32 {
    a.symmetric_difference(b).count() as u32
}

/// How much of a replica's state differs.
fn apart(a: &Replica, b: &Replica) -> u32 {
    let unlike = |a: &Replica, b: &Replica| {
        let only = |saved: &&Saved| !b.saved.contains(saved);
        a.saved.iter().filter(only).count() as u32
    };
    let matched = a.matched.iter().zip(&b.matched);
    2 * unlike(a, b)
        + 2 * unlike(b, a)
        + u32::from(a.saved != b.saved)
        + differ(&a.outbox, &b.outbox)
        + u32::from(a.role != b.role)
        + (a.granted.0 ^ b.granted.0).count_ones()
        + matched.filter(|(a, b)| a != b).count() as u32
        + u32::from(a.commit != b.commit)
}

/// The actions that may say this.
fn to_say(message: &Sent) -> Vec<Action> {
    let (i, j) = (message.from, message.to);
    match &message.body {
        Body::Ask { .. } => vec![Action::AskVote(i, j)],
        Body::Vote => Vec::new(),
        Body::Append { prev, entries, .. } => {
            let n = prev + entries.len() as u64;
            vec![
                Action::SendAppend(i, j, *prev, n),
                Action::SendSnapshot(i, j),
            ]
        }
        Body::Ack { upto } => vec![Action::Acknowledge(i, j, *upto)],
    }
}

/// The actions of a replica alone that may lead it there.
fn to_change(i: Server, now: &Replica, then: &Replica, actions: &mut Vec<Action>) {
    use Action::*;
    actions.extend([
        Restart(i),
        Timeout(i),
        Resign(i),
        BecomeLeader(i),
        Request(i),
    ]);
    let mut terms: Vec<Term> = then.saved.iter().map(|saved| saved.term).collect();
    terms.dedup();
    actions.extend(terms.into_iter().map(|term| HearTerm(i, term)));
    actions.extend([LearnCommit(i, then.commit), Commit(i, then.commit)]);
    actions.push(Compact(i, then.mem().snap));
    actions.extend((2..=now.saved.len()).map(|k| Flush(i, k)));
    actions.push(Crash(i, then.saved[0].clone()));
}

// ---- What a replica has written -----------------------------------------------------------------------------

/// One write, as what it changes: the log is kept up to `cut`, and `tail` follows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Write {
    term: Term,
    vote: Option<Server>,
    snap: Index,
    cut: Index,
    tail: Vec<Term>,
    /// What lies at or below `cut` is not known: a snapshot has replaced it.
    replaces: bool,
}

impl Write {
    fn len(&self) -> Index {
        self.cut + self.tail.len() as u64
    }

    /// Another write after this one that leaves the log as it is.
    fn next(&self) -> Self {
        Self {
            cut: self.len(),
            tail: Vec::new(),
            replaces: false,
            ..*self
        }
    }
}

/// What is known of a replica: the spec's variables of it, with indexes as in the code.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Shadow {
    /// Of the first, all of the log that is remembered; of the others, what they change.
    saved: Vec<Write>,
    /// How many of them the flush under way covers.
    asked: usize,
    outbox: Vec<Sent>,
    role: Role,
    granted: Members,
    matched: Vec<Index>,
    commit: Index,
    /// Who leads its term, and how far its log is known to be the leader's, in windows.
    verified: Option<(Server, Term, Index)>,
}

impl Shadow {
    fn new(count: usize) -> Self {
        let nothing = Write {
            term: 0,
            vote: None,
            snap: 0,
            cut: 0,
            tail: Vec::new(),
            replaces: true,
        };
        Self {
            saved: vec![nothing],
            asked: 1,
            outbox: Vec::new(),
            role: Role::Follower,
            granted: Members::default(),
            matched: vec![0; count],
            commit: 0,
            verified: None,
        }
    }

    fn last(&self) -> &Write {
        self.saved.last().expect("at least one")
    }

    /// The term of the entry in memory, where it is remembered.
    fn term_at(&self, index: Index) -> Option<Term> {
        if index > self.last().len() {
            return None;
        }
        let holder = self.saved.iter().rev().find(|write| index > write.cut)?;
        holder.tail.get((index - holder.cut - 1) as usize).copied()
    }

    /// Nothing at or below is remembered of all that was written.
    fn floor(&self) -> Index {
        let known = self.saved.iter().filter(|write| write.replaces);
        known.map(|write| write.cut).max().unwrap_or(0)
    }

    /// The first `count` writes are on disk.
    fn flush(&mut self, count: usize) {
        let rest = self.saved.split_off(count);
        let mut writes = std::mem::take(&mut self.saved).into_iter();
        let mut first = writes.next().expect("at least one");
        for write in writes {
            if write.replaces {
                first.cut = write.cut;
                first.tail.clear();
            }
            first
                .tail
                .truncate(write.cut.saturating_sub(first.cut) as usize);
            first.tail.extend(write.tail);
            (first.term, first.vote, first.snap) = (write.term, write.vote, write.snap);
        }
        // After a crash the log begins at the snapshot, the end of which is kept.
        let forgotten = first.snap.saturating_sub(1).saturating_sub(first.cut);
        if forgotten > 0 {
            first.tail.drain(..forgotten as usize);
            first.cut += forgotten;
        }
        self.saved.push(first);
        self.saved.extend(rest);
        self.asked = 1;
    }

    /// The spec's variables of this replica, indexes counted from `base`.
    fn shown(&self, base: Index) -> Replica {
        let above = |index: Index| index.saturating_sub(base);
        let mut log: Vec<Term> = Vec::new();
        let mut saved: Vec<Saved> = Vec::with_capacity(self.saved.len());
        for write in &self.saved {
            if write.replaces {
                log.clear();
            }
            log.truncate(above(write.cut) as usize);
            let known = base.saturating_sub(write.cut) as usize;
            log.extend(write.tail.iter().skip(known));
            let write = Saved {
                term: write.term,
                vote: write.vote,
                log: log.clone(),
                snap: above(write.snap),
            };
            // A snapshot that ends at or below the base changes nothing above it.
            if saved.last() != Some(&write) {
                saved.push(write);
            }
        }
        Replica {
            saved,
            outbox: { self.outbox.iter() }
                .filter_map(|message| rebased(message, base))
                .collect(),
            role: self.role,
            granted: self.granted,
            matched: self.matched.iter().map(|index| above(*index)).collect(),
            commit: above(self.commit),
        }
    }

    // ---- A step -----------------------------------------------------------------------------------------

    /// Takes in what the disk held at a boot.
    fn boot<C: Command>(&mut self, raft: &Raft<C>, members: &[Addr]) {
        *self = Self::new(members.len());
        let snapshot = raft.snapshot_last();
        let first = &mut self.saved[0];
        first.snap = snapshot.index;
        if snapshot.index > 0 {
            first.cut = snapshot.index - 1;
            first.tail.push(snapshot.term);
        }
        let entries = (snapshot.index + 1..=raft.last().index).filter_map(|n| raft.entry(n));
        first.tail.extend(entries.map(|entry| entry.term));
        first.term = raft.term();
        first.vote = raft.vote().and_then(|voted| number(members, voted));
    }

    /// Takes in what was written in a step: term and vote, which come before anything else, then what effects tell.
    fn write<C: Command, M, T>(
        &mut self,
        raft: &Raft<C>,
        members: &[Addr],
        told: bool,
        effects: &Effects<M, T>,
    ) {
        let config = raft.config();
        let vote = raft.vote().and_then(|voted| number(members, voted));
        let me = number(members, config.me);
        if raft.term() > self.last().term {
            let vote = vote.filter(|_| vote == me);
            let term = raft.term();
            self.saved.push(Write {
                term,
                vote,
                ..self.last().next()
            });
        }
        if vote != self.last().vote {
            self.saved.push(Write {
                vote,
                ..self.last().next()
            });
        }
        let mut entries_begun = false;
        for effect in effects.iter() {
            match effect {
                Effect::Flush(flush) if flush.owner == config.flush_owner => {
                    self.asked = self.saved.len();
                }
                Effect::Observe(Observation::Log { group, event }) if *group == config.group => {
                    // A leader's entries are written one by one, those that it told a follower together.
                    entries_begun = self.note(event, told && entries_begun);
                }
                _ => {}
            }
        }
    }

    /// Takes in an event of the log; `goes_on` if it belongs to the last write. Says whether it was one of entries.
    fn note(&mut self, event: &LogEvent, goes_on: bool) -> bool {
        match event {
            LogEvent::Truncated { from } => {
                let mut write = self.last().next();
                write.cut = from - 1;
                self.saved.push(write);
                true
            }
            LogEvent::Appended { term, .. } => {
                if !goes_on {
                    self.saved.push(self.last().next());
                }
                let write = self.saved.last_mut().expect("at least one");
                write.tail.push(*term);
                true
            }
            LogEvent::Compacted { index, term } => {
                if self.term_at(*index) != Some(*term) {
                    let mut write = self.last().next();
                    (write.cut, write.tail, write.replaces) = (index - 1, vec![*term], true);
                    self.saved.push(write);
                }
                let snap = *index;
                self.saved.push(Write {
                    snap,
                    ..self.last().next()
                });
                false
            }
            LogEvent::Restarted { .. }
            | LogEvent::BecameLeader { .. }
            | LogEvent::Committed { .. }
            | LogEvent::WonBallot { .. } => goes_on,
        }
    }

    /// Takes in what a replica has in memory only.
    fn look<C: Command>(&mut self, raft: &Raft<C>, members: &[Addr]) {
        let servers = |granted: &BTreeSet<Addr>| {
            let numbers = granted.iter().filter_map(|addr| number(members, *addr));
            numbers.fold(Members::default(), |set, server| set.with(server.0))
        };
        self.matched.fill(0);
        for (peer, matched) in raft.matched() {
            if let Some(peer) = number(members, peer) {
                self.matched[usize::from(peer.0)] = matched;
            }
        }
        self.role = match (raft.is_leader(), raft.granted()) {
            (true, _) => Role::Leader,
            (false, Some(_)) => Role::Candidate,
            (false, None) => Role::Follower,
        };
        self.granted = raft.granted().map(servers).unwrap_or_default();
        self.commit = raft.committed();
        let me = raft.config().me;
        let waiting = raft.waiting().iter();
        self.outbox = waiting
            .filter_map(|(to, message)| in_spec(members, me, *to, message))
            .collect();
    }

    /// Takes note of how far the log is the leader's, now that it has told something.
    fn verify(&mut self, message: &Sent) {
        let Body::Append {
            prev,
            prev_term,
            entries,
            ..
        } = &message.body
        else {
            return;
        };
        let upto = prev + entries.len() as u64;
        let term = entries.last().unwrap_or(prev_term);
        let held = upto <= self.floor() || self.term_at(upto) == Some(*term);
        if message.term == self.last().term && self.role == Role::Follower {
            let known = match self.verified {
                Some((_, term, known)) if term == message.term => known,
                _ => 0,
            };
            let upto = if held { upto.max(known) } else { known };
            self.verified = Some((message.from, message.term, upto));
        }
    }
}

// ---- Messages -----------------------------------------------------------------------------------------------

fn number(members: &[Addr], of: Addr) -> Option<Server> {
    let at = members.iter().position(|member| *member == of)?;
    Some(Server(at as u8))
}

/// What a message is in the spec, with indexes as in the code; nothing if it is none. Of a snapshot only the last entry is
/// known.
fn in_spec<C>(members: &[Addr], from: Addr, to: Addr, message: &RaftMessage<C>) -> Option<Sent> {
    let body = match message {
        RaftMessage::RequestVote {
            pre: false, last, ..
        } => Body::Ask {
            len: last.index,
            last: last.term,
        },
        RaftMessage::Vote {
            pre: false,
            granted: true,
            ..
        } => Body::Vote,
        RaftMessage::AppendEntries {
            prev,
            entries,
            commit,
            ..
        } => Body::Append {
            prev: prev.index,
            prev_term: prev.term,
            entries: entries.iter().map(|entry| entry.term).collect(),
            commit: *commit,
        },
        RaftMessage::AppendReply {
            result: Ok(upto), ..
        } => Body::Ack { upto: *upto },
        RaftMessage::InstallSnapshot { snapshot, .. } => Body::Append {
            prev: snapshot.last.index.saturating_sub(1),
            prev_term: UNKNOWN,
            entries: vec![snapshot.last.term],
            commit: snapshot.last.index,
        },
        RaftMessage::RequestVote { .. }
        | RaftMessage::Vote { .. }
        | RaftMessage::AppendReply { .. } => return None,
    };
    Some(Sent {
        from: number(members, from)?,
        to: number(members, to)?,
        term: message.term(),
        body,
    })
}

/// The term of the entry before a snapshot's last one, which the message does not say. No entry has it.
const UNKNOWN: Term = u64::MAX;

/// The message with indexes counted from `base`; nothing if it then tells nothing.
fn rebased(message: &Sent, base: Index) -> Option<Sent> {
    let above = |index: Index| index.saturating_sub(base);
    let body = match &message.body {
        Body::Ask { len, last } => Body::Ask {
            len: above(*len),
            last: *last,
        },
        Body::Vote => Body::Vote,
        Body::Append {
            prev,
            prev_term,
            entries,
            commit,
        } => {
            let known = base.saturating_sub(*prev) as usize;
            let entries: Vec<Term> = entries.iter().skip(known).copied().collect();
            let (prev, commit) = (above(*prev), above(*commit));
            if prev == 0 && entries.is_empty() && commit == 0 {
                return None;
            }
            let prev_term = if prev == 0 { 0 } else { *prev_term };
            Body::Append {
                prev,
                prev_term,
                entries,
                commit,
            }
        }
        Body::Ack { upto } if above(*upto) == 0 => return None,
        Body::Ack { upto } => Body::Ack { upto: above(*upto) },
    };
    Some(Sent {
        body,
        ..message.clone()
    })
}

/// The lowest index that a judgement of this message has to see, and for a snapshot the only one.
fn lowest(message: &Sent) -> (Index, bool) {
    match &message.body {
        Body::Ask { len, .. } => (len.saturating_sub(1), false),
        Body::Vote => (Index::MAX, false),
        Body::Append {
            prev, prev_term, ..
        } if *prev_term == UNKNOWN => (*prev, true),
        Body::Append { prev, .. } => (prev.saturating_sub(1), false),
        Body::Ack { upto } => (upto.saturating_sub(1), false),
    }
}

// ---- The logs -----------------------------------------------------------------------------------------------

/// One log's group.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Group {
    members: Vec<Addr>,
    shadows: Vec<Shadow>,
    /// In a small world: what was ever sent, and the spec's history.
    net: BTreeSet<Sent>,
    elected: BTreeSet<(Term, Server)>,
    chosen: BTreeSet<(Index, Term)>,
}

/// What the step that begins reacts to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Heard<M> {
    Boot,
    /// A message between replicas.
    Message(u16, Addr, M),
    Timer(u16),
    /// The owner of the flush.
    Flushed(u8),
    Other,
}

/// The spec states of all logs of a deployment of processes that order commands `C`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Logs<C: Command> {
    whole: bool,
    /// How many routine steps there were, in runs.
    routine: u64,
    groups: BTreeMap<u16, Group>,
    heard: Heard<RaftMessage<C>>,
}

impl<C: Command> Logs<C> {
    /// For small worlds: everything of a group in one state.
    pub fn whole() -> Self {
        Self {
            whole: true,
            routine: 0,
            groups: BTreeMap::new(),
            heard: Heard::Other,
        }
    }

    /// For runs without bound: each step on what it can see.
    pub fn windowed() -> Self {
        Self {
            whole: false,
            ..Self::whole()
        }
    }

    /// Whether the step may have changed the replica.
    fn is_touched<P: KeepsLogs<Command = C>>(
        &self,
        raft: &Raft<C>,
        effects: &Effects<P::Message, P::Timer>,
    ) -> bool {
        let (this, owner) = (raft.config().group, raft.config().flush_owner);
        let heard = match &self.heard {
            Heard::Boot => true,
            Heard::Message(group, ..) | Heard::Timer(group) => *group == this,
            Heard::Flushed(flushed) => *flushed == owner,
            Heard::Other => false,
        };
        let of_log = |group: Option<u16>| group == Some(this);
        heard
            || effects.iter().any(|effect| match effect {
                Effect::Send { message, .. } => {
                    of_log(P::log_message(message).map(|(group, _)| group))
                }
                Effect::SetTimer { timer, .. } | Effect::CancelTimer(timer) => {
                    of_log(P::log_timer(timer))
                }
                Effect::Observe(Observation::Log { group, .. }) => *group == this,
                Effect::Flush(flush) => flush.owner == owner,
                _ => false,
            })
    }

    fn step_log<P: KeepsLogs<Command = C>>(
        &mut self,
        by: Addr,
        raft: &Raft<C>,
        effects: &Effects<P::Message, P::Timer>,
    ) -> Option<Change<Spec, LogId>> {
        let id = raft.config().group;
        if raft.config().members.len() > REPLICAS_MAX {
            return None;
        }
        let new = || Group::new(&raft.config().members);
        let group = self.groups.entry(id).or_insert_with(new);
        let members = &group.members;
        let i = number(members, by)?;
        let taken_in = self.heard.taken_in(members, by, id);
        let said: Vec<Sent> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Send { to, message } => match P::log_message(message) {
                    Some((group, LogMessage::Raft(message))) if group == id => {
                        in_spec(members, by, *to, message)
                    }
                    _ => None,
                },
                _ => None,
            })
            .collect();
        let count = members.len();
        let rare = self.heard == Heard::Boot || group.is_turning(i, raft, taken_in.as_ref());
        self.routine += u64::from(!self.whole && !rare);
        let judged = !self.whole && (rare || stable_hash(&self.routine).is_multiple_of(SAMPLED));
        let view = judged.then(|| View::of(group, i, raft, taken_in.as_ref(), &said));
        let before = view.as_ref().map(|view| view.before(group));
        group.take(i, raft, &self.heard, taken_in.as_ref(), effects);
        match (view, before) {
            (Some(view), Some(before)) => {
                let after = view.after(group, &before);
                let (name, model) = (LogId(id), spec(count));
                Some(Change {
                    name,
                    model,
                    before,
                    after,
                })
            }
            _ if self.whole => {
                group.remember(i, said);
                None
            }
            _ => None,
        }
    }
}

impl<C> Heard<RaftMessage<C>> {
    /// The message that a replica takes in, as the spec's.
    fn taken_in(&self, members: &[Addr], by: Addr, group: u16) -> Option<Sent> {
        match self {
            Heard::Message(of, from, message) if *of == group => {
                in_spec(members, *from, by, message)
            }
            _ => None,
        }
    }
}

impl Group {
    fn new(members: &[Addr]) -> Self {
        let mut members = members.to_vec();
        members.sort_unstable();
        let count = members.len();
        Self {
            shadows: vec![Shadow::new(count); count],
            members,
            net: BTreeSet::new(),
            elected: BTreeSet::new(),
            chosen: BTreeSet::new(),
        }
    }

    /// Whether the step is about who leads.
    fn is_turning<C: Command>(&self, i: Server, raft: &Raft<C>, taken_in: Option<&Sent>) -> bool {
        let shadow = &self.shadows[usize::from(i.0)];
        let election = taken_in.map(|message| &message.body);
        matches!(election, Some(Body::Ask { .. } | Body::Vote))
            || raft.term() != shadow.last().term
            || raft.is_leader() != (shadow.role == Role::Leader)
            || raft.granted().is_some() != (shadow.role == Role::Candidate)
    }

    /// Brings a replica's shadow up to date.
    fn take<C: Command, M, T>(
        &mut self,
        i: Server,
        raft: &Raft<C>,
        heard: &Heard<RaftMessage<C>>,
        taken_in: Option<&Sent>,
        effects: &Effects<M, T>,
    ) {
        let shadow = &mut self.shadows[usize::from(i.0)];
        match heard {
            Heard::Boot => shadow.boot(raft, &self.members),
            Heard::Flushed(owner) if *owner == raft.config().flush_owner => {
                shadow.flush(shadow.asked);
            }
            _ => {}
        }
        let told = taken_in.is_some_and(|message| matches!(message.body, Body::Append { .. }));
        if *heard != Heard::Boot {
            shadow.write(raft, &self.members, told, effects);
        }
        shadow.look(raft, &self.members);
        if let Some(message) = taken_in {
            shadow.verify(message);
        }
    }

    /// In a small world: what was sent and what is history.
    fn remember(&mut self, i: Server, said: Vec<Sent>) {
        let said = said.iter().filter_map(|message| rebased(message, 0));
        self.net.extend(said);
        let shadow = &mut self.shadows[usize::from(i.0)];
        // The whole of what was sent is here: nothing has to be remembered of it.
        shadow.verified = None;
        if shadow.role == Role::Leader {
            self.elected.insert((shadow.last().term, i));
        }
        let chosen = (1..=shadow.commit).filter_map(|n| Some((n, shadow.term_at(n)?)));
        self.chosen.extend(chosen);
    }

    /// The state of a group in a small world.
    fn state(&self) -> State {
        let replicas = self.shadows.iter().map(|shadow| shadow.shown(0));
        State {
            replicas: replicas.collect(),
            net: self.net.clone(),
            down: Members::default(),
            elected: self.elected.clone(),
            chosen: self.chosen.clone(),
            budget: Budget::default(),
        }
    }
}

/// What a step can see of a group.
struct View {
    i: Server,
    base: Index,
    /// What the replica can hear.
    heard: BTreeSet<Sent>,
    said: BTreeSet<Sent>,
    /// The latest term on the disk of another replica that matters here.
    others: Vec<Term>,
}

impl View {
    /// To be made before the step is taken in.
    fn of<C: Command>(
        group: &Group,
        i: Server,
        raft: &Raft<C>,
        taken_in: Option<&Sent>,
        said: &[Sent],
    ) -> Self {
        let shadow = &group.shadows[usize::from(i.0)];
        let base = Self::base(shadow, raft, taken_in, said);
        let witness = shadow.verified.map(|(from, term, upto)| Sent {
            from,
            to: i,
            term,
            body: Body::Append {
                prev: upto.saturating_sub(base),
                prev_term: match upto > base {
                    true => shadow.term_at(upto).unwrap_or(UNKNOWN),
                    false => 0,
                },
                entries: Vec::new(),
                commit: 0,
            },
        });
        let heard = taken_in.and_then(|message| rebased(message, base));
        let hears_term = raft.term() > shadow.last().term;
        let terms = group.shadows.iter().map(|other| match hears_term {
            true => other.saved[0].term.min(raft.term()),
            false => 0,
        });
        Self {
            i,
            base,
            heard: heard.into_iter().chain(witness).collect(),
            said: { said.iter() }
                .filter_map(|message| rebased(message, base))
                .collect(),
            others: terms.collect(),
        }
    }

    /// Above what the step touches or names, but not below what is remembered.
    fn base<C: Command>(
        shadow: &Shadow,
        raft: &Raft<C>,
        taken_in: Option<&Sent>,
        said: &[Sent],
    ) -> Index {
        let messages = || taken_in.into_iter().chain(said).chain(&shadow.outbox);
        // With what this step writes, nothing more is forgotten than the log below its snapshot.
        let floor = shadow
            .floor()
            .max(raft.snapshot_last().index.saturating_sub(1));
        let of_snapshot = messages().map(lowest).filter(|(_, only)| *only);
        if let Some(last) = of_snapshot.map(|(index, _)| index).max() {
            return last.max(floor);
        }
        let named = messages().map(|message| lowest(message).0);
        let touched = named.fold(shadow.commit.min(raft.committed()), Index::min);
        let end = shadow.last().len().max(raft.last().index);
        // An election looks at the log's last entry.
        let touched = touched.min(shadow.last().len().saturating_sub(1));
        touched.max(end.saturating_sub(WINDOW)).max(floor)
    }

    fn state(&self, group: &Group) -> State {
        let count = group.members.len() as u8;
        let other = |term: &Term| {
            let mut replica = Replica::new(count);
            replica.saved[0].term = *term;
            replica
        };
        let mut replicas: Vec<Replica> = self.others.iter().map(other).collect();
        let replica = group.shadows[usize::from(self.i.0)].shown(self.base);
        replicas[usize::from(self.i.0)] = replica;
        State {
            replicas,
            net: self.heard.clone(),
            down: Members::default(),
            elected: BTreeSet::new(),
            chosen: BTreeSet::new(),
            budget: Budget::default(),
        }
    }

    fn before(&self, group: &Group) -> State {
        let mut state = self.state(group);
        let replica = &state.replicas[usize::from(self.i.0)];
        let log = (1..=replica.commit).zip(replica.mem().log.iter().copied());
        state.chosen = log.collect();
        state
    }

    fn after(&self, group: &Group, before: &State) -> State {
        let mut state = self.state(group);
        state.net.extend(self.said.iter().cloned());
        let at = usize::from(self.i.0);
        let (was, is) = (&before.replicas[at], &state.replicas[at]);
        let term = is.mem().term;
        if is.role == Role::Leader && (was.role != Role::Leader || was.mem().term != term) {
            state.elected.insert((term, self.i));
        }
        state.chosen.clone_from(&before.chosen);
        if is.commit > was.commit {
            let log = (1..=is.commit).zip(is.mem().log.iter().copied());
            state.chosen.extend(log);
        }
        state
    }
}

impl<P, C> Abstraction<P> for Logs<C>
where
    P: KeepsLogs<Command = C>,
    C: Command,
{
    type Spec = Spec;
    type Name = LogId;
    const PROPERTY: &'static str = LOG_PROPERTY;

    fn cause(_: &Input<P::Message, P::Timer>) -> Cause {
        Cause::Other
    }

    fn hears(&mut self, _: Addr, input: &Input<P::Message, P::Timer>) {
        self.heard = match input {
            Input::Boot(_) => Heard::Boot,
            Input::Message { from, message } => match P::log_message(message) {
                Some((group, LogMessage::Raft(message))) => {
                    Heard::Message(group, *from, message.clone())
                }
                _ => Heard::Other,
            },
            Input::Timer(timer) => P::log_timer(timer).map_or(Heard::Other, Heard::Timer),
            Input::Flushed(flush) => Heard::Flushed(flush.owner),
            Input::FlushFailed(_) => Heard::Other,
        };
    }

    fn step(
        &mut self,
        by: Addr,
        _: Cause,
        process: &P,
        effects: &Effects<P::Message, P::Timer>,
    ) -> Vec<Change<Spec, LogId>> {
        let mut changes = Vec::new();
        for log in process.logs() {
            if let Log::Raft(raft) = log
                && self.is_touched::<P>(raft, effects)
            {
                changes.extend(self.step_log::<P>(by, raft, effects));
            }
        }
        self.heard = Heard::Other;
        changes
    }

    fn instances(&self) -> Vec<(LogId, Spec, State)> {
        let shown =
            |(id, group): (&u16, &Group)| (LogId(*id), spec(group.members.len()), group.state());
        self.groups.iter().map(shown).collect()
    }
}
