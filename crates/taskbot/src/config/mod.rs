//! The configuration: defaults, a file over them, the environment and flags over both.
//!
//! Every value knows where it comes from. Passwords and tokens stand in files of their own, which are read when
//! they are needed; no other secret is held here.

mod alts;
mod bus;
mod read;
mod section;
mod show;
mod signed;
mod sinks;
mod testflinger;

pub(crate) use alts::{Alts, by_secret, secret_of};
pub(crate) use bus::{Outlet, Source, read_secret};
pub(crate) use show::without_password;
pub(crate) use signed::{Signed, verifier, web_url};
pub(crate) use sinks::{ConfiguredSink, Surroundings};

use crate::{
    cli::{Given, Givens, Overrides, WorkerArgs},
    fault::{self, Fault},
};
use anyhow::{Context, Result};
use events::config::{NatsConnection, StreamConfig};
use model::{diagnostic::Report, ids::SourceName};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use store::{Retention, Role};
use worker::{
    executor::{Allow, Program, SizeLimits, VmImage},
    git::Protocol,
    secrets::SecretSource,
};

/// The port that a server listens on.
pub(crate) const PORT: u16 = 7400;
/// The data folder below the user's own.
const DATA_DIR: &str = "taskbot-data";
/// The stream that `--nats` takes events from.
const NATS_EVENTS: &str = "TASKBOT_EVENTS";
/// The stream that `--nats` tells in.
const NATS_OUT: &str = "TASKBOT";

/// Everything that can be set.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// This installation's name: the source of the messages that it tells.
    pub(crate) installation: String,
    /// Where everything is kept that has no other place.
    pub(crate) data_dir: PathBuf,
    /// The server.
    pub(crate) server: Server,
    /// The database.
    pub(crate) database: Database,
    /// Rules.
    pub(crate) rules: Rules,
    /// Task repositories.
    pub(crate) git: Git,
    /// Where events come from, besides the API.
    pub(crate) sources: Vec<Source>,
    /// The bus to tell on.
    pub(crate) outlet: Option<Outlet>,
    /// Where results and messages also go.
    pub(crate) sinks: Vec<ConfiguredSink>,
    /// Where logs and artifacts lie.
    pub(crate) files: Files,
    /// How long things are kept.
    pub(crate) retention: Retention,
    /// Running tests once more.
    pub(crate) retest: scheduler::retest::RetestSettings,
    /// The ResultsDB elsewhere that numbers of results are looked up in.
    pub(crate) retest_resultsdb: Option<String>,
    /// Interfaces of other systems.
    pub(crate) interfaces: Interfaces,
    /// The worker.
    pub(crate) worker: Worker,
}

/// `interfaces`: those of other systems.
#[derive(Debug, Clone)]
pub(crate) struct Interfaces {
    /// `interfaces.resultsdb`
    pub(crate) resultsdb: ResultsDb,
    /// `interfaces.rats`
    pub(crate) rats: Rats,
    /// `interfaces.testflinger`
    pub(crate) testflinger: Testflinger,
    /// `interfaces.alts`
    pub(crate) alts: Alts,
    /// `interfaces.paddles`
    pub(crate) paddles: Paddles,
}

/// `interfaces.paddles`
#[derive(Debug, Clone)]
pub(crate) struct Paddles {
    /// Whether it is served.
    pub(crate) enabled: bool,
    /// Where it listens by itself, beside the server's own address.
    pub(crate) listen: Option<SocketAddr>,
    /// How it is served.
    pub(crate) settings: api::paddles::Settings,
}

/// `interfaces.testflinger`
#[derive(Debug, Clone)]
pub(crate) struct Testflinger {
    /// Whether it is served.
    pub(crate) enabled: bool,
    /// Where it listens by itself, beside the server's own address.
    pub(crate) listen: Option<SocketAddr>,
    /// How it is served.
    pub(crate) settings: api::testflinger::Settings,
    /// The file with the key that clients' secrets are sealed with.
    pub(crate) secrets_key_file: Option<PathBuf>,
    /// The host of jobs' webhooks.
    pub(crate) webhook_host: Option<String>,
    /// The file with the token that it is shown.
    pub(crate) webhook_token_file: Option<PathBuf>,
    /// Where people log in.
    pub(crate) oidc: Option<OidcLogin>,
}

/// `interfaces.testflinger.oidc`
#[derive(Debug, Clone)]
pub(crate) struct OidcLogin {
    /// The provider.
    pub(crate) issuer: reqwest::Url,
    /// What this server is called there.
    pub(crate) client_id: String,
    /// The file with its password there.
    pub(crate) client_secret_file: Option<PathBuf>,
    /// What is asked for.
    pub(crate) scope: String,
    /// What of its tokens names a person.
    pub(crate) name_claim: String,
}

/// `interfaces.rats`
#[derive(Debug, Clone)]
pub(crate) struct Rats {
    /// Whether it is served.
    pub(crate) enabled: bool,
    /// Where it listens by itself, beside the server's own address.
    pub(crate) listen: Option<SocketAddr>,
    /// Whether GET asks, too.
    pub(crate) get: bool,
}

/// `interfaces.resultsdb`
#[derive(Debug, Clone)]
pub(crate) struct ResultsDb {
    /// Whether it is served.
    pub(crate) enabled: bool,
    /// Where it listens by itself, beside the server's own address.
    pub(crate) listen: Option<SocketAddr>,
    /// Outcomes that it knows beside its own.
    pub(crate) extra_outcomes: Vec<String>,
}

impl Default for Interfaces {
    fn default() -> Self {
        let extra_outcomes = api::resultsdb::Settings::default().extra_outcomes;
        Self {
            resultsdb: ResultsDb { enabled: true, listen: None, extra_outcomes },
            rats: Rats { enabled: true, listen: None, get: api::rats::Settings::default().get },
            testflinger: Testflinger {
                enabled: true,
                listen: None,
                settings: api::testflinger::Settings::default(),
                secrets_key_file: None,
                webhook_host: None,
                webhook_token_file: None,
                oidc: None,
            },
            alts: Alts::default(),
            paddles: Paddles { enabled: true, listen: None, settings: api::paddles::Settings::default() },
        }
    }
}

impl Interfaces {
    /// As the API takes them.
    ///
    /// # Errors
    /// A secret cannot be read.
    pub(crate) fn served(&self) -> Result<api::Interfaces> {
        let extra_outcomes = self.resultsdb.extra_outcomes.clone();
        Ok(api::Interfaces {
            alts: self.alts.served()?,
            resultsdb: self.resultsdb.enabled.then_some(api::resultsdb::Settings { extra_outcomes }),
            rats: self.rats.enabled.then_some(api::rats::Settings { get: self.rats.get }),
            testflinger: self.testflinger.enabled.then(|| self.testflinger.settings.clone()),
            paddles: self.paddles.enabled.then(|| self.paddles.settings.clone()),
        })
    }

    /// Those that have an address of their own.
    pub(crate) fn listeners(&self) -> Vec<(api::Interface, SocketAddr)> {
        let of = |enabled: bool, listen: Option<SocketAddr>, interface| {
            listen.filter(|_| enabled).map(|listen| (interface, listen))
        };
        let Self { resultsdb, rats, testflinger, alts, paddles } = self;
        let all = [
            of(resultsdb.enabled, resultsdb.listen, api::Interface::ResultsDb),
            of(rats.enabled, rats.listen, api::Interface::Rats),
            of(testflinger.enabled, testflinger.listen, api::Interface::Testflinger),
            of(alts.enabled, alts.listen, api::Interface::Alts),
            of(paddles.enabled, paddles.listen, api::Interface::Paddles),
        ];
        all.into_iter().flatten().collect()
    }
}

/// `server`
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// This server's name among those on the same database; made of host and process when missing.
    pub(crate) name: Option<String>,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// What links that leave begin with.
    pub(crate) public_url: Option<String>,
    /// What requests without a token may do.
    pub(crate) anonymous: Option<Anonymous>,
    /// Whose signed tokens are believed.
    pub(crate) jwt: Vec<Signed>,
    /// How long a worker's lease is.
    pub(crate) lease: Duration,
    /// The queue of tasks that name none.
    pub(crate) default_queue: String,
}

/// `server.anonymous`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Anonymous {
    /// The role.
    pub(crate) role: Role,
    /// The networks that such requests may come from.
    pub(crate) networks: Vec<Network>,
}

/// A network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    /// Its first address.
    pub(crate) address: IpAddr,
    /// How many bits count.
    pub(crate) bits: u8,
}

/// `database`
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// `sqlite:PATH` or `postgres://…`; a SQLite file in the data folder when missing.
    pub(crate) url: Option<String>,
    /// A file with the password.
    pub(crate) password_file: Option<PathBuf>,
    /// The most connections (PostgreSQL).
    pub(crate) connections: u32,
}

/// `rules`
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// The folder.
    pub(crate) folder: Option<PathBuf>,
    /// The git repository, in place of a folder.
    pub(crate) git: Option<String>,
    /// Its branch, tag or commit; its default branch when missing.
    pub(crate) reference: Option<String>,
    /// The folder in it.
    pub(crate) path: Option<String>,
    /// How often it is looked at.
    pub(crate) poll: Duration,
    /// A file with the secret that its forge signs webhooks with.
    pub(crate) webhook_secret_file: Option<PathBuf>,
    /// Hosts that a rule may take repositories from that are not registered.
    pub(crate) hosts: BTreeSet<String>,
    /// Authors of events whose tasks may be trusted.
    pub(crate) authors: BTreeSet<String>,
    /// Whether registered repositories may be `file://` URLs.
    pub(crate) file_urls: bool,
}

/// How often a repository of rules is looked at.
const RULES_POLL: Duration = Duration::from_secs(60);

impl Default for Rules {
    fn default() -> Self {
        Self {
            folder: None,
            git: None,
            reference: None,
            path: None,
            poll: RULES_POLL,
            webhook_secret_file: None,
            hosts: BTreeSet::new(),
            authors: BTreeSet::new(),
            file_urls: false,
        }
    }
}

/// `git`
#[derive(Debug, Clone)]
pub(crate) struct Git {
    /// The protocols that may be used.
    pub(crate) protocols: Vec<Protocol>,
    /// The hosts that repositories may come from; empty for any public one.
    pub(crate) hosts: Vec<String>,
    /// Folders below which repositories on this machine may be used; what lies beside the rules always may.
    pub(crate) folders: Vec<PathBuf>,
    /// How large all mirrors may be, in bytes.
    pub(crate) cache_bytes: u64,
}

/// `files`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Files {
    /// Where: `s3://…` and the like, or `file:///…`; a folder in the data folder when missing.
    pub(crate) url: Option<String>,
    /// Options of the object store, such as `aws_region`.
    pub(crate) options: BTreeMap<String, String>,
    /// A file with `NAME=VALUE` lines of further options, for credentials.
    pub(crate) options_file: Option<PathBuf>,
}

/// `worker`
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    /// Its name; the host's when missing.
    pub(crate) name: Option<String>,
    /// The queues that it serves.
    pub(crate) queues: Vec<String>,
    /// How many attempts run at the same time.
    pub(crate) slots: u32,
    /// Labels.
    pub(crate) labels: BTreeSet<String>,
    /// Architectures; this machine's when empty.
    pub(crate) arches: BTreeSet<String>,
    /// Memory for tasks; all of this machine's when missing.
    pub(crate) memory_bytes: Option<u64>,
    /// Disk space for tasks; what is free when missing.
    pub(crate) disk_bytes: Option<u64>,
    /// Processors for tasks; all of this machine's when missing.
    pub(crate) cpus: Option<u32>,
    /// Where attempts, mirrors and caches are; below the data folder when missing.
    pub(crate) work_dir: Option<PathBuf>,
    /// Time limits are multiplied by this.
    pub(crate) time_factor: f64,
    /// The executors that are set up.
    pub(crate) executors: Executors,
    /// What tasks may have relaxed.
    pub(crate) allow: Allow,
    /// What an attempt may use.
    pub(crate) sizes: SizeLimits,
    /// Fetching external files.
    pub(crate) fetch: Fetch,
    /// Virtual machines.
    pub(crate) vm: Machines,
    /// The longest that the environment of a failed attempt is kept for a person.
    pub(crate) hold_max: Duration,
    /// Whether that of a task that is not trusted is kept too.
    pub(crate) hold_untrusted: bool,
    /// What trusted tasks can be given, by name.
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    /// Programs that provide environments, by the names that tasks call them.
    pub(crate) external: BTreeMap<String, Program>,
}

/// `worker.vm`
#[derive(Debug, Clone, Default)]
pub(crate) struct Machines {
    /// The images that tasks can name.
    pub(crate) images: BTreeMap<String, VmImage>,
    /// What trusted tasks may reach from their machines: `HOST:PORT`.
    pub(crate) network: BTreeSet<String>,
    /// Whether KVM is used; found out when missing.
    pub(crate) kvm: Option<bool>,
}

/// `worker.executors`
#[derive(Debug, Clone)]
pub(crate) struct Executors {
    /// Containers.
    pub(crate) container: bool,
    /// Virtual machines.
    pub(crate) vm: bool,
    /// The sandbox.
    pub(crate) sandbox: bool,
    /// Without isolation: for trusted tasks only.
    pub(crate) local: bool,
    /// Without isolation also for tasks that are not trusted.
    pub(crate) local_untrusted: bool,
    /// The engine's sockets; the usual ones when empty.
    pub(crate) sockets: Vec<PathBuf>,
    /// The image of tasks that name none.
    pub(crate) default_image: Option<String>,
    /// When images are pulled: `always`, `if_missing`, `never`.
    pub(crate) pull: String,
    /// A Docker `config.json` with credentials for registries.
    pub(crate) registry_config: Option<PathBuf>,
    /// The engine's network.
    pub(crate) network: String,
    /// Whether containers with network reach link-local addresses.
    pub(crate) link_local: bool,
    /// The engine's runtime.
    pub(crate) runtime: Option<String>,
    /// What the sandbox sees besides.
    pub(crate) binds: Vec<PathBuf>,
}

/// `worker.fetch`
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    /// How large the cache may be.
    pub(crate) cache_bytes: u64,
    /// The largest file.
    pub(crate) file_bytes: u64,
    /// Networks that are never fetched from.
    pub(crate) refused_networks: Vec<worker::fetch::Network>,
    /// Where builds, updates and composes are looked up.
    pub(crate) lookups: worker::config::FetchLookups,
    /// Hosts that may be fetched from although their addresses are not public.
    pub(crate) private_hosts: BTreeSet<String>,
    /// Folders below which `file:` URLs are taken.
    pub(crate) folders: Vec<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        let scheduler = scheduler::Settings::default();
        let git = worker::git::GitConfig::default();
        let fetch = worker::config::FetchConfig::default();
        Self {
            installation: scheduler.installation,
            data_dir: PathBuf::from(DATA_DIR),
            server: Server {
                name: None,
                listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT),
                public_url: None,
                anonymous: None,
                jwt: Vec::new(),
                lease: scheduler.lease,
                default_queue: scheduler.default_queue.clone(),
            },
            database: Database {
                url: None,
                password_file: None,
                connections: store::postgres::PoolOptions::default().connections_max,
            },
            rules: Rules::default(),
            retest: scheduler.retest,
            retest_resultsdb: None,
            interfaces: Interfaces::default(),
            git: Git {
                protocols: git.protocols,
                hosts: git.hosts,
                folders: git.local_roots,
                cache_bytes: git.cache_bytes_max,
            },
            sources: Vec::new(),
            outlet: None,
            sinks: Vec::new(),
            files: Files::default(),
            retention: scheduler.retention,
            worker: Worker {
                name: None,
                queues: vec![scheduler.default_queue],
                slots: worker::config::SLOTS_DEFAULT,
                labels: BTreeSet::new(),
                arches: BTreeSet::new(),
                memory_bytes: None,
                disk_bytes: None,
                cpus: None,
                work_dir: None,
                time_factor: 1.0,
                executors: Executors {
                    container: true,
                    vm: true,
                    sandbox: true,
                    local: false,
                    local_untrusted: false,
                    sockets: Vec::new(),
                    default_image: None,
                    pull: "if_missing".to_owned(),
                    registry_config: None,
                    network: "bridge".to_owned(),
                    link_local: false,
                    runtime: None,
                    binds: Vec::new(),
                },
                allow: Allow::default(),
                sizes: SizeLimits::default(),
                fetch: Fetch {
                    cache_bytes: fetch.cache_bytes_max,
                    file_bytes: fetch.file_bytes_max,
                    private_hosts: fetch.private_hosts,
                    refused_networks: fetch.refused_networks,
                    lookups: fetch.lookups,
                    folders: fetch.file_folders,
                },
                vm: Machines::default(),
                hold_max: worker::config::HOLD_MAX_DEFAULT,
                hold_untrusted: false,
                secrets: BTreeMap::new(),
                external: BTreeMap::new(),
            },
        }
    }
}

impl Worker {
    /// Lays the command line over it.
    pub(crate) fn apply(&mut self, args: &WorkerArgs) {
        self.name = args.name.clone().or_else(|| self.name.take());
        if !args.queues.is_empty() {
            self.queues.clone_from(&args.queues);
        }
        self.labels.extend(args.labels.iter().cloned());
        self.slots = args.slots.unwrap_or(self.slots);
        self.work_dir = args.work_dir.clone().or_else(|| self.work_dir.take());
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// Nobody said anything else.
    Default,
    /// The configuration file.
    File,
    /// The environment.
    Env,
    /// A flag.
    Flag,
}

impl From<Given> for Origin {
    fn from(given: Given) -> Self {
        match given {
            Given::Flag => Self::Flag,
            Given::Env => Self::Env,
        }
    }
}

/// A configuration, and where its values come from; those that are missing are defaults.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loaded {
    /// The values.
    pub(crate) config: Config,
    /// By path, such as `server.listen`.
    pub(crate) origins: BTreeMap<String, Origin>,
}

impl Config {
    /// Reads a configuration file; the defaults when there is none.
    ///
    /// # Errors
    /// It cannot be read, or is wrong: then all mistakes with their places.
    pub(crate) fn load(file: Option<&Path>) -> Result<Loaded> {
        let Some(file) = file else { return Loaded::default().absolute() };
        let text = std::fs::read_to_string(file)
            .map_err(|error| Fault::unread(format_args!("the configuration {}", file.display()), &error))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let (loaded, report) = read::read(&file.display().to_string(), &text, folder);
        match loaded {
            Some(loaded) => {
                for warning in &report.diagnostics {
                    tracing::warn!("{warning}");
                }
                loaded.absolute()
            }
            None => Err(Fault::new(fault::USAGE, mistakes(&report)).into()),
        }
    }
}

/// All mistakes, each shown with its place.
pub(crate) fn mistakes(report: &Report) -> String {
    let count = report.errors();
    let shown = report.render(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    format!("the configuration has {count} {}\n{shown}", if count == 1 { "mistake" } else { "mistakes" })
}

/// Checks a file's text, for `config check`: what it says, where there is no mistake, and the mistakes and warnings.
pub(crate) fn check(file: &Path, text: &str) -> (Option<Loaded>, Report) {
    read::read(&file.display().to_string(), text, file.parent().unwrap_or(Path::new("")))
}

impl Loaded {
    /// Lays the environment over it, for commands that have no flags for it.
    ///
    /// # Errors
    /// A variable holds a wrong value.
    pub(crate) fn lay_environment_over(mut self) -> Result<Self> {
        let (over, given) = Overrides::of_environment().map_err(|error| Fault::usage(error.to_string()))?;
        if !given.is_empty() {
            self.lay_over(&over, &given)?;
        }
        Ok(self)
    }

    /// Lays flags and environment over it.
    ///
    /// # Errors
    /// One of them is wrong.
    pub(crate) fn lay_over(&mut self, over: &Overrides, given: &Givens) -> Result<()> {
        let config = &mut self.config;
        let origins = &mut self.origins;
        let mut note = |argument: &str, path: &str| {
            let origin = given.get(argument).map_or(Origin::Flag, |given| Origin::from(*given));
            origins.insert(path.to_owned(), origin);
        };
        if let Some(listen) = &over.listen {
            config.server.listen = listen.parse().map_err(|_| {
                Fault::usage(format!(
                    "--listen: `{listen}` is no address; expected ADDR:PORT, such as 127.0.0.1:{PORT}"
                ))
            })?;
            note("listen", "server.listen");
        }
        if let Some(dir) = &over.data_dir {
            config.data_dir.clone_from(dir);
            note("data_dir", "data_dir");
        }
        if let Some(url) = &over.database {
            read::check_database_url(url).map_err(|why| Fault::usage(format!("--database: {why}")))?;
            config.database.url = Some(url.clone());
            note("database", "database.url");
        }
        if let Some(folder) = &over.rules {
            config.rules.folder = Some(folder.clone());
            config.rules.git = None;
            note("rules", "rules.folder");
        }
        if let Some(url) = &over.nats {
            (config.sources, config.outlet) = nats(url, &config.installation);
            note("nats", "sources");
            note("nats", "outlet");
        }
        *self = std::mem::take(self).absolute()?;
        Ok(())
    }

    /// Paths that mean the same wherever they are used.
    fn absolute(mut self) -> Result<Self> {
        let base = std::env::current_dir().context("the current folder")?;
        let config = &mut self.config;
        config.data_dir = base.join(&config.data_dir);
        config.rules.folder = config.rules.folder.take().map(|folder| base.join(folder));
        Ok(self)
    }
}

/// What `--nats` stands for.
fn nats(url: &str, installation: &str) -> (Vec<Source>, Option<Outlet>) {
    let source = events::config::NatsSourceConfig {
        strip_prefix: Some("events".to_owned()),
        ..events::config::NatsSourceConfig::new(
            SourceName::from("nats"),
            NatsConnection::to(url),
            StreamConfig::created(NATS_EVENTS, &["events.>"]),
            installation,
        )
    };
    let outlet = events::config::NatsOutletConfig::new(
        NatsConnection::to(url),
        StreamConfig::created(NATS_OUT, &["taskbot.>"]),
        installation,
    );
    (vec![Source::plain(source)], Some(Outlet::plain(outlet)))
}

#[cfg(test)]
mod tests;
