//! Testflinger's login by OpenID Connect, at a provider that is served here.

use super::{
    bed::{Bed, loopback},
    signed::Pair,
};
use axum::{
    Json, Router,
    http::StatusCode,
    routing::{get, post},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use store::Role;
use taskbot_api::{
    Interfaces,
    jwt::Algorithm,
    testflinger::{NAME_CLAIM_DEFAULT, Oidc, SCOPE_DEFAULT, Settings},
};

/// A form by name.
type Form = HashMap<String, String>;

/// What the provider answers next to the question for tokens, and the forms that it was asked by.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<(Value, Vec<Form>)>>);

impl Said {
    fn next(&self, answer: Value) {
        self.0.lock().unwrap().0 = answer;
    }

    fn heard(&self, form: &str) -> Value {
        let pairs = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
        let mut said = self.0.lock().unwrap();
        said.1.push(pairs);
        said.0.clone()
    }

    fn form(&self, at: usize) -> Form {
        self.0.lock().unwrap().1[at].clone()
    }
}

/// A provider; its address.
async fn provider(keys: Value, said: Said) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let described = json!({
        "issuer": url, "jwks_uri": format!("{url}/keys"), "token_endpoint": format!("{url}/token"),
        "device_authorization_endpoint": format!("{url}/device"),
    });
    let device = json!({
        "device_code": "a-device-code", "user_code": "ABCD-EFGH", "verification_uri": "https://id.example.org/device",
        "verification_uri_complete": "https://id.example.org/device?user_code=ABCD-EFGH", "expires_in": 600,
        "interval": 3,
    });
    let begun = said.clone();
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(move || async move { Json(described) }))
        .route("/keys", get(move || async move { Json(json!({"keys": [keys]})) }))
        .route(
            "/device",
            post(async move |form: String| {
                begun.heard(&form);
                Json(device)
            }),
        )
        .route(
            "/token",
            post(async move |form: String| {
                let answer = said.heard(&form);
                let status =
                    if answer.get("error").is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
                (status, Json(answer))
            }),
        );
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn logging_in_at(url: &str) -> Bed {
    let oidc = Oidc::new(
        url.parse().unwrap(),
        "testflinger".to_owned(),
        Some("a password".into()),
        SCOPE_DEFAULT.to_owned(),
        NAME_CLAIM_DEFAULT.to_owned(),
    );
    let testflinger = Some(Settings { oidc: Some(oidc), ..Settings::default() });
    Bed::serving(Interfaces { testflinger, ..Interfaces::default() }, loopback(Role::Admin)).await
}

/// What was answered to a question of a login: the status, when to ask again, and what was said.
async fn poll(bed: &Bed, id: &Value) -> (u16, Option<String>, Value) {
    let path = format!("/oidc/auth-poll/{}", id.as_str().unwrap());
    let answer = bed.request(Method::POST, &path).send().await.unwrap();
    let after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), after, answer.json().await.unwrap())
}

#[tokio::test]
async fn a_person_logs_in_by_a_code() {
    let key = Pair::new("k", Algorithm::ES256);
    let said = Said::default();
    let url = provider(key.public.clone(), said.clone()).await;
    let bed = logging_in_at(&url).await;
    let begin = async || {
        let (status, begun) = bed.post("/oidc/auth-init", &json!({})).await;
        assert_eq!(status, 200, "{begun}");
        begun
    };
    // Who can log in says who he is.
    assert_eq!(bed.post("/v1/job", &json!({"job_queue": "q"})).await.0, 401);
    let begun = begin().await;
    assert_eq!((&begun["user_code"], begun.get("device_code")), (&json!("ABCD-EFGH"), None), "{begun}");
    let form = said.form(0);
    assert_eq!((&*form["client_id"], &*form["scope"]), ("testflinger", "openid email profile"));
    let id = &begun["request_id"];
    for (error, after) in [("authorization_pending", None), ("slow_down", Some("8"))] {
        said.next(json!({"error": error}));
        assert_eq!(poll(&bed, id).await, (400, after.map(str::to_owned), json!({"error": error})));
    }
    let form = said.form(1);
    assert_eq!(
        (&*form["device_code"], &*form["grant_type"], &*form["client_secret"]),
        ("a-device-code", "urn:ietf:params:oauth:grant-type:device_code", "a password")
    );
    let person = json!({"iss": url, "aud": "testflinger", "email": "me@example.org"});
    said.next(json!({"access_token": "theirs", "id_token": key.sign(Some("k"), &person)}));
    let (status, _, tokens) = poll(&bed, id).await;
    assert_eq!((status, &tokens["token_type"], &tokens["expires_in"]), (200, &json!("Bearer"), &json!(600)));
    let token = tokens["access_token"].as_str().unwrap();
    let job = bed.request(Method::POST, "/v1/job").bearer_auth(token).json(&json!({"job_queue": "q"}));
    let job: Value = job.send().await.unwrap().json().await.unwrap();
    let task = bed.get(&format!("/api/v1/tasks/{}", job["job_id"].as_str().unwrap())).await;
    assert_eq!(task["task"]["origin"]["who"], "testflinger:me@example.org");
    assert_eq!(
        bed.request(Method::GET, "/api/v1/tasks").bearer_auth(token).send().await.unwrap().status(),
        401
    );
    let again = bed.post("/v1/oauth2/refresh", &json!({"refresh_token": tokens["refresh_token"]})).await;
    assert_eq!(again.0, 200, "{}", again.1);
    assert_eq!(poll(&bed, id).await, (400, None, json!({"error": "expired_token"})), "a code is good once");

    // No other token of the provider's, nor one of somebody else's.
    let other = Pair::new("k", Algorithm::ES256);
    for token in [
        key.sign(Some("k"), &json!({"iss": url, "aud": "another", "email": "me@example.org"})),
        key.sign(Some("k"), &json!({"iss": "https://evil.example", "aud": "testflinger", "email": "a@b"})),
        key.sign(Some("k"), &json!({"iss": url, "aud": "testflinger"})),
        key.sign(Some("k"), &json!({"iss": url, "aud": "testflinger", "email": "me@example.org", "exp": 1})),
        other.sign(Some("k"), &person),
    ] {
        said.next(json!({"id_token": token}));
        assert_eq!(poll(&bed, &begin().await["request_id"]).await.0, 403);
    }
    said.next(json!({"error": "access_denied"}));
    let begun = begin().await;
    assert_eq!(poll(&bed, &begun["request_id"]).await.2, json!({"error": "access_denied"}));
    assert_eq!(poll(&bed, &begun["request_id"]).await.2, json!({"error": "expired_token"}));
    bed.end().await;
}

#[tokio::test]
async fn nobody_becomes_a_client_with_a_password() {
    let key = Pair::new("k", Algorithm::ES256);
    let said = Said::default();
    let url = provider(key.public.clone(), said.clone()).await;
    let bed = logging_in_at(&url).await;
    let admin = bed.token(Role::Admin, 60).await;
    let put = async |id: &str, body: Value| {
        let path = format!("/v1/client-permissions/{id}");
        bed.request(Method::PUT, &path)
            .bearer_auth(&admin)
            .json(&body)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    let secret = "a password of some length";
    assert_eq!(put("boss@example.org", json!({"client_secret": secret, "role": "admin"})).await, 200);
    let token = async |email: &str| {
        let person = json!({"iss": url, "aud": "testflinger", "email": email});
        said.next(json!({"id_token": key.sign(Some("k"), &person)}));
        let (_, begun) = bed.post("/oidc/auth-init", &json!({})).await;
        poll(&bed, &begun["request_id"]).await.0
    };
    assert_eq!(token("boss@example.org").await, 403);
    assert_eq!(token("me@example.org").await, 200);
    assert_eq!(put("me@example.org", json!({"client_secret": secret})).await, 422, "he has none");
    assert_eq!(put("me@example.org", json!({"role": "manager"})).await, 200);
    let tried = bed.request(Method::POST, "/v1/oauth2/token").basic_auth("me@example.org", Some(""));
    assert_eq!(tried.send().await.unwrap().status(), 401);
    bed.end().await;
}

#[tokio::test]
async fn a_provider_that_is_away_is_told_of() {
    let bed = logging_in_at("http://127.0.0.1:9").await;
    let (status, said) = bed.post("/oidc/auth-init", &json!({})).await;
    assert!(status == 502 && said["message"].as_str().unwrap().contains("provider"), "{status} {said}");
    bed.end().await;
    let bed = Bed::open().await;
    for path in ["/oidc/auth-init", "/oidc/auth-poll/x"] {
        assert_eq!(bed.post(path, &json!({})).await.0, 404, "{path}: nobody logs in here");
    }
    bed.end().await;
}
