//! Results as ResultsDB knows them.

use crate::harness::*;
use chrono::{DateTime, Duration, Utc};
use model::{Item, Outcome, ids::ResultId, result::NewResult};
use std::collections::BTreeMap;
use store::{Entry, EntryQuery, NewEntry, ResultGroup, ResultQuery, StoreError, Testcase, Wanted};

conformance!(
    entries_are_kept_with_all_that_was_said,
    entries_are_also_results,
    results_of_tasks_are_entries,
    entries_are_asked_for_by_their_values,
    entries_come_in_the_order_of_their_times,
    the_newest_of_each_testcase,
    the_newest_of_each_scenario,
    long_values_are_found,
    testcases_and_groups_are_kept,
    many_at_once_are_as_one_by_one,
);

fn entry(testcase: &str, said: &str, data: &[(&str, &[&str])]) -> NewEntry {
    let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    NewEntry {
        testcase: Testcase { name: testcase.to_owned(), ref_url: None },
        outcome: if said == "PASSED" { Outcome::Passed } else { Outcome::Failed },
        said: said.to_owned(),
        note: None,
        ref_url: None,
        data: data.iter().map(|(key, list)| ((*key).to_owned(), values(list))).collect(),
        groups: Vec::new(),
        at: None,
        who: "reporter".to_owned(),
    }
}

async fn add(bed: &Bed, new: &NewEntry) -> Entry {
    bed.store.add_entries(std::slice::from_ref(new)).await.unwrap().pop().unwrap()
}

fn group(id: &str, description: Option<&str>) -> ResultGroup {
    ResultGroup { id: id.to_owned(), description: description.map(str::to_owned), ref_url: None, results: 0 }
}

fn any_of(values: &[&str]) -> Wanted {
    Wanted::AnyOf(values.iter().map(|value| (*value).to_owned()).collect())
}

fn like(patterns: &[&str]) -> Wanted {
    Wanted::Like(patterns.iter().map(|pattern| (*pattern).to_owned()).collect())
}

fn ids(entries: &[Entry]) -> Vec<ResultId> {
    entries.iter().map(|entry| entry.id).collect()
}

async fn list(bed: &Bed, query: EntryQuery) -> Vec<ResultId> {
    ids(&bed.store.entries(&EntryQuery { limit: 100, ..query }).await.unwrap().0)
}

async fn entries_are_kept_with_all_that_was_said(bed: &Bed) {
    let at: DateTime<Utc> = "2026-01-02T03:04:05.678901Z".parse().unwrap();
    let new = NewEntry {
        testcase: Testcase { name: "dist.x".to_owned(), ref_url: Some("https://example.org/x".to_owned()) },
        note: Some("a note".to_owned()),
        ref_url: Some("https://example.org/1".to_owned()),
        groups: vec![group("b", Some("second")), group("a", None)],
        at: Some(at),
        ..entry("dist.x", "QUEUED", &[("item", &["n-1-1"]), ("type", &["koji_build"]), ("tag", &["x", "y"])])
    };
    let stored = add(bed, &new).await;
    assert_eq!(stored, bed.store.entry(stored.id).await.unwrap());
    assert_eq!(
        (stored.testcase, stored.said.as_deref(), stored.note, stored.ref_url, stored.data, stored.at),
        (new.testcase, Some("QUEUED"), new.note, new.ref_url, new.data, at)
    );
    assert_eq!(stored.groups, ["b", "a"]);
    let missing = bed.store.entry(ResultId(stored.id.0 + 1)).await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "result", .. })), "{missing:?}");
}

async fn entries_are_also_results(bed: &Bed) {
    let data: &[(&str, &[&str])] = &[("item", &["n-1-1"]), ("type", &["koji_build"]), ("arch", &["x86_64"])];
    let first = add(bed, &entry("dist.x", "PASSED", data)).await;
    add(bed, &entry("dist.x", "FAILED", data)).await;
    let query = ResultQuery { testcase: Some("dist.x".to_owned()), limit: 10, ..Default::default() };
    let results = bed.store.results(&query).await.unwrap().items;
    assert_eq!(results.len(), 2);
    assert_eq!(results[1].id, first.id);
    assert_eq!(results[0].item, Some(Item::new("koji_build", "n-1-1")));
    assert_eq!(results[0].previous_outcome, Some(Outcome::Passed));
}

async fn results_of_tasks_are_entries(bed: &Bed) {
    let part = result("dist.lint.part", "failed");
    let top = NewResult {
        item: Some(Item::new("koji_build", "n-1-1")),
        data: [("arch".to_owned(), "x86_64".into()), ("deep".to_owned(), serde_json::json!({"x": 1}))]
            .into_iter()
            .collect(),
        children: vec![part],
        ..result("dist.lint", "failed")
    };
    bed.queue(&[ready("a")]).await;
    let claimed = bed.claim_one().await;
    let mut request = finish(claimed.attempt, "failed");
    request.results = vec![top];
    bed.store.finish(claimed.task.id, &request).await.unwrap();
    let query = EntryQuery { data: vec![("item".to_owned(), any_of(&["n-1-1"]))], ..Default::default() };
    let found = bed.store.entries(&EntryQuery { limit: 10, ..query }).await.unwrap().0;
    assert_eq!(found.len(), 1, "the part is not published: {found:?}");
    let values = |list: &[(&str, &str)]| -> BTreeMap<String, Vec<String>> {
        list.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()])).collect()
    };
    assert_eq!(found[0].data, values(&[("arch", "x86_64"), ("item", "n-1-1"), ("type", "koji_build")]));
    assert_eq!((found[0].said.as_ref(), found[0].task), (None, Some(claimed.task.id)));
    let failed = |own: &str| EntryQuery {
        outcomes: vec!["FAILED".to_owned()],
        own_outcomes: vec![own.to_owned()],
        ..Default::default()
    };
    assert_eq!(list(bed, failed("failed")).await, ids(&found));
    assert_eq!(list(bed, failed("passed")).await, []);
    assert_eq!(bed.store.testcase("dist.lint").await.unwrap().ref_url, None);
}

async fn entries_are_asked_for_by_their_values(bed: &Bed) {
    let add = async |testcase, said, data| add(bed, &entry(testcase, said, data)).await.id;
    let one = add("dist.a", "PASSED", &[("item", &["n-1-1"]), ("type", &["koji_build"])]).await;
    let two = add("dist.b", "FAILED", &[("item", &["n-1-1", "m-2-1"]), ("type", &["koji_build"])]).await;
    let three =
        add("dist.a.sub", "NOTED", &[("item", &["F42"]), ("type", &["compose"]), ("x_y", &["50%"])]).await;
    let check = async |query: EntryQuery, expect: &[ResultId]| {
        let shown = format!("{query:?}");
        assert_eq!(list(bed, query).await, expect, "{shown}");
    };
    let data = |list: &[(&str, Wanted)]| EntryQuery {
        data: list.iter().map(|(key, wanted)| ((*key).to_owned(), wanted.clone())).collect(),
        ..Default::default()
    };
    check(EntryQuery::default(), &[three, two, one]).await;
    check(EntryQuery { ascending: true, ..Default::default() }, &[one, two, three]).await;
    check(data(&[("item", any_of(&["n-1-1"]))]), &[two, one]).await;
    check(data(&[("item", any_of(&["n-1-1", "m-2-1", "F42"]))]), &[three, two, one]).await;
    check(data(&[("item", any_of(&["n-1-1"])), ("type", any_of(&["compose"]))]), &[]).await;
    check(data(&[("type", any_of(&["koji_build"])), ("item", any_of(&["m-2-1"]))]), &[two]).await;
    check(data(&[("item", like(&["n-*"]))]), &[two, one]).await;
    check(data(&[("item", like(&["*-1", "F4*"]))]), &[three, two, one]).await;
    check(data(&[("item", like(&["N-*"]))]), &[]).await;
    check(data(&[("item", like(&["?-*", "[n]-*"]))]), &[]).await;
    check(data(&[("x_y", like(&["50%"]))]), &[three]).await;
    check(data(&[("x_y", like(&["5_%"]))]), &[]).await;
    check(data(&[("none", any_of(&["x"]))]), &[]).await;
    let testcases = |wanted| EntryQuery { testcases: vec![wanted], ..Default::default() };
    check(testcases(any_of(&["dist.a"])), &[one]).await;
    check(testcases(any_of(&["dist.a", "dist.b"])), &[two, one]).await;
    check(testcases(like(&["dist.a*"])), &[three, one]).await;
    let failed = EntryQuery { outcomes: vec!["FAILED".to_owned(), "NOTED".to_owned()], ..Default::default() };
    check(failed.clone(), &[three, two]).await;
    check(EntryQuery { testcases: vec![like(&["*.b"])], ..failed }, &[two]).await;
    let (page, more) =
        bed.store.entries(&EntryQuery { limit: 1, offset: 1, ..Default::default() }).await.unwrap();
    assert_eq!((ids(&page), more), (vec![two], true));
    let (page, more) =
        bed.store.entries(&EntryQuery { limit: 2, offset: 1, ..Default::default() }).await.unwrap();
    assert_eq!((ids(&page), more), (vec![two, one], false));
}

async fn entries_come_in_the_order_of_their_times(bed: &Bed) {
    let now: DateTime<Utc> = "2026-01-02T03:04:05Z".parse().unwrap();
    let add = async |minutes| {
        let at = Some(now - Duration::minutes(minutes));
        let new =
            NewEntry { at, groups: vec![group("g", None)], ..entry("dist.a", "PASSED", &[("item", &["x"])]) };
        add(bed, &new).await.id
    };
    let (old, new, middle) = (add(30).await, add(10).await, add(20).await);
    let item = || vec![("item".to_owned(), any_of(&["x"]))];
    assert_eq!(list(bed, EntryQuery::default()).await, [new, middle, old]);
    assert_eq!(list(bed, EntryQuery { data: item(), ..Default::default() }).await, [new, middle, old]);
    let groups = EntryQuery { groups: vec!["g".to_owned()], ascending: true, ..Default::default() };
    assert_eq!(list(bed, groups).await, [old, middle, new]);
    let since = EntryQuery { since: Some(now - Duration::minutes(20)), ..Default::default() };
    assert_eq!(list(bed, since.clone()).await, [new, middle]);
    let within = EntryQuery { until: Some(now - Duration::minutes(15)), data: item(), ..since };
    assert_eq!(list(bed, within).await, [middle]);
}

async fn the_newest_of_each_testcase(bed: &Bed) {
    let add =
        async |testcase, said, item: &str| add(bed, &entry(testcase, said, &[("item", &[item])])).await.id;
    add("dist.a", "PASSED", "x").await;
    let b = add("dist.b", "PASSED", "x").await;
    let a = add("dist.a", "FAILED", "x").await;
    let other = add("dist.a", "PASSED", "y").await;
    let latest = async |query: EntryQuery| ids(&bed.store.latest_entries(&query, &[]).await.unwrap());
    let item = |name: &str| vec![("item".to_owned(), any_of(&[name]))];
    assert_eq!(latest(EntryQuery::default()).await, [other, b]);
    assert_eq!(latest(EntryQuery { data: item("x"), ..Default::default() }).await, [a, b]);
    let named = || vec![any_of(&["dist.a", "dist.b", "dist.none"])];
    assert_eq!(latest(EntryQuery { testcases: named(), ..Default::default() }).await, [other, b]);
    let both = EntryQuery { testcases: named(), data: item("x"), ..Default::default() };
    assert_eq!(latest(both).await, [a, b]);
}

async fn the_newest_of_each_scenario(bed: &Bed) {
    let add = async |testcase, scenario: Option<&str>| {
        let mut new = entry(testcase, "PASSED", &[("item", &["x"])]);
        if let Some(scenario) = scenario {
            new.data.insert("scenario".to_owned(), vec![scenario.to_owned()]);
        }
        add(bed, &new).await.id
    };
    add("dist.a", Some("kde")).await;
    let kde = add("dist.a", Some("kde")).await;
    let gnome = add("dist.a", Some("gnome")).await;
    let none = add("dist.a", None).await;
    let query = EntryQuery { data: vec![("item".to_owned(), any_of(&["x"]))], ..Default::default() };
    let distinct = ["scenario".to_owned(), "system_architecture".to_owned()];
    let latest = bed.store.latest_entries(&query, &distinct).await.unwrap();
    assert_eq!(ids(&latest), [none, gnome, kde]);
}

async fn long_values_are_found(bed: &Bed) {
    let long = "ä".repeat(4000);
    let other = format!("{long}!");
    let add = async |value: &str| add(bed, &entry("dist.a", "PASSED", &[("note", &[value])])).await;
    let stored = add(&long).await;
    add(&other).await;
    assert_eq!(stored.data["note"], [long.as_str()]);
    let query = EntryQuery { data: vec![("note".to_owned(), any_of(&[&long]))], ..Default::default() };
    assert_eq!(list(bed, query).await, [stored.id]);
}

async fn testcases_and_groups_are_kept(bed: &Bed) {
    let put = async |name: &str, url: Option<&str>| {
        let testcase = Testcase { name: name.to_owned(), ref_url: url.map(str::to_owned) };
        bed.store.put_testcase(&testcase).await.unwrap()
    };
    assert!(put("dist.b", Some("https://example.org/b")).await);
    assert!(put("dist.a/b?", None).await);
    assert!(!put("dist.b", None).await, "nothing is forgotten");
    assert_eq!(bed.store.testcase("dist.b").await.unwrap().ref_url.as_deref(), Some("https://example.org/b"));
    let names = async |wanted: Option<Wanted>| {
        let found = bed.store.testcases(wanted.as_ref(), 0, 10).await.unwrap().0;
        found.into_iter().map(|testcase| testcase.name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(None).await, "dist.a/b? dist.b");
    assert_eq!(names(Some(like(&["*b"]))).await, "dist.b");
    assert_eq!(names(Some(any_of(&["dist.a/b?", "x"]))).await, "dist.a/b?");
    let missing = bed.store.testcase("x").await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "testcase", .. })), "{missing:?}");

    assert!(bed.store.put_group(&group("g", Some("first"))).await.unwrap());
    assert!(!bed.store.put_group(&group("g", None)).await.unwrap());
    bed.store.put_group(&group("h", Some("second one"))).await.unwrap();
    let new =
        NewEntry { groups: vec![group("g", None), group("new", None)], ..entry("dist.b", "PASSED", &[]) };
    add(bed, &new).await;
    let stored = bed.store.group("g").await.unwrap();
    assert_eq!((stored.description.as_deref(), stored.results), (Some("first"), 1));
    let groups = async |ids: Option<Wanted>, texts: Option<Wanted>| {
        let found = bed.store.groups(ids.as_ref(), texts.as_ref(), 0, 10).await.unwrap().0;
        found.into_iter().map(|group| group.id).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(groups(None, None).await, "new h g");
    assert_eq!(groups(Some(any_of(&["g", "h"])), None).await, "h g");
    assert_eq!(groups(None, Some(like(&["*one"]))).await, "h");
    let missing = bed.store.group("x").await;
    assert!(matches!(missing, Err(StoreError::NotFound { what: "group", .. })), "{missing:?}");
}

async fn many_at_once_are_as_one_by_one(bed: &Bed) {
    let link =
        |name: &str, link: Option<&str>| Testcase { name: name.to_owned(), ref_url: link.map(str::to_owned) };
    let data: &[(&str, &[&str])] = &[("item", &["n-1-1"]), ("type", &["koji_build"])];
    let many = [
        NewEntry { groups: vec![group("g", None), group("h", None)], ..entry("dist.b", "PASSED", data) },
        NewEntry { testcase: link("dist.a", Some("https://example.org/a")), ..entry("", "FAILED", data) },
        NewEntry { groups: vec![group("g", Some("said later"))], ..entry("dist.a", "PASSED", data) },
    ];
    let stored = bed.store.add_entries(&many).await.unwrap();
    assert_eq!(
        stored.iter().map(|entry| entry.testcase.name.as_str()).collect::<Vec<_>>(),
        ["dist.b", "dist.a", "dist.a"]
    );
    assert!(stored.is_sorted_by_key(|entry| entry.id));
    assert_eq!(stored[0].groups, ["g", "h"]);
    assert_eq!(stored[2].testcase.ref_url.as_deref(), Some("https://example.org/a"));
    for entry in &stored {
        assert_eq!(*entry, bed.store.entry(entry.id).await.unwrap());
        let audited = bed.store.audit_log(None, 10).await.unwrap().items;
        let record = audited.iter().find(|record| record.object == format!("results/{}", entry.id)).unwrap();
        assert_eq!((record.who.as_str(), record.action.as_str()), ("reporter", "result.add"));
    }
    assert_eq!(bed.store.group("g").await.unwrap().description.as_deref(), Some("said later"));
    assert_eq!(bed.store.group("g").await.unwrap().results, 2);
    // One that the database refuses takes all with it.
    let poisoned = entry("dist.c", "PASSED", &[("key", &["\0"])]);
    let refused = bed.store.add_entries(&[entry("dist.c", "PASSED", data), poisoned]).await;
    assert!(matches!(refused, Err(StoreError::Poison(_))), "{refused:?}");
    assert!(matches!(bed.store.testcase("dist.c").await, Err(StoreError::NotFound { .. })));
    assert_eq!(bed.store.audit_log(None, 10).await.unwrap().items.len(), 3);
}
