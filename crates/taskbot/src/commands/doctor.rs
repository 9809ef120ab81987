//! `doctor`: everything that a server and a worker on this machine need, each with how to mend it.

use crate::{
    cli::{Format, Givens, Global},
    client::Client,
    config::{Config, Loaded},
    fault,
    output::{self, paint, style_of, text_at},
    server::{access, is_given, machine, open, open::FilesPlace, work},
};
use anyhow::Result;
use chrono::DateTime;
use events::nats::{JetStreamOutlet, JetStreamSource};
use futures_util::TryStreamExt;
use model::{Clock, SystemClock};
use serde::Serialize;
use serde_json::Value;
use std::{fmt::Display, net::Ipv4Addr, path::Path, process::Stdio, sync::Arc, time::Duration};
use store::{Probe, StoreError};
use tokio::process::Command;

/// How long a check may take.
const CHECK_MAX: Duration = Duration::from_secs(8);
/// The most that two clocks may differ.
const SKEW_MAX_SECONDS: i64 = 2;
/// With less free space than this something is wrong soon.
const DISK_FREE_MIN_BYTES: u64 = 1 << 30;
/// The oldest git whose hardening options are known.
const GIT_PROGRAM: &str = "git";

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// A check.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    check: String,
    state: State,
    /// What was found.
    detail: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: &str, state: State, detail: impl Display, hint: Option<&str>) {
        let hint = hint.map(str::to_owned);
        self.0.push(Finding { check: check.to_owned(), state, detail: detail.to_string(), hint });
    }
}

/// Carries `doctor` out.
pub(super) async fn run(global: &Global, given: &Givens) -> Result<u8> {
    let mut findings = Findings::default();
    let loaded = configuration(global, &mut findings);
    if let Some(Loaded { config, .. }) = &loaded {
        database(config, &mut findings).await;
        files(config, &mut findings).await;
        disk(config, &mut findings);
        rules(config, &mut findings);
        buses(config, &mut findings).await;
        git(&mut findings).await;
        executors(config, &mut findings).await;
        secrets(config, &mut findings);
    }
    server(global, loaded.as_ref().map(|loaded| &loaded.config), given, &mut findings).await;
    let Findings(findings) = findings;
    if global.output == Format::Jsonl {
        let items = findings.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
        output::list(global.output, &items, &[], "")?;
    } else {
        output::document(global.output, &findings, || findings.iter().try_for_each(show))?;
    }
    let failed = findings.iter().any(|finding| finding.state == State::Fail);
    Ok(if failed { fault::INFRA } else { fault::DONE })
}

fn show(finding: &Finding) -> Result<()> {
    let word = match finding.state {
        State::Ok => "ok",
        State::Warn => "warn",
        State::Fail => "fail",
    };
    output::say(format_args!(
        "{} {:<12} {}",
        paint(style_of(word), format_args!("{word:<4}")),
        finding.check,
        finding.detail
    ))?;
    if let Some(hint) = finding.hint.as_ref().filter(|_| finding.state != State::Ok) {
        output::say(format_args!("     {:<12} {}", "", paint(output::faint(), hint)))?;
    }
    Ok(())
}

fn configuration(global: &Global, findings: &mut Findings) -> Option<Loaded> {
    let name = global
        .config
        .as_ref()
        .map_or_else(|| "defaults, no file".to_owned(), |file| file.display().to_string());
    match Config::load(global.config.as_deref()).and_then(Loaded::lay_environment_over) {
        Ok(loaded) => {
            findings.add("config", State::Ok, name, None);
            Some(loaded)
        }
        Err(error) => {
            findings.add(
                "config",
                State::Fail,
                format_args!("{error:#}"),
                Some("docs/configuration.md says what can be set"),
            );
            None
        }
    }
}

async fn database(config: &Config, findings: &mut Findings) {
    let hint =
        "is it running, and may this user connect? `database.url` and `database.password_file` say where";
    let place = match open::place(config) {
        Ok(place) => place,
        Err(error) => return findings.add("database", State::Fail, format_args!("{error:#}"), Some(hint)),
    };
    let probe = match tokio::time::timeout(CHECK_MAX, open::probe(&place)).await {
        Err(_) => return findings.add("database", State::Fail, "no answer", Some(hint)),
        Ok(Err(error)) => {
            return match error.downcast_ref::<StoreError>() {
                Some(StoreError::Locked(_)) => {
                    findings.add("database", State::Ok, "a server is running on it", None);
                }
                _ => findings.add("database", State::Fail, format_args!("{error:#}"), Some(hint)),
            };
        }
        Ok(Ok(probe)) => probe,
    };
    let Some(probe) = probe else {
        let made = "the file is not there yet; the first start makes it";
        findings.add("database", State::Ok, made, None);
        return listening(config, 0, findings);
    };
    schema(&probe, findings);
    let seconds = (probe.now_unix_ms - SystemClock.now().timestamp_millis()) / 1000;
    skew("clock", "the database's", seconds, findings);
    listening(config, access::of_people(probe.tokens.iter().map(String::as_str)), findings);
}

fn schema(probe: &Probe, findings: &mut Findings) {
    let Probe { backend, newest, .. } = probe;
    let start = "nothing is to do: the next start brings it up to date, as `taskbot db migrate` does";
    match probe.schema {
        None => findings.add(
            "database",
            State::Ok,
            format_args!("{backend}, empty; the first start makes the schema"),
            None,
        ),
        Some(schema) if schema < *newest => findings.add(
            "database",
            State::Warn,
            format_args!("{backend}, schema {schema}, this program has {newest}"),
            Some(start),
        ),
        Some(schema) if schema > *newest => findings.add(
            "database",
            State::Fail,
            format_args!("{backend}, schema {schema}, this program only knows {newest}"),
            Some("a newer program wrote it: use that version"),
        ),
        Some(schema) => {
            findings.add("database", State::Ok, format_args!("{backend}, schema {schema} up to date"), None);
        }
    }
}

fn listening(config: &Config, tokens: usize, findings: &mut Findings) {
    match access::check(config, tokens) {
        Ok(words) => {
            findings.add("access", State::Ok, format_args!("{}: {words}", config.server.listen), None);
        }
        Err(fault) => findings.add("access", State::Fail, fault.message, None),
    }
}

fn skew(check: &str, whose: &str, seconds: i64, findings: &mut Findings) {
    if seconds.abs() <= SKEW_MAX_SECONDS {
        return findings.add(check, State::Ok, format_args!("{whose} clock agrees"), None);
    }
    let hint = "let both machines take their time from the same servers (NTP)";
    findings.add(check, State::Warn, format_args!("{whose} clock is {seconds} s ahead of ours"), Some(hint));
}

/// Whether logs and artifacts can be kept: a folder is looked at, another place is asked for its list. Nothing is
/// written.
async fn files(config: &Config, findings: &mut Findings) {
    let hint = "`files.url` and `files.options` say where logs and artifacts lie";
    let folder = match open::files_place(config) {
        Ok(FilesPlace::Folder(folder)) => folder,
        Ok(FilesPlace::Elsewhere(url)) => {
            let tried = async {
                let store = open::object_store(config)?;
                // One entry tells whether it answers and lets us in.
                store.list(None).try_next().await?;
                anyhow::Ok(())
            };
            return match tokio::time::timeout(CHECK_MAX, tried).await {
                Ok(Ok(())) => findings.add("files", State::Ok, format_args!("{url} answers"), None),
                Ok(Err(error)) => findings.add("files", State::Fail, format_args!("{error:#}"), Some(hint)),
                Err(_) => {
                    findings.add("files", State::Fail, format_args!("no answer from {url}"), Some(hint));
                }
            };
        }
        Err(error) => return findings.add("files", State::Fail, format_args!("{error:#}"), Some(hint)),
    };
    let shown = folder.display();
    let there = folder.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    if !machine::may_write(there) {
        let detail = format!("this user may not write in {}", there.display());
        findings.add("files", State::Fail, detail, Some(hint));
    } else if there == folder {
        findings.add("files", State::Ok, format_args!("{shown} can be written"), None);
    } else {
        findings.add("files", State::Ok, format_args!("{shown} will be made by the first start"), None);
    }
}

fn disk(config: &Config, findings: &mut Findings) {
    let free = machine::free_bytes(&config.data_dir);
    let state = if free < DISK_FREE_MIN_BYTES { State::Warn } else { State::Ok };
    let detail = format!("{} free at {}", model::units::format_size(free), config.data_dir.display());
    findings.add(
        "disk",
        state,
        detail,
        Some("make room, or keep less (`retention`, `taskbot db prune --dry-run`)"),
    );
}

fn rules(config: &Config, findings: &mut Findings) {
    let Some(folder) = &config.rules.folder else {
        if let Some(git) = &config.rules.git {
            return findings.add("rules", State::Ok, format_args!("are read from {git}"), None);
        }
        return findings.add(
            "rules",
            State::Warn,
            "no folder is configured",
            Some("`rules.folder` or --rules says where they are"),
        );
    };
    let options = rules::Options {
        trusted_hosts: config.rules.hosts.clone(),
        trusted_authors: config.rules.authors.clone(),
        file_urls: config.rules.file_urls,
    };
    match rules::read_folder(folder).and_then(|files| rules::compile(&files, &options)) {
        Ok(compiled) => findings.add(
            "rules",
            State::Ok,
            format_args!("{} in {}", compiled.rule_set.rules().len(), folder.display()),
            None,
        ),
        Err(report) => {
            let detail = format!("{} in {}", output::counted(report.errors(), "error"), folder.display());
            findings.add(
                "rules",
                State::Fail,
                detail,
                Some("`taskbot rule check` shows each with its place"),
            );
        }
    }
}

async fn buses(config: &Config, findings: &mut Findings) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let hint = "is the server running, with JetStream (`-js`), and are the credentials right?";
    for source in &config.sources {
        let check = format!("source {}", source.config().name);
        let connected = async {
            let source =
                JetStreamSource::connect(source.revealed()?, &config.installation, Arc::clone(&clock)).await;
            Ok::<_, anyhow::Error>(source?.inspect().await?)
        };
        match tokio::time::timeout(CHECK_MAX, connected).await {
            Ok(Ok(words)) => findings.add(&check, State::Ok, words, None),
            Ok(Err(error)) => findings.add(&check, State::Fail, format_args!("{error:#}"), Some(hint)),
            Err(_) => findings.add(
                &check,
                State::Fail,
                format_args!("no answer from {}", source.config().connection.servers.join(", ")),
                Some(hint),
            ),
        }
    }
    if let Some(outlet) = &config.outlet {
        let connected = async {
            let outlet = JetStreamOutlet::connect(outlet.revealed()?, Arc::clone(&clock)).await?;
            Ok::<_, anyhow::Error>(outlet.inspect().await?)
        };
        match tokio::time::timeout(CHECK_MAX, connected).await {
            Ok(Ok(words)) => findings.add("outlet", State::Ok, words, None),
            Ok(Err(error)) => findings.add("outlet", State::Fail, format_args!("{error:#}"), Some(hint)),
            Err(_) => findings.add(
                "outlet",
                State::Fail,
                format_args!("no answer from {}", outlet.config().connection.servers.join(", ")),
                Some(hint),
            ),
        }
    }
}

async fn git(findings: &mut Findings) {
    let hint = "install git: task repositories are cloned with it";
    match Command::new(GIT_PROGRAM).arg("--version").stdin(Stdio::null()).output().await {
        Ok(output) if output.status.success() => {
            findings.add("git", State::Ok, String::from_utf8_lossy(&output.stdout).trim(), None);
        }
        Ok(output) => {
            findings.add("git", State::Fail, String::from_utf8_lossy(&output.stderr).trim(), Some(hint));
        }
        Err(error) => findings.add("git", State::Fail, error, Some(hint)),
    }
}

fn secrets(config: &Config, findings: &mut Findings) {
    for (name, source) in &config.worker.secrets {
        let (state, detail, hint) = match source.read(name) {
            Ok(_) => (State::Ok, format!("`{name}`: {}", source.file.display()), None),
            Err(why) => (State::Fail, why, Some("the worker does not start without it")),
        };
        findings.add("secrets", state, detail, hint);
    }
}

async fn executors(config: &Config, findings: &mut Findings) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Ok(scratch) = tempfile::tempdir() else {
        return findings.add("executors", State::Fail, "no temporary folder can be made", None);
    };
    let executors =
        work::executors(config, &work::name(config), scratch.path(), &clock, work::kvm(config).await);
    let mut works = 0;
    for executor in &executors {
        let check = executor.kind().to_string();
        let hint = match check.as_str() {
            "container" => {
                "start Docker or Podman's socket, or name it in `worker.executors.sockets`; may this user use it?"
            }
            "vm" => "install qemu-system-x86 (or -arm) and qemu-utils; without KVM machines are emulated",
            "sandbox" => "install bubblewrap, and allow unprivileged user namespaces",
            _ => "see `worker.executors`",
        };
        match tokio::time::timeout(CHECK_MAX, executor.probe()).await {
            Ok(Ok(probe)) => {
                works += 1;
                // Without isolation is worth a warning; where a socket lies is not.
                let state = if check == "local" { State::Warn } else { State::Ok };
                let notes = probe.notes.iter().map(|note| format!("; {note}")).collect::<String>();
                findings.add(&check, state, format_args!("{}{notes}", probe.version), None);
            }
            Ok(Err(why)) => findings.add(&check, State::Warn, why, Some(hint)),
            Err(_) => findings.add(&check, State::Warn, "no answer", Some(hint)),
        }
    }
    if works == 0 {
        findings.add(
            "executors",
            State::Fail,
            "none works: a worker here could run no task",
            Some("make one of them work"),
        );
    }
}

/// The server of `--server`, else the one that listens by the configuration: only a failure when it was asked for.
async fn server(global: &Global, config: Option<&Config>, given: &Givens, findings: &mut Findings) {
    let asked = is_given(given, "server");
    let absent = if asked { State::Fail } else { State::Warn };
    let mut global = global.clone();
    if let Some(config) = config.filter(|_| !asked) {
        let mut listen = config.server.listen;
        if listen.ip().is_unspecified() {
            listen.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        global.server = format!("http://{listen}");
    }
    let client = match Client::of(&global) {
        Ok(client) => client,
        Err(error) => return findings.add("server", State::Fail, format_args!("{error:#}"), None),
    };
    let version = match tokio::time::timeout(CHECK_MAX, client.get("version", &[])).await {
        Ok(Ok(version)) => version,
        Ok(Err(error)) => return findings.add("server", absent, format_args!("{error:#}"), None),
        Err(_) => {
            return findings.add("server", absent, format_args!("no answer from {}", client.base()), None);
        }
    };
    let ours = env!("CARGO_PKG_VERSION");
    let state = if version["version"] == ours { State::Ok } else { State::Warn };
    let detail = format!(
        "{} {} at {}",
        text_at(&version, "installation"),
        text_at(&version, "version"),
        client.base()
    );
    findings.add("server", state, detail, Some("use the same version here and there"));
    if let Ok(Some(date)) = client.date().await
        && let Ok(date) = DateTime::parse_from_rfc2822(&date)
    {
        skew("server clock", "the server's", (date.to_utc() - SystemClock.now()).num_seconds(), findings);
    }
    match client.readiness().await {
        Ok(report) => ready(&report, findings),
        Err(error) => findings.add("ready", State::Fail, format_args!("{error:#}"), None),
    }
    token(&client, findings).await;
}

/// What the server itself says of the parts that it needs.
fn ready(report: &Value, findings: &mut Findings) {
    let wrong = |name: &str, why: String| format!("{name}: {}", if why.is_empty() { "not ok" } else { &why });
    let checks = &report["checks"];
    let mut all = Vec::new();
    for name in ["database", "rules"] {
        if checks[name]["ok"] == false {
            all.push(wrong(name, checks[name]["error"].as_str().unwrap_or_default().to_owned()));
        }
    }
    let outlet = checks["outlet"]["health"].as_object().map(|_| ("outlet", &checks["outlet"]["health"]));
    let sources = checks["sources"]["each"].as_array().into_iter().flatten();
    let sources = sources.map(|source| (source["name"].as_str().unwrap_or("source"), source));
    for (name, health) in sources.chain(outlet).filter(|(_, health)| health["connected"] == false) {
        all.push(wrong(name, health["detail"].as_str().unwrap_or("not connected").to_owned()));
    }
    if checks["stopping"] == true {
        all.push("it is stopping".to_owned());
    }
    let state = match (report["ready"] == true, all.is_empty()) {
        (true, true) => return findings.add("ready", State::Ok, "it can do its work", None),
        (true, false) => State::Warn,
        (false, _) => State::Fail,
    };
    findings.add("ready", state, all.join("; "), Some("the server's log says more"));
}

/// What the token may do, found out by asking for what each role may read.
async fn token(client: &Client, findings: &mut Findings) {
    let roles = [("admin", "tokens"), ("viewer", "queues")];
    for (role, path) in roles {
        match client.get(path, &[]).await {
            Ok(Value::Array(_)) => {
                return findings.add("token", State::Ok, format_args!("{role} or more"), None);
            }
            Ok(_) => {}
            Err(error) if fault::exit_code(&error) == fault::NOT_ALLOWED => {}
            Err(error) => return findings.add("token", State::Warn, format_args!("{error:#}"), None),
        }
    }
    let hint = "give a token with --token-file or TASKBOT_TOKEN; workers' tokens (agent) may read nothing";
    findings.add("token", State::Warn, "none, or one that may not read", Some(hint));
}
