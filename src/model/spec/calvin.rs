//! `specs/calvin/Calvin.tla` in Rust: a sequencer's log, shards that handle it in order, remote reads and client acks.
//!
//! The spec holds the explanations; here the same actions stand in the same order under the same names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use stateright::{Model, Property};

use super::value::{Config, ConfigError, Value};
use super::{Invariant, Members, Spec, label, unknown};
use crate::model::checker::leads_to::{FairChecker, Strength};

/// The largest number of shards.
pub const SHARDS_MAX: u8 = 4;

/// The largest number of transactions.
pub const TXNS_MAX: u8 = 4;

/// The constants of the spec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Calvin {
    /// How many transactions.
    pub count: u8,
    /// How many shards.
    pub shard_count: u8,
    /// What the transactions touch.
    pub footprints: Footprints,
    /// The faults that a behaviour may contain.
    pub budget: Budget,
    /// Losses and cuts may recur for ever.
    pub forever: bool,
    /// Shards take checkpoints.
    pub checkpoints: bool,
    /// Messages are never used up.
    pub duplicates: bool,
    /// Other regions hold copies of the shards.
    pub copies: bool,
    /// The step that a broken variant adds.
    pub flaw: Option<Flaw>,
}

/// What the transactions of an instance touch: `Reads`, `Active`, `Writes` and `Home`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Footprints {
    /// As the spec's constants say.
    Constants {
        /// Each transaction touches two neighbours in a ring of shards, instead of reading them all.
        ring: bool,
        /// Several participants may be active, and transactions differ in who is and who writes.
        mixed: bool,
    },
    /// As the transactions of the running code do, by number. Mixed.
    Given(Arc<[Footprint]>),
}

/// What a transaction touches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Footprint {
    /// Who answers the client: an active participant.
    pub home: Shard,
    /// The rows read.
    pub reads: Members,
    /// The participants that gather all reads and execute.
    pub active: Members,
    /// Those of them that write.
    pub writes: Members,
}

/// The broken variants in `MCCalvinBroken.tla`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// A passive participant reads before its turn.
    ReadAhead,
    /// A duplicate is executed again.
    ExecuteAgain,
    /// A restart forgets what was read for others.
    CrashForgetsReads,
}

/// What a client knows of its transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // The spec's own terms.
pub enum Client {
    Idle,
    Submitted,
    Acked,
}

/// The faults that may still happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Budget {
    /// Transactions appended again.
    pub dup: u8,
    /// Crashes.
    pub crash: u8,
    /// Lost messages.
    pub loss: u8,
    /// Cut-off shards.
    pub cut: u8,
}

/// A transaction by number, from 0; shown as in the spec, where numbers start from 1. Likewise [`Shard`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Txn(pub u8);

/// A shard by number, and the row that it owns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u8);

impl fmt::Debug for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 + 1)
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 + 1)
    }
}

/// What a passive participant read for the active one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RemoteRead {
    /// The transaction's position in the log, from 1.
    pub pos: u8,
    /// Who read.
    pub from: Shard,
    /// The version: the position that wrote it, 0 for the initial one.
    pub ver: u8,
    /// The receiver, an active participant. Part of the spec's message only if there may be several.
    pub to: Shard,
}

/// What a shard keeps in a checkpoint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Kept {
    /// The position that it works at.
    pub next: u8,
    /// The version of its row.
    pub ver: u8,
    /// What it read for others, by position.
    pub out: BTreeMap<u8, u8>,
}

/// A shard's memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Memory {
    /// `got[s]`.
    pub got: u8,
    /// `next[s]`, `ver[s]`, `out[s]`.
    pub kept: Kept,
    /// `inbox[s]`.
    pub inbox: BTreeSet<RemoteRead>,
    /// `disk[s]`.
    pub disk: Kept,
}

/// The versions that a transaction read, by row.
pub type Reads = BTreeMap<Shard, u8>;

/// The variables of the spec.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State {
    /// `client`.
    pub client: Vec<Client>,
    /// `before`.
    pub before: Vec<Members>,
    /// `log`.
    pub log: Vec<Txn>,
    /// `seqUp`.
    pub seq_up: bool,
    /// `got`, `next`, `ver`, `out`, `inbox` and `disk`.
    pub shards: Vec<Memory>,
    /// `net`.
    pub net: BTreeSet<RemoteRead>,
    /// `acks`.
    pub acks: Members,
    /// `done`.
    pub done: Vec<BTreeSet<Reads>>,
    /// `cut`.
    pub cut: Members,
    /// `down`.
    pub down: Members,
    /// `budget`.
    pub budget: Budget,
}

/// The actions of the spec.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // Calvin.tla explains each.
pub enum Action {
    Submit(Txn),
    Sequence(Txn),
    SequenceAgain(Txn),
    ReceiveAck(Txn),
    Deliver(Shard),
    Skip(Shard),
    ReadLocal(Shard),
    ReadActive(Shard),
    SendRead(Shard, RemoteRead),
    SendCopy(Shard, RemoteRead),
    Install(Shard, u8),
    ReceiveRead(Shard, RemoteRead),
    Execute(Shard),
    AckAgain(Txn),
    Checkpoint(Shard),
    CrashShard(Shard),
    RestartShard(Shard),
    CrashSequencer,
    RestartSequencer,
    LoseRead(RemoteRead),
    LoseAck(Txn),
    Cut(Shard),
    Heal(Shard),
    ReadAhead(Shard),
    ExecuteAgain(Shard),
    CrashForgetsReads(Shard),
}

impl State {
    /// The transaction at a position, if the log reaches that far.
    pub fn at(&self, pos: u8) -> Option<Txn> {
        self.log.get(usize::from(pos).checked_sub(1)?).copied()
    }

    fn memory(&self, s: Shard) -> &Memory {
        &self.shards[usize::from(s.0)]
    }

    fn memory_mut(&mut self, s: Shard) -> &mut Memory {
        &mut self.shards[usize::from(s.0)]
    }

    fn client(&self, t: Txn) -> Client {
        self.client[usize::from(t.0)]
    }

    /// Whether the transaction at this position stands there first.
    fn first(&self, pos: u8) -> bool {
        let txn = self.at(pos);
        (1..pos).all(|before| self.at(before) != txn)
    }

    /// The position where it stands first.
    fn position(&self, t: Txn) -> Option<u8> {
        self.log
            .iter()
            .zip(1..)
            .find(|(txn, _)| **txn == t)
            .map(|(_, pos)| pos)
    }

    /// The position that a shard works at, if it has received it and is up.
    fn turn(&self, s: Shard) -> Option<(u8, Txn)> {
        let memory = self.memory(s);
        let pos = memory.kept.next;
        let ready = !self.down.has(s.0) && pos <= memory.got;
        ready.then(|| (pos, self.at(pos).expect("what was received is in the log")))
    }

    fn executed(&self) -> impl Iterator<Item = Txn> {
        (0..self.done.len() as u8)
            .map(Txn)
            .filter(|t| !self.done[usize::from(t.0)].is_empty())
    }
}

impl Calvin {
    /// What a transaction touches.
    pub fn footprint(&self, t: Txn) -> Footprint {
        let (ring, mixed) = match &self.footprints {
            Footprints::Constants { ring, mixed } => (*ring, *mixed),
            Footprints::Given(given) => return given[usize::from(t.0)],
        };
        let count = self.shard_count;
        let home = t.0 % count;
        let pair = Members::default().with(home).with((home + 1) % count);
        let reads = if ring { pair } else { Members::first(count) };
        let just_home = Members::default().with(home);
        let (active, writes) = match t.0 % 3 {
            _ if !mixed => (just_home, just_home),
            0 => (reads, reads),
            1 => (pair, pair.without(home)),
            _ => (reads, Members::default()),
        };
        Footprint {
            home: Shard(home),
            reads,
            active,
            writes,
        }
    }

    fn home(&self, t: Txn) -> Shard {
        self.footprint(t).home
    }

    fn mixed(&self) -> bool {
        match self.footprints {
            Footprints::Constants { mixed, .. } => mixed,
            Footprints::Given(_) => true,
        }
    }

    fn txns(&self) -> impl Iterator<Item = Txn> + use<> {
        (0..self.count).map(Txn)
    }

    fn shards(&self) -> impl Iterator<Item = Shard> + use<> {
        (0..self.shard_count).map(Shard)
    }

    /// What the transaction at a position touches.
    fn footprint_at(&self, state: &State, pos: u8) -> Footprint {
        let txn = state.at(pos);
        self.footprint(txn.expect("it stands in the log"))
    }

    /// `LogVersion`: what the log says that a row holds before a position.
    pub fn log_version(&self, state: &State, pos: u8, row: Shard) -> u8 {
        (1..pos)
            .rev()
            .find(|&at| state.first(at) && self.footprint_at(state, at).writes.has(row.0))
            .unwrap_or(0)
    }

    /// `LogReads`: what the log says that the transaction at a position reads.
    pub fn log_reads(&self, state: &State, pos: u8) -> Reads {
        let rows = self.footprint_at(state, pos).reads.iter().map(Shard);
        rows.map(|row| (row, self.log_version(state, pos, row)))
            .collect()
    }

    /// The remote reads of a version that a participant has to send to the active ones.
    fn owed(&self, state: &State, pos: u8, from: Shard, ver: u8) -> Vec<RemoteRead> {
        let to = self.footprint_at(state, pos).active.without(from.0);
        let read = |to| RemoteRead {
            pos,
            from,
            ver,
            to: Shard(to),
        };
        to.iter().map(read).collect()
    }

    fn client_actions(&self, state: &State, t: Txn, actions: &mut Vec<Action>) {
        let mut when = |enabled: bool, action: Action| {
            if enabled {
                actions.push(action);
            }
        };
        let position = state.position(t);
        let (home, submitted) = (self.home(t), state.client(t) == Client::Submitted);
        when(state.client(t) == Client::Idle, Action::Submit(t));
        when(
            state.seq_up && submitted && position.is_none(),
            Action::Sequence(t),
        );
        let again = position.is_some() && state.budget.dup > 0;
        when(state.seq_up && submitted && again, Action::SequenceAgain(t));
        let acked = state.acks.has(t.0);
        when(acked && !state.cut.has(home.0), Action::ReceiveAck(t));
        let executed = position.is_some_and(|pos| pos < state.memory(home).kept.next);
        when(
            submitted && !acked && !state.down.has(home.0) && executed,
            Action::AckAgain(t),
        );
        when(
            acked && self.may_lose(state, state.cut.has(home.0)),
            Action::LoseAck(t),
        );
    }

    fn may_lose(&self, state: &State, free: bool) -> bool {
        free || self.forever || state.budget.loss > 0
    }

    /// What a shard may do with the position that it works at.
    fn turn_actions(&self, state: &State, s: Shard, actions: &mut Vec<Action>) {
        let Some((pos, txn)) = state.turn(s) else {
            return;
        };
        let first = state.first(pos);
        let Footprint { reads, active, .. } = self.footprint(txn);
        let remote = reads.without(s.0);
        if !first || !reads.has(s.0) {
            actions.push(Action::Skip(s));
        } else if !active.has(s.0) {
            actions.push(Action::ReadLocal(s));
        } else {
            let alone = active.len() == 1;
            let has_read = state.memory(s).kept.out.contains_key(&pos);
            if !alone && !has_read {
                actions.push(Action::ReadActive(s));
            }
            if (alone || has_read) && self.arrived(state, s, pos) == remote {
                actions.push(Action::Execute(s));
            }
        }
        let alone = !first && self.home(txn) == s && remote.is_empty();
        if self.flaw == Some(Flaw::ExecuteAgain) && alone {
            actions.push(Action::ExecuteAgain(s));
        }
    }

    /// The participants whose reads for a position have arrived.
    fn arrived(&self, state: &State, s: Shard, pos: u8) -> Members {
        let here = state.memory(s).inbox.iter().filter(|read| read.pos == pos);
        here.fold(Members::default(), |from, read| from.with(read.from.0))
    }

    fn shard_actions(&self, state: &State, s: Shard, actions: &mut Vec<Action>) {
        self.turn_actions(state, s, actions);
        let memory = state.memory(s);
        let mut when = |enabled: bool, action: Action| {
            if enabled {
                actions.push(action);
            }
        };
        let (up, linked) = (!state.down.has(s.0), !state.cut.has(s.0));
        when(
            up && linked && usize::from(memory.got) < state.log.len(),
            Action::Deliver(s),
        );
        for (&pos, &ver) in &memory.kept.out {
            for read in self.owed(state, pos, s, ver) {
                let to = state.memory(read.to);
                let useful = self.duplicates || !to.inbox.contains(&read) && to.kept.next <= pos;
                when(
                    up && useful && !state.net.contains(&read),
                    Action::SendRead(s, read),
                );
            }
        }
        let length = state.log.len() as u8;
        for pos in (1..=length).filter(|_| self.copies) {
            let taken_part = state.first(pos) && self.footprint_at(state, pos).reads.has(s.0);
            for read in self.owed(state, pos, s, self.log_version(state, pos, s)) {
                when(
                    taken_part && !state.net.contains(&read),
                    Action::SendCopy(s, read),
                );
            }
        }
        for pos in memory.kept.next + 1..=length + 1 {
            when(self.copies && up && linked, Action::Install(s, pos));
        }
        for &read in &state.net {
            let arrives = read.to == s && !state.cut.has(read.from.0);
            when(up && linked && arrives, Action::ReceiveRead(s, read));
        }
        when(
            self.checkpoints && up && memory.disk != memory.kept,
            Action::Checkpoint(s),
        );
        when(up && state.budget.crash > 0, Action::CrashShard(s));
        when(!up, Action::RestartShard(s));
        when(linked && state.budget.cut > 0, Action::Cut(s));
        when(!linked, Action::Heal(s));
        when(
            self.flaw == Some(Flaw::ReadAhead) && self.reads_ahead(state, s).is_some(),
            Action::ReadAhead(s),
        );
        let forgets = self.flaw == Some(Flaw::CrashForgetsReads);
        when(
            forgets && up && state.budget.crash > 0,
            Action::CrashForgetsReads(s),
        );
    }

    /// The read that a shard may send before its turn, where it is broken.
    fn reads_ahead(&self, state: &State, s: Shard) -> Option<RemoteRead> {
        let memory = state.memory(s);
        let pos = memory.kept.next + 1;
        if state.down.has(s.0) || pos > memory.got {
            return None;
        }
        let Footprint { home, reads, .. } = self.footprint(state.at(pos)?);
        let wanted = state.first(pos) && reads.without(home.0).has(s.0);
        let read = RemoteRead {
            pos,
            from: s,
            ver: memory.kept.ver,
            to: home,
        };
        (wanted && !state.net.contains(&read)).then_some(read)
    }

    fn client_step(&self, after: &mut State, action: Action) {
        match action {
            Action::Submit(t) => {
                let acked = self.txns().filter(|u| after.client(*u) == Client::Acked);
                after.before[usize::from(t.0)] =
                    acked.fold(Members::default(), |set, u| set.with(u.0));
                after.client[usize::from(t.0)] = Client::Submitted;
            }
            Action::Sequence(t) => after.log.push(t),
            Action::SequenceAgain(t) => {
                after.log.push(t);
                after.budget.dup -= 1;
            }
            Action::ReceiveAck(t) => {
                after.acks = after.acks.without(t.0);
                after.client[usize::from(t.0)] = Client::Acked;
            }
            Action::AckAgain(t) => after.acks = after.acks.with(t.0),
            other => unreachable!("{other:?} is no step of a client or the sequencer"),
        }
    }

    fn shard_step(&self, before: &State, after: &mut State, action: Action) {
        match action {
            Action::Deliver(s) => after.memory_mut(s).got += 1,
            Action::Skip(s) => after.memory_mut(s).kept.next += 1,
            Action::ReadLocal(s) => {
                let kept = &mut after.memory_mut(s).kept;
                kept.out.insert(kept.next, kept.ver);
                kept.next += 1;
            }
            Action::ReadActive(s) => {
                let kept = &mut after.memory_mut(s).kept;
                kept.out.insert(kept.next, kept.ver);
            }
            Action::SendRead(_, read) | Action::SendCopy(_, read) => {
                after.net.insert(read);
            }
            Action::Install(s, pos) => self.install(before, after, s, pos),
            Action::ReadAhead(s) => {
                after
                    .net
                    .insert(self.reads_ahead(before, s).expect("enabled"));
            }
            Action::ReceiveRead(s, read) => {
                if !self.duplicates {
                    after.net.remove(&read);
                }
                let same = |known: &RemoteRead| (known.pos, known.from) == (read.pos, read.from);
                let known = before.memory(s).inbox.iter().any(same);
                if before.memory(s).kept.next <= read.pos && !known {
                    after.memory_mut(s).inbox.insert(read);
                }
            }
            Action::Execute(s) | Action::ExecuteAgain(s) => self.execute(before, after, s),
            Action::Checkpoint(s) => after.memory_mut(s).disk = before.memory(s).kept.clone(),
            other => unreachable!("{other:?} is no step of a shard"),
        }
    }

    fn execute(&self, before: &State, after: &mut State, s: Shard) {
        let (pos, t) = before.turn(s).expect("enabled");
        let again = !before.first(pos);
        let memory = after.memory_mut(s);
        let mut reads: Reads = [(s, memory.kept.ver)].into();
        reads.extend(
            memory
                .inbox
                .iter()
                .filter(|read| read.pos == pos)
                .map(|read| (read.from, read.ver)),
        );
        let Footprint { home, writes, .. } = self.footprint(t);
        memory.inbox.retain(|read| read.pos != pos);
        if writes.has(s.0) {
            memory.kept.ver = pos;
        }
        memory.kept.next += 1;
        after.done[usize::from(t.0)].insert(reads);
        if home == s && before.client(t) == Client::Submitted && !again {
            after.acks = after.acks.with(t.0);
        }
    }

    /// A shard becomes what a copy is before a position.
    fn install(&self, before: &State, after: &mut State, s: Shard, pos: u8) {
        let read_for_others = |at: &u8| {
            let Footprint { reads, active, .. } = self.footprint_at(before, *at);
            before.first(*at) && reads.has(s.0) && active != Members::default().with(s.0)
        };
        let memory = after.memory_mut(s);
        memory.kept = Kept {
            next: pos,
            ver: self.log_version(before, pos, s),
            out: (1..pos)
                .filter(read_for_others)
                .map(|at| (at, self.log_version(before, at, s)))
                .collect(),
        };
        memory.got = pos - 1;
        memory.inbox.retain(|read| read.pos >= pos);
        for at in (1..pos).filter(|at| before.first(*at)) {
            let t = before.at(at).expect("before the end of the log");
            if self.footprint(t).active.has(s.0) {
                after.done[usize::from(t.0)].insert(self.log_reads(before, at));
            }
        }
    }

    fn fault(&self, after: &mut State, action: Action) {
        match action {
            Action::CrashShard(s) => {
                let memory = after.memory_mut(s);
                memory.kept = memory.disk.clone();
                memory.got = memory.kept.next - 1;
                memory.inbox.clear();
                after.down = after.down.with(s.0);
                after.budget.crash -= 1;
            }
            Action::CrashForgetsReads(s) => {
                let memory = after.memory_mut(s);
                memory.kept.out.clear();
                memory.inbox.clear();
                after.down = after.down.with(s.0);
                after.budget.crash -= 1;
            }
            Action::RestartShard(s) => after.down = after.down.without(s.0),
            Action::CrashSequencer => {
                after.seq_up = false;
                after.budget.crash -= 1;
            }
            Action::RestartSequencer => after.seq_up = true,
            Action::LoseRead(read) => {
                after.net.remove(&read);
                let free = after.cut.has(read.from.0) || after.cut.has(read.to.0);
                self.pay(after, free);
            }
            Action::LoseAck(t) => {
                after.acks = after.acks.without(t.0);
                self.pay(after, after.cut.has(self.home(t).0));
            }
            Action::Cut(s) => {
                after.cut = after.cut.with(s.0);
                if !self.forever {
                    after.budget.cut -= 1;
                }
            }
            Action::Heal(s) => after.cut = after.cut.without(s.0),
            other => unreachable!("{other:?} is no fault"),
        }
    }

    fn pay(&self, after: &mut State, free: bool) {
        if !free && !self.forever {
            after.budget.loss -= 1;
        }
    }

    fn type_ok(&self, state: &State) -> bool {
        let Budget {
            dup,
            crash,
            loss,
            cut,
        } = state.budget;
        let length = state.log.len() as u8;
        let fits = |memory: &Memory| {
            let Kept { next, ver, out } = &memory.kept;
            memory.got <= length
                && (1..=memory.got + 1).contains(next)
                && ver < next
                && out
                    .keys()
                    .all(|pos| (1..*next + u8::from(self.mixed())).contains(pos))
                && memory.disk.next <= length + 1
        };
        length <= self.count + self.budget.dup
            && state.shards.iter().all(fits)
            && (dup <= self.budget.dup && crash <= self.budget.crash)
            && (loss <= self.budget.loss && cut <= self.budget.cut)
    }

    fn deterministic(&self, state: &State) -> bool {
        state.done.iter().all(|results| results.len() <= 1)
    }

    fn strictly_serializable(&self, state: &State) -> bool {
        let mut left: Vec<Txn> = match self.copies {
            true => self
                .txns()
                .filter(|t| state.position(*t).is_some())
                .collect(),
            false => state.executed().collect(),
        };
        self.can_order(state, &mut Vec::new(), &mut left)
    }

    /// Whether some order of `left` after `placed` explains all reads and keeps real time.
    fn can_order(&self, state: &State, placed: &mut Vec<Txn>, left: &mut Vec<Txn>) -> bool {
        if left.is_empty() {
            return true;
        }
        for at in 0..left.len() {
            let t = left[at];
            let real_time = left
                .iter()
                .all(|u| !state.before[usize::from(t.0)].has(u.0));
            let explained = state.done[usize::from(t.0)].iter().all(|reads| {
                reads.iter().all(|(row, ver)| {
                    let writer = placed
                        .iter()
                        .rev()
                        .find(|u| self.footprint(**u).writes.has(row.0))
                        .copied();
                    state.at(*ver) == writer
                })
            });
            if real_time && explained {
                left.remove(at);
                placed.push(t);
                let found = self.can_order(state, placed, left);
                placed.pop();
                left.insert(at, t);
                if found {
                    return true;
                }
            }
        }
        false
    }

    fn log_order(&self, state: &State) -> bool {
        state.executed().all(|t| {
            let pos = state.position(t).expect("executed from the log");
            let said = self.log_reads(state, pos);
            state.done[usize::from(t.0)]
                .iter()
                .all(|reads| *reads == said)
        })
    }

    fn durable(&self, state: &State) -> bool {
        self.txns().all(|t| {
            state.client(t) != Client::Acked
                || (!state.done[usize::from(t.0)].is_empty() && state.position(t).is_some())
        })
    }

    fn read_view(&self, read: &RemoteRead) -> Value {
        let (pos, from, ver) = (read.pos.into(), (read.from.0 + 1).into(), read.ver.into());
        match self.mixed() {
            false => Value::record([("pos", pos), ("from", from), ("ver", ver)]),
            true => {
                let to = (read.to.0 + 1).into();
                Value::record([("pos", pos), ("from", from), ("ver", ver), ("to", to)])
            }
        }
    }

    fn kept_view(kept: &Kept) -> [(&'static str, Value); 3] {
        let out = Value::function(
            kept.out
                .iter()
                .map(|(pos, ver)| ((*pos).into(), (*ver).into())),
        );
        [
            ("next", kept.next.into()),
            ("ver", kept.ver.into()),
            ("out", out),
        ]
    }
}

impl Model for Calvin {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let nothing = Kept {
            next: 1,
            ver: 0,
            out: BTreeMap::new(),
        };
        let memory = Memory {
            got: 0,
            kept: nothing.clone(),
            inbox: BTreeSet::new(),
            disk: nothing,
        };
        let (txns, shards) = (usize::from(self.count), usize::from(self.shard_count));
        vec![State {
            client: vec![Client::Idle; txns],
            before: vec![Members::default(); txns],
            log: Vec::new(),
            seq_up: true,
            shards: vec![memory; shards],
            net: BTreeSet::new(),
            acks: Members::default(),
            done: vec![BTreeSet::new(); txns],
            cut: Members::default(),
            down: Members::default(),
            budget: self.budget,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for t in self.txns() {
            self.client_actions(state, t, actions);
        }
        for s in self.shards() {
            self.shard_actions(state, s, actions);
        }
        if !state.seq_up {
            actions.push(Action::RestartSequencer);
        } else if state.budget.crash > 0 {
            actions.push(Action::CrashSequencer);
        }
        for read in &state.net {
            let free = state.cut.has(read.from.0) || state.cut.has(read.to.0);
            if self.may_lose(state, free) {
                actions.push(Action::LoseRead(*read));
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        use Action::*;
        let mut after = before.clone();
        match action {
            Submit(_) | Sequence(_) | SequenceAgain(_) | ReceiveAck(_) | AckAgain(_) => {
                self.client_step(&mut after, action);
            }
            Deliver(_) | Skip(_) | ReadLocal(_) | ReadActive(_) | SendRead(..) | SendCopy(..)
            | Install(..) | ReadAhead(_) | ReceiveRead(..) | Execute(_) | ExecuteAgain(_)
            | Checkpoint(_) => self.shard_step(before, &mut after, action),
            CrashShard(_) | CrashForgetsReads(_) | RestartShard(_) | CrashSequencer
            | RestartSequencer | LoseRead(_) | LoseAck(_) | Cut(_) | Heal(_) => {
                self.fault(&mut after, action)
            }
        }
        Some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        Self::invariants()
            .iter()
            .map(|&(name, holds)| Property::always(name, holds))
            .collect()
    }
}

impl Spec for Calvin {
    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let flaw = match config.specification.as_str() {
            "Safe" | "SpecCutOff" | "Spec" | "SpecStrong" => None,
            "SpecReadAhead" => Some(Flaw::ReadAhead),
            "SpecExecuteAgain" => Some(Flaw::ExecuteAgain),
            "SpecCrashForgetsReads" => Some(Flaw::CrashForgetsReads),
            other => return Err(unknown("specification", other)),
        };
        Ok(Self {
            count: config.positive("Count", TXNS_MAX)?,
            shard_count: config.positive("ShardCount", SHARDS_MAX)?,
            footprints: Footprints::Constants {
                ring: config.truth("Ring")?,
                mixed: config.truth("Mixed")?,
            },
            budget: Budget {
                dup: config.number("MaxDuplicates", 9)?,
                crash: config.number("MaxCrashes", 9)?,
                loss: config.number("MaxLosses", 9)?,
                cut: config.number("MaxCuts", 9)?,
            },
            forever: config.truth("Forever")?,
            checkpoints: config.truth("Checkpoints")?,
            duplicates: config.truth("Duplicates")?,
            copies: config.truth("Copies")?,
            flaw,
        })
    }

    fn view(&self, state: &State) -> Value {
        let per_shard = |of: &dyn Fn(&Memory) -> Value| Value::seq(state.shards.iter().map(of));
        let reads = |reads: &Reads| {
            Value::function(
                reads
                    .iter()
                    .map(|(row, ver)| ((row.0 + 1).into(), (*ver).into())),
            )
        };
        let Budget {
            dup,
            crash,
            loss,
            cut,
        } = state.budget;
        let budget = [
            ("dup", dup.into()),
            ("crash", crash.into()),
            ("loss", loss.into()),
            ("cut", cut.into()),
        ];
        let client = |client: &Client| Value::text(&format!("{client:?}").to_lowercase());
        let kept =
            |which: usize| per_shard(&|memory| Self::kept_view(&memory.kept)[which].1.clone());
        Value::record([
            ("client", Value::seq(state.client.iter().map(client))),
            (
                "before",
                Value::seq(state.before.iter().map(|set| set.numbers())),
            ),
            (
                "log",
                Value::seq(state.log.iter().map(|t| (t.0 + 1).into())),
            ),
            ("seqUp", state.seq_up.into()),
            ("got", per_shard(&|memory| memory.got.into())),
            ("next", kept(0)),
            ("ver", kept(1)),
            ("out", kept(2)),
            (
                "inbox",
                per_shard(&|memory| {
                    Value::set(memory.inbox.iter().map(|read| self.read_view(read)))
                }),
            ),
            (
                "disk",
                per_shard(&|memory| Value::record(Self::kept_view(&memory.disk))),
            ),
            (
                "net",
                Value::set(state.net.iter().map(|read| self.read_view(read))),
            ),
            ("acks", state.acks.numbers()),
            (
                "done",
                Value::seq(
                    state
                        .done
                        .iter()
                        .map(|results| Value::set(results.iter().map(reads))),
                ),
            ),
            ("cut", state.cut.numbers()),
            ("down", state.down.numbers()),
            ("budget", Value::record(budget)),
        ])
    }

    fn label(action: &Action) -> &'static str {
        label!(action, Submit Sequence SequenceAgain ReceiveAck Deliver Skip ReadLocal ReadActive SendRead SendCopy Install ReceiveRead Execute
            AckAgain Checkpoint CrashShard RestartShard CrashSequencer RestartSequencer LoseRead LoseAck Cut Heal
            ReadAhead ExecuteAgain CrashForgetsReads)
    }

    fn invariants() -> &'static [(&'static str, Invariant<Self>)] {
        &[
            ("TypeOK", Self::type_ok),
            ("Deterministic", Self::deterministic),
            ("StrictlySerializable", Self::strictly_serializable),
            ("LogOrder", Self::log_order),
            ("Durable", Self::durable),
        ]
    }

    fn assume<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        specification: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError> {
        use Action::*;
        let weak = Strength::Weak;
        let progress = |checker: FairChecker<'m, Self>| {
            checker
                .weak("RestartSequencer", |action| *action == RestartSequencer)
                .each(weak, "Sequence", self.txns(), |t, action| {
                    *action == Sequence(*t)
                })
                .each(weak, "AckAgain", self.txns(), |t, action| {
                    *action == AckAgain(*t)
                })
                .each(weak, "Handle", self.shards(), |s, action| {
                    [
                        Deliver(*s),
                        Skip(*s),
                        ReadLocal(*s),
                        ReadActive(*s),
                        Execute(*s),
                    ]
                    .contains(action)
                })
                .each(
                    weak,
                    "SendReads",
                    self.shards(),
                    |s, action| matches!(action, SendRead(from, _) if from == s),
                )
                .each(weak, "RestartShard", self.shards(), |s, action| {
                    *action == RestartShard(*s)
                })
        };
        let delivery = |checker: FairChecker<'m, Self>, strength| {
            checker
                .each(
                    strength,
                    "ReceiveRead",
                    self.shards(),
                    |s, action| matches!(action, ReceiveRead(to, _) if to == s),
                )
                .each(strength, "ReceiveAck", self.txns(), |t, action| {
                    *action == ReceiveAck(*t)
                })
        };
        let healing = |checker: FairChecker<'m, Self>| {
            checker.each(weak, "Heal", self.shards(), |s, action| *action == Heal(*s))
        };
        Ok(match specification {
            "SpecCutOff" => delivery(progress(checker), weak),
            "Spec" | "SpecCrashForgetsReads" => healing(delivery(progress(checker), weak)),
            "SpecStrong" => healing(delivery(progress(checker), Strength::Strong)),
            "Safe" | "SpecReadAhead" | "SpecExecuteAgain" => checker,
            other => return Err(unknown("specification", other)),
        })
    }

    fn promise<'m>(
        &'m self,
        checker: FairChecker<'m, Self>,
        name: &str,
    ) -> Result<FairChecker<'m, Self>, ConfigError> {
        if name != "Termination" {
            return Err(unknown("property", name));
        }
        // One conjunct for each transaction; the verdicts of one name are taken together.
        Ok(self.txns().fold(checker, |checker, t| {
            checker.leads_to(
                name,
                move |state| state.client(t) == Client::Submitted,
                move |state| state.client(t) == Client::Acked,
            )
        }))
    }
}
