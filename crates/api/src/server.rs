//! The routes put together and served.

use crate::{auth, problem::Problem, routes, state::ApiState};
use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
};
use std::{any::Any, future::Future, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::{catch_panic::CatchPanicLayer, trace::TraceLayer};
use utoipa_swagger_ui::SwaggerUi;

/// How long requests that are under way may take after the server was told to stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(20);

/// The whole interface. Deny by default: what stands in no role's group is not found.
pub fn router(state: ApiState) -> Router {
    let (guarded, openapi) = routes::guarded();
    guarded
        .merge(routes::open())
        .merge(SwaggerUi::new("/docs").url("/api/v1/openapi.json", described(openapi)))
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(state.clone(), auth::identify))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(TraceLayer::new_for_http())
        .with_state(state)
}

/// The description of the interface.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    described(routes::guarded().1)
}

fn described(mut openapi: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
    openapi.info.title = "taskbot".to_owned();
    openapi.info.version = env!("CARGO_PKG_VERSION").to_owned();
    openapi.info.description = Some("Events in, rules, tasks, results out.".to_owned());
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
    openapi.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    openapi
}

async fn not_found(request: Request) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}; see /docs", request.uri().path()))
}

/// A panic in a handler is a fault of this program; it costs its own request only.
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("?"), "a handler panicked");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a fault of this server; its log says more")
        .into_response()
}

/// Serves until `stop`, then lets requests that are under way end, for at most [`DRAIN_MAX`].
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    let stopped = stop.clone();
    let serving =
        axum::serve(listener, router).with_graceful_shutdown(async move { stopped.cancelled().await });
    bounded(serving.into_future(), stop).await
}

async fn bounded(
    serving: impl Future<Output = std::io::Result<()>>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        served = serving => served,
        () = deadline => {
            tracing::warn!("requests that are still under way are cut off");
            Ok(())
        }
    }
}
