//! Protocols step by step, as readable text: a command a line, and what came of it.
//!
//! The scripts are `tests/interaction/*.txt`; insta keeps them with their outputs beside them. Commands:
//!
//! ```text
//! options KEY = VALUE         before `begin`, as in a scenario
//! txn add 0/0 -5, add 1/0 5, at-least 0/0 5, read 2/0, pivot 1
//!                             before `begin`: the next transaction (`put 0/0 7` too); rows are SHARD/ROW and start with 10
//! begin                       deploy on three shards, and flush what every process writes at boot
//! fire                        the timer that is due first
//! deliver LABEL [FROM TO]     the oldest such message; `lose` and `repeat` likewise
//! flush WHO                   its flush completes; `fail WHO`: it fails, `fail WHO kept`: and its bytes are on the disk
//! crash WHO                   its machine, which keeps only what was flushed; `boot WHO`
//! settle                      everything in order, until all transactions have ended
//! rows                        what the shards hold
//! ```

use std::fmt::Write as _;

use super::testing::*;
use super::{
    Protocol, monolith::Monolith, naive::Naive, paxos_commit::PaxosCommit, percolator::Percolator,
    ramp::Ramp, saga::Saga, three_phase::ThreePhase, two_phase::TwoPhase, xa::Xa,
};
use crate::base::process::{Addr, NodeId, Wire};
use crate::base::txn::{Guard, Key, Op, Target, Txn, Value};
use crate::scenario::layout::Layout;

struct Session<Pr: Protocol> {
    layout: Layout,
    options: String,
    operations: Vec<crate::plan::PlannedOperation>,
    bench: Option<Bench<Pr::Process>>,
}

fn row(word: &str) -> Key {
    let (shard, row) = word.split_once('/').expect("SHARD/ROW");
    key(shard.parse().unwrap(), row.parse().unwrap())
}

fn transaction(id: u64, text: &str) -> Txn {
    let mut result = txn(id, &[], vec![]);
    for part in text.split(',') {
        let words: Vec<&str> = part.split_whitespace().collect();
        match words[..] {
            ["put", key, value] => result.effects.push(crate::base::txn::Effect {
                target: Target::Key(row(key)),
                op: Op::Put(value.parse().unwrap()),
            }),
            ["add", key, by] => result.effects.push(crate::base::txn::Effect {
                target: Target::Key(row(key)),
                op: Op::Add(by.parse().unwrap()),
            }),
            ["read", key] => result.reads.push(Target::Key(row(key))),
            ["at-least", key, bound] => result.guards.push(Guard::SumAtLeast {
                keys: vec![row(key)],
                at_least: bound.parse().unwrap(),
            }),
            ["pivot", at] => result.pivot = Some(at.parse().unwrap()),
            _ => panic!("{part:?}"),
        }
    }
    result
}

impl<Pr: Protocol> Session<Pr> {
    /// What scripts call a process: `s0` is the home of shard 0.
    fn name(&self, addr: Addr) -> String {
        let region = &self.layout.regions[self.layout.region_of(addr.node).unwrap()];
        let shards = self.layout.shard_ids();
        let home = { shards }.find(|shard| self.layout.home(*shard) == addr.node);
        match home {
            Some(shard) if addr.port == 0 => shard.to_string(),
            Some(shard) => format!("{shard}/{}", addr.port),
            None if addr.node == region.client => format!("{}/clients", region.name),
            None if addr.port == 0 => format!("{}/front", region.name),
            None => format!("{}/front/{}", region.name, addr.port),
        }
    }

    fn addr(&self, name: &str) -> Addr {
        let all = (0..self.layout.nodes).flat_map(|node| (0..2).map(move |port| (node, port)));
        let mut all = all.map(|(node, port)| Addr {
            node: NodeId(node),
            port,
        });
        let found = all.find(|addr| self.name(*addr) == name);
        found.unwrap_or_else(|| panic!("there is no {name}"))
    }

    fn begin(&mut self) {
        let options: Pr::Options = toml::from_str(&self.options).unwrap();
        let deployment = Pr::deploy(&self.layout, &options, &self.operations).unwrap();
        let mut bench = Bench::new(deployment);
        for addr in bench.flushing() {
            bench.flush(addr);
        }
        bench.log.clear();
        self.bench = Some(bench);
    }

    fn find(&self, words: &[&str]) -> usize {
        let bench = self.bench.as_ref().expect("`begin` comes first");
        let between = match words[1..] {
            [from, to] => Some((self.addr(from), self.addr(to))),
            _ => None,
        };
        let mut flights = bench.flights.iter();
        let found = flights.position(|flight| {
            let is_there = between.is_none_or(|between| between == (flight.from, flight.to));
            flight.message.label() == words[0] && is_there
        });
        found.unwrap_or_else(|| panic!("no such message: {words:?}"))
    }

    fn command(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "options" => {
                let _ = writeln!(self.options, "{}", &line["options".len()..]);
                return String::new();
            }
            "txn" => {
                let id = self.operations.len() as u64 + 1;
                let txn = transaction(id, &line["txn".len()..]);
                self.operations.push(operation(id as u32, txn));
                return String::new();
            }
            "begin" => {
                self.begin();
                return String::new();
            }
            _ => {}
        }
        let at = match words[0] {
            "deliver" | "lose" | "repeat" => self.find(&words[1..]),
            _ => 0,
        };
        let who = match words[0] {
            "flush" | "fail" | "crash" | "boot" => Some(self.addr(words[1])),
            _ => None,
        };
        let bench = self.bench.as_mut().expect("`begin` comes first");
        bench.log.clear();
        match (words[0], who) {
            ("fire", _) => {
                let timer = bench.next_timer().expect("a timer is set");
                bench.fire(timer);
            }
            ("deliver", _) => bench.deliver(at),
            ("lose", _) => drop(bench.flights.remove(at)),
            ("repeat", _) => bench.duplicate(at),
            ("flush", Some(who)) => bench.flush(who),
            ("fail", Some(who)) => bench.fail_flush(who, words.get(2) == Some(&"kept")),
            ("crash", Some(who)) => bench.crash_clean(who.node),
            ("boot", Some(who)) => bench.boot(who.node),
            ("settle", _) => {
                let ended = bench.settle(10_000, |bench| {
                    !bench.outcomes().is_empty() && bench.unended().is_empty()
                });
                assert!(ended, "it does not settle");
            }
            ("rows", _) => {
                for (shard, state) in bench.autopsy() {
                    let values = state.rows.values().map(|row| row.value.as_int());
                    let values: Vec<i64> = values.collect();
                    let _ = writeln!(
                        bench.log,
                        "  {shard} {values:?} in doubt {:?}",
                        state.in_doubt
                    );
                }
            }
            _ => panic!("unknown command: {line}"),
        }
        let log = bench.log.clone();
        self.with_names(&log)
    }

    fn with_names(&self, log: &str) -> String {
        let mut text = log.to_owned();
        for node in (0..self.layout.nodes).rev() {
            for port in 0..2 {
                let addr = Addr {
                    node: NodeId(node),
                    port,
                };
                text = text.replace(&addr.to_string(), &self.name(addr));
            }
        }
        text
    }
}

fn transcript<Pr: Protocol>(script: &str) -> String {
    let mut session = Session::<Pr> {
        layout: layout(3, 1, Value::Int(10)),
        options: String::new(),
        operations: Vec::new(),
        bench: None,
    };
    let mut text = String::new();
    for line in script.lines() {
        match line.trim() {
            "" => text.push('\n'),
            comment if comment.starts_with('#') => {
                let _ = writeln!(text, "{comment}");
            }
            command => {
                let output = session.command(command);
                let _ = write!(text, "> {command}\n{output}");
            }
        }
    }
    text
}

fn check(name: &str, transcript: fn(&str) -> String) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interaction");
    let script = std::fs::read_to_string(format!("{folder}/{name}.txt")).unwrap();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, transcript(&script)));
}

#[test]
fn naive_step_by_step() {
    check("naive", transcript::<Naive>);
}

#[test]
fn monolith_step_by_step() {
    check("monolith", transcript::<Monolith>);
}

#[test]
fn monolith_with_a_restart_step_by_step() {
    check("monolith_restart", transcript::<Monolith>);
}

#[test]
fn paxos_commit_step_by_step() {
    check("paxos_commit", transcript::<PaxosCommit>);
}

#[test]
fn faster_paxos_commit_step_by_step() {
    check("paxos_commit_faster", transcript::<PaxosCommit>);
}

#[test]
fn another_acceptor_takes_over_step_by_step() {
    check("paxos_commit_takeover", transcript::<PaxosCommit>);
}

#[test]
fn a_free_instance_aborts_step_by_step() {
    check("paxos_commit_free_instance", transcript::<PaxosCommit>);
}

#[test]
fn three_phase_commit_step_by_step() {
    check("three_phase", transcript::<ThreePhase>);
}

#[test]
fn an_elected_participant_commits_step_by_step() {
    check("three_phase_election", transcript::<ThreePhase>);
}

#[test]
fn three_phase_commit_splits_step_by_step() {
    check("three_phase_split", transcript::<ThreePhase>);
}

#[test]
fn two_phase_commit_step_by_step() {
    check("two_phase", transcript::<TwoPhase>);
}

#[test]
fn two_phase_commit_blocks_step_by_step() {
    check("two_phase_blocks", transcript::<TwoPhase>);
}

#[test]
fn two_phase_commit_with_a_restart_step_by_step() {
    check("two_phase_restart", transcript::<TwoPhase>);
}

#[test]
fn saga_step_by_step() {
    check("saga", transcript::<Saga>);
}

#[test]
fn percolator_step_by_step() {
    check("percolator", transcript::<Percolator>);
}

#[test]
fn percolator_with_a_crashed_coordinator_step_by_step() {
    check("percolator_crash", transcript::<Percolator>);
}

#[test]
fn ramp_step_by_step() {
    check("ramp", transcript::<Ramp>);
}

#[test]
fn ramp_with_a_crashed_coordinator_step_by_step() {
    check("ramp_termination", transcript::<Ramp>);
}

#[test]
fn xa_step_by_step() {
    check("xa", transcript::<Xa>);
}

#[test]
fn xa_in_one_phase_step_by_step() {
    check("xa_one_phase", transcript::<Xa>);
}

#[test]
fn xa_recovery_scan_step_by_step() {
    check("xa_recovery", transcript::<Xa>);
}

#[test]
fn xa_heuristic_mix_step_by_step() {
    check("xa_heuristic_mix", transcript::<Xa>);
}

#[test]
fn xa_heuristic_hazard_step_by_step() {
    check("xa_heuristic_hazard", transcript::<Xa>);
}
