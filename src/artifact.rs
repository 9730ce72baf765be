//! The folder that a run leaves, from which it can be replayed: nothing in it is ever half-written.
//!
//! | file | content |
//! |---|---|
//! | `scenario.toml` | the scenario's text, overrides included |
//! | `plan.json` | the plan: machines, faults, operations |
//! | `fates.json` | every message's and flush's fate as the world drew it |
//! | `verdict.json` | what `run --json` prints |
//! | `history.ndjson` | what clients saw, one event a line, as `ordain check` reads it |
//! | `trace.ndjson` | every event, one a line |
//! | `report.txt` | what `run` prints |

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fates::Fates;
use crate::plan::{PLAN_VERSION, Plan};
use crate::random::GENERATOR;
use crate::report;
use crate::scenario::Scenario;
use crate::stack::{self, Run};
use crate::trace::TraceEvent;

/// What `plan.json` holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// The version of ordain that wrote it.
    pub ordain: String,
    /// The protocol.
    pub protocol: String,
    /// The digest of the recorded run.
    pub digest: String,
    /// The plan.
    pub plan: Plan,
}

/// A folder read back.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The scenario.
    pub scenario: Scenario,
    /// The plan and the digest to compare with.
    pub recorded: Recorded,
    /// The recorded fates.
    pub fates: Fates,
    /// The recorded trace, one event a line.
    pub trace: Vec<TraceEvent>,
}

/// Why a folder cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A file is missing or cannot be read.
    #[error(
        "{path}: {error}\n  help: a folder that `run` or `compare` left holds scenario.toml, plan.json, fates.json and trace.ndjson"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not what ordain wrote.
    #[error(
        "{path}:{line}:{column}: {message}\n  help: replay reads what this version of ordain wrote: run the scenario again with --out to get a new folder"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The scenario has a problem.
    #[error("{0}")]
    Scenario(#[from] crate::scenario::BadInput),
}

/// Where the run of a protocol and seed is kept below `store`.
pub fn folder(store: &Path, scenario: &str, protocol: &str, seed: u64) -> PathBuf {
    store.join(scenario).join(protocol).join(seed.to_string())
}

/// Writes the folder: first beside its place, then renamed there, so that it is whole or absent. A folder
/// that is already there is replaced.
///
/// # Errors
///
/// When the disk refuses.
pub fn write(to: &Path, scenario: &Scenario, plan: &Plan, run: &Run) -> io::Result<()> {
    let parent = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let beside = parent.join(format!(".{name}.partial-{}", std::process::id()));
    if beside.exists() {
        fs::remove_dir_all(&beside)?;
    }
    fs::create_dir(&beside)?;
    let recorded = Recorded {
        ordain: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: run.protocol.clone(),
        digest: run.digest.to_string(),
        plan: plan.clone(),
    };
    fs::write(beside.join("scenario.toml"), &scenario.text)?;
    json(&beside.join("plan.json"), &recorded)?;
    json(&beside.join("fates.json"), &run.kept.fates)?;
    json(&beside.join("verdict.json"), run)?;
    fs::write(beside.join("history.ndjson"), &run.kept.history)?;
    let trace = run.kept.trace.as_deref().unwrap_or_default();
    let trace = trace
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<Vec<_>, _>>()?;
    lines(&beside.join("trace.ndjson"), &trace)?;
    fs::write(beside.join("report.txt"), report::text::run(run))?;
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::rename(&beside, to)
}

fn json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    fs::write(path, text)
}

fn lines(path: &Path, lines: &[String]) -> io::Result<()> {
    let mut file = io::BufWriter::new(fs::File::create(path)?);
    for line in lines {
        writeln!(file, "{line}")?;
    }
    file.flush()
}

/// Reads a folder back.
///
/// # Errors
///
/// When a file is missing, damaged, or of another version.
pub fn read(from: &Path) -> Result<Artifact, Unreadable> {
    let text = |name: &str| {
        let path = from.join(name);
        fs::read_to_string(&path).map_err(|error| Unreadable::File { path, error })
    };
    let plan_text = text("plan.json")?;
    same_version(&from.join("plan.json"), &plan_text)?;
    let recorded: Recorded = parse(&from.join("plan.json"), &plan_text)?;
    let fates = parse(&from.join("fates.json"), &text("fates.json")?)?;
    let path = from.join("scenario.toml").display().to_string();
    let scenario = stack::read_scenario(&path, &text("scenario.toml")?, &[])?;
    let trace = trace(&from.join("trace.ndjson"), &text("trace.ndjson")?)?;
    Ok(Artifact {
        scenario,
        recorded,
        fates,
        trace,
    })
}

fn trace(path: &Path, text: &str) -> Result<Vec<TraceEvent>, Unreadable> {
    let event = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| Unreadable::Content {
            path: path.to_owned(),
            line: at + 1,
            column: error.column(),
            message: error.to_string(),
        })
    };
    text.lines().enumerate().map(event).collect()
}

fn parse<T: for<'de> Deserialize<'de>>(path: &Path, text: &str) -> Result<T, Unreadable> {
    serde_json::from_str(text).map_err(|error| Unreadable::Content {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        message: error.to_string(),
    })
}

/// A plan of another version may not even parse: look at its version first.
fn same_version(path: &Path, text: &str) -> Result<(), Unreadable> {
    let value: serde_json::Value = parse(path, text)?;
    let plan = &value["plan"];
    let refuse = |key: &str, message: String| {
        let offset = text.find(&format!("\"{key}\"")).unwrap_or(0);
        let line = text[..offset].matches('\n').count() + 1;
        let column = offset - text[..offset].rfind('\n').map_or(0, |at| at + 1) + 1;
        Err(Unreadable::Content {
            path: path.to_owned(),
            line,
            column,
            message,
        })
    };
    if plan["version"].as_u64() != Some(u64::from(PLAN_VERSION)) {
        let found = &plan["version"];
        return refuse(
            "version",
            format!("the plan has version {found}, this ordain reads version {PLAN_VERSION}"),
        );
    }
    if plan["generator"].as_str() != Some(GENERATOR) {
        let found = &plan["generator"];
        return refuse(
            "generator",
            format!("the plan was drawn by {found}, this ordain draws by \"{GENERATOR}\""),
        );
    }
    if value["ordain"].as_str() != Some(env!("CARGO_PKG_VERSION")) {
        let found = &value["ordain"];
        let own = env!("CARGO_PKG_VERSION");
        return refuse(
            "ordain",
            format!(
                "ordain {found} recorded this run, and this is {own}: digests are comparable within a version only"
            ),
        );
    }
    Ok(())
}
