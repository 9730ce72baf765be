//! The command line: the only place that prints, exits or reads the environment.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::Serialize;

use crate::base::zoo::{self, Planted};
use crate::campaign::artifact::{self, Regression};
use crate::campaign::compare;
#[cfg(feature = "zoo")]
use crate::campaign::hunt;
use crate::campaign::shrink::{self, Shrunk};
use crate::campaign::sweep::Axis;
use crate::plan::Plan;
use crate::registry::{Listed, Registry};
use crate::report::text;
use crate::run::Run;
use crate::run::failure::{self, Class};
use crate::scenario::{BadInput, Scenario};
use crate::sim::trace::{Divergence, TraceEvent, first_difference};
use crate::verdict::Conclusion;

mod check;
mod explain;
mod export;
mod fuzz;
mod new;
mod report;
mod show;
mod sweep;

/// Exit codes.
pub mod exit {
    /// As promised, or as the scenario expects.
    pub const OK: u8 = 0;
    /// A promise or an expectation was broken.
    pub const VIOLATION: u8 = 1;
    /// Something could not be decided, or nothing was put to the test.
    pub const UNKNOWN: u8 = 2;
    /// A replay did not do what was recorded.
    pub const DIVERGED: u8 = 3;
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// An input file is wrong.
    pub const INPUT: u8 = 65;
    /// A bug in ordain.
    pub const BUG: u8 = 70;
    /// Somebody interrupted it.
    pub const INTERRUPTED: u8 = 130;
}

/// The scenarios that come with the program, by name.
pub const SHIPPED: [(&str, &str); 29] = [
    (
        "settlement",
        include_str!("../../scenarios/settlement.toml"),
    ),
    (
        "locked-merchant",
        include_str!("../../scenarios/locked-merchant.toml"),
    ),
    (
        "coordinator-dead",
        include_str!("../../scenarios/coordinator-dead.toml"),
    ),
    (
        "three-phase-split-brain",
        include_str!("../../scenarios/three-phase-split-brain.toml"),
    ),
    (
        "crash-storm",
        include_str!("../../scenarios/crash-storm.toml"),
    ),
    (
        "seat-booking",
        include_str!("../../scenarios/seat-booking.toml"),
    ),
    (
        "naive-partial",
        include_str!("../../scenarios/naive-partial.toml"),
    ),
    ("storm", include_str!("../../scenarios/storm.toml")),
    ("crossfire", include_str!("../../scenarios/crossfire.toml")),
    ("churn", include_str!("../../scenarios/churn.toml")),
    (
        "figure-eight",
        include_str!("../../scenarios/figure-eight.toml"),
    ),
    (
        "write-skew",
        include_str!("../../scenarios/write-skew.toml"),
    ),
    (
        "clock-liar",
        include_str!("../../scenarios/clock-liar.toml"),
    ),
    (
        "causal-reverse",
        include_str!("../../scenarios/causal-reverse.toml"),
    ),
    (
        "cross-region-transfer",
        include_str!("../../scenarios/cross-region-transfer.toml"),
    ),
    (
        "bounded-clocks",
        include_str!("../../scenarios/bounded-clocks.toml"),
    ),
    (
        "heuristic-mix",
        include_str!("../../scenarios/heuristic-mix.toml"),
    ),
    (
        "fractured-reads",
        include_str!("../../scenarios/fractured-reads.toml"),
    ),
    ("payments", include_str!("../../scenarios/payments.toml")),
    (
        "duplicate-payment",
        include_str!("../../scenarios/duplicate-payment.toml"),
    ),
    // Mixes of benchmarks.
    ("ycsb", include_str!("../../scenarios/ycsb.toml")),
    ("smallbank", include_str!("../../scenarios/smallbank.toml")),
    ("tpcc", include_str!("../../scenarios/tpcc.toml")),
    // Public incidents.
    (
        "cloudflare-2020",
        include_str!("../../scenarios/incidents/cloudflare-2020.toml"),
    ),
    (
        "github-2018",
        include_str!("../../scenarios/incidents/github-2018.toml"),
    ),
    (
        "fsyncgate-2018",
        include_str!("../../scenarios/incidents/fsyncgate-2018.toml"),
    ),
    (
        "orphaned-prepared",
        include_str!("../../scenarios/incidents/orphaned-prepared.toml"),
    ),
    (
        "metastable-retries",
        include_str!("../../scenarios/incidents/metastable-retries.toml"),
    ),
    (
        "strasbourg-2021",
        include_str!("../../scenarios/incidents/strasbourg-2021.toml"),
    ),
];

/// Runs whole distributed-transaction systems in one simulated world, breaks that world on purpose, and says which
/// promises each protocol kept.
///
/// Without a command: `compare settlement`.
#[derive(Parser, Debug)]
#[command(name = "ordain", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print one JSON document on standard output, and nothing else there.
    #[arg(long, global = true)]
    json: bool,
}

const AFTER_HELP: &str = "\
Exit codes: 0 as promised; 1 a violation; 2 unknown or vacuous; 3 a replay diverged; 64 usage; 65 bad input file; \
70 a bug in ordain; 130 interrupted.
A SCENARIO is a TOML file, or the name of one that comes with the program (see `ordain list`).";

#[derive(Subcommand, Debug)]
enum Command {
    /// Write a commented scenario to start from.
    New(new::NewArgs),
    /// Say what a scenario means: machines, distances, load, hot rows, warnings.
    Show {
        /// The scenario: a file, or a name from `ordain list`.
        scenario: String,
        /// Override a key of the scenario.
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
        overrides: Vec<(String, String)>,
    },
    /// Run one protocol on a scenario and judge it.
    Run {
        /// The scenario: a file, or a name from `ordain list`.
        #[arg(required_unless_present = "plan")]
        scenario: Option<String>,
        /// Play the plan in this file, which `shrink --regression` wrote, instead of drawing one.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["scenario", "protocol", "seed", "stop_at_violation", "overrides"])]
        plan: Option<PathBuf>,
        /// The protocol; by default the first that the scenario lists.
        #[arg(long, short)]
        protocol: Option<String>,
        /// The seed that the plan is drawn with.
        #[arg(long, short, default_value_t = 1)]
        seed: u64,
        /// Draw a swarm plan, as `fuzz` does, instead of the scenario's own. The scenario's `[expect]` is
        /// ignored: the protocol's promises decide.
        #[arg(long)]
        swarm: bool,
        /// Write the run's folder here, whatever the verdict. A failing run always writes one, by default
        /// below `store/`.
        #[arg(long, short)]
        out: Option<PathBuf>,
        /// Judge isolation during the run, and stop at the first violation. The protocol has to promise
        /// serializability. The run's folder holds the whole run.
        #[arg(long)]
        stop_at_violation: bool,
        /// Also write a page about the run: one HTML file that needs nothing else.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// Override a key of the scenario, as in `workload.rate=100` or `region.0.zones=3`.
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
        overrides: Vec<(String, String)>,
    },
    /// Run several protocols on the same plans, side by side.
    Compare {
        /// The scenario: a file, or a name from `ordain list`.
        #[arg(default_value = "settlement")]
        scenario: String,
        /// The protocols; by default those that the scenario lists.
        #[arg(long, short, value_delimiter = ',')]
        protocols: Vec<String>,
        /// How many seeds.
        #[arg(long, short = 'n', default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        first_seed: u64,
        /// Draw swarm plans, as `fuzz` does, instead of the scenario's own.
        #[arg(long)]
        swarm: bool,
        /// Compare at each of several values of a key, as in `workload.rate=50,100,200`. With several of these, at each choice
        /// of values.
        #[arg(long, value_name = "KEY=VALUE,VALUE", value_parser = sweep::axis)]
        vary: Vec<Axis>,
        /// Keep the results of `--vary` in this file, point by point, and go on with it if it is there.
        #[arg(long, value_name = "FILE", requires = "vary")]
        results: Option<PathBuf>,
        /// Write the folders of failing runs below this one. With `--vary`, none is written.
        #[arg(long, short, default_value = "store")]
        out: PathBuf,
        /// Also write a page about the comparison: one HTML file that needs nothing else.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// Override a key of the scenario.
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
        overrides: Vec<(String, String)>,
    },
    /// Repeat a recorded run from its folder, and name the first event that differs.
    Replay {
        /// The folder that `run` or `compare` left.
        dir: PathBuf,
    },
    /// Write a page about a recorded run: what broke, a timeline of everything that happened, and the plan.
    Report(report::ReportArgs),
    /// Say what made a recorded run fail: from which instant on it could not be saved, and without which fault, transaction
    /// or message it passes.
    Explain(explain::ExplainArgs),
    /// Find the smallest plan that fails in the same way, and write it as a folder of its own.
    Shrink {
        /// The folder that a failing run left.
        dir: PathBuf,
        /// How many runs it may take.
        #[arg(long, default_value_t = shrink::BUDGET)]
        budget: usize,
        /// How many runs at once. Default: one for each processor. The result does not depend on it.
        #[arg(long, short, value_parser = clap::value_parser!(u16).range(1..=1024))]
        jobs: Option<u16>,
        /// Where to write the result. Default: `shrunk` below DIR.
        #[arg(long, short)]
        out: Option<PathBuf>,
        /// The failure class to keep, as PROPERTY/SHAPE. Default: the most telling promise that the run broke. A
        /// property that is not promised works too, such as atomicity/partial-commit for the naive protocol.
        #[arg(long)]
        class: Option<Class>,
        /// Also write the plan as one small file, to commit and to play with `run --plan`.
        #[arg(long, value_name = "FILE")]
        regression: Option<PathBuf>,
    },
    /// Run swarm plans on all cores: faults and workloads drawn by seed, to find one that breaks a promise.
    Fuzz(fuzz::FuzzArgs),
    /// Merge the parts of a campaign, as `fuzz --partition --json` printed them.
    Merge(fuzz::MergeArgs),
    /// Check histories against a consistency model.
    ///
    /// Reads native NDJSON and Jepsen's JSON and EDN, plain or gzipped: lists, registers, sets, counters, queues, mutexes, banks. A
    /// folder is one of a Jepsen store or of a run. `-` is standard input.
    Check(check::CheckArgs),
    /// Write a history in another format: for Elle, for other checkers, or for `check`.
    ///
    /// Reads what `check` reads. Each operation is written as a transaction, though it be the only one in it.
    Convert(check::ConvertArgs),
    /// Write a recorded run for other tools: ShiViz, Perfetto, a spreadsheet or a notebook.
    Export(export::ExportArgs),
    /// Check the models of the specs, and the protocol code in small worlds: safety, leads-to under fairness, sizes.
    Model {
        /// A spec's folder, a model's name, or FOLDER/NAME; all of them if absent.
        name: Option<String>,
        /// Serve stateright's Explorer of one model at this address instead.
        #[arg(long, value_name = "ADDR", requires = "name")]
        explore: Option<std::net::SocketAddr>,
    },
    /// Hunt for planted bugs: which check finds each, after how many seeds, and how small its plan gets.
    ///
    /// Needs a build with the feature `zoo`; others list the bugs.
    Zoo {
        /// A bug's name, or what its name begins with; all of them if absent.
        name: Option<String>,
        /// List the bugs and hunt for none.
        #[arg(long)]
        list: bool,
        /// How many seeds a hunt may take. Default: 2000.
        #[arg(long, short = 'n', conflicts_with = "list")]
        seeds: Option<u64>,
        /// How many hunts for each bug, from different first seeds. Default: 5.
        #[arg(long, conflicts_with = "list", value_parser = clap::value_parser!(u64).range(1..))]
        repetitions: Option<u64>,
        /// How many runs shrinking may take for each bug; 0 shrinks nothing. Default: 600.
        #[arg(long, conflicts_with = "list")]
        budget: Option<usize>,
        /// Write zoo.json, zoo.md and the shrunk plan of each bug that was found (in plans/) into this folder.
        #[arg(long, short, conflicts_with = "list")]
        out: Option<PathBuf>,
    },
    /// List protocols with their promises and options, and the scenarios that come with the program.
    List,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page in roff.
    Man,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("write KEY=VALUE, as in workload.rate=100")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// What ends a command early.
enum Failure {
    Usage(String),
    Input(String),
    Io(io::Error),
}

impl From<BadInput> for Failure {
    fn from(bad: BadInput) -> Self {
        Failure::Input(bad.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

/// Runs the program with the process's arguments, on the protocols of `registry`.
pub fn main(registry: Registry) -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::OK
            };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let json = args.json;
    let command = args.command.unwrap_or(Command::Compare {
        scenario: "settlement".to_owned(),
        protocols: Vec::new(),
        seeds: 1,
        first_seed: 1,
        swarm: false,
        vary: Vec::new(),
        results: None,
        out: PathBuf::from("store"),
        html: None,
        overrides: Vec::new(),
    });
    // Protocol panics are caught inside a run: what arrives here is a bug of ours.
    let run = std::panic::AssertUnwindSafe(|| execute(&registry, command, json));
    match std::panic::catch_unwind(run) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(failure)) => {
            let (code, message) = match failure {
                Failure::Usage(message) => (exit::USAGE, message),
                Failure::Input(message) => (exit::INPUT, message),
                Failure::Io(error) => (exit::INPUT, error.to_string()),
            };
            if json {
                // Whoever reads the document learns why it is not the one asked for.
                let _ = say_json(&BTreeMap::from([("error", message.trim_end())]));
            }
            complain(format!("error: {}", message.trim_end()));
            ExitCode::from(code)
        }
        Err(_) => {
            complain(
                "this is a bug in ordain: please report it with the command line and the scenario",
            );
            ExitCode::from(exit::BUG)
        }
    }
}

fn execute(registry: &Registry, command: Command, json: bool) -> Result<u8, Failure> {
    match command {
        Command::New(args) => new::new(registry, &args, json),
        Command::Show {
            scenario,
            overrides,
        } => show::show(registry, &scenario, &overrides, json),
        Command::Run {
            plan: Some(plan),
            out,
            html,
            ..
        } => run_plan(registry, &plan, (out.as_deref(), html.as_deref()), json),
        Command::Run {
            scenario,
            protocol,
            seed,
            swarm,
            out,
            stop_at_violation,
            html,
            overrides,
            ..
        } => run(
            registry,
            &scenario.expect("clap asks for a scenario or a plan"),
            protocol.as_deref(),
            (seed, swarm, stop_at_violation),
            (out.as_deref(), html.as_deref()),
            &overrides,
            json,
        ),
        Command::Compare {
            scenario,
            protocols,
            seeds,
            first_seed,
            swarm,
            vary,
            results,
            out,
            html,
            overrides,
        } => {
            let seeds: Vec<u64> = (0..seeds).map(|n| first_seed.wrapping_add(n)).collect();
            if !vary.is_empty() {
                let asked = sweep::Asked {
                    scenario: &scenario,
                    protocols: &protocols,
                    seeds: &seeds,
                    swarm,
                    axes: vary,
                    overrides: &overrides,
                };
                return sweep::sweep(registry, &asked, results.as_deref(), html.as_deref(), json);
            }
            compare_protocols(
                registry,
                &scenario,
                protocols,
                (&seeds, swarm),
                (&out, html.as_deref()),
                &overrides,
                json,
            )
        }
        Command::Replay { dir } => replay(registry, &dir, json),
        Command::Report(args) => report::report(registry, &args, json),
        Command::Explain(args) => explain::explain(registry, &args, json),
        Command::Shrink {
            dir,
            budget,
            jobs,
            out,
            class,
            regression,
        } => {
            let out = out.unwrap_or_else(|| dir.join("shrunk"));
            let output = ShrinkOutput {
                dir: &out,
                regression: regression.as_deref(),
                json,
            };
            shrink_folder(registry, &dir, budget, jobs, class, &output)
        }
        Command::Fuzz(args) => fuzz::fuzz(registry, &args, json),
        Command::Merge(args) => fuzz::merge(registry, &args, json),
        Command::Check(args) => check::check(&args, json),
        Command::Convert(args) => check::convert(&args, json),
        Command::Export(args) => export::export(registry, &args, json),
        Command::Model { name, explore } => models(registry, name.as_deref(), explore, json),
        Command::Zoo {
            name,
            list,
            seeds,
            repetitions,
            budget,
            out,
        } => {
            let asked = Hunt {
                seeds,
                repetitions,
                budget,
                out,
            };
            show_zoo(registry, name.as_deref(), list, &asked, json)
        }
        Command::List => list(registry, json),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "ordain", &mut script);
            say_document("script", script, json)
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Args::command()).render(&mut page)?;
            say_document("page", page, json)
        }
    }
}

/// Writes a text that another program reads into a file, or prints it.
fn hand_over(name: &str, text: Vec<u8>, to: Option<&Path>, json: bool) -> Result<u8, Failure> {
    let Some(to) = to else {
        return say_document(name, text, json);
    };
    let text = String::from_utf8(text).expect("renderers write UTF-8");
    report::write_whole(to, &text)?;
    match json {
        true => say_json(&BTreeMap::from([("file", to)]))?,
        false => say(format!("{name}: {}", to.display()))?,
    }
    Ok(exit::OK)
}

/// Prints a text that another program reads, or a JSON document that holds it.
fn say_document(name: &str, text: Vec<u8>, json: bool) -> Result<u8, Failure> {
    let text = String::from_utf8(text).expect("renderers write UTF-8");
    match json {
        true => say_json(&BTreeMap::from([(name, text)]))?,
        false => say(text.trim_end())?,
    }
    Ok(exit::OK)
}

fn say(text: impl Display) -> Result<(), Failure> {
    match writeln!(anstream::stdout().lock(), "{text}") {
        // A reader that closed the pipe has seen all it wanted; what was found stays what it is.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn complain(text: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    say(serde_json::to_string_pretty(value).expect("results are plain data"))
}

fn load(
    registry: &Registry,
    name: &str,
    overrides: &[(String, String)],
) -> Result<Scenario, Failure> {
    let path = Path::new(name);
    if !path.exists()
        && let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name)
    {
        let shown = shown_name(&format!("{name} (shipped)"), overrides);
        return Ok(registry.read_scenario(&shown, text, overrides)?);
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
        Failure::Input(format!(
            "{name}: {error}\n  help: name a TOML file, or one of {}",
            names.join(", ")
        ))
    })?;
    let shown = shown_name(name, overrides);
    Ok(registry.read_scenario(&shown, &text, overrides)?)
}

/// The protocols that were named, or those of the scenario.
fn chosen_protocols(
    registry: &Registry,
    scenario: &Scenario,
    named: &[String],
) -> Result<Vec<String>, Failure> {
    match named.is_empty() {
        true => Ok(scenario.protocols.clone()),
        false => named.iter().map(|p| known_protocol(registry, p)).collect(),
    }
}

/// Says what runs of the scenario are unlikely to show.
fn warn(registry: &Registry, scenario: &Scenario, protocols: &[String]) {
    for name in protocols {
        let protocol = registry.get(name).expect("its name was looked up");
        for warning in protocol.warnings(scenario) {
            complain(format!("warning: {name}: {warning}"));
        }
    }
}

/// Overrides move lines: a place in the text that they leave is none in the file.
fn shown_name(file: &str, overrides: &[(String, String)]) -> String {
    match overrides {
        [] => file.to_owned(),
        _ => format!("{file} with --set"),
    }
}

fn known_protocol(registry: &Registry, name: &str) -> Result<String, Failure> {
    match registry.names().contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(Failure::Usage(format!(
            "there is no protocol `{name}`\n  help: the protocols are {}",
            registry.names().join(", ")
        ))),
    }
}

/// How plans are drawn. Under swarm plans what the scenario expects of its own faults is left aside.
fn drawer(scenario: &mut Scenario, swarm: bool) -> compare::Draw {
    match swarm {
        true => {
            scenario.expect.clear();
            crate::campaign::swarm::draw
        }
        false => Plan::draw,
    }
}

/// The command that repeats a run.
fn again(scenario: &str, run: &Run, overrides: &[(String, String)], swarm: bool) -> String {
    let set: String = overrides
        .iter()
        .map(|(key, value)| format!(" --set '{key}={value}'"))
        .collect();
    let swarm = if swarm { " --swarm" } else { "" };
    format!(
        "ordain run {scenario}{swarm} --protocol {} --seed {}{set}",
        run.protocol, run.seed
    )
}

/// The command that repeats a comparison.
fn comparison_again(
    scenario: &str,
    protocols: &[String],
    (seeds, swarm): (&[u64], bool),
    overrides: &[(String, String)],
) -> String {
    let set: String = overrides
        .iter()
        .map(|(key, value)| format!(" --set '{key}={value}'"))
        .collect();
    let swarm = if swarm { " --swarm" } else { "" };
    let (first, count) = (seeds.first().copied().unwrap_or(1), seeds.len());
    format!(
        "ordain compare {scenario}{swarm} --protocols {} --first-seed {first} --seeds {count}{set}",
        protocols.join(",")
    )
}

fn code(run: &Run) -> u8 {
    match (run.unexpected.is_empty(), run.verdict.verdict) {
        (true, _) => exit::OK,
        (false, Conclusion::Unknown | Conclusion::Vacuous) => exit::UNKNOWN,
        (false, _) => exit::VIOLATION,
    }
}

fn run(
    registry: &Registry,
    name: &str,
    protocol: Option<&str>,
    (seed, swarm, stop_at_violation): (u64, bool, bool),
    (out, html): (Option<&Path>, Option<&Path>),
    overrides: &[(String, String)],
    json: bool,
) -> Result<u8, Failure> {
    let mut scenario = load(registry, name, overrides)?;
    let protocol = match protocol {
        Some(protocol) => known_protocol(registry, protocol)?,
        None => scenario.protocols[0].clone(),
    };
    check_vacant(out)?;
    warn(registry, &scenario, std::slice::from_ref(&protocol));
    let plan = drawer(&mut scenario, swarm)(&scenario, seed);
    let run = match stop_at_violation {
        true => registry
            .run_until_violation(&scenario, &protocol, &plan)
            .map_err(Failure::Usage)?,
        false => registry
            .run(&scenario, &protocol, &plan, out.is_some())
            .map_err(Failure::Input)?,
    };
    let code = code(&run);
    let folder = match (out, code) {
        (None, exit::OK) => None,
        (Some(out), _) => Some(out.to_owned()),
        (None, _) => Some(artifact::folder(
            Path::new("store"),
            &scenario.name,
            &protocol,
            seed,
        )),
    };
    if let Some(folder) = &folder {
        match stop_at_violation {
            true => {
                let whole = registry.run(&scenario, &protocol, &plan, false);
                keep(
                    registry,
                    folder,
                    &scenario,
                    &plan,
                    &whole.map_err(Failure::Input)?,
                )?;
            }
            false => keep(registry, folder, &scenario, &plan, &run)?,
        }
    }
    let command = again(name, &run, overrides, swarm);
    if let Some(html) = html {
        let mut commands = vec![command.clone()];
        commands.extend({ folder.iter() }.map(|dir| format!("ordain replay {}", dir.display())));
        report::of_plan(registry, &scenario, (&protocol, &plan), commands, html)?;
    }
    if json {
        say_json(&run)?;
        return Ok(code);
    }
    let again = format!("seed {seed}: {command}");
    say(format!("{again}\n\n{}", text::run(&run)))?;
    if let Some(folder) = &folder {
        say(format!("kept in {0}: ordain replay {0}", folder.display()))?;
    }
    if code != exit::OK {
        say(again)?;
    }
    Ok(code)
}

/// Writes a run's folder. Runs are repeatable, so the trace is recorded only now, by running again.
fn keep(
    registry: &Registry,
    folder: &Path,
    scenario: &Scenario,
    plan: &Plan,
    run: &Run,
) -> Result<(), Failure> {
    let recorded = registry
        .record(scenario, &run.protocol, plan)
        .map_err(Failure::Input)?;
    assert_eq!(
        recorded.digest, run.digest,
        "the same plan gave two digests: ordain is not deterministic"
    );
    let kept = recorded.kept.plan.as_ref().unwrap_or(plan);
    artifact::write(folder, scenario, kept, &recorded, text::run).map_err(|error| at(folder, error))
}

/// Refuses a folder that a run must not be written to, before the work begins.
fn check_vacant(out: Option<&Path>) -> Result<(), Failure> {
    out.map_or(Ok(()), |out| {
        artifact::vacant(out).map_err(|error| at(out, error))
    })
}

/// An I/O error with the path that it is about.
fn at(path: &Path, error: io::Error) -> Failure {
    let message = format!("{}: {error}", path.display());
    Failure::Io(io::Error::new(error.kind(), message))
}

/// Plays a committed plan.
fn run_plan(
    registry: &Registry,
    file: &Path,
    (out, html): (Option<&Path>, Option<&Path>),
    json: bool,
) -> Result<u8, Failure> {
    let regression =
        Regression::read(registry, file).map_err(|error| Failure::Input(error.to_string()))?;
    check_vacant(out)?;
    let run = regression.run(registry).map_err(Failure::Input)?;
    if let Some(out) = out {
        keep(registry, out, &regression.scenario, &regression.plan, &run)?;
    }
    let again = format!("ordain run --plan {}", file.display());
    if let Some(html) = html {
        let planned = (regression.protocol.as_str(), &regression.plan);
        report::of_plan(
            registry,
            &regression.scenario,
            planned,
            vec![again.clone()],
            html,
        )?;
    }
    if json {
        say_json(&run)?;
        return Ok(code(&run));
    }
    let (about, class) = (&regression.about, &regression.class);
    say(format!("{again}\n\n{about}\n\n{}", text::run(&run)))?;
    say(match failure::shows(&run, class) {
        true => format!("fails as recorded: {class}"),
        false => format!("does not fail as recorded, which was {class}"),
    })?;
    if let Some(out) = out {
        say(format!("kept in {0}: ordain replay {0}", out.display()))?;
    }
    Ok(code(&run))
}

/// What `shrink --json` prints.
#[derive(Serialize)]
struct ShrunkFolder<'a> {
    #[serde(flatten)]
    shrunk: &'a Shrunk,
    dir: &'a Path,
}

/// What `shrink` writes.
struct ShrinkOutput<'a> {
    dir: &'a Path,
    regression: Option<&'a Path>,
    json: bool,
}

fn shrink_folder(
    registry: &Registry,
    dir: &Path,
    budget: usize,
    jobs: Option<u16>,
    class: Option<Class>,
    output: &ShrinkOutput<'_>,
) -> Result<u8, Failure> {
    let out = output.dir;
    let kept = artifact::read(registry, dir).map_err(|error| Failure::Input(error.to_string()))?;
    check_vacant(Some(out))?;
    let (protocol, plan) = (&kept.recorded.protocol, &kept.recorded.plan);
    let class = match class {
        Some(class) => class,
        None => class_to_keep(registry, dir, &kept.scenario, protocol, plan)?,
    };
    let bar = progress(budget as u64);
    let mut show = |progress: shrink::Progress| {
        bar.set_position(progress.runs as u64);
        bar.set_message(format!(
            "{}: {} faults, {} transactions",
            progress.stage, progress.faults, progress.transactions
        ));
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs.map_or(0, usize::from));
    let pool = { pool.build() }.map_err(|error| Failure::Usage(error.to_string()))?;
    let shrunk = pool.install(|| {
        shrink::shrink(
            registry,
            &kept.scenario,
            protocol,
            plan,
            &class,
            budget,
            &mut show,
        )
    });
    bar.finish_and_clear();
    let shrunk = shrunk.map_err(|error| Failure::Input(format!("{}: {error}", dir.display())))?;
    let as_happened = shrunk.run.kept.plan.as_ref().unwrap_or(&shrunk.plan);
    artifact::write(out, &shrunk.scenario, as_happened, &shrunk.run, text::run)
        .map_err(|error| at(out, error))?;
    if let Some(file) = output.regression {
        let regression = Regression {
            about: format!("Shrunk from seed {} of {}.", plan.seed, kept.scenario.name),
            bug: None,
            protocol: protocol.clone(),
            class: class.clone(),
            scenario: shrunk.scenario.clone(),
            plan: shrunk.plan.clone(),
        };
        regression.write(file).map_err(|error| at(file, error))?;
    }
    if output.json {
        say_json(&ShrunkFolder {
            shrunk: &shrunk,
            dir: out,
        })?;
    } else {
        say(crate::report::plan::shrunk(&shrunk))?;
        say(format!("kept in {0}: ordain replay {0}", out.display()))?;
    }
    Ok(exit::OK)
}

/// The class of a folder's run, if it broke a promise.
fn class_to_keep(
    registry: &Registry,
    dir: &Path,
    scenario: &Scenario,
    protocol: &str,
    plan: &Plan,
) -> Result<Class, Failure> {
    let run = registry
        .run(scenario, protocol, plan, false)
        .map_err(Failure::Input)?;
    class_of(&run).map_err(|message| Failure::Input(format!("{}: {message}", dir.display())))
}

/// The class of a run, if it broke a promise.
fn class_of(run: &Run) -> Result<Class, String> {
    failure::class(run).ok_or_else(|| {
        let weaknesses = failure::weaknesses(run).into_iter();
        let weaknesses: Vec<String> = weaknesses
            .map(|weakness| format!("--class '{weakness}'"))
            .collect();
        let help = match weaknesses.is_empty() {
            true => "name the folder of a failing run".to_owned(),
            false => format!(
                "what it showed without a promise to the contrary can be named: {}",
                weaknesses.join(", ")
            ),
        };
        format!("this run broke no promise\n  help: {help}")
    })
}

fn compare_protocols(
    registry: &Registry,
    name: &str,
    protocols: Vec<String>,
    (seeds, swarm): (&[u64], bool),
    (out, html): (&Path, Option<&Path>),
    overrides: &[(String, String)],
    json: bool,
) -> Result<u8, Failure> {
    let mut scenario = load(registry, name, overrides)?;
    let draw = drawer(&mut scenario, swarm);
    let protocols = chosen_protocols(registry, &scenario, &protocols)?;
    fuzz::check_writable_below(out)?;
    warn(registry, &scenario, &protocols);
    let bar = progress(protocols.len() as u64 * seeds.len() as u64);
    let failing = std::sync::Mutex::new(Vec::new());
    let comparison = compare::compare_plans(registry, &scenario, &protocols, seeds, draw, |run| {
        bar.inc(1);
        if !run.unexpected.is_empty() {
            failing
                .lock()
                .expect("no thread panics while it holds the list")
                .push(run.clone());
        }
    })
    .map_err(Failure::Input)?;
    bar.finish_and_clear();
    let mut failing = failing.into_inner().expect("all threads are done");
    failing.sort_by(|a, b| (&a.protocol, a.seed).cmp(&(&b.protocol, b.seed)));
    // A folder for the first failures of each protocol: one is enough to work on, thousands help nobody.
    for protocol in &protocols {
        for run in failing
            .iter()
            .filter(|run| run.protocol == *protocol)
            .take(3)
        {
            keep(
                registry,
                &artifact::folder(out, &scenario.name, protocol, run.seed),
                &scenario,
                &draw(&scenario, run.seed),
                run,
            )?;
        }
    }
    if let Some(html) = html {
        let command = comparison_again(name, &protocols, (seeds, swarm), overrides);
        report::of_comparison(registry, &scenario, &comparison, (draw, command), html)?;
    }
    if json {
        say_json(&comparison)?;
    } else {
        say(text::comparison(&comparison))?;
        for run in failing.iter().take(5) {
            say(format!(
                "seed {}: {}",
                run.seed,
                again(name, run, overrides, swarm)
            ))?;
            for difference in &run.unexpected {
                say(format!("    {difference}"))?;
            }
            let folder = artifact::folder(out, &scenario.name, &run.protocol, run.seed);
            if folder.exists() {
                say(format!("    ordain replay {}", folder.display()))?;
            }
        }
    }
    Ok(failing
        .iter()
        .map(code)
        .fold(exit::OK, |worst, code| match (worst, code) {
            (exit::VIOLATION, _) | (_, exit::VIOLATION) => exit::VIOLATION,
            (worst, code) => worst.max(code),
        }))
}

/// A progress bar on standard error, hidden when that is no terminal.
fn progress(length: u64) -> ProgressBar {
    if length < 2 || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:40} {pos}/{len} runs, {per_sec}, {eta} left {msg}";
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(length).with_style(style.expect("the template is fixed"))
}

/// What a replay found.
#[derive(Debug, Serialize)]
struct Replayed {
    scenario: String,
    protocol: String,
    seed: u64,
    recorded_digest: String,
    digest: String,
    identical: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_difference: Option<Divergence>,
    /// Files of the folder that do not follow from the replayed run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files_that_differ: Vec<&'static str>,
}

fn replay(registry: &Registry, dir: &Path, json: bool) -> Result<u8, Failure> {
    let artifact =
        artifact::read(registry, dir).map_err(|error| Failure::Input(error.to_string()))?;
    let recorded = &artifact.recorded;
    let run = registry
        .replay(
            &artifact.scenario,
            &recorded.protocol,
            &recorded.plan,
            &artifact.fates,
        )
        .map_err(Failure::Input)?;
    let trace = run.kept.trace.as_deref().unwrap_or_default();
    let digest = run.digest.to_string();
    let first = first_difference(&artifact.trace, trace);
    let derived = artifact::derived(&run, text::run);
    let files = artifact::DERIVED
        .into_iter()
        .zip(&artifact.derived)
        .zip(&derived);
    let differ = files.filter_map(|((name, old), new)| (old != new).then_some(name));
    let files_that_differ: Vec<&str> = differ.collect();
    let identical = digest == recorded.digest && first.is_none() && files_that_differ.is_empty();
    let replayed = Replayed {
        scenario: artifact.scenario.name.clone(),
        protocol: recorded.protocol.clone(),
        seed: recorded.plan.seed,
        recorded_digest: recorded.digest.clone(),
        digest,
        identical,
        first_difference: first,
        files_that_differ,
    };
    if json {
        say_json(&replayed)?;
    } else if identical {
        say(text::run(&run))?;
        say(format!(
            "identical: {} events, digest {}",
            trace.len(),
            replayed.digest
        ))?;
    } else {
        say(format!(
            "DIVERGED: recorded digest {}, replayed {}",
            replayed.recorded_digest, replayed.digest
        ))?;
        if let Some(Divergence {
            line,
            recorded,
            replayed,
        }) = &replayed.first_difference
        {
            let show = |event: &Option<TraceEvent>| match event {
                Some(event) => serde_json::to_string(event).expect("events are plain data"),
                None => "(the trace ends here)".to_owned(),
            };
            let line = line + 1;
            say(format!("first difference, line {line} of trace.ndjson.gz:"))?;
            say(format!(
                "  recorded {}\n  replayed {}",
                show(recorded),
                show(replayed)
            ))?;
        }
        for name in &replayed.files_that_differ {
            say(format!("{name} is not what this run gives"))?;
        }
    }
    Ok(if identical { exit::OK } else { exit::DIVERGED })
}

fn models(
    registry: &Registry,
    name: Option<&str>,
    explore: Option<std::net::SocketAddr>,
    json: bool,
) -> Result<u8, Failure> {
    use crate::model::report;
    let failure = |error: report::ReportError| Failure::Usage(error.to_string());
    if let (Some(name), Some(address)) = (name, explore) {
        let serve = report::explorer(registry.worlds(), name).map_err(failure)?;
        // The server panics where it cannot listen.
        std::net::TcpListener::bind(address).map_err(|error| {
            Failure::Usage(format!(
                "cannot listen on {address}: {error}\n  help: a free port of this machine, such as 127.0.0.1:3000"
            ))
        })?;
        complain(format!(
            "http://{address}/ serves the Explorer of {name}; interrupt to stop"
        ));
        serve(address).map_err(|why| Failure::Usage(format!("{name}: {why}")))?;
        return Ok(exit::OK);
    }
    let selected = report::select(registry.worlds(), name).map_err(failure)?;
    let bar = progress(selected.len() as u64);
    let check = |listed: &report::Listed| {
        let report = listed.check();
        bar.inc(1);
        report
    };
    let reports = selected
        .par_iter()
        .map(check)
        .collect::<Result<Vec<_>, _>>();
    let reports = reports.map_err(failure)?;
    bar.finish_and_clear();
    if json {
        say_json(&reports)?;
    } else {
        say(text::models(&reports))?;
    }
    let as_recorded = reports.iter().all(|report| report.as_recorded);
    Ok(if as_recorded {
        exit::OK
    } else {
        exit::VIOLATION
    })
}

/// What was asked of a hunt.
#[derive(PartialEq, Eq, Default)]
struct Hunt {
    seeds: Option<u64>,
    repetitions: Option<u64>,
    budget: Option<usize>,
    out: Option<PathBuf>,
}

fn show_zoo(
    registry: &Registry,
    name: Option<&str>,
    list: bool,
    asked: &Hunt,
    json: bool,
) -> Result<u8, Failure> {
    let begins = |planted: &&Planted| name.is_none_or(|name| planted.name.starts_with(name));
    let selected: Vec<&Planted> = zoo::ALL.iter().filter(begins).collect();
    if selected.is_empty() {
        let name = name.unwrap_or_default();
        return Err(Failure::Usage(format!(
            "no planted bug is called `{name}`\n  help: `ordain zoo --list` lists them"
        )));
    }
    let can_hunt = cfg!(feature = "zoo");
    if !list && (can_hunt || name.is_some() || *asked != Hunt::default()) {
        return hunt_zoo(registry, &selected, asked, json);
    }
    if json {
        say_json(&selected)?;
        return Ok(exit::OK);
    }
    say(format!("{} planted bugs", selected.len()))?;
    for Planted {
        name,
        protocol,
        scenario,
        wrong,
        source,
        ..
    } in selected
    {
        say(format!(
            "\n  {name} ({protocol}, {scenario})\n    {wrong}\n    {source}"
        ))?;
    }
    if !can_hunt {
        say(format!("\n{HOW_TO_HUNT}"))?;
    }
    Ok(exit::OK)
}

const HOW_TO_HUNT: &str =
    "This build has no planted bugs in it. To hunt for them, build with the feature `zoo`:
  cargo run --release --features zoo -- zoo";

#[cfg(not(feature = "zoo"))]
fn hunt_zoo(_: &Registry, _: &[&Planted], _: &Hunt, _: bool) -> Result<u8, Failure> {
    Err(Failure::Usage(HOW_TO_HUNT.to_owned()))
}

#[cfg(feature = "zoo")]
fn hunt_zoo(
    registry: &Registry,
    selected: &[&Planted],
    asked: &Hunt,
    json: bool,
) -> Result<u8, Failure> {
    let usual = hunt::Limits::default();
    let limits = hunt::Limits {
        seeds: asked.seeds.unwrap_or(usual.seeds),
        repetitions: asked.repetitions.unwrap_or(usual.repetitions),
        shrink_runs: asked.budget.unwrap_or(usual.shrink_runs),
    };
    asked
        .out
        .as_deref()
        .map_or(Ok(()), fuzz::check_writable_below)?;
    let bar = progress(selected.len() as u64);
    let mut hunted = Vec::new();
    for planted in selected {
        bar.set_message(planted.name);
        let scenario = load(registry, planted.scenario, &[])?;
        let (found, regression) =
            hunt::hunt(registry, planted, &scenario, limits).map_err(Failure::Input)?;
        if let (Some(out), Some(regression)) = (&asked.out, regression) {
            let plans = out.join("plans");
            regression.write(&plans.join(format!("{}.json", planted.name)))?;
        }
        hunted.push(found);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let table = crate::report::zoo::markdown(&hunted, limits);
    if let Some(out) = &asked.out {
        std::fs::create_dir_all(out)?;
        let text = serde_json::to_string_pretty(&hunted).expect("results are plain data");
        std::fs::write(out.join("zoo.json"), text + "\n")?;
        std::fs::write(out.join("zoo.md"), &table)?;
    }
    match json {
        true => say_json(&hunted)?,
        false => say(table.trim_end())?,
    }
    let all_found = hunted.iter().all(|hunted| hunted.found);
    Ok(if all_found { exit::OK } else { exit::VIOLATION })
}

/// What `list --json` prints.
#[derive(Debug, Serialize)]
struct Listing {
    protocols: Vec<Listed>,
    scenarios: Vec<ListedScenario>,
}

#[derive(Debug, Serialize)]
struct ListedScenario {
    name: String,
    summary: String,
    protocols: Vec<String>,
}

fn list(registry: &Registry, json: bool) -> Result<u8, Failure> {
    let scenarios = SHIPPED.iter().map(|(name, text)| {
        let scenario = registry.read_scenario(&format!("{name} (shipped)"), text, &[])?;
        Ok(ListedScenario {
            name: scenario.name,
            summary: scenario.summary,
            protocols: scenario.protocols,
        })
    });
    let listing = Listing {
        protocols: registry.list(),
        scenarios: scenarios.collect::<Result<_, BadInput>>()?,
    };
    if json {
        say_json(&listing)?;
        return Ok(exit::OK);
    }
    say("Protocols")?;
    for protocol in &listing.protocols {
        say(format!("\n  {}: {}", protocol.name, protocol.title))?;
        say(format!("    promises: {}", protocol.promises))?;
        say(text::options(protocol))?;
    }
    say("\nScenarios")?;
    for scenario in &listing.scenarios {
        say(format!(
            "\n  {} ({})\n    {}",
            scenario.name,
            scenario.protocols.join(", "),
            scenario.summary
        ))?;
    }
    Ok(exit::OK)
}
