//! The world itself, with a process small enough to know every state: a server that makes requests durable before it
//! acknowledges them, and a client that repeats itself until it is acknowledged.

use super::*;
use crate::model::checker::leads_to::Report;

const CLIENT: Addr = Addr {
    node: NodeId(0),
    port: 0,
};
const SERVER: Addr = Addr {
    node: NodeId(1),
    port: 0,
};
const FILE: FileId = FileId(0);
const REQUEST: u64 = 1;
const ACK: u64 = 2;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Role {
    Client { acked: bool },
    Server { durable: bool, hasty: bool },
}

fn flush() -> FlushId {
    FlushId {
        owner: 0,
        sequence: 0,
    }
}

impl Process for Role {
    type Message = u64;
    type Timer = ();

    fn step(&mut self, _: WallTime, input: Input<u64, ()>, out: &mut Effects<u64, ()>) {
        match (self, input) {
            (Role::Client { .. }, Input::Boot(_)) => {
                out.send(SERVER, REQUEST);
                out.set_timer((), crate::base::process::Delay::exactly(1));
            }
            (Role::Client { acked: false }, Input::Timer(())) => {
                out.send(SERVER, REQUEST);
                out.set_timer((), crate::base::process::Delay::exactly(1));
            }
            (Role::Client { acked }, Input::Message { .. }) => {
                *acked = true;
                out.cancel_timer(());
                out.observe(Observation::Mark("acked"));
            }
            (Role::Server { durable, .. }, Input::Boot(disk)) => {
                *durable = !disk.file(FILE).is_empty()
            }
            (Role::Server { durable: true, .. }, Input::Message { .. }) => out.send(CLIENT, ACK),
            (Role::Server { hasty, .. }, Input::Message { .. }) => {
                out.append(FILE, vec![1]);
                out.flush(flush());
                if *hasty {
                    out.send(CLIENT, ACK);
                }
            }
            (Role::Server { durable, .. }, Input::Flushed(_)) => {
                *durable = true;
                out.send(CLIENT, ACK);
            }
            (Role::Server { .. }, Input::FlushFailed(_)) => out.halt("the disk is gone"),
            _ => {}
        }
    }
}

type Toy = Host<Role, bool>;

/// The monitor remembers whether the client was acknowledged.
fn toy(hasty: bool, budget: Budget) -> Toy {
    let processes = vec![
        vec![Role::Client { acked: false }],
        vec![Role::Server {
            durable: false,
            hasty,
        }],
    ];
    Host::new(processes, budget, false, |acked, _, observation| {
        *acked |= *observation == Observation::Mark("acked")
    })
}

fn on_disk(world: &World<Role, bool>) -> bool {
    !world.hosted(SERVER).durable.file(FILE).is_empty()
}

fn check(toy: &Toy, restarts: bool) -> Report<World<Role, bool>, Action<()>> {
    toy.fair(restarts, 100_000)
        .unwrap()
        .always("durable", |world| !world.seen || on_disk(world))
        .leads_to("acknowledged", |world| !world.seen, |world| world.seen)
        .check()
        .unwrap()
}

const EVERYTHING: Budget = Budget {
    crashes: 1,
    losses: 1,
    duplicates: 1,
    early_timeouts: 1,
    cuts: 1,
    failed_flushes: 1,
    torn_writes: 0,
};

#[test]
fn a_server_that_flushes_first_is_durable_and_answers_under_every_fault() {
    let report = check(
        &toy(false, EVERYTHING).expose([SERVER.node, CLIENT.node]),
        true,
    );
    assert!(report.verdicts[0].holds);
    // The client may be the one that crashes: it repeats its request when it is back.
    assert!(
        report.verdicts[1].holds,
        "{}",
        report.verdicts[1].counterexample.as_ref().unwrap()
    );
    assert!(report.counts.distinct > 500, "{:?}", report.counts);
}

#[test]
fn a_server_that_answers_before_the_flush_is_caught_by_one_crash() {
    let crash = Budget {
        crashes: 1,
        ..Budget::default()
    };
    let report = check(&toy(true, crash), true);
    let found = report.verdicts[0]
        .counterexample
        .as_ref()
        .expect("an acknowledged write is lost");
    let names = found.names();
    assert!(names.contains(&"deliver number n1:0->n0:0"), "{names:?}");
    assert!(check(&toy(false, crash), true).verdicts[0].holds);
}

#[test]
fn a_server_that_stays_down_blocks_its_client() {
    let crash = Budget {
        crashes: 1,
        ..Budget::default()
    };
    let report = check(&toy(false, crash).expose([SERVER.node]), false);
    let lasso = report.verdicts[1]
        .counterexample
        .as_ref()
        .expect("the client waits for ever");
    assert!(lasso.names().contains(&"crash n1"), "{lasso}");
    assert!(lasso.cycle.is_some());
    assert!(check(&toy(false, crash).expose([SERVER.node]), true).verdicts[1].holds);
}

#[test]
fn a_crash_explores_both_fates_of_what_was_not_flushed() {
    let crash = Budget {
        crashes: 1,
        ..Budget::default()
    };
    let model = toy(false, crash).expose([SERVER.node]);
    let report = FairChecker::new(&model)
        .sometimes("lost", |world| !world.is_up(SERVER.node) && !on_disk(world))
        .sometimes("kept", |world| {
            !world.is_up(SERVER.node) && on_disk(world) && !world.seen
        })
        .check()
        .unwrap();
    assert!(report.verdicts.iter().all(|verdict| verdict.holds));
}

#[test]
fn nothing_crosses_a_cut_and_everything_waits_for_it_to_heal() {
    let cut = Budget {
        cuts: 1,
        ..Budget::default()
    };
    let model = toy(false, cut);
    let arrives = |action: &Action<()>| matches!(action, Action::Deliver { .. });
    let report = FairChecker::new(&model)
        .always_step("no delivery", |before, action, _| {
            !(arrives(action) && before.is_cut(CLIENT.node, SERVER.node))
        })
        .sometimes("waits", |world| {
            world.is_cut(CLIENT.node, SERVER.node) && world.packets().count() > 0
        })
        .check()
        .unwrap();
    assert!(report.verdicts.iter().all(|verdict| verdict.holds));
    assert!(check(&model, false).verdicts[1].holds);
}

#[test]
fn timers_wait_until_nothing_else_can_happen_unless_they_are_on_the_budget() {
    let quiet = |early_timeouts| {
        let model = toy(
            false,
            Budget {
                early_timeouts,
                losses: 1,
                ..Budget::default()
            },
        );
        let fires = |action: &Action<()>| matches!(action, Action::Timeout { .. });
        let report = FairChecker::new(&model)
            .always_step("patient", move |before, action, _| {
                !(fires(action) && before.is_busy())
            })
            .check();
        report.unwrap().verdicts[0].holds
    };
    assert!(quiet(0));
    assert!(!quiet(1));
}

#[test]
fn a_limited_timer_fires_so_often_and_no_more() {
    let loss = Budget {
        losses: 2,
        ..Budget::default()
    };
    let often = |times: u8| {
        let host = toy(false, loss).limit_timers(move |_, _| Some(times));
        check(&host, false).verdicts[1].holds
    };
    assert!(often(2));
    assert!(!often(1), "two losses need two repetitions");
}
