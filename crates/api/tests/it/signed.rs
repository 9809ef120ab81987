//! Tokens that others sign: real ones, by real keys; and everything that is refused.

use super::bed::{Bed, loopback};
use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use axum::{Router, http::StatusCode, routing::get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::{EncodingKey, Header, encode, jwk::Jwk};
use model::{Clock, SystemClock};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use store::{Bounds, ROLES, Role};
use taskbot_api::{
    auth::Access,
    jwt::{
        Algorithm, Identity, Issuer, KEYS_BYTES_MAX, KeySet, Keys, KeysFrom, Mapping, Refusal,
        TOKEN_BYTES_MAX, Verifier, sign,
    },
    server::Limits,
};

const SECRET: &[u8] = b"a secret of more than thirty-two bytes";
const ISSUER: &str = "https://id.example.org/realms/qa";
/// Where a private key of PKCS #1 begins in the PKCS #8 form of an RSA key of 2048 bits.
const PKCS1_AT: usize = 26;

fn now() -> DateTime<Utc> {
    SystemClock.now()
}

/// Claims that hold, with these laid over them; null takes one away.
fn claims(over: &Value) -> Value {
    let at = now().timestamp();
    let mut claims = json!({
        "iss": ISSUER, "aud": "taskbot", "sub": "alice", "exp": at + 600, "iat": at, "groups": ["packagers", "all"],
    });
    for (name, value) in over.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn mappings() -> Vec<Mapping> {
    let has = |claim: &str, has: &str, role, bounds| Mapping {
        claim: Some(claim.to_owned()),
        has: has.to_owned(),
        role,
        bounds,
    };
    let bounds = Bounds {
        queues: Some(BTreeSet::from(["default".into()])),
        priority_max: Some(10),
        run_seconds_max: Some(60),
    };
    vec![
        has("realm_access.roles", "qa-admin", Role::Admin, Bounds::default()),
        has("groups", "packagers", Role::Submitter, bounds),
        has("scope", "read", Role::Viewer, Bounds::default()),
    ]
}

fn issuer(keys: Keys, algorithms: &[Algorithm]) -> Issuer {
    Issuer {
        name: "sso".to_owned(),
        keys,
        algorithms: algorithms.to_vec(),
        issuer: Some(ISSUER.to_owned()),
        audience: vec!["taskbot".to_owned(), "other".to_owned()],
        must_expire: true,
        name_claim: "sub".to_owned(),
        nameless: None,
        mappings: mappings(),
    }
}

fn by_secret(secret: &[u8]) -> Verifier {
    Verifier::new(vec![issuer(Keys::Secret(secret.into()), &[Algorithm::HS256])])
}

/// One whose tokens give each role by its name, for a walk over all routes.
pub(crate) fn by_role() -> Verifier {
    let mapping = |(role, name): (Role, &str)| Mapping {
        claim: Some("groups".to_owned()),
        has: name.to_owned(),
        role,
        bounds: Bounds::default(),
    };
    let mappings = ROLES.into_iter().map(mapping).collect();
    Verifier::new(vec![Issuer { mappings, ..issuer(Keys::Secret(SECRET.into()), &[Algorithm::HS256]) }])
}

pub(crate) fn token_of(role: Role) -> String {
    sign(SECRET, Algorithm::HS256, &claims(&json!({"groups": [role]}))).unwrap()
}

/// Tokens of an admin, but for one thing each.
pub(crate) fn bad_tokens() -> Vec<String> {
    let admin = |over: Value| {
        let mut claims = claims(&over);
        claims["groups"] = json!(["admin"]);
        claims
    };
    let good = admin(json!({}));
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    vec![
        format!("{none}.{}.", URL_SAFE_NO_PAD.encode(good.to_string())),
        sign(b"another secret", Algorithm::HS256, &good).unwrap(),
        sign(SECRET, Algorithm::HS512, &good).unwrap(),
        sign(SECRET, Algorithm::HS256, &admin(json!({"exp": 1}))).unwrap(),
        sign(SECRET, Algorithm::HS256, &admin(json!({"aud": "another"}))).unwrap(),
        sign(SECRET, Algorithm::HS256, &admin(json!({"iss": null}))).unwrap(),
    ]
}

/// What came of a token, in short.
fn short(got: Result<Identity, Refusal>) -> String {
    match got {
        Ok(identity) => format!("{} {}", identity.name, identity.role),
        Err(Refusal::Unknown(why)) => format!("unknown: {why}"),
        Err(Refusal::Claims(why)) => format!("claims: {why}"),
        Err(other) => other.to_string(),
    }
}

#[tokio::test]
async fn claims_must_hold() {
    let verifier = by_secret(SECRET);
    let check = async |over: Value, expect: &str| {
        let token = sign(SECRET, Algorithm::HS256, &claims(&over)).unwrap();
        let got = short(verifier.verify(&token, now()).await);
        assert!(got.starts_with(expect), "{over}: {got}, not {expect}");
    };
    let at = now().timestamp();
    check(json!({}), "sso/alice submitter").await;
    check(json!({"aud": ["x", "other"]}), "sso/alice submitter").await;
    check(json!({"realm_access": {"roles": ["qa-admin"]}}), "sso/alice admin").await;
    check(json!({"groups": null, "scope": "write read"}), "sso/alice viewer").await;
    check(json!({"groups": null, "scope": "reader"}), "sso/alice's token gives no role").await;
    check(json!({"groups": "packagers"}), "sso/alice submitter").await;
    check(json!({"groups": ["packagers2"]}), "sso/alice's token gives no role").await;
    check(json!({"groups": null}), "sso/alice's token gives no role").await;
    check(json!({"exp": 9e9}), "sso/alice submitter").await;
    check(json!({"exp": at - 60}), "the token has expired").await;
    check(json!({"exp": null}), "claims: the token has no `exp`").await;
    check(json!({"exp": "tomorrow"}), "claims: the token's `exp` is no time").await;
    check(json!({"nbf": at + 60}), "claims: the token's `nbf` is in the future").await;
    check(json!({"iat": at + 60}), "claims: the token's `iat` is in the future").await;
    check(json!({"iss": "https://evil.example"}), "claims: the token is not for here").await;
    check(json!({"iss": null}), "claims: the token is not for here").await;
    check(json!({"aud": "somebody-else"}), "claims: the token is not for here").await;
    check(json!({"aud": []}), "claims: the token is not for here").await;
    check(json!({"aud": null}), "claims: the token is not for here").await;
    check(json!({"sub": null}), "claims: the token's `sub` must name the caller").await;
    check(json!({"sub": "x".repeat(129)}), "claims: the token's `sub` must name the caller").await;
    check(json!({"sub": "a\nb"}), "claims: the token's `sub` must name the caller").await;
}

#[tokio::test]
async fn what_is_not_signed_as_agreed_is_refused() {
    let verifier = by_secret(SECRET);
    let good = sign(SECRET, Algorithm::HS256, &claims(&json!({}))).unwrap();
    assert_eq!(short(verifier.verify(&good, now()).await), "sso/alice submitter");
    let parts: Vec<&str> = good.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let admin = URL_SAFE_NO_PAD.encode(claims(&json!({"realm_access": {"roles": ["qa-admin"]}})).to_string());
    let mut crit = Header::new(Algorithm::HS256);
    crit.crit = Some(vec!["exp".to_owned()]);
    let crit = encode(&crit, &claims(&json!({})), &EncodingKey::from_secret(SECRET)).unwrap();
    for (what, token) in [
        ("no signature, `none`", format!("{none}.{}.", parts[1])),
        ("`none` with the old signature", format!("{none}.{}.{}", parts[1], parts[2])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("other claims", format!("{}.{admin}.{}", parts[0], parts[2])),
        ("another algorithm", sign(SECRET, Algorithm::HS512, &claims(&json!({}))).unwrap()),
        ("another secret", sign(b"another secret", Algorithm::HS256, &claims(&json!({}))).unwrap()),
        ("critical headers", crit),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{good}.x")),
        ("no token", "hello".to_owned()),
        ("nothing", String::new()),
        ("too long", format!("{good}{}", "x".repeat(TOKEN_BYTES_MAX))),
    ] {
        let got = short(verifier.verify(&token, now()).await);
        assert!(got.starts_with("unknown: "), "{what}: {got}");
    }
    // An empty secret signs nothing, and nothing that it signed is believed.
    assert!(sign(b"", Algorithm::HS256, &claims(&json!({}))).is_err());
    let empty = encode(&Header::default(), &claims(&json!({})), &EncodingKey::from_secret(b"")).unwrap();
    assert!(short(by_secret(b"").verify(&empty, now()).await).contains("is empty"));
    assert!(short(Verifier::default().verify(&good, now()).await).starts_with("unknown: "));
}

/// A pair of keys: what signs, and the public one.
pub(crate) struct Pair {
    id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    pub(crate) public: Value,
}

impl Pair {
    pub(crate) fn new(id: &'static str, algorithm: Algorithm) -> Self {
        let random = SystemRandom::new();
        let key = match algorithm {
            Algorithm::RS256 => {
                let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
                let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
                EncodingKey::from_rsa_der(&der.as_ref()[PKCS1_AT..])
            }
            Algorithm::ES256 => {
                let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
                EncodingKey::from_ec_der(der.as_ref())
            }
            _ => EncodingKey::from_ed_der(Ed25519KeyPair::generate_pkcs8v1(&random).unwrap().as_ref()),
        };
        let mut public = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        public["kid"] = json!(id);
        public["use"] = json!("sig");
        Self { id, algorithm, key, public }
    }

    pub(crate) fn sign(&self, id: Option<&str>, over: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = id.map(str::to_owned);
        encode(&header, &claims(over), &self.key).unwrap()
    }
}

fn by_keys(from: KeysFrom, refresh: Duration, refresh_min: Duration) -> Verifier {
    let keys = Keys::Set(Arc::new(KeySet::new("sso", from, refresh, refresh_min)));
    Verifier::new(vec![issuer(keys, &[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA])])
}

fn from_file(folder: &Path, keys: &Value) -> Verifier {
    let file = folder.join("keys.json");
    std::fs::write(&file, keys.to_string()).unwrap();
    by_keys(KeysFrom::File(file), Duration::from_secs(60), Duration::from_secs(30))
}

#[tokio::test]
async fn public_keys_of_each_kind() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = [("r", Algorithm::RS256), ("e", Algorithm::ES256), ("d", Algorithm::EdDSA)]
        .map(|(id, alg)| Pair::new(id, alg));
    let stranger = Pair::new("r", Algorithm::RS256);
    // A secret among public keys would let everybody sign who reads them.
    let secret = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET), "kid": "s", "alg": "HS256"});
    let public: Vec<Value> = pairs.iter().map(|pair| pair.public.clone()).chain([secret]).collect();
    let verifier = from_file(folder.path(), &json!({"keys": public}));
    let verify = async |token: &str| short(verifier.verify(token, now()).await);
    for pair in &pairs {
        assert_eq!(verify(&pair.sign(Some(pair.id), &json!({}))).await, "sso/alice submitter", "{}", pair.id);
        assert_eq!(verify(&pair.sign(None, &json!({}))).await, "sso/alice submitter", "{} alone", pair.id);
        let wrong = verify(&pair.sign(Some("zz"), &json!({}))).await;
        assert_eq!(wrong, "unknown: `sso` has no such key", "{}", pair.id);
        let expired = verify(&pair.sign(Some(pair.id), &json!({"exp": 1}))).await;
        assert_eq!(expired, "the token has expired", "{}", pair.id);
        let elsewhere = verify(&pair.sign(Some(pair.id), &json!({"aud": "x"}))).await;
        assert!(elsewhere.starts_with("claims: the token is not for here"), "{elsewhere}");
    }
    let got = verify(&stranger.sign(Some("r"), &json!({}))).await;
    assert!(got.starts_with("unknown: "), "another's key of the same id: {got}");
    // Algorithm confusion: what everybody knows, the public key, taken for a secret.
    for known in [public[0].to_string(), public[0]["n"].as_str().unwrap().to_owned()] {
        for id in [None, Some("r"), Some("s")] {
            let mut header = Header::new(Algorithm::HS256);
            header.kid = id.map(str::to_owned);
            let forged =
                encode(&header, &claims(&json!({})), &EncodingKey::from_secret(known.as_bytes())).unwrap();
            assert!(verify(&forged).await.starts_with("unknown: no issuer signs by HS256"));
        }
    }
    let by_the_secret = sign(SECRET, Algorithm::HS256, &claims(&json!({}))).unwrap();
    assert!(verify(&by_the_secret).await.starts_with("unknown: "));
    // An RSA token that names the key of another kind.
    assert!(verify(&pairs[0].sign(Some("e"), &json!({}))).await.starts_with("unknown: "));
    // Keys in the token itself are not looked at.
    let mut header = Header::new(Algorithm::RS256);
    header.jwk = Some(serde_json::from_value(stranger.public.clone()).unwrap());
    header.jku = Some("https://evil.example/keys".to_owned());
    let own = encode(&header, &claims(&json!({})), &stranger.key).unwrap();
    assert!(verify(&own).await.starts_with("unknown: "));
}

#[tokio::test]
async fn without_an_id_one_key_must_be_meant() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["a", "b"].map(|id| Pair::new(id, Algorithm::ES256));
    let verifier = from_file(folder.path(), &json!({"keys": [one.public, two.public]}));
    assert_eq!(short(verifier.verify(&one.sign(Some("a"), &json!({})), now()).await), "sso/alice submitter");
    let got = short(verifier.verify(&one.sign(None, &json!({})), now()).await);
    assert_eq!(got, "unknown: `sso` has no such key");
}

/// An issuer that counts how often it is asked.
struct Provider {
    url: String,
    keys: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    _job: tokio::task::JoinSet<()>,
}

impl Provider {
    async fn start(claimed: Option<&str>) -> Self {
        let (keys, asked) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let said = json!({"issuer": claimed.unwrap_or(&url), "jwks_uri": format!("{url}/keys")}).to_string();
        let (served, count) = (Arc::clone(&keys), Arc::clone(&asked));
        let answer = move || {
            count.fetch_add(1, Ordering::SeqCst);
            let text = served.lock().unwrap().clone();
            async move { if text.is_empty() { Err(StatusCode::BAD_GATEWAY) } else { Ok(text) } }
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(move || async move { said }))
            .route("/keys", get(answer));
        let mut job = tokio::task::JoinSet::new();
        job.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, keys, asked, _job: job }
    }

    fn serve(&self, pairs: &[&Pair]) {
        let keys: Vec<_> = pairs.iter().map(|pair| pair.public.clone()).collect();
        *self.keys.lock().unwrap() = json!({"keys": keys}).to_string();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn keys_are_fetched_seldom() {
    let provider = Provider::start(None).await;
    let [old, new] = ["old", "new"].map(|id| Pair::new(id, Algorithm::ES256));
    let hour = Duration::from_secs(3600);
    let url = |path: &str| format!("{}{path}", provider.url).parse().unwrap();
    let limited = by_keys(KeysFrom::Issuer(url("")), hour, hour);
    let verify = async |by: &Verifier, pair: &Pair| {
        short(by.verify(&pair.sign(Some(pair.id), &json!({})), now()).await)
    };
    provider.serve(&[&old]);
    for _ in 0..3 {
        assert_eq!(verify(&limited, &old).await, "sso/alice submitter");
    }
    assert_eq!(provider.asked(), 1);
    provider.serve(&[&old, &new]);
    for _ in 0..3 {
        assert_eq!(verify(&limited, &new).await, "unknown: `sso` has no such key", "the limit holds");
    }
    assert_eq!(provider.asked(), 1);
    // Where the limit allows it, an unknown key is looked for once more; but not for another issuer's token.
    let free = by_keys(KeysFrom::Url(url("/keys")), hour, Duration::ZERO);
    assert_eq!(verify(&free, &old).await, "sso/alice submitter");
    assert_eq!(verify(&free, &new).await, "sso/alice submitter");
    let before = provider.asked();
    let foreign = new.sign(Some("zz"), &json!({"iss": "https://evil.example"}));
    assert!(short(free.verify(&foreign, now()).await).starts_with("unknown: "));
    assert_eq!(provider.asked(), before);
    // The provider is away: what is known goes on, what is not cannot be told.
    *provider.keys.lock().unwrap() = String::new();
    assert_eq!(verify(&free, &old).await, "sso/alice submitter");
    let fresh = by_keys(KeysFrom::Url(url("/keys")), hour, Duration::ZERO);
    assert!(verify(&fresh, &old).await.starts_with("the keys of `sso` cannot be had: "));
}

#[tokio::test]
async fn bad_documents_are_no_keys() {
    let pair = Pair::new("k", Algorithm::ES256);
    let token = pair.sign(Some("k"), &json!({}));
    let provider = Provider::start(Some("https://evil.example")).await;
    provider.serve(&[&pair]);
    let check = async |from: KeysFrom, expect: &str| {
        let verifier = by_keys(from, Duration::from_secs(60), Duration::ZERO);
        let got = short(verifier.verify(&token, now()).await);
        assert!(got.contains(expect), "{got}");
    };
    let url = |path: &str| KeysFrom::Url(format!("{}{path}", provider.url).parse().unwrap());
    check(KeysFrom::Issuer(provider.url.parse().unwrap()), "is of the issuer https://evil.example").await;
    check(url("/nothing"), "404").await;
    for (text, expect) in [
        ("hello".to_owned(), "no JWKS"),
        ("{\"keys\": []}".to_owned(), "no key is for RS256"),
        (json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}).to_string(), "no key is for RS256"),
        (json!({"keys": vec![pair.public.clone(); 101]}).to_string(), "at most 100 are read"),
        (" ".repeat(KEYS_BYTES_MAX + 1), "more than"),
    ] {
        *provider.keys.lock().unwrap() = text;
        check(url("/keys"), expect).await;
    }
}

#[tokio::test]
async fn callers_are_who_their_tokens_say() {
    let access = Access::tokens_only().believing(Arc::new(by_secret(SECRET)));
    let bed = Bed::with(access, Limits::default()).await;
    let ask = async |path: &str, over: Value| {
        let token = sign(SECRET, Algorithm::HS256, &claims(&over)).unwrap();
        let answer = bed.request(reqwest::Method::GET, path).bearer_auth(token).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    assert_eq!(ask("/api/v1/tasks", json!({})).await.0, 200);
    let (status, problem) = ask("/api/v1/audit", json!({})).await;
    assert_eq!(status, 403, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("`sso/alice` has the role submitter"), "{problem}");
    assert_eq!(ask("/api/v1/audit", json!({"realm_access": {"roles": ["qa-admin"]}})).await.0, 200);
    let (status, problem) = ask("/api/v1/tasks", json!({"exp": now().timestamp() - 100})).await;
    assert_eq!((status, problem["detail"].as_str().unwrap()), (401, "the token has expired"));
    let (status, problem) = ask("/api/v1/tasks", json!({"groups": []})).await;
    assert_eq!(status, 403, "{problem}");
    // What is nobody's token says nothing of why.
    let answer =
        bed.request(reqwest::Method::GET, "/api/v1/tasks").bearer_auth("a.b.c").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    let long = "x".repeat(TOKEN_BYTES_MAX + 1);
    let answer = bed.request(reqwest::Method::GET, "/api/v1/tasks").bearer_auth(long).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    bed.end().await;
}

#[tokio::test]
async fn bounds_hold() {
    let bed =
        Bed::with(Access::tokens_only().believing(Arc::new(by_secret(SECRET))), Limits::default()).await;
    let token = |who: &str| sign(SECRET, Algorithm::HS256, &claims(&json!({"sub": who}))).unwrap();
    let post = async |who: &str, path: &str, body: Value| {
        let request = bed.request(reqwest::Method::POST, path).bearer_auth(token(who)).json(&body);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    let (status, task) = post("alice", "/api/v1/tasks", json!({"task": "lint", "priority": 10})).await;
    assert_eq!(status, 201, "{task}");
    assert_eq!((&task["timeout_cap_seconds"], &task["submitter"]), (&json!(60), &json!("user:sso/alice")));
    let (status, problem) = post("alice", "/api/v1/tasks", json!({"task": "lint", "priority": 11})).await;
    assert!(
        status == 403 && problem["detail"].as_str().unwrap().contains("priority 10 at most"),
        "{problem}"
    );
    let (status, problem) = post("alice", "/api/v1/tasks", json!({"task": "lint", "queue": "iron"})).await;
    assert!(status == 403 && problem["detail"].as_str().unwrap().contains("queue iron"), "{problem}");
    let event = json!({"topic": "build.done", "body": {"nvr": "a-1-1"}});
    assert_eq!(post("alice", "/api/v1/events", event).await.0, 403, "what rules make has no bounds");
    // Other people's tasks are theirs.
    let id = task["id"].as_str().unwrap();
    assert_eq!(post("bob", &format!("/api/v1/tasks/{id}/cancel"), json!({})).await.0, 403);
    let group = |on_new: &str| json!({"task": "lint", "group": {"name": "g", "on_new": on_new}});
    assert_eq!(post("alice", "/api/v1/tasks", group("keep")).await.0, 201);
    let (status, problem) = post("bob", "/api/v1/tasks", group("supersede")).await;
    assert!(status == 403 && problem["detail"].as_str().unwrap().contains("tasks of others"), "{problem}");
    assert_eq!(post("alice", "/api/v1/tasks", group("supersede")).await.0, 201);
    assert_eq!(post("alice", &format!("/api/v1/tasks/{id}/cancel"), json!({})).await.0, 200);
    let audit = bed.store().audit_log(None, 10).await.unwrap();
    let who: Vec<_> = audit.items.iter().map(|record| format!("{} {}", record.who, record.action)).collect();
    assert_eq!(who[..2], ["sso/alice task.cancel", "sso/alice task.submit"]);
    bed.end().await;
}

#[tokio::test]
async fn tokens_of_our_own_have_bounds_too() {
    let bed = Bed::with(loopback(Role::Admin), Limits::default()).await;
    let bounds = json!({"queues": ["default"], "priority_max": 0});
    let body = json!({"name": "builder", "role": "agent", "bounds": bounds});
    let (status, made) = bed.post("/api/v1/tokens", &body).await;
    assert_eq!((status, &made["bounds"]), (201, &bounds), "{made}");
    let claim = async |queue: &str| {
        let body = json!({
            "protocol": model::protocol::PROTOCOL_VERSION, "worker": "w", "version": "1", "free_slots": 0,
            "running": [], "wait_seconds": 0, "offer": {"queues": [queue]},
        });
        let request = bed.request(reqwest::Method::POST, "/api/v1/worker/claim");
        let answer = request.bearer_auth(made["token"].as_str().unwrap()).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = claim("iron").await;
    assert!(status == 403 && text.contains("may not serve the queue iron"), "{status} {text}");
    assert_ne!(claim("default").await.0, 403);
    for (role, bounds) in [
        ("manager", json!({"queues": ["default"]})),
        ("submitter", json!({"queues": []})),
        ("submitter", json!({"priority_max": 5000})),
        ("submitter", json!({"run_seconds_max": 0})),
    ] {
        let body = json!({"name": "x", "role": role, "bounds": bounds});
        assert_eq!(bed.post("/api/v1/tokens", &body).await.0, 422, "{body}");
    }
    bed.end().await;
}
