//! Many tasks: what nobody here can run costs nothing.

use crate::harness::*;
use std::time::Instant;
use store::{Claim, NewTask};

conformance!(tasks_for_others_cost_a_claim_nothing);

async fn tasks_for_others_cost_a_claim_nothing(bed: &Bed) {
    const OTHERS: usize = 20_000;
    const CLAIMS: u32 = 20;
    let mine = |_| NewTask { needs: needs("x86_64"), ..ready("a") };
    let claims = async || {
        bed.queue(&(0..CLAIMS).map(mine).collect::<Vec<_>>()).await;
        let begin = Instant::now();
        for _ in 0..CLAIMS {
            assert_eq!(bed.claim("w1", 1).await.len(), 1);
        }
        begin.elapsed()
    };
    claims().await;
    let alone = claims().await;
    for _ in 0..OTHERS / 1000 {
        let others: Vec<_> =
            (0..1000).map(|_| NewTask { needs: needs("s390x"), priority: 9, ..ready("b") }).collect();
        bed.queue(&others).await;
    }
    let crowded = claims().await;
    assert!(crowded < alone * 4, "{alone:?} alone, {crowded:?} beside {OTHERS} others");
    let request =
        Claim { offer: model::Offer { arches: ["s390x".to_owned()].into(), ..offer() }, ..claim("w2", 64) };
    assert_eq!(bed.store.claim(&request).await.unwrap().len(), 64);
}
