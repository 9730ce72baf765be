//! Replicated logs in the simulated world: crashes with torn disks, partitions, failing and slow flushes, damaged reads, pauses
//! and skewed, drifting, stepping clocks, over many seeds. The log-safety monitor judges what replicas
//! state, and a second monitor holds what they state against what they hold. Multi-Paxos runs in the same worlds.
//!
//! Each replica also plays a client that retries its commands until it sees them applied, so that commands
//! enter the log more than once; sessions let each take effect once.

use std::collections::BTreeMap;

use crate::support::{MS, SECOND, addr, fault, nodes, world};
use ordain::base::digest::stable_hash;
use ordain::base::monitor::{Monitor, Violation};
use ordain::base::observation::{LogEvent, Observation, Observed};
use ordain::base::options::{Millis, MillisRange, Number};
use ordain::base::process::{Addr, Delay, Effects, FileId, Input, Process, WallTime, Wire};
use ordain::consensus::session::{Applied, Sessions};
use ordain::consensus::{
    Algorithm, Config, Delivery, Index, Log, LogEffects, LogMessage, LogTimer, Options, Term,
};
use ordain::fault::{CrashLoss, Fault, FaultKind, Latency};
use ordain::plan::Environment;
use ordain::protocol::Deployment;
use ordain::sim::{Record, Run, simulate};
use ordain::verdict::log_safety::LogSafety;
use serde::{Deserialize, Serialize};

/// Commands of each client.
const COMMANDS: u64 = 30;

/// What all replicas compute: how often each command took effect.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct State {
    sessions: Sessions<()>,
    effects: BTreeMap<u64, u32>,
    repeated: u64,
}

/// A replica of the log, its state machine, and a client.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Replica {
    me: Addr,
    members: Vec<Addr>,
    log: Log<u64>,
    state: State,
    applied: Index,
    /// Where the next attempt goes.
    turn: usize,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Message {
    Log(LogMessage<u64>),
    Please(u64),
}

impl Wire for Message {
    fn label(&self) -> &'static str {
        match self {
            Message::Log(message) => message.label(),
            Message::Please(_) => "please",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Timer {
    Log(LogTimer),
    Retry,
}

fn command(client: Addr, number: u64) -> u64 {
    u64::from(client.node.0) * 1_000 + number
}

impl Replica {
    fn new(me: Addr, members: Vec<Addr>, algorithm: Algorithm) -> Self {
        let config = Config {
            group: 3,
            me,
            members: members.clone(),
            file: FileId(0),
            flush_owner: 0,
            options: options(algorithm),
        };
        Self {
            me,
            members,
            log: Log::new(config),
            state: State {
                sessions: Sessions::new(100),
                effects: BTreeMap::new(),
                repeated: 0,
            },
            applied: 0,
            turn: 0,
        }
    }

    /// Tries the first command that has not been seen to take effect.
    fn retry(&mut self, out: &mut Effects<Message, Timer>) {
        let missing = |number: &u64| !self.state.effects.contains_key(&command(self.me, *number));
        if let Some(number) = (1..=COMMANDS).find(missing) {
            let to = self.log.leader().unwrap_or(self.members[self.turn]);
            self.turn = (self.turn + 1) % self.members.len();
            out.send(to, Message::Please(command(self.me, number)));
        }
        out.set_timer(Timer::Retry, Delay::between(20 * MS, 60 * MS));
    }

    fn apply(&mut self, delivery: Delivery<u64>) {
        match delivery {
            Delivery::Snapshot(snapshot) => {
                self.state = postcard::from_bytes(&snapshot.state).unwrap();
                self.applied = snapshot.last.index;
            }
            Delivery::Entry { position, command } => {
                assert!(position.index > self.applied);
                self.applied = position.index;
                let effects = &mut self.state.effects;
                let effect = || *effects.entry(command).or_default() += 1;
                let applied = self
                    .state
                    .sessions
                    .apply(command / 1_000, command % 1_000, effect);
                self.state.repeated += u64::from(applied != Applied::Fresh(()));
            }
            Delivery::ReadReady { .. } | Delivery::ReadRefused { .. } => {
                unreachable!("nobody reads")
            }
        }
    }
}

impl Process for Replica {
    type Message = Message;
    type Timer = Timer;

    fn step(
        &mut self,
        now: WallTime,
        input: Input<Message, Timer>,
        out: &mut Effects<Message, Timer>,
    ) {
        let mut log_out = LogEffects::default();
        let input = match input {
            Input::Boot(disk) => {
                out.set_timer(Timer::Retry, Delay::exactly(50 * MS));
                Some(Input::Boot(disk))
            }
            Input::Message {
                from,
                message: Message::Log(message),
            } => Some(Input::Message { from, message }),
            Input::Message {
                message: Message::Please(command),
                ..
            } => {
                // Whoever asked asks again.
                let _ = self.log.propose(command, &mut log_out);
                None
            }
            Input::Timer(Timer::Log(timer)) => Some(Input::Timer(timer)),
            Input::Timer(Timer::Retry) => {
                self.retry(out);
                None
            }
            Input::Flushed(flush) => Some(Input::Flushed(flush)),
            Input::FlushFailed(flush) => Some(Input::FlushFailed(flush)),
        };
        if let Some(input) = input {
            self.log.step(now, input, &mut log_out);
        }
        for delivery in self.log.take_deliveries() {
            self.apply(delivery);
        }
        if self.applied > self.log.snapshot_last().index + 20 {
            let state = postcard::to_stdvec(&self.state).unwrap();
            self.log.compact(self.applied, state, &mut log_out);
        }
        out.absorb(&mut log_out, Message::Log, Timer::Log);
    }
}

fn options(algorithm: Algorithm) -> Options {
    Options {
        algorithm,
        heartbeat_ms: Millis::new(20),
        election_ms: MillisRange::new(100, 200),
        max_batch: Number::new(4),
        max_in_flight: Number::new(4),
    }
}

/// Rebuilds each replica's log from what it states, and compares it with the log after every step.
#[derive(Default)]
struct Faithful {
    told: BTreeMap<Addr, Told>,
    compared: u64,
}

#[derive(Default, Clone)]
struct Told {
    base: Index,
    entries: BTreeMap<Index, (Term, u64)>,
    committed: Index,
}

impl Monitor<Replica> for Faithful {
    fn observe(&mut self, observed: &Observed) -> Result<(), Violation> {
        let Observation::Log { event, .. } = &observed.what else {
            return Ok(());
        };
        let told = self.told.entry(observed.by).or_default();
        match *event {
            LogEvent::Restarted { snapshot_index, .. } => {
                *told = Told {
                    base: snapshot_index,
                    entries: BTreeMap::new(),
                    committed: snapshot_index,
                }
            }
            LogEvent::BecameLeader { .. } | LogEvent::WonBallot { .. } => {}
            LogEvent::Appended {
                index,
                term,
                content,
            } => {
                told.entries.insert(index, (term, content));
            }
            LogEvent::Truncated { from } => {
                told.entries.split_off(&from);
            }
            LogEvent::Committed { index } => told.committed = index,
            LogEvent::Compacted { index, term } => {
                let after = told.entries.split_off(&(index + 1));
                let held = told.entries.get(&index).map(|(term, _)| *term);
                told.entries = if held == Some(term) {
                    after
                } else {
                    BTreeMap::new()
                };
                told.base = index;
                told.committed = told.committed.max(index);
            }
        }
        Ok(())
    }

    fn watches_steps(&self) -> bool {
        true
    }

    fn after_step(&mut self, at_ns: u64, by: Addr, process: &Replica) -> Result<(), Violation> {
        let (log, told) = (&process.log, self.told.entry(by).or_default());
        if *log == Replica::new(by, process.members.clone(), Algorithm::Raft).log {
            return Ok(()); // It found its file damaged and stopped at once: there is no log to speak of.
        }
        let held = |index: Index| {
            let entry = log.entry(index).expect("between snapshot and end");
            (index, (entry.term, stable_hash(&entry.command)))
        };
        let base = log.snapshot_last().index;
        let entries: BTreeMap<_, _> = (base + 1..=log.last().index).map(held).collect();
        self.compared += 1;
        if (told.base, &told.entries, told.committed) == (base, &entries, log.committed()) {
            return Ok(());
        }
        Err(Violation {
            at_ns,
            by,
            property: "faithful-observations",
            explanation: format!("told {:?}, holds {entries:?}", told.entries),
        })
    }
}

/// Ends the run when every replica has seen every command take effect.
struct AllDone {
    missing: BTreeMap<Addr, u64>,
}

impl Monitor<Replica> for AllDone {
    fn observe(&mut self, _observed: &Observed) -> Result<(), Violation> {
        Ok(())
    }

    fn watches_steps(&self) -> bool {
        true
    }

    fn after_step(&mut self, _at_ns: u64, by: Addr, process: &Replica) -> Result<(), Violation> {
        let total = COMMANDS * process.members.len() as u64;
        let missing = total - process.state.effects.len() as u64;
        self.missing.insert(by, missing);
        Ok(())
    }

    fn settled(&self) -> bool {
        self.missing.values().all(|missing| *missing == 0)
    }
}

/// Small numbers that follow from a seed.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        stable_hash(&self.0) % bound
    }
}

fn environment(size: u16, draws: &mut Draws) -> Environment {
    let mut environment = world(size);
    environment.safety_ns = 4 * SECOND;
    environment.settle_ns = 10 * SECOND;
    for machine in &mut environment.machines {
        machine.clock_offset_ns = draws.below(1_000 * MS) as i64 - 500 * MS as i64;
        machine.clock_drift_ppm = draws.below(20_001) as i32 - 10_000;
        machine.handle_ns = 20_000;
        machine.flush = Latency {
            base_ns: MS / 2,
            jitter_ns: MS,
        };
    }
    let link = &mut environment.link_classes[0];
    link.latency.jitter_ns = 2 * MS;
    (link.loss_ppm, link.duplicate_ppm, link.reorder_ppm) = (10_000, 10_000, 50_000);
    environment
}

fn faults(size: u16, draws: &mut Draws) -> Vec<Fault> {
    let one = |draws: &mut Draws| {
        let node = draws.below(u64::from(size)) as u16;
        let (mine, others): (Vec<u16>, Vec<u16>) = (0..size).partition(|other| *other == node);
        let (mine, others) = (nodes(&mine), nodes(&others));
        let loss = match draws.below(3) {
            0 => CrashLoss::Lost,
            1 => CrashLoss::Kept,
            _ => CrashLoss::Torn(draws.below(65_536) as u16),
        };
        match draws.below(9) {
            0..=2 => FaultKind::Crash { nodes: mine, loss },
            3 => FaultKind::Cut {
                from: mine,
                to: others,
                both_ways: draws.below(2) == 0,
            },
            4 => FaultKind::Pause { nodes: mine },
            5 => FaultKind::SlowFlush {
                nodes: mine,
                percent: 5_000,
            },
            6 => FaultKind::FailFlush {
                nodes: mine,
                probability_ppm: 100_000,
                kept_ppm: 500_000,
            },
            7 => FaultKind::CorruptRead {
                node: mine[0],
                port: 0,
                file: 0,
                position: draws.below(1 << 32) as u32,
            },
            _ => FaultKind::ClockStep {
                nodes: mine,
                by_ns: -(draws.below(SECOND) as i64),
            },
        }
    };
    (0..12)
        .map(|_| {
            let kind = one(draws);
            fault(draws.below(3_500), 20 + draws.below(600), kind)
        })
        .collect()
}

fn run(algorithm: Algorithm, seed: u64) -> Record<Replica> {
    let mut draws = Draws(seed << 32);
    let size = [3, 5][draws.below(2) as usize];
    let environment = environment(size, &mut draws);
    let faults = faults(size, &mut draws);
    let members: Vec<Addr> = (0..size).map(addr).collect();
    let replica = |me: &Addr| vec![Replica::new(*me, members.clone(), algorithm)];
    let deployment = Deployment {
        processes: members.iter().map(replica).collect(),
    };
    let mut run = Run::new(&environment, deployment, seed);
    run.faults = &faults;
    let missing = members.iter().map(|member| (*member, 1)).collect();
    run.monitors = vec![
        Box::new(LogSafety::default()),
        Box::new(AllDone { missing }),
    ];
    if algorithm == Algorithm::Raft {
        run.monitors.push(Box::new(Faithful::default()));
    }
    simulate(run).expect("the inputs fit")
}

/// Runs many seeds, and gives how many machines halted, commands were repeated and snapshots installed.
fn survive(algorithm: Algorithm, seeds: std::ops::Range<u64>) -> (usize, u64, u64) {
    let (mut halts, mut repeated, mut snapshots) = (0, 0, 0);
    for seed in seeds {
        let record = run(algorithm, seed);
        assert_eq!(record.violations, [], "seed {seed}");
        assert_eq!(record.panics, [], "seed {seed}");
        assert!(record.marks.settled, "seed {seed} makes no progress");
        let mut complete = 0;
        for (_, replica) in &record.processes {
            let effects = &replica.state.effects;
            assert!(effects.values().all(|times| *times == 1), "seed {seed}");
            let commands = COMMANDS * replica.members.len() as u64;
            complete += u64::from(effects.len() as u64 == commands);
            repeated += replica.state.repeated;
        }
        // One that came back at the very end may still be reading its log.
        assert!(complete >= 2, "seed {seed}: {complete}");
        halts += record.halts.len();
        let installed = record.messages.get("install-snapshot");
        snapshots += installed.map_or(0, |counts| counts.delivered);
    }
    (halts, repeated, snapshots)
}

#[test]
fn raft_is_safe_and_every_command_takes_effect_once_in_hundreds_of_hostile_runs() {
    let (halts, repeated, snapshots) = survive(Algorithm::Raft, 0..300);
    assert!(halts > 100, "failed flushes and damaged reads: {halts}");
    assert!(repeated > 100, "commands that entered twice: {repeated}");
    assert!(snapshots > 100, "snapshots installed: {snapshots}");
}

#[test]
fn multi_paxos_agrees_and_every_command_takes_effect_once_in_hundreds_of_hostile_runs() {
    let (halts, repeated, snapshots) = survive(Algorithm::MultiPaxos, 0..200);
    assert!(halts > 60, "failed flushes and damaged reads: {halts}");
    assert!(repeated > 60, "commands that entered twice: {repeated}");
    assert!(snapshots > 60, "snapshots installed: {snapshots}");
}

#[test]
fn an_idle_group_sends_nothing_but_heartbeats() {
    let environment = Environment {
        safety_ns: 2 * SECOND,
        settle_ns: 0,
        ..world(3)
    };
    let members: Vec<Addr> = (0..3).map(addr).collect();
    let silent = |me: &Addr| {
        let mut replica = Replica::new(*me, members.clone(), Algorithm::Raft);
        // As if every command had taken effect.
        let all = members
            .iter()
            .flat_map(|c| (1..=COMMANDS).map(|n| (command(*c, n), 1)));
        replica.state.effects = all.collect();
        vec![replica]
    };
    let deployment = Deployment {
        processes: members.iter().map(silent).collect(),
    };
    let record = simulate(Run::new(&environment, deployment, 1)).expect("the inputs fit");
    let sent = |label: &str| record.messages.get(label).map_or(0, |counts| counts.sent);
    // One election, one no-op entry; then two heartbeats and two replies every 20 ms, and no flush.
    assert_eq!(sent("request-vote"), 2);
    assert_eq!(sent("append-entries"), 2);
    assert!(sent("heartbeat") <= 2 * (2 * SECOND / (20 * MS)) + 2);
    assert_eq!(
        sent("append-reply"),
        sent("heartbeat") + sent("append-entries")
    );
    assert!(record.flushes <= 8, "{}", record.flushes);
}

#[test]
fn a_run_is_the_same_every_time() {
    for algorithm in [Algorithm::Raft, Algorithm::MultiPaxos] {
        assert_eq!(run(algorithm, 7).digest, run(algorithm, 7).digest);
    }
}
