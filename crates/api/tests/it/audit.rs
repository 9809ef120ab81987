//! Each change that somebody asks for leaves a record of who did what.

use super::bed::{Bed, loopback, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use store::Role;
use taskbot_api::{Interfaces, openapi, testflinger::Settings};

/// They read, though they are asked by POST.
const READS: [&str; 2] = ["post /api/v1/rules/check", "post /api/v1/rules/{name}/explain"];
/// What workers say of what they run stands with the attempt, under their names.
const REPORTS: &str = "/api/v1/worker/";

/// A server with one who may do all, and what has been asked of it.
struct Walk {
    bed: Bed,
    /// A client of Testflinger's interface with secrets of its own.
    client: String,
    seen: BTreeSet<String>,
}

impl Walk {
    async fn records(&self) -> Vec<Value> {
        let all = self.bed.get("/api/v1/audit?limit=500").await;
        all["items"].as_array().unwrap().clone()
    }

    /// Asks, and looks for the record. `route` is the path with its places.
    async fn change(&mut self, action: &str, method: &str, route: &str, path: &str, body: Value) -> Value {
        self.seen.insert(format!("{} {route}", method.to_lowercase()));
        let before = self.records().await.len();
        let own = if path.starts_with("/v1/secrets/") { Some(self.client.as_str()) } else { None };
        let method: Method = method.parse().unwrap();
        let mut request = self.bed.request(method.clone(), path);
        if !body.is_null() {
            request = request.json(&body);
        }
        if let Some(token) = own {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        let records = self.records().await;
        let new = &records[..records.len() - before];
        let found = new.iter().find(|record| record["action"] == action);
        let found = found.unwrap_or_else(|| panic!("{method} {path} left no `{action}`: {new:?}, {text}"));
        let who = if own.is_some() { "testflinger:boss" } else { "anonymous" };
        assert_eq!(found["who"], who, "{found}");
        assert!(!found.to_string().contains("s3cret"), "{found}");
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    /// As [`Walk::change`], where the path is the route.
    async fn at(&mut self, action: &str, method: &str, route: &str, body: Value) -> Value {
        self.change(action, method, route, route, body).await
    }

    async fn send(&self, id: &str) -> String {
        let event = json!({"topic": "build.done", "id": id, "body": {"nvr": id}});
        let (status, sent) = self.bed.post("/api/v1/events", &event).await;
        assert_eq!(status, 201, "{sent}");
        sent["tasks"][0].as_str().unwrap_or_default().to_owned()
    }
}

const FILES: &str = "rules:\n  - name: check-builds\n    on: build.done\n    limits: {per_hour: 2, on_excess: park}\n    \
    then:\n      - task: lint\n";

#[tokio::test]
async fn every_change_is_in_the_record() {
    let secrets = taskbot_api::testflinger::SealKey::new(&[7; 32]);
    let testflinger = Some(Settings { secrets, ..Settings::default() });
    let interfaces = Interfaces { testflinger, ..Interfaces::default() };
    let bed = Bed::serving(interfaces, loopback(Role::Admin)).await;
    let mut walk = Walk { bed, client: String::new(), seen: BTreeSet::new() };
    rules(&mut walk).await;
    tasks(&mut walk).await;
    operations(&mut walk).await;
    results_and_requests(&mut walk).await;
    testflinger_(&mut walk).await;
    paddles(&mut walk).await;
    let described = serde_json::to_value(openapi()).unwrap();
    for (path, item) in described["paths"].as_object().unwrap() {
        let changing = ["post", "put", "delete", "patch"].into_iter();
        for method in changing.filter(|method| item.get(method).is_some()) {
            let route = format!("{method} {path}");
            let apart = READS.contains(&route.as_str()) || path.starts_with(REPORTS);
            assert!(apart || walk.seen.contains(&route), "{route} is not walked; seen are {:?}", walk.seen);
        }
    }
    walk.bed.end().await;
}

async fn rules(walk: &mut Walk) {
    // An event of which the rules to come have something to make.
    walk.bed.scheduler.activate_rules(super::bed::rule_files("rules: []\n"), "test", "tester").await.unwrap();
    walk.send("e0").await;
    let files = json!({"files": {
        "tasks.yaml": "tasks:\n  lint: {git: \"https://git.example.org/lint.git\"}\n  package-install: {git: \"https://git.example.org/package-install.git\"}\n",
        "rules.yaml": "rules:\n  - name: check-builds\n    on: build.done\n    then:\n      - task: lint\n",
    }});
    walk.at("rules.put", "PUT", "/api/v1/rules", files).await;
    let rule =
        |rest: &str| ("/api/v1/rules/{name}".to_owned() + rest, format!("/api/v1/rules/check-builds{rest}"));
    for (action, rest, body) in [
        ("rule.pause", "/pause", json!({"why": "a test"})),
        ("rule.resume", "/resume", json!({})),
        ("rule.release", "/release", Value::Null),
        ("rule.drop", "/drop", Value::Null),
        ("rule.apply", "/apply", json!({"since": "2026-01-01T00:00:00Z"})),
        ("rule.mode", "/mode", json!({"mode": "shadow"})),
    ] {
        let (route, path) = rule(rest);
        walk.change(action, "POST", &route, &path, body).await;
    }
    walk.at("rules.rollback", "POST", "/api/v1/rules/rollback", json!({})).await;
    walk.at("rule.pause", "POST", "/api/v1/rules/pause", json!({})).await;
    walk.at("rule.resume", "POST", "/api/v1/rules/resume", json!({})).await;
    // Its rules were given by this interface: there is no folder to read again.
    let (status, _) = walk.bed.post("/api/v1/rules/reload", &json!({})).await;
    assert_eq!(status, 409);
    walk.seen.insert("post /api/v1/rules/reload".to_owned());
}

async fn tasks(walk: &mut Walk) {
    let event = json!({"topic": "build.done", "id": "e1", "body": {}});
    walk.at("event.send", "POST", "/api/v1/events", event).await;
    walk.change("event.replay", "POST", "/api/v1/events/{id}/replay", "/api/v1/events/e1/replay", json!({}))
        .await;
    let lint = json!({"task": "lint", "item": {"type": "build", "id": "a-1"}});
    let made = walk.at("task.submit", "POST", "/api/v1/tasks", lint).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let of = |rest: &str| ("/api/v1/tasks/{id}".to_owned() + rest, format!("/api/v1/tasks/{id}{rest}"));
    let (route, path) = of("/cancel");
    walk.change("task.cancel", "POST", &route, &path, json!({})).await;
    let all = json!({"item": "a-1", "state": "cancelled"});
    walk.at("task.rerun", "POST", "/api/v1/tasks/rerun", all).await;
    let (route, path) = of("/rerun");
    walk.change("task.rerun", "POST", &route, &path, json!({})).await;

    // One that a limit parked.
    walk.bed.scheduler.activate_rules(super::bed::rule_files(FILES), "test", "tester").await.unwrap();
    let mut parked = String::new();
    for number in 0..3 {
        parked = walk.send(&format!("limited-{number}")).await;
    }
    let path = format!("/api/v1/tasks/{parked}/release");
    walk.change("task.release", "POST", "/api/v1/tasks/{id}/release", &path, Value::Null).await;
    // What waits for a word, and what is held, is made by others' tests: nothing waits here.
    for rest in ["approve", "unhold"] {
        let (status, _) = walk.bed.post(&format!("/api/v1/tasks/{id}/{rest}"), &json!({})).await;
        assert_eq!(status, 409, "{rest}");
        walk.seen.insert(format!("post /api/v1/tasks/{{id}}/{rest}"));
    }
}

async fn operations(walk: &mut Walk) {
    let named =
        |rest: &str| ("/api/v1/queues/{name}".to_owned() + rest, format!("/api/v1/queues/default{rest}"));
    for (action, rest) in [("queue.pause", "/pause"), ("queue.resume", "/resume")] {
        let (route, path) = named(rest);
        walk.change(action, "POST", &route, &path, json!({})).await;
    }
    assert_eq!(walk.bed.post("/api/v1/worker/claim", &super::workers::claim(0)).await.0, 200);
    let mode = json!({"mode": "cordon"});
    walk.change("worker.mode", "POST", "/api/v1/workers/{name}/mode", "/api/v1/workers/w/mode", mode).await;
    walk.at("db.prune", "POST", "/api/v1/prune", Value::Null).await;
    let made =
        walk.at("token.create", "POST", "/api/v1/tokens", json!({"name": "t", "role": "viewer"})).await;
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    walk.change("token.revoke", "DELETE", "/api/v1/tokens/{id}", &path, Value::Null).await;
    letters(walk).await;
    // A sink that was configured once.
    walk.bed.store().sink("gone").await.unwrap();
    walk.change("sink.forget", "DELETE", "/api/v1/sinks/{name}", "/api/v1/sinks/gone", Value::Null).await;
}

/// Dead letters: one that is taken after all, and one that is dropped.
async fn letters(walk: &mut Walk) {
    for (payload, action, method, rest) in
        [("{}", "dlq.requeue", "POST", "/requeue"), ("{", "dlq.drop", "DELETE", "")]
    {
        let letter = store::NewDeadLetter {
            source: "test".into(),
            topic: Some("build.done".to_owned()),
            event_id: Some(format!("letter-{method}")),
            headers: "{}".to_owned(),
            payload: payload.as_bytes().to_vec(),
            reason: "a test".to_owned(),
            deliveries: 1,
        };
        let id = walk.bed.store().bury(&[letter]).await.unwrap()[0];
        let path = format!("/api/v1/dlq/{id}{rest}");
        walk.change(action, method, &format!("/api/v1/dlq/{{id}}{rest}"), &path, Value::Null).await;
    }
}

async fn results_and_requests(walk: &mut Walk) {
    let own = json!([{"testcase": "t", "outcome": "passed", "data": {}}]);
    walk.at("result.add", "POST", "/api/v1/results", own).await;
    let result = json!({"testcase": "t", "outcome": "PASSED"});
    walk.at("result.add", "POST", "/api/v2.0/results", result).await;
    walk.at("testcase.put", "POST", "/api/v2.0/testcases", json!({"name": "t2"})).await;
    walk.at("group.put", "POST", "/api/v2.0/groups", json!({"description": "d"})).await;
    let wish = json!({"item_type": "koji_build", "item": "a-1-1", "test": "ci.smoke"});
    walk.at("retest.request", "POST", "/api/v1/retests", wish).await;
    let wish = json!({"type": "koji_build", "item": "a-1-1", "test": "ci.boot"});
    walk.at("retest.request", "POST", "/submit", wish).await;
    walk.change(
        "retest.request",
        "GET",
        "/submit",
        "/submit?type=koji_build&item=b-1-1&test=ci.boot",
        Value::Null,
    )
    .await;
    let package = json!({
        "dist_name": "almalinux", "dist_version": "9", "dist_arch": "x86_64", "package_name": "bash",
        "bs_task_id": 7,
    });
    walk.at("task.submit", "POST", "/tasks/schedule", package).await;
    walk.at("task.cancel", "POST", "/cancel_tasks", json!({"bs_task_ids": [7]})).await;
}

async fn testflinger_(walk: &mut Walk) {
    let boss = json!({"client_secret": "a password of some length", "role": "manager"});
    let path = "/v1/client-permissions/boss";
    walk.at("testflinger.client.put", "PUT", path, boss).await;
    let ask = walk.bed.request(Method::POST, "/v1/oauth2/token");
    let ask = ask.basic_auth("boss", Some("a password of some length"));
    let tokens: Value = ask.send().await.unwrap().json().await.unwrap();
    walk.client = tokens["access_token"].as_str().unwrap().to_owned();
    let secret = "/v1/secrets/boss/team/token";
    walk.at("testflinger.secret.put", "PUT", secret, json!({"value": "s3cret"})).await;
    walk.at("testflinger.secret.delete", "DELETE", secret, Value::Null).await;
    let (_, _) = walk.bed.post("/v1/agents/queues", &json!({"q": "a queue"})).await;
    let queue = "/v1/restricted-queues/q";
    walk.at("testflinger.queue.restrict", "POST", queue, json!({"client_id": "boss"})).await;
    walk.at("testflinger.queue.unrestrict", "DELETE", queue, json!({"client_id": "boss"})).await;
    let revoke = json!({"refresh_token": tokens["refresh_token"]});
    walk.at("testflinger.token.revoke", "POST", "/v1/oauth2/revoke", revoke).await;
    walk.at("testflinger.client.delete", "DELETE", path, Value::Null).await;
    let job = walk.at("testflinger.job.submit", "POST", "/v1/job", json!({"job_queue": "q"})).await;
    let path = format!("/v1/job/{}/action", job["job_id"].as_str().unwrap());
    walk.change("task.cancel", "POST", "/v1/job/ID/action", &path, json!({"action": "cancel"})).await;
}

async fn paddles(walk: &mut Walk) {
    let at = |path: &str| format!("/compat/paddles{path}");
    for (action, method, path, body) in [
        ("paddles.run.add", "POST", "/runs/", json!({"name": "r"})),
        ("paddles.node.add", "POST", "/nodes/", json!({"name": "n", "machine_type": "m", "up": true})),
        ("paddles.node.change", "PUT", "/nodes/n/", json!({"description": "d"})),
        ("paddles.node.lock", "PUT", "/nodes/n/lock/", json!({"locked": true, "locked_by": "me"})),
        ("paddles.node.unlock", "POST", "/nodes/unlock_many/", json!({"names": ["n"], "locked_by": "me"})),
        (
            "paddles.node.lock",
            "POST",
            "/nodes/lock_many/",
            json!({"count": 1, "locked_by": "me", "machine_type": "m", "description": "d"}),
        ),
        ("paddles.node.delete", "DELETE", "/nodes/n/", Value::Null),
        ("paddles.queue.add", "POST", "/queue/", json!({"queue": "q2"})),
        ("queue.pause", "PUT", "/queue/", json!({"queue": "q2", "paused_by": "me", "pause_duration": 60})),
    ] {
        walk.at(action, method, &at(path), body).await;
    }
    // What a job says of itself is a report: it stands in the job, and is told on the bus.
    let (status, _) = walk.bed.post(&at("/runs/r/jobs/"), &json!({"job_id": "1", "status": "pass"})).await;
    assert_eq!(status, 200);
    until("the job to be told of", || async {
        let task = walk.bed.get("/api/v1/tasks?state=finished").await;
        (!task["items"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    walk.at("paddles.job.delete", "DELETE", &at("/runs/r/jobs/1/"), Value::Null).await;
    walk.at("paddles.run.delete", "DELETE", &at("/runs/r/"), Value::Null).await;
}
