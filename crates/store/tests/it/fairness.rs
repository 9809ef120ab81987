//! Turns go round among submitters.

use crate::harness::*;
use store::NewTask;

conformance!(
    a_newcomer_goes_ahead_of_a_long_queue,
    submitters_take_turns,
    an_idle_submitter_saves_nothing_up,
    priority_comes_before_turns,
    a_slow_lane_holds_nobody_off,
);

async fn order(bed: &Bed, n: u32) -> String {
    let claimed = bed.claim("w1", n).await;
    claimed.iter().map(|one| one.task.submitter.as_str().to_owned()).collect::<Vec<_>>().join(" ")
}

fn many(submitter: &str, n: usize) -> Vec<NewTask> {
    (0..n).map(|_| ready(submitter)).collect()
}

async fn a_newcomer_goes_ahead_of_a_long_queue(bed: &Bed) {
    bed.queue(&many("mass", 2_000)).await;
    for _ in 0..5 {
        bed.claim("w1", 20).await;
    }
    let single = ready("ada");
    bed.queue(std::slice::from_ref(&single)).await;
    assert!(bed.store.position(single.id).await.unwrap().unwrap() <= 1);
    assert!(order(bed, 2).await.contains("ada"));
}

async fn submitters_take_turns(bed: &Bed) {
    bed.queue(&many("a", 6)).await;
    bed.queue(&many("b", 3)).await;
    bed.queue(&many("c", 1)).await;
    assert_eq!(order(bed, 10).await, "a b c a b a b a a a");
}

async fn an_idle_submitter_saves_nothing_up(bed: &Bed) {
    bed.queue(&many("a", 100)).await;
    for _ in 0..4 {
        bed.claim("w1", 10).await;
    }
    // Both start where the queue has come, whoever was there before.
    bed.queue(&many("b", 4)).await;
    assert_eq!(order(bed, 8).await, "a b a b a b a b");
}

async fn priority_comes_before_turns(bed: &Bed) {
    bed.queue(&many("a", 2)).await;
    let urgent: Vec<_> = many("b", 3).into_iter().map(|task| NewTask { priority: 1, ..task }).collect();
    bed.queue(&urgent).await;
    assert_eq!(order(bed, 5).await, "b b b a a");
}

async fn a_slow_lane_holds_nobody_off(bed: &Bed) {
    // `mass` fills two lanes; the fast one is worked off, and the queue has come far by it.
    let on = |arch: &str, task: NewTask| NewTask { needs: needs(arch), ..task };
    let arch = |n: usize| if n.is_multiple_of(2) { "x86_64" } else { "aarch64" };
    let mass = many("mass", 60).into_iter().enumerate().map(|(n, task)| on(arch(n), task));
    bed.queue(&mass.collect::<Vec<_>>()).await;
    assert_eq!(bed.claim("w1", 30).await.len(), 30);
    let single = on("aarch64", ready("ada"));
    bed.queue(std::slice::from_ref(&single)).await;
    let mut request = claim("w2", 2);
    request.offer.arches = ["aarch64".to_owned()].into();
    let claimed = bed.store.claim(&request).await.unwrap();
    assert!(claimed.iter().any(|one| one.task.id == single.id));
}
