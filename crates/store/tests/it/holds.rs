//! Rules that are held, and the events that wait for them.

use crate::harness::*;
use model::{
    message::{JsonText, NewMessage},
    verdict::{Verdict, VerdictKind},
};
use serde_json::json;
use std::time::Duration;
use store::{CancelWhat, CancelWish, HoldKind, Judgement, NewCollect, Retention, StoreError};

conformance!(
    a_held_rule_makes_nothing_and_loses_nothing,
    all_rules_can_be_held,
    what_is_held_can_be_dropped,
    other_rules_go_on,
    holds_are_told_and_ended_once,
    held_events_come_back_when_their_judge_died,
    everything_that_a_rule_wishes_waits,
    held_events_outlive_retention,
    a_restart_changes_nothing,
);

fn rule() -> model::RuleName {
    "lint".into()
}

async fn a_held_rule_makes_nothing_and_loses_nothing(bed: &Bed) {
    let hold = bed.store.hold_rule(Some(&rule()), "ada", Some("mirror is down")).await.unwrap();
    assert_eq!((hold.kind, hold.by.as_str()), (HoldKind::Pause, "ada"));
    let (first, made) = bed.judged("a", judgement(vec![wished("lint")])).await;
    let (second, _) = bed.judged("b", judgement(vec![wished("lint")])).await;
    assert!(made.is_empty() && bed.all_tasks().await.is_empty());
    let firing = bed.store.firings(first).await.unwrap().remove(0);
    assert_eq!(firing.verdict.verdict, VerdictKind::Held { why: "paused by ada: mirror is down".to_owned() });
    let backlog = bed.store.backlog().await.unwrap().remove(0);
    assert_eq!((backlog.rule.clone(), backlog.held_events, backlog.parked_tasks), (rule(), 2, 0));
    assert_eq!(backlog.hold, Some(hold));
    assert!(bed.store.due_held(10, 1_000).await.unwrap().is_empty());
    assert_eq!(bed.store.end_hold(Some(&rule()), false).await.unwrap(), 0);
    let due = bed.store.due_held(1, 60_000).await.unwrap();
    assert_eq!((due.len(), due[0].seq, due[0].event.id.as_str()), (1, first, "a"));
    let task = wished("lint");
    assert!(bed.store.judge_held(&due[0], &judgement(vec![task.clone()])).await.unwrap());
    assert!(!bed.store.judge_held(&due[0], &judgement(vec![wished("lint")])).await.unwrap(), "it was judged");
    assert_eq!(bed.said(first).await, ["held", "fired"]);
    assert_eq!(bed.store.task(task.id).await.unwrap().origin.event(), Some(first));
    let told = bed.topics().await;
    assert_eq!(told.iter().filter(|topic| *topic == "event.received").count(), 2, "{told:?}");
    assert_eq!(bed.store.due_held(10, 60_000).await.unwrap()[0].seq, second);
}

async fn all_rules_can_be_held(bed: &Bed) {
    bed.store.hold_rule(None, "ada", None).await.unwrap();
    let (seq, made) = bed.judged("a", judgement(vec![wished("lint")])).await;
    assert!(made.is_empty());
    let why = bed.store.firings(seq).await.unwrap().remove(0).verdict.verdict;
    assert_eq!(why, VerdictKind::Held { why: "all rules are paused by ada".to_owned() });
    // A rule of its own hold stays held when all others go on.
    bed.store.hold_rule(Some(&rule()), "bob", None).await.unwrap();
    bed.store.end_hold(None, false).await.unwrap();
    assert!(bed.store.due_held(10, 1_000).await.unwrap().is_empty());
    bed.store.end_hold(Some(&rule()), false).await.unwrap();
    assert_eq!(bed.store.due_held(10, 1_000).await.unwrap().len(), 1);
}

async fn what_is_held_can_be_dropped(bed: &Bed) {
    bed.store.hold_rule(Some(&rule()), "ada", None).await.unwrap();
    for id in ["a", "b", "c"] {
        bed.judged(id, judgement(vec![wished("lint")])).await;
    }
    assert_eq!(bed.store.end_hold(Some(&rule()), true).await.unwrap(), 3);
    assert!(bed.store.due_held(10, 1_000).await.unwrap().is_empty());
    bed.store.hold_rule(None, "ada", None).await.unwrap();
    bed.judged("d", judgement(vec![wished("lint")])).await;
    bed.store.hold_rule(Some(&rule()), "bob", None).await.unwrap();
    assert_eq!(bed.store.end_hold(None, true).await.unwrap(), 0, "the rule's own hold keeps its events");
    assert_eq!(bed.store.backlog().await.unwrap()[0].held_events, 1);
}

async fn other_rules_go_on(bed: &Bed) {
    bed.store.hold_rule(Some(&"other".into()), "ada", None).await.unwrap();
    let mut said = judgement(vec![wished("lint")]);
    let verdict = VerdictKind::Fired { tasks: 0 };
    said.verdicts.push(Verdict { rule: "other".into(), verdict, clauses: Vec::new() });
    let (seq, made) = bed.judged("a", said).await;
    assert_eq!((made.len(), bed.said(seq).await), (1, vec!["fired".to_owned(), "held".to_owned()]));
    assert_eq!(bed.store.backlog().await.unwrap()[0].rule.as_str(), "other");
}

async fn holds_are_told_and_ended_once(bed: &Bed) {
    bed.store.hold_rule(Some(&rule()), "ada", None).await.unwrap();
    bed.store.hold_rule(None, "bob", Some("upgrade")).await.unwrap();
    bed.store.hold_rule(Some(&rule()), "eve", Some("again")).await.unwrap();
    let holds = bed.store.rule_holds().await.unwrap();
    let shown: Vec<_> = holds.iter().map(|hold| (hold.rule.clone(), hold.by.as_str())).collect();
    assert_eq!(shown, [(None, "bob"), (Some(rule()), "eve")]);
    bed.store.end_hold(Some(&rule()), false).await.unwrap();
    let again = bed.store.end_hold(Some(&rule()), false).await;
    assert!(matches!(again, Err(StoreError::NotFound { .. })), "{again:?}");
}

async fn held_events_come_back_when_their_judge_died(bed: &Bed) {
    bed.store.hold_rule(Some(&rule()), "ada", None).await.unwrap();
    bed.judged("a", judgement(vec![wished("lint")])).await;
    bed.store.end_hold(Some(&rule()), false).await.unwrap();
    assert_eq!(bed.store.due_held(10, 15_000).await.unwrap().len(), 1);
    assert!(bed.store.due_held(10, 15_000).await.unwrap().is_empty(), "another server has it");
    bed.pass(15_001).await;
    assert_eq!(bed.store.due_held(10, 15_000).await.unwrap().len(), 1);
}

async fn everything_that_a_rule_wishes_waits(bed: &Bed) {
    let old = wished("lint");
    bed.event("old", vec![old.clone()]).await;
    let message = |rule: &str| NewMessage {
        topic: "taskbot.custom.said".into(),
        subject: rule.to_owned(),
        order_key: format!("rule:{rule}"),
        data: JsonText::of(&json!({"rule": rule})),
        task: None,
        depth: 0,
        traceparent: None,
    };
    let said = || Judgement {
        cancels: vec![CancelWish { rule: rule(), what: CancelWhat::Item(old.item.clone().unwrap()) }],
        emits: vec![message("lint"), message("other")],
        collects: vec![NewCollect {
            rule: rule(),
            key: "k".to_owned(),
            quiet: Duration::from_secs(60),
            at_most_every: None,
        }],
        ..judgement(vec![wished("lint")])
    };
    bed.store.hold_rule(Some(&rule()), "ada", None).await.unwrap();
    bed.judged("a", said()).await;
    assert_eq!(bed.label(old.id).await, "waiting(resolving)");
    assert!(bed.store.collect_windows(None, 10).await.unwrap().is_empty());
    let own = async || {
        let query = store::EventQuery { source: Some(own()), limit: 10, ..Default::default() };
        let events = bed.store.events(&query).await.unwrap().items.into_iter();
        let rules = events.filter(|one| one.event.topic.as_str() == "taskbot.custom.said");
        let mut rules: Vec<_> =
            rules.map(|one| body(&one.event)["rule"].as_str().unwrap().to_owned()).collect();
        rules.sort();
        rules
    };
    assert_eq!(own().await, ["other"]);
    bed.store.end_hold(Some(&rule()), false).await.unwrap();
    let due = bed.store.due_held(10, 1_000).await.unwrap();
    let of_rule = Judgement { emits: vec![message("lint")], ..said() };
    bed.store.judge_held(&due[0], &of_rule).await.unwrap();
    assert_eq!(bed.label(old.id).await, "cancelled");
    assert_eq!(bed.store.collect_windows(None, 10).await.unwrap().len(), 1);
    assert_eq!(own().await, ["lint", "other"], "each has an id of its own");
}

async fn held_events_outlive_retention(bed: &Bed) {
    bed.store.hold_rule(Some(&rule()), "ada", None).await.unwrap();
    let (held, _) = bed.judged("a", judgement(vec![wished("lint")])).await;
    let (other, _) = bed.judged("b", Judgement::none(revision())).await;
    bed.pass(3_600_000).await;
    let second = Some(Duration::from_secs(1));
    let retention = Retention { bodies: second, ..Retention::default() };
    bed.store.prune(&retention, 100, false).await.unwrap();
    assert!(!bed.store.event(held).await.unwrap().body_expired);
    assert!(bed.store.event(other).await.unwrap().body_expired);
    let retention = Retention { events: second, ..Retention::default() };
    bed.store.prune(&retention, 100, false).await.unwrap();
    assert!(bed.store.event(held).await.is_ok() && bed.store.event(other).await.is_err());
}

async fn a_restart_changes_nothing(bed: &Bed) {
    bed.store.hold_rule(Some(&rule()), "ada", None).await.unwrap();
    bed.judged("a", judgement(vec![wished("lint")])).await;
    let before = bed.store.backlog().await.unwrap();
    let store = bed.restarted().await;
    assert_eq!(store.backlog().await.unwrap(), before);
    store.end_hold(Some(&rule()), false).await.unwrap();
    assert_eq!(store.due_held(10, 1_000).await.unwrap().len(), 1);
    store.close().await;
}
