//! The protocols: one file or folder each, written sans-io, and what each of them promises.

pub mod calvin;
#[cfg(test)]
mod interaction;
pub mod kit;
pub mod monolith;
pub mod naive;
pub mod paxos_commit;
pub mod percolator;
pub mod promises;
pub mod ramp;
pub mod saga;
pub mod spanner;
#[cfg(test)]
pub(crate) mod testing;
pub mod three_phase;
pub mod two_phase;
pub mod xa;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::observation::Mark;
use crate::base::options::{OptionType, Unfit};
use crate::base::process::{NodeId, Process};
use crate::plan::PlannedOperation;
use crate::scenario::clients::Behaviour;
use crate::scenario::layout::Layout;
use crate::shard::ShardState;
use crate::shard::recovery::Recovery;

pub use promises::{Atomicity, Isolation, Progress, Promise, Promises};

/// The processes of a protocol on the machines of a scenario: `processes[node][port]`, each in its
/// pristine state, which it returns to in every crash.
#[derive(Clone, Debug)]
pub struct Deployment<P> {
    /// By node, then port.
    pub processes: Vec<Vec<P>>,
}

/// A process whose state can be read from outside when a run is over.
pub trait Autopsy: Process {
    /// The copy of a shard that this process keeps, if it keeps one.
    fn autopsy(&self) -> Option<ShardState> {
        None
    }

    /// All copies of shards that this process keeps: one at most, unless a protocol says otherwise.
    fn copies(&self) -> Vec<ShardState> {
        self.autopsy().into_iter().collect()
    }

    /// How far this process has recovered, by its own word. State is judged only where recovery has ended. By default it
    /// always has: a process that takes up something after a crash says so.
    fn recovery(&self) -> Recovery {
        Recovery::ended()
    }

    /// Tells client sessions how the scenario wants them to behave, before the run. Other processes, and clients that do as
    /// they like, do nothing.
    fn behave(&mut self, _: Behaviour) {}
}

/// A protocol: how it is deployed, and what it promises.
pub trait Protocol {
    /// The processes on its machines, its client sessions included.
    type Process: Autopsy;
    /// Its options in a scenario (`[protocol.NAME]`), every field with a default.
    type Options: Clone + Default + DeserializeOwned + Serialize + OptionType + std::fmt::Debug;

    /// Its name on the command line and in scenarios.
    const NAME: &'static str;
    /// Its full name and source.
    const TITLE: &'static str;
    /// What a client's request reaches first, as a sentence has it: `a coordinator`.
    const ENTRY: &'static str = "a coordinator";

    /// The rare branches that its code marks, and those of the components that it embeds. A campaign says which
    /// of them no run reached.
    const MARKS: &'static [&'static [Mark]];

    /// Whether options, each within its range, go together.
    ///
    /// # Errors
    ///
    /// When they do not: which one to change, and why.
    fn fit(_options: &Self::Options) -> Result<(), Unfit> {
        Ok(())
    }

    /// Whether the machines carry it with these options.
    ///
    /// # Errors
    ///
    /// When they do not (no quorum, say): what is missing and what to change.
    fn carried(_layout: &Layout, _options: &Self::Options) -> Result<(), String> {
        Ok(())
    }

    /// What it promises with these options.
    fn promises(options: &Self::Options) -> Promises;

    /// The pairs of machines that have to exchange messages for an operation to end and, where one is the client's, for its
    /// answer. Asked for protocols that promise [`Progress::AllBack`] or [`Progress::Quorum`]. By default all machines with all.
    fn needs(
        layout: &Layout,
        _options: &Self::Options,
        _operation: &PlannedOperation,
    ) -> Vec<(NodeId, NodeId)> {
        let all = (0..layout.nodes).map(NodeId);
        all.clone()
            .flat_map(|a| all.clone().map(move |b| (a, b)))
            .collect()
    }

    /// The quorums that may decide an operation, each as the pairs of machines that have to exchange messages for that: those of
    /// one of them do, besides what it [`needs`](Protocol::needs). Asked for protocols that promise [`Progress::Quorum`].
    fn quorums(
        _layout: &Layout,
        _options: &Self::Options,
        _operation: &PlannedOperation,
    ) -> Vec<Vec<(NodeId, NodeId)>> {
        Vec::new()
    }

    /// Places its processes on the machines of `layout`, with client sessions that run `operations`.
    ///
    /// # Errors
    ///
    /// When the layout cannot carry the protocol (no quorum, say): what is missing and what to change.
    fn deploy(
        layout: &Layout,
        options: &Self::Options,
        operations: &[PlannedOperation],
    ) -> Result<Deployment<Self::Process>, String>;
}
