//! The server's native API, as commands use it.
//!
//! One call is one try; what lives longer ([`follow`]) reconnects by itself and goes on where it was.

pub(crate) mod follow;
mod sse;

use crate::{
    cli::Global,
    fault::{self, Fault},
};
use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest text of an error that is shown, in characters.
const ERROR_CHARS_MAX: usize = 4000;
/// The name that stands for the newest of a kind.
pub(crate) const LATEST: &str = "@latest";

/// Parameters of a request's query; those without a value are left out.
pub(crate) type Query<'a> = [(&'a str, Option<String>)];

/// A server's API.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl Client {
    /// The server that the command line names, with its token.
    ///
    /// # Errors
    /// The URL is none, or the token file cannot be read.
    pub(crate) fn of(global: &Global) -> Result<Self> {
        let token = match (&global.token, &global.token_file) {
            (_, Some(file)) => Some(read_token(file)?),
            (Some(token), None) => Some(token.trim().to_owned()),
            (None, None) => None,
        };
        Self::new(&global.server, token)
    }

    /// A server by its URL.
    ///
    /// # Errors
    /// The URL is none.
    pub(crate) fn new(server: &str, token: Option<String>) -> Result<Self> {
        let wrong = || {
            Fault::usage(format!(
                "--server: `{server}` is no server; expected http://HOST:PORT or https://HOST"
            ))
        };
        let mut base = Url::parse(server).map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(wrong().into());
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("taskbot/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("no HTTP client")?;
        Ok(Self { http, base, token })
    }

    /// What is shown to it.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The server.
    pub(crate) const fn base(&self) -> &Url {
        &self.base
    }

    /// Reads.
    ///
    /// # Errors
    /// The server does not answer, or says no.
    pub(crate) async fn get(&self, path: &str, query: &Query<'_>) -> Result<Value> {
        self.json(self.request(Method::GET, path)?.query(&given(query))).await
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// The server does not answer, or says no.
    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value> {
        self.json(self.request(Method::POST, path)?.json(body)).await
    }

    /// Sends bytes. The answer is given with its status, also where the server says no to what they hold.
    ///
    /// # Errors
    /// The server does not answer, or says no to the request itself.
    pub(crate) async fn send(
        &self,
        path: &str,
        query: &Query<'_>,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Value> {
        let request = self.request(Method::POST, path)?.query(&given(query));
        let response = self.try_send(request.header(header::CONTENT_TYPE, content_type).body(body)).await?;
        let is_problem = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
        if response.status().is_success() || (response.status().is_client_error() && !is_problem) {
            return self.read(response).await;
        }
        Err(refused(response).await)
    }

    /// What the server's clock says (the header `Date`), when it says so.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn date(&self) -> Result<Option<String>> {
        let response = self.try_send(self.request(Method::GET, "/healthz")?).await?;
        let date = response.headers().get(header::DATE);
        Ok(date.and_then(|date| date.to_str().ok()).map(str::to_owned))
    }

    /// What the server says of its readiness: the same document whether it is ready or not.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn readiness(&self) -> Result<Value> {
        let response = self.try_send(self.request(Method::GET, "/readyz")?).await?;
        self.read(response).await
    }

    /// Removes.
    ///
    /// # Errors
    /// The server does not answer, or says no.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value> {
        self.json(self.request(Method::DELETE, path)?).await
    }

    /// Reads bytes as they come.
    ///
    /// # Errors
    /// The server does not answer, or says no.
    pub(crate) async fn bytes(&self, path: &str, query: &Query<'_>) -> Result<Response> {
        let request = self.http_request(Method::GET, path)?.query(&given(query));
        let response = self.try_send(request).await?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response).await) }
    }

    /// The id of the task that is meant.
    ///
    /// # Errors
    /// The server does not answer, or there is none.
    pub(crate) async fn task_id(&self, id: &str) -> Result<String> {
        self.id("tasks", "task", id, "id", None).await
    }

    /// The number or id of the event that is meant; the newest is that of those from outside.
    ///
    /// # Errors
    /// The server does not answer, or there is none.
    pub(crate) async fn event_id(&self, id: &str) -> Result<String> {
        self.id("events", "event", id, "seq", Some(("outside", "true"))).await
    }

    /// The number of the dead letter that is meant.
    ///
    /// # Errors
    /// The server does not answer, there is none, or it is no number.
    pub(crate) async fn letter_id(&self, id: &str) -> Result<String> {
        let number = id.strip_prefix('#').unwrap_or(id);
        if id != LATEST && number.parse::<i64>().is_err() {
            return Err(
                Fault::usage(format!("`{id}` is no dead letter; expected its number, or {LATEST}")).into()
            );
        }
        self.id("dlq", "dead letter", id, "id", None).await
    }

    /// The id that is meant: `@latest` is that of the newest entry of the list at `path`.
    async fn id(
        &self,
        path: &str,
        what: &str,
        id: &str,
        field: &str,
        narrowed: Option<(&'static str, &str)>,
    ) -> Result<String> {
        if id != LATEST {
            return Ok(escape(id.strip_prefix('#').unwrap_or(id)));
        }
        let mut query = vec![("limit", Some("1".to_owned()))];
        query.extend(narrowed.map(|(name, value)| (name, Some(value.to_owned()))));
        let page = self.get(path, &query).await?;
        match &page["items"][0][field] {
            Value::String(id) => Ok(escape(id)),
            Value::Number(id) => Ok(id.to_string()),
            _ => Err(Fault::new(fault::NOT_FOUND, format!("there is no {what} yet")).into()),
        }
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value> {
        let response = self.try_send(request).await?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        self.read(response).await
    }

    async fn read(&self, response: Response) -> Result<Value> {
        let bytes = response.bytes().await.map_err(|error| self.away(&error))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            Fault::new(fault::INFRA, format!("{} sent no JSON ({error}); is it a taskbot server?", self.base))
                .into()
        })
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        Ok(self.http_request(method, path)?.timeout(REQUEST_TIMEOUT))
    }

    /// A request without a time limit; paths are below `/api/v1/` unless they begin with a slash.
    fn http_request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let path = path.strip_prefix('/').map_or_else(|| format!("api/v1/{path}"), str::to_owned);
        let url = self.base.join(&path).with_context(|| format!("no URL: {path}"))?;
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn try_send(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|error| self.away(&error).into())
    }

    fn away(&self, error: &reqwest::Error) -> Fault {
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Fault::new(
            fault::INFRA,
            format!(
                "no answer from {}: {cause}; is a server running there (`taskbot up`), or is --server another?",
                self.base
            ),
        )
    }
}

/// Reads a token's file.
///
/// # Errors
/// It cannot be read, or is empty.
pub(crate) fn read_token(file: &std::path::Path) -> Result<String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Fault::unread(format_args!("the token file {}", file.display()), &error))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Fault::usage(format!("the token file {} is empty", file.display())).into());
    }
    Ok(token.to_owned())
}

/// A part of a URL's path.
pub(crate) fn escape(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn given<'a>(query: &'a Query<'_>) -> Vec<(&'a str, &'a str)> {
    query.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect()
}

/// What the server says no to, with the exit code that fits.
async fn refused(response: Response) -> anyhow::Error {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let problem: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let detail = problem["detail"].as_str().unwrap_or(text.trim());
    let mut message: String = detail.chars().take(ERROR_CHARS_MAX).collect();
    if message.is_empty() {
        message = status.to_string();
    }
    let code = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            message.push_str("; give a token that may (--token-file, TASKBOT_TOKEN)");
            fault::NOT_ALLOWED
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => fault::NOT_FOUND,
        StatusCode::CONFLICT => fault::CONFLICT,
        StatusCode::BAD_REQUEST => fault::USAGE,
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE => fault::FAILED,
        _ => fault::INFRA,
    };
    Fault::new(code, message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let client = Client::new("http://host:1/below", None).unwrap();
        let url = |path| client.http_request(Method::GET, path).unwrap().build().unwrap().url().to_string();
        assert_eq!(url("tasks/1"), "http://host:1/below/api/v1/tasks/1");
        assert_eq!(url("/readyz"), "http://host:1/below/readyz");
        assert_eq!(escape("a b/#c"), "a%20b%2F%23c");
        for bad in ["", "localhost", "ftp://x", "http://"] {
            assert_eq!(fault::exit_code(&Client::new(bad, None).unwrap_err()), fault::USAGE, "{bad}");
        }
    }
}
