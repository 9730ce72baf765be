//! No bytes whatever make a reader of histories panic, hang or grow without bound, and what it accepts the checkers
//! judge: mutations of good histories in all three formats. Cut into blocks of any size, a text says the same.
//!
//! Runs for two seconds; with `ORDAIN_FUZZ_SECONDS` set, for as long, starting from `ORDAIN_FUZZ_SEED` (1). The
//! mutants depend on the seed alone, so a failing one is found again by its number.

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::histories::{self, Random, Spec};
use ordain::check::parse::{self, Blocks, Format, ParseError, Strictness};
use ordain::check::{History, Model, Options, check, explain, linearizability};

/// Histories to start from: every format and every sort of operation.
fn corpus() -> Vec<Vec<u8>> {
    let spec = Spec {
        txns: 12,
        info: 100_000,
        ..Spec::default()
    };
    let mut json = Vec::new();
    histories::write_json(&spec, &mut json).expect("memory takes all");
    let mut native = Vec::new();
    parse::write_ndjson(&histories::history(&spec), &mut native).expect("memory takes all");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&json).expect("memory takes all");
    let mut corpus = vec![json, native, gzip.finish().expect("memory takes all")];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    corpus.extend(
        files
            .iter()
            .map(|file| std::fs::read(file).expect("a file")),
    );
    let small: [&[u8]; 6] = [
        br#"{:type :invoke :process 0 :f :cas :value [1 2]} {:type :ok :process 0 :f :cas :value [1 2]}"#,
        br#"{:type :invoke :process 0 :f :transfer :value {:from 0 :to 1 :amount 5}}"#,
        br#"{"type":"invoke","process":0,"f":"read","value":null}
{"type":"ok","process":0,"f":"read","value":{"0":10,"1":-5}}"#,
        br#"[{"type":"invoke","process":0,"f":"txn","value":[["w","x",1],["r","y",null]]},
{"type":"ok","process":0,"f":"txn","value":[["w","x",1],["r","y",18446744073709551615]]}]"#,
        br#"#jepsen.history.Op{:index 0 :type :invoke, :process 3, :time #inst "2020", :f :add, :value -9223372036854775808}"#,
        br#"{"type":"versions","key":"x","value":[1,2,3]}"#,
    ];
    corpus.extend(small.iter().map(|text| text.to_vec()));
    corpus
}

/// What turns up in such texts, and what readers stumble over.
const TOKENS: [&[u8]; 28] = [
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b":",
    b",",
    b"nil",
    b"null",
    b"#{",
    b"#_",
    b";",
    b"-",
    b"18446744073709551616",
    b"99999999999999999999999999",
    b"1e999",
    b"0x",
    b"\n",
    b"\0",
    b"\xff\xfe",
    b":append",
    b"\"append\"",
    b":type :ok",
    b":process",
    b":value [[",
];

fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut text = corpus[random.below(corpus.len() as u64) as usize].clone();
    for _ in 0..1 + random.below(6) {
        let at = random.below(text.len() as u64 + 1) as usize;
        let to = (at + random.below(40) as usize).min(text.len());
        match random.below(9) {
            0 if at < text.len() => text[at] ^= 1 << random.below(8),
            1 => drop(text.drain(at..to)),
            2 => {
                let part = text[at..to].to_vec();
                text.splice(at..at, part);
            }
            3 => {
                let token = TOKENS[random.below(TOKENS.len() as u64) as usize];
                text.splice(at..at, token.iter().copied());
            }
            4 => text.truncate(at),
            5 => {
                // Deep nesting, often unbalanced.
                let open = TOKENS[2 * random.below(2) as usize];
                let deep = open.repeat(random.below(3000) as usize);
                text.splice(at..at, deep);
            }
            6 => {
                let other = &corpus[random.below(corpus.len() as u64) as usize];
                let from = random.below(other.len() as u64 + 1) as usize;
                let end = (from + random.below(200) as usize).min(other.len());
                text.splice(at..at, other[from..end].iter().copied());
            }
            7 => {
                let digits = random
                    .next()
                    .to_string()
                    .repeat(1 + random.below(3) as usize);
                text.splice(at..to, digits.into_bytes());
            }
            _ => {
                // A line moved.
                let lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
                let line = lines[random.below(lines.len() as u64) as usize].to_vec();
                text.splice(at..at, line);
            }
        }
    }
    text
}

/// A text with the numbers of names replaced by the names. A record that was cut may leave a name behind, which moves the
/// numbers of others.
fn named(history: &History, text: &str) -> String {
    let mut named = String::new();
    for word in text.split_inclusive(|letter: char| !letter.is_ascii_digit()) {
        let digits = word.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        match digits.parse::<u64>() {
            Ok(number) => named += &history.show_value(number),
            Err(_) => named += digits,
        }
        named += &word[digits.len()..];
    }
    named
}

/// All that a history says, and how it numbers its keys.
fn content(history: &History) -> String {
    let mut content = String::new();
    for txn in history.txns() {
        let ops: Vec<_> = txn.ops().collect();
        let said = format!("{:?} {ops:?}", txn.header);
        writeln!(content, "{}", named(history, &said)).expect("memory takes all");
    }
    for key in 0..history.key_count() as u32 {
        let (name, order) = (history.show_key(key), history.version_order(key));
        writeln!(content, "{name} {order:?}").expect("memory takes all");
    }
    content
}

/// Small blocks and parts: most records are cut somewhere, and many cuts are no boundaries of records.
fn small_blocks(random: &mut Random) -> Blocks {
    Blocks {
        first: 1 + random.below(300) as usize,
        block: 1 + random.below(3000) as usize,
        part: 1 + random.below(300) as usize,
    }
}

/// Reads, writes back, and checks whatever was accepted.
fn exercise(text: &[u8], random: &mut Random) -> bool {
    let mut accepted = false;
    for strictness in [Strictness::Strict, Strictness::Lenient] {
        let whole = parse::read(text, strictness);
        let cut = parse::read_in_blocks(text, Path::new("-"), strictness, small_blocks(random));
        match (&whole, &cut) {
            (Ok(whole), Ok(cut)) => assert_eq!(content(whole), content(cut)),
            // A broken gzip stream may be noticed before what is wrong with the text before it.
            (Err(ParseError::Io { .. }), Err(_)) | (Err(_), Err(ParseError::Io { .. })) => {}
            (Err(whole), Err(cut)) => assert_eq!(whole.to_string(), cut.to_string()),
            (whole, cut) => panic!("{:?} and {:?}", whole.as_ref().err(), cut.as_ref().err()),
        }
        match whole {
            Err(ParseError::Content { line, reason, .. }) => {
                assert!(line > 0 && !reason.is_empty());
            }
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(history) => {
                accepted = true;
                let options = Options {
                    steps_max: 20_000,
                    ..Options::new(Model::StrictSerializable)
                };
                let report = check(&history, &options);
                for anomaly in &report.anomalies {
                    assert!(!anomaly.explanation.is_empty());
                    let drawn = explain::svg(&history, anomaly);
                    assert_eq!(drawn.is_some(), !anomaly.cycle.is_empty());
                }
                linearizability::check(&history, &options);
                for format in [Format::Ndjson, Format::Edn, Format::Json] {
                    let mut written = Vec::new();
                    parse::write(&history, format, &mut written).expect("memory takes all");
                    let again = parse::read(written.as_slice(), Strictness::Lenient);
                    assert_eq!(
                        again.map_err(|e| e.to_string()).map(|h| h.len()),
                        Ok(history.len()),
                        "{format:?}"
                    );
                }
            }
        }
    }
    accepted
}

#[test]
#[allow(clippy::print_stderr, reason = "a long run says what it did")]
fn mutated_histories_are_read_or_refused_and_never_panic() {
    let number = |name: &str, default| {
        let text = std::env::var(name).ok();
        text.map_or(default, |text| text.parse::<u64>().expect("a number"))
    };
    let bound = Duration::from_secs(number("ORDAIN_FUZZ_SECONDS", 2));
    let first = number("ORDAIN_FUZZ_SEED", 1);
    let corpus = corpus();
    let begun = Instant::now();
    let (mut tried, mut accepted) = (0u64, 0u64);
    while begun.elapsed() < bound {
        let seed = first + tried;
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9));
        let text = mutate(&mut random, &corpus);
        match catch_unwind(AssertUnwindSafe(|| exercise(&text, &mut random))) {
            Ok(read) => accepted += u64::from(read),
            Err(_) => panic!("seed {seed}: {:?}", String::from_utf8_lossy(&text)),
        }
        tried += 1;
    }
    eprintln!("{tried} mutants from seed {first}, {accepted} of them histories, in {bound:?}");
    assert!(accepted > tried / 50, "{accepted} of {tried}");
}
