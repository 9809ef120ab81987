//! The places of sinks, and what is kept for them.

use crate::harness::*;
use model::ids::Position;
use std::time::Duration;
use store::{Judgement, Retention};

conformance!(a_new_sink_starts_with_what_comes, places_go_forward_only, what_a_sink_has_not_is_kept);

async fn told(bed: &Bed, id: &str) {
    bed.judged(id, Judgement::none(revision())).await;
    bed.store.stamp(100).await.unwrap();
}

async fn a_new_sink_starts_with_what_comes(bed: &Bed) {
    told(bed, "before").await;
    let (last, _) = bed.store.positions().await.unwrap();
    assert!(last > Position(0));
    assert_eq!(bed.store.sink("a").await.unwrap().position, last);
    told(bed, "after").await;
    let place = bed.store.sink("a").await.unwrap();
    assert_eq!(place.position, last, "asking moves nothing");
    assert!(!bed.store.stream(place.position, 10).await.unwrap().is_empty());
    assert_eq!(bed.store.sinks().await.unwrap(), [place]);
}

async fn places_go_forward_only(bed: &Bed) {
    bed.store.sink("a").await.unwrap();
    bed.store.sink("b").await.unwrap();
    bed.store.advance_sink("a", Position(7)).await.unwrap();
    bed.store.advance_sink("a", Position(3)).await.unwrap();
    let places: Vec<_> = bed.store.sinks().await.unwrap().iter().map(|sink| sink.position.0).collect();
    assert_eq!(places, [7, 0]);
    bed.store.forget_sink("a").await.unwrap();
    assert!(bed.store.forget_sink("a").await.is_err());
    assert_eq!(bed.store.sinks().await.unwrap().len(), 1);
}

async fn what_a_sink_has_not_is_kept(bed: &Bed) {
    bed.store.sink("a").await.unwrap();
    told(bed, "one").await;
    let (first, _) = bed.store.positions().await.unwrap();
    told(bed, "two").await;
    let all = bed.store.stream(Position(0), 100).await.unwrap();
    let ids: Vec<_> = all.iter().map(|message| message.id).collect();
    bed.store.published(&ids).await.unwrap();
    bed.pass(3_600_000).await;
    let retention = Retention { messages: Some(Duration::from_secs(60)), ..Retention::default() };
    let left = async || {
        bed.store.prune(&retention, 1000, false).await.unwrap();
        bed.store.stream(Position(0), 100).await.unwrap().len()
    };
    assert_eq!(left().await, all.len(), "it has none of them");
    bed.store.advance_sink("a", first).await.unwrap();
    assert_eq!(left().await, all.iter().filter(|message| message.position > Some(first)).count());
    bed.store.forget_sink("a").await.unwrap();
    assert_eq!(left().await, 0);
}
