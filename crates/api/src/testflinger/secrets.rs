//! Clients' secrets: sealed at rest, and given only to the agent that runs a job of that client.

use super::{
    SYSTEM,
    answer::{Answer, Refusal, document, object, ok, time},
    clients,
    who::Asker,
};
use crate::state::ApiState;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::TimeDelta;
use model::Task;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};

/// The shortest key file, in bytes.
pub const KEY_BYTES_MIN: usize = 32;
/// The kind of documents.
const SECRET: &str = "secret";
/// The largest secret in bytes.
const SECRET_BYTES_MAX: usize = 64 * 1024;
/// The longest path of one, in bytes.
const PATH_BYTES_MAX: usize = 512;
/// The latest expiry, in seconds.
const EXPIRE_SECONDS_MAX: i64 = 10 * 366 * 24 * 3600;

/// What secrets are sealed with.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey(Arc<[u8; 32]>);

impl SealKey {
    /// The key, from a file's content; `None` when that is shorter than [`KEY_BYTES_MIN`].
    #[must_use]
    pub fn new(content: &[u8]) -> Option<Self> {
        (content.len() >= KEY_BYTES_MIN).then(|| Self(Arc::new(Sha256::digest(content).into())))
    }

    fn cipher(&self) -> Option<RandomizedNonceKey> {
        RandomizedNonceKey::new(&AES_256_GCM, &self.0[..]).ok()
    }

    /// Sealed for its name: moved to another one it cannot be opened.
    fn seal(&self, name: &str, value: &str) -> Option<String> {
        let mut bytes = value.as_bytes().to_vec();
        let nonce = self.cipher()?.seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut bytes).ok()?;
        bytes.splice(..0, nonce.as_ref().iter().copied());
        Some(STANDARD.encode(bytes))
    }

    fn open(&self, name: &str, sealed: &str) -> Option<String> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, rest) = bytes.split_at_checked(NONCE_LEN)?;
        let mut rest = rest.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = self.cipher()?.open_in_place(nonce, Aad::from(name.as_bytes()), &mut rest).ok()?;
        String::from_utf8(opened.to_vec()).ok()
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}

fn name(client: &str, path: &str) -> String {
    format!("{client}/{path}")
}

fn is_path(path: &str) -> bool {
    let right = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    path.len() <= PATH_BYTES_MAX && path.split('/').all(right)
}

/// The key, when it is the asker's own secret at a path that there may be.
fn own<'a>(state: &'a ApiState, asker: &Asker, client: &str, path: &str) -> Result<&'a SealKey, Refusal> {
    if asker.client.as_ref().is_none_or(|own| own.client_id != client) {
        return Err(Refusal::forbidden("Only a client's own secrets can be changed."));
    }
    if !is_path(path) {
        return Err(Refusal::unprocessable("Invalid secret path."));
    }
    state.testflinger().secrets.as_ref().ok_or_else(|| Refusal::bad("No secrets store configured."))
}

/// `PUT /v1/secrets/<client>/<path>`
pub(crate) async fn put(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path((client, path)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let path = path.trim_end_matches('/');
    let key = own(&state, &asker, &client, path)?;
    let body = object(&body)?;
    let value = match body.get("value") {
        Some(Value::String(value)) if value.is_empty() => {
            return Err(Refusal::field("value", "Shorter than minimum length 1."));
        }
        Some(Value::String(value)) if value.len() <= SECRET_BYTES_MAX => value,
        Some(Value::String(_)) => return Err(Refusal::field("value", "Longer than maximum length.")),
        Some(_) => return Err(Refusal::field("value", "Not a valid string.")),
        None => return Err(Refusal::field("value", "Missing data for required field.")),
    };
    let after = match body.get("expire_after") {
        None | Some(Value::Null) => None,
        Some(seconds) => match seconds.as_i64() {
            Some(seconds @ 1..=EXPIRE_SECONDS_MAX) => Some(TimeDelta::seconds(seconds)),
            _ => return Err(Refusal::field("expire_after", "Must be greater than or equal to 1.")),
        },
    };
    let ephemeral = body.get("ephemeral").is_some_and(|value| value == true);
    if ephemeral && after.is_some() {
        return Err(Refusal::field("_schema", "Provide either 'ephemeral' or 'expire_after', not both."));
    }
    let name = name(&client, path);
    let sealed = key.seal(&name, value).ok_or_else(|| {
        Refusal::Abort(StatusCode::INTERNAL_SERVER_ERROR, "the secret cannot be sealed".to_owned())
    })?;
    let expires = after.map(|after| state.scheduler().clock().now() + after);
    let document_ = json!({"sealed": sealed, "ephemeral": ephemeral});
    let store = state.scheduler().store();
    // The newest counts, whatever was there.
    loop {
        let before = store.foreign_record(SYSTEM, SECRET, &name).await?.map(|record| record.version);
        if store.put_foreign_record(SYSTEM, SECRET, &name, before, &document_, expires).await? {
            break;
        }
    }
    clients::audit(&state, &asker, "secret.put", format!("secret/{name}"), json!({"ephemeral": ephemeral}))
        .await?;
    Ok(document(json!({"expires_at": expires.map(time)})))
}

/// `DELETE /v1/secrets/<client>/<path>`
pub(crate) async fn remove(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path((client, path)): Path<(String, String)>,
) -> Answer {
    let path = path.trim_end_matches('/');
    own(&state, &asker, &client, path)?;
    let name = name(&client, path);
    if state.scheduler().store().remove_foreign_record(SYSTEM, SECRET, &name).await? {
        clients::audit(&state, &asker, "secret.delete", format!("secret/{name}"), json!({})).await?;
    }
    Ok(ok())
}

/// The secrets that a job names: variable and path.
fn named(job: &Map<String, Value>) -> Vec<(String, String)> {
    let secrets = job.get("test_data").and_then(|data| data.get("secrets")).and_then(Value::as_object);
    let all = secrets.into_iter().flatten();
    all.filter_map(|(variable, path)| Some((variable.clone(), path.as_str()?.to_owned()))).collect()
}

/// Refuses a job that names secrets which its submitter has not.
pub(crate) async fn check(state: &ApiState, asker: &Asker, job: &Map<String, Value>) -> Result<(), Refusal> {
    for (_, path) in named(job) {
        let inaccessible = || Refusal::unprocessable(format!("Secret {path} is not accessible."));
        let client = asker.client.as_ref().ok_or_else(inaccessible)?;
        open(state, &client.client_id, &path).await?.ok_or_else(inaccessible)?;
    }
    Ok(())
}

async fn open(state: &ApiState, client: &str, path: &str) -> Result<Option<String>, Refusal> {
    let Some(key) = &state.testflinger().secrets else { return Ok(None) };
    let name = name(client, path);
    let found = state.scheduler().store().foreign_record(SYSTEM, SECRET, &name).await?;
    Ok(found.and_then(|record| key.open(&name, record.body["sealed"].as_str()?)))
}

/// Puts the values of its secrets into a job that is handed out; those that are gone, or nobody's, are empty.
pub(crate) async fn fill(state: &ApiState, task: &Task, job: &mut Map<String, Value>) -> Result<(), Refusal> {
    let secrets = named(job);
    if secrets.is_empty() {
        return Ok(());
    }
    let mut values = Map::new();
    for (variable, path) in secrets {
        let value = match super::who::client_of(task) {
            Some(client) => open(state, client, &path).await?,
            None => None,
        };
        values.insert(variable, value.unwrap_or_default().into());
    }
    if let Some(Value::Object(data)) = job.get_mut("test_data") {
        data.insert("secrets".to_owned(), Value::Object(values));
    }
    Ok(())
}

/// Forgets the secrets of a job that ended which were for one use.
pub(crate) async fn forget(state: &ApiState, task: &Task) -> Result<(), Refusal> {
    let Some(client) = super::who::client_of(task) else { return Ok(()) };
    let store = state.scheduler().store();
    for (_, path) in named(&super::view::submitted(task)) {
        let name = name(client, &path);
        let found = store.foreign_record(SYSTEM, SECRET, &name).await?;
        if found.is_some_and(|record| record.body["ephemeral"] == true) {
            store.remove_foreign_record(SYSTEM, SECRET, &name).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_secrets_open_under_their_name_and_key_only() {
        let key = SealKey::new(&[7; 32]).unwrap();
        let sealed = key.seal("me/a", "s3cret").unwrap();
        assert!(!sealed.contains("s3cret"));
        assert_eq!(key.open("me/a", &sealed).as_deref(), Some("s3cret"));
        assert_eq!(key.open("other/a", &sealed), None);
        assert_eq!(SealKey::new(&[8; 32]).unwrap().open("me/a", &sealed), None);
        assert_ne!(sealed, key.seal("me/a", "s3cret").unwrap());
        assert_eq!(SealKey::new(b"short"), None);
        for bad in ["", "a//b", "../x", "a b", "a/"] {
            assert!(!is_path(bad), "{bad}");
        }
        assert!(is_path("team/token_1"));
    }
}
