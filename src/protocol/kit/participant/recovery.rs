//! The log: what follows a record, and what a restart makes of it. Whatever has a vote and no decision is in doubt again, with
//! its locks.

use std::sync::Arc;

use super::{Commitment, Continuation, Out, Participant, Phase, RECOVERED_IN_DOUBT, Record, Vote};
use crate::base::observation::Observation;
use crate::base::process::{Addr, Delay, WallTime};
use crate::base::txn::{TxnId, WriteId};
use crate::base::zoo::{self, Bug};
use crate::protocol::kit::durable::Durable;
use crate::protocol::kit::journal::Journal;

impl<P: Commitment> Durable<Record<P>, Continuation<P>> for Participant<P> {
    const DAMAGED: &'static str = P::DAMAGED;

    fn journal(&mut self) -> &mut Journal<Record<P>, Continuation<P>> {
        &mut self.journal
    }

    fn checkpoint(&self) -> Record<P> {
        Record::Checkpoint {
            boot: self.incarnation.number(),
            store: Box::new(self.store.clone()),
            prepared: { self.votes.values() }
                .filter(|_| !zoo::planted(Bug::CheckpointDropsVotes))
                .filter_map(|phase| phase.vote().map(Arc::clone))
                .collect(),
            committed: self.committed.clone(),
            aborted: self.aborted.clone(),
            refused: self.replies.refusals().clone(),
            own: self.own.checkpoint(),
        }
    }

    fn on_message(&mut self, now: WallTime, from: Addr, message: P::Message, out: &mut Out<P>) {
        if let Some(message) = self.incarnation.admit(from, message) {
            P::on_message(self, now, from, message, out);
        }
    }

    fn on_timer(&mut self, timer: P::Timer, out: &mut Out<P>) {
        P::on_timer(self, timer, out);
    }

    fn on_durable(&mut self, now: WallTime, next: Continuation<P>, out: &mut Out<P>) {
        match next {
            Continuation::Boot => self.serve(now, out),
            Continuation::Voted(txn) => self.vote_durable(txn, out),
            Continuation::Committed(txn) => self.commit_durable(txn, out),
            Continuation::CommittedAlone(alone) => {
                self.alone_durable(alone.txn, &alone.writes, out);
                P::on_alone(self, alone, true, out);
            }
            Continuation::Refused {
                txn,
                outcome,
                client,
            } => self.refusal_durable(txn, outcome, client, out),
            Continuation::Own(next) => P::on_durable(self, next, out),
        }
    }

    /// What a failed flush took for certain: a vote becomes a no, everything else is tried again.
    fn on_lost(&mut self, next: Continuation<P>, out: &mut Out<P>) {
        match next {
            Continuation::Boot => self.journal.force(Record::Boot, next),
            Continuation::Voted(txn) => self.vote_lost(txn, out),
            Continuation::Committed(txn) => self.force_commit(txn),
            Continuation::CommittedAlone(alone) => {
                self.forget(alone.txn, out);
                P::on_alone(self, alone, false, out);
            }
            Continuation::Refused {
                txn,
                outcome,
                client,
            } => self.refuse(txn, outcome, client),
            Continuation::Own(next) => P::on_lost(self, next, out),
        }
    }

    /// What it says to itself.
    fn settle(&mut self, now: WallTime, out: &mut Out<P>) {
        while let Some(message) = self.execution.next_to_self() {
            self.on_execution(now, self.me, message, out);
        }
    }

    fn recover(&mut self, records: Vec<Record<P>>, out: &mut Out<P>) {
        let shard = self.shard;
        for record in records {
            if let Record::CommittedAlone { txn, .. } = record {
                // Stated again, because the crash may have come between the record and the words.
                let commit = true;
                out.observe(Observation::Decided { txn, commit });
                out.observe(Observation::Resolved { txn, shard, commit });
                out.observe(Observation::Ended { txn, commit });
            }
            self.replay(record);
        }
        for txn in self.voted().collect::<Vec<_>>() {
            let vote = { self.in_doubt(txn) }.expect("only votes are recovered");
            if !zoo::planted(Bug::LocksLostAtRestart) {
                self.execution.retake(txn, vote.locks.iter().copied());
            }
            let yes = true;
            out.observe(Observation::Mark(P::MARKS[RECOVERED_IN_DOUBT].0));
            out.observe(Observation::Voted { txn, shard, yes });
            out.observe(Observation::Locked { txn, shard });
            out.set_timer(P::inquiry(txn), Delay::exactly(0));
            P::on_doubt(self, txn, out);
        }
        P::on_recovered(self, out);
        self.journal.force(Record::Boot, Continuation::Boot);
    }
}

impl<P: Commitment> Participant<P> {
    fn replay(&mut self, record: Record<P>) {
        match record {
            Record::Boot => self.incarnation.replay(),
            Record::Prepared(vote) => {
                let staged = self.store.prepare(vote.txn, &vote.writes);
                staged.expect("a prepared transaction had its rows to itself");
                self.recover_vote(vote);
            }
            Record::Committed(txn) => {
                self.replay_end(txn, true);
                self.committed.insert(txn);
            }
            Record::Aborted(txn) => {
                // A checkpoint that came between the abort and this record has dropped it already.
                if self.votes.contains_key(&txn) {
                    self.replay_end(txn, false);
                }
                self.aborted.insert(txn);
            }
            Record::CommittedAlone { txn, writes } => {
                let position = self.store.next_position();
                let writer = WriteId { txn, undo: false };
                self.store.apply(position, writer, &writes);
                self.committed.insert(txn);
            }
            Record::Refused { txn, outcome } => self.replies.refused(txn, outcome),
            Record::Own(record) => P::replay(self, record),
            Record::Checkpoint {
                boot,
                store,
                prepared,
                committed,
                aborted,
                refused,
                own,
            } => {
                self.incarnation.restore(boot);
                self.store = *store;
                self.committed = committed;
                self.aborted = aborted;
                self.replies.restore(refused);
                self.own.restore(own);
                prepared
                    .into_iter()
                    .for_each(|vote| self.recover_vote(vote));
            }
        }
    }

    fn recover_vote(&mut self, vote: Arc<Vote<P>>) {
        self.execution
            .recover(vote.txn, vote.stamp, vote.attempt, vote.initiator);
        self.votes.insert(vote.txn, Phase::Prepared(vote));
    }

    /// After a restart: the log says how a transaction ended for which it had voted. Returns the vote, if the log has it.
    pub fn replay_end(&mut self, txn: TxnId, commit: bool) -> Option<Arc<Vote<P>>> {
        self.execution.recover_end(txn);
        let phase = self.votes.remove(&txn);
        let position = self.store.next_position();
        let done = if commit {
            self.store.commit_prepared(position, txn).map(drop)
        } else {
            self.store.rollback_prepared(txn)
        };
        done.expect("a decision follows its vote");
        phase.and_then(|phase| phase.vote().cloned())
    }

    /// This boot is durable: grants made from here on differ from all earlier ones.
    fn serve(&mut self, now: WallTime, out: &mut Out<P>) {
        let early = self.incarnation.begin();
        let boot = self.incarnation.number();
        self.execution.serve(boot);
        if boot > 1 {
            self.own.announce(self.shard, boot, out);
        }
        for (from, message) in early {
            P::on_message(self, now, from, message, out);
        }
    }
}
