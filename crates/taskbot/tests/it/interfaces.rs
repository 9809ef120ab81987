//! Interfaces of other systems: switched off, and by themselves on an address of their own.

use crate::support::{Up, run, taskbot, until};
use serde_json::json;
use std::{fs, net::TcpListener, path::Path, process::Command};

/// A server with this said of ResultsDB's interface.
fn start(resultsdb: &str) -> Up {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("rules")).unwrap();
    let more = format!("interfaces: {{resultsdb: {resultsdb}}}\n");
    Up::start_configured(folder, &more, "127.0.0.1:0", &["--no-worker"])
}

/// The status of an answer, and its text.
fn get(url: &str) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = reqwest::get(url).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

#[test]
fn an_interface_can_be_switched_off() {
    let up = start("{enabled: false}");
    assert_eq!(get(&format!("{}/api/v2.0/results", up.url)).0, 404);
    assert_eq!(get(&format!("{}/api/v1/results", up.url)).0, 200);
    let described = get(&format!("{}/api/v1/openapi.json", up.url)).1;
    assert!(described.contains("/api/v1/results") && !described.contains("/api/v2.0/results"));
}

#[test]
fn an_interface_can_have_an_address_of_its_own() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let up = start(&format!("{{listen: \"127.0.0.1:{port}\", extra_outcomes: [CRASHED]}}"));
    let own = format!("http://127.0.0.1:{port}");
    for base in [&up.url, &own] {
        let (status, text) = get(&format!("{base}/api/v2.0/results?outcome=passed"));
        assert_eq!((status, text.contains("data")), (200, true), "{base}: {text}");
        let (status, text) = get(&format!("{base}/api/v2.0/"));
        assert!(status == 300 && text.contains("CRASHED"), "{base}: {text}");
    }
    assert_eq!(get(&format!("{own}/api/v1/results")).0, 404, "only the one interface is there");
}

/// Sends what ALTS' page shows; the status and the answer.
fn post(url: &str, token: &str, body: &str) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let request = reqwest::Client::new().post(url).header("Authorization", format!("Bearer {token}"));
        let answer = request.body(body.to_owned()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

#[test]
fn a_build_system_comes_with_the_token_that_it_always_had() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    run(Command::new("cp").args(["-a", "rules", "deploy"]).arg(folder.path()).current_dir(shipped), "")
        .expect(0, &[]);
    fs::create_dir(folder.path().join("configs")).unwrap();
    fs::write(folder.path().join("configs/alts_config.yaml"), "jwt_secret: my_very_secret_phrase\n").unwrap();
    fs::write(folder.path().join("alts.secret"), "my_very_secret_phrase\n").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let more = format!(
        "interfaces: {{alts: {{listen: \"127.0.0.1:{port}\", secret_file: {}/alts.secret}}}}\n",
        folder.path().display()
    );
    let up = Up::start_configured(folder, &more, "127.0.0.1:0", &["--no-worker"]);
    let sign = |line: &str| {
        let mut command = taskbot();
        command.args(["token", "jwt"]).args(line.split(' ')).current_dir(up.path());
        let given = run(&mut command, "").expect(0, &[]);
        assert!(given.err.contains("at least 32 are safe"), "{}", given.err);
        given.out.trim().to_owned()
    };
    // The lines of its page.
    for line in [
        "-c configs/alts_config.yaml -e some@email.com",
        "-s my_very_secret_phrase -a HS256 -e some@email.com",
    ] {
        let token = sign(line);
        let body = r#"{"runner_type": "docker", "dist_name": "debian", "dist_version": "12", "dist_arch": "amd64",
            "repositories": [], "package_name": "bash", "package_version": "5.2"}"#;
        for base in [&up.url, &format!("http://127.0.0.1:{port}")] {
            let (status, answer) = post(&format!("{base}/tasks/schedule"), &token, body);
            assert!(
                status == 201 && answer.contains("\"api_version\":\"20210512\""),
                "{base}: {status} {answer}"
            );
        }
    }
    let listed = up.run(&["task", "list", "--name", "package-install", "-o", "json"]).expect(0, &[]).json();
    assert_eq!(listed.as_array().unwrap().len(), 4, "{listed:#}");
    assert_eq!(listed[0]["submitter"], "user:alts/some@email.com");
    let own = format!("http://127.0.0.1:{port}");
    let (status, page) = get(&format!("{own}/docs/"));
    assert!(status == 200 && page.contains("swagger"), "{page}");
    let (status, text) = get(&format!("{own}/openapi.json"));
    assert!(status == 200 && text.contains("/tasks/{task_id}/result") && text.contains("bearer"), "{text}");
    assert_eq!(get(&format!("{own}/api/v1/tasks")), (404, "{\"detail\":\"Not Found\"}".to_owned()));
    run(taskbot().args(["token", "jwt", "-e", "a@example.org"]), "").expect(2, &["give a configuration"]);
    run(taskbot().args(["token", "jwt", "-s", "x", "-a", "none", "-e", "a@example.org"]), "")
        .expect(2, &["`none`"]);
    run(taskbot().args(["token", "jwt", "-s", "x", "-a", "RS256", "-e", "a@example.org"]), "")
        .expect(2, &["RS256"]);
}

/// A server with this in its configuration, on this port.
fn start_with(more: &str, port: u16) -> Up {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("rules")).unwrap();
    Up::start_configured(folder, more, &format!("127.0.0.1:{port}"), &["--no-worker"])
}

fn post_result(up: &Up, testcase: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = json!({"testcase": testcase, "outcome": "PASSED", "data": {"item": "audit-2.8-1", "type": "koji_build"}});
    let request = reqwest::Client::new().post(format!("{}/api/v2.0/results", up.url)).json(&result);
    assert_eq!(runtime.block_on(request.send()).unwrap().status().as_u16(), 201);
}

#[test]
fn results_also_go_to_another_resultsdb_and_wait_while_it_is_away() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sinks = format!(
        "sinks:\n  - {{name: away, resultsdb: {{url: \"http://127.0.0.1:{port}/api/v2.0\", all: true}}}}\n  - {{name: wrong, webhook: {{url: \"http://127.0.0.1:{port}/nothing/here\"}}}}\n"
    );
    let up = start_with(&sinks, 0);
    let listed = |text: &str| up.run(&["sink", "list"]).out.contains(text).then_some(());
    until(|| listed("away")).expect("the sink has a place");
    post_result(&up, "dist.first");
    until(|| listed("failed")).expect("it is told that its place is away");
    let other = start_with("", port);
    let there = |testcase: &str| {
        let (_, text) = get(&format!("{}/api/v2.0/results?testcases={testcase}", other.url));
        text.contains("audit-2.8-1").then_some(())
    };
    until(|| there("dist.first")).expect("what waited is there");
    // One that is refused goes to the dead letters, and holds up nobody.
    let letters = || up.run(&["dlq", "list"]).out.contains("sink:wrong").then_some(());
    until(letters).expect("what is refused lies with the dead letters");
    post_result(&up, "dist.second");
    until(|| there("dist.second")).expect("the other one goes on");
    up.run(&["dlq", "list"]).expect(0, &["sink:wrong", "it answered 404"]);
    up.run(&["dlq", "requeue", "1"]).expect(6, &["sink `wrong` does not take it", "404"]);
    up.run(&["sink", "forget", "away"]).expect(6, &["is in this server's configuration"]);
    up.run(&["sink", "forget", "nope"]).expect(5, &["nope"]);
    let shown = get(&format!("{}/api/v2.0/results?testcases=dist.first", other.url)).1;
    assert_eq!(shown.matches("\"id\"").count(), 1, "once: {shown}");
}

#[test]
fn a_folder_for_copies_that_cannot_be_made_keeps_its_sink_waiting_and_nothing_else() {
    let base = tempfile::tempdir().unwrap();
    let taken = base.path().join("taken");
    fs::write(&taken, "no folder").unwrap();
    let folder = taken.join("copies");
    let sinks = format!("sinks:\n  - {{name: copies, junit: {{url: \"file://{}\"}}}}\n", folder.display());
    let up = start_with(&sinks, 0);
    let told = |text: &str| get(&format!("{}/api/v1/sinks", up.url)).1.contains(text).then_some(());
    until(|| told("cannot make the folder")).expect("it is told why the sink waits");
    up.run(&["sink", "list"]).expect(0, &["copies", "failed"]);
    fs::remove_file(&taken).unwrap();
    until(|| folder.is_dir().then_some(())).expect("it is made once it can be");
    let well = || (!get(&format!("{}/api/v1/sinks", up.url)).1.contains("cannot make")).then_some(());
    until(well).expect("the sink does well");
}
