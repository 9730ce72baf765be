//! The coordinator: the paper's client library (algorithm 1, client side), on a front machine. It keeps a lease of
//! timestamps on its disk, and forgets its transactions when it restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::versions::{Timestamp, Version};
use super::{End, Message, Out, PrepareRequest, Site, Timer, Wanted};
use crate::base::observation::{Observation, Outcome};
use crate::base::process::{Addr, FileId, Input, NodeId, Process, WallTime};
use crate::base::txn::{Evaluation, Key, Op, Read, Row, ShardId, Txn, TxnId, Value, Write};
use crate::base::zoo::{self, Bug};
use crate::protocol::Autopsy;
use crate::protocol::kit::client::ClientMessage;
use crate::protocol::kit::durable::{self, Durable};
use crate::protocol::kit::journal::Journal;
use crate::protocol::kit::lease::{Lease, Leased};
use crate::protocol::kit::replies::reply;

const LOG: FileId = FileId(0);

/// Where a transaction stands, in the order of the protocol.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// GET_ALL: what has not been answered.
    Reading { missing: BTreeMap<ShardId, Wanted> },
    /// PUT_ALL, first round: these shards have not prepared.
    Preparing {
        at: Timestamp,
        requests: BTreeMap<ShardId, Arc<PrepareRequest>>,
        missing: BTreeSet<ShardId>,
    },
    /// PUT_ALL, second round: these shards have not committed.
    Committing {
        at: Timestamp,
        missing: BTreeSet<ShardId>,
    },
    /// The home was told that the transaction takes no effect.
    Closing { outcome: Outcome },
}

/// A transaction under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Open {
    txn: Arc<Txn>,
    client: Addr,
    /// Counts the questions of GET_ALL.
    question: u64,
    rows: BTreeMap<Key, (Timestamp, Version)>,
    phase: Phase,
    /// What the client will see of the rows.
    reads: Vec<Read>,
}

/// A coordinator.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Coordinator {
    site: Arc<Site>,
    node: NodeId,
    journal: Journal<Lease, Lease>,
    timestamps: Leased,
    /// Transactions that wait for a timestamp.
    waiting: BTreeSet<TxnId>,
    open: BTreeMap<TxnId, Open>,
}

impl Coordinator {
    pub(super) fn new(site: Arc<Site>, node: NodeId) -> Self {
        Self {
            journal: Journal::new(LOG, site.options.checkpoint_min_bytes()),
            timestamps: Leased::new(site.options.timestamp_lease.get()),
            site,
            node,
            waiting: BTreeSet::new(),
            open: BTreeMap::new(),
        }
    }

    fn on_request(&mut self, client: Addr, txn: Arc<Txn>, out: &mut Out) {
        let id = txn.id;
        if self.open.contains_key(&id) {
            return; // A duplicate: the answer will come.
        }
        out.observe(Observation::Initiated { txn: id });
        let missing = BTreeMap::new();
        let open = Open {
            txn,
            client,
            question: 0,
            rows: BTreeMap::new(),
            phase: Phase::Reading { missing },
            reads: Vec::new(),
        };
        self.open.insert(id, open);
        self.read_on(id, out);
    }

    // GET_ALL.

    /// Asks for what is missing: rows that have not been read, then versions that those show to be missing. Goes on where
    /// nothing is.
    fn read_on(&mut self, id: TxnId, out: &mut Out) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let needed = rows_to_read(&open.txn, &open.rows);
        let unread = { needed.iter() }.filter(|key| !open.rows.contains_key(key));
        let mut wanted: Wanted = unread.map(|key| (*key, None)).collect();
        if wanted.is_empty() && !zoo::planted(Bug::MetadataIgnored) {
            wanted = missed(&open.rows, &needed);
            if !wanted.is_empty() {
                out.observe(Observation::Mark("ramp.fractured-read-repaired"));
            }
            if zoo::planted(Bug::SecondRoundOfLatest) {
                wanted.values_mut().for_each(|at| *at = None);
            }
        }
        if wanted.is_empty() {
            return self.evaluate(id, out);
        }
        let mut missing: BTreeMap<ShardId, Wanted> = BTreeMap::new();
        for (key, at) in wanted {
            let shard = self.site.layout.shard_of(key);
            missing.entry(shard).or_default().insert(key, at);
        }
        open.question += 1;
        open.phase = Phase::Reading { missing };
        self.resend(id, out);
    }

    fn on_rows(
        &mut self,
        id: TxnId,
        question: u64,
        shard: ShardId,
        rows: BTreeMap<Key, (Timestamp, Version)>,
        out: &mut Out,
    ) {
        let open = self.open.get_mut(&id);
        let Some(open) = open.filter(|open| open.question == question) else {
            return;
        };
        let Phase::Reading { missing } = &mut open.phase else {
            return;
        };
        if missing.remove(&shard).is_none() {
            return;
        }
        let newest = rows.values().map(|(at, _)| at.number).max();
        self.timestamps.hear(newest.unwrap_or(0));
        open.rows.extend(rows);
        if missing.is_empty() {
            if zoo::planted(Bug::SecondRoundOfLatest) && question > 1 {
                return self.evaluate(id, out);
            }
            self.read_on(id, out);
        }
    }

    /// A version that it had missed is not there any more: it has been reading for too long.
    fn on_gone(&mut self, id: TxnId, question: u64, out: &mut Out) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        if open.question == question && matches!(open.phase, Phase::Reading { .. }) {
            out.observe(Observation::Mark("ramp.version-gone"));
            self.start_over(id, out);
        }
    }

    fn start_over(&mut self, id: TxnId, out: &mut Out) {
        if let Some(open) = self.open.get_mut(&id) {
            open.rows.clear();
            let missing = BTreeMap::new();
            open.phase = Phase::Reading { missing };
            self.read_on(id, out);
        }
    }

    /// Everything is read: run the procedure.
    fn evaluate(&mut self, id: TxnId, out: &mut Out) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let rows = &open.rows;
        let value_of = |key: Key| {
            rows.get(&key)
                .map_or(0, |(_, version)| version.row.value.as_int())
        };
        let footprint = open.txn.footprint(value_of);
        let row = |key: Key| -> Option<&Row> { rows.get(&key).map(|(_, version)| &version.row) };
        let read = |key: &Key| {
            let row = row(*key)?.clone();
            Some(Read { key: *key, row })
        };
        open.reads = footprint.reads.iter().filter_map(read).collect();
        match open.txn.evaluate(&footprint, row) {
            Evaluation::Moved => unreachable!("the footprint follows from what was read"),
            Evaluation::Declined(guard) => self.decline(id, Outcome::Declined { guard }, out),
            Evaluation::Commit(writes) if writes.is_empty() => self.end_committed(id, out),
            Evaluation::Commit(writes) => self.put_all(id, &writes, out),
        }
    }

    // PUT_ALL.

    fn put_all(&mut self, id: TxnId, writes: &[Write], out: &mut Out) {
        let Some(at) = self.next_timestamp() else {
            self.waiting.insert(id);
            return;
        };
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let mut values: BTreeMap<Key, Value> = BTreeMap::new();
        for Write { key, op } in writes {
            let nothing = Value::Int(0);
            let read = open.rows.get(key).map(|(_, version)| &version.row.value);
            let before = values.get(key).or(read).unwrap_or(&nothing);
            let value = op.apply(before);
            values.insert(*key, value);
        }
        let site = &self.site;
        let home = site.home(&open.txn).expect("it writes");
        let write_set: Arc<BTreeSet<Key>> = Arc::new(values.keys().copied().collect());
        let mut by_shard = site.layout.by_shard(values.keys().copied());
        by_shard.entry(home).or_default();
        let shards: BTreeSet<ShardId> = by_shard.keys().copied().collect();
        let request = |(shard, keys): (ShardId, BTreeSet<Key>)| {
            let value = |key: Key| (key, values[&key].clone());
            let request = PrepareRequest {
                txn: id,
                at,
                rows: keys.into_iter().map(value).collect(),
                write_set: Arc::clone(&write_set),
                shards: shards.clone(),
                home,
            };
            (shard, Arc::new(request))
        };
        open.phase = Phase::Preparing {
            at,
            requests: by_shard.into_iter().map(request).collect(),
            missing: shards.clone(),
        };
        self.resend(id, out);
    }

    fn on_prepared(&mut self, id: TxnId, at: Timestamp, shard: ShardId, out: &mut Out) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let Phase::Preparing {
            at: attempt,
            requests,
            missing,
        } = &mut open.phase
        else {
            return;
        };
        if *attempt != at || !missing.remove(&shard) {
            return;
        }
        if zoo::planted(Bug::CommitBeforeAllPrepared) {
            out.send(self.site.shard(shard), Message::Commit { txn: id, at });
        }
        if missing.is_empty() {
            let commit = true;
            out.observe(Observation::Decided { txn: id, commit });
            let missing = requests.keys().copied().collect();
            open.phase = Phase::Committing { at, missing };
            self.resend(id, out);
        }
    }

    /// The attempt was too slow: a shard that had prepared asked another one, which had not.
    fn on_refused(&mut self, id: TxnId, at: Timestamp, out: &mut Out) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        if matches!(&open.phase, Phase::Preparing { at: attempt, .. } if *attempt == at) {
            out.observe(Observation::Mark("ramp.attempt-barred"));
            self.start_over(id, out);
        }
    }

    fn on_committed(&mut self, id: TxnId, at: Timestamp, shard: ShardId, out: &mut Out) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if let Phase::Committing {
            at: attempt,
            missing,
        } = &mut open.phase
            && *attempt == at
            && missing.remove(&shard)
            && missing.is_empty()
        {
            self.end_committed(id, out);
        }
    }

    // The ways out.

    /// A transaction that takes no effect: its home records that, unless there is nothing to record.
    fn decline(&mut self, id: TxnId, outcome: Outcome, out: &mut Out) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if open.txn.is_read_only() {
            let (txn, commit) = (id, false);
            out.observe(Observation::Decided { txn, commit });
            return self.end(id, outcome, out);
        }
        open.phase = Phase::Closing { outcome };
        self.resend(id, out);
    }

    /// The home knows how the transaction ended: by an earlier attempt, or by being closed.
    fn on_ended(&mut self, id: TxnId, end: End, out: &mut Out) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if !matches!(open.phase, Phase::Preparing { .. } | Phase::Closing { .. }) {
            return;
        }
        match end {
            End::Closed(outcome) => self.end(id, outcome, out),
            End::Committed(at, missing) => {
                out.observe(Observation::Mark("ramp.ended-before"));
                // What that attempt had read is gone. Before the client hears of it, it is visible everywhere.
                open.reads.clear();
                open.phase = Phase::Committing { at, missing };
                self.resend(id, out);
            }
        }
    }

    fn end_committed(&mut self, id: TxnId, out: &mut Out) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        if open.txn.is_read_only() {
            let (txn, commit) = (id, true);
            out.observe(Observation::Decided { txn, commit });
        }
        let reads = std::mem::take(&mut open.reads);
        self.end(id, Outcome::Committed { reads }, out);
    }

    fn end(&mut self, txn: TxnId, outcome: Outcome, out: &mut Out) {
        let Some(open) = self.open.remove(&txn) else {
            return;
        };
        out.cancel_timer(Timer::Resend(txn));
        let commit = matches!(outcome, Outcome::Committed { .. });
        out.observe(Observation::Ended { txn, commit });
        reply(open.client, txn, outcome, out);
    }

    /// Sends what the phase waits for the answers of; again after a while, if there is none.
    fn resend(&self, id: TxnId, out: &mut Out) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        let (site, txn) = (&self.site, id);
        match &open.phase {
            Phase::Reading { missing } => {
                for (shard, wanted) in missing {
                    let (question, wanted) = (open.question, wanted.clone());
                    let get = Message::Get {
                        txn,
                        question,
                        wanted,
                    };
                    out.send(site.shard(*shard), get);
                }
            }
            Phase::Preparing {
                requests, missing, ..
            } => {
                for shard in missing {
                    let request = Arc::clone(&requests[shard]);
                    out.send(site.shard(*shard), Message::Prepare(request));
                }
            }
            Phase::Committing { at, missing } => {
                for shard in missing {
                    out.send(site.shard(*shard), Message::Commit { txn, at: *at });
                }
            }
            Phase::Closing { outcome } => {
                let home = site.home(&open.txn).expect("it writes");
                let outcome = outcome.clone();
                out.send(site.shard(home), Message::Close { txn, outcome });
            }
        }
        out.set_timer(Timer::Resend(id), site.options.resend_ms.about());
    }

    fn next_timestamp(&mut self) -> Option<Timestamp> {
        let coordinator = self.node.0;
        self.timestamps.next().map(|number| Timestamp {
            number,
            coordinator,
        })
    }
}

/// The rows that have to be read, as far as the pointers among them are known: all of the footprint but those that are only
/// put.
fn rows_to_read(txn: &Txn, rows: &BTreeMap<Key, (Timestamp, Version)>) -> BTreeSet<Key> {
    let pointers = txn.pointers();
    if pointers.iter().any(|key| !rows.contains_key(key)) {
        return pointers;
    }
    let value_of = |key: Key| {
        rows.get(&key)
            .map_or(0, |(_, version)| version.row.value.as_int())
    };
    let writes = txn.writes(value_of);
    let is_put = |write: &&Write| matches!(write.op, Op::Put(_));
    let put: BTreeSet<Key> = { writes.iter().filter(is_put) }
        .map(|write| write.key)
        .collect();
    let reader = Txn {
        effects: Vec::new(),
        ..txn.clone()
    };
    let mut needed = reader.footprint(value_of).reads;
    needed.extend(pointers);
    needed.extend(
        { writes.iter() }
            .map(|write| write.key)
            .filter(|key| !put.contains(key)),
    );
    needed
}

/// What the versions that were read show to be missing: rows of their write sets that were read in an older version.
fn missed(rows: &BTreeMap<Key, (Timestamp, Version)>, needed: &BTreeSet<Key>) -> Wanted {
    let mut latest: BTreeMap<Key, Timestamp> = BTreeMap::new();
    for (at, version) in rows.values() {
        for sibling in version.write_set.iter() {
            let known = latest.entry(*sibling).or_default();
            *known = (*known).max(*at);
        }
    }
    let is_older = |key: &Key, at: &Timestamp| rows.get(key).is_some_and(|(read, _)| read < at);
    latest
        .into_iter()
        .filter(|(key, at)| needed.contains(key) && is_older(key, at))
        .map(|(key, at)| (key, Some(at)))
        .collect()
}

impl Process for Coordinator {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        durable::step(self, now, input, out);
    }
}

impl Durable<Lease, Lease> for Coordinator {
    const DAMAGED: &'static str = "a coordinator's log is damaged";

    fn journal(&mut self) -> &mut Journal<Lease, Lease> {
        &mut self.journal
    }

    fn checkpoint(&self) -> Lease {
        self.timestamps.lease()
    }

    fn recover(&mut self, leases: Vec<Lease>, _: &mut Out) {
        self.timestamps.recover(leases);
        if zoo::planted(Bug::TimestampsReused) {
            self.timestamps.repeat();
        }
    }

    fn on_message(&mut self, _: WallTime, from: Addr, message: Message, out: &mut Out) {
        match message {
            Message::Client(ClientMessage::Request { txn }) => self.on_request(from, txn, out),
            Message::Rows {
                txn,
                question,
                shard,
                rows,
            } => self.on_rows(txn, question, shard, rows, out),
            Message::Gone { txn, question } => self.on_gone(txn, question, out),
            Message::Prepared { txn, at, shard } => self.on_prepared(txn, at, shard, out),
            Message::Refused { txn, at } => self.on_refused(txn, at, out),
            Message::Committed { txn, at, shard } => self.on_committed(txn, at, shard, out),
            Message::Ended { txn, end } => self.on_ended(txn, end, out),
            message => unreachable!("{message:?} is not for a coordinator"),
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out) {
        if let Timer::Resend(txn) = timer {
            self.resend(txn, out);
        }
    }

    /// Who waited for a timestamp goes on.
    fn on_durable(&mut self, _: WallTime, lease: Lease, out: &mut Out) {
        self.timestamps.granted(lease);
        for id in std::mem::take(&mut self.waiting) {
            self.evaluate(id, out);
        }
    }

    fn on_lost(&mut self, _: Lease, _: &mut Out) {
        self.timestamps.lost();
    }

    fn settle(&mut self, _: WallTime, _: &mut Out) {
        if let Some(lease) = self.timestamps.renew(!self.waiting.is_empty()) {
            self.journal.force(lease, lease);
        }
    }
}

impl Autopsy for Coordinator {}
