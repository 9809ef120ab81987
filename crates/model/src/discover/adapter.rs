//! Task files for repositories that have none: each runs the real tool of the format, and what the tool says
//! is read as `docs/outcomes.md` tells.

use super::{DEBIAN_CONTROL, DebianTest, RepositoryFormat, read_control, read_fmf};
use crate::{
    ids::TaskName,
    requirements::Requirements,
    retry::RetryPolicy,
    task_file::{
        Artifacts, ContainerWish, Environment, HostWish, Input, InputKind, Relaxed, ResultFormat, Results,
        Sizes, TaskFile, Timeouts, is_input_name,
    },
};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, time::Duration};

/// The file that names a Debian source package's packages.
pub const DEBIAN_PACKAGES: &str = "debian/control";
/// How long installing a tool and what the tests need may take.
const PREPARE_LIMIT: Duration = Duration::from_secs(30 * 60);
/// The folder of what the tool left, below the output folder.
const LEFT: &str = "adapter";
/// How many tests are named where one that is asked for is not there.
const CHOICES_SHOWN_MAX: usize = 10;

/// The restriction of tests that need a machine of their own.
const NEEDS_MACHINE: &str = "isolation-machine";

/// What a repository's folder brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryTests {
    /// The text of its task file.
    TaskFile(String),
    /// Tests in another format.
    Foreign(ForeignTests),
}

/// Tests in a format that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignTests {
    /// The format.
    pub format: RepositoryFormat,
    /// The texts of the files that [`ForeignTests::wanted`] names, by their paths.
    pub texts: BTreeMap<String, String>,
}

impl ForeignTests {
    /// Which of a folder's files must be read to know what the tests of a format are.
    pub fn wanted<'a>(format: &RepositoryFormat, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let wanted = |name: &str| match format {
            RepositoryFormat::Tmt => super::is_fmf_file(name),
            RepositoryFormat::Autopkgtest => matches!(name, DEBIAN_CONTROL | DEBIAN_PACKAGES),
            RepositoryFormat::TaskFile | RepositoryFormat::Bats { .. } => false,
        };
        names.into_iter().filter(|name| wanted(name)).collect()
    }

    /// The input by which one of its tests is chosen: a tmt plan, a test of autopkgtest, or a bats file.
    #[must_use]
    pub const fn chooser(&self) -> &'static str {
        match self.format {
            RepositoryFormat::Tmt => "plan",
            RepositoryFormat::Bats { .. } => "file",
            RepositoryFormat::Autopkgtest | RepositoryFormat::TaskFile => "test",
        }
    }

    /// What can be chosen: all of it makes up the whole.
    ///
    /// # Errors
    /// The mistakes of the files, or why there is nothing to run.
    pub fn choices(&self) -> Result<Vec<String>, String> {
        let names: Vec<String> = match &self.format {
            RepositoryFormat::Tmt => {
                let tree = read_fmf(&self.texts).map_err(|report| report.to_string())?;
                tree.plan_names().into_iter().map(str::to_owned).collect()
            }
            RepositoryFormat::Autopkgtest => self.debian_tests()?.into_iter().map(|test| test.name).collect(),
            RepositoryFormat::Bats { files } => files.clone(),
            RepositoryFormat::TaskFile => Vec::new(),
        };
        if names.is_empty() {
            return Err(format!("nothing of what {} finds there is switched on", self.format.as_str()));
        }
        Ok(names)
    }

    /// The task file that runs them, with all inputs that are given and the one that chooses among the tests.
    ///
    /// # Errors
    /// The mistakes of the files, or that what was chosen is not there.
    pub fn task_file(&self, name: &TaskName, given: &Map<String, Value>) -> Result<TaskFile, String> {
        if let Some(bad) = given.keys().find(|name| !is_input_name(name)) {
            return Err(format!("`{bad}` cannot be an input's name: use lower-case letters, digits and `_`"));
        }
        let chosen = self.chosen(given)?;
        let (prepare, run, results) = match &self.format {
            RepositoryFormat::Tmt => tmt(chosen.as_deref(), given),
            RepositoryFormat::Autopkgtest => self.autopkgtest(chosen.as_deref())?,
            RepositoryFormat::Bats { files } => bats(chosen.map_or_else(|| files.clone(), |file| vec![file])),
            RepositoryFormat::TaskFile => return Err("the repository has a task file of its own".to_owned()),
        };
        let mut inputs: BTreeMap<String, Input> =
            given.iter().map(|(name, value)| (name.clone(), input(kind_of(value), None))).collect();
        let what = format!("Which one of the tests to run; all when missing ({})", self.format.as_str());
        inputs.insert(self.chooser().to_owned(), input(InputKind::String, Some(what)));
        Ok(TaskFile {
            name: name.to_string(),
            owner: None,
            description: Some(format!("The repository's own tests, run by {}", self.format.as_str())),
            inputs,
            environment: environment(self.programs()),
            needs: Requirements::default(),
            fetch: Vec::new(),
            secrets: Vec::new(),
            prepare: vec![prepare],
            run: vec![run],
            cleanup: Vec::new(),
            timeout: Timeouts { prepare: PREPARE_LIMIT, ..Timeouts::default() },
            results,
            artifacts: Artifacts::default(),
            retry: RetryPolicy::default(),
        })
    }

    fn programs(&self) -> &'static [&'static str] {
        match self.format {
            RepositoryFormat::Tmt => &["tmt", "rsync"],
            RepositoryFormat::Autopkgtest => &["autopkgtest"],
            RepositoryFormat::Bats { .. } => &["bats"],
            RepositoryFormat::TaskFile => &[],
        }
    }

    fn chosen(&self, given: &Map<String, Value>) -> Result<Option<String>, String> {
        let chooser = self.chooser();
        let chosen = match given.get(chooser) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(chosen)) => chosen,
            Some(other) => {
                return Err(format!(
                    "input `{chooser}` must be of type string, it is {}",
                    crate::event::json_kind(other)
                ));
            }
        };
        let choices = self.choices()?;
        if choices.contains(chosen) {
            return Ok(Some(chosen.clone()));
        }
        let near = crate::diagnostic::nearest(chosen, choices.iter().map(String::as_str));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_else(|| {
            let known: Vec<_> =
                choices.iter().take(CHOICES_SHOWN_MAX).map(|known| format!("`{known}`")).collect();
            if known.is_empty() {
                "; there is none".to_owned()
            } else {
                format!("; there are {}", known.join(", "))
            }
        });
        Err(format!("there is no {chooser} `{chosen}` that is switched on{near}"))
    }

    fn debian_tests(&self) -> Result<Vec<DebianTest>, String> {
        let text = self.texts.get(DEBIAN_CONTROL).map_or("", String::as_str);
        read_control(DEBIAN_CONTROL, text).map(|(tests, _)| tests).map_err(|report| report.to_string())
    }

    fn autopkgtest(&self, chosen: Option<&str>) -> Result<(String, String, Results), String> {
        let mut tests = self.debian_tests()?;
        tests.retain(|test| chosen.is_none_or(|chosen| test.name == chosen));
        let packages = self.texts.get(DEBIAN_PACKAGES).map_or("", String::as_str);
        let prepare = autopkgtest_prepare(&tests, &packages_of(packages));
        let (machines, others): (Vec<_>, Vec<_>) =
            tests.iter().partition(|test| test.restrictions.iter().any(|word| word == NEEDS_MACHINE));
        Ok((
            prepare,
            autopkgtest_run(&machines, &others, chosen),
            results(ResultFormat::Autopkgtest, "summary"),
        ))
    }
}

fn input(kind: InputKind, description: Option<String>) -> Input {
    Input { kind, required: false, default: None, description, choices: Vec::new() }
}

const fn kind_of(value: &Value) -> InputKind {
    match value {
        Value::Null | Value::String(_) => InputKind::String,
        Value::Bool(_) => InputKind::Boolean,
        Value::Number(_) => InputKind::Number,
        Value::Array(_) => InputKind::List,
        Value::Object(_) => InputKind::Map,
    }
}

/// A container can install what is missing; on a host the tool must be there.
fn environment(programs: &[&str]) -> Vec<Environment> {
    let host = || HostWish {
        programs: programs.iter().map(|&program| program.to_owned()).collect(),
        sizes: Sizes::default(),
        relaxed: Relaxed::default(),
    };
    vec![
        Environment::Container(ContainerWish {
            image: None,
            sizes: Sizes::default(),
            relaxed: Relaxed::default(),
        }),
        Environment::Sandbox(host()),
        Environment::Local(host()),
    ]
}

/// Results in this format, at a path below what the tool left, with what the tool's exit codes mean.
fn results(format: ResultFormat, path: &str) -> Results {
    let path = Some(format!("{LEFT}/{path}"));
    Results { format, path, exit: crate::task_file::default_exit(format), ..Results::default() }
}

/// A word of the shell that stands for the text.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Installs the packages where a program is missing; `pip` installs what the distribution may not have.
fn install(program: &str, packages: &str, else_by: &str) -> String {
    format!(
        "if ! command -v {program} >/dev/null; then\n\
         if command -v dnf >/dev/null; then dnf -y -q install {packages}\n\
         elif command -v zypper >/dev/null; then zypper -n -q install {packages}\n\
         elif command -v apt-get >/dev/null; then export DEBIAN_FRONTEND=noninteractive; apt-get -q update; {else_by}\n\
         elif command -v apk >/dev/null; then apk add {packages}\n\
         else echo '{program} is missing, and there is no package manager that is known here: choose another image' >&2; exit 1; fi\nfi\n"
    )
}

fn apt_install(packages: &str) -> String {
    format!("apt-get -q -y --no-install-recommends install {packages}")
}

/// A folder for its run. tmt asks for the user's name, and not every user has one.
const TMT_BEGIN: &str = r#"run=$(mktemp -d)
if ! whoami >/dev/null 2>&1; then
mkdir "$run/bin"; printf '#!/bin/sh\nexec id -u\n' >"$run/bin/whoami"; chmod +x "$run/bin/whoami"
PATH="$run/bin:${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"; export PATH
fi
"#;

/// tmt's own step `prepare` belongs to our phase of that name, which may install packages, and the rest to
/// `run`, which may not. It is left out where a plan and its tests ask for nothing: it would install what tmt
/// likes to have.
fn tmt(plan: Option<&str>, given: &Map<String, Value>) -> (String, String, Results) {
    let choice = plan.map(|plan| format!(" plan --name {}", quoted(&format!("^{}$", escaped(plan)))));
    let choice = choice.unwrap_or_default();
    let shown = plan.map(|plan| format!(" {}", quoted(&format!("^{}$", escaped(plan))))).unwrap_or_default();
    let tmt = "tmt --feeling-safe --context trigger=taskbot";
    let get = format!(
        "{}; command -v tmt >/dev/null || python3 -m pip install -q --break-system-packages tmt",
        apt_install(
            "tmt rsync 2>/dev/null || apt-get -q -y --no-install-recommends install rsync git python3-pip"
        )
    );
    let prepare = format!(
        "{}{TMT_BEGIN}\
         tmt plan export --how json{shown} >\"$run/plans\" & plans=$!\n\
         tmt test export --how json >\"$run/tests\"; wait $plans\n\
         if grep -Eq '\"prepare\": \\[[^]]*(\"how\": \"(install|ansible|feature|artifact|distgit)\"|\"script\": \\[?\")|\"(require|recommend)\": \\[[^]]' \"$run/plans\" \"$run/tests\"; then\n\
         if [ \"$(id -u)\" != 0 ]; then echo 'the plan prepares its machine, which only a container lets it do' >&2; exit 1; fi\n\
         {tmt} run --scratch --id \"$run/run\" discover prepare provision --how local{choice}\nfi\n",
        install("tmt", "tmt rsync", &get)
    );
    let variables: String = given
        .keys()
        .map(|name| format!("TASKBOT_INPUT_{}", name.to_ascii_uppercase()))
        .map(|name| format!(" --environment \"{name}=${{{name}-}}\""))
        .collect();
    let run = format!(
        "{TMT_BEGIN}code=0\n\
         {tmt} run --all --skip prepare --scratch --id \"$run/run\"{variables} provision --how local{choice} || code=$?\n\
         rsync --archive --prune-empty-dirs --include='*/' --include=/log.txt --include='**/execute/**' --exclude='*' \
         \"$run/run/\" \"$TASKBOT_OUTPUT/{LEFT}/\"\n\
         exit $code\n"
    );
    (prepare, run, results(ResultFormat::Tmt, "**/execute/results.yaml"))
}

/// The text as a regular expression of Python that matches just it.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if !c.is_alphanumeric() && !matches!(c, '/' | '_') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The binary packages of a source package.
fn packages_of(control: &str) -> Vec<&str> {
    let value = |line: &'static str| {
        move |text: &str| text.get(..line.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(line))
    };
    let is_package = value("package:");
    control.lines().filter(|line| is_package(line)).map(|line| line["package:".len()..].trim()).collect()
}

/// Only root can install what the tests need; as another user autopkgtest looks whether it is there.
fn autopkgtest_prepare(tests: &[DebianTest], packages: &[&str]) -> String {
    let mut wanted: Vec<&str> = Vec::new();
    let mut build = false;
    for depends in tests.iter().flat_map(|test| &test.depends) {
        match depends.trim() {
            "" => {}
            "@" => wanted.extend(packages),
            "@builddeps@" => build = true,
            other => wanted.push(other),
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    let mut lines = install("autopkgtest", "autopkgtest", &apt_install("autopkgtest"));
    if wanted.is_empty() && !build {
        return lines;
    }
    lines
        .push_str("if [ \"$(id -u)\" = 0 ]; then export DEBIAN_FRONTEND=noninteractive; apt-get -q update\n");
    if build {
        lines.push_str("apt-get -q -y --no-install-recommends build-dep .\n");
    }
    if !wanted.is_empty() {
        let wanted: Vec<String> = wanted.into_iter().map(quoted).collect();
        lines.push_str(&format!("apt-get -q -y --no-install-recommends satisfy {}\n", wanted.join(" ")));
    }
    lines.push_str("fi\n");
    lines
}

/// Tests that need a machine of their own are skipped: its runner `null` would let them change what is not
/// theirs. That packages are missing which the tests need says nothing about the package: it is a broken testbed.
fn autopkgtest_run(machines: &[&DebianTest], others: &[&DebianTest], chosen: Option<&str>) -> String {
    let out = format!("$TASKBOT_OUTPUT/{LEFT}");
    let mut options = chosen.map(|chosen| format!(" --test-name {}", quoted(chosen))).unwrap_or_default();
    for test in machines {
        options.push_str(&format!(" --skip-test {}", quoted(&test.name)));
    }
    let mut lines = format!("mkdir -p \"{out}\"\n");
    if others.is_empty() {
        lines.push_str("code=8\n");
    } else {
        // Through a pipe of its own: autopkgtest opens its standard error again.
        lines.push_str(&format!(
            "state=$(mktemp -d)\n\
             {{ code=0; autopkgtest --no-built-binaries{options} . --output-dir \"$state/out\" -- null || code=$?; \
             echo $code >\"$state/code\"; }} 2>&1 | cat\n\
             read -r code <\"$state/code\"\n\
             cp -R \"$state/out/.\" \"{out}/\"\n"
        ));
    }
    for test in machines {
        let line = format!(
            "{} SKIP Test restriction \"{NEEDS_MACHINE}\" requires testbed capability \"{NEEDS_MACHINE}\"",
            test.name
        );
        lines.push_str(&format!("echo {} >>\"{out}/summary\"\n", quoted(&line)));
    }
    lines.push_str(&format!(
        "if grep -q '^badpkg: test dependencies missing' \"{out}/summary\"; then\n\
         echo 'packages that the tests need are missing here; a container would install them' >&2; exit 16; fi\n\
         exit $code\n"
    ));
    lines
}

/// A file that bats cannot load, or whose preparation fails, tells nothing about what is tested.
fn bats(files: Vec<String>) -> (String, String, Results) {
    let files: Vec<String> = files.iter().map(|file| quoted(&format!("./{file}"))).collect();
    let out = format!("$TASKBOT_OUTPUT/{LEFT}");
    let run = format!(
        "mkdir -p \"{out}\"\ncode=0\n\
         bats --formatter tap13 {} >\"{out}/bats.tap\" || code=$?\n\
         cat \"{out}/bats.tap\"\n\
         if grep -Eq '^not ok [0-9]+ (setup_file failed|bats-gather-tests)$' \"{out}/bats.tap\"; then\n\
         echo 'a file could not be loaded or set up' >&2; exit 2; fi\n\
         exit $code\n",
        files.join(" ")
    );
    (install("bats", "bats", &apt_install("bats")), run, results(ResultFormat::Tap, "bats.tap"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(format: RepositoryFormat, texts: &[(&str, &str)], given: Value) -> Result<TaskFile, String> {
        let texts = texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let given = given.as_object().cloned().unwrap_or_default();
        let file = ForeignTests { format, texts }.task_file(&"own-tests".into(), &given)?;
        file.check_inputs(&given)?;
        Ok(file)
    }

    #[test]
    fn nothing_that_a_repository_says_becomes_a_command() {
        let bats =
            RepositoryFormat::Bats { files: vec!["a'; rm -rf x.bats".to_owned(), "-f.bats".to_owned()] };
        let run =
            &file(bats.clone(), &[], json!({"nvr": "a-1-1", "list": [1], "deep": {"a": 1}})).unwrap().run[0];
        assert!(run.contains(r"'./a'\''; rm -rf x.bats' './-f.bats'"), "{run}");
        let error = file(bats, &[], json!({"x\"; reboot": "1"})).unwrap_err();
        assert!(error.contains("cannot be an input's name"), "{error}");
        let plans = [("a.fmf", "/x$(reboot):\n  execute: {how: tmt}\n")];
        let run = file(RepositoryFormat::Tmt, &plans, json!({"plan": "/a/x$(reboot)"})).unwrap();
        assert!(run.run[0].contains(r"plan --name '^/a/x\$\(reboot\)$'"), "{}", run.run[0]);
        let control = [
            (DEBIAN_CONTROL, "Tests: a\nDepends: @, x (>= 1) | y, @builddeps@\n"),
            (DEBIAN_PACKAGES, "Source: s\n\nPackage: one\n\npackage:  two\n"),
        ];
        let prepare = &file(RepositoryFormat::Autopkgtest, &control, json!({})).unwrap().prepare[0];
        assert!(prepare.contains("satisfy 'one' 'two' 'x (>= 1) | y'\n"), "{prepare}");
        assert!(prepare.contains("build-dep ."), "{prepare}");
    }

    #[test]
    fn what_is_not_there_cannot_be_chosen() {
        let check = |format: RepositoryFormat, texts: &[(&str, &str)], given: Value, expect: &str| {
            assert_eq!(file(format, texts, given).unwrap_err(), expect);
        };
        let control = [(DEBIAN_CONTROL, "Tests: smoke, full\n")];
        check(
            RepositoryFormat::Autopkgtest,
            &control,
            json!({"test": "smok"}),
            "there is no test `smok` that is switched on; did you mean `smoke`?",
        );
        check(
            RepositoryFormat::Autopkgtest,
            &control,
            json!({"test": 5}),
            "input `test` must be of type string, it is a number",
        );
        let off = [("plans.fmf", "execute: {how: tmt}\nenabled: false\n")];
        check(
            RepositoryFormat::Tmt,
            &off,
            json!({"plan": "/plans"}),
            "nothing of what tmt finds there is switched on",
        );
    }
}
