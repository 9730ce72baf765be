//! Readers of histories: what is written reads back, and no input whatever makes them panic.

use std::io::Write;

use crate::histories::{self, Random, Spec};
use ordain::check::parse::{self, Format, Strictness};
use ordain::check::{History, Op, Options, check};
use proptest::prelude::*;

const FORMATS: [Format; 3] = [Format::Ndjson, Format::Edn, Format::Json];

fn read(text: &[u8]) -> Result<History, parse::ParseError> {
    parse::read(text, Strictness::Strict)
}

/// A reader that hands out a few bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl std::io::Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.1.min(self.0.len()).min(buffer.len());
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

/// Everything that a history says, independent of the numbering of keys.
fn content(history: &History) -> Vec<String> {
    let op = |op: Op| format!("{} {op:?}", history.show_key(op.key()));
    let mut lines: Vec<String> = history
        .txns()
        .map(|txn| {
            format!(
                "{:?} {:?}",
                txn.header,
                txn.ops().map(op).collect::<Vec<_>>()
            )
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_generated_history_reads_back_from_json_gzip_and_native_lines() {
    let spec = Spec {
        txns: 500,
        info: 0,
        ..Spec::default()
    };
    let mut text = Vec::new();
    histories::write_json(&spec, &mut text).unwrap();
    let history = read(&text).unwrap();
    assert_eq!(history.len(), 500);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&text).unwrap();
    let gzip = gzip.finish().unwrap();
    assert_eq!(content(&read(&gzip).unwrap()), content(&history));
    let trickled = parse::read(Trickle(&text, 7), Strictness::Strict).unwrap();
    assert_eq!(content(&trickled), content(&history));
    for format in FORMATS {
        let mut written = Vec::new();
        parse::write(&history, format, &mut written).unwrap();
        assert_eq!(
            content(&read(&written).unwrap()),
            content(&history),
            "{format:?}"
        );
    }
}

#[test]
fn every_object_is_written_in_every_format_and_edn_has_its_keywords_where_elle_wants_them() {
    let text = br#"{:type :invoke :process 0 :f :txn :value [[:append "x" "a"] [:append "x" "b"] [:append "x" "c"] [:r "x" nil]]}
        {:type :ok :process 0 :f :txn :value [[:append "x" "a"] [:append "x" "b"] [:append "x" "c"] [:r "x" ["a" "b" "c"]]]}
        {:type :invoke :process "late" :f :txn :value [[:w 1 5] [:r 1 nil] [:cas 2 [1 2]] [:add 3 -4] [:enqueue 4 1] [:dequeue 4 nil]]}
        {:type :info :process "late" :f :txn :value [[:w 1 5] [:r 1 nil] [:cas 2 [1 2]] [:add 3 -4] [:enqueue 4 1] [:dequeue 4 nil]]}
        {:type :invoke :process 1 :f :txn :value [[:r 1 nil]]}
        {:type :versions :key "x" :value ["a" "b" "c"]}"#;
    let history = read(text).unwrap();
    assert_eq!(history.len(), 3);
    for format in FORMATS {
        let mut written = Vec::new();
        parse::write(&history, format, &mut written).unwrap();
        let again = read(&written).unwrap();
        assert_eq!(content(&again), content(&history), "{format:?}");
        assert!(again.version_order(0).is_some(), "{format:?}");
        let text = String::from_utf8(written).unwrap();
        if format == Format::Edn {
            insta::assert_snapshot!("written_edn", text);
        }
    }
}

#[test]
fn a_history_without_records_is_written_as_none() {
    let history = ordain::check::history::HistoryBuilder::new().finish();
    for (format, expected) in FORMATS.into_iter().zip(["", "", "[]\n"]) {
        let mut written = Vec::new();
        parse::write(&history, format, &mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}

#[test]
fn json_arrays_edn_vectors_and_tagged_records_are_histories_too() {
    let array = br#"[{"type":"invoke","process":0,"f":"txn","value":[["append","x",1]]},
        {"type":"ok","process":0,"f":"txn","value":[["append","x",1]]}]"#;
    let edn = b"[{:type :invoke :process 0 :f :txn :value [[:append \"x\" 1]]} ; a comment
        #jepsen.history.Op{:type :ok, :process 0, :time #inst \"2020\", :f :txn, :value [[:append \"x\" 1]]}]";
    assert_eq!(content(&read(array).unwrap()), content(&read(edn).unwrap()));
}

#[test]
fn operations_on_single_objects_are_read() {
    let edn = b"{:type :invoke :process 0 :f :cas :value [1 2]}
        {:type :ok :process 0 :f :cas :value [1 2]}
        {:type :invoke :process 1 :f :read :value nil}
        {:type :ok :process 1 :f :read :value 3}
        {:type :info :process :nemesis :f :start :value {:odd [1}}
        {:type :invoke :process 2 :f :transfer :value {:from 1 :to 2 :amount 5}}";
    let text = String::from_utf8_lossy(edn).replace("{:odd [1}", "{:odd [1]}");
    let history = read(text.as_bytes()).unwrap();
    let ops: Vec<Op> = history
        .txns()
        .flat_map(|txn| txn.ops().collect::<Vec<_>>())
        .collect();
    assert!(
        matches!(
            ops[0],
            Op::Cas {
                expected: 1,
                new: 2,
                ..
            }
        ),
        "{ops:?}"
    );
    assert!(matches!(ops[1], Op::Read { value: Some(3), .. }), "{ops:?}");
    assert!(matches!(ops[2], Op::Add { delta: -5, .. }), "{ops:?}");
    assert_eq!(ops.len(), 4);
}

#[test]
fn what_does_not_fit_together_gets_its_line_and_reason() {
    let invoke = r#"{"type":"invoke","process":0,"f":"txn","value":[["append",1,1]]}"#;
    let other = r#"{"type":"ok","process":0,"f":"txn","value":[["append",1,2]]}"#;
    let ok = r#"{"type":"ok","process":0,"f":"txn","value":[["append",1,1]]}"#;
    let cases = [
        (format!("{ok}\n"), 1, "never invoked"),
        (format!("{invoke}\n{invoke}\n"), 2, "outstanding"),
        (format!("{invoke}\n{other}\n"), 2, "completed as another"),
        (
            format!("{invoke}\n{}", &ok[..30]),
            2,
            "ends within a record",
        ),
        (format!("{invoke}\n\n5"), 3, "expected a record"),
        (r#"{"type":"maybe","process":0}"#.into(), 1, "maybe"),
        (r#"{"type":"ok"}"#.into(), 1, "without a process"),
        (
            r#"{"type":"ok","process":0,"value":[["swap",1,1]]}"#.into(),
            1,
            "swap",
        ),
    ];
    for (text, line, reason) in cases {
        let error = read(text.as_bytes()).err().expect("an error").to_string();
        assert!(error.starts_with(&format!("-:{line}: ")), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn numbers_too_large_for_a_machine_word_keep_their_digits() {
    let big = "123456789012345678901234567890";
    let text = format!(
        "{{:type :invoke :process 0 :f :txn :value [[:append -3 {big}]]}}\n\
         {{:type :ok :process 0 :f :txn :value [[:append -3 {big}]]}}"
    );
    let history = read(text.as_bytes()).unwrap();
    let Some(Op::Append { key, value }) = history.txn(0).ops().next() else {
        panic!("an append");
    };
    assert_eq!(
        (
            history.show_key(key).as_str(),
            history.show_value(value).as_str()
        ),
        ("-3", big)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_a_history_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(read(&bytes));
        drop(parse::read(bytes.as_slice(), Strictness::Lenient));
    }

    #[test]
    fn damaged_histories_are_a_history_or_an_error(seed in any::<u64>(), damage in 1..8usize) {
        let spec = Spec { seed, txns: 12, ..Spec::default() };
        let mut text = Vec::new();
        histories::write_json(&spec, &mut text).unwrap();
        let mut random = Random(seed);
        for _ in 0..damage {
            if text.is_empty() {
                break;
            }
            let at = random.below(text.len() as u64) as usize;
            match random.below(3) {
                0 => drop(text.remove(at)),
                1 => text[at] = b"[]{}\":,;#_\\0n-\n"[random.below(15) as usize],
                _ => text.truncate(at.max(1)),
            }
        }
        if let Ok(history) = parse::read(text.as_slice(), Strictness::Lenient) {
            check(&history, &Options::default());
        }
    }
}
