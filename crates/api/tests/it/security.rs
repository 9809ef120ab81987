//! What nobody may do, over all interfaces at once: tokens that are not believed, other people's objects, bodies without
//! end, tricks in ids and names; and Testflinger's operations by every role, which no description lists.

use super::{
    bed::{Bed, loopback},
    signed,
};
use reqwest::{Method, header};
use serde_json::{Value, json};
use std::sync::Arc;
use store::{ROLES, Role};
use taskbot_api::{
    Interfaces,
    alts::{Secret, Settings as Alts},
    auth::Access,
    jwt::{Algorithm, sign},
    server::Limits,
    testflinger::Settings as Testflinger,
};

const ALTS_SECRET: &[u8] = b"what ALTS' clients know";
const UNKNOWN: &str = "00000000-0000-0000-0000-000000000000";

fn interfaces(strict: bool) -> Interfaces {
    Interfaces {
        alts: Some(Alts { secret: Some(Secret(ALTS_SECRET.into())), ..Alts::default() }),
        testflinger: Some(Testflinger { strict, ..Testflinger::default() }),
        ..Interfaces::default()
    }
}

/// Testflinger's operations: method, path, and the roles that may by default and by `strict`.
const READ: (&str, &str) = ("viewer submitter agent manager admin", "submitter manager admin");
const EVERYONE: (&str, &str) = ("viewer submitter agent manager admin", "submitter agent manager admin");
const SUBMIT: (&str, &str) = ("submitter manager admin", "submitter manager admin");
const AGENT: (&str, &str) = ("agent admin", "agent");
const AGENTS: (&str, &str) = ("agent manager admin", "agent manager admin");
const MANAGE: (&str, &str) = ("manager admin", "manager admin");
const ADMIN: (&str, &str) = ("admin", "admin");
const OPERATIONS: [(&str, &str, (&str, &str)); 38] = [
    ("POST", "/v1/job", SUBMIT),
    ("GET", "/v1/job?queue=a", AGENT),
    ("GET", "/v1/job/search", READ),
    ("GET", "/v1/job/ID", READ),
    ("GET", "/v1/job/ID/position", READ),
    ("POST", "/v1/job/ID/action", SUBMIT),
    ("POST", "/v1/job/ID/attachments", SUBMIT),
    ("GET", "/v1/job/ID/attachments", AGENT),
    ("POST", "/v1/result/ID", AGENT),
    ("GET", "/v1/result/ID", EVERYONE),
    ("GET", "/v1/result/ID/status", EVERYONE),
    ("POST", "/v1/result/ID/artifact", AGENT),
    ("GET", "/v1/result/ID/artifact", READ),
    ("POST", "/v1/result/ID/log/output", AGENT),
    ("GET", "/v1/result/ID/log/output", READ),
    ("GET", "/v1/agents/queues", READ),
    ("POST", "/v1/agents/queues", AGENTS),
    ("GET", "/v1/agents/images/q", READ),
    ("POST", "/v1/agents/images", AGENTS),
    ("GET", "/v1/agents/data", READ),
    ("GET", "/v1/agents/data/a", EVERYONE),
    ("POST", "/v1/agents/data/a", AGENTS),
    ("POST", "/v1/agents/provision_logs/a", AGENT),
    ("GET", "/v1/queues/wait_times", READ),
    ("GET", "/v1/queues/q/agents", READ),
    ("GET", "/v1/queues/q/jobs", READ),
    ("POST", "/v1/job/ID/events", AGENT),
    ("POST", "/v1/oauth2/revoke", ADMIN),
    ("GET", "/v1/restricted-queues", READ),
    ("GET", "/v1/restricted-queues/q", READ),
    ("POST", "/v1/restricted-queues/q", MANAGE),
    ("DELETE", "/v1/restricted-queues/q", MANAGE),
    ("GET", "/v1/client-permissions", MANAGE),
    ("GET", "/v1/client-permissions/c", MANAGE),
    ("PUT", "/v1/client-permissions/c", MANAGE),
    ("DELETE", "/v1/client-permissions/c", ADMIN),
    ("PUT", "/v1/secrets/c/p", SUBMIT),
    ("DELETE", "/v1/secrets/c/p", SUBMIT),
];

#[tokio::test]
async fn testflingers_operations_are_open_to_their_roles_only() {
    for strict in [false, true] {
        let access = Access::tokens_only().believing(Arc::new(signed::by_role()));
        let bed = Bed::serving(interfaces(strict), access).await;
        let mut tokens = Vec::new();
        for (role, name) in ROLES {
            tokens.push((name, bed.token(role, 60).await));
            tokens.push((name, signed::token_of(role)));
        }
        for (method, path, (lenient, exact)) in OPERATIONS {
            let may = if strict { exact } else { lenient };
            for slash in ["", "/"] {
                let path = path.replace("ID", UNKNOWN);
                let path = match path.split_once('?') {
                    Some((path, query)) => format!("{path}{slash}?{query}"),
                    None if path.contains("/secrets/") => path,
                    None => format!("{path}{slash}"),
                };
                let method: Method = method.parse().unwrap();
                let send = async |token: Option<&str>| {
                    let mut request = bed.request(method.clone(), &path).json(&json!({}));
                    if let Some(token) = token {
                        request = request.bearer_auth(token);
                    }
                    let answer = request.send().await.unwrap();
                    (answer.status().as_u16(), answer.text().await.unwrap())
                };
                assert_eq!(send(None).await.0, 401, "{method} {path} without a token");
                for token in signed::bad_tokens() {
                    let (status, text) = send(Some(&token)).await;
                    assert!(matches!(status, 401 | 403), "{method} {path} with a bad token: {status} {text}");
                }
                for (role, token) in &tokens {
                    let (status, text) = send(Some(token)).await;
                    let refused = status == 403 && text.contains("Specified action requires role");
                    let expect = !may.split(' ').any(|one| one == *role);
                    assert_eq!(
                        refused, expect,
                        "{method} {path} as {role}, strict {strict}: {status} {text}"
                    );
                    assert!(status < 500, "{method} {path} as {role}: {status} {text}");
                }
            }
        }
        bed.end().await;
    }
}

#[tokio::test]
async fn tokens_of_one_interface_open_no_other() {
    let bed = Bed::serving(interfaces(false), Access::tokens_only()).await;
    let alts = sign(ALTS_SECRET, Algorithm::HS256, &json!({"email": "some@email.com"})).unwrap();
    let admin = bed.token(Role::Admin, 60).await;
    let client = json!({"client_secret": "at least fifteen", "role": "contributor"});
    let made = bed.request(Method::PUT, "/v1/client-permissions/lab").bearer_auth(&admin).json(&client);
    assert_eq!(made.send().await.unwrap().status(), 200);
    let asked = bed.request(Method::POST, "/v1/oauth2/token").basic_auth("lab", Some("at least fifteen"));
    let given: Value = asked.send().await.unwrap().json().await.unwrap();
    let testflinger = given["access_token"].as_str().unwrap().to_owned();
    for (token, own, others) in [
        (alts, "/tasks/x/result", ["/v1/job/search", "/api/v1/tasks", "/api/v2.0/results"]),
        (testflinger, "/v1/job/search", ["/tasks/x/result", "/api/v1/tasks", "/api/v2.0/results"]),
    ] {
        let ask = async |path: &str| {
            bed.request(Method::GET, path).bearer_auth(&token).send().await.unwrap().status().as_u16()
        };
        assert_eq!(ask(own).await, 200, "{own}");
        for path in others {
            let status = ask(path).await;
            assert!(matches!(status, 401 | 403), "{path} by a token for {own}: {status}");
        }
    }
    bed.end().await;
}

#[tokio::test]
async fn tokens_for_alts_are_signed_as_agreed() {
    let bed = Bed::serving(interfaces(false), Access::tokens_only()).await;
    let email = json!({"email": "some@email.com"});
    let ask = async |token: &str| {
        let request = bed.request(Method::GET, "/tasks/x/result").bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask(&sign(ALTS_SECRET, Algorithm::HS256, &email).unwrap()).await, 200);
    // Whoever knows the secret is believed, whatever else he says.
    assert_eq!(ask(&sign(ALTS_SECRET, Algorithm::HS256, &json!({"sub": "x"})).unwrap()).await, 200);
    let late = json!({"email": "some@email.com", "exp": 1});
    for token in [
        sign(ALTS_SECRET, Algorithm::HS512, &email).unwrap(),
        sign(b"another", Algorithm::HS256, &email).unwrap(),
        sign(ALTS_SECRET, Algorithm::HS256, &late).unwrap(),
    ] {
        assert_eq!(ask(&token).await, 401);
    }
    for token in signed::bad_tokens() {
        assert_eq!(ask(&token).await, 401);
    }
    bed.end().await;
}

#[tokio::test]
async fn other_peoples_jobs_and_tasks_are_not_ended() {
    let bed = Bed::serving(interfaces(false), Access::tokens_only()).await;
    let mut people = Vec::new();
    for name in ["ada", "eve"] {
        let now = model::Clock::now(&model::SystemClock);
        let expires = Some(now + chrono::TimeDelta::seconds(600));
        let (token, text) =
            taskbot_api::auth::new_token(&model::SystemIds, name, Role::Submitter, now, expires);
        bed.store().add_token(&token).await.unwrap();
        people.push(text);
    }
    let (ada, eve, manager) = (&people[0], &people[1], bed.token(Role::Manager, 600).await);
    let send = async |token: &str, path: &str, body: Value| {
        let answer = bed.request(Method::POST, path).bearer_auth(token).json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    };
    let job = async || {
        let (status, made) = send(ada, "/v1/job", json!({"job_queue": "lab"})).await;
        assert_eq!(status, 200, "{made}");
        made["job_id"].as_str().unwrap().to_owned()
    };
    let cancel = json!({"action": "cancel"});
    let first = job().await;
    let path = format!("/v1/job/{first}/action");
    let (status, said) = send(eve, &path, cancel.clone()).await;
    assert!(status == 403 && said.to_string().contains("somebody else"), "{status} {said}");
    assert_eq!(send(eve, &format!("/api/v1/tasks/{first}/cancel"), json!({})).await.0, 403);
    assert_eq!(send(ada, &path, cancel.clone()).await.0, 200, "one's own");
    let second = job().await;
    assert_eq!(send(&manager, &format!("/v1/job/{second}/action"), cancel).await.0, 200, "anybody's");
    bed.end().await;
}

#[tokio::test]
async fn looking_by_head_takes_and_makes_nothing() {
    let bed = Bed::with(loopback(Role::Admin), Limits::default()).await;
    let made = bed.request(Method::POST, "/v1/job").json(&json!({"job_queue": "lab"})).send().await.unwrap();
    assert_eq!(made.status(), 200);
    for path in ["/v1/job?queue=lab", "/submit?type=koji_build&item=a-1-1&test=x"] {
        assert_eq!(bed.request(Method::HEAD, path).send().await.unwrap().status(), 405, "{path}");
    }
    let handed = bed.request(Method::GET, "/v1/job?queue=lab").send().await.unwrap();
    assert_eq!(handed.status(), 200, "it is still there for who reads it");
    let asked: Value =
        bed.request(Method::GET, "/api/v1/retests").send().await.unwrap().json().await.unwrap();
    assert_eq!(asked["items"], json!([]));
    bed.end().await;
}

#[tokio::test]
async fn bodies_without_end_are_refused() {
    let bed = Bed::with(loopback(Role::Admin), Limits::default()).await;
    let (json, form) = ("application/json", "application/x-www-form-urlencoded");
    for (path, kind, bytes) in [
        ("/submit", json, 300 << 10),
        ("/submit", form, 300 << 10),
        ("/api/v1/retests", json, 9 << 20),
        ("/api/v1/tasks/rerun", json, 9 << 20),
        ("/api/v2.0/results", json, 9 << 20),
        ("/api/v2.0/groups", json, 9 << 20),
        ("/tasks/schedule", json, 9 << 20),
        ("/cancel_tasks", json, 9 << 20),
        ("/v1/job", json, 1100 << 10),
        (&format!("/v1/result/{UNKNOWN}"), json, 17 << 20),
        ("/v1/agents/data/a", json, 5 << 20),
        ("/v1/agents/queues", json, 5 << 20),
    ] {
        let request = bed.request(Method::POST, path).header(header::CONTENT_TYPE, kind);
        // It may be told while the rest is still sent.
        match request.body(vec![b' '; bytes]).send().await {
            Ok(answer) => assert_eq!(answer.status(), 413, "{path} {bytes}"),
            Err(error) => assert!(error.is_request() || error.is_body(), "{path}: {error}"),
        }
    }
    bed.end().await;
}

#[tokio::test]
async fn tricks_in_ids_and_names_lead_nowhere() {
    let bed = Bed::with(loopback(Role::Admin), Limits::default()).await;
    let long = "x".repeat(4_000);
    let tricks = [
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "%2fetc%2fpasswd",
        "..%5c..%5cetc%5cpasswd",
        "a%00b",
        "%0d%0aSet-Cookie:%20a=b",
        "'%3B%20drop%20table%20task%3B--",
        "%25252e%25252e",
        "%F0%9F%92%A3",
        "-rf",
        "%24%7Bjndi:x%7D",
        &long,
    ];
    let paths = [
        "/api/v1/tasks/X",
        "/api/v1/tasks/X/artifacts/X",
        "/api/v1/tasks/X/log",
        "/api/v1/batches/X",
        "/api/v1/rules/X",
        "/api/v1/retests/X",
        "/api/v1/events/X",
        "/api/v2.0/results/X",
        "/api/v2.0/groups/X",
        "/api/v2.0/testcases/X",
        "/tasks/X/result",
        "/v1/job/X",
        "/v1/job/X/attachments",
        "/v1/result/X/artifact",
        "/v1/result/X/log/X",
        "/v1/agents/data/X",
        "/v1/agents/images/X",
        "/v1/queues/X/agents",
        "/v1/queues/X/jobs",
        "/v1/restricted-queues/X",
        "/submit?type=koji_build&test=X&item=X",
    ];
    for path in paths {
        for trick in tricks {
            let path = path.replace('X', trick);
            let answer = bed.request(Method::GET, &path).send().await.unwrap();
            let status = answer.status().as_u16();
            assert!(answer.headers().get(header::SET_COOKIE).is_none(), "{path}");
            let text = answer.text().await.unwrap();
            // ALTS cannot tell what it does not know, and no images of a queue are none.
            let nothing = path.starts_with("/tasks/") || path.starts_with("/v1/agents/images/");
            let well =
                matches!(status, 204 | 400 | 404 | 410 | 414 | 422 | 431) || (nothing && status == 200);
            assert!(well, "{path}: {status} {text}");
            assert!(
                !text.contains("root:") && !text.contains("SQL") && !text.contains("sqlite"),
                "{path}: {text}"
            );
        }
    }
    // What is written under odd names stays under them.
    for name in ["..%2f..%2fx", "a%00b", "a%0ab"] {
        let answer =
            bed.request(Method::POST, &format!("/v1/agents/data/{name}")).json(&json!({"state": "waiting"}));
        let status = answer.send().await.unwrap().status().as_u16();
        assert!(status == 200 || (400..500).contains(&status), "{name}: {status}");
    }
    bed.end().await;
}
