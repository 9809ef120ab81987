//! depcheck and upgradepath, on repositories that are built here: real packages, real metadata, real solver.

use super::Checkout;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

/// A package: name, version, release, and further lines of its spec file.
type Package<'a> = (&'a str, &'a str, &'a str, &'a str);

/// A repository of packages in a folder of this name.
fn repository(place: &Path, name: &str, packages: &[Package<'_>]) -> PathBuf {
    let folder = place.join(name);
    fs::create_dir_all(&folder).unwrap();
    thread::scope(|scope| {
        for package in packages {
            scope.spawn(|| build(&folder, *package));
        }
    });
    run(Command::new("createrepo_c").arg("--quiet").arg(&folder));
    folder
}

/// Builds one package into the folder.
fn build(folder: &Path, (name, version, release, lines): Package<'_>) {
    let place = tempfile::tempdir().unwrap();
    let spec = place.path().join(format!("{name}.spec"));
    let text = format!(
        "Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: A package\nLicense: MIT\nBuildArch: noarch\n\
         AutoReqProv: no\n{lines}\n%description\nA package.\n%files\n"
    );
    fs::write(&spec, text).unwrap();
    let define = |what: &str, path: &Path| format!("{what} {}", path.display());
    run(Command::new("rpmbuild")
        .args(["-bb", "--define", &define("_topdir", place.path())])
        .args(["--define", &define("_rpmdir", folder)])
        .arg(&spec));
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} must be installed (`cargo xtask test` does): {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What is stable: `user` cannot be installed, since `old` needs what is not there.
const STABLE: &[Package<'_>] = &[
    ("lib", "1", "1", "Provides: libfoo.so.1"),
    ("app", "1", "1", "Requires: libfoo.so.1"),
    ("tool", "1", "1", "Requires: app"),
    ("old", "1", "1", "Requires: gone"),
    ("user", "1", "1", "Requires: lib, old"),
    ("editor", "1", "1", ""),
    ("server", "1", "1", "Requires: editor"),
    ("weak", "1", "1", "Recommends: libfoo.so.1"),
];

const CANDIDATES: &[Package<'_>] = &[
    // A library whose soname changes, and the program that is built anew with it.
    ("lib", "2", "1", "Provides: libfoo.so.2"),
    ("app", "1", "2", "Requires: libfoo.so.2"),
    ("good", "1", "1", "Requires: lib"),
    ("clash", "1", "1", "Conflicts: editor"),
    ("editor", "2", "1", "Conflicts: server"),
    ("fork", "1", "1", "Obsoletes: app"),
    ("needy", "1", "1", "Requires: nothing-has-this >= 2"),
    ("old", "2", "1", "Requires: gone"),
    ("stale", "1", "1", ""),
];

fn depcheck(stable: &Path, candidates: &Path, builds: &[&str]) -> Checkout {
    let inputs = json!({"release": "F42", "arch": "x86_64", "builds": builds, "repositories": [stable], "candidates": [candidates]});
    Checkout::new("depcheck", inputs)
}

#[test]
fn depcheck_names_the_build_that_breaks_the_repository() {
    let place = tempfile::tempdir().unwrap();
    let stable = repository(place.path(), "stable", STABLE);
    let candidates = repository(place.path(), "candidates", CANDIDATES);
    let check = |builds: &[&str], outcome: &str, expect: &[&str]| {
        let ran = depcheck(&stable, &candidates, builds).run();
        let (found, shown) = ran.shown();
        assert_eq!(found, outcome, "{builds:?}: {}", ran.log);
        assert_eq!(shown.lines().count(), builds.len(), "a line for each build: {shown}");
        for words in expect {
            assert!(shown.contains(words), "{builds:?}: no {words:?} in\n{shown}");
        }
    };
    // What needed the library's old soname is broken, and what needs that too; what was broken before is not named.
    check(
        &["lib-2-1"],
        "failed",
        &[
            "failed  of koji_build/lib-2-1 (breaks app-1-1.noarch: nothing provides libfoo.so.1 needed by app-1-1.noarch; breaks tool-1-1.noarch: ",
        ],
    );
    let ran = depcheck(&stable, &candidates, &["lib-2-1"]).run();
    let shown = ran.shown().1;
    assert!(shown.contains("broken=app-1-1.noarch tool-1-1.noarch release=F42"), "{shown}");
    assert!(!shown.contains("user-1-1") && !shown.contains("weak-1-1"), "{shown}");
    // Together with the program that is built anew, all is well; its neighbour is not to blame.
    check(
        &["lib-2-1", "app-1-2"],
        "passed",
        &["passed  of koji_build/lib-2-1 (1 packages of it, ", "passed  of koji_build/app-1-2 ("],
    );
    check(
        &["good-1-1", "lib-2-1"],
        "failed",
        &["passed  of koji_build/good-1-1 (", "failed  of koji_build/lib-2-1 (breaks app-1-1.noarch"],
    );
    // The program alone needs what only the library's update brings.
    check(
        &["app-1-2"],
        "failed",
        &["app-1-2.noarch cannot be installed: nothing provides libfoo.so.2 needed by app-1-2.noarch"],
    );
    check(
        &["needy-1-1"],
        "failed",
        &["needy-1-1.noarch cannot be installed: nothing provides nothing-has-this >= 2"],
    );
    // Conflicts: with a package that one may do without, and with one that needs this one.
    check(&["clash-1-1"], "passed", &["all can be installed"]);
    check(
        &["editor-2-1"],
        "failed",
        &[
            "breaks server-1-1.noarch: package editor-2-1.noarch conflicts with server provided by server-1-1.noarch",
        ],
    );
    // What is obsoleted is gone, and whoever needs it is broken.
    check(
        &["fork-1-1"],
        "failed",
        &["breaks tool-1-1.noarch: nothing provides app needed by tool-1-1.noarch"],
    );
    // Broken before by the same cause: told, and blamed on nobody.
    check(&["old-2-1"], "passed", &["old-2-1.noarch was broken before, and is: nothing provides gone"]);
    // No verdict on a build that is nowhere.
    check(
        &["good-1-1", "absent-1-1"],
        "error(task)",
        &[
            "error(task)  of koji_build/absent-1-1 (no package of it for x86_64",
            "passed  of koji_build/good-1-1",
        ],
    );
}

#[test]
fn depcheck_takes_single_packages_and_newer_stable_versions_into_account() {
    let place = tempfile::tempdir().unwrap();
    let newer = [STABLE, &[("stale", "2", "1", "")]].concat();
    let stable = repository(place.path(), "stable", &newer);
    let loose = repository(place.path(), "loose", &[("lib", "2", "1", "Provides: libfoo.so.2")]);
    let inputs = json!({"release": "F42", "arch": "x86_64", "builds": ["lib-2-1"], "repositories": [stable]});
    let checkout = Checkout::new("depcheck", inputs);
    fs::copy(loose.join("noarch/lib-2-1.noarch.rpm"), checkout.fetched().join("lib-2-1.noarch.rpm")).unwrap();
    let (outcome, shown) = checkout.run().shown();
    assert_eq!(outcome, "failed", "{shown}");
    assert!(shown.contains("breaks app-1-1.noarch"), "{shown}");

    let candidates = repository(place.path(), "candidates", CANDIDATES);
    let (outcome, shown) = depcheck(&stable, &candidates, &["stale-1-1"]).run().shown();
    assert_eq!(outcome, "passed", "{shown}");
    assert!(shown.contains("stale-1-1.noarch is not what systems would get: there is a newer"), "{shown}");
}

/// No verdict, and so an error: never a pass, nor a failure of the update.
#[test]
fn depcheck_without_a_whole_repository_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let stable = repository(place.path(), "stable", &STABLE[..2]);
    let candidates = repository(place.path(), "candidates", &CANDIDATES[2..3]);
    let check = |inputs: Value, loose: &[(&str, &[u8])], expect: &str| {
        let mut whole = json!({"release": "F42", "arch": "x86_64", "builds": ["good-1-1"], "repositories": [stable], "candidates": [candidates]});
        whole.as_object_mut().unwrap().extend(inputs.as_object().unwrap().clone());
        let checkout = Checkout::new("depcheck", whole);
        for (name, bytes) in loose {
            fs::write(checkout.fetched().join(name), bytes).unwrap();
        }
        let ran = checkout.attempt();
        assert_eq!(ran.conclusion.outcome.as_str(), "error(task)", "{expect}: {}", ran.log);
        assert!(ran.log.contains(expect), "no {expect:?} in\n{}", ran.log);
    };
    check(
        json!({"repositories": ["/nowhere/at/all"]}),
        &[],
        "cannot fetch file:///nowhere/at/all/repodata/repomd.xml",
    );
    check(json!({"repositories": ["ftp://x/y"]}), &[], "ftp://x/y is no address of a repository");
    check(json!({"repositories": []}), &[], "the repositories of F42 hold no package for x86_64");
    check(json!({"candidates": []}), &[], "there is nothing to check");
    check(json!({"builds": []}), &[], "`builds` must name 1 to 1000 builds");
    check(json!({}), &[("good.rpm", b"\xed\xab\xee\xdb cut")], "good.rpm is no readable package");

    // Metadata that are not what repomd.xml says, and a repomd.xml that is none.
    let damaged = repository(place.path(), "damaged", &STABLE[..2]);
    let primary = fs::read_dir(damaged.join("repodata"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with("-primary.xml.gz"))
        .unwrap();
    let bytes = fs::read(&primary).unwrap();
    fs::write(&primary, &bytes[..bytes.len() - 9]).unwrap();
    check(json!({"repositories": [damaged]}), &[], "has not the checksum that repomd.xml states");
    fs::write(damaged.join("repodata/repomd.xml"), "<html>404</html>").unwrap();
    check(json!({"repositories": [damaged]}), &[], "repomd.xml lists no primary metadata");
    let outside = "<repomd xmlns='http://linux.duke.edu/metadata/repo'><data type='primary'><location href='../../secret'/><checksum type='sha256'>0</checksum></data></repomd>";
    fs::write(damaged.join("repodata/repomd.xml"), outside).unwrap();
    check(json!({"repositories": [damaged]}), &[], "which is not inside of the repository");
}

#[test]
fn upgradepath_never_lets_versions_go_down() {
    let place = tempfile::tempdir().unwrap();
    // 1.10 is newer than 1.9, and a release candidate is older than what it leads to.
    let releases = [
        ("F41", repository(place.path(), "f41", &[("foo", "1.9", "1.fc41", "")])),
        ("F42", repository(place.path(), "f42", &[("foo", "1.10~rc1", "1.fc42", "")])),
        (
            "F43",
            repository(
                place.path(),
                "f43",
                &[("foo", "1.10", "1.fc43", ""), ("bar", "0.5", "1", "Epoch: 1")],
            ),
        ),
    ];
    let releases: Vec<_> =
        releases.iter().map(|(name, folder)| json!({"name": name, "repositories": [folder]})).collect();
    let run = |release: &str, builds: Value, known: Value| {
        let inputs = json!({"release": release, "builds": builds, "releases": releases, "known": known});
        Checkout::new("upgradepath", inputs).attempt()
    };
    let check = |release: &str, build: Value, known: Value, outcome: &str, expect: &str| {
        let ran = run(release, json!([build]), known);
        let (found, shown) = ran.shown();
        assert_eq!(found, outcome, "{build}: {}", ran.log);
        let words = format!("{outcome}  of koji_build/");
        assert!(shown.starts_with(&words) && shown.contains(expect), "{build}: no {expect:?} in\n{shown}");
    };
    let none = || json!({});
    check(
        "F41",
        json!("foo-1.9-2.fc41"),
        none(),
        "passed",
        "(F41 has foo-1.9-1.fc41; F42 has foo-1.10~rc1-1.fc42; F43 has foo-1.10-1.fc43)",
    );
    check(
        "F41",
        json!("foo-1.10-1.fc41"),
        none(),
        "failed",
        "(F42 has the older foo-1.10~rc1-1.fc42: from F41 to F42 the version would go down)",
    );
    check("F42", json!("foo-1.10-1.fc42"), none(), "passed", "F43 has foo-1.10-1.fc43");
    check(
        "F42",
        json!("foo-1.8-7.fc42"),
        none(),
        "failed",
        "F41 has the newer foo-1.9-1.fc41: from F41 to F42 the version would go down; F42 itself has the newer",
    );
    // An epoch outdoes every version.
    check("F42", json!("bar-9-1"), none(), "passed", "F43 has bar-0.5-1 (epoch 1)");
    check(
        "F42",
        json!({"nvr": "bar-9-1", "epoch": 1}),
        none(),
        "failed",
        "F43 has the older bar-0.5-1 (epoch 1)",
    );
    check("F43", json!({"nvr": "bar-9-1", "epoch": null}), none(), "failed", "F43 itself has the newer");
    // What a release has beyond its repositories.
    let known = || json!({"F43": ["foo-1.11-1.fc43", {"nvr": "new-1-1", "epoch": 0}]});
    check("F42", json!("foo-1.11-1.fc42"), known(), "passed", "F43 has foo-1.11-1.fc43");
    check("F42", json!("new-2-1"), known(), "failed", "F43 has the older new-1-1");
    check("F42", json!("other-2-1"), none(), "passed", "(F41 has none; F42 has none; F43 has none)");

    let error = |release: &str, builds: Value, known: Value, expect: &str| {
        let ran = run(release, builds, known);
        assert_eq!(ran.conclusion.outcome.as_str(), "error(task)", "{}", ran.log);
        assert!(ran.log.contains(expect), "no {expect:?} in\n{}", ran.log);
    };
    error("F40", json!(["foo-1-1"]), none(), "the release F40 is not in `releases`: F41, F42, F43");
    error("F41", json!(["foo"]), none(), "'foo' is no build: expected name-version-release");
    error("F41", json!([]), none(), "`builds` must name 1 to 1000 builds");
    error("F41", json!(["foo-1-1"]), json!({"F99": []}), "`known` speaks of F99");
}

/// Each repository is cloned alone, and so brings what it needs.
#[test]
fn what_repositories_share_is_the_same_in_both() {
    let repositories = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/task-repos");
    for (one, other, files) in [
        ("depcheck", "upgradepath", ["repodata.py", "python.sh"].as_slice()),
        ("static-analysis", "python-c-api", &["analysis.py", "unpack.py"]),
        ("anaconda-test-iso", "kernel-boot-files", &["lib.sh"]),
    ] {
        for file in files {
            let read = |name: &str| fs::read_to_string(repositories.join(name).join(file)).unwrap();
            assert!(read(one) == read(other), "{file} differs between {one} and {other}: copy it over");
        }
    }
}
