//! The protocols: one file or folder each, written sans-io, and what each of them promises.

pub mod calvin;
#[cfg(test)]
mod interaction;
pub mod kit;
pub mod naive;
pub mod paxos_commit;
pub mod percolator;
pub mod saga;
#[cfg(test)]
pub(crate) mod testing;
pub mod two_phase;

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::observation::Mark;
use crate::base::options::{OptionType, Unfit};
use crate::base::process::{NodeId, Process};
use crate::consensus::connectivity::Shape;
use crate::plan::PlannedOperation;
use crate::scenario::layout::Layout;
use crate::shard::ShardState;
use crate::shard::recovery::Recovery;

/// The isolation that a protocol promises for the transactions that it acknowledges.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Nothing.
    None,
    /// Snapshot isolation.
    SnapshotIsolation,
    /// Serializability.
    Serializable,
    /// Serializability in an order that respects real time.
    StrictSerializable,
}

/// The atomicity that a protocol promises.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Atomicity {
    /// Nothing.
    None,
    /// In the end either every effect of a transaction stands, or every one is compensated or never
    /// happened (Garcia-Molina and Salem, SIGMOD 1987).
    Saga,
    /// All effects or none, but for transactions that a participant decided alone (XA's heuristic decisions).
    UnlessAlone,
    /// All effects or none.
    AllOrNothing,
}

/// Where a protocol promises that requests return and that what it took charge of ends, within the settle phase, once
/// everything has healed that is not permanent. Machines *exchange messages* if both are up and messages pass both ways.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Nowhere.
    None,
    /// Where all machines that have to talk for the operation exchange messages ([`Protocol::needs`]), and no operation that needs
    /// more wants the same rows: until they are back, participants may stay in doubt, and others wait behind their locks.
    AllBack,
    /// As [`AllBack`](Progress::AllBack), and of those who decide only a quorum is needed ([`Protocol::quorums`]).
    Quorum,
    /// Where the log goes on, and whichever replica leads it, one that hears from it serves the client: its region has a copy of
    /// every shard, and these, the replica and the client exchange messages with one another. (Whoever reaches a majority may
    /// lead. "Any majority of the servers are operational and can communicate with each other and with clients", Ongaro and
    /// Ousterhout 2014, section 2.)
    Log {
        /// How the log's replicas have to reach one another, at least.
        needs: Shape,
        /// Whether several logs are merged. Then whoever may lead one of them has to hear of the others, too: a leader that
        /// does not know of another log's entry does not get its own log past it.
        merged: bool,
    },
}

/// What a run of a protocol is judged against: less is a violation, a documented weakness is a measurement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Promises {
    /// Isolation of acknowledged transactions.
    pub isolation: Isolation,
    /// Atomicity of all transactions.
    pub atomicity: Atomicity,
    /// Whether effects acknowledged to a client survive every fault of the scenario.
    pub durability: bool,
    /// When every initiated transaction ends.
    pub progress: Progress,
    /// Whether a transaction aborts only by its own logic (its guards), never because of the system.
    pub no_system_aborts: bool,
}

impl Promises {
    /// No promise at all.
    pub const NOTHING: Promises = Promises {
        isolation: Isolation::None,
        atomicity: Atomicity::None,
        durability: false,
        progress: Progress::None,
        no_system_aborts: false,
    };
}

impl fmt::Display for Promises {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let isolation = match self.isolation {
            Isolation::None => None,
            Isolation::SnapshotIsolation => Some("snapshot isolation"),
            Isolation::Serializable => Some("serializability"),
            Isolation::StrictSerializable => Some("strict serializability"),
        };
        let atomicity = match self.atomicity {
            Atomicity::None => None,
            Atomicity::Saga => Some("all effects or all compensated"),
            Atomicity::UnlessAlone => {
                Some("all effects or none unless a participant decided alone")
            }
            Atomicity::AllOrNothing => Some("all effects or none"),
        };
        let durability = self.durability.then_some("acknowledged effects survive");
        let progress = match self.progress {
            Progress::None => None,
            Progress::AllBack => Some("requests return once all machines that they need are back"),
            Progress::Quorum => {
                Some("requests return while participants and a quorum are connected")
            }
            Progress::Log { .. } => Some("requests return while a majority is connected"),
        };
        let aborts = self.no_system_aborts.then_some("no system-induced aborts");
        let kept = [isolation, atomicity, durability, progress, aborts];
        let kept: Vec<&str> = kept.into_iter().flatten().collect();
        match *self == Promises::NOTHING {
            true => f.write_str("nothing"),
            false => f.write_str(&kept.join("; ")),
        }
    }
}

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

    /// How far this process has recovered, by its own word. State is judged only where recovery has ended. By default it
    /// always has: a process that takes up something after a crash says so.
    fn recovery(&self) -> Recovery {
        Recovery::ended()
    }
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
