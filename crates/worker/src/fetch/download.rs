//! One file over HTTP into its cache entry: redirects judged one by one, broken transfers taken up again.

use super::{
    FetchError, Shown,
    address::{AddressRules, RefusedAddress},
    cache::{Entry, Meta},
    check_sha, hash, too_large,
};
use crate::{backoff::Backoff, config::FetchServer, logs::AttemptLog};
use futures_util::StreamExt;
use model::Ids;
use model::diagnostic::with_causes;
use reqwest::{RequestBuilder, Response, StatusCode, header};
use std::{sync::Arc, time::Duration};
use tokio::io::AsyncWriteExt;
use url::Url;

/// How often a transfer is begun or taken up before it is given up.
pub const FETCH_TRIES_MAX: u32 = 5;
/// How many redirects are followed.
pub const FETCH_REDIRECTS_MAX: usize = 10;
/// How long a connection may be silent.
pub const FETCH_SILENCE_MAX: Duration = Duration::from_secs(60);

/// The path below which a server gives artifacts to workers.
pub(super) fn own_path(server: &Url) -> String {
    format!("{}/api/v1/worker/tasks/", server.path().trim_end_matches('/'))
}

/// Fetches over HTTP.
#[derive(Debug)]
pub(super) struct Downloader {
    http: reqwest::Client,
    /// The worker's own server, wherever it is.
    own: Option<(FetchServer, reqwest::Client)>,
    rules: AddressRules,
    bytes_max: u64,
    ids: Arc<dyn Ids>,
}

/// How one try went wrong.
enum Trouble {
    /// It may go better at once or later.
    Passing(String),
    /// It will not.
    Final(FetchError),
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        Self::Final(error)
    }
}

impl Downloader {
    pub(super) fn new(
        rules: AddressRules,
        own: Option<FetchServer>,
        bytes_max: u64,
        ids: Arc<dyn Ids>,
    ) -> Result<Self, FetchError> {
        // No proxy: it would resolve the names itself, past the rules.
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("taskbot-worker/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .connect_timeout(crate::client::CONNECT_TIMEOUT)
                .read_timeout(FETCH_SILENCE_MAX)
        };
        let failed = |error| FetchError::infra(format!("no HTTP client: {}", with_causes(&error)));
        let http = builder().dns_resolver(rules.clone()).build().map_err(failed)?;
        let own = own.map(|own| Ok((own, builder().build().map_err(failed)?))).transpose()?;
        Ok(Self { http, own, rules, bytes_max, ids })
    }

    /// A question for a URL: as the worker where it is an artifact of its own server, else as anybody, and only
    /// where the address may be reached.
    fn ask(&self, url: &Url, at: &Url) -> Result<RequestBuilder, Trouble> {
        let is_own = |own: &&(FetchServer, reqwest::Client)| {
            at.origin() == own.0.url.origin() && at.path().starts_with(&own_path(&own.0.url))
        };
        if let Some((server, http)) = self.own.as_ref().filter(is_own) {
            let request = http.get(at.clone());
            return Ok(server.token.iter().fold(request, |request, token| token.on(request)));
        }
        self.rules.check_literal(at).map_err(|refused| refused_error(url, &refused))?;
        Ok(self.http.get(at.clone()))
    }

    /// Fetches into the entry; says whether what was there is still good.
    pub(super) async fn download(
        &self,
        entry: &Entry,
        url: &Url,
        sha256: Option<&str>,
        log: &AttemptLog,
    ) -> Result<(Meta, bool), FetchError> {
        let mut backoff = Backoff::default();
        loop {
            let message = match self.try_once(entry, url, sha256).await {
                Ok(done) => return Ok(done),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(message)) => format!("`{}`: {message}", Shown(url)),
            };
            if backoff.tries() + 1 >= FETCH_TRIES_MAX {
                return Err(FetchError::infra(format!("{message} ({FETCH_TRIES_MAX} tries)")));
            }
            let delay = backoff.next(self.ids.as_ref(), None);
            log.note(&format!("{message}; trying again"));
            tokio::time::sleep(delay).await;
        }
    }

    async fn try_once(
        &self,
        entry: &Entry,
        url: &Url,
        sha256: Option<&str>,
    ) -> Result<(Meta, bool), Trouble> {
        let part = entry.part_meta().filter(|(meta, bytes)| meta.etag.is_some() && *bytes > 0);
        let kept = if part.is_none() && sha256.is_none() { entry.meta() } else { None };
        let response = self.follow(url, part.as_ref(), kept.as_ref()).await?;
        match response.status() {
            StatusCode::NOT_MODIFIED if kept.is_some() => {
                return kept.map(|meta| (meta, true)).ok_or_else(|| Trouble::Passing(String::new()));
            }
            StatusCode::PARTIAL_CONTENT => {
                let at = part.as_ref().map_or(0, |(_, bytes)| *bytes);
                if range_start(&response) != Some(at) {
                    entry.drop_part();
                    return Err(Trouble::Passing("the server sent another part than asked for".to_owned()));
                }
                self.receive(entry, url, response, at).await?;
            }
            StatusCode::OK => {
                self.receive(entry, url, response, 0).await?;
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                entry.drop_part();
                return Err(Trouble::Passing("the file has changed".to_owned()));
            }
            status if status.is_server_error() || matches!(status.as_u16(), 408 | 429) => {
                return Err(Trouble::Passing(format!("the server answers {status}")));
            }
            status => {
                let message = format!("`{}`: the server answers {status}", Shown(url));
                let missing = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
                return Err(FetchError { missing, ..FetchError::bad_task(message) }.into());
            }
        }
        let meta = self.finished(entry, url, sha256).await?;
        Ok((meta, false))
    }

    /// Asks, and follows redirects with the same question.
    async fn follow(
        &self,
        url: &Url,
        part: Option<&(Meta, u64)>,
        kept: Option<&Meta>,
    ) -> Result<Response, Trouble> {
        let mut at = url.clone();
        for _ in 0..=FETCH_REDIRECTS_MAX {
            let mut request = self.ask(url, &at)?;
            if let Some((meta, bytes)) = part {
                request = request.header(header::RANGE, format!("bytes={bytes}-"));
                request = request.header(header::IF_RANGE, meta.etag.as_deref().unwrap_or_default());
            }
            if let Some(etag) = kept.and_then(|meta| meta.etag.as_deref()) {
                request = request.header(header::IF_NONE_MATCH, etag);
            } else if let Some(modified) = kept.and_then(|meta| meta.last_modified.as_deref()) {
                request = request.header(header::IF_MODIFIED_SINCE, modified);
            }
            let response = request.send().await.map_err(|error| trouble(url, &error))?;
            let location = match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => response.headers().get(header::LOCATION),
                _ => return Ok(response),
            };
            let next = location.and_then(|text| text.to_str().ok()).and_then(|text| at.join(text).ok());
            at = match next {
                Some(next)
                    if next.scheme() == "https" || (next.scheme() == "http" && at.scheme() == "http") =>
                {
                    next
                }
                next => {
                    let to = next.map_or_else(|| "no URL".to_owned(), |next| format!("`{}`", Shown(&next)));
                    let message = format!(
                        "`{}` leads to {to}, which cannot be followed; expected https, or http from http",
                        Shown(url)
                    );
                    return Err(FetchError::bad_task(message).into());
                }
            };
        }
        let message = format!("`{}` leads over more than {FETCH_REDIRECTS_MAX} redirects", Shown(url));
        Err(FetchError::bad_task(message).into())
    }

    /// Writes the body behind the first `at` bytes of the part.
    async fn receive(&self, entry: &Entry, url: &Url, response: Response, at: u64) -> Result<(), Trouble> {
        let path = entry.part();
        let disk = |error: &std::io::Error| Trouble::Final(FetchError::disk(&path, error));
        let said = response.content_length().map(|rest| at + rest);
        if let Some(said) = said.filter(|said| *said > self.bytes_max) {
            return Err(too_large(url, Some(said), self.bytes_max).into());
        }
        let modified = response.headers().get(header::LAST_MODIFIED).and_then(|text| text.to_str().ok());
        let meta = Meta {
            url: Shown(url).to_string(),
            etag: strong_etag(&response),
            last_modified: modified.map(str::to_owned),
            ..Meta::default()
        };
        entry.begin_part(&meta)?;
        let mut options = tokio::fs::OpenOptions::new();
        let options =
            if at == 0 { options.write(true).create(true).truncate(true) } else { options.append(true) };
        let mut file = options.open(&path).await.map_err(|error| disk(&error))?;
        let mut bytes = at;
        let mut body = response.bytes_stream();
        let mut broken = None;
        while let Some(chunk) = body.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    broken = Some(trouble(url, &error));
                    break;
                }
            };
            bytes += chunk.len() as u64;
            if bytes > self.bytes_max {
                entry.drop_part();
                return Err(too_large(url, None, self.bytes_max).into());
            }
            file.write_all(&chunk).await.map_err(|error| disk(&error))?;
        }
        file.flush().await.map_err(|error| disk(&error))?;
        match (broken, said) {
            (Some(broken), _) => Err(broken),
            (None, Some(said)) if said != bytes => {
                Err(Trouble::Passing(format!("the transfer ended after {bytes} of {said} bytes")))
            }
            _ => Ok(()),
        }
    }

    async fn finished(&self, entry: &Entry, url: &Url, sha256: Option<&str>) -> Result<Meta, Trouble> {
        let got = hash(entry.part()).await?;
        if let Err(error) = check_sha(url, sha256, &got) {
            entry.drop_part();
            return Err(error.into());
        }
        let Some((meta, size_bytes)) = entry.part_meta() else {
            return Err(Trouble::Passing("the cache was removed".to_owned()));
        };
        let meta = Meta { sha256: got, size_bytes, ..meta };
        entry.complete(&meta)?;
        Ok(meta)
    }
}

fn refused_error(url: &Url, refused: &RefusedAddress) -> Trouble {
    Trouble::Final(FetchError::bad_task(format!("`{}` is refused: {refused}", Shown(url))))
}

/// A refused address is final; everything else that happens on the way may pass.
fn trouble(url: &Url, error: &reqwest::Error) -> Trouble {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(at) = cause {
        if let Some(refused) = at.downcast_ref::<RefusedAddress>() {
            return refused_error(url, refused);
        }
        cause = at.source();
    }
    Trouble::Passing(with_causes(error))
}

/// An entity tag that stands for the same bytes.
fn strong_etag(response: &Response) -> Option<String> {
    let etag = response.headers().get(header::ETAG)?.to_str().ok()?;
    (!etag.starts_with("W/")).then(|| etag.to_owned())
}

fn range_start(response: &Response) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}
