//! Sagas, judged twice. In the simulated world each step is a transaction, whatever fails and whoever loses his
//! word in a crash, and what others see of unfinished sagas has the name that it has for transactions. By hand: steps
//! that are none are found, and what is not known makes nobody guilty.

use std::collections::{BTreeMap, BTreeSet};

use crate::scenarios::shipped;
use ordain::base::observation::{Observation, Observed, Outcome};
use ordain::base::process::{Addr, NodeId};
use ordain::base::txn::{
    Effect, Key, Op, Read, Row, ShardId, TableId, Target, Txn, TxnId, Value, WriteId,
};
use ordain::campaign::swarm;
use ordain::plan::Plan;
use ordain::protocol::{self, Protocol};
use ordain::registry::Registry;
use ordain::run::Run;
use ordain::scenario::Scenario;
use ordain::shard::{LedgerEntry, ShardState};
use ordain::verdict::{self, Evidence, Finding, Property, Status};
use rayon::prelude::*;

const SEEDS: u64 = 40;

fn property<'a>(run: &'a Run, name: &str) -> &'a Property {
    let mut properties = run.verdict.properties.iter();
    properties.find(|found| found.name == name).expect("judged")
}

fn runs(scenario: &Scenario, protocol: &str) -> Vec<Run> {
    let run = |seed| {
        let plan = Plan::draw(scenario, seed);
        Registry::standard()
            .run(scenario, protocol, &plan, false)
            .expect("it runs")
    };
    (1..=SEEDS).map(run).collect()
}

#[test]
fn what_others_see_of_unfinished_sagas_is_named_and_breaks_no_promise() {
    let runs = runs(&shipped("storm", &[]), "saga");
    for run in &runs {
        let whole = property(run, "saga-isolation");
        assert!(whole.exercised > 0, "seed {}", run.seed);
        assert_ne!(whole.status, Status::Violation);
    }
    let broken = |name: &str| {
        let broken = runs.iter().map(|run| property(run, name));
        broken
            .filter(|found| found.outcome == Finding::Broken)
            .count()
    };
    assert!(
        broken("isolation") > 0,
        "as one transaction it is not isolated"
    );
    let named = runs.iter().map(|run| property(run, "saga-isolation"));
    let named: Vec<&Property> = named
        .filter(|found| found.outcome == Finding::Broken)
        .collect();
    assert!(!named.is_empty());
    for found in named {
        let kinds = ["G1a", "G1b", "dirty-update"];
        assert!(
            kinds.iter().any(|kind| found.observed.contains(kind)),
            "{found:?}"
        );
        let example = found.counterexample.as_deref().expect("an example");
        assert!(
            example.contains("saga") && example.contains("step"),
            "{example}"
        );
    }
}

#[test]
fn semantic_locks_keep_others_from_building_on_what_is_compensated_later() {
    let count = |locks: &str| {
        let scenario = shipped("storm", &[("protocol.saga.semantic-locks", locks)]);
        let runs = runs(&scenario, "saga");
        let broken = runs.iter().map(|run| property(run, "saga-isolation"));
        broken
            .filter(|found| found.observed.contains("dirty-update"))
            .count()
    };
    let (without, with) = (count("none"), count("refuse"));
    assert!(
        with < without,
        "{with} of {SEEDS} runs with locks, {without} without"
    );
}

#[test]
fn other_protocols_have_no_steps_to_judge() {
    let scenario = shipped("storm", &[]);
    let run = Registry::standard()
        .run(&scenario, "2pc", &Plan::draw(&scenario, 1), false)
        .expect("it runs");
    let mut names = run.verdict.properties.iter().map(|property| property.name);
    assert!(!names.any(|name| name == "saga-isolation" || name == "step-isolation"));
}

#[test]
fn each_step_is_a_transaction_in_every_storm_settlement_and_crossfire() {
    let seeds =
        std::env::var("ORDAIN_SAGA_SEEDS").map_or(12, |text| text.parse().expect("a number"));
    let tried = [("storm", 0), ("settlement", 1_000), ("crossfire", 2_000)].map(|(name, first)| {
        let scenario = shipped(name, &[]);
        let judged = (first..first + seeds).into_par_iter().map(|seed| {
            let plan = swarm::draw(&scenario, seed);
            let run = Registry::standard()
                .run(&scenario, "saga", &plan, false)
                .expect("it runs");
            let steps = property(&run, "step-isolation");
            let why = steps.counterexample.as_deref().unwrap_or_default();
            let fine = matches!(steps.status, Status::Kept | Status::Vacuous);
            assert!(fine, "{name}, swarm seed {seed}: {}\n{why}", steps.observed);
            steps.exercised
        });
        judged.sum::<u64>()
    });
    assert!(tried.iter().all(|reads| *reads > seeds), "{tried:?}");
}

/// A history of steps by hand: rows 0 and 2 are at one shard, row 1 is at another.
struct Hand {
    scenario: Scenario,
    plan: Plan,
    observations: Vec<Observed>,
    ledgers: BTreeMap<ShardId, Vec<LedgerEntry>>,
}

const fn row(row: u32) -> Key {
    let table = TableId(0);
    Key { table, row }
}

impl Hand {
    fn new() -> Self {
        let scenario = shipped("storm", &[]);
        let mut plan = Plan::draw(&scenario, 1);
        plan.operations.truncate(4);
        for (at, operation) in plan.operations.iter_mut().enumerate() {
            operation.txn = Txn {
                id: TxnId(at as u64 + 1),
                reads: Vec::new(),
                guards: Vec::new(),
                effects: Vec::new(),
                pivot: None,
            };
        }
        let ledgers = (0..scenario.layout.shards.len() as u16).map(|at| (ShardId(at), Vec::new()));
        Self {
            ledgers: ledgers.collect(),
            observations: Vec::new(),
            scenario,
            plan,
        }
    }

    fn state(&mut self, at_ms: u64, what: Observation) {
        let (node, port) = (NodeId(0), 0);
        let (by, at_ns) = (Addr { node, port }, at_ms * 1_000_000);
        self.observations.push(Observed { at_ns, by, what });
    }

    /// A client asks at an instant for a transaction that appends to these rows, in steps.
    fn ask(&mut self, at_ms: u64, txn: u64, rows: &[u32]) -> &mut Self {
        let operation = &mut self.plan.operations[txn as usize - 1];
        let effect = |at: &u32| Effect {
            target: Target::Key(row(*at)),
            op: Op::Append(txn * 10 + u64::from(*at)),
        };
        operation.txn.effects = rows.iter().map(effect).collect();
        let (txn, session) = (TxnId(txn), txn as u32);
        self.state(at_ms, Observation::Invoked { txn, session });
        self
    }

    /// The writes of a transaction, or their compensations, are in the ledger of their shard.
    fn stands(&mut self, txn: u64, undo: bool, rows: &[u32]) -> &mut Self {
        for at in rows {
            let shard = self.scenario.layout.shard_of(row(*at));
            let txn = TxnId(txn);
            let write = WriteId { txn, undo };
            let ledger = self.ledgers.get_mut(&shard).expect("a shard");
            ledger.push(LedgerEntry {
                key: row(*at),
                write,
            });
        }
        self
    }

    /// The shard says that a step took effect.
    fn says(&mut self, at_ms: u64, txn: u64, rows: &[u32]) -> &mut Self {
        let keys: Vec<Key> = rows.iter().map(|at| row(*at)).collect();
        let shard = self.scenario.layout.shard_of(keys[0]);
        let (txn, position) = (TxnId(txn), 0);
        self.state(
            at_ms,
            Observation::Applied {
                txn,
                shard,
                position,
                keys,
            },
        );
        self
    }

    /// The client is told that it committed and read these rows, by whose last writes.
    fn told(&mut self, at_ms: u64, txn: u64, reads: &[(u32, u64)]) -> &mut Self {
        let read = |&(at, writer): &(u32, u64)| Read {
            key: row(at),
            row: Row {
                value: Value::List([].into()),
                writer: match writer {
                    0 => WriteId::default(),
                    writer => WriteId {
                        txn: TxnId(writer),
                        undo: false,
                    },
                },
            },
        };
        let reads = reads.iter().map(read).collect();
        let (txn, session) = (TxnId(txn), txn as u32);
        let outcome = Outcome::Committed { reads };
        let what = Observation::Returned {
            txn,
            session,
            outcome,
        };
        self.state(at_ms, what);
        self
    }

    fn judge(&self) -> (Finding, String) {
        let state = |(shard, ledger): (&ShardId, &Vec<LedgerEntry>)| ShardState {
            shard: *shard,
            region: 0,
            rows: BTreeMap::new(),
            ledger: ledger.clone(),
            in_doubt: BTreeSet::new(),
            applied_to: 0,
            up_to_applied: ledger.len(),
        };
        let states: Vec<ShardState> = self.ledgers.iter().map(state).collect();
        let options = protocol::saga::Options::default();
        let verdict = verdict::judge(&Evidence {
            scenario: &self.scenario,
            plan: &self.plan,
            promises: &<protocol::saga::Saga as Protocol>::promises(&options),
            entry: protocol::saga::Saga::ENTRY,
            clock_lies: &[],
            requests_delivered: 1,
            events: 1,
            needs: &[],
            observations: &self.observations,
            states: &states,
            unrecovered: &Default::default(),
            end_ns: 1_000_000_000,
            monitored: &[],
            log_tests: 0,
            refinement: Err("built by hand"),
            log_refinement: None,
            panics: &[],
            struck: &[],
        });
        let mut properties = verdict.properties.into_iter();
        let steps = properties.find(|found| found.name == "step-isolation");
        let steps = steps.expect("judged");
        let why = steps.counterexample.unwrap_or(steps.observed);
        (steps.outcome, why)
    }

    fn assert_broken(&self, kind: &str) {
        let (found, why) = self.judge();
        assert_eq!(found, Finding::Broken, "{why}");
        assert!(why.contains(kind), "{why}");
    }

    fn assert_held(&self) {
        let (found, why) = self.judge();
        assert_eq!(found, Finding::Held, "{why}");
    }
}

#[test]
fn a_torn_step_is_found_though_nobody_said_when_it_took_effect() {
    let torn = |second: u64| {
        let mut hand = Hand::new();
        hand.ask(0, 1, &[0, 2]).stands(1, false, &[0, 2]);
        hand.ask(1, 2, &[]).told(9, 2, &[(0, 1), (2, second)]);
        hand
    };
    torn(0).assert_broken("a contradiction");
    torn(1).assert_held();
}

#[test]
fn a_step_that_was_seen_before_it_was_durable_and_is_gone_is_found() {
    // Released its lock before the flush, and crashed between the two.
    let seen = |stands: bool| {
        let mut hand = Hand::new();
        hand.ask(0, 1, &[0]);
        if stands {
            hand.stands(1, false, &[0]);
        }
        hand.ask(1, 2, &[0]).stands(2, false, &[0]);
        hand.told(9, 2, &[(0, 1)]);
        hand
    };
    seen(false).assert_broken("nobody wrote");
    seen(true).assert_held();
}

#[test]
fn two_steps_that_read_one_version_and_both_replaced_it_are_found() {
    let update = |read: u64| {
        let mut hand = Hand::new();
        hand.ask(0, 1, &[0, 1]).stands(1, false, &[0, 1]);
        hand.told(8, 1, &[(0, 0), (1, 0)]);
        hand.ask(0, 2, &[0]).stands(2, false, &[0]);
        hand.told(9, 2, &[(0, read)]);
        hand
    };
    update(0).assert_broken("a contradiction");
    update(1).assert_held();
}

#[test]
fn a_read_that_misses_a_step_is_stale_only_if_the_shard_had_said_that_it_took_effect() {
    let missed = |said: bool| {
        let mut hand = Hand::new();
        hand.ask(0, 3, &[2]).stands(3, false, &[2]);
        hand.ask(0, 1, &[0]).stands(1, false, &[0]);
        if said {
            hand.says(3, 1, &[0]);
        }
        hand.ask(5, 2, &[]).told(9, 2, &[(0, 0), (2, 3)]);
        hand
    };
    missed(true).assert_broken("a contradiction");
    missed(false).assert_held();
}

#[test]
fn steps_of_one_saga_may_be_seen_one_without_the_other_and_compensated() {
    let mut hand = Hand::new();
    hand.ask(0, 1, &[0, 1]).stands(1, false, &[0, 1]);
    hand.stands(1, true, &[1, 0]);
    hand.ask(1, 2, &[0]).told(9, 2, &[(0, 1), (1, 0)]);
    hand.assert_held();
}

#[test]
fn what_a_saga_read_to_choose_its_rows_is_a_read_of_its_own() {
    // It read row 0 before T1's step and row 2 after it, in two requests; its own step is at that shard too.
    let read = |dependent: bool| {
        let mut hand = Hand::new();
        hand.ask(0, 1, &[0, 2]).stands(1, false, &[0, 2]);
        hand.ask(0, 2, &[]);
        if dependent {
            let (on, then, otherwise) = (row(0), row(4), row(6));
            let choice = Target::Choice {
                on,
                at_least: 1,
                then,
                otherwise,
            };
            hand.plan.operations[1].txn.reads = vec![choice];
        }
        hand.told(9, 2, &[(0, 0), (2, 1)]);
        hand
    };
    read(true).assert_held();
    read(false).assert_broken("a contradiction");
}
