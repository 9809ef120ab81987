//! `rule explain`: one rule against one event or message.

use super::{Context, event, rule};
use crate::{
    cli::Global,
    client::escape,
    fault::{self, Fault},
    output,
};
use anyhow::{Context as _, Result};
use events::recorded::RecordedReader;
use model::{Clock, Event, RuleName, SourceName, SystemClock, event::RecordedMessage, verdict::Verdict};
use serde_json::{Value, json};
use std::{fs::File, io::BufReader, path::Path};
use store::StoredEvent;

/// The source of messages from files.
const FILE_SOURCE: &str = "file";

/// An event that the command line names.
pub(super) enum Named {
    /// A recorded message in a file.
    Message(Box<RecordedMessage>),
    /// An event of the server.
    Id(String),
}

impl Named {
    /// A file where there is one, else an id.
    ///
    /// # Errors
    /// The file holds no recorded message.
    pub(super) fn of(text: &str) -> Result<Self> {
        let path = Path::new(text);
        if !path.is_file() {
            if text.contains('/') || path.extension().is_some_and(|extension| extension == "json") {
                return Err(Fault::new(fault::NOT_FOUND, format!("there is no file {text}")).into());
            }
            return Ok(Self::Id(text.to_owned()));
        }
        let cannot = |error| Fault::unread(text, &error);
        let mut messages = RecordedReader::new(BufReader::new(File::open(path).map_err(cannot)?), None);
        match messages.next() {
            Some(Ok(message)) => Ok(Self::Message(Box::new(message))),
            Some(Err(error)) => Err(Fault::usage(format!("{text}: {error}")).into()),
            None => Err(Fault::usage(format!("{text} is empty; expected a recorded message")).into()),
        }
    }

    /// The event itself; an id is asked of the server.
    ///
    /// # Errors
    /// The server does not answer, or has no such event.
    pub(super) async fn event(self, global: &Global) -> Result<Event> {
        let id = match self {
            Self::Message(message) => {
                let now = SystemClock.now();
                let event = message.into_event(&SourceName::from(FILE_SOURCE), now);
                // As far as ages go, a recorded message is as old as it was.
                return Ok(Event { received_at: event.time.unwrap_or(now), ..event });
            }
            Self::Id(id) => id,
        };
        let client = Context::of(global)?.client;
        let id = client.event_id(&id).await?;
        let shown = client.get(&format!("events/{id}"), &[]).await?;
        let stored: StoredEvent = serde_json::from_value(shown).context("the server sent no event")?;
        if stored.body_expired {
            let message = format!("the body of event #{} has expired", stored.seq);
            return Err(Fault::new(fault::NOT_FOUND, message).into());
        }
        Ok(stored.event)
    }
}

/// Carries `rule explain` out: 0 when the rule fires, 1 when it does not.
///
/// # Errors
/// There is no such rule or event.
pub(super) fn run(name: &str, folder: Option<&Path>, with: &str, global: &Global) -> Result<u8> {
    let named = Named::of(with)?;
    let verdict = match folder {
        Some(folder) => {
            // Wrong rules are another thing than a rule that does not fire.
            let set = rule::compile(folder, global).map_err(|error| match fault::exit_code(&error) {
                fault::FAILED => Fault::usage(error.to_string()).into(),
                _ => error,
            })?;
            let set = set.0;
            let event = super::block_on(named.event(global))?;
            let none = || Fault::new(fault::NOT_FOUND, format!("no rule `{name}` in {}", folder.display()));
            serde_json::to_value(explained(&set, &RuleName::new(name), &event)?.ok_or_else(none)?)?
        }
        None => super::block_on(on_server(name, named, global))?,
    };
    output::document(global.output, &verdict, || {
        Ok(output::say(event::verdict_text(global.output, &verdict))?)
    })?;
    let fires = matches!(verdict["verdict"]["kind"].as_str(), Some("fired" | "shadow" | "collected"));
    Ok(if fires { fault::DONE } else { fault::FAILED })
}

fn explained(set: &rules::RuleSet, rule: &RuleName, event: &Event) -> Result<Option<Verdict>> {
    let body = event.check().map_err(|error| Fault::usage(error.to_string()))?;
    Ok(set.explain_rule(rule, event, &body, event.received_at))
}

async fn on_server(name: &str, named: Named, global: &Global) -> Result<Value> {
    let client = Context::of(global)?.client;
    let with = match named {
        Named::Id(id) if id == crate::client::LATEST => json!({"event": client.event_id(&id).await?}),
        Named::Id(id) => json!({"event": id}),
        Named::Message(message) => json!({"message": serde_json::to_value(&*message)?}),
    };
    client.post(&format!("rules/{}/explain", escape(name)), &with).await
}
