//! A leader as the coordinator of transactions that write: locks, evaluation, two-phase commit, commit wait
//! (sections 4.1.2 and 4.2.1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::group::{Command, End};
use super::replica::Replica;
use super::{Age, Attempt, LockRequest, Message, Out, PrepareRequest, Timer};
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::process::{Addr, Delay, WallTime};
use crate::base::txn::{Evaluation, Key, Read, Row, ShardId, Txn, TxnId, Value};
use crate::consensus::Term;
use crate::protocol::kit::client::ClientMessage;
use crate::shard::locks::Mode;
use crate::shard::versions::Timestamp;

/// A transaction that this leader runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Running {
    client: Addr,
    txn: Arc<Txn>,
    age: Age,
    attempt: Attempt,
    round: u8,
    /// The locks of each participant, this group among them.
    wanted: BTreeMap<ShardId, Vec<(Key, Mode)>>,
    /// The term of the leader that granted locks in this attempt.
    terms: BTreeMap<ShardId, Term>,
    /// The participants that hold the locks of this round.
    granted: BTreeSet<ShardId>,
    rows: BTreeMap<Key, Row>,
    stage: Stage,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Stage {
    /// It asks for locks.
    Locking,
    /// It was wounded, and begins again in a moment.
    Pausing,
    /// The other participants prepare.
    Preparing {
        votes: BTreeMap<ShardId, Timestamp>,
        writes: BTreeMap<ShardId, BTreeMap<Key, Value>>,
    },
    /// The record of its end is on its way through the log, or its timestamp has not passed yet.
    Ending,
}

impl Running {
    fn others(&self) -> BTreeSet<ShardId> {
        let all = self.wanted.keys().copied();
        all.filter(|group| *group != self.attempt.coordinator)
            .collect()
    }

    fn value_of(&self) -> impl Fn(Key) -> i64 + '_ {
        |key| self.rows[&key].value.as_int()
    }

    fn reads(&self) -> Vec<Read> {
        let read = |(key, row): (&Key, &Row)| Read {
            key: *key,
            row: row.clone(),
        };
        self.rows.iter().map(read).collect()
    }
}

impl Replica {
    fn running(&mut self, txn: TxnId) -> Option<&mut Running> {
        self.lead.as_mut()?.running.get_mut(&txn)
    }

    /// The running transaction, if this attempt of it is the current one.
    fn current(&mut self, attempt: Attempt) -> Option<&mut Running> {
        self.running(attempt.txn)
            .filter(|running| running.attempt == attempt)
    }

    /// A client's transaction that writes.
    pub(super) fn coordinate(&mut self, now: WallTime, client: Addr, txn: Arc<Txn>, out: &mut Out) {
        let (id, group) = (txn.id, self.group);
        if let Some(running) = self.running(id) {
            running.client = client;
            return;
        }
        let has_ended = self.state().end(id).is_some();
        let lead = self.lead.as_mut().expect("it leads");
        let age = Age {
            since: now,
            txn: id,
        };
        let attempt = Attempt {
            txn: id,
            coordinator: group,
            term: lead.term,
            number: 0,
        };
        let running = Running {
            client,
            txn,
            age,
            attempt,
            round: 0,
            wanted: BTreeMap::new(),
            terms: BTreeMap::new(),
            granted: BTreeSet::new(),
            rows: BTreeMap::new(),
            stage: Stage::Ending,
        };
        lead.running.insert(id, running);
        out.observe(Observation::Initiated { txn: id });
        if has_ended {
            out.observe(Observation::Mark("spanner.ended-before"));
            self.finish_if_passed(now, id, out);
        } else {
            self.run(id, out);
        }
    }

    /// Begins an attempt.
    pub(super) fn run(&mut self, txn: TxnId, out: &mut Out) {
        let Some(lead) = self.lead.as_mut() else {
            return;
        };
        let number = lead.attempts + 1;
        let Some(running) = lead.running.get_mut(&txn) else {
            return;
        };
        lead.attempts = number;
        running.attempt.number = number;
        running.round = 0;
        running.wanted.clear();
        running.terms.clear();
        running.granted.clear();
        running.rows.clear();
        running.stage = Stage::Locking;
        let known = match running.txn.is_dependent() {
            true => running.txn.pointers(),
            false => running.txn.footprint(|_| 0).reads,
        };
        // Each in the strongest mode that it may need: there are no upgrades.
        let sides = [i64::MIN, i64::MAX];
        let writes = sides.map(|value| running.txn.footprint(|_| value).writes);
        let writes = writes.into_iter().flatten().collect();
        self.ask_for_locks(txn, known, &writes, out);
    }

    fn ask_for_locks(
        &mut self,
        txn: TxnId,
        keys: BTreeSet<Key>,
        writes: &BTreeSet<Key>,
        out: &mut Out,
    ) {
        let site = Arc::clone(&self.site);
        let Some(running) = self.running(txn) else {
            return;
        };
        for (group, keys) in site.layout.by_shard(keys) {
            let wanted = running.wanted.entry(group).or_default();
            for key in keys {
                let mode = match writes.contains(&key) {
                    true => Mode::Exclusive,
                    false => Mode::Shared,
                };
                if !wanted.iter().any(|(known, _)| *known == key) {
                    wanted.push((key, mode));
                }
            }
        }
        self.ask_again_all(txn, None, out);
        out.set_timer(Timer::Resend(txn), site.options.resend_ms.about());
    }

    /// Asks for what has not come: of all participants, or of one.
    fn ask_again_all(&mut self, txn: TxnId, only: Option<ShardId>, out: &mut Out) {
        let Some(running) = self.running(txn) else {
            return;
        };
        let asked = |group: &ShardId| only.is_none_or(|only| only == *group);
        let (attempt, age, round) = (running.attempt, running.age, running.round);
        let mut messages = Vec::new();
        match &running.stage {
            Stage::Locking => {
                let missing = running.wanted.iter();
                let missing = missing.filter(|(group, _)| !running.granted.contains(group));
                for (group, wanted) in missing.filter(|(group, _)| asked(group)) {
                    let wanted = wanted.clone();
                    let request = LockRequest {
                        attempt,
                        age,
                        round,
                        wanted,
                    };
                    messages.push((*group, Message::Lock(Arc::new(request))));
                }
            }
            Stage::Preparing { votes, writes } => {
                let missing = running.others().into_iter();
                let missing = missing.filter(|group| !votes.contains_key(group));
                for group in missing.filter(asked) {
                    let request = PrepareRequest {
                        attempt,
                        term: running.terms[&group],
                        writes: writes.get(&group).cloned().unwrap_or_default(),
                    };
                    messages.push((group, Message::Prepare(Arc::new(request))));
                }
            }
            Stage::Pausing | Stage::Ending => {}
        }
        for (group, message) in messages {
            self.send_to_group(group, message, out);
        }
    }

    pub(super) fn ask_again(
        &mut self,
        now: WallTime,
        txn: TxnId,
        only: Option<ShardId>,
        out: &mut Out,
    ) {
        self.ask_again_all(txn, only, out);
        let ended = self.state().end(txn).map(|end| end.at);
        if self.lead.is_some() && ended.is_some_and(|at| self.has_passed(at, now)) {
            self.tell(txn, only, out);
        }
    }

    pub(super) fn resend(&mut self, now: WallTime, txn: TxnId, out: &mut Out) {
        let Some(running) = self.running(txn) else {
            return;
        };
        let silent: Vec<ShardId> = match &running.stage {
            Stage::Locking => { running.wanted.keys() }
                .filter(|group| !running.granted.contains(group))
                .copied()
                .collect(),
            Stage::Preparing { votes, .. } => { running.others().into_iter() }
                .filter(|group| !votes.contains_key(group))
                .collect(),
            Stage::Pausing | Stage::Ending => return,
        };
        let own = self.group;
        for group in silent.into_iter().filter(|group| *group != own) {
            self.doubt_leader_of(group);
        }
        self.ask_again(now, txn, None, out);
        out.set_timer(Timer::Resend(txn), self.site.options.resend_ms.about());
    }

    pub(super) fn on_locked(
        &mut self,
        now: WallTime,
        attempt: Attempt,
        round: u8,
        (group, term): (ShardId, Term),
        rows: Vec<Read>,
        out: &mut Out,
    ) {
        let Some(running) = self.current(attempt) else {
            return self.send_to_group(group, Message::Release { attempt }, out);
        };
        if running.stage != Stage::Locking || running.round != round {
            return;
        }
        let first = *running.terms.entry(group).or_insert(term);
        if first != term {
            // What was locked in the first round has been free in between.
            return self.restart(attempt.txn, out);
        }
        running
            .rows
            .extend(rows.into_iter().map(|read| (read.key, read.row)));
        running.granted.insert(group);
        if running.granted.len() < running.wanted.len() {
            return;
        }
        if round == 0 && running.txn.is_dependent() {
            let footprint = running.txn.footprint(running.value_of());
            running.round = 1;
            running.granted.clear();
            self.ask_for_locks(attempt.txn, footprint.reads, &footprint.writes, out);
        } else {
            self.evaluate(now, attempt, out);
        }
    }

    /// Every lock is held.
    fn evaluate(&mut self, now: WallTime, attempt: Attempt, out: &mut Out) {
        let txn = attempt.txn;
        if !self.keep_own(attempt) {
            return self.restart(txn, out);
        }
        let site = Arc::clone(&self.site);
        let Some(running) = self.running(txn) else {
            return;
        };
        let footprint = running.txn.footprint(running.value_of());
        let evaluation = running
            .txn
            .evaluate(&footprint, |key| running.rows.get(&key));
        let ops = match evaluation {
            Evaluation::Commit(ops) => ops,
            Evaluation::Declined(guard) => {
                return self.end(now, txn, Outcome::Declined { guard }, Timestamp(0), out);
            }
            Evaluation::Moved => unreachable!("{txn}: pointers are locked"),
        };
        let mut writes: BTreeMap<ShardId, BTreeMap<Key, Value>> = BTreeMap::new();
        for write in ops {
            let value = write.op.apply(&running.rows[&write.key].value);
            let of = writes.entry(site.layout.shard_of(write.key)).or_default();
            of.insert(write.key, value);
        }
        let votes = BTreeMap::new();
        running.stage = Stage::Preparing { votes, writes };
        if running.others().is_empty() {
            self.commit(now, txn, out);
        } else {
            self.ask_again_all(txn, None, out);
        }
    }

    pub(super) fn on_prepared(
        &mut self,
        now: WallTime,
        attempt: Attempt,
        group: ShardId,
        at: Timestamp,
        out: &mut Out,
    ) {
        let Some(running) = self.current(attempt) else {
            return;
        };
        let others = running.others();
        let Stage::Preparing { votes, .. } = &mut running.stage else {
            return;
        };
        votes.insert(group, at);
        if votes.len() == others.len() {
            self.commit(now, attempt.txn, out);
        }
    }

    pub(super) fn on_refused(&mut self, now: WallTime, attempt: Attempt, out: &mut Out) {
        let running = self.current(attempt);
        if running.is_some_and(|running| matches!(running.stage, Stage::Preparing { .. })) {
            let why = AbortReason::VotedNo;
            self.end(
                now,
                attempt.txn,
                Outcome::Aborted { why },
                Timestamp(0),
                out,
            );
        }
    }

    fn commit(&mut self, now: WallTime, txn: TxnId, out: &mut Out) {
        let Some(running) = self.running(txn) else {
            return;
        };
        let Stage::Preparing { votes, .. } = &running.stage else {
            return;
        };
        let above = votes.values().max().copied().unwrap_or_default();
        let reads = running.reads();
        self.end(now, txn, Outcome::Committed { reads }, above, out);
    }

    /// Decides: the record of the end goes into the log.
    fn end(
        &mut self,
        now: WallTime,
        txn: TxnId,
        outcome: Outcome,
        above: Timestamp,
        out: &mut Out,
    ) {
        let at = self.next_timestamp(now, above);
        let group = self.group;
        let Some(running) = self.running(txn) else {
            return;
        };
        let stage = std::mem::replace(&mut running.stage, Stage::Ending);
        let writes = match (stage, &outcome) {
            (Stage::Preparing { mut writes, .. }, Outcome::Committed { .. }) => {
                writes.remove(&group).unwrap_or_default()
            }
            _ => BTreeMap::new(),
        };
        let end = End {
            attempt: running.attempt,
            at,
            outcome,
            missing: running.others(),
        };
        out.cancel_timer(Timer::Resend(txn));
        self.propose(Command::End { end, writes }, out);
    }

    /// The transaction has ended, durably.
    pub(super) fn after_end(&mut self, now: WallTime, txn: TxnId, out: &mut Out) {
        let Some(end) = self.state().end(txn) else {
            return;
        };
        let (commit, at) = (end.commit().is_some(), end.at);
        if self.lead.is_none() {
            return;
        }
        out.observe(Observation::Decided { txn, commit });
        if !self.has_passed(at, now) {
            out.observe(Observation::Mark("spanner.commit-wait"));
        }
        self.finish_if_passed(now, txn, out);
    }

    /// Commit wait: once the timestamp has passed, the client, and the participants, may know.
    pub(super) fn finish_if_passed(&mut self, now: WallTime, txn: TxnId, out: &mut Out) {
        let Some(end) = self.state().end(txn).cloned() else {
            return;
        };
        if self.lead.is_none() {
            return;
        }
        if !self.has_passed(end.at, now) {
            let wait = self.until_passed(end.at, now);
            return out.set_timer(Timer::CommitWait(txn), wait);
        }
        let lead = self.lead.as_mut().expect("just looked");
        if let Some(running) = lead.running.remove(&txn) {
            let outcome = end.outcome.clone();
            let reply = ClientMessage::Reply { txn, outcome };
            out.send(running.client, Message::Client(reply));
            self.forget(running.attempt, out);
        }
        self.forget(end.attempt, out);
        if end.missing.is_empty() {
            let commit = end.commit().is_some();
            out.observe(Observation::Ended { txn, commit });
        } else {
            self.tell(txn, None, out);
            out.set_timer(Timer::Finish(txn), self.site.options.resend_ms.about());
        }
    }

    /// A new leader goes on with what its predecessors have ended.
    pub(super) fn take_over_ended(&mut self, now: WallTime, out: &mut Out) {
        let unfinished: Vec<TxnId> = self.state().unfinished().map(|(txn, _)| txn).collect();
        for txn in unfinished {
            out.observe(Observation::Mark("spanner.end-taken-over"));
            out.observe(Observation::Initiated { txn });
            self.finish_if_passed(now, txn, out);
        }
    }

    /// Tells participants how a transaction ended.
    fn tell(&mut self, txn: TxnId, only: Option<ShardId>, out: &mut Out) {
        let Some(end) = self.state().end(txn) else {
            return;
        };
        let (attempt, commit) = (end.attempt, end.commit());
        let done = self.lead.as_ref().and_then(|lead| lead.done.get(&txn));
        let is_done = |group: &ShardId| done.is_some_and(|done| done.contains(group));
        let missing = end.missing.iter().copied();
        let missing = missing.filter(|group| only.is_none_or(|only| only == *group));
        let missing: Vec<ShardId> = missing.filter(|group| !is_done(group)).collect();
        for group in missing {
            self.send_to_group(group, Message::Decision { attempt, commit }, out);
        }
    }

    pub(super) fn finish(&mut self, txn: TxnId, out: &mut Out) {
        let Some(end) = self.state().end(txn) else {
            return;
        };
        let missing = end.missing.clone();
        let Some(lead) = &self.lead else { return };
        let done = lead.done.get(&txn).cloned().unwrap_or_default();
        let silent: Vec<ShardId> = { missing.into_iter() }
            .filter(|group| !done.contains(group))
            .collect();
        if silent.is_empty() {
            return;
        }
        for group in silent {
            self.doubt_leader_of(group);
        }
        self.tell(txn, None, out);
        out.set_timer(Timer::Finish(txn), self.site.options.resend_ms.about());
    }

    pub(super) fn on_done(&mut self, attempt: Attempt, group: ShardId, out: &mut Out) {
        let txn = attempt.txn;
        let Some(end) = self.state().end(txn) else {
            return;
        };
        if end.attempt != attempt || !end.missing.contains(&group) {
            return;
        }
        let (missing, commit) = (end.missing.len(), end.commit().is_some());
        let Some(lead) = &mut self.lead else { return };
        let done = lead.done.entry(txn).or_default();
        if done.contains(&group) {
            return;
        }
        done.push(group);
        if done.len() == missing {
            out.cancel_timer(Timer::Finish(txn));
            out.observe(Observation::Ended { txn, commit });
            self.propose(Command::Forget { txn }, out);
        }
    }

    // Wounds and questions.

    pub(super) fn on_wound(&mut self, from: Addr, attempt: Attempt, out: &mut Out) {
        if let Some(running) = self.current(attempt) {
            if running.stage == Stage::Locking {
                out.observe(Observation::Mark("spanner.wounded"));
                self.restart(attempt.txn, out);
            }
            return;
        }
        if self.is_dead(attempt) {
            self.send(from, Message::Release { attempt }, out);
        }
    }

    /// Releases everything, to begin again with the same age.
    fn restart(&mut self, txn: TxnId, out: &mut Out) {
        let pause_ns = self.site.options.restart_pause_ms.ns();
        let Some(running) = self.running(txn) else {
            return;
        };
        running.stage = Stage::Pausing;
        let (attempt, others) = (running.attempt, running.others());
        for group in others {
            self.send_to_group(group, Message::Release { attempt }, out);
        }
        self.forget(attempt, out);
        out.cancel_timer(Timer::Resend(txn));
        out.set_timer(Timer::Restart(txn), Delay::between(0, pause_ns));
    }

    /// Whether this group, which coordinates the attempt, will never commit it. Asked of a leader.
    pub(super) fn is_dead(&self, attempt: Attempt) -> bool {
        let Some(lead) = &self.lead else {
            return false;
        };
        let runs =
            { lead.running.get(&attempt.txn) }.is_some_and(|running| running.attempt == attempt);
        let ended_it = { self.state().end(attempt.txn) }.is_some_and(|end| end.attempt == attempt);
        // What an earlier leader wanted to commit has come by now, or never will.
        attempt.term <= lead.term && !runs && !ended_it
    }

    pub(super) fn on_inquire(
        &mut self,
        now: WallTime,
        from: Addr,
        attempt: Attempt,
        group: ShardId,
        out: &mut Out,
    ) {
        assert_eq!(
            attempt.coordinator, self.group,
            "{group} asks the right group"
        );
        let end = self.state().end(attempt.txn);
        let end = end.filter(|end| end.attempt == attempt);
        let end = end.map(|end| (end.at, end.commit()));
        match end {
            Some((at, commit)) if self.has_passed(at, now) => {
                self.send(from, Message::Decision { attempt, commit }, out);
            }
            Some(_) => {}
            None if self.is_dead(attempt) => {
                out.observe(Observation::Mark("spanner.presumed-abort"));
                let commit = None;
                self.send(from, Message::Decision { attempt, commit }, out);
            }
            None => {}
        }
    }
}
