//! Queues: making them known, pausing, and handing their jobs out.

use super::{
    answer::{Answer, Refusal, document, done},
    ask::{Ask, required},
    jobs::{listed, written},
    runs::RUN_NAME_BYTES_MAX,
    shape::Shown,
};
use model::paddles::python_time;
use serde_json::{Map, Value, json};
use std::time::Duration;
use store::{PADDLES_ROWS_MAX, PaddlesJobQuery, PaddlesPause, PaddlesPopped, PaddlesQueue};

/// The longest pause in seconds.
const PAUSE_SECONDS_MAX: f64 = 10.0 * 366.0 * 24.0 * 3600.0;

fn no_queue() -> Refusal {
    Refusal::bad("specified queue does not exist")
}

fn shown(queue: &PaddlesQueue) -> Map<String, Value> {
    let all = [
        ("queue", json!(queue.name)),
        ("paused", json!(queue.paused_since.is_some())),
        ("paused_by", json!(queue.paused_by)),
        ("paused_since", json!(queue.paused_since.map(python_time))),
        ("paused_until", json!(queue.paused_until.map(python_time))),
    ];
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// `GET /queue/`
pub(crate) async fn list(ask: &Ask) -> Answer {
    let (name, by) = (ask.text("machine_type"), ask.text("paused_by"));
    let mut queues = ask.store().paddles_queues().await?;
    queues.retain(|queue| {
        name.is_none_or(|name| name.split('|').any(|name| name == queue.name))
            && by.is_none_or(|by| queue.paused_by.as_deref() == Some(by))
    });
    Ok(document(queues.iter().map(shown).collect::<Vec<_>>()))
}

/// `POST /queue/`
pub(crate) async fn add(ask: &Ask) -> Answer {
    let body = ask.object()?;
    let name = required(&body, "queue")?;
    if name.len() > RUN_NAME_BYTES_MAX || name.contains(char::is_control) {
        return Err(Refusal::bad(format!("the name of a queue has at most {RUN_NAME_BYTES_MAX} bytes")));
    }
    ask.check_queue(name)?;
    if !ask.store().add_paddles_queue(name).await? {
        return Err(Refusal::bad(format!("Queue {name} already exists")));
    }
    ask.audit("paddles.queue.add", format!("queue/{name}"), json!({})).await?;
    Ok(done())
}

/// How long a pause is: seconds, also parts of them, also as a text.
fn pause_of(value: &Value) -> Result<Duration, Refusal> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    let long = seconds.filter(|seconds| *seconds <= PAUSE_SECONDS_MAX);
    let long = long.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    long.ok_or_else(|| Refusal::bad("pause_duration must be a number of seconds"))
}

/// `PUT /queue/`
pub(crate) async fn pause(ask: &Ask) -> Answer {
    let body = ask.object()?;
    let name = required(&body, "queue")?;
    ask.check_queue(name)?;
    let long = body.get("pause_duration").filter(|long| !long.is_null()).map(pause_of).transpose()?;
    let long = long.filter(|long| !long.is_zero());
    let by = body.get("paused_by").and_then(Value::as_str).filter(|by| !by.is_empty());
    let long_ms = long.map(|long| u64::try_from(long.as_millis()).unwrap_or(u64::MAX).max(1));
    if long_ms.is_some() && by.is_none() {
        return Err(Refusal::bad("Cannot pause without specifying paused_by"));
    }
    match ask.store().pause_paddles_queue(name, by.unwrap_or_default(), long_ms).await? {
        PaddlesPause::Done => {}
        PaddlesPause::Missing => return Err(no_queue()),
        PaddlesPause::Paused => return Err(Refusal::forbidden("Cannot pause an already-paused queue")),
    }
    let action = if long_ms.is_some() { "queue.pause" } else { "queue.resume" };
    ask.audit(
        action,
        format!("queue/{name}"),
        json!({"by": by, "seconds": long.map(|long| long.as_secs_f64())}),
    )
    .await?;
    ask.written();
    Ok(done())
}

/// `GET /queue/pop_queue`
pub(crate) async fn pop(ask: &Ask) -> Answer {
    let name = ask.text("queue").ok_or_else(|| Refusal::bad("could not find required argument: 'queue'"))?;
    ask.check_queue(name)?;
    if ask.head {
        // It only asks whether there is such a place; nothing is handed out.
        return Ok(done());
    }
    let lease_ms = u64::try_from(ask.settings().lease.as_millis()).unwrap_or(u64::MAX);
    match ask.store().pop_paddles_job(name, lease_ms).await? {
        PaddlesPopped::Job(job) => Ok(written(ask, &job, &Shown::All)),
        PaddlesPopped::Nothing => Ok(document(Value::Null)),
        PaddlesPopped::Paused => Err(Refusal::unavailable("queue is paused, cannot retrieve job")),
    }
}

/// The queue that a request names, in its body or in an argument.
fn named(ask: &Ask) -> Result<String, Refusal> {
    if let Some(name) = ask.text("queue").or_else(|| ask.text("machine_type")) {
        return Ok(name.to_owned());
    }
    Ok(required(&ask.object()?, "queue")?.to_owned())
}

/// A queue, and how many jobs wait in it. One that nobody made known is there as long as it holds jobs.
async fn counted(ask: &Ask, name: String) -> Result<(PaddlesQueue, u64), Refusal> {
    let known = ask.store().paddles_queues().await?.into_iter().find(|queue| queue.name == name);
    let queued = ask.store().count_paddles_queue(&name).await?;
    let plain = PaddlesQueue { name, paused_by: None, paused_since: None, paused_until: None };
    let queue = known.or_else(|| (queued > 0).then_some(plain)).ok_or_else(no_queue)?;
    Ok((queue, queued))
}

/// `/queue/stats/`
pub(crate) async fn stats(ask: &Ask) -> Answer {
    let (queue, queued) = counted(ask, named(ask)?).await?;
    let mut shown = shown(&queue);
    shown.insert("queued_jobs".to_owned(), queued.into());
    Ok(document(shown))
}

/// `/queue/queued_jobs/`
pub(crate) async fn jobs(ask: &Ask) -> Answer {
    let (queue, _) = counted(ask, named(ask)?).await?;
    let query = PaddlesJobQuery {
        queue: Some(queue.name),
        status: Some("queued".to_owned()),
        user: ask.text("user").map(str::to_owned),
        run: ask.text("run_name").map(str::to_owned),
        limit: PADDLES_ROWS_MAX,
        ..PaddlesJobQuery::default()
    };
    listed(ask, query).await
}
