//! Calvin as a conversation: scripts of what happens, with everything that is said in answer.
//!
//! A command stands on a line of its own; what follows from it is indented. No time passes and nothing is
//! lost unless the script says so: messages arrive in the order in which they were sent, flushes complete at
//! once, and timers fire when they are told to.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use ordain::base::observation::{Observation, Outcome};
use ordain::base::process::{
    Addr, Disk, Effect, Effects, FileId, FlushId, Input, NodeId, Process, WallTime, Wire,
};
use ordain::base::txn::{self, Guard, Key, Op, ShardId, TableId, Target, Txn, TxnId, Value};
use ordain::consensus::{LogTimer, ReplicaTimer};
use ordain::plan::{PlannedOperation, Start};
use ordain::protocol::calvin::messages::{Batch, Before, Message, Push};
use ordain::protocol::calvin::{Calvin, Node, Options, Sequencers, Timer};
use ordain::protocol::kit::client::{ClientMessage, ClientTimer};
use ordain::protocol::{Autopsy, Protocol};
use ordain::scenario::layout::{EngineKind, Layout, Region, Shard, Table};

/// Two shards, three regions of a front, a machine for each shard and a client.
fn layout() -> Layout {
    let region = |(at, name): (u16, &str)| Region {
        name: name.into(),
        cloud: "x".into(),
        fronts: vec![NodeId(4 * at)],
        data: vec![NodeId(4 * at + 1), NodeId(4 * at + 2)],
        client: NodeId(4 * at + 3),
    };
    let table = |name: &str, engine, shard| Table {
        name: name.into(),
        engine,
        shards: vec![ShardId(shard)],
        rows: 2,
        initial: Value::Int(10),
    };
    let shard = |table, engine| Shard {
        table: TableId(table),
        engine,
        home: 0,
    };
    Layout {
        regions: (0..).zip(["a", "b", "c"]).map(region).collect(),
        tables: vec![
            table("cash", EngineKind::Postgres, 0),
            table("bonds", EngineKind::Scylla, 1),
        ],
        shards: vec![shard(0, EngineKind::Postgres), shard(1, EngineKind::Scylla)],
        nodes: 12,
        clock_bound_ns: None,
    }
}

const NAMES: [&str; 12] = [
    "a/front", "a/cash", "a/bonds", "a/client", "b/front", "b/cash", "b/bonds", "b/client",
    "c/front", "c/cash", "c/bonds", "c/client",
];

fn name(addr: Addr) -> &'static str {
    NAMES[usize::from(addr.node.0)]
}

fn named(name: &str) -> usize {
    let at = NAMES.iter().position(|known| *known == name);
    at.unwrap_or_else(|| panic!("no machine `{name}`"))
}

fn key(table: u8, row: u32) -> Key {
    Key {
        table: TableId(table),
        row,
    }
}

/// What clients may start, by number, from one.
fn operations() -> Vec<PlannedOperation> {
    let add = |table, by| txn::Effect {
        target: Target::Key(key(table, 0)),
        op: Op::Add(by),
    };
    let pointed = txn::Effect {
        target: Target::Choice {
            on: key(0, 0),
            at_least: 10,
            then: key(1, 0),
            otherwise: key(1, 1),
        },
        op: Op::Put(1),
    };
    // A purchase of bonds for cash; a write where the cash decides; cash in.
    let effects = [vec![add(0, -4), add(1, 4)], vec![pointed], vec![add(0, -1)]];
    let operation = |(id, effects): (u64, Vec<txn::Effect>)| {
        let guards = match id {
            1 => vec![Guard::SumAtLeast {
                keys: vec![key(0, 0)],
                at_least: 4,
            }],
            _ => vec![],
        };
        PlannedOperation {
            region: 0,
            session: id as u32,
            start: Start::At(0),
            txn: Txn {
                id: TxnId(id),
                reads: vec![],
                guards,
                effects,
                pivot: None,
            },
        }
    };
    (1..).zip(effects).map(operation).collect()
}

struct Cluster {
    nodes: Vec<Node>,
    pristine: Vec<Node>,
    disks: Vec<Disk>,
    /// Messages and completed flushes, in order.
    queue: VecDeque<(Addr, Happening)>,
    cut: Vec<usize>,
    time_ns: u64,
    text: String,
    quiet: bool,
}

enum Happening {
    Message(Addr, Message),
    Flushed(FlushId),
}

impl Cluster {
    fn new(sequencers: Sequencers) -> Self {
        let options = Options {
            sequencers,
            ..Options::default()
        };
        let deployed = Calvin::deploy(&layout(), &options, &operations()).unwrap();
        let nodes: Vec<Node> = deployed.processes.into_iter().flatten().collect();
        assert_eq!(nodes.len(), NAMES.len());
        Self {
            pristine: nodes.clone(),
            disks: vec![Disk::default(); nodes.len()],
            nodes,
            queue: VecDeque::new(),
            cut: Vec::new(),
            time_ns: 1_000_000,
            text: String::new(),
            quiet: false,
        }
    }

    fn say(&mut self, line: &str) {
        if !self.quiet {
            let _ = writeln!(self.text, "    {line}");
        }
    }

    fn step(&mut self, at: usize, input: Input<Message, Timer>) {
        self.time_ns += 1_000_000;
        let by = Addr {
            node: NodeId(at as u16),
            port: 0,
        };
        let mut out = Effects::default();
        self.nodes[at].step(WallTime(self.time_ns), input, &mut out);
        for effect in out.drain() {
            match effect {
                Effect::Send { to, message } => {
                    self.queue.push_back((to, Happening::Message(by, message)));
                }
                Effect::Append { file, bytes } => self.file(at, file).extend(bytes),
                Effect::Replace { file, bytes } => *self.file(at, file) = bytes,
                Effect::Flush(flush) => self.queue.push_back((by, Happening::Flushed(flush))),
                Effect::Observe(observation) => {
                    if let Some(line) = describe_observation(&observation) {
                        self.say(&format!("{}: {line}", name(by)));
                    }
                }
                Effect::Halt(why) => self.say(&format!("{}: halts, {why}", name(by))),
                Effect::SetTimer { .. } | Effect::CancelTimer(_) | Effect::Work(_) => {}
            }
        }
    }

    fn file(&mut self, at: usize, file: FileId) -> &mut Vec<u8> {
        self.disks[at].file_mut(file)
    }

    fn boot(&mut self, at: usize) {
        self.nodes[at] = self.pristine[at].clone();
        let disk = self.disks[at].clone();
        self.step(at, Input::Boot(disk));
    }

    fn run(&mut self) {
        while let Some((to, happening)) = self.queue.pop_front() {
            let at = usize::from(to.node.0);
            match happening {
                Happening::Flushed(flush) => self.step(at, Input::Flushed(flush)),
                Happening::Message(from, message) => {
                    let lost =
                        self.cut.contains(&at) || self.cut.contains(&usize::from(from.node.0));
                    if let Some(line) = describe(&message) {
                        let arrow = if lost { "-x" } else { "->" };
                        self.say(&format!("{} {arrow} {}: {line}", name(from), name(to)));
                    }
                    if !lost {
                        self.step(at, Input::Message { from, message });
                    }
                }
            }
        }
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let _ = writeln!(self.text, "{line}");
        match words[..] {
            ["elect", front, group] => {
                self.quiet = true;
                let timer = Timer::Log {
                    group: group.parse().unwrap(),
                    timer: LogTimer::Raft(ReplicaTimer::Election),
                };
                self.step(named(front), Input::Timer(timer));
                self.run();
                self.quiet = false;
            }
            ["start", client, operation] => {
                let operation: u32 = operation.parse().unwrap();
                self.fire(client, Timer::Client(ClientTimer::Start(operation - 1)));
            }
            ["resend", client, operation] => {
                let operation: u32 = operation.parse().unwrap();
                self.fire(client, Timer::Client(ClientTimer::Resend(operation - 1)));
            }
            ["epoch", front, group] => self.fire(front, Timer::Epoch(group.parse().unwrap())),
            ["housekeeping", shard] => self.fire(shard, Timer::Housekeeping),
            ["gathering", shard] => {
                self.fire(shard, Timer::Gathering);
                self.fire(shard, Timer::Gathering);
            }
            ["cut", machine] => self.cut.push(named(machine)),
            ["heal"] => self.cut.clear(),
            ["restart", machine] => {
                self.boot(named(machine));
                self.run();
            }
            ["rows"] => self.rows(),
            _ => panic!("`{line}` is no command"),
        }
    }

    fn fire(&mut self, at: &str, timer: Timer) {
        self.step(named(at), Input::Timer(timer));
        self.run();
    }

    fn rows(&mut self) {
        for (at, machine) in NAMES.iter().enumerate() {
            if let Some(copy) = self.nodes[at].autopsy() {
                let row = |(key, row): (&Key, &txn::Row)| format!("{key}={}", row.value.as_int());
                let rows: Vec<String> = copy.rows.iter().map(row).collect();
                self.say(&format!("{machine}: {}", rows.join(" ")));
            }
        }
    }
}

fn describe(message: &Message) -> Option<String> {
    let label = message.label();
    Some(match message {
        Message::Client(ClientMessage::Request { txn }) => format!("{label} {}", txn.id),
        Message::Client(ClientMessage::Reply { txn, outcome }) => match outcome {
            Outcome::Committed { reads } => {
                let read = |read: &txn::Read| format!("{}={}", read.key, read.row.value.as_int());
                let reads: Vec<String> = reads.iter().map(read).collect();
                format!("{label} {txn} committed, having read {}", reads.join(" "))
            }
            other => format!("{label} {txn} {other:?}"),
        },
        Message::Submit { group, entry } => {
            format!("{label} {} to group {group}", entry.txn.id)
        }
        Message::Log { .. } if matches!(label, "heartbeat" | "append-reply") => return None,
        Message::Log { group, .. } => format!("{label} of group {group}"),
        Message::Feed { batches, .. } if batches.is_empty() => return None,
        Message::Feed { batches, .. } => {
            let batch = |(first, batch): &(u64, Arc<Batch>)| {
                let txns: Vec<String> =
                    batch.entries.iter().map(|e| e.txn.id.to_string()).collect();
                format!("{first}: {}", txns.join(" "))
            };
            let batches: Vec<String> = batches.iter().map(batch).collect();
            format!("{label} {}", batches.join("; "))
        }
        Message::Push(push) => format!("{label} {}", describe_push(push)),
        Message::Pushes(pushes) => {
            let pushes: Vec<String> = pushes.iter().map(|push| describe_push(push)).collect();
            format!("{label} {}", pushes.join("; "))
        }
        Message::AskPushes { from } => format!("{label} from {from} on"),
        Message::Reconnoitre { txn, .. } => format!("{label} for {txn}"),
        Message::Reconnoitred { txn, rows } => {
            let row = |(key, value): &(Key, i64)| format!("{key}={value}");
            let rows: Vec<String> = rows.iter().map(row).collect();
            format!("{label} for {txn}: {}", rows.join(" "))
        }
        Message::Restart(entry) => format!("{label} {}", entry.txn.id),
        Message::Follow { after, .. } => format!("{label} after {after}"),
        Message::Stamped(_) => label.to_string(),
        other => format!("{label} {other:?}"),
    })
}

fn describe_push(push: &Push) -> String {
    let row = |read: &txn::Read| format!("{}={}", read.key, read.row.value.as_int());
    let rows: Vec<String> = push.rows.iter().map(row).collect();
    let before = match push.before {
        Before::Unended => "",
        Before::Ended(_) => ", ended before",
    };
    format!("{}: {}{before}", push.position, rows.join(" "))
}

fn describe_observation(observation: &Observation) -> Option<String> {
    Some(match observation {
        Observation::Initiated { txn } => format!("{txn} is in the log"),
        Observation::LockWait { txn, key, .. } => format!("{txn} waits for {key}"),
        Observation::Locked { txn, .. } => format!("{txn} has its locks"),
        Observation::Unlocked { txn, .. } => format!("{txn} releases its locks"),
        Observation::Applied { txn, position, .. } => format!("{txn} applied at {position}"),
        Observation::Ended { txn, .. } => format!("{txn} ends"),
        Observation::Returned { txn, .. } => format!("{txn} returns"),
        // The log has interaction tests of its own.
        Observation::Mark(mark) if mark.starts_with("log.") => return None,
        Observation::Mark(mark) => (*mark).to_string(),
        _ => return None,
    })
}

fn play(sequencers: Sequencers, script: &str) -> String {
    let mut cluster = Cluster::new(sequencers);
    cluster.quiet = true;
    for (at, machine) in NAMES.iter().enumerate() {
        // Clients start when they are told to.
        if !machine.ends_with("client") {
            cluster.boot(at);
        }
    }
    cluster.run();
    cluster.quiet = false;
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        cluster.command(line);
    }
    cluster.text
}

#[test]
fn a_purchase_across_two_shards() {
    let script = "
        elect a/front 0
        start a/client 1
        epoch a/front 0
        rows
    ";
    insta::assert_snapshot!(play(Sequencers::OneGroup, script));
}

#[test]
fn a_purchase_waits_for_the_watermarks_of_idle_groups() {
    let script = "
        elect a/front 0
        elect b/front 1
        elect c/front 2
        start a/client 1
        epoch a/front 0
        rows
    ";
    insta::assert_snapshot!(play(Sequencers::GroupPerRegion, script));
}

#[test]
fn a_request_that_another_region_sequences_again_is_answered_from_there_and_changes_nothing() {
    let script = "
        elect b/front 0
        start a/client 1
        cut a/client
        epoch b/front 0
        heal
        resend a/client 1
        epoch b/front 0
        rows
    ";
    insta::assert_snapshot!(play(Sequencers::OneGroup, script));
}

#[test]
fn a_reconnaissance_that_was_overtaken_is_repeated() {
    let script = "
        elect a/front 0
        start a/client 3
        start a/client 2
        epoch a/front 0
        epoch a/front 0
        rows
    ";
    insta::assert_snapshot!(play(Sequencers::OneGroup, script));
}

#[test]
fn a_shard_that_lost_its_peers_reads_asks_for_them_and_one_that_restarts_replays() {
    let script = "
        elect b/front 0
        start a/client 1
        cut a/bonds
        epoch b/front 0
        heal
        gathering a/cash
        housekeeping a/bonds
        housekeeping a/bonds
        restart a/cash
        rows
    ";
    insta::assert_snapshot!(play(Sequencers::OneGroup, script));
}
