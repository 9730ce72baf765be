//! `ordain fuzz` and `ordain merge`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, at, complain, exit, key_value, known_protocol, load, say, say_json, warn};
use crate::campaign::fuzz::{self, Stop, Watch};
use crate::campaign::junit::junit;
use crate::campaign::report::{self, Outcome, Report};
use crate::campaign::{artifact, partition, regress};
use crate::plan::Plan;
use crate::registry::Registry;
use crate::report::fuzz as text;
use crate::scenario::Scenario;
use crate::scenario::units::Span;

/// Runs where neither `--runs` nor `--duration` is given.
const RUNS: u64 = 1_000;

#[derive(Args, Debug)]
pub(super) struct FuzzArgs {
    /// The scenario: a file, or a name from `ordain list`.
    scenario: String,
    /// The protocols; by default those that the scenario lists.
    #[arg(long, short, value_delimiter = ',')]
    protocol: Vec<String>,
    /// How many plans; each is run under every protocol. Default: 1000.
    #[arg(long, short = 'n', conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    runs: Option<u64>,
    /// How long, as in 90s or 10m.
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// How many threads. Default: one for each core.
    #[arg(long, short, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Run one part of a matrix: every N-th seed, from the I-th on. Parts are 0/N to (N-1)/N. `auto` takes the part from
    /// the environment: of a Slurm array, a Kubernetes indexed job, GitLab CI, CircleCI or Buildkite, or from
    /// ORDAIN_PART and ORDAIN_PARTS.
    #[arg(long, value_name = "I/N", value_parser = partition, default_value = "0/1")]
    partition: (u64, u64),
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Write the folders of failing runs below this one, one for each failure class.
    #[arg(long, short, default_value = "store")]
    out: PathBuf,
    /// A folder with regressions to run first: files of `shrink --regression`, or failure folders. Default:
    /// `regressions` beside the scenario, if it exists.
    #[arg(long, value_name = "DIR")]
    regressions: Option<PathBuf>,
    /// Write what was found as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Override a key of the scenario, as in `swarm.episodes=5`.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    overrides: Vec<(String, String)>,
}

#[derive(Args, Debug)]
pub(super) struct MergeArgs {
    /// Files with what the parts printed with --json.
    #[arg(required = true)]
    parts: Vec<PathBuf>,
    /// Accept that parts are missing: without this the exit code is 2 then.
    #[arg(long)]
    allow_missing: bool,
    /// Write what was found as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let quoted = toml::Value::String(text.to_owned());
    let span: Span = quoted
        .try_into()
        .map_err(|error: toml::de::Error| error.message().to_owned())?;
    match span.ns {
        1.. => Ok(Duration::from_nanos(span.as_ns())),
        _ => Err("the duration must be above 0".to_owned()),
    }
}

fn partition(text: &str) -> Result<(u64, u64), String> {
    if text == "auto" {
        return partition::from_environment(|name| std::env::var(name).ok());
    }
    partition::stated(text)
        .ok_or_else(|| "write I/N with I below N, as in 0/4 for the first of four parts".to_owned())
}

pub(super) fn fuzz(registry: &Registry, args: &FuzzArgs, json: bool) -> Result<u8, Failure> {
    let scenario = load(registry, &args.scenario, &args.overrides)?;
    let protocols = match args.protocol.is_empty() {
        true => scenario.protocols.clone(),
        false => { args.protocol.iter() }
            .map(|name| known_protocol(registry, name))
            .collect::<Result<Vec<_>, _>>()?,
    };
    if protocols.iter().collect::<BTreeSet<_>>().len() < protocols.len() {
        return Err(Failure::Usage("a protocol is named twice".to_owned()));
    }
    let (committed, left_out) = match (regressions(args), args.partition.0) {
        // Every part would run the same ones.
        (Some(folder), 0) => {
            regress::read(registry, &folder, &scenario.name).map_err(Failure::Input)?
        }
        _ => Default::default(),
    };
    if let (Some(folder), 0, []) = (&args.regressions, args.partition.0, &committed[..]) {
        return Err(Failure::Input(format!(
            "{}: no regression of scenario {} to run, {}\n  help: name a folder of what `shrink --regression` wrote \
             for a scenario of this name",
            folder.display(),
            scenario.name,
            text::left_out(&left_out)
        )));
    }
    args.junit.as_deref().map_or(Ok(()), check_writable)?;
    check_writable_below(&args.out)?;
    warn(registry, &scenario, &protocols);
    let seeds = match (args.runs, args.duration) {
        (None, Some(_)) => None,
        (runs, _) => Some(runs.unwrap_or(RUNS)),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let span = fuzz::Span {
        first_seed: args.first_seed,
        seeds,
        part: args.partition,
        jobs: args.jobs.map_or(cores, usize::from),
        protocols,
    };
    let console = Console::new(registry, args, &scenario, &span)?;
    let report = fuzz::fuzz(registry, &scenario, &span, &committed, &console);
    console.bar.finish_and_clear();
    let mut report = report.map_err(Failure::Input)?;
    report.asked_for = args.scenario.clone();
    let overrides = args.overrides.iter();
    report.overrides = overrides
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    report.left_out = left_out;
    report.runs_per_second = report.runs as f64 / console.started.elapsed().as_secs_f64().max(1e-9);
    let code = finish(registry, &report, args.junit.as_deref(), json);
    let unwritten = console.unwritten.into_inner();
    for error in unwritten.expect("nobody panics while holding it") {
        complain(format!("error: {error}"));
    }
    code
}

pub(super) fn merge(registry: &Registry, args: &MergeArgs, json: bool) -> Result<u8, Failure> {
    let parts = { args.parts.iter() }
        .map(|path| read_part(path).map_err(Failure::Input))
        .collect::<Result<Vec<_>, _>>()?;
    args.junit.as_deref().map_or(Ok(()), check_writable)?;
    let whole = report::merge(&parts).map_err(|error| Failure::Input(error.to_string()))?;
    let code = finish(registry, &whole, args.junit.as_deref(), json)?;
    let incomplete = !whole.missing.is_empty() && !args.allow_missing;
    Ok(match code {
        exit::OK if incomplete => exit::UNKNOWN,
        code => code,
    })
}

/// What a part of a campaign printed, with the name of its file.
fn read_part(path: &Path) -> Result<(String, Report), String> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let ended_early = "this part ended early: run it again, or leave it out";
    if text.trim().is_empty() {
        return Err(format!("{name}: the file is empty\n  help: {ended_early}"));
    }
    let failed = serde_json::from_str::<BTreeMap<String, String>>(&text);
    if let Some(error) = failed.ok().as_ref().and_then(|failed| failed.get("error")) {
        return Err(format!("{name}: {error}\n  help: {ended_early}"));
    }
    let report = serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("{name}:{line}:{column}: {error}\n  help: give what `ordain fuzz --json` printed")
    })?;
    Ok((name, report))
}

/// Refuses a file that cannot be written, before the work begins.
fn check_writable(file: &Path) -> Result<(), Failure> {
    try_to_open(file).map_err(|error| at(file, error))
}

/// Opens a file for writing, and leaves everything as it was.
fn try_to_open(file: &Path) -> io::Result<()> {
    let there = file.exists();
    OpenOptions::new().append(true).create(true).open(file)?;
    match there {
        true => Ok(()),
        false => std::fs::remove_file(file),
    }
}

/// Refuses a folder that nothing can be written to, before the work begins.
pub(super) fn check_writable_below(folder: &Path) -> Result<(), Failure> {
    let there = folder.ancestors().find(|above| above.exists());
    let probe = format!(".ordain-{}", std::process::id());
    let probe = there.unwrap_or(Path::new("")).join(probe);
    try_to_open(&probe).map_err(|error| at(folder, error))
}

/// Where the committed plans are.
fn regressions(args: &FuzzArgs) -> Option<PathBuf> {
    let beside = || {
        let scenario = Path::new(&args.scenario);
        let folder = scenario.parent()?.join("regressions");
        (scenario.exists() && folder.is_dir()).then_some(folder)
    };
    args.regressions.clone().or_else(beside)
}

/// Prints a report, writes what was asked for, and says how the program ends.
fn finish(
    registry: &Registry,
    report: &Report,
    junit_file: Option<&Path>,
    json: bool,
) -> Result<u8, Failure> {
    match json {
        true => say_json(report)?,
        false => say(text::report(registry, report).trim_end())?,
    }
    if std::env::var_os("GITHUB_ACTIONS").is_some() {
        for line in text::annotations(report) {
            // The runner reads both streams; one document on standard output stays one.
            match json {
                true => complain(line),
                false => say(line)?,
            }
        }
    }
    let code = match report {
        _ if !report.nondeterministic.is_empty() => exit::BUG,
        _ if report.interrupted => exit::INTERRUPTED,
        _ if report.has_failed() => exit::VIOLATION,
        _ if report.is_undecided() || report.is_vacuous() => exit::UNKNOWN,
        _ => exit::OK,
    };
    let again = |protocol: &str, seed| text::again(report, protocol, seed);
    if let Some(path) = junit_file
        && let Err(error) = std::fs::write(path, junit(report, again))
    {
        // The report is out, and one document on standard output stays one.
        complain(format!("error: {}: {error}", path.display()));
        return Ok(match code {
            exit::OK => exit::INPUT,
            code => code,
        });
    }
    Ok(code)
}

/// The terminal's side of a campaign.
struct Console<'a> {
    registry: &'a Registry,
    scenario: &'a Scenario,
    protocols: &'a [String],
    out: &'a Path,
    bar: ProgressBar,
    started: Instant,
    duration: Option<Duration>,
    interrupted: Arc<AtomicBool>,
    /// Folders that this campaign wrote and has not replaced.
    written: Mutex<BTreeSet<PathBuf>>,
    /// Why folders could not be written.
    unwritten: Mutex<Vec<String>>,
}

impl<'a> Console<'a> {
    fn new(
        registry: &'a Registry,
        args: &'a FuzzArgs,
        scenario: &'a Scenario,
        span: &'a fuzz::Span,
    ) -> Result<Self, Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        ctrlc::set_handler(move || {
            // The second time, whoever interrupts does not want to wait for the runs under way.
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(exit::INTERRUPTED.into());
            }
        })
        .map_err(|error| Failure::Io(io::Error::other(error)))?;
        Ok(Self {
            registry,
            scenario,
            protocols: &span.protocols,
            out: &args.out,
            bar: bar(span),
            started: Instant::now(),
            duration: args.duration,
            interrupted,
            written: Mutex::new(BTreeSet::new()),
            unwritten: Mutex::new(Vec::new()),
        })
    }

    /// Writes a run's folder, and takes the one of the larger run away.
    fn keep(&self, plan: &Plan, outcome: &Outcome, before: Option<&str>) -> Result<String, String> {
        let protocol = &self.protocols[outcome.protocol];
        let run = self.registry.record(self.scenario, protocol, plan)?;
        assert_eq!(
            run.digest.to_string(),
            outcome.digest,
            "the same plan gave two digests: ordain is not deterministic"
        );
        let kept = run.kept.plan.as_ref().unwrap_or(plan);
        let folder = artifact::folder(self.out, &self.scenario.name, protocol, plan.seed);
        let name = folder.display().to_string();
        artifact::write(&folder, self.scenario, kept, &run, crate::report::text::run)
            .map_err(|error| format!("{name}: {error}"))?;
        let mut written = self.written.lock().expect("nobody panics while holding it");
        // Only what this campaign itself wrote is taken away again.
        if let Some(before) = before.map(PathBuf::from)
            && written.remove(&before)
            && before != folder
        {
            artifact::remove(&before).map_err(|error| format!("{name}: {error}"))?;
        }
        written.insert(folder);
        Ok(name)
    }
}

impl Watch for Console<'_> {
    fn stop(&self) -> Option<Stop> {
        if self.interrupted.load(Ordering::SeqCst) {
            return Some(Stop::Interrupted);
        }
        let over = self
            .duration
            .is_some_and(|most| self.started.elapsed() >= most);
        over.then_some(Stop::Enough)
    }

    fn ran(&self) {
        self.bar.inc(1);
    }

    fn so_far(&self, failing: u64, classes: usize) {
        self.bar.set_message(match failing {
            0 => "none failing".to_owned(),
            _ => format!("{failing} failing in {classes} classes"),
        });
    }

    fn found(&self, plan: &Plan, outcome: &Outcome, before: Option<&str>) -> Option<String> {
        let kept = self.keep(plan, outcome, before);
        let mut unwritten = self
            .unwritten
            .lock()
            .expect("nobody panics while holding it");
        kept.map_err(|error| unwritten.push(error)).ok()
    }
}

/// Rate and failures so far, on standard error, if that is a terminal.
fn bar(span: &fuzz::Span) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (part, parts) = span.part;
    let runs = span.seeds.map(|seeds| {
        let here = seeds.saturating_sub(part).div_ceil(parts);
        here * span.protocols.len() as u64
    });
    let (bar, template) = match runs {
        Some(runs) => (
            ProgressBar::new(runs),
            "{bar:30} {pos}/{len} runs, {per_sec}, {msg}, {eta} left",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {pos} runs in {elapsed}, {per_sec}, {msg}",
        ),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the template is fixed"))
}
