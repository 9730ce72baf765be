//! The initiator's half: it asks for locks, evaluates, and begins again when it is wounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{
    Around, Attempt, End, Executed, Execution, Grant, LockRequest, Message, Out, Part, Timer,
};
use crate::base::hlc::Stamp;
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::process::{Addr, Delay, WallTime};
use crate::base::txn::{Evaluation, Footprint, Key, Read, Row, ShardId, Target, Txn, TxnId, Write};
use crate::shard::locks::Mode;

/// Where an execution stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stage {
    /// Between two attempts: it holds no locks.
    Pausing,
    /// It gathers locks and reads.
    Locking,
}

/// A transaction on its way to all its locks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Running {
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

impl Running {
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
                let is_written = writes.contains(&key);
                let mode = if is_written {
                    Mode::Exclusive
                } else {
                    Mode::Shared
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

impl Execution {
    /// Takes charge of a transaction: its age is counted from here.
    pub fn begin(
        &mut self,
        now: WallTime,
        client: Addr,
        txn: Arc<Txn>,
        around: &Around<'_>,
        out: &mut Out,
    ) {
        let id = txn.id;
        out.observe(Observation::Initiated { txn: id });
        let running = Running {
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
        self.running.insert(id, running);
        self.lock_round(id, 0, around, out);
    }

    /// Whether this participant is executing the transaction.
    pub fn is_running(&self, txn: TxnId) -> bool {
        self.running.contains_key(&txn)
    }

    /// Begins a round of an attempt: round 0 begins the attempt itself.
    pub(super) fn lock_round(&mut self, txn: TxnId, round: u8, around: &Around<'_>, out: &mut Out) {
        let Some(running) = self.running.get_mut(&txn) else {
            return;
        };
        if round == 0 {
            if running.stage != Stage::Pausing {
                return; // A late timer.
            }
            self.attempts += 1;
            running.attempt = Attempt {
                boot: self.boot,
                number: self.attempts,
            };
            running.stage = Stage::Locking;
            running.wanted.clear();
            running.grants.clear();
            running.rows.clear();
        }
        running.round = round;
        running.asked = 0;
        running.answered.clear();
        running.want(|key| around.layout.shard_of(key));
        self.relock(txn, around, out);
    }

    /// Asks participants for the locks that are missing, and asks again if they stay silent.
    pub(super) fn relock(&mut self, txn: TxnId, around: &Around<'_>, out: &mut Out) {
        let Some(running) = self.running.get_mut(&txn) else {
            return;
        };
        if running.stage != Stage::Locking {
            return;
        }
        // A lost message is made up for soon, and a long queue is not asked about all the time.
        // The count stops where the pauses do, so that waiting for ever is one state and not ever new ones.
        let resend = around.options.resend_ms.about_times(1 << running.asked);
        running.asked = (running.asked + 1).min(3);
        let missing = { running.wanted.keys() }
            .filter(|shard| !running.answered.contains(shard))
            .copied();
        for shard in missing.collect::<Vec<_>>() {
            self.request_locks_of(txn, shard, around, out);
        }
        out.set_timer(Timer::Relock(txn), resend);
    }

    fn request_locks_of(&mut self, txn: TxnId, shard: ShardId, around: &Around<'_>, out: &mut Out) {
        let running = &self.running[&txn];
        let request = LockRequest {
            txn,
            attempt: running.attempt,
            round: running.round,
            stamp: running.stamp,
            wanted: running.wanted[&shard].clone(),
        };
        let to = around.home(shard);
        self.send(to, Message::Lock(Arc::new(request)), around, out);
    }

    /// A participant has restarted. It has forgotten what it was asked and what it had granted: ask again for the one, and
    /// run again what has read under the other, for it would get a no.
    pub fn on_restarted(&mut self, shard: ShardId, boot: u64, around: &Around<'_>, out: &mut Out) {
        let concerned = { self.running.iter() }
            .filter(|(_, running)| running.stage == Stage::Locking)
            .filter(|(_, running)| running.wanted.contains_key(&shard))
            .map(|(txn, running)| (*txn, running.grants.get(&shard).copied()));
        for (txn, grant) in concerned.collect::<Vec<_>>() {
            match grant {
                Some(grant) if grant.boot < boot => {
                    out.observe(Observation::Mark("execution.grant-void"));
                    self.restart(txn, around, out);
                }
                Some(_) => {} // An old announcement.
                None => self.request_locks_of(txn, shard, around, out),
            }
        }
    }

    pub(super) fn on_locked(
        &mut self,
        from: Addr,
        (txn, attempt, round): (TxnId, Attempt, u8),
        (shard, grant): (ShardId, Grant),
        rows: Vec<Read>,
        around: &Around<'_>,
        out: &mut Out,
    ) -> Option<End> {
        let expected = (attempt, round, Stage::Locking);
        let running = self.running.get_mut(&txn);
        let running =
            running.filter(|running| (running.attempt, running.round, running.stage) == expected);
        let Some(running) = running else {
            self.on_probe(from, txn, attempt, around, out);
            return None;
        };
        if *running.grants.entry(shard).or_insert(grant) != grant {
            // The participant has lost the locks under which it was read before, and has got them again.
            out.observe(Observation::Mark("execution.grant-changed"));
            self.restart(txn, around, out);
            return None;
        }
        running.answered.insert(shard);
        for Read { key, row } in rows {
            running.rows.insert(key, row);
        }
        if running.answered.len() < running.wanted.len() {
            return None;
        }
        if running.txn.is_dependent() && round == 0 {
            self.lock_round(txn, 1, around, out);
            return None;
        }
        Some(self.evaluate(txn, around, out))
    }

    /// Every lock is held: the lock point of two-phase locking.
    fn evaluate(&mut self, txn: TxnId, around: &Around<'_>, out: &mut Out) -> End {
        out.cancel_timer(Timer::Relock(txn));
        let running = &self.running[&txn];
        let footprint = running.txn.footprint(running.value_of());
        match running
            .txn
            .evaluate(&footprint, |key| running.rows.get(&key))
        {
            Evaluation::Commit(writes) => End::Executed(self.executed(txn, writes, around)),
            Evaluation::Declined(guard) => {
                self.give_up(txn, Outcome::Declined { guard }, around, out)
            }
            Evaluation::Moved => unreachable!("{txn}: pointers are locked"),
        }
    }

    fn executed(&mut self, txn: TxnId, writes: Vec<Write>, around: &Around<'_>) -> Executed {
        let running = { self.running.remove(&txn) }.expect("it is running");
        let reads = running.reads();
        let part = |(shard, grant)| {
            let writes = Vec::new();
            let part = Part {
                shard,
                grant,
                writes,
            };
            (shard, part)
        };
        let mut parts: BTreeMap<ShardId, Part> = running.grants.into_iter().map(part).collect();
        for write in writes {
            let shard = around.layout.shard_of(write.key);
            let part = parts.get_mut(&shard).expect("written rows are locked");
            part.writes.push(write);
        }
        let holds_own = |(shard, _)| self.holds_under(txn, parts[&shard].grant);
        assert!(
            around.here.is_none_or(holds_own),
            "{txn}: only the initiator itself takes its own locks away"
        );
        Executed {
            txn,
            client: running.client,
            attempt: running.attempt,
            parts: parts.into_values().collect(),
            reads,
        }
    }

    /// Gives up a transaction that is running, and releases all its locks. Returns whom to answer.
    pub fn withdraw(&mut self, txn: TxnId, around: &Around<'_>, out: &mut Out) -> Option<Addr> {
        let running = self.running.remove(&txn)?;
        out.cancel_timer(Timer::Relock(txn));
        out.cancel_timer(Timer::Restart(txn));
        let shards = running.wanted.keys().copied();
        self.release_others(txn, running.attempt, shards, around, out);
        self.forget(txn, around, out);
        Some(running.client)
    }

    /// Releases all locks and says why.
    fn give_up(&mut self, txn: TxnId, outcome: Outcome, around: &Around<'_>, out: &mut Out) -> End {
        let running = { self.running.remove(&txn) }.expect("it is running");
        let shards = running.wanted.keys().copied();
        self.release_others(txn, running.attempt, shards, around, out);
        self.forget(txn, around, out);
        let client = running.client;
        End::Refused {
            txn,
            client,
            outcome,
        }
    }

    /// Tells the other ones among `shards` that this attempt will never be prepared.
    pub fn release_others(
        &mut self,
        txn: TxnId,
        attempt: Attempt,
        shards: impl IntoIterator<Item = ShardId>,
        around: &Around<'_>,
        out: &mut Out,
    ) {
        let all = { shards.into_iter() }.map(|shard| around.home(shard));
        for to in all.filter(|to| *to != around.me) {
            out.send(to, Message::Release { txn, attempt });
        }
    }

    pub(super) fn on_wound(
        &mut self,
        from: Addr,
        txn: TxnId,
        attempt: Attempt,
        around: &Around<'_>,
        out: &mut Out,
    ) -> Option<End> {
        let running = self.running.get_mut(&txn);
        let running =
            running.filter(|running| (running.attempt, running.stage) == (attempt, Stage::Locking));
        let Some(running) = running else {
            self.on_probe(from, txn, attempt, around, out);
            return None;
        };
        running.wounds += 1;
        out.observe(Observation::Mark("execution.wounded"));
        let restarts = around.options.restarts.get();
        if restarts > 0 && u64::from(running.wounds) > restarts {
            let why = AbortReason::Deadlock;
            return Some(self.give_up(txn, Outcome::Aborted { why }, around, out));
        }
        self.restart(txn, around, out);
        None
    }

    /// Releases everything, to begin again with the same timestamp.
    fn restart(&mut self, txn: TxnId, around: &Around<'_>, out: &mut Out) {
        let running = { self.running.get_mut(&txn) }.expect("it is running");
        running.stage = Stage::Pausing;
        let attempt = running.attempt;
        let shards: Vec<ShardId> = running.wanted.keys().copied().collect();
        self.release_others(txn, attempt, shards, around, out);
        self.forget(txn, around, out);
        out.cancel_timer(Timer::Relock(txn));
        let pause_ns = around.options.restart_pause_ms.ns();
        out.set_timer(Timer::Restart(txn), Delay::between(0, pause_ns));
    }

    /// Releases locks that nobody needs; a transaction in its commit phase still needs them.
    pub(super) fn on_probe(
        &mut self,
        from: Addr,
        txn: TxnId,
        attempt: Attempt,
        around: &Around<'_>,
        out: &mut Out,
    ) {
        let is_running = { self.running.get(&txn) }
            .is_some_and(|running| (running.attempt, running.stage) == (attempt, Stage::Locking));
        if !is_running && !self.keeps_own(txn, attempt, around) {
            self.send(from, Message::Release { txn, attempt }, around, out);
        }
    }
}
