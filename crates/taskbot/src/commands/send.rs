//! `event send`: one event, or a dump of many in batches.

use super::Context;
use crate::{
    cli::{Format, Send},
    client::Query,
    fault::{self, Fault},
    output::{self, paint, style_of, text_at},
};
use anyhow::Result;
use events::recorded::{DOCUMENT_BYTES_MAX, RecordedError, RecordedReader};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::event::RecordedMessage;
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read},
    path::Path,
    time::Duration,
};

/// The most events of one request.
const BATCH_EVENTS_MAX: usize = 500;
/// The most bytes of one request; one event may be larger.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Carries `event send` out.
pub(super) async fn run(args: Send, context: &Context) -> Result<u8> {
    match &args.subject {
        Some(subject) => {
            let body = match &args.data {
                Some(data) => data.clone().into_bytes(),
                None => read_all(args.file.as_deref())?,
            };
            let query = [("topic", Some(subject.clone())), ("id", args.id.clone())];
            one(context, &query, body).await
        }
        None => many(context, args.file.as_deref()).await,
    }
}

async fn one(context: &Context, query: &Query<'_>, body: Vec<u8>) -> Result<u8> {
    let sent = context.client.send("events", query, "application/json", body).await?;
    let mut tally = Tally::default();
    tally.add(&sent);
    output::document(context.format, &sent, || show(&sent))?;
    Ok(tally.code())
}

/// What became of an event, in a line: `malformed b-1: …`.
fn words(sent: &Value) -> String {
    let outcome = text_at(sent, "outcome");
    let mut line = paint(style_of(&outcome), &outcome);
    if let Some(at) = sent["line"].as_u64().filter(|_| sent["id"].is_null()) {
        line.push_str(&format!(" line {at}"));
    }
    if let Some(id) = sent["id"].as_str() {
        line.push_str(&format!(" {id}"));
    }
    if let Some(seq) = sent["seq"].as_i64().filter(|_| outcome == "known") {
        line.push_str(&format!(" as event #{seq}"));
    }
    if let Some(reason) = sent["reason"].as_str() {
        line.push_str(&format!(": {reason}"));
    }
    if let Some(letter) = sent["letter"].as_i64() {
        line.push_str(&format!("\n  taskbot dlq show {letter}"));
    }
    line
}

/// The event's number on standard output; what became of it for people.
fn show(sent: &Value) -> Result<()> {
    if let Some(seq) = sent["seq"].as_i64() {
        output::say(seq)?;
    }
    let mut line = words(sent);
    for task in sent["tasks"].as_array().into_iter().flatten() {
        line.push_str(&format!("\n  task {}", task.as_str().unwrap_or_default()));
    }
    output::note(line);
    Ok(())
}

/// How many events ended how.
#[derive(Debug, Default)]
struct Tally {
    new: u64,
    known: u64,
    conflict: u64,
    malformed: u64,
    unread: u64,
    tasks: usize,
}

impl Tally {
    fn add(&mut self, sent: &Value) {
        self.tasks += sent["tasks"].as_array().map_or(0, Vec::len);
        match sent["outcome"].as_str() {
            Some("new") => self.new += 1,
            Some("known") => self.known += 1,
            Some("conflict") => self.conflict += 1,
            _ => self.malformed += 1,
        }
    }

    const fn code(&self) -> u8 {
        match self {
            Self { malformed: 0, unread: 0, conflict: 0, .. } => fault::DONE,
            Self { malformed: 0, unread: 0, .. } => fault::CONFLICT,
            _ => fault::FAILED,
        }
    }
}

async fn many(context: &Context, file: Option<&Path>) -> Result<u8> {
    let (input, bytes) = open(file)?;
    let progress = progress(bytes);
    let mut reader = RecordedReader::new(input, None);
    let mut tally = Tally::default();
    let mut batch = Batch::default();
    let mut all = Vec::new();
    loop {
        let message = reader.next();
        let ended = message.is_none();
        match message {
            Some(Ok(message)) => batch.add(&message)?,
            Some(Err(RecordedError::Content { line, reason })) => {
                tally.unread += 1;
                progress.suspend(|| output::note(format_args!("line {line}: {reason}")));
            }
            Some(Err(error)) => return Err(Fault::usage(error.to_string()).into()),
            None => {}
        }
        if batch.is_full() || (ended && batch.count > 0) {
            progress.inc(batch.lines.len() as u64);
            let lines = std::mem::take(&mut batch).lines;
            let answer = context.client.send("events", &[], "application/x-ndjson", lines).await?;
            for sent in answer["items"].as_array().into_iter().flatten() {
                tally.add(sent);
                report(context, &progress, sent, &mut all)?;
            }
        }
        if ended {
            break;
        }
    }
    progress.finish_and_clear();
    if matches!(context.format, Format::Json | Format::Yaml) {
        output::document(context.format, &all, || Ok(()))?;
    }
    let Tally { new, known, conflict, malformed, unread, tasks } = tally;
    output::note(format_args!(
        "{new} new, {known} known, {conflict} in conflict, {malformed} malformed, {unread} unreadable; {}",
        output::counted(tasks, "task")
    ));
    Ok(tally.code())
}

/// Tells what became of one event of many: numbers on standard output, only what went wrong for people.
fn report(context: &Context, progress: &ProgressBar, sent: &Value, all: &mut Vec<Value>) -> Result<()> {
    match context.format {
        Format::Table | Format::Markdown => {
            if let Some(seq) = sent["seq"].as_i64() {
                progress.suspend(|| output::say(seq))?;
            }
            if !matches!(sent["outcome"].as_str(), Some("new" | "known")) {
                progress.suspend(|| output::note(words(sent)));
            }
        }
        Format::Jsonl => progress.suspend(|| output::say(sent))?,
        Format::Json | Format::Yaml => all.push(sent.clone()),
    }
    Ok(())
}

/// Lines that are sent together.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u8>,
    count: usize,
}

impl Batch {
    fn add(&mut self, message: &RecordedMessage) -> Result<()> {
        // Bodies keep their bytes; a body over several lines goes on one.
        let text = serde_json::to_string(message)?;
        let text =
            if text.contains('\n') { json!(serde_json::from_str::<Value>(&text)?).to_string() } else { text };
        self.lines.extend_from_slice(text.as_bytes());
        self.lines.push(b'\n');
        self.count += 1;
        Ok(())
    }

    const fn is_full(&self) -> bool {
        self.count >= BATCH_EVENTS_MAX || self.lines.len() >= BATCH_BYTES_MAX
    }
}

/// The input, and how many bytes it has when that is known.
fn open(file: Option<&Path>) -> Result<(Box<dyn BufRead>, Option<u64>)> {
    let Some(path) = file.filter(|path| path.as_os_str() != "-") else {
        if io::stdin().is_terminal() {
            output::note(paint(output::faint(), "reading events from the terminal; end with Ctrl-D"));
        }
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    };
    let cannot = |error| Fault::unread(path.display(), &error);
    let file = File::open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    if meta.is_dir() {
        return Err(Fault::usage(format!("{} is a folder; give a file", path.display())).into());
    }
    Ok((Box::new(BufReader::new(file)), meta.is_file().then_some(meta.len())))
}

fn read_all(file: Option<&Path>) -> Result<Vec<u8>> {
    let (input, _) = open(file)?;
    let mut bytes = Vec::new();
    input
        .take(DOCUMENT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Fault::usage(format!("cannot read: {error}")))?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(Fault::usage(format!("the input has over {DOCUMENT_BYTES_MAX} bytes")).into());
    }
    Ok(bytes)
}

/// A bar on a terminal; nothing without one.
fn progress(bytes: Option<u64>) -> ProgressBar {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(bytes, target);
    let form = if bytes.is_some() {
        "sending {bar:30} {bytes}/{total_bytes} {eta}"
    } else {
        "sending {spinner} {bytes}"
    };
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
