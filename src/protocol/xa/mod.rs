//! X/Open XA: a transaction manager calls resource managers, with heuristic decisions.
//!
//! Sources: X/Open, "Distributed Transaction Processing: The XA Specification" (C193, 1991), chapters 2, 3 and 5; X/Open,
//! "Distributed Transaction Processing: The TX (Transaction Demarcation) Specification" (C504, 1995), `tx_commit` and
//! `tx_set_commit_return`; Mohan, Lindsay and Obermarck, "Transaction Management in the R* Distributed Database Management
//! System", TODS 11(4), 1986, section 3 (presumed abort, which XA takes over as presumed rollback: C193, section 2.3).
//!
//! # Who does what
//!
//! A front machine is an application server: the application program and its *transaction manager* share its process. A data
//! machine is a *resource manager*: it keeps the rows, the locks and a log. A transaction has a *branch* at each resource
//! manager that it touches. Calls and returns are messages.
//!
//! ```text
//!   client -- request --> transaction manager
//!                         TM -- xa_start ----> RM     opens the branch; with it travel the statements that lock and read
//!                         TM <-- locked ------ RM
//!                         TM -- xa_end ------> RM     with it travel the statements that write
//!                         TM <-- XA_OK ------- RM
//!                         TM -- xa_prepare --> RM     commit: N
//!                         TM <-- XA_OK ------- RM             N     the vote is forced first; or XA_RDONLY, or XA_RB*
//!                         TM -- xa_commit ---> RM             N     the decision is forced first
//!                         TM <-- XA_OK ------- RM             N     the commit is forced first
//!   client <-- reply ---- transaction manager
//! ```
//!
//! No resource manager coordinates, so 4N messages and 2N + 1 forced writes commit a transaction. Two returns are not sent
//! because nobody waits for them: `XA_OK` of `xa_rollback` (an abort is presumed) and of `xa_forget`.
//!
//! - *One-phase commit*: with one resource manager `xa_commit(TMONEPHASE)` follows `xa_end`. That one decides, and the
//!   transaction manager writes nothing.
//! - *Read-only*: a branch without writes answers `xa_prepare` with `XA_RDONLY`, gives its locks back, and is done.
//! - *Recovery scan*: a resource manager never asks. Again and again the transaction manager calls `xa_recover`, which lists
//!   prepared and heuristically completed branches. It commits those that its log holds the decision for, and rolls back those
//!   that nothing is known of.
//!
//! # Heuristic decisions
//!
//! A branch that was prepared for longer than `heuristic-ms` is decided by its resource manager alone. The decision is forced,
//! carried out, and remembered until `xa_forget`. The next `xa_commit` or `xa_rollback` returns `XA_HEURCOM` or `XA_HEURRB`.
//! The transaction manager forces what it learns, and only then calls `xa_forget`. What the transaction came to follows from
//! its branches:
//!
//! | outcome | when |
//! |---|---|
//! | `XA_HEURCOM` | it was to commit, and every branch has committed |
//! | `XA_HEURRB` | every branch was rolled back |
//! | `XA_HEURMIX` | a branch did otherwise than was decided, and another one as decided |
//! | `XA_HEURHAZ` | a branch answers `XAER_NOTA`: its memory is gone, and what it did cannot be known |
//!
//! The last one takes an operator. Db2's `LIST INDOUBT TRANSACTIONS ... FORGET` and Oracle's
//! `DBMS_TRANSACTION.PURGE_LOST_DB_ENTRY` remove the memory of a heuristic decision by hand; `purge-ms` stands for that.
//!
//! # Why old messages are harmless
//!
//! A transaction manager that has lost its memory may run a repeated request again. So the [`Xid`] of a global transaction
//! names the *attempt*, which contains how often its transaction manager has booted. A vote counts for its attempt only, a
//! rollback drops no branch of another attempt, and a scan commits only the attempt that the log holds. A resource manager
//! that has a trace of an earlier attempt refuses to start a branch again (`XAER_DUPID`).

mod heuristic;
mod resource_manager;
mod transaction_manager;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kit::client::{ClientMessage, ClientTimer, Patience};
use super::kit::deploy::own_front;
use super::kit::execution::{self, Attempt, Grant, Part};
use super::kit::journal;
use super::kit::node::{self, carries_client, carries_execution};
use super::kit::participant::Commitment;
use super::{Atomicity, Deployment, Isolation, Progress, Promise, Promises, Protocol};
use crate::base::observation::{AbortReason, Mark};
use crate::base::options::{Choice, Millis, Number, declare};
use crate::base::process::{Addr, Effects, NodeId, Wire, message_bytes};
use crate::base::txn::{ShardId, TxnId};
use crate::plan::PlannedOperation;
use crate::scenario::layout::Layout;

pub use heuristic::Heuristic;
pub use resource_manager::{Branch, ResourceManager};
pub use transaction_manager::TransactionManager;

/// When a commit returns to the client (TX specification, `tx_set_commit_return`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommitReturn {
    /// Once every branch has answered (`TX_COMMIT_COMPLETED`): the reply knows of heuristic decisions.
    #[default]
    Completed,
    /// Once the decision is logged (`TX_COMMIT_DECISION_LOGGED`).
    DecisionLogged,
}

impl Choice for CommitReturn {}
impl Choice for Heuristic {}

declare! {
    /// Options, `[protocol.xa]` in a scenario. All times in milliseconds.
    pub struct Options {
        /// Whether a transaction with one resource manager commits there in one phase (`TMONEPHASE`).
        one_phase: bool = true,
        /// Whether a branch without writes leaves after the first phase (`XA_RDONLY`).
        read_only: bool = true,
        /// When the client learns of a commit: once it is `completed` at every resource manager, or once the
        /// `decision-logged`.
        commit_return: CommitReturn = CommitReturn::Completed,
        /// How often the transaction manager asks each resource manager for prepared branches (`xa_recover`).
        recovery_ms: Millis = Millis::new(2_000),
        /// How long a branch stays prepared before its resource manager decides alone, up to half as much again; 0: for ever.
        /// Otherwise atomicity is promised for all other transactions only, and isolation for none.
        heuristic_ms: Millis<0> = Millis::new(0),
        /// What a resource manager does that decides alone: `rollback` or `commit`.
        heuristic: Heuristic = Heuristic::Rollback,
        /// After how long an operator removes the memory of a heuristic decision without having been told to, up to half as
        /// much again; 0: never.
        purge_ms: Millis<0> = Millis::new(0),
        /// How long without an answer until a call is made again; requests for locks, which may have to wait, less and less
        /// often.
        resend_ms: Millis = Millis::new(250),
        /// How long the transaction manager waits for the returns of `xa_end` and `xa_prepare` before it rolls back.
        transaction_timeout_ms: Millis = Millis::new(5_000),
        /// How often a resource manager that has granted locks asks whether the transaction is still running.
        probe_ms: Millis = Millis::new(2_000),
        /// Longest pause of a wounded transaction before it starts again with its old timestamp; 0: none.
        restart_pause_ms: Millis<0> = Millis::new(10),
        /// How often a transaction may be wounded before its client learns of it; 0: any number of times.
        restarts: Number<0, 1_000_000> = Number::new(0),
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

    fn execution(&self) -> execution::Options {
        execution::Options {
            resend_ms: self.resend_ms,
            probe_ms: self.probe_ms,
            restart_pause_ms: self.restart_pause_ms,
            restarts: self.restarts,
        }
    }
}

/// What every process of a deployment knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Site {
    layout: Layout,
    options: Options,
    execution: execution::Options,
}

impl Site {
    fn resource_manager(&self, shard: ShardId) -> Addr {
        execution::participant(&self.layout, shard)
    }
}

/// A global transaction identifier: the transaction, and which attempt at it. With the resource manager beside it, it names a
/// branch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Xid {
    /// The transaction.
    pub txn: TxnId,
    /// The attempt.
    pub attempt: Attempt,
}

/// The calls whose returns travel as [`Message::Return`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Call {
    /// `xa_start`.
    Start,
    /// `xa_end`.
    End,
    /// `xa_prepare`.
    Prepare,
    /// `xa_commit`.
    Commit,
    /// `xa_rollback`.
    Rollback,
}

/// Return codes (C193, section 4.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Code {
    /// `XA_OK`: done.
    Ok,
    /// `XA_RDONLY`: the branch only read, and is done.
    ReadOnly,
    /// `XA_HEURCOM`: the branch was committed heuristically.
    HeurCom,
    /// `XA_HEURRB`: the branch was rolled back heuristically.
    HeurRb,
    /// `XA_HEURMIX`: some was committed and some rolled back.
    HeurMix,
    /// `XA_HEURHAZ`: what was done cannot be known.
    HeurHaz,
    /// `XA_RBROLLBACK`: the branch was rolled back.
    RbRollback,
    /// `XAER_NOTA`: the branch is not known.
    NotA,
    /// `XAER_DUPID`: there is or was such a branch already.
    DupId,
}

impl Code {
    /// Its name in the specification.
    pub fn name(self) -> &'static str {
        match self {
            Code::Ok => "XA_OK",
            Code::ReadOnly => "XA_RDONLY",
            Code::HeurCom => "XA_HEURCOM",
            Code::HeurRb => "XA_HEURRB",
            Code::HeurMix => "XA_HEURMIX",
            Code::HeurHaz => "XA_HEURHAZ",
            Code::RbRollback => "XA_RBROLLBACK",
            Code::NotA => "XAER_NOTA",
            Code::DupId => "XAER_DUPID",
        }
    }
}

/// What travels.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// From or to a client.
    Client(ClientMessage),
    /// Between transaction manager and resource managers, before anybody prepares. `xa_start` is a request for locks.
    Execution(execution::Message),
    /// `xa_end`: the work of the branch is done.
    End {
        /// The global transaction.
        xid: Xid,
        /// What it wrote here, and under which locks.
        part: Arc<Part>,
    },
    /// `xa_prepare`.
    Prepare {
        /// The global transaction.
        xid: Xid,
        /// The possession of locks under which the branch read.
        grant: Grant,
    },
    /// `xa_commit`.
    Commit {
        /// The global transaction.
        xid: Xid,
        /// `TMONEPHASE`: the branch is not prepared, and read under this possession of locks.
        one_phase: Option<Grant>,
    },
    /// `xa_rollback`.
    Rollback {
        /// The global transaction.
        xid: Xid,
        /// Why.
        why: AbortReason,
    },
    /// `xa_recover`.
    Recover {
        /// The first scan since the transaction manager restarted.
        restarted: bool,
    },
    /// `xa_forget`.
    Forget {
        /// The global transaction.
        xid: Xid,
    },
    /// What a call returned.
    Return {
        /// The call.
        call: Call,
        /// The global transaction.
        xid: Xid,
        /// The resource manager.
        shard: ShardId,
        /// The code.
        code: Code,
    },
    /// `XA_OK`: the branch is committed, durably.
    Committed {
        /// The transaction.
        txn: TxnId,
        /// The resource manager.
        shard: ShardId,
    },
    /// `XA_RBROLLBACK`: the branch was rolled back, because it could not be prepared.
    RolledBack {
        /// The transaction.
        txn: TxnId,
        /// The resource manager.
        shard: ShardId,
    },
    /// The return of `xa_recover`.
    Recovered {
        /// The resource manager.
        shard: ShardId,
        /// The branches of the transaction manager that asks which are prepared or heuristically completed here.
        xids: Vec<Xid>,
    },
    /// Resource manager to every transaction manager, after a restart: what was not prepared is gone. (Transaction managers
    /// see their connections break, `XAER_RMFAIL`.)
    Restarted {
        /// The resource manager.
        shard: ShardId,
        /// How often it has booted. Grants of earlier boots are void.
        boot: u64,
    },
}

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Client(message) => message.label(),
            Message::Execution(execution::Message::Lock(_)) => "xa_start",
            Message::Execution(message) => message.label(),
            Message::End { .. } => "xa_end",
            Message::Prepare { .. } => "xa_prepare",
            Message::Commit { .. } => "xa_commit",
            Message::Rollback { .. } => "xa_rollback",
            Message::Recover { .. } => "xa_recover",
            Message::Forget { .. } => "xa_forget",
            Message::Return { code, .. } => code.name(),
            Message::Committed { .. } => Code::Ok.name(),
            Message::RolledBack { .. } => Code::RbRollback.name(),
            Message::Recovered { .. } => "recovered",
            Message::Restarted { .. } => "restarted",
        }
    }

    fn size_bytes(&self) -> u32 {
        let rows = match self {
            Message::Execution(message) => return message.size_bytes(),
            Message::End { part, .. } => part.writes.len(),
            Message::Recovered { xids, .. } => xids.len(),
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
    /// An execution's.
    Execution(execution::Timer),
    /// A transaction manager misses returns.
    Resend(TxnId),
    /// A transaction manager has waited for the first phase long enough.
    Timeout(TxnId),
    /// A transaction manager scans for branches.
    Scan,
    /// A branch has been prepared for as long as it takes to scan.
    InDoubt(TxnId),
    /// A branch has been prepared for too long.
    Heuristic(TxnId),
    /// An operator removes the memory of a heuristic decision.
    Purge(TxnId),
}

carries_client!(Message, Timer);
carries_execution!(Message, Timer);

type Out = Effects<Message, Timer>;

/// A process of the protocol. A data machine's is a resource manager, a front machine's a transaction manager.
pub type Node = node::Node<ResourceManager, TransactionManager>;

/// The protocol.
#[derive(Clone, Copy, Debug)]
pub struct Xa;

impl Protocol for Xa {
    type Process = Node;
    type Options = Options;

    const MARKS: &'static [&'static [Mark]] = &[
        &[
            (
                "xa.one-phase",
                "a resource manager committed a transaction in one phase",
            ),
            (
                "xa.read-only",
                "a branch that only read left after the first phase (XA_RDONLY)",
            ),
            (
                "xa.in-doubt",
                "a branch was prepared for longer than a recovery scan takes to come",
            ),
            (
                "xa.decision-recovered",
                "a transaction manager restarted with a decision that some branch had not carried out",
            ),
            (
                "xa.scan-committed",
                "a recovery scan found a branch that the log holds the decision to commit for",
            ),
            (
                "xa.presumed-abort",
                "a branch was rolled back for want of a record",
            ),
            (
                "xa.timeout",
                "a transaction manager waited for the first phase in vain",
            ),
            (
                "xa.duplicate-xid",
                "a resource manager had a trace of an earlier attempt (XAER_DUPID)",
            ),
            (
                "xa.one-phase-recovered",
                "a transaction manager without memory learned that it had committed in one phase",
            ),
            (
                "xa.heuristic-decision",
                "a resource manager decided alone (`heuristic-ms`)",
            ),
            (
                "xa.heuristic-commit",
                "every branch has committed, one of them by its own decision (XA_HEURCOM)",
            ),
            (
                "xa.heuristic-rollback",
                "every branch was rolled back, one of them by its own decision (XA_HEURRB)",
            ),
            (
                "xa.heuristic-mixed",
                "a branch did otherwise than was decided and another one did not (XA_HEURMIX)",
            ),
            (
                "xa.heuristic-hazard",
                "what a branch did cannot be known (XA_HEURHAZ)",
            ),
            (
                "xa.forgotten",
                "a resource manager was told to forget a heuristic decision",
            ),
            (
                "xa.purged",
                "an operator removed the memory of a heuristic decision (`purge-ms`)",
            ),
        ],
        &Branch::MARKS,
        execution::MARKS,
        journal::MARKS,
    ];
    const NAME: &'static str = "xa";
    const TITLE: &'static str = "X/Open XA, presumed rollback, strict two-phase locking \
                                 (X/Open C193, 1991; Mohan, Lindsay and Obermarck 1986)";
    const ENTRY: &'static str = "a transaction manager";

    fn promises(options: &Options) -> Promises {
        let (isolation, atomicity) = if options.heuristic_ms.ns() == 0 {
            (Isolation::StrictSerializable, Atomicity::AllOrNothing)
        } else {
            (Isolation::None, Atomicity::UnlessAlone)
        };
        Promises::of([
            Promise::Isolation(isolation),
            Promise::Atomicity(atomicity),
            Promise::Durability,
            Promise::Progress(Progress::AllBack),
        ])
    }

    /// The transaction manager talks to the client and to the resource managers, and those to nobody else.
    fn needs(layout: &Layout, _: &Options, operation: &PlannedOperation) -> Vec<(NodeId, NodeId)> {
        let client = layout.regions[usize::from(operation.region)].client;
        let manager = own_front(layout, operation).node;
        let keys = operation.txn.every_key().into_iter();
        let branches = keys.map(|key| (manager, layout.home(layout.shard_of(key))));
        [(client, manager)].into_iter().chain(branches).collect()
    }

    fn deploy(
        layout: &Layout,
        options: &Options,
        operations: &[PlannedOperation],
    ) -> Result<Deployment<Node>, String> {
        let site = Arc::new(Site {
            layout: layout.clone(),
            options: options.clone(),
            execution: options.execution(),
        });
        let patience = Patience::new(Some(options.client_resend_ms), options.client_give_up_ms);
        Ok(Deployment::on(layout)
            .fronts(|_, node| TransactionManager::new(Arc::clone(&site), Addr::on(node)))
            .homes(|shard| resource_manager::resource_manager(Arc::clone(&site), shard))
            .clients(operations, patience, |operation| {
                vec![own_front(layout, operation)]
            }))
    }
}
