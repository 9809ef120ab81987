//! The source against a server that stays up.

use crate::support::{
    Server, consumer_reaches, established, id_of, next, patiently, send, shared_url, source, source_config,
    stream_client, unique,
};
use async_nats::jetstream::consumer::pull;
use futures_util::FutureExt;
use model::event::EVENT_BYTES_MAX;
use std::{collections::BTreeSet, time::Duration};
use taskbot_events::{Source, SourceError, config::StreamConfig};

#[tokio::test]
async fn a_message_comes_again_until_it_is_acknowledged() {
    let (url, name) = (shared_url(), unique());
    let mut source = established(source_config(&url, &name)).await;
    let client = stream_client(&url).await;
    send(
        &client,
        &format!("{name}.org.build"),
        &[("Nats-Msg-Id", "a"), ("x", "1"), ("x", "2")],
        br#"{"n":  1}"#,
    )
    .await;
    let first = next(&mut source).await;
    let event = first.content.as_ref().unwrap();
    assert_eq!(
        (event.topic.as_str(), event.id.as_str(), &*event.payload),
        ("org.build", "a", &br#"{"n":  1}"#[..])
    );
    assert_eq!(event.headers["x"], serde_json::json!(["1", "2"]));
    assert!(event.time.is_some(), "the time at which the stream stored it");
    assert_eq!((first.deliveries, first.position, first.own), (1, Some(1), false));
    let second = next(&mut source).await;
    assert_eq!((id_of(&second), second.deliveries), ("a".to_owned(), 2));
    second.ack().await.unwrap();
    consumer_reaches(&client, &name, |info| info.ack_floor.stream_sequence == 1 && info.num_ack_pending == 0)
        .await;
    let health = source.health().borrow().clone();
    assert!(health.connected && health.last_message_at.is_some());
    assert_eq!((health.redelivered, health.detail), (1, None));
    source.close().await;
}

#[tokio::test]
async fn retry_comes_after_the_delay_and_progress_holds_it() {
    let (url, name) = (shared_url(), unique());
    let mut source = established(source_config(&url, &name)).await;
    let client = stream_client(&url).await;
    send(&client, &format!("{name}.a"), &[], b"{}").await;
    let first = next(&mut source).await;
    first.progress().await.unwrap();
    first.retry(Duration::from_millis(100)).await.unwrap();
    let second = next(&mut source).await;
    assert_eq!(second.deliveries, 2);
    second.ack().await.unwrap();
    consumer_reaches(&client, &name, |info| info.num_ack_pending == 0).await;
}

#[tokio::test]
async fn malformed_messages_do_not_disturb_the_others() {
    let (url, name) = (shared_url(), unique());
    let mut source = established(source_config(&url, &name)).await;
    let client = stream_client(&url).await;
    let payloads: [&[u8]; 6] = [b"{\"n\": 0}", b"{\"a\": \xff}", b"{\"n\": 2}", b"[]", b"", b"{\"n\": 5}"];
    for payload in payloads {
        send(&client, &format!("{name}.org.build"), &[], payload).await;
    }
    let mut got = Vec::new();
    while got.len() < payloads.len() {
        got.extend(patiently(source.next_batch(100)).await.unwrap());
    }
    for (delivery, payload) in got.iter().zip(payloads) {
        match &delivery.content {
            Ok(event) => {
                assert_eq!((&*event.payload, delivery.body.is_object()), (payload, true));
                delivery.ack().await.unwrap();
            }
            Err(malformed) => {
                assert_eq!((&*malformed.payload, malformed.topic.as_str()), (payload, "org.build"));
                delivery.discard().await.unwrap();
            }
        }
    }
    let good: Vec<_> = got.iter().map(|delivery| delivery.content.is_ok()).collect();
    assert_eq!(good, [true, false, true, false, false, true]);
    consumer_reaches(&client, &name, |info| info.num_ack_pending == 0 && info.num_pending == 0).await;
}

#[tokio::test]
async fn two_sources_on_one_consumer_share_without_doubling() {
    let (url, name) = (shared_url(), unique());
    let mut config = source_config(&url, &name);
    config.ack_wait = Duration::from_secs(30);
    let (mut one, mut two) = (established(config.clone()).await, established(config).await);
    let client = stream_client(&url).await;
    for n in 0..600 {
        send(&client, &format!("{name}.a"), &[("Nats-Msg-Id", &n.to_string())], b"{}").await;
    }
    let (mut ids, mut count) = (BTreeSet::new(), 0);
    while count < 600 {
        let batch = patiently(async {
            tokio::select! {
                batch = one.next_batch(100) => batch,
                batch = two.next_batch(100) => batch,
            }
        });
        for delivery in batch.await.unwrap() {
            assert_eq!(delivery.deliveries, 1);
            ids.insert(id_of(&delivery));
            count += 1;
            delivery.ack().await.unwrap();
        }
    }
    assert_eq!((ids.len(), count), (600, 600));
    consumer_reaches(&client, &name, |info| info.num_ack_pending == 0).await;
}

#[tokio::test]
async fn a_cancelled_call_loses_nothing() {
    let (url, name) = (shared_url(), unique());
    let mut config = source_config(&url, &name);
    config.ack_wait = Duration::from_secs(30);
    let mut source = established(config).await;
    let client = stream_client(&url).await;
    for n in 0..100 {
        // Polled once and dropped, at whatever point it is.
        if let Some(batch) = source.next_batch(7).now_or_never() {
            for delivery in batch.unwrap() {
                delivery.ack().await.unwrap();
            }
        }
        send(&client, &format!("{name}.a"), &[("Nats-Msg-Id", &n.to_string())], b"{}").await;
    }
    send(&client, &format!("{name}.a"), &[("Nats-Msg-Id", "last")], b"{}").await;
    loop {
        let batch = patiently(source.next_batch(7)).await.unwrap();
        let mut last = false;
        for delivery in &batch {
            assert_eq!(delivery.deliveries, 1);
            last |= id_of(delivery) == "last";
            delivery.ack().await.unwrap();
        }
        if last {
            break;
        }
    }
    consumer_reaches(&client, &name, |info| {
        info.num_ack_pending == 0 && info.delivered.stream_sequence == 101
    })
    .await;
    assert_eq!(source.health().borrow().redelivered, 0);
}

#[tokio::test]
async fn a_repeated_message_id_is_stored_once() {
    let (url, name) = (shared_url(), unique());
    let mut source = established(source_config(&url, &name)).await;
    let client = stream_client(&url).await;
    for _ in 0..3 {
        send(&client, &format!("{name}.a"), &[("Nats-Msg-Id", "same")], b"{}").await;
    }
    send(&client, &format!("{name}.a"), &[("Nats-Msg-Id", "next")], b"{}").await;
    for expect in ["same", "next"] {
        let delivery = next(&mut source).await;
        assert_eq!(id_of(&delivery), expect);
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn several_filters_are_stored_and_hold() {
    let (url, name) = (shared_url(), unique());
    let mut config = source_config(&url, &name);
    config.filters = vec![format!("{name}.a.>"), format!("{name}.c")];
    let mut source = established(config).await;
    let client = stream_client(&url).await;
    for topic in ["a.x", "b.x", "c", "d", "a.y"] {
        send(&client, &format!("{name}.{topic}"), &[], b"{}").await;
    }
    for expect in ["a.x", "c", "a.y"] {
        let delivery = next(&mut source).await;
        assert_eq!(delivery.content.as_ref().unwrap().topic.as_str(), expect);
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn large_bodies_come_and_too_large_ones_say_so() {
    let server = Server::started("max_payload: 32MB\nmax_pending: 256MB");
    let (url, name) = (server.url(), unique());
    let mut config = source_config(&url, &name);
    // Longer than the slowest machine needs for all of them.
    (config.ack_wait, config.backoff) = (Duration::from_secs(600), Vec::new());
    let mut source = established(config).await;
    let client = stream_client(&url).await;
    let body = |bytes: usize| {
        let text = "x".repeat(bytes - r#"{"t":""}"#.len());
        format!(r#"{{"t":"{text}"}}"#).into_bytes()
    };
    // Together more than what is asked for at a time.
    let sizes = [EVENT_BYTES_MAX; 14].into_iter().chain([EVENT_BYTES_MAX + 1, 20 * 1024 * 1024, 10]);
    for bytes in sizes.clone() {
        send(&client, &format!("{name}.a"), &[], &body(bytes)).await;
    }
    for bytes in sizes {
        let delivery = next(&mut source).await;
        assert_eq!(delivery.deliveries, 1);
        match &delivery.content {
            Ok(event) => assert_eq!(event.payload.len(), bytes),
            Err(malformed) => {
                assert!(bytes > EVENT_BYTES_MAX && malformed.payload.len() == bytes);
                assert!(malformed.reason.contains("at most 8388608"), "{}", malformed.reason);
            }
        }
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn what_differs_from_the_configuration_is_refused_field_by_field() {
    let (url, name) = (shared_url(), unique());
    drop(established(source_config(&url, &name)).await);
    let check = async |change: fn(&mut taskbot_events::config::NatsSourceConfig), expect: &[&str]| {
        let mut config = source_config(&url, &name);
        change(&mut config);
        let mut source = source(config).await;
        let error = patiently(source.next_batch(1)).await.unwrap_err();
        assert!(matches!(error, SourceError::Refused { .. }));
        let (text, health) = (error.to_string(), source.health().borrow().clone());
        for expect in expect {
            assert!(text.contains(expect), "{text}");
        }
        assert!(!health.connected && health.detail.is_some());
    };
    check(
        |config| {
            config.max_ack_pending = 7;
            config.ack_wait = Duration::from_secs(5);
            config.filters = vec![format!("{}.a", config.stream.name)];
        },
        &[
            "consumer taskbot",
            "`max_ack_pending` is 2000, asked was 7",
            "`ack_wait` is 2s, asked was 5s",
            ".a\"",
        ],
    )
    .await;
    check(
        |config| config.stream.max_age = Duration::from_secs(60),
        &["stream T", "`max_age` is 604800s, asked was 60s"],
    )
    .await;
    check(
        |config| config.stream = StreamConfig::existing("NOWHERE"),
        &["NOWHERE does not exist", "create: true"],
    )
    .await;
    check(|config| config.filters = vec!["else.where".to_owned(), "else.>".to_owned()], &["filter_subjects"])
        .await;
}

#[tokio::test]
async fn a_push_consumer_of_that_name_is_refused() {
    let (url, name) = (shared_url(), unique());
    let client = stream_client(&url).await;
    drop(established(source_config(&url, &name)).await);
    let stream = client.get_stream(&name).await.unwrap();
    stream.delete_consumer("taskbot").await.unwrap();
    let push = async_nats::jetstream::consumer::push::Config {
        durable_name: Some("taskbot".to_owned()),
        deliver_subject: "some.where".to_owned(),
        ..Default::default()
    };
    stream.create_consumer(push).await.unwrap();
    let mut source = source(source_config(&url, &name)).await;
    let text = patiently(source.next_batch(1)).await.unwrap_err().to_string();
    assert!(text.contains("`deliver_subject` is Some(\"some.where\")"), "{text}");
}

#[tokio::test]
async fn what_was_refused_works_once_it_is_mended() {
    let (url, name) = (shared_url(), unique());
    let client = stream_client(&url).await;
    drop(established(source_config(&url, &name)).await);
    let stream = client.get_stream(&name).await.unwrap();
    let other = pull::Config { durable_name: Some("other".to_owned()), ..Default::default() };
    stream.create_consumer(other).await.unwrap();
    let mut config = source_config(&url, &name);
    config.durable = "other".to_owned();
    let mut source = source(config).await;
    patiently(source.next_batch(1)).await.unwrap_err();
    stream.delete_consumer("other").await.unwrap();
    send(&client, &format!("{name}.a"), &[], b"{}").await;
    next(&mut source).await.ack().await.unwrap();
    assert!(source.health().borrow().connected);
}

#[tokio::test]
async fn a_lost_consumer_is_made_again() {
    let (url, name) = (shared_url(), unique());
    let mut source = established(source_config(&url, &name)).await;
    let client = stream_client(&url).await;
    send(&client, &format!("{name}.a"), &[("Nats-Msg-Id", "1")], b"{}").await;
    next(&mut source).await.ack().await.unwrap();
    client.get_stream(&name).await.unwrap().delete_consumer("taskbot").await.unwrap();
    // It begins anew: known ids are sorted out by whoever takes events in.
    assert_eq!(id_of(&next(&mut source).await), "1");
}

#[tokio::test]
async fn credentials_are_used_and_wrong_ones_are_told() {
    let server = Server::started("authorization { token: sesame }");
    let name = unique();
    let mut config = source_config(&server.url(), &name);
    config.connection.token = Some(taskbot_events::config::Secret::new("wrong"));
    let refused = source(config.clone()).await;
    let mut health = refused.health();
    let told =
        health.wait_for(|health| health.detail.as_ref().is_some_and(|text| text.contains("authorization")));
    assert!(!patiently(told).await.unwrap().connected);
    config.connection.token = Some(taskbot_events::config::Secret::new("sesame"));
    assert!(established(config).await.health().borrow().connected);
}

#[tokio::test]
async fn a_server_without_jetstream_is_refused() {
    let mut server = Server::without_jetstream();
    server.start();
    let mut source = source(source_config(&server.url(), &unique())).await;
    let text = patiently(source.next_batch(1)).await.unwrap_err().to_string();
    assert!(text.contains("runs without JetStream"), "{text}");
}

#[tokio::test]
async fn files_of_the_configuration_are_looked_at_first() {
    let mut config = source_config(&shared_url(), &unique());
    config.connection.credentials_file = Some("/does/not/exist.creds".into());
    let clock = std::sync::Arc::new(model::SystemClock);
    let error = taskbot_events::nats::JetStreamSource::connect(config, "test", clock).await.unwrap_err();
    assert!(error.to_string().contains("cannot read /does/not/exist.creds"), "{error}");
}

/// A header in another encoding than UTF-8 makes the client drop its connection, each time it is delivered.
#[tokio::test]
async fn a_header_that_is_no_text_does_not_stop_the_source() {
    let (url, name) = (shared_url(), unique());
    let mut source = established(source_config(&url, &name)).await;
    let client = stream_client(&url).await;
    send(&client, &format!("{name}.a"), &[("Nats-Msg-Id", "1")], b"{}").await;
    crate::support::send_raw(&url, &format!("{name}.a"), b"NATS/1.0\r\nx: caf\xe9\r\n\r\n", b"{}").await;
    send(&client, &format!("{name}.a"), &[("Nats-Msg-Id", "3")], b"{}").await;
    // The third was on its way when the connection broke, and comes again; so might the first.
    let (mut third, mut unreadable) = (false, None);
    while !(third && unreadable.is_some()) {
        let delivery = next(&mut source).await;
        third |= delivery.content.as_ref().is_ok_and(|event| event.id.as_str() == "3");
        match &delivery.content {
            Ok(_) => delivery.ack().await.unwrap(),
            Err(malformed) => {
                assert!(unreadable.replace(malformed.clone()).is_none());
                delivery.discard().await.unwrap();
            }
        }
    }
    let unreadable = unreadable.unwrap();
    assert!(unreadable.reason.contains("the headers are no UTF-8"), "{}", unreadable.reason);
    assert_eq!((unreadable.topic.as_str(), &*unreadable.payload), ("a", &b"{}"[..]));
    assert_eq!(unreadable.headers["x"], "caf\u{fffd}");
    consumer_reaches(&client, &name, |info| info.num_ack_pending == 0 && info.num_pending == 0).await;
}
