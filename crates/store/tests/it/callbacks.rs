//! Who is to be told when a task has ended.

use crate::harness::{Bed, conformance, ready};
use model::{Ids as _, SystemIds, TaskId, task::Stop};
use std::time::Duration;

conformance![callbacks_wait_for_their_tasks, callbacks_without_a_task_are_forgotten];

const HELD: Duration = Duration::from_secs(60);

async fn callbacks_wait_for_their_tasks(bed: &Bed) {
    let task = bed.queue(&[ready("user:me")]).await.remove(0).id;
    bed.store.add_callback(task, "/done").await.unwrap();
    assert_eq!(bed.store.due_callbacks(10, HELD).await.unwrap(), [], "the task has not ended");
    let stop = Stop::Cancel { who: "me".to_owned(), why: None };
    bed.store.stop(task, &stop).await.unwrap();
    let due = bed.store.due_callbacks(10, HELD).await.unwrap();
    assert_eq!((due[0].task, due[0].href.as_str(), due[0].tried), (task, "/done", 0));
    assert_eq!(bed.store.due_callbacks(10, HELD).await.unwrap(), [], "it is held");
    bed.pass(61_000).await;
    assert_eq!(bed.store.due_callbacks(10, HELD).await.unwrap()[0].tried, 1, "who held it is gone");
    bed.store.put_off_callback(task, Duration::from_secs(600), "502").await.unwrap();
    bed.pass(61_000).await;
    assert_eq!(bed.store.due_callbacks(10, HELD).await.unwrap(), [], "it is put off");
    bed.pass(600_000).await;
    assert_eq!(bed.store.due_callbacks(10, HELD).await.unwrap()[0].tried, 2);
    bed.store.end_callback(task).await.unwrap();
    bed.pass(600_000).await;
    assert_eq!(bed.store.due_callbacks(10, HELD).await.unwrap(), []);
}

async fn callbacks_without_a_task_are_forgotten(bed: &Bed) {
    let orphan: TaskId = SystemIds.next().into();
    bed.store.add_callback(orphan, "/nowhere").await.unwrap();
    bed.pass(25 * 3_600_000).await;
    let task = bed.queue(&[ready("user:me")]).await.remove(0).id;
    bed.store.add_callback(task, "/done").await.unwrap();
    bed.store.stop(task, &Stop::Cancel { who: "me".to_owned(), why: None }).await.unwrap();
    assert_eq!(bed.store.due_callbacks(10, HELD).await.unwrap().len(), 1);
    // The same id is free again.
    bed.store.add_callback(orphan, "/nowhere").await.unwrap();
}
