//! The inbox.

use crate::harness::*;
use model::{
    EventId, Topic,
    ids::EventSeq,
    message::{JsonText, NewMessage},
    verdict::{Verdict, VerdictKind},
};
use serde_json::json;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use store::{
    CancelWhat, CancelWish, Committed, Dedupe, EventCommit, EventQuery, Judgement, NewTask, StoreError,
};

conformance!(
    what_is_committed_is_read_as_it_came,
    the_same_event_again_changes_nothing,
    another_content_under_the_same_id_is_a_dead_letter,
    the_same_in_other_bytes_is_the_same,
    concurrent_commits_make_each_task_once,
    a_batch_that_brings_an_event_twice_makes_it_once,
    one_poisoned_event_fails_its_batch_only,
    wishes_within_a_window_are_joined,
    what_rules_emit_is_told_and_comes_in,
    own_events_wait_and_are_judged_once,
    many_that_wait_are_judged_at_once,
    held_events_come_back_when_their_holder_died,
    a_replay_is_judged_again,
    lists_are_cut_into_pages,
    events_are_found_by_id_and_by_its_start,
    cancel_wishes_stop_older_tasks_only,
);

fn commit(id: &str, payload: &str, tasks: Vec<NewTask>) -> EventCommit {
    EventCommit { event: event(id, payload), judgement: Some(judgement(tasks)) }
}

async fn what_is_committed_is_read_as_it_came(bed: &Bed) {
    // Bytes that `jsonb` would refuse or change.
    let payload = r#"{"x":  1.10, "nul": "\u0000", "lone": "\ud800", "big": 1e400000, "x": 2}"#;
    let task = wished("lint");
    let batch = [commit("2015-abc", payload, vec![task.clone()])];
    let committed = bed.store.commit_events(&batch).await.unwrap();
    let [Committed::New { seq, tasks }] = &committed[..] else { panic!("{committed:?}") };
    assert_eq!(tasks, &[task.id]);
    let stored = bed.store.event(*seq).await.unwrap();
    assert_eq!(stored.event, batch[0].event);
    assert_eq!((stored.generation, stored.revision), (0, Some(revision())));
    let firings = bed.store.firings(*seq).await.unwrap();
    assert_eq!(firings.len(), 1);
    assert_eq!(firings[0].verdict.verdict, VerdictKind::Fired { tasks: 1 });
    let made = bed.store.task(task.id).await.unwrap();
    assert_eq!(made.state.label(), "waiting(resolving)");
    assert_eq!(made.origin.event(), Some(*seq));
    assert_eq!((made.inputs, made.item, made.key), (task.inputs, task.item, task.key));
    assert_eq!(bed.topics().await, ["event.received", "rule.fired", "task.created"]);
    assert!(matches!(bed.store.event(EventSeq(99)).await, Err(StoreError::NotFound { .. })));
}

async fn the_same_event_again_changes_nothing(bed: &Bed) {
    let seq = bed.event("e1", vec![wished("lint")]).await;
    // The rules changed in between: they would wish another task.
    let again = bed.store.commit_events(&[commit("e1", "{}", vec![wished("other")])]).await.unwrap();
    assert_eq!(again, [Committed::Known { seq }]);
    assert_eq!(bed.all_tasks().await.len(), 1);
    assert_eq!(bed.topics().await.len(), 3);
}

async fn another_content_under_the_same_id_is_a_dead_letter(bed: &Bed) {
    let seq = bed.event("e1", vec![]).await;
    let other = [commit("e1", r#"{"other": 1}"#, vec![wished("lint")])];
    for _ in 0..2 {
        assert_eq!(bed.store.commit_events(&other).await.unwrap(), [Committed::Conflict { seq }]);
    }
    assert!(bed.all_tasks().await.is_empty());
    let letters = bed.store.dead_letters(None, 10).await.unwrap().items;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, format!("event {seq} has the same id and another content"));
    assert_eq!(bed.store.dead_letter(letters[0].id).await.unwrap().payload, br#"{"other": 1}"#);
}

async fn the_same_in_other_bytes_is_the_same(bed: &Bed) {
    let commit_of = |payload: &str| [commit("e1", payload, vec![wished("lint")])];
    bed.store.commit_events(&commit_of(r#"{"a": {"x": 1, "y": [1, 2]}, "b": "\u00e9"}"#)).await.unwrap();
    let seq = bed.store.events_by_id(&"e1".into()).await.unwrap()[0].seq;
    let check = async |payload: &str, expect: Committed| {
        let got = bed.store.commit_events(&commit_of(payload)).await.unwrap();
        assert_eq!(got, [expect], "{payload}");
    };
    check("{\"b\":\"é\",\"a\":{\"y\":[1,2],\"x\":1}}", Committed::Known { seq }).await;
    check(r#"{"a": {"x": 1, "y": [2, 1]}, "b": "é"}"#, Committed::Conflict { seq }).await;
    check(r#"{"a": {"x": "1", "y": [1, 2]}, "b": "é"}"#, Committed::Conflict { seq }).await;
    check(r#"{"a": {"x": 1, "y": [1, 2]}, "b": "é", "c": null}"#, Committed::Conflict { seq }).await;
    let mut elsewhere = commit_of(r#"{"b":"é","a":{"y":[1,2],"x":1}}"#);
    elsewhere[0].event.topic = "org.example.build.other".into();
    assert_eq!(bed.store.commit_events(&elsewhere).await.unwrap(), [Committed::Conflict { seq }]);
    assert_eq!(bed.all_tasks().await.len(), 1);
}

async fn concurrent_commits_make_each_task_once(bed: &Bed) {
    const EVENTS: usize = 60;
    let all: Vec<_> = (0..EVENTS)
        .map(|n| {
            let mut task = wished("lint");
            task.key = model::TaskKey::of_id("event", &n.to_string());
            commit(&format!("e{n}"), "{}", vec![task])
        })
        .collect();
    let mut writers = Vec::new();
    for writer in 0..4_usize {
        let store = Arc::clone(&bed.store);
        let mut mine = all.clone();
        // Each brings the same in another order, so that they meet.
        mine.rotate_left(writer * 13);
        if writer % 2 == 1 {
            mine.reverse();
        }
        writers.push(tokio::spawn(async move {
            let mut new = 0;
            for batch in mine.chunks(20) {
                let committed = store.commit_events(batch).await.unwrap();
                new += committed.iter().filter(|one| matches!(one, Committed::New { .. })).count();
            }
            new
        }));
    }
    let mut new = 0;
    for writer in writers {
        new += writer.await.unwrap();
    }
    assert_eq!(new, EVENTS);
    let tasks = bed.all_tasks().await;
    let keys: BTreeSet<_> = tasks.iter().map(|task| task.key).collect();
    assert_eq!((tasks.len(), keys.len()), (EVENTS, EVENTS));
    assert!(bed.store.dead_letters(None, 10).await.unwrap().items.is_empty());
}

async fn a_batch_that_brings_an_event_twice_makes_it_once(bed: &Bed) {
    let batch = [
        commit("e1", "{}", vec![wished("lint")]),
        commit("e1", "{}", vec![wished("lint")]),
        commit("e1", r#"{"a": 1}"#, vec![wished("lint")]),
    ];
    let committed = bed.store.commit_events(&batch).await.unwrap();
    assert!(matches!(
        committed[..],
        [Committed::New { .. }, Committed::Known { .. }, Committed::Conflict { .. }]
    ));
    assert_eq!(bed.all_tasks().await.len(), 1);
}

async fn one_poisoned_event_fails_its_batch_only(bed: &Bed) {
    let mut bad = wished("lint");
    bad.item = Some(model::Item::new("koji_build", "a\0b"));
    let batch = [commit("good", "{}", vec![]), commit("bad", "{}", vec![bad])];
    let error = bed.store.commit_events(&batch).await.unwrap_err();
    assert!(matches!(error, StoreError::Poison(_)), "{error:?}");
    assert!(!error.is_transient());
    // Nothing was written: the half that is good goes through.
    assert!(
        bed.store.events(&EventQuery { limit: 10, ..EventQuery::default() }).await.unwrap().items.is_empty()
    );
    assert!(matches!(bed.store.commit_events(&batch[..1]).await.unwrap()[..], [Committed::New { .. }]));
}

async fn wishes_within_a_window_are_joined(bed: &Bed) {
    let wish = |window_s: u64| {
        let dedupe =
            Dedupe { scope: "lint/0/".into(), key: "audit".into(), window: Duration::from_secs(window_s) };
        NewTask { dedupe: Some(dedupe), ..wished("lint") }
    };
    let first = bed.event("e1", vec![wish(60), wish(60)]).await;
    assert_eq!(bed.all_tasks().await.len(), 1);
    let said: Vec<_> =
        bed.store.firings(first).await.unwrap().into_iter().map(|firing| firing.verdict.verdict).collect();
    assert_eq!(said[1], VerdictKind::Duplicate { key: "audit".into() });
    bed.pass(59_000).await;
    let second = bed.event("e2", vec![wish(60)]).await;
    assert_eq!(bed.all_tasks().await.len(), 1);
    assert_eq!(bed.store.firings(second).await.unwrap().len(), 2);
    bed.pass(2_000).await;
    bed.event("e3", vec![wish(60)]).await;
    assert_eq!(bed.all_tasks().await.len(), 2);
    // Another scope has windows of its own.
    let mut other = wish(60);
    other.dedupe.as_mut().unwrap().scope = "lint/1/".into();
    bed.event("e4", vec![other]).await;
    assert_eq!(bed.all_tasks().await.len(), 3);
}

fn emit(topic: &str) -> NewMessage {
    NewMessage {
        topic: topic.into(),
        subject: "iso".to_owned(),
        order_key: "iso".to_owned(),
        data: JsonText::of(&json!({"iso": "f42"})),
        task: None,
        depth: 1,
        traceparent: None,
    }
}

async fn what_rules_emit_is_told_and_comes_in(bed: &Bed) {
    let mut said = judgement(vec![]);
    said.emits = vec![emit("taskbot.custom.iso"), emit("org.example.iso"), emit("taskbot.rule.mine")];
    bed.store
        .commit_events(&[EventCommit { event: event("e1", "{}"), judgement: Some(said) }])
        .await
        .unwrap();
    let topics = bed.topics().await;
    assert_eq!(topics[2..], ["custom.iso", "org.example.iso", "rule.mine"]);
    let waiting = bed.store.unjudged(10, 1000).await.unwrap();
    let topics: Vec<_> = waiting.iter().map(|one| one.event.topic.as_str()).collect();
    assert_eq!(topics, ["taskbot.custom.iso", "org.example.iso"], "only what may chain comes in");
    let own_event = &waiting[0].event;
    assert_eq!((own_event.depth, &own_event.domain), (1, &own()));
    assert_eq!(body(own_event), json!({"iso": "f42"}));
}

async fn own_events_wait_and_are_judged_once(bed: &Bed) {
    let waiting = EventCommit { event: event("later", "{}"), judgement: None };
    let committed = bed.store.commit_events(&[waiting]).await.unwrap();
    let [Committed::New { seq, .. }] = committed[..] else { panic!("{committed:?}") };
    assert_eq!(bed.store.event(seq).await.unwrap().revision, None);
    let taken = bed.store.unjudged(10, 60_000).await.unwrap();
    assert_eq!((taken.len(), taken[0].seq, taken[0].generation), (1, seq, 0));
    assert!(bed.store.unjudged(10, 60_000).await.unwrap().is_empty(), "another server takes others");
    assert!(bed.store.judge(seq, 0, &judgement(vec![wished("lint")])).await.unwrap());
    assert!(!bed.store.judge(seq, 0, &judgement(vec![wished("lint")])).await.unwrap());
    assert_eq!(bed.all_tasks().await.len(), 1);
    assert_eq!(bed.store.event(seq).await.unwrap().revision, Some(revision()));
    assert_eq!(bed.topics().await, ["event.received", "rule.fired", "task.created"]);
}

async fn many_that_wait_are_judged_at_once(bed: &Bed) {
    let waiting = |id: &str| EventCommit { event: event(id, "{}"), judgement: None };
    let ids: Vec<_> = (0..4).map(|n| format!("e{n}")).collect();
    bed.store.commit_events(&ids.iter().map(|id| waiting(id)).collect::<Vec<_>>()).await.unwrap();
    let taken = bed.store.unjudged(10, 60_000).await.unwrap();
    let said = |at: usize, judgement: Judgement| (taken[at].seq, taken[at].generation, judgement);
    let gone = bed.store.judge_all(&[said(1, Judgement::none(revision()))]).await.unwrap();
    assert_eq!(gone, []);
    let all = [
        said(0, Judgement::none(revision())),
        said(1, judgement(vec![wished("lint")])),
        said(2, judgement(vec![wished("lint")])),
        said(3, judgement(vec![wished("lint"), wished("build")])),
    ];
    assert_eq!(bed.store.judge_all(&all).await.unwrap(), [taken[1].seq], "it was judged before");
    assert_eq!(bed.all_tasks().await.len(), 3);
    for taken in &taken {
        assert_eq!(bed.store.event(taken.seq).await.unwrap().revision, Some(revision()));
    }
    assert_eq!(bed.store.judge_all(&all).await.unwrap().len(), 4);
    assert_eq!(bed.all_tasks().await.len(), 3);
}

async fn held_events_come_back_when_their_holder_died(bed: &Bed) {
    bed.store.commit_events(&[EventCommit { event: event("later", "{}"), judgement: None }]).await.unwrap();
    assert_eq!(bed.store.unjudged(10, 5_000).await.unwrap().len(), 1);
    bed.pass(5_001).await;
    assert_eq!(bed.store.unjudged(10, 5_000).await.unwrap().len(), 1);
}

async fn a_replay_is_judged_again(bed: &Bed) {
    let seq = bed.event("e1", vec![wished("lint")]).await;
    assert_eq!(bed.store.replay(seq).await.unwrap(), 1);
    let waiting = bed.store.unjudged(10, 1000).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].generation), (1, 1));
    assert!(!bed.store.judge(seq, 0, &judgement(vec![])).await.unwrap(), "the old generation is over");
    assert!(bed.store.judge(seq, 1, &judgement(vec![wished("lint")])).await.unwrap());
    assert_eq!(bed.all_tasks().await.len(), 2);
    let generations: Vec<_> =
        bed.store.firings(seq).await.unwrap().iter().map(|firing| firing.generation).collect();
    assert_eq!(generations, [0, 1]);
    let received = bed.topics().await.iter().filter(|topic| *topic == "event.received").count();
    assert_eq!(received, 1, "it came in once");
    assert!(matches!(bed.store.replay(EventSeq(99)).await, Err(StoreError::NotFound { .. })));
}

async fn lists_are_cut_into_pages(bed: &Bed) {
    let batch: Vec<_> = (0..5)
        .map(|n| {
            let mut one = commit(&format!("e{n}"), "{}", vec![]);
            one.event.topic = Topic::new(if n % 2 == 0 { "a.even" } else { "a.odd" });
            one
        })
        .collect();
    bed.store.commit_events(&batch).await.unwrap();
    let list = |query: EventQuery| async move {
        let page = bed.store.events(&query).await.unwrap();
        let ids: Vec<_> = page.items.iter().map(|stored| stored.event.id.to_string()).collect();
        (ids.join(" "), page.next)
    };
    let query = EventQuery { limit: 2, ..EventQuery::default() };
    let (ids, next) = list(query.clone()).await;
    assert_eq!(ids, "e4 e3");
    let before = Some(EventSeq(next.unwrap().parse().unwrap()));
    let (ids, next) = list(EventQuery { before, ..query.clone() }).await;
    assert_eq!(ids, "e2 e1");
    let before = Some(EventSeq(next.unwrap().parse().unwrap()));
    assert_eq!(list(EventQuery { before, ..query.clone() }).await, ("e0".to_owned(), None));
    assert_eq!(list(EventQuery { oldest_first: true, ..query.clone() }).await.0, "e0 e1");
    let all = EventQuery { limit: 100, ..query };
    assert_eq!(list(EventQuery { topic: Some("a.odd".into()), ..all.clone() }).await.0, "e3 e1");
    assert_eq!(list(EventQuery { topic_prefix: Some("a.e".into()), ..all.clone() }).await.0, "e4 e2 e0");
    assert_eq!(list(EventQuery { topic_prefix: Some("a.%".into()), ..all.clone() }).await.0, "");
    assert_eq!(list(EventQuery { source: Some("api".into()), ..all.clone() }).await.0, "");
    let late = Some(time("2026-11-01T10:00:02Z"));
    assert_eq!(list(EventQuery { since: late, ..all.clone() }).await.0, "");
    assert_eq!(list(EventQuery { until: late, ..all }).await.0, "e4 e3 e2 e1 e0");
}

async fn events_are_found_by_id_and_by_its_start(bed: &Bed) {
    let mut mirrored = commit("2015-aaa", "{}", vec![]);
    mirrored.event.domain = "mirror".into();
    let batch = [commit("2015-aaa", "{}", vec![]), commit("2015-aab", "{}", vec![]), mirrored];
    bed.store.commit_events(&batch).await.unwrap();
    let find =
        |id: &'static str| async move { bed.store.events_by_id(&EventId::from(id)).await.unwrap().len() };
    assert_eq!(find("2015-aaa").await, 2);
    assert_eq!(find("2015-aa").await, 3);
    assert_eq!(find("2015-aab").await, 1);
    assert_eq!(find("2015-b").await, 0);
    assert_eq!(find("").await, 0);
    assert_eq!(find("%").await, 0);
}

async fn cancel_wishes_stop_older_tasks_only(bed: &Bed) {
    let (old, other) = (wished("lint"), NewTask { item: None, ..wished("lint") });
    bed.event("e1", vec![old.clone(), other.clone()]).await;
    let new = wished("lint");
    let said = Judgement {
        cancels: vec![CancelWish {
            rule: "closed".into(),
            what: CancelWhat::Item(old.item.clone().unwrap()),
        }],
        verdicts: vec![Verdict { rule: "closed".into(), verdict: VerdictKind::NoMatch, clauses: vec![] }],
        ..judgement(vec![new.clone()])
    };
    let seq = EventCommit { event: event("e2", "{}"), judgement: Some(said) };
    let committed = bed.store.commit_events(&[seq]).await.unwrap();
    assert_eq!(bed.label(old.id).await, "cancelled");
    assert_eq!(bed.label(other.id).await, "waiting(resolving)");
    assert_eq!(bed.label(new.id).await, "waiting(resolving)", "made by the same event");
    let [Committed::New { seq, .. }] = committed[..] else { panic!("{committed:?}") };
    assert!(bed.store.firings(seq).await.unwrap().is_empty(), "plain non-matches are not kept");
    assert_eq!(bed.topics_of(old.id).await, ["task.created", "task.cancelled"]);
    assert_eq!(bed.store.unjudged(10, 1000).await.unwrap().len(), 1);
}
