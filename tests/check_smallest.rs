//! The transactions that an anomaly of lists is reported with: without the rest of the history they fail in the same
//! way, and without any one of them they do not.

use std::collections::BTreeSet;

use crate::oracle::convert::{to_history, to_model};
use crate::oracle::generate::{self, Kind};
use crate::oracle::{MODELS, Op, Txn, admits};
use ordain::check::{Anomaly, AnomalyKind, HistoryBuilder, Model, Options, Status, Verdict, check};
use rayon::prelude::*;

const HISTORIES: u64 = 10_000;

/// What a history looks like when only these transactions ever were: the definition, on the oracle's types.
fn part(txns: &[Txn], members: &[u32]) -> Vec<Txn> {
    let appended = |at: u32, key: u32, value: i64| {
        let mut ops = txns[at as usize].ops.iter();
        ops.any(|op| *op == Op::Append(key, value))
    };
    let all: Vec<u32> = (0..txns.len() as u32).collect();
    let stays = |key: u32, value: i64| {
        let by = |ids: &[u32]| ids.iter().any(|&at| appended(at, key, value));
        by(members) || !by(&all)
    };
    let mut part: Vec<Txn> = members
        .iter()
        .map(|&at| txns[at as usize].clone())
        .collect();
    for op in part.iter_mut().flat_map(|txn| &mut txn.ops) {
        if let Op::ReadList(key, list) = op {
            list.retain(|&value| stays(*key, value));
        }
    }
    part
}

/// Has the history an anomaly of that kind that refutes as much?
fn shows(txns: &[Txn], wanted: &Anomaly) -> bool {
    let report = check(&to_history(txns), &Options::default());
    let refutes = |found: &Anomaly| wanted.refutes.iter().all(|&model| found.violates(model));
    let mut found = report.anomalies.iter();
    found.any(|anomaly| anomaly.kind == wanted.kind && refutes(anomaly))
}

fn judge(seed: u64, txns: &[Txn], anomaly: &Anomaly) {
    let mut members = anomaly.transactions.clone();
    members.sort_unstable();
    let alone = part(txns, &members);
    let what = format!("seed {seed}, {}: {members:?} of {txns:#?}", anomaly.kind);
    assert!(shows(&alone, anomaly), "{what}");
    for model in MODELS
        .into_iter()
        .filter(|&model| to_model(model).forbids(anomaly.kind))
    {
        assert!(!admits(model, &alone), "{model:?} allows it: {what}");
    }
    for spared in &members {
        let mut fewer = members.clone();
        fewer.retain(|id| id != spared);
        assert!(
            !shows(&part(txns, &fewer), anomaly),
            "{spared} can be spared: {what}"
        );
    }
    assert!(
        anomaly
            .explanation
            .starts_with("Let (none can be left out):\n"),
        "{what}"
    );
    for step in &anomaly.cycle {
        assert!(members.contains(&step.from), "{what}");
    }
}

#[test]
fn no_transaction_of_a_reported_anomaly_can_be_spared_and_no_other_is_needed() {
    let judged = (0..HISTORIES).into_par_iter().map(|seed| {
        let txns = generate::history(Kind::Lists, seed);
        let report = check(&to_history(&txns), &Options::default());
        for anomaly in &report.anomalies {
            judge(seed, &txns, anomaly);
        }
        let kinds = report.anomalies.iter().map(|anomaly| anomaly.kind);
        kinds.collect::<BTreeSet<_>>()
    });
    let kinds = judged.reduce(BTreeSet::new, |one, two| &one | &two);
    assert!(kinds.len() >= 20, "only {kinds:?}");
}

#[test]
fn of_a_long_history_the_few_transactions_that_fail_are_found() {
    let mut builder = HistoryBuilder::new();
    let count = 30_000;
    let mut at = 0;
    let mut list = Vec::new();
    for n in 0..count {
        builder.begin(n % 7, at);
        // A lost update in the middle: two transactions that read the same list and append to it.
        builder.read_list(n % 50, if n % 50 == 3 { &list } else { &[] });
        if n % 50 == 3 {
            builder.append(3, n);
            list.push(n);
            if n == 15_003 {
                builder.end(Status::Ok, Some(at + 5));
                builder.begin(99, at + 1);
                builder.read_list(3, &list[..list.len() - 1]);
                builder.append(3, n + 1);
                list.push(n + 1);
            }
        }
        builder.end(Status::Ok, Some(at + 5));
        at += 10;
    }
    let history = builder.finish();
    let report = check(&history, &Options::new(Model::StrictSerializable));
    assert_eq!(report.verdict, Verdict::Invalid);
    assert_eq!(report.notes, [""; 0]);
    for anomaly in &report.anomalies {
        assert!(anomaly.transactions.len() <= 3, "{}", anomaly.explanation);
    }
    assert!(report.found(AnomalyKind::LostUpdate) && report.found(AnomalyKind::GSingle));
}

#[test]
fn long_lists_on_one_key_do_not_make_the_search_long() {
    let mut builder = HistoryBuilder::new();
    let mut list = Vec::new();
    for n in 0..3_000 {
        builder.begin(n % 7, 10 * n);
        // Now and then a transaction reads the last two elements in the other order.
        let mut read: Vec<u64> = list.clone();
        if n % 300 == 299 {
            let last = read.len() - 1;
            read.swap(last - 1, last);
        }
        builder.read_list(1, &read);
        builder.append(1, n);
        list.push(n);
        builder.end(Status::Ok, Some(10 * n + 5));
    }
    let report = check(&builder.finish(), &Options::default());
    assert!(report.found(AnomalyKind::IncompatibleOrder));
    let mut notes = report.notes.iter();
    assert!(
        notes.any(|note| note.contains("was not sought")),
        "{:?}",
        report.notes
    );
    let sizes = report
        .anomalies
        .iter()
        .map(|anomaly| anomaly.transactions.len());
    assert!(sizes.min() < Some(10));
}
