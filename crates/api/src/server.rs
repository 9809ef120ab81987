//! The routes put together and served, with limits for clients that are slow or hostile.

use crate::{
    alts, auth, paddles,
    problem::{Form, Problem, in_form_of, in_one_form},
    routes,
    state::{ApiState, Interface, Interfaces},
    testflinger,
};
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use std::{
    any::Any,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::{catch_panic::CatchPanicLayer, trace::TraceLayer};
use utoipa_swagger_ui::SwaggerUi;

/// How long requests that are under way may take after the server was told to stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(20);
/// How many connections are served at the same time; more wait to be accepted. Fewer than the 1024 files that
/// a process may have open where nobody raised it.
pub const CONNECTIONS_MAX: usize = 800;
/// How long a client may take for the head of a request, also on an idle connection.
pub const HEAD_MAX: Duration = Duration::from_secs(30);
/// The longest head of a request in bytes.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long a client may take for a body, beyond what [`BODY_BYTES_PER_SECOND_MIN`] gives it.
pub const BODY_GRACE: Duration = Duration::from_secs(30);
/// How fast a body must come.
pub const BODY_BYTES_PER_SECOND_MIN: u64 = 8 * 1024;
/// How long to wait before accepting again when the system has no more files.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// How much is borne of clients.
#[derive(Debug, Clone)]
pub struct Limits {
    /// See [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// See [`HEAD_MAX`].
    pub head: Duration,
    /// See [`BODY_GRACE`].
    pub body_grace: Duration,
    /// See [`DRAIN_MAX`].
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, head: HEAD_MAX, body_grace: BODY_GRACE, drain: DRAIN_MAX }
    }
}

/// The whole interface. Deny by default: what stands in no role's group is not found.
pub fn router(state: ApiState) -> Router {
    let (guarded, openapi) = routes::guarded(routes::by_role(state.interfaces()));
    let docs = SwaggerUi::new("/docs").url("/api/v1/openapi.json", described(openapi));
    let mut all = guarded.merge(routes::open()).merge(docs);
    if state.interfaces().testflinger.is_some() {
        all = all.merge(testflinger::routes(&state));
    }
    if state.interfaces().paddles.is_some() {
        all = all.merge(paddles::routes());
    }
    finished(all, state)
}

/// The interface of another system, by itself, for a listener of its own.
pub fn interface_router(interface: Interface, state: ApiState) -> Router {
    if interface == Interface::Testflinger {
        // Its clients' roles are not ours.
        let docs = own_docs(testflinger::described(&state));
        let routes = testflinger::routes(&state).merge(docs);
        return finished(routes, state)
            .layer(middleware::from_fn_with_state(testflinger::in_this_form as Form, in_form_of));
    }
    if interface == Interface::Paddles {
        // Pages of other sites show what it has, by its own address.
        let state = state.read_by_other_sites();
        return finished(paddles::own_routes().merge(own_docs(paddles::described())), state)
            .layer(middleware::from_fn_with_state(paddles::in_this_form as Form, in_form_of));
    }
    let mut by_role = routes::of_interface(interface, state.interfaces());
    by_role.extend(routes::linked_from(interface));
    let (guarded, openapi) = routes::guarded(by_role);
    // ALTS' clients look for the page, and for the description, where they have always been; others are told of it.
    let docs = SwaggerUi::new("/docs").url("/openapi.json", described(openapi));
    let router = finished(guarded.merge(docs), state);
    if interface == Interface::Alts {
        return router.layer(middleware::from_fn_with_state(alts::in_this_form as Form, in_form_of));
    }
    router
}

/// The page and the description of an interface, where its clients look for them.
fn own_docs(described: serde_json::Value) -> SwaggerUi {
    SwaggerUi::new("/docs").external_url_unchecked("/openapi.json", described)
}

fn finished(routes: Router<ApiState>, state: ApiState) -> Router {
    routes
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(state.clone(), auth::identify))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(in_one_form))
        // Failures are told once, with their reason, where they become a problem.
        .layer(TraceLayer::new_for_http().on_failure(()))
        .with_state(state)
}

/// The description of the interface.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    described(routes::guarded(routes::by_role(&Interfaces::default())).1)
}

fn described(mut openapi: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    use utoipa::openapi::{
        LicenseBuilder,
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    };
    openapi.info.title = "taskbot".to_owned();
    openapi.info.version = env!("CARGO_PKG_VERSION").to_owned();
    openapi.info.description = Some("Events in, rules, tasks, results out.".to_owned());
    // What the library would say is about itself.
    openapi.info.contact = None;
    openapi.info.license = Some(
        LicenseBuilder::new()
            .name(env!("CARGO_PKG_LICENSE"))
            .identifier(Some(env!("CARGO_PKG_LICENSE")))
            .build(),
    );
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    openapi.components.get_or_insert_default().add_security_scheme("token", scheme);
    // The rest of a path is a parameter like any other to those who read the description.
    let paths = std::mem::take(&mut openapi.paths.paths);
    openapi.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
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
    serve_within(listener, router, stop, Limits::default()).await
}

/// As [`serve`], with limits of one's own.
///
/// # Errors
/// The listener failed.
pub async fn serve_within(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    limits: Limits,
) -> std::io::Result<()> {
    let grace = limits.body_grace;
    let router = router.layer(middleware::from_fn(move |request, next| paced(grace, request, next)));
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_BYTES_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.head)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    let places = Arc::new(Semaphore::new(limits.connections));
    let under_way = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted?,
        };
        let Some((socket, peer, place)) = accepted else { continue };
        let connection = serve_one(&http, socket, peer, router.clone());
        let watched = under_way.watcher();
        tokio::spawn(async move {
            if let Err(error) = watched.watch(connection).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, under_way.shutdown()).await.is_err() {
        tracing::warn!("requests that are still under way are cut off");
    }
    Ok(())
}

/// The next connection, once there is a place for it; `None` when one was lost again or must wait.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)>> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    match listener.accept().await {
        Ok((socket, peer)) => {
            // Answers are small and awaited.
            let _ = socket.set_nodelay(true);
            Ok(Some((socket, peer, place)))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_RETRY).await;
            Ok(None)
        }
    }
}

fn serve_one(
    http: &auto::Builder<TokioExecutor>,
    socket: TcpStream,
    peer: SocketAddr,
    router: Router,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = Box<dyn std::error::Error + Send + Sync>> + use<>
{
    let service = router.map_request(move |mut request: axum::http::Request<_>| {
        // What goes without a token depends on where a request comes from.
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    });
    http.serve_connection_with_upgrades(TokioIo::new(socket), TowerToHyperService::new(service)).into_owned()
}

/// Whether the body of a request came too slowly. Those who read it see that it broke off, and not why.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slow(Arc<AtomicBool>);

impl Slow {
    /// Whether it did.
    pub(crate) fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ends bodies that come too slowly: a few bytes now and then would hold a connection and its memory for ever.
async fn paced(grace: Duration, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if axum::body::HttpBody::is_end_stream(&body) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let start = Instant::now();
    let slow = Slow::default();
    let told = slow.clone();
    let came = stream::unfold((body.into_data_stream(), 0_u64), move |(mut body, came_bytes)| {
        let told = told.clone();
        async move {
            let allowed = grace + Duration::from_secs(came_bytes / BODY_BYTES_PER_SECOND_MIN);
            match tokio::time::timeout_at(start + allowed, body.next()).await {
                Ok(Some(Ok(bytes))) => {
                    let came_bytes = came_bytes.saturating_add(bytes.len() as u64);
                    Some((Ok(bytes), (body, came_bytes)))
                }
                Ok(Some(Err(error))) => Some((Err(error), (body, came_bytes))),
                Ok(None) => None,
                Err(_) => {
                    told.0.store(true, Ordering::Relaxed);
                    Some((Err(axum::Error::new("the body comes too slowly")), (body, came_bytes)))
                }
            }
        }
    });
    let mut request = Request::from_parts(parts, Body::from_stream(came));
    request.extensions_mut().insert(slow);
    next.run(request).await
}
