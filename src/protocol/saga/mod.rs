//! Sagas, orchestrated: local transactions one after the other, undone by compensation.
//!
//! Sources: Garcia-Molina and Salem, "Sagas", SIGMOD 1987 (compensation in reverse order, backward and forward
//! recovery); Richardson, "Microservices Patterns", 2018, chapter 4 (orchestration; compensatable, pivot and
//! retriable steps; semantic locks as a countermeasure).
//!
//! A transaction's effects, in their order and grouped by consecutive shard, are the saga's steps. Each is a
//! serializable transaction at its shard, visible to everybody at once. Before the *pivot* a step that fails
//! sends the saga backward: the steps done so far are compensated, last one first. After the pivot the saga only
//! goes forward, however often it has to try.
//!
//! ```text
//!   Begin (forced) -- step 0 -- step 1 ... Pivot (forced) -- pivot step -- step ... -- End (lazy)
//!          \             \        \                             \ refused
//!           `-------------`--------`-----------------------------`-- Aborting (forced)
//!                                         ... compensate 1 -- compensate 0 -- End (lazy)
//! ```
//!
//! An orchestrator that restarts goes backward with sagas that have no `Pivot` record and forward with the
//! others. Steps and compensations are idempotent by (saga, step), durably; a compensation that arrives before
//! its step, which may have been lost or be late, blocks the step for good.
//!
//! Rows that a guard needs and no step writes, and everything that a transaction only reads, are read
//! beforehand and one shard at a time. Together with the visibility of single steps that makes dirty reads and
//! lost updates, which the protocol does not promise to prevent.

mod orchestrator;
mod shard;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kit::deploy::own_front;
use super::kit::journal;
use super::kit::node::{self, carries_client};
use super::{Atomicity, Deployment, Progress, Promise, Promises, Protocol};
use crate::base::observation::Mark;
use crate::base::options::{Choice, Millis, Number, declare};
use crate::base::process::{Addr, Effects, NodeId, Wire, message_bytes};
use crate::base::txn::{Guard, Key, Read, ShardId, TxnId, Write};
use crate::plan::PlannedOperation;
use crate::protocol::kit::client::{ClientMessage, ClientTimer, Patience};
use crate::scenario::layout::Layout;

pub use orchestrator::{Orchestrator, SagaView};
pub use shard::{Shard, StepView};

/// What happens to whoever meets a row that an unfinished saga has written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SemanticLocks {
    /// Nothing: it sees the intermediate state.
    #[default]
    None,
    /// It waits, for at most `lock-wait-ms`. A step is refused then, for good; a reader asks again.
    Wait,
    /// A step is refused, for good; a reader asks again.
    Refuse,
}

impl Choice for SemanticLocks {}

declare! {
    /// Options, `[protocol.saga]` in a scenario. All times in milliseconds.
    pub struct Options {
        /// Whether the client is told of success as soon as the saga is durable, before its first step, instead of
        /// at the end.
        acknowledge_at_start: bool = false,
        /// Whether rows written by unfinished sagas are marked, and what the mark does to other sagas and readers:
        /// `none`, `wait` or `refuse`. Steps after the pivot, which must succeed, ignore marks.
        semantic_locks: SemanticLocks = SemanticLocks::None,
        /// How long somebody waits for a marked row.
        lock_wait_ms: Millis = Millis::new(1_000),
        /// How long without an answer until a step or a compensation is sent again.
        resend_ms: Millis = Millis::new(500),
        /// How long a step before the pivot may take until the saga goes backward; 0: for ever.
        step_timeout_ms: Millis<0> = Millis::new(10_000),
        /// Logs are shortened by a checkpoint above this size, in KiB.
        checkpoint_kib: Number<1, 1_048_576> = Number::new(64),
        /// How long a client waits before it sends its request again.
        client_resend_ms: Millis = Millis::new(5_000),
        /// When a client gives up, and takes the outcome for unknown; 0: never.
        client_give_up_ms: Millis<0> = Millis::new(0),
    }
}

impl Options {
    fn checkpoint_min_bytes(&self) -> usize {
        self.checkpoint_kib.size() * 1024
    }
}

/// What every process of a deployment knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Site {
    layout: Layout,
    options: Options,
}

impl Site {
    fn shard_process(&self, shard: ShardId) -> Addr {
        Addr::on(self.layout.home(shard))
    }

    fn has_locks(&self) -> bool {
        self.options.semantic_locks != SemanticLocks::None
    }
}

/// One local transaction of a saga.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Where.
    pub shard: ShardId,
    /// Rows to return, as they were before.
    pub reads: BTreeSet<Key>,
    /// Conditions on the shard's own rows, with their positions in the transaction.
    pub guards: Vec<(u16, Guard)>,
    /// What to write.
    pub writes: Vec<Write>,
}

/// A step with its name, as the shard gets it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StepRequest {
    /// The saga.
    pub txn: TxnId,
    /// Position of the step.
    pub step: u16,
    /// Whether it comes after the pivot and must succeed.
    pub retriable: bool,
    /// What to do.
    pub what: Step,
}

/// Why a shard did not take a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// This guard does not hold. Final: the shard has made the refusal durable.
    Guard(u16),
    /// A row belongs to an unfinished saga. As final.
    Busy,
    /// The disk failed.
    Disk,
}

/// What travels.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// From or to a client.
    Client(ClientMessage),
    /// Orchestrator to shard: what is in these rows?
    Read {
        /// The transaction.
        txn: TxnId,
        /// The rows.
        keys: BTreeSet<Key>,
    },
    /// Shard to orchestrator.
    Values {
        /// The transaction.
        txn: TxnId,
        /// The rows.
        rows: Vec<Read>,
    },
    /// Orchestrator to shard: take this step.
    Step(Arc<StepRequest>),
    /// Shard to orchestrator: it is durable and visible; the rows are as they were before.
    Done {
        /// The saga.
        txn: TxnId,
        /// The step.
        step: u16,
        /// The rows.
        rows: Vec<Read>,
    },
    /// Shard to orchestrator: the step was not taken.
    Refused {
        /// The saga.
        txn: TxnId,
        /// The step.
        step: u16,
        /// Why.
        refusal: Refusal,
    },
    /// Orchestrator to shard: undo this step, or never take it.
    Compensate {
        /// The saga.
        txn: TxnId,
        /// The step.
        step: u16,
    },
    /// Shard to orchestrator: the step is undone or blocked, durably.
    Compensated {
        /// The saga.
        txn: TxnId,
        /// The step.
        step: u16,
    },
    /// Orchestrator to shard: the saga is complete, unmark its rows.
    Confirm {
        /// The saga.
        txn: TxnId,
    },
    /// Shard to orchestrator.
    Confirmed {
        /// The saga.
        txn: TxnId,
        /// The shard.
        shard: ShardId,
    },
}

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Client(message) => message.label(),
            Message::Read { .. } => "read",
            Message::Values { .. } => "values",
            Message::Step(_) => "step",
            Message::Done { .. } => "done",
            Message::Refused { .. } => "refused",
            Message::Compensate { .. } => "compensate",
            Message::Compensated { .. } => "compensated",
            Message::Confirm { .. } => "confirm",
            Message::Confirmed { .. } => "confirmed",
        }
    }

    fn size_bytes(&self) -> u32 {
        let rows = match self {
            Message::Read { keys, .. } => keys.len(),
            Message::Values { rows, .. } | Message::Done { rows, .. } => rows.len(),
            Message::Step(request) => request.what.reads.len() + request.what.writes.len(),
            _ => 0,
        };
        message_bytes(rows)
    }
}

/// The timers of all processes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// A client's.
    Client(ClientTimer),
    /// The orchestrator misses an answer.
    Resend(TxnId),
    /// A step before the pivot has taken too long.
    StepTimeout(TxnId),
    /// Somebody has waited for a marked row long enough; by ticket.
    LockWait(u64),
}

carries_client!(Message, Timer);

type Out = Effects<Message, Timer>;

/// A process of the protocol.
pub type Node = node::Node<Shard, Orchestrator>;

/// The protocol.
#[derive(Clone, Copy, Debug)]
pub struct Saga;

impl Protocol for Saga {
    type Process = Node;
    type Options = Options;

    const MARKS: &'static [&'static [Mark]] = &[
        &[
            ("saga.backward", "a saga turned back"),
            (
                "saga.backward-recovery",
                "an orchestrator restarted and undid a saga",
            ),
            (
                "saga.forward-recovery",
                "an orchestrator restarted and went on with a saga after its pivot",
            ),
            (
                "saga.compensation-resumed",
                "an orchestrator restarted and went on undoing",
            ),
            (
                "saga.empty-compensation",
                "a compensation came before its step: a tombstone was set",
            ),
            (
                "saga.blocked-step",
                "a late step met the tombstone of its compensation",
            ),
            ("saga.step-not-durable", "a step's flush failed"),
            (
                "saga.reply-repeated",
                "a repeated request was answered from memory",
            ),
            (
                "saga.marked-row",
                "somebody met a row of an unfinished saga (`semantic-locks`)",
            ),
        ],
        journal::MARKS,
    ];
    const NAME: &'static str = "saga";
    const TITLE: &'static str = "Orchestrated saga with reverse compensation \
                                 (Garcia-Molina and Salem 1987)";
    const ENTRY: &'static str = "an orchestrator";

    fn promises(options: &Options) -> Promises {
        let promises = Promises::of([
            Promise::Atomicity(Atomicity::Saga),
            Promise::Progress(Progress::AllBack),
        ]);
        if options.acknowledge_at_start {
            return promises;
        }
        promises.and(Promise::Durability)
    }

    /// The orchestrator talks to the client and to all shards.
    fn needs(layout: &Layout, _: &Options, operation: &PlannedOperation) -> Vec<(NodeId, NodeId)> {
        let client = layout.regions[usize::from(operation.region)].client;
        let orchestrator = own_front(layout, operation).node;
        let keys = operation.txn.every_key();
        let shards = keys.iter().map(|key| layout.home(layout.shard_of(*key)));
        let with = shards.map(|shard| (orchestrator, shard));
        [(client, orchestrator)].into_iter().chain(with).collect()
    }

    fn deploy(
        layout: &Layout,
        options: &Options,
        operations: &[PlannedOperation],
    ) -> Result<Deployment<Node>, String> {
        let site = Arc::new(Site {
            layout: layout.clone(),
            options: options.clone(),
        });
        let patience = Patience::new(Some(options.client_resend_ms), options.client_give_up_ms);
        let entries = |operation: &PlannedOperation| vec![own_front(layout, operation)];
        Ok(Deployment::on(layout)
            .fronts(|_, _| Orchestrator::new(Arc::clone(&site)))
            .homes(|shard| Shard::new(Arc::clone(&site), shard))
            .clients(operations, patience, entries))
    }
}
