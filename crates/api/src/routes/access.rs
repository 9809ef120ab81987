//! Tokens and the audit record.

use super::Paging;
use crate::{
    auth::{Caller, new_token},
    problem::Problem,
    state::ApiState,
};
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use chrono::TimeDelta;
use model::ids::TokenId;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{AuditRecord, Bounds, Page, Role, Token};
use utoipa::ToSchema;

/// The longest name of a token in bytes.
const NAME_BYTES_MAX: usize = 128;
/// The longest that a token may be valid when it expires at all, in seconds (ten years).
const EXPIRES_SECONDS_MAX: i64 = 10 * 366 * 24 * 3600;

#[utoipa::path(get, path = "/api/v1/tokens", tag = "access", responses((status = 200, description = "Tokens, without their secrets", body = Value)))]
/// Lists tokens.
pub(crate) async fn tokens(State(state): State<ApiState>) -> Result<Json<Vec<Token>>, Problem> {
    Ok(Json(state.scheduler().store().tokens().await?))
}

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// Who or what it is for.
    name: String,
    /// viewer, submitter, agent, manager or admin.
    #[schema(value_type = String)]
    role: Role,
    /// After how many seconds it is refused; never when missing.
    expires_in_seconds: Option<i64>,
    /// Within what it works: `queues`, `priority_max`, `run_seconds_max`.
    #[serde(default)]
    #[schema(value_type = Object)]
    bounds: Bounds,
}

#[utoipa::path(post, path = "/api/v1/tokens", tag = "access", request_body = NewToken, responses((status = 201, description = "The token; its text is shown this once", body = Value)))]
/// Makes a token.
pub(crate) async fn create_token(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<NewToken>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let name_fits = !body.name.trim().is_empty()
        && body.name.len() <= NAME_BYTES_MAX
        && !body.name.chars().any(char::is_control);
    if !name_fits {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("`name` must have 1 to {NAME_BYTES_MAX} bytes"),
        ));
    }
    if body.expires_in_seconds.is_some_and(|seconds| !(1..=EXPIRES_SECONDS_MAX).contains(&seconds)) {
        let detail = format!("`expires_in_seconds` must be from 1 to {EXPIRES_SECONDS_MAX}");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    body.bounds
        .check(body.role)
        .map_err(|why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("`bounds`: {why}")))?;
    let scheduler = state.scheduler();
    let now = scheduler.clock().now();
    let expires_at = body.expires_in_seconds.map(|seconds| now + TimeDelta::seconds(seconds));
    let named = |token: &Token| token.name == body.name && token.expires_at.is_none_or(|at| at > now);
    if scheduler.store().tokens().await?.iter().any(named) {
        let detail =
            format!("there is a token `{}` already; revoke it first, or give another name", body.name);
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let (mut token, text) = new_token(&**scheduler.ids(), &body.name, body.role, now, expires_at);
    token.bounds = body.bounds;
    scheduler.store().add_token(&token).await?;
    let detail = json!({"name": token.name, "role": token.role, "bounds": token.bounds});
    scheduler.audit(&caller.name, "token.create", format!("token/{}", token.id), detail).await?;
    let mut shown = super::to_json(&token);
    shown["token"] = json!(text);
    Ok((StatusCode::CREATED, Json(shown)))
}

#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "access", params(("id" = String, Path, description = "Its public part")), responses((status = 204, description = "It is refused from now on")))]
/// Revokes a token.
pub(crate) async fn revoke_token(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id: TokenId =
        id.parse().map_err(|_| Problem::new(StatusCode::NOT_FOUND, format!("no token `{id}`")))?;
    let scheduler = state.scheduler();
    scheduler.store().revoke_token(id).await?;
    scheduler.audit(&caller.name, "token.revoke", format!("token/{id}"), Value::Null).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(get, path = "/api/v1/audit", tag = "access", params(Paging), responses((status = 200, description = "Who changed what, newest first", body = Value)))]
/// Shows who changed what, newest first.
pub(crate) async fn audit(
    State(state): State<ApiState>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<AuditRecord>>, Problem> {
    paging.before::<i64>()?;
    let page = super::filtered(
        &state,
        &paging,
        |record: &AuditRecord| super::to_json(record),
        |_| None,
        |before, limit| {
            let before = before.and_then(|text| text.parse().ok());
            let state = state.clone();
            async move { Ok(state.scheduler().store().audit_log(before, limit).await?) }
        },
    )
    .await?;
    Ok(Json(page))
}
