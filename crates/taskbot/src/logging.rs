//! What the program tells about itself, on standard error: text for people, JSON lines for machines.

use crate::{cli::LogFormat, fault::Fault};
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, fmt::time::SystemTime};

/// Libraries whose words at these levels say nothing to an operator that our own do not say better.
const QUIET: &str = "async_nats=error,sqlx::postgres::notice=error,sqlx::pool::acquire=error";

/// Sets the log up for the whole process. `filter` is `TASKBOT_LOG` or `--log`; `default` the level without it.
///
/// # Errors
/// The filter cannot be read.
pub(crate) fn start(filter: Option<&str>, default: &str, format: LogFormat) -> Result<(), Fault> {
    let default = format!("{default},{QUIET}");
    let filter = EnvFilter::try_new(filter.unwrap_or(&default)).map_err(|error| {
        Fault::usage(format!(
            "--log: {error}; expected a level or TARGET=LEVEL,…, such as info,taskbot_worker=debug"
        ))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).with_timer(SystemTime).init(),
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
    }
    Ok(())
}
