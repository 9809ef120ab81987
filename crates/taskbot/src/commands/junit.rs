//! `result export`: stored results for other tools to read.

use super::Context;
use crate::{
    fault::{self, Fault},
    output,
};
use anyhow::{Context as _, Result};
use model::result::StoredResult;
use std::path::Path;

/// The most results of one document.
const RESULTS_MAX: usize = 100_000;
/// How many are asked for at a time.
const AT_ONCE: &str = "1000";

/// Writes results with their parts as JUnit XML, newest first.
pub(super) async fn export(
    context: &Context,
    mut query: Vec<(&'static str, Option<String>)>,
    file: &Path,
) -> Result<u8> {
    query.extend([("parts", Some("true".to_owned())), ("limit", Some(AT_ONCE.to_owned()))]);
    let mut results: Vec<StoredResult> = Vec::new();
    let mut before: Option<String> = None;
    loop {
        let mut asked = query.clone();
        asked.push(("before", before.take()));
        let mut page = context.client.get("results", &asked).await?;
        let items: Vec<StoredResult> =
            serde_json::from_value(page["items"].take()).context("the server's results")?;
        results.extend(items);
        if results.len() > RESULTS_MAX {
            let message = format!("more than {RESULTS_MAX} results: ask for fewer, by --task or --since");
            return Err(Fault::usage(message).into());
        }
        match page["next"].as_str() {
            Some(next) => before = Some(next.to_owned()),
            None => break,
        }
    }
    let text = results::junit_writer::document(&results::junit_writer::suites(&results));
    if file.as_os_str() == "-" {
        output::write(text.as_bytes())?;
        return Ok(fault::DONE);
    }
    std::fs::write(file, text)
        .map_err(|error| Fault::usage(format!("cannot write {}: {error}", file.display())))?;
    output::note(format_args!("{} results are in {}", results.len(), file.display()));
    Ok(fault::DONE)
}
