//! Tests as JUnit XML.

use super::TestOutcome;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::collections::BTreeMap;

/// The outcomes as JUnit XML: one suite for each file, one case for each test.
#[must_use]
pub fn junit(outcomes: &[TestOutcome]) -> String {
    let mut files: BTreeMap<&str, Vec<&TestOutcome>> = BTreeMap::new();
    for outcome in outcomes {
        files.entry(&outcome.file).or_default().push(outcome);
    }
    let mut report = Report::new("taskbot rule test");
    for (file, outcomes) in files {
        let mut suite = TestSuite::new(file);
        suite.add_test_cases(outcomes.into_iter().map(case));
        report.add_test_suite(suite);
    }
    // Writing into memory does not fail, and a report that cannot be written says nothing.
    report.to_string().unwrap_or_default()
}

fn case(outcome: &TestOutcome) -> TestCase {
    let status = match &outcome.difference {
        None => TestCaseStatus::success(),
        Some(difference) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(difference.lines().next().unwrap_or_default());
            status.set_description(difference.as_str());
            status
        }
    };
    let mut case = TestCase::new(outcome.name.as_str(), status);
    case.set_classname(outcome.file.as_str());
    case.extra.insert("file".into(), outcome.file.as_str().into());
    case.extra.insert("line".into(), outcome.line.to_string().into());
    case
}
