//! Runs leave nothing behind, and long ones need no more memory than short ones.
//!
//! One test for each process that the test runner starts: memory is measured for the whole process.

mod support;

use std::sync::Arc;

use ordain::base::process::{Delay, Effects, Input, NodeId, Process, WallTime};
use ordain::fault::{CrashLoss, FaultKind};
use ordain::protocol::Deployment;
use ordain::sim::{Guest, GuestSocket, Run, simulate};
use support::*;

/// Sends a number back and forth, sets and cancels timers, and holds a token that tells whether it lives.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Player {
    first: bool,
    token: Arc<()>,
}

impl Process for Player {
    type Message = u64;
    type Timer = u8;

    fn step(&mut self, _: WallTime, input: Input<u64, u8>, out: &mut Effects<u64, u8>) {
        let peer = addr(if self.first { 1 } else { 0 });
        match input {
            Input::Boot(_) if self.first => out.send(peer, 0),
            Input::Message { message, .. } => {
                out.send(peer, message + 1);
                out.set_timer(1, Delay::between(100 * SECOND, 200 * SECOND));
                out.cancel_timer(2);
                out.set_timer(2, Delay::exactly(100 * SECOND));
            }
            _ => {}
        }
    }
}

fn players(token: &Arc<()>) -> Deployment<Player> {
    let player = |first| {
        vec![Player {
            first,
            token: Arc::clone(token),
        }]
    };
    Deployment {
        processes: vec![player(true), player(false)],
    }
}

/// Resident memory of this process, in bytes.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn memory_is_flat_in_simulated_time_and_nothing_outlives_a_run() {
    let token = Arc::new(());
    let play = |seconds: u64| {
        let mut environment = world(3);
        environment.safety_ns = seconds * SECOND;
        environment.settle_ns = 0;
        let mut run = Run::new(&environment, players(&token), 1);
        let held = Arc::clone(&token);
        run.guests
            .push(Guest::new(NodeId(2), move |socket: GuestSocket<Player>| {
                let held = Arc::clone(&held);
                async move {
                    madsim::task::spawn(async move {
                        let _held = held;
                        std::future::pending::<()>().await;
                    });
                    socket.recv().await;
                }
            }));
        let crash = FaultKind::Crash {
            nodes: nodes(&[1, 2]),
            loss: CrashLoss::Lost,
        };
        let faults = [fault(500, 1, crash)];
        run.faults = &faults;
        let record = simulate(run).unwrap();
        assert!(record.events > 300, "{}", record.events);
        record.events
    };
    play(1);
    assert_eq!(
        Arc::strong_count(&token),
        1,
        "a task or a process outlived its run"
    );

    let long = |seconds: u64| {
        let mut environment = world(2);
        environment.safety_ns = seconds * SECOND;
        environment.settle_ns = 0;
        simulate(Run::new(&environment, players(&token), 1))
            .unwrap()
            .events
    };
    long(20);
    let before = resident_bytes();
    assert!(long(400) > 390_000);
    let grown = resident_bytes().saturating_sub(before);
    assert!(
        grown < 2 << 20,
        "twenty times the simulated time took {grown} bytes more"
    );
    assert_eq!(Arc::strong_count(&token), 1);
}
