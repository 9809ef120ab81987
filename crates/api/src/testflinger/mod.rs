//! Testflinger's interface (`/v1/*`), over tasks that are handed to its agents instead of our own workers.
//!
//! Requests, answers and errors have the shapes of Testflinger 1.5, since its agent and command line compare them;
//! unless `strict` is set, what older versions took is taken, too. A job is a task of kind `foreign`: its queue,
//! states, attempts, lease and fence are those of all tasks. Better on purpose: a job whose agent is not heard of is
//! queued again, one that was cancelled stays so, and the answer to a hand-out can be asked for again.

mod agents;
mod allowed;
mod answer;
mod clients;
mod events;
mod files;
mod hand_out;
mod jobs;
mod logs;
mod oidc;
mod queues;
mod resubmit;
mod results;
mod schema;
mod secrets;
mod shapes;
mod tokens;
mod view;
mod who;

pub(crate) use answer::in_this_form;
pub use events::Webhook;
pub use oidc::{NAME_CLAIM_DEFAULT, Oidc, SCOPE_DEFAULT};
pub use secrets::{KEY_BYTES_MIN, SealKey};
pub(crate) use who::{is_own_path, is_own_token};

use crate::state::ApiState;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{MethodRouter, delete, get, post, put},
};
use std::time::Duration;
use who::Open;

/// The system's name, in tasks, workers' names and the store.
pub const SYSTEM: &str = "testflinger";
/// How long an agent may be silent before its job is taken from it, by default.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// The largest file that is taken, attachments and artifacts, in bytes, by default.
pub const FILE_BYTES_MAX_DEFAULT: u64 = 20 * 1024 * 1024 * 1024;
/// How often a job whose agent was lost is queued again.
pub const REQUEUES_MAX: u32 = 2;
/// The largest job in bytes.
const JOB_BYTES_MAX: usize = 256 * 1024;
/// The largest report of a job in bytes.
const RESULT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest other body in bytes.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Today's exact validation, roles and codes, rather than all that any version took.
    pub strict: bool,
    /// How long an agent may be silent before its job is taken from it.
    pub lease: Duration,
    /// Whether a job whose agent was lost is queued again; else it ends as `error(lost)`.
    pub requeue: bool,
    /// The largest file that is taken, in bytes.
    pub file_bytes_max: u64,
    /// What clients' secrets are sealed with; without it none are kept.
    pub secrets: Option<SealKey>,
    /// Where webhooks of jobs may be; without it none are told.
    pub webhook: Option<Webhook>,
    /// Where people log in; without it its paths are not there.
    pub oidc: Option<Oidc>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strict: false,
            lease: LEASE_DEFAULT,
            requeue: true,
            file_bytes_max: FILE_BYTES_MAX_DEFAULT,
            secrets: None,
            webhook: None,
            oidc: None,
        }
    }
}

/// Every operation, with who may use it: path, methods.
fn operations() -> Vec<(&'static str, Open, MethodRouter<ApiState>)> {
    let job = DefaultBodyLimit::max(JOB_BYTES_MAX);
    let result = DefaultBodyLimit::max(RESULT_BYTES_MAX);
    let file = DefaultBodyLimit::disable;
    vec![
        ("/v1", Open::Public, get(queues::version)),
        ("/v1/job", Open::Submit, post(jobs::submit).layer(job)),
        ("/v1/job", Open::Agent, get(hand_out::hand_out)),
        ("/v1/job/search", Open::Read, get(jobs::search)),
        ("/v1/job/{id}", Open::Read, get(jobs::show)),
        ("/v1/job/{id}/position", Open::Read, get(jobs::position)),
        ("/v1/job/{id}/action", Open::Submit, post(jobs::action)),
        ("/v1/job/{id}/attachments", Open::Submit, post(files::attach).layer(file())),
        ("/v1/job/{id}/attachments", Open::Agent, get(files::attachments)),
        ("/v1/result/{id}", Open::Agent, post(results::report).layer(result)),
        ("/v1/result/{id}", Open::Everyone, get(results::show)),
        ("/v1/result/{id}/status", Open::Everyone, get(results::status)),
        ("/v1/result/{id}/artifact", Open::Agent, post(files::upload).layer(file())),
        ("/v1/result/{id}/artifact", Open::Read, get(files::artifact)),
        ("/v1/result/{id}/log/{kind}", Open::Agent, post(logs::add)),
        ("/v1/result/{id}/log/{kind}", Open::Read, get(logs::show)),
        ("/v1/agents/queues", Open::Read, get(queues::list)),
        ("/v1/agents/queues", Open::Agents, post(queues::describe)),
        ("/v1/agents/images/{queue}", Open::Read, get(queues::images)),
        ("/v1/agents/images", Open::Agents, post(queues::set_images)),
        ("/v1/agents/data", Open::Read, get(agents::list)),
        ("/v1/agents/data/{name}", Open::Everyone, get(agents::show)),
        ("/v1/agents/data/{name}", Open::Agents, post(agents::report)),
        ("/v1/agents/provision_logs/{name}", Open::Agent, post(agents::provision_log)),
        ("/v1/queues/wait_times", Open::Read, get(queues::wait_times)),
        ("/v1/queues/{name}/agents", Open::Read, get(queues::agents)),
        ("/v1/queues/{name}/jobs", Open::Read, get(queues::jobs)),
        ("/v1/job/{id}/events", Open::Agent, post(events::relay)),
        ("/v1/oauth2/token", Open::Public, post(tokens::token)),
        ("/v1/oauth2/refresh", Open::Public, post(tokens::refresh)),
        ("/v1/oauth2/revoke", Open::Admin, post(tokens::revoke)),
        ("/v1/restricted-queues", Open::Read, get(clients::restricted_queues)),
        ("/v1/restricted-queues/{queue}", Open::Read, get(clients::restricted_queue)),
        ("/v1/restricted-queues/{queue}", Open::Manage, post(clients::restrict)),
        ("/v1/restricted-queues/{queue}", Open::Manage, delete(clients::unrestrict)),
        ("/v1/client-permissions", Open::Manage, get(clients::list)),
        ("/v1/client-permissions/{id}", Open::Manage, get(clients::show)),
        ("/v1/client-permissions/{id}", Open::Manage, put(clients::put)),
        ("/v1/client-permissions/{id}", Open::Admin, delete(clients::remove)),
        ("/v1/secrets/{client}/{*path}", Open::Submit, put(secrets::put)),
        ("/v1/secrets/{client}/{*path}", Open::Submit, delete(secrets::remove)),
    ]
}

/// All its routes; each with and without a slash at its end.
pub(crate) fn routes(state: &ApiState) -> Router<ApiState> {
    let mut router = Router::new();
    let mut all = operations();
    if state.testflinger().oidc.is_some() {
        all.push(("/oidc/auth-init", Open::Public, post(oidc::begin)));
        all.push(("/oidc/auth-poll/{id}", Open::Public, post(oidc::poll)));
    }
    for (path, open, methods) in all {
        let gate = middleware::from_fn_with_state((state.clone(), open), who::gate);
        let methods: MethodRouter<ApiState> = methods.route_layer(gate);
        let methods: MethodRouter<ApiState> = methods.layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
        router = router.route(path, methods.clone());
        // The rest of a path has its slash in it.
        if !path.contains('*') {
            router = router.route(&format!("{path}/"), methods);
        }
    }
    router
}
