//! Models with sessions against definitions executed: read atomicity, causal consistency and prefix consistency against their axioms,
//! session guarantees of registers against every order of versions. `ORDAIN_ORACLE_CASES` says how many histories of each kind.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::axioms::{Axiomatic, is_execution, is_execution_in_sessions};
use crate::oracle::convert::to_history;
use crate::oracle::generate::{self, Kind};
use crate::oracle::{self, Op, Outcome, Status, Txn};
use ordain::check::{Model, Options, Verdict, check};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Seeds from here on belong to this test.
const FIRST_SEED: u64 = 6_000_000;

fn cases(default: u64) -> u64 {
    let asked = std::env::var("ORDAIN_ORACLE_CASES").ok();
    asked.map_or(default, |text| text.parse().expect("a number of cases"))
}

const WITH_SESSIONS: [(Axiomatic, Model); 3] = [
    (Axiomatic::ReadAtomic, Model::ReadAtomic),
    (Axiomatic::CausalConsistency, Model::CausalConsistency),
    (Axiomatic::Prefix, Model::Prefix),
];

fn values_are_unique(txns: &[Txn]) -> bool {
    let mut seen = BTreeSet::new();
    let mut ops = txns.iter().flat_map(|txn| &txn.ops);
    ops.all(|op| match op {
        Op::Write(key, value) => seen.insert((*key, *value)),
        _ => true,
    })
}

/// By model: whether sessions make the difference, and what was said.
type Compared = (usize, bool, Said);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Said {
    Valid,
    Invalid,
    Open,
}

fn compare(kind: Kind, seed: u64, txns: &[Txn]) -> Outcome<Compared> {
    let history = to_history(txns);
    let mut outcome = Outcome::default();
    for (at, &(axioms, model)) in WITH_SESSIONS.iter().enumerate() {
        let report = check(&history, &Options::new(model));
        let expected = is_execution_in_sessions(axioms, txns);
        let said = match report.verdict {
            Verdict::Valid => Said::Valid,
            Verdict::Invalid => Said::Invalid,
            Verdict::Unknown => Said::Open,
        };
        let exact = kind == Kind::Lists || kind == Kind::Registers && values_are_unique(txns);
        let right = match said {
            Said::Valid => expected,
            Said::Invalid => !expected,
            Said::Open => !exact,
        };
        if !right {
            outcome.1.push(format!(
                "seed {seed}, {model}: by its axioms {expected}, we say {said:?}: {:?} {:?}\n{txns:#?}",
                report.counts, report.notes
            ));
        }
        let differs = expected != is_execution(axioms, txns);
        *outcome.0.entry((at, differs, said)).or_default() += 1;
    }
    outcome
}

fn assert_agreement(kind: Kind, sighted: bool) {
    let count = cases(2_500);
    let tally: BTreeMap<Compared, u64> =
        oracle::assert_agreement(FIRST_SEED..FIRST_SEED + count, |seed| {
            let txns = match sighted {
                true => generate::sighted(kind, seed),
                false => generate::history(kind, seed),
            };
            compare(kind, seed, &txns)
        });
    for at in 0..WITH_SESSIONS.len() {
        let number = |wanted: fn(&Compared) -> bool| {
            let counted = tally.iter().filter(|(key, _)| key.0 == at && wanted(key));
            counted.map(|(_, count)| count).sum::<u64>()
        };
        let few = count / 100;
        assert!(number(|key| key.2 == Said::Valid) > few, "{tally:?}");
        // Only because a session must see its own past.
        assert!(
            number(|key| key.1 && key.2 == Said::Invalid) > few,
            "{tally:?}"
        );
    }
}

#[test]
fn on_lists_models_with_sessions_are_their_axioms() {
    assert_agreement(Kind::Lists, false);
    assert_agreement(Kind::Lists, true);
}

#[test]
fn on_registers_models_with_sessions_are_their_axioms() {
    assert_agreement(Kind::Registers, false);
    assert_agreement(Kind::Registers, true);
}

#[test]
fn on_lists_beside_registers_nothing_false_is_said_of_models_with_sessions() {
    assert_agreement(Kind::Mixed, true);
}

/// What a guarantee demands of two operations of one session on one register, the first before the second: that the
/// version of the second is not older (false) or newer (true) than that of the first.
fn demand(guarantee: Model, first: &Op, second: &Op, first_is_certain: bool) -> Option<bool> {
    match (guarantee, first, second) {
        (Model::MonotonicReads, Op::Read(..), Op::Read(..)) => Some(false),
        (Model::ReadYourWrites, Op::Write(..), Op::Read(..)) if first_is_certain => Some(false),
        (Model::WritesFollowReads, Op::Read(..), Op::Write(..)) => Some(true),
        _ => None,
    }
}

fn version(op: &Op) -> (u32, Option<i64>) {
    match op {
        Op::Write(key, value) => (*key, Some(*value)),
        Op::Read(key, value) => (*key, *value),
        _ => unreachable!("there are registers only"),
    }
}

/// Whether each register has an order of its versions, the initial one first, that meets all demands.
fn guarantee_holds(guarantee: Model, txns: &[Txn]) -> bool {
    let mut order: Vec<&Txn> = txns
        .iter()
        .filter(|txn| txn.status != Status::Fail)
        .collect();
    order.sort_by_key(|txn| txn.invoke);
    // What a client was not told is no read of its session.
    let ops: Vec<(&Txn, &Op)> = (order.iter())
        .flat_map(|txn| txn.ops.iter().map(move |op| (*txn, op)))
        .filter(|(txn, op)| txn.status == Status::Ok || matches!(op, Op::Write(..)))
        .collect();
    let mut demands = BTreeMap::<u32, Vec<(Option<i64>, Option<i64>, bool)>>::new();
    for (at, (first, one)) in ops.iter().enumerate() {
        for (second, other) in &ops[at + 1..] {
            let ((key, before), (same, after)) = (version(one), version(other));
            if first.process != second.process || key != same {
                continue;
            }
            let certain = first.status == Status::Ok;
            if let Some(newer) = demand(guarantee, one, other, certain) {
                demands.entry(key).or_default().push((before, after, newer));
            }
        }
    }
    demands.values().all(|demands| {
        let versions = demands.iter().flat_map(|&(a, b, _)| [a, b]).flatten();
        let versions: BTreeSet<i64> = versions.collect();
        orders(&versions.into_iter().collect::<Vec<_>>())
            .iter()
            .any(|order| {
                let place = |version: Option<i64>| {
                    version.map_or(0, |v| {
                        1 + order.iter().position(|&o| o == v).expect("a version")
                    })
                };
                demands.iter().all(|&(before, after, newer)| match newer {
                    // Reading one's own later write needs no other version.
                    true => place(after) > place(before) || before == after,
                    false => place(after) >= place(before),
                })
            })
    })
}

fn orders(values: &[i64]) -> Vec<Vec<i64>> {
    if values.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, &first) in values.iter().enumerate() {
        let mut rest = values.to_vec();
        rest.remove(at);
        for mut order in orders(&rest) {
            order.insert(0, first);
            all.push(order);
        }
    }
    all
}

/// Two or three sessions of single operations on one register, whose reads return anything.
fn random_sessions(seed: u64) -> Vec<Txn> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |bound: u64| u64::from(rng.next_u32()) % bound;
    let count = 3 + below(6);
    let writes = 2 + below(2) as i64;
    let mut unwritten: Vec<i64> = (1..=writes).collect();
    (0..count)
        .map(|at| {
            let process = below(2) as u32;
            let ops = match (below(2), unwritten.pop()) {
                (0, Some(value)) => vec![Op::Write(7, value)],
                (_, kept) => {
                    unwritten.extend(kept);
                    let value = below(1 + writes as u64) as i64;
                    vec![Op::Read(7, Some(value).filter(|&value| value > 0))]
                }
            };
            let is_read = matches!(ops[0], Op::Read(..));
            Txn {
                process,
                invoke: 10 * at,
                complete: 10 * at + 5,
                status: match below(10) {
                    0 if !is_read => Status::Info,
                    1 => Status::Fail,
                    _ => Status::Ok,
                },
                ops,
            }
        })
        .collect()
}

#[test]
fn session_guarantees_of_registers_hold_exactly_if_an_order_of_versions_meets_them() {
    let guarantees = [
        Model::MonotonicReads,
        Model::ReadYourWrites,
        Model::WritesFollowReads,
    ];
    let count = cases(5_000);
    let tally = oracle::assert_agreement(FIRST_SEED..FIRST_SEED + count, |seed| {
        let txns = match seed % 2 {
            0 => generate::sighted(Kind::Registers, seed),
            _ => random_sessions(seed),
        };
        let mut outcome: Outcome<(usize, bool)> = Outcome::default();
        if !values_are_unique(&txns) {
            return outcome;
        }
        for (at, &model) in guarantees.iter().enumerate() {
            let verdict = check(&to_history(&txns), &Options::new(model)).verdict;
            let expected = guarantee_holds(model, &txns);
            let said = match verdict {
                Verdict::Valid => Some(true),
                Verdict::Invalid => Some(false),
                Verdict::Unknown => None,
            };
            if said != Some(expected) {
                outcome.1.push(format!(
                    "seed {seed}, {model}: {expected}, we say {said:?}\n{txns:#?}"
                ));
            }
            *outcome.0.entry((at, expected)).or_default() += 1;
        }
        outcome
    });
    for at in 0..guarantees.len() {
        let both = [true, false].map(|holds| tally.get(&(at, holds)).copied().unwrap_or(0));
        assert!(both.iter().all(|&n| n > count / 500), "{tally:?}");
    }
}
