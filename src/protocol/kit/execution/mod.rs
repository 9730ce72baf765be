//! Execution: from a client's request to locked rows and computed writes, or to a refusal. It knows nothing of votes.
//!
//! One participant *initiates* a transaction. It asks all participants for locks (strict two-phase locking), reads under
//! them, and evaluates the transaction's procedure. A dependent transaction takes two rounds: its pointers first, then the
//! rows that they name. What comes of it is an [`End`]: either [`Executed`], with everybody's part, or a refusal. From
//! there on a commit protocol takes over.
//!
//! ```text
//!   initiator -- lock ----> participant
//!   initiator <-- locked -- participant        once it holds all locks, with the rows
//!   initiator <-- wound --- participant        an older transaction wants one of the locks: release all, and begin again
//!   initiator <-- probe --- participant        is the attempt still running?
//!   initiator -- release -> participant        no: its locks are free
//! ```
//!
//! Sources: Eswaran, Gray, Lorie and Traiger, CACM 19(11), 1976 (two-phase locking); Rosenkrantz, Stearns and Lewis, TODS
//! 3(2), 1978 (wound-wait); Gray, "Notes on Data Base Operating Systems", 1978, section 5.8.3.
//!
//! # Attempts and grants
//!
//! The network repeats messages and delivers old ones. So each run of a transaction is an [`Attempt`], and each
//! uninterrupted possession of locks is a [`Grant`]. Rows that were read under a grant are worth nothing once it is lost.
//! A commit protocol asks each participant to vote under the grant that [`Part`] names ([`Execution::holds_under`]), and
//! then keeps the locks until the decision ([`Execution::keep`]).
//!
//! # What a process does with it
//!
//! A participant embeds one [`Execution`], hands it messages and timers, and takes over its effects. Messages of a process
//! to itself cost nothing: it takes them with [`Execution::next_to_self`] at the end of its step.
//!
//! ```
//! use ordain::base::process::{Addr, WallTime};
//! use ordain::model::worlds::{CLIENT, layout, transfer};
//! use ordain::protocol::kit::execution::{self, Around, End, Execution};
//! use ordain::base::txn::ShardId;
//! use ordain::shard::store::Store;
//!
//! let layout = layout();
//! let options = execution::Options::default();
//! let stores = [0, 1].map(|shard| Store::new(&layout, ShardId(shard)));
//! let around = [0, 1].map(|at| {
//!     Around::participant(&layout, &options, ShardId(at), &stores[usize::from(at)])
//! });
//! let mut machines = [0, 1].map(|at| Execution::new(around[at].me()));
//! let mut out = execution::Out::default();
//!
//! let client = Addr { node: CLIENT, port: 0 };
//! let txn = transfer(0).txn.into();
//! machines[0].begin(WallTime(0), client, txn, &around[0], &mut out);
//! let mut executed = None;
//! while executed.is_none() {
//!     // Whoever has a message for itself goes first; then what was sent.
//!     let (at, from, message) = match machines[0].next_to_self() {
//!         Some(message) => (0, around[0].me(), message),
//!         None => {
//!             let sent = out.drain().find_map(|effect| match effect {
//!                 ordain::base::process::Effect::Send { to, message } => Some((to, message)),
//!                 _ => None,
//!             });
//!             let (to, message) = sent.expect("somebody is asked");
//!             let at = around.iter().position(|around| around.me() == to).unwrap();
//!             (at, around[1 - at].me(), message)
//!         }
//!     };
//!     let is_over = false;
//!     executed = machines[at].on_message(WallTime(0), from, message, is_over, &around[at], &mut out);
//! }
//! let Some(End::Executed(executed)) = executed else { unreachable!("nothing stands against it") };
//! assert_eq!(executed.parts.len(), 2);
//! assert!(executed.parts.iter().all(|part| part.writes.len() == 1));
//! ```

mod initiator;
mod lock_table;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::hlc::{Hlc, Stamp};
use crate::base::observation::{Mark, Outcome};
use crate::base::options::{Millis, Number};
use crate::base::process::{Addr, Effects, WallTime, Wire, message_bytes};
use crate::base::txn::{Key, Read, ShardId, TxnId, Write};
use crate::base::zoo::{self, Bug};
use crate::scenario::layout::Layout;
use crate::shard::locks::{Locks, Mode};
use crate::shard::store::Store;

use initiator::Running;
use lock_table::{Held, Owner};

pub use lock_table::Kept;

/// The rare branches that an execution marks.
pub const MARKS: &[Mark] = &[
    (
        "execution.grant-changed",
        "an initiator found that a participant had lost locks and got them again",
    ),
    (
        "execution.grant-void",
        "a participant announced its restart to an initiator that had read there",
    ),
    (
        "execution.wounded",
        "an older transaction took a lock (wound-wait)",
    ),
];

/// The pauses and limits of an execution. Protocols offer these as options of their own.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Options {
    /// How long without an answer until locks are asked for again; then less and less often, because others may hold them.
    pub resend_ms: Millis,
    /// How often a participant that has granted locks asks whether the transaction is still running.
    pub probe_ms: Millis,
    /// Longest pause of a wounded transaction before it starts again with its old timestamp; 0: none.
    pub restart_pause_ms: Millis<0>,
    /// How often a transaction may be wounded before it is refused; 0: any number of times.
    pub restarts: Number<0, 1_000_000>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resend_ms: Millis::new(250),
            probe_ms: Millis::new(2_000),
            restart_pause_ms: Millis::new(10),
            restarts: Number::new(0),
        }
    }
}

/// One run of a transaction by its initiator; later ones are larger. A wounded transaction runs again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// How often the initiator has booted.
    pub boot: u64,
    /// Counts the initiator's attempts since then.
    pub number: u64,
}

/// The uninterrupted possession of locks by one attempt at one participant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// How often the participant has booted.
    pub boot: u64,
    /// Counts the participant's grants since then.
    pub number: u64,
}

/// Locks that an attempt needs at a participant: everything that it has asked for there so far, too.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LockRequest {
    /// The transaction.
    pub txn: TxnId,
    /// The attempt.
    pub attempt: Attempt,
    /// 0, and 1 for the rows that a dependent transaction found out about in round 0.
    pub round: u8,
    /// The transaction's age: wound-wait lets the smaller stamp go first. The same in all attempts.
    pub stamp: Stamp,
    /// The rows and how.
    pub wanted: Vec<(Key, Mode)>,
}

/// A participant's part in what was executed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The participant.
    pub shard: ShardId,
    /// Under which it held its locks when they were read.
    pub grant: Grant,
    /// What it is to write.
    pub writes: Vec<Write>,
}

/// A transaction that holds all its locks, and may commit. The initiator must [keep](Execution::keep) its own locks before it
/// handles another message: an older transaction's wound may be waiting among those to itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Executed {
    /// The transaction.
    pub txn: TxnId,
    /// Whom to answer.
    pub client: Addr,
    /// The attempt that got the locks.
    pub attempt: Attempt,
    /// Every participant's part, the initiator's included, by shard.
    pub parts: Vec<Part>,
    /// Every row of the footprint, as it was.
    pub reads: Vec<Read>,
}

/// How an execution ends.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum End {
    /// It may commit.
    Executed(Executed),
    /// It takes no effect, and its locks are released.
    Refused {
        /// The transaction.
        txn: TxnId,
        /// Whom to answer.
        client: Addr,
        /// Why: a guard does not hold, or it was wounded too often.
        outcome: Outcome,
    },
}

/// What travels between initiators and participants.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Initiator to participant: lock and read these rows.
    Lock(Arc<LockRequest>),
    /// Participant to initiator: the locks are held, and this is what the rows are.
    Locked {
        /// The transaction.
        txn: TxnId,
        /// The attempt.
        attempt: Attempt,
        /// The round of the request.
        round: u8,
        /// The participant.
        shard: ShardId,
        /// The possession of these locks.
        grant: Grant,
        /// The rows.
        rows: Vec<Read>,
    },
    /// Participant to initiator: an older transaction wants a lock of this attempt.
    Wound {
        /// The transaction.
        txn: TxnId,
        /// The attempt.
        attempt: Attempt,
    },
    /// Participant to initiator: is this attempt, which has locks here, still running?
    Probe {
        /// The transaction.
        txn: TxnId,
        /// The attempt.
        attempt: Attempt,
    },
    /// Initiator to participant: this attempt needs its locks no more and will never be prepared.
    Release {
        /// The transaction.
        txn: TxnId,
        /// The attempt.
        attempt: Attempt,
    },
}

impl Message {
    /// The transaction that it speaks of.
    pub fn txn(&self) -> TxnId {
        match self {
            Message::Lock(request) => request.txn,
            Message::Locked { txn, .. }
            | Message::Wound { txn, .. }
            | Message::Probe { txn, .. }
            | Message::Release { txn, .. } => *txn,
        }
    }
}

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Lock(_) => "lock",
            Message::Locked { .. } => "locked",
            Message::Wound { .. } => "wound",
            Message::Probe { .. } => "probe",
            Message::Release { .. } => "release",
        }
    }

    fn size_bytes(&self) -> u32 {
        let rows = match self {
            Message::Lock(request) => request.wanted.len(),
            Message::Locked { rows, .. } => rows.len(),
            _ => 0,
        };
        message_bytes(rows)
    }
}

/// The timers of executions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// The initiator has not got all locks yet.
    Relock(TxnId),
    /// A wounded transaction starts again.
    Restart(TxnId),
    /// A participant has granted locks and heard no more.
    Probe(TxnId),
}

impl Timer {
    /// The transaction that it is set for.
    pub fn txn(&self) -> TxnId {
        let (Timer::Relock(txn) | Timer::Restart(txn) | Timer::Probe(txn)) = self;
        *txn
    }
}

/// The effects of an execution.
pub type Out = Effects<Message, Timer>;

/// What an execution looks at and does not change.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Where rows live.
    layout: &'a Layout,
    /// Pauses and limits.
    options: &'a Options,
    /// This process.
    me: Addr,
    /// The shard that it keeps, and its rows.
    here: Option<(ShardId, &'a Store)>,
}

impl<'a> Around<'a> {
    /// What the process of a shard looks at.
    pub fn participant(
        layout: &'a Layout,
        options: &'a Options,
        shard: ShardId,
        store: &'a Store,
    ) -> Self {
        Self {
            layout,
            options,
            me: participant(layout, shard),
            here: Some((shard, store)),
        }
    }

    /// What a process looks at that initiates transactions, and keeps no shard itself.
    pub fn initiator(layout: &'a Layout, options: &'a Options, me: Addr) -> Self {
        let here = None;
        Self {
            layout,
            options,
            me,
            here,
        }
    }

    /// This process.
    pub fn me(&self) -> Addr {
        self.me
    }

    /// Whoever is asked for locks keeps a shard.
    fn here(&self) -> (ShardId, &'a Store) {
        self.here.expect("only a participant has a lock table")
    }

    fn home(&self, shard: ShardId) -> Addr {
        participant(self.layout, shard)
    }
}

/// The process of a shard's only copy: the first one on its machine.
pub fn participant(layout: &Layout, shard: ShardId) -> Addr {
    Addr::on(layout.home(shard))
}

/// The executions that a participant initiates, and its lock table. None of it survives a crash, but what the owner
/// [recovers](Execution::recover).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Execution {
    /// How often this participant has booted.
    boot: u64,
    hlc: Hlc,
    /// Messages to itself.
    to_self: VecDeque<Message>,
    // The initiator's part.
    attempts: u64,
    running: BTreeMap<TxnId, Running>,
    // The lock table.
    grants: u64,
    locks: Locks<Owner>,
    held: BTreeMap<TxnId, Held>,
}

impl Execution {
    /// Nothing runs and nothing is locked.
    pub fn new(me: Addr) -> Self {
        Self {
            boot: 0,
            hlc: Hlc::new(me.node.0),
            to_self: VecDeque::new(),
            attempts: 0,
            running: BTreeMap::new(),
            grants: 0,
            locks: Locks::default(),
            held: BTreeMap::new(),
        }
    }

    /// This boot is durable: attempts and grants from here on differ from all earlier ones.
    pub fn serve(&mut self, boot: u64) {
        self.boot = boot;
    }

    /// A message that this process sent to itself, to be handled before its step ends.
    pub fn next_to_self(&mut self) -> Option<Message> {
        self.to_self.pop_front()
    }

    /// Handles a message. `is_over`: its transaction has ended here, and gets no locks any more. Returns how an execution
    /// of this participant has ended by it.
    pub fn on_message(
        &mut self,
        now: WallTime,
        from: Addr,
        message: Message,
        is_over: bool,
        around: &Around<'_>,
        out: &mut Out,
    ) -> Option<End> {
        match message {
            Message::Lock(request) => {
                self.hlc.merge(now, request.stamp);
                if !is_over {
                    self.on_lock(from, &request, around, out);
                }
            }
            Message::Locked {
                txn,
                attempt,
                round,
                shard,
                grant,
                rows,
            } => {
                let about = (txn, attempt, round);
                return self.on_locked(from, about, (shard, grant), rows, around, out);
            }
            Message::Wound { txn, attempt } => {
                return self.on_wound(from, txn, attempt, around, out);
            }
            Message::Probe { txn, attempt } => self.on_probe(from, txn, attempt, around, out),
            Message::Release { txn, attempt } => self.on_release(txn, attempt, around, out),
        }
        None
    }

    /// Handles a timer.
    pub fn on_timer(&mut self, timer: Timer, around: &Around<'_>, out: &mut Out) {
        match timer {
            Timer::Relock(txn) => self.relock(txn, around, out),
            Timer::Restart(txn) => self.lock_round(txn, 0, around, out),
            Timer::Probe(_) if zoo::planted(Bug::OrphansNotProbed) => {}
            Timer::Probe(txn) => self.probe(txn, around, out),
        }
    }

    fn send(&mut self, to: Addr, message: Message, around: &Around<'_>, out: &mut Out) {
        if to == around.me() {
            self.to_self.push_back(message);
        } else {
            out.send(to, message);
        }
    }
}
