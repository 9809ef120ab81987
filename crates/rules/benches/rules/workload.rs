//! Messages such as those of a distribution's build and update systems (1 to 2 KB), and rules with two to four
//! clauses on them: few match often, most name one package, owner or branch.

use crate::random::Random;
use model::{Event, Topic};
use serde_json::{Value, json};

/// How many messages there are.
pub(crate) const EVENTS: usize = 5_000;

const WORDS: &str = "lib glib gtk qt kde python perl rust golang ruby node java php tex ghc ocaml R mingw util tools core data net http xml json crypto ssl db sql font image audio video test doc build client server agent proxy cache queue log parse lexer graph matrix vector mesh";
const STEMS: [&str; 11] = [
    "",
    "python-",
    "python3-",
    "rust-",
    "golang-github-",
    "perl-",
    "rubygem-",
    "nodejs-",
    "texlive-",
    "ghc-",
    "php-",
];
const STEM_WEIGHTS: [usize; 11] = [40, 12, 6, 14, 8, 8, 3, 3, 4, 1, 1];
const RELEASES: [&str; 9] = ["F42", "F43", "F44", "ELN", "EPEL-9", "EPEL-10.1", "EPEL-10.2", "F42F", "F43C"];
const RELEASE_WEIGHTS: [usize; 9] = [20, 30, 15, 8, 12, 6, 5, 2, 2];
const ARCHES: [&str; 5] = ["x86_64", "aarch64", "ppc64le", "s390x", "i686"];
const TAGS: [&str; 8] = ["critpath", "gated", "core", "server", "workstation", "iot", "coreos", "kde"];
/// The topics below `org.example.prod.`, and how often they come.
const TOPICS: [(&str, usize); 13] = [
    ("buildsys.build.state.change", 27),
    ("buildsys.task.state.change", 22),
    ("buildsys.tag", 12),
    ("copr.build.end", 8),
    ("bodhi.update.request.testing", 4),
    ("bodhi.update.status.testing.complete", 4),
    ("bodhi.update.comment", 5),
    ("bodhi.update.request.stable", 3),
    ("pagure.pull-request.new", 3),
    ("pagure.pull-request.updated", 3),
    ("pagure.pull-request.comment.added", 3),
    ("git.receive", 5),
    ("pungi.compose.status.change", 1),
];
const ROOT: &str = "org.example.prod.";

/// What must hold of a value.
#[derive(Clone)]
pub(crate) enum Op {
    Is(Value),
    Prefix(String),
    /// What stands before and after the `*`.
    Glob(String, String),
    In(Vec<String>),
    AtLeast(i64),
    Below(i64),
    Contains(String),
}

/// A path below the message's root, and what must hold there.
#[derive(Clone)]
pub(crate) struct Clause {
    pub(crate) path: String,
    pub(crate) op: Op,
}

/// A conjunction; the first clause is about the topic.
pub(crate) type Rule = Vec<Clause>;

pub(crate) struct Workload {
    pub(crate) events: Vec<Event>,
    /// The messages as one object each: `topic` and `body`.
    pub(crate) messages: Vec<Value>,
    names: Names,
}

struct Names {
    packages: Vec<String>,
    package_weights: Vec<usize>,
    owners: Vec<String>,
    owner_weights: Vec<usize>,
}

impl Names {
    fn new(random: &mut Random) -> Self {
        let words: Vec<&str> = WORDS.split(' ').collect();
        let mut packages: Vec<String> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut at = 0;
        while packages.len() < 6_000 {
            let stem = STEMS[random.weighted(&STEM_WEIGHTS)];
            let count = *random.pick(&[1, 2, 2, 3]);
            let parts: Vec<&str> = (0..count).map(|_| *random.pick(&words)).collect();
            let number = if at % 3 == 0 { (at % 97).to_string() } else { String::new() };
            at += 1;
            let name = format!("{stem}{}{number}", parts.join("-"));
            if seen.insert(name.clone()) {
                packages.push(name);
            }
        }
        let owners: Vec<String> = (0..300).map(|at| format!("user{at:03}")).collect();
        // Some are far more frequent than others.
        let package_weights = (0..packages.len()).map(|at| 1_000_000 / (at + 30)).collect();
        let owner_weights = (0..owners.len()).map(|at| 1_000_000 / (at + 8)).collect();
        Self { packages, package_weights, owners, owner_weights }
    }

    fn package(&self, random: &mut Random) -> String {
        self.packages[random.weighted(&self.package_weights)].clone()
    }

    fn owner(&self, random: &mut Random) -> String {
        self.owners[random.weighted(&self.owner_weights)].clone()
    }
}

fn words(random: &mut Random, count: usize) -> String {
    let words: Vec<&str> = WORDS.split(' ').collect();
    (0..count).map(|_| *random.pick(&words)).collect::<Vec<_>>().join(" ")
}

impl Workload {
    pub(crate) fn new() -> Self {
        let mut random = Random::new(20_261_121);
        let names = Names::new(&mut random);
        let (mut events, mut messages) = (Vec::new(), Vec::new());
        for at in 0..EVENTS {
            let (topic, body) = message(&mut random, &names, at);
            events.push(event(&topic, at, &body));
            messages.push(json!({"topic": topic, "body": body}));
        }
        Self { events, messages, names }
    }

    /// This many rules; together they match about `target` times per message.
    pub(crate) fn rules(&self, count: usize, target: f64) -> Vec<Rule> {
        let mut random = Random::new(count as u64);
        let sample: Vec<&Value> = self.messages.iter().step_by(5).collect();
        let (mut rules, mut matched) = (Vec::new(), 0.0);
        while matched < target * 0.82 && rules.len() < count {
            let rule = broad(&mut random, &self.names);
            let hits = sample.iter().filter(|message| holds(&rule, message)).count();
            #[expect(clippy::cast_precision_loss, reason = "some thousands")]
            let share = hits as f64 / sample.len() as f64;
            if matched + share <= target * 1.1 {
                rules.push(rule);
                matched += share;
            }
        }
        while rules.len() < count {
            rules.push(narrow(&mut random, &self.names));
        }
        random.shuffle(&mut rules);
        rules
    }
}

fn event(topic: &str, at: usize, body: &Value) -> Event {
    let time = chrono::DateTime::UNIX_EPOCH;
    let headers = json!({"schema": "message.v1", "severity": 20, "sent-at": "2026-11-20T10:00:00+00:00", "priority": 0});
    let Value::Object(headers) = headers else { unreachable!("headers are an object") };
    Event {
        source: "bus".into(),
        domain: "bus".into(),
        id: format!("message-{at}").into(),
        topic: Topic::new(topic),
        time: Some(time),
        received_at: time,
        headers,
        payload: body.to_string().into_bytes().into(),
        depth: 0,
        cause: None,
        traceparent: None,
    }
}

fn message(random: &mut Random, names: &Names, at: usize) -> (String, Value) {
    let weights: Vec<usize> = TOPICS.iter().map(|(_, weight)| *weight).collect();
    let topic = TOPICS[random.weighted(&weights)].0;
    let (name, owner) = (names.package(random), names.owner(random));
    let release = RELEASES[random.weighted(&RELEASE_WEIGHTS)];
    let version = format!("{}.{}.{}", random.below(9), random.below(30), random.below(20));
    let dist = format!("{}.fc{}", 1 + random.below(8), 42 + random.below(3));
    let about = About { at, name: &name, owner: &owner, release, version: &version, dist: &dist };
    let body = match topic.split('.').next().unwrap() {
        "buildsys" if topic.contains(".build.") => build(random, &about),
        "buildsys" if topic.contains(".task.") => build_task(random, &about),
        "buildsys" => tag(random, names, &about),
        "copr" => copr(random, names, &about),
        "bodhi" => update(random, names, &about),
        "pagure" => pull_request(random, names, &about),
        "git" => push(random, &about),
        _ => compose(random),
    };
    (format!("{ROOT}{topic}"), body)
}

struct About<'a> {
    at: usize,
    name: &'a str,
    owner: &'a str,
    release: &'a str,
    version: &'a str,
    dist: &'a str,
}

fn build(random: &mut Random, about: &About<'_>) -> Value {
    let About { at, name, owner, version, dist, .. } = *about;
    let children: Vec<Value> = ARCHES[..*random.pick(&[2, 3, 4, 5])]
        .iter()
        .map(|arch| json!({"id": 130_000_000 + at, "method": "buildArch", "arch": arch, "state": "CLOSED", "host": format!("buildhw-{}-{:02}.example.org", &arch[..3], random.below(40))}))
        .collect();
    let tags = *random.pick(&[0, 0, 1, 1, 2]);
    json!({
        "build_id": 2_500_000 + at * 7 + random.below(7), "old": 0, "new": random.one_of(&[1, 3, 4, 0], &[70, 20, 5, 5]),
        "attribute": "state", "name": name, "version": version, "release": dist, "epoch": null, "owner": owner,
        "instance": "primary", "task_id": 130_000_000 + at,
        "request": [format!("git+https://src.example.org/rpms/{name}.git#{}", random.hex(40)), "candidate", {"scratch": false, "repo_id": random.below(6_000_000), "arches": random.sample(&ARCHES, 4)}],
        "tags": random.sample(&TAGS, tags),
        "task": {"method": "build", "host_id": random.below(400), "channel_id": 1, "weight": 1.375, "children": children},
    })
}

fn build_task(random: &mut Random, about: &About<'_>) -> Value {
    let About { at, name, owner, version, dist, .. } = *about;
    let urls: Vec<String> =
        (0..3).map(|_| format!("https://pkgs.example.org/work/{}", random.hex(30))).collect();
    let source = format!("{name}-{version}-{dist}.src.rpm");
    json!({
        "id": 130_000_000 + at, "attribute": "state", "old": "FREE", "new": random.one_of(&["OPEN", "CLOSED", "FAILED"], &[40, 50, 10]),
        "method": random.pick(&["buildArch", "newRepo", "build", "tagBuild"]), "instance": "primary", "owner": owner, "srpm": source,
        "info": {
            "arch": random.pick(&ARCHES), "channel_id": random.below(5), "completion_ts": null, "host_id": random.below(400),
            "label": random.pick(&ARCHES), "parent": 129_000_000 + at, "priority": random.pick(&[5, 19, 20, 30]),
            "request": [format!("tasks/{at}/{source}"), random.below(90_000), random.pick(&ARCHES), true, {"repo_id": random.below(6_000_000), "urls": urls}],
            "descendents": {}, "title": words(random, 24),
        },
    })
}

fn tag(random: &mut Random, names: &Names, about: &About<'_>) -> Value {
    let About { at, name, owner, release, version, dist } = *about;
    let side = format!("-build-side-{}", random.below(90_000));
    let end =
        *random.pick(&["-updates-candidate", "-updates-testing", "-updates", "-signing-pending", &side]);
    let history: Vec<Value> = (0..*random.pick(&[4, 8, 12]))
        .map(|turn| json!({"tag": words(random, 1), "ts": 1_763_600_000 + turn * 31, "user": random.pick(&names.owners)}))
        .collect();
    json!({
        "build_id": 2_500_000 + at, "name": name, "tag": format!("{}{end}", release.to_lowercase()), "tag_id": random.below(90_000),
        "instance": "primary", "user": random.pick(&["bodhi", "robosign", owner]), "owner": owner, "version": version, "release": dist, "history": history,
    })
}

fn copr(random: &mut Random, names: &Names, about: &About<'_>) -> Value {
    let About { at, name, owner, version, .. } = *about;
    json!({
        "build": 9_000_000 + at, "chroot": format!("{}{}", random.pick(&["fedora-42-", "fedora-43-", "epel-9-", "rawhide-"]), random.pick(&ARCHES)),
        "copr": random.pick(&names.packages[..200]), "owner": owner, "pkg": name, "user": owner, "status": random.one_of(&[1, 0, 9], &[75, 20, 5]),
        "version": version, "what": format!("build end: {}", words(random, 12)), "who": format!("backend.worker-{}", random.hex(12)),
        "pid": random.below(4_000_000), "ip": format!("10.0.{}.{}", random.below(255), random.below(255)), "log": words(random, 60),
    })
}

fn update(random: &mut Random, names: &Names, about: &About<'_>) -> Value {
    let About { name, owner, release, version, dist, .. } = *about;
    let more = *random.pick(&[0, 0, 0, 1, 2, 5]);
    let packages: Vec<String> =
        std::iter::once(name.to_owned()).chain((0..more).map(|_| names.package(random))).collect();
    let builds: Vec<Value> = packages
        .iter()
        .map(|name| json!({"nvr": format!("{name}-{version}-{dist}"), "epoch": 0, "signed": random.percent(80), "type": "rpm"}))
        .collect();
    let bugs: Vec<Value> = (0..*random.pick(&[0, 1, 2]))
        .map(|_| json!({"bug_id": 2_300_000 + random.below(99_999), "title": words(random, 6), "security": false}))
        .collect();
    let kinds = ["bugfix", "enhancement", "security", "newpackage", "unspecified"];
    let karma = random.one_of(&[-3, -2, -1, 0, 1, 2, 3, 4, 5], &[1, 2, 4, 50, 20, 10, 8, 3, 2]);
    let low = release.to_lowercase();
    json!({"agent": owner, "update": {
        "alias": format!("UPDATE-2026-{}", random.hex(10)), "title": format!("{name}-{version}-{dist}"),
        "status": random.pick(&["pending", "testing", "stable"]), "request": random.pick(&[json!("testing"), json!("stable"), json!(null)]),
        "type": random.one_of(&kinds, &[40, 25, 15, 15, 5]), "severity": random.pick(&["unspecified", "low", "medium", "high", "urgent"]),
        "karma": karma, "critpath": random.percent(20), "critpath_groups": random.pick(&["", "core", "core critical-path-gnome"]),
        "user": {"name": owner, "email": format!("{owner}@example.org"), "groups": [{"name": "packager"}]},
        "release": {"name": release, "long_name": format!("Release {release}"), "version": &release[1..], "id_prefix": "UPDATE", "branch": low, "dist_tag": low, "state": "current", "testing_tag": format!("{low}-updates-testing")},
        "builds": builds, "packages": packages, "notes": words(random, 40), "bugs": bugs, "date_submitted": "2026-11-14 10:00:00",
        "stable_karma": 3, "unstable_karma": -3, "autokarma": true, "from_tag": null,
    }})
}

fn pull_request(random: &mut Random, names: &Names, about: &About<'_>) -> Value {
    let About { name, owner, .. } = *about;
    let comments: Vec<Value> = (0..*random.pick(&[1, 3, 5]))
        .map(|_| json!({"id": random.below(99_999), "comment": words(random, 25), "user": {"name": random.pick(&names.owners)}}))
        .collect();
    let tags = *random.pick(&[0, 1, 2]);
    json!({"agent": owner, "pullrequest": {
        "id": random.below(400), "title": words(random, 7), "branch": random.one_of(&["rawhide", "f43", "f42", "epel9", "c10s"], &[50, 20, 12, 12, 6]),
        "branch_from": random.hex(8), "commit_start": random.hex(40), "commit_stop": random.hex(40), "status": "Open", "comments": comments, "uid": random.hex(32),
        "project": {"id": random.below(60_000), "name": name, "namespace": "rpms", "fullname": format!("rpms/{name}"), "url_path": format!("rpms/{name}"),
            "tags": random.sample(&["c", "python", "rust", "ci", "gating"], tags), "user": {"name": random.pick(&names.owners)}},
        "user": {"name": owner, "fullname": owner.to_uppercase(), "url_path": format!("user/{owner}")},
    }})
}

fn push(random: &mut Random, about: &About<'_>) -> Value {
    let About { name, owner, .. } = *about;
    let file = format!("{name}.spec");
    json!({"agent": owner, "commit": {
        "name": owner, "username": owner, "rev": random.hex(40), "branch": random.pick(&["rawhide", "f43", "f42", "epel9"]), "repo": name, "namespace": "rpms",
        "summary": words(random, 8), "message": words(random, 60), "path": format!("/srv/git/rpms/{name}.git"), "seen": false,
        "stats": {"files": {file: {"additions": random.below(30), "deletions": random.below(30), "lines": random.below(60)}, "sources": {"additions": 1, "deletions": 1, "lines": 2}},
            "total": {"additions": random.below(30), "deletions": random.below(30), "files": 2, "lines": random.below(90)}},
    }, "repo": {"name": name, "fullname": format!("rpms/{name}")}})
}

fn compose(random: &mut Random) -> Value {
    json!({
        "compose_id": format!("Compose-{}-20261114.n.0", random.pick(&["Rawhide", "43", "Cloud-43"])),
        "status": random.pick(&["STARTED", "FINISHED", "FINISHED_INCOMPLETE", "DOOMED"]), "location": format!("https://pkgs.example.org/compose/{}", random.hex(40)),
        "release_short": "Example", "release_version": random.pick(&["Rawhide", "43"]), "details": words(random, 80),
    })
}

fn is(path: &str, value: impl Into<Value>) -> Clause {
    Clause { path: path.to_owned(), op: Op::Is(value.into()) }
}

fn topic(name: &str) -> Clause {
    is("topic", format!("{ROOT}{name}"))
}

fn below(name: &str) -> Clause {
    Clause { path: "topic".to_owned(), op: Op::Prefix(format!("{ROOT}{name}.")) }
}

fn clause(path: &str, op: Op) -> Clause {
    Clause { path: path.to_owned(), op }
}

fn glob(path: &str, before: impl Into<String>, after: impl Into<String>) -> Clause {
    clause(path, Op::Glob(before.into(), after.into()))
}

const BUILD: &str = "buildsys.build.state.change";

fn narrow(random: &mut Random, names: &Names) -> Rule {
    let package = |random: &mut Random| random.pick(&names.packages[..3_000]).clone();
    let list = WORDS.split(' ').collect::<Vec<_>>();
    let word = |random: &mut Random| (*random.pick(&list)).to_owned();
    match random.weighted(&[30, 12, 12, 8, 12, 8, 8, 6, 4]) {
        0 => vec![topic(BUILD), is("body.name", package(random)), is("body.new", 1)],
        1 => vec![
            below("pagure.pull-request"),
            is("body.pullrequest.project.fullname", format!("rpms/{}", package(random))),
            is("body.pullrequest.branch", *random.pick(&["rawhide", "f43", "epel9"])),
        ],
        2 => vec![
            below("bodhi.update"),
            is("body.update.release.name", *random.pick(&RELEASES)),
            clause("body.update.packages", Op::Contains(package(random))),
        ],
        3 => {
            let stem = *random.pick(&["python-", "rust-", "golang-github-", "perl-"]);
            let before = format!("{stem}{}-{}", word(random), word(random));
            let owner = random.pick(&names.owners).clone();
            vec![topic(BUILD), glob("body.name", before, ""), is("body.new", 1), is("body.owner", owner)]
        }
        4 => vec![
            topic("copr.build.end"),
            is("body.pkg", package(random)),
            clause("body.status", Op::AtLeast(1)),
        ],
        5 => vec![
            topic(BUILD),
            is("body.owner", random.pick(&names.owners).clone()),
            clause("body.tags", Op::Contains((*random.pick(&["critpath", "gated", "iot"])).to_owned())),
            clause("body.build_id", Op::AtLeast(2_500_000 + i64::try_from(random.below(30_000)).unwrap())),
        ],
        6 => {
            let before = format!("{}-updates", random.pick(&["f43", "f42", "epel-9"]));
            vec![topic("buildsys.tag"), is("body.name", package(random)), glob("body.tag", before, "")]
        }
        7 => vec![
            topic("git.receive"),
            clause("body.commit.repo", Op::In(random.sample(&names.packages[..3_000], 5))),
            is("body.commit.branch", "rawhide"),
        ],
        _ => {
            let after = format!("{}-{}{}", word(random), word(random), random.below(97));
            vec![topic(BUILD), glob("body.name", "", after), is("body.instance", "primary")]
        }
    }
}

fn broad(random: &mut Random, names: &Names) -> Rule {
    match random.weighted(&[2, 2, 2, 2, 1, 2, 2, 1, 2]) {
        0 => {
            let tag = *random.pick(&["critpath", "gated", "core", "server", "kde"]);
            vec![topic(BUILD), is("body.new", 1), clause("body.tags", Op::Contains(tag.to_owned()))]
        }
        1 => {
            let releases = random.sample(&RELEASES, 3).into_iter().map(str::to_owned).collect();
            vec![
                below("bodhi.update"),
                clause("body.update.release.name", Op::In(releases)),
                clause("body.update.karma", Op::AtLeast(*random.pick(&[0, 1, 2]))),
            ]
        }
        2 => {
            let stem = *random.pick(&["python-", "rust-", "golang-", "perl-", "texlive-"]);
            vec![topic(BUILD), glob("body.name", stem, ""), is("body.new", 1)]
        }
        3 => vec![
            below("bodhi.update.request"),
            is("body.update.type", *random.pick(&["security", "bugfix", "newpackage"])),
            is("body.update.release.name", *random.pick(&RELEASES[..3])),
        ],
        4 => vec![
            topic("pagure.pull-request.updated"),
            is("body.pullrequest.branch", "rawhide"),
            clause(
                "body.pullrequest.project.tags",
                Op::Contains((*random.pick(&["python", "ci", "rust"])).to_owned()),
            ),
        ],
        5 => {
            let after = *random.pick(&["-updates-testing", "-signing-pending", "-updates-candidate"]);
            vec![topic("buildsys.tag"), glob("body.tag", "", after), is("body.instance", "primary")]
        }
        6 => vec![
            below("buildsys.task"),
            clause("body.info.priority", Op::Below(*random.pick(&[6, 20]))),
            is("body.new", "FAILED"),
            is("body.method", *random.pick(&["buildArch", "build"])),
        ],
        7 => vec![
            topic("pungi.compose.status.change"),
            clause("body.status", Op::In(vec!["FINISHED".to_owned(), "FINISHED_INCOMPLETE".to_owned()])),
        ],
        _ => vec![
            topic(BUILD),
            is("body.owner", random.pick(&names.owners[..20]).clone()),
            clause("body.task.host_id", Op::Below(300)),
        ],
    }
}

/// Whether a rule matches a message, judged as plainly as can be.
pub(crate) fn holds(rule: &Rule, message: &Value) -> bool {
    rule.iter().all(|Clause { path, op }| {
        let value = path.split('.').try_fold(message, |value, part| value.get(part));
        let text = value.and_then(Value::as_str);
        match op {
            Op::Is(wanted) => value == Some(wanted),
            Op::Prefix(start) => text.is_some_and(|text| text.starts_with(start)),
            Op::Glob(before, after) => text.is_some_and(|text| {
                text.len() >= before.len() + after.len() && text.starts_with(before) && text.ends_with(after)
            }),
            Op::In(wanted) => text.is_some_and(|text| wanted.iter().any(|one| one == text)),
            Op::AtLeast(bound) => value.and_then(Value::as_i64).is_some_and(|number| number >= *bound),
            Op::Below(bound) => value.and_then(Value::as_i64).is_some_and(|number| number < *bound),
            Op::Contains(wanted) => {
                value.and_then(Value::as_array).is_some_and(|items| items.iter().any(|item| item == wanted))
            }
        }
    })
}
