//! The network that leads nowhere. A container that has network is in it too, with all link-local addresses: a cloud's
//! metadata service is out of its reach, without any right on the engine's host. The bridge has no address, so that the
//! host's own routes stay as they are.

use super::{
    Container,
    engine::{reason, status},
};
use crate::executor::ExecError;
use bollard::{
    errors::Error,
    models::{Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest},
};
use std::collections::HashMap;

/// Its name. All workers of an engine share it, and it stays.
pub(super) const NOWHERE: &str = "taskbot-nowhere";
/// What it keeps containers from.
const LINK_LOCAL: &str = "169.254.0.0/16";
/// Where containers have their addresses in it: none is one that clouds have services at.
const OWN_ADDRESSES: &str = "169.254.192.0/18";
/// What workers say where it cannot be had.
pub(super) const OPEN: &str =
    "`prepare` reaches link-local addresses, and with them a cloud's metadata service";

impl Container {
    /// Whether a container in the configured network can be in this one, too.
    pub(super) fn is_kept_from_link_local(&self, network: &str) -> bool {
        let shared = ["none", "host"].contains(&network) || network.starts_with("container:");
        !self.engine.podman && !self.config.link_local && !shared
    }

    /// Leads a container's way to link-local addresses nowhere.
    ///
    /// # Errors
    /// The engine cannot do so: the container must not be started.
    pub(super) async fn keep_from_link_local(&self, id: &str) -> Result<(), ExecError> {
        let failed = |error: &Error| {
            ExecError::Infra(format!(
                "{} cannot keep a container from {LINK_LOCAL} ({}); `worker.executors.link_local: true` lets it there",
                self.engine.version,
                reason(error)
            ))
        };
        let docker = &self.engine.docker;
        // Joining a network that is not there would be told only when the container starts.
        if let Err(error) = docker.inspect_network(NOWHERE, None).await {
            if status(&error) != Some(404) {
                return Err(failed(&error));
            }
            match docker.create_network(network()).await {
                // Another worker's, or another attempt's, was faster: 409, or that its addresses are taken.
                Ok(_) | Err(Error::DockerResponseServerError { status_code: 403 | 409, .. }) => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        let request = NetworkConnectRequest { container: id.to_owned(), endpoint_config: None };
        docker.connect_network(NOWHERE, request).await.map_err(|error| failed(&error))
    }
}

fn network() -> NetworkCreateRequest {
    let options = [
        ("com.docker.network.bridge.inhibit_ipv4", "true"),
        ("com.docker.network.bridge.enable_icc", "false"),
    ];
    let addresses = IpamConfig {
        subnet: Some(LINK_LOCAL.to_owned()),
        ip_range: Some(OWN_ADDRESSES.to_owned()),
        ..IpamConfig::default()
    };
    NetworkCreateRequest {
        name: NOWHERE.to_owned(),
        driver: Some("bridge".to_owned()),
        internal: Some(true),
        ipam: Some(Ipam { config: Some(vec![addresses]), ..Ipam::default() }),
        options: Some(options.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        labels: Some(HashMap::from([("taskbot".to_owned(), "nowhere".to_owned())])),
        ..NetworkCreateRequest::default()
    }
}
