//! What a check of histories found, as text.

use std::fmt::Write as _;

use crate::check;

/// The report on a history.
pub fn text(report: &check::Report) -> String {
    let mut out = String::new();
    if report.verdict != report.under_model() {
        out.push_str("INVALID: a property that was asked for does not hold\n");
    }
    let verdict = match report.under_model() {
        _ if report.exercised.transactions == 0 => "nothing to check",
        check::Verdict::Valid => "valid",
        check::Verdict::Invalid => "INVALID",
        check::Verdict::Unknown => "unknown",
    };
    let exercised = &report.exercised;
    let _ = writeln!(
        out,
        "{verdict} under {}: {} transactions ({} indeterminate, {} failed), {} reads of which {} saw a \
         write, {} ww, {} wr and {} rw dependencies",
        report.model.name(),
        exercised.transactions,
        exercised.indeterminate,
        exercised.failed,
        exercised.reads,
        exercised.reads_nonempty,
        exercised.edges_ww,
        exercised.edges_wr,
        exercised.edges_rw,
    );
    for check::Skipped { what, count, why } in &report.skipped {
        let _ = writeln!(out, "skipped: {count} {what}: {why}");
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {note}");
    }
    for (kind, count) in &report.counts {
        let _ = writeln!(out, "{kind}: {count}");
    }
    for anomaly in &report.anomalies {
        let _ = writeln!(out, "\n{}\n{}", anomaly.kind.name(), anomaly.explanation);
    }
    let names = |models: &[check::Model]| {
        models
            .iter()
            .map(|model| model.name())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let boundary = &report.boundary;
    if !boundary.violated.is_empty() {
        let _ = writeln!(
            out,
            "\nviolated at the weakest: {}",
            names(&boundary.violated)
        );
        for (what, models) in [
            (
                "examined and not violated, the strongest",
                &boundary.possible,
            ),
            ("not examined", &boundary.unexamined),
        ] {
            if !models.is_empty() {
                let _ = writeln!(out, "{what}: {}", names(models));
            }
        }
    }
    out
}

/// One line for each of several histories: its file, what was found, and why nothing could be said.
pub fn table(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(file, _)| file.chars().count()).max();
    let width = width.unwrap_or(0);
    let lines = rows
        .iter()
        .map(|(file, outcome)| format!("{file:<width$}  {outcome}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The outcome of a check in a few words.
pub fn outcome(report: &check::Report) -> String {
    let model = report.model.name();
    match report.verdict {
        check::Verdict::Valid => format!("valid under {model}"),
        check::Verdict::Invalid => {
            let kinds: Vec<&str> = report.counts.keys().copied().collect();
            format!("INVALID under {model}: {}", kinds.join(", "))
        }
        check::Verdict::Unknown => {
            let why = report.notes.first().map_or("nothing tells", String::as_str);
            format!("unknown under {model}: {why}")
        }
    }
}
