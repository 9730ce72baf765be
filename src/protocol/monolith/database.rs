//! The one process: it locks, reads, evaluates, forces one record and answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ENGINE, Message, Out, Site, Timer};
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::process::{Addr, Disk, FileId, Input, Process, WallTime};
use crate::base::txn::{Key, Read, ShardId, Txn, TxnId, Write, WriteId};
use crate::base::zoo::{self, Bug};
use crate::protocol::Autopsy;
use crate::protocol::kit::client::ClientMessage;
use crate::protocol::kit::execution::{self, Around, End, Executed, Execution};
use crate::protocol::kit::journal::Journal;
use crate::shard::ShardState;
use crate::shard::recovery::Recovery;
use crate::shard::store::Store;

const LOG: FileId = FileId(0);
/// How many committed transactions' reads are kept for replies that got lost.
const REPLIES_KEPT: usize = 1_024;

/// What the log holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum Record {
    /// A transaction has committed. Forced before anybody sees it.
    Committed { txn: TxnId, writes: Vec<Write> },
    /// The client is about to be told that its transaction took no effect. Forced, because a late duplicate of the request
    /// must not give it one.
    Refused { txn: TxnId, outcome: Outcome },
    /// Everything before this record.
    Checkpoint(Box<Durable>),
}

/// What survives a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Durable {
    store: Store,
    committed: BTreeSet<TxnId>,
    /// Transactions whose client was told that they took no effect.
    refused: BTreeMap<TxnId, Outcome>,
}

impl Durable {
    fn checkpoint(&self) -> Durable {
        let mut durable = self.clone();
        if zoo::planted(Bug::CheckpointDropsRefusals) {
            durable.refused.clear();
        }
        durable
    }
}

/// What follows a forced record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Then {
    Commit {
        txn: TxnId,
        writes: Vec<Write>,
        client: Addr,
        reads: Vec<Read>,
    },
    Refuse {
        txn: TxnId,
        outcome: Outcome,
        client: Addr,
    },
}

/// The database.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Database {
    site: Arc<Site>,
    me: Addr,
    journal: Journal<Record, Then>,
    durable: Durable,
    execution: Execution,
    /// Executed or refused, and that is on its way to the disk.
    ending: BTreeSet<TxnId>,
    /// What the latest committed transactions read.
    replies: BTreeMap<TxnId, Vec<Read>>,
}

impl Database {
    pub(super) fn new(site: Arc<Site>) -> Self {
        let me = site.machine();
        Self {
            me,
            journal: Journal::new(LOG, site.options.checkpoint_min_bytes()),
            durable: Durable {
                store: Store::of_all(&site.layout, ENGINE),
                committed: BTreeSet::new(),
                refused: BTreeMap::new(),
            },
            execution: Execution::new(me),
            ending: BTreeSet::new(),
            replies: BTreeMap::new(),
            site,
        }
    }

    // Recovery: the log is the state. What was under way has left no trace, and its client asks again.

    fn boot(&mut self, disk: &Disk, out: &mut Out) {
        let Ok(records) = self.journal.open(disk.file(LOG), out) else {
            return out.halt("the database's log is damaged");
        };
        for record in records {
            match record {
                Record::Committed { txn, writes } => {
                    self.apply(txn, &writes);
                    // Stated again, because the crash may have come between the record and the words.
                    let commit = true;
                    out.observe(Observation::Decided { txn, commit });
                    out.observe(Observation::Ended { txn, commit });
                }
                Record::Refused { txn, outcome } => {
                    self.durable.refused.insert(txn, outcome);
                }
                Record::Checkpoint(durable) => self.durable = *durable,
            }
        }
        if zoo::planted(Bug::CommitsForgottenAtRestart) {
            self.durable.committed.clear();
        }
    }

    fn apply(&mut self, txn: TxnId, writes: &[Write]) -> (u64, Vec<Key>) {
        let position = self.durable.store.next_position();
        let writer = WriteId { txn, undo: false };
        let keys = self.durable.store.apply(position, writer, writes);
        self.durable.committed.insert(txn);
        (position, keys)
    }

    // Requests and replies.

    fn on_request(&mut self, now: WallTime, client: Addr, txn: Arc<Txn>, out: &mut Out) {
        let id = txn.id;
        if let Some(outcome) = self.durable.refused.get(&id) {
            // A crash may have come between the record and the words.
            let (outcome, commit) = (outcome.clone(), false);
            out.observe(Observation::Ended { txn: id, commit });
            return reply(id, client, outcome, out);
        }
        if self.durable.committed.contains(&id) {
            out.observe(Observation::Mark("monolith.reply-repeated"));
            let reads = self.replies.get(&id).cloned().unwrap_or_default();
            return reply(id, client, Outcome::Committed { reads }, out);
        }
        if self.execution.is_running(id) || self.ending.contains(&id) {
            return; // The answer will come.
        }
        let end = self.execute(out, |execution, around, out| {
            execution.begin(now, client, txn, around, out);
            None
        });
        self.on_end(end, out);
    }

    // Execution.

    /// Runs a step of the execution, and passes on what it asks for.
    fn execute<R>(
        &mut self,
        out: &mut Out,
        step: impl FnOnce(&mut Execution, &Around<'_>, &mut execution::Out) -> R,
    ) -> R {
        let around = Around {
            layout: &self.site.whole,
            options: &self.site.execution,
            shard: ShardId(0),
            store: &self.durable.store,
        };
        let mut effects = execution::Out::default();
        let result = step(&mut self.execution, &around, &mut effects);
        out.absorb(&mut effects, Message::Execution, Timer::Execution);
        result
    }

    fn on_end(&mut self, end: Option<End>, out: &mut Out) {
        match end {
            None => {}
            Some(End::Executed(executed)) => self.commit(executed, out),
            Some(End::Refused {
                txn,
                client,
                outcome,
            }) => self.refuse(txn, outcome, client),
        }
    }

    /// The lock point: a transaction that writes forces its record, and one that only reads has ended.
    fn commit(&mut self, executed: Executed, out: &mut Out) {
        let Executed {
            txn,
            client,
            parts,
            reads,
        } = executed;
        self.execution.keep(txn);
        let writes: Vec<Write> = parts.into_iter().flat_map(|part| part.writes).collect();
        if writes.is_empty() {
            let commit = true;
            out.observe(Observation::Decided { txn, commit });
            return self.end_committed(txn, client, reads, out);
        }
        self.ending.insert(txn);
        let record = Record::Committed {
            txn,
            writes: writes.clone(),
        };
        if zoo::planted(Bug::LocksReleasedBeforeFlush) {
            // What it wrote is there for everybody, as far as memory goes.
            self.apply(txn, &writes);
            self.release(txn, out);
        }
        if zoo::planted(Bug::MonolithAckBeforeFlush) {
            let outcome = Outcome::Committed {
                reads: reads.clone(),
            };
            reply(txn, client, outcome, out);
        }
        let then = Then::Commit {
            txn,
            writes,
            client,
            reads,
        };
        self.journal.force(record, then);
    }

    /// Ends a transaction that takes no effect: durably first, then the client learns of it.
    fn refuse(&mut self, txn: TxnId, outcome: Outcome, client: Addr) {
        self.ending.insert(txn);
        let record = Record::Refused {
            txn,
            outcome: outcome.clone(),
        };
        let then = Then::Refuse {
            txn,
            outcome,
            client,
        };
        self.journal.force(record, then);
    }

    fn release(&mut self, txn: TxnId, out: &mut Out) {
        self.execute(out, |execution, around, out| {
            execution.forget(txn, around, out);
        });
    }

    // The log.

    fn on_durable(&mut self, then: Then, out: &mut Out) {
        match then {
            Then::Commit {
                txn,
                writes,
                client,
                reads,
            } => {
                self.ending.remove(&txn);
                out.work(writes.len() as u32);
                let commit = true;
                out.observe(Observation::Decided { txn, commit });
                let (position, keys) = self.apply(txn, &writes);
                for (shard, keys) in self.site.layout.by_shard(keys) {
                    let keys = keys.into_iter().collect();
                    out.observe(Observation::Applied {
                        txn,
                        shard,
                        position,
                        keys,
                    });
                }
                self.end_committed(txn, client, reads, out);
            }
            Then::Refuse {
                txn,
                outcome,
                client,
            } => {
                self.ending.remove(&txn);
                self.durable.refused.insert(txn, outcome.clone());
                let commit = false;
                out.observe(Observation::Decided { txn, commit });
                out.observe(Observation::Ended { txn, commit });
                reply(txn, client, outcome, out);
            }
        }
    }

    fn end_committed(&mut self, txn: TxnId, client: Addr, reads: Vec<Read>, out: &mut Out) {
        self.replies.insert(txn, reads.clone());
        if self.replies.len() > REPLIES_KEPT {
            self.replies.pop_first();
        }
        self.release(txn, out);
        let commit = true;
        out.observe(Observation::Ended { txn, commit });
        reply(txn, client, Outcome::Committed { reads }, out);
    }

    /// A failed flush took a record for certain: a commit becomes an abort, a refusal is written again.
    fn on_lost(&mut self, then: Then, out: &mut Out) {
        match then {
            Then::Commit { .. } if zoo::planted(Bug::LostCommitAnswered) => {
                self.on_durable(then, out);
            }
            Then::Commit { txn, client, .. } => {
                out.observe(Observation::Mark("monolith.not-durable"));
                self.release(txn, out);
                let why = AbortReason::ApplyFailed;
                self.refuse(txn, Outcome::Aborted { why }, client);
            }
            Then::Refuse {
                txn,
                outcome,
                client,
            } => self.refuse(txn, outcome, client),
        }
    }
}

fn reply(txn: TxnId, client: Addr, outcome: Outcome, out: &mut Out) {
    let reply = ClientMessage::Reply { txn, outcome };
    out.send(client, Message::Client(reply));
}

impl Process for Database {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        match input {
            Input::Boot(disk) => self.boot(&disk, out),
            Input::Message {
                from,
                message: Message::Client(ClientMessage::Request { txn }),
            } => self.on_request(now, from, txn, out),
            Input::Message { message, .. } => unreachable!("{message:?} is not for the database"),
            Input::Timer(Timer::Execution(timer)) => self.execute(out, |execution, around, out| {
                execution.on_timer(timer, around, out);
            }),
            Input::Timer(Timer::Client(_)) => {}
            Input::Flushed(flush) => {
                let settled = self.journal.flushed(flush);
                for then in settled.durable {
                    self.on_durable(then, out);
                }
                for then in settled.lost {
                    self.on_lost(then, out);
                }
            }
            Input::FlushFailed(flush) => self.journal.flush_failed(flush, out),
        }
        while let Some(message) = self.execution.next_to_self() {
            let (me, txn) = (self.me, message.txn());
            let is_over = self.durable.committed.contains(&txn);
            let end = self.execute(out, |execution, around, out| {
                execution.on_message(now, me, message, is_over, around, out)
            });
            self.on_end(end, out);
        }
        let durable = &self.durable;
        let snapshot = || Record::Checkpoint(Box::new(durable.checkpoint()));
        self.journal.pump(snapshot, out);
    }
}

impl Autopsy for Database {
    /// Every shard of the other protocols, each with its own rows and writes.
    fn copies(&self) -> Vec<ShardState> {
        let layout = &self.site.layout;
        let all = self
            .durable
            .store
            .autopsy(self.site.region, BTreeSet::new());
        let of = |shard: ShardId| {
            let is_here = |key: &Key| layout.shard_of(*key) == shard;
            let ledger: Vec<_> = { all.ledger.iter() }
                .filter(|entry| is_here(&entry.key))
                .copied()
                .collect();
            ShardState {
                shard,
                rows: { all.rows.iter() }
                    .filter(|(key, _)| is_here(key))
                    .map(|(key, row)| (*key, row.clone()))
                    .collect(),
                up_to_applied: ledger.len(),
                ledger,
                ..all.clone()
            }
        };
        layout.shard_ids().map(of).collect()
    }

    /// It ends when nothing is on its way to the disk.
    fn recovery(&self) -> Recovery {
        Recovery::waits_on(self.ending.clone(), "for the disk to hold the end of")
    }
}
