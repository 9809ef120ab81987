//! `sinks`: where results and messages also go.

use super::{
    Files, read,
    section::{File, Section},
    show::shown_files,
};
use anyhow::{Result, anyhow};
use model::{
    result::StoredResult,
    sink::{SINK_NAME_BYTES_MAX, Sink},
    topic::TopicPattern,
    yaml::Node,
};
use results::sink::{
    ResultsDbSink, WebhookSink,
    resultsdb::{RESULT_TOPIC, Words},
};
use scheduler::copies::{self, Copies, Places};
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc};
use store::Store;

/// The most sinks.
const SINKS_MAX: usize = 32;

/// One of `sinks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfiguredSink {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Another ResultsDB.
    ResultsDb { url: String, token_file: Option<PathBuf>, words: Words },
    /// A URL that messages are posted to.
    Webhook { url: String, secret_file: Option<PathBuf>, topics: Vec<TopicPattern> },
    /// The bus once more, in the words of ResultsDB.
    Message { topic: String, words: Words },
    /// Copies of what tasks leave.
    Files(Box<Copied>),
    /// Results as JUnit XML.
    Junit(Files),
}

/// Where copies of what tasks leave go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Copied {
    artifacts: Option<Files>,
    logs: Option<Files>,
    summaries: Option<Files>,
}

/// What sinks are opened with.
pub(crate) struct Surroundings<'a> {
    /// This installation's name.
    pub(crate) installation: &'a str,
    /// What links begin with.
    pub(crate) public_url: Option<&'a String>,
    /// What links begin with that must be there: without an address for others, that of this machine.
    pub(crate) base: &'a str,
    /// The bus, where one is configured.
    pub(crate) outlet: Option<&'a Arc<dyn events::Outlet>>,
    /// The database.
    pub(crate) store: &'a Arc<dyn Store>,
    /// Where logs and artifacts lie.
    pub(crate) files: &'a scheduler::files::Files,
}

impl ConfiguredSink {
    /// The sink itself.
    ///
    /// # Errors
    /// A secret cannot be read, a URL is none, or there is no bus.
    pub(crate) fn open(&self, around: &Surroundings<'_>) -> Result<Arc<dyn Sink>> {
        let Surroundings { installation, public_url, outlet, .. } = *around;
        let wrong = |error: String| anyhow!("sink {}: {error}", self.name);
        let linked = |words: &Words| Words { public_url: public_url.cloned(), ..words.clone() };
        let secret = |file: &Option<PathBuf>| file.as_deref().map(super::read_secret).transpose();
        Ok(match &self.kind {
            Kind::ResultsDb { url, token_file, words } => {
                let sink = ResultsDbSink::new(&self.name, url, secret(token_file)?, linked(words));
                Arc::new(sink.map_err(wrong)?)
            }
            Kind::Webhook { url, secret_file, topics } => {
                let secret = secret(secret_file)?;
                let sink = WebhookSink::new(&self.name, url, secret, topics.clone(), installation);
                Arc::new(sink.map_err(wrong)?)
            }
            Kind::Message { topic, words } => {
                let outlet =
                    outlet.ok_or_else(|| wrong("there is no `outlet` for its messages".to_owned()))?;
                Arc::new(crate::server::ResultMessages {
                    name: self.name.clone(),
                    topic: topic.as_str().into(),
                    words: linked(words),
                    outlet: Arc::clone(outlet),
                    store: Arc::clone(around.store),
                    base: around.base.to_owned(),
                })
            }
            Kind::Files(copied) => {
                let mut folders = Vec::new();
                let mut at = |part: &str, place: &Option<Files>| {
                    place.as_ref().map(|place| self.place(part, place, &mut folders)).transpose()
                };
                let places = Places {
                    artifacts: at("artifacts", &copied.artifacts)?,
                    logs: at("logs", &copied.logs)?,
                    summaries: at("summaries", &copied.summaries)?,
                    reports: None,
                };
                self.copies(around, places, folders)
            }
            Kind::Junit(place) => {
                let report = Box::new(|results: &[StoredResult]| {
                    results::junit_writer::document(&results::junit_writer::suites(results))
                });
                let mut folders = Vec::new();
                let reports =
                    Some((self.place("junit", place, &mut folders)?, report as Box<copies::Report>));
                self.copies(around, Places { reports, ..Places::default() }, folders)
            }
        })
    }

    /// A place, with the folder that it needs.
    fn place(
        &self,
        part: &str,
        place: &Files,
        folders: &mut Vec<PathBuf>,
    ) -> Result<scheduler::files::Files> {
        let what = format!("sink {}: {part}", self.name);
        let (store, folder) = crate::server::object_stores::open_later(&what, place)?;
        folders.extend(folder);
        Ok(scheduler::files::Files::new(store))
    }

    fn copies(&self, around: &Surroundings<'_>, places: Places, folders: Vec<PathBuf>) -> Arc<dyn Sink> {
        let copies = Copies::new(&self.name, Arc::clone(around.store), around.files.clone(), places);
        Arc::new(crate::server::InFolders { copies, folders })
    }

    /// As `config show` shows it.
    pub(super) fn shown(&self) -> Value {
        match &self.kind {
            Kind::ResultsDb { url, token_file, words } => json!({
                "name": self.name,
                "resultsdb": {
                    "url": url, "token_file": token_file, "extra_outcomes": words.extra_outcomes,
                    "all": words.all,
                },
            }),
            Kind::Webhook { url, secret_file, topics } => {
                let topics: Vec<_> = topics.iter().map(TopicPattern::as_str).collect();
                json!({
                    "name": self.name,
                    "webhook": {"url": url, "secret_file": secret_file, "topics": topics},
                })
            }
            Kind::Message { topic, words } => {
                let Words { extra_outcomes, all, .. } = words;
                json!({
                    "name": self.name,
                    "message": {"topic": topic, "extra_outcomes": extra_outcomes, "all": all},
                })
            }
            Kind::Files(copied) => {
                let at = |place: &Option<Files>| place.as_ref().map(shown_files);
                json!({
                    "name": self.name,
                    "files": {
                        "artifacts": at(&copied.artifacts), "logs": at(&copied.logs),
                        "summaries": at(&copied.summaries),
                    },
                })
            }
            Kind::Junit(place) => json!({"name": self.name, "junit": shown_files(place)}),
        }
    }
}

/// Reads `sinks`.
pub(super) fn read_all(file: &File<'_>, node: &Node) -> Vec<ConfiguredSink> {
    let Some(items) = file.reader.list_of(node, "`sinks`") else { return Vec::new() };
    if items.len() > SINKS_MAX {
        let message = format!("`sinks` has {} entries, at most {SINKS_MAX} are read", items.len());
        file.reader.error(&node.span, message);
    }
    let mut names = BTreeSet::new();
    let mut sinks = Vec::new();
    for (at, item) in items.iter().take(SINKS_MAX).enumerate() {
        let Some(sink) = one(file, item, &format!("sinks[{at}]")) else { continue };
        if !names.insert(sink.name.clone()) {
            let message =
                format!("there is a sink `{}` already; its place is kept under its name", sink.name);
            file.reader.error(&item.span, message);
        }
        sinks.push(sink);
    }
    sinks
}

fn one(file: &File<'_>, node: &Node, prefix: &str) -> Option<ConfiguredSink> {
    let mut section = Section::of(file, node, "a sink", prefix)?;
    let mut name = String::new();
    section.require("name");
    section.parsed("name", &mut name, |text| {
        let fits = text.len() <= SINK_NAME_BYTES_MAX
            && !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let expected = || {
            format!("`{text}` is no name; expected up to {SINK_NAME_BYTES_MAX} letters, digits, -, _ and .")
        };
        fits.then(|| text.to_owned()).ok_or_else(expected)
    });
    let kinds = [
        section.section("resultsdb", "`resultsdb`").map(resultsdb),
        section.section("webhook", "`webhook`").map(webhook),
        section.section("message", "`message`").map(message),
        section.section("files", "`files`").map(files),
        section.section("junit", "`junit`").map(|section| Kind::Junit(place(section))),
    ];
    section.finish();
    let mut kinds = kinds.into_iter().flatten();
    match (kinds.next(), kinds.next()) {
        (Some(kind), None) => Some(ConfiguredSink { name, kind }),
        _ => {
            let message = "a sink is one of `resultsdb`, `webhook`, `message`, `files` and `junit`";
            file.reader.error_help(&node.span, message, "write {name: NAME, webhook: {url: https://…}}");
            None
        }
    }
}

fn url(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    match url {
        Some(url) if url.password().is_some() => {
            Err("a URL with a password is shown in logs; give the secret in a file".to_owned())
        }
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("`{text}` is no URL; expected https://HOST/PATH")),
    }
}

fn resultsdb(mut section: Section<'_, '_>) -> Kind {
    let (mut at, mut token_file, mut words) = (String::new(), None, Words::default());
    section.require("url");
    section.parsed("url", &mut at, url);
    section.maybe_path("token_file", &mut token_file);
    section.set("extra_outcomes", &mut words.extra_outcomes);
    section.bool("all", &mut words.all);
    section.finish();
    Kind::ResultsDb { url: at, token_file, words }
}

fn webhook(mut section: Section<'_, '_>) -> Kind {
    let (mut at, mut secret_file) = (String::new(), None);
    section.require("url");
    section.parsed("url", &mut at, url);
    section.maybe_path("secret_file", &mut secret_file);
    let mut topics: Vec<TopicPattern> = TopicPattern::parse(RESULT_TOPIC).into_iter().collect();
    section.parsed_list("topics", &mut topics, |text| {
        TopicPattern::parse(text).map_err(|error| format!("`{text}`: {error}"))
    });
    section.finish();
    Kind::Webhook { url: at, secret_file, topics }
}

fn message(mut section: Section<'_, '_>) -> Kind {
    // As ResultsDB, which tells each result, whoever reported it.
    let (mut topic, mut words) = ("resultsdb.result.new".to_owned(), Words { all: true, ..Words::default() });
    section.name("topic", &mut topic);
    section.set("extra_outcomes", &mut words.extra_outcomes);
    section.bool("all", &mut words.all);
    section.finish();
    Kind::Message { topic, words }
}

fn files(mut section: Section<'_, '_>) -> Kind {
    let mut copied = Copied::default();
    for (name, what, into) in [
        ("artifacts", "`artifacts`", &mut copied.artifacts),
        ("logs", "`logs`", &mut copied.logs),
        ("summaries", "`summaries`", &mut copied.summaries),
    ] {
        *into = section.section(name, what).map(place);
    }
    if copied == Copied::default() {
        let message = "`files` needs one of `artifacts`, `logs` and `summaries`, each with a `url`";
        section.file.reader.error(section.span(), message);
    }
    section.finish();
    Kind::Files(Box::new(copied))
}

/// A place of files, which must say where it is.
fn place(mut section: Section<'_, '_>) -> Files {
    let mut files = Files::default();
    section.require("url");
    read::files(section, &mut files);
    files
}
