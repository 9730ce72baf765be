//! The protocol code itself under the model checker: any [`Process`] values in a small hostile world.
//!
//! The simulator runs one schedule of a large world; this explores *every* schedule of a small one, with the same code. A
//! step of the model is one input to one process together with all its effects, or one fault.
//!
//! # The world
//!
//! - Messages under way are a *set*: sending what is already under way adds nothing. That loses no behaviour in which the
//!   second copy is dropped; the others need [`Budget::duplicates`].
//! - A timer that is set may fire whenever nothing else can happen: no message can arrive and no flush is under way
//!   (delays are short beside timeouts). [`Budget::early_timeouts`] of them fire in spite of that. Delays are not looked at, so
//!   every order of timeouts is covered. Counters that a timer drives would make the graph infinite:
//!   [`Host::limit_timers`] says how often a timer may fire.
//! - A crash takes a whole node down. What was appended or replaced since the last flush that completed is lost, or kept:
//!   both are explored. With [`Budget::torn_writes`] an append may also be torn: the writes before it are kept, and the
//!   first half of its own bytes. (A replacement is a file that is renamed: whole or not at all.) A restarted node gets its pristine processes and [`Input::Boot`].
//! - A cut stops one pair of nodes in both directions; messages wait until the cut heals.
//! - Wall clocks stand still at one reading a node. Safety must not depend on clocks, and elapsed time is measured with timers.
//!
//! Every fault has a budget, which is part of the state: with budgets, weak fairness is enough for liveness.
//!
//! # Invariants
//!
//! - A step is a function of state and action. Nothing here draws, waits or reads a clock.
//! - Whether a fault strikes is decided here alone: a process never learns of a budget.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Debug, Display};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use stateright::Model;

use crate::base::observation::Observation;
use crate::base::process::{
    Addr, Disk, Effect, Effects, FileId, FlushId, Input, NodeId, Process, WallTime, Wire,
};
use crate::model::checker::graph::{self, Observer, Step, Unfinished, fingerprint};
use crate::model::checker::leads_to::{FairChecker, Strength};

/// How many faults of each kind may still strike.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budget {
    /// Nodes that crash.
    pub crashes: u8,
    /// Messages that are lost.
    pub losses: u8,
    /// Messages that arrive and stay under way.
    pub duplicates: u8,
    /// Timers that fire although something else could happen.
    pub early_timeouts: u8,
    /// Pairs of nodes that are cut off from one another.
    pub cuts: u8,
    /// Flushes that fail. Their bytes are lost, or reach the disk: both are explored.
    pub failed_flushes: u8,
    /// Crashes, of those that may happen, that tear an append.
    pub torn_writes: u8,
}

/// A value that is shared between states and compared by its fingerprint first.
#[derive(Debug)]
struct Shared<T> {
    print: u128,
    value: Arc<T>,
}

impl<T: Hash> Shared<T> {
    fn new(value: T) -> Self {
        Self {
            print: fingerprint(&value),
            value: Arc::new(value),
        }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self {
            print: self.print,
            value: Arc::clone(&self.value),
        }
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
            && (Arc::ptr_eq(&self.value, &other.value) || self.value == other.value)
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.print.hash(state);
    }
}

/// A message under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Packet<M> {
    /// The sender.
    pub from: Addr,
    /// The receiver.
    pub to: Addr,
    /// The content.
    pub message: M,
}

/// What a process has asked of its disk and not been told about.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Pending {
    Append(FileId, Vec<u8>),
    Replace(FileId, Vec<u8>),
    Flush(FlushId),
}

/// A process with its disk and its timers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Hosted<P: Process> {
    process: P,
    durable: Disk,
    pending: VecDeque<Pending>,
    timers: BTreeSet<P::Timer>,
    /// How often the limited timers have fired.
    fired: BTreeMap<P::Timer, u8>,
}

impl<P: Process> Hosted<P> {
    fn is_flushing(&self) -> bool {
        self.pending
            .iter()
            .any(|pending| matches!(pending, Pending::Flush(_)))
    }

    /// Makes everything up to the oldest flush durable.
    fn complete_flush(&mut self) -> FlushId {
        loop {
            match self.pending.pop_front().expect("a flush is under way") {
                Pending::Flush(flush) => return flush,
                write => apply(&mut self.durable, write),
            }
        }
    }

    /// All flushes under way fail. What was to become durable reaches the disk nevertheless (`kept`), or is gone.
    fn fail_flushes(&mut self, kept: bool) -> Vec<FlushId> {
        let mut failed = Vec::new();
        for pending in self.pending.drain(..) {
            match pending {
                Pending::Flush(flush) => failed.push(flush),
                write if kept => apply(&mut self.durable, write),
                _ => {}
            }
        }
        failed
    }
}

/// What a crash leaves of the writes that were not flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// All of them.
    All,
    /// Of one process all before this append, counted from 0, and half of that; nothing of others.
    Torn {
        /// The process.
        port: u8,
        /// The append.
        write: usize,
    },
}

impl Left {
    /// The writes of a process that reach its disk.
    fn of(self, at_port: u8, mut pending: VecDeque<Pending>) -> VecDeque<Pending> {
        match self {
            Left::All => pending,
            Left::Torn { port, write } if port == at_port => {
                pending.truncate(write + 1);
                if let Some(Pending::Append(_, bytes)) = pending.back_mut() {
                    bytes.truncate(bytes.len() / 2);
                }
                pending
            }
            Left::Nothing | Left::Torn { .. } => VecDeque::new(),
        }
    }
}

fn apply(disk: &mut Disk, write: Pending) {
    match write {
        Pending::Append(file, bytes) => disk.file_mut(file).extend(bytes),
        Pending::Replace(file, bytes) => *disk.file_mut(file) = bytes,
        Pending::Flush(_) => {}
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Machine<P: Process> {
    up: bool,
    hosted: Vec<Hosted<P>>,
}

/// A state of the world. `G` is what a monitor remembers of the observations so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World<P: Process, G> {
    machines: Vec<Shared<Machine<P>>>,
    /// Sorted by fingerprint, without duplicates.
    packets: Vec<Shared<Packet<P::Message>>>,
    /// Pairs of nodes, the smaller first.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// What may still go wrong.
    pub budget: Budget,
    /// What the monitor remembers.
    pub seen: G,
}

impl<P: Process, G: Hash> Hash for World<P, G> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (
            &self.machines,
            &self.packets,
            &self.cut,
            self.budget,
            &self.seen,
        )
            .hash(state);
    }
}

impl<P: Process, G> World<P, G> {
    /// Whether a node is up.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.machines[usize::from(node.0)].value.up
    }

    /// The process at an address, unless its node is down.
    pub fn process(&self, at: Addr) -> Option<&P> {
        let machine = &self.machines[usize::from(at.node.0)].value;
        machine
            .up
            .then(|| &machine.hosted[usize::from(at.port)].process)
    }

    /// All processes on nodes that are up.
    pub fn processes(&self) -> impl Iterator<Item = (Addr, &P)> {
        addresses(&self.machines).filter_map(|at| Some((at, self.process(at)?)))
    }

    /// The messages under way.
    pub fn packets(&self) -> impl Iterator<Item = &Packet<P::Message>> {
        self.packets.iter().map(|packet| &*packet.value)
    }

    /// Whether two nodes cannot reach one another.
    pub fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    fn hosted(&self, at: Addr) -> &Hosted<P> {
        &self.machines[usize::from(at.node.0)].value.hosted[usize::from(at.port)]
    }

    fn arrives(&self, packet: &Packet<P::Message>) -> bool {
        self.is_up(packet.to.node) && !self.is_cut(packet.from.node, packet.to.node)
    }

    /// Whether something other than a timer can happen without a fault.
    fn is_busy(&self) -> bool {
        let flushing =
            |machine: &Shared<Machine<P>>| machine.value.hosted.iter().any(Hosted::is_flushing);
        self.packets().any(|packet| self.arrives(packet)) || self.machines.iter().any(flushing)
    }
}

fn addresses<P: Process>(machines: &[Shared<Machine<P>>]) -> impl Iterator<Item = Addr> {
    machines.iter().enumerate().flat_map(|(node, machine)| {
        let node = NodeId(node as u16);
        (0..machine.value.hosted.len() as u8).map(move |port| Addr { node, port })
    })
}

/// A step of the world. Messages are named by their fingerprint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action<T> {
    /// A message arrives; with `stays`, a copy remains under way.
    Deliver {
        /// The sender.
        from: Addr,
        /// The receiver.
        to: Addr,
        /// The message's name.
        label: &'static str,
        /// Which one.
        print: u128,
        /// A duplication.
        stays: bool,
    },
    /// A message is lost.
    Lose {
        /// The sender.
        from: Addr,
        /// The receiver.
        to: Addr,
        /// The message's name.
        label: &'static str,
        /// Which one.
        print: u128,
    },
    /// A timer fires; `early` if something else could have happened.
    Timeout {
        /// Where.
        at: Addr,
        /// Which.
        timer: T,
        /// On the budget.
        early: bool,
    },
    /// The oldest flush of a process completes.
    Flush {
        /// Where.
        at: Addr,
    },
    /// The flushes under way at a process fail.
    FailFlush {
        /// Where.
        at: Addr,
        /// Whether the bytes reached the disk nevertheless.
        kept: bool,
    },
    /// A node crashes.
    Crash {
        /// Which.
        node: NodeId,
        /// What survives of the bytes that were not flushed.
        left: Left,
    },
    /// A node comes back.
    Restart {
        /// Which.
        node: NodeId,
    },
    /// Two nodes lose one another.
    Cut {
        /// The smaller.
        a: NodeId,
        /// The larger.
        b: NodeId,
    },
    /// Two nodes find one another again.
    Heal {
        /// The smaller.
        a: NodeId,
        /// The larger.
        b: NodeId,
    },
}

impl<T: Debug> Display for Action<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Deliver {
                from,
                to,
                label,
                stays: false,
                ..
            } => write!(f, "deliver {label} {from}->{to}"),
            Action::Deliver {
                from,
                to,
                label,
                stays: true,
                ..
            } => write!(f, "duplicate {label} {from}->{to}"),
            Action::Lose {
                from, to, label, ..
            } => write!(f, "lose {label} {from}->{to}"),
            Action::Timeout {
                at,
                timer,
                early: false,
            } => write!(f, "timeout {timer:?} at {at}"),
            Action::Timeout {
                at,
                timer,
                early: true,
            } => write!(f, "early timeout {timer:?} at {at}"),
            Action::Flush { at } => write!(f, "flush at {at}"),
            Action::FailFlush { at, kept: false } => write!(f, "failed flush at {at}"),
            Action::FailFlush { at, kept: true } => {
                write!(f, "failed flush at {at}, its writes survive")
            }
            Action::Crash { node, left } => match left {
                Left::Nothing => write!(f, "crash {node}"),
                Left::All => write!(f, "crash {node}, unflushed writes survive"),
                Left::Torn { port, write } => {
                    write!(f, "crash {node}, write {write} of {node}:{port} is torn")
                }
            },
            Action::Restart { node } => write!(f, "restart {node}"),
            Action::Cut { a, b } => write!(f, "cut {a}-{b}"),
            Action::Heal { a, b } => write!(f, "heal {a}-{b}"),
        }
    }
}

impl<T: PartialEq> Action<T> {
    /// Whether two actions are of one kind: the same, except for the content of the message.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Action::Deliver {
                    from,
                    to,
                    label,
                    stays,
                    ..
                },
                Action::Deliver {
                    from: from_2,
                    to: to_2,
                    label: label_2,
                    stays: stays_2,
                    ..
                },
            ) => (from, to, label, stays) == (from_2, to_2, label_2, stays_2),
            _ => self == other,
        }
    }
}

/// One action of each kind that occurs, by its text.
struct Kinds<P: Process>(BTreeMap<String, Action<P::Timer>>);

impl<P: Process, G: Clone + Eq + Hash + Debug> Observer<Host<P, G>> for Kinds<P> {
    fn enter(&mut self, _: u32, _: u32, _: &World<P, G>) -> Result<(), Unfinished> {
        Ok(())
    }

    fn step(&mut self, step: &Step<'_, Host<P, G>>) -> Result<(), Unfinished> {
        if !self.0.values().any(|known| known.is_like(step.action)) {
            self.0.insert(step.action.to_string(), step.action.clone());
        }
        Ok(())
    }
}

/// Folds an observation into what the monitor remembers.
pub type Monitor<G> = fn(&mut G, Addr, &Observation);

/// Folds a step, its input and its effects into what the monitor remembers.
pub type Watcher<P, G> = fn(
    &mut G,
    Addr,
    &Input<<P as Process>::Message, <P as Process>::Timer>,
    &P,
    &Effects<<P as Process>::Message, <P as Process>::Timer>,
);

/// How often a timer may fire at an address; `None` for ever again.
type TimerLimit<T> = Box<dyn Fn(Addr, &T) -> Option<u8> + Send + Sync>;

/// A small world to explore: processes, faults and a monitor.
pub struct Host<P: Process, G> {
    /// `pristine[node][port]`.
    pristine: Vec<Vec<P>>,
    budget: Budget,
    /// Nodes that crash, are cut off, and between which messages are lost or duplicated.
    exposed: BTreeSet<NodeId>,
    timer_limit: TimerLimit<P::Timer>,
    clocks: Vec<WallTime>,
    start: G,
    monitor: Monitor<G>,
    watcher: Option<Watcher<P, G>>,
}

impl<P: Process, G: Clone + Eq + Hash + Debug> Host<P, G> {
    /// Processes by node and port, as a deployment lists them, all nodes exposed to the faults of the budget.
    pub fn new(pristine: Vec<Vec<P>>, budget: Budget, start: G, monitor: Monitor<G>) -> Self {
        let clocks = vec![WallTime(0); pristine.len()];
        let exposed = (0..pristine.len() as u16).map(NodeId).collect();
        Self {
            pristine,
            budget,
            exposed,
            timer_limit: Box::new(|_, _| None),
            clocks,
            start,
            monitor,
            watcher: None,
        }
    }

    /// Lets the monitor see whole steps, not observations only.
    pub fn watch(mut self, watcher: Watcher<P, G>) -> Self {
        self.watcher = Some(watcher);
        self
    }

    /// Exposes only these nodes to faults.
    pub fn expose(mut self, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        self.exposed = nodes.into_iter().collect();
        self
    }

    /// Limits how often timers fire: where a process counts what they do, only this makes the graph finite.
    pub fn limit_timers(
        mut self,
        limit: impl Fn(Addr, &P::Timer) -> Option<u8> + Send + Sync + 'static,
    ) -> Self {
        self.timer_limit = Box::new(limit);
        self
    }

    /// Where the wall clock of each node stands, in nanoseconds.
    ///
    /// # Panics
    ///
    /// If there are more or fewer readings than nodes.
    pub fn clocks(mut self, readings_ns: impl IntoIterator<Item = u64>) -> Self {
        self.clocks = readings_ns.into_iter().map(WallTime).collect();
        assert_eq!(self.clocks.len(), self.pristine.len(), "one reading a node");
        self
    }

    /// A checker with what a world without further faults does: weak fairness of the delivery of each kind of message on
    /// each link, of the flushes of each process and of healing, strong fairness of each timer. Restarts are fair only
    /// with `restarts`: otherwise a node may stay down.
    ///
    /// Timers need strong fairness because they wait for quiet: one process that polls another disables every other
    /// timer again and again, though a timer that is set does fire.
    ///
    /// Explores the world once, at most `limit` states, to learn which messages and timers there are.
    ///
    /// # Errors
    ///
    /// See [`Unfinished`].
    pub fn fair(&self, restarts: bool, limit: u32) -> Result<FairChecker<'_, Self>, Unfinished> {
        let mut kinds = Kinds::<P>(BTreeMap::new());
        graph::explore(self, limit, &mut kinds)?;
        let fair = |action: &Action<P::Timer>| match action {
            Action::Deliver { stays, .. } => !stays,
            Action::Timeout { early, .. } => !early,
            Action::Flush { .. } | Action::Heal { .. } => true,
            Action::Restart { .. } => restarts,
            _ => false,
        };
        let mut checker = FairChecker::new(self).limit(limit);
        for (name, kind) in kinds.0.into_iter().filter(|(_, action)| fair(action)) {
            let waits_for_quiet = matches!(kind, Action::Timeout { .. });
            let strength = if waits_for_quiet {
                Strength::Strong
            } else {
                Strength::Weak
            };
            checker = checker.constraint(strength, name, move |_, action, _| action.is_like(&kind));
        }
        Ok(checker)
    }

    fn addresses(&self) -> impl Iterator<Item = Addr> + '_ {
        self.pristine
            .iter()
            .enumerate()
            .flat_map(|(node, processes)| {
                let node = NodeId(node as u16);
                (0..processes.len() as u8).map(move |port| Addr { node, port })
            })
    }

    /// Whether faults may strike a message.
    fn is_exposed(&self, packet: &Packet<P::Message>) -> bool {
        let (from, to) = (packet.from.node, packet.to.node);
        from != to && self.exposed.contains(&from) && self.exposed.contains(&to)
    }

    /// Starts every process of a node with what its disk holds.
    fn boot(&self, world: &mut World<P, G>, node: NodeId) {
        let pristine = &self.pristine[usize::from(node.0)];
        let mut machine = (*world.machines[usize::from(node.0)].value).clone();
        machine.up = true;
        for (hosted, process) in machine.hosted.iter_mut().zip(pristine) {
            hosted.process = process.clone();
        }
        world.machines[usize::from(node.0)] = Shared::new(machine);
        for port in 0..pristine.len() as u8 {
            let at = Addr { node, port };
            self.feed(world, at, |hosted| Input::Boot(hosted.durable.clone()));
        }
    }

    /// Takes a node down; processes and timers are gone.
    fn crash(&self, world: &mut World<P, G>, node: NodeId, left: Left) {
        let mut machine = (*world.machines[usize::from(node.0)].value).clone();
        machine.up = false;
        let pristine = &self.pristine[usize::from(node.0)];
        for ((port, hosted), pristine) in (0..).zip(&mut machine.hosted).zip(pristine) {
            let pending = std::mem::take(&mut hosted.pending);
            left.of(port, pending)
                .into_iter()
                .for_each(|write| apply(&mut hosted.durable, write));
            hosted.process = pristine.clone();
            hosted.timers.clear();
        }
        world.machines[usize::from(node.0)] = Shared::new(machine);
    }

    /// One input to one process, and its effects. `input` takes what it needs from the disk and the timers. Nothing
    /// happens where the node is down.
    fn feed(
        &self,
        world: &mut World<P, G>,
        at: Addr,
        input: impl FnOnce(&mut Hosted<P>) -> Input<P::Message, P::Timer>,
    ) {
        if !world.is_up(at.node) {
            return;
        }
        let node = usize::from(at.node.0);
        let mut machine = (*world.machines[node].value).clone();
        let hosted = &mut machine.hosted[usize::from(at.port)];
        let input = input(hosted);
        let mut out = Effects::default();
        let kept = self.watcher.map(|watcher| (watcher, input.clone()));
        hosted.process.step(self.clocks[node], input, &mut out);
        if let Some((watcher, input)) = kept {
            watcher(&mut world.seen, at, &input, &hosted.process, &out);
        }
        let mut halted = false;
        for effect in out.drain() {
            match effect {
                Effect::Send { to, message } => send(
                    world,
                    Packet {
                        from: at,
                        to,
                        message,
                    },
                ),
                Effect::Observe(observation) => (self.monitor)(&mut world.seen, at, &observation),
                Effect::Work(_) => {}
                Effect::Halt(_) => {
                    halted = true;
                    break;
                }
                local => keep(hosted, local),
            }
        }
        world.machines[node] = Shared::new(machine);
        if halted {
            self.crash(world, at.node, Left::Nothing);
        }
    }

    fn fail_flushes(&self, world: &mut World<P, G>, at: Addr, kept: bool) -> Vec<FlushId> {
        let slot = &mut world.machines[usize::from(at.node.0)];
        let mut machine = (*slot.value).clone();
        let failed = machine.hosted[usize::from(at.port)].fail_flushes(kept);
        *slot = Shared::new(machine);
        failed
    }

    fn packet_actions(&self, world: &World<P, G>, actions: &mut Vec<Action<P::Timer>>) {
        for packet in &world.packets {
            let (print, packet) = (packet.print, &*packet.value);
            let (from, to, label) = (packet.from, packet.to, packet.message.label());
            if world.arrives(packet) {
                actions.push(Action::Deliver {
                    from,
                    to,
                    label,
                    print,
                    stays: false,
                });
                if self.is_exposed(packet) && world.budget.duplicates > 0 {
                    actions.push(Action::Deliver {
                        from,
                        to,
                        label,
                        print,
                        stays: true,
                    });
                }
            }
            if self.is_exposed(packet) && world.budget.losses > 0 {
                actions.push(Action::Lose {
                    from,
                    to,
                    label,
                    print,
                });
            }
        }
    }

    fn process_actions(&self, world: &World<P, G>, actions: &mut Vec<Action<P::Timer>>) {
        let early = world.is_busy();
        for at in self.addresses().filter(|at| world.is_up(at.node)) {
            let hosted = world.hosted(at);
            if hosted.is_flushing() {
                actions.push(Action::Flush { at });
                if world.budget.failed_flushes > 0 && self.exposed.contains(&at.node) {
                    let outcomes = [false, true].map(|kept| Action::FailFlush { at, kept });
                    actions.extend(outcomes);
                }
            }
            if early && world.budget.early_timeouts == 0 {
                continue;
            }
            for timer in &hosted.timers {
                let fired = hosted.fired.get(timer).copied().unwrap_or(0);
                if (self.timer_limit)(at, timer).is_none_or(|limit| fired < limit) {
                    actions.push(Action::Timeout {
                        at,
                        timer: timer.clone(),
                        early,
                    });
                }
            }
        }
    }

    fn node_actions(&self, world: &World<P, G>, actions: &mut Vec<Action<P::Timer>>) {
        for &node in &self.exposed {
            if !world.is_up(node) {
                actions.push(Action::Restart { node });
            } else if world.budget.crashes > 0 {
                let crash = |left| Action::Crash { node, left };
                actions.push(crash(Left::Nothing));
                let hosted = &world.machines[usize::from(node.0)].value.hosted;
                if hosted.iter().any(|hosted| !hosted.pending.is_empty()) {
                    actions.push(crash(Left::All));
                }
                if world.budget.torn_writes > 0 {
                    actions.extend(tears(hosted).map(crash));
                }
            }
            for &other in self.exposed.range(NodeId(node.0 + 1)..) {
                if world.is_cut(node, other) {
                    actions.push(Action::Heal { a: node, b: other });
                } else if world.budget.cuts > 0 {
                    actions.push(Action::Cut { a: node, b: other });
                }
            }
        }
    }

    fn fire(&self, world: &mut World<P, G>, at: Addr, timer: P::Timer) {
        self.feed(world, at, |hosted| {
            hosted.timers.remove(&timer);
            if (self.timer_limit)(at, &timer).is_some() {
                *hosted.fired.entry(timer.clone()).or_default() += 1;
            }
            Input::Timer(timer)
        });
    }
}

/// The ways to tear what a node has not flushed.
fn tears<P: Process>(hosted: &[Hosted<P>]) -> impl Iterator<Item = Left> {
    (0..).zip(hosted).flat_map(|(port, hosted)| {
        let writes = hosted.pending.iter().enumerate();
        writes.filter_map(move |(write, pending)| match pending {
            Pending::Append(..) => Some(Left::Torn { port, write }),
            Pending::Replace(..) | Pending::Flush(_) => None,
        })
    })
}

/// Puts a message under way, unless the same one is.
fn send<P: Process, G>(world: &mut World<P, G>, packet: Packet<P::Message>) {
    let packet = Shared::new(packet);
    if let Err(at) = world
        .packets
        .binary_search_by_key(&packet.print, |known| known.print)
    {
        world.packets.insert(at, packet);
    }
}

/// Takes a message off the network, or looks at it.
fn take<P: Process, G>(world: &mut World<P, G>, print: u128, stays: bool) -> Packet<P::Message> {
    let at = world
        .packets
        .binary_search_by_key(&print, |known| known.print)
        .expect("it is under way");
    let packet = if stays {
        world.packets[at].clone()
    } else {
        world.packets.remove(at)
    };
    (*packet.value).clone()
}

/// The effects that stay within a process.
fn keep<P: Process>(hosted: &mut Hosted<P>, effect: Effect<P::Message, P::Timer>) {
    match effect {
        Effect::SetTimer { timer, .. } => {
            hosted.timers.insert(timer);
        }
        Effect::CancelTimer(timer) => {
            hosted.timers.remove(&timer);
        }
        Effect::Append { file, bytes } => hosted.pending.push_back(Pending::Append(file, bytes)),
        Effect::Replace { file, bytes } => hosted.pending.push_back(Pending::Replace(file, bytes)),
        Effect::Flush(flush) => hosted.pending.push_back(Pending::Flush(flush)),
        other => unreachable!("{other:?} concerns the world"),
    }
}

impl<P: Process, G: Clone + Eq + Hash + Debug> Model for Host<P, G> {
    type State = World<P, G>;
    type Action = Action<P::Timer>;

    fn init_states(&self) -> Vec<Self::State> {
        let machine = |processes: &Vec<P>| {
            let hosted = |process: &P| Hosted {
                process: process.clone(),
                durable: Disk::default(),
                pending: VecDeque::new(),
                timers: BTreeSet::new(),
                fired: BTreeMap::new(),
            };
            Shared::new(Machine {
                up: false,
                hosted: processes.iter().map(hosted).collect(),
            })
        };
        let mut world = World {
            machines: self.pristine.iter().map(machine).collect(),
            packets: Vec::new(),
            cut: BTreeSet::new(),
            budget: self.budget,
            seen: self.start.clone(),
        };
        (0..self.pristine.len() as u16).for_each(|node| self.boot(&mut world, NodeId(node)));
        vec![world]
    }

    fn actions(&self, world: &Self::State, actions: &mut Vec<Self::Action>) {
        self.packet_actions(world, actions);
        self.process_actions(world, actions);
        self.node_actions(world, actions);
    }

    fn next_state(&self, before: &Self::State, action: Self::Action) -> Option<Self::State> {
        let mut world = before.clone();
        match action {
            Action::Deliver { print, stays, .. } => {
                world.budget.duplicates -= u8::from(stays);
                let Packet { from, to, message } = take(&mut world, print, stays);
                self.feed(&mut world, to, |_| Input::Message { from, message });
            }
            Action::Lose { print, .. } => {
                world.budget.losses -= 1;
                take(&mut world, print, false);
            }
            Action::Timeout { at, timer, early } => {
                world.budget.early_timeouts -= u8::from(early);
                self.fire(&mut world, at, timer);
            }
            Action::Flush { at } => self.feed(&mut world, at, |hosted| {
                Input::Flushed(hosted.complete_flush())
            }),
            Action::FailFlush { at, kept } => {
                world.budget.failed_flushes -= 1;
                let failed = self.fail_flushes(&mut world, at, kept);
                failed
                    .into_iter()
                    .for_each(|flush| self.feed(&mut world, at, |_| Input::FlushFailed(flush)));
            }
            Action::Crash { node, left } => {
                world.budget.crashes -= 1;
                world.budget.torn_writes -= u8::from(matches!(left, Left::Torn { .. }));
                self.crash(&mut world, node, left);
            }
            Action::Restart { node } => self.boot(&mut world, node),
            Action::Cut { a, b } => {
                world.budget.cuts -= 1;
                world.cut.insert((a, b));
            }
            Action::Heal { a, b } => {
                world.cut.remove(&(a, b));
            }
        }
        Some(world)
    }

    fn format_action(&self, action: &Self::Action) -> String {
        action.to_string()
    }
}

mod show;

#[cfg(test)]
mod tests;
