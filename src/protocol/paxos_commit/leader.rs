//! The leader: collects what acceptors have accepted, decides, and tells until everybody has heard (Gray and Lamport, section
//! 4.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::coordinator::{Continuation, Coordinator};
use super::{Accepted, Ballot, Decision, Group, Message, Out, Start, Timer, Vote};
use crate::base::observation::{AbortReason, Observation};
use crate::base::process::Addr;
use crate::base::txn::{ShardId, TxnId};
use crate::base::zoo::{self, Bug};
use crate::protocol::kit::execution::Part;
use crate::protocol::kit::votes::{Tally, Votes};

/// A transaction in a leader's hands.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Leading {
    group: Arc<Group>,
    ballot: Ballot,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// Ballot 0: the resource managers vote, and these acceptors have accepted `Prepared` in every instance.
    Voting {
        parts: Vec<Part>,
        accepted: Votes<Addr>,
    },
    /// Phase 1 of a higher ballot.
    Collecting { promises: BTreeMap<Addr, Accepted> },
    /// Phase 2 of a higher ballot: these acceptors have accepted.
    Proposing {
        votes: BTreeMap<ShardId, Vote>,
        accepted: Votes<Addr>,
    },
    /// The decision is commit. These resource managers have not acknowledged it.
    Telling { acks: Votes<ShardId> },
}

/// The acceptors of a group, of which F + 1 have to accept.
fn acceptors(group: &Group) -> Votes<Addr> {
    let missing = usize::from(zoo::planted(Bug::FewAcceptorsDecide));
    Votes::of(group.acceptors.iter().copied(), group.quorum() - missing)
}

impl Coordinator {
    // Ballot 0.

    /// The initiator is prepared: ask the others. Asking again is harmless, because ballot 0 is not the leader's but the
    /// resource managers'.
    pub(super) fn on_begin_commit(&mut self, from: Addr, start: Arc<Start>, out: &mut Out) {
        let (group, txn) = (&start.group, start.group.txn);
        if !self.decisions.contains_key(&txn) && !self.leading.contains_key(&txn) {
            let phase = Phase::Voting {
                parts: start.parts.clone(),
                accepted: acceptors(group),
            };
            let leading = Leading {
                group: Arc::clone(group),
                ballot: Ballot::ZERO,
                phase,
            };
            self.leading.insert(txn, leading);
            self.on_prepared(from, group, start.initiator, out);
            return self.resend(txn, out);
        }
        self.on_prepared(from, group, start.initiator, out);
    }

    /// Whoever votes no has never been prepared: nothing but `Aborted` can be chosen in its instance.
    pub(super) fn on_no(&mut self, txn: TxnId, out: &mut Out) {
        if let Some(leading) = self.leading.get(&txn)
            && let Phase::Voting { .. } = leading.phase
        {
            let group = Arc::clone(&leading.group);
            self.decide(&group, Decision::Abort(AbortReason::VotedNo), out);
        }
    }

    /// Phase 2b: an acceptor has accepted in every instance.
    pub(super) fn on_accepted(&mut self, from: Addr, txn: TxnId, ballot: Ballot, out: &mut Out) {
        let Some(leading) = self.leading.get_mut(&txn) else {
            return;
        };
        if leading.ballot != ballot {
            return;
        }
        let group = Arc::clone(&leading.group);
        let (accepted, decision) = match &mut leading.phase {
            Phase::Voting { accepted, .. } => (accepted, Decision::Commit),
            Phase::Proposing { votes, accepted } => {
                let is_prepared = votes.values().all(|vote| *vote == Vote::Prepared);
                let aborted = Decision::Abort(AbortReason::Timeout);
                let decision = if is_prepared {
                    Decision::Commit
                } else {
                    aborted
                };
                (accepted, decision)
            }
            Phase::Collecting { .. } | Phase::Telling { .. } => return,
        };
        if accepted.record(from, true) == Tally::Accepted {
            self.decide(&group, decision, out);
        }
    }

    // A higher ballot.

    /// No end for too long: another ballot, in all instances. The leader's own promise comes first, so that it never takes a
    /// ballot twice.
    pub(super) fn take_over(&mut self, txn: TxnId, out: &mut Out) {
        if self.decisions.contains_key(&txn) || zoo::planted(Bug::NobodyTakesOver) {
            return;
        }
        let Some(acceptor) = self.acceptors.get_mut(&txn) else {
            return;
        };
        let ballot = Ballot {
            round: acceptor.promised.round + 1,
            leader: Some(self.me),
        };
        acceptor.promised = ballot;
        let group = Arc::clone(&acceptor.group);
        if group.leader() != self.me {
            out.observe(Observation::Mark("paxos-commit.took-over"));
        }
        let promises = BTreeMap::new();
        let leading = Leading {
            group: Arc::clone(&group),
            ballot,
            phase: Phase::Collecting { promises },
        };
        self.leading.insert(txn, leading);
        out.cancel_timer(Timer::Resend(txn));
        self.arm_take_over(&group, out);
        let to = self.me;
        self.force(Continuation::Promised { txn, ballot, to });
    }

    /// Phase 1a, with the leader's own promise.
    pub(super) fn begin_collecting(
        &mut self,
        txn: TxnId,
        ballot: Ballot,
        accepted: Accepted,
        out: &mut Out,
    ) {
        let Some(leading) = self.leading.get(&txn) else {
            return;
        };
        let group = Arc::clone(&leading.group);
        self.send_others(&group, out, || Message::Collect {
            group: Arc::clone(&group),
            ballot,
        });
        self.on_promise(self.me, txn, ballot, accepted, out);
    }

    /// Phase 1b: with a majority of promises, each instance's value is that of its highest ballot, or free.
    pub(super) fn on_promise(
        &mut self,
        from: Addr,
        txn: TxnId,
        ballot: Ballot,
        accepted: Accepted,
        out: &mut Out,
    ) {
        let Some(leading) = self.leading.get_mut(&txn) else {
            return;
        };
        let Phase::Collecting { promises } = &mut leading.phase else {
            return;
        };
        if leading.ballot != ballot {
            return;
        }
        promises.insert(from, accepted);
        let group = Arc::clone(&leading.group);
        if promises.len() < group.quorum() {
            return;
        }
        let mut votes = BTreeMap::new();
        for shard in &group.members {
            let accepted = promises.values().filter_map(|accepted| accepted.get(shard));
            let taken = if zoo::planted(Bug::LowestBallotTaken) {
                accepted.min()
            } else {
                accepted.max()
            };
            let vote = match taken {
                Some((_, vote)) => *vote,
                None if zoo::planted(Bug::FreeInstancePrepared) => Vote::Prepared,
                None => {
                    out.observe(Observation::Mark("paxos-commit.free-instance"));
                    Vote::Aborted
                }
            };
            votes.insert(*shard, vote);
        }
        if votes.values().all(|vote| *vote == Vote::Prepared) {
            out.observe(Observation::Mark("paxos-commit.all-prepared"));
        }
        leading.phase = Phase::Proposing {
            votes: votes.clone(),
            accepted: acceptors(&group),
        };
        self.send_others(&group, out, || Message::Propose {
            group: Arc::clone(&group),
            ballot,
            votes: votes.clone(),
        });
        self.on_propose(self.me, &group, ballot, votes, out);
    }

    fn send_others(&self, group: &Group, out: &mut Out, message: impl Fn() -> Message) {
        let others = { group.acceptors.iter() }.filter(|acceptor| **acceptor != self.me);
        for acceptor in others {
            out.send(*acceptor, message());
        }
    }

    // The decision.

    /// Another one knows the decision; it may not live to tell everybody.
    pub(super) fn on_decided(&mut self, group: &Arc<Group>, decision: Decision, out: &mut Out) {
        if !self.decisions.contains_key(&group.txn) {
            out.observe(Observation::Mark("paxos-commit.learned"));
            self.decide(group, decision, out);
        }
    }

    fn decide(&mut self, group: &Arc<Group>, decision: Decision, out: &mut Out) {
        let txn = group.txn;
        let commit = decision == Decision::Commit;
        out.observe(Observation::Decided { txn, commit });
        out.cancel_timer(Timer::TakeOver(txn));
        match decision {
            Decision::Commit => {
                self.decisions.insert(txn, decision);
                self.await_acks(group);
                self.resend(txn, out);
            }
            Decision::Abort(why) => {
                for shard in &group.members {
                    let to = self.site.resource_manager(*shard);
                    out.send(to, Message::Abort { txn, why });
                }
                self.end(group, decision, out);
            }
        }
    }

    fn await_acks(&mut self, group: &Arc<Group>) {
        let ballot =
            { self.leading.get(&group.txn) }.map_or(Ballot::ZERO, |leading| leading.ballot);
        let leading = Leading {
            group: Arc::clone(group),
            ballot,
            phase: Phase::Telling {
                acks: Votes::of_all(group.members.iter().copied()),
            },
        };
        self.leading.insert(group.txn, leading);
    }

    /// Sends, and sends again, what the phase is waiting to have answered.
    pub(super) fn resend(&mut self, txn: TxnId, out: &mut Out) {
        let Some(leading) = self.leading.get(&txn) else {
            return;
        };
        match &leading.phase {
            Phase::Voting { parts, .. } => {
                let voted = &self.acceptors[&txn].accepted;
                for part in parts.iter().filter(|part| !voted.contains_key(&part.shard)) {
                    let prepare = Message::Prepare {
                        group: Arc::clone(&leading.group),
                        part: Arc::new(part.clone()),
                    };
                    out.send(self.site.resource_manager(part.shard), prepare);
                }
            }
            Phase::Telling { acks } => {
                for shard in acks.missing() {
                    out.send(self.site.resource_manager(shard), Message::Commit { txn });
                }
            }
            Phase::Collecting { .. } | Phase::Proposing { .. } => return,
        }
        out.set_timer(Timer::Resend(txn), self.site.options.resend_ms.about());
    }

    /// A resource manager has committed. In the faster variant this is how the leader learns that it may.
    pub(super) fn on_ack(&mut self, txn: TxnId, shard: ShardId, out: &mut Out) {
        let Some(leading) = self.leading.get_mut(&txn) else {
            return;
        };
        let group = Arc::clone(&leading.group);
        if let Phase::Telling { acks } = &mut leading.phase {
            if acks.record(shard, true) == Tally::Accepted {
                self.end(&group, Decision::Commit, out);
            }
            return;
        }
        self.decisions.insert(txn, Decision::Commit);
        out.cancel_timer(Timer::TakeOver(txn));
        self.await_acks(&group);
        out.set_timer(Timer::Resend(txn), self.site.options.resend_ms.about());
        self.on_ack(txn, shard, out);
    }

    /// Everybody has acted on the decision, or learns of an abort when it asks: acceptors may forget.
    fn end(&mut self, group: &Arc<Group>, decision: Decision, out: &mut Out) {
        let txn = group.txn;
        let ballot = { self.leading.get(&txn) }.map_or(Ballot::ZERO, |leading| leading.ballot);
        // Nobody else has heard of it as long as nobody failed.
        let told = if ballot == Ballot::ZERO {
            group.active()
        } else {
            &group.acceptors
        };
        for acceptor in told.iter().filter(|acceptor| **acceptor != self.me) {
            out.send(*acceptor, Message::End { txn, decision });
        }
        let commit = decision == Decision::Commit;
        out.observe(Observation::Ended { txn, commit });
        self.on_end(txn, decision, out);
    }
}
