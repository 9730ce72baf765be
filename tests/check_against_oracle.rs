//! The public entry, `check`, and the brute-force oracle agree, both ways: on lists, on registers, and on both
//! in one transaction; with the verdict that a caller gets, not with the anomalies behind it.

use crate::oracle::convert::{to_history, to_model};
use crate::oracle::generate::{self, Kind};
use crate::oracle::{self, MODELS, admits};
use ordain::check::{Options, Verdict, check};

/// Histories by model (as an index) and by the oracle's verdict.
type Outcome = oracle::Outcome<(usize, bool)>;

/// Seeds from here on belong to this test: the checkers' own tests start at 0.
const FIRST_SEED: u64 = 1_000_000;

fn compare(kind: Kind, seed: u64) -> Outcome {
    let txns = generate::history(kind, seed);
    let history = to_history(&txns);
    let mut outcome = Outcome::default();
    for (at, &model) in MODELS.iter().enumerate() {
        let expected = admits(model, &txns);
        let verdict = if expected {
            Verdict::Valid
        } else {
            Verdict::Invalid
        };
        let report = check(&history, &Options::new(to_model(model)));
        if report.verdict != verdict {
            outcome.1.push(format!(
                "seed {seed}, {model:?}: the oracle says {verdict:?}, we {:?}: {:?} {:?}",
                report.verdict, report.counts, report.notes
            ));
        }
        *outcome.0.entry((at, expected)).or_default() += 1;
    }
    outcome
}

fn assert_agreement(kind: Kind, histories: u64) {
    let seeds = FIRST_SEED..FIRST_SEED + histories;
    let tally = oracle::assert_agreement(seeds, |seed| compare(kind, seed));
    for (at, model) in MODELS.iter().enumerate() {
        let count = |valid| tally.get(&(at, valid)).copied().unwrap_or(0);
        assert!(
            count(true) > histories / 20 && count(false) > histories / 20,
            "{model:?}: {tally:?}"
        );
    }
}

#[test]
fn the_verdict_on_lists_is_the_oracles() {
    assert_agreement(Kind::Lists, 60_000);
}

#[test]
fn the_verdict_on_registers_is_the_oracles() {
    assert_agreement(Kind::Registers, 60_000);
}

#[test]
fn the_verdict_on_lists_and_registers_together_is_the_oracles() {
    assert_agreement(Kind::Mixed, 40_000);
}
