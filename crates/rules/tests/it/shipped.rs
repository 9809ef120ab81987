//! The rules that ship with the project.

use model::event::RecordedMessage;
use std::{
    fs,
    path::{Path, PathBuf},
};
use taskbot_rules::{Options, RuleSet, compile, read_folder, rule_test};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Compiles a shipped folder, which must be without mistakes and warnings.
fn shipped(folder: &str) -> RuleSet {
    let files = read_folder(&root().join(folder)).unwrap_or_else(|report| panic!("{report}"));
    let compiled = compile(&files, &Options::default()).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(compiled.report.to_string(), "");
    compiled.rule_set
}

#[test]
fn the_shipped_rules_pass_their_tests() {
    for folder in ["rules", "rules/demo"] {
        let rules = shipped(folder);
        let outcomes = rule_test::run(&rules);
        let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        for rule in rules.rules() {
            let tested = |test: &&rule_test::TestCase| {
                test.expect.iter().any(|expected| {
                    let fires =
                        matches!(&expected.what, rule_test::Expect::Wishes(wishes) if !wishes.is_empty());
                    expected.rule == rule.name && fires
                })
            };
            let silent_in_demo = folder == "rules/demo" && rule.name.as_str() == "check-critical-path-again";
            assert!(
                silent_in_demo || rules.tests().iter().any(|test| tested(&test)),
                "{} has no test",
                rule.name
            );
        }
    }
}

/// All messages that are there for this test: the shipped ones, or with `TASKBOT_MESSAGES_DIR` that folder's.
fn messages() -> Vec<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the folder of recorded messages is given by the environment"
    )]
    let given = std::env::var_os("TASKBOT_MESSAGES_DIR").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| root().join("rules/fixtures"));
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

#[test]
fn no_message_makes_a_shipped_rule_err() {
    let rules = shipped("rules");
    let messages = messages();
    assert!(!messages.is_empty());
    let now = "2026-11-01T12:00:00Z".parse().unwrap();
    let mut errors = Vec::new();
    for path in &messages {
        let message: RecordedMessage = serde_json::from_slice(&fs::read(path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let event = message.into_event(&"bus".into(), now);
        event.check().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let evaluation = rules.evaluate(&event, now).unwrap();
        errors.extend(
            evaluation
                .verdicts
                .into_iter()
                .filter(|verdict| verdict.verdict.as_str() == "error")
                .map(|verdict| format!("{}: {verdict:?}", path.display())),
        );
    }
    assert!(errors.is_empty(), "{} of {}: {errors:#?}", errors.len(), messages.len());
}
