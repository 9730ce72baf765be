//! The leads-to check beside exploring, beside stateright's own search, and beside TLC, in one run.
//!
//! `cargo bench --bench leads_to` measures two-phase commit with 7 and 8 participants (`specs/litmus/GrayLamport.tla`):
//!
//! - exploring into a graph, next to stateright's breadth-first search of the same model, one thread each;
//! - deciding `prepared ~> ended` under weak fairness on that graph (goal: under twice the cost of exploring);
//! - bytes a state, of the graph and at the peak (goal: at most 300);
//! - TLC on the same graph with two workers, where Java is installed (goal: at least ten times as long).
//!
//! Arguments are numbers of participants: `cargo bench --bench leads_to -- 6` for a quick look.

#![allow(clippy::print_stdout)] // A bench prints its table.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ordain::model::leads_to::Report;
use stateright::{Checker, Model, Property};

#[path = "../tests/models/gray_lamport.rs"]
mod gray_lamport;
use gray_lamport::{Action, GrayLamport, State};

const RUNS: usize = 5;

/// Each participant more takes TLC about eight times as long: it is measured up to here.
const TLC_PARTICIPANTS_MAX: u8 = 7;

fn main() {
    let sizes: Vec<u8> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    for participants in if sizes.is_empty() { vec![7, 8] } else { sizes } {
        measure(participants);
    }
}

fn measure(participants: u8) {
    let model = GrayLamport(participants);
    let before = resident_bytes("VmRSS");
    let mut reports: Vec<_> = (0..RUNS).map(|_| check(&model)).collect();
    let peak = resident_bytes("VmHWM")
        .zip(before)
        .map(|(peak, before)| peak.saturating_sub(before));
    reports.sort_by_key(|report| report.explore_time + report.check_time);
    let report = &reports[RUNS / 2];
    assert!(
        report.verdicts.iter().all(|verdict| verdict.holds),
        "two-phase commit ends when nothing is lost"
    );

    let mut native: Vec<_> = (0..RUNS)
        .map(|_| stateright_search(model, report.counts.distinct))
        .collect();
    native.sort();
    let native = native[RUNS / 2];
    let (explore, decide) = (report.explore_time, report.check_time);
    let states = report.counts.distinct;
    println!(
        "2PC, {participants} participants: {states} states, {} generated",
        report.counts.generated
    );
    println!(
        "  exploring          {}  ({:.0} ns a generated state)",
        seconds(explore),
        per(explore, report.counts.generated)
    );
    println!(
        "  stateright's BFS   {}  ({:.2} of it)",
        seconds(native),
        ratio(explore, native)
    );
    println!(
        "  leads-to           {}  ({:.2} of exploring; goal: under 2)",
        seconds(decide),
        ratio(decide, explore)
    );
    println!(
        "  bytes a state      {:.0} in the graph{}; goal: at most 300",
        report.graph_bytes as f64 / states as f64,
        peak.map_or(String::new(), |peak| format!(
            ", {:.0} resident at the peak",
            peak as f64 / states as f64
        ))
    );
    match tlc(participants, states) {
        Ok((exploring, whole)) => {
            println!(
                "  TLC exploring      {}  ({:.1} times ours)",
                seconds(exploring),
                ratio(exploring, explore)
            );
            let ours = explore + decide;
            println!(
                "  TLC with leads-to  {}  ({:.1} times ours; goal: at least 10)",
                seconds(whole),
                ratio(whole, ours)
            );
            let deciding = whole.saturating_sub(exploring);
            println!(
                "  TLC's leads-to     {}  ({:.1} times ours)",
                seconds(deciding),
                ratio(deciding, decide)
            );
        }
        Err(why) => println!("  TLC not measured: {why}"),
    }
}

fn check(model: &GrayLamport) -> Report<State, Action> {
    model
        .fair(true)
        .always("Consistent", |state| model.consistent(state))
        .leads_to(
            "Ends",
            |state| model.in_doubt(state),
            |state| model.ended(state),
        )
        .check()
        .expect("fits")
}

/// The same model for stateright, which searches only as long as a property is open: one that always holds.
struct Native(GrayLamport);

impl Model for Native {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.0.init_states()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.0.actions(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.0.next_state(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("Consistent", |model: &Native, state| {
            model.0.consistent(state)
        })]
    }
}

fn stateright_search(model: GrayLamport, expected: u64) -> Duration {
    let started = Instant::now();
    let checker = Native(model).checker().threads(1).spawn_bfs().join();
    let elapsed = started.elapsed();
    assert_eq!(
        checker.unique_state_count() as u64,
        expected,
        "both searched the same graph"
    );
    elapsed
}

/// TLC's time without and with the leads-to property, as it states it itself: without the start of the JVM.
fn tlc(participants: u8, expected: u64) -> Result<(Duration, Duration), String> {
    if participants > TLC_PARTICIPANTS_MAX {
        return Err(format!(
            "beyond {TLC_PARTICIPANTS_MAX} participants it takes too long"
        ));
    }
    let names: Vec<String> = (1..=participants)
        .map(|number| format!("r{number}"))
        .collect();
    let constants = format!(
        "CONSTANT RM = {{{}}}\nINVARIANT Consistent\n",
        names.join(", ")
    );
    let exploring = run_tlc(&format!("{constants}SPECIFICATION Safe\n"), expected)?;
    let whole = run_tlc(
        &format!("{constants}SPECIFICATION Spec\nPROPERTY Ends\n"),
        expected,
    )?;
    Ok((exploring, whole))
}

fn run_tlc(config: &str, expected: u64) -> Result<Duration, String> {
    let specs = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs");
    let file = Scratch::new(config)?;
    let output = Command::new("python3")
        .arg(specs.join("tlc.py"))
        .arg("run")
        .arg(specs.join("litmus/GrayLamport.tla"))
        .arg(&file.0)
        .args(["-workers", "2"])
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("{}{text}", String::from_utf8_lossy(&output.stderr)));
    }
    let found = text.replace(',', "");
    assert!(
        found.contains(&format!(" {expected} distinct states found")),
        "TLC searched the same graph:\n{text}"
    );
    finished_in(&text).ok_or_else(|| format!("no time in\n{text}"))
}

/// Reads `Finished in 01min 02s at (...)`, `Finished in 812ms` and the like.
fn finished_in(text: &str) -> Option<Duration> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Finished in "))?;
    let words = line.split(" at ").next()?.split_whitespace();
    words
        .map(|word| {
            let unit = word.trim_start_matches(|c: char| c.is_ascii_digit());
            let number: u64 = word[..word.len() - unit.len()].parse().ok()?;
            match unit {
                "ms" => Some(Duration::from_millis(number)),
                "s" => Some(Duration::from_secs(number)),
                "min" => Some(Duration::from_secs(60 * number)),
                "h" => Some(Duration::from_secs(3600 * number)),
                _ => None,
            }
        })
        .sum()
}

/// A file that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(content: &str) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("ordain-leads-to-{}.cfg", std::process::id()));
        std::fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A field of /proc/self/status, where there is one.
fn resident_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

fn seconds(time: Duration) -> String {
    format!("{:>9.3} s", time.as_secs_f64())
}

fn ratio(this: Duration, that: Duration) -> f64 {
    this.as_secs_f64() / that.as_secs_f64()
}

fn per(time: Duration, count: u64) -> f64 {
    time.as_nanos() as f64 / count as f64
}
