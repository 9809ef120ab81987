//! Every shipped task repository as a packager would try it: from its folder, without a server.

use crate::support::{run, taskbot};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A list that is not given back on the way out by an error.
const LEAK: &str = "#include <Python.h>

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

/// Freed twice.
const TWICE: &str = "#include <stdlib.h>\n\nvoid twice(char *text)\n{\n    free(text);\n    free(text);\n}\n";

const SPEC: &str = "Name: lib\nVersion: 2\nRelease: 1.fc42\nSummary: A library\nLicense: MIT\nBuildArch: noarch\n\
    %description\nA library.\n%files\n";

/// What one of them is tried with, and what must come of it: its exit code, and texts of what it says.
struct Trial {
    inputs: Vec<String>,
    code: i32,
    says: &'static [&'static str],
}

fn shell(script: &str, folder: &Path) {
    let output = Command::new("sh").args(["-e", "-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder with the sources of a program of one file.
fn sources(folder: &Path, code: &str) -> String {
    fs::create_dir_all(folder.join("x-1")).unwrap();
    fs::write(folder.join("x-1/bug.c"), code).unwrap();
    shell("tar czf x-1.tar.gz x-1; rm -r x-1", folder);
    format!("folder={}", folder.display())
}

/// A repository with one package.
fn packages(folder: &Path) -> PathBuf {
    let full = folder.join("full");
    fs::create_dir_all(&full).unwrap();
    fs::write(folder.join("lib.spec"), SPEC).unwrap();
    shell(
        "rpmbuild -ba --quiet --define \"_topdir $PWD/top\" lib.spec; cp top/SRPMS/*.rpm top/RPMS/noarch/*.rpm full/",
        folder,
    );
    shell("createrepo_c --quiet full", folder);
    full
}

fn trials(folder: &Path) -> BTreeMap<&'static str, Trial> {
    let full = packages(folder);
    let full = full.display();
    let trial = |inputs: &[&str], code, says| Trial {
        inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
        code,
        says,
    };
    // What needs a medium, an image or a kernel is tried with them elsewhere; here it says what it must be told.
    let untold = |says| trial(&[], 2, says);
    [
        ("anaconda-test-iso", untold(&["update", "release", "kernel"])),
        (
            "demo-check",
            trial(
                &[
                    "nvr=lib-2-1.fc42",
                    "dist_tag=fc42",
                    "update=FEDORA-2026-0a1b2c3d4e",
                    "kind=bugfix",
                    "notes=It reads files that it could not read.",
                ],
                0,
                &["demo.update-check", "passed"],
            ),
        ),
        (
            "depcheck",
            trial(
                &[
                    "release=F42",
                    "arch=x86_64",
                    "builds=[\"lib-2-1.fc42\"]",
                    &format!("repositories=[\"{full}\"]"),
                    &format!("candidates=[\"{full}\"]"),
                ],
                0,
                &["dist.depcheck", "lib-2-1.fc42"],
            ),
        ),
        ("install-tests", untold(&["iso", "release"])),
        ("kernel-boot-files", untold(&["nvr", "arch", "kernel"])),
        ("kernel-tests", untold(&["vmlinuz", "initrd"])),
        ("package-install", untold(&["image", "package"])),
        (
            "python-c-api",
            trial(&["nvr=x-1-1", &sources(&folder.join("c-api"), LEAK)], 1, &["leaked-reference", "bug.c"]),
        ),
        (
            "rpmlint",
            trial(
                &["nvr=lib-2-1.fc42", &format!("folder={full}")],
                1,
                &["dist.rpmlint", "no-changelogname-tag"],
            ),
        ),
        (
            "static-analysis",
            trial(&["nvr=x-1-1", &sources(&folder.join("sources"), TWICE)], 1, &["double-free", "bug.c"]),
        ),
        ("upgrade-tests", untold(&["configuration", "target", "packages"])),
        (
            "upgradepath",
            trial(
                &[
                    "release=F42",
                    "builds=[\"lib-2-1.fc42\"]",
                    &format!("releases=[{{\"name\": \"F42\", \"repositories\": [\"{full}\"]}}]"),
                ],
                0,
                &["dist.upgradepath", "passed"],
            ),
        ),
    ]
    .into()
}

#[test]
fn every_shipped_task_runs_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let trials = trials(folder.path());
    let shipped =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/task-repos").canonicalize().unwrap();
    let mut names: Vec<_> = fs::read_dir(&shipped)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, trials.keys().copied().collect::<Vec<_>>(), "each is tried");
    for (name, trial) in trials {
        let mut command = taskbot();
        command.current_dir(folder.path()).args(["task", "run-local", "--executor", "local"]);
        for input in &trial.inputs {
            command.args(["--input", input]);
        }
        println!("{name}");
        run(command.arg(shipped.join(name)), "").expect(trial.code, trial.says);
    }
}
