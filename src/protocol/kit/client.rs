//! Client sessions: the process that plays the plan's operations against any protocol.
//!
//! One client process runs all sessions of a region's client machine. It states what its sessions saw
//! with [`Observation::Invoked`] and [`Observation::Returned`]; those two make the history.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::base::observation::{AbortReason, Observation, Outcome};
use crate::base::options::Millis;
use crate::base::process::{Addr, Delay, Effects, Input, Process, WallTime, Wire};
use crate::base::txn::{Txn, TxnId};
use crate::plan::Start;
use crate::scenario::clients::{Behaviour, RETRIES_IN_HAND};

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
    /// The client has waited long enough after an attempt that failed.
    Again(u32),
    /// The client asks a second entry as well.
    Hedge(u32),
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
    behaviour: Box<Behaviour>,
    /// How often operations under way were sent again, where the scenario limits that.
    retries: BTreeMap<u32, u32>,
    /// Operations whose turn has not come.
    waiting: VecDeque<u32>,
    /// Retries in hand, in millionths.
    budget_ppm: u32,
}

/// A retry takes one from the budget.
const RETRY_PPM: u32 = 1_000_000;

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
            behaviour: Box::default(),
            retries: BTreeMap::new(),
            waiting: VecDeque::new(),
            budget_ppm: RETRIES_IN_HAND * RETRY_PPM,
        }
    }

    /// Lets the sessions behave as a scenario says, where it says anything.
    pub fn behave(&mut self, behaviour: Behaviour) {
        *self.behaviour = behaviour;
        if let Some(deadline_ns) = behaviour.deadline_ns {
            self.patience.give_up_ns = Some(deadline_ns);
        }
        if let Some(timeout_ns) = behaviour.timeout_ns {
            match behaviour.new_id {
                true => {
                    self.patience.resend_ns = None;
                    self.patience.give_up_ns = Some(timeout_ns);
                }
                false => self.patience.resend_ns = Some(timeout_ns),
            }
        }
    }

    fn boot(&mut self, out: &mut Out) {
        let mut closed_loop_started = std::collections::BTreeSet::new();
        for (position, operation) in self.operations.iter().enumerate() {
            let after_ns = match operation.start {
                Start::At(ns) => ns,
                Start::Think(ns) if closed_loop_started.insert(operation.session) => ns,
                Start::Think(_) | Start::Retry { .. } => continue,
            };
            out.set_timer(
                ClientTimer::Start(position as u32),
                Delay::exactly(after_ns),
            );
        }
    }

    fn start(&mut self, position: u32, out: &mut Out) {
        let most = self.behaviour.in_flight;
        if most.is_none_or(|most| self.open.len() < most as usize) {
            self.ask(position, out);
            self.arm_give_up(position, out);
            return self.send(position, out);
        }
        if self.waiting.len() >= self.behaviour.queue as usize {
            return self.turn_away(position, out);
        }
        self.waiting.push_back(position);
        self.arm_give_up(position, out);
    }

    fn arm_give_up(&self, position: u32, out: &mut Out) {
        if let Some(give_up_ns) = self.patience.give_up_ns {
            out.set_timer(ClientTimer::GiveUp(position), Delay::exactly(give_up_ns));
        }
    }

    /// The machine has enough to do: the request is never sent.
    fn turn_away(&mut self, position: u32, out: &mut Out) {
        let operation = &self.operations[position as usize];
        let (txn, session) = (operation.txn.id, operation.session);
        out.observe(Observation::Invoked { txn, session });
        let why = AbortReason::Shed;
        let outcome = Outcome::Aborted { why };
        out.observe(Observation::Returned {
            txn,
            session,
            outcome,
        });
        self.go_on(position, session, out);
    }

    /// The operation is under way; what is left to do is to send it.
    fn ask(&mut self, position: u32, out: &mut Out) {
        let operation = &self.operations[position as usize];
        let (txn, session) = (operation.txn.id, operation.session);
        out.observe(Observation::Invoked { txn, session });
        let start = operation.start;
        let to = self.first_entry(position);
        self.open.insert(position, to);
        self.by_txn.insert(txn, position);
        if let (Start::At(_) | Start::Think(_), Some(earned)) =
            (start, self.behaviour.retry_budget_ppm)
        {
            let most = RETRIES_IN_HAND * RETRY_PPM;
            self.budget_ppm = self.budget_ppm.saturating_add(earned).min(most);
        }
        if let Some(hedge_ns) = self.behaviour.hedge_ns {
            out.set_timer(ClientTimer::Hedge(position), Delay::exactly(hedge_ns));
        }
    }

    /// Whether one more retry is within the budget, which it is taken from.
    fn may_retry(&mut self) -> bool {
        if self.behaviour.retry_budget_ppm.is_none() {
            return true;
        }
        let left = self.budget_ppm.checked_sub(RETRY_PPM);
        self.budget_ppm = left.unwrap_or(self.budget_ppm);
        left.is_some()
    }

    /// No answer for as long as the client waits: it tries again later, if it may.
    fn on_timeout(&mut self, position: u32, out: &mut Out) {
        if self.behaviour.timeout_ns.is_none() {
            return self.resend(position, out);
        }
        if !self.open.contains_key(&position) {
            return;
        }
        let retry = self.retries.get(&position).copied().unwrap_or(0) + 1;
        let has_attempts = { self.behaviour.attempts }.is_none_or(|attempts| retry < attempts);
        if !has_attempts || !self.may_retry() {
            return self.finish(position, Outcome::Unknown, out);
        }
        self.retries.insert(position, retry);
        let (min_ns, max_ns) = self.behaviour.wait_ns(retry);
        if max_ns == 0 {
            return self.resend(position, out);
        }
        out.set_timer(ClientTimer::Again(position), Delay::between(min_ns, max_ns));
    }

    /// Asks the entry after the one that was asked, and leaves that one asked.
    fn hedge(&mut self, position: u32, out: &mut Out) {
        let operation = &self.operations[position as usize];
        let Some(asked) = self.open.get(&position) else {
            return;
        };
        let at = { operation.entries.iter() }.position(|entry| entry == asked);
        let next = (at.unwrap_or(0) + 1) % operation.entries.len();
        if operation.entries[next] != *asked {
            let txn = Arc::clone(&operation.txn);
            out.send(operation.entries[next], ClientMessage::Request { txn });
        }
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
            if let Some(at) = self.waiting.iter().position(|waiting| *waiting == position) {
                self.waiting.remove(at);
                self.turn_away(position, out);
            }
            return; // A duplicate reply, or one that came after the client gave up.
        };
        if outcome != Outcome::Unknown {
            self.suspects.remove(&asked);
        }
        let operation = &self.operations[position as usize];
        self.by_txn.remove(&operation.txn.id);
        out.cancel_timer(ClientTimer::Resend(position));
        out.cancel_timer(ClientTimer::GiveUp(position));
        if self.behaviour.hedge_ns.is_some() {
            out.cancel_timer(ClientTimer::Hedge(position));
        }
        if self.retries.remove(&position).is_some() {
            out.cancel_timer(ClientTimer::Again(position));
        }
        let session = operation.session;
        out.observe(Observation::Returned {
            txn: operation.txn.id,
            session,
            outcome: outcome.clone(),
        });
        if outcome != Outcome::Unknown || !self.try_again(position, out) {
            self.go_on(position, session, out);
        }
        let has_room = |client: &Self| {
            let most = client.behaviour.in_flight;
            most.is_none_or(|most| client.open.len() < most as usize)
        };
        while has_room(self)
            && let Some(next) = self.waiting.pop_front()
        {
            self.ask(next, out);
            self.send(next, out);
        }
    }

    /// Lets the next attempt follow, under its own id, if there is one and the budget allows it.
    fn try_again(&mut self, position: u32, out: &mut Out) -> bool {
        let next = position + 1;
        let Some(Operation {
            start: Start::Retry { nth, .. },
            ..
        }) = self.operations.get(next as usize)
        else {
            return false;
        };
        let (min_ns, max_ns) = self.behaviour.wait_ns(*nth);
        if !self.may_retry() {
            return false;
        }
        out.set_timer(ClientTimer::Start(next), Delay::between(min_ns, max_ns));
        true
    }

    /// The session goes on with its next operation.
    fn go_on(&self, position: u32, session: u32, out: &mut Out) {
        let rest = self
            .operations
            .iter()
            .enumerate()
            .skip(position as usize + 1);
        let is_next = |next: &Operation| {
            next.session == session && !matches!(next.start, Start::Retry { .. })
        };
        let next = rest.into_iter().find(|(_, next)| is_next(next));
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
            Input::Timer(ClientTimer::Resend(position)) => self.on_timeout(position, out),
            Input::Timer(ClientTimer::Again(position)) => self.resend(position, out),
            Input::Timer(ClientTimer::Hedge(position)) => self.hedge(position, out),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::process::{Effect, NodeId};
    use crate::plan::Start;

    fn entry(node: u16) -> Addr {
        Addr::on(NodeId(node))
    }

    fn operation(id: u64, start: Start) -> Operation {
        let txn = Txn {
            id: TxnId(id),
            reads: vec![],
            guards: vec![],
            effects: vec![],
            pivot: None,
        };
        Operation {
            session: 0,
            start,
            txn: txn.into(),
            entries: vec![entry(1), entry(2)],
        }
    }

    fn client(operations: Vec<Operation>, behaviour: Behaviour) -> Client {
        let patience = Patience {
            resend_ns: None,
            give_up_ns: None,
        };
        let mut client = Client::new(operations, patience);
        client.behave(behaviour);
        client
    }

    /// What a step does: requests by entry and transaction, outcomes by transaction, and timers that are armed.
    #[derive(PartialEq, Eq, Debug, Default)]
    struct Did {
        sent: Vec<(Addr, u64)>,
        returned: Vec<(u64, Outcome)>,
        armed: Vec<(ClientTimer, Delay)>,
    }

    fn did(client: &mut Client, input: Input<ClientMessage, ClientTimer>) -> Did {
        let mut out = Effects::default();
        client.step(WallTime::START, input, &mut out);
        let mut did = Did::default();
        for effect in out.iter() {
            match effect {
                Effect::Send { to, message } => {
                    let ClientMessage::Request { txn } = message else {
                        panic!("a client only asks");
                    };
                    did.sent.push((*to, txn.id.0));
                }
                Effect::SetTimer { timer, after } => did.armed.push((*timer, *after)),
                Effect::Observe(Observation::Returned { txn, outcome, .. }) => {
                    did.returned.push((txn.0, outcome.clone()));
                }
                _ => {}
            }
        }
        did
    }

    fn fire(client: &mut Client, timer: ClientTimer) -> Did {
        did(client, Input::Timer(timer))
    }

    const UNANSWERED: Behaviour = Behaviour {
        timeout_ns: Some(1_000),
        attempts: Some(3),
        backoff_ns: 100,
        backoff_max_ns: 150,
        deadline_ns: None,
        retry_budget_ppm: None,
        hedge_ns: None,
        new_id: false,
        in_flight: None,
        queue: 0,
    };

    #[test]
    fn attempts_wait_longer_each_time_and_end_with_an_unknown_outcome() {
        let mut client = client(vec![operation(7, Start::At(0))], UNANSWERED);
        let first = fire(&mut client, ClientTimer::Start(0));
        assert_eq!(first.sent, [(entry(1), 7)]);
        assert_eq!(
            first.armed,
            [(ClientTimer::Resend(0), Delay::exactly(1_000))]
        );
        let waits = fire(&mut client, ClientTimer::Resend(0));
        assert_eq!(
            waits.armed,
            [(ClientTimer::Again(0), Delay::between(50, 100))]
        );
        assert_eq!(
            fire(&mut client, ClientTimer::Again(0)).sent,
            [(entry(2), 7)]
        );
        let waits = fire(&mut client, ClientTimer::Resend(0));
        assert_eq!(
            waits.armed,
            [(ClientTimer::Again(0), Delay::between(75, 150))]
        );
        assert_eq!(fire(&mut client, ClientTimer::Again(0)).sent.len(), 1);
        let last = fire(&mut client, ClientTimer::Resend(0));
        assert_eq!(
            (last.sent, last.returned),
            (vec![], vec![(7, Outcome::Unknown)])
        );
    }

    #[test]
    fn another_id_follows_an_attempt_that_was_given_up_and_none_that_was_answered() {
        let of = TxnId(1);
        let operations = || {
            vec![
                operation(1, Start::At(0)),
                operation(2, Start::Retry { of, nth: 1 }),
            ]
        };
        let new_id = Behaviour {
            new_id: true,
            ..UNANSWERED
        };
        let mut gives_up = client(operations(), new_id);
        assert_eq!(
            fire(&mut gives_up, ClientTimer::Start(0)).sent,
            [(entry(1), 1)]
        );
        let unknown = fire(&mut gives_up, ClientTimer::GiveUp(0));
        assert_eq!(unknown.returned, [(1, Outcome::Unknown)]);
        assert_eq!(
            unknown.armed,
            [(ClientTimer::Start(1), Delay::between(50, 100))]
        );
        assert_eq!(
            fire(&mut gives_up, ClientTimer::Start(1)).sent,
            [(entry(1), 2)]
        );
        let mut answered = client(operations(), new_id);
        fire(&mut answered, ClientTimer::Start(0));
        let outcome = Outcome::Committed { reads: vec![] };
        let reply = Input::Message {
            from: entry(1),
            message: ClientMessage::Reply { txn: of, outcome },
        };
        assert_eq!(did(&mut answered, reply).armed, []);
    }

    #[test]
    fn a_budget_allows_ten_retries_and_then_those_that_requests_have_earned() {
        let operations = (0..13).map(|id| operation(id, Start::At(0))).collect();
        let behaviour = Behaviour {
            retry_budget_ppm: Some(100_000),
            backoff_ns: 0,
            ..UNANSWERED
        };
        let mut client = client(operations, behaviour);
        for position in 0..13 {
            fire(&mut client, ClientTimer::Start(position));
        }
        let sent_again = |position| fire(&mut client, ClientTimer::Resend(position)).sent.len();
        // The budget was full, so that nothing was earned.
        let retries: usize = (0..13).map(sent_again).sum();
        assert_eq!(retries, 10);
    }

    #[test]
    fn a_second_entry_is_asked_where_the_first_is_slow() {
        let behaviour = Behaviour {
            hedge_ns: Some(30),
            ..Behaviour::default()
        };
        let mut client = client(vec![operation(7, Start::At(0))], behaviour);
        let first = fire(&mut client, ClientTimer::Start(0));
        assert_eq!(first.armed, [(ClientTimer::Hedge(0), Delay::exactly(30))]);
        assert_eq!(
            fire(&mut client, ClientTimer::Hedge(0)).sent,
            [(entry(2), 7)]
        );
    }

    #[test]
    fn requests_wait_for_their_turn_and_those_beyond_the_queue_are_turned_away() {
        let operations = (1..=3).map(|id| operation(id, Start::At(0))).collect();
        let behaviour = Behaviour {
            in_flight: Some(1),
            queue: 1,
            ..Behaviour::default()
        };
        let mut client = client(operations, behaviour);
        assert_eq!(fire(&mut client, ClientTimer::Start(0)).sent.len(), 1);
        assert_eq!(fire(&mut client, ClientTimer::Start(1)), Did::default());
        let why = AbortReason::Shed;
        let third = fire(&mut client, ClientTimer::Start(2));
        assert_eq!(third.returned, [(3, Outcome::Aborted { why })]);
        let outcome = Outcome::Committed { reads: vec![] };
        let txn = TxnId(1);
        let reply = Input::Message {
            from: entry(1),
            message: ClientMessage::Reply { txn, outcome },
        };
        assert_eq!(
            did(&mut client, reply).sent,
            [(entry(1), 2)],
            "its turn has come"
        );
    }
}
