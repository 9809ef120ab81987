//! `result …`.

use super::Paging;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum ResultCommand {
    /// List results, newest first
    #[command(after_help = "Examples:
  taskbot result list --item audit-2.8-1.fc42
  taskbot result list --testcase dist.rpmlint --outcome failed --since 7d
  taskbot result list --task @latest --parts")]
    List {
        #[command(flatten)]
        paging: Paging,
        /// Only of this testcase
        #[arg(long, value_name = "NAME")]
        testcase: Option<String>,
        /// Only of items of this type
        #[arg(long, value_name = "TYPE")]
        item_type: Option<String>,
        /// Only of this item
        #[arg(long, value_name = "ID")]
        item: Option<String>,
        /// Only with these outcomes: passed, failed, info, needs_inspection, skipped, not_applicable, error
        #[arg(long, value_name = "OUTCOME,…")]
        outcome: Option<String>,
        /// Only of this task: its id or the start of it, or @latest
        #[arg(long, value_name = "ID")]
        task: Option<String>,
        /// Also the parts of other results
        #[arg(long)]
        parts: bool,
        /// Only from then on: 2h, 3d, 2026-11-21
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
    /// Write results with their parts as JUnit XML, for CI systems and forges
    #[command(after_help = "Examples:
  taskbot result export --task @latest --junit results.xml
  taskbot result export --testcase dist.rpmlint --since 1d --junit -")]
    Export {
        /// The file; `-` is standard output
        #[arg(long, value_name = "FILE")]
        junit: PathBuf,
        /// Only of this testcase
        #[arg(long, value_name = "NAME")]
        testcase: Option<String>,
        /// Only of this item
        #[arg(long, value_name = "ID")]
        item: Option<String>,
        /// Only of this task: its id or the start of it, or @latest
        #[arg(long, value_name = "ID")]
        task: Option<String>,
        /// Only from then on: 2h, 3d, 2026-11-21
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
    /// Show a result with its parts
    #[command(after_help = "Examples:
  taskbot result show 17")]
    Show {
        /// Its number
        id: i64,
    },
}
