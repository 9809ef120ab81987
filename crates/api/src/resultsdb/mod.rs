//! ResultsDB's interface (`/api/v2.0/*`), over the results that everything else here has too.
//!
//! Requests, answers and errors have the shapes of ResultsDB 2.2, since its clients (Bodhi, Greenwave,
//! `resultsdb_api`) compare them. Different on purpose: `latest` is the same on both databases and bounded, pages
//! have a limit, and a message about a new result cannot get lost.

mod body;
mod groups;
mod query;
mod refusal;
mod results;
mod root;
mod shape;
mod testcases;
mod token;

pub(crate) use refusal::in_this_form;
pub(crate) use shape::{Base, escaped, result as shown, unescaped};
pub(crate) use token::token_of;

use crate::state::ApiState;
use model::outcome::words::RESULTSDB_OUTCOMES;
use serde_json::Value;
use std::collections::BTreeSet;
use store::Entry;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Where it is served.
pub const BASE: &str = "/api/v2.0";
/// How many entries a page has when the request does not say.
pub(crate) const LIMIT_DEFAULT: u32 = 20;

/// Whether a path is one of this interface.
pub(crate) fn is_here(path: &str) -> bool {
    path.strip_prefix(BASE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Outcomes that it knows beside [`RESULTSDB_OUTCOMES`], in capitals: `QUEUED`, `RUNNING`, `ERROR` …; in this order
    /// they are listed.
    pub extra_outcomes: Vec<String>,
}

impl Default for Settings {
    /// Those that Greenwave knows.
    fn default() -> Self {
        Self { extra_outcomes: ["QUEUED", "RUNNING", "ERROR"].map(str::to_owned).into() }
    }
}

impl Settings {
    /// All outcomes, in the order in which errors list them.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = &str> {
        RESULTSDB_OUTCOMES.into_iter().chain(self.extra_outcomes.iter().map(String::as_str))
    }
}

/// A result as this interface shows it, for those who are told of it; its links begin with `base`.
#[must_use]
pub fn told(entry: &Entry, base: &str, extra_outcomes: &BTreeSet<String>) -> Value {
    let (base, settings) =
        (Base::at(base), Settings { extra_outcomes: extra_outcomes.iter().cloned().collect() });
    shape::result(entry, &base, &base, &settings)
}

/// What everybody may do who may read.
pub(crate) fn viewer() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(root::root))
        .routes(routes!(root::root_with_slash))
        .routes(routes!(root::healthcheck))
        .routes(routes!(results::list))
        .routes(routes!(results::latest))
        .routes(routes!(results::show))
        .routes(routes!(testcases::list))
        .routes(routes!(testcases::show))
        .routes(routes!(groups::list))
        .routes(routes!(groups::show))
        .routes(routes!(groups::results))
}

/// What reports results.
pub(crate) fn submitter() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(results::add))
        .routes(routes!(testcases::add))
        .routes(routes!(groups::add))
}
