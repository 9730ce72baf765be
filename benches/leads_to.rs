//! The leads-to check beside exploring, beside stateright's own search, and beside TLC, in one run.
//!
//! `cargo bench --bench leads_to` measures two-phase commit with 7 and 8 participants (`specs/litmus/GrayLamport.tla`):
//!
//! - exploring into a graph, next to stateright's breadth-first search of the same model, one thread each;
//! - deciding `prepared ~> ended` under weak fairness on that graph (goal: under twice the cost of exploring);
//! - bytes a state, of the graph and at the peak (goal: at most 300);
//! - TLC on the same graph with two workers, where Java is installed (goal: at least ten times as long). It decides
//!   liveness once, at the end (`-lncheck final`), which is the cheapest that it can do, and is stopped after ten minutes.
//!
//! Then one model of each spec, explored with its invariants by us and by stateright's search, which have to find the
//! same numbers of states.
//!
//! Times are wall-clock and CPU (user and system, of all threads): on a machine that does other things too, only the CPU times
//! can be compared. Arguments are numbers of participants: `cargo bench --bench leads_to -- 6` for a quick look.

#![allow(clippy::print_stdout)] // A bench prints its table.

use std::fmt::Debug;
use std::fs;
use std::hash::Hash;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ordain::model::checker::leads_to::{FairChecker, Report};
use ordain::model::spec::calvin::Calvin;
use ordain::model::spec::hlc::Hlc;
use ordain::model::spec::raft_log::RaftLog;
use ordain::model::spec::saga::Saga;
use ordain::model::spec::two_phase::TwoPhase;
use ordain::model::spec::{Config, Spec};
use stateright::{Checker, Model, Property};

#[path = "support/cost.rs"]
mod cost;
#[path = "../tests/models/gray_lamport.rs"]
mod gray_lamport;
use cost::{Cost, OWN, timed};
use gray_lamport::{Action, GrayLamport, State};

const RUNS: usize = 3;

/// As [`OWN`], of the children that have been waited for.
const CHILDREN: usize = OWN + 2;

/// Longer than this nobody waits for TLC.
const TLC_PATIENCE: Duration = Duration::from_secs(600);

/// The heap that TLC may take.
const TLC_HEAP: &str = "-Xmx8g";

fn main() {
    let sizes: Vec<u8> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    for participants in if sizes.is_empty() { vec![7, 8] } else { sizes } {
        measure(participants);
    }
    macro_rules! beside {
        ($($spec:ty, $folder:literal, $name:literal;)*) => {
            $(beside_stateright::<$spec>(
                concat!($folder, "/", $name),
                include_str!(concat!("../specs/", $folder, "/", $name, ".cfg")),
            );)*
        };
    }
    println!("specs explored with their invariants, one thread each");
    beside! {
        TwoPhase, "two_phase", "MCTwoPhaseMixed";
        Saga, "saga", "MCSagaLarge";
        Calvin, "calvin", "MCCalvinCodeThree";
        RaftLog, "raft_log", "MCRaftLogThree";
        Hlc, "hlc", "MCHlcThree";
    }
}

fn measure(participants: u8) {
    let model = GrayLamport(participants);
    let before = resident_bytes("VmRSS");
    let (whole, report) = median(|| check(&model));
    let peak = resident_bytes("VmHWM")
        .zip(before)
        .map(|(peak, before)| peak.saturating_sub(before));
    assert!(
        report.verdicts.iter().all(|verdict| verdict.holds),
        "two-phase commit ends when nothing is lost"
    );
    let (explore, _) = median(|| explore(&model));
    let states = report.counts.distinct;
    let (native, (found, _)) = median(|| stateright_search(Native(model)));
    assert_eq!(found, states, "both searched the same graph");
    println!(
        "2PC, {participants} participants: {states} states, {} generated",
        report.counts.generated
    );
    println!(
        "  exploring          {explore}, {:.0} ns of CPU a generated state",
        explore.cpu.as_nanos() as f64 / report.counts.generated as f64
    );
    println!("  stateright's BFS   {native}; ours {}", explore.of(native));
    println!(
        "  leads-to           {:>9.3} s wall; {:.2} of exploring in the same run; goal: under 2",
        report.check_time.as_secs_f64(),
        report.check_time.as_secs_f64() / report.explore_time.as_secs_f64()
    );
    println!("  both               {whole}");
    println!(
        "  bytes a state      {:.0} in the graph{}; goal: at most 300",
        report.graph_bytes as f64 / states as f64,
        peak.map_or(String::new(), |peak| format!(
            ", {:.0} resident at the peak",
            peak as f64 / states as f64
        ))
    );
    match tlc(participants) {
        Ok(tlc) => tlc.show(whole, states),
        Err(why) => println!("  TLC not measured: {why}"),
    }
}

/// The constraints of the spec, and what has to hold always.
fn asked(model: &GrayLamport) -> FairChecker<'_, GrayLamport> {
    model
        .fair(true)
        .always("Consistent", |state| model.consistent(state))
}

fn explore(model: &GrayLamport) -> Report<State, Action> {
    asked(model).check().expect("fits")
}

fn check(model: &GrayLamport) -> Report<State, Action> {
    asked(model)
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

/// How many states stateright's breadth-first search finds, and how many it generates.
fn stateright_search<M>(model: M) -> (u64, u64)
where
    M: Model<
            State: Clone + PartialEq + Hash + Debug + Send + Sync,
            Action: Clone + PartialEq + Debug + Send + Sync,
        > + Send
        + Sync
        + 'static,
{
    let checker = model.checker().threads(1).spawn_bfs().join();
    (
        checker.unique_state_count() as u64,
        checker.state_count() as u64,
    )
}

/// One model of a spec, with its invariants.
fn beside_stateright<M>(name: &str, config: &str)
where
    M: Spec<State: Send + Sync, Action: PartialEq + Send + Sync> + Send + Sync + 'static,
{
    let config = Config::parse(config).expect("a good cfg");
    let model = || M::from_config(&config).expect("it fits the spec");
    let (ours, counts) = median(|| {
        let model = model();
        let asked = FairChecker::new(&model);
        let invariants = M::invariants().iter();
        let asked = invariants.fold(asked, |asked, &(name, holds)| {
            let model = &model;
            asked.always(name, move |state| holds(model, state))
        });
        asked.check().expect("fits").counts
    });
    let (native, found) = median(|| stateright_search(model()));
    assert_eq!(
        found,
        (counts.distinct, counts.generated),
        "{name}: both searched the same graph"
    );
    println!(
        "  {name}: {} states, {} generated\n    ours {ours}\n    BFS  {native}; ours {}",
        counts.distinct,
        counts.generated,
        ours.of(native)
    );
}

/// The median run by CPU time, with its result.
fn median<T>(mut run: impl FnMut() -> T) -> (Cost, T) {
    let mut runs: Vec<(Cost, T)> = (0..RUNS).map(|_| timed(OWN, &mut run)).collect();
    runs.sort_by_key(|(cost, _)| cost.cpu);
    runs.swap_remove(RUNS / 2)
}

/// A run of TLC, which may have been stopped.
struct Tlc {
    cost: Cost,
    ended: bool,
    text: String,
}

impl Tlc {
    fn show(&self, ours: Cost, states: u64) {
        let Self { cost, ended, text } = self;
        if !ended {
            let reached = text.lines().rev().find(|line| !line.is_empty());
            println!("  TLC with leads-to  {cost}; stopped before its end, having said last:");
            println!("    {}", reached.unwrap_or_default());
            return println!("    so it takes more than: ours is {}", ours.of(*cost));
        }
        let found = text.replace(',', "");
        assert!(
            found.contains(&format!(" {states} distinct states found")),
            "TLC searched the same graph:\n{text}"
        );
        assert!(found.contains("No error has been found"), "{text}");
        println!("  TLC with leads-to  {cost}; ours {}", ours.of(*cost));
        let deciding = "Finished checking temporal properties in ";
        if let Some((_, rest)) = text.split_once(deciding) {
            let time = rest.split(" at ").next().unwrap_or_default();
            println!("    of which deciding {time} by its own clock");
        }
    }
}

/// TLC with its leads-to property, from the start of the JVM to its end.
fn tlc(participants: u8) -> Result<Tlc, String> {
    let specs = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs");
    let jar = Command::new("python3")
        .arg(specs.join("tlc.py"))
        .arg("jar")
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    if !jar.status.success() {
        return Err(String::from_utf8_lossy(&jar.stderr).into_owned());
    }
    let jar = String::from_utf8_lossy(&jar.stdout).trim().to_owned();
    let names: Vec<String> = { 1..=participants }
        .map(|number| format!("r{number}"))
        .collect();
    let config = format!(
        "CONSTANT RM = {{{}}}\nINVARIANT Consistent\nSPECIFICATION Spec\nPROPERTY Ends\n",
        names.join(", ")
    );
    let scratch = Scratch::new().map_err(|error| error.to_string())?;
    let prepared = fs::write(scratch.0.join("Model.cfg"), config).and_then(|()| {
        let module = specs.join("litmus/GrayLamport.tla");
        fs::copy(module, scratch.0.join("GrayLamport.tla"))
    });
    prepared.map_err(|error| error.to_string())?;
    let mut command = Command::new("java");
    command
        .args([TLC_HEAP, "-XX:+UseParallelGC", "-cp", &jar, "tlc2.TLC"])
        .args("-deadlock -nowarning -workers 2 -lncheck final -metadir meta".split(' '))
        .args(["-config", "Model.cfg", "GrayLamport.tla"])
        .current_dir(&scratch.0);
    let (cost, ran) = timed(CHILDREN, || run_for(TLC_PATIENCE, &mut command));
    let (ended, text) = ran.map_err(|error| format!("java: {error}"))?;
    Ok(Tlc { cost, ended, text })
}

/// Runs a command, at most for so long: whether it ended by itself, and what it said.
fn run_for(patience: Duration, command: &mut Command) -> std::io::Result<(bool, String)> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut said = child.stdout.take().expect("it is piped");
    let listener = thread::spawn(move || {
        let mut text = String::new();
        said.read_to_string(&mut text).map(|_| text)
    });
    let ended = wait(&mut child, patience)?;
    let text = listener.join().expect("it only reads")?;
    Ok((ended, text))
}

/// Waits until it ends or patience does, and then ends it.
fn wait(child: &mut Child, patience: Duration) -> std::io::Result<bool> {
    let started = Instant::now();
    while child.try_wait()?.is_none() {
        if started.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("ordain-leads-to-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A field of /proc/self/status, where there is one.
fn resident_bytes(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}
