//! What happened, in sentences: which promise broke, the step that shows it, and what became of the transactions that it
//! names. Every machine, transaction and time in them leads into the timeline.

use std::collections::BTreeSet;

use serde::Serialize;

use super::anomaly::Cycle;
use super::model::{Told, place_of, trace};
use super::names;
use crate::base::monitor::Violation;
use crate::base::observation::{Observation, Observed};
use crate::base::process::{Addr, NodeId};
use crate::base::txn::TxnId;
use crate::report::plan as plan_text;
use crate::run::failure::{self, Class};
use crate::run::trace::{DropReason, TraceEvent, TraceKind};
use crate::verdict::Property;

/// Most transactions whose lives are told.
const TOLD_MAX: usize = 2;

/// Most events of one life.
const EVENTS_MAX: usize = 10;

/// A part of a sentence.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Piece {
    /// What it says.
    pub text: String,
    /// Where it leads on the page, as the part of its address after `#`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A sentence.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Sentence(pub Vec<Piece>);

impl Sentence {
    /// Adds plain words.
    pub fn say(mut self, text: impl Into<String>) -> Self {
        self.0.push(Piece {
            text: text.into(),
            to: None,
        });
        self
    }

    /// Adds words that lead somewhere.
    pub fn link(mut self, text: impl Into<String>, to: String) -> Self {
        self.0.push(Piece {
            text: text.into(),
            to: Some(to),
        });
        self
    }

    /// Adds a transaction.
    pub fn txn(self, txn: TxnId) -> Self {
        self.link(txn.to_string(), format!("txn={txn}"))
    }

    /// Adds a time that leads to a line of the trace.
    pub fn at(self, told: &Told<'_>, line: usize) -> Self {
        let ns = trace(told.run).get(line).map_or(0, |event| event.at_ns);
        self.link(shown_ms(told.ms(ns)), format!("line={line}"))
    }

    /// The sentence without its links.
    pub fn text(&self) -> String {
        self.0.iter().map(|piece| piece.text.as_str()).collect()
    }
}

/// A time relative to the first fault with sensible digits: milliseconds below ten seconds, seconds above.
pub fn shown_ms(ms: f64) -> String {
    match ms.abs() {
        large if large >= 10_000.0 => format!("{:.2} s", ms / 1e3),
        large if large >= 100.0 => format!("{ms:.0} ms"),
        _ => format!("{ms:.1} ms"),
    }
}

/// Who and what the broken promise points at.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Suspects {
    /// Transactions, the first the most telling.
    pub transactions: Vec<TxnId>,
    /// The machine whose step shows it.
    pub machine: Option<NodeId>,
    /// The line of the trace where to look first.
    pub line: Option<usize>,
    /// Whether that line is the step that a monitor or a panic named.
    pub is_step: bool,
}

/// The class that the page is about: the broken promise; else the weakness that the scenario did not expect; else the most
/// telling weakness.
fn class(told: &Told<'_>) -> Option<Class> {
    failure::class(told.run).or_else(|| {
        let weaknesses = failure::weaknesses(told.run);
        let is_unexpected = |class: &&Class| {
            let mut unexpected = told.run.unexpected.iter();
            unexpected.any(|what| what.starts_with(&class.property))
        };
        let unexpected = weaknesses.iter().find(is_unexpected);
        unexpected.or(weaknesses.first()).cloned()
    })
}

fn property<'a>(told: &'a Told<'_>, class: &Class) -> Option<&'a Property> {
    let mut all = told.run.verdict.properties.iter();
    all.find(|property| property.name == class.property)
}

/// The report of a monitor that the class stands for.
fn reported<'a>(told: &'a Told<'_>, class: &Class) -> Option<&'a Violation> {
    let own = ["refinement", "log-refinement"];
    let is_meant = |violation: &&Violation| match class.property.as_str() {
        "log-safety" => !own.contains(&violation.property),
        property => violation.property == property,
    };
    told.run.kept.violations.iter().find(is_meant)
}

/// The last line of the step of a process at an instant.
fn line_of_step(told: &Told<'_>, by: Addr, at_ns: u64) -> Option<usize> {
    let is_it = |event: &TraceEvent| event.at_ns == at_ns && place_of(&event.what) == Some(by);
    trace(told.run).iter().rposition(is_it)
}

/// What a process was handling when it came to this line: a message, a timer, a flush or its boot.
fn cause(told: &Told<'_>, line: usize) -> Option<usize> {
    let events = trace(told.run);
    let event = events.get(line)?.event;
    let is_cause = |what: &TraceKind| {
        matches!(
            what,
            TraceKind::Delivered { .. }
                | TraceKind::Fired { .. }
                | TraceKind::Flushed { .. }
                | TraceKind::Booted { .. }
        )
    };
    let back = (0..=line).rev().take_while(|at| events[*at].event == event);
    back.filter(|at| is_cause(&events[*at].what)).last()
}

/// Finds them. `of_isolation` are the transactions of the history's first anomaly.
pub fn suspects(told: &Told<'_>, of_isolation: &[TxnId]) -> Suspects {
    let mut found = Suspects::default();
    let Some(class) = class(told) else {
        return found;
    };
    let example = property(told, &class).and_then(|property| property.counterexample.as_deref());
    found.transactions = match class.property == "isolation" && !of_isolation.is_empty() {
        true => of_isolation.to_vec(),
        false => example.map(names::mentioned).unwrap_or_default(),
    };
    let events = trace(told.run);
    if let Some(violation) = reported(told, &class) {
        found.machine = Some(violation.by.node);
        found.line = line_of_step(told, violation.by, violation.at_ns);
        found.is_step = found.line.is_some();
        let named = names::mentioned(&violation.explanation);
        found.transactions.extend(named);
    } else if class.property == "no-panics" {
        let panicked = |event: &TraceEvent| matches!(event.what, TraceKind::Panicked { .. });
        found.line = events.iter().position(panicked);
        found.is_step = found.line.is_some();
        let at = found.line.and_then(|line| place_of(&events[line].what));
        found.machine = at.map(|by| by.node);
    }
    if let (Some(line), true) = (found.line, found.is_step) {
        let of_step = cause(told, line).unwrap_or(line)..=line;
        for at in of_step {
            found.transactions.extend(named_at(told, at));
        }
    }
    let mut seen = BTreeSet::from([TxnId::INITIAL]);
    let planned = |txn: &TxnId| told.places.contains_key(txn);
    found
        .transactions
        .retain(|txn| planned(txn) && seen.insert(*txn));
    if found.line.is_none() {
        found.line = found
            .transactions
            .first()
            .and_then(|txn| telling(told, *txn));
    }
    found
}

/// The transactions that a line of the trace names.
fn named_at(told: &Told<'_>, line: usize) -> Vec<TxnId> {
    let events = trace(told.run);
    match &events[line].what {
        TraceKind::Sent { detail, .. }
        | TraceKind::Fired { detail, .. }
        | TraceKind::Observed { detail, .. } => names::transactions(detail),
        TraceKind::Delivered { id, .. } => sent(told, *id)
            .map(|(_, event)| match &event.what {
                TraceKind::Sent { detail, .. } => names::transactions(detail),
                _ => Vec::new(),
            })
            .unwrap_or_default(),
        TraceKind::Panicked { message, .. } => names::transactions(message),
        _ => Vec::new(),
    }
}

/// The sending of a message.
fn sent<'a>(told: &'a Told<'_>, wanted: u64) -> Option<(usize, &'a TraceEvent)> {
    let events = trace(told.run).iter().enumerate();
    let mut sent = events
        .filter(|(_, event)| matches!(event.what, TraceKind::Sent { id, .. } if id == wanted));
    sent.next()
}

/// Observations of a transaction, each with its line of the trace.
fn life<'a>(told: &'a Told<'_>, txn: TxnId) -> Vec<(usize, &'a Observed)> {
    let observed = trace(told.run)
        .iter()
        .enumerate()
        .filter(|(_, event)| matches!(event.what, TraceKind::Observed { .. }));
    let lines = observed.map(|(line, _)| line);
    let all = lines.zip(&told.run.kept.observations);
    all.filter(|(_, observed)| observed.what.txn() == Some(txn))
        .collect()
}

/// Where to look first in a transaction's life: its decision, else its return, else its start.
fn telling(told: &Told<'_>, txn: TxnId) -> Option<usize> {
    let life = life(told, txn);
    let first = |wanted: &[&str]| {
        let mut found = life.iter();
        found
            .find(|(_, observed)| wanted.contains(&observed.what.name()))
            .map(|(line, _)| *line)
    };
    first(&["decided-alone", "decided"])
        .or_else(|| first(&["returned"]))
        .or_else(|| life.first().map(|(line, _)| *line))
}

/// Tells the run.
pub fn tell(told: &Told<'_>, suspects: &Suspects, cycle: Option<&Cycle>) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    match class(told) {
        Some(class) => {
            sentences.push(what_broke(told, &class, cycle));
            sentences.extend(step(told, suspects, &class));
        }
        None => sentences.push(nothing_broke(told)),
    }
    for txn in suspects.transactions.iter().take(TOLD_MAX) {
        sentences.push(told_life(told, *txn));
        sentences.extend(losses(told, *txn));
    }
    if suspects.transactions.len() > TOLD_MAX {
        let mut more = Sentence::default().say("Also named: ");
        for (at, txn) in suspects
            .transactions
            .iter()
            .skip(TOLD_MAX)
            .take(8)
            .enumerate()
        {
            more = more.say(if at > 0 { ", " } else { "" }).txn(*txn);
        }
        let left = suspects.transactions.len().saturating_sub(TOLD_MAX + 8);
        let end = if left > 0 {
            format!(" and {left} more.")
        } else {
            ".".to_owned()
        };
        sentences.push(more.say(end));
    }
    sentences.extend(faults(told));
    sentences
}

fn nothing_broke(told: &Told<'_>) -> Sentence {
    let verdict = &told.run.verdict;
    let tested = { verdict.properties.iter() }
        .filter(|property| property.is_promised() && property.exercised > 0)
        .count();
    let counts = &verdict.counts;
    let words = match tested {
        0 => "No promise was put to the test".to_owned(),
        1 => "The one promise that was put to the test held".to_owned(),
        n => format!("All {n} promises that were put to the test held"),
    };
    Sentence::default().say(format!(
        "{words}: of {} transactions {} committed, {} blocked, and the longest time without any answer was {:.2} s.",
        counts.invoked, counts.committed, counts.blocked, verdict.metrics.outage_max_s
    ))
}

fn what_broke(told: &Told<'_>, class: &Class, cycle: Option<&Cycle>) -> Sentence {
    let Some(property) = property(told, class) else {
        return Sentence::default();
    };
    let promised = match property.is_promised() {
        true => format!(" is broken ({}). ", property.promised),
        false => " does not hold, and was not promised. ".to_owned(),
    };
    let start = Sentence::default().link(property.name, "promises".to_owned());
    let start = start.say(promised);
    let of_isolation = cycle.filter(|_| class.property == "isolation");
    match (of_isolation, &property.counterexample) {
        (Some(cycle), _) => {
            let why: Vec<&str> = cycle.edges.iter().map(|edge| edge.why.as_str()).collect();
            start.say(format!("{}. No order allows this.", why.join("; but ")))
        }
        (None, Some(example)) => {
            let example = told.names.sentence(example);
            let first = example.lines().next().unwrap_or_default();
            start.say(ended(&names::bounded(first)))
        }
        (None, None) => start.say(ended(&told.names.sentence(&property.observed))),
    }
}

/// A sentence has an end.
fn ended(text: &str) -> String {
    let text = text.trim_end();
    match text.ends_with(['.', '!', ':', ';']) {
        true => text.to_owned(),
        false => format!("{text}."),
    }
}

/// What the process was doing when the promise broke.
fn step(told: &Told<'_>, suspects: &Suspects, class: &Class) -> Option<Sentence> {
    let line = suspects.line.filter(|_| suspects.is_step)?;
    let by = place_of(&trace(told.run)[line].what)?;
    let start = Sentence::default()
        .say("It broke in a step of ")
        .link(told.names.process(by), format!("line={line}"))
        .say(" at ")
        .at(told, line);
    let sentence = match cause(told, line).map(|at| &trace(told.run)[at].what) {
        Some(TraceKind::Delivered { from, label, .. }) => start.say(format!(
            ", which handled `{label}` from {}",
            told.names.process(*from)
        )),
        Some(TraceKind::Fired { detail, .. }) => start.say(format!(
            ", whose timer fired ({})",
            told.names.debug(detail)
        )),
        Some(TraceKind::Flushed { ok, .. }) => start.say(match ok {
            true => ", whose flush had completed",
            false => ", whose flush had failed",
        }),
        Some(TraceKind::Booted { .. }) => start.say(", which had just booted"),
        _ => start,
    };
    let named = |sentence: Sentence| match suspects.transactions.first() {
        Some(txn) => sentence.say("; it is about ").txn(*txn).say("."),
        None => sentence.say("."),
    };
    let sentence = named(sentence);
    let said = property(told, class).and_then(|property| property.counterexample.as_deref());
    let explanation = reported(told, class)
        .map(|violation| violation.explanation.as_str())
        .filter(|explanation| said.is_none_or(|said| !said.contains(explanation)))
        .map(|explanation| told.names.sentence(explanation));
    Some(match explanation {
        Some(text) => sentence.say(format!(" {}", ended(&names::bounded(&text)))),
        None => sentence,
    })
}

/// One event of a transaction's life, as a clause. None for what a summary leaves out.
fn clause(told: &Told<'_>, observed: &Observed) -> Option<(u8, String)> {
    let machine = told.names.machine(observed.by.node);
    let word = |commit: bool| if commit { "commit" } else { "abort" };
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    // The number says how much a reader would miss it: 0 the most.
    Some(match &observed.what {
        Observation::Invoked { .. } => (1, format!("{machine} sent it")),
        Observation::Returned { outcome, .. } => {
            (0, format!("{machine} learned `{}`", outcome_word(outcome)))
        }
        Observation::Initiated { .. } => (1, format!("{machine} took charge of it")),
        Observation::Voted {
            shard, yes: vote, ..
        } => (
            1,
            format!(
                "{} at {machine} voted {}",
                told.names.shard(*shard),
                yes(*vote)
            ),
        ),
        Observation::Decided { commit, .. } => (0, format!("{machine} decided {}", word(*commit))),
        Observation::DecidedAlone { shard, commit, .. } => (
            0,
            format!(
                "{} at {machine} decided {} alone",
                told.names.shard(*shard),
                word(*commit)
            ),
        ),
        Observation::Resolved { shard, commit, .. } => (
            2,
            format!(
                "{} at {machine} learned {}",
                told.names.shard(*shard),
                word(*commit)
            ),
        ),
        Observation::Applied { shard, .. } => (
            2,
            format!("{} at {machine} applied it", told.names.shard(*shard)),
        ),
        Observation::Compensated { shard, step, .. } => (
            1,
            format!(
                "{} at {machine} undid step {}",
                told.names.shard(*shard),
                step + 1
            ),
        ),
        Observation::Ended { commit, .. } => (2, format!("{machine} ended it ({})", word(*commit))),
        Observation::LockWait { key, .. } => (
            3,
            format!("it waited at {machine} for {}", told.names.row(*key)),
        ),
        Observation::Locked { .. }
        | Observation::Unlocked { .. }
        | Observation::Log { .. }
        | Observation::Mark(_) => return None,
    })
}

fn outcome_word(outcome: &crate::base::observation::Outcome) -> &'static str {
    use crate::base::observation::Outcome;
    match outcome {
        Outcome::Committed { .. } => "committed",
        Outcome::Declined { .. } => "declined",
        Outcome::Aborted { .. } => "aborted",
        Outcome::Unknown => "unknown",
    }
}

/// A transaction's life: what was stated of it, and the crashes and failed flushes of the machines that it was on.
fn told_life(told: &Told<'_>, txn: TxnId) -> Sentence {
    let life = life(told, txn);
    let planned = told.places.get(&txn).map(|at| &told.plan.operations[*at]);
    let what = planned.map_or_else(String::new, |planned| {
        names::bounded(&plan_text::txn(&planned.txn, told.scenario))
    });
    let start = Sentence::default().txn(txn).say(format!(" ({what})"));
    let (Some(first), Some(last)) = (life.first(), life.last()) else {
        return start.say(" was never sent.");
    };
    let machines: BTreeSet<NodeId> = life.iter().map(|(_, observed)| observed.by.node).collect();
    let mut clauses: Vec<(usize, u8, String)> = { life.iter() }
        .filter_map(|(line, observed)| {
            clause(told, observed).map(|(rank, text)| (*line, rank, text))
        })
        .collect();
    let around = first.0..last.0.saturating_add(1).max(first.0 + 1);
    for line in around {
        match &trace(told.run)[line].what {
            TraceKind::Crashed { node } if machines.contains(node) => {
                clauses.push((line, 0, format!("{} crashed", told.names.machine(*node))));
            }
            TraceKind::Restarted { node } if machines.contains(node) => {
                clauses.push((line, 1, format!("{} came back", told.names.machine(*node))));
            }
            TraceKind::Flushed { by, ok: false, .. } if machines.contains(&by.node) => {
                clauses.push((
                    line,
                    0,
                    format!("a flush of {} failed", told.names.machine(by.node)),
                ));
            }
            _ => {}
        }
    }
    clauses.sort_by_key(|(line, _, _)| *line);
    clauses.dedup_by(|a, b| a.2 == b.2);
    let left_out = clauses.len().saturating_sub(EVENTS_MAX);
    for rank in [3, 2, 1, 0] {
        while clauses.len() > EVENTS_MAX {
            let Some(at) = clauses.iter().rposition(|(_, of, _)| *of == rank) else {
                break;
            };
            clauses.remove(at);
        }
    }
    let mut sentence = start.say(": ");
    for (position, (line, _, text)) in clauses.iter().enumerate() {
        let comma = if position > 0 { ", " } else { "" };
        sentence = sentence.say(format!("{comma}{text} at ")).at(told, *line);
    }
    let never = match life
        .iter()
        .any(|(_, o)| matches!(o.what, Observation::Ended { .. }))
    {
        true => "",
        false => "; it never ended",
    };
    let more = match left_out {
        0 => String::new(),
        n => format!("; {n} smaller events are in the timeline"),
    };
    sentence.say(format!("{never}{more}."))
}

/// The messages about a transaction that did not arrive.
fn losses(told: &Told<'_>, txn: TxnId) -> Option<Sentence> {
    let mut lost: Vec<(usize, String)> = Vec::new();
    for (line, event) in trace(told.run).iter().enumerate() {
        let TraceKind::Dropped { id, from, to, why } = &event.what else {
            continue;
        };
        let Some((_, sending)) = sent(told, *id) else {
            continue;
        };
        let TraceKind::Sent { label, detail, .. } = &sending.what else {
            continue;
        };
        if !names::transactions(detail).contains(&txn) {
            continue;
        }
        let why = match why {
            DropReason::Cut => "the link was cut",
            DropReason::Lost => "the network lost it",
            DropReason::Down => "the receiver was down",
            DropReason::NobodyThere => "nobody listens there",
        };
        let (from, to) = (told.names.process(*from), told.names.process(*to));
        lost.push((line, format!("`{label}` from {from} to {to} ({why})")));
    }
    let first = lost.first()?;
    let count = match lost.len() {
        1 => "One message about ".to_owned(),
        n => format!("{n} messages about "),
    };
    let of_several = if lost.len() > 1 { "the first " } else { "" };
    Some(
        Sentence::default()
            .say(count)
            .txn(txn)
            .say(format!(" did not arrive: {of_several}{} at ", first.1))
            .at(told, first.0)
            .say("."),
    )
}

/// What struck, in one sentence.
fn faults(told: &Told<'_>) -> Option<Sentence> {
    let began: Vec<(usize, usize)> = { trace(told.run).iter().enumerate() }
        .filter_map(|(line, event)| match event.what {
            TraceKind::FaultBegan { fault } => Some((line, fault)),
            _ => None,
        })
        .collect();
    let first = began.first()?;
    let count = match began.len() {
        1 => "One fault".to_owned(),
        n => format!("{n} faults"),
    };
    let first_of = if began.len() > 1 {
        " struck. The first: "
    } else {
        " struck: "
    };
    let fault = told.plan.faults.get(first.1)?;
    let text = plan_text::what(&fault.kind, &told.plan.environment);
    Some(
        Sentence::default()
            .link(count, "faults".to_owned())
            .say(format!("{first_of}{text} at "))
            .at(told, first.0)
            .say("."),
    )
}
