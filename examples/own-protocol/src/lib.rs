//! Primary copy with a command log: a protocol in a crate of its own.
//!
//! Source: Alsberg and Day, "A Principle for Resilient Sharing of Distributed Resources", ICSE 1976, without its failover.
//! Every replica has all rows in memory and a log on its disk. It runs what is in its log, one transaction after the other:
//! equal logs lead to equal rows. The *primary* decides what comes next in the log, and answers clients after one forced
//! write. The others, one on each shard's machine, copy the log, and ask for what they lack.
//!
//! ```text
//!   client -- request --> primary            forces the transaction, and runs it
//!   client <-- reply -- primary
//!                       primary -- copy --> replicas    force it, and run it
//!                       primary <-- copied -- replicas
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ordain::base::observation::{Mark, Observation, Outcome};
use ordain::base::options::{Millis, declare};
use ordain::base::process::{Addr, Delay, Effects, FileId, Input, Process, WallTime, Wire};
use ordain::base::txn::{Evaluation, Key, ShardId, Txn, TxnId, Write, WriteId};
use ordain::plan::PlannedOperation;
use ordain::protocol::kit::client::{ClientMessage, ClientTimer, Patience};
use ordain::protocol::kit::journal::{self, CHECKPOINT_MIN_BYTES, Journal};
use ordain::protocol::kit::node::{Node, carries_client};
use ordain::protocol::{
    Atomicity, Autopsy, Deployment, Isolation, Progress, Promise, Promises, Protocol,
};
use ordain::scenario::layout::Layout;
use ordain::shard::ShardState;
use ordain::shard::store::Store;
use serde::{Deserialize, Serialize};

const LOG: FileId = FileId(0);
/// How often a replica asks for what it lacks.
const ASK: Delay = Delay::between(200_000_000, 300_000_000);
/// Most transactions in one answer.
const COPIED_MAX: usize = 256;

declare! {
    /// Options, `[protocol.primary]` in a scenario. All times in milliseconds.
    pub struct Options {
        /// How long a client waits before it sends its request again.
        client_resend_ms: Millis = Millis::new(2_000),
    }
}

/// What travels.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// From or to a client.
    Client(ClientMessage),
    /// Primary to replica: the log after this position.
    Copy(usize, Vec<Arc<Txn>>),
    /// Replica to primary: its log reaches up to this position.
    Copied(ShardId, usize),
    /// Replica to primary: what comes after this position?
    Ask(ShardId, usize),
}

/// The timers of all processes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// A client's.
    Client(ClientTimer),
    /// A replica asks for what it lacks.
    Ask,
}

carries_client!(Message, Timer);

type Out = Effects<Message, Timer>;

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Client(message) => message.label(),
            Message::Copy(..) => "copy",
            Message::Copied(..) => "copied",
            Message::Ask(..) => "ask",
        }
    }
}

/// What a log holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
enum Record {
    Run(Arc<Txn>),
    Checkpoint(Box<Data>),
}

/// All rows, as the log so far leaves them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Data {
    stores: BTreeMap<ShardId, Store>,
    log: Vec<Arc<Txn>>,
    outcomes: BTreeMap<TxnId, Outcome>,
}

impl Data {
    fn new(layout: &Layout) -> Self {
        let store = |shard| (shard, Store::new(layout, shard));
        Self {
            stores: layout.shard_ids().map(store).collect(),
            log: Vec::new(),
            outcomes: BTreeMap::new(),
        }
    }

    /// Runs the next transaction of the log. The same log leads to the same rows everywhere.
    fn run(&mut self, layout: &Layout, txn: Arc<Txn>) {
        let row = |key: Key| self.stores[&layout.shard_of(key)].read(key);
        let footprint = txn.footprint(|key| row(key).map_or(0, |row| row.value.as_int()));
        let evaluation = txn.evaluate(&footprint, row);
        let outcome = match evaluation {
            Evaluation::Moved => unreachable!("the footprint is of these very rows"),
            Evaluation::Declined(guard) => Outcome::Declined { guard },
            Evaluation::Commit(writes) => {
                let mut reads = Vec::new();
                for (shard, keys) in layout.by_shard(footprint.reads) {
                    let store = self.stores.get_mut(&shard).expect("every shard has one");
                    reads.extend(store.reads(&keys));
                    let here = writes.iter().filter(|write| keys.contains(&write.key));
                    let here: Vec<Write> = here.copied().collect();
                    let writer = WriteId {
                        txn: txn.id,
                        undo: false,
                    };
                    store.apply(self.log.len() as u64 + 1, writer, &here);
                }
                reads.sort();
                Outcome::Committed { reads }
            }
        };
        self.outcomes.insert(txn.id, outcome);
        self.log.push(txn);
    }
}

/// A replica.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Replica {
    layout: Arc<Layout>,
    /// Where the primary is, and which shard this replica answers for; nothing if it is the primary.
    follows: Option<(Addr, ShardId)>,
    /// Whether it answers before the transaction is in the log: a bug for the tests to find.
    hasty: bool,
    data: Data,
    journal: Journal<Record, (Addr, Arc<Txn>)>,
    /// Transactions on their way to the log.
    forced: BTreeSet<TxnId>,
    /// How far the others are, and how many transactions have ended.
    copied: BTreeMap<ShardId, usize>,
    ended: usize,
}

impl Replica {
    fn on_request(&mut self, client: Addr, txn: Arc<Txn>, out: &mut Out) {
        if self.data.outcomes.contains_key(&txn.id) {
            out.observe(Observation::Mark("primary.reply-repeated"));
            self.reply(client, txn.id, out);
        } else if !self.forced.contains(&txn.id) {
            out.observe(Observation::Initiated { txn: txn.id });
            self.force(client, Arc::clone(&txn));
            if self.hasty {
                self.run(client, txn, out);
            }
        }
    }

    /// Of what others send, only the next transactions are of use, and only while none is on its way to the log.
    fn on_copy(&mut self, primary: Addr, after: usize, log: Vec<Arc<Txn>>, out: &mut Out) {
        let here = self.data.log.len();
        if self.forced.is_empty() && after <= here {
            let new = log.into_iter().skip(here - after);
            new.for_each(|txn| self.force(primary, txn));
        }
        if self.forced.is_empty() {
            self.say_how_far(out);
        }
    }

    fn force(&mut self, from: Addr, txn: Arc<Txn>) {
        self.forced.insert(txn.id);
        self.journal
            .force(Record::Run(Arc::clone(&txn)), (from, txn));
    }

    /// A transaction is in the log.
    fn run(&mut self, from: Addr, txn: Arc<Txn>, out: &mut Out) {
        let (id, after) = (txn.id, self.data.log.len());
        self.forced.remove(&id);
        self.data.run(&self.layout, Arc::clone(&txn));
        if self.follows.is_some() {
            if self.forced.is_empty() {
                self.say_how_far(out);
            }
            return;
        }
        let commit = self.commits(id);
        out.observe(Observation::Decided { txn: id, commit });
        self.reply(from, id, out);
        for shard in self.layout.shard_ids() {
            let to = Addr::on(self.layout.home(shard));
            out.send(to, Message::Copy(after, vec![Arc::clone(&txn)]));
        }
    }

    fn say_how_far(&self, out: &mut Out) {
        if let Some((primary, shard)) = self.follows {
            out.send(primary, Message::Copied(shard, self.data.log.len()));
        }
    }

    fn commits(&self, txn: TxnId) -> bool {
        matches!(self.data.outcomes[&txn], Outcome::Committed { .. })
    }

    fn reply(&self, client: Addr, txn: TxnId, out: &mut Out) {
        let outcome = self.data.outcomes[&txn].clone();
        out.send(
            client,
            Message::Client(ClientMessage::Reply { txn, outcome }),
        );
    }

    /// A transaction has ended once every replica has it.
    fn on_copied(&mut self, shard: ShardId, up_to: usize, out: &mut Out) {
        self.copied.insert(shard, up_to);
        let how_far = |shard| self.copied.get(&shard).copied().unwrap_or(0);
        let everywhere = self.layout.shard_ids().map(how_far).min().unwrap_or(0);
        for txn in self.data.log.iter().take(everywhere).skip(self.ended) {
            let (txn, commit) = (txn.id, self.commits(txn.id));
            out.observe(Observation::Ended { txn, commit });
        }
        self.ended = self.ended.max(everywhere);
    }

    fn on_ask(&self, replica: Addr, after: usize, out: &mut Out) {
        let log = self.data.log.iter().skip(after).take(COPIED_MAX);
        let log: Vec<Arc<Txn>> = log.cloned().collect();
        if !log.is_empty() {
            out.send(replica, Message::Copy(after, log));
        }
    }

    fn ask(&self, out: &mut Out) {
        if let Some((primary, shard)) = self.follows {
            out.send(primary, Message::Ask(shard, self.data.log.len()));
            out.set_timer(Timer::Ask, ASK);
        }
    }
}

impl Process for Replica {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, _: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        match input {
            Input::Boot(disk) => {
                let Ok(records) = self.journal.open(disk.file(LOG), out) else {
                    return out.halt("a replica's log is damaged");
                };
                for record in records {
                    match record {
                        Record::Run(txn) => self.data.run(&self.layout, txn),
                        Record::Checkpoint(data) => self.data = *data,
                    }
                }
                self.ask(out);
            }
            Input::Message { from, message } => match message {
                Message::Client(ClientMessage::Request { txn }) => self.on_request(from, txn, out),
                Message::Client(reply) => unreachable!("{reply:?} is for a client"),
                Message::Copy(after, log) => self.on_copy(from, after, log, out),
                Message::Copied(shard, up_to) => self.on_copied(shard, up_to, out),
                Message::Ask(shard, after) => {
                    self.on_copied(shard, after, out);
                    self.on_ask(from, after, out);
                }
            },
            Input::Timer(_) => self.ask(out),
            Input::Flushed(flush) => {
                let settled = self.journal.flushed(flush);
                for (from, txn) in settled.durable {
                    if !self.data.outcomes.contains_key(&txn.id) {
                        self.run(from, txn, out);
                    }
                }
                for (_, txn) in settled.lost {
                    self.forced.remove(&txn.id); // Somebody sends it again.
                }
            }
            Input::FlushFailed(flush) => self.journal.flush_failed(flush, out),
        }
        let checkpoint = || Record::Checkpoint(Box::new(self.data.clone()));
        self.journal.pump(checkpoint, out);
    }
}

impl Autopsy for Replica {
    fn autopsy(&self) -> Option<ShardState> {
        let (_, shard) = self.follows?;
        let home = self.layout.shards[usize::from(shard.0)].home;
        Some(self.data.stores[&shard].autopsy(home, BTreeSet::new()))
    }
}

/// The protocol. `HASTY` plants a bug: it answers before the transaction is in the log.
pub struct PrimaryCopy<const HASTY: bool = false>;

impl<const HASTY: bool> Protocol for PrimaryCopy<HASTY> {
    type Process = Node<Replica>;
    type Options = Options;

    const NAME: &'static str = if HASTY { "hasty" } else { "primary" };
    const TITLE: &'static str = "Primary copy with a command log (Alsberg and Day 1976)";
    const ENTRY: &'static str = "the primary";
    const MARKS: &'static [&'static [Mark]] = &[
        &[(
            "primary.reply-repeated",
            "a repeated request was answered from memory",
        )],
        journal::MARKS,
    ];

    fn promises(_: &Options) -> Promises {
        Promises::of([
            Promise::Isolation(Isolation::StrictSerializable),
            Promise::Atomicity(Atomicity::AllOrNothing),
            Promise::Durability,
            Promise::Progress(Progress::AllBack),
            Promise::NoSystemAborts,
        ])
    }

    fn deploy(
        layout: &Layout,
        options: &Options,
        operations: &[PlannedOperation],
    ) -> Result<Deployment<Self::Process>, String> {
        let primary = Addr::on(layout.fronts().next().ok_or("no machine for the primary")?);
        let (shared, data) = (Arc::new(layout.clone()), Data::new(layout));
        let replica = |follows| Replica {
            layout: Arc::clone(&shared),
            follows,
            hasty: HASTY,
            data: data.clone(),
            journal: Journal::new(LOG, CHECKPOINT_MIN_BYTES),
            forced: BTreeSet::new(),
            copied: BTreeMap::new(),
            ended: 0,
        };
        let patience = Patience::new(Some(options.client_resend_ms), Millis::new(0));
        Ok(Deployment::on(layout)
            .coordinators([primary], |_| replica(None))
            .homes(|shard| replica(Some((primary, shard))))
            .clients(operations, patience, |_| vec![primary]))
    }
}
