//! The cost of checking list-append histories, by length, contention and validity.
//!
//! `cargo bench --bench check` measures; with the environment variable `ORDAIN_HISTORY_OUT` set to a path it
//! writes the million-invocation history there instead, and with `ORDAIN_HISTORY_IN` it parses and checks a file
//! once, for a measurement of the whole process (`/usr/bin/time -v`).

#[path = "../tests/support/histories.rs"]
mod histories;

use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput};
use histories::Spec;
use ordain::check::{Model, Options, check, parse};

fn by_length(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("list_append");
    group.sample_size(10);
    for txns in [1_000, 10_000, 100_000, 1_000_000] {
        let valid = Spec {
            txns,
            ..Spec::default()
        };
        let specs = [
            ("valid", valid),
            ("invalid", Spec { stale: 10, ..valid }),
            (
                "many_keys",
                Spec {
                    keys: 1000,
                    ..valid
                },
            ),
            (
                "high_concurrency",
                Spec {
                    processes: 500,
                    ..valid
                },
            ),
        ];
        for (name, spec) in specs {
            let history = histories::history(&spec);
            group.throughput(Throughput::Elements(txns));
            group.bench_with_input(BenchmarkId::new(name, txns), &history, |b, history| {
                b.iter(|| black_box(check(history, &Options::new(Model::StrictSerializable))));
            });
        }
    }
    group.finish();
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

/// A million invocations, about 240 MB.
fn write_million(path: &Path) -> std::io::Result<()> {
    let spec = Spec {
        txns: 1_000_000,
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
        by_length(&mut criterion);
        parsing(&mut criterion);
        criterion.final_summary();
    }
}
