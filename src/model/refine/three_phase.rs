//! Three-phase commit against `specs/three_phase/ThreePhase.tla`, one instance of the spec for each transaction.
//!
//! An instance begins when its initiator has voted. What came before, locking and reading, is none of the spec's business;
//! what the participants have granted by then is: a participant that has lost its grant has voted no.
//!
//! | spec | code |
//! |---|---|
//! | `coord` | [`CoordinatorView`]; one that has restarted since, and knows nothing, has left |
//! | `part` | `working` until the vote is durable; then what the disk holds |
//! | `fallen` | a participant that has booted in doubt; the coordinator, once it has left |
//! | `suspected` | whom anybody has ever taken for crashed, in this transaction |
//! | `follows` | what a participant says, for as long as it has not crashed |
//! | `net` | answers as they are sent; the rest follows from the states: who has said something has said it to all |
//! | `down`, `apart` | empty: a crash shows at the next boot, a cut as silence |
//!
//! History: an abort that was acted on is not undone by a crash that takes its record, which is not forced. A PreCommit whose
//! record a crash left behind, and that was never acknowledged, counts as acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::transactions::{self, EffectsOf};
use super::{Guided, Refined, SAMPLED, Watch, watch};
use crate::base::process::{Addr, Effect};
use crate::base::txn::{ShardId, TxnId};
use crate::model::spec::Members;
use crate::model::spec::three_phase::{
    Budget, Coordinator, Message as Sent, PARTICIPANTS_MAX, Participant as Part, State,
    ThreePhase as Spec,
};
use crate::protocol::kit::participant::Phase;
use crate::protocol::three_phase::{
    self, CoordinatorView, Message, Node, Options, Participant, Rank, Start, ThreePhase, Timer,
};

/// Enough for every step.
const AMPLE: Budget = Budget {
    coord: 1,
    part: 9,
    wrong: 9,
    cut: 0,
};

impl Guided for Spec {
    fn shape(&self) -> u64 {
        u64::from(self.participants) | u64::from(self.own_timeouts) << 8
    }

    fn refill(&self, state: &mut State) {
        state.budget = self.budget;
    }

    fn distance(&self, from: &State, to: &State) -> u32 {
        let differ = |a: Members, b: Members| (a.0 ^ b.0).count_ones();
        let parts = from.part.iter().zip(to.part);
        let follows = from.follows.iter().zip(to.follows);
        from.net.differ(&to.net)
            + differ(from.down, to.down)
            + differ(from.fallen, to.fallen)
            + differ(from.suspected, to.suspected)
            + differ(from.apart, to.apart)
            + 2 * u32::from(from.coord != to.coord)
            + 2 * parts.filter(|(a, b)| **a != *b).count() as u32
            + follows.filter(|(a, b)| **a != *b).count() as u32
    }

    /// Nothing is taken back, and a participant goes where it ends up.
    fn may_pass(&self, from: &State, at: &State, to: &State) -> bool {
        let within = |a: Members, b: Members| a.0 & !b.0 == 0;
        let parts = from.part.iter().zip(at.part).zip(to.part);
        let on_the_way = |before: Part, now: Part, after: Part| {
            now == before || now == after || (now.in_doubt() && before != Part::Aborted)
        };
        let mut follows = at.follows.iter().zip(to.follows);
        at.net.within(&to.net)
            && within(at.suspected, to.suspected)
            && within(at.fallen, to.fallen)
            && at.apart == to.apart
            && follows.all(|(now, after)| *now <= after)
            && { parts }.all(|((before, now), after)| on_the_way(*before, now, after))
    }
}

/// A transaction that its initiator has voted for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Instance {
    start: Arc<Start>,
    own_timeouts: bool,
    state: State,
}

/// The spec for this many participants, as TLC checks it in `MCThreePhaseCode`.
fn spec(participants: usize, own_timeouts: bool) -> Spec {
    Spec {
        participants: participants as u8,
        budget: AMPLE,
        own_timeouts,
        flaw: None,
    }
}

impl Instance {
    fn new(start: Arc<Start>, own_timeouts: bool) -> Self {
        let model = spec(start.parts.len(), own_timeouts);
        let mut state = stateright::Model::init_states(&model).swap_remove(0);
        state.coord = Coordinator::Waiting;
        model.tell_all(&mut state, Sent::CanCommit, three_phase::COORDINATOR);
        Self {
            start,
            own_timeouts,
            state,
        }
    }

    fn tell_all(&mut self, message: Sent, from: Rank) {
        let model = spec(self.start.parts.len(), self.own_timeouts);
        model.tell_all(&mut self.state, message, from);
    }

    fn suspect(&mut self, suspects: Vec<Rank>) {
        let suspected = self.state.suspected;
        self.state.suspected = suspects.into_iter().fold(suspected, Members::with);
    }

    /// The coordinator's part of the state.
    fn coordinate(&mut self, coordinator: &three_phase::Coordinator) {
        let group = &self.start.group;
        let has_restarted = coordinator.incarnation() > group.incarnation;
        let txn = group.txn;
        self.suspect(coordinator.suspects(txn));
        self.state.coord = match coordinator.view(txn) {
            CoordinatorView::Unknown if has_restarted => Coordinator::Left,
            CoordinatorView::Unknown | CoordinatorView::Waiting => Coordinator::Waiting,
            CoordinatorView::PreCommitting => Coordinator::Precommitting,
            CoordinatorView::Committed => Coordinator::Committed,
            CoordinatorView::Aborted => Coordinator::Aborted,
            CoordinatorView::Left => Coordinator::Left,
        };
        let from = three_phase::COORDINATOR;
        match self.state.coord {
            Coordinator::Precommitting => self.tell_all(Sent::PreCommit, from),
            Coordinator::Committed => self.tell_all(Sent::Commit, from),
            Coordinator::Aborted => self.tell_all(Sent::Abort, from),
            Coordinator::Left => self.state.fallen = self.state.fallen.with(from),
            Coordinator::Idle | Coordinator::Waiting => {}
        }
    }

    /// What a participant has done.
    fn part(&self, participant: &Participant, before: Part) -> Part {
        let txn = self.start.group.txn;
        let mut parts = self.start.parts.iter();
        let granted = parts.find(|part| part.shard == participant.shard());
        let granted = granted.map(|part| part.grant);
        let precommitted = { participant.doubt(txn) }.and_then(|doubt| doubt.precommitted);
        match participant.phase(txn) {
            _ if before == Part::Aborted => Part::Aborted,
            Some(Phase::Preparing { .. }) => Part::Working,
            Some(Phase::Prepared(_) | Phase::Committing { .. }) => match precommitted {
                Some(_) => Part::Precommitted,
                None => Part::Prepared,
            },
            None if participant.has_committed(txn) => Part::Committed,
            None if before == Part::Working && participant.grant(txn) == granted => Part::Working,
            None => Part::Aborted,
        }
    }

    /// A participant's part of the state, and what it has said with that.
    fn participate(&mut self, participant: &Participant) {
        let txn = self.start.group.txn;
        if !self.start.group.members.contains(&participant.shard()) {
            return;
        }
        let rank = self.start.group.rank(participant.shard());
        let at = usize::from(rank);
        let before = self.state.part(rank);
        let part = self.part(participant, before);
        self.state.set(rank, part);
        self.suspect(participant.suspects(txn));
        let voted_yes = !matches!(part, Part::Working | Part::Aborted);
        if before == Part::Working && voted_yes {
            self.state
                .net
                .put(Sent::Yes, rank, three_phase::COORDINATOR);
        }
        if before == Part::Working && part == Part::Aborted {
            self.state.net.put(Sent::No, rank, three_phase::COORDINATOR);
        }
        match part {
            Part::Committed => self.tell_all(Sent::Commit, rank),
            Part::Aborted => self.tell_all(Sent::Abort, rank),
            Part::Working | Part::Prepared | Part::Precommitted => {}
        }
        let Some(doubt) = { participant.doubt(txn) }.filter(|_| part.in_doubt()) else {
            return;
        };
        match doubt.precommitted {
            Some(by) if by == rank => self.tell_all(Sent::PreCommit, rank),
            Some(by) if before != Part::Precommitted => {
                self.state.net.put(Sent::Ack, rank, by);
                self.state.follows[at] = self.state.follows[at].max(by);
            }
            _ => {}
        }
        if doubt.fallen {
            self.state.fallen = self.state.fallen.with(rank);
            return self.tell_all(
                match part {
                    Part::Precommitted => Sent::WasPrecommitted,
                    _ => Sent::WasPrepared,
                },
                rank,
            );
        }
        self.state.follows[at] = self.state.follows[at].max(doubt.follows);
        if self.state.follows[at] == rank {
            self.tell_all(Sent::Ask, rank);
        }
        if doubt.told {
            self.tell_all(Sent::PreCommit, rank);
        }
    }
}

/// The spec states of all transactions.
pub type Transactions = transactions::Transactions<Instance>;

impl transactions::Instance for Instance {
    type Spec = Spec;
    type Node = Node;
    /// The shard of each participant that has taken a step.
    type Known = BTreeMap<Addr, ShardId>;

    fn of_message(message: &Message) -> Option<TxnId> {
        match message {
            Message::Execution(message) => Some(message.txn()),
            Message::BeginCommit(start) => Some(start.group.txn),
            Message::Prepare { group, .. } => Some(group.txn),
            Message::Prepared { txn, .. }
            | Message::No { txn, .. }
            | Message::PreCommit { txn, .. }
            | Message::PreCommitted { txn, .. }
            | Message::Commit { txn }
            | Message::Abort { txn, .. }
            | Message::Ack { txn, .. }
            | Message::Inquiry { txn, .. }
            | Message::Waiting { txn }
            | Message::Left { txn, .. }
            | Message::Recovered { txn, .. }
            | Message::Ask { txn, .. }
            | Message::State { txn, .. } => Some(*txn),
            Message::Client(_) | Message::Restarted { .. } | Message::Hello { .. } => None,
        }
    }

    fn of_timer(timer: &Timer) -> Option<TxnId> {
        match timer {
            Timer::Client(_) | Timer::Trust(_) => None,
            Timer::Execution(timer) => Some(timer.txn()),
            Timer::Inquire(txn) | Timer::Resend(txn) | Timer::VoteTimeout(txn) => Some(*txn),
        }
    }

    fn open(node: &Node) -> Vec<TxnId> {
        match node {
            Node::Shard(participant) => participant.open().collect(),
            Node::Coordinator(_) | Node::Client(_) => Vec::new(),
        }
    }

    fn takes_part(shards: &mut Self::Known, by: Addr, node: &Node, _: &EffectsOf<Self>) -> bool {
        if let Node::Shard(participant) = node {
            shards.insert(by, participant.shard());
        }
        !matches!(node, Node::Client(_))
    }

    /// Begins when the step shows that the initiator has voted.
    fn begin(_: Addr, txn: TxnId, node: &Node, effects: &EffectsOf<Self>) -> Option<Self> {
        let Node::Shard(participant) = node else {
            return None;
        };
        let sent = effects.iter().find_map(|effect| match effect {
            Effect::Send {
                message: Message::BeginCommit(start),
                ..
            } if start.group.txn == txn => Some(Arc::clone(start)),
            _ => None,
        });
        let vote = participant.in_doubt(txn);
        let voted = vote.and_then(|vote| Some(Arc::clone(&vote.origin.as_ref()?.start)));
        let start = voted.or(sent)?;
        let own_timeouts = participant.decides_alone();
        (start.parts.len() <= PARTICIPANTS_MAX).then(|| Self::new(start, own_timeouts))
    }

    fn advance(
        &mut self,
        shards: &Self::Known,
        by: Addr,
        txn: TxnId,
        node: &Node,
        effects: &EffectsOf<Self>,
    ) {
        let group = Arc::clone(&self.start.group);
        for effect in effects.iter() {
            let Effect::Send { to, message } = effect else {
                continue;
            };
            match message {
                Message::State {
                    txn: of,
                    shard,
                    committable,
                } if *of == txn => {
                    let answer = match committable {
                        true => Sent::Committable,
                        false => Sent::Uncertain,
                    };
                    if let Some(asked) = shards.get(to).filter(|s| group.members.contains(s)) {
                        let (from, to) = (group.rank(*shard), group.rank(*asked));
                        self.state.net.put(answer, from, to);
                    }
                }
                Message::PreCommitted {
                    txn: of, shard, by, ..
                } if *of == txn => self.state.net.put(Sent::Ack, group.rank(*shard), *by),
                _ => {}
            }
        }
        match node {
            Node::Coordinator(coordinator) if by == group.coordinator => {
                self.coordinate(coordinator);
            }
            Node::Shard(participant) => self.participate(participant),
            Node::Coordinator(_) | Node::Client(_) => {}
        }
    }

    fn spec(&self) -> Spec {
        spec(self.start.parts.len(), self.own_timeouts)
    }

    fn state(&self) -> State {
        self.state
    }
}

impl Refined for ThreePhase {
    fn watch(_: &Options) -> Result<Watch<Node>, &'static str> {
        Ok(watch(Transactions::sampled(SAMPLED)))
    }
}
