//! The cost of checking histories of lists and registers, by length, contention and validity.
//!
//! `cargo bench --bench check` measures, up to 100,000 transactions or to `ORDAIN_BENCH_TXNS_MAX`; with the
//! environment variable `ORDAIN_HISTORY_OUT` set to a path it writes the million-invocation history there instead
//! (or one of `ORDAIN_HISTORY_TXNS` transactions), and with `ORDAIN_HISTORY_IN` it parses and checks a file once,
//! for a measurement of the whole process (`/usr/bin/time -v`).

#[path = "../tests/support/histories.rs"]
mod histories;

use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use histories::Spec;
use ordain::check::online::{Action, Online, TimeOrder};
use ordain::check::{History, Model, Options, Status, check, linearizability, parse};

/// Lengths from 1,000 by tenfold steps to what `ORDAIN_BENCH_TXNS_MAX` says.
fn lengths() -> impl Iterator<Item = u64> {
    let most = std::env::var("ORDAIN_BENCH_TXNS_MAX").ok();
    let most = most.map_or(100_000, |most| most.parse().expect("a number"));
    (3..=7)
        .map(|power| 10u64.pow(power))
        .take_while(move |&txns| txns <= most)
}

/// What differs between histories of one length: contention, concurrency, and whether something is wrong.
fn specs(txns: u64) -> [(&'static str, Spec); 6] {
    let valid = Spec {
        txns,
        ..Spec::default()
    };
    // About ten stale reads, whatever the length.
    let stale = 10_000_000 / txns;
    let with_keys = |keys| Spec { keys, ..valid };
    let with_processes = |processes| Spec { processes, ..valid };
    [
        ("valid", valid),
        ("invalid", Spec { stale, ..valid }),
        ("few_keys", with_keys(2)),
        ("many_keys", with_keys(1000)),
        ("low_concurrency", with_processes(2)),
        ("high_concurrency", with_processes(500)),
    ]
}

/// Histories made of the specs, by length.
fn by_length(criterion: &mut Criterion, kind: &str, make: impl Fn(&Spec) -> History) {
    let mut group = criterion.benchmark_group(kind);
    group.sample_size(10);
    for txns in lengths() {
        for (name, spec) in specs(txns) {
            measure(&mut group, name, txns, &make(&spec));
        }
    }
    group.finish();
}

/// Checks a history by its default checker.
fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, txns: u64, history: &History) {
    group.throughput(Throughput::Elements(txns));
    group.bench_with_input(BenchmarkId::new(name, txns), history, |b, history| {
        b.iter(|| black_box(check(history, &Options::new(Model::StrictSerializable))));
    });
}

/// Linearizability, key by key, of the same registers.
fn linearizable(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linearizability");
    group.sample_size(10);
    for txns in lengths().filter(|&txns| txns <= 1_000_000) {
        for (name, stale) in [("valid", 0), ("invalid", 1_000)] {
            let history = histories::registers(&Spec {
                txns,
                stale,
                ..Spec::default()
            });
            group.throughput(Throughput::Elements(txns));
            group.bench_with_input(BenchmarkId::new(name, txns), &history, |b, history| {
                let options = Options::new(Model::Linearizable);
                b.iter(|| black_box(linearizability::check(history, &options)));
            });
        }
    }
    group.finish();
}

/// The checker that runs along: two events a transaction, the past dropped on the way.
fn online(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("online");
    group.sample_size(10);
    for count in [1_000, 10_000, 100_000] {
        let txns = histories::transactions(&Spec {
            txns: count,
            info: 0,
            ..Spec::default()
        });
        let mut events: Vec<(u64, bool, usize)> = Vec::new();
        for (number, txn) in txns.iter().enumerate() {
            events.push((txn.invoke, false, number));
            events.push((txn.complete, true, number));
        }
        events.sort_unstable();
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::new("valid", count), &events, |b, events| {
            b.iter(|| black_box(run_along(&txns, events)));
        });
    }
    group.finish();
}

/// Feeds a valid history; the most nodes that were held.
fn run_along(txns: &[histories::Txn], events: &[(u64, bool, usize)]) -> usize {
    let mut online = Online::new(TimeOrder::Realtime);
    let mut held_max = 0;
    for &(at, completes, number) in events {
        let txn = &txns[number];
        let result = if completes {
            let actions = txn.ops.iter().map(|op| match op {
                histories::Op::Append(key, value) => Action::Append {
                    key: *key,
                    value: *value,
                },
                histories::Op::Read(key, list) => Action::ReadList { key: *key, list },
            });
            let actions: Vec<Action<'_>> = actions.collect();
            for action in actions.iter().filter(|_| txn.status == Status::Ok) {
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
        result.expect("a valid history");
        held_max = held_max.max(online.held());
    }
    held_max
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.sample_size(10);
    let mut text = Vec::new();
    let spec = Spec {
        txns: 100_000,
        ..Spec::default()
    };
    histories::write_json(&spec, &mut text).expect("memory takes all");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("json", |b| {
        b.iter(|| {
            parse::read(black_box(text.as_slice()), parse::Strictness::Strict).expect("a history")
        });
    });
    group.finish();
}

/// A million invocations, about 300 MB, or as many as the environment says.
fn write_million(path: &Path) -> std::io::Result<()> {
    let txns = std::env::var("ORDAIN_HISTORY_TXNS").ok();
    let spec = Spec {
        txns: txns.map_or(1_000_000, |txns| txns.parse().expect("a number")),
        ..Spec::default()
    };
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    histories::write_json(&spec, &mut file)?;
    file.flush()
}

#[allow(clippy::print_stdout, reason = "a measurement is printed")]
fn measure_once(path: &Path) {
    let start = Instant::now();
    let history = parse::read_file(path, parse::Strictness::Strict).expect("a history");
    let parsed = start.elapsed();
    let report = check(&history, &Options::new(Model::StrictSerializable));
    println!(
        "{} transactions: parsed in {parsed:?}, checked in {:?}: {:?}, {:?}",
        history.len(),
        start.elapsed() - parsed,
        report.verdict,
        report.counts
    );
}

fn main() {
    if let Some(path) = std::env::var_os("ORDAIN_HISTORY_OUT") {
        write_million(Path::new(&path)).expect("a writable file");
    } else if let Some(path) = std::env::var_os("ORDAIN_HISTORY_IN") {
        measure_once(Path::new(&path));
    } else {
        let mut criterion = Criterion::default().configure_from_args();
        by_length(&mut criterion, "list_append", histories::history);
        by_length(&mut criterion, "register", histories::registers);
        linearizable(&mut criterion);
        online(&mut criterion);
        parsing(&mut criterion);
        criterion.final_summary();
    }
}
