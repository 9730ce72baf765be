//! Refinement: the protocol code takes no step that its spec does not allow, in every schedule of small worlds and in
//! simulated runs; and code that skips a flush, forgets or invents a vote, or answers early is caught.
//!
//! A mutant is the real process behind something that interferes with its inputs and effects.

use std::sync::Arc;

use ordain::base::observation::{AbortReason, Observation};
use ordain::base::options::Millis;
use ordain::base::process::{Addr, Effect, Input, NodeId};
use ordain::base::txn::{ShardId, TxnId};
use ordain::model::refine::{self, Checked, Tally};
use ordain::model::worlds::world::{Budget, Host};
use ordain::model::worlds::{
    CRASH, DATA, FRONT, LATE, LOSS, NONE, SINGLE_FAULTS, TXN, onlooker, transfer, transfer_back,
    withdrawal,
};
use ordain::plan::PlannedOperation;
use ordain::protocol::kit::client::ClientTimer;
use ordain::protocol::saga::{self, Saga, SemanticLocks};
use ordain::protocol::two_phase::{self, TwoPhase};

use crate::interferer::*;

/// The first process on a machine.
fn on(node: NodeId) -> Addr {
    Addr { node, port: 0 }
}

fn says<M, T>(to: NodeId, message: M) -> Effect<M, T> {
    let to = on(to);
    Effect::Send { to, message }
}

fn two_phase(
    budget: Budget,
    inputs: Inspector<two_phase::Node>,
    effects: Meddler<two_phase::Node>,
) -> Checked {
    let everywhere = [FRONT, DATA[0], DATA[1]];
    let options = two_phase::Options::default();
    commits(
        (&options, transfer(0)),
        &everywhere,
        budget,
        inputs,
        effects,
    )
}

/// The same with participants that ask one another, where faults reach the manager and one of them.
fn peers(
    budget: Budget,
    inputs: Inspector<two_phase::Node>,
    effects: Meddler<two_phase::Node>,
) -> Checked {
    let options = two_phase::Options {
        cooperative_termination: true,
        ..two_phase::Options::default()
    };
    let exposed = [FRONT, DATA[0]];
    commits((&options, transfer(0)), &exposed, budget, inputs, effects)
}

/// With a participant that only reads, and leaves.
fn readers(
    cooperative_termination: bool,
    budget: Budget,
    inputs: Inspector<two_phase::Node>,
    effects: Meddler<two_phase::Node>,
) -> Checked {
    let options = two_phase::Options {
        cooperative_termination,
        read_only_optimisation: true,
        ..two_phase::Options::default()
    };
    let everywhere = [FRONT, DATA[0], DATA[1]];
    commits(
        (&options, withdrawal()),
        &everywhere,
        budget,
        inputs,
        effects,
    )
}

/// One transaction, and faults that reach these machines.
fn commits(
    (options, operation): (&two_phase::Options, PlannedOperation),
    exposed: &[NodeId],
    budget: Budget,
    inputs: Inspector<two_phase::Node>,
    effects: Meddler<two_phase::Node>,
) -> Checked {
    let start = refine::two_phase::Transactions::default();
    let host = world::<TwoPhase, _>(options, start, &[operation], budget, inputs, effects)
        .expose(exposed.iter().copied())
        .limit_timers(|_, timer| match timer {
            two_phase::Timer::Client(ClientTimer::Resend(_)) => Some(2),
            _ => None,
        });
    refine::check_edges(&host, LIMIT).expect("small")
}

fn saga(
    at_least: i64,
    budget: Budget,
    inputs: Inspector<saga::Node>,
    effects: Meddler<saga::Node>,
) -> Checked {
    let options = saga::Options::default();
    let host = sagas_of(&options, &[transfer(at_least)], budget, inputs, effects);
    refine::check_edges(&host, LIMIT).expect("small")
}

/// With semantic locks; another transaction comes when a timer fires too early.
fn meeting(
    semantic_locks: SemanticLocks,
    operations: [PlannedOperation; 2],
    budget: Budget,
    inputs: Inspector<saga::Node>,
    effects: Meddler<saga::Node>,
) -> Checked {
    let options = saga::Options {
        semantic_locks,
        ..saga::Options::default()
    };
    let exposed = [DATA[1]];
    let host = sagas_of(&options, &operations, budget, inputs, effects);
    refine::check_edges(&host.expose(exposed), LIMIT).expect("small")
}

fn sagas_of(
    options: &saga::Options,
    operations: &[PlannedOperation],
    budget: Budget,
    inputs: Inspector<saga::Node>,
    effects: Meddler<saga::Node>,
) -> Host<Meddled<saga::Node>, refine::saga::Sagas> {
    let start = refine::saga::Sagas::default();
    world::<Saga, _>(options, start, operations, budget, inputs, effects).limit_timers(
        |_, timer| match timer {
            saga::Timer::Client(ClientTimer::Resend(_)) => Some(2),
            _ => None,
        },
    )
}

#[test]
fn every_edge_of_two_phase_commit_is_allowed_by_its_spec() {
    let mut tally = Tally::default();
    for budget in [NONE].into_iter().chain(SINGLE_FAULTS) {
        let checked = two_phase(budget, all, honest);
        assert_refines(&checked, &mut tally, &format!("{budget:?}"));
    }
    assert_taken(
        &tally,
        &[
            "Begin",
            "SendPrepare",
            "ReceiveYes",
            "DecideCommit",
            "DecideAbort",
            "SendCommit",
            "SendAbort",
            "ReceiveAck",
            "End",
            "AnswerInquiry",
            "CrashCoordinator",
            "RestartCoordinator",
            "VoteYes",
            "VoteNo",
            "GiveUp",
            "LearnCommit",
            "LearnAbort",
            "Inquire",
        ],
    );
}

#[test]
fn every_edge_of_a_saga_is_allowed_by_its_spec() {
    let mut tally = Tally::default();
    for at_least in [0, 100] {
        for budget in [NONE].into_iter().chain(SINGLE_FAULTS) {
            let checked = saga(at_least, budget, all, honest);
            assert_refines(&checked, &mut tally, &format!("{budget:?}"));
        }
    }
    assert_taken(
        &tally,
        &[
            "Begin",
            "Ask",
            "AskUndo",
            "ReceiveDone",
            "ReceiveRefused",
            "ReceiveUndone",
            "Advance",
            "Retreat",
            "GiveUp",
            "BackUp",
            "CrashOrchestrator",
            "RecoverFromLog",
            "Execute",
            "Refuse",
            "Compensate",
        ],
    );
}

/// Another client's, whose second step comes after the pivot and ignores marks.
fn retriable_back() -> PlannedOperation {
    let mut operation = transfer_back();
    operation.txn.pivot = Some(0);
    operation
}

#[test]
fn every_edge_of_sagas_with_semantic_locks_is_allowed_by_their_spec() {
    let mut tally = Tally::default();
    for locks in [SemanticLocks::Wait, SemanticLocks::Refuse] {
        for operations in [
            [transfer(0), transfer_back()],
            [transfer(0), retriable_back()],
            [transfer(0), onlooker()],
            [transfer(100), onlooker()],
        ] {
            let checked = meeting(locks, operations, LATE, all, honest);
            assert_refines(&checked, &mut tally, &format!("{locks:?}"));
        }
    }
    let fails = Budget {
        failed_flushes: 1,
        ..LATE
    };
    let back = [transfer(0), transfer_back()];
    let checked = meeting(SemanticLocks::Refuse, back, fails, all, honest);
    assert_refines(&checked, &mut tally, "a flush fails");
    assert_taken(
        &tally,
        &["Read", "Refuse", "Retreat", "Compensate", "BackUp"],
    );
}

// Mutants of two-phase commit.

fn participants_skip_flushes(
    node: &two_phase::Node,
    effects: EffectsOf<two_phase::Node>,
) -> EffectsOf<two_phase::Node> {
    match node {
        two_phase::Node::Shard(_) => unflushed(effects),
        _ => effects,
    }
}

fn managers_skip_flushes(
    node: &two_phase::Node,
    effects: EffectsOf<two_phase::Node>,
) -> EffectsOf<two_phase::Node> {
    match node {
        two_phase::Node::Coordinator(_) => unflushed(effects),
        _ => effects,
    }
}

/// A participant acknowledges a commit as soon as it hears of it.
fn acks_early(
    node: &two_phase::Node,
    mut effects: EffectsOf<two_phase::Node>,
) -> EffectsOf<two_phase::Node> {
    let two_phase::Node::Shard(participant) = node else {
        return effects;
    };
    let shard = participant.shard();
    let forces = { effects.iter() }.any(|effect| matches!(effect, Effect::Flush(_)));
    if forces && participant.view(TXN) == two_phase::ParticipantView::Prepared {
        effects.push(says(FRONT, two_phase::Message::Ack { txn: TXN, shard }));
    }
    effects
}

/// What a manager hears if it takes a no for another vote.
fn no_as(
    vote: fn(TxnId, ShardId) -> two_phase::Message,
    input: InputOf<two_phase::Node>,
) -> Option<InputOf<two_phase::Node>> {
    Some(match input {
        Input::Message {
            from,
            message: two_phase::Message::No { txn, shard },
        } => Input::Message {
            from,
            message: vote(txn, shard),
        },
        input => input,
    })
}

/// A manager takes a no for a yes.
fn forgets_a_no(
    _: &two_phase::Node,
    input: InputOf<two_phase::Node>,
) -> Option<InputOf<two_phase::Node>> {
    no_as(
        |txn, shard| two_phase::Message::Prepared { txn, shard },
        input,
    )
}

/// A participant in doubt that does not want to ask takes it for an abort.
fn gives_up_in_doubt(
    _: &two_phase::Node,
    input: InputOf<two_phase::Node>,
) -> Option<InputOf<two_phase::Node>> {
    Some(match input {
        Input::Timer(two_phase::Timer::Inquire(txn)) => Input::Message {
            from: on(FRONT),
            message: two_phase::Message::Abort {
                txn,
                why: AbortReason::Timeout,
            },
        },
        input => input,
    })
}

#[test]
fn mutants_of_two_phase_commit_leave_the_spec() {
    let late = Budget {
        early_timeouts: 1,
        ..NONE
    };
    let fails = Budget {
        failed_flushes: 1,
        ..NONE
    };
    type Mutant = (
        &'static str,
        Budget,
        Inspector<two_phase::Node>,
        Meddler<two_phase::Node>,
    );
    let mutants: [Mutant; 5] = [
        (
            "a participant skips its flushes",
            CRASH,
            all,
            participants_skip_flushes,
        ),
        (
            "a manager skips its flushes",
            CRASH,
            all,
            managers_skip_flushes,
        ),
        ("an ack leaves early", NONE, all, acks_early),
        ("a no is taken for a yes", fails, forgets_a_no, honest),
        (
            "a participant in doubt aborts",
            late,
            gives_up_in_doubt,
            honest,
        ),
    ];
    for (name, budget, inputs, effects) in mutants {
        assert_refused(name, two_phase(budget, inputs, effects));
    }
}

/// A participant in doubt takes a question for an answer: who asks does not know of a commit.
fn takes_questions_for_answers(
    node: &two_phase::Node,
    input: InputOf<two_phase::Node>,
) -> Option<InputOf<two_phase::Node>> {
    let two_phase::Node::Shard(participant) = node else {
        return Some(input);
    };
    let in_doubt = participant.view(TXN) == two_phase::ParticipantView::Prepared;
    Some(match input {
        Input::Message {
            from,
            message: two_phase::Message::PeerInquiry { txn },
        } if in_doubt => Input::Message {
            from,
            message: two_phase::Message::PeerAnswer { txn, commit: false },
        },
        input => input,
    })
}

/// A participant tells another of an abort and votes yes.
fn tells_of_an_abort_and_votes_yes(
    node: &two_phase::Node,
    mut effects: EffectsOf<two_phase::Node>,
) -> EffectsOf<two_phase::Node> {
    let two_phase::Node::Shard(participant) = node else {
        return effects;
    };
    if participant.view(TXN) == two_phase::ParticipantView::Preparing {
        let other = DATA[usize::from(participant.shard().0 == 0)];
        effects.push(says(
            other,
            two_phase::Message::PeerAnswer {
                txn: TXN,
                commit: false,
            },
        ));
    }
    effects
}

/// Nobody answers another.
fn answers_no_peer(
    _: &two_phase::Node,
    input: InputOf<two_phase::Node>,
) -> Option<InputOf<two_phase::Node>> {
    let asks = matches!(
        input,
        Input::Message {
            message: two_phase::Message::PeerInquiry { .. },
            ..
        }
    );
    (!asks).then_some(input)
}

#[test]
fn every_edge_of_cooperative_termination_is_allowed_by_the_spec_and_its_mutants_leave_it() {
    let mut tally = Tally::default();
    for inputs in [all, answers_no_peer] {
        let checked = peers(CRASH, inputs, honest);
        assert_refines(&checked, &mut tally, "they ask one another");
    }
    let actions = [
        "AnswerFromMemory",
        "AskPeers",
        "HearCommit",
        "TellAbort",
        "TellCommit",
    ];
    assert_taken(&tally, &actions);

    let caught = [
        peers(CRASH, takes_questions_for_answers, honest),
        peers(NONE, all, tells_of_an_abort_and_votes_yes),
    ];
    for checked in caught {
        assert_refused("a mutant", checked);
    }
}

/// With participants in doubt that decide alone.
fn alone(
    heuristic: two_phase::Heuristic,
    budget: Budget,
    inputs: Inspector<two_phase::Node>,
    effects: Meddler<two_phase::Node>,
) -> Checked {
    let options = two_phase::Options {
        heuristic,
        ..two_phase::Options::default()
    };
    let exposed = [FRONT, DATA[0]];
    commits((&options, transfer(0)), &exposed, budget, inputs, effects)
}

/// Sends the manager this whenever a participant has decided alone.
fn says_when_alone(
    effects: &mut EffectsOf<two_phase::Node>,
    message: impl Fn(ShardId) -> two_phase::Message,
) {
    let decided = |effect: &EffectOf<two_phase::Node>| match effect {
        Effect::Observe(Observation::DecidedAlone { shard, .. }) => Some(*shard),
        _ => None,
    };
    if let Some(shard) = effects.iter().find_map(decided) {
        effects.push(says(FRONT, message(shard)));
    }
}

/// Who has decided alone acknowledges at once, and owes nothing more.
fn acks_what_it_did_alone(
    _: &two_phase::Node,
    mut effects: EffectsOf<two_phase::Node>,
) -> EffectsOf<two_phase::Node> {
    let txn = TXN;
    says_when_alone(&mut effects, |shard| two_phase::Message::Ack { txn, shard });
    effects
}

/// Who has aborted alone takes back its vote.
fn takes_back_its_vote(
    _: &two_phase::Node,
    mut effects: EffectsOf<two_phase::Node>,
) -> EffectsOf<two_phase::Node> {
    let txn = TXN;
    says_when_alone(&mut effects, |shard| two_phase::Message::No { txn, shard });
    effects
}

/// A participant in doubt that is to ask decides alone, whatever the options say.
fn decides_instead_of_asking(
    _: &two_phase::Node,
    input: InputOf<two_phase::Node>,
) -> Option<InputOf<two_phase::Node>> {
    Some(match input {
        Input::Timer(two_phase::Timer::Inquire(txn)) => {
            Input::Timer(two_phase::Timer::Heuristic(txn))
        }
        input => input,
    })
}

#[test]
fn every_edge_with_heuristic_decisions_is_allowed_by_the_spec_and_mutants_leave_it() {
    use two_phase::Heuristic::{Abort, Commit, Wait};
    let crash = Budget { crashes: 1, ..LATE };
    let mut tally = Tally::default();
    for heuristic in [Commit, Abort] {
        for budget in [LATE, LOSS, crash] {
            let checked = alone(heuristic, budget, all, honest);
            assert_refines(&checked, &mut tally, &format!("{heuristic:?}, {budget:?}"));
        }
    }
    let actions = [
        "HeuristicAbort",
        "HeuristicCommit",
        "LearnAbort",
        "LearnCommit",
    ];
    assert_taken(&tally, &actions);

    let caught = [
        ("acks", alone(Abort, LATE, all, acks_what_it_did_alone)),
        ("takes back", alone(Abort, LATE, all, takes_back_its_vote)),
        (
            "not flushed",
            alone(Commit, crash, all, participants_skip_flushes),
        ),
        (
            "not allowed",
            alone(Wait, LATE, decides_instead_of_asking, honest),
        ),
    ];
    for (name, checked) in caught {
        assert_refused(name, checked);
    }
}

/// Participants other than the initiator vote as if they had only read, whatever they are to write.
fn leaves_with_writes(
    _: &two_phase::Node,
    input: InputOf<two_phase::Node>,
) -> Option<InputOf<two_phase::Node>> {
    Some(match input {
        Input::Message {
            from,
            message: two_phase::Message::Prepare(request),
        } => {
            let mut request = (*request).clone();
            request.peers.remove(&request.part.shard);
            Input::Message {
                from,
                message: two_phase::Message::Prepare(Arc::new(request)),
            }
        }
        input => input,
    })
}

/// Who is in doubt asks everybody, also those that have left.
fn asks_readers(
    node: &two_phase::Node,
    mut effects: EffectsOf<two_phase::Node>,
) -> EffectsOf<two_phase::Node> {
    let two_phase::Node::Shard(participant) = node else {
        return effects;
    };
    let asks = |effect: &EffectOf<two_phase::Node>| {
        matches!(effect, Effect::Observe(Observation::Mark("2pc.in-doubt")))
    };
    if effects.iter().any(asks) && participant.shard().0 == 0 {
        effects.push(says(DATA[1], two_phase::Message::PeerInquiry { txn: TXN }));
    }
    effects
}

/// A manager takes the no of one that has lost what it read for a read vote.
fn takes_a_no_for_a_read(
    _: &two_phase::Node,
    input: InputOf<two_phase::Node>,
) -> Option<InputOf<two_phase::Node>> {
    no_as(|txn, shard| two_phase::Message::Read { txn, shard }, input)
}

/// A reader votes "read" for rows whose locks it has lost.
fn reads_without_locks(
    _: &two_phase::Node,
    effects: EffectsOf<two_phase::Node>,
) -> EffectsOf<two_phase::Node> {
    let as_read = |effect| match effect {
        Effect::Send {
            to,
            message: two_phase::Message::No { txn, shard },
        } => Effect::Send {
            to,
            message: two_phase::Message::Read { txn, shard },
        },
        effect => effect,
    };
    effects.into_iter().map(as_read).collect()
}

#[test]
fn every_edge_with_a_reader_that_leaves_is_allowed_by_the_spec_and_mutants_leave_it() {
    let mut tally = Tally::default();
    for budget in [NONE].into_iter().chain(SINGLE_FAULTS) {
        let checked = readers(false, budget, all, honest);
        assert_refines(&checked, &mut tally, &format!("{budget:?}"));
    }
    let checked = readers(true, CRASH, all, honest);
    assert_refines(&checked, &mut tally, "those who stay ask one another");
    let actions = ["DecideCommit", "End", "ReceiveRead", "Revote", "VoteRead"];
    assert_taken(&tally, &actions);

    let caught = [
        (
            "leaves with writes",
            two_phase(NONE, leaves_with_writes, honest),
        ),
        ("asks readers", readers(true, CRASH, all, asks_readers)),
        (
            "a no is a read",
            readers(false, CRASH, takes_a_no_for_a_read, honest),
        ),
        (
            "reads without locks",
            readers(false, CRASH, all, reads_without_locks),
        ),
    ];
    for (name, checked) in caught {
        assert_refused(name, checked);
    }
}

// Mutants of the saga.

fn shards_skip_flushes(node: &saga::Node, effects: EffectsOf<saga::Node>) -> EffectsOf<saga::Node> {
    match node {
        saga::Node::Shard(_) => unflushed(effects),
        _ => effects,
    }
}

fn orchestrators_skip_flushes(
    node: &saga::Node,
    effects: EffectsOf<saga::Node>,
) -> EffectsOf<saga::Node> {
    match node {
        saga::Node::Coordinator(_) => unflushed(effects),
        _ => effects,
    }
}

/// A shard answers while its record is on the way to the disk.
fn answers_early(node: &saga::Node, mut effects: EffectsOf<saga::Node>) -> EffectsOf<saga::Node> {
    let saga::Node::Shard(shard) = node else {
        return effects;
    };
    let step = shard.shard().0;
    let forces = { effects.iter() }.any(|effect| matches!(effect, Effect::Flush(_)));
    if forces && shard.view(TXN, step).is_none() {
        effects.push(says(
            FRONT,
            saga::Message::Done {
                txn: TXN,
                step,
                rows: Vec::new(),
            },
        ));
    }
    effects
}

/// What an orchestrator hears if it takes some refusals of steps for success.
fn refusal_as_done(
    is_meant: impl Fn(u16, saga::Refusal) -> bool,
    input: InputOf<saga::Node>,
) -> Option<InputOf<saga::Node>> {
    Some(match input {
        Input::Message {
            from,
            message: saga::Message::Refused { txn, step, refusal },
        } if is_meant(step, refusal) => Input::Message {
            from,
            message: saga::Message::Done {
                txn,
                step,
                rows: Vec::new(),
            },
        },
        input => input,
    })
}

/// An orchestrator takes every refusal for success.
fn hears_no_refusal(_: &saga::Node, input: InputOf<saga::Node>) -> Option<InputOf<saga::Node>> {
    refusal_as_done(|_, _| true, input)
}

/// An orchestrator that has asked for a compensation takes it for done when it ought to ask again.
fn takes_silence_for_compensation(
    node: &saga::Node,
    input: InputOf<saga::Node>,
) -> Option<InputOf<saga::Node>> {
    let saga::Node::Coordinator(orchestrator) = node else {
        return Some(input);
    };
    Some(match (input, orchestrator.view(TXN)) {
        (Input::Timer(saga::Timer::Resend(txn)), Some(saga::SagaView::Backward(step))) => {
            Input::Message {
                from: on(DATA[0]),
                message: saga::Message::Compensated { txn, step },
            }
        }
        (input, _) => input,
    })
}

#[test]
fn mutants_of_the_saga_leave_the_spec() {
    let loss = Budget { losses: 1, ..NONE };
    type Mutant = (
        &'static str,
        i64,
        Budget,
        Inspector<saga::Node>,
        Meddler<saga::Node>,
    );
    let mutants: [Mutant; 5] = [
        (
            "a shard skips its flushes",
            0,
            CRASH,
            all,
            shards_skip_flushes,
        ),
        (
            "an orchestrator skips its flushes",
            0,
            CRASH,
            all,
            orchestrators_skip_flushes,
        ),
        ("a shard answers early", 0, NONE, all, answers_early),
        (
            "a refusal is taken for success",
            100,
            NONE,
            hears_no_refusal,
            honest,
        ),
        (
            "silence is taken for a compensation",
            100,
            loss,
            takes_silence_for_compensation,
            honest,
        ),
    ];
    for (name, at_least, budget, inputs, effects) in mutants {
        assert_refused(name, saga(at_least, budget, inputs, effects));
    }
}

/// A shard answers all steps as if they came after a pivot, which ignore marks.
fn ignores_marks(_: &saga::Node, input: InputOf<saga::Node>) -> Option<InputOf<saga::Node>> {
    Some(match input {
        Input::Message {
            from,
            message: saga::Message::Step(request),
        } => {
            let request = saga::StepRequest {
                retriable: true,
                ..Arc::unwrap_or_clone(request)
            };
            let message = saga::Message::Step(Arc::new(request));
            Input::Message { from, message }
        }
        input => input,
    })
}

/// An orchestrator has the rows of a step unmarked when it goes on to the next.
fn unmarks_early(node: &saga::Node, mut effects: EffectsOf<saga::Node>) -> EffectsOf<saga::Node> {
    let saga::Node::Coordinator(_) = node else {
        return effects;
    };
    let goes_on = effects.iter().any(|effect| match effect {
        Effect::Send {
            message: saga::Message::Step(request),
            ..
        } => request.txn == TXN && request.step > 0,
        _ => false,
    });
    if goes_on {
        effects.push(says(DATA[0], saga::Message::Confirm { txn: TXN }));
    }
    effects
}

/// A shard says that it has turned a step away while the record is on the way to the disk.
fn refuses_early(node: &saga::Node, mut effects: EffectsOf<saga::Node>) -> EffectsOf<saga::Node> {
    let met = |effect: &EffectOf<saga::Node>| {
        matches!(
            effect,
            Effect::Observe(Observation::Mark("saga.marked-row"))
        )
    };
    // The other transaction goes the other way.
    let other = TxnId(TXN.0 + 1);
    if let saga::Node::Shard(shard) = node
        && effects.iter().any(met)
        && shard.view(other, 1 - shard.shard().0).is_none()
    {
        effects.push(says(
            FRONT,
            saga::Message::Refused {
                txn: other,
                step: 1 - shard.shard().0,
                refusal: saga::Refusal::Busy,
            },
        ));
    }
    effects
}

/// An orchestrator takes a pivot that was turned away for done.
fn takes_turned_away_for_done(
    _: &saga::Node,
    input: InputOf<saga::Node>,
) -> Option<InputOf<saga::Node>> {
    let is_pivot = |step, refusal| step == 1 && refusal == saga::Refusal::Busy;
    refusal_as_done(is_pivot, input)
}

#[test]
fn mutants_of_semantic_locks_leave_the_spec() {
    use SemanticLocks::{Refuse, Wait};
    let back = [transfer(0), transfer_back()];
    let seen = [transfer(0), onlooker()];
    let checked = meeting(Wait, back.clone(), LATE, ignores_marks, honest);
    assert_refused("a step ignores marks", checked);
    let checked = meeting(Wait, seen, LATE, all, unmarks_early);
    assert_refused("rows are unmarked early", checked);
    let checked = meeting(Refuse, back.clone(), LATE, all, refuses_early);
    assert_refused("a refusal is not durable yet", checked);
    let checked = meeting(Refuse, back, LATE, takes_turned_away_for_done, honest);
    assert_refused("a pivot that was turned away is taken for done", checked);
}

// Simulated runs.

#[test]
fn stormy_runs_refine_their_specs() {
    let of_commits = [
        "AnswerInquiry",
        "CrashCoordinator",
        "GiveUp",
        "LearnAbort",
        "Lose",
        "RestartCoordinator",
    ];
    let transactions = refine::two_phase::Transactions::default;
    assert_storms_refine::<TwoPhase, _>(8, transactions, &of_commits);
    let of_sagas = ["AskUndo", "BackUp", "Compensate", "GiveUp"];
    assert_storms_refine::<Saga, _>(8, refine::saga::Sagas::default, &of_sagas);
}

#[test]
fn stormy_runs_of_sagas_with_semantic_locks_refine_the_spec_and_mutants_of_them_do_not() {
    let start = refine::saga::Sagas::default;
    for semantic_locks in [SemanticLocks::Wait, SemanticLocks::Refuse] {
        let options = saga::Options {
            semantic_locks,
            lock_wait_ms: Millis::new(100),
            ..saga::Options::default()
        };
        assert_storms_refine_with::<Saga, _>(&options, 8, start, &["Read", "Refuse", "BackUp"]);
        let breaks = |inputs: Inspector<_>, effects: Meddler<_>| {
            breaks_with::<Saga, _>(&options, 8, start, inputs, effects)
        };
        assert!(breaks(ignores_marks, honest), "{semantic_locks:?}");
        assert!(breaks(all, shards_skip_flushes), "{semantic_locks:?}");
    }
}

#[test]
fn stormy_runs_in_which_readers_leave_refine_the_spec_and_mutants_of_them_do_not() {
    let options = two_phase::Options {
        cooperative_termination: true,
        read_only_optimisation: true,
        ..two_phase::Options::default()
    };
    let start = refine::two_phase::Transactions::default;
    let of_readers = ["ReceiveRead", "TellAbort", "VoteRead"];
    assert_storms_refine_with::<TwoPhase, _>(&options, 8, start, &of_readers);
    let breaks = |inputs: Inspector<_>, effects: Meddler<_>| {
        breaks_with::<TwoPhase, _>(&options, 8, start, inputs, effects)
    };
    assert!(breaks(takes_a_no_for_a_read, honest));
    assert!(breaks(all, reads_without_locks));
}

#[test]
fn stormy_runs_with_heuristic_decisions_refine_the_spec_and_mutants_of_them_do_not() {
    let options = two_phase::Options {
        heuristic: two_phase::Heuristic::Abort,
        heuristic_after_ms: Millis::new(300),
        ..two_phase::Options::default()
    };
    let start = refine::two_phase::Transactions::default;
    assert_storms_refine_with::<TwoPhase, _>(&options, 8, start, &["HeuristicAbort"]);
    let breaks = |effects: Meddler<_>| breaks_with::<TwoPhase, _>(&options, 8, start, all, effects);
    assert!(breaks(acks_what_it_did_alone) && breaks(takes_back_its_vote));
}

#[test]
fn stormy_runs_of_mutants_leave_their_specs() {
    let transactions = refine::two_phase::Transactions::default;
    let sagas = refine::saga::Sagas::default;
    let breaks_2pc = |inputs: Inspector<_>, effects: Meddler<_>| {
        let options = two_phase::Options::default();
        breaks_with::<TwoPhase, _>(&options, 8, transactions, inputs, effects)
    };
    let breaks_saga = |inputs: Inspector<_>, effects: Meddler<_>| {
        let options = saga::Options::default();
        breaks_with::<Saga, _>(&options, 8, sagas, inputs, effects)
    };
    assert!(breaks_2pc(all, participants_skip_flushes));
    assert!(breaks_2pc(gives_up_in_doubt, honest));
    assert!(breaks_saga(all, shards_skip_flushes));
}
