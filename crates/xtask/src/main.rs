//! The project's own chores: tests against real services, continuous integration, benchmarks.
//!
//! It is built first on a bare machine, so it has few dependencies and no async runtime. Whatever it starts
//! it stops, however it ends, and it never skips a part that cannot be had: that is a failure with a reason.
//! It must never be needed at run time of the product. The checks of the tree are its own unit tests (`tidy`).

#![expect(clippy::print_stdout, reason = "a command line tool: its results go to standard output")]

mod bench;
mod ci;
mod environment;
mod install;
mod services;
mod shell;
mod test;
#[cfg(test)]
mod tidy;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::shell::{Interrupted, Shell};
use crate::workspace::Workspace;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

Commands:
  test [--full] [-- ARGS]      install and start what is missing (NATS, PostgreSQL, Docker engine), run all
                               tests, stop what was started. ARGS go to cargo-nextest, or to `cargo test`
                               where that is not installed; --full adds the long tests
  services [--env-file FILE]   start the same services, print their `export` lines (and write them to FILE,
                               for `source FILE`), and keep them until Ctrl-C
  bench [NAME] [--json]        run one benchmark or all; --json prints one object a line
  ci                           formatting, lints, tests, documentation and the README's first command

An existing service is used, and left running, when its variable is set: TASKBOT_TEST_NATS_URL,
TASKBOT_TEST_POSTGRES_URL, TASKBOT_TEST_S3_URL, TASKBOT_TEST_DOCKER_SOCKET.

Examples:
  cargo xtask test -- -p taskbot-store
  cargo xtask services --env-file target/services.env
  cargo xtask bench ingest --json
";

/// Exit code of a wrong command line.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    match start(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<Usage>() {
                return ExitCode::from(EXIT_USAGE);
            }
            match error.downcast_ref::<Interrupted>() {
                Some(interrupted) => ExitCode::from(interrupted.exit_code()),
                None => ExitCode::FAILURE,
            }
        }
    }
}

/// A wrong command line, with what was expected.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n\n{USAGE}", self.0)
    }
}

impl std::error::Error for Usage {}

/// What the command line asks for.
#[derive(Debug, PartialEq)]
enum Command {
    Help,
    Test { full: bool, arguments: Vec<String> },
    Services { env_file: Option<PathBuf> },
    Bench { name: Option<String>, json: bool },
    Ci,
}

/// Whether the command succeeded; an error when it could not be carried out.
fn start(arguments: &[String]) -> Result<bool> {
    let command = parse(arguments)?;
    if command == Command::Help {
        print!("{USAGE}");
        return Ok(true);
    }
    let shell = Shell::new()?;
    let workspace = Workspace::load()?;
    match command {
        Command::Help => Ok(true),
        Command::Test { full, arguments } => test::run(&shell, &workspace, full, &arguments),
        Command::Services { env_file } => services::serve(&shell, &workspace, env_file.as_deref()),
        Command::Bench { name, json } => bench::run(&shell, &workspace, name.as_deref(), json),
        Command::Ci => ci::run_all(&shell, &workspace),
    }
}

fn parse(arguments: &[String]) -> Result<Command> {
    let Some((command, rest)) = arguments.split_first() else { bail!(Usage("no command given".to_owned())) };
    let mut rest = rest.iter();
    let unknown = |argument: &str| Usage(format!("`{command}` does not take `{argument}`"));
    let parsed = match command.as_str() {
        "help" | "--help" | "-h" => return Ok(Command::Help),
        "test" => {
            let mut full = false;
            let mut passed_on = Vec::new();
            while let Some(argument) = rest.next() {
                match argument.as_str() {
                    "--full" => full = true,
                    "--" => passed_on = rest.by_ref().cloned().collect(),
                    other => bail!(Usage(format!("`test` does not take `{other}`; put `--` before it"))),
                }
            }
            Command::Test { full, arguments: passed_on }
        }
        "services" => {
            let mut env_file = None;
            while let Some(argument) = rest.next() {
                match (argument.as_str(), argument.strip_prefix("--env-file=")) {
                    ("--env-file", _) => match rest.next() {
                        Some(file) => env_file = Some(PathBuf::from(file)),
                        None => bail!(Usage("`--env-file` needs the name of a file".to_owned())),
                    },
                    (_, Some(file)) => env_file = Some(PathBuf::from(file)),
                    (other, None) => bail!(unknown(other)),
                }
            }
            Command::Services { env_file }
        }
        "bench" => {
            let (mut name, mut json) = (None, false);
            for argument in rest.by_ref() {
                match argument.as_str() {
                    "--json" => json = true,
                    other if !other.starts_with('-') && name.is_none() => name = Some(other.to_owned()),
                    other => bail!(unknown(other)),
                }
            }
            Command::Bench { name, json }
        }
        "ci" => Command::Ci,
        other => bail!(Usage(format!("there is no command `{other}`"))),
    };
    match rest.next() {
        Some(argument) => bail!(unknown(argument)),
        None => Ok(parsed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Result<Command, &str>) {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match (parse(&arguments), expect) {
            (Ok(command), Ok(expected)) => assert_eq!(command, expected, "{line}"),
            (Err(error), Err(expected)) => {
                assert!(error.is::<Usage>() && error.to_string().starts_with(expected), "{line}: {error}");
            }
            (command, expected) => panic!("{line}: {command:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn command_lines() {
        let test = |full, arguments: &[&str]| {
            Ok(Command::Test { full, arguments: arguments.iter().map(|&a| a.to_owned()).collect() })
        };
        let bench = |name: Option<&str>, json| Ok(Command::Bench { name: name.map(str::to_owned), json });
        check("test", test(false, &[]));
        check("test --full -- -p taskbot-store --full", test(true, &["-p", "taskbot-store", "--full"]));
        check("test store", Err("`test` does not take `store`; put `--` before it"));
        check("services", Ok(Command::Services { env_file: None }));
        check("services --env-file a.env", Ok(Command::Services { env_file: Some("a.env".into()) }));
        check("services --env-file=a.env", Ok(Command::Services { env_file: Some("a.env".into()) }));
        check("services --env-file", Err("`--env-file` needs the name of a file"));
        check("services --detach", Err("`services` does not take `--detach`"));
        check("bench", bench(None, false));
        check("bench ingest --json", bench(Some("ingest"), true));
        check("bench ingest claim", Err("`bench` does not take `claim`"));
        check("ci", Ok(Command::Ci));
        check("ci --fast", Err("`ci` does not take `--fast`"));
        check("--help", Ok(Command::Help));
        check("", Err("no command given"));
        check("tset", Err("there is no command `tset`"));
    }
}
