//! Two-phase commit against `specs/two_phase/TwoPhase.tla`, one instance of the spec for each transaction.
//!
//! An instance begins when its initiator has voted, which the spec does in three steps at once (begin, ask the
//! initiator, yes). What came before, locking and reading, is none of the spec's business; what the participants have
//! granted by then is: a participant that has lost its grant has given up.
//!
//! | spec | code |
//! |---|---|
//! | `coord`, `await`, `record` | [`ManagerView`]; a manager that has restarted since the initiator learned of it and knows nothing presumes abort |
//! | `part` | [`ParticipantView`]: `working` until the vote is durable, `prepared` until the commit is; a participant that has lost its grant has given up, or has left if it has said that it only read; what was decided alone and what came of it | when these records are durable |
//! | `net` | what was ever sent; the initiator's first message to the manager is its yes and an inquiry in one; a question to one peer is one to all |
//! | `down`, `cut` | empty: a crash shows at the next boot |
//!
//! History: once the manager has forgotten a transaction (`ended`), or a participant has acted on an abort, a crash that
//! takes the record, which is not forced, does not undo that in the spec. The code's next words are then repetitions.
//!
//! Never taken: `ReceiveNo` while waiting (the code also tells the one that voted no, which is the spec's `DecideAbort`),
//! `CrashParticipant` (what it does to a participant is what `GiveUp` does), `Cut` and `Heal`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::transactions::{self, EffectsOf, messages_stay, nets_differ};
use super::{Guided, Refined, SAMPLED, Watch, watch};
use crate::base::observation::Observation;
use crate::base::process::{Addr, Effect};
use crate::base::txn::{ShardId, TxnId};
use crate::model::spec::Members;
use crate::model::spec::two_phase::{
    Budget, Coordinator, Heuristics, Message as Sent, PARTICIPANTS_MAX, Participant as Part,
    Record, State, TwoPhase as Spec,
};
use crate::protocol::two_phase::{
    Heuristic, Manager, ManagerView, Message, Node, Options, Participant, ParticipantView, Start,
    Timer, TwoPhase,
};

/// Enough for every step.
const AMPLE: Budget = Budget {
    coord: 9,
    part: 9,
    loss: 9,
    cut: 0,
};

impl Guided for Spec {
    fn shape(&self) -> u64 {
        let Heuristics { commits, aborts } = self.heuristics;
        u64::from(self.participants)
            | u64::from(self.readers.0) << 8
            | u64::from(commits) << 16
            | u64::from(aborts) << 17
    }

    fn refill(&self, state: &mut State) {
        state.budget = self.budget;
    }

    fn distance(&self, from: &State, to: &State) -> u32 {
        let differ = |a: Members, b: Members| (a.0 ^ b.0).count_ones();
        let parts = from.part.iter().zip(to.part);
        nets_differ(&from.net, &to.net)
            + differ(from.awaited, to.awaited)
            + differ(from.down, to.down)
            + differ(from.cut, to.cut)
            + 2 * u32::from(from.coord != to.coord)
            + 2 * u32::from(from.record != to.record)
            + 2 * parts.filter(|(a, b)| **a != *b).count() as u32
    }

    /// A participant goes where it ends up.
    fn may_pass(&self, from: &State, at: &State, to: &State) -> bool {
        let kept = messages_stay(&from.net, &at.net, &to.net);
        let parts = from.part.iter().zip(at.part).zip(to.part);
        let on_the_way = |before: Part, now: Part, after: Part| {
            now == before || now == after || (now == Part::Prepared && after == Part::Committed)
        };
        kept && (at.down, at.cut) == (to.down, to.cut) && { parts }
            .all(|((before, now), after)| on_the_way(*before, now, after))
    }
}

/// A transaction that its initiator has voted for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Instance {
    start: Arc<Start>,
    manager: Addr,
    state: State,
    /// The participants whose vote was on their disks at some time.
    forced: Members,
    /// Those that only read, where these may leave.
    readers: Members,
    /// The participants that have said that they only read.
    left: Members,
    heuristics: Heuristics,
}

impl Instance {
    fn new(start: Arc<Start>, manager: Addr, options: &Options) -> Self {
        let stayers = start.stayers(options);
        let parts = (0..).zip(&start.parts);
        let readers = { parts }
            .filter(|(_, part)| !stayers.contains(&part.shard))
            .fold(Members::default(), |readers, (at, _)| readers.with(at));
        let heuristics = Heuristics {
            commits: options.heuristic == Heuristic::Commit,
            aborts: options.heuristic == Heuristic::Abort,
        };
        let model = spec(start.parts.len(), readers, heuristics);
        let mut instance = Self {
            start,
            manager,
            state: stateright::Model::init_states(&model).swap_remove(0),
            forced: Members::default(),
            readers,
            left: Members::default(),
            heuristics,
        };
        instance.state.coord = Coordinator::Waiting;
        instance.state.awaited = Members::first(model.participants);
        // The initiator asks itself, without words.
        instance.put(Sent::Prepare, instance.start.initiator);
        instance
    }

    fn number(&self, shard: ShardId) -> Option<u8> {
        let mut parts = self.start.parts.iter();
        parts
            .position(|part| part.shard == shard)
            .map(|at| at as u8)
    }

    fn members(&self, shards: &BTreeSet<ShardId>) -> Members {
        let numbers = shards.iter().filter_map(|shard| self.number(*shard));
        numbers.fold(Members::default(), Members::with)
    }

    fn put(&mut self, message: Sent, shard: ShardId) {
        if let Some(number) = self.number(shard) {
            let set = &mut self.state.net[message as usize];
            *set = set.with(number);
        }
    }

    /// The manager's part of the state.
    fn coordinate(&mut self, manager: &Manager) {
        let all = Members::first(self.start.parts.len() as u8);
        let has_ended = self.state.coord == Coordinator::Ended;
        let none = Members::default();
        let view = manager.view(self.start.txn);
        (self.state.coord, self.state.awaited, self.state.record) = match &view {
            ManagerView::Unknown if manager.incarnation() > self.start.incarnation => {
                (Coordinator::Aborted, none, Record::None)
            }
            ManagerView::Unknown => (Coordinator::Waiting, all, Record::None),
            ManagerView::Collecting(missing) => {
                (Coordinator::Waiting, self.members(missing), Record::None)
            }
            ManagerView::Deciding => (Coordinator::Waiting, none, Record::None),
            ManagerView::Committed(_) if has_ended => (Coordinator::Ended, none, Record::End),
            ManagerView::Committed(unacked) => (
                Coordinator::Committed,
                self.members(unacked),
                Record::Commit,
            ),
            ManagerView::Ended => (Coordinator::Ended, none, Record::End),
            ManagerView::Aborted => (Coordinator::Aborted, none, Record::None),
        };
    }

    /// A participant's part of the state.
    fn participate(&mut self, participant: &Participant) {
        let Some(number) = self.number(participant.shard()) else {
            return;
        };
        let at = usize::from(number);
        let has_aborted = self.state.part[at] == Part::Aborted && self.forced.has(number);
        self.state.part[at] = match participant.view(self.start.txn) {
            ParticipantView::Committed => Part::Committed,
            ParticipantView::Prepared if has_aborted => Part::Aborted,
            ParticipantView::Prepared => {
                self.forced = self.forced.with(number);
                Part::Prepared
            }
            ParticipantView::Alone { did: true } => Part::AloneCommitted,
            ParticipantView::Alone { did: false } => Part::AloneAborted,
            ParticipantView::Mixed { did: true } => Part::MixedCommitted,
            ParticipantView::Mixed { did: false } => Part::MixedAborted,
            ParticipantView::Preparing => Part::Working,
            ParticipantView::Working(grant) if grant == self.start.parts[at].grant => Part::Working,
            ParticipantView::Working(_) | ParticipantView::Absent if self.left.has(number) => {
                Part::Left
            }
            ParticipantView::Working(_) | ParticipantView::Absent => Part::Aborted,
        };
    }
}

/// The spec for this many participants, as [`TLC checks it`](super): nothing is used up, an abort is not forced.
fn spec(participants: usize, readers: Members, heuristics: Heuristics) -> Spec {
    Spec {
        participants: participants as u8,
        readers,
        budget: AMPLE,
        forever: false,
        duplicates: true,
        cooperative: true,
        heuristics,
        lazy_aborts: true,
        flaw: None,
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
            Message::Start(start) => Some(start.txn),
            Message::Prepare(request) => Some(request.txn),
            Message::Prepared { txn, .. }
            | Message::Read { txn, .. }
            | Message::No { txn, .. }
            | Message::Commit { txn }
            | Message::Abort { txn, .. }
            | Message::Ack { txn, .. }
            | Message::Inquiry { txn }
            | Message::PeerInquiry { txn }
            | Message::PeerAnswer { txn, .. } => Some(*txn),
            Message::Client(_) | Message::Restarted { .. } | Message::Hello { .. } => None,
        }
    }

    fn of_timer(timer: &Timer) -> Option<TxnId> {
        match timer {
            Timer::Client(_) => None,
            Timer::Execution(timer) => Some(timer.txn()),
            Timer::Inquire(txn)
            | Timer::Heuristic(txn)
            | Timer::Resend(txn)
            | Timer::VoteTimeout(txn) => Some(*txn),
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
                to,
                message: Message::Start(start),
            } if start.txn == txn => Some((Arc::clone(start), *to)),
            _ => None,
        });
        let (start, manager) = participant.initiated(txn).or(sent)?;
        let options = participant.options();
        (start.parts.len() <= PARTICIPANTS_MAX).then(|| Self::new(start, manager, options))
    }

    fn advance(
        &mut self,
        shards: &Self::Known,
        by: Addr,
        txn: TxnId,
        node: &Node,
        effects: &EffectsOf<Self>,
    ) {
        for effect in effects.iter() {
            // A vote that an abort overtook on its way to the disk is forced and acted on in one step.
            if let Effect::Observe(Observation::Voted {
                shard,
                yes: true,
                txn: of,
            }) = effect
                && *of == txn
                && let Some(number) = self.number(*shard)
            {
                self.forced = self.forced.with(number);
            }
            let Effect::Send { to, message } = effect else {
                continue;
            };
            if let Message::Read { txn: of, shard } = message
                && *of == txn
                && let Some(number) = self.number(*shard)
            {
                self.left = self.left.with(number);
            }
            let between = (shards.get(&by).copied(), shards.get(to).copied());
            for (kind, shard) in in_spec(message, txn, between) {
                self.put(kind, shard);
            }
        }
        match node {
            Node::Coordinator(manager) if by == self.manager => self.coordinate(manager),
            Node::Shard(participant) => self.participate(participant),
            Node::Coordinator(_) | Node::Client(_) => {}
        }
    }

    fn spec(&self) -> Spec {
        spec(self.start.parts.len(), self.readers, self.heuristics)
    }

    fn state(&self) -> State {
        self.state
    }
}

/// What a message about `txn` is in the spec, with the participant that sends or gets it; the participants, where it comes from one
/// and goes to one.
fn in_spec(
    message: &Message,
    of: TxnId,
    (from, to): (Option<ShardId>, Option<ShardId>),
) -> Vec<(Sent, ShardId)> {
    let with =
        |kind: Sent, at: Option<ShardId>| at.map(|shard| (kind, shard)).into_iter().collect();
    let told = |kind: Sent| with(kind, to);
    match message {
        Message::Start(start) if start.txn == of => {
            vec![
                (Sent::Yes, start.initiator),
                (Sent::Inquiry, start.initiator),
            ]
        }
        Message::Prepare(request) if request.txn == of => vec![(Sent::Prepare, request.part.shard)],
        Message::Prepared { txn, shard } if *txn == of => vec![(Sent::Yes, *shard)],
        Message::Read { txn, shard } if *txn == of => vec![(Sent::Read, *shard)],
        Message::No { txn, shard } if *txn == of => vec![(Sent::No, *shard)],
        Message::Ack { txn, shard } if *txn == of => vec![(Sent::Ack, *shard)],
        Message::Commit { txn } if *txn == of => told(Sent::Commit),
        Message::Abort { txn, .. } if *txn == of => told(Sent::Abort),
        Message::PeerInquiry { txn } if *txn == of => with(Sent::Ask, from),
        Message::PeerAnswer { txn, commit: true } if *txn == of => told(Sent::TellCommit),
        Message::PeerAnswer { txn, commit: false } if *txn == of => told(Sent::TellAbort),
        _ => Vec::new(),
    }
}

impl Refined for TwoPhase {
    fn watch(_: &Options) -> Result<Watch<Node>, &'static str> {
        Ok(watch(Transactions::sampled(SAMPLED)))
    }
}
