//! Testflinger's interface: the lines of its first documentation, and what its agent and command line send.

use super::bed::{Bed, both, loopback, until};
use reqwest::{
    Method, Response,
    header::{self, HeaderMap},
    multipart::{Form, Part},
};
use scheduler::rules::load::RuleFiles;
use serde_json::{Value, json};
use std::process::Command;
use store::Role;
use taskbot_api::{Interfaces, testflinger::Settings};

both! {
    a_job_from_its_command_line_to_its_agent_and_back, priorities_then_the_agents_order_then_age, what_was_cancelled_stays_cancelled, an_agent_that_began_anew_gives_its_job_up, a_silent_agents_job_is_queued_again, the_codes_of_today, clients_with_passwords_and_tokens, secrets_are_given_to_the_agent_only, a_jobs_events_are_told_to_its_webhook, rules_send_jobs_to_its_queues, rules_jobs_fail_where_it_is_said_so,
}

pub(crate) const UNKNOWN: &str = "00000000-0000-0000-0000-000000000000";

/// An agent or a person, with the cookie that the server gave.
pub(crate) struct Client<'a> {
    bed: &'a Bed,
    cookie: Option<String>,
}

impl<'a> Client<'a> {
    pub(crate) const fn new(bed: &'a Bed) -> Self {
        Self { bed, cookie: None }
    }

    /// An agent that made itself known.
    pub(crate) async fn agent(bed: &'a Bed, name: &str, queues: &[&str]) -> Self {
        let mut agent = Self::new(bed);
        let path = format!("/v1/agents/data/{name}");
        let response = agent.send(Method::POST, &path, &json!({"state": "waiting", "comment": ""})).await;
        let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
        assert_eq!(cookie, format!("agent_name={name}; HttpOnly; SameSite=Strict; Path=/"));
        agent.cookie = Some(format!("agent_name={name}"));
        let known: Value = queues.iter().map(|queue| ((*queue).to_owned(), json!("a queue"))).collect();
        assert_eq!(agent.post("/v1/agents/queues", &known).await, (200, "OK".to_owned()));
        let data = json!({"location": "", "queues": queues, "provision_type": "fake_connector"});
        assert_eq!(agent.post(&path, &data).await.0, 200);
        agent
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Response {
        let mut request = self.bed.request(method, path);
        if !body.is_null() {
            request = request.json(body);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        request.send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, String) {
        let response = self.send(Method::POST, path, body).await;
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.send(Method::GET, path, &Value::Null).await;
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) async fn submit(&self, job: &Value) -> String {
        let (status, answer) = self.post("/v1/job", job).await;
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["job_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn state(&self, job: &str) -> Value {
        self.get(&format!("/v1/result/{job}")).await.1["job_state"].clone()
    }
}

pub(crate) async fn native(bed: &Bed, job: &str) -> Value {
    bed.get(&format!("/api/v1/tasks/{job}")).await
}

pub(crate) fn strict() -> Interfaces {
    let testflinger = Some(Settings { strict: true, ..Settings::default() });
    Interfaces { testflinger, ..Interfaces::default() }
}

/// Runs a line of a shell, as the first documentation has it; what it prints, and the status.
fn shell(bed: &Bed, line: &str, folder: &std::path::Path) -> (String, String) {
    let line = line.replace("localhost:8000", &bed.address.to_string());
    let line = format!("{line} -sS -w '\\n%{{http_code}}'");
    let out = Command::new("bash").args(["-c", &line]).current_dir(folder).output().unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_its_first_documentation() {
    let bed = Bed::open().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("artifact.tar.gz"), b"bytes").unwrap();
    let run = |line: &str| shell(&bed, line, folder.path());
    let json_of = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let ok = ("200".to_owned(), "OK".to_owned());

    let (status, made) = run(
        r#"curl http://localhost:8000/v1/job -X POST --header "Content-Type: application/json" --data '{ "job_queue": "myqueue", "option":"foo" }'"#,
    );
    assert_eq!(status, "200", "{made}");
    let id = json_of(&made)["job_id"].as_str().unwrap().to_owned();
    let ask = r"curl http://localhost:8000/v1/job?queue=foo\&queue=bar";
    assert_eq!(run(ask), ("204".to_owned(), String::new()));
    assert_eq!(run("curl http://localhost:8000/v1/job").0, "400");
    let (status, job) = run(r"curl http://localhost:8000/v1/job?queue=foo\&queue=myqueue");
    assert_eq!((status.as_str(), &json_of(&job)["option"]), ("200", &json!("foo")));
    assert_eq!(json_of(&job)["job_id"], json!(id));

    assert_eq!(run(&format!("curl http://localhost:8000/v1/result/{UNKNOWN} -X GET")).0, "204");
    let post = format!(
        r#"curl http://localhost:8000/v1/result/{UNKNOWN} -X POST --header "Content-Type: application/json" --data '{{ "exit_code": 0, "output":"foo" }}'"#
    );
    assert_eq!(run(&post), ok);
    let (status, result) = run(&format!("curl http://localhost:8000/v1/result/{UNKNOWN} -X GET"));
    assert_eq!((status.as_str(), json_of(&result)), ("200", json!({"exit_code": 0, "output": "foo"})));
    assert_eq!(run(&post.replace(UNKNOWN, &id)), ok);
    assert_eq!(native(&bed, &id).await["task"]["state"]["outcome"], "passed");

    let artifact = format!("localhost:8000/v1/result/{UNKNOWN}/artifact");
    assert_eq!(run(&format!("curl http://{artifact} -X GET")).0, "204");
    assert_eq!(run(&format!(r#"curl -X POST -F "file=@artifact.tar.gz" {artifact}"#)), ok);
    // `-O` names the file after the path; what follows it is a second address, which nobody has.
    let line = format!("curl -sS http://{artifact} -X GET -O artifact.tar.gz");
    let line = line.replace("localhost:8000", &bed.address.to_string());
    Command::new("bash").args(["-c", &line]).current_dir(folder.path()).output().unwrap();
    assert_eq!(std::fs::read(folder.path().join("artifact")).unwrap(), b"bytes");

    let describe = r#"curl http://localhost:8000/v1/agents/queues -X POST --header "Content-Type: application/json" --data '{ "myqueue": "queue 1", "myqueue2": "queue 2" }'"#;
    assert_eq!(run(describe), ok);
    let (_, queues) = run("curl http://localhost:8000/v1/agents/queues -X GET");
    assert_eq!(json_of(&queues), json!({"myqueue": "queue 1", "myqueue2": "queue 2"}));
    let images = r#"curl http://localhost:8000/v1/agents/images -X POST --header "Content-Type: application/json" --data '{ "myqueue": { "image1": "url: http://place/imgae1" }}'"#;
    assert_eq!(run(images), ok);
    let (_, images) = run("curl http://localhost:8000/v1/agents/images/myqueue -X GET");
    assert_eq!(json_of(&images), json!({"image1": "url: http://place/imgae1"}));

    let cancel = |id: &str| {
        format!(
            r#"curl http://localhost:8000/v1/job/{id}/action -X POST --header "Content-Type: application/json" --data '{{ "action":"cancel" }}'"#
        )
    };
    assert_eq!(run(&cancel(UNKNOWN)).0, "404");
    assert_eq!(run(&cancel(&id)), ("400".to_owned(), "The job is already completed or cancelled".to_owned()));
    let id = Client::new(&bed).submit(&json!({"job_queue": "myqueue"})).await;
    assert_eq!(run(&cancel(&id)), ok);
    assert_eq!(run(&cancel(&id)).0, "400");
    bed.end().await;
}

async fn a_job_from_its_command_line_to_its_agent_and_back() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    assert_eq!(cli.get("/v1/queues/myqueue/agents").await.0, 404);
    let agent = Client::agent(&bed, "agent1", &["myqueue"]).await;
    assert_eq!(cli.get("/v1/").await, (200, json!("Testflinger Server v1.5.0")));
    assert_eq!(cli.post("/oidc/auth-init", &json!({})).await.0, 404);
    let (status, agents) = cli.get("/v1/queues/myqueue/agents").await;
    assert_eq!((status, &agents[0]["state"], &agents[0]["name"]), (200, &json!("waiting"), &json!("agent1")));
    let job = json!({"job_queue": "myqueue", "provision_data": {"url": "x"}, "tags": ["a", "b"],
        "test_data": {"test_cmds": "true", "attachments": [{"agent": "data/x", "local": "x"}]}});
    let id = cli.submit(&job).await;
    let path = format!("/v1/job/{id}");
    assert_eq!(cli.get(&path).await.1["attachments_status"], "waiting");
    assert_eq!(cli.get(&format!("{path}/position")).await, (200, json!(0)), "it waits, too");
    assert_eq!(agent.get("/v1/job?queue=myqueue").await.0, 204);
    assert_eq!(agent.get(&format!("{path}/attachments")).await.0, 204);
    let form = Form::new().part("file", Part::bytes(b"a tar".to_vec()).file_name("attachments.tar.gz"));
    let sent =
        bed.request(Method::POST, &format!("{path}/attachments")).multipart(form).send().await.unwrap();
    assert_eq!((sent.status().as_u16(), sent.text().await.unwrap()), (200, "OK".to_owned()));
    assert_eq!(cli.get(&format!("{path}/position")).await, (200, json!(0)));
    assert_eq!(cli.state(&id).await, "waiting");

    let (status, given) = agent.get("/v1/job?queue=other&queue=myqueue").await;
    assert_eq!(
        (status, &given["job_id"], &given["attachments_status"]),
        (200, &json!(id), &json!("complete"))
    );
    assert_eq!(given["provision_data"], json!({"url": "x"}));
    assert!(given["started_at"].as_str().unwrap().ends_with('Z'), "{given}");
    // The answer was lost: it can be asked for again.
    assert_eq!(agent.get("/v1/job?queue=myqueue").await, (200, given));
    assert_eq!(cli.get(&format!("{path}/position")).await.0, 410);
    assert_eq!(cli.state(&id).await, "running");
    assert_eq!(agent.post("/v1/agents/data/agent1", &json!({"job_id": id})).await.0, 200);
    let attached = agent.send(Method::GET, &format!("{path}/attachments"), &Value::Null).await;
    assert_eq!(attached.headers()[header::CONTENT_TYPE], "application/gzip");
    assert_eq!(attached.bytes().await.unwrap(), "a tar");

    let result = format!("/v1/result/{id}");
    let ok = || (200, "OK".to_owned());
    assert_eq!(agent.post(&result, &json!({"job_state": "provision"})).await, ok());
    assert_eq!(cli.state(&id).await, "provision");
    for (number, phase, text) in
        // Some count over all phases, some begin anew with each.
        [(0, "provision", "one\n"), (1, "provision", "two\n"), (1, "test", "three\n")]
    {
        let fragment = json!({"fragment_number": number, "timestamp": "2026-11-21T00:19:34.374959+00:00", "phase": phase, "log_data": text});
        assert_eq!(agent.post(&format!("{result}/log/output"), &fragment).await, ok());
    }
    let fragment = json!({"fragment_number": 0, "timestamp": "2026-11-21T00:19:35+00:00", "phase": "test", "log_data": "boot"});
    assert_eq!(agent.post(&format!("{result}/log/serial"), &fragment).await, ok());
    let (_, log) = cli.get(&format!("{result}/log/output?start_fragment=1")).await;
    assert_eq!(log["output"]["provision"], json!({"last_fragment_number": 1, "log_data": "two\n"}));
    assert_eq!(log["output"]["setup"], json!({"last_fragment_number": -1, "log_data": ""}));
    assert_eq!(log["output"].as_object().unwrap().len(), 7);
    let (_, log) = cli.get(&format!("{result}/log/serial?phase=test")).await;
    assert_eq!(log, json!({"serial": {"test": {"last_fragment_number": 0, "log_data": "boot"}}}));
    assert_eq!(agent.post(&result, &json!({"status": {"provision": 0}})).await, ok());
    let provisioned = json!({"job_id": id, "exit_code": 0, "detail": "provision_success"});
    assert_eq!(agent.post("/v1/agents/provision_logs/agent1", &provisioned).await, ok());
    assert_eq!(agent.post("/v1/agents/provision_logs/nobody", &provisioned).await.0, 404);
    assert_eq!(agent.post(&result, &json!({"device_info": {"device_ip": "192.0.2.1"}})).await, ok());
    assert_eq!(agent.post(&result, &json!({"job_state": "test"})).await, ok());
    assert_eq!(native(&bed, &id).await["task"]["state"]["phase"], "run");

    let form = Form::new().part("file", Part::bytes(b"an artifact".to_vec()).file_name("file"));
    let mut upload = bed.request(Method::POST, &format!("{result}/artifact")).multipart(form);
    upload = upload.header(header::COOKIE, agent.cookie.as_deref().unwrap());
    assert_eq!(upload.send().await.unwrap().status(), 200);
    let artifact = cli.send(Method::GET, &format!("{result}/artifact"), &Value::Null).await;
    let kinds = |headers: &HeaderMap| {
        [header::CONTENT_TYPE, header::CONTENT_ENCODING]
            .map(|name| headers[name].to_str().unwrap().to_owned())
    };
    assert_eq!(kinds(artifact.headers()), ["application/x-tar", "gzip"]);
    assert_eq!(artifact.headers()[header::CONTENT_DISPOSITION], "inline; filename=artifact.tar.gz");
    assert_eq!(artifact.bytes().await.unwrap(), "an artifact");

    let status = json!({"provision": 0, "test": 3, "cleanup": 0});
    assert_eq!(agent.post(&result, &json!({"status": status})).await, ok());
    assert_eq!(agent.post(&result, &json!({"status": status, "job_state": "complete"})).await, ok());
    let (_, shown) = cli.get(&format!("{result}/status")).await;
    let brief =
        json!({"cleanup_status": 0, "job_state": "complete", "provision_status": 0, "test_status": 3});
    assert_eq!(shown, brief);
    let (_, shown) = cli.get(&result).await;
    let expect = json!({"cleanup_status": 0, "device_info": {"device_ip": "192.0.2.1"}, "job_state": "complete",
        "provision_output": "one\ntwo\n", "provision_status": 0, "test_output": "three\n", "test_serial": "boot",
        "test_status": 3});
    assert_eq!(shown, expect);
    let task = native(&bed, &id).await;
    assert_eq!(
        (&task["task"]["state"]["outcome"], &task["task"]["kind"]["kind"]),
        (&json!("failed"), &json!("foreign"))
    );
    assert_eq!(task["artifacts"][0]["name"], "artifacts.tar.gz");
    assert_eq!(task["results"][0]["data"]["test_status"], 3);
    let log = bed.request(Method::GET, &format!("/api/v1/tasks/{id}/log")).send().await.unwrap();
    let log = log.text().await.unwrap();
    assert!(log.contains("one\n") && log.contains("boot") && log.contains("three\n"), "{log}");

    let (_, found) = cli.get("/v1/job/search?tags=a&tags=c&match=any&state=completed").await;
    assert_eq!((&found[0]["job_id"], &found[0]["job_state"]), (&json!(id), &json!("complete")));
    assert_eq!(cli.get("/v1/job/search?tags=a&tags=c&match=all").await.1, json!([]));
    assert_eq!(cli.get("/v1/job/search?state=nowhere").await.0, 422);
    let (_, jobs) = cli.get("/v1/queues/myqueue/jobs").await;
    assert_eq!((&jobs[0]["job_id"], &jobs[0]["job_queue"]), (&json!(id), &json!("myqueue")));
    assert_eq!(cli.get("/v1/queues/nothing/jobs").await.0, 204);
    let (_, waits) = cli.get("/v1/queues/wait_times?queue=myqueue").await;
    assert!(waits["myqueue"]["50"].as_f64().is_some(), "{waits}");
    let (_, agent1) = cli.get("/v1/agents/data/agent1").await;
    assert_eq!((&agent1["provision_streak_type"], &agent1["job_id"]), (&json!("pass"), &json!(id)));
    assert_eq!(cli.get("/v1/agents/data/nobody").await, (404, json!({})));
    assert_eq!(cli.get("/v1/agents/data").await.1.as_array().unwrap().len(), 1);
    bed.end().await;
}

async fn priorities_then_the_agents_order_then_age() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    let mut ids = Vec::new();
    for (queue, priority) in [("b", 0), ("a", 0), ("b", 0), ("a", 5), ("b", 9)] {
        ids.push(cli.submit(&json!({"job_queue": queue, "job_priority": priority})).await);
    }
    let agent = Client::agent(&bed, "agent1", &["a", "b"]).await;
    let mut given = Vec::new();
    for _ in 0..ids.len() {
        let (_, job) = agent.get("/v1/job?queue=a&queue=b").await;
        let id = job["job_id"].as_str().unwrap().to_owned();
        agent.post(&format!("/v1/result/{id}"), &json!({"job_state": "complete"})).await;
        given.push(ids.iter().position(|known| *known == id).unwrap());
    }
    assert_eq!(given, [4, 3, 1, 0, 2]);
    bed.end().await;
}

async fn what_was_cancelled_stays_cancelled() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    let agent = Client::agent(&bed, "agent1", &["q"]).await;
    let id = cli.submit(&json!({"job_queue": "q"})).await;
    agent.get("/v1/job?queue=q").await;
    agent.post(&format!("/v1/result/{id}"), &json!({"job_state": "test"})).await;
    let cancel = json!({"action": "cancel"});
    assert_eq!(cli.post(&format!("/v1/job/{id}/action"), &cancel).await, (200, "OK".to_owned()));
    assert_eq!(agent.state(&id).await, "cancelled");
    agent.post(&format!("/v1/result/{id}"), &json!({"job_state": "cleanup"})).await;
    assert_eq!(cli.state(&id).await, "cancelled");
    agent.post(&format!("/v1/result/{id}"), &json!({"status": {"test": 0}, "job_state": "complete"})).await;
    assert_eq!(cli.state(&id).await, "cancelled");
    assert_eq!(native(&bed, &id).await["task"]["state"]["state"], "cancelled");
    assert_eq!(cli.post(&format!("/v1/job/{id}/action"), &cancel).await.0, 400);
    assert_eq!(cli.post(&format!("/v1/job/{id}/action"), &json!({"action": "pause"})).await.0, 422);
    assert_eq!(cli.post("/v1/job/x/action", &cancel).await.0, 400);
    bed.end().await;
}

async fn an_agent_that_began_anew_gives_its_job_up() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    let agent = Client::agent(&bed, "agent1", &["q"]).await;
    let id = cli.submit(&json!({"job_queue": "q", "exclude_agents": ["agent2"]})).await;
    let other = Client::agent(&bed, "agent2", &["q"]).await;
    assert_eq!(other.get("/v1/job?queue=q").await.0, 204);
    assert_eq!(agent.get("/v1/job?queue=q").await.1["job_id"], json!(id));
    let result = format!("/v1/result/{id}");
    agent.post(&result, &json!({"status": {"provision": 0}, "job_state": "test"})).await;
    // It was killed: what it asks for now is the job from its start.
    assert_eq!(agent.get("/v1/job?queue=q").await.1["job_id"], json!(id));
    let task = native(&bed, &id).await;
    assert_eq!(
        (&task["attempts"][0]["outcome"], &task["task"]["attempts"]),
        (&json!("error(lost)"), &json!(2))
    );
    assert_eq!(cli.get(&result).await.1, json!({"job_state": "running"}));
    // Another agent's word on it counts nothing.
    assert_eq!(other.post(&result, &json!({"job_state": "complete"})).await.0, 200);
    assert_eq!(cli.state(&id).await, "running");
    let both = json!({"job_queue": "q", "exclude_agents": ["agent1", "agent2"]});
    assert_eq!(cli.post("/v1/job", &both).await.0, 422);
    bed.end().await;
}

async fn a_silent_agents_job_is_queued_again() {
    let testflinger = Settings { lease: std::time::Duration::from_millis(1), ..Settings::default() };
    let interfaces = Interfaces { testflinger: Some(testflinger), ..Interfaces::default() };
    let bed = Bed::serving(interfaces, loopback(Role::Admin)).await;
    let cli = Client::new(&bed);
    let agent = Client::agent(&bed, "agent1", &["q"]).await;
    let id = cli.submit(&json!({"job_queue": "q"})).await;
    agent.get("/v1/job?queue=q").await;
    agent.post(&format!("/v1/result/{id}"), &json!({"job_state": "test"})).await;
    until("the lease to be over", || async {
        bed.store().reap(10).await.unwrap();
        (native(&bed, &id).await["task"]["state"]["state"] == "queued").then_some(())
    })
    .await;
    assert_eq!(cli.state(&id).await, "waiting");
    assert_eq!(agent.state(&id).await, "cancelled", "it hears that it is to stop");
    let next = Client::agent(&bed, "agent2", &["q"]).await;
    assert_eq!(next.get("/v1/job?queue=q").await.1["job_id"], json!(id));
    bed.end().await;
}

async fn the_codes_of_today() {
    let bed = Bed::serving(strict(), loopback(Role::Admin)).await;
    let cli = Client::new(&bed);
    let check = async |method: Method, path: &str, body: Value, expect: u16, what: &str| {
        let response = cli.send(method.clone(), path, &body).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, expect, "{method} {path} {body}: {text}");
        assert!(text.contains(what), "{method} {path}: {text}");
    };
    let (get, post) = (Method::GET, Method::POST);
    let unknown = json!({"job_queue": "q", "option": "foo"});
    let fields = r#"{"detail":{"json":{"option":["Unknown field."]}},"message":"Validation error"}"#;
    check(post.clone(), "/v1/job", unknown, 422, fields).await;
    check(get.clone(), "/v1/job?queue=q", Value::Null, 403, "Specified action requires role: agent").await;
    check(post.clone(), &format!("/v1/result/{UNKNOWN}"), json!({"exit_code": 0}), 403, "requires role")
        .await;
    check(post.clone(), &format!("/v1/job/{UNKNOWN}/action"), json!({"action": "cancel"}), 400, "already")
        .await;
    check(get.clone(), &format!("/v1/job/{UNKNOWN}"), Value::Null, 204, "").await;
    check(get.clone(), "/v1/job/x", Value::Null, 400, r#"{"detail":{},"message":"#).await;
    check(get.clone(), &format!("/v1/job/{UNKNOWN}/position"), Value::Null, 410, "Job not found").await;
    check(get.clone(), "/v1/nothing", Value::Null, 404, "Not found:").await;
    let refused = r#"{"detail":{},"message":"Method Not Allowed"}"#;
    check(Method::DELETE, "/v1/job", Value::Null, 405, refused).await;
    let refused = cli.send(Method::DELETE, "/v1/job", &Value::Null).await;
    assert_eq!(refused.headers()[header::ALLOW], "POST,GET,HEAD");
    let head = cli.send(Method::HEAD, "/v1/", &Value::Null).await;
    assert_eq!((head.status().as_u16(), head.text().await.unwrap()), (200, String::new()));
    let odd =
        json!({"job_queue": "q", "test_data": {"test_cmd": "true"}, "reserve_data": {"ssh_keys": ["me"]}});
    let fields = r#"{"reserve_data":{"ssh_keys":{"0":["String does not match expected pattern."]}},"test_data":{"test_cmd":["Unknown field."]}}"#;
    check(post.clone(), "/v1/job", odd, 422, fields).await;
    check(post, "/v1/job", json!([]), 422, "Invalid input type").await;
    let agent = bed.token(Role::Agent, 60).await;
    let ask = |path: &str| bed.request(Method::GET, path).bearer_auth(&agent).send();
    assert_eq!(ask("/v1/job?queue=q").await.unwrap().status(), 401, "no cookie");
    assert_eq!(ask("/v1/agents/queues").await.unwrap().status(), 403);
    bed.end().await;
}

/// A client of this role with this password, and an access token of it.
async fn client(bed: &Bed, id: &str, role: &str, more: &Value) -> String {
    let mut body = json!({"client_secret": "a password of some length", "role": role});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, _) = bed.send(Method::PUT, &format!("/v1/client-permissions/{id}"), &body).await;
    assert_eq!(status, 200, "{id}");
    token_of(bed, id).await["access_token"].as_str().unwrap().to_owned()
}

async fn token_of(bed: &Bed, id: &str) -> Value {
    let ask = bed.request(Method::POST, "/v1/oauth2/token").basic_auth(id, Some("a password of some length"));
    let response = ask.send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

async fn with(bed: &Bed, token: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
    let mut request = bed.request(method, path).bearer_auth(token);
    if !body.is_null() {
        request = request.json(&body);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

async fn clients_with_passwords_and_tokens() {
    let bed = Bed::serving(strict(), loopback(Role::Admin)).await;
    let admin = bed.token(Role::Admin, 60).await;
    let put = async |id: &str, body: Value| {
        with(&bed, &admin, Method::PUT, &format!("/v1/client-permissions/{id}"), body).await
    };
    assert_eq!(put("new", json!({"role": "agent"})).await.0, 400);
    assert_eq!(put("new", json!({"client_secret": "short"})).await.0, 422);
    assert_eq!(put("testflinger-admin", json!({"role": "agent"})).await.0, 422);
    let secret = "a password of some length";
    let body = json!({"client_secret": secret, "role": "manager", "max_priority": {"q": 5}});
    let done = |word: &str| (200, json!(format!("{word} permissions for client 'boss'")));
    assert_eq!(put("boss", body).await, done("Created"));
    assert_eq!(put("boss", json!({"email": "boss@example.org"})).await, done("Updated"));
    let (_, shown) = with(&bed, &admin, Method::GET, "/v1/client-permissions/boss", Value::Null).await;
    let expect = json!({"client_id": "boss", "role": "manager", "max_priority": {"q": 5}, "allowed_queues": [],
        "max_reservation_time": {}, "email": "boss@example.org"});
    assert_eq!(shown, expect);

    let wrong = bed.request(Method::POST, "/v1/oauth2/token").basic_auth("boss", Some("another password"));
    assert_eq!(wrong.send().await.unwrap().status(), 401);
    assert_eq!(bed.request(Method::POST, "/v1/oauth2/token").send().await.unwrap().status(), 401);
    let tokens = token_of(&bed, "boss").await;
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(600)));
    let refresh = tokens["refresh_token"].as_str().unwrap();
    assert_eq!(refresh.len(), 64);
    let (_, again) = bed.post("/v1/oauth2/refresh", &json!({"refresh_token": refresh})).await;
    assert_eq!(again.get("refresh_token"), None);
    let boss = again["access_token"].as_str().unwrap().to_owned();

    assert_eq!(with(&bed, &boss, Method::GET, "/v1/agents/queues", Value::Null).await.0, 200);
    assert_eq!(with(&bed, &boss, Method::GET, "/v1/job?queue=q", Value::Null).await.0, 403);
    assert_eq!(
        with(&bed, &boss, Method::GET, "/api/v1/tasks", Value::Null).await.0,
        401,
        "it opens nothing else"
    );
    let (head, rest) = boss.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", rest.chars().rev().collect::<String>());
    assert_eq!(with(&bed, &forged, Method::GET, "/v1/agents/queues", Value::Null).await.0, 403);
    let above = json!({"client_secret": secret, "role": "admin"});
    assert_eq!(with(&bed, &boss, Method::PUT, "/v1/client-permissions/x", above).await.0, 403);

    // Priorities and queues.
    let job = |queue: &str, priority: i64| json!({"job_queue": queue, "job_priority": priority});
    assert_eq!(with(&bed, &boss, Method::POST, "/v1/job", job("q", 5)).await.0, 200);
    assert_eq!(with(&bed, &boss, Method::POST, "/v1/job", job("q", 6)).await.0, 403);
    assert_eq!(bed.post("/v1/job", &job("q", 1)).await.0, 401);
    assert_eq!(bed.post("/v1/job", &job("q", -1)).await.0, 401);
    // The higher of what is given for the queue and for all.
    put("boss", json!({"max_priority": {"q": 5, "*": 7}})).await;
    let (_, again) = bed.post("/v1/oauth2/refresh", &json!({"refresh_token": refresh})).await;
    let higher = again["access_token"].as_str().unwrap();
    assert_eq!(with(&bed, higher, Method::POST, "/v1/job", job("q", 7)).await.0, 200);
    assert_eq!(with(&bed, higher, Method::POST, "/v1/job", job("q", 8)).await.0, 403);
    assert_eq!(bed.post("/v1/job", &job("q", 0)).await.0, 200);
    let restrict = async |method: Method, body: Value| {
        with(&bed, &boss, method, "/v1/restricted-queues/q", body).await.0
    };
    assert_eq!(
        restrict(Method::POST, json!({"client_id": "boss"})).await,
        404,
        "no agent ever named the queue"
    );
    with(&bed, &boss, Method::POST, "/v1/agents/queues", json!({"q": "a queue"})).await;
    assert_eq!(restrict(Method::POST, json!({})).await, 400);
    assert_eq!(restrict(Method::POST, json!({"client_id": "nobody"})).await, 404);
    assert_eq!(restrict(Method::POST, json!({"client_id": "boss"})).await, 200);
    let (_, queues) = with(&bed, &boss, Method::GET, "/v1/restricted-queues", Value::Null).await;
    assert_eq!(queues, json!([{"queue": "q", "owners": ["boss"]}]));
    assert_eq!(bed.post("/v1/job", &job("q", 0)).await.0, 401);
    assert_eq!(with(&bed, &boss, Method::POST, "/v1/job", job("q", 0)).await.0, 200);
    assert_eq!(restrict(Method::DELETE, json!({"client_id": "gone"})).await, 200);
    assert_eq!(bed.get("/v1/restricted-queues").await, json!([]));

    let revoke = json!({"refresh_token": refresh});
    assert_eq!(with(&bed, &boss, Method::POST, "/v1/oauth2/revoke", revoke.clone()).await.0, 403);
    assert_eq!(
        with(&bed, &admin, Method::POST, "/v1/oauth2/revoke", revoke.clone()).await.1,
        json!({"status": "OK"})
    );
    assert_eq!(with(&bed, &admin, Method::POST, "/v1/oauth2/revoke", revoke.clone()).await.0, 400);
    let (status, refused) = bed.post("/v1/oauth2/refresh", &revoke).await;
    assert_eq!((status, refused["message"].as_str().unwrap().contains("revoked")), (400, true));
    assert_eq!(bed.post("/v1/oauth2/refresh", &json!({"refresh_token": "x"})).await.0, 400);
    assert_eq!(bed.post("/v1/oauth2/refresh", &json!({})).await.0, 422);
    assert_eq!(bed.post("/v1/oauth2/refresh", &json!({"refresh_token": ""})).await.0, 422);
    assert_eq!(with(&bed, &boss, Method::DELETE, "/v1/client-permissions/boss", Value::Null).await.0, 403);
    assert_eq!(with(&bed, &admin, Method::DELETE, "/v1/client-permissions/boss", Value::Null).await.0, 200);
    assert_eq!(with(&bed, &admin, Method::DELETE, "/v1/client-permissions/boss", Value::Null).await.0, 404);
    bed.end().await;
}

async fn secrets_are_given_to_the_agent_only() {
    let secrets = taskbot_api::testflinger::SealKey::new(&[7; 32]);
    let testflinger = Some(Settings { secrets, ..Settings::default() });
    let bed = Bed::serving(Interfaces { testflinger, ..Interfaces::default() }, loopback(Role::Admin)).await;
    let me = client(&bed, "me", "contributor", &json!({})).await;
    let other = client(&bed, "other", "contributor", &json!({})).await;
    let (value, path) = (json!({"value": "s3cret", "ephemeral": true}), "/v1/secrets/me/team/token");
    assert_eq!(with(&bed, &me, Method::PUT, path, value.clone()).await, (200, json!({"expires_at": null})));
    assert_eq!(with(&bed, &other, Method::PUT, path, value).await.0, 403);
    assert_eq!(with(&bed, &me, Method::PUT, "/v1/secrets/me/..%2fx", json!({"value": "x"})).await.0, 422);
    let wrong = json!({"value": "x", "expire_after": 0});
    assert_eq!(with(&bed, &me, Method::PUT, "/v1/secrets/me/x", wrong).await.0, 422);
    let job = json!({"job_queue": "q", "test_data": {"secrets": {"TOKEN": "team/token"}}});
    assert_eq!(with(&bed, &other, Method::POST, "/v1/job", job.clone()).await.0, 422);
    let (status, made) = with(&bed, &me, Method::POST, "/v1/job", job.clone()).await;
    assert_eq!(status, 200, "{made}");
    let id = made["job_id"].as_str().unwrap();
    let agent = Client::agent(&bed, "agent1", &["q"]).await;
    let (_, given) = agent.get("/v1/job?queue=q").await;
    assert_eq!(given["test_data"]["secrets"], json!({"TOKEN": "s3cret"}));
    let shown = format!("{}{}", agent.get(&format!("/v1/job/{id}")).await.1, native(&bed, id).await);
    assert!(!shown.contains("s3cret"), "{shown}");
    agent.post(&format!("/v1/result/{id}"), &json!({"job_state": "complete"})).await;
    assert_eq!(with(&bed, &me, Method::POST, "/v1/job", job).await.0, 422, "it was for one use");
    for wrong in [json!({"value": ""}), json!({"value": "x", "ephemeral": true, "expire_after": 60})] {
        assert_eq!(with(&bed, &me, Method::PUT, path, wrong).await.0, 422);
    }
    // One that is gone by then is empty.
    assert_eq!(with(&bed, &me, Method::PUT, "/v1/secrets/me/a", json!({"value": "x"})).await.0, 200);
    let job = json!({"job_queue": "q", "test_data": {"secrets": {"A": "a"}}});
    assert_eq!(with(&bed, &me, Method::POST, "/v1/job", job).await.0, 200);
    assert_eq!(with(&bed, &me, Method::DELETE, "/v1/secrets/me/a", Value::Null).await.0, 200);
    let (_, given) = agent.get("/v1/job?queue=q").await;
    assert_eq!(given["test_data"]["secrets"], json!({"A": ""}));
    assert_eq!(with(&bed, &me, Method::DELETE, path, Value::Null).await.0, 200);
    bed.end().await;
}

async fn a_jobs_events_are_told_to_its_webhook() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let told = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"}") {
            socket.read_buf(&mut text).await.unwrap();
        }
        socket.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 4\r\n\r\ndone").await.unwrap();
        String::from_utf8(text).unwrap()
    });
    let webhook = taskbot_api::testflinger::Webhook { host: host.clone(), token: Some("a-token".into()) };
    let testflinger = Some(Settings { webhook: Some(webhook), ..Settings::default() });
    let bed = Bed::serving(Interfaces { testflinger, ..Interfaces::default() }, loopback(Role::Admin)).await;
    let cli = Client::new(&bed);
    let id = cli.submit(&json!({"job_queue": "q"})).await;
    let path = format!("/v1/job/{id}/events");
    let events = |url: &str| {
        json!({"job_status_webhook": url, "agent_id": "agent1",
            "events": [{"event_name": "job_start", "timestamp": "2026-11-21T00:19:34+00:00"}]})
    };
    assert_eq!(cli.post(&path, &events("http://elsewhere.example/x")).await.0, 403);
    let url = format!("http://{host}/hook");
    assert_eq!(cli.post(&format!("/v1/job/{UNKNOWN}/events"), &events(&url)).await.0, 404);
    assert_eq!(cli.post(&path, &events(&url)).await, (202, "done".to_owned()));
    let told = told.await.unwrap();
    assert!(told.starts_with("PUT /hook HTTP/1.1"), "{told}");
    assert!(
        told.contains("Bearer a-token") && told.contains("job_start") && !told.contains("job_status_webhook")
    );
    bed.end().await;
}

async fn rules_send_jobs_to_its_queues() {
    let bed = Bed::open().await;
    let rules = "rules:\n  - name: boot-each-image\n    on: image.done\n    then:\n      - task: boot\n        \
        item: {type: image, id: \"${event.body.name}\"}\n        with: {provision_data: {url: \"${event.body.url}\"}}\n";
    let files =
        RuleFiles::of([("tasks.yaml", "tasks:\n  boot: {testflinger: rpi4}\n"), ("rules.yaml", rules)]);
    bed.scheduler.activate_rules(files, "test", "tester").await.unwrap();
    let event = json!({"topic": "image.done", "id": "1", "body": {"name": "f42", "url": "http://x/f42"}});
    let (status, sent) = bed.post("/api/v1/events", &event).await;
    assert_eq!(status, 201, "{sent}");
    let id = sent["tasks"][0].as_str().unwrap();
    let agent = Client::agent(&bed, "agent1", &["rpi4"]).await;
    let (status, given) = agent.get("/v1/job?queue=rpi4").await;
    assert_eq!((status, &given["job_id"], &given["job_queue"]), (200, &json!(id), &json!("rpi4")));
    assert_eq!(given["provision_data"], json!({"url": "http://x/f42"}));
    let end = json!({"status": {"provision": 0, "test": 0}, "job_state": "complete"});
    agent.post(&format!("/v1/result/{id}"), &end).await;
    let task = native(&bed, id).await;
    assert_eq!(
        (&task["task"]["state"]["outcome"], &task["results"][0]["item"]["id"]),
        (&json!("passed"), &json!("f42"))
    );
    let (status, made) = bed.post("/api/v1/tasks", &json!({"task": "boot", "inputs": {"option": 1}})).await;
    assert_eq!(
        (status, &made["kind"]["system"], &made["queue"]),
        (201, &json!("testflinger"), &json!("rpi4"))
    );
    bed.end().await;
}

async fn rules_jobs_fail_where_it_is_said_so() {
    let testflinger =
        Settings { lease: std::time::Duration::from_millis(1), requeue: false, ..Settings::default() };
    let interfaces = Interfaces { testflinger: Some(testflinger), ..Interfaces::default() };
    let bed = Bed::serving(interfaces, loopback(Role::Admin)).await;
    let rules = "rules:\n  - name: boot-each-image\n    on: image.done\n    then:\n      - task: boot\n";
    let files =
        RuleFiles::of([("tasks.yaml", "tasks:\n  boot: {testflinger: rpi4}\n"), ("rules.yaml", rules)]);
    bed.scheduler.activate_rules(files, "test", "tester").await.unwrap();
    let event = json!({"topic": "image.done", "id": "1", "body": {}});
    let (_, sent) = bed.post("/api/v1/events", &event).await;
    let of_a_rule = sent["tasks"][0].as_str().unwrap().to_owned();
    let (_, made) = bed.post("/api/v1/tasks", &json!({"task": "boot"})).await;
    let by_hand = made["id"].as_str().unwrap().to_owned();
    let submitted = Client::new(&bed).submit(&json!({"job_queue": "rpi4"})).await;
    for id in [of_a_rule, by_hand, submitted] {
        let agent = Client::agent(&bed, &format!("agent-{id}"), &["rpi4"]).await;
        assert_eq!(agent.get("/v1/job?queue=rpi4").await.1["job_id"], json!(id));
        let outcome = until("the lease to be over", || async {
            bed.store().reap(10).await.unwrap();
            native(&bed, &id).await["task"]["state"]["outcome"].as_str().map(str::to_owned)
        })
        .await;
        assert_eq!(outcome, "error(lost)", "it is not queued again");
    }
    bed.end().await;
}
