//! Who may come in without a token, and whether a server may listen there at all.

use crate::{
    config::{Anonymous, Config, Server},
    fault::{self, Fault},
};
use std::net::{IpAddr, SocketAddr};
use store::{Role, Store};

/// What the tokens of workers inside a server's process begin with; they are no credentials of people.
pub(crate) const INNER_TOKEN_PREFIX: &str = "inner worker of ";

/// What a listener allows without a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Nothing.
    TokensOnly,
    /// Everything: one person's machine, without any tokens yet.
    LocalAdmin,
    /// What the configuration says.
    Stated(Anonymous),
}

impl Entry {
    /// Decides. Listening where others can reach it, without tokens and without a word in the configuration, is
    /// refused.
    ///
    /// # Errors
    /// That, with what to do.
    pub(crate) fn decide(server: &Server, listens: SocketAddr, tokens: usize) -> Result<Self, Fault> {
        if let Some(stated) = &server.anonymous {
            return Ok(Self::Stated(stated.clone()));
        }
        if tokens > 0 || !server.jwt.is_empty() {
            return Ok(Self::TokensOnly);
        }
        // Behind a proxy all requests come from loopback.
        let public = server.public_url.as_deref().filter(|url| !is_local_url(url));
        let why = match (listens.ip().is_loopback(), public) {
            (true, None) => return Ok(Self::LocalAdmin),
            (false, _) => format!("{listens} can be reached from other machines"),
            (true, Some(url)) => format!("`server.public_url` ({url}) says that others reach it"),
        };
        Err(Fault::new(
            fault::USAGE,
            format!(
                "{why}, and there are no tokens: anybody could do anything. Make a token first:\n  \
                 taskbot token create NAME --role admin --offline (with the same --config)\n\
                 or listen on loopback (--listen 127.0.0.1:{}), or state in the configuration what requests without \
                 a token may do:\n  server: {{anonymous: {{role: viewer, networks: [192.0.2.0/24]}}}}",
                listens.port()
            ),
        ))
    }

    /// In words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::TokensOnly => "tokens only".to_owned(),
            Self::LocalAdmin => {
                "everybody on this machine is admin, since there are no tokens yet".to_owned()
            }
            Self::Stated(Anonymous { role, networks }) => {
                let networks: Vec<_> =
                    networks.iter().map(|network| format!("{}/{}", network.address, network.bits)).collect();
                format!("without a token: {role} from {}", networks.join(", "))
            }
        }
    }

    /// As the API takes it.
    pub(crate) fn access(&self) -> api::auth::Access {
        match self {
            Self::TokensOnly => api::auth::Access::tokens_only(),
            Self::LocalAdmin => api::auth::Access::anonymous(Role::Admin, loopback()),
            Self::Stated(Anonymous { role, networks }) => {
                let networks = networks.iter().map(|network| (network.address, network.bits)).collect();
                api::auth::Access::anonymous(*role, networks)
            }
        }
    }
}

fn loopback() -> Vec<(IpAddr, u8)> {
    vec![(IpAddr::from([127, 0, 0, 0]), 8), (IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128)]
}

fn is_local_url(url: &str) -> bool {
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// How many tokens people and programs have.
///
/// # Errors
/// The database is away.
pub(crate) async fn tokens(store: &dyn Store) -> store::Result<usize> {
    Ok(of_people(store.tokens().await?.iter().map(|token| token.name.as_str())))
}

/// How many of these tokens' names are of people and programs.
pub(crate) fn of_people<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.filter(|name| !name.starts_with(INNER_TOKEN_PREFIX)).count()
}

/// Where a server of this configuration listens, in words, for those who check before a start.
pub(crate) fn check(config: &Config, tokens: usize) -> Result<String, Fault> {
    Entry::decide(&config.server, config.server.listen, tokens).map(|entry| entry.words())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions() {
        let check = |listens: &str, public: Option<&str>, tokens: usize, expect: &str| {
            let mut server = Config::default().server;
            server.public_url = public.map(str::to_owned);
            let got = match Entry::decide(&server, listens.parse().unwrap(), tokens) {
                Ok(entry) => entry.words(),
                Err(fault) => fault.message,
            };
            assert!(got.contains(expect), "{got}");
        };
        check("127.0.0.1:1", None, 0, "everybody on this machine is admin");
        check("[::1]:1", Some("http://localhost:7400"), 0, "everybody on this machine is admin");
        check("127.0.0.1:1", None, 1, "tokens only");
        check("0.0.0.0:1", None, 1, "tokens only");
        check("0.0.0.0:1", None, 0, "0.0.0.0:1 can be reached from other machines, and there are no tokens");
        check("192.0.2.1:7400", None, 0, "or listen on loopback (--listen 127.0.0.1:7400)");
        check("127.0.0.1:1", Some("https://qa.example.org"), 0, "says that others reach it");
    }
}
