//! Whether the process lives, whether it is ready, and its figures.

use crate::state::ApiState;
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use model::protocol::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};
use serde_json::{Value, json};
use std::time::Duration;

/// How long a check may take.
const CHECK_MAX: Duration = Duration::from_secs(3);

pub(super) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/version", get(version))
}

/// The process lives: it answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// What the server needs to do its work, each with its state.
async fn readyz(State(state): State<ApiState>) -> Response {
    let scheduler = state.scheduler();
    let database = tokio::time::timeout(CHECK_MAX, scheduler.store().now()).await;
    let database = match database {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", CHECK_MAX.as_secs())),
    };
    let rules = scheduler.rulebook();
    let sources = scheduler.source_health();
    let bus_ok = sources.iter().all(|source| source.health.connected);
    let outlet = scheduler.outlet_health();
    let outlet_ok = outlet.as_ref().is_none_or(|outlet| outlet.connected);
    let ready = database.is_ok() && bus_ok && outlet_ok && !state.stop().is_cancelled();
    let report = json!({
        "ready": ready,
        "checks": {
            "database": database.as_ref().map_or_else(|error| json!({"ok": false, "error": error}), |()| json!({"ok": true})),
            "rules": {
                // A bad set leaves the old one in force: worth telling, no reason to take the server away.
                "ok": rules.problem().is_none(),
                "revision": rules.current().revision(),
                "error": rules.problem(),
            },
            "sources": {"ok": bus_ok, "each": sources},
            "outlet": {"ok": outlet_ok, "health": outlet},
            "stopping": state.stop().is_cancelled(),
        },
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

/// Figures for Prometheus.
async fn metrics(State(state): State<ApiState>) -> Response {
    let figures = tokio::time::timeout(CHECK_MAX, state.scheduler().store().figures()).await;
    // The counters are told also while the database is away.
    let figures = figures.ok().and_then(Result::ok);
    let text = state.scheduler().metrics().encode(figures.as_ref());
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// What this server is.
async fn version(State(state): State<ApiState>) -> Json<Value> {
    let settings = state.scheduler().settings();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "installation": settings.installation,
        "server": settings.server,
        "protocol": PROTOCOL_VERSION,
        "protocol_min": PROTOCOL_VERSION_MIN,
    }))
}
