//! Plans in words: what goes wrong and what clients do, one line each, and what shrinking left of them.

use std::fmt::Write;

use super::text;
use crate::base::process::NodeId;
use crate::base::txn::{Effect, Guard, Key, Op, Target, Txn};
use crate::campaign::shrink::{Extent, Shrunk};
use crate::fault::{CrashLoss, Fault, FaultKind, When};
use crate::plan::{Environment, Start};
use crate::scenario::Scenario;

/// A duration or an instant to the last digit, in the largest unit that it reaches.
fn exact(ns: u64) -> String {
    let units = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)];
    let Some((unit, factor)) = units.into_iter().find(|(_, factor)| ns >= *factor) else {
        return format!("{ns}ns");
    };
    let digits = format!("{factor}").len() - 1;
    let text = format!("{}.{:0digits$}", ns / factor, ns % factor);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

fn signed(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "+" };
    format!("{sign}{}", exact(ns.unsigned_abs()))
}

fn percent(ppm: u32) -> String {
    format!("{} %", f64::from(ppm) / 10_000.0)
}

/// Machines by name; all of a region's by the region's name.
fn machines(nodes: &[NodeId], environment: &Environment) -> String {
    let mut rest: Vec<usize> = nodes.iter().map(|node| usize::from(node.0)).collect();
    rest.sort_unstable();
    rest.dedup();
    let name =
        |at: usize| { environment.machines.get(at) }.map_or("?", |machine| machine.name.as_str());
    let region = |at: usize| name(at).split_once('/').map(|(region, _)| region);
    let mut names = Vec::new();
    while let Some(first) = rest.first().copied() {
        let of_region = |at: &usize| region(*at) == region(first);
        let all = (0..environment.machines.len()).filter(of_region).count();
        let here = rest.iter().filter(|at| of_region(at)).count();
        match region(first) {
            Some(whole) if all == here && all > 1 => {
                names.push(whole.to_owned());
                rest.retain(|at| !of_region(at));
            }
            _ => names.push(name(rest.remove(0)).to_owned()),
        }
    }
    names.join(", ")
}

/// A fault in one line: when, for how long, what.
pub fn fault(fault: &Fault, environment: &Environment) -> String {
    let when = match &fault.when {
        When::At(ns) => format!("at {}", exact(*ns)),
        When::AfterEvent(event) => format!("after event {event}"),
        When::Moment {
            from_ns,
            observation,
            by,
            count,
            latest_ns,
        } => {
            let latest = latest_ns.map_or(String::new(), |ns| {
                format!(", at the latest at {}", exact(ns))
            });
            let nth = match count {
                1 => "the first".to_owned(),
                n => format!("number {n}"),
            };
            let by = by.map_or(String::new(), |by| {
                format!(" by {}", machines(&[by], environment))
            });
            let from = exact(*from_ns);
            format!("at {nth} `{observation}`{by} from {from} on{latest}")
        }
    };
    let lasts = match (fault.for_ns, fault.permanent) {
        (Some(ns), _) => format!("for {}", exact(ns)),
        (None, false) => "until the safety phase ends".to_owned(),
        (None, true) => "for good".to_owned(),
    };
    format!("{when}, {lasts}: {}", what(&fault.kind, environment))
}

/// What a fault does, without its time.
pub(super) fn what(kind: &FaultKind, environment: &Environment) -> String {
    let names = |nodes: &[NodeId]| machines(nodes, environment);
    let between = |from: &[NodeId], to: &[NodeId]| format!("{} <-> {}", names(from), names(to));
    match kind {
        FaultKind::Cut {
            from,
            to,
            both_ways: true,
        } => format!("cut {}", between(from, to)),
        FaultKind::Cut { from, to, .. } => format!("cut {} -> {}", names(from), names(to)),
        FaultKind::Flap {
            from,
            to,
            down_ns,
            up_ns,
        } => format!(
            "cut and mend {} ({} down, {} up)",
            between(from, to),
            exact(*down_ns),
            exact(*up_ns)
        ),
        FaultKind::Degrade {
            from, to, one_way, ..
        } => {
            let links = match one_way.0 {
                true => format!("{} -> {}", names(from), names(to)),
                false => between(from, to),
            };
            format!("degrade {links} ({})", degradation(kind))
        }
        FaultKind::Crash { nodes, loss } => {
            let loss = match loss {
                CrashLoss::Lost => "lost".to_owned(),
                CrashLoss::Kept => "kept".to_owned(),
                CrashLoss::Torn(cut) => format!("torn at {cut}/65536"),
            };
            format!("crash {}, unflushed bytes {loss}", names(nodes))
        }
        FaultKind::Pause { nodes } => format!("pause {}", names(nodes)),
        FaultKind::Slow { nodes, percent } => format!("slow {} to {percent} %", names(nodes)),
        FaultKind::SlowFlush { nodes, percent } => {
            format!("slow the flushes of {} to {percent} %", names(nodes))
        }
        FaultKind::FailFlush {
            nodes,
            probability_ppm,
            kept_ppm,
        } => {
            let failing = percent(*probability_ppm);
            let flushes = format!("fail {failing} of the flushes of {}", names(nodes));
            if *kept_ppm == 0 {
                return flushes;
            }
            format!("{flushes}; {} of these leave bytes", percent(*kept_ppm))
        }
        FaultKind::CorruptRead {
            node, port, file, ..
        } => format!(
            "flip a bit of file {file} of process {port} when {} boots next",
            names(&[*node])
        ),
        FaultKind::ClockStep { nodes, by_ns } => {
            format!("step the clocks of {} by {}", names(nodes), signed(*by_ns))
        }
        FaultKind::ClockDrift { nodes, by_ppm } => {
            format!("let the clocks of {} drift by {by_ppm:+} ppm", names(nodes))
        }
    }
}

fn degradation(kind: &FaultKind) -> String {
    let FaultKind::Degrade {
        loss_ppm,
        duplicate_ppm,
        reorder_ppm,
        latency,
        bandwidth,
        ..
    } = kind
    else {
        unreachable!("only degraded links degrade");
    };
    let shares = [
        (loss_ppm, "lost"),
        (duplicate_ppm, "doubled"),
        (reorder_ppm, "reordered"),
    ];
    let mut parts: Vec<String> = { shares.into_iter() }
        .filter(|(ppm, _)| **ppm > 0)
        .map(|(ppm, what)| format!("{} {what}", percent(*ppm)))
        .collect();
    if latency.base_ns > 0 {
        parts.push(format!("{} later", exact(latency.base_ns)));
    }
    if latency.jitter_ns > 0 {
        parts.push(format!("{} of jitter", exact(latency.jitter_ns)));
    }
    if *bandwidth > 0 {
        parts.push(format!("{bandwidth} bytes a second"));
    }
    parts.join(", ")
}

/// A transaction in one line: its guards, what it reads, what it writes.
pub fn txn(txn: &Txn, scenario: &Scenario) -> String {
    let key = |key: &Key| match scenario.layout.tables.get(usize::from(key.table.0)) {
        Some(table) => format!("{}/{}", table.name, key.row),
        None => key.to_string(),
    };
    let target = |target: &Target| match target {
        Target::Key(at) => key(at),
        Target::Choice {
            on,
            at_least,
            then,
            otherwise,
        } => format!(
            "({} if {} >= {at_least}, else {})",
            key(then),
            key(on),
            key(otherwise)
        ),
    };
    let sum = |keys: &[Key]| keys.iter().map(key).collect::<Vec<_>>().join(" + ");
    let guard = |guard: &Guard| match guard {
        Guard::SumAtLeast { keys, at_least } => format!("if {} >= {at_least}", sum(keys)),
        Guard::SumAtMost { keys, at_most } => format!("if {} <= {at_most}", sum(keys)),
    };
    let effect = |effect: &Effect| {
        let to = target(&effect.target);
        match effect.op {
            Op::Add(by) => format!("{to} += {by}"),
            Op::Put(value) => format!("{to} := {value}"),
            Op::Append(element) => format!("append {element} to {to}"),
            Op::Remove(element) => format!("remove {element} from {to}"),
        }
    };
    let mut parts: Vec<String> = txn.guards.iter().map(guard).collect();
    if !txn.reads.is_empty() {
        let reads: Vec<String> = txn.reads.iter().map(target).collect();
        parts.push(format!("read {}", reads.join(", ")));
    }
    parts.extend(txn.effects.iter().map(effect));
    parts.join("; ")
}

/// At most this many faults are listed, and this many transactions.
const LISTED_MAX: usize = 40;

/// A plan's faults and transactions, one line each.
pub fn listing(plan: &crate::plan::Plan, scenario: &Scenario) -> String {
    let mut out = String::new();
    let mut section = |title: &str, lines: Vec<String>| {
        let _ = writeln!(out, "{title}");
        for line in lines.iter().take(LISTED_MAX) {
            let _ = writeln!(out, "  {line}");
        }
        match lines.len() {
            0 => drop(writeln!(out, "  none")),
            n if n > LISTED_MAX => drop(writeln!(out, "  ... and {} more", n - LISTED_MAX)),
            _ => {}
        }
    };
    let faults = plan.faults.iter();
    section(
        "faults",
        faults
            .map(|planned| fault(planned, &plan.environment))
            .collect(),
    );
    let operation = |operation: &crate::plan::PlannedOperation| {
        let regions = &scenario.layout.regions;
        let region =
            { regions.get(usize::from(operation.region)) }.map_or("?", |region| &region.name);
        let start = match operation.start {
            Start::At(ns) => format!("at {}", exact(ns)),
            Start::Think(ns) => format!("in session {} after {}", operation.session, exact(ns)),
            Start::Retry { of, nth } => format!("if {of} is given up, as its retry {nth}"),
        };
        format!(
            "{} {start} from {region}: {}",
            operation.txn.id,
            txn(&operation.txn, scenario)
        )
    };
    section(
        "transactions",
        plan.operations.iter().map(operation).collect(),
    );
    if !plan.options.is_empty() {
        let line = |(protocol, drawn)| format!("{protocol}: {}", text::chosen(drawn));
        section("drawn options", plan.options.iter().map(line).collect());
    }
    out
}

/// What shrinking did: sizes before and after, what was removed, and the plan that is left.
pub fn shrunk(shrunk: &Shrunk) -> String {
    let (before, after) = (&shrunk.before, &shrunk.after);
    let mut sizes = text::table(&["", "before", "after"]);
    type Of = fn(&Extent) -> String;
    let rows: [(&str, Of); 7] = [
        ("faults", |extent| extent.faults.to_string()),
        ("transactions", |extent| extent.transactions.to_string()),
        ("reads, guards and effects", |extent| {
            extent.steps.to_string()
        }),
        ("machines", |extent| extent.machines.to_string()),
        ("shards", |extent| extent.shards.to_string()),
        ("simulated time, s", |extent| {
            format!("{:.1}", extent.simulated_ms / 1e3)
        }),
        ("events", |extent| extent.events.to_string()),
    ];
    for (name, of) in rows {
        sizes.add_row([name, &of(before), &of(after)]);
    }
    text::numbers_to_the_right(&mut sizes);
    let mut out = format!(
        "{} of {} on {}\n\n{sizes}\n\nremoved\n",
        shrunk.class, shrunk.protocol, shrunk.scenario.name
    );
    for line in &shrunk.removed {
        let _ = writeln!(out, "  {line}");
    }
    if shrunk.removed.is_empty() {
        let _ = writeln!(out, "  nothing");
    }
    out.push_str(&listing(&shrunk.plan, &shrunk.scenario));
    let word = match shrunk.locally_minimal {
        true => "locally minimal: no single removal or simplification of it still fails this way"
            .to_owned(),
        false => format!(
            "NOT minimal: the budget of {} runs is used up; --budget allows more",
            shrunk.budget
        ),
    };
    let _ = writeln!(out, "{} runs; {word}", shrunk.runs);
    let properties = { shrunk.run.verdict.properties.iter() };
    for property in properties.filter(|property| property.name == shrunk.class.property) {
        if let Some(example) = &property.counterexample {
            let _ = writeln!(out, "{}: {example}", property.name);
        }
    }
    out
}
