//! Nodes: listing, locking, and how jobs on them ended.

use super::{
    answer::{Answer, Refusal, document, done, raw},
    ask::{Ask, required, whole},
    jobs::listed,
    shape::{self, push_object},
};
use axum::{body::Body, http::Method};
use chrono::TimeDelta;
use model::paddles::{JOB_STATUSES, JobStatus, LockError, Node};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use store::{PADDLES_ROWS_MAX, PaddlesJobQuery, PaddlesNodeChange, PaddlesNodeQuery, PaddlesNodes};

/// The longest text that is kept of a node, in bytes.
const NODE_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Over how many days jobs are counted where nothing is said.
const STATS_DAYS: u32 = 14;
/// How many jobs of a node are shown where nothing is said.
const JOBS_DEFAULT: u32 = PADDLES_ROWS_MAX;
/// What a request for several nodes must say.
const LOCK_KEYS: [&str; 4] = ["count", "locked_by", "machine_type", "description"];
/// What a request to give several nodes back says, and nothing else.
const UNLOCK_KEYS: [&str; 2] = ["names", "locked_by"];

fn no_node() -> Refusal {
    Refusal::not_found("node not found")
}

fn refused(error: LockError) -> Refusal {
    match error {
        LockError::Nobody | LockError::NobodyUnlocks => Refusal::bad(error.to_string()),
        _ => Refusal::forbidden(error.to_string()),
    }
}

/// `a|b`
fn kinds(text: &str) -> Vec<String> {
    text.split('|').map(str::trim).filter(|kind| !kind.is_empty()).map(str::to_owned).collect()
}

/// `GET /nodes/`
pub(crate) async fn list(ask: &Ask) -> Answer {
    let text = |name: &str| ask.text(name).map(str::to_owned);
    let query = PaddlesNodeQuery {
        locked: ask.truth("locked")?,
        machine_types: ask.text("machine_type").map(kinds).unwrap_or_default(),
        os_type: text("os_type"),
        os_version: text("os_version"),
        arch: text("arch"),
        locked_by: text("locked_by"),
        up: ask.truth("up")?,
        limit: ask.number("count")?,
    };
    let nodes = ask.store().paddles_nodes(&query).await?;
    Ok(document(nodes.iter().map(shape::node).collect::<Vec<_>>()))
}

/// What a body says of a node.
fn read(body: &Map<String, Value>) -> Result<PaddlesNodeChange, Refusal> {
    let mut change = PaddlesNodeChange::default();
    for (key, value) in body {
        let text = || match value {
            Value::Null => Ok(None),
            Value::String(text) if text.len() <= NODE_TEXT_BYTES_MAX => Ok(Some(text.clone())),
            Value::Number(number) => Ok(Some(number.to_string())),
            _ => Err(Refusal::bad(format!("{key} must be a text of at most {NODE_TEXT_BYTES_MAX} bytes"))),
        };
        let node = &mut change.node;
        match key.as_str() {
            "description" => {
                node.description = text()?;
                change.description = text()?;
            }
            "up" => node.up = truth(key, value)?,
            "is_vm" => node.is_vm = truth(key, value)?.unwrap_or(false),
            "locked" => change.locked = truth(key, value)?,
            "locked_by" => change.locked_by = text()?,
            "machine_type" => node.machine_type = text()?,
            "vm_host" => node.vm_host = text()?,
            "os_type" => node.os_type = text()?,
            "os_version" => node.os_version = text()?,
            "arch" => node.arch = text()?,
            "mac_address" => node.mac_address = text()?,
            "ssh_pub_key" => node.ssh_pub_key = text()?,
            _ => continue,
        }
        change.keys.push(key.clone());
    }
    Ok(change)
}

fn truth(key: &str, value: &Value) -> Result<Option<bool>, Refusal> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(truth) => Ok(Some(*truth)),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        other => Err(Refusal::bad(format!("{key} {other} is neither true nor false"))),
    }
}

/// `POST /nodes/`
pub(crate) async fn add(ask: &Ask) -> Answer {
    let body = ask.object()?;
    let name = required(&body, "name")?;
    if name.len() > NODE_TEXT_BYTES_MAX || name.contains(|c: char| c.is_control() || c == '/') {
        return Err(Refusal::bad("the name of a node has no slash"));
    }
    let change = read(&body)?;
    let mut node = Node { name: name.to_owned(), ..change.node };
    if change.locked == Some(true) {
        // One that is new may be locked for nobody in particular.
        (node.locked, node.locked_since, node.locked_by) = (true, Some(ask.now()), change.locked_by);
    }
    if !ask.store().add_paddles_node(&node).await? {
        return Err(Refusal::bad(format!("Node with name {name} already exists")));
    }
    ask.audit("paddles.node.add", format!("node/{name}"), json!({})).await?;
    Ok(done())
}

/// `GET /nodes/<name>/`
pub(crate) async fn show(ask: &Ask, name: &str) -> Answer {
    let node = ask.store().paddles_node(name).await?.ok_or_else(no_node)?;
    Ok(document(shape::node(&node)))
}

/// `PUT /nodes/<name>/`
pub(crate) async fn change(ask: &Ask, name: &str) -> Answer {
    let change = read(&ask.object()?)?;
    match ask.store().change_paddles_node(name, &change).await? {
        PaddlesNodes::Done(_) => {
            ask.audit("paddles.node.change", format!("node/{name}"), json!({"keys": change.keys})).await?;
            Ok(done())
        }
        PaddlesNodes::Refused(error) => Err(refused(error)),
        _ => Err(Refusal::not_found("attempted to update a non-existent node")),
    }
}

/// `DELETE /nodes/<name>/`
pub(crate) async fn remove(ask: &Ask, name: &str) -> Answer {
    if !ask.store().remove_paddles_node(name).await? {
        return Err(Refusal::not_found("attempted to delete a non-existent node"));
    }
    ask.audit("paddles.node.delete", format!("node/{name}"), json!({})).await?;
    Ok(done())
}

/// `PUT /nodes/<name>/lock`
pub(crate) async fn lock(ask: &Ask, name: &str) -> Answer {
    let change = read(&ask.object()?)?;
    let nodes = match ask.store().change_paddles_node(name, &change).await? {
        PaddlesNodes::Done(nodes) => nodes,
        PaddlesNodes::Refused(error) => return Err(refused(error)),
        _ => return Err(no_node()),
    };
    // Without `locked` it only asks, and says what else is new.
    let action = match change.locked {
        Some(true) => "paddles.node.lock",
        Some(false) => "paddles.node.unlock",
        None => "paddles.node.change",
    };
    ask.audit(action, format!("node/{name}"), json!({"locked_by": change.locked_by})).await?;
    Ok(document(nodes.first().map(|node| {
        json!({
            "name": node.name,
            "locked": node.locked,
            "locked_by": node.locked_by,
            "machine_type": node.machine_type,
            "is_vm": node.is_vm,
        })
    })))
}

/// What `/nodes/<name>/lock` says to other methods.
pub(crate) async fn lock_by(ask: &Ask, method: &Method, name: &str) -> Answer {
    ask.store().paddles_node(name).await?.ok_or_else(no_node)?;
    Err(Refusal::bad(format!("this URI only supports PUT and POST requests but {method} was attempted")))
}

/// `POST /nodes/lock_many/`
pub(crate) async fn lock_many(ask: &Ask) -> Answer {
    let body = ask.object()?;
    let fields = || Refusal::bad(format!("must pass these fields: {}", LOCK_KEYS.join(", ")));
    if LOCK_KEYS.iter().any(|key| !body.contains_key(*key)) {
        return Err(fields());
    }
    let count = body.get("count").and_then(whole).ok_or_else(|| Refusal::bad("count must be an integer"))?;
    if count < 1 {
        return Err(Refusal::bad("cannot lock less than 1 node"));
    }
    let text = |key: &str| body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let owner = text("locked_by").ok_or_else(|| refused(LockError::Nobody))?;
    let machine_types = text("machine_type").map(kinds).filter(|kinds| !kinds.is_empty());
    let machine_types = machine_types.ok_or_else(|| Refusal::bad("must specify machine_type"))?;
    // A version may be written as a number.
    let own = |key: &str| match body.get(key) {
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => text(key).map(str::to_owned),
    };
    let query = PaddlesNodeQuery {
        machine_types,
        os_type: own("os_type"),
        os_version: own("os_version"),
        arch: own("arch"),
        ..PaddlesNodeQuery::default()
    };
    let wanted = u32::try_from(count).unwrap_or(u32::MAX).min(PADDLES_ROWS_MAX);
    let done = ask.store().lock_paddles_nodes(&query, wanted, owner, text("description")).await?;
    let nodes = many(done)?;
    let names: Vec<_> = nodes.iter().map(|node| &node.name).collect();
    ask.audit(
        "paddles.node.lock",
        format!("nodes/{}", nodes.len()),
        json!({"names": names, "locked_by": owner}),
    )
    .await?;
    Ok(document(nodes.iter().map(shape::node).collect::<Vec<_>>()))
}

/// `POST /nodes/unlock_many/`
pub(crate) async fn unlock_many(ask: &Ask) -> Answer {
    let body = ask.object()?;
    let fields = || Refusal::bad(format!("must pass these fields: {}", UNLOCK_KEYS.join(", ")));
    if body.len() != UNLOCK_KEYS.len() || UNLOCK_KEYS.iter().any(|key| !body.contains_key(*key)) {
        return Err(fields());
    }
    let names = body.get("names").and_then(Value::as_array).ok_or_else(fields)?;
    let names: Option<Vec<_>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
    let names = names.filter(|names| names.len() <= PADDLES_ROWS_MAX as usize).ok_or_else(fields)?;
    let owner = body.get("locked_by").and_then(Value::as_str).ok_or_else(fields)?;
    let nodes = many(ask.store().unlock_paddles_nodes(&names, owner).await?)?;
    ask.audit(
        "paddles.node.unlock",
        format!("nodes/{}", nodes.len()),
        json!({"names": names, "locked_by": owner}),
    )
    .await?;
    Ok(document(nodes.iter().map(shape::node).collect::<Vec<_>>()))
}

fn many(done: PaddlesNodes) -> Result<Vec<Node>, Refusal> {
    match done {
        PaddlesNodes::Done(nodes) => Ok(nodes),
        PaddlesNodes::Short(free) => Err(Refusal::unavailable(format!("only {free} nodes available"))),
        PaddlesNodes::Refused(error) => Err(refused(error)),
        PaddlesNodes::Missing => Err(Refusal::bad("Could not find all nodes!")),
    }
}

/// `GET /nodes/<name>/jobs/`
pub(crate) async fn jobs(ask: &Ask, name: &str) -> Answer {
    if ask.store().paddles_node(name).await?.is_none() {
        return Err(no_node());
    }
    let (limit, offset) = ask.page(JOBS_DEFAULT)?;
    let query = PaddlesJobQuery {
        node: Some(name.to_owned()),
        name: ask.text("name").map(str::to_owned),
        status: ask.text("status").map(str::to_owned),
        limit,
        offset,
        ..PaddlesJobQuery::default()
    };
    listed(ask, query).await
}

/// `GET /nodes/job_stats/` and `GET /nodes/<name>/job_stats/`
pub(crate) async fn stats(ask: &Ask, name: Option<&str>) -> Answer {
    if let Some(name) = name {
        if ask.store().paddles_node(name).await?.is_none() {
            return Err(no_node());
        }
        let mut stats = ask.store().paddles_node_stats(Some(name), None, None).await?;
        let counted = stats.remove(name).unwrap_or_default();
        let count = |status: JobStatus| counted.get(status.as_str()).copied().unwrap_or_default();
        let all = JOB_STATUSES.into_iter().map(|status| (status.as_str(), count(status)));
        return Ok(document(all.collect::<BTreeMap<_, _>>()));
    }
    let days = ask.number("since_days")?.unwrap_or(STATS_DAYS);
    if days == 0 {
        return Err(Refusal::bad("since_days must be a positive integer"));
    }
    let since = ask.now().checked_sub_signed(TimeDelta::days(i64::from(days)));
    let stats = ask.store().paddles_node_stats(None, ask.text("machine_type"), since).await?;
    let mut stats: Vec<_> = stats.into_iter().collect();
    stats.sort_by_key(|(_, counted)| counted.values().sum::<u64>());
    let mut text = String::new();
    let entries = stats.iter().map(|(node, counted)| (node.as_str(), json!(counted).to_string()));
    push_object(&mut text, entries);
    Ok(raw(Body::from(text)))
}

/// `GET /nodes/machine_types/`
pub(crate) async fn machine_types(ask: &Ask) -> Answer {
    Ok(document(ask.store().paddles_machine_types().await?))
}
