//! Events, rules, dead letters, tasks and what keeps the server running.

use super::bed::{Bed, RULES, until};
use reqwest::{Method, header};
use serde_json::{Value, json};
use store::NewDeadLetter;

#[tokio::test]
async fn an_event_is_sent_once_shown_and_explained() {
    let bed = Bed::open().await;
    let event = json!({"topic": "build.done", "id": "e1", "headers": {"a": 1}, "body": {"nvr": "x-1"}});
    let (status, sent) = bed.post("/api/v1/events", &event).await;
    assert_eq!((status, &sent["outcome"]), (201, &json!("new")));
    assert_eq!(sent["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(bed.post("/api/v1/events", &event).await.0, 200);
    let other = json!({"topic": "build.done", "id": "e1", "body": {"nvr": "y-1"}});
    assert_eq!(bed.post("/api/v1/events", &other).await.0, 409);
    let bare =
        bed.request(Method::POST, "/api/v1/events?topic=build.done").body("{broken").send().await.unwrap();
    assert_eq!(bare.status(), 422);
    for id in ["e1", "1", "%231"] {
        let shown = bed.get(&format!("/api/v1/events/{id}")).await;
        assert_eq!((&shown["seq"], &shown["body"]["nvr"]), (&json!(1), &json!("x-1")), "{id}");
    }
    let verdicts = bed.get("/api/v1/events/e1/verdicts").await;
    assert_eq!(verdicts["firings"][0]["verdict"]["rule"], "check-builds");
    assert_eq!(verdicts["tasks"], sent["tasks"]);
    let why = bed.get("/api/v1/events/e1/why?rule=check-builds").await;
    assert_eq!(why[0]["verdict"]["kind"], "fired");
    let (status, replayed) = bed.post("/api/v1/events/e1/replay", &json!({})).await;
    assert_eq!((status, &replayed["generation"]), (202, &json!(1)));
    until("the replay's task", || async {
        let tasks = bed.get("/api/v1/tasks?event=1").await;
        (tasks["items"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    bed.end().await;
}

#[tokio::test]
async fn what_a_route_does_not_know_is_refused() {
    let bed = Bed::open().await;
    for (path, said) in [
        ("/api/v1/tasks?stat=queued", "no parameter `stat` (did you mean `state`?)"),
        ("/api/v1/events?foo=1", "no parameter `foo`; expected one of topic, prefix"),
        ("/api/v1/queues?x", "no parameter `x`; there is no parameter here"),
        ("/api/v1/events/e1/why?rul=a", "did you mean `rule`?"),
        ("/api/v1/stream?where=bdy%3D1", "did you mean `body`?"),
    ] {
        let (status, problem) = bed.send(Method::GET, path, &Value::Null).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(status == 400 && detail.contains(said), "{path}: {status} {problem}");
    }
    // Other systems' clients send what their system ignored.
    assert_eq!(bed.send(Method::GET, "/api/v2.0/results?callback=x", &Value::Null).await.0, 200);
    bed.end().await;
}

#[tokio::test]
async fn many_events_are_sent_and_listed_by_pages_and_filters() {
    let bed = Bed::open().await;
    let lines: String = (0..30)
        .map(|n| {
            json!({"topic": if n % 3 == 0 { "a.b" } else { "c.d" }, "id": format!("e{n}"), "body": {"n": n}})
                .to_string()
                + "\n"
        })
        .collect();
    let request =
        bed.request(Method::POST, "/api/v1/events").header(header::CONTENT_TYPE, "application/x-ndjson");
    let sent: Value = request.body(lines).send().await.unwrap().json().await.unwrap();
    assert_eq!(sent["items"].as_array().unwrap().len(), 30);
    let walk = async |query: &str| {
        let (mut ids, mut next) = (Vec::new(), None::<String>);
        loop {
            let before = next.map(|next| format!("&before={next}")).unwrap_or_default();
            let page = bed.get(&format!("/api/v1/events?limit=4{query}{before}")).await;
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 4);
            ids.extend(items.iter().map(|event| event["body"]["n"].as_i64().unwrap()));
            next = page["next"].as_str().map(str::to_owned);
            if next.is_none() {
                return ids;
            }
        }
    };
    assert_eq!(walk("").await, (0..30).rev().collect::<Vec<_>>());
    assert_eq!(walk("&topic=a.b").await, (0..30).rev().filter(|n| n % 3 == 0).collect::<Vec<_>>());
    assert_eq!(walk("&topic=a.*").await, walk("&topic=a.b").await);
    assert_eq!(walk("&topic=*.b").await, walk("&topic=a.b").await);
    assert_eq!(walk("&topic=a.b.>").await, Vec::<i64>::new());
    let filter = "&where=%7Bbody.n%3A%20%7Bgte%3A%2010%7D%7D";
    let (status, problem) =
        bed.send(Method::GET, &format!("/api/v1/events?limit=1{filter}"), &Value::Null).await;
    assert_eq!(status, 200, "{problem}");
    assert_eq!(walk(filter).await, (10..30).rev().collect::<Vec<_>>());
    let bad =
        bed.request(Method::POST, "/api/v1/events").header(header::CONTENT_TYPE, "application/x-ndjson");
    let lines =
        "{\"topic\": \"a.b\", \"body\": {\"n\": 99}}\n\n{broken\n{\"topic\": \"a..b\", \"body\": {}}\n";
    let bad = bad.body(lines).send().await.unwrap();
    assert_eq!(bad.status(), 200, "the others are taken");
    let answer: Value = bad.json().await.unwrap();
    let said: Vec<_> = answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            (item["line"].as_u64().unwrap(), item["outcome"].as_str().unwrap(), item["letter"].is_null())
        })
        .collect();
    assert_eq!(said, [(1, "new", true), (3, "malformed", true), (4, "malformed", false)], "{answer}");
    assert!(answer["items"][1]["reason"].as_str().unwrap().contains("expected a whole message"), "{answer}");
    bed.end().await;
}

#[tokio::test]
async fn dead_letters_are_shown_tried_again_and_dropped() {
    let bed = Bed::open().await;
    for body in [b"{broken".to_vec(), vec![0xff, 0xfe]] {
        bed.request(Method::POST, "/api/v1/events?topic=build.done").body(body).send().await.unwrap();
    }
    let listed = bed.get("/api/v1/dlq").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    let id = listed["items"][1]["id"].as_i64().unwrap();
    assert_eq!(bed.get(&format!("/api/v1/dlq/{id}")).await["payload"], "{broken");
    assert_eq!(bed.get(&format!("/api/v1/dlq/{}", listed["items"][0]["id"])).await["payload_hex"], "fffe");
    assert_eq!(bed.post(&format!("/api/v1/dlq/{id}/requeue"), &json!({})).await.0, 422);
    assert_eq!(bed.get("/api/v1/dlq").await["items"].as_array().unwrap().len(), 2, "it is still there");
    assert_eq!(bed.send(Method::DELETE, &format!("/api/v1/dlq/{id}"), &json!({})).await.0, 204);
    assert_eq!(bed.send(Method::DELETE, &format!("/api/v1/dlq/{id}"), &json!({})).await.0, 404);
    bed.end().await;
}

#[tokio::test]
async fn a_dead_letter_that_is_good_now_is_taken_in_and_gone() {
    let bed = Bed::open().await;
    let letter = NewDeadLetter {
        source: "api".into(),
        topic: Some("build.done".to_owned()),
        event_id: Some("late".to_owned()),
        headers: r#"{"sent-at": "2026-11-01T10:00:00+00:00"}"#.to_owned(),
        payload: br#"{"nvr": "audit-4.0-1.fc42"}"#.to_vec(),
        reason: "judging it broke".to_owned(),
        deliveries: 3,
    };
    let id = bed.store().bury(&[letter]).await.unwrap()[0];
    let (status, taken) = bed.post(&format!("/api/v1/dlq/{id}/requeue"), &json!({})).await;
    assert_eq!(status, 200, "{taken}");
    let event = bed.get(&format!("/api/v1/events/{}", taken["event"])).await;
    assert_eq!((&event["id"], &event["source"]), (&json!("late"), &json!("api")), "{event}");
    assert_eq!(event["headers"]["sent-at"], json!("2026-11-01T10:00:00+00:00"));
    let verdicts = bed.get("/api/v1/events/late/verdicts").await;
    assert_eq!(verdicts["tasks"].as_array().unwrap().len(), 1, "{verdicts}");
    assert!(bed.get("/api/v1/dlq").await["items"].as_array().unwrap().is_empty());
    assert_eq!(bed.post(&format!("/api/v1/dlq/{id}/requeue"), &json!({})).await.0, 404, "it is gone");
    bed.end().await;
}

#[tokio::test]
async fn rules_are_checked_put_in_force_and_switched() {
    let bed = Bed::open().await;
    let tasks = "tasks: {lint: {git: \"https://git.example.org/lint.git\"}}\n";
    let files = |rules: &str| json!({"files": {"tasks.yaml": tasks, "rules.yaml": rules}});
    let wrong = files(&RULES.replace("task: lint", "task: lnit"));
    let (status, checked) = bed.post("/api/v1/rules/check", &wrong).await;
    assert_eq!((status, &checked["ok"]), (200, &json!(false)));
    let (status, problem) = bed.send(Method::PUT, "/api/v1/rules", &wrong).await;
    assert_eq!(status, 422);
    assert!(!problem["diagnostics"].as_array().unwrap().is_empty(), "{problem}");
    let listed = bed.get("/api/v1/rules").await;
    assert_eq!(listed["rules"][0]["name"], "check-builds", "the old ones stay");
    assert!(listed["problem"].is_string());
    let (status, _) = bed.post("/api/v1/rules/check-builds/mode", &json!({"mode": "off"})).await;
    assert_eq!(status, 200);
    let (status, active) = bed.send(Method::PUT, "/api/v1/rules", &files(&format!("{RULES}# more\n"))).await;
    assert_eq!(status, 200, "{active}");
    let listed = bed.get("/api/v1/rules").await;
    assert_eq!((&listed["rules"][0]["mode"], &listed["origin"]), (&json!("off"), &json!("api")));
    assert_eq!(listed["problem"], Value::Null);
    assert!(bed.get("/api/v1/rules/check-builds").await["source"].as_str().unwrap().contains("# more"));
    assert_eq!(bed.post("/api/v1/rules/none/mode", &json!({"mode": "off"})).await.0, 404);
    assert_eq!(bed.post("/api/v1/rules/reload", &json!({})).await.0, 409, "there is no folder");
    bed.end().await;
}

#[tokio::test]
async fn tasks_are_submitted_listed_cancelled_and_run_again() {
    let bed = Bed::open().await;
    let task = bed.queued("e1").await;
    let short = &task[..task.len() - 1];
    assert_eq!(bed.get(&format!("/api/v1/tasks/{short}")).await["task"]["id"], json!(task));
    let (status, submitted) = bed.post("/api/v1/tasks", &json!({"task": "lint", "key": "k"})).await;
    assert_eq!(status, 201);
    assert_eq!(
        bed.post("/api/v1/tasks", &json!({"task": "lint", "key": "k"})).await.1["id"],
        submitted["id"]
    );
    let (status, cancelled) =
        bed.post(&format!("/api/v1/tasks/{task}/cancel"), &json!({"why": "no need"})).await;
    assert_eq!((status, &cancelled["state"]["state"]), (200, &json!("cancelled")));
    assert_eq!(bed.post(&format!("/api/v1/tasks/{task}/cancel"), &json!({})).await.0, 409);
    let (status, again) = bed.post(&format!("/api/v1/tasks/{task}/rerun"), &json!({})).await;
    assert_eq!(status, 201);
    assert_ne!(again["id"], json!(task));
    let listed = bed.get("/api/v1/tasks?state=cancelled").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(bed.post("/api/v1/queues/default/pause", &json!({"why": "x"})).await.0, 204);
    assert_eq!(bed.get("/api/v1/queues").await[0]["paused"]["why"], "x");
    assert_eq!(bed.post("/api/v1/queues/default/resume", &json!({})).await.0, 204);
    assert_eq!(bed.post("/api/v1/workers/none/mode", &json!({"mode": "drain"})).await.0, 404);
    for (mode, expect) in [
        (json!({"mode": "rest"}), 422),
        (json!({"mode": "maintenance"}), 400),
        (json!({"mode": "maintenance", "why": "x", "until": "2020-01-01T00:00:00Z"}), 400),
        (json!({"mode": "active", "until": "2120-01-01T00:00:00Z"}), 400),
        (json!({"mode": "maintenance", "why": "x", "until": "2120-01-01T00:00:00Z"}), 404),
    ] {
        assert_eq!(bed.post("/api/v1/workers/none/mode", &mode).await.0, expect, "{mode}");
    }
    let (status, pruned) = bed.post("/api/v1/prune?dry_run=true", &json!({})).await;
    assert_eq!((status, pruned["rows"].is_object()), (200, true));
    bed.end().await;
}

#[tokio::test]
async fn health_says_when_the_database_is_away() {
    let bed = Bed::open().await;
    assert_eq!(bed.get("/readyz").await["checks"]["database"]["ok"], true);
    let metrics = async || bed.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let text = metrics().await;
    assert!(text.contains("taskbot_database_up 1") && text.ends_with("# EOF\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    bed.store().close().await;
    let ready = bed.request(Method::GET, "/readyz").send().await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(metrics().await.contains("taskbot_database_up 0"));
    let tasks = bed.request(Method::GET, "/api/v1/tasks").send().await.unwrap();
    assert_eq!(tasks.status(), 503);
    assert!(tasks.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(bed.request(Method::GET, "/healthz").send().await.unwrap().status(), 200);
    bed.end().await;
}
