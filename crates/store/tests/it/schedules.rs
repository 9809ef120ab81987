//! The times of rules on a schedule.

use crate::harness::*;
use chrono::{Duration, Timelike as _};
use serde_json::json;

conformance!(a_rule_begins_when_it_is_first_seen, a_time_is_told_once, a_time_can_be_let_go);

async fn a_rule_begins_when_it_is_first_seen(bed: &Bed) {
    let now = bed.store.now().await.unwrap();
    let first = bed.store.schedule_times(&["a".into()]).await.unwrap()[&"a".into()];
    assert!(first - now < Duration::seconds(5), "{first}");
    bed.pass(100_000).await;
    let times = bed.store.schedule_times(&["a".into(), "b".into()]).await.unwrap();
    assert_eq!(times[&"a".into()], first);
    assert!(times[&"b".into()] - first >= Duration::seconds(100));
    assert!(bed.store.schedule_times(&[]).await.unwrap().is_empty());
}

async fn a_time_is_told_once(bed: &Bed) {
    let from = bed.store.schedule_times(&["a".into()]).await.unwrap()[&"a".into()];
    let to = (from + Duration::minutes(15)).with_nanosecond(0).unwrap();
    let pass = async || bed.store.pass_schedule(&"a".into(), from, to, Some(2)).await.unwrap();
    assert!(pass().await);
    assert!(!pass().await, "another server was first");
    assert_eq!(bed.store.schedule_times(&["a".into()]).await.unwrap()[&"a".into()], to);
    let events = bed.store.unjudged(10, 1_000).await.unwrap();
    let time = to.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event.id.as_str(), format!("schedule:a:{time}"));
    assert_eq!(events[0].event.topic.as_str(), "taskbot.schedule.due");
    assert_eq!(body(&events[0].event), json!({"rule": "a", "time": time, "missed": 2}));
    assert_eq!(bed.topics().await, ["schedule.due"]);
}

async fn a_time_can_be_let_go(bed: &Bed) {
    let from = bed.store.schedule_times(&["a".into()]).await.unwrap()[&"a".into()];
    let to = from + Duration::minutes(15);
    assert!(bed.store.pass_schedule(&"a".into(), from, to, None).await.unwrap());
    assert!(bed.store.unjudged(10, 1_000).await.unwrap().is_empty());
    assert_eq!(bed.store.schedule_times(&["a".into()]).await.unwrap()[&"a".into()], to);
}
