//! A state machine over a replicated log (Schneider, "Implementing Fault-Tolerant Services Using the State Machine
//! Approach", ACM Computing Surveys 22(4), 1990): replicas that apply the same commands in the same order hold the same
//! state.
//!
//! A protocol writes its state as plain data with one function, [`StateMachine::apply`], and embeds a [`Replicated`] in a
//! process. It hands on the log's messages, timers and flushes to [`Replicated::step`], and calls
//! [`Replicated::propose`] where this replica leads. After each of these it takes the log's effects over, and handles
//! [`Replicated::take_events`] in order.
//!
//! - State changes when a command is committed, and nowhere else. It is in memory: a replica that restarts gets it from the
//!   log's snapshot and from the commands after that. So [`Event::Applied`] may tell of a command again after a restart.
//! - A leader hears [`Event::Leads`] once its state holds all that earlier leaders have done, or will ever have. What it
//!   proposes in that term comes directly after that state, or never. What it keeps beside the state is worth nothing after
//!   [`Event::Deposed`]: a proposal that was not applied by then may still be, or may be lost.
//! - The log is shortened to a snapshot of the state every so many entries.
//! - [`Replicated::read`] says when the state is at least as new as every command that had been committed when it was
//!   called: the leader asks a majority whether it still leads (Ongaro, "Consensus: Bridging Theory and Practice", 2014,
//!   section 6.4). It writes nothing.
//!
//! ```
//! use ordain::base::process::*;
//! use ordain::consensus::{Config, LogEffects, Options, Position};
//! use ordain::protocol::kit::replicated::{Event, Replicated, StateMachine};
//! use serde::{Deserialize, Serialize};
//!
//! /// A sum. Commands are numbers to add.
//! #[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
//! struct Sum(u64);
//!
//! impl StateMachine for Sum {
//!     type Command = u64;
//!     type Output = u64;
//!     fn apply(&mut self, _: Position, command: u64) -> u64 {
//!         self.0 += command;
//!         self.0
//!     }
//! }
//!
//! // A group of one: it elects itself, and its disk is a majority.
//! let me = Addr::on(NodeId(0));
//! let (file, options) = (FileId(0), Options::default());
//! let config = Config { group: 0, me, members: vec![me], file, flush_owner: 0, options };
//! let mut replica = Replicated::new(config, Sum::default(), 100);
//! let mut out = LogEffects::default();
//! let (mut sums, mut flushes, mut due) = (Vec::new(), Vec::new(), None);
//! replica.step(WallTime(0), Input::Boot(Disk::default()), &mut out);
//! while sums.len() < 2 {
//!     for event in replica.take_events(&mut out) {
//!         match event {
//!             Event::Leads { .. } => {
//!                 replica.propose(40, &mut out).expect("it leads");
//!                 replica.propose(2, &mut out).expect("it leads");
//!             }
//!             Event::Applied { output, .. } => sums.push(output),
//!             _ => {}
//!         }
//!     }
//!     // The host: flushes succeed at once. Where none is under way, time passes until the timer that was set last.
//!     for effect in out.drain() {
//!         match effect {
//!             Effect::Flush(flush) => flushes.push(flush),
//!             Effect::SetTimer { timer, .. } => due = Some(timer),
//!             _ => {}
//!         }
//!     }
//!     let input = match flushes.pop() {
//!         Some(flush) => Input::Flushed(flush),
//!         None => Input::Timer(due.take().expect("a timer is set")),
//!     };
//!     replica.step(WallTime(0), input, &mut out);
//! }
//! assert_eq!(sums, [40, 42]);
//! assert_eq!(replica.state(), &Sum(42));
//! ```

use std::fmt::Debug;
use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::process::{Addr, Input, WallTime};
use crate::consensus::{
    Command, Config, Delivery, Index, Log, LogEffects, LogMessage, LogTimer, NotLeader, Position,
    Term,
};

/// A state that commands change, deterministically. Its serialised form is the log's snapshot.
pub trait StateMachine:
    Clone + Eq + Hash + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// What changes it. A proposer that retries may have a command applied twice: commands are idempotent, or the state
    /// remembers them ([`crate::consensus::session`]).
    type Command: Command;
    /// What a command tells the replica's host when it is applied.
    type Output;

    /// Applies a committed command. It must depend on nothing but the state and the command.
    fn apply(&mut self, position: Position, command: Self::Command) -> Self::Output;
}

/// What a replica's host has to act on, in this order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event<O> {
    /// The state was replaced by a snapshot: after a restart, or because the replica had fallen far behind.
    Restored,
    /// A command was applied.
    Applied {
        /// Its position. [`Replicated::propose`] has told its proposer the same.
        position: Position,
        /// What applying it says.
        output: O,
    },
    /// This replica leads from here on, and its state holds all that will ever be of earlier leaders.
    Leads {
        /// The term.
        term: Term,
    },
    /// This replica leads no more. A new leader may have been active for a while.
    Deposed {
        /// The term in which it led.
        term: Term,
    },
    /// The state is as new as the read asked for.
    ReadReady {
        /// The read.
        read: u64,
    },
    /// The read cannot be served here.
    ReadRefused {
        /// The read.
        read: u64,
    },
}

/// A replica of a state machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Replicated<S: StateMachine> {
    log: Log<S::Command>,
    state: S,
    /// The last command in the state; where the state is a snapshot, the last entry that it covers.
    applied: Position,
    /// The term in which this replica leads and is established, as far as its host was told.
    leads: Option<Term>,
    /// The log is shortened when it holds more entries than this behind its snapshot.
    entries_max: u64,
}

impl<S: StateMachine> Replicated<S> {
    /// A replica that has not booted. `initial` is the state before the first command, the same on all replicas. The log
    /// keeps `entries_max` entries before it is shortened.
    ///
    /// # Panics
    ///
    /// When the replica is not a member of its own group.
    pub fn new(config: Config, initial: S, entries_max: u64) -> Self {
        Self {
            log: Log::new(config),
            state: initial,
            applied: Position::default(),
            leads: None,
            entries_max,
        }
    }

    /// Handles an input of the log. Flushes of other owners are ignored.
    pub fn step(
        &mut self,
        now: WallTime,
        input: Input<LogMessage<S::Command>, LogTimer>,
        out: &mut LogEffects<S::Command>,
    ) {
        self.log.step(now, input, out);
    }

    /// Proposes a command. It is committed once [`Event::Applied`] names the position that is returned. It is lost if an
    /// entry of a higher term comes first.
    ///
    /// # Errors
    ///
    /// [`NotLeader`] where this replica does not lead, or was not told yet that it does.
    pub fn propose(
        &mut self,
        command: S::Command,
        out: &mut LogEffects<S::Command>,
    ) -> Result<Position, NotLeader> {
        self.must_lead()?;
        self.log.propose(command, out)
    }

    /// Asks for a linearizable read, answered by [`Event::ReadReady`] or [`Event::ReadRefused`] with the same number.
    ///
    /// # Errors
    ///
    /// [`NotLeader`] where this replica does not lead, or was not told yet that it does.
    pub fn read(&mut self, read: u64, out: &mut LogEffects<S::Command>) -> Result<(), NotLeader> {
        self.must_lead()?;
        self.log.read_index(read, out)
    }

    fn must_lead(&self) -> Result<(), NotLeader> {
        let hint = self.log.leader();
        self.leads().map(|_| ()).ok_or(NotLeader { hint })
    }

    /// Applies what was committed, and says what the host has to do. Call after every other call.
    pub fn take_events(&mut self, out: &mut LogEffects<S::Command>) -> Vec<Event<S::Output>> {
        let mut events = Vec::new();
        for delivery in self.log.take_deliveries() {
            let event = match delivery {
                Delivery::Snapshot(snapshot) => {
                    self.applied = snapshot.last;
                    let state = postcard::from_bytes(&snapshot.state);
                    self.state = state.expect("a replica wrote it, checksummed");
                    Event::Restored
                }
                Delivery::Entry { position, command } => {
                    let output = self.state.apply(position, command);
                    self.applied = position;
                    Event::Applied { position, output }
                }
                Delivery::ReadReady { read } => Event::ReadReady { read },
                Delivery::ReadRefused { read } => Event::ReadRefused { read },
            };
            events.push(event);
        }
        let established = self.log.established();
        if self.leads != established {
            events.extend(self.leads.map(|term| Event::Deposed { term }));
            events.extend(established.map(|term| Event::Leads { term }));
            self.leads = established;
        }
        if self.applied.index - self.log.snapshot_last().index >= self.entries_max {
            let state = postcard::to_stdvec(&self.state).expect("plain data serialises");
            self.log.compact(self.applied.index, state, out);
        }
        events
    }

    /// The state after the commands applied so far.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The last command applied.
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// The last index that this replica knows to be committed.
    pub fn committed(&self) -> Index {
        self.log.committed()
    }

    /// The term in which this replica leads, as far as it knows and its host was told.
    pub fn leads(&self) -> Option<Term> {
        self.leads.filter(|_| self.log.established() == self.leads)
    }

    /// Who leads, as far as this replica knows.
    pub fn leader(&self) -> Option<Addr> {
        self.log.leader()
    }

    /// The log.
    pub fn log(&self) -> &Log<S::Command> {
        &self.log
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    use serde::Deserialize;

    use super::*;
    use crate::base::process::{Disk, Effect, FileId, NodeId};
    use crate::consensus::{Algorithm, Options};

    /// Remembers commands in order, each once.
    #[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
    struct Once(Vec<u64>);

    impl StateMachine for Once {
        type Command = u64;
        type Output = u64;

        fn apply(&mut self, _: Position, command: u64) -> u64 {
            if !self.0.contains(&command) {
                self.0.push(command);
            }
            command
        }
    }

    type Node = Replicated<Once>;
    type LogInput = Input<LogMessage<u64>, LogTimer>;

    const NODES: usize = 3;

    fn pristine(node: usize, algorithm: Algorithm, entries_max: u64) -> Node {
        let members: Vec<Addr> = (0..NODES as u16).map(|n| Addr::on(NodeId(n))).collect();
        let config = Config {
            group: 0,
            me: members[node],
            members,
            file: FileId(0),
            flush_owner: 0,
            options: Options {
                algorithm,
                ..Options::default()
            },
        };
        Replicated::new(config, Once::default(), entries_max)
    }

    /// Three replicas. Messages arrive in the order in which they were sent; when nothing is under way, the timer that is
    /// due first fires.
    struct Group {
        algorithm: Algorithm,
        entries_max: u64,
        nodes: Vec<Node>,
        memory: Vec<Disk>,
        disks: Vec<Disk>,
        inputs: VecDeque<(usize, LogInput)>,
        timers: BTreeMap<(u64, usize), LogTimer>,
        now_ns: u64,
        steps: u64,
        cut_off: BTreeSet<usize>,
        events: Vec<(usize, Event<u64>)>,
    }

    impl Group {
        fn new(algorithm: Algorithm, entries_max: u64) -> Self {
            let mut group = Group {
                algorithm,
                entries_max,
                nodes: Vec::new(),
                memory: vec![Disk::default(); NODES],
                disks: vec![Disk::default(); NODES],
                inputs: VecDeque::new(),
                timers: BTreeMap::new(),
                now_ns: 0,
                steps: 0,
                cut_off: BTreeSet::new(),
                events: Vec::new(),
            };
            for node in 0..NODES {
                group.nodes.push(pristine(node, algorithm, entries_max));
                group.inputs.push_back((node, Input::Boot(Disk::default())));
            }
            group
        }

        /// Power is lost: what was not flushed is gone, and so is what was under way to the node.
        fn crash(&mut self, node: usize) {
            self.inputs.retain(|(to, _)| *to != node);
            self.timers.retain(|(_, of), _| *of != node);
            self.memory[node] = self.disks[node].clone();
            self.nodes[node] = pristine(node, self.algorithm, self.entries_max);
            let boot = Input::Boot(self.disks[node].clone());
            self.inputs.push_back((node, boot));
        }

        fn step(&mut self) {
            self.steps += 1;
            let (node, input) = self.inputs.pop_front().unwrap_or_else(|| {
                let ((at_ns, node), timer) = self.timers.pop_first().expect("elections");
                self.now_ns = at_ns;
                (node, Input::Timer(timer))
            });
            if let Input::Flushed(_) = input {
                self.disks[node] = self.memory[node].clone();
            }
            self.act(node, |replica, out| replica.step(WallTime(0), input, out));
        }

        fn act(&mut self, node: usize, act: impl FnOnce(&mut Node, &mut LogEffects<u64>)) {
            let mut out = LogEffects::default();
            act(&mut self.nodes[node], &mut out);
            let events = self.nodes[node].take_events(&mut out);
            self.events
                .extend(events.into_iter().map(|event| (node, event)));
            for effect in out.drain().collect::<Vec<_>>() {
                self.perform(node, effect);
            }
        }

        fn perform(&mut self, node: usize, effect: Effect<LogMessage<u64>, LogTimer>) {
            match effect {
                Effect::Send { to, message } => {
                    let to = usize::from(to.node.0);
                    if !self.cut_off.contains(&node) && !self.cut_off.contains(&to) {
                        let from = Addr::on(NodeId(node as u16));
                        self.inputs
                            .push_back((to, Input::Message { from, message }));
                    }
                }
                Effect::SetTimer { timer, after } => {
                    self.timers
                        .retain(|(_, of), set| (*of, *set) != (node, timer));
                    // Somebody campaigns first.
                    let spread_ns = (after.max_ns - after.min_ns) / 4 * node as u64;
                    let mut at_ns = self.now_ns + after.min_ns + spread_ns;
                    while self.timers.contains_key(&(at_ns, node)) {
                        at_ns += 1;
                    }
                    self.timers.insert((at_ns, node), timer);
                }
                Effect::CancelTimer(timer) => {
                    self.timers
                        .retain(|(_, of), set| (*of, *set) != (node, timer));
                }
                Effect::Append { file, bytes } => {
                    self.memory[node].file_mut(file).extend(bytes);
                }
                Effect::Replace { file, bytes } => *self.memory[node].file_mut(file) = bytes,
                Effect::Flush(flush) => self.inputs.push_back((node, Input::Flushed(flush))),
                Effect::Halt(why) => panic!("node {node} halts: {why}"),
                Effect::Work(_) | Effect::Observe(_) => {}
            }
        }

        /// Proposes commands one by one, each again until it has been applied somewhere. Crashes a node before a step.
        fn commit(&mut self, commands: impl IntoIterator<Item = u64>, crash: Option<(u64, usize)>) {
            for command in commands {
                let mut proposed = None;
                while !self
                    .nodes
                    .iter()
                    .any(|node| node.state().0.contains(&command))
                {
                    if let Some((at, node)) = crash
                        && at == self.steps
                    {
                        self.crash(node);
                    }
                    let is_free = |node: &usize| !self.cut_off.contains(node);
                    let leader = (0..NODES)
                        .filter(is_free)
                        .find(|node| self.nodes[*node].leads().is_some());
                    if let Some(leader) = leader
                        && proposed != self.nodes[leader].leads()
                    {
                        proposed = self.nodes[leader].leads();
                        self.act(leader, |replica, out| {
                            replica.propose(command, out).expect("it leads");
                        });
                    }
                    self.step();
                    assert!(self.steps < 20_000, "{command} is never applied");
                }
            }
        }

        /// Lets every replica hear all.
        fn settle(&mut self) {
            let last = |group: &Group| group.nodes.iter().map(|node| node.committed()).max();
            let until = self.steps + 600;
            while self.steps < until {
                self.step();
            }
            let last = last(self);
            assert!(self.nodes.iter().all(|node| Some(node.committed()) == last));
        }
    }

    const BOTH: [Algorithm; 2] = [Algorithm::Raft, Algorithm::MultiPaxos];

    #[test]
    fn a_crash_of_any_replica_at_any_step_changes_no_state() {
        for algorithm in BOTH {
            let mut whole = Group::new(algorithm, 3);
            whole.commit(1..=8, None);
            let steps = whole.steps;
            assert!(steps > 60, "{steps}");
            for (at, node) in (0..steps).flat_map(|at| (0..NODES).map(move |node| (at, node))) {
                let mut group = Group::new(algorithm, 3);
                group.commit(1..=8, Some((at, node)));
                group.settle();
                for replica in &group.nodes {
                    let expected: Vec<u64> = (1..=8).collect();
                    assert_eq!(replica.state().0, expected, "{algorithm:?} {at} {node}");
                }
            }
        }
    }

    #[test]
    fn a_state_from_a_snapshot_equals_one_from_replay() {
        for algorithm in BOTH {
            let mut states = BTreeSet::new();
            for entries_max in [1, 2, 5, 1_000] {
                let mut group = Group::new(algorithm, entries_max);
                group.commit(1..=12, None);
                group.settle();
                for node in 0..NODES {
                    group.crash(node);
                    group.settle();
                }
                let restored = |(_, event): &(usize, Event<u64>)| *event == Event::Restored;
                let snapshots = group.events.iter().any(restored);
                assert_eq!(snapshots, entries_max < 1_000, "{entries_max}");
                states.extend(group.nodes.iter().map(|node| node.state().0.clone()));
            }
            assert_eq!(states.len(), 1, "{states:?}");
        }
    }

    #[test]
    fn a_leader_knows_all_earlier_commands_and_one_that_is_cut_off_learns_that_it_leads_no_more() {
        for algorithm in BOTH {
            let mut group = Group::new(algorithm, 4);
            group.commit(1..=5, None);
            let leads = |group: &Group, node: usize| group.nodes[node].leads();
            let old = (0..NODES).find(|node| leads(&group, *node).is_some());
            let old = old.expect("somebody leads");
            group.cut_off.insert(old);
            let before = group.events.len();
            // The majority elects another leader and goes on; the old one's read is never served.
            group.act(old, |replica, out| {
                replica.read(7, out).expect("it thinks that it leads")
            });
            group.commit(6..=9, None);
            group.cut_off.clear();
            group.settle();
            let since = &group.events[before..];
            let of_old = |wanted: fn(&Event<u64>) -> bool| {
                since
                    .iter()
                    .any(|(node, event)| *node == old && wanted(event))
            };
            assert!(of_old(|event| matches!(event, Event::Deposed { .. })));
            assert!(of_old(|event| *event == Event::ReadRefused { read: 7 }));
            assert!(!of_old(|event| *event == Event::ReadReady { read: 7 }));
            let new = since.iter().find_map(|(node, event)| match event {
                Event::Leads { .. } => Some(*node),
                _ => None,
            });
            let new = new.expect("another leads");
            group.act(new, |replica, out| replica.read(8, out).expect("it leads"));
            group.settle();
            assert!(group.events.contains(&(new, Event::ReadReady { read: 8 })));
            // When the new leader was told that it leads, it had applied everything.
            let told = |(node, event): &(usize, Event<u64>)| {
                *node == new && matches!(event, Event::Leads { .. })
            };
            let told_at = group.events.iter().position(told).expect("it was told");
            let applied = |command: u64| {
                group.events[..told_at].iter().any(|(node, event)| {
                    *node == new
                        && matches!(event, Event::Applied { output, .. } if *output == command)
                })
            };
            assert!((1..=5).all(applied));
        }
    }
}
