//! The routes, grouped by the role that each needs. A route stands in exactly one group.

mod access;
mod dead_letters;
mod events;
mod export;
mod health;
mod holds;
mod hook;
mod logs;
mod operations;
mod reruns;
mod results;
pub(crate) mod retests;
mod rules;
mod section;
mod sinks;
mod stream;
mod tasks;
mod workers;

pub(crate) use logs::last_log;
pub(crate) use tasks::left;

pub use hook::{HOOK_SECRET_BYTES_MIN, HookSecret};

use crate::{
    alts, auth,
    parameters::{self, Parameters},
    rats, resultsdb,
    state::{ApiState, Interface, Interfaces},
};
use axum::{Router, extract::DefaultBodyLimit, extract::Request, middleware, middleware::Next};
use scheduler::Filter;
use serde::Serialize;
use serde_json::Value;
use store::{Page, Role};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The largest request body in bytes where nothing else is said.
pub(crate) const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most entries of a list's page when the request does not say.
const LIMIT_DEFAULT: u32 = 50;
/// The most entries that a filter looks at for one page.
const FILTERED_MAX: usize = 20_000;
/// How many entries a filter reads at a time at least.
const FILTERED_AT_ONCE: u32 = 200;

/// All routes that need a role, by the role, with those of the interfaces that are served.
#[must_use]
pub(crate) fn by_role(interfaces: &Interfaces) -> Vec<(Role, OpenApiRouter<ApiState>)> {
    let mut all = vec![
        (Role::Viewer, viewer()),
        (Role::Submitter, submitter()),
        (Role::Agent, agent()),
        (Role::Manager, manager()),
        (Role::Admin, admin()),
    ];
    if interfaces.resultsdb.is_some() {
        all.extend(of_interface(Interface::ResultsDb, interfaces));
    }
    if interfaces.rats.is_some() {
        all.extend(of_interface(Interface::Rats, interfaces));
    }
    if interfaces.alts.is_some() {
        all.extend(of_interface(Interface::Alts, interfaces));
    }
    all
}

/// The routes of another system's interface, by the role that they need.
#[must_use]
pub(crate) fn of_interface(
    interface: Interface,
    interfaces: &Interfaces,
) -> Vec<(Role, OpenApiRouter<ApiState>)> {
    match interface {
        Interface::Testflinger | Interface::Paddles => Vec::new(),
        Interface::Rats => {
            let settings = interfaces.rats.clone().unwrap_or_default();
            vec![(Role::Submitter, rats::submitter(&settings))]
        }
        Interface::Alts => vec![(Role::Viewer, alts::viewer()), (Role::Submitter, alts::submitter())],
        Interface::ResultsDb => {
            vec![(Role::Viewer, resultsdb::viewer()), (Role::Submitter, resultsdb::submitter())]
        }
    }
}

/// What the answers of an interface lead to, where it is served by itself: our own pages are not there else.
#[must_use]
pub(crate) fn linked_from(interface: Interface) -> Vec<(Role, OpenApiRouter<ApiState>)> {
    match interface {
        Interface::Rats => {
            let pages = OpenApiRouter::new().routes(routes!(retests::show)).routes(routes!(tasks::show));
            vec![(Role::Viewer, pages)]
        }
        Interface::ResultsDb => vec![(Role::Viewer, OpenApiRouter::new().routes(routes!(results::show)))],
        _ => Vec::new(),
    }
}

fn viewer() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(events::list))
        .routes(routes!(events::show))
        .routes(routes!(events::verdicts))
        .routes(routes!(events::why))
        .routes(routes!(export::events))
        .routes(routes!(holds::backlog))
        .routes(routes!(rules::list))
        .routes(routes!(rules::show))
        .routes(routes!(rules::check))
        .routes(routes!(rules::explain))
        .routes(routes!(rules::history))
        .routes(routes!(rules::rule_set))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::show))
        .routes(routes!(logs::show))
        .routes(routes!(tasks::artifacts))
        .routes(routes!(tasks::artifact))
        .routes(routes!(tasks::batch))
        .routes(routes!(results::list))
        .routes(routes!(results::show))
        .routes(routes!(retests::list))
        .routes(routes!(retests::show))
        .routes(routes!(operations::queues))
        .routes(routes!(operations::workers))
        .routes(routes!(sinks::list))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::show))
        .routes(routes!(stream::stream))
}

fn submitter() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        // An event's own limit is checked with its id and reason, and ends with the dead letters.
        .merge(
            OpenApiRouter::new()
                .routes(routes!(events::send))
                .layer(DefaultBodyLimit::max(events::SEND_BYTES_MAX)),
        )
        .routes(routes!(events::replay))
        .routes(routes!(tasks::submit))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::rerun))
        .routes(routes!(reruns::rerun_many))
        .routes(routes!(retests::add))
        .routes(routes!(results::add))
}

fn agent() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(workers::claim))
        .routes(routes!(workers::heartbeat))
        .routes(routes!(workers::leave))
        .routes(routes!(workers::log))
        .routes(routes!(workers::upload))
        .routes(routes!(workers::download))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(workers::finish))
                .layer(DefaultBodyLimit::max(workers::FINISH_BYTES_MAX)),
        )
}

fn manager() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(rules::put))
        .routes(routes!(rules::reload))
        .routes(routes!(rules::mode))
        .routes(routes!(rules::rollback))
        .routes(routes!(holds::apply))
        .routes(routes!(holds::pause))
        .routes(routes!(holds::pause_all))
        .routes(routes!(holds::resume))
        .routes(routes!(holds::resume_all))
        .routes(routes!(holds::release))
        .routes(routes!(holds::drop_parked))
        .routes(routes!(tasks::release))
        .routes(routes!(tasks::approve))
        .routes(routes!(tasks::unhold))
        .routes(routes!(operations::pause))
        .routes(routes!(operations::resume))
        .routes(routes!(operations::worker_mode))
        .routes(routes!(sinks::forget))
        .routes(routes!(dead_letters::requeue))
        .routes(routes!(dead_letters::drop_letter))
}

fn admin() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(access::tokens, access::create_token))
        .routes(routes!(access::revoke_token))
        .routes(routes!(access::audit))
        .routes(routes!(operations::prune))
}

/// Routes with their guards, and their OpenAPI description.
pub(crate) fn guarded(
    by_role: Vec<(Role, OpenApiRouter<ApiState>)>,
) -> (Router<ApiState>, utoipa::openapi::OpenApi) {
    let mut all = OpenApiRouter::new();
    for (role, routes) in by_role {
        let guard = move |request: Request, next: Next| auth::require(role, request, next);
        all = all.merge(routes.route_layer(middleware::from_fn(guard)));
    }
    let (router, openapi) = all.split_for_parts();
    let known = middleware::from_fn_with_state(Parameters::of(&openapi), parameters::refuse_unknown);
    (router.route_layer(known).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)), openapi)
}

/// Routes that need no token: whether the process lives, whether it is ready, and its figures; and what a forge signs.
pub(crate) fn open() -> Router<ApiState> {
    // Until there are pages for people, whoever opens the address finds what there is.
    let root = axum::routing::get(async || axum::response::Redirect::temporary("/docs/"));
    health::routes().merge(hook::routes()).route("/", root)
}

/// The parameters of lists that all lists have.
#[derive(Debug, Clone, Default, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// The most entries, 50 when it is not given.
    limit: Option<u32>,
    /// The `next` of the page before.
    before: Option<String>,
    /// Only what this filter holds for: the clauses of rules, over the fields of what is listed.
    r#where: Option<String>,
}

impl Paging {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, store::PAGE_MAX)
    }

    fn filter(&self) -> Result<Option<Filter>, crate::problem::Problem> {
        let parse = |text: &String| {
            Filter::parse(text).map_err(|error| crate::problem::Problem::bad(error.to_string()))
        };
        self.r#where.as_ref().map(parse).transpose()
    }

    fn before<T: std::str::FromStr>(&self) -> Result<Option<T>, crate::problem::Problem> {
        let parse = |text: &String| {
            text.parse().map_err(|_| {
                crate::problem::Problem::bad(format!("before: `{text}` is not the `next` of a page"))
            })
        };
        self.before.as_ref().map(parse).transpose()
    }
}

/// A page of a list whose entries a filter must hold for: pages are read until the page is full or nothing is
/// left, at most [`FILTERED_MAX`] entries. `roots` gives what the filter sees of an entry, `place` what the
/// page after it starts from, where that can be told from an entry.
pub(crate) async fn filtered<T, F, Fut>(
    state: &ApiState,
    paging: &Paging,
    roots: impl Fn(&T) -> Value,
    place: impl Fn(&T) -> Option<String>,
    read: F,
) -> Result<Page<T>, crate::problem::Problem>
where
    T: for<'de> serde::Deserialize<'de>,
    F: FnMut(Option<String>, u32) -> Fut,
    Fut: Future<Output = Result<Page<T>, crate::problem::Problem>>,
{
    let now = state.scheduler().clock().now();
    let filter = paging.filter()?;
    if let Some(filter) = &filter {
        parameters::check_fields::<T>(filter)?;
    }
    let keep = filter.map(|filter| move |item: &T| filter.matches(&roots(item), now));
    kept(paging, keep, place, read).await
}

/// As [`filtered`], by any condition; without one a page is as it is read.
pub(crate) async fn kept<T, F, Fut>(
    paging: &Paging,
    keep: Option<impl Fn(&T) -> bool>,
    place: impl Fn(&T) -> Option<String>,
    mut read: F,
) -> Result<Page<T>, crate::problem::Problem>
where
    F: FnMut(Option<String>, u32) -> Fut,
    Fut: Future<Output = Result<Page<T>, crate::problem::Problem>>,
{
    let limit = paging.limit();
    let Some(keep) = keep else {
        return read(paging.before.clone(), limit).await;
    };
    let mut before = paging.before.clone();
    let mut items: Vec<T> = Vec::new();
    let mut looked_at = 0;
    loop {
        let wanted = (limit as usize).saturating_sub(items.len());
        let at_once = FILTERED_AT_ONCE.max(u32::try_from(wanted).unwrap_or(limit)).min(store::PAGE_MAX);
        let mut page = read(before.clone(), at_once).await?;
        if page.items.last().is_some_and(|item| place(item).is_none()) {
            // The rest of what is wanted at most, so that `next` never skips an entry.
            page = read(before, u32::try_from(wanted).unwrap_or(limit)).await?;
        }
        looked_at += page.items.len();
        let more = page.next.is_some();
        items.extend(page.items.into_iter().filter(|item| keep(item)));
        if items.len() > limit as usize {
            items.truncate(limit as usize);
            let next = items.last().and_then(&place);
            return Ok(Page { items, next });
        }
        if !more || items.len() >= limit as usize || looked_at >= FILTERED_MAX {
            return Ok(Page { items, next: page.next });
        }
        before = page.next;
    }
}

/// A list of a comma-separated parameter.
pub(crate) fn list_of(text: Option<&String>) -> Vec<String> {
    let split = |text: &String| {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    text.map(split).unwrap_or_default()
}

/// Anything as JSON.
pub(crate) fn to_json(value: &impl Serialize) -> Value {
    // What the handlers give are plain structs with text keys; they always serialise.
    serde_json::to_value(value).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_operation_stands_in_one_group() {
        let mut seen: BTreeMap<String, Role> = BTreeMap::new();
        for (role, routes) in by_role(&Interfaces::default()) {
            for (path, item) in &routes.get_openapi().paths.paths {
                let methods = serde_json::to_value(item).unwrap();
                for method in methods.as_object().unwrap().keys() {
                    let name = format!("{method} {path}");
                    assert_eq!(seen.insert(name.clone(), role), None, "{name} stands in two groups");
                }
            }
        }
        assert!(seen.len() > 35, "{} operations", seen.len());
    }
}
