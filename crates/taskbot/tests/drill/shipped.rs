//! rpmlint and static analysis for real: from the event on the bus, by the shipped rules, to stored results.

use crate::support::{
    bus::Publication,
    environment::root,
    installation::{Installation, Plan},
    wait::until,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const SPEC: &str = "\
Name: lz4
Version: 1.0
Release: 1.fc42
Summary: this summary ends with a dot.
License: MIT
URL: https://example.org/lz4
BuildArch: noarch
Source0: lz4-1.0.tar.gz

%description
A package with a planted bug in its sources.

%files

%changelog
* Mon Jan 06 2025 Some Body <somebody@example.org> - 1.0-1.fc42
- First version
";

/// Freed twice.
const BUG: &str = "\
#include <stdlib.h>
#include <string.h>

int twice(const char *text)
{
    char *copy = malloc(strlen(text) + 1);
    if (!copy)
        return 0;
    strcpy(copy, text);
    free(copy);
    free(copy);
    return 1;
}
";

const NVR: &str = "lz4-1.0-1.fc42";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shipped_rules_lint_and_analyse_real_packages() {
    let packages = tempfile::tempdir().unwrap();
    let place = packages.path().join("packages/lz4/1.0/1.fc42/src");
    fs::create_dir_all(&place).unwrap();
    fs::copy(source_rpm(packages.path()), place.join(format!("{NVR}.src.rpm"))).unwrap();

    // The shipped rules as they are, but for where packages are; and the task repositories beside them.
    let served = serve(packages.path().to_owned()).await;
    let mut rules = files_below(&root().join("rules"));
    // Their own tests say where packages are expected.
    for text in rules.values_mut() {
        *text = text.replace("https://kojipkgs.fedoraproject.org", &served);
    }
    let mut rules: Vec<(&str, &str)> =
        rules.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    rules.retain(|(name, _)| !name.starts_with("demo/"));
    let mut plan = Plan { rules: &rules, ..Plan::default() };
    let beside = files_below(&root().join("deploy/task-repos"));
    let beside: Vec<_> =
        beside.iter().map(|(name, text)| (format!("deploy/task-repos/{name}"), text.clone())).collect();
    plan.beside = &beside;
    let installation = Installation::start(&plan).await;

    let build = json!({
        "name": "lz4", "version": "1.0", "release": "1.fc42", "epoch": null, "build_id": 1, "task_id": 2,
        "owner": "somebody", "instance": "primary", "attribute": "state", "old": 0, "new": 1,
    });
    let update = json!({"agent": "somebody", "update": {
        "alias": "FEDORA-2026-0000000001", "title": NVR, "type": "bugfix", "request": "testing", "critpath": false,
        "release": {"name": "F42", "version": "42"}, "notes": "none", "builds": [{"nvr": NVR, "epoch": 0}],
    }});
    let send = |topic: &str, id: &str, body: &Value| Publication {
        topic: topic.to_owned(),
        headers: vec![("message-id", id.to_owned())],
        payload: body.to_string().into_bytes(),
    };
    let topic = "org.fedoraproject.prod";
    installation
        .bus
        .publish([
            send(&format!("{topic}.buildsys.build.state.change"), "build", &build),
            send(&format!("{topic}.bodhi.update.request.testing"), "update", &update),
        ])
        .await;
    let tasks = until("both tasks are made", async || {
        let tasks = installation.list("/api/v1/tasks").await;
        (tasks.len() == 2).then_some(tasks)
    })
    .await;
    for task in tasks {
        let whole = installation.ended(task["id"].as_str().unwrap()).await;
        let (name, state) = (whole["task"]["name"].as_str().unwrap(), &whole["task"]["state"]);
        let result = &whole["results"][0];
        let log = installation.log_of(task["id"].as_str().unwrap()).await;
        let all =
            format!("/api/v1/results?limit=1000&parts=true&task={}", whole["task"]["id"].as_str().unwrap());
        let parts = installation.get(&all).await["items"].to_string();
        let shown = format!("{state:#}\n{log}\n{parts}");
        assert_eq!(whole["task"]["item"], json!({"type": "koji_build", "id": NVR}), "{shown}");
        match name {
            "static-analysis" => {
                assert_eq!(
                    (&state["outcome"], &result["testcase"]),
                    (&json!("failed"), &json!("dist.static-analysis")),
                    "{shown}"
                );
                for words in ["analyzer-double-free", "bug.c"] {
                    assert!(parts.contains(words), "`{words}` is not in {parts}");
                }
            }
            "rpmlint" => {
                assert_eq!(result["testcase"], "dist.rpmlint", "{shown}");
                // Which findings fail is the tool's configuration; that it ran for real is what counts here.
                assert!(
                    ["passed", "info", "failed"].contains(&state["outcome"].as_str().unwrap()),
                    "{shown}"
                );
                assert!(parts.contains("summary-ended-with-dot"), "{parts}");
            }
            other => panic!("unexpected task {other}"),
        }
    }
    installation.remove().await;
}

/// All files below a folder by their relative paths.
fn files_below(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(inner) = todo.pop() {
        for entry in fs::read_dir(folder.join(&inner)).unwrap() {
            let entry = entry.unwrap();
            let path = inner.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                todo.push(path);
            } else {
                found.insert(path.display().to_string(), fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    found
}

fn source_rpm(folder: &Path) -> PathBuf {
    let (top, sources) = (folder.join("top"), folder.join("lz4-1.0"));
    fs::create_dir_all(top.join("SOURCES")).unwrap();
    fs::create_dir_all(&sources).unwrap();
    fs::write(sources.join("bug.c"), BUG).unwrap();
    let spec = folder.join("lz4.spec");
    fs::write(&spec, SPEC).unwrap();
    let archive = top.join("SOURCES/lz4-1.0.tar.gz");
    run(Command::new("tar").arg("-C").arg(folder).arg("-czf").arg(archive).arg("lz4-1.0"));
    run(Command::new("rpmbuild")
        .arg("-bs")
        .arg("--define")
        .arg(format!("_topdir {}", top.display()))
        .arg(spec));
    top.join(format!("SRPMS/{NVR}.src.rpm"))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Serves the files of a folder by HTTP; gives the URL.
async fn serve(folder: PathBuf) -> String {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n")
                && stream.read_line(&mut request).await.is_ok_and(|read| read > 0)
            {}
            let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
            let (status, body) = match fs::read(folder.join(path)) {
                Ok(bytes) => ("200 OK", bytes),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            // A client that went away asks again.
            let _ = stream.write_all(&[head.into_bytes(), body].concat()).await;
            let _ = stream.shutdown().await;
        }
    });
    url
}
