//! What came of driving a real database, as text.

use std::fmt::Write as _;
use std::path::Path;

use super::history;
use crate::record::Recording;
use crate::record::judge::{Judged, Outcome};

/// The outcome first, then how the transactions ended, then what the checkers say.
pub fn text(database: &str, file: &Path, recording: &Recording, judged: &Judged) -> String {
    let mut out = String::new();
    let model = judged.report.model;
    let headline = match judged.outcome {
        Outcome::Kept => format!("kept: {model}"),
        Outcome::Violated => format!("VIOLATED: {}", history::outcome(&judged.report)),
        Outcome::Unknown => history::outcome(&judged.report),
        Outcome::Vacuous => format!("vacuous: nothing speaks against {model}, and nothing could"),
        Outcome::Incomplete => "incomplete: the run ended before its time".to_owned(),
    };
    let _ = writeln!(out, "{headline}");
    for why in &judged.why {
        let _ = writeln!(out, "  because: {why}");
    }
    let counts = &recording.counts;
    let _ = writeln!(
        out,
        "\n{database}\n  {} transactions in {:.1} s: {} committed, {} failed, {} indeterminate; {} contended",
        counts.invoked,
        recording.elapsed_ms as f64 / 1000.0,
        counts.committed,
        counts.failed,
        counts.indeterminate,
        judged.contended,
    );
    // Those that are met most often first.
    let mut errors: Vec<(&String, &u64)> = recording.errors.iter().collect();
    errors.sort_by_key(|&(text, count)| (std::cmp::Reverse(*count), text));
    const SHOWN: usize = 10;
    for (text, count) in errors.iter().take(SHOWN) {
        let _ = writeln!(out, "  {count} times {text}");
    }
    if errors.len() > SHOWN {
        let _ = writeln!(
            out,
            "  {} more kinds of errors are in record.json",
            errors.len() - SHOWN
        );
    }
    for (name, count) in &recording.faults {
        let _ = writeln!(out, "  fault {name}: {count} times");
    }
    for error in &recording.fault_errors {
        let _ = writeln!(out, "  fault that went wrong: {error}");
    }
    if recording.disconnects > 0 {
        let _ = writeln!(out, "  connections lost: {}", recording.disconnects);
    }
    match (&recording.online, recording.online_reads) {
        (Some(why), _) => {
            let _ = writeln!(out, "  seen while the run went on: {why}");
        }
        (None, Some(reads)) => {
            let _ = writeln!(
                out,
                "  judged while the run went on: {reads} reads, nothing wrong"
            );
        }
        (None, None) => {}
    }
    let _ = writeln!(out, "  history: {}\n", file.display());
    out + &history::text(&judged.report)
}
