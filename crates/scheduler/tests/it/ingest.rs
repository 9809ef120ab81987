//! Events in, and our own events.

use super::bed::{Bed, RULES, Said, build, event, files, finish, quick, raw, source, until};
use serde_json::json;
use std::collections::BTreeSet;
use taskbot_scheduler::{
    ingest::{Incoming, Taken},
    rulebook::Rulebook,
    rules::load::Options,
};

fn kind(taken: &Taken) -> &'static str {
    match taken {
        Taken::New { .. } => "new",
        Taken::Known { .. } => "known",
        Taken::Conflict { .. } => "conflict",
        Taken::Dead { .. } => "dead",
    }
}

#[tokio::test]
async fn each_event_is_taken_once_and_bad_ones_disturb_no_other() {
    let bed = Bed::new().await;
    let events = [
        build("a"),
        raw("b", "build.done", b"{broken"),
        build("a"),
        event("a", "build.done", &json!({"nvr": "other"})),
        build("c"),
        raw("d", "not a topic", b"{}"),
    ];
    let taken = bed.scheduler.ingest(events.into_iter().map(Into::into).collect()).await.unwrap();
    let kinds: Vec<_> = taken.iter().map(kind).collect();
    assert_eq!(kinds, ["new", "dead", "known", "conflict", "new", "dead"]);
    assert_eq!(bed.tasks().await.len(), 2);
    let letters = bed.store.dead_letters(None, 10).await.unwrap().items;
    assert_eq!(letters.len(), 3, "{letters:?}");
    assert!(letters.iter().all(|letter| !letter.reason.is_empty()));
    bed.end().await;
}

#[tokio::test]
async fn a_batch_is_acknowledged_after_its_commit() {
    let mut bed = Bed::new().await;
    let contents = vec![Ok(build("a")), Err("{broken"), Ok(build("own")), Ok(build("b"))];
    let (source, mut heard) = source(contents, &[2]);
    let scheduler = bed.scheduler.clone();
    bed.run(&scheduler, vec![source]);
    let mut acked = BTreeSet::new();
    while acked.len() < 4 {
        let (number, said) = heard.recv().await.unwrap();
        assert_eq!(said, Said::Ack);
        assert_eq!(bed.tasks().await.len(), 2, "acknowledged before the commit");
        acked.insert(number);
    }
    assert_eq!(bed.store.dead_letters(None, 10).await.unwrap().items.len(), 1);
    bed.end().await;
}

#[tokio::test]
async fn nothing_is_acknowledged_or_lost_while_the_database_is_away() {
    let mut bed = Bed::postgres().await;
    bed.store.close().await;
    assert!(bed.scheduler.ingest(vec![build("a").into()]).await.unwrap_err().is_transient());
    let (held, mut heard) = source(vec![Ok(build("a"))], &[]);
    let scheduler = bed.scheduler.clone();
    let stop = bed.run(&scheduler, vec![held]);
    assert_eq!(heard.recv().await.unwrap(), (0, Said::Progress));
    stop.cancel();
    while let Some(said) = heard.recv().await {
        assert_eq!(said.1, Said::Progress, "acknowledged though it was not written");
    }
    // The bus delivers it again, and the database is back.
    let (again, mut heard) = source(vec![Ok(build("a"))], &[]);
    let back = bed.second(quick(), |parts| parts).await;
    bed.run(&back, vec![again]);
    assert_eq!(heard.recv().await.unwrap(), (0, Said::Ack));
    let query = store::TaskQuery { limit: 9, ..store::TaskQuery::default() };
    assert_eq!(back.store().tasks(&query).await.unwrap().items.len(), 1);
    bed.end().await;
}

#[tokio::test]
async fn an_event_that_the_database_refuses_stands_alone_in_the_end() {
    let bed = Bed::postgres().await;
    // As if a source had let it pass: PostgreSQL keeps no NUL in texts.
    let poisoned = Incoming { event: raw("x\0y", "build.done", b"{}"), body: Some(json!({"nvr": "x"})) };
    let mut events: Vec<Incoming> = (0..9).map(|n| build(&format!("e{n}")).into()).collect();
    events.insert(4, poisoned);
    let taken = bed.scheduler.ingest(events).await.unwrap();
    let dead: Vec<_> = taken.iter().enumerate().filter(|(_, taken)| kind(taken) == "dead").collect();
    assert_eq!(dead.len(), 1, "{taken:?}");
    assert_eq!(dead[0].0, 4);
    assert_eq!(bed.tasks().await.len(), 9);
    bed.end().await;
}

#[tokio::test]
async fn nothing_is_judged_before_the_rules_are_there() {
    let rules = tempfile::tempdir().unwrap();
    std::fs::write(rules.path().join("tasks.yaml"), super::bed::TASKS).unwrap();
    std::fs::write(rules.path().join("rules.yaml"), RULES).unwrap();
    let folder = rules.path().to_owned();
    let bed = Bed::with(quick(), |mut parts| {
        parts.rulebook = Rulebook::new(Options::default(), Some(folder));
        parts
    })
    .await;
    let error = bed.scheduler.ingest(vec![build("a").into()]).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("not loaded"), "{error}");
    bed.scheduler.reload_rules("start").await.unwrap();
    assert_eq!(bed.take(build("a")).await.len(), 1);
    bed.end().await;
}

#[tokio::test]
async fn own_events_are_judged_and_chains_end() {
    let mut bed = Bed::new().await;
    let rules = format!(
        "{RULES}  - name: again\n    on: taskbot.task.finished\n    when: {{body.outcome_class: passed}}\n    then: [{{task: follow}}]\n"
    );
    bed.scheduler.activate_rules(files(&rules), "test", "tester").await.unwrap();
    bed.start();
    bed.take(build("a")).await;
    for round in 0..=model::event::CHAIN_DEPTH_MAX {
        let assignment = bed.claim_one("w").await;
        assert_eq!(assignment.task.depth, round);
        bed.scheduler.finish(assignment.task.id, &finish(assignment.attempt, "passed")).await.unwrap();
        if round < model::event::CHAIN_DEPTH_MAX - 1 {
            bed.until_tasks(round as usize + 2).await;
        } else {
            break;
        }
    }
    until("all to be judged", || async { (bed.store.figures().await.unwrap().unjudged == 0).then_some(()) })
        .await;
    assert_eq!(bed.tasks().await.len(), model::event::CHAIN_DEPTH_MAX as usize, "the chain is cut");
    bed.end().await;
}

#[tokio::test]
async fn a_replay_is_judged_by_todays_rules() {
    let mut bed = Bed::new().await;
    let first = bed.take(build("a")).await;
    let seq = bed.store.task(first[0]).await.unwrap().origin.event().unwrap();
    let rules = RULES.replace("task: lint", "task: follow");
    bed.scheduler.activate_rules(files(&rules), "test", "tester").await.unwrap();
    bed.start();
    assert_eq!(bed.scheduler.replay(seq, "me").await.unwrap(), 1);
    let tasks = bed.until_tasks(2).await;
    assert_eq!(tasks[1].name.as_str(), "follow");
    assert_eq!(tasks[1].origin.event(), Some(seq));
    bed.end().await;
}
