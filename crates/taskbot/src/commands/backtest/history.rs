//! Recorded history, batch by batch: a dump, a server's events, those of the configured database, or what a stream of
//! the bus still holds.

use crate::{
    cli::{Global, HistoryArgs},
    client::Client,
    config::{Config, Source},
    fault::Fault,
    output,
    server::open,
};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use events::{
    nats::JetStreamHistory,
    recorded::{LINE_BYTES_MAX, RecordedError, RecordedReader},
};
use futures_util::StreamExt;
use model::{Clock, Event, Ids, SourceName, SystemClock, SystemIds, event::RecordedMessage};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    sync::Arc,
};
use store::EventQuery;

/// The source of events of a dump that does not tell it.
pub(super) const DUMP_SOURCE: &str = "dump";
/// How many bytes of lines are judged at a time.
const BATCH_BYTES: usize = 512 * 1024;
/// How many events are judged at a time where they come one by one.
const BATCH_EVENTS: usize = 500;

/// Events to judge.
#[derive(Debug)]
pub(in crate::commands) enum Batch {
    /// Whole lines, each a recorded message.
    Lines(Vec<u8>),
    /// Events, and what could not be read between them: its line in the history, and why.
    Events(Vec<Event>, Vec<(u64, String)>),
}

/// Where the history is.
pub(in crate::commands) enum History {
    /// A dump: its input, and how many bytes it has when that is known.
    Dump(Box<dyn BufRead + Send>, Option<u64>),
    /// A server's events.
    Server(Client, Period),
    /// The events of the configured database.
    Database(Box<Config>, Period),
    /// The messages of the stream of a configured source.
    Stream(Box<Config>, Box<Source>, Period),
}

/// Which events, by when they came in.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands) struct Period {
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

/// A line of a dump. What a server exports tells more than what recorders write.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    #[serde(default)]
    id: Option<String>,
    topic: String,
    #[serde(default)]
    headers: Map<String, Value>,
    body: Box<RawValue>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    domain: Option<String>,
    #[serde(default)]
    time: Option<DateTime<Utc>>,
    #[serde(default)]
    received_at: Option<DateTime<Utc>>,
    #[serde(default)]
    depth: u32,
}

impl Batch {
    /// Its events; what is none is left out.
    pub(in crate::commands) fn into_events(self) -> Vec<Event> {
        let source = SourceName::from(DUMP_SOURCE);
        match self {
            Self::Events(events, _) => events,
            Self::Lines(bytes) => bytes
                .split(|byte| *byte == b'\n')
                .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
                .map(|line| line.into_event(&source))
                .collect(),
        }
    }
}

impl Line {
    /// The event that it is; received at the epoch when that is not told.
    pub(super) fn into_event(self, source: &SourceName) -> Event {
        let Self { id, topic, headers, body, source: told, domain, time, received_at, depth } = self;
        let message = RecordedMessage { id, topic, headers, body };
        let source = told.map_or_else(|| source.clone(), SourceName::from);
        let mut event = message.into_event(&source, received_at.unwrap_or(DateTime::UNIX_EPOCH));
        event.time = time.or(event.time);
        event.depth = depth;
        if let Some(domain) = domain {
            event.domain = SourceName::from(domain);
        }
        event
    }
}

impl History {
    /// The history that the command line names.
    ///
    /// # Errors
    /// It names none, or one that cannot be opened.
    pub(in crate::commands) fn of(args: &HistoryArgs, global: &Global) -> Result<Self> {
        if let Some(path) = &args.dump {
            let (input, bytes) = open_dump(path)?;
            return Ok(Self::Dump(input, bytes));
        }
        let now = SystemClock.now();
        let time = |name: &str, text: &Option<String>| {
            text.as_ref().map(|text| output::parse_time(name, text, now)).transpose()
        };
        let period = Period { since: time("--since", &args.since)?, until: time("--until", &args.until)? };
        if let Some(name) = &args.stream {
            let config = Config::load(global.config.as_deref())?.config;
            let source = source(&config, name)?;
            return Ok(Self::Stream(Box::new(config), Box::new(source), period));
        }
        if period.since.is_none() {
            let message = "say which history: --since TIME, --dump FILE or --stream SOURCE";
            return Err(Fault::usage(message).into());
        }
        if args.offline {
            return Ok(Self::Database(Box::new(Config::load(global.config.as_deref())?.config), period));
        }
        Ok(Self::Server(Client::of(global)?, period))
    }

    /// How many bytes it has, when that is known.
    pub(super) const fn bytes(&self) -> Option<u64> {
        match self {
            Self::Dump(_, bytes) => *bytes,
            Self::Server(..) | Self::Database(..) | Self::Stream(..) => None,
        }
    }

    /// Reads all of it, oldest first; ends early when nobody takes more.
    ///
    /// # Errors
    /// It cannot be read.
    pub(in crate::commands) fn read(self, give: &mut dyn FnMut(Batch) -> bool) -> Result<()> {
        match self {
            Self::Dump(input, _) => read_dump(input, give),
            Self::Server(client, period) => super::super::block_on(read_server(&client, period, give)),
            Self::Database(config, period) => super::super::block_on(read_database(&config, period, give)),
            Self::Stream(config, source, period) => {
                super::super::block_on(read_stream(&config, &source, period, give))
            }
        }
    }
}

/// The configured source of this name.
fn source(config: &Config, name: &str) -> Result<Source> {
    let found = config.sources.iter().find(|source| source.config().name.as_str() == name);
    found.cloned().ok_or_else(|| {
        let names: Vec<_> = config.sources.iter().map(|source| source.config().name.as_str()).collect();
        let known = if names.is_empty() { "none is".to_owned() } else { names.join(", ") };
        Fault::usage(format!("no source `{name}` is configured; configured: {known}")).into()
    })
}

/// The time in the form of the API.
fn query(period: Period) -> [(&'static str, Option<String>); 2] {
    let text = |time: Option<DateTime<Utc>>| time.map(|time| time.to_rfc3339());
    [("since", text(period.since)), ("until", text(period.until))]
}

fn open_dump(path: &Path) -> Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let cannot = |error| Fault::unread(path.display(), &error);
    let file = File::open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    if meta.is_dir() {
        return Err(Fault::usage(format!("{} is a folder; give a file", path.display())).into());
    }
    Ok((Box::new(BufReader::with_capacity(BATCH_BYTES, file)), meta.is_file().then_some(meta.len())))
}

fn read_dump(mut input: Box<dyn BufRead + Send>, give: &mut dyn FnMut(Batch) -> bool) -> Result<()> {
    let mut first = Vec::new();
    (&mut input).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut first).context("cannot read the dump")?;
    let is_array = first.trim_ascii_start().starts_with(b"[");
    let is_open = serde_json::from_slice::<serde::de::IgnoredAny>(&first).is_err_and(|error| error.is_eof());
    let input = Cursor::new(first.clone()).chain(input);
    if is_array || (is_open && !first.trim_ascii().is_empty()) {
        read_document(input, give)
    } else {
        read_lines(input, give)
    }
}

/// One message over several lines, or an array of them.
fn read_document(input: impl BufRead, give: &mut dyn FnMut(Batch) -> bool) -> Result<()> {
    let (mut events, mut unreadable) = (Vec::new(), Vec::new());
    for message in RecordedReader::new(input, None) {
        match message {
            Ok(message) => {
                events.push(message.into_event(&SourceName::from(DUMP_SOURCE), DateTime::UNIX_EPOCH));
            }
            Err(RecordedError::Content { line, reason }) => unreadable.push((line as u64, reason)),
            Err(error) => return Err(Fault::usage(error.to_string()).into()),
        }
        if events.len() == BATCH_EVENTS
            && !give(Batch::Events(std::mem::take(&mut events), std::mem::take(&mut unreadable)))
        {
            return Ok(());
        }
    }
    give(Batch::Events(events, unreadable));
    Ok(())
}

/// Lines, many at a time. The threads that judge find where each begins.
fn read_lines(mut input: impl Read, give: &mut dyn FnMut(Batch) -> bool) -> Result<()> {
    let mut lines = Lines::default();
    let mut piece = vec![0; BATCH_BYTES];
    loop {
        let read = match input.read(&mut piece) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("cannot read the dump"),
        };
        let done = if read == 0 { lines.end(give) } else { !lines.add(&piece[..read], give) };
        if done || read == 0 {
            return Ok(());
        }
    }
}

/// Cuts bytes into batches of whole lines.
#[derive(Debug, Default)]
struct Lines {
    held: Vec<u8>,
    /// In the middle of a line that is too long: the rest of it is left out.
    skipping: bool,
}

impl Lines {
    /// Takes a piece; says whether more is wanted.
    fn add(&mut self, mut piece: &[u8], give: &mut dyn FnMut(Batch) -> bool) -> bool {
        if self.skipping {
            let Some(end) = piece.iter().position(|byte| *byte == b'\n') else { return true };
            self.skipping = false;
            piece = &piece[end..];
        }
        self.held.extend_from_slice(piece);
        if self.held.len() < BATCH_BYTES {
            return true;
        }
        match self.held.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => {
                let rest = self.held.split_off(end + 1);
                give(Batch::Lines(std::mem::replace(&mut self.held, rest)))
            }
            None if self.held.len() > LINE_BYTES_MAX => {
                // What is left of it is no JSON, and so it is told as unreadable.
                self.held.truncate(BATCH_BYTES);
                self.skipping = true;
                true
            }
            None => true,
        }
    }

    /// Gives what is left; says that nothing more comes.
    fn end(&mut self, give: &mut dyn FnMut(Batch) -> bool) -> bool {
        if !self.held.is_empty() {
            give(Batch::Lines(std::mem::take(&mut self.held)));
        }
        true
    }
}

async fn read_server(client: &Client, period: Period, give: &mut dyn FnMut(Batch) -> bool) -> Result<()> {
    let mut pieces = client.bytes("export/events", &query(period)).await?.bytes_stream();
    let mut lines = Lines::default();
    while let Some(piece) = pieces.next().await {
        if !lines.add(&piece.context("the server's answer ended early")?, give) {
            return Ok(());
        }
    }
    lines.end(give);
    Ok(())
}

async fn read_database(config: &Config, period: Period, give: &mut dyn FnMut(Batch) -> bool) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let store = open::store(config, &clock, &ids).await?;
    let mut query = EventQuery {
        since: period.since,
        until: period.until,
        oldest_first: true,
        limit: store::PAGE_MAX,
        ..EventQuery::default()
    };
    loop {
        let page = store.events(&query).await?;
        query.before = page.items.last().map(|event| event.seq);
        let more = page.next.is_some();
        let events = page.items.into_iter().filter(|event| !event.body_expired).map(|event| event.event);
        if !give(Batch::Events(events.collect(), Vec::new())) || !more {
            break;
        }
    }
    store.close().await;
    Ok(())
}

async fn read_stream(
    config: &Config,
    source: &Source,
    period: Period,
    give: &mut dyn FnMut(Batch) -> bool,
) -> Result<()> {
    let mut history = JetStreamHistory::open(source.revealed()?, &config.installation, period.since).await?;
    let mut number = 0;
    loop {
        let messages = history.next_batch(BATCH_EVENTS).await?;
        if messages.is_empty() {
            return Ok(());
        }
        let (mut events, mut unreadable) = (Vec::new(), Vec::new());
        for message in messages {
            number += 1;
            match message.content {
                // Our own came into the inbox another way, and copies of them are dropped there, too.
                Ok(_) if message.own => {}
                Ok(event) if period.until.is_some_and(|until| event.received_at >= until) => {
                    give(Batch::Events(events, unreadable));
                    return Ok(());
                }
                Ok(event) => events.push(event),
                Err(malformed) => unreadable.push((number, malformed.reason)),
            }
        }
        if !give(Batch::Events(events, unreadable)) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<usize> {
        let mut sizes = Vec::new();
        let mut give = |batch: Batch| {
            let Batch::Lines(bytes) = batch else { panic!("lines are cut") };
            sizes.push(bytes.len());
            true
        };
        let mut lines = Lines::default();
        for piece in pieces {
            assert!(lines.add(piece, &mut give));
        }
        lines.end(&mut give);
        sizes
    }

    #[test]
    fn batches_are_whole_lines() {
        let line = [&vec![b'x'; 999][..], b"\n"].concat();
        let many = line.repeat(1000);
        let sizes = cut(&many.chunks(70_001).collect::<Vec<_>>());
        assert_eq!(sizes.iter().sum::<usize>(), 1_000_000);
        assert!(sizes.iter().all(|size| size % 1000 == 0), "{sizes:?}");
        assert_eq!(cut(&[b"a\nb"]), [3], "a last line without an end counts");
        assert_eq!(cut(&[]), [0; 0]);
        let long = vec![b'x'; LINE_BYTES_MAX + 10];
        let sizes = cut(&[&long, &long, b"yy\nb\n"]);
        assert_eq!(sizes, [BATCH_BYTES + 3], "the rest of a line that is too long is left out");
    }
}
