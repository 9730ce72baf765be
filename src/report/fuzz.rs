//! Campaigns as text: for a terminal, and as annotations of GitHub Actions.

use std::fmt::Write;

use super::text::table;
use crate::campaign::report::{Failure, Line, Report};
use crate::stack;

/// The command that repeats a run. `how` is the scenario as it was named, and its overrides as they are written.
pub fn again((scenario, set): (&str, &str), protocol: &str, seed: u64) -> String {
    format!("ordain run {scenario} --swarm --protocol {protocol} --seed {seed}{set}")
}

/// A campaign. If something failed, the first and the last line give a seed and a command.
pub fn report(report: &Report, how: (&str, &str)) -> String {
    let mut out = String::new();
    if let Some(first) = report.failures.first() {
        let _ = writeln!(out, "{}\n", seed_and_command(first, how));
    }
    out.push_str(&heading(report));
    out.push_str(&never_reached(report));
    out.push_str(&lines(report));
    out.push_str(&reached(report));
    for one in &report.regressions {
        let found = match &one.class {
            None => "as promised".to_owned(),
            Some(class) => format!("FAILS AGAIN: {class}"),
        };
        let _ = writeln!(
            out,
            "regression {} under {}: {found}",
            one.path, one.protocol
        );
    }
    for one in &report.nondeterministic {
        let _ = writeln!(
            out,
            "NOT DETERMINISTIC: {} gave {} and then {}\nthis is a bug in ordain: please report it with the \
             command and the scenario",
            again(how, &one.protocol, one.seed),
            one.first,
            one.again
        );
    }
    for one in &report.undecided {
        let _ = writeln!(out, "undecided: {}", again(how, &one.protocol, one.seed));
    }
    for failure in &report.failures {
        out.push_str(&failed(failure, how));
    }
    out
}

fn seed_and_command(failure: &Failure, how: (&str, &str)) -> String {
    let command = again(how, &failure.protocol, failure.seed);
    format!("seed {}: {command}", failure.seed)
}

fn heading(report: &Report) -> String {
    let part = match report.parts.as_slice() {
        [whole] if whole == "0/1" => String::new(),
        parts => format!(" (part {})", parts.join(", ")),
    };
    let stopped = if report.interrupted {
        "interrupted: "
    } else {
        ""
    };
    format!(
        "{stopped}{} runs of {}{part} from seed {} on, {:.1} a second; {} of them repeated, {}\n",
        report.runs,
        report.scenario,
        report.first_seed,
        report.runs_per_second,
        report.repeated,
        match report.nondeterministic.len() {
            0 => "all alike".to_owned(),
            n => format!("{n} of those otherwise"),
        }
    )
}

/// What no run reached comes first: a campaign says nothing about it.
fn never_reached(report: &Report) -> String {
    let mut never = table(&["protocol", "never reached", "what it is"]);
    for line in &report.protocols {
        let declared = stack::marks(&line.protocol);
        for name in Report::never(line) {
            let what = declared.iter().find(|(mark, _)| *mark == name);
            never.add_row([
                line.protocol.as_str(),
                name,
                what.map_or("", |(_, what)| what),
            ]);
        }
    }
    match never.is_empty() {
        true => String::new(),
        false => format!("\n{never}\n"),
    }
}

fn lines(report: &Report) -> String {
    let mut runs = table(&[
        "protocol",
        "runs",
        "as promised",
        "violations",
        "undecided",
        "transactions",
        "committed",
        "declined",
        "aborted",
        "unknown",
    ]);
    for line in &report.protocols {
        let violations = match line.expected {
            0 => line.violations.to_string(),
            expected => format!("{} ({expected} expected)", line.violations),
        };
        runs.add_row([
            line.protocol.clone(),
            line.runs.to_string(),
            line.ok.to_string(),
            violations,
            line.unknown.to_string(),
            line.counts.invoked.to_string(),
            line.counts.committed.to_string(),
            line.counts.declined.to_string(),
            line.counts.aborted.to_string(),
            line.counts.indeterminate.to_string(),
        ]);
    }
    format!("\n{runs}\n")
}

/// The rare branches that runs did reach, the rarest first.
fn reached(report: &Report) -> String {
    let of_line = |line: &Line| {
        let reached = line.marks.iter().filter(|(_, reached)| reached.runs > 0);
        let mut reached: Vec<_> = reached
            .map(|(name, reached)| (reached.runs, name))
            .collect();
        reached.sort();
        let words = reached.iter().map(|(runs, name)| format!("{name} {runs}"));
        (line.protocol.clone(), words.collect::<Vec<_>>().join(", "))
    };
    let reached: Vec<_> = report.protocols.iter().map(of_line).collect();
    if reached.iter().all(|(_, words)| words.is_empty()) {
        return String::new();
    }
    let mut branches = table(&[
        "protocol",
        "rare branches, and in how many runs each was reached",
    ]);
    for (protocol, words) in reached {
        branches.add_row([protocol, words]);
    }
    format!("\n{branches}\n")
}

/// A class, ending with the line to copy.
fn failed(failure: &Failure, how: (&str, &str)) -> String {
    let mut out = format!(
        "\n{} broke {} in {} runs; the smallest has {} faults, {} transactions and {} events\n  {}\n",
        failure.protocol,
        failure.class,
        failure.seeds.len(),
        failure.size.faults,
        failure.size.transactions,
        failure.size.events,
        failure.shown.replace('\n', "\n  ")
    );
    if let Some(dir) = &failure.dir {
        let _ = writeln!(
            out,
            "  kept in {dir}: ordain replay {dir}, ordain shrink {dir}"
        );
    }
    let _ = writeln!(out, "{}", seed_and_command(failure, how));
    out
}

/// One annotation for each class of failures, as GitHub Actions reads them from a job's output.
pub fn annotations(report: &Report, how: (&str, &str)) -> Vec<String> {
    let mut lines: Vec<String> = { report.failures.iter() }
        .map(|failure| {
            let title = format!("{} broke {}", failure.protocol, failure.class);
            let runs = failure.seeds.len();
            let message = format!(
                "{} ({runs} runs)\n{}",
                failure.shown,
                again(how, &failure.protocol, failure.seed)
            );
            annotation(&title, &message)
        })
        .collect();
    lines.extend(report.regressions.iter().filter_map(|one| {
        let class = one.class.as_ref()?;
        let message = format!("{} fails again under {}: {class}", one.path, one.protocol);
        Some(annotation("regression", &message))
    }));
    lines.extend(report.nondeterministic.iter().map(|one| {
        annotation(
            "ordain is not deterministic",
            &again(how, &one.protocol, one.seed),
        )
    }));
    lines
}

/// See "Workflow commands for GitHub Actions": newlines and, in properties, separators are escaped.
fn annotation(title: &str, message: &str) -> String {
    let escape = |text: &str| {
        text.replace('%', "%25")
            .replace('\r', "%0D")
            .replace('\n', "%0A")
    };
    let title = escape(title).replace(':', "%3A").replace(',', "%2C");
    format!("::error title=ordain%3A {title}::{}", escape(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_one_line_with_separators_escaped() {
        assert_eq!(
            annotation("2pc broke a/b: c, d", "50% lost\nsecond line"),
            "::error title=ordain%3A 2pc broke a/b%3A c%2C d::50%25 lost%0Asecond line"
        );
    }
}
