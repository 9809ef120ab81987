//! The few calls of the Docker engine's HTTP interface that preparing it takes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) struct Engine {
    socket: PathBuf,
}

impl Engine {
    pub(super) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub(super) fn ping(&self) -> Result<()> {
        self.expect_success("GET", "/_ping", &[]).map(drop)
    }

    pub(super) fn version(&self) -> Result<String> {
        let answer = self.expect_success("GET", "/version", &[])?;
        let version: serde_json::Value = serde_json::from_str(&answer).context("the version is not JSON")?;
        Ok(version["Version"].as_str().unwrap_or("of unknown version").to_owned())
    }

    pub(super) fn has_image(&self, name: &str) -> Result<bool> {
        match self.call("GET", &format!("/images/{name}/json"), &[])? {
            (200, _) => Ok(true),
            (404, _) => Ok(false),
            (status, answer) => bail!("the engine answers {status}: {answer}"),
        }
    }

    /// Makes an image of a root file system as a tar archive. `name` is `repository:tag`.
    pub(super) fn import_image(&self, name: &str, archive: &[u8]) -> Result<()> {
        let (repository, tag) = name.split_once(':').context("an image name with a tag is expected")?;
        let path =
            format!("/images/create?fromSrc=-&repo={repository}&tag={tag}&changes=CMD%20%5B%22sh%22%5D");
        let answer = self.expect_success("POST", &path, archive)?;
        // Its failures come inside a successful answer.
        ensure!(!answer.contains("\"error\""), "the engine cannot import {name}: {}", answer.trim());
        if !self.has_image(name)? {
            // Podman leaves the tag out.
            let path = format!("/images/{repository}:latest/tag?repo={repository}&tag={tag}");
            self.expect_success("POST", &path, &[])?;
        }
        Ok(())
    }

    pub(super) fn remove_image(&self, name: &str) -> Result<()> {
        self.expect_success("DELETE", &format!("/images/{name}?force=true"), &[]).map(drop)
    }

    fn expect_success(&self, method: &str, path: &str, body: &[u8]) -> Result<String> {
        let (status, answer) = self.call(method, path, body)?;
        ensure!((200..300).contains(&status), "the engine answers {status} to {method} {path}: {answer}");
        Ok(answer)
    }

    /// Status and body. HTTP/1.0, so that the answer ends with the connection and comes in one piece.
    fn call(&self, method: &str, path: &str, body: &[u8]) -> Result<(u16, String)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(CALL_TIMEOUT))?;
        stream.set_write_timeout(Some(CALL_TIMEOUT))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: application/x-tar\r\n\
             Content-Length: {length}\r\n\r\n"
        )?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        parse_answer(&String::from_utf8_lossy(&answer))
    }
}

fn parse_answer(answer: &str) -> Result<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n").context("the engine's answer is cut short")?;
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Ok((status.context("the engine does not speak HTTP")?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let check = |answer: &str, expect: Result<(u16, &str), &str>| match (parse_answer(answer), expect) {
            (Ok((status, body)), Ok(expected)) => assert_eq!((status, body.as_str()), expected),
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
            (got, expected) => panic!("{answer:?}: {got:?} instead of {expected:?}"),
        };
        check("HTTP/1.0 200 OK\r\nA: b\r\n\r\nOK", Ok((200, "OK")));
        check("HTTP/1.0 404 Not Found\r\n\r\n{}\r\n\r\n", Ok((404, "{}\r\n\r\n")));
        check("HTTP/1.0 200 OK\r\n", Err("the engine's answer is cut short"));
        check("hello\r\n\r\n", Err("the engine does not speak HTTP"));
    }
}
