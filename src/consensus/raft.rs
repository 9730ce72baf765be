//! Raft (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", USENIX ATC 2014; "the
//! thesis" is Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014).
//!
//! # Durability
//!
//! Figure 2 has each server update its persistent state before it answers. Here memory runs ahead of the disk,
//! and three rules make that indistinguishable from the paper:
//!
//! 1. no message leaves before the term and vote under which it is sent are on disk (`send`);
//! 2. a follower acknowledges, and a leader counts for itself, only entries that are on disk;
//! 3. an election is won only once the candidate's vote for itself is on disk.
//!
//! A leader does send entries that it has not flushed yet (thesis, section 10.2.1): followers may be first.
//! A failed flush stops the machine; what it claimed before was durable, and it restarts from there.
//!
//! # Timers
//!
//! The election timer runs twice for a follower. For the minimum election timeout it *stands by its leader*
//! and ignores elections (thesis, section 4.2.3); after a further, jittered while it campaigns. A leader uses
//! the same timer to step down when it has not heard from a majority (thesis, section 6.2).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::process::{Addr, Delay, Disk, Effects, FlushId, Input, WallTime, Wire};
use crate::record::LogEvent;

use super::progress::{Mode, PendingRead, Progress};
use super::storage::{HardState, Storage};
use super::{Command, Config, Delivery, Entry, Index, NotLeader, Position, Snapshot, Term};

/// A replica of a log kept by Raft. Its persistent state (figure 2) is in `storage`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Raft<C> {
    config: Config,
    storage: Storage<C>,
    /// Messages that wait until the term and vote are on disk.
    outbox: Vec<(Addr, RaftMessage<C>)>,
    /// Highest index known to be committed; everything up to it has been delivered.
    commit: Index,
    role: Role,
    /// Who leads in the current term, where known.
    leader: Option<Addr>,
    deliveries: Vec<Delivery<C>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Role {
    Follower(Follower),
    /// Asks whether it could win before it disturbs anybody with a new term (thesis, section 9.6).
    PreCandidate {
        granted: BTreeSet<Addr>,
    },
    Candidate {
        granted: BTreeSet<Addr>,
    },
    Leader(Leader),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Follower {
    /// Heard from the leader within the minimum election timeout.
    stands_by: bool,
    /// The log is known to equal the leader's up to this index.
    verified: Index,
    /// The round of the leader's last message.
    round: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Leader {
    /// Index of the no-op entry with which the term started.
    first_index: Index,
    followers: BTreeMap<Addr, Progress>,
    /// Number of the last round of heartbeats that confirms leadership for reads.
    round: u64,
    reads: VecDeque<PendingRead>,
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

/// Raft's timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RaftTimer {
    /// Time to doubt the leader, to campaign, or, at a leader, to check for a majority.
    Election,
    /// Time for a leader's heartbeat.
    Heartbeat,
}

type Out<C> = Effects<RaftMessage<C>, RaftTimer>;

// ---- The interface of `Log` -------------------------------------------------------------------------------

impl<C: Command> Raft<C> {
    /// A replica that has not booted.
    pub fn new(config: Config) -> Self {
        Self {
            storage: Storage::new(&config),
            config,
            outbox: Vec::new(),
            commit: 0,
            role: Role::Follower(Follower::default()),
            leader: None,
            deliveries: Vec::new(),
        }
    }

    /// Handles an input.
    pub fn step(
        &mut self,
        _now: WallTime,
        input: Input<RaftMessage<C>, RaftTimer>,
        out: &mut Out<C>,
    ) {
        match input {
            Input::Boot(disk) => self.boot(&disk, out),
            Input::Message { from, message } => self.receive(from, message, out),
            Input::Timer(RaftTimer::Election) => self.election_timeout(out),
            Input::Timer(RaftTimer::Heartbeat) => self.heartbeat(out),
            Input::Flushed(flush) => self.flushed(flush, out),
            Input::FlushFailed(_) => out.halt("the disk refused to flush the log"),
        }
        self.storage.flush(out);
    }

    /// See [`super::Log::propose`]. Section 5.3: the leader appends the command to its log.
    ///
    /// # Errors
    ///
    /// [`NotLeader`] at a replica that does not lead.
    pub fn propose(&mut self, command: C, out: &mut Out<C>) -> Result<Position, NotLeader> {
        if !self.is_leader() {
            return Err(NotLeader { hint: self.leader });
        }
        let position = self.append_as_leader(Some(command), out);
        self.replicate_to_all(out);
        self.storage.flush(out);
        Ok(position)
    }

    /// See [`super::Log::read_index`]. Section 8; thesis, section 6.4.
    ///
    /// # Errors
    ///
    /// [`NotLeader`] at a replica that does not lead.
    pub fn read_index(&mut self, read: u64, out: &mut Out<C>) -> Result<(), NotLeader> {
        let hint = self.leader;
        let Role::Leader(leader) = &mut self.role else {
            return Err(NotLeader { hint });
        };
        // What earlier leaders committed lies before this term's no-op entry, once that is committed.
        let index = self.commit.max(leader.first_index);
        let round = leader.round + 1;
        leader.reads.push_back(PendingRead { read, index, round });
        if leader.reads.iter().all(|pending| pending.round == round) {
            self.next_round(out);
        }
        self.serve_reads(out);
        Ok(())
    }

    /// See [`super::Log::compact`]. Section 7.
    ///
    /// # Panics
    ///
    /// When the entry at `index` has not been delivered.
    pub fn compact(&mut self, index: Index, state: Vec<u8>, out: &mut Out<C>) {
        assert!(index <= self.commit, "only what was delivered is compacted");
        if index <= self.storage.snapshot().last.index {
            return;
        }
        let term = self.storage.term_at(index).expect("it is in the log");
        let last = Position { term, index };
        let state = state.into();
        self.storage.install(Snapshot { last, state }, true, out);
        if let Role::Leader(leader) = &mut self.role {
            // Messages under way to a follower that needs the snapshot now may be lost, and what it lacks cannot
            // be sent again: do not wait for it to acknowledge them.
            let lagging = |follower: &&mut Progress| follower.next <= index;
            leader
                .followers
                .values_mut()
                .filter(lagging)
                .for_each(Progress::probe);
        }
        self.storage.flush(out);
    }

    /// See [`super::Log::take_deliveries`].
    pub fn take_deliveries(&mut self) -> Vec<Delivery<C>> {
        std::mem::take(&mut self.deliveries)
    }

    /// Whether this replica leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Who leads, as far as this replica knows.
    pub fn leader(&self) -> Option<Addr> {
        self.leader
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.storage.hard().term
    }

    /// The last index known to be committed.
    pub fn committed(&self) -> Index {
        self.commit
    }

    /// The last entry's position.
    pub fn last(&self) -> Position {
        self.storage.last()
    }

    /// The entry at `index`, unless the snapshot covers it or the log ends before it.
    pub fn entry(&self, index: Index) -> Option<&Entry<C>> {
        self.storage.entry(index)
    }

    /// The last entry that the snapshot covers.
    pub fn snapshot_last(&self) -> Position {
        self.storage.snapshot().last
    }
}

// ---- Starting, and dispatching -----------------------------------------------------------------------------

impl<C: Command> Raft<C> {
    fn boot(&mut self, disk: &Disk, out: &mut Out<C>) {
        match Storage::boot(&self.config, disk, out) {
            Ok(storage) => self.storage = storage,
            // An entry that it acknowledged, or its vote, may be lost: it must not take part as it is.
            Err(_) => return out.halt("the log file is damaged"),
        }
        let snapshot = self.storage.snapshot();
        self.commit = snapshot.last.index;
        self.role = Role::Follower(Follower {
            verified: self.commit,
            ..Follower::default()
        });
        if self.commit > 0 {
            self.deliveries.push(Delivery::Snapshot(snapshot.clone()));
        }
        out.set_timer(RaftTimer::Election, self.config.options.election);
    }

    /// Section 5.1: whoever sees a higher term adopts it and follows. A question raises no term, nor does an
    /// election that comes while the leader is well.
    fn receive(&mut self, from: Addr, message: RaftMessage<C>, out: &mut Out<C>) {
        if !self.config.members.contains(&from) {
            return;
        }
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

    /// The disk has caught up with some of what it was given.
    fn flushed(&mut self, flush: FlushId, out: &mut Out<C>) {
        let durable_before = self.storage.durable();
        if !self.storage.flushed(flush) {
            return;
        }
        if self.storage.hard_is_durable() {
            for (to, message) in self.outbox.drain(..) {
                out.send(to, message);
            }
            self.count_votes(out);
        }
        match &self.role {
            Role::Leader(_) => self.advance_commit(out),
            Role::Follower(follower) if follower.verified > durable_before => {
                if let Some(leader) = self.leader {
                    self.acknowledge(leader, out);
                }
            }
            _ => {}
        }
    }

    /// Sends once the term and vote are on disk: rule 1.
    fn send(&mut self, to: Addr, message: RaftMessage<C>, out: &mut Out<C>) {
        if self.storage.hard_is_durable() {
            out.send(to, message);
        } else {
            self.outbox.push((to, message));
        }
    }

    fn send_to_all(&mut self, message: RaftMessage<C>, out: &mut Out<C>) {
        let peers: Vec<Addr> = self.config.peers().collect();
        for peer in peers {
            self.send(peer, message.clone(), out);
        }
    }

    fn adopt_term(&mut self, term: Term, vote: Option<Addr>, out: &mut Out<C>) {
        self.storage.set_hard(HardState { term, vote }, out);
        self.become_follower(out);
    }

    fn become_follower(&mut self, out: &mut Out<C>) {
        let verified = self.commit;
        let follower = Role::Follower(Follower {
            verified,
            ..Follower::default()
        });
        if let Role::Leader(leader) = std::mem::replace(&mut self.role, follower) {
            out.cancel_timer(RaftTimer::Heartbeat);
            let refuse = |pending: PendingRead| Delivery::ReadRefused { read: pending.read };
            self.deliveries.extend(leader.reads.into_iter().map(refuse));
        }
        self.leader = None;
        out.set_timer(RaftTimer::Election, self.config.options.election);
    }
}

// ---- Leader election: section 5.2; thesis, sections 4.2.3, 6.2 and 9.6 ---------------------------------------

impl<C: Command> Raft<C> {
    /// The second of a follower's two waits for its leader.
    fn patience(&self) -> Delay {
        let election = self.config.options.election;
        Delay::between(0, election.max_ns.saturating_sub(election.min_ns))
    }

    fn stands_by_leader(&self) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(follower) => follower.stands_by,
            Role::PreCandidate { .. } | Role::Candidate { .. } => false,
        }
    }

    fn election_timeout(&mut self, out: &mut Out<C>) {
        match &mut self.role {
            Role::Leader(_) => self.check_quorum(out),
            Role::Follower(follower) if follower.stands_by => {
                follower.stands_by = false;
                out.set_timer(RaftTimer::Election, self.patience());
            }
            _ => self.start_pre_vote(out),
        }
    }

    /// Thesis, section 6.2: a leader steps down if an election timeout passes without a round of heartbeats
    /// answered by a majority. Snapshots that nobody acknowledged meanwhile are sent again.
    fn check_quorum(&mut self, out: &mut Out<C>) {
        let Role::Leader(leader) = &mut self.role else {
            unreachable!("only a leader checks")
        };
        let heard = leader.followers.values().filter(|f| f.heard).count();
        if heard + 1 < self.config.majority() {
            return self.become_follower(out);
        }
        leader
            .followers
            .values_mut()
            .for_each(Progress::forget_heard);
        let period = Delay::exactly(self.config.options.election.min_ns);
        out.set_timer(RaftTimer::Election, period);
    }

    fn start_pre_vote(&mut self, out: &mut Out<C>) {
        let granted = BTreeSet::from([self.config.me]);
        self.role = Role::PreCandidate { granted };
        self.leader = None;
        out.set_timer(RaftTimer::Election, self.config.options.election);
        self.request_votes(true, self.term() + 1, out);
        self.count_votes(out);
    }

    fn start_election(&mut self, out: &mut Out<C>) {
        let (me, term) = (self.config.me, self.term() + 1);
        self.adopt_term(term, Some(me), out);
        let granted = BTreeSet::from([me]);
        self.role = Role::Candidate { granted };
        self.request_votes(false, term, out);
    }

    fn request_votes(&mut self, pre: bool, term: Term, out: &mut Out<C>) {
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
        let granted = free && last >= self.storage.last();
        if granted && !pre {
            if vote.is_none() {
                let vote = Some(from);
                self.storage.set_hard(HardState { term, vote }, out);
            }
            out.set_timer(RaftTimer::Election, self.config.options.election);
        }
        let term = if granted { term } else { current };
        self.send(from, RaftMessage::Vote { term, pre, granted }, out);
    }

    fn on_vote(&mut self, from: Addr, term: Term, pre: bool, granted: bool, out: &mut Out<C>) {
        let current = self.term();
        match &mut self.role {
            Role::PreCandidate { granted: votes } if pre && granted && term == current + 1 => {
                votes.insert(from);
            }
            Role::Candidate { granted: votes } if !pre && granted && term == current => {
                votes.insert(from);
            }
            _ => return,
        }
        self.count_votes(out);
    }

    fn count_votes(&mut self, out: &mut Out<C>) {
        let majority = self.config.majority();
        match &self.role {
            Role::PreCandidate { granted } if granted.len() >= majority => self.start_election(out),
            // The candidate's own vote counts once it is on disk: rule 3.
            Role::Candidate { granted }
                if granted.len() >= majority && self.storage.hard_is_durable() =>
            {
                self.become_leader(out);
            }
            _ => {}
        }
    }

    /// Section 5.2, and section 8: a no-op entry at the start of the term lets the leader find out which
    /// entries are committed.
    fn become_leader(&mut self, out: &mut Out<C>) {
        let first_index = self.storage.last().index + 1;
        let progress = Progress::new(first_index);
        self.role = Role::Leader(Leader {
            first_index,
            followers: self.config.peers().map(|p| (p, progress.clone())).collect(),
            round: 0,
            reads: VecDeque::new(),
        });
        self.leader = Some(self.config.me);
        let term = self.term();
        self.storage.observe(LogEvent::BecameLeader { term }, out);
        self.append_as_leader(None, out);
        self.replicate_to_all(out);
        let period = Delay::exactly(self.config.options.election.min_ns);
        out.set_timer(RaftTimer::Election, period);
        self.arm_heartbeat(out);
    }
}

// ---- Log replication at the leader: section 5.3 ---------------------------------------------------------------

impl<C: Command> Raft<C> {
    fn append_as_leader(&mut self, command: Option<C>, out: &mut Out<C>) -> Position {
        let term = self.term();
        let index = self.storage.last().index + 1;
        self.storage.append(index, Entry { term, command }, out);
        Position { term, index }
    }

    fn arm_heartbeat(&mut self, out: &mut Out<C>) {
        let period = Delay::exactly(self.config.options.heartbeat_ns);
        out.set_timer(RaftTimer::Heartbeat, period);
    }

    /// Section 5.2: "repeat during idle periods". A heartbeat is also the probe that finds lost messages.
    fn heartbeat(&mut self, out: &mut Out<C>) {
        let peers: Vec<Addr> = self.config.peers().collect();
        for peer in peers {
            self.send_entries(peer, 0, out);
        }
        self.arm_heartbeat(out);
    }

    fn replicate_to_all(&mut self, out: &mut Out<C>) {
        let peers: Vec<Addr> = self.config.peers().collect();
        for peer in peers {
            self.replicate(peer, out);
        }
    }

    /// Sends what the follower lacks, as far as its window allows (thesis, section 10.2.1: batching and
    /// pipelining). Says whether anything was sent.
    fn replicate(&mut self, to: Addr, out: &mut Out<C>) -> bool {
        let last = self.storage.last().index;
        let first_kept = self.storage.snapshot().last.index + 1;
        let most = self.config.options.max_batch.max(1) as u64;
        let window = self.config.options.max_in_flight.max(1);
        let mut sent = false;
        while let Some(progress) = self.progress(to) {
            if !progress.is_open(window) || progress.next > last {
                break;
            }
            if progress.next < first_kept {
                // Not to a follower that may be down: the next answer to a heartbeat leads here again.
                if progress.heard {
                    self.send_snapshot(to, out);
                }
                return sent;
            }
            let count = (last + 1 - progress.next).min(most);
            self.send_entries(to, count as usize, out);
            sent = true;
        }
        sent
    }

    /// Followers learn of a commit at once, with the next entries or without, instead of a heartbeat later.
    fn announce_commit(&mut self, out: &mut Out<C>) {
        let peers: Vec<Addr> = self.config.peers().collect();
        for peer in peers {
            let sent = self.replicate(peer, out);
            let follows = |progress: &mut Progress| matches!(progress.mode, Mode::Replicate { .. });
            if !sent && self.progress(peer).is_some_and(follows) {
                self.send_entries(peer, 0, out);
            }
        }
    }

    /// One AppendEntries with `count` entries; none is a heartbeat, which never moves the window.
    fn send_entries(&mut self, to: Addr, count: usize, out: &mut Out<C>) {
        let (term, commit) = (self.term(), self.commit);
        let snapshot_index = self.storage.snapshot().last.index;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let round = leader.round;
        let progress = leader.followers.get_mut(&to).expect("a peer");
        // Before the snapshot there is nothing to probe with: the snapshot's end has to do.
        let prev_index = (progress.next - 1).max(snapshot_index);
        if count > 0 {
            progress.sends(count as u64);
        }
        let prev = Position {
            term: self.storage.term_at(prev_index).expect("it is in the log"),
            index: prev_index,
        };
        let entries = match count {
            0 => Vec::new(),
            _ => self.storage.entries_from(prev_index + 1, count),
        };
        let message = RaftMessage::AppendEntries {
            term,
            prev,
            entries,
            commit,
            round,
        };
        self.send(to, message, out);
    }

    fn send_snapshot(&mut self, to: Addr, out: &mut Out<C>) {
        let snapshot = self.storage.snapshot().clone();
        let term = self.term();
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let round = leader.round;
        let progress = leader.followers.get_mut(&to).expect("a peer");
        progress.sends_snapshot(snapshot.last.index);
        let message = RaftMessage::InstallSnapshot {
            term,
            snapshot,
            round,
        };
        self.send(to, message, out);
    }

    fn progress(&mut self, of: Addr) -> Option<&mut Progress> {
        match &mut self.role {
            Role::Leader(leader) => leader.followers.get_mut(&of),
            _ => None,
        }
    }

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
        let Some(progress) = self.progress(from) else {
            return;
        };
        progress.heard = true;
        progress.round = progress.round.max(round);
        match result {
            Ok(index) => progress.acknowledged(index),
            // A refusal of what it has since acknowledged was overtaken.
            Err(conflict) if conflict.prev_index > progress.matched => {
                progress.refused(conflict.prev_index, next.max(progress.matched + 1));
            }
            Err(_) => {}
        }
        self.advance_commit(out);
        self.replicate(from, out);
        self.serve_reads(out);
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

    /// Figure 2, last rule for leaders, and section 5.4.2: "only log entries from the leader's current term
    /// are committed by counting replicas".
    fn advance_commit(&mut self, out: &mut Out<C>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let mut held: Vec<Index> = leader.followers.values().map(|f| f.matched).collect();
        held.push(self.storage.durable());
        held.sort_unstable_by(|a, b| b.cmp(a));
        let index = held[self.config.majority() - 1];
        if index > self.commit && self.storage.term_at(index) == Some(self.term()) {
            self.commit_to(index, out);
            self.announce_commit(out);
            self.serve_reads(out);
        }
    }

    fn commit_to(&mut self, index: Index, out: &mut Out<C>) {
        if index <= self.commit {
            return;
        }
        for index in self.commit + 1..=index {
            let entry = self.storage.entry(index).expect("it is in the log");
            let term = entry.term;
            if let Some(command) = entry.command.clone() {
                let position = Position { term, index };
                self.deliveries.push(Delivery::Entry { position, command });
            }
        }
        self.commit = index;
        self.storage.observe(LogEvent::Committed { index }, out);
    }
}

// ---- Log replication at a follower: section 5.3; snapshots: section 7 -----------------------------------------

impl<C: Command> Raft<C> {
    /// What AppendEntries and InstallSnapshot begin with: refuse an old leader, follow the current one.
    fn follow(
        &mut self,
        leader: Addr,
        term: Term,
        round: u64,
        index: Index,
        out: &mut Out<C>,
    ) -> bool {
        if term < self.term() {
            self.refuse(leader, index, out);
            return false;
        }
        assert!(!self.is_leader(), "two leaders in term {term}");
        if !matches!(self.role, Role::Follower(_)) {
            self.become_follower(out);
        }
        self.leader = Some(leader);
        let Role::Follower(follower) = &mut self.role else {
            unreachable!("just became one")
        };
        follower.stands_by = true;
        follower.round = follower.round.max(round);
        let stand_by = Delay::exactly(self.config.options.election.min_ns);
        out.set_timer(RaftTimer::Election, stand_by);
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
        if prev.index > covered && self.storage.term_at(prev.index) != Some(prev.term) {
            return self.refuse(from, prev.index, out);
        }
        let last = prev.index + entries.len() as u64;
        let is_heartbeat = entries.is_empty();
        for (index, entry) in (prev.index + 1..).zip(entries) {
            if index > covered && self.storage.term_at(index) != Some(entry.term) {
                assert!(index > self.commit, "a committed entry is replaced");
                self.storage.append(index, entry, out);
            }
        }
        self.verify_and_commit(last, commit, out);
        if is_heartbeat || self.storage.durable() >= last {
            self.acknowledge(from, out);
        }
    }

    /// InstallSnapshot RPC, receiver (figure 13).
    fn on_install_snapshot(&mut self, from: Addr, snapshot: Snapshot, out: &mut Out<C>) {
        let last = snapshot.last;
        if last.index > self.commit && self.storage.term_at(last.index) != Some(last.term) {
            self.deliveries.push(Delivery::Snapshot(snapshot.clone()));
            self.storage.install(snapshot, false, out);
            self.commit = last.index;
        }
        self.verify_and_commit(last.index, last.index, out);
        if self.storage.durable() >= last.index {
            self.acknowledge(from, out);
        }
    }

    /// The log equals the leader's up to `verified`, and `commit` is the leader's commit index.
    fn verify_and_commit(&mut self, verified: Index, commit: Index, out: &mut Out<C>) {
        let Role::Follower(follower) = &mut self.role else {
            unreachable!("only followers are told")
        };
        follower.verified = follower.verified.max(verified);
        let verified = follower.verified;
        self.commit_to(commit.min(verified), out);
    }

    /// Claims what is verified and on disk: rule 2.
    fn acknowledge(&mut self, leader: Addr, out: &mut Out<C>) {
        let Role::Follower(follower) = &self.role else {
            return;
        };
        let message = RaftMessage::AppendReply {
            term: self.term(),
            round: follower.round,
            result: Ok(follower.verified.min(self.storage.durable())),
        };
        self.send(leader, message, out);
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

// ---- Linearizable reads: section 8; thesis, section 6.4 ---------------------------------------------------------

impl<C: Command> Raft<C> {
    /// Starts a round of heartbeats whose answers show that this replica still led when the round began.
    fn next_round(&mut self, out: &mut Out<C>) {
        let Role::Leader(leader) = &mut self.role else {
            unreachable!("only a leader serves reads")
        };
        leader.round += 1;
        let peers: Vec<Addr> = self.config.peers().collect();
        for peer in peers {
            self.send_entries(peer, 0, out);
        }
    }

    fn serve_reads(&mut self, out: &mut Out<C>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let mut rounds: Vec<u64> = leader.followers.values().map(|f| f.round).collect();
        rounds.push(leader.round);
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        let confirmed = rounds[self.config.majority() - 1];
        while let Some(first) = leader.reads.front() {
            if first.round > confirmed || first.index > self.commit {
                break;
            }
            let read = first.read;
            leader.reads.pop_front();
            self.deliveries.push(Delivery::ReadReady { read });
        }
        // Reads that came while a round was under way share the next one.
        if confirmed == leader.round && leader.reads.iter().any(|read| read.round > confirmed) {
            self.next_round(out);
        }
    }
}
