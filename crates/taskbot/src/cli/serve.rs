//! `demo`, `up`, `server`, `worker`.

use clap::{Args, FromArgMatches as _, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(
    after_help = "It needs no service, no root, no network and no configuration. The tasks run in a container when a
Docker or Podman engine answers, else in the bubblewrap sandbox, else on this machine, which it says.

Examples:
  taskbot demo --once           ends with the tasks' outcome as exit code
  taskbot demo                  stays, to look around with the other commands, until Ctrl-C"
)]
pub(crate) struct Demo {
    /// End when the tasks have ended
    #[arg(long)]
    pub(crate) once: bool,
    /// Keep everything in this folder; without it in one that is removed at the end
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// What stands over the configuration.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Overrides {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", env = "TASKBOT_LISTEN")]
    pub(crate) listen: Option<String>,
    /// Where everything is kept that has no other place
    #[arg(long, value_name = "DIR", env = "TASKBOT_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The database: sqlite:PATH or postgres://USER@HOST/NAME
    #[arg(long, value_name = "URL", env = "TASKBOT_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<String>,
    /// The folder of rules; read again when it changes
    #[arg(long, value_name = "DIR", env = "TASKBOT_RULES")]
    pub(crate) rules: Option<PathBuf>,
    /// Events from, and messages to, a NATS server with JetStream: stream TASKBOT_EVENTS with `events.>` in,
    /// stream TASKBOT with `taskbot.>` out
    #[arg(long, value_name = "URL", env = "TASKBOT_NATS", hide_env_values = true)]
    pub(crate) nats: Option<String>,
}

impl Overrides {
    /// What the environment alone lays over the configuration: for commands that have no such options.
    ///
    /// # Errors
    /// A variable holds no value of its kind.
    pub(crate) fn of_environment() -> Result<(Self, super::Givens), clap::Error> {
        let command = Self::augment_args(clap::Command::new("taskbot"));
        let matches = command.try_get_matches_from(["taskbot"])?;
        let mut given = super::Givens::new();
        super::collect(&matches, &mut given);
        Ok((Self::from_arg_matches(&matches)?, given))
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without a configuration everything is embedded: SQLite and files in the data folder, events by the API.
SIGTERM or Ctrl-C ends it gracefully: running tasks are finished; a second time, they are handed back at once.
SIGHUP reads the rules again.

Examples:
  taskbot up --rules ./rules
  taskbot up --data-dir /var/lib/taskbot --nats nats://127.0.0.1:4222
  taskbot up --config /etc/taskbot.yaml --no-worker"
)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) over: Overrides,
    /// Run no worker
    #[arg(long)]
    pub(crate) no_worker: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Any number of servers can run on one PostgreSQL and one durable consumer.
SIGTERM or Ctrl-C ends it gracefully; SIGHUP reads the rules again.

Examples:
  taskbot server --config /etc/taskbot.yaml
  taskbot server --database postgres://taskbot@db/taskbot --listen 127.0.0.1:7401")]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) over: Overrides,
}

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Its token needs the role agent: `taskbot token create NAME --role agent`.
SIGTERM or Ctrl-C ends it gracefully: running tasks are finished; a second time, they are handed back at once.

Examples:
  taskbot worker --server https://taskbot.example.org --token-file /etc/taskbot/token --queue fast
  taskbot worker list
  taskbot worker drain builder-3")]
pub(crate) struct WorkerArgs {
    /// Its name, unique among the workers of a server; the host's name when missing
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// A queue that it serves (several times for several)
    #[arg(long = "queue", value_name = "NAME")]
    pub(crate) queues: Vec<String>,
    /// A label that tasks can ask for (several times for several)
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// How many tasks it runs at the same time
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) slots: Option<u32>,
    /// Where it keeps checkouts, mirrors and what is not delivered yet
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// List the workers of a server with what they offer and run
    #[command(after_help = "Examples:
  taskbot worker list
  taskbot worker list -o json")]
    List,
    /// Try a program that is to provide environments: does it keep to the protocol of `external`?
    #[command(
        after_help = "It makes environments, runs commands in them, stops it in the middle, and takes each case for itself.
Exit code 0 when all passed, 1 when one failed. The protocol: docs/external-executors.md

Examples:
  taskbot worker conformance ./my-cloud --region north
  taskbot worker conformance --with root=debian deploy/external/chroot.py --root debian=/srv/roots/debian
  taskbot worker conformance -o json ./my-cloud"
    )]
    Conformance(Conformance),
    /// Get into a virtual machine that is held, on its worker's host: `task show` says which folder
    #[command(
        after_help = "A shell as root in the machine, line by line; Ctrl-D leaves it. Without a terminal the lines come from
standard input.

Examples:
  taskbot worker enter /var/lib/taskbot/attempts/builder-3.0193f9.1
  echo 'dmesg | tail' | taskbot worker enter /var/lib/taskbot/attempts/builder-3.0193f9.1"
    )]
    Enter {
        /// The folder of the attempt
        folder: PathBuf,
    },
    /// Let a worker take no more tasks; it finishes those that it runs, and stays connected
    #[command(after_help = "Examples:
  taskbot worker cordon builder-3 --why 'is it the disk?'
  taskbot worker uncordon builder-3")]
    Cordon(Rest),
    /// Let a worker take no more tasks, finish those that it runs, and end then
    #[command(
        after_help = "Its process ends with exit code 0 once it runs nothing. A worker that is started while it is drained stays and
waits to be resumed; so does the worker that is a part of `taskbot up`.

Examples:
  taskbot worker drain builder-3
  taskbot worker drain builder-3 --why 'is moved to the new rack'"
    )]
    Drain(Rest),
    /// Let a worker take no more tasks for a while, and say why: it is shown with what waits for it
    #[command(
        after_help = "It finishes what it runs and stays connected. Without --until, until `taskbot worker resume`.

Examples:
  taskbot worker maintenance builder-3 --why 'new disks'
  taskbot worker maintenance builder-3 --why 'new disks' --until 2h
  taskbot worker maintenance builder-3 --why 'new disks' --until 2030-01-31T18:00:00Z"
    )]
    Maintenance {
        /// The worker
        name: String,
        /// Why, for those who look at the worker and at tasks that wait for it
        #[arg(long, value_name = "TEXT")]
        why: String,
        /// When it takes tasks again: for how long (`2h`), or a time
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// Let a worker take tasks again
    #[command(
        visible_aliases = ["uncordon", "activate"],
        after_help = "Examples:
  taskbot worker resume builder-3"
    )]
    Resume {
        /// The worker
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Rest {
    /// The worker
    pub(crate) name: String,
    /// Why, for those who look at the worker and at tasks that wait for it
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Conformance {
    /// What it is told to provide, as `with` in task.yaml (several times for several)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) with: Vec<String>,
    /// A variable of its environment, as `env` of its configuration (several times for several)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// How long it may take to make an environment
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    pub(crate) provision: String,
    /// The program, and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    pub(crate) command: Vec<String>,
}
