use super::{columns::one_line, line, *};
use serde_json::json;

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn topics_are_whole_and_what_all_have_is_known() {
    for (topic, common) in [
        ("org.fedoraproject.prod.bodhi.update.request.testing", "org.fedoraproject.prod."),
        ("org.fedoraproject.stg.x", "org.fedoraproject.stg."),
        ("taskbot.task.finished", ""),
        ("prod.x", ""),
        ("a.prod", ""),
        ("", ""),
    ] {
        assert_eq!(&topic[..line::common_bytes(topic)], common);
        assert_eq!(plain(&line::topic(topic)), topic);
    }
}

#[test]
fn summaries() {
    let check = |body: Value, expect: &str| assert_eq!(plain(&line::summary(&body)), expect);
    check(
        json!({"agent": "me", "update": {"alias": "FEDORA-2025-1", "title": "a-1-1.fc42", "status": "pending"}}),
        "FEDORA-2025-1 [pending] by me",
    );
    check(
        json!({"name": "audit", "version": "2.8", "release": "1.fc42", "old": 0, "new": 1, "owner": "me"}),
        "audit-2.8-1.fc42 [building → complete] by me",
    );
    check(
        json!({"name": "audit", "version": "2.8", "release": "1.fc42", "tag": "f42-testing", "user": "bodhi"}),
        "audit-2.8-1.fc42 f42-testing by bodhi",
    );
    check(
        json!({"pullrequest": {"id": 7, "title": "Fix it", "project": {"fullname": "rpms/audit"}}, "agent": "me"}),
        "rpms/audit #7 Fix it by me",
    );
    check(
        json!({"testcase": {"name": "dist.rpmlint"}, "data": {"item": ["audit-2.8-1.fc42"]}, "outcome": "FAILED"}),
        "audit-2.8-1.fc42 dist.rpmlint [FAILED]",
    );
    check(
        json!({"label": "finished(passed)", "name": "demo", "item": {"id": "a-1-1"}}),
        "a-1-1 [finished(passed)]",
    );
    check(json!({}), "");
    check(json!([1]), "");
    check(json!(null), "");
    check(json!({"name": {"name": []}, "status": "\u{1b}[31m\n"}), "[ [31m]");
}

#[test]
fn messages_of_tasks_name_them() {
    let body = json!({
        "id": "019aa5b2-27d1-7a40-8000-00c0ffee0001", "name": "rpmlint", "label": "running(run)",
        "item": {"type": "koji_build", "id": "audit-2.8-1"}, "submitter": "rule:x",
    });
    let line = plain(&line::terse("10:00:00", "taskbot.task.phase", &body));
    assert_eq!(
        line,
        "10:00:00 taskbot.task.phase rpmlint audit-2.8-1 [running(run)] 019aa5b2-27d1-7a40-8000-00c0ffee0001"
    );
    let line = plain(&line::terse("10:00:00", "taskbot.task.queued", &json!({"id": "é", "name": []})));
    assert_eq!(line, "10:00:00 taskbot.task.queued  é");
}

#[test]
fn every_recorded_message_has_a_line() {
    let time = "10:00:00";
    #[expect(clippy::disallowed_methods, reason = "the folder is not part of the repository")]
    let folder = std::env::var_os("TASKBOT_MESSAGES_DIR").map(std::path::PathBuf::from);
    // The shipped fixtures are always there; the large collection only where it was unpacked.
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules/fixtures");
    let mut seen = 0;
    for folder in folder.into_iter().chain([shipped]) {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let message: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let topic = message["topic"].as_str().unwrap();
            let text = plain(&line::terse(time, topic, &message["body"]));
            assert!(text.starts_with(time) && text.contains(topic), "{text}");
            assert_eq!(text.lines().count(), 1, "{}: {text:?}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen} messages");
}

#[test]
fn times() {
    let now = "2026-11-21T10:00:00Z".parse().unwrap();
    let at = |text: &str| parse_time("--since", text, now).map(|time| time.to_rfc3339());
    assert_eq!(at("2h").unwrap(), "2026-11-21T08:00:00+00:00");
    assert_eq!(at("2026-11-20").unwrap(), "2026-11-20T00:00:00+00:00");
    assert_eq!(at("2026-11-20T01:00:00+01:00").unwrap(), "2026-11-20T00:00:00+00:00");
    for bad in ["", "yesterday", "2h ago", "2026-13-01", "99999999999999d"] {
        assert_eq!(at(bad).unwrap_err().code, 2, "{bad}");
    }
    assert_eq!(age(&json!("2026-11-21T09:56:48Z"), now), "3m12s");
    assert_eq!(age(&json!(null), now), "-");
    assert_eq!(clock_time(&json!("2026-11-21T09:56:48.5Z"), now), "09:56:48");
    assert_eq!(clock_time(&json!("2026-11-20T09:56:48Z"), now), "2026-11-20 09:56:48");
}

#[test]
fn cells_are_one_line() {
    assert_eq!(one_line("a\nb\u{1b}c"), "a b c");
    assert_eq!(one_line(&"x".repeat(500)).chars().count(), 120);
    assert_eq!(text_at(&json!({"a": {"b": [1, "c"]}}), "a.b"), "1,c");
    assert_eq!(text_at(&json!({}), "a.b"), "-");
}

#[test]
fn yaml_says_the_same() {
    assert_eq!(yaml(&json!({"a": [1, "2"], "b": null})).unwrap(), "a:\n- 1\n- \"2\"\nb: null\n");
}
