//! Testflinger's interface in what its clients lean on beyond their usual way: odd values, other forms, order.

use super::{
    bed::{Bed, both, loopback},
    testflinger::{Client, UNKNOWN, strict},
};
use reqwest::{
    Method, header,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use store::Role;
use taskbot_api::{Interface, Interfaces};

both! {
    lists_of_attachments_that_name_none, reservations_are_in_seconds, halves_of_characters_lose_no_log, logs_are_asked_for_in_vain, far_priorities_and_lists_in_order, agents_of_any_name, numbers_as_texts, output_of_older_agents,
}

/// The command line sends a file for them, too.
async fn lists_of_attachments_that_name_none() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    let agent = Client::agent(&bed, "agent1", &["q"]).await;
    let id = cli.submit(&json!({"job_queue": "q", "test_data": {"test_cmds": "x", "attachments": []}})).await;
    let path = format!("/v1/job/{id}");
    assert_eq!(cli.get(&path).await.1["attachments_status"], "waiting");
    assert_eq!(agent.get("/v1/job?queue=q").await.0, 204);
    for _ in 0..2 {
        let form = Form::new().part("file", Part::bytes(b"a tar".to_vec()).file_name("x.tar.gz"));
        let sent = bed.request(Method::POST, &format!("{path}/attachments")).multipart(form);
        assert_eq!(sent.send().await.unwrap().status(), 200);
    }
    assert_eq!(agent.get("/v1/job?queue=q").await.1["attachments_status"], "complete");
    bed.end().await;
}

async fn reservations_are_in_seconds() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    let agent = Client::agent(&bed, "agent1", &["q"]).await;
    let job = json!({"job_queue": "q", "reserve_data": {"timeout": "1h30m", "ssh_keys": ["lp:me"]}});
    let id = cli.submit(&job).await;
    let reserve = json!({"timeout": 5400, "ssh_keys": ["lp:me"]});
    assert_eq!(cli.get(&format!("/v1/job/{id}")).await.1["reserve_data"], reserve);
    assert_eq!(agent.get("/v1/job?queue=q").await.1["reserve_data"], reserve);
    bed.end().await;
}

/// What a program in Python writes of bytes that are no text.
async fn halves_of_characters_lose_no_log() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    let path = format!("/v1/result/{UNKNOWN}/log/output");
    let body = r#"{"fragment_number": 0, "timestamp": "2026-11-21T00:19:34+00:00", "phase": "test", "log_data": "a\ud800b\u0000"}"#;
    let sent = bed.request(Method::POST, &path).body(body).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    let (_, log) = cli.get(&format!("{path}?phase=test")).await;
    assert_eq!(log["output"]["test"]["log_data"], "a\u{fffd}b\u{0}");
    bed.end().await;
}

async fn logs_are_asked_for_in_vain() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    for (query, field, message) in [
        (
            "phase=x",
            "phase",
            "Must be one of: setup, provision, firmware_update, test, allocate, reserve, cleanup.",
        ),
        ("start_fragment=x", "start_fragment", "Not a valid integer."),
        ("start_fragment=-1", "start_fragment", "Must be greater than or equal to 0."),
        ("start_timestamp=x", "start_timestamp", "Not a valid datetime."),
    ] {
        let answer = cli.get(&format!("/v1/result/{UNKNOWN}/log/output?{query}")).await;
        assert_eq!(answer, (400, json!({"message": {field: [message]}, "detail": {}})), "{query}");
    }
    bed.end().await;
}

async fn far_priorities_and_lists_in_order() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    let mut ids = Vec::new();
    for priority in [1001, -2000, 5000, -1500, i64::MAX] {
        ids.push(cli.submit(&json!({"job_queue": "q", "job_priority": priority})).await);
    }
    let listed = |jobs: Value| -> Vec<String> {
        jobs.as_array().unwrap().iter().map(|job| job["job_id"].as_str().unwrap().to_owned()).collect()
    };
    // Lists begin with the oldest.
    assert_eq!(listed(cli.get("/v1/queues/q/jobs").await.1), ids);
    assert_eq!(listed(cli.get("/v1/job/search?state=waiting").await.1), ids);
    let agent = Client::agent(&bed, "agent1", &["q"]).await;
    let mut given = Vec::new();
    for _ in 0..ids.len() {
        let id = agent.get("/v1/job?queue=q").await.1["job_id"].as_str().unwrap().to_owned();
        agent.post(&format!("/v1/result/{id}"), &json!({"job_state": "complete"})).await;
        given.push(ids.iter().position(|known| *known == id).unwrap());
    }
    assert_eq!(given, [4, 2, 0, 3, 1]);
    bed.end().await;
}

/// An agent is known by its cookie whatever it is called.
async fn agents_of_any_name() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    for (path, name) in [("l%C3%A4b%3B1%2C%25", "l\u{e4}b;1,%"), ("a%20b", "a b")] {
        let data = json!({"state": "waiting", "comment": "", "queues": ["q"]});
        let known = bed.request(Method::POST, &format!("/v1/agents/data/{path}")).json(&data);
        let cookie = known.send().await.unwrap().headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
        let cookie = cookie.split(';').next().unwrap();
        assert_eq!(cli.get(&format!("/v1/agents/data/{path}")).await.1["name"], name);
        let excluded = cli.submit(&json!({"job_queue": "only", "exclude_agents": [name]})).await;
        let ask = |queue: &str| {
            let ask = bed.request(Method::GET, &format!("/v1/job?queue={queue}"));
            ask.header(header::COOKIE, cookie).send()
        };
        assert_eq!(ask("only").await.unwrap().status(), 204, "{name} is excluded");
        let cancel = json!({"action": "cancel"});
        assert_eq!(cli.post(&format!("/v1/job/{excluded}/action"), &cancel).await.0, 200);
        let id = cli.submit(&json!({"job_queue": "q"})).await;
        for _ in 0..2 {
            // It is known to have it: an answer that was lost can be asked for again.
            let given: Value = ask("q").await.unwrap().json().await.unwrap();
            assert_eq!(given["job_id"], json!(id), "{name}");
        }
        assert_eq!(cli.post(&format!("/v1/job/{id}/action"), &cancel).await.0, 200);
    }
    bed.end().await;
}

async fn numbers_as_texts() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    let agent = Client::agent(&bed, "agent1", &["q"]).await;
    let id = cli.submit(&json!({"job_queue": "q", "job_priority": "3", "global_timeout": "60"})).await;
    let (_, job) = cli.get(&format!("/v1/job/{id}")).await;
    assert_eq!((&job["job_priority"], &job["global_timeout"]), (&json!(3), &json!(60)));
    let log = json!({"job_id": id, "exit_code": "46", "detail": "provision_fail"});
    assert_eq!(agent.post("/v1/agents/provision_logs/agent1", &log).await, (200, "OK".to_owned()));
    assert_eq!(agent.get("/v1/agents/data/agent1").await.1["provision_streak_type"], "fail");
    let log = json!({"job_id": id, "exit_code": "soon"});
    assert_eq!(agent.post("/v1/agents/provision_logs/agent1", &log).await.0, 422);
    bed.end().await;
}

/// Plain text that is added to, and that older command lines read once.
async fn output_of_older_agents() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    let agent = Client::agent(&bed, "agent1", &["q"]).await;
    let id = cli.submit(&json!({"job_queue": "q"})).await;
    assert_eq!(agent.get("/v1/job?queue=q").await.1["job_id"], json!(id));
    let path = format!("/v1/result/{id}");
    assert_eq!(agent.post(&path, &json!({"job_state": "provision"})).await.0, 200);
    let add = async |kind: &str, text: &'static str| {
        let post = bed.request(Method::POST, &format!("{path}/{kind}")).body(text);
        let sent = post.header(header::COOKIE, "agent_name=agent1").send().await.unwrap();
        assert_eq!((sent.status().as_u16(), sent.text().await.unwrap()), (200, "OK".to_owned()));
    };
    let read = async |kind: &str| {
        let read = bed.request(Method::GET, &format!("{path}/{kind}")).send().await.unwrap();
        (read.status().as_u16(), read.text().await.unwrap())
    };
    assert_eq!(read("output").await, (204, String::new()));
    add("output", "one\n").await;
    add("output", "two\n").await;
    add("serial_output", "boot\n").await;
    assert_eq!(read("output").await, (200, "one\ntwo\n".to_owned()));
    assert_eq!(read("output").await, (204, String::new()));
    add("output", "three\n").await;
    assert_eq!(read("output").await, (200, "three\n".to_owned()));
    assert_eq!(read("serial_output").await, (200, "boot\n".to_owned()));
    // It is the same log.
    assert_eq!(cli.get(&path).await.1["provision_output"], "one\ntwo\nthree\n");
    // Newer agents may count each phase anew.
    for (phase, text) in [("setup", "set up\n"), ("test", "tested\n")] {
        let fragment = json!({
            "fragment_number": 0, "timestamp": "2026-11-21T00:19:34+00:00", "phase": phase, "log_data": text,
        });
        assert_eq!(agent.post(&format!("{path}/log/output"), &fragment).await.0, 200);
        assert_eq!(read("output").await, (200, text.to_owned()));
    }
    assert_eq!(read("output").await, (204, String::new()));
    assert_eq!(read("nothing").await.0, 404);
    assert_eq!(cli.get(&format!("/v1/result/{UNKNOWN}/output")).await.0, 204);
    bed.end().await;
}

/// Who asks for them is told by which methods a path is to be asked.
#[tokio::test]
async fn methods_are_told() {
    let bed = Bed::open().await;
    for (path, methods) in [("/v1/job", "POST,GET,HEAD"), ("/v1/agents/images", "POST")] {
        let asked = Client::new(&bed).send(Method::OPTIONS, path, &Value::Null).await;
        assert_eq!(
            (asked.status().as_u16(), &asked.headers()[header::ALLOW]),
            (200, &methods.parse().unwrap())
        );
    }
    bed.end().await;
}

#[tokio::test]
async fn who_only_reads_adds_no_output() {
    let bed = Bed::serving(Interfaces::default(), loopback(Role::Viewer)).await;
    let path = format!("/v1/result/{UNKNOWN}/output");
    assert_eq!(Client::new(&bed).post(&path, &json!("x")).await.0, 403);
    assert_eq!(Client::new(&bed).get(&path).await.0, 204);
    bed.end().await;
}

#[tokio::test]
async fn without_an_agent_that_may_nothing_is_taken_where_it_is_strict() {
    let bed = Bed::serving(strict(), loopback(Role::Submitter)).await;
    let job = json!({"job_queue": "q", "exclude_agents": ["agent1"]});
    assert_eq!(Client::new(&bed).post("/v1/job", &job).await.0, 422);
    assert_eq!(Client::new(&bed).get(&format!("/v1/result/{UNKNOWN}/output")).await.0, 404);
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_their_own_describe_themselves() {
    let mut bed = Bed::open().await;
    let testflinger = bed.listen_for(Interface::Testflinger, loopback(Role::Submitter)).await;
    let paddles = bed.listen_for(Interface::Paddles, loopback(Role::Submitter)).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (at, path, method) in
        [(testflinger, "/v1/job/{id}/action", "post"), (paddles, "/queue/pop_queue", "get")]
    {
        let described = client.get(format!("http://{at}/openapi.json")).send().await.unwrap();
        let described: Value = described.json().await.unwrap();
        assert!(described["paths"][path][method]["summary"].is_string(), "{described}");
        let page = client.get(format!("http://{at}/docs")).send().await.unwrap();
        assert_eq!(page.status(), 200);
        assert!(page.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
    }
    let nothing = client.get(format!("http://{testflinger}/nothing")).send().await.unwrap();
    assert_eq!(nothing.status(), 404);
    assert!(nothing.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
    assert!(nothing.text().await.unwrap().starts_with("Not found: "));
    bed.end().await;
}
