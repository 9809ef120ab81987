//! `event tail`: what comes in and what is told of it, as it happens.

use super::Context;
use crate::{
    cli::{Format, Tail},
    client::follow::{Follow, SseEvent},
    fault::{self, Fault},
    output::{self, line, paint},
};
use anyhow::Result;
use model::{Topic, TopicPattern, event::OWN_SOURCE};
use rules::filter::Filter;
use serde_json::{Value, json};
use std::{collections::HashSet, ops::ControlFlow};
use tokio::sync::mpsc;

/// How many messages may wait to be printed.
const WAITING_MAX: usize = 256;
/// The entries of a page when reading what came in before.
const PAGE: u32 = 500;
/// All that we tell.
const OWN_TOPICS: &str = "taskbot.>";
/// What tells of an event that is shown itself.
const RECEIVED: &str = "taskbot.event.received";

/// One thing to show.
#[derive(Debug)]
enum Shown {
    /// The stream is there: what came before is read from here on.
    Connected,
    /// An event that came in.
    Event(Value),
    /// A message of ours.
    Message(Value),
}

/// Carries `event tail` out.
pub(super) async fn run(args: Tail, context: &Context) -> Result<u8> {
    let patterns = patterns(&args.subjects)?;
    // Wrong filters are found here, with their place, before anything is waited for.
    if let Some(text) = &args.filter {
        Filter::parse(text).map_err(|error| Fault::usage(format!("--{error}")))?;
    }
    let own_only =
        !patterns.is_empty() && patterns.iter().all(|pattern| pattern.as_str().starts_with("taskbot"));
    let (events, messages) = (args.incoming || !(args.outgoing || own_only), !args.incoming);
    let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
    let subjects = (!args.subjects.is_empty()).then(|| args.subjects.join(","));
    let mut printer = Printer {
        args: &args,
        context,
        patterns,
        left: args.count,
        seen: HashSet::new(),
        seen_own: HashSet::new(),
    };
    let incoming = async {
        if !events {
            return std::future::pending().await;
        }
        let query = [
            ("events", Some("true".to_owned())),
            ("topics", subjects.clone()),
            ("where", args.filter.clone()),
        ];
        follow(context, &query, sender.clone(), Shown::Event, args.since.is_some()).await
    };
    let outgoing = async {
        if !messages {
            return std::future::pending().await;
        }
        // Not only under our own topics: what rules emit and what others listen for is told by us, too.
        let query = [("where", args.filter.clone())];
        follow(context, &query, sender.clone(), Shown::Message, args.since.is_some() && !events).await
    };
    let printing = async {
        while let Some(shown) = receiver.recv().await {
            if printer.show(shown).await?.is_break() {
                break;
            }
        }
        Ok(fault::DONE)
    };
    tokio::select! {
        done = incoming => done,
        done = outgoing => done,
        done = printing => done,
    }
}

/// Parses topic patterns of the command line.
///
/// # Errors
/// One is none.
pub(super) fn patterns(subjects: &[String]) -> Result<Vec<TopicPattern>, Fault> {
    let parse =
        |text: &String| TopicPattern::parse(text).map_err(|error| Fault::usage(format!("`{text}`: {error}")));
    subjects.iter().map(parse).collect()
}

async fn follow(
    context: &Context,
    query: &[(&'static str, Option<String>)],
    sender: mpsc::Sender<Shown>,
    wrap: fn(Value) -> Shown,
    tell_connected: bool,
) -> Result<u8> {
    let mut first = tell_connected;
    let connected = async || {
        if std::mem::take(&mut first) && sender.send(Shown::Connected).await.is_err() {
            return Ok(ControlFlow::Break(fault::DONE));
        }
        Ok(ControlFlow::Continue(()))
    };
    let take = async |event: SseEvent| {
        if event.name == "resync" {
            output::note(paint(
                output::odd(),
                "the server no longer keeps what happened meanwhile; `event list` shows it",
            ));
            return Ok(ControlFlow::Continue(()));
        }
        let value = serde_json::from_str(&event.data).unwrap_or_else(|_| json!({"text": event.data}));
        let closed = sender.send(wrap(value)).await.is_err();
        Ok(if closed { ControlFlow::Break(fault::DONE) } else { ControlFlow::Continue(()) })
    };
    Follow::new(&context.client, "stream", query).run(connected, take).await
}

struct Printer<'a> {
    args: &'a Tail,
    context: &'a Context,
    patterns: Vec<TopicPattern>,
    left: Option<u64>,
    /// The events that were shown from the list, so that the stream does not show them again.
    seen: HashSet<i64>,
    /// Our own messages that were shown from the list of events, by topic and data.
    seen_own: HashSet<(String, String)>,
}

impl Printer<'_> {
    async fn show(&mut self, shown: Shown) -> Result<ControlFlow<()>> {
        match shown {
            Shown::Connected => self.show_past().await,
            Shown::Event(event) => {
                let seq = event["seq"].as_i64().unwrap_or_default();
                // Of our own events the message is shown; they did not come in from outside.
                if event["source"] == OWN_SOURCE || self.seen.remove(&seq) {
                    return Ok(ControlFlow::Continue(()));
                }
                self.print_event(&event)
            }
            Shown::Message(message) => self.print_message(&message),
        }
    }

    /// What came in since the time that was asked for, oldest first.
    async fn show_past(&mut self) -> Result<ControlFlow<()>> {
        let since = self.context.time("--since", self.args.since.as_deref())?;
        let all_own = self.args.outgoing && self.patterns.is_empty();
        let patterns = if all_own { vec![TopicPattern::parse(OWN_TOPICS)?] } else { self.patterns.clone() };
        let past = past(self.context, since, self.args.filter.clone(), &patterns).await?;
        let (own, others): (Vec<_>, Vec<_>) = past.iter().partition(|event| event["source"] == OWN_SOURCE);
        self.seen = others.iter().filter_map(|event| event["seq"].as_i64()).collect();
        self.seen_own = own.iter().map(|event| told(&event["topic"], &event["body"])).collect();
        for event in &past {
            if self.print_event(event)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn print_event(&mut self, event: &Value) -> Result<ControlFlow<()>> {
        self.print(event, &event["received_at"], &event["topic"], &event["body"])
    }

    fn print_message(&mut self, message: &Value) -> Result<ControlFlow<()>> {
        let topic = message["topic"].as_str().unwrap_or_default();
        let wanted = if self.patterns.is_empty() {
            topic != RECEIVED || self.args.outgoing
        } else {
            self.patterns.iter().any(|pattern| pattern.matches(&Topic::from(topic)))
        };
        if !wanted || self.seen_own.remove(&told(&message["topic"], &message["data"])) {
            return Ok(ControlFlow::Continue(()));
        }
        self.print(message, &message["created_at"], &message["topic"], &message["data"])
    }

    fn print(&mut self, whole: &Value, time: &Value, topic: &Value, body: &Value) -> Result<ControlFlow<()>> {
        let topic = topic.as_str().unwrap_or_default();
        match self.context.format {
            Format::Table | Format::Markdown if self.args.pretty => {
                output::say(paint(
                    output::title(),
                    format_args!("{} {topic}", time.as_str().unwrap_or_default()),
                ))?;
                output::say(serde_json::to_string_pretty(body)?)?;
            }
            Format::Table | Format::Markdown => {
                output::say(line::terse(&output::clock_time(time, self.context.now()), topic, body))?;
            }
            Format::Json if self.args.pretty => output::say(serde_json::to_string_pretty(whole)?)?,
            // A stream has no end, so JSON comes a line each.
            Format::Json | Format::Jsonl => output::say(serde_json::to_string(whole)?)?,
            Format::Yaml => output::say(format_args!("---\n{}", output::yaml(whole)?.trim_end()))?,
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What tells a message of ours from others: its topic and what it says.
fn told(topic: &Value, data: &Value) -> (String, String) {
    (topic.to_string(), data.to_string())
}

/// The events that came in since a time, oldest first.
///
/// # Errors
/// The server does not answer, or says no.
pub(super) async fn past(
    context: &Context,
    since: Option<String>,
    filter: Option<String>,
    patterns: &[TopicPattern],
) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut before = None;
    loop {
        let query = [
            ("since", since.clone()),
            ("where", filter.clone()),
            ("limit", Some(PAGE.to_string())),
            ("outside", patterns.is_empty().then(|| "true".to_owned())),
            ("before", before),
        ];
        let page = context.client.get("events", &query).await?;
        let covered = |event: &&Value| {
            let topic = Topic::from(event["topic"].as_str().unwrap_or_default());
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(&topic))
        };
        all.extend(page["items"].as_array().into_iter().flatten().filter(covered).cloned());
        before = page["next"].as_str().map(str::to_owned);
        if before.is_none() {
            all.reverse();
            return Ok(all);
        }
    }
}
