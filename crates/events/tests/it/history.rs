//! What a stream still holds.

use crate::support::{
    INSTALLATION, established, next, patiently, send, shared_url, source_config, stream_client, unique,
};
use taskbot_events::{config::StreamConfig, nats::JetStreamHistory};

#[tokio::test]
async fn all_that_a_stream_holds_is_read_and_no_place_is_moved() {
    let (url, name) = (shared_url(), unique());
    let mut source = established(source_config(&url, &name)).await;
    let client = stream_client(&url).await;
    let number = |at: usize| format!("{{\"n\": {at}}}");
    for at in 0..5 {
        let payload = if at == 2 { "broken".to_owned() } else { number(at) };
        send(&client, &format!("{name}.org.build"), &[], payload.as_bytes()).await;
    }
    let taken = next(&mut source).await;
    taken.ack().await.unwrap();
    let read = async |since| {
        let mut config = source_config(&url, &name);
        config.stream = StreamConfig::existing(&name);
        let mut history =
            patiently(Box::pin(JetStreamHistory::open(config, INSTALLATION, since))).await.unwrap();
        let mut all = Vec::new();
        while let batch = patiently(Box::pin(history.next_batch(2))).await.unwrap()
            && !batch.is_empty()
        {
            assert!(batch.len() <= 2);
            all.extend(batch);
        }
        assert_eq!(history.left(), 0);
        all
    };
    let all = read(None).await;
    let payloads = |all: &[taskbot_events::mapping::Mapped]| -> Vec<String> {
        let payload = |one: &taskbot_events::mapping::Mapped| match &one.content {
            Ok(event) => String::from_utf8_lossy(&event.payload).into_owned(),
            Err(malformed) => String::from_utf8_lossy(&malformed.payload).into_owned(),
        };
        all.iter().map(payload).collect()
    };
    assert_eq!(payloads(&all), [number(0), number(1), "broken".to_owned(), number(3), number(4)]);
    let event = all[3].content.as_ref().unwrap();
    assert_eq!((event.topic.as_str(), event.source.as_str()), ("org.build", "bus"));
    assert_eq!(event.time, Some(event.received_at), "it counts as received when the stream stored it");
    let later = read(Some(event.received_at)).await;
    assert_eq!(payloads(&later), [number(3), number(4)]);
    assert_eq!(payloads(&read(Some(event.received_at + chrono::TimeDelta::days(1))).await), [""; 0]);
    // The source goes on where it was.
    let following = next(&mut source).await;
    assert_eq!(following.position, Some(2));
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_told() {
    let name = unique();
    let mut config = source_config(&shared_url(), &name);
    config.stream = StreamConfig::existing(&name);
    let error = patiently(Box::pin(JetStreamHistory::open(config, INSTALLATION, None))).await.unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}
