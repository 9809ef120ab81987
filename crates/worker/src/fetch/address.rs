//! Which hosts may be fetched from: nothing inside the worker's own network unless the configuration names it.
//!
//! A task can come from a stranger's pull request, so its URLs must not reach metadata services, databases
//! and admin pages around the worker. Names are judged by the addresses that are then connected to, so a name
//! that resolves to something else a moment later gains nothing.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};
use url::{Host, Url};

/// An address that must not be fetched from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} is {address}, which is not a public address; the worker's configuration can allow the host")]
pub struct RefusedAddress {
    host: String,
    address: IpAddr,
}

/// The hosts that may be fetched from although their addresses are not public.
#[derive(Debug, Clone, Default)]
pub struct AddressRules {
    allowed_hosts: Arc<BTreeSet<String>>,
}

impl AddressRules {
    /// Host names and literal addresses, as they stand in URLs; case does not matter.
    #[must_use]
    pub fn new(hosts: &BTreeSet<String>) -> Self {
        Self { allowed_hosts: Arc::new(hosts.iter().map(|host| host.to_ascii_lowercase()).collect()) }
    }

    fn allows(&self, host: &str) -> bool {
        self.allowed_hosts.contains(&host.to_ascii_lowercase())
    }

    /// Judges a URL whose host is a literal address; names are judged when they are resolved.
    ///
    /// # Errors
    /// The address is not public and its host not allowed.
    pub fn check_literal(&self, url: &Url) -> Result<(), RefusedAddress> {
        let (host, address) = match url.host() {
            Some(Host::Ipv4(address)) => (address.to_string(), IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => (address.to_string(), IpAddr::V6(address)),
            _ => return Ok(()),
        };
        if is_public(address) || self.allows(&host) {
            return Ok(());
        }
        Err(RefusedAddress { host, address })
    }
}

impl Resolve for AddressRules {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let mut found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            if !rules.allows(&host) {
                let refused = found.iter().map(SocketAddr::ip).find(|address| !is_public(*address));
                found.retain(|address| is_public(address.ip()));
                if let (true, Some(address)) = (found.is_empty(), refused) {
                    return Err(RefusedAddress { host, address }.into());
                }
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to the public internet.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // shared by providers (RFC 6598)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)); // benchmarks (RFC 2544)
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let last_v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        // IPv4 in other clothes: mapped, compatible, translated (NAT64), 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(last_v4(high, low))
        }
        [0, 0, 0, 0, 0, 0, ..] => false,
        [0x2002, high, low, ..] => is_public_v4(last_v4(high, low)),
        [0x2001, 0xdb8, ..] | [0x64, 0xff9b, 1, ..] => false,
        [first, ..] => (0x2000..0x4000).contains(&first), // global unicast; not fc00::/7, fe80::/10, ff00::/8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for address in
            ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "64:ff9b:1::1",
            "2001:db8::1",
            "fec0::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn literal_addresses_are_judged_in_every_spelling() {
        let rules = AddressRules::new(&["10.0.0.7".to_owned()].into());
        for (url, allowed) in [
            ("http://example.org/", true),
            ("http://10.0.0.7/x", true),
            ("http://10.0.0.8/x", false),
            ("http://2130706433/", false),
            ("http://0x7f.1/", false),
            ("http://[::1]:80/", false),
            ("http://[::ffff:a00:7]/", false),
        ] {
            assert_eq!(rules.check_literal(&Url::parse(url).unwrap()).is_ok(), allowed, "{url}");
        }
    }
}
