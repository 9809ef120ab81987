//! Which hosts may be fetched from: nothing inside the worker's own network unless the configuration names it.
//!
//! A task can come from a stranger's pull request, so its URLs must not reach metadata services, databases
//! and admin pages around the worker. Names are judged by the addresses that are then connected to, so a name
//! that resolves to something else a moment later gains nothing.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};
use url::{Host, Url};

/// An address that must not be fetched from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}{address} is not a public address, or refused; `worker.fetch.private_hosts` of the worker's configuration says which of these are allowed",
    if *host == address.to_string() { String::new() } else { format!("{host} is {address}: ") }
)]
pub struct RefusedAddress {
    host: String,
    address: IpAddr,
}

/// The hosts that may be fetched from although their addresses are not public.
#[derive(Debug, Clone, Default)]
pub struct AddressRules {
    allowed_hosts: Arc<BTreeSet<String>>,
    refused: Arc<[Network]>,
}

/// A range of addresses, such as `203.0.113.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Whether an address is in it, also when it is written as one of the other kind.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        let is_in = |address: IpAddr| match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u32::from(own) ^ u32::from(other)).checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (u128::from(own) ^ u128::from(other)).checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        };
        let inner = match address {
            IpAddr::V6(address) => embedded_v4(address),
            IpAddr::V4(_) => None,
        };
        is_in(address) || inner.is_some_and(|inner| is_in(IpAddr::V4(inner)))
    }
}

impl FromStr for Network {
    type Err = String;

    /// `ADDRESS/BITS`, or one address.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no network; expected one such as 203.0.113.0/24 or 2001:db8::/32");
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(bits), |prefix| prefix.parse().map_err(|_| wrong()))?;
        if prefix > bits { Err(wrong()) } else { Ok(Self { address, prefix }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl AddressRules {
    /// Host names and literal addresses, as they stand in URLs, that are allowed; case does not matter. Networks
    /// that are refused whatever the host.
    #[must_use]
    pub fn new(hosts: &BTreeSet<String>, refused: &[Network]) -> Self {
        let allowed_hosts = Arc::new(hosts.iter().map(|host| host.to_ascii_lowercase()).collect());
        Self { allowed_hosts, refused: refused.into() }
    }

    fn fits(&self, host: &str, address: IpAddr) -> bool {
        !self.refused.iter().any(|network| network.holds(address))
            && (is_public(address) || self.allows(host))
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
        if self.fits(&host, address) {
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
            let refused = found.iter().map(SocketAddr::ip).find(|address| !rules.fits(&host, *address));
            found.retain(|address| rules.fits(&host, address.ip()));
            if let (true, Some(address)) = (found.is_empty(), refused) {
                return Err(RefusedAddress { host, address }.into());
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
    if let [0, 0, 0, 0, 0, 0, ..] = address.segments() {
        return false;
    }
    if let Some(inner) = embedded_v4(address) {
        return is_public_v4(inner);
    }
    match address.segments() {
        [0x2001, 0xdb8, ..] | [0x64, 0xff9b, 1, ..] => false,
        [first, ..] => (0x2000..0x4000).contains(&first), // global unicast; not fc00::/7, fe80::/10, ff00::/8
    }
}

/// IPv4 in other clothes: mapped, compatible, translated (NAT64), 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
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
        let refused = ["93.184.0.0/16", "2606:4700::/32", "10.0.0.9"].map(|text| text.parse().unwrap());
        let hosts = ["10.0.0.7", "10.0.0.9"].map(str::to_owned);
        let rules = AddressRules::new(&hosts.into(), &refused);
        for (url, allowed) in [
            ("http://example.org/", true),
            ("http://10.0.0.7/x", true),
            ("http://10.0.0.8/x", false),
            ("http://2130706433/", false),
            ("http://0x7f.1/", false),
            ("http://[::1]:80/", false),
            ("http://[::ffff:a00:7]/", false),
            ("http://[::ffff:7f00:1]/", false),
            ("http://[64:ff9b::a9fe:a9fe]/", false),
            ("http://93.185.0.1/", true),
            ("http://93.184.216.34/", false),
            ("http://[::ffff:93.184.216.34]/", false),
            ("http://[2002:5db8:d822::1]/", false),
            ("http://[2606:4700::1111]/", false),
            ("http://[2606:4701::1111]/", true),
            ("http://10.0.0.9/", false),
        ] {
            assert_eq!(rules.check_literal(&Url::parse(url).unwrap()).is_ok(), allowed, "{url}");
        }
    }
}
