//! The world: what happens next, and what follows from it.
//!
//! Everything here is ordinary sequential code over one heap of events; [`super::pump`] runs it on madsim.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use madsim::time::TimeHandle;

use super::clock::{Clock, Clocks};
use super::disk::{Disks, FlushTicket, slowed};
use super::faults::Strikes;
use super::guest::GuestState;
use super::heap::EventHeap;
use super::network::{Network, Routed};
use super::{Halted, Marks, MessageCounts, Options, panics};
use crate::base::digest::{StableHasher, stable_hash};
use crate::base::monitor::{Monitor, Violation};
use crate::base::observation::{Observation, Observed, Panicked};
use crate::base::process::{
    Addr, Effect, Effects, FlushId, Input, NodeId, Process, WallTime, Wire,
};
use crate::fault::CrashLoss;
use crate::plan::Environment;
use crate::sim::trace::{DropReason, TraceEvent, TraceKind};

/// A machine whose processes panic this often stays down: its supervisor gives up.
const PANICS_MAX: u32 = 10;

/// How often processes are asked whether they have recovered, while the autopsy waits for them.
const LOOK_EVERY_NS: u64 = 100_000_000;

/// Room for the observations of an ordinary run: with less they would be copied as they grow.
const OBSERVATIONS: usize = 8192;

/// Something scheduled.
pub(super) enum Event<M, T> {
    Arrive(Letter<M>),
    Timer {
        of: Addr,
        timer: T,
        arming: u64,
    },
    FlushDone {
        of: Addr,
        ticket: FlushTicket,
    },
    /// The machine's CPU is done with its job, unless a crash came in between.
    CpuDone {
        node: NodeId,
        job: u32,
    },
    FaultBegins(usize),
    FaultEnds(usize),
    /// A flapping link changes, unless the fault has ended.
    Flap(usize),
    /// The supervisor starts the machine again after a halt.
    Supervise(NodeId),
    PhaseEnds(Phase),
    /// An async guest's sleep is over.
    GuestWakes {
        node: NodeId,
        sleeper: u64,
    },
}

/// A message under way.
pub(super) struct Letter<M> {
    pub(super) id: u64,
    pub(super) from: Addr,
    pub(super) to: Addr,
    label: u16,
    hash: u64,
    pub(super) message: M,
}

/// The phases of a run, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Phase {
    Safety,
    Settle,
    /// After the power cut, if there is one, until processes have recovered.
    Recovery,
    Over,
}

/// What the pump must do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// The machine's task steps the process whose input is next.
    Step(NodeId),
    /// madsim must act on a node.
    Power(Power),
    /// Async guests were woken, or nothing happens before the limit.
    Guests,
    /// Every machine's task shows its processes to the monitors.
    Look,
    /// The run is over.
    Finish,
}

/// What happens to a machine as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Power {
    Off(NodeId, CrashLoss),
    On(NodeId),
    /// An async guest stands still; madsim does that.
    Pause(NodeId),
    Resume(NodeId),
}

/// An input that waits for its machine's CPU.
struct Queued<M, T> {
    port: u8,
    input: Waiting<M, T>,
}

enum Waiting<M, T> {
    Boot,
    Letter(Letter<M>),
    Timer(T),
    Flushed(FlushId, bool),
}

/// What a machine's CPU is doing.
enum Job<M, T> {
    Idle,
    /// Handling the input at the head of the queue; its step comes when the time has passed.
    Handling,
    /// Working off what a step charged; its effects come when the time has passed.
    Working(Addr, Effects<M, T>),
}

/// A machine: its CPU, and whether it is up.
pub(super) struct Machine<M, T> {
    queue: VecDeque<Queued<M, T>>,
    job: Job<M, T>,
    /// Tells the end of the current job from those of jobs that a crash or a pause stopped.
    job_number: u32,
    /// The job is done, and its outcome waits for the end of a pause.
    overdue: bool,
    pub(super) ports: usize,
    pub(super) slowdowns: Vec<u32>,
    /// Faults that pause it.
    pub(super) pauses: u32,
    /// Faults that keep it down.
    pub(super) downs: u32,
    panics: u32,
    flushes: Vec<u64>,
    /// Its clock as it runs now: kept here because every step reads it.
    clock: Clock,
}

/// A host task's place in the pump.
#[derive(Default)]
pub(super) struct Host {
    /// The task's waker, once it has been polled.
    pub(super) waker: Option<Waker>,
}

/// All of a run.
pub(super) struct World<P: Process> {
    pub(super) environment: Arc<Environment>,
    pub(super) options: Options,
    pub(super) network: Arc<Network>,
    pub(super) disks: Arc<Disks>,
    pub(super) clocks: Arc<Clocks<P::Timer>>,
    madsim_time: TimeHandle,
    /// madsim's clock at our time zero.
    madsim_origin: Duration,

    pub(super) now_ns: u64,
    pub(super) events: u64,
    pub(super) phase: Phase,
    pub(super) heap: EventHeap<Event<P::Message, P::Timer>>,
    /// Scheduled timer events that are no longer armed.
    stale_timers: usize,
    pub(super) machines: Vec<Machine<P::Message, P::Timer>>,
    /// Machines whose CPU is done with a job, by its number.
    ready: VecDeque<(NodeId, u32)>,
    /// Emptied lists of effects, to be filled again: at most one for each machine.
    spare: Vec<Effects<P::Message, P::Timer>>,
    pub(super) power: VecDeque<Power>,
    pub(super) strikes: Strikes,
    pub(super) guests: BTreeMap<NodeId, GuestState<P::Message>>,
    /// A guest was woken and has not run yet.
    pub(super) guests_woken: bool,
    /// A guest did something that may come before what the pump waits for.
    pub(super) poked: bool,

    // The pump's side.
    pub(super) hosts: Vec<Host>,
    pub(super) turn_of: Option<NodeId>,
    pub(super) handed_to_pump: Option<Turn>,
    pub(super) pump_waker: Option<Waker>,
    pub(super) handing_over: bool,
    /// The monitors are to look at all processes.
    look_due: bool,
    /// Machines' tasks show their processes instead of stepping them.
    pub(super) looking: bool,
    /// What stayed broken has been repaired for the autopsy.
    repaired: bool,

    // What the run leaves behind.
    digest: StableHasher,
    next_letter: u64,
    labels: Vec<(&'static str, MessageCounts, MessageCounts)>,
    pub(super) observations: Vec<Observed>,
    pub(super) panics: Vec<Panicked>,
    pub(super) halts: Vec<Halted>,
    pub(super) violations: Vec<Violation>,
    pub(super) trace: Vec<TraceEvent>,
    pub(super) marks: Marks,
    pub(super) monitors: Vec<Box<dyn Monitor<P>>>,
    /// Positions of those among them that watch steps.
    step_watchers: Vec<usize>,
    /// Something was observed since the monitors were last asked whether all is settled.
    unasked: bool,
    pub(super) processes: Vec<(Addr, P)>,
}

impl<P: Process> World<P> {
    pub(super) fn new(
        environment: Arc<Environment>,
        options: Options,
        plugins: (Arc<Network>, Arc<Disks>, Arc<Clocks<P::Timer>>),
        ports: &[usize],
        strikes: Strikes,
        monitors: Vec<Box<dyn Monitor<P>>>,
    ) -> Self {
        let machines = environment.machines.iter().enumerate();
        let machines: Vec<_> = machines
            .map(|(node, _)| {
                let clock = plugins.2.lock().clock(NodeId(node as u16));
                Machine::new(ports.get(node).copied().unwrap_or(0), clock)
            })
            .collect();
        let madsim_time = TimeHandle::current();
        let (network, disks, clocks) = plugins;
        Self {
            madsim_origin: madsim_time.elapsed(),
            madsim_time,
            network,
            disks,
            clocks,
            now_ns: 0,
            events: 0,
            phase: Phase::Safety,
            heap: EventHeap::default(),
            stale_timers: 0,
            hosts: machines.iter().map(|_| Host::default()).collect(),
            machines,
            ready: VecDeque::new(),
            spare: Vec::new(),
            power: VecDeque::new(),
            strikes,
            guests: BTreeMap::new(),
            guests_woken: false,
            poked: false,
            turn_of: None,
            handed_to_pump: None,
            pump_waker: None,
            handing_over: false,
            look_due: false,
            looking: false,
            repaired: false,
            digest: StableHasher::default(),
            next_letter: 0,
            labels: Vec::new(),
            observations: Vec::with_capacity(OBSERVATIONS),
            panics: Vec::new(),
            halts: Vec::new(),
            violations: Vec::new(),
            trace: Vec::new(),
            marks: Marks::default(),
            step_watchers: { monitors.iter().enumerate() }
                .filter_map(|(at, monitor)| monitor.watches_steps().then_some(at))
                .collect(),
            monitors,
            unasked: false,
            processes: Vec::new(),
            environment,
            options,
        }
    }

    /// Schedules the phases and the faults, and boots every machine.
    pub(super) fn start(&mut self) {
        self.madsim_origin = self.madsim_time.elapsed();
        self.guests_woken = !self.guests.is_empty();
        let safety_ns = self.environment.safety_ns;
        self.heap.push(safety_ns, Event::PhaseEnds(Phase::Safety));
        for (fault, at_ns) in self.strikes.timed(safety_ns) {
            self.heap.push(at_ns, Event::FaultBegins(fault));
        }
        for node in 0..self.machines.len() {
            self.boot(NodeId(node as u16));
        }
    }

    /// The machine is on: its processes boot, in order.
    pub(super) fn boot(&mut self, node: NodeId) {
        for port in 0..self.machines[usize::from(node.0)].ports {
            self.arrive(
                Addr {
                    node,
                    port: port as u8,
                },
                Waiting::Boot,
            );
        }
    }

    /// What happens next, if it happens by `limit_ns`.
    pub(super) fn next_turn(&mut self, limit_ns: u64) -> Turn {
        loop {
            if let Some(power) = self.power.pop_front() {
                return Turn::Power(power);
            }
            if self.phase == Phase::Over || self.must_stop() {
                self.phase = Phase::Over;
                return Turn::Finish;
            }
            if std::mem::take(&mut self.look_due) {
                return Turn::Look;
            }
            if let Some(fault) = self.strikes.due(self.events) {
                self.begin_fault(fault);
                continue;
            }
            if std::mem::take(&mut self.unasked) && self.phase == Phase::Settle && self.settled() {
                self.end_settle(true);
                continue;
            }
            if let Some((node, job)) = self.ready.pop_front() {
                if self.cpu_done(node, job) {
                    return Turn::Step(node);
                }
                continue;
            }
            if self.guests_woken || self.heap.next_at_ns().is_none_or(|at_ns| at_ns > limit_ns) {
                return Turn::Guests;
            }
            let (at_ns, event) = self.heap.pop().expect("the heap was just looked at");
            self.go_to(at_ns);
            self.happen(event);
        }
    }

    /// Whether something is to be done before time moves on.
    pub(super) fn has_work_at_once(&self) -> bool {
        !self.power.is_empty()
            || !self.ready.is_empty()
            || self.strikes.is_due(self.events)
            || self.unasked
            || self.look_due
            || self.must_stop()
    }

    fn must_stop(&self) -> bool {
        self.events >= self.options.events_max
            || (self.options.stop_on_violation && !self.violations.is_empty())
    }

    /// Moves the time on.
    pub(super) fn go_to(&mut self, at_ns: u64) {
        assert!(at_ns >= self.now_ns, "time went backwards");
        self.now_ns = at_ns;
        if !self.guests.is_empty() {
            self.lead_madsim();
        }
    }

    /// Moves madsim's clock up to ours, whenever guests may read it, and when madsim kills or restarts a node. It
    /// gains 50 to 100 ns with every poll, so it may run ahead. It decides nothing.
    pub(super) fn lead_madsim(&mut self) {
        let target = self.madsim_origin + Duration::from_nanos(self.now_ns);
        if let Some(behind) = target.checked_sub(self.madsim_time.elapsed()) {
            self.madsim_time.advance(behind);
        }
    }

    /// What a machine's wall clock shows.
    pub(super) fn wall(&self, node: NodeId) -> WallTime {
        self.machines[usize::from(node.0)].clock.wall(self.now_ns)
    }

    /// A machine's clock was changed.
    pub(super) fn read_clock_anew(&mut self, node: NodeId) {
        let clock = self.clocks.lock().clock(node);
        self.machine(node).clock = clock;
    }

    /// How far madsim's clock has come, on our scale.
    pub(super) fn madsim_ns(&self) -> u64 {
        (self.madsim_time.elapsed() - self.madsim_origin).as_nanos() as u64
    }

    fn happen(&mut self, event: Event<P::Message, P::Timer>) {
        match event {
            Event::Arrive(letter) => self.letter_arrives(letter),
            Event::Timer { of, timer, arming } => {
                if self.clocks.lock().fire(of, &timer, arming) {
                    self.arrive(of, Waiting::Timer(timer));
                } else {
                    self.stale_timers = self.stale_timers.saturating_sub(1);
                }
            }
            Event::FlushDone { of, ticket } => {
                let ended = self.disks.lock().complete(of, ticket);
                if ended.iter().any(|(_, ok)| *ok) {
                    // Counted, so that a fault aimed at this moment finds it again without the aim.
                    self.events += 1;
                    self.strikes.watch("flush.completed", of.node, self.now_ns);
                }
                for (flush, ok) in ended {
                    self.arrive(of, Waiting::Flushed(flush, ok));
                }
            }
            Event::CpuDone { node, job } => self.ready.push_back((node, job)),
            Event::FaultBegins(fault) => self.begin_fault(fault),
            Event::FaultEnds(fault) => self.end_fault(fault),
            Event::Flap(fault) => self.flap(fault),
            Event::Supervise(node) => self.release(node),
            Event::PhaseEnds(phase) if phase == self.phase => self.end_phase(),
            Event::PhaseEnds(_) => {}
            Event::GuestWakes { node, sleeper } => self.guest_wakes(node, sleeper),
        }
    }

    pub(super) fn machine(&mut self, node: NodeId) -> &mut Machine<P::Message, P::Timer> {
        &mut self.machines[usize::from(node.0)]
    }

    // ---- the phases ------------------------------------------------------------------------------------

    fn end_phase(&mut self) {
        match self.phase {
            Phase::Safety => {
                self.heal_all();
                self.phase = Phase::Settle;
                self.unasked = true;
                self.marks.settle_began_ns = Some(self.now_ns);
                self.note(Tag::Settle, None, 0, || TraceKind::SettleBegan);
                let bound_ns = self.now_ns + self.environment.settle_ns;
                self.heap.push(bound_ns, Event::PhaseEnds(Phase::Settle));
            }
            Phase::Settle => self.end_settle(false),
            Phase::Recovery => self.look_due = true,
            Phase::Over => {}
        }
    }

    fn settled(&self) -> bool {
        self.monitors.iter().any(|monitor| monitor.settled())
    }

    fn end_settle(&mut self, settled: bool) {
        self.marks.settle_ended_ns = Some(self.now_ns);
        self.marks.settled = settled;
        self.note(Tag::Settled, None, u64::from(settled), || {
            TraceKind::SettleEnded { settled }
        });
        self.phase = Phase::Recovery;
        if self.environment.power_cycle_ns == 0 {
            // If nobody waits for anything, the state is read as it stands.
            self.look_due = true;
            return;
        }
        self.marks.power_cycled_ns = Some(self.now_ns);
        self.note(Tag::PowerCycle, None, 0, || TraceKind::PowerCycled);
        for node in 0..self.machines.len() {
            let node = NodeId(node as u16);
            self.hold_down(node, CrashLoss::Lost);
            if !self.environment.machines[usize::from(node.0)].client {
                self.release(node);
            }
        }
        self.repair();
        let end_ns = self.now_ns + self.environment.power_cycle_ns;
        self.heap.push(end_ns, Event::PhaseEnds(Phase::Recovery));
    }

    /// Somebody carries the disks of all machines into a room where power and network work. What they hold is read
    /// there, by the processes' own recovery. Clients take no part: they ask nothing any more.
    fn repair(&mut self) {
        self.repaired = true;
        self.end_what_keeps_from_recovery();
    }

    /// Shows the processes of a machine to the monitors.
    pub(super) fn show(&mut self, node: NodeId, processes: &[P]) {
        for (port, process) in processes.iter().enumerate() {
            let port = port as u8;
            for monitor in &mut self.monitors {
                monitor.look(Addr { node, port }, process);
            }
        }
    }

    /// All processes have been shown: the run ends, or goes on for a while.
    pub(super) fn looked(&mut self) {
        let mut may_end = true;
        for monitor in &mut self.monitors {
            may_end &= monitor.may_end();
        }
        // A process that panics whenever it boots never recovers.
        let is_hopeless = self.machines.iter().any(|m| m.panics >= PANICS_MAX);
        let since_ns = self.marks.settle_ended_ns.unwrap_or(self.now_ns);
        let bound_ns = since_ns.saturating_add(self.environment.recovery_bound_ns());
        if may_end || is_hopeless || self.now_ns >= bound_ns {
            self.phase = Phase::Over;
            return;
        }
        if !self.repaired {
            for node in 0..self.machines.len() {
                if self.environment.machines[node].client {
                    self.hold_down(NodeId(node as u16), CrashLoss::Lost);
                }
            }
            self.repair();
        }
        let next_ns = bound_ns.min(self.now_ns + LOOK_EVERY_NS);
        self.heap.push(next_ns, Event::PhaseEnds(Phase::Recovery));
    }

    // ---- machines --------------------------------------------------------------------------------------

    /// One more reason for the machine to be down.
    pub(super) fn hold_down(&mut self, node: NodeId, loss: CrashLoss) {
        let machine = self.machine(node);
        machine.downs += 1;
        if machine.downs > 1 {
            return;
        }
        let lost = std::mem::take(&mut machine.queue);
        machine.stop_job();
        for queued in lost {
            if let Waiting::Letter(letter) = queued.input {
                self.drop_letter(&letter, DropReason::Down);
            }
        }
        self.crash_guest(node);
        self.note(Tag::Crash, Some(node), 0, || TraceKind::Crashed { node });
        self.power.push_back(Power::Off(node, loss));
    }

    /// One reason less.
    pub(super) fn release(&mut self, node: NodeId) {
        let machine = self.machine(node);
        machine.downs = machine
            .downs
            .checked_sub(1)
            .expect("the machine was not held down");
        if machine.downs == 0 {
            self.note(Tag::Restart, Some(node), 0, || TraceKind::Restarted {
                node,
            });
            self.power.push_back(Power::On(node));
        }
    }

    pub(super) fn pause(&mut self, node: NodeId) {
        self.machine(node).pauses += 1;
        if self.machine(node).pauses == 1 && self.guests.contains_key(&node) {
            self.power.push_back(Power::Pause(node));
        }
    }

    pub(super) fn resume(&mut self, node: NodeId) {
        let machine = self.machine(node);
        machine.pauses -= 1;
        if machine.pauses > 0 {
            return;
        }
        if std::mem::take(&mut machine.overdue) {
            let job = machine.job_number;
            self.ready.push_back((node, job));
        }
        if self.guests.contains_key(&node) {
            self.power.push_back(Power::Resume(node));
        }
    }

    /// An input reaches its machine and waits for the CPU.
    fn arrive(&mut self, to: Addr, input: Waiting<P::Message, P::Timer>) {
        let machine = self.machine(to.node);
        assert!(
            machine.downs == 0,
            "inputs of a machine that is down end before they arrive"
        );
        machine.queue.push_back(Queued {
            port: to.port,
            input,
        });
        if matches!(machine.job, Job::Idle) {
            self.take_up(to.node);
        }
    }

    /// The idle CPU turns to the input at the head of the queue.
    fn take_up(&mut self, node: NodeId) {
        let handle_ns = self.environment.machines[usize::from(node.0)].handle_ns;
        let machine = self.machine(node);
        if machine.queue.is_empty() {
            machine.job = Job::Idle;
            return;
        }
        machine.job = Job::Handling;
        let cost_ns = slowed(handle_ns, &machine.slowdowns);
        self.spend(node, cost_ns);
    }

    fn spend(&mut self, node: NodeId, cost_ns: u64) {
        let machine = self.machine(node);
        machine.job_number += 1;
        let job = machine.job_number;
        if cost_ns == 0 {
            self.ready.push_back((node, job));
            return;
        }
        self.heap
            .push(self.now_ns + cost_ns, Event::CpuDone { node, job });
    }

    /// The CPU's job has had its time. Whether a step comes of it.
    fn cpu_done(&mut self, node: NodeId, job: u32) -> bool {
        let machine = self.machine(node);
        if machine.job_number != job {
            return false; // A crash stopped that job.
        }
        if machine.pauses > 0 {
            machine.overdue = true;
            return false;
        }
        match std::mem::replace(&mut machine.job, Job::Idle) {
            Job::Idle => unreachable!("an idle CPU has no job to be done with"),
            Job::Handling => {
                machine.job = Job::Handling;
                true
            }
            Job::Working(by, mut effects) => {
                // Counted, like everything at which an aimed fault may strike.
                self.events += 1;
                self.perform(by, &mut effects);
                self.spare.push(effects);
                if self.machine(node).downs == 0 {
                    self.take_up(node);
                }
                false
            }
        }
    }

    // ---- steps -----------------------------------------------------------------------------------------

    /// Steps the process whose input is at the head of the machine's queue. Called by the machine's task.
    pub(super) fn step(
        &mut self,
        node: NodeId,
        processes: &mut [P],
        out: &mut Effects<P::Message, P::Timer>,
    ) {
        let queued = self
            .machine(node)
            .queue
            .pop_front()
            .expect("a step without an input");
        let by = Addr {
            node,
            port: queued.port,
        };
        let input = self.open(by, queued.input);
        let now = self.wall(node);
        let process = &mut processes[usize::from(by.port)];
        // Copying every input for the sake of a panic would cost more than handling it.
        let kept = self.options.trace.then(|| input.clone());
        let brief = Brief::of(&input);
        for watcher in &self.step_watchers {
            self.monitors[*watcher].before_step(by, &input);
        }
        let result = panics::catch(|| process.step(now, input, out));
        if let Err(message) = result {
            out.drain().for_each(drop);
            let input = kept.map(|input| format!("{input:?}"));
            self.panicked(by, input.unwrap_or_else(|| brief.describe()), message);
            return;
        }
        let work = self.observe_all(by, out);
        self.watch_step(by, &processes[usize::from(by.port)], out);
        let operation_ns = self.environment.machines[usize::from(node.0)].operation_ns;
        let work_ns = slowed(work * operation_ns, &self.machine(node).slowdowns);
        if work_ns > 0 {
            let spare = self.spare.pop().unwrap_or_default();
            self.machine(node).job = Job::Working(by, std::mem::replace(out, spare));
            self.spend(node, work_ns);
            return;
        }
        self.perform(by, out);
        if self.machine(node).downs == 0 {
            self.take_up(node);
        }
    }

    /// Turns what waited into an input, and notes the event.
    fn open(
        &mut self,
        by: Addr,
        waiting: Waiting<P::Message, P::Timer>,
    ) -> Input<P::Message, P::Timer> {
        match waiting {
            Waiting::Boot => {
                let disk = self.disks.lock().read(by);
                let hash = stable_hash(&disk);
                self.note_by(Tag::Boot, by, hash, || TraceKind::Booted {
                    by,
                    bytes: disk.len_bytes(),
                });
                self.strikes.watch("booted", by.node, self.now_ns);
                self.unasked = true;
                Input::Boot(disk)
            }
            Waiting::Letter(letter) => {
                let Letter {
                    id,
                    from,
                    to,
                    label,
                    hash,
                    message,
                } = letter;
                self.count(from, to, label).delivered += 1;
                let label = self.labels[usize::from(label)].0;
                self.note_by(Tag::Deliver, by, hash, || TraceKind::Delivered {
                    id,
                    from,
                    to,
                    label: Cow::Borrowed(label),
                });
                Input::Message { from, message }
            }
            Waiting::Timer(timer) => {
                let hash = stable_hash(&timer);
                self.note_by(Tag::Timer, by, hash, || TraceKind::Fired {
                    by,
                    detail: format!("{timer:?}"),
                });
                Input::Timer(timer)
            }
            Waiting::Flushed(flush, ok) => {
                let hash = stable_hash(&(flush, ok));
                self.note_by(Tag::Flushed, by, hash, || TraceKind::Flushed {
                    by,
                    flush,
                    ok,
                });
                if ok {
                    Input::Flushed(flush)
                } else {
                    Input::FlushFailed(flush)
                }
            }
        }
    }

    /// Records the step's observations, at the time of the step. Returns the operations that it charged.
    fn observe_all(&mut self, by: Addr, out: &Effects<P::Message, P::Timer>) -> u64 {
        let mut work = 0;
        for effect in out.iter() {
            match effect {
                Effect::Observe(what) => self.observe(by, what),
                Effect::Work(operations) => work += u64::from(*operations),
                _ => {}
            }
        }
        work
    }

    pub(super) fn observe(&mut self, by: Addr, what: &Observation) {
        self.digest.write_u64(code(Tag::Observe, Some(by)));
        what.hash(&mut self.digest);
        self.line(|| TraceKind::Observed {
            by,
            name: Cow::Borrowed(what.name()),
            detail: format!("{what:?}"),
        });
        self.strikes.watch(what.name(), by.node, self.now_ns);
        let observed = Observed {
            at_ns: self.now_ns,
            by,
            what: what.clone(),
        };
        for monitor in &mut self.monitors {
            if let Err(violation) = monitor.observe(&observed) {
                self.violations.push(violation);
            }
        }
        self.observations.push(observed);
        self.unasked = true;
    }

    fn watch_step(&mut self, by: Addr, process: &P, out: &Effects<P::Message, P::Timer>) {
        for watcher in &self.step_watchers {
            let monitor = &mut self.monitors[*watcher];
            if let Err(violation) = monitor.after_step(self.now_ns, by, process) {
                self.violations.push(violation);
            }
            if let Err(violation) = monitor.effects_of_step(self.now_ns, by, process, out) {
                self.violations.push(violation);
            }
        }
    }

    pub(super) fn panicked(&mut self, by: Addr, input: String, message: String) {
        self.note_by(Tag::Panic, by, stable_hash(&message), || {
            TraceKind::Panicked {
                by,
                message: message.clone(),
            }
        });
        self.panics.push(Panicked {
            at_ns: self.now_ns,
            node: by.node,
            by,
            input,
            message,
        });
        self.machine(by.node).panics += 1;
        let again = self.machine(by.node).panics < PANICS_MAX;
        self.hold_down(by.node, CrashLoss::Lost);
        if again {
            self.supervise(by.node);
        }
    }

    fn supervise(&mut self, node: NodeId) {
        let back_ns = self.now_ns + self.environment.supervisor_ns;
        self.heap.push(back_ns, Event::Supervise(node));
    }

    /// Does what a process asked for, in order.
    fn perform(&mut self, by: Addr, effects: &mut Effects<P::Message, P::Timer>) {
        for effect in effects.drain() {
            match effect {
                Effect::Send { to, message } => self.send(by, to, message),
                Effect::SetTimer { timer, after } => {
                    self.set_timer(by, timer, after);
                }
                Effect::CancelTimer(timer) => {
                    self.note_effect(Tag::CancelTimer, by, stable_hash(&timer));
                    if self.clocks.lock().disarm(by, &timer) {
                        self.one_more_stale_timer();
                    }
                }
                Effect::Append { file, bytes } => {
                    self.note_effect(Tag::Append, by, stable_hash(&(file, &bytes)));
                    self.disks.lock().append(by, file, bytes);
                }
                Effect::Replace { file, bytes } => {
                    self.note_effect(Tag::Replace, by, stable_hash(&(file, &bytes)));
                    self.disks.lock().replace(by, file, bytes);
                }
                Effect::Flush(flush) => self.flush(by, flush),
                // The step charged and observed these already.
                Effect::Work(_) | Effect::Observe(_) => {}
                Effect::Halt(why) => {
                    self.halt(by, why);
                    break;
                }
            }
        }
    }

    fn set_timer(&mut self, by: Addr, timer: P::Timer, after: crate::base::process::Delay) {
        let (scheduled, replaced) = self
            .clocks
            .lock()
            .arm(by, timer.clone(), after, self.now_ns);
        self.note_effect(Tag::SetTimer, by, stable_hash(&timer) ^ scheduled.at_ns);
        let arming = scheduled.arming;
        self.heap.push(
            scheduled.at_ns,
            Event::Timer {
                of: by,
                timer,
                arming,
            },
        );
        if replaced {
            self.one_more_stale_timer();
        }
    }

    /// Timers that are set and cancelled over and over leave events behind; sweep them out before they
    /// outnumber the rest.
    pub(super) fn one_more_stale_timer(&mut self) {
        self.stale_timers += 1;
        if self.stale_timers < 1024 || self.stale_timers * 2 < self.heap.len() {
            return;
        }
        let clocks = self.clocks.lock();
        self.heap.retain(|event| match event {
            Event::Timer { of, timer, arming } => clocks.is_armed(*of, timer, *arming),
            _ => true,
        });
        self.stale_timers = 0;
    }

    fn flush(&mut self, by: Addr, flush: FlushId) {
        let (done_ns, ticket) = self.disks.lock().flush(by, flush, self.now_ns);
        self.note_effect(Tag::Flush, by, stable_hash(&flush) ^ done_ns);
        self.strikes.watch("flush.asked", by.node, self.now_ns);
        self.machine(by.node).flushes[usize::from(by.port)] += 1;
        self.heap.push(done_ns, Event::FlushDone { of: by, ticket });
    }

    fn halt(&mut self, by: Addr, why: &'static str) {
        self.note_by(Tag::Halt, by, stable_hash(&why), || TraceKind::Halted {
            by,
            why: Cow::Borrowed(why),
        });
        self.halts.push(Halted {
            at_ns: self.now_ns,
            by,
            why,
        });
        self.hold_down(by.node, CrashLoss::Lost);
        self.supervise(by.node);
    }

    // ---- messages --------------------------------------------------------------------------------------

    pub(super) fn send(&mut self, from: Addr, to: Addr, message: P::Message) {
        let id = self.next_letter;
        self.next_letter += 1;
        let hash = stable_hash(&message);
        let label = self.label(message.label());
        self.count(from, to, label).sent += 1;
        let code_to = u64::from(to.node.0) << 8 | u64::from(to.port);
        self.note_effect(Tag::Send, from, hash ^ (code_to << 40));
        self.line(|| TraceKind::Sent {
            id,
            from,
            to,
            label: Cow::Borrowed(message.label()),
            detail: format!("{message:?}"),
        });
        let listens = self.listens(to);
        let routed = if !listens {
            Routed::Dropped(DropReason::NobodyThere)
        } else if from.node == to.node {
            // Within a machine: at once, in order, and never lost.
            Routed::Arrives {
                at_ns: self.now_ns,
                copy_at_ns: None,
            }
        } else {
            self.network
                .lock()
                .send(from.node, to.node, message.size_bytes(), self.now_ns)
        };
        let letter = Letter {
            id,
            from,
            to,
            label,
            hash,
            message,
        };
        match routed {
            Routed::Dropped(why) => self.drop_letter(&letter, why),
            Routed::Arrives { at_ns, copy_at_ns } => self.post(letter, at_ns, copy_at_ns),
        }
    }

    fn post(&mut self, letter: Letter<P::Message>, at_ns: u64, copy_at_ns: Option<u64>) {
        if let Some(copy_at_ns) = copy_at_ns {
            self.count(letter.from, letter.to, letter.label).duplicated += 1;
            let copy = Letter {
                message: letter.message.clone(),
                ..letter
            };
            self.heap.push(copy_at_ns, Event::Arrive(copy));
        }
        self.heap.push(at_ns, Event::Arrive(letter));
    }

    fn listens(&self, to: Addr) -> bool {
        let Some(machine) = self.machines.get(usize::from(to.node.0)) else {
            return false;
        };
        match self.guests.get(&to.node) {
            Some(_) => to.port == 0,
            None => usize::from(to.port) < machine.ports,
        }
    }

    fn letter_arrives(&mut self, letter: Letter<P::Message>) {
        let to = letter.to;
        if self.machine(to.node).downs > 0 {
            return self.drop_letter(&letter, DropReason::Down);
        }
        if self.guests.contains_key(&to.node) {
            return self.letter_reaches_guest(letter);
        }
        self.arrive(to, Waiting::Letter(letter));
    }

    pub(super) fn drop_letter(&mut self, letter: &Letter<P::Message>, why: DropReason) {
        let (id, from, to) = (letter.id, letter.from, letter.to);
        self.count(from, to, letter.label).dropped += 1;
        let hash = letter.hash ^ why as u64;
        self.note_by(Tag::Drop, to, hash, || TraceKind::Dropped {
            id,
            from,
            to,
            why,
        });
    }

    /// A guest takes a message.
    pub(super) fn note_delivery(&mut self, letter: &Letter<P::Message>) {
        let Letter {
            id,
            from,
            to,
            label,
            hash,
            ..
        } = *letter;
        self.count(from, to, label).delivered += 1;
        let label = self.labels[usize::from(label)].0;
        self.note_by(Tag::Deliver, to, hash, || TraceKind::Delivered {
            id,
            from,
            to,
            label: Cow::Borrowed(label),
        });
    }

    /// The position of a label. There are few, and most calls name the same literal.
    fn label(&mut self, label: &'static str) -> u16 {
        let same = |known: &&'static str| std::ptr::eq(*known, label) || *known == label;
        let position = self.labels.iter().position(|(known, ..)| same(known));
        position.unwrap_or_else(|| {
            self.labels
                .push((label, MessageCounts::default(), MessageCounts::default()));
            self.labels.len() - 1
        }) as u16
    }

    fn count(&mut self, from: Addr, to: Addr, label: u16) -> &mut MessageCounts {
        let (_, between, within) = &mut self.labels[usize::from(label)];
        if from.node == to.node {
            within
        } else {
            between
        }
    }

    // ---- the record ------------------------------------------------------------------------------------

    /// One more event of the world, at a machine or nowhere.
    pub(super) fn note(
        &mut self,
        tag: Tag,
        node: Option<NodeId>,
        hash: u64,
        what: impl FnOnce() -> TraceKind,
    ) {
        self.event(code(tag, node.map(|node| Addr { node, port: 0 })), hash);
        self.line(what);
    }

    fn note_by(&mut self, tag: Tag, by: Addr, hash: u64, what: impl FnOnce() -> TraceKind) {
        self.event(code(tag, Some(by)), hash);
        self.line(what);
    }

    fn event(&mut self, code: u64, hash: u64) {
        self.events += 1;
        self.digest.write_u64(self.now_ns);
        self.digest.write_u64(mixed(code, hash));
    }

    /// Part of the event that is happening.
    fn note_effect(&mut self, tag: Tag, by: Addr, hash: u64) {
        self.digest.write_u64(mixed(code(tag, Some(by)), hash));
    }

    fn line(&mut self, what: impl FnOnce() -> TraceKind) {
        if self.options.trace {
            self.trace.push(TraceEvent {
                event: self.events,
                at_ns: self.now_ns,
                what: what(),
            });
        }
    }

    pub(super) fn digest(&self) -> crate::base::digest::Digest {
        self.digest.digest()
    }

    /// Messages by label, between machines and within one.
    pub(super) fn message_counts(&self) -> [BTreeMap<&'static str, MessageCounts>; 2] {
        let used = |counts: &MessageCounts| *counts != MessageCounts::default();
        let labels = self.labels.iter();
        let between = labels.clone().map(|(label, between, _)| (*label, *between));
        let within = labels.map(|(label, _, within)| (*label, *within));
        [
            between.filter(|(_, counts)| used(counts)).collect(),
            within.filter(|(_, counts)| used(counts)).collect(),
        ]
    }

    /// Flushes asked for, by process.
    pub(super) fn flush_counts(&self) -> BTreeMap<Addr, u64> {
        let mut counts = BTreeMap::new();
        for (node, machine) in self.machines.iter().enumerate() {
            for (port, flushes) in machine.flushes.iter().enumerate() {
                counts.insert(
                    Addr {
                        node: NodeId(node as u16),
                        port: port as u8,
                    },
                    *flushes,
                );
            }
        }
        counts
    }
}

impl<M, T> Machine<M, T> {
    /// Whether it is up, and its processes have read their disks.
    pub(super) fn has_booted(&self) -> bool {
        let boots = |queued: &Queued<M, T>| matches!(queued.input, Waiting::Boot);
        self.downs == 0 && !self.queue.iter().any(boots)
    }

    fn new(ports: usize, clock: Clock) -> Self {
        Self {
            queue: VecDeque::new(),
            job: Job::Idle,
            job_number: 0,
            overdue: false,
            ports,
            slowdowns: Vec::new(),
            pauses: 0,
            downs: 0,
            panics: 0,
            flushes: vec![0; ports],
            clock,
        }
    }

    fn stop_job(&mut self) {
        self.job = Job::Idle;
        self.job_number += 1;
        self.overdue = false;
    }
}

/// Enough of an input to recognise it.
enum Brief<T> {
    Boot,
    Message(Addr, &'static str),
    Timer(T),
    Flush(FlushId),
}

impl<T: Clone + Debug> Brief<T> {
    fn of<M: Wire>(input: &Input<M, T>) -> Self {
        match input {
            Input::Boot(_) => Brief::Boot,
            Input::Message { from, message } => Brief::Message(*from, message.label()),
            Input::Timer(timer) => Brief::Timer(timer.clone()),
            Input::Flushed(flush) | Input::FlushFailed(flush) => Brief::Flush(*flush),
        }
    }

    fn describe(&self) -> String {
        match self {
            Brief::Boot => "boot".to_owned(),
            Brief::Message(from, label) => format!("message {label} from {from}"),
            Brief::Timer(timer) => format!("timer {timer:?}"),
            Brief::Flush(flush) => format!("end of {flush:?}"),
        }
    }
}

/// What kind of thing the digest is told about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tag {
    Boot = 1,
    Deliver,
    Timer,
    Flushed,
    Send,
    SetTimer,
    CancelTimer,
    Append,
    Replace,
    Flush,
    Observe,
    Halt,
    Panic,
    Drop,
    Crash,
    Restart,
    FaultBegin,
    FaultEnd,
    Settle,
    Settled,
    PowerCycle,
}

/// One word of a small code and a hash.
fn mixed(code: u64, hash: u64) -> u64 {
    // Odd, so that different codes stay different.
    hash ^ code.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn code(tag: Tag, by: Option<Addr>) -> u64 {
    let place = by.map_or(0, |by| (u64::from(by.node.0) << 8 | u64::from(by.port)) + 1);
    place << 8 | tag as u64
}
