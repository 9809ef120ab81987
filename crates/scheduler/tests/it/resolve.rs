//! Tasks made ready.

use super::bed::{Bed, TASK_FILE, build, event, files, found};
use model::discover::{ForeignTests, RepositoryFormat, RepositoryTests};
use serde_json::json;
use taskbot_scheduler::{
    resolve::{Found, LookUpError},
    settings::RESOLVE_TRIES_MAX,
};

#[tokio::test]
async fn what_cannot_run_ends_with_its_reason() {
    let mut bed = Bed::new().await;
    bed.start();
    let mut number = 0;
    let mut check = async |answer: Result<Found, LookUpError>, label: &str, reason: &str| {
        number += 1;
        bed.repos.say(move |_, _, _| answer.clone());
        let task = bed.take(build(&format!("e{number}"))).await[0];
        let task = super::bed::until(reason, || async {
            let task = bed.store.task(task).await.unwrap();
            matches!(task.state.name(), "queued" | "finished").then_some(task)
        })
        .await;
        assert!(task.state.label().starts_with(label), "{}", task.state.label());
        let said = serde_json::to_string(&task.state).unwrap();
        assert!(said.contains(reason), "{said}");
    };
    check(found(TASK_FILE), "queued", "").await;
    check(
        Err(LookUpError::Wrong("no such repository".to_owned())),
        "finished(error(bad_task)",
        "no such repository",
    )
    .await;
    check(
        Ok(Found {
            commit: "c".repeat(40),
            tests: RepositoryTests::Foreign(ForeignTests {
                format: RepositoryFormat::Autopkgtest,
                texts: [("debian/tests/control".to_owned(), "Depends: hello\n".to_owned())].into(),
            }),
        }),
        "finished(error(bad_task)",
        "debian/tests/control:1",
    )
    .await;
    check(found("name: lint\nrunn: x\n"), "finished(error(bad_task)", "runn").await;
    check(
        found("name: lint\ninputs: {koji: {type: string, required: true}, nvr: {}}\nrun: x\n"),
        "finished(error(bad_task)",
        "koji",
    )
    .await;
    bed.end().await;
}

#[tokio::test]
async fn what_lets_us_down_is_tried_again_and_ends_as_infra() {
    let mut bed = Bed::new().await;
    bed.repos.say(
        |_, _, call| {
            if call <= 2 { Err(LookUpError::Later("no route".to_owned())) } else { found(TASK_FILE) }
        },
    );
    bed.start();
    let task = bed.take(build("a")).await[0];
    for calls in 1..=2 {
        super::bed::until("a look-up", || async {
            (*bed.repos.calls.lock().unwrap() >= calls).then_some(())
        })
        .await;
        // The back-off goes by the database's clock; the answer to the look-up may not be written yet.
        bed.store.shift_clock(10_000).await.unwrap();
    }
    bed.until_label(task, "queued").await;
    bed.repos.say(|_, _, _| Err(LookUpError::Later("no route to host".to_owned())));
    let task = bed.take(build("b")).await[0];
    let ended = super::bed::until("the last try", || async {
        bed.store.shift_clock(200_000).await.unwrap();
        let task = bed.store.task(task).await.unwrap();
        task.state.is_final().then_some(task)
    })
    .await;
    assert!(ended.state.label().starts_with("finished(error(infra)"), "{}", ended.state.label());
    let said = serde_json::to_string(&ended.state).unwrap();
    assert!(said.contains(&format!("tried {RESOLVE_TRIES_MAX} times")), "{said}");
    bed.end().await;
}

#[tokio::test]
async fn all_cells_of_a_matrix_use_one_commit() {
    let mut bed = Bed::new().await;
    let rules = "rules:\n  - name: kernel\n    on: build.done\n    then:\n      - task: lint\n        matrix: {n: [1, 2, 3, 4, 5, 6]}\n";
    bed.scheduler.activate_rules(files(rules), "test", "tester").await.unwrap();
    // The branch moves with each look.
    bed.repos.say(|_, _, call| {
        Ok(Found { commit: format!("{call:040}"), tests: RepositoryTests::TaskFile(TASK_FILE.to_owned()) })
    });
    bed.start();
    let tasks = bed.take(event("a", "build.done", &json!({}))).await;
    assert_eq!(tasks.len(), 6);
    let mut commits = std::collections::BTreeSet::new();
    for task in tasks {
        let task = bed.until_label(task, "queued").await;
        let model::task::TaskKind::Repo { resolved: Some(resolved), .. } = task.kind else {
            panic!("not resolved")
        };
        commits.insert(resolved.commit);
    }
    assert_eq!(commits.len(), 1, "{commits:?}");
    bed.end().await;
}

#[tokio::test]
async fn tests_that_are_discovered_become_tasks_once() {
    let mut bed = Bed::new().await;
    let rules = "rules:\n  - name: own\n    on: build.done\n    then:\n      - task: lint\n        discover: true\n        item: {type: koji_build, id: a-1-1}\n        with: {nvr: a-1-1}\n        group: {name: own, on_new: supersede_queued}\n";
    bed.scheduler.activate_rules(files(rules), "test", "tester").await.unwrap();
    let plans = "execute: {how: tmt}\n/ci: {}\n/full: {}\n/off: {enabled: false}\n";
    bed.repos.say(move |_, _, call| {
        Ok(Found {
            commit: format!("{call:040}"),
            tests: RepositoryTests::Foreign(ForeignTests {
                format: RepositoryFormat::Tmt,
                texts: [("plans.fmf".to_owned(), plans.to_owned())].into(),
            }),
        })
    });
    bed.start();
    let parent = bed.take(event("a", "build.done", &json!({}))).await[0];
    let parent = bed.until_label(parent, "finished(info)").await;
    let said = serde_json::to_string(&parent.state).unwrap();
    assert!(said.contains("2 tests of tmt became tasks of their own"), "{said}");
    let made = async || {
        let query = store::TaskQuery { limit: 100, ..store::TaskQuery::default() };
        let mut all = bed.store.tasks(&query).await.unwrap().items;
        all.retain(|task| task.name.as_str().starts_with("lint/"));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    };
    super::bed::until("both are queued", || async {
        made().await.iter().filter(|task| task.state.name() == "queued").count().eq(&2).then_some(())
    })
    .await;
    let tasks = made().await;
    let told: Vec<_> = tasks
        .iter()
        .map(|task| {
            let model::task::TaskKind::Repo { repo, resolved: Some(resolved), discover: false } = &task.kind
            else {
                panic!("{:?}", task.kind)
            };
            assert_eq!(repo.reference.as_deref().unwrap().len(), 40, "at the commit that was looked at");
            assert_eq!(resolved.file.name, task.name.as_str());
            assert_eq!((task.origin.event(), &task.item), (parent.origin.event(), &parent.item));
            format!("{} {} {}", task.name, task.inputs["plan"], task.inputs["nvr"])
        })
        .collect();
    assert_eq!(told, ["lint/plans/ci \"/plans/ci\" \"a-1-1\"", "lint/plans/full \"/plans/full\" \"a-1-1\""]);
    // The same event again makes nothing, and a newer one supersedes what waits.
    let again = bed.scheduler.ingest(vec![event("a", "build.done", &json!({})).into()]).await.unwrap();
    assert!(matches!(again[..], [taskbot_scheduler::ingest::Taken::Known { .. }]), "{again:?}");
    let newer = bed.take(event("b", "build.done", &json!({}))).await[0];
    bed.until_label(newer, "finished(info)").await;
    super::bed::until("the older ones are superseded", || async {
        let states: Vec<_> = made().await.iter().map(|task| task.state.name()).collect();
        (states.len() == 4 && states.iter().filter(|state| **state == "superseded").count() == 2)
            .then_some(())
    })
    .await;
    bed.end().await;
}
