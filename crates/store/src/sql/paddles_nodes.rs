//! Nodes, and their locks.

use super::{
    session::{Session, Sql},
    value::{Row, Value, values},
    where_clause::Where,
};
use crate::{PADDLES_ROWS_MAX, PaddlesNodeChange, PaddlesNodeQuery, PaddlesNodes, Result};
use chrono::{DateTime, Utc};
use model::paddles::Node;
use std::collections::BTreeMap;

const COLUMNS: &str = "select n.name, n.description, n.up, n.machine_type, n.is_vm, n.vm_host, n.os_type, n.os_version, n.arch, \
    n.locked, n.locked_since, n.locked_by, n.mac_address, n.ssh_pub_key from paddles_node n";
const INSERT: &str = "insert into paddles_node (name, description, up, machine_type, is_vm, vm_host, os_type, os_version, arch, \
    locked, locked_since, locked_by, mac_address, ssh_pub_key) \
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) on conflict (name) do nothing";
const UPDATE: &str = "update paddles_node set description = $2, up = $3, machine_type = $4, is_vm = $5, vm_host = $6, \
    os_type = $7, os_version = $8, arch = $9, locked = $10, locked_since = $11, locked_by = $12, mac_address = $13, \
    ssh_pub_key = $14 where name = $1";
const REMOVE: &str = "delete from paddles_node where name = $1";
const MACHINE_TYPES: &str =
    "select distinct machine_type from paddles_node where machine_type is not null order by machine_type";
/// Whoever changes locks goes alone: so many are free, or not.
const LOCK: Sql = Sql {
    sqlite: "select 1 as one",
    postgres: "select 1::bigint as one, pg_advisory_xact_lock(7263)::text as locked",
};

fn read(row: &Row) -> Result<Node> {
    Ok(Node {
        name: row.text("name")?,
        description: row.text_opt("description")?,
        up: row.bool_opt("up")?,
        machine_type: row.text_opt("machine_type")?,
        is_vm: row.bool("is_vm")?,
        vm_host: row.text_opt("vm_host")?,
        os_type: row.text_opt("os_type")?,
        os_version: row.text_opt("os_version")?,
        arch: row.text_opt("arch")?,
        locked: row.bool("locked")?,
        locked_since: row.time_opt("locked_since")?,
        locked_by: row.text_opt("locked_by")?,
        mac_address: row.text_opt("mac_address")?,
        ssh_pub_key: row.text_opt("ssh_pub_key")?,
    })
}

fn node_values(node: &Node) -> Vec<Value> {
    values![
        &node.name,
        node.description.as_deref(),
        node.up,
        node.machine_type.as_deref(),
        node.is_vm,
        node.vm_host.as_deref(),
        node.os_type.as_deref(),
        node.os_version.as_deref(),
        node.arch.as_deref(),
        node.locked,
        node.locked_since,
        node.locked_by.as_deref(),
        node.mac_address.as_deref(),
        node.ssh_pub_key.as_deref(),
    ]
}

pub(crate) async fn one(session: &mut Session, name: &str) -> Result<Option<Node>> {
    session.first(format!("{COLUMNS} where n.name = $1"), values![name]).await?.as_ref().map(read).transpose()
}

pub(crate) async fn list(session: &mut Session, query: &PaddlesNodeQuery) -> Result<Vec<Node>> {
    let mut conditions = Where::new(session.dialect());
    conditions.maybe("n.locked = ?", query.locked);
    conditions.any_of("n.machine_type", query.machine_types.clone());
    conditions.maybe("n.os_type = ?", query.os_type.as_ref());
    conditions.maybe("n.os_version = ?", query.os_version.as_ref());
    conditions.maybe("n.arch = ?", query.arch.as_ref());
    conditions.maybe("n.locked_by = ?", query.locked_by.as_ref());
    conditions.maybe("n.up = ?", query.up);
    let (clause, mut values) = conditions.text();
    values.push(query.limit.unwrap_or(PADDLES_ROWS_MAX).min(PADDLES_ROWS_MAX).into());
    let n = values.len();
    let sql = format!("{COLUMNS} {clause} order by n.name limit ${n}");
    session.all(sql, values).await?.iter().map(read).collect()
}

pub(crate) async fn machine_types(session: &mut Session) -> Result<Vec<String>> {
    let rows = session.all(MACHINE_TYPES, Vec::new()).await?;
    rows.iter().map(|row| row.text("machine_type")).collect()
}

pub(crate) async fn add(session: &mut Session, node: &Node) -> Result<bool> {
    Ok(session.run(INSERT, node_values(node)).await? > 0)
}

pub(crate) async fn remove(session: &mut Session, name: &str) -> Result<bool> {
    Ok(session.run(REMOVE, values![name]).await? > 0)
}

pub(crate) async fn change(
    session: &mut Session,
    name: &str,
    change: &PaddlesNodeChange,
) -> Result<PaddlesNodes> {
    session.one(LOCK, Vec::new()).await?;
    let Some(mut node) = one(session, name).await? else { return Ok(PaddlesNodes::Missing) };
    if let Some(locked) = change.locked
        && let Err(error) =
            node.lock(locked, change.locked_by.as_deref(), change.description.as_deref(), session.now)
    {
        return Ok(PaddlesNodes::Refused(error));
    }
    for key in &change.keys {
        let new = change.node.clone();
        match key.as_str() {
            "description" => node.description = new.description,
            "up" => node.up = new.up,
            "machine_type" => node.machine_type = new.machine_type,
            "is_vm" => node.is_vm = new.is_vm,
            "vm_host" => node.vm_host = new.vm_host,
            "os_type" => node.os_type = new.os_type,
            "os_version" => node.os_version = new.os_version,
            "arch" => node.arch = new.arch,
            "mac_address" => node.mac_address = new.mac_address,
            "ssh_pub_key" => node.ssh_pub_key = new.ssh_pub_key,
            _ => {}
        }
    }
    session.run(UPDATE, node_values(&node)).await?;
    Ok(PaddlesNodes::Done(vec![node]))
}

pub(crate) async fn lock(
    session: &mut Session,
    query: &PaddlesNodeQuery,
    count: u32,
    locked_by: &str,
    description: Option<&str>,
) -> Result<PaddlesNodes> {
    session.one(LOCK, Vec::new()).await?;
    let free = PaddlesNodeQuery { locked: Some(false), up: Some(true), limit: Some(count), ..query.clone() };
    let mut nodes = list(session, &free).await?;
    if nodes.len() < count as usize {
        return Ok(PaddlesNodes::Short(nodes.len() as u64));
    }
    for node in &mut nodes {
        if let Err(error) = node.lock(true, Some(locked_by), description, session.now) {
            return Ok(PaddlesNodes::Refused(error));
        }
        node.description = description.map(str::to_owned);
    }
    for node in &nodes {
        session.run(UPDATE, node_values(node)).await?;
    }
    Ok(PaddlesNodes::Done(nodes))
}

pub(crate) async fn unlock(session: &mut Session, names: &[String], locked_by: &str) -> Result<PaddlesNodes> {
    session.one(LOCK, Vec::new()).await?;
    let mut nodes = Vec::new();
    for name in names {
        let Some(mut node) = one(session, name).await? else { return Ok(PaddlesNodes::Missing) };
        if let Err(error) = node.lock(false, Some(locked_by), None, session.now) {
            return Ok(PaddlesNodes::Refused(error));
        }
        nodes.push(node);
    }
    for node in &nodes {
        session.run(UPDATE, node_values(node)).await?;
    }
    Ok(PaddlesNodes::Done(nodes))
}

pub(crate) async fn stats(
    session: &mut Session,
    node: Option<&str>,
    machine_type: Option<&str>,
    since: Option<DateTime<Utc>>,
) -> Result<BTreeMap<String, BTreeMap<String, u64>>> {
    let mut conditions = Where::new(session.dialect());
    conditions.maybe("o.node = ?", node);
    conditions.maybe("j.posted >= ?", since);
    if let Some(kinds) = machine_type {
        let kinds = kinds.split('|').map(str::to_owned).collect();
        conditions.any_of("n.machine_type", kinds);
    }
    let (clause, values) = conditions.text();
    let sql = format!(
        "select o.node, j.status, count(*) as n from paddles_job_node o join paddles_job j on j.seq = o.seq \
        left join paddles_node n on n.name = o.node {clause} group by o.node, j.status"
    );
    let mut all: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for row in session.all(sql, values).await? {
        all.entry(row.text("node")?).or_default().insert(row.text("status")?, row.number("n")?);
    }
    Ok(all)
}
