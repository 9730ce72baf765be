//! A leader as a participant: its lock table, and prepared transactions (section 4.2.1).

use std::sync::Arc;

use super::group::{Command, Prepared};
use super::replica::{Lead, Replica};
use super::{Age, Attempt, LockRequest, Message, Out, PrepareRequest, Timer};
use crate::base::observation::Observation;
use crate::base::process::{Addr, WallTime};
use crate::base::txn::Key;
use crate::base::zoo;
use crate::shard::locks::Mode;
use crate::shard::versions::Timestamp;

/// Who holds a lock: older transactions are smaller.
pub(super) type Owner = (Age, Attempt);

/// An attempt that has or awaits locks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Holder {
    age: Age,
    /// Who asked for the locks.
    from: Addr,
    round: u8,
    wanted: Vec<(Key, Mode)>,
    /// An older attempt wants one of its locks.
    is_wounded: bool,
    state: State,
}

/// Whether its locks may be taken away.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum State {
    /// They may.
    Working,
    /// This group coordinates it, and it holds all its locks.
    Committing,
    /// Its prepare record is on its way through the log.
    Preparing,
    /// It is prepared.
    Prepared,
    /// The record of the decision is on its way through the log.
    Resolving,
}

impl Replica {
    fn lead(&mut self) -> &mut Lead {
        self.lead.as_mut().expect("it leads")
    }

    pub(super) fn on_lock(&mut self, from: Addr, request: &LockRequest, out: &mut Out) {
        let LockRequest {
            attempt,
            age,
            round,
            ref wanted,
        } = *request;
        let shard = self.group;
        let lead = self.lead();
        let holder = lead.holders.entry(attempt).or_insert_with(|| Holder {
            age,
            from,
            round,
            wanted: Vec::new(),
            is_wounded: false,
            state: State::Working,
        });
        if holder.state != State::Working || holder.round > round {
            return; // Late.
        }
        holder.from = from;
        holder.round = round;
        let is_new = holder.wanted.len() < wanted.len();
        if is_new {
            holder.wanted.clone_from(wanted);
            out.work(wanted.len() as u32);
            let answer = lead.locks.request((age, attempt), wanted.iter().copied());
            for key in answer.waits {
                let txn = attempt.txn;
                out.observe(Observation::LockWait { txn, shard, key });
            }
            let mut wounds = Vec::new();
            for (_, younger) in answer.younger_holders {
                if let Some(holder) = lead.holders.get_mut(&younger)
                    && holder.state == State::Working
                {
                    holder.is_wounded = true;
                    wounds.push((holder.from, Message::Wound { attempt: younger }));
                }
            }
            for (to, wound) in wounds {
                self.send(to, wound, out);
            }
            out.set_timer(
                Timer::Inquire(attempt),
                self.site.options.inquire_ms.about(),
            );
        }
        self.answer_if_locked(attempt, is_new, out);
    }

    /// Tells the coordinator that all locks are held, with what is in the rows; `is_new` for the first time.
    fn answer_if_locked(&mut self, attempt: Attempt, is_new: bool, out: &mut Out) {
        let lead = self.lead.as_ref().expect("it leads");
        let holder = &lead.holders[&attempt];
        if holder.state != State::Working || !lead.locks.holds_all((holder.age, attempt)) {
            return;
        }
        let (txn, shard) = (attempt.txn, self.group);
        if is_new {
            out.observe(Observation::Locked { txn, shard });
        }
        let message = Message::Locked {
            attempt,
            round: holder.round,
            group: self.group,
            term: lead.term,
            rows: self
                .state()
                .newest(holder.wanted.iter().map(|(key, _)| *key)),
        };
        self.send(holder.from, message, out);
    }

    /// Releases all locks of an attempt and forgets it.
    pub(super) fn forget(&mut self, attempt: Attempt, out: &mut Out) {
        let shard = self.group;
        let lead = self.lead();
        let Some(holder) = lead.holders.remove(&attempt) else {
            return;
        };
        let owner = (holder.age, attempt);
        let txn = attempt.txn;
        if lead.locks.holds_all(owner) {
            out.observe(Observation::Unlocked { txn, shard });
        }
        out.cancel_timer(Timer::Inquire(attempt));
        for (_, ready) in lead.locks.release(owner) {
            self.answer_if_locked(ready, true, out);
        }
    }

    pub(super) fn on_release(&mut self, attempt: Attempt, out: &mut Out) {
        let Some(lead) = &self.lead else { return };
        let holder = lead.holders.get(&attempt);
        if holder.is_some_and(|holder| holder.state == State::Working) {
            self.forget(attempt, out);
        }
    }

    /// This group coordinates the attempt, which is to commit: its locks stay. Whether it has them.
    pub(super) fn keep_own(&mut self, attempt: Attempt) -> bool {
        let lead = self.lead();
        let Some(holder) = lead.holders.get_mut(&attempt) else {
            return false;
        };
        let holds = lead.locks.holds_all((holder.age, attempt));
        if holds {
            holder.state = State::Committing;
        }
        holds
    }

    // Prepare.

    pub(super) fn on_prepare(
        &mut self,
        now: WallTime,
        from: Addr,
        request: &PrepareRequest,
        out: &mut Out,
    ) {
        let attempt = request.attempt;
        let lead = self.lead();
        let Some(holder) = lead.holders.get_mut(&attempt) else {
            out.observe(Observation::Mark("spanner.locks-lost"));
            return self.send(from, Message::Refused { attempt }, out);
        };
        holder.from = from;
        match holder.state {
            State::Prepared => return self.after_prepare(attempt, out),
            State::Working => {}
            State::Committing | State::Preparing | State::Resolving => return,
        }
        let (age, locks) = (holder.age, holder.wanted.clone());
        let holds = lead.locks.holds_all((age, attempt));
        if !holds || lead.term != request.term {
            out.observe(Observation::Mark("spanner.locks-lost"));
            return self.send(from, Message::Refused { attempt }, out);
        }
        let at = self.next_timestamp(now, Timestamp(0));
        let holder = self.lead().holders.get_mut(&attempt).expect("just looked");
        holder.state = State::Preparing;
        let prepared = Prepared { at, age, locks };
        let writes = request.writes.clone();
        self.propose(
            Command::Prepare {
                attempt,
                prepared,
                writes,
            },
            out,
        );
    }

    /// The attempt is prepared, durably: this leader, if it is one, says so.
    pub(super) fn after_prepare(&mut self, attempt: Attempt, out: &mut Out) {
        let (txn, shard, group) = (attempt.txn, self.group, self.group);
        let prepared = self.state().prepared().get(&attempt);
        let Some(at) = prepared.map(|prepared| prepared.at) else {
            return;
        };
        let Some(lead) = &mut self.lead else { return };
        let Some(holder) = lead.holders.get_mut(&attempt) else {
            return;
        };
        if holder.state == State::Preparing {
            holder.state = State::Prepared;
            let yes = true;
            out.observe(Observation::Voted { txn, shard, yes });
        }
        let to = holder.from;
        self.send(to, Message::Prepared { attempt, group, at }, out);
    }

    /// A new leader holds the locks of what is prepared, and asks for the decisions.
    pub(super) fn take_over_prepared(&mut self, out: &mut Out) {
        let prepared: Vec<(Attempt, Prepared)> = { self.state().prepared().iter() }
            .map(|(attempt, prepared)| (*attempt, prepared.clone()))
            .collect();
        for (attempt, Prepared { age, locks, .. }) in prepared {
            out.observe(Observation::Mark("spanner.prepared-taken-over"));
            let from = self.leader_of(attempt.coordinator);
            let lead = self.lead();
            let answer = lead.locks.request((age, attempt), locks.iter().copied());
            assert!(
                answer.waits.is_empty() || zoo::any(),
                "prepared transactions held their locks before"
            );
            let holder = Holder {
                age,
                from,
                round: 0,
                wanted: locks,
                is_wounded: false,
                state: State::Prepared,
            };
            lead.holders.insert(attempt, holder);
            self.inquire(attempt, out);
        }
    }

    // The decision.

    /// An attempt has held locks for a while: has its coordinator forgotten it, or its message been lost?
    pub(super) fn inquire(&mut self, attempt: Attempt, out: &mut Out) {
        let Some(lead) = &self.lead else { return };
        let Some(holder) = lead.holders.get(&attempt) else {
            return;
        };
        let (group, coordinator) = (self.group, attempt.coordinator);
        let is_wounded = holder.is_wounded && holder.state == State::Working;
        if coordinator == group && self.is_dead(attempt) {
            return self.forget(attempt, out);
        }
        // Whichever replica leads the coordinator's group now answers.
        let site = Arc::clone(&self.site);
        for replica in site.replicas(coordinator) {
            if is_wounded {
                // The message that said so may have been lost.
                self.send(replica, Message::Wound { attempt }, out);
            }
            if coordinator != group {
                self.send(replica, Message::Inquire { attempt, group }, out);
            }
        }
        out.set_timer(
            Timer::Inquire(attempt),
            self.site.options.inquire_ms.about(),
        );
    }

    pub(super) fn on_decision(
        &mut self,
        from: Addr,
        attempt: Attempt,
        commit: Option<Timestamp>,
        out: &mut Out,
    ) {
        let group = self.group;
        let lead = self.lead();
        let holder = lead.holders.get_mut(&attempt);
        let state = holder.map(|holder| {
            holder.from = from;
            holder.state
        });
        match state {
            Some(State::Preparing | State::Prepared) => {
                let holder = lead.holders.get_mut(&attempt).expect("just looked");
                holder.state = State::Resolving;
                lead.assigned = lead.assigned.max(commit.unwrap_or_default());
                self.propose(Command::Resolve { attempt, commit }, out);
            }
            Some(State::Resolving) => {}
            Some(State::Working) | None => {
                self.forget(attempt, out);
                self.send(from, Message::Done { attempt, group }, out);
            }
            Some(State::Committing) => {}
        }
    }

    /// The decision has been acted on, durably.
    pub(super) fn after_resolve(
        &mut self,
        attempt: Attempt,
        commit: bool,
        was_prepared: bool,
        out: &mut Out,
    ) {
        let (txn, shard, group) = (attempt.txn, self.group, self.group);
        if was_prepared {
            out.observe(Observation::Resolved { txn, shard, commit });
        }
        let Some(lead) = &self.lead else { return };
        let to = match lead.holders.get(&attempt) {
            Some(holder) => holder.from,
            None => self.leader_of(attempt.coordinator),
        };
        self.forget(attempt, out);
        self.send(to, Message::Done { attempt, group }, out);
    }
}
