//! From a request to the vote, and from the decision to the effects and the reply.

use std::sync::Arc;

use super::{
    Alone, Commitment, Continuation, GRANT_LOST, Origin, Out, Participant, Phase, REPLY_REPEATED,
    Record, Repeated, VOTE_NOT_DURABLE, Vote,
};
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::process::{Addr, WallTime};
use crate::base::txn::{Read, Txn, TxnId, Write, WriteId};
use crate::base::zoo;
use crate::protocol::kit::client::ClientMessage;
use crate::protocol::kit::execution::{self, Executed, Kept, Part};
use crate::protocol::kit::node::Carries;
use crate::protocol::kit::replies::reply;

impl<P: Commitment> Participant<P> {
    // Requests and replies.

    /// A client's message: runs its transaction, unless it has ended or is on its way.
    ///
    /// # Panics
    ///
    /// When it is a reply.
    pub fn on_client(
        &mut self,
        now: WallTime,
        client: Addr,
        message: ClientMessage,
        out: &mut Out<P>,
    ) {
        match message {
            ClientMessage::Request { txn } => self.on_request(now, client, txn, out),
            ClientMessage::Reply { .. } => unreachable!("{message:?} is for a client"),
        }
    }

    fn on_request(&mut self, now: WallTime, client: Addr, txn: Arc<Txn>, out: &mut Out<P>) {
        let id = txn.id;
        if let Some(outcome) = self.replies.refusal(id) {
            let (outcome, txn, commit) = (outcome.clone(), id, false);
            out.observe(Observation::Ended { txn, commit });
            return reply(client, id, outcome, out);
        }
        if P::on_repeated(self, id, client, out) == Repeated::Settled {
            return;
        }
        if self.committed.contains(&id) {
            out.observe(Observation::Mark(P::MARKS[REPLY_REPEATED].0));
            let reads = self.replies.reads(id);
            return reply(client, id, Outcome::Committed { reads }, out);
        }
        let is_voting =
            { self.votes.get(&id) }.is_some_and(|phase| phase.any_vote().origin.is_some());
        if self.execution.is_running(id) || self.replies.is_ending(id) || is_voting {
            return; // The answer will come.
        }
        if self.aborted.contains(&id) {
            // A crash may have come between the abort and the reply.
            let why = AbortReason::Presumed;
            return self.refuse(id, Outcome::Aborted { why }, client);
        }
        self.execute(out, |execution, around, out| {
            execution.begin(now, client, txn, around, out);
        });
    }

    /// Tells the client that its transaction has committed.
    pub fn reply_committed(
        &mut self,
        txn: TxnId,
        client: Addr,
        reads: Vec<Read>,
        out: &mut Out<P>,
    ) {
        self.replies.committed(txn, reads.clone());
        reply(client, txn, Outcome::Committed { reads }, out);
    }

    /// Ends a transaction that takes no effect: durably first, then the client learns of it.
    pub fn refuse(&mut self, txn: TxnId, outcome: Outcome, client: Addr) {
        let record = Record::Refused {
            txn,
            outcome: outcome.clone(),
        };
        let next = Continuation::Refused {
            txn,
            outcome,
            client,
        };
        self.journal.force(record, next);
    }

    pub(super) fn refusal_durable(
        &mut self,
        txn: TxnId,
        outcome: Outcome,
        client: Addr,
        out: &mut Out<P>,
    ) {
        self.replies.refused(txn, outcome.clone());
        let commit = false;
        out.observe(Observation::Ended { txn, commit });
        reply(client, txn, outcome, out);
    }

    // A transaction with one participant.

    /// Commits a transaction that nobody else takes part in: one forced record, and then [`Commitment::on_alone`]. Its locks
    /// must be held.
    pub fn commit_alone(&mut self, alone: Alone) {
        self.execution.keep(alone.txn);
        let record = Record::CommittedAlone {
            txn: alone.txn,
            writes: alone.writes.clone(),
        };
        self.journal
            .force(record, Continuation::CommittedAlone(alone));
    }

    /// Tells the client of this initiator how its transaction with one participant has ended.
    pub fn answer_alone(&mut self, alone: Alone, has_committed: bool, out: &mut Out<P>) {
        let Alone {
            txn, asker, reads, ..
        } = alone;
        if has_committed {
            self.replies.ended(txn);
            return self.reply_committed(txn, asker, reads, out);
        }
        let why = AbortReason::ApplyFailed;
        self.refuse(txn, Outcome::Aborted { why }, asker);
    }

    pub(super) fn alone_durable(&mut self, txn: TxnId, writes: &[Write], out: &mut Out<P>) {
        let (shard, commit, position) = (self.shard, true, self.store.next_position());
        let writer = WriteId { txn, undo: false };
        let keys = self.store.apply(position, writer, writes);
        self.committed.insert(txn);
        out.observe(Observation::Decided { txn, commit });
        out.observe(Observation::Resolved { txn, shard, commit });
        out.observe(Observation::Applied {
            txn,
            shard,
            position,
            keys,
        });
        self.forget(txn, out);
        out.observe(Observation::Ended { txn, commit });
    }

    // The vote.

    /// The initiator is the first participant that prepares.
    pub(super) fn begin_commit(&mut self, executed: Executed, out: &mut Out<P>) {
        let Executed {
            txn,
            client,
            parts,
            reads,
            ..
        } = executed;
        let mine = { parts.iter() }.find(|part| part.shard == self.shard);
        let writes = mine.expect("the initiator takes part").writes.clone();
        if self.own.setting().one_participant && parts.len() == 1 {
            self.replies.ending(txn);
            let asker = client;
            return self.commit_alone(Alone {
                txn,
                writes,
                asker,
                reads,
            });
        }
        let (own, start) = P::begin(self, txn, parts);
        let origin = Origin {
            start,
            client,
            reads,
        };
        self.vote(txn, own, writes, Some(origin), out);
    }

    /// Asked to vote: votes yes if the locks under which it was read are still held, and repeats what it has said.
    pub fn prepare(
        &mut self,
        coordinator: Addr,
        txn: TxnId,
        part: &Part,
        own: P::Vote,
        out: &mut Out<P>,
    ) {
        if self.committed.contains(&txn) {
            return self.acknowledge_again(coordinator, txn, out);
        }
        match self.votes.get(&txn) {
            None if self.execution.holds_under(txn, part.grant) => {
                self.vote(txn, own, part.writes.clone(), None, out);
            }
            None => {
                // The locks are gone: a crash, or an abort that this repeats.
                if !self.aborted.contains(&txn) {
                    out.observe(Observation::Mark(P::MARKS[GRANT_LOST].0));
                    self.observe_no(txn, out);
                }
                out.send(coordinator, P::no(txn, self.shard));
            }
            Some(Phase::Prepared(vote)) => {
                let vote = Arc::clone(vote);
                P::cast(self, &vote, out);
            }
            Some(Phase::Preparing { .. } | Phase::Committing { .. }) => {}
        }
    }

    /// Asked to vote, but there is nothing to write here: gives the locks back at once and takes no part in the second phase
    /// (Mohan, Lindsay and Obermarck 1986, section 3.1). Returns whether the locks under which it was read were still held;
    /// otherwise it has to say no.
    pub fn leave(&mut self, txn: TxnId, part: &Part, out: &mut Out<P>) -> bool {
        let holds = !self.votes.contains_key(&txn) && self.execution.holds_under(txn, part.grant);
        if holds {
            self.forget(txn, out);
        }
        holds
    }

    fn observe_no(&mut self, txn: TxnId, out: &mut Out<P>) {
        let (shard, yes) = (self.shard, false);
        out.observe(Observation::Voted { txn, shard, yes });
    }

    /// Forces a yes vote.
    fn vote(
        &mut self,
        txn: TxnId,
        own: P::Vote,
        writes: Vec<Write>,
        origin: Option<Origin<P>>,
        out: &mut Out<P>,
    ) {
        let Kept {
            stamp,
            attempt,
            initiator,
            locks,
        } = self.execution.keep(txn);
        let vote = Arc::new(Vote {
            txn,
            stamp,
            attempt,
            initiator,
            locks,
            writes,
            own,
            origin,
        });
        let phase = Phase::Preparing {
            vote: Arc::clone(&vote),
            doomed: None,
        };
        self.votes.insert(txn, phase);
        let record = Record::Prepared(Arc::clone(&vote));
        self.journal.force(record, Continuation::Voted(txn));
        P::on_voting(self, &vote, out);
    }

    /// The vote is durable: from here on only the decision releases the locks.
    pub(super) fn vote_durable(&mut self, txn: TxnId, out: &mut Out<P>) {
        let phase = { self.votes.get_mut(&txn) }.expect("a vote under way is known");
        let Phase::Preparing { vote, doomed } = phase else {
            unreachable!("{txn} has voted in {phase:?}");
        };
        let (vote, doomed) = (Arc::clone(vote), *doomed);
        *phase = Phase::Prepared(Arc::clone(&vote));
        out.work(vote.writes.len() as u32);
        let staged = self.store.prepare(txn, &vote.writes);
        staged.expect("exclusive locks keep other writers out");
        let (shard, yes) = (self.shard, true);
        out.observe(Observation::Voted { txn, shard, yes });
        out.cancel_timer(P::Timer::wrap(execution::Timer::Probe(txn)));
        P::on_doubt(self, txn, out);
        match doomed {
            Some(why) => self.abort(txn, why, out),
            None => P::cast(self, &vote, out),
        }
    }

    /// A vote that is not durable was not cast: it becomes a no.
    pub(super) fn vote_lost(&mut self, txn: TxnId, out: &mut Out<P>) {
        let phase = self.votes.get(&txn).cloned();
        let Some(Phase::Preparing { vote, .. }) = phase else {
            unreachable!("{txn} could not vote in {phase:?}");
        };
        out.observe(Observation::Mark(P::MARKS[VOTE_NOT_DURABLE].0));
        self.forget(txn, out);
        match &vote.origin {
            // Nobody else has heard of the commit phase.
            Some(Origin { client, .. }) => {
                let shards = P::members(&vote);
                self.execute(out, |execution, around, out| {
                    execution.release_others(txn, vote.attempt, shards, around, out);
                });
                self.aborted.insert(txn);
                let why = AbortReason::VotedNo;
                self.refuse(txn, Outcome::Aborted { why }, *client);
            }
            None => {
                self.observe_no(txn, out);
                out.send(P::coordinator(&vote), P::no(txn, self.shard));
            }
        }
    }

    // The decision.

    /// Told to commit: forces that, and then acknowledges to `coordinator`. The initiator answers the client.
    pub fn commit(&mut self, coordinator: Addr, txn: TxnId, out: &mut Out<P>) {
        let Some(phase) = self.votes.get_mut(&txn) else {
            assert!(
                self.committed.contains(&txn) || zoo::any(),
                "{txn} commits without a vote"
            );
            return self.acknowledge_again(coordinator, txn, out);
        };
        match phase {
            Phase::Prepared(vote) => {
                let vote = Arc::clone(vote);
                *phase = Phase::Committing {
                    vote: Arc::clone(&vote),
                    coordinator,
                };
                out.cancel_timer(P::inquiry(txn));
                self.force_commit(txn);
                if let Some(Origin { client, reads, .. }) = &vote.origin {
                    self.reply_committed(txn, *client, reads.clone(), out);
                }
            }
            // The acknowledgement will follow, to whoever asks last.
            Phase::Committing {
                coordinator: to, ..
            } => *to = coordinator,
            Phase::Preparing { .. } => {
                assert!(zoo::any(), "{txn} commits before its vote is durable")
            }
        }
    }

    pub(super) fn force_commit(&mut self, txn: TxnId) {
        let next = Continuation::Committed(txn);
        self.journal.force(Record::Committed(txn), next);
    }

    pub(super) fn commit_durable(&mut self, txn: TxnId, out: &mut Out<P>) {
        let phase = self.votes.get(&txn).cloned();
        let Some(Phase::Committing { vote, coordinator }) = phase else {
            unreachable!("{txn} has committed in {phase:?}");
        };
        let (shard, commit) = (self.shard, true);
        self.committed.insert(txn);
        out.observe(Observation::Resolved { txn, shard, commit });
        self.finish(&vote, commit, out);
        self.forget(txn, out);
        out.send(coordinator, P::ack(txn, shard));
    }

    /// Makes the effects of a prepared transaction visible, or undoes them. A protocol calls it for what it decides otherwise
    /// than by [`commit`](Self::commit) and [`abort`](Self::abort), and then [`forget`](Self::forget).
    pub fn finish(&mut self, vote: &Vote<P>, commit: bool, out: &mut Out<P>) {
        let txn = vote.txn;
        if !commit {
            let undone = self.store.rollback_prepared(txn);
            return undone.expect("a prepared transaction can be rolled back");
        }
        let (shard, position) = (self.shard, self.store.next_position());
        out.work(vote.writes.len() as u32);
        let keys = self.store.commit_prepared(position, txn);
        let keys = keys.expect("a prepared transaction commits");
        if !keys.is_empty() {
            out.observe(Observation::Applied {
                txn,
                shard,
                position,
                keys,
            });
        }
    }

    /// Ends a transaction that this participant was in doubt about, by its own decision, which is durable. Returns the vote.
    ///
    /// # Panics
    ///
    /// When it is not in doubt.
    pub fn finish_alone(&mut self, txn: TxnId, commit: bool, out: &mut Out<P>) -> Arc<Vote<P>> {
        let vote = { self.in_doubt(txn) }.expect("nothing else ends the doubt");
        let shard = self.shard;
        out.observe(Observation::DecidedAlone { txn, shard, commit });
        self.finish(&vote, commit, out);
        self.forget(txn, out);
        vote
    }

    /// The first acknowledgement was lost, or a crash came between the record and the words.
    fn acknowledge_again(&mut self, coordinator: Addr, txn: TxnId, out: &mut Out<P>) {
        let (shard, commit) = (self.shard, true);
        out.observe(Observation::Resolved { txn, shard, commit });
        out.send(coordinator, P::ack(txn, shard));
    }

    /// Told to abort: lazily recorded and not acknowledged, because whoever loses it asks again.
    pub fn abort(&mut self, txn: TxnId, why: AbortReason, out: &mut Out<P>) {
        let Some(phase) = self.votes.get_mut(&txn) else {
            return self.forget(txn, out);
        };
        match phase {
            Phase::Preparing { doomed, .. } => *doomed = Some(why),
            Phase::Prepared(vote) => {
                let vote = Arc::clone(vote);
                let (shard, commit) = (self.shard, false);
                self.journal.write_lazily(Record::Aborted(txn));
                self.finish(&vote, commit, out);
                self.aborted.insert(txn);
                out.observe(Observation::Resolved { txn, shard, commit });
                self.forget(txn, out);
                if let Some(Origin { client, .. }) = &vote.origin {
                    self.refuse(txn, Outcome::Aborted { why }, *client);
                }
            }
            Phase::Committing { .. } => {
                assert!(zoo::any(), "{txn} is aborted for {why:?} while it commits")
            }
        }
    }

    /// Releases all locks of a transaction and drops it.
    pub fn forget(&mut self, txn: TxnId, out: &mut Out<P>) {
        if self.votes.remove(&txn).is_some() {
            out.cancel_timer(P::inquiry(txn));
            self.own.on_forget(txn, out);
        }
        self.execute(out, |execution, around, out| {
            execution.forget(txn, around, out);
        });
    }

    /// A decision that a protocol's own record holds: late duplicates are told apart.
    pub fn remember(&mut self, txn: TxnId, commit: bool) {
        let known = if commit {
            &mut self.committed
        } else {
            &mut self.aborted
        };
        known.insert(txn);
    }
}
