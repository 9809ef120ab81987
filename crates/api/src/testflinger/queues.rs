//! Queues with their descriptions and images, how long jobs waited in them, and the version.

use super::{
    SYSTEM,
    agents::{self, change},
    answer::{Answer, Refusal, document, nothing, object, ok, text, time},
    clients, view,
};
use crate::state::ApiState;
use axum::{
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::StatusCode,
};
use model::ids::QueueName;
use serde_json::{Map, Value, json};
use store::ForeignQuery;

/// The version of Testflinger's server whose shapes are served.
const VERSION: &str = "1.5.0";
/// The kinds of documents.
const QUEUE: &str = "queue";
const IMAGES: &str = "images";
/// Which waits are told, in percent.
const PERCENTILES: [usize; 5] = [5, 10, 50, 90, 95];

/// `GET /v1`: agents ask whether the server is up.
pub(crate) async fn version() -> axum::response::Response {
    text(StatusCode::OK, format!("Testflinger Server v{VERSION}"))
}

/// `GET /v1/agents/queues`
pub(crate) async fn list(State(state): State<ApiState>) -> Answer {
    let records = state.scheduler().store().foreign_records(SYSTEM, QUEUE).await?;
    let all: Map<_, _> = records.into_iter().map(|record| (record.name, record.body)).collect();
    Ok(document(all))
}

/// Whether any agent ever described or served a queue.
pub(crate) async fn is_known(state: &ApiState, queue: &str) -> Result<bool, Refusal> {
    let described = state.scheduler().store().foreign_record(SYSTEM, QUEUE, queue).await?.is_some();
    Ok(described || !agents::of_queue(state, queue).await?.is_empty())
}

/// `POST /v1/agents/queues`
pub(crate) async fn describe(State(state): State<ApiState>, body: Bytes) -> Answer {
    let queues = object(&body)?;
    if let Some((name, _)) = queues.iter().find(|(_, description)| !description.is_string()) {
        return Err(Refusal::field(name, "Not a valid string."));
    }
    for (name, description) in queues {
        agents::check_name(&name)?;
        change(&state, QUEUE, &name, |_| Some(description.clone())).await?;
    }
    Ok(ok())
}

/// `GET /v1/agents/images/<queue>`
pub(crate) async fn images(State(state): State<ApiState>, Path(queue): Path<String>) -> Answer {
    let record = state.scheduler().store().foreign_record(SYSTEM, IMAGES, &queue).await?;
    Ok(document(record.map_or_else(|| json!({}), |record| record.body)))
}

/// `POST /v1/agents/images`
pub(crate) async fn set_images(State(state): State<ApiState>, body: Bytes) -> Answer {
    let queues = object(&body)?;
    let strict = state.testflinger().strict;
    for (queue, images) in &queues {
        agents::check_name(queue)?;
        let Some(images) = images.as_object() else {
            return Err(Refusal::field(queue, "Not a valid mapping type."));
        };
        if strict && images.keys().any(|name| name.starts_with('$') || name.contains('.')) {
            return Err(Refusal::field(queue, "Invalid image name."));
        }
    }
    for (queue, images) in queues {
        change(&state, IMAGES, &queue, |_| Some(images.clone())).await?;
    }
    Ok(ok())
}

/// `GET /v1/queues/wait_times`
pub(crate) async fn wait_times(State(state): State<ApiState>, RawQuery(query): RawQuery) -> Answer {
    let query = query.unwrap_or_default();
    let queues: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == "queue")
        .map(|(_, value)| QueueName::new(value.into_owned()))
        .collect();
    let mut all = Map::new();
    for (queue, mut waits) in state.scheduler().store().foreign_waits(SYSTEM, &queues).await? {
        waits.sort_unstable();
        all.insert(queue.to_string(), percentiles(&waits));
    }
    Ok(document(all))
}

/// In seconds, linear between the two that are nearest.
#[expect(clippy::cast_precision_loss, reason = "waits are far below 2^52 milliseconds")]
fn percentiles(sorted_ms: &[u64]) -> Value {
    let at = |place: usize| sorted_ms.get(place).copied().unwrap_or_default() as f64 / 1000.0;
    let last = sorted_ms.len().saturating_sub(1);
    let one = |percent: usize| {
        let (low, rest) = (last * percent / 100, (last * percent % 100) as f64 / 100.0);
        let next = at((low + 1).min(last));
        (percent.to_string(), json!(at(low) + (next - at(low)) * rest))
    };
    Value::Object(PERCENTILES.into_iter().map(one).collect())
}

/// `GET /v1/queues/<name>/agents`: its command line asks before each job.
pub(crate) async fn agents(State(state): State<ApiState>, Path(queue): Path<String>) -> Answer {
    let agents = agents::of_queue(&state, &queue).await?;
    if agents.is_empty() {
        return Err(Refusal::not_found(format!("Queue '{queue}' does not exist.")));
    }
    let restricted = clients::restricted(&state).await?;
    let shown: Vec<_> = agents.iter().map(|agent| agents::shown(agent, &restricted)).collect();
    Ok(document(shown))
}

/// `GET /v1/queues/<name>/jobs`
pub(crate) async fn jobs(State(state): State<ApiState>, Path(queue): Path<String>) -> Answer {
    let query = ForeignQuery { queue: Some(QueueName::new(queue.clone())), ..ForeignQuery::default() };
    let jobs = state.scheduler().store().foreign_jobs(SYSTEM, &query).await?;
    // The oldest first.
    let shown: Vec<_> = jobs
        .iter()
        .rev()
        .filter_map(|job| {
            let word = view::state(job)?;
            let id = job.job_id.to_string();
            Some(json!({"job_id": id, "created_at": time(job.created_at), "job_state": word, "job_queue": queue}))
        })
        .collect();
    Ok(if shown.is_empty() { nothing() } else { document(shown) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_by_percent() {
        let all: Vec<u64> = (0..=100).map(|seconds| seconds * 1000).collect();
        assert_eq!(percentiles(&all), json!({"5": 5.0, "10": 10.0, "50": 50.0, "90": 90.0, "95": 95.0}));
        assert_eq!(percentiles(&[1500])["50"], json!(1.5));
        assert_eq!(percentiles(&[1000, 2000])["50"], json!(1.5));
    }
}
