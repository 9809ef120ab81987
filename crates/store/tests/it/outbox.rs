//! The outbox and the dead letters.

use crate::harness::*;
use model::ids::{DeadLetterId, Position};
use std::{collections::HashMap, sync::Arc};
use store::{NewDeadLetter, StoreError};

conformance!(
    rows_are_stamped_streamed_and_published,
    messages_of_a_task_keep_their_order_under_many_writers,
    two_relays_give_no_position_twice,
    the_last_position_outlives_its_message,
    dead_letters_are_kept_as_they_came,
);

async fn rows_are_stamped_streamed_and_published(bed: &Bed) {
    assert_eq!(bed.store.positions().await.unwrap(), (Position(0), Position(0)));
    bed.event("e1", vec![wished("lint")]).await;
    assert!(bed.store.stream(Position(0), 10).await.unwrap().is_empty(), "not stamped yet");
    assert!(bed.store.unpublished(10).await.unwrap().is_empty());
    assert_eq!(bed.store.stamp(2).await.unwrap(), 2);
    assert_eq!(bed.store.stamp(2).await.unwrap(), 1);
    assert_eq!(bed.store.stamp(2).await.unwrap(), 0);
    assert_eq!(bed.store.positions().await.unwrap(), (Position(3), Position(1)));
    let all = bed.store.stream(Position(0), 10).await.unwrap();
    let positions: Vec<_> = all.iter().map(|message| message.position.unwrap().0).collect();
    assert_eq!(positions, [1, 2, 3]);
    assert_eq!(bed.store.stream(Position(2), 10).await.unwrap(), all[2..]);
    assert_eq!(bed.store.unpublished(2).await.unwrap(), all[..2]);
    bed.store.published(&[all[0].id, all[2].id]).await.unwrap();
    bed.store.published(&[]).await.unwrap();
    assert_eq!(bed.store.unpublished(10).await.unwrap(), all[1..2]);
    assert_eq!(bed.store.stream(Position(0), 10).await.unwrap().len(), 3, "published ones are streamed too");
}

async fn messages_of_a_task_keep_their_order_under_many_writers(bed: &Bed) {
    const TASKS: usize = 30;
    let tasks: Vec<_> = (0..TASKS).map(|_| ready("a")).collect();
    bed.queue(&tasks).await;
    let mut workers = Vec::new();
    for n in 0..6 {
        let store = Arc::clone(&bed.store);
        workers.push(tokio::spawn(async move {
            let mut dry = 0;
            while dry < 20 {
                let claimed = store.claim(&claim(&format!("w{n}"), 2)).await.unwrap();
                dry = if claimed.is_empty() { dry + 1 } else { 0 };
                for one in claimed {
                    store.finish(one.task.id, &finish(one.attempt, "passed")).await.unwrap();
                }
            }
        }));
    }
    let relay = {
        let store = Arc::clone(&bed.store);
        tokio::spawn(async move {
            let mut stamped = 0;
            while stamped < TASKS as u64 * 5 {
                stamped += store.stamp(7).await.unwrap();
            }
        })
    };
    for worker in workers {
        worker.await.unwrap();
    }
    relay.await.unwrap();
    let mut of_task: HashMap<_, Vec<String>> = HashMap::new();
    for message in bed.messages().await {
        of_task.entry(message.message.task).or_default().push(message.message.topic.as_str().to_owned());
    }
    for topics in of_task.values() {
        let order: Vec<_> = topics.iter().map(|topic| topic.trim_start_matches("taskbot.task.")).collect();
        assert_eq!(order, ["created", "queued", "unmet", "started", "finished"]);
    }
    assert_eq!(of_task.len(), TASKS);
}

async fn two_relays_give_no_position_twice(bed: &Bed) {
    bed.queue(&(0..40).map(|_| ready("a")).collect::<Vec<_>>()).await;
    let relays: Vec<_> = (0..3)
        .map(|_| {
            let store = Arc::clone(&bed.store);
            tokio::spawn(async move { while store.stamp(5).await.unwrap() > 0 {} })
        })
        .collect();
    for relay in relays {
        relay.await.unwrap();
    }
    let messages = bed.messages().await;
    let positions: Vec<_> = messages.iter().map(|message| message.position.unwrap().0).collect();
    let (last, _) = bed.store.positions().await.unwrap();
    assert_eq!(positions.len(), 120);
    assert!(positions.is_sorted_by(|a, b| a < b));
    assert!(last.0 >= *positions.last().unwrap());
}

async fn the_last_position_outlives_its_message(bed: &Bed) {
    bed.queue(&[ready("a")]).await;
    let ids: Vec<_> = bed.messages().await.iter().map(|message| message.id).collect();
    bed.store.published(&ids).await.unwrap();
    let (last, _) = bed.store.positions().await.unwrap();
    bed.pass(10_000).await;
    let retention =
        store::Retention { messages: Some(std::time::Duration::from_secs(5)), ..store::Retention::default() };
    bed.store.prune(&retention, 100, false).await.unwrap();
    assert!(bed.store.stream(Position(0), 10).await.unwrap().is_empty());
    assert_eq!(bed.store.positions().await.unwrap(), (last, last));
    bed.queue(&[ready("a")]).await;
    assert!(bed.messages().await.iter().all(|message| message.position.unwrap() > last));
}

async fn dead_letters_are_kept_as_they_came(bed: &Bed) {
    let letter = NewDeadLetter {
        source: "bus".into(),
        topic: Some("a\0b".to_owned()),
        event_id: None,
        headers: r#"{"a": 1}"#.to_owned(),
        payload: b"\xff\x00{".to_vec(),
        reason: "no JSON: \0".to_owned(),
        deliveries: 1,
    };
    let again = NewDeadLetter { deliveries: 3, ..letter.clone() };
    let other = NewDeadLetter { payload: b"x".to_vec(), ..letter.clone() };
    let ids = bed.store.bury(&[letter.clone(), other]).await.unwrap();
    assert_eq!(bed.store.bury(&[again]).await.unwrap(), [ids[0]]);
    let kept = bed.store.dead_letter(ids[0]).await.unwrap();
    assert_eq!((kept.payload, kept.size_bytes, kept.deliveries), (letter.payload, 3, 3));
    assert_eq!((kept.topic.as_deref(), kept.reason.as_str()), (Some("a\u{fffd}b"), "no JSON: \u{fffd}"));
    let page = bed.store.dead_letters(None, 1).await.unwrap();
    assert_eq!((page.items[0].id, page.items[0].payload.len()), (ids[1], 0));
    let before = Some(DeadLetterId(page.next.unwrap().parse().unwrap()));
    let page = bed.store.dead_letters(before, 1).await.unwrap();
    assert_eq!((page.items[0].id, page.next), (ids[0], None));
    bed.store.drop_dead_letter(ids[0]).await.unwrap();
    assert!(matches!(bed.store.drop_dead_letter(ids[0]).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(bed.store.dead_letter(ids[0]).await, Err(StoreError::NotFound { .. })));
}
