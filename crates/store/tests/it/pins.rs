//! One commit for all tasks of an event and a repository.

use crate::harness::*;
use model::{
    Task, TaskId,
    task::{Repo, Resolved, TaskKind, WaitReason},
};
use store::{NewTask, Resolution};

conformance!(
    the_first_commit_of_an_event_is_that_of_all,
    another_repository_or_ref_has_a_pin_of_its_own,
    a_replay_looks_anew,
    a_person_who_asks_for_the_newest_gets_it,
    two_servers_that_resolve_at_once_agree,
    pins_go_with_their_events,
);

fn of(git: &str, reference: Option<&str>) -> NewTask {
    let repo = Repo { git: git.to_owned(), reference: reference.map(str::to_owned), path: None };
    NewTask { kind: TaskKind::Repo { repo, resolved: None, discover: false }, ..wished("lint") }
}

fn at(commit: char) -> Resolution {
    let Resolution::Found { resolved, inputs, needs } = found("", needs("x86_64")) else {
        unreachable!("it is found")
    };
    let resolved = Box::new(Resolved { commit: commit.to_string().repeat(40), ..*resolved });
    Resolution::Found { resolved, inputs, needs }
}

fn commit_of(task: &Task) -> Option<char> {
    match &task.kind {
        TaskKind::Repo { resolved: Some(resolved), .. } => resolved.commit.chars().next(),
        _ => None,
    }
}

async fn pinned(bed: &Bed, task: TaskId) -> Option<char> {
    let task = bed.store.task(task).await.unwrap();
    bed.store.pinned_commit(&task).await.unwrap()?.chars().next()
}

async fn the_first_commit_of_an_event_is_that_of_all(bed: &Bed) {
    let (first, second) = (of("https://g/a", None), of("https://g/a", None));
    bed.event("e1", vec![first.clone(), second.clone()]).await;
    assert_eq!(bed.store.unresolved(10, 60_000).await.unwrap().len(), 2);
    assert_eq!(pinned(bed, second.id).await, None);
    assert_eq!(commit_of(&bed.resolve(first.id, &at('a')).await.unwrap()), Some('a'));
    // The ref has moved in between.
    let left = bed.resolve(second.id, &at('b')).await.unwrap();
    assert_eq!((left.state.label(), commit_of(&left)), ("waiting(resolving)".to_owned(), None));
    let again = bed.store.unresolved(10, 60_000).await.unwrap();
    assert_eq!(
        again.iter().map(|one| one.task.id).collect::<Vec<_>>(),
        [second.id],
        "it is given out at once"
    );
    assert_eq!(pinned(bed, second.id).await, Some('a'));
    assert_eq!(commit_of(&bed.resolve(second.id, &at('a')).await.unwrap()), Some('a'));
}

async fn another_repository_or_ref_has_a_pin_of_its_own(bed: &Bed) {
    let all = [of("https://g/a", None), of("https://g/b", None), of("https://g/a", Some("dev"))];
    bed.event("e1", all.to_vec()).await;
    let other = of("https://g/a", None);
    bed.event("e2", vec![other.clone()]).await;
    for (task, commit) in all.iter().chain([&other]).zip(['a', 'b', 'c', 'd']) {
        assert_eq!(commit_of(&bed.resolve(task.id, &at(commit)).await.unwrap()), Some(commit));
    }
}

async fn a_replay_looks_anew(bed: &Bed) {
    let first = of("https://g/a", None);
    let seq = bed.event("e1", vec![first.clone()]).await;
    bed.resolve(first.id, &at('a')).await.unwrap();
    let generation = bed.store.replay(seq).await.unwrap();
    let second = of("https://g/a", None);
    assert!(bed.store.judge(seq, generation, &judgement(vec![second.clone()])).await.unwrap());
    assert_eq!(pinned(bed, second.id).await, None);
    assert_eq!(commit_of(&bed.resolve(second.id, &at('b')).await.unwrap()), Some('b'));
}

async fn a_person_who_asks_for_the_newest_gets_it(bed: &Bed) {
    let first = of("https://g/a", None);
    let seq = bed.event("e1", vec![first.clone()]).await;
    bed.resolve(first.id, &at('a')).await.unwrap();
    let origin = model::task::Origin::Rerun {
        of: first.id,
        who: "ada".to_owned(),
        why: None,
        result: None,
        event: Some(seq),
    };
    let rerun = NewTask {
        origin: store::NewOrigin::Given(origin),
        wait: Some(WaitReason::Resolving),
        ..of("https://g/a", None)
    };
    bed.queue(std::slice::from_ref(&rerun)).await;
    assert_eq!(pinned(bed, rerun.id).await, None);
    assert_eq!(commit_of(&bed.resolve(rerun.id, &at('b')).await.unwrap()), Some('b'));
}

async fn two_servers_that_resolve_at_once_agree(bed: &Bed) {
    const CELLS: usize = 16;
    let cells: Vec<_> = (0..CELLS).map(|_| of("https://g/a", None)).collect();
    bed.event("e1", cells.clone()).await;
    let mut servers = Vec::new();
    for (cell, commit) in cells.iter().zip(['a', 'b'].into_iter().cycle()) {
        let (store, id) = (std::sync::Arc::clone(&bed.store), cell.id);
        servers.push(tokio::spawn(async move {
            let task = store.task(id).await.unwrap();
            if commit_of(&store.resolve(&task, &at(commit)).await.unwrap()).is_none() {
                let pinned = store.pinned_commit(&task).await.unwrap().unwrap();
                store.resolve(&task, &at(pinned.chars().next().unwrap())).await.unwrap();
            }
        }));
    }
    for server in servers {
        server.await.unwrap();
    }
    let commits: std::collections::BTreeSet<_> = bed.all_tasks().await.iter().map(commit_of).collect();
    assert_eq!(commits.len(), 1, "{commits:?}");
    assert!(commits.first().unwrap().is_some());
}

async fn pins_go_with_their_events(bed: &Bed) {
    let first = of("https://g/a", None);
    bed.event("e1", vec![first.clone()]).await;
    bed.resolve(first.id, &at('a')).await.unwrap();
    assert_eq!(pinned(bed, first.id).await, Some('a'));
    bed.pass(400 * 24 * 3600 * 1000).await;
    let retention =
        store::Retention { events: Some(std::time::Duration::from_secs(1)), ..store::Retention::default() };
    bed.store.prune(&retention, 1000, false).await.unwrap();
    assert_eq!(pinned(bed, first.id).await, None);
}
