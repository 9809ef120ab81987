//! ALTS' interface: its requests, answers and mistakes, and what becomes of them.

use super::{
    bed::{Bed, both, loopback, until},
    workers::{claim, finish},
};
use axum::{Router, extract::State, http::StatusCode, routing::post};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use store::Role;
use taskbot_api::{
    Interfaces,
    alts::{BuildSystem, Platform, Secret, Settings, known_platforms},
    auth::Access,
    jwt::{Algorithm, sign},
};

both! {
    a_request_becomes_a_task, runners, mistakes_are_told_as_they_always_were, who_may_come_in, a_failed_test_is_a_task_that_succeeded, what_could_not_be_tried_is_a_failure, tasks_are_cancelled_by_their_numbers, the_build_system_is_told, a_task_that_is_not_registered_is_said_so,
}

const SECRET: &[u8] = b"my_very_secret_phrase";

fn settings() -> Settings {
    let mut platforms = known_platforms();
    platforms.push(Platform {
        dist: "iron".to_owned(),
        aliases: Vec::new(),
        version: "1".to_owned(),
        arches: ["x86_64".to_owned()].into(),
        container: Some("iron:1".to_owned()),
        vm: Some("iron-1".to_owned()),
        external: None,
    });
    platforms.push(Platform {
        dist: "cloud".to_owned(),
        aliases: Vec::new(),
        version: "2".to_owned(),
        arches: ["x86_64".to_owned()].into(),
        container: None,
        vm: None,
        external: Some("cloud-2".to_owned()),
    });
    Settings {
        secret: Some(Secret(SECRET.into())),
        platforms,
        look_every: Duration::from_millis(20),
        retry_first: Duration::from_millis(1),
        ..Settings::default()
    }
}

async fn serving(settings: Settings) -> Bed {
    let interfaces = Interfaces { alts: Some(settings), ..Interfaces::default() };
    Bed::serving(interfaces, Access::tokens_only()).await
}

fn token(email: &str) -> String {
    sign(SECRET, Algorithm::HS256, &json!({"email": email})).unwrap()
}

/// Sends a request as a client of ALTS; the status and the answer.
async fn send(bed: &Bed, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let mut request = bed.request(method, path).bearer_auth(token("some@email.com"));
    if !body.is_null() {
        request = request.json(body);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}

async fn schedule(bed: &Bed, body: &Value) -> (u16, Value) {
    send(bed, Method::POST, "/tasks/schedule", body).await
}

async fn result(bed: &Bed, id: &str) -> Value {
    let (status, answer) = send(bed, Method::GET, &format!("/tasks/{id}/result"), &Value::Null).await;
    assert_eq!((status, &answer["api_version"]), (200, &json!("20210512")), "{answer}");
    answer
}

/// A request with these laid over it; null takes one away.
fn payload(over: &Value) -> Value {
    let mut payload = json!({
        "runner_type": "docker", "dist_name": "almalinux", "dist_version": "9", "dist_arch": "x86_64",
        "repositories": [], "package_name": "bash",
    });
    for (name, value) in over.as_object().unwrap() {
        match value {
            Value::Null => payload.as_object_mut().unwrap().remove(name),
            value => payload.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    payload
}

async fn scheduled(bed: &Bed, over: &Value) -> String {
    let (status, answer) = schedule(bed, &payload(over)).await;
    assert_eq!(
        (status, &answer["success"], &answer["api_version"]),
        (201, &json!(true), &json!("20210512")),
        "{answer}"
    );
    assert_eq!(answer.as_object().unwrap().len(), 3, "{answer}");
    answer["task_id"].as_str().unwrap().to_owned()
}

async fn a_request_becomes_a_task() {
    let bed = serving(settings()).await;
    let id = scheduled(
        &bed,
        &json!({
            "dist_version": 9, "dist_arch": "amd64", "package_version": "5.1.8-9.el9", "package_epoch": 1,
            "module_name": "m", "module_stream": 3, "package_channel": "beta", "bs_task_id": 17,
            "repositories": [
                {"name": "my repo", "url": "https://h/a"}, {"baseurl": "https://h/b"},
                {"name": null, "url": "deb [arch=amd64] https://h/c ./"},
            ],
            "test_configuration": {
                "tests": [{"url": "https://h/t.git", "git_ref": "main", "test_dir": "tests/x", "tests_to_run": ["a.bats", "b.sh"]},
                          {"url": "https://h/u.git"}],
                "test_env": {"ARCH": "x86_64", "COUNT": 2},
            },
            "something_new": {"is": "left alone"}, "test_flavor": {"name": "x", "version": "1"},
        }),
    )
    .await;
    let task = bed.store().task(id.parse().unwrap()).await.unwrap();
    assert_eq!(task.submitter.as_str(), "user:alts/some@email.com");
    assert_eq!(task.name.as_str(), "package-install");
    assert_eq!(task.item.unwrap().id, "bash-5.1.8-9.el9");
    assert_eq!(task.needs.arch.as_deref(), Some("x86_64"));
    let inputs = Value::Object(task.inputs);
    let expect = json!({
        "image": "almalinux:9", "dist": "almalinux", "dist_version": "9", "arch": "amd64",
        "package": "bash", "version": "5.1.8-9.el9", "epoch": "1", "channel": "beta",
        "module": "m", "module_stream": "3", "module_version": "",
        "repositories": "my_repo=https://h/a\nhttps://h/b\ndeb [arch=amd64] https://h/c ./",
        "tests": "https://h/t.git\tmain\ttests/x\ta.bats,b.sh\nhttps://h/u.git\t\t\t",
        "test_env": "ARCH=x86_64\nCOUNT=2",
    });
    assert_eq!(inputs, expect);
    // It is a task like all others, and what it is given is what its repository takes.
    let admin = bed.token(Role::Admin, 60).await;
    until("the task to be queued", || async {
        let shown = bed
            .request(Method::GET, &format!("/api/v1/tasks/{id}"))
            .bearer_auth(&admin)
            .send()
            .await
            .unwrap();
        let shown: Value = shown.json().await.unwrap();
        assert_ne!(shown["task"]["state"]["state"], "finished", "{shown}");
        (shown["task"]["state"]["state"] == "queued").then_some(())
    })
    .await;
    bed.end().await;
}

async fn runners() {
    let bed = serving(settings()).await;
    let name = async |over: Value| {
        let id = scheduled(&bed, &over).await;
        let task = bed.store().task(id.parse().unwrap()).await.unwrap();
        format!("{} {}", task.name, task.inputs["image"].as_str().unwrap())
    };
    assert_eq!(name(json!({"runner_type": null})).await, "package-install almalinux:9");
    assert_eq!(name(json!({"dist_name": "iron", "dist_version": "1"})).await, "package-install iron:1");
    let vm = json!({"dist_name": "iron", "dist_version": "1", "runner_type": "opennebula"});
    assert_eq!(name(vm.clone()).await, "package-install-vm iron-1");
    for runner in ["opennebula", "any"] {
        let program = json!({"dist_name": "cloud", "dist_version": 2, "runner_type": runner});
        assert_eq!(name(program).await, "package-install-external cloud-2", "{runner}");
    }
    let any = json!({"dist_name": "iron", "dist_version": "1", "runner_type": "any"});
    assert_eq!(name(any.clone()).await, "package-install iron:1", "nobody is there: the first");
    // A worker without containers: the first that is able.
    let agent = bed.token(Role::Agent, 60).await;
    let mut offer = claim(0);
    offer["free_slots"] = json!(0);
    offer["offer"]["executors"] = json!(["vm"]);
    let asked = bed.request(Method::POST, "/api/v1/worker/claim").bearer_auth(agent).json(&offer);
    assert_eq!(asked.send().await.unwrap().status(), 200);
    assert_eq!(name(any).await, "package-install-vm iron-1");
    bed.end().await;
}

async fn mistakes_are_told_as_they_always_were() {
    let bed = serving(settings()).await;
    let check = async |body: Value, expect: Value| {
        let (status, answer) = schedule(&bed, &body).await;
        assert_eq!(status, 422, "{answer}");
        let mut first = answer["detail"][0].clone();
        if expect.get("input").is_none() {
            first.as_object_mut().unwrap().remove("input");
        }
        assert_eq!(first, expect, "{body}");
        assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    };
    let at = |kind: &str, field: &str, message: &str| json!({"type": kind, "loc": ["body", field], "msg": message});
    for field in ["dist_name", "dist_version", "dist_arch", "package_name"] {
        check(payload(&json!({field: null})), at("missing", field, "Field required")).await;
    }
    let text = "Input should be a valid string";
    check(
        payload(&json!({"package_name": 5})),
        json!({"type": "string_type", "loc": ["body", "package_name"], "msg": text, "input": 5}),
    )
    .await;
    check(
        payload(&json!({"dist_version": 9.5})),
        json!({"type": "string_type", "loc": ["body", "dist_version", "str"], "msg": text}),
    )
    .await;
    check(
        payload(&json!({"package_channel": "alpha"})),
        json!({
            "type": "literal_error", "loc": ["body", "package_channel"], "msg": "Input should be 'stable' or 'beta'",
            "input": "alpha", "ctx": {"expected": "'stable' or 'beta'"},
        }),
    )
    .await;
    check(
        payload(&json!({"repositories": "x"})),
        at("list_type", "repositories", "Input should be a valid list"),
    )
    .await;
    let repository = |body: Value| payload(&json!({"repositories": [body]}));
    let place = |kind: &str, message: &str| json!({"type": kind, "loc": ["body", "repositories", 0, "url"], "msg": message});
    check(repository(json!({"name": "x"})), place("missing", "Field required")).await;
    let address = "Value error, a repository's address begins with http:// or https://";
    check(repository(json!({"url": "file:///etc"})), place("value_error", address)).await;
    check(repository(json!({"url": "https://h/\nbaseurl=x"})), place("value_error", address)).await;
    let word = "Value error, expected letters, digits and . _ + ~ ^ : @ - only, and no - first";
    for name in ["--installroot=/", "../x", "a b", "a\nb", "a;b"] {
        check(payload(&json!({"package_name": name})), at("value_error", "package_name", word)).await;
    }
    for (over, field, known) in [
        (
            json!({"dist_name": "suse"}),
            "dist_name",
            "known are almalinux, centos, cloud, debian, fedora, iron, ubuntu",
        ),
        (json!({"dist_version": "7"}), "dist_version", "almalinux `7` is not known; known are 10, 8, 9"),
        (json!({"dist_arch": "sparc"}), "dist_arch", "known are aarch64, ppc64le, s390x, x86_64"),
        (
            json!({"runner_type": "opennebula"}),
            "runner_type",
            "known are cloud 2, iron 1; this one has docker",
        ),
        (json!({"runner_type": "lxc"}), "runner_type", "'any', 'docker' or 'opennebula'"),
    ] {
        let (status, answer) = schedule(&bed, &payload(&over)).await;
        let first = &answer["detail"][0];
        assert_eq!((status, &first["loc"]), (422, &json!(["body", field])), "{answer}");
        assert!(first["msg"].as_str().unwrap().contains(known), "{answer}");
    }
    let test = json!({"tests": [{"url": "https://h/t.git"}, {"url": "--upload-pack=x"}]});
    let (_, answer) = schedule(&bed, &payload(&json!({"test_configuration": test}))).await;
    assert_eq!(
        answer["detail"][0]["loc"],
        json!(["body", "test_configuration", "tests", 1, "url"]),
        "{answer}"
    );
    // What is no object, or no JSON.
    check(
        json!([1]),
        json!({
            "type": "model_attributes_type", "loc": ["body"],
            "msg": "Input should be a valid dictionary or object to extract fields from", "input": [1],
        }),
    )
    .await;
    let raw = async |text: &str| {
        let request =
            bed.request(Method::POST, "/tasks/schedule").bearer_auth(token("a")).body(text.to_owned());
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["detail"][0].clone()
    };
    let broken = raw("{\"a\": }").await;
    assert_eq!((&broken["type"], &broken["loc"]), (&json!("json_invalid"), &json!(["body", 6])), "{broken}");
    assert_eq!((&broken["msg"], &broken["input"]), (&json!("JSON decode error"), &json!({})));
    assert_eq!(
        raw("").await,
        json!({"type": "missing", "loc": ["body"], "msg": "Field required", "input": null})
    );
    let huge = bed.request(Method::POST, "/tasks/schedule").bearer_auth(token("a")).body(vec![b' '; 9 << 20]);
    assert_eq!(huge.send().await.unwrap().status(), 413);
    bed.end().await;
}

async fn who_may_come_in() {
    let bed = serving(settings()).await;
    let other = bed.token(Role::Viewer, 60).await;
    let own = token("some@email.com");
    let far = sign(b"another secret", Algorithm::HS256, &json!({"email": "a@b"})).unwrap();
    let late = sign(SECRET, Algorithm::HS256, &json!({"email": "a@b", "exp": 1})).unwrap();
    let hs512 = sign(SECRET, Algorithm::HS512, &json!({"email": "a@b"})).unwrap();
    for (header, status, detail) in [
        (None, 403, "Not authenticated"),
        (Some("Basic eDp5".to_owned()), 403, "Invalid authentication credentials"),
        (Some("Bearer".to_owned()), 403, "Not authenticated"),
        (Some(format!("Bearer {far}")), 401, "Could not validate credentials"),
        (Some(format!("Bearer {late}")), 401, "Could not validate credentials"),
        (Some(format!("Bearer {hs512}")), 401, "Could not validate credentials"),
        (Some("Bearer x".to_owned()), 401, "Could not validate credentials"),
        (Some(format!("Bearer {own}")), 200, ""),
        (Some(format!("bearer {own}")), 200, ""),
        (Some(format!("Bearer Bearer {own}")), 200, ""),
        (Some(format!("Bearer {other}")), 200, ""),
    ] {
        let mut request = bed.request(Method::GET, "/tasks/x/result");
        if let Some(header) = &header {
            request = request.header("authorization", header);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{header:?}");
        assert_eq!(answer.headers()["content-type"], "application/json");
        let named = answer.headers().get("www-authenticate").is_some_and(|value| value == "Bearer");
        assert_eq!(named, status == 401, "{header:?}");
        let body: Value = answer.json().await.unwrap();
        if status == 200 {
            assert_eq!(body, json!({"state": "PENDING", "api_version": "20210512"}));
        } else {
            assert_eq!(body, json!({"detail": detail}), "{header:?}");
        }
    }
    // A slash too many leads to the place that is meant.
    let plain =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for (method, path) in
        [(Method::POST, "/tasks/schedule"), (Method::GET, "/tasks/x/result"), (Method::POST, "/cancel_tasks")]
    {
        let url = format!("http://{}{path}", bed.address);
        let led = plain.request(method, format!("{url}/?a=b")).bearer_auth(&own).send().await.unwrap();
        let to = led.headers()["location"].to_str().unwrap();
        assert_eq!((led.status().as_u16(), to), (307, format!("{url}?a=b").as_str()));
    }
    // Their tokens open this door alone.
    let native = bed.request(Method::GET, "/api/v1/tasks").bearer_auth(&own).send().await.unwrap();
    assert_eq!(native.status(), 401);
    let wrong = bed.request(Method::GET, "/tasks/schedule").bearer_auth(&own).send().await.unwrap();
    assert_eq!(wrong.status(), 405);
    assert_eq!(wrong.json::<Value>().await.unwrap(), json!({"detail": "Method Not Allowed"}));
    let nothing = bed.request(Method::GET, "/tasks/x").bearer_auth(&own).send().await.unwrap();
    assert_eq!(nothing.status(), 404);
    assert_eq!(nothing.json::<Value>().await.unwrap(), json!({"detail": "Not Found"}));
    let viewer = bed.request(Method::POST, "/tasks/schedule").bearer_auth(&other).json(&payload(&json!({})));
    assert_eq!(viewer.send().await.unwrap().status(), 403);
    bed.end().await;
}

#[tokio::test]
async fn who_gave_them_a_secret_wants_to_see_it() {
    let schedule = async |bed: &Bed| {
        let request = bed.request(Method::POST, "/tasks/schedule").json(&payload(&json!({})));
        request.send().await.unwrap().status().as_u16()
    };
    let alts = |settings| Interfaces { alts: Some(settings), ..Interfaces::default() };
    let bed = Bed::serving(alts(settings()), loopback(Role::Admin)).await;
    assert_eq!(schedule(&bed).await, 403, "nobody comes in without a token");
    assert_eq!(bed.request(Method::GET, "/api/v1/tasks").send().await.unwrap().status(), 200);
    bed.end().await;
    let bed = Bed::serving(alts(Settings { secret: None, ..settings() }), loopback(Role::Admin)).await;
    assert_eq!(schedule(&bed).await, 201, "where no secret is agreed on, it is as everywhere");
    bed.end().await;
}

/// Runs the next task as a worker does, leaving this document.
async fn run(bed: &Bed, document: &str, end: &Value) -> String {
    let agent = bed.token(Role::Agent, 60).await;
    let post = async |path: &str, body: &Value| {
        let answer = bed.request(Method::POST, path).bearer_auth(&agent).json(body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json::<Value>().await.unwrap()
    };
    let given = post("/api/v1/worker/claim", &claim(10)).await["assignments"][0].clone();
    let id = given["task"]["id"].as_str().unwrap().to_owned();
    assert_eq!(result(bed, &id).await, json!({"state": "STARTED", "api_version": "20210512"}));
    let left = [
        ("result.json", document),
        ("install_package.log", "installed\n"),
        ("package_integrity_tests.log", "whole\n"),
    ];
    for (name, text) in left {
        let query = [
            ("attempt", given["attempt"].to_string()),
            ("fence", given["fence"].to_string()),
            ("name", name.to_owned()),
            ("sha256", hex::encode(Sha256::digest(text))),
            ("size_bytes", text.len().to_string()),
            ("offset", "0".to_owned()),
        ];
        let request = bed.request(Method::PUT, &format!("/api/v1/worker/tasks/{id}/artifacts")).query(&query);
        let answer = request.bearer_auth(&agent).body(text.to_owned()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let mut finished = finish(&given["attempt"], &given["fence"]);
    finished["end"] = end.clone();
    finished["log_chunks"] = json!(0);
    finished["log_bytes"] = json!(0);
    post(&format!("/api/v1/worker/tasks/{id}/finish"), &finished).await;
    id
}

const DOCUMENT: &str = r#"{"skipped_tests": [], "install_package": {"success": false, "exit_code": 1, "output": "no such package"},
    "tests": {"package_integrity_tests": {"success": true}}, "third_party": {}, "stats": {"install_package": {"start_ts": "a", "finish_ts": "b", "delta": 1}, "started_at": "a"}}"#;

async fn a_failed_test_is_a_task_that_succeeded() {
    let bed = serving(settings()).await;
    let id = scheduled(&bed, &json!({})).await;
    assert_eq!(result(&bed, &id).await, json!({"state": "PENDING", "api_version": "20210512"}));
    assert_eq!(run(&bed, DOCUMENT, &json!({"end": "outcome", "outcome": "failed"})).await, id);
    let answer = result(&bed, &id).await;
    assert_eq!(answer["state"], "SUCCESS", "{answer}");
    let document = &answer["result"];
    assert_eq!(
        document["install_package"],
        json!({"success": false, "exit_code": 1, "output": "no such package"})
    );
    assert_eq!((&document["skipped_tests"], document.get("stats")), (&json!([]), None));
    let logs = document["logs"].as_array().unwrap();
    assert_eq!(
        (&logs[0]["name"], &logs[0]["type"]),
        (&json!(format!("install_package_{id}.log")), &json!("test_log"))
    );
    // The build system shows those whose names begin so as tests; and a section of nothing would have failed to it.
    assert_eq!(logs[1]["name"], json!(format!("tests_package_integrity_tests_{id}.log")));
    assert_eq!(logs[2]["name"], json!(format!("alts-{id}-x86_64.log")));
    assert_eq!((document["tests"].as_object().unwrap().len(), document.get("third_party")), (1, None));
    // The token that reads the result reads its logs, and no others.
    let href = logs[0]["href"].as_str().unwrap();
    let path = href.strip_prefix(&format!("http://{}", bed.address)).unwrap();
    let read = async |path: &str| {
        let answer = bed.request(Method::GET, path).bearer_auth(token("a@b")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(read(path).await, (200, "installed\n".to_owned()));
    assert_eq!(read(&format!("/tasks/{id}/log")).await, (200, String::new()));
    assert_eq!(read(&format!("/api/v1/tasks/{id}/log")).await.0, 401);
    let admin = bed.token(Role::Admin, 60).await;
    let made = bed.request(Method::POST, "/api/v1/tasks").bearer_auth(admin).json(&json!({"task": "lint"}));
    let other: Value = made.send().await.unwrap().json().await.unwrap();
    let (status, text) = read(&format!("/tasks/{}/log", other["id"].as_str().unwrap())).await;
    assert!(status == 404 && text.contains("tests no package"), "{status} {text}");
    let other = result(&bed, other["id"].as_str().unwrap()).await;
    assert_eq!(other, json!({"state": "PENDING", "api_version": "20210512"}), "as what is not known");
    bed.end().await;
}

async fn what_could_not_be_tried_is_a_failure() {
    let bed = serving(settings()).await;
    let id = scheduled(&bed, &json!({})).await;
    let end = json!({"end": "outcome", "outcome": "error(bad_task)", "reason": "no such image"});
    run(&bed, "this is no document", &end).await;
    let answer = result(&bed, &id).await;
    assert_eq!(answer["state"], "FAILURE", "{answer}");
    assert_eq!(answer["result"]["prepare_environment"], json!({"success": false, "output": "no such image"}));
    bed.end().await;
}

async fn tasks_are_cancelled_by_their_numbers() {
    let bed = serving(settings()).await;
    let mut ids = Vec::new();
    for number in [json!(1), json!(1), json!(2), json!("3")] {
        ids.push(scheduled(&bed, &json!({"bs_task_id": number})).await);
    }
    let cancel = async |body: Value| send(&bed, Method::POST, "/cancel_tasks", &body).await;
    assert_eq!(cancel(json!({"bs_task_ids": [1, "3", 99]})).await, (200, json!({"success": true})));
    for (id, state) in ids.iter().zip(["REVOKED", "REVOKED", "PENDING", "REVOKED"]) {
        let answer = result(&bed, id).await;
        assert_eq!(answer["state"], state, "{answer}");
        if state == "REVOKED" {
            assert_eq!(answer["result"], json!({"revoked": true}));
        }
    }
    assert_eq!(cancel(json!({"bs_task_ids": [1]})).await.0, 200, "what has ended is left alone");
    assert_eq!(cancel(json!({"bs_task_ids": []})).await.0, 200);
    for (body, kind, place) in [
        (json!({}), "missing", json!(["body", "bs_task_ids"])),
        (json!({"bs_task_ids": 1}), "list_type", json!(["body", "bs_task_ids"])),
        (json!({"bs_task_ids": null}), "list_type", json!(["body", "bs_task_ids"])),
        (json!({"bs_task_ids": [1, "x"]}), "int_parsing", json!(["body", "bs_task_ids", 1])),
        (json!({"bs_task_ids": [1.5]}), "int_from_float", json!(["body", "bs_task_ids", 0])),
    ] {
        let (status, answer) = cancel(body).await;
        let first = &answer["detail"][0];
        assert_eq!((status, &first["type"], &first["loc"]), (422, &json!(kind), &place), "{answer}");
    }
    // Somebody else's are somebody else's.
    let other = bed.request(Method::POST, "/cancel_tasks").bearer_auth(token("other@email.com"));
    let answer = other.json(&json!({"bs_task_ids": [2]})).send().await.unwrap();
    assert_eq!(answer.status(), 403);
    assert_eq!(result(&bed, &ids[2]).await["state"], "PENDING");
    // One that runs is stopped by its worker.
    let audit = bed.store().audit_log(None, 1).await.unwrap();
    assert_eq!(
        (audit.items[0].who.as_str(), audit.items[0].action.as_str()),
        ("alts/some@email.com", "task.cancel")
    );
    bed.end().await;
}

/// A build system that fails so often, and keeps what it is told.
type Heard = Arc<Mutex<(usize, Vec<(String, Value)>)>>;

async fn build_system(fails: usize) -> (reqwest::Url, Heard, tokio::task::JoinSet<()>) {
    let heard: Heard = Arc::new(Mutex::new((fails, Vec::new())));
    let hear = async |State(heard): State<Heard>, request: axum::extract::Request| {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let mut heard = heard.lock().unwrap();
        if heard.0 > 0 {
            heard.0 -= 1;
            return StatusCode::BAD_GATEWAY;
        }
        let token = parts.headers["authorization"].to_str().unwrap();
        heard.1.push((format!("{} {token}", parts.uri), serde_json::from_slice(&body).unwrap()));
        StatusCode::OK
    };
    let router = Router::new().route("/api/v1/tests/{id}/result/", post(hear)).with_state(Arc::clone(&heard));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let mut jobs = tokio::task::JoinSet::new();
    jobs.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, heard, jobs)
}

async fn the_build_system_is_told() {
    let (url, heard, _jobs) = build_system(2).await;
    let told = BuildSystem { url, token: Some("bs_token".to_owned()) };
    let bed = serving(Settings { build_system: Some(told), ..settings() }).await;
    let hear = async |count: usize| {
        until("what is told", || async {
            let heard = heard.lock().unwrap();
            (heard.1.len() >= count).then(|| heard.1.clone())
        })
        .await
    };
    let first = scheduled(&bed, &json!({"callback_href": "/api/v1/tests/5/result/", "bs_task_id": 5})).await;
    run(&bed, DOCUMENT, &json!({"end": "outcome", "outcome": "failed"})).await;
    let (place, body) = hear(1).await.remove(0);
    assert_eq!(place, "/api/v1/tests/5/result/ Bearer bs_token", "after two that failed");
    assert_eq!(body["api_version"], "20210512");
    assert_eq!(body["result"]["install_package"]["success"], false, "{body}");
    assert_eq!(body["stats"]["install_package"]["delta"], 1, "{body}");
    assert_eq!(body["result"], result(&bed, &first).await["result"]);
    scheduled(&bed, &json!({"callback_href": "/api/v1/tests/6/result/", "bs_task_id": 6})).await;
    send(&bed, Method::POST, "/cancel_tasks", &json!({"bs_task_ids": [6]})).await;
    let (place, body) = hear(2).await.remove(1);
    assert_eq!(place, "/api/v1/tests/6/result/ Bearer bs_token");
    assert_eq!(body, json!({"api_version": "20210512", "result": {"revoked": true}, "stats": {}}));
    // Its token goes nowhere else.
    let elsewhere = payload(&json!({"callback_href": "https://evil.example/x"}));
    let (status, answer) = schedule(&bed, &elsewhere).await;
    assert_eq!((status, &answer["detail"][0]["loc"]), (422, &json!(["body", "callback_href"])), "{answer}");
    bed.end().await;
}

async fn a_task_that_is_not_registered_is_said_so() {
    let bed = serving(Settings { task: "nothing-here".into(), ..settings() }).await;
    let (status, answer) = schedule(&bed, &payload(&json!({}))).await;
    assert_eq!(
        (status, &answer["success"], &answer["api_version"]),
        (400, &json!(false), &json!("20210512"))
    );
    assert!(answer["error_description"].as_str().unwrap().contains("nothing-here"), "{answer}");
    bed.end().await;
}
