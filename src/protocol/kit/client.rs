//! Client sessions: the process that plays the plan's operations against any protocol.
//!
//! One client process runs all sessions of a region's client machine. It states what its sessions saw
//! with [`Observation::Invoked`] and [`Observation::Returned`]; those two make the history.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::observation::{Observation, Outcome};
use crate::base::options::Millis;
use crate::base::process::{Addr, Delay, Effects, Input, Process, WallTime, Wire};
use crate::base::txn::{Txn, TxnId};
use crate::plan::Start;

/// What travels between clients and the protocol.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ClientMessage {
    /// Run this transaction. A resent request carries the same id.
    Request {
        /// The transaction.
        txn: Arc<Txn>,
    },
    /// How it ended.
    Reply {
        /// The transaction.
        txn: TxnId,
        /// The end; never [`Outcome::Unknown`].
        outcome: Outcome,
    },
}

impl ClientMessage {
    /// The label of requests.
    pub const REQUEST: &'static str = "request";
}

impl Wire for ClientMessage {
    fn label(&self) -> &'static str {
        match self {
            ClientMessage::Request { .. } => ClientMessage::REQUEST,
            ClientMessage::Reply { .. } => "reply",
        }
    }
}

/// One operation of a session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Operation {
    /// The session; under an open loop every operation is a session of its own.
    pub session: u32,
    /// When it starts.
    pub start: Start,
    /// What it does.
    pub txn: Arc<Txn>,
    /// Whom to ask, in order of preference; resends go round, and entries that did not answer are avoided.
    pub entries: Vec<Addr>,
}

/// How patient clients are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Patience {
    /// Send the request again, to the next entry, after this many nanoseconds without a reply. Only for
    /// protocols that recognise a duplicate.
    pub resend_ns: Option<u64>,
    /// Report [`Outcome::Unknown`] after this many nanoseconds. `None`: wait for ever.
    pub give_up_ns: Option<u64>,
}

impl Patience {
    /// As options have it: to give up after 0 is never to give up.
    pub fn new(resend: Option<Millis>, give_up: Millis<0>) -> Self {
        Self {
            resend_ns: resend.map(Millis::ns),
            give_up_ns: give_up.unless_never(),
        }
    }
}

/// A timer of the client process, naming the operation by position.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ClientTimer {
    /// The operation starts.
    Start(u32),
    /// The operation has had no reply for a while.
    Resend(u32),
    /// The client gives the operation up.
    GiveUp(u32),
    /// One request may try again whether this entry answers.
    Probe(Addr),
}

/// The sessions of one client machine. Clients keep nothing on disk: the faults of a scenario cut client
/// machines off, and do not crash them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Client {
    operations: Arc<[Operation]>,
    patience: Patience,
    /// Operations under way, by position, and whom each was sent to last.
    open: BTreeMap<u32, Addr>,
    /// Entries that let a request time out, and whether the next request may probe them: requests go
    /// elsewhere in the meantime, so that a dead entry costs one request in a while and not each its patience.
    suspects: BTreeMap<Addr, bool>,
    by_txn: BTreeMap<TxnId, u32>,
}

type Out = Effects<ClientMessage, ClientTimer>;

impl Client {
    /// Sessions that will run `operations`; those of one session start in the order given.
    pub fn new(operations: Vec<Operation>, patience: Patience) -> Self {
        Self {
            operations: operations.into(),
            patience,
            open: BTreeMap::new(),
            suspects: BTreeMap::new(),
            by_txn: BTreeMap::new(),
        }
    }

    fn boot(&mut self, out: &mut Out) {
        let mut closed_loop_started = std::collections::BTreeSet::new();
        for (position, operation) in self.operations.iter().enumerate() {
            let after_ns = match operation.start {
                Start::At(ns) => ns,
                Start::Think(ns) if closed_loop_started.insert(operation.session) => ns,
                Start::Think(_) => continue,
            };
            out.set_timer(
                ClientTimer::Start(position as u32),
                Delay::exactly(after_ns),
            );
        }
    }

    fn start(&mut self, position: u32, out: &mut Out) {
        let operation = &self.operations[position as usize];
        let (txn, session) = (operation.txn.id, operation.session);
        out.observe(Observation::Invoked { txn, session });
        let to = self.first_entry(position);
        self.open.insert(position, to);
        self.by_txn.insert(txn, position);
        if let Some(give_up_ns) = self.patience.give_up_ns {
            out.set_timer(ClientTimer::GiveUp(position), Delay::exactly(give_up_ns));
        }
        self.send(position, out);
    }

    /// The first entry that is not suspected, or that may be probed; the first of all if there is none.
    fn first_entry(&mut self, position: u32) -> Addr {
        let entries = &self.operations[position as usize].entries;
        let usable = |entry: &&Addr| self.suspects.get(entry).is_none_or(|probe| *probe);
        let entry = *entries.iter().find(usable).unwrap_or(&entries[0]);
        if let Some(probe) = self.suspects.get_mut(&entry) {
            *probe = false;
        }
        entry
    }

    fn send(&mut self, position: u32, out: &mut Out) {
        let operation = &self.operations[position as usize];
        let Some(to) = self.open.get(&position) else {
            return;
        };
        let txn = Arc::clone(&operation.txn);
        out.send(*to, ClientMessage::Request { txn });
        if let Some(resend_ns) = self.patience.resend_ns {
            out.set_timer(ClientTimer::Resend(position), Delay::exactly(resend_ns));
        }
    }

    /// The entry did not answer in time: suspect it, and ask the next one.
    fn resend(&mut self, position: u32, out: &mut Out) {
        let entries = &self.operations[position as usize].entries;
        let Some(to) = self.open.get_mut(&position) else {
            return;
        };
        if entries.len() > 1 {
            let at = entries.iter().position(|entry| *entry == *to).unwrap_or(0);
            self.suspects.insert(*to, false);
            let again_ns = self.patience.resend_ns.unwrap_or_default();
            out.set_timer(ClientTimer::Probe(*to), Delay::exactly(again_ns));
            *to = entries[(at + 1) % entries.len()];
        }
        self.send(position, out);
    }

    fn finish(&mut self, position: u32, outcome: Outcome, out: &mut Out) {
        let Some(asked) = self.open.remove(&position) else {
            return; // A duplicate reply, or one that came after the client gave up.
        };
        if outcome != Outcome::Unknown {
            self.suspects.remove(&asked);
        }
        let operation = &self.operations[position as usize];
        self.by_txn.remove(&operation.txn.id);
        out.cancel_timer(ClientTimer::Resend(position));
        out.cancel_timer(ClientTimer::GiveUp(position));
        let session = operation.session;
        out.observe(Observation::Returned {
            txn: operation.txn.id,
            session,
            outcome,
        });
        let rest = self
            .operations
            .iter()
            .enumerate()
            .skip(position as usize + 1);
        let next = rest.into_iter().find(|(_, next)| next.session == session);
        if let Some((
            next,
            Operation {
                start: Start::Think(ns),
                ..
            },
        )) = next
        {
            out.set_timer(ClientTimer::Start(next as u32), Delay::exactly(*ns));
        }
    }
}

impl Process for Client {
    type Message = ClientMessage;
    type Timer = ClientTimer;

    fn step(&mut self, _: WallTime, input: Input<ClientMessage, ClientTimer>, out: &mut Out) {
        match input {
            Input::Boot(_) => self.boot(out),
            Input::Timer(ClientTimer::Start(position)) => self.start(position, out),
            Input::Timer(ClientTimer::Resend(position)) => self.resend(position, out),
            Input::Timer(ClientTimer::Probe(entry)) => {
                if let Some(probe) = self.suspects.get_mut(&entry) {
                    *probe = true;
                }
            }
            Input::Timer(ClientTimer::GiveUp(position)) => {
                self.finish(position, Outcome::Unknown, out)
            }
            Input::Message { message, .. } => {
                if let ClientMessage::Reply { txn, outcome } = message
                    && let Some(position) = self.by_txn.get(&txn).copied()
                {
                    self.finish(position, outcome, out);
                }
            }
            Input::Flushed(_) | Input::FlushFailed(_) => {}
        }
    }
}
