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
//! Before a replica starts a ballot it asks whether a majority would promise one, as Raft's pre-vote does (Ongaro,
//! 2014, section 9.6): only a replica that reaches a majority raises ballots, and the leader of the others goes on
//! undisturbed. In the words of Omni-Paxos (Ng, Haridi and Carbone, EuroSys 2023) only a
//! quorum-connected replica is elected.
//!
//! # The order of leaders
//!
//! Paxos agrees on each instance by itself. With several values under way, a value of a deposed leader may be chosen
//! *after* values of its successor (Junqueira, Reed and Serafini, "Zab", DSN 2011): the old leader proposed it to an acceptor
//! whom the successor did not hear, and a third leader did. Hosts whose commands build on one another cannot live with that. So every value carries the ballot of the leader that
//! created it (an entry's term). A leader that proposes values again puts a no-op in place of each one that follows a
//! value of a later leader. That is safe:
//!
//! - A leader's own values come after all that it found in its promises. So where `n`'s own begin, its majority had
//!   accepted nothing from there on, and no ballot below `n` chooses anything there.
//! - Let a value `v` of an earlier leader than `n` be chosen at such an instance. Then it was in a ballot `c` above `n`.
//!   Acceptors accept in order, so all that `c` proposed before `v` is chosen, too; and `c` saw to it that none of that is
//!   of a later leader than `v`. Leaders after `c` find the same before `v`, and keep it.
//!
//! So the terms of chosen entries never go down. And once a leader's first own entry, a no-op, is chosen, it knows
//! everything that will ever be chosen of earlier leaders.
//!
//! # Observations
//!
//! A replica states only what it knows to be chosen: Raft's Log Matching and Leader Completeness do not hold
//! for what Paxos has merely accepted. Agreement (State Machine Safety) and the order of leaders are left to check.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::observation::{LogEvent, Observation};
use crate::base::process::{Addr, Wire};

use super::replica::{self, Heading, Protocol, Replica, Role};
use super::storage::Accepted;
use super::{Command, Entry, Index, Position, Snapshot, Term};

/// A replica of a log kept by Multi-Paxos: proposer, acceptor and learner in one. Its term is the ballot that it has
/// promised, and an entry's term the ballot of the leader that created it, whatever ballot it is accepted in.
pub type Paxos<C> = Replica<PaxosMessage<C>>;

type Out<C> = replica::Out<PaxosMessage<C>>;

/// A replica that wants to lead.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Candidate<C> {
    /// It asks whether it could.
    Asking {
        /// Who hears from no leader either, this replica included.
        willing: BTreeSet<Addr>,
        /// The highest ballot that one of them has promised.
        promised: Term,
    },
    /// Phase 1.
    Preparing {
        /// Who has promised, this replica included.
        promised: BTreeSet<Addr>,
        /// For each instance, what was accepted in the highest ballot by an acceptor that promised.
        accepted: BTreeMap<Index, Accepted<C>>,
    },
}

/// Multi-Paxos's messages.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PaxosMessage<C> {
    /// Would you promise a higher ballot than this, the one that I have promised?
    Ask {
        /// That ballot.
        ballot: Term,
    },
    /// The acceptor hears from no leader: it would.
    Willing {
        /// The ballot of the question.
        asked: Term,
        /// The ballot that the acceptor has promised.
        promised: Term,
    },
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
        accepted: Vec<Accepted<C>>,
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
        /// The values, each with the ballot of the leader that created it.
        values: Vec<Entry<C>>,
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
            PaxosMessage::Ask { .. } => "ask-ballot",
            PaxosMessage::Willing { .. } => "willing",
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
        let size = |entry: &Entry<C>| 16 + entry.command.as_ref().map_or(0, C::size_bytes);
        let content = match self {
            PaxosMessage::Promise {
                snapshot, accepted, ..
            } => {
                let state = snapshot.as_ref().map_or(0, |s| s.state.len() as u32);
                let entries = accepted.iter().map(|accepted| 8 + size(&accepted.entry));
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
            values: entries,
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
        replica.ask(out);
    }

    fn count_votes(replica: &mut Paxos<C>, out: &mut Out<C>) {
        replica.count_promises(out);
    }

    fn append(replica: &mut Paxos<C>, command: Option<C>, out: &mut Out<C>) -> Position {
        let term = replica.term();
        let index = replica.last().index + 1;
        let (ballot, entry) = (term, Entry { term, command });
        replica.storage.put(index, Accepted { ballot, entry }, out);
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
            PaxosMessage::Ask { ballot } => self.on_ask(from, ballot, out),
            PaxosMessage::Willing { asked, promised } => {
                if asked == self.term() {
                    self.on_willing(from, promised, out);
                }
            }
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
    /// Asks first, so that nobody who cannot lead raises ballots. The question repeats with the election timer.
    fn ask(&mut self, out: &mut Out<C>) {
        self.leader = None;
        self.arm_election(self.config.options.election_ms.delay(), out);
        let ballot = self.term();
        self.role = Role::Candidate(Candidate::Asking {
            willing: BTreeSet::from([self.config.me]),
            promised: ballot,
        });
        self.send_to_all(PaxosMessage::Ask { ballot }, out);
        self.count_willing(out);
    }

    fn on_ask(&mut self, from: Addr, asked: Term, out: &mut Out<C>) {
        if !self.stands_by_leader() {
            let promised = self.term();
            self.send(from, PaxosMessage::Willing { asked, promised }, out);
        }
    }

    fn on_willing(&mut self, from: Addr, theirs: Term, out: &mut Out<C>) {
        if let Role::Candidate(Candidate::Asking { willing, promised }) = &mut self.role {
            willing.insert(from);
            *promised = theirs.max(*promised);
            self.count_willing(out);
        }
    }

    fn count_willing(&mut self, out: &mut Out<C>) {
        if let Role::Candidate(Candidate::Asking { willing, promised }) = &self.role
            && willing.len() >= self.config.majority()
        {
            let ballot = self.next_ballot(*promised);
            self.start_ballot(ballot, out);
        }
    }

    /// The lowest of this replica's own ballots above `promised`: ballots are dealt out in turn.
    fn next_ballot(&self, promised: Term) -> Term {
        let members = &self.config.members;
        let mine = members.iter().position(|member| *member == self.config.me);
        let (mine, count) = (mine.expect("a member") as u64, members.len() as u64);
        let first_above = promised + 1;
        first_above + (mine + count - first_above % count) % count
    }

    /// Phase 1a.
    fn start_ballot(&mut self, ballot: Term, out: &mut Out<C>) {
        let from = self.commit + 1;
        self.adopt_term(ballot, None, out);
        self.role = Role::Candidate(Candidate::Preparing {
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
            accepted: self.storage.accepted_from(first),
        };
        self.send(from, message, out);
    }

    fn on_promise(
        &mut self,
        from: Addr,
        snapshot: Option<Snapshot>,
        first: Index,
        reported: Vec<Accepted<C>>,
        out: &mut Out<C>,
    ) {
        let Role::Candidate(Candidate::Preparing { promised, accepted }) = &mut self.role else {
            return;
        };
        promised.insert(from);
        for (index, reported) in (first..).zip(reported) {
            let known = accepted.get(&index).map(|known| known.ballot);
            if known.is_none_or(|ballot| ballot < reported.ballot) {
                accepted.insert(index, reported);
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
        if let Role::Candidate(Candidate::Preparing { promised, accepted }) = &mut self.role
            && promised.len() >= majority
            && self.storage.hard_is_durable()
        {
            let accepted = std::mem::take(accepted);
            self.become_leader(accepted, out);
        }
    }

    /// Phase 1 is over for all instances at once. Where something was accepted, the value accepted in the highest
    /// ballot is proposed again, for it may have been chosen. The no-op behind them begins what is this leader's own.
    fn become_leader(&mut self, accepted: BTreeMap<Index, Accepted<C>>, out: &mut Out<C>) {
        let ballot = self.term();
        for (index, entry) in self.inherited(accepted, out) {
            self.storage.put(index, Accepted { ballot, entry }, out);
        }
        let first_own = self.last().index + 1;
        self.lead(first_own, self.commit + 1, out);
        self.storage.observe(LogEvent::WonBallot { ballot }, out);
        PaxosMessage::append(self, None, out);
        self.replicate_to_all(out);
        self.arm_leader(out);
    }

    /// What is proposed again, and where: see "The order of leaders".
    fn inherited(
        &self,
        mut accepted: BTreeMap<Index, Accepted<C>>,
        out: &mut Out<C>,
    ) -> Vec<(Index, Entry<C>)> {
        let highest = accepted.last_key_value().map_or(0, |(index, _)| *index);
        let past = highest.max(self.last().index);
        let mut term = { self.storage.term_at(self.commit) }.expect("it is in the log");
        let again = (self.commit + 1..=past).map(|index| {
            let mine = self.storage.accepted(index).cloned();
            let reported = accepted.remove(&index);
            let latest = mine.into_iter().chain(reported).max_by_key(|a| a.ballot);
            let mut entry = latest.expect("no acceptor's log has holes").entry;
            if entry.term < term {
                out.observe(Observation::Mark("log.overtaken-value-dropped"));
                let command = None;
                entry = Entry { term, command };
            }
            term = entry.term;
            (index, entry)
        });
        again.collect()
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
        } else if matches!(self.role, Role::Candidate(_)) {
            self.become_follower(out); // It asked, and the leader is well.
        }
        self.heed(leader, round, out);
        true
    }

    /// Phase 2b.
    fn on_accept(
        &mut self,
        from: Addr,
        prev: Index,
        values: Vec<Entry<C>>,
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
        let (ballot, last) = (self.term(), prev + values.len() as u64);
        let is_heartbeat = values.is_empty();
        for (index, entry) in (prev + 1..).zip(values) {
            if index > verified {
                self.storage.put(index, Accepted { ballot, entry }, out);
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
