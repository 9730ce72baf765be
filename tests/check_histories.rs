//! A history for each anomaly, a near miss that has none, and the explanation that a person gets.
//!
//! Each file in `tests/histories` states on its second line what must be found. The explanations are snapshots.

use std::path::Path;

use ordain::check::{AnomalyKind, Options, Verdict, check, explain, parse};

/// The kinds that the file's second line names.
fn expected(text: &str) -> Vec<AnomalyKind> {
    let line = text.lines().nth(1).expect("a second line");
    let names = line.strip_prefix("; expect: ").expect("an expectation");
    let kind = |name: &str| {
        let mut kinds = AnomalyKind::ALL.iter().copied();
        kinds
            .find(|kind| kind.name() == name)
            .expect("a kind's name")
    };
    let names = names.split_whitespace().filter(|&name| name != "valid");
    let mut kinds: Vec<AnomalyKind> = names.map(kind).collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn every_history_has_the_anomalies_that_it_states_and_no_other() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let entries = dir.read_dir().expect("the histories");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let mut explanations = String::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).expect("a text");
        let history = parse::read(text.as_bytes(), parse::Strictness::Strict).expect("a history");
        let report = check(&history, &Options::default());
        let name = path.file_stem().expect("a name").to_string_lossy();
        let mut found: Vec<AnomalyKind> = report.anomalies.iter().map(|a| a.kind).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, expected(&text), "{name}");
        assert_eq!(report.verdict == Verdict::Valid, found.is_empty(), "{name}");
        for anomaly in &report.anomalies {
            let picture = explain::svg(&history, anomaly);
            let arrows = picture.map_or(0, |svg| svg.matches("marker-end").count());
            assert_eq!(arrows, anomaly.cycle.len(), "{name}");
            explanations += &format!("{name}: {}\n{}\n", anomaly.kind, anomaly.explanation);
        }
    }
    assert!(paths.len() >= 30);
    insta::assert_snapshot!("check_explanations", explanations);
}
