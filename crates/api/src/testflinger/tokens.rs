//! Clients with their passwords, and the tokens that they get for them.

use super::{
    SYSTEM,
    answer::{Answer, Refusal, document, object},
    clients::{self, Client},
    who::Asker,
};
use crate::{
    jwt::{self, Algorithm, TOKEN_BYTES_MAX},
    state::ApiState,
};
use axum::{
    Extension,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{DecodingKey, Validation, decode, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// How long an access token is valid.
const ACCESS_SECONDS: i64 = 600;
/// By how much clocks may differ.
const LEEWAY_SECONDS: i64 = 5;
/// How long a refresh token is valid.
const REFRESH_DAYS: i64 = 6;
/// What its access tokens are for.
const SUBJECT: &str = "access_token";
/// The kinds of documents.
const REFRESH: &str = "refresh";
const KEY: &str = "key";

/// What an access token says.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    exp: i64,
    iat: i64,
    sub: String,
    permissions: Permissions,
}

/// What its owner may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Permissions {
    pub(crate) client_id: String,
    pub(crate) role: String,
    #[serde(default)]
    pub(crate) max_priority: Map<String, Value>,
    #[serde(default)]
    pub(crate) allowed_queues: Vec<String>,
    #[serde(default)]
    pub(crate) max_reservation_time: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) email: Option<String>,
}

/// The key that access tokens are signed with: made once, for all servers on this database.
async fn signing_key(state: &ApiState) -> Result<Vec<u8>, Refusal> {
    let store = state.scheduler().store();
    let broken = || Refusal::Abort(StatusCode::INTERNAL_SERVER_ERROR, "the signing key is broken".to_owned());
    for _ in 0..2 {
        if let Some(record) = store.foreign_record(SYSTEM, KEY, "signing").await? {
            let text = record.body.as_str().ok_or_else(broken)?;
            return hex::decode(text).map_err(|_| broken());
        }
        let made = Value::from(hex::encode(state.scheduler().ids().secret()));
        store.put_foreign_record(SYSTEM, KEY, "signing", None, &made, None).await?;
    }
    Err(broken())
}

async fn access_token(state: &ApiState, client: &Client) -> Result<String, Refusal> {
    let now = state.scheduler().clock().now().timestamp();
    let claims = Claims {
        exp: now + ACCESS_SECONDS,
        iat: now,
        sub: SUBJECT.to_owned(),
        permissions: clients::permissions(state, client).await?,
    };
    jwt::sign(&signing_key(state).await?, Algorithm::HS256, &claims)
        .map_err(|error| Refusal::Abort(StatusCode::INTERNAL_SERVER_ERROR, error))
}

/// What an access token says, when it is one of ours and its time is right.
pub(crate) async fn verify(state: &ApiState, token: &str) -> Result<Permissions, Refusal> {
    let refuse = |status, message: &str| Refusal::Abort(status, message.to_owned());
    if token.len() > TOKEN_BYTES_MAX {
        return Err(refuse(StatusCode::FORBIDDEN, "Unable to decode token"));
    }
    let mut validation = Validation::new(Algorithm::HS256);
    // By our clock, below.
    validation.validate_exp = false;
    validation.set_required_spec_claims(&["exp"]);
    let key = DecodingKey::from_secret(&signing_key(state).await?);
    let claims = decode::<Claims>(token, &key, &validation).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => refuse(StatusCode::FORBIDDEN, "Invalid Token signature"),
        ErrorKind::MissingRequiredClaim(claim) => {
            refuse(StatusCode::FORBIDDEN, &format!("Token missing required claim: {claim}"))
        }
        ErrorKind::InvalidAlgorithm => refuse(StatusCode::FORBIDDEN, "Invalid Token"),
        _ => refuse(StatusCode::FORBIDDEN, "Unable to decode token"),
    })?;
    let claims = claims.claims;
    let now = state.scheduler().clock().now().timestamp();
    if claims.exp + LEEWAY_SECONDS <= now {
        return Err(refuse(StatusCode::UNAUTHORIZED, "Token has expired"));
    }
    if claims.iat > now + LEEWAY_SECONDS {
        return Err(refuse(StatusCode::UNAUTHORIZED, "Token not yet valid"));
    }
    if claims.sub != SUBJECT {
        return Err(refuse(StatusCode::FORBIDDEN, "Invalid Token"));
    }
    Ok(claims.permissions)
}

/// `POST /v1/oauth2/token`
pub(crate) async fn token(State(state): State<ApiState>, headers: HeaderMap) -> Answer {
    let wrong = || Refusal::Text(StatusCode::UNAUTHORIZED, "Invalid client id or client key".to_owned());
    let (id, secret) = basic(&headers).ok_or_else(wrong)?;
    let client = clients::check_secret(&state, &id, &secret).await?.ok_or_else(wrong)?;
    issue(&state, &client).await
}

/// A client's tokens: one for a short while, and one by which it gets others.
pub(super) async fn issue(state: &ApiState, client: &Client) -> Answer {
    let ids = state.scheduler().ids();
    // 64 characters, as long as its own.
    let refresh = hex::encode(ids.secret());
    let expires = state.scheduler().clock().now() + TimeDelta::days(REFRESH_DAYS);
    let body = json!({"client_id": client.id, "expires_at": expires, "revoked": false});
    // Kept as long again, so that one that has expired is told from one that never was.
    let forgotten = expires + TimeDelta::days(REFRESH_DAYS);
    let name = hash(&refresh);
    let store = state.scheduler().store();
    store.put_foreign_record(SYSTEM, REFRESH, &name, None, &body, Some(forgotten)).await?;
    let access = access_token(state, client).await?;
    Ok(document(json!({
        "access_token": access, "token_type": "Bearer", "expires_in": ACCESS_SECONDS, "refresh_token": refresh,
    })))
}

/// Who and by which password.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, text) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || text.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

fn given(body: &Bytes) -> Result<String, Refusal> {
    match object(body)?.get("refresh_token") {
        Some(Value::String(token)) if token.is_empty() => {
            Err(Refusal::field("refresh_token", "Shorter than minimum length 1."))
        }
        Some(Value::String(token)) => Ok(token.clone()),
        Some(_) => Err(Refusal::field("refresh_token", "Not a valid string.")),
        None => Err(Refusal::field("refresh_token", "Missing data for required field.")),
    }
}

/// `POST /v1/oauth2/refresh`
pub(crate) async fn refresh(State(state): State<ApiState>, body: Bytes) -> Answer {
    let token = given(&body)?;
    let found = state.scheduler().store().foreign_record(SYSTEM, REFRESH, &hash(&token)).await?;
    let record = found.ok_or_else(|| Refusal::bad("Invalid refresh token."))?.body;
    if record["revoked"] == true {
        return Err(Refusal::bad("Refresh token revoked."));
    }
    let expires = record["expires_at"].as_str().and_then(|at| at.parse::<DateTime<Utc>>().ok());
    if expires.is_none_or(|expires| expires <= state.scheduler().clock().now()) {
        return Err(Refusal::bad("Refresh token expired."));
    }
    let id = record["client_id"].as_str().unwrap_or_default();
    let client = clients::find(&state, id).await?.ok_or_else(|| Refusal::bad("Invalid refresh token."))?;
    let access = access_token(&state, &client).await?;
    Ok(document(json!({"access_token": access, "token_type": "Bearer", "expires_in": ACCESS_SECONDS})))
}

/// `POST /v1/oauth2/revoke`
pub(crate) async fn revoke(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    body: Bytes,
) -> Answer {
    let name = hash(&given(&body)?);
    let store = state.scheduler().store();
    let found = store.foreign_record(SYSTEM, REFRESH, &name).await?;
    let mut record = found.ok_or_else(|| Refusal::bad("Refresh token not found"))?;
    if record.body["revoked"] == true {
        return Err(Refusal::bad("Refresh token has already been revoked"));
    }
    record.body["revoked"] = true.into();
    let version = Some(record.version);
    store.put_foreign_record(SYSTEM, REFRESH, &name, version, &record.body, record.expires_at).await?;
    let object = format!("client/{}", record.body["client_id"].as_str().unwrap_or_default());
    clients::audit(&state, &asker, "token.revoke", object, json!({})).await?;
    Ok(document(json!({"status": "OK"})))
}
