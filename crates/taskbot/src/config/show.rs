//! The values in force as rows, for `config show`.

use super::{Config, Loaded, Origin};
use model::units::{format_duration, format_size};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};

/// A value in force.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// Its path, such as `server.listen`.
    pub(crate) path: String,
    /// The value.
    pub(crate) value: Value,
    /// Where it comes from.
    pub(crate) origin: Origin,
}

impl Loaded {
    /// All values in force with where they come from. Passwords in URLs are not shown.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        flatten(String::new(), values(&self.config), &mut rows);
        let with_origin = |(path, value): (String, Value)| {
            let set = |at: &str| self.origins.get(at).copied();
            // A list or section that was set as a whole counts for what is in it.
            let mut at = path.as_str();
            let origin = loop {
                match (set(at), at.rfind(['.', '['])) {
                    (Some(origin), _) => break origin,
                    (None, Some(end)) => at = &at[..end],
                    (None, None) => break Origin::Default,
                }
            };
            Row { path, value, origin }
        };
        rows.into_iter().map(with_origin).collect()
    }

    /// All values in force as one document.
    pub(crate) fn values(&self) -> Value {
        values(&self.config)
    }
}

/// Takes a document apart into its leaves; lists of texts stay whole.
fn flatten(path: String, value: Value, into: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                flatten(if path.is_empty() { name } else { format!("{path}.{name}") }, value, into);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (at, value) in items.into_iter().enumerate() {
                flatten(format!("{path}[{at}]"), value, into);
            }
        }
        leaf => into.push((path, leaf)),
    }
}

fn size(bytes: u64) -> Value {
    format_size(bytes).into()
}

fn time(duration: Duration) -> Value {
    format_duration(duration).into()
}

fn keep(duration: Option<Duration>) -> Value {
    duration.map_or_else(|| "forever".into(), time)
}

fn path(path: Option<&PathBuf>) -> Value {
    path.map_or(Value::Null, |path| path.display().to_string().into())
}

/// A URL without its password.
pub(crate) fn without_password(url: &str) -> String {
    let Ok(mut parsed) = reqwest::Url::parse(url) else { return url.to_owned() };
    if parsed.password().is_none() || parsed.set_password(Some("***")).is_err() {
        return url.to_owned();
    }
    parsed.to_string()
}

fn values(config: &Config) -> Value {
    let Config { server, database, rules, git, files, retention, interfaces, .. } = config;
    let anonymous = server.anonymous.as_ref().map(|anonymous| {
        let networks =
            anonymous.networks.iter().map(|network| format!("{}/{}", network.address, network.bits));
        json!({"role": anonymous.role, "networks": networks.collect::<Vec<_>>()})
    });
    json!({
        "installation": config.installation,
        "data_dir": path(Some(&config.data_dir)),
        "server": {
            "name": server.name,
            "listen": server.listen.to_string(),
            "public_url": server.public_url,
            "anonymous": anonymous,
            "jwt": server.jwt.iter().map(super::Signed::shown).collect::<Vec<_>>(),
            "lease": time(server.lease),
            "default_queue": server.default_queue,
        },
        "database": {
            "url": database.url.as_deref().map(without_password),
            "password_file": path(database.password_file.as_ref()),
            "connections": database.connections,
        },
        "rules": {
            "folder": path(rules.folder.as_ref()),
            "git": rules.git,
            "ref": rules.reference,
            "path": rules.path,
            "poll": format_duration(rules.poll),
            "webhook_secret_file": path(rules.webhook_secret_file.as_ref()),
            "hosts": rules.hosts,
            "file_urls": rules.file_urls,
        },
        "git": {
            "protocols": git.protocols,
            "hosts": git.hosts,
            "folders": git.folders,
            "cache": size(git.cache_bytes),
        },
        "sources": config.sources.iter().map(|source| {
            let mut nats = json!(source.config());
            nats["foreign"] = json!(source.is_foreign());
            json!({"nats": nats})
        }).collect::<Vec<_>>(),
        "outlet": config.outlet.as_ref().map(|outlet| json!({"nats": outlet.config()})),
        "files": shown_files(files),
        "retention": {
            "bodies": keep(retention.bodies),
            "events": keep(retention.events),
            "messages": keep(retention.messages),
            "tasks": keep(retention.tasks),
            "files": keep(retention.files),
            "results": keep(retention.results),
            "dead_letters": keep(retention.dead_letters),
            "audit": keep(retention.audit),
        },
        "retest": {
            "window": time(config.retest.window),
            "systems": config.retest.systems.iter()
                .map(|(tests, system)| json!({"tests": tests, "system": system})).collect::<Vec<_>>(),
            "resultsdb": config.retest_resultsdb,
            "comments": config.retest.comments.iter()
                .map(|one| json!({"topics": one.topics, "authors": one.authors})).collect::<Vec<_>>(),
            "requests": config.retest.requests.iter()
                .map(|one| json!({"topics": one.topics, "agents": one.agents})).collect::<Vec<_>>(),
        },
        "interfaces": {
            "alts": interfaces.alts.shown(),
            "paddles": {
                "enabled": interfaces.paddles.enabled,
                "listen": interfaces.paddles.listen.map(|listen| listen.to_string()),
                "shape": if interfaces.paddles.settings.seed_shape { "seed" } else { "today" },
                "lease": time(interfaces.paddles.settings.lease),
                "log_href": interfaces.paddles.settings.log_href,
                "runs": interfaces.paddles.settings.runs,
            },
            "rats": {
                "enabled": interfaces.rats.enabled,
                "listen": interfaces.rats.listen.map(|listen| listen.to_string()),
                "get": interfaces.rats.get,
            },
            "resultsdb": {
                "enabled": interfaces.resultsdb.enabled,
                "listen": interfaces.resultsdb.listen.map(|listen| listen.to_string()),
                "extra_outcomes": interfaces.resultsdb.extra_outcomes,
            },
            "testflinger": {
                "enabled": interfaces.testflinger.enabled,
                "listen": interfaces.testflinger.listen.map(|listen| listen.to_string()),
                "strict": interfaces.testflinger.settings.strict,
                "lease": time(interfaces.testflinger.settings.lease),
                "expired": if interfaces.testflinger.settings.requeue { "requeue" } else { "fail" },
                "file_max": size(interfaces.testflinger.settings.file_bytes_max),
                "secrets_key_file": path(interfaces.testflinger.secrets_key_file.as_ref()),
                "webhook_host": interfaces.testflinger.webhook_host,
                "webhook_token_file": path(interfaces.testflinger.webhook_token_file.as_ref()),
                "oidc": interfaces.testflinger.oidc.as_ref().map(|oidc| json!({
                    "issuer": oidc.issuer.as_str(), "client_id": oidc.client_id,
                    "client_secret_file": path(oidc.client_secret_file.as_ref()), "scope": oidc.scope,
                    "name_claim": oidc.name_claim,
                })),
            },
        },
        "sinks": config.sinks.iter().map(super::sinks::ConfiguredSink::shown).collect::<Vec<_>>(),
        "worker": worker(&config.worker),
    })
}

/// A place of files; its options may be secrets.
pub(super) fn shown_files(files: &super::Files) -> Value {
    let hidden = files.options.keys().map(|name| (name.clone(), json!("***")));
    json!({
        "url": files.url.as_deref().map(without_password),
        "options": hidden.collect::<serde_json::Map<_, _>>(),
        "options_file": path(files.options_file.as_ref()),
    })
}

fn worker(worker: &super::Worker) -> Value {
    let sizes = |sizes: &worker::executor::GrantedSizes| {
        json!({
            "memory": size(sizes.memory_bytes), "cpus": sizes.cpus, "disk": size(sizes.disk_bytes),
            "processes": sizes.processes, "tmp": size(sizes.tmp_bytes),
        })
    };
    let executors = &worker.executors;
    json!({
        "name": worker.name,
        "queues": worker.queues,
        "slots": worker.slots,
        "labels": worker.labels,
        "arches": worker.arches,
        "memory": worker.memory_bytes.map(size),
        "disk": worker.disk_bytes.map(size),
        "cpus": worker.cpus,
        "work_dir": path(worker.work_dir.as_ref()),
        "time_factor": worker.time_factor,
        "executors": {
            "container": executors.container,
            "vm": executors.vm,
            "sandbox": executors.sandbox,
            "local": executors.local,
            "local_untrusted": executors.local_untrusted,
            "sockets": executors.sockets,
            "default_image": executors.default_image,
            "pull": executors.pull,
            "registry_config": path(executors.registry_config.as_ref()),
            "network": executors.network,
            "link_local": executors.link_local,
            "runtime": executors.runtime,
            "binds": executors.binds,
        },
        "allow": {
            "network": worker.allow.network,
            "root": worker.allow.root,
            "writable_root": worker.allow.writable_root,
            "capabilities": worker.allow.capabilities,
        },
        "sizes": {"default": sizes(&worker.sizes.default), "max": sizes(&worker.sizes.max)},
        "fetch": {
            "cache": size(worker.fetch.cache_bytes),
            "file": size(worker.fetch.file_bytes),
            "private_hosts": worker.fetch.private_hosts,
            "refused_networks": worker.fetch.refused_networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "koji": worker.fetch.lookups.koji,
            "bodhi": worker.fetch.lookups.bodhi,
            "compose": worker.fetch.lookups.compose,
            "folders": worker.fetch.folders,
        },
        "hold": {"max": format_duration(worker.hold_max), "untrusted": worker.hold_untrusted},
        "secrets": worker.secrets.iter().map(|(name, source)| (name.clone(), json!({
            "file": source.file,
            "tasks": source.tasks,
            "repositories": source.repos,
        }))).collect::<serde_json::Map<_, _>>(),
        "external": worker.external.iter().map(|(name, program)| (name.clone(), json!({
            "command": program.command,
            "env": program.env,
            "untrusted": program.untrusted,
        }))).collect::<serde_json::Map<_, _>>(),
        "vm": {
            "images": worker.vm.images.keys().collect::<Vec<_>>(),
            "network": worker.vm.network,
            "kvm": worker.vm.kvm,
        },
    })
}
