//! Which operation a request is. What a place does not take by a method it answers as if it were asked by GET.

use super::{
    answer::{Answer, Refusal},
    ask::Ask,
    jobs, nodes, queues, runs,
};
use crate::resultsdb::unescaped;
use axum::{
    http::{Method, Uri},
    response::IntoResponse,
};
use store::{PaddlesField, Role};

/// The longest name in a path, in bytes.
const PART_BYTES_MAX: usize = 1024;
/// The most parts of a path.
const PARTS_MAX: usize = 40;

/// Every operation: method, an example of its path, and the role that it needs.
pub const OPERATIONS: [(&str, &str, Role); 51] = [
    ("GET", "/", Role::Viewer),
    ("GET", "/runs/", Role::Viewer),
    ("HEAD", "/runs/x/", Role::Viewer),
    ("POST", "/runs/", Role::Submitter),
    ("GET", "/runs/branch/", Role::Viewer),
    ("GET", "/runs/date/", Role::Viewer),
    ("GET", "/runs/machine_type/", Role::Viewer),
    ("GET", "/runs/status/", Role::Viewer),
    ("GET", "/runs/suite/", Role::Viewer),
    ("GET", "/runs/sha1/", Role::Viewer),
    ("GET", "/runs/user/", Role::Viewer),
    ("GET", "/runs/flavors/", Role::Viewer),
    ("GET", "/runs/suite/x/branch/y/", Role::Viewer),
    ("GET", "/runs/date/today/", Role::Viewer),
    ("GET", "/runs/date/from/2026-11-01/to/2026-11-02/", Role::Viewer),
    ("GET", "/runs/sha1/abc/", Role::Viewer),
    ("GET", "/runs/queued/", Role::Viewer),
    ("GET", "/runs/x/", Role::Viewer),
    ("PUT", "/runs/x/", Role::Viewer),
    ("DELETE", "/runs/x/", Role::Submitter),
    ("GET", "/runs/x/jobs/", Role::Viewer),
    ("POST", "/runs/x/jobs/", Role::Submitter),
    ("GET", "/runs/x/jobs/1/", Role::Viewer),
    ("PUT", "/runs/x/jobs/1/", Role::Submitter),
    ("DELETE", "/runs/x/jobs/1/", Role::Submitter),
    ("GET", "/jobs/", Role::Viewer),
    ("OPTIONS", "/runs/", Role::Viewer),
    ("GET", "/nodes/", Role::Viewer),
    ("POST", "/nodes/", Role::Submitter),
    ("GET", "/nodes/x/", Role::Viewer),
    ("PUT", "/nodes/x/", Role::Submitter),
    ("DELETE", "/nodes/x/", Role::Manager),
    ("GET", "/nodes/x/lock/", Role::Viewer),
    ("PUT", "/nodes/x/lock/", Role::Submitter),
    ("POST", "/nodes/x/lock/", Role::Submitter),
    ("POST", "/nodes/lock_many/", Role::Submitter),
    ("POST", "/nodes/unlock_many/", Role::Submitter),
    ("GET", "/nodes/x/jobs/", Role::Viewer),
    ("GET", "/nodes/x/job_stats/", Role::Viewer),
    ("GET", "/nodes/job_stats/", Role::Viewer),
    ("GET", "/nodes/machine_types/", Role::Viewer),
    ("GET", "/queue/", Role::Viewer),
    ("POST", "/queue/", Role::Submitter),
    ("PUT", "/queue/", Role::Submitter),
    ("GET", "/queue/pop_queue?queue=x", Role::Submitter),
    ("GET", "/queue/stats/?queue=x", Role::Viewer),
    ("POST", "/queue/stats/", Role::Viewer),
    ("GET", "/queue/queued_jobs/?queue=x", Role::Viewer),
    ("POST", "/queue/queued_jobs/", Role::Viewer),
    ("GET", "/errors/invalid/", Role::Viewer),
    ("GET", "/errors/unavailable/", Role::Viewer),
];

/// The place that a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The path as it was asked for, without slashes at its end.
    pub(crate) path: String,
    /// What its links begin with, below the host.
    pub(crate) mount: &'static str,
    /// Its parts below that, decoded.
    pub(crate) parts: Vec<String>,
    /// Whether it ended with a slash.
    pub(crate) slash: bool,
}

impl Place {
    pub(crate) fn of(mount: &'static str, uri: &Uri) -> Result<Self, Refusal> {
        let path = uri.path();
        let below = path.strip_prefix(mount).unwrap_or(path);
        let nothing = || Refusal::not_found("there is nothing here");
        let raw: Vec<&str> = below.split('/').filter(|part| !part.is_empty()).collect();
        if raw.len() > PARTS_MAX {
            return Err(nothing());
        }
        let parts =
            raw.into_iter().map(|part| decoded(part).ok_or_else(nothing)).collect::<Result<_, _>>()?;
        Ok(Self {
            // More than one slash at the start would lead to another host.
            path: format!("/{}", path.trim_matches('/')).trim_end_matches('/').to_owned(),
            mount,
            parts,
            slash: path.ends_with('/'),
        })
    }
}

/// A part of a path; none that would be another path.
fn decoded(part: &str) -> Option<String> {
    let text = unescaped(part)?;
    let fits =
        text.len() <= PART_BYTES_MAX && !text.contains(char::is_control) && text != "." && text != "..";
    fits.then_some(text)
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    Root,
    Runs,
    AddRun,
    /// Runs with these values: pairs of a name and a value, and what to list the values of.
    Filtered(Vec<String>),
    Run(String),
    RemoveRun(String),
    RunJobs(String),
    AddJob(String),
    Job(String, String),
    ChangeJob(String, String),
    RemoveJob(String, String),
    Jobs,
    Nodes,
    AddNode,
    Node(String),
    ChangeNode(String),
    RemoveNode(String),
    /// A lock that is asked for by another method.
    LockBy(Method, String),
    Lock(String),
    /// What takes POST only, by another method.
    PostOnly,
    LockMany,
    UnlockMany,
    NodeJobs(String),
    NodeStats(Option<String>),
    MachineTypes,
    Queues,
    AddQueue,
    PauseQueue,
    Pop,
    QueueStats,
    QueuedJobs,
    Error(String),
}

impl Operation {
    /// The operation of a method and the parts of a path.
    pub(crate) fn of(method: &Method, parts: &[String]) -> Option<Self> {
        let own = |text: &str| text.to_owned();
        let (post, put, delete) = (method == Method::POST, method == Method::PUT, method == Method::DELETE);
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Some(match *parts {
            [] => Self::Root,
            ["runs"] if post => Self::AddRun,
            ["runs"] => Self::Runs,
            ["runs", first, ..] if runs::is_filter(first) => {
                Self::Filtered(parts[1..].iter().map(|part| own(part)).collect())
            }
            ["runs", run] if delete => Self::RemoveRun(own(run)),
            ["runs", run] => Self::Run(own(run)),
            ["runs", run, "jobs"] if post => Self::AddJob(own(run)),
            ["runs", run, "jobs"] => Self::RunJobs(own(run)),
            ["runs", run, "jobs", job] if put => Self::ChangeJob(own(run), own(job)),
            ["runs", run, "jobs", job] if delete => Self::RemoveJob(own(run), own(job)),
            ["runs", run, "jobs", job] => Self::Job(own(run), own(job)),
            // Where the first description's links lead.
            ["runs", run, job] if !post && !put && !delete => Self::Job(own(run), own(job)),
            ["jobs"] => Self::Jobs,
            ["nodes"] if post => Self::AddNode,
            ["nodes"] => Self::Nodes,
            ["nodes", "lock_many"] if post => Self::LockMany,
            ["nodes", "unlock_many"] if post => Self::UnlockMany,
            ["nodes", "lock_many" | "unlock_many"] => Self::PostOnly,
            ["nodes", "job_stats"] => Self::NodeStats(None),
            ["nodes", "machine_types"] => Self::MachineTypes,
            ["nodes", node] if put => Self::ChangeNode(own(node)),
            ["nodes", node] if delete => Self::RemoveNode(own(node)),
            ["nodes", node] => Self::Node(own(node)),
            ["nodes", node, "lock"] if put || post => Self::Lock(own(node)),
            ["nodes", node, "lock"] => Self::LockBy(method.clone(), own(node)),
            ["nodes", node, "jobs"] => Self::NodeJobs(own(node)),
            ["nodes", node, "job_stats"] => Self::NodeStats(Some(own(node))),
            ["queue"] if post => Self::AddQueue,
            ["queue"] if put => Self::PauseQueue,
            ["queue"] => Self::Queues,
            ["queue", "pop_queue"] => Self::Pop,
            ["queue", "stats"] => Self::QueueStats,
            ["queue", "queued_jobs"] => Self::QueuedJobs,
            ["errors", kind] => Self::Error(own(kind)),
            _ => return None,
        })
    }

    /// The role that it needs.
    pub(crate) const fn needs(&self) -> Role {
        match self {
            Self::AddRun
            | Self::RemoveRun(_)
            | Self::AddJob(_)
            | Self::ChangeJob(..)
            | Self::RemoveJob(..)
            | Self::AddNode
            | Self::ChangeNode(_)
            | Self::Lock(_)
            | Self::LockMany
            | Self::UnlockMany
            | Self::AddQueue
            | Self::PauseQueue
            | Self::Pop => Role::Submitter,
            Self::RemoveNode(_) => Role::Manager,
            _ => Role::Viewer,
        }
    }

    /// Whether who asks without a slash at the end is led to where there is one.
    pub(crate) const fn ends_with_slash(&self) -> bool {
        !matches!(self, Self::Pop | Self::LockBy(..) | Self::PostOnly)
    }

    pub(crate) async fn run(self, ask: &Ask) -> Answer {
        match self {
            Self::Root => Ok(super::answer::done()),
            Self::Runs => runs::list(ask).await,
            Self::AddRun => runs::add(ask).await,
            Self::Filtered(parts) => runs::filtered(ask, &parts).await,
            Self::Run(run) => runs::show(ask, &run).await,
            Self::RemoveRun(run) => runs::remove(ask, &run).await,
            Self::RunJobs(run) => jobs::of_run(ask, &run).await,
            Self::AddJob(run) => jobs::add(ask, &run).await,
            Self::Job(run, job) => jobs::show(ask, &run, &job).await,
            Self::ChangeJob(run, job) => jobs::change(ask, &run, &job).await,
            Self::RemoveJob(run, job) => jobs::remove(ask, &run, &job).await,
            Self::Jobs => jobs::list(ask).await,
            Self::Nodes => nodes::list(ask).await,
            Self::AddNode => nodes::add(ask).await,
            Self::Node(node) => nodes::show(ask, &node).await,
            Self::ChangeNode(node) => nodes::change(ask, &node).await,
            Self::RemoveNode(node) => nodes::remove(ask, &node).await,
            Self::LockBy(method, node) => nodes::lock_by(ask, &method, &node).await,
            Self::PostOnly => Err(Refusal::bad("this URI only supports POST requests")),
            Self::Lock(node) => nodes::lock(ask, &node).await,
            Self::LockMany => nodes::lock_many(ask).await,
            Self::UnlockMany => nodes::unlock_many(ask).await,
            Self::NodeJobs(node) => nodes::jobs(ask, &node).await,
            Self::NodeStats(node) => nodes::stats(ask, node.as_deref()).await,
            Self::MachineTypes => nodes::machine_types(ask).await,
            Self::Queues => queues::list(ask).await,
            Self::AddQueue => queues::add(ask).await,
            Self::PauseQueue => queues::pause(ask).await,
            Self::Pop => queues::pop(ask).await,
            Self::QueueStats => queues::stats(ask).await,
            Self::QueuedJobs => queues::jobs(ask).await,
            Self::Error(kind) => Ok(error(ask, &kind)),
        }
    }
}

/// `/errors/…`: what it is asked to say.
fn error(ask: &Ask, kind: &str) -> axum::response::Response {
    let message = ask.text("error_message").unwrap_or_default();
    let refusal = match kind {
        "invalid" => Refusal::bad(message),
        "forbidden" => Refusal::forbidden(message),
        "not_found" => Refusal::not_found(message),
        "unavailable" => Refusal::unavailable(message),
        _ => Refusal::not_found("there is nothing here"),
    };
    refusal.into_response()
}

/// What runs are told apart by, as it is called in paths: at their start, and after another.
pub(crate) const FIELDS: [(&str, &str, PaddlesField); 8] = [
    ("branch", "branch", PaddlesField::Branch),
    ("date", "date", PaddlesField::Date),
    ("machine_type", "machine_type", PaddlesField::MachineType),
    ("status", "status", PaddlesField::Status),
    ("suite", "suite", PaddlesField::Suite),
    ("sha1", "sha1", PaddlesField::Sha1),
    ("user", "user", PaddlesField::User),
    ("flavors", "flavor", PaddlesField::Flavor),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn place(uri: &str) -> Option<Place> {
        Place::of("/compat/paddles", &uri.parse().unwrap()).ok()
    }

    #[test]
    fn the_table_says_what_each_operation_needs() {
        for (method, path, role) in OPERATIONS {
            let place = place(&format!("/compat/paddles{path}")).unwrap();
            let operation = Operation::of(&method.parse().unwrap(), &place.parts);
            assert_eq!(operation.map(|operation| operation.needs()), Some(role), "{method} {path}");
        }
    }

    #[test]
    fn paths() {
        let check = |uri: &str, expect: &[&str]| assert_eq!(place(uri).unwrap().parts, expect, "{uri}");
        check("/compat/paddles", &[]);
        check("/compat/paddles/runs/a%3Ab%20c/", &["runs", "a:b c"]);
        for odd in [
            "/compat/paddles/runs/%ff",
            "/compat/paddles/runs/..",
            "/compat/paddles/runs/%2e%2e/",
            "/compat/paddles/runs/a%00",
            "/compat/paddles/%2",
            "/compat/paddles/%zz",
        ] {
            assert_eq!(place(odd), None, "{odd}");
        }
        let many = format!("/compat/paddles{}", "/a".repeat(PARTS_MAX + 1));
        assert_eq!(place(&many), None);
        let own = Place::of("", &"//evil.example.org/runs".parse().unwrap()).ok().unwrap();
        assert_eq!(own.path, "/evil.example.org/runs");
    }

    #[test]
    fn what_is_nowhere() {
        for path in ["/nothing/", "/runs/x/y/z/", "/runs/flavor/x/y/", "/nodes/x/y/", "/queue/x/", "/jobs/1/"]
        {
            let place = place(&format!("/compat/paddles{path}")).unwrap();
            assert_eq!(Operation::of(&Method::GET, &place.parts), None, "{path}");
        }
    }
}
