//! Runs a world on madsim: every machine is a madsim node, and its processes live in a task of that node.
//!
//! Exactly one task runs the world at a time. The *pump* (madsim's main task) holds the baton when a run
//! begins and whenever madsim must act on a node. A machine's task that holds the baton steps its process and
//! asks what happens next. It goes on if that concerns its own machine; otherwise it passes the baton to the task
//! whose turn it is. So a task is polled once for each run of events at its machine, and no poll is wasted.
//!
//! Async guests are polled by madsim at its own discretion. In a run with guests, the pump takes the baton
//! back after every event, and goes on only once every guest that the event woke is idle.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use madsim::plugin::simulator;
use madsim::runtime::{Handle, NodeHandle, Runtime};
use madsim::time::{Duration, Instant, Sleep, TimeHandle};

use super::clock::Clocks;
use super::disk::Disks;
use super::faults::Strikes;
use super::network::Network;
use super::world::{Power, Turn, World};
use super::{Record, Run, guest, panics};
use crate::base::process::{Addr, Effects, NodeId, Process};
use crate::plan::fates::{FlushFates, LinkFates, Teller, TimerFates};

/// How far behind a timer madsim's clock stands after it has jumped to it.
const MADSIM_LATE: Duration = Duration::from_nanos(50);

/// Further than madsim's clock gets with the polls that a message usually causes.
const BEYOND_POLLS: Duration = Duration::from_micros(5);

/// A world that the pump and the machines' tasks share.
pub(super) struct Shared<P: Process> {
    world: Mutex<World<P>>,
}

impl<P: Process> Shared<P> {
    pub(super) fn lock(&self) -> MutexGuard<'_, World<P>> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A guest's task is polled: the first time, the pump learns that it is there.
    pub(super) fn register(&self, node: NodeId, context: &Context<'_>) {
        self.lock().register(node, context);
    }
}

/// Runs to the end. Must be called on a fresh thread: madsim seeds what std keeps for each thread.
pub(super) fn run<P: Process>(run: Run<'_, P>) -> Record<P> {
    panics::install_hook();
    let runtime = Runtime::with_seed_and_config(run.fates.seed(), madsim::Config::default());
    runtime.add_simulator::<Network>();
    runtime.add_simulator::<Disks>();
    runtime.add_simulator::<Clocks<P::Timer>>();
    runtime.block_on(conduct(run))
}

async fn conduct<P: Process>(run: Run<'_, P>) -> Record<P> {
    let record_fates = run.options.record_fates;
    let blank = run.fates.blank_record();
    let guests = !run.guests.is_empty();
    let (shared, nodes) = build(run);
    let mut pump = Pump::new(Arc::clone(&shared), nodes, guests);
    pump.everyone_is_there().await;
    shared.lock().start();
    pump.pump().await;
    pump.hand_over().await;
    let mut record = shared.lock().take_record();
    if record_fates {
        record.fates = Some(shared.lock().take_fates(blank));
    }
    pump.tear_down().await;
    record
}

fn build<P: Process>(run: Run<'_, P>) -> (Arc<Shared<P>>, Vec<NodeHandle>) {
    let plugins = (
        simulator::<Network>(),
        simulator::<Disks>(),
        simulator::<Clocks<P::Timer>>(),
    );
    let environment = Arc::new(run.environment.clone());
    let ports: Vec<usize> = run.deployment.processes.iter().map(Vec::len).collect();
    let mut teller = Teller::new(run.fates, run.options.record_fates);
    plugins.0.lock().install(&environment, &mut teller);
    plugins.1.lock().install(&environment, &ports, &mut teller);
    plugins.2.lock().install(&environment, &ports, &mut teller);
    let strikes = Strikes::new(run.faults.to_vec());
    let mut world = World::new(
        Arc::clone(&environment),
        run.options,
        plugins,
        &ports,
        strikes,
        run.monitors,
    );
    for guest in &run.guests {
        world
            .guests
            .insert(guest.node, guest::GuestState::default());
    }
    let shared = Arc::new(Shared {
        world: Mutex::new(world),
    });
    let mut pristine = run.deployment.processes;
    pristine.resize_with(environment.machines.len(), Vec::new);
    let handle = Handle::current();
    let mut nodes = Vec::new();
    for (node, (processes, machine)) in pristine.into_iter().zip(&environment.machines).enumerate()
    {
        let node = NodeId(node as u16);
        let shared = Arc::clone(&shared);
        let builder = handle.create_node().name(machine.name.clone());
        let body = run
            .guests
            .iter()
            .find(|guest| guest.node == node)
            .map(|guest| Arc::clone(&guest.body));
        let builder = match body {
            Some(body) => {
                builder.init(move || guest::run(Arc::clone(&shared), node, Arc::clone(&body)))
            }
            None => builder.init(move || host(Arc::clone(&shared), node, processes.clone())),
        };
        nodes.push(builder.build());
    }
    (shared, nodes)
}

/// The task of a machine: one incarnation of its processes.
async fn host<P: Process>(shared: Arc<Shared<P>>, node: NodeId, mut processes: Vec<P>) {
    let mut out = Effects::default();
    poll_fn(|context| {
        let mut world = shared.lock();
        world.register(node, context);
        if world.turn_of != Some(node) {
            return Poll::Pending;
        }
        if world.handing_over {
            let at = |port| Addr { node, port };
            let left = processes.drain(..).enumerate();
            let left: Vec<_> = left
                .map(|(port, process)| (at(port as u8), process))
                .collect();
            world.processes.extend(left);
            world.pass_to_pump(Turn::Finish);
            return Poll::Ready(());
        }
        if world.looking {
            world.show(node, &processes);
            world.pass_to_pump(Turn::Look);
            return Poll::Pending;
        }
        world.step_while_it_is_our_turn(node, &mut processes, &mut out);
        Poll::Pending
    })
    .await;
}

impl<P: Process> World<P> {
    /// A machine's task is polled: the first time, the pump learns that it is there.
    fn register(&mut self, node: NodeId, context: &Context<'_>) {
        let host = &mut self.hosts[usize::from(node.0)];
        if host.waker.is_none() {
            host.waker = Some(context.waker().clone());
            if let Some(pump) = &self.pump_waker {
                pump.wake_by_ref();
            }
        }
    }

    fn step_while_it_is_our_turn(
        &mut self,
        node: NodeId,
        processes: &mut [P],
        out: &mut Effects<P::Message, P::Timer>,
    ) {
        loop {
            self.step(node, processes, out);
            if !self.guests.is_empty() {
                return self.pass_to_pump(Turn::Guests);
            }
            match self.next_turn(u64::MAX) {
                Turn::Step(next) if next == node => {}
                Turn::Step(next) => return self.pass_to(next),
                turn => return self.pass_to_pump(turn),
            }
        }
    }

    fn pass_to(&mut self, node: NodeId) {
        self.turn_of = Some(node);
        let host = &self.hosts[usize::from(node.0)];
        host.waker
            .as_ref()
            .expect("a machine that is up has a task")
            .wake_by_ref();
    }

    fn pass_to_pump(&mut self, turn: Turn) {
        self.turn_of = None;
        self.handed_to_pump = Some(turn);
        self.pump_waker
            .as_ref()
            .expect("the pump waits")
            .wake_by_ref();
    }

    fn take_record(&mut self) -> Record<P> {
        let [messages, local_messages] = self.message_counts();
        let flushes = self.flush_counts();
        self.processes.sort_by_key(|(addr, _)| *addr);
        let strikes = std::mem::replace(&mut self.strikes, Strikes::new(Vec::new()));
        let mut marks = std::mem::take(&mut self.marks);
        marks.ended_ns = self.now_ns;
        Record {
            digest: self.digest(),
            events: self.events,
            simulated_ns: self.now_ns,
            observations: std::mem::take(&mut self.observations),
            messages,
            local_messages,
            flushes: flushes.values().sum(),
            flushes_by: flushes,
            marks,
            processes: std::mem::take(&mut self.processes),
            panics: std::mem::take(&mut self.panics),
            halts: std::mem::take(&mut self.halts),
            violations: std::mem::take(&mut self.violations),
            monitors: std::mem::take(&mut self.monitors),
            trace: self.options.trace.then(|| std::mem::take(&mut self.trace)),
            fates: None,
            struck: strikes.struck(),
            faults: strikes.resolved(),
        }
    }

    fn take_fates(&mut self, mut blank: crate::plan::fates::Fates) -> crate::plan::fates::Fates {
        let links = self.network.lock().take_fates().into_iter();
        let links = links.filter(|(_, _, messages)| !messages.is_empty());
        blank.links = links
            .map(|(from, to, messages)| LinkFates { from, to, messages })
            .collect();
        let timers = self.clocks.lock().take_fates().into_iter();
        let timers = timers.filter(|(_, delays)| !delays.is_empty());
        blank.timers = timers
            .map(|(of, after_min_ns)| TimerFates { of, after_min_ns })
            .collect();
        let flushes = self.disks.lock().take_fates().into_iter();
        let flushes = flushes.filter(|(_, flushes)| !flushes.is_empty());
        blank.flushes = flushes
            .map(|(node, flushes)| FlushFates { node, flushes })
            .collect();
        blank
    }
}

/// madsim's main task.
struct Pump<P: Process> {
    shared: Arc<Shared<P>>,
    nodes: Vec<NodeHandle>,
    guests: bool,
    /// Fires when nothing else can run; set to whatever instant is waited for.
    sleep: Pin<Box<Sleep>>,
    /// madsim's clock at our time zero.
    origin: Instant,
}

impl<P: Process> Pump<P> {
    fn new(shared: Arc<Shared<P>>, nodes: Vec<NodeHandle>, guests: bool) -> Self {
        let time = TimeHandle::current();
        let sleep = Box::pin(time.sleep(Duration::ZERO));
        Self {
            shared,
            nodes,
            guests,
            sleep,
            origin: time.now_instant(),
        }
    }

    async fn pump(&mut self) {
        self.origin = Instant::now();
        loop {
            let limit_ns = if self.guests {
                self.guests_are_done().await
            } else {
                u64::MAX
            };
            let mut turn = self.shared.lock().next_turn(limit_ns);
            loop {
                turn = match turn {
                    Turn::Step(node) => self.step(node).await,
                    Turn::Power(power) => {
                        self.power(power).await;
                        break;
                    }
                    Turn::Look => {
                        self.look().await;
                        break;
                    }
                    Turn::Guests => break,
                    Turn::Finish => return,
                }
            }
        }
    }

    /// Gives the baton to a machine and waits until it comes back, with what is to be done.
    async fn step(&self, node: NodeId) -> Turn {
        self.shared.lock().pass_to(node);
        poll_fn(|context| {
            let mut world = self.shared.lock();
            match world.handed_to_pump.take() {
                Some(turn) => Poll::Ready(turn),
                None => {
                    world.pump_waits(context);
                    Poll::Pending
                }
            }
        })
        .await
    }

    async fn power(&mut self, power: Power) {
        let handle = Handle::current();
        {
            let mut world = self.shared.lock();
            world.guests_woken = self.guests;
            world.lead_madsim();
        }
        match power {
            Power::Off(node, loss) => {
                {
                    let mut world = self.shared.lock();
                    world.hosts[usize::from(node.0)].waker = None;
                    world.disks.lock().set_crash_loss(node, loss);
                }
                // Resets the node in every plugin. A restart alone would not.
                handle.kill(self.nodes[usize::from(node.0)].id());
            }
            Power::On(node) => {
                let id = self.nodes[usize::from(node.0)].id();
                handle.restart(id);
                if self.shared.lock().must_be_held_still(node) {
                    // A restart forgets that the node is paused.
                    handle.pause(id);
                }
                self.everyone_is_there().await;
                self.shared.lock().boot(node);
            }
            Power::Pause(node) => handle.pause(self.nodes[usize::from(node.0)].id()),
            Power::Resume(node) => handle.resume(self.nodes[usize::from(node.0)].id()),
        }
    }

    /// Waits until the task of every machine that is up has been polled.
    async fn everyone_is_there(&self) {
        poll_fn(|context| {
            let mut world = self.shared.lock();
            let powered_off = world.power.iter().filter_map(|power| match power {
                Power::On(node) => Some(*node),
                _ => None,
            });
            let powered_off: Vec<NodeId> = powered_off.collect();
            let mut machines = world.machines.iter().zip(&world.hosts).enumerate();
            let absent = |(node, (machine, host)): (
                usize,
                (&super::world::Machine<_, _>, &super::world::Host),
            )| {
                let node = NodeId(node as u16);
                // madsim polls nothing of a paused node; and only guests are paused in madsim.
                let held_still = machine.pauses > 0 && world.guests.contains_key(&node);
                machine.downs == 0
                    && !held_still
                    && host.waker.is_none()
                    && !powered_off.contains(&node)
            };
            if machines.any(absent) {
                world.pump_waits(context);
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Waits for madsim's clock to reach the next event, unless a guest acts before; with every guest idle.
    /// Returns the time of that event.
    async fn guests_are_done(&mut self) -> u64 {
        loop {
            if std::mem::take(&mut self.shared.lock().guests_woken) {
                self.guests_are_idle().await;
            }
            let next_ns = {
                let mut world = self.shared.lock();
                world.poked = false;
                match world.heap.next_at_ns() {
                    Some(next_ns) if !world.has_work_at_once() => next_ns,
                    _ => return world.now_ns,
                }
            };
            let next = self.origin + Duration::from_nanos(next_ns);
            if Instant::now() >= next {
                return next_ns;
            }
            self.sleep_until(next, true).await;
            if Instant::now() == next + MADSIM_LATE {
                return next_ns;
            }
            // A guest acted, or was still running when the time came.
            self.shared.lock().guests_woken = true;
        }
    }

    /// Waits until nothing but the pump can run.
    ///
    /// madsim cannot be asked. But it moves its clock by 50 to 100 ns with every poll. Only when nothing can run
    /// does it jump to the next timer, and then it lands exactly [`MADSIM_LATE`] after it. So two such landings in
    /// a row, of timers set further ahead than a few polls reach, mean that everything is idle.
    async fn guests_are_idle(&mut self) {
        let mut confirmed = 0;
        while confirmed < 2 {
            let instant = Instant::now() + BEYOND_POLLS;
            self.sleep_until(instant, false).await;
            let jumped = Instant::now() == instant + MADSIM_LATE;
            confirmed = if jumped { confirmed + 1 } else { 0 };
        }
    }

    /// Sleeps to the nanosecond: `reset` has no floor, unlike madsim's `sleep`.
    async fn sleep_until(&mut self, instant: Instant, or_poked: bool) {
        self.sleep.as_mut().reset(instant);
        let (sleep, shared) = (&mut self.sleep, &self.shared);
        poll_fn(|context| {
            {
                let mut world = shared.lock();
                if or_poked && world.poked {
                    return Poll::Ready(());
                }
                world.pump_waits(context);
            }
            sleep.as_mut().poll(context)
        })
        .await;
    }

    /// Shows the processes of the machines that are up and have booted to the monitors.
    async fn look(&self) {
        self.shared.lock().looking = true;
        for node in 0..self.nodes.len() {
            let node = NodeId(node as u16);
            let has_processes = {
                let mut world = self.shared.lock();
                world.has_running_processes(node) && world.machine(node).has_booted()
            };
            if has_processes {
                self.step(node).await;
            }
        }
        let mut world = self.shared.lock();
        world.looking = false;
        world.looked();
    }

    /// Takes the processes out of the machines that are up.
    async fn hand_over(&self) {
        self.shared.lock().handing_over = true;
        for node in 0..self.nodes.len() {
            let node = NodeId(node as u16);
            let has_processes = self.shared.lock().has_running_processes(node);
            if has_processes {
                self.step(node).await;
            }
        }
    }

    /// Unfinished tasks leak when a runtime is dropped: kills every node, lets go of every waker, and has
    /// the executor run until nothing is left to do.
    async fn tear_down(&mut self) {
        let handle = Handle::current();
        for node in &self.nodes {
            handle.kill(node.id());
        }
        self.shared.lock().let_go();
        self.sleep_until(Instant::now() + Duration::from_nanos(1), false)
            .await;
        self.shared.lock().pump_waker = None;
    }
}

impl<P: Process> World<P> {
    fn pump_waits(&mut self, context: &Context<'_>) {
        let waker = context.waker();
        if !self
            .pump_waker
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            self.pump_waker = Some(waker.clone());
        }
    }

    fn has_running_processes(&mut self, node: NodeId) -> bool {
        self.machine(node).downs == 0 && !self.guests.contains_key(&node)
    }

    fn must_be_held_still(&mut self, node: NodeId) -> bool {
        self.guests.contains_key(&node) && self.machine(node).pauses > 0
    }

    fn let_go(&mut self) {
        for host in &mut self.hosts {
            host.waker = None;
        }
        let guests: Vec<NodeId> = self.guests.keys().copied().collect();
        for node in guests {
            self.crash_guest(node);
        }
    }
}
