//! Faults and links as plain data: what a scenario names and a plan schedules.

use serde::{Deserialize, Serialize};

use crate::base::process::NodeId;

/// How long a message takes on a link, one way: a floor (distance) plus an exponential tail.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// The floor in nanoseconds: no message is faster.
    pub base_ns: u64,
    /// Mean of the exponential jitter on top, in nanoseconds; a sample is cut at ten times the mean.
    pub jitter_ns: u64,
}

/// A directed link's behaviour when no fault strikes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Link {
    /// Delay.
    pub latency: Latency,
    /// Bytes a second; 0 is unlimited. Messages queue behind one another.
    pub bandwidth: u64,
    /// Probability, in parts per million, that a message is lost.
    pub loss_ppm: u32,
    /// Probability, in parts per million, that a message arrives twice.
    pub duplicate_ppm: u32,
    /// Probability, in parts per million, that later messages may overtake this one. All others arrive in
    /// the order in which they were sent.
    pub reorder_ppm: u32,
}

/// What the disk does with bytes that were appended and not flushed when its machine crashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrashLoss {
    /// They are gone.
    Lost,
    /// They happen to have reached the platter.
    Kept,
    /// A prefix of them did: the cut is at this many 65536ths of their length.
    Torn(u16),
}

/// Whether a fault strikes links in one direction only.
///
/// Both directions hash as nothing, so that faults have the digests that they had before there was a choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OneWay(pub bool);

impl OneWay {
    /// Messages of both directions are struck.
    pub const NO: OneWay = OneWay(false);

    fn is_no(&self) -> bool {
        !self.0
    }
}

impl std::hash::Hash for OneWay {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        if self.0 {
            state.write_u8(1);
        }
    }
}

/// A fault, without its time.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum FaultKind {
    /// Messages from any of `from` to any of `to` are lost; with `both_ways`, the other direction too.
    /// Messages already under way still arrive.
    Cut {
        /// Senders.
        from: Vec<NodeId>,
        /// Receivers.
        to: Vec<NodeId>,
        /// Whether the reverse direction is cut as well.
        both_ways: bool,
    },
    /// As `Cut`, both ways, but the link comes and goes.
    Flap {
        /// One side.
        from: Vec<NodeId>,
        /// The other side.
        to: Vec<NodeId>,
        /// How long it is cut each time, in nanoseconds.
        down_ns: u64,
        /// How long it works in between, in nanoseconds.
        up_ns: u64,
    },
    /// Links from `from` to `to`, both ways unless `one_way`, behave worse than usual.
    Degrade {
        /// One side.
        from: Vec<NodeId>,
        /// The other side.
        to: Vec<NodeId>,
        /// Added to the usual loss, in parts per million.
        loss_ppm: u32,
        /// Added to the usual duplication, in parts per million.
        duplicate_ppm: u32,
        /// Added to the usual reordering, in parts per million.
        reorder_ppm: u32,
        /// Added to every delay.
        latency: Latency,
        /// Replaces the usual bandwidth, in bytes a second, if not 0.
        bandwidth: u64,
        /// Whether messages from `to` to `from` are as usual.
        #[serde(default, skip_serializing_if = "OneWay::is_no")]
        one_way: OneWay,
    },
    /// The machines stop, and start again when the fault ends.
    Crash {
        /// The machines.
        nodes: Vec<NodeId>,
        /// What becomes of unflushed bytes.
        loss: CrashLoss,
    },
    /// The machines stand still: inputs wait, and timers fire late, when the fault ends.
    Pause {
        /// The machines.
        nodes: Vec<NodeId>,
    },
    /// CPU and flushes of the machines take `percent` of their usual time.
    Slow {
        /// The machines.
        nodes: Vec<NodeId>,
        /// 100 is no change.
        percent: u32,
    },
    /// Flushes of the machines take `percent` of their usual time.
    SlowFlush {
        /// The machines.
        nodes: Vec<NodeId>,
        /// 100 is no change.
        percent: u32,
    },
    /// Each flush of the machines fails with this probability.
    FailFlush {
        /// The machines.
        nodes: Vec<NodeId>,
        /// In parts per million.
        probability_ppm: u32,
        /// How often a failed flush leaves bytes on the disk all the same, all or a prefix; in parts per million.
        #[serde(default, skip_serializing_if = "is_zero")]
        kept_ppm: u32,
    },
    /// When the machine next boots, one bit of what it reads from its disk is flipped: the bit at this many
    /// 2^32ths of the file's length.
    CorruptRead {
        /// The machine.
        node: NodeId,
        /// The process on it.
        port: u8,
        /// The file.
        file: u8,
        /// Where.
        position: u32,
    },
    /// The machines' wall clocks step by this much, in nanoseconds.
    ClockStep {
        /// The machines.
        nodes: Vec<NodeId>,
        /// Positive steps forwards.
        by_ns: i64,
    },
    /// The machines' wall clocks drift by this much more, in parts per million.
    ClockDrift {
        /// The machines.
        nodes: Vec<NodeId>,
        /// Positive runs fast.
        by_ppm: i32,
    },
}

fn is_zero(ppm: &u32) -> bool {
    *ppm == 0
}

impl FaultKind {
    /// Every machine that the fault names.
    pub fn nodes(&self) -> Vec<NodeId> {
        match self {
            FaultKind::CorruptRead { node, .. } => vec![*node],
            kind => kind
                .clone()
                .node_lists()
                .into_iter()
                .flatten()
                .map(|node| *node)
                .collect(),
        }
    }

    /// The lists of machines that it names: one, or the two sides of its links.
    pub(crate) fn node_lists(&mut self) -> Vec<&mut Vec<NodeId>> {
        match self {
            FaultKind::Cut { from, to, .. }
            | FaultKind::Flap { from, to, .. }
            | FaultKind::Degrade { from, to, .. } => vec![from, to],
            FaultKind::Crash { nodes, .. }
            | FaultKind::Pause { nodes }
            | FaultKind::Slow { nodes, .. }
            | FaultKind::SlowFlush { nodes, .. }
            | FaultKind::FailFlush { nodes, .. }
            | FaultKind::ClockStep { nodes, .. }
            | FaultKind::ClockDrift { nodes, .. } => vec![nodes],
            FaultKind::CorruptRead { .. } => vec![],
        }
    }
}

/// When a fault begins.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// At this time, in nanoseconds.
    At(u64),
    /// Right after the given number of events: how a recorded plan states the moment that a `Moment`
    /// found, so that it replays without the aim.
    AfterEvent(u64),
    /// The first moment from `from_ns` on at which the named observation has been made `count` times
    /// since then.
    Moment {
        /// Earliest time, in nanoseconds.
        from_ns: u64,
        /// The observation's name as the trace prints it: `voted`, `decided`, `log.became-leader`, or a
        /// mark's name. Three more are the world's own: `booted`; `flush.asked`, when bytes were written and may
        /// still be lost; `flush.completed`, when they are durable and the process has not been told yet.
        observation: String,
        /// Only what this machine observes counts. `None`: every machine's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<NodeId>,
        /// How many times.
        count: u32,
        /// Strikes at this time, in nanoseconds, if the moment has not come by then (a protocol that never
        /// makes the observation is struck all the same). `None`: then never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        latest_ns: Option<u64>,
    },
}

/// A fault with its time.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// When it begins.
    pub when: When,
    /// How long it lasts, in nanoseconds; `None` lasts to the end of the safety phase, and is healed then
    /// unless `permanent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ns: Option<u64>,
    /// Whether the settle phase leaves it as it is.
    #[serde(default)]
    pub permanent: bool,
    /// What happens.
    #[serde(flatten)]
    pub kind: FaultKind,
}
