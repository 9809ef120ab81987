//! `rule …`.

use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// Check a folder of rules without a server; every mistake is shown with its place
    #[command(after_help = "Ends with 1 when there are errors.

Examples:
  taskbot rule check
  taskbot rule check ./rules -o json")]
    Check {
        /// The rules folder
        #[arg(default_value = "rules")]
        path: PathBuf,
    },
    /// Run the tests of a folder of rules without a server
    #[command(after_help = "Ends with 1 when one fails.

Examples:
  taskbot rule test ./rules")]
    Test {
        /// The rules folder
        #[arg(default_value = "rules")]
        path: PathBuf,
    },
    /// List the rules of a folder, or without one those that are in force on the server
    #[command(after_help = "Examples:
  taskbot rule list
  taskbot rule list ./rules")]
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
    /// Let the server read its rules folder again
    #[command(
        after_help = "Rules that are wrong, or whose tests fail, are not taken: the old ones stay in force.

Examples:
  taskbot rule reload"
    )]
    Reload,
}
