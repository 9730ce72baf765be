//! Three-phase commit's code in small worlds, held against the spec of its transactions.

use super::stack::{self, Seen, Specified, Stack, standing};
use super::world::World;
use super::{
    BAD_DISK, CRASH, CUT, DATA, DUPLICATE, FRONT, InSmallWorlds, LATE, LOSS, NONE, SmallWorld,
    transfer,
};
use crate::base::options::Millis;
use crate::model::explorer::Asked;
use crate::model::refine::three_phase::Transactions;
use crate::protocol::kit::client::ClientTimer;
use crate::protocol::three_phase::{Node, Options, Termination, ThreePhase, Timer};

/// The client counts its requests: only a limit makes the graph finite.
fn timers(timer: &Timer) -> Option<u8> {
    match timer {
        Timer::Client(ClientTimer::Resend(_)) => Some(2),
        _ => None,
    }
}

/// Nobody waits for everybody: a transaction has ended for its client before each participant has heard. So effects are looked at
/// when nobody is in doubt.
fn safety() -> Asked<Node, Seen> {
    fn whole(world: &World<Node, Seen>, least: usize) -> bool {
        let is_whole = |standing: usize| standing == DATA.len() || standing == least;
        let standing = standing(world);
        !world.seen.in_doubt.is_empty() || standing.is_none_or(|shards| is_whole(shards.len()))
    }
    let usual = stack::safety::<Node>();
    let mut asked = Asked {
        always: vec![
            ("all or nothing", |world| whole(world, 0)),
            ("what was acknowledged stands", |world| {
                !world.seen.told_committed || whole(world, DATA.len())
            }),
        ],
        ..usual
    };
    let decisions = ["one decision", "decided alike"];
    let usual = stack::safety::<Node>().always.into_iter();
    let usual = usual.filter(|(name, _)| decisions.contains(name));
    asked.always.splice(0..0, usual);
    asked
}

/// Who leaves two questions in a row unanswered is taken for crashed.
fn code(termination: Termination) -> Specified<ThreePhase, Transactions> {
    let pause = Millis::new(250);
    Specified {
        stack: Stack {
            seen: Seen::default(),
            options: Options {
                termination,
                silence_ms: pause,
                inquiry_ms: pause,
                resend_ms: pause,
                ..Options::default()
            },
            operations: vec![transfer(0)],
            timers,
            safety,
            liveness: || vec![stack::ends(), stack::leaves_doubt()],
        },
        start: Transactions::default,
    }
}

#[rustfmt::skip]
impl InSmallWorlds for ThreePhase {
    fn worlds() -> Vec<SmallWorld> {
        let elected = |name, budget, about| {
            SmallWorld::new(name, code(Termination::Elected), budget, about)
        };
        let alone = |name, budget, about| {
            SmallWorld::new(name, code(Termination::OwnTimeout), budget, about)
        };
        vec![
            elected("3pc", NONE, "Three-phase commit's code without faults."),
            elected("3pc-coordinator-down", CRASH, "The coordinator crashes at any moment and may stay down: nobody stays in doubt.")
                .exposing(&[FRONT]).without_restarts(),
            elected("3pc-crash", CRASH, "One participant crashes at any moment, and comes back.")
                .exposing(&[DATA[0]]),
            elected("3pc-loss", LOSS, "One message is lost."),
            elected("3pc-duplicate", DUPLICATE, "One message arrives twice."),
            elected("3pc-timeout", LATE, "One timer fires too early."),
            elected("3pc-disk", BAD_DISK, "One flush fails."),
            elected("3pc-cut", CUT, "Two machines are cut off from one another, and the third one reaches both: that does not split them."),
            alone("3pc-own-timeout", CRASH, "Each participant decides by its own timeout: one crash of the coordinator tears the transaction apart.")
                .exposing(&[FRONT]).without_restarts().failing(&["one decision", "all or nothing"]),
        ]
    }
}
