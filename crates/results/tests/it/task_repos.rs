//! The shipped task repositories, run as a worker runs them, with real rpmlint, compilers and packages:
//! `prepare`, `run` and `cleanup` of their own `task.yaml`, then their result file by their own exit map.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod media;
mod package_install;
mod python_c_api;
mod updates;

use super::show;
use model::task_file::{self, TaskFile};
use serde_json::{Map, Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use taskbot_results::{Conclusion, Parsed, conclude, parse};

/// A task repository, checked out, with its inputs.
struct Checkout {
    folder: tempfile::TempDir,
    task: TaskFile,
    inputs: Map<String, Value>,
    path: String,
}

/// What came of a run.
struct Ran {
    conclusion: Conclusion,
    log: String,
    prepared: bool,
}

impl Ran {
    /// The outcome, and the results as text.
    fn shown(&self) -> (&'static str, String) {
        let parsed = Parsed { results: self.conclusion.results.clone(), stop: None };
        (self.conclusion.outcome.as_str(), show(&parsed))
    }
}

impl Checkout {
    fn new(name: &str, inputs: Value) -> Self {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/task-repos").join(name);
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(&repository).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        let text = fs::read_to_string(folder.path().join(task_file::TASK_FILE)).unwrap();
        let (task, warnings) =
            task_file::parse(task_file::TASK_FILE, &text).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(warnings.to_string(), "");
        let inputs = task.check_inputs(inputs.as_object().unwrap()).unwrap();
        Self {
            folder,
            task,
            inputs,
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        }
    }

    fn sh(&self, lines: &[String], log: &mut String) -> i32 {
        let mut command = Command::new("sh");
        command
            .arg("-ec")
            .arg(lines.join("\n"))
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", &self.path);
        command.env("TASKBOT_INPUTS", self.folder.path().join(".taskbot/inputs.json"));
        command.env("TASKBOT_OUTPUT", self.folder.path().join(".taskbot/output"));
        for (name, value) in &self.inputs {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            command.env(format!("TASKBOT_INPUT_{}", name.to_uppercase()), text);
        }
        let output = command.output().unwrap();
        log.push_str(&String::from_utf8_lossy(&output.stdout));
        log.push_str(&String::from_utf8_lossy(&output.stderr));
        output.status.code().unwrap_or(-1)
    }

    /// All of it. What makes ready and clears up must succeed.
    fn run(&self) -> Ran {
        let ran = self.attempt();
        assert!(ran.prepared, "{}", ran.log);
        ran
    }

    /// All of it; a `prepare` that fails is an error of the task, as for a worker.
    fn attempt(&self) -> Ran {
        let output = self.folder.path().join(".taskbot/output");
        fs::create_dir_all(&output).unwrap();
        fs::write(self.folder.path().join(".taskbot/inputs.json"), serde_json::to_vec(&self.inputs).unwrap())
            .unwrap();
        let mut log = String::new();
        let results = &self.task.results;
        let prepared = self.sh(&self.task.prepare, &mut log) == 0;
        let conclusion = if prepared {
            let code = self.sh(&self.task.run, &mut log);
            let read = |path: &str| {
                fs::read(output.join(path)).ok().map(|bytes| parse(results.format, path, &bytes))
            };
            let documents = results.path.as_deref().and_then(read);
            conclude(code, &results.exit, results.path.as_deref(), documents.into_iter().collect())
        } else {
            conclude(i32::from(u8::MAX), &results.exit, None, Vec::new())
        };
        assert_eq!(self.sh(&self.task.cleanup, &mut log), 0, "{log}");
        Ran { conclusion, log, prepared }
    }

    /// The folder into which `fetch` would have put files.
    fn fetched(&self) -> PathBuf {
        let folder = self.folder.path().join(&self.task.fetch[0].to);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

/// Builds a package from a spec file and sources; gives the paths of its RPMs by kind.
fn rpmbuild(folder: &Path, name: &str, spec: &str, sources: &[(&str, &[u8])]) -> (PathBuf, PathBuf) {
    let top = folder.join("top");
    fs::create_dir_all(top.join("SOURCES")).unwrap();
    let file = folder.join(format!("{name}.spec"));
    fs::write(&file, spec).unwrap();
    for (source, bytes) in sources {
        fs::write(top.join("SOURCES").join(source), bytes).unwrap();
    }
    let mut command = Command::new("rpmbuild");
    command.arg("-ba").arg("--define").arg(format!("_topdir {}", top.display())).arg(&file);
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("rpmbuild (package `rpm`) must be installed: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (
        top.join(format!("SRPMS/{name}-1.0-1.src.rpm")),
        top.join(format!("RPMS/noarch/{name}-1.0-1.noarch.rpm")),
    )
}

const GOOD_SPEC: &str = "\
Name: goodpkg
Version: 1.0
Release: 1
Summary: A small text for reading
License: MIT
URL: https://example.org/goodpkg
BuildArch: noarch

%description
A package that holds one file of documentation and nothing that would be wrong.

%install
mkdir -p %{buildroot}%{_docdir}/goodpkg
echo Words > %{buildroot}%{_docdir}/goodpkg/README

%files
%doc %{_docdir}/goodpkg/README

%changelog
* Mon Jan 06 2025 Some Body <somebody@example.org> - 1.0-1
- First version
";

const BAD_SPEC: &str = "\
Name: badpkg
Version: 1.0
Release: 1
Summary: this summary ends with a dot.
License: MIT
URL: https://example.org/badpkg
BuildArch: noarch

%description
A package with a program that everybody can replace and that runs as root.

%install
mkdir -p %{buildroot}/usr/bin
printf '#!/bin/sh\\n' > %{buildroot}/usr/bin/badpkg
chmod 4777 %{buildroot}/usr/bin/badpkg

%files
/usr/bin/badpkg

%changelog
* Mon Jan 06 2025 Some Body <somebody@example.org> - 1.0-1
- First version
";

#[test]
fn rpmlint_tells_good_packages_from_bad_and_broken_ones() {
    let built = tempfile::tempdir().unwrap();
    let (_, good) = rpmbuild(built.path(), "goodpkg", GOOD_SPEC, &[]);
    let (_, bad) = rpmbuild(built.path(), "badpkg", BAD_SPEC, &[]);

    let checkout = Checkout::new("rpmlint", json!({"nvr": "goodpkg-1.0-1"}));
    fs::copy(&good, checkout.fetched().join("goodpkg-1.0-1.noarch.rpm")).unwrap();
    let ran = checkout.run();
    assert_eq!(
        ran.shown(),
        ("passed", "passed goodpkg-1.0-1.noarch.rpm (nothing found)".to_owned()),
        "{}",
        ran.log
    );

    // The second package comes from a folder.
    fs::copy(&bad, built.path().join("badpkg-1.0-1.noarch.rpm")).unwrap();
    let checkout = Checkout::new("rpmlint", json!({"nvr": "x-1-1", "folder": built.path()}));
    fs::copy(&good, checkout.fetched().join("goodpkg-1.0-1.noarch.rpm")).unwrap();
    let ran = checkout.run();
    let (outcome, shown) = ran.shown();
    assert_eq!(outcome, "failed", "{}", ran.log);
    for line in [
        "passed goodpkg-1.0-1.noarch.rpm (nothing found)",
        "  failed setuid-binary (badpkg.noarch: E: setuid-binary /usr/bin/badpkg root 4777) file=/usr/bin/badpkg package=badpkg-1.0-1.noarch.rpm rule=setuid-binary",
        "  info summary-ended-with-dot (badpkg.noarch: W: summary-ended-with-dot this summary ends with a dot.) file=badpkg.noarch package=badpkg-1.0-1.noarch.rpm rule=summary-ended-with-dot",
    ] {
        assert!(shown.lines().any(|found| found == line), "no line {line:?} in\n{shown}");
    }

    // A package that was cut off is an error, also beside others.
    let bytes = fs::read(&good).unwrap();
    fs::write(checkout.fetched().join("cut-1.0-1.noarch.rpm"), &bytes[..bytes.len() / 8]).unwrap();
    let (outcome, shown) = checkout.run().shown();
    assert_eq!(outcome, "error(task)", "{shown}");
    assert!(shown.contains("error(task) cut-1.0-1.noarch.rpm (rpmlint ended with 3"), "{shown}");
}

#[test]
fn rpmlint_without_packages_or_with_a_broken_tool_is_an_error() {
    let checkout = Checkout::new("rpmlint", json!({"nvr": "x-1-1"}));
    let ran = checkout.run();
    assert_eq!(ran.conclusion.outcome.as_str(), "error(task)");
    assert!(ran.log.contains("no package to check: give URLs in `packages`"), "{}", ran.log);

    for (script, expect) in [
        ("exit 0", "rpmlint printed no summary: it did not get to its end"),
        ("kill -SEGV $$", "rpmlint ended with -11"),
        (
            "echo 'x.noarch: E: rule'; echo ' 1 packages and 0 specfiles checked; 0 errors, 0 warnings'",
            "rpmlint's summary does not agree with its findings",
        ),
        ("echo Traceback; exit 1", "rpmlint ended with 1: Traceback"),
    ] {
        let mut checkout = Checkout::new("rpmlint", json!({"nvr": "x-1-1"}));
        fs::write(checkout.fetched().join("x-1-1.noarch.rpm"), "any").unwrap();
        fake(&mut checkout, "rpmlint", script);
        let (outcome, shown) = checkout.run().shown();
        assert_eq!(outcome, "error(task)", "{script}: {shown}");
        assert!(shown.starts_with(&format!("error(task) x-1-1.noarch.rpm ({expect}")), "{script}: {shown}");
    }
}

/// Puts a program before the real ones.
fn fake(checkout: &mut Checkout, program: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let bin = checkout.folder.path().join("fake-bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join(program), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    checkout.path = format!("{}:{}", bin.display(), checkout.path);
}

const CLEAN_C: &str = "#include \"hello.h\"\nint add(int a, int b) { return a + b + ZERO; }\n";
const BUG_C: &str = "\
#include <hello.h>
#include <stdlib.h>
#include <string.h>

int twice(const char *text)
{
    char *copy = malloc(strlen(text) + 1);
    if (!copy)
        return ZERO;
    strcpy(copy, text);
    free(copy);
    free(copy);
    return 1;
}
";

/// A tarball `hello-1.0.tar.gz` with these files under `src/` and a header under `include/`.
fn tarball(files: &[(&str, &str)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("hello-1.0");
    fs::create_dir_all(root.join("src")).unwrap();
    fs::create_dir_all(root.join("include")).unwrap();
    fs::write(root.join("include/hello.h"), "#define ZERO 0\n").unwrap();
    for (name, text) in files {
        fs::write(root.join("src").join(name), text).unwrap();
    }
    let output =
        Command::new("tar").arg("-C").arg(folder.path()).args(["-cz", "hello-1.0"]).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn source_rpm(folder: &Path, files: &[(&str, &str)]) -> PathBuf {
    let spec = "Name: hello\nVersion: 1.0\nRelease: 1\nSummary: Greets\nLicense: MIT\nBuildArch: noarch\nSource0: hello-1.0.tar.gz\n%description\nGreets.\n%files\n";
    rpmbuild(folder, "hello", spec, &[("hello-1.0.tar.gz", &tarball(files))]).0
}

#[test]
fn static_analysis_catches_a_planted_bug_in_a_source_rpm() {
    let built = tempfile::tempdir().unwrap();
    let bad = source_rpm(built.path(), &[("clean.c", CLEAN_C), ("bug.c", BUG_C)]);
    let checkout = Checkout::new("static-analysis", json!({"nvr": "hello-1.0-1"}));
    fs::copy(bad, checkout.fetched().join("hello-1.0-1.src.rpm")).unwrap();
    let ran = checkout.run();
    let (outcome, shown) = ran.shown();
    assert_eq!(outcome, "failed", "{}", ran.log);
    for line in [
        "failed gcc-analyzer (2 of 2 files analysed, 1 findings)",
        "  failed src/bug.c",
        "    failed analyzer-double-free (double-'free' of 'copy' [CWE-415] [-Wanalyzer-double-free]) column=5 cwe=CWE-415 file=src/bug.c line=12 rule=analyzer-double-free",
        "failed cppcheck (2 of 2 files analysed, 1 findings)",
        "    failed doubleFree (Memory pointed to by 'copy' is freed twice.) cwe=CWE-415 file=src/bug.c line=12 rule=doubleFree",
    ] {
        assert!(shown.lines().any(|found| found == line), "no line {line:?} in\n{shown}");
    }
    assert!(!shown.contains("clean.c"), "{shown}");
}

#[test]
fn static_analysis_of_clean_sources_passes() {
    let sources = tempfile::tempdir().unwrap();
    fs::write(sources.path().join("hello-1.0.tar.gz"), tarball(&[("clean.c", CLEAN_C)])).unwrap();
    let expect = "passed gcc-analyzer (1 of 1 files analysed, 0 findings)\npassed cppcheck (1 of 1 files analysed, 0 findings)";
    let checkout = Checkout::new("static-analysis", json!({"nvr": "hello-1.0-1", "folder": sources.path()}));
    assert_eq!(checkout.run().shown(), ("passed", expect.to_owned()));

    // The same as a Debian source package: the tarball is listed in the .dsc beside it.
    let dsc = "Format: 3.0 (quilt)\nSource: hello\nFiles:\n 0123456789abcdef0123456789abcdef 100 hello-1.0.tar.gz\n";
    let checkout = Checkout::new("static-analysis", json!({"nvr": "hello-1.0-1"}));
    fs::rename(sources.path().join("hello-1.0.tar.gz"), checkout.fetched().join("hello-1.0.tar.gz")).unwrap();
    fs::write(checkout.fetched().join("hello_1.0-1.dsc"), dsc).unwrap();
    assert_eq!(checkout.run().shown(), ("passed", expect.to_owned()));
}

#[test]
fn static_analysis_without_a_verdict_never_passes() {
    let run = |files: &[(&str, &str)], fakes: &[(&str, &str)]| {
        let mut checkout = Checkout::new("static-analysis", json!({"nvr": "hello-1.0-1"}));
        fs::write(checkout.fetched().join("hello-1.0.tar.gz"), tarball(files)).unwrap();
        fakes.iter().for_each(|(program, script)| fake(&mut checkout, program, script));
        checkout.run().shown()
    };
    let clean = &[("clean.c", CLEAN_C)];
    // The analyser crashes, in two ways.
    let (outcome, shown) = run(clean, &[("gcc", "kill -SEGV $$")]);
    assert_eq!(outcome, "error(task)", "{shown}");
    assert!(shown.contains("error(task) src/clean.c (gcc: killed by signal 11)"), "{shown}");
    let ice = "echo 'x.c:1:1: internal compiler error: Segmentation fault'; exit 4";
    let (outcome, shown) = run(clean, &[("gcc", ice)]);
    assert_eq!(outcome, "error(task)", "{shown}");
    assert!(shown.contains("internal compiler error"), "{shown}");
    let (outcome, shown) = run(clean, &[("cppcheck", "exit 0")]);
    assert_eq!(outcome, "error(task)", "{shown}");
    assert!(shown.contains("error(task) cppcheck (cppcheck's report is broken"), "{shown}");
    // Nothing could be read.
    let odd = &[("odd.c", "#include \"not-here.h\"\nint f( {\n")];
    let (outcome, shown) = run(odd, &[]);
    assert_eq!(outcome, "error(task)", "{shown}");
    assert!(
        shown.contains(
            "skipped src/odd.c (does not compile on its own: not-here.h: No such file or directory)"
        ),
        "{shown}"
    );
    assert!(
        shown
            .contains("error(task) sources (none of 1 C files could be analysed: no verdict on the package)"),
        "{shown}"
    );
    // Some could.
    let (outcome, shown) = run(&[odd[0], clean[0]], &[]);
    assert_eq!(outcome, "passed", "{shown}");
    assert!(shown.starts_with("passed gcc-analyzer (1 of 2 files analysed, 0 findings)"), "{shown}");
    // There is no C.
    assert_eq!(
        run(&[("x.py", "")], &[]),
        ("not_applicable", "not_applicable sources (there is no C source)".to_owned())
    );
}

#[test]
fn static_analysis_refuses_broken_and_hostile_archives() {
    let check = |name: &str, bytes: &[u8], expect: &str| {
        let checkout = Checkout::new("static-analysis", json!({"nvr": "hello-1.0-1"}));
        fs::write(checkout.fetched().join(name), bytes).unwrap();
        let ran = checkout.run();
        assert_eq!(ran.conclusion.outcome.as_str(), "error(task)", "{name}: {}", ran.log);
        assert!(ran.log.contains(expect), "{name}: {}", ran.log);
    };
    let whole = tarball(&[("clean.c", CLEAN_C)]);
    check("cut.tar.gz", &whole[..whole.len() / 2], "cut.tar.gz is no readable tarball");
    check("cut.src.rpm", b"\xed\xab\xee\xdb not an RPM", "cut.src.rpm is no readable RPM");
    check("x.dsc", b"Source: x\n", "x.dsc lists no files");
    check("y.dsc", b"Files:\n 00 1 y.tar.gz\n", "y.dsc lists y.tar.gz, which is not beside it");
    check("readme.txt", b"", "no sources: give URLs in `sources`");
    // A member that would leave the folder.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("evil.c"), CLEAN_C).unwrap();
    let tar = Command::new("tar")
        .arg("-C")
        .arg(folder.path())
        .args(["-c", "--transform=s,^,../../../,", "evil.c"])
        .output()
        .unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    check("evil.tar", &tar.stdout, "evil.tar");
}

#[test]
fn demo_check_reports_a_subtest_for_each_subject() {
    let inputs = |nvr: &str, kind: &str, notes: &str| json!({"nvr": nvr, "dist_tag": "fc42", "update": "FEDORA-2025-5ea7d0c3f2", "kind": kind, "notes": notes});
    let run = |inputs: Value| Checkout::new("demo-check", inputs).run();
    let ran =
        run(inputs("tuxpaint-0.9.35-3.fc42", "bugfix", "Saving on a full disk no longer loses the drawing."));
    let expect = "\
passed the build is well-formed
  passed splits into name, version and release
  passed version holds only characters that RPM compares
  passed release starts with a number
  passed release carries the dist tag
passed the update tells its users enough
  passed alias is one of the build system's
  passed type is known
  passed notes say what changes
  passed a security update says how severe it is";
    assert_eq!(ran.shown(), ("passed", expect.to_owned()), "{}", ran.log);
    assert!(
        ran.log.contains("build    tuxpaint-0.9.35-3.fc42 (version 0.9.35, release 3.fc42)"),
        "{}",
        ran.log
    );

    let failed = |inputs: Value, expect: &str| {
        let (outcome, shown) = run(inputs).shown();
        assert_eq!(outcome, "failed", "{shown}");
        assert!(shown.contains(expect), "no {expect:?} in\n{shown}");
    };
    let notes = "Tells enough.";
    failed(
        inputs("tuxpaint-0.9.35-3.fc41", "bugfix", notes),
        "failed release carries the dist tag (expected a release such as 1.fc42)",
    );
    failed(
        inputs("tuxpaint-0.9.35-3.fc42\nok 7", "bugfix", notes),
        "failed splits into name, version and release",
    );
    failed(inputs("tuxpaint-0.9.35-3.fc42", "bugfix", "TODO"), "failed notes say what changes");
    failed(inputs("tuxpaint-0.9.35-3.fc42", "bugfix", ""), "failed notes say what changes");
    failed(
        inputs("tuxpaint-0.9.35-3.fc42", "security", notes),
        "failed a security update says how severe it is",
    );
    failed(inputs("tuxpaint-0.9.35-3.fc42", "$(touch x)", notes), "failed type is known");
}
