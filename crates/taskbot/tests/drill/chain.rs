//! A rule on our own events makes its task once; copies that come back by the bus are dropped.

use crate::{
    support::{
        bus::Publication,
        installation::{Installation, Plan},
        repository::task_file,
        wait::until_equal,
    },
    verify::same,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// How many chains.
const CHAINS: usize = 20;

const RULES: &str = r#"rules:
  - name: build-image
    on: drill.image.wanted
    then:
      - task: build
        item: {type: image, id: "${event.body.name}"}
        with: {nvr: "${event.body.name}"}

  - name: test-image
    on: taskbot.task.finished
    when: {body.name: build, body.outcome: passed}
    then:
      - task: try
        item: {type: image, id: "${event.body.item.id}"}
        with: {nvr: "${event.body.item.id}"}

  # What is told of events is no event: this never meets a message of ours.
  - name: everything
    on: ">"
    when: {topic: {prefix: taskbot.}}
    then:
      - task: try
        item: {type: odd, id: "${event.topic}"}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chains_fire_once_and_copies_are_dropped() {
    let quick = |name| task_file(name, "local: {}", "true");
    let (build, attempt) = (quick("build"), quick("try"));
    let plan = Plan {
        servers: 2,
        workers: 1,
        slots: 4,
        rules: &[("chain.yaml", RULES)],
        repositories: &[("build", &[("task.yaml", &build)]), ("try", &[("task.yaml", &attempt)])],
        ..Plan::default()
    };
    let installation = Installation::start(&plan).await;
    let wanted = (0..CHAINS).map(|number| Publication {
        topic: "drill.image.wanted".to_owned(),
        headers: vec![("message-id", format!("wanted-{number}"))],
        payload: format!("{{\"name\": \"image-{number}\"}}").into_bytes(),
    });
    installation.bus.publish(wanted).await;
    finished(&installation).await;

    // All that was told comes back by the bus that events come from.
    let told = installation.bus.all_told().await.len();
    for position in 1..=u64::try_from(told).unwrap() {
        installation.bus.send_back(position).await;
    }
    until_equal("the bus has nothing left", Some(0), async || {
        installation.bus.unacknowledged(crate::support::installation::DURABLE).await
    })
    .await;
    let marker = Publication {
        topic: "drill.image.wanted".to_owned(),
        headers: vec![("message-id", "wanted-0".to_owned())],
        payload: b"{\"name\": \"image-0\"}".to_vec(),
    };
    installation.bus.publish([marker]).await;
    finished(&installation).await;

    let tasks = installation.list("/api/v1/tasks").await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let made: Vec<String> = tasks
        .iter()
        .map(|task| {
            format!("{} {} {}", text(&task["origin"]["rule"]), text(&task["item"]["id"]), task["depth"])
        })
        .collect();
    let expect: BTreeSet<String> = (0..CHAINS)
        .flat_map(|number| [format!("build-image image-{number} 0"), format!("test-image image-{number} 1")])
        .collect();
    assert_eq!(made.len(), 2 * CHAINS, "tasks");
    same("tasks", &expect, &made.into_iter().collect());
    let copies = installation
        .database
        .number("select count(*) from event where source = 'bus' and topic like 'taskbot.%'")
        .await;
    assert_eq!(copies, 0, "copies in the inbox");
    let told_of_events = installation
        .database
        .number(
            "select count(*) from event where topic like 'taskbot.event.%' or topic like 'taskbot.rule.%'",
        )
        .await;
    assert_eq!(told_of_events, 0, "messages in the inbox that tell of events");
    let dead = installation.database.number("select count(*) from dead_letter").await;
    assert_eq!(dead, 0, "dead letters");
    installation.remove().await;
}

async fn finished(installation: &Installation) {
    until_equal("all tasks finished", i64::try_from(2 * CHAINS).unwrap(), async || {
        installation.database.number("select count(*) from task where state = 'finished'").await
    })
    .await;
    until_equal("nothing waits", 0, async || {
        let waits = "select (select count(*) from event where hold_until is not null) \
            + (select count(*) from outbox where published_at is null) \
            + (select count(*) from task where state <> 'finished')";
        installation.database.number(waits).await
    })
    .await;
}
