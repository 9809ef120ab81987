//! Sources and the outlet: a NATS server with its streams.

use super::section::{File, Section};
use crate::fault::Fault;
use anyhow::Result;
use events::config::{Form, NatsConnection, NatsOutletConfig, NatsSourceConfig, Secret, Start, StreamConfig};
use model::{ids::SourceName, yaml::Node};
use std::path::{Path, PathBuf};

/// The most sources.
const SOURCES_MAX: usize = 64;

/// Files that hold what must not stand in the configuration.
#[derive(Debug, Clone, Default)]
struct Secrets {
    password_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
}

/// A source of events.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    nats: NatsSourceConfig,
    secrets: Secrets,
    foreign: bool,
}

/// The bus to tell on.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    nats: NatsOutletConfig,
    secrets: Secrets,
}

impl Source {
    /// A source without secrets.
    pub(crate) fn plain(nats: NatsSourceConfig) -> Self {
        Self { nats, secrets: Secrets::default(), foreign: false }
    }

    /// Whether it may bring events of other installations of ours, whose topics are under `taskbot.`.
    pub(crate) const fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// What is configured, without its secrets.
    pub(crate) const fn config(&self) -> &NatsSourceConfig {
        &self.nats
    }

    /// What is configured, with its secrets.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn revealed(&self) -> Result<NatsSourceConfig> {
        let mut nats = self.nats.clone();
        self.secrets.read_into(&mut nats.connection)?;
        Ok(nats)
    }
}

impl Outlet {
    /// An outlet without secrets.
    pub(crate) fn plain(nats: NatsOutletConfig) -> Self {
        Self { nats, secrets: Secrets::default() }
    }

    /// What is configured, without its secrets.
    pub(crate) const fn config(&self) -> &NatsOutletConfig {
        &self.nats
    }

    /// What is configured, with its secrets.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn revealed(&self) -> Result<NatsOutletConfig> {
        let mut nats = self.nats.clone();
        self.secrets.read_into(&mut nats.connection)?;
        Ok(nats)
    }
}

impl Secrets {
    fn read_into(&self, connection: &mut NatsConnection) -> Result<()> {
        if let Some(file) = &self.password_file {
            connection.password = Some(Secret::new(read_secret(file)?));
        }
        if let Some(file) = &self.token_file {
            connection.token = Some(Secret::new(read_secret(file)?));
        }
        Ok(())
    }
}

/// Reads a secret from its file, without the line feed at its end.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read_secret(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Fault::unread(format_args!("the secret in {}", file.display()), &error))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Reads `sources`.
pub(super) fn sources(file: &File<'_>, node: &Node, installation: &str) -> Vec<Source> {
    let Some(items) = file.reader.list_of(node, "`sources`") else { return Vec::new() };
    if items.len() > SOURCES_MAX {
        file.reader.error(
            &node.span,
            format!("`sources` has {} entries, at most {SOURCES_MAX} are read", items.len()),
        );
    }
    let mut sources: Vec<Source> = Vec::new();
    for (at, item) in items.iter().take(SOURCES_MAX).enumerate() {
        let Some(source) = source(file, item, at, installation) else { continue };
        if sources.iter().any(|other| other.nats.name == source.nats.name) {
            file.reader.error(&item.span, format!("two sources are named `{}`", source.nats.name));
        }
        sources.push(source);
    }
    sources
}

fn source(file: &File<'_>, node: &Node, at: usize, installation: &str) -> Option<Source> {
    let prefix = format!("sources[{at}]");
    let mut outer = Section::of(file, node, "a source", &prefix)?;
    let nats = outer.require("nats");
    outer.finish();
    let mut section = Section::of(file, nats?, "a NATS source", &format!("{prefix}.nats"))?;
    let name = section.require("name").and_then(|node| file.reader.name_of(node, "`name`"));
    let (connection, secrets) = connection(&mut section);
    let stream = stream(&mut section);
    let mut config = NatsSourceConfig::new(
        SourceName::new(name.clone().unwrap_or_default()),
        connection,
        stream?,
        format!("taskbot-{installation}"),
    );
    let mut domain = None;
    section.maybe_name("domain", &mut domain);
    config.domain = domain.map(SourceName::new);
    section.name("durable", &mut config.durable);
    section.texts("filters", &mut config.filters);
    section.parsed("start", &mut config.start, |text| match text {
        "all" => Ok(Start::All),
        "new" => Ok(Start::New),
        other => Err(format!("`{other}` is no start; expected all or new")),
    });
    section.duration("ack_wait", &mut config.ack_wait);
    section.count("max_ack_pending", 1_000_000, &mut config.max_ack_pending);
    let mut backoff = None;
    section.with("backoff", &mut backoff, |reader, node, what| {
        let steps = reader.list_of(node, what)?.iter().map(|step| reader.duration_of(step, what));
        Some(Some(steps.collect::<Option<Vec<_>>>()?))
    });
    // The usual steps give way to a longer `ack_wait`.
    let usual = config.backoff.iter().map(|step| (*step).max(config.ack_wait)).collect();
    config.backoff = backoff.unwrap_or(usual);
    section.maybe_name("strip_prefix", &mut config.strip_prefix);
    section.parsed("form", &mut config.form, |text| match text {
        "auto" => Ok(Form::Auto),
        "body" => Ok(Form::Body),
        "message" => Ok(Form::Message),
        other => Err(format!("`{other}` is no form; expected auto, body or message")),
    });
    let mut foreign = false;
    section.bool("foreign", &mut foreign);
    let span = section.span();
    section.finish();
    name?;
    checked(file, span, config.connection.clone(), &secrets, |connection| {
        NatsSourceConfig { connection, ..config.clone() }.check()
    });
    Some(Source { nats: config, secrets, foreign })
}

/// Reads `outlet`.
pub(super) fn outlet(file: &File<'_>, node: &Node, installation: &str) -> Option<Outlet> {
    let mut outer = Section::of(file, node, "`outlet`", "outlet")?;
    let nats = outer.require("nats");
    outer.finish();
    let mut section = Section::of(file, nats?, "a NATS outlet", "outlet.nats")?;
    let (connection, secrets) = connection(&mut section);
    let stream = stream(&mut section);
    let mut config = NatsOutletConfig::new(connection, stream?, installation);
    section.maybe_name("subject_prefix", &mut config.subject_prefix);
    section.duration("publish_wait", &mut config.publish_wait);
    let span = section.span();
    section.finish();
    checked(file, span, config.connection.clone(), &secrets, |connection| {
        NatsOutletConfig { connection, ..config.clone() }.check()
    });
    Some(Outlet { nats: config, secrets })
}

/// Checks as with the secrets that the files will give.
fn checked(
    file: &File<'_>,
    span: &std::ops::Range<usize>,
    mut connection: NatsConnection,
    secrets: &Secrets,
    check: impl FnOnce(NatsConnection) -> Result<(), String>,
) {
    connection.password = secrets.password_file.as_ref().map(|_| Secret::new(""));
    connection.token = secrets.token_file.as_ref().map(|_| Secret::new(""));
    if let Err(why) = check(connection) {
        file.reader.error(span, why);
    }
}

fn connection(section: &mut Section<'_, '_>) -> (NatsConnection, Secrets) {
    let mut connection = NatsConnection::default();
    let mut secrets = Secrets::default();
    section.texts("servers", &mut connection.servers);
    section.maybe_path("credentials_file", &mut connection.credentials_file);
    section.maybe_path("nkey_file", &mut connection.nkey_file);
    section.maybe_name("user", &mut connection.user);
    section.maybe_path("password_file", &mut secrets.password_file);
    section.maybe_path("token_file", &mut secrets.token_file);
    section.maybe_path("tls_ca", &mut connection.tls_ca);
    section.maybe_path("tls_cert", &mut connection.tls_cert);
    section.maybe_path("tls_key", &mut connection.tls_key);
    section.maybe_name("inbox_prefix", &mut connection.inbox_prefix);
    (connection, secrets)
}

fn stream(section: &mut Section<'_, '_>) -> Option<StreamConfig> {
    let reader = section.file.reader;
    section.require("stream")?;
    let mut section = section.section("stream", "`stream`")?;
    let name = section.require("name").and_then(|node| reader.name_of(node, "`stream.name`"));
    let mut stream = StreamConfig::existing(name.clone().unwrap_or_default());
    section.texts("subjects", &mut stream.subjects);
    section.bool("create", &mut stream.create);
    section.duration("max_age", &mut stream.max_age);
    section.with("max_bytes", &mut stream.max_bytes, |reader, node, what| {
        Some(Some(i64::try_from(reader.size_of(node, what)?).unwrap_or(i64::MAX)))
    });
    section.duration("duplicate_window", &mut stream.duplicate_window);
    section.with("replicas", &mut stream.replicas, |reader, node, what| {
        usize::try_from(reader.int_of(node, what, 1..6)?).ok()
    });
    section.finish();
    name.map(|_| stream)
}
