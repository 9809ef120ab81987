//! An update of the installer is pushed to testing: a test ISO is built, installed unattended, and what was installed
//! is looked at.

use super::{
    TOPIC, WORKER, ended,
    packages::{self, Build},
    told,
};
use crate::shipped::{send, shipped_with};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// As in the shipped facts.
const KERNEL: Build<'_> = Build("kernel", "6.14.0", "63.fc42");
const BUSYBOX: Build<'_> = Build("busybox", "1.36.1", "9.fc42");
const GOOD: Build<'_> = Build("anaconda", "42.27.13", "1.fc42");
const BROKEN: Build<'_> = Build("anaconda", "42.27.14", "1.fc42");

/// An update as Bodhi tells it.
fn update(alias: &str, build: Build<'_>) -> Value {
    json!({"agent": "releng", "update": {
        "alias": alias, "title": build.nvr(), "type": "bugfix", "status": "testing", "request": null, "critpath": true,
        "release": {"name": "F42", "version": "42", "branch": "f42", "dist_tag": "f42"}, "notes": "none",
        "builds": [{"nvr": build.nvr(), "type": "rpm", "epoch": 0}],
    }})
}

fn place(folder: &Path, Build(name, version, release): Build<'_>) -> std::path::PathBuf {
    folder.join(format!("packages/{name}/{version}/{release}/x86_64"))
}

/// The installer's package with one file.
fn anaconda(folder: &Path, build: Build<'_>, file: &str, text: &str) {
    let root = tempfile::tempdir_in(folder).unwrap();
    let path = root.path().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    packages::rpm(Build("anaconda-core", build.1, build.2), "x86_64", root.path(), &place(folder, build));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_iso_is_built_and_installed() {
    let folder = tempfile::tempdir().unwrap();
    packages::kernel(KERNEL, "x86_64", "amd64", &place(folder.path(), KERNEL));
    packages::busybox(BUSYBOX, "x86_64", "amd64", &place(folder.path(), BUSYBOX));
    anaconda(folder.path(), GOOD, "usr/share/anaconda/release", "good\n");
    // Takes the place of what every command of the installed system is.
    anaconda(folder.path(), BROKEN, "bin/busybox", "broken\n");
    let installation = shipped_with(folder.path().to_owned(), &[], WORKER).await;
    let topic = format!("{TOPIC}.bodhi.update.complete.testing");
    installation.bus.publish([send(&topic, "good", &update("FEDORA-2026-good", GOOD))]).await;

    let built = ended(&installation, "anaconda-test-iso", 1).await;
    assert_eq!(built[0].outcome(), "passed", "{}", built[0].shown());
    assert_eq!(built[0].item, json!({"type": "bodhi_update", "id": "FEDORA-2026-good"}));
    assert!(built[0].files.iter().any(|name| name == "test.iso"), "{}", built[0].shown());
    let installed = ended(&installation, "install-tests", 1).await;
    let (one, shown) = (&installed[0], installed[0].shown());
    assert_eq!(one.outcome(), "passed", "{}\n{shown}", one.complaints());
    assert_eq!(one.item, json!({"type": "bodhi_update", "id": "FEDORA-2026-good"}));
    assert!(one.results.iter().any(|result| result["testcase"] == "compose.install-default"), "{shown}");
    for file in ["vm/install-console.log", "vm/boot-console.log"] {
        assert!(one.files.iter().any(|name| name == file), "{file}: {shown}");
    }

    installation.bus.publish([send(&topic, "broken", &update("FEDORA-2026-broken", BROKEN))]).await;
    let built = ended(&installation, "anaconda-test-iso", 2).await;
    assert!(built.iter().all(|task| task.outcome() == "passed"), "a medium can be built of it");
    let installed = ended(&installation, "install-tests", 2).await;
    let one = installed.iter().find(|task| task.item["id"] == "FEDORA-2026-broken").unwrap();
    assert_eq!(one.outcome(), "failed", "{}", one.shown());
    for file in ["vm/install-console.log", "vm/failure.png"] {
        assert!(one.files.iter().any(|name| name == file), "{file}: {}", one.shown());
    }
    assert!(one.log.contains("INSTALL-FAILED: %post failed"), "{}", one.shown());
    assert_eq!(told(&installation, "taskbot.task.finished").await, 4);
    assert!(told(&installation, "taskbot.artifact.published").await >= 2);
    installation.remove().await;
}
