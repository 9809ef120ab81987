//! Wishes to run tests again that come as events: comments of people on pull requests, and messages of programs.
//!
//! What hears them is a sink over what was told: so a wish survives a crash, waits while the database is away, and lies
//! with the dead letters when it cannot be carried out.

mod comment;
mod request;

pub use comment::{Command, Comment};

use crate::{
    Scheduler,
    daemon::WeakScheduler,
    reruns::RERUN_MAX,
    retest::{Replaced, RetestWish},
    service::{Rerun, ServiceError},
};
use async_trait::async_trait;
use model::{
    Item, Outcome, Task,
    ids::{EventSeq, ResultId},
    message::{Message, NewMessage},
    retest::Refused,
    sink::{Sink, SinkError},
    topic::{Topic, TopicPattern},
};
use request::Request;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};
use store::{Bounds, StoreError, StoredEvent, TaskQuery};
use url::Url;

/// What the sink is called in lists. No configured one can have this name.
pub const HEARD: &str = "retest wishes";
/// The type of what a task tested that had no item: that task, which can be repeated.
const TASK: &str = "task";
/// What tells of events that came in.
const RECEIVED: &str = "taskbot.event.received";

/// Where comments on pull requests come from, and whose count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comments {
    /// The topics of the events.
    pub topics: Vec<TopicPattern>,
    /// The authors that are heeded, by their names on that forge.
    pub authors: BTreeSet<String>,
}

/// Where requests of programs come from, and whose count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// The topics of the events.
    pub topics: Vec<TopicPattern>,
    /// The `agent`s that are heeded; when empty, whoever may publish there.
    pub agents: BTreeSet<String>,
}

fn covers(topics: &[TopicPattern], topic: &Topic) -> bool {
    topics.iter().any(|pattern| pattern.matches(topic))
}

/// What is told of an event that came in, as far as it is read here.
#[derive(Deserialize)]
struct Received {
    seq: EventSeq,
    topic: Topic,
}

/// Hears wishes among the events that came in.
pub(crate) struct Heard {
    scheduler: WeakScheduler,
    comments: Vec<Comments>,
    requests: Vec<Requests>,
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heard").field("comments", &self.comments).field("requests", &self.requests).finish()
    }
}

impl Heard {
    /// Hears what the settings name; nothing when they name nothing.
    pub(crate) fn of(settings: &crate::retest::RetestSettings, scheduler: WeakScheduler) -> Option<Self> {
        let (comments, requests) = (settings.comments.clone(), settings.requests.clone());
        (!comments.is_empty() || !requests.is_empty()).then_some(Self { scheduler, comments, requests })
    }

    fn listens(&self, topic: &Topic) -> bool {
        self.comments.iter().any(|one| covers(&one.topics, topic))
            || self.requests.iter().any(|one| covers(&one.topics, topic))
    }

    /// Whether somebody's comments count; several entries can name one topic.
    fn trusts(&self, topic: &Topic, author: &str) -> bool {
        self.comments.iter().any(|one| covers(&one.topics, topic) && one.authors.contains(author))
    }

    /// Whether a program's requests count; nothing when the topic is not one of theirs.
    fn heeds(&self, topic: &Topic, agent: Option<&str>) -> Option<bool> {
        let mut of_topic = self.requests.iter().filter(|one| covers(&one.topics, topic)).peekable();
        of_topic.peek()?;
        let counts =
            |one: &Requests| one.agents.is_empty() || agent.is_some_and(|agent| one.agents.contains(agent));
        Some(of_topic.any(counts))
    }

    async fn hear(&self, scheduler: &Scheduler, event: &StoredEvent) -> Result<(), ServiceError> {
        let topic = &event.event.topic;
        let Ok(body) = event.event.body() else { return Ok(()) };
        if let Some(heeded) = self.heeds(topic, request::agent(&body)) {
            if !heeded {
                tracing::info!(event = %event.seq, "a request for a test is not heeded: nobody named its agent");
                return Ok(());
            }
            let request = Request::read(&body).map_err(ServiceError::Bad)?;
            return scheduler.requested(event, request).await;
        }
        let Some(comment) = Comment::read(topic, &event.event.headers, &body) else { return Ok(()) };
        let Some(command) = Command::read(&comment.text).map_err(ServiceError::Bad)? else { return Ok(()) };
        if !self.trusts(topic, &comment.author) {
            tracing::info!(event = %event.seq, author = comment.author, "a comment is not heeded: its author is not named");
            return Ok(());
        }
        scheduler.commented(event, comment, command).await
    }
}

#[async_trait]
impl Sink for Heard {
    fn name(&self) -> &str {
        HEARD
    }

    fn wants(&self, message: &NewMessage) -> bool {
        if message.topic.as_str() != RECEIVED {
            return false;
        }
        let received: Result<Received, _> = serde_json::from_str(message.data.get());
        received.is_ok_and(|received| self.listens(&received.topic))
    }

    async fn deliver(&self, message: &Message) -> Result<(), SinkError> {
        let Some(scheduler) = self.scheduler.upgrade() else { return Ok(()) };
        let received: Received = serde_json::from_str(message.message.data.get())
            .map_err(|error| SinkError::Refused(format!("the message tells of no event: {error}")))?;
        let event = match scheduler.store().event(received.seq).await {
            Err(StoreError::NotFound { .. }) => return Ok(()),
            found => found.map_err(ServiceError::from),
        };
        let heard = match event {
            Ok(event) => self.hear(&scheduler, &event).await,
            Err(error) => Err(error),
        };
        heard.map_err(|error| match error {
            ServiceError::Store(error) if error.is_transient() => SinkError::Away(error.to_string()),
            ServiceError::Elsewhere(why) => SinkError::Away(why),
            error => SinkError::Refused(format!("event {}: {error}", received.seq)),
        })
    }
}

impl Scheduler {
    /// Carries a program's request out.
    async fn requested(&self, event: &StoredEvent, request: Request) -> Result<(), ServiceError> {
        let (mut item, mut test, mut result) = (request.item, request.test, None);
        if let Some(id) = &request.result {
            let found = self.result_of(id, None).await?;
            item = item.or(found.item);
            test = test.or(Some(found.test));
            result = Some(found.replaced);
        }
        let missing =
            |name: &str| ServiceError::Bad(format!("the request has no `{name}`, and no result says it"));
        let agent = request.agent.as_deref().unwrap_or("nobody");
        let wish = RetestWish {
            item: item.ok_or_else(|| missing("item"))?,
            test: test.ok_or_else(|| missing("test"))?,
            result,
            extras: request.extras,
            why: Some(request.why.unwrap_or_else(|| format!("event {} on {}", event.seq, event.event.topic))),
            force: request.force,
            pull_request: request.pull_request,
            cause: Some(event.seq),
        };
        self.retest(wish, &format!("bus/{agent}"), &Bounds::default()).await.map(drop)
    }

    /// Carries a comment out: the tests that it names, or all that ran for the pull request.
    async fn commented(
        &self,
        event: &StoredEvent,
        comment: Comment,
        command: Command,
    ) -> Result<(), ServiceError> {
        let who = format!("{}/{}", comment.forge, comment.author);
        let why = format!("`{}` on {}", command.line, comment.url.as_deref().unwrap_or(&comment.items[0].id));
        if command.tests.is_empty() {
            let tasks = self.tasks_of_change(&comment.items, command.failed).await?;
            if tasks.is_empty() {
                let what = &comment.items[0];
                let message = format!("nothing that could be run again ran for {} {}", what.kind, what.id);
                return Err(ServiceError::Bad(message));
            }
            let rerun = Rerun { why: Some(why), ..Rerun::default() };
            return self.rerun_all(tasks, &rerun, &who, &Bounds::default(), false).await.map(drop);
        }
        let mut refused = Vec::new();
        for test in &command.tests {
            let mut last = None;
            for item in &comment.items {
                let wish = RetestWish {
                    item: item.clone(),
                    test: test.clone(),
                    result: None,
                    extras: json!({}),
                    why: Some(why.clone()),
                    force: false,
                    pull_request: comment.pull_request.clone(),
                    cause: Some(event.seq),
                };
                last = match self.retest(wish, &who, &Bounds::default()).await {
                    Ok(_) => None,
                    Err(ServiceError::Store(error)) if error.is_transient() => return Err(error.into()),
                    Err(error) => Some(error.to_string()),
                };
                if last.is_none() {
                    break;
                }
            }
            refused.extend(last);
        }
        if refused.is_empty() { Ok(()) } else { Err(ServiceError::Bad(refused.join("; "))) }
    }

    /// The tasks that ran last for a pull request: of each name those of the newest event, with all cells of its matrix.
    async fn tasks_of_change(&self, items: &[Item], failed: bool) -> Result<Vec<Task>, ServiceError> {
        let mut newest: BTreeMap<_, Option<EventSeq>> = BTreeMap::new();
        let mut found = Vec::new();
        for item in items {
            let query = TaskQuery {
                item_type: Some(item.kind.clone()),
                item_id: Some(item.id.clone()),
                limit: store::PAGE_MAX,
                ..TaskQuery::default()
            };
            for task in self.store().tasks(&query).await?.items {
                let event = task.origin.event();
                let first = !newest.contains_key(&task.name);
                let last = newest.entry(task.name.clone()).or_insert(event);
                // Without an event there is only the newest itself.
                if first || (event.is_some() && event == *last) {
                    found.push(task);
                }
            }
        }
        let bad = |task: &Task| {
            use Outcome::{Error, Failed, NeedsInspection};
            matches!(task.state.outcome(), Some(Failed | NeedsInspection | Error(_)))
        };
        found.retain(|task| !failed || bad(task));
        found.truncate(RERUN_MAX);
        Ok(found)
    }
}

/// A result that was found by its number.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundResult {
    /// What was tested, where it says so.
    pub item: Option<Item>,
    /// The testcase.
    pub test: String,
    /// What the messages tell of it.
    pub replaced: Replaced,
}

impl Scheduler {
    /// Finds a result by its number or URL: in the configured ResultsDB elsewhere, where there is one and it knows the
    /// number, else in ours. A URL that begins as ours do (`base` is one more) is one of ours.
    ///
    /// # Errors
    /// There is none, it is no number, or the place is away.
    pub async fn result_of(&self, id: &str, base: Option<&str>) -> Result<FoundResult, ServiceError> {
        let number = id.rsplit('/').next().unwrap_or(id);
        let mut bases = self.settings().public_url.as_deref().into_iter().chain(base);
        let ours = bases.any(|base| id.starts_with(base));
        let is_url = id.contains("://");
        let known = number.parse().map(ResultId);
        let known = known.map_err(|_| ServiceError::Bad(format!("`{id}` is no number of a result")))?;
        if let Some(elsewhere) = self.results_elsewhere().filter(|_| !ours) {
            match elsewhere.result(id).await {
                Ok(Some(shown)) => return found_elsewhere(number, shown),
                Ok(None) => {}
                Err(Refused::Away(why)) => return Err(ServiceError::Elsewhere(why)),
                Err(Refused::Wrong(why)) => return Err(ServiceError::Bad(why)),
            }
        }
        // An interface's own listener is this server, too.
        let beside = base.is_some_and(|base| host_of(base).is_some() && host_of(base) == host_of(id));
        if is_url && !ours && !beside {
            return Err(StoreError::NotFound { what: "result", id: id.to_owned() }.into());
        }
        let entry = self.store().entry(known).await?;
        let shown = json!({
            "id": entry.id, "testcase": {"name": entry.testcase.name, "ref_url": entry.testcase.ref_url},
            "outcome": entry.said, "note": entry.note, "ref_url": entry.ref_url, "data": entry.data,
            "groups": entry.groups,
        });
        let first = |key: &str| entry.data.get(key).and_then(|values| values.first()).cloned();
        let item = first("type").zip(first("item")).map(|(kind, id)| Item { kind, id });
        let task = match (item.is_none(), entry.task) {
            (true, Some(id)) => match self.store().task(id).await {
                Err(StoreError::NotFound { .. }) => None,
                found => Some(found?),
            },
            _ => None,
        };
        // What a task without an item tested is known to that task alone.
        let of_task =
            |task: Task| task.item.unwrap_or_else(|| Item { kind: TASK.to_owned(), id: task.id.to_string() });
        let item = item.or_else(|| task.map(of_task));
        let replaced = Replaced { id: number.to_owned(), shown, own: Some(known), task: entry.task };
        Ok(FoundResult { item, test: entry.testcase.name, replaced })
    }
}

/// The host in a URL, without its port.
fn host_of(url: &str) -> Option<String> {
    Some(Url::parse(url).ok()?.host_str()?.to_owned())
}

fn found_elsewhere(number: &str, shown: Value) -> Result<FoundResult, ServiceError> {
    let first = |key: &str| match &shown["data"][key] {
        Value::Array(values) => values.first().and_then(Value::as_str).map(str::to_owned),
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    let item = first("type").zip(first("item")).map(|(kind, id)| Item { kind, id });
    let test = shown["testcase"]["name"].as_str().or_else(|| shown["testcase"].as_str());
    let test =
        test.ok_or_else(|| ServiceError::Bad(format!("result {number} names no testcase")))?.to_owned();
    Ok(FoundResult { item, test, replaced: Replaced { id: number.to_owned(), shown, own: None, task: None } })
}
