//! What clients were told, for requests that come twice.
//!
//! A transaction that takes no effect is *refused*: that is forced first, and then the client learns of it. Otherwise a late
//! duplicate of the request, after a crash, would give it an effect. What a committed transaction read is kept for the latest
//! ones only: a duplicate that is older is answered without it.
//!
//! ```
//! use ordain::base::observation::Outcome;
//! use ordain::base::txn::TxnId;
//! use ordain::protocol::kit::replies::Replies;
//!
//! let txn = TxnId(7);
//! let declined = Outcome::Declined { guard: 0 };
//! let mut replies = Replies::default();
//! replies.ending(txn); // Its record is on the way to the disk:
//! assert!(replies.is_ending(txn) && replies.refusal(txn).is_none());
//! replies.refused(txn, declined.clone());
//! assert_eq!(replies.refusal(txn), Some(&declined));
//!
//! replies.committed(TxnId(8), vec![]);
//! assert_eq!(replies.reads(TxnId(8)), []);
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::client::ClientMessage;
use super::node::Carries;
use crate::base::observation::Outcome;
use crate::base::process::{Addr, Effects};
use crate::base::txn::{Read, TxnId};

/// How many committed transactions' reads are kept for replies that got lost.
pub const READS_KEPT: usize = 1_024;

/// What clients were told, and what is about to be told.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Replies {
    /// Their end is on its way to the disk.
    ending: BTreeSet<TxnId>,
    /// Transactions that took no effect.
    refused: BTreeMap<TxnId, Outcome>,
    /// What the latest committed transactions read.
    reads: BTreeMap<TxnId, Vec<Read>>,
}

impl Replies {
    /// The end of this transaction is on its way to the disk.
    pub fn ending(&mut self, txn: TxnId) {
        self.ending.insert(txn);
    }

    /// The refusal is durable.
    pub fn refused(&mut self, txn: TxnId, outcome: Outcome) {
        self.ending.remove(&txn);
        self.refused.insert(txn, outcome);
    }

    /// The end is durable, or lost, and was not a refusal.
    pub fn ended(&mut self, txn: TxnId) {
        self.ending.remove(&txn);
    }

    /// The transaction has committed.
    pub fn committed(&mut self, txn: TxnId, reads: Vec<Read>) {
        self.reads.insert(txn, reads);
        if self.reads.len() > READS_KEPT {
            self.reads.pop_first();
        }
    }

    /// Whether the transaction's end is on its way to the disk: the answer will come.
    pub fn is_ending(&self, txn: TxnId) -> bool {
        self.ending.contains(&txn)
    }

    /// The transactions whose end is on its way to the disk.
    pub fn all_ending(&self) -> BTreeSet<TxnId> {
        self.ending.clone()
    }

    /// Why the transaction took no effect, if its client was told so.
    pub fn refusal(&self, txn: TxnId) -> Option<&Outcome> {
        self.refused.get(&txn)
    }

    /// What a committed transaction read, as far as that is kept.
    pub fn reads(&self, txn: TxnId) -> Vec<Read> {
        self.reads.get(&txn).cloned().unwrap_or_default()
    }

    /// The refusals, for a checkpoint.
    pub fn refusals(&self) -> &BTreeMap<TxnId, Outcome> {
        &self.refused
    }

    /// Takes up the refusals of a checkpoint.
    pub fn restore(&mut self, refused: BTreeMap<TxnId, Outcome>) {
        self.refused = refused;
    }
}

/// Tells a client how its transaction ended.
pub fn reply<M: Carries<ClientMessage>, T>(
    client: Addr,
    txn: TxnId,
    outcome: Outcome,
    out: &mut Effects<M, T>,
) {
    out.send(client, M::wrap(ClientMessage::Reply { txn, outcome }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::observation::AbortReason;

    #[test]
    fn reads_of_the_latest_transactions_are_kept_and_no_more() {
        let mut replies = Replies::default();
        let read = |txn: u64| Read {
            key: crate::protocol::testing::key(0, txn as u32),
            row: crate::base::txn::Row::initial(crate::base::txn::Value::Int(1)),
        };
        for txn in 0..3 * READS_KEPT as u64 {
            replies.committed(TxnId(txn), vec![read(txn)]);
            assert_eq!(replies.reads(TxnId(txn)), [read(txn)]);
            assert!(replies.reads.len() <= READS_KEPT);
        }
        assert!(replies.reads(TxnId(0)).is_empty());
    }

    #[test]
    fn a_refusal_is_told_only_once_it_is_durable_and_survives_a_checkpoint() {
        let (txn, why) = (TxnId(1), AbortReason::VotedNo);
        let mut replies = Replies::default();
        replies.ending(txn);
        assert!(replies.refusal(txn).is_none() && replies.refusals().is_empty());
        replies.refused(txn, Outcome::Aborted { why });
        let mut again = Replies::default();
        again.restore(replies.refusals().clone());
        assert_eq!(again.refusal(txn), Some(&Outcome::Aborted { why }));
        assert!(!again.is_ending(txn));
    }
}
