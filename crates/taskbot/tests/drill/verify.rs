//! The checker: compares what came of a load with what must have come of it.

use crate::{
    load::{Load, wish},
    support::{
        engine,
        installation::{DURABLE, Installation, SOURCE},
        wait::until_equal,
    },
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs,
    time::Instant,
};

/// Waits until nothing is left to do.
pub(crate) async fn settled(installation: &Installation, load: &Load) {
    let begun = Instant::now();
    let stage = |what: &str| println!("settling: {what} after {:?}", begun.elapsed());
    until_equal("messages that are not acknowledged", Some(0), async || {
        installation.bus.unacknowledged(DURABLE).await
    })
    .await;
    stage("the bus has nothing left");
    until_equal("events in the inbox", i64::try_from(load.events.len()).unwrap(), async || {
        installation.database.number("select count(*) from event where source = 'bus'").await
    })
    .await;
    until_equal("tasks that are not final", 0, async || {
        let open = "select count(*) from task where state not in ('finished', 'cancelled', 'superseded')";
        installation.database.number(open).await
    })
    .await;
    stage("all tasks are final");
    until_equal("messages that are not told", 0, async || {
        installation.database.number("select count(*) from outbox where published_at is null").await
    })
    .await;
}

/// Fails with what is missing and what is too much.
#[track_caller]
pub(crate) fn same<T: Ord + Debug>(what: &str, expect: &BTreeSet<T>, got: &BTreeSet<T>) {
    let missing: Vec<_> = expect.difference(got).collect();
    let unexpected: Vec<_> = got.difference(expect).collect();
    assert!(
        missing.is_empty() && unexpected.is_empty(),
        "{what}: {} missing {missing:.20?}, {} unexpected {unexpected:.20?}",
        missing.len(),
        unexpected.len()
    );
}

/// Everything that must hold after any fault: tasks once, results once, dead letters with their reasons.
pub(crate) async fn verify(installation: &Installation, load: &Load) {
    let events: Vec<(i64, String)> =
        installation.database.rows("select seq, id from event where source = 'bus'").await;
    same("events", &load.events, &events.iter().map(|(_, id)| id.clone()).collect());
    let ids: BTreeMap<i64, String> = events.into_iter().collect();

    let tasks = installation.list("/api/v1/tasks").await;
    let mut wishes = BTreeSet::new();
    for task in &tasks {
        let wish = wish_of(task, &ids);
        assert!(wishes.insert(wish.clone()), "made twice: {wish}");
        assert_eq!(task["state"]["outcome"], "passed", "{wish}: {}", task["state"]);
    }
    same("tasks", &load.tasks, &wishes);

    dead_letters(installation, load).await;
    one_result_each(installation, tasks.len()).await;
    told_once(installation, &tasks).await;
}

fn wish_of(task: &Value, ids: &BTreeMap<i64, String>) -> String {
    let origin = &task["origin"];
    let event = origin["event"].as_i64().unwrap_or_else(|| panic!("not made by a rule: {task}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (rule, name, item) = (text(&origin["rule"]), text(&task["name"]), text(&task["item"]["id"]));
    wish(&rule, &ids[&event], &name, &item, origin["cell"]["arch"].as_str())
}

async fn dead_letters(installation: &Installation, load: &Load) {
    let letters = installation.list("/api/v1/dlq").await;
    let mut got = BTreeSet::new();
    for letter in &letters {
        let (id, reason) = (letter["event_id"].as_str().unwrap(), letter["reason"].as_str().unwrap());
        assert_eq!(letter["source"], SOURCE);
        let expected = load.dead.get(id).unwrap_or_else(|| panic!("unexpected dead letter: {letter}"));
        assert!(reason.contains(expected), "{id}: `{expected}` is not in `{reason}`");
        assert!(got.insert(id.to_owned()), "two dead letters for {id}");
    }
    same("dead letters", &load.dead.keys().cloned().collect(), &got);
}

/// One accepted result for each task, of the attempt that ended it.
async fn one_result_each(installation: &Installation, tasks: usize) {
    let results: Vec<(i64, i64)> = installation
        .database
        .rows("select count(*), count(distinct task_id) from result where parent is null")
        .await;
    let tasks = i64::try_from(tasks).unwrap();
    assert_eq!(results, [(tasks, tasks)], "results, and tasks with results");
    let strays = installation
        .database
        .number(
            "select count(*) from task t where (select count(*) from attempt a where a.task_id = t.id \
             and a.outcome is not null and a.outcome not like 'error%') <> 1",
        )
        .await;
    assert_eq!(strays, 0, "tasks whose accepted attempts are not exactly one");
}

/// The bus was told of each task's end once, after its beginning.
async fn told_once(installation: &Installation, tasks: &[Value]) {
    let told = installation.bus.all_told().await;
    let of = |topic: &str| -> Vec<&str> {
        told.iter().filter(|(kind, _)| kind == topic).map(|(_, subject)| subject.as_str()).collect()
    };
    let ids: BTreeSet<&str> = tasks.iter().map(|task| task["id"].as_str().unwrap()).collect();
    for topic in ["taskbot.task.created", "taskbot.task.finished"] {
        let subjects = of(topic);
        assert_eq!(subjects.len(), ids.len(), "{topic} was told {} times", subjects.len());
        same(topic, &ids, &subjects.into_iter().collect());
    }
    let order =
        ["taskbot.task.created", "taskbot.task.queued", "taskbot.task.started", "taskbot.task.finished"];
    let place = |kind: &str| order.iter().position(|topic| *topic == kind);
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (kind, subject) in &told {
        let Some(now) = place(kind) else { continue };
        let before = last.insert(subject, now);
        // Only an attempt that was lost leads back.
        let backwards = before.is_some_and(|before| before > now);
        let forward_again = now == 1 || now == 2;
        assert!(
            !backwards || forward_again,
            "task {subject}: {kind} was told after {}",
            order[before.unwrap()]
        );
    }
}

/// Nothing is left over: no container, no folder of an attempt, no process, no lease of an attempt.
pub(crate) async fn nothing_left(installation: &Installation) {
    for worker in &installation.workers {
        let socket = installation.engine.to_str().unwrap();
        until_none(&format!("{}: containers and volumes", worker.name), async || {
            engine::leftovers(socket, &worker.name).await
        })
        .await;
    }
    for number in 0..installation.workers.len() {
        let folder = installation.work_dir(number);
        until_none(&format!("{} holds attempts", folder.display()), async || attempt_folders(&folder)).await;
    }
    nothing_left_running(installation).await;
    let running = installation
        .database
        .number("select count(*) from task where lease_until > taskbot_now() and state = 'running'")
        .await;
    assert_eq!(running, 0, "leases that are left");
}

/// No process of a task is left over.
pub(crate) async fn nothing_left_running(installation: &Installation) {
    until_none("processes in the folder of the drill", async || processes_in(installation)).await;
}

async fn until_none(what: &str, mut look: impl AsyncFnMut() -> Vec<String>) {
    until_equal(what, Vec::new(), async || look().await).await;
}

/// Folders below that are named after an attempt: `TASK.ATTEMPT…`.
fn attempt_folders(folder: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let task = name.split('.').next().unwrap_or_default();
            if task.len() == 36 && task.parse::<model::TaskId>().is_ok() {
                found.push(name);
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(entry.path());
            }
        }
    }
    found
}

/// Processes that work below the drill's folder, other than the program's own.
fn processes_in(installation: &Installation) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(place) = fs::read_link(entry.path().join("cwd")) else { continue };
        if place.starts_with(installation.folder()) {
            let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            found.push(format!("{} {}", entry.file_name().display(), command.replace('\0', " ")));
        }
    }
    found
}
