//! Campaigns as text: for a terminal, and as annotations of GitHub Actions.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::text::table;
use crate::campaign::report::{Failure, LeftOut, Line, Report};
use crate::registry::Registry;
use crate::verdict::Conclusion;

/// The command that repeats a run.
pub fn again(report: &Report, protocol: &str, seed: u64) -> String {
    let overrides = report.overrides.iter();
    let set: String = overrides.map(|set| format!(" --set '{set}'")).collect();
    let scenario = &report.asked_for;
    format!("ordain run {scenario} --swarm --protocol {protocol} --seed {seed}{set}")
}

/// A campaign. If something failed, the first and the last line give a seed and a command.
pub fn report(registry: &Registry, report: &Report) -> String {
    let mut out = String::new();
    if let Some(first) = report.failures.first() {
        let _ = writeln!(out, "{}\n", seed_and_command(report, first));
    }
    out.push_str(&vacuous(report));
    out.push_str(&heading(report));
    out.push_str(&idle(report));
    out.push_str(&never_reached(registry, report));
    out.push_str(&lines(report));
    out.push_str(&tried(report));
    out.push_str(&reached(report));
    out.push_str(&regressions(report));
    for one in &report.nondeterministic {
        let _ = writeln!(
            out,
            "NOT DETERMINISTIC: {} gave {} and then {}\nthis is a bug in ordain: please report it with the \
             command and the scenario",
            again(report, &one.protocol, one.seed),
            one.first,
            one.again
        );
    }
    for one in &report.undecided {
        let _ = writeln!(out, "undecided: {}", again(report, &one.protocol, one.seed));
    }
    for failure in &report.failures {
        out.push_str(&failed(report, failure));
    }
    out
}

/// The runs that put nothing to the test, each kind with a command: whatever the tables say is not about them.
fn vacuous(report: &Report) -> String {
    let mut out = String::new();
    for line in report
        .protocols
        .iter()
        .filter(|line| report.is_untested(line))
    {
        let _ = writeln!(out, "{}", untested(line));
    }
    for group in &report.vacuous {
        let line = { report.protocols.iter() }.find(|line| line.protocol == group.protocol);
        let of = line.map_or(0, |line| match group.permanent {
            true => line.permanent,
            false => line.runs - line.permanent,
        });
        let _ = writeln!(
            out,
            "vacuous: {} of {of} runs of {} {} permanent faults, such as seed {}: {}\n  {}",
            group.seeds.len(),
            group.protocol,
            if group.permanent { "with" } else { "without" },
            group.seed,
            group.reason,
            again(report, &group.protocol, group.seed)
        );
    }
    match out.is_empty() {
        true => out,
        false => out + "\n",
    }
}

fn untested(line: &Line) -> String {
    format!(
        "NOT TESTED: {} committed {} of {} transactions; {} of {} runs were vacuous",
        line.protocol, line.counts.committed, line.counts.invoked, line.vacuous, line.runs
    )
}

/// The committed plans: what each showed, and which were not run.
fn regressions(report: &Report) -> String {
    let mut out = String::new();
    for one in &report.regressions {
        let found = match (&one.class, one.undecided, &one.vacuity) {
            (Some(class), _, _) => format!("FAILS AGAIN: {class}\n  {}", one.again()),
            (None, true, _) => format!("undecided\n  {}", one.again()),
            (None, false, Some(vacuity)) => format!("vacuous: {}", vacuity.reason),
            (None, false, None) => "kept".to_owned(),
        };
        let _ = writeln!(
            out,
            "regression {} under {}: {found}",
            one.path, one.protocol
        );
    }
    if !report.left_out.is_empty() {
        let (ran, left_out) = (report.regressions.len(), left_out(&report.left_out));
        let _ = writeln!(out, "regressions: {ran} run, {left_out}");
    }
    out
}

/// How many regressions were not run, and why: `2 left out (scenario churn)`.
pub fn left_out(left_out: &[LeftOut]) -> String {
    let reasons: BTreeSet<&str> = left_out.iter().map(|one| one.why.as_str()).collect();
    let reasons: Vec<&str> = reasons.into_iter().collect();
    match left_out.len() {
        0 => "none left out".to_owned(),
        count => format!("{count} left out ({})", reasons.join(", ")),
    }
}

fn seed_and_command(report: &Report, failure: &Failure) -> String {
    let command = again(report, &failure.protocol, failure.seed);
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
    let missing = match report.missing.as_slice() {
        [] => String::new(),
        missing => format!("PARTS MISSING: {}\n", missing.join(", ")),
    };
    format!(
        "{missing}{stopped}{} runs of {}{part} from seed {} on, {:.1} a second; {}\n",
        report.runs,
        report.scenario,
        report.first_seed,
        report.runs_per_second,
        match (report.repeated, report.nondeterministic.len()) {
            (0, _) => "none of them repeated".to_owned(),
            (repeated, 0) => format!("{repeated} of them repeated, all alike"),
            (repeated, n) => format!("{repeated} of them repeated, {n} of those otherwise"),
        }
    )
}

/// Values of options with which nothing committed: nothing was put to the test there.
fn idle(report: &Report) -> String {
    let mut idle = table(&["protocol", "option", "runs in which nothing committed"]);
    for line in &report.protocols {
        for (value, tried) in Report::idle(line) {
            let runs = tried.runs.to_string();
            idle.add_row([line.protocol.as_str(), value, runs.as_str()]);
        }
    }
    match idle.is_empty() {
        true => String::new(),
        false => format!("\n{idle}\n"),
    }
}

/// How much of the options was drawn.
fn tried(report: &Report) -> String {
    let line = |line: &Line| {
        let runs = line.tried.values().map(|tried| tried.runs);
        let (Some(least), Some(most)) = (runs.clone().min(), runs.max()) else {
            return String::new();
        };
        let (protocol, values) = (&line.protocol, line.tried.len());
        format!(
            "{protocol}: {values} values of options were drawn, each in {least} to {most} runs\n"
        )
    };
    report.protocols.iter().map(line).collect()
}

/// Rare branches that no run reached. They come first: the campaign says nothing about them.
fn never_reached(registry: &Registry, report: &Report) -> String {
    let mut never = table(&["protocol", "never reached", "what it is"]);
    for line in &report.protocols {
        let declared = registry.marks(&line.protocol);
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
        "kept",
        "violations",
        "undecided",
        "vacuous",
        "transactions",
        "committed",
        "declined",
        "aborted",
        "unknown",
    ]);
    for line in &report.protocols {
        let counted = |count: u64, verdict| match line.expects == Some(verdict) {
            true => format!("{count} (expected)"),
            false => count.to_string(),
        };
        runs.add_row([
            line.protocol.clone(),
            line.runs.to_string(),
            line.kept.to_string(),
            counted(line.violations, Conclusion::Violation),
            line.unknown.to_string(),
            counted(line.vacuous, Conclusion::Vacuous),
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
fn failed(report: &Report, failure: &Failure) -> String {
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
    let _ = writeln!(out, "{}", seed_and_command(report, failure));
    out
}

/// One annotation for each class of failures, as GitHub Actions reads them from a job's output.
pub fn annotations(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = { report.failures.iter() }
        .map(|failure| {
            let title = format!("{} broke {}", failure.protocol, failure.class);
            let runs = failure.seeds.len();
            let message = format!(
                "{} ({runs} runs)\n{}",
                failure.shown,
                again(report, &failure.protocol, failure.seed)
            );
            annotation(&title, &message)
        })
        .collect();
    lines.extend(report.regressions.iter().filter_map(|one| {
        let class = one.class.as_ref()?;
        let (path, protocol, again) = (&one.path, &one.protocol, one.again());
        let message = format!("{path} fails again under {protocol}: {class}\n{again}");
        Some(annotation("regression", &message))
    }));
    lines.extend({ report.protocols.iter() }.filter_map(|line| {
        let untested = report.is_untested(line).then(|| untested(line))?;
        let title = format!("{} was not put to the test", line.protocol);
        Some(annotation(&title, &untested))
    }));
    lines.extend(report.nondeterministic.iter().map(|one| {
        annotation(
            "ordain is not deterministic",
            &again(report, &one.protocol, one.seed),
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
    use crate::campaign::junit::junit;
    use crate::campaign::report::{Nondeterministic, Regression, Tally, VacuousRuns};
    use crate::verdict::VacuityKind;

    fn regression(undecided: bool) -> Regression {
        Regression {
            path: "regressions/a.json".to_owned(),
            protocol: "2pc".to_owned(),
            undecided,
            vacuity: None,
            class: None,
        }
    }

    fn campaign() -> Report {
        let line = Line {
            protocol: "2pc".to_owned(),
            runs: 3,
            permanent: 0,
            kept: 3,
            violations: 0,
            unknown: 0,
            vacuous: 0,
            expects: None,
            promises_nothing: false,
            counts: Tally {
                invoked: 30,
                committed: 30,
                ..Tally::default()
            },
            marks: Default::default(),
            tried: Default::default(),
        };
        Report {
            ordain: "0".to_owned(),
            scenario: "bank".to_owned(),
            asked_for: "my/bank.toml".to_owned(),
            overrides: vec!["workload.rate=3".to_owned()],
            scenario_digest: "0".to_owned(),
            first_seed: 1,
            parts: vec!["0/1".to_owned()],
            missing: Vec::new(),
            interrupted: false,
            runs: 3,
            runs_per_second: 1.0,
            repeated: 0,
            nondeterministic: Vec::new(),
            digest: "0".to_owned(),
            protocols: vec![line],
            failures: Vec::new(),
            undecided: Vec::new(),
            vacuous: Vec::new(),
            regressions: vec![regression(false)],
            left_out: Vec::new(),
        }
    }

    fn as_junit(report: &Report) -> String {
        junit(report, |protocol, seed| again(report, protocol, seed))
    }

    #[test]
    fn an_undecided_regression_is_not_shown_as_promised() {
        let mut campaign = campaign();
        assert!(!campaign.is_undecided());
        assert!(
            super::report(&Registry::standard(), &campaign)
                .contains("regressions/a.json under 2pc: kept")
        );
        assert!(!as_junit(&campaign).contains("<error"));
        campaign.regressions[0] = regression(true);
        assert!(campaign.is_undecided());
        let text = super::report(&Registry::standard(), &campaign);
        assert!(!text.contains("kept\n"), "{text}");
        let wanted = "under 2pc: undecided\n  ordain run --plan regressions/a.json";
        assert!(text.contains(wanted), "{text}");
        let xml = as_junit(&campaign);
        assert_eq!(xml.matches("<error").count(), 1, "{xml}");
    }

    fn vacuous(seeds: &[u64], permanent: bool) -> VacuousRuns {
        VacuousRuns {
            protocol: "2pc".to_owned(),
            permanent,
            kind: VacuityKind::NothingReached,
            seed: seeds[0],
            reason: "0 of 10 requests reached a coordinator".to_owned(),
            seeds: seeds.to_vec(),
        }
    }

    #[test]
    fn vacuous_runs_come_first_and_more_than_one_in_a_hundred_make_the_campaign_vacuous() {
        let mut campaign = campaign();
        (campaign.runs, campaign.protocols[0].runs) = (200, 200);
        campaign.protocols[0].vacuous = 2;
        campaign.vacuous = vec![vacuous(&[7, 9], false)];
        assert!(!campaign.is_vacuous(), "one in a hundred is allowed");
        let wanted = "vacuous: 2 of 200 runs of 2pc without permanent faults, such as seed 7: 0 of 10 requests reached \
                      a coordinator\n  ordain run my/bank.toml --swarm --protocol 2pc --seed 7";
        assert!(super::report(&Registry::standard(), &campaign).starts_with(wanted));
        assert_eq!(as_junit(&campaign).matches("<error").count(), 0);
        campaign.vacuous = vec![vacuous(&[7, 8, 9], false)];
        assert!(campaign.is_vacuous());
        assert!(
            super::report(&Registry::standard(), &campaign)
                .starts_with("NOT TESTED: 2pc committed 30 of 30")
        );
        assert_eq!(as_junit(&campaign).matches("<error").count(), 1);
        assert!(annotations(&campaign)[0].contains("2pc was not put to the test"));
        campaign.protocols[0].promises_nothing = true;
        assert!(!campaign.is_vacuous(), "no promise was left untested");
        campaign.protocols[0].promises_nothing = false;
        campaign.protocols[0].expects = Some(Conclusion::Vacuous);
        campaign.vacuous.clear();
        assert!(!campaign.is_vacuous(), "as expected");
    }

    #[test]
    fn runs_with_permanent_faults_are_counted_apart() {
        let mut campaign = campaign();
        (campaign.runs, campaign.protocols[0].runs) = (60, 60);
        campaign.protocols[0].permanent = 50;
        campaign.vacuous = vec![vacuous(&[1, 2, 3, 4, 5, 6, 7, 8, 9], true)];
        assert!(!campaign.is_vacuous());
        let text = super::report(&Registry::standard(), &campaign);
        assert!(
            text.starts_with("vacuous: 9 of 50 runs of 2pc with permanent"),
            "{text}"
        );
        campaign.vacuous.push(vacuous(&[11], false));
        assert!(campaign.is_vacuous(), "one of ten");
    }

    #[test]
    fn a_protocol_whose_runs_are_all_vacuous_makes_the_campaign_vacuous_whatever_it_promises() {
        let mut campaign = campaign();
        let line = &mut campaign.protocols[0];
        (line.permanent, line.promises_nothing) = (3, true);
        (line.kept, line.vacuous) = (1, 2);
        assert!(!campaign.is_vacuous());
        campaign.protocols[0].vacuous = 3;
        assert!(campaign.is_vacuous());
        campaign.protocols[0].expects = Some(Conclusion::Vacuous);
        assert!(!campaign.is_vacuous(), "as expected");
    }

    #[test]
    fn a_run_that_is_not_deterministic_is_a_case_of_junit_with_its_command() {
        let mut campaign = campaign();
        campaign.nondeterministic.push(Nondeterministic {
            protocol: "2pc".to_owned(),
            seed: 7,
            first: "aa".to_owned(),
            again: "bb".to_owned(),
        });
        let xml = as_junit(&campaign);
        assert!(xml.contains("seed 7 is not deterministic"), "{xml}");
        assert!(xml.contains("ordain run my/bank.toml --swarm"), "{xml}");
    }

    #[test]
    fn repetitions_are_called_alike_only_where_there_were_any() {
        let mut campaign = campaign();
        assert!(heading(&campaign).ends_with("; none of them repeated\n"));
        campaign.repeated = 1;
        assert!(heading(&campaign).ends_with("; 1 of them repeated, all alike\n"));
    }

    #[test]
    fn annotations_are_one_line_with_separators_escaped() {
        assert_eq!(
            annotation("2pc broke a/b: c, d", "50% lost\nsecond line"),
            "::error title=ordain%3A 2pc broke a/b%3A c%2C d::50%25 lost%0Asecond line"
        );
    }
}
