//! The shipped rules and task repositories for real: from the event on the bus to stored results, on packages that are
//! built here.

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
A package with a planted bug in its sources, and with a description whose line is longer than eighty characters.

%files

%changelog
* Mon Jan 06 2025 Some Body <somebody@example.org> - 1.0-1.fc42
- First version
";

/// There is nothing to be found in it.
const GOOD_SPEC: &str = "\
Name: neat
Version: 1.0
Release: 1.fc42
Summary: A package in good order
License: MIT
URL: https://example.org/neat
BuildArch: noarch
Source0: https://example.org/neat-1.0.tar.gz

%description
A package in good order.

%prep
%setup -q

%build

%install

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
const GOOD_NVR: &str = "neat-1.0-1.fc42";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shipped_rules_lint_and_analyse_real_packages() {
    let packages = tempfile::tempdir().unwrap();
    for (name, nvr, spec) in [("lz4", NVR, SPEC), ("neat", GOOD_NVR, GOOD_SPEC)] {
        let place = packages.path().join(format!("packages/{name}/1.0/1.fc42/src"));
        fs::create_dir_all(&place).unwrap();
        let made = source_rpm(packages.path(), name, spec, BUG);
        fs::copy(made, place.join(format!("{nvr}.src.rpm"))).unwrap();
    }

    let installation = shipped(packages.path().to_owned()).await;

    let build = json!({
        "name": "lz4", "version": "1.0", "release": "1.fc42", "epoch": null, "build_id": 1, "task_id": 2,
        "owner": "somebody", "instance": "primary", "attribute": "state", "old": 0, "new": 1,
    });
    let update = json!({"agent": "somebody", "update": {
        "alias": "FEDORA-2026-0000000001", "title": NVR, "type": "bugfix", "request": "testing", "critpath": false,
        "release": {"name": "F42", "version": "42"}, "notes": "none",
        "builds": [{"nvr": NVR, "epoch": 0}, {"nvr": GOOD_NVR, "epoch": 0}],
    }});
    let topic = "org.fedoraproject.prod";
    installation
        .bus
        .publish([
            send(&format!("{topic}.buildsys.build.state.change"), "build", &build),
            send(&format!("{topic}.bodhi.update.request.testing"), "update", &update),
        ])
        .await;
    let tasks = until("all tasks are made", async || {
        let tasks = installation.list("/api/v1/tasks").await;
        (tasks.len() == 3).then_some(tasks)
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
        let nvr = whole["task"]["item"]["id"].as_str().unwrap();
        assert_eq!(whole["task"]["item"], json!({"type": "koji_build", "id": nvr}), "{shown}");
        match name {
            "static-analysis" => {
                assert_eq!(nvr, NVR, "{shown}");
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
                let good = nvr == GOOD_NVR;
                let outcome = if good { "passed" } else { "failed" };
                assert_eq!(
                    (&state["outcome"], &result["testcase"]),
                    (&json!(outcome), &json!("dist.rpmlint")),
                    "{shown}"
                );
                for rule in ["description-line-too-long", "summary-ended-with-dot"] {
                    assert_eq!(parts.contains(rule), !good, "{rule}: {parts}");
                }
            }
            other => panic!("unexpected task {other}"),
        }
    }
    installation.remove().await;
}

/// Leaks `list` when the number cannot be made.
const EXTENSION: &str = "\
#include <Python.h>

static PyObject *one(PyObject *self, PyObject *args)
{
    PyObject *list, *item;
    list = PyList_New(0);
    if (list == NULL)
        return NULL;
    item = PyLong_FromLong(1);
    if (item == NULL)
        return NULL;
    PyList_Append(list, item);
    Py_DECREF(item);
    return list;
}
";

/// A repository of packages without content: name, version, release and further lines of each one's spec file.
fn repository(folder: &Path, packages: &[(&str, &str, &str, &str)]) {
    fs::create_dir_all(folder).unwrap();
    let place = tempfile::tempdir().unwrap();
    for (name, version, release, lines) in packages {
        let spec = place.path().join(format!("{name}.spec"));
        let text = format!(
            "Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: A package\nLicense: MIT\nBuildArch: noarch\n\
             AutoReqProv: no\n{lines}\n%description\nA package.\n%files\n"
        );
        fs::write(&spec, text).unwrap();
        run(Command::new("rpmbuild")
            .args(["-bb", "--define", &format!("_topdir {}", place.path().display())])
            .args(["--define", &format!("_rpmdir {}", folder.display())])
            .arg(&spec));
    }
    run(Command::new("createrepo_c").arg("--quiet").arg(folder));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shipped_rules_check_updates_and_extensions() {
    let packages = tempfile::tempdir().unwrap();
    let linux = packages.path().join("pub/fedora/linux");
    // The new version of a library no longer has what a program needs; the release after it has an older one.
    for arch in ["x86_64", "aarch64"] {
        let stable = [
            ("lib", "1", "1.fc42", "Provides: libfoo.so.1"),
            ("app", "1", "1.fc42", "Requires: libfoo.so.1"),
        ];
        repository(&linux.join(format!("releases/42/Everything/{arch}/os")), &stable);
        repository(&linux.join(format!("updates/42/Everything/{arch}")), &[]);
        let testing =
            [("lib", "2", "1.fc42", "Provides: libfoo.so.2"), ("good", "1", "1.fc42", "Requires: lib")];
        repository(&linux.join(format!("updates/testing/42/Everything/{arch}")), &testing);
    }
    for (release, version) in [("41", "1"), ("42", "1"), ("43", "1.9")] {
        let package = ("lib", version, &*format!("1.fc{release}"), "");
        repository(&linux.join(format!("releases/{release}/Everything/source/tree")), &[package]);
        repository(&linux.join(format!("updates/{release}/Everything/source/tree")), &[]);
    }
    let sources = packages.path().join("packages/python-simplejson/1.0/1.fc42/src");
    fs::create_dir_all(&sources).unwrap();
    let source = source_rpm(packages.path(), "python-simplejson", SPEC, EXTENSION);
    fs::copy(source, sources.join("python-simplejson-1.0-1.fc42.src.rpm")).unwrap();
    let installation = shipped(packages.path().to_owned()).await;

    let topic = "org.fedoraproject.prod";
    let build = |name: &str| {
        json!({
            "name": name, "version": "1.0", "release": "1.fc42", "epoch": null, "build_id": 1, "task_id": 2,
            "owner": "somebody", "instance": "primary", "attribute": "state", "old": 0, "new": 1,
        })
    };
    let update = json!({"agent": "somebody", "update": {
        "alias": "FEDORA-2026-0000000002", "title": "lib good", "type": "bugfix", "request": "stable", "critpath": false,
        "release": {"name": "F42", "version": "42"}, "notes": "none",
        "builds": [{"nvr": "lib-2-1.fc42", "epoch": 0}, {"nvr": "good-1-1.fc42", "epoch": 0}],
    }});
    installation
        .bus
        .publish([
            // Pure Python: nobody's business.
            send(&format!("{topic}.buildsys.build.state.change"), "pure", &build("python-tabulate")),
            send(&format!("{topic}.buildsys.build.state.change"), "extension", &build("python-simplejson")),
            send(&format!("{topic}.bodhi.update.request.stable"), "update", &update),
        ])
        .await;
    let tasks = until("all tasks are made", async || {
        let tasks = installation.list("/api/v1/tasks").await;
        (tasks.len() == 4).then_some(tasks)
    })
    .await;
    let mut ended = Vec::new();
    for task in tasks {
        let id = task["id"].as_str().unwrap();
        let whole = installation.ended(id).await;
        let name = whole["task"]["name"].as_str().unwrap().to_owned();
        let log = installation.log_of(id).await;
        let parts = installation.get(&format!("/api/v1/results?limit=1000&parts=true&task={id}")).await;
        let parts = parts["items"].as_array().unwrap().clone();
        let shown = format!("{:#}\n{log}\n{parts:#?}", whole["task"]["state"]);
        assert_eq!(whole["task"]["state"]["outcome"], "failed", "{shown}");
        // What a result says of a build.
        let of = |nvr: &str| {
            let found = parts.iter().find(|part| part["item"] == json!({"type": "koji_build", "id": nvr}));
            let found = found.unwrap_or_else(|| panic!("no result of {nvr}: {shown}"));
            (found["outcome"].as_str().unwrap().to_owned(), found["note"].as_str().unwrap().to_owned())
        };
        match name.as_str() {
            "depcheck" => {
                let (outcome, note) = of("lib-2-1.fc42");
                assert_eq!(outcome, "failed", "{shown}");
                assert!(note.contains("breaks app-1-1.fc42.noarch: nothing provides libfoo.so.1"), "{shown}");
                assert_eq!(of("good-1-1.fc42").0, "passed", "{shown}");
            }
            "upgradepath" => {
                let (outcome, note) = of("lib-2-1.fc42");
                assert_eq!(outcome, "failed", "{shown}");
                assert!(note.contains("F43 has the older lib-1.9-1.fc43"), "{shown}");
                assert_eq!(of("good-1-1.fc42").0, "passed", "{shown}");
            }
            "python-c-api" => {
                let text = json!(parts).to_string();
                for words in ["leaked-reference", "bug.c", "`list`, owned since PyList_New in line 6"] {
                    assert!(text.contains(words), "`{words}` is not in {shown}");
                }
            }
            other => panic!("unexpected task {other}"),
        }
        ended.push(name);
    }
    ended.sort();
    assert_eq!(ended, ["depcheck", "depcheck", "python-c-api", "upgradepath"]);
    installation.remove().await;
}

/// An installation with the shipped rules as they are, but for where packages are, and the task repositories beside
/// them.
pub(crate) async fn shipped(packages: PathBuf) -> Installation {
    // In the sandbox `prepare` has network only where the worker allows it.
    shipped_with(packages, &[], "  allow: {network: true}").await
}

/// The same, with texts of the rules replaced, and further lines in the worker's configuration.
pub(crate) async fn shipped_with(packages: PathBuf, replaced: &[(&str, &str)], worker: &str) -> Installation {
    let served = serve(packages).await;
    let mut rules = files_below(&root().join("rules"));
    // Their own tests say where packages are expected.
    for text in rules.values_mut() {
        for host in ["https://kojipkgs.fedoraproject.org", "https://dl.fedoraproject.org"] {
            *text = text.replace(host, &served);
        }
        for (old, new) in replaced {
            *text = text.replace(old, new);
        }
    }
    let mut rules: Vec<(&str, &str)> =
        rules.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    rules.retain(|(name, _)| !name.starts_with("demo/"));
    let mut plan = Plan { rules: &rules, worker, ..Plan::default() };
    let beside = files_below(&root().join("deploy/task-repos"));
    let beside: Vec<_> =
        beside.iter().map(|(name, text)| (format!("deploy/task-repos/{name}"), text.clone())).collect();
    plan.beside = &beside;
    Installation::start(&plan).await
}

pub(crate) fn send(topic: &str, id: &str, body: &Value) -> Publication {
    Publication {
        topic: topic.to_owned(),
        headers: vec![("message-id", id.to_owned())],
        payload: body.to_string().into_bytes(),
    }
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

/// A source RPM of version 1.0-1.fc42 with one file `bug.c`.
fn source_rpm(folder: &Path, name: &str, spec: &str, code: &str) -> PathBuf {
    let (top, sources) = (folder.join("top"), folder.join(format!("{name}-1.0")));
    fs::create_dir_all(top.join("SOURCES")).unwrap();
    fs::create_dir_all(&sources).unwrap();
    fs::write(sources.join("bug.c"), code).unwrap();
    let path = folder.join(format!("{name}.spec"));
    fs::write(&path, spec.replace("lz4", name)).unwrap();
    let archive = top.join(format!("SOURCES/{name}-1.0.tar.gz"));
    run(Command::new("tar").arg("-C").arg(folder).arg("-czf").arg(archive).arg(format!("{name}-1.0")));
    run(Command::new("rpmbuild")
        .arg("-bs")
        .arg("--define")
        .arg(format!("_topdir {}", top.display()))
        .arg(path));
    top.join(format!("SRPMS/{name}-1.0-1.fc42.src.rpm"))
}

pub(crate) fn run(command: &mut Command) {
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
