//! The verdict: what a protocol promised against what a run showed, property by property.
//!
//! Three witnesses are heard. *Clients*: the history of what they saw goes to [`crate::check`], which knows
//! nothing of protocols. *State*: the autopsy's ledgers say which writes stand ([`ledger`]). *Time*: what
//! was initiated and when it ended ([`lives`]). Every property says how often it was exercised, and one that
//! never had a chance to fail is vacuous, not held.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::base::monitor::Violation;
use crate::base::observation::{AbortReason, Observed, Panicked, shape_of_panic};
use crate::base::process::NodeId;
use crate::check;
use crate::model::refine::{self, Tally};
use crate::plan::Plan;
use crate::plan::clocks::Lie;
use crate::protocol::promises::Promised;
use crate::protocol::{Atomicity, Promises};
use crate::scenario::Scenario;
use crate::scenario::file::Expectation;
use crate::shard::ShardState;

pub mod along;
mod conclusion;
pub mod connectivity;
mod duplicates;
pub mod history;
pub mod horizon;
mod isolation;
pub mod ledger;
pub mod lives;
pub mod log_safety;
pub mod obligations;
mod progress;
pub mod recovery;
mod refinement;
mod sagas;
pub mod time_to_recover;

pub use conclusion::{Conclusion, Vacuity, VacuityKind};
use ledger::Ledger;
use lives::Lives;
pub use lives::{Aborted, Aborts};
use recovery::Unrecovered;
use time_to_recover::Struck;

/// Everything that a verdict rests on.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What was asked for.
    pub scenario: &'a Scenario,
    /// What was to happen.
    pub plan: &'a Plan,
    /// What the protocol promises.
    pub promises: &'a Promises,
    /// What a request reaches first, as a sentence has it: see [`crate::protocol::Protocol::ENTRY`].
    pub entry: &'static str,
    /// How many requests reached it, those sent again included.
    pub requests_delivered: u64,
    /// How many events there were.
    pub events: u64,
    /// What the operations of the plan need under [`Progress::AllBack`](crate::protocol::Progress): see
    /// [`Protocol::needs`](crate::protocol::Protocol::needs). May be empty where nothing stays broken.
    pub needs: &'a [Vec<(NodeId, NodeId)>],
    /// The machines whose clocks left their declared bound.
    pub clock_lies: &'a [Lie],
    /// What processes and clients stated, in order.
    pub observations: &'a [Observed],
    /// When the faults struck that did.
    pub struck: &'a [Struck],
    /// What the autopsy found.
    pub states: &'a [ShardState],
    /// What had not recovered when it looked.
    pub unrecovered: &'a Unrecovered,
    /// When the run ended, before any final power cut: nanoseconds of simulated time.
    pub end_ns: u64,
    /// Violations that monitors reported while the run went on (log safety).
    pub monitored: &'a [Violation],
    /// How often the log's safety properties were put to the test.
    pub log_tests: u64,
    /// How the run fared against the protocol's spec, or why it was not held against one.
    pub refinement: Result<&'a Tally, &'static str>,
    /// The same for the replicated logs that it embeds, where it embeds any.
    pub log_refinement: Option<Result<&'a Tally, &'static str>>,
    /// Panics inside processes.
    pub panics: &'a [Panicked],
}

/// How a property fared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Promised, exercised, and held.
    Kept,
    /// Promised and broken.
    Violation,
    /// Not promised: what was observed is a measurement.
    NotPromised,
    /// It never had a chance to fail.
    Vacuous,
    /// Nothing could be decided.
    Unknown,
}

/// What a run showed of a property, promised or not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// It held.
    Held,
    /// It did not.
    Broken,
    /// It never had a chance to fail.
    Vacuous,
    /// Nothing could be decided.
    Unknown,
}

/// What a property's `promised` says where nothing is.
const NOTHING: &str = "nothing";

/// One property of a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Property {
    /// Its name: `isolation`, `atomicity`, `durability`, `progress`, ...
    pub name: &'static str,
    /// What the protocol promises, in words.
    pub promised: String,
    /// Why it is not owed in this run, where it is promised under an assumption: how the plan broke that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released: Option<String>,
    /// What the run showed, in words.
    pub observed: String,
    /// What the run showed, as one of four.
    pub outcome: Finding,
    /// The two compared.
    pub status: Status,
    /// How many times it could have failed.
    pub exercised: u64,
    /// How many times it failed, each anomaly, transaction or row counted once.
    pub instances: u64,
    /// The shape of the counterexample, where it failed: the kind of the anomaly, say. It names nothing that
    /// differs from seed to seed, and with the property's name makes the run's [`crate::run::failure::Class`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// One way in which it failed, to check by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counterexample: Option<String>,
}

impl Property {
    /// Whether anything is promised about it, and owed in this run.
    pub fn is_promised(&self) -> bool {
        self.promised != NOTHING && self.released.is_none()
    }

    /// The same with the shape of what broke it; without effect where it did not break.
    fn shaped(mut self, shape: impl Into<String>) -> Property {
        if self.outcome == Finding::Broken {
            self.shape = Some(shape.into());
        }
        self
    }

    /// The same with how often it broke; without effect where it did not break.
    fn counted(mut self, instances: usize) -> Property {
        if self.outcome == Finding::Broken {
            self.instances = instances as u64;
        }
        self
    }
}

/// Transactions by how they ended, as clients know it, and by what the protocol owes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Clients sent them.
    pub invoked: u64,
    /// The protocol took charge of them.
    pub initiated: u64,
    /// Clients learned that they committed.
    pub committed: u64,
    /// Clients learned that their own guard declined.
    pub declined: u64,
    /// Clients learned that the system aborted them.
    pub aborted: u64,
    /// Clients never learned.
    pub indeterminate: u64,
    /// The protocol took longer than the scenario's patience over them, or never ended them.
    pub blocked: u64,
}

impl Counts {
    /// The sum of two.
    pub fn plus(&self, other: &Counts) -> Counts {
        Counts {
            invoked: self.invoked + other.invoked,
            initiated: self.initiated + other.initiated,
            committed: self.committed + other.committed,
            declined: self.declined + other.declined,
            aborted: self.aborted + other.aborted,
            indeterminate: self.indeterminate + other.indeterminate,
            blocked: self.blocked + other.blocked,
        }
    }
}

/// A verdict.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Verdict {
    /// The word for the whole run.
    pub verdict: Conclusion,
    /// Whether the protocol promises nothing, so that there is little to keep.
    pub promises_nothing: bool,
    /// Why the run is vacuous, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vacuity: Option<Vacuity>,
    /// Every property that was looked at.
    pub properties: Vec<Property>,
    /// Transactions by how they ended.
    pub counts: Counts,
    /// What the system aborted, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aborts: Aborts,
    /// Measurements.
    pub metrics: lives::Metrics,
}

/// Promises that are not owed, with how the plan broke what they hang on.
type Released = [(Promised, String)];

/// Judges a run.
pub fn judge(evidence: &Evidence<'_>) -> Verdict {
    let (in_force, released) = evidence
        .promises
        .in_force(evidence.plan, evidence.clock_lies);
    let all = evidence.promises;
    let evidence = &Evidence {
        promises: &in_force,
        ..*evidence
    };
    let lives = Lives::read(evidence);
    let mut properties = properties(evidence, &lives);
    for promised in all.iter() {
        state_assumption(&mut properties, promised, &released);
    }
    let (verdict, vacuity) = conclusion::conclude(evidence, &lives, &properties, &released);
    Verdict {
        verdict,
        promises_nothing: all.is_nothing(),
        vacuity,
        properties,
        counts: lives.counts(evidence),
        aborts: lives.aborts(evidence),
        metrics: lives.metrics(evidence),
    }
}

fn properties(evidence: &Evidence<'_>, lives: &Lives) -> Vec<Property> {
    let ledger = Ledger::read(evidence);
    let isolation = isolation::judge(evidence, lives, &ledger);
    let mut stops = evidence.monitored.iter();
    if let Some(stop) = stops.find(|violation| violation.property == along::PROPERTY) {
        return stopped(evidence, isolation, stop);
    }
    let mut properties = vec![isolation];
    if evidence.promises.atomicity() == Atomicity::Saga {
        properties.extend(sagas::properties(evidence, lives, &ledger));
    }
    properties.extend(isolation::beyond(evidence, lives, &ledger));
    properties.push(isolation::intermediate_states(evidence, lives, &ledger));
    properties.extend(ledger.properties(evidence, lives));
    properties.extend(duplicates::judge(evidence, lives, &ledger));
    properties.push(progress::judge(evidence, lives));
    properties.push(no_system_aborts(evidence, lives));
    properties.extend(recovery::never_ended(evidence, &properties));
    properties.extend(sagas::compensation_order(evidence));
    properties.push(log_safety(evidence));
    let sampled = format!("(1 in {} transactions)", refine::SAMPLED);
    let own = (refine::PROPERTY, evidence.refinement, sampled.as_str());
    properties.push(refinement::judge(evidence, own));
    if let Some(logs) = evidence.log_refinement {
        let sampled = format!(
            "(1 in {} routine steps of every log)",
            refine::raft::SAMPLED
        );
        let logs = (refine::LOG_PROPERTY, logs, sampled.as_str());
        properties.push(refinement::judge(evidence, logs));
    }
    properties.push(no_panics(evidence));
    properties
}

/// The properties of a run that was ended at the first violation of isolation. What it would have done after that,
/// to end its transactions and to keep their effects, nobody knows.
fn stopped(evidence: &Evidence<'_>, isolation: Property, stop: &Violation) -> Vec<Property> {
    let when = format!("the run was stopped at {:.6} s", stop.at_ns as f64 / 1e9);
    let isolation = match isolation.outcome {
        Finding::Broken => Property {
            observed: format!("{}; {when}", isolation.observed),
            ..isolation
        },
        _ => property(
            "isolation",
            Some(&isolation.promised),
            Finding::Broken,
            when,
            isolation.exercised.max(1),
            Some(stop.explanation.clone()),
        ),
    };
    vec![isolation, log_safety(evidence), no_panics(evidence)]
}

/// Says of the properties of a promise what it hangs on and, where it is not owed, why.
fn state_assumption(properties: &mut [Property], promised: &Promised, released: &Released) {
    let Some(assumption) = promised.assuming else {
        return;
    };
    let names = promised.promise.properties();
    let broken = released.iter().find(|(one, _)| one == promised);
    for property in properties
        .iter_mut()
        .filter(|one| names.contains(&one.name))
    {
        match broken {
            None if property.promised == NOTHING => {}
            None => property.promised = format!("{} {assumption}", property.promised),
            Some((_, how)) => {
                property.promised = promised.to_string();
                property.released = Some(how.clone());
            }
        }
    }
}

/// Compares a promise with an observation.
fn property(
    name: &'static str,
    promised: Option<&str>,
    outcome: Finding,
    observed: impl Into<String>,
    exercised: u64,
    counterexample: Option<String>,
) -> Property {
    let outcome = match (outcome, exercised) {
        (Finding::Held, 0) => Finding::Vacuous,
        (outcome, _) => outcome,
    };
    let status = match (promised, outcome) {
        (_, Finding::Vacuous) => Status::Vacuous,
        (None, _) => Status::NotPromised,
        (Some(_), Finding::Held) => Status::Kept,
        (Some(_), Finding::Broken) => Status::Violation,
        (Some(_), Finding::Unknown) => Status::Unknown,
    };
    Property {
        name,
        promised: promised.unwrap_or(NOTHING).to_owned(),
        released: None,
        observed: observed.into(),
        outcome,
        status,
        exercised,
        instances: u64::from(outcome == Finding::Broken),
        shape: (outcome == Finding::Broken).then(|| "broken".to_owned()),
        counterexample,
    }
}

/// What clients saw as a history file (native NDJSON), which `ordain check` reads.
pub fn history_ndjson(evidence: &Evidence<'_>) -> String {
    let lives = Lives::read(evidence);
    let ledger = Ledger::read(evidence);
    let seen = history::of_clients(evidence, &lives, &ledger);
    let mut text = Vec::new();
    check::parse::write_ndjson(&seen.history, &mut text).expect("memory takes every write");
    String::from_utf8(text).expect("JSON is UTF-8")
}

fn no_system_aborts(evidence: &Evidence<'_>, lives: &Lives) -> Property {
    // What clients turned away themselves never reached the protocol.
    let aborted = lives.counts(evidence).aborted - lives.shed();
    let (outcome, observed) = match aborted {
        0 => (Finding::Held, "none".to_owned()),
        n => (Finding::Broken, format!("{n} system-induced aborts")),
    };
    let promised = evidence
        .promises
        .no_system_aborts()
        .then_some("aborts only by a transaction's own logic");
    property(
        "no-system-aborts",
        promised,
        outcome,
        observed,
        lives.returned(),
        None,
    )
    .shaped(lives.first_abort().map_or("", AbortReason::name))
    .counted(aborted as usize)
}

fn log_safety(evidence: &Evidence<'_>) -> Property {
    let elsewhere = [refine::PROPERTY, refine::LOG_PROPERTY, along::PROPERTY];
    let mut monitored =
        { evidence.monitored.iter() }.filter(|violation| !elsewhere.contains(&violation.property));
    let first = monitored.next();
    let (outcome, observed) = match first.map_or(0, |_| 1 + monitored.count()) {
        0 => (Finding::Held, "held at every step".to_owned()),
        n => (Finding::Broken, format!("{n} violations")),
    };
    property(
        "log-safety",
        Some("election safety, log matching, leader completeness, state-machine safety, leader order"),
        outcome,
        observed,
        evidence.log_tests,
        first.map(|violation| format!("{}: {}", violation.property, violation.explanation)),
    )
    .shaped(first.map_or("", |violation| violation.property))
    .counted(evidence.monitored.len())
}

fn no_panics(evidence: &Evidence<'_>) -> Property {
    let (outcome, observed) = match evidence.panics {
        [] => (Finding::Held, "none".to_owned()),
        panics => (Finding::Broken, format!("{} panics", panics.len())),
    };
    let example = evidence.panics.first().map(|panicked| {
        format!(
            "{} at {} ns, handling {}: {}",
            panicked.by, panicked.at_ns, panicked.input, panicked.message
        )
    });
    property(
        "no-panics",
        Some("protocol code never panics"),
        outcome,
        observed,
        evidence.events,
        example,
    )
    .shaped(
        { evidence.panics.first() }.map_or(String::new(), |first| shape_of_panic(&first.message)),
    )
    .counted(evidence.panics.len())
}

/// Whether a verdict is what the scenario expects of the protocol, and if not, what differs.
pub fn meets(verdict: &Verdict, expectation: Option<&Expectation>) -> Result<(), Vec<String>> {
    let default = Expectation::default();
    let expectation = expectation.unwrap_or(&default);
    let wanted = expectation.verdict.as_deref().unwrap_or("kept");
    let mut differs = Vec::new();
    if verdict.verdict.name() != wanted {
        let name = verdict.verdict.name();
        let why = { verdict.vacuity.as_ref() }.map_or(String::new(), |v| format!(": {}", v.reason));
        differs.push(format!("the verdict is {name}, expected {wanted}{why}"));
    }
    let by_name: BTreeMap<&str, Finding> = verdict
        .properties
        .iter()
        .map(|property| (property.name, property.outcome))
        .collect();
    for (name, wanted) in &expectation.properties {
        let found = match by_name.get(name.as_str()) {
            Some(Finding::Held) => "held",
            Some(Finding::Broken) => "broken",
            Some(Finding::Vacuous) => "vacuous",
            Some(Finding::Unknown) => "unknown",
            None => "not judged",
        };
        if found != wanted {
            differs.push(format!("{name} is {found}, expected {wanted}"));
        }
    }
    if differs.is_empty() {
        Ok(())
    } else {
        Err(differs)
    }
}

/// What atomicity a protocol promises, in words.
fn atomicity_words(atomicity: Atomicity) -> Option<&'static str> {
    match atomicity {
        Atomicity::None => None,
        Atomicity::Saga => Some("in the end all effects, or all compensated"),
        Atomicity::UnlessAlone => Some("all effects or none unless a participant decided alone"),
        Atomicity::AllOrNothing => Some("all effects or none"),
    }
}
