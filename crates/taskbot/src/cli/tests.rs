use super::*;
use clap::Command as ClapCommand;

/// All commands with their path, deepest last.
fn walk(command: &ClapCommand, path: &str, into: &mut Vec<(String, ClapCommand)>) {
    for sub in command.get_subcommands() {
        let path = format!("{path} {}", sub.get_name());
        into.push((path.clone(), sub.clone()));
        walk(sub, &path, into);
    }
}

fn all() -> Vec<(String, ClapCommand)> {
    let mut all = Vec::new();
    let mut command = Cli::command();
    command.build();
    walk(&command, "taskbot", &mut all);
    all
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example() {
    for (path, command) in all() {
        if path.split(' ').any(|word| word == "help") || command.has_subcommands() {
            continue;
        }
        let after = command.get_after_help().or_else(|| command.get_after_long_help());
        let after = after.map(ToString::to_string).unwrap_or_default();
        assert!(after.contains("Examples:\n"), "{path} has no examples");
        assert!(after.contains(&path), "the examples of {path} do not show it");
        assert!(command.get_about().is_some(), "{path} does not say what it is for");
    }
}

#[test]
fn every_example_parses() {
    let mut count = 0;
    for (path, command) in all() {
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = after
            .lines()
            .filter_map(|line| line.trim().split("   ").next())
            .filter(|line| line.contains("taskbot"));
        for line in lines.filter(|line| {
            path != "taskbot help" && !line.contains('`') && !line.contains(" changes nothing")
        }) {
            let words = words(line.split('|').next_back().unwrap_or_default());
            let words = words.split(|word| word == "&&" || word == ">").next().unwrap_or_default().to_vec();
            if words.first().is_none_or(|word| word != "taskbot") {
                continue;
            }
            Cli::command().try_get_matches_from(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
            count += 1;
        }
    }
    assert!(count > 60, "{count} examples");
}

#[test]
fn every_documented_command_parses() {
    let docs = include_str!("../../../../docs/workshop.md");
    let lines: Vec<&str> = docs
        .lines()
        .map(|line| line.trim_start_matches("$ "))
        .filter(|line| line.starts_with("taskbot "))
        .collect();
    assert!(lines.len() > 25, "{} commands", lines.len());
    for line in lines {
        let command = line.split(" #").next().unwrap_or_default();
        Cli::command().try_get_matches_from(words(command)).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

/// The words of a line as a shell has them, with single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.trim().chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn commands() {
    let names: Vec<String> = all()
        .into_iter()
        .filter(|(path, command)| !path.contains(" help") && !command.has_subcommands())
        .map(|(path, _)| path.trim_start_matches("taskbot ").to_owned())
        .collect();
    insta::assert_snapshot!(names.join("\n"), @r"
    demo
    up
    server
    worker list
    worker conformance
    worker enter
    worker cordon
    worker drain
    worker maintenance
    worker resume
    event send
    event tail
    event list
    event show
    event why
    event replay
    event record
    rule check
    rule test
    rule new
    rule schema
    rule explain
    rule list
    rule show
    rule enable
    rule disable
    rule shadow
    rule apply
    rule pause
    rule resume
    rule backlog
    rule release
    rule drop
    rule rollback
    rule history
    rule backtest
    rule reload
    task list
    task show
    task logs
    task watch
    task cancel
    task rerun
    task release
    task unhold
    task approve
    task submit
    task artifacts
    task reproduce
    task run-local
    result list
    result export
    result show
    queue list
    queue pause
    queue resume
    dlq list
    dlq show
    dlq requeue
    dlq drop
    sink list
    sink forget
    token create
    token jwt
    token list
    token revoke
    db migrate
    db prune
    config check
    config show
    config import
    doctor
    completions
    ");
}

#[test]
fn wrong_use_is_told() {
    let check = |line: &str, expect: &str| {
        let error = Cli::command().try_get_matches_from(words(line)).unwrap_err().to_string();
        assert!(error.contains(expect), "{line}: {error}");
    };
    check("taskbot taks list", "'task'");
    check("taskbot task watch", "<ID>");
    check("taskbot task submit", "<TASK>");
    check("taskbot task list -o xml", "[possible values: table, json, jsonl, yaml, markdown]");
    check("taskbot event send --data x", "SUBJECT");
    check("taskbot event tail --in --out", "cannot be used with");
}

#[test]
fn help() {
    let mut texts = vec![Cli::command().term_width(100).render_long_help().to_string()];
    for (path, command) in all().into_iter().filter(|(path, _)| !path.contains(" help")) {
        // The global options are the same everywhere.
        let help = command.term_width(100).render_long_help().to_string();
        let (own, rest) = help.split_once("Global options:").unwrap_or((&help, ""));
        let after = rest.find("\nExamples:").map_or("", |at| &rest[at..]);
        texts.push(format!("=== {path} ===\n{}\n{after}", own.trim_end()));
    }
    insta::assert_snapshot!("help", texts.join("\n\n"));
}
