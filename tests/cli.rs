//! The program as people and scripts use it: exit codes, JSON, failure folders, replay.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const QUICK: [&str; 4] = [
    "--set",
    "workload.transactions=30",
    "--set",
    "phases.power-cycle=\"2s\"",
];

/// A run that makes progress where the scenario is told to expect none.
const UNEXPECTED: [&str; 6] = [
    "run",
    "storm",
    "-p",
    "calvin",
    "--set",
    "expect.calvin.properties.progress=\"broken\"",
];

/// A folder of its own for each test, emptied first.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a place for the test");
    folder
}

fn ordain(args: &[&str], here: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ordain"))
        .args(args)
        .current_dir(here)
        .output()
        .expect("the program runs")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stdout));
    })
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("the program exits by itself")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_run_prints_one_json_document_with_the_promised_keys() {
    let here = folder("run-json");
    let args = [&["run", "settlement", "-p", "calvin", "--json"][..], &QUICK].concat();
    let output = ordain(&args, &here);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let run = json(&output);
    for key in [
        "scenario",
        "protocol",
        "seed",
        "digest",
        "verdict",
        "properties",
        "messages",
        "flushes",
        "simulated_ms",
        "events",
    ] {
        assert!(!run[key].is_null(), "{key}");
    }
    for key in [
        "initiated",
        "committed",
        "aborted",
        "indeterminate",
        "blocked",
    ] {
        assert!(run["counts"][key].is_u64(), "{key}");
    }
    assert!(run["latency_ms"]["p50"].is_f64() && run["latency_ms"]["p99"].is_f64());
    assert_eq!(run["verdict"], "kept");
    assert!(
        output.stderr.is_empty(),
        "not a terminal, so no progress: {}",
        stderr(&output)
    );
    assert!(
        !here.join("store").exists(),
        "a run as promised leaves nothing"
    );
}

#[test]
fn the_same_seed_gives_the_same_digest_in_another_process_and_another_seed_does_not() {
    let here = folder("digests");
    let digest = |seed: &str| {
        let args = [
            &["run", "storm", "-p", "calvin", "--json", "--seed", seed][..],
            &QUICK,
        ]
        .concat();
        json(&ordain(&args, &here))["digest"]
            .as_str()
            .expect("a digest")
            .to_owned()
    };
    assert_eq!(digest("7"), digest("7"));
    assert_ne!(digest("7"), digest("8"));
}

#[test]
fn a_run_that_is_not_as_expected_exits_1_and_leaves_a_folder_that_replays() {
    let here = folder("failing");
    let args = [&UNEXPECTED[..], &QUICK].concat();
    let output = ordain(&args, &here);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    for line in [lines[0], lines[lines.len() - 1]] {
        assert!(
            line.starts_with("seed 1: ordain run storm --protocol calvin --seed 1"),
            "{line}"
        );
    }
    let kept = here.join("store/storm/calvin/1");
    for file in [
        "scenario.toml",
        "plan.json",
        "fates.json",
        "history.ndjson",
        "trace.ndjson.gz",
        "verdict.json",
        "report.txt",
    ] {
        assert!(kept.join(file).is_file(), "{file}");
    }
    let siblings = fs::read_dir(kept.parent().expect("in store"))
        .expect("a folder")
        .count();
    assert_eq!(siblings, 1, "nothing half-written stays");
    let replayed = ordain(&["replay", "store/storm/calvin/1", "--json"], &here);
    assert_eq!(code(&replayed), 0, "{}", stderr(&replayed));
    assert_eq!(json(&replayed)["identical"], true);
    let checked = ordain(
        &["check", "store/storm/calvin/1/history.ndjson", "--json"],
        &here,
    );
    assert_eq!(
        (code(&checked), &json(&checked)["valid"]),
        (0, &Value::from(true))
    );
}

#[test]
fn a_folder_that_holds_anything_but_a_run_is_refused_and_left_as_it_is() {
    let here = folder("occupied");
    fs::create_dir(here.join("work")).expect("writable");
    let thesis = here.join("work/thesis.txt");
    fs::write(&thesis, "x").expect("writable");
    let run = [&["run", "storm", "-p", "calvin", "--out"][..], &QUICK].concat();
    let run = |out: &str, here: &Path| {
        let args = [&run[..5], &[out], &run[5..]].concat();
        ordain(&args, here)
    };
    assert_eq!(code(&run("kept", &here)), 0);
    let shrink = |out: &str, here: &Path| {
        let kept = here.ancestors().find(|above| above.join("kept").exists());
        let kept = kept.expect("it was written").join("kept");
        let args = ["shrink", &kept.display().to_string(), "--out", out];
        ordain(&args, here)
    };
    for (out, below) in [
        ("work", ""),
        (".", "work"),
        ("..", "work"),
        ("work/thesis.txt", ""),
    ] {
        for output in [run(out, &here.join(below)), shrink(out, &here.join(below))] {
            assert_eq!(code(&output), 65, "{out}: {}", stderr(&output));
            let help = "help: name a folder that is absent or empty";
            assert!(stderr(&output).contains(help), "{}", stderr(&output));
            assert_eq!(fs::read_to_string(&thesis).expect("still there"), "x");
        }
    }
    let names = fs::read_dir(&here).expect("a folder").count();
    assert_eq!(names, 2, "nothing half-written stays");
}

#[test]
fn a_run_that_is_written_again_replaces_its_files_and_keeps_what_shrink_left_there() {
    let here = folder("again");
    let args = [
        &["run", "storm", "-p", "calvin", "--out", "kept"][..],
        &QUICK,
    ]
    .concat();
    fs::create_dir(here.join("kept")).expect("writable");
    assert_eq!(code(&ordain(&args, &here)), 0, "an empty folder will do");
    fs::create_dir(here.join("kept/shrunk")).expect("writable");
    fs::write(here.join("kept/shrunk/plan.json"), "{}").expect("writable");
    let plan = here.join("kept/plan.json");
    let before = fs::read_to_string(&plan).expect("kept");
    fs::write(&plan, "damaged").expect("writable");
    assert_eq!(code(&ordain(&args, &here)), 0);
    assert_eq!(fs::read_to_string(&plan).expect("kept"), before);
    let shrunk = fs::read_to_string(here.join("kept/shrunk/plan.json"));
    assert_eq!(shrunk.expect("still there"), "{}");
}

#[cfg(unix)]
#[test]
fn a_reader_that_closes_the_pipe_does_not_change_the_exit_code() {
    let here = folder("pipe");
    let args = [&UNEXPECTED[..], &QUICK].concat();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_ordain"))
        .args(&args)
        .current_dir(&here)
        .stdout(writer)
        .output()
        .expect("the program runs");
    assert_eq!(code(&output), 1, "{}", stderr(&output));
}

#[test]
fn a_replay_that_does_something_else_exits_3_and_names_the_first_event_that_differs() {
    let here = folder("diverging");
    let args = [
        &["run", "storm", "-p", "calvin", "--out", "kept"][..],
        &QUICK,
    ]
    .concat();
    assert_eq!(code(&ordain(&args, &here)), 0);
    let path = here.join("kept/plan.json");
    let mut recorded: Value =
        serde_json::from_str(&fs::read_to_string(&path).expect("kept")).expect("JSON");
    let offset = &mut recorded["plan"]["environment"]["machines"][0]["clock_offset_ns"];
    *offset = Value::from(offset.as_i64().expect("a number") + 1_000_000);
    fs::write(&path, recorded.to_string()).expect("writable");
    let output = ordain(&["replay", "kept", "--json"], &here);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    let difference = &json(&output)["first_difference"];
    assert_ne!(difference["recorded"], difference["replayed"]);
}

#[test]
fn a_plan_of_another_version_is_refused_with_a_place_and_a_remedy() {
    let here = folder("old-plan");
    let args = [
        &["run", "storm", "-p", "calvin", "--out", "kept"][..],
        &QUICK,
    ]
    .concat();
    assert_eq!(code(&ordain(&args, &here)), 0);
    let path = here.join("kept/plan.json");
    let text = fs::read_to_string(&path).expect("kept");
    fs::write(&path, text.replacen("\"version\": 1", "\"version\": 7", 1)).expect("writable");
    let output = ordain(&["replay", "kept"], &here);
    assert_eq!(code(&output), 65);
    insta::assert_snapshot!(stderr(&output));
    fs::remove_file(&path).expect("there");
    let output = ordain(&["replay", "kept"], &here);
    assert_eq!(code(&output), 65);
    insta::assert_snapshot!(stderr(&output));
}

#[test]
fn wrong_usage_exits_64_and_says_what_there_is() {
    let here = folder("usage");
    for args in [
        &["run"][..],
        &["run", "settlement", "--protocol", "4pc"],
        &["run", "settlement", "--seed", "minus-one"],
        &["compare", "settlement", "--seeds", "0"],
        &["run", "settlement", "--set", "nonsense"],
        &["check", "x.json", "--model", "perfect"],
        &["model", "no_such_model"],
        &["shrink", "nowhere", "--jobs", "0"],
        &["shrink", "nowhere", "--jobs", "1025"],
        &["dance"],
    ] {
        let output = ordain(args, &here);
        assert_eq!(code(&output), 64, "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(
            stderr(&output).starts_with("error: "),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn bad_input_files_exit_65_with_a_place() {
    let here = folder("input");
    fs::write(here.join("bad.toml"), "name = \"x\"\nsummary = 3\n").expect("writable");
    fs::write(
        here.join("bad.ndjson"),
        "{\"type\": \"ok\", \"process\": }\n",
    )
    .expect("writable");
    for (args, place) in [
        (&["run", "bad.toml"][..], "bad.toml:2:11: "),
        (&["run", "absent.toml"], "absent.toml: "),
        (&["check", "bad.ndjson"], "bad.ndjson:1: "),
        (&["check", "absent.ndjson"], "absent.ndjson: "),
        (&["replay", "nowhere"], "nowhere/plan.json: "),
        (
            &["run", "settlement", "--set", "workload.rate=-4.0"],
            "settlement (shipped) with --set:",
        ),
        (
            &["run", "settlement", "--set", "protocol.calvin.epochs=3"],
            "settlement (shipped) with --set:",
        ),
    ] {
        let output = ordain(args, &here);
        assert_eq!(code(&output), 65, "{args:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(place),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_history_outside_of_the_model_exits_1_and_explains_a_cycle() {
    let here = folder("history");
    // Write skew: each reads what the other writes, and both commit.
    let history = r#"{"type": "invoke", "process": 0, "f": "txn", "value": [["r", "y", null], ["w", "x", 1]]}
{"type": "invoke", "process": 1, "f": "txn", "value": [["r", "x", null], ["w", "y", 2]]}
{"type": "ok", "process": 0, "f": "txn", "value": [["r", "y", null], ["w", "x", 1]]}
{"type": "ok", "process": 1, "f": "txn", "value": [["r", "x", null], ["w", "y", 2]]}
"#;
    fs::write(here.join("skew.ndjson"), history).expect("writable");
    let output = ordain(
        &["check", "skew.ndjson", "--json", "--model", "serializable"],
        &here,
    );
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(report["valid"], false);
    assert!(report["anomalies"][0]["explanation"].is_string());
    let weaker = ordain(
        &["check", "skew.ndjson", "--model", "snapshot-isolation"],
        &here,
    );
    assert_eq!(code(&weaker), 0, "snapshot isolation allows write skew");
}

#[test]
fn listings_completions_and_the_manual_come_out() {
    let here = folder("listings");
    for (args, word) in [
        (&["list"][..], "settlement"),
        (&["completions", "bash"], "ordain"),
        (&["man"], ".TH"),
        (&["--help"], "compare"),
        (&["--version"], "ordain"),
    ] {
        let output = ordain(args, &here);
        assert_eq!(code(&output), 0, "{args:?}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(word),
            "{args:?}"
        );
    }
    let listing = json(&ordain(&["list", "--json"], &here));
    assert!(
        listing["protocols"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    );
}

#[test]
fn the_zoo_lists_its_bugs_and_an_ordinary_build_refuses_to_hunt() {
    let here = folder("zoo");
    let output = ordain(&["zoo", "--list", "--json"], &here);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let listed = json(&output);
    let listed = listed.as_array().expect("a list");
    assert!(listed.len() >= 40, "{}", listed.len());
    let unknown = ordain(&["zoo", "no-such-bug"], &here);
    assert_eq!(code(&unknown), 64, "{}", stderr(&unknown));
    if cfg!(not(feature = "zoo")) {
        assert_eq!(code(&ordain(&["zoo"], &here)), 0);
        let refused = ordain(&["zoo", "2pc.ack-at-vote"], &here);
        assert_eq!(code(&refused), 64);
        assert!(stderr(&refused).contains("--features zoo"));
    }
}

#[test]
fn what_a_scenario_will_not_show_is_said_before_it_runs() {
    let here = folder("warnings");
    let few = ["--set", "workload.transactions=4", "--json"];
    let said = |args: &[&str]| {
        let output = ordain(&[args, &few].concat(), &here);
        json(&output); // Standard output holds the one document.
        stderr(&output)
    };
    let usual = said(&["compare", "storm"]);
    assert!(!usual.contains("warning:"), "{usual}");
    let blind = said(&[
        "run",
        "storm",
        "-p",
        "saga",
        "--set",
        "workload.reads=\"0%\"",
    ]);
    assert!(
        blind.contains("warning: saga: no transaction only reads"),
        "{blind}"
    );
    let short = said(&["run", "storm", "-p", "2pc", "--set", "phases.settle=\"3s\""]);
    let expected = "warning: 2pc: `client-resend-ms` is longer than the settle phase of 3s:";
    assert!(short.contains(expected), "{short}");
    let alone = format!(
        "{}/tests/world-reports/thr.toml",
        env!("CARGO_MANIFEST_DIR")
    );
    let alone = said(&["run", &alone, "-p", "calvin"]);
    assert!(
        alone.contains("warning: calvin: the log has 1 of the front machines"),
        "{alone}"
    );
}

#[test]
fn a_run_is_exported_for_each_tool_and_its_history_converted_for_each_checker() {
    let here = folder("export");
    let args = [
        &["run", "settlement", "-p", "2pc", "--out", "run"][..],
        &QUICK,
    ]
    .concat();
    assert_eq!(code(&ordain(&args, &here)), 0);
    for to in ["shiviz", "perfetto", "transactions", "events"] {
        let printed = ordain(&["export", "run", "--to", to], &here);
        assert_eq!(code(&printed), 0, "{}", stderr(&printed));
        let written = ordain(&["export", "run", "--to", to, "--out", "file"], &here);
        assert_eq!(code(&written), 0, "{}", stderr(&written));
        let file = fs::read(here.join("file")).expect("it was written");
        let text = String::from_utf8(file).expect("text");
        assert_eq!(
            text.trim_end().as_bytes(),
            printed.stdout.trim_ascii_end(),
            "{to}"
        );
        assert!(text.lines().count() > 30 || to == "perfetto", "{to}");
        let data = json(&ordain(&["export", "run", "--to", to, "--json"], &here));
        assert_eq!(data["export"], text);
    }
    for to in ["ndjson", "edn", "json"] {
        let file = format!("history.{to}");
        let output = ordain(&["convert", "run", "--to", to, "--out", &file], &here);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let checked = json(&ordain(&["check", &file, "--json"], &here));
        let direct = json(&ordain(&["check", "run", "--json"], &here));
        assert_eq!(checked["exercised"], direct["exercised"], "{to}");
        assert!(checked["exercised"]["transactions"].as_u64() > Some(20));
    }
    let nowhere = ordain(&["export", "nowhere", "--to", "shiviz"], &here);
    assert_eq!(code(&nowhere), 65);
    let unwritable = ordain(
        &["convert", "run", "--to", "edn", "--out", "no/such/folder"],
        &here,
    );
    assert_eq!(code(&unwritable), 65);
    assert!(stderr(&unwritable).contains("no/such/folder"));
}
