//! `queue …`, `dlq …` and `sink …`.

use super::Paging;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List queues with how many tasks wait and run
    #[command(after_help = "Examples:
  taskbot queue list")]
    List,
    /// Hand nothing more out of a queue
    #[command(after_help = "Examples:
  taskbot queue pause default --why 'mirror is down'")]
    Pause {
        /// The queue
        name: String,
        /// For the record
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Hand out of a queue again
    #[command(after_help = "Examples:
  taskbot queue resume default")]
    Resume {
        /// The queue
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List what could not be taken in, newest first
    #[command(after_help = "Examples:
  taskbot dlq list
  taskbot dlq list --where '{source: bus}' -o jsonl")]
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a dead letter with its bytes and the reason
    #[command(after_help = "Examples:
  taskbot dlq show 3
  taskbot dlq show @latest")]
    Show {
        /// Its number, or @latest
        id: String,
    },
    /// Take dead letters in again; they are gone when they are taken
    #[command(after_help = "Examples:
  taskbot dlq requeue 3 4")]
    Requeue {
        /// Their numbers, or @latest
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Drop dead letters for good
    #[command(after_help = "Examples:
  taskbot dlq drop 3")]
    Drop {
        /// Their numbers, or @latest
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SinkCommand {
    /// List where results and messages also go, how far each is behind, and what is wrong
    #[command(after_help = "Examples:
  taskbot sink list
  taskbot dlq list --where 'source^=sink:'")]
    List,
    /// Forget sinks that are not configured any more; messages are kept for them no longer
    #[command(after_help = "Examples:
  taskbot sink forget old-resultsdb")]
    Forget {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
    },
}
