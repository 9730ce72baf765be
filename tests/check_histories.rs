//! A history for each anomaly that a checker can report, a near miss that has none, and the explanation that a person
//! gets.
//!
//! Each file in `tests/histories` says on its first line what it is, on its second what must be found, and on its third,
//! if not everything is to be checked, what: a line `; checker: NAME ARGUMENTS`, or another model `; model: NAME`; or, if it is there for one of them, the
//! weakest models that are violated: `; weakest: MODELS`. What `NAME_near_miss` lacks is what `NAME` has. The
//! explanations are snapshots.

use std::collections::BTreeSet;
use std::path::Path;

use ordain::check::workload::{self, Saga};
use ordain::check::{
    Anomaly, AnomalyKind, History, Options, Verdict, check, explain, linearizability, parse,
};

struct Case {
    name: String,
    text: String,
}

fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    let entries = dir.read_dir().expect("the histories");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let case = |path: &Path| Case {
        name: path.file_stem().expect("a name").to_string_lossy().into(),
        text: std::fs::read_to_string(path).expect("a text"),
    };
    let mut cases: Vec<Case> = paths.map(|path| case(&path)).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

impl Case {
    /// The kinds that the second line names.
    fn expected(&self) -> BTreeSet<AnomalyKind> {
        let line = self.text.lines().nth(1).expect("a second line");
        let names = line.strip_prefix("; expect: ").expect("an expectation");
        let kind = |name: &str| {
            let mut kinds = AnomalyKind::ALL.iter().copied();
            kinds
                .find(|kind| kind.name() == name)
                .expect("a kind's name")
        };
        let names = names.split_whitespace().filter(|&name| name != "valid");
        names.map(kind).collect()
    }

    fn history(&self) -> History {
        parse::read(self.text.as_bytes(), parse::Strictness::Strict)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// What the checker of the third line finds, or [`check`].
    fn found(&self, history: &History) -> Vec<Anomaly> {
        let line = self.text.lines().nth(2).unwrap_or_default();
        let Some(checker) = line.strip_prefix("; checker: ") else {
            let asked = line.strip_prefix("; model: ");
            let model = asked.map(|name| name.parse().expect("a model's name"));
            let options = model.map_or(Options::default(), Options::new);
            let report = check(history, &options);
            let valid = report.verdict == Verdict::Valid;
            assert_eq!(valid, report.anomalies.is_empty(), "{}", self.name);
            if let Some(models) = line.strip_prefix("; weakest: ") {
                let mut names: Vec<&str> = models.split_whitespace().collect();
                let mut found = report.boundary.violated;
                names.sort_unstable();
                found.sort_unstable_by_key(|model| model.name());
                let found: Vec<&str> = found.iter().map(|model| model.name()).collect();
                assert_eq!(found, names, "{}", self.name);
            }
            return report.anomalies;
        };
        let words: Vec<&str> = checker.split_whitespace().collect();
        let number = |word: &str| word.parse::<u64>().expect("a number");
        match words[..] {
            ["bank", total, ref accounts @ ..] => {
                let accounts: Vec<u64> = accounts.iter().map(|word| number(word)).collect();
                workload::bank(history, &accounts, number(total) as i64, false).anomalies
            }
            ["seats", capacity] => workload::seats(history, number(capacity) as usize),
            ["long-fork"] => workload::long_fork(history),
            ["causal-reverse"] => workload::causal_reverse(history),
            ["fractured-reads"] => workload::fractured_reads(history),
            ["sessions"] => workload::sessions(history),
            ["sagas", saga] => workload::sagas(history, &[self.saga(saga)]),
            ["linearizability"] => linearizability::check(history, &Options::default()).anomalies,
            _ => panic!("{}: no checker {checker}", self.name),
        }
    }

    /// `0,2/4`: transactions 0 and 2 are steps, 4 compensates.
    fn saga(&self, text: &str) -> Saga {
        let (steps, compensations) = text.split_once('/').expect("steps/compensations");
        let ids = |text: &str| {
            let ids = text.split(',').filter(|id| !id.is_empty());
            ids.map(|id| id.parse().expect("a transaction")).collect()
        };
        Saga {
            steps: ids(steps),
            compensations: ids(compensations),
        }
    }
}

#[test]
fn every_history_has_the_anomalies_that_it_states_and_no_other() {
    let mut explanations = String::new();
    let mut wrong = Vec::new();
    for case in cases() {
        let history = case.history();
        let anomalies = case.found(&history);
        let found: BTreeSet<AnomalyKind> = anomalies.iter().map(|a| a.kind).collect();
        if found != case.expected() {
            wrong.push((case.name.clone(), found));
        }
        for anomaly in &anomalies {
            let picture = explain::svg(&history, anomaly);
            let arrows = picture.map_or(0, |svg| svg.matches("marker-end").count());
            assert_eq!(arrows, anomaly.cycle.len(), "{}", case.name);
            explanations += &format!("{}: {}\n{}\n", case.name, anomaly.kind, anomaly.explanation);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    insta::assert_snapshot!("check_explanations", explanations);
}

#[test]
fn every_anomaly_has_a_history_that_has_it_and_a_near_miss_that_has_not() {
    let cases = cases();
    let missed = |case: &&Case| {
        let near = format!("{}_near_miss", case.name);
        let near = cases.iter().find(|case| case.name == near);
        near.is_some_and(|near| near.expected().is_empty())
    };
    let with_both = cases.iter().filter(missed);
    let covered: BTreeSet<AnomalyKind> = with_both.flat_map(Case::expected).collect();
    let all: BTreeSet<AnomalyKind> = AnomalyKind::ALL.iter().copied().collect();
    let lacking: Vec<_> = all.difference(&covered).collect();
    assert!(lacking.is_empty(), "{lacking:?}");
    for case in cases
        .iter()
        .filter(|case| case.name.ends_with("_near_miss"))
    {
        assert!(case.expected().is_empty(), "{} is a hit", case.name);
    }
}
