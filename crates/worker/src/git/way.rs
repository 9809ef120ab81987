//! The way to a repository: its URL, the protocols that git may use for it, and the addresses that were looked at. A name
//! that leads elsewhere when git asks again (DNS rebinding) leads nowhere: git goes to these addresses.

use super::{
    GitError,
    command::{Git, SSH},
};
use crate::fetch::address::is_public;
use std::net::IpAddr;

/// A way to a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) url: String,
    /// In git's words.
    protocols: &'static str,
    /// The host and port that were looked up, and what was found.
    pinned: Option<(String, u16, Vec<IpAddr>)>,
}

impl Way {
    /// To a repository on this machine.
    pub(super) const fn local(url: String) -> Self {
        Self { url, protocols: "file", pinned: None }
    }

    /// To another machine, which may be anywhere.
    pub(super) fn remote(text: &str, url: &url::Url) -> Self {
        let protocols = match url.scheme() {
            "https" => "https",
            "ssh" => "ssh",
            "http" => "http",
            _ => "git",
        };
        Self { url: text.to_owned(), protocols, pinned: None }
    }

    /// To another machine that is neither this one nor in its neighbourhood: nobody but the configuration may send us
    /// there.
    pub(super) async fn public(text: &str, url: &url::Url) -> Result<Self, GitError> {
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default().unwrap_or(22);
        let found = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| GitError::Infra(format!("host `{host}` is not known: {error}")))?;
        let addresses: Vec<_> = found.map(|address| address.ip()).collect();
        if let Some(address) = addresses.iter().find(|address| !is_public(**address)) {
            return Err(GitError::Denied(format!(
                "host `{host}` is on this machine or its private network ({address}); \
                 only hosts named in the configuration may be"
            )));
        }
        Ok(Self { pinned: Some((host.to_owned(), port, addresses)), ..Self::remote(text, url) })
    }

    /// Lets a command go this way and no other.
    pub(super) fn on(&self, git: Git) -> Git {
        let git = git.protocols(self.protocols);
        // What is an address already is not looked up.
        let names = self.pinned.as_ref().filter(|(host, ..)| host.parse::<IpAddr>().is_err());
        let Some((host, port, addresses)) = names else { return git };
        match self.protocols {
            "http" | "https" => {
                let addresses: Vec<_> = addresses.iter().map(in_url).collect();
                git.args(["-c", &format!("http.curloptResolve={host}:{port}:{}", addresses.join(","))])
            }
            "ssh" => match addresses.first() {
                // The host's key is that of its name.
                Some(address) => {
                    git.env("GIT_SSH_COMMAND", format!("{SSH} -oHostName={address} -oHostKeyAlias={host}"))
                }
                None => git,
            },
            // git's own protocol knows no such thing; only the configuration lets it be used at all.
            _ => git,
        }
    }
}

fn in_url(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        time::Duration,
    };

    /// A name that no server knows: whoever gets there was sent by the address.
    #[tokio::test]
    async fn git_goes_to_the_address_that_was_looked_at() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
            head
        });
        let way = Way {
            url: format!("http://rebound.invalid:{port}/tasks.git"),
            protocols: "http",
            pinned: Some(("rebound.invalid".to_owned(), port, vec!["127.0.0.1".parse().unwrap()])),
        };
        let ask = way.on(Git::new(None, Duration::from_secs(30), "look"));
        ask.args(["ls-remote", "--", &way.url]).run(1000).await.unwrap_err();
        let head = asked.join().unwrap();
        assert!(head[0].starts_with("GET /tasks.git/info/refs"), "{head:?}");
        assert!(head.iter().any(|line| line.to_lowercase().starts_with("host: rebound.invalid")), "{head:?}");
    }

    #[tokio::test]
    async fn hosts_of_the_neighbourhood_are_refused() {
        for text in
            ["http://localhost/x.git", "https://127.0.0.1/x.git", "https://[::1]/x.git", "ssh://10.0.0.1/x"]
        {
            let refused = Way::public(text, &text.parse().unwrap()).await.unwrap_err();
            assert!(
                matches!(&refused, GitError::Denied(why) if why.contains("private network")),
                "{text}: {refused}"
            );
        }
    }
}
