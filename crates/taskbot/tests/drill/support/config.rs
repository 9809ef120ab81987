//! Configuration files of an installation's servers and workers.

use super::{
    bus::Bus,
    installation::{DURABLE, Plan, SOURCE},
};
use std::path::{Path, PathBuf};

/// What servers and workers log.
pub(crate) const LOG: &str = "info,sqlx=warn,async_nats=warn,tower_http=warn";

/// What one server or worker needs to know.
pub(crate) struct Node<'a> {
    pub(crate) name: &'a str,
    pub(crate) folder: &'a Path,
    /// Of the server itself, or of the server that the worker speaks to.
    pub(crate) url: &'a str,
    pub(crate) database: &'a str,
    pub(crate) bus: &'a Bus,
    pub(crate) installation: &'a str,
    pub(crate) engine: &'a Path,
}

/// The configuration of a server.
pub(crate) fn server(node: &Node<'_>, plan: &Plan<'_>) -> String {
    let Bus { url: nats, events, told, .. } = node.bus;
    format!(
        r#"installation: {installation}
data_dir: {data}
server:
  name: {name}
  listen: {listen}
  lease: {lease}s
database: {{url: "{database}", connections: 8}}
rules: {{folder: {folder}/rules}}
git: {{protocols: [https, http], hosts: [127.0.0.1]}}
files: {{url: "file://{folder}/files"}}
sources:
  - nats:
      name: {SOURCE}
      servers: ["{nats}"]
      stream: {{name: {events}}}
      durable: {DURABLE}
      strip_prefix: {events}
      ack_wait: 5s
      backoff: [5s]
outlet:
  nats:
    servers: ["{nats}"]
    stream: {{name: {told}, subjects: ["{told}.>"], create: true}}
    subject_prefix: {told}
"#,
        installation = node.installation,
        data = node.folder.join(node.name).display(),
        name = node.name,
        listen = node.url.trim_start_matches("http://"),
        lease = plan.lease.as_secs(),
        database = node.database,
        folder = node.folder.display(),
    )
}

/// The configuration of a worker.
pub(crate) fn worker(node: &Node<'_>, plan: &Plan<'_>) -> String {
    format!(
        r#"installation: {installation}
data_dir: {data}
rules: {{folder: {folder}/rules}}
git: {{protocols: [https, http], hosts: [127.0.0.1], folders: [{folder}/repositories]}}
worker:
  name: {name}
  slots: {slots}
  work_dir: {work_dir}
  executors: {{local: true, sockets: [{engine}], pull: if_missing}}
  fetch: {{private_hosts: [127.0.0.1], folders: [{folder}]}}
{further}
"#,
        further = plan.worker,
        installation = node.installation,
        data = node.folder.join(node.name).display(),
        folder = node.folder.display(),
        name = node.name,
        slots = plan.slots,
        work_dir = work_dir(node.folder, node.name).display(),
        engine = node.engine.display(),
    )
}

/// The folder in which a worker keeps what it runs and has not delivered.
pub(crate) fn work_dir(folder: &Path, worker: &str) -> PathBuf {
    folder.join(format!("{worker}-work"))
}
