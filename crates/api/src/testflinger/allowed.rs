//! What a client may submit: to which queues, with which priority, and for how long it may reserve.

use super::{answer::Refusal, clients, schema::Wanted, who::Asker};
use crate::state::ApiState;
use axum::http::StatusCode;
use model::ids::QueueName;
use serde_json::{Map, Value};
use store::Role;

/// How long those may reserve a machine of whom nothing else is said, in seconds.
const RESERVATION_SECONDS: i64 = 6 * 3600;

/// Refuses what its submitter may not ask for.
pub(crate) async fn check(
    state: &ApiState,
    asker: &Asker,
    wanted: &Wanted,
    job: &Map<String, Value>,
) -> Result<(), Refusal> {
    let refuse = |message: String| {
        let status = if asker.anonymous { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
        Err(Refusal::Abort(status, message))
    };
    let queue = &wanted.queue;
    let too_urgent = asker.bounds.priority_max.is_some_and(|most| wanted.priority > i64::from(most));
    if too_urgent || !asker.bounds.allow_queue(&QueueName::new(queue.clone())) {
        return refuse(format!("Queue {queue} or this priority is beyond what this token may use."));
    }
    if let Some(owners) = clients::restricted(state).await?.get(queue) {
        let own = asker.client.as_ref().is_some_and(|client| clients::owns(owners, &client.client_id));
        if !own {
            return refuse(format!("Queue {queue} is only for its owners."));
        }
    }
    // Our own tokens, and who needs none where today's rules are not asked for, are bound by nothing else.
    let limits = asker.client.as_ref().map(|client| (&client.max_priority, &client.max_reservation_time));
    let strict_stranger = state.testflinger().strict && asker.anonymous;
    if limits.is_none() && !strict_stranger || asker.role == Role::Admin {
        return Ok(());
    }
    let limit = |map: Option<&Map<String, Value>>| {
        let map = map?;
        map.get(queue).or_else(|| map.get("*")).and_then(Value::as_i64)
    };
    let priority_max = limit(limits.map(|limits| limits.0)).unwrap_or(0);
    if wanted.priority > priority_max {
        return refuse(format!("Priority {} in queue {queue} is above {priority_max}.", wanted.priority));
    }
    let reserve = job.get("reserve_data").and_then(|data| data.get("timeout")).and_then(seconds);
    let reserve_max =
        limit(limits.map(|limits| limits.1)).unwrap_or(RESERVATION_SECONDS).max(RESERVATION_SECONDS);
    if reserve.is_some_and(|seconds| seconds > reserve_max) {
        return refuse(format!("A reservation in queue {queue} is at most {reserve_max} seconds long."));
    }
    Ok(())
}

/// A time as jobs give it: seconds, or a text such as `1d 2h`, `90m`, `45`.
fn seconds(value: &Value) -> Option<i64> {
    let Value::String(text) = value else { return value.as_i64() };
    let mut all: i64 = 0;
    let mut number = String::new();
    for letter in text.chars().filter(|letter| !letter.is_whitespace()) {
        let unit = match letter {
            '0'..='9' => {
                number.push(letter);
                continue;
            }
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        all = all.checked_add(number.parse::<i64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    if number.is_empty() { Some(all) } else { all.checked_add(number.parse().ok()?) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_of_jobs() {
        for (value, expect) in [
            (json!(60), Some(60)),
            (json!("45"), Some(45)),
            (json!("1d 2h"), Some(93_600)),
            (json!("90m"), Some(5400)),
            (json!("soon"), None),
        ] {
            assert_eq!(seconds(&value), expect, "{value}");
        }
    }
}
