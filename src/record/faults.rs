//! Faults on the machine that the database runs on: signals to a process of the user's, and commands of the user's.
//!
//! Signals are sent by the program `kill`, and children are found by `ps`: both are on every Unix.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::journal::Journal;

/// A process that faults are about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Process {
    /// By its number.
    Pid(u32),
    /// By a file whose first line is its number, as in `postmaster.pid`. Read anew each time.
    File(PathBuf),
}

impl Process {
    fn pid(&self) -> Result<u32, String> {
        let file = match self {
            Process::Pid(pid) => return Ok(*pid),
            Process::File(file) => file,
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let first = text.lines().next().unwrap_or_default().trim();
        let pid = first.parse();
        pid.map_err(|_| {
            format!(
                "{}: the first line is no process id: {first:?}",
                file.display()
            )
        })
    }
}

/// What is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Strike {
    /// SIGKILL to a process and its children at once, and then a command that starts the database again.
    Kill {
        /// The process.
        process: Process,
        /// A shell command.
        restart: String,
    },
    /// SIGSTOP to a process and its children, and SIGCONT some time later.
    Pause {
        /// The process.
        process: Process,
        /// How long it stands still.
        pause: Duration,
    },
    /// A shell command.
    Command(String),
}

impl Strike {
    fn name(&self) -> &'static str {
        match self {
            Strike::Kill { .. } => "kill",
            Strike::Pause { .. } => "pause",
            Strike::Command(_) => "command",
        }
    }
}

/// A fault that strikes again and again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// How long it waits each time, from the start or from the end of its last strike.
    pub every: Duration,
    /// What it does.
    pub strike: Strike,
}

/// What faults did.
#[derive(Clone, Debug, Default)]
pub(super) struct Struck {
    pub counts: BTreeMap<&'static str, u64>,
    pub errors: Vec<String>,
}

/// Strikes until `stop` says so. A pause that has begun is ended, and a killed database started again, whatever `stop` says.
pub(super) fn strike(
    fault: &Fault,
    journal: &Journal,
    struck: &Mutex<Struck>,
    stop: &dyn Fn() -> bool,
) {
    loop {
        if !wait(fault.every, stop) {
            return;
        }
        let name = fault.strike.name();
        let result = match &fault.strike {
            Strike::Command(command) => {
                journal.fault(name, command);
                shell(command)
            }
            Strike::Pause { process, pause } => stop_and_go(process, *pause, journal, stop),
            Strike::Kill { process, restart } => kill_and_start(process, restart, journal),
        };
        let mut struck = struck.lock().expect("nobody panics while holding it");
        match result {
            Ok(()) => *struck.counts.entry(name).or_default() += 1,
            Err(why) => struck.errors.push(format!("{name}: {why}")),
        }
    }
}

/// Waits; false if it was ended early.
fn wait(time: Duration, stop: &dyn Fn() -> bool) -> bool {
    const SLICE: Duration = Duration::from_millis(5);
    let began = Instant::now();
    while began.elapsed() < time {
        if stop() {
            return false;
        }
        std::thread::sleep(SLICE.min(time.saturating_sub(began.elapsed())));
    }
    !stop()
}

fn stop_and_go(
    process: &Process,
    pause: Duration,
    journal: &Journal,
    stop: &dyn Fn() -> bool,
) -> Result<(), String> {
    let pids = tree(process.pid()?)?;
    journal.fault("pause", &format!("SIGSTOP {}", joined(&pids)));
    signal("STOP", &pids)?;
    wait(pause, stop);
    let continued = signal("CONT", &pids);
    journal.fault("pause", "SIGCONT");
    continued
}

fn kill_and_start(process: &Process, restart: &str, journal: &Journal) -> Result<(), String> {
    let pids = tree(process.pid()?)?;
    journal.fault("kill", &format!("SIGKILL {}", joined(&pids)));
    signal("KILL", &pids)?;
    let restarted = shell(restart);
    journal.fault("restart", restart);
    restarted
}

fn joined(pids: &[u32]) -> String {
    let texts: Vec<String> = pids.iter().map(u32::to_string).collect();
    texts.join(" ")
}

/// A process and its children, as they are now.
fn tree(pid: u32) -> Result<Vec<u32>, String> {
    let listed = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output();
    let listed = listed.map_err(|error| format!("ps: {error}"))?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let pairs = text.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    let pairs: Vec<(u32, u32)> = pairs.collect();
    if !pairs.iter().any(|&(known, _)| known == pid) {
        return Err(format!("there is no process {pid}"));
    }
    let children = pairs.iter().filter(|&&(_, parent)| parent == pid);
    Ok([pid]
        .into_iter()
        .chain(children.map(|&(child, _)| child))
        .collect())
}

/// Sends a signal to all of them at once. That a child has ended meanwhile is no error, that its parent has is one.
fn signal(name: &str, pids: &[u32]) -> Result<(), String> {
    let [parent, children @ ..] = pids else {
        return Ok(());
    };
    let send = |pids: &[u32]| {
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).stderr(Stdio::null());
        kill.args(pids.iter().map(u32::to_string)).status()
    };
    // The parent first: it starts again what its children leave.
    let sent = send(&[*parent]).map_err(|error| format!("kill: {error}"))?;
    if !children.is_empty() {
        let _ = send(children);
    }
    match sent.success() {
        true => Ok(()),
        false => Err(format!("SIG{name} to process {parent} was refused")),
    }
}

/// Runs a command, and waits for its end.
fn shell(command: &str) -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let status = shell.status().map_err(|error| format!("sh: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("`{command}` ended with {status}")),
    }
}
