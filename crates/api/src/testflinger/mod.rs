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
mod live;
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

use crate::{described, state::ApiState};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{MethodRouter, delete, get, post, put},
};
use serde_json::Value;
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
const JOB_BYTES_MAX: usize = 1024 * 1024;
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

/// An operation: its method, its path, who may use it, and what serves it.
type Operation = (&'static str, &'static str, Open, MethodRouter<ApiState>);

/// Every operation: those of a login where there is one, and those of older clients unless `strict` is set.
fn operations(settings: &Settings) -> Vec<Operation> {
    let job = DefaultBodyLimit::max(JOB_BYTES_MAX);
    let result = DefaultBodyLimit::max(RESULT_BYTES_MAX);
    let file = DefaultBodyLimit::disable;
    let mut all: Vec<Operation> = vec![
        ("get", "/v1", Open::Public, get(queues::version)),
        ("post", "/v1/job", Open::Submit, post(jobs::submit).layer(job)),
        ("get", "/v1/job", Open::Agent, get(hand_out::hand_out)),
        ("get", "/v1/job/search", Open::Read, get(jobs::search)),
        ("get", "/v1/job/{id}", Open::Read, get(jobs::show)),
        ("get", "/v1/job/{id}/position", Open::Read, get(jobs::position)),
        ("post", "/v1/job/{id}/action", Open::Submit, post(jobs::action)),
        ("post", "/v1/job/{id}/attachments", Open::Submit, post(files::attach).layer(file())),
        ("get", "/v1/job/{id}/attachments", Open::Agent, get(files::attachments)),
        ("post", "/v1/result/{id}", Open::Agent, post(results::report).layer(result)),
        ("get", "/v1/result/{id}", Open::Everyone, get(results::show)),
        ("get", "/v1/result/{id}/status", Open::Everyone, get(results::status)),
        ("post", "/v1/result/{id}/artifact", Open::Agent, post(files::upload).layer(file())),
        ("get", "/v1/result/{id}/artifact", Open::Read, get(files::artifact)),
        ("post", "/v1/result/{id}/log/{kind}", Open::Agent, post(logs::add)),
        ("get", "/v1/result/{id}/log/{kind}", Open::Read, get(logs::show)),
        ("get", "/v1/agents/queues", Open::Read, get(queues::list)),
        ("post", "/v1/agents/queues", Open::Agents, post(queues::describe)),
        ("get", "/v1/agents/images/{queue}", Open::Read, get(queues::images)),
        ("post", "/v1/agents/images", Open::Agents, post(queues::set_images)),
        ("get", "/v1/agents/data", Open::Read, get(agents::list)),
        ("get", "/v1/agents/data/{name}", Open::Everyone, get(agents::show)),
        ("post", "/v1/agents/data/{name}", Open::Agents, post(agents::report)),
        ("post", "/v1/agents/provision_logs/{name}", Open::Agent, post(agents::provision_log)),
        ("get", "/v1/queues/wait_times", Open::Read, get(queues::wait_times)),
        ("get", "/v1/queues/{name}/agents", Open::Read, get(queues::agents)),
        ("get", "/v1/queues/{name}/jobs", Open::Read, get(queues::jobs)),
        ("post", "/v1/job/{id}/events", Open::Agent, post(events::relay)),
        ("post", "/v1/oauth2/token", Open::Public, post(tokens::token)),
        ("post", "/v1/oauth2/refresh", Open::Public, post(tokens::refresh)),
        ("post", "/v1/oauth2/revoke", Open::Admin, post(tokens::revoke)),
        ("get", "/v1/restricted-queues", Open::Read, get(clients::restricted_queues)),
        ("get", "/v1/restricted-queues/{queue}", Open::Read, get(clients::restricted_queue)),
        ("post", "/v1/restricted-queues/{queue}", Open::Manage, post(clients::restrict)),
        ("delete", "/v1/restricted-queues/{queue}", Open::Manage, delete(clients::unrestrict)),
        ("get", "/v1/client-permissions", Open::Manage, get(clients::list)),
        ("get", "/v1/client-permissions/{id}", Open::Manage, get(clients::show)),
        ("put", "/v1/client-permissions/{id}", Open::Manage, put(clients::put)),
        ("delete", "/v1/client-permissions/{id}", Open::Admin, delete(clients::remove)),
        ("put", "/v1/secrets/{client}/{*path}", Open::Submit, put(secrets::put)),
        ("delete", "/v1/secrets/{client}/{*path}", Open::Submit, delete(secrets::remove)),
    ];
    if !settings.strict {
        all.push(("post", "/v1/result/{id}/{output}", Open::Agent, post(live::add)));
        all.push(("get", "/v1/result/{id}/{output}", Open::Read, get(live::show)));
    }
    if settings.oidc.is_some() {
        all.push(("post", "/oidc/auth-init", Open::Public, post(oidc::begin)));
        all.push(("post", "/oidc/auth-poll/{id}", Open::Public, post(oidc::poll)));
    }
    all
}

/// What is served, for those who look for the description where it has always been.
pub(crate) fn described(state: &ApiState) -> Value {
    let operations = operations(state.testflinger());
    let all = operations.into_iter().map(|(method, path, open, _)| {
        (method.to_owned(), path.replace("{*", "{"), format!("open to: {}", open.to_whom()))
    });
    described::of("Testflinger API", all)
}

/// All its routes; each with and without a slash at its end.
pub(crate) fn routes(state: &ApiState) -> Router<ApiState> {
    let mut router = Router::new();
    for (_, path, open, methods) in operations(state.testflinger()) {
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
