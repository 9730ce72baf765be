//! Sagas against `specs/saga/Saga.tla`, one instance of the spec for each saga, which begins with its `Begin` record.
//!
//! | spec | code |
//! |---|---|
//! | `phase`, `step`, `reply` | [`SagaView`]: while a record is on its way to the disk, what was the case before it |
//! | `svc` | [`StepView`]: what the shard has durably done about the step |
//! | `net` | what was ever sent; a refusal because a flush failed binds nothing, and is no message |
//! | `seen` | under semantic locks, the steps whose effects others were shown |
//! | `up`, `down`, `cut` | up and none: a crash shows at the next boot |
//!
//! A step that is refused because its row is marked is one that refuses (`Refuse`). Readers are transactions that gather
//! rows, and steps up to the pivot, which return what they found. A row whose last writer is another saga shows that
//! saga's step, if it stands. Steps after the pivot honour no lock, so they are no readers in the spec's sense. Marks
//! themselves are not in the spec: they are how the code keeps its promise.
//!
//! History: once a saga has ended, a crash that takes the `End` record, which is not forced, does not undo that in the
//! spec. The code's next words are then repetitions.
//!
//! Never taken: `Insist` (no step after the pivot refuses), `CrashService`, `Cut` and `Heal`.

use std::collections::BTreeSet;

use super::transactions::{self, EffectsOf, messages_stay, nets_differ};
use super::{Guided, Refined, SAMPLED, Watch, watch};
use crate::base::process::{Addr, Effect};
use crate::base::txn::{Key, Read, ShardId, TxnId};
use crate::model::spec::Members;
use crate::model::spec::saga::{
    Budget, Message as Sent, Phase, Reply, S, STEPS_MAX, Saga as Spec, Service, State,
};
use crate::protocol::saga::{
    Message, Node, Options, Orchestrator, Refusal, Saga, SagaView, Shard, Step, StepView, Timer,
};

/// Enough for every step.
const AMPLE: Budget = Budget {
    orch: 9,
    service: 9,
    loss: 9,
    cut: 0,
};

impl Guided for Spec {
    fn shape(&self) -> u64 {
        u64::from(self.semantic_locks) << 16 | u64::from(self.steps) << 8 | u64::from(self.pivot)
    }

    fn refill(&self, state: &mut State) {
        state.budget = self.budget;
    }

    fn distance(&self, from: &State, to: &State) -> u32 {
        let differ = |a: Members, b: Members| (a.0 ^ b.0).count_ones();
        let services = from.svc.iter().zip(to.svc);
        nets_differ(&from.net, &to.net)
            + differ(from.down, to.down)
            + differ(from.cut, to.cut)
            + differ(from.seen, to.seen)
            + 2 * services.filter(|(a, b)| **a != *b).count() as u32
            + u32::from(from.step.0.abs_diff(to.step.0))
            + u32::from(from.up != to.up)
            + u32::from(from.reply != to.reply)
            + 2 * u32::from(from.phase != to.phase)
    }

    /// A service goes where it ends up.
    fn may_pass(&self, from: &State, at: &State, to: &State) -> bool {
        let kept = messages_stay(&from.net, &at.net, &to.net);
        let services = from.svc.iter().zip(at.svc).zip(to.svc);
        let is_in = |a: Members, b: Members| a.0 & !b.0 == 0;
        let seen = is_in(from.seen, at.seen) && is_in(at.seen, to.seen);
        kept && seen && (at.down, at.cut) == (to.down, to.cut) && { services }
            .all(|((before, now), after)| now == *before || now == after)
    }
}

/// A saga that has begun.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Instance {
    orchestrator: Addr,
    /// Where each step is taken, and, under semantic locks, which rows it writes.
    steps: Vec<(ShardId, Vec<Key>)>,
    pivot: u16,
    has_locks: bool,
    state: State,
}

impl Instance {
    fn put(&mut self, message: Sent, step: u16) {
        let set = &mut self.state.net[message as usize];
        *set = set.with(step as u8);
    }

    /// The orchestrator's part of the state.
    fn orchestrate(&mut self, orchestrator: &Orchestrator, txn: TxnId) {
        if matches!(self.state.phase, Phase::Completed | Phase::Compensated) {
            return;
        }
        let last = S(self.steps.len() as u8 - 1);
        let position = match orchestrator.view(txn) {
            Some(SagaView::Forward(step)) => (Phase::Forward, S(step as u8), Reply::None),
            Some(SagaView::Pivoting) => (Phase::Forward, S(self.pivot as u8 - 1), Reply::Ok),
            Some(SagaView::Backward(step)) => (Phase::Backward, S(step as u8), Reply::None),
            Some(SagaView::Completed) => (Phase::Completed, last, Reply::None),
            Some(SagaView::Compensated) => (Phase::Compensated, S(0), Reply::None),
            Some(SagaView::Turning) => return,
            // Forgotten, although it was durable.
            None => (Phase::Idle, S(0), Reply::None),
        };
        (self.state.phase, self.state.step, self.state.reply) = position;
    }

    /// Somebody was shown these rows, which this saga wrote last, be it to undo (`true`).
    fn show<'a>(&mut self, rows: impl IntoIterator<Item = &'a (bool, Key)>) {
        for (_, key) in rows {
            for (at, (_, written)) in (0..).zip(&self.steps) {
                let stands = self.state.svc[usize::from(at)] == Service::Done;
                if stands && written.contains(key) {
                    self.state.seen = self.state.seen.with(at);
                }
            }
        }
    }

    /// A shard's part of the state.
    fn serve(&mut self, shard: &Shard, txn: TxnId) {
        for (step, (at, _)) in (0..).zip(&self.steps) {
            if *at == shard.shard() {
                self.state.svc[usize::from(step)] = match shard.view(txn, step) {
                    None => Service::None,
                    Some(StepView::Applied) => Service::Done,
                    Some(StepView::Refused) => Service::Refused,
                    Some(StepView::Compensated) => Service::Undone,
                };
            }
        }
    }
}

/// What has to be known beside the sagas, where they have semantic locks.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Known {
    has_locks: bool,
    /// Steps after a pivot that were ever sent.
    retriable: BTreeSet<(TxnId, u16)>,
}

impl Known {
    /// The rows that a message shows, and to which reader; none for readers that honour no locks.
    fn shown<'a>(&self, message: &'a Message) -> Option<(TxnId, &'a [Read])> {
        let (to, rows) = match message {
            Message::Values { txn, rows } => (*txn, rows),
            Message::Done { txn, step, rows } if !self.retriable.contains(&(*txn, *step)) => {
                (*txn, rows)
            }
            _ => return None,
        };
        self.has_locks.then_some((to, rows))
    }
}

/// The spec for a saga of this shape, as [`TLC checks it`](super): nothing is used up, few positions are forced.
fn spec(steps: usize, pivot: u16, has_locks: bool) -> Spec {
    Spec {
        steps: steps as u8,
        pivot: pivot as u8,
        refusers: false,
        budget: AMPLE,
        forever: false,
        readers: has_locks,
        semantic_locks: has_locks,
        duplicates: true,
        lazy_log: true,
        flaw: None,
    }
}

/// The spec states of all sagas.
pub type Sagas = transactions::Transactions<Instance>;

impl transactions::Instance for Instance {
    type Spec = Spec;
    type Node = Node;
    type Known = Known;

    fn of_message(message: &Message) -> Option<TxnId> {
        match message {
            Message::Step(request) => Some(request.txn),
            Message::Read { txn, .. }
            | Message::Values { txn, .. }
            | Message::Done { txn, .. }
            | Message::Refused { txn, .. }
            | Message::Compensate { txn, .. }
            | Message::Compensated { txn, .. }
            | Message::Confirm { txn }
            | Message::Confirmed { txn, .. } => Some(*txn),
            Message::Client(_) => None,
        }
    }

    fn of_timer(timer: &Timer) -> Option<TxnId> {
        match timer {
            Timer::Resend(txn) | Timer::StepTimeout(txn) => Some(*txn),
            Timer::Client(_) | Timer::LockWait(_) => None,
        }
    }

    fn open(node: &Node) -> Vec<TxnId> {
        match node {
            Node::Coordinator(orchestrator) => orchestrator.open().collect(),
            Node::Shard(_) | Node::Client(_) => Vec::new(),
        }
    }

    fn takes_part(known: &mut Known, _: Addr, node: &Node, effects: &EffectsOf<Self>) -> bool {
        if let Node::Coordinator(orchestrator) = node
            && orchestrator.has_locks()
        {
            known.has_locks = true;
            for effect in effects.iter() {
                if let Effect::Send { message, .. } = effect
                    && let Message::Step(request) = message
                    && request.retriable
                {
                    known.retriable.insert((request.txn, request.step));
                }
            }
        }
        !matches!(node, Node::Client(_))
    }

    fn shown_by(known: &Known, message: &Message) -> BTreeSet<TxnId> {
        let (to, rows) = known.shown(message).unwrap_or_default();
        let writers = rows.iter().map(|read| read.row.writer.txn);
        writers.filter(|writer| *writer != to).collect()
    }

    fn begin(by: Addr, txn: TxnId, node: &Node, _: &EffectsOf<Self>) -> Option<Self> {
        let Node::Coordinator(orchestrator) = node else {
            return None;
        };
        let (steps, pivot) = orchestrator.steps(txn)?;
        let has_locks = orchestrator.has_locks();
        let model = spec(steps.len(), pivot, has_locks);
        let seen = |step: &Step| {
            let written = step.writes.iter().filter(|_| has_locks);
            (step.shard, written.map(|write| write.key).collect())
        };
        (steps.len() <= STEPS_MAX).then(|| Self {
            orchestrator: by,
            state: stateright::Model::init_states(&model).swap_remove(0),
            steps: steps.iter().map(seen).collect(),
            pivot,
            has_locks,
        })
    }

    fn advance(
        &mut self,
        known: &Known,
        by: Addr,
        txn: TxnId,
        node: &Node,
        effects: &EffectsOf<Self>,
    ) {
        let mut shown = BTreeSet::new();
        for effect in effects.iter() {
            let Effect::Send { message, .. } = effect else {
                continue;
            };
            if let Some((kind, step)) = in_spec(message, txn) {
                self.put(kind, step);
            }
            if let Some((to, rows)) = known.shown(message)
                && to != txn
            {
                let of_this = rows.iter().filter(|read| read.row.writer.txn == txn);
                shown.extend(of_this.map(|read| (read.row.writer.undo, read.key)));
            }
        }
        // What is undone in the very step that shows it was shown before.
        let not_undone = { shown.iter() }.filter(|(undo, _)| !undo);
        self.show(not_undone);
        match node {
            Node::Coordinator(orchestrator) if by == self.orchestrator => {
                self.orchestrate(orchestrator, txn);
            }
            Node::Shard(shard) => self.serve(shard, txn),
            Node::Coordinator(_) | Node::Client(_) => {}
        }
        self.show(&shown);
    }

    fn spec(&self) -> Spec {
        spec(self.steps.len(), self.pivot, self.has_locks)
    }

    fn state(&self) -> State {
        self.state
    }
}

/// What a message about `of` is in the spec, and of which step it speaks.
fn in_spec(message: &Message, of: TxnId) -> Option<(Sent, u16)> {
    match message {
        Message::Step(request) if request.txn == of => Some((Sent::Do, request.step)),
        Message::Compensate { txn, step } if *txn == of => Some((Sent::Undo, *step)),
        Message::Done { txn, step, .. } if *txn == of => Some((Sent::Done, *step)),
        Message::Refused {
            txn,
            step,
            refusal: Refusal::Guard(_) | Refusal::Busy,
        } if *txn == of => Some((Sent::Refused, *step)),
        Message::Compensated { txn, step } if *txn == of => Some((Sent::Undone, *step)),
        _ => None,
    }
}

impl Refined for Saga {
    fn watch(_: &Options) -> Result<Watch<Node>, &'static str> {
        Ok(watch(Sagas::sampled(SAMPLED)))
    }
}
