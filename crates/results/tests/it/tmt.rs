//! tmt's results.yaml.

use super::shown;
use model::task_file::ResultFormat;
use taskbot_results::parse;

#[track_caller]
fn check(document: &str, expect: &str) {
    assert_eq!(shown(ResultFormat::Tmt, document), expect, "\n{document}");
}

#[test]
fn tests_with_logs_notes_and_guests() {
    check(
        "- __class__: {module: tmt.result, name: Result}
  name: /tests/smoke
  check: []
  subresult: []
  web-link: null
  original-result: pass
  end-time: '2026-03-01T10:01:02.5+00:00'
  serial-number: 1
  fmf-id: {name: /tests/smoke, ref: main, url: 'https://git.example.org/audit'}
  context: {distro: [fedora-42], arch: [x86_64], level: 3.10}
  ids: {extra-nitrate: null}
  log: [data/guest/default-0/tests/smoke-1/output.txt, journal.txt]
  guest: {name: default-0, role: null}
  start-time: '2026-03-01T10:00:00+00:00'
  duration: 00:01:02
  note: []
  result: pass
  data-path: data/guest/default-0/tests/smoke-1/data
- name: /tests/net
  result: fail
  note: [exit code 1, second word]
- {name: /tests/old, result: info, note: one text, serialnumber: 3}
- {name: /tests/odd, result: warn}
- {name: /tests/away, result: skip}
- {name: /tests/broken, result: error, guest: {name: client-1, role: clients}}
- {name: /tests/never, result: pending}
",
        "passed /tests/smoke [62000 ms] guest=default-0 log=data/guest/default-0/tests/smoke-1/output.txt, journal.txt
failed /tests/net (exit code 1; second word)
info /tests/old (one text)
needs_inspection /tests/odd
skipped /tests/away
error(task) /tests/broken guest=client-1 role=clients
error(task) /tests/never (it is pending: tmt did not run it to its end)",
    );
    check("[]", "");
    check(
        r#"[{"name": "/json", "result": "pass", "duration": "00:00:01"},
	{"name": "/tab", "result": "skip"}]"#,
        "passed /json [1000 ms]\nskipped /tab",
    );
    // The same test on two guests.
    check(
        "- {name: /a, result: pass, guest: {name: one}}\n- {name: /a, result: fail, guest: {name: two}}\n",
        "passed /a guest=one\nfailed /a guest=two",
    );
}

#[test]
fn checks_and_subresults() {
    check(
        "- name: /a
  result: pass
  check:
    - {name: dmesg, event: before-test, result: pass, log: [checks/dmesg-before.txt]}
    - {name: avc, event: after-test, result: fail}
  subresult:
    - {name: /part, result: skip, original-result: skip}
- name: /b
  result: pass
  check: [{name: dmesg, result: skip}]
  subresult: [{name: /one, result: pass}, {name: /two, result: info}]
- name: /skips
  result: skip
  check: [{name: dmesg, result: pass}]
",
        "failed /a (reported as better than a part of it)
  passed dmesg event=before-test kind=check log=checks/dmesg-before.txt
  failed avc event=after-test kind=check
  skipped /part
passed /b
  skipped dmesg kind=check
  passed /one
  info /two
skipped /skips
  passed dmesg kind=check",
    );
    // `result: xfail` in the test turns it round: tmt's word stands.
    check(
        "- name: /known\n  result: pass\n  original-result: fail\n  subresult: [{name: /part, result: fail}]\n",
        "passed /known original_result=fail\n  failed /part",
    );
    check("- {name: /same, result: pass, original-result: pass}", "passed /same");
}

#[test]
fn mistakes() {
    let begins = |document: &str, expect: &str| {
        let shown = shown(ResultFormat::Tmt, document);
        assert!(shown.starts_with(expect), "{document}\n{shown}");
    };
    begins("", "results:1: the document is empty");
    begins("- name: /a\n  result: ok\n", "results:2:11: `ok` is no result of tmt; known are pass, fail,");
    begins("- name: /a\n  result: pass\n  result: fail\n", "results:3:3: duplicate mapping key: result");
    begins("- name: /a\n", "results:1:3: missing field `result`");
    begins("- name: /a\n  result: [pass\n", "results:");
    begins("results: []\n", "results:1:1: ");
    begins("- name: ''\n  result: pass\n", "results:1: result number 1 has an empty name");
    begins(
        "[{\"name\": \"/a\", \"result\": \"pass\"},",
        "results:1:34: EOF while parsing a value; the document is truncated",
    );
    begins("a: &a [x]\nb: *a\n", "results:1:1: ");
}

#[test]
fn limits() {
    let many = taskbot_results::parsed::RESULTS_MAX + 1;
    check(
        &"- {name: /a, result: pass}\n".repeat(many),
        &format!("results:1: more than {} results; report fewer", many - 1),
    );
    // As many tests as an attempt may report, each as long as tmt writes them.
    let entry = "- __class__:\n    module: tmt.result\n    name: Result\n  check: []\n  context:\n    arch:\n    - x86_64\n    distro:\n    - fedora-42\n  data-path: data/guest/default-0/tests/a-1/data\n  duration: 00:00:00\n  end-time: '2026-03-01T10:00:00.0+00:00'\n  fmf-id:\n    name: /tests/a\n    path: /\n    ref: main\n    url: https://git.example.org/a\n  guest:\n    __class__:\n      module: tmt.result\n      name: ResultGuestData\n    name: default-0\n    primary-address: localhost\n    role: null\n  ids:\n    extra-nitrate: null\n    extra-task: null\n    id: null\n  log:\n  - data/output.txt\n  - data/failures.yaml\n  name: /tests/a\n  note: []\n  original-result: pass\n  result: pass\n  serial-number: 1\n  start-time: '2026-03-01T10:00:00.0+00:00'\n  subresult: []\n  web-link: null\n";
    let read = parse(ResultFormat::Tmt, "r", entry.repeat(many - 1).as_bytes());
    assert_eq!(read.map(|parsed| parsed.results.len()), Ok(many - 1));
    let deep = (0..20).rev().fold("{name: /x, result: pass}".to_owned(), |inner, _| {
        format!("{{name: /x, result: pass, subresult: [{inner}]}}")
    });
    check(&format!("- {deep}\n"), "results:1: results are nested deeper than 16 at `/x`");
    let bomb = format!(
        "- &a {{name: /a, result: pass}}\n{}",
        (b'b'..b'k')
            .map(|n| {
                let (name, before) = (n as char, (n - 1) as char);
                format!(
                    "- &{name} {{name: /a, result: pass, subresult: [{}]}}\n",
                    vec![format!("*{before}"); 9].join(", ")
                )
            })
            .collect::<String>()
    );
    assert!(shown(ResultFormat::Tmt, &bomb).starts_with("results:"), "{}", shown(ResultFormat::Tmt, &bomb));
}
