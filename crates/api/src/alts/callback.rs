//! Telling the build system what came of a task: at least once, with retries, also over a restart.

use super::{
    Settings,
    result::{API_VERSION, document_of},
};
use crate::{outward, state::ApiState};
use reqwest::{Client, Url};
use serde_json::{Value, json};
use std::{fmt, time::Duration};
use store::{Callback, StoreError};
use tokio_util::sync::CancellationToken;

/// How often it is looked for tasks that have ended.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How many are told at a time.
const AT_ONCE: u32 = 50;
/// How long one who tells has them to itself.
const HELD: Duration = Duration::from_secs(300);
/// How long the build system may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often it is tried.
pub const TRIES_MAX: u32 = 12;
/// How long to wait before it is tried again; twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// The longest that is waited.
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// The build system that is told.
#[derive(Clone, PartialEq, Eq)]
pub struct BuildSystem {
    /// Where it is.
    pub url: Url,
    /// The token that is shown there.
    pub token: Option<String>,
}

impl fmt::Debug for BuildSystem {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)
    }
}

impl BuildSystem {
    /// Where a task's result is to be told to. It is always this build system: whoever schedules a task must not
    /// lead its token elsewhere.
    ///
    /// # Errors
    /// It is no address, or elsewhere.
    pub(super) fn place(&self, href: &str) -> Result<Url, String> {
        let place = self.url.join(href).map_err(|error| format!("`{href}` is no address: {error}"))?;
        if place.origin() == self.url.origin() {
            Ok(place)
        } else {
            Err(format!("`{href}` is not at {}", self.url.origin().ascii_serialization()))
        }
    }
}

/// Tells until told to stop. Any number of servers may do it.
pub async fn run(state: ApiState, base: String, stop: CancellationToken) {
    let Some(settings) = state.interfaces().alts.clone() else { return };
    let Some(build_system) = settings.build_system.clone() else { return };
    let http = outward::client(ANSWER_MAX).unwrap_or_default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(settings.look_every) => {}
        }
        let due = match state.scheduler().store().due_callbacks(AT_ONCE, HELD).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "callbacks wait");
                continue;
            }
        };
        for callback in due {
            if let Err(error) = tell(&state, &settings, &build_system, &http, &base, &callback).await {
                tracing::warn!(task = %callback.task, %error, "a callback waits");
            }
        }
    }
}

/// How often callbacks are looked at where nothing else is said.
#[must_use]
pub(super) const fn look_every() -> Duration {
    LOOK_EVERY
}

async fn tell(
    state: &ApiState,
    settings: &Settings,
    to: &BuildSystem,
    http: &Client,
    base: &str,
    callback: &Callback,
) -> Result<(), StoreError> {
    let store = state.scheduler().store();
    let body = match body(state, callback, base).await {
        Ok(body) => body,
        Err(why) => return store.put_off_callback(callback.task, RETRY_FIRST, &why).await,
    };
    let told = match to.place(&callback.href) {
        Ok(place) => post(http, to, place, &body).await,
        Err(why) => Err(why),
    };
    let who = "alts";
    let object = format!("task/{}", callback.task);
    match told {
        Ok(()) => store.end_callback(callback.task).await,
        Err(why) if callback.tried + 1 >= TRIES_MAX => {
            tracing::error!(task = %callback.task, href = callback.href, why, "a callback is given up");
            let detail = json!({"href": callback.href, "why": why, "tries": callback.tried + 1});
            state.scheduler().audit(who, "callback.give_up", object, detail).await?;
            store.end_callback(callback.task).await
        }
        Err(why) => {
            tracing::info!(task = %callback.task, href = callback.href, why, "a callback is tried again");
            let wait = settings.retry_first.saturating_mul(1_u32 << callback.tried.min(16)).min(RETRY_MAX);
            store.put_off_callback(callback.task, wait, &why).await
        }
    }
}

/// How long to wait before a callback is tried again where nothing else is said.
#[must_use]
pub(super) const fn retry_first() -> Duration {
    RETRY_FIRST
}

async fn body(state: &ApiState, callback: &Callback, base: &str) -> Result<Value, String> {
    let task = state.scheduler().store().task(callback.task).await.map_err(|error| error.to_string())?;
    let document = document_of(state, &task, base).await.map_err(|problem| problem.detail)?;
    let (result, stats) = document.ok_or_else(|| "the task has not ended".to_owned())?;
    Ok(json!({"api_version": API_VERSION, "result": result, "stats": stats}))
}

async fn post(http: &Client, to: &BuildSystem, place: Url, body: &Value) -> Result<(), String> {
    let mut request = http.post(place).json(body);
    if let Some(token) = &to.token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("the build system answered {status}")) }
}
