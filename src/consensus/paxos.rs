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

use std::collections::{BTreeMap, BTreeSet};

use crate::base::observation::Observation;
use crate::base::process::{Addr, Wire};

use super::replica::{self, Heading, Protocol, Replica, Role};
use super::{Command, Entry, Index, Position, Snapshot, Term};

/// A replica of a log kept by Multi-Paxos: proposer, acceptor and learner in one. Its term is the ballot that it has
/// promised, and an entry's term the ballot in which it accepted it.
pub type Paxos<C> = Replica<PaxosMessage<C>>;

type Out<C> = replica::Out<PaxosMessage<C>>;

/// A proposer in phase 1.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Candidate<C> {
    promised: BTreeSet<Addr>,
    /// For each instance, what was accepted in the highest ballot by an acceptor that promised.
    accepted: BTreeMap<Index, Entry<C>>,
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

impl<C: Command> Protocol for PaxosMessage<C> {
    type Command = C;
    type Candidacy = Candidate<C>;

    fn entries(heading: Heading, prev: Position, entries: Vec<Entry<C>>) -> Self {
        PaxosMessage::Accept {
            ballot: heading.term,
            prev: prev.index,
            values: entries.into_iter().map(|entry| entry.command).collect(),
            commit: heading.commit,
            round: heading.round,
        }
    }

    fn snapshot(heading: Heading, snapshot: Snapshot) -> Self {
        PaxosMessage::Install {
            ballot: heading.term,
            snapshot,
            round: heading.round,
        }
    }

    fn acknowledgement(ballot: Term, round: u64, index: Index) -> Self {
        PaxosMessage::Accepted {
            ballot,
            round,
            result: Ok(index),
        }
    }

    fn receive(replica: &mut Paxos<C>, from: Addr, message: Self, out: &mut Out<C>) {
        replica.receive(from, message, out);
    }

    fn campaign(replica: &mut Paxos<C>, out: &mut Out<C>) {
        replica.start_ballot(out);
    }

    fn count_votes(replica: &mut Paxos<C>, out: &mut Out<C>) {
        replica.count_promises(out);
    }

    fn append(replica: &mut Paxos<C>, command: Option<C>, out: &mut Out<C>) -> Position {
        let term = replica.term();
        let index = replica.last().index + 1;
        replica.storage.put(index, Entry { term, command }, out);
        Position { term, index }
    }

    /// A value is chosen once a majority of acceptors has accepted it in one ballot. Everything above the commit
    /// index is proposed in this leader's ballot, so counting suffices.
    fn commits_by_counting(_replica: &Paxos<C>, _index: Index) -> bool {
        true
    }
}

// ---- Dispatching ----------------------------------------------------------------------------------------------

impl<C: Command> Paxos<C> {
    fn receive(&mut self, from: Addr, message: PaxosMessage<C>, out: &mut Out<C>) {
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
                    self.adopt_term(ballot, None, out);
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
                    self.on_install(from, snapshot, out);
                }
            }
        }
    }
}

// ---- Phase 1: taking over -----------------------------------------------------------------------------------

impl<C: Command> Paxos<C> {
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
        self.adopt_term(ballot, None, out);
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
            self.adopt_term(ballot, None, out);
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
            self.learn(snapshot, out);
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
        self.lead(past, self.commit + 1, out);
        out.observe(Observation::Mark("paxos-leader"));
        for peer in self.peers() {
            if !self.replicate(peer, out) {
                self.send_entries(peer, 0, out);
            }
        }
        self.arm_leader(out);
    }
}

// ---- Phase 2 ----------------------------------------------------------------------------------------------------

impl<C: Command> Paxos<C> {
    fn on_accepted(
        &mut self,
        from: Addr,
        round: u64,
        result: Result<Index, Gap>,
        out: &mut Out<C>,
    ) {
        let Some(progress) = self.hear(from, round) else {
            return;
        };
        match result {
            Ok(index) => progress.acknowledged(index),
            Err(gap) => {
                // It may have restarted: it does not know any more which instances it was told are chosen.
                progress.matched = progress.matched.min(gap.missing - 1);
                progress.refused(gap.prev, gap.missing);
            }
        }
        self.press_on(from, out);
    }

    /// What Accept and Install begin with: refuse a lower ballot than promised, follow the leader of this one.
    fn follow(&mut self, leader: Addr, ballot: Term, round: u64, out: &mut Out<C>) -> bool {
        let promised = self.term();
        if ballot < promised {
            self.send(leader, PaxosMessage::Refusal { ballot: promised }, out);
            return false;
        }
        if ballot > promised {
            self.adopt_term(ballot, None, out);
        }
        self.heed(leader, round, out);
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
        let follower = self.as_follower();
        let (verified, round) = (follower.verified, follower.round);
        if prev > verified {
            let missing = verified + 1;
            let message = PaxosMessage::Accepted {
                ballot: self.term(),
                round,
                result: Err(Gap { prev, missing }),
            };
            return self.send(from, message, out);
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

    fn on_install(&mut self, from: Addr, snapshot: Snapshot, out: &mut Out<C>) {
        let last = snapshot.last.index;
        self.learn(snapshot, out);
        self.verify_and_commit(last, last, out);
        if self.storage.durable() >= last {
            self.acknowledge(from, out);
        }
    }

    /// What the snapshot covers is chosen. What was accepted after it stays.
    fn learn(&mut self, snapshot: Snapshot, out: &mut Out<C>) {
        if snapshot.last.index > self.commit {
            self.install(snapshot, true, out);
        }
    }
}
