//! Raft (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", USENIX ATC 2014; "the
//! thesis" is Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014).
//!
//! Here is what makes it Raft: who may lead, how a follower's log is made to equal the leader's, and what a leader may
//! commit. What `replica` holds is common to both protocols: timers, the window of messages under way to a
//! follower, heartbeats, reads, snapshots, and the three rules of durability, which are stated there.

use std::collections::BTreeSet;

use crate::base::observation::LogEvent;
use crate::base::process::{Addr, Wire};

use super::replica::{self, Heading, Protocol, Replica, Role};
use super::storage::HardState;
use super::{Command, Entry, Index, Position, Snapshot, Term};
use crate::base::zoo::{self, Bug};

/// A replica of a log kept by Raft.
pub type Raft<C> = Replica<RaftMessage<C>>;

type Out<C> = replica::Out<RaftMessage<C>>;

/// A replica that gathers votes (section 5.2), or with `pre` asks whether it could win before it disturbs anybody
/// with a new term (thesis, section 9.6).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Candidacy {
    pre: bool,
    granted: BTreeSet<Addr>,
}

/// Raft's messages.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RaftMessage<C> {
    /// RequestVote, or with `pre` the question how one would be answered.
    RequestVote {
        /// The candidate's term; with `pre`, the term that it would start.
        term: Term,
        /// Whether this is only a question.
        pre: bool,
        /// The candidate's last entry.
        last: Position,
    },
    /// Answer to RequestVote.
    Vote {
        /// The voter's term; when granting with `pre`, the term asked about.
        term: Term,
        /// Whether this answers a question.
        pre: bool,
        /// The answer.
        granted: bool,
    },
    /// AppendEntries; without entries, the heartbeat.
    AppendEntries {
        /// The leader's term.
        term: Term,
        /// The entry before the first one sent.
        prev: Position,
        /// The entries, possibly none.
        entries: Vec<Entry<C>>,
        /// The leader's commit index.
        commit: Index,
        /// The leader's heartbeat round, to be echoed.
        round: u64,
    },
    /// Answer to AppendEntries and InstallSnapshot.
    AppendReply {
        /// The follower's term.
        term: Term,
        /// The latest round that the follower has seen in this term.
        round: u64,
        /// Up to where the follower's durable log is known to equal the leader's, or why it refused.
        result: Result<Index, Conflict>,
    },
    /// InstallSnapshot, in one piece.
    InstallSnapshot {
        /// The leader's term.
        term: Term,
        /// The snapshot.
        snapshot: Snapshot,
        /// The leader's heartbeat round, to be echoed.
        round: u64,
    },
}

/// Where a follower's log departs from the leader's (section 5.3, last but two paragraphs).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Conflict {
    /// `prev.index` of the message refused.
    pub prev_index: Index,
    /// The term of the follower's entry there; nothing if its log is shorter.
    pub term: Option<Term>,
    /// The first index that the follower holds for that term, or the one after its last.
    pub first_index: Index,
}

impl<C> RaftMessage<C> {
    /// The term of the message (section 5.1).
    pub fn term(&self) -> Term {
        match self {
            RaftMessage::RequestVote { term, .. }
            | RaftMessage::Vote { term, .. }
            | RaftMessage::AppendEntries { term, .. }
            | RaftMessage::AppendReply { term, .. }
            | RaftMessage::InstallSnapshot { term, .. } => *term,
        }
    }
}

impl<C: Command> Wire for RaftMessage<C> {
    fn label(&self) -> &'static str {
        match self {
            RaftMessage::RequestVote { pre: true, .. } => "request-pre-vote",
            RaftMessage::RequestVote { .. } => "request-vote",
            RaftMessage::Vote { pre: true, .. } => "pre-vote",
            RaftMessage::Vote { .. } => "vote",
            RaftMessage::AppendEntries { entries, .. } if entries.is_empty() => "heartbeat",
            RaftMessage::AppendEntries { .. } => "append-entries",
            RaftMessage::AppendReply { .. } => "append-reply",
            RaftMessage::InstallSnapshot { .. } => "install-snapshot",
        }
    }

    fn size_bytes(&self) -> u32 {
        let content = match self {
            RaftMessage::AppendEntries { entries, .. } => {
                let size = |entry: &Entry<C>| 16 + entry.command.as_ref().map_or(0, C::size_bytes);
                entries.iter().map(size).sum()
            }
            RaftMessage::InstallSnapshot { snapshot, .. } => snapshot.state.len() as u32,
            _ => 0,
        };
        64 + content
    }
}

impl<C: Command> Protocol for RaftMessage<C> {
    type Command = C;
    type Candidacy = Candidacy;

    fn entries(heading: Heading, prev: Position, entries: Vec<Entry<C>>) -> Self {
        let Heading {
            term,
            commit,
            round,
        } = heading;
        RaftMessage::AppendEntries {
            term,
            prev,
            entries,
            commit,
            round,
        }
    }

    fn snapshot(Heading { term, round, .. }: Heading, snapshot: Snapshot) -> Self {
        RaftMessage::InstallSnapshot {
            term,
            snapshot,
            round,
        }
    }

    fn acknowledgement(term: Term, round: u64, index: Index) -> Self {
        RaftMessage::AppendReply {
            term,
            round,
            result: Ok(index),
        }
    }

    fn receive(replica: &mut Raft<C>, from: Addr, message: Self, out: &mut Out<C>) {
        replica.receive(from, message, out);
    }

    fn campaign(replica: &mut Raft<C>, out: &mut Out<C>) {
        replica.start_pre_vote(out);
    }

    fn count_votes(replica: &mut Raft<C>, out: &mut Out<C>) {
        replica.count_votes(out);
    }

    fn append(replica: &mut Raft<C>, command: Option<C>, out: &mut Out<C>) -> Position {
        let term = replica.term();
        let index = replica.last().index + 1;
        replica.storage.append(index, Entry { term, command }, out);
        Position { term, index }
    }

    /// Section 5.4.2: "only log entries from the leader's current term are committed by counting replicas".
    fn commits_by_counting(replica: &Raft<C>, index: Index) -> bool {
        replica.storage.term_at(index) == Some(replica.term()) || zoo::planted(Bug::CommitsOldTerm)
    }
}

impl<C: Command> Raft<C> {
    /// Who granted this candidate a vote, itself included; nothing at a replica that is no candidate, or one that only
    /// asks whether it could win.
    pub fn granted(&self) -> Option<&BTreeSet<Addr>> {
        match &self.role {
            Role::Candidate(candidacy) if !candidacy.pre => Some(&candidacy.granted),
            _ => None,
        }
    }
}

// ---- Dispatching: section 5.1 --------------------------------------------------------------------------------

impl<C: Command> Raft<C> {
    /// Section 5.1: whoever sees a higher term adopts it and follows. A question raises no term, nor does an
    /// election that comes while the leader is well.
    fn receive(&mut self, from: Addr, message: RaftMessage<C>, out: &mut Out<C>) {
        let raises_term = match &message {
            RaftMessage::RequestVote { pre, .. } => !pre && !self.stands_by_leader(),
            RaftMessage::Vote { pre, granted, .. } => !(*pre && *granted),
            _ => true,
        };
        if raises_term && message.term() > self.term() {
            self.adopt_term(message.term(), None, out);
        }
        match message {
            RaftMessage::RequestVote { term, pre, last } => {
                self.on_request_vote(from, term, pre, last, out);
            }
            RaftMessage::Vote { term, pre, granted } => self.on_vote(from, term, pre, granted, out),
            RaftMessage::AppendEntries {
                term,
                prev,
                entries,
                commit,
                round,
            } => {
                if self.follow(from, term, round, prev.index, out) {
                    self.on_append_entries(from, prev, entries, commit, out);
                }
            }
            RaftMessage::AppendReply {
                term,
                round,
                result,
            } => {
                if term == self.term() {
                    self.on_append_reply(from, round, result, out);
                }
            }
            RaftMessage::InstallSnapshot {
                term,
                snapshot,
                round,
            } => {
                if self.follow(from, term, round, snapshot.last.index, out) {
                    self.on_install_snapshot(from, snapshot, out);
                }
            }
        }
    }
}

// ---- Leader election: section 5.2; thesis, sections 4.2.3, 6.2 and 9.6 ---------------------------------------

impl<C: Command> Raft<C> {
    fn start_pre_vote(&mut self, out: &mut Out<C>) {
        self.leader = None;
        self.arm_election(self.config.options.election_ms.delay(), out);
        self.request_votes(true, self.term() + 1, out);
        self.count_votes(out);
    }

    fn start_election(&mut self, out: &mut Out<C>) {
        let (me, term) = (self.config.me, self.term() + 1);
        self.adopt_term(term, Some(me), out);
        self.request_votes(false, term, out);
    }

    fn request_votes(&mut self, pre: bool, term: Term, out: &mut Out<C>) {
        let granted = BTreeSet::from([self.config.me]);
        self.role = Role::Candidate(Candidacy { pre, granted });
        let last = self.storage.last();
        self.send_to_all(RaftMessage::RequestVote { term, pre, last }, out);
    }

    /// RequestVote RPC, receiver (figure 2); the election restriction is section 5.4.1.
    fn on_request_vote(
        &mut self,
        from: Addr,
        term: Term,
        pre: bool,
        last: Position,
        out: &mut Out<C>,
    ) {
        if self.stands_by_leader() {
            return;
        }
        let HardState {
            term: current,
            vote,
        } = self.storage.hard();
        let free = match pre {
            true => term > current,
            false => term == current && vote.is_none_or(|to| to == from),
        };
        let is_as_complete = last >= self.storage.last() || zoo::planted(Bug::VoteWithoutLogCheck);
        let granted = free && is_as_complete;
        if granted && !pre {
            if vote.is_none() {
                let vote = Some(from);
                self.storage.set_hard(HardState { term, vote }, out);
            }
            self.arm_election(self.config.options.election_ms.delay(), out);
        }
        let term = if granted { term } else { current };
        self.send(from, RaftMessage::Vote { term, pre, granted }, out);
    }

    fn on_vote(&mut self, from: Addr, term: Term, pre: bool, granted: bool, out: &mut Out<C>) {
        let asked = self.term() + u64::from(pre);
        let late = zoo::planted(Bug::PreVoteCounts) && pre && term == self.term();
        if let Role::Candidate(candidacy) = &mut self.role
            && granted
            && (candidacy.pre == pre && term == asked || late && !candidacy.pre)
        {
            candidacy.granted.insert(from);
            self.count_votes(out);
        }
    }

    fn count_votes(&mut self, out: &mut Out<C>) {
        let Role::Candidate(Candidacy { pre, granted }) = &self.role else {
            return;
        };
        if granted.len() < self.config.majority() {
            return;
        }
        match pre {
            true => self.start_election(out),
            // The candidate's own vote counts once it is on disk: rule 3.
            false if self.storage.hard_is_durable() => self.become_leader(out),
            false => {}
        }
    }

    /// Section 5.2, and section 8: a no-op entry at the start of the term lets the leader find out which
    /// entries are committed.
    fn become_leader(&mut self, out: &mut Out<C>) {
        let first_index = self.last().index + 1;
        self.lead(first_index, first_index, out);
        let term = self.term();
        self.storage.observe(LogEvent::BecameLeader { term }, out);
        RaftMessage::append(self, None, out);
        self.replicate_to_all(out);
        self.arm_leader(out);
    }
}

// ---- The consistency of logs: section 5.3; snapshots: section 7 ------------------------------------------------

impl<C: Command> Raft<C> {
    fn on_append_reply(
        &mut self,
        from: Addr,
        round: u64,
        result: Result<Index, Conflict>,
        out: &mut Out<C>,
    ) {
        let next = match result {
            Ok(_) => 0,
            Err(conflict) => self.next_after(conflict),
        };
        let Some(progress) = self.hear(from, round) else {
            return;
        };
        match result {
            Ok(index) => progress.acknowledged(index),
            Err(_) if zoo::planted(Bug::RefusalIgnored) => {}
            // A refusal of what it has since acknowledged was overtaken.
            Err(conflict) if conflict.prev_index > progress.matched => {
                progress.refused(conflict.prev_index, next.max(progress.matched + 1));
            }
            Err(_) => {}
        }
        self.press_on(from, out);
    }

    /// Section 5.3: skip all entries of the conflicting term in one step, both here and there.
    fn next_after(&self, conflict: Conflict) -> Index {
        let Some(term) = conflict.term else {
            return conflict.first_index;
        };
        let first_kept = self.storage.snapshot().last.index + 1;
        let candidates = conflict.first_index.max(first_kept)..conflict.prev_index;
        let ours = candidates
            .rev()
            .find(|i| self.storage.term_at(*i) == Some(term));
        ours.map_or(conflict.first_index, |last| last + 1)
    }

    /// What AppendEntries and InstallSnapshot begin with: refuse an old leader, follow the current one.
    fn follow(
        &mut self,
        leader: Addr,
        term: Term,
        round: u64,
        index: Index,
        out: &mut Out<C>,
    ) -> bool {
        if term < self.term() && !zoo::planted(Bug::StaleLeaderAccepted) {
            self.refuse(leader, index, out);
            return false;
        }
        assert!(
            !self.is_leader() || zoo::any(),
            "two leaders in term {term}"
        );
        if !matches!(self.role, Role::Follower(_)) {
            self.become_follower(out);
        }
        self.heed(leader, round, out);
        true
    }

    /// AppendEntries RPC, receiver (figure 2), steps 2 to 5.
    fn on_append_entries(
        &mut self,
        from: Addr,
        prev: Position,
        entries: Vec<Entry<C>>,
        commit: Index,
        out: &mut Out<C>,
    ) {
        // What the snapshot covers is committed, and so the same everywhere.
        let covered = self.storage.snapshot().last.index;
        let agrees = match self.storage.term_at(prev.index) {
            Some(_) if zoo::planted(Bug::PrevTermIgnored) => true,
            term => term == Some(prev.term),
        };
        if prev.index > covered && !agrees {
            return self.refuse(from, prev.index, out);
        }
        let last = prev.index + entries.len() as u64;
        let is_heartbeat = entries.is_empty();
        for (index, entry) in (prev.index + 1..).zip(entries) {
            let is_new = self.storage.term_at(index) != Some(entry.term);
            if index > covered && (is_new || zoo::planted(Bug::TruncatesAlways)) {
                assert!(
                    index > self.commit || zoo::any(),
                    "a committed entry is replaced"
                );
                self.storage.append(index, entry, out);
            }
        }
        self.verify_and_commit(last, commit, out);
        let is_due = self.storage.durable() >= last || zoo::planted(Bug::AckBeforeFlush);
        if is_heartbeat || is_due {
            self.acknowledge(from, out);
        }
    }

    /// InstallSnapshot RPC, receiver (figure 13).
    fn on_install_snapshot(&mut self, from: Addr, snapshot: Snapshot, out: &mut Out<C>) {
        let last = snapshot.last;
        if last.index > self.commit && self.storage.term_at(last.index) != Some(last.term) {
            self.install(snapshot, false, out);
        }
        self.verify_and_commit(last.index, last.index, out);
        if self.storage.durable() >= last.index {
            self.acknowledge(from, out);
        }
    }

    fn refuse(&mut self, leader: Addr, prev_index: Index, out: &mut Out<C>) {
        let first_kept = self.storage.snapshot().last.index + 1;
        let term = self.storage.term_at(prev_index);
        let first_index = match term {
            None => self.storage.last().index + 1,
            Some(_) => (first_kept..prev_index)
                .rev()
                .take_while(|i| self.storage.term_at(*i) == term)
                .last()
                .unwrap_or(prev_index),
        };
        let round = match &self.role {
            Role::Follower(follower) => follower.round,
            _ => 0,
        };
        let conflict = Conflict {
            prev_index,
            term,
            first_index,
        };
        let message = RaftMessage::AppendReply {
            term: self.term(),
            round,
            result: Err(conflict),
        };
        self.send(leader, message, out);
    }
}
