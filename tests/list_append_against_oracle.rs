//! The list-append checker and the brute-force oracle agree, both ways; and what each inference adds.

use crate::oracle::convert::{to_history, to_model};
use crate::oracle::generate::{self, Kind};
use crate::oracle::{self, MODELS, admits};
use ordain::check::{AnomalyKind, Options, Verdict, list_append};

const HISTORIES: u64 = 120_000;

/// Histories by model (as an index) and by the oracle's verdict: valid, or invalid and the weakest inference that knows.
type Outcome = oracle::Outcome<(usize, Option<Inference>)>;

/// What has to be looked at, each with all before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Inference {
    /// Single reads, and the orders of versions.
    Reads,
    /// Cycles of dependencies.
    Dependencies,
    /// Cycles with the order of sessions.
    Sessions,
    /// Cycles with the order of real time.
    RealTime,
    /// All orders of writes that nobody read.
    Orders,
}

fn inference(kind: AnomalyKind) -> Inference {
    use AnomalyKind::*;
    match kind {
        G0 | G1c | GSingle | GNonadjacent | G2Item | LostUpdate | WriteSkew => {
            Inference::Dependencies
        }
        G0Process | G1cProcess | GSingleProcess | GNonadjacentProcess | G2ItemProcess => {
            Inference::Sessions
        }
        G0Realtime | G1cRealtime | GSingleRealtime | GNonadjacentRealtime | G2ItemRealtime => {
            Inference::RealTime
        }
        NotSnapshotIsolated | NotStrongSessionSnapshotIsolated | NotStrongSnapshotIsolated => {
            Inference::Orders
        }
        _ => Inference::Reads,
    }
}

fn compare(seed: u64) -> Outcome {
    let txns = generate::history(Kind::Lists, seed);
    let history = to_history(&txns);
    let report = list_append::check(&history, &Options::default());
    let mut outcome = Outcome::default();
    for (at, &model) in MODELS.iter().enumerate() {
        let expected = admits(model, &txns);
        let kinds = AnomalyKind::ALL.iter().copied();
        let found = kinds.filter(|kind| report.counts.contains_key(kind.name()));
        let forbidden = found.filter(|kind| to_model(model).forbids(*kind));
        let weakest = forbidden.map(inference).min();
        if weakest.is_none() != expected {
            let found: Vec<_> = report.counts.keys().collect();
            outcome.1.push(format!(
                "seed {seed}, {model:?}: the oracle says {expected}, we found {found:?}"
            ));
        }
        *outcome.0.entry((at, weakest)).or_default() += 1;
    }
    let strict = report.verdict == Verdict::Valid;
    assert_eq!(strict, report.counts.is_empty(), "seed {seed}");
    outcome
}

#[test]
fn every_verdict_agrees_with_the_oracle() {
    let tally = oracle::assert_agreement(0..HISTORIES, compare);
    let mut table = String::from(
        "model | invalid | single reads | dependencies | sessions | real time | unread orders\n",
    );
    for (at, &model) in MODELS.iter().enumerate() {
        let count = |of: Option<Inference>| tally.get(&(at, of)).copied().unwrap_or(0);
        let valid = count(None);
        let invalid = HISTORIES - valid;
        assert!(valid.min(invalid) > HISTORIES / 20, "{model:?}: {tally:?}");
        table += &format!("{} | {invalid}", to_model(model));
        for of in [
            Inference::Reads,
            Inference::Dependencies,
            Inference::Sessions,
            Inference::RealTime,
            Inference::Orders,
        ] {
            table += &format!(" | {}", count(Some(of)));
        }
        table.push('\n');
    }
    insta::assert_snapshot!("list_recall", table);
}
