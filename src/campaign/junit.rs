//! JUnit XML, which CI servers read.

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::report::{Regression, Report};

/// A campaign as JUnit: one suite a protocol, with one case for its runs as a whole and a failing one for each
/// class of failures and each run that is not deterministic; and one suite of the regressions. `again` is the command
/// that repeats a protocol's run of a seed.
pub fn junit(report: &Report, again: impl Fn(&str, u64) -> String) -> String {
    let mut xml = quick_junit::Report::new(format!("ordain fuzz {}", report.scenario));
    for line in &report.protocols {
        let mut suite = TestSuite::new(format!("{} {}", report.scenario, line.protocol));
        let failures = report.failures.iter();
        for failure in failures.filter(|one| one.protocol == line.protocol) {
            let runs = failure.seeds.len();
            let again = again(&failure.protocol, failure.seed);
            let message = format!("{} in {runs} runs: {again}", failure.class);
            let mut status = bad(NonSuccessKind::Failure, message);
            status
                .set_type(failure.class.property.clone())
                .set_description(failure.shown.clone());
            suite.add_test_case(TestCase::new(failure.class.to_string(), status));
        }
        let nondeterministic = report.nondeterministic.iter();
        for one in nondeterministic.filter(|one| one.protocol == line.protocol) {
            let again = again(&one.protocol, one.seed);
            let message = format!("{} and then {}: {again}", one.first, one.again);
            let name = format!("seed {} is not deterministic", one.seed);
            suite.add_test_case(TestCase::new(name, bad(NonSuccessKind::Error, message)));
        }
        let all = format!(
            "{} runs kept every promise, {} undecided, {} vacuous",
            line.kept, line.unknown, line.vacuous
        );
        let status = match line.unknown > 0 || report.is_untested(line) {
            false => TestCaseStatus::success(),
            true => TestCaseStatus::non_success(NonSuccessKind::Error),
        };
        suite.add_test_case(TestCase::new(all, status));
        xml.add_test_suite(suite);
    }
    if !report.regressions.is_empty() {
        let mut suite = TestSuite::new(format!("{} regressions", report.scenario));
        for one in &report.regressions {
            suite.add_test_case(TestCase::new(one.path.clone(), regression(one)));
        }
        xml.add_test_suite(suite);
    }
    xml.to_string().expect("plain data is XML")
}

fn regression(one: &Regression) -> TestCaseStatus {
    let again = one.again();
    match (&one.class, one.undecided) {
        (Some(class), _) => {
            let message = format!("{class} under {}: {again}", one.protocol);
            bad(NonSuccessKind::Failure, message)
        }
        (None, true) => {
            let message = format!("undecided under {}: {again}", one.protocol);
            bad(NonSuccessKind::Error, message)
        }
        (None, false) => TestCaseStatus::success(),
    }
}

fn bad(kind: NonSuccessKind, message: String) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message);
    status
}
