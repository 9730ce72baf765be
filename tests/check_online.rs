//! The checker that runs along stops where the checker of whole histories first says invalid, event by event,
//! whether or not it drops the past; and what it holds does not grow with a valid history.

use crate::histories::{self, Spec};
use crate::oracle::generate::{self, Kind};
use crate::oracle::{Op, Status, Txn};
use ordain::check::online::{Action, Online, Stop, TimeOrder};
use ordain::check::{self, HistoryBuilder, Model, Options, Verdict, check};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

const ORDERS: [(TimeOrder, Model); 3] = [
    (TimeOrder::Free, Model::Serializable),
    (TimeOrder::Session, Model::StrongSessionSerializable),
    (TimeOrder::Realtime, Model::StrictSerializable),
];

/// One thing that happens, to the transaction of this index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum What {
    Invoke(usize),
    /// A version comes to stand: key and value.
    Version(u32, i64),
    Complete(usize),
}

type Event = (u64, What);

/// Invocations and completions in the order of their instants.
fn events(txns: &[Txn]) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for (at, txn) in txns.iter().enumerate() {
        events.push((txn.invoke, What::Invoke(at)));
        events.push((txn.complete, What::Complete(at)));
    }
    events.sort_unstable();
    events
}

fn is_write(op: &Op) -> bool {
    matches!(op, Op::Write(..) | Op::Append(..))
}

fn writes(txn: &Txn) -> Vec<(u64, u64)> {
    let writes = txn.ops.iter().filter_map(|op| match *op {
        Op::Write(key, value) | Op::Append(key, value) => Some((u64::from(key), value as u64)),
        _ => None,
    });
    writes.collect()
}

fn feed(online: &mut Online, txns: &[Txn], (at, what): Event) -> Result<(), Stop> {
    match what {
        What::Invoke(txn) => {
            let process = u64::from(txns[txn].process);
            online.invoke(at, txn as u64, process, &writes(&txns[txn]))
        }
        What::Version(key, value) => online.version(u64::from(key), value as u64),
        What::Complete(txn) => {
            let status = match txns[txn].status {
                Status::Ok => check::Status::Ok,
                Status::Fail => check::Status::Fail,
                Status::Info => check::Status::Info,
            };
            let lists: Vec<Vec<u64>> = txns[txn]
                .ops
                .iter()
                .map(|op| match op {
                    Op::ReadList(_, list) => list.iter().map(|&v| v as u64).collect(),
                    _ => Vec::new(),
                })
                .collect();
            let actions = txns[txn]
                .ops
                .iter()
                .zip(&lists)
                .map(|(op, list)| match *op {
                    Op::Write(key, value) => Action::Write {
                        key: u64::from(key),
                        value: value as u64,
                    },
                    Op::Read(key, value) => Action::Read {
                        key: u64::from(key),
                        value: value.map(|v| v as u64),
                    },
                    Op::Append(key, value) => Action::Append {
                        key: u64::from(key),
                        value: value as u64,
                    },
                    Op::ReadList(key, _) => Action::ReadList {
                        key: u64::from(key),
                        list,
                    },
                });
            online.complete(at, txn as u64, status, &actions.collect::<Vec<_>>())
        }
    }
}

/// How many events the online checker accepts, and the checker of whole histories, prefix by prefix.
fn stops(txns: &[Txn], events: &[Event], order: usize, slack: usize) -> (usize, Option<Stop>) {
    let mut online = Online::new(ORDERS[order].0).with_slack(slack);
    for (at, event) in events.iter().enumerate() {
        if let Err(stop) = feed(&mut online, txns, *event) {
            return (at, Some(stop));
        }
    }
    (events.len(), None)
}

fn offline_stops(txns: &[Txn], events: &[Event], order: usize) -> usize {
    let valid = |count: &usize| verdict(txns, &events[..*count], order) != Verdict::Invalid;
    (1..=events.len()).take_while(valid).count()
}

/// The verdict on what happened so far: a transaction under way is indeterminate.
fn verdict(txns: &[Txn], so_far: &[Event], order: usize) -> Verdict {
    let happened = |what: What| so_far.iter().any(|&(_, event)| event == what);
    let mut builder = HistoryBuilder::new();
    for (at, txn) in txns.iter().enumerate() {
        if !happened(What::Invoke(at)) {
            continue;
        }
        let status = match happened(What::Complete(at)) {
            true => txn.status,
            false => Status::Info,
        };
        builder.begin(u64::from(txn.process), txn.invoke);
        for op in &txn.ops {
            let (Op::Write(key, _) | Op::Append(key, _) | Op::Read(key, _) | Op::ReadList(key, _)) =
                op;
            let key = u64::from(*key);
            match op {
                op if status != Status::Ok && !is_write(op) => builder.read_unknown(key),
                Op::Write(_, value) => builder.write(key, *value as u64),
                Op::Read(_, value) => builder.read(key, value.map(|v| v as u64)),
                Op::Append(_, value) => builder.append(key, *value as u64),
                Op::ReadList(_, list) => {
                    let list: Vec<u64> = list.iter().map(|&v| v as u64).collect();
                    builder.read_list(key, &list);
                }
            }
        }
        match status {
            Status::Ok => builder.end(check::Status::Ok, Some(txn.complete)),
            Status::Fail => builder.end(check::Status::Fail, Some(txn.complete)),
            Status::Info => builder.end(check::Status::Info, None),
        }
    }
    for key in 0..4 {
        let order = so_far.iter().filter_map(|&(_, what)| match what {
            What::Version(of, value) if of == key => Some(value as u64),
            _ => None,
        });
        let order: Vec<u64> = order.collect();
        if !order.is_empty() {
            builder.version_order(u64::from(key), &order);
        }
    }
    check(&builder.finish(), &Options::new(ORDERS[order].1)).verdict
}

fn assert_same(seed: u64, txns: &[Txn], events: &[Event]) -> [bool; 3] {
    [0, 1, 2].map(|order| {
        let expected = offline_stops(txns, events, order);
        for slack in [0, 1_000_000] {
            let (found, stop) = stops(txns, events, order, slack);
            assert_eq!(
                found, expected,
                "seed {seed}, {:?}, slack {slack}: of {events:?}\n{stop:?}\n{txns:#?}",
                ORDERS[order]
            );
            assert!(stop.is_none_or(|stop| stop.kind.is_some()));
        }
        expected == events.len()
    })
}

fn assert_balanced(valid: &[[bool; 3]]) {
    for order in 0..3 {
        let count = valid.iter().filter(|valid| valid[order]).count();
        assert!(
            count > valid.len() / 20 && count < valid.len() * 19 / 20,
            "{:?}: {count} of {} valid",
            ORDERS[order],
            valid.len()
        );
    }
}

#[test]
fn on_lists_it_stops_at_the_first_invalid_prefix() {
    let valid: Vec<[bool; 3]> = (2_000_000..2_020_000)
        .into_par_iter()
        .map(|seed| {
            let txns = generate::history(Kind::Lists, seed);
            assert_same(seed, &txns, &events(&txns))
        })
        .collect();
    assert_balanced(&valid);
}

/// Registers whose versions are told as they come to stand: transactions commit at instants of their own, an
/// indeterminate one perhaps never or late; then a read or two is damaged.
fn told(seed: u64) -> (Vec<Txn>, Vec<Event>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut below = move |bound: u64| u64::from(rng.next_u32()) % bound;
    let count = 3 + below(5) as usize;
    let keys = 1 + below(3) as u32;
    let mut txns: Vec<Txn> = Vec::new();
    let mut commits: Vec<(u64, usize)> = Vec::new();
    for at in 0..count {
        let invoke = 4 * below(20);
        let complete = invoke + 4 + 4 * below(6);
        let status = match below(10) {
            0 => Status::Fail,
            1 | 2 => Status::Info,
            _ => Status::Ok,
        };
        let late = match status {
            Status::Ok => 0,
            _ => below(40),
        };
        // Between the instants of invocations and completions.
        let commit = invoke + 1 + below(complete - invoke - 1) + late;
        if status == Status::Ok || status == Status::Info && below(3) > 0 {
            commits.push((commit, at));
        }
        let mut written: Vec<u32> = Vec::new();
        let ops = (0..1 + below(3)).filter_map(|_| {
            let key = below(u64::from(keys)) as u32;
            match below(2) {
                0 => Some(Op::Read(key, None)),
                _ if written.contains(&key) => None,
                _ => {
                    written.push(key);
                    Some(Op::Write(key, (at * 10 + key as usize + 1) as i64))
                }
            }
        });
        let ops = ops.collect();
        txns.push(Txn {
            process: at as u32,
            invoke,
            complete,
            status,
            ops,
        });
    }
    commits.sort_unstable();
    let mut current = [None; 4];
    let mut versions: Vec<(u64, u32, i64)> = Vec::new();
    for &(commit, at) in &commits {
        for op in &mut txns[at].ops {
            match op {
                Op::Read(key, value) => *value = current[*key as usize],
                Op::Write(key, value) => {
                    current[*key as usize] = Some(*value);
                    versions.push((commit, *key, *value));
                }
                _ => {}
            }
        }
    }
    for _ in 0..below(3) {
        let at = below(count as u64) as usize;
        let other = versions.get(below(versions.len() as u64 + 1) as usize);
        if let Some(Op::Read(key, value)) = txns[at].ops.first_mut() {
            *value = other.filter(|(_, k, _)| k == key).map(|&(.., v)| v);
        }
    }
    let mut all = events(&txns);
    all.extend(
        versions
            .iter()
            .map(|&(at, key, value)| (at, What::Version(key, value))),
    );
    // Stable, so that the versions of one commit keep their order.
    all.sort_by_key(|&(at, what)| {
        (
            at,
            !matches!(what, What::Invoke(_)),
            matches!(what, What::Complete(_)),
        )
    });
    (txns, all)
}

#[test]
fn on_registers_with_told_versions_it_stops_at_the_first_invalid_prefix() {
    let valid: Vec<[bool; 3]> = (0..20_000)
        .into_par_iter()
        .map(|seed| {
            let (txns, events) = told(seed);
            assert_same(seed, &txns, &events)
        })
        .collect();
    assert_balanced(&valid);
}

/// Runs a generated history, whose transactions take effect when they complete, and tells of their versions or not; the
/// most nodes held, and how many transactions completed before it stopped.
fn run(spec: &Spec, told: bool) -> (usize, usize, Option<Stop>) {
    let txns = histories::transactions(spec);
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (at, txn) in txns.iter().enumerate() {
        events.push((txn.invoke, false, at));
        events.push((txn.complete, true, at));
    }
    events.sort_unstable();
    let mut online = Online::new(TimeOrder::Realtime);
    let (mut held_max, mut completed) = (0, 0);
    for (at, completes, number) in events {
        let txn = &txns[number];
        let result = if completes {
            let actions: Vec<Action> = txn.ops.iter().map(action).collect();
            for action in actions
                .iter()
                .filter(|_| told && txn.status == check::Status::Ok)
            {
                if let Action::Append { key, value } = *action {
                    online.version(key, value).expect("in their order");
                }
            }
            online.complete(at, number as u64, txn.status, &actions)
        } else {
            let writes = txn.ops.iter().filter_map(|op| match *op {
                histories::Op::Append(key, value) => Some((key, value)),
                histories::Op::Read(..) => None,
            });
            online.invoke(at, number as u64, txn.process, &writes.collect::<Vec<_>>())
        };
        if let Err(stop) = result {
            return (held_max, completed, Some(stop));
        }
        completed += usize::from(completes);
        held_max = held_max.max(online.held());
    }
    (held_max, completed, None)
}

fn action(op: &histories::Op) -> Action<'_> {
    match op {
        histories::Op::Append(key, value) => Action::Append {
            key: *key,
            value: *value,
        },
        histories::Op::Read(key, list) => Action::ReadList { key: *key, list },
    }
}

#[test]
fn what_it_holds_does_not_grow_with_a_valid_history() {
    let spec = |txns| Spec {
        txns,
        info: 0,
        ..Spec::default()
    };
    let (short, _, stop) = run(&spec(5_000), true);
    assert_eq!(stop, None);
    let (long, completed, stop) = run(&spec(50_000), true);
    assert_eq!((completed, stop), (50_000, None));
    assert!(
        long <= 2 * short,
        "{long} nodes, {short} for a tenth of the history"
    );
}

#[test]
fn a_long_history_is_stopped_where_its_prefix_is_invalid_and_no_earlier() {
    for seed in 0..20 {
        let spec = Spec {
            txns: 2_000,
            stale: 1_000,
            seed,
            ..Spec::default()
        };
        let (_, completed, stop) = run(&spec, false);
        let whole = histories::history(&spec);
        let verdict = check(&whole, &Options::new(Model::StrictSerializable)).verdict;
        assert_eq!(stop.is_some(), verdict == Verdict::Invalid, "seed {seed}");
        let Some(stop) = stop else { continue };
        for (count, expected) in [
            (completed, Verdict::Valid),
            (completed + 1, Verdict::Invalid),
        ] {
            let prefix = histories::history(&Spec {
                txns: count as u64,
                ..spec
            });
            let report = check(&prefix, &Options::new(Model::StrictSerializable));
            assert_eq!(report.verdict, expected, "seed {seed}: {stop}");
        }
    }
}
