//! Many tasks: what nobody here can run costs nothing.

use crate::harness::*;
use std::time::{Duration, Instant};
use store::{Claim, NewTask};

conformance!(tasks_for_others_cost_a_claim_nothing);

async fn tasks_for_others_cost_a_claim_nothing(bed: &Bed) {
    const OTHERS: usize = 10_000;
    const CLAIMS: u32 = 40;
    let mine = |_| NewTask { needs: needs("x86_64"), ..ready("a") };
    // The fastest of many, since this machine does other things too.
    let fastest = async || {
        bed.queue(&(0..CLAIMS).map(mine).collect::<Vec<_>>()).await;
        let mut fastest = Duration::MAX;
        for _ in 0..CLAIMS {
            let begin = Instant::now();
            assert_eq!(bed.claim("w1", 1).await.len(), 1);
            fastest = fastest.min(begin.elapsed());
        }
        fastest
    };
    let alone = fastest().await;
    for _ in 0..OTHERS / 1000 {
        let other = |_| NewTask { needs: needs("s390x"), priority: 9, ..ready("b") };
        bed.queue(&(0..1000).map(other).collect::<Vec<_>>()).await;
    }
    let crowded = fastest().await;
    assert!(crowded < alone * 4, "{alone:?} alone, {crowded:?} beside {OTHERS} others");
    let request =
        Claim { offer: model::Offer { arches: ["s390x".to_owned()].into(), ..offer() }, ..claim("w2", 64) };
    assert_eq!(bed.store.claim(&request).await.unwrap().len(), 64);
}
