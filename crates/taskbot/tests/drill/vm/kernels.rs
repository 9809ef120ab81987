//! A kernel is built: it boots on each architecture, and tests run in it.

use super::{
    TOPIC, WORKER, build, ended,
    packages::{self, ARCHES, Build},
    told,
};
use crate::shipped::{send, shipped_with};
use serde_json::json;

const KERNEL: Build<'_> = Build("kernel", "6.1.192", "2.fc42");
/// As in the shipped facts.
const BUSYBOX: Build<'_> = Build("busybox", "1.36.1", "9.fc42");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kernel_boots_on_all_its_architectures() {
    let folder = tempfile::tempdir().unwrap();
    let mut versions = Vec::new();
    for (arch, debian_arch) in ARCHES {
        let at = |build: Build<'_>| {
            let Build(name, version, release) = build;
            folder.path().join(format!("packages/{name}/{version}/{release}/{arch}"))
        };
        versions.push(packages::kernel(KERNEL, arch, debian_arch, &at(KERNEL)));
        packages::busybox(BUSYBOX, arch, debian_arch, &at(BUSYBOX));
    }
    // Debian has no kernel for clouds of the other architectures.
    let replaced = [
        ("[x86_64, aarch64, ppc64le, s390x]", "[x86_64, aarch64]"),
        (
            "        - {task: kernel-boot-files, item: {type: koji_build, id: kernel-6.14.9-300.fc42}, with: {arch: ppc64le}}\n",
            "",
        ),
        (
            "        - {task: kernel-boot-files, item: {type: koji_build, id: kernel-6.14.9-300.fc42}, with: {arch: s390x}}\n",
            "",
        ),
    ];
    let installation = shipped_with(folder.path().to_owned(), &replaced, WORKER).await;
    let topic = format!("{TOPIC}.buildsys.build.state.change");
    installation
        .bus
        .publish([
            // Nobody's business: no kernel, and nothing in C.
            send(&topic, "other", &build("python-tabulate", "1.0", "1.fc42")),
            send(&topic, "headers", &build("kernel-headers", "6.1.192", "2.fc42")),
            send(&topic, "kernel", &build(KERNEL.0, KERNEL.1, KERNEL.2)),
        ])
        .await;
    let item = json!({"type": "koji_build", "id": KERNEL.nvr()});
    for made in ended(&installation, "kernel-boot-files", 2).await {
        assert_eq!((made.outcome(), &made.item), ("passed", &item), "{}", made.shown());
    }
    let tested = ended(&installation, "kernel-tests", 2).await;
    for ((arch, _), version) in ARCHES.iter().zip(versions) {
        let one = tested.iter().find(|task| task.inputs["arch"] == *arch).unwrap();
        assert_eq!((one.outcome(), &one.item), ("passed", &item), "{}\n{}", one.complaints(), one.shown());
        let testcase = format!("kernel.tests.{arch}");
        assert!(one.results.iter().any(|result| result["testcase"] == *testcase), "{}", one.shown());
        for file in ["dmesg.txt", "vm/boot-console.log"] {
            assert!(one.files.iter().any(|name| name == file), "{file}: {}", one.shown());
        }
        // The console of that very kernel.
        assert!(one.log.contains(&version), "{version}: {}", one.shown());
    }
    assert_eq!(installation.list("/api/v1/tasks").await.len(), 4, "other packages trigger nothing");
    assert_eq!(told(&installation, "taskbot.task.finished").await, 4);
    installation.remove().await;
}
