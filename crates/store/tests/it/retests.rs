//! Wishes to run a test once more.

use crate::harness::{Bed, conformance, ready};
use model::{
    Ids, Item, SystemIds,
    ids::RetestId,
    message::{JsonText, NewMessage},
    retest::{Retest, Served},
};
use serde_json::json;
use std::time::Duration;
use store::{NewRetest, Requested, StoreError};

conformance![
    the_same_wish_is_made_once_within_its_window,
    of_many_at_once_one_is_made,
    a_forced_wish_is_made_all_the_same,
    wishes_are_listed_newest_first,
];

const HOUR: Duration = Duration::from_secs(3600);

fn wish(test: &str) -> NewRetest {
    let task = ready("user:me");
    let id = RetestId::new(SystemIds.next());
    let mut hash = [0; 32];
    hash[..test.len()].copy_from_slice(test.as_bytes());
    let retest = Retest {
        id,
        at: "2020-01-01T00:00:00Z".parse().unwrap(),
        who: "me".to_owned(),
        why: Some("the mirror was down".to_owned()),
        item: Item { kind: "koji_build".to_owned(), id: "audit-4.0-1.fc42".to_owned() },
        test: test.to_owned(),
        result: Some("17".to_owned()),
        extras: json!({"bug": 42}),
        served: Served::Rerun { of: task.id },
        tasks: vec![task.id],
        topic: Some("rats.test.x".into()),
        asked: 1,
    };
    let message = |topic: &str| NewMessage {
        topic: topic.into(),
        subject: id.to_string(),
        order_key: format!("retest:{id}"),
        data: JsonText::of(&retest),
        task: None,
        depth: 0,
        traceparent: None,
    };
    let messages = vec![message("taskbot.retest.requested"), message("rats.test.x")];
    NewRetest { hash, window: HOUR, force: false, tasks: vec![task], messages, retest }
}

async fn tasks(bed: &Bed) -> usize {
    bed.all_tasks().await.len()
}

async fn the_same_wish_is_made_once_within_its_window(bed: &Bed) {
    let first = wish("t");
    let Requested::Made(made) = bed.store.request_retest(&first).await.unwrap() else { panic!("known") };
    assert_eq!(Retest { at: first.retest.at, ..made.clone() }, first.retest);
    assert!(made.at > first.retest.at, "its time is the database's");
    assert_eq!(bed.store.retest(made.id).await.unwrap(), made);
    let told = bed.topics().await;
    assert!(
        told.contains(&"retest.requested".to_owned()) && told.contains(&"rats.test.x".to_owned()),
        "{told:?}"
    );

    let Requested::Known(known) = bed.store.request_retest(&wish("t")).await.unwrap() else { panic!("made") };
    assert_eq!((known.id, known.asked, tasks(bed).await), (made.id, 2, 1));
    let recent = bed.store.recent_retest(first.hash, HOUR).await.unwrap().unwrap();
    assert_eq!((recent.id, recent.asked), (made.id, 3));
    assert_eq!(bed.store.recent_retest(first.hash, Duration::ZERO).await.unwrap(), None);
    assert_eq!(bed.store.recent_retest([9; 32], HOUR).await.unwrap(), None);
    let Requested::Made(_) = bed.store.request_retest(&wish("other")).await.unwrap() else { panic!("known") };
    assert_eq!(tasks(bed).await, 2);
    let missing = bed.store.retest(RetestId::new(SystemIds.next())).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "retest", .. })), "{missing:?}");
}

async fn of_many_at_once_one_is_made(bed: &Bed) {
    let wishes: Vec<_> = (0..8).map(|_| wish("t")).collect();
    let all = futures_util::future::join_all(wishes.iter().map(|wish| bed.store.request_retest(wish))).await;
    let made = all.iter().filter(|one| matches!(one, Ok(Requested::Made(_)))).count();
    let known = all.iter().filter(|one| matches!(one, Ok(Requested::Known(_)))).count();
    assert_eq!((made, known, tasks(bed).await), (1, 7, 1), "{all:?}");
}

async fn a_forced_wish_is_made_all_the_same(bed: &Bed) {
    bed.store.request_retest(&wish("t")).await.unwrap();
    let forced = NewRetest { force: true, ..wish("t") };
    let Requested::Made(second) = bed.store.request_retest(&forced).await.unwrap() else { panic!("known") };
    assert_eq!(tasks(bed).await, 2);
    // The newest counts from now on.
    let Requested::Known(known) = bed.store.request_retest(&wish("t")).await.unwrap() else { panic!("made") };
    assert_eq!(known.id, second.id);
}

async fn wishes_are_listed_newest_first(bed: &Bed) {
    let mut ids = Vec::new();
    for test in ["a", "b", "c"] {
        let new = wish(test);
        ids.push(new.retest.id);
        bed.store.request_retest(&new).await.unwrap();
    }
    ids.reverse();
    let page = bed.store.retests(None, 2).await.unwrap();
    assert_eq!(page.items.iter().map(|retest| retest.id).collect::<Vec<_>>(), ids[..2]);
    let rest = bed.store.retests(Some(page.next.unwrap().parse().unwrap()), 2).await.unwrap();
    assert_eq!(rest.items.iter().map(|retest| retest.id).collect::<Vec<_>>(), ids[2..]);
    assert_eq!(rest.next, None);
}
