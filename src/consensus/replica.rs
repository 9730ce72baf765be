//! What a replica does under either protocol: Raft and Multi-Paxos differ in how a leader comes to power and in what
//! it does with the past, and are otherwise the same machine (Howard and Mortier, "Paxos vs Raft: Have we reached
//! consensus on distributed consensus?", PaPoC 2020). "Section" and "figure" are those of the Raft paper (Ongaro and
//! Ousterhout, USENIX ATC 2014), "the thesis" is Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014.
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

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;

use crate::base::observation::{LogEvent, Observation};
use crate::base::process::{Addr, Delay, Disk, Effects, FlushId, Input, WallTime, Wire};

use super::progress::{Mode, PendingRead, Progress};
use super::storage::{HardState, Storage};
use super::{Command, Config, Delivery, Entry, Index, NotLeader, Position, Snapshot, Term};
use crate::base::zoo::{self, Bug};

/// What a protocol does in its own way. Implemented by its messages.
pub trait Protocol: Wire {
    /// What the log orders.
    type Command: Command;
    /// What a replica that wants to lead has gathered.
    type Candidacy: Clone + Eq + Hash + Debug + Send + Sync + 'static;

    /// What a leader sends to replicate; without entries, the heartbeat.
    fn entries(heading: Heading, prev: Position, entries: Vec<Entry<Self::Command>>) -> Self;
    /// What a leader sends to a follower that lacks entries which only the snapshot has.
    fn snapshot(heading: Heading, snapshot: Snapshot) -> Self;
    /// A follower's answer to both: its durable log equals the leader's up to `index`.
    fn acknowledgement(term: Term, round: u64, index: Index) -> Self;

    /// Handles a message from a member of the group.
    fn receive(replica: &mut Replica<Self>, from: Addr, message: Self, out: &mut Out<Self>);
    /// Nobody seems to lead: begin to take over.
    fn campaign(replica: &mut Replica<Self>, out: &mut Out<Self>);
    /// Term and vote are on disk, which may be what a candidate was waiting for.
    fn count_votes(replica: &mut Replica<Self>, out: &mut Out<Self>);
    /// Writes what a leader puts at the end of its log.
    fn append(
        replica: &mut Replica<Self>,
        command: Option<Self::Command>,
        out: &mut Out<Self>,
    ) -> Position;
    /// Whether that a majority holds the entry at `index` means that it is committed.
    fn commits_by_counting(replica: &Replica<Self>, index: Index) -> bool;
}

/// What all of a leader's messages carry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Heading {
    /// The leader's term.
    pub term: Term,
    /// The leader's commit index.
    pub commit: Index,
    /// The leader's heartbeat round, to be echoed.
    pub round: u64,
}

/// The timers of a replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ReplicaTimer {
    /// Time to doubt the leader, to campaign, or, at a leader, to check for a majority.
    Election,
    /// Time for a leader's heartbeat.
    Heartbeat,
}

/// A replica of a log kept by the protocol that speaks `M`. Its persistent state (figure 2) is in `storage`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Replica<M: Protocol> {
    pub(super) config: Config,
    pub(super) storage: Storage<M::Command>,
    /// Messages that wait until the term and vote are on disk.
    outbox: Vec<(Addr, M)>,
    /// Highest index known to be committed; everything up to it has been delivered.
    pub(super) commit: Index,
    pub(super) role: Role<M>,
    /// Who leads in the current term, where known.
    pub(super) leader: Option<Addr>,
    deliveries: Vec<Delivery<M::Command>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Role<M: Protocol> {
    Follower(Follower),
    Candidate(M::Candidacy),
    Leader(Leader),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Follower {
    /// Heard from the leader within the minimum election timeout.
    stands_by: bool,
    /// The log is known to equal the leader's up to this index.
    pub(super) verified: Index,
    /// The round of the leader's last message.
    pub(super) round: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Leader {
    /// The no-op that began this leadership. What earlier leaders committed lies before it: once it is committed, that
    /// is known, and reads can be served.
    first_own: Index,
    followers: BTreeMap<Addr, Progress>,
    /// Number of the last round of heartbeats that confirms leadership for reads.
    round: u64,
    reads: VecDeque<PendingRead>,
}

/// The effects of a replica.
pub type Out<M> = Effects<M, ReplicaTimer>;

// ---- The interface of `Log` -------------------------------------------------------------------------------

impl<M: Protocol> Replica<M> {
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
    pub fn step(&mut self, _now: WallTime, input: Input<M, ReplicaTimer>, out: &mut Out<M>) {
        match input {
            Input::Boot(disk) => self.boot(&disk, out),
            Input::Message { from, message } => {
                if self.config.members.contains(&from) {
                    M::receive(self, from, message, out);
                }
            }
            Input::Timer(ReplicaTimer::Election) => self.election_timeout(out),
            Input::Timer(ReplicaTimer::Heartbeat) => self.heartbeat(out),
            Input::Flushed(flush) => self.flushed(flush, out),
            Input::FlushFailed(flush) if zoo::planted(Bug::LogFlushFailureIgnored) => {
                self.flushed(flush, out);
            }
            Input::FlushFailed(_) => out.halt("the disk refused to flush the log"),
        }
        self.storage.flush(out);
    }

    /// See [`super::Log::propose`]. Section 5.3: the leader appends the command to its log.
    ///
    /// # Errors
    ///
    /// [`NotLeader`] at a replica that does not lead.
    pub fn propose(
        &mut self,
        command: M::Command,
        out: &mut Out<M>,
    ) -> Result<Position, NotLeader> {
        if !self.is_leader() {
            return Err(NotLeader { hint: self.leader });
        }
        let position = M::append(self, Some(command), out);
        self.replicate_to_all(out);
        self.storage.flush(out);
        Ok(position)
    }

    /// See [`super::Log::read_index`]. Section 8; thesis, section 6.4.
    ///
    /// # Errors
    ///
    /// [`NotLeader`] at a replica that does not lead.
    pub fn read_index(&mut self, read: u64, out: &mut Out<M>) -> Result<(), NotLeader> {
        let hint = self.leader;
        let Role::Leader(leader) = &mut self.role else {
            return Err(NotLeader { hint });
        };
        let index = self.commit.max(leader.first_own);
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
    pub fn compact(&mut self, index: Index, state: Vec<u8>, out: &mut Out<M>) {
        assert!(index <= self.commit, "only what was delivered is compacted");
        if index <= self.storage.snapshot().last.index {
            return;
        }
        if !self.stands_by_leader() {
            out.observe(Observation::Mark("log.snapshot-in-election"));
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
    pub fn take_deliveries(&mut self) -> Vec<Delivery<M::Command>> {
        std::mem::take(&mut self.deliveries)
    }

    /// Whether this replica leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// See [`super::Log::established`].
    pub fn established(&self) -> Option<Term> {
        match &self.role {
            Role::Leader(leader) if self.commit >= leader.first_own => Some(self.term()),
            _ => None,
        }
    }

    /// Who leads, as far as this replica knows.
    pub fn leader(&self) -> Option<Addr> {
        self.leader
    }

    /// The current term; in Paxos, the highest ballot promised.
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
    pub fn entry(&self, index: Index) -> Option<&Entry<M::Command>> {
        self.storage.entry(index)
    }

    /// The last entry that the snapshot covers.
    pub fn snapshot_last(&self) -> Position {
        self.storage.snapshot().last
    }

    /// This replica's place in its group.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Who got this replica's vote in the current term.
    pub fn vote(&self) -> Option<Addr> {
        self.storage.hard().vote
    }

    /// The messages that wait until term and vote are on disk, in order.
    pub fn waiting(&self) -> &[(Addr, M)] {
        &self.outbox
    }

    /// How far the log of each follower is known to equal this leader's; nothing at a replica that does not lead.
    pub fn matched(&self) -> impl Iterator<Item = (Addr, Index)> {
        let followers = match &self.role {
            Role::Leader(leader) => Some(&leader.followers),
            _ => None,
        };
        let followers = followers.into_iter().flatten();
        followers.map(|(peer, progress)| (*peer, progress.matched))
    }
}

// ---- Starting, sending, and the disk ------------------------------------------------------------------------

impl<M: Protocol> Replica<M> {
    fn boot(&mut self, disk: &Disk, out: &mut Out<M>) {
        match Storage::boot(&self.config, disk, out) {
            Ok(storage) => self.storage = storage,
            // An entry that it acknowledged, or its vote, may be lost: it must not take part as it is.
            Err(_) => {
                out.observe(Observation::Mark("log.damaged"));
                return out.halt("the log file is damaged");
            }
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
        self.arm_election(self.config.options.election_ms.delay(), out);
    }

    /// The disk has caught up with some of what it was given.
    fn flushed(&mut self, flush: FlushId, out: &mut Out<M>) {
        let durable_before = self.storage.durable();
        if !self.storage.flushed(flush) {
            return;
        }
        if self.storage.hard_is_durable() {
            for (to, message) in self.outbox.drain(..) {
                out.send(to, message);
            }
            M::count_votes(self, out);
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
    pub(super) fn send(&mut self, to: Addr, message: M, out: &mut Out<M>) {
        if self.storage.hard_is_durable() || zoo::planted(Bug::VoteBeforeFlush) {
            out.send(to, message);
        } else {
            self.outbox.push((to, message));
        }
    }

    pub(super) fn send_to_all(&mut self, message: M, out: &mut Out<M>) {
        for peer in self.peers() {
            self.send(peer, message.clone(), out);
        }
    }

    pub(super) fn peers(&self) -> Vec<Addr> {
        self.config.peers().collect()
    }

    pub(super) fn arm_election(&self, after: Delay, out: &mut Out<M>) {
        out.set_timer(ReplicaTimer::Election, after);
    }
}

// ---- Following, doubting, stepping down: thesis, sections 4.2.3 and 6.2 ---------------------------------------

impl<M: Protocol> Replica<M> {
    pub(super) fn adopt_term(&mut self, term: Term, vote: Option<Addr>, out: &mut Out<M>) {
        if self.is_leader() {
            out.observe(Observation::Mark("log.leader-deposed"));
        }
        self.storage.set_hard(HardState { term, vote }, out);
        self.become_follower(out);
    }

    pub(super) fn become_follower(&mut self, out: &mut Out<M>) {
        let verified = self.commit;
        let follower = Role::Follower(Follower {
            verified,
            ..Follower::default()
        });
        if let Role::Leader(leader) = std::mem::replace(&mut self.role, follower) {
            out.cancel_timer(ReplicaTimer::Heartbeat);
            let mut modes = leader.followers.values().map(|follower| &follower.mode);
            if modes.any(|mode| *mode == Mode::Snapshot) {
                out.observe(Observation::Mark("log.snapshot-in-election"));
            }
            let refuse = |pending: PendingRead| Delivery::ReadRefused { read: pending.read };
            self.deliveries.extend(leader.reads.into_iter().map(refuse));
        }
        self.leader = None;
        self.arm_election(self.config.options.election_ms.delay(), out);
    }

    /// Takes note of a message from the leader of the current term, whom this replica follows.
    pub(super) fn heed(&mut self, leader: Addr, round: u64, out: &mut Out<M>) {
        self.leader = Some(leader);
        let follower = self.as_follower();
        follower.stands_by = true;
        follower.round = follower.round.max(round);
        self.arm_election(self.stand_by(), out);
    }

    pub(super) fn as_follower(&mut self) -> &mut Follower {
        match &mut self.role {
            Role::Follower(follower) => follower,
            _ => unreachable!("only followers hear from a leader of their term"),
        }
    }

    /// The first of a follower's two waits for its leader.
    fn stand_by(&self) -> Delay {
        Delay::exactly(self.config.options.election_ms.min_ns())
    }

    /// The second.
    fn patience(&self) -> Delay {
        let election = self.config.options.election_ms.delay();
        Delay::between(0, election.max_ns.saturating_sub(election.min_ns))
    }

    pub(super) fn stands_by_leader(&self) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(follower) => follower.stands_by,
            Role::Candidate(_) => false,
        }
    }

    fn election_timeout(&mut self, out: &mut Out<M>) {
        match &mut self.role {
            Role::Leader(_) => self.check_quorum(out),
            Role::Follower(follower) if follower.stands_by => {
                follower.stands_by = false;
                self.arm_election(self.patience(), out);
            }
            _ => M::campaign(self, out),
        }
    }

    /// Thesis, section 6.2: a leader steps down if an election timeout passes without a round of heartbeats
    /// answered by a majority. Snapshots that nobody acknowledged meanwhile are sent again.
    fn check_quorum(&mut self, out: &mut Out<M>) {
        let Role::Leader(leader) = &mut self.role else {
            unreachable!("only a leader checks")
        };
        let heard = leader.followers.values().filter(|f| f.heard).count();
        if heard + 1 < self.config.majority() {
            out.observe(Observation::Mark("log.leader-unheard"));
            return self.become_follower(out);
        }
        leader
            .followers
            .values_mut()
            .for_each(Progress::forget_heard);
        self.arm_election(self.stand_by(), out);
    }

    /// Begins to lead, with a no-op that will be at `first_own`. Followers are tried with the entries from `next` on.
    pub(super) fn lead(&mut self, first_own: Index, next: Index, out: &mut Out<M>) {
        if self.last().index > self.commit {
            out.observe(Observation::Mark("log.leader-change-in-doubt"));
        }
        let progress = Progress::new(next);
        self.role = Role::Leader(Leader {
            first_own,
            followers: self.config.peers().map(|p| (p, progress.clone())).collect(),
            round: 0,
            reads: VecDeque::new(),
        });
        self.leader = Some(self.config.me);
    }

    /// Arms what wakes a leader.
    pub(super) fn arm_leader(&self, out: &mut Out<M>) {
        self.arm_election(self.stand_by(), out);
        self.arm_heartbeat(out);
    }
}

// ---- Replication at the leader: section 5.3; thesis, section 10.2.1 --------------------------------------------

impl<M: Protocol> Replica<M> {
    fn arm_heartbeat(&self, out: &mut Out<M>) {
        let period = self.config.options.heartbeat_ms.exactly();
        out.set_timer(ReplicaTimer::Heartbeat, period);
    }

    /// Section 5.2: "repeat during idle periods". A heartbeat is also the probe that finds lost messages.
    fn heartbeat(&mut self, out: &mut Out<M>) {
        for peer in self.peers() {
            self.send_entries(peer, 0, out);
        }
        self.arm_heartbeat(out);
    }

    pub(super) fn replicate_to_all(&mut self, out: &mut Out<M>) {
        for peer in self.peers() {
            self.replicate(peer, out);
        }
    }

    /// Sends what the follower lacks, as far as its window allows (batching and pipelining). Says whether anything
    /// was sent.
    pub(super) fn replicate(&mut self, to: Addr, out: &mut Out<M>) -> bool {
        let last = self.storage.last().index;
        let first_kept = self.storage.snapshot().last.index + 1;
        let most = self.config.options.max_batch.get();
        let window = self.config.options.max_in_flight.size();
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
    fn announce_commit(&mut self, out: &mut Out<M>) {
        for peer in self.peers() {
            let sent = self.replicate(peer, out);
            let follows = |progress: &mut Progress| matches!(progress.mode, Mode::Replicate { .. });
            if !sent && self.progress(peer).is_some_and(follows) {
                self.send_entries(peer, 0, out);
            }
        }
    }

    /// One message with `count` entries; none is a heartbeat, which never moves the window.
    pub(super) fn send_entries(&mut self, to: Addr, count: usize, out: &mut Out<M>) {
        let snapshot_index = self.storage.snapshot().last.index;
        let Some((heading, progress)) = self.address(to) else {
            return;
        };
        // Before the snapshot there is nothing to probe with: the snapshot's end has to do.
        let index = (progress.next - 1).max(snapshot_index);
        if count > 0 {
            progress.sends(count as u64);
        }
        let term = self.storage.term_at(index).expect("it is in the log");
        let entries = match count {
            0 => Vec::new(),
            _ => self.storage.entries_from(index + 1, count),
        };
        self.send(
            to,
            M::entries(heading, Position { term, index }, entries),
            out,
        );
    }

    fn send_snapshot(&mut self, to: Addr, out: &mut Out<M>) {
        let snapshot = self.storage.snapshot().clone();
        if let Some((heading, progress)) = self.address(to) {
            progress.sends_snapshot(snapshot.last.index);
            self.send(to, M::snapshot(heading, snapshot), out);
        }
    }

    /// What a leader needs to write to a follower.
    fn address(&mut self, to: Addr) -> Option<(Heading, &mut Progress)> {
        let (term, commit) = (self.term(), self.commit);
        let Role::Leader(leader) = &mut self.role else {
            return None;
        };
        let round = leader.round;
        let heading = Heading {
            term,
            commit,
            round,
        };
        let progress = leader.followers.get_mut(&to).expect("a peer");
        Some((heading, progress))
    }

    fn progress(&mut self, of: Addr) -> Option<&mut Progress> {
        match &mut self.role {
            Role::Leader(leader) => leader.followers.get_mut(&of),
            _ => None,
        }
    }

    /// Takes note that a follower answers, in this term, what was sent in `round` or before.
    pub(super) fn hear(&mut self, from: Addr, round: u64) -> Option<&mut Progress> {
        let progress = self.progress(from)?;
        progress.heard = true;
        progress.round = progress.round.max(round);
        Some(progress)
    }

    /// What a leader does once it knows better how far a follower has come.
    pub(super) fn press_on(&mut self, follower: Addr, out: &mut Out<M>) {
        self.advance_commit(out);
        self.replicate(follower, out);
        self.serve_reads(out);
    }

    /// Figure 2, last rule for leaders. The leader counts for itself what it has on disk: rule 2.
    fn advance_commit(&mut self, out: &mut Out<M>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let followers = leader.followers.values().map(|f| f.matched);
        let mine = match zoo::planted(Bug::LeaderCountsUnflushed) {
            true => self.storage.last().index,
            false => self.storage.durable(),
        };
        let index = reached_by(self.config.majority(), followers, mine);
        if index > self.commit && M::commits_by_counting(self, index) {
            self.commit_to(index, out);
            self.announce_commit(out);
            self.serve_reads(out);
        }
    }

    fn commit_to(&mut self, index: Index, out: &mut Out<M>) {
        if index <= self.commit {
            return;
        }
        for index in self.commit + 1..=index {
            self.storage.observe_decided(index, out);
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

// ---- Replication at a follower: section 5.3; snapshots: section 7 ------------------------------------------------

impl<M: Protocol> Replica<M> {
    /// The log equals the leader's up to `verified`, and `commit` is the leader's commit index.
    pub(super) fn verify_and_commit(&mut self, verified: Index, commit: Index, out: &mut Out<M>) {
        let follower = self.as_follower();
        follower.verified = follower.verified.max(verified);
        let verified = match zoo::planted(Bug::CommitsUnverified) {
            true => self.storage.last().index,
            false => follower.verified,
        };
        self.commit_to(commit.min(verified), out);
    }

    /// Replaces everything up to the end of `snapshot`, and what follows it too unless `keeps_rest`.
    pub(super) fn install(&mut self, snapshot: Snapshot, keeps_rest: bool, out: &mut Out<M>) {
        out.observe(Observation::Mark("log.snapshot-installed"));
        self.commit = snapshot.last.index;
        self.deliveries.push(Delivery::Snapshot(snapshot.clone()));
        self.storage.install(snapshot, keeps_rest, out);
    }

    /// Claims what is verified and on disk: rule 2.
    pub(super) fn acknowledge(&mut self, leader: Addr, out: &mut Out<M>) {
        if let Role::Follower(follower) = &self.role {
            let durable = match zoo::planted(Bug::AckBeforeFlush) {
                true => follower.verified,
                false => self.storage.durable(),
            };
            let index = follower.verified.min(durable);
            let message = M::acknowledgement(self.term(), follower.round, index);
            self.send(leader, message, out);
        }
    }
}

// ---- Linearizable reads: section 8; thesis, section 6.4 ---------------------------------------------------------

impl<M: Protocol> Replica<M> {
    /// Starts a round of heartbeats whose answers show that this replica still led when the round began.
    fn next_round(&mut self, out: &mut Out<M>) {
        let Role::Leader(leader) = &mut self.role else {
            unreachable!("only a leader serves reads")
        };
        leader.round += 1;
        for peer in self.peers() {
            self.send_entries(peer, 0, out);
        }
    }

    fn serve_reads(&mut self, out: &mut Out<M>) {
        let majority = self.config.majority();
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if leader.reads.is_empty() {
            return;
        }
        let rounds = leader.followers.values().map(|f| f.round);
        let confirmed = reached_by(majority, rounds, leader.round);
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

/// The highest number that `count` replicas have reached, of all the others and this one.
fn reached_by(count: usize, others: impl Iterator<Item = u64>, mine: u64) -> u64 {
    let mut reached: Vec<u64> = others.chain([mine]).collect();
    reached.sort_unstable_by(|a, b| b.cmp(a));
    reached[count - 1]
}
