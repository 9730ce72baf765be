//! Verdicts on list histories and the brute-force oracle agree, both ways, on three models.
//!
//! Appends are unique, so reads reveal the order of versions but for the elements that nobody read. What
//! these leave open is decided exactly; the table shows what inference alone would have missed.

mod oracle;

use std::collections::BTreeMap;
use std::fmt::Write;

use oracle::convert::{to_history, to_model};
use oracle::generate::{self, Kind};
use oracle::{Model, admits};
use ordain::check::{Options, Verdict, check, list_append};
use rayon::prelude::*;

const HISTORIES: u64 = 120_000;
const MODELS: [Model; 3] = [
    Model::Serializable,
    Model::StrictSerializable,
    Model::SnapshotIsolation,
];

/// By model: how often the history was valid, how often not, and how often inference alone knew that.
type Tally = BTreeMap<usize, [u64; 3]>;

fn compare(seed: u64) -> Tally {
    let txns = generate::history(Kind::Lists, seed);
    let history = to_history(&txns);
    let mut tally = Tally::new();
    for (at, &model) in MODELS.iter().enumerate() {
        let options = Options::new(to_model(model));
        let report = check(&history, &options);
        let expected = if admits(model, &txns) {
            Verdict::Valid
        } else {
            Verdict::Invalid
        };
        assert_eq!(
            report.verdict, expected,
            "seed {seed}, {model:?}: {report:#?}\n{txns:#?}"
        );
        let inferred = list_append::check(&history, &options).verdict;
        assert!(
            expected == Verdict::Invalid || inferred == Verdict::Valid,
            "seed {seed}, {model:?}"
        );
        let counts = tally.entry(at).or_default();
        counts[0] += u64::from(expected == Verdict::Valid);
        counts[1] += u64::from(expected == Verdict::Invalid);
        counts[2] += u64::from(inferred == Verdict::Invalid);
    }
    tally
}

#[test]
fn every_verdict_agrees_with_the_oracle() {
    let tally = (0..HISTORIES)
        .into_par_iter()
        .map(compare)
        .reduce(Tally::new, |mut sum, other| {
            for (at, counts) in other {
                let known = sum.entry(at).or_default();
                (0..3).for_each(|i| known[i] += counts[i]);
            }
            sum
        });
    let mut table = format!(
        "{HISTORIES} random list histories of 2 to 6 transactions, seeds from 0.\n\
         Inferred: found by the order that reads reveal. The rest needed the exact part: unread appends.\n\n\
         {:<36}{:>8}{:>9}{:>10}{:>9}\n",
        "model", "valid", "invalid", "inferred", "recall"
    );
    for (at, &model) in MODELS.iter().enumerate() {
        let [valid, invalid, inferred] = tally[&at];
        assert!(
            valid.min(invalid) > HISTORIES / 20,
            "both verdicts occur for {model:?}"
        );
        let recall = 100.0 * inferred as f64 / invalid as f64;
        let name = to_model(model).name();
        writeln!(
            table,
            "{name:<36}{valid:>8}{invalid:>9}{inferred:>10}{recall:>8.2}%"
        )
        .expect("a string takes all");
    }
    insta::assert_snapshot!("list_append_recall", table);
}
