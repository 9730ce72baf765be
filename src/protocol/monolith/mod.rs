//! The monolith: one machine holds every table, with a local log and strict two-phase locking.
//!
//! It is the system that a bank has before it distributes anything: one database in one data centre, and clients
//! everywhere. Nothing has to agree with anything, so that a transaction costs one round trip and one forced write. In
//! exchange everybody waits for the distance to that machine, and everybody waits while it is down.
//!
//! Sources: Gray, "Notes on Data Base Operating Systems", 1978, sections 5.7 and 5.8 (locks and the log of one node);
//! DeWitt et al., "Implementation Techniques for Main Memory Database Systems", SIGMOD 1984 (group commit).
//!
//! ```text
//!   client -- request --> database        locks, reads and evaluates
//!                         database        forces one record: the commit point
//!   client <-- reply ---- database        then releases the locks
//! ```
//!
//! The one machine is the first data machine of the region that the option `region` names. All other machines stand idle.

mod database;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::kit::client::{ClientMessage, ClientTimer, Patience};
use super::kit::node::{self, carries_client};
use super::kit::{execution, journal};
use super::{Atomicity, Deployment, Isolation, Progress, Promise, Promises, Protocol};
use crate::base::observation::Mark;
use crate::base::options::{Millis, Name, Number, declare};
use crate::base::process::{Addr, Effects, NodeId, Wire};
use crate::base::txn::{ShardId, TableId};
use crate::plan::PlannedOperation;
use crate::scenario::layout::{EngineKind, Layout, Shard};

pub use database::Database;

declare! {
    /// Options, `[protocol.monolith]` in a scenario. All times in milliseconds.
    pub struct Options {
        /// The region whose first data machine holds every table; empty: the first region.
        region: Name = Name::default(),
        /// Longest pause of a transaction whose lock an older one took, before it starts again with its old timestamp;
        /// 0: none.
        restart_pause_ms: Millis<0> = Millis::new(10),
        /// How often an older transaction may take its locks before its client learns of it; 0: any number of times.
        restarts: Number<0, 1_000_000> = Number::new(0),
        /// The log is shortened by a checkpoint above this size, in KiB.
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
            restart_pause_ms: self.restart_pause_ms,
            restarts: self.restarts,
            // What a process says to itself is neither lost nor late.
            ..execution::Options::default()
        }
    }
}

/// The only engine: what a monolith runs on is one relational database, whatever the tables' engines are elsewhere.
const ENGINE: EngineKind = EngineKind::Postgres;

/// What the process knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Site {
    /// Where rows live for everybody else: what an autopsy speaks of.
    layout: Layout,
    /// The same as execution sees it: one shard, on this machine.
    whole: Layout,
    /// The region of the machine.
    region: usize,
    options: Options,
    execution: execution::Options,
}

impl Site {
    /// # Errors
    ///
    /// When no region has the name that the options state.
    fn new(layout: &Layout, options: &Options) -> Result<Self, String> {
        let region = region(layout, options)?;
        let mut whole = layout.clone();
        for table in &mut whole.tables {
            table.shards = vec![ShardId(0)];
        }
        whole.shards = vec![Shard {
            table: TableId(0),
            engine: ENGINE,
            home: region,
        }];
        Ok(Self {
            layout: layout.clone(),
            whole,
            region,
            options: options.clone(),
            execution: options.execution(),
        })
    }

    fn machine(&self) -> Addr {
        execution::participant(&self.whole, ShardId(0))
    }
}

/// The position of the region that the options name.
fn region(layout: &Layout, options: &Options) -> Result<usize, String> {
    let Some(name) = options.region.get() else {
        return Ok(0);
    };
    let names: Vec<&str> = { layout.regions.iter() }
        .map(|region| region.name.as_str())
        .collect();
    { names.iter() }
        .position(|region| *region == name)
        .ok_or_else(|| {
            let names = names.join("`, `");
            format!("`region`: no region is called `{name}`: write one of `{names}`")
        })
}

/// What travels: nothing but what clients send and get, for execution speaks to itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// From or to a client.
    Client(ClientMessage),
    /// Between initiator and participant, who are the same.
    Execution(execution::Message),
}

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Client(message) => message.label(),
            Message::Execution(message) => message.label(),
        }
    }
}

/// The timers of all processes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// A client's.
    Client(ClientTimer),
    /// An execution's.
    Execution(execution::Timer),
}

carries_client!(Message, Timer);

type Out = Effects<Message, Timer>;

/// A process: the database, or client sessions.
pub type Node = node::Node<Database>;

/// The protocol.
#[derive(Clone, Copy, Debug)]
pub struct Monolith;

impl Protocol for Monolith {
    type Process = Node;
    type Options = Options;

    const MARKS: &'static [&'static [Mark]] = &[
        &[
            (
                "monolith.reply-repeated",
                "a repeated request was answered from memory",
            ),
            (
                "monolith.not-durable",
                "the flush of a commit record failed, and the transaction was aborted",
            ),
        ],
        // What goes wrong between machines does not happen on one.
        &[(
            "execution.wounded",
            "an older transaction took a lock (wound-wait)",
        )],
        journal::MARKS,
    ];
    const NAME: &'static str = "monolith";
    const TITLE: &'static str =
        "One machine with every table: a local log and strict two-phase locking (Gray 1978)";
    const ENTRY: &'static str = "the database";

    fn promises(_: &Options) -> Promises {
        Promises::of([
            Promise::Isolation(Isolation::StrictSerializable),
            Promise::Atomicity(Atomicity::AllOrNothing),
            Promise::Durability,
            Promise::Progress(Progress::AllBack),
        ])
    }

    /// The client talks to the one machine.
    fn needs(
        layout: &Layout,
        options: &Options,
        operation: &PlannedOperation,
    ) -> Vec<(NodeId, NodeId)> {
        let client = layout.regions[usize::from(operation.region)].client;
        let site = Site::new(layout, options);
        site.iter()
            .map(|site| (client, site.machine().node))
            .collect()
    }

    fn carried(layout: &Layout, options: &Options) -> Result<(), String> {
        region(layout, options).map(drop)
    }

    fn deploy(
        layout: &Layout,
        options: &Options,
        operations: &[PlannedOperation],
    ) -> Result<Deployment<Node>, String> {
        let site = Arc::new(Site::new(layout, options)?);
        let machine = site.machine();
        let patience = Patience::new(Some(options.client_resend_ms), options.client_give_up_ms);
        Ok(Deployment::on(layout)
            .coordinators([machine], |_| Database::new(Arc::clone(&site)))
            .clients(operations, patience, |_| vec![machine]))
    }
}
