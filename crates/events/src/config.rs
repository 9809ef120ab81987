//! What is configured for a bus: the connection, the streams, a source and an outlet.

use model::{
    SourceName,
    units::{format_duration, parse_duration},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, path::PathBuf, time::Duration};

/// How long a delivery may stay unacknowledged before the server delivers it again.
pub const ACK_WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// How many deliveries may be unacknowledged at a time, over all servers together.
pub const MAX_ACK_PENDING_DEFAULT: u32 = 2_000;
/// How long a stream of ours remembers message ids for dropping duplicates.
pub const DUPLICATE_WINDOW_DEFAULT: Duration = Duration::from_secs(600);
/// How long a stream of ours keeps messages.
pub const MAX_AGE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long a publication waits for its acknowledgement before it counts as failed.
pub const PUBLISH_WAIT_DEFAULT: Duration = Duration::from_secs(5);

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// How to reach a NATS server. At most one kind of credentials.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsConnection {
    /// Servers of one cluster: `nats://host:4222` or `tls://host:4222`.
    pub servers: Vec<String>,
    /// A `.creds` file (JWT and seed).
    pub credentials_file: Option<PathBuf>,
    /// A file with an nkey seed.
    pub nkey_file: Option<PathBuf>,
    /// A user; needs `password`.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// A token.
    pub token: Option<Secret>,
    /// A file of certificates to trust besides the system's.
    pub tls_ca: Option<PathBuf>,
    /// Our certificate; needs `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// Our certificate's key.
    pub tls_key: Option<PathBuf>,
    /// The prefix of reply subjects, where permissions ask for one: `_INBOX_tb`.
    pub inbox_prefix: Option<String>,
}

impl NatsConnection {
    /// A connection without credentials.
    pub fn to(server: impl Into<String>) -> Self {
        Self { servers: vec![server.into()], ..Self::default() }
    }

    /// Checks what can be checked without the server.
    ///
    /// # Errors
    /// What contradicts itself or is missing.
    pub fn check(&self) -> Result<(), String> {
        if self.servers.is_empty() {
            return Err("`servers` is empty: give at least one, such as nats://127.0.0.1:4222".to_owned());
        }
        for server in &self.servers {
            if let Err(error) = server.parse::<async_nats::ServerAddr>() {
                return Err(format!(
                    "`servers`: `{server}`: {error}; expected such as nats://127.0.0.1:4222"
                ));
            }
        }
        let kinds = [
            ("credentials_file", self.credentials_file.is_some()),
            ("nkey_file", self.nkey_file.is_some()),
            ("user", self.user.is_some()),
            ("token", self.token.is_some()),
        ];
        let given: Vec<_> = kinds.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        if given.len() > 1 {
            return Err(format!("give only one of {}", given.join(", ")));
        }
        if self.user.is_some() != self.password.is_some() {
            return Err("`user` and `password` go together".to_owned());
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err("`tls_cert` and `tls_key` go together".to_owned());
        }
        Ok(())
    }
}

/// A stream that messages come from or go to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// Its name.
    pub name: String,
    /// The subjects that it takes, when it is ours to create.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// Whether it is created when missing; its settings must then be these. Else it must exist.
    #[serde(default)]
    pub create: bool,
    /// How long messages are kept.
    #[serde(default = "max_age_default", with = "duration")]
    pub max_age: Duration,
    /// How many bytes of messages are kept; without it as many as the server allows.
    #[serde(default)]
    pub max_bytes: Option<i64>,
    /// How long message ids are remembered; shortened to `max_age`.
    #[serde(default = "duplicate_window_default", with = "duration")]
    pub duplicate_window: Duration,
    /// On how many servers of the cluster it is stored.
    #[serde(default = "one")]
    pub replicas: usize,
}

impl StreamConfig {
    /// A stream that must exist.
    pub fn existing(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            subjects: Vec::new(),
            create: false,
            max_age: MAX_AGE_DEFAULT,
            max_bytes: None,
            duplicate_window: DUPLICATE_WINDOW_DEFAULT,
            replicas: 1,
        }
    }

    /// A stream that is ours to create.
    pub fn created(name: impl Into<String>, subjects: &[&str]) -> Self {
        let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
        Self { subjects, create: true, ..Self::existing(name) }
    }

    /// Checks what can be checked without the server.
    ///
    /// # Errors
    /// What is missing or not possible.
    pub fn check(&self) -> Result<(), String> {
        check_name("stream", &self.name)?;
        if self.create && self.subjects.is_empty() {
            return Err(format!("stream {}: `subjects` is needed to create it", self.name));
        }
        if self.create && self.max_age.is_zero() {
            return Err(format!("stream {}: `max_age` must not be 0", self.name));
        }
        Ok(())
    }
}

/// The form of a bus message's payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A whole recorded message when it looks like one (a text `topic`, an object `body`), else the body.
    #[default]
    Auto,
    /// The payload is the body.
    Body,
    /// The payload is a whole recorded message: `{topic, id, headers, body}`.
    Message,
}

/// Where a durable consumer begins when it is created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest message that the stream holds.
    #[default]
    All,
    /// With the next message.
    New,
}

/// A NATS `JetStream` source: one durable pull consumer, shared by all servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsSourceConfig {
    /// The source's name.
    pub name: SourceName,
    /// The dedupe domain, when sources are mirrors of each other; else the name.
    #[serde(default)]
    pub domain: Option<SourceName>,
    /// The server.
    pub connection: NatsConnection,
    /// The stream.
    pub stream: StreamConfig,
    /// The durable consumer's name.
    pub durable: String,
    /// Subjects that the consumer takes from the stream; empty for all.
    #[serde(default)]
    pub filters: Vec<String>,
    /// Where a new consumer begins.
    #[serde(default)]
    pub start: Start,
    /// After this time without acknowledgement a message is delivered again.
    #[serde(default = "ack_wait_default", with = "duration")]
    pub ack_wait: Duration,
    /// How many deliveries may be unacknowledged at a time: at least twice the batch size for each server.
    #[serde(default = "max_ack_pending_default")]
    pub max_ack_pending: u32,
    /// The waits before further deliveries, after the second one, which comes after `ack_wait`. The server's
    /// own list begins with `ack_wait`, since its first step takes the place of that setting.
    #[serde(default = "backoff_default", with = "durations")]
    pub backoff: Vec<Duration>,
    /// A subject prefix that is no part of the topic: with `bus`, `bus.a.b` is topic `a.b`.
    #[serde(default)]
    pub strip_prefix: Option<String>,
    /// The payloads' form.
    #[serde(default)]
    pub form: Form,
}

impl NatsSourceConfig {
    /// A source with the usual settings.
    pub fn new(
        name: impl Into<SourceName>,
        connection: NatsConnection,
        stream: StreamConfig,
        durable: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            domain: None,
            connection,
            stream,
            durable: durable.into(),
            filters: Vec::new(),
            start: Start::All,
            ack_wait: ACK_WAIT_DEFAULT,
            max_ack_pending: MAX_ACK_PENDING_DEFAULT,
            backoff: backoff_default(),
            strip_prefix: None,
            form: Form::Auto,
        }
    }

    /// Checks what can be checked without the server.
    ///
    /// # Errors
    /// What is missing or contradicts itself.
    pub fn check(&self) -> Result<(), String> {
        self.connection.check()?;
        self.stream.check()?;
        check_name("durable consumer", &self.durable)?;
        if self.ack_wait < Duration::from_secs(1) {
            return Err("`ack_wait` must be at least 1s".to_owned());
        }
        if self.max_ack_pending == 0 {
            return Err("`max_ack_pending` must be at least 1".to_owned());
        }
        match self.backoff.iter().find(|step| **step < self.ack_wait) {
            Some(step) => Err(format!(
                "`backoff` holds {}, which is shorter than `ack_wait` ({}): messages still in work would come again",
                format_duration(*step),
                format_duration(self.ack_wait)
            )),
            None => Ok(()),
        }
    }
}

/// A NATS `JetStream` outlet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsOutletConfig {
    /// The server.
    pub connection: NatsConnection,
    /// The stream that stores what is told.
    pub stream: StreamConfig,
    /// A prefix for subjects: with `qa`, topic `taskbot.task.queued` goes to `qa.taskbot.task.queued`.
    #[serde(default)]
    pub subject_prefix: Option<String>,
    /// This installation's name: part of ids and source of the messages.
    pub installation: String,
    /// Where the whole data of a message that is too large for the bus can be read; its id is appended.
    #[serde(default)]
    pub dataref_base: Option<String>,
    /// How long a publication waits for its acknowledgement.
    #[serde(default = "publish_wait_default", with = "duration")]
    pub publish_wait: Duration,
}

impl NatsOutletConfig {
    /// An outlet with the usual settings.
    pub fn new(connection: NatsConnection, stream: StreamConfig, installation: impl Into<String>) -> Self {
        Self {
            connection,
            stream,
            subject_prefix: None,
            installation: installation.into(),
            dataref_base: None,
            publish_wait: PUBLISH_WAIT_DEFAULT,
        }
    }

    /// Checks what can be checked without the server.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self) -> Result<(), String> {
        self.connection.check()?;
        self.stream.check()?;
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if self.installation.is_empty() || self.installation.contains(odd) {
            return Err("`installation` must be a name without white space".to_owned());
        }
        if self.publish_wait.is_zero() {
            return Err("`publish_wait` must not be 0".to_owned());
        }
        Ok(())
    }
}

/// The server refuses such names, with less helpful words.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\');
    if name.is_empty() || name.contains(odd) {
        return Err(format!(
            "the {what}'s name {name:?} must not be empty or hold white space or . * > / \\"
        ));
    }
    Ok(())
}

fn ack_wait_default() -> Duration {
    ACK_WAIT_DEFAULT
}

fn max_ack_pending_default() -> u32 {
    MAX_ACK_PENDING_DEFAULT
}

fn backoff_default() -> Vec<Duration> {
    vec![Duration::from_secs(60), Duration::from_secs(300)]
}

fn max_age_default() -> Duration {
    MAX_AGE_DEFAULT
}

fn duplicate_window_default() -> Duration {
    DUPLICATE_WINDOW_DEFAULT
}

fn publish_wait_default() -> Duration {
    PUBLISH_WAIT_DEFAULT
}

fn one() -> usize {
    1
}

/// Durations as texts: `30s`.
mod duration {
    use super::{Deserialize, Deserializer, Duration, Serializer, format_duration, parse_duration};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Lists of durations as texts.
mod durations {
    use super::{Deserialize, Deserializer, Duration, Serializer, format_duration, parse_duration};

    pub(super) fn serialize<S: Serializer>(list: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(|duration| format_duration(*duration)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| parse_duration(text).map_err(serde::de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> NatsSourceConfig {
        let connection = NatsConnection::to("nats://127.0.0.1:4222");
        NatsSourceConfig::new("bus", connection, StreamConfig::created("EVENTS", &["org.>"]), "taskbot")
    }

    #[test]
    fn contradictions_are_named() {
        let check = |change: fn(&mut NatsSourceConfig), expect: &str| {
            let mut config = source();
            change(&mut config);
            let got = config.check().err().unwrap_or_default();
            assert!(got.contains(expect) && got.is_empty() == expect.is_empty(), "{got:?}");
        };
        check(|_| {}, "");
        check(|config| config.connection.servers.clear(), "`servers` is empty");
        check(|config| config.connection.user = Some("qa".to_owned()), "`user` and `password` go together");
        check(|config| config.connection.tls_key = Some("k".into()), "`tls_cert` and `tls_key`");
        check(
            |config| {
                config.connection.token = Some(Secret::new("t"));
                config.connection.nkey_file = Some("n".into());
            },
            "only one of nkey_file, token",
        );
        check(|config| config.stream.name = "a.b".to_owned(), "stream's name \"a.b\"");
        check(|config| config.stream.subjects.clear(), "`subjects` is needed");
        check(|config| config.durable.clear(), "durable consumer's name");
        check(
            |config| config.backoff = vec![Duration::from_secs(1)],
            "holds 1s, which is shorter than `ack_wait` (30s)",
        );
        check(|config| config.max_ack_pending = 0, "at least 1");
    }

    #[test]
    fn files_may_leave_out_the_usual_and_secrets_stay_hidden() {
        let text = r#"{"name": "bus", "connection": {"servers": ["nats://h"], "token": "sesame"},
            "stream": {"name": "EVENTS"}, "durable": "taskbot", "ack_wait": "1m"}"#;
        let config: NatsSourceConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.ack_wait, Duration::from_secs(60));
        assert_eq!(config.check(), Ok(()));
        let shown = serde_json::to_string(&config).unwrap() + &format!("{config:?}");
        assert!(!shown.contains("sesame"), "{shown}");
    }
}
