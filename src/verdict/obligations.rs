//! What a protocol owes, followed while a run goes on or read from its observations afterwards.
//!
//! - A client is owed an *answer* from its request on, until it has one or gives up (`client-give-up-ms` of a protocol).
//! - A transaction is owed an *end* from the moment at which the protocol took charge of it.
//!
//! One kind of transaction is *forgotten* and owed nothing: its client has given up, it was never decided, none of its effects
//! was applied, and no shard is in doubt about it. A coordinator that crashes may forget what it was only executing, and learns of
//! it again because the client asks again. If the client no longer asks, nobody can tell such a transaction from one that was
//! never sent. (Locks that it still holds are another matter: others wait for them, and they are owed their answers.)

use std::collections::{BTreeMap, BTreeSet};

use crate::base::observation::{Observation, Outcome};
use crate::base::txn::{ShardId, TxnId};

/// What is owed to each transaction of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Obligations {
    by_txn: BTreeMap<TxnId, Obligation>,
    /// How many are owed an end.
    open: usize,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Obligation {
    client: Client,
    initiated: bool,
    ended: bool,
    /// It was decided, or an effect was applied.
    left_traces: bool,
    in_doubt: BTreeSet<ShardId>,
}

/// What a transaction's client is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Client {
    #[default]
    HasNotAsked,
    Waits,
    WasAnswered,
    GaveUp,
}

impl Obligation {
    fn is_forgotten(&self) -> bool {
        self.client == Client::GaveUp && !self.left_traces && self.in_doubt.is_empty()
    }

    fn is_open(&self) -> bool {
        self.initiated && !self.ended && !self.is_forgotten()
    }

    fn observe(&mut self, what: &Observation) {
        match what {
            Observation::Invoked { .. } if self.client == Client::HasNotAsked => {
                self.client = Client::Waits;
            }
            Observation::Returned { outcome, .. } => {
                self.client = match outcome {
                    Outcome::Unknown => Client::GaveUp,
                    _ => Client::WasAnswered,
                };
            }
            Observation::Initiated { .. } => self.initiated = true,
            Observation::Ended { .. } => self.ended = true,
            Observation::Decided { .. } | Observation::Applied { .. } => self.left_traces = true,
            Observation::Voted {
                shard, yes: true, ..
            } => {
                self.in_doubt.insert(*shard);
            }
            Observation::Resolved { shard, .. } | Observation::DecidedAlone { shard, .. } => {
                self.in_doubt.remove(shard);
            }
            _ => {}
        }
    }
}

impl Obligations {
    /// Takes notice of an observation.
    pub fn observe(&mut self, what: &Observation) {
        let Some(txn) = what.txn() else { return };
        let obligation = self.by_txn.entry(txn).or_default();
        let before = obligation.is_open();
        obligation.observe(what);
        match (before, obligation.is_open()) {
            (false, true) => self.open += 1,
            (true, false) => self.open -= 1,
            _ => {}
        }
    }

    /// Whether no transaction is owed an end.
    pub fn all_ended(&self) -> bool {
        self.open == 0
    }

    /// Whether a transaction is owed an end.
    pub fn owes_end(&self, txn: TxnId) -> bool {
        self.by_txn.get(&txn).is_some_and(Obligation::is_open)
    }

    /// Whether a client waits for an answer.
    pub fn owes_answer(&self, txn: TxnId) -> bool {
        let client = self.by_txn.get(&txn).map(|obligation| obligation.client);
        client == Some(Client::Waits)
    }

    /// Whether its client gave up.
    pub fn was_given_up(&self, txn: TxnId) -> bool {
        let client = self.by_txn.get(&txn).map(|obligation| obligation.client);
        client == Some(Client::GaveUp)
    }

    /// Whether the protocol took charge of it, and may still be held to that.
    pub fn is_in_charge(&self, txn: TxnId) -> bool {
        let charged = |o: &Obligation| o.initiated && (o.ended || !o.is_forgotten());
        self.by_txn.get(&txn).is_some_and(charged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: TxnId = TxnId(7);
    const SHARD: ShardId = ShardId(0);

    fn after(observations: &[Observation]) -> Obligations {
        let mut obligations = Obligations::default();
        observations
            .iter()
            .for_each(|what| obligations.observe(what));
        obligations
    }

    fn asked() -> Observation {
        Observation::Invoked { txn: T, session: 0 }
    }

    fn returned(outcome: Outcome) -> Observation {
        Observation::Returned {
            txn: T,
            session: 0,
            outcome,
        }
    }

    fn voted() -> Observation {
        Observation::Voted {
            txn: T,
            shard: SHARD,
            yes: true,
        }
    }

    #[test]
    fn an_answer_is_owed_whether_or_not_the_protocol_has_heard_of_the_request() {
        let waiting = after(&[asked()]);
        assert!(waiting.owes_answer(T) && !waiting.owes_end(T) && waiting.all_ended());
        let begun = after(&[asked(), Observation::Initiated { txn: T }]);
        assert!(begun.owes_answer(T) && begun.owes_end(T) && !begun.all_ended());
    }

    #[test]
    fn a_transaction_that_left_nothing_is_owed_nothing_once_its_client_gave_up() {
        let begun = [asked(), Observation::Initiated { txn: T }];
        let gave_up = after(&[&begun[..], &[returned(Outcome::Unknown)]].concat());
        assert!(!gave_up.owes_end(T) && gave_up.all_ended() && gave_up.was_given_up(T));
        assert!(!gave_up.is_in_charge(T));
        let answered = returned(Outcome::Declined { guard: 0 });
        let answered = after(&[&begun[..], &[answered]].concat());
        assert!(answered.owes_end(T), "whoever answers is still there");
    }

    #[test]
    fn doubt_decisions_and_effects_are_owed_an_end_whoever_waits() {
        let begun = [
            asked(),
            Observation::Initiated { txn: T },
            returned(Outcome::Unknown),
        ];
        let (txn, shard, commit) = (T, SHARD, true);
        let applied = Observation::Applied {
            txn,
            shard,
            position: 1,
            keys: Vec::new(),
        };
        for trace in [voted(), Observation::Decided { txn, commit }, applied] {
            let mut left = after(&[&begun[..], &[trace]].concat());
            assert!(left.owes_end(T) && !left.all_ended() && left.is_in_charge(T));
            left.observe(&Observation::Ended { txn, commit });
            assert!(!left.owes_end(T) && left.all_ended());
        }
        let resolved = Observation::Resolved {
            txn,
            shard,
            commit: false,
        };
        let learned = after(&[&begun[..], &[voted(), resolved]].concat());
        assert!(!learned.owes_end(T), "nobody is in doubt any more");
    }
}
