//! `ordain check`: histories of any database against a consistency model.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Failure, complain, exit, say, say_json};
use crate::check::{self, History, Model, Object, Report, Verdict, parse, workload::Property};
use crate::report::history;

/// What to check, and how to read it.
#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// The histories: files, or folders of a Jepsen store or of a run.
    #[arg(required = true)]
    history: Vec<PathBuf>,
    /// The model: strict-serializable, serializable, snapshot-isolation, prefix, causal-consistency, read-atomic,
    /// read-committed, linearizable, ...
    #[arg(long, short, default_value = "strict-serializable")]
    model: Model,
    /// What the keys hold. Default: what the operations tell.
    #[arg(long, value_enum)]
    workload: Option<Workload>,
    /// What every register holds before it is written. Default: nothing, which is read as nil.
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    initial: Option<String>,
    #[command(flatten)]
    reading: Reading,
    /// What all accounts of a bank hold together (operations `transfer`, and reads of maps from accounts to balances).
    #[arg(long, value_name = "TOTAL", allow_hyphen_values = true)]
    bank_total: Option<i64>,
    /// Accounts of a bank may hold less than nothing.
    #[arg(long, requires = "bank_total")]
    overdraft: bool,
    /// How many seats each list holds, to which sales are appended.
    #[arg(long, value_name = "CAPACITY")]
    seats: Option<usize>,
    /// Also judge this property, whatever the model: long-fork, causal-reverse, read-atomicity, monotonic-reads,
    /// monotonic-writes, read-your-writes, writes-follow-reads. May be given several times.
    #[arg(long = "property", value_name = "PROPERTY")]
    properties: Vec<Property>,
    /// Draw the first cycle that violates the model as SVG into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// How to read a history.
#[derive(Args, Debug)]
struct Reading {
    /// What a read of nil means: that nothing was there, or that the client does not know.
    #[arg(long, value_enum, value_name = "MEANING", default_value = "nothing")]
    nil_reads: NilReads,
    /// What came before what: by the order of the lines, or by the time stamps.
    #[arg(long, value_enum, default_value = "lines")]
    order: Order,
    /// Accept completions without invocations and records without processes, as hand-written fragments have them.
    #[arg(long)]
    lenient: bool,
}

/// What to convert, and into what.
#[derive(Args, Debug)]
pub(super) struct ConvertArgs {
    /// The history: a file, or a folder of a Jepsen store or of a run.
    history: PathBuf,
    /// The format to write.
    #[arg(long, value_enum)]
    to: Format,
    /// Write here. Default: standard output.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
}

/// Formats that `convert` writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// One JSON record a line.
    Ndjson,
    /// Jepsen's EDN, one map a line, as Elle reads it.
    Edn,
    /// One JSON array.
    Json,
}

/// What the keys of a history hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Workload {
    /// Lists: append, and reads of whole lists.
    List,
    /// Registers: write, read, cas.
    Register,
    /// Grow-only sets: add, and reads of all elements.
    Set,
    /// Counters: add, and reads of a number.
    Counter,
    /// Queues, first in and first out: enqueue, dequeue.
    Queue,
    /// Mutexes: acquire, release.
    Mutex,
    /// A bank: transfer, and reads of all balances.
    Bank,
}

impl Workload {
    fn object(self) -> Object {
        match self {
            Workload::List => Object::List,
            Workload::Register | Workload::Mutex => Object::Register,
            Workload::Set => Object::Set,
            Workload::Counter => Object::Counter,
            Workload::Queue => Object::Queue,
            Workload::Bank => Object::Account,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum NilReads {
    /// The key was in its initial state.
    Nothing,
    /// The client does not know what it read.
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Order {
    /// A record comes after those before it.
    Lines,
    /// By the records' `time`, whatever their order.
    Time,
}

impl Reading {
    fn meaning(&self) -> parse::Reading {
        parse::Reading {
            strictness: match self.lenient {
                true => parse::Strictness::Lenient,
                false => parse::Strictness::Strict,
            },
            order: match self.order {
                Order::Lines => parse::Order::Lines,
                Order::Time => parse::Order::Time,
            },
            nil_is_unknown: self.nil_reads == NilReads::Unknown,
        }
    }
}

/// Writes a history in another format. Every operation becomes a transaction of its own.
pub(super) fn convert(args: &ConvertArgs, json: bool) -> Result<u8, Failure> {
    let history = read(&args.history, args.reading.meaning())?;
    let format = match args.to {
        Format::Ndjson => parse::Format::Ndjson,
        Format::Edn => parse::Format::Edn,
        Format::Json => parse::Format::Json,
    };
    let mut text = Vec::new();
    parse::write(&history, format, &mut text)?;
    super::hand_over("history", text, args.out.as_deref(), json)
}

impl CheckArgs {
    fn options(&self) -> check::Options {
        let (total, overdraft) = (self.bank_total, self.overdraft);
        check::Options {
            bank: total.map(|total| check::Bank { total, overdraft }),
            ..check::Options::new(self.model)
        }
    }
}

/// Checks each history; of several, a table and the gravest exit code.
pub(super) fn check(args: &CheckArgs, json: bool) -> Result<u8, Failure> {
    if let [only] = &args.history[..] {
        let (history, report) = judge(only, args)?;
        draw(args, &history, &report)?;
        match json {
            true => say_json(&Document::of(&history, &report))?,
            false => say(history::text(&report))?,
        }
        return Ok(code(report.verdict));
    }
    if args.svg.is_some() {
        let one = "--svg draws a cycle of one history";
        return Err(Failure::Usage(one.into()));
    }
    let (mut rows, mut codes) = (Vec::new(), Vec::new());
    let mut documents = BTreeMap::new();
    for path in &args.history {
        let name = path.display().to_string();
        let (outcome, code, document) = match judge(path, args) {
            Ok((history, report)) => {
                let document = serde_json::to_value(Document::of(&history, &report));
                let document = document.expect("results are plain data");
                (history::outcome(&report), code(report.verdict), document)
            }
            // The others are judged all the same.
            Err(Failure::Input(why)) => {
                let document = serde_json::json!({ "error": why });
                (format!("no history: {why}"), exit::INPUT, document)
            }
            Err(other) => return Err(other),
        };
        rows.push((name.clone(), outcome));
        codes.push(code);
        documents.insert(name, document);
    }
    match json {
        true => say_json(&BTreeMap::from([("histories", documents)]))?,
        false => say(history::table(&rows))?,
    }
    let gravest = [exit::VIOLATION, exit::INPUT, exit::UNKNOWN];
    let gravest = gravest.into_iter().find(|code| codes.contains(code));
    Ok(gravest.unwrap_or(exit::OK))
}

/// The report, and where to find the transactions that it cites.
#[derive(Serialize)]
struct Document<'a> {
    /// Of this document: it changes when a field is renamed, removed or changes its meaning.
    schema: u32,
    #[serde(flatten)]
    report: &'a Report,
    transactions: BTreeMap<check::TxnId, check::Cited>,
}

/// The version of the JSON document. Version 1 had no `judged` and `skipped`.
const SCHEMA: u32 = 2;

impl<'a> Document<'a> {
    fn of(history: &History, report: &'a Report) -> Self {
        Document {
            schema: SCHEMA,
            report,
            transactions: report.cited(history),
        }
    }
}

fn code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Valid => exit::OK,
        Verdict::Invalid => exit::VIOLATION,
        Verdict::Unknown => exit::UNKNOWN,
    }
}

fn judge(path: &Path, args: &CheckArgs) -> Result<(History, Report), Failure> {
    let wrong = |why: String| Failure::Input(format!("{}: {why}", path.display()));
    let mut history = read(path, args.reading.meaning())?;
    if let Some(workload) = args.workload {
        let taken = history.take_for(workload.object());
        taken.map_err(|(key, object)| {
            let object = format!("{object:?}").to_lowercase();
            wrong(format!(
                "key {key} is used as a {object}, which is not the workload that was named"
            ))
        })?;
    }
    if let Some(initial) = &args.initial
        && !history.start_registers_at(initial)
    {
        return Err(wrong(
            "--initial is about registers, and no key holds one".into(),
        ));
    }
    if args.model == Model::Linearizable && !history.is_local() {
        return Err(wrong(
            "some transactions touch several keys, and linearizability is about operations on one object\n  help: \
             --model strict-serializable judges each transaction as one operation on all its keys"
                .into(),
        ));
    }
    let options = args.options();
    let mut report = watched(&history, &options);
    let seats = args.seats.map(Property::Seats);
    for property in args.properties.iter().copied().chain(seats) {
        let added = report.add_property(&history, property, &options);
        added.map_err(|unfit| wrong(unfit.to_string()))?;
    }
    report.require_evidence(&history);
    Ok((history, report))
}

/// Draws the first cycle, if that was asked for.
fn draw(args: &CheckArgs, history: &History, report: &Report) -> Result<(), Failure> {
    let Some(file) = &args.svg else {
        return Ok(());
    };
    let violate = |anomaly: &&check::Anomaly| anomaly.violates(args.model);
    let mut anomalies = report.anomalies.iter().filter(violate);
    let Some(drawing) = anomalies.find_map(|anomaly| check::explain::svg(history, anomaly)) else {
        complain(format!(
            "no cycle to draw that violates {}: {} is not written",
            args.model,
            file.display()
        ));
        return Ok(());
    };
    let written = std::fs::write(file, drawing);
    let failed = |error: io::Error| {
        let why = format!("{}: {error}", file.display());
        Failure::Io(io::Error::new(error.kind(), why))
    };
    written.map_err(failed)
}

/// The history in a folder of a Jepsen store or of a run.
fn file_in(folder: &Path) -> Result<PathBuf, Failure> {
    const NAMES: [&str; 6] = [
        "history.ndjson",
        "history.ndjson.gz",
        "history.edn",
        "history.edn.gz",
        "history.json",
        "history.json.gz",
    ];
    let files = NAMES.map(|name| folder.join(name));
    let found = files.into_iter().find(|file| file.is_file());
    found.ok_or_else(|| {
        let names = NAMES.join(", ");
        Failure::Input(format!(
            "{}: a folder without a history; one of {names}",
            folder.display()
        ))
    })
}

/// Opens a history, with a bar that follows the reading of a long one on a terminal.
fn read(path: &Path, reading: parse::Reading) -> Result<History, Failure> {
    /// Shorter files are read before a bar could be seen.
    const LONG_BYTES: u64 = 8 << 20;
    if path == Path::new("-") {
        let history = parse::read(io::stdin().lock(), reading);
        return history.map_err(|error| Failure::Input(error.to_string()));
    }
    let inside = match path.is_dir() {
        true => Some(file_in(path)?),
        false => None,
    };
    let path = inside.as_deref().unwrap_or(path);
    let failed = |error| Failure::Input(format!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let bar = match length >= LONG_BYTES && io::stderr().is_terminal() {
        false => ProgressBar::hidden(),
        true => {
            let style = "reading {bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
            let style = ProgressStyle::with_template(style).expect("the template is fixed");
            ProgressBar::new(length).with_style(style)
        }
    };
    let history = parse::read_named(bar.wrap_read(file), path, reading);
    bar.finish_and_clear();
    history.map_err(|error| Failure::Input(error.to_string()))
}

/// Checks a history; of a long one, a terminal shows what is being done and for how long.
fn watched(history: &History, options: &check::Options) -> Report {
    /// Shorter histories are checked before a line could be seen.
    const LONG: usize = 100_000;
    let spinner = match history.len() >= LONG && io::stderr().is_terminal() {
        false => ProgressBar::hidden(),
        true => {
            let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}");
            let spinner = ProgressBar::new_spinner();
            spinner.enable_steady_tick(std::time::Duration::from_millis(100));
            spinner.with_style(style.expect("the template is fixed"))
        }
    };
    let count = history.len();
    let mut show = |phase: check::Phase| {
        spinner.set_message(format!("checking {count} transactions: {}", phase.name()));
    };
    let report = check::check_observed(history, options, &mut show);
    spinner.finish_and_clear();
    report
}
