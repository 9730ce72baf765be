//! The protocol code in small worlds, as `ordain model` lists and checks it: a transaction over two shards, and where sagas meet two, on one
//! machine each, with a machine for the coordinator or sequencer and one for the client; and two replicas of a log.
//!
//! Every schedule is explored and judged from outside: what processes observe and what the shards' ledgers hold, safety
//! and fair leads-to. Where the protocol has an abstraction, every schedule is explored once more, and every edge held
//! against the protocol's spec ([`crate::model::refine`]).
//!
//! Timers that drive a counter fire a limited number of times, or the graph would be infinite. Where that many are not
//! enough to make up for a fault, only safety is asked.

pub mod replicas;
pub mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use stateright::Model;

use crate::base::observation::{Observation, Outcome as Reply};
use crate::base::process::{Addr, NodeId, Process};
use crate::base::txn::{Effect, Guard, Key, Op, ShardId, TableId, Target, Txn, TxnId, Value};
use crate::consensus::{LogTimer, ReplicaTimer};
use crate::model::checker::leads_to::{FairChecker, Kind, Report};
use crate::model::explorer::{Asked, Explored};
use crate::model::refine::{self, Abstraction, Checked, Tally};
use crate::model::spec::{CheckError, Outcome, PropertyOutcome};
use crate::model::worlds::replicas::Stated;
use crate::model::worlds::world::{Budget, Host, Monitor, World};
use crate::plan::{PlannedOperation, Start};
use crate::protocol::calvin::{self, Calvin};
use crate::protocol::kit::client::ClientTimer;
use crate::protocol::saga::{self, Saga, SemanticLocks};
use crate::protocol::two_phase::{self, Heuristic, TwoPhase};
use crate::protocol::{Autopsy, Protocol};
use crate::scenario::layout::{EngineKind, Layout, Region, Shard, Table};
use crate::shard::ShardState;

/// The coordinator's machine.
pub const FRONT: NodeId = NodeId(0);
/// The machines of the two shards.
pub const DATA: [NodeId; 2] = [NodeId(1), NodeId(2)];
/// The client's machine, which faults do not reach.
pub const CLIENT: NodeId = NodeId(3);
/// The transaction.
pub const TXN: TxnId = TxnId(1);

/// Two tables of one row, each a shard of its own.
pub fn layout() -> Layout {
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
            data: DATA.to_vec(),
            client: CLIENT,
        }],
        tables: vec![table(0), table(1)],
        shards: vec![shard(0), shard(1)],
        nodes: 4,
    }
}

/// Moves 5 from the first shard to the second, if the second holds at least this much of its 10.
pub fn transfer(at_least: i64) -> PlannedOperation {
    guarded(at_least, &[(0, -5), (1, 5)])
}

/// Another client's: moves 5 from the second shard to the first.
pub fn transfer_back() -> PlannedOperation {
    of_another(guarded(0, &[(1, -5), (0, 5)]))
}

/// Another client's: reads both shards.
pub fn onlooker() -> PlannedOperation {
    let mut operation = guarded(0, &[]);
    operation.txn.guards.clear();
    operation.txn.reads = [0, 1].map(|table| Target::Key(row_of(table))).to_vec();
    of_another(operation)
}

fn of_another(mut operation: PlannedOperation) -> PlannedOperation {
    operation.txn.id = TxnId(TXN.0 + 1);
    operation.session = 1;
    operation
}

/// Takes 5 from the first shard if the second, which is only read, holds at least 5 of its 10.
pub fn withdrawal() -> PlannedOperation {
    guarded(5, &[(0, -5)])
}

fn row_of(table: u8) -> Key {
    Key {
        table: TableId(table),
        row: 0,
    }
}

/// Adds these amounts to the rows of these shards, if the second holds at least this much.
fn guarded(at_least: i64, amounts: &[(u8, i64)]) -> PlannedOperation {
    let effect = |&(table, amount): &(u8, i64)| Effect {
        target: Target::Key(row_of(table)),
        op: Op::Add(amount),
    };
    let guard = Guard::SumAtLeast {
        keys: vec![row_of(1)],
        at_least,
    };
    let txn = Txn {
        id: TXN,
        reads: vec![],
        guards: vec![guard],
        effects: amounts.iter().map(effect).collect(),
        pivot: None,
    };
    PlannedOperation {
        region: 0,
        session: 0,
        start: Start::At(0),
        txn,
    }
}

/// What a monitor remembers of the transaction, and of no other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Seen {
    /// The protocol took charge.
    pub initiated: bool,
    /// It owes nothing more.
    pub ended: bool,
    /// Decisions.
    pub decided: BTreeSet<bool>,
    /// Decisions as shards learned them.
    pub resolved: BTreeMap<ShardId, bool>,
    /// The client knows that it committed.
    pub told_committed: bool,
    /// Shards that have voted yes, do not know the decision, and have not decided alone.
    pub in_doubt: BTreeSet<ShardId>,
    /// The transaction writes to one shard only.
    pub writes_once: bool,
}

impl Seen {
    /// Takes in an observation.
    pub fn note(&mut self, _: Addr, observation: &Observation) {
        if observation.txn().is_some_and(|txn| txn != TXN) {
            return;
        }
        match observation {
            Observation::Initiated { .. } => self.initiated = true,
            Observation::Ended { .. } => self.ended = true,
            Observation::Voted {
                shard, yes: true, ..
            } => {
                self.in_doubt.insert(*shard);
            }
            Observation::Decided { commit, .. } => {
                self.decided.insert(*commit);
            }
            Observation::DecidedAlone { shard, .. } => {
                self.in_doubt.remove(shard);
            }
            Observation::Resolved { shard, commit, .. } => {
                self.resolved.insert(*shard, *commit);
                self.in_doubt.remove(shard);
            }
            Observation::Returned {
                outcome: Reply::Committed { .. },
                ..
            } => self.told_committed = true,
            _ => {}
        }
    }
}

/// The shards in which the transaction's effect stands, if all machines are up.
fn standing<P: Autopsy>(world: &World<P, Seen>) -> Option<BTreeSet<ShardId>> {
    let states: Vec<ShardState> = world
        .processes()
        .filter_map(|(_, process)| process.autopsy())
        .collect();
    let stands = |state: &ShardState| {
        let mut of_txn = state.ledger.iter().filter(|entry| entry.write.txn == TXN);
        of_txn.next_back().is_some_and(|entry| !entry.write.undo)
    };
    let standing = { states.iter() }.filter(|state| stands(state));
    (states.len() == DATA.len()).then(|| standing.map(|state| state.shard).collect())
}

/// How many shards the transaction writes to.
fn written(seen: &Seen) -> usize {
    if seen.writes_once { 1 } else { DATA.len() }
}

/// What is asked of every state of a world, about the one transaction or the first.
fn safety<P: Autopsy>() -> Asked<P, Seen> {
    Asked {
        always: vec![
            ("one decision", |world| world.seen.decided.len() <= 1),
            ("decided alike", |world| {
                let Seen {
                    resolved, decided, ..
                } = &world.seen;
                let alike = |commit: &bool| decided.is_empty() || decided.contains(commit);
                resolved.values().all(alike)
            }),
            ("all or nothing", |world| {
                let whole = |shards: BTreeSet<_>| [0, written(&world.seen)].contains(&shards.len());
                !world.seen.ended || standing(world).is_none_or(whole)
            }),
            ("what was acknowledged stands", |world| {
                let owed = world.seen.told_committed && world.seen.ended;
                let whole = |shards: BTreeSet<_>| shards.len() == written(&world.seen);
                !owed || standing(world).is_none_or(whole)
            }),
        ],
        sometimes: vec![("commits", |world| world.seen.told_committed)],
    }
}

/// What is asked of every world, about the one transaction or the first.
pub fn ask<P: Autopsy>(checker: FairChecker<'_, Host<P, Seen>>) -> FairChecker<'_, Host<P, Seen>> {
    safety().of(checker).leads_to(
        "ends",
        |world| world.seen.initiated,
        |world| world.seen.ended,
    )
}

/// What is asked of every state of Calvin's worlds, where shards end a transaction each at its own time.
fn safety_of_calvin<P: Autopsy>() -> Asked<P, Seen> {
    Asked {
        always: vec![("executed once", |world| {
            let mut states = world.processes().filter_map(|(_, p)| p.autopsy());
            states.all(|state| state.ledger.len() <= 1)
        })],
        sometimes: vec![("commits", |world| world.seen.told_committed)],
    }
}

/// What is asked of Calvin.
fn ask_calvin<P: Autopsy>(
    checker: FairChecker<'_, Host<P, Seen>>,
    lively: bool,
) -> FairChecker<'_, Host<P, Seen>> {
    let everywhere = |world: &World<P, Seen>| standing(world).is_some_and(|s| s.len() == 2);
    let checker = safety_of_calvin().of(checker);
    if !lively {
        return checker;
    }
    checker
        .leads_to(
            "ends",
            |world| world.seen.initiated,
            |world| world.seen.ended,
        )
        .leads_to(
            "what was acknowledged is done everywhere",
            |world| world.seen.told_committed,
            everywhere,
        )
}

/// What is asked besides where participants vote.
pub fn ask_doubt<P: Autopsy>(
    checker: FairChecker<'_, Host<P, Seen>>,
) -> FairChecker<'_, Host<P, Seen>> {
    checker.leads_to(
        "leaves doubt",
        |world| !world.seen.in_doubt.is_empty(),
        |world| world.seen.in_doubt.is_empty(),
    )
}

/// A small world of the protocol code.
pub struct Hosted {
    /// Its name, without the folder.
    pub name: &'static str,
    /// One sentence on what it shows.
    pub about: &'static str,
    protocol: Hosting,
    /// What the second shard has to hold.
    at_least: i64,
    budget: Budget,
    /// The machines that faults reach.
    exposed: &'static [NodeId],
    /// Machines that crash come back.
    restarts: bool,
    /// Liveness is asked too.
    lively: bool,
    /// The properties that must not hold.
    fails: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Hosting {
    TwoPhase,
    /// With cooperative termination.
    TwoPhasePeers,
    /// With one participant that only reads, and leaves.
    TwoPhaseReader,
    /// With participants in doubt that decide alone.
    TwoPhaseAlone(Heuristic),
    /// Alone, or with semantic locks and another client's transaction.
    Saga(Option<(SemanticLocks, fn() -> PlannedOperation)>),
    /// How often the sequencer's election timer fires.
    Calvin(u8),
    /// How often each replica's election timer fires.
    Raft(u8),
}

const ALL: &[NodeId] = &[FRONT, DATA[0], DATA[1]];

/// No faults.
pub const NONE: Budget = Budget {
    crashes: 0,
    losses: 0,
    duplicates: 0,
    early_timeouts: 0,
    cuts: 0,
    failed_flushes: 0,
    torn_writes: 0,
};

const fn world(
    name: &'static str,
    protocol: Hosting,
    budget: Budget,
    about: &'static str,
) -> Hosted {
    Hosted {
        name,
        about,
        protocol,
        at_least: 0,
        budget,
        exposed: ALL,
        restarts: true,
        lively: true,
        fails: &[],
    }
}

/// One crash.
pub const CRASH: Budget = Budget { crashes: 1, ..NONE };
/// One lost message.
pub const LOSS: Budget = Budget { losses: 1, ..NONE };
/// One message that arrives twice.
pub const DUPLICATE: Budget = Budget {
    duplicates: 1,
    ..NONE
};
/// One timer that fires too early.
pub const LATE: Budget = Budget {
    early_timeouts: 1,
    ..NONE
};
/// One cut between two machines.
pub const CUT: Budget = Budget { cuts: 1, ..NONE };
/// One fault of each kind, alone.
pub const SINGLE_FAULTS: [Budget; 6] = [CRASH, LOSS, DUPLICATE, LATE, CUT, BAD_DISK];
const COLLIDE: Budget = Budget {
    early_timeouts: 2,
    ..NONE
};
/// A timer that fires too early, which lets a second client in, and a message that arrives twice.
const LATE_DUPLICATE: Budget = Budget {
    duplicates: 1,
    ..LATE
};
const LATE_LOSS: Budget = Budget {
    early_timeouts: 1,
    losses: 1,
    ..NONE
};
/// One flush that fails.
pub const BAD_DISK: Budget = Budget {
    failed_flushes: 1,
    ..NONE
};

/// One crash, which may tear what was not flushed.
pub const TORN: Budget = Budget {
    crashes: 1,
    torn_writes: 1,
    ..NONE
};

/// Every world, in the order of `ordain model`.
#[rustfmt::skip]
pub const WORLDS: &[Hosted] = &[
    world("2pc", Hosting::TwoPhase, NONE, "Two-phase commit's code without faults."),
    world("2pc-crash", Hosting::TwoPhase, CRASH, "One machine crashes at any moment, and comes back."),
    Hosted {
        exposed: &[FRONT], restarts: false, fails: &["leaves doubt", "ends"],
        ..world("2pc-blocks", Hosting::TwoPhase, CRASH, "The manager crashes and may stay down: participants stay in doubt.")
    },
    world("2pc-loss", Hosting::TwoPhase, LOSS, "One message is lost."),
    world("2pc-duplicate", Hosting::TwoPhase, DUPLICATE, "One message arrives twice."),
    world("2pc-timeout", Hosting::TwoPhase, LATE, "One timer fires too early."),
    world("2pc-cut", Hosting::TwoPhase, CUT, "Two machines are cut off from one another, and find one another again."),
    world("2pc-disk", Hosting::TwoPhase, BAD_DISK, "One flush fails."),
    Hosted {
        exposed: &[FRONT, DATA[0]],
        ..world("2pc-peers", Hosting::TwoPhasePeers, CRASH, "Participants in doubt ask one another; the manager or one of them crashes, and comes back.")
    },
    Hosted {
        exposed: &[FRONT], restarts: false, fails: &["leaves doubt", "ends"],
        ..world("2pc-peers-block", Hosting::TwoPhasePeers, CRASH, "The manager may stay down: where all have voted, asking one another does not help.")
    },
    world("2pc-reader", Hosting::TwoPhaseReader, NONE, "One participant only reads, and leaves after its vote."),
    world("2pc-reader-crash", Hosting::TwoPhaseReader, CRASH, "One machine crashes at any moment, and comes back."),
    world("2pc-reader-loss", Hosting::TwoPhaseReader, LOSS, "One message is lost: a reader that has left is asked again."),
    world("2pc-reader-duplicate", Hosting::TwoPhaseReader, DUPLICATE, "One message arrives twice."),
    Hosted {
        fails: &["all or nothing", "what was acknowledged stands"],
        ..world("2pc-alone", Hosting::TwoPhaseAlone(Heuristic::Abort), LATE, "A participant in doubt loses patience too early and aborts alone, which may tear the transaction apart.")
    },
    Hosted {
        exposed: &[FRONT], restarts: false, fails: &["all or nothing", "ends"],
        ..world("2pc-alone-released", Hosting::TwoPhaseAlone(Heuristic::Commit), CRASH, "The manager may stay down: who is in doubt commits alone, and nobody blocks.")
    },
    world("saga", Hosting::Saga(None), NONE, "The saga's code without faults."),
    world("saga-crash", Hosting::Saga(None), CRASH, "One machine crashes at any moment, and comes back."),
    Hosted {
        exposed: &[FRONT], restarts: false, fails: &["ends"],
        ..world("saga-orphan", Hosting::Saga(None), CRASH, "The orchestrator crashes and may stay down: the saga is an orphan.")
    },
    world("saga-loss", Hosting::Saga(None), LOSS, "One message is lost."),
    world("saga-duplicate", Hosting::Saga(None), DUPLICATE, "One message arrives twice."),
    world("saga-timeout", Hosting::Saga(None), LATE, "One timer fires too early."),
    world("saga-cut", Hosting::Saga(None), CUT, "Two machines are cut off from one another, and find one another again."),
    world("saga-disk", Hosting::Saga(None), BAD_DISK, "One flush fails."),
    Hosted {
        at_least: 100, fails: &["commits"],
        ..world("saga-refused", Hosting::Saga(None), CRASH, "The pivot is refused, and one machine crashes: the way back.")
    },
    world("saga-meet", Hosting::Saga(Some((SemanticLocks::Refuse, transfer_back))), LATE, "Two sagas with semantic locks meet: who finds a marked row goes back."),
    Hosted {
        exposed: &[FRONT, DATA[1]],
        ..world("saga-meet-duplicate", Hosting::Saga(Some((SemanticLocks::Refuse, transfer_back))), LATE_DUPLICATE, "One message arrives twice: what was turned away is not taken later.")
    },
    world("saga-wait", Hosting::Saga(Some((SemanticLocks::Wait, transfer_back))), LATE, "Who finds a marked row waits, in a circle if both do, until patience ends."),
    world("saga-seen", Hosting::Saga(Some((SemanticLocks::Wait, onlooker))), LATE, "A reader waits for the end of the saga whose effect it meets."),
    Hosted {
        at_least: 100, fails: &["commits"],
        ..world("saga-unseen", Hosting::Saga(Some((SemanticLocks::Wait, onlooker))), LATE, "The pivot is refused: nobody sees what is undone.")
    },
    world("calvin", Hosting::Calvin(1), NONE, "Calvin's code, with one sequencer, without faults."),
    world("calvin-duplicate", Hosting::Calvin(1), DUPLICATE, "One message arrives twice."),
    world("calvin-timeout", Hosting::Calvin(1), LATE, "One timer fires too early."),
    Hosted {
        exposed: &[FRONT, DATA[0]],
        ..world("calvin-cut", Hosting::Calvin(1), CUT, "A shard is cut off from the sequencer, and finds it again.")
    },
    Hosted {
        lively: false,
        ..world("calvin-loss", Hosting::Calvin(1), LOSS, "One message is lost: safety only.")
    },
    Hosted {
        exposed: &[DATA[0]], lively: false,
        ..world("calvin-crash", Hosting::Calvin(1), CRASH, "A shard crashes and replays the log: safety only.")
    },
    Hosted {
        lively: false,
        ..world("calvin-disk", Hosting::Calvin(1), BAD_DISK, "One flush fails: safety only.")
    },
    Hosted {
        exposed: &[FRONT], lively: false,
        ..world("calvin-sequencer", Hosting::Calvin(2), TORN, "The sequencer crashes, which may tear its log, and reads it again: safety only.")
    },
    world("raft", Hosting::Raft(1), NONE, "Raft's code without faults: one campaign is enough to commit."),
    world("raft-duplicate", Hosting::Raft(1), DUPLICATE, "One message arrives twice."),
    Hosted {
        lively: false,
        ..world("raft-crash", Hosting::Raft(2), CRASH, "A replica crashes, and both campaign twice: safety only.")
    },
    Hosted {
        lively: false,
        ..world("raft-collide", Hosting::Raft(2), COLLIDE, "Election timers fire too early: safety only.")
    },
    Hosted {
        lively: false,
        ..world("raft-loss", Hosting::Raft(3), LATE_LOSS, "A message is lost and a timer fires too early: safety only.")
    },
    world("raft-cut", Hosting::Raft(1), CUT, "The replicas are cut off from one another, and find one another again."),
    Hosted {
        lively: false,
        ..world("raft-partition", Hosting::Raft(2), CUT, "They are cut off, both campaign, and what was said before the cut arrives after it: safety only.")
    },
    Hosted {
        lively: false,
        ..world("raft-disk", Hosting::Raft(2), BAD_DISK, "One flush fails, and both campaign twice: safety only.")
    },
    Hosted {
        lively: false,
        ..world("raft-torn", Hosting::Raft(2), TORN, "A crash tears what was being written, and both campaign twice: safety only.")
    },
];

/// What became of a world.
pub struct Examined {
    /// Sizes and verdicts, those of the refinement last.
    pub outcome: Outcome,
    /// The edges against the spec, where the protocol has an abstraction.
    pub edges: Option<Tally>,
}

impl Hosted {
    /// Whether a property is expected to hold.
    pub fn expects(&self, property: &str) -> bool {
        !self.fails.contains(&property)
    }

    /// Explores the world and decides its properties.
    ///
    /// # Errors
    ///
    /// See [`CheckError`].
    pub fn check(&self, limit: u32) -> Result<Examined, CheckError> {
        let started = Instant::now();
        let mut examined = match self.protocol {
            Hosting::TwoPhase
            | Hosting::TwoPhasePeers
            | Hosting::TwoPhaseReader
            | Hosting::TwoPhaseAlone(_) => {
                let world = self.two_phase(self.seen(), Seen::note);
                let judged = ask_doubt(ask(world.fair(self.restarts, limit)?)).check()?;
                let start = refine::two_phase::Transactions::default();
                self.examined(judged, Some(held(self.two_phase(start, ignore), limit)?))
            }
            Hosting::Saga(_) => {
                let world = self.saga(Seen::default(), Seen::note);
                let judged = ask(world.fair(self.restarts, limit)?).check()?;
                let start = refine::saga::Sagas::default();
                self.examined(judged, Some(held(self.saga(start, ignore), limit)?))
            }
            Hosting::Calvin(elections) => {
                let world = self.calvin(elections, Seen::default(), Seen::note);
                let asked = ask_calvin(world.fair(self.restarts, limit)?, self.lively);
                let judged = asked.check()?;
                let start = refine::calvin::Executions::sampled(1);
                self.examined(
                    judged,
                    Some(held(self.calvin(elections, start, ignore), limit)?),
                )
            }
            Hosting::Raft(campaigns) => {
                let world = self.raft(campaigns, Stated::default(), Stated::note);
                let asked = replicas::ask(world.fair(self.restarts, limit)?, self.lively);
                let judged = asked.check()?;
                let start = refine::raft::Logs::whole();
                let held = held(self.raft(campaigns, start, ignore), limit)?;
                self.examined(judged, Some(held))
            }
        };
        examined.outcome.elapsed = started.elapsed();
        Ok(examined)
    }

    /// Serves stateright's Explorer until the process ends.
    pub fn serve(&self, address: SocketAddr) {
        match self.protocol {
            Hosting::TwoPhase
            | Hosting::TwoPhasePeers
            | Hosting::TwoPhaseReader
            | Hosting::TwoPhaseAlone(_) => serve(
                self.two_phase(self.seen(), Seen::note),
                self.two_phase(refine::two_phase::Transactions::default(), ignore),
                safety(),
                address,
            ),
            Hosting::Saga(_) => serve(
                self.saga(Seen::default(), Seen::note),
                self.saga(refine::saga::Sagas::default(), ignore),
                safety(),
                address,
            ),
            Hosting::Calvin(elections) => serve(
                self.calvin(elections, Seen::default(), Seen::note),
                self.calvin(elections, refine::calvin::Executions::sampled(1), ignore),
                safety_of_calvin(),
                address,
            ),
            Hosting::Raft(campaigns) => serve(
                self.raft(campaigns, Stated::default(), Stated::note),
                self.raft(campaigns, refine::raft::Logs::whole(), ignore),
                replicas::safety(self.lively),
                address,
            ),
        }
    }

    fn examined<S, A>(&self, judged: Report<S, A>, checked: Option<Checked>) -> Examined {
        let summary = |outcome: PropertyOutcome| PropertyOutcome {
            fairness: match outcome.fairness.is_empty() {
                true => Vec::new(),
                false => self.fairness(),
            },
            ..outcome
        };
        // The states of whole nodes are long, and the steps' names say what led to them.
        let by_name = |verdict| PropertyOutcome::of(verdict, |_, _| String::new());
        let verdicts = judged.verdicts.iter().map(by_name);
        let mut properties: Vec<_> = verdicts.map(summary).collect();
        properties.extend(checked.as_ref().map(refinement));
        Examined {
            outcome: Outcome {
                counts: judged.counts,
                properties,
                elapsed: std::time::Duration::ZERO,
            },
            edges: checked.map(|checked| checked.tally),
        }
    }

    /// The constraints of [`Host::fair`] by kind: there is one for each message, link and timer.
    fn fairness(&self) -> Vec<String> {
        let mut fairness = vec![
            "WF each delivery, flush, heal".to_owned(),
            "SF each timer".to_owned(),
        ];
        if self.restarts {
            fairness.push("WF each restart".to_owned());
        }
        fairness
    }

    /// Nothing yet.
    fn seen(&self) -> Seen {
        Seen {
            writes_once: matches!(self.protocol, Hosting::TwoPhaseReader),
            ..Seen::default()
        }
    }

    fn two_phase<G>(&self, start: G, note: Monitor<G>) -> Host<two_phase::Node, G>
    where
        G: Clone + Eq + std::hash::Hash + std::fmt::Debug,
    {
        let options = two_phase::Options {
            cooperative_termination: matches!(self.protocol, Hosting::TwoPhasePeers),
            read_only_optimisation: matches!(self.protocol, Hosting::TwoPhaseReader),
            heuristic: match self.protocol {
                Hosting::TwoPhaseAlone(heuristic) => heuristic,
                _ => Heuristic::Wait,
            },
            ..two_phase::Options::default()
        };
        // The client counts its requests: only a limit makes the graph finite.
        self.host::<TwoPhase, G>(&options, start, note)
            .limit_timers(|_, timer| match timer {
                two_phase::Timer::Client(ClientTimer::Resend(_)) => Some(2),
                _ => None,
            })
    }

    fn saga<G>(&self, start: G, note: Monitor<G>) -> Host<saga::Node, G>
    where
        G: Clone + Eq + std::hash::Hash + std::fmt::Debug,
    {
        let options = saga::Options {
            semantic_locks: match self.protocol {
                Hosting::Saga(Some((locks, _))) => locks,
                _ => SemanticLocks::None,
            },
            ..saga::Options::default()
        };
        self.host::<Saga, G>(&options, start, note)
            .limit_timers(|_, timer| match timer {
                saga::Timer::Client(ClientTimer::Resend(_)) => Some(2),
                _ => None,
            })
    }

    fn calvin<G>(&self, elections: u8, start: G, note: Monitor<G>) -> Host<calvin::Node, G>
    where
        G: Clone + Eq + std::hash::Hash + std::fmt::Debug,
    {
        self.host::<Calvin, G>(&calvin::Options::default(), start, note)
            .limit_timers(move |_, timer| calvin_timer_limit(timer, elections))
    }

    fn raft<G>(&self, campaigns: u8, start: G, note: Monitor<G>) -> Host<replicas::Replica, G>
    where
        G: Clone + Eq + std::hash::Hash + std::fmt::Debug,
    {
        replicas::cluster(self.budget, campaigns, start, note)
    }

    fn host<Pr: Protocol, G>(
        &self,
        options: &Pr::Options,
        start: G,
        note: Monitor<G>,
    ) -> Host<Pr::Process, G>
    where
        G: Clone + Eq + std::hash::Hash + std::fmt::Debug,
    {
        let transfer = transfer(self.at_least);
        let operations = match self.protocol {
            Hosting::TwoPhaseReader => vec![withdrawal()],
            Hosting::Saga(Some((_, other))) => vec![transfer, other()],
            _ => vec![transfer],
        };
        let deployment = Pr::deploy(&layout(), options, &operations);
        let processes = deployment.expect("a small deployment").processes;
        Host::new(processes, self.budget, start, note).expose(self.exposed.iter().copied())
    }
}

/// How often a timer of Calvin may fire. Most drive counters: they fire once, that for an election so often. One sequencer is its
/// own majority, and has nobody to send heartbeats to.
pub fn calvin_timer_limit(timer: &calvin::Timer, elections: u8) -> Option<u8> {
    match timer {
        calvin::Timer::Log {
            timer: LogTimer::Raft(ReplicaTimer::Heartbeat),
            ..
        } => Some(0),
        calvin::Timer::Log {
            timer: LogTimer::Raft(ReplicaTimer::Election),
            ..
        } => Some(elections),
        calvin::Timer::Client(ClientTimer::Start(_)) => None,
        _ => Some(1),
    }
}

/// Every edge of a world against the spec.
fn held<P: Process, A: Abstraction<P>>(
    world: Host<P, A>,
    limit: u32,
) -> Result<Checked, CheckError> {
    Ok(refine::check_edges(&refine::shadow(world), limit)?)
}

fn refinement(checked: &Checked) -> PropertyOutcome {
    let broken = checked.broken.as_ref();
    let text = |(steps, refusal): &(Vec<String>, _)| format!("{}\n{refusal}", steps.join("\n"));
    PropertyOutcome {
        name: refine::PROPERTY.to_owned(),
        kind: Kind::Step,
        fairness: Vec::new(),
        holds: broken.is_none(),
        exercised: checked.tally.moves,
        counterexample: broken.map(text).unwrap_or_default(),
        steps: { broken }
            .map(|(steps, _)| steps.clone())
            .unwrap_or_default(),
    }
}

fn serve<P: Process, G, A: Abstraction<P> + Sync>(
    world: Host<P, G>,
    shadow: Host<P, A>,
    asked: Asked<P, G>,
    address: SocketAddr,
) where
    G: Clone + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync + 'static,
{
    let explored = Explored::new(world, refine::shadow(shadow), asked);
    explored.checker().serve(address);
}

/// A monitor that takes in whole steps instead ([`refine::shadow`]).
fn ignore<G>(_: &mut G, _: Addr, _: &Observation) {}
