//! The checks that a workload asks for by name against their definitions, executed on random small histories: all that
//! is reported is there, and all that is there is reported.

use std::collections::{BTreeMap, BTreeSet};

use ordain::check::workload::{self, Saga};
use ordain::check::{Anomaly, AnomalyKind, History, HistoryBuilder, Status};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

const HISTORIES: u64 = 20_000;

#[derive(Clone, Debug)]
enum Op {
    Write(u64, u64),
    Read(u64, Option<u64>),
    Append(u64, u64),
    ReadList(u64, Vec<u64>),
}

#[derive(Clone, Debug)]
struct Txn {
    process: u64,
    invoke: u64,
    complete: u64,
    status: Status,
    ops: Vec<Op>,
}

struct Draw(ChaCha8Rng);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        u64::from(self.0.next_u32()) % bound
    }

    fn status(&mut self) -> Status {
        match self.below(10) {
            0 => Status::Fail,
            1 => Status::Info,
            _ => Status::Ok,
        }
    }

    /// Up to seven transactions; a process runs one at a time.
    fn txns(&mut self, processes: u64, mut ops: impl FnMut(&mut Draw) -> Vec<Op>) -> Vec<Txn> {
        let mut free = BTreeMap::new();
        let count = 2 + self.below(6);
        let mut txns: Vec<Txn> = (0..count)
            .map(|_| {
                let process = self.below(processes);
                let from = free.entry(process).or_insert(0);
                let invoke = *from + self.below(6);
                let complete = invoke + self.below(6);
                *from = complete + 1;
                let (status, ops) = (self.status(), ops(self));
                Txn {
                    process,
                    invoke,
                    complete,
                    status,
                    ops,
                }
            })
            .collect();
        txns.sort_by_key(|txn| txn.invoke);
        txns
    }
}

fn history(txns: &[Txn]) -> History {
    let mut builder = HistoryBuilder::new();
    for txn in txns {
        builder.begin(txn.process, txn.invoke);
        for op in &txn.ops {
            match op {
                Op::Write(key, value) => builder.write(*key, *value),
                Op::Read(key, value) => builder.read(*key, *value),
                Op::Append(key, value) => builder.append(*key, *value),
                Op::ReadList(key, list) => builder.read_list(*key, list),
            }
        }
        let complete = (txn.status != Status::Info).then_some(txn.complete);
        builder.end(txn.status, complete);
    }
    builder.finish()
}

fn committed(txns: &[Txn]) -> impl Iterator<Item = (usize, &Txn)> {
    let all = txns.iter().enumerate();
    all.filter(|(_, txn)| txn.status == Status::Ok)
}

/// What a transaction found in a register that it had not written or read before.
fn found(txn: &Txn, key: u64) -> Option<Option<u64>> {
    txn.ops.iter().find_map(|op| match op {
        Op::Write(k, _) if *k == key => Some(None),
        Op::Read(k, value) if *k == key => Some(Some(*value)),
        _ => None,
    })?
}

fn writes(txn: &Txn, key: u64) -> bool {
    txn.ops
        .iter()
        .any(|op| matches!(op, Op::Write(k, _) if *k == key))
}

/// Runs a check on many histories; both must find something often, and nothing often.
fn compare<T: Ord + std::fmt::Debug>(
    draw: impl Fn(&mut Draw) -> Vec<Txn>,
    definition: impl Fn(&[Txn]) -> BTreeSet<T>,
    check: impl Fn(&History, &[Txn]) -> BTreeSet<T>,
) {
    let mut broken = 0;
    for seed in 0..HISTORIES {
        let txns = draw(&mut Draw(ChaCha8Rng::seed_from_u64(seed)));
        let expected = definition(&txns);
        let reported = check(&history(&txns), &txns);
        assert_eq!(reported, expected, "seed {seed}: {txns:#?}");
        broken += u64::from(!expected.is_empty());
    }
    let share = broken * 100 / HISTORIES;
    assert!((3..97).contains(&share), "{share} % show the anomaly");
}

fn transactions(anomalies: &[Anomaly], kind: AnomalyKind) -> BTreeSet<Vec<u32>> {
    let of_kind = anomalies.iter().filter(|anomaly| anomaly.kind == kind);
    of_kind
        .map(|anomaly| anomaly.transactions.clone())
        .collect()
}

#[test]
fn bank_reports_the_readers_of_all_accounts_whose_sum_is_wrong() {
    let draw = |draw: &mut Draw| {
        draw.txns(4, |draw| {
            (0..1 + draw.below(4))
                .map(|_| {
                    let key = draw.below(2);
                    match draw.below(4) {
                        0 => Op::Write(key, draw.below(4)),
                        _ => Op::Read(key, Some(2 + draw.below(2) * key)),
                    }
                })
                .collect()
        })
    };
    let definition = |txns: &[Txn]| {
        let wrong = committed(txns).filter(|(_, txn)| {
            let balances = [0, 1].map(|key| found(txn, key));
            matches!(balances, [Some(a), Some(b)] if a.unwrap_or(0) + b.unwrap_or(0) != 5)
        });
        wrong.map(|(at, _)| vec![at as u32]).collect()
    };
    compare(draw, definition, |history, _| {
        let found = workload::bank(history, &[0, 1], 5, false).anomalies;
        transactions(&found, AnomalyKind::WrongTotal)
    });
}

/// Lists with a few appends each; reads of prefixes, of other subsets now and then.
fn lists(draw: &mut Draw) -> Vec<Txn> {
    let mut next = [0, 10];
    let mut made: [Vec<u64>; 2] = [Vec::new(), Vec::new()];
    let mut txns = draw.txns(3, |draw| {
        (0..1 + draw.below(3))
            .map(|_| {
                let key = draw.below(2);
                let at = key as usize;
                if draw.below(2) > 0 {
                    return Op::ReadList(key, Vec::new());
                }
                next[at] += 1;
                made[at].push(next[at]);
                Op::Append(key, next[at])
            })
            .collect()
    });
    let damage = draw.below(3) == 0;
    for op in txns.iter_mut().flat_map(|txn| &mut txn.ops) {
        let Op::ReadList(key, list) = op else {
            continue;
        };
        *list = made[*key as usize].clone();
        list.truncate(draw.below(list.len() as u64 + 1) as usize);
        if damage && draw.below(3) == 0 && list.len() > 1 {
            let at = draw.below(list.len() as u64) as usize;
            match draw.below(2) {
                0 => drop(list.remove(at)),
                _ => list.swap(0, at),
            }
        }
    }
    txns
}

/// What a transaction found in a list before it appended to it.
fn found_list(txn: &Txn, key: u64) -> Option<&[u64]> {
    txn.ops.iter().find_map(|op| match op {
        Op::Append(k, _) if *k == key => Some(None),
        Op::ReadList(k, list) if *k == key => Some(Some(list.as_slice())),
        _ => None,
    })?
}

fn appended(txn: &Txn, key: u64) -> impl Iterator<Item = u64> {
    txn.ops.iter().filter_map(move |op| match op {
        Op::Append(k, value) if *k == key => Some(*value),
        _ => None,
    })
}

#[test]
fn fractured_reads_reports_every_reader_of_a_part_of_a_transaction() {
    let definition = |txns: &[Txn]| {
        let mut pairs = BTreeSet::new();
        for (reader, txn) in committed(txns) {
            for (writer, other) in txns.iter().enumerate().filter(|&(at, _)| at != reader) {
                let lists = [0, 1].map(|key| found_list(txn, key));
                let part = |holds: bool| {
                    [0, 1].into_iter().any(|key| {
                        let list = lists[key as usize];
                        appended(other, key)
                            .any(|value| list.is_some_and(|list| list.contains(&value) == holds))
                    })
                };
                if part(true) && part(false) {
                    pairs.insert(vec![writer as u32, reader as u32]);
                }
            }
        }
        pairs
    };
    compare(lists, definition, |history, _| {
        transactions(
            &workload::fractured_reads(history),
            AnomalyKind::FracturedRead,
        )
    });
}

#[test]
fn sagas_reports_every_foreign_read_of_what_is_not_the_sagas_last_word() {
    // Transactions 0 and 1 are steps of a saga, 2 takes them back if there are six or more; the rest are others.
    let draw = |draw: &mut Draw| {
        let mut next = 0;
        let mut txns = draw.txns(9, |draw| {
            (0..1 + draw.below(3))
                .map(|_| {
                    let key = draw.below(2);
                    if draw.below(2) > 0 {
                        return Op::Read(key, None);
                    }
                    next += 1;
                    Op::Write(key, next)
                })
                .collect()
        });
        let last = draw.below(8);
        for op in txns.iter_mut().flat_map(|txn| &mut txn.ops) {
            if let Op::Read(_, value) = op {
                *value = Some(1 + draw.below(next.max(1))).filter(|&value| value != last);
            }
        }
        txns
    };
    let saga = |txns: &[Txn]| Saga {
        steps: (0..2.min(txns.len() as u32)).collect(),
        compensations: if txns.len() > 5 { vec![2] } else { Vec::new() },
    };
    let definition = |txns: &[Txn]| {
        let saga = saga(txns);
        let members: Vec<u32> = saga
            .steps
            .iter()
            .chain(&saga.compensations)
            .copied()
            .collect();
        let mut wrong = BTreeSet::new();
        for (reader, txn) in committed(txns) {
            if members.contains(&(reader as u32)) {
                continue;
            }
            for key in 0..2 {
                let Some(Some(value)) = found(txn, key) else {
                    continue;
                };
                let wrote = |id: &&u32| {
                    let mut ops = txns[**id as usize].ops.iter();
                    ops.any(|op| matches!(op, Op::Write(k, v) if (*k, *v) == (key, value)))
                };
                let Some(&writer) = members.iter().find(wrote) else {
                    continue;
                };
                if saga.steps.contains(&writer) && !saga.compensations.is_empty() {
                    wrong.insert(("G1a", reader as u32, key));
                    if writes(txn, key) {
                        wrong.insert(("dirty-update", reader as u32, key));
                    }
                    continue;
                }
                let stands = |id: &&u32| txns[**id as usize].status != Status::Fail;
                let last = members.iter().rev().filter(stands);
                let last = last.copied().find(|&id| writes(&txns[id as usize], key));
                if last.is_some_and(|last| last != writer) {
                    wrong.insert(("G1b", reader as u32, key));
                }
            }
        }
        wrong
    };
    compare(draw, definition, |history, txns| {
        let found = workload::sagas(history, &[saga(txns)]);
        let named = found.iter().map(|anomaly| {
            let key = anomaly.key.as_deref().expect("of a key");
            let key = key.parse::<u64>().expect("a number");
            (anomaly.kind.name(), anomaly.transactions[1], key)
        });
        named.collect()
    });
}

/// Every operation of a session's transactions, as (transaction, operation), in the session's order.
fn session(txns: &[Txn], process: u64) -> Vec<(usize, &Op)> {
    let mut of_it: Vec<(usize, &Txn)> = txns.iter().enumerate().collect();
    of_it.retain(|(_, txn)| txn.process == process && txn.status != Status::Fail);
    of_it.sort_by_key(|(_, txn)| txn.invoke);
    let ops = of_it
        .into_iter()
        .flat_map(|(at, txn)| txn.ops.iter().map(move |op| (at, op)));
    ops.collect()
}

/// Terry et al., section 3, read as it stands: for each pair of operations of a session, in order, what every read
/// must show. The committed transactions' reads that do not, with the key.
fn broken_guarantees(txns: &[Txn]) -> BTreeSet<(&'static str, u32, u64)> {
    let known = |at: usize| txns[at].status == Status::Ok;
    let reads = committed(txns).flat_map(|(at, txn)| txn.ops.iter().map(move |op| (at, op)));
    let reads: Vec<(usize, u64, &Vec<u64>)> = reads
        .filter_map(|(at, op)| match op {
            Op::ReadList(key, list) => Some((at, *key, list)),
            _ => None,
        })
        .collect();
    let mut broken = BTreeSet::new();
    // Wherever `late` is seen of this key, `early` must be seen before it.
    let mut before = |name: &'static str, key: u64, early: u64, late: u64| {
        for &(reader, of, list) in &reads {
            let place = |value: u64| list.iter().position(|&v| v == value);
            let Some(at) = place(late).filter(|_| of == key && early != late) else {
                continue;
            };
            if place(early).is_none_or(|early| early > at) {
                broken.insert((name, reader as u32, key));
            }
        }
    };
    let mut of_reads = BTreeSet::new();
    for process in 0..3 {
        let ops = session(txns, process);
        for (at, &(_, earlier)) in ops.iter().enumerate().filter(|(_, op)| known(op.0)) {
            for &(second, later) in &ops[at + 1..] {
                match (earlier, later) {
                    (Op::Append(k, early), Op::Append(l, late)) if k == l => {
                        before("non-monotonic-write", *k, *early, *late);
                    }
                    (Op::ReadList(k, list), Op::Append(l, late)) if k == l => {
                        for &early in list {
                            before("writes-follow-reads-violation", *k, early, *late);
                        }
                    }
                    (Op::Append(k, early), Op::ReadList(l, list))
                        if k == l && known(second) && !list.contains(early) =>
                    {
                        of_reads.insert(("read-your-writes-violation", second as u32, *k));
                    }
                    (Op::ReadList(k, old), Op::ReadList(l, new))
                        if k == l && known(second) && !new.starts_with(old) =>
                    {
                        of_reads.insert(("non-monotonic-read", second as u32, *k));
                    }
                    _ => {}
                }
            }
        }
    }
    broken.extend(of_reads);
    broken
}

#[test]
fn sessions_reports_every_read_that_breaks_a_guarantee_and_no_other() {
    let compare_kind = |kind: AnomalyKind| {
        compare(
            lists,
            |txns| {
                let mut broken = broken_guarantees(txns);
                broken.retain(|&(name, ..)| name == kind.name());
                broken
            },
            |history, _| {
                let mut found = workload::sessions(history);
                found.retain(|anomaly| anomaly.kind == kind);
                let count = found.len();
                let named = found.iter().map(|anomaly| {
                    let key = anomaly.key.as_deref().expect("of a key");
                    let key = key.parse::<u64>().expect("a number");
                    (anomaly.kind.name(), anomaly.transactions[0], key)
                });
                let named: BTreeSet<_> = named.collect();
                assert_eq!(named.len(), count, "a report is repeated");
                named
            },
        );
    };
    compare_kind(AnomalyKind::NonMonotonicRead);
    compare_kind(AnomalyKind::ReadYourWritesViolation);
    compare_kind(AnomalyKind::NonMonotonicWrite);
    compare_kind(AnomalyKind::WritesFollowReadsViolation);
}

/// Two registers, mostly written once; reads of any value that was written, or of the initial state.
fn registers(draw: &mut Draw) -> Vec<Txn> {
    let (mut next, mut written) = (0, [false; 2]);
    let mut txns = draw.txns(6, |draw| {
        let first = draw.below(2);
        [first, 1 - first]
            .into_iter()
            .filter_map(|key| {
                let again = written[key as usize];
                if draw.below(if again { 12 } else { 3 }) > 0 {
                    return (again || draw.below(2) > 0).then_some(Op::Read(key, None));
                }
                written[key as usize] = true;
                next += 1;
                Some(Op::Write(key, next))
            })
            .collect()
    });
    let written: Vec<(u64, u64)> = txns
        .iter()
        .flat_map(|txn| &txn.ops)
        .filter_map(|op| match op {
            Op::Write(key, value) => Some((*key, *value)),
            _ => None,
        })
        .collect();
    for op in txns.iter_mut().flat_map(|txn| &mut txn.ops) {
        let Op::Read(key, value) = op else {
            continue;
        };
        let of_key: Vec<u64> = written
            .iter()
            .filter(|(k, _)| k == key)
            .map(|&(_, value)| value)
            .collect();
        let drawn = draw.below(of_key.len() as u64 * 2 + 1) as usize;
        *value = of_key.get(drawn).copied();
    }
    txns
}

/// The one transaction that wrote a register, but for those that aborted.
fn only_writer(txns: &[Txn], key: u64) -> Option<usize> {
    let mut writers = txns.iter().enumerate();
    let mut wrote = writers
        .by_ref()
        .filter(|(_, txn)| txn.status != Status::Fail && writes(txn, key));
    let first = wrote.next()?.0;
    wrote.next().is_none().then_some(first)
}

/// Did a transaction, another than the writer, see the only write of a register (true), or the initial state (false)?
fn saw(txns: &[Txn], reader: usize, key: u64) -> Option<(bool, usize)> {
    let writer = only_writer(txns, key).filter(|&writer| writer != reader)?;
    match found(&txns[reader], key)? {
        None => Some((false, writer)),
        Some(value) => {
            let mut ops = txns[writer].ops.iter();
            let it = ops.any(|op| matches!(op, Op::Write(k, v) if (*k, *v) == (key, value)));
            it.then_some((true, writer))
        }
    }
}

/// The readers, with the writers, who saw the first key's only write and not the second's.
fn saw_one_of(txns: &[Txn], seen: u64, unseen: u64) -> Vec<(u32, u32, u32)> {
    let readers = committed(txns).filter_map(|(reader, _)| {
        match (saw(txns, reader, seen)?, saw(txns, reader, unseen)?) {
            ((true, one), (false, other)) => Some((reader as u32, one as u32, other as u32)),
            _ => None,
        }
    });
    readers.collect()
}

#[test]
fn long_fork_reports_two_keys_that_two_readers_saw_in_opposite_orders() {
    // All the ways to show that the two are forked.
    let forks = |txns: &[Txn]| -> BTreeSet<BTreeSet<u32>> {
        let (one, other) = (saw_one_of(txns, 0, 1), saw_one_of(txns, 1, 0));
        let both = one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
        both.map(|(a, b)| BTreeSet::from([a.0, b.0, a.1, a.2]))
            .collect()
    };
    compare(
        registers,
        |txns| BTreeSet::from_iter(forks(txns).pop_first().map(|_| "forked")),
        |history, txns| {
            let ways = forks(txns);
            let found = workload::long_fork(history);
            let reports = found.iter().map(|anomaly| {
                let shown: BTreeSet<u32> = anomaly.transactions.iter().copied().collect();
                assert!(ways.contains(&shown), "{anomaly:?}");
                "forked"
            });
            reports.collect()
        },
    );
}

#[test]
fn causal_reverse_reports_every_reader_of_a_write_and_not_of_one_that_had_completed_before_it() {
    let definition = |txns: &[Txn]| {
        let pairs = (0..2).flat_map(|x| (0..2).map(move |y| (x, y)));
        let ways = pairs.flat_map(|(seen, unseen)| saw_one_of(txns, seen, unseen));
        let reversed = ways.filter(|&(_, late, early)| {
            let early = &txns[early as usize];
            early.status == Status::Ok && early.complete < txns[late as usize].invoke
        });
        reversed
            .map(|(reader, late, early)| (reader, early, late))
            .collect::<BTreeSet<_>>()
    };
    let readers = |txns: &[Txn]| definition(txns).iter().map(|way| way.0).collect();
    compare(registers, readers, |history, txns| {
        let found = workload::causal_reverse(history);
        let ways = definition(txns);
        let shown = found.iter().map(|anomaly| {
            let [early, late, reader] = anomaly.transactions[..] else {
                panic!("three transactions: {anomaly:?}")
            };
            assert!(ways.contains(&(reader, early, late)), "{anomaly:?}");
            reader
        });
        shown.collect()
    });
}
