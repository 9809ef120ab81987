//! `cargo xtask test`: all tests against real services.

use std::process::{Command, ExitStatus};
use std::time::Instant;

use anyhow::Result;

use crate::services::{Exports, Services};
use crate::shell::{Shell, describe, step_done};
use crate::workspace::Workspace;

/// Asks for the tests that take minutes.
const FULL: &str = "TASKBOT_TEST_FULL";
/// Options of cargo that choose packages themselves.
const PACKAGE_OPTIONS: &[&str] = &["-p", "--package", "--workspace", "--all"];

/// Whether all tests passed and left nothing running.
pub(crate) fn run(shell: &Shell, workspace: &Workspace, full: bool, arguments: &[String]) -> Result<bool> {
    let services = Services::start(shell, workspace)?;
    let passed = run_tests(shell, workspace, services.exports(), full, arguments);
    let clean = shell.nothing_left("tests");
    drop(services);
    Ok(passed? && clean)
}

fn run_tests(
    shell: &Shell,
    workspace: &Workspace,
    exports: &Exports,
    full: bool,
    arguments: &[String],
) -> Result<bool> {
    let nextest =
        workspace.cargo().args(["nextest", "--version"]).output().is_ok_and(|out| out.status.success());
    let mut commands = vec![test_command(workspace, nextest, arguments)];
    // nextest does not run the examples in the documentation of the code.
    if nextest && arguments.is_empty() {
        let mut examples = workspace.cargo();
        examples.args(["test", "--doc", "--workspace"]);
        commands.push(examples);
    }
    let mut passed = true;
    for command in &mut commands {
        command.envs(exports.iter().map(|(name, value)| (name, value)));
        if full {
            command.env(FULL, "1");
        }
        let started = Instant::now();
        let status: ExitStatus = shell.run(command)?;
        step_done(started, format_args!("`{}`: {status}", describe(command)));
        passed &= status.success();
    }
    Ok(passed)
}

fn test_command(workspace: &Workspace, nextest: bool, arguments: &[String]) -> Command {
    let mut command = workspace.cargo();
    command.args(if nextest { &["nextest", "run"][..] } else { &["test"] });
    let chooses_packages =
        |argument: &String| PACKAGE_OPTIONS.contains(&argument.split('=').next().unwrap_or_default());
    if !arguments.iter().take_while(|&argument| argument != "--").any(chooses_packages) {
        command.arg("--workspace");
    }
    if arguments.is_empty() {
        command.arg("--no-fail-fast");
    }
    command.args(arguments);
    command
}
