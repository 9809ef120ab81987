//! Testflinger's jobs under ids of their submitters' own, and such that are submitted once more.

use super::{
    bed::{Bed, both},
    testflinger::{Client, UNKNOWN, native},
};
use reqwest::Method;
use serde_json::json;

both! {
    an_id_of_ones_own_is_one_more_name, a_job_submitted_once_more,
}

async fn an_id_of_ones_own_is_one_more_name() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    let first = cli.submit(&json!({"job_queue": "q", "name": "first"})).await;
    // As others make them, neither by time nor in order.
    let own = "f0000000-0000-4000-8000-000000000001";
    assert_eq!(cli.submit(&json!({"job_queue": "q", "name": "own", "job_id": own})).await, own);
    cli.submit(&json!({"job_queue": "q", "name": "last"})).await;
    let listed = bed.get("/api/v1/tasks").await;
    let names: Vec<_> = listed["items"].as_array().unwrap().iter().map(|task| &task["name"]).collect();
    assert_eq!(names, ["last", "own", "first"], "by age");
    let task = native(&bed, own).await;
    assert_eq!((&task["task"]["name"], task["task"]["id"] == own), (&json!("own"), false));
    assert_eq!(cli.get(&format!("/v1/job/{own}")).await.1["job_id"], own);
    let agent = Client::agent(&bed, "agent1", &["q"]).await;
    for id in [first.as_str(), own] {
        assert_eq!(agent.get("/v1/job?queue=q").await.1["job_id"], json!(id));
        assert_eq!(agent.post("/v1/agents/data/agent1", &json!({"job_id": id})).await.0, 200);
        let fragment = json!({"fragment_number": 0, "timestamp": "2026-11-21T00:19:34+00:00", "phase": "test", "log_data": id});
        assert_eq!(agent.post(&format!("/v1/result/{id}/log/output"), &fragment).await.0, 200);
        let end = json!({"status": {"test": 0}, "job_state": "complete"});
        assert_eq!(agent.post(&format!("/v1/result/{id}"), &end).await.0, 200);
        assert_eq!(native(&bed, id).await["task"]["state"]["outcome"], "passed");
        assert_eq!(cli.get(&format!("/v1/result/{id}")).await.1["test_output"], json!(id));
    }
    assert_eq!(bed.get("/api/v1/tasks/f0000000-0000-4000-8000-000000000001").await["task"]["name"], "own");
    let unknown = bed.request(Method::GET, &format!("/api/v1/tasks/{UNKNOWN}")).send().await.unwrap();
    assert_eq!(unknown.status(), 404);
    bed.end().await;
}

async fn a_job_submitted_once_more() {
    let bed = Bed::open().await;
    let cli = Client::new(&bed);
    let own = "f0000000-0000-4000-8000-000000000002";
    let job = |text: &str| json!({"job_queue": "q", "job_id": own, "test_data": {"test_cmds": text}});
    let tasks = async || bed.get("/api/v1/tasks").await["items"].as_array().unwrap().len();
    assert_eq!(cli.submit(&job("one")).await, own);
    assert_eq!(cli.submit(&job("one")).await, own);
    assert_eq!(tasks().await, 1, "the answer was lost: it is the same job");
    // Another one under the same id is what counts.
    assert_eq!(cli.submit(&job("two")).await, own);
    assert_eq!(tasks().await, 2);
    assert_eq!(cli.get(&format!("/v1/job/{own}")).await.1["test_data"]["test_cmds"], "two");
    let (agent, other) =
        (Client::agent(&bed, "agent1", &["q"]).await, Client::agent(&bed, "agent2", &["q"]).await);
    let (_, given) = agent.get("/v1/job?queue=q").await;
    assert_eq!(given["test_data"]["test_cmds"], "two");
    assert_eq!(other.get("/v1/job?queue=q").await.0, 204);

    // Its device does not recover: the agent gives it back, with all that it was given.
    agent.post("/v1/agents/data/agent1", &json!({"job_id": own})).await;
    agent.post(&format!("/v1/result/{own}"), &json!({"status": {"provision": 46}})).await;
    assert_eq!(agent.submit(&given).await, own);
    assert_eq!((cli.state(own).await, tasks().await), (json!("waiting"), 2));
    // What it still says of it is not said of the next attempt.
    let late = json!({"status": {"provision": 46}, "job_state": "complete"});
    assert_eq!(agent.post(&format!("/v1/result/{own}"), &late).await.0, 200);
    assert_eq!(cli.state(own).await, "waiting");
    let (_, again) = other.get("/v1/job?queue=q").await;
    assert_eq!(again["job_id"], json!(own));
    assert_eq!(cli.get(&format!("/v1/result/{own}")).await.1, json!({"job_state": "running"}));

    // A person submits it while it runs: that run is over, and it is run anew.
    assert_eq!(cli.submit(&job("three")).await, own);
    assert_eq!(other.state(own).await, "waiting");
    let (_, third) = agent.get("/v1/job?queue=q").await;
    assert_eq!(third["test_data"]["test_cmds"], "three");
    assert_eq!(other.post(&format!("/v1/result/{own}"), &late).await.0, 200);
    assert_eq!(cli.state(own).await, "running");
    let end = json!({"status": {"test": 0}, "job_state": "complete"});
    assert_eq!(agent.post(&format!("/v1/result/{own}"), &end).await.0, 200);
    let listed = bed.get("/api/v1/tasks").await;
    let states: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|task| &task["state"]["state"]).collect();
    assert_eq!(states, ["finished", "cancelled", "cancelled"]);
    // One that has ended is run again.
    assert_eq!(cli.submit(&job("three")).await, own);
    assert_eq!((cli.state(own).await, tasks().await), (json!("waiting"), 4));
    bed.end().await;
}
