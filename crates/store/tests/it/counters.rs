//! What rules did, as sums.

use crate::harness::*;
use model::limits::{Limits, OnExcess};
use std::sync::Arc;
use store::RuleCount;

conformance!(counts_are_added, servers_add_at_once, suppressions_are_counted_with_what_they_suppress);

async fn counts_are_added(bed: &Bed) {
    let at = |text: &str| Some(time(text));
    let count = |rule: &str, candidates: u64, last: Option<_>| RuleCount {
        candidates,
        fired: 1,
        errors: 2,
        last_fired_at: last,
        ..RuleCount::new(rule.into())
    };
    let (early, late) = (at("2026-11-01T10:00:00Z"), at("2026-11-02T10:00:00Z"));
    bed.store.count_rules(&[count("b", 5, late), count("a", 1, None)]).await.unwrap();
    bed.store.count_rules(&[count("b", 7, early)]).await.unwrap();
    bed.store.count_rules(&[]).await.unwrap();
    let counts = bed.store.rule_counts().await.unwrap();
    let shown: Vec<_> = counts
        .iter()
        .map(|one| (one.rule.as_str(), one.candidates, one.fired, one.errors, one.last_fired_at))
        .collect();
    assert_eq!(shown, [("a", 1, 1, 2, None), ("b", 12, 2, 4, late)]);
}

async fn servers_add_at_once(bed: &Bed) {
    let mut servers = Vec::new();
    for server in 0..4_u64 {
        let store = Arc::clone(&bed.store);
        servers.push(tokio::spawn(async move {
            for n in 0..20 {
                let mut rules = ["a", "b", "c"];
                rules.rotate_left(((server + n) % 3) as usize);
                let counts = rules.map(|rule| RuleCount { candidates: 1, ..RuleCount::new(rule.into()) });
                store.count_rules(&counts).await.unwrap();
            }
        }));
    }
    for server in servers {
        server.await.unwrap();
    }
    let counts = bed.store.rule_counts().await.unwrap();
    assert_eq!(counts.iter().map(|one| one.candidates).collect::<Vec<_>>(), [80, 80, 80]);
}

async fn suppressions_are_counted_with_what_they_suppress(bed: &Bed) {
    let limits = Limits { per_hour: Some(1), per_day: None, on_excess: OnExcess::Drop };
    for id in ["a", "b", "b2"] {
        bed.judged(id, limited(limits, vec![wished("lint")])).await;
    }
    bed.store.hold_rule(None, "ada", None).await.unwrap();
    bed.judged("c", judgement(vec![wished("lint")])).await;
    let counts = bed.store.rule_counts().await.unwrap();
    assert_eq!((counts.len(), counts[0].suppressed), (1, 3));
}
