//! Small processes and worlds for the tests of the simulated world.
#![allow(dead_code, reason = "every test file uses its part")]

use ordain::base::observation::Observation;
use ordain::base::process::{
    Addr, Delay, Effects, FileId, FlushId, Input, NodeId, Process, WallTime, Wire,
};
use ordain::fault::{Fault, FaultKind, Latency, Link, When};
use ordain::plan::{Environment, Machine};
use ordain::protocol::Deployment;
use ordain::sim::{Record, Run, simulate};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;

pub fn addr(node: u16) -> Addr {
    Addr {
        node: NodeId(node),
        port: 0,
    }
}

pub fn nodes(numbers: &[u16]) -> Vec<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

/// Machines with links of 1 ms each way, no cost of anything, one second of safety and one of settling.
pub fn world(machines: u16) -> Environment {
    let machine = |number| Machine {
        name: format!("m{number}"),
        client: false,
        region: 0,
        zone: 0,
        clock_offset_ns: 0,
        clock_drift_ppm: 0,
        handle_ns: 0,
        operation_ns: 0,
        flush: Latency {
            base_ns: MS,
            jitter_ns: 0,
        },
    };
    let link = Link {
        latency: Latency {
            base_ns: MS,
            jitter_ns: 0,
        },
        bandwidth: 0,
        loss_ppm: 0,
        duplicate_ppm: 0,
        reorder_ppm: 0,
    };
    Environment {
        machines: (0..machines).map(machine).collect(),
        links: vec![vec![0; usize::from(machines)]; usize::from(machines)],
        link_classes: vec![link],
        supervisor_ns: 50 * MS,
        safety_ns: SECOND,
        settle_ns: SECOND,
        power_cycle_ns: 0,
    }
}

/// A fault from `from_ms` on that lasts `for_ms`.
pub fn fault(from_ms: u64, for_ms: u64, kind: FaultKind) -> Fault {
    Fault {
        when: When::At(from_ms * MS),
        for_ns: Some(for_ms * MS),
        permanent: false,
        kind,
    }
}

/// What one machine does in a test.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Sends a number to another machine at a steady pace, counting from 1.
    Ticker { to: Addr, every: Delay },
    /// Notes what arrives, and answers each number.
    Echo,
    /// Appends and flushes a byte at a steady pace.
    Writer { every_ns: u64 },
    /// Appends a byte at a steady pace and never flushes.
    Hoarder { every_ns: u64 },
    /// Panics at the message with this number.
    Fragile(u64),
    /// Charges so many operations for every message, then answers.
    Worker(u32),
    /// Does nothing.
    Idle,
}

/// A process for tests. `seen` and `disk` are what it would show at an autopsy.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Actor {
    pub role: Role,
    pub sent: u64,
    /// Numbers received, with the wall clock's reading.
    pub seen: Vec<(Addr, u64, WallTime)>,
    /// What the last boot found in file 0.
    pub booted_with: Vec<u8>,
    /// Flushes that succeeded and failed, with the wall clock's reading.
    pub flushed: Vec<(u64, bool, WallTime)>,
    /// When timers fired.
    pub fired: Vec<WallTime>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tick;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Number {
    Ask(u64),
    Answer(u64),
}

impl Wire for Number {
    fn label(&self) -> &'static str {
        match self {
            Number::Ask(_) => "ask",
            Number::Answer(_) => "answer",
        }
    }

    fn size_bytes(&self) -> u32 {
        1_000
    }
}

impl Actor {
    pub fn new(role: Role) -> Self {
        Self {
            role,
            sent: 0,
            seen: Vec::new(),
            booted_with: Vec::new(),
            flushed: Vec::new(),
            fired: Vec::new(),
        }
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.seen.iter().map(|(_, number, _)| *number).collect()
    }

    fn pace(&self) -> Option<Delay> {
        match self.role {
            Role::Ticker { every, .. } => Some(every),
            Role::Writer { every_ns } | Role::Hoarder { every_ns } => {
                Some(Delay::exactly(every_ns))
            }
            _ => None,
        }
    }

    fn tick(&mut self, out: &mut Effects<Number, Tick>) {
        self.sent += 1;
        let byte = vec![self.sent as u8];
        match self.role {
            Role::Ticker { to, .. } => out.send(to, Number::Ask(self.sent)),
            Role::Writer { .. } => {
                out.append(FileId(0), byte);
                out.flush(FlushId {
                    owner: 0,
                    sequence: self.sent,
                });
            }
            Role::Hoarder { .. } => out.append(FileId(0), byte),
            _ => {}
        }
    }

    fn receive(&mut self, from: Addr, number: u64, out: &mut Effects<Number, Tick>) {
        match self.role {
            Role::Fragile(limit) => assert_ne!(number, limit, "this number is too much"),
            Role::Worker(operations) => out.work(operations),
            Role::Echo => out.observe(Observation::Mark("asked")),
            _ => {}
        }
        out.send(from, Number::Answer(number));
    }
}

impl Process for Actor {
    type Message = Number;
    type Timer = Tick;

    fn step(&mut self, now: WallTime, input: Input<Number, Tick>, out: &mut Effects<Number, Tick>) {
        match input {
            Input::Boot(disk) => {
                self.booted_with = disk.file(FileId(0)).to_vec();
                if let Some(pace) = self.pace() {
                    out.set_timer(Tick, pace);
                }
            }
            Input::Timer(Tick) => {
                self.fired.push(now);
                self.tick(out);
                out.set_timer(Tick, self.pace().expect("only paced roles set timers"));
            }
            Input::Message { from, message } => match message {
                Number::Ask(number) => {
                    self.seen.push((from, number, now));
                    self.receive(from, number, out);
                }
                Number::Answer(number) => self.seen.push((from, number, now)),
            },
            Input::Flushed(flush) => self.flushed.push((flush.sequence, true, now)),
            Input::FlushFailed(flush) => self.flushed.push((flush.sequence, false, now)),
        }
    }
}

/// One actor on each machine.
pub fn actors(roles: &[Role]) -> Deployment<Actor> {
    let actor = |role: &Role| vec![Actor::new(role.clone())];
    Deployment {
        processes: roles.iter().map(actor).collect(),
    }
}

/// Sends to machine 1 every 10 ms.
pub fn ticker() -> Role {
    Role::Ticker {
        to: addr(1),
        every: Delay::exactly(10 * MS),
    }
}

/// Runs a ticker on machine 0 and an echo on machine 1 under faults.
pub fn ping(environment: &Environment, faults: &[Fault]) -> Record<Actor> {
    run(environment, faults, &[ticker(), Role::Echo])
}

pub fn run(environment: &Environment, faults: &[Fault], roles: &[Role]) -> Record<Actor> {
    let mut run = Run::new(environment, actors(roles), 1);
    run.faults = faults;
    run.options.trace = true;
    simulate(run).expect("the inputs fit")
}

/// The actor on a machine at the end.
pub fn actor(record: &Record<Actor>, node: u16) -> &Actor {
    let found = record.processes.iter().find(|(at, _)| *at == addr(node));
    &found.expect("the machine is up").1
}
