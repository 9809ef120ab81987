use super::*;
use serde_json::json;

const WHOLE: &str = r#"
name: rpmlint
owner: qa-core
inputs:
  nvr: {type: string, required: true}
  arch: {type: string, default: x86_64, choices: [x86_64, aarch64]}
environment:
  - container: {image: "fedora:42", memory: 1G}
  - vm: {image: fedora-42-cloud, memory: 2G, disk: 20G}
  - sandbox:
fetch:
  - {url: "https://kojipkgs.example.org/${nvr}.rpm", to: rpms/}
secrets: [repo-token]
prepare: [dnf -y install rpmlint]
run: ./run.sh
cleanup: [./collect-logs]
timeout: {prepare: 10m, run: 15m, idle: 5m}
results: {testcase: dist.rpmlint, publish: summary, format: tap, path: results.tap, exit: {0: from-results, 1: from-results, "*": error}}
artifacts: {paths: ["*.log"], max: 50MB}
retry: {on: [error, lost], max: 2}
"#;

fn errors(text: &str) -> String {
    parse("task.yaml", text).map_or_else(|report| report.to_string(), |(file, _)| format!("{file:#?}"))
}

#[test]
fn the_whole_form_is_read() {
    let (file, report) = parse("task.yaml", WHOLE).unwrap_or_else(|report| panic!("{report}"));
    assert!(report.diagnostics.is_empty(), "{report}");
    assert_eq!(file.testcase(), "dist.rpmlint");
    assert_eq!(
        file.requirements().to_string(),
        "container of image fedora:42 or vm of image fedora-42-cloud or sandbox"
    );
    assert_eq!(file.secrets, ["repo-token"]);
    assert_eq!(file.timeout.idle, Some(Duration::from_secs(300)));
    let again: TaskFile = serde_json::from_value(serde_json::to_value(&file).unwrap()).unwrap();
    assert_eq!(again, file);
}

#[test]
fn all_mistakes_are_told_at_once() {
    insta::assert_snapshot!(errors("name: 5\nrum: x\ninputs: {Nvr: {type: strin}}\nfetch:\n  - {url: \"http://x/${nv}\", to: ../x}\ntimeout: {run: 10}\nretry: {on: [failed]}\nenvironment: [{container: {imag: x}}]\n"), @r##"
    task.yaml:1:1: error: a task file needs the field `run`
    task.yaml:1:7: error: `name` must be a text, it is a number (quote it: "5")
    task.yaml:2:1: error: a task file has no field `rum` (did you mean `run`?)
    task.yaml:3:10: error: `Nvr` cannot be an input's name (use lower-case letters, digits and `_`, a letter first: it also becomes a variable `TASKBOT_INPUT_…`)
    task.yaml:3:22: error: `strin` is no type of inputs; known are string, integer, number, boolean, list, map
    task.yaml:5:33: error: `../x` leaves the work folder; expected a relative path without `..`
    task.yaml:6:16: error: run must be a duration with a unit (write 10s for seconds or 10m for minutes)
    task.yaml:7:13: error: `failed` is nothing to retry on; known are error, lost, timeout, oom (a failed test is never retried: it failed)
    task.yaml:8:28: error: `container` has no field `imag` (did you mean `image`?)
    "##);
}

#[test]
fn machines_are_read_in_full() {
    let text = r##"
name: install
inputs: {arch: {}}
environment:
  - vm:
      install:
        iso: boot.iso
        answers: {label: OEMDRV, files: {ks.cfg: kickstart.cfg}}
        until: "INSTALL-DONE"
        idle: 5m
        timeout: 30m
        console: [{until: "boot:", send: "linux\n", screenshot: menu}]
      login: {user: root, password: secret}
      firmware: uefi
      arch: aarch64
      boot: 4m
      memory: 2G
      network: ["deb.example.org:80"]
run: ./check
"##;
    let (mut file, report) = parse("task.yaml", text).unwrap_or_else(|report| panic!("{report}"));
    assert!(report.diagnostics.is_empty(), "{report}");
    assert_eq!(file.requirements().to_string(), "arch aarch64, vm, memory 2 GiB");
    let again: TaskFile = serde_json::from_value(serde_json::to_value(&file).unwrap()).unwrap();
    assert_eq!(again, file);
    assert_eq!(file.environment[0].start_limit(), Duration::from_secs(34 * 60));
    let Environment::Vm(wish) = &mut file.environment[0] else { panic!("no machine") };
    let files: Vec<_> = wish.files_mut().map(|path| path.clone()).collect();
    assert_eq!(files, ["boot.iso", "kickstart.cfg"]);
}

#[test]
fn mistakes_in_machines_are_told() {
    for (vm, expect) in [
        ("{}", "4:7: error: `vm` says nothing to boot"),
        ("{image: a, kernel: b}", "4:26: error: a machine has one of `image`, `kernel` and `install`"),
        ("{image: {file: ../x}}", "4:22: error: `../x` leaves the work folder"),
        ("{kernel: /boot/x}", "4:16: error: `/boot/x` leaves the work folder"),
        ("{kernel: x, firmware: uefi}", "4:29: error: `firmware` is for machines that boot from a disk"),
        ("{image: a, firmware: efi}", "4:28: error: `firmware` is bios or uefi, not `efi`"),
        ("{image: a, boot: 0s}", "4:24: error: `boot` must be more than nothing and at most 24h"),
        ("{image: a, append: x}", "4:26: error: `append` goes with `kernel`"),
        ("{image: a, network: [x]}", "4:27: error: `x` is no HOST:PORT"),
        ("{image: a, login: root}", "4:25: error: `login` is `cloud-init`, `none` or"),
        ("{image: a, consol: 1}", "`vm` has no field `consol` (did you mean `console`?)"),
        ("{image: a, console: [{send: x}]}", "needs the field `until`"),
        ("{image: a, console: [{until: ''}]}", "`until` must have 1 to 256 bytes"),
        ("{install: {until: x}}", "4:17: error: `install` needs `iso`, the medium"),
        ("{install: {iso: x, answers: {label: 'a b', files: {}}}}", "`label` has at most 32 letters"),
        ("{install: {iso: x, answers: {label: a, files: {a/b: c}}}}", "`a/b` cannot be a name on the medium"),
    ] {
        let got = errors(&format!("name: a\nrun: x\nenvironment:\n  vm: {vm}\n"));
        assert!(got.contains(expect), "{vm}: {got}");
    }
}

#[test]
fn programs_that_provide_environments() {
    let read = |external: &str| {
        let text = format!("name: a\nrun: x\nenvironment:\n  external: {external}\n");
        parse("task.yaml", &text).map(|(file, _)| file).map_err(|report| report.to_string())
    };
    let file = read("{provider: lab, with: {board: x, n: [1]}, reboot: true, memory: 2G}").unwrap();
    assert_eq!(file.requirements().to_string(), "external, provider lab, memory 2 GiB");
    let Environment::External(wish) = &file.environment[0] else { panic!("{file:?}") };
    assert_eq!(Value::Object(wish.with.clone()), json!({"board": "x", "n": [1]}));
    assert_eq!((wish.reboot, wish.sizes.memory_bytes), (true, Some(2 << 30)));
    for (external, expect) in [
        ("{}", "`external` needs the field `provider`"),
        ("{provider: lab, with: board}", "4:35: error: `with` must be a mapping, such as"),
        ("{provider: lab, network: true}", "`external` has no field `network`"),
    ] {
        let got = read(external).unwrap_err();
        assert!(got.contains(expect), "{external}: {got}");
    }
}

#[test]
fn substitutions_name_inputs() {
    let text = "name: a\nrun: x\ninputs: {nvr: {}}\nfetch:\n  - url: \"http://x/${nv}\"\n    to: x\n";
    insta::assert_snapshot!(errors(text), @"task.yaml:5:20: error: no input is named `nv` (did you mean `${nvr}`?)");
    let inputs = json!({"nvr": "a-1-1", "list": [1]});
    assert_eq!(substitute("x/${nvr}/${list}/${none}/$y", inputs.as_object().unwrap()), "x/a-1-1/[1]//$y");
}

#[test]
fn what_yaml_would_change_is_refused() {
    for (value, expect) in [
        ("3.10", "YAML reads `3.10` as the number 3.1"),
        ("010", "`010`"),
        ("1e7", "YAML reads `1e7`"),
        ("no", "`no` is a boolean"),
        ("!x y", "tag"),
        ("0x1F", "0x1F"),
    ] {
        let got = errors(&format!("name: a\nrun: x\nowner: {value}\n"));
        assert!(got.contains(expect), "{value}: {got}");
    }
    assert!(errors("name: a\nrun: x\nname: b\n").contains("duplicate"));
}

#[test]
fn paths_of_the_output_folder_are_taken_as_commands_write_them() {
    for output in ["$TASKBOT_OUTPUT", "${TASKBOT_OUTPUT}"] {
        let text = format!(
            "name: a\nrun: x\nresults: {{format: tap, path: '{output}/*.tap'}}\nartifacts: {{paths: [a.log, '{output}/**']}}\n"
        );
        let (file, report) = parse("task.yaml", &text).unwrap();
        assert!(report.diagnostics.is_empty(), "{report}");
        assert_eq!(
            (file.results.path.as_deref(), file.artifacts.paths),
            (Some("$TASKBOT_OUTPUT/*.tap"), vec!["a.log".to_owned()])
        );
    }
    for elsewhere in [
        "fetch: [{url: 'https://a.example/', to: '${TASKBOT_OUTPUT}/x'}]",
        "results: {testcase: 'a.${TASKBOT_OUTPUT}/'}",
    ] {
        let got = errors(&format!("name: a\nrun: x\n{elsewhere}\n"));
        assert!(got.contains("no input is named `TASKBOT_OUTPUT`"), "{elsewhere}: {got}");
    }
}

#[test]
fn a_machine_that_nothing_gets_into() {
    let file = |environment: &str, rest: &str| format!("name: a\nenvironment: {environment}\n{rest}\n");
    let closed = "{vm: {kernel: k, login: none, console: [{until: up}]}}";
    let (read, report) = parse("task.yaml", &file(closed, "")).unwrap();
    assert!(report.diagnostics.is_empty() && read.run.is_empty(), "{report}");
    for (environment, rest, expect) in [
        (closed, "run: x", "no command can run in a machine with `login: none`: leave `run` out"),
        (closed, "cleanup: x", "leave `cleanup` out"),
        ("{vm: {kernel: k, login: none}}", "", "nothing says how the machine is known to be well"),
        (
            "[{sandbox: {}}, {vm: {kernel: k, login: none, console: [{until: up}]}}]",
            "",
            "no other environment",
        ),
        (
            "{vm: {kernel: k, login: nobody, console: [{until: up}]}}",
            "run: x",
            "`login` is `cloud-init`, `none`",
        ),
    ] {
        let got = errors(&file(environment, rest));
        assert!(got.contains(expect), "{got}");
    }
}

#[test]
fn inputs_are_checked() {
    let (file, _) = parse("task.yaml", WHOLE).unwrap();
    let check = |given: Value, expect: Result<Value, &str>| {
        let got = file.check_inputs(given.as_object().unwrap());
        assert_eq!(got.map(Value::Object), expect.map_err(str::to_owned));
    };
    check(json!({"nvr": "a"}), Ok(json!({"nvr": "a", "arch": "x86_64"})));
    check(json!({}), Err("input `nvr` is missing"));
    check(
        json!({"nvr": 5, "arch": "z", "nvrs": 1}),
        Err(
            "input `nvrs` is not declared in task.yaml; did you mean `nvr`?; input `arch` must be one of \"x86_64\", \"aarch64\", it is \"z\"; input `nvr` must be of type string, it is a number; for the text write \"5\" with its quotes",
        ),
    );
}

#[test]
fn the_task_files_of_the_documentation_are_right() {
    let docs = include_str!("../../../../docs/tasks.md");
    let blocks = docs.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let external = include_str!("../../../../docs/external-executors.md");
    let external = external.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let files: Vec<_> = blocks.chain(external).filter(|block| block.starts_with("name:")).collect();
    assert!(!files.is_empty());
    for text in files {
        let (_, report) = parse("docs/tasks.md", text).unwrap_or_else(|report| panic!("{report}"));
        assert!(report.diagnostics.is_empty(), "{report}");
    }
}
