//! Its login by OpenID Connect (the device flow, RFC 8628): a person confirms a code on a page of the provider, while
//! the command line asks whether that was done. There is none until a provider is configured.

use super::{
    SYSTEM,
    answer::{Answer, Refusal, document},
    clients, tokens,
};
use crate::{
    jwt::{BY_KEYS, Issuer, KEYS_REFRESH_MIN, KeySet, Keys, KeysFrom, Mapping, Verifier},
    outward,
    state::ApiState,
};
use axum::{
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::IntoResponse,
};
use chrono::TimeDelta;
use reqwest::{Response, Url};
use serde_json::{Map, Value, json};
use std::{fmt, sync::Arc, time::Duration};
use store::{Bounds, Role};

/// How long the provider may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// The longest answer of it, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long its keys are kept before they are fetched anew.
const KEYS_REFRESH: Duration = Duration::from_secs(600);
/// How long a login may take where the provider does not say, and at most, in seconds.
const LOGIN_SECONDS: i64 = 1800;
/// How long to wait between two questions where the provider does not say, in seconds (RFC 8628).
const INTERVAL_SECONDS: i64 = 5;
/// What is asked for by default.
pub const SCOPE_DEFAULT: &str = "openid email profile";
/// The claim that names people by default.
pub const NAME_CLAIM_DEFAULT: &str = "email";
/// The kind of documents: logins that are under way.
const LOGIN: &str = "login";
/// What a question for the tokens of a device is.
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// What verified names begin with, which clients' names do not.
const ISSUER: &str = "oidc";

/// The provider.
#[derive(Clone)]
pub struct Oidc {
    /// Its address, which its tokens name as `iss`.
    issuer: Url,
    /// What this server is called there.
    client_id: String,
    /// Its password there, when it has one.
    client_secret: Option<Arc<str>>,
    /// What is asked for.
    scope: String,
    /// Whose tokens are believed.
    verifier: Verifier,
}

impl Oidc {
    /// The provider with this address; `name_claim` is what of its tokens names a person.
    #[must_use]
    pub fn new(
        issuer: Url,
        client_id: String,
        client_secret: Option<Arc<str>>,
        scope: String,
        name_claim: String,
    ) -> Self {
        let said = issuer.as_str().trim_end_matches('/').to_owned();
        let from = KeysFrom::Issuer(issuer.clone());
        let keys = KeySet::new(ISSUER, from, KEYS_REFRESH, KEYS_REFRESH_MIN);
        let person =
            Mapping { claim: None, has: String::new(), role: Role::Submitter, bounds: Bounds::default() };
        let verifier = Verifier::new(vec![Issuer {
            name: ISSUER.to_owned(),
            keys: Keys::Set(Arc::new(keys)),
            algorithms: BY_KEYS.to_vec(),
            issuer: Some(said),
            audience: vec![client_id.clone()],
            must_expire: true,
            name_claim,
            nameless: None,
            mappings: vec![person],
        }]);
        Self { issuer, client_id, client_secret, scope, verifier }
    }

    /// What it says of itself.
    async fn described(&self) -> Result<Map<String, Value>, Refusal> {
        let base = self.issuer.as_str().trim_end_matches('/');
        let http = outward::client(ANSWER_MAX).map_err(away)?;
        let url = format!("{base}/.well-known/openid-configuration");
        let (status, said) = read(http.get(url).send().await.map_err(away)?).await?;
        if status.is_success() { Ok(said) } else { Err(odd(&format!("it answered {status}"))) }
    }

    /// Asks it by a form.
    async fn ask(
        &self,
        url: &str,
        pairs: &[(&str, &str)],
    ) -> Result<(StatusCode, Map<String, Value>), Refusal> {
        let own = [("client_id", Some(&*self.client_id)), ("client_secret", self.client_secret.as_deref())];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(own)
            .extend_pairs(pairs.iter().copied())
            .finish();
        let http = outward::client(ANSWER_MAX).map_err(away)?;
        let request = http.post(url).header(header::ACCEPT, "application/json");
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        read(request.body(form).send().await.map_err(away)?).await
    }
}

impl PartialEq for Oidc {
    fn eq(&self, other: &Self) -> bool {
        let place = |one: &Self| (one.issuer.clone(), one.client_id.clone(), one.scope.clone());
        place(self) == place(other)
    }
}

impl Eq for Oidc {}

impl fmt::Debug for Oidc {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oidc({} as {})", self.issuer, self.client_id)
    }
}

fn away(error: reqwest::Error) -> Refusal {
    odd(&error.without_url().to_string())
}

fn odd(why: &str) -> Refusal {
    tracing::warn!(why, "the provider of logins cannot be asked");
    Refusal::Abort(StatusCode::BAD_GATEWAY, format!("The OIDC provider cannot be asked: {why}"))
}

async fn read(mut response: Response) -> Result<(StatusCode, Map<String, Value>), Refusal> {
    let status = response.status();
    let mut bytes = Vec::new();
    while let Some(more) = response.chunk().await.map_err(away)? {
        bytes.extend_from_slice(&more);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(odd("its answer is too long"));
        }
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(said)) => Ok((status, said)),
        _ => Err(odd(&format!("it answered {status}, and no JSON object"))),
    }
}

fn provider(state: &ApiState) -> Result<&Oidc, Refusal> {
    let missing = || Refusal::Text(StatusCode::NOT_FOUND, "Not found: no provider is configured".to_owned());
    state.testflinger().oidc.as_ref().ok_or_else(missing)
}

fn text<'s>(said: &'s Map<String, Value>, field: &str) -> Result<&'s str, Refusal> {
    said.get(field).and_then(Value::as_str).ok_or_else(|| odd(&format!("it says no `{field}`")))
}

/// `POST /oidc/auth-init`: what the provider says of a new login, without what only this server is to know.
pub(crate) async fn begin(State(state): State<ApiState>) -> Answer {
    let provider = provider(&state)?;
    let described = provider.described().await?;
    let device = text(&described, "device_authorization_endpoint")?;
    let (status, mut said) = provider.ask(device, &[("scope", &provider.scope)]).await?;
    if !status.is_success() {
        return Err(odd(&format!("it answered {status}")));
    }
    let code = said.remove("device_code");
    let code = code.as_ref().and_then(Value::as_str).ok_or_else(|| odd("it says no `device_code`"))?;
    let seconds = said.get("expires_in").and_then(Value::as_i64).unwrap_or(LOGIN_SECONDS);
    let login = json!({
        "device_code": code,
        "token_endpoint": text(&described, "token_endpoint")?,
        "interval": said.get("interval").and_then(Value::as_i64).unwrap_or(INTERVAL_SECONDS),
    });
    // Whoever knows it gets the tokens: nobody guesses it.
    let id = hex::encode(state.scheduler().ids().secret());
    let expires = state.scheduler().clock().now() + TimeDelta::seconds(seconds.clamp(1, LOGIN_SECONDS));
    state.scheduler().store().put_foreign_record(SYSTEM, LOGIN, &id, None, &login, Some(expires)).await?;
    said.insert("request_id".to_owned(), id.into());
    Ok(document(said))
}

/// `POST /oidc/auth-poll/<request_id>`: the tokens once the person has confirmed, else why there are none.
pub(crate) async fn poll(State(state): State<ApiState>, Path(id): Path<String>) -> Answer {
    let provider = provider(&state)?;
    let store = state.scheduler().store();
    let Some(login) = store.foreign_record(SYSTEM, LOGIN, &id).await? else {
        return Ok(refused("expired_token", None));
    };
    let said = |field: &str| login.body[field].as_str().unwrap_or_default();
    let pairs = [("grant_type", DEVICE_GRANT), ("device_code", said("device_code"))];
    let (status, answer) = provider.ask(said("token_endpoint"), &pairs).await?;
    if !status.is_success() {
        let error = text(&answer, "error")?;
        let waits = matches!(error, "authorization_pending" | "slow_down");
        if !waits {
            store.remove_foreign_record(SYSTEM, LOGIN, &id).await?;
        }
        let interval = login.body["interval"].as_i64().unwrap_or(INTERVAL_SECONDS);
        return Ok(refused(error, (error == "slow_down").then_some(interval + INTERVAL_SECONDS)));
    }
    // A code is good for one answer.
    store.remove_foreign_record(SYSTEM, LOGIN, &id).await?;
    let now = state.scheduler().clock().now();
    let who = provider.verifier.verify(text(&answer, "id_token")?, now).await.map_err(|why| {
        tracing::warn!(%why, "the provider's token is not believed");
        Refusal::forbidden(format!("The provider's token is not believed: {why}"))
    })?;
    let name = who.name.trim_start_matches(ISSUER).trim_start_matches('/');
    let client = clients::logged_in(&state, name).await?;
    tokens::issue(&state, &client).await
}

/// Why there are no tokens, in the words of the flow.
fn refused(error: &str, retry_after: Option<i64>) -> axum::response::Response {
    let refusal = Refusal::Document(StatusCode::BAD_REQUEST, json!({"error": error}));
    let mut response = refusal.into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
