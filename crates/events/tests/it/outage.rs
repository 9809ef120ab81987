//! Servers that are not there, die and come back.

use crate::support::{
    Server, consumer_reaches, established, id_of, messages, next, outlet, outlet_config, patiently, send,
    source, source_config, stream_client, unique,
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use taskbot_events::{Outlet, OutletError, Source};

#[tokio::test]
async fn a_source_starts_before_its_server() {
    let mut server = Server::new("");
    let name = unique();
    let mut source = source(source_config(&server.url(), &name)).await;
    let mut health = source.health();
    assert!(!health.borrow().connected);
    let waiting = tokio::spawn(async move { next(&mut source).await });
    server.start();
    patiently(health.wait_for(|health| health.connected)).await.unwrap();
    send(&stream_client(&server.url()).await, &format!("{name}.a"), &[("Nats-Msg-Id", "1")], b"{}").await;
    assert_eq!(id_of(&patiently(waiting).await.unwrap()), "1");
}

#[tokio::test]
async fn a_source_survives_a_killed_server() {
    let mut server = Server::started("");
    let name = unique();
    let mut source = established(source_config(&server.url(), &name)).await;
    let client = stream_client(&server.url()).await;
    for id in ["one", "two"] {
        send(&client, &format!("{name}.a"), &[("Nats-Msg-Id", id)], b"{}").await;
        assert_eq!(id_of(&next(&mut source).await), id);
    }
    let mut health = source.health();
    server.kill();
    patiently(health.wait_for(|health| !health.connected)).await.unwrap();
    // Away for longer than two heartbeats: the call just waits.
    tokio::time::timeout(Duration::from_secs(12), source.next_batch(1)).await.unwrap_err();
    server.start();
    send(&client, &format!("{name}.a"), &[("Nats-Msg-Id", "three")], b"{}").await;
    let mut seen = BTreeSet::new();
    while seen.len() < 3 {
        let delivery = next(&mut source).await;
        seen.insert(id_of(&delivery));
        delivery.ack().await.unwrap();
    }
    assert!(health.borrow().connected);
    consumer_reaches(&client, &name, |info| info.num_ack_pending == 0 && info.num_pending == 0).await;
}

#[tokio::test]
async fn an_acknowledgement_counts_after_a_restart() {
    let mut server = Server::started("");
    let name = unique();
    let mut config = source_config(&server.url(), &name);
    config.ack_wait = Duration::from_secs(60);
    let mut source = established(config).await;
    let client = stream_client(&server.url()).await;
    for id in ["one", "two"] {
        send(&client, &format!("{name}.a"), &[("Nats-Msg-Id", id)], b"{}").await;
    }
    let one = next(&mut source).await;
    next(&mut source).await.ack().await.unwrap();
    consumer_reaches(&client, &name, |info| info.num_ack_pending == 1).await;
    let mut health = source.health();
    server.stop();
    patiently(health.wait_for(|health| !health.connected)).await.unwrap();
    server.start();
    patiently(health.wait_for(|health| health.connected)).await.unwrap();
    one.ack().await.unwrap();
    consumer_reaches(&client, &name, |info| info.num_ack_pending == 0 && info.ack_floor.stream_sequence == 2)
        .await;
}

#[tokio::test]
async fn an_outlet_answers_while_its_server_is_away_and_loses_nothing() {
    let mut server = Server::started("");
    let name = unique();
    let mut config = outlet_config(&server.url(), &name);
    config.publish_wait = Duration::from_secs(1);
    let outlet = outlet(config).await;
    let batch = messages(0..400, 40);
    let mut health = outlet.health();
    patiently(health.wait_for(|health| health.detail.is_none() || !health.connected)).await.unwrap();
    let first = patiently(outlet.publish(&batch[..50])).await;
    assert!(first.iter().all(Result::is_ok), "{first:?}");
    server.kill();
    patiently(health.wait_for(|health| !health.connected)).await.unwrap();
    let begun = Instant::now();
    let away = patiently(outlet.publish(&batch)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(away.iter().all(|result| matches!(result, Err(OutletError::Unavailable(_) | OutletError::Held))));
    server.start();
    patiently(health.wait_for(|health| health.connected)).await.unwrap();
    // As the relay does: what is not published is tried again.
    let mut rest = batch;
    while !rest.is_empty() {
        let results = patiently(outlet.publish(&rest)).await;
        let mut results = results.into_iter();
        rest.retain(|_| results.next().is_some_and(|result| result.is_err()));
    }
    let client = stream_client(&server.url()).await;
    assert_eq!(client.get_stream(&name).await.unwrap().cached_info().state.messages, 400);
}
