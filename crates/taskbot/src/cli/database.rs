//! `db …` and `token …`.

use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Bring the configured database to this program's schema; servers also do it when they start
    #[command(after_help = "Examples:
  taskbot db migrate --config /etc/taskbot.yaml")]
    Migrate,
    /// Remove what is older than the server's configuration keeps it; servers also do it by themselves
    #[command(after_help = "Examples:
  taskbot db prune --dry-run")]
    Prune {
        /// Only count
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; prints it, this once
    #[command(
        after_help = "Roles: viewer reads; submitter also sends events and submits tasks; agent is for workers;
manager also manages queues, workers and rules; admin everything.

Examples:
  taskbot token create builder-3 --role agent > /etc/taskbot/token
  taskbot token create ci --role submitter --expires 90d --queue packages --priority-max 0 --run-max 2h
  taskbot token create me --role admin --offline --config /etc/taskbot.yaml    the first one, without a server
  taskbot token create me --role admin --offline --data-dir /var/lib/taskbot"
    )]
    Create {
        /// Who or what it is for
        name: String,
        /// viewer, submitter, agent, manager or admin
        #[arg(long)]
        role: String,
        /// It is refused after this time: 90d, 12h
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// Only for this queue; may be given several times (submitter and agent)
        #[arg(long = "queue", value_name = "QUEUE")]
        queues: Vec<String>,
        /// The highest priority that it may ask for (submitter)
        #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
        priority_max: Option<i32>,
        /// The longest that its tasks may hold a machine; longer limits are cut: 2h (submitter)
        #[arg(long, value_name = "TIME")]
        run_max: Option<String>,
        /// Write to the configured database, without asking a server
        #[arg(long)]
        offline: bool,
        /// With --offline: where everything is kept that has no other place
        #[arg(long, value_name = "DIR", env = "TASKBOT_DATA_DIR")]
        data_dir: Option<PathBuf>,
        /// With --offline: the database, sqlite:PATH or postgres://USER@HOST/NAME
        #[arg(long, value_name = "URL", env = "TASKBOT_DATABASE", hide_env_values = true)]
        database: Option<String>,
    },
    /// Sign a token for the build system that speaks ALTS' interface; prints it
    #[command(
        after_help = "FILE is a configuration of ALTS itself (`jwt_secret`, `hashing_algorithm`), or of taskbot
(`interfaces.alts.secret_file`, `algorithm`). The token holds nothing but the address, and opens ALTS' interface alone.

Examples:
  taskbot token jwt -c alts_config.yaml -e builder@example.org
  taskbot token jwt -c /etc/taskbot.yaml -e builder@example.org
  taskbot token jwt -s my_very_secret_phrase -a HS256 -e builder@example.org"
    )]
    Jwt {
        /// The configuration that names the secret
        #[arg(short = 'c', value_name = "FILE", conflicts_with = "secret")]
        file: Option<PathBuf>,
        /// The secret itself; command lines are seen by everybody on this machine
        #[arg(short, long)]
        secret: Option<String>,
        /// HS256, HS384 or HS512; HS256, or what the configuration says, when missing
        #[arg(short, long)]
        algorithm: Option<String>,
        /// Whom it is for
        #[arg(short, long)]
        email: String,
    },
    /// List tokens, without their secrets
    #[command(after_help = "Examples:
  taskbot token list")]
    List,
    /// Refuse a token from now on
    #[command(after_help = "Examples:
  taskbot token revoke builder-3
  taskbot token revoke 0193f2c0-0000-7000-8000-000000000000")]
    Revoke {
        /// Its name, or its id where several have the name
        token: String,
    },
}
