//! Abstractions with one instance of the spec for each transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;

use stateright::Model;

use super::{Abstraction, Cause, Change, Guided, Sample, Shows};
use crate::base::process::{Addr, Effect, Effects, Input, Process};
use crate::base::txn::TxnId;
use crate::model::spec::Members;

/// The messages of an instance's node.
type MessageOf<I> = <<I as Instance>::Node as Process>::Message;

/// The timers of an instance's node.
type TimerOf<I> = <<I as Instance>::Node as Process>::Timer;

/// What a step does, in an instance's words.
pub type EffectsOf<I> = Effects<MessageOf<I>, TimerOf<I>>;

/// One transaction in its spec's terms.
pub trait Instance: Clone + Eq + Hash + Debug + Send + Sized + 'static {
    /// The spec.
    type Spec: Guided<State: Copy + Eq + Hash + Debug + Send> + Send;
    /// The protocol's process.
    type Node: Process;
    /// What has to be known of the deployment beside the transactions.
    type Known: Clone + Eq + Hash + Debug + Default + Send + 'static;

    /// The transaction that a message is about.
    fn of_message(message: &MessageOf<Self>) -> Option<TxnId>;

    /// The transaction that a timer is about.
    fn of_timer(timer: &TimerOf<Self>) -> Option<TxnId>;

    /// What a node that boots has under way.
    fn open(node: &Self::Node) -> Vec<TxnId>;

    /// Whether the spec speaks of this process at all; what it tells about the deployment is noted.
    fn takes_part(
        known: &mut Self::Known,
        by: Addr,
        node: &Self::Node,
        effects: &EffectsOf<Self>,
    ) -> bool;

    /// The other transactions about which a message shows something, beside its own.
    fn shown_by(_: &Self::Known, _: &MessageOf<Self>) -> BTreeSet<TxnId> {
        BTreeSet::new()
    }

    /// The instance, if the step shows that it has begun.
    fn begin(by: Addr, txn: TxnId, node: &Self::Node, effects: &EffectsOf<Self>) -> Option<Self>;

    /// Takes in a step.
    fn advance(
        &mut self,
        known: &Self::Known,
        by: Addr,
        txn: TxnId,
        node: &Self::Node,
        effects: &EffectsOf<Self>,
    );

    /// The spec with the instance's constants.
    fn spec(&self) -> Self::Spec;

    /// The spec's state.
    fn state(&self) -> <Self::Spec as Model>::State;

    /// The state before the step that begins it.
    fn initial(&self) -> <Self::Spec as Model>::State {
        self.spec().init_states().swap_remove(0)
    }
}

/// The spec states of all transactions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Transactions<I: Instance> {
    sample: Sample,
    instances: BTreeMap<TxnId, I>,
    known: I::Known,
}

impl<I: Instance> Default for Transactions<I> {
    fn default() -> Self {
        Self::sampled(1)
    }
}

impl<I: Instance> Transactions<I> {
    /// Only one in this many of them, the same ones in every run.
    pub fn sampled(one_in: u64) -> Self {
        Self {
            sample: Sample { one_in },
            instances: BTreeMap::new(),
            known: I::Known::default(),
        }
    }

    /// The transactions that a step may have touched.
    fn touched(&self, cause: Cause, node: &I::Node, effects: &EffectsOf<I>) -> BTreeSet<TxnId> {
        let mut touched = BTreeSet::new();
        for effect in effects.iter() {
            touched.extend(of_effect::<I>(effect));
            if let Effect::Send { message, .. } = effect {
                touched.extend(I::shown_by(&self.known, message));
            }
        }
        match cause {
            Cause::Of(txn) => drop(touched.insert(txn)),
            Cause::Boot => {
                touched.extend(self.instances.keys());
                touched.extend(I::open(node));
            }
            Cause::Other => {}
        }
        touched.retain(|txn| self.sample.has(txn));
        touched
    }
}

/// The transaction that an effect names.
fn of_effect<I: Instance>(effect: &Effect<MessageOf<I>, TimerOf<I>>) -> Option<TxnId> {
    match effect {
        Effect::Send { message, .. } => I::of_message(message),
        Effect::SetTimer { timer, .. } | Effect::CancelTimer(timer) => I::of_timer(timer),
        Effect::Observe(observation) => observation.txn(),
        _ => None,
    }
}

impl<P, I> Abstraction<P> for Transactions<I>
where
    I: Instance,
    P: Shows<I::Node> + Process<Message = MessageOf<I>, Timer = TimerOf<I>>,
{
    type Spec = I::Spec;
    type Name = TxnId;

    fn cause(input: &Input<P::Message, P::Timer>) -> Cause {
        let of = match input {
            Input::Boot(_) => return Cause::Boot,
            Input::Message { message, .. } => I::of_message(message),
            Input::Timer(timer) => I::of_timer(timer),
            Input::Flushed(_) | Input::FlushFailed(_) => None,
        };
        of.map_or(Cause::Other, Cause::Of)
    }

    fn step(
        &mut self,
        by: Addr,
        cause: Cause,
        process: &P,
        effects: &EffectsOf<I>,
    ) -> Vec<Change<I::Spec, TxnId>> {
        let node = process.shown();
        if !I::takes_part(&mut self.known, by, node, effects) {
            return Vec::new();
        }
        let mut changes = Vec::new();
        for txn in self.touched(cause, node, effects) {
            let (before, mut instance) = match self.instances.remove(&txn) {
                Some(instance) => (instance.state(), instance),
                None => match I::begin(by, txn, node, effects) {
                    Some(instance) => (instance.initial(), instance),
                    None => continue,
                },
            };
            instance.advance(&self.known, by, txn, node, effects);
            changes.push(Change {
                name: txn,
                model: instance.spec(),
                before,
                after: instance.state(),
            });
            self.instances.insert(txn, instance);
        }
        changes
    }

    fn instances(&self) -> Vec<(TxnId, I::Spec, <I::Spec as Model>::State)> {
        let instances = self.instances.iter();
        let shown = |(txn, instance): (&TxnId, &I)| (*txn, instance.spec(), instance.state());
        instances.map(shown).collect()
    }
}

/// How many messages two nets differ in.
pub fn nets_differ(a: &[Members], b: &[Members]) -> u32 {
    let nets = a.iter().zip(b);
    nets.map(|(a, b)| (a.0 ^ b.0).count_ones()).sum()
}

/// Whether a path from `before` to `after` may have this net on its way: messages stay, but for one that is sent and lost at
/// once.
pub fn messages_stay(before: &[Members], now: &[Members], after: &[Members]) -> bool {
    let taken = before
        .iter()
        .zip(now)
        .any(|(before, now)| before.0 & !now.0 != 0);
    let passing = now
        .iter()
        .zip(after)
        .map(|(now, after)| (now.0 & !after.0).count_ones());
    !taken && passing.sum::<u32>() <= 1
}
