//! Replay from a folder alone: identical if nobody touched it; a clear word, and never a panic, if somebody did.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scenarios::shipped;
use ordain::campaign::artifact;
use ordain::plan::random::Stream;
use ordain::registry::Registry;
use serde_json::Value;

const FILES: [&str; 7] = [
    "scenario.toml",
    "plan.json",
    "fates.json",
    "trace.ndjson.gz",
    "verdict.json",
    "history.ndjson",
    "report.txt",
];

/// A small run's folder, of its own for each test.
fn kept(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    let scenario = shipped("storm", &[("workload.transactions", "6")]);
    let plan = ordain::plan::Plan::draw(&scenario, 3);
    let run = Registry::standard()
        .run(&scenario, "2pc", &plan, true)
        .expect("it runs");
    let plan = run.kept.plan.clone().expect("kept");
    artifact::write(&folder, &scenario, &plan, &run, ordain::report::text::run).expect("writable");
    folder
}

fn replay(folder: &Path) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ordain"))
        .args(["replay", &folder.display().to_string()])
        .output()
        .expect("the program runs");
    let text = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("it exits by itself");
    (code, String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn an_untouched_folder_replays_to_the_byte() {
    let folder = kept("replay-untouched");
    let (code, text) = replay(&folder);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("identical: "), "{text}");
}

#[test]
fn a_file_that_is_missing_cut_short_or_replaced_is_named() {
    let folder = kept("replay-damaged");
    for name in FILES {
        let path = folder.join(name);
        let whole = fs::read(&path).expect("kept");
        let half = whole[..whole.len() / 2].to_vec();
        for damage in [
            None,
            Some(half),
            Some(Vec::new()),
            Some(b"\xff\xfe{".to_vec()),
        ] {
            match &damage {
                None => fs::remove_file(&path).expect("there"),
                Some(bytes) => fs::write(&path, bytes).expect("writable"),
            }
            let (code, text) = replay(&folder);
            assert!(
                [3, 65].contains(&code),
                "{name}, {damage:?}: {code}\n{text}"
            );
            assert!(text.contains(name), "{name}, {damage:?}: {text}");
            fs::write(&path, &whole).expect("writable");
        }
    }
    assert_eq!(replay(&folder).0, 0, "all is mended");
}

/// The places of all numbers in a JSON document.
fn numbers(value: &Value, here: &str, found: &mut Vec<String>) {
    match value {
        Value::Number(_) => found.push(here.to_owned()),
        Value::Array(elements) => {
            for (at, element) in elements.iter().enumerate() {
                numbers(element, &format!("{here}/{at}"), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                numbers(field, &format!("{here}/{name}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn whatever_number_of_a_plan_is_edited_the_plan_is_refused_or_runs() {
    let folder = kept("replay-edited");
    let path = folder.join("plan.json");
    let whole = fs::read_to_string(&path).expect("kept");
    let plan: Value = serde_json::from_str(&whole).expect("JSON");
    let mut places = Vec::new();
    numbers(&plan, "", &mut places);
    let mut stream = Stream::new(1, &"edits");
    let (mut refused, mut ran) = (0, 0);
    for _ in 0..300 {
        let place = stream.pick(&places);
        let value = *stream.pick(&[0, 1, 7, 99, 70_000, 1 << 40, i64::MAX]);
        let mut edited = plan.clone();
        *edited.pointer_mut(place).expect("a number is there") = Value::from(value);
        fs::write(&path, edited.to_string()).expect("writable");
        let outcome = artifact::read(&Registry::standard(), &folder)
            .map_err(|error| error.to_string())
            .and_then(|kept| {
                Registry::standard().replay(&kept.scenario, "2pc", &kept.recorded.plan, &kept.fates)
            });
        match outcome {
            Ok(_) => ran += 1,
            Err(message) => {
                refused += 1;
                assert!(!message.is_empty(), "{place} = {value}");
            }
        }
    }
    assert!(refused > 30 && ran > 30, "{refused} refused, {ran} ran");
}

/// Stores recognise a repeated write by its transaction: a second one to the same row would silently be taken for that.
#[test]
fn a_plan_in_which_a_transaction_writes_a_row_twice_is_refused() {
    let folder = kept("replay-written-twice");
    let path = folder.join("plan.json");
    let whole = fs::read_to_string(&path).expect("kept");
    let mut plan: Value = serde_json::from_str(&whole).expect("JSON");
    let effects = plan
        .pointer_mut("/plan/operations/0/txn/effects")
        .and_then(Value::as_array_mut)
        .expect("the transaction's effects");
    let again = effects[0].clone();
    effects.push(again);
    fs::write(&path, plan.to_string()).expect("writable");
    let (code, text) = replay(&folder);
    assert_eq!(code, 65, "{text}");
    assert!(
        text.contains("writes row") && text.contains("twice"),
        "{text}"
    );
}
