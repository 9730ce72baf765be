//! Transactions that only read: without locks, at a timestamp (sections 4.1.3 and 4.2.2).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::group::Command;
use super::replica::Replica;
use super::{Message, Out, Timer};
use crate::base::observation::{Observation, Outcome};
use crate::base::process::{Addr, WallTime};
use crate::base::txn::{Evaluation, Key, Read, Row, ShardId, Txn, TxnId};
use crate::protocol::kit::client::ClientMessage;
use crate::shard::versions::Timestamp;

/// A transaction that only reads, at the replica that runs it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Reading {
    client: Addr,
    txn: Arc<Txn>,
    at: Timestamp,
    rows: BTreeMap<Key, Row>,
    missing: BTreeMap<ShardId, BTreeSet<Key>>,
}

/// A read of this group's rows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Asked {
    from: Addr,
    txn: TxnId,
    at: Timestamp,
    keys: BTreeSet<Key>,
    /// Whether it had to wait, so far.
    has_waited: bool,
}

/// Why a read cannot be served yet.
enum Wait {
    /// For the safe time.
    Safe,
    /// For a transaction that is prepared.
    Prepared,
    /// For a version's timestamp to pass.
    Passing(Timestamp),
}

impl Replica {
    /// A strong read: at `TT.now().latest`, so that it sees all that has ended.
    pub(super) fn read_at_now(
        &mut self,
        now: WallTime,
        client: Addr,
        txn: Arc<Txn>,
        out: &mut Out,
    ) {
        let id = txn.id;
        if let Some(reading) = self.reading.get_mut(&id) {
            reading.client = client;
            return;
        }
        let at = self.interval(now).latest;
        let keys = match txn.is_dependent() {
            true => txn.pointers(),
            false => txn.footprint(|_| 0).reads,
        };
        let reading = Reading {
            client,
            txn,
            at: Timestamp(at.0),
            rows: BTreeMap::new(),
            missing: self.site.layout.by_shard(keys),
        };
        self.reading.insert(id, reading);
        self.reread(id, None, out);
        out.set_timer(Timer::Reread(id), self.site.options.resend_ms.about());
        self.answer_reader(id, out);
    }

    /// Asks for rows that have not come: of all groups, or of one.
    pub(super) fn reread(&mut self, txn: TxnId, only: Option<ShardId>, out: &mut Out) {
        let Some(reading) = self.reading.get(&txn) else {
            return;
        };
        let at = reading.at;
        let missing = reading.missing.clone().into_iter();
        for (group, keys) in missing.filter(|(group, _)| only.is_none_or(|only| only == *group)) {
            self.send_to_group(group, Message::Read { txn, at, keys }, out);
        }
    }

    pub(super) fn reread_later(&mut self, txn: TxnId, out: &mut Out) {
        let Some(reading) = self.reading.get(&txn) else {
            return;
        };
        let silent: Vec<ShardId> = reading.missing.keys().copied().collect();
        let own = self.group;
        for group in silent.into_iter().filter(|group| *group != own) {
            self.doubt_leader_of(group);
        }
        self.reread(txn, None, out);
        out.set_timer(Timer::Reread(txn), self.site.options.resend_ms.about());
    }

    pub(super) fn on_rows(
        &mut self,
        txn: TxnId,
        at: Timestamp,
        group: ShardId,
        rows: Vec<Read>,
        out: &mut Out,
    ) {
        let Some(reading) = self.reading.get_mut(&txn) else {
            return;
        };
        let asked = reading.missing.get(&group);
        if reading.at != at
            || asked.is_none_or(|keys| !keys.iter().eq(rows.iter().map(|read| &read.key)))
        {
            return; // Late.
        }
        reading.missing.remove(&group);
        reading
            .rows
            .extend(rows.into_iter().map(|read| (read.key, read.row)));
        self.answer_reader(txn, out);
    }

    /// Everything that was asked for has come: more is asked for, or the client gets its answer.
    fn answer_reader(&mut self, txn: TxnId, out: &mut Out) {
        let site = Arc::clone(&self.site);
        let Some(reading) = self.reading.get_mut(&txn) else {
            return;
        };
        if !reading.missing.is_empty() {
            return;
        }
        let value_of = |key: Key| reading.rows[&key].value.as_int();
        let footprint = reading.txn.footprint(value_of);
        let mut more = footprint.reads.clone();
        more.retain(|key| !reading.rows.contains_key(key));
        if !more.is_empty() {
            reading.missing = site.layout.by_shard(more);
            return self.reread(txn, None, out);
        }
        let reading = self.reading.remove(&txn).expect("just looked");
        out.cancel_timer(Timer::Reread(txn));
        let outcome = match reading
            .txn
            .evaluate(&footprint, |key| reading.rows.get(&key))
        {
            Evaluation::Declined(guard) => Outcome::Declined { guard },
            Evaluation::Commit(_) | Evaluation::Moved => Outcome::Committed {
                reads: { reading.rows.into_iter() }
                    .map(|(key, row)| Read { key, row })
                    .collect(),
            },
        };
        let commit = matches!(outcome, Outcome::Committed { .. });
        out.observe(Observation::Initiated { txn });
        out.observe(Observation::Decided { txn, commit });
        out.observe(Observation::Ended { txn, commit });
        let reply = ClientMessage::Reply { txn, outcome };
        out.send(reading.client, Message::Client(reply));
    }

    // The group's side.

    pub(super) fn on_read(
        &mut self,
        now: WallTime,
        from: Addr,
        txn: TxnId,
        at: Timestamp,
        keys: BTreeSet<Key>,
        out: &mut Out,
    ) {
        out.work(keys.len() as u32);
        let is_known = |asked: &Asked| (asked.from, asked.txn, asked.at) == (from, txn, at);
        self.asked.retain(|asked| !is_known(asked));
        self.asked.push(Asked {
            from,
            txn,
            at,
            keys,
            has_waited: false,
        });
        self.serve_reads(now, out);
    }

    /// Serves the reads that can be served, and sees to it that the others can be.
    pub(super) fn serve_reads(&mut self, now: WallTime, out: &mut Out) {
        let mut safe_at = Timestamp(0);
        let mut passing: Option<Timestamp> = None;
        for mut asked in std::mem::take(&mut self.asked) {
            let (txn, at, group) = (asked.txn, asked.at, self.group);
            match self.try_read(&asked, now) {
                Ok(rows) => {
                    if self.lead.is_none() {
                        out.observe(Observation::Mark("spanner.follower-read"));
                    }
                    let rows = Message::Rows {
                        txn,
                        at,
                        group,
                        rows,
                    };
                    self.send(asked.from, rows, out);
                    continue;
                }
                Err(Wait::Safe) if self.lead.is_none() => {
                    let leader = self.leader();
                    let answer = Message::NotLeader { txn, group, leader };
                    if asked.from != self.me {
                        out.send(asked.from, answer);
                    }
                    continue;
                }
                Err(Wait::Safe) => safe_at = safe_at.max(at),
                Err(Wait::Prepared) if !asked.has_waited => {
                    out.observe(Observation::Mark("spanner.read-behind-prepared"));
                    asked.has_waited = true;
                }
                Err(Wait::Prepared) => {}
                Err(Wait::Passing(version)) => {
                    if !asked.has_waited {
                        out.observe(Observation::Mark("spanner.read-waits"));
                        asked.has_waited = true;
                    }
                    passing = Some(passing.map_or(version, |other| other.min(version)));
                }
            }
            self.asked.push(asked);
        }
        if let Some(version) = passing {
            out.set_timer(Timer::ReadWait, self.until_passed(version, now));
        }
        self.advance(safe_at, out);
    }

    /// Sees to it that nothing gets a timestamp at or below this one.
    fn advance(&mut self, at: Timestamp, out: &mut Out) {
        let Some(lead) = &mut self.lead else { return };
        if at <= lead.advanced {
            return; // On its way.
        }
        lead.advanced = at;
        lead.assigned = lead.assigned.max(at);
        out.observe(Observation::Mark("spanner.safe-time-advanced"));
        self.propose(Command::Advance { at }, out);
    }

    fn try_read(&self, asked: &Asked, now: WallTime) -> Result<Vec<Read>, Wait> {
        let state = self.state();
        if state.safe() < asked.at {
            return Err(Wait::Safe);
        }
        let mut rows = Vec::new();
        for key in &asked.keys {
            let row = state.row(*key, asked.at).map_err(|_| Wait::Prepared)?;
            let version = state.versions().version_of(*key, asked.at);
            let version = version.filter(|version| version.0 > 0);
            if let Some(version) = version
                && !self.has_passed(version, now)
            {
                return Err(Wait::Passing(version));
            }
            rows.push(Read { key: *key, row });
        }
        Ok(rows)
    }
}
