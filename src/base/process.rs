//! The sans-io contract: a process is a plain value and a step function.
//!
//! A process never performs I/O, reads a clock or draws a random number. Everything that it may react to
//! arrives as an [`Input`], everything that it wants done leaves as an [`Effect`]. The simulator and the
//! model checker both host *this* code, so what one explores is what the other runs.
//!
//! # Invariants
//!
//! - Only flushed bytes survive a crash. After a crash the host takes the pristine value that the
//!   deployment holds and feeds it [`Input::Boot`] with what the disk kept.
//! - A timer is named by its value: setting it again re-arms it. Jitter belongs to the world: a process
//!   asks for a [`Delay`] *range* and the host picks the instant, so no randomness enters a process.
//! - The wall clock that a step sees may be skewed, drift and step backwards. Elapsed time is measured with
//!   timers, which only drift.
//!
//! ```
//! use ordain::base::process::*;
//!
//! /// Counts the messages that it has made durable.
//! #[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
//! struct Counter { durable: u64, asked: u64 }
//!
//! impl Process for Counter {
//!     type Message = u64;
//!     type Timer = ();
//!     fn step(&mut self, _now: WallTime, input: Input<u64, ()>, out: &mut Effects<u64, ()>) {
//!         match input {
//!             Input::Boot(disk) => self.durable = disk.file(FileId(0)).len() as u64,
//!             Input::Message { message, .. } => {
//!                 self.asked += 1;
//!                 out.append(FileId(0), vec![message as u8]);
//!                 out.flush(FlushId { owner: 0, sequence: self.asked });
//!             }
//!             Input::Flushed(flush) => self.durable = flush.sequence,
//!             Input::FlushFailed(_) => out.halt("the disk refused a write"),
//!             Input::Timer(()) => {}
//!         }
//!     }
//! }
//!
//! let mut counter = Counter::default();
//! let mut out = Effects::default();
//! let from = Addr { node: NodeId(0), port: 0 };
//! counter.step(WallTime(0), Input::Message { from, message: 7 }, &mut out);
//! assert_eq!(out.iter().count(), 2); // an append and the flush that makes it durable
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display};
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use crate::base::observation::Observation;

/// A machine: the unit that crashes, pauses, loses power and owns a clock, a CPU and a disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u16);

/// A process on a node: messages travel between addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Addr {
    /// The machine.
    pub node: NodeId,
    /// Which of the machine's processes, counted from zero in deployment order.
    pub port: u8,
}

impl Addr {
    /// The first process on a machine.
    pub const fn on(node: NodeId) -> Self {
        Self { node, port: 0 }
    }
}

impl Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.node, self.port)
    }
}

/// A reading of a node's wall clock in nanoseconds since the run's epoch, as far as that clock knows. The
/// epoch lies [`WallTime::START`] before the start of the run, so that a slow clock needs no negative reading.
///
/// Never compare readings of two nodes as if one clock had made them; that is what [`crate::base::hlc`] is for.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WallTime(pub u64);

impl WallTime {
    /// What a perfect clock reads when the run starts: one hour.
    pub const START: WallTime = WallTime(3_600_000_000_000);
}

/// What a clock with a declared bound knows: true time lies between `earliest` and `latest`, both included. It is what
/// TrueTime's `TT.now()` returns (Corbett et al., OSDI 2012, section 3). It holds while the clock keeps its bound.
///
/// ```
/// use ordain::base::process::{Interval, WallTime};
///
/// let interval = Interval::around(WallTime(100), 7);
/// assert_eq!((interval.earliest, interval.latest), (WallTime(93), WallTime(107)));
/// assert!(interval.is_after(WallTime(92)) && !interval.is_after(WallTime(93)));
/// assert!(interval.is_before(WallTime(108)) && !interval.is_before(WallTime(107)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Interval {
    /// True time is not below this.
    pub earliest: WallTime,
    /// True time is not above this.
    pub latest: WallTime,
}

impl Interval {
    /// What a clock that shows `now` knows, if it is at most `bound_ns` from true time.
    pub fn around(now: WallTime, bound_ns: u64) -> Self {
        Self {
            earliest: WallTime(now.0.saturating_sub(bound_ns)),
            latest: WallTime(now.0.saturating_add(bound_ns)),
        }
    }

    /// Whether `time` has passed for certain (`TT.after`).
    pub fn is_after(&self, time: WallTime) -> bool {
        time < self.earliest
    }

    /// Whether `time` has not come yet for certain (`TT.before`).
    pub fn is_before(&self, time: WallTime) -> bool {
        self.latest < time
    }
}

/// One of a process's append-only files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileId(pub u8);

/// Names a flush so that its completion can be told from another's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct FlushId {
    /// The component that asked, where one process embeds several (a log replica inside a sequencer).
    pub owner: u8,
    /// The component's own counter.
    pub sequence: u64,
}

/// The bytes that survived: what a process finds on its disk when it boots.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Disk {
    files: BTreeMap<FileId, Vec<u8>>,
}

impl Disk {
    /// The file's bytes; empty where it was never written.
    pub fn file(&self, file: FileId) -> &[u8] {
        self.files.get(&file).map_or(&[], Vec::as_slice)
    }

    /// Bytes in all files.
    pub fn len_bytes(&self) -> u64 {
        self.files.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// The file's bytes, to change: for hosts, which apply appends, losses and corruption.
    pub fn file_mut(&mut self, file: FileId) -> &mut Vec<u8> {
        self.files.entry(file).or_default()
    }
}

/// How long until a timer fires, by the node's own clock rate: the host picks an instant within the range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Delay {
    /// Earliest, in nanoseconds.
    pub min_ns: u64,
    /// Latest, in nanoseconds, not below `min_ns`.
    pub max_ns: u64,
}

impl Delay {
    /// Exactly this long.
    pub const fn exactly(ns: u64) -> Self {
        Self {
            min_ns: ns,
            max_ns: ns,
        }
    }

    /// Somewhere in the range, as the host decides.
    pub const fn between(min_ns: u64, max_ns: u64) -> Self {
        assert!(min_ns <= max_ns);
        Self { min_ns, max_ns }
    }
}

/// What a process may react to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input<M, T> {
    /// First input of every incarnation: what the disk kept. Empty on the very first boot.
    Boot(Disk),
    /// A message arrived. The network may lose, duplicate, delay and reorder messages, and deliver those
    /// sent before a restart.
    Message {
        /// The sender.
        from: Addr,
        /// The content.
        message: M,
    },
    /// A timer fired.
    Timer(T),
    /// Every byte appended before the flush was asked for is durable.
    Flushed(FlushId),
    /// The flush failed: of what was appended or replaced since the last flush that succeeded, all, a prefix of each file
    /// or nothing may be on the disk. What is appended now comes after that. Every other flush that the process had under
    /// way fails with it.
    FlushFailed(FlushId),
}

/// What a process asks its host to do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Effect<M, T> {
    /// Send a datagram.
    Send {
        /// The receiver.
        to: Addr,
        /// The content.
        message: M,
    },
    /// Arm a timer, replacing one of the same value.
    SetTimer {
        /// The timer's name and what comes back.
        timer: T,
        /// When.
        after: Delay,
    },
    /// Disarm a timer; nothing happens if it is not armed.
    CancelTimer(T),
    /// Append bytes to a file. Durable only after a later flush completes.
    Append {
        /// The file.
        file: FileId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Replace a file's whole content (write beside it, then rename). Takes effect atomically: a crash
    /// before the flush completes leaves the old content or the new, never a mixture.
    Replace {
        /// The file.
        file: FileId,
        /// The new content.
        bytes: Vec<u8>,
    },
    /// Make everything appended or replaced so far durable; answered by `Flushed` or `FlushFailed`.
    Flush(FlushId),
    /// Charge the node's CPU for this many operations, on top of the cost of handling the input.
    Work(u32),
    /// Record a fact for trace, metrics, monitors and the refinement check. Changes nothing.
    Observe(Observation),
    /// Stop at once, as if the machine had crashed (a failed flush of state that must not be lost). The
    /// host restarts the node after its supervisor delay.
    Halt(&'static str),
}

/// The effects of a step, in the order in which the host must perform them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Effects<M, T> {
    list: Vec<Effect<M, T>>,
}

impl<M, T> Default for Effects<M, T> {
    fn default() -> Self {
        Self { list: Vec::new() }
    }
}

impl<M, T> Effects<M, T> {
    /// Send `message` to `to`.
    pub fn send(&mut self, to: Addr, message: M) {
        self.list.push(Effect::Send { to, message });
    }

    /// Arm `timer`.
    pub fn set_timer(&mut self, timer: T, after: Delay) {
        self.list.push(Effect::SetTimer { timer, after });
    }

    /// Disarm `timer`.
    pub fn cancel_timer(&mut self, timer: T) {
        self.list.push(Effect::CancelTimer(timer));
    }

    /// Append `bytes` to `file`.
    pub fn append(&mut self, file: FileId, bytes: Vec<u8>) {
        self.list.push(Effect::Append { file, bytes });
    }

    /// Replace the content of `file`.
    pub fn replace(&mut self, file: FileId, bytes: Vec<u8>) {
        self.list.push(Effect::Replace { file, bytes });
    }

    /// Ask for a flush.
    pub fn flush(&mut self, flush: FlushId) {
        self.list.push(Effect::Flush(flush));
    }

    /// Charge the CPU for `operations` operations.
    pub fn work(&mut self, operations: u32) {
        self.list.push(Effect::Work(operations));
    }

    /// Record a fact.
    pub fn observe(&mut self, observation: Observation) {
        self.list.push(Effect::Observe(observation));
    }

    /// Stop the node.
    pub fn halt(&mut self, why: &'static str) {
        self.list.push(Effect::Halt(why));
    }

    /// Adds an effect as it is.
    pub fn push(&mut self, effect: Effect<M, T>) {
        self.list.push(effect);
    }

    /// Takes over the effects of an embedded component, wrapping its messages and timers. Files and
    /// flushes pass unchanged: components of one process use disjoint [`FileId`]s and flush owners.
    pub fn absorb<M2, T2>(
        &mut self,
        child: &mut Effects<M2, T2>,
        message: impl Fn(M2) -> M,
        timer: impl Fn(T2) -> T,
    ) {
        self.list
            .extend(child.list.drain(..).map(|effect| match effect {
                Effect::Send { to, message: m } => Effect::Send {
                    to,
                    message: message(m),
                },
                Effect::SetTimer { timer: t, after } => Effect::SetTimer {
                    timer: timer(t),
                    after,
                },
                Effect::CancelTimer(t) => Effect::CancelTimer(timer(t)),
                Effect::Append { file, bytes } => Effect::Append { file, bytes },
                Effect::Replace { file, bytes } => Effect::Replace { file, bytes },
                Effect::Flush(flush) => Effect::Flush(flush),
                Effect::Work(operations) => Effect::Work(operations),
                Effect::Observe(observation) => Effect::Observe(observation),
                Effect::Halt(why) => Effect::Halt(why),
            }));
    }

    /// The effects in order.
    pub fn iter(&self) -> impl Iterator<Item = &Effect<M, T>> {
        self.list.iter()
    }

    /// Removes and yields the effects in order, keeping the allocation.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect<M, T>> + '_ {
        self.list.drain(..)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// What a message has to tell its host, besides its content.
pub trait Wire: Clone + Eq + Hash + Debug + Send + Sync + 'static {
    /// The message's name in the field's terms (`"prepare"`, `"append-entries"`): the unit in which
    /// traces and message counts are reported.
    fn label(&self) -> &'static str;

    /// Size on the wire in bytes, for links with a bandwidth.
    fn size_bytes(&self) -> u32 {
        message_bytes(0)
    }
}

/// Size on the wire, in bytes, of a message with so many rows: a header, and for each row its key and value.
pub fn message_bytes(rows: usize) -> u32 {
    64 + 16 * rows as u32
}

impl Wire for u64 {
    fn label(&self) -> &'static str {
        "number"
    }
}

/// A deterministic state machine that a host drives.
pub trait Process: Clone + Eq + Hash + Debug + Send + Sync + 'static {
    /// What it sends and receives.
    type Message: Wire;
    /// The names of its timers.
    type Timer: Clone + Ord + Hash + Debug + Send + Sync + 'static;

    /// Handles one input at local time `now`, adding to `out` what the host must do.
    fn step(
        &mut self,
        now: WallTime,
        input: Input<Self::Message, Self::Timer>,
        out: &mut Effects<Self::Message, Self::Timer>,
    );
}
