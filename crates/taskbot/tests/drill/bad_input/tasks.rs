//! Tasks that cannot be: repositories, task files, inputs, images and needs that are wrong.

use crate::support::{
    engine,
    installation::{Installation, Plan},
    repository::task_file,
    wait::until,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A rule's task that nobody registered is told when the rules are checked; this is one of the API.
const UNKNOWN: &str = "no task is registered as `missing-imput`; did you mean `missing-input`?";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_cannot_be_end_with_a_clear_error() {
    let needs_input = "name: missing-input\ninputs: {nvr: {type: string, required: true}}\nrun: \"true\"\n";
    let typo = "name: wrong\nrnu: ./run.sh\n";
    let two = "name: wrong\nrun: x\ntimeout: {run: soon}\nresults: {format: xml}\n";
    let no_retry = "retry: {max: 0}\n";
    // Nothing listens at port 1, and so it takes no time to learn that the image cannot be had.
    let image = "environment: [{container: {image: \"127.0.0.1:1/none:1\"}}]";
    let no_image = format!("name: no-image\n{image}\nrun: \"true\"\n{no_retry}");
    let not_ours =
        format!("name: asks-much\nenvironment: [{{sandbox: {{network: true}}}}]\nrun: \"true\"\n{no_retry}");
    let good = task_file("good", "local: {}", "true");
    let plan = Plan {
        repositories: &[
            ("empty", &[("README", "nothing else")]),
            ("typo", &[("task.yaml", typo)]),
            ("two-mistakes", &[("task.yaml", two)]),
            ("missing-input", &[("task.yaml", needs_input)]),
            ("no-image", &[("task.yaml", &no_image)]),
            ("asks-much", &[("task.yaml", &not_ours)]),
            ("good", &[("task.yaml", &good)]),
        ],
        ..Plan::default()
    };
    let installation = Installation::start(&plan).await;
    let server = NotFound::start().await;
    let cases: &[(Value, &str, &[&str])] = &[
        (json!({"task": "empty"}), "error(bad_task)", &["there is no task.yaml", "looked for .fmf/version"]),
        (json!({"task": "typo"}), "error(bad_task)", &["task.yaml:2:1", "rnu", "did you mean `run`"]),
        (json!({"task": "two-mistakes"}), "error(bad_task)", &["task.yaml:3", "task.yaml:4", "xml", "soon"]),
        (json!({"task": "missing-input"}), "error(bad_task)", &["input `nvr` is missing"]),
        (json!({"task": "missing-input", "inputs": {"nvr": 7}}), "error(bad_task)", &["nvr", "string"]),
        (
            json!({"task": "missing-input", "inputs": {"nvr": "x", "nvrr": "y"}}),
            "error(bad_task)",
            &["nvrr", "did you mean"],
        ),
        (json!({"task": "no-image"}), "error(infra)", &["127.0.0.1:1/none:1"]),
        (json!({"task": "asks-much"}), "error(no_worker)", &["network", "configuration does not allow it"]),
        (
            json!({"repo": {"git": format!("{}/none.git", server.url)}}),
            "error(bad_task)",
            &["none.git", "not found"],
        ),
        (
            json!({"repo": {"git": "https://user:secret@git.example.org/x.git"}}),
            "error(bad_task)",
            &["password"],
        ),
        (json!({"repo": {"git": "ext::sh -c id"}}), "error(bad_task)", &["ext"]),
        (
            json!({"repo": {"git": "https://git.example.org/x.git", "ref": "--upload-pack=id"}}),
            "error(bad_task)",
            &["--upload-pack=id"],
        ),
    ];
    let mut ids = Vec::new();
    for (submission, outcome, words) in cases {
        ids.push((submit(&installation, submission).await, outcome, words));
    }
    for ((id, outcome, words), (submission, ..)) in ids.into_iter().zip(cases) {
        let state = match id {
            Ok(id) => installation.ended(&id).await["task"]["state"].clone(),
            // What can never be may also be refused at once.
            Err(refusal) => json!({"outcome": outcome, "reason": refusal}),
        };
        assert_eq!(state["outcome"], **outcome, "{submission}: {state}");
        let reason = state["reason"].as_str().unwrap();
        for word in *words {
            assert!(reason.contains(word), "{submission}: `{word}` is not in: {reason}");
        }
        assert!(!reason.contains("secret"), "a password is shown: {reason}");
    }

    let (status, problem) =
        installation.request(Method::POST, "/api/v1/tasks", Some(&json!({"task": "missing-imput"}))).await;
    assert!(
        status.is_client_error() && problem["detail"].as_str().unwrap().contains(UNKNOWN),
        "{status} {problem}"
    );

    no_worker_is_said_at_once(&installation).await;
    // Nothing of it stands in the way of what is right.
    let id = installation.submit(json!({"task": "good"})).await;
    assert_eq!(installation.ended(&id).await["task"]["state"]["outcome"], "passed");
    for worker in &installation.workers {
        let left = engine::leftovers(installation.engine.to_str().unwrap(), &worker.name).await;
        assert!(left.is_empty(), "{left:?}");
    }
    installation.remove().await;
}

/// The id of the task, or why it was refused.
async fn submit(installation: &Installation, submission: &Value) -> Result<String, String> {
    let (status, answer) = installation.request(Method::POST, "/api/v1/tasks", Some(submission)).await;
    match status {
        StatusCode::CREATED => Ok(answer["id"].as_str().unwrap().to_owned()),
        status if status.is_client_error() => Err(answer["detail"].to_string()),
        other => panic!("{submission}: {other} {answer}"),
    }
}

/// It is queued, for a worker may come, and says why nobody can run it.
async fn no_worker_is_said_at_once(installation: &Installation) {
    let id = installation.submit(json!({"task": "good", "needs": {"arch": "s390x"}})).await;
    let unmet = until("the task says that no worker can run it", async || {
        let whole = installation.get(&format!("/api/v1/tasks/{id}")).await;
        whole["task"]["state"]["unmet"].as_str().map(str::to_owned)
    })
    .await;
    assert!(unmet.contains("s390x"), "{unmet}");
    until("it is told on the bus", async || {
        let told = installation.bus.all_told().await;
        told.contains(&("taskbot.task.unmet".to_owned(), id.clone())).then_some(())
    })
    .await;
    let (status, task) =
        installation.request(Method::POST, &format!("/api/v1/tasks/{id}/cancel"), None).await;
    assert_eq!((status, &task["state"]["state"]), (StatusCode::OK, &json!("cancelled")), "{task}");
}

/// A server that has nothing.
struct NotFound {
    url: String,
}

impl NotFound {
    async fn start() -> Self {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer).await;
            }
        });
        Self { url }
    }
}
