//! `task …`.

use super::Paging;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// List tasks, newest first
    List(Box<ListTasks>),
    /// Show a task with its attempts, phases, results and artifacts
    #[command(after_help = "Examples:
  taskbot task show @latest
  taskbot task show 0193f2 -o json")]
    Show {
        /// Its id or the start of it, or @latest
        id: String,
    },
    /// Print the log of a task's attempt
    #[command(
        after_help = "Following survives an outage of the server and goes on where it was; it ends with the attempt.

Examples:
  taskbot task logs 0193f2
  taskbot task logs -f @latest
  taskbot task logs 0193f2 --attempt 1 > first.log"
    )]
    Logs {
        /// Its id or the start of it, or @latest
        id: String,
        /// Go on until the attempt ends
        #[arg(short, long)]
        follow: bool,
        /// Which attempt; the last one when missing
        #[arg(long, value_name = "NUMBER")]
        attempt: Option<u32>,
    },
    /// Wait for a task, showing each change; ends with its outcome as exit code
    #[command(after_help = "Ctrl-C only detaches: the task goes on. Survives an outage of the server.

Examples:
  taskbot task watch @latest
  taskbot task watch 0193f2 --timeout 10m && echo passed")]
    Watch {
        /// Its id or the start of it, or @latest
        id: String,
        /// Give up waiting after this time, with exit code 124
        #[arg(long, value_name = "TIME")]
        timeout: Option<String>,
    },
    /// Cancel tasks; running ones are stopped
    #[command(after_help = "Examples:
  taskbot task cancel 0193f2 --why 'wrong image'")]
    Cancel {
        /// Their ids or the starts of them, or @latest
        #[arg(required = true)]
        ids: Vec<String>,
        /// For the record
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Run tasks again, as new tasks at the same commits; prints their ids
    Rerun(Box<RerunTasks>),
    /// Let a parked task go on
    #[command(after_help = "Examples:
  taskbot task release 0193f2")]
    Release {
        /// Its id or the start of it
        id: String,
    },
    /// End the hold of a task's environment before its time
    #[command(after_help = "Examples:
  taskbot task unhold 0193f2")]
    Unhold {
        /// Its id or the start of it
        id: String,
    },
    /// Let a task run that waits for a maintainer's word, at the commit that `task show` tells
    #[command(after_help = "Examples:
  taskbot task list --where '{state.reason: approval}'
  taskbot task approve 0193f2 --why 'read the diff'")]
    Approve {
        /// Its id or the start of it
        id: String,
        /// For the record
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Make a task of a registered name or of any repository; prints its id
    Submit(Box<Submit>),
    /// List what a task left, or download it
    #[command(after_help = "Examples:
  taskbot task artifacts @latest
  taskbot task artifacts 0193f2 --get report.txt --into report.txt
  taskbot task artifacts 0193f2 --all --into ./out")]
    Artifacts {
        /// Its id or the start of it, or @latest
        id: String,
        /// Download this one
        #[arg(long, value_name = "NAME", conflicts_with = "all")]
        get: Option<String>,
        /// Download all of the last attempt
        #[arg(long, requires = "into")]
        all: bool,
        /// The file, with --all the folder, to write; standard output when missing
        #[arg(long, value_name = "PATH")]
        into: Option<PathBuf>,
    },
    /// Print how to run the same attempt on this machine: its commit, inputs and image; or run it
    #[command(after_help = "Examples:
  taskbot task reproduce 0193f2
  taskbot task reproduce @latest --run --keep ./out
  taskbot task reproduce @latest --run --secret repo-token=/etc/taskbot/repo-token")]
    Reproduce {
        /// Its id or the start of it, or @latest
        id: String,
        /// The attempt's number; the last one if not given
        #[arg(long, value_name = "NUMBER")]
        attempt: Option<u64>,
        /// Run it here now; ends with its outcome as exit code
        #[arg(long)]
        run: bool,
        /// Keep what it leaves in this folder
        #[arg(long, value_name = "DIR", requires = "run")]
        keep: Option<PathBuf>,
        /// A secret that it had, from a file: their values are the worker's and recorded nowhere
        #[arg(long = "secret", value_name = "NAME=FILE", requires = "run")]
        secrets: Vec<String>,
    },
    /// Run a task repository on this machine, without a server; ends with its outcome as exit code
    RunLocal(RunLocal),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  taskbot task list --state running,queued
  taskbot task list --outcome failed,error --since 1d
  taskbot task list --item audit-2.8-1.fc42 -o json
  taskbot task list --where '{origin.rule: {prefix: kernel-}}'")]
pub(crate) struct ListTasks {
    #[command(flatten)]
    pub(crate) paging: Paging,
    /// Only in these states: waiting, queued, running, finished, cancelled, superseded
    #[arg(long, value_name = "STATE,…")]
    pub(crate) state: Option<String>,
    /// Only with these outcomes: passed, failed, info, needs_inspection, skipped, not_applicable, error
    #[arg(long, value_name = "OUTCOME,…")]
    pub(crate) outcome: Option<String>,
    /// Only of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Only in this queue
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// Only made by this rule
    #[arg(long, value_name = "NAME")]
    pub(crate) rule: Option<String>,
    /// Only of items of this type
    #[arg(long, value_name = "TYPE")]
    pub(crate) item_type: Option<String>,
    /// Only of this item
    #[arg(long, value_name = "ID")]
    pub(crate) item: Option<String>,
    /// Only of this batch
    #[arg(long, value_name = "ID")]
    pub(crate) batch: Option<String>,
    /// Only of this group
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// Only of this event, by its number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) event: Option<i64>,
    /// Only from then on: 2h, 3d, 2026-11-21
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only before then
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "One task by its id, one test by what it tests, or many by filters: all of them or, when more than --limit
fit, none. Of the same name, item and inputs only the newest is run again, so what passed since stays as it is.

Examples:
  taskbot task rerun 0193f2 --why 'mirror was down'
  taskbot task rerun @latest --newest --input arch=aarch64 --watch
  taskbot task rerun @latest --hold=2h    then `task show` says how to get in
  taskbot task rerun --test dist.rpmlint --item koji_build:audit-4.0-1.fc42
  taskbot task rerun --result 1234 --why 'looks flaky'
  taskbot task rerun --failed --batch nightly-2026-11-21 --dry-run
  taskbot task rerun --outcome error --since 2h --where '{queue: slow}' --why 'disk was full'"
)]
pub(crate) struct RerunTasks {
    /// Its id or the start of it, or @latest
    pub(crate) id: Option<String>,
    /// For the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
    /// At the newest commit of its ref
    #[arg(long)]
    pub(crate) newest: bool,
    /// An input that differs: NAME=VALUE, the value as JSON or as text
    #[arg(long = "input", value_name = "NAME=VALUE", requires = "id")]
    pub(crate) inputs: Vec<String>,
    /// If it fails, keep its environment for you to look into, for an hour or this long
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "1h", requires = "id")]
    pub(crate) hold: Option<String>,
    /// Wait for it, as `task watch`
    #[arg(long, requires = "id")]
    pub(crate) watch: bool,
    /// With --watch: wait no longer than this, and exit with 124
    #[arg(long, value_name = "DURATION", requires = "watch")]
    pub(crate) timeout: Option<String>,
    /// A test, whichever task runs it: a testcase or a task's name; --item says of what
    #[arg(long, value_name = "NAME", conflicts_with_all = ["id", "newest", "result"], requires = "item")]
    pub(crate) test: Option<String>,
    /// The test that gave this result
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["id", "newest"])]
    pub(crate) result: Option<String>,
    /// With --test and --result: also when the same was asked a short time ago, or is under way
    #[arg(long, conflicts_with = "id")]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) which: RerunWhich,
}

/// Which of many tasks are run again.
#[derive(Debug, Args)]
#[command(next_help_heading = "Many at once")]
#[group(id = "which", multiple = true, conflicts_with = "id")]
pub(crate) struct RerunWhich {
    /// Only what ended as failed, error or needs_inspection; one more filter says of what
    #[arg(long, conflicts_with = "outcome")]
    pub(crate) failed: bool,
    /// Only with these outcomes
    #[arg(long, value_name = "OUTCOME,…")]
    pub(crate) outcome: Option<String>,
    /// Only in these states: finished, cancelled, superseded; the first two when missing
    #[arg(long, value_name = "STATE,…")]
    pub(crate) state: Option<String>,
    /// Only of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Only in this queue
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// Only made by this rule
    #[arg(long, value_name = "NAME")]
    pub(crate) rule: Option<String>,
    /// Only of items of this type
    #[arg(long, value_name = "TYPE")]
    pub(crate) item_type: Option<String>,
    /// Only of this item: ID, with --test TYPE:ID
    #[arg(long, value_name = "ITEM")]
    pub(crate) item: Option<String>,
    /// Only of this batch
    #[arg(long, value_name = "ID")]
    pub(crate) batch: Option<String>,
    /// Only of this group
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// Only of this event, by its number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) event: Option<i64>,
    /// Only from then on: 2h, 3d, 2026-11-21
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only before then
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only what this filter holds for
    #[arg(long = "where", value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// Only show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The most tasks; when more fit, nothing is done
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<u32>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "What is wrong with the task file or the inputs, or that no known worker can run it, is told at once.

Examples:
  taskbot task submit rpmlint --item koji_build:audit-2.8-1.fc42 --input nvr=audit-2.8-1.fc42 --watch
  taskbot task submit --git https://git.example.org/tests.git --ref main --path smoke
  taskbot task submit rpmlint --input nvr=x-1-1 --key nightly-x    the same key again is the same task"
)]
pub(crate) struct Submit {
    /// A registered task
    #[arg(required_unless_present = "git", conflicts_with = "git")]
    pub(crate) task: Option<String>,
    /// A repository
    #[arg(long, value_name = "URL")]
    pub(crate) git: Option<String>,
    /// A branch, tag or commit of the repository
    #[arg(long = "ref", value_name = "REF", requires = "git", conflicts_with = "task")]
    pub(crate) reference: Option<String>,
    /// The folder in the repository that holds task.yaml
    #[arg(long, value_name = "PATH", requires = "git", conflicts_with = "task")]
    pub(crate) path: Option<String>,
    /// An input: NAME=VALUE, the value as JSON or as text
    #[arg(long = "input", value_name = "NAME=VALUE")]
    pub(crate) inputs: Vec<String>,
    /// What is tested: TYPE:ID
    #[arg(long, value_name = "TYPE:ID")]
    pub(crate) item: Option<String>,
    /// The queue
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// Higher goes first
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i32,
    /// An architecture that the worker must have
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<String>,
    /// A label that the worker must have (several times for several)
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// Its batch
    #[arg(long, value_name = "NAME")]
    pub(crate) batch: Option<String>,
    /// For the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
    /// The same key again gives the same task
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Wait for it, as `task watch`
    #[arg(long)]
    pub(crate) watch: bool,
    /// With --watch: wait no longer than this, and exit with 124
    #[arg(long, value_name = "DURATION", requires = "watch")]
    pub(crate) timeout: Option<String>,
    /// If it fails, keep its environment for you to look into, for an hour or this long
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "1h")]
    pub(crate) hold: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The folder is copied as it is, changes that are not committed included. Its task file's phases are run as a
worker would, and the log is printed as it grows.

Examples:
  taskbot task run-local . --input nvr=audit-2.8-1.fc42
  taskbot task run-local deploy/task-repos/rpmlint --executor container --keep ./out
  taskbot task run-local checks/rpmlint --root ."
)]
pub(crate) struct RunLocal {
    /// The folder that holds task.yaml
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// The repository, where the task lies in a folder of it and uses what is beside; a worker has all of it
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// An input: NAME=VALUE, the value as JSON or as text
    #[arg(long = "input", value_name = "NAME=VALUE")]
    pub(crate) inputs: Vec<String>,
    /// What is tested: TYPE:ID
    #[arg(long, value_name = "TYPE:ID")]
    pub(crate) item: Option<String>,
    /// Only this executor: container, vm, sandbox, external or local (which is no isolation)
    #[arg(long, value_name = "EXECUTOR")]
    pub(crate) executor: Option<String>,
    /// The image for containers, in place of the task file's: NAME:TAG, NAME@DIGEST or an id; only a container will do then
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// A secret for the task, from a file
    #[arg(long = "secret", value_name = "NAME=FILE")]
    pub(crate) secrets: Vec<String>,
    /// Keep the work folder and what it leaves in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}
