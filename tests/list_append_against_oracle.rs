//! The list-append checker and the brute-force oracle agree, both ways.

mod oracle;

use std::collections::BTreeMap;

use oracle::convert::{to_history, to_model};
use oracle::generate::{self, Kind};
use oracle::{MODELS, admits};
use ordain::check::{AnomalyKind, Options, Verdict, list_append};
use rayon::prelude::*;

const HISTORIES: u64 = 120_000;

/// Histories by model (as an index) and by the oracle's verdict.
type Tally = BTreeMap<(usize, bool), u64>;

fn compare(seed: u64) -> (Tally, Vec<String>) {
    let txns = generate::history(Kind::Lists, seed);
    let history = to_history(&txns);
    let report = list_append::check(&history, &Options::default());
    let mut tally = Tally::new();
    let mut disagreements = Vec::new();
    for (at, &model) in MODELS.iter().enumerate() {
        let expected = admits(model, &txns);
        let kinds = AnomalyKind::ALL.iter();
        let mut found = kinds.filter(|kind| report.counts.contains_key(kind.name()));
        let valid = !found.any(|&kind| to_model(model).forbids(kind));
        if valid != expected {
            let found: Vec<_> = report.counts.keys().collect();
            disagreements.push(format!(
                "seed {seed}, {model:?}: the oracle says {expected}, we found {found:?}"
            ));
        }
        *tally.entry((at, expected)).or_default() += 1;
    }
    let strict = report.verdict == Verdict::Valid;
    assert_eq!(strict, report.counts.is_empty(), "seed {seed}");
    (tally, disagreements)
}

#[test]
fn every_verdict_agrees_with_the_oracle() {
    let all = (0..HISTORIES).into_par_iter().map(compare);
    let (tally, disagreements) = all.reduce(Default::default, |mut sum, other| {
        for (key, count) in other.0 {
            *sum.0.entry(key).or_default() += count;
        }
        sum.1.extend(other.1);
        sum
    });
    for (at, model) in MODELS.iter().enumerate() {
        let count = |valid| tally.get(&(at, valid)).copied().unwrap_or(0);
        assert!(
            count(true) > HISTORIES / 20 && count(false) > HISTORIES / 20,
            "{model:?}: {tally:?}"
        );
    }
    let first: Vec<_> = disagreements.iter().take(20).collect();
    assert!(
        disagreements.is_empty(),
        "{}: {first:#?}",
        disagreements.len()
    );
}
