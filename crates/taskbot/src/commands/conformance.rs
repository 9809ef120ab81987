//! `worker conformance`: whether a program keeps to the protocol of external executors.

use super::inputs;
use crate::{
    cli::{Conformance, Format},
    fault::{self, Fault},
    output::{self, paint, style_of},
    server::work,
};
use anyhow::{Context as _, Result};
use model::{SystemClock, SystemIds, units::parse_duration};
use std::sync::Arc;
use worker::executor::{
    Program,
    conformance::{self, Case, Surroundings, Verdict},
};

/// Carries `worker conformance` out.
pub(super) async fn run(tried: Conformance, format: Format) -> Result<u8> {
    let folder = tempfile::Builder::new().prefix("taskbot-conformance-").tempdir();
    let folder = folder.context("no temporary folder")?;
    let provision_limit =
        parse_duration(&tried.provision).map_err(|why| Fault::usage(format!("--provision: {why}")))?;
    let mut program =
        Program { command: tried.command, env: inputs::pairs("--env", &tried.env)?, untrusted: false };
    work::make_absolute(&mut program);
    let around = Surroundings {
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        folder: folder.path().to_owned(),
        provision_limit,
    };
    let with = inputs::parse("--with", &tried.with)?;
    let shown = matches!(format, Format::Table | Format::Markdown);
    let mut tell = |case: &Case| {
        if shown && let Err(error) = output::say(line(case)) {
            tracing::debug!(%error, "a case is not shown");
        }
    };
    let cases = conformance::run(program, with, around, &mut tell).await;
    let failed = cases.iter().filter(|case| case.verdict == Verdict::Failed).count();
    output::document(format, &cases, || {
        match failed {
            0 => output::note("it keeps to the protocol"),
            1 => output::note("1 case failed"),
            _ => output::note(format_args!("{failed} cases failed")),
        }
        Ok(())
    })?;
    Ok(if failed == 0 { fault::DONE } else { fault::FAILED })
}

fn line(case: &Case) -> String {
    let word = match case.verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Skipped => "skipped",
    };
    let reason = case.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{} {} ({} ms){reason}", paint(style_of(word), word), case.name, case.duration_ms)
}
