//! Limits: how many tasks a rule may make.

use crate::harness::*;
use model::{
    TaskKey,
    limits::{Limits, OnExcess},
};
use std::{sync::Arc, time::Duration};
use store::{Dedupe, EventCommit, HoldKind, NewTask};

conformance!(
    the_surplus_is_parked,
    the_surplus_is_dropped,
    the_surplus_holds_its_rule,
    an_hour_passes,
    a_day_has_a_limit_too,
    other_rules_are_not_limited,
    two_servers_count_exactly,
    what_a_limit_drops_holds_no_other_wish_off,
    a_task_that_is_there_does_not_count,
    parked_tasks_supersede_when_they_are_released,
    what_would_be_made_of_the_past_is_told_and_not_made,
);

const fn hourly(per_hour: u32, on_excess: OnExcess) -> Limits {
    Limits { per_hour: Some(per_hour), per_day: None, on_excess }
}

fn tasks(count: usize) -> Vec<NewTask> {
    (0..count).map(|_| wished("lint")).collect()
}

async fn the_surplus_is_parked(bed: &Bed) {
    let limits = hourly(3, OnExcess::Park);
    let (first, made) = bed.judged("a", limited(limits, tasks(2))).await;
    assert_eq!((made.len(), bed.said(first).await), (2, vec!["fired".to_owned()]));
    let (second, made) = bed.judged("b", limited(limits, tasks(3))).await;
    let mut labels = Vec::new();
    for task in &made {
        labels.push(bed.label(*task).await);
    }
    assert_eq!(labels, ["waiting(resolving)", "waiting(parked)", "waiting(parked)"]);
    assert_eq!(bed.said(second).await, ["fired", "parked"]);
    assert_eq!(bed.store.parked(&"lint".into(), 10).await.unwrap(), made[1..]);
    let backlog = bed.store.backlog().await.unwrap();
    assert_eq!((backlog.len(), backlog[0].parked_tasks, backlog[0].held_events), (1, 2, 0));
    assert!(backlog[0].oldest.is_some() && backlog[0].hold.is_none());
    assert_eq!(bed.store.release(made[1]).await.unwrap().state.label(), "waiting(resolving)");
    assert_eq!(bed.store.parked(&"lint".into(), 10).await.unwrap(), made[2..]);
    // What an operator releases is not counted, and parked tasks were not.
    bed.pass(3_700_000).await;
    let (third, _) = bed.judged("c", limited(limits, tasks(3))).await;
    assert_eq!(bed.said(third).await, ["fired"]);
}

async fn the_surplus_is_dropped(bed: &Bed) {
    let (seq, made) = bed.judged("a", limited(hourly(3, OnExcess::Drop), tasks(5))).await;
    assert_eq!((made.len(), bed.all_tasks().await.len()), (3, 3));
    assert_eq!(bed.said(seq).await, ["fired", "limited"]);
    assert!(bed.store.backlog().await.unwrap().is_empty());
}

async fn the_surplus_holds_its_rule(bed: &Bed) {
    let limits = hourly(3, OnExcess::Pause);
    let wished = tasks(5);
    let (first, made) = bed.judged("a", limited(limits, wished.clone())).await;
    assert_eq!((made.len(), bed.said(first).await), (3, vec!["fired".to_owned(), "held".to_owned()]));
    let (second, made) = bed.judged("b", limited(limits, tasks(1))).await;
    assert_eq!((made.len(), bed.said(second).await), (0, vec!["held".to_owned()]));
    let holds = bed.store.rule_holds().await.unwrap();
    assert_eq!((holds.len(), holds[0].kind, holds[0].by.as_str()), (1, HoldKind::Limit, "limit"));
    assert_eq!(holds[0].why.as_deref(), Some("over 3 per hour"));
    assert_eq!(bed.store.backlog().await.unwrap()[0].held_events, 2);
    // Resumed, it is counted anew: whoever resumes it lets it make as many again. None is made twice.
    bed.store.end_hold(Some(&"lint".into()), false).await.unwrap();
    let due = bed.store.due_held(10, 60_000).await.unwrap();
    assert_eq!(due.iter().map(|one| one.seq).collect::<Vec<_>>(), [first, second], "oldest first");
    assert!(bed.store.judge_held(&due[0], &limited(limits, wished.clone())).await.unwrap());
    assert_eq!((bed.all_tasks().await.len(), bed.store.rule_holds().await.unwrap()), (5, vec![]));
    assert!(bed.store.judge_held(&due[1], &limited(limits, tasks(1))).await.unwrap());
    assert_eq!((bed.all_tasks().await.len(), bed.store.rule_holds().await.unwrap()), (6, vec![]));
    assert!(bed.store.backlog().await.unwrap().is_empty());
    let (third, made) = bed.judged("c", limited(limits, tasks(1))).await;
    assert_eq!(
        (made.len(), bed.said(third).await),
        (0, vec!["fired".to_owned(), "held".to_owned()]),
        "again"
    );
    // Later it may make as many by itself, once it is resumed.
    bed.pass(3_700_000).await;
    bed.store.end_hold(Some(&"lint".into()), false).await.unwrap();
    for held in bed.store.due_held(10, 60_000).await.unwrap() {
        assert!(bed.store.judge_held(&held, &limited(limits, tasks(1))).await.unwrap());
    }
    assert_eq!((bed.all_tasks().await.len(), bed.store.rule_holds().await.unwrap()), (7, vec![]));
}

async fn an_hour_passes(bed: &Bed) {
    let limits = hourly(2, OnExcess::Drop);
    let check = async |id: &str, wait_ms: i64, expect: usize| {
        bed.pass(wait_ms).await;
        assert_eq!(bed.judged(id, limited(limits, tasks(1))).await.1.len(), expect, "{id}");
    };
    check("a", 0, 1).await;
    check("b", 1_800_000, 1).await;
    check("c", 1_500_000, 0).await;
    // The first is more than an hour ago, the second is not.
    check("d", 420_000, 1).await;
    check("e", 1_000, 0).await;
    bed.pass(100_000_000).await;
    assert_eq!(bed.store.forget_rates().await.unwrap(), 3);
}

async fn a_day_has_a_limit_too(bed: &Bed) {
    let limits = Limits { per_hour: Some(2), per_day: Some(3), on_excess: OnExcess::Park };
    bed.judged("a", limited(limits, tasks(2))).await;
    bed.pass(4_000_000).await;
    let (seq, _) = bed.judged("b", limited(limits, tasks(2))).await;
    let firings = bed.store.firings(seq).await.unwrap();
    let parked = serde_json::to_string(&firings[1].verdict.verdict).unwrap();
    assert!(parked.contains("3 per day"), "{parked}");
}

async fn other_rules_are_not_limited(bed: &Bed) {
    let other = NewTask {
        origin: store::NewOrigin::Rule {
            rule: "other".into(),
            revision: revision(),
            entry: 0,
            cell: serde_json::Map::new(),
        },
        ..wished("lint")
    };
    let mut wishes = tasks(3);
    wishes.push(other);
    let (_, made) = bed.judged("a", limited(hourly(1, OnExcess::Drop), wishes)).await;
    assert_eq!(made.len(), 2);
}

async fn two_servers_count_exactly(bed: &Bed) {
    const LIMIT: usize = 25;
    let limits = hourly(u32::try_from(LIMIT).unwrap(), OnExcess::Park);
    let mut servers = Vec::new();
    for server in 0..4 {
        let store = Arc::clone(&bed.store);
        servers.push(tokio::spawn(async move {
            for n in 0..10 {
                let event = event(&format!("{server}-{n}"), "{}");
                let commit = EventCommit { event, judgement: Some(limited(limits, tasks(2))) };
                store.commit_events(&[commit]).await.unwrap();
            }
        }));
    }
    for server in servers {
        server.await.unwrap();
    }
    let all = bed.all_tasks().await;
    let parked = all.iter().filter(|task| task.state.label() == "waiting(parked)").count();
    assert_eq!((all.len(), all.len() - parked), (80, LIMIT));
}

async fn what_a_limit_drops_holds_no_other_wish_off(bed: &Bed) {
    let keyed = |key: &str| NewTask {
        dedupe: Some(Dedupe {
            scope: "lint".to_owned(),
            key: key.to_owned(),
            window: Duration::from_secs(24 * 3600),
        }),
        ..wished("lint")
    };
    let limits = hourly(1, OnExcess::Drop);
    assert_eq!(bed.judged("a", limited(limits, vec![keyed("x"), keyed("y")])).await.1.len(), 1);
    bed.pass(3_700_000).await;
    let (seq, made) = bed.judged("b", limited(limits, vec![keyed("x"), keyed("y")])).await;
    assert_eq!(made.len(), 1, "`y` was never made");
    assert_eq!(bed.said(seq).await, ["fired", "duplicate"]);
    // The same for events that a limit holds within one batch.
    bed.pass(3_700_000).await;
    let paused = hourly(1, OnExcess::Pause);
    let commit = |id: &str, key: &str| EventCommit {
        event: event(id, "{}"),
        judgement: Some(limited(paused, vec![keyed(key)])),
    };
    bed.store.commit_events(&[commit("c", "1"), commit("d", "2"), commit("e", "3")]).await.unwrap();
    assert_eq!(bed.all_tasks().await.len(), 3);
    bed.pass(3_700_000).await;
    bed.store.end_hold(Some(&"lint".into()), false).await.unwrap();
    let due = bed.store.due_held(10, 60_000).await.unwrap();
    assert_eq!(due.len(), 2);
    bed.store.judge_held(&due[0], &judgement(vec![keyed("2")])).await.unwrap();
    bed.store.judge_held(&due[1], &judgement(vec![keyed("3")])).await.unwrap();
    assert_eq!(bed.all_tasks().await.len(), 5);
}

async fn a_task_that_is_there_does_not_count(bed: &Bed) {
    let limits = hourly(2, OnExcess::Drop);
    let key = TaskKey::of_id("test", "same");
    let same = || NewTask { key, ..wished("lint") };
    for id in ["a", "b", "c"] {
        bed.judged(id, limited(limits, vec![same()])).await;
    }
    assert_eq!(bed.judged("d", limited(limits, tasks(2))).await.1.len(), 1);
}

async fn parked_tasks_supersede_when_they_are_released(bed: &Bed) {
    use model::task::OnNew;
    let limits = hourly(1, OnExcess::Park);
    let task = || in_group(wished("lint"), "g", OnNew::Supersede, None);
    let said = |task: &NewTask| limited(limits, vec![task.clone()]);
    let (old, new) = (task(), task());
    bed.judged("a", said(&old)).await;
    bed.judged("b", said(&new)).await;
    assert_eq!(bed.label(new.id).await, "waiting(parked)");
    assert_eq!(
        bed.label(old.id).await,
        "waiting(resolving)",
        "what waits for an operator takes nobody's place"
    );
    bed.store.release(new.id).await.unwrap();
    assert_eq!(bed.label(old.id).await, "superseded");
    assert_eq!(bed.label(new.id).await, "waiting(resolving)");
}

async fn what_would_be_made_of_the_past_is_told_and_not_made(bed: &Bed) {
    let limits = hourly(3, OnExcess::Drop);
    let mut past = Vec::new();
    for id in ["a", "b"] {
        let (seq, _) = bed.judged(id, store::Judgement::none(revision())).await;
        past.push((bed.store.event(seq).await.unwrap(), limited(limits, tasks(2))));
    }
    let told = bed.topics().await.len();
    let wished: Vec<_> =
        past.iter().flat_map(|(_, judgement)| &judgement.tasks).map(|task| task.id).collect();
    assert_eq!(bed.store.would_make(&past).await.unwrap(), wished[..3], "the limit counts over all of them");
    assert_eq!((bed.all_tasks().await.len(), bed.topics().await.len()), (0, told));
    assert_eq!(bed.said(past[0].0.seq).await, Vec::<String>::new());
    // As nothing was made, nothing was counted; afterwards what is there is not made again.
    for (event, judgement) in &past {
        bed.store.judge_past(event, judgement).await.unwrap();
    }
    assert_eq!(bed.all_tasks().await.len(), 3);
    assert_eq!(bed.store.would_make(&past).await.unwrap(), []);
}
