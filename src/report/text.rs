//! Runs and comparisons as text for a terminal.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::base::options::Chosen;
use crate::campaign::compare::paired::{Difference, PAIRS_MIN, Paired};
use crate::campaign::compare::{Comparison, Line, PropertyLine};
use crate::campaign::sweep::{MEASURES, Sweep};
use crate::model::report::ModelReport;
use crate::registry::Listed;
use crate::run::Run;
use crate::scenario::units::human_ns;
use crate::verdict::time_to_recover::Recovery;
use crate::verdict::{Aborted, Aborts, Conclusion, Status};

/// Width of the tables, in characters.
const WIDTH: u16 = 118;

/// The word for a verdict, and how little it says of a protocol that promises nothing.
pub fn conclusion(conclusion: Conclusion, promises_nothing: bool) -> &'static str {
    match (conclusion, promises_nothing) {
        (Conclusion::Violation, _) => "VIOLATION",
        (Conclusion::Kept, true) => "kept (promises nothing)",
        (conclusion, _) => conclusion.name(),
    }
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Kept => "kept",
        Status::Violation => "VIOLATION",
        Status::NotPromised => "not promised",
        Status::Vacuous => "vacuous",
        Status::Unknown => "unknown",
    }
}

/// A table of the width of all reports.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    // A fixed width: reports are committed and must not depend on a terminal.
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(header.iter().copied());
    table
}

/// A run: its properties, promised against observed, its counts and what it cost.
pub fn run(run: &Run) -> String {
    let mut out = String::new();
    let mut properties = table(&["property", "promised", "observed", "status", "exercised"]);
    for property in &run.verdict.properties {
        properties.add_row([
            property.name,
            &property.promised,
            &property.observed,
            status(property.status),
            &property.exercised.to_string(),
        ]);
    }
    let _ = writeln!(out, "{properties}");
    out.push_str(&costs(run));
    for property in &run.verdict.properties {
        if let Some(example) = &property.counterexample {
            let _ = writeln!(
                out,
                "\n{} ({}): {example}",
                property.name,
                status(property.status)
            );
        }
    }
    let verdict = &run.verdict;
    let why = { verdict.vacuity.as_ref() }.map_or(String::new(), |v| format!(": {}", v.reason));
    let word = conclusion(verdict.verdict, verdict.promises_nothing);
    let _ = writeln!(out, "\nverdict: {word}{why}   digest: {}", run.digest);
    if !run.drawn_options.is_empty() {
        let _ = writeln!(
            out,
            "options drawn by the seed: {}",
            chosen(&run.drawn_options)
        );
    }
    for idle in &run.never_struck {
        let _ = writeln!(out, "fault {} never struck: {}", idle.fault, idle.why);
    }
    for lie in &run.clock_lies {
        let _ = writeln!(
            out,
            "the clock of {} left its declared bound: up to {} {} true time, seen at {}",
            lie.node,
            human_ns(lie.most_ns.unsigned_abs()),
            if lie.most_ns > 0 {
                "ahead of"
            } else {
                "behind"
            },
            human_ns(lie.at_ns)
        );
    }
    for difference in &run.unexpected {
        let _ = writeln!(out, "not as the scenario expects: {difference}");
    }
    out
}

/// Options with their values, as a scenario states them.
pub fn chosen(options: &Chosen) -> String {
    let stated = options
        .iter()
        .map(|(name, value)| format!("{name} = {value}"));
    stated.collect::<Vec<_>>().join(", ")
}

fn costs(run: &Run) -> String {
    let counts = &run.verdict.counts;
    let metrics = &run.verdict.metrics;
    format!(
        "{} transactions: {} committed, {} declined by their own guard, {} aborted, {} unknown to \
         their client; {} blocked, for {:.1} transaction-seconds\n\
         latency p50 {:.1} ms, p99 {:.1} ms; longest outage seen by clients {:.2} s; at most {} under way; {} \
         messages, {} flushes, {} events in {} of simulated time\n{}",
        counts.invoked,
        counts.committed,
        counts.declined,
        counts.aborted,
        counts.indeterminate,
        counts.blocked,
        metrics.blocked_txn_s,
        metrics.latency_p50_ms,
        metrics.latency_p99_ms,
        metrics.outage_max_s,
        metrics.open_max,
        run.messages,
        run.flushes,
        run.events,
        human_ns((run.simulated_ms * 1e6) as u64),
        metrics.recovery.map_or(String::new(), recovery),
    ) + &aborts("aborted by the system", &run.verdict.aborts)
}

/// What the system aborted, as a line; nothing if it aborted nothing.
fn aborts(who: &str, aborts: &Aborts) -> String {
    let reason = |(reason, aborted): (&&str, &Aborted)| match aborted.under_faults {
        0 => format!("{} {reason}", aborted.count),
        under => format!("{} {reason} ({under} under a fault)", aborted.count),
    };
    let reasons: Vec<String> = aborts.iter().map(reason).collect();
    match reasons.is_empty() {
        true => String::new(),
        false => format!("{who}: {}\n", reasons.join(", ")),
    }
}

/// How clients were served after the last fault, as a line.
fn recovery(recovery: Recovery) -> String {
    let before = format!(
        "the median latency before the first was {:.1} ms",
        recovery.before_ms
    );
    match (recovery.after_s, recovery.last_ms) {
        (Some(after_s), _) => {
            format!("clients were served as before {after_s:.0} s after the last fault; {before}\n")
        }
        (None, Some(last_ms)) => format!(
            "DID NOT RECOVER after the last fault: median latency {last_ms:.1} ms in the last second of load; {before}\n"
        ),
        (None, None) => format!(
            "DID NOT RECOVER after the last fault: most requests of the last second of load did not end; {before}\n"
        ),
    }
}

/// How clients were served after the last fault, in all runs of a comparison where that can be told.
fn recoveries(line: &Line) -> String {
    match (line.recovered_s, line.never_recovered) {
        (None, 0) => "not measured".to_owned(),
        (Some(after_s), 0) => format!("{after_s:.1}"),
        (_, never) if line.runs == 1 => {
            debug_assert_eq!(never, 1);
            "never".to_owned()
        }
        (_, never) => format!("never in {never} of {}", line.runs),
    }
}

/// The measurements of a comparison, each with its unit.
fn measurements(line: &Line) -> Vec<(&'static str, String)> {
    let counts = &line.counts;
    let mut rows = vec![
        ("verdict", verdicts(line)),
        (
            "longest outage seen by clients, s",
            format!("{:.2}", line.outage_max_s),
        ),
        ("recovered after the last fault, s", recoveries(line)),
        ("committed", counts.committed.to_string()),
        ("declined by their own guard", counts.declined.to_string()),
        ("aborted by the system", counts.aborted.to_string()),
        (
            "outcome unknown to the client",
            counts.indeterminate.to_string(),
        ),
        ("blocked, transactions", counts.blocked.to_string()),
        (
            "blocked, transaction-seconds",
            format!("{:.1}", line.blocked_txn_s),
        ),
        (
            "in doubt, transaction-seconds",
            format!("{:.1}", line.in_doubt_txn_s),
        ),
        (
            "unanswered, transaction-seconds",
            format!("{:.1}", line.unanswered_txn_s),
        ),
        ("most under way at once", line.open_max.to_string()),
        ("latency p50, ms", format!("{:.1}", line.latency_p50_ms)),
        ("latency p99, ms", format!("{:.1}", line.latency_p99_ms)),
        (
            "messages per transaction",
            format!("{:.1}", line.messages_per_txn),
        ),
        (
            "flushes per transaction",
            format!("{:.1}", line.flushes_per_txn),
        ),
    ];
    if line.held_in_vain_mean > 0.0 {
        rows.push((
            "rows held in vain, on average",
            format!("{:.2}", line.held_in_vain_mean),
        ));
    }
    rows
}

/// A comparison: one line a protocol, then what each promised against what it showed.
pub fn comparison(comparison: &Comparison) -> String {
    let mut out = String::new();
    let seeds = match comparison.seeds.as_slice() {
        [one] => format!("seed {one}"),
        many => format!(
            "{} seeds, {} to {}",
            many.len(),
            many[0],
            many[many.len() - 1]
        ),
    };
    let _ = writeln!(
        out,
        "{} ({seeds}): {}\n",
        comparison.scenario, comparison.summary
    );
    let columns: Vec<Vec<(&str, String)>> = comparison.protocols.iter().map(measurements).collect();
    let longest = columns
        .iter()
        .max_by_key(|column| column.len())
        .cloned()
        .unwrap_or_default();
    let names = comparison
        .protocols
        .iter()
        .map(|line| line.protocol.as_str());
    let header: Vec<&str> = std::iter::once("").chain(names).collect();
    let mut numbers = table(&header);
    for (position, (name, _)) in longest.iter().enumerate() {
        let value = |column: &Vec<(&str, String)>| match column.get(position) {
            Some((_, value)) => value.clone(),
            None => "0".to_owned(),
        };
        numbers.add_row(std::iter::once((*name).to_owned()).chain(columns.iter().map(value)));
    }
    numbers_to_the_right(&mut numbers);
    let _ = writeln!(out, "{numbers}\n");
    let mut promises = table(&["protocol", "property", "promised", "observed"]);
    for line in &comparison.protocols {
        for (position, property) in line
            .properties
            .iter()
            .filter(|p| worth_saying(p))
            .enumerate()
        {
            let protocol = if position == 0 {
                line.protocol.as_str()
            } else {
                ""
            };
            let observed = observed(property, line.runs);
            promises.add_row([protocol, property.name, &property.promised, &observed]);
        }
    }
    let _ = writeln!(out, "{promises}");
    for line in &comparison.protocols {
        let who = format!("{}, aborted by the system", line.protocol);
        out.push_str(&aborts(&who, &line.aborts));
    }
    for line in &comparison.protocols {
        for (idle, runs) in &line.never_struck {
            let (fault, why) = (idle.fault, &idle.why);
            let (protocol, all) = (&line.protocol, line.runs);
            let _ = writeln!(
                out,
                "{protocol}: fault {fault} never struck in {runs} of {all} runs: {why}"
            );
        }
    }
    if let Some(paired) = &comparison.paired {
        out.push_str(&differences(paired));
    }
    out
}

/// How to read a sweep.
pub const SWEEP_READING: &str = "Each value is a mean over the seeds. A band is the interval that covers the mean, where there are at least ten \
     seeds. A cross, or a red point, marks a protocol that broke a promise in a run there; a circle, one of which nothing was put to the test \
     in some run.";

/// A sweep: a table for each measurement, a row for each point.
pub fn sweep(sweep: &Sweep) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} ({} seeds from {}): {}",
        sweep.scenario,
        sweep.seeds.len(),
        sweep.seeds.first().copied().unwrap_or(0),
        sweep.summary
    );
    let axes = sweep.axes.iter().map(|axis| axis.key.as_str());
    let protocols = sweep.protocols.iter().map(String::as_str);
    let header: Vec<&str> = axes.chain(protocols).collect();
    for (measure, _) in MEASURES {
        let mut numbers = table(&header);
        for point in &sweep.points {
            let cells = point.protocols.iter().map(|of| {
                let mark = match of {
                    of if of.violations > 0 => " x",
                    of if of.vacuous > 0 => " o",
                    _ => "",
                };
                let mean = of.measured.get(measure).map(|measured| measured.mean);
                mean.map_or("-".to_owned(), |mean| format!("{}{mark}", digits(mean)))
            });
            numbers.add_row(point.at.iter().cloned().chain(cells));
        }
        numbers_to_the_right(&mut numbers);
        let _ = writeln!(out, "\n{measure}\n{numbers}");
    }
    let all = sweep.points.iter().flat_map(|point| &point.protocols);
    if all.clone().any(|of| of.violations > 0) {
        out.push_str("\nx: a promise was broken in a run there\n");
    }
    if all.clone().any(|of| of.violations == 0 && of.vacuous > 0) {
        out.push_str("\no: nothing was put to the test in a run there\n");
    }
    out
}

/// A number with three digits that say something.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Right-aligns every column but the first.
pub(super) fn numbers_to_the_right(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Paired differences: one row a measurement, one column a protocol.
pub fn differences(paired: &Paired) -> String {
    let mut out = String::new();
    let mut protocols: Vec<&str> = Vec::new();
    let mut measurements: Vec<&str> = Vec::new();
    for difference in &paired.differences {
        if !protocols.contains(&difference.protocol.as_str()) {
            protocols.push(&difference.protocol);
        }
        if !measurements.contains(&difference.measurement) {
            measurements.push(difference.measurement);
        }
    }
    let title = format!("minus {}, mean over seeds", paired.baseline);
    let header: Vec<&str> = std::iter::once(title.as_str())
        .chain(protocols.clone())
        .collect();
    let mut rows = table(&header);
    for measurement in measurements {
        let cell = |protocol: &&str| {
            let mut all = paired.differences.iter();
            let of = all.find(|d| d.protocol == **protocol && d.measurement == measurement);
            of.map_or(String::new(), difference)
        };
        rows.add_row(std::iter::once(measurement.to_owned()).chain(protocols.iter().map(cell)));
    }
    numbers_to_the_right(&mut rows);
    let pairs = paired.differences.iter().map(|difference| difference.pairs);
    let _ = writeln!(out, "\n{rows}");
    let _ = match pairs.max().unwrap_or(0) {
        n if n < PAIRS_MIN => writeln!(
            out,
            "no intervals: {n} seeds are too few, {PAIRS_MIN} are needed (--seeds {PAIRS_MIN}); in parentheses: pairs of runs"
        ),
        _ => writeln!(
            out,
            "in brackets: the interval that covers the mean difference with {:.0} % confidence, by a {}\n\
             ({} resamples); an interval without 0 is a difference. Pairs share operations, faults at given times, \
             and the\nfates of the n-th message of a link, timer of a process and flush of a machine.",
            paired.confidence * 100.0,
            paired.method,
            paired.resamples
        ),
    };
    out
}

fn difference(difference: &Difference) -> String {
    let signed = |value: f64| match value {
        0.0 => "0".to_owned(),
        value if value.abs() >= 100.0 => format!("{value:+.0}"),
        value if value.abs() >= 1.0 => format!("{value:+.1}"),
        value => format!("{value:+.3}"),
    };
    let pairs = match (difference.pairs, difference.interval) {
        (0, _) => return "-".to_owned(),
        (n, None) => format!("({n})"),
        (_, Some((low, high))) => format!("[{}, {}]", signed(low), signed(high)),
    };
    format!("{} {pairs}", signed(difference.mean))
}

/// The main properties of every protocol, and whatever else was seen broken.
fn worth_saying(property: &PropertyLine) -> bool {
    let always = [
        "isolation",
        "atomicity",
        "progress",
        "no-intermediate-states",
    ];
    always.contains(&property.name) || property.broken > 0 || property.unknown > 0
}

fn observed(property: &PropertyLine, runs: u64) -> String {
    if runs == 1 {
        return match property.vacuous {
            1 => format!("{} (vacuous: never put to the test)", property.observed),
            _ => property.observed.clone(),
        };
    }
    let counted = [
        (property.held, "held"),
        (property.broken, "broken"),
        (property.vacuous, "vacuous"),
        (property.unknown, "unknown"),
        (property.released, "not owed"),
    ];
    let parts: Vec<String> = counted
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{what} in {count}"))
        .collect();
    match property.broken {
        0 => parts.join(", "),
        broken => {
            let percent = 100.0 * broken as f64 / runs as f64;
            format!(
                "{} ({percent:.2} %); such as: {}",
                parts.join(", "),
                property.observed
            )
        }
    }
}

/// One word for one run; for several, how many had which, the worst first.
fn verdicts(line: &Line) -> String {
    let counted = [
        (line.violations, Conclusion::Violation),
        (line.unknown, Conclusion::Unknown),
        (line.vacuous, Conclusion::Vacuous),
        (line.kept, Conclusion::Kept),
    ];
    let seen = counted.into_iter().filter(|(count, _)| *count > 0);
    let lines = seen.map(|(count, of)| {
        let word = conclusion(of, line.promises_nothing);
        match line.runs {
            1 => word.to_owned(),
            _ => format!("{count} {word}"),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Every broken promise of a comparison: protocol, seed, and what was seen.
pub fn violations(comparison: &Comparison) -> Vec<(String, u64, String)> {
    let broken = |line: &Line| {
        let promised = line
            .properties
            .iter()
            .filter(|property| property.promised != "nothing");
        let example = |property: &PropertyLine| {
            let (seed, example) = property.counterexample.clone()?;
            Some((
                line.protocol.clone(),
                seed,
                format!("{}: {example}", property.name),
            ))
        };
        promised.filter_map(example).collect::<Vec<_>>()
    };
    comparison.protocols.iter().flat_map(broken).collect()
}

/// A protocol's options as a scenario states them: their defaults, and what else they may be.
pub fn options(protocol: &Listed) -> String {
    const INDENT: &str = "      ";
    let mut out = String::new();
    let mut table = None;
    for option in &protocol.described {
        let (of, key) = match option.name.rsplit_once('.') {
            Some((of, key)) => (format!("{}.{of}", protocol.name), key),
            None => (protocol.name.to_owned(), option.name.as_str()),
        };
        if table.as_ref() != Some(&of) {
            let _ = writeln!(out, "{INDENT}[protocol.{of}]");
            table = Some(of);
        }
        let stated = format!("{key} = {}", option.default);
        let _ = writeln!(out, "{INDENT}{stated:<38} # {}", option.domain);
    }
    out.trim_end().to_owned()
}

/// Constraints as people write them: `WF Serve(1), WF Serve(2)` is `WF Serve(1; 2)`.
fn fairness(constraints: &[String]) -> String {
    let mut grouped: Vec<(&str, Vec<&str>)> = Vec::new();
    for constraint in constraints {
        let (action, instance) = match constraint.split_once('(') {
            Some((action, rest)) => (action, rest.strip_suffix(')')),
            None => (constraint.as_str(), None),
        };
        match grouped.iter_mut().find(|(known, _)| *known == action) {
            Some((_, instances)) => instances.extend(instance),
            None => grouped.push((action, instance.into_iter().collect())),
        }
    }
    let shown = grouped
        .iter()
        .map(|(action, instances)| match instances[..] {
            [] => (*action).to_owned(),
            _ => format!("{action}({})", instances.join("; ")),
        });
    shown.collect::<Vec<_>>().join(", ")
}

/// The specs' models and their properties, then the counterexample of each property that fails.
pub fn models(reports: &[ModelReport]) -> String {
    let mut out = String::new();
    let mut sizes = table(&[
        "model",
        "distinct",
        "generated",
        "depth",
        "ms",
        "property",
        "kind",
        "fairness",
        "verdict",
    ]);
    for report in reports {
        for (position, property) in report.properties.iter().enumerate() {
            let first = |text: String| if position == 0 { text } else { String::new() };
            let verdict = match (property.holds, property.holds == property.expected) {
                (true, true) => "holds",
                (false, true) => "fails, as it must",
                (true, false) => "HOLDS, recorded as failing",
                (false, false) => "FAILS",
            };
            sizes.add_row([
                first(report.name.clone()),
                first(report.distinct.to_string()),
                first(report.generated.to_string()),
                first(report.depth.to_string()),
                first(format!("{:.0}", report.time_ms)),
                property.name.clone(),
                property.kind.to_string(),
                fairness(&property.fairness),
                verdict.to_owned(),
            ]);
        }
    }
    let _ = writeln!(out, "{sizes}");
    for report in reports {
        for property in report.properties.iter().filter(|property| !property.holds) {
            let behaviour = match property.counterexample_text.as_str() {
                "" => "no behaviour reaches it",
                text => text,
            };
            let _ = writeln!(out, "\n{}, {}:\n{behaviour}", report.name, property.name);
        }
        if !report.as_recorded {
            let _ = writeln!(out, "\n{} is NOT as recorded", report.name);
        }
    }
    for report in reports {
        if let Some(edges) = &report.edges {
            let actions = edges.actions.iter();
            let actions: Vec<String> = actions.map(|(name, n)| format!("{name} {n}")).collect();
            let _ = writeln!(
                out,
                "\n{}: {}, at most {} in one ({})",
                report.name,
                edges.describe(),
                edges.longest,
                actions.join(", ")
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    #[test]
    fn listed_options_are_accepted_back_as_they_are_printed() {
        let storm = include_str!("../../scenarios/storm.toml");
        let written: Vec<String> = Registry::standard().list().iter().map(options).collect();
        let text = format!("{storm}\n{}\n", written.join("\n"));
        let scenario = Registry::standard()
            .read_scenario("storm", &text, &[])
            .unwrap();
        assert_eq!(scenario.options.len(), Registry::standard().names().len());
        let long = text.replace("heartbeat-ms = 100 ", "heartbeat-ms = 99999999999999999 ");
        assert!(
            Registry::standard()
                .read_scenario("storm", &long, &[])
                .is_err()
        );
        let turned = text.replace("election-ms = [600, 1200]", "election-ms = [9, 3]");
        let refused = Registry::standard()
            .read_scenario("storm", &turned, &[])
            .unwrap_err();
        assert!(
            refused.to_string().contains("[9, 3] is no range"),
            "{refused}"
        );
    }

    #[test]
    fn fairness_groups_instances_of_an_action() {
        let constraints = ["WF Serve(1)", "WF Heal(1)", "WF Serve(2)", "SF Ask"].map(str::to_owned);
        assert_eq!(fairness(&constraints), "WF Serve(1; 2), WF Heal(1), SF Ask");
        assert_eq!(fairness(&[]), "");
    }
}
