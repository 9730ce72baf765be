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
    let args = ["check", "skew.ndjson", "--svg", "no/such/folder.svg"];
    let (code, _, err) = ordain(&args, &here);
    assert_eq!(code, 65, "{err}");
    // The cycle is there, and violates nothing that was asked.
    let args = [
        "check",
        "skew.ndjson",
        "--model",
        "read-committed",
        "--svg",
        "cycle.svg",
    ];
    let (code, _, err) = ordain(&args, &here);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("no cycle to draw"), "{err}");
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

/// Checks a text; what was printed, if the program ends as expected.
fn check(
    here: &Path,
    name: &str,
    text: impl AsRef<[u8]>,
    options: &[&str],
    expected: i32,
) -> String {
    fs::write(here.join(name), text).expect("writable");
    let (code, out, err) = ordain(&[&["check", name], options].concat(), here);
    assert_eq!(code, expected, "{name}, {options:?}: {out}{err}");
    out + &err
}

/// A history of EDN records, one for each process and operation, whose invocations come first or each before its completion.
fn edn(records: &[&str]) -> String {
    records
        .iter()
        .map(|record| format!("{{{record}}}\n"))
        .collect()
}

#[test]
fn an_impossible_read_does_not_make_other_models_valid() {
    let here = folder("check-beside-impossible-reads");
    let garbage = edn(&[
        ":type :invoke, :process 0, :f :write, :value 1",
        ":type :ok, :process 0, :f :write, :value 1",
        ":type :invoke, :process 1, :f :read, :value nil",
        ":type :ok, :process 1, :f :read, :value 7",
    ]);
    let aborted = edn(&[
        ":type :invoke, :process 0, :f :write, :value 1",
        ":type :fail, :process 0, :f :write, :value 1",
        ":type :invoke, :process 1, :f :read, :value nil",
        ":type :ok, :process 1, :f :read, :value 1",
    ]);
    // Each read what the other wrote (G1c), and a third did not read its own write.
    let internal = edn(&[
        ":type :invoke, :process 0, :f :txn, :value [[:w :x 1] [:r :y nil]]",
        ":type :invoke, :process 1, :f :txn, :value [[:w :y 2] [:r :x nil]]",
        ":type :ok, :process 0, :f :txn, :value [[:w :x 1] [:r :y 2]]",
        ":type :ok, :process 1, :f :txn, :value [[:w :y 2] [:r :x 1]]",
        ":type :invoke, :process 2, :f :txn, :value [[:w :z 5] [:r :z nil]]",
        ":type :ok, :process 2, :f :txn, :value [[:w :z 5] [:r :z nil]]",
    ]);
    for (name, text, model, expected) in [
        ("garbage", &garbage, "linearizable", 1),
        ("garbage", &garbage, "strict-serializable", 1),
        ("garbage", &garbage, "sequential", 2),
        ("aborted", &aborted, "linearizable", 1),
        ("aborted", &aborted, "read-committed", 1),
        ("aborted", &aborted, "read-uncommitted", 0),
        ("internal", &internal, "read-committed", 2),
        ("internal", &internal, "serializable", 1),
    ] {
        check(&here, name, text, &["--model", model], expected);
    }
}

#[test]
fn sets_counters_and_accounts_are_judged_for_what_they_are() {
    let here = folder("check-additions");
    let added = ":type :invoke, :process 0, :f :add, :value 1";
    let done = ":type :ok, :process 0, :f :add, :value 1";
    let asked = ":type :invoke, :process 1, :f :read, :value nil";
    let answered = |value: &str| format!(":type :ok, :process 1, :f :read, :value {value}");
    let after = |value: &str| edn(&[added, done, asked, &answered(value)]);
    let below_zero = |value: &str| {
        let text = after(value).replace(":value 1", ":value -1");
        text.replace("{1}", "{-1}")
    };
    let bank = |first: &str, second: &str| {
        edn(&[
            asked,
            &answered(first),
            ":type :invoke, :process 0, :f :transfer, :value {:from 0, :to 1, :amount 5}",
            ":type :ok, :process 0, :f :transfer, :value {:from 0, :to 1, :amount 5}",
            asked,
            &answered(second),
        ])
    };
    for (name, text, expected) in [
        ("counter", after("1"), 0),
        ("stale-counter", after("0"), 1),
        ("set", after("#{1}"), 0),
        ("set-as-sequence", after("(1)"), 0),
        ("set-as-vector", after("[1]"), 0),
        ("stale-set", after("#{}"), 1),
        ("negative-counter", below_zero("1"), 0),
        ("negative-set", below_zero("#{1}"), 0),
        ("negative-stale-set", below_zero("#{}"), 1),
        ("bank", bank("{0 10, 1 10}", "{0 5, 1 15}"), 0),
        ("stale-bank", bank("{0 10, 1 10}", "{0 10, 1 10}"), 1),
        ("torn-bank", bank("{0 10, 1 10}", "{0 5, 1 10}"), 1),
        (
            "unmoved-account",
            bank("{0 10, 1 10, 2 10}", "{0 5, 1 15, 2 10}"),
            0,
        ),
    ] {
        check(&here, name, text, &[], expected);
    }
}

#[test]
fn a_register_whose_values_repeat_is_decided_by_linearizability() {
    let here = folder("check-repeated-values");
    let sequence = |last: u64| {
        let mut records = Vec::new();
        for number in 0..2_000u64 {
            let (process, value) = (number % 5, number / 2 % 4);
            let (f, before) = match number % 2 {
                0 => (":write", value.to_string()),
                _ => (":read", "nil".to_owned()),
            };
            let value = if number == 1_999 { last } else { value };
            records.push(format!(
                ":type :invoke, :process {process}, :f {f}, :value {before}"
            ));
            records.push(format!(
                ":type :ok, :process {process}, :f {f}, :value {value}"
            ));
        }
        edn(&records.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for (name, text, expected) in [("valid", sequence(3), 0), ("stale", sequence(2), 1)] {
        check(&here, name, text, &[], expected);
    }
}

#[test]
fn records_that_a_checker_would_misread_are_refused_with_their_line() {
    let here = folder("check-refused");
    let invoke = |process: &str| {
        format!(
            "{{\"type\":\"invoke\",\"process\":{process},\"f\":\"txn\",\"value\":[[\"r\",\"x\",null]]}}\n"
        )
    };
    let other_key = edn(&[
        ":type :invoke, :process 0, :f :txn, :value [[:append :x 1]]",
        ":type :ok, :process 0, :f :txn, :value [[:append :y 1]]",
    ]);
    let more = edn(&[
        ":type :invoke, :process 0, :f :txn, :value [[:r :x nil]]",
        ":type :ok, :process 0, :f :txn, :value [[:r :x []] [:append :x 1]]",
    ]);
    let mut not_utf8 = invoke("0").into_bytes();
    let at = not_utf8
        .iter()
        .rposition(|&byte| byte == b'x')
        .expect("a key");
    not_utf8[at] = 0xff;
    for (name, text, place) in [
        ("text-process", invoke("\"0\"").into_bytes(), ":1: "),
        (
            "huge-process",
            invoke("18446744073709551616").into_bytes(),
            ":1: ",
        ),
        ("float-process", invoke("1.0").into_bytes(), ":1: "),
        ("other-key", other_key.into_bytes(), ":2: "),
        ("more-operations", more.into_bytes(), ":2: "),
        ("not-utf8", not_utf8, ":1: "),
    ] {
        let said = check(&here, name, text, &[], 65);
        assert!(said.contains(&format!("{name}{place}")), "{name}: {said}");
    }
    // A nemesis has a name, and is nobody's transaction.
    let said = check(&here, "nemesis", invoke("\"nemesis\""), &[], 2);
    assert!(said.contains("1 records of the process nemesis"), "{said}");
}

#[test]
fn a_bank_is_judged_by_what_it_holds() {
    let here = folder("check-bank");
    let text = edn(&[
        ":type :invoke, :process 0, :f :transfer, :value {:from 0, :to 1, :amount 15}",
        ":type :ok, :process 0, :f :transfer, :value {:from 0, :to 1, :amount 15}",
        ":type :invoke, :process 1, :f :read, :value nil",
        ":type :ok, :process 1, :f :read, :value {0 -5, 1 25}",
    ]);
    for (args, expected, said) in [
        (&[][..], 0, "--bank-total says what it has to be"),
        (&["--bank-total", "20", "--overdraft"], 0, "sum up to 20"),
        (&["--bank-total", "20"], 1, "below zero"),
        (&["--bank-total", "21", "--overdraft"], 1, "wrong-total"),
    ] {
        let out = check(&here, "bank.edn", &text, args, expected);
        assert!(out.contains(said), "{args:?}: {out}");
    }
}

#[test]
fn a_history_without_transactions_is_nothing_to_check() {
    let here = folder("check-nothing");
    let failed = edn(&[
        ":type :invoke, :process 0, :f :txn, :value [[:append :x 1]]",
        ":type :fail, :process 0, :f :txn, :value [[:append :x 1]]",
    ]);
    for (name, text) in [("empty", String::new()), ("failed", failed)] {
        let said = check(&here, name, text, &[], 2);
        assert!(said.starts_with("nothing to check"), "{name}: {said}");
    }
}

#[test]
fn a_key_is_a_list_or_a_register_and_one_used_as_both_is_refused_with_its_line() {
    let here = folder("check-torn-key");
    let write = ":process 0, :f :txn, :value [[:w :x 1]]";
    let append = ":process 1, :f :txn, :value [[:append :x 2]]";
    let (wrote, asked) = (
        format!(":type :ok, {write}"),
        ":type :invoke, :process 1, :f :txn, :value [[:r :x nil]]",
    );
    let invoked = [
        format!(":type :invoke, {write}"),
        format!(":type :invoke, {append}"),
    ];
    let all = |records: &[&str]| edn(records);
    let appended = format!(":type :ok, {append}");
    let mixed = all(&[&invoked[0], &wrote, &invoked[1], &appended]);
    let said = check(&here, "mixed", &mixed, &[], 65);
    assert!(
        said.contains("mixed:4: key :x is taken for a list"),
        "{said}"
    );
    let read = ":type :ok, :process 1, :f :txn, :value [[:r :x [1]]]";
    let said = check(
        &here,
        "read",
        all(&[&invoked[0], &wrote, asked, read]),
        &[],
        65,
    );
    assert!(said.contains("read:4: key :x"), "{said}");
    let said = check(
        &here,
        "open",
        all(&[&invoked[0], &wrote, &invoked[1]]),
        &[],
        65,
    );
    assert!(said.contains("record 2, which process 1 invoked"), "{said}");
    // Reads of nothing say nothing of what a key holds, and two keys may hold two sorts of things.
    let nothing = ":type :ok, :process 1, :f :txn, :value [[:r :x nil]]";
    check(
        &here,
        "nothing",
        all(&[&invoked[0], asked, nothing, &wrote]),
        &[],
        0,
    );
    let apart = mixed.replace(":append :x", ":append :y");
    check(&here, "apart", apart, &[], 0);
}

#[test]
fn a_vector_of_two_is_a_set_if_the_read_was_invoked_without_a_key() {
    let here = folder("check-vector-of-two");
    let set = |last: &str| {
        edn(&[
            ":type :invoke, :process 0, :f :add, :value 3",
            ":type :ok, :process 0, :f :add, :value 3",
            ":type :invoke, :process 0, :f :add, :value 5",
            ":type :ok, :process 0, :f :add, :value 5",
            ":type :invoke, :process 1, :f :read, :value nil",
            &format!(":type :ok, :process 1, :f :read, :value {last}"),
        ])
    };
    check(&here, "both", set("[3 5]"), &[], 0);
    check(&here, "other", set("[3 4]"), &[], 1);
    // Jepsen's `independent` wraps the value of the invocation as well.
    let registers = |last: &str| {
        edn(&[
            ":type :invoke, :process 0, :f :write, :value [3 5]",
            ":type :ok, :process 0, :f :write, :value [3 5]",
            ":type :invoke, :process 1, :f :read, :value [3 nil]",
            &format!(":type :ok, :process 1, :f :read, :value {last}"),
        ])
    };
    check(&here, "register", registers("[3 5]"), &[], 0);
    check(&here, "stale-register", registers("[3 nil]"), &[], 1);
    // A register that was read as if it held a list.
    let torn = registers("[3 5]")
        .replace(":write, :value [3 5]", ":write, :value 4")
        .replace("[3 nil]", "nil");
    let said = check(&here, "torn", torn, &[], 65);
    assert!(said.contains("torn:4: key 0 is taken for a list"), "{said}");
}

#[test]
fn cited_transactions_have_their_records_and_orders_of_versions_their_reasons() {
    let here = folder("check-cited");
    // One process writes x twice; another reads the second value, then the first.
    let text = edn(&[
        ":type :invoke, :process 0, :f :txn, :value [[:w :x 1]]",
        ":type :ok, :process 0, :f :txn, :value [[:w :x 1]]",
        ":type :invoke, :process 0, :f :txn, :value [[:w :x 2] [:w :y 1]]",
        ":type :ok, :process 0, :f :txn, :value [[:w :x 2] [:w :y 1]]",
        ":type :invoke, :process 1, :f :txn, :value [[:r :y nil] [:r :x nil]]",
        ":type :ok, :process 1, :f :txn, :value [[:r :y 1] [:r :x 1]]",
    ]);
    let model = ["--model", "strong-session-serializable", "--json"];
    let out = check(&here, "cited.edn", text, &model, 1);
    let report: Value = serde_json::from_str(&out).expect("one document");
    let cycle = &report["anomalies"][0]["cycle"];
    let ordered = cycle.as_array().expect("a cycle").iter();
    let ordered: Vec<&Value> = ordered.map(|step| &step["ordered_by"]).collect();
    assert!(
        ordered
            .iter()
            .any(|order| order["because"]["type"] == "process"
                && order["from"] == 0
                && order["to"] == 1),
        "{report:#}"
    );
    let expected = |process: u64, invoked: u64| {
        serde_json::json!({
            "process": process, "status": "ok", "invoked": invoked, "completed": invoked + 1
        })
    };
    assert_eq!(report["transactions"]["1"], expected(0, 2));
    assert_eq!(report["transactions"]["2"], expected(1, 4));
}

#[test]
fn a_drawing_holds_no_control_characters() {
    let here = folder("check-control-characters");
    skew(&here);
    let text = fs::read_to_string(here.join("skew.ndjson")).expect("written");
    fs::write(
        here.join("odd.ndjson"),
        text.replace("\"x\"", "\"x\\u001b[1m<\""),
    )
    .expect("writable");
    let (code, _, err) = ordain(&["check", "odd.ndjson", "--svg", "odd.svg"], &here);
    assert_eq!(code, 1, "{err}");
    let drawing = fs::read_to_string(here.join("odd.svg")).expect("it was drawn");
    assert!(drawing.contains("x\\u{1b}[1m&lt;"), "{drawing}");
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!drawing.contains(control));
}

#[test]
fn whoever_read_garbage_did_not_observe_the_initial_state() {
    let here = folder("check-garbage-beside");
    let text = edn(&[
        ":type :invoke, :process 0, :f :txn, :value [[:append :x 1] [:append :y 1]]",
        ":type :invoke, :process 1, :f :txn, :value [[:r :x nil] [:r :y nil]]",
        ":type :ok, :process 0, :f :txn, :value [[:append :x 1] [:append :y 1]]",
        ":type :ok, :process 1, :f :txn, :value [[:r :x [9]] [:r :y [1]]]",
    ]);
    let said = check(&here, "garbage.edn", &text, &[], 1);
    assert!(
        said.contains("did not observe T1's append of 1 to key :x"),
        "{said}"
    );
    assert!(!said.contains("initial"), "{said}");
    let said = check(&here, "initial.edn", text.replace("[9]", "[]"), &[], 1);
    assert!(
        said.contains("observed the initial (empty) state of key :x"),
        "{said}"
    );
}

/// The histories of `tests/histories` whose third line asks for a property, with the options that ask for it here.
const PROPERTIES: &[(&str, &[&str])] = &[
    ("long_fork_workload", &["--property", "long-fork"]),
    ("causal_reverse_workload", &["--property", "causal-reverse"]),
    ("fractured_read", &["--property", "read-atomicity"]),
    ("monotonic_reads", &["--property", "monotonic-reads"]),
    ("monotonic_writes", &["--property", "monotonic-writes"]),
    ("read_your_writes", &["--property", "read-your-writes"]),
    (
        "writes_follow_reads",
        &["--property", "writes-follow-reads"],
    ),
    ("seats_oversold", &["--seats", "1"]),
    ("seats_lost", &["--seats", "2"]),
];

#[test]
fn properties_of_workloads_are_judged_when_they_are_asked_for() {
    let here = folder("check-properties");
    let histories = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let mut said = String::new();
    for (name, asked) in PROPERTIES {
        for (name, expected) in [(name.to_string(), 1), (format!("{name}_near_miss"), 0)] {
            let text = fs::read(histories.join(format!("{name}.edn"))).expect("a history");
            // The near miss of a sale that is gone holds as many seats as that of an oversold one.
            let asked: Vec<&str> = match &name[..] {
                "seats_oversold_near_miss" => vec!["--seats", "2"],
                _ => asked.to_vec(),
            };
            // Nothing is asked of the model, so that the verdict is the property's.
            let options = [&asked[..], &["--model", "read-uncommitted"]].concat();
            // In one of them writes of two sessions are interleaved, which is a dirty write to any model.
            let (expected, broken) = match &name[..] {
                "monotonic_writes_near_miss" => (1, false),
                _ => (expected, expected == 1),
            };
            let out = check(&here, &format!("{name}.edn"), &text, &options, expected);
            assert_eq!(out.contains(": 0 violations in "), !broken, "{out}");
            said += &format!("# {name} {}\n{out}\n", options.join(" "));
            let json = [&options[..], &["--json"]].concat();
            let out = check(&here, &format!("{name}.edn"), &text, &json, expected);
            let report: Value = serde_json::from_str(&out).expect("one document");
            assert_eq!(report["valid"], expected == 0, "{name}: {report:#}");
        }
    }
    insta::assert_snapshot!("check_properties", said);
}

#[test]
fn a_property_that_a_history_does_not_fit_is_refused() {
    let here = folder("check-property-unfit");
    skew(&here);
    let text = fs::read_to_string(here.join("skew.ndjson")).expect("written");
    let said = check(
        &here,
        "lists.ndjson",
        &text,
        &["--property", "long-fork"],
        65,
    );
    assert!(
        said.contains("nothing to judge by long-fork: it looks at committed transactions that read two registers"),
        "{said}"
    );
    let registers = edn(&[
        ":type :invoke, :process 0, :f :write, :value 3",
        ":type :ok, :process 0, :f :write, :value 3",
    ]);
    for asked in [
        &["--property", "monotonic-reads"][..],
        &["--property", "read-atomicity"],
        &["--seats", "3"],
    ] {
        check(&here, "registers.edn", &registers, asked, 65);
    }
    let said = check(
        &here,
        "lists.ndjson",
        &text,
        &["--property", "long-forks"],
        64,
    );
    assert!(
        said.contains("unknown property") && said.contains("long-fork, causal-reverse"),
        "{said}"
    );
}

#[test]
fn orders_of_unread_appends_on_which_no_model_hangs_are_not_counted_against_the_budget() {
    let here = folder("check-orders-unneeded");
    // Fourteen saw half of what one wrote, and appended to z, which nobody read: 14! orders, and every model that an
    // order could save has failed.
    let write = ":process 99, :f :txn, :value [[:append :x 1] [:append :y 1]]";
    let mut all = vec![
        format!(":type :invoke, {write}"),
        format!(":type :ok, {write}"),
    ];
    for (kind, x, y) in [("invoke", "nil", "nil"), ("ok", "[1]", "[]")] {
        all.extend((0..14).map(|number| {
            let value = format!("[[:r :x {x}] [:r :y {y}] [:append :z {number}]]");
            format!(":type :{kind}, :process {number}, :f :txn, :value {value}")
        }));
    }
    let records: Vec<&str> = all.iter().map(String::as_str).collect();
    let said = check(&here, "skew.edn", edn(&records), &[], 1);
    assert!(said.contains("G-single-item: 1"), "{said}");
    assert!(!said.contains("budget"), "{said}");
}

/// Histories of `tests/histories`, a model by one of its names, and what the program ends with.
const MODELS: &[(&str, &str, i32)] = &[
    ("causal_lists", "read-atomic", 0),
    ("causal_lists", "causal-consistency", 1),
    ("causal_lists", "causal-cerone", 1),
    ("causal_lists_near_miss", "causal-consistency", 0),
    ("g_single", "read-atomic", 1),
    ("g_single", "causal-consistency", 1),
    ("appended_blindly", "causal-consistency", 0),
    ("appended_blindly", "consistent-view", 1),
    ("fractured_registers", "read-atomic", 1),
    ("fractured_registers", "causal-consistency", 1),
    ("fractured_registers_near_miss", "read-atomic", 0),
    ("causal_registers", "read-atomic", 0),
    ("causal_registers", "causal-consistency", 1),
    ("no_causal_order", "read-atomic", 0),
    ("no_causal_order", "causal-consistency", 1),
    ("no_causal_order", "prefix", 1),
    ("no_prefix_order", "causal-consistency", 0),
    ("no_prefix_order", "prefix", 1),
    ("no_prefix_order_near_miss", "prefix", 0),
    ("lost_update_registers", "causal-consistency", 0),
    ("lost_update_registers", "prefix", 0),
];

#[test]
fn models_of_atomic_visibility_are_judged_by_name() {
    let here = folder("check-visibility");
    let histories = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    for &(name, model, code) in MODELS {
        let text = fs::read(histories.join(format!("{name}.edn"))).expect("a history");
        let file = format!("{name}.edn");
        let said = check(&here, &file, &text, &["--model", model], code);
        assert!(
            code != 1 || said.contains("a contradiction!"),
            "{name} {model}: {said}"
        );
        let json = check(&here, &file, &text, &["--model", model, "--json"], code);
        let report: Value = serde_json::from_str(&json).expect("one document");
        let valid = match code {
            2 => serde_json::json!("unknown"),
            code => (code == 0).into(),
        };
        assert_eq!(report["valid"], valid, "{name} {model}: {report:#}");
        let left = report["boundary"]["unexamined"].as_array().expect("models");
        assert_eq!(left.contains(&report["model"]), code == 2, "{name} {model}");
    }
}

#[test]
fn of_values_that_repeat_atomic_visibility_is_left_open_and_that_is_said() {
    let here = folder("check-visibility-repeated");
    let mut records = Vec::new();
    for kind in ["invoke", "ok"] {
        // Whoever read 1 from x read it from one of two, and what was written between is not known.
        for (process, value) in [
            (0, "[[:w :x 1] [:w :y 1]]"),
            (1, "[[:w :x 1] [:w :z 1]]"),
            (2, "[[:r :x 1] [:r :y nil]]"),
            (3, "[[:r :x 1] [:r :z nil]]"),
            (4, "[[:r :y 1] [:r :z nil]]"),
            (5, "[[:r :y nil] [:r :z 1]]"),
        ] {
            let value = match kind {
                "invoke" => value
                    .replace(" 1]", " nil]")
                    .replace("[:w :x nil]", "[:w :x 1]"),
                _ => value.into(),
            };
            let value = value
                .replace("[:w :y nil]", "[:w :y 1]")
                .replace("[:w :z nil]", "[:w :z 1]");
            records.push(format!(
                ":type :{kind}, :process {process}, :f :txn, :value {value}"
            ));
        }
    }
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    for model in ["read-atomic", "causal-consistency"] {
        let said = check(&here, "repeated.edn", edn(&records), &["--model", model], 2);
        let why = format!("{model}: not decided where values repeat");
        assert!(said.contains(&why), "{said}");
    }
}
