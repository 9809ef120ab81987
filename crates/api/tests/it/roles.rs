//! Every route by every role; and what errors look like.

use super::{
    bed::{Bed, loopback},
    signed,
};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Bounds, ROLES, Role};
use taskbot_api::{
    auth::{Access, Caller},
    openapi,
    server::Limits,
};

/// What each operation needs, where it is not what its method and place say.
fn needed(method: &str, path: &str) -> Role {
    let starts = |start: &str| path.starts_with(start);
    match method {
        _ if starts("/api/v1/worker/") => Role::Agent,
        _ if starts("/api/v1/tokens") || starts("/api/v1/audit") || starts("/api/v1/prune") => Role::Admin,
        // It asks for something, by whichever method.
        _ if path == "/submit" || path == "/tasks/schedule" || path == "/cancel_tasks" => Role::Submitter,
        "get" => Role::Viewer,
        // They read: what rules would say to an event that is given.
        "post" if path == "/api/v1/rules/check" || path.ends_with("/explain") => Role::Viewer,
        "post" if (path.ends_with("/release") || path.ends_with("/approve") || path.ends_with("/unhold")) => {
            Role::Manager
        }
        "post" if starts("/api/v2.0/") => Role::Submitter,
        "post" if starts("/api/v1/retests") => Role::Submitter,
        "post" if starts("/api/v1/events") || starts("/api/v1/tasks") || starts("/api/v1/results") => {
            Role::Submitter
        }
        _ => Role::Manager,
    }
}

fn operations() -> Vec<(String, String)> {
    let description = serde_json::to_value(openapi()).unwrap();
    let mut all = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        let methods = item
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| ["get", "post", "put", "delete", "head", "patch"].contains(&key.as_str()));
        all.extend(methods.map(|method| (method.clone(), path.clone())));
    }
    assert!(all.len() > 40, "{} operations", all.len());
    all
}

#[tokio::test]
async fn every_route_is_open_to_its_roles_only() {
    let access = Access::tokens_only().believing(Arc::new(signed::by_role()));
    let bed = Bed::with(access, Limits::default()).await;
    let mut tokens = Vec::new();
    for (role, _) in ROLES {
        tokens.push((role, bed.token(role, 60).await));
        tokens.push((role, signed::token_of(role)));
    }
    let expired = bed.token(Role::Admin, -1).await;
    let revoked = bed.token(Role::Admin, 60).await;
    let id = store::Access::tokens(bed.store()).await.unwrap().last().unwrap().id;
    let mut wrong = revoked.clone();
    wrong.replace_range(wrong.len() - 1.., if revoked.ends_with('0') { "1" } else { "0" });
    let (public, _) = revoked[3..].split_once('_').unwrap();
    let revoked_id: model::ids::TokenId = public.parse().unwrap_or(id);
    bed.store().revoke_token(revoked_id).await.unwrap();
    let mut bad = vec![expired, revoked, wrong, "tb_".to_owned(), "x".repeat(5000)];
    bad.extend(signed::bad_tokens());
    for (method, path) in operations() {
        let needs = needed(&method, &path);
        let method: Method = method.to_uppercase().parse().unwrap();
        let path = path
            .replace("{id}", "1")
            .replace("{task_id}", "1")
            .replace("{name}", "x")
            .replace("{*name}", "x")
            .replace("{uuid}", "x")
            .replace("{artifact}", "x")
            .replace("{revision}", "1234567");
        let ask = async |token: Option<&str>| {
            let mut request = bed.request(method.clone(), &path).timeout(std::time::Duration::from_secs(20));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            request.send().await.unwrap()
        };
        let alts = path.starts_with("/tasks/") || path == "/cancel_tasks";
        // ALTS' clients know 403 for it.
        let nobody = if alts { 403 } else { 401 };
        assert_eq!(ask(None).await.status(), nobody, "{method} {path} without a token");
        for token in &bad {
            assert_eq!(ask(Some(token)).await.status(), 401, "{method} {path} with a bad token");
        }
        for (role, token) in &tokens {
            let response = ask(Some(token)).await;
            let may = Caller { name: String::new(), role: *role, bounds: Bounds::default() }.may(needs);
            let status = response.status();
            assert_eq!(status != 403 && status != 401, may, "{method} {path} as {role}: {status}");
            assert_ne!(status, 500, "{method} {path} as {role}");
            if status.is_client_error() || status.is_server_error() {
                // The clients of other systems read errors in their own form.
                let form = if path.starts_with("/api/v2.0") || alts {
                    "application/json"
                } else {
                    "application/problem+json"
                };
                assert_eq!(response.headers()[header::CONTENT_TYPE], form, "{method} {path} {status}");
            }
        }
    }
    bed.end().await;
}

#[tokio::test]
async fn paddles_operations_are_open_to_their_roles_only() {
    let bed = Bed::with(Access::tokens_only(), Limits::default()).await;
    let mut tokens = Vec::new();
    for (role, _) in ROLES {
        tokens.push((role, bed.token(role, 60).await));
    }
    for (method, path, needs) in taskbot_api::paddles::OPERATIONS {
        let method: Method = method.parse().unwrap();
        let ask = async |token: &str| {
            let request = bed.request(method.clone(), &format!("/compat/paddles{path}")).body("{}");
            if token.is_empty() { request } else { request.bearer_auth(token) }.send().await.unwrap()
        };
        for (token, status) in [("", 401), ("tb_wrong", 401)] {
            let refused = ask(token).await;
            assert_eq!(refused.status(), status, "{method} {path}");
            assert_eq!(refused.headers()[header::CONTENT_TYPE], "application/json", "{method} {path}");
        }
        for (role, token) in &tokens {
            let may = Caller { name: String::new(), role: *role, bounds: Bounds::default() }.may(needs);
            let status = ask(token).await.status();
            assert_eq!(status != 403 && status != 401, may, "{method} {path} as {role}: {status}");
            assert_ne!(status, 500, "{method} {path} as {role}");
        }
    }
    bed.end().await;
}

#[tokio::test]
async fn what_needs_no_token_needs_none() {
    let bed = Bed::with(Access::tokens_only(), Limits::default()).await;
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/version", "/docs/", "/api/v1/openapi.json"] {
        let response = bed.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let text = response.text().await.unwrap();
        // The page comes from here and from nowhere else.
        for other in ["src=\"http", "href=\"http", "src=\"//", "@import"] {
            assert!(!text.contains(other), "{path} loads from elsewhere: {other}");
        }
    }
    bed.end().await;
}

#[tokio::test]
async fn errors_have_one_form() {
    let bed = Bed::open().await;
    let check = async |method: Method, path: &str, content_type: &str, body: Vec<u8>, expect: u16| {
        let request = bed.request(method.clone(), path).header(header::CONTENT_TYPE, content_type).body(body);
        let response = request.send().await.unwrap();
        let status = response.status();
        assert_eq!(status, expect, "{method} {path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json", "{method} {path}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["status"], expect);
        assert_eq!(problem["type"], "about:blank");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
    };
    let json = "application/json";
    check(Method::GET, "/nothing", json, vec![], 404).await;
    check(Method::GET, "/api/v1/tasks/..%2f..%2fetc", json, vec![], 404).await;
    check(Method::GET, "//api/v1/tasks", json, vec![], 404).await;
    check(Method::GET, "/api/v1/tasks/%00", json, vec![], 404).await;
    check(Method::GET, "/api/v1/tasks/%ff", json, vec![], 400).await;
    check(Method::GET, "/api/v1/rules/%27%3B--", json, vec![], 404).await;
    check(Method::DELETE, "/api/v1/events", json, vec![], 405).await;
    check(Method::POST, "/api/v1/tasks", json, b"{".to_vec(), 400).await;
    check(Method::POST, "/api/v1/tasks", "text/plain", b"{}".to_vec(), 415).await;
    check(Method::POST, "/api/v1/tasks", json, b"{\"no_such\": 1}".to_vec(), 422).await;
    check(Method::POST, "/api/v1/tasks", json, b"{\"task\": \"lnit\"}".to_vec(), 404).await;
    check(Method::POST, "/api/v1/tasks", json, vec![b' '; 9 << 20], 413).await;
    check(Method::POST, "/api/v1/events", json, vec![b' '; 41 << 20], 413).await;
    check(Method::GET, "/api/v1/tasks?limit=many", json, vec![], 400).await;
    check(Method::GET, "/api/v1/tasks?before=x", json, vec![], 400).await;
    check(Method::GET, "/api/v1/events?before=x", json, vec![], 400).await;
    check(Method::GET, "/api/v1/events?where=%7Bbroken", json, vec![], 400).await;
    check(Method::GET, "/api/v1/dlq/x", json, vec![], 400).await;
    check(Method::GET, "/api/v1/stream?topics=a..b", json, vec![], 400).await;
    check(Method::POST, "/api/v1/tokens", json, b"{\"name\": \"\", \"role\": \"viewer\"}".to_vec(), 422)
        .await;
    bed.end().await;
}

#[tokio::test]
async fn strangers_and_pages_of_others_may_do_nothing() {
    let elsewhere = Access::anonymous(Role::Admin, vec![([192, 0, 2, 0].into(), 24)]);
    let bed = Bed::with(elsewhere, Limits::default()).await;
    assert_eq!(bed.request(Method::GET, "/api/v1/tasks").send().await.unwrap().status(), 401);
    bed.end().await;
    let bed = Bed::with(loopback(Role::Admin), Limits::default()).await;
    let page = bed.request(Method::POST, "/api/v1/events?topic=build.done").body("{}");
    let refused = page.header(header::ORIGIN, "https://evil.example").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let rebound = bed.request(Method::GET, "/api/v1/tasks").header(header::HOST, "evil.example");
    assert_eq!(rebound.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    bed.end().await;
}

#[tokio::test]
async fn tokens_are_made_shown_once_and_revoked() {
    let bed = Bed::open().await;
    let (status, made) = bed.post("/api/v1/tokens", &json!({"name": "ci", "role": "submitter"})).await;
    assert_eq!(status, 201);
    let text = made["token"].as_str().unwrap();
    let listed = bed.get("/api/v1/tokens").await.to_string();
    assert!(listed.contains("\"ci\"") && !listed.contains(text) && !listed.contains("hash"), "{listed}");
    let ask =
        async || bed.request(Method::GET, "/api/v1/tokens").bearer_auth(text).send().await.unwrap().status();
    assert_eq!(ask().await, 403);
    let id = made["id"].as_str().unwrap();
    let gone = bed.request(Method::DELETE, &format!("/api/v1/tokens/{id}")).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(ask().await, 401);
    let audit = bed.get("/api/v1/audit").await;
    let actions: Vec<_> =
        audit["items"].as_array().unwrap().iter().map(|record| record["action"].clone()).collect();
    assert_eq!(actions, ["token.revoke", "token.create"]);
    bed.end().await;
}
