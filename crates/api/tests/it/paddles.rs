//! paddles' interface: what teuthology's reporter, scheduler and lock keeper send, what pulpito asks, and what its first
//! description shows. Every case runs on SQLite and on PostgreSQL.

use super::bed::{Bed, loopback};
use reqwest::{Method, Response, header, redirect::Policy};
use serde_json::{Value, json};
use std::process::Command;
use store::Role;
use taskbot_api::{Interface, Interfaces, paddles::Settings};

/// One test for each case and database; each has a server of its own.
macro_rules! on_both {
    ($($case:ident),* $(,)?) => {
        $crate::paddles::on_both!(@ sqlite, Sqlite, $($case),*);
        $crate::paddles::on_both!(@ postgres, Postgres, $($case),*);
    };
    (@ $name:ident, $kind:ident, $($case:ident),*) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let test = async {
                        let bed = $crate::paddles::serving().await;
                        super::$case(&bed).await;
                        bed.end().await;
                    };
                    $crate::bed::KIND.scope($crate::bed::Kind::$kind, test).await;
                }
            )*
        }
    };
}
pub(crate) use on_both;

on_both![
    runs,
    reporting_a_run,
    statuses_and_computed_fields,
    filters_are_chained,
    jobs_are_listed,
    the_first_description,
    large_runs_are_sent_whole,
    what_is_wrong_is_said_in_json,
];

const RUN: &str = "teuthology-2013-09-25_23:00:06-rados-master-testing-basic-plana";

fn interfaces() -> Interfaces {
    let log_href = Some("http://logs.example.org/{run_name}/{job_id}/teuthology.log".to_owned());
    Interfaces { paddles: Some(Settings { log_href, ..Settings::default() }), ..Interfaces::default() }
}

/// A server that serves it so.
pub(crate) async fn serving() -> Bed {
    Bed::serving(interfaces(), loopback(Role::Admin)).await
}

async fn send(bed: &Bed, method: Method, path: &str, body: Option<&str>) -> Response {
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    let mut request = client.request(method, format!("http://{}/compat/paddles{path}", bed.address));
    if let Some(body) = body {
        request = request.body(body.to_owned());
    }
    request.send().await.unwrap()
}

pub(crate) async fn ask(bed: &Bed, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let body = (!body.is_null()).then(|| body.to_string());
    // Without a content type, as the lock keeper sends it.
    let response = send(bed, method, path, body.as_deref()).await;
    assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*", "{path}");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json", "{path}");
    (response.status().as_u16(), response.json().await.unwrap())
}

pub(crate) async fn get(bed: &Bed, path: &str) -> Value {
    let (status, answer) = ask(bed, Method::GET, path, &Value::Null).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Checks what a request is answered with.
pub(crate) async fn check(bed: &Bed, method: &str, path: &str, body: Value, status: u16, expect: Value) {
    let answer = ask(bed, method.parse().unwrap(), path, &body).await;
    assert_eq!(answer, (status, expect), "{method} {path} {body}");
}

/// Checks the message of a refusal.
pub(crate) async fn refused(bed: &Bed, method: &str, path: &str, body: Value, status: u16, message: &str) {
    check(bed, method, path, body, status, json!({"message": message})).await;
}

pub(crate) async fn post_job(bed: &Bed, run: &str, job: Value) {
    let (status, answer) = ask(bed, Method::POST, &format!("/runs/{run}/jobs/"), &job).await;
    assert_eq!(status, 200, "{answer}");
}

pub(crate) fn names(runs: &Value) -> Vec<&str> {
    runs.as_array().unwrap().iter().map(|run| run["name"].as_str().unwrap()).collect()
}

pub(crate) fn is_time(text: &Value) -> bool {
    chrono::NaiveDateTime::parse_from_str(text.as_str().unwrap_or_default(), "%Y-%m-%d %H:%M:%S%.f").is_ok()
}

async fn runs(bed: &Bed) {
    check(bed, "GET", "/", Value::Null, 200, json!({})).await;
    check(bed, "GET", "/runs/", Value::Null, 200, json!([])).await;
    check(bed, "POST", "/runs/", json!({"name": RUN}), 200, json!({})).await;
    refused(bed, "POST", "/runs/", json!({"name": RUN}), 400, &format!("run with name {RUN} already exists"))
        .await;
    refused(bed, "POST", "/runs/", json!({}), 400, "could not find required key: 'name'").await;
    refused(bed, "POST", "/runs/", json!([]), 400, "could not decode JSON body").await;
    let run = get(bed, &format!("/runs/{RUN}/")).await;
    let posted = run["posted"].clone();
    assert!(is_time(&posted), "{posted}");
    let href = format!("http://{}/compat/paddles/runs/{RUN}/", bed.address);
    assert_eq!(
        run,
        json!({
            "name": RUN, "href": [href], "user": "teuthology", "status": "empty", "jobs_count": 0, "jobs": [],
            "results": {"queued": 0, "pass": 0, "running": 0, "waiting": 0, "fail": 0, "dead": 0, "unknown": 0,
                "total": 0, "sha1": "none", "flavor": "none"},
            "posted": posted, "scheduled": "2013-09-25 23:00:06", "started": null, "updated": null, "branch": "master",
            "suite": "rados", "machine_type": "plana", "sha1": "none", "priority": null, "flavor": "none",
        })
    );
    check(bed, "POST", "/runs/", json!({"name": "another"}), 200, json!({})).await;
    assert_eq!(names(&get(bed, "/runs/").await), ["another", RUN]);
    assert_eq!(names(&get(bed, "/runs/?count=1&page=2").await), [RUN]);
    check(bed, "GET", "/runs/?page=9", Value::Null, 200, json!([])).await;
    check(
        bed,
        "GET",
        "/runs/?count=1&fields=name,status",
        Value::Null,
        200,
        json!([{"name": "another", "status": "empty"}]),
    )
    .await;
    refused(bed, "GET", "/runs/?fields=name,x", Value::Null, 400, "an invalid field was specified").await;
    refused(bed, "GET", "/runs/?count=x", Value::Null, 400, "count must be an integer").await;
    // What a place does not take is answered as if it were asked for.
    for (method, path) in [
        ("PUT", format!("/runs/{RUN}/")),
        ("PATCH", format!("/runs/{RUN}/")),
        ("OPTIONS", format!("/runs/{RUN}/")),
    ] {
        let (status, answer) = ask(bed, method.parse().unwrap(), &path, &json!({})).await;
        assert_eq!((status, &answer["name"]), (200, &json!(RUN)), "{method}");
    }
    // Without a slash there is a way to where there is one.
    for (method, path) in [(Method::GET, format!("/runs/{RUN}")), (Method::HEAD, format!("/runs/{RUN}?a=b"))]
    {
        let response = send(bed, method, &path, None).await;
        assert_eq!(response.status(), 302);
        let to = path
            .split_once('?')
            .map_or_else(|| format!("{path}/"), |(path, query)| format!("{path}/?{query}"));
        assert_eq!(response.headers()[header::LOCATION], format!("/compat/paddles{to}"));
    }
    assert_eq!(send(bed, Method::GET, "", None).await.headers()[header::LOCATION], "/compat/paddles/");
    for (path, status) in [(format!("/runs/{RUN}/"), 200), ("/runs/x/".to_owned(), 404)] {
        let response = send(bed, Method::HEAD, &path, None).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.text().await.unwrap(), "");
    }
    refused(bed, "GET", "/runs/x/", Value::Null, 404, "requested run not found").await;
    check(bed, "DELETE", "/runs/another/", Value::Null, 200, json!({})).await;
    refused(bed, "DELETE", "/runs/another/", Value::Null, 404, "attempted to delete a non-existent run")
        .await;
}

/// What teuthology's reporter sends, in its order.
async fn reporting_a_run(bed: &Bed) {
    let jobs = format!("/runs/{RUN}/jobs/");
    assert_eq!(send(bed, Method::HEAD, &format!("/runs/{RUN}/"), None).await.status(), 404);
    let config = json!({
        "job_id": "145", "name": RUN, "status": "queued", "suite": "rados", "suite-branch": "main", "branch": "master",
        "machine_type": "plana", "description": "rados:verify/{a.yaml}", "priority": 100, "seed": 7, "subset": "1/2",
        "sha1": "0123456789abcdef", "user": "teuthology", "flavor": "basic", "verbose": "1", "roles": [["mon.a"]],
        "timestamp": "2013-09-25_23:00:06", "no_nested_subset": true, "queue": "plana",
    });
    check(bed, "POST", &jobs, config.clone(), 200, json!({"job_id": "145"})).await;
    let (status, answer) = ask(bed, Method::POST, &jobs, &config).await;
    assert_eq!(status, 400);
    assert!(answer["message"].as_str().unwrap().ends_with("already exists"), "{answer}");
    assert_eq!(answer["message"], "job with job_id 145 already exists");
    let job = format!("{jobs}145/");
    let mut config = config;
    for status in ["running", "waiting", "running"] {
        config["status"] = json!(status);
        check(bed, "PUT", &job, config.clone(), 200, json!({})).await;
    }
    let shown = get(bed, &job).await;
    let times = ["posted", "started", "updated"].map(|key| shown[key].clone());
    assert!(times.iter().all(is_time), "{times:?}");
    let mut expect = json!({
        "job_id": "145", "name": RUN, "status": "running", "suite": "rados", "suite_branch": "main",
        "branch": "master", "machine_type": "plana", "description": "rados:verify/{a.yaml}", "priority": 100,
        "seed": 7, "subset": "1/2", "sha1": "0123456789abcdef", "user": "teuthology", "flavor": "basic",
        "verbose": "1", "roles": [["mon.a"]], "timestamp": "2013-09-25 23:00:06", "queue": "plana",
        "log_href": format!("http://logs.example.org/{RUN}/145/teuthology.log"),
        "posted": times[0], "started": times[1], "updated": times[2],
    });
    for key in ["kernel", "overrides", "targets", "tasks"] {
        expect[key] = json!({});
    }
    let unsaid = "archive_path duration email failure_reason last_in_suite nuke_on_error os_type os_version owner pid \
        sentry_event success suite_path suite_relpath suite_repo suite_sha1 teuthology_branch pcp_grafana_url package_source";
    for key in unsaid.split_whitespace() {
        expect[key] = Value::Null;
    }
    assert_eq!(shown, expect);
    // One without an id is called by a number.
    let (_, made) = ask(bed, Method::POST, &jobs, &json!({"name": RUN})).await;
    let id = made["job_id"].as_str().unwrap().to_owned();
    assert!(id.parse::<u32>().is_ok(), "{id}");
    let polled = get(bed, &format!("{jobs}?fields=job_id,status")).await;
    assert_eq!(polled, json!([{"job_id": id, "status": "unknown"}, {"job_id": "145", "status": "running"}]));
    assert_eq!(
        get(bed, &format!("{jobs}?status=running&fields=job_id,description")).await,
        json!([{"job_id": "145", "description": "rados:verify/{a.yaml}"}])
    );
    let end = json!({"success": false, "failure_reason": "it broke", "duration": 60, "updated": "2026-11-21 00:23:52"});
    check(bed, "PUT", &job, end, 200, json!({})).await;
    check(bed, "PUT", &job, json!({"status": "dead", "success": false}), 200, json!({})).await;
    assert_eq!(get(bed, &job).await["status"], "fail");
    check(bed, "PUT", &format!("{jobs}{id}/"), json!({"status": "dead", "success": false}), 200, json!({}))
        .await;
    let run = get(bed, &format!("/runs/{RUN}/")).await;
    assert_eq!(
        (&run["status"], &run["jobs_count"], &run["results"]["sha1"]),
        (&json!("finished fail"), &json!(2), &json!("0123456789abcdef"))
    );
    assert_eq!(run["jobs"][1], get(bed, &job).await);
    assert_eq!((&run["priority"], &run["flavor"]), (&json!(100), &json!("basic")));
    native_view(bed).await;
    check(bed, "DELETE", &job, Value::Null, 200, json!({})).await;
    refused(bed, "DELETE", &job, Value::Null, 404, "attempted to delete a non-existent job").await;
    check(bed, "DELETE", &format!("/runs/{RUN}/"), Value::Null, 200, json!({})).await;
    refused(bed, "GET", &jobs, Value::Null, 404, "requested run not found").await;
}

/// The same job among our own tasks, results and batches.
async fn native_view(bed: &Bed) {
    let tasks = bed.get("/api/v1/tasks?name=rados").await;
    let task = tasks["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|task| task["inputs"]["job_id"] == "145")
        .unwrap()
        .clone();
    assert_eq!((&task["kind"]["kind"], &task["submitter"]), (&json!("reported"), &json!("user:teuthology")));
    assert_eq!(task["item"], json!({"type": "commit", "id": "0123456789abcdef"}));
    assert_eq!((&task["state"]["outcome"], &task["state"]["reason"]), (&json!("failed"), &json!("it broke")));
    let results = bed.get(&format!("/api/v1/results?task={}", task["id"].as_str().unwrap())).await;
    let result = &results["items"][0];
    assert_eq!(
        (&result["testcase"], &result["outcome"], &result["duration_ms"]),
        (&json!("rados"), &json!("failed"), &json!(60_000))
    );
    assert_eq!((&result["data"]["run"], &result["data"]["job_id"]), (&json!(RUN), &json!("145")));
    let batch = bed.get(&format!("/api/v1/batches/{RUN}")).await;
    assert_eq!((&batch["tasks"], &batch["final_tasks"]), (&json!(2), &json!(2)));
    let shown = bed.get(&format!("/api/v1/tasks/{}", task["id"].as_str().unwrap())).await;
    assert_eq!(shown["task"]["state"]["state"], "finished");
    let found = bed.get("/api/v2.0/results?item=0123456789abcdef&type=commit").await;
    assert_eq!(found["data"][0]["outcome"], "FAILED");
}

async fn statuses_and_computed_fields(bed: &Bed) {
    let jobs = "/runs/plain/jobs/";
    let (status, _) =
        ask(bed, Method::POST, jobs, &json!({"job_id": 1, "status": "queued", "priority": 10})).await;
    assert_eq!(status, 200);
    let job = "/runs/plain/jobs/1/";
    let put = async |body: Value, status: &str, of_run: &str| {
        check(bed, "PUT", job, body.clone(), 200, json!({})).await;
        let run = get(bed, "/runs/plain/").await;
        assert_eq!(
            (run["jobs"][0]["status"].as_str().unwrap(), run["status"].as_str().unwrap()),
            (status, of_run),
            "{body}"
        );
    };
    put(json!({"priority": 5}), "queued", "queued").await;
    put(json!({"status": "running", "success": true}), "running", "running").await;
    put(json!({"priority": 1}), "running", "running").await;
    put(json!({"status": "waiting"}), "waiting", "waiting").await;
    put(json!({"status": "dead"}), "dead", "finished dead").await;
    put(json!({"success": null}), "unknown", "unknown").await;
    put(json!({"success": true}), "pass", "finished pass").await;
    put(json!({"status": "running"}), "pass", "finished pass").await;
    put(json!({"success": false}), "fail", "finished fail").await;
    let shown = get(bed, job).await;
    assert_eq!(
        (&shown["priority"], &shown["success"], &shown["job_id"]),
        (&json!(5), &json!(false), &json!("1"))
    );
    // Its id never changes; the run is called by what its jobs say.
    let said = json!({"job_id": "2", "suite": "rbd", "branch": "next", "machine_type": "mira"});
    check(bed, "PUT", job, said, 200, json!({})).await;
    assert_eq!(get(bed, job).await["job_id"], "1");
    let run = get(bed, "/runs/plain/").await;
    assert_eq!(
        (&run["suite"], &run["branch"], &run["machine_type"], &run["user"]),
        (&json!("rbd"), &json!("next"), &json!("mira"), &json!(""))
    );
    assert_eq!(run["sha1"], json!(null));
    assert_eq!(run["scheduled"], run["posted"], "its name says nothing of it");
}

async fn filters_are_chained(bed: &Bed) {
    for (day, suite, branch, sha1, status) in [
        (1, "rados", "master", "aaa1", "pass"),
        (2, "rbd", "master", "aab2", "queued"),
        (3, "rados", "next", "abc3", "running"),
    ] {
        let run = format!("me-2026-11-0{day}_10:00:00-{suite}-{branch}-testing-basic-mira");
        post_job(bed, &run, json!({"job_id": "1", "status": status, "sha1": sha1, "flavor": "basic"})).await;
    }
    let check = async |path: &str, expect: &[u32]| {
        let found = get(bed, path).await;
        let days: Vec<u32> = names(&found).iter().map(|name| name[11..13].parse().unwrap()).collect();
        assert_eq!(days, expect, "{path}");
    };
    check("/runs/suite/rados/", &[3, 1]).await;
    check("/runs/suite/rados/branch/next/", &[3]).await;
    check("/runs/suite/rados/branch/next/status/empty/", &[]).await;
    check("/runs/branch/master/status/finished%20pass/user/me/machine_type/mira/flavor/basic/", &[1]).await;
    check("/runs/flavors/basic/", &[3, 2, 1]).await;
    check("/runs/sha1/aa/", &[2, 1]).await;
    check("/runs/sha1/aa/suite/rbd/", &[2]).await;
    check("/runs/queued/", &[2]).await;
    post_job(
        bed,
        "me-2026-11-01_10:00:00-rados-master-testing-basic-mira",
        json!({"job_id": "2", "status": "queued"}),
    )
    .await;
    check("/runs/queued/", &[1, 2]).await;
    let path = "/runs/me-2026-11-01_10:00:00-rados-master-testing-basic-mira/jobs/2/";
    super::paddles::check(bed, "DELETE", path, Value::Null, 200, json!({})).await;
    check("/runs/date/2026-11-02/", &[2]).await;
    check("/runs/date/from/2026-11-02/to/2026-11-03/", &[3, 2]).await;
    check("/runs/date/from/2026-11-02/to/2026-11-03/suite/rados/", &[3]).await;
    check("/runs/user/me/?since=2026-11-02", &[3, 2]).await;
    check("/runs/user/me/?count=1&page=2", &[2]).await;
    check("/runs/date/today/", &[]).await;
    check("/runs/date/yesterday/", &[]).await;
    for (path, expect) in [
        ("/runs/branch/", json!(["master", "next"])),
        ("/runs/date/", json!(["2026-11-01", "2026-11-02", "2026-11-03"])),
        ("/runs/machine_type/", json!(["mira"])),
        ("/runs/status/", json!(["finished pass", "queued", "running"])),
        ("/runs/suite/", json!(["rados", "rbd"])),
        ("/runs/sha1/", json!(["aaa1", "aab2", "abc3"])),
        ("/runs/user/", json!(["me"])),
        ("/runs/flavors/", json!(["basic"])),
        ("/runs/suite/rbd/branch/", json!(["master"])),
    ] {
        assert_eq!(get(bed, path).await, expect, "{path}");
    }
    for path in ["/runs/suite/rados/nothing/x/", "/runs/suite/rados/flavors/x/", "/runs/flavor/x/"] {
        assert_eq!(ask(bed, Method::GET, path, &Value::Null).await.0, 404, "{path}");
    }
    // Values are those of all jobs, and every run has a day.
    post_job(bed, "plain", json!({"job_id": "1", "status": "pass", "sha1": "b1"})).await;
    post_job(bed, "plain", json!({"job_id": "2", "status": "pass", "sha1": "b2"})).await;
    assert_eq!(get(bed, "/runs/status/finished%20pass/sha1/").await, json!(["aaa1", "b1", "b2"]));
    let days = get(bed, "/runs/date/").await;
    let today = get(bed, "/runs/plain/").await["posted"].as_str().unwrap()[..10].to_owned();
    assert!(days.as_array().unwrap().contains(&json!(today)), "{days}");
    assert_eq!(names(&get(bed, &format!("/runs/date/{today}/")).await), ["plain"]);
    // As many as all runs have by default; of a range all.
    for second in 10..40 {
        let name = format!("many-2026-11-05_10:00:{second}-rados-main-testing-basic-mira");
        super::paddles::check(bed, "POST", "/runs/", json!({"name": name}), 200, json!({})).await;
    }
    assert_eq!(names(&get(bed, "/runs/user/many/").await).len(), 25);
    assert_eq!(names(&get(bed, "/runs/date/from/2026-11-05/to/2026-11-05/").await).len(), 30);
    refused(bed, "GET", "/runs/date/x/", Value::Null, 400, "date format must match %Y-%m-%d").await;
    refused(bed, "GET", "/runs/user/me/?since=x", Value::Null, 400, "date format must match %Y-%m-%d").await;
}

async fn jobs_are_listed(bed: &Bed) {
    for number in 1..=12 {
        let description = format!("rados/{{verify}} part{number}");
        let status = if number % 2 == 0 { "pass" } else { "fail" };
        post_job(bed, "r", json!({"job_id": number, "status": status, "description": description, "sha1": "abc", "branch": "b", "user": "u"})).await;
    }
    let ids = async |path: &str| {
        let jobs = get(bed, path).await;
        jobs.as_array()
            .unwrap()
            .iter()
            .map(|job| job["job_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(ids("/jobs/").await, "12 11 10 9 8 7 6 5 4 3");
    assert_eq!(ids("/jobs/?count=3&page=2").await, "9 8 7");
    assert_eq!(ids("/jobs/?description=part1").await, "12 11 10 1");
    assert_eq!(ids("/jobs/?status=pass&sha1=abc&branch=b&user=u&count=2").await, "12 10");
    assert_eq!(ids("/jobs/?user=nobody").await, "");
    assert_eq!(ids("/jobs/?posted_after=2000-01-01&posted_before=2000-01-02%2000:00:00").await, "");
    assert_eq!(ids("/jobs/?posted_after=2000-01-01&count=1").await, "12");
    refused(
        bed,
        "GET",
        "/jobs/?posted_after=x",
        Value::Null,
        400,
        "posted_after must be a day such as 2026-11-21, or a time such as 2026-11-21 00:23:52",
    )
    .await;
    refused(bed, "GET", "/jobs/?count=-1", Value::Null, 400, "count must be an integer").await;
}

/// Runs a line of a shell; what it prints, and the status.
fn shell(bed: &Bed, line: &str) -> (String, Value) {
    let line = line.replace("http://paddles", &format!("http://{}/compat/paddles", bed.address));
    let out =
        Command::new("bash").args(["-c", &format!("{line} -sS -w '\\n%{{http_code}}'")]).output().unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), serde_json::from_str(body).unwrap_or_else(|_| panic!("{line}: {body}")))
}

/// The bodies and answers of its first description, word for word.
async fn the_first_description(bed: &Bed) {
    let run = |line: &str| shell(bed, line);
    let name = "teuthology-2013-09-01_23:59:59-rados-master-testing-basic-plana";
    let made = run(
        r#"curl -X POST http://paddles/runs/ -d '{ "name": "teuthology-2013-09-01_23:59:59-rados-master-testing-basic-plana" }'"#,
    );
    assert_eq!(made, ("200".to_owned(), json!({})));
    assert_eq!(
        run(&format!("curl 'http://paddles/runs/{name}/jobs/?shape=seed'")),
        ("200".to_owned(), json!([]))
    );
    let refused =
        run(&format!("curl -X POST 'http://paddles/runs/{name}/jobs/?shape=seed' -d '{{\"name\": \"x\"}}'"));
    assert_eq!(refused, ("400".to_owned(), json!({"message": "could not find required key: 'job_id'"})));
    let post =
        run(&format!("curl -X POST http://paddles/runs/{name}/jobs/ -d '{{\"job_id\": \"1\", \"odd\": 1}}'"));
    assert_eq!(post, ("200".to_owned(), json!({"job_id": "1"})));
    let (_, jobs) = run(&format!("curl 'http://paddles/runs/{name}/jobs/?shape=seed'"));
    let described: Value = serde_json::from_str(
        r#"[ { "archive_path": null, "kernel": null, "teuthology_branch": null, "tasks": null, "verbose": null, "description": null, "roles": null, "overrides": null, "pid": null, "success": null, "name": null, "targets": null, "owner": null, "last_in_suite": null, "os_type": null, "machine_type": null, "nuke_on_error": null, "duration": null, "flavor": null, "email": null, "job_id": "1" } ]"#,
    )
    .unwrap();
    assert_eq!(jobs, described);
    for (job, status) in [("2", "pass"), ("3", "fail"), ("4", "running")] {
        post_job(bed, name, json!({"job_id": job, "status": status})).await;
    }
    let href = format!("http://{}/compat/paddles/runs/{name}/", bed.address);
    let (_, runs) = run("curl http://paddles/runs/?shape=seed");
    assert_eq!(
        runs,
        json!({name: {"href": href, "status": "running", "results": {"pass": 1, "running": 2, "fail": 1}}})
    );
    let (_, shown) = run(&format!("curl 'http://paddles/runs/{name}/?shape=seed'"));
    assert_eq!(
        shown["3"],
        json!({"href": format!("{href}3/"), "status": "finished", "results": {"pass": 0, "running": 0, "fail": 1}})
    );
    assert_eq!(shown["4"]["status"], "running");
    // Its links lead to the jobs.
    let (status, third) = run(&format!("curl http://paddles/runs/{name}/3/"));
    assert_eq!((status.as_str(), &third["job_id"], &third["status"]), ("200", &json!("3"), &json!("fail")));
    assert_eq!(run(&format!("curl http://paddles/runs/{name}/9/")).0, "404");
    let (_, found) = run("curl 'http://paddles/runs/suite/rados/?shape=seed'");
    assert_eq!(found, runs, "by name, as in all its lists");
    run(r#"curl -X POST http://paddles/runs/ -d '{"name": "a b?c"}'"#);
    let (_, empty) = run("curl http://paddles/runs/?shape=seed");
    assert_eq!(empty["a b?c"]["status"], "running", "nothing of it has finished");
    let href = empty["a b?c"]["href"].as_str().unwrap();
    assert!(href.ends_with("/runs/a%20b%3Fc/"), "{href}");
    let shown = bed.request(Method::GET, href.split_once(&bed.address.to_string()).unwrap().1);
    assert_eq!(shown.send().await.unwrap().json::<Value>().await.unwrap()["name"], "a b?c");
    run("curl -X DELETE 'http://paddles/runs/a%20b%3Fc/'");
    let put = run(&format!(
        "curl -X PUT http://paddles/runs/{name}/jobs/4/ -d '{{\"success\": true, \"job_id\": \"9\"}}'"
    ));
    assert_eq!(put, ("200".to_owned(), json!({})));
    run(&format!("curl -X PUT http://paddles/runs/{name}/jobs/1/ -d '{{\"success\": true}}'"));
    let (_, runs) = run("curl http://paddles/runs/?shape=seed");
    assert_eq!(runs[name]["status"], "finished");
    assert!(get(bed, &format!("/runs/{name}/jobs/4/")).await["job_id"] == "4");
}

async fn large_runs_are_sent_whole(bed: &Bed) {
    for number in 0..105 {
        post_job(bed, "large", json!({"job_id": number, "status": "queued"})).await;
    }
    let run = get(bed, "/runs/large/").await;
    let ids: Vec<_> = run["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["job_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, (0..105).rev().map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(get(bed, "/runs/large/jobs/?fields=job_id").await.as_array().unwrap().len(), 105);
    check(bed, "DELETE", "/runs/large/", Value::Null, 200, json!({})).await;
    check(bed, "GET", "/jobs/", Value::Null, 200, json!([])).await;
}

async fn what_is_wrong_is_said_in_json(bed: &Bed) {
    let jobs = "/runs/r/jobs/";
    for body in ["", "{", "[]", "{}", "null"] {
        let response = send(bed, Method::POST, jobs, Some(body)).await;
        assert_eq!(response.status(), 400, "{body}");
        assert_eq!(
            response.json::<Value>().await.unwrap(),
            json!({"message": "could not decode JSON body"}),
            "{body}"
        );
    }
    // Half a character alone, as a program in Python writes it, becomes the replacement character.
    let half = send(bed, Method::POST, jobs, Some(r#"{"job_id": "half", "description": "a\ud800"}"#)).await;
    assert_eq!(half.status(), 200);
    assert_eq!(get(bed, "/runs/r/jobs/half/").await["description"], "a\u{fffd}");
    post_job(bed, "r", json!({"job_id": "7"})).await;
    let status = "status \"done\" is none of queued, pass, running, waiting, fail, dead, unknown";
    refused(bed, "PUT", "/runs/r/jobs/7/", json!({"status": "done"}), 400, status).await;
    refused(
        bed,
        "PUT",
        "/runs/r/jobs/8/",
        json!({"status": "dead"}),
        404,
        "attempted to update a non-existent job",
    )
    .await;
    refused(bed, "GET", "/runs/r/jobs/8/", Value::Null, 404, "requested job resource does not exist").await;
    refused(bed, "GET", "/runs/r/jobs/?fields=x", Value::Null, 400, "an invalid field was specified").await;
    refused(bed, "GET", "/nothing/", Value::Null, 404, "there is nothing here").await;
    refused(bed, "GET", "/runs/%00/", Value::Null, 404, "there is nothing here").await;
    refused(
        bed,
        "PUT",
        "/runs/r/jobs/7/",
        json!({"description": "a\u{0}b"}),
        422,
        "the database refuses the data: a text holds a NUL character",
    )
    .await;
    for (kind, status) in [("invalid", 400), ("forbidden", 403), ("not_found", 404), ("unavailable", 503)] {
        refused(
            bed,
            "GET",
            &format!("/errors/{kind}/?error_message=why%20not"),
            Value::Null,
            status,
            "why not",
        )
        .await;
    }
    let large = send(bed, Method::POST, jobs, Some(&"x".repeat(5 << 20))).await;
    assert_eq!(large.status(), 413);
    assert!(large.json::<Value>().await.unwrap()["message"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_its_own() {
    let mut bed = Bed::open().await;
    let at = bed.listen_for(Interface::Paddles, loopback(Role::Submitter)).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = client
        .post(format!("http://{at}/runs/r/jobs/"))
        .body(r#"{"job_id": "1", "status": "queued", "queue": "q"}"#);
    assert_eq!(post.send().await.unwrap().status(), 200);
    let run: Value = client.get(format!("http://{at}/runs/r")).send().await.unwrap().json().await.unwrap();
    assert_eq!(run["href"], json!([format!("http://{at}/runs/r/")]));
    // Pages of other sites read, and do nothing.
    let from = |method: Method, path: &str| {
        client.request(method, format!("http://{at}{path}")).header(header::ORIGIN, "https://ui.example.org")
    };
    assert_eq!(from(Method::GET, "/runs/").send().await.unwrap().status(), 200);
    assert_eq!(from(Method::OPTIONS, "/runs/").send().await.unwrap().status(), 200);
    for (method, path) in
        [(Method::POST, "/runs/"), (Method::GET, "/queue/pop_queue?queue=q"), (Method::DELETE, "/runs/r/")]
    {
        let refused = from(method, path).send().await.unwrap();
        assert_eq!(refused.status(), 403, "{path}");
        assert!(refused.json::<Value>().await.unwrap()["message"].is_string());
    }
    assert_eq!(client.delete(format!("http://{at}/nodes/x/")).send().await.unwrap().status(), 403);
    let elsewhere =
        bed.request(Method::GET, "/compat/paddles/runs/").header(header::ORIGIN, "https://ui.example.org");
    assert_eq!(elsewhere.send().await.unwrap().status(), 403);
    let bad = client.get(format!("http://{at}/runs/")).bearer_auth("tb_wrong").send().await.unwrap();
    assert_eq!(
        (bad.status().as_u16(), bad.headers()[header::CONTENT_TYPE].to_str().unwrap()),
        (401, "application/json")
    );
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_it_is_not_there() {
    let bed =
        Bed::serving(Interfaces { paddles: None, ..Interfaces::default() }, loopback(Role::Admin)).await;
    assert_eq!(bed.request(Method::GET, "/compat/paddles/runs/").send().await.unwrap().status(), 404);
    bed.end().await;
    let settings = Settings { seed_shape: true, ..Settings::default() };
    let bed =
        Bed::serving(Interfaces { paddles: Some(settings), ..Interfaces::default() }, loopback(Role::Admin))
            .await;
    assert_eq!(get(&bed, "/runs/").await, json!({}));
    assert_eq!(get(&bed, "/runs/?shape=today").await, json!([]));
    bed.end().await;
}
