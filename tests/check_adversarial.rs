//! Histories made to hurt: everything on one key, everything concurrent, everything indeterminate, values that repeat,
//! texts that nest. Budgets are counts of steps, so each ends in a verdict or in `unknown` with its reason.
//!
//! At a small scale here; `ORDAIN_ADVERSARIAL_OPS=1000000 cargo test --release --test suite check_adversarial::` is the
//! full one.

use ordain::check::parse::{self, Strictness};
use ordain::check::{
    AnomalyKind, History, HistoryBuilder, Model, Options, Report, Status, Verdict, check,
    linearizability,
};

fn scale() -> u64 {
    let ops = std::env::var("ORDAIN_ADVERSARIAL_OPS").ok();
    ops.map_or(20_000, |ops| ops.parse().expect("a number"))
}

/// So many transactions, all invoked at 0 and completed at 1, or never.
fn concurrent(
    status: Status,
    count: u64,
    add: impl Fn(&mut HistoryBuilder, u64),
) -> HistoryBuilder {
    let mut builder = HistoryBuilder::new();
    for number in 1..=count {
        builder.begin(number, 0);
        add(&mut builder, number);
        builder.end(status, (status != Status::Info).then_some(1));
    }
    builder
}

fn judge(history: &History) -> Report {
    let report = check(history, &Options::new(Model::StrictSerializable));
    assert!(
        report.verdict != Verdict::Unknown || !report.notes.is_empty(),
        "an unknown verdict has its reasons"
    );
    report
}

#[test]
fn indeterminate_appends_of_which_one_reader_saw_all_and_one_nothing() {
    let count = scale();
    let mut builder = concurrent(Status::Info, count, |builder, n| builder.append(0, n));
    let all: Vec<u64> = (1..=count).rev().collect();
    builder.begin(0, 2);
    builder.read_list(0, &all);
    builder.end(Status::Ok, Some(3));
    builder.begin(0, 4);
    builder.read_list(0, &[]);
    builder.end(Status::Ok, Some(5));
    let report = judge(&builder.finish());
    assert_eq!(report.verdict, Verdict::Invalid);
    let first = &report.anomalies[0];
    assert_eq!(first.transactions.len(), 3, "{}", first.explanation);
}

#[test]
fn appends_that_nobody_read() {
    let history = concurrent(Status::Ok, scale(), |builder, n| builder.append(0, n)).finish();
    assert_eq!(judge(&history).verdict, Verdict::Valid);
}

#[test]
fn updates_that_all_read_the_same_version() {
    let history = concurrent(Status::Ok, scale(), |builder, n| {
        builder.read_list(0, &[]);
        builder.append(0, n);
    });
    let report = judge(&history.finish());
    assert!(report.found(AnomalyKind::LostUpdate));
    assert!(report.anomalies[0].transactions.len() as u64 <= scale());
}

#[test]
fn indeterminate_writes_of_a_register_of_which_few_were_read() {
    let mut builder = concurrent(Status::Info, scale(), |builder, n| builder.write(0, n));
    for (at, value) in [(2, Some(7)), (4, Some(9)), (6, Some(7))] {
        builder.begin(0, at);
        builder.read(0, value);
        builder.end(Status::Ok, Some(at + 1));
    }
    assert_eq!(judge(&builder.finish()).verdict, Verdict::Invalid);
}

#[test]
fn writes_of_a_register_in_any_order() {
    let history = concurrent(Status::Ok, scale(), |builder, n| builder.write(0, n));
    assert_ne!(judge(&history.finish()).verdict, Verdict::Invalid);
}

#[test]
fn writes_and_reads_of_a_register_in_any_order() {
    let count = scale() / 2;
    let mut builder = concurrent(Status::Ok, count, |builder, n| builder.write(0, n));
    for number in 1..=count {
        builder.begin(count + number, 0);
        builder.read(0, Some(number));
        builder.end(Status::Ok, Some(1));
    }
    assert_ne!(judge(&builder.finish()).verdict, Verdict::Invalid);
}

#[test]
fn writes_of_a_register_that_all_write_the_same() {
    let mut builder = concurrent(Status::Info, scale(), |builder, _| builder.write(0, 1));
    builder.begin(0, 2);
    builder.read(0, Some(1));
    builder.end(Status::Ok, Some(3));
    assert_ne!(judge(&builder.finish()).verdict, Verdict::Invalid);
}

/// Judges key by key. Decides that, or says that the budget ended.
fn judge_key(history: &History) -> Verdict {
    let report = linearizability::check(history, &Options::new(Model::Linearizable));
    let is_unknown = report.verdict == Verdict::Unknown;
    assert_eq!(is_unknown, !report.notes.is_empty(), "{:?}", report.notes);
    report.verdict
}

/// Reads of these values, one after the other, after everything else.
fn then_reads(mut builder: HistoryBuilder, values: &[u64]) -> History {
    for (at, &value) in (2..).step_by(2).zip(values) {
        builder.begin(0, at);
        builder.read(0, Some(value));
        builder.end(Status::Ok, Some(at + 1));
    }
    builder.finish()
}

#[test]
fn indeterminate_compare_and_sets_without_order_end_in_a_verdict() {
    // From each value to 7 others: more sets of calls than can be told apart lead anywhere.
    let values = 100;
    let hop = |builder: &mut HistoryBuilder, n: u64| {
        let from = n % values;
        builder.cas(0, from, (from * 7 + n / values) % values);
    };
    let mut first = concurrent(Status::Info, scale(), hop);
    first.begin(0, 0);
    first.write(0, 1);
    first.end(Status::Ok, Some(1));
    let possible = then_reads(first, &[50, 3, 50, 99, 1]);
    assert_eq!(judge_key(&possible), Verdict::Valid);

    let never_written = then_reads(concurrent(Status::Info, scale(), hop), &[values]);
    assert_eq!(judge_key(&never_written), Verdict::Invalid);
    let never_first = then_reads(concurrent(Status::Info, scale(), hop), &[1]);
    assert_eq!(judge_key(&never_first), Verdict::Invalid);
}

#[test]
fn distinct_compare_and_sets_of_which_none_leads_back_end_in_a_verdict() {
    // A chain: reading its end takes all of them, in their order.
    let chain = |count| concurrent(Status::Info, count, |builder, n| builder.cas(0, n - 1, n));
    let mut short = chain(300);
    short.begin(0, 0);
    short.write(0, 0);
    short.end(Status::Ok, Some(1));
    assert_eq!(judge_key(&then_reads(short, &[300])), Verdict::Valid);
    let broken = then_reads(chain(scale()), &[scale()]);
    assert_ne!(judge_key(&broken), Verdict::Valid, "nobody wrote 0");
}

#[test]
fn everything_on_one_key_at_once_is_linearized_or_given_up() {
    for status in [Status::Info, Status::Ok] {
        let writes = || concurrent(status, scale(), |builder, n| builder.write(0, n));
        assert_eq!(judge_key(&writes().finish()), Verdict::Valid);
        assert_ne!(
            judge_key(&then_reads(writes(), &[1, 2])),
            match status {
                Status::Info => Verdict::Invalid,
                _ => Verdict::Valid,
            }
        );
        let unwritten = then_reads(writes(), &[0]);
        assert_ne!(judge_key(&unwritten), Verdict::Valid);
    }
    let adds = concurrent(Status::Info, scale(), |builder, n| builder.add(0, n as i64));
    assert_ne!(judge_key(&then_reads(adds, &[5])), Verdict::Invalid);
    let swaps = concurrent(Status::Ok, scale(), |builder, n| {
        builder.cas(0, n % 50, (n + 1) % 50);
    });
    assert_ne!(judge_key(&swaps.finish()), Verdict::Valid, "nobody wrote 0");
}

#[test]
fn huge_integers_are_values_like_others() {
    let huge = [u64::MAX, (1 << 63) - 1, 1 << 62, 0];
    let mut builder = concurrent(Status::Info, scale(), |builder, n| {
        builder.cas(0, huge[n as usize % 4], huge[(n as usize + 1) % 4]);
    });
    builder.begin(0, 0);
    builder.write(0, huge[0]);
    builder.end(Status::Ok, Some(1));
    let reads: Vec<u64> = huge.into_iter().cycle().take(12).collect();
    assert_eq!(judge_key(&then_reads(builder, &reads)), Verdict::Valid);
    let deltas = concurrent(Status::Ok, scale(), |builder, n| {
        builder.add(0, if n % 2 == 0 { i64::MAX } else { i64::MIN });
    });
    assert_ne!(judge_key(&deltas.finish()), Verdict::Invalid);
}

#[test]
fn nesting_without_end_is_refused_with_its_line() {
    let depth = scale() as usize;
    for (open, before) in [
        ("[", r#"{"type":"invoke","process":0,"f":"txn","value":"#),
        (r#"{"a":"#, r#"{"type":"invoke","process":0,"odd":"#),
        ("[", "{:type :invoke :process 0 :f :txn :value "),
        ("{", "{:type :invoke :process 0 :odd "),
        ("#odd ", "{:type :invoke :process 0 :odd "),
        ("#_", "{:type :invoke "),
    ] {
        let text = format!("{before}{}", open.repeat(depth));
        let error = parse::read(text.as_bytes(), Strictness::Strict);
        let error = error.err().expect("it never ends").to_string();
        assert!(error.starts_with("-:1: "), "{error}");
    }
}

#[test]
fn numbers_of_any_length_are_names_of_themselves() {
    let digits = "9".repeat(scale() as usize);
    let text = format!(
        "{{:type :invoke :process 0 :f :txn :value [[:append 1 {digits}]]}}\n\
         {{:type :ok :process 0 :f :txn :value [[:append 1 {digits}]]}}"
    );
    let history = parse::read(text.as_bytes(), Strictness::Strict).expect("a history");
    assert_eq!(history.show_value(1 << 63), digits);
    assert_eq!(judge(&history).verdict, Verdict::Valid);
}

#[test]
fn a_few_values_written_by_ever_so_many_transactions_of_two_keys_are_left_open_at_once() {
    // Each of the reads may come from any of the 20,000 writers of its value, and no single key decides.
    let (writers, readers) = (100_000u64, 150);
    let mut builder = HistoryBuilder::new();
    for number in 0..writers {
        builder.begin(number, 0);
        builder.write(0, number % 5);
        builder.write(1, number % 5);
        builder.end(Status::Info, None);
    }
    for number in 0..readers {
        builder.begin(writers + number, 0);
        builder.read(0, Some(number % 5));
        builder.read(1, Some(number % 5));
        builder.end(Status::Ok, Some(1));
    }
    let history = builder.finish();
    let report = check(&history, &Options::default());
    assert_eq!(report.verdict, Verdict::Unknown);
    assert!(
        report.notes[0].contains("more than 4000000 writes"),
        "{:?}",
        report.notes
    );
    assert_eq!(report.boundary.possible, []);
}
