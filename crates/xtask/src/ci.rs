//! `cargo xtask ci`: everything that must hold before a change is taken.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::shell::{Interrupted, Shell};
use crate::test;
use crate::workspace::Workspace;

/// How the README's first command begins; it may have options of its own.
const DEMO: &str = "cargo run --release -- demo";
/// Makes the demo end by itself, with the task's outcome as exit code.
const DEMO_ONCE: &str = "--once";

/// One step: its name, whether it passed, how long it took.
type Outcome = (&'static str, bool, Duration);

/// A step's name and what it does: true when it passed.
type Step = (&'static str, fn(&Shell, &Workspace) -> Result<bool>);

const STEPS: &[Step] = &[
    ("format", |shell, workspace| cargo(shell, workspace, &["fmt", "--all", "--check"])),
    ("lints", |shell, workspace| {
        cargo(shell, workspace, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
    }),
    ("tests", |shell, workspace| test::run(shell, workspace, false, &[])),
    ("documentation", |shell, workspace| {
        let mut command = workspace.cargo();
        run(shell, command.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-Dwarnings"))
    }),
    ("README's first command", demo),
];

/// Runs all steps, also after one has failed. The last line of the output is the count.
pub(crate) fn run_all(shell: &Shell, workspace: &Workspace) -> Result<bool> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (name, step) in STEPS {
        println!("\n== {name}");
        let started = Instant::now();
        let passed = match step(shell, workspace) {
            Ok(passed) => passed,
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                eprintln!("error: {error:#}");
                false
            }
        };
        outcomes.push((name, passed, started.elapsed()));
    }
    print!("\n{}", table(&outcomes));
    Ok(outcomes.iter().all(|&(_, passed, _)| passed))
}

fn table(outcomes: &[Outcome]) -> String {
    let width = outcomes.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let rows: String = outcomes
        .iter()
        .map(|(name, passed, time)| {
            let verdict = if *passed { "passed" } else { "FAILED" };
            format!("{name:width$}  {verdict}  {:7.1} s\n", time.as_secs_f64())
        })
        .collect();
    let passed = outcomes.iter().filter(|&&(_, passed, _)| passed).count();
    format!("{rows}{passed} passed, {} failed\n", outcomes.len() - passed)
}

fn cargo(shell: &Shell, workspace: &Workspace, arguments: &[&str]) -> Result<bool> {
    run(shell, workspace.cargo().args(arguments))
}

fn run(shell: &Shell, command: &mut Command) -> Result<bool> {
    let status = shell.run(command)?;
    if !status.success() {
        eprintln!("error: {status}");
    }
    Ok(status.success())
}

/// Runs the first command that the README gives, as it stands there.
fn demo(shell: &Shell, workspace: &Workspace) -> Result<bool> {
    let readme = fs::read_to_string(workspace.root.join("README.md")).context("cannot read README.md")?;
    let line = first_command(&readme).with_context(|| format!("README.md has no line `{DEMO}`"))?;
    let mut words = line.split_whitespace().skip(1).collect::<Vec<_>>();
    if !words.contains(&DEMO_ONCE) {
        words.push(DEMO_ONCE);
    }
    let passed = cargo(shell, workspace, &words);
    let clean = shell.nothing_left("demo");
    Ok(passed? && clean)
}

/// The line of the demo, without a comment behind it.
fn first_command(readme: &str) -> Option<&str> {
    let line = readme.lines().map(str::trim).find(|line| line.starts_with(DEMO))?;
    Some(line.split(" #").next().unwrap_or(line).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        let seconds = Duration::from_secs_f64;
        let outcomes = [("format", true, seconds(1.25)), ("documentation", false, seconds(100.0))];
        let expect =
            "format         passed      1.2 s\ndocumentation  FAILED    100.0 s\n1 passed, 1 failed\n";
        assert_eq!(table(&outcomes), expect);
    }

    #[test]
    fn the_command_is_taken_from_the_readme() {
        let check =
            |readme: &str, expect: Option<&str>| assert_eq!(first_command(readme), expect, "{readme}");
        check("# t\n```sh\ncargo run --release -- demo   # look\n```\n", Some("cargo run --release -- demo"));
        check("    cargo run --release -- demo --once\n", Some("cargo run --release -- demo --once"));
        check("cargo build\n", None);
    }
}
