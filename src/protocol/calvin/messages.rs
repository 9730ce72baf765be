//! What is in the log, and what travels between fronts and shards.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::replica::{Checkpoint, Ended};
use crate::base::hlc::Stamp;
use crate::base::observation::Outcome;
use crate::base::process::{Addr, Wire};
use crate::base::txn::{Footprint, Key, Read, ShardId, Txn, TxnId};
use crate::consensus::LogMessage;
use crate::protocol::kit::client::ClientMessage;
use crate::scenario::layout::Layout;

/// A transaction as it stands in the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The transaction.
    pub txn: Arc<Txn>,
    /// The rows to lock: final for most, the reconnaissance's finding for a dependent transaction.
    pub footprint: Footprint,
    /// How often a reconnaissance has been overtaken before this one.
    pub attempt: u32,
    /// Whom to answer.
    pub client: Addr,
    /// Position of the region whose replicas answer: that of the front which took the request.
    pub region: u16,
}

impl Entry {
    /// The shards that hold rows of the footprint, in order, each once. One without rows is the first shard's, so that
    /// somebody answers.
    pub fn participants(&self, layout: &Layout) -> Vec<ShardId> {
        let rows = self.footprint.reads.iter();
        let mut shards = each_once(rows.map(|key| layout.shard_of(*key)));
        if shards.is_empty() {
            shards.push(ShardId(0));
        }
        shards
    }

    /// The participants that gather everybody's reads and run the procedure: those that write (the *active*
    /// ones; Thomson et al., SIGMOD 2012, section 3.2), the lowest one, which answers, and the holders of
    /// pointer rows, which remember the end of a dependent transaction wherever its other rows moved. In order, each once.
    pub fn collectors(&self, layout: &Layout, participants: &[ShardId]) -> Vec<ShardId> {
        let pointers = self.txn.pointers();
        let rows = self.footprint.writes.iter().chain(&pointers);
        let shards = rows.map(|key| layout.shard_of(*key));
        each_once(shards.chain(participants.first().copied()))
    }

    fn size_bytes(&self) -> u32 {
        48 + 12 * (self.footprint.reads.len() + self.txn.effects.len()) as u32
    }
}

fn each_once(shards: impl Iterator<Item = ShardId>) -> Vec<ShardId> {
    let mut shards: Vec<ShardId> = shards.collect();
    shards.sort_unstable();
    shards.dedup();
    shards
}

/// The transactions of an epoch, in order. An empty batch is a watermark: nothing of its group comes below
/// its stamp any more.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Batch {
    /// Strictly above the stamps of all earlier batches of the same group.
    pub stamp: Stamp,
    /// The transactions.
    pub entries: Vec<Arc<Entry>>,
}

impl Batch {
    /// Size on the wire in bytes.
    pub fn size_bytes(&self) -> u32 {
        16 + self.entries.iter().map(|e| e.size_bytes()).sum::<u32>()
    }
}

/// A participant's share of a transaction's reads, as it pushes them to the others.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Push {
    /// Place of the transaction in the merged order.
    pub position: u64,
    /// The participant.
    pub from: ShardId,
    /// Its rows of the footprint.
    pub rows: Vec<Read>,
    /// Whether, and how, the transaction had ended at an earlier position.
    pub before: Before,
}

impl Push {
    fn size_bytes(&self) -> u32 {
        32 + 24 * self.rows.len() as u32
    }
}

/// What a participant knows of earlier occurrences of a transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Before {
    /// None has ended, as far as it knows.
    Unended,
    /// One has, with this outcome, if it still remembers it.
    Ended(Option<Arc<Outcome>>),
}

/// A dependent transaction whose reconnaissance was overtaken: it owes a restart.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Restart {
    /// Where it was found out.
    pub position: u64,
    /// The occurrence that was overtaken.
    pub entry: Arc<Entry>,
}

/// A checkpoint with the history up to it: all that a copy of a shard is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Transfer {
    /// Rows, retained reads and restarts.
    pub checkpoint: Arc<Checkpoint>,
    /// Every transaction that ended, by position.
    pub history: Vec<(u64, Ended)>,
}

/// What travels.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// From and to clients.
    Client(ClientMessage),
    /// Between the replicas of a group's log.
    Log {
        /// The group.
        group: u16,
        /// The log's message.
        message: LogMessage<Arc<Batch>>,
    },
    /// Front to the group's leader: sequence this.
    Submit {
        /// The group.
        group: u16,
        /// The transaction.
        entry: Arc<Entry>,
    },
    /// Leader to the leaders of other groups: a batch with this stamp is on its way, get past it.
    Stamped(Stamp),
    /// Front to shard: what do these rows hold, outside of any transaction?
    Reconnoitre {
        /// The dependent transaction.
        txn: TxnId,
        /// Its pointer rows on this shard.
        keys: Vec<Key>,
    },
    /// Shard to front: that is what.
    Reconnoitred {
        /// The dependent transaction.
        txn: TxnId,
        /// Quantities of the rows asked for.
        rows: Vec<(Key, i64)>,
    },
    /// Shard to front: the reconnaissance was overtaken, sequence the transaction again.
    Restart(Arc<Entry>),
    /// Shard to front: I have the merged log up to `after`.
    Follow {
        /// Last position received.
        after: u64,
        /// Whether to go on sending what comes; otherwise this is one question.
        stream: bool,
        /// Whether positions after `after` are missing although later ones have arrived.
        gap: bool,
    },
    /// Front to shard: the merged log.
    Feed {
        /// Batches with the position of their first transaction, without a gap.
        batches: Vec<(u64, Arc<Batch>)>,
        /// Positions up to here may be forgotten.
        floor: u64,
    },
    /// Front to shard: the log up to here is gone from this front.
    Compacted {
        /// Last position that is gone.
        floor: u64,
    },
    /// Participant to participant.
    Push(Arc<Push>),
    /// Participant to participant: I lack pushes of yours.
    AskPushes {
        /// From this position on.
        from: u64,
    },
    /// What was asked for, as far as the participant has come.
    Pushes(Vec<Arc<Push>>),
    /// What was asked for begins below the floor, and is forgotten.
    PushesGone {
        /// The floor.
        floor: u64,
    },
    /// Shard to fronts: a checkpoint is durable.
    Checkpointed {
        /// Position of the shard's region.
        region: u16,
        /// The shard.
        shard: ShardId,
        /// Last position that it covers.
        position: u64,
    },
    /// Shard to the same shard elsewhere: send a checkpoint above this position.
    AskState {
        /// What the asker has.
        above: u64,
    },
    /// The checkpoint.
    State(Arc<Transfer>),
}

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Client(message) => message.label(),
            Message::Log { message, .. } => message.label(),
            Message::Submit { .. } => "submit",
            Message::Stamped(_) => "stamped",
            Message::Reconnoitre { .. } => "reconnoitre",
            Message::Reconnoitred { .. } => "reconnoitred",
            Message::Restart(_) => "restart",
            Message::Follow { .. } => "follow",
            Message::Feed { .. } => "feed",
            Message::Compacted { .. } => "compacted",
            Message::Push(_) => "remote-reads",
            Message::AskPushes { .. } => "ask-remote-reads",
            Message::Pushes(_) => "remote-reads-again",
            Message::PushesGone { .. } => "remote-reads-gone",
            Message::Checkpointed { .. } => "checkpointed",
            Message::AskState { .. } => "ask-state",
            Message::State(_) => "state",
        }
    }

    fn size_bytes(&self) -> u32 {
        match self {
            Message::Log { message, .. } => message.size_bytes(),
            Message::Submit { entry, .. } | Message::Restart(entry) => 16 + entry.size_bytes(),
            Message::Feed { batches, .. } => {
                16 + batches.iter().map(|(_, b)| b.size_bytes()).sum::<u32>()
            }
            Message::Push(push) => push.size_bytes(),
            Message::Pushes(pushes) => 16 + pushes.iter().map(|p| p.size_bytes()).sum::<u32>(),
            Message::State(transfer) => {
                let rows = transfer.checkpoint.rows.len() + transfer.history.len();
                64 + 32 * rows as u32
            }
            _ => 64,
        }
    }
}
