//! The process that is an acceptor of all instances of its transactions, and their leader where need be.
//!
//! Both share a machine and a log. What they say to one another costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::acceptor::Acceptor;
use super::leader::Leading;
use super::{Ballot, Decision, Group, Message, Out, Site, Timer};
use crate::base::observation::Observation;
use crate::base::process::{Addr, Delay, FileId, Input, Process, WallTime};
use crate::base::txn::TxnId;
use crate::protocol::Autopsy;
use crate::protocol::kit::durable::{self, Durable};
use crate::protocol::kit::journal::Journal;

const LOG: FileId = FileId(0);

/// What the log holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) enum Record {
    /// What an acceptor has promised and accepted. Forced before it says so.
    Acceptor(Acceptor),
    /// Nobody has to take over any more. Lazy.
    End { txn: TxnId, decision: Decision },
    /// Everything before this record.
    Checkpoint {
        acceptors: Vec<Acceptor>,
        decisions: BTreeMap<TxnId, Decision>,
    },
}

/// What follows a forced record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Continuation {
    /// The acceptor tells a leader what it has promised.
    Promised {
        txn: TxnId,
        ballot: Ballot,
        to: Addr,
    },
    /// The acceptor tells that it has accepted.
    Accepted { txn: TxnId, ballot: Ballot },
}

/// An acceptor, and a leader where need be.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Coordinator {
    pub(super) site: Arc<Site>,
    pub(super) me: Addr,
    pub(super) journal: Journal<Record, Continuation>,
    /// The instances of the transactions whose end it has not heard of.
    pub(super) acceptors: BTreeMap<TxnId, Acceptor>,
    /// The transactions that it leads.
    pub(super) leading: BTreeMap<TxnId, Leading>,
    /// What is decided, as far as it has heard.
    pub(super) decisions: BTreeMap<TxnId, Decision>,
}

impl Process for Coordinator {
    type Message = Message;
    type Timer = Timer;

    fn step(&mut self, now: WallTime, input: Input<Message, Timer>, out: &mut Out) {
        durable::step(self, now, input, out);
    }
}

impl Autopsy for Coordinator {}

impl Durable<Record, Continuation> for Coordinator {
    const DAMAGED: &'static str = "an acceptor's log is damaged";

    fn journal(&mut self) -> &mut Journal<Record, Continuation> {
        &mut self.journal
    }

    fn checkpoint(&self) -> Record {
        Record::Checkpoint {
            acceptors: self.acceptors.values().cloned().collect(),
            decisions: { self.decisions.iter() }
                .filter(|(txn, _)| !self.acceptors.contains_key(txn))
                .map(|(txn, decision)| (*txn, *decision))
                .collect(),
        }
    }

    fn on_message(&mut self, _: WallTime, from: Addr, message: Message, out: &mut Out) {
        match message {
            Message::BeginCommit(start) => self.on_begin_commit(from, start, out),
            Message::Prepared { group, shard } => self.on_prepared(from, &group, shard, out),
            Message::No { txn, shard: _ } => self.on_no(txn, out),
            Message::Collect { group, ballot } => self.on_collect(from, &group, ballot, out),
            Message::Promise {
                txn,
                ballot,
                accepted,
            } => self.on_promise(from, txn, ballot, accepted, out),
            Message::Propose {
                group,
                ballot,
                votes,
            } => self.on_propose(from, &group, ballot, votes, out),
            Message::Accepted { txn, ballot } => self.on_accepted(from, txn, ballot, out),
            Message::Ack { txn, shard } => self.on_ack(txn, shard, out),
            Message::Decided { group, decision } => self.on_decided(&group, decision, out),
            Message::End { txn, decision } => self.on_end(txn, decision, out),
            _ => {}
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Resend(txn) => self.resend(txn, out),
            Timer::TakeOver(txn) => self.take_over(txn, out),
            _ => {}
        }
    }

    fn on_durable(&mut self, _: WallTime, next: Continuation, out: &mut Out) {
        match next {
            Continuation::Promised { txn, ballot, to } => self.promised(txn, ballot, to, out),
            Continuation::Accepted { txn, ballot } => self.accepted(txn, ballot, out),
        }
    }

    fn on_lost(&mut self, next: Continuation, _: &mut Out) {
        self.force(next);
    }

    /// An acceptor without an end takes over, so that whatever it may have led comes to one.
    fn recover(&mut self, records: Vec<Record>, out: &mut Out) {
        for record in records {
            self.replay(record);
        }
        for txn in self.acceptors.keys() {
            out.observe(Observation::Mark("paxos-commit.recovered-accepted"));
            out.set_timer(Timer::TakeOver(*txn), Delay::exactly(0));
        }
    }
}

impl Coordinator {
    pub(super) fn new(site: Arc<Site>, me: Addr) -> Self {
        Self {
            journal: Journal::new(LOG, site.options.checkpoint_min_bytes()),
            site,
            me,
            acceptors: BTreeMap::new(),
            leading: BTreeMap::new(),
            decisions: BTreeMap::new(),
        }
    }

    /// Forces what the acceptor knows of a transaction by now.
    pub(super) fn force(&mut self, next: Continuation) {
        let (Continuation::Promised { txn, .. } | Continuation::Accepted { txn, .. }) = next;
        // Without a record it has heard of the end.
        if let Some(acceptor) = self.acceptors.get(&txn) {
            self.journal.force(Record::Acceptor(acceptor.clone()), next);
        }
    }

    /// An acceptor that goes on without an end takes over, after the others that come before it.
    pub(super) fn arm_take_over(&self, group: &Group, out: &mut Out) {
        let place = { group.acceptors.iter() }.position(|acceptor| *acceptor == self.me);
        let place = place.unwrap_or(group.acceptors.len()) as u64;
        let pause = self.site.options.takeover_ms.about_times(1 + place);
        out.set_timer(Timer::TakeOver(group.txn), pause);
    }

    fn replay(&mut self, record: Record) {
        match record {
            Record::Acceptor(acceptor) => {
                self.acceptors.insert(acceptor.group.txn, acceptor);
            }
            Record::End { txn, decision } => {
                self.acceptors.remove(&txn);
                self.decisions.insert(txn, decision);
            }
            Record::Checkpoint {
                acceptors,
                decisions,
            } => {
                let by_txn = acceptors
                    .into_iter()
                    .map(|acceptor| (acceptor.group.txn, acceptor));
                self.acceptors = by_txn.collect();
                self.decisions = decisions;
            }
        }
    }
}
