//! The one process: it locks, reads, evaluates, forces one record and answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ENGINE, Message, Out, Site, Timer};
use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::process::{Addr, FileId, Input, Process, WallTime};
use crate::base::txn::{Key, Read, ShardId, Txn, TxnId, Write, WriteId};
use crate::base::zoo::{self, Bug};
use crate::protocol::Autopsy;
use crate::protocol::kit::client::ClientMessage;
use crate::protocol::kit::durable;
use crate::protocol::kit::execution::{self, Around, End, Executed, Execution};
use crate::protocol::kit::journal::Journal;
use crate::protocol::kit::replies::{Replies, reply};
use crate::shard::ShardState;
use crate::shard::recovery::Recovery;
use crate::shard::store::Store;

const LOG: FileId = FileId(0);
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
    store: Store,
    committed: BTreeSet<TxnId>,
    replies: Replies,
    execution: Execution,
}

impl Database {
    pub(super) fn new(site: Arc<Site>) -> Self {
        let me = site.machine();
        Self {
            me,
            journal: Journal::new(LOG, site.options.checkpoint_min_bytes()),
            store: Store::of_all(&site.layout, ENGINE),
            committed: BTreeSet::new(),
            replies: Replies::default(),
            execution: Execution::new(me),
            site,
        }
    }

    fn apply(&mut self, txn: TxnId, writes: &[Write]) -> (u64, Vec<Key>) {
        let position = self.store.next_position();
        let writer = WriteId { txn, undo: false };
        let keys = self.store.apply(position, writer, writes);
        self.committed.insert(txn);
        (position, keys)
    }

    // Requests and replies.

    fn on_request(&mut self, now: WallTime, client: Addr, txn: Arc<Txn>, out: &mut Out) {
        let id = txn.id;
        if let Some(outcome) = self.replies.refusal(id) {
            // A crash may have come between the record and the words.
            let (outcome, commit) = (outcome.clone(), false);
            out.observe(Observation::Ended { txn: id, commit });
            return reply(client, id, outcome, out);
        }
        if self.committed.contains(&id) {
            out.observe(Observation::Mark("monolith.reply-repeated"));
            let reads = self.replies.reads(id);
            return reply(client, id, Outcome::Committed { reads }, out);
        }
        if self.execution.is_running(id) || self.replies.is_ending(id) {
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
        let Site {
            whole, execution, ..
        } = &*self.site;
        let around = Around::participant(whole, execution, ShardId(0), &self.store);
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
            ..
        } = executed;
        self.execution.keep(txn);
        let writes: Vec<Write> = parts.into_iter().flat_map(|part| part.writes).collect();
        if writes.is_empty() {
            let commit = true;
            out.observe(Observation::Decided { txn, commit });
            return self.end_committed(txn, client, reads, out);
        }
        self.replies.ending(txn);
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
            reply(client, txn, outcome, out);
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
        self.replies.ending(txn);
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

    fn follow(&mut self, then: Then, out: &mut Out) {
        match then {
            Then::Commit {
                txn,
                writes,
                client,
                reads,
            } => {
                self.replies.ended(txn);
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
                self.replies.refused(txn, outcome.clone());
                let commit = false;
                out.observe(Observation::Decided { txn, commit });
                out.observe(Observation::Ended { txn, commit });
                reply(client, txn, outcome, out);
            }
        }
    }

    fn end_committed(&mut self, txn: TxnId, client: Addr, reads: Vec<Read>, out: &mut Out) {
        self.replies.committed(txn, reads.clone());
        self.release(txn, out);
        let commit = true;
        out.observe(Observation::Ended { txn, commit });
        reply(client, txn, Outcome::Committed { reads }, out);
    }
}

impl Process for Database {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        durable::step(self, now, input, out);
    }
}

impl durable::Durable<Record, Then> for Database {
    const DAMAGED: &'static str = "the database's log is damaged";

    fn journal(&mut self) -> &mut Journal<Record, Then> {
        &mut self.journal
    }

    fn checkpoint(&self) -> Record {
        let mut refused = self.replies.refusals().clone();
        if zoo::planted(Bug::CheckpointDropsRefusals) {
            refused.clear();
        }
        Record::Checkpoint(Box::new(Durable {
            store: self.store.clone(),
            committed: self.committed.clone(),
            refused,
        }))
    }

    /// The log is the state. What was under way has left no trace, and its client asks again.
    fn recover(&mut self, records: Vec<Record>, out: &mut Out) {
        for record in records {
            match record {
                Record::Committed { txn, writes } => {
                    self.apply(txn, &writes);
                    // Stated again, because the crash may have come between the record and the words.
                    let commit = true;
                    out.observe(Observation::Decided { txn, commit });
                    out.observe(Observation::Ended { txn, commit });
                }
                Record::Refused { txn, outcome } => self.replies.refused(txn, outcome),
                Record::Checkpoint(durable) => {
                    let Durable {
                        store,
                        committed,
                        refused,
                    } = *durable;
                    self.store = store;
                    self.committed = committed;
                    self.replies.restore(refused);
                }
            }
        }
        if zoo::planted(Bug::CommitsForgottenAtRestart) {
            self.committed.clear();
        }
    }

    fn on_message(&mut self, now: WallTime, from: Addr, message: Message, out: &mut Out) {
        match message {
            Message::Client(ClientMessage::Request { txn }) => self.on_request(now, from, txn, out),
            message => unreachable!("{message:?} is not for the database"),
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out) {
        if let Timer::Execution(timer) = timer {
            self.execute(out, |execution, around, out| {
                execution.on_timer(timer, around, out);
            });
        }
    }

    fn on_durable(&mut self, _: WallTime, then: Then, out: &mut Out) {
        self.follow(then, out);
    }

    /// A failed flush took a record for certain: a commit becomes an abort, a refusal is written again.
    fn on_lost(&mut self, then: Then, out: &mut Out) {
        match then {
            Then::Commit { .. } if zoo::planted(Bug::LostCommitAnswered) => {
                self.follow(then, out);
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

    fn settle(&mut self, now: WallTime, out: &mut Out) {
        while let Some(message) = self.execution.next_to_self() {
            let (me, txn) = (self.me, message.txn());
            let is_over = self.committed.contains(&txn);
            let end = self.execute(out, |execution, around, out| {
                execution.on_message(now, me, message, is_over, around, out)
            });
            self.on_end(end, out);
        }
    }
}

impl Autopsy for Database {
    /// Every shard of the other protocols, each with its own rows and writes.
    fn copies(&self) -> Vec<ShardState> {
        let layout = &self.site.layout;
        let all = self.store.autopsy(self.site.region, BTreeSet::new());
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
        Recovery::waits_on(self.replies.all_ending(), "for the disk to hold the end of")
    }
}
