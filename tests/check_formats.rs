//! Histories from one format to another and back; records of whole operations; and what is told of sets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ordain::check::parse::{self, Format, Strictness};
use ordain::check::{History, Model, Options, Verdict, check};
use serde_json::Value;

const FORMATS: [Format; 3] = [Format::Ndjson, Format::Json, Format::Edn];

/// All histories here that can be read, and the recorded ones beside the repository, if they are there.
fn corpus() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![
        here.join("tests/histories"),
        here.join("tests/check-reports"),
    ];
    let shared = here
        .ancestors()
        .map(|dir| dir.join("shared/corpus/elle-cases"));
    folders.extend(shared.into_iter().find(|dir| dir.is_dir()));
    let mut files = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(folder).expect("a folder");
        files.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    files.retain(|file| parse::read_file(file, Strictness::Lenient).is_ok());
    files.sort();
    files
}

fn written(history: &History, format: Format) -> Vec<u8> {
    let mut text = Vec::new();
    parse::write(history, format, &mut text).expect("memory takes every write");
    text
}

fn read(text: &[u8]) -> History {
    parse::read(text, Strictness::Lenient)
        .unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(text)))
}

#[test]
fn a_history_is_the_same_in_every_format() {
    let files = corpus();
    assert!(files.len() > 150, "{}", files.len());
    for file in files {
        let original = parse::read_file(&file, Strictness::Lenient).expect("readable");
        let verdict = |history: &History, model| {
            let report = check(history, &Options::new(model));
            (report.verdict, report.counts, report.exercised)
        };
        // Instants become those of the records; after that nothing changes any more.
        let native = read(&written(&original, Format::Ndjson));
        for model in [Model::StrictSerializable, Model::Linearizable] {
            assert_eq!(
                verdict(&original, model),
                verdict(&native, model),
                "{}",
                file.display()
            );
        }
        let text = written(&native, Format::Ndjson);
        for first in FORMATS {
            let once = read(&written(&native, first));
            for second in FORMATS {
                let twice = read(&written(&once, second));
                let again = written(&twice, Format::Ndjson);
                assert!(
                    again == text,
                    "{} by {first:?} and {second:?}",
                    file.display()
                );
            }
        }
    }
}

fn ordain(args: &[&str], here: &Path) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ordain"))
        .arg("check")
        .args(args)
        .current_dir(here)
        .output()
        .expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("the program exits by itself");
    (code, text(&output.stdout), text(&output.stderr))
}

fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let here = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&here).expect("a place for the test");
    for (name, text) in files {
        fs::write(here.join(name), text).expect("writable");
    }
    here
}

#[test]
fn the_program_converts_and_judges_what_it_converted_the_same() {
    let reports = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check-reports");
    let (_, direct, _) = ordain(&["bank_stale_called_strict_serializable.edn"], &reports);
    for format in ["edn", "json", "ndjson"] {
        let args = [
            "bank_stale_called_strict_serializable.edn",
            "--convert",
            format,
        ];
        let (code, text, said) = ordain(&args, &reports);
        assert_eq!((code, said.as_str()), (0, ""));
        let here = folder("check-convert", &[("converted", &text)]);
        let (code, converted, _) = ordain(&["converted"], &here);
        assert_eq!((code, converted.as_str()), (1, direct.as_str()), "{text}");
    }
    let (code, _, said) = ordain(&["bom.ndjson", "--convert", "edn", "--json"], &reports);
    assert_eq!(code, 64, "{said}");
}

const WHOLE: &str = r#"{"process": 1, "f": "read", "value": 3, "call": 30, "return": 40}
{"process": 0, "f": "write", "value": 3, "call": 10, "return": 25}
{"process": 2, "f": "write", "value": 4, "call": 12}
"#;

#[test]
fn records_of_whole_operations_come_in_any_order() {
    let verdict = |text: &str| {
        let history = parse::read(text.as_bytes(), Strictness::Strict);
        history.map(|history| check(&history, &Options::new(Model::Linearizable)).verdict)
    };
    assert!(matches!(verdict(WHOLE), Ok(Verdict::Valid)));
    // One that never returned may have taken effect, and one that did, had.
    let open = WHOLE.replace("\"read\", \"value\": 3", "\"read\", \"value\": 4");
    assert!(matches!(verdict(&open), Ok(Verdict::Valid)));
    let stale = WHOLE.replace("\"read\", \"value\": 3", "\"read\", \"value\": null");
    assert!(matches!(verdict(&stale), Ok(Verdict::Invalid)));
    for (wrong, reason) in [
        (
            WHOLE.replace("\"return\": 40", "\"return\": 4"),
            "before it was called",
        ),
        (
            WHOLE.to_owned() + "{\"process\": 3, \"type\": \"invoke\", \"f\": \"read\"}\n",
            "beside records of whole operations",
        ),
    ] {
        let error = verdict(&wrong).expect_err("no history").to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn what_became_of_the_elements_of_a_set_is_told() {
    let text = "{:type :invoke, :process 0, :f :add, :value 1}
{:type :ok, :process 0, :f :add, :value 1}
{:type :invoke, :process 0, :f :add, :value 2}
{:type :ok, :process 0, :f :add, :value 2}
{:type :invoke, :process 1, :f :add, :value 3}
{:type :info, :process 1, :f :add, :value 3}
{:type :invoke, :process 0, :f :read}
{:type :ok, :process 0, :f :read, :value #{2 3}}
{:type :invoke, :process 0, :f :read}
{:type :ok, :process 0, :f :read, :value (1 2 2 9)}
{:type :invoke, :process 0, :f :add, :value 4}
{:type :ok, :process 0, :f :add, :value 4}
";
    let here = folder("check-sets", &[("set.edn", text)]);
    let (code, said, _) = ordain(&["set.edn"], &here);
    assert_eq!(code, 1, "{said}");
    let line = "set 0: 4 elements tried, 3 acknowledged, 4 read, 1 never looked for; 1 lost (3); 1 stale (1); \
                1 unexpected (9); 1 duplicated (2)";
    assert!(said.contains(line), "{said}");
    let (_, said, _) = ordain(&["set.edn", "--json"], &here);
    let document: Value = serde_json::from_str(&said).expect("one document");
    assert_eq!(
        document["sets"][0]["lost"],
        serde_json::json!({"count": 1, "first": ["3"]})
    );
}

#[test]
fn anomalies_that_were_not_asked_for_are_counted_and_break_nothing() {
    let histories = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let (code, said, _) = ordain(&["g_single.edn"], &histories);
    assert_eq!(code, 1, "{said}");
    let (code, said, _) = ordain(&["g_single.edn", "--anomalies", "G0,G1c"], &histories);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("judged by G0, G1c only, and not by G-single-item: 1"),
        "{said}"
    );
    // One that is also of a kind that was asked for.
    let (code, said, _) = ordain(&["g_single.edn", "--anomalies", "g2-item"], &histories);
    assert_eq!(code, 1, "{said}");
    let (code, _, said) = ordain(
        &["g_single.edn", "--anomalies", "G-singel-item"],
        &histories,
    );
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("did you mean G-single-item?"), "{said}");
}

#[test]
fn the_longest_partial_linearization_is_drawn() {
    let reports = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check-reports");
    let here = folder("check-pictures", &[]);
    let file = here.join("key.svg");
    let name = file.to_str().expect("a name");
    for history in [
        "register_starts_at_zero.edn",
        "set_lost_element_indeterminate_adds.edn",
        "bank_stale_called_strict_serializable.edn",
    ] {
        let (code, said, _) = ordain(
            &[history, "--model", "linearizable", "--svg", name],
            &reports,
        );
        assert_eq!(code, 1, "{said}");
        let svg = fs::read_to_string(&file).expect("it was drawn");
        assert!(svg.contains("partial linearization holds"), "{svg}");
        // One red bar: what could not take effect.
        assert_eq!(svg.matches("#d55e00").count(), 1, "{svg}");
        fs::remove_file(&file).expect("it is there");
    }
}
