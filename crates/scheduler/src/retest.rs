//! Running a test once more for whoever knows what was tested and by which test, but of no task of ours.

use crate::{
    Scheduler,
    heard::{Comments, Requests},
    service::{Rerun, ServiceError, keep_within},
};
use model::{
    Item, ResultId, Task,
    ids::{EventSeq, RetestId, RuleName, TaskId, TaskName},
    message::{JsonText, NewMessage},
    retest::{EXTRAS_BYTES_MAX, Retest, Served, TEST_BYTES_MAX},
    task::{TASK_TEXT_BYTES_MAX, TaskKind},
    topic::{Topic, TopicPattern},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use store::{
    Bounds, EventQuery, Judgement, NewRetest, NewTask, Requested, ResultQuery, StoreError, StoredEvent,
    TaskQuery,
};

/// How many past events are looked at, newest first, for one of which a rule would make the task.
pub const RETEST_EVENTS_MAX: usize = 5_000;
/// How many of them are read at a time.
const EVENTS_AT_ONCE: u32 = 500;
/// How many results and tasks of an item are looked at.
const LOOKED_AT_MAX: u32 = 100;
/// The topic that tells it here.
const TOLD: &str = "taskbot.retest.requested";

/// How wishes are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetestSettings {
    /// How long the same wish holds off the next.
    pub window: Duration,
    /// Who listens for which tests: patterns with `*`, the first that fits counts.
    pub systems: Vec<(String, String)>,
    /// Whose comments on pull requests count.
    pub comments: Vec<Comments>,
    /// Which programs' messages count.
    pub requests: Vec<Requests>,
}

impl Default for RetestSettings {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(600),
            systems: Vec::new(),
            comments: Vec::new(),
            requests: Vec::new(),
        }
    }
}

impl RetestSettings {
    fn system_of(&self, test: &str) -> Option<&str> {
        self.systems.iter().find(|(pattern, _)| fits(pattern, test)).map(|(_, system)| system.as_str())
    }
}

/// Whether a text fits a pattern in which `*` is any text.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// A wish to run a test once more.
#[derive(Debug, Clone, PartialEq)]
pub struct RetestWish {
    /// What is tested.
    pub item: Item,
    /// The test: a testcase, or a task's name.
    pub test: String,
    /// The result that it is to replace.
    pub result: Option<Replaced>,
    /// What goes into the messages as it is.
    pub extras: Value,
    /// Why.
    pub why: Option<String>,
    /// Also when the same was wished a short time ago, or is under way.
    pub force: bool,
    /// The pull request as its forge tells it, for those who listen; null where it is none.
    pub pull_request: Value,
    /// The event that asked for it, where one did: it asks once, however often it is read.
    pub cause: Option<EventSeq>,
}

/// A result that a wish is to replace.
#[derive(Debug, Clone, PartialEq)]
pub struct Replaced {
    /// Its number.
    pub id: String,
    /// How it is shown to those who listen.
    pub shown: Value,
    /// Its number here, when it is one of ours.
    pub own: Option<ResultId>,
    /// The task that reported it, where it is known.
    pub task: Option<TaskId>,
}

/// What serves a wish.
struct Found {
    served: Served,
    make: Vec<NewTask>,
    tasks: Vec<TaskId>,
}

impl Scheduler {
    /// Runs a test once more: repeats the task that ran it for that item, or makes the task that a rule would have
    /// made; where nothing here runs it, whoever listens for it is told. The same wish again within the window gives
    /// the first.
    ///
    /// # Errors
    /// The wish is wrong, nobody runs the test, or the database is away.
    pub async fn retest(
        &self,
        wish: RetestWish,
        who: &str,
        bounds: &Bounds,
    ) -> Result<Requested, ServiceError> {
        check(&wish)?;
        let settings = &self.settings().retest;
        let hash = hash_of(&wish);
        // What an event forces, it forces once.
        let force = wish.force && wish.cause.is_none();
        if !force && let Some(known) = self.store().recent_retest(hash, settings.window).await? {
            return Ok(Requested::Known(known));
        }
        let found = self.serve(&wish, who, bounds).await?;
        let topic = settings.system_of(&wish.test).map(|system| format!("rats.test.{system}"));
        let retest = Retest {
            id: RetestId::new(self.ids().next()),
            at: self.clock().now(),
            who: who.to_owned(),
            why: wish.why.clone(),
            item: wish.item.clone(),
            test: wish.test.clone(),
            result: wish.result.as_ref().map(|result| result.id.clone()),
            extras: wish.extras.clone(),
            served: found.served,
            tasks: found.tasks,
            topic: topic.as_deref().map(Topic::from),
            asked: 1,
        };
        let messages = messages(&retest, &wish);
        let window = settings.window;
        let new = NewRetest { retest, hash, window, force, tasks: found.make, messages };
        let requested = self.store().request_retest(&new).await?;
        self.wake().committed();
        if let Requested::Made(retest) = &requested {
            let detail = json!({"item": retest.item, "test": retest.test, "why": retest.why});
            self.audit(who, "retest.request", format!("retest/{}", retest.id), detail).await?;
        }
        Ok(requested)
    }

    async fn serve(&self, wish: &RetestWish, who: &str, bounds: &Bounds) -> Result<Found, ServiceError> {
        if let Some(old) = self.last_task(wish).await? {
            if !wish.force && !old.state.is_final() {
                return Ok(Found { served: Served::UnderWay, make: Vec::new(), tasks: vec![old.id] });
            }
            let served = Served::Rerun { of: old.id };
            let result = wish.result.as_ref().and_then(|result| result.own);
            let rerun = Rerun { why: wish.why.clone(), result, ..Rerun::default() };
            let mut new = self.repetition(old, rerun, who)?;
            keep_within(&mut new, bounds, who)?;
            return Ok(Found { served, tasks: vec![new.id], make: vec![new] });
        }
        // What a rule makes goes where the rule says.
        if bounds.queues.is_none()
            && let Some(found) = self.by_a_rule(wish).await?
        {
            return Ok(found);
        }
        match self.settings().retest.system_of(&wish.test) {
            Some(system) => {
                let served = Served::Others { system: system.to_owned() };
                Ok(Found { served, make: Vec::new(), tasks: Vec::new() })
            }
            None => Err(ServiceError::Store(StoreError::NotFound {
                what: "task, rule or listening system",
                id: format!("{} for {} {}", wish.test, wish.item.kind, wish.item.id),
            })),
        }
    }

    /// The last task that can be repeated, and that reported this testcase for this item or has its name.
    async fn last_task(&self, wish: &RetestWish) -> Result<Option<Task>, ServiceError> {
        let results = ResultQuery {
            testcase: Some(wish.test.clone()),
            item_type: Some(wish.item.kind.clone()),
            item_id: Some(wish.item.id.clone()),
            limit: LOOKED_AT_MAX,
            ..ResultQuery::default()
        };
        let results = self.store().results(&results).await?;
        let behind = wish.result.as_ref().and_then(|result| result.task);
        let by_result = results.items.iter().find_map(|result| result.task);
        let tasks = TaskQuery {
            name: Some(TaskName::new(wish.test.clone())),
            item_type: Some(wish.item.kind.clone()),
            item_id: Some(wish.item.id.clone()),
            limit: 1,
            ..TaskQuery::default()
        };
        let by_name = self.store().tasks(&tasks).await?.items.into_iter().next();
        let can = |task: &Task| task.kind != TaskKind::Reported;
        let mut found: Vec<Task> = by_name.into_iter().filter(can).collect();
        for id in behind.into_iter().chain(by_result) {
            match self.store().task(id).await {
                Err(StoreError::NotFound { .. }) => {}
                task => found.extend(Some(task?).filter(can)),
            }
        }
        found.sort_by_key(|task| task.created_at);
        let Some(last) = found.pop() else { return Ok(None) };
        // What repeats it may be under way.
        let repeated = TaskQuery { name: Some(last.name.clone()), ..tasks };
        let newest = self.store().tasks(&repeated).await?.items.into_iter().next();
        Ok(newest.filter(|newest| newest.created_at > last.created_at && can(newest)).or(Some(last)))
    }

    /// The task that a rule in force makes of the newest event for which it makes one that fits.
    async fn by_a_rule(&self, wish: &RetestWish) -> Result<Option<Found>, ServiceError> {
        let set = self.rulebook().current();
        let test = TaskName::new(wish.test.clone());
        let rules: Vec<_> = set
            .rules()
            .iter()
            .filter(|rule| rule.task_names().any(|name| *name == test))
            .map(|rule| (rule.name.clone(), rule.on.clone()))
            .collect();
        let mut looked_at = 0;
        let mut before = None;
        while !rules.is_empty() && looked_at < RETEST_EVENTS_MAX {
            let query = EventQuery { before, limit: EVENTS_AT_ONCE, ..EventQuery::default() };
            let page = self.store().events(&query).await?;
            looked_at += page.items.len();
            before = page.items.last().filter(|_| page.next.is_some()).map(|event| event.seq);
            for event in page.items.into_iter().filter(|event| !event.body_expired) {
                let heard = rules.iter().filter(|(_, on)| hears(on, &event.event.topic));
                for (rule, _) in heard {
                    if let Some(found) = self.make_of(&set, rule, &event, wish).await? {
                        return Ok(Some(found));
                    }
                }
            }
            if before.is_none() {
                break;
            }
        }
        Ok(None)
    }

    async fn make_of(
        &self,
        set: &Arc<rules::RuleSet>,
        rule: &RuleName,
        stored: &StoredEvent,
        wish: &RetestWish,
    ) -> Result<Option<Found>, ServiceError> {
        let Some(judgement) = self.judge_by(set, rule, stored).await? else { return Ok(None) };
        let is_it =
            |task: &NewTask| task.name.as_str() == wish.test && task.item.as_ref() == Some(&wish.item);
        let tasks: Vec<_> = judgement.tasks.into_iter().filter(is_it).collect();
        if tasks.is_empty() {
            return Ok(None);
        }
        // Nothing else that the rule wishes, and no verdict: it said nothing new. Its limits hold.
        let limits = judgement.limits;
        let judgement = Judgement { tasks, limits, ..Judgement::none(judgement.revision) };
        let tasks = self.store().judge_past(stored, &judgement).await?;
        let served = Served::Rule { rule: rule.clone(), event: stored.seq };
        Ok(Some(Found { served, make: Vec::new(), tasks }))
    }
}

fn hears(on: &[TopicPattern], topic: &Topic) -> bool {
    on.iter().any(|pattern| pattern.matches(topic))
}

fn check(wish: &RetestWish) -> Result<(), ServiceError> {
    let texts = [
        ("type", wish.item.kind.as_str(), TASK_TEXT_BYTES_MAX),
        ("item", wish.item.id.as_str(), TASK_TEXT_BYTES_MAX),
        ("test", wish.test.as_str(), TEST_BYTES_MAX),
        ("why", wish.why.as_deref().unwrap_or("-"), TASK_TEXT_BYTES_MAX),
    ];
    for (name, text, max) in texts {
        if text.is_empty() || text.len() > max || text.contains('\0') {
            return Err(ServiceError::Bad(format!("`{name}` must have 1 to {max} bytes and no NUL")));
        }
    }
    let bytes = wish.extras.to_string().len();
    if bytes > EXTRAS_BYTES_MAX {
        return Err(ServiceError::Bad(format!(
            "`extras` has {bytes} bytes, at most {EXTRAS_BYTES_MAX} are kept"
        )));
    }
    Ok(())
}

/// What stands for the same wish: what is tested, and by which test; of one that is forced, also what forced it.
fn hash_of(wish: &RetestWish) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix("retest");
    for part in [&wish.item.kind, &wish.item.id, &wish.test] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    if let Some(cause) = wish.cause.filter(|_| wish.force) {
        hash.update(cause.0.to_be_bytes());
    }
    hash.finalize().into()
}

/// Our own message, and the one in RATS' form for those who listen.
fn messages(retest: &Retest, wish: &RetestWish) -> Vec<NewMessage> {
    let told = |topic: Topic, data: JsonText| NewMessage {
        topic,
        subject: retest.id.to_string(),
        order_key: format!("retest:{}", retest.id),
        data,
        task: None,
        depth: 0,
        traceparent: None,
    };
    let mut messages = vec![told(Topic::from(TOLD), JsonText::of(retest))];
    if let Some(topic) = &retest.topic {
        let old_result = wish.result.as_ref().map(|result| &result.shown);
        let body = json!({
            "agent": retest.who,
            "extras": retest.extras,
            "groups": old_result.map_or_else(|| json!([]), |result| result["groups"].clone()),
            "identifier": retest.item.id,
            "old_result": old_result,
            "pull_request": wish.pull_request,
            "result_id": retest.result,
            "retest": retest.id,
            "tasks": retest.tasks,
            "test": retest.test,
            "type": retest.item.kind,
        });
        messages.push(told(topic.clone(), JsonText::of(&body)));
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_tests() {
        let check = |pattern: &str, text: &str, expect: bool| {
            assert_eq!(fits(pattern, text), expect, "{pattern} {text}");
        };
        check("dist.rpmlint", "dist.rpmlint", true);
        check("dist.rpmlint", "dist.rpmlint2", false);
        check("dist.*", "dist.rpmlint", true);
        check("dist.*", "update.rpmlint", false);
        check("*lint", "dist.rpmlint", true);
        check("org.*.ci.*", "org.centos.prod.ci.pipeline", true);
        check("org.*.ci.*", "org.centos", false);
        check("*", "", true);
        check("a*a", "a", false);
    }
}
