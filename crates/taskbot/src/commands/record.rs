//! `event record`: events written as a dump that `event send` and rule tests read.

use super::{Context, tail};
use crate::{
    cli::Record,
    client::follow::{Follow, SseEvent},
    fault::{self, Fault},
    output,
};
use anyhow::{Context as _, Result};
use futures_util::StreamExt;
use serde_json::Value;
use std::{
    fs::File,
    io::{self, Write},
    ops::ControlFlow,
};
use store::StoredEvent;

/// Carries `event record` out.
pub(super) async fn run(args: Record, context: &Context) -> Result<u8> {
    // Wrong patterns are found here, before a file is made.
    tail::patterns(&args.subjects)?;
    if args.ids.is_empty() && args.since.is_none() && args.count.is_none() {
        return Err(Fault::usage("say what to record: --id, --since or --count").into());
    }
    // An event that is not there leaves no file behind that would be in the way of the next try.
    let mut named = Vec::new();
    for id in &args.ids {
        let id = context.client.event_id(id).await?;
        named.push(recorded(&context.client.get(&format!("events/{id}"), &[]).await?)?);
    }
    let mut out: Box<dyn Write> = if args.file.as_os_str() == "-" {
        Box::new(io::stdout())
    } else {
        let cannot = |error| Fault::usage(format!("cannot write {}: {error}", args.file.display()));
        Box::new(File::create_new(&args.file).map_err(cannot)?)
    };
    let mut count: u64 = 0;
    let write = |out: &mut dyn Write, event: &Value| -> Result<()> {
        out.write_all(&recorded(event)?).context("cannot write")?;
        out.flush().context("cannot write")
    };
    if !args.ids.is_empty() {
        for line in &named {
            out.write_all(line).context("cannot write")?;
            count += 1;
        }
        out.flush().context("cannot write")?;
    } else if args.since.is_some() {
        let query = [
            ("since", context.time("--since", args.since.as_deref())?),
            ("topics", (!args.subjects.is_empty()).then(|| args.subjects.join(","))),
            ("where", args.filter.clone()),
            ("outside", args.subjects.is_empty().then(|| "true".to_owned())),
        ];
        let mut pieces = context.client.bytes("export/events", &query).await?.bytes_stream();
        let mut held = Vec::new();
        while let Some(piece) = pieces.next().await {
            held.extend_from_slice(&piece.context("the server's answer ended early")?);
            for line in complete_lines(&mut held) {
                if args.count.is_none_or(|most| count < most) {
                    out.write_all(&line).context("cannot write")?;
                    count += 1;
                }
            }
        }
        out.flush().context("cannot write")?;
    } else {
        let query = [
            ("events", Some("true".to_owned())),
            ("topics", (!args.subjects.is_empty()).then(|| args.subjects.join(","))),
            ("where", args.filter.clone()),
        ];
        let take = async |event: SseEvent| {
            if event.name == "resync" {
                return Ok(ControlFlow::Continue(()));
            }
            let event = serde_json::from_str(&event.data).context("the server sent no JSON")?;
            write(&mut out, &event)?;
            count += 1;
            let done = Some(count) >= args.count;
            Ok(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let connected = async || Ok(ControlFlow::Continue(()));
        Follow::new(&context.client, "stream", &query).run(connected, take).await?;
    }
    output::note(format_args!("{count} {}", if count == 1 { "event" } else { "events" }));
    Ok(fault::DONE)
}

/// Takes the whole lines out of bytes that come in pieces.
fn complete_lines(held: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let Some(end) = held.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    let rest = held.split_off(end + 1);
    let lines = std::mem::replace(held, rest);
    lines.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

/// An event as a line of fedora-messaging's recorder.
fn recorded(event: &Value) -> Result<Vec<u8>> {
    let stored: StoredEvent = serde_json::from_value(event.clone()).context("the server sent no event")?;
    if stored.body_expired {
        let message = format!("the body of event #{} has expired", stored.seq);
        return Err(Fault::new(fault::NOT_FOUND, message).into());
    }
    let mut line = Vec::new();
    events::recorded::write_line(&stored.event, &mut line).context("the payload is no JSON")?;
    Ok(line)
}
