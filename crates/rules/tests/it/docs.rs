//! The language's reference: its examples load, their tests pass, and its tables are those of the code.

use crate::{compiled, refused};
use std::{fmt::Write, fs, path::Path};
use taskbot_rules::{Filter, RuleFiles, rule_test, script::FUNCTIONS};

fn reference() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rules.md");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced blocks of the page: what stands after the fence, and the text.
pub(crate) fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((info.to_owned(), text.join("\n") + "\n"));
        }
    }
    blocks
}

/// The name of the file that a block shows, if it shows one beside the rules.
fn file_of(info: &str) -> Option<&str> {
    info.split_once(' ').map(|(_, name)| name).filter(|name| name.contains('.'))
}

#[test]
fn every_example_loads_and_its_tests_pass() {
    let page = reference();
    let blocks = blocks(&page);
    let mut beside = RuleFiles::default();
    for (info, text) in &blocks {
        let Some(name) = file_of(info) else { continue };
        // The first registry serves all examples, a later one shows more fields.
        let name = if beside.files.contains_key(name) { format!("again/{name}") } else { name.to_owned() };
        if let Some(registry) = name.strip_prefix("again/") {
            compiled(&RuleFiles::of([(registry, text.as_str())]));
        } else {
            beside.files.insert(name, text.as_str().into());
        }
    }
    let mut examples = 0;
    for (info, text) in blocks.iter().filter(|(info, _)| info == "yaml rules") {
        let mut files = beside.clone();
        files.files.insert("rules.yaml".to_owned(), text.as_str().into());
        let compiled = compiled(&files);
        assert_eq!(compiled.report.to_string(), "", "{info}\n{text}");
        let outcomes = rule_test::run(&compiled.rule_set);
        let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed).collect();
        assert!(failed.is_empty() && !outcomes.is_empty(), "{failed:#?}");
        examples += 1;
    }
    assert!(examples >= 8, "{examples} examples were found");
    for (info, _) in &blocks {
        assert!(
            ["yaml rules", "filters", "text modeline"].contains(&info.as_str()) || file_of(info).is_some(),
            "```{info} is not tested"
        );
    }
}

#[test]
fn the_modeline_is_that_of_the_code() {
    let page = reference();
    let (_, shown) = blocks(&page).into_iter().find(|(info, _)| info == "text modeline").unwrap();
    assert_eq!(shown, taskbot_rules::schema::modeline("rules.schema.json"));
}

#[test]
fn every_filter_can_be_read() {
    let page = reference();
    let filters: Vec<_> = blocks(&page).into_iter().filter(|(info, _)| info == "filters").collect();
    assert!(!filters.is_empty());
    for filter in filters.iter().flat_map(|(_, text)| text.lines()) {
        Filter::parse(filter).unwrap_or_else(|report| panic!("{filter}: {report}"));
    }
}

#[test]
fn every_predicate_has_an_example() {
    // The mistake lists all names.
    let report = refused(&crate::files(&crate::rule("when: {body.x: {}}\nthen: [{task: rpmlint}]")));
    let help = report.diagnostics[0].help.clone().unwrap();
    let names: Vec<&str> = help.strip_prefix("known predicates are ").unwrap().split(", ").collect();
    assert!(names.len() > 15);
    let rules: String = blocks(&reference())
        .into_iter()
        .filter(|(info, _)| info == "yaml rules")
        .map(|(_, text)| text)
        .collect();
    for name in names {
        assert!(rules.contains(&format!("{name}: ")), "`{name}` has no example");
    }
}

#[test]
fn the_table_of_functions_is_that_of_the_code() {
    let mut table = String::from("| function | what it does | example |\n|---|---|---|\n");
    let cell = |text: &str| text.replace('|', "\\|");
    for function in FUNCTIONS {
        let (signature, summary) = (cell(function.signature), cell(function.summary));
        let (example, gives) = (cell(function.example), cell(function.gives));
        writeln!(table, "| `{signature}` | {summary} | `{example}` → `{gives}` |").unwrap();
    }
    let page = reference();
    let (_, rest) = page.split_once("<!-- functions: begin -->\n").unwrap();
    let (shown, _) = rest.split_once("<!-- functions: end -->").unwrap();
    assert!(shown == table, "docs/rules.md, section Functions, must be:\n{table}");
}
