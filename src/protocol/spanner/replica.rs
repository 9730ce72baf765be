//! A replica of a group: it keeps the log, serves snapshot reads, and, where it leads, is participant and coordinator.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::coordinator::Running;
use super::group::{Applied, Command, Group};
use super::participant::{Holder, Owner};
use super::reader::{Asked, Reading};
use super::{Attempt, Message, Out, Site, Timer};
use crate::base::observation::Observation;
use crate::base::process::{Addr, Delay, Effects, Input, Interval, Process, WallTime};
use crate::base::txn::{ShardId, Txn, TxnId};
use crate::consensus::{LogEffects, LogMessage, LogTimer, Position, Term};
use crate::protocol::Autopsy;
use crate::protocol::kit::client::ClientMessage;
use crate::protocol::kit::replicated::{Event, Replicated};
use crate::shard::ShardState;
use crate::shard::locks::Locks;
use crate::shard::recovery::Recovery;
use crate::shard::versions::Timestamp;

/// What a leader keeps in memory, and loses with its leadership.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Lead {
    pub(super) term: Term,
    /// The largest timestamp that was given out, or made safe.
    pub(super) assigned: Timestamp,
    /// The largest timestamp that a record on its way through the log makes safe.
    pub(super) advanced: Timestamp,
    /// Counts its attempts.
    pub(super) attempts: u64,
    // Participant.
    pub(super) locks: Locks<Owner>,
    pub(super) holders: BTreeMap<Attempt, Holder>,
    // Coordinator.
    pub(super) running: BTreeMap<TxnId, Running>,
    /// The participants that have acted on the end of a transaction, so far.
    pub(super) done: BTreeMap<TxnId, Vec<ShardId>>,
}

/// The process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Replica {
    pub(super) site: Arc<Site>,
    region: usize,
    pub(super) group: ShardId,
    pub(super) me: Addr,
    log: Replicated<Group>,
    /// What it keeps while it leads.
    pub(super) lead: Option<Lead>,
    /// Whom it takes for the leader of each group.
    leaders: BTreeMap<ShardId, Addr>,
    /// Requests that wait for the group to have a leader.
    unsent: BTreeMap<TxnId, (Addr, Arc<Txn>)>,
    // Snapshot reads.
    /// Transactions that only read, and that this replica runs.
    pub(super) reading: BTreeMap<TxnId, Reading>,
    /// Reads of this group that wait.
    pub(super) asked: Vec<Asked>,
    /// Messages to itself.
    to_self: VecDeque<Message>,
}

impl Replica {
    /// A replica that has not booted.
    pub(super) fn new(
        site: Arc<Site>,
        region: usize,
        group: ShardId,
        log: Replicated<Group>,
    ) -> Self {
        Self {
            me: site.replica(region, group),
            site,
            region,
            group,
            log,
            lead: None,
            leaders: BTreeMap::new(),
            unsent: BTreeMap::new(),
            reading: BTreeMap::new(),
            asked: Vec::new(),
            to_self: VecDeque::new(),
        }
    }

    /// The group's state as far as this replica has it.
    pub(super) fn state(&self) -> &Group {
        self.log.state()
    }

    /// `TT.now()`.
    pub(super) fn interval(&self, now: WallTime) -> Interval {
        Interval::around(now, self.site.bound_ns)
    }

    /// `TT.after`, where transactions wait for it.
    pub(super) fn has_passed(&self, at: Timestamp, now: WallTime) -> bool {
        !self.site.options.commit_wait || self.interval(now).is_after(WallTime(at.0))
    }

    /// How long until a timestamp has passed, by this clock.
    pub(super) fn until_passed(&self, at: Timestamp, now: WallTime) -> Delay {
        let earliest = self.interval(now).earliest;
        Delay::exactly(at.0.saturating_sub(earliest.0).saturating_add(1))
    }

    /// A timestamp above all that this leader has given out, and not below `TT.now().latest`.
    pub(super) fn next_timestamp(&mut self, now: WallTime, above: Timestamp) -> Timestamp {
        let latest = self.interval(now).latest;
        let lead = self
            .lead
            .as_mut()
            .expect("only a leader gives out timestamps");
        // One lies free below it: see `Group::write`.
        let at = latest.0.max(lead.assigned.0 + 2).max(above.0 + 1);
        lead.assigned = Timestamp(at);
        lead.assigned
    }

    /// Puts a command into the log, where this replica leads.
    pub(super) fn propose(&mut self, command: Command, out: &mut Out) -> Option<Position> {
        let mut effects = LogEffects::default();
        let proposed = self.log.propose(command, &mut effects);
        absorb(&mut effects, out);
        proposed.ok()
    }

    // Other groups.

    /// Who leads this group, as far as this replica knows.
    pub(super) fn leader(&self) -> Option<Addr> {
        match &self.lead {
            Some(_) => Some(self.me),
            None => self.log.leader().filter(|leader| *leader != self.me),
        }
    }

    pub(super) fn leader_of(&self, group: ShardId) -> Addr {
        if group == self.group {
            return self.leader().unwrap_or(self.me);
        }
        let guess = self.leaders.get(&group).copied();
        guess.unwrap_or_else(|| self.site.first_guess(group))
    }

    /// Whoever is taken for the group's leader has not answered: take the next one.
    pub(super) fn doubt_leader_of(&mut self, group: ShardId) {
        let doubted = self.leader_of(group);
        let next = self.site.next_replica(group, doubted);
        self.leaders.insert(group, next);
    }

    pub(super) fn send(&mut self, to: Addr, message: Message, out: &mut Out) {
        match to == self.me {
            true => self.to_self.push_back(message),
            false => out.send(to, message),
        }
    }

    /// To the leader of a group, as far as it is known.
    pub(super) fn send_to_group(&mut self, group: ShardId, message: Message, out: &mut Out) {
        let to = self.leader_of(group);
        self.send(to, message, out);
    }

    fn on_not_leader(
        &mut self,
        now: WallTime,
        from: Addr,
        txn: TxnId,
        group: ShardId,
        leader: Option<Addr>,
        out: &mut Out,
    ) {
        let Some(leader) = leader.filter(|leader| *leader != from) else {
            return;
        };
        if self.leader_of(group) == from {
            self.leaders.insert(group, leader);
            self.ask_again(now, txn, Some(group), out);
            self.reread(txn, Some(group), out);
        }
    }

    // Requests.

    fn on_request(&mut self, now: WallTime, client: Addr, txn: Arc<Txn>, out: &mut Out) {
        if txn.is_read_only() {
            self.read_at_now(now, client, txn, out);
        } else {
            self.on_forwarded(now, client, txn, out);
        }
    }

    fn on_forwarded(&mut self, now: WallTime, client: Addr, txn: Arc<Txn>, out: &mut Out) {
        match self.leader() {
            _ if self.lead.is_some() => self.coordinate(now, client, txn, out),
            Some(leader) => out.send(leader, Message::Forward { client, txn }),
            None => {
                self.unsent.insert(txn.id, (client, txn));
            }
        }
    }

    fn send_unsent(&mut self, now: WallTime, out: &mut Out) {
        if self.leader().is_some() {
            for (client, txn) in std::mem::take(&mut self.unsent).into_values() {
                self.on_forwarded(now, client, txn, out);
            }
        }
    }

    fn on_message(&mut self, now: WallTime, from: Addr, message: Message, out: &mut Out) {
        let is_for_leader = match &message {
            Message::Lock(request) => Some(request.attempt.txn),
            Message::Prepare(request) => Some(request.attempt.txn),
            Message::Decision { attempt, .. } => Some(attempt.txn),
            _ => None,
        };
        if let (Some(txn), None) = (is_for_leader, &self.lead) {
            let group = self.group;
            let leader = self.leader();
            return self.send(from, Message::NotLeader { txn, group, leader }, out);
        }
        match message {
            Message::Client(ClientMessage::Request { txn }) => self.on_request(now, from, txn, out),
            Message::Client(ClientMessage::Reply { .. }) => {}
            Message::Log(message) => self.step_log(now, Input::Message { from, message }, out),
            Message::Forward { client, txn } => self.on_forwarded(now, client, txn, out),
            Message::NotLeader { txn, group, leader } => {
                self.on_not_leader(now, from, txn, group, leader, out);
            }
            Message::Lock(request) => self.on_lock(from, &request, out),
            Message::Locked {
                attempt,
                round,
                group,
                term,
                rows,
            } => self.on_locked(now, attempt, round, (group, term), rows, out),
            Message::Wound { attempt } => self.on_wound(from, attempt, out),
            Message::Release { attempt } => self.on_release(attempt, out),
            Message::Prepare(request) => self.on_prepare(now, from, &request, out),
            Message::Prepared { attempt, group, at } => {
                self.on_prepared(now, attempt, group, at, out);
            }
            Message::Refused { attempt } => self.on_refused(now, attempt, out),
            Message::Inquire { attempt, group } => self.on_inquire(now, from, attempt, group, out),
            Message::Decision { attempt, commit } => self.on_decision(from, attempt, commit, out),
            Message::Done { attempt, group } => self.on_done(attempt, group, out),
            Message::Read { txn, at, keys } => self.on_read(now, from, txn, at, keys, out),
            Message::Rows {
                txn,
                at,
                group,
                rows,
            } => self.on_rows(txn, at, group, rows, out),
        }
    }

    // The log.

    fn step_log(
        &mut self,
        now: WallTime,
        input: Input<LogMessage<Command>, LogTimer>,
        out: &mut Out,
    ) {
        let mut effects = LogEffects::default();
        self.log.step(now, input, &mut effects);
        absorb(&mut effects, out);
    }

    /// Acts on what the log has committed.
    fn after_log(&mut self, now: WallTime, out: &mut Out) {
        loop {
            let mut effects = LogEffects::default();
            let events = self.log.take_events(&mut effects);
            absorb(&mut effects, out);
            if events.is_empty() {
                return;
            }
            for event in events {
                match event {
                    Event::Applied { position, output } => {
                        self.on_applied(now, position, output, out)
                    }
                    Event::Leads { term } => self.on_leads(now, term, out),
                    Event::Deposed { .. } => self.lead = None,
                    Event::Restored => {}
                    Event::ReadReady { .. } | Event::ReadRefused { .. } => {
                        unreachable!("reads are made safe by a record")
                    }
                }
            }
            self.serve_reads(now, out);
        }
    }

    fn on_applied(&mut self, now: WallTime, position: Position, applied: Applied, out: &mut Out) {
        let show = |txn: TxnId, keys: Vec<_>, out: &mut Out| {
            let (shard, position) = (self.group, position.index);
            if !keys.is_empty() {
                out.observe(Observation::Applied {
                    txn,
                    shard,
                    position,
                    keys,
                });
            }
        };
        match applied {
            Applied::Prepared(attempt) => self.after_prepare(attempt, out),
            Applied::Ended(txn, written) => {
                show(txn, written.unwrap_or_default(), out);
                self.after_end(now, txn, out);
            }
            Applied::Resolved {
                attempt,
                commit,
                was_prepared,
                written,
            } => {
                show(attempt.txn, written, out);
                self.after_resolve(attempt, commit, was_prepared, out);
            }
            Applied::Quiet => {}
        }
    }

    /// It leads: what it coordinates and what is prepared is taken over.
    fn on_leads(&mut self, now: WallTime, term: Term, out: &mut Out) {
        self.lead = Some(Lead {
            term,
            assigned: self.state().safe(),
            advanced: Timestamp(0),
            attempts: 0,
            locks: Locks::default(),
            holders: BTreeMap::new(),
            running: BTreeMap::new(),
            done: BTreeMap::new(),
        });
        self.take_over_prepared(out);
        self.take_over_ended(now, out);
    }
}

/// The log's effects as the process has them.
fn absorb(effects: &mut LogEffects<Command>, out: &mut Out) {
    out.absorb(effects, Message::Log, Timer::Log);
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
        match input {
            Input::Boot(disk) => self.step_log(now, Input::Boot(disk), out),
            Input::Message { from, message } => self.on_message(now, from, message, out),
            Input::Timer(timer) => match timer {
                Timer::Client(_) => {}
                Timer::Log(timer) => self.step_log(now, Input::Timer(timer), out),
                Timer::Resend(txn) => self.resend(now, txn, out),
                Timer::Restart(txn) => self.run(txn, out),
                Timer::CommitWait(txn) => self.finish_if_passed(now, txn, out),
                Timer::Finish(txn) => self.finish(txn, out),
                Timer::Inquire(attempt) => self.inquire(attempt, out),
                Timer::Reread(txn) => self.reread_later(txn, out),
                Timer::ReadWait => self.serve_reads(now, out),
            },
            Input::Flushed(flush) => self.step_log(now, Input::Flushed(flush), out),
            Input::FlushFailed(flush) => self.step_log(now, Input::FlushFailed(flush), out),
        }
        self.after_log(now, out);
        while let Some(message) = self.to_self.pop_front() {
            self.on_message(now, self.me, message, out);
            self.after_log(now, out);
        }
        self.send_unsent(now, out);
    }
}

impl Autopsy for Replica {
    fn autopsy(&self) -> Option<ShardState> {
        let mut state = self.state().versions().autopsy(self.region);
        state.applied_to = self.log.applied().index;
        let prepared = self.state().prepared().keys();
        state.in_doubt = prepared.map(|attempt| attempt.txn).collect();
        Some(state)
    }

    /// A replica has recovered when the group has a leader that knows all, and nothing is prepared any more.
    fn recovery(&self) -> Recovery {
        let leader = self.log.leader();
        if leader.is_none() || (leader == Some(self.me) && self.lead.is_none()) {
            return Recovery::waits("for a leader");
        }
        let prepared = self.state().prepared().keys();
        let prepared = prepared.map(|attempt| attempt.txn).collect();
        Recovery::waits_on(prepared, "for the decision on")
    }
}
