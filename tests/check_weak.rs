//! Monotonic atomic view of registers against its axiom executed: every order of the transactions.
//! `ORDAIN_ORACLE_CASES` says how many random histories.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::convert::to_history;
use crate::oracle::{self, Op, Outcome, Status, Txn};
use ordain::check::{Model, Options, Verdict, check};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Registers written once with each value, and read again and again.
fn draw(seed: u64) -> Vec<Txn> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |n: u64| random.next_u64() % n;
    let mut values = BTreeMap::<u32, Vec<i64>>::new();
    let count = 2 + below(4);
    let mut txns: Vec<Txn> = Vec::new();
    for process in 0..count as u32 {
        let mut ops = Vec::new();
        for _ in 0..1 + below(4) {
            let key = below(3) as u32;
            match below(2) {
                0 => {
                    let of_key = values.entry(key).or_default();
                    of_key.push(10 * i64::from(key) + 1 + of_key.len() as i64);
                    ops.push(Op::Write(key, of_key[of_key.len() - 1]));
                }
                _ => ops.push(Op::Read(key, None)),
            }
        }
        txns.push(Txn {
            process,
            invoke: 0,
            complete: 100,
            status: match below(10) {
                0 => Status::Fail,
                1 => Status::Info,
                _ => Status::Ok,
            },
            ops,
        });
    }
    for txn in &mut txns {
        let is_ok = txn.status == Status::Ok;
        let mut own = BTreeMap::new();
        txn.ops.retain(|op| is_ok || !matches!(op, Op::Read(..)));
        for op in &mut txn.ops {
            match op {
                Op::Write(key, value) => drop(own.insert(*key, *value)),
                Op::Read(key, value) => {
                    let of_key = values.get(key).map_or(&[][..], Vec::as_slice);
                    let drawn = below(of_key.len() as u64 + 1) as usize;
                    *value = match own.get(key).filter(|_| below(20) > 0) {
                        Some(own) => Some(*own),
                        None => of_key.get(drawn).copied(),
                    };
                }
                _ => unreachable!("registers"),
            }
        }
    }
    txns
}

/// What a transaction left in a register.
fn left(txn: &Txn, key: u32) -> Option<i64> {
    txn.ops.iter().rev().find_map(|op| match op {
        Op::Write(of, value) if *of == key => Some(*value),
        _ => None,
    })
}

/// Reads of others in program order: the register, and the place of whoever left it in the order; none for the initial state. None at
/// all if some read has no source before the reader.
fn sources(order: &[&Txn], reader: usize) -> Option<Vec<(u32, Option<usize>)>> {
    let mut own = BTreeSet::new();
    let mut reads = Vec::new();
    for op in &order[reader].ops {
        match *op {
            Op::Write(key, _) => drop(own.insert(key)),
            Op::Read(key, _) if own.contains(&key) => {}
            Op::Read(key, None) => reads.push((key, None)),
            Op::Read(key, Some(value)) => {
                let mut before = (0..reader).filter(|&at| left(order[at], key) == Some(value));
                reads.push((key, Some(before.next()?)));
            }
            _ => unreachable!("registers"),
        }
    }
    Some(reads)
}

/// Is the order of commits one that the axiom allows?
fn allows(order: &[&Txn]) -> bool {
    (0..order.len()).all(|reader| {
        let Some(reads) = sources(order, reader) else {
            return false;
        };
        (0..reads.len()).all(|at| {
            let (key, source) = reads[at];
            let mut seen = reads[..at].iter().filter_map(|&(_, source)| source);
            // Whoever wrote the register and had been read from is the older.
            seen.all(|seen| {
                left(order[seen], key).is_none()
                    || Some(seen) == source
                    || source.is_some_and(|source| seen < source)
            })
        })
    })
}

fn some_order(chosen: &mut Vec<&'static Txn>, left: &[&'static Txn]) -> bool {
    if left.is_empty() {
        return allows(chosen);
    }
    (0..left.len()).any(|at| {
        let mut rest = left.to_vec();
        chosen.push(rest.remove(at));
        let found = some_order(chosen, &rest);
        chosen.pop();
        found
    })
}

fn expected(txns: &[Txn]) -> bool {
    // Leaked: a test ends with its process.
    let txns: &'static [Txn] = txns.to_vec().leak();
    let certain = || txns.iter().filter(|txn| txn.status == Status::Ok);
    let maybe: Vec<&Txn> = txns
        .iter()
        .filter(|txn| txn.status == Status::Info)
        .collect();
    (0..1u32 << maybe.len()).any(|bits| {
        let picked = (0..maybe.len()).filter(|at| bits >> at & 1 == 1);
        let world: Vec<&Txn> = certain().chain(picked.map(|at| maybe[at])).collect();
        some_order(&mut Vec::new(), &world)
    })
}

#[test]
fn monotonic_atomic_view_of_registers_is_its_axiom() {
    let asked = std::env::var("ORDAIN_ORACLE_CASES").ok();
    let count = asked.map_or(4_000, |text| text.parse().expect("a number of cases"));
    let tally: BTreeMap<(bool, bool), u64> = oracle::assert_agreement(0..count, |seed| {
        let txns = draw(seed);
        let history = to_history(&txns);
        let verdict = |model| check(&history, &Options::new(model)).verdict;
        let expected = expected(&txns);
        let found = verdict(Model::MonotonicAtomicView);
        let right = match expected {
            true => Verdict::Valid,
            false => Verdict::Invalid,
        };
        let mut outcome = Outcome::default();
        if found != right {
            outcome.1.push(format!(
                "seed {seed}: by the axiom {expected}, we say {found:?}\n{txns:#?}"
            ));
        }
        let committed = verdict(Model::ReadCommitted) == Verdict::Valid;
        *outcome.0.entry((expected, committed)).or_default() += 1;
        outcome
    });
    for wanted in [(true, true), (false, true), (false, false)] {
        assert!(
            tally.get(&wanted).is_some_and(|&seen| seen > count / 50),
            "{tally:?}"
        );
    }
}
