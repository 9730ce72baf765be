//! Heuristic decisions: a resource manager that has been prepared for too long decides alone.
//!
//! Source: X/Open C193, section 2.3 (heuristic branch completion), `xa_commit`, `xa_rollback`, `xa_recover` and `xa_forget`.
//!
//! The resource manager forces what it decides, does it, and gives its locks away. It tells nobody. The transaction manager
//! learns of it from the return of its next call, records it, and says that it may be forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::resource_manager::{Branch, ResourceManager, Vote, xid_of};
use super::{Call, Code, Message, Out, Timer, Xid};
use crate::base::observation::Observation;
use crate::base::process::Addr;
use crate::base::txn::TxnId;

/// What a resource manager does that has been prepared for too long.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Heuristic {
    /// It rolls back.
    #[default]
    Rollback,
    /// It commits.
    Commit,
}

/// What a resource manager's log holds of what it decides alone.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Record {
    /// Decided, after too long. Forced before it is done.
    Decided {
        /// The transaction.
        txn: TxnId,
        /// What is done.
        commit: bool,
    },
    /// What was decided is forgotten, as told or by an operator.
    Forgotten {
        /// The transaction.
        txn: TxnId,
    },
}

/// What follows a forced record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Continuation {
    /// The effects and the locks.
    Decided(TxnId),
    /// The memory.
    Forgotten(TxnId),
}

/// What a checkpoint keeps.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    /// What was decided alone and is not forgotten, and what was done.
    pub(super) alone: Vec<(Arc<Vote>, bool)>,
    /// What was decided alone and is forgotten.
    pub(super) forgotten: BTreeSet<TxnId>,
}

/// A branch that was decided alone.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Alone {
    pub(super) vote: Arc<Vote>,
    /// What was done.
    pub(super) commit: bool,
    /// The record that it is forgotten is on its way to the disk.
    forgetting: bool,
}

impl Branch {
    pub(super) fn keep_decided_alone(&mut self, vote: Arc<Vote>, commit: bool) {
        let (txn, forgetting) = (vote.txn, false);
        let alone = Alone {
            vote,
            commit,
            forgetting,
        };
        self.alone.insert(txn, alone);
    }
}

impl ResourceManager {
    /// Prepared from now on: arms the patience, where it is limited.
    pub(super) fn limit_doubt(&self, txn: TxnId, out: &mut Out) {
        let patience = self.options().heuristic_ms;
        if patience.ns() > 0 {
            out.set_timer(Timer::Heuristic(txn), patience.about());
        }
    }

    /// Prepared for too long.
    pub(super) fn decide_alone(&mut self, txn: TxnId, out: &mut Out) {
        if self.in_doubt(txn).is_none() || self.own.deciding.contains_key(&txn) {
            return;
        }
        let commit = self.options().heuristic == Heuristic::Commit;
        self.own.deciding.insert(txn, commit);
        out.observe(Observation::Mark("xa.heuristic-decision"));
        self.force_decided_alone(txn);
    }

    pub(super) fn force_decided_alone(&mut self, txn: TxnId) {
        let commit = self.own.deciding[&txn];
        self.force(Record::Decided { txn, commit }, Continuation::Decided(txn));
    }

    /// The record is durable: the effects and the locks follow.
    pub(super) fn decided_alone(&mut self, txn: TxnId, out: &mut Out) {
        let commit = { self.own.deciding.remove(&txn) }.expect("it was being decided");
        let vote = self.finish_alone(txn, commit, out);
        self.own.keep_decided_alone(vote, commit);
        self.expect_operator(txn, out);
    }

    fn expect_operator(&self, txn: TxnId, out: &mut Out) {
        let purge = self.options().purge_ms;
        if purge.ns() > 0 {
            out.set_timer(Timer::Purge(txn), purge.about());
        }
    }

    /// Called for a branch that was decided alone, or is being: returns what was done. Whether it was such a branch.
    pub(super) fn report_alone(
        &mut self,
        manager: Addr,
        call: Call,
        xid: Xid,
        out: &mut Out,
    ) -> bool {
        let (txn, shard) = (xid.txn, self.shard());
        if self.own.deciding.contains_key(&txn) {
            return true; // The call is made again.
        }
        let Some(alone) = { self.own.alone.get(&txn) }.filter(|alone| xid_of(&alone.vote) == xid)
        else {
            return false;
        };
        let code = if alone.commit {
            Code::HeurCom
        } else {
            Code::HeurRb
        };
        let commit = call == Call::Commit;
        out.observe(Observation::Resolved { txn, shard, commit });
        out.send(
            manager,
            Message::Return {
                call,
                xid,
                shard,
                code,
            },
        );
        true
    }

    /// `xa_forget`, or an operator.
    pub(super) fn forget_alone(&mut self, txn: TxnId, mark: &'static str, out: &mut Out) {
        if let Some(alone) = self.own.alone.get_mut(&txn)
            && !std::mem::replace(&mut alone.forgetting, true)
        {
            out.observe(Observation::Mark(mark));
            self.force_forgotten(txn);
        }
    }

    pub(super) fn force_forgotten(&mut self, txn: TxnId) {
        self.force(Record::Forgotten { txn }, Continuation::Forgotten(txn));
    }

    pub(super) fn forgotten_alone(&mut self, txn: TxnId, out: &mut Out) {
        out.cancel_timer(Timer::Purge(txn));
        self.replay_alone(Record::Forgotten { txn });
    }

    /// After a restart: the crash may have come between the record and the words.
    pub(super) fn recall_alone(&self, out: &mut Out) {
        for (txn, alone) in &self.own.alone {
            let (txn, shard, commit) = (*txn, self.shard(), alone.commit);
            out.observe(Observation::DecidedAlone { txn, shard, commit });
            self.expect_operator(txn, out);
        }
    }

    pub(super) fn replay_alone(&mut self, record: Record) {
        match record {
            Record::Decided { txn, commit } => {
                let vote = self.replay_end(txn, commit).expect("a vote precedes it");
                self.own.keep_decided_alone(vote, commit);
            }
            Record::Forgotten { txn } => {
                self.own.alone.remove(&txn);
                self.own.forgotten.insert(txn);
            }
        }
    }
}
