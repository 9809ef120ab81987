//! Queues: making them known, pausing, and handing their jobs out.

use super::{
    answer::{Answer, Refusal, document, done},
    ask::{Ask, required, whole},
    jobs::{listed, written},
    runs::RUN_NAME_BYTES_MAX,
    shape::Shown,
};
use model::paddles::python_time;
use serde_json::{Map, Value, json};
use store::{PADDLES_ROWS_MAX, PaddlesJobQuery, PaddlesPause, PaddlesPopped, PaddlesQueue};

/// The longest pause in seconds.
const PAUSE_SECONDS_MAX: i64 = 10 * 366 * 24 * 3600;

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
        return Err(Refusal::bad(format!("queue {name} already exists")));
    }
    ask.audit("paddles.queue.add", format!("queue/{name}"), json!({})).await?;
    Ok(done())
}

/// `PUT /queue/`
pub(crate) async fn pause(ask: &Ask) -> Answer {
    let body = ask.object()?;
    let name = required(&body, "queue")?;
    ask.check_queue(name)?;
    let seconds = match body.get("pause_duration") {
        None | Some(Value::Null) => 0,
        Some(value) => {
            let seconds = whole(value).filter(|seconds| (0..=PAUSE_SECONDS_MAX).contains(seconds));
            seconds.ok_or_else(|| Refusal::bad("pause_duration must be an integer, in seconds"))?
        }
    };
    let by = body.get("paused_by").and_then(Value::as_str).filter(|by| !by.is_empty());
    let long_ms = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(|seconds| seconds * 1000);
    if long_ms.is_some() && by.is_none() {
        return Err(Refusal::bad("could not find required key: 'paused_by'"));
    }
    match ask.store().pause_paddles_queue(name, by.unwrap_or_default(), long_ms).await? {
        PaddlesPause::Done => {}
        PaddlesPause::Missing => return Err(no_queue()),
        PaddlesPause::Paused => return Err(Refusal::forbidden("Cannot pause an already-paused queue")),
    }
    let action = if long_ms.is_some() { "queue.pause" } else { "queue.resume" };
    ask.audit(action, format!("queue/{name}"), json!({"by": by, "seconds": seconds})).await?;
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

/// `/queue/stats/`
pub(crate) async fn stats(ask: &Ask) -> Answer {
    let name = named(ask)?;
    let known = ask.store().paddles_queues().await?.into_iter().find(|queue| queue.name == name);
    let queued = ask.store().count_paddles_queue(&name).await?;
    if known.is_none() && queued == 0 {
        return Err(no_queue());
    }
    let plain =
        || PaddlesQueue { name: name.clone(), paused_by: None, paused_since: None, paused_until: None };
    let mut shown = shown(&known.unwrap_or_else(plain));
    shown.insert("queued_jobs".to_owned(), queued.into());
    Ok(document(shown))
}

/// `/queue/queued_jobs/`
pub(crate) async fn jobs(ask: &Ask) -> Answer {
    let query = PaddlesJobQuery {
        queue: Some(named(ask)?),
        status: Some("queued".to_owned()),
        user: ask.text("user").map(str::to_owned),
        run: ask.text("run_name").map(str::to_owned),
        limit: PADDLES_ROWS_MAX,
        ..PaddlesJobQuery::default()
    };
    listed(ask, query).await
}
