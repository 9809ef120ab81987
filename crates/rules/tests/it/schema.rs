//! JSON Schemas of rule files, `tasks.yaml` and `task.yaml`.

use crate::{refused, rule};
use jsonschema::Validator;
use model::yaml::Reader;
use serde_json::Value;
use std::{fs, path::Path};
use taskbot_rules::{
    RuleFiles,
    load::FileKind,
    read_folder,
    schema::{self, Kind},
};

fn validator(kind: Kind) -> Validator {
    jsonschema::draft202012::new(&schema::schema(kind)).unwrap()
}

/// What is wrong with a YAML text by a schema; `null` is an empty file.
fn mistakes(validator: &Validator, name: &str, text: &str) -> Vec<String> {
    let reader = Reader::new(name, text);
    let value = reader.parse().unwrap_or_else(|| panic!("{name}\n{text}")).to_json();
    if value.is_null() {
        return Vec::new();
    }
    validator.iter_errors(&value).map(|error| format!("{name}: {}: {error}", error.instance_path())).collect()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn every_shipped_file_and_example_meets_its_schema() {
    let validators = Kind::ALL.map(validator);
    let [rules, tasks, task_file] = &validators;
    let mut found = Vec::new();
    let mut files = RuleFiles::default();
    for folder in ["rules", "rules/demo"] {
        let read = read_folder(&root().join(folder)).unwrap().files;
        files.files.extend(read.into_iter().map(|(name, text)| (format!("{folder}/{name}"), text)));
    }
    let reference = fs::read_to_string(root().join("docs/rules.md")).unwrap();
    for (at, (info, text)) in crate::docs::blocks(&reference).into_iter().enumerate() {
        let name = if info == "yaml rules" {
            format!("{at}.yaml")
        } else {
            info.split_once(' ').map_or_else(String::new, |(_, name)| format!("{at}/{name}"))
        };
        files.files.insert(name, text.into());
    }
    let mut seen = [0, 0];
    for (path, text) in &files.files {
        let name = path.rsplit('/').next().unwrap();
        match FileKind::of(name) {
            Some(FileKind::Rules | FileKind::Tests) if !path.contains("facts/") => {
                seen[0] += 1;
                found.extend(mistakes(rules, path, text));
            }
            Some(FileKind::Registry) => {
                seen[1] += 1;
                found.extend(mistakes(tasks, path, text));
            }
            _ => {}
        }
    }
    assert!(seen[0] > 8 && seen[1] > 2, "{seen:?}");
    let mut repos = 0;
    for entry in fs::read_dir(root().join("deploy/task-repos")).unwrap() {
        let path = entry.unwrap().path().join("task.yaml");
        if let Ok(text) = fs::read_to_string(&path) {
            repos += 1;
            found.extend(mistakes(task_file, &path.display().to_string(), &text));
        }
    }
    assert!(repos > 4, "{repos}");
    assert!(found.is_empty(), "{found:#?}");
}

/// The fields that a mistake lists: of what has a field `zzzz` in it.
fn known(report: &model::diagnostic::Report) -> Vec<String> {
    let one = report.diagnostics.iter().find(|one| one.message.ends_with("no field `zzzz`"));
    let help = one.unwrap_or_else(|| panic!("{report}")).help.clone().unwrap();
    help.strip_prefix("known are ").unwrap().split(", ").map(str::to_owned).collect()
}

#[test]
fn every_field_that_the_compiler_knows_is_in_the_schema() {
    let has = |kind: Kind, pointer: &str, report: &model::diagnostic::Report| {
        let schema = schema::schema(kind);
        let properties = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).as_object().unwrap();
        let mut known = known(report);
        known.sort();
        let mut shown: Vec<_> = properties.keys().cloned().collect();
        shown.sort();
        assert_eq!(shown, known, "{pointer}");
    };
    let rules =
        |pointer: &str, fields: &str| has(Kind::Rules, pointer, &refused(&crate::files(&rule(fields))));
    let then = |pointer: &str, entry: &str| rules(pointer, &format!("then: [{entry}]"));
    rules("/$defs/rule/properties", "zzzz: 1\nthen: [{task: rpmlint}]");
    rules("/$defs/rule/properties/collect/properties", "collect: {zzzz: 1}\nthen: [{task: rpmlint}]");
    rules("/$defs/rule/properties/limits/properties", "limits: {zzzz: 1}\nthen: [{task: rpmlint}]");
    rules("/$defs/rule/properties/dedupe/properties", "dedupe: {zzzz: 1}\nthen: [{task: rpmlint}]");
    rules(
        "/$defs/rule/properties/for_each/additionalProperties/anyOf/1/properties",
        "for_each: {a: {zzzz: 1}}\nthen: [{task: rpmlint}]",
    );
    then("/$defs/task/properties", "{task: rpmlint, zzzz: 1}");
    then("/$defs/task/properties/needs/properties", "{task: rpmlint, needs: {zzzz: 1}}");
    then("/$defs/task/properties/group/properties", "{task: rpmlint, group: {zzzz: 1}}");
    then("/$defs/item/properties", "{task: rpmlint, item: {zzzz: 1}}");
    then("/$defs/cancel/properties/cancel/properties", "{cancel: {zzzz: 1}}");
    then("/$defs/emit/properties/emit/properties", "{emit: {zzzz: 1}}");
    then("/$defs/batch/properties", "{batch: {name: a}, zzzz: 1}");
    let file = |pointer: &str, text: &str| has(Kind::Rules, pointer, &refused(&crate::files(text)));
    file("/properties", "zzzz: 1\n");
    file(
        "/$defs/rule/properties/on/anyOf/1/properties",
        "rules: [{name: r, on: {schedule: \"@daily\", zzzz: 1}, then: [{task: rpmlint}]}]\n",
    );
    file("/$defs/test/properties", "tests: [{zzzz: 1}]\n");
    file(
        "/$defs/test/properties/event/anyOf/1/properties",
        "tests: [{name: a, event: {zzzz: 1}, expect: {}}]\n",
    );
    let registry = |text: &str| refused(&RuleFiles::of([("tasks.yaml", text)]));
    has(
        Kind::Tasks,
        "/properties/tasks/additionalProperties/properties",
        &registry("tasks: {a: {zzzz: 1}}\n"),
    );
    let task = |pointer: &str, text: &str| {
        let report = model::task_file::parse("task.yaml", text).unwrap_err();
        has(Kind::TaskFile, pointer, &report);
    };
    let part = |pointer: &str, part: &str| task(pointer, &format!("name: a\nrun: b\n{part}\n"));
    part("/properties", "zzzz: 1");
    part("/properties/inputs/additionalProperties/properties", "inputs: {a: {zzzz: 1}}");
    part(
        "/properties/environment/anyOf/0/properties/container/properties",
        "environment: {container: {zzzz: 1}}",
    );
    part(
        "/properties/environment/anyOf/0/properties/sandbox/properties",
        "environment: {sandbox: {zzzz: 1}}",
    );
    part(
        "/properties/environment/anyOf/0/properties/external/properties",
        "environment: {external: {zzzz: 1}}",
    );
    part("/properties/needs/properties", "needs: {zzzz: 1}");
    part("/properties/fetch/items/properties", "fetch: [{zzzz: 1}]");
    part("/properties/timeout/properties", "timeout: {zzzz: 1}");
    part("/properties/results/properties", "results: {zzzz: 1}");
    part("/properties/artifacts/properties", "artifacts: {zzzz: 1}");
    part("/properties/retry/properties", "retry: {zzzz: 1}");
}

#[test]
fn mistakes_are_found_by_the_schema_too() {
    let validator = validator(Kind::Rules);
    for (text, good) in [
        ("rules: [{name: r, on: a, then: [{task: t}]}]", true),
        (
            "rules: [{name: r, on: a, when: {body.x: {prefix: [a], not: [b, {gt: 1}]}}, then: [{task: t}]}]",
            true,
        ),
        ("rules: [{name: r, on: a, then: []}]", false),
        ("rules: [{name: r, then: [{task: t}]}]", false),
        ("rules: [{name: r, on: a, wen: {}, then: [{task: t}]}]", false),
        ("rules: [{name: r, on: a, when: {body.x: {prefxi: a}}, then: [{task: t}]}]", false),
        ("rules: [{name: r, on: a, when: {bod.x: 1}, then: [{task: t}]}]", false),
        ("rules: [{name: r, on: a, then: [{task: t, priority: [1]}]}]", false),
    ] {
        assert_eq!(mistakes(&validator, "r.yaml", text).is_empty(), good, "{text}");
    }
}

#[test]
fn a_modeline_names_the_schema() {
    assert_eq!(schema::modeline("x.json"), "# yaml-language-server: $schema=x.json\n");
    for kind in Kind::ALL {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        let parsed: Value = serde_json::from_str(&schema::text(kind)).unwrap();
        assert_eq!(parsed, schema::schema(kind));
    }
}
