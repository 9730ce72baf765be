//! The protocol code in small worlds, as `ordain model` lists and checks it: one transaction over two shards (two
//! transactions where sagas meet). Each shard has a machine, and so have the coordinator or sequencer and the client. There
//! are also worlds of two replicas of a log.
//!
//! Every schedule is explored and judged from outside: what processes observe and what the shards' ledgers hold, safety
//! and fair leads-to. Where the protocol has an abstraction, every schedule is explored once more, and every edge held
//! against the protocol's spec ([`crate::model::refine`]).
//!
//! Timers that drive a counter fire a limited number of times, or the graph would be infinite. Where that many are not
//! enough to make up for a fault, only safety is asked.

pub mod calvin;
pub mod paxos_commit;
pub mod replicas;
pub mod saga;
mod spanner;
pub mod stack;
pub mod three_phase;
pub mod two_phase;
pub mod world;
mod xa;

use std::net::SocketAddr;
use std::time::Instant;

use crate::base::process::NodeId;
use crate::base::txn::{Effect, Guard, Key, Op, ShardId, TableId, Target, Txn, TxnId, Value};
use crate::model::refine::Tally;
use crate::model::spec::{CheckError, Outcome};
use crate::plan::{PlannedOperation, Start};
use crate::protocol::Protocol;
use crate::scenario::layout::{EngineKind, Layout, Region, Shard, Table};

use world::Budget;

/// The coordinator's machine.
pub const FRONT: NodeId = NodeId(0);
/// The machines of the two shards.
pub const DATA: [NodeId; 2] = [NodeId(1), NodeId(2)];
/// The client's machine, which faults do not reach.
pub const CLIENT: NodeId = NodeId(3);
/// The transaction.
pub const TXN: TxnId = TxnId(1);

/// Two tables of one row, each a shard of its own.
pub fn layout() -> Layout {
    let table = |at: u16| Table {
        name: format!("t{at}"),
        engine: EngineKind::Postgres,
        shards: vec![ShardId(at)],
        rows: 1,
        initial: Value::Int(10),
    };
    let shard = |at: u8| Shard {
        table: TableId(at),
        engine: EngineKind::Postgres,
        home: 0,
    };
    Layout {
        regions: vec![Region {
            name: "here".into(),
            cloud: "a".into(),
            fronts: vec![FRONT],
            data: DATA.to_vec(),
            client: CLIENT,
        }],
        tables: vec![table(0), table(1)],
        shards: vec![shard(0), shard(1)],
        nodes: 4,
        clock_bound_ns: None,
    }
}

/// Moves 5 from the first shard to the second, if the second holds at least this much of its 10.
pub fn transfer(at_least: i64) -> PlannedOperation {
    guarded(at_least, &[(0, -5), (1, 5)])
}

/// Another client's: moves 5 from the second shard to the first.
pub fn transfer_back() -> PlannedOperation {
    of_another(guarded(0, &[(1, -5), (0, 5)]))
}

/// Another client's: reads both shards.
pub fn onlooker() -> PlannedOperation {
    let mut operation = guarded(0, &[]);
    operation.txn.guards.clear();
    operation.txn.reads = [0, 1].map(|table| Target::Key(row_of(table))).to_vec();
    of_another(operation)
}

fn of_another(mut operation: PlannedOperation) -> PlannedOperation {
    operation.txn.id = TxnId(TXN.0 + 1);
    operation.session = 1;
    operation
}

/// Takes 5 from the first shard if the second, which is only read, holds at least 5 of its 10.
pub fn withdrawal() -> PlannedOperation {
    guarded(5, &[(0, -5)])
}

fn row_of(table: u8) -> Key {
    Key {
        table: TableId(table),
        row: 0,
    }
}

/// Adds these amounts to the rows of these shards, if the second holds at least this much.
fn guarded(at_least: i64, amounts: &[(u8, i64)]) -> PlannedOperation {
    let effect = |&(table, amount): &(u8, i64)| Effect {
        target: Target::Key(row_of(table)),
        op: Op::Add(amount),
    };
    let guard = Guard::SumAtLeast {
        keys: vec![row_of(1)],
        at_least,
    };
    let txn = Txn {
        id: TXN,
        reads: vec![],
        guards: vec![guard],
        effects: amounts.iter().map(effect).collect(),
        pivot: None,
    };
    PlannedOperation {
        region: 0,
        session: 0,
        start: Start::At(0),
        txn,
    }
}

/// No faults.
pub const NONE: Budget = Budget {
    crashes: 0,
    losses: 0,
    duplicates: 0,
    early_timeouts: 0,
    cuts: 0,
    failed_flushes: 0,
    torn_writes: 0,
};

/// One crash.
pub const CRASH: Budget = Budget { crashes: 1, ..NONE };
/// One lost message.
pub const LOSS: Budget = Budget { losses: 1, ..NONE };
/// One message that arrives twice.
pub const DUPLICATE: Budget = Budget {
    duplicates: 1,
    ..NONE
};
/// One timer that fires too early.
pub const LATE: Budget = Budget {
    early_timeouts: 1,
    ..NONE
};
/// One cut between two machines.
pub const CUT: Budget = Budget { cuts: 1, ..NONE };
/// One fault of each kind, alone.
pub const SINGLE_FAULTS: [Budget; 6] = [CRASH, LOSS, DUPLICATE, LATE, CUT, BAD_DISK];
/// One flush that fails.
pub const BAD_DISK: Budget = Budget {
    failed_flushes: 1,
    ..NONE
};

/// One crash, which may tear what was not flushed.
pub const TORN: Budget = Budget {
    crashes: 1,
    torn_writes: 1,
    ..NONE
};

/// The result of checking a world.
pub struct Examined {
    /// Sizes and verdicts, those of the refinement last.
    pub outcome: Outcome,
    /// The edges against the spec, where the protocol has an abstraction.
    pub edges: Option<Tally>,
}

/// What differs from world to world, whatever code runs in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// What may go wrong, and how often.
    pub budget: Budget,
    /// The machines that faults reach.
    pub exposed: &'static [NodeId],
    /// Machines that crash come back.
    pub restarts: bool,
    /// Liveness is asked too.
    pub lively: bool,
}

/// The code that runs in a small world, whatever its types.
pub trait Code: Send + Sync {
    /// Explores the world and decides its properties.
    ///
    /// # Errors
    ///
    /// See [`CheckError`].
    fn check(&self, setting: &Setting, limit: u32) -> Result<Examined, CheckError>;

    /// Serves stateright's Explorer until the process ends.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn serve(&self, setting: &Setting, address: SocketAddr) -> Result<(), &'static str>;
}

/// A small world of the protocol code.
pub struct SmallWorld {
    /// Its name, without the folder.
    pub name: String,
    /// One sentence on what it shows.
    pub about: &'static str,
    /// Faults and what is asked.
    pub setting: Setting,
    /// The properties that must not hold.
    fails: &'static [&'static str],
    code: Box<dyn Code>,
}

/// All machines but the client's.
pub const ALL: &[NodeId] = &[FRONT, DATA[0], DATA[1]];

impl SmallWorld {
    /// A world in which faults reach all machines, those that crash come back, and liveness is asked.
    pub fn new(
        name: impl Into<String>,
        code: impl Code + 'static,
        budget: Budget,
        about: &'static str,
    ) -> Self {
        Self {
            name: name.into(),
            about,
            setting: Setting {
                budget,
                exposed: ALL,
                restarts: true,
                lively: true,
            },
            fails: &[],
            code: Box::new(code),
        }
    }

    /// Faults reach these machines alone.
    #[must_use]
    pub fn exposing(mut self, nodes: &'static [NodeId]) -> Self {
        self.setting.exposed = nodes;
        self
    }

    /// Machines that crash stay down.
    #[must_use]
    pub fn without_restarts(mut self) -> Self {
        self.setting.restarts = false;
        self
    }

    /// Liveness is not asked: the limits on timers would break it.
    #[must_use]
    pub fn safety_only(mut self) -> Self {
        self.setting.lively = false;
        self
    }

    /// These properties must not hold.
    #[must_use]
    pub fn failing(mut self, properties: &'static [&'static str]) -> Self {
        self.fails = properties;
        self
    }

    /// Whether a property is expected to hold.
    pub fn expects(&self, property: &str) -> bool {
        !self.fails.contains(&property)
    }

    /// Explores the world and decides its properties.
    ///
    /// # Errors
    ///
    /// See [`CheckError`].
    pub fn check(&self, limit: u32) -> Result<Examined, CheckError> {
        let started = Instant::now();
        let mut examined = self.code.check(&self.setting, limit)?;
        examined.outcome.elapsed = started.elapsed();
        Ok(examined)
    }

    /// Serves stateright's Explorer until the process ends.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn serve(&self, address: SocketAddr) -> Result<(), &'static str> {
        self.code.serve(&self.setting, address)
    }
}

/// A protocol that brings small worlds of its code.
pub trait InSmallWorlds: Protocol {
    /// The worlds, in the order in which `ordain model` lists them.
    fn worlds() -> Vec<SmallWorld>;
}
