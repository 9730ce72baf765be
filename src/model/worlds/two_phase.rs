//! Two-phase commit's code in small worlds, held against the spec of its transactions.

use super::stack::{self, Seen, Specified, Stack};
use super::world::Budget;
use super::{
    BAD_DISK, CRASH, CUT, DATA, DUPLICATE, FRONT, InSmallWorlds, LATE, LOSS, NONE, SmallWorld,
    transfer, withdrawal,
};
use crate::model::refine::two_phase::Transactions;
use crate::plan::PlannedOperation;
use crate::protocol::kit::client::ClientTimer;
use crate::protocol::two_phase::{Heuristic, Options, Timer, TwoPhase};

/// The client counts its requests: only a limit makes the graph finite.
fn timers(timer: &Timer) -> Option<u8> {
    match timer {
        Timer::Client(ClientTimer::Resend(_)) => Some(2),
        _ => None,
    }
}

fn code(options: Options, operation: PlannedOperation) -> Specified<TwoPhase, Transactions> {
    Specified {
        stack: Stack {
            seen: Seen {
                writes_once: options.read_only_optimisation,
                ..Seen::default()
            },
            options,
            operations: vec![operation],
            timers,
            safety: stack::safety,
            liveness: || vec![stack::ends(), stack::leaves_doubt()],
        },
        start: Transactions::default,
    }
}

#[rustfmt::skip]
impl InSmallWorlds for TwoPhase {
    fn worlds() -> Vec<SmallWorld> {
        let plain = |name, budget, about| {
            SmallWorld::new(name, code(Options::default(), transfer(0)), budget, about)
        };
        // With cooperative termination.
        let peers = |name, budget, about| {
            let options = Options { cooperative_termination: true, ..Options::default() };
            SmallWorld::new(name, code(options, transfer(0)), budget, about)
        };
        // With one participant that only reads, and leaves.
        let reader = |name, budget: Budget, about| {
            let options = Options { read_only_optimisation: true, ..Options::default() };
            SmallWorld::new(name, code(options, withdrawal()), budget, about)
        };
        // With participants in doubt that decide alone.
        let alone = |name, heuristic: Heuristic, budget, about| {
            let options = Options { heuristic, ..Options::default() };
            SmallWorld::new(name, code(options, transfer(0)), budget, about)
        };
        vec![
            plain("2pc", NONE, "Two-phase commit's code without faults."),
            plain("2pc-crash", CRASH, "One machine crashes at any moment, and comes back."),
            plain("2pc-blocks", CRASH, "The manager crashes and may stay down: participants stay in doubt.")
                .exposing(&[FRONT]).without_restarts().failing(&["leaves doubt", "ends"]),
            plain("2pc-loss", LOSS, "One message is lost."),
            plain("2pc-duplicate", DUPLICATE, "One message arrives twice."),
            plain("2pc-timeout", LATE, "One timer fires too early."),
            plain("2pc-cut", CUT, "Two machines are cut off from one another, and find one another again."),
            plain("2pc-disk", BAD_DISK, "One flush fails."),
            peers("2pc-peers", CRASH, "Participants in doubt ask one another; the manager or one of them crashes, and comes back.")
                .exposing(&[FRONT, DATA[0]]),
            peers("2pc-peers-block", CRASH, "The manager may stay down: where all have voted, asking one another does not help.")
                .exposing(&[FRONT]).without_restarts().failing(&["leaves doubt", "ends"]),
            reader("2pc-reader", NONE, "One participant only reads, and leaves after its vote."),
            reader("2pc-reader-crash", CRASH, "One machine crashes at any moment, and comes back."),
            reader("2pc-reader-loss", LOSS, "One message is lost: a reader that has left is asked again."),
            reader("2pc-reader-duplicate", DUPLICATE, "One message arrives twice."),
            alone("2pc-alone", Heuristic::Abort, LATE, "A participant in doubt loses patience too early and aborts alone, which may tear the transaction apart.")
                .failing(&["all or nothing", "what was acknowledged stands"]),
            alone("2pc-alone-released", Heuristic::Commit, CRASH, "The manager may stay down: who is in doubt commits alone, and nobody blocks.")
                .exposing(&[FRONT]).without_restarts().failing(&["all or nothing", "ends"]),
        ]
    }
}
