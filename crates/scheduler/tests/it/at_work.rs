//! Rules in practice: limits, holds, windows, schedules, counters, from the event to the task.

use super::bed::{Bed, build, event, files, quick, until};
use model::{RuleName, verdict::VerdictKind};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use store::StoreError;
use taskbot_scheduler::{service::ServiceError, settings::TIMERS_BATCH_MAX};
use tokio::task::JoinSet;

async fn bed_with(rules: &str) -> Bed {
    let bed = Bed::new().await;
    activate(&bed, rules).await;
    bed
}

async fn activate(bed: &Bed, rules: &str) {
    let activated = bed.scheduler.activate_rules(files(rules), "test", "tester").await;
    if let Err(error) = activated {
        panic!("{}", error.details());
    }
}

fn rule() -> RuleName {
    "check".into()
}

/// A rule with something more.
fn check_builds(more: &str) -> String {
    format!(
        "rules:\n  - name: check\n    on: build.done\n    then: [{{task: lint, with: {{nvr: \"${{event.body.nvr}}\"}}}}]\n{more}"
    )
}

#[tokio::test]
async fn a_paused_rule_is_judged_by_the_rules_of_its_resuming() {
    let mut bed = bed_with(&check_builds("")).await;
    bed.start();
    bed.scheduler.pause_rule(Some(&rule()), Some("mirror is down".to_owned()), "me").await.unwrap();
    let count = TIMERS_BATCH_MAX as usize + 10;
    for n in 0..count {
        assert!(bed.take(build(&format!("e{n}"))).await.is_empty());
    }
    let held = bed.scheduler.held().await.unwrap();
    assert_eq!((held.all, held.rules[0].held_events), (None, count as u64));
    // In between the rule is changed: it makes something else.
    activate(&bed, &check_builds("").replace("task: lint", "task: follow")).await;
    bed.scheduler.resume_rule(Some(&rule()), false, "me").await.unwrap();
    let tasks = bed.until_tasks(count).await;
    assert!(tasks.iter().all(|task| task.name.as_str() == "follow"));
    let events: Vec<_> = tasks.iter().map(|task| task.origin.event()).collect();
    assert!(events.is_sorted(), "oldest first");
    until("an empty backlog", || async {
        bed.scheduler.held().await.unwrap().rules.is_empty().then_some(())
    })
    .await;
    assert_eq!(bed.tasks().await.len(), count, "each once");
    let first = bed.scheduler.find_event("e0").await.unwrap();
    let firings = bed.store.firings(first.seq).await.unwrap();
    let kinds: Vec<_> = firings.iter().map(|one| one.verdict.verdict.as_str()).collect();
    assert_eq!(kinds, ["held", "fired"]);
    assert_ne!(firings[0].revision, firings[1].revision);
    bed.end().await;
}

#[tokio::test]
async fn holds_are_answered_for() {
    let bed = bed_with(&check_builds("")).await;
    let unknown = bed.scheduler.pause_rule(Some(&"nosuch".into()), None, "me").await;
    assert!(matches!(unknown, Err(ServiceError::Store(StoreError::NotFound { .. }))), "{unknown:?}");
    let not_held = bed.scheduler.resume_rule(None, false, "me").await;
    assert!(matches!(not_held, Err(ServiceError::Store(StoreError::NotFound { .. }))), "{not_held:?}");
    bed.scheduler.pause_rule(None, None, "me").await.unwrap();
    bed.take(build("a")).await;
    assert_eq!(bed.scheduler.held().await.unwrap().all.unwrap().by, "me");
    assert_eq!(bed.scheduler.resume_rule(None, true, "me").await.unwrap(), 1);
    assert!(bed.scheduler.held().await.unwrap().rules.is_empty());
    bed.end().await;
}

#[tokio::test]
async fn a_rule_that_is_gone_lets_its_events_go() {
    let mut bed = bed_with(&check_builds("")).await;
    bed.start();
    bed.scheduler.pause_rule(Some(&rule()), None, "me").await.unwrap();
    bed.take(build("a")).await;
    activate(&bed, &check_builds("").replace("name: check", "name: other")).await;
    bed.scheduler.resume_rule(Some(&rule()), false, "me").await.unwrap();
    until("an empty backlog", || async {
        bed.scheduler.held().await.unwrap().rules.is_empty().then_some(())
    })
    .await;
    assert!(bed.tasks().await.is_empty());
    bed.end().await;
}

#[tokio::test]
async fn parked_tasks_are_released_and_dropped_by_rule() {
    let mut bed = bed_with(&check_builds("    limits: {per_hour: 2, on_excess: park}\n")).await;
    bed.start();
    for n in 0..6 {
        bed.take(event(&format!("e{n}"), "build.done", &json!({"nvr": format!("a-{n}")}))).await;
    }
    let parked = async || {
        let tasks = bed.tasks().await;
        tasks.iter().filter(|task| task.state.label() == "waiting(parked)").count()
    };
    assert_eq!(parked().await, 4);
    let done = bed.scheduler.release_parked(&rule(), "me").await.unwrap();
    assert_eq!((done.tasks, done.more, parked().await), (4, false, 0));
    bed.take(event("more", "build.done", &json!({"nvr": "a-7"}))).await;
    let done = bed.scheduler.drop_parked(&rule(), "me").await.unwrap();
    assert_eq!((done.tasks, parked().await), (1, 0));
    let dropped = bed.tasks().await.pop().unwrap();
    assert_eq!(dropped.state.label(), "cancelled");
    bed.end().await;
}

#[tokio::test]
async fn a_breaker_trips_on_its_limit_and_never_on_errors() {
    let rules = check_builds("    limits: {per_hour: 3, on_excess: pause}\n")
        .replace("on: build.done", "on: build.done\n    if: event.body.n.len() > 0");
    let bed = bed_with(&rules).await;
    for n in 0..10 {
        let taken = bed.take(event(&format!("bad{n}"), "build.done", &json!({"nvr": "a", "n": 1}))).await;
        assert!(taken.is_empty());
    }
    let errors = bed.store.firings(bed.scheduler.find_event("bad9").await.unwrap().seq).await.unwrap();
    assert!(matches!(errors[0].verdict.verdict, VerdictKind::Error { .. }), "{errors:?}");
    assert!(
        bed.store.rule_holds().await.unwrap().is_empty(),
        "what an event's author can provoke trips nothing"
    );
    for n in 0..5 {
        bed.take(event(&format!("e{n}"), "build.done", &json!({"nvr": "a", "n": [1]}))).await;
    }
    assert_eq!(bed.tasks().await.len(), 3);
    let backlog = bed.store.backlog().await.unwrap().remove(0);
    assert_eq!((backlog.held_events, backlog.hold.unwrap().by.as_str()), (2, "limit"));
    bed.end().await;
}

#[tokio::test]
async fn collected_events_make_one_task() {
    let rules = r#"rules:
  - name: check
    on: build.done
    collect: {key: "${event.body.tag}", quiet: 10m, at_most_every: 1h}
    then:
      - task: lint
        with: {nvr: "${events.len().to_string() + ' ' + event.body.nvr}"}
"#;
    let mut bed = bed_with(rules).await;
    bed.start();
    for n in 0..3 {
        let body = json!({"tag": "f42", "nvr": format!("a-{n}")});
        assert!(bed.take(event(&format!("e{n}"), "build.done", &body)).await.is_empty());
    }
    assert_eq!(bed.store.collect_windows(None, 10).await.unwrap()[0].events, 3);
    bed.store.shift_clock(601_000).await.unwrap();
    let task = bed.until_tasks(1).await.remove(0);
    assert_eq!(task.inputs["nvr"], json!("3 a-2"));
    let due = bed.store.event(task.origin.event().unwrap()).await.unwrap();
    assert_eq!(due.event.topic.as_str(), "taskbot.collect.due");
    bed.end().await;
}

#[tokio::test]
async fn a_schedule_fires_once_for_each_time_whoever_looks() {
    let rules = "rules:\n  - name: check\n    on: {schedule: \"0 3 * * *\", missed: once}\n    then: [{task: lint, with: {nvr: \"${event.body.time}\"}}]\n";
    let mut bed = Bed::postgres().await;
    activate(&bed, rules).await;
    bed.start();
    let other = bed.second(quick(), |parts| parts).await;
    bed.run(&other, Vec::new());
    until("the rule to begin", || async {
        (!bed.store.schedule_times(&[rule()]).await.unwrap().is_empty()).then_some(())
    })
    .await;
    bed.store.shift_clock(24 * 3600 * 1000).await.unwrap();
    bed.until_tasks(1).await;
    bed.store.shift_clock(24 * 3600 * 1000).await.unwrap();
    let tasks = bed.until_tasks(2).await;
    let times: Vec<_> = tasks.iter().map(|task| task.inputs["nvr"].as_str().unwrap().to_owned()).collect();
    assert!(times.iter().all(|time| time.ends_with("T03:00:00Z")), "{times:?}");
    assert_ne!(times[0], times[1]);
    let query = store::EventQuery {
        topic: Some("taskbot.schedule.due".into()),
        limit: 10,
        ..store::EventQuery::default()
    };
    assert_eq!(bed.store.events(&query).await.unwrap().items.len(), 2);
    bed.end().await;
}

#[tokio::test]
async fn rules_are_counted() {
    let rules = format!(
        "{}  - name: other\n    on: build.done\n    when: {{body.nvr: nothing}}\n    then: [{{task: lint}}]\n",
        check_builds("    limits: {per_hour: 2, on_excess: drop}\n")
    );
    let mut bed = bed_with(&rules).await;
    let stop = bed.start();
    for n in 0..3 {
        bed.take(build(&format!("e{n}"))).await;
    }
    // Known events count for nothing.
    bed.scheduler.ingest(vec![build("e0").into()]).await.unwrap();
    stop.cancel();
    let count = until("the counters", || async {
        let counts = bed.store.rule_counts().await.unwrap();
        counts.into_iter().find(|one| one.rule == rule() && one.fired > 0)
    })
    .await;
    assert_eq!((count.candidates, count.fired, count.errors, count.suppressed), (3, 3, 0, 1));
    assert!(count.last_fired_at.is_some());
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_that_come_and_go_under_load_lose_and_double_nothing() {
    const EVENTS: usize = 400;
    const BATCH: usize = 20;
    let rules = check_builds("    limits: {per_day: 350, on_excess: pause}\n");
    let mut bed = Bed::postgres().await;
    activate(&bed, &rules).await;
    bed.start();
    let other = bed.second(quick(), |parts| parts).await;
    bed.run(&other, Vec::new());
    until("both to follow the rules", || async {
        other.rulebook().current().rule(&rule()).is_some().then_some(())
    })
    .await;
    let mut takers = JoinSet::new();
    for (server, scheduler) in [bed.scheduler.clone(), other.clone()].into_iter().enumerate() {
        takers.spawn(async move {
            // Each brings all events, from another end.
            let mut all: Vec<_> = (0..EVENTS).collect();
            all.rotate_left(server * EVENTS / 2);
            for batch in all.chunks(BATCH) {
                let events = batch.iter().map(|n| build(&format!("e{n}")).into()).collect();
                scheduler.ingest(events).await.unwrap();
            }
        });
    }
    // People pause and resume, the rule alone and all of them, while the limit trips too.
    let mut turn = 0_u32;
    while !takers.is_empty() {
        let one = turn.is_multiple_of(2).then(rule);
        bed.scheduler.pause_rule(one.as_ref(), None, "me").await.unwrap();
        let done = tokio::time::timeout(Duration::from_millis(20), takers.join_next()).await;
        if let Ok(Some(done)) = done {
            done.unwrap();
        }
        // The limit may have held it again.
        bed.scheduler.resume_rule(one.as_ref(), false, "me").await.unwrap();
        turn += 1;
    }
    bed.until_tasks(350).await;
    let backlog = until("what is over the limit", || async {
        bed.store.backlog().await.unwrap().pop().filter(|one| one.held_events == 50 && one.hold.is_some())
    })
    .await;
    assert_eq!(backlog.hold.unwrap().by, "limit");
    assert_eq!(bed.tasks().await.len(), 350);
    bed.store.shift_clock(25 * 3600 * 1000).await.unwrap();
    bed.scheduler.resume_rule(Some(&rule()), false, "me").await.unwrap();
    let tasks = bed.until_tasks(EVENTS).await;
    until("an empty backlog", || async { bed.store.backlog().await.unwrap().is_empty().then_some(()) }).await;
    let events: BTreeSet<_> = tasks.iter().map(|task| task.origin.event()).collect();
    assert_eq!((bed.tasks().await.len(), events.len()), (EVENTS, EVENTS));
    bed.end().await;
}
