//! A scheduler over a database, with one rule.

use async_trait::async_trait;
use model::{SystemClock, SystemIds, discover::RepositoryTests, task::Repo};
use object_store::memory::InMemory;
use scheduler::{
    Parts, Scheduler, Settings,
    files::Files,
    resolve::{Found, LookUpError, Repositories},
    rulebook::Rulebook,
    rules::load::{Options, RuleFiles},
};
use std::sync::Arc;
use store::SqlStore;

/// One task for each event.
const RULES: &str = r#"rules:
  - name: check-builds
    on: bench.build.done
    when: {body.new: 1, body.release: {suffix: .fc42}}
    then:
      - task: cheap
        item: {type: koji_build, id: "${event.body.nvr}"}
        with: {nvr: "${event.body.nvr}"}
"#;
const TASKS: &str = "tasks: {cheap: {git: \"https://git.example.org/cheap.git\"}}\n";
const TASK_FILE: &str = "name: cheap\ninputs: {nvr: {type: string}}\nrun: \"true\"\n";

/// An event's body of about 1 KB.
pub(crate) fn body(number: usize) -> Vec<u8> {
    let padding = "x".repeat(800);
    let nvr = format!("audit-1.0-{number}.fc42");
    format!(r#"{{"new": 1, "old": 0, "name": "audit", "release": "{number}.fc42", "nvr": "{nvr}", "owner": "somebody", "notes": "{padding}"}}"#)
        .into_bytes()
}

/// A repository that is always there: what is measured is not git.
#[derive(Debug)]
struct Always;

#[async_trait]
impl Repositories for Always {
    async fn look_up(&self, _: &Repo, at: Option<&str>) -> Result<Found, LookUpError> {
        let commit = at.map_or_else(|| "0123456789abcdef0123456789abcdef01234567".to_owned(), str::to_owned);
        Ok(Found { commit, tests: RepositoryTests::TaskFile(TASK_FILE.to_owned()) })
    }
}

/// A scheduler with the rule in force.
pub(crate) async fn scheduler(store: Arc<SqlStore>) -> Scheduler {
    let scheduler = Scheduler::new(Parts {
        settings: Settings::default(),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        store,
        files: Files::new(Arc::new(InMemory::new())),
        rulebook: Rulebook::new(Options::default(), None),
        repositories: Arc::new(Always),
        outlet: None,
        sinks: Vec::new(),
        results_elsewhere: None,
    });
    let files = RuleFiles::of([("bench.yaml", RULES), ("tasks.yaml", TASKS)]);
    let activated = scheduler.activate_rules(files, "bench", "bench").await;
    activated.unwrap_or_else(|error| panic!("{}", error.details()));
    scheduler
}
