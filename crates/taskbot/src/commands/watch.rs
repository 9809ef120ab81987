//! `task watch`: each change of a task until it is final, then its outcome as exit code.

use super::{Context, task};
use crate::{
    client::follow::{Follow, SseEvent},
    fault,
    output::{self, paint, style_of, text_at},
};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use model::{TaskState, task::WaitReason, units::parse_duration};
use serde_json::Value;
use std::{ops::ControlFlow, time::Duration};

/// Ends waiting by `--timeout`.
const TIMEOUT: u8 = 124;
/// How long a task that was just made may take to become ready before it is left to itself.
const READY_LIMIT: Duration = Duration::from_secs(3);
/// How often it is looked at.
const READY_POLL: Duration = Duration::from_millis(100);

/// Watches a task until it is final.
///
/// # Errors
/// The server says no.
pub(crate) async fn run(context: &Context, id: &str, timeout: Option<&str>) -> Result<u8> {
    let limit = timeout
        .map(parse_duration)
        .transpose()
        .map_err(|why| fault::Fault::usage(format!("--timeout: {why}")))?;
    let id = context.client.task_id(id).await?;
    let id = text_at(&context.client.get(&format!("tasks/{id}"), &[]).await?, "task.id");
    let mut watcher = Watcher { context, id: id.clone(), last: None, spinner: spinner() };
    let limit = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let code = tokio::select! {
        done = watcher.follow() => done?,
        () = limit => TIMEOUT,
        _ = tokio::signal::ctrl_c() => fault::INTERRUPTED,
    };
    watcher.spinner.finish_and_clear();
    if matches!(code, TIMEOUT | fault::INTERRUPTED)
        && watcher.last.as_ref().is_none_or(|last| !last.is_final())
    {
        output::note(format_args!("the task goes on; to watch it again: taskbot task watch {id}"));
    }
    Ok(code)
}

/// Looks at a task that was just made until its file was read, for a moment at most: what is wrong with the file or
/// the inputs, or that no worker can run it, is known then, and told. The task as it is then, and the exit code.
///
/// # Errors
/// The server says no.
pub(crate) async fn made_ready(context: &Context, task: Value) -> Result<(Value, u8)> {
    let (mut task, path) = (task.clone(), format!("tasks/{}", text_at(&task, "id")));
    let ready = async {
        loop {
            let state = serde_json::from_value::<TaskState>(task["state"].clone());
            match state {
                Ok(TaskState::Waiting { reason: WaitReason::Resolving, error: None, .. }) => {}
                other => return Ok::<_, anyhow::Error>(other.ok()),
            }
            tokio::time::sleep(READY_POLL).await;
            task = context.client.get(&path, &[]).await?["task"].take();
        }
    };
    let state = tokio::time::timeout(READY_LIMIT, ready).await.ok().transpose()?.flatten();
    let Some(state) = state else { return Ok((task, fault::DONE)) };
    let code = if state.is_final() { exit_code(&state) } else { fault::DONE };
    let is_stuck = matches!(
        &state,
        TaskState::Queued { unmet: Some(_), .. } | TaskState::Waiting { error: Some(_), .. }
    );
    if is_stuck || (state.is_final() && code != fault::DONE) {
        output::note(describe(&task, &state));
    }
    Ok((task, code))
}

/// The exit code of a final state: the outcome's; 3 when there is none, since nothing is known then.
pub(crate) const fn exit_code(state: &TaskState) -> u8 {
    match state {
        TaskState::Finished { outcome, .. } => outcome.exit_code(),
        _ => fault::INFRA,
    }
}

struct Watcher<'a> {
    context: &'a Context,
    id: String,
    last: Option<TaskState>,
    spinner: ProgressBar,
}

impl Watcher<'_> {
    async fn follow(&mut self) -> Result<u8> {
        let query = [
            ("topics", Some("taskbot.task.>".to_owned())),
            ("where", Some(format!("{{subject: \"{}\"}}", self.id))),
        ];
        let follow = Follow::new(&self.context.client, "stream", &query);
        let watcher = tokio::sync::Mutex::new(self);
        // Whenever the stream is there, the state as it is now: nothing was missed, whatever happened meanwhile.
        let connected = async || watcher.lock().await.look().await;
        let take = async |event: SseEvent| {
            let mut watcher = watcher.lock().await;
            if event.name == "resync" {
                return watcher.look().await;
            }
            let message: Value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
            watcher.change(&message["data"], &message["created_at"]).await
        };
        follow.run(connected, take).await
    }

    /// Reads the state as it is now.
    async fn look(&mut self) -> Result<ControlFlow<u8>> {
        let whole = self.context.client.get(&format!("tasks/{}", self.id), &[]).await?;
        let now = Value::String(self.context.now().to_rfc3339());
        let paused = &whole["queue_paused"];
        let done = self.change(&whole["task"], &now).await?;
        if !paused.is_null() {
            let why = paused["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
            let (queue, by) = (text_at(&whole["task"], "queue"), text_at(paused, "by"));
            let text = format!("queue {queue} is paused by {by}{why}");
            self.spinner.suspend(|| output::note(paint(output::odd(), text)));
        }
        Ok(done)
    }

    async fn change(&mut self, task: &Value, at: &Value) -> Result<ControlFlow<u8>> {
        let Ok(state) = serde_json::from_value::<TaskState>(task["state"].clone()) else {
            return Ok(ControlFlow::Continue(()));
        };
        // What the stream tells late was seen when the state was read.
        if self.last.as_ref().is_some_and(|last| state.since() < last.since()) {
            return Ok(ControlFlow::Continue(()));
        }
        let same = self
            .last
            .as_ref()
            .is_some_and(|last| last.label() == state.label() && detail(last) == detail(&state));
        if !same {
            let line = format!(
                "{} {}{}",
                paint(output::faint(), output::clock_time(at, self.context.now())),
                describe(task, &state),
                self.why_again(&state).await?
            );
            self.spinner.suspend(|| output::say(line))?;
            self.spinner.set_message(state.label());
        }
        let end = state.is_final().then(|| exit_code(&state));
        self.last = Some(state);
        match end {
            Some(code) => {
                let whole = self.context.client.get(&format!("tasks/{}", self.id), &[]).await?;
                self.spinner.suspend(|| task::show_results(&whole))?;
                Ok(ControlFlow::Break(code))
            }
            None => Ok(ControlFlow::Continue(())),
        }
    }
}

impl Watcher<'_> {
    /// Why a task that ran is queued again: how its last attempt ended.
    async fn why_again(&self, state: &TaskState) -> Result<String> {
        let (Some(TaskState::Running { attempt, .. }), TaskState::Queued { .. }) = (&self.last, state) else {
            return Ok(String::new());
        };
        let whole = self.context.client.get(&format!("tasks/{}", self.id), &[]).await?;
        let attempts = whole["attempts"].as_array().into_iter().flatten();
        let Some(ended) = attempts.into_iter().find(|ended| ended["number"] == *attempt) else {
            return Ok(String::new());
        };
        let outcome = ended["outcome"].as_str().map(|outcome| format!(" {outcome}")).unwrap_or_default();
        let reason = ended["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
        Ok(format!("; attempt {attempt} ended{outcome}{}", output::shortened(&reason)))
    }
}

/// What tells two states with one label apart: the attempt, or why it waits.
fn detail(state: &TaskState) -> (u32, Option<&str>) {
    match state {
        TaskState::Running { attempt, .. } => (*attempt, None),
        TaskState::Waiting { error, .. } => (0, error.as_deref()),
        _ => (0, None),
    }
}

/// A state with what there is to say about it.
fn describe(task: &Value, state: &TaskState) -> String {
    let label = state.label();
    let more = match state {
        TaskState::Waiting { error: Some(error), next_try_at, .. } => {
            let next = next_try_at.map(|at| format!("; tried again at {}", at.format("%H:%M:%S")));
            format!(": {error}{}", next.unwrap_or_default())
        }
        TaskState::Queued { unmet: Some(unmet), .. } => {
            format!(": no known worker can run it, and it waits for one: {unmet}")
        }
        TaskState::Queued { not_before: Some(at), .. } => {
            format!(" in {}, not before {}", text_at(task, "queue"), at.format("%H:%M:%S"))
        }
        TaskState::Queued { .. } => format!(" in {}", text_at(task, "queue")),
        TaskState::Running { attempt, worker, .. } => format!(" attempt {attempt} on {worker}"),
        TaskState::Finished { reason: Some(reason), .. } => format!(": {reason}"),
        TaskState::Cancelled { who, why, .. } => {
            format!(" by {who}{}", why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())
        }
        TaskState::Superseded { by, .. } => format!(" by task {by}"),
        _ => String::new(),
    };
    format!("{}{more}", paint(style_of(&label), label))
}

fn spinner() -> ProgressBar {
    if !output::is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}
