//! Jobs: reporting, showing, listing.

use super::{
    answer::{Answer, Refusal, document, done, raw},
    ask::{Ask, local},
    runs::{check_name, no_run},
    shape::{self, Shown},
};
use axum::body::{Body, Bytes};
use chrono::{DateTime, Utc};
use futures_util::stream;
use model::{
    Requirements, Submitter, TaskId, TaskKey, TaskName,
    ids::QueueName,
    paddles::{Job, JobReport, RunName, SYSTEM, parse_time},
    task::{Origin, TaskKind, Trust, WaitReason},
};
use serde_json::{Map, Value, json};
use std::io;
use store::{
    NewOrigin, NewTask, PADDLES_ROWS_MAX, PaddlesJob, PaddlesJobQuery, PaddlesReported, PaddlesTarget,
};

/// How many jobs are read at once for an answer that has many.
const JOBS_AT_ONCE: u32 = 100;
/// How many jobs a list has that does not say.
const JOBS_DEFAULT: u32 = 10;
/// The longest name that a task takes over from its job's suite or name, in bytes.
const TASK_NAME_BYTES_MAX: usize = 200;

fn no_job() -> Refusal {
    Refusal::not_found("requested job resource does not exist")
}

fn one(run: &str, job: &str) -> PaddlesJobQuery {
    PaddlesJobQuery {
        run: Some(run.to_owned()),
        job_id: Some(job.to_owned()),
        limit: 1,
        ..PaddlesJobQuery::default()
    }
}

/// What the body reports; one that says nothing is none.
fn report(ask: &Ask) -> Result<JobReport, Refusal> {
    let body = ask.object()?;
    if body.is_empty() {
        return Err(Refusal::bad("could not decode JSON body"));
    }
    let report = JobReport::read(&body, local).map_err(Refusal::bad)?;
    if let Some(queue) = report.fields.get("queue").and_then(Value::as_str) {
        ask.check_queue(queue)?;
    }
    Ok(report)
}

/// `POST /runs/<name>/jobs/`
pub(crate) async fn add(ask: &Ask, run: &str) -> Answer {
    check_name(run)?;
    let report = report(ask)?;
    if report.job_id.is_none() && ask.is_seed() {
        return Err(Refusal::bad("could not find required key: 'job_id'"));
    }
    if ask.caller.bounds.queues.is_some() {
        ask.check_queue(report.fields.get("queue").and_then(Value::as_str).unwrap_or_default())?;
    }
    let name = RunName::parse(run);
    let task = Box::new(new_task(ask, run, &name, &report));
    match ask.report(run, PaddlesTarget::New { name, task }, report).await? {
        PaddlesReported::Done(job_id) => Ok(document(json!({"job_id": job_id}))),
        PaddlesReported::Exists(job_id) => {
            Err(Refusal::bad(format!("job with job_id {job_id} already exists")))
        }
        PaddlesReported::Missing => Err(no_run()),
    }
}

/// The task that follows a job.
fn new_task(ask: &Ask, run: &str, name: &RunName, report: &JobReport) -> NewTask {
    let id = TaskId::new(ask.state.scheduler().ids().next());
    let job = Job::new(String::new(), report, ask.now());
    let suite = job.text("suite").or(name.suite.as_deref()).or(job.text("name"));
    let suite = suite.filter(|suite| !suite.is_empty()).unwrap_or(SYSTEM);
    let suite = &suite[..suite.floor_char_boundary(TASK_NAME_BYTES_MAX.min(suite.len()))];
    let user = job.text("user").or(name.user.as_deref()).unwrap_or(SYSTEM);
    let queue = job.text("queue").or(job.text("machine_type")).filter(|queue| !queue.is_empty());
    let mut inputs = Map::from_iter([("run".to_owned(), run.into())]);
    if let Some(job_id) = &report.job_id {
        inputs.insert("job_id".to_owned(), job_id.clone().into());
    }
    for key in ["description", "branch", "machine_type", "os_type", "os_version", "flavor"] {
        if let Some(text) = job.text(key) {
            inputs.insert(key.to_owned(), text.into());
        }
    }
    NewTask {
        id,
        key: TaskKey::of_id(SYSTEM, &id.to_string()),
        kind: TaskKind::Reported,
        name: TaskName::new(suite.replace(char::is_control, " ")),
        origin: NewOrigin::Given(Origin::Submitted { who: ask.caller.name.clone(), why: None }),
        submitter: Submitter::user(user),
        item: job.item(),
        inputs,
        queue: QueueName::new(queue.unwrap_or(SYSTEM).to_owned()),
        priority: job.task_priority(),
        needs: Requirements::default(),
        group: None,
        batch: Some(run.to_owned()),
        trust: Trust::Untrusted,
        timeout_cap_seconds: None,
        depth: 0,
        traceparent: None,
        wait: Some(WaitReason::Group),
        dedupe: None,
        secrets: Vec::new(),
        approval: None,
        hold: None,
    }
}

/// `GET /runs/<name>/jobs/<id>/`
pub(crate) async fn show(ask: &Ask, run: &str, job: &str) -> Answer {
    let found = ask.store().paddles_jobs(&one(run, job)).await?.pop().ok_or_else(no_job)?;
    Ok(written(ask, &found, &Shown::of(ask.fields(), ask.is_seed())?))
}

/// A job by itself.
pub(crate) fn written(ask: &Ask, job: &PaddlesJob, shown: &Shown) -> axum::response::Response {
    let mut text = String::new();
    shown.write(job, &ask.settings(), &mut text);
    raw(Body::from(text))
}

/// Refuses a job of a queue that is not among those of the asker's token.
async fn check_bounds(ask: &Ask, run: &str, job: &str) -> Result<(), Refusal> {
    if ask.caller.bounds.queues.is_none() {
        return Ok(());
    }
    let found = ask.store().paddles_jobs(&one(run, job)).await?.pop();
    let body: Map<String, Value> =
        found.and_then(|job| serde_json::from_str(&job.body).ok()).unwrap_or_default();
    ask.check_queue(body.get("queue").and_then(Value::as_str).unwrap_or_default())
}

/// `PUT /runs/<name>/jobs/<id>/`
pub(crate) async fn change(ask: &Ask, run: &str, job: &str) -> Answer {
    let report = report(ask)?;
    check_bounds(ask, run, job).await?;
    let target = PaddlesTarget::Existing { job_id: job.to_owned() };
    match ask.report(run, target, report).await? {
        PaddlesReported::Done(_) => Ok(done()),
        _ => Err(Refusal::not_found("attempted to update a non-existent job")),
    }
}

/// `DELETE /runs/<name>/jobs/<id>/`
pub(crate) async fn remove(ask: &Ask, run: &str, job: &str) -> Answer {
    check_bounds(ask, run, job).await?;
    if !ask.store().remove_paddles_job(run, job, &ask.caller.name).await? {
        return Err(Refusal::not_found("attempted to delete a non-existent job"));
    }
    ask.audit("paddles.job.delete", format!("run/{run}/job/{job}"), json!({})).await?;
    ask.written();
    Ok(done())
}

/// `GET /runs/<name>/jobs/`
pub(crate) async fn of_run(ask: &Ask, run: &str) -> Answer {
    let shown = Shown::of(ask.fields(), ask.is_seed())?;
    if ask.store().paddles_run(run).await?.is_none() {
        return Err(no_run());
    }
    let query = PaddlesJobQuery {
        run: Some(run.to_owned()),
        status: ask.text("status").map(str::to_owned),
        ..PaddlesJobQuery::default()
    };
    if ask.head {
        return Ok(raw(Body::empty()));
    }
    stream(ask, query, shown, "[".to_owned(), "]").await
}

/// All jobs of a query between two texts; they are read as they are sent.
pub(crate) async fn stream(
    ask: &Ask,
    query: PaddlesJobQuery,
    shown: Shown,
    start: String,
    end: &'static str,
) -> Answer {
    let query = PaddlesJobQuery { limit: JOBS_AT_ONCE, brief: shown.is_brief(), ..query };
    // What goes wrong with the first ones can still be said.
    let jobs = ask.store().paddles_jobs(&query).await?;
    let settings = ask.settings();
    let write = move |jobs: &[PaddlesJob], mut text: String| {
        for (at, job) in jobs.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            shown.write(job, &settings, &mut text);
        }
        text
    };
    let is_last = |jobs: &[PaddlesJob]| jobs.len() < JOBS_AT_ONCE as usize;
    let mut first = write(&jobs, start);
    if is_last(&jobs) {
        first.push_str(end);
        return Ok(raw(Body::from(first)));
    }
    let before = jobs.last().map(|job| job.seq);
    let state = ask.state.clone();
    let rest = stream::unfold(Some(before), move |before| {
        let (state, write) = (state.clone(), write.clone());
        let query = PaddlesJobQuery { before: before.flatten(), ..query.clone() };
        async move {
            before?;
            match state.scheduler().store().paddles_jobs(&query).await {
                Ok(jobs) => {
                    let start = if jobs.is_empty() { String::new() } else { ",".to_owned() };
                    let mut text = write(&jobs, start);
                    let last = is_last(&jobs);
                    if last {
                        text.push_str(end);
                    }
                    let next = (!last).then(|| jobs.last().map(|job| job.seq));
                    Some((Ok(Bytes::from(text)), next))
                }
                Err(error) => Some((Err(io::Error::other(error)), None)),
            }
        }
    });
    let first = stream::iter([Ok::<_, io::Error>(Bytes::from(first))]);
    Ok(raw(Body::from_stream(futures_util::StreamExt::chain(first, rest))))
}

/// The jobs of a run by their ids, as the first description has them.
pub(crate) async fn by_id(ask: &Ask, query: PaddlesJobQuery) -> Answer {
    let query = PaddlesJobQuery { brief: true, limit: PADDLES_ROWS_MAX, ..query };
    let jobs = ask.store().paddles_jobs(&query).await?;
    let shown: Map<_, _> =
        jobs.iter().map(|job| (job.job_id.clone(), shape::seed_entry(job, &ask.base))).collect();
    Ok(document(shown))
}

/// `GET /jobs/`
pub(crate) async fn list(ask: &Ask) -> Answer {
    let text = |name: &str| ask.text(name).map(str::to_owned);
    let (limit, offset) = ask.page(JOBS_DEFAULT)?;
    let query = PaddlesJobQuery {
        description: text("description"),
        status: text("status"),
        sha1: text("sha1"),
        branch: text("branch"),
        user: text("user"),
        posted_after: time(ask, "posted_after")?,
        posted_before: time(ask, "posted_before")?,
        limit,
        offset,
        ..PaddlesJobQuery::default()
    };
    listed(ask, query).await
}

/// As many jobs as were asked for.
pub(crate) async fn listed(ask: &Ask, query: PaddlesJobQuery) -> Answer {
    let shown = Shown::of(ask.fields(), ask.is_seed())?;
    let jobs = ask.store().paddles_jobs(&PaddlesJobQuery { brief: shown.is_brief(), ..query }).await?;
    let (settings, mut text) = (ask.settings(), String::from("["));
    for (at, job) in jobs.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        shown.write(job, &settings, &mut text);
    }
    text.push(']');
    Ok(raw(Body::from(text)))
}

fn time(ask: &Ask, name: &str) -> Result<Option<DateTime<Utc>>, Refusal> {
    let Some(text) = ask.text(name) else { return Ok(None) };
    let time = parse_time(text).ok_or_else(|| {
        Refusal::bad(format!(
            "{name} must be a day such as 2026-11-21, or a time such as 2026-11-21 00:23:52"
        ))
    })?;
    Ok(Some(time.and_utc()))
}
