//! A host for the replicas of one log: a network, disks and timers under the test's command.
//!
//! Nothing here has a will of its own. A test decides which message arrives, which flush completes, which timer
//! fires and which machine crashes; [`Facts`] looks at every replica after every step and compares what it
//! sees with the definitions of Raft's properties (figure 3 of the paper), not with what replicas observe.
#![allow(dead_code, reason = "every test file uses its part")]

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use ordain::base::observation::{LogEvent, Observation};
use ordain::base::process::{
    Addr, Delay, Disk, Effect, Effects, FileId, FlushId, Input, NodeId, WallTime,
};
use ordain::consensus::paxos::PaxosMessage;
use ordain::consensus::raft::RaftMessage;
use ordain::consensus::{
    Accepted, Algorithm, Config, Delivery, Entry, Index, Log, LogEffects, LogMessage, LogTimer,
    Options, Position, ReplicaTimer, Term,
};

const FILE: FileId = FileId(0);
const OWNER: u8 = 1;

pub type Message = LogMessage<u64>;

pub fn addr(node: usize) -> Addr {
    Addr {
        node: NodeId(node as u16),
        port: 0,
    }
}

fn node_of(addr: Addr) -> usize {
    usize::from(addr.node.0)
}

/// A way in which a replica may be broken, played by its host: what a replica with that bug would say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// Claims that a flush completed as soon as it is asked for.
    ClaimsBeforeFlush,
    /// Grants its vote although another candidate got it in the same term.
    VotesTwice,
    /// Grants its vote to a candidate whose log is behind its own.
    VotesForAnyLog,
    /// As leader, commits entries of earlier terms by counting replicas.
    CommitsOldTerms,
    /// Accepts entries without looking at the one before them.
    SkipsConsistencyCheck,
    /// Promises a ballot and conceals what it has accepted.
    ConcealsAccepted,
    /// Proposes again as its own what it found.
    ClaimsAuthorship,
    /// Accepts below the ballot that it has promised.
    AcceptsBelowPromise,
    /// Serves reads without asking whether it still leads.
    ReadsWithoutRound,
    /// Goes on leading, whether or not anybody answers.
    NeverStepsDown,
}

#[derive(Clone)]
enum Written {
    Append(Vec<u8>),
    Replace(Vec<u8>),
}

#[derive(Clone)]
pub struct Machine {
    pub replica: Option<Log<u64>>,
    /// What would survive a crash.
    durable: Vec<u8>,
    /// Written and not flushed.
    written: VecDeque<Written>,
    /// Flushes under way, and how many of the writes each covers.
    flushes: VecDeque<(FlushId, usize)>,
    pub timers: BTreeMap<LogTimer, Arming>,
    /// The state machine: every command, in order.
    pub state: Vec<u64>,
    /// Last index in `state`.
    pub applied: Index,
}

#[derive(Clone, PartialEq)]
pub struct Envelope {
    pub from: usize,
    pub to: usize,
    pub message: Message,
}

/// A timer that is armed; setting it again gives it another number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arming {
    number: u64,
    pub after: Delay,
}

/// What becomes of unflushed writes in a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    Lost,
    Kept,
    /// This many 256ths of the bytes appended survive.
    Torn(u8),
}

pub struct Cluster {
    pub machines: Vec<Machine>,
    pub network: Vec<Envelope>,
    /// `cut[from][to]`: messages sent are lost.
    pub cut: Vec<Vec<bool>>,
    pub facts: Facts,
    pub mutant: Option<Mutant>,
    /// What happened, as text, since it was last taken.
    pub transcript: Vec<String>,
    options: Options,
    next_read: u64,
    armings: u64,
    /// For the mutant that commits old terms: what followers acknowledged to each leader.
    acknowledged: BTreeMap<(usize, Term), BTreeMap<usize, Index>>,
}

impl Cluster {
    pub fn new(size: usize, options: Options, mutant: Option<Mutant>) -> Self {
        let machine = Machine {
            replica: None,
            durable: Vec::new(),
            written: VecDeque::new(),
            flushes: VecDeque::new(),
            timers: BTreeMap::new(),
            state: Vec::new(),
            applied: 0,
        };
        let mut cluster = Self {
            machines: vec![machine; size],
            network: Vec::new(),
            cut: vec![vec![false; size]; size],
            facts: Facts {
                logs_match: options.algorithm == Algorithm::Raft,
                ..Facts::default()
            },
            mutant,
            transcript: Vec::new(),
            options,
            next_read: 0,
            armings: 0,
            acknowledged: BTreeMap::new(),
        };
        for node in 0..size {
            cluster.boot(node);
        }
        cluster
    }

    pub fn size(&self) -> usize {
        self.machines.len()
    }

    fn pristine(&self, node: usize) -> Log<u64> {
        Log::new(Config {
            group: 0,
            me: addr(node),
            members: (0..self.size()).map(addr).collect(),
            file: FILE,
            flush_owner: OWNER,
            options: self.options.clone(),
        })
    }

    // ---- What a test can make happen ---------------------------------------------------------------------

    pub fn boot(&mut self, node: usize) {
        if self.machines[node].replica.is_some() {
            return;
        }
        let mut disk = Disk::default();
        *disk.file_mut(FILE) = self.machines[node].durable.clone();
        let replica = self.pristine(node);
        let machine = &mut self.machines[node];
        machine.replica = Some(replica);
        machine.state.clear();
        machine.applied = 0;
        self.input(node, Input::Boot(disk));
    }

    pub fn crash(&mut self, node: usize, loss: Loss) {
        let machine = &mut self.machines[node];
        if machine.replica.take().is_none() {
            return;
        }
        let unflushed: usize = machine
            .written
            .iter()
            .map(|written| match written {
                Written::Append(bytes) => bytes.len(),
                Written::Replace(_) => 0,
            })
            .sum();
        let mut budget = match loss {
            Loss::Lost => 0,
            Loss::Kept => unflushed,
            Loss::Torn(share) => unflushed * usize::from(share) / 256,
        };
        for written in std::mem::take(&mut machine.written) {
            match written {
                Written::Append(bytes) => {
                    let kept = bytes.len().min(budget);
                    machine.durable.extend(&bytes[..kept]);
                    budget -= kept;
                    if kept < bytes.len() {
                        break;
                    }
                }
                Written::Replace(bytes) if loss != Loss::Lost => machine.durable = bytes,
                Written::Replace(_) => break,
            }
        }
        machine.flushes.clear();
        machine.timers.clear();
        self.say(format!("n{node} crashes"));
    }

    pub fn fire(&mut self, node: usize, timer: LogTimer) -> bool {
        if self.mutant == Some(Mutant::NeverStepsDown) && self.leads(node) && is_election(timer) {
            let again = Arming {
                number: self.armings + 1,
                ..self.machines[node].timers[&timer]
            };
            self.armings += 1;
            self.machines[node].timers.insert(timer, again);
            return true;
        }
        let armed = self.machines[node].timers.remove(&timer).is_some();
        if armed {
            self.input(node, Input::Timer(timer));
        }
        armed
    }

    pub fn fire_election(&mut self, node: usize) -> bool {
        self.fire(node, LogTimer::Raft(ReplicaTimer::Election))
            || self.fire(node, LogTimer::Paxos(ReplicaTimer::Election))
    }

    pub fn fire_heartbeat(&mut self, node: usize) -> bool {
        self.fire(node, LogTimer::Raft(ReplicaTimer::Heartbeat))
            || self.fire(node, LogTimer::Paxos(ReplicaTimer::Heartbeat))
    }

    pub fn complete_flush(&mut self, node: usize) -> bool {
        let machine = &mut self.machines[node];
        let Some((flush, covered)) = machine.flushes.pop_front() else {
            return false;
        };
        for written in machine.written.drain(..covered) {
            match written {
                Written::Append(bytes) => machine.durable.extend(bytes),
                Written::Replace(bytes) => machine.durable = bytes,
            }
        }
        for (_, later) in &mut machine.flushes {
            *later -= covered;
        }
        self.input(node, Input::Flushed(flush));
        true
    }

    /// Its flush fails. `kept`: what it was to make durable is on the disk nevertheless.
    pub fn fail_flush(&mut self, node: usize, kept: bool) -> bool {
        let machine = &mut self.machines[node];
        let Some((flush, _)) = machine.flushes.pop_front() else {
            return false;
        };
        for written in machine.written.drain(..).filter(|_| kept) {
            match written {
                Written::Append(bytes) => machine.durable.extend(bytes),
                Written::Replace(bytes) => machine.durable = bytes,
            }
        }
        self.input(node, Input::FlushFailed(flush));
        assert!(
            self.machines[node].replica.is_none(),
            "a replica whose flush failed stops"
        );
        true
    }

    pub fn deliver(&mut self, at: usize) {
        let Envelope { from, to, message } = self.network.remove(at);
        if self.machines[to].replica.is_none() {
            return;
        }
        self.remember_acknowledgement(from, to, &message);
        self.input(
            to,
            Input::Message {
                from: addr(from),
                message,
            },
        );
    }

    pub fn propose(&mut self, node: usize, command: u64) -> Option<Position> {
        let result = self.call(node, |replica, out| replica.propose(command, out))?;
        match result {
            Ok(position) => Some(position),
            Err(refused) => {
                let hint = refused
                    .hint
                    .map_or("nobody".into(), |hint| hint.node.to_string());
                self.say(format!("n{node} does not lead; it follows {hint}"));
                None
            }
        }
    }

    pub fn read(&mut self, node: usize) {
        // That leader tells others of commits that it does not know of itself: its reads would show the
        // disguise, not the bug.
        if self.mutant == Some(Mutant::CommitsOldTerms) {
            return;
        }
        self.next_read += 1;
        let read = self.next_read;
        self.facts.read_asked(read);
        let accepted = self.call(node, |replica, out| replica.read_index(read, out));
        match accepted {
            Some(Ok(())) if self.mutant == Some(Mutant::ReadsWithoutRound) => {
                self.forge_round(node);
            }
            Some(Err(_)) => self.say(format!("n{node} does not lead")),
            _ => {}
        }
    }

    /// Compacts everything applied, as a host does from time to time.
    pub fn compact(&mut self, node: usize) {
        let machine = &self.machines[node];
        let (index, state) = (machine.applied, machine.state.clone());
        if index > 0 {
            let state = postcard::to_stdvec(&state).unwrap();
            self.call(node, |replica, out| replica.compact(index, state, out));
        }
    }

    /// Where in the network the messages between two machines are; `None` is any of them.
    pub fn under_way(&self, from: Option<usize>, to: Option<usize>) -> Vec<usize> {
        let between = |(_, envelope): &(usize, &Envelope)| {
            from.is_none_or(|from| from == envelope.from) && to.is_none_or(|to| to == envelope.to)
        };
        let messages = self.network.iter().enumerate();
        messages.filter(between).map(|(at, _)| at).collect()
    }

    pub fn isolate(&mut self, node: usize) {
        for other in (0..self.size()).filter(|other| *other != node) {
            self.cut[node][other] = true;
            self.cut[other][node] = true;
        }
    }

    /// Lets everything under way arrive and be flushed. Bounded, because broken replicas may answer one another
    /// for ever.
    pub fn drain(&mut self) {
        for _ in 0..1000 {
            let flushed = (0..self.size()).any(|node| self.complete_flush(node));
            if !self.network.is_empty() {
                self.deliver(0);
            } else if !flushed {
                return;
            }
        }
    }

    /// One line for each replica: `term/content` for each entry, and `|` after the last committed one.
    pub fn say_logs(&mut self) {
        for node in 0..self.size() {
            let line = match &self.machines[node].replica {
                None => "down".into(),
                Some(replica) => render_log(replica),
            };
            self.say(format!("n{node} {line}"));
        }
    }

    pub fn leads(&self, node: usize) -> bool {
        let replica = self.machines[node].replica.as_ref();
        replica.is_some_and(Log::is_leader)
    }

    pub fn leader(&self) -> Option<usize> {
        let leads = |node: &usize| self.leads(*node);
        let term = |node: &usize| self.machines[*node].replica.as_ref().map(Log::term);
        (0..self.size()).filter(leads).max_by_key(term)
    }

    // ---- Driving a replica -------------------------------------------------------------------------------

    fn input(&mut self, node: usize, input: Input<Message, LogTimer>) {
        self.call(node, |replica, out| replica.step(WallTime(0), input, out));
    }

    fn call<R>(
        &mut self,
        node: usize,
        act: impl FnOnce(&mut Log<u64>, &mut LogEffects<u64>) -> R,
    ) -> Option<R> {
        let mut out = Effects::default();
        let result = act(self.machines[node].replica.as_mut()?, &mut out);
        let alive = self.perform(node, out);
        if alive {
            self.inspect(node);
            self.hand_on(node);
        }
        Some(result)
    }

    /// Performs effects. Says whether the machine is still running.
    fn perform(&mut self, node: usize, mut out: LogEffects<u64>) -> bool {
        let mut claims = Vec::new();
        for effect in out.drain() {
            let machine = &mut self.machines[node];
            match effect {
                Effect::Send { to, message } => self.send(node, node_of(to), message),
                Effect::SetTimer { timer, after } => {
                    self.armings += 1;
                    let number = self.armings;
                    machine.timers.insert(timer, Arming { number, after });
                }
                Effect::CancelTimer(timer) => {
                    machine.timers.remove(&timer);
                }
                Effect::Append { bytes, .. } => machine.written.push_back(Written::Append(bytes)),
                Effect::Replace { bytes, .. } => machine.written.push_back(Written::Replace(bytes)),
                Effect::Flush(flush) if self.mutant == Some(Mutant::ClaimsBeforeFlush) => {
                    claims.push(flush);
                }
                Effect::Flush(flush) => machine.flushes.push_back((flush, machine.written.len())),
                Effect::Observe(Observation::Log { event, .. }) => {
                    self.say(format!("n{node} {}", render_event(&event)));
                }
                Effect::Halt(why) => {
                    self.say(format!("n{node} halts: {why}"));
                    self.crash(node, Loss::Lost);
                    return false;
                }
                Effect::Observe(_) | Effect::Work(_) => {}
            }
        }
        for flush in claims {
            self.input(node, Input::Flushed(flush));
        }
        true
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let message = self.corrupt(from, to, message);
        let lost = self.cut[from][to];
        let fate = if lost { " (lost)" } else { "" };
        self.say(format!("n{from} -> n{to} {}{fate}", render(&message)));
        if !lost {
            self.network.push(Envelope { from, to, message });
        }
    }

    fn hand_on(&mut self, node: usize) {
        let Some(replica) = self.machines[node].replica.as_mut() else {
            return;
        };
        for delivery in replica.take_deliveries() {
            let machine = &mut self.machines[node];
            match delivery {
                Delivery::Snapshot(snapshot) => {
                    machine.state = postcard::from_bytes(&snapshot.state).unwrap();
                    machine.applied = snapshot.last.index;
                    self.facts.state_is(node, machine.applied, &machine.state);
                    self.say(format!("n{node} restores {}", at(snapshot.last)));
                }
                Delivery::Entry { position, command } => {
                    machine.state.push(command);
                    machine.applied = position.index;
                    self.facts.applied(node, position, command);
                    self.say(format!("n{node} applies {} {command}", at(position)));
                }
                Delivery::ReadReady { read } => {
                    self.facts
                        .read_served(read, machine.replica.as_ref().unwrap());
                    self.say(format!("n{node} serves read {read}"));
                }
                Delivery::ReadRefused { read } => self.say(format!("n{node} refuses read {read}")),
            }
        }
    }

    fn inspect(&mut self, node: usize) {
        let replicas: Vec<Option<&Log<u64>>> =
            self.machines.iter().map(|m| m.replica.as_ref()).collect();
        self.facts.inspect(node, &replicas);
    }

    pub fn say(&mut self, line: String) {
        self.transcript.push(line);
    }

    // ---- Broken replicas ---------------------------------------------------------------------------------

    fn corrupt(&self, from: usize, to: usize, mut message: Message) -> Message {
        let replica = self.machines[from].replica.as_ref().expect("it sends");
        match &mut message {
            LogMessage::Raft(raft) => self.corrupt_raft(replica, from, to, raft),
            LogMessage::Paxos(paxos) => self.corrupt_paxos(to, paxos),
        }
        message
    }

    fn corrupt_raft(
        &self,
        replica: &Log<u64>,
        from: usize,
        to: usize,
        message: &mut RaftMessage<u64>,
    ) {
        match (self.mutant, message) {
            (
                Some(Mutant::VotesTwice | Mutant::VotesForAnyLog),
                RaftMessage::Vote { pre, granted, term },
            ) if !*granted => {
                let candidate = self.machines[to].replica.as_ref();
                let behind = candidate.is_some_and(|c| c.last() < replica.last());
                if behind == (self.mutant == Some(Mutant::VotesForAnyLog)) {
                    *granted = true;
                    *term += u64::from(*pre);
                }
            }
            (
                Some(Mutant::CommitsOldTerms),
                RaftMessage::AppendEntries {
                    term,
                    commit,
                    prev,
                    entries,
                    ..
                },
            ) => {
                let mut held = vec![0; self.size() - 1];
                if let Some(acks) = self.acknowledged.get(&(from, *term)) {
                    held = acks.values().copied().collect();
                    held.resize(self.size() - 1, 0);
                }
                held.push(prev.index + entries.len() as u64);
                held.sort_unstable_by(|a, b| b.cmp(a));
                *commit = (*commit).max(held[self.size() / 2]);
            }
            (
                Some(Mutant::SkipsConsistencyCheck),
                RaftMessage::AppendReply { result, term, .. },
            ) => {
                if let Err(conflict) = *result
                    && *term == self.machines[to].replica.as_ref().map_or(0, Log::term)
                {
                    *result = Ok(conflict.prev_index);
                }
            }
            _ => {}
        }
    }

    fn corrupt_paxos(&self, to: usize, message: &mut PaxosMessage<u64>) {
        let receiver = self.machines[to].replica.as_ref();
        match (self.mutant, &mut *message) {
            (Some(Mutant::ConcealsAccepted), PaxosMessage::Promise { accepted, .. }) => {
                accepted.clear();
            }
            (Some(Mutant::ClaimsAuthorship), PaxosMessage::Accept { ballot, values, .. }) => {
                values.iter_mut().for_each(|value| value.term = *ballot);
            }
            (Some(Mutant::AcceptsBelowPromise), PaxosMessage::Refusal { .. }) => {
                if let Some(leader) = receiver.filter(|receiver| receiver.is_leader()) {
                    *message = PaxosMessage::Accepted {
                        ballot: leader.term(),
                        round: 0,
                        result: Ok(leader.last().index),
                    };
                }
            }
            (Some(Mutant::SkipsConsistencyCheck), PaxosMessage::Accepted { result, .. }) => {
                if let Err(gap) = *result {
                    *result = Ok(gap.prev);
                }
            }
            _ => {}
        }
    }

    fn remember_acknowledgement(&mut self, from: usize, to: usize, message: &Message) {
        if let LogMessage::Raft(RaftMessage::AppendReply {
            term,
            result: Ok(index),
            ..
        }) = message
        {
            let acks = self.acknowledged.entry((to, *term)).or_default();
            let held = acks.entry(from).or_default();
            *held = (*held).max(*index);
        }
    }

    /// Answers the leader's round in the name of every follower.
    fn forge_round(&mut self, node: usize) {
        for from in (0..self.size()).filter(|from| *from != node) {
            let term = self.machines[node].replica.as_ref().unwrap().term();
            let round = u64::from(u32::MAX);
            let forged = match self.options.algorithm {
                Algorithm::Raft => LogMessage::Raft(RaftMessage::AppendReply {
                    term,
                    round,
                    result: Ok(0),
                }),
                Algorithm::MultiPaxos => LogMessage::Paxos(PaxosMessage::Accepted {
                    ballot: term,
                    round,
                    result: Ok(0),
                }),
            };
            self.input(
                node,
                Input::Message {
                    from: addr(from),
                    message: forged,
                },
            );
        }
    }
}

/// Gives armed timers deadlines.
#[derive(Default)]
pub struct Clock {
    now_ns: u64,
    due: BTreeMap<(usize, LogTimer), (u64, Arming)>,
}

impl Clock {
    /// Fires the timer that is due first. Says whether there was one: every machine that is up has armed one.
    pub fn fire_next(&mut self, cluster: &mut Cluster, draws: &mut Draws) -> bool {
        for (node, machine) in cluster.machines.iter().enumerate() {
            for (timer, arming) in &machine.timers {
                let due = self.due.get(&(node, *timer));
                if due.is_none_or(|(_, known)| known != arming) {
                    let spread = arming.after.max_ns - arming.after.min_ns + 1;
                    let at = self.now_ns + arming.after.min_ns + draws.next() % spread;
                    self.due.insert((node, *timer), (at, *arming));
                }
            }
        }
        self.due
            .retain(|(node, timer), _| cluster.machines[*node].timers.contains_key(timer));
        let next = self.due.iter().min_by_key(|(_, (at, _))| *at);
        let Some((&(node, timer), &(at, _))) = next else {
            return false;
        };
        self.now_ns = at;
        self.due.remove(&(node, timer));
        cluster.fire(node, timer)
    }
}

/// Numbers for schedules that need no shrinking (xorshift64*).
pub struct Draws(pub u64);

impl Draws {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

fn is_election(timer: LogTimer) -> bool {
    let (LogTimer::Raft(timer) | LogTimer::Paxos(timer)) = timer;
    timer == ReplicaTimer::Election
}

fn at(position: Position) -> String {
    format!("{}/{}", position.term, position.index)
}

fn render_log(replica: &Log<u64>) -> String {
    let role = if replica.is_leader() { "leads" } else { "in" };
    let mut line = format!("{role} term {}:", replica.term());
    let covered = replica.snapshot_last();
    if covered.index > 0 {
        write!(line, " snapshot({})", at(covered)).unwrap();
    }
    for index in covered.index..=replica.last().index {
        if let Some(entry) = replica.entry(index) {
            let content = entry.command.map_or("no-op".into(), |c| c.to_string());
            write!(line, " {}/{content}", entry.term).unwrap();
        }
        if index == replica.committed() {
            line.push_str(" |");
        }
    }
    line
}

fn render_entry(entry: &Entry<u64>) -> String {
    let content = entry.command.map_or("no-op".into(), |c| c.to_string());
    format!("{} {content}", entry.term)
}

fn render_event(event: &LogEvent) -> String {
    let pair = |term: &Term, index: &Index| format!("{term}/{index}");
    match event {
        LogEvent::Restarted {
            snapshot_index,
            snapshot_term,
        } => format!("starts after {}", pair(snapshot_term, snapshot_index)),
        LogEvent::BecameLeader { term } => format!("becomes leader of term {term}"),
        LogEvent::WonBallot { ballot } => format!("wins ballot {ballot}"),
        LogEvent::Appended { index, term, .. } => format!("appends {}", pair(term, index)),
        LogEvent::Truncated { from } => format!("removes from {from} on"),
        LogEvent::Committed { index } => format!("commits up to {index}"),
        LogEvent::Compacted { index, term } => format!("compacts up to {}", pair(term, index)),
    }
}

/// A message as one line: positions are `term/index`.
fn render(message: &Message) -> String {
    match message {
        LogMessage::Raft(message) => render_raft(message),
        LogMessage::Paxos(message) => render_paxos(message),
    }
}

fn render_paxos(message: &PaxosMessage<u64>) -> String {
    match message {
        PaxosMessage::Ask { ballot } => format!("Ask ballot={ballot}"),
        PaxosMessage::Willing { asked, promised } => {
            format!("Willing asked={asked} promised={promised}")
        }
        PaxosMessage::Prepare { ballot, from } => format!("Prepare ballot={ballot} from={from}"),
        PaxosMessage::Promise {
            ballot,
            snapshot,
            first,
            accepted,
        } => {
            let mut line = format!("Promise ballot={ballot} first={first}");
            if let Some(snapshot) = snapshot {
                write!(line, " snapshot up to {}", snapshot.last.index).unwrap();
            }
            for Accepted { ballot, entry } in accepted {
                write!(line, " [{} in {ballot}]", render_entry(entry)).unwrap();
            }
            line
        }
        PaxosMessage::Refusal { ballot } => format!("Refusal promised={ballot}"),
        PaxosMessage::Accept {
            ballot,
            prev,
            values,
            commit,
            ..
        } => {
            let mut line = format!("Accept ballot={ballot} prev={prev} commit={commit}");
            for value in values {
                write!(line, " [{}]", render_entry(value)).unwrap();
            }
            line
        }
        PaxosMessage::Accepted { ballot, result, .. } => match result {
            Ok(index) => format!("Accepted ballot={ballot} up to {index}"),
            Err(gap) => format!("Accepted ballot={ballot} not: lacks {}", gap.missing),
        },
        PaxosMessage::Install {
            ballot, snapshot, ..
        } => format!("Install ballot={ballot} up to {}", snapshot.last.index),
    }
}

fn render_raft(message: &RaftMessage<u64>) -> String {
    match message {
        RaftMessage::RequestVote { term, pre, last } => {
            let name = if *pre {
                "RequestPreVote"
            } else {
                "RequestVote"
            };
            format!("{name} term={term} last={}", at(*last))
        }
        RaftMessage::Vote { term, pre, granted } => {
            let name = if *pre { "PreVote" } else { "Vote" };
            let answer = if *granted { "granted" } else { "refused" };
            format!("{name} term={term} {answer}")
        }
        RaftMessage::AppendEntries {
            term,
            prev,
            entries,
            commit,
            round,
        } => {
            let mut line = format!(
                "AppendEntries term={term} prev={} commit={commit}",
                at(*prev)
            );
            for entry in entries {
                write!(line, " [{}]", render_entry(entry)).unwrap();
            }
            if *round > 0 {
                write!(line, " round={round}").unwrap();
            }
            line
        }
        RaftMessage::AppendReply {
            term,
            round,
            result,
        } => {
            let mut line = match result {
                Ok(index) => format!("AppendReply term={term} matched={index}"),
                Err(conflict) => format!(
                    "AppendReply term={term} conflict at={} term={} first={}",
                    conflict.prev_index,
                    conflict.term.map_or("none".into(), |term| term.to_string()),
                    conflict.first_index
                ),
            };
            if *round > 0 {
                write!(line, " round={round}").unwrap();
            }
            line
        }
        RaftMessage::InstallSnapshot {
            term,
            snapshot,
            round,
        } => {
            let mut line = format!("InstallSnapshot term={term} last={}", at(snapshot.last));
            if *round > 0 {
                write!(line, " round={round}").unwrap();
            }
            line
        }
    }
}

/// A committed entry, as the first replica that knew of the commit held it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Committed {
    term: Term,
    command: Option<u64>,
    /// The term of the replica that knew first.
    known_in: Term,
}

/// The properties of figure 3, checked by looking at the replicas. The first violation is kept.
#[derive(Default)]
pub struct Facts {
    /// Raft's do, committed or not; Paxos's where they are committed.
    logs_match: bool,
    leaders: BTreeMap<Term, usize>,
    committed: BTreeMap<Index, Committed>,
    /// What each replica, in its current incarnation, was last seen to have committed.
    seen: BTreeMap<usize, Index>,
    reads: BTreeMap<u64, Index>,
    pub reads_served: u64,
    pub snapshots_restored: u64,
    pub violation: Option<(&'static str, String)>,
}

impl Facts {
    fn violated(&mut self, property: &'static str, why: String) {
        self.violation.get_or_insert((property, why));
    }

    pub fn committed_through(&self) -> Index {
        self.committed
            .last_key_value()
            .map_or(0, |(index, _)| *index)
    }

    /// In how many terms somebody led.
    pub fn leaders_seen(&self) -> u64 {
        self.leaders.len() as u64
    }

    pub fn commands(&self) -> Vec<u64> {
        self.committed.values().filter_map(|c| c.command).collect()
    }

    fn inspect(&mut self, node: usize, replicas: &[Option<&Log<u64>>]) {
        let Some(replica) = replicas[node] else {
            return;
        };
        if replica.is_leader() {
            self.election_safety(node, replica);
        }
        self.state_machine_safety(node, replica);
        if replica.is_leader() {
            self.leader_completeness(node, replica);
        }
        self.leader_order(node, replica);
        if !self.logs_match {
            return;
        }
        for (other, peer) in replicas.iter().enumerate() {
            if let Some(peer) = peer.filter(|_| other != node) {
                self.log_matching((node, replica), (other, peer));
            }
        }
    }

    /// At most one leader can be elected in a given term.
    fn election_safety(&mut self, node: usize, replica: &Log<u64>) {
        let first = *self.leaders.entry(replica.term()).or_insert(node);
        if first != node {
            let why = format!("n{first} and n{node} lead in term {}", replica.term());
            self.violated("election safety", why);
        }
    }

    /// If two logs contain an entry with the same index and term, then the logs are identical in all entries up
    /// through the given index.
    fn log_matching(&mut self, (a, log_a): (usize, &Log<u64>), (b, log_b): (usize, &Log<u64>)) {
        let first = log_a.snapshot_last().index.max(log_b.snapshot_last().index) + 1;
        let last = log_a.last().index.min(log_b.last().index);
        let mut same_from_here_down = false;
        for index in (first..=last).rev() {
            let (ours, theirs) = (log_a.entry(index).unwrap(), log_b.entry(index).unwrap());
            same_from_here_down |= ours.term == theirs.term;
            if same_from_here_down && ours != theirs {
                let why = format!("n{a} and n{b} agree after {index}, and not there");
                self.violated("log matching", why);
            }
        }
    }

    /// If a log entry is committed in a given term, then that entry will be present in the logs of the leaders
    /// for all higher-numbered terms.
    fn leader_completeness(&mut self, node: usize, replica: &Log<u64>) {
        let term = replica.term();
        let covered = replica.snapshot_last().index;
        for (index, entry) in self.committed.range(covered + 1..) {
            let held = replica.entry(*index).map(|held| (held.term, held.command));
            if entry.known_in < term && held != Some((entry.term, entry.command)) {
                let why = format!("n{node} leads term {term} with {held:?} at {index}: {entry:?}");
                return self.violated("leader completeness", why);
            }
        }
    }

    /// No two replicas ever commit different entries at the same index.
    fn state_machine_safety(&mut self, node: usize, replica: &Log<u64>) {
        let seen = self.seen.get(&node).copied().unwrap_or(0);
        // A restarted replica starts over.
        let seen = if seen > replica.committed() { 0 } else { seen };
        let covered = replica.snapshot_last().index;
        for index in seen.max(covered) + 1..=replica.committed() {
            let held = replica
                .entry(index)
                .expect("a replica holds what it commits");
            let committed = Committed {
                term: held.term,
                command: held.command,
                known_in: replica.term(),
            };
            let first = *self.committed.entry(index).or_insert(committed);
            if (first.term, first.command) != (held.term, held.command) {
                let why = format!("n{node} commits {held:?} at {index}: {first:?}");
                self.violated("state machine safety", why);
            }
        }
        self.seen.insert(node, replica.committed());
    }

    /// An established leader knows all that earlier leaders committed or ever will, and the terms of committed entries
    /// never go down.
    fn leader_order(&mut self, node: usize, replica: &Log<u64>) {
        let mut committed = self.committed.iter();
        if let Some(term) = replica.established()
            && let Some((index, missed)) = committed
                .by_ref()
                .find(|(index, entry)| **index > replica.committed() && entry.term < term)
        {
            let why =
                format!("n{node} is established in term {term} without {missed:?} at {index}");
            self.violated("leader order", why);
        }
        let terms = self.committed.values().map(|entry| entry.term);
        if !terms.is_sorted() {
            let why = format!("terms go down: {:?}", self.committed);
            self.violated("leader order", why);
        }
    }

    fn applied(&mut self, node: usize, position: Position, command: u64) {
        let known = self.committed.get(&position.index).map(|c| c.command);
        if known != Some(Some(command)) {
            let why = format!("n{node} applies {command} at {}: {known:?}", position.index);
            self.violated("state machine safety", why);
        }
    }

    fn state_is(&mut self, node: usize, index: Index, state: &[u64]) {
        self.snapshots_restored += 1;
        let expected: Vec<u64> = self
            .committed
            .range(..=index)
            .filter_map(|(_, c)| c.command)
            .collect();
        if expected != state {
            let why = format!("n{node} restores {state:?} at {index}: {expected:?}");
            self.violated("state machine safety", why);
        }
    }

    fn read_asked(&mut self, read: u64) {
        self.reads.insert(read, self.committed_through());
    }

    /// A linearizable read sees everything that anybody knew to be committed when it was asked for.
    fn read_served(&mut self, read: u64, replica: &Log<u64>) {
        self.reads_served += 1;
        let bound = self.reads[&read];
        if replica.committed() < bound {
            let why = format!("read {read} sees {}, not {bound}", replica.committed());
            self.violated("linearizable reads", why);
        }
    }
}
