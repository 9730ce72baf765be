//! Elle's own test histories with Elle's verdicts (jepsen-io/elle 0.2.7), beside ours.
//!
//! The histories are not part of this repository: without `../shared/corpus/elle-cases` the test says so and
//! proves nothing. What differs is listed here, each with its reason; everything else must agree in validity,
//! in the kinds of anomaly and in the weakest models violated.

#![expect(
    clippy::print_stderr,
    reason = "a test that does nothing must say so loudly"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ordain::check::{AnomalyKind, Boundary, Model, Options, Report, Verdict, check, parse};

/// One row of the index: what Elle was asked and what it answered.
struct Case {
    file: String,
    checker: String,
    models: Vec<Model>,
    asked: Vec<String>,
    valid: String,
    kinds: BTreeSet<String>,
    not: BTreeSet<String>,
}

/// Where we answer otherwise than Elle: the file, what Elle says, what we say, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "005.edn",
        "Elle: unknown, for want of edges. We: valid, since read uncommitted allows the aborted read, \
         and how little was tested is in `exercised`.",
    ),
    (
        "007.edn",
        "Elle: unknown, for want of edges. We: no anti-dependency cycle, and an aborted read besides.",
    ),
    (
        "034.edn",
        "Elle: unknown, for want of edges. We: valid; `exercised` shows that nothing was read.",
    ),
    (
        "041.edn",
        "We also report G-single-item-process: both updates are of process 0, and its second did not see \
         its first. Elle stops at G2-item.",
    ),
    (
        "047.edn",
        "We also report G-single-item in another component than that of the G0.",
    ),
];

fn words(text: &str) -> Vec<String> {
    let text = text.trim_start_matches(['#', '{', '[']);
    let words = text.trim_end_matches(['}', ']']).split_whitespace();
    words
        .map(|word| word.trim_start_matches(':').to_string())
        .filter(|word| word != "nil")
        .collect()
}

fn cases(dir: &Path) -> Vec<Case> {
    let index = std::fs::read_to_string(dir.join("INDEX.tsv")).expect("the index beside the cases");
    let case = |line: &str| {
        let field: Vec<&str> = line.split('\t').collect();
        let model = |word: &String| match word.as_str() {
            "default" => Model::StrictSerializable,
            name => name.parse().expect("a model's name"),
        };
        Case {
            file: field[0].into(),
            checker: field[1].into(),
            models: words(field[3]).iter().map(model).collect(),
            asked: words(field[4]),
            valid: field[6].trim_start_matches(':').into(),
            kinds: words(field[7])
                .into_iter()
                .filter(|kind| kind != "empty-transaction-graph")
                .collect(),
            not: words(field[8]).into_iter().collect(),
        }
    };
    index.lines().skip(1).map(case).collect()
}

/// The kinds that Elle was asked to look for: all that a model forbids, or those named and what implies them.
fn is_asked(case: &Case, kind: AnomalyKind) -> bool {
    use AnomalyKind::*;
    if case.models.iter().any(|model| model.forbids(kind)) {
        return true;
    }
    let named = |asked: &String| match asked.as_str() {
        "G1" => [G1a, G1b, G1c].iter().any(|&g1| kind.implies(g1)),
        "G2" => kind.implies(G2Item),
        "G-single" => kind.implies(GSingle),
        // Elle runs these two whatever it is asked.
        name => kind.name() == name,
    };
    case.asked.iter().any(named)
}

fn verdict(case: &Case, report: &Report) -> &'static str {
    let found = report.counts.keys().copied();
    let invalid = kinds(found).iter().any(|&kind| is_asked(case, kind));
    if invalid { "false" } else { "true" }
}

fn kinds<'a>(names: impl Iterator<Item = &'a str>) -> Vec<AnomalyKind> {
    let kind = |name: &str| {
        let mut all = AnomalyKind::ALL.iter().copied();
        all.find(|kind| kind.name() == name).expect("a kind")
    };
    names.map(kind).collect()
}

/// What is different, if anything.
fn compare(case: &Case, report: &Report) -> Vec<String> {
    let mut differences = Vec::new();
    let ours = verdict(case, report);
    if ours != case.valid {
        differences.push(format!("valid: Elle {}, ours {ours}", case.valid));
    }
    for &model in &case.models {
        assert_ne!(report.verdict, Verdict::Unknown, "{} {model}", case.file);
    }
    let found = kinds(report.counts.keys().copied());
    // Elle has no name for the write skew that a G2-item cycle is.
    let named = found.iter().filter(|&&kind| kind != AnomalyKind::WriteSkew);
    let asked: BTreeSet<String> = named
        .filter(|&&kind| is_asked(case, kind))
        .map(|kind| kind.name().to_string())
        .collect();
    // Elle reports a few cheap ones unasked.
    let missing: Vec<_> = case
        .kinds
        .iter()
        .filter(|name| !found_named(&found, name))
        .collect();
    let extra: Vec<_> = asked.difference(&case.kinds).collect();
    if !missing.is_empty() || !extra.is_empty() {
        differences.push(format!("missing {missing:?}, extra {extra:?}"));
    }
    // Elle counts cheap anomalies that it was not asked for, but searches no cycles for them.
    let boundary = |unasked: bool| {
        let counted = |kind: &AnomalyKind| {
            unasked || is_asked(case, *kind) || case.kinds.contains(kind.name())
        };
        let counted = found.iter().copied().filter(counted);
        let violated = Boundary::of(counted.flat_map(AnomalyKind::refutes), []).violated;
        violated
            .iter()
            .map(|model| model.name().trim_end_matches("-no-session").into())
            .collect::<BTreeSet<String>>()
    };
    if case.valid == "false" && ![boundary(false), boundary(true)].contains(&case.not) {
        differences.push(format!(
            "not: Elle {:?}, ours {:?}",
            case.not,
            boundary(false)
        ));
    }
    differences
}

fn found_named(found: &[AnomalyKind], name: &str) -> bool {
    found.iter().any(|kind| kind.name() == name)
}

/// The recorded cases, if they are there.
fn corpus() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut dirs = here
        .ancestors()
        .map(|dir| dir.join("shared/corpus/elle-cases"));
    let found = dirs.find(|dir| dir.exists());
    if found.is_none() {
        eprintln!("SKIPPED: no shared/corpus/elle-cases beside the repository");
    }
    found
}

#[test]
fn our_verdicts_on_lists_are_elles_but_for_the_differences_explained() {
    let Some(dir) = corpus() else {
        return;
    };
    let mut unexplained = Vec::new();
    let mut checked = 0;
    for case in cases(&dir)
        .iter()
        .filter(|case| case.checker == "list-append")
    {
        let path = dir.join(&case.file);
        let history = parse::read_file(&path, parse::Strictness::Lenient).expect("a history");
        let model = case
            .models
            .first()
            .copied()
            .unwrap_or(Model::StrictSerializable);
        let report = check(&history, &Options::new(model));
        let differences = compare(case, &report);
        let explained = DIFFERENCES.iter().any(|(file, _)| *file == case.file);
        if explained == differences.is_empty() {
            unexplained.push(format!(
                "{}: explained: {explained}; {differences:?}",
                case.file
            ));
        }
        checked += 1;
    }
    assert_eq!(unexplained, [""; 0]);
    assert_eq!(checked, 51);
}

/// The model that a register case is about: the one named, or the weakest that forbids what Elle looked for.
fn model_asked(case: &Case) -> Model {
    let of_anomalies = match case.asked.first().map(String::as_str) {
        Some("G0") => Model::ReadUncommitted,
        Some("G1") => Model::ReadCommitted,
        Some("G2") => Model::RepeatableRead,
        Some("internal") => Model::ReadAtomicNoSession,
        _ => Model::StrictSerializable,
    };
    case.models.first().copied().unwrap_or(of_anomalies)
}

/// Register cases in which we answer otherwise than Elle: the file, our answer, and why.
const REGISTER_DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "051.edn",
        "false",
        "Nobody wrote the 2 that is read. Elle looks for cycles of versions only.",
    ),
    (
        "053.edn",
        "true",
        "Elle: unknown, for want of edges. We: nothing completed, so nothing is violated.",
    ),
    (
        "054.edn",
        "true",
        "Elle is told that each process sees a key's versions in order (sequential-keys) and so knows the write \
         dependencies. Read uncommitted alone leaves their order open, and one order has no G0. Under strong \
         session serializability, which says what that option says, we find the contradiction too.",
    ),
    (
        "056.edn",
        "true",
        "Elle: unknown, for want of edges. We: an intermediate read, which read uncommitted allows.",
    ),
    (
        "060.edn",
        "true",
        "Elle is told the order of the transactions by an option (transaction-order), which is not in the \
         history. Without it, one after the other is a serial order.",
    ),
    (
        "062.edn",
        "true",
        "As 060: the order that makes the cycle comes from an option.",
    ),
    (
        "067.edn",
        "false",
        "Elle was asked for G2 and does not report the G1c, which repeatable read forbids as well.",
    ),
    (
        "070.edn",
        "false",
        "Nobody wrote the versions that are read, as in 051.",
    ),
    (
        "074.edn",
        "false",
        "Elle is told not to infer that a transaction's write follows its read (wfr-keys false), finds nothing, \
         and with it finds G-single (075). A transaction is atomic under serializability, so we always use \
         it; besides, nobody wrote y = 1.",
    ),
];

#[test]
fn our_verdicts_on_registers_are_elles_but_for_the_differences_explained() {
    let Some(dir) = corpus() else {
        return;
    };
    let mut differing = Vec::new();
    let mut checked = 0;
    for case in cases(&dir)
        .iter()
        .filter(|case| case.checker == "rw-register")
    {
        let path = dir.join(&case.file);
        let history = parse::read_file(&path, parse::Strictness::Lenient).expect("a history");
        let report = check(&history, &Options::new(model_asked(case)));
        let ours = match report.verdict {
            Verdict::Valid => "true",
            Verdict::Invalid => "false",
            Verdict::Unknown => "unknown",
        };
        if ours != case.valid {
            differing.push((case.file.clone(), ours));
        }
        checked += 1;
    }
    let explained: Vec<(String, &str)> = REGISTER_DIFFERENCES
        .iter()
        .map(|(file, ours, _)| ((*file).to_owned(), *ours))
        .collect();
    assert_eq!(differing, explained);
    assert_eq!(checked, 29);
    let path = dir.join("054.edn");
    let history = parse::read_file(&path, parse::Strictness::Lenient).expect("a history");
    let report = check(&history, &Options::new(Model::StrongSessionSerializable));
    assert_eq!(report.verdict, Verdict::Invalid);
}
