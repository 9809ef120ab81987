//! A server that runs.

use super::{
    access::{self, Entry, INNER_TOKEN_PREFIX},
    machine, open,
    repositories::{GitRepositories, GitRules, git_config},
};
use crate::{
    config::{Config, Surroundings, read_secret, verifier},
    fault::{self, Fault},
};
use anyhow::{Context, Result, anyhow};
use api::{ApiState, HOOK_SECRET_BYTES_MIN, HookSecret};
use events::{Outlet, nats::JetStreamOutlet};
use model::{Clock, Ids, SystemClock, SystemIds, ids::TokenId, retest::ResultsElsewhere};
use results::elsewhere::ResultsDbElsewhere;
use scheduler::{Parts, Scheduler, Settings, rulebook::Rulebook};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use store::Role;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use worker::git::GitCache;

/// Who reloads rules when a person asks by a signal.
const BY_SIGNAL: &str = "SIGHUP";
/// How long to wait before an outlet that is not ready is looked at again.
const OUTLET_PAUSE: Duration = Duration::from_secs(1);
/// Who loads rules at a start.
const BY_START: &str = "start";

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Running {
    scheduler: Scheduler,
    address: SocketAddr,
    public_url: Option<String>,
    interfaces: Vec<(api::Interface, SocketAddr)>,
    entry: Entry,
    backend: String,
    stop: CancellationToken,
    jobs: JoinSet<Result<()>>,
    inner_token: Option<TokenId>,
}

impl Running {
    /// Opens everything, loads the rules, and runs.
    ///
    /// # Errors
    /// Something cannot be opened, may not be listened on, or there are no rules but wrong ones.
    pub(crate) async fn start(config: &Config) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids: Arc<dyn Ids> = Arc::new(SystemIds);
        open::private_folder(&config.data_dir)?;
        let store = open::store(config, &clock, &ids).await?;
        let listen = config.server.listen;
        let listener = bind(listen, "give another address (--listen)").await?;
        let address = listener.local_addr().context("the listener's address")?;
        let tokens = access::tokens(&*store).await?;
        let entry = Entry::decide(&config.server, address, tokens)?;
        let git = GitCache::new(config.data_dir.join("mirrors"), git_config(config))
            .map_err(|error| anyhow!("{error}"))?;
        let git = Arc::new(git);
        let backend = store.backend().await?;
        let options = rules::Options {
            trusted_hosts: config.rules.hosts.clone(),
            trusted_authors: config.rules.authors.clone(),
            file_urls: config.rules.file_urls,
        };
        let outlet = open::outlet(config, &clock).await?;
        let told = outlet.clone().map(|outlet| outlet as Arc<dyn Outlet>);
        let files = open::files(config)?;
        let told_base = config.server.public_url.clone().unwrap_or_else(|| local_url(address));
        let around = Surroundings {
            installation: &config.installation,
            public_url: config.server.public_url.as_ref(),
            base: &told_base,
            outlet: told.as_ref(),
            store: &store,
            files: &files,
        };
        let sinks = config.sinks.iter().map(|sink| sink.open(&around)).collect::<Result<Vec<_>>>()?;
        let scheduler = Scheduler::new(Parts {
            settings: settings(config, address),
            clock: Arc::clone(&clock),
            ids,
            store,
            files,
            rulebook: match GitRules::of(config, &git) {
                Some(rules) => Rulebook::from_git(options, Arc::new(rules)),
                None => Rulebook::new(options, config.rules.folder.clone()),
            },
            repositories: Arc::new(GitRepositories(git)),
            outlet: told.clone(),
            sinks,
            results_elsewhere: config.retest_resultsdb.as_deref().map(results_elsewhere).transpose()?,
        });
        // Before anything comes in, so that nothing is judged by rules of yesterday.
        load_rules(&scheduler).await?;
        let sources = open::sources(config, &clock).await?;
        let stop = CancellationToken::new();
        let mut interfaces = config.interfaces.served()?;
        if let Some(testflinger) = &mut interfaces.testflinger {
            testflinger_secrets(&config.interfaces.testflinger, testflinger)?;
        }
        let hook = rules_hook(config)?;
        let signed = verifier(&config.server.jwt)?;
        let state = |entry: &Entry| {
            let (scheduler, interfaces) = (scheduler.clone(), interfaces.clone());
            let access = entry.access().believing(Arc::clone(&signed));
            let state = ApiState::with_interfaces(scheduler, access, interfaces, stop.clone());
            state.taking_webhooks(hook.clone())
        };
        let mut jobs = JoinSet::new();
        let mut served = vec![(listener, api::router(state(&entry)))];
        let mut own = Vec::new();
        for (interface, listen) in config.interfaces.listeners() {
            let listener = bind(listen, "give another address (interfaces.NAME.listen)").await?;
            let at = listener.local_addr().context("the listener's address")?;
            // Its clients have tokens of their own.
            let alts = interface == api::Interface::Alts && config.interfaces.alts.secret_file.is_some();
            let entry = Entry::decide(&config.server, at, tokens + usize::from(alts))?;
            own.push((interface, at));
            served.push((listener, api::interface_router(interface, state(&entry))));
        }
        let callbacks =
            api::alts::run_callbacks(state(&entry), told_base.trim_end_matches('/').to_owned(), stop.clone());
        if interfaces.alts.as_ref().is_some_and(|alts| alts.build_system.is_some()) {
            jobs.spawn(async move {
                callbacks.await;
                Ok(())
            });
        }
        if let Some(outlet) = outlet {
            let stopped = stop.clone();
            jobs.spawn(async move {
                keep_ready(&outlet, &stopped).await;
                Ok(())
            });
        }
        let (running, stopped) = (scheduler.clone(), stop.clone());
        jobs.spawn(async move { Ok(running.run(sources, stopped).await?) });
        for (listener, router) in served {
            let stopped = stop.clone();
            jobs.spawn(
                async move { api::serve(listener, router, stopped).await.context("a listener failed") },
            );
        }
        let public_url = config.server.public_url.clone();
        Ok(Self {
            scheduler,
            address,
            public_url,
            interfaces: own,
            entry,
            backend,
            stop,
            jobs,
            inner_token: None,
        })
    }

    /// Reads the rules folder again, and says how it went.
    pub(crate) async fn reload(&self) {
        match self.scheduler.reload_rules(BY_SIGNAL).await {
            Ok(active) => tracing::info!(revision = active.revision.short(), "rules are read again"),
            Err(error) => tracing::error!(
                error = error.details(),
                "the rules are not taken; the old ones stay in force"
            ),
        }
    }

    /// A token for a worker in this process. Those that an earlier process left are revoked.
    ///
    /// # Errors
    /// The database is away.
    pub(crate) async fn agent_token(&mut self) -> Result<String> {
        let store = self.scheduler.store();
        let name = format!("{INNER_TOKEN_PREFIX}{}", self.scheduler.settings().server);
        for left in store.tokens().await?.into_iter().filter(|token| token.name == name) {
            store.revoke_token(left.id).await?;
        }
        let now = self.scheduler.clock().now();
        let (token, text) = api::auth::new_token(&**self.scheduler.ids(), &name, Role::Agent, now, None);
        store.add_token(&token).await?;
        self.inner_token = Some(token.id);
        Ok(text)
    }

    /// Waits until a part ends by itself, which none should.
    ///
    /// # Errors
    /// Always: why it ended.
    pub(crate) async fn ended(&mut self) -> Result<()> {
        match self.jobs.join_next().await {
            Some(Ok(Err(error))) => Err(error),
            Some(Err(panic)) => Err(anyhow!("a part of the server broke: {panic}")),
            Some(Ok(Ok(()))) | None => Err(anyhow!("a part of the server ended by itself")),
        }
    }

    /// Ends it in order: nothing new comes in, what is under way is finished, then the database is closed.
    pub(crate) async fn stop(mut self) {
        if let Some(token) = self.inner_token
            && let Err(error) = self.scheduler.store().revoke_token(token).await
        {
            tracing::debug!(%error, "the inner worker's token stays; the next start revokes it");
        }
        self.stop.cancel();
        while let Some(ended) = self.jobs.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::warn!(error = format!("{error:#}"), "a part of the server did not end well");
            }
        }
        self.scheduler.store().close().await;
    }

    /// Where it listens, as it stands: `0.0.0.0` is every address of this machine.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What links begin with.
    pub(crate) fn url(&self) -> String {
        self.public_url
            .as_deref()
            .map_or_else(|| self.inner_url(), |url| url.trim_end_matches('/').to_owned())
    }

    /// Interfaces of other systems that have an address of their own, with it.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        self.interfaces.iter().map(|(interface, address)| (interface.name(), local_url(*address)))
    }

    /// How this process reaches it.
    pub(crate) fn inner_url(&self) -> String {
        local_url(self.address)
    }

    /// The database, in words.
    pub(crate) fn backend(&self) -> &str {
        &self.backend
    }

    /// Who may come in, in words.
    pub(crate) fn access_words(&self) -> String {
        self.entry.words()
    }

    /// The rules in force, in words.
    pub(crate) fn rules_words(&self) -> String {
        let rulebook = self.scheduler.rulebook();
        let set = rulebook.current();
        let count = set.rules().len();
        match rulebook.folder() {
            _ if count > 0 => format!("{count} in force, revision {}", set.revision().short()),
            Some(folder) => format!("none in {}", folder.display()),
            None if rulebook.has_source() => "none yet".to_owned(),
            None => "none; give a folder (--rules DIR)".to_owned(),
        }
    }
}

/// How this machine reaches an address that is listened on.
fn local_url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

async fn bind(listen: SocketAddr, hint: &str) -> Result<TcpListener, Fault> {
    TcpListener::bind(listen)
        .await
        .map_err(|error| Fault::new(fault::INFRA, format!("cannot listen on {listen}: {error}; {hint}")))
}

/// Makes the outlet's stream, and looks at it again whenever it is not ready: whether it is must be known
/// before there is something to tell.
async fn keep_ready(outlet: &JetStreamOutlet, stop: &CancellationToken) {
    let mut health = outlet.health();
    let work = async {
        while health.wait_for(|health| !health.connected).await.is_ok() {
            if let Err(error) = outlet.establish().await {
                tracing::debug!(%error, "the outlet is not ready");
                tokio::time::sleep(OUTLET_PAUSE).await;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

fn settings(config: &Config, address: SocketAddr) -> Settings {
    let own = || format!("{}-{}", machine::host_name(), address.port());
    Settings {
        installation: config.installation.clone(),
        public_url: config.server.public_url.clone(),
        foreign_sources: config
            .sources
            .iter()
            .filter(|source| source.is_foreign())
            .map(|source| source.config().name.clone())
            .collect(),
        server: config.server.name.clone().unwrap_or_else(own),
        lease: config.server.lease,
        retention: config.retention.clone(),
        default_queue: config.server.default_queue.clone(),
        retest: config.retest.clone(),
        requeue_foreign: config.interfaces.testflinger.settings.requeue,
        ..Settings::default()
    }
}

/// Where numbers of results are looked up that are not ours.
fn results_elsewhere(url: &str) -> Result<Arc<dyn ResultsElsewhere>> {
    let place = ResultsDbElsewhere::new(url).map_err(|error| anyhow!("retest.resultsdb: {error}"))?;
    Ok(Arc::new(place))
}

/// The secret of the webhook for the repository of the rules.
fn rules_hook(config: &Config) -> Result<Option<HookSecret>> {
    let Some(file) = &config.rules.webhook_secret_file else { return Ok(None) };
    let secret = HookSecret::new(read_secret(file)?).ok_or_else(|| {
        let file = file.display();
        Fault::usage(format!("the webhook secret in {file} needs at least {HOOK_SECRET_BYTES_MIN} bytes"))
    })?;
    Ok(Some(secret))
}

/// What Testflinger's interface keeps in files: the key of its secrets, and what its webhook is shown.
fn testflinger_secrets(
    config: &crate::config::Testflinger,
    settings: &mut api::testflinger::Settings,
) -> Result<()> {
    if let Some(file) = &config.secrets_key_file {
        let key = api::testflinger::SealKey::new(read_secret(file)?.as_bytes()).ok_or_else(|| {
            let (file, min) = (file.display(), api::testflinger::KEY_BYTES_MIN);
            Fault::usage(format!("the key in {file} needs at least {min} bytes"))
        })?;
        settings.secrets = Some(key);
    }
    if let Some(host) = &config.webhook_host {
        let token = config.webhook_token_file.as_ref().map(|file| read_secret(file)).transpose()?;
        let token = token.map(|token| token.trim().into());
        settings.webhook = Some(api::testflinger::Webhook { host: host.clone(), token });
    }
    if let Some(oidc) = &config.oidc {
        let secret = oidc.client_secret_file.as_ref().map(|file| read_secret(file)).transpose()?;
        let secret = secret.map(|secret| secret.trim().into());
        let (client_id, scope) = (oidc.client_id.clone(), oidc.scope.clone());
        let name_claim = oidc.name_claim.clone();
        let login = api::testflinger::Oidc::new(oidc.issuer.clone(), client_id, secret, scope, name_claim);
        settings.oidc = Some(login);
    }
    Ok(())
}

/// Loads the rules folder. Rules that are wrong leave the old ones in force; without old ones they are an
/// error.
///
/// # Errors
/// There is no rule set in force and the folder's is wrong, or the database is away.
async fn load_rules(scheduler: &Scheduler) -> Result<()> {
    if !scheduler.rulebook().has_source() {
        return Ok(());
    }
    let Err(error) = scheduler.reload_rules(BY_START).await else { return Ok(()) };
    if scheduler.store().active().await?.is_some() {
        tracing::error!(error = error.details(), "the rules are not taken; the old ones stay in force");
        return Ok(());
    }
    let shown = match &error {
        // A repository that is away is looked at again; until then nothing is judged.
        scheduler::rulebook::RuleSetError::Repository(_) if error.is_transient() => {
            tracing::warn!(error = error.details(), "the rules cannot be read yet; events wait for them");
            return Ok(());
        }
        scheduler::rulebook::RuleSetError::Wrong(report) => {
            report.render(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        }
        other => other.details(),
    };
    let gone = scheduler.rulebook().folder().is_some_and(|folder| !folder.exists());
    let code = if gone { fault::NOT_FOUND } else { fault::FAILED };
    Err(Fault::new(code, format!("{error}\n{shown}")).into())
}
