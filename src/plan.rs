//! Everything random, made explicit: what happens in a run, before it happens.
//!
//! A plan follows from (scenario, seed) and is what a run executes, a replay reads and shrinking edits. Each
//! concern draws from its own random stream, so that removing one fault leaves everything else unchanged.

use serde::{Deserialize, Serialize};

use crate::client::Start;
use crate::process::NodeId;
use crate::random::{GENERATOR, Stream};
use crate::scenario::{FaultSpec, Scenario, WhenSpec};
use crate::txn::Txn;
use crate::workload;

/// Version of the plan's format and of the meaning of what it holds: a plan of another version is refused.
pub const PLAN_VERSION: u32 = 1;

/// Everything that a run depends on, besides the scenario's layout and the protocol's options.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// [`GENERATOR`].
    pub generator: String,
    /// The scenario's name.
    pub scenario: String,
    /// The seed that the plan was drawn with, and that fates follow from unless they are given as a record
    /// ([`crate::fates::Fates`]).
    pub seed: u64,
    /// Machines and links.
    pub environment: Environment,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What clients do.
    pub operations: Vec<PlannedOperation>,
}

impl Plan {
    /// Draws the plan of a seed.
    pub fn draw(scenario: &Scenario, seed: u64) -> Plan {
        Plan {
            version: PLAN_VERSION,
            generator: GENERATOR.to_owned(),
            scenario: scenario.name.clone(),
            seed,
            environment: environment(scenario, seed),
            faults: scenario
                .faults
                .iter()
                .enumerate()
                .flat_map(|(at, spec)| faults(spec, seed, at))
                .collect(),
            operations: workload::draw(scenario, seed),
        }
    }
}

fn environment(scenario: &Scenario, seed: u64) -> Environment {
    let machine = |(node, place): (usize, &crate::scenario::Place)| {
        let mut clock = Stream::new(seed, &("clock", node));
        let skew_ns = scenario.clocks.skew_ns;
        let drawn_ns = clock.between(0, 2 * skew_ns) as i64 - skew_ns as i64;
        let drift = scenario.clocks.drift_ppm;
        Machine {
            name: place.name.clone(),
            client: scenario
                .layout
                .regions
                .iter()
                .any(|region| usize::from(region.client.0) == node),
            region: place.region,
            zone: place.zone,
            clock_offset_ns: scenario.clocks.region_offset_ns[usize::from(place.region)]
                .unwrap_or(drawn_ns),
            clock_drift_ppm: clock.between(0, 2 * u64::from(drift)) as i32 - drift as i32,
            handle_ns: scenario.handle_ns,
            operation_ns: scenario.operation_ns,
            flush: scenario.flush,
        }
    };
    Environment {
        machines: scenario.places.iter().enumerate().map(machine).collect(),
        links: scenario.links.clone(),
        link_classes: scenario.link_classes.clone(),
        supervisor_ns: scenario.supervisor_ns,
        safety_ns: scenario.safety_ns,
        settle_ns: scenario.settle_ns,
        power_cycle_ns: scenario.power_cycle_ns,
    }
}

/// Draws what a scenario leaves open about a fault. Each entry has a stream of its own; its parts begin
/// and end together.
pub(crate) fn faults(spec: &FaultSpec, seed: u64, position: usize) -> Vec<Fault> {
    let mut stream = Stream::new(seed, &("fault", position));
    let when = match &spec.when {
        WhenSpec::At { low_ns, high_ns } => When::At(stream.between(*low_ns, *high_ns)),
        WhenSpec::Moment {
            from_ns,
            observation,
            by,
            count,
            latest_ns,
        } => When::Moment {
            from_ns: *from_ns,
            observation: observation.clone(),
            by: *by,
            count: *count,
            latest_ns: *latest_ns,
        },
    };
    let for_ns = spec.for_ns.map(|(low, high)| stream.between(low, high));
    let mut draw = |kind: &FaultKind| {
        let mut kind = kind.clone();
        match &mut kind {
            FaultKind::Crash {
                loss: CrashLoss::Torn(cut),
                ..
            } => *cut = stream.word() as u16,
            FaultKind::CorruptRead { position, .. } => *position = stream.word() as u32,
            _ => {}
        }
        Fault {
            when: when.clone(),
            for_ns,
            permanent: spec.permanent,
            kind,
        }
    };
    spec.kinds.iter().map(&mut draw).collect()
}

/// One client operation of a plan.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PlannedOperation {
    /// Position of the region from whose client machine it is made.
    pub region: u16,
    /// The session, unique over all regions.
    pub session: u32,
    /// When it starts.
    pub start: Start,
    /// What it does.
    pub txn: Txn,
}

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

/// A machine as the world runs it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Its name in traces: `eu/front0`, `eu/equities1`, `eu/clients`.
    pub name: String,
    /// Whether it hosts client sessions. They keep nothing on disk and would start over, so the power cycle
    /// at the end of a run switches client machines off for good.
    #[serde(default)]
    pub client: bool,
    /// Position of its region.
    pub region: u16,
    /// Position of its zone within the region.
    pub zone: u16,
    /// Its wall clock's offset from true time at the start, in nanoseconds.
    pub clock_offset_ns: i64,
    /// Its wall clock's drift in parts per million: positive runs fast.
    pub clock_drift_ppm: i32,
    /// CPU time to handle one input, in nanoseconds. Inputs queue.
    pub handle_ns: u64,
    /// CPU time for one operation that a process charges with `Effects::work`, in nanoseconds.
    pub operation_ns: u64,
    /// Time of one flush. Flushes of one machine queue.
    pub flush: Latency,
}

/// The world without its faults.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Environment {
    /// The machines, by [`NodeId`].
    pub machines: Vec<Machine>,
    /// The links within a zone, between zones of a region, and between regions: `links[from][to]`
    /// positions into `link_classes`, by machine.
    pub links: Vec<Vec<u16>>,
    /// The distinct kinds of link.
    pub link_classes: Vec<Link>,
    /// How long after a process halts itself its machine comes back, in nanoseconds.
    pub supervisor_ns: u64,
    /// Length of the safety phase, in which faults strike, in nanoseconds.
    pub safety_ns: u64,
    /// Bound of the settle phase, by whose end every initiated transaction must have ended, in nanoseconds.
    /// The run ends as soon as everything has.
    pub settle_ns: u64,
    /// After settling, cut the power of every machine and let them recover for this long before the autopsy
    /// reads their state, in nanoseconds. 0: read the state as it stands.
    pub power_cycle_ns: u64,
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
    /// Links from `from` to `to`, both ways, behave worse than usual.
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
        /// mark's name. Three more are the world's own: `booted`; `flush.asked`, when bytes have been written
        /// and nothing of them need survive; `flush.completed`, when they will survive and the process has
        /// not heard of it yet.
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
