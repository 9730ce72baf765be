//! The protocol code that the simulator runs, under every schedule of small worlds: one transaction over two shards, one
//! machine for each shard, one for the coordinator, one for the client.
//!
//! Atomicity is read off the shards' ledgers, from outside; ends and promises come from what processes observe. A mutant
//! whose disk lies (flushes complete without making anything durable) has to be caught.

use std::collections::{BTreeMap, BTreeSet};

use ordain::client::{ClientTimer, Start};
use ordain::model::host::{Action, Budget, Host, TimerLimit, World};
use ordain::model::leads_to::Report;
use ordain::plan::PlannedOperation;
use ordain::process::{Addr, Effect, Effects, Input, NodeId, Process, WallTime};
use ordain::protocol::saga::{self, Saga};
use ordain::protocol::two_phase::{self, TwoPhase};
use ordain::protocol::{Autopsy, Protocol, ShardState};
use ordain::record::{Observation, Outcome};
use ordain::scenario::layout::{EngineKind, Layout, Region, Shard, ShardId, Table};
use ordain::txn::{Key, Op, TableId, Target, Txn, TxnId, Value};

const FRONT: NodeId = NodeId(0);
const CLIENT: NodeId = NodeId(3);
const TXN: TxnId = TxnId(1);

fn layout() -> Layout {
    let table = |at: u16| Table {
        name: format!("t{at}"),
        engine: EngineKind::Postgres,
        shards: vec![ShardId(at)],
        rows: 1,
        initial: Value::Int(10),
    };
    let shard = |at: u8| Shard {
        table: TableId(at),
        engine: EngineKind::Postgres,
        home: 0,
    };
    Layout {
        regions: vec![Region {
            name: "here".into(),
            cloud: "a".into(),
            fronts: vec![FRONT],
            data: vec![NodeId(1), NodeId(2)],
            client: CLIENT,
        }],
        tables: vec![table(0), table(1)],
        shards: vec![shard(0), shard(1)],
        nodes: 4,
    }
}

/// Moves 5 from the first shard to the second.
fn transfer() -> PlannedOperation {
    let effect = |table, amount| ordain::txn::Effect {
        target: Target::Key(Key {
            table: TableId(table),
            row: 0,
        }),
        op: Op::Add(amount),
    };
    let effects = vec![effect(0, -5), effect(1, 5)];
    let txn = Txn {
        id: TXN,
        reads: vec![],
        guards: vec![],
        effects,
        pivot: None,
    };
    PlannedOperation {
        region: 0,
        session: 0,
        start: Start::At(0),
        txn,
    }
}

/// A process on a disk that says "flushed" at once, and keeps nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct OnDisk<P> {
    process: P,
    lies: bool,
}

impl<P: Process> Process for OnDisk<P> {
    type Message = P::Message;
    type Timer = P::Timer;

    fn step(
        &mut self,
        now: WallTime,
        input: Input<P::Message, P::Timer>,
        out: &mut Effects<P::Message, P::Timer>,
    ) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Effects::default();
            self.process.step(now, input, &mut effects);
            for effect in effects.drain() {
                match effect {
                    Effect::Flush(flush) if self.lies => inputs.insert(0, Input::Flushed(flush)),
                    other => out.push(other),
                }
            }
        }
    }
}

/// What the monitor remembers of the transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Seen {
    initiated: bool,
    ended: bool,
    decided: BTreeSet<bool>,
    resolved: BTreeMap<ShardId, bool>,
    told_committed: bool,
    /// Shards that have voted yes and do not know the decision.
    in_doubt: BTreeSet<ShardId>,
}

fn monitor(seen: &mut Seen, _: Addr, observation: &Observation) {
    match observation {
        Observation::Initiated { .. } => seen.initiated = true,
        Observation::Ended { .. } => seen.ended = true,
        Observation::Voted {
            shard, yes: true, ..
        } => {
            seen.in_doubt.insert(*shard);
        }
        Observation::Decided { commit, .. } => {
            seen.decided.insert(*commit);
        }
        Observation::Resolved { shard, commit, .. } => {
            seen.resolved.insert(*shard, *commit);
            seen.in_doubt.remove(shard);
        }
        Observation::Returned {
            outcome: Outcome::Committed { .. },
            ..
        } => seen.told_committed = true,
        _ => {}
    }
}

type Hosted<P> = Host<OnDisk<P>, Seen>;
type Checked<P> = Report<World<OnDisk<P>, Seen>, Action<<P as Process>::Timer>>;

fn host<Pr: Protocol>(
    options: &Pr::Options,
    lies: bool,
    budget: Budget,
    timers: TimerLimit<<Pr::Process as Process>::Timer>,
) -> Hosted<Pr::Process> {
    let deployment = Pr::deploy(&layout(), options, &[transfer()]).expect("a small deployment");
    let on_disk = |process| OnDisk { process, lies };
    let processes = deployment
        .processes
        .into_iter()
        .map(|node| node.into_iter().map(on_disk).collect());
    Host::new(processes.collect(), budget, Seen::default(), monitor)
        .expose([FRONT, NodeId(1), NodeId(2)])
        .limit_timers(timers)
}

/// The shards in which the transaction's effect stands, if all machines are up.
fn standing<P: Autopsy>(world: &World<OnDisk<P>, Seen>) -> Option<BTreeSet<ShardId>> {
    let states: Vec<ShardState> = world
        .processes()
        .filter_map(|(_, process)| process.process.autopsy())
        .collect();
    let stands = |state: &ShardState| {
        let mut of_txn = state.ledger.iter().filter(|entry| entry.write.txn == TXN);
        of_txn.next_back().is_some_and(|entry| !entry.write.undo)
    };
    (states.len() == 2).then(|| {
        states
            .iter()
            .filter(|state| stands(state))
            .map(|state| state.shard)
            .collect()
    })
}

/// More states than any of these worlds has.
const LIMIT: u32 = 400_000;

fn check<P: Autopsy>(host: &Hosted<P>, restarts: bool) -> Checked<P> {
    host.fair(restarts, LIMIT)
        .expect("small")
        .always("one decision", |world| world.seen.decided.len() <= 1)
        .always("decided alike", |world| {
            let Seen {
                resolved, decided, ..
            } = &world.seen;
            resolved
                .values()
                .all(|commit| decided.is_empty() || decided.contains(commit))
        })
        .always("all or nothing", |world| {
            !world.seen.ended || standing(world).is_none_or(|shards| shards.len() != 1)
        })
        .always("what was acknowledged stands", |world| {
            let owed = world.seen.told_committed && world.seen.ended;
            !owed || standing(world).is_none_or(|shards| shards.len() == 2)
        })
        .leads_to(
            "ends",
            |world| world.seen.initiated,
            |world| world.seen.ended,
        )
        .leads_to(
            "leaves doubt",
            |world| !world.seen.in_doubt.is_empty(),
            |world| world.seen.in_doubt.is_empty(),
        )
        .sometimes("commits", |world| world.seen.told_committed)
        .check()
        .expect("small")
}

/// Everything but the two liveness properties.
fn is_safe<P: Process>(report: &Checked<P>) -> bool {
    report
        .verdicts
        .iter()
        .all(|verdict| verdict.holds || verdict.kind.is_liveness())
}

fn holds<P: Process>(report: &Checked<P>, name: &str) -> bool {
    report.verdict(name).expect("it was asked").holds
}

/// The steps of a counterexample, for a message.
fn steps<'r, P: Process>(report: &'r Checked<P>, name: &str) -> Vec<&'r str> {
    let found = report
        .verdict(name)
        .and_then(|verdict| verdict.counterexample.as_ref());
    found.map(|found| found.names()).unwrap_or_default()
}

fn commit(lies: bool, budget: Budget) -> Hosted<two_phase::Node> {
    host::<TwoPhase>(
        // Timers fire in the order of their delays: the fewer distinct ones, the smaller the model.
        &two_phase::Options {
            resend_ms: 500,
            ..two_phase::Options::default()
        },
        lies,
        budget,
        |_, timer| match timer {
            // The client counts its requests.
            two_phase::Timer::Client(ClientTimer::Resend(_)) => Some(2),
            _ => None,
        },
    )
}

fn orchestrate(lies: bool, budget: Budget) -> Hosted<saga::Node> {
    host::<Saga>(
        &saga::Options::default(),
        lies,
        budget,
        |_, timer| match timer {
            saga::Timer::Client(ClientTimer::Resend(_)) => Some(2),
            _ => None,
        },
    )
}

const NONE: Budget = Budget {
    crashes: 0,
    losses: 0,
    duplicates: 0,
    early_timeouts: 0,
    cuts: 0,
    failed_flushes: 0,
};

/// One fault of each kind, alone.
fn single_faults() -> [Budget; 6] {
    [
        Budget { crashes: 1, ..NONE },
        Budget { losses: 1, ..NONE },
        Budget {
            duplicates: 1,
            ..NONE
        },
        Budget {
            early_timeouts: 1,
            ..NONE
        },
        Budget { cuts: 1, ..NONE },
        Budget {
            failed_flushes: 1,
            ..NONE
        },
    ]
}

#[test]
fn two_phase_commit_is_atomic_and_ends_under_any_one_fault_if_machines_come_back() {
    for budget in single_faults() {
        let report = check(&commit(false, budget), true);
        assert!(
            is_safe::<two_phase::Node>(&report),
            "{budget:?}: {:?}",
            report.verdicts
        );
        for name in ["ends", "leaves doubt"] {
            assert!(
                holds::<two_phase::Node>(&report, name),
                "{budget:?}: {:?}",
                steps::<two_phase::Node>(&report, name)
            );
        }
    }
}

#[test]
fn two_phase_commit_blocks_in_doubt_if_the_manager_may_stay_down() {
    let crash = Budget { crashes: 1, ..NONE };
    let report = check(&commit(false, crash).expose([FRONT]), false);
    assert!(
        is_safe::<two_phase::Node>(&report),
        "blocked, and still atomic"
    );
    assert!(!holds::<two_phase::Node>(&report, "leaves doubt"));
    let lasso = steps::<two_phase::Node>(&report, "leaves doubt");
    assert!(
        lasso.iter().any(|step| step.starts_with("crash n0")),
        "{lasso:?}"
    );
    assert!(holds::<two_phase::Node>(
        &check(&commit(false, crash).expose([FRONT]), true),
        "leaves doubt"
    ));
}

#[test]
fn two_phase_commit_on_a_lying_disk_is_caught() {
    // A participant's own assertion finds it: a commit arrives for a vote that the crash took away.
    let crash = Budget { crashes: 1, ..NONE };
    let caught = std::panic::catch_unwind(|| check(&commit(true, crash), true));
    assert!(caught.is_err() || !is_safe::<two_phase::Node>(&caught.unwrap()));
}

#[test]
fn a_saga_ends_whole_if_messages_and_flushes_fail() {
    for budget in [
        NONE,
        Budget { losses: 1, ..NONE },
        Budget {
            failed_flushes: 1,
            ..NONE
        },
    ] {
        let report = check(&orchestrate(false, budget), true);
        assert!(
            is_safe::<saga::Node>(&report),
            "{budget:?}: {:?}",
            report.verdicts
        );
        assert!(
            holds::<saga::Node>(&report, "ends"),
            "{budget:?}: {:?}",
            steps::<saga::Node>(&report, "ends")
        );
    }
}

#[test]
fn a_saga_on_a_lying_disk_is_caught() {
    let report = check(&orchestrate(true, Budget { crashes: 1, ..NONE }), true);
    assert!(!holds::<saga::Node>(
        &report,
        "what was acknowledged stands"
    ));
}
