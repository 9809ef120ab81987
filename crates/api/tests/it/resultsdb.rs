//! ResultsDB's interface, as its clients use it.

use super::bed::{Bed, both};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use store::Role;
use taskbot_api::{auth::Access, server::Limits};

both! {
    a_result_comes_back_as_it_was_reported, times_are_taken_in_all_their_forms, what_is_wrong_is_said_by_field, other_errors_are_messages, lists_are_filtered_and_cut_into_pages, the_newest_as_greenwave_asks, the_root_says_where_everything_is, many_report_at_once, what_is_empty_asks_for_nothing, groups_and_testcases_as_they_were_shown,
}

async fn add(bed: &Bed, body: Value) -> Value {
    let (status, stored) = bed.post("/api/v2.0/results", &body).await;
    assert_eq!(status, 201, "{stored}");
    stored
}

fn ids(page: &Value) -> Vec<i64> {
    page["data"].as_array().unwrap().iter().map(|result| result["id"].as_i64().unwrap()).collect()
}

async fn a_result_comes_back_as_it_was_reported() {
    let bed = Bed::open().await;
    let stored = add(
        &bed,
        json!({
            "_auth_token": "ignored",
            "outcome": " passed ",
            "testcase": {"name": "dist.rpmlint", "ref_url": "https://example.org/rpmlint"},
            "groups": ["0e6fd2c4-0000-4000-8000-000000000001", {"description": "a run"}],
            "note": "0 errors",
            "ref_url": "https://example.org/tasks/1",
            "submit_time": "2026-11-21T00:35:59.896125",
            "data": {"item": "tuxpaint-0.9.35-2.fc42", "type": ["koji_build"], "arch": ["x86_64", "noarch"], "n": 3, "b": true},
        }),
    )
    .await;
    let base = format!("http://{}/api/v2.0", bed.address);
    let id = stored["id"].as_i64().unwrap();
    let groups = stored["groups"].as_array().unwrap();
    assert_eq!((groups.len(), &groups[0]), (2, &json!("0e6fd2c4-0000-4000-8000-000000000001")));
    let expect = json!({
        "id": id,
        "href": format!("{base}/results/{id}"),
        "outcome": "PASSED",
        "testcase": {
            "name": "dist.rpmlint",
            "ref_url": "https://example.org/rpmlint",
            "href": format!("{base}/testcases/dist.rpmlint"),
        },
        "groups": groups,
        "note": "0 errors",
        "ref_url": "https://example.org/tasks/1",
        "submit_time": "2026-11-21T00:35:59.896125",
        "data": {
            "item": ["tuxpaint-0.9.35-2.fc42"], "type": ["koji_build"], "arch": ["x86_64", "noarch"], "n": ["3"], "b": ["True"],
        },
    });
    assert_eq!(stored, expect);
    assert_eq!(bed.get(&format!("/api/v2.0/results/{id}")).await, expect);
    let group = bed.get(&format!("/api/v2.0/groups/{}", groups[1].as_str().unwrap())).await;
    assert_eq!((&group["description"], &group["results_count"]), (&json!("a run"), &json!(1)));
    let listed = bed.get(&format!("/api/v2.0/groups/{}/results", groups[1].as_str().unwrap())).await;
    assert_eq!(ids(&listed), [id]);
    // The same result is one of the native interface's.
    let native = bed.get("/api/v1/results?item=tuxpaint-0.9.35-2.fc42").await;
    assert_eq!(native["items"][0]["id"], id);
    assert_eq!(native["items"][0]["outcome"], "passed");
    bed.end().await;
}

async fn times_are_taken_in_all_their_forms() {
    let bed = Bed::open().await;
    let check = async |given: Value, expect: &str| {
        let stored = add(&bed, json!({"outcome": "INFO", "testcase": "t", "submit_time": given})).await;
        assert_eq!(stored["submit_time"], expect);
    };
    check(json!(1_763_685_359_896_i64), "2025-11-21T00:35:59.896000").await;
    check(json!("1763685359000"), "2025-11-21T00:35:59").await;
    check(json!("2026-11-21T00:35:59.5Z"), "2026-11-21T00:35:59.500000").await;
    check(json!("2026-11-21T02:35:59+02"), "2026-11-21T00:35:59").await;
    check(json!("2026-11-21T02:35:59+02:00"), "2026-11-21T00:35:59").await;
    bed.end().await;
}

async fn what_is_wrong_is_said_by_field() {
    let bed = Bed::open().await;
    let check = async |body: Value, expect: &[(&str, Value, &str)]| {
        let (status, answer) = bed.post("/api/v2.0/results", &body).await;
        assert_eq!(status, 400, "{body}: {answer}");
        let found: Vec<_> = answer["validation_error"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .iter()
            .map(|entry| {
                assert!(entry["url"].is_string() && entry.get("input").is_some(), "{entry}");
                (entry["type"].as_str().unwrap(), entry["loc"].clone(), entry["msg"].as_str().unwrap())
            })
            .collect();
        let expect: Vec<_> = expect.iter().map(|(kind, place, text)| (*kind, place.clone(), *text)).collect();
        assert_eq!(found, expect, "{body}");
    };
    let outcomes =
        "Value error, must be one of: PASSED, INFO, FAILED, NEEDS_INSPECTION, QUEUED, RUNNING, ERROR";
    check(
        json!({}),
        &[
            ("missing", json!(["outcome"]), "Field required"),
            ("missing", json!(["testcase"]), "Field required"),
        ],
    )
    .await;
    check(json!({"outcome": "GREAT", "testcase": "t"}), &[("value_error", json!(["outcome"]), outcomes)])
        .await;
    check(
        json!({"outcome": "PASSED", "testcase": {"ref_url": "x"}}),
        &[("value_error", json!(["testcase"]), "Value error, testcase name must be non-empty")],
    )
    .await;
    let short = "String should have at least 1 character";
    check(json!({"outcome": " ", "testcase": "t"}), &[("string_too_short", json!(["outcome"]), short)]).await;
    for nameless in [json!(""), json!({}), json!({"name": ""}), json!({"name": null}), json!(null), json!([])]
    {
        check(
            json!({"outcome": "PASSED", "testcase": nameless}),
            &[("value_error", json!(["testcase"]), "Value error, testcase name must be non-empty")],
        )
        .await;
    }
    check(
        json!({"outcome": "PASSED", "testcase": 5, "ref_url": 1, "data": "x", "groups": "x", "submit_time": "now"}),
        &[
            ("dict_type", json!(["testcase"]), "Input should be a valid dictionary"),
            ("list_type", json!(["groups"]), "Input should be a valid list"),
            ("dict_type", json!(["data"]), "Input should be a valid dictionary"),
            ("string_type", json!(["ref_url"]), "Input should be a valid string"),
            (
                "value_error",
                json!(["submit_time"]),
                "Value error, Expected timestamp in milliseconds or datetime (in format \
                 YYYY-MM-DDTHH:MM:SS.ffffff), got 'now'",
            ),
        ],
    )
    .await;
    check(
        json!({"outcome": "PASSED", "testcase": "t", "submit_time": [true, null, {"it's": 1.5}], "data": {"a:b": 1}}),
        &[(
            "value_error",
            json!(["submit_time"]),
            "Value error, Expected timestamp in milliseconds or datetime (in format \
             YYYY-MM-DDTHH:MM:SS.ffffff), got [True, None, {\"it's\": 1.5}]",
        )],
    )
    .await;
    check(
        json!({"outcome": "PASSED", "testcase": "t", "note": 3}),
        &[("string_type", json!(["note"]), "Input should be a valid string")],
    )
    .await;
    let (status, answer) = bed
        .post("/api/v2.0/results", &json!({"outcome": "PASSED", "testcase": "t", "data": {"a:b": 1}}))
        .await;
    assert_eq!((status, answer), (400, json!({"message": "Colon not allowed in key name: ['a:b']"})));
    let (status, answer) = bed.post("/api/v2.0/testcases", &json!({"ref_url": "x"})).await;
    assert_eq!((status, &answer["validation_error"][0]["msg"]), (400, &json!("Field required")));
    let (status, answer) = bed.post("/api/v2.0/testcases", &json!({"name": ""})).await;
    let first = &answer["validation_error"][0];
    assert_eq!((status, &first["type"], &first["msg"]), (400, &json!("string_too_short"), &json!(short)));
    bed.end().await;
}

async fn other_errors_are_messages() {
    let bed = Bed::open().await;
    let check =
        async |method: Method, path: &str, kind: Option<&str>, body: &'static str, expect: (u16, &str)| {
            let mut request = bed.request(method, path).body(body);
            if let Some(kind) = kind {
                request = request.header(header::CONTENT_TYPE, kind);
            }
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let answer: Value = response.json().await.unwrap();
            let message = answer["message"].as_str().unwrap_or_else(|| panic!("{path}: {answer}"));
            assert_eq!((status, message), expect, "{path}");
        };
    let json = Some("application/json");
    check(Method::GET, "/api/v2.0/results/17", None, "", (404, "Result not found")).await;
    check(Method::GET, "/api/v2.0/results/abc", None, "", (404, "Result not found")).await;
    check(Method::GET, "/api/v2.0/groups/abc", None, "", (404, "Group not found")).await;
    check(Method::GET, "/api/v2.0/testcases/abc", None, "", (404, "Testcase not found")).await;
    check(Method::GET, "/api/v2.0/nothing", None, "", (404, "Not found")).await;
    check(Method::POST, "/api/v2.0/results", json, "{", (400, "Bad request")).await;
    let media = "the body must be JSON, and Content-Type: application/json say so";
    check(Method::POST, "/api/v2.0/results", Some("text/plain"), "{}", (415, media)).await;
    let method = "/api/v2.0/results does not take DELETE; see /docs";
    let response = bed.request(Method::DELETE, "/api/v2.0/results").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
    let filter = "Please, provide at least one filter beside '_distinct_on'";
    check(Method::GET, "/api/v2.0/results/latest?_distinct_on=arch", None, "", (400, filter)).await;
    let integer = "Input should be a valid integer, unable to parse string as an integer";
    let outcomes =
        "Value error, must be one of: PASSED, INFO, FAILED, NEEDS_INSPECTION, QUEUED, RUNNING, ERROR";
    for (field, wrong, message) in [
        ("limit", "x", integer),
        ("page", "x", integer),
        ("since", "yesterday", "Value error, must be in ISO8601 format"),
        ("outcome", "GREAT,PASSED,BETTER", outcomes),
    ] {
        let path = format!("/api/v2.0/results?{field}={wrong}");
        let response = bed.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 400, "{wrong}");
        let answer: Value = response.json().await.unwrap();
        let entries = answer["validation_error"].as_array().unwrap();
        let first = &entries[0];
        assert_eq!(
            (entries.len(), &first["loc"], &first["msg"], &first["input"]),
            (1, &json!([field]), &json!(message), &json!(wrong)),
            "{answer}"
        );
    }
    // What is there, and what can be done with it.
    let asked = bed.request(Method::OPTIONS, "/api/v2.0/results").send().await.unwrap();
    assert_eq!(
        (asked.status().as_u16(), &asked.headers()["allow"]),
        (200, &"GET,HEAD,POST".parse().unwrap())
    );
    assert_eq!(asked.text().await.unwrap(), "");
    bed.end().await;
}

async fn lists_are_filtered_and_cut_into_pages() {
    let bed = Bed::open().await;
    let mut all = Vec::new();
    for (n, outcome) in ["PASSED", "FAILED", "QUEUED"].iter().enumerate() {
        let stored = add(
            &bed,
            json!({"outcome": outcome, "testcase": format!("dist.t{n}"), "data": {"item": format!("p-{n}-1"), "type": "koji_build"}}),
        )
        .await;
        all.push(stored["id"].as_i64().unwrap());
    }
    let (one, two, three) = (all[0], all[1], all[2]);
    let check = async |query: &str, expect: &[i64]| {
        assert_eq!(ids(&bed.get(&format!("/api/v2.0/results{query}")).await), expect, "{query}");
    };
    check("", &[three, two, one]).await;
    check("?_sort=asc:submit_time", &[one, two, three]).await;
    check("?outcome=failed,QUEUED", &[three, two]).await;
    check("?outcome=FAILED&outcome=PASSED", &[two, one]).await;
    check("?testcases=dist.t0,dist.t1", &[two, one]).await;
    check("?testcases:like=*t2", &[three]).await;
    check("?item=p-1-1&type=koji_build", &[two]).await;
    check("?item=p-1-1,p-2-1", &[three, two]).await;
    check("?item:like=p-*", &[three, two, one]).await;
    check("?item=p-1-1&type=bodhi_update", &[]).await;
    check("?since=2000-01-01T00:00:00,2001-01-01", &[]).await;
    check("?since=2000-01-01", &[three, two, one]).await;
    check("?testcases=dist.t0&testcases:like=*t2", &[three, one]).await;
    check("?_sort=up", &[three, two, one]).await;
    check("?since=2000", &[three, two, one]).await;
    check("?item:other=p-1-1", &[two]).await;
    let page = bed.get("/api/v2.0/results?limit=1&page=1&type=koji_build").await;
    let at =
        |n: u32| json!(format!("http://{}/api/v2.0/results?limit=1&page={n}&type=koji_build", bed.address));
    assert_eq!((ids(&page), &page["prev"], &page["next"]), (vec![two], &at(0), &at(2)));
    let page = bed.get("/api/v2.0/results?limit=1&page=2").await;
    assert_eq!((ids(&page), &page["next"]), (vec![one], &Value::Null));
    let names = bed.get("/api/v2.0/testcases?name:like=dist.*&limit=2").await;
    assert_eq!(names["data"][1]["name"], "dist.t1");
    let of = bed.get("/api/v2.0/testcases/dist.t1/results").await;
    assert_eq!(ids(&of), [two]);
    bed.end().await;
}

async fn the_newest_as_greenwave_asks() {
    let bed = Bed::open().await;
    let report = async |testcase: &str, outcome: &str, arch: &str| {
        let data = json!({"item": "p-1-1", "type": "koji_build", "system_architecture": arch});
        let stored = add(&bed, json!({"outcome": outcome, "testcase": testcase, "data": data})).await;
        stored["id"].as_i64().unwrap()
    };
    report("a", "RUNNING", "x86_64").await;
    let arm = report("a", "FAILED", "aarch64").await;
    let x86 = report("a", "PASSED", "x86_64").await;
    let b = report("b", "PASSED", "x86_64").await;
    let query = "/api/v2.0/results/latest?item=p-1-1&type=koji_build";
    assert_eq!(ids(&bed.get(query).await), [b, x86]);
    let distinct = format!(
        "{query}&_distinct_on=scenario,system_architecture,system_variant&since=1900-01-01T00:00:00.000000,2100-01-01T00:00:00"
    );
    let found = bed.get(&distinct).await;
    assert_eq!(ids(&found), [b, x86, arm]);
    assert_eq!(found.as_object().unwrap().len(), 1, "no links to pages: {found}");
    assert_eq!(ids(&bed.get(&format!("{distinct}&testcases=a")).await), [x86, arm]);
    // However it ended.
    assert_eq!(ids(&bed.get(&format!("{query}&outcome=FAILED")).await), [b, x86]);
    bed.end().await;
}

async fn the_root_says_where_everything_is() {
    let bed = Bed::open().await;
    let response = bed.request(Method::GET, "/api/v2.0").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::MULTIPLE_CHOICES);
    let root: Value = response.json().await.unwrap();
    assert_eq!(root["results"], format!("http://{}/api/v2.0/results", bed.address));
    let outcomes = ["PASSED", "INFO", "FAILED", "NEEDS_INSPECTION", "QUEUED", "RUNNING", "ERROR"];
    assert_eq!(root["outcomes"], json!(outcomes));
    assert_eq!(bed.get("/api/v2.0/healthcheck").await["message"], "Health check OK");
    bed.end().await;
}

async fn many_report_at_once() {
    let bed = Bed::open().await;
    // Those that come together are written together; one that cannot be kept is refused alone.
    let poisoned = 17;
    let report = async |number: usize| {
        let value = if number == poisoned { "\0" } else { "fine" };
        let data = json!({"item": "one", "key": value});
        let body = json!({"outcome": "PASSED", "testcase": format!("t{}", number % 3), "data": data});
        bed.post("/api/v2.0/results", &body).await
    };
    let all = futures_util::future::join_all((0..40).map(report)).await;
    for (number, (status, stored)) in all.iter().enumerate() {
        assert_eq!(*status == 201, number != poisoned, "{number}: {stored}");
        if number != poisoned {
            assert_eq!(stored["testcase"]["name"], format!("t{}", number % 3));
        }
    }
    let listed = ids(&bed.get("/api/v2.0/results?item=one&limit=100").await);
    let mut told: Vec<_> = all.iter().filter_map(|(_, stored)| stored["id"].as_i64()).collect();
    told.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(listed, told);
    bed.end().await;
}

async fn what_is_empty_asks_for_nothing() {
    let bed = Bed::open().await;
    let one = add(
        &bed,
        json!({"outcome": "PASSED", "testcase": "t", "groups": ["g"], "data": {"item": "p-1-1", "empty": ""}}),
    )
    .await["id"]
        .as_i64()
        .unwrap();
    let check = async |query: &str, expect: &[i64]| {
        assert_eq!(ids(&bed.get(&format!("/api/v2.0/results?{query}")).await), expect, "{query}");
    };
    for query in [
        "testcases=",
        "groups=",
        "outcome=",
        "testcases:like=",
        "testcases=,t,",
        "testcases=+t+",
        "since=",
        "page=",
    ] {
        check(query, &[one]).await;
    }
    // A value that is nothing is a value.
    check("item=", &[]).await;
    check("item=p-1-1&type=", &[]).await;
    check("empty=", &[one]).await;
    for (path, count) in [("testcases?name=", 1), ("groups?uuid=", 1), ("groups?description=", 1)] {
        let listed = bed.get(&format!("/api/v2.0/{path}")).await;
        assert_eq!(listed["data"].as_array().unwrap().len(), count, "{path}");
    }
    for path in ["_distinct_on=arch&testcases=", "_distinct_on=arch&groups=&since="] {
        let latest = bed.request(Method::GET, &format!("/api/v2.0/results/latest?{path}"));
        assert_eq!(latest.send().await.unwrap().status(), 400, "{path}");
    }
    bed.end().await;
}

async fn groups_and_testcases_as_they_were_shown() {
    let bed = Bed::open().await;
    let base = format!("http://{}/api/v2.0", bed.address);
    let (status, group) = bed.post("/api/v2.0/groups", &json!({"uuid": "g+1", "description": "d"})).await;
    let expect = json!({
        "uuid": "g+1", "description": "d", "ref_url": null, "results_count": 0,
        "href": format!("{base}/groups/g+1"), "results": format!("{base}/results?groups=g%2B1"),
    });
    assert_eq!((status, group), (201, expect));
    let name = "fedora-ci.koji-build./plans/basic (gtk+)";
    let (status, testcase) = bed.post("/api/v2.0/testcases", &json!({"name": name})).await;
    let href = format!("{base}/testcases/fedora-ci.koji-build./plans/basic%20(gtk+)");
    assert_eq!((status, testcase), (201, json!({"name": name, "ref_url": null, "href": href})));
    assert_eq!(bed.get(href.split_once(&bed.address.to_string()).unwrap().1).await["name"], name);
    for (path, message) in
        [("/groups/none/results", "Group not found: none"), ("/testcases/none/results", "Testcase not found")]
    {
        let answer = bed.request(Method::GET, &format!("/api/v2.0{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
        assert_eq!(answer.json::<Value>().await.unwrap(), json!({"message": message}));
    }
    bed.end().await;
}

#[tokio::test]
async fn tokens_come_in_the_ways_of_its_clients() {
    let bed = Bed::with(Access::tokens_only(), Limits::default()).await;
    let (token, viewer) = (bed.token(Role::Submitter, 60).await, bed.token(Role::Viewer, 60).await);
    let body = |token: &str| json!({"_auth_token": token, "name": "t"});
    let post = || bed.request(Method::POST, "/api/v2.0/testcases");
    for (request, expect) in [
        (post().json(&body("x")), 401),
        (post().json(&body("tb_1_2")), 401),
        (post().json(&body(&token)), 201),
        (post().json(&body(&viewer)), 403),
        (post().json(&body("x")).basic_auth("me", Some(&token)), 201),
        (post().json(&body(&token)).basic_auth("me", Some("password")), 201),
        (post().json(&body("x")).basic_auth("me", Some("password")), 401),
        (post().json(&body(&token)).bearer_auth(&viewer), 403),
        (bed.request(Method::GET, "/api/v2.0/results").basic_auth("me", Some(&viewer)), 200),
        // They hold here alone.
        (bed.request(Method::POST, "/api/v1/retests").json(&json!({"_auth_token": token})), 401),
        (bed.request(Method::GET, "/api/v1/tasks").basic_auth("me", Some(&viewer)), 401),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), expect, "{:?}", answer.text().await);
    }
    bed.end().await;
    // As ResultsDB did: whoever may do it without a token may show what is none.
    let bed = Bed::open().await;
    let shown = bed.request(Method::POST, "/api/v2.0/testcases").basic_auth("me", Some("password"));
    assert_eq!(shown.json(&body("x")).send().await.unwrap().status(), 201);
    bed.end().await;
}
