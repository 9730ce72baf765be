//! The initiating participant's part: answering clients, and beginning the commit phase of what was executed.

use std::sync::Arc;

use super::participant::{Origin, Participant, Record, Then};
use super::{Message, Out, Start};
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::process::{Addr, WallTime};
use crate::base::txn::{Read, Txn, TxnId, Write, WriteId};
use crate::protocol::kit::client::ClientMessage;
use crate::protocol::kit::execution::{End, Executed};

/// How many committed transactions' reads are kept for replies that got lost.
const REPLIES_KEPT: usize = 1_024;

impl Participant {
    // Requests and replies.

    pub(super) fn on_request(&mut self, now: WallTime, client: Addr, txn: Arc<Txn>, out: &mut Out) {
        let id = txn.id;
        if let Some(outcome) = self.refused.get(&id) {
            let (outcome, txn, commit) = (outcome.clone(), id, false);
            out.observe(Observation::Ended { txn, commit });
            return self.reply(id, client, outcome, out);
        }
        if self.mixed.contains(&id) {
            return self.reply_mixed(id, client, out);
        }
        if self.committed.contains(&id) {
            out.observe(Observation::Mark("2pc.reply-repeated"));
            let reads = self.replies.get(&id).cloned().unwrap_or_default();
            return self.reply(id, client, Outcome::Committed { reads }, out);
        }
        let is_open = self.execution.is_running(id) || self.ending.contains(&id);
        if is_open || self.alone.contains_key(&id) || self.is_initiator_of(id) {
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

    pub(super) fn reply(&mut self, txn: TxnId, client: Addr, outcome: Outcome, out: &mut Out) {
        out.send(
            client,
            Message::Client(ClientMessage::Reply { txn, outcome }),
        );
    }

    pub(super) fn reply_committed(
        &mut self,
        txn: TxnId,
        client: Addr,
        reads: Vec<Read>,
        out: &mut Out,
    ) {
        self.replies.insert(txn, reads.clone());
        if self.replies.len() > REPLIES_KEPT {
            self.replies.pop_first();
        }
        self.reply(txn, client, Outcome::Committed { reads }, out);
    }

    /// Ends a transaction that takes no effect: durably first, then the client learns of it.
    pub(super) fn refuse(&mut self, txn: TxnId, outcome: Outcome, client: Addr) {
        let record = Record::Refused {
            txn,
            outcome: outcome.clone(),
        };
        let then = Then::Refused {
            txn,
            outcome,
            client,
        };
        self.journal.force(record, then);
    }

    pub(super) fn refusal_durable(
        &mut self,
        txn: TxnId,
        outcome: Outcome,
        client: Addr,
        out: &mut Out,
    ) {
        self.ending.remove(&txn);
        self.refused.insert(txn, outcome.clone());
        let commit = false;
        out.observe(Observation::Ended { txn, commit });
        self.reply(txn, client, outcome, out);
    }

    /// Whether this participant has begun the commit phase of the transaction, which has not ended.
    fn is_initiator_of(&self, txn: TxnId) -> bool {
        { self.votes.get(&txn) }.is_some_and(|phase| phase.any_vote().origin.is_some())
    }

    // The commit phase begins.

    pub(super) fn on_end(&mut self, end: End) {
        match end {
            End::Executed(executed) => self.begin_commit(executed),
            End::Refused {
                txn,
                client,
                outcome,
            } => {
                self.ending.insert(txn);
                self.refuse(txn, outcome, client);
            }
        }
    }

    fn begin_commit(&mut self, executed: Executed) {
        let Executed {
            txn,
            client,
            parts,
            reads,
        } = executed;
        let mine = { parts.iter() }.find(|part| part.shard == self.shard);
        let writes = mine.expect("the initiator takes part").writes.clone();
        if self.site.options.one_participant_optimisation && parts.len() == 1 {
            return self.commit_alone(txn, client, writes, reads);
        }
        let start = Start {
            txn,
            initiator: self.shard,
            incarnation: self.incarnation,
            parts,
        };
        let peers = start.stayers(&self.site.options);
        let start = Arc::new(start);
        let origin = Origin {
            start,
            client,
            reads,
        };
        let manager = self.site.manager(self.shard);
        self.vote(txn, manager, peers, writes, Some(origin));
    }

    fn commit_alone(&mut self, txn: TxnId, client: Addr, writes: Vec<Write>, reads: Vec<Read>) {
        self.execution.keep(txn);
        self.ending.insert(txn);
        let record = Record::CommittedAlone {
            txn,
            writes: writes.clone(),
        };
        let then = Then::CommittedAlone {
            txn,
            writes,
            client,
            reads,
        };
        self.journal.force(record, then);
    }

    pub(super) fn alone_durable(&mut self, txn: TxnId, writes: &[Write], out: &mut Out) {
        let (shard, commit, position) = (self.shard, true, self.store.next_position());
        let keys = self
            .store
            .apply(position, WriteId { txn, undo: false }, writes);
        self.committed.insert(txn);
        self.ending.remove(&txn);
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
}
