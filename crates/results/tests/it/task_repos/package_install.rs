//! The parts of `package-install` that need no clean system: which third-party tests are run, how, and what their TAP
//! says. Its whole runs in a drill, in a container.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/task-repos/package-install")
}

/// Runs a script of the repository: its exit code, and what it printed.
fn sh(work: &Path, script: &str, arguments: &[&str], inputs: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new("sh");
    command.arg(repository().join(script)).args(arguments).env("TASKBOT_WORK", work);
    command.env("TASKBOT_INPUT_PACKAGE", "good").env("TASKBOT_INPUT_VERSION", "1.0");
    for (name, value) in [("TESTS", ""), ("TEST_ENV", "")].iter().chain(inputs) {
        command.env(format!("TASKBOT_INPUT_{name}"), value);
    }
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

fn git(folder: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"];
    let output = Command::new("git").args(identity).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn tap_decides() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str, expect: bool| {
        let log = folder.path().join("log");
        fs::write(&log, text).unwrap();
        let (code, said) = sh(folder.path(), "tap.sh", &[log.to_str().unwrap()], &[]);
        assert_eq!(code == 0, expect, "{text}: {said}");
    };
    check("1..2\nok 1 - a\nok 2 - b\n", true);
    check("# words before\nok 1\nok 2\n1..2\n", true);
    check("1..2\nok 1\nnot ok 2\n", false);
    check("1..2\nok 1\n", false);
    check("1..1\nok 1\nok 2\n", false);
    check("1..2\nok 1\nnot ok 2 # TODO not yet\n", true);
    check("1..2\nok 1\nok 2 # SKIP no network\n", true);
    check("1..1\nok 1\nBail out! no disk\n", false);
    check("1..0 # SKIP nothing here\n", true);
    check("1..1\nokay\n", false);
}

#[test]
fn third_party_tests_are_found_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let tests = folder.path().join("tests.git");
    fs::create_dir_all(tests.join("suite/deep")).unwrap();
    for name in ["b.sh", "a.bats", "0_install.sh", "0_init.yml", "README.md", ".hidden", "deep/c.sh"] {
        fs::write(tests.join("suite").join(name), "exit 0\n").unwrap();
    }
    git(&tests, &["init", "-q"]);
    git(&tests, &["add", "-A"]);
    git(&tests, &["commit", "-q", "-m", "tests"]);
    git(&tests, &["tag", "old"]);
    fs::remove_file(tests.join("suite/b.sh")).unwrap();
    git(&tests, &["commit", "-q", "-a", "-m", "fewer"]);
    let url = format!("file://{}", tests.display());
    let work = folder.path().join("work");
    fs::create_dir_all(work.join(".package-install")).unwrap();
    let find = |line: &str| sh(&work, "stages/third_party.sh", &[], &[("TESTS", &line.replace("URL", &url))]);
    let names = |line: &str| {
        let (code, said) = find(line);
        assert_eq!(code, 0, "{line}: {said}");
        let name = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
        said.lines().map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names("URL\told\tsuite\t"), "0_init.yml 0_install.sh a.bats b.sh");
    assert_eq!(names("URL\t\tsuite\t"), "0_init.yml 0_install.sh a.bats", "the newest of its branch");
    assert_eq!(names("URL\tmain\t/suite\ta.bats,deep/c.sh"), "a.bats deep_c.sh");
    assert_eq!(names("URL\told\tsuite\tb.sh\nURL\t\tsuite\ta.bats"), "b.sh a.bats");
    assert_eq!(names(""), "");
    for (line, expect) in [
        ("URL\t\tnowhere\t", "has no folder nowhere"),
        ("URL\t\tsuite\tb.sh", "has no test b.sh in suite"),
        ("URL\t\t../..\t", "leads out of"),
        ("URL\t\tsuite\t../../x", "leads out of"),
        ("URL\tno-such-ref\tsuite\t", "at no-such-ref cannot be fetched"),
        ("URL\t\t\t", "has no tests in its folder"),
    ] {
        let (code, said) = find(line);
        assert!(code == 1 && said.contains(expect), "{line}: {code} {said}");
    }
}

#[test]
fn third_party_tests_run_by_their_kind() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(".package-install")).unwrap();
    let check = |name: &str, text: &str, code: i32, expect: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        let arguments = [folder.path().to_str().unwrap(), name];
        let inputs = [("TEST_ENV", "WHO=me and you\n1BAD=x")];
        let (got, said) = sh(folder.path(), "stages/third_party_test.sh", &arguments, &inputs);
        assert!(got == code && said.contains(expect), "{name}: {got} {said}");
    };
    check("a.sh", "echo \"$WHO, $PACKAGE_NAME $PACKAGE_VERSION\"; exit 3\n", 3, "me and you, good 1.0");
    check("b.bats", "@test \"adds\" { [ $((1 + 1)) -eq 2 ]; }\n", 0, "ok 1 adds");
    check("c.py", "import os\nprint('python', os.environ['WHO'])\n", 0, "python me and you");
    check("d", "#!/usr/bin/env python3\nprint('by its first line')\n", 0, "by its first line");
    check("e", "echo shell\n", 0, "shell");
    check("f.py", "raise SystemExit(2)\n", 2, "");
    let play = |check: &str| {
        format!(
            "- hosts: localhost\n  gather_facts: false\n  tasks:\n    \
             - assert: {{that: \"lookup('env', 'WHO') == '{check}'\", success_msg: it is told}}\n"
        )
    };
    check("g.yml", &play("me and you"), 0, "it is told");
    check("h.yaml", &play("somebody else"), 2, "Assertion failed");
}

/// A system whose packages are RPM's, as far as scripts see: its programs, and a database of its own.
struct RpmSystem {
    folder: tempfile::TempDir,
}

impl RpmSystem {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for below in ["bin", "home", "db", "files", ".package-install"] {
            fs::create_dir_all(folder.path().join(below)).unwrap();
        }
        for program in fs::read_dir("/usr/bin").unwrap() {
            let name = program.unwrap().file_name();
            let debian = ["apt", "dpkg"].iter().any(|start| name.to_string_lossy().starts_with(start));
            if !debian {
                let link = folder.path().join("bin").join(&name);
                std::os::unix::fs::symlink(Path::new("/usr/bin").join(&name), link).unwrap();
            }
        }
        let macros = format!("%_dbpath {}\n", folder.path().join("db").display());
        fs::write(folder.path().join("home/.rpmmacros"), macros).unwrap();
        Self { folder }
    }

    fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    fn run(&self, command: &mut Command) -> (i32, String) {
        let path = self.folder.path();
        command.env("PATH", path.join("bin")).env("HOME", path.join("home")).current_dir(path);
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
    }

    /// A package of what lies in the folder now, which the database says is installed.
    fn install(&self, name: &str) {
        let root = self.folder.path().join(format!("root-{name}"));
        let spec = format!(
            "Name: {name}\nVersion: 1.0\nRelease: 1\nSummary: a test\nLicense: MIT\nAutoReqProv: no\n\
             %define __strip /bin/true\n%define debug_package %{{nil}}\n%define __arch_install_post %{{nil}}\n\
             %description\nA test.\n%install\nmkdir -p %{{buildroot}}{files}\n\
             cp -a {files}/. %{{buildroot}}{files}/\n%files\n{files}\n",
            files = self.files().display(),
        );
        let file = self.folder.path().join(format!("{name}.spec"));
        fs::write(&file, spec).unwrap();
        let top = format!("_topdir {}", root.display());
        let mut build = Command::new("rpmbuild");
        let (code, said) = self.run(build.args(["-bb", "--define", &top]).arg(&file));
        assert_eq!(code, 0, "{said}");
        let line = format!("rpm -i --justdb --nodeps {}/RPMS/*/*.rpm", root.display());
        let (code, said) = self.run(Command::new("bash").args(["-c", &line]));
        assert_eq!(code, 0, "{said}");
    }

    /// What a stage says of a package.
    fn stage(&self, stage: &str, name: &str) -> (i32, String) {
        let mut command = Command::new("sh");
        let script = repository().join("stages").join(stage);
        command.arg(script).env("TASKBOT_WORK", self.folder.path());
        self.run(command.env("TASKBOT_INPUT_PACKAGE", name).env("TASKBOT_INPUT_VERSION", "1.0"))
    }

    fn program(&self, name: &str, flags: &[&str]) {
        let source = self.folder.path().join("program.c");
        fs::write(&source, "int main(void) { return 0; }\n").unwrap();
        let out = self.files().join(name);
        let (code, said) = self.run(Command::new("gcc").args(flags).arg("-o").arg(out).arg(&source));
        assert_eq!(code, 0, "{said}");
    }
}

#[test]
fn packages_of_rpm_are_whole_or_not() {
    let system = RpmSystem::new();
    system.program("good", &["-Wl,-rpath,$ORIGIN/../lib"]);
    fs::write(system.files().join("data"), "x\n").unwrap();
    std::os::unix::fs::symlink("data", system.files().join("link")).unwrap();
    system.install("good");
    let (code, said) = system.stage("integrity.sh", "good");
    assert!(code == 0 && said.contains("-- 1 programs and libraries were looked at"), "{code} {said}");
    // What the database knows is not there any more.
    fs::remove_file(system.files().join("data")).unwrap();
    let (code, said) = system.stage("integrity.sh", "good");
    let path = system.files().display().to_string();
    assert!(code == 1 && said.contains(&format!("not ok: {path}/data is not there")), "{code} {said}");
    assert!(said.contains(&format!("not ok: {path}/link leads to data, which is not there")), "{said}");

    let system = RpmSystem::new();
    system.program("bad", &["-Wl,-rpath,/tmp/anybody"]);
    system.install("bad");
    let (code, said) = system.stage("integrity.sh", "bad");
    assert!(code == 1 && said.contains("RPATH has /tmp/anybody"), "{code} {said}");
    let (code, said) = system.stage("uninstall_package.sh", "bad");
    assert!(code == 0 && !system.files().join("bad").exists(), "{code} {said}");
    let (code, said) = system.stage("integrity.sh", "bad");
    assert!(said.contains("-- 0 files and links"), "nothing of it is known any more: {code} {said}");
}

#[test]
fn each_manager_of_rpm_packages_is_asked_in_its_own_way() {
    let check = |manager: &str, inputs: &[(&str, &str)], expect: &[&str]| {
        let system = RpmSystem::new();
        fs::write(system.files().join("data"), "x\n").unwrap();
        system.install("good");
        // The host's own must not answer.
        for name in ["dnf5", "dnf", "yum", "microdnf"] {
            let place = system.folder.path().join("bin").join(name);
            let _ = fs::remove_file(&place);
            if name == manager {
                fs::write(&place, "#!/bin/sh\necho \"asked: $*\"\n").unwrap();
                let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                fs::set_permissions(&place, all).unwrap();
            }
        }
        let mut command = Command::new("sh");
        command.arg(repository().join("stages/install_package.sh"));
        command.env("TASKBOT_WORK", system.folder.path()).env("TASKBOT_INPUT_PACKAGE", "good");
        for name in ["VERSION", "EPOCH", "CHANNEL", "MODULE", "MODULE_STREAM", "MODULE_VERSION"] {
            command.env(format!("TASKBOT_INPUT_{name}"), "");
        }
        for (name, value) in inputs {
            command.env(format!("TASKBOT_INPUT_{name}"), value);
        }
        let (_, said) = system.run(&mut command);
        let asked: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("asked: ")).collect();
        assert_eq!(asked, expect, "{manager} {inputs:?}: {said}");
    };
    check("dnf", &[], &["-y install --allowerasing good"]);
    check("dnf5", &[("VERSION", "1.0"), ("EPOCH", "2")], &["-y install --allowerasing good-2:1.0"]);
    check("yum", &[], &["-y install good"]);
    check("microdnf", &[("VERSION", "1.0")], &["-y install good-1.0"]);
    check(
        "dnf",
        &[("VERSION", "0.9")],
        &["-y install --allowerasing good-0.9", "-y downgrade --allowerasing good-0.9"],
    );
    check(
        "dnf",
        &[("MODULE", "perl"), ("MODULE_STREAM", "5.30")],
        &["-y module reset perl", "-y module enable perl:5.30", "-y install --allowerasing good"],
    );
    // No repository here is of that channel: a pattern for it would be an error.
    check("dnf", &[("CHANNEL", "beta")], &["-y install --allowerasing good"]);
}
