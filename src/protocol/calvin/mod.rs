//! Calvin: order first, execute after, and no commit protocol in between.
//!
//! Thomson, Diamond, Weng, Ren, Shao and Abadi, "Calvin: Fast Distributed Transactions for Partitioned Database
//! Systems", SIGMOD 2012. Transactions are put into a replicated log before anything is executed. Execution
//! is deterministic, so every region's copies of the shards come to the same state from the log alone: a crash
//! is answered by replay, and no participant can veto. A transaction ends by its own logic or not at all.
//!
//! | what | where |
//! |---|---|
//! | [`messages`] | log entries and messages |
//! | [`sequencer`] | front machines: epochs, the replicated log, reconnaissance, feeding the shards |
//! | [`merge`] | one order from several groups' logs, and why it is strict |
//! | [`schedule`] | the conflict graph: what overlaps, what waits |
//! | [`shard`] | data machines: execution, remote reads, recovery |
//! | [`replica`] | what a copy of a shard is, and its checkpoints |
//!
//! # Where this differs from the paper
//!
//! - Epochs open with their first transaction instead of by the wall clock, so an idle system is silent.
//! - Batches are stamped by hybrid logical clocks, and with one group for each region the groups' logs are
//!   merged by stamp with watermarks on demand, where the paper takes one batch of every sequencer in turn.
//! - A replica is a region, and the log is one group of Raft or Multi-Paxos (or one for each region) over all front
//!   machines, instead of one Paxos group for each partition's sequencers.
//! - A restart of a dependent transaction is owed by the shard that holds its lowest pointer, durably, instead
//!   of by whoever sequenced it: the front may be gone.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::observation::Mark;
use crate::base::options::{Choice, Millis, Number, Unfit, declare};
use crate::base::process::{Addr, Delay, FileId, NodeId};
use crate::base::txn::ShardId;
use crate::consensus::{self, Config, Log, LogTimer};
use crate::plan::PlannedOperation;
use crate::protocol::kit::client::{ClientTimer, Patience};
use crate::protocol::kit::deploy::fronts_in_turn;
use crate::protocol::kit::node::{self, carries_client};
use crate::protocol::{Atomicity, Deployment, Isolation, Progress, Promise, Promises, Protocol};
use crate::scenario::layout::Layout;

#[cfg(test)]
mod execution_tests;
pub mod merge;
pub mod messages;
pub mod replica;
pub mod schedule;
pub mod sequencer;
pub mod shard;

pub use messages::Message;
use sequencer::Sequencer;
use shard::Shard;

/// Who sequences.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sequencers {
    /// One group over all front machines: every transaction passes its leader.
    #[default]
    OneGroup,
    /// One group for each region, each over all front machines so that none stops with a region, led from its
    /// own region while that is up; their logs are merged.
    GroupPerRegion,
}

impl Choice for Sequencers {}

declare! {
    /// Calvin's options, `[protocol.calvin]` in a scenario. All times in milliseconds.
    pub struct Options {
        /// Who sequences: `one-group`, a group over all front machines, or `group-per-region`, a group for each
        /// region whose logs are merged.
        sequencers: Sequencers = Sequencers::OneGroup,
        /// How long a sequencer collects transactions for a batch.
        epoch_ms: Millis<1, 60_000> = Millis::new(10),
        /// A shard takes a checkpoint every so many transactions of the merged log.
        checkpoint_every: Number<1, 1_000_000_000> = Number::new(256),
        /// How many transactions of the merged log are kept for copies that lag behind most others.
        log_retained: Number<0, 1_000_000_000> = Number::new(16_384),
        /// How many outcomes a shard remembers to answer duplicates with. Ids are remembered for ever.
        replies_kept: Number<0, 1_000_000_000> = Number::new(65_536),
        /// Clients send a request again, to another front, after this long without a reply.
        resend_ms: Millis = Millis::new(2_000),
        /// How the log is run: see `[protocol.calvin.log]`.
        log: consensus::Options = consensus::Options::default(),
    }
}

/// What every process knows about where it is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// The machines.
    pub layout: Arc<Layout>,
    /// The options.
    pub options: Arc<Options>,
    /// Position of the own region.
    pub region: usize,
}

impl Place {
    /// The group into which this region's transactions go.
    pub fn group(&self) -> usize {
        match self.options.sequencers {
            Sequencers::OneGroup => 0,
            Sequencers::GroupPerRegion => self.region,
        }
    }

    /// All fronts.
    pub fn fronts(&self) -> impl Iterator<Item = Addr> + '_ {
        self.layout.fronts().map(Addr::on)
    }

    /// The fronts in turn: those of the own region first, then the others, then all over again.
    pub fn fronts_by_distance(&self, turn: usize) -> Addr {
        let near = &self.layout.regions[self.region].fronts;
        let turn = turn % self.layout.fronts().count();
        let far = |node: &NodeId| !near.contains(node);
        let front = match near.get(turn) {
            Some(front) => Some(*front),
            None => self.layout.fronts().filter(far).nth(turn - near.len()),
        };
        Addr::on(front.expect("within the count"))
    }

    /// A copy of a shard.
    pub fn data(&self, region: usize, shard: ShardId) -> Addr {
        Addr::on(self.layout.regions[region].data[usize::from(shard.0)])
    }

    fn housekeeping(&self) -> Delay {
        Delay::between(250_000_000, 350_000_000)
    }
}

/// Timers of all processes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Of a replica of a group's log.
    Log {
        /// The group.
        group: u16,
        /// The log's timer.
        timer: LogTimer,
    },
    /// The group's epoch ends.
    Epoch(u16),
    /// A front looks after transactions that have not appeared in the log.
    Retry,
    /// A shard asks for what it lacks of the log.
    Housekeeping,
    /// A shard looks after transactions that wait for pushes.
    Gathering,
    /// Of client sessions.
    Client(ClientTimer),
}

carries_client!(Message, Timer);

/// A process of the protocol.
pub type Node = node::Node<Shard, Sequencer>;

/// The protocol.
#[derive(Clone, Copy, Debug)]
pub struct Calvin;

impl Protocol for Calvin {
    type Process = Node;
    type Options = Options;

    const MARKS: &'static [&'static [Mark]] = &[
        &[
            (
                "calvin.submitted-again",
                "a transaction did not appear in the log and was submitted again",
            ),
            (
                "calvin.duplicate-in-log",
                "a transaction was in the log twice, and ended once",
            ),
            (
                "calvin.outcome-forgotten",
                "a duplicate came when its outcome was no longer remembered",
            ),
            (
                "calvin.leader-lost-with-open-epoch",
                "a leader was deposed with transactions not yet proposed",
            ),
            (
                "calvin.leader-change-while-merging",
                "a leader took over while others waited for its group (`sequencers`)",
            ),
            (
                "calvin.watermark",
                "an idle group told how far it was, because somebody waited (`sequencers`)",
            ),
            (
                "calvin.log-starts-at-a-cut",
                "a replica's log started with a snapshot of the merged order",
            ),
            (
                "calvin.reconnaissance-overtaken",
                "a dependent transaction's pointers changed before its turn",
            ),
            ("calvin.dependent-restart", "it was sequenced again"),
            ("calvin.gap-in-feed", "a shard missed a part of the log"),
            ("calvin.front-silent", "a shard followed another front"),
            (
                "calvin.remote-reads-asked-again",
                "a shard asked for remote reads that had not come",
            ),
            (
                "calvin.state-transfer",
                "a shard became a copy of another region's",
            ),
            (
                "calvin.checkpoint-flush-failed",
                "a checkpoint's flush failed",
            ),
            (
                "calvin.checkpoint-damaged",
                "a shard read a damaged checkpoint and started empty",
            ),
        ],
        consensus::MARKS,
    ];
    const NAME: &'static str = "calvin";
    const TITLE: &'static str = "Calvin (Thomson et al., SIGMOD 2012)";
    const ENTRY: &'static str = "a sequencer";

    fn fit(options: &Options) -> Result<(), Unfit> {
        options.log.fit().map_err(|message| Unfit {
            option: "log.heartbeat-ms",
            message,
        })
    }

    fn promises(options: &Options) -> Promises {
        let progress = Progress::Log {
            needs: options.log.algorithm.needs(),
            merged: options.sequencers == Sequencers::GroupPerRegion,
        };
        Promises::of([
            Promise::Isolation(Isolation::StrictSerializable),
            Promise::Atomicity(Atomicity::AllOrNothing),
            Promise::Durability,
            Promise::Progress(progress),
            Promise::NoSystemAborts,
        ])
    }

    fn deploy(
        layout: &Layout,
        options: &Options,
        operations: &[PlannedOperation],
    ) -> Result<Deployment<Node>, String> {
        validate(layout)?;
        let layout = Arc::new(layout.clone());
        let options = Arc::new(options.clone());
        let place = |region| Place {
            layout: Arc::clone(&layout),
            options: Arc::clone(&options),
            region,
        };
        let patience = Patience {
            resend_ns: Some(options.resend_ms.ns()),
            give_up_ns: None,
        };
        Ok(Deployment::on(&layout)
            .fronts(|region, node| front(&place(region), node))
            .copies(|region, shard| Shard::new(place(region), shard))
            .clients(operations, patience, |operation| {
                fronts_in_turn(&layout, operation)
            }))
    }
}

fn validate(layout: &Layout) -> Result<(), String> {
    if layout.regions.is_empty() || layout.shards.is_empty() {
        return Err("Calvin needs a region and a shard: add `[[region]]` and `[[table]]`".into());
    }
    for region in &layout.regions {
        let name = &region.name;
        if region.fronts.is_empty() {
            return Err(format!(
                "region `{name}` has no zone, so no machine for a sequencer: give it one zone or more"
            ));
        }
        if region.data.len() != layout.shards.len() {
            return Err(format!(
                "region `{name}` has machines for {} of {} shards: Calvin keeps a copy of each",
                region.data.len(),
                layout.shards.len()
            ));
        }
    }
    Ok(())
}

/// A front machine with a replica of each group's log.
fn front(place: &Place, node: NodeId) -> Sequencer {
    let me = Addr::on(node);
    let groups = match place.options.sequencers {
        Sequencers::OneGroup => 1,
        Sequencers::GroupPerRegion => place.layout.regions.len(),
    };
    let logs = (0..groups).map(|group| {
        let mut options = place.options.log.clone();
        if place.options.sequencers == Sequencers::GroupPerRegion && group != place.region {
            // Its own region's fronts campaign first.
            options.election_ms = options.election_ms.afterwards();
        }
        Log::new(Config {
            group: group as u16,
            me,
            members: place.fronts().collect(),
            file: FileId(group as u8),
            flush_owner: group as u8,
            options,
        })
    });
    Sequencer::new(place.clone(), me, logs.collect())
}
