//! The initiating participant's part: running transactions up to its own vote, and answering clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::participant::{Origin, Participant, Phase, Record, Then};
use super::{Attempt, Grant, LockRequest, Message, Out, Part, Start, Timer};
use crate::base::hlc::Stamp;
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::process::{Addr, Delay, WallTime};
use crate::base::txn::{
    Evaluation, Footprint, Key, Read, Row, ShardId, Target, Txn, TxnId, Write, WriteId,
};
use crate::protocol::kit::client::ClientMessage;
use crate::shard::locks::Mode;

/// How many committed transactions' reads are kept for replies that got lost.
const REPLIES_KEPT: usize = 1_024;

/// Where an execution stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stage {
    /// Between two attempts: it holds no locks.
    Pausing,
    /// It gathers locks and reads.
    Locking,
    /// It holds no locks; that it takes no effect is on its way to the disk.
    Refusing,
    /// It holds all its locks, at this participant only; its commit is on its way to the disk.
    CommittingAlone,
}

/// A transaction before its initiator votes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Execution {
    txn: Arc<Txn>,
    client: Addr,
    stamp: Stamp,
    attempt: Attempt,
    /// 1 once a dependent transaction's pointers are read, and from the start for others.
    round: u8,
    stage: Stage,
    wounds: u32,
    /// How often this round's locks were asked for, as far as the pauses grow.
    asked: u32,
    wanted: BTreeMap<ShardId, Vec<(Key, Mode)>>,
    /// What each participant has granted to this attempt.
    grants: BTreeMap<ShardId, Grant>,
    /// The participants that hold all that this round wants.
    answered: BTreeSet<ShardId>,
    rows: BTreeMap<Key, Row>,
}

impl Execution {
    fn value_of(&self) -> impl Fn(Key) -> i64 {
        |key| self.rows.get(&key).map_or(0, |row| row.value.as_int())
    }

    /// The rows to lock in this round. A row that may turn out to be written is locked for that at once.
    fn footprint(&self) -> Footprint {
        if self.txn.is_dependent() && self.round == 0 {
            let reads = self.txn.pointers();
            let writes = { self.txn.effects.iter() }
                .flat_map(|effect| match effect.target {
                    Target::Key(key) => [key, key],
                    Target::Choice {
                        then, otherwise, ..
                    } => [then, otherwise],
                })
                .filter(|key| reads.contains(key));
            let writes = writes.collect();
            return Footprint { reads, writes };
        }
        self.txn.footprint(self.value_of())
    }

    fn want(&mut self, shard_of: impl Fn(Key) -> ShardId) {
        let Footprint { reads, writes } = self.footprint();
        for key in reads {
            let wanted = self.wanted.entry(shard_of(key)).or_default();
            if !wanted.iter().any(|(known, _)| *known == key) {
                let mode = match writes.contains(&key) {
                    true => Mode::Exclusive,
                    false => Mode::Shared,
                };
                wanted.push((key, mode));
            }
        }
    }

    fn reads(&self) -> Vec<Read> {
        let read = |(key, row): (&Key, &Row)| Read {
            key: *key,
            row: row.clone(),
        };
        self.rows.iter().map(read).collect()
    }
}

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
        let is_open = self.executions.contains_key(&id) || self.alone.contains_key(&id);
        if is_open || self.origin_of(id).is_some() {
            return; // The answer will come.
        }
        if self.aborted.contains(&id) {
            // A crash may have come between the abort and the reply.
            let why = AbortReason::Presumed;
            return self.refuse(id, Outcome::Aborted { why }, client);
        }
        out.observe(Observation::Initiated { txn: id });
        let execution = Execution {
            client,
            stamp: self.hlc.tick(now),
            attempt: Attempt { boot: 0, number: 0 },
            round: 0,
            stage: Stage::Pausing,
            wounds: 0,
            asked: 0,
            wanted: BTreeMap::new(),
            grants: BTreeMap::new(),
            answered: BTreeSet::new(),
            rows: BTreeMap::new(),
            txn,
        };
        self.executions.insert(id, execution);
        self.lock_round(id, 0, out);
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
        self.executions.remove(&txn);
        self.refused.insert(txn, outcome.clone());
        let commit = false;
        out.observe(Observation::Ended { txn, commit });
        self.reply(txn, client, outcome, out);
    }

    /// The initiator's vote, while the transaction is in its commit phase.
    fn origin_of(&self, txn: TxnId) -> Option<(Attempt, &Origin)> {
        let phase = &self.locals.get(&txn)?.phase;
        let vote = match phase {
            Phase::Preparing { vote, .. } => vote,
            _ => phase.vote()?,
        };
        Some((vote.attempt, vote.origin.as_ref()?))
    }

    // Execution.

    /// Begins a round of an attempt: round 0 begins the attempt itself.
    pub(super) fn lock_round(&mut self, txn: TxnId, round: u8, out: &mut Out) {
        let site = Arc::clone(&self.site);
        let Some(execution) = self.executions.get_mut(&txn) else {
            return;
        };
        if round == 0 {
            if execution.stage != Stage::Pausing {
                return; // A late timer.
            }
            self.attempts += 1;
            execution.attempt = Attempt {
                boot: self.boot,
                number: self.attempts,
            };
            execution.stage = Stage::Locking;
            execution.wanted.clear();
            execution.grants.clear();
            execution.rows.clear();
        }
        execution.round = round;
        execution.asked = 0;
        execution.answered.clear();
        execution.want(|key| site.layout.shard_of(key));
        self.relock(txn, out);
    }

    /// Asks participants for the locks that are missing, and asks again if they stay silent.
    pub(super) fn relock(&mut self, txn: TxnId, out: &mut Out) {
        let Some(execution) = self.executions.get_mut(&txn) else {
            return;
        };
        if execution.stage != Stage::Locking {
            return;
        }
        // A lost message is made up for soon, and a long queue is not asked about all the time.
        // The count stops where the pauses do, so that waiting for ever is one state and not ever new ones.
        let resend = self
            .site
            .options
            .resend_ms
            .about_times(1 << execution.asked);
        execution.asked = (execution.asked + 1).min(3);
        let missing = { execution.wanted.keys() }
            .filter(|shard| !execution.answered.contains(shard))
            .copied();
        for shard in missing.collect::<Vec<_>>() {
            self.request_locks_of(txn, shard, out);
        }
        out.set_timer(Timer::Relock(txn), resend);
    }

    fn request_locks_of(&mut self, txn: TxnId, shard: ShardId, out: &mut Out) {
        let execution = &self.executions[&txn];
        let request = LockRequest {
            txn,
            attempt: execution.attempt,
            round: execution.round,
            stamp: execution.stamp,
            wanted: execution.wanted[&shard].clone(),
        };
        let to = self.site.participant(shard);
        self.send(to, Message::Lock(Arc::new(request)), out);
    }

    /// A participant has forgotten what it was asked and what it had granted: ask again for the one, and run again
    /// what has read under the other, for it would get a no.
    pub(super) fn on_restarted(&mut self, shard: ShardId, boot: u64, out: &mut Out) {
        let concerned = { self.executions.iter() }
            .filter(|(_, execution)| execution.stage == Stage::Locking)
            .filter(|(_, execution)| execution.wanted.contains_key(&shard))
            .map(|(txn, execution)| (*txn, execution.grants.get(&shard).copied()));
        for (txn, grant) in concerned.collect::<Vec<_>>() {
            match grant {
                Some(grant) if grant.boot < boot => {
                    out.observe(Observation::Mark("2pc.grant-void"));
                    self.restart(txn, out);
                }
                Some(_) => {} // An old announcement.
                None => self.request_locks_of(txn, shard, out),
            }
        }
    }

    pub(super) fn on_locked(
        &mut self,
        from: Addr,
        (txn, attempt, round): (TxnId, Attempt, u8),
        (shard, grant): (ShardId, Grant),
        rows: Vec<Read>,
        out: &mut Out,
    ) {
        let Some(execution) = self.executions.get_mut(&txn) else {
            return self.on_probe(from, txn, attempt, out);
        };
        let expected = (execution.attempt, execution.round, execution.stage);
        if expected != (attempt, round, Stage::Locking) {
            return self.on_probe(from, txn, attempt, out);
        }
        if *execution.grants.entry(shard).or_insert(grant) != grant {
            // The participant has lost the locks under which it was read before, and has got them again.
            out.observe(Observation::Mark("2pc.grant-changed"));
            return self.restart(txn, out);
        }
        execution.answered.insert(shard);
        for Read { key, row } in rows {
            execution.rows.insert(key, row);
        }
        if execution.answered.len() == execution.wanted.len() {
            match execution.txn.is_dependent() && round == 0 {
                true => self.lock_round(txn, 1, out),
                false => self.evaluate(txn, out),
            }
        }
    }

    /// Every lock is held: the lock point of two-phase locking.
    fn evaluate(&mut self, txn: TxnId, out: &mut Out) {
        out.cancel_timer(Timer::Relock(txn));
        let execution = &self.executions[&txn];
        let footprint = execution.txn.footprint(execution.value_of());
        match execution
            .txn
            .evaluate(&footprint, |key| execution.rows.get(&key))
        {
            Evaluation::Commit(writes) => self.begin_commit(txn, writes),
            Evaluation::Declined(guard) => {
                self.give_up(txn, Outcome::Declined { guard }, out);
            }
            Evaluation::Moved => unreachable!("{txn}: pointers are locked"),
        }
    }

    /// Releases all locks and tells the client why.
    fn give_up(&mut self, txn: TxnId, outcome: Outcome, out: &mut Out) {
        let execution = { self.executions.get_mut(&txn) }.expect("it is running");
        execution.stage = Stage::Refusing;
        let (client, attempt) = (execution.client, execution.attempt);
        let shards = execution.wanted.keys().copied().collect();
        self.release_others(txn, attempt, shards, out);
        self.forget(txn, out);
        self.refuse(txn, outcome, client);
    }

    pub(super) fn release_others(
        &mut self,
        txn: TxnId,
        attempt: Attempt,
        shards: BTreeSet<ShardId>,
        out: &mut Out,
    ) {
        for shard in { shards.into_iter() }.filter(|shard| *shard != self.shard) {
            out.send(
                self.site.participant(shard),
                Message::Release { txn, attempt },
            );
        }
    }

    // Wound-wait.

    pub(super) fn on_wound(&mut self, from: Addr, txn: TxnId, attempt: Attempt, out: &mut Out) {
        let restarts = self.site.options.restarts.get();
        match self.executions.get_mut(&txn) {
            Some(execution)
                if (execution.attempt, execution.stage) == (attempt, Stage::Locking) =>
            {
                execution.wounds += 1;
                out.observe(Observation::Mark("2pc.wounded"));
                if restarts > 0 && u64::from(execution.wounds) > restarts {
                    let why = AbortReason::Deadlock;
                    return self.give_up(txn, Outcome::Aborted { why }, out);
                }
                self.restart(txn, out);
            }
            _ => self.on_probe(from, txn, attempt, out),
        }
    }

    /// Releases everything, to begin again with the same timestamp.
    fn restart(&mut self, txn: TxnId, out: &mut Out) {
        let execution = { self.executions.get_mut(&txn) }.expect("it is running");
        execution.stage = Stage::Pausing;
        let attempt = execution.attempt;
        let shards = execution.wanted.keys().copied().collect();
        self.release_others(txn, attempt, shards, out);
        self.forget(txn, out);
        out.cancel_timer(Timer::Relock(txn));
        let pause_ns = self.site.options.restart_pause_ms.ns();
        out.set_timer(Timer::Restart(txn), Delay::between(0, pause_ns));
    }

    /// Releases locks that nobody needs; a transaction in its commit phase still needs them.
    pub(super) fn on_probe(&mut self, from: Addr, txn: TxnId, attempt: Attempt, out: &mut Out) {
        let is_running = { self.executions.get(&txn) }.is_some_and(|execution| {
            let holds_locks = matches!(execution.stage, Stage::Locking | Stage::CommittingAlone);
            execution.attempt == attempt && holds_locks
        });
        let is_voting = { self.origin_of(txn) }.is_some_and(|(voted, _)| voted == attempt);
        if !is_running && !is_voting {
            self.send(from, Message::Release { txn, attempt }, out);
        }
    }

    // The commit phase begins.

    fn begin_commit(&mut self, txn: TxnId, writes: Vec<Write>) {
        let execution = { self.executions.remove(&txn) }.expect("it is running");
        let mut parts: BTreeMap<ShardId, Part> = { execution.grants.iter() }
            .map(|(shard, grant)| {
                let (shard, grant, writes) = (*shard, *grant, Vec::new());
                let part = Part {
                    shard,
                    grant,
                    writes,
                };
                (shard, part)
            })
            .collect();
        for write in writes {
            let shard = self.site.layout.shard_of(write.key);
            let part = parts.get_mut(&shard).expect("written rows are locked");
            part.writes.push(write);
        }
        let mine = &parts[&self.shard];
        assert!(
            matches!(&self.locals[&txn].phase, Phase::Working { grant, .. } if *grant == mine.grant),
            "{txn}: only the initiator itself takes its own locks away"
        );
        let (writes, reads) = (mine.writes.clone(), execution.reads());
        if self.site.options.one_participant_optimisation && parts.len() == 1 {
            return self.commit_alone(execution, writes, reads);
        }
        let start = Start {
            txn,
            initiator: self.shard,
            incarnation: self.incarnation,
            parts: parts.into_values().collect(),
        };
        let peers = start.stayers(&self.site.options);
        let origin = Origin {
            start: Arc::new(start),
            client: execution.client,
            reads,
        };
        let manager = self.site.manager(self.shard);
        self.vote(txn, manager, peers, writes, Some(origin));
    }

    fn commit_alone(&mut self, mut execution: Execution, writes: Vec<Write>, reads: Vec<Read>) {
        let (txn, client) = (execution.txn.id, execution.client);
        execution.stage = Stage::CommittingAlone;
        self.executions.insert(txn, execution);
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
        self.executions.remove(&txn);
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
