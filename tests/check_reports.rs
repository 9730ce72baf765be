//! Small histories that a checker gets wrong easily (`tests/check-reports`, INDEX.md says why), as a user checks them; and that
//! no verdict is green which rests on nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ordain::check::{HistoryBuilder, Op, Status, parse};
use serde_json::Value;

fn reports() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check-reports")
}

fn run(args: &[&str], here: &Path) -> (i32, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_ordain"))
        .arg("check")
        .args(args)
        .current_dir(here)
        .output()
        .expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("the program exits by itself");
    (code, text(&output.stdout) + &text(&output.stderr))
}

/// Runs the check of a row, in words and as JSON: both exit with the code, the words hold the reason, and the document's
/// `valid` says the same.
fn expect(file: &str, args: &[&str], code: i32, reason: &str) {
    let args = [&[file], args].concat();
    let (found, said) = run(&args, &reports());
    assert_eq!(found, code, "{args:?}: {said}");
    assert!(said.contains(reason), "{args:?}: {said}");
    let (found, said) = run(&[&args[..], &["--json"]].concat(), &reports());
    assert_eq!(found, code, "{args:?}: {said}");
    let document = said.split("\nerror: ").next().expect("a document");
    let document: Value = serde_json::from_str(document).expect("one document");
    let valid = match code {
        0 => Value::Bool(true),
        1 => Value::Bool(false),
        2 => Value::from("unknown"),
        _ => Value::Null,
    };
    assert_eq!(document["valid"], valid, "{args:?}: {said}");
    let is_empty = |name: &str| document[name].as_object().is_none_or(|map| map.is_empty());
    assert!(code != 0 || !is_empty("judged"), "{args:?}: {said}");
}

/// One test for each row of INDEX.md: its name, arguments, exit code, and what is said.
macro_rules! rows {
    ($($name:ident: $file:literal $args:expr => $code:literal, $reason:literal;)*) => {
        /// The files that some row checks.
        const FILES: &[&str] = &[$($file),*];

        $(#[test]
        fn $name() {
            expect($file, &$args, $code, $reason);
        })*
    };
}

rows! {
    a_read_that_lacks_an_account_has_the_wrong_total:
        "bank_account_missing_from_read.edn" ["--bank-total", "8"] => 1, "read 1 of 2 accounts and found 6";
    an_account_that_only_a_failed_transfer_names_hides_no_wrong_total:
        "bank_failed_transfer_disables_check.edn" ["--bank-total", "8"] => 1, "found 1 in them instead of 8";
    a_balance_that_is_no_integer_is_refused:
        "bank_fractional_balance.json" ["--bank-total", "8"] => 65, "a balance is an integer below 2^63, not 0.5";
    a_total_that_is_compared_with_nothing_is_unknown:
        "bank_nothing_judged.edn" ["--bank-total", "8"] => 2, "their total was compared with nothing";
    a_stale_read_of_all_balances_is_not_strictly_serializable:
        "bank_stale_called_strict_serializable.edn" ["--bank-total", "8"] => 1,
        "INVALID under strict-serializable";
    a_sum_of_balances_does_not_wrap:
        "bank_sum_overflows.json" ["--bank-total", "0"] => 1, "found 18446744073709551616 in them";
    a_byte_order_mark_is_skipped: "bom.ndjson" [] => 0, "1 transactions";
    causal_consistency_contains_the_order_of_sessions:
        "causal_without_sessions.edn" ["--model", "causal-consistency"] => 1, "no-session-order";
    causal_is_short_for_causal_consistency:
        "causal_without_sessions.edn" ["--model", "causal"] => 1, "no-session-order";
    prefix_consistency_contains_the_order_of_sessions:
        "causal_without_sessions.edn" ["--model", "prefix"] => 1, "no-session-order";
    read_atomicity_contains_the_order_of_sessions:
        "causal_without_sessions.edn" ["--model", "read-atomic"] => 1, "no-session-order";
    snapshot_isolation_contains_the_order_of_sessions_under_its_own_name:
        "causal_without_sessions.edn" ["--model", "strong-session-snapshot-isolation"] => 1, "INVALID";
    causal_consistency_without_sessions_has_a_name_of_its_own:
        "causal_without_sessions.edn" ["--model", "causal-consistency-no-session"] => 0, "valid";
    a_counter_to_which_nothing_was_added_reads_zero:
        "counter_adds_failed_reads_zero.edn" [] => 0, "valid";
    a_counter_above_all_additions_is_found_without_a_search:
        "counter_out_of_bounds_indeterminate_adds.edn" [] => 1, "allow a value from 0 to";
    a_character_of_edn_may_be_a_bracket: "edn_character.edn" [] => 0, "1 transactions";
    the_records_may_be_an_edn_list: "edn_top_level_list.edn" [] => 0, "1 transactions";
    an_empty_file_is_unknown: "empty_file.edn" [] => 2, "nothing was judged";
    a_failed_completion_may_carry_anything:
        "fail_with_other_value.edn" ["--bank-total", "8"] => 2, "their total was compared with nothing";
    a_failed_completion_alone_is_no_evidence: "fail_with_other_value.edn" [] => 2, "1 failed transactions";
    an_indeterminate_completion_may_carry_nil: "info_with_nil_value.edn" [] => 0, "1 indeterminate";
    operations_with_and_without_a_key_are_not_mixed:
        "keyed_add_unkeyed_read.edn" [] => 65, "whether they mean the same is open";
    a_mutex_that_is_free_is_acquired: "mutex_message.edn" [] => 0, "valid";
    a_record_without_a_process_is_refused: "no_process.edn" [] => 65, "no_process.edn:1: a record without a process";
    a_record_without_a_process_is_a_fragment: "no_process.edn" ["--lenient"] => 0, "1 transactions";
    a_process_with_a_name_is_a_client: "processes_with_names.ndjson" [] => 1, "process client-1";
    a_register_starts_empty: "register_starts_at_zero.edn" [] => 1, "INVALID";
    a_register_starts_at_what_is_said: "register_starts_at_zero.edn" ["--initial", "0"] => 0, "valid";
    a_session_guarantee_is_decided_by_its_own_checker:
        "session_model_undecided.edn" ["--model", "read-your-writes"] => 1, "read-your-writes-violation";
    an_empty_vector_is_what_an_empty_set_holds:
        "set_empty_read_vector.json" [] => 1, "added 7 and had completed";
    a_lost_element_is_found_beside_indeterminate_adds:
        "set_lost_element_indeterminate_adds.edn" [] => 1, "added 99 and had completed";
    elements_may_be_keywords: "set_of_keywords.edn" [] => 0, "valid";
    a_set_does_not_hold_an_element_twice: "set_read_duplicates.edn" [] => 1, "found 3 twice";
    a_read_of_two_elements_may_be_invoked_without_a_value:
        "set_two_elements_no_value_key.json" [] => 0, "valid";
    a_set_with_indeterminate_adds_is_decided: "set_valid_indeterminate_adds.edn" [] => 0, "valid";
    time_stamps_that_go_back_are_noticed:
        "time_goes_back.ndjson" ["--model", "linearizable"] => 1, "the time at line 5 is smaller";
    time_stamps_may_give_the_order:
        "time_goes_back.ndjson" ["--model", "linearizable", "--order", "time"] => 0, "valid";
    an_unknown_operation_is_refused_though_it_has_no_value:
        "unknown_f_without_value.edn" [] => 65, "unknown operation drain";
}

#[test]
fn every_file_of_the_index_is_checked() {
    let entries = fs::read_dir(reports()).expect("the reports");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names: BTreeSet<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let mut checked: BTreeSet<String> = FILES.iter().map(|&file| file.to_owned()).collect();
    checked.insert("INDEX.md".to_owned());
    assert_eq!(names, checked);
}

/// The histories of the reports and of `tests/histories` that can be read at all.
fn readable() -> Vec<PathBuf> {
    let folders = [
        reports(),
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories"),
    ];
    let mut files = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(folder).expect("a folder");
        files.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    files.retain(|file| parse::read_file(file, parse::Strictness::Lenient).is_ok());
    files.sort();
    files
}

/// Nothing that could be judged is left: what was known to have happened failed, or was never done, or nobody did it.
#[test]
fn a_history_from_which_all_that_is_judgeable_was_deleted_is_not_green() {
    let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-without-evidence");
    fs::create_dir_all(&here).expect("a place for the test");
    let mut files = Vec::new();
    for (number, file) in readable().iter().enumerate() {
        let history = parse::read_file(file, parse::Strictness::Lenient).expect("readable");
        let (mut failed, mut idle) = (HistoryBuilder::new(), HistoryBuilder::new());
        for txn in history.txns() {
            let complete = (txn.header.complete != u64::MAX).then_some(txn.header.complete);
            for (builder, status) in [(&mut failed, Status::Fail), (&mut idle, txn.header.status)] {
                builder.begin(txn.header.process % 1_000, txn.header.invoke);
                for op in txn.ops().filter(|_| status == Status::Fail) {
                    match op {
                        Op::Append { value, .. } => builder.append(7, value),
                        Op::Write { value, .. } => builder.append(7, value),
                        _ => {}
                    }
                }
                let ended = (status == Status::Fail).then_some(txn.header.invoke);
                builder.end(status, ended.or(complete));
            }
        }
        for (name, part) in [("failed", failed), ("idle", idle)] {
            let mut text = Vec::new();
            parse::write_ndjson(&part.finish(), &mut text).expect("memory takes every write");
            let name = format!("{name}-{number}.ndjson");
            fs::write(here.join(&name), text).expect("writable");
            files.push(name);
        }
    }
    assert!(files.len() > 100, "{}", files.len());
    let nemesis =
        "{:type :info, :process :nemesis, :f :start, :value [[:r :x 1]]}\n; nothing else\n";
    for (name, text) in [
        ("nemesis.edn", nemesis),
        ("comment.edn", "; nothing\n"),
        ("vector.edn", "[]"),
    ] {
        fs::write(here.join(name), text).expect("writable");
        files.push(name.to_owned());
    }
    let mut args: Vec<&str> = files.iter().map(String::as_str).collect();
    args.push("--lenient");
    for model in [
        "strict-serializable",
        "read-uncommitted",
        "linearizable",
        "causal",
        "monotonic-reads",
    ] {
        let (_, said) = run(&[&args[..], &["--json", "--model", model]].concat(), &here);
        let document: Value = serde_json::from_str(&said).expect("one document");
        for (file, report) in document["histories"].as_object().expect("histories") {
            assert_eq!(
                report["valid"], "unknown",
                "{file} under {model}: {report:#}"
            );
        }
    }
}

#[test]
fn what_is_not_judged_is_said() {
    let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-skipped");
    fs::create_dir_all(&here).expect("a place for the test");
    let text = "{:type :info, :process :nemesis, :f :start, :value nil}
{:type :invoke, :process 0, :f :write, :value 1}
{:type :ok, :process 0, :f :write, :value 1}
{:type :invoke, :process 1, :f :write, :value 2}
{:type :fail, :process 1, :f :write, :value 2}
{:type :invoke, :process 0, :f :read, :value nil}
{:type :ok, :process 0, :f :read, :value nil}
";
    fs::write(here.join("some.edn"), text).expect("writable");
    let args = ["some.edn", "--nil-reads", "unknown"];
    let (code, said) = run(&args, &here);
    assert_eq!(code, 0, "{said}");
    for line in [
        "skipped: 1 records of the process nemesis: it is no client",
        "skipped: 1 failed transactions: ",
        "skipped: 1 reads without a result: ",
        "note: nothing was read",
    ] {
        assert!(said.contains(line), "{said}");
    }
    let (_, said) = run(&[&args[..], &["--json"]].concat(), &here);
    let document: Value = serde_json::from_str(&said).expect("one document");
    assert_eq!(document["schema"], 2);
    assert_eq!(
        document["judged"],
        serde_json::json!({"transactions": 1, "writes": 1})
    );
    assert_eq!(document["skipped"].as_array().map(Vec::len), Some(3));
    // A read of nil that says that nothing was there is a stale read.
    let (code, said) = run(&args[..1], &here);
    assert_eq!(code, 1, "{said}");
}

#[test]
fn several_histories_end_in_a_table_and_the_gravest_exit_code() {
    let here = reports();
    for (files, code) in [
        (&["bom.ndjson", "edn_character.edn"][..], 0),
        (&["bom.ndjson", "empty_file.edn"], 2),
        (&["empty_file.edn", "unknown_f_without_value.edn"], 65),
        (
            &[
                "unknown_f_without_value.edn",
                "set_read_duplicates.edn",
                "bom.ndjson",
            ],
            1,
        ),
    ] {
        let (found, said) = run(files, &here);
        assert_eq!(found, code, "{files:?}: {said}");
        assert_eq!(said.lines().count(), files.len(), "{said}");
    }
}

#[test]
fn a_folder_of_a_jepsen_store_is_its_history() {
    let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-store");
    fs::create_dir_all(here.join("run")).expect("a place for the test");
    let (code, said) = run(&["run"], &here);
    assert_eq!(code, 65, "{said}");
    assert!(said.contains("a folder without a history"), "{said}");
    let text = fs::read(reports().join("set_of_keywords.edn")).expect("a history");
    fs::write(here.join("run/history.edn"), text).expect("writable");
    let (code, said) = run(&["run"], &here);
    fs::remove_file(here.join("run/history.edn")).expect("written above");
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_workload_that_the_operations_contradict_is_refused() {
    let here = reports();
    for (file, workload, code) in [
        ("set_of_keywords.edn", "set", 0),
        ("set_of_keywords.edn", "counter", 65),
        ("counter_adds_failed_reads_zero.edn", "counter", 0),
        ("counter_adds_failed_reads_zero.edn", "set", 65),
        ("register_starts_at_zero.edn", "register", 1),
        ("register_starts_at_zero.edn", "list", 65),
        ("bank_stale_called_strict_serializable.edn", "bank", 1),
        ("mutex_message.edn", "mutex", 0),
    ] {
        let (found, said) = run(&[file, "--workload", workload], &here);
        assert_eq!(found, code, "{file} {workload}: {said}");
    }
}

/// Checks records as one file.
fn check_text(name: &str, records: &[&str], args: &[&str]) -> (i32, String) {
    let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-kinds");
    fs::create_dir_all(&here).expect("a place for the test");
    let text: String = records
        .iter()
        .map(|record| format!("{{{record}}}\n"))
        .collect();
    fs::write(here.join(name), text).expect("writable");
    run(&[&[name], args].concat(), &here)
}

#[test]
fn elements_between_quotes_are_names_and_numbers_that_are_too_large_are_refused() {
    for (value, code) in [
        ("\"1\"", 0),
        ("\"1.5\"", 0),
        ("9223372036854775808", 65),
        ("1.5", 65),
    ] {
        let (found, said) = check_text(
            "element.edn",
            &[
                &format!(":type :invoke, :process 0, :f :add, :value {value}"),
                &format!(":type :ok, :process 0, :f :add, :value {value}"),
                ":type :invoke, :process 1, :f :read, :value nil",
                &format!(":type :ok, :process 1, :f :read, :value #{{{value}}}"),
            ],
            &[],
        );
        assert_eq!(found, code, "{value}: {said}");
    }
}

#[test]
fn an_initial_value_without_a_register_is_refused() {
    let (code, said) = run(&["set_of_keywords.edn", "--initial", "0"], &reports());
    assert_eq!(code, 65, "{said}");
    assert!(said.contains("no key holds one"), "{said}");
}

#[test]
fn a_mutex_is_held_by_one_at_a_time() {
    let acquire = |process: u64| {
        ["invoke", "ok"]
            .map(|kind| format!(":type :{kind}, :process {process}, :f :acquire, :value nil"))
    };
    let release = ["invoke", "ok"].map(|kind| format!(":type :{kind}, :process 0, :f :release"));
    let (one, two) = (acquire(0), acquire(1));
    let all = |parts: &[&[String]]| parts.concat();
    for (name, records, code) in [
        ("free", all(&[&one, &release, &two]), 0),
        ("held", all(&[&one, &two]), 1),
        // The release may have taken effect before the second acquisition ended.
        (
            "concurrent",
            all(&[&one, &two[..1], &release, &two[1..]]),
            0,
        ),
        ("never-held", all(&[&release]), 1),
    ] {
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        for args in [
            &[][..],
            &["--model", "linearizable"],
            &["--workload", "mutex"],
        ] {
            let (found, said) = check_text(&format!("{name}.edn"), &records, args);
            assert_eq!(found, code, "{name} {args:?}: {said}");
        }
    }
}

#[test]
fn a_queue_is_first_in_first_out() {
    let put = |value: u64| {
        ["invoke", "ok"]
            .map(|kind| format!(":type :{kind}, :process 0, :f :enqueue, :value {value}"))
    };
    let take = |value: &str| {
        let asked = ":type :invoke, :process 1, :f :dequeue, :value nil".to_owned();
        [
            asked,
            format!(":type :ok, :process 1, :f :dequeue, :value {value}"),
        ]
    };
    for (name, taken, code) in [
        ("in-order", ["1", "2", "nil"], 0),
        ("out-of-order", ["2", "1", "nil"], 1),
        ("lost", ["1", "nil", "nil"], 1),
        ("twice", ["1", "1", "2"], 1),
        ("never-put", ["1", "2", "3"], 1),
    ] {
        let mut records = [put(1), put(2)].concat();
        records.extend(taken.iter().flat_map(|value| take(value)));
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        let (found, said) = check_text(&format!("{name}.edn"), &records, &[]);
        assert_eq!(found, code, "{name}: {said}");
    }
}

#[test]
fn a_register_that_is_written_its_initial_value_again_is_decided_by_itself() {
    let write = |value: u64| {
        ["invoke", "ok"].map(|kind| format!(":type :{kind}, :process 0, :f :write, :value {value}"))
    };
    let read = |value: &str| {
        ["nil", value].map(|value| {
            let kind = if value == "nil" { "invoke" } else { "ok" };
            format!(":type :{kind}, :process 1, :f :read, :value {value}")
        })
    };
    for (name, records, code) in [
        (
            "again",
            [read("0"), write(1), read("1"), write(0), read("0")].concat(),
            0,
        ),
        ("stale", [read("0"), write(1), read("0")].concat(), 1),
        ("stale-again", [write(0), write(1), read("0")].concat(), 1),
    ] {
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        let (found, said) = check_text(&format!("{name}.edn"), &records, &["--initial", "0"]);
        assert_eq!(found, code, "{name}: {said}");
    }
}

#[test]
fn linearizability_of_transactions_on_several_keys_is_refused() {
    let histories = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let (code, said) = run(&["g1c.edn", "--model", "linearizable"], &histories);
    assert_eq!(code, 65, "{said}");
    assert!(said.contains("--model strict-serializable"), "{said}");
}
