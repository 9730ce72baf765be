//! Sagas against `specs/saga/Saga.tla`, one instance of the spec for each saga, which begins with its `Begin` record.
//!
//! | spec | code |
//! |---|---|
//! | `phase`, `step`, `reply` | [`SagaView`]: while a record is on its way to the disk, what was the case before it |
//! | `svc` | [`StepView`]: what the shard has durably done about the step |
//! | `net` | what was ever sent; a refusal for want of a lock or of a disk, which binds nobody, is no message |
//! | `up`, `down`, `cut` | up and none: a crash shows at the next boot |
//!
//! History: once a saga has ended, a crash that takes the `End` record, which is not forced, does not undo that in the
//! spec. The code's next words are then repetitions.
//!
//! Never taken: `Insist` (no step after the pivot refuses), `CrashService`, `Read`, `Cut` and `Heal`.

use super::transactions::{self, EffectsOf, messages_stay, nets_differ};
use super::{Guided, Refined, SAMPLED, Shows, Watch, watch};
use crate::model::spec::Members;
use crate::model::spec::saga::{
    Budget, Message as Sent, Phase, Reply, S, STEPS_MAX, Saga as Spec, Service, State,
};
use crate::process::{Addr, Effect};
use crate::protocol::saga::{
    Message, Node, Options, Orchestrator, Refusal, Saga, SagaView, SemanticLocks, Shard, StepView,
    Timer,
};
use crate::scenario::layout::ShardId;
use crate::txn::TxnId;

/// Enough for every step.
const AMPLE: Budget = Budget {
    orch: 9,
    service: 9,
    loss: 9,
    cut: 0,
};

impl Guided for Spec {
    fn shape(&self) -> u64 {
        u64::from(self.steps) << 8 | u64::from(self.pivot)
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
        kept && (at.down, at.cut, at.seen) == (to.down, to.cut, to.seen) && { services }
            .all(|((before, now), after)| now == *before || now == after)
    }
}

/// A saga that has begun.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Instance {
    orchestrator: Addr,
    shards: Vec<ShardId>,
    pivot: u16,
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
        let last = S(self.shards.len() as u8 - 1);
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

    /// A shard's part of the state.
    fn serve(&mut self, shard: &Shard, txn: TxnId) {
        for (step, at) in (0..).zip(&self.shards) {
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

/// The spec for a saga of this shape, as [`TLC checks it`](super): nothing is used up, few positions are forced.
fn spec(steps: usize, pivot: u16) -> Spec {
    Spec {
        steps: steps as u8,
        pivot: pivot as u8,
        refusers: false,
        budget: AMPLE,
        forever: false,
        readers: false,
        semantic_locks: false,
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
    type Known = ();

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
            Node::Orchestrator(orchestrator) => orchestrator.open().collect(),
            Node::Shard(_) | Node::Client(_) => Vec::new(),
        }
    }

    fn takes_part((): &mut (), _: Addr, node: &Node) -> bool {
        !matches!(node, Node::Client(_))
    }

    fn begin(by: Addr, txn: TxnId, node: &Node, _: &EffectsOf<Self>) -> Option<Self> {
        let Node::Orchestrator(orchestrator) = node else {
            return None;
        };
        let (shards, pivot) = orchestrator.steps(txn)?;
        (shards.len() <= STEPS_MAX).then(|| Self {
            orchestrator: by,
            state: stateright::Model::init_states(&spec(shards.len(), pivot)).swap_remove(0),
            shards,
            pivot,
        })
    }

    fn advance(&mut self, (): &(), by: Addr, txn: TxnId, node: &Node, effects: &EffectsOf<Self>) {
        for effect in effects.iter() {
            if let Effect::Send { message, .. } = effect
                && let Some((kind, step)) = in_spec(message, txn)
            {
                self.put(kind, step);
            }
        }
        match node {
            Node::Orchestrator(orchestrator) if by == self.orchestrator => {
                self.orchestrate(orchestrator, txn);
            }
            Node::Shard(shard) => self.serve(shard, txn),
            Node::Orchestrator(_) | Node::Client(_) => {}
        }
    }

    fn spec(&self) -> Spec {
        spec(self.shards.len(), self.pivot)
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
            refusal: Refusal::Guard(_),
        } if *txn == of => Some((Sent::Refused, *step)),
        Message::Compensated { txn, step } if *txn == of => Some((Sent::Undone, *step)),
        _ => None,
    }
}

impl Shows<Node> for Node {
    fn shown(&self) -> &Node {
        self
    }
}

impl Refined for Saga {
    fn watch(options: &Options) -> Result<Watch<Node>, &'static str> {
        match options.semantic_locks {
            SemanticLocks::None => Ok(watch(Sagas::sampled(SAMPLED))),
            SemanticLocks::Wait | SemanticLocks::Refuse => {
                Err("the spec's semantic locks do not refuse steps")
            }
        }
    }
}
