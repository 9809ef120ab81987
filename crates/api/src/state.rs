//! What all handlers share.

use crate::{alts, auth::Access, jwt::Verifier, paddles, rats, resultsdb, routes::HookSecret, testflinger};
use scheduler::Scheduler;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How the interfaces of other systems are served; `None` is not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interfaces {
    /// ResultsDB's.
    pub resultsdb: Option<resultsdb::Settings>,
    /// RATS'.
    pub rats: Option<rats::Settings>,
    /// Testflinger's.
    pub testflinger: Option<testflinger::Settings>,
    /// ALTS'.
    pub alts: Option<alts::Settings>,
    /// paddles'.
    pub paddles: Option<paddles::Settings>,
}

impl Default for Interfaces {
    /// All of them.
    fn default() -> Self {
        Self {
            resultsdb: Some(resultsdb::Settings::default()),
            rats: Some(rats::Settings::default()),
            testflinger: Some(testflinger::Settings::default()),
            alts: Some(alts::Settings::default()),
            paddles: Some(paddles::Settings::default()),
        }
    }
}

/// The interface of another system, where it is served by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// ResultsDB's.
    ResultsDb,
    /// RATS'.
    Rats,
    /// Testflinger's.
    Testflinger,
    /// ALTS'.
    Alts,
    /// paddles'.
    Paddles,
}

impl Interface {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ResultsDb => "resultsdb",
            Self::Rats => "rats",
            Self::Testflinger => "testflinger",
            Self::Alts => "alts",
            Self::Paddles => "paddles",
        }
    }
}

/// What all handlers share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState(Arc<Shared>);

#[derive(Debug, Clone)]
struct Shared {
    scheduler: Scheduler,
    access: Access,
    interfaces: Interfaces,
    resultsdb: resultsdb::Settings,
    testflinger: testflinger::Settings,
    alts_tokens: Verifier,
    rules_hook: Option<HookSecret>,
    other_sites_read: bool,
    stop: CancellationToken,
}

impl ApiState {
    /// `stop` ends long polls and streams when the server stops.
    #[must_use]
    pub fn new(scheduler: Scheduler, access: Access, stop: CancellationToken) -> Self {
        Self::with_interfaces(scheduler, access, Interfaces::default(), stop)
    }

    /// As [`ApiState::new`], with the interfaces of other systems served in another way.
    #[must_use]
    pub fn with_interfaces(
        scheduler: Scheduler,
        access: Access,
        interfaces: Interfaces,
        stop: CancellationToken,
    ) -> Self {
        let resultsdb = interfaces.resultsdb.clone().unwrap_or_default();
        let testflinger = interfaces.testflinger.clone().unwrap_or_default();
        let alts_tokens = interfaces.alts.as_ref().map(alts::Settings::verifier).unwrap_or_default();
        Self(Arc::new(Shared {
            scheduler,
            access,
            interfaces,
            resultsdb,
            testflinger,
            alts_tokens,
            rules_hook: None,
            other_sites_read: false,
            stop,
        }))
    }

    /// Takes webhooks for the repository of the rules that are signed with this secret; none without one.
    #[must_use]
    pub fn taking_webhooks(self, rules_hook: Option<HookSecret>) -> Self {
        Self(Arc::new(Shared { rules_hook, ..(*self.0).clone() }))
    }

    /// Lets pages of other sites read without a token, where everybody may.
    #[must_use]
    pub(crate) fn read_by_other_sites(self) -> Self {
        Self(Arc::new(Shared { other_sites_read: true, ..(*self.0).clone() }))
    }

    /// Whether pages of other sites may read without a token.
    #[must_use]
    pub(crate) fn is_read_by_other_sites(&self) -> bool {
        self.0.other_sites_read
    }

    /// The scheduler.
    #[must_use]
    pub fn scheduler(&self) -> &Scheduler {
        &self.0.scheduler
    }

    /// Who may do what.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.0.access
    }

    /// How the interfaces of other systems are served.
    #[must_use]
    pub fn interfaces(&self) -> &Interfaces {
        &self.0.interfaces
    }

    /// How ResultsDB's is served, where it is.
    #[must_use]
    pub(crate) fn resultsdb(&self) -> &resultsdb::Settings {
        &self.0.resultsdb
    }

    /// How Testflinger's is served, where it is.
    #[must_use]
    pub(crate) fn testflinger(&self) -> &testflinger::Settings {
        &self.0.testflinger
    }

    /// Whose signed tokens are believed by ALTS' interface, and nowhere else.
    #[must_use]
    pub(crate) fn alts_tokens(&self) -> &Verifier {
        &self.0.alts_tokens
    }

    /// What a forge signs its webhooks with for the repository of the rules.
    #[must_use]
    pub(crate) fn rules_hook(&self) -> Option<&HookSecret> {
        self.0.rules_hook.as_ref()
    }

    /// Where our own pages are, for links: the configured address of this server, else that of the request.
    #[must_use]
    pub(crate) fn native(&self, asked: &resultsdb::Base) -> resultsdb::Base {
        self.scheduler().settings().public_url.as_deref().map_or_else(|| asked.clone(), resultsdb::Base::at)
    }

    /// Ends long polls and streams.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }
}
