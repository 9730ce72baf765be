//! JUnit XML, which CI servers read.

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::report::{Failure, Report};

/// A campaign as JUnit: one suite a protocol, with one case for its runs as a whole and a failing one for each
/// class of failures; and one suite of the regressions. `again` is the command that repeats a failure.
pub fn junit(report: &Report, again: impl Fn(&Failure) -> String) -> String {
    let mut xml = quick_junit::Report::new(format!("ordain fuzz {}", report.scenario));
    for line in &report.protocols {
        let mut suite = TestSuite::new(format!("{} {}", report.scenario, line.protocol));
        let of_protocol = |failure: &&Failure| failure.protocol == line.protocol;
        for failure in report.failures.iter().filter(of_protocol) {
            let runs = failure.seeds.len();
            let message = format!("{} in {runs} runs: {}", failure.class, again(failure));
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status
                .set_message(message)
                .set_type(failure.class.property.clone())
                .set_description(failure.shown.clone());
            suite.add_test_case(TestCase::new(failure.class.to_string(), status));
        }
        let all = format!("{} runs as promised, {} undecided", line.ok, line.unknown);
        let status = match line.unknown {
            0 => TestCaseStatus::success(),
            _ => TestCaseStatus::non_success(NonSuccessKind::Error),
        };
        suite.add_test_case(TestCase::new(all, status));
        xml.add_test_suite(suite);
    }
    if !report.regressions.is_empty() {
        let mut suite = TestSuite::new(format!("{} regressions", report.scenario));
        for one in &report.regressions {
            let status = match &one.class {
                None => TestCaseStatus::success(),
                Some(class) => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_message(format!("{} under {}", class, one.protocol));
                    status
                }
            };
            suite.add_test_case(TestCase::new(one.path.clone(), status));
        }
        xml.add_test_suite(suite);
    }
    xml.to_string().expect("plain data is XML")
}
