//! Heuristic decisions: a participant that has been in doubt for too long decides alone.
//!
//! Sources: X/Open, "Distributed Transaction Processing: The XA Specification" (C193, 1991), section 2.3 and
//! `xa_commit` (`XA_HEURCOM`, `XA_HEURRB`, `XA_HEURMIX`); Mohan, Lindsay and Obermarck, TODS 11(4), 1986, section 1.
//!
//! The participant records what it does by force, does it, and gives its locks away. It keeps asking for the decision,
//! because whoever decided alone owes a report: once the decision is known, it records that too, and either nothing was
//! lost or the transaction is *mixed*. To the coordinator it says only that it knows; who asked for the transaction
//! learns of a mixed one that nobody can tell how it ended.
//!
//! Breaking atomicity on purpose is what this is for, so the protocol then promises it for all transactions but those
//! that a participant decided alone, and no isolation.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::participant::{Member, Participant, Vote};
use super::{Message, Out, Timer};
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::process::{Addr, Delay};
use crate::base::txn::TxnId;
use crate::protocol::kit::participant::Origin;
use crate::protocol::kit::replies::reply;

/// What a participant does that has been in doubt for too long.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Heuristic {
    /// It waits: two-phase commit as its authors have it.
    #[default]
    Wait,
    /// It commits.
    Commit,
    /// It rolls back.
    Abort,
}

/// What a participant's log holds of what it decides alone.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Record {
    /// Decided, after too long in doubt. Forced before it is done.
    Decided {
        /// The transaction.
        txn: TxnId,
        /// What is done.
        commit: bool,
    },
    /// The decision on what was decided alone. Forced before the coordinator may forget.
    Learned {
        /// The transaction.
        txn: TxnId,
        /// The decision.
        commit: bool,
        /// Whether that was otherwise.
        mixed: bool,
    },
}

/// What follows a forced record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Continuation {
    /// The effects and the locks.
    Decided(TxnId),
    /// The acknowledgement and the reply.
    Learned {
        /// The transaction.
        txn: TxnId,
        /// The decision, and how it became known.
        decision: Decision,
    },
}

/// What a checkpoint keeps.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    /// What was decided alone and is not learned yet, and what was done.
    pub(super) alone: Vec<(Arc<Vote>, bool)>,
    /// What was decided otherwise.
    pub(super) mixed: BTreeSet<TxnId>,
}

/// This participant's own decision is on its way to the disk. It is in doubt as long.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Deciding {
    commit: bool,
    /// The coordinator's, if that has overtaken it.
    told: Option<Decision>,
}

/// A transaction that this participant has decided alone and whose decision it has not recorded yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Alone {
    pub(super) vote: Arc<Vote>,
    /// What was done.
    commit: bool,
    /// The decision is known and on its way to the disk.
    told: bool,
}

impl Alone {
    /// What a checkpoint keeps.
    pub(super) fn kept(&self) -> (Arc<Vote>, bool) {
        (Arc::clone(&self.vote), self.commit)
    }

    /// Whether it committed.
    pub(super) fn did(&self) -> bool {
        self.commit
    }
}

/// The decision, and how it became known.
pub(super) type Decision = (bool, AbortReason);

impl Member {
    pub(super) fn keep_decided_alone(&mut self, vote: Arc<Vote>, commit: bool) {
        let (txn, told) = (vote.txn, false);
        let alone = Alone { vote, commit, told };
        self.alone.insert(txn, alone);
    }
}

impl Participant {
    /// In doubt from now on: arms the patience, where it is limited.
    pub(super) fn limit_doubt(&self, txn: TxnId, out: &mut Out) {
        let options = self.options();
        if options.heuristic != Heuristic::Wait {
            let patience = options.heuristic_after_ms.about();
            out.set_timer(Timer::Heuristic(txn), patience);
        }
    }

    /// In doubt for too long.
    pub(super) fn decide_alone(&mut self, txn: TxnId, out: &mut Out) {
        if self.in_doubt(txn).is_none() || self.own.deciding.contains_key(&txn) {
            return;
        }
        let commit = self.options().heuristic == Heuristic::Commit;
        let deciding = Deciding { commit, told: None };
        self.own.deciding.insert(txn, deciding);
        out.observe(Observation::Mark("2pc.heuristic-decision"));
        self.force_decided_alone(txn);
    }

    pub(super) fn force_decided_alone(&mut self, txn: TxnId) {
        let commit = self.own.deciding[&txn].commit;
        self.force(Record::Decided { txn, commit }, Continuation::Decided(txn));
    }

    /// The record is durable: the effects and the locks follow.
    pub(super) fn decided_alone(&mut self, txn: TxnId, out: &mut Out) {
        let deciding = self.own.deciding.remove(&txn);
        let Deciding { commit, told } = deciding.expect("it was being decided");
        let vote = self.finish_alone(txn, commit, out);
        self.own.keep_decided_alone(vote, commit);
        match told {
            Some(decision) => self.learn(txn, decision, out),
            None => out.set_timer(Timer::Inquire(txn), Delay::exactly(0)),
        }
    }

    /// The decision on a transaction that was decided alone, or is being; whether it was one.
    pub(super) fn learn_late(&mut self, txn: TxnId, decision: Decision, out: &mut Out) -> bool {
        if let Some(deciding) = self.own.deciding.get_mut(&txn) {
            deciding.told = Some(decision);
            return true;
        }
        let is_known = self.own.alone.contains_key(&txn);
        if is_known {
            self.learn(txn, decision, out);
        }
        is_known
    }

    fn learn(&mut self, txn: TxnId, decision: Decision, out: &mut Out) {
        let alone = { self.own.alone.get_mut(&txn) }.expect("it was decided alone");
        if !std::mem::replace(&mut alone.told, true) {
            out.cancel_timer(Timer::Inquire(txn));
            self.force_learned(txn, decision);
        }
    }

    pub(super) fn force_learned(&mut self, txn: TxnId, decision: Decision) {
        let (commit, _) = decision;
        let mixed = self.own.alone[&txn].commit != commit;
        let record = Record::Learned { txn, commit, mixed };
        self.force(record, Continuation::Learned { txn, decision });
    }

    /// The coordinator may forget it now.
    pub(super) fn learned(&mut self, txn: TxnId, (commit, why): Decision, out: &mut Out) {
        let Alone {
            vote, commit: did, ..
        } = self.own.alone.remove(&txn).expect("it was decided alone");
        let mixed = did != commit;
        let shard = self.shard();
        self.note_learned(txn, commit, mixed);
        out.observe(Observation::Resolved { txn, shard, commit });
        if mixed {
            out.observe(Observation::Mark("2pc.heuristic-mixed"));
        }
        if commit {
            out.send(vote.own.manager, Message::Ack { txn, shard });
        }
        match &vote.origin {
            Some(Origin { client, .. }) if mixed => self.reply_mixed(txn, *client, out),
            Some(Origin { client, reads, .. }) if commit => {
                self.reply_committed(txn, *client, reads.clone(), out);
            }
            Some(Origin { client, .. }) => self.refuse(txn, Outcome::Aborted { why }, *client),
            None => {}
        }
    }

    /// After a restart: the crash may have come between the record and the words, and the decision is still owed.
    pub(super) fn recall_alone(&self, out: &mut Out) {
        for (txn, alone) in &self.own.alone {
            let (txn, shard, commit) = (*txn, self.shard(), alone.commit);
            out.observe(Observation::DecidedAlone { txn, shard, commit });
            out.set_timer(Timer::Inquire(txn), Delay::exactly(0));
        }
    }

    /// The initiator has done otherwise than was decided. Of an abort nobody else may know: peers tell one another, and a
    /// manager forgets.
    pub(super) fn reply_mixed(&mut self, txn: TxnId, client: Addr, out: &mut Out) {
        if self.has_aborted(txn) {
            let commit = false;
            out.observe(Observation::Ended { txn, commit });
        }
        reply(client, txn, Outcome::Unknown, out);
    }

    fn note_learned(&mut self, txn: TxnId, commit: bool, mixed: bool) {
        self.remember(txn, commit);
        if mixed {
            self.own.mixed.insert(txn);
        }
    }

    pub(super) fn replay_alone(&mut self, record: Record) {
        match record {
            Record::Decided { txn, commit } => {
                let vote = self.replay_end(txn, commit).expect("a vote precedes it");
                self.own.keep_decided_alone(vote, commit);
            }
            Record::Learned { txn, commit, mixed } => {
                self.own.alone.remove(&txn);
                self.note_learned(txn, commit, mixed);
            }
        }
    }
}
