//! The acceptor: remembers votes, and promises (Gray and Lamport, section 4.1, and Lamport, "The Part-Time Parliament", TOCS
//! 16(2), 1998).
//!
//! Its memory runs ahead of its disk, and it says nothing before the disk has it. In ballot 0 it waits for the votes of all
//! instances, so that one forced write and one message do for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::coordinator::{Continuation, Coordinator, Record};
use super::{Accepted, Ballot, Decision, Group, Message, Out, Timer, Vote};
use crate::base::observation::Observation;
use crate::base::process::Addr;
use crate::base::txn::{ShardId, TxnId};
use crate::base::zoo::{self, Bug};

/// An acceptor's part in all instances of a transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Acceptor {
    pub(super) group: Arc<Group>,
    /// Nothing of an earlier ballot is accepted any more.
    pub(super) promised: Ballot,
    pub(super) accepted: Accepted,
}

impl Acceptor {
    fn is_complete(&self) -> bool {
        self.accepted.len() == self.group.members.len()
    }
}

impl Coordinator {
    /// What is decided, to somebody who asks by a vote.
    fn answer(&self, to: Addr, txn: TxnId, decision: Decision, out: &mut Out) {
        let message = match decision {
            Decision::Commit => Message::Commit { txn },
            Decision::Abort(why) => Message::Abort { txn, why },
        };
        out.send(to, message);
    }

    /// The acceptor's part, unless the transaction is decided.
    fn acceptor(&mut self, group: &Arc<Group>, out: &mut Out) -> &mut Acceptor {
        if !self.acceptors.contains_key(&group.txn) {
            self.arm_take_over(group, out);
        }
        self.acceptors.entry(group.txn).or_insert_with(|| Acceptor {
            group: Arc::clone(group),
            promised: Ballot::ZERO,
            accepted: Accepted::new(),
        })
    }

    /// Phase 2a of ballot 0: a resource manager's vote.
    pub(super) fn on_prepared(
        &mut self,
        from: Addr,
        group: &Arc<Group>,
        shard: ShardId,
        out: &mut Out,
    ) {
        let txn = group.txn;
        if let Some(decision) = self.decisions.get(&txn) {
            return self.answer(from, txn, *decision, out);
        }
        let acceptor = self.acceptor(group, out);
        if acceptor.promised > Ballot::ZERO {
            return out.observe(Observation::Mark("paxos-commit.overtaken"));
        }
        acceptor
            .accepted
            .insert(shard, (Ballot::ZERO, Vote::Prepared));
        if acceptor.is_complete() {
            // Again for one who is still in doubt: what was said may be lost.
            let ballot = Ballot::ZERO;
            if zoo::planted(Bug::AcceptedNotForced) {
                let record = Record::Acceptor(acceptor.clone());
                self.journal.write_lazily(record);
                return self.accepted(txn, ballot, out);
            }
            self.force(Continuation::Accepted { txn, ballot });
        }
    }

    /// Phase 1a.
    pub(super) fn on_collect(
        &mut self,
        from: Addr,
        group: &Arc<Group>,
        ballot: Ballot,
        out: &mut Out,
    ) {
        let txn = group.txn;
        if let Some(decision) = self.decisions.get(&txn) {
            let (group, decision) = (Arc::clone(group), *decision);
            return out.send(from, Message::Decided { group, decision });
        }
        let acceptor = self.acceptor(group, out);
        if ballot < acceptor.promised {
            return out.observe(Observation::Mark("paxos-commit.overtaken"));
        }
        // Its own time to take over stays as it is: the one who asks may not hear the answer.
        acceptor.promised = ballot;
        let to = from;
        self.force(Continuation::Promised { txn, ballot, to });
    }

    /// Phase 1b, once the promise is durable.
    pub(super) fn promised(&mut self, txn: TxnId, ballot: Ballot, to: Addr, out: &mut Out) {
        let Some(acceptor) = self.acceptors.get(&txn) else {
            return; // It has heard of the end.
        };
        if acceptor.promised != ballot {
            return;
        }
        let accepted = acceptor.accepted.clone();
        if to == self.me {
            return self.begin_collecting(txn, ballot, accepted, out);
        }
        let promise = Message::Promise {
            txn,
            ballot,
            accepted,
        };
        out.send(to, promise);
    }

    /// Phase 2a of a higher ballot.
    pub(super) fn on_propose(
        &mut self,
        from: Addr,
        group: &Arc<Group>,
        ballot: Ballot,
        votes: BTreeMap<ShardId, Vote>,
        out: &mut Out,
    ) {
        let txn = group.txn;
        if let Some(decision) = self.decisions.get(&txn) {
            let (group, decision) = (Arc::clone(group), *decision);
            return out.send(from, Message::Decided { group, decision });
        }
        let acceptor = self.acceptor(group, out);
        if ballot < acceptor.promised {
            return out.observe(Observation::Mark("paxos-commit.overtaken"));
        }
        acceptor.promised = ballot;
        let accepted = votes
            .into_iter()
            .map(|(shard, vote)| (shard, (ballot, vote)));
        acceptor.accepted = accepted.collect();
        self.force(Continuation::Accepted { txn, ballot });
    }

    /// Phase 2b, once what was accepted is durable.
    pub(super) fn accepted(&mut self, txn: TxnId, ballot: Ballot, out: &mut Out) {
        let Some(acceptor) = self.acceptors.get(&txn) else {
            return; // It has heard of the end.
        };
        let group = Arc::clone(&acceptor.group);
        let leader = ballot.leader.unwrap_or(group.leader());
        if ballot == Ballot::ZERO && self.site.options.faster {
            for shard in &group.members {
                let to = self.site.resource_manager(*shard);
                out.send(to, Message::Accepted { txn, ballot });
            }
        } else if leader == self.me {
            self.on_accepted(self.me, txn, ballot, out);
        } else {
            out.send(leader, Message::Accepted { txn, ballot });
        }
    }

    /// The transaction has come to an end.
    pub(super) fn on_end(&mut self, txn: TxnId, decision: Decision, out: &mut Out) {
        let before = self.decisions.insert(txn, decision);
        assert!(
            before.is_none_or(|before| {
                (before == Decision::Commit) == (decision == Decision::Commit)
            }) || zoo::any(),
            "{txn} is decided both ways"
        );
        let is_new = before.is_none() || self.acceptors.contains_key(&txn);
        self.acceptors.remove(&txn);
        self.leading.remove(&txn);
        out.cancel_timer(Timer::TakeOver(txn));
        out.cancel_timer(Timer::Resend(txn));
        if is_new {
            self.journal.write_lazily(Record::End { txn, decision });
        }
    }
}
