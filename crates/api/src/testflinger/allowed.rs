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
    // The higher of what is given for the queue and for all.
    let limit = |map: Option<&Map<String, Value>>| {
        let of = |name: &str| map?.get(name)?.as_i64();
        of(queue).max(of("*"))
    };
    let priority_max = limit(limits.map(|limits| limits.0)).unwrap_or(0);
    let too_low = limits.is_none() && wanted.priority < 0;
    if wanted.priority > priority_max || too_low {
        return refuse(format!("Priority {} in queue {queue} is above {priority_max}.", wanted.priority));
    }
    let Some(timeout) = job.get("reserve_data").and_then(|data| data.get("timeout")) else { return Ok(()) };
    if timeout.is_null() {
        return Ok(());
    }
    // What cannot be read is no way round the limit.
    let reserve = seconds(timeout).ok_or_else(|| {
        let message = format!("reserve_data.timeout: {timeout} is no time; write seconds, or `1d 2h 30m`");
        Refusal::Abort(StatusCode::UNPROCESSABLE_ENTITY, message)
    })?;
    let reserve_max =
        limit(limits.map(|limits| limits.1)).unwrap_or(RESERVATION_SECONDS).max(RESERVATION_SECONDS);
    if reserve > reserve_max {
        return refuse(format!("A reservation in queue {queue} is at most {reserve_max} seconds long."));
    }
    Ok(())
}

/// A time as jobs give it, in seconds rounded up: a number, or a text such as `1d 2h`, `2 days`, `90m`, `1:30:00`,
/// `45`. Nothing when it cannot be read or is negative.
pub(super) fn seconds(value: &Value) -> Option<i64> {
    let text = match value {
        Value::String(text) => text.trim().to_ascii_lowercase(),
        Value::Number(number) => return whole(number.as_f64()?),
        _ => return None,
    };
    if text.contains(':') {
        let parts =
            text.split(':').map(|part| part.trim().parse::<u32>().ok()).collect::<Option<Vec<_>>>()?;
        let all = parts.iter().fold(0.0, |all, part| all * 60.0 + f64::from(*part));
        return (parts.len() <= 3).then(|| whole(all)).flatten();
    }
    let mut all = 0.0;
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().ok()?;
        rest = rest[end..].trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "w" | "week" | "weeks" => 604_800.0,
            "d" | "day" | "days" => 86_400.0,
            "h" | "hr" | "hour" | "hours" => 3600.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "" | "s" | "sec" | "second" | "seconds" => 1.0,
            _ => return None,
        };
        all += number * unit;
        rest = rest[end..].trim_start_matches([' ', ',']);
    }
    (!text.is_empty()).then(|| whole(all)).flatten()
}

/// Rounded up; nothing when it is negative or none of the times that there are.
fn whole(seconds: f64) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what does not fit is the largest, which is over any limit"
    )]
    (seconds.is_finite() && seconds >= 0.0).then(|| seconds.ceil() as i64)
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
            (json!("2 days"), Some(172_800)),
            (json!("1w"), Some(604_800)),
            (json!("1 day, 2 hours"), Some(93_600)),
            (json!("25:00:00"), Some(90_000)),
            (json!(99_999.5), Some(100_000)),
            (json!(1e300), Some(i64::MAX)),
            (json!("9e9"), None),
            (json!("soon"), None),
            (json!(""), None),
            (json!("1.2.3"), None),
            (json!(-1), None),
            (json!(true), None),
        ] {
            assert_eq!(seconds(&value), expect, "{value}");
        }
    }
}
