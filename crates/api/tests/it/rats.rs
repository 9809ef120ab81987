//! RATS' interface, and the native one beside it.

use super::{
    bed::{Bed, PUBLIC, both, loopback, rule_files, until},
    workers::{claim, finish},
};
use model::message::Message;
use reqwest::{Method, multipart::Form};
use serde_json::{Value, json};
use store::Role;
use taskbot_api::Interface;

both! {
    a_task_is_repeated_once, what_is_under_way_is_waited_for, a_rule_makes_what_it_would_have_made, others_are_told_in_the_form_that_they_know, what_is_wrong_is_said, only_what_failed_is_run_again_and_never_everything, a_result_leads_to_its_task,
}

const RULES: &str = "rules:\n  - name: lint-builds\n    on: build.done\n    then:\n      - task: lint\n        \
    item: {type: koji_build, id: \"${event.body.nvr}\"}\n        with: {nvr: \"${event.body.nvr}\"}\n";

async fn with_rules() -> Bed {
    let bed = Bed::open().await;
    bed.scheduler.activate_rules(rule_files(RULES), "test", "tester").await.unwrap();
    bed
}

/// A task that has ended.
async fn ended(bed: &Bed, nvr: &str) -> String {
    let task = bed.queued(nvr).await;
    let (status, answer) = bed.post(&format!("/api/v1/tasks/{task}/cancel"), &json!({})).await;
    assert_eq!(status, 200, "{answer}");
    task
}

async fn ask(bed: &Bed, query: &str) -> (u16, Value) {
    let response = bed.request(Method::GET, &format!("/submit?{query}")).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn messages(bed: &Bed) -> Vec<Message> {
    until("messages", || async {
        let all = bed.store().stream(model::Position(0), 1000).await.unwrap();
        all.iter().any(|one| one.message.topic.as_str() == "taskbot.retest.requested").then_some(all)
    })
    .await
}

async fn a_task_is_repeated_once() {
    let bed = with_rules().await;
    let task = ended(&bed, "audit-4.0-1.fc42").await;
    let query = "type=koji_build&item=audit-4.0-1.fc42&test=lint";
    let (status, made) = ask(&bed, query).await;
    assert_eq!((status, &made["status"]), (200, &json!("made")), "{made}");
    assert_eq!(made["served"], json!({"by": "rerun", "of": task}));
    let new = made["tasks"][0]["id"].as_str().unwrap();
    let shown = bed.get(&format!("/api/v1/tasks/{new}")).await;
    assert_eq!(shown["task"]["inputs"]["nvr"], "audit-4.0-1.fc42");
    assert_eq!(shown["task"]["origin"]["of"], json!(task));
    assert_eq!(made["tasks"][0]["href"], json!(format!("http://{}/api/v1/tasks/{new}", bed.address)));

    let (_, known) = ask(&bed, query).await;
    assert_eq!((&known["status"], &known["id"]), (&json!("known"), &made["id"]), "{known}");
    let (_, forced) = ask(&bed, &format!("{query}&force=1&why=again")).await;
    assert_eq!(forced["status"], "made", "{forced}");
    assert_ne!(forced["tasks"][0]["id"], made["tasks"][0]["id"]);
    let listed = bed.get("/api/v1/retests").await;
    assert_eq!((&listed["items"][0]["why"], &listed["items"][1]["asked"]), (&json!("again"), &json!(2)));
    let one = bed.get(made["href"].as_str().unwrap().split_once(&bed.address.to_string()).unwrap().1).await;
    assert_eq!(one["id"], made["id"]);
    bed.end().await;
}

async fn what_is_under_way_is_waited_for() {
    let bed = with_rules().await;
    let task = bed.queued("audit-4.0-1.fc42").await;
    let (_, made) = ask(&bed, "type=koji_build&item=audit-4.0-1.fc42&test=lint").await;
    assert_eq!(
        (&made["served"]["by"], &made["tasks"][0]["id"]),
        (&json!("under_way"), &json!(task)),
        "{made}"
    );
    assert_eq!(bed.get("/api/v1/tasks").await["items"].as_array().unwrap().len(), 1);
    bed.end().await;
}

async fn a_rule_makes_what_it_would_have_made() {
    let bed = Bed::open().await;
    bed.scheduler.activate_rules(rule_files("rules: []\n"), "test", "tester").await.unwrap();
    for nvr in ["audit-4.0-1.fc42", "lz4-1.10-3.fc42"] {
        let event = json!({"topic": "build.done", "id": nvr, "body": {"nvr": nvr}});
        assert_eq!(bed.post("/api/v1/events", &event).await.0, 201);
    }
    bed.scheduler.activate_rules(rule_files(RULES), "test", "tester").await.unwrap();
    let asked = json!({"item_type": "koji_build", "item": "audit-4.0-1.fc42", "test": "lint"});
    let (status, made) = bed.post("/api/v1/retests", &asked).await;
    assert_eq!((status, &made["served"]["by"]), (200, &json!("rule")), "{made}");
    assert_eq!(made["served"]["rule"], "lint-builds");
    let shown = bed.get(&format!("/api/v1/tasks/{}", made["tasks"][0]["id"].as_str().unwrap())).await;
    assert_eq!(shown["task"]["item"]["id"], "audit-4.0-1.fc42");
    assert_eq!(bed.get("/api/v1/tasks").await["items"].as_array().unwrap().len(), 1, "nothing else");
    bed.end().await;
}

async fn others_are_told_in_the_form_that_they_know() {
    let bed = Bed::open().await;
    let result = json!({
        "outcome": "FAILED", "testcase": "ci.smoke",
        "data": {"item": "audit-4.0-1.fc42", "type": "koji_build"},
    });
    let (_, stored) = bed.post("/api/v2.0/results", &result).await;
    let form = Form::new().text("result_id", stored["id"].to_string()).text("extras", "{\"bug\": 42}");
    let response = bed.request(Method::POST, "/submit").multipart(form).send().await.unwrap();
    let made: Value = response.json().await.unwrap();
    assert_eq!(made["served"], json!({"by": "others", "system": "atomic-ci"}), "{made}");
    let said = made["message"].as_str().unwrap();
    assert!(said.contains("nothing here runs ci.smoke") && said.contains("no bus is configured"), "{made}");
    let messages = messages(&bed).await;
    let told = messages.iter().find(|one| one.message.topic.as_str() == "rats.test.atomic-ci").unwrap();
    let body = told.message.data.value();
    assert_eq!(
        (&body["agent"], &body["identifier"], &body["test"], &body["extras"]["bug"]),
        (&json!("anonymous"), &json!("audit-4.0-1.fc42"), &json!("ci.smoke"), &json!(42))
    );
    assert_eq!((&body["old_result"], &body["result_id"]), (&stored, &json!(stored["id"].to_string())));
    bed.end().await;
}

async fn what_is_wrong_is_said() {
    let bed = Bed::open().await;
    for (query, status, text) in [
        ("", 400, "`type` is missing"),
        ("type=koji_build", 400, "`item` is missing"),
        ("type=koji_build&item=a-1-1", 400, "`test` is missing"),
        ("type=koji_build&item=a-1-1&test=t&extras=%7B", 400, "`extras` must be JSON"),
        ("result_id=17", 404, "17"),
        ("result_id=x", 400, "no number of a result"),
        ("type=koji_build&item=a-1-1&test=nope", 404, "nope"),
    ] {
        let (got, problem) = ask(&bed, query).await;
        assert_eq!(got, status, "{query}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(text), "{query}: {problem}");
    }
    // Some end the path with a slash, and some name the form of a body that they do not send.
    for path in ["/submit", "/submit/"] {
        for method in [Method::GET, Method::POST] {
            let request = bed.request(method, &format!("{path}?type=koji_build&item=a-1-1&test=ci.a"));
            let answer = request.header("content-type", "application/json").send().await.unwrap();
            assert_eq!(answer.status(), 200, "{path}");
        }
        let head = bed.request(Method::HEAD, &format!("{path}?type=koji_build&item=a-1-1&test=ci.b"));
        assert_eq!(head.send().await.unwrap().status(), 405, "{path}");
    }
    assert_eq!(bed.get("/api/v1/retests").await["items"].as_array().unwrap().len(), 1);
    let text = "x".repeat(5000);
    let (got, problem) = ask(&bed, &format!("type=koji_build&item={text}&test=t")).await;
    assert!(got == 422 && problem["detail"].as_str().unwrap().contains("1 to 4096 bytes"), "{problem}");
    bed.end().await;
}

async fn only_what_failed_is_run_again_and_never_everything() {
    let bed = with_rules().await;
    let task = ended(&bed, "audit-4.0-1.fc42").await;
    ended(&bed, "lz4-1.10-3.fc42").await;
    let waiting = bed.queued("zstd-1.5-1.fc42").await;
    for (body, status, text) in [
        (json!({}), 400, "this would be everything"),
        (json!({"failed": true}), 400, "this would be everything"),
        (json!({"failed": true, "outcome": "error", "name": "lint"}), 400, "give either it or `outcome`"),
        (json!({"name": "lint", "limit": 501}), 400, "must be from 1 to 500"),
        (json!({"name": "lint", "limit": 1}), 409, "more than 1 tasks fit; nothing was made"),
        (json!({"name": "lint", "outcome": "nope"}), 400, "nope"),
        (json!({"nmae": "lint"}), 422, "nmae"),
    ] {
        let (got, problem) = bed.post("/api/v1/tasks/rerun", &body).await;
        assert_eq!(got, status, "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(text), "{body}: {problem}");
    }
    let failed = json!({"failed": true, "name": "lint"});
    let (status, done) = bed.post("/api/v1/tasks/rerun", &failed).await;
    assert_eq!((status, &done["tasks"]), (200, &json!([])), "those were cancelled: {done}");
    let one = json!({"where": "{item.id: {prefix: audit-}}", "dry_run": true, "why": "disk"});
    let (status, done) = bed.post("/api/v1/tasks/rerun", &one).await;
    assert_eq!(
        (status, &done["tasks"][0]["of"], &done["tasks"][0]["task"]),
        (200, &json!(task), &Value::Null)
    );
    let one = json!({"item": "audit-4.0-1.fc42", "why": "disk"});
    let (status, done) = bed.post("/api/v1/tasks/rerun", &one).await;
    assert_eq!(status, 201, "{done}");
    let shown = bed.get(&format!("/api/v1/tasks/{}", done["tasks"][0]["task"].as_str().unwrap())).await;
    assert_eq!(
        (&shown["task"]["origin"]["of"], &shown["task"]["origin"]["why"]),
        (&json!(task), &json!("disk"))
    );
    let (status, done) = bed.post("/api/v1/tasks/rerun", &json!({"state": "queued", "name": "lint"})).await;
    assert_eq!((status, done["left"].as_array().unwrap().len()), (200, 2), "{done} {waiting}");
    bed.end().await;
}

async fn a_result_leads_to_its_task() {
    let mut bed = Bed::open().await;
    // What no task here reported, and what says nothing of an item.
    let (_, stored) =
        bed.post("/api/v2.0/results", &json!({"outcome": "FAILED", "testcase": "ci.smoke"})).await;
    let (status, problem) = ask(&bed, &format!("result_id={}", stored["id"])).await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(status == 400 && detail.contains("does not say what was tested"), "{problem}");
    let (_, made) =
        ask(&bed, &format!("result_id={}&type=koji_build&item=audit-4.0-1.fc42", stored["id"])).await;
    assert_eq!(made["served"]["by"], "others", "{made}");

    // A task without an item: the result leads to it.
    let task = bed.queued("audit-4.0-1.fc42").await;
    let agent = bed.token(Role::Agent, 60).await;
    let post = async |path: &str, body: &Value| {
        let answer = bed.request(Method::POST, path).bearer_auth(&agent).json(body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json::<Value>().await.unwrap()
    };
    let given = post("/api/v1/worker/claim", &claim(10)).await["assignments"][0].clone();
    assert_eq!(given["task"]["id"], json!(task), "{given}");
    let mut ended = finish(&given["attempt"], &given["fence"]);
    ended["end"] = json!({"end": "outcome", "outcome": "failed"});
    ended["environment"] = json!({"executor": "sandbox", "arch": "aarch64"});
    ended["results"] = json!([{"testcase": "lint.spec", "outcome": "failed", "data": {}}]);
    (ended["log_chunks"], ended["log_bytes"]) = (json!(0), json!(0));
    post(&format!("/api/v1/worker/tasks/{task}/finish"), &ended).await;
    let results = bed.get("/api/v2.0/results?testcases=lint.spec").await;
    assert_eq!(results["data"][0]["data"], json!({"arch": ["aarch64"]}), "as those expect it who gate by it");
    let id = &results["data"][0]["id"];
    assert_eq!(results["data"][0]["ref_url"], json!(format!("http://{}/api/v1/results/{id}", bed.address)));
    let own = bed.listen_for(Interface::ResultsDb, loopback(Role::Viewer)).await;
    let (_, shown) = follow(&json!(format!("http://{own}/api/v2.0/results/{id}"))).await;
    let (status, said) = follow(&shown["ref_url"]).await;
    assert_eq!((status, &said["result"]["task"]), (200, &json!(task)), "{said}");
    let (status, made) = ask(&bed, &format!("result_id={}", results["data"][0]["id"])).await;
    assert_eq!((status, &made["served"]), (200, &json!({"by": "rerun", "of": task})), "{made}");
    assert_eq!((&made["item"]["type"], &made["item"]["id"]), (&json!("task"), &json!(task)));
    bed.end().await;
}

/// What a link of an answer leads to, without a token.
async fn follow(href: &Value) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(href.as_str().unwrap()).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

#[tokio::test]
async fn links_of_an_address_of_its_own_lead_somewhere() {
    let mut bed = with_rules().await;
    let task = ended(&bed, "audit-4.0-1.fc42").await;
    let at = bed.listen_for(Interface::Rats, loopback(Role::Submitter)).await;
    let query = "type=koji_build&item=audit-4.0-1.fc42&test=lint";
    let (_, made) = follow(&json!(format!("http://{at}/submit?{query}"))).await;
    assert_eq!(made["href"].as_str().unwrap().split('/').nth(2), Some(&*at.to_string()), "{made}");
    let (status, shown) = follow(&made["href"]).await;
    assert_eq!((status, &shown["id"]), (200, &made["id"]));
    let (status, shown) = follow(&made["tasks"][0]["href"]).await;
    assert_eq!((status, &shown["task"]["origin"]["of"]), (200, &json!(task)));
    assert_eq!(follow(&json!(format!("http://{at}/api/v1/tasks"))).await.0, 404, "nothing else is there");

    let at = bed.listen_for(Interface::ResultsDb, loopback(Role::Submitter)).await;
    let (status, root) = follow(&json!(format!("http://{at}/api/v2.0/"))).await;
    assert_eq!(status, 300);
    for place in ["documentation", "groups", "results", "testcases"] {
        assert_eq!(follow(&root[place]).await.0, 200, "{root}: {place}");
    }
    bed.end().await;
}

#[tokio::test]
async fn links_to_our_pages_begin_with_the_public_address() {
    let public = "https://qa.example.org/";
    PUBLIC
        .scope(public, async {
            let mut bed = with_rules().await;
            ended(&bed, "audit-4.0-1.fc42").await;
            let at = bed.listen_for(Interface::Rats, loopback(Role::Submitter)).await;
            let query = "type=koji_build&item=audit-4.0-1.fc42&test=lint";
            let (_, made) = follow(&json!(format!("http://{at}/submit?{query}"))).await;
            let id = made["id"].as_str().unwrap();
            assert_eq!(made["href"], json!(format!("https://qa.example.org/api/v1/retests/{id}")));
            bed.end().await;
        })
        .await;
}
