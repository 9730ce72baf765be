//! `ordain record`: a real database under a workload, judged. Works in a build with the feature `record`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

#[cfg(not(feature = "record"))]
use super::Failure;
use super::fuzz::duration;
use crate::check::Model;

/// Which database, and what to do with it.
#[derive(Args, Debug)]
#[cfg_attr(not(feature = "record"), allow(dead_code))] // Such a build explains them and does nothing with them.
pub(super) struct RecordArgs {
    /// The database: postgres://USER@HOST/DATABASE, sqlite:FILE, or child:COMMAND for a program that speaks JSON lines.
    /// Tables whose names begin with `ordain_` are replaced. The password may stand in PGPASSWORD.
    database: String,
    /// What the clients do.
    #[arg(long, short, value_enum, default_value = "list-append")]
    workload: Workload,
    /// The isolation level, by the database's own name. PostgreSQL: serializable, repeatable-read, read-committed,
    /// read-uncommitted, default (as the server is configured). SQLite: serializable, read-uncommitted.
    #[arg(long, short, default_value = "serializable", value_name = "LEVEL")]
    isolation: String,
    /// The model that the history is judged by. Default: what the database's manual promises for the level.
    #[arg(long, short)]
    model: Option<Model>,
    /// How many clients at once.
    #[arg(long, short, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1024))]
    clients: u64,
    /// How many transactions. Default: 2000, if no duration is given.
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u64).range(1..))]
    transactions: Option<u64>,
    /// How long, as in 90s or 10m.
    #[arg(long, short, value_parser = duration)]
    duration: Option<Duration>,
    /// What the workload is drawn with. It fixes what is asked, not what happens.
    #[arg(long, short, default_value_t = 1)]
    seed: u64,
    /// The folder for the history, which must not hold one. Default: a new one below store/record.
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// How many lists or registers are in use at once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// After so many writes a list or register is replaced by a new one.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    writes_per_key: u64,
    /// How many operations a transaction may have.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=100))]
    operations: u64,
    /// How many accounts a bank has. Each holds 20 at first.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(2..))]
    accounts: u64,
    /// Which part of the writing transactions the clients themselves roll back, from 0 to 1.
    #[arg(long, default_value_t = 0.05, value_parser = part)]
    rollbacks: f64,
    /// How long a client waits for an answer, and for a server that is away.
    #[arg(long, default_value = "10s", value_parser = duration)]
    patience: Duration,
    /// Stop at the first violation that is seen while the run goes on. Lists under a serializable model only.
    #[arg(long)]
    stop_at_violation: bool,
    /// The process that --kill-every and --pause-every strike, with its children: its id, or a file whose first line is
    /// the id, such as postmaster.pid.
    #[arg(long, value_name = "PID|FILE")]
    process: Option<String>,
    /// Send SIGKILL this often, and then run --restart.
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "process", requires = "restart")]
    kill_every: Option<Duration>,
    /// The shell command that starts the database after it was killed.
    #[arg(long, value_name = "COMMAND", requires = "kill_every")]
    restart: Option<String>,
    /// Send SIGSTOP this often, and SIGCONT after --pause-for.
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "process")]
    pause_every: Option<Duration>,
    /// How long the process stands still.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "500ms")]
    pause_for: Duration,
    /// Run --fault-command this often.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2s")]
    fault_every: Duration,
    /// A shell command that breaks something.
    #[arg(long, value_name = "COMMAND")]
    fault_command: Option<String>,
}

fn part(text: &str) -> Result<f64, String> {
    let number: Result<f64, _> = text.parse();
    let inside = number.ok().filter(|part| (0.0..=1.0).contains(part));
    inside.ok_or_else(|| "a number from 0 to 1".into())
}

/// What the clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Workload {
    /// Transactions of appends to lists and reads of whole lists.
    ListAppend,
    /// Transactions of writes and reads of registers.
    Registers,
    /// Transfers between accounts, and reads of all of them.
    Bank,
    /// Single writes, and reads of two keys.
    LongFork,
}

#[cfg(not(feature = "record"))]
pub(super) fn record(args: &RecordArgs, _: bool) -> Result<u8, Failure> {
    Err(Failure::Usage(format!(
        "this build cannot drive {}\n  help: build with the feature `record`:\n  cargo build --release --features record",
        args.database
    )))
}

#[cfg(feature = "record")]
pub(super) use driving::record;

#[cfg(feature = "record")]
mod driving {
    use std::collections::BTreeMap;
    use std::io::IsTerminal;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use indicatif::{ProgressBar, ProgressStyle};
    use serde::Serialize;

    use super::super::{Failure, complain, exit, say, say_json};
    use super::{RecordArgs, Workload};
    use crate::check;
    use crate::record::database::{Refused, Target};
    use crate::record::judge::{self, Judged, Outcome};
    use crate::record::{self, Ended, Fault, Process, Recording, Settings, Strike, workload};
    use crate::report::recording;

    /// The version of the JSON document.
    const SCHEMA: u32 = 1;

    /// Transactions where neither their number nor a duration is given.
    const TRANSACTIONS: u64 = 2_000;

    impl RecordArgs {
        fn shape(&self) -> workload::Shape {
            workload::Shape {
                keys: self.keys,
                writes_per_key: self.writes_per_key,
                operations_max: self.operations,
                accounts: self.accounts,
                rollbacks: self.rollbacks,
                ..workload::Shape::default()
            }
        }

        fn faults(&self) -> Vec<Fault> {
            let process = self.process.as_ref().map(|text| match text.parse() {
                Ok(pid) => Process::Pid(pid),
                Err(_) => Process::File(text.into()),
            });
            let mut faults = Vec::new();
            if let (Some(process), Some(every), Some(restart)) =
                (&process, self.kill_every, &self.restart)
            {
                let (process, restart) = (process.clone(), restart.clone());
                let strike = Strike::Kill { process, restart };
                faults.push(Fault { every, strike });
            }
            if let (Some(process), Some(every)) = (&process, self.pause_every) {
                let (process, pause) = (process.clone(), self.pause_for);
                let strike = Strike::Pause { process, pause };
                faults.push(Fault { every, strike });
            }
            if let Some(command) = &self.fault_command {
                faults.push(Fault {
                    every: self.fault_every,
                    strike: Strike::Command(command.clone()),
                });
            }
            faults
        }

        /// The folder that was asked for, or the first free one.
        fn folder(&self) -> Result<PathBuf, Failure> {
            if let Some(out) = &self.out {
                if out.join(HISTORY).exists() {
                    let why =
                        "holds a history already, which cannot be repeated: name another folder";
                    return Err(Failure::Usage(format!("--out {}: {why}", out.display())));
                }
                return Ok(out.clone());
            }
            let below = Path::new("store/record");
            let names = (1u64..).map(|n| below.join(n.to_string()));
            let mut free = names.filter(|folder| !folder.exists());
            Ok(free.next().expect("there are more numbers than folders"))
        }
    }

    const HISTORY: &str = "history.ndjson";

    /// The JSON document.
    #[derive(Serialize)]
    struct Document<'a> {
        schema: u32,
        database: &'a str,
        workload: workload::Workload,
        isolation: &'a str,
        clients: u64,
        seed: u64,
        shape: workload::Shape,
        history: String,
        outcome: Outcome,
        why: &'a [String],
        contended: u64,
        #[serde(flatten)]
        recording: &'a Recording,
        report: &'a check::Report,
        transactions: BTreeMap<check::TxnId, check::Cited>,
    }

    pub(in crate::cli) fn record(args: &RecordArgs, json: bool) -> Result<u8, Failure> {
        let refused = |Refused(why)| Failure::Input(why);
        let kind = match args.workload {
            Workload::ListAppend => workload::Workload::ListAppend,
            Workload::Registers => workload::Workload::Registers,
            Workload::Bank => workload::Workload::Bank,
            Workload::LongFork => workload::Workload::LongFork,
        };
        let target = Target {
            url: args.database.clone(),
            isolation: args.isolation.clone(),
            password: std::env::var("PGPASSWORD").ok(),
            patience: args.patience,
        };
        let database = record::open(&target, kind).map_err(|Refused(why)| Failure::Usage(why))?;
        let model = args.model.or_else(|| database.promises(kind)).ok_or_else(|| {
            Failure::Usage(format!(
                "--isolation {}: nobody knows what that promises\n  help: name a model, as in --model serializable",
                args.isolation
            ))
        })?;
        let folder = args.folder()?;
        let settings = Settings {
            workload: kind,
            shape: args.shape(),
            seed: args.seed,
            clients: args.clients,
            transactions: match (args.transactions, args.duration) {
                (None, None) => Some(TRANSACTIONS),
                (given, _) => given,
            },
            duration: args.duration,
            patience: args.patience,
            model,
            stop_at_violation: args.stop_at_violation,
            faults: args.faults(),
            history: folder.join(HISTORY),
        };
        let interrupted = interruptible()?;
        let name = database.name();
        let bar = bar();
        let mut show = |completed| bar.set_position(completed);
        let recorded = record::record(database, &settings, &interrupted, &mut show);
        bar.finish_and_clear();
        let recorded = recorded.map_err(refused)?;
        let shape = settings.shape;
        let wanted = !settings.faults.is_empty();
        let judged = judge::judge(&settings.history, (kind, &shape), model, &recorded, wanted);
        let judged = judged.map_err(|error| Failure::Input(error.to_string()))?;
        let document = Document {
            schema: SCHEMA,
            database: &name,
            workload: kind,
            isolation: &args.isolation,
            clients: args.clients,
            seed: args.seed,
            shape,
            history: settings.history.display().to_string(),
            outcome: judged.outcome,
            why: &judged.why,
            contended: judged.contended,
            recording: &recorded,
            report: &judged.report,
            transactions: judged.report.cited(&judged.history),
        };
        let text = serde_json::to_string_pretty(&document).expect("results are plain data");
        std::fs::write(folder.join("record.json"), text + "\n")?;
        match json {
            true => say_json(&document)?,
            false => say(recording::text(&name, &settings.history, &recorded, &judged).trim_end())?,
        }
        if let Ended::Broken(why) | Ended::Lost(why) | Ended::NothingCommits(why) = &recorded.ended
        {
            complain(format!(
                "error: {why}\n  the history so far: {}",
                settings.history.display()
            ));
        }
        Ok(code(&recorded, &judged))
    }

    /// How far the run is, on a terminal.
    fn bar() -> ProgressBar {
        if !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{pos} transactions, {elapsed}");
        ProgressBar::no_length().with_style(style.expect("the template is fixed"))
    }

    fn code(recorded: &Recording, judged: &Judged) -> u8 {
        match (judged.outcome, &recorded.ended) {
            (Outcome::Violated, _) => exit::VIOLATION,
            (_, Ended::Interrupted) => exit::INTERRUPTED,
            (_, Ended::Broken(_)) => exit::INPUT,
            (Outcome::Kept, _) => exit::OK,
            _ => exit::UNKNOWN,
        }
    }

    /// A flag that the first interruption sets; the second one ends the program.
    fn interruptible() -> Result<Arc<AtomicBool>, Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        let set = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(exit::INTERRUPTED.into());
            }
        });
        set.map_err(|error| Failure::Io(std::io::Error::other(error)))?;
        Ok(interrupted)
    }
}
