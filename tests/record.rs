//! `ordain record` without a server: SQLite in this process, and children that are told what to do wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ordain::record::workload::{Generator, Op, Request, Shape, Workload};
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("record-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a place for the test");
    folder
}

fn ordain(words: &[&str], here: &Path) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ordain"));
    program.args(words).current_dir(here);
    program.output().expect("the program runs")
}

fn json(output: &Output) -> Value {
    let told = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
}

/// A child in shell: ready first, then the same answer to everything.
fn shell_child(answer: &str) -> String {
    let loops = format!("while read -r line; do echo '{answer}'; done");
    format!(r#"child:read -r line; echo '{{"type": "ready"}}'; {loops}"#)
}

#[test]
fn a_history_of_sqlite_is_kept_and_is_judged_again_by_check() {
    let here = folder("sqlite");
    let words = [
        "record",
        "sqlite:a.db?journal=wal",
        "-n",
        "400",
        "--out",
        "run",
        "--json",
    ];
    let output = ordain(&words, &here);
    let document = json(&output);
    assert_eq!(output.status.code(), Some(0), "{document}");
    assert_eq!(document["outcome"], "kept");
    assert!(document["contended"].as_u64() > Some(10), "{document}");
    assert!(document["online_reads"].as_u64() > Some(10), "{document}");
    let counts = |name: &str| document["counts"][name].as_u64().expect("a number");
    let ended = counts("committed") + counts("failed") + counts("indeterminate");
    assert_eq!(counts("invoked"), ended, "each transaction has one end");
    let again = ordain(&["check", "run"], &here);
    assert_eq!(again.status.code(), Some(0));
    // What cannot be repeated is not overwritten.
    let twice = ordain(&words, &here);
    assert_eq!(twice.status.code(), Some(64));
}

#[test]
fn a_child_that_commits_nothing_is_no_success() {
    let here = folder("nothing");
    let refusing = shell_child(r#"{"type": "fail", "error": "not today"}"#);
    let output = ordain(
        &[
            "record",
            &refusing,
            "-n",
            "50",
            "--json",
            "--patience",
            "1s",
        ],
        &here,
    );
    let document = json(&output);
    assert_eq!(output.status.code(), Some(2), "{document}");
    assert_eq!(document["counts"]["committed"], 0);
    assert_eq!(
        document["errors"]["fail: not today"].as_u64() > Some(49),
        true,
        "{document}"
    );
}

#[test]
fn a_child_that_answers_another_question_ends_the_run_with_an_error() {
    let here = folder("another-question");
    let confused = shell_child(r#"{"type": "ok", "value": [["r", 77, []]]}"#);
    let output = ordain(&["record", &confused, "-n", "50", "--out", "run"], &here);
    assert_eq!(output.status.code(), Some(65));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("expected the same operations"), "{told}");
    assert!(
        here.join("run/history.ndjson").exists(),
        "the history so far is kept"
    );
}

#[test]
fn a_child_that_dies_leaves_its_transaction_indeterminate() {
    let here = folder("dying");
    let dying = r#"child:read -r line; echo '{"type": "ready"}'; read -r line; exit 0"#;
    let words = ["record", dying, "-n", "20", "--patience", "300ms", "--json"];
    let document = json(&ordain(&words, &here));
    assert!(
        document["counts"]["indeterminate"].as_u64() >= Some(20),
        "{document}"
    );
    assert_eq!(document["counts"]["committed"], 0, "{document}");
}

#[test]
fn a_child_that_loses_appends_is_found_out() {
    let here = folder("forgetful");
    // It acknowledges each append, and reads nothing. Each transaction has one operation.
    let answer = r#"child:read -r line; echo '{"type": "ready"}'; while read -r line; do
        echo "$line" | sed -e 's/"type":"invoke"/"type":"ok"/' -e 's/null/[]/'; done"#;
    let words = [
        "record",
        answer,
        "-n",
        "200",
        "--operations",
        "1",
        "--rollbacks",
        "0",
        "--json",
        "--stop-at-violation",
    ];
    let output = ordain(&words, &here);
    let document = json(&output);
    assert_eq!(output.status.code(), Some(1), "{document}");
    assert_eq!(document["ended"]["how"], "violation");
    assert!(document["online"].is_string());
    assert!(
        document["counts"]["invoked"].as_u64() < Some(200),
        "{document}"
    );
}

#[test]
fn wrong_words_say_what_would_be_right() {
    let here = folder("words");
    for (words, right) in [
        (&["mysql://somewhere"][..], "child:"),
        (&["sqlite:"], "sqlite:FILE"),
        (
            &["sqlite:a.db", "--isolation", "snapshot"],
            "read-uncommitted",
        ),
        (&["sqlite:a.db?journal=wall"], "wal"),
        (&["postgres://h/d", "--isolation", "default"], "--model"),
        (&["sqlite:a.db", "--kill-every", "1s"], "--restart"),
    ] {
        let output = ordain(&[&["record"], words].concat(), &here);
        assert_eq!(output.status.code(), Some(64), "{words:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(right), "{words:?}: {told}");
    }
}

#[test]
fn the_nth_transaction_of_a_seed_is_always_the_same_and_values_are_unique() {
    for workload in [
        Workload::ListAppend,
        Workload::Registers,
        Workload::Bank,
        Workload::LongFork,
    ] {
        let drawn = |seed| {
            let mut generator = Generator::new(workload, Shape::default(), seed);
            (0..500).map(|_| generator.next_asked()).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        let mut written = std::collections::BTreeSet::new();
        for asked in drawn(1) {
            let Request::Txn(ops) = asked.request else {
                continue;
            };
            for op in ops {
                if let Op::Append { key, value } | Op::Write { key, value } = op {
                    assert!(
                        written.insert((key, value)),
                        "{workload:?}: {op:?} comes twice"
                    );
                }
            }
        }
    }
}
