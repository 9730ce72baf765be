//! The crate `adya` 0.1.0 (an independent Rust work-alike of Elle), this crate and brute force on the same random
//! histories. Every difference between the two checkers is decided by brute force.
//!
//! `cargo install adya --version 0.1.0`, then `ORDAIN_ADYA=path/to/adya cargo test --test suite against_adya:: --
//! --nocapture`. Without the variable the test says that it proves nothing.

#![expect(
    clippy::print_stderr,
    reason = "a test that does nothing must say so, and one that measures prints its table"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::oracle::convert::{to_history, to_model};
use crate::oracle::generate::{self, Kind};
use crate::oracle::{Model, Txn, admits};
use ordain::check::{Options, Verdict, check, parse};

const HISTORIES: u64 = 3_000;
const FIRST_SEED: u64 = 3_000_000;
const MODELS: [Model; 3] = [
    Model::StrictSerializable,
    Model::Serializable,
    Model::SnapshotIsolation,
];

/// A history of which every transaction has its own process: nobody may use one again after a crash.
fn history(kind: Kind, seed: u64) -> Vec<Txn> {
    let mut txns = generate::history(kind, seed);
    for (process, txn) in (0..).zip(&mut txns) {
        txn.process = process;
    }
    txns
}

fn write(dir: &Path, kind: Kind, seed: u64) -> PathBuf {
    let path = dir.join(format!("{seed}.jsonl"));
    let file = fs::File::create(&path).expect("a writable folder");
    parse::write_ndjson(&to_history(&history(kind, seed)), file).expect("a writable file");
    path
}

/// The verdicts of `adya`, in its own words, by file.
fn ask(program: &Path, kind: Kind, model: Model, files: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let mut verdicts = BTreeMap::new();
    for some in files.chunks(200) {
        let mut command = Command::new(program);
        command
            .args(["check", "-c", to_model(model).name(), "-m"])
            .arg(match kind {
                Kind::Lists => "list-append",
                _ => "rw-register",
            });
        if kind == Kind::Registers {
            // Sound here, since transactions are atomic; it infers more with it.
            command.arg("--wfr-keys");
        }
        if kind == Kind::Registers && model == Model::StrictSerializable {
            command.arg("--linearizable-keys");
        }
        let output = command.args(some).output().expect("adya runs");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let Some((file, verdict)) = line.rsplit_once('\t')
                && files.iter().any(|known| known == Path::new(file))
            {
                verdicts.insert(PathBuf::from(file), verdict.trim().to_owned());
            }
        }
    }
    verdicts
}

#[test]
fn every_difference_from_adya_is_decided_by_brute_force() {
    let Some(program) = std::env::var_os("ORDAIN_ADYA") else {
        eprintln!("SKIPPED: ORDAIN_ADYA does not name the program");
        return;
    };
    let root = std::env::temp_dir().join(format!("ordain-against-adya-{}", std::process::id()));
    eprintln!(
        "{:<10}{:<22}{:>9}{:>8}{:>9}{:>14}{:>13}{:>8}",
        "workload",
        "model",
        "histories",
        "invalid",
        "it agrees",
        "it misses",
        "it invents",
        "unknown"
    );
    for kind in [Kind::Lists, Kind::Registers] {
        let dir = root.join(format!("{kind:?}"));
        fs::create_dir_all(&dir).expect("a writable folder");
        let seeds = FIRST_SEED..FIRST_SEED + HISTORIES;
        let files: Vec<PathBuf> = seeds.clone().map(|seed| write(&dir, kind, seed)).collect();
        for model in MODELS {
            let theirs = ask(Path::new(&program), kind, model, &files);
            assert_eq!(theirs.len(), files.len(), "a verdict for each history");
            let (mut invalid, mut agrees, mut misses, mut invents, mut unknown) = (0, 0, 0, 0, 0);
            let mut examples = Vec::new();
            for (seed, file) in seeds.clone().zip(&files) {
                let txns = history(kind, seed);
                let admitted = admits(model, &txns);
                let ours = check(&to_history(&txns), &Options::new(to_model(model))).verdict;
                let right = if admitted {
                    Verdict::Valid
                } else {
                    Verdict::Invalid
                };
                assert_eq!(ours, right, "seed {seed}, {model:?}: {txns:#?}");
                invalid += u64::from(!admitted);
                match (theirs[file].as_str(), admitted) {
                    ("true", true) | ("false", false) => agrees += 1,
                    ("true", false) => misses += 1,
                    ("false", true) => {
                        invents += 1;
                        examples.push(seed);
                    }
                    _ => unknown += 1,
                }
            }
            eprintln!(
                "{:<10}{:<22}{HISTORIES:>9}{invalid:>8}{agrees:>9}{misses:>14}{invents:>13}{unknown:>8}  {:?}",
                format!("{kind:?}"),
                to_model(model).name(),
                &examples[..examples.len().min(5)]
            );
        }
    }
    fs::remove_dir_all(root).expect("our own folder");
}
