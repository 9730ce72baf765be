//! The participant's half: a lock table that several attempts share, and that loses no lock to a lost message.

use super::{Around, Attempt, Execution, Grant, LockRequest, Message, Out, Timer};
use crate::base::hlc::Stamp;
use crate::base::observation::Observation;
use crate::base::process::Addr;
use crate::base::txn::{Key, TxnId};
use crate::base::zoo::{self, Bug};
use crate::shard::locks::Mode;

/// Who holds a lock: older transactions are smaller.
pub(super) type Owner = (Stamp, TxnId);

/// A transaction that has or awaits locks here.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Held {
    stamp: Stamp,
    attempt: Attempt,
    initiator: Addr,
    /// What may still be taken away; none once the locks are kept.
    working: Option<Working>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Working {
    round: u8,
    wanted: Vec<(Key, Mode)>,
    grant: Grant,
    wounded: bool,
}

/// Locks that only their owner releases, and whose they are: what a vote records.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Kept {
    /// The transaction's age.
    pub stamp: Stamp,
    /// The attempt that got the locks.
    pub attempt: Attempt,
    /// Whose attempt it is.
    pub initiator: Addr,
    /// The locks.
    pub locks: Vec<(Key, Mode)>,
}

impl Execution {
    pub(super) fn on_lock(
        &mut self,
        from: Addr,
        request: &LockRequest,
        around: &Around<'_>,
        out: &mut Out,
    ) {
        let LockRequest {
            txn,
            attempt,
            stamp,
            ..
        } = *request;
        match self.held.get(&txn) {
            Some(held) if held.attempt > attempt => return, // Late.
            Some(held) if held.attempt < attempt && held.working.is_some() => {
                self.forget(txn, around, out);
            }
            Some(_) | None => {}
        }
        self.grants += 1;
        let grant = Grant {
            boot: self.boot,
            number: self.grants,
        };
        let held = self.held.entry(txn).or_insert_with(|| Held {
            stamp,
            attempt,
            initiator: from,
            working: Some(Working {
                round: request.round,
                wanted: Vec::new(),
                grant,
                wounded: false,
            }),
        });
        let Some(working) = &mut held.working else {
            return; // Late: the vote is cast.
        };
        if working.round > request.round {
            return; // Late.
        }
        working.round = request.round;
        let is_new = working.wanted.len() < request.wanted.len();
        working.wanted.clone_from(&request.wanted);
        if is_new {
            self.request_locks(txn, stamp, &request.wanted, around, out);
        }
        self.answer_if_locked(txn, is_new, around, out);
    }

    fn request_locks(
        &mut self,
        txn: TxnId,
        stamp: Stamp,
        wanted: &[(Key, Mode)],
        around: &Around<'_>,
        out: &mut Out,
    ) {
        out.work(wanted.len() as u32);
        let (shard, _) = around.here();
        let mut answer = self.locks.request((stamp, txn), wanted.iter().copied());
        if zoo::planted(Bug::NoWound) {
            answer.younger_holders.clear();
        }
        for key in answer.waits {
            out.observe(Observation::LockWait { txn, shard, key });
        }
        for (_, younger) in answer.younger_holders {
            let held = { self.held.get_mut(&younger) }.expect("a holder is known");
            if let Some(working) = &mut held.working {
                working.wounded = true;
                let (to, attempt) = (held.initiator, held.attempt);
                let txn = younger;
                self.send(to, Message::Wound { txn, attempt }, around, out);
            }
        }
        if self.held[&txn].initiator != around.me() {
            let probe = around.options.probe_ms.about();
            out.set_timer(Timer::Probe(txn), probe);
        }
    }

    /// Tells the initiator that all locks are held, with what is in the rows; `is_new` for the first time.
    fn answer_if_locked(&mut self, txn: TxnId, is_new: bool, around: &Around<'_>, out: &mut Out) {
        let held = &self.held[&txn];
        let Some(working) = &held.working else {
            return;
        };
        if !self.locks.holds_all((held.stamp, txn)) {
            return;
        }
        let (shard, store) = around.here();
        if is_new {
            out.observe(Observation::Locked { txn, shard });
        }
        let message = Message::Locked {
            txn,
            attempt: held.attempt,
            round: working.round,
            shard,
            grant: working.grant,
            rows: store.reads(working.wanted.iter().map(|(key, _)| key)),
        };
        self.send(held.initiator, message, around, out);
    }

    /// Releases all locks of a transaction and forgets it.
    pub fn forget(&mut self, txn: TxnId, around: &Around<'_>, out: &mut Out) {
        let Some(held) = self.held.remove(&txn) else {
            return;
        };
        let owner = (held.stamp, txn);
        let (shard, _) = around.here();
        if self.locks.holds_all(owner) {
            out.observe(Observation::Unlocked { txn, shard });
        }
        out.cancel_timer(Timer::Probe(txn));
        for (_, ready) in self.locks.release(owner) {
            self.answer_if_locked(ready, true, around, out);
        }
    }

    /// Is a transaction that has locks here and has not been prepared still running? Its initiator, or the
    /// message that was to release it, may have been lost.
    pub(super) fn probe(&mut self, txn: TxnId, around: &Around<'_>, out: &mut Out) {
        let Some(held) = self.held.get(&txn) else {
            return;
        };
        let Some(working) = &held.working else {
            return;
        };
        let (to, attempt) = (held.initiator, held.attempt);
        let holds_nothing = working.wanted.len() == 1 && !self.locks.holds_all((held.stamp, txn));
        let question = if working.wounded {
            Message::Wound { txn, attempt }
        } else {
            Message::Probe { txn, attempt }
        };
        if !holds_nothing {
            self.send(to, question, around, out); // Who only waits is in nobody's way.
        }
        out.set_timer(Timer::Probe(txn), around.options.probe_ms.about());
    }

    /// An initiator has restarted, and forgotten the attempts that it had not voted for.
    pub fn probe_those_of(&mut self, initiator: Addr, around: &Around<'_>, out: &mut Out) {
        let its = { self.held.iter() }.filter(|(_, held)| held.initiator == initiator);
        for txn in its.map(|(txn, _)| *txn).collect::<Vec<_>>() {
            self.probe(txn, around, out);
        }
    }

    pub(super) fn on_release(
        &mut self,
        txn: TxnId,
        attempt: Attempt,
        around: &Around<'_>,
        out: &mut Out,
    ) {
        if let Some(held) = self.held.get(&txn)
            && held.attempt <= attempt
            && held.working.is_some()
        {
            self.forget(txn, around, out);
        }
    }

    // What a commit protocol needs of the lock table.

    /// The grant of a transaction that has or awaits locks which may still be taken away.
    pub fn grant(&self, txn: TxnId) -> Option<Grant> {
        let working = self.held.get(&txn)?.working.as_ref()?;
        Some(working.grant)
    }

    /// Whether the transaction has had its locks since this grant, and may vote.
    pub fn holds_under(&self, txn: TxnId, grant: Grant) -> bool {
        self.grant(txn) == Some(grant)
    }

    /// From here on only [`forget`](Execution::forget) releases the transaction's locks.
    ///
    /// # Panics
    ///
    /// When the transaction does not hold all its locks, or they are kept already.
    pub fn keep(&mut self, txn: TxnId) -> Kept {
        let held = { self.held.get_mut(&txn) }.expect("only who has locks keeps them");
        let owner = (held.stamp, txn);
        assert!(
            self.locks.holds_all(owner),
            "{txn} is prepared without locks"
        );
        let working = held.working.take().expect("locks are kept once");
        Kept {
            stamp: held.stamp,
            attempt: held.attempt,
            initiator: held.initiator,
            locks: working.wanted,
        }
    }

    /// After a restart: the transaction had kept locks. It [takes them again](Execution::retake) once all are known.
    pub fn recover(&mut self, txn: TxnId, stamp: Stamp, attempt: Attempt, initiator: Addr) {
        let held = Held {
            stamp,
            attempt,
            initiator,
            working: None,
        };
        self.held.insert(txn, held);
        self.hlc.raise(stamp);
    }

    /// Drops a recovered transaction whose end is in the log, too.
    pub fn recover_end(&mut self, txn: TxnId) {
        self.held.remove(&txn);
    }

    /// After a restart, a recovered transaction takes its locks again.
    pub fn retake(&mut self, txn: TxnId, locks: impl IntoIterator<Item = (Key, Mode)>) {
        let owner = (self.held[&txn].stamp, txn);
        let answer = self.locks.request(owner, locks);
        assert!(
            answer.waits.is_empty(),
            "prepared transactions held their locks before"
        );
    }

    /// The transactions that have, await or keep locks here.
    pub fn open(&self) -> impl Iterator<Item = TxnId> + '_ {
        self.held.keys().copied()
    }

    /// Whether this participant keeps the locks of an attempt of its own: it is past its execution.
    pub(super) fn keeps_own(&self, txn: TxnId, attempt: Attempt, around: &Around<'_>) -> bool {
        self.held.get(&txn).is_some_and(|held| {
            let is_own = held.initiator == around.me();
            is_own && held.working.is_none() && held.attempt == attempt
        })
    }
}
