//! A request: who asks, where, and what is said.

use super::{BODY_BYTES_MAX, Settings, answer::Refusal, operation::Place};
use crate::{auth::Caller, python_json, resultsdb::Base, state::ApiState};
use axum::{body::Bytes, extract::Request, http::Method};
use chrono::{DateTime, Local, MappedLocalTime, NaiveDateTime, TimeZone as _, Utc};
use model::{ids::QueueName, paddles::JobReport};
use serde_json::{Map, Value};
use store::{PADDLES_ROWS_MAX, PaddlesReport, PaddlesReported, PaddlesTarget, Store};

/// A request.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) state: ApiState,
    pub(crate) caller: Caller,
    /// What links begin with.
    pub(crate) base: String,
    /// The arguments behind the path.
    query: Vec<(String, String)>,
    body: Bytes,
    /// Whether the answer's body is not looked at.
    pub(crate) head: bool,
}

impl Ask {
    pub(crate) async fn read(
        state: ApiState,
        caller: Caller,
        place: Place,
        request: Request,
    ) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let base = Base::of(&parts.headers, &parts.uri).url(place.mount);
        let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let query = query.into_owned().collect();
        let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await;
        let too_large = |_| {
            Refusal::new(
                axum::http::StatusCode::PAYLOAD_TOO_LARGE,
                format!("a body has at most {BODY_BYTES_MAX} bytes"),
            )
        };
        Ok(Self {
            state,
            caller,
            base,
            query,
            body: body.map_err(too_large)?,
            head: parts.method == Method::HEAD,
        })
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.state.scheduler().store()
    }

    pub(crate) fn settings(&self) -> Settings {
        self.state.interfaces().paddles.clone().unwrap_or_default()
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.state.scheduler().clock().now()
    }

    /// An argument; an empty one is as if it were missing.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// An argument that is a number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u32>, Refusal> {
        let number =
            |text: &str| text.trim().parse().map_err(|_| Refusal::bad(format!("{name} must be an integer")));
        self.text(name).map(number).transpose()
    }

    /// An argument that is true or false.
    pub(crate) fn truth(&self, name: &str) -> Result<Option<bool>, Refusal> {
        let truth = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(Refusal::bad(format!("{name} must be true or false"))),
        };
        self.text(name).map(truth).transpose()
    }

    /// `fields`, where they are given.
    pub(crate) fn fields(&self) -> Option<Vec<&str>> {
        self.text("fields").map(|fields| fields.split(',').map(str::trim).collect())
    }

    /// `count` and `page`: how many, and how many to leave out.
    pub(crate) fn page(&self, default: u32) -> Result<(u32, u64), Refusal> {
        let count = self.number("count")?.unwrap_or(default).min(PADDLES_ROWS_MAX);
        let page = self.number("page")?.unwrap_or(1).max(1);
        Ok((count, u64::from(page - 1) * u64::from(count)))
    }

    /// Whether the shapes of the first description are wanted.
    pub(crate) fn is_seed(&self) -> bool {
        self.text("shape").map_or_else(|| self.settings().seed_shape, |shape| shape == "seed")
    }

    /// The object that the body is, whatever it says of its type.
    pub(crate) fn object(&self) -> Result<Map<String, Value>, Refusal> {
        match python_json::read(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            _ => Err(Refusal::bad("could not decode JSON body")),
        }
    }

    /// Writes into the record who changed what.
    pub(crate) async fn audit(&self, action: &str, object: String, detail: Value) -> Result<(), Refusal> {
        Ok(self.state.scheduler().audit(&self.caller.name, action, object, detail).await?)
    }

    /// Takes over what is said of a job.
    pub(crate) async fn report(
        &self,
        run: &str,
        target: PaddlesTarget,
        report: JobReport,
    ) -> Result<PaddlesReported, Refusal> {
        let report = PaddlesReport { run: run.to_owned(), target, report };
        Ok(self.state.scheduler().report_paddles_job(report).await?)
    }

    /// Tells those who wait that something was written.
    pub(crate) fn written(&self) {
        self.state.scheduler().wake().committed();
    }

    /// Refuses a queue that is not among those of the asker's token.
    pub(crate) fn check_queue(&self, queue: &str) -> Result<(), Refusal> {
        match &self.caller.bounds.queues {
            Some(queues) if !queues.contains(&QueueName::from(queue)) => Err(Refusal::forbidden(format!(
                "the token of `{}` is not for queue {queue}",
                self.caller.name
            ))),
            _ => Ok(()),
        }
    }
}

/// A time of this host's zone; one that its clocks skipped or had twice is taken as near as can be.
pub(crate) fn local(time: NaiveDateTime) -> DateTime<Utc> {
    match Local.from_local_datetime(&time) {
        MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => time.to_utc(),
        MappedLocalTime::None => time.and_utc(),
    }
}

/// A text that the body must have.
pub(crate) fn required<'b>(body: &'b Map<String, Value>, key: &str) -> Result<&'b str, Refusal> {
    let text = body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or_else(|| Refusal::bad(format!("could not find required key: '{key}'")))
}

/// A number that may be written as a text.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}
