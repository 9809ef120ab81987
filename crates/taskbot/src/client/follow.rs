//! Following a stream: an outage is told, waited out, and the stream taken up where it was.

pub(crate) use super::sse::SseEvent;
use super::{Client, sse::Parser};
use crate::{
    fault::{self, Fault},
    output,
};
use anyhow::Result;
use futures_util::StreamExt;
use reqwest::{Method, header};
use std::{ops::ControlFlow, time::Duration};

/// The first wait after an outage; it doubles.
const WAIT_FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A stream that says nothing for so long is dead: servers send a heartbeat every 15 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(50);

/// A stream being followed.
#[derive(Debug)]
pub(crate) struct Follow<'a> {
    client: &'a Client,
    path: String,
    query: Vec<(&'static str, String)>,
    /// Where to go on.
    last_id: Option<String>,
}

impl<'a> Follow<'a> {
    /// A stream of the server.
    pub(crate) fn new(
        client: &'a Client,
        path: impl Into<String>,
        query: &[(&'static str, Option<String>)],
    ) -> Self {
        let query = query.iter().filter_map(|(name, value)| Some((*name, value.clone()?))).collect();
        Self { client, path: path.into(), query, last_id: None }
    }

    /// Hands each event to `take` until it breaks; `connected` is called whenever the stream is there (again).
    ///
    /// # Errors
    /// The server says no, or `take` or `connected` fails. An outage is no error.
    pub(crate) async fn run<T>(
        mut self,
        mut connected: impl AsyncFnMut() -> Result<ControlFlow<T>>,
        mut take: impl AsyncFnMut(SseEvent) -> Result<ControlFlow<T>>,
    ) -> Result<T> {
        let mut wait = WAIT_FIRST;
        let mut away = false;
        loop {
            let why = match self.open().await {
                Ok(response) => {
                    if std::mem::take(&mut away) {
                        output::note(output::paint(output::faint(), "connected again"));
                    }
                    wait = WAIT_FIRST;
                    if let ControlFlow::Break(done) = connected().await? {
                        return Ok(done);
                    }
                    match self.read(response, &mut take).await? {
                        ControlFlow::Break(done) => return Ok(done),
                        ControlFlow::Continue(why) => why,
                    }
                }
                Err(error) if fault::exit_code(&error) == fault::INFRA => error.to_string(),
                Err(error) => return Err(error),
            };
            if !std::mem::replace(&mut away, true) {
                output::note(output::paint(output::odd(), format_args!("waiting for the server: {why}")));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    async fn open(&self) -> Result<reqwest::Response> {
        let mut request = self.client.http_request(Method::GET, &self.path)?.query(&self.query);
        request = request.header(header::ACCEPT, "text/event-stream");
        if let Some(id) = &self.last_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = tokio::time::timeout(SILENCE_MAX, self.client.try_send(request)).await;
        let response = response.map_err(|_| Fault::new(fault::INFRA, "it does not answer"))??;
        if response.status().is_success() { Ok(response) } else { Err(super::refused(response).await) }
    }

    /// Reads until `take` breaks, or says why the stream broke off.
    async fn read<T>(
        &mut self,
        response: reqwest::Response,
        take: &mut impl AsyncFnMut(SseEvent) -> Result<ControlFlow<T>>,
    ) -> Result<ControlFlow<T, String>> {
        let mut parser = Parser::default();
        let mut bytes = response.bytes_stream();
        loop {
            let piece = match tokio::time::timeout(SILENCE_MAX, bytes.next()).await {
                Err(_) => return Ok(ControlFlow::Continue("it says nothing more".to_owned())),
                Ok(None) => return Ok(ControlFlow::Continue("it ended the stream".to_owned())),
                Ok(Some(Err(error))) => return Ok(ControlFlow::Continue(self.client.away(&error).message)),
                Ok(Some(Ok(piece))) => piece,
            };
            let events = parser.push(&piece).map_err(|message| Fault::new(fault::INFRA, message))?;
            for event in events {
                let id = event.id.clone();
                if let ControlFlow::Break(done) = take(event).await? {
                    return Ok(ControlFlow::Break(done));
                }
                self.last_id = id.or_else(|| self.last_id.take());
            }
        }
    }
}
