//! The folder that a run leaves, from which it can be replayed: nothing in it is ever half-written.
//!
//! | file | content |
//! |---|---|
//! | `scenario.toml` | the scenario's text, overrides included |
//! | `plan.json` | the plan: machines, faults, operations, drawn options |
//! | `fates.json` | every message's and flush's fate as the world drew it |
//! | `verdict.json` | what `run --json` prints |
//! | `history.ndjson` | what clients saw, one event a line, as `ordain check` reads it |
//! | `trace.ndjson.gz` | every event, one a line, compressed: `zcat` shows it |
//! | `report.txt` | what `run` prints |
//! | `report.html` | the page that `report` writes; absent before |
//!
//! The plan rules: where scenario and plan differ (a shrunk plan has fewer transactions and a calmer network than
//! its scenario says), the run follows the plan. From the scenario come the layout, the options
//! that the plan has not drawn, and what is expected.
//!
//! A [`Regression`] is the small, committed form: one file with scenario and plan, without fates, trace or digest.
//! It plays on when the protocols change, as long as plans keep their version.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::base::txn::{Key, TxnId};
use crate::fault::{Fault, FaultKind, When};
use crate::plan::fates::Fates;
use crate::plan::random::GENERATOR;
use crate::plan::{Machine, PLAN_VERSION, Plan, Start};
use crate::registry::Registry;
use crate::run::Run;
use crate::run::failure::Class;
use crate::scenario::Scenario;
use crate::sim::trace::TraceEvent;

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
    /// The texts of the files that follow from the run: see [`derived`].
    pub derived: [String; 3],
}

/// How a run is shown to people: `report.txt`.
pub type Render = fn(&Run) -> String;

/// The files that follow from a run, and that a replay must reproduce to the byte.
pub const DERIVED: [&str; 3] = ["verdict.json", "history.ndjson", "report.txt"];

/// The texts of the [`DERIVED`] files. `report` renders the run for people.
pub fn derived(run: &Run, report: Render) -> [String; 3] {
    let mut verdict = serde_json::to_string_pretty(run).expect("results are plain data");
    verdict.push('\n');
    [verdict, run.kept.history.clone(), report(run)]
}

/// Why a folder cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A file is missing or cannot be read.
    #[error(
        "{path}: {error}\n  help: a folder that `run` or `compare` left holds scenario.toml, plan.json, fates.json and trace.ndjson.gz"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file of a plan is missing or cannot be read.
    #[error("{path}: {error}\n  help: name a file that `shrink --regression` wrote")]
    NoPlan {
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
    /// The plan and its scenario do not belong together.
    #[error(
        "{path}: {message}\n  help: plan and scenario must be those of one run: run it again with --out to get a new folder"
    )]
    Unfit {
        /// The plan's file.
        path: PathBuf,
        /// What does not fit.
        message: String,
    },
    /// A regression is damaged, of another version, or its plan and scenario do not belong together.
    #[error(
        "{place}: {message}\n  help: find the failure again and write it with `shrink --regression`"
    )]
    Regression {
        /// The file, with line and column where they are known.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// The scenario has a problem.
    #[error("{0}")]
    Scenario(#[from] crate::scenario::BadInput),
}

impl Unreadable {
    /// The same with the way out that there is for a regression.
    fn of_regression(self) -> Unreadable {
        let (place, message) = match self {
            Unreadable::Content {
                path,
                line,
                column,
                message,
            } => (format!("{}:{line}:{column}", path.display()), message),
            Unreadable::Unfit { path, message } => (path.display().to_string(), message),
            other => return other,
        };
        Unreadable::Regression { place, message }
    }
}

/// Where the run of a protocol and seed is kept below `store`.
pub fn folder(store: &Path, scenario: &str, protocol: &str, seed: u64) -> PathBuf {
    store.join(scenario).join(protocol).join(seed.to_string())
}

/// Every event, one a line.
const TRACE: &str = "trace.ndjson.gz";

/// The page of the run, which `report` adds to the folder. A later run in its place removes it.
pub const PAGE: &str = "report.html";

/// All files of a run's folder.
const FILES: [&str; 8] = {
    let [verdict, history, report] = DERIVED;
    let [scenario, plan, fates, trace] = ["scenario.toml", "plan.json", "fates.json", TRACE];
    [scenario, plan, fates, trace, verdict, history, report, PAGE]
};

/// Whether a run's folder may be written here: nothing is there, or an empty folder, or the folder of an earlier
/// run.
///
/// # Errors
///
/// When something else is there, or the path has no name of its own.
pub fn vacant(to: &Path) -> io::Result<()> {
    let refused = |what: &str| {
        let help = "name a folder that is absent or empty, or that an earlier run left";
        let message = format!("{what}\n  help: {help}");
        Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
    };
    if to.file_name().is_none() {
        return refused("a run's folder needs a name of its own");
    }
    if !to.exists() {
        return Ok(());
    }
    if !to.is_dir() {
        return refused("this is no folder");
    }
    let is_run = to.join("plan.json").is_file() && to.join("scenario.toml").is_file();
    match is_run || fs::read_dir(to)?.next().is_none() {
        true => Ok(()),
        false => refused("this folder holds something other than a run, which would be lost"),
    }
}

/// Writes the folder: first beside its place, then renamed there, so that it is whole or absent. The files of an
/// earlier run are replaced; whatever else is in its folder, such as what `shrink` left there, stays.
///
/// # Errors
///
/// When the place is not [`vacant`], or the disk refuses.
pub fn write(
    to: &Path,
    scenario: &Scenario,
    plan: &Plan,
    run: &Run,
    report: Render,
) -> io::Result<()> {
    vacant(to)?;
    // A link to a folder stays one.
    let to = &to.canonicalize().unwrap_or_else(|_| to.to_owned());
    let parent = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let beside = parent.join(format!(".{name}.partial-{}", std::process::id()));
    if beside.exists() {
        fs::remove_dir_all(&beside)?;
    }
    fs::create_dir(&beside)?;
    write_files(&beside, scenario, plan, run, report)?;
    if to.exists() {
        for entry in others(to)? {
            fs::rename(to.join(&entry), beside.join(&entry))?;
        }
        fs::remove_dir_all(to)?;
    }
    fs::rename(&beside, to)
}

fn write_files(
    folder: &Path,
    scenario: &Scenario,
    plan: &Plan,
    run: &Run,
    report: Render,
) -> io::Result<()> {
    let recorded = Recorded {
        ordain: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: run.protocol.clone(),
        digest: run.digest.to_string(),
        plan: plan.clone(),
    };
    fs::write(folder.join("scenario.toml"), &scenario.text)?;
    json(&folder.join("plan.json"), &recorded)?;
    json(&folder.join("fates.json"), &run.kept.fates)?;
    for (name, text) in DERIVED.iter().zip(derived(run, report)) {
        fs::write(folder.join(name), text)?;
    }
    let trace = run.kept.trace.as_deref().unwrap_or_default();
    let trace = trace
        .iter()
        .map(serde_json::to_string)
        .collect::<Result<Vec<_>, _>>()?;
    compressed(&folder.join(TRACE), &trace)
}

/// What is in a run's folder besides the run's own files.
fn others(folder: &Path) -> io::Result<Vec<OsString>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?.into_iter();
    let own = |name: &OsString| FILES.iter().any(|own| name == own);
    Ok(names.filter(|name| !own(name)).collect())
}

/// Removes a run's folder, unless it holds more than the run's own files.
///
/// # Errors
///
/// When it is not there, or the disk refuses.
pub fn remove(folder: &Path) -> io::Result<()> {
    match others(folder)?.is_empty() {
        true => fs::remove_dir_all(folder),
        false => Ok(()),
    }
}

fn json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    fs::write(path, text)
}

/// A long run's trace has hundreds of megabytes of lines that resemble one another.
fn compressed(path: &Path, lines: &[String]) -> io::Result<()> {
    let file = io::BufWriter::new(fs::File::create(path)?);
    let mut file = GzEncoder::new(file, Compression::fast());
    for line in lines {
        writeln!(file, "{line}")?;
    }
    file.finish()?.flush()
}

/// Reads a folder back.
///
/// # Errors
///
/// When a file is missing, damaged, or of another version.
pub fn read(registry: &Registry, from: &Path) -> Result<Artifact, Unreadable> {
    let text = |name: &str| {
        let path = from.join(name);
        fs::read_to_string(&path).map_err(|error| Unreadable::File { path, error })
    };
    let plan_text = text("plan.json")?;
    same_version(&from.join("plan.json"), &plan_text)?;
    let recorded: Recorded = parse(&from.join("plan.json"), &plan_text)?;
    let fates = parse(&from.join("fates.json"), &text("fates.json")?)?;
    let path = from.join("scenario.toml").display().to_string();
    let scenario = registry.read_scenario(&path, &text("scenario.toml")?, &[])?;
    fits(&scenario, &recorded.plan).map_err(|message| Unreadable::Unfit {
        path: from.join("plan.json"),
        message,
    })?;
    let trace = trace(&from.join(TRACE))?;
    let [verdict, history, report] = DERIVED;
    Ok(Artifact {
        scenario,
        recorded,
        fates,
        trace,
        derived: [text(verdict)?, text(history)?, text(report)?],
    })
}

/// Longest duration and latest instant in a plan: what scenarios allow, ten times over.
const NS_MAX: u64 = 864_000_000_000_000;

/// Whether a plan, which may have been edited by hand, fits its scenario. A run relies on that.
fn fits(scenario: &Scenario, plan: &Plan) -> Result<(), String> {
    let places = scenario.places.iter().map(|place| &place.name);
    let machines = plan.environment.machines.iter();
    if !places.eq(machines.map(|machine| &machine.name)) {
        return Err("the plan's machines are not those of the scenario".to_owned());
    }
    let times = times(plan);
    if let Some(ns) = times.into_iter().find(|ns| *ns > NS_MAX) {
        return Err(format!(
            "the plan holds a time of {ns} ns; at most {NS_MAX} ns make sense"
        ));
    }
    let drifts = |machine: &Machine| machine.clock_drift_ppm.unsigned_abs() >= 1_000_000;
    let faulty = |fault: &Fault| matches!(fault.kind, FaultKind::ClockDrift { by_ppm, .. } if by_ppm.unsigned_abs() >= 1_000_000);
    if plan.environment.machines.iter().any(drifts) || plan.faults.iter().any(faulty) {
        return Err("a clock drifts by a million parts per million or more".to_owned());
    }
    let mut ids = BTreeSet::from([TxnId::INITIAL]);
    for operation in &plan.operations {
        let id = operation.txn.id;
        if usize::from(operation.region) >= scenario.layout.regions.len() {
            return Err(format!("{id} starts in region {}", operation.region));
        }
        if !ids.insert(id) {
            return Err(format!("{id} is planned twice, or is nobody's"));
        }
        let known = |key: &Key| {
            let table = scenario.layout.tables.get(usize::from(key.table.0));
            table.is_some_and(|table| key.row < table.rows)
        };
        if let Some(key) = operation.txn.keys().iter().find(|key| !known(key)) {
            return Err(format!(
                "{id} touches row {key}, which the scenario does not have"
            ));
        }
        if let Some(key) = operation.txn.written_twice() {
            return Err(format!("{id} writes row {key} twice"));
        }
        let (pivot, effects) = (operation.txn.pivot, operation.txn.effects.len());
        if pivot.is_some_and(|pivot| usize::from(pivot) >= effects) {
            return Err(format!("the pivot of {id} is none of its effects"));
        }
    }
    Ok(())
}

/// Every duration and instant of a plan, in nanoseconds.
fn times(plan: &Plan) -> Vec<u64> {
    let environment = &plan.environment;
    let mut times = vec![
        environment.supervisor_ns,
        environment.safety_ns,
        environment.settle_ns,
        environment.power_cycle_ns,
    ];
    for machine in &environment.machines {
        let offset_ns = machine.clock_offset_ns.unsigned_abs();
        times.extend([machine.handle_ns, machine.operation_ns, offset_ns]);
        times.extend([machine.flush.base_ns, machine.flush.jitter_ns]);
    }
    for link in &environment.link_classes {
        times.extend([link.latency.base_ns, link.latency.jitter_ns]);
    }
    for fault in &plan.faults {
        times.extend(fault.for_ns);
        times.extend(match fault.when {
            When::At(ns) => Some(ns),
            When::AfterEvent(_) => None,
            When::Moment {
                from_ns, latest_ns, ..
            } => Some(latest_ns.unwrap_or(0).max(from_ns)),
        });
        match &fault.kind {
            FaultKind::Flap { down_ns, up_ns, .. } => times.extend([*down_ns, *up_ns]),
            FaultKind::Degrade { latency, .. } => {
                times.extend([latency.base_ns, latency.jitter_ns])
            }
            FaultKind::ClockStep { by_ns, .. } => times.push(by_ns.unsigned_abs()),
            _ => {}
        }
    }
    times.extend(
        { plan.operations.iter() }.map(|operation| match operation.start {
            Start::At(ns) | Start::Think(ns) => ns,
            Start::Retry { .. } => 0,
        }),
    );
    times
}

fn trace(path: &Path) -> Result<Vec<TraceEvent>, Unreadable> {
    let unreadable = |error| Unreadable::File {
        path: path.to_owned(),
        error,
    };
    let file = fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    GzDecoder::new(file)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
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
    same_plan_version(path, text, &value["plan"])?;
    if value["ordain"].as_str() != Some(env!("CARGO_PKG_VERSION")) {
        let found = &value["ordain"];
        let own = env!("CARGO_PKG_VERSION");
        let message = format!(
            "ordain {found} recorded this run, and this is {own}: digests are comparable within a version only"
        );
        return Err(refusal(path, text, "ordain", message));
    }
    Ok(())
}

fn same_plan_version(path: &Path, text: &str, plan: &serde_json::Value) -> Result<(), Unreadable> {
    if plan["version"].as_u64() != Some(u64::from(PLAN_VERSION)) {
        let found = &plan["version"];
        let message =
            format!("the plan has version {found}, this ordain reads version {PLAN_VERSION}");
        return Err(refusal(path, text, "version", message));
    }
    if plan["generator"].as_str() != Some(GENERATOR) {
        let found = &plan["generator"];
        let message =
            format!("the plan was drawn by {found}, this ordain draws by \"{GENERATOR}\"");
        return Err(refusal(path, text, "generator", message));
    }
    Ok(())
}

/// A problem with the value of a key, at the key's place in the text.
fn refusal(path: &Path, text: &str, key: &str, message: String) -> Unreadable {
    let offset = text.find(&format!("\"{key}\"")).unwrap_or(0);
    let line_start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    Unreadable::Content {
        path: path.to_owned(),
        line: text[..offset].matches('\n').count() + 1,
        column: offset - line_start + 1,
        message,
    }
}

/// A plan that once failed, kept to be played again: small enough to read and to commit.
#[derive(Clone, Debug)]
pub struct Regression {
    /// What it shows, for people.
    pub about: String,
    /// The planted bug that makes it fail, by its name in the zoo, if it needs one.
    pub bug: Option<String>,
    /// The protocol.
    pub protocol: String,
    /// The class in which it failed.
    pub class: Class,
    /// The scenario that the plan stands on.
    pub scenario: Scenario,
    /// The plan.
    pub plan: Plan,
}

/// A regression as its file has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegressionFile {
    about: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bug: Option<String>,
    protocol: String,
    class: Class,
    /// The text, line by line.
    scenario: Vec<String>,
    plan: Plan,
}

impl Regression {
    /// Plays it.
    ///
    /// # Errors
    ///
    /// As [`Registry::run`].
    pub fn run(&self, registry: &Registry) -> Result<Run, String> {
        registry.run(&self.scenario, &self.protocol, &self.plan, false)
    }

    /// Writes the file: whole or not at all.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn write(&self, to: &Path) -> io::Result<()> {
        let file = RegressionFile {
            about: self.about.clone(),
            bug: self.bug.clone(),
            protocol: self.protocol.clone(),
            class: self.class.clone(),
            scenario: self.scenario.text.lines().map(str::to_owned).collect(),
            plan: self.plan.clone(),
        };
        let mut text = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, Lines::default());
        file.serialize(&mut serializer)?;
        text.push(b'\n');
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        let beside = to.with_file_name(format!(".{name}.partial-{}", std::process::id()));
        fs::write(&beside, text)?;
        fs::rename(&beside, to)
    }

    /// Reads a file back.
    ///
    /// # Errors
    ///
    /// When it is missing, damaged, or its plan is of another version.
    pub fn read(registry: &Registry, from: &Path) -> Result<Regression, Unreadable> {
        Self::read_file(registry, from).map_err(Unreadable::of_regression)
    }

    fn read_file(registry: &Registry, from: &Path) -> Result<Regression, Unreadable> {
        let text = fs::read_to_string(from).map_err(|error| Unreadable::NoPlan {
            path: from.to_owned(),
            error,
        })?;
        let value: serde_json::Value = parse(from, &text)?;
        same_plan_version(from, &text, &value["plan"])?;
        let file: RegressionFile = parse(from, &text)?;
        let mut scenario = file.scenario.join("\n");
        scenario.push('\n');
        let name = format!("{} (its scenario)", from.display());
        let scenario = registry.read_scenario(&name, &scenario, &[])?;
        fits(&scenario, &file.plan).map_err(|message| Unreadable::Unfit {
            path: from.to_owned(),
            message,
        })?;
        Ok(Regression {
            about: file.about,
            bug: file.bug,
            protocol: file.protocol,
            class: file.class,
            scenario,
            plan: file.plan,
        })
    }
}

/// JSON with one line for each key, and one for each element of a list whatever is in it: machines, faults and
/// operations come out as tables.
#[derive(Default)]
struct Lines {
    /// For each open list or object: whether its elements have lines of their own, and whether it has any.
    open: Vec<(bool, bool)>,
    /// How many lists are open.
    lists: usize,
}

impl Lines {
    fn begin(&mut self) {
        self.open.push((self.lists == 0, false));
    }

    fn element<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        let depth = self.open.len();
        let Some((own_line, any)) = self.open.last_mut() else {
            return Ok(());
        };
        *any = true;
        match (*own_line, first) {
            (true, true) => write!(writer, "\n{:width$}", "", width = depth * 2),
            (true, false) => write!(writer, ",\n{:width$}", "", width = depth * 2),
            (false, true) => Ok(()),
            (false, false) => write!(writer, ", "),
        }
    }

    fn end<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        match self.open.pop() {
            Some((true, true)) => {
                write!(writer, "\n{:width$}", "", width = self.open.len() * 2)
            }
            _ => Ok(()),
        }
    }
}

impl serde_json::ser::Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin();
        self.lists += 1;
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.lists -= 1;
        self.end(writer)?;
        writer.write_all(b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.element(w, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin();
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer)?;
        writer.write_all(b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.element(w, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
