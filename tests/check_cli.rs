//! `ordain check` and `ordain run --stop-at-violation` as people and scripts use them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a place for the test");
    folder
}

fn ordain(args: &[&str], here: &Path) -> (i32, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_ordain"))
        .args(args)
        .current_dir(here)
        .output()
        .expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("the program exits by itself");
    (code, text(&output.stdout), text(&output.stderr))
}

/// Read skew, and what is to be added to it.
fn skew(here: &Path) {
    let text = r#"{"type": "invoke", "process": 0, "f": "txn", "value": [["append", "x", 1], ["append", "y", 1]]}
{"type": "invoke", "process": 1, "f": "txn", "value": [["r", "x", null], ["r", "y", null]]}
{"type": "ok", "process": 0, "f": "txn", "value": [["append", "x", 1], ["append", "y", 1]]}
{"type": "ok", "process": 1, "f": "txn", "value": [["r", "x", [1]], ["r", "y", []]]}
"#;
    fs::write(here.join("skew.ndjson"), text).expect("writable");
}

#[test]
fn the_cycle_comes_as_data_and_as_a_drawing() {
    let here = folder("check-svg");
    skew(&here);
    let args = ["check", "skew.ndjson", "--json", "--svg", "cycle.svg"];
    let (code, out, err) = ordain(&args, &here);
    assert_eq!(code, 1, "{err}");
    let report: Value = serde_json::from_str(&out).expect("one document");
    let cycle = report["anomalies"][0]["cycle"].as_array().expect("a cycle");
    assert_eq!(cycle.len(), 2);
    for step in cycle {
        assert!(step["from"].is_u64() && step["to"].is_u64());
        assert!(step["because"]["type"].is_string());
    }
    assert_eq!(
        report["anomalies"][0]["transactions"],
        serde_json::json!([0, 1])
    );
    let drawing = fs::read_to_string(here.join("cycle.svg")).expect("it was drawn");
    assert!(drawing.starts_with("<svg") && drawing.matches("marker-end").count() == 2);
}

#[test]
fn without_a_cycle_nothing_is_drawn_and_the_verdict_is_the_same() {
    let here = folder("check-no-svg");
    skew(&here);
    let args = ["check", "skew.ndjson", "--model", "read-committed", "--svg"];
    let (code, _, err) = ordain(&[&args[..], &["no/such/folder.svg"]].concat(), &here);
    assert_eq!(code, 65, "{err}");
    let valid = r#"{"type": "invoke", "process": 0, "f": "txn", "value": [["append", "x", 1]]}"#;
    fs::write(here.join("valid.ndjson"), valid).expect("writable");
    let (code, _, err) = ordain(&["check", "valid.ndjson", "--svg", "cycle.svg"], &here);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("no cycle to draw"), "{err}");
    assert!(!here.join("cycle.svg").exists());
}

#[test]
fn an_order_of_versions_in_the_file_decides_what_clients_cannot_see() {
    let here = folder("check-versions");
    // Two blind writes of both registers, one after the other: nobody reads, so any order will do.
    let history = r#"{"type": "invoke", "process": 0, "f": "txn", "value": [["w", "x", 1], ["w", "y", 1]]}
{"type": "invoke", "process": 1, "f": "txn", "value": [["w", "x", 2], ["w", "y", 2]]}
{"type": "ok", "process": 0, "f": "txn", "value": [["w", "x", 1], ["w", "y", 1]]}
{"type": "ok", "process": 1, "f": "txn", "value": [["w", "x", 2], ["w", "y", 2]]}
"#;
    let versions = |key: &str, order: &str| {
        format!("{{\"type\": \"versions\", \"key\": \"{key}\", \"value\": {order}}}\n")
    };
    let cases = [
        (String::new(), 0, ""),
        (versions("x", "[1, 2]") + &versions("y", "[1, 2]"), 0, ""),
        (versions("x", "[1, 2]") + &versions("y", "[2, 1]"), 1, ""),
        (
            versions("x", "[1, 1]"),
            65,
            "told.ndjson:5: a version comes twice",
        ),
        (
            versions("x", "[1]") + &versions("x", "[1]"),
            65,
            "told.ndjson:6: ",
        ),
        (versions("x", "7"), 65, "told.ndjson:5: "),
    ];
    for (orders, expected, complaint) in cases {
        fs::write(here.join("told.ndjson"), format!("{history}{orders}")).expect("writable");
        let (code, out, err) = ordain(&["check", "told.ndjson"], &here);
        assert_eq!(code, expected, "{orders}{out}{err}");
        assert!(err.contains(complaint), "{err}");
    }
}

#[test]
fn a_run_is_stopped_only_where_serializability_is_promised() {
    let here = folder("run-stop");
    let quick = ["--set", "workload.transactions=30", "--stop-at-violation"];
    let run = |protocol: &str| {
        ordain(
            &[&["run", "settlement", "-p", protocol], &quick[..]].concat(),
            &here,
        )
    };
    let (code, out, err) = run("calvin");
    assert_eq!(code, 0, "{out}{err}");
    let (code, _, err) = run("saga");
    assert_eq!(code, 64, "{err}");
    assert!(err.contains("does not promise serializability"), "{err}");
}
