//! The outlet against a server that stays up.

use crate::support::{
    INSTALLATION, established, message, messages, next, outlet, outlet_config, patiently, shared_url,
    source_config, stream_client, unique,
};
use async_nats::jetstream::stream::Stream;
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};
use taskbot_events::{Outlet, OutletError};

async fn stream(url: &str, name: &str) -> Stream {
    stream_client(url).await.get_stream(name).await.unwrap()
}

#[tokio::test]
async fn messages_are_stored_once_however_often_they_are_published() {
    let (url, name) = (shared_url(), unique());
    let outlet = outlet(outlet_config(&url, &name)).await;
    let batch = messages(1..301, 30);
    for _ in 0..2 {
        let results = patiently(outlet.publish(&batch)).await;
        assert_eq!(results, vec![Ok(()); 300]);
    }
    let stream = stream(&url, &name).await;
    assert_eq!(stream.cached_info().state.messages, 300);
    assert_eq!(patiently(outlet.publish(&[])).await, []);
    let health = outlet.health().borrow().clone();
    assert!(health.connected && health.last_published_at.is_some() && health.detail.is_none());
}

#[tokio::test]
async fn order_is_kept_for_each_key() {
    let (url, name) = (shared_url(), unique());
    let outlet = outlet(outlet_config(&url, &name)).await;
    let results = patiently(outlet.publish(&messages(0..500, 7))).await;
    assert!(results.iter().all(Result::is_ok));
    let stream = stream(&url, &name).await;
    let mut last: HashMap<String, i64> = HashMap::new();
    for sequence in 1..=500 {
        let stored = stream.get_raw_message(sequence).await.unwrap();
        let data: Value = serde_json::from_slice(&stored.payload).unwrap();
        let key = stored.headers.get("ce-subject").unwrap().to_string();
        let n = data["n"].as_i64().unwrap();
        assert!(last.insert(key, n).is_none_or(|before| before < n));
    }
    assert_eq!(last.len(), 7);
}

#[tokio::test]
async fn own_messages_are_recognised_when_they_come_back() {
    let (url, name) = (shared_url(), unique());
    let outlet = outlet(outlet_config(&url, &name)).await;
    assert_eq!(patiently(outlet.publish(&[message(9, "task:ü", json!({"a": 1}))])).await, [Ok(())]);
    let mut source = established(source_config(&url, &name)).await;
    let delivery = next(&mut source).await;
    assert!(delivery.own);
    let event = delivery.content.as_ref().unwrap();
    assert_eq!((event.topic.as_str(), event.id.as_str()), ("taskbot.task.queued", "test/9"));
    assert_eq!(event.headers["ce-source"], format!("taskbot/{INSTALLATION}"));
    assert_eq!(event.headers["ce-subject"], "task:ü");
    assert_eq!(event.time, Some(chrono::DateTime::UNIX_EPOCH));
}

#[tokio::test]
async fn what_is_too_large_is_shortened_and_holds_nothing_back() {
    let (url, name) = (shared_url(), unique());
    let outlet = outlet(outlet_config(&url, &name)).await;
    let log = "x".repeat(80 * 1024 * 1024);
    let batch = [message(1, "task:1", json!({"id": 1, "log": log})), message(2, "task:1", json!({"id": 2}))];
    let results = patiently(outlet.publish(&batch)).await;
    assert_eq!(results, [Ok(()), Ok(())]);
    let stored = stream(&url, &name).await.get_raw_message(1).await.unwrap();
    let data: Value = serde_json::from_slice(&stored.payload).unwrap();
    assert_eq!((&data["id"], &data["shortened"]["left_out"]), (&json!(1), &json!(["log"])));
    assert_eq!(data["shortened"]["dataref"], "urn:taskbot:test/1");
    assert_eq!(stored.headers.get("ce-dataref").unwrap().as_str(), "urn:taskbot:test/1");
    assert_eq!(outlet.health().borrow().shortened, 1);
}

#[tokio::test]
async fn a_refused_message_holds_back_its_own_key_only() {
    let (url, name) = (shared_url(), unique());
    let mut config = outlet_config(&url, &name);
    config.stream.subjects = vec![format!("{name}.taskbot.task.>")];
    let outlet = outlet(config).await;
    let mut batch = messages(0..6, 2);
    batch[2].message.topic = "elsewhere".into();
    let results = patiently(outlet.publish(&batch)).await;
    for at in [0, 1, 3, 5] {
        assert_eq!(results[at], Ok(()));
    }
    let Err(OutletError::Refused(reason)) = &results[2] else { panic!("{results:?}") };
    assert!(reason.contains("no stream takes subject") && reason.contains(".elsewhere"), "{reason}");
    assert_eq!(results[4], Err(OutletError::Held));
}

#[tokio::test]
async fn a_stream_with_other_settings_is_refused() {
    let (url, name) = (shared_url(), unique());
    let config = outlet_config(&url, &name);
    patiently(outlet(config.clone()).await.establish()).await.unwrap();
    let mut other = config;
    other.stream.max_age = Duration::from_secs(3_600);
    other.stream.subjects.push(format!("{name}-more"));
    let outlet = outlet(other).await;
    let results = patiently(outlet.publish(&messages(0..2, 1))).await;
    let Err(OutletError::Refused(reason)) = &results[0] else { panic!("{results:?}") };
    for expect in ["`max_age` is 604800s, asked was 3600s", "`subjects` is", "nats stream edit"] {
        assert!(reason.contains(expect), "{reason}");
    }
    assert!(!outlet.health().borrow().connected);
}
