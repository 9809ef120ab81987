//! The command line: what can be asked for, one file per noun.

mod database;
mod event;
mod result;
mod rule;
mod serve;
mod task;
mod upkeep;

pub(crate) use database::{DbCommand, TokenCommand};
pub(crate) use event::{EventCommand, Record, Send, Tail};
pub(crate) use result::ResultCommand;
pub(crate) use rule::{Backtest, HistoryArgs, HoldCommand, NewRule, RuleCommand};
pub(crate) use serve::{Conformance, Demo, Overrides, Rest, Serve, Up, WorkerArgs, WorkerCommand};
pub(crate) use task::{ListTasks, RerunTasks, RunLocal, Submit, TaskCommand};
pub(crate) use upkeep::{DlqCommand, QueueCommand, SinkCommand};

use crate::fault;
use clap::{
    ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, parser::ValueSource,
};
use clap_complete::Shell;
use std::{collections::BTreeMap, path::PathBuf};

/// Where a server listens, and where clients look for one, when nothing else is said.
pub(crate) const SERVER_DEFAULT: &str = "http://127.0.0.1:7400";

/// Runs tests for the events of a Linux distribution: rules turn events into tasks, workers run them
#[derive(Debug, Parser)]
#[command(
    name = "taskbot", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true,
    propagate_version = true, after_help = fault::EXIT_CODES,
    after_long_help = concat!("Examples:
  taskbot demo --once                   see it work: everything embedded, nothing left behind
  taskbot up --rules ./rules            a server and a worker in this process
  taskbot event send org.example.build -f build.json
  taskbot event tail --where '{body.owner: releng}'
  taskbot task watch @latest            ends with the task's outcome as exit code

", "Exit codes: 0 passed or done, 1 failed or mismatch, 2 usage, 3 infrastructure error, 4 not allowed,
5 not found, 6 conflict, 124 timeout, 130 interrupted.")
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// How to print
    #[arg(short, long, value_enum, value_name = "FORMAT", global = true, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// The server to talk to
    #[arg(long, value_name = "URL", global = true, env = "TASKBOT_SERVER", default_value = SERVER_DEFAULT)]
    pub(crate) server: String,
    /// A file with the token to show there
    #[arg(long, value_name = "FILE", global = true, env = "TASKBOT_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The token itself; only from the environment, since command lines are seen by everybody
    #[arg(
        long,
        value_name = "TOKEN",
        global = true,
        env = "TASKBOT_TOKEN",
        hide = true,
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
    /// The configuration file
    #[arg(long, value_name = "FILE", global = true, env = "TASKBOT_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// What to log: a level or TARGET=LEVEL,…
    #[arg(long, value_name = "FILTER", global = true, env = "TASKBOT_LOG")]
    pub(crate) log: Option<String>,
    /// How to log, on standard error
    #[arg(long, value_enum, value_name = "FORMAT", global = true, env = "TASKBOT_LOG_FORMAT", default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line, one for each entry.
    Jsonl,
    /// YAML.
    Yaml,
    /// For people, tables as Markdown: for pull requests and pages.
    Markdown,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// JSON lines.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show it work: embedded server and worker, a recorded event, a real rule, a real task repository
    Demo(Demo),
    /// Run a server and a worker in this process, until stopped
    Up(Up),
    /// Run a server, until stopped
    Server(Serve),
    /// Run a worker, until stopped; or look after the workers of a server
    #[command(args_conflicts_with_subcommands = true)]
    Worker {
        #[command(subcommand)]
        command: Option<WorkerCommand>,
        #[command(flatten)]
        run: WorkerArgs,
    },
    /// Events: send, follow, list, explain, replay
    #[command(subcommand)]
    Event(EventCommand),
    /// Rules: check and test files, see and switch what is in force
    #[command(subcommand)]
    Rule(RuleCommand),
    /// Tasks: list, watch, read logs, cancel, run again, submit
    #[command(subcommand)]
    Task(TaskCommand),
    /// Results of tests
    #[command(subcommand)]
    Result(ResultCommand),
    /// Queues: list, pause, resume
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Dead letters: what could not be taken in
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Sinks: where results and messages also go
    #[command(subcommand)]
    Sink(SinkCommand),
    /// Tokens for people, programs and workers
    #[command(subcommand)]
    Token(TokenCommand),
    /// The database
    #[command(subcommand)]
    Db(DbCommand),
    /// The configuration: what is in force, and whether a file is right
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check everything that a server and a worker on this machine need
    #[command(
        after_help = "Each check says ok, warn or fail, with how to mend it. Ends with 3 when one fails.

Examples:
  taskbot doctor
  taskbot doctor --config /etc/taskbot.yaml -o json"
    )]
    Doctor,
    /// Print the completions for a shell
    #[command(after_help = "Examples:
  taskbot completions bash > /etc/bash_completion.d/taskbot
  taskbot completions fish > ~/.config/fish/completions/taskbot.fish")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration file; every mistake is shown with its place
    #[command(after_help = "Examples:
  taskbot config check /etc/taskbot.yaml")]
    Check {
        /// The file
        file: PathBuf,
    },
    /// Show the values in force
    #[command(after_help = "Examples:
  taskbot config show --config taskbot.yaml --origin")]
    Show {
        /// Also show where each comes from: default, file, environment or flag
        #[arg(long)]
        origin: bool,
    },
    /// Print the configuration of another system in our form
    #[command(
        after_help = "What needs no setting here, and what is not known, stands below as comments. Secrets are not printed: with
--secrets each is written into a file of its own, beside which the printed file must lie.

Examples:
  taskbot config import --alts configs/alts_config.yaml > taskbot.yaml
  taskbot config import --testflinger testflinger.conf --secrets /etc/taskbot > /etc/taskbot/taskbot.yaml"
    )]
    Import {
        /// ALTS' alts_config.yaml
        #[arg(
            long,
            value_name = "FILE",
            required_unless_present = "testflinger",
            conflicts_with = "testflinger"
        )]
        alts: Option<PathBuf>,
        /// The testflinger.conf of Testflinger's server, or the file of its environment
        #[arg(long, value_name = "FILE")]
        testflinger: Option<PathBuf>,
        /// Write the secrets into files of this folder; those that are there are left alone
        #[arg(long, value_name = "DIR")]
        secrets: Option<PathBuf>,
    },
}

/// Where a value of the command line came from, for those that stand over the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Given {
    /// By a flag.
    Flag,
    /// By the environment.
    Env,
}

/// Where the arguments came from, by their id; those with a default are missing.
pub(crate) type Givens = BTreeMap<String, Given>;

/// Parses the command line of this process.
///
/// # Errors
/// It is wrong, or help or the version was asked for.
pub(crate) fn parse() -> Result<(Cli, Givens), clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let mut given = Givens::new();
    collect(&matches, &mut given);
    Ok((cli, given))
}

fn collect(matches: &ArgMatches, given: &mut Givens) {
    for id in matches.ids() {
        let source = match matches.value_source(id.as_str()) {
            Some(ValueSource::CommandLine) => Given::Flag,
            Some(ValueSource::EnvVariable) => Given::Env,
            _ => continue,
        };
        given.insert(id.as_str().to_owned(), source);
    }
    if let Some((_, matches)) = matches.subcommand() {
        collect(matches, given);
    }
}

/// Filters and paging of lists.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Paging {
    /// Only what this holds for: the clauses of a rule's `when`, as YAML
    #[arg(long = "where", value_name = "CLAUSES")]
    pub(crate) filter: Option<String>,
    /// The most entries
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Go on with the page after this one (`next` of the page before)
    #[arg(long, value_name = "NEXT")]
    pub(crate) before: Option<String>,
}

#[cfg(test)]
mod tests;
