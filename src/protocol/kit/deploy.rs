//! Which process runs on which machine, and where a transaction enters.
//!
//! [`Deployment::on`] begins a deployment. A machine may hold several processes; messages name them by *port*, their position
//! on the machine in the order in which they were placed.
//!
//! ```
//! use ordain::base::process::NodeId;
//! use ordain::model::worlds::{CLIENT, DATA, FRONT, layout, transfer};
//! use ordain::protocol::Deployment;
//! use ordain::protocol::kit::client::Patience;
//! use ordain::protocol::kit::deploy::own_front;
//! use ordain::protocol::kit::node::Node;
//!
//! // One region: a front machine, two data machines with a shard each, and a client machine.
//! let layout = layout();
//! let patience = Patience { resend_ns: None, give_up_ns: None };
//! // Servers are numbers here; a protocol has processes.
//! let deployment = Deployment::<Node<u16, &str>>::on(&layout)
//!     .fronts(|_, _| "coordinator")
//!     .homes(|shard| shard.0)
//!     .clients(&[transfer(0)], patience, |operation| vec![own_front(&layout, operation)]);
//! let on = |node: NodeId| &deployment.processes[usize::from(node.0)][..];
//! assert_eq!(on(FRONT), [Node::Coordinator(Box::new("coordinator"))]);
//! assert_eq!(on(DATA[1]), [Node::Shard(Box::new(1))]);
//! assert!(matches!(on(CLIENT), [Node::Client(_)]));
//! ```

use crate::base::process::{Addr, NodeId};
use crate::base::txn::{Key, ShardId, TableId, Target, Txn};
use crate::plan::PlannedOperation;
use crate::protocol::Deployment;
use crate::protocol::kit::client::{Client, Operation, Patience};
use crate::protocol::kit::node::Node;
use crate::scenario::layout::Layout;

/// A row that the transaction touches whatever the values of its pointers: that of its first effect (or the
/// pointer to it), of its first guard or of its first read. The first row of the first table, where a
/// transaction touches nothing.
pub fn home_key(txn: &Txn) -> Key {
    let mut targets = { txn.effects.iter() }.map(|effect| &effect.target);
    let first = match targets.next().or(txn.reads.first()) {
        Some(Target::Key(key)) | Some(Target::Choice { on: key, .. }) => Some(*key),
        None => txn
            .guards
            .first()
            .and_then(|guard| guard.keys().first())
            .copied(),
    };
    first.unwrap_or(Key {
        table: TableId(0),
        row: 0,
    })
}

/// A front machine of the operation's own region, the same one for all of a session: a repeated request finds who knows
/// it.
pub fn own_front(layout: &Layout, operation: &PlannedOperation) -> Addr {
    let fronts = &layout.regions[usize::from(operation.region)].fronts;
    Addr::on(fronts[operation.session as usize % fronts.len()])
}

/// Every front machine for clients that go on asking until somebody answers: those of the operation's own region, from
/// [`own_front`] on, then those of the other regions.
pub fn fronts_in_turn(layout: &Layout, operation: &PlannedOperation) -> Vec<Addr> {
    let near = &layout.regions[usize::from(operation.region)].fronts;
    let (before, from) = near.split_at(operation.session as usize % near.len());
    let far = layout.fronts().filter(|node| !near.contains(node));
    let near = from.iter().chain(before).copied();
    near.chain(far).map(Addr::on).collect()
}

/// A deployment before its clients are placed.
pub struct Servers<'a, S, C> {
    layout: &'a Layout,
    processes: Vec<Vec<Node<S, C>>>,
}

impl<S: Clone, C: Clone> Deployment<Node<S, C>> {
    /// Machines without a process.
    pub fn on(layout: &Layout) -> Servers<'_, S, C> {
        Servers {
            layout,
            processes: vec![Vec::new(); usize::from(layout.nodes)],
        }
    }
}

impl<S, C> Servers<'_, S, C> {
    fn place(&mut self, node: NodeId, process: Node<S, C>) {
        self.processes[usize::from(node.0)].push(process);
    }

    /// A coordinator on every front machine; given are the position of its region, and the machine.
    #[must_use]
    pub fn fronts(mut self, coordinator: impl Fn(usize, NodeId) -> C) -> Self {
        for (region, machines) in self.layout.regions.iter().enumerate() {
            for node in &machines.fronts {
                let process = Node::Coordinator(Box::new(coordinator(region, *node)));
                self.place(*node, process);
            }
        }
        self
    }

    /// Coordinators at these addresses.
    ///
    /// # Panics
    ///
    /// When an address is not the next free port of its machine.
    #[must_use]
    pub fn coordinators(
        mut self,
        at: impl IntoIterator<Item = Addr>,
        coordinator: impl Fn(Addr) -> C,
    ) -> Self {
        for addr in at {
            let next = self.processes[usize::from(addr.node.0)].len();
            assert_eq!(next, usize::from(addr.port), "the next free port of {addr}");
            self.place(addr.node, Node::Coordinator(Box::new(coordinator(addr))));
        }
        self
    }

    /// The only copy of every shard, in its home region.
    #[must_use]
    pub fn homes(mut self, shard: impl Fn(ShardId) -> S) -> Self {
        for id in self.layout.shard_ids() {
            self.place(self.layout.home(id), Node::Shard(Box::new(shard(id))));
        }
        self
    }

    /// A copy of every shard in every region; given are the region's position, and the shard.
    #[must_use]
    pub fn copies(mut self, copy: impl Fn(usize, ShardId) -> S) -> Self {
        for (region, machines) in self.layout.regions.iter().enumerate() {
            for (id, node) in self.layout.shard_ids().zip(&machines.data) {
                self.place(*node, Node::Shard(Box::new(copy(region, id))));
            }
        }
        self
    }

    /// Client sessions on each region's client machine. `entries` are whom to ask for an operation, in order of preference.
    pub fn clients(
        mut self,
        operations: &[PlannedOperation],
        patience: Patience,
        entries: impl Fn(&PlannedOperation) -> Vec<Addr>,
    ) -> Deployment<Node<S, C>> {
        for (at, region) in self.layout.regions.iter().enumerate() {
            let here = |planned: &&PlannedOperation| usize::from(planned.region) == at;
            let operation = |planned: &PlannedOperation| Operation {
                session: planned.session,
                start: planned.start,
                txn: planned.txn.clone().into(),
                entries: entries(planned),
            };
            let operations = operations.iter().filter(here).map(operation);
            let client = Client::new(operations.collect(), patience);
            self.place(region.client, Node::Client(client));
        }
        Deployment {
            processes: self.processes,
        }
    }
}
