//! The connection: it is made in the background, and made again for ever.

use super::health::{Connected, Monitor};
use crate::config::{NatsConnection, Secret};
use async_nats::{Client, ConnectOptions, Event};
use std::{path::Path, sync::Arc, time::Duration};

/// After this time without an answer to a ping (twice) the connection counts as lost.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long making a connection may take.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// How long an answer to a request (a stream's settings …) may take.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// The longest pause between two attempts to connect.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// The first pause between two attempts to connect; it doubles.
const RECONNECT_PAUSE_FIRST: Duration = Duration::from_millis(50);

/// Connects in the background; returns at once, also when no server is there.
///
/// # Errors
/// What is wrong with the configuration: addresses, files of keys and certificates.
pub(super) async fn connect<H: Connected + Default>(
    config: &NatsConnection,
    name: &str,
    monitor: &Arc<Monitor<H>>,
) -> Result<Client, String> {
    config.check()?;
    let told = Arc::clone(monitor);
    let (label, servers) = (name.to_owned(), config.servers.join(", "));
    let mut options = credentials(config)
        .await?
        .name(name)
        .retry_on_initial_connect()
        .max_reconnects(None)
        .connection_timeout(CONNECT_WAIT)
        .request_timeout(Some(REQUEST_WAIT))
        .ping_interval(PING_INTERVAL)
        .reconnect_delay_callback(pause)
        .event_callback(move |event| {
            tell(&event, &label, &servers, &told);
            std::future::ready(())
        });
    if let Some(prefix) = &config.inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    for file in [&config.tls_ca, &config.tls_cert, &config.tls_key].into_iter().flatten() {
        read(file).await?;
    }
    if let Some(ca) = &config.tls_ca {
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) {
        options = options.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
    }
    options
        .connect(config.servers.as_slice())
        .await
        .map_err(|error| format!("cannot connect to {}: {error}", config.servers.join(", ")))
}

async fn credentials(config: &NatsConnection) -> Result<ConnectOptions, String> {
    let options = ConnectOptions::new();
    let reveal = |secret: &Secret| secret.reveal().to_owned();
    if let Some(file) = &config.credentials_file {
        let text = read(file).await?;
        return options
            .credentials(&text)
            .map_err(|error| format!("{} holds no credentials: {error}", file.display()));
    }
    if let Some(file) = &config.nkey_file {
        return Ok(options.nkey(read(file).await?.trim().to_owned()));
    }
    if let (Some(user), Some(password)) = (&config.user, &config.password) {
        return Ok(options.user_and_password(user.clone(), reveal(password)));
    }
    Ok(match &config.token {
        Some(token) => options.token(reveal(token)),
        None => options,
    })
}

async fn read(file: &Path) -> Result<String, String> {
    tokio::fs::read_to_string(file).await.map_err(|error| format!("cannot read {}: {error}", file.display()))
}

fn pause(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    (RECONNECT_PAUSE_FIRST * 2_u32.pow(doublings)).min(RECONNECT_PAUSE_MAX)
}

fn tell<H: Connected + Default>(event: &Event, name: &str, servers: &str, monitor: &Monitor<H>) {
    match event {
        Event::Connected => {
            tracing::info!(connection = name, servers, "connected to NATS");
            monitor.link_up();
        }
        Event::Disconnected => {
            tracing::warn!(connection = name, servers, "the connection to NATS is lost; connecting again");
            monitor.link_down(&format!("the connection to {servers} is lost; connecting again"));
        }
        Event::LameDuckMode => {
            tracing::warn!(
                connection = name,
                "the NATS server is about to stop; moving to another when it does"
            );
        }
        Event::SlowConsumer(subscription) => {
            tracing::warn!(connection = name, subscription, "messages of a subscription were dropped here");
        }
        Event::Closed | Event::Draining => {
            monitor.link_down("the connection was closed");
        }
        Event::ServerError(error) => {
            if monitor.note(&error.to_string()) {
                tracing::warn!(connection = name, %error, "the NATS server says");
            }
        }
        Event::ClientError(error) => {
            // Each try to connect says the same for as long as nobody is there.
            if monitor.note(&format!("{servers}: {error}")) {
                tracing::warn!(connection = name, servers, %error, "the NATS client says");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_short() {
        assert_eq!(pause(0), RECONNECT_PAUSE_FIRST);
        assert_eq!(pause(3), Duration::from_millis(200));
        assert_eq!(pause(usize::MAX), RECONNECT_PAUSE_MAX);
    }
}
