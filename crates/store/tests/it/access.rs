//! Tokens, the audit record, rule sets.

use crate::harness::*;
use model::{Ids as _, Revision, SystemIds};
use serde_json::json;
use store::{AuditRecord, Bounds, Pin, Role, StoreError, StoredRuleSet, Token};

conformance!(
    tokens_are_kept_used_and_revoked,
    changes_are_recorded_newest_first,
    rule_sets_are_kept_by_content,
    the_active_revision_is_a_row_that_all_follow,
    a_rollback_holds_back_what_it_took_out_of_force,
);

async fn tokens_are_kept_used_and_revoked(bed: &Bed) {
    let token = |name: &str| Token {
        id: SystemIds.next().into(),
        name: name.to_owned(),
        role: Role::Manager,
        secret_hash: [7; 32],
        created_at: time("2026-11-01T10:00:00Z"),
        expires_at: Some(time("2027-11-01T10:00:00Z")),
        last_used_at: None,
        bounds: Bounds::default(),
    };
    let bounds =
        Bounds { queues: Some(["small".into()].into()), priority_max: Some(-5), run_seconds_max: Some(600) };
    let (bob, ada) = (token("bob"), Token { bounds, ..token("ada") });
    bed.store.add_token(&bob).await.unwrap();
    bed.store.add_token(&ada).await.unwrap();
    assert!(matches!(bed.store.add_token(&ada).await, Err(StoreError::Conflict(_))));
    assert_eq!(bed.store.tokens().await.unwrap(), [ada.clone(), bob.clone()]);
    let used = bed.store.use_token(ada.id).await.unwrap().unwrap();
    let first = used.last_used_at.unwrap();
    assert_eq!(Token { last_used_at: None, ..used }, ada);
    bed.pass(30_000).await;
    assert_eq!(
        bed.store.use_token(ada.id).await.unwrap().unwrap().last_used_at,
        Some(first),
        "to the minute"
    );
    bed.pass(31_000).await;
    assert!(bed.store.use_token(ada.id).await.unwrap().unwrap().last_used_at > Some(first));
    bed.store.revoke_token(ada.id).await.unwrap();
    assert_eq!(bed.store.use_token(ada.id).await.unwrap(), None);
    assert!(matches!(bed.store.revoke_token(ada.id).await, Err(StoreError::NotFound { .. })));
}

async fn changes_are_recorded_newest_first(bed: &Bed) {
    for n in 0..3 {
        let record = AuditRecord {
            at: time("2000-01-01T00:00:00Z"),
            who: "ada".to_owned(),
            action: "task.cancel".to_owned(),
            object: format!("task/{n}"),
            detail: json!({"n": n}),
        };
        bed.store.audit(&record).await.unwrap();
    }
    let page = bed.store.audit_log(None, 2).await.unwrap();
    let objects: Vec<_> = page.items.iter().map(|record| record.object.as_str()).collect();
    assert_eq!(objects, ["task/2", "task/1"]);
    assert!(page.items[0].at > time("2020-01-01T00:00:00Z"), "the store's time");
    let rest = bed.store.audit_log(Some(page.next.unwrap().parse().unwrap()), 2).await.unwrap();
    assert_eq!((rest.items.len(), &rest.items[0].detail, rest.next), (1, &json!({"n": 0}), None));
}

fn rule_set(digit: &str) -> StoredRuleSet {
    StoredRuleSet {
        revision: Revision::new(format!("abcdef{}", digit.repeat(58))),
        content: format!("{{\"rules\": {digit}}}"),
        origin: "rules/".to_owned(),
        commit: None,
        by: "ada".to_owned(),
        created_at: time("2026-11-01T10:00:00Z"),
    }
}

async fn rule_sets_are_kept_by_content(bed: &Bed) {
    let (one, two) = (rule_set("1"), rule_set("2"));
    bed.store.put_rule_set(&one).await.unwrap();
    bed.store.put_rule_set(&StoredRuleSet { by: "bob".to_owned(), ..one.clone() }).await.unwrap();
    assert_eq!(bed.store.rule_set("abcdef").await.unwrap(), one, "the first import stays");
    bed.store.put_rule_set(&two).await.unwrap();
    assert!(matches!(bed.store.rule_set("abcdef").await, Err(StoreError::Conflict(_))));
    assert_eq!(bed.store.rule_set("abcdef2").await.unwrap(), two);
    assert_eq!(bed.store.rule_set(one.revision.as_str()).await.unwrap(), one);
    for odd in ["abcde", "abcdef3", "abcde%", ""] {
        assert!(matches!(bed.store.rule_set(odd).await, Err(StoreError::NotFound { .. })), "{odd}");
    }
}

async fn the_active_revision_is_a_row_that_all_follow(bed: &Bed) {
    assert_eq!(bed.store.active().await.unwrap(), None);
    let (one, two) = (rule_set("1"), rule_set("2"));
    bed.store.put_rule_set(&one).await.unwrap();
    let missing = bed.store.activate(&two.revision, None, "ada", Pin::Follow).await.unwrap_err();
    assert!(matches!(missing, StoreError::NotFound { .. }));
    bed.store.put_rule_set(&two).await.unwrap();
    let first = bed.store.activate(&one.revision, None, "ada", Pin::Follow).await.unwrap();
    assert_eq!(
        bed.store.activate(&one.revision, None, "bob", Pin::Follow).await.unwrap(),
        first,
        "changes nothing"
    );
    let conflict =
        bed.store.activate(&two.revision, Some(&two.revision), "bob", Pin::Follow).await.unwrap_err();
    assert!(matches!(conflict, StoreError::Conflict(_)));
    let second = bed.store.activate(&two.revision, Some(&one.revision), "bob", Pin::Follow).await.unwrap();
    let back = bed.store.activate(&one.revision, None, "ada", Pin::Follow).await.unwrap();
    assert!(first.serial < second.serial && second.serial < back.serial);
    assert_eq!(bed.store.active().await.unwrap(), Some(back.clone()));
    assert_eq!(bed.store.activations(2).await.unwrap(), [back, second]);
}

async fn a_rollback_holds_back_what_it_took_out_of_force(bed: &Bed) {
    let (one, two, three) = (rule_set("1"), rule_set("2"), rule_set("3"));
    for set in [&one, &two, &three] {
        bed.store.put_rule_set(set).await.unwrap();
    }
    let activate = async |set: &StoredRuleSet, pin: Pin| {
        bed.store.activate(&set.revision, None, "ada", pin).await.unwrap().held_back
    };
    assert_eq!(activate(&one, Pin::HoldBack).await, None, "nothing was in force");
    assert_eq!(activate(&two, Pin::Follow).await, None);
    let two_held = Some(two.revision.clone());
    assert_eq!(activate(&one, Pin::HoldBack).await, two_held);
    assert_eq!(activate(&three, Pin::Keep).await, two_held, "a switched rule changes nothing about it");
    assert_eq!(activate(&one, Pin::HoldBack).await, two_held, "the folder still holds the same");
    assert_eq!(bed.store.active().await.unwrap().unwrap().held_back, two_held);
    assert_eq!(activate(&one, Pin::Follow).await, None);
}
