//! Everything random, made explicit: what happens in a run, before it happens.
//!
//! A plan follows from (scenario, seed). A run executes it, a replay reads it, and shrinking edits it. Each
//! concern draws from its own random stream, so that removing one fault leaves everything else unchanged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::options::Chosen;
use crate::base::txn::{Txn, TxnId};
use crate::fault::{CrashLoss, Fault, FaultKind, Latency, Link, When};
use crate::plan::random::{GENERATOR, Stream};
use crate::scenario::{FaultSpec, Scenario, WhenSpec};

pub mod clocks;
pub mod fates;
pub mod random;
pub mod workload;

/// Version of the plan's format and of the meaning of what it holds: a plan of another version is refused.
pub const PLAN_VERSION: u32 = 1;

/// Everything that a run depends on, besides the scenario's layout and the options that it states.
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
    /// ([`crate::plan::fates::Fates`]).
    pub seed: u64,
    /// Machines and links.
    pub environment: Environment,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What clients do.
    pub operations: Vec<PlannedOperation>,
    /// Options that were drawn, by protocol. The others are those of the scenario.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Chosen>,
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
            faults: (0..scenario.faults.len())
                .flat_map(|at| faults(&scenario.faults, seed, at))
                .collect(),
            operations: workload::draw(scenario, seed),
            options: BTreeMap::new(),
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
            operation_ns: place.operation_ns.unwrap_or(scenario.operation_ns),
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

/// Draws what a scenario leaves open about the fault at a position. Each entry has a stream of its own; its parts begin
/// and end together, each time that it comes.
pub(crate) fn faults(specs: &[FaultSpec], seed: u64, position: usize) -> Vec<Fault> {
    let spec = &specs[position];
    let mut stream = Stream::new(seed, &("fault", position));
    let times = 0..u64::from(spec.times);
    times
        .flat_map(|nth| once(specs, spec, seed, &mut stream, nth * spec.every_ns))
        .collect()
}

/// When the given part of a fault's drawn course ends, nanoseconds: parts that strike together end together.
fn end_of(specs: &[FaultSpec], seed: u64, position: usize, nth: u32) -> u64 {
    let parts = specs[position].kinds.len();
    let course = faults(specs, seed, position);
    match course.get(nth as usize * parts) {
        Some(Fault {
            when: When::At(at_ns),
            for_ns: Some(for_ns),
            ..
        }) => at_ns + for_ns,
        _ => unreachable!("scenarios are validated so that it begins at a time and ends"),
    }
}

/// One occurrence of a fault, so much later than the first.
fn once(
    specs: &[FaultSpec],
    spec: &FaultSpec,
    seed: u64,
    stream: &mut Stream,
    later_ns: u64,
) -> Vec<Fault> {
    let when = match &spec.when {
        WhenSpec::At { low_ns, high_ns } => When::At(stream.between(*low_ns, *high_ns) + later_ns),
        WhenSpec::EndOf {
            fault,
            nth,
            delay_ns: (low_ns, high_ns),
        } => {
            let end_ns = end_of(specs, seed, *fault, *nth);
            When::At(end_ns + stream.between(*low_ns, *high_ns) + later_ns)
        }
        WhenSpec::Moment {
            from_ns,
            observation,
            by,
            count,
            latest_ns,
            ..
        } => When::Moment {
            from_ns: *from_ns + later_ns,
            observation: observation.clone(),
            by: *by,
            count: *count,
            latest_ns: latest_ns.map(|latest_ns| latest_ns + later_ns),
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

/// When an operation starts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Open loop: this long after the start of the run, in nanoseconds, whatever else is under way.
    At(u64),
    /// Closed loop: this long, in nanoseconds, after the session's previous operation returned (after the
    /// start of the run, for the first).
    Think(u64),
    /// After the client's wait, when it has given up the attempt before; never if that was answered.
    Retry {
        /// The first attempt.
        of: TxnId,
        /// Which retry of it, from 1.
        nth: u32,
    },
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
    /// After settling, cut the power of every machine and let them recover for this long, at least, before the autopsy
    /// reads their state, in nanoseconds. 0: no power cut.
    pub power_cycle_ns: u64,
}

/// So many settle phases beyond the power cycle recovery may take until the autopsy no longer waits for it.
const RECOVERY_SETTLES: u64 = 10;

impl Environment {
    /// How long the autopsy waits for recovery, from the end of the settle phase, in nanoseconds.
    pub fn recovery_bound_ns(&self) -> u64 {
        let beyond_ns = self.settle_ns.saturating_mul(RECOVERY_SETTLES);
        self.power_cycle_ns.saturating_add(beyond_ns)
    }
}
