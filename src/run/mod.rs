//! Whole stacks by name: deploys a protocol on a scenario, runs it in the simulated world, and judges it.

pub mod failure;
pub mod options;
pub mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::base::digest::Digest;
use crate::base::monitor::{Monitor, Violation};
use crate::base::observation::{Observation, Observed};
use crate::base::options::Chosen;
use crate::base::process::{NodeId, Process};
use crate::base::txn::TxnId;
use crate::fault::When;
use crate::model::refine::{self, Tally};
use crate::plan::clocks::{self, Lie};
use crate::plan::fates::{FateSource, Fates};
use crate::plan::{Plan, Start};
use crate::protocol::kit::client::ClientMessage;
use crate::protocol::{Autopsy, Progress, Promises, Protocol};
use crate::scenario::Scenario;
use crate::scenario::units::human_ns;
use crate::sim;
pub use crate::sim::trace;
use crate::sim::trace::TraceEvent;
use crate::verdict::along::Along;
use crate::verdict::connectivity::Connectivity;
use crate::verdict::log_safety::LogSafety;
use crate::verdict::obligations::Obligations;
use crate::verdict::recovery::Recovering;
use crate::verdict::time_to_recover::Struck;
use crate::verdict::{self, Evidence, Verdict};

/// A run and its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// The scenario's name.
    pub scenario: String,
    /// The protocol's name.
    pub protocol: String,
    /// The plan's seed.
    pub seed: u64,
    /// Options that the plan drew for the protocol; the others are the scenario's.
    #[serde(skip_serializing_if = "Chosen::is_empty")]
    pub drawn_options: Chosen,
    /// Digest of the trace: equal digests mean equal runs.
    pub digest: Digest,
    /// The verdict, its properties, counts and measurements.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Messages sent between machines, clients' included.
    pub messages: u64,
    /// The same by label.
    pub messages_by_label: BTreeMap<&'static str, u64>,
    /// Flushes that completed or failed.
    pub flushes: u64,
    /// Latency of committed transactions as clients saw it.
    pub latency_ms: Latency,
    /// Simulated time, milliseconds.
    pub simulated_ms: f64,
    /// Events in the trace.
    pub events: u64,
    /// Rare branches of protocol code that the run reached, and how often.
    pub marks: BTreeMap<&'static str, u64>,
    /// Faults of the plan that never struck, and what each of them waited for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never_struck: Vec<NeverStruck>,
    /// Machines whose clocks left the bound that the scenario declares, and when: what promises of protocols that read time as
    /// an interval do not cover.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clock_lies: Vec<Lie>,
    /// What differs from what the scenario expects; empty if the run is as expected.
    pub unexpected: Vec<String>,
    /// What only a failure folder needs.
    #[serde(skip)]
    pub kept: Kept,
}

/// A fault that did not happen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct NeverStruck {
    /// Its place in the plan, from 1.
    pub fault: usize,
    /// Why, as a clause.
    pub why: String,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// What a run leaves besides its verdict.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The history that clients saw, as `ordain check` reads it (NDJSON).
    pub history: String,
    /// Every event, if asked for.
    pub trace: Option<Vec<TraceEvent>>,
    /// Every random choice of the world, if asked for.
    pub fates: Option<Fates>,
    /// The plan as it happened: moments are replaced by event counts, so that it replays without the aim.
    pub plan: Option<Plan>,
    /// When each operation that started did, in nanoseconds of true simulated time, if asked for.
    pub invoked_ns: Vec<(TxnId, u64)>,
    /// What processes and clients stated, one for each line of the trace that says so, if asked for.
    pub observations: Vec<Observed>,
    /// What monitors reported while the run went on, if asked for.
    pub violations: Vec<Violation>,
}

/// When a run's isolation is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Watch {
    /// When it is over.
    Afterwards,
    /// While it goes on, too.
    Along,
}

/// What watches the steps of a run and holds them against specs.
pub struct Watchers<P> {
    /// Against the protocol's own spec, or why not.
    pub own: Result<refine::Watch<P>, &'static str>,
    /// The logs that the protocol embeds against theirs, or why not; nothing where it embeds none.
    pub logs: Option<Result<refine::Watch<P>, &'static str>>,
}

impl<P> Watchers<P> {
    /// For a protocol without a spec.
    pub fn none() -> Self {
        Self {
            own: Err("the protocol has no spec"),
            logs: None,
        }
    }
}

/// Deploys a protocol on a scenario, runs the plan in the simulated world, and judges the run.
///
/// # Errors
///
/// When the scenario's options or machines do not fit the protocol, or `watch` asks for what it does not promise.
pub fn execute<P: Protocol>(
    scenario: &Scenario,
    plan: &Plan,
    fates: FateSource,
    keep: bool,
    watch: Watch,
    watchers: impl FnOnce(&P::Options) -> Watchers<P::Process>,
) -> Result<Run, String> {
    let drawn = plan.options.get(P::NAME).cloned().unwrap_or_default();
    let options = options::with::<P>(scenario, &drawn)?;
    let mut deployment = P::deploy(&scenario.layout, &options, &plan.operations)?;
    for process in deployment.processes.iter_mut().flatten() {
        process.behave(scenario.clients);
    }
    let mut monitors: Vec<Box<dyn Monitor<P::Process>>> = vec![
        Box::new(Settling::new(plan)),
        Box::new(LogSafety::default()),
        Box::new(Recovering::new(&plan.environment, &deployment.processes)),
    ];
    let mut watched = |watch: Result<refine::Watch<P::Process>, &'static str>| {
        watch.map(|(watch, tally)| {
            monitors.push(watch);
            tally
        })
    };
    let watchers = watchers(&options);
    let tally = watched(watchers.own);
    let log_tally = watchers.logs.map(watched);
    if watch == Watch::Along {
        // What a broken assumption releases is not stopped at. Whether a clock lies is told as far as the plan does.
        let expected = scenario.clocks.bound_ns.map_or_else(Vec::new, |bound_ns| {
            let struck = clocks::planned(&plan.environment, &plan.faults);
            let end_ns = plan.environment.safety_ns;
            clocks::lies(&plan.environment, &plan.faults, &struck, bound_ns, end_ns)
        });
        let (promises, _) = P::promises(&options).in_force(plan, &expected);
        let along = Along::new(scenario, plan, promises.isolation());
        monitors.push(Box::new(along.ok_or_else(|| {
            format!(
                "`{}` does not promise serializability: there is no first violation to stop at",
                P::NAME
            )
        })?));
    }
    let run = sim::Run {
        environment: &plan.environment,
        faults: &plan.faults,
        fates,
        deployment,
        guests: Vec::new(),
        monitors,
        options: sim::Options {
            trace: keep,
            record_fates: keep,
            ..sim::Options::default()
        },
    };
    let promises = P::promises(&options);
    // Only of a plan whose machines exist can be asked what its operations need.
    sim::check(&run).map_err(|error| error.to_string())?;
    let needs = needs::<P>(scenario, plan, &options);
    let judge = |record| {
        let promised = (&promises, needs.as_slice());
        judged::<P>(scenario, plan, promised, tally, log_tally, keep, record)
    };
    sim::simulate_then(run, judge).map_err(|error| error.to_string())
}

/// What each operation needs, where that makes a difference: of the quorums that may decide it, one that is left.
pub fn needs<P: Protocol>(
    scenario: &Scenario,
    plan: &Plan,
    options: &P::Options,
) -> Vec<Vec<(NodeId, NodeId)>> {
    let progress = P::promises(options).progress();
    let asks = matches!(progress, Progress::AllBack | Progress::Quorum);
    let left = Connectivity::after_healing(&plan.environment, &plan.faults);
    if !asks || left.is_whole() {
        return Vec::new();
    }
    let is_left = |pairs: &&Vec<(NodeId, NodeId)>| pairs.iter().all(|(a, b)| left.exchange(*a, *b));
    let of = |operation| {
        let mut needs = P::needs(&scenario.layout, options, operation);
        let quorums = match progress {
            Progress::Quorum => P::quorums(&scenario.layout, options, operation),
            _ => Vec::new(),
        };
        // Where none is left, any of them shows what is missing.
        let quorum = quorums.iter().find(is_left).or(quorums.first());
        needs.extend(quorum.into_iter().flatten());
        needs
    };
    plan.operations.iter().map(of).collect()
}

/// The result of a step-by-step check: its counts, or why there was none.
type Tallied = Result<Arc<Mutex<Tally>>, &'static str>;

/// A record with its verdict.
fn judged<P: Protocol>(
    scenario: &Scenario,
    plan: &Plan,
    (promises, needs): (&Promises, &[Vec<(NodeId, NodeId)>]),
    tally: Tallied,
    log_tally: Option<Tallied>,
    keep: bool,
    record: sim::Record<P::Process>,
) -> Run {
    let recovering = record.monitors.iter().find_map(|monitor| {
        let monitor: &dyn std::any::Any = monitor.as_ref();
        monitor.downcast_ref::<Recovering>()
    });
    let recovering = recovering.expect("it watches every run");
    let unrecovered = recovering.unrecovered();
    // A process that has not read its disk shows an empty one.
    let read = { record.processes.iter() }.filter(|(of, _)| recovering.has_answered(*of));
    let states: Vec<_> = read.flat_map(|(_, process)| process.copies()).collect();
    let log_safety = record.monitors.iter().find_map(|monitor| {
        let monitor: &dyn std::any::Any = monitor.as_ref();
        monitor.downcast_ref::<LogSafety>()
    });
    let counted = |tally: Arc<Mutex<Tally>>| {
        let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.clone()
    };
    let tally = tally.map(counted);
    let log_tally = log_tally.map(|tally| tally.map(counted));
    let clock_lies = scenario.clocks.bound_ns.map_or_else(Vec::new, |bound_ns| {
        let end_ns = record.marks.ended_ns;
        clocks::lies(
            &plan.environment,
            &plan.faults,
            &record.struck,
            bound_ns,
            end_ns,
        )
    });
    // A fault whose moment never came struck nobody, and excuses nothing.
    let struck = record.faults.len();
    let happened = (struck != plan.faults.len()).then(|| Plan {
        faults: record.faults.clone(),
        ..plan.clone()
    });
    let times = record.struck.iter().flatten();
    let times: Vec<Struck> = times
        .map(|&(began_ns, ended_ns)| Struck { began_ns, ended_ns })
        .collect();
    let evidence = Evidence {
        scenario,
        plan: happened.as_ref().unwrap_or(plan),
        promises,
        entry: P::ENTRY,
        requests_delivered: { record.messages.get(ClientMessage::REQUEST) }
            .map_or(0, |counts| counts.delivered),
        events: record.events,
        needs,
        clock_lies: &clock_lies,
        observations: &record.observations,
        struck: &times,
        states: &states,
        unrecovered: &unrecovered,
        end_ns: record
            .marks
            .settle_ended_ns
            .unwrap_or(record.marks.ended_ns),
        monitored: &record.violations,
        log_tests: log_safety.map_or(0, |monitor| monitor.exercised().total()),
        refinement: tally.as_ref().map_err(|why| *why),
        log_refinement: log_tally
            .as_ref()
            .map(|tally| tally.as_ref().map_err(|why| *why)),
        panics: &record.panics,
    };
    let verdict = verdict::judge(&evidence);
    let unexpected = verdict::meets(&verdict, scenario.expect.get(P::NAME))
        .err()
        .unwrap_or_default();
    let marks = marks_of(&record.observations);
    let kept = match keep {
        false => Kept::default(),
        true => Kept {
            history: verdict::history_ndjson(&evidence),
            invoked_ns: { record.observations.iter() }
                .filter_map(|observed| match observed.what {
                    Observation::Invoked { txn, .. } => Some((txn, observed.at_ns)),
                    _ => None,
                })
                .collect(),
            observations: record.observations,
            violations: record.violations,
            trace: record.trace,
            fates: record.fates,
            plan: Some(Plan {
                faults: record.faults,
                // Those of other protocols have no part in this run.
                options: { plan.options.iter() }
                    .filter(|(protocol, _)| *protocol == P::NAME)
                    .map(|(protocol, drawn)| (protocol.clone(), drawn.clone()))
                    .collect(),
                ..plan.clone()
            }),
        },
    };
    Run {
        scenario: scenario.name.clone(),
        protocol: P::NAME.to_owned(),
        seed: plan.seed,
        drawn_options: plan.options.get(P::NAME).cloned().unwrap_or_default(),
        digest: record.digest,
        latency_ms: Latency {
            p50: verdict.metrics.latency_p50_ms,
            p99: verdict.metrics.latency_p99_ms,
        },
        verdict,
        messages: record.messages.values().map(|counts| counts.sent).sum(),
        messages_by_label: record
            .messages
            .iter()
            .map(|(label, c)| (*label, c.sent))
            .collect(),
        flushes: record.flushes,
        simulated_ms: record.simulated_ns as f64 / 1e6,
        events: record.events,
        marks,
        never_struck: never_struck(plan, &record.struck),
        clock_lies,
        unexpected,
        kept,
    }
}

/// The faults that had no effect because their time or moment never came.
fn never_struck(plan: &Plan, struck: &[Option<(u64, Option<u64>)>]) -> Vec<NeverStruck> {
    let faults = plan.faults.iter().zip(struck).enumerate();
    let idle = faults.filter(|(_, (_, struck))| struck.is_none());
    idle.map(|(at, (fault, _))| NeverStruck {
        fault: at + 1,
        why: match &fault.when {
            When::Moment {
                observation, count, ..
            } if *count > 1 => {
                format!("`{observation}` was not observed {count} times where it looks")
            }
            When::Moment { observation, .. } => {
                format!("`{observation}` was not observed where it looks")
            }
            When::At(at_ns) => format!(
                "it was due at {}, after the last fault may strike",
                human_ns(*at_ns)
            ),
            When::AfterEvent(event) => format!("it was due after event {event}"),
        },
    })
    .collect()
}

/// The marks among the observations.
fn marks_of(observations: &[Observed]) -> BTreeMap<&'static str, u64> {
    let mut marks = BTreeMap::new();
    for observed in observations {
        if let Observation::Mark(name) = observed.what {
            *marks.entry(name).or_default() += 1;
        }
    }
    marks
}

/// Says when a run has settled: every planned operation has returned to its client, and no transaction is owed an end.
struct Settling {
    unreturned: BTreeSet<TxnId>,
    owed: Obligations,
}

impl Settling {
    fn new(plan: &Plan) -> Self {
        Self {
            unreturned: plan
                .operations
                .iter()
                // Whether somebody has to try again, nobody knows before.
                .filter(|operation| !matches!(operation.start, Start::Retry { .. }))
                .map(|operation| operation.txn.id)
                .collect(),
            owed: Obligations::default(),
        }
    }
}

impl<P: Process> Monitor<P> for Settling {
    fn observe(&mut self, observed: &Observed) -> Result<(), Violation> {
        self.owed.observe(&observed.what);
        match observed.what {
            Observation::Invoked { txn, .. } => drop(self.unreturned.insert(txn)),
            Observation::Returned { txn, .. } => drop(self.unreturned.remove(&txn)),
            _ => {}
        }
        Ok(())
    }

    fn settled(&self) -> bool {
        self.unreturned.is_empty() && self.owed.all_ended()
    }
}
