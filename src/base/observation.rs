//! What a run leaves behind: the facts that processes state, and the history that clients saw.

use serde::Serialize;

use crate::base::process::{Addr, NodeId};
use crate::base::txn::{Key, Read, ShardId, TxnId};

/// A fact that a process states about itself at the moment it becomes true. Observations feed the trace,
/// the metrics, the monitors and the refinement check, and change nothing in the run.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observation {
    /// A client sent a transaction for the first time.
    Invoked {
        /// The transaction.
        txn: TxnId,
        /// The client session, which has one operation under way at a time.
        session: u32,
    },
    /// A client learned how its transaction ended, or gave up ([`Outcome::Unknown`]).
    Returned {
        /// The transaction.
        txn: TxnId,
        /// The client session.
        session: u32,
        /// What the client learned.
        outcome: Outcome,
    },
    /// The protocol took charge of the transaction: from here on it owes an end. A transaction may be
    /// initiated more than once where a client resends; the first one counts.
    Initiated {
        /// The transaction.
        txn: TxnId,
    },
    /// A participant's vote became durable (yes) or was cast (no). After a yes the participant is in
    /// doubt until it observes `Resolved`.
    Voted {
        /// The transaction.
        txn: TxnId,
        /// The participant.
        shard: ShardId,
        /// The vote.
        yes: bool,
    },
    /// The coordinator's decision can no longer change.
    Decided {
        /// The transaction.
        txn: TxnId,
        /// The decision.
        commit: bool,
    },
    /// A shard knows the decision and has acted on it (durably, if it is a commit).
    Resolved {
        /// The transaction.
        txn: TxnId,
        /// The shard.
        shard: ShardId,
        /// The decision as the shard learned it.
        commit: bool,
    },
    /// A shard made a transaction's local effects visible.
    Applied {
        /// The transaction.
        txn: TxnId,
        /// The shard.
        shard: ShardId,
        /// The position in the shard's order of application (a log position where there is one).
        position: u64,
        /// The rows written.
        keys: Vec<Key>,
    },
    /// A shard made a compensation visible.
    Compensated {
        /// The saga.
        txn: TxnId,
        /// The shard.
        shard: ShardId,
        /// The saga's step, from zero.
        step: u16,
    },
    /// The protocol owes the transaction nothing more: it is decided, and the coordinator knows that every
    /// participant has acted on the decision, or will do so without it.
    Ended {
        /// The transaction.
        txn: TxnId,
        /// Whether its effects stand.
        commit: bool,
    },
    /// A transaction waits for a lock.
    LockWait {
        /// The transaction.
        txn: TxnId,
        /// The shard.
        shard: ShardId,
        /// The row.
        key: Key,
    },
    /// A transaction holds all the locks that it asked the shard for.
    Locked {
        /// The transaction.
        txn: TxnId,
        /// The shard.
        shard: ShardId,
    },
    /// A transaction released its locks at a shard.
    Unlocked {
        /// The transaction.
        txn: TxnId,
        /// The shard.
        shard: ShardId,
    },
    /// A step in a replicated log, for the safety monitor.
    Log {
        /// Which log: replicas of one group agree.
        group: u16,
        /// What happened.
        event: LogEvent,
    },
    /// A rare branch of protocol code was reached.
    Mark(&'static str),
    // New kinds come last, for digests fold a kind's place among them.
    /// A shard in doubt decided alone and durably (XA's heuristic decision). It is no longer in doubt, and may be wrong.
    /// `Resolved` follows when it learns the decision.
    DecidedAlone {
        /// The transaction.
        txn: TxnId,
        /// The shard.
        shard: ShardId,
        /// What it does.
        commit: bool,
    },
}

/// A rare branch of protocol code: the name that [`Observation::Mark`] carries, and what happened there.
pub type Mark = (&'static str, &'static str);

/// The names of all observations but marks, which have names of their own.
pub const NAMES: [&str; 19] = [
    "invoked",
    "returned",
    "initiated",
    "voted",
    "decided",
    "resolved",
    "decided-alone",
    "applied",
    "compensated",
    "ended",
    "lock-wait",
    "locked",
    "unlocked",
    "log.restarted",
    "log.became-leader",
    "log.appended",
    "log.truncated",
    "log.committed",
    "log.compacted",
];

/// Moments that the world itself sees on a machine.
pub const MOMENTS: [&str; 3] = ["booted", "flush.asked", "flush.completed"];

impl Observation {
    /// Its name in traces and in the `observation` of [`crate::fault::When::Moment`]: a mark has its own name.
    pub fn name(&self) -> &'static str {
        match self {
            Observation::Invoked { .. } => "invoked",
            Observation::Returned { .. } => "returned",
            Observation::Initiated { .. } => "initiated",
            Observation::Voted { .. } => "voted",
            Observation::Decided { .. } => "decided",
            Observation::Resolved { .. } => "resolved",
            Observation::DecidedAlone { .. } => "decided-alone",
            Observation::Applied { .. } => "applied",
            Observation::Compensated { .. } => "compensated",
            Observation::Ended { .. } => "ended",
            Observation::LockWait { .. } => "lock-wait",
            Observation::Locked { .. } => "locked",
            Observation::Unlocked { .. } => "unlocked",
            Observation::Log { event, .. } => event.name(),
            Observation::Mark(name) => name,
        }
    }
}

impl Observation {
    /// The transaction that it speaks of, if it speaks of one.
    pub fn txn(&self) -> Option<TxnId> {
        match self {
            Observation::Invoked { txn, .. }
            | Observation::Returned { txn, .. }
            | Observation::Initiated { txn }
            | Observation::Voted { txn, .. }
            | Observation::Decided { txn, .. }
            | Observation::Resolved { txn, .. }
            | Observation::DecidedAlone { txn, .. }
            | Observation::Applied { txn, .. }
            | Observation::Compensated { txn, .. }
            | Observation::Ended { txn, .. }
            | Observation::LockWait { txn, .. }
            | Observation::Locked { txn, .. }
            | Observation::Unlocked { txn, .. } => Some(*txn),
            Observation::Log { .. } | Observation::Mark(_) => None,
        }
    }
}

impl LogEvent {
    fn name(&self) -> &'static str {
        match self {
            LogEvent::Restarted { .. } => "log.restarted",
            LogEvent::BecameLeader { .. } | LogEvent::WonBallot { .. } => "log.became-leader",
            LogEvent::Appended { .. } => "log.appended",
            LogEvent::Truncated { .. } => "log.truncated",
            LogEvent::Committed { .. } => "log.committed",
            LogEvent::Compacted { .. } => "log.compacted",
        }
    }
}

/// What happens to one replica of a replicated log (Ongaro and Ousterhout, USENIX ATC 2014, section 5;
/// "ballot" for "term" in Paxos). The monitor rebuilds every replica's log from these, so a replica states
/// each change, also those made while it boots.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogEvent {
    /// The replica restarted; its durable log, which it restates with `Appended`, starts after
    /// `snapshot_index`.
    Restarted {
        /// Last index that the replica's snapshot covers; 0 without a snapshot.
        snapshot_index: u64,
        /// Term of the entry at `snapshot_index`.
        snapshot_term: u64,
    },
    /// The replica won an election, with the log that it has stated.
    BecameLeader {
        /// The term.
        term: u64,
    },
    /// The replica's log now ends with this entry.
    Appended {
        /// Position, from 1.
        index: u64,
        /// The entry's term.
        term: u64,
        /// A digest of the entry's content.
        content: u64,
    },
    /// The replica removed its entries from this index on.
    Truncated {
        /// First index removed.
        from: u64,
    },
    /// The replica knows that entries up to this index are committed, and hands them on in order.
    Committed {
        /// Last committed index.
        index: u64,
    },
    /// The replica replaced its log up to this index by a snapshot (its own or a leader's).
    Compacted {
        /// Last index that the snapshot covers.
        index: u64,
        /// Term of that entry.
        term: u64,
    },
    // New kinds come last, for digests fold a kind's place among them.
    /// The replica won an election under Multi-Paxos, whose replicas state only what is decided: a leader holds more than it has stated.
    WonBallot {
        /// The ballot.
        ballot: u64,
    },
}

/// How a transaction ended, as a client knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It took effect.
    Committed {
        /// Every row of the footprint, as it was before the transaction's own writes. Empty where the
        /// protocol returns none.
        reads: Vec<Read>,
    },
    /// Its own guard at this position did not hold: it took no effect, and that is its own logic.
    Declined {
        /// Position in the transaction's guards.
        guard: u16,
    },
    /// The system aborted it: it took no effect.
    Aborted {
        /// Why, in the field's terms.
        why: AbortReason,
    },
    /// The client gave up waiting: it may or may not have taken effect, or may still.
    Unknown,
}

/// Why a system aborts a transaction that could have committed.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum AbortReason {
    /// An older transaction took its locks (wound-wait), or it would have waited for one (wait-die).
    Deadlock,
    /// A participant voted no: it could not make the vote durable, or had forgotten the transaction.
    VotedNo,
    /// A participant did not answer in time.
    Timeout,
    /// The coordinator restarted and had no record (presumed abort).
    Presumed,
    /// A saga was rolled back by compensation after a step failed.
    Compensated,
    /// A participant failed to apply its part.
    ApplyFailed,
    /// Another transaction has committed a newer version of a row that this one writes, or is about to (first committer
    /// wins; Berenson et al., SIGMOD 1995, section 4.2).
    WriteConflict,
    /// Its locks were older than their time to live, and others rolled it back.
    LockExpired,
    /// Its client machine had too many requests under way and waiting: it was turned away, and never sent.
    Shed,
}

impl AbortReason {
    /// Its name, as JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            AbortReason::Deadlock => "deadlock",
            AbortReason::VotedNo => "voted-no",
            AbortReason::Timeout => "timeout",
            AbortReason::Presumed => "presumed",
            AbortReason::Compensated => "compensated",
            AbortReason::ApplyFailed => "apply-failed",
            AbortReason::WriteConflict => "write-conflict",
            AbortReason::LockExpired => "lock-expired",
            AbortReason::Shed => "shed",
        }
    }
}

/// An observation with its place in the run.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Observed {
    /// True simulated time, nanoseconds since the start.
    pub at_ns: u64,
    /// The observing process.
    pub by: Addr,
    /// What it stated.
    pub what: Observation,
}

/// A panic inside a process: a bug of the protocol (or of ordain), turned into a verdict.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Panicked {
    /// True simulated time, nanoseconds.
    pub at_ns: u64,
    /// The machine.
    pub node: NodeId,
    /// The process.
    pub by: Addr,
    /// The input that it was handling, as `Debug` prints it.
    pub input: String,
    /// The panic's message and place.
    pub message: String,
}

/// A panic's message as a shape: runs of digits become `N`, so that neither row numbers nor lines of code
/// make two classes of one bug, and the length is bounded.
pub fn shape_of_panic(message: &str) -> String {
    let mut shape = String::new();
    for c in message.chars() {
        match c.is_ascii_digit() {
            true if shape.ends_with('N') => {}
            true => shape.push('N'),
            false if c.is_whitespace() => shape.push(' '),
            false => shape.push(c),
        }
    }
    shape.truncate(shape.trim_end_matches(":N:N").len());
    // Only now: where a message with its numbers in it is cut depends on how long those are.
    shape.chars().take(160).collect()
}
