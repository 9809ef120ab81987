//! A load of mixed events, and what must come of each by a pure function that knows no rules engine.

use crate::support::{bus::Publication, random::Random};
use model::event::hashed_id;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The rules of the drill. [`expected_tasks`] says the same in plain code.
pub(crate) const RULES: &str = r#"rules:
  - name: check-builds
    on: drill.koji.build.*
    when:
      body.new: 1
      body.name: {not: kernel}
      body.release: {regex: '\.fc4[23]$'}
    then:
      - task: cheap
        item: {type: koji_build, id: "${event.body.nvr}"}
        with: {nvr: "${event.body.nvr}", arch: "${matrix.arch}"}
        matrix: {arch: "${event.body.arches}"}

  - name: check-updates
    on: [drill.bodhi.testing, drill.bodhi.stable]
    unless: {body.notes: {regex: '\[skip ci\]'}}
    if: |
      event.body.builds.len() < 4
    for_each: {build: {in: event.body.builds, if: 'nvr(build.nvr).name != "kernel"'}}
    then:
      - task: boxed
        item: {type: bodhi_build, id: "${build.nvr}"}
        with: {nvr: "${build.nvr}"}

  - name: check-pushes
    on: drill.git.push
    when: {body.branch: [main, rawhide], body.size: {gte: 10}}
    then:
      - task: cheap
        item: {type: git_commit, id: "${event.body.commit}"}
        with: {nvr: "${event.body.commit}"}
    dedupe: {key: "${event.body.repo}@${event.body.commit}", window: 6h}

  - name: only-watches
    on: drill.>
    then: [{task: cheap, item: {type: any, id: any}}]
    mode: shadow

  - name: script-that-errs
    on: drill.git.push
    if: |
      event.body.size / 0 == 1
    then: [{task: cheap}]
"#;

/// What kind of trouble a publication makes, and words of the reason that its dead letter must give.
const MALFORMED: &[(&str, &str)] = &[
    ("cut short", "EOF while parsing"),
    ("no UTF-8", "the body is no JSON"),
    ("raw NUL", "control character"),
    ("empty", "EOF while parsing a value"),
    ("array", "it is an array"),
    ("text", "it is a text"),
    ("null", "it is null"),
    ("deep", "recursion limit exceeded"),
    ("huge number", "number out of range"),
    ("lone surrogate", "hex escape"),
    ("too large", "at most 8388608"),
    ("long id", "the id must have 1 to 512 bytes"),
    ("id with control", "the id must not hold"),
    ("no topic", "bad topic"),
];

/// An event that must be taken in.
#[derive(Debug, Clone)]
struct Good {
    id: String,
    topic: String,
    body: Value,
    /// The body's text, where it is not what the value would print.
    text: Option<String>,
}

/// What is published, and what must come of it.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) publications: Vec<Publication>,
    /// The ids of the events that must be in the inbox.
    pub(crate) events: BTreeSet<String>,
    /// The tasks that must be there, as [`expected_tasks`] writes them.
    pub(crate) tasks: BTreeSet<String>,
    /// The dead letters that must be there: words of the reason by the event's id.
    pub(crate) dead: BTreeMap<String, &'static str>,
}

/// The tasks that an event must lead to, one text for each: rule, event, task, item, matrix cell. Rules that
/// join the same wish of several events have no event in it.
pub(crate) fn expected_tasks(id: &str, topic: &str, body: &Value) -> BTreeSet<String> {
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    match topic {
        "drill.koji.build.done" | "drill.koji.build.tagged" => {
            let release = text("release");
            let wanted = body["new"] == 1
                && text("name") != "kernel"
                && (release.ends_with(".fc42") || release.ends_with(".fc43"));
            let arches = body["arches"].as_array().filter(|_| wanted);
            arches
                .into_iter()
                .flatten()
                .map(|arch| wish("check-builds", id, "cheap", text("nvr"), arch.as_str()))
                .collect()
        }
        "drill.bodhi.testing" | "drill.bodhi.stable" => {
            let builds = body["builds"].as_array().unwrap();
            if text("notes").contains("[skip ci]") || builds.len() >= 4 {
                return BTreeSet::new();
            }
            let nvrs = builds.iter().map(|build| build["nvr"].as_str().unwrap());
            let wanted = nvrs.filter(|nvr| nvr.rsplitn(3, '-').nth(2) != Some("kernel"));
            wanted.map(|nvr| wish("check-updates", id, "boxed", nvr, None)).collect()
        }
        "drill.git.push" => {
            let wanted = ["main", "rawhide"].contains(&text("branch"))
                && body["size"].as_f64().is_some_and(|size| size >= 10.0);
            wanted.then(|| wish("check-pushes", "-", "cheap", text("commit"), None)).into_iter().collect()
        }
        _ => BTreeSet::new(),
    }
}

/// One task as a text.
pub(crate) fn wish(rule: &str, event: &str, task: &str, item: &str, arch: Option<&str>) -> String {
    let event = if rule == "check-pushes" { "-" } else { event };
    format!("{rule} {event} {task} {item} {}", arch.unwrap_or("-"))
}

impl Load {
    /// So many events by this seed, beginning with this number; about one in ten leads to a task.
    pub(crate) fn generate(seed: u64, count: usize) -> Self {
        let mut random = Random::new(seed);
        let mut load = Self::default();
        for number in 0..count {
            if number % 70 == 3 {
                load.add_malformed(number, &mut random);
                continue;
            }
            let good = event(number, &mut random);
            load.tasks.extend(expected_tasks(&good.id, &good.topic, &good.body));
            load.events.insert(good.id.clone());
            let copies = if random.percent(2) { 10 } else { 1 };
            for _ in 0..copies {
                load.publications.push(publication(&good, random.percent(50)));
            }
            if random.percent(1) {
                // Other bytes, and the same tasks: whichever comes first, the other one is refused.
                let mut other = good.clone();
                other.body["changed"] = json!(true);
                other.text = None;
                load.publications.push(publication(&other, random.percent(50)));
                load.dead.insert(good.id, "another content");
            }
        }
        random.shuffle(&mut load.publications);
        load
    }

    fn add_malformed(&mut self, number: usize, random: &mut Random) {
        // Each kind once, then any; the large one only once.
        let kinds: Vec<_> = MALFORMED.iter().copied().filter(|(kind, _)| *kind != "too large").collect();
        let (kind, reason) = MALFORMED.get(number / 70).unwrap_or_else(|| random.pick(&kinds));
        let mut id = format!("bad-{number}");
        let mut topic = "drill.koji.build.done".to_owned();
        let deep =
            || format!("{{\"a{number}\": {}1{}}}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes();
        let payload = match *kind {
            "cut short" => b"{\"new\": ".to_vec(),
            "no UTF-8" => b"{\"new\": \"\xff\xfe\"}".to_vec(),
            "raw NUL" => b"{\"new\": \"\0\"}".to_vec(),
            "empty" => Vec::new(),
            "array" => b"[1]".to_vec(),
            "text" => b"\"new\"".to_vec(),
            "null" => b"null".to_vec(),
            "deep" => deep(),
            "huge number" => b"{\"new\": 1e400000}".to_vec(),
            "lone surrogate" => br#"{"new": "\ud800"}"#.to_vec(),
            "too large" => format!("{{\"a\": \"{}\"}}", "x".repeat(9_000_000)).into_bytes(),
            "long id" => {
                let payload = format!("{{\"number\": {number}}}").into_bytes();
                id = "i".repeat(600);
                payload
            }
            "id with control" => {
                format!(r#"{{"topic": "drill.x", "id": "a\u0007{number}", "body": {{}}}}"#).into_bytes()
            }
            "no topic" => {
                format!(r#"{{"topic": "", "id": "x{number}", "body": {{"n": {number}}}}}"#).into_bytes()
            }
            other => panic!("no such kind: {other}"),
        };
        topic.push_str(&format!(".n{number}"));
        let letter = if id.len() > 512 { hashed_id(&topic, &payload).to_string() } else { id.clone() };
        self.dead.insert(letter, reason);
        let headers = vec![("message-id", id)];
        // Twice: the same letter again is the same letter.
        for _ in 0..2 {
            self.publications.push(Publication {
                topic: topic.clone(),
                headers: headers.clone(),
                payload: payload.clone(),
            });
        }
    }
}

fn publication(good: &Good, whole: bool) -> Publication {
    let body = good.text.clone().unwrap_or_else(|| good.body.to_string());
    if whole {
        let (id, topic) = (json!(good.id), json!(good.topic));
        let payload = format!(r#"{{"id": {id}, "topic": {topic}, "headers": {{"x": 1}}, "body": {body}}}"#);
        return Publication {
            topic: "any.subject".to_owned(),
            headers: Vec::new(),
            payload: payload.into_bytes(),
        };
    }
    let headers = vec![("message-id", good.id.clone())];
    Publication { topic: good.topic.clone(), headers, payload: body.into_bytes() }
}

fn event(number: usize, random: &mut Random) -> Good {
    let names = ["audit", "bash", "kernel", "lua-lpeg", "zstd"];
    let name = *random.pick(&names);
    let release = format!("{number}.fc{}", random.pick(&[41, 42, 43]));
    let nvr = format!("{name}-1.{}-{release}", random.below(10));
    let id = match random.below(3) {
        0 => format!("2015-{number:08x}-aa"),
        1 => format!("événement {number}"),
        _ => format!("{:08x}-0000-4000-8000-{number:012x}", random.next() >> 32),
    };
    let good = |topic: &str, body: Value| Good { id: id.clone(), topic: topic.to_owned(), body, text: None };
    match random.below(100) {
        0..30 => {
            let arches: Vec<_> = ["x86_64", "aarch64", "s390x"].into_iter().take(random.below(4)).collect();
            let topic = *random.pick(&["drill.koji.build.done", "drill.koji.build.tagged"]);
            let new = *random.pick(&[0, 0, 0, 1, 2, 3]);
            good(topic, json!({"new": new, "name": name, "release": release, "nvr": nvr, "arches": arches}))
        }
        30..32 => {
            let builds: Vec<_> = (0..random.below(6))
                .map(|n| json!({"nvr": format!("{}-{n}-{release}", random.pick(&names))}))
                .collect();
            let notes = *random.pick(&["fixes", "[skip ci] docs", "more [fixes]"]);
            good(
                ["drill.bodhi.testing", "drill.bodhi.stable"][random.below(2)],
                json!({"builds": builds, "notes": notes}),
            )
        }
        32..50 => {
            let (repo, commit) = (random.below(3), random.below(12));
            let branch = *random.pick(&["main", "rawhide", "f42", "f43", "topic"]);
            // The same commit comes by several events; only one of them makes a task.
            let body = json!({"repo": format!("r{repo}"), "commit": format!("c{repo}-{commit}"), "branch": branch, "size": random.below(40)});
            good("drill.git.push", body)
        }
        // Nothing matches these; their bodies are what real buses carry.
        50..55 => {
            Good { text: Some(r#"{"a": "\u0000", "b": "x"}"#.to_owned()), ..good("drill.odd.nul", json!({})) }
        }
        55..60 => Good {
            text: Some(r#"{"a": 1, "a": 2, "n": 1.10, "e": 1e400}"#.replace("1e400", "1e40")),
            ..good("drill.odd.twice", json!({}))
        },
        60..65 => Good {
            text: Some(format!("{{\"a\": {}1{}}}", "[".repeat(100), "]".repeat(100))),
            ..good("drill.odd.deep", json!({}))
        },
        65..67 => good("drill.odd.big", json!({"text": "x".repeat(200_000)})),
        67..80 => good(
            "drill.odd.text",
            json!({"text": "Žluťoučký kůň 🐎 '; drop table task; --", "null": null, "new": 1}),
        ),
        _ => good(&format!("drill.other.n{}", number % 50), json!({"number": number})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_a_load() {
        let (one, other) = (Load::generate(7, 300), Load::generate(7, 300));
        assert_eq!(one.tasks, other.tasks);
        assert_eq!(one.publications.len(), other.publications.len());
        assert!(!one.tasks.is_empty() && !one.dead.is_empty() && one.publications.len() > 300);
    }
}
