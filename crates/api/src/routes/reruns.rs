//! Running many tasks again: only what failed, or whatever a filter holds for.

use super::{
    Paging,
    tasks::{ListQuery, page_of},
};
use crate::{auth::Caller, problem::Problem, state::ApiState};
use axum::{Extension, Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use model::Task;
use scheduler::{
    reruns::{RERUN_DEFAULT, RERUN_MAX, Reruns},
    service::Rerun,
};
use serde::Deserialize;
use utoipa::ToSchema;

/// The outcomes that count as failed: what a person would want to see again.
const FAILED: &str = "failed,error,needs_inspection";
/// The states of tasks that can be run again.
const ENDED: &str = "finished,cancelled";

/// Which tasks are run again, and how. At least one field must narrow them beside `failed`, `outcome` and `state`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RerunMany {
    /// Only what ended as failed, error or needs_inspection.
    failed: bool,
    /// Only with these outcomes, separated by commas.
    outcome: Option<String>,
    /// Only in these states, separated by commas: finished, cancelled, superseded; the first two when missing.
    state: Option<String>,
    /// Only of this name.
    name: Option<String>,
    /// Only in this queue.
    queue: Option<String>,
    /// Only made by this rule.
    rule: Option<String>,
    /// Only of this submitter.
    submitter: Option<String>,
    /// Only of items of this type.
    item_type: Option<String>,
    /// Only of this item.
    item: Option<String>,
    /// Only of this batch.
    batch: Option<String>,
    /// Only of this group.
    group: Option<String>,
    /// Only of this event, by its place.
    event: Option<i64>,
    /// Only made at or after.
    since: Option<DateTime<Utc>>,
    /// Only made before.
    until: Option<DateTime<Utc>>,
    /// Only what this filter holds for.
    r#where: Option<String>,
    /// Why.
    why: Option<String>,
    /// At the newest commits, rather than at the same.
    newest: bool,
    /// Only show what would be done.
    dry_run: bool,
    /// The most tasks; when more fit, nothing is done.
    limit: Option<usize>,
}

impl RerunMany {
    fn narrows(&self) -> bool {
        let texts = [
            &self.name,
            &self.queue,
            &self.rule,
            &self.submitter,
            &self.item_type,
            &self.item,
            &self.batch,
            &self.group,
            &self.r#where,
        ];
        texts.iter().any(|text| text.is_some())
            || self.event.is_some()
            || self.since.is_some()
            || self.until.is_some()
    }

    fn limit(&self) -> Result<usize, Problem> {
        let limit = self.limit.unwrap_or(RERUN_DEFAULT);
        if (1..=RERUN_MAX).contains(&limit) {
            return Ok(limit);
        }
        Err(Problem::bad(format!("`limit` is {limit}; it must be from 1 to {RERUN_MAX}")))
    }

    fn query(&self) -> Result<ListQuery, Problem> {
        if self.failed && self.outcome.is_some() {
            return Err(Problem::bad("`failed` stands for outcomes; give either it or `outcome`"));
        }
        if !self.narrows() {
            let detail = "this would be everything; narrow it by `batch`, `item`, `name`, `rule`, `group`, `event`, \
                `queue`, `since` or `where`";
            return Err(Problem::bad(detail));
        }
        let outcome = self.outcome.clone().or_else(|| self.failed.then(|| FAILED.to_owned()));
        Ok(ListQuery {
            state: self.state.clone().or_else(|| Some(ENDED.to_owned())),
            outcome,
            name: self.name.clone(),
            queue: self.queue.clone(),
            rule: self.rule.clone(),
            submitter: self.submitter.clone(),
            item_type: self.item_type.clone(),
            item: self.item.clone(),
            batch: self.batch.clone(),
            group: self.group.clone(),
            event: self.event,
            since: self.since,
            until: self.until,
        })
    }
}

#[utoipa::path(post, path = "/api/v1/tasks/rerun", tag = "tasks", request_body = RerunMany, responses((status = 201, description = "What is run again, and what is left alone and why", body = Object), (status = 200, description = "Nothing was made: a dry run, or nothing fits", body = Object), (status = 409, description = "More fit than `limit`: nothing was made")))]
/// Runs many tasks again, all or none: those that failed, or that a filter holds for.
pub(crate) async fn rerun_many(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Json(asked): Json<RerunMany>,
) -> Result<(StatusCode, Json<Reruns>), Problem> {
    let tasks = select(&state, &asked).await?;
    let rerun = Rerun { why: asked.why, newest: asked.newest, ..Rerun::default() };
    let done =
        state.scheduler().rerun_all(tasks, &rerun, &caller.name, &caller.bounds, asked.dry_run).await?;
    let made = !done.dry_run && !done.tasks.is_empty();
    Ok((if made { StatusCode::CREATED } else { StatusCode::OK }, Json(done)))
}

/// All tasks that are meant, newest first; a refusal when there are more than may be.
async fn select(state: &ApiState, asked: &RerunMany) -> Result<Vec<Task>, Problem> {
    let (query, limit) = (asked.query()?, asked.limit()?);
    let mut paging = Paging { limit: Some(store::PAGE_MAX), before: None, r#where: asked.r#where.clone() };
    let mut tasks = Vec::new();
    loop {
        let page = page_of(state, &query, &paging).await?;
        tasks.extend(page.items);
        if tasks.len() > limit {
            let detail = format!(
                "more than {limit} tasks fit; nothing was made. Narrow it, or raise `limit` (at most {RERUN_MAX})"
            );
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        paging.before = page.next;
        if paging.before.is_none() {
            return Ok(tasks);
        }
    }
}
