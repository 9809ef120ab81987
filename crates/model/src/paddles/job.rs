//! What is kept of a job, and how a report changes it.

use super::{JobStatus, TIMESTAMP_FORM};
use crate::{
    item::Item,
    outcome::{Outcome, words},
    phase::Phase,
    result::NewResult,
    task::{PRIORITY_MAX, Task, TaskState},
};
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What is kept of a job beside `job_id`, `status` and `success`; anything else is dropped.
pub const JOB_KEYS: [&str; 43] = [
    "archive_path",
    "branch",
    "description",
    "duration",
    "email",
    "failure_reason",
    "flavor",
    "kernel",
    "last_in_suite",
    "machine_type",
    "name",
    "nuke_on_error",
    "os_type",
    "os_version",
    "overrides",
    "owner",
    "package_source",
    "pcp_grafana_url",
    "pid",
    "priority",
    "queue",
    "roles",
    "seed",
    "sentry_event",
    "sha1",
    "subset",
    "suite",
    "suite_branch",
    "suite_path",
    "suite_relpath",
    "suite_repo",
    "suite_sha1",
    "targets",
    "tasks",
    "teuthology_branch",
    "timestamp",
    "user",
    "verbose",
    "job_id",
    "status",
    "success",
    "posted",
    "started",
];
/// Those that are not taken over as they stand.
const OWN_KEYS: [&str; 5] = ["job_id", "status", "success", "posted", "started"];
/// Those that are an object when nothing is known.
const JSON_KEYS: [&str; 5] = ["kernel", "overrides", "roles", "targets", "tasks"];
/// The system's name, in tasks and keys.
pub const SYSTEM: &str = "paddles";
/// How long a job that runs elsewhere may be silent, in days: for ever, as far as it counts.
const SILENT_DAYS_MAX: i64 = 100 * 365;
/// The longest id of a job, in bytes.
pub const JOB_ID_BYTES_MAX: usize = 128;
/// The most nodes of a job.
pub const JOB_NODES_MAX: usize = 1000;

/// What is reported of a job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobReport {
    /// Its id.
    pub job_id: Option<String>,
    /// Its status.
    pub status: Option<JobStatus>,
    /// Whether it passed; `Some(None)` is a null.
    pub success: Option<Option<bool>>,
    /// When it was changed.
    pub updated: Option<DateTime<Utc>>,
    /// The other keys that are kept.
    pub fields: Map<String, Value>,
}

impl JobReport {
    /// Reads a report. `-` in keys is `_`. `local` says which time a time of this host's zone is.
    ///
    /// # Errors
    /// What is wrong with which key.
    pub fn read(
        body: &Map<String, Value>,
        local: impl Fn(NaiveDateTime) -> DateTime<Utc>,
    ) -> Result<Self, String> {
        let mut report = Self::default();
        for (key, value) in body {
            let key = key.replace('-', "_");
            match (key.as_str(), value) {
                ("job_id" | "status" | "updated", Value::Null) => {}
                ("job_id", value) => report.job_id = Some(read_id(value)?),
                ("status", value) => {
                    let status = value.as_str().and_then(JobStatus::parse);
                    let expected = || {
                        format!(
                            "status {value} is none of queued, pass, running, waiting, fail, dead, unknown"
                        )
                    };
                    report.status = Some(status.ok_or_else(expected)?);
                }
                ("success", Value::Null) => report.success = Some(None),
                ("success", value) => {
                    let success = match value {
                        Value::Bool(success) => Some(*success),
                        Value::String(text) => text.to_ascii_lowercase().parse().ok(),
                        _ => None,
                    };
                    report.success = Some(Some(
                        success.ok_or_else(|| format!("success {value} is neither true nor false"))?,
                    ));
                }
                ("updated", value) => {
                    let time = value.as_str().and_then(parse_time);
                    let time = time.ok_or_else(|| {
                        format!("updated {value} is no time such as 2026-11-21 00:23:52.005222")
                    })?;
                    report.updated = Some(local(time));
                }
                ("timestamp", value) => _ = report.fields.insert(key, read_timestamp(value)?),
                ("priority", value) => _ = report.fields.insert(key, read_priority(value)?),
                (name, value) if JOB_KEYS.contains(&name) && !OWN_KEYS.contains(&name) => {
                    report.fields.insert(key, value.clone());
                }
                _ => {}
            }
        }
        if report.nodes().len() > JOB_NODES_MAX {
            return Err(format!("a job has at most {JOB_NODES_MAX} targets"));
        }
        Ok(report)
    }

    /// The names of the nodes in `targets`: what follows the user.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<String> {
        let names: Vec<&str> = match self.fields.get("targets") {
            Some(Value::Object(targets)) => targets.keys().map(String::as_str).collect(),
            Some(Value::Array(targets)) => targets.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let names = names.into_iter().map(|name| name.rsplit_once('@').map_or(name, |(_, host)| host));
        names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }
}

fn read_id(value: &Value) -> Result<String, String> {
    let id = match value {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        other => return Err(format!("job_id {other} is neither a text nor a number")),
    };
    let odd = |c: char| c.is_control() || c == '/';
    if id.is_empty() || id.len() > JOB_ID_BYTES_MAX || id.contains(odd) {
        return Err(format!("job_id must have 1 to {JOB_ID_BYTES_MAX} bytes, without slashes"));
    }
    Ok(id)
}

fn read_timestamp(value: &Value) -> Result<Value, String> {
    let Some(text) = value.as_str() else {
        return if value.is_null() { Ok(Value::Null) } else { Err(format!("timestamp {value} is no text")) };
    };
    let time = NaiveDateTime::parse_from_str(text, TIMESTAMP_FORM).ok().or_else(|| parse_time(text));
    let time = time.ok_or_else(|| format!("timestamp \"{text}\" is no time such as 2026-11-21_00:23:52"))?;
    Ok(Value::String(python_time(time.and_utc())))
}

fn read_priority(value: &Value) -> Result<Value, String> {
    let number = match value {
        Value::Null => return Ok(Value::Null),
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let fits = number.filter(|number| number.unsigned_abs() <= u64::from(u32::MAX / 2));
    fits.map(Value::from).ok_or_else(|| format!("priority {value} is no number"))
}

/// Reads `2026-11-21 00:23:52.005222`, with or without a fraction, with a space or a `T`; a day alone is its start.
#[must_use]
pub fn parse_time(text: &str) -> Option<NaiveDateTime> {
    let text = text.trim().trim_end_matches('Z');
    let forms = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
    let time = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    time.or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
}

/// A time as Python's `str` writes one: no fraction where there is none.
#[must_use]
pub fn python_time(time: DateTime<Utc>) -> String {
    let form = if time.nanosecond() / 1000 == 0 { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M:%S%.6f" };
    time.format(form).to_string()
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its id, unique in its run.
    pub job_id: String,
    /// Its status.
    pub status: JobStatus,
    /// Whether it passed, as it was said.
    pub success: Option<bool>,
    /// When it was first heard of.
    pub posted: DateTime<Utc>,
    /// When it began to run.
    pub started: Option<DateTime<Utc>>,
    /// When it was changed last.
    pub updated: DateTime<Utc>,
    /// The other keys that are kept, as they were reported last.
    pub fields: Map<String, Value>,
}

impl Job {
    /// A job that is heard of for the first time.
    #[must_use]
    pub fn new(job_id: String, report: &JobReport, now: DateTime<Utc>) -> Self {
        let mut job = Self {
            job_id,
            status: JobStatus::Unknown,
            success: None,
            posted: now,
            started: None,
            updated: now,
            fields: Map::new(),
        };
        job.take_over(report, None, now);
        job
    }

    /// Takes a report over.
    pub fn report(&mut self, report: &JobReport, now: DateTime<Utc>) {
        let before = self.status;
        self.take_over(report, Some(before), now);
    }

    fn take_over(&mut self, report: &JobReport, before: Option<JobStatus>, now: DateTime<Utc>) {
        for (key, value) in &report.fields {
            // What waits may be moved; what runs or ended ran as it did.
            if key == "priority" && before.is_some_and(|before| before != JobStatus::Queued) {
                continue;
            }
            self.fields.insert(key.clone(), value.clone());
        }
        if let Some(success) = report.success {
            self.success = success;
        }
        match (report.status, report.success) {
            // What a job that has its verdict says of itself comes too late.
            (Some(_), _) if matches!(before, Some(JobStatus::Pass | JobStatus::Fail)) => {}
            (Some(status), _) => self.status = status,
            (None, Some(Some(true))) => self.status = JobStatus::Pass,
            (None, Some(Some(false))) => self.status = JobStatus::Fail,
            (None, Some(None)) => self.status = JobStatus::Unknown,
            (None, None) => {}
        }
        let starts = matches!(before, None | Some(JobStatus::Queued)) || self.started.is_none();
        if self.status == JobStatus::Running && starts {
            self.started = Some(now);
        }
        self.updated = report.updated.unwrap_or(now);
    }

    /// A text that is kept.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key).and_then(Value::as_str)
    }

    /// Its priority; lower goes first.
    #[must_use]
    pub fn priority(&self) -> Option<i64> {
        self.fields.get("priority").and_then(Value::as_i64)
    }

    /// All that is kept of it but its times, each key of it.
    #[must_use]
    pub fn document(&self) -> Map<String, Value> {
        let mut document = Map::new();
        for key in JOB_KEYS {
            let value = match key {
                "posted" | "started" => continue,
                "job_id" => self.job_id.clone().into(),
                "status" => self.status.as_str().into(),
                "success" => self.success.into(),
                _ => match self.fields.get(key) {
                    None | Some(Value::Null) if JSON_KEYS.contains(&key) => Map::new().into(),
                    None => Value::Null,
                    Some(value) => value.clone(),
                },
            };
            document.insert(key.to_owned(), value);
        }
        document
    }

    /// Where its task stands. One whose status nobody said is where it was before.
    #[must_use]
    pub fn task_state(&self, task: &Task, fence: i64, now: DateTime<Utc>) -> TaskState {
        let running = |phase: Phase| {
            let attempt = if task.state.running().is_some() { task.attempts } else { task.attempts + 1 };
            let since = match &task.state {
                TaskState::Running { since, .. } => *since,
                _ => now,
            };
            TaskState::Running {
                attempt,
                worker: SYSTEM.into(),
                fence,
                phase,
                since,
                lease_until: now + TimeDelta::days(SILENT_DAYS_MAX),
                stop: None,
            }
        };
        match (self.status, words::from_paddles(self.status.as_str())) {
            (_, Some(outcome)) => TaskState::Finished {
                outcome,
                attempt: task.attempts,
                reason: self
                    .text("failure_reason")
                    .map(|reason| cut(reason, crate::task::TASK_TEXT_BYTES_MAX)),
                at: now,
            },
            (JobStatus::Running, None) => running(Phase::Run),
            (JobStatus::Waiting, None) => running(Phase::Provision),
            (_, None) => match &task.state {
                TaskState::Queued { .. } => task.state.clone(),
                _ => TaskState::Queued { since: now, not_before: None, unmet: None },
            },
        }
    }

    /// Its outcome, once it has one.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        words::from_paddles(self.status.as_str())
    }

    /// What it tests: a commit of a project.
    #[must_use]
    pub fn item(&self) -> Option<Item> {
        let sha1 = self.text("sha1").filter(|sha1| !sha1.is_empty())?;
        Some(Item::new("commit", cut(sha1, crate::task::TASK_TEXT_BYTES_MAX)))
    }

    /// The result that it is.
    #[must_use]
    pub fn result(&self, task: &Task, run: &str) -> Option<NewResult> {
        let mut data = Map::from_iter([
            ("run".to_owned(), run.into()),
            ("job_id".to_owned(), self.job_id.clone().into()),
        ]);
        for key in ["description", "branch", "machine_type", "os_type", "os_version", "flavor"] {
            if let Some(text) = self.text(key) {
                data.insert(key.to_owned(), text.into());
            }
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a negative duration is none"
        )]
        let duration_ms = self
            .fields
            .get("duration")
            .and_then(Value::as_f64)
            .map(|seconds| (seconds * 1000.0).max(0.0) as u64);
        Some(NewResult {
            testcase: task.name.as_str().to_owned(),
            item: task.item.clone(),
            outcome: self.outcome()?,
            note: self.text("failure_reason").map(str::to_owned),
            duration_ms,
            data,
            children: Vec::new(),
        })
    }

    /// The priority of its task, for which higher goes first.
    #[must_use]
    pub fn task_priority(&self) -> i32 {
        let max = i64::from(PRIORITY_MAX);
        let priority = self.priority().map_or(0, |priority| (max - priority).clamp(-max, max));
        i32::try_from(priority).unwrap_or(0)
    }
}

fn cut(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max.min(text.len()))].replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const T0: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn read(body: Value) -> Result<JobReport, String> {
        JobReport::read(body.as_object().unwrap(), |time| time.and_utc())
    }

    fn job(reports: &[Value]) -> Job {
        let (first, rest) = reports.split_first().unwrap();
        let mut job = Job::new("1".to_owned(), &read(first.clone()).unwrap(), T0);
        for report in rest {
            job.report(&read(report.clone()).unwrap(), T0 + TimeDelta::seconds(1));
        }
        job
    }

    #[test]
    fn the_status_follows_the_reports() {
        let check = |reports: &[Value], expect: &str, started: bool| {
            let job = job(reports);
            assert_eq!((job.status.as_str(), job.started.is_some()), (expect, started), "{reports:?}");
        };
        let status = |status: &str| json!({"status": status});
        let success = |success: Value| json!({"success": success});
        check(&[json!({"name": "x"})], "unknown", false);
        check(&[status("queued")], "queued", false);
        check(&[status("running")], "running", true);
        check(&[status("queued"), status("waiting"), status("running")], "running", true);
        check(&[status("queued"), status("running"), status("waiting")], "waiting", true);
        check(&[success(json!(true))], "pass", false);
        check(&[success(json!(false))], "fail", false);
        check(&[success(json!(null))], "unknown", false);
        // What has a verdict keeps it, but for another verdict.
        check(&[status("pass"), status("running")], "pass", false);
        check(&[status("fail"), status("dead")], "fail", false);
        check(&[status("pass"), success(json!(false))], "fail", false);
        check(&[status("fail"), success(json!(true))], "pass", false);
        check(&[status("pass"), success(json!(null))], "unknown", false);
        check(&[status("dead"), status("running")], "running", true);
        // Beside a status, success does not decide.
        check(&[json!({"status": "running", "success": true})], "running", true);
        check(&[status("running"), json!({"status": "dead", "success": false})], "dead", true);
        check(&[status("running"), json!({"description": "x"})], "running", true);
    }

    #[test]
    fn priorities_change_while_it_is_queued() {
        let job = job(&[
            json!({"status": "queued", "priority": 100}),
            json!({"priority": 50}),
            json!({"status": "running", "priority": 40}),
            json!({"priority": 30}),
        ]);
        assert_eq!((job.priority(), job.task_priority()), (Some(40), 960));
    }

    #[test]
    fn what_is_kept() {
        let report = read(json!({
            "job_id": 7, "suite-branch": "main", "no_nested_subset": true, "timestamp": "2013-09-25_23:00:06",
            "updated": "2026-11-21 00:23:52.005222", "targets": {"ubuntu@a.example.org": "key", "b": "key"},
        }))
        .unwrap();
        assert_eq!(report.job_id.as_deref(), Some("7"));
        assert_eq!(report.nodes().into_iter().collect::<Vec<_>>(), ["a.example.org", "b"]);
        let job = Job::new("7".to_owned(), &report, T0);
        let document = job.document();
        assert_eq!(document["suite_branch"], "main");
        assert_eq!(document["timestamp"], "2013-09-25 23:00:06");
        assert_eq!(python_time(job.updated), "2026-11-21 00:23:52.005222");
        assert_eq!(
            (&document["roles"], &document["email"], &document["job_id"]),
            (&json!({}), &json!(null), &json!("7"))
        );
        assert!(!document.contains_key("no_nested_subset"));
        assert_eq!(document.len(), 41);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |body: Value, expect: &str| assert!(read(body).unwrap_err().contains(expect));
        check(json!({"status": "done"}), "status \"done\" is none of queued");
        check(json!({"status": 1}), "status 1");
        check(json!({"success": "perhaps"}), "neither true nor false");
        check(json!({"updated": "today"}), "updated \"today\" is no time");
        check(json!({"timestamp": "today"}), "2026-11-21_00:23:52");
        check(json!({"priority": "high"}), "is no number");
        check(json!({"job_id": "a/b"}), "without slashes");
        check(json!({"job_id": []}), "neither a text nor a number");
    }
}
