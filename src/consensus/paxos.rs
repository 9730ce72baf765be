//! Multi-Paxos (Lamport, "Paxos Made Simple", 2001, section 3; "The Part-Time Parliament", TOCS 1998, section 3),
//! with the engineering that both it and Raft need in the same form (Howard and Mortier, "Paxos vs Raft: Have we
//! reached consensus on distributed consensus?", PaPoC 2020): a stable leader, batching, pipelining, snapshots
//! and reads work as in `raft`, and so do timers and the rules of durability.
//!
//! What differs is how a leader comes to power and what it does with the past. *Ballots* are divided among the
//! replicas, so that nobody votes: any replica may start its next one, and leads once a majority has promised
//! to accept nothing below it. Promises carry what their acceptors have accepted; for each instance the
//! leader proposes again, in its own ballot, the value accepted in the highest ballot. So it can catch up
//! while it takes over, entries change their ballot, and everything above the commit index is in the leader's.
//!
//! An acceptor accepts a ballot's instances in order, after those that it knows to be chosen. What it accepted
//! in lower ballots at higher instances stays until it is proposed again: it may have been chosen.
//!
//! # Observations
//!
//! A replica states only what it knows to be chosen, all of it in term 0: the ballot in which a value was
//! accepted differs between replicas, and Raft's Log Matching and Leader Completeness do not hold for Paxos.
//! Agreement (State Machine Safety) is what is left to check, and is all that Paxos claims.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::process::{Addr, Delay, Disk, Effects, FlushId, Input, WallTime, Wire};
use crate::record::{LogEvent, Observation};

use super::progress::{Mode, PendingRead, Progress};
use super::storage::{HardState, Storage};
use super::{Command, Config, Delivery, Entry, Index, NotLeader, Position, Snapshot, Term};

/// A replica of a log kept by Multi-Paxos: proposer, acceptor and learner in one. The acceptor's promise and
/// what it has accepted are in `storage`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Paxos<C> {
    config: Config,
    storage: Storage<C>,
    /// Messages that wait until the promise is on disk.
    outbox: Vec<(Addr, PaxosMessage<C>)>,
    /// Everything up to this instance is known to be chosen, and has been delivered.
    commit: Index,
    role: Role<C>,
    /// Who leads in the ballot promised, where known.
    leader: Option<Addr>,
    deliveries: Vec<Delivery<C>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Role<C> {
    Follower(Follower),
    Candidate(Candidate<C>),
    Leader(Leader),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Follower {
    /// Heard from the leader within the minimum election timeout.
    stands_by: bool,
    /// Everything up to this instance is chosen or accepted in the leader's ballot.
    verified: Index,
    /// The round of the leader's last message.
    round: u64,
}

/// A proposer in phase 1.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Candidate<C> {
    promised: BTreeSet<Addr>,
    /// For each instance, what was accepted in the highest ballot by an acceptor that promised.
    accepted: BTreeMap<Index, Entry<C>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Leader {
    /// Nothing was chosen above this instance before this replica led.
    past: Index,
    followers: BTreeMap<Addr, Progress>,
    /// Number of the last round of heartbeats that confirms leadership for reads.
    round: u64,
    reads: VecDeque<PendingRead>,
}

/// Multi-Paxos's messages.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PaxosMessage<C> {
    /// Phase 1a.
    Prepare {
        /// The proposer's ballot.
        ballot: Term,
        /// The first instance that the proposer does not know to be chosen.
        from: Index,
    },
    /// Phase 1b: the acceptor will accept nothing below this ballot.
    Promise {
        /// The ballot.
        ballot: Term,
        /// The acceptor's snapshot, if it covers instances asked about.
        snapshot: Option<Snapshot>,
        /// The first instance of `accepted`.
        first: Index,
        /// What the acceptor has accepted, and in which ballot.
        accepted: Vec<Entry<C>>,
    },
    /// The acceptor has promised a higher ballot.
    Refusal {
        /// That ballot.
        ballot: Term,
    },
    /// Phase 2a for consecutive instances; without values, the heartbeat.
    Accept {
        /// The leader's ballot.
        ballot: Term,
        /// The instance before the first one.
        prev: Index,
        /// The values; none is a no-op.
        values: Vec<Option<C>>,
        /// Up to where the leader knows values to be chosen.
        commit: Index,
        /// The leader's heartbeat round, to be echoed.
        round: u64,
    },
    /// Phase 2b.
    Accepted {
        /// The leader's ballot.
        ballot: Term,
        /// The latest round that the acceptor has seen in this ballot.
        round: u64,
        /// Up to where the acceptor holds, on disk, what is chosen or proposed in this ballot; or what it lacks.
        result: Result<Index, Gap>,
    },
    /// What was chosen up to some instance, in one piece.
    Install {
        /// The leader's ballot.
        ballot: Term,
        /// The snapshot.
        snapshot: Snapshot,
        /// The leader's heartbeat round, to be echoed.
        round: u64,
    },
}

/// An acceptor cannot accept an instance, because it lacks one before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Gap {
    /// `prev` of the message refused.
    pub prev: Index,
    /// The first instance that the acceptor lacks.
    pub missing: Index,
}

impl<C: Command> Wire for PaxosMessage<C> {
    fn label(&self) -> &'static str {
        match self {
            PaxosMessage::Prepare { .. } => "prepare-ballot",
            PaxosMessage::Promise { .. } => "promise",
            PaxosMessage::Refusal { .. } => "refusal",
            PaxosMessage::Accept { values, .. } if values.is_empty() => "heartbeat",
            PaxosMessage::Accept { .. } => "accept",
            PaxosMessage::Accepted { .. } => "accepted",
            PaxosMessage::Install { .. } => "install-snapshot",
        }
    }

    fn size_bytes(&self) -> u32 {
        let size = |command: &Option<C>| 16 + command.as_ref().map_or(0, C::size_bytes);
        let content = match self {
            PaxosMessage::Promise {
                snapshot, accepted, ..
            } => {
                let state = snapshot.as_ref().map_or(0, |s| s.state.len() as u32);
                let entries = accepted.iter().map(|entry| size(&entry.command));
                state + entries.sum::<u32>()
            }
            PaxosMessage::Accept { values, .. } => values.iter().map(size).sum(),
            PaxosMessage::Install { snapshot, .. } => snapshot.state.len() as u32,
            _ => 0,
        };
        64 + content
    }
}

/// Multi-Paxos's timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PaxosTimer {
    /// Time to doubt the leader, to start a ballot, or, at a leader, to check for a majority.
    Election,
    /// Time for a leader's heartbeat.
    Heartbeat,
}

type Out<C> = Effects<PaxosMessage<C>, PaxosTimer>;

// ---- The interface of `Log` -------------------------------------------------------------------------------

impl<C: Command> Paxos<C> {
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
        input: Input<PaxosMessage<C>, PaxosTimer>,
        out: &mut Out<C>,
    ) {
        match input {
            Input::Boot(disk) => self.boot(&disk, out),
            Input::Message { from, message } => self.receive(from, message, out),
            Input::Timer(PaxosTimer::Election) => self.election_timeout(out),
            Input::Timer(PaxosTimer::Heartbeat) => self.heartbeat(out),
            Input::Flushed(flush) => self.flushed(flush, out),
            Input::FlushFailed(_) => out.halt("the disk refused to flush the log"),
        }
        self.storage.flush(out);
    }

    /// See [`super::Log::propose`]. Phase 2 for the next instance.
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

    /// See [`super::Log::read_index`]. As in Raft (its thesis, section 6.4).
    ///
    /// # Errors
    ///
    /// [`NotLeader`] at a replica that does not lead.
    pub fn read_index(&mut self, read: u64, out: &mut Out<C>) -> Result<(), NotLeader> {
        let hint = self.leader;
        let Role::Leader(leader) = &mut self.role else {
            return Err(NotLeader { hint });
        };
        let index = self.commit.max(leader.past);
        let round = leader.round + 1;
        leader.reads.push_back(PendingRead { read, index, round });
        if leader.reads.iter().all(|pending| pending.round == round) {
            self.next_round(out);
        }
        self.serve_reads(out);
        Ok(())
    }

    /// See [`super::Log::compact`].
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

    /// The highest ballot promised.
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

impl<C: Command> Paxos<C> {
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
        out.set_timer(PaxosTimer::Election, self.config.options.election);
    }

    fn receive(&mut self, from: Addr, message: PaxosMessage<C>, out: &mut Out<C>) {
        if !self.config.members.contains(&from) {
            return;
        }
        match message {
            PaxosMessage::Prepare {
                ballot,
                from: first,
            } => self.on_prepare(from, ballot, first, out),
            PaxosMessage::Promise {
                ballot,
                snapshot,
                first,
                accepted,
            } => {
                if ballot == self.term() {
                    self.on_promise(from, snapshot, first, accepted, out);
                }
            }
            PaxosMessage::Refusal { ballot } => {
                if ballot > self.term() {
                    self.adopt_ballot(ballot, out);
                }
            }
            PaxosMessage::Accept {
                ballot,
                prev,
                values,
                commit,
                round,
            } => {
                if self.follow(from, ballot, round, out) {
                    self.on_accept(from, prev, values, commit, out);
                }
            }
            PaxosMessage::Accepted {
                ballot,
                round,
                result,
            } => {
                if ballot == self.term() {
                    self.on_accepted(from, round, result, out);
                }
            }
            PaxosMessage::Install {
                ballot,
                snapshot,
                round,
            } => {
                if self.follow(from, ballot, round, out) {
                    let last = snapshot.last.index;
                    self.install(snapshot, out);
                    self.verify_and_commit(last, last, out);
                    if self.storage.durable() >= last {
                        self.acknowledge(from, out);
                    }
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
            self.count_promises(out);
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

    /// Sends once the promise is on disk.
    fn send(&mut self, to: Addr, message: PaxosMessage<C>, out: &mut Out<C>) {
        if self.storage.hard_is_durable() {
            out.send(to, message);
        } else {
            self.outbox.push((to, message));
        }
    }

    fn send_to_all(&mut self, message: PaxosMessage<C>, out: &mut Out<C>) {
        let peers: Vec<Addr> = self.config.peers().collect();
        for peer in peers {
            self.send(peer, message.clone(), out);
        }
    }

    /// Promises a ballot that somebody else has started.
    fn adopt_ballot(&mut self, ballot: Term, out: &mut Out<C>) {
        let vote = None;
        self.storage.set_hard(HardState { term: ballot, vote }, out);
        self.become_follower(out);
    }

    fn become_follower(&mut self, out: &mut Out<C>) {
        let verified = self.commit;
        let follower = Role::Follower(Follower {
            verified,
            ..Follower::default()
        });
        if let Role::Leader(leader) = std::mem::replace(&mut self.role, follower) {
            out.cancel_timer(PaxosTimer::Heartbeat);
            let refuse = |pending: PendingRead| Delivery::ReadRefused { read: pending.read };
            self.deliveries.extend(leader.reads.into_iter().map(refuse));
        }
        self.leader = None;
        out.set_timer(PaxosTimer::Election, self.config.options.election);
    }
}

// ---- Phase 1: taking over -----------------------------------------------------------------------------------

impl<C: Command> Paxos<C> {
    /// The second of a follower's two waits for its leader.
    fn patience(&self) -> Delay {
        let election = self.config.options.election;
        Delay::between(0, election.max_ns.saturating_sub(election.min_ns))
    }

    fn stands_by_leader(&self) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(follower) => follower.stands_by,
            Role::Candidate(_) => false,
        }
    }

    fn election_timeout(&mut self, out: &mut Out<C>) {
        match &mut self.role {
            Role::Leader(_) => self.check_quorum(out),
            Role::Follower(follower) if follower.stands_by => {
                follower.stands_by = false;
                out.set_timer(PaxosTimer::Election, self.patience());
            }
            _ => self.start_ballot(out),
        }
    }

    /// As in Raft (its thesis, section 6.2): a leader steps down if an election timeout passes without a round of heartbeats
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
        out.set_timer(PaxosTimer::Election, period);
    }

    /// The lowest of this replica's own ballots above every ballot promised: ballots are dealt out in turn.
    fn next_ballot(&self) -> Term {
        let members = &self.config.members;
        let mine = members.iter().position(|member| *member == self.config.me);
        let (mine, count) = (mine.expect("a member") as u64, members.len() as u64);
        let first_above = self.term() + 1;
        first_above + (mine + count - first_above % count) % count
    }

    /// Phase 1a.
    fn start_ballot(&mut self, out: &mut Out<C>) {
        let (ballot, from) = (self.next_ballot(), self.commit + 1);
        self.adopt_ballot(ballot, out);
        self.role = Role::Candidate(Candidate {
            promised: BTreeSet::from([self.config.me]),
            accepted: BTreeMap::new(),
        });
        self.send_to_all(PaxosMessage::Prepare { ballot, from }, out);
    }

    /// Phase 1b. As in Raft, a ballot that comes while the leader is well is ignored.
    fn on_prepare(&mut self, from: Addr, ballot: Term, asked: Index, out: &mut Out<C>) {
        if self.stands_by_leader() {
            return;
        }
        let promised = self.term();
        if ballot < promised {
            return self.send(from, PaxosMessage::Refusal { ballot: promised }, out);
        }
        if ballot > promised {
            self.adopt_ballot(ballot, out);
        }
        let snapshot = self.storage.snapshot();
        let first = asked.max(snapshot.last.index + 1);
        let message = PaxosMessage::Promise {
            ballot,
            snapshot: (first > asked).then(|| snapshot.clone()),
            first,
            accepted: self.storage.entries_from(first, usize::MAX),
        };
        self.send(from, message, out);
    }

    fn on_promise(
        &mut self,
        from: Addr,
        snapshot: Option<Snapshot>,
        first: Index,
        accepted: Vec<Entry<C>>,
        out: &mut Out<C>,
    ) {
        let Role::Candidate(candidate) = &mut self.role else {
            return;
        };
        candidate.promised.insert(from);
        for (index, entry) in (first..).zip(accepted) {
            let known = candidate.accepted.get(&index).map(|known| known.term);
            if known.is_none_or(|term| term < entry.term) {
                candidate.accepted.insert(index, entry);
            }
        }
        if let Some(snapshot) = snapshot {
            self.install(snapshot, out);
        }
        self.count_promises(out);
    }

    /// The proposer's own promise counts once it is on disk.
    fn count_promises(&mut self, out: &mut Out<C>) {
        let majority = self.config.majority();
        if let Role::Candidate(candidate) = &mut self.role
            && candidate.promised.len() >= majority
            && self.storage.hard_is_durable()
        {
            let accepted = std::mem::take(&mut candidate.accepted);
            self.become_leader(accepted, out);
        }
    }

    /// Phase 1 is over for all instances at once. Where something was accepted, the value accepted in the highest
    /// ballot is proposed again, for it may have been chosen.
    fn become_leader(&mut self, mut accepted: BTreeMap<Index, Entry<C>>, out: &mut Out<C>) {
        let highest = accepted.last_key_value().map_or(0, |(index, _)| *index);
        let past = highest.max(self.storage.last().index);
        let ballot = self.term();
        for index in self.commit + 1..=past {
            let mine = self.storage.entry(index).cloned();
            let theirs = accepted.remove(&index);
            let latest = mine.into_iter().chain(theirs).max_by_key(|e| e.term);
            let command = latest.and_then(|entry| entry.command);
            let term = ballot;
            self.storage.put(index, Entry { term, command }, out);
        }
        let progress = Progress::new(self.commit + 1);
        self.role = Role::Leader(Leader {
            past,
            followers: self.config.peers().map(|p| (p, progress.clone())).collect(),
            round: 0,
            reads: VecDeque::new(),
        });
        self.leader = Some(self.config.me);
        out.observe(Observation::Mark("paxos-leader"));
        let peers: Vec<Addr> = self.config.peers().collect();
        for peer in peers {
            if !self.replicate(peer, out) {
                self.send_entries(peer, 0, out);
            }
        }
        let period = Delay::exactly(self.config.options.election.min_ns);
        out.set_timer(PaxosTimer::Election, period);
        self.arm_heartbeat(out);
    }
}

// ---- Phase 2 at the leader -----------------------------------------------------------------------------------

impl<C: Command> Paxos<C> {
    fn append_as_leader(&mut self, command: Option<C>, out: &mut Out<C>) -> Position {
        let term = self.term();
        let index = self.storage.last().index + 1;
        self.storage.put(index, Entry { term, command }, out);
        Position { term, index }
    }

    fn arm_heartbeat(&mut self, out: &mut Out<C>) {
        let period = Delay::exactly(self.config.options.heartbeat_ns);
        out.set_timer(PaxosTimer::Heartbeat, period);
    }

    /// A heartbeat is also the probe that finds lost messages.
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

    /// Sends what the follower lacks, as far as its window allows: phase 2 of many instances at once. Says whether
    /// anything was sent.
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

    /// One Accept with `count` values; none is a heartbeat, which never moves the window.
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
        let entries = match count {
            0 => Vec::new(),
            _ => self.storage.entries_from(prev_index + 1, count),
        };
        let message = PaxosMessage::Accept {
            ballot: term,
            prev: prev_index,
            values: entries.into_iter().map(|entry| entry.command).collect(),
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
        let message = PaxosMessage::Install {
            ballot: term,
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

    fn on_accepted(
        &mut self,
        from: Addr,
        round: u64,
        result: Result<Index, Gap>,
        out: &mut Out<C>,
    ) {
        let Some(progress) = self.progress(from) else {
            return;
        };
        progress.heard = true;
        progress.round = progress.round.max(round);
        match result {
            Ok(index) => progress.acknowledged(index),
            Err(gap) => {
                // It may have restarted: it does not know any more which instances it was told are chosen.
                progress.matched = progress.matched.min(gap.missing - 1);
                progress.refused(gap.prev, gap.missing);
            }
        }
        self.advance_commit(out);
        self.replicate(from, out);
        self.serve_reads(out);
    }

    /// A value is chosen once a majority of acceptors has accepted it in one ballot. Everything above the commit
    /// index is proposed in this leader's ballot, so counting suffices.
    fn advance_commit(&mut self, out: &mut Out<C>) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let mut held: Vec<Index> = leader.followers.values().map(|f| f.matched).collect();
        held.push(self.storage.durable());
        held.sort_unstable_by(|a, b| b.cmp(a));
        let index = held[self.config.majority() - 1];
        if index > self.commit {
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
            self.storage.observe_entry(index, out);
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

// ---- Phase 2 at an acceptor ------------------------------------------------------------------------------------

impl<C: Command> Paxos<C> {
    /// What Accept and Install begin with: refuse a lower ballot than promised, follow the leader of this one.
    fn follow(&mut self, leader: Addr, ballot: Term, round: u64, out: &mut Out<C>) -> bool {
        let promised = self.term();
        if ballot < promised {
            self.send(leader, PaxosMessage::Refusal { ballot: promised }, out);
            return false;
        }
        if ballot > promised {
            self.adopt_ballot(ballot, out);
        }
        let Role::Follower(follower) = &mut self.role else {
            unreachable!("{leader} uses this replica's ballot {ballot}")
        };
        self.leader = Some(leader);
        follower.stands_by = true;
        follower.round = follower.round.max(round);
        let stand_by = Delay::exactly(self.config.options.election.min_ns);
        out.set_timer(PaxosTimer::Election, stand_by);
        true
    }

    /// Phase 2b.
    fn on_accept(
        &mut self,
        from: Addr,
        prev: Index,
        values: Vec<Option<C>>,
        commit: Index,
        out: &mut Out<C>,
    ) {
        let Role::Follower(follower) = &self.role else {
            unreachable!("only followers accept")
        };
        let verified = follower.verified;
        if prev > verified {
            let missing = verified + 1;
            return self.answer(from, Err(Gap { prev, missing }), out);
        }
        let (term, last) = (self.term(), prev + values.len() as u64);
        let is_heartbeat = values.is_empty();
        for (index, command) in (prev + 1..).zip(values) {
            if index > verified {
                self.storage.put(index, Entry { term, command }, out);
            }
        }
        self.verify_and_commit(last, commit, out);
        if is_heartbeat || self.storage.durable() >= last {
            self.acknowledge(from, out);
        }
    }

    /// What the snapshot covers is chosen. What was accepted after it stays.
    fn install(&mut self, snapshot: Snapshot, out: &mut Out<C>) {
        if snapshot.last.index > self.commit {
            self.commit = snapshot.last.index;
            self.deliveries.push(Delivery::Snapshot(snapshot.clone()));
            self.storage.install(snapshot, true, out);
        }
    }

    /// Everything up to `verified` is chosen or accepted in the leader's ballot, in which it chose up to `commit`.
    fn verify_and_commit(&mut self, verified: Index, commit: Index, out: &mut Out<C>) {
        let Role::Follower(follower) = &mut self.role else {
            unreachable!("only followers are told")
        };
        follower.verified = follower.verified.max(verified);
        let verified = follower.verified;
        self.commit_to(commit.min(verified), out);
    }

    /// Claims what is accepted and on disk.
    fn acknowledge(&mut self, leader: Addr, out: &mut Out<C>) {
        if let Role::Follower(follower) = &self.role {
            let index = follower.verified.min(self.storage.durable());
            self.answer(leader, Ok(index), out);
        }
    }

    fn answer(&mut self, leader: Addr, result: Result<Index, Gap>, out: &mut Out<C>) {
        let Role::Follower(follower) = &self.role else {
            unreachable!("only followers answer")
        };
        let message = PaxosMessage::Accepted {
            ballot: self.term(),
            round: follower.round,
            result,
        };
        self.send(leader, message, out);
    }
}

// ---- Linearizable reads: as in Raft (its thesis, section 6.4) ---------------------------------------------------------

impl<C: Command> Paxos<C> {
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
