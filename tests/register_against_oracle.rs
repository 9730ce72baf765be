//! The register checker and the brute-force oracle agree, both ways, on every model that both decide.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::oracle::convert::{to_history, to_model};
use crate::oracle::generate::{self, Kind};
use crate::oracle::{MODELS, Model, Op, Status, Txn, admits};
use ordain::check::register::{Level, Stage, decide};
use ordain::check::{AnomalyKind, Options, Verdict, register};
use rayon::prelude::*;

const HISTORIES: u64 = 120_000;
const STEPS_MAX: u64 = 1_000_000;

fn level(model: Model) -> Level {
    let model = to_model(model);
    *Level::ALL
        .iter()
        .find(|level| level.model() == model)
        .expect("all six")
}

/// How often each stage decided, by model and verdict.
type Tally = BTreeMap<(usize, bool, Stage), u64>;

fn compare(seed: u64) -> Tally {
    let txns = generate::history(Kind::Registers, seed);
    let history = to_history(&txns);
    let mut tally = Tally::new();
    for (at, &model) in MODELS.iter().enumerate() {
        let expected = admits(model, &txns);
        let found = decide(&history, level(model), STEPS_MAX);
        let verdict = if expected {
            Verdict::Valid
        } else {
            Verdict::Invalid
        };
        assert_eq!(
            found.verdict, verdict,
            "seed {seed}, {model:?}: {found:?}\n{txns:#?}"
        );
        *tally.entry((at, expected, found.stage)).or_default() += 1;
    }
    tally
}

#[test]
fn every_verdict_agrees_with_the_oracle_and_inference_alone_would_not_do() {
    let tally = (0..HISTORIES)
        .into_par_iter()
        .map(compare)
        .reduce(Tally::new, |mut sum, other| {
            for (key, count) in other {
                *sum.entry(key).or_default() += count;
            }
            sum
        });
    let count = |at, valid, stage| tally.get(&(at, valid, stage)).copied().unwrap_or(0);
    let stages = [
        Stage::Direct,
        Stage::Inference,
        Stage::Schedule,
        Stage::Propagation,
        Stage::Search,
    ];
    let mut table = format!(
        "{HISTORIES} random register histories of 2 to 6 transactions, seeds from 0.\n\
         For each verdict, the stage that decided it: an operation that no model allows, the edges inferred\n\
         from reads and time, the first guess at an order, the choices that are forced, the search. Recall: the share of the invalid\n\
         histories without such an operation that inference finds: a checker without the exact part has no\n\
         more, and calls the rest valid.\n\n\
         {:<32}{:>8}{:>10}{:>10}{:>10}{:>8}{:>9}{:>10}{:>10}{:>8}{:>9}\n",
        "model",
        "invalid",
        "direct",
        "inferred",
        "forced",
        "search",
        "recall",
        "valid",
        "guessed",
        "forced",
        "search"
    );
    for (at, &model) in MODELS.iter().enumerate() {
        let invalid = stages.map(|stage| count(at, false, stage));
        let valid = stages.map(|stage| count(at, true, stage));
        let all = invalid.iter().sum::<u64>();
        assert!(
            all > HISTORIES / 20 && valid.iter().sum::<u64>() > HISTORIES / 20,
            "{model:?}"
        );
        writeln!(
            table,
            "{:<32}{:>8}{:>10}{:>10}{:>10}{:>8}{:>8.2}%{:>10}{:>10}{:>8}{:>9}",
            to_model(model).name(),
            all,
            invalid[0],
            invalid[1],
            invalid[3],
            invalid[4],
            100.0 * invalid[1] as f64 / (all - invalid[0]) as f64,
            valid.iter().sum::<u64>(),
            valid[2],
            valid[3],
            valid[4],
        )
        .expect("a string takes all");
    }
    insta::assert_snapshot!("register_recall", table);
}

/// The part of a history that a counterexample names. Reads of values whose writer may be left out go too.
fn restrict(txns: &[Txn], kept: &[u32]) -> Vec<Txn> {
    let left_out: Vec<(u32, i64)> = (0..txns.len() as u32)
        .filter(|id| !kept.contains(id) && txns[*id as usize].status != Status::Fail)
        .flat_map(|id| last_writes(&txns[id as usize]))
        .collect();
    let part = kept.iter().map(|&id| {
        let mut txn = txns[id as usize].clone();
        let mut own = Vec::new();
        txn.ops.retain(|op| match op {
            Op::Write(key, _) => {
                own.push(*key);
                true
            }
            Op::Read(key, Some(value)) => own.contains(key) || !left_out.contains(&(*key, *value)),
            _ => true,
        });
        txn
    });
    part.collect()
}

fn last_writes(txn: &Txn) -> BTreeMap<u32, i64> {
    let writes = txn.ops.iter().filter_map(|op| match op {
        Op::Write(key, value) => Some((*key, *value)),
        _ => None,
    });
    writes.collect()
}

/// Whether an indeterminate transaction's reads may say that it did not commit: `restrict` does not ask.
fn has_telling_reads(txns: &[Txn]) -> bool {
    let mut open = txns.iter().filter(|txn| txn.status == Status::Info);
    open.any(|txn| txn.ops.iter().any(|op| matches!(op, Op::Read(..))))
}

#[test]
fn a_counterexample_fails_by_itself_and_one_found_by_search_needs_all_of_it() {
    let mut by_search = 0;
    for seed in 0..6_000 {
        let txns = generate::history(Kind::Registers, seed);
        if has_telling_reads(&txns) {
            continue;
        }
        let history = to_history(&txns);
        for model in MODELS {
            let report = register::check(&history, &Options::new(to_model(model)));
            let verdict = if admits(model, &txns) {
                Verdict::Valid
            } else {
                Verdict::Invalid
            };
            assert_eq!(report.verdict, verdict, "seed {seed} {model:?} {report:#?}");
            for anomaly in &report.anomalies {
                let levels = MODELS
                    .iter()
                    .filter(|m| to_model(**m).forbids(anomaly.kind));
                let part = if anomaly.kind == AnomalyKind::Internal {
                    anomaly
                        .transactions
                        .iter()
                        .map(|&id| txns[id as usize].clone())
                        .collect()
                } else {
                    restrict(&txns, &anomaly.transactions)
                };
                let broken: Vec<Model> = levels.copied().collect();
                assert!(!broken.is_empty(), "{anomaly:?}");
                for &level in &broken {
                    assert!(
                        !admits(level, &part),
                        "seed {seed} {level:?} {anomaly:#?}\n{part:#?}"
                    );
                }
                if anomaly.kind.name().starts_with("no-") && anomaly.cycle.is_empty() {
                    by_search += 1;
                    let weakest = broken
                        .into_iter()
                        .find(|&m| level_name(m) == anomaly.kind.name());
                    assert_each_is_needed(
                        weakest.expect("its own level"),
                        &txns,
                        &anomaly.transactions,
                    );
                }
            }
        }
    }
    assert!(by_search > 100, "{by_search}");
}

fn level_name(model: Model) -> &'static str {
    match model {
        Model::Serializable => "no-serial-order",
        Model::StrongSessionSerializable => "no-strong-session-serial-order",
        Model::StrictSerializable => "no-strict-serial-order",
        Model::SnapshotIsolation => "no-snapshot-isolated-order",
        Model::StrongSessionSnapshotIsolation => "no-strong-session-snapshot-isolated-order",
        Model::StrongSnapshotIsolation => "no-strong-snapshot-isolated-order",
    }
}

fn assert_each_is_needed(model: Model, txns: &[Txn], needed: &[u32]) {
    for spared in needed {
        let rest: Vec<u32> = needed.iter().copied().filter(|id| id != spared).collect();
        assert!(
            admits(model, &restrict(txns, &rest)),
            "T{spared} can be spared: {txns:#?}"
        );
    }
}
