//! The saga's code in small worlds, held against the spec of its transactions.

use super::stack::{self, Seen, Specified, Stack};
use super::world::Budget;
use super::{
    BAD_DISK, CRASH, CUT, DATA, DUPLICATE, FRONT, InSmallWorlds, LATE, LOSS, NONE, SmallWorld,
    onlooker, transfer, transfer_back,
};
use crate::model::refine::saga::Sagas;
use crate::plan::PlannedOperation;
use crate::protocol::kit::client::ClientTimer;
use crate::protocol::saga::{Options, Saga, SemanticLocks, Timer};

/// A timer that fires too early, which lets a second client in, and a message that arrives twice.
const LATE_DUPLICATE: Budget = Budget {
    duplicates: 1,
    ..LATE
};

fn timers(timer: &Timer) -> Option<u8> {
    match timer {
        Timer::Client(ClientTimer::Resend(_)) => Some(2),
        _ => None,
    }
}

fn code(
    semantic_locks: SemanticLocks,
    operations: Vec<PlannedOperation>,
) -> Specified<Saga, Sagas> {
    Specified {
        stack: Stack {
            options: Options {
                semantic_locks,
                ..Options::default()
            },
            operations,
            timers,
            seen: Seen::default(),
            safety: stack::safety,
            liveness: || vec![stack::ends()],
        },
        start: Sagas::default,
    }
}

#[rustfmt::skip]
impl InSmallWorlds for Saga {
    fn worlds() -> Vec<SmallWorld> {
        let alone = |name, at_least, budget, about| {
            SmallWorld::new(name, code(SemanticLocks::None, vec![transfer(at_least)]), budget, about)
        };
        // With semantic locks and another client's transaction.
        let meeting = |name, locks, at_least, other, budget, about| {
            SmallWorld::new(name, code(locks, vec![transfer(at_least), other]), budget, about)
        };
        let (refuse, wait) = (SemanticLocks::Refuse, SemanticLocks::Wait);
        vec![
            alone("saga", 0, NONE, "The saga's code without faults."),
            alone("saga-crash", 0, CRASH, "One machine crashes at any moment, and comes back."),
            alone("saga-orphan", 0, CRASH, "The orchestrator crashes and may stay down: the saga is an orphan.")
                .exposing(&[FRONT]).without_restarts().failing(&["ends"]),
            alone("saga-loss", 0, LOSS, "One message is lost."),
            alone("saga-duplicate", 0, DUPLICATE, "One message arrives twice."),
            alone("saga-timeout", 0, LATE, "One timer fires too early."),
            alone("saga-cut", 0, CUT, "Two machines are cut off from one another, and find one another again."),
            alone("saga-disk", 0, BAD_DISK, "One flush fails."),
            alone("saga-refused", 100, CRASH, "The pivot is refused, and one machine crashes: the way back.")
                .failing(&["commits"]),
            meeting("saga-meet", refuse, 0, transfer_back(), LATE, "Two sagas with semantic locks meet: who finds a marked row goes back."),
            meeting("saga-meet-duplicate", refuse, 0, transfer_back(), LATE_DUPLICATE, "One message arrives twice: what was turned away is not taken later.")
                .exposing(&[FRONT, DATA[1]]),
            meeting("saga-wait", wait, 0, transfer_back(), LATE, "Who finds a marked row waits, in a circle if both do, until patience ends."),
            meeting("saga-seen", wait, 0, onlooker(), LATE, "A reader waits for the end of the saga whose effect it meets."),
            meeting("saga-unseen", wait, 100, onlooker(), LATE, "The pivot is refused: nobody sees what is undone.")
                .failing(&["commits"]),
        ]
    }
}
