//! The command line that comes with `cli::main`, for a protocol that ordain has never heard of.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const OURS: &str = env!("CARGO_BIN_EXE_own-protocol");
const WITH_A_BUG: &str = env!("CARGO_BIN_EXE_with-a-bug");

/// Runs a program with `--json`: its exit code, and what it printed.
fn json(program: &str, arguments: &[&str]) -> (i32, Value) {
    let output = Command::new(program)
        .args(arguments)
        .arg("--json")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("it is built");
    let printed = serde_json::from_slice(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let printed = printed.unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{errors}"));
    (output.status.code().expect("it ended"), printed)
}

/// An empty folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }
    folder
}

fn committed(counts: &Value) -> u64 {
    counts["committed"].as_u64().expect("a number")
}

#[test]
fn it_is_listed_with_its_options() {
    let (code, listed) = json(OURS, &["list"]);
    assert_eq!(code, 0);
    let listed = listed.to_string();
    assert!(
        listed.contains("\"primary\"") && listed.contains("client-resend-ms"),
        "{listed}"
    );
}

#[test]
fn a_run_commits_everything_and_keeps_every_promise() {
    let (code, run) = json(OURS, &["run", "scenario.toml"]);
    assert_eq!((code, run["verdict"].as_str()), (0, Some("kept")), "{run}");
    assert_eq!(committed(&run["counts"]), 60);
    let one_forced_write = run["messages_by_label"]["request"].as_u64() >= Some(60);
    assert!(
        one_forced_write && run["flushes"].as_u64() > Some(0),
        "{run}"
    );
}

#[test]
fn it_is_compared_with_two_phase_commit_on_the_same_plans() {
    let out = folder("compare");
    let out = out.to_str().expect("UTF-8");
    let (code, compared) = json(
        OURS,
        &["compare", "scenario.toml", "--seeds", "3", "--out", out],
    );
    assert_eq!(code, 0, "{compared}");
    let compared = compared.to_string();
    assert!(
        compared.contains("\"primary\"") && compared.contains("\"2pc\""),
        "{compared}"
    );
}

#[test]
fn a_campaign_finds_nothing_although_transactions_commit() {
    let out = folder("fuzz");
    let out = out.to_str().expect("UTF-8");
    let arguments = [
        "fuzz",
        "scenario.toml",
        "-p",
        "primary",
        "--runs",
        "100",
        "--out",
        out,
    ];
    let (code, campaign) = json(OURS, &arguments);
    assert_eq!(code, 0, "{campaign}");
    let ours = &campaign["protocols"][0];
    assert_eq!(
        (ours["violations"].as_u64(), ours["unknown"].as_u64()),
        (Some(0), Some(0)),
        "{ours}"
    );
    let invoked = ours["counts"]["invoked"].as_u64().expect("a number");
    assert!(2 * committed(&ours["counts"]) > invoked, "{ours}");
}

#[test]
fn its_small_worlds_hold() {
    for world in [
        "primary",
        "primary-crash",
        "primary-loss",
        "primary-duplicate",
        "primary-disk",
    ] {
        let (code, checked) = json(OURS, &["model", &format!("code/{world}")]);
        assert_eq!(code, 0, "{world}: {checked}");
    }
}

#[test]
fn an_answer_before_the_flush_is_found_shrunk_and_replayed() {
    let out = folder("hasty");
    let path = out.to_str().expect("UTF-8");
    let arguments = [
        "fuzz",
        "scenario.toml",
        "-p",
        "hasty",
        "--runs",
        "200",
        "--out",
        path,
    ];
    let (code, campaign) = json(WITH_A_BUG, &arguments);
    assert_eq!(code, 1, "{campaign}");
    let failures = campaign["failures"].as_array().expect("a list");
    let class = |failure: &&Value| failure.to_string().contains("durability");
    let failure = failures
        .iter()
        .find(class)
        .expect("acknowledged effects are lost");
    let failing = failure["dir"].as_str().expect("a folder");
    let small = out.join("small");
    let small = small.to_str().expect("UTF-8");
    let (code, shrunk) = json(WITH_A_BUG, &["shrink", failing, "--out", small]);
    assert_eq!(code, 0, "{shrunk}");
    let transactions = |plan: &str| shrunk[plan]["transactions"].as_u64().expect("a number");
    assert!(
        transactions("after") <= 3 && transactions("before") > 10,
        "{shrunk}"
    );
    let (code, replayed) = json(WITH_A_BUG, &["replay", small]);
    assert_eq!((code, &replayed["identical"]), (0, &Value::Bool(true)));
}

/// What the guide says of its size.
#[test]
fn the_protocol_has_less_than_300_lines_of_code() {
    let code = include_str!("../src/lib.rs").lines().map(str::trim);
    let code = code.filter(|line| !line.is_empty() && !line.starts_with("//"));
    assert!(code.count() < 300);
}
