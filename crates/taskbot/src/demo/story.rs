//! What happens, told as it happens.

use crate::{
    client::{
        Client,
        follow::{Follow, SseEvent},
    },
    commands::{event, result, watch},
    fault::{self, Fault},
    output::{self, line, paint, style_of, text_at},
};
use anyhow::{Context, Result};
use model::{Ids, SystemIds, TaskState, outcome::Outcome, units::format_duration};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How many lines of a log's end are shown.
const LOG_LINES: usize = 12;
/// How long the demo waits for its tasks.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// The story of one event.
pub(super) struct Story {
    client: Client,
    began: Instant,
    tasks: Mutex<BTreeMap<String, Option<TaskState>>>,
    /// The event's number, once it was sent.
    event: OnceLock<i64>,
}

impl Story {
    /// A story on this server.
    pub(super) fn new(client: Client) -> Self {
        Self { client, began: Instant::now(), tasks: Mutex::default(), event: OnceLock::new() }
    }

    /// The event's number; 0 before it was sent.
    pub(super) fn event(&self) -> i64 {
        self.event.get().copied().unwrap_or_default()
    }

    /// One of the event's tasks.
    pub(super) fn task(&self) -> String {
        self.tasks().keys().next().cloned().unwrap_or_else(|| "@latest".to_owned())
    }

    /// Sends the event and tells what follows, until its tasks have ended; gives the worst outcome's exit code.
    ///
    /// # Errors
    /// The server says no, or the tasks take too long.
    pub(super) async fn play(&self, event: &str) -> Result<u8> {
        let query = [("topics", Some("taskbot.task.>".to_owned()))];
        let mut sent = false;
        let connected = async || {
            if !std::mem::replace(&mut sent, true) {
                self.send(event).await?;
            }
            Ok(self.done())
        };
        let take = async |message: SseEvent| {
            self.message(&serde_json::from_str(&message.data).unwrap_or(Value::Null)).await?;
            Ok(self.done())
        };
        let told = Follow::new(&self.client, "stream", &query).run(connected, take);
        match tokio::time::timeout(TIME_LIMIT, told).await {
            Ok(told) => told,
            Err(_) => {
                Err(Fault::new(124, format!("the tasks did not end within {}", format_duration(TIME_LIMIT)))
                    .into())
            }
        }
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Option<TaskState>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all tasks have ended, and how.
    fn done(&self) -> ControlFlow<u8> {
        let tasks = self.tasks();
        let ends: Option<Vec<&TaskState>> =
            tasks.values().map(|state| state.as_ref().filter(|state| state.is_final())).collect();
        let Some(ends) = ends else { return ControlFlow::Continue(()) };
        let worst = ends.iter().max_by_key(|state| match state {
            TaskState::Finished { outcome, .. } => outcome.severity(),
            _ => Outcome::Error(model::ErrorReason::Task).severity(),
        });
        // No task at all: the demo's own rules would be broken.
        ControlFlow::Break(worst.map_or(fault::FAILED, |state| watch::exit_code(state)))
    }

    fn say(&self, text: impl std::fmt::Display) -> Result<()> {
        let since = format!("{:>7.2}s", self.began.elapsed().as_secs_f64());
        Ok(output::say(format_args!("{} {text}", paint(output::faint(), since)))?)
    }

    async fn send(&self, event: &str) -> Result<()> {
        let mut message: Value = serde_json::from_str(event).context("the recorded event")?;
        // A fresh id each time, or a demo in the same folder would find the event known.
        message["id"] = SystemIds.next().to_string().into();
        output::say(paint(output::title(), "\nan event comes in"))?;
        let topic = text_at(&message, "topic");
        self.say(format_args!("{} {}", line::topic(&topic), line::summary(&message["body"])))?;
        let sent =
            self.client.send("events", &[], "application/json", message.to_string().into_bytes()).await?;
        _ = self.event.set(sent["seq"].as_i64().unwrap_or_default());
        output::say(paint(output::title(), "\nthe rules say"))?;
        let why = self.client.get(&format!("events/{}/why", sent["seq"]), &[]).await?;
        for verdict in why.as_array().into_iter().flatten() {
            output::say(event::verdict_lines(verdict))?;
        }
        output::say(paint(output::title(), "\ntheir tasks run"))?;
        let ids = sent["tasks"].as_array().into_iter().flatten().filter_map(Value::as_str);
        self.tasks().extend(ids.map(|id| (id.to_owned(), None)));
        Ok(())
    }

    async fn message(&self, message: &Value) -> Result<()> {
        let task = &message["data"];
        let id = text_at(task, "id");
        let Ok(state) = serde_json::from_value::<TaskState>(task["state"].clone()) else { return Ok(()) };
        {
            let mut tasks = self.tasks();
            let Some(known) = tasks.get_mut(&id) else { return Ok(()) };
            // `created` comes before the answer to the event: what is told twice is shown once.
            if known.as_ref().is_some_and(|known| known.label() == state.label()) {
                return Ok(());
            }
            *known = Some(state.clone());
        }
        let label = state.label();
        self.say(format_args!(
            "{} {} {}",
            text_at(task, "name"),
            text_at(task, "item.id"),
            paint(style_of(&label), &label)
        ))?;
        if state.is_final() { self.show_end(&id).await } else { Ok(()) }
    }

    /// Phases, the log's end, and results of a task that ended.
    async fn show_end(&self, id: &str) -> Result<()> {
        let whole = self.client.get(&format!("tasks/{id}"), &[]).await?;
        let task = &whole["task"];
        if let Some(reason) = task["state"]["reason"].as_str() {
            output::say(format_args!("         {}", output::shortened(reason)))?;
        }
        for attempt in whole["attempts"].as_array().into_iter().flatten() {
            let phases = attempt["phases"].as_array().into_iter().flatten().map(|phase| {
                let took = Duration::from_millis(phase["duration_ms"].as_u64().unwrap_or_default());
                format!("{} {}", text_at(phase, "phase"), format_duration(took))
            });
            output::say(format_args!("         phases  {}", phases.collect::<Vec<_>>().join(", ")))?;
            let environment = &attempt["environment"];
            let executor = text_at(environment, "executor");
            output::say(format_args!("         in      {executor} {}", text_at(environment, "engine")))?;
            for note in environment["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                output::say(format_args!("                 {}", paint(output::faint(), note)))?;
            }
            if executor == "local" {
                let warning = "without isolation, since neither an engine nor the sandbox worked here";
                output::say(format_args!("         {}", paint(output::odd(), warning)))?;
            }
        }
        output::say(format_args!("         commit  {}", text_at(task, "kind.resolved.commit")))?;
        let log = self.client.bytes(&format!("tasks/{id}/log"), &[]).await;
        let log = match log {
            Ok(response) => response.text().await.unwrap_or_default(),
            Err(error) => format!("no log: {error:#}"),
        };
        let lines: Vec<&str> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            output::say(format_args!("         {}", paint(output::faint(), format_args!("| {line}"))))?;
        }
        for stored in whole["results"].as_array().into_iter().flatten() {
            output::say(format_args!("         {}", result::part_line(stored)))?;
            let shown = self.client.get(&format!("results/{}", stored["id"]), &[]).await?;
            for part in shown["parts"].as_array().into_iter().flatten() {
                output::say(format_args!("           {}", result::part_line(part)))?;
            }
        }
        Ok(())
    }
}
