//! A shard: versions and locks of its rows, and, for transactions whose primary lies here, how they ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{End, Fate, Message, Out, PrewriteRequest, Site, Timer};
use crate::base::observation::{Observation, Outcome};
use crate::base::process::{Addr, Delay, FileId, Input, Process, WallTime};
use crate::base::txn::{Key, Read, Row, ShardId, TxnId, Value};
use crate::base::zoo::{self, Bug};
use crate::protocol::Autopsy;
use crate::protocol::kit::durable;
use crate::protocol::kit::journal::Journal;
use crate::shard::ShardState;
use crate::shard::recovery::Recovery;
use crate::shard::versions::{Lock, Refusal, Timestamp, Unreadable, Versions};

const LOG: FileId = FileId(0);

/// What a shard's log holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum Record {
    /// An attempt has locked rows. Forced before its coordinator hears of it.
    Prewrite {
        lock: Lock,
        rows: BTreeMap<Key, Option<Value>>,
        secondaries: BTreeSet<ShardId>,
    },
    /// It has committed. Forced; in the primary's shard this is the commit point.
    Commit { lock: Lock, commit: Timestamp },
    /// These attempts of a transaction are rolled back; with an outcome, the transaction is over. Forced.
    RollBack {
        locks: Vec<Lock>,
        close: Option<(TxnId, Outcome)>,
    },
    /// All secondaries of an attempt have acted on its fate. Lazy.
    Finished { start: Timestamp },
    /// Versions were collected up to here. Lazy.
    Collect { to: Timestamp },
    /// Everything before this record.
    Checkpoint(Box<Durable>),
}

/// An attempt whose fate not all secondaries are known to have acted on.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Unfinished {
    lock: Lock,
    fate: Fate,
    missing: BTreeSet<ShardId>,
}

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Durable {
    versions: Versions,
    /// The other shards of attempts whose primary is locked here.
    secondaries: BTreeMap<Timestamp, BTreeSet<ShardId>>,
    /// How transactions ended whose primary lies here.
    ended: BTreeMap<TxnId, End>,
    unfinished: BTreeMap<Timestamp, Unfinished>,
}

/// What follows a forced record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Continuation {
    record: Record,
    /// Of the record.
    lock: Lock,
    /// Who asked for it, if somebody did.
    from: Option<Addr>,
    /// For the rolling forward or back of a secondary: the reader that waits for it.
    reader: Option<TxnId>,
}

/// A record on its way to the disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct UnderWay {
    start: Timestamp,
    /// Rows that will be locked.
    keys: BTreeSet<Key>,
}

/// A shard.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Shard {
    site: Arc<Site>,
    shard: ShardId,
    journal: Journal<Record, Continuation>,
    durable: Durable,
    /// One record of a transaction at a time: whatever else is asked about it meanwhile is asked again later.
    under_way: BTreeMap<TxnId, UnderWay>,
    /// The largest timestamp that anybody has named, and what it was at the last collection.
    heard: Timestamp,
    heard_before: Timestamp,
    is_collecting: bool,
}

impl Shard {
    pub(super) fn new(site: Arc<Site>, shard: ShardId) -> Self {
        Self {
            journal: Journal::new(LOG, site.options.checkpoint_min_bytes()),
            durable: Durable {
                versions: Versions::new(&site.layout, shard),
                secondaries: BTreeMap::new(),
                ended: BTreeMap::new(),
                unfinished: BTreeMap::new(),
            },
            site,
            shard,
            under_way: BTreeMap::new(),
            heard: Timestamp(0),
            heard_before: Timestamp(0),
            is_collecting: false,
        }
    }

    /// Takes a durable record into the state, and returns the rows that got a new value.
    fn apply(&mut self, record: Record) -> Vec<Key> {
        let shard_of = |lock: Lock| self.site.layout.shard_of(lock.primary);
        let is_primary = |lock: Lock| shard_of(lock) == self.shard;
        let durable = &mut self.durable;
        match record {
            Record::Prewrite {
                lock,
                rows,
                secondaries,
            } => {
                let taken = durable.versions.lock(lock, rows);
                assert!(taken.is_ok() || zoo::any(), "{lock:?}: {taken:?}");
                if is_primary(lock) {
                    durable.secondaries.insert(lock.start, secondaries);
                }
                Vec::new()
            }
            Record::Commit { lock, commit } => {
                let keys = durable
                    .versions
                    .commit(lock.start, commit)
                    .unwrap_or_default();
                if is_primary(lock) {
                    let start = lock.start;
                    if !zoo::planted(Bug::RepeatedRequestRunsAgain) {
                        durable
                            .ended
                            .insert(lock.txn, End::Committed { start, commit });
                    }
                    durable.decide(lock, Fate::Committed(commit));
                }
                keys
            }
            Record::RollBack { locks, close } => {
                for lock in locks {
                    durable.versions.roll_back(lock.start);
                    if is_primary(lock) {
                        durable.decide(lock, Fate::RolledBack);
                    }
                }
                if let Some((txn, outcome)) = close {
                    durable.ended.insert(txn, End::Closed(outcome));
                }
                Vec::new()
            }
            Record::Finished { start } => {
                durable.unfinished.remove(&start);
                Vec::new()
            }
            Record::Collect { to } => {
                durable.versions.collect(to);
                Vec::new()
            }
            Record::Checkpoint(checkpoint) => {
                self.durable = *checkpoint;
                Vec::new()
            }
        }
    }

    fn has_primary(&self, lock: Lock) -> bool {
        self.site.layout.shard_of(lock.primary) == self.shard
    }

    /// Forces a record, unless one of the same transaction is under way: then whoever asked asks again.
    fn force(&mut self, next: Continuation) {
        let txn = next.lock.txn;
        if self.under_way.contains_key(&txn) {
            return;
        }
        let keys = match &next.record {
            Record::Prewrite { rows, .. } => rows.keys().copied().collect(),
            _ => BTreeSet::new(),
        };
        let start = next.lock.start;
        self.under_way.insert(txn, UnderWay { start, keys });
        self.journal.force(next.record.clone(), next);
    }

    /// A record is durable: its effects are visible from here on.
    fn follow(&mut self, next: Continuation, out: &mut Out) {
        let Continuation {
            record,
            lock,
            from,
            reader,
        } = next;
        let (txn, start, shard) = (lock.txn, lock.start, self.shard);
        self.under_way.remove(&txn);
        let held_before = self.durable.versions.intent(start).is_some();
        let keys = self.apply(record.clone());
        match record {
            Record::Prewrite { .. } => {
                out.observe(Observation::Locked { txn, shard });
                if self.has_primary(lock) {
                    let ttl = self.site.options.lock_ttl_ms.exactly();
                    out.set_timer(Timer::Expire(start), ttl);
                }
                self.answer(from, Message::Prewritten { txn, start, shard }, out);
            }
            Record::Commit { commit, .. } => {
                if self.has_primary(lock) {
                    out.cancel_timer(Timer::Expire(start));
                    out.observe(Observation::Decided { txn, commit: true });
                }
                let position = commit.0;
                out.observe(Observation::Applied {
                    txn,
                    shard,
                    position,
                    keys,
                });
                out.observe(Observation::Unlocked { txn, shard });
                self.await_collection(out);
                if self.has_primary(lock) {
                    self.answer(from, Message::Committed { txn, start, commit }, out);
                    let patience = self.site.options.resend_ms.about();
                    self.finish_later(start, patience, out);
                    self.end_if_finished(txn, out);
                } else {
                    self.acted(lock, from, reader, out);
                }
            }
            Record::RollBack { locks, close } => {
                if held_before {
                    out.observe(Observation::Unlocked { txn, shard });
                }
                if !self.has_primary(lock) {
                    return self.acted(lock, from, reader, out);
                }
                for lock in locks {
                    out.cancel_timer(Timer::Expire(lock.start));
                    self.finish_later(lock.start, Delay::exactly(0), out);
                }
                match close {
                    Some((_, outcome)) => {
                        out.observe(Observation::Decided { txn, commit: false });
                        let end = End::Closed(outcome);
                        self.answer(from, Message::Ended { txn, start, end }, out);
                        self.end_if_finished(txn, out);
                    }
                    None => self.answer(from, Message::RolledBack { txn, start }, out),
                }
            }
            Record::Finished { .. } | Record::Collect { .. } | Record::Checkpoint(_) => {
                unreachable!("it is never forced");
            }
        }
    }

    fn answer(&self, to: Option<Addr>, message: Message, out: &mut Out) {
        if let Some(to) = to {
            out.send(to, message);
        }
    }

    /// The transaction ended before: an older attempt did it, or this one, whose answer was lost. A crash may have come
    /// between the record of the end and the observation of it, so that it is stated again.
    fn answer_end(&self, to: Addr, lock: Lock, end: End, out: &mut Out) {
        let (txn, start) = (lock.txn, lock.start);
        self.end_if_finished(txn, out);
        out.send(to, Message::Ended { txn, start, end });
    }

    // Snapshot reads.

    fn on_read(
        &mut self,
        from: Addr,
        txn: TxnId,
        at: Timestamp,
        keys: &BTreeSet<Key>,
        out: &mut Out,
    ) {
        self.hear(at);
        out.work(keys.len() as u32);
        let (shard, versions) = (self.shard, &self.durable.versions);
        let (mut rows, mut locks) = (Vec::new(), BTreeSet::new());
        for key in keys {
            match versions.read(*key, at) {
                Ok(row) => {
                    let absent = || Row::initial(Value::Int(0));
                    let row = row.cloned().unwrap_or_else(absent);
                    rows.push(Read { key: *key, row });
                }
                Err(Unreadable::TooOld) => return out.send(from, Message::TooOld { txn, at }),
                Err(Unreadable::Locked(lock)) => {
                    out.observe(Observation::LockWait {
                        txn,
                        shard,
                        key: *key,
                    });
                    locks.insert(lock);
                }
            }
        }
        let answer = if locks.is_empty() {
            Message::Rows {
                txn,
                at,
                shard,
                rows,
            }
        } else {
            Message::Locked {
                txn,
                at,
                shard,
                locks,
            }
        };
        out.send(from, answer);
    }

    // Prewrite.

    fn on_prewrite(&mut self, from: Addr, request: &PrewriteRequest, out: &mut Out) {
        let PrewriteRequest {
            lock,
            rows,
            secondaries,
        } = request;
        let (txn, start, shard) = (lock.txn, lock.start, self.shard);
        self.hear(start);
        out.work(rows.len() as u32);
        if let Some(end) = self.durable.ended.get(&txn)
            && !zoo::planted(Bug::RepeatedRequestRunsAgain)
        {
            return self.answer_end(from, *lock, end.clone(), out);
        }
        if self.durable.versions.intent(start).is_some() {
            return out.send(from, Message::Prewritten { txn, start, shard });
        }
        match self.may_lock(*lock, rows) {
            Ok(()) => {
                let record = Record::Prewrite {
                    lock: *lock,
                    rows: rows.clone(),
                    secondaries: secondaries.clone(),
                };
                let (lock, from, reader) = (*lock, Some(from), None);
                self.force(Continuation {
                    record,
                    lock,
                    from,
                    reader,
                });
            }
            Err(why) => {
                if why == Refusal::RolledBack {
                    out.observe(Observation::Mark("percolator.late-prewrite"));
                }
                out.send(from, Message::Refused { txn, start, why });
            }
        }
    }

    fn may_lock(&self, lock: Lock, rows: &BTreeMap<Key, Option<Value>>) -> Result<(), Refusal> {
        // Whoever is about to lock a row has it.
        let wanted = |way: &UnderWay| rows.keys().any(|key| way.keys.contains(key));
        let mut others = self.under_way.iter();
        if let Some((txn, way)) = others.find(|(txn, way)| **txn != lock.txn && wanted(way)) {
            let (txn, start) = (*txn, way.start);
            return Err(Refusal::Locked(Lock { txn, start, ..lock }));
        }
        self.durable.versions.may_lock(lock.start, rows.keys())
    }

    // Commit, and its opposite, at the primary.

    fn on_commit(&mut self, from: Addr, lock: Lock, commit: Timestamp, out: &mut Out) {
        self.hear(commit);
        let (txn, start) = (lock.txn, lock.start);
        match self.durable.ended.get(&txn) {
            Some(End::Committed { start: by, commit }) if *by == start => {
                let commit = *commit;
                self.end_if_finished(txn, out);
                return out.send(from, Message::Committed { txn, start, commit });
            }
            Some(end) => return self.answer_end(from, lock, end.clone(), out),
            None => {}
        }
        if self.durable.versions.intent(start).is_none() {
            if zoo::planted(Bug::CommitWithoutLock) {
                return out.send(from, Message::Committed { txn, start, commit });
            }
            let why = Refusal::RolledBack;
            return out.send(from, Message::Refused { txn, start, why });
        }
        let record = Record::Commit { lock, commit };
        let (from, reader) = (Some(from), None);
        self.force(Continuation {
            record,
            lock,
            from,
            reader,
        });
    }

    fn on_give_up(&mut self, from: Addr, lock: Lock, close: Option<Outcome>, out: &mut Out) {
        let (txn, start) = (lock.txn, lock.start);
        if let Some(end) = self.durable.ended.get(&txn) {
            return self.answer_end(from, lock, end.clone(), out);
        }
        let of_txn = |other: &Lock| other.txn == txn && other.start != start;
        let mut locks = vec![lock];
        if close.is_some() {
            // No other attempt may commit after this.
            let others = self.durable.versions.intents().map(|intent| intent.lock);
            locks.extend(others.filter(of_txn));
        } else if self.durable.versions.is_barred(start) {
            return out.send(from, Message::RolledBack { txn, start });
        }
        let close = close.map(|outcome| (txn, outcome));
        let record = Record::RollBack { locks, close };
        let (from, reader) = (Some(from), None);
        self.force(Continuation {
            record,
            lock,
            from,
            reader,
        });
    }

    /// The attempt's time is over: whoever waits for its locks shall have them.
    fn expire(&mut self, start: Timestamp, out: &mut Out) {
        let Some(intent) = self.durable.versions.intent(start) else {
            return;
        };
        let lock = intent.lock;
        out.set_timer(
            Timer::Expire(start),
            self.site.options.lock_ttl_ms.exactly(),
        );
        if !self.under_way.contains_key(&lock.txn) {
            out.observe(Observation::Mark("percolator.lock-expired"));
            let (locks, close) = (vec![lock], None);
            let record = Record::RollBack { locks, close };
            let (from, reader) = (None, None);
            self.force(Continuation {
                record,
                lock,
                from,
                reader,
            });
        }
    }

    /// What has become of a lock's owner, if its primary lies here. Nothing while it is under way.
    fn fate(&self, lock: Lock) -> Option<Fate> {
        let is_open = self.durable.versions.intent(lock.start).is_some();
        match self.durable.ended.get(&lock.txn) {
            Some(End::Committed { start, commit }) if *start == lock.start => {
                Some(Fate::Committed(*commit))
            }
            _ if zoo::planted(Bug::LiveLockRolledBack) => Some(Fate::RolledBack),
            _ if self.under_way.contains_key(&lock.txn) || is_open => None,
            // Secondaries are locked after the primary, whose lock is gone.
            _ => Some(Fate::RolledBack),
        }
    }

    // Secondaries.

    fn on_resolve(
        &mut self,
        from: Addr,
        lock: Lock,
        fate: Fate,
        reader: Option<TxnId>,
        out: &mut Out,
    ) {
        let is_locked = self.durable.versions.intent(lock.start).is_some();
        let record = match fate {
            Fate::Committed(commit) if is_locked => Record::Commit { lock, commit },
            // Also where nothing is locked: a prewrite may still be on its way.
            Fate::RolledBack if is_locked || !self.durable.versions.is_barred(lock.start) => {
                let (locks, close) = (vec![lock], None);
                Record::RollBack { locks, close }
            }
            _ => return self.acted(lock, Some(from), reader, out),
        };
        let from = Some(from);
        self.force(Continuation {
            record,
            lock,
            from,
            reader,
        });
    }

    /// This shard has acted on the fate of an attempt.
    fn acted(&self, lock: Lock, from: Option<Addr>, reader: Option<TxnId>, out: &mut Out) {
        let (start, shard) = (lock.start, self.shard);
        if !self.has_primary(lock) {
            out.send(
                self.site.shard_of(lock.primary),
                Message::Finished { start, shard },
            );
        }
        if let (Some(from), Some(reader)) = (from, reader) {
            out.send(from, Message::Resolved { reader, shard });
        }
    }

    // The primary's shard sees to it that transactions end.

    fn finish_later(&self, start: Timestamp, after: Delay, out: &mut Out) {
        if self.durable.unfinished.contains_key(&start) {
            out.set_timer(Timer::Finish(start), after);
        }
    }

    fn finish(&mut self, start: Timestamp, out: &mut Out) {
        let Some(Unfinished {
            lock,
            fate,
            missing,
        }) = self.durable.unfinished.get(&start)
        else {
            return;
        };
        if matches!(fate, Fate::Committed(_)) {
            out.observe(Observation::Mark("percolator.finished-for-coordinator"));
        }
        for shard in missing {
            let (lock, fate, reader) = (*lock, *fate, None);
            out.send(
                self.site.shard(*shard),
                Message::Resolve { lock, fate, reader },
            );
        }
        out.set_timer(Timer::Finish(start), self.site.options.resend_ms.about());
    }

    fn on_finished(&mut self, start: Timestamp, shard: ShardId, out: &mut Out) {
        let Some(unfinished) = self.durable.unfinished.get_mut(&start) else {
            return;
        };
        unfinished.missing.remove(&shard);
        if unfinished.missing.is_empty() {
            let txn = unfinished.lock.txn;
            self.durable.unfinished.remove(&start);
            self.journal.write_lazily(Record::Finished { start });
            out.cancel_timer(Timer::Finish(start));
            self.end_if_finished(txn, out);
        }
    }

    /// A transaction has ended when all shards have acted on the fates of all of its attempts.
    fn end_if_finished(&self, txn: TxnId, out: &mut Out) {
        let Some(end) = self.durable.ended.get(&txn) else {
            return;
        };
        let mut unfinished = self.durable.unfinished.values();
        if unfinished.all(|unfinished| unfinished.lock.txn != txn) {
            let commit = matches!(end, End::Committed { .. });
            out.observe(Observation::Ended { txn, commit });
        }
    }

    // Garbage collection.

    fn hear(&mut self, timestamp: Timestamp) {
        self.heard = self.heard.max(timestamp);
    }

    fn await_collection(&mut self, out: &mut Out) {
        if !self.is_collecting && self.durable.versions.has_history() {
            self.is_collecting = true;
            out.set_timer(Timer::Collect, self.site.options.gc_life_ms.exactly());
        }
    }

    /// What was said before the last time is older than a whole life by now.
    fn collect(&mut self, out: &mut Out) {
        // A prewrite on its way to the disk holds the safe time back as a lock does.
        let prewriting = self
            .under_way
            .values()
            .map(|way| way.start.0.saturating_sub(1));
        let held_at = prewriting.min().unwrap_or(u64::MAX);
        let to = Timestamp(self.heard_before.0.min(held_at));
        self.heard_before = self.heard;
        if to > self.durable.versions.safe() {
            let record = Record::Collect { to };
            self.journal.write_lazily(record.clone());
            self.apply(record);
        }
        self.is_collecting = false;
        self.await_collection(out);
    }
}

impl Durable {
    /// An attempt whose primary lies here has its fate: its secondaries have to act on it.
    fn decide(&mut self, lock: Lock, fate: Fate) {
        let missing = self.secondaries.remove(&lock.start).unwrap_or_default();
        if !missing.is_empty() {
            self.unfinished.insert(
                lock.start,
                Unfinished {
                    lock,
                    fate,
                    missing,
                },
            );
        }
    }
}

impl Process for Shard {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        durable::step(self, now, input, out);
    }
}

impl durable::Durable<Record, Continuation> for Shard {
    const DAMAGED: &'static str = "a shard's log is damaged";

    fn journal(&mut self) -> &mut Journal<Record, Continuation> {
        &mut self.journal
    }

    fn checkpoint(&self) -> Record {
        Record::Checkpoint(Box::new(self.durable.clone()))
    }

    /// The log is the state. Locks wait for their time to live again, and secondaries are told again.
    fn recover(&mut self, records: Vec<Record>, out: &mut Out) {
        for record in records {
            self.apply(record);
        }
        for start in self.durable.unfinished.keys() {
            out.set_timer(Timer::Finish(*start), Delay::exactly(0));
        }
        for intent in self.durable.versions.intents() {
            if self.has_primary(intent.lock) {
                let ttl = self.site.options.lock_ttl_ms.exactly();
                out.set_timer(Timer::Expire(intent.lock.start), ttl);
            }
        }
        self.await_collection(out);
    }

    fn on_message(&mut self, _: WallTime, from: Addr, message: Message, out: &mut Out) {
        match message {
            Message::Read { txn, at, keys } => self.on_read(from, txn, at, &keys, out),
            Message::Prewrite(request) => self.on_prewrite(from, &request, out),
            Message::Commit { lock, commit } => self.on_commit(from, lock, commit, out),
            Message::GiveUp { lock, close } => self.on_give_up(from, lock, close, out),
            Message::CheckStatus {
                lock,
                reader,
                shard,
            } => {
                let fate = self.fate(lock);
                out.send(
                    from,
                    Message::Status {
                        lock,
                        reader,
                        shard,
                        fate,
                    },
                );
            }
            Message::Resolve { lock, fate, reader } => {
                self.on_resolve(from, lock, fate, reader, out)
            }
            Message::Finished { start, shard } => self.on_finished(start, shard, out),
            message => unreachable!("{message:?} is not for a shard"),
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Expire(start) => self.expire(start, out),
            Timer::Finish(start) => self.finish(start, out),
            Timer::Collect => self.collect(out),
            _ => {}
        }
    }

    fn on_durable(&mut self, _: WallTime, next: Continuation, out: &mut Out) {
        self.follow(next, out);
    }

    /// What was not written has not happened: whoever asked asks again.
    fn on_lost(&mut self, next: Continuation, _: &mut Out) {
        self.under_way.remove(&next.lock.txn);
    }
}

impl Autopsy for Shard {
    fn autopsy(&self) -> Option<ShardState> {
        let home = self.site.layout.shards[usize::from(self.shard.0)].home;
        Some(self.durable.versions.autopsy(home))
    }

    /// It ends when no lock is left: each is rolled forward or back, at the latest when its time to live is over.
    fn recovery(&self) -> Recovery {
        let owners = self.durable.versions.owners();
        Recovery::waits_on(owners, "for the fate of the locks of")
    }
}
