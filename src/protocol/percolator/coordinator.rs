//! The coordinator: the paper's client library (Peng and Dabek 2010, figure 6), on a front machine. It keeps nothing on
//! disk; a restart forgets everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{End, Fate, Message, Out, PrewriteRequest, Site, Timer, primary_of};
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::process::{Addr, Input};
use crate::base::txn::{Evaluation, Footprint, Key, Read, Row, ShardId, Txn, TxnId, Value, Write};
use crate::base::zoo::{self, Bug};
use crate::protocol::kit::client::ClientMessage;
use crate::shard::versions::{Lock, Refusal, Timestamp};

/// What an attempt has decided to write, from a snapshot.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Writing {
    lock: Lock,
    /// What it has read, for the client.
    reads: Vec<Read>,
    requests: BTreeMap<ShardId, Arc<PrewriteRequest>>,
}

/// Where an attempt stands, in the order of the protocol.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// The oracle was asked for a start timestamp.
    Starting,
    /// Rows are read as they were at `start`.
    Reading {
        start: Timestamp,
        rows: BTreeMap<Key, Row>,
        missing: BTreeMap<ShardId, BTreeSet<Key>>,
        /// The transaction has committed, in the attempt that started then: its client wants to know what it read.
        has_committed: bool,
    },
    /// These shards have not locked their rows: the primary's, or all others.
    Prewriting {
        writing: Writing,
        missing: BTreeSet<ShardId>,
    },
    /// All rows are locked, and the oracle was asked for a commit timestamp.
    Stamping { writing: Writing },
    /// The primary's shard was told to commit.
    Committing { writing: Writing, commit: Timestamp },
    /// The primary's shard was told to roll the attempt back; with an outcome, the transaction is over.
    GivingUp { lock: Lock, close: Option<Outcome> },
}

/// A transaction under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Open {
    txn: Arc<Txn>,
    client: Addr,
    attempt: u64,
    /// How often it may still start over after a conflict.
    restarts: u64,
    phase: Phase,
}

/// A coordinator.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Coordinator {
    site: Arc<Site>,
    open: BTreeMap<TxnId, Open>,
}

impl Coordinator {
    pub(super) fn new(site: Arc<Site>) -> Self {
        let open = BTreeMap::new();
        Self { site, open }
    }

    pub(super) fn step(&mut self, input: Input<Message, Timer>, out: &mut Out) {
        match input {
            Input::Message { from, message } => self.receive(from, message, out),
            Input::Timer(Timer::Resend(txn)) => self.resend(txn, out),
            Input::Timer(Timer::LockWait(txn)) => self.read_missing(txn, out),
            Input::Timer(_) | Input::Boot(_) | Input::Flushed(_) | Input::FlushFailed(_) => {}
        }
    }

    fn receive(&mut self, from: Addr, message: Message, out: &mut Out) {
        match message {
            Message::Client(ClientMessage::Request { txn }) => self.on_request(from, txn, out),
            Message::Timestamp {
                txn,
                attempt,
                start,
                at,
            } => {
                self.on_timestamp(txn, attempt, start, at, out);
            }
            Message::Rows {
                txn,
                at,
                shard,
                rows,
            } => self.on_rows(txn, at, shard, rows, out),
            Message::Locked {
                txn,
                at,
                shard,
                locks,
            } => self.on_locked(txn, at, shard, locks, out),
            Message::TooOld { txn, at } => self.on_too_old(txn, at, out),
            Message::Status {
                lock,
                reader,
                shard,
                fate,
            } => {
                self.on_status(lock, reader, shard, fate, out);
            }
            Message::Resolved { reader, shard } => self.on_resolved(reader, shard, out),
            Message::Prewritten { txn, start, shard } => self.on_prewritten(txn, start, shard, out),
            Message::Refused { txn, start, why } => self.on_refused(txn, start, why, out),
            Message::Committed { txn, start, commit } => self.on_committed(txn, start, commit, out),
            Message::RolledBack { txn, start } => self.on_rolled_back(txn, start, out),
            Message::Ended { txn, start, end } => self.on_ended(txn, start, end, out),
            message => unreachable!("{message:?} is not for a coordinator"),
        }
    }

    // The start timestamp.

    fn on_request(&mut self, client: Addr, txn: Arc<Txn>, out: &mut Out) {
        let id = txn.id;
        if self.open.contains_key(&id) {
            return; // A duplicate: the answer will come.
        }
        out.observe(Observation::Initiated { txn: id });
        let restarts = self.site.options.restarts.get();
        let (attempt, phase) = (0, Phase::Starting);
        self.open.insert(
            id,
            Open {
                txn,
                client,
                attempt,
                restarts,
                phase,
            },
        );
        self.resend(id, out);
    }

    fn start_over(&mut self, id: TxnId, out: &mut Out) {
        if let Some(open) = self.open.get_mut(&id) {
            open.attempt += 1;
            open.phase = Phase::Starting;
            self.resend(id, out);
        }
    }

    fn on_timestamp(
        &mut self,
        id: TxnId,
        attempt: u64,
        of: Option<Timestamp>,
        at: Timestamp,
        out: &mut Out,
    ) {
        let Some(open) = self
            .open
            .get_mut(&id)
            .filter(|open| open.attempt == attempt)
        else {
            return;
        };
        match (&open.phase, of) {
            (Phase::Starting, None) => self.read_at(id, at, false, out),
            (Phase::Stamping { writing }, Some(start)) if writing.lock.start == start => {
                let writing = writing.clone();
                let mut commit = at;
                if zoo::planted(Bug::CommitAtStartTimestamp) {
                    commit = Timestamp(start.0 + 1);
                }
                open.phase = Phase::Committing { writing, commit };
                self.resend(id, out);
            }
            _ => {} // An answer to a request that was repeated.
        }
    }

    // Snapshot reads.

    fn read_at(&mut self, id: TxnId, start: Timestamp, has_committed: bool, out: &mut Out) {
        if let Some(open) = self.open.get_mut(&id) {
            open.phase = Phase::Reading {
                start,
                rows: BTreeMap::new(),
                missing: BTreeMap::new(),
                has_committed,
            };
            self.read_on(id, out);
        }
    }

    /// Asks for the rows that are known to be needed; goes on once all have been read.
    fn read_on(&mut self, id: TxnId, out: &mut Out) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let Phase::Reading { rows, missing, .. } = &mut open.phase else {
            return;
        };
        let pointers = open.txn.pointers();
        let value_of = |key: Key| rows.get(&key).map_or(0, |row| row.value.as_int());
        let needed = if pointers.iter().all(|key| rows.contains_key(key)) {
            open.txn.footprint(value_of).reads
        } else {
            pointers
        };
        let unread = needed.into_iter().filter(|key| !rows.contains_key(key));
        *missing = self.site.layout.by_shard(unread);
        if missing.is_empty() {
            self.evaluate(id, out);
        } else {
            self.resend(id, out);
        }
    }

    fn read_missing(&self, id: TxnId, out: &mut Out) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        if let Phase::Reading { start, missing, .. } = &open.phase {
            for (shard, keys) in missing {
                let (txn, at, keys) = (id, *start, keys.clone());
                out.send(self.site.shard(*shard), Message::Read { txn, at, keys });
            }
        }
    }

    fn on_rows(
        &mut self,
        id: TxnId,
        at: Timestamp,
        shard: ShardId,
        read: Vec<Read>,
        out: &mut Out,
    ) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let Phase::Reading {
            start,
            rows,
            missing,
            ..
        } = &mut open.phase
        else {
            return;
        };
        // A dependent transaction asks a shard twice, for different rows.
        let is_answer = |keys: &BTreeSet<Key>| keys.iter().eq(read.iter().map(|read| &read.key));
        if *start != at || !missing.get(&shard).is_some_and(is_answer) {
            return;
        }
        missing.remove(&shard);
        rows.extend(read.into_iter().map(|read| (read.key, read.row)));
        if missing.is_empty() {
            self.read_on(id, out);
        }
    }

    /// Whether a transaction reads as of this time, and waits for this shard.
    fn waits_for(&self, id: TxnId, shard: ShardId) -> Option<Timestamp> {
        match &self.open.get(&id)?.phase {
            Phase::Reading { start, missing, .. } if missing.contains_key(&shard) => Some(*start),
            _ => None,
        }
    }

    /// A lock hides the past: ask the primary's shard what has become of its owner.
    fn on_locked(
        &mut self,
        reader: TxnId,
        at: Timestamp,
        shard: ShardId,
        locks: BTreeSet<Lock>,
        out: &mut Out,
    ) {
        if self.waits_for(reader, shard) == Some(at) {
            for lock in locks {
                let to = self.site.shard_of(lock.primary);
                out.send(
                    to,
                    Message::CheckStatus {
                        lock,
                        reader,
                        shard,
                    },
                );
            }
        }
    }

    fn on_status(
        &mut self,
        lock: Lock,
        reader: TxnId,
        shard: ShardId,
        fate: Option<Fate>,
        out: &mut Out,
    ) {
        if self.waits_for(reader, shard).is_none() {
            return;
        }
        let Some(fate) = fate else {
            let wait = self.site.options.lock_wait_ms.about();
            return out.set_timer(Timer::LockWait(reader), wait);
        };
        out.observe(Observation::Mark(match fate {
            Fate::Committed(_) => "percolator.rolled-forward",
            Fate::RolledBack => "percolator.rolled-back",
        }));
        let reader = Some(reader);
        out.send(
            self.site.shard(shard),
            Message::Resolve { lock, fate, reader },
        );
    }

    fn on_resolved(&mut self, reader: TxnId, shard: ShardId, out: &mut Out) {
        if self.waits_for(reader, shard).is_some() {
            self.read_missing(reader, out);
        }
    }

    fn on_too_old(&mut self, id: TxnId, at: Timestamp, out: &mut Out) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        match open.phase {
            Phase::Reading {
                start,
                has_committed,
                ..
            } if start == at => {
                out.observe(Observation::Mark("percolator.snapshot-too-old"));
                if has_committed {
                    // What it read is gone. That it committed is not.
                    self.finish(id, Outcome::Committed { reads: Vec::new() }, out);
                } else {
                    self.start_over(id, out);
                }
            }
            _ => {}
        }
    }

    /// Everything is read: run the procedure.
    fn evaluate(&mut self, id: TxnId, out: &mut Out) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        let Phase::Reading {
            start,
            rows,
            has_committed,
            ..
        } = &open.phase
        else {
            return;
        };
        let (start, txn) = (*start, Arc::clone(&open.txn));
        let footprint = txn.footprint(|key| rows[&key].value.as_int());
        let reads = reads_of(&footprint, rows);
        if *has_committed {
            return self.finish(id, Outcome::Committed { reads }, out);
        }
        let primary = primary_of(&txn);
        let lock = |primary| Lock {
            txn: id,
            start,
            primary,
        };
        match (txn.evaluate(&footprint, |key| rows.get(&key)), primary) {
            (Evaluation::Moved, _) => unreachable!("a snapshot does not move"),
            (Evaluation::Declined(guard), Some(primary)) => {
                self.give_up(id, lock(primary), Some(Outcome::Declined { guard }), out);
            }
            (Evaluation::Commit(writes), Some(primary)) => {
                let requests = requests(&self.site, lock(primary), &writes, rows);
                let missing = [self.site.layout.shard_of(primary)].into();
                let writing = Writing {
                    lock: lock(primary),
                    reads,
                    requests,
                };
                self.go_on(id, Phase::Prewriting { writing, missing }, out);
            }
            // Who writes nothing needs no record of the end: all attempts end alike for the others.
            (Evaluation::Declined(guard), None) => self.end(id, Outcome::Declined { guard }, out),
            (Evaluation::Commit(_), None) => self.end(id, Outcome::Committed { reads }, out),
        }
    }

    fn go_on(&mut self, id: TxnId, phase: Phase, out: &mut Out) {
        if let Some(open) = self.open.get_mut(&id) {
            open.phase = phase;
            self.resend(id, out);
        }
    }

    // Prewrite: the primary first.

    fn on_prewritten(&mut self, id: TxnId, start: Timestamp, shard: ShardId, out: &mut Out) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let Phase::Prewriting { writing, missing } = &mut open.phase else {
            return;
        };
        if writing.lock.start != start || !missing.remove(&shard) || !missing.is_empty() {
            return;
        }
        let primary = self.site.layout.shard_of(writing.lock.primary);
        if shard == primary {
            let others = writing.requests.keys().filter(|shard| **shard != primary);
            *missing = others.copied().collect();
        }
        if missing.is_empty() {
            let writing = writing.clone();
            if zoo::planted(Bug::AckAtPrewrite) {
                let outcome = Outcome::Committed {
                    reads: writing.reads.clone(),
                };
                let reply = ClientMessage::Reply { txn: id, outcome };
                out.send(open.client, Message::Client(reply));
            }
            open.phase = Phase::Stamping { writing };
        }
        self.resend(id, out);
    }

    /// A row was taken by somebody else, or the locks are gone.
    fn on_refused(&mut self, id: TxnId, start: Timestamp, why: Refusal, out: &mut Out) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let lock = match &open.phase {
            Phase::Prewriting { writing, .. } | Phase::Committing { writing, .. } => writing.lock,
            _ => return,
        };
        if lock.start != start {
            return;
        }
        let why = match why {
            Refusal::Locked(_) | Refusal::Conflict(_) => AbortReason::WriteConflict,
            Refusal::RolledBack | Refusal::TooOld => AbortReason::LockExpired,
        };
        if why == AbortReason::WriteConflict {
            out.observe(Observation::Mark("percolator.write-conflict"));
        }
        let close = match open.restarts.checked_sub(1) {
            Some(restarts) => {
                open.restarts = restarts;
                None
            }
            None => Some(Outcome::Aborted { why }),
        };
        self.give_up(id, lock, close, out);
    }

    // Commit.

    fn on_committed(&mut self, id: TxnId, start: Timestamp, commit: Timestamp, out: &mut Out) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        let Phase::Committing { writing, .. } = &open.phase else {
            return;
        };
        let (lock, reads) = (writing.lock, writing.reads.clone());
        if lock.start != start {
            return;
        }
        let primary = self.site.layout.shard_of(lock.primary);
        for shard in writing.requests.keys().filter(|shard| **shard != primary) {
            let (fate, reader) = (Fate::Committed(commit), None);
            out.send(
                self.site.shard(*shard),
                Message::Resolve { lock, fate, reader },
            );
        }
        self.finish(id, Outcome::Committed { reads }, out);
    }

    // The ways out.

    fn give_up(&mut self, id: TxnId, lock: Lock, close: Option<Outcome>, out: &mut Out) {
        self.go_on(id, Phase::GivingUp { lock, close }, out);
    }

    fn on_rolled_back(&mut self, id: TxnId, start: Timestamp, out: &mut Out) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        match &open.phase {
            Phase::GivingUp { lock, close: None } if lock.start == start => {
                self.start_over(id, out)
            }
            _ => {}
        }
    }

    /// The primary's shard knows how the transaction ended: by this attempt or another.
    fn on_ended(&mut self, id: TxnId, asked: Timestamp, end: End, out: &mut Out) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        let lock = match &open.phase {
            Phase::Prewriting { writing, .. } | Phase::Committing { writing, .. } => writing.lock,
            Phase::GivingUp { lock, .. } => *lock,
            _ => return,
        };
        if lock.start != asked {
            return;
        }
        match end {
            End::Closed(outcome) => self.finish(id, outcome, out),
            End::Committed { start, .. } => {
                out.observe(Observation::Mark("percolator.ended-before"));
                self.read_at(id, start, true, out);
            }
        }
    }

    /// Answers, where the coordinator alone knows the end.
    fn end(&mut self, txn: TxnId, outcome: Outcome, out: &mut Out) {
        let commit = matches!(outcome, Outcome::Committed { .. });
        out.observe(Observation::Decided { txn, commit });
        out.observe(Observation::Ended { txn, commit });
        self.finish(txn, outcome, out);
    }

    fn finish(&mut self, txn: TxnId, outcome: Outcome, out: &mut Out) {
        if let Some(open) = self.open.remove(&txn) {
            out.cancel_timer(Timer::Resend(txn));
            out.cancel_timer(Timer::LockWait(txn));
            let reply = ClientMessage::Reply { txn, outcome };
            out.send(open.client, Message::Client(reply));
        }
    }

    /// Sends what the phase waits for the answers of; again after a while, if there is none.
    fn resend(&self, id: TxnId, out: &mut Out) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        let site = &self.site;
        let (txn, attempt) = (id, open.attempt);
        match &open.phase {
            Phase::Starting => {
                let start = None;
                out.send(
                    site.oracle(),
                    Message::GetTimestamp {
                        txn,
                        attempt,
                        start,
                    },
                );
            }
            Phase::Reading { .. } => self.read_missing(id, out),
            Phase::Prewriting { writing, missing } => {
                for shard in missing {
                    let request = Arc::clone(&writing.requests[shard]);
                    out.send(site.shard(*shard), Message::Prewrite(request));
                }
            }
            Phase::Stamping { writing } => {
                let start = Some(writing.lock.start);
                out.send(
                    site.oracle(),
                    Message::GetTimestamp {
                        txn,
                        attempt,
                        start,
                    },
                );
            }
            Phase::Committing { writing, commit } => {
                let (lock, commit) = (writing.lock, *commit);
                out.send(
                    site.shard_of(lock.primary),
                    Message::Commit { lock, commit },
                );
            }
            Phase::GivingUp { lock, close } => {
                let (lock, close) = (*lock, close.clone());
                out.send(site.shard_of(lock.primary), Message::GiveUp { lock, close });
            }
        }
        out.set_timer(Timer::Resend(id), site.options.resend_ms.about());
    }
}

fn reads_of(footprint: &Footprint, rows: &BTreeMap<Key, Row>) -> Vec<Read> {
    let read = |key: &Key| Read {
        key: *key,
        row: rows[key].clone(),
    };
    footprint.reads.iter().map(read).collect()
}

/// What each shard has to lock, with the values that `writes` make of the rows.
fn requests(
    site: &Site,
    lock: Lock,
    writes: &[Write],
    rows: &BTreeMap<Key, Row>,
) -> BTreeMap<ShardId, Arc<PrewriteRequest>> {
    let layout = &site.layout;
    // The primary is locked though it may not be written.
    let mut values: BTreeMap<Key, Option<Value>> = BTreeMap::from([(lock.primary, None)]);
    for Write { key, op } in writes {
        let before = values.get(key).cloned().flatten();
        let value = op.apply(before.as_ref().unwrap_or(&rows[key].value));
        values.insert(*key, Some(value));
    }
    let by_shard = layout.by_shard(values.keys().copied());
    let primary = layout.shard_of(lock.primary);
    let others: BTreeSet<ShardId> = by_shard
        .keys()
        .copied()
        .filter(|shard| *shard != primary)
        .collect();
    let request = |(shard, keys): (ShardId, BTreeSet<Key>)| {
        let rows = keys
            .into_iter()
            .map(|key| (key, values[&key].clone()))
            .collect();
        let secondaries = if shard == primary {
            others.clone()
        } else {
            BTreeSet::new()
        };
        (
            shard,
            Arc::new(PrewriteRequest {
                lock,
                rows,
                secondaries,
            }),
        )
    };
    by_shard.into_iter().map(request).collect()
}
