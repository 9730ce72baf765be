//! Refinement of Calvin: its code takes no step that its spec does not allow, in every schedule of small worlds and in
//! simulated runs; and code that executes out of log order, skips a position, reads ahead, makes reads up, or answers early
//! or wrongly is caught.

use std::sync::Arc;

use ordain::base::observation::Outcome;
use ordain::base::process::{Addr, Effect, Input, NodeId};
use ordain::base::txn::{Key, Read, Row, ShardId, TableId, TxnId, Value};
use ordain::model::refine::calvin::Executions;
use ordain::model::refine::{self, Checked, Tally};
use ordain::model::worlds::calvin::timer_limit;
use ordain::model::worlds::world::Budget;
use ordain::model::worlds::{
    BAD_DISK, CLIENT, DATA, DUPLICATE, FRONT, LATE, LOSS, NONE, TORN, TXN, transfer,
};
use ordain::plan::{PlannedOperation, Start};
use ordain::protocol::calvin::messages::{Batch, Before, Push};
use ordain::protocol::calvin::shard::Turn;
use ordain::protocol::calvin::{Calvin, Message, Node, Options, Timer};
use ordain::protocol::kit::client::ClientMessage;

use crate::interferer::*;

const SECOND: TxnId = TxnId(2);

/// Two transfers that touch the same rows; the second starts when the client has heard of the first.
fn in_turn() -> [PlannedOperation; 2] {
    let mut second = transfer(0);
    second.txn.id = SECOND;
    second.start = Start::Think(0);
    [transfer(0), second]
}

/// Two transfers that touch the same rows and start at once.
fn at_once() -> [PlannedOperation; 2] {
    let [first, mut second] = in_turn();
    (second.session, second.start) = (1, first.start);
    [first, second]
}

fn check(
    start: Executions,
    operations: &[PlannedOperation],
    budget: Budget,
    inputs: Inspector<Node>,
    effects: Meddler<Node>,
) -> Checked {
    let options = Options::default();
    let host = world::<Calvin, _>(&options, start, operations, budget, inputs, effects)
        .expose([FRONT, DATA[0]])
        .limit_timers(|_, timer| timer_limit(timer, 1));
    refine::check_edges(&host, LIMIT).expect("small")
}

fn one(budget: Budget, inputs: Inspector<Node>, effects: Meddler<Node>) -> Checked {
    let each = Executions::sampled(1);
    check(each, &[transfer(0)], budget, inputs, effects)
}

fn two(
    operations: [PlannedOperation; 2],
    start: Executions,
    inputs: Inspector<Node>,
    effects: Meddler<Node>,
) -> Checked {
    check(start, &operations, NONE, inputs, effects)
}

fn together() -> Executions {
    Executions::together(vec![TXN, SECOND])
}

#[test]
fn every_edge_of_calvin_is_allowed_by_its_spec() {
    let mut tally = Tally::default();
    for budget in [NONE, LATE, DUPLICATE] {
        let checked = one(budget, all, honest);
        assert_refines(&checked, &mut tally, &format!("{budget:?}"));
    }
    for start in [Executions::sampled(1), together()] {
        let checked = two(in_turn(), start.clone(), all, honest);
        assert_refines(&checked, &mut tally, "in turn");
        let checked = two(at_once(), start, all, honest);
        assert_refines(&checked, &mut tally, "at once");
    }
    let actions = [
        "Submit",
        "Sequence",
        "Deliver",
        "ReadActive",
        "SendRead",
        "ReceiveRead",
        "Execute",
    ];
    assert_taken(&tally, &actions);
}

#[test]
fn every_edge_of_calvin_is_allowed_by_its_spec_though_the_sequencers_disk_fails_or_it_restarts() {
    let mut tally = Tally::default();
    for budget in [BAD_DISK, TORN] {
        let checked = sequencer(Executions::sampled(1), budget, all, honest);
        assert_refines(&checked, &mut tally, &format!("{budget:?}"));
    }
    assert_taken(&tally, &["Sequence", "Deliver", "Execute"]);
}

// Mutants.

fn process_on(node: NodeId) -> Addr {
    Addr { node, port: 0 }
}

/// The row that a shard starts with, and where it is.
fn initial(shard: ShardId) -> Read {
    Read {
        key: Key {
            table: TableId(shard.0 as u8),
            row: 0,
        },
        row: Row::initial(Value::Int(10)),
    }
}

fn first_push(from: ShardId) -> Message {
    Message::Push(Arc::new(Push {
        position: 1,
        from,
        rows: vec![initial(from)],
        before: Before::Unended,
    }))
}

/// What the first transfer answers.
fn right_answer() -> Message {
    let reads = vec![initial(ShardId(0)), initial(ShardId(1))];
    Message::Client(ClientMessage::Reply {
        txn: TXN,
        outcome: Outcome::Committed { reads },
    })
}

/// A shard answers, and rightly, while it still gathers.
fn answers_while_it_gathers(node: &Node, mut effects: EffectsOf<Node>) -> EffectsOf<Node> {
    if let Node::Shard(shard) = node
        && shard.shard() == ShardId(0)
        && shard.turn(1) == Turn::Gathers
    {
        effects.push(Effect::Send {
            to: process_on(CLIENT),
            message: right_answer(),
        });
    }
    effects
}

/// A shard pushes its reads as soon as another one has, before the log has come to it.
fn reads_ahead(node: &Node, mut effects: EffectsOf<Node>) -> EffectsOf<Node> {
    if let Node::Shard(shard) = node
        && shard.turn(1) == Turn::NotYet
        && shard.pushes_for(1).next().is_some()
    {
        effects.push(Effect::Send {
            to: process_on(DATA[1 - usize::from(shard.shard().0)]),
            message: first_push(shard.shard()),
        });
    }
    effects
}

/// A shard that has waited long enough makes up what the other one would have pushed.
fn makes_reads_up(node: &Node, input: InputOf<Node>) -> Option<InputOf<Node>> {
    let Node::Shard(shard) = node else {
        return Some(input);
    };
    Some(match input {
        Input::Timer(Timer::Gathering) => {
            let other = ShardId(1 - shard.shard().0);
            Input::Message {
                from: process_on(DATA[usize::from(other.0)]),
                message: first_push(other),
            }
        }
        input => input,
    })
}

/// A shard says that the transaction's guard did not hold.
fn answers_wrongly(_: &Node, effects: EffectsOf<Node>) -> EffectsOf<Node> {
    let lie = |effect| match effect {
        Effect::Send {
            to,
            message: Message::Client(ClientMessage::Reply { txn, .. }),
        } => {
            let outcome = Outcome::Declined { guard: 0 };
            let message = Message::Client(ClientMessage::Reply { txn, outcome });
            Effect::Send { to, message }
        }
        effect => effect,
    };
    effects.into_iter().map(lie).collect()
}

/// What shards push is as old as the scenario, whatever was written since.
fn pushes_stale_reads(_: &Node, effects: EffectsOf<Node>) -> EffectsOf<Node> {
    let stale = |effect| match effect {
        Effect::Send {
            to,
            message: Message::Push(push),
        } if push.position == 2 => {
            let rows = vec![initial(push.from)];
            let push = Arc::new(Push {
                rows,
                ..Push::clone(&push)
            });
            let message = Message::Push(push);
            Effect::Send { to, message }
        }
        effect => effect,
    };
    effects.into_iter().map(stale).collect()
}

type Feed = Vec<(u64, Arc<Batch>)>;

/// What a shard hears of the log, changed.
fn fed(node: &Node, input: InputOf<Node>, change: fn(Feed) -> Feed) -> Option<InputOf<Node>> {
    Some(match (node, input) {
        (
            Node::Shard(_),
            Input::Message {
                from,
                message: Message::Feed { batches, floor },
            },
        ) => Input::Message {
            from,
            message: Message::Feed {
                batches: change(batches),
                floor,
            },
        },
        (_, input) => input,
    })
}

/// A shard takes the second transaction for the first in the log.
fn skips_a_position(node: &Node, input: InputOf<Node>) -> Option<InputOf<Node>> {
    fed(node, input, |mut batches| {
        for (first, batch) in &mut batches {
            match *first {
                1 => drop(Arc::make_mut(batch).entries.remove(0)),
                _ => *first -= 1,
            }
        }
        batches
    })
}

/// A shard executes what it hears of at once in the wrong order.
fn turns_the_log_around(node: &Node, input: InputOf<Node>) -> Option<InputOf<Node>> {
    fed(node, input, |mut batches| {
        for (_, batch) in &mut batches {
            Arc::make_mut(batch).entries.reverse();
        }
        if let [(_, one), (_, two)] = batches.as_mut_slice() {
            std::mem::swap(one, two);
        }
        batches
    })
}

#[test]
fn mutants_of_calvin_leave_the_spec() {
    type Mutant = (&'static str, Budget, Inspector<Node>, Meddler<Node>);
    let mutants: [Mutant; 4] = [
        (
            "an answer leaves early",
            NONE,
            all,
            answers_while_it_gathers,
        ),
        ("reads are pushed ahead of the log", NONE, all, reads_ahead),
        ("a remote read is made up", LATE, makes_reads_up, honest),
        ("the answer is wrong", NONE, all, answers_wrongly),
    ];
    for (name, budget, inputs, effects) in mutants {
        assert_refused(name, one(budget, inputs, effects));
    }
}

#[test]
fn mutants_that_leave_the_log_leave_the_spec_transaction_by_transaction_and_together() {
    type Mutant = (
        &'static str,
        [PlannedOperation; 2],
        Inspector<Node>,
        Meddler<Node>,
    );
    let mutants: [Mutant; 3] = [
        ("a position is skipped", at_once(), skips_a_position, honest),
        (
            "the log is turned around",
            at_once(),
            turns_the_log_around,
            honest,
        ),
        ("reads are stale", in_turn(), all, pushes_stale_reads),
    ];
    for (name, operations, inputs, effects) in mutants {
        for start in [Executions::sampled(1), together()] {
            let checked = two(operations.clone(), start, inputs, effects);
            assert_refused(name, checked);
        }
    }
}

// Near misses.

/// Pushes and answers leave twice.
fn says_everything_twice(_: &Node, effects: EffectsOf<Node>) -> EffectsOf<Node> {
    let twice = |effect: EffectOf<Node>| match &effect {
        Effect::Send {
            message: Message::Push(_) | Message::Client(ClientMessage::Reply { .. }),
            ..
        } => vec![effect.clone(), effect],
        _ => vec![effect],
    };
    effects.into_iter().flat_map(twice).collect()
}

/// Answers are never sent: a liveness bug, and no step that the spec forbids.
fn never_answers(_: &Node, effects: EffectsOf<Node>) -> EffectsOf<Node> {
    let kept = effects.into_iter().filter(|effect| {
        !matches!(
            effect,
            Effect::Send {
                message: Message::Client(ClientMessage::Reply { .. }),
                ..
            }
        )
    });
    kept.collect()
}

fn shards_skip_flushes(node: &Node, effects: EffectsOf<Node>) -> EffectsOf<Node> {
    match node {
        Node::Shard(_) => unflushed(effects),
        _ => effects,
    }
}

#[test]
fn near_misses_of_calvin_keep_to_the_spec() {
    let mut tally = Tally::default();
    let near: [(&str, Budget, Meddler<Node>); 3] = [
        ("everything is said twice", NONE, says_everything_twice),
        ("nobody is answered", NONE, never_answers),
        ("a message is lost", LOSS, honest),
    ];
    for (name, budget, effects) in near {
        assert_refines(&one(budget, all, effects), &mut tally, name);
    }
}

// Simulated runs.

#[test]
fn stormy_runs_refine_their_spec() {
    let actions = [
        "CrashShard",
        "ReadLocal",
        "RestartShard",
        "SequenceAgain",
        "Skip",
    ];
    assert_storms_refine::<Calvin, _>(6, || Executions::sampled(1), &actions);
}

/// Nothing is forced while transactions execute: what a crash takes is executed again.
#[test]
fn a_shard_that_never_makes_a_checkpoint_durable_keeps_to_the_spec() {
    let each = Executions::sampled(1);
    let (tally, broken) = simulated::<Calvin, _>(1, each, all, shards_skip_flushes);
    assert!(tally.moves > 0 && broken.is_empty(), "{broken:#?}");
}

#[test]
fn stormy_runs_of_mutants_leave_their_spec() {
    let breaks = |inputs: Inspector<Node>, effects: Meddler<Node>| {
        let (options, each) = (Options::default(), || Executions::sampled(1));
        breaks_with::<Calvin, _>(&options, 4, each, inputs, effects)
    };
    assert!(breaks(turns_the_log_around, honest));
    assert!(breaks(all, answers_wrongly));
    assert!(breaks(all, forgets_writers));
}

/// What shards push is as if nobody had ever written it.
fn forgets_writers(_: &Node, effects: EffectsOf<Node>) -> EffectsOf<Node> {
    let forget = |effect| match effect {
        Effect::Send {
            to,
            message: Message::Push(push),
        } => {
            let mut push = Push::clone(&push);
            for read in &mut push.rows {
                read.row = Row::initial(read.row.value.clone());
            }
            let message = Message::Push(Arc::new(push));
            Effect::Send { to, message }
        }
        effect => effect,
    };
    effects.into_iter().map(forget).collect()
}
