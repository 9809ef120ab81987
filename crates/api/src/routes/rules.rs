//! Rules: which are in force, checking others, and putting them in force.

use crate::{auth::Caller, problem::Problem, state::ApiState};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use chrono::{DateTime, Utc};
use model::{Event, RuleName, ids::EventSeq, verdict::Verdict};
use scheduler::{
    rulebook::{RuleSetError, files_of},
    rules::{language::Mode, load::RuleFiles, registry::Registered, rule_test::TestOutcome},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use std::{collections::BTreeMap, sync::Arc};
use store::{Activation, StoreError, StoredEvent, StoredRuleSet};
use utoipa::ToSchema;

/// How many activations are shown.
const HISTORY_MAX: u32 = 200;

#[utoipa::path(get, path = "/api/v1/rules", tag = "rules", responses((status = 200, description = "The rule set in force", body = Value)))]
/// Lists the rules in force, and says why a later set was not taken.
pub(crate) async fn list(State(state): State<ApiState>) -> Result<Json<Value>, Problem> {
    let scheduler = state.scheduler();
    let set = scheduler.rulebook().current();
    let active = scheduler.store().active().await?;
    let stored = match &active {
        Some(active) => Some(scheduler.store().rule_set(active.revision.as_str()).await?),
        None => None,
    };
    // What this server has counted and not written yet belongs to it.
    scheduler.write_counters().await?;
    let counts = scheduler.store().rule_counts().await?;
    let holds = scheduler.store().rule_holds().await?;
    let rules: Vec<_> = set
        .rules()
        .iter()
        .map(|rule| {
            let mut shown = rule.summary();
            shown["counts"] = json!(counts.iter().find(|count| count.rule == rule.name));
            shown["hold"] = json!(holds.iter().find(|hold| hold.rule.as_ref() == Some(&rule.name)));
            shown
        })
        .collect();
    Ok(Json(json!({
        "revision": set.revision(),
        "activated_at": active.as_ref().map(|active| active.at),
        "by": active.as_ref().map(|active| active.by.as_str()),
        "origin": stored.as_ref().map(|stored| stored.origin.as_str()),
        "commit": stored.as_ref().and_then(|stored| stored.commit.as_deref()),
        "problem": scheduler.rulebook().problem(),
        "rules": rules,
        "tasks": set.tasks().iter().map(registered).collect::<Vec<_>>(),
    })))
}

#[utoipa::path(get, path = "/api/v1/rules/{name}", tag = "rules", params(("name" = String, Path, description = "The rule")), responses((status = 200, description = "The rule with the text of its file", body = Value)))]
/// Shows a rule in force.
pub(crate) async fn show(
    State(state): State<ApiState>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let scheduler = state.scheduler();
    let set = scheduler.rulebook().current();
    let rule =
        set.rule(&RuleName::new(name.clone())).ok_or(StoreError::NotFound { what: "rule", id: name })?;
    let stored = scheduler.store().rule_set(set.revision().as_str()).await?;
    let files = files_of(&stored)?;
    let mut shown = rule.summary();
    shown["revision"] = json!(set.revision());
    shown["source"] = json!(files.files.get(&*rule.place.file).map(|text| text.to_string()));
    Ok(Json(shown))
}

fn registered(task: &Registered) -> Value {
    json!({
        "name": task.name,
        "description": task.description,
        "repo": task.repo,
        "queue": task.queue,
        "trust": task.trust,
    })
}

fn test(outcome: &TestOutcome) -> Value {
    json!({
        "file": outcome.file,
        "line": outcome.line,
        "name": outcome.name,
        "passed": outcome.passed,
        "difference": outcome.difference,
    })
}

/// The files of a rule set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Files {
    /// Their texts, by path below the rules folder.
    files: BTreeMap<String, String>,
    /// Rules that are switched: active, shadow or off. When it is missing, what was switched by hand stays so.
    #[schema(value_type = Option<Object>)]
    modes: Option<BTreeMap<RuleName, Mode>>,
}

impl From<Files> for RuleFiles {
    fn from(given: Files) -> Self {
        let files = given.files.into_iter().map(|(path, text)| (path, Arc::from(text))).collect();
        Self { files, modes: given.modes.unwrap_or_default(), base: None }
    }
}

#[utoipa::path(post, path = "/api/v1/rules/check", tag = "rules", request_body = Files, responses((status = 200, description = "Whether they could be put in force, with all that was found", body = Value)))]
/// Checks a rule set and runs its tests, and changes nothing.
pub(crate) async fn check(
    State(state): State<ApiState>,
    Json(files): Json<Files>,
) -> Result<Json<Value>, Problem> {
    let answer = match state.scheduler().check_rules(files.into()).await {
        Ok(checked) => json!({
            "ok": true, "revision": checked.set.revision(), "diagnostics": checked.report.diagnostics, "tests": checked.tests.iter().map(test).collect::<Vec<_>>(),
        }),
        Err(RuleSetError::Wrong(report)) => {
            json!({"ok": false, "diagnostics": report.diagnostics, "tests": []})
        }
        Err(RuleSetError::TestsFail(tests)) => {
            json!({"ok": false, "diagnostics": [], "tests": tests.iter().map(test).collect::<Vec<_>>()})
        }
        Err(other) => return Err(other.into()),
    };
    Ok(Json(answer))
}

#[utoipa::path(put, path = "/api/v1/rules", tag = "rules", request_body = Files, responses((status = 200, description = "They are in force", body = Value), (status = 422, description = "They are wrong or their tests fail; the old ones stay in force")))]
/// Puts a rule set in force, whole and in one step.
pub(crate) async fn put(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Json(files): Json<Files>,
) -> Result<Json<Activation>, Problem> {
    let keep = files.modes.is_none();
    let mut files = RuleFiles::from(files);
    if keep {
        files.modes = state.scheduler().switched_modes().await?;
    }
    let activation = state.scheduler().activate_rules(files, "api", &caller.name).await?;
    audit(&state, &caller, "rules.put", &activation).await?;
    Ok(Json(activation))
}

#[utoipa::path(post, path = "/api/v1/rules/reload", tag = "rules", responses((status = 200, description = "What is in force", body = Value), (status = 422, description = "They are wrong or their tests fail; the old ones stay in force")))]
/// Reads the server's rules folder again.
pub(crate) async fn reload(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Activation>, Problem> {
    let activation = state.scheduler().reload_rules(&caller.name).await?;
    audit(&state, &caller, "rules.reload", &activation).await?;
    Ok(Json(activation))
}

/// A rule's mode.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewMode {
    /// active, shadow or off.
    #[schema(value_type = String)]
    mode: Mode,
}

#[utoipa::path(post, path = "/api/v1/rules/{name}/mode", tag = "rules", params(("name" = String, Path, description = "The rule")), request_body = NewMode, responses((status = 200, description = "A new revision is in force", body = Value)))]
/// Switches a rule on, off or to shadow.
pub(crate) async fn mode(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(body): Json<NewMode>,
) -> Result<Json<Activation>, Problem> {
    let activation = state.scheduler().switch_rule(&RuleName::new(name), body.mode, &caller.name).await?;
    audit(&state, &caller, "rule.mode", &activation).await?;
    Ok(Json(activation))
}

/// What a rule is to be explained with: an event that came in, or a message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainWith {
    /// The event's id, the start of it, or its place.
    event: Option<String>,
    /// A whole recorded message `{topic, id?, headers?, body}`.
    #[schema(value_type = Option<Object>)]
    message: Option<Box<RawValue>>,
}

#[utoipa::path(post, path = "/api/v1/rules/{name}/explain", tag = "rules", params(("name" = String, Path, description = "The rule")), request_body = ExplainWith, responses((status = 200, description = "What the rule in force says, with every clause", body = Verdict), (status = 404, description = "There is no such rule or event")))]
/// Says what a rule of those in force says to an event or a message, clause by clause. Nothing is made of it.
pub(crate) async fn explain(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Json(body): Json<ExplainWith>,
) -> Result<Json<Verdict>, Problem> {
    let scheduler = state.scheduler();
    let event = match (body.event, body.message) {
        (Some(id), None) => scheduler.find_event(&id).await?,
        (None, Some(message)) => {
            let now = scheduler.clock().now();
            of_message(super::events::whole_event(message.get().as_bytes(), now)?)
        }
        _ => return Err(Problem::bad("give either `event` or `message`")),
    };
    // Judged by the rules in force, whichever judged it when it came in.
    let event = StoredEvent { revision: None, ..event };
    let rule = RuleName::new(name.clone());
    let verdict = scheduler.why(&event, Some(&rule)).await?.into_iter().next();
    Ok(Json(verdict.ok_or(StoreError::NotFound { what: "rule", id: name })?.verdict))
}

/// A message as an event that is stored nowhere.
fn of_message(event: Event) -> StoredEvent {
    StoredEvent { seq: EventSeq(0), event, generation: 0, revision: None, body_expired: false }
}

/// The rule set to go back to.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rollback {
    /// Its revision or the start of it; the one that was in force before when missing.
    revision: Option<String>,
}

#[utoipa::path(post, path = "/api/v1/rules/rollback", tag = "rules", request_body = Rollback, responses((status = 200, description = "The older set is in force", body = ActiveSet), (status = 404, description = "There is no such revision, or none before")))]
/// Puts an older rule set in force again. It stays until the rules folder or somebody brings another.
pub(crate) async fn rollback(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<Rollback>,
) -> Result<Json<Activation>, Problem> {
    let scheduler = state.scheduler();
    let activation = scheduler.roll_back_rules(body.revision.as_deref(), &caller.name).await?;
    audit(&state, &caller, "rules.rollback", &activation).await?;
    Ok(Json(activation))
}

/// Which rule set is or was in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActiveSet {
    /// Counts up with each activation, also back to an older revision.
    serial: i64,
    /// The revision.
    revision: String,
    /// Who made it active.
    by: String,
    /// When.
    at: DateTime<Utc>,
    /// The commit of a git repository that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    /// After a rollback: the revision that the rules folder or repository holds, which is not loaded again.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_back: Option<String>,
}

#[utoipa::path(get, path = "/api/v1/rule-sets", tag = "rules", responses((status = 200, description = "Which rule sets were in force, newest first", body = Vec<ActiveSet>)))]
/// Lists which rule sets were in force, newest first.
pub(crate) async fn history(State(state): State<ApiState>) -> Result<Json<Vec<ActiveSet>>, Problem> {
    let past = state.scheduler().store().activations(HISTORY_MAX).await?;
    let shown =
        past.into_iter().map(|Activation { serial, revision, by, at, commit, held_back }| ActiveSet {
            serial,
            revision: revision.to_string(),
            by,
            at,
            commit,
            held_back: held_back.map(|revision| revision.to_string()),
        });
    Ok(Json(shown.collect()))
}

async fn audit(
    state: &ApiState,
    caller: &Caller,
    action: &str,
    activation: &Activation,
) -> Result<(), Problem> {
    let object = format!("rule-set/{}", activation.revision);
    Ok(state.scheduler().audit(&caller.name, action, object, json!({"serial": activation.serial})).await?)
}

#[utoipa::path(get, path = "/api/v1/rule-sets/{revision}", tag = "rules", params(("revision" = String, Path, description = "The revision or the start of it")), responses((status = 200, description = "The rule set as it was imported", body = Value)))]
/// Shows a rule set that is or was in force.
pub(crate) async fn rule_set(
    State(state): State<ApiState>,
    Path(revision): Path<String>,
) -> Result<Json<StoredRuleSet>, Problem> {
    Ok(Json(state.scheduler().store().rule_set(&revision).await?))
}
