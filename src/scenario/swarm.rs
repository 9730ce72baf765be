//! Swarm plans' vocabulary: the classes of fault, and how far a scenario lets them go.
//!
//! Drawing from them is the business of [`crate::campaign::swarm`].

use std::sync::{Arc, OnceLock};

use super::Scenario;
use crate::base::options::{Chosen, Described};

/// Shortest time that swarm plans give machines to recover from the final power cut, in nanoseconds: eight election timeouts
/// of the default log.
pub const RECOVERY_NS: u64 = 10_000_000_000;

/// A class of fault, on or off as a whole in a run (Groce, Zhang, Eide, Chen and Regehr, "Swarm Testing", ISSTA
/// 2012). Its name is what `[swarm] classes` and `without` say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    // Partitions.
    /// `halves`: two sides of about the same size.
    Halves,
    /// `minority`: fewer than half of the machines are cut off together.
    Minority,
    /// `ring`: everybody sees only neighbours on a circle.
    Ring,
    /// `bridge`: two sides that share one machine, zone or region, and nothing else.
    Bridge,
    /// `one-way`: messages pass in one direction.
    OneWay,
    /// `flapping`: links that come and go.
    Flapping,
    /// `clients`: clients of some regions reach nobody.
    Clients,
    /// `isolated-leader`: whoever wins an election is cut off then, or a front at some time, from all or from its
    /// peers alone.
    IsolatedLeader,
    /// `isolated-coordinator`: a region's fronts are cut off as soon as participants have voted.
    IsolatedCoordinator,
    // Places.
    /// `zone`: a zone loses power, or its connections.
    Zone,
    /// `region`: a region does.
    Region,
    /// `cloud`: a cloud does.
    Cloud,
    // Machines.
    /// `crash`: one machine.
    Crash,
    /// `crash-storm`: many, in a short time.
    CrashStorm,
    /// `rolling-restart`: one after the other.
    RollingRestart,
    /// `pause`: a machine stands still.
    Pause,
    /// `slow`: a machine computes and flushes slowly.
    Slow,
    // Disks.
    /// `slow-flush`.
    SlowFlush,
    /// `fail-flush`: flushes fail with some probability.
    FailFlush,
    /// `corrupt-read`: a machine restarts and reads a flipped bit; never more machines than a quorum can spare.
    CorruptRead,
    // Clocks.
    /// `clock-step`.
    ClockStep,
    /// `clock-drift`.
    ClockDrift,
    /// `clock-liar`: a clock leaves `machines.clock-bound`. Only where a scenario names it, or sets `clock-lies`.
    ClockLiar,
    // Links.
    /// `loss`.
    Loss,
    /// `duplicate`.
    Duplicate,
    /// `reorder`.
    Reorder,
    /// `delay`.
    Delay,
    /// `bandwidth`.
    Bandwidth,
    /// `old-messages`: what was sent before a machine's restart arrives after it.
    OldMessages,
    // Aims.
    /// `after-votes`: a coordinator or a participant crashes between votes and decision.
    AfterVotes,
    /// `at-decision`: a machine crashes, or is cut off, when it has decided.
    AtDecision,
    /// `at-election`: a replica crashes when it wins, truncates, commits or compacts.
    AtElection,
    /// `before-send`: a machine crashes when a flush has completed and nothing of it was sent.
    BeforeSend,
    /// `torn-flush`: a machine crashes with a flush under way, and a part of it stays.
    TornFlush,
    /// `in-recovery`: a machine crashes again while it recovers, or a second one does.
    InRecovery,
}

impl Class {
    /// Every class, in order.
    pub const ALL: [Class; 35] = [
        Class::Halves,
        Class::Minority,
        Class::Ring,
        Class::Bridge,
        Class::OneWay,
        Class::Flapping,
        Class::Clients,
        Class::IsolatedLeader,
        Class::IsolatedCoordinator,
        Class::Zone,
        Class::Region,
        Class::Cloud,
        Class::Crash,
        Class::CrashStorm,
        Class::RollingRestart,
        Class::Pause,
        Class::Slow,
        Class::SlowFlush,
        Class::FailFlush,
        Class::CorruptRead,
        Class::ClockStep,
        Class::ClockDrift,
        Class::ClockLiar,
        Class::Loss,
        Class::Duplicate,
        Class::Reorder,
        Class::Delay,
        Class::Bandwidth,
        Class::OldMessages,
        Class::AfterVotes,
        Class::AtDecision,
        Class::AtElection,
        Class::BeforeSend,
        Class::TornFlush,
        Class::InRecovery,
    ];

    /// Its name in scenarios, which also names its random stream.
    pub fn name(self) -> &'static str {
        match self {
            Class::Halves => "halves",
            Class::Minority => "minority",
            Class::Ring => "ring",
            Class::Bridge => "bridge",
            Class::OneWay => "one-way",
            Class::Flapping => "flapping",
            Class::Clients => "clients",
            Class::IsolatedLeader => "isolated-leader",
            Class::IsolatedCoordinator => "isolated-coordinator",
            Class::Zone => "zone",
            Class::Region => "region",
            Class::Cloud => "cloud",
            Class::Crash => "crash",
            Class::CrashStorm => "crash-storm",
            Class::RollingRestart => "rolling-restart",
            Class::Pause => "pause",
            Class::Slow => "slow",
            Class::SlowFlush => "slow-flush",
            Class::FailFlush => "fail-flush",
            Class::CorruptRead => "corrupt-read",
            Class::ClockStep => "clock-step",
            Class::ClockDrift => "clock-drift",
            Class::ClockLiar => "clock-liar",
            Class::Loss => "loss",
            Class::Duplicate => "duplicate",
            Class::Reorder => "reorder",
            Class::Delay => "delay",
            Class::Bandwidth => "bandwidth",
            Class::OldMessages => "old-messages",
            Class::AfterVotes => "after-votes",
            Class::AtDecision => "at-decision",
            Class::AtElection => "at-election",
            Class::BeforeSend => "before-send",
            Class::TornFlush => "torn-flush",
            Class::InRecovery => "in-recovery",
        }
    }
}

/// How far swarm plans of a scenario may go; the meaning of each field is in [`super::file::Swarm`].
#[derive(Clone, PartialEq, Debug)]
pub struct Bounds {
    /// The classes that may strike, in order.
    pub classes: Vec<Class>,
    /// Probability that one of them takes part in a run.
    pub probability: f64,
    /// Most episodes of a class in a run.
    pub episodes: u32,
    /// Longest episode, nanoseconds.
    pub longest_ns: u64,
    /// Whether the scenario's own faults are classes too.
    pub own_faults: bool,
    /// Whether workload parameters are drawn.
    pub workload: bool,
    /// Most transactions, where the scenario says so.
    pub transactions: Option<u32>,
    /// Share of runs whose protocol options are drawn.
    pub options: f64,
    /// Share of runs in which something stays broken.
    pub permanent: f64,
}

/// The options that a protocol has, for drawing some.
#[derive(Clone, Debug)]
pub struct OptionSpace {
    /// What each of them is, and may be.
    pub described: Vec<Described>,
    /// Whether these go together, the others being as the scenario has them.
    pub fit: fn(&Scenario, &Chosen) -> bool,
    /// What [`crate::campaign::swarm`] draws from, once it has been worked out.
    pub rows: Arc<OnceLock<Vec<Chosen>>>,
}
