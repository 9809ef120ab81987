//! What is shown, in paddles' shapes: today's, and those of its first description.

use super::{Settings, answer::Refusal};
use crate::resultsdb::escaped;
use model::paddles::{JOB_KEYS, JOB_STATUSES, JobStatus, Node, python_time};
use serde_json::{Map, Value, json, value::RawValue};
use std::collections::HashMap;
use store::{PaddlesJob, PaddlesRun};

/// What a run has, but for its jobs.
const RUN_KEYS: [&str; 16] = [
    "name",
    "href",
    "user",
    "status",
    "results",
    "jobs_count",
    "posted",
    "scheduled",
    "started",
    "updated",
    "branch",
    "suite",
    "machine_type",
    "sha1",
    "priority",
    "flavor",
];
/// What a job has beside what is kept of it.
const JOB_EXTRAS: [&str; 4] = ["log_href", "posted", "started", "updated"];
/// What can be told of a job without reading it all.
const BRIEF: [&str; 6] = ["job_id", "status", "log_href", "posted", "started", "updated"];
/// What the first description shows of a job.
const SEED_KEYS: [&str; 21] = [
    "archive_path",
    "kernel",
    "teuthology_branch",
    "tasks",
    "verbose",
    "description",
    "roles",
    "overrides",
    "pid",
    "success",
    "name",
    "targets",
    "owner",
    "last_in_suite",
    "os_type",
    "machine_type",
    "nuke_on_error",
    "duration",
    "flavor",
    "email",
    "job_id",
];
/// What of it is null when nothing is known.
const SEED_NULLS: [&str; 5] = ["kernel", "tasks", "roles", "overrides", "targets"];

fn run_href(base: &str, run: &str) -> String {
    format!("{base}/runs/{}/", escaped(run))
}

/// A run, without its jobs.
pub(crate) fn run(run: &PaddlesRun, base: &str) -> Map<String, Value> {
    let time = |time: Option<_>| time.map(python_time);
    // What neither the name nor a job says is an empty text.
    let said = |text: &Option<String>| json!(text.as_deref().unwrap_or_default());
    let none = || (run.counts.total() == 0).then(|| "none".to_owned());
    let (sha1, flavor) = (run.sha1.clone().or_else(none), run.flavor.clone().or_else(none));
    let mut results: Map<String, Value> = JOB_STATUSES
        .into_iter()
        .map(|status| (status.as_str().to_owned(), run.counts.of(status).into()))
        .collect();
    results.insert("total".to_owned(), run.counts.total().into());
    results.insert("sha1".to_owned(), sha1.clone().into());
    results.insert("flavor".to_owned(), flavor.clone().into());
    let all = [
        ("name", json!(run.name)),
        // A list of one: clients are used to it.
        ("href", json!([run_href(base, &run.name)])),
        ("user", said(&run.user)),
        ("status", json!(run.counts.status())),
        ("results", Value::Object(results)),
        ("jobs_count", json!(run.counts.total())),
        ("posted", json!(python_time(run.posted))),
        ("scheduled", json!(python_time(run.scheduled.unwrap_or(run.posted)))),
        ("started", json!(time(run.started))),
        ("updated", json!(time(run.updated))),
        ("branch", said(&run.branch)),
        ("suite", said(&run.suite)),
        ("machine_type", said(&run.machine_type)),
        ("sha1", json!(sha1)),
        ("priority", json!(run.priority)),
        ("flavor", json!(flavor)),
    ];
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Refuses fields that no run has.
pub(crate) fn check_run_fields(fields: Option<&[&str]>) -> Result<(), Refusal> {
    let known = |field: &&str| RUN_KEYS.contains(field);
    if fields.is_some_and(|fields| !fields.iter().all(known)) { Err(no_such_field()) } else { Ok(()) }
}

/// Only these fields of a run.
pub(crate) fn only(mut run: Map<String, Value>, fields: Option<&[&str]>) -> Map<String, Value> {
    if let Some(fields) = fields {
        run.retain(|key, _| fields.contains(&key.as_str()));
    }
    run
}

fn no_such_field() -> Refusal {
    Refusal::bad("an invalid field was specified")
}

/// A run as the first description has it.
pub(crate) fn seed_run(run: &PaddlesRun, base: &str) -> Value {
    // It has these two; a run that is empty or queued has not finished.
    let status = if is_over(run.counts.status()) { "finished" } else { "running" };
    let count = |statuses: &[JobStatus]| statuses.iter().map(|status| run.counts.of(*status)).sum::<i64>();
    json!({"href": run_href(base, &run.name), "status": status, "results": {
        "pass": count(&[JobStatus::Pass]),
        "running": count(&[JobStatus::Running, JobStatus::Waiting, JobStatus::Queued, JobStatus::Unknown]),
        "fail": count(&[JobStatus::Fail, JobStatus::Dead]),
    }})
}

fn is_over(status: &str) -> bool {
    status.starts_with("finished")
}

/// A job as the first description lists it.
pub(crate) fn seed_entry(job: &PaddlesJob, base: &str) -> Value {
    let (pass, fail) = match job.status {
        JobStatus::Pass => (1, 0),
        JobStatus::Fail | JobStatus::Dead => (0, 1),
        _ => (0, 0),
    };
    let over = pass + fail > 0;
    json!({
        "href": format!("{}{}/", run_href(base, &job.run), escaped(&job.job_id)),
        "status": if over { "finished" } else { "running" },
        "results": {"pass": pass, "running": i32::from(!over), "fail": fail},
    })
}

/// Which parts of jobs are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// All of it.
    All,
    /// These, which need no body.
    Brief(Vec<String>),
    /// These.
    Some(Vec<String>),
    /// What the first description has.
    Seed,
}

impl Shown {
    pub(crate) fn of(fields: Option<Vec<&str>>, seed: bool) -> Result<Self, Refusal> {
        let Some(fields) = fields else { return Ok(if seed { Self::Seed } else { Self::All }) };
        if fields.iter().any(|field| !JOB_KEYS.contains(field) && !JOB_EXTRAS.contains(field)) {
            return Err(no_such_field());
        }
        let brief = fields.iter().all(|field| BRIEF.contains(field));
        let fields = fields.into_iter().map(str::to_owned).collect();
        Ok(if brief { Self::Brief(fields) } else { Self::Some(fields) })
    }

    pub(crate) const fn is_brief(&self) -> bool {
        matches!(self, Self::Brief(_))
    }

    /// Writes a job.
    pub(crate) fn write(&self, job: &PaddlesJob, settings: &Settings, out: &mut String) {
        match self {
            Self::All => {
                out.push_str(&text(&extras(job, settings)));
                // Two objects become one.
                if let Some(rest) = job.body.strip_prefix('{').filter(|rest| *rest != "}") {
                    out.pop();
                    out.push(',');
                    out.push_str(rest);
                }
            }
            Self::Brief(fields) => {
                let mut all = extras(job, settings);
                all.insert("job_id".to_owned(), job.job_id.clone().into());
                all.insert("status".to_owned(), job.status.as_str().into());
                all.retain(|key, _| fields.contains(key));
                out.push_str(&text(&all));
            }
            Self::Some(fields) => {
                let extras = extras(job, settings);
                let body: HashMap<&str, &RawValue> = serde_json::from_str(&job.body).unwrap_or_default();
                let entries = fields.iter().filter_map(|field| {
                    let value = body.get(field.as_str()).map(|value| value.get().to_owned());
                    Some((field, value.or_else(|| extras.get(field).map(Value::to_string))?))
                });
                push_object(out, entries.map(|(field, value)| (field.as_str(), value)));
            }
            Self::Seed => {
                let body: HashMap<&str, &RawValue> = serde_json::from_str(&job.body).unwrap_or_default();
                let entries = SEED_KEYS.into_iter().map(|key| {
                    let value = body.get(key).map_or("null", |value| value.get());
                    let value = if SEED_NULLS.contains(&key) && value == "{}" { "null" } else { value };
                    (key, value.to_owned())
                });
                push_object(out, entries);
            }
        }
    }
}

/// An object, in the order of its entries; their values are JSON.
pub(crate) fn push_object<'k>(out: &mut String, entries: impl Iterator<Item = (&'k str, String)>) {
    out.push('{');
    for (at, (key, value)) in entries.enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&format!("{}:{value}", Value::from(key)));
    }
    out.push('}');
}

fn text(object: &Map<String, Value>) -> String {
    serde_json::to_string(object).unwrap_or_default()
}

fn extras(job: &PaddlesJob, settings: &Settings) -> Map<String, Value> {
    let log = settings
        .log_href
        .as_ref()
        .map(|href| href.replace("{run_name}", &job.run).replace("{job_id}", &job.job_id));
    let all = [
        ("log_href", json!(log)),
        ("posted", json!(python_time(job.posted))),
        ("started", json!(job.started.map(python_time))),
        ("updated", json!(python_time(job.updated))),
    ];
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A node.
pub(crate) fn node(node: &Node) -> Value {
    json!({
        "name": node.name,
        "description": node.description,
        "up": node.up,
        "machine_type": node.machine_type,
        "is_vm": node.is_vm,
        "vm_host": node.vm_host,
        "os_type": node.os_type,
        "os_version": node.os_version,
        "arch": node.arch,
        "locked": node.locked,
        "locked_since": node.locked_since.map(python_time),
        "locked_by": node.locked_by,
        "mac_address": node.mac_address,
        "ssh_pub_key": node.ssh_pub_key,
    })
}
