//! What made a run fail, for its page and as text: the share of redrawn runs that still fail, and what it needed.

use serde::Serialize;

use super::model::{Told, place_of, trace};
use super::story::{Sentence, shown_ms};
use crate::campaign::explain::{Explained, Removal, Thing};
use crate::report::plan as plan_text;
use crate::run::trace::{DropReason, TraceEvent, TraceKind};

/// Most events of the turn that are listed.
const LISTED_MAX: usize = 12;

/// What made the run fail, as data for its page.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Why {
    /// In words.
    pub sentences: Vec<Sentence>,
    /// By instant, in milliseconds from time zero: the share of runs that failed in the same class, and that broke another
    /// promise.
    pub shares: Vec<(f64, f64, f64)>,
    /// Runs behind each share.
    pub redraws: usize,
    /// Where the share rises most: from and to, in milliseconds.
    pub turn: Option<(f64, f64)>,
    /// What happened there.
    pub events: Vec<Sentence>,
    /// What was taken away, one thing at a time.
    pub removals: Vec<Taken>,
    /// How many runs all of it took.
    pub runs: usize,
}

/// One thing that was taken away.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Taken {
    /// `fault`, `transaction` or `message`.
    pub kind: &'static str,
    /// What it is.
    pub what: Sentence,
    /// `passes`, `fails` or `fails otherwise`.
    pub then: &'static str,
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// One event with the place where it happened.
fn event(told: &Told<'_>, line: usize, event: &TraceEvent) -> Option<Sentence> {
    let text = match &event.what {
        TraceKind::Sent {
            from, to, label, ..
        } => {
            let next = trace(told.run).get(line + 1).map(|event| &event.what);
            let lost = match next {
                Some(TraceKind::Dropped {
                    why: DropReason::Lost,
                    ..
                }) => ", which the network lost",
                _ => "",
            };
            let to = told.names.process(*to);
            format!("{} sent `{label}` to {to}{lost}", told.names.process(*from))
        }
        TraceKind::Delivered {
            from, to, label, ..
        } => {
            let from = told.names.process(*from);
            format!("`{label}` from {from} reached {}", told.names.process(*to))
        }
        TraceKind::Observed { by, name, detail } => {
            let detail = super::names::bounded(&told.names.debug(detail));
            format!("{} stated `{name}`: {detail}", told.names.process(*by))
        }
        TraceKind::Fired { by, detail } => {
            let detail = told.names.debug(detail);
            format!("a timer of {} fired: {detail}", told.names.process(*by))
        }
        TraceKind::Flushed { by, ok, .. } => {
            let how = if *ok { "completed" } else { "failed" };
            format!("a flush of {} {how}", told.names.process(*by))
        }
        TraceKind::Booted { by, .. } => format!("{} booted", told.names.process(*by)),
        TraceKind::Crashed { node } => format!("{} crashed", told.names.machine(*node)),
        TraceKind::Restarted { node } => format!("{} came back", told.names.machine(*node)),
        TraceKind::Halted { by, why } => format!("{} halted: {why}", told.names.process(*by)),
        TraceKind::Panicked { by, .. } => format!("{} panicked", told.names.process(*by)),
        TraceKind::FaultBegan { fault } => format!("fault {} began", fault + 1),
        TraceKind::FaultEnded { fault } => format!("fault {} ended", fault + 1),
        _ => return None,
    };
    let sentence = Sentence::default()
        .link(text, format!("line={line}"))
        .say(" at ");
    Some(sentence.at(told, line))
}

fn taken(told: &Told<'_>, removal: &Removal) -> Taken {
    let message = |line: usize| {
        let event = &trace(told.run)[line];
        match &event.what {
            TraceKind::Sent {
                from, to, label, ..
            } => {
                let (from, to) = (told.names.process(*from), told.names.process(*to));
                format!(
                    "`{label}` from {from} to {to}, sent at {}",
                    shown_ms(told.ms(event.at_ns))
                )
            }
            _ => String::new(),
        }
    };
    let (kind, what) = match removal.thing {
        Thing::Fault(at) => {
            let text = { told.plan.faults.get(at) }.map_or_else(String::new, |fault| {
                plan_text::what(&fault.kind, &told.plan.environment)
            });
            let began = |event: &TraceEvent| matches!(event.what, TraceKind::FaultBegan { fault } if fault == at);
            let line = trace(told.run).iter().position(began);
            let sentence = Sentence::default().say(format!("without fault {} ({text}", at + 1));
            let sentence = match line {
                Some(line) => sentence.say(" at ").at(told, line),
                None => sentence,
            };
            ("fault", sentence.say(")"))
        }
        Thing::Transaction(txn) => ("transaction", Sentence::default().say("without ").txn(txn)),
        Thing::Arrival(line) => (
            "message",
            Sentence::default()
                .say("if the network loses ")
                .link(message(line), format!("line={line}")),
        ),
        Thing::Loss(line) => (
            "message",
            Sentence::default()
                .say("if the network does not lose ")
                .link(message(line), format!("line={line}")),
        ),
    };
    let then = match (removal.still_fails, removal.fails_otherwise) {
        (true, _) => "fails",
        (false, true) => "fails otherwise",
        (false, false) => "passes",
    };
    Taken { kind, what, then }
}

/// Tells what was found.
pub fn why(told: &Told<'_>, explained: &Explained) -> Why {
    let ms = |at: usize| told.ms(explained.shares[at].from_ns);
    let redraws = explained.shares.first().map_or(0, |share| share.runs);
    let removals: Vec<Taken> = { explained.removals.iter() }
        .map(|removal| taken(told, removal))
        .collect();
    let events: Vec<Sentence> = match explained.lines {
        Some((first, end)) => { trace(told.run)[first..end].iter().enumerate() }
            .filter_map(|(at, found)| event(told, first + at, found))
            .take(LISTED_MAX)
            .collect(),
        None => Vec::new(),
    };
    Why {
        sentences: sentences(told, explained, &removals),
        shares: { explained.shares.iter() }
            .map(|share| {
                let otherwise = share.otherwise as f64 / share.runs.max(1) as f64;
                (told.ms(share.from_ns), share.share(), otherwise)
            })
            .collect(),
        redraws,
        turn: explained
            .turn
            .map(|(before, after)| (ms(before), ms(after))),
        events,
        removals,
        runs: explained.runs,
    }
}

fn sentences(told: &Told<'_>, explained: &Explained, removals: &[Taken]) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    if let (Some(first), Some(last)) = (explained.shares.first(), explained.shares.last()) {
        let same = percent(first.share());
        let start = Sentence::default().say(format!(
            "With the same plan and other luck from the start, {same} of {} runs fail in the same way ({}).",
            first.runs, explained.class
        ));
        sentences.push(start);
        sentences.push(match (explained.turn, explained.lines) {
            (Some((before, after)), Some((line, _))) => {
                let (low, high) = (explained.shares[before], explained.shares[after]);
                let at = told.ms(low.from_ns);
                let place = place_of(&trace(told.run)[line].what);
                let where_it_was = place.map_or_else(String::new, |by| {
                    format!(", where {} acts", told.names.process(by))
                });
                Sentence::default()
                    .say("The point of no return is at ")
                    .link(shown_ms(at), format!("line={line}"))
                    .say(format!(
                        "{where_it_was}: redrawn from there on {} still fail, and redrawn from {} on {} do.",
                        percent(low.share()),
                        shown_ms(told.ms(high.from_ns)),
                        percent(high.share())
                    ))
            }
            _ if last.failed == last.runs => Sentence::default().say(
                "There is no point of no return after the start: the plan alone makes it fail, whatever the network, \
                 the disks and the timers do.",
            ),
            _ => Sentence::default().say(
                "The share does not rise towards the failure: what was drawn before it does not settle it.",
            ),
        });
    }
    for (kind, none) in [
        ("fault", "No single fault is needed for it."),
        ("transaction", ""),
        ("message", ""),
    ] {
        let of_kind: Vec<&Taken> = removals.iter().filter(|taken| taken.kind == kind).collect();
        let saving: Vec<&&Taken> = of_kind
            .iter()
            .filter(|taken| taken.then == "passes")
            .collect();
        if of_kind.is_empty() {
            continue;
        }
        if saving.is_empty() {
            if !none.is_empty() {
                sentences.push(Sentence::default().say(none));
            }
            continue;
        }
        let mut sentence = Sentence::default().say("It passes ");
        for (at, taken) in saving.iter().take(4).enumerate() {
            sentence = sentence.say(if at > 0 { ", or " } else { "" });
            sentence.0.extend(taken.what.0.clone());
        }
        let more = saving.len().saturating_sub(4);
        let more = if more > 0 {
            format!(", and without any of {more} others")
        } else {
            String::new()
        };
        sentences.push(sentence.say(format!("{more}.")));
    }
    if explained.not_tried > 0 {
        sentences.push(Sentence::default().say(format!(
            "{} more transactions, faults or messages were not taken away one by one: --removals allows more.",
            explained.not_tried
        )));
    }
    sentences
}

/// All of it as text.
pub fn text(why: &Why) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    for sentence in &why.sentences {
        line(sentence.text());
    }
    line(format!(
        "\nredrawn from    still fail (of {})   break another promise",
        why.redraws
    ));
    for (ms, share, otherwise) in &why.shares {
        let filled = (share * 20.0).round() as usize;
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(20 - filled));
        let here = why.turn.is_some_and(|(from, _)| from == *ms);
        let mark = if here {
            "  <- the point of no return"
        } else {
            ""
        };
        line(format!(
            "{:>12}    {bar} {:>5}   {:>5}{mark}",
            shown_ms(*ms),
            percent(*share),
            percent(*otherwise)
        ));
    }
    if !why.events.is_empty() {
        line("\nwhat happened there".to_owned());
        for event in &why.events {
            line(format!("  {}", event.text()));
        }
    }
    line(format!("\n{} runs", why.runs));
    out
}
