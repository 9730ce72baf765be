//! A run as data for its page: plain, serialisable, with names for ids and times in milliseconds.
//!
//! Times count from the first fault (from the start of the run where nothing struck), so that what happened before it is
//! negative. A *line* is a position in the run's trace, from 0. What happens often is a tuple, because a page holds a
//! hundred thousand of them; the fields are named where the type is.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::anomaly::{self, Cycle};
use super::explain::Why;
use super::names::{self, Names};
use super::story::{self, Sentence};
use crate::base::observation::{Observation, Observed, Outcome};
use crate::base::process::{Addr, NodeId};
use crate::base::txn::{ShardId, TxnId};
use crate::fault::FaultKind;
use crate::plan::{Plan, Start};
use crate::report::{plan as plan_text, text};
use crate::run::trace::{DropReason, TraceEvent, TraceKind};
use crate::run::{Run, failure};
use crate::scenario::Scenario;
use crate::verdict::{Conclusion, Status};

/// Most lines of a trace that a page shows unless it is told otherwise.
pub const EVENTS_MAX: usize = 100_000;

/// A run's page as data.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RunPage {
    /// `run`.
    pub page: &'static str,
    /// Version of this format.
    pub version: u32,
    /// The version of ordain that wrote it.
    pub ordain: &'static str,
    /// The scenario's name.
    pub scenario: String,
    /// What the scenario is about.
    pub summary: String,
    /// The protocol.
    pub protocol: String,
    /// The seed.
    pub seed: u64,
    /// The run's digest.
    pub digest: String,
    /// Commands that repeat the run, the most useful first.
    pub commands: Vec<String>,
    /// The word for the whole run, in capitals where a promise was broken.
    pub verdict: String,
    /// `bad`, `good` or `neither`.
    pub tone: &'static str,
    /// Why the run is vacuous, or is not as the scenario expects.
    pub remarks: Vec<String>,
    /// The failure class, if a promise was broken: `atomicity/partial-commit`.
    pub class: Option<String>,
    /// What happened, in a few sentences.
    pub story: Vec<Sentence>,
    /// Promised against observed.
    pub promises: Vec<Promise>,
    /// Counts and measurements, with their names and units.
    pub figures: Vec<(&'static str, String)>,
    /// What time zero is.
    pub origin: &'static str,
    /// Time zero, in milliseconds since the start of the run.
    pub origin_ms: f64,
    /// The end of the run.
    pub end_ms: f64,
    /// When the settle phase began: everything that is not permanent has healed.
    pub settle_ms: Option<f64>,
    /// How long a transaction may be under way before it counts as blocked.
    pub patience_ms: f64,
    /// The machines, by number.
    pub machines: Vec<Machine>,
    /// The processes, by number: machine and port.
    pub processes: Vec<(u16, u8)>,
    /// What went wrong, in the order of the plan.
    pub faults: Vec<Fault>,
    /// The transactions, by number.
    pub transactions: Vec<Transaction>,
    /// Stretches of time on a machine: locks held, waits for a lock, doubt.
    pub bars: Vec<Bar>,
    /// Texts that messages and points refer to by position.
    pub strings: Vec<String>,
    /// Messages that were sent within the shown lines.
    pub messages: Vec<Message>,
    /// What happened at one machine, or in the world.
    pub points: Vec<Point>,
    /// Which part of the run is shown.
    pub shown: Shown,
    /// Where to look first.
    pub focus: Focus,
    /// The anomaly of isolation as a graph, if there is one.
    pub cycle: Option<Cycle>,
    /// What made it fail, if that was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

/// A property of the run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Promise {
    /// Its name.
    pub name: &'static str,
    /// What the protocol promises.
    pub promised: String,
    /// What the run showed.
    pub observed: String,
    /// `kept`, `broken`, `not promised`, `vacuous` or `unknown`.
    pub status: &'static str,
    /// How often it could have failed.
    pub exercised: u64,
    /// One way in which it failed.
    pub example: Option<String>,
    /// The transactions that the example names.
    pub transactions: Vec<String>,
}

/// A machine: a lane of the diagram.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Whether client sessions run on it.
    pub client: bool,
    /// Its wall clock's distance from true time at the start, milliseconds.
    pub clock_offset_ms: f64,
    /// Its wall clock's drift, parts per million.
    pub clock_drift_ppm: i32,
}

/// A fault of the plan.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Fault {
    /// What, where, when.
    pub text: String,
    /// Its kind: `cut`, `crash`, ...
    pub kind: String,
    /// The machines that it names, by number.
    pub machines: Vec<u16>,
    /// When it began; none if it never struck.
    pub from_ms: Option<f64>,
    /// When it ended; none if it lasted to the end of the run.
    pub to_ms: Option<f64>,
    /// The line at which it began.
    pub line: Option<usize>,
}

/// A transaction.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Transaction {
    /// `T61`.
    pub name: String,
    /// What it does.
    pub text: String,
    /// The region that its client is in.
    pub region: String,
    /// The client session.
    pub session: u32,
    /// The rows that it may touch.
    pub rows: Vec<String>,
    /// The planned start, or the first request where the client waits between operations.
    pub asked_ms: Option<f64>,
    /// The client sent it.
    pub invoked_ms: Option<f64>,
    /// The protocol took charge of it.
    pub initiated_ms: Option<f64>,
    /// Its decision could no longer change.
    pub decided_ms: Option<f64>,
    /// The protocol owed it nothing more.
    pub ended_ms: Option<f64>,
    /// Its client learned how it ended, or gave up.
    pub returned_ms: Option<f64>,
    /// What the client learned: `committed`, `declined`, `aborted`, `unknown`; empty if it never returned.
    pub outcome: &'static str,
    /// Why it was aborted.
    pub why: &'static str,
    /// What its reads returned, row by row.
    pub reads: Vec<String>,
}

/// A stretch of time.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Bar {
    /// `lock`, `wait` or `doubt`.
    pub kind: &'static str,
    /// The machine.
    pub machine: u16,
    /// The transaction.
    pub txn: usize,
    /// The shard, or the row that is waited for.
    pub what: String,
    /// From when.
    pub from_ms: f64,
    /// Until when; none if it lasted to the end.
    pub to_ms: Option<f64>,
}

/// A message: from and to (processes), label and content (strings), transactions, line and time of the sending, lines and
/// times of the arrivals, and line, time and reason of its loss.
pub type Message = (
    usize,
    usize,
    usize,
    usize,
    Vec<usize>,
    usize,
    f64,
    Vec<(usize, f64)>,
    Option<(usize, f64, &'static str)>,
);

/// Something at one place: kind, machine (-1: the world), process (-1: the whole machine), line, time, name and content
/// (strings), transactions.
pub type Point = (&'static str, i32, i32, usize, f64, usize, usize, Vec<usize>);

/// Which part of the run is shown.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Shown {
    /// Lines of the trace.
    pub lines: usize,
    /// First line shown.
    pub from: usize,
    /// The line after the last one shown.
    pub to: usize,
    /// What is left out, and how to see it; empty if nothing is.
    pub left_out: String,
}

/// Where to look first.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Focus {
    /// The transactions that the broken promise names.
    pub transactions: Vec<usize>,
    /// The machine whose step broke it, where one did.
    pub machine: Option<u16>,
    /// The line of that step, or of the first event of the first transaction.
    pub line: Option<usize>,
    /// The stretch of time to show.
    pub from_ms: f64,
    /// Its end.
    pub to_ms: f64,
}

/// Texts by position, each once.
#[derive(Default)]
struct Strings {
    places: BTreeMap<String, usize>,
    texts: Vec<String>,
}

impl Strings {
    fn place(&mut self, text: &str) -> usize {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        self.texts.push(text.to_owned());
        self.places.insert(text.to_owned(), self.texts.len() - 1);
        self.texts.len() - 1
    }
}

/// Milliseconds to the microsecond: more digits say nothing to a person and cost space.
fn rounded_ms(ns: i128) -> f64 {
    (ns as f64 / 1e3).round() / 1e3
}

/// What is needed to tell a run.
pub struct Told<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The plan as it happened.
    pub plan: &'a Plan,
    /// The run, with trace, observations and violations kept.
    pub run: &'a Run,
    /// Names.
    pub names: Names<'a>,
    /// Time zero, nanoseconds since the start of the run.
    pub origin_ns: u64,
    /// Positions of the planned transactions.
    pub places: BTreeMap<TxnId, usize>,
}

impl<'a> Told<'a> {
    /// Of a run that kept its trace.
    pub fn new(scenario: &'a Scenario, plan: &'a Plan, run: &'a Run) -> Self {
        let began = trace(run).iter().find_map(|event| match event.what {
            TraceKind::FaultBegan { .. } => Some(event.at_ns),
            _ => None,
        });
        let places = plan.operations.iter().enumerate();
        Self {
            scenario,
            plan,
            run,
            names: Names::new(&plan.environment, &scenario.layout),
            origin_ns: began.unwrap_or(0),
            places: places.map(|(at, planned)| (planned.txn.id, at)).collect(),
        }
    }

    /// A time relative to the first fault, in milliseconds.
    pub fn ms(&self, ns: u64) -> f64 {
        rounded_ms(i128::from(ns) - i128::from(self.origin_ns))
    }

    fn places_of(&self, txns: &[TxnId]) -> Vec<usize> {
        let place = |txn: &TxnId| self.places.get(txn).copied();
        txns.iter().filter_map(place).collect()
    }
}

/// The trace of a run.
pub fn trace(run: &Run) -> &[TraceEvent] {
    run.kept.trace.as_deref().unwrap_or_default()
}

/// The process at which a line of the trace happened, if it happened at one.
pub fn place_of(what: &TraceKind) -> Option<Addr> {
    match what {
        TraceKind::Booted { by, .. }
        | TraceKind::Fired { by, .. }
        | TraceKind::Flushed { by, .. }
        | TraceKind::Observed { by, .. }
        | TraceKind::Panicked { by, .. }
        | TraceKind::Halted { by, .. } => Some(*by),
        TraceKind::Sent { from, .. } => Some(*from),
        TraceKind::Delivered { to, .. } => Some(*to),
        _ => None,
    }
}

/// The run as data for its page. `commands` repeat it; at most `events_max` lines of the trace are shown.
pub fn run_page(
    scenario: &Scenario,
    plan: &Plan,
    run: &Run,
    commands: Vec<String>,
    events_max: usize,
) -> RunPage {
    let told = Told::new(scenario, plan, run);
    let isolation = anomaly::of(run, &told.names);
    let (cycle, of_isolation) = match isolation {
        Some((cycle, txns)) => (cycle, txns),
        None => (None, Vec::new()),
    };
    let suspects = story::suspects(&told, &of_isolation);
    let shown = shown(&told, suspects.line, events_max);
    let mut strings = Strings::default();
    let mut processes = Processes::default();
    let (messages, points) = events(&told, &shown, &mut strings, &mut processes);
    let transactions = transactions(&told);
    let focus = focus(&told, &suspects, &transactions);
    let verdict = &run.verdict;
    let tone = match verdict.verdict {
        Conclusion::Violation => "bad",
        Conclusion::Kept => "good",
        _ => "neither",
    };
    let settle = trace(run).iter().find_map(|event| match event.what {
        TraceKind::SettleBegan => Some(told.ms(event.at_ns)),
        _ => None,
    });
    let mut remarks: Vec<String> = verdict.vacuity.iter().map(|v| v.reason.clone()).collect();
    let unexpected = run.unexpected.iter();
    remarks.extend(unexpected.map(|what| format!("not as the scenario expects: {what}")));
    let end_ns = trace(run).last().map_or(0, |event| event.at_ns);
    RunPage {
        page: "run",
        version: 1,
        ordain: env!("CARGO_PKG_VERSION"),
        scenario: run.scenario.clone(),
        summary: scenario.summary.clone(),
        protocol: run.protocol.clone(),
        seed: run.seed,
        digest: run.digest.to_string(),
        commands,
        verdict: text::conclusion(verdict.verdict, verdict.promises_nothing).to_owned(),
        tone,
        remarks,
        class: failure::class(run).map(|class| class.to_string()),
        story: story::tell(&told, &suspects, cycle.as_ref()),
        promises: promises(&told, &of_isolation),
        figures: figures(run),
        origin: match faults_that_struck(run) {
            true => "the first fault",
            false => "the start of the run",
        },
        origin_ms: rounded_ms(i128::from(told.origin_ns)),
        end_ms: told.ms(end_ns),
        settle_ms: settle,
        patience_ms: scenario.patience_ns as f64 / 1e6,
        machines: machines(&told),
        processes: processes.list,
        faults: faults(&told),
        bars: bars(&told),
        transactions,
        strings: strings.texts,
        messages,
        points,
        shown,
        focus,
        cycle,
        why: None,
    }
}

/// Who and what the broken promise points at.
pub fn suspects(told: &Told<'_>) -> story::Suspects {
    let isolation = anomaly::of(told.run, &told.names);
    story::suspects(told, &isolation.map(|(_, txns)| txns).unwrap_or_default())
}

/// The anomaly of isolation as a graph, if there is one.
pub fn cycle(told: &Told<'_>) -> Option<Cycle> {
    anomaly::of(told.run, &told.names).and_then(|(cycle, _)| cycle)
}

fn faults_that_struck(run: &Run) -> bool {
    let began = |event: &TraceEvent| matches!(event.what, TraceKind::FaultBegan { .. });
    trace(run).iter().any(began)
}

fn figures(run: &Run) -> Vec<(&'static str, String)> {
    let (counts, metrics) = (&run.verdict.counts, &run.verdict.metrics);
    let ms = |ms: f64| format!("{ms:.1} ms");
    vec![
        ("transactions", counts.invoked.to_string()),
        ("committed", counts.committed.to_string()),
        ("declined by their own guard", counts.declined.to_string()),
        ("aborted by the system", counts.aborted.to_string()),
        ("unknown to their client", counts.indeterminate.to_string()),
        ("blocked", counts.blocked.to_string()),
        (
            "blocked, transaction-seconds",
            format!("{:.1}", metrics.blocked_txn_s),
        ),
        (
            "in doubt, transaction-seconds",
            format!("{:.1}", metrics.in_doubt_txn_s),
        ),
        ("latency, median", ms(metrics.latency_p50_ms)),
        ("latency, 99th percentile", ms(metrics.latency_p99_ms)),
        (
            "longest outage seen by clients",
            format!("{:.2} s", metrics.outage_max_s),
        ),
        ("messages", run.messages.to_string()),
        ("flushes", run.flushes.to_string()),
        ("events", run.events.to_string()),
    ]
}

fn promises(told: &Told<'_>, of_isolation: &[TxnId]) -> Vec<Promise> {
    let promise = |property: &crate::verdict::Property| {
        let example = property.counterexample.as_deref();
        // A checker numbers the transactions of a history in its own way.
        let txns = match property.name == "isolation" && !of_isolation.is_empty() {
            true => of_isolation.to_vec(),
            false => example.map(names::mentioned).unwrap_or_default(),
        };
        Promise {
            name: property.name,
            promised: property.promised.clone(),
            observed: match &property.released {
                Some(how) => format!(
                    "{} (not owed: {how})",
                    told.names.sentence(&property.observed)
                ),
                None => told.names.sentence(&property.observed),
            },
            status: match property.status {
                Status::Kept => "kept",
                Status::Violation => "broken",
                Status::NotPromised => "not promised",
                Status::Vacuous => "vacuous",
                Status::Unknown => "unknown",
            },
            exercised: property.exercised,
            example: example.map(|text| told.names.sentence(text)),
            transactions: { told.places_of(&txns).into_iter() }
                .map(|at| told.plan.operations[at].txn.id.to_string())
                .collect(),
        }
    };
    let mut all: Vec<Promise> = told.run.verdict.properties.iter().map(promise).collect();
    let rank = |status| match status {
        "broken" => 0,
        "unknown" => 1,
        "kept" => 2,
        "vacuous" => 3,
        _ => 4,
    };
    all.sort_by_key(|promise| rank(promise.status));
    all
}

fn machines(told: &Told<'_>) -> Vec<Machine> {
    let machine = |machine: &crate::plan::Machine| Machine {
        name: machine.name.clone(),
        region: {
            told.scenario
                .layout
                .regions
                .get(usize::from(machine.region))
        }
        .map_or_else(String::new, |region| region.name.clone()),
        client: machine.client || machine.name.ends_with("/clients"),
        clock_offset_ms: rounded_ms(i128::from(machine.clock_offset_ns)),
        clock_drift_ppm: machine.clock_drift_ppm,
    };
    told.plan.environment.machines.iter().map(machine).collect()
}

fn kind_name(kind: &FaultKind) -> String {
    let json = serde_json::to_value(kind).expect("faults are plain data");
    json["kind"].as_str().unwrap_or("fault").to_owned()
}

fn faults(told: &Told<'_>) -> Vec<Fault> {
    let mut struck: BTreeMap<usize, (usize, f64)> = BTreeMap::new();
    let mut ended: BTreeMap<usize, f64> = BTreeMap::new();
    for (line, event) in trace(told.run).iter().enumerate() {
        match event.what {
            TraceKind::FaultBegan { fault } => {
                struck.insert(fault, (line, told.ms(event.at_ns)));
            }
            TraceKind::FaultEnded { fault } => drop(ended.insert(fault, told.ms(event.at_ns))),
            _ => {}
        }
    }
    let fault = |(at, fault): (usize, &crate::fault::Fault)| {
        let began = struck.get(&at).copied();
        let machines: BTreeSet<u16> = fault.kind.nodes().iter().map(|node| node.0).collect();
        Fault {
            text: plan_text::fault(fault, &told.plan.environment),
            kind: kind_name(&fault.kind),
            machines: machines.into_iter().collect(),
            from_ms: began.map(|(_, ms)| ms),
            to_ms: ended.get(&at).copied(),
            line: began.map(|(line, _)| line),
        }
    };
    let all = told.plan.faults.iter().enumerate();
    all.map(fault).collect()
}

fn outcome(outcome: &Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Committed { .. } => ("committed", ""),
        Outcome::Declined { .. } => ("declined", "its own guard did not hold"),
        Outcome::Aborted { why } => ("aborted", why.name()),
        Outcome::Unknown => ("unknown", "its client gave up waiting"),
    }
}

fn transactions(told: &Told<'_>) -> Vec<Transaction> {
    let mut all: Vec<Transaction> = { told.plan.operations.iter() }
        .map(|planned| Transaction {
            name: planned.txn.id.to_string(),
            text: plan_text::txn(&planned.txn, told.scenario),
            region: {
                told.scenario
                    .layout
                    .regions
                    .get(usize::from(planned.region))
            }
            .map_or_else(String::new, |region| region.name.clone()),
            session: planned.session,
            rows: { planned.txn.keys().into_iter().collect::<BTreeSet<_>>() }
                .into_iter()
                .map(|key| told.names.row(key))
                .collect(),
            ..Transaction::default()
        })
        .collect();
    for observed in &told.run.kept.observations {
        let Some(at) = observed.what.txn().and_then(|txn| told.places.get(&txn)) else {
            continue;
        };
        let (txn, ms) = (&mut all[*at], told.ms(observed.at_ns));
        match &observed.what {
            Observation::Invoked { .. } => {
                txn.invoked_ms.get_or_insert(ms);
                let planned = match told.plan.operations[*at].start {
                    Start::At(planned_ns) => told.ms(planned_ns.min(observed.at_ns)),
                    Start::Think(_) | Start::Retry { .. } => ms,
                };
                txn.asked_ms.get_or_insert(planned);
            }
            Observation::Initiated { .. } => drop(txn.initiated_ms.get_or_insert(ms)),
            Observation::Decided { .. } => drop(txn.decided_ms.get_or_insert(ms)),
            Observation::Ended { .. } => drop(txn.ended_ms.get_or_insert(ms)),
            Observation::Returned { outcome: end, .. } if txn.returned_ms.is_none() => {
                txn.returned_ms = Some(ms);
                (txn.outcome, txn.why) = outcome(end);
                if let Outcome::Committed { reads } = end {
                    txn.reads = reads.iter().map(|read| row_read(told, read)).collect();
                }
            }
            _ => {}
        }
    }
    all
}

fn row_read(told: &Told<'_>, read: &crate::base::txn::Read) -> String {
    let row = told.names.row(read.key);
    let value = match &read.row.value {
        crate::base::txn::Value::Int(value) => value.to_string(),
        crate::base::txn::Value::List(list) => names::bounded(&format!("{list:?}")),
    };
    match read.row.writer.txn {
        TxnId::INITIAL => format!("{row} = {value}, as at the start"),
        txn if read.row.writer.undo => format!("{row} = {value}, as the undoing of {txn} left it"),
        txn => format!("{row} = {value}, as {txn} left it"),
    }
}

/// Stretches that have begun, by what begins and ends them.
#[derive(Default)]
struct Open {
    since: BTreeMap<(TxnId, Addr, ShardId, &'static str), (u64, String)>,
    bars: Vec<Bar>,
}

impl Open {
    fn begin(&mut self, key: (TxnId, Addr, ShardId, &'static str), at_ns: u64, what: String) {
        self.since.entry(key).or_insert((at_ns, what));
    }

    fn end(
        &mut self,
        told: &Told<'_>,
        key: (TxnId, Addr, ShardId, &'static str),
        at_ns: Option<u64>,
    ) {
        let Some((since_ns, what)) = self.since.remove(&key) else {
            return;
        };
        let (txn, by, _, kind) = key;
        if let Some(place) = told.places.get(&txn) {
            self.bars.push(Bar {
                kind,
                machine: by.node.0,
                txn: *place,
                what,
                from_ms: told.ms(since_ns),
                to_ms: at_ns.map(|at_ns| told.ms(at_ns)),
            });
        }
    }
}

fn bars(told: &Told<'_>) -> Vec<Bar> {
    let mut open = Open::default();
    let mut observations = told.run.kept.observations.iter();
    for event in trace(told.run) {
        match event.what {
            TraceKind::Observed { .. } => {
                if let Some(observed) = observations.next() {
                    stretch(told, &mut open, observed);
                }
            }
            // Locks and waits are memory. What was voted stands on the disk.
            TraceKind::Crashed { node } => {
                let gone = |key: &&(TxnId, Addr, ShardId, &str)| {
                    key.1.node == node
                        && key.3 != "doubt"
                        && !open.since.contains_key(&(key.0, key.1, key.2, "doubt"))
                };
                let gone: Vec<_> = open.since.keys().filter(gone).copied().collect();
                for key in gone {
                    open.end(told, key, Some(event.at_ns));
                }
            }
            _ => {}
        }
    }
    let left: Vec<_> = open.since.keys().copied().collect();
    for key in left {
        open.end(told, key, None);
    }
    let mut bars = open.bars;
    bars.sort_by(|a, b| {
        (a.machine, a.txn)
            .cmp(&(b.machine, b.txn))
            .then(a.from_ms.total_cmp(&b.from_ms))
    });
    bars
}

fn stretch(told: &Told<'_>, open: &mut Open, observed: &Observed) {
    let (by, at_ns) = (observed.by, observed.at_ns);
    match &observed.what {
        Observation::LockWait { txn, shard, key } => {
            let what = told.names.row(*key);
            open.begin((*txn, by, *shard, "wait"), at_ns, what);
        }
        Observation::Locked { txn, shard } => {
            open.end(told, (*txn, by, *shard, "wait"), Some(at_ns));
            let what = told.names.shard(*shard);
            open.begin((*txn, by, *shard, "lock"), at_ns, what);
        }
        Observation::Unlocked { txn, shard } => {
            open.end(told, (*txn, by, *shard, "wait"), Some(at_ns));
            open.end(told, (*txn, by, *shard, "lock"), Some(at_ns));
        }
        Observation::Voted {
            txn,
            shard,
            yes: true,
        } => {
            let what = told.names.shard(*shard);
            open.begin((*txn, by, *shard, "doubt"), at_ns, what);
        }
        Observation::Resolved { txn, shard, .. } | Observation::DecidedAlone { txn, shard, .. } => {
            open.end(told, (*txn, by, *shard, "doubt"), Some(at_ns));
        }
        _ => {}
    }
}

/// Which lines to show: all, or as many as may be around the one that matters.
fn shown(told: &Told<'_>, line: Option<usize>, events_max: usize) -> Shown {
    let lines = trace(told.run).len();
    if lines <= events_max {
        return Shown {
            lines,
            from: 0,
            to: lines,
            left_out: String::new(),
        };
    }
    // What led to a failure matters more than what followed from it.
    let from = line.unwrap_or(0).saturating_sub(events_max * 3 / 4);
    let from = from.min(lines - events_max);
    let (to, left) = (from + events_max, lines - events_max);
    Shown {
        lines,
        from,
        to,
        left_out: format!(
            "{left} of {lines} events are left out: {from} before and {} after those shown. `ordain report DIR \
             --events {lines}` shows them all.",
            lines - to
        ),
    }
}

#[derive(Default)]
struct Processes {
    places: BTreeMap<Addr, usize>,
    list: Vec<(u16, u8)>,
}

impl Processes {
    fn place(&mut self, of: Addr) -> usize {
        *self.places.entry(of).or_insert_with(|| {
            self.list.push((of.node.0, of.port));
            self.list.len() - 1
        })
    }
}

/// Why a message was lost, as a word that a person knows.
fn reason(why: DropReason) -> &'static str {
    match why {
        DropReason::Cut => "the link was cut",
        DropReason::Lost => "lost by the network",
        DropReason::Down => "the receiver was down",
        DropReason::NobodyThere => "nobody listens there",
    }
}

fn events(
    told: &Told<'_>,
    shown: &Shown,
    strings: &mut Strings,
    processes: &mut Processes,
) -> (Vec<Message>, Vec<Point>) {
    let mut messages: Vec<Message> = Vec::new();
    let mut by_id: BTreeMap<u64, usize> = BTreeMap::new();
    let mut points = Vec::new();
    let lines = trace(told.run).iter().enumerate();
    for (line, event) in lines.skip(shown.from).take(shown.to - shown.from) {
        let ms = told.ms(event.at_ns);
        match &event.what {
            TraceKind::Sent {
                id,
                from,
                to,
                label,
                detail,
            } => {
                by_id.insert(*id, messages.len());
                let text = names::bounded(&told.names.debug(detail));
                messages.push((
                    processes.place(*from),
                    processes.place(*to),
                    strings.place(label),
                    strings.place(&text),
                    told.places_of(&names::transactions(detail)),
                    line,
                    ms,
                    Vec::new(),
                    None,
                ));
            }
            TraceKind::Delivered { id, .. } => {
                if let Some(at) = by_id.get(id) {
                    messages[*at].7.push((line, ms));
                }
            }
            TraceKind::Dropped { id, why, .. } => {
                if let Some(at) = by_id.get(id) {
                    messages[*at].8 = Some((line, ms, reason(*why)));
                }
            }
            what => points.push(point(told, what, line, ms, strings, processes)),
        }
    }
    (messages, points)
}

fn point(
    told: &Told<'_>,
    what: &TraceKind,
    line: usize,
    ms: f64,
    strings: &mut Strings,
    processes: &mut Processes,
) -> Point {
    let plain = |text: &str| (text.to_owned(), String::new());
    let fault = |at: usize| {
        let faults = told.plan.faults.get(at);
        faults.map_or(String::new(), |fault| {
            plan_text::fault(fault, &told.plan.environment)
        })
    };
    let (kind, (name, detail)) = match what {
        TraceKind::Booted { bytes, .. } => (
            "boot",
            ("boots".to_owned(), format!("{bytes} bytes on its disk")),
        ),
        TraceKind::Fired { detail, .. } => ("timer", ("timer".to_owned(), detail.clone())),
        TraceKind::Flushed {
            flush, ok: true, ..
        } => ("flush", ("flushed".to_owned(), format!("{flush:?}"))),
        TraceKind::Flushed { flush, .. } => (
            "flush-failed",
            ("flush failed".to_owned(), format!("{flush:?}")),
        ),
        TraceKind::Observed { name, detail, .. } => ("fact", (name.to_string(), detail.clone())),
        TraceKind::Panicked { message, .. } => ("panic", ("panicked".to_owned(), message.clone())),
        TraceKind::Halted { why, .. } => ("halt", ("halted".to_owned(), why.to_string())),
        TraceKind::Crashed { .. } => ("crash", plain("crashed")),
        TraceKind::Restarted { .. } => ("restart", plain("restarted")),
        TraceKind::FaultBegan { fault: at } => {
            ("fault", (format!("fault {} began", at + 1), fault(*at)))
        }
        TraceKind::FaultEnded { fault: at } => (
            "fault-ended",
            (format!("fault {} ended", at + 1), fault(*at)),
        ),
        TraceKind::SettleBegan => ("phase", plain("faults heal, the settle phase begins")),
        TraceKind::SettleEnded { settled: true } => ("phase", plain("everything has settled")),
        TraceKind::SettleEnded { .. } => ("phase", plain("the settle phase ends unsettled")),
        TraceKind::PowerCycled => ("phase", plain("power is cut everywhere and comes back")),
        TraceKind::Sent { .. } | TraceKind::Delivered { .. } | TraceKind::Dropped { .. } => {
            ("message", plain("message"))
        }
    };
    let by = place_of(what);
    let node = match what {
        TraceKind::Crashed { node } | TraceKind::Restarted { node } => Some(*node),
        _ => by.map(|by| by.node),
    };
    let text = names::bounded(&told.names.debug(&detail));
    (
        kind,
        node.map_or(-1, |NodeId(node)| i32::from(node)),
        by.map_or(-1, |by| processes.place(by) as i32),
        line,
        ms,
        strings.place(&name),
        strings.place(&text),
        told.places_of(&names::transactions(&detail)),
    )
}

/// The stretch of time that matters: the suspects' lives and the step that broke the promise, with some room.
fn focus(told: &Told<'_>, suspects: &story::Suspects, transactions: &[Transaction]) -> Focus {
    let places = told.places_of(&suspects.transactions);
    let mut times: Vec<f64> = Vec::new();
    for place in &places {
        let txn = &transactions[*place];
        let all = [
            txn.invoked_ms,
            txn.initiated_ms,
            txn.decided_ms,
            txn.ended_ms,
            txn.returned_ms,
        ];
        times.extend(all.into_iter().flatten());
    }
    let events = trace(told.run);
    let at = suspects.line.and_then(|line| events.get(line));
    let step = at.map(|event| told.ms(event.at_ns));
    times.extend(step);
    let end_ms = told.ms(events.last().map_or(0, |event| event.at_ns));
    let start_ms = told.ms(0);
    let (mut from_ms, mut to_ms) = match (
        times.iter().copied().reduce(f64::min),
        times.iter().copied().reduce(f64::max),
    ) {
        (Some(from), Some(to)) => (from, to),
        _ => (start_ms, end_ms),
    };
    // A transaction may be open until the end: the first seconds tell why.
    if let Some(step) = step.filter(|step| to_ms - from_ms > 20_000.0 && *step >= from_ms) {
        from_ms = from_ms.max(step - 2_000.0);
        to_ms = to_ms.min(step + 4_000.0);
    }
    let room = ((to_ms - from_ms) * 0.08).max(5.0);
    Focus {
        transactions: places,
        machine: suspects.machine.map(|node| node.0),
        line: suspects.line,
        from_ms: (from_ms - room).max(start_ms),
        to_ms: (to_ms + room).min(end_ms),
    }
}
