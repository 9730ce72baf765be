//! Calvin's code, with one sequencer, in small worlds, held against the spec of its execution.

use super::stack::{self, LeadsTo, Seen, Specified, Stack, standing};
use super::{
    BAD_DISK, CRASH, CUT, DATA, DUPLICATE, FRONT, InSmallWorlds, LATE, LOSS, NONE, SmallWorld,
    TORN, transfer,
};
use crate::consensus::{LogTimer, ReplicaTimer};
use crate::model::explorer::Asked;
use crate::model::refine::calvin::Executions;
use crate::protocol::Autopsy;
use crate::protocol::calvin::{Calvin, Options, Timer};
use crate::protocol::kit::client::ClientTimer;

/// How often a timer of Calvin may fire. Most drive counters: they fire once, that for an election so often. One sequencer is its
/// own majority, and has nobody to send heartbeats to.
pub fn timer_limit(timer: &Timer, elections: u8) -> Option<u8> {
    match timer {
        Timer::Log {
            timer: LogTimer::Raft(ReplicaTimer::Heartbeat),
            ..
        } => Some(0),
        Timer::Log {
            timer: LogTimer::Raft(ReplicaTimer::Election),
            ..
        } => Some(elections),
        Timer::Client(ClientTimer::Start(_)) => None,
        _ => Some(1),
    }
}

/// The properties of every state of Calvin's worlds. Each shard ends a transaction at its own time.
fn safety<P: Autopsy>() -> Asked<P, Seen> {
    Asked {
        always: vec![("executed once", |world| {
            let mut states = world.processes().filter_map(|(_, p)| p.autopsy());
            states.all(|state| state.ledger.len() <= 1)
        })],
        sometimes: vec![("commits", |world| world.seen.told_committed)],
    }
}

/// What was acknowledged is done by every shard.
fn done_everywhere<P: Autopsy>() -> LeadsTo<P> {
    (
        "what was acknowledged is done everywhere",
        |world| world.seen.told_committed,
        |world| standing(world).is_some_and(|shards| shards.len() == DATA.len()),
    )
}

fn code(timers: fn(&Timer) -> Option<u8>) -> Specified<Calvin, Executions> {
    Specified {
        stack: Stack {
            options: Options::default(),
            operations: vec![transfer(0)],
            timers,
            seen: Seen::default(),
            safety,
            liveness: || vec![stack::ends(), done_everywhere()],
        },
        start: || Executions::sampled(1),
    }
}

#[rustfmt::skip]
impl InSmallWorlds for Calvin {
    fn worlds() -> Vec<SmallWorld> {
        let elected_once = |name, budget, about| {
            SmallWorld::new(name, code(|timer| timer_limit(timer, 1)), budget, about)
        };
        let elected_twice = |name, budget, about| {
            SmallWorld::new(name, code(|timer| timer_limit(timer, 2)), budget, about)
        };
        vec![
            elected_once("calvin", NONE, "Calvin's code, with one sequencer, without faults."),
            elected_once("calvin-duplicate", DUPLICATE, "One message arrives twice."),
            elected_once("calvin-timeout", LATE, "One timer fires too early."),
            elected_once("calvin-cut", CUT, "A shard is cut off from the sequencer, and finds it again.")
                .exposing(&[FRONT, DATA[0]]),
            elected_once("calvin-loss", LOSS, "One message is lost: safety only.").safety_only(),
            elected_once("calvin-crash", CRASH, "A shard crashes and replays the log: safety only.")
                .exposing(&[DATA[0]]).safety_only(),
            elected_once("calvin-disk", BAD_DISK, "One flush fails: safety only.").safety_only(),
            elected_twice("calvin-sequencer", TORN, "The sequencer crashes, which may tear its log, and reads it again: safety only.")
                .exposing(&[FRONT]).safety_only(),
        ]
    }
}
