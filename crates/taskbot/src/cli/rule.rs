//! `rule …`.

use clap::{Args, Subcommand};
use std::{num::NonZeroUsize, path::PathBuf};

#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// Check a folder of rules without a server; every mistake is shown with its place
    #[command(
        after_help = "Also warns of what is worth a second look: clauses that contradict, rules that say the same, topics that
fire on staging too, inputs that a task does not take, and, with recorded events, fields that they do not have.
Ends with 1 when there are errors.

Examples:
  taskbot rule check
  taskbot rule check ./rules -o json
  taskbot rule check ./rules --since 7d
  taskbot rule check ./rules --dump day.jsonl"
    )]
    Check {
        /// The rules folder
        #[arg(default_value = "rules")]
        path: PathBuf,
        #[command(flatten)]
        history: HistoryArgs,
    },
    /// Run the tests of a folder of rules without a server
    #[command(after_help = "Ends with 1 when one fails.

Examples:
  taskbot rule test ./rules
  taskbot rule test ./rules --junit results.xml
  taskbot rule test ./rules --update && git diff rules")]
    Test {
        /// The rules folder
        #[arg(default_value = "rules")]
        path: PathBuf,
        /// Also write the outcomes as JUnit XML; `-` is standard output
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
        /// First write into the tests what the rules say now; look at the difference before you keep it
        #[arg(long)]
        update: bool,
    },
    /// Write a rule with a test from a real event
    New(NewRule),
    /// Print the JSON Schema of rule files, tasks.yaml or task.yaml: for completion in editors
    #[command(
        after_help = "In an editor with a YAML language server, the first line of a file says where its schema is:
# yaml-language-server: $schema=rules.schema.json

Examples:
  taskbot rule schema > rules.schema.json
  taskbot rule schema task > task.schema.json"
    )]
    Schema {
        /// Of what
        #[arg(value_parser = ["rules", "tasks", "task"], default_value = "rules")]
        kind: String,
    },
    /// Say what a rule says to an event, clause by clause, and why
    #[command(
        after_help = "The rule is one of those in force on the server, or of a folder; then a message from a file needs no server.
Ends with 1 when the rule does not fire, so that scripts can ask.

Examples:
  taskbot rule explain rpmlint-on-testing --event 123
  taskbot rule explain rpmlint-on-testing --event fixtures/update.json
  taskbot rule explain rpmlint-on-testing ./rules --event fixtures/update.json"
    )]
    Explain {
        /// The rule
        name: String,
        /// The rules folder, rather than what is in force
        path: Option<PathBuf>,
        /// The event: a file with a recorded message, or an id, the start of one, a number, @latest
        #[arg(long, value_name = "ID|FILE")]
        event: String,
    },
    /// List the rules of a folder, or without one those that are in force on the server
    #[command(
        after_help = "How often each fired is written every five seconds: a server that is killed forgets what came after.
Exact figures of a time are `taskbot rule backtest`'s.

Examples:
  taskbot rule list
  taskbot rule list ./rules"
    )]
    List {
        /// The rules folder
        path: Option<PathBuf>,
    },
    /// Show a rule that is in force on the server, or of a folder
    #[command(after_help = "Examples:
  taskbot rule show rpmlint-on-testing
  taskbot rule show rpmlint-on-testing ./rules")]
    Show {
        /// The rule
        name: String,
        /// The rules folder
        path: Option<PathBuf>,
    },
    /// Switch a rule on: it makes tasks
    #[command(after_help = "Examples:
  taskbot rule enable rpmlint-on-testing")]
    Enable {
        /// The rule
        name: String,
    },
    /// Switch a rule off, or to shadow: it says verdicts and makes no tasks
    #[command(after_help = "Examples:
  taskbot rule disable rpmlint-on-testing
  taskbot rule disable rpmlint-on-testing --shadow")]
    Disable {
        /// The rule
        name: String,
        /// Let it still say what it would do
        #[arg(long)]
        shadow: bool,
    },
    /// Let a rule only say what it would do: verdicts and counters, no tasks
    #[command(after_help = "Examples:
  taskbot rule shadow rpmlint-on-testing")]
    Shadow {
        /// The rule
        name: String,
    },
    #[command(flatten)]
    Hold(HoldCommand),
    /// Put an older rule set in force again
    #[command(
        after_help = "It stays in force until the rules folder changes, or somebody puts another in force.

Examples:
  taskbot rule rollback
  taskbot rule rollback fae3ceb9a392"
    )]
    Rollback {
        /// Its revision or the start of it; the one that was in force before when missing
        revision: Option<String>,
    },
    /// List which rule sets were in force, newest first
    #[command(after_help = "Examples:
  taskbot rule history")]
    History,
    /// Say what a folder of rules would have made of recorded events
    Backtest(Backtest),
    /// Let the server read its rules folder again
    #[command(
        after_help = "Rules that are wrong, or whose tests fail, are not taken: the old ones stay in force.

Examples:
  taskbot rule reload"
    )]
    Reload,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The rule listens to the event's topic, asks for what such events have in common, and stands in a file of its
own with a test that passes at once: the place to go on from. An event by its id is asked of the server.

Examples:
  taskbot rule new --from-event fixtures/update.json --task rpmlint
  taskbot rule new lint-updates --from-event @latest --task rpmlint --path rules --fixture
  taskbot rule new --from-event 123 --task rpmlint --print"
)]
pub(crate) struct NewRule {
    /// Its name; made of task and topic when missing
    pub(crate) name: Option<String>,
    /// The event: a file with a recorded message, or an id, the start of one, a number, @latest
    #[arg(long, value_name = "ID|FILE")]
    pub(crate) from_event: String,
    /// The task that it makes, as registered in tasks.yaml
    #[arg(long, value_name = "NAME")]
    pub(crate) task: String,
    /// An input of the task, to be filled in where the event has it (several times for several)
    #[arg(long = "input", value_name = "NAME")]
    pub(crate) inputs: Vec<String>,
    /// The rules folder
    #[arg(long, value_name = "DIR", default_value = "rules")]
    pub(crate) path: PathBuf,
    /// Keep the event in a file of its own below fixtures/, rather than in the test
    #[arg(long, conflicts_with = "print")]
    pub(crate) fixture: bool,
    /// Print the rule, and write nothing
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HoldCommand {
    /// Make the tasks that a rule in force would have made of past events, behind its limits
    #[command(
        after_help = "Repeated, it makes nothing twice. A rule in shadow mode makes nothing; what else a rule wishes than tasks
is left out.

Examples:
  taskbot rule apply rpmlint-on-testing --since 7d --dry-run
  taskbot rule apply rpmlint-on-testing --since 7d"
    )]
    Apply {
        /// The rule
        rule: String,
        /// Events that came in since then
        #[arg(long, value_name = "TIME")]
        since: String,
        /// Only those before then
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Only count
        #[arg(long)]
        dry_run: bool,
    },
    /// Hold a rule: its events are kept, and nothing is made of them until it is resumed
    #[command(after_help = "Examples:
  taskbot rule pause rpmlint-on-testing --why 'rpmlint is broken'
  taskbot rule pause --all")]
    Pause {
        #[command(flatten)]
        target: HoldTarget,
        /// For the record
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Let a held rule go on; shows what waits, which is then judged by the rules of now, oldest first
    #[command(after_help = "Also ends the hold of a rule that went over its limit (`on_excess: pause`).

Examples:
  taskbot rule resume rpmlint-on-testing
  taskbot rule resume rpmlint-on-testing --drop
  taskbot rule resume --all")]
    Resume {
        #[command(flatten)]
        target: HoldTarget,
        /// Drop the held events
        #[arg(long)]
        drop: bool,
    },
    /// Show which rules are held, what they hold back, which tasks a limit parked, and what is being collected
    #[command(after_help = "Examples:
  taskbot rule backlog")]
    Backlog,
    /// Let the tasks of a rule go on that its limit parked
    #[command(after_help = "Examples:
  taskbot rule release rpmlint-on-testing")]
    Release {
        /// The rule
        rule: String,
    },
    /// Cancel the tasks of a rule that its limit parked
    #[command(after_help = "Examples:
  taskbot rule drop rpmlint-on-testing")]
    Drop {
        /// The rule
        rule: String,
    },
}

/// One rule or all.
#[derive(Debug, Args)]
pub(crate) struct HoldTarget {
    /// The rule
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) rule: Option<String>,
    /// All rules
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The history is a server's (--since), a dump (--dump, as `event record` and fedora-messaging's recorder
write it), the configured database without a server (--since with --offline), or what the stream of a configured
source still holds (--stream). Nothing is made. Rules that are off
are left out, those in shadow count as if they were on. Wishes are joined by `dedupe`; the events of a repeated id
count once. What is collected (`collect`) is counted and not fired.

Examples:
  taskbot rule backtest rules --since 7d
  taskbot rule backtest rules --dump day.jsonl
  taskbot rule backtest rules --stream fedora --since 2d
  taskbot rule backtest rules --since 7d --diff active
  taskbot rule backtest rules --dump day.jsonl --diff ../main/rules -o markdown"
)]
pub(crate) struct Backtest {
    /// The rules folder
    #[arg(default_value = "rules")]
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) history: HistoryArgs,
    /// Also judge by these rules, and show what differs: a folder, a revision of the server, or `active`
    #[arg(long, value_name = "REVISION|PATH")]
    pub(crate) diff: Option<String>,
    /// With --diff: how many tasks to show of each rule
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    pub(crate) examples: usize,
    /// How many threads judge; as many as there are processors when missing
    #[arg(long, value_name = "COUNT")]
    pub(crate) jobs: Option<NonZeroUsize>,
}

/// Recorded events.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Events that came in since then: 7d, 12h, 2026-11-14
    #[arg(long, value_name = "TIME", conflicts_with = "dump")]
    pub(crate) since: Option<String>,
    /// With --since: only those before then
    #[arg(long, value_name = "TIME", requires = "since")]
    pub(crate) until: Option<String>,
    /// The events of a dump; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) dump: Option<PathBuf>,
    /// What the stream of this configured source still holds, all of it or what came --since; no place of the source
    /// is moved
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["dump", "offline"])]
    pub(crate) stream: Option<String>,
    /// With --since: read the configured database, without asking a server
    #[arg(long, requires = "since")]
    pub(crate) offline: bool,
}

impl HistoryArgs {
    /// Whether a history is named.
    pub(crate) const fn is_given(&self) -> bool {
        self.since.is_some() || self.dump.is_some() || self.stream.is_some()
    }
}
