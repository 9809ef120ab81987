//! Clients: who they are, what they may do, and which queues are only for some of them.

use super::{
    SYSTEM,
    agents::change,
    answer::{Answer, Refusal, document, object, ok, text},
    tokens::Permissions,
    who::Asker,
};
use crate::state::ApiState;
use argon2::Argon2;
use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::{AuditRecord, Role};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// The shortest password of a client, in characters.
const SECRET_CHARS_MIN: usize = 15;
/// The longest, in bytes.
const SECRET_BYTES_MAX: usize = 1024;
/// How many passwords are hashed at the same time: each takes 19 MiB and some ten milliseconds of a processor.
const HASHED_AT_ONCE: usize = 2;
/// Testflinger's own administrator, whom nobody changes by this interface.
const PROTECTED: &str = "testflinger-admin";
/// The kinds of documents.
const CLIENT: &str = "client";
const RESTRICTED: &str = "restricted";

static HASHING: Semaphore = Semaphore::const_new(HASHED_AT_ONCE);

/// A client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Client {
    #[serde(skip)]
    pub(crate) id: String,
    secret_hash: String,
    #[serde(default)]
    max_priority: Map<String, Value>,
    #[serde(default)]
    max_reservation_time: Map<String, Value>,
    role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// Whether it is a person who logs in at a provider, and so has no password here.
    #[serde(default)]
    oidc: bool,
}

/// A role in Testflinger's words.
pub(crate) fn role(word: &str) -> Option<Role> {
    match word {
        "contributor" => Some(Role::Submitter),
        "agent" => Some(Role::Agent),
        "manager" => Some(Role::Manager),
        "admin" => Some(Role::Admin),
        _ => None,
    }
}

/// How high a role stands: an agent below all.
const fn rank(role: Role) -> u8 {
    match role {
        Role::Viewer | Role::Agent => 0,
        Role::Submitter => 1,
        Role::Manager => 2,
        Role::Admin => 3,
    }
}

pub(crate) async fn find(state: &ApiState, id: &str) -> Result<Option<Client>, Refusal> {
    let found = state.scheduler().store().foreign_record(SYSTEM, CLIENT, id).await?;
    Ok(found.and_then(|record| {
        let client: Client = serde_json::from_value(record.body).ok()?;
        Some(Client { id: record.name, ..client })
    }))
}

/// The client that a person is who logged in at a provider; made by the first login.
pub(super) async fn logged_in(state: &ApiState, name: &str) -> Result<Client, Refusal> {
    super::agents::check_name(name)?;
    change(state, CLIENT, name, |there| match there {
        Some(_) => None,
        None => Some(json!({"role": "contributor", "secret_hash": "", "email": name, "oidc": true})),
    })
    .await?;
    // Whoever has a password here is not whom a provider calls so.
    let client = find(state, name).await?.filter(|client| client.oidc);
    client.ok_or_else(|| Refusal::forbidden(format!("A client with a password is called {name}.")))
}

/// The client whose password this is.
pub(crate) async fn check_secret(
    state: &ApiState,
    id: &str,
    secret: &str,
) -> Result<Option<Client>, Refusal> {
    if secret.len() > SECRET_BYTES_MAX {
        return Ok(None);
    }
    let client = find(state, id).await?;
    // For an unknown one as much is done, so that nobody learns who is known by how long it takes.
    let kept = client.as_ref().map(|client| client.secret_hash.clone()).unwrap_or_default();
    let salt = kept.split_once('$').map_or_else(|| "0".repeat(32), |(salt, _)| salt.to_owned());
    let found = hash_with(salt, secret.to_owned()).await?;
    Ok(client.filter(|_| bool::from(found.as_bytes().ct_eq(kept.as_bytes()))))
}

async fn hashed(state: &ApiState, secret: &str) -> Result<String, Refusal> {
    let salt = hex::encode(&state.scheduler().ids().secret()[..16]);
    hash_with(salt, secret.to_owned()).await
}

/// `SALT$HASH` by Argon2id with its default costs, in hexadecimal digits.
async fn hash_with(salt: String, secret: String) -> Result<String, Refusal> {
    let hash = hashing(move || {
        let mut hash = [0; 32];
        let bytes = hex::decode(&salt).ok()?;
        Argon2::default().hash_password_into(secret.as_bytes(), &bytes, &mut hash).ok()?;
        Some(format!("{salt}${}", hex::encode(hash)))
    })
    .await?;
    let failed = || Refusal::Abort(StatusCode::INTERNAL_SERVER_ERROR, "the password cannot be hashed".into());
    hash.ok_or_else(failed)
}

/// Runs what takes a processor for long beside the requests, a few at a time.
async fn hashing<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let busy = || Refusal::Abort(StatusCode::SERVICE_UNAVAILABLE, "passwords cannot be checked now".into());
    let _place = HASHING.acquire().await.map_err(|_| busy())?;
    tokio::task::spawn_blocking(work).await.map_err(|_| busy())
}

/// The owners of restricted queues, by queue.
pub(crate) async fn restricted(state: &ApiState) -> Result<Map<String, Value>, Refusal> {
    let all = state.scheduler().store().foreign_records(SYSTEM, RESTRICTED).await?;
    Ok(all.into_iter().map(|record| (record.name, record.body)).collect())
}

/// Whether a client is among the owners of a queue.
pub(crate) fn owns(owners: &Value, client: &str) -> bool {
    owners.as_array().is_some_and(|owners| owners.iter().any(|owner| owner == client))
}

/// What a client's tokens say.
pub(crate) async fn permissions(state: &ApiState, client: &Client) -> Result<Permissions, Refusal> {
    let queues = restricted(state).await?;
    let own = queues.into_iter().filter(|(_, owners)| owns(owners, &client.id));
    Ok(Permissions {
        client_id: client.id.clone(),
        role: client.role.clone(),
        max_priority: client.max_priority.clone(),
        allowed_queues: own.map(|(queue, _)| queue).collect(),
        max_reservation_time: client.max_reservation_time.clone(),
        email: client.email.clone(),
    })
}

pub(super) async fn audit(
    state: &ApiState,
    asker: &Asker,
    action: &str,
    object: String,
    detail: Value,
) -> Result<(), Refusal> {
    let record = AuditRecord {
        at: state.scheduler().clock().now(),
        who: asker.name.clone(),
        action: format!("testflinger.{action}"),
        object,
        detail,
    };
    Ok(state.scheduler().store().audit(&record).await?)
}

/// `GET /v1/restricted-queues`
pub(crate) async fn restricted_queues(State(state): State<ApiState>) -> Answer {
    let all = restricted(&state).await?;
    Ok(document(
        all.into_iter().map(|(queue, owners)| json!({"queue": queue, "owners": owners})).collect::<Vec<_>>(),
    ))
}

/// `GET /v1/restricted-queues/<queue>`
pub(crate) async fn restricted_queue(State(state): State<ApiState>, Path(queue): Path<String>) -> Answer {
    let found = state.scheduler().store().foreign_record(SYSTEM, RESTRICTED, &queue).await?;
    let record = found.ok_or_else(|| Refusal::not_found("Restricted queue not found."))?;
    Ok(document(json!({"queue": queue, "owners": record.body})))
}

/// The id of the client that a body names.
fn named(body: &Bytes) -> Result<String, Refusal> {
    match object(body)?.get("client_id") {
        Some(Value::String(id)) if !id.is_empty() => Ok(id.clone()),
        _ => Err(Refusal::bad("Missing client_id.")),
    }
}

/// `POST /v1/restricted-queues/<queue>`
pub(crate) async fn restrict(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path(queue): Path<String>,
    body: Bytes,
) -> Answer {
    let id = named(&body)?;
    find(&state, &id).await?.ok_or_else(|| Refusal::not_found("Client not found."))?;
    if !super::queues::is_known(&state, &queue).await? {
        return Err(Refusal::not_found("Queue not found."));
    }
    change(&state, RESTRICTED, &queue, |before| {
        let mut owners = before.and_then(Value::as_array).cloned().unwrap_or_default();
        if !owners.iter().any(|owner| *owner == id) {
            owners.push(id.clone().into());
        }
        Some(owners.into())
    })
    .await?;
    audit(&state, &asker, "queue.restrict", format!("queue/{queue}"), json!({"client_id": id})).await?;
    Ok(ok())
}

/// `DELETE /v1/restricted-queues/<queue>`: the whole restriction goes, whoever else owns the queue.
pub(crate) async fn unrestrict(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path(queue): Path<String>,
    body: Bytes,
) -> Answer {
    // Of one that is gone, too.
    let id = named(&body)?;
    if !state.scheduler().store().remove_foreign_record(SYSTEM, RESTRICTED, &queue).await? {
        return Err(Refusal::not_found("Restricted queue not found."));
    }
    audit(&state, &asker, "queue.unrestrict", format!("queue/{queue}"), json!({"client_id": id})).await?;
    Ok(ok())
}

/// `GET /v1/client-permissions`
pub(crate) async fn list(State(state): State<ApiState>) -> Answer {
    let mut all = Vec::new();
    for record in state.scheduler().store().foreign_records(SYSTEM, CLIENT).await? {
        if let Some(client) = find(&state, &record.name).await? {
            all.push(permissions(&state, &client).await?);
        }
    }
    Ok(document(all))
}

/// `GET /v1/client-permissions/<id>`
pub(crate) async fn show(State(state): State<ApiState>, Path(id): Path<String>) -> Answer {
    let client = find(&state, &id).await?.ok_or_else(|| Refusal::not_found("Client not found."))?;
    Ok(document(permissions(&state, &client).await?))
}

fn protected(id: &str) -> Result<(), Refusal> {
    if id == PROTECTED {
        return Err(Refusal::unprocessable(format!("{PROTECTED} cannot be changed.")));
    }
    super::agents::check_name(id)
}

/// What is to be changed of a client.
fn read(body: &Bytes) -> Result<(Map<String, Value>, Option<String>), Refusal> {
    let mut body = object(body)?;
    let mut wrong = Map::new();
    for (field, value) in &body {
        let limits = || value.as_object().is_some_and(|map| map.values().all(Value::is_i64));
        let message = match field.as_str() {
            "client_secret" => match value.as_str() {
                Some(text) if text.chars().count() < SECRET_CHARS_MIN => {
                    Some(format!("Shorter than minimum length {SECRET_CHARS_MIN}."))
                }
                Some(text) if text.len() > SECRET_BYTES_MAX => Some("Longer than maximum length.".to_owned()),
                Some(_) => None,
                None => Some("Not a valid string.".to_owned()),
            },
            "max_priority" | "max_reservation_time" => {
                (!limits()).then(|| "Not a valid mapping type.".to_owned())
            }
            "role" => value
                .as_str()
                .and_then(role)
                .is_none()
                .then(|| "Must be one of: admin, manager, contributor, agent.".to_owned()),
            "email" => (!value.is_string()).then(|| "Not a valid string.".to_owned()),
            "client_id" => None,
            _ => Some("Unknown field.".to_owned()),
        };
        wrong.extend(message.map(|message| (field.clone(), json!([message]))));
    }
    if !wrong.is_empty() {
        return Err(Refusal::Invalid("json", wrong));
    }
    let secret = body.remove("client_secret").and_then(|secret| secret.as_str().map(str::to_owned));
    body.remove("client_id");
    Ok((body, secret))
}

/// `PUT /v1/client-permissions/<id>`
pub(crate) async fn put(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    protected(&id)?;
    let (fields, secret) = read(&body)?;
    let before = find(&state, &id).await?;
    let is_person = before.as_ref().is_some_and(|client| client.oidc);
    if is_person && (secret.is_some() || fields.contains_key("email")) {
        let why = format!("{id} logs in at the provider, which says the address, and has no password.");
        return Err(Refusal::unprocessable(why));
    }
    let above = || Refusal::forbidden("A role above your own cannot be given.");
    let wanted = fields.get("role").and_then(Value::as_str).and_then(role);
    let had = before.as_ref().and_then(|client| role(&client.role));
    if [wanted, had].into_iter().flatten().any(|role| rank(role) > rank(asker.role)) {
        return Err(above());
    }
    let hash = match &secret {
        Some(secret) => Some(hashed(&state, secret).await?),
        None if before.is_none() => return Err(Refusal::bad("A new client needs a client_secret.")),
        None => None,
    };
    change(&state, CLIENT, &id, |there| {
        let mut all = there.and_then(Value::as_object).cloned().unwrap_or_default();
        all.entry("role").or_insert_with(|| "contributor".into());
        all.extend(fields.clone());
        all.extend(hash.clone().map(|hash| ("secret_hash".to_owned(), hash.into())));
        Some(Value::Object(all))
    })
    .await?;
    audit(&state, &asker, "client.put", format!("client/{id}"), Value::Object(fields)).await?;
    let done = if before.is_some() { "Updated" } else { "Created" };
    Ok(text(StatusCode::OK, format!("{done} permissions for client '{id}'")))
}

/// `DELETE /v1/client-permissions/<id>`
pub(crate) async fn remove(
    State(state): State<ApiState>,
    Extension(asker): Extension<Asker>,
    Path(id): Path<String>,
) -> Answer {
    protected(&id)?;
    if !state.scheduler().store().remove_foreign_record(SYSTEM, CLIENT, &id).await? {
        return Err(Refusal::not_found("Client not found."));
    }
    audit(&state, &asker, "client.delete", format!("client/{id}"), json!({})).await?;
    Ok(ok())
}
