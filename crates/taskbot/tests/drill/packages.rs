//! The repository `package-install` for real: Debian packages that are built here, on a Debian system in a container.

use crate::support::{engine, environment::root};
use bollard::{API_DEFAULT_VERSION, Docker, query_parameters::CreateImageOptionsBuilder};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The image that the system becomes.
const IMAGE: &str = "taskbot-test/debian-packages:1";
/// How long the engine may take for an answer, in seconds.
const ANSWER_SECONDS: u64 = 120;

const GOOD: &str = "#include <stdio.h>\nint main(void) { puts(\"good\"); return 0; }\n";
const CRASHES: &str = "#include <stdlib.h>\nint main(void) { abort(); }\n";

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Builds a package with a program; what `more` adds to its folder goes into it too.
fn package(folder: &Path, name: &str, version: &str, source: &str, more: impl FnOnce(&Path)) {
    let tree = folder.join(format!("{name}-{version}"));
    for below in ["DEBIAN", "usr/bin", &format!("usr/lib/{name}")] {
        fs::create_dir_all(tree.join(below)).unwrap();
    }
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: a test\n"
    );
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let code = folder.join(format!("{name}.c"));
    fs::write(&code, source).unwrap();
    run(Command::new("gcc").arg("-o").arg(tree.join("usr/bin").join(name)).arg(&code));
    more(&tree);
    run(Command::new("dpkg-deb").args(["--root-owner-group", "-b"]).arg(&tree).arg(folder.join("repo")));
}

/// An image with a Debian system and a repository of packages in it.
async fn image() {
    let folder = tempfile::tempdir().unwrap();
    let system = folder.path().join("system");
    let script = root().join("crates/taskbot/tests/drill/support/debian-system.sh");
    run(Command::new("bash").arg(script).arg(&system));
    let packages = folder.path();
    fs::create_dir_all(packages.join("repo")).unwrap();
    package(packages, "good", "1.0-1", GOOD, |_| {});
    package(packages, "good", "1.1-1", GOOD, |_| {});
    package(packages, "bad", "1.0", CRASHES, |tree| {
        std::os::unix::fs::symlink("nowhere", tree.join("usr/lib/bad/link")).unwrap();
    });
    let list = run(Command::new("dpkg-scanpackages").args(["-m", "."]).current_dir(packages.join("repo")));
    fs::write(packages.join("repo/Packages"), list).unwrap();
    run(Command::new("cp").arg("-a").arg(packages.join("repo")).arg(system.join("repo")));
    let archive = packages.join("system.tar");
    run(Command::new("tar").arg("-C").arg(&system).arg("-cf").arg(&archive).arg("."));
    let docker = Docker::connect_with_unix(&engine::socket(), ANSWER_SECONDS, API_DEFAULT_VERSION).unwrap();
    let (name, tag) = IMAGE.split_once(':').unwrap();
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(name).tag(tag).build();
    let body = bollard::body_full(fs::read(&archive).unwrap().into());
    docker.create_image(Some(options), Some(body), None).try_collect::<Vec<_>>().await.unwrap();
}

/// What the repository says of a package: the exit code, the document, and the log.
fn install(package: &str, version: &str) -> (i32, Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("taskbot.yaml");
    let socket = engine::socket();
    fs::write(&config, format!("worker: {{executors: {{sockets: [\"{socket}\"], pull: never}}}}\n")).unwrap();
    let keep = folder.path().join("kept");
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskbot"));
    command.args(["task", "run-local"]).arg(root().join("deploy/task-repos/package-install"));
    command.args(["--executor", "container", "--config"]).arg(&config).arg("--keep").arg(&keep);
    for (name, value) in [
        ("image", IMAGE),
        ("package", package),
        ("version", version),
        ("repositories", "local=deb file:/repo ./"),
    ] {
        command.arg("--input").arg(format!("{name}={}", json!(value)));
    }
    let output = command.output().unwrap();
    let log =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let document = find(&keep, "result.json").unwrap_or_else(|| panic!("no document is left\n{log}"));
    let document = serde_json::from_slice(&fs::read(document).unwrap()).unwrap();
    (output.status.code().unwrap(), document, log)
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find_map(|path| match path.is_dir() {
        true => find(&path, name),
        false => (path.file_name()? == name).then_some(path),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debian_packages_are_installed_looked_at_and_removed() {
    image().await;
    let (code, document, log) = install("good", "1.0");
    assert_eq!(code, 0, "{document:#}\n{log}");
    for stage in ["initial_provision", "system_info", "install_package", "uninstall_package"] {
        assert_eq!(document[stage]["success"], true, "{document:#}\n{log}");
        assert!(document["stats"][stage]["delta"].is_number(), "{document:#}");
    }
    let installed = document["install_package"]["output"].as_str().unwrap();
    assert!(installed.contains("good: installed 1.0-1"), "the older one, as asked for: {installed}");
    let launched = document["tests"]["launch_tests"]["output"].as_str().unwrap();
    assert!(launched.contains("/usr/bin/good ran (0): good"), "{launched}");
    assert_eq!(document["tests"]["package_integrity_tests"]["success"], true, "{document:#}");

    let (code, document, log) = install("bad", "");
    assert_eq!(code, 1, "{document:#}\n{log}");
    let tests = &document["tests"];
    assert_eq!(tests["package_integrity_tests"]["success"], false, "{document:#}");
    let whole = tests["package_integrity_tests"]["output"].as_str().unwrap();
    assert!(whole.contains("/usr/lib/bad/link leads to nowhere, which is not there"), "{whole}");
    let launched = tests["launch_tests"]["output"].as_str().unwrap();
    assert!(launched.contains("/usr/bin/bad dies by signal 6"), "{launched}");
    assert_eq!(document["uninstall_package"]["success"], true, "the rest is done all the same: {document:#}");

    for (package, version) in [("nothing-like-it", ""), ("good", "7.0")] {
        let (code, document, log) = install(package, version);
        assert_eq!(code, 1, "{document:#}\n{log}");
        assert_eq!(document["install_package"]["success"], false, "{document:#}");
        let skipped = document["skipped_tests"].to_string();
        assert!(skipped.contains("uninstall_package: the package is not installed"), "{skipped}");
    }
}
