//! The simulated world: runs a deployment of processes under faults, deterministically, on madsim.
//!
//! This is the only place in the crate that knows madsim. [`simulate`] takes an environment, faults, fates
//! and a deployment, and returns everything that happened as a [`Record`].

mod clock;
mod disk;
mod faults;
mod guest;
mod heap;
mod hosts;
mod network;
mod panics;
mod pump;
pub mod trace;
mod world;

use std::collections::BTreeMap;

use serde::Serialize;

pub use guest::{Guest, GuestSocket};

use crate::base::digest::Digest;
use crate::base::monitor::{Monitor, Violation};
use crate::base::observation::{Observed, Panicked};
use crate::base::process::{Addr, NodeId, Process};
use crate::fault::{Fault, FaultKind};
use crate::plan::Environment;
use crate::plan::fates::{FateSource, Fates};
use crate::protocol::Deployment;
use crate::sim::trace::TraceEvent;

/// What a run is asked to keep, and when it must stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Keep every event as data. Costs time and memory.
    pub trace: bool,
    /// Keep every random choice, so that the run can be replayed and shrunk without drawing again.
    pub record_fates: bool,
    /// End the run at the first violation that a monitor reports.
    pub stop_on_violation: bool,
    /// End the run after this many events. Processes that exchange messages without end and without cost would
    /// otherwise keep time from passing.
    pub events_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            trace: false,
            record_fates: false,
            stop_on_violation: true,
            events_max: 1_000_000_000,
        }
    }
}

/// The inputs of a run.
pub struct Run<'a, P: Process> {
    /// Machines, links and phases.
    pub environment: &'a Environment,
    /// What goes wrong.
    pub faults: &'a [Fault],
    /// Where random choices come from.
    pub fates: FateSource,
    /// The processes.
    pub deployment: Deployment<P>,
    /// Async guests, on machines without processes.
    pub guests: Vec<Guest<P>>,
    /// Who watches; handed back in the record.
    pub monitors: Vec<Box<dyn Monitor<P>>>,
    /// What to keep.
    pub options: Options,
}

impl<'a, P: Process> Run<'a, P> {
    /// A run without faults, guests or monitors.
    pub fn new(environment: &'a Environment, deployment: Deployment<P>, seed: u64) -> Self {
        Self {
            environment,
            faults: &[],
            fates: FateSource::Seed(seed),
            deployment,
            guests: Vec::new(),
            monitors: Vec::new(),
            options: Options::default(),
        }
    }
}

/// How many messages of one label there were.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize)]
pub struct MessageCounts {
    /// Sent.
    pub sent: u64,
    /// Handled by their receiver, duplicates included.
    pub delivered: u64,
    /// Lost by the network, or met a machine that was down.
    pub dropped: u64,
    /// Made twice by the network.
    pub duplicated: u64,
}

/// When the phases of a run began and ended, in nanoseconds of true simulated time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize)]
pub struct Marks {
    /// The settle phase began.
    pub settle_began_ns: Option<u64>,
    /// The settle phase ended.
    pub settle_ended_ns: Option<u64>,
    /// A monitor said that everything had settled; otherwise the bound cut the settle phase.
    pub settled: bool,
    /// The power of all machines was cut.
    pub power_cycled_ns: Option<u64>,
    /// The run ended.
    pub ended_ns: u64,
}

/// A process that stopped its machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Halted {
    /// True simulated time, nanoseconds.
    pub at_ns: u64,
    /// The process.
    pub by: Addr,
    /// Why.
    pub why: &'static str,
}

/// Everything that a run left behind.
pub struct Record<P: Process> {
    /// The digest of every event, in order.
    pub digest: Digest,
    /// Number of events: inputs handled, messages dropped, machines and faults that came and went.
    pub events: u64,
    /// True simulated time at the end, in nanoseconds.
    pub simulated_ns: u64,
    /// What the processes stated, in order.
    pub observations: Vec<Observed>,
    /// Messages between machines, by label.
    pub messages: BTreeMap<&'static str, MessageCounts>,
    /// Messages within a machine, by label.
    pub local_messages: BTreeMap<&'static str, MessageCounts>,
    /// Flushes asked for.
    pub flushes: u64,
    /// Flushes asked for, by process.
    pub flushes_by: BTreeMap<Addr, u64>,
    /// The phases.
    pub marks: Marks,
    /// The processes of the machines that were up at the end.
    pub processes: Vec<(Addr, P)>,
    /// Panics inside processes.
    pub panics: Vec<Panicked>,
    /// Machines stopped by their own processes.
    pub halts: Vec<Halted>,
    /// What the monitors reported, in order.
    pub violations: Vec<Violation>,
    /// The monitors, in the order in which they were given.
    pub monitors: Vec<Box<dyn Monitor<P>>>,
    /// Every event, if asked for.
    pub trace: Option<Vec<TraceEvent>>,
    /// Every random choice, if asked for.
    pub fates: Option<Fates>,
    /// When each fault of the plan began and ended, in nanoseconds; nothing for those that never struck.
    pub struck: Vec<Option<(u64, Option<u64>)>>,
    /// The faults as they struck: every moment is replaced by the number of events after which it came,
    /// and faults whose moment never came are left out. Replays give the same digest.
    pub faults: Vec<Fault>,
}

/// Inputs of a run that contradict one another.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RunError {
    /// The link matrix does not fit.
    #[error(
        "the link matrix must name one of {classes} link classes for each pair of the {machines} machines"
    )]
    Links {
        /// Number of machines.
        machines: usize,
        /// Number of link classes.
        classes: usize,
    },
    /// More nodes than machines, or more processes on a node than ports.
    #[error("the deployment has {nodes} nodes, the environment {machines} machines")]
    Deployment {
        /// Nodes of the deployment.
        nodes: usize,
        /// Machines of the environment.
        machines: usize,
    },
    /// A machine has more processes than a port can name.
    #[error("{node} has {processes} processes; at most 256 fit")]
    Ports {
        /// The machine.
        node: NodeId,
        /// Its processes.
        processes: usize,
    },
    /// A guest's machine does not exist, has processes or another guest.
    #[error("the guest on {node} needs a machine of its own")]
    Guest {
        /// The machine.
        node: NodeId,
    },
    /// A fault names a machine that does not exist.
    #[error("fault {fault} strikes {node}, and there are {machines} machines")]
    UnknownMachine {
        /// Position in the plan.
        fault: usize,
        /// The machine.
        node: NodeId,
        /// Number of machines.
        machines: usize,
    },
    /// A flapping link that never rests in either state.
    #[error("fault {fault} flaps without end at one instant: give it a time down or up")]
    Flap {
        /// Position in the plan.
        fault: usize,
    },
}

/// Runs a deployment to the end. The outcome follows from the inputs alone, whatever else the machine does.
///
/// # Errors
///
/// When the inputs contradict one another.
///
/// # Panics
///
/// On bugs of the simulator. Panics of processes are caught and recorded.
pub fn simulate<P: Process>(run: Run<'_, P>) -> Result<Record<P>, RunError> {
    simulate_then(run, |record| record)
}

/// The same, and calls `then` with the record on the run's own thread. Memory is cheapest freed by the thread that
/// allocated it.
///
/// # Errors
///
/// As [`simulate`].
///
/// # Panics
///
/// As [`simulate`], and when `then` does.
pub fn simulate_then<P: Process, R: Send>(
    run: Run<'_, P>,
    then: impl FnOnce(Record<P>) -> R + Send,
) -> Result<R, RunError> {
    check(&run)?;
    // madsim seeds std's hash keys for each thread once, and thread-locals outlive a run: every run gets a
    // thread of its own.
    std::thread::scope(|scope| {
        let simulation = std::thread::Builder::new().name("simulation".to_owned());
        let running = simulation.spawn_scoped(scope, || then(pump::run(run)));
        let running = running.expect("the operating system has no thread to spare");
        match running.join() {
            Ok(made) => Ok(made),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Whether the inputs fit one another: what a run refuses before it begins.
///
/// # Errors
///
/// When they contradict one another.
pub fn check<P: Process>(run: &Run<'_, P>) -> Result<(), RunError> {
    let environment = run.environment;
    let (machines, classes) = (environment.machines.len(), environment.link_classes.len());
    let fits = |row: &Vec<u16>| {
        row.len() == machines && row.iter().all(|class| usize::from(*class) < classes)
    };
    if environment.links.len() != machines || !environment.links.iter().all(fits) {
        return Err(RunError::Links { machines, classes });
    }
    let processes = &run.deployment.processes;
    if processes.len() > machines {
        return Err(RunError::Deployment {
            nodes: processes.len(),
            machines,
        });
    }
    for (node, processes) in processes.iter().enumerate() {
        if processes.len() > 256 {
            return Err(RunError::Ports {
                node: NodeId(node as u16),
                processes: processes.len(),
            });
        }
    }
    let mut taken = Vec::new();
    for guest in &run.guests {
        let node = guest.node;
        let hosts = processes
            .get(usize::from(node.0))
            .is_some_and(|here| !here.is_empty());
        if usize::from(node.0) >= machines || hosts || taken.contains(&node) {
            return Err(RunError::Guest { node });
        }
        taken.push(node);
    }
    for (fault, planned) in run.faults.iter().enumerate() {
        check_fault(fault, &planned.kind, machines)?;
    }
    Ok(())
}

fn check_fault(fault: usize, kind: &FaultKind, machines: usize) -> Result<(), RunError> {
    if let FaultKind::Flap {
        down_ns: 0,
        up_ns: 0,
        ..
    } = kind
    {
        return Err(RunError::Flap { fault });
    }
    let unknown = kind
        .nodes()
        .into_iter()
        .find(|node| usize::from(node.0) >= machines);
    unknown.map_or(Ok(()), |node| {
        Err(RunError::UnknownMachine {
            fault,
            node,
            machines,
        })
    })
}
