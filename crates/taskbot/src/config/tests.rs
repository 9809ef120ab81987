use super::*;

/// Every mistake of a text, a line each.
fn mistakes_of(text: &str) -> String {
    check(Path::new("/etc/taskbot.yaml"), text).1.to_string()
}

fn loaded(text: &str) -> Loaded {
    let (loaded, report) = read::read("taskbot.yaml", text, Path::new("/etc"));
    loaded.unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn mistakes_have_their_place_and_a_way_out() {
    let table = [
        ("serevr: {}", "1:1: error: the configuration has no field `serevr` (did you mean `server`?)"),
        ("server: {listen: here}", "1:18: error: `server.listen`: `here` is no address; expected ADDR:PORT"),
        ("server: [a]", "1:9: error: `server` must be a mapping, it is a list"),
        ("server: {lease: 1s}", "`server.lease` must be from 3s to 1h"),
        ("server: {lease: 60}", "`server.lease`"),
        ("server: {public_url: qa.example.org}", "expected https://HOST"),
        ("server: {anonymous: {role: viewer}}", "`anonymous` needs the field `networks`"),
        ("server: {anonymous: {role: boss, networks: [10.0.0.0/8]}}", "`boss` is no role; known are viewer"),
        ("server: {anonymous: {role: viewer, networks: [10.0.0.0/33]}}", "`10.0.0.0/33` is no network"),
        ("interfaces: {alts: {algorithm: RS256}}", "`RS256` does not sign by a secret"),
        ("interfaces: {alts: {callback: {url: \"http://build.example.org\"}}}", "must be https"),
        ("interfaces: {alts: {platforms: [{dist: a, version: 9, arches: x86_64}]}}", "quote it: \"9\""),
        (
            "interfaces: {alts: {platforms: [{dist: a, version: \"9\", arches: [x]}]}}",
            "needs one of `container`",
        ),
        ("sinks: [{name: a, files: {}}]", "needs one of `artifacts`, `logs` and `summaries`"),
        ("sinks: [{name: a, files: {logs: {options_file: x}}}]", "needs the field `url`"),
        ("sinks: [{name: a, junit: {url: \"ftp://h/x\"}}]", "ftp"),
        ("sinks: [{name: a, junit: {url: \"s3://b\"}, webhook: {url: \"https://h\"}}]", "a sink is one of"),
        ("retest: {comments: [{topics: a.b}]}", "an entry needs the field `authors`"),
        ("retest: {comments: [{topics: taskbot.x, authors: a}]}", "`taskbot.x` is one of our own topics"),
        ("retest: {requests: [{agents: a}]}", "an entry needs the field `topics`"),
        ("retest: {requests: [{topics: \"a*\"}]}", "a wildcard stands for a whole token"),
        ("retest: {resultsdb: there}", "`there` is no URL"),
        ("server: {jwt: {}}", "`server.jwt` must be a list"),
        ("server: {jwt: [{name: a, secret_file: s}]}", "needs the field `roles`"),
        ("server: {jwt: [{name: a, roles: [{role: viewer}]}]}", "give one of `secret_file`, `jwks_file`"),
        ("server: {jwt: [{name: a, secret_file: s, jwks_file: k, roles: [{role: viewer}]}]}", "give one of"),
        ("server: {jwt: [{name: a, secret_file: s, roles: []}]}", "`roles` must have 1 to 500 entries"),
        (
            "server: {jwt: [{name: a, secret_file: s, algorithms: [RS256], roles: [{role: viewer}]}]}",
            "RS256 does not sign by these keys; expected one of [HS256",
        ),
        (
            "server: {jwt: [{name: a, secret_file: s, algorithms: [none], roles: [{role: viewer}]}]}",
            "`none` is no algorithm that is taken",
        ),
        (
            "server: {jwt: [{name: a, jwks: \"https://h/keys\", roles: [{role: viewer}]}]}",
            "`issuer` and `audience` must say which tokens are for here",
        ),
        (
            "server: {jwt: [{name: a, issuer: \"http://h\", audience: b, roles: [{role: viewer}]}]}",
            "`http://h` must be https",
        ),
        (
            "server: {jwt: [{name: a, secret_file: s, roles: [{claim: groups, role: viewer}]}]}",
            "`claim` and `has` belong together",
        ),
        (
            "server: {jwt: [{name: a, secret_file: s, roles: [{role: admin, priority_max: 1}]}]}",
            "the role admin has no bounds",
        ),
        ("installation: \"a b\"", "`a b` is no installation"),
        ("database: {url: \"mysql://db\"}", "`mysql` is no database; expected sqlite:PATH or postgres://"),
        ("database: {url: \"sqlite:\"}", "`sqlite:` needs a path"),
        ("database: {connections: 0}", "`database.connections`"),
        ("rules: {folders: rules}", "did you mean `folder`?"),
        ("rules: {folder: rules, git: \"https://h/x\"}", "rules come from one of them"),
        ("rules: {ref: main}", "`rules.ref` is of a git repository, and `rules.git` is missing"),
        ("rules: {path: ./rules}", "rules in a folder of this machine are `rules: {folder: …}`"),
        ("rules: {git: \"https://h/x\", poll: 1s}", "`rules.poll` must be at least 5 s"),
        ("git: {protocols: [https, ftp]}", "`ftp` is no protocol; expected https, ssh, http or git"),
        ("files: {url: \"ftp://host/x\"}", "ftp"),
        ("retention: {events: never}", "`retention.events`"),
        ("worker: {slots: 0}", "`worker.slots`"),
        ("worker: {executors: {pull: sometimes}}", "expected always, if_missing or never"),
        ("worker: {time_factor: 1000}", "must be a number from 0.1 to 100"),
        ("worker: {memory: lots}", "`worker.memory`"),
        (
            "sources: [{nats: {servers: [\"nats://h\"], stream: {name: S}}}]",
            "a NATS source needs the field `name`",
        ),
        ("sources: [{nats: {name: a, stream: {name: S}}}]", "`servers` is empty: give at least one"),
        ("sources: [{nats: {name: a, servers: [\"nats://h\"]}}]", "a NATS source needs the field `stream`"),
        (
            "sources: [{nats: {name: a, servers: [\"nats://h\"], user: u, stream: {name: S}}}]",
            "`user` and `password` go together",
        ),
        (
            "sources: [{nats: {name: a, servers: [\"nats://h\"], stream: {name: S}, foreign: maybe}}]",
            "`sources[0].nats.foreign`",
        ),
        ("sources: [{amqp: {}}]", "a source needs the field `nats`"),
        (
            "outlet: {nats: {servers: [\"nats://h\"], stream: {name: S, create: true}}}",
            "`subjects` is needed to create it",
        ),
        ("server: {listen: 127.0.0.1:1}\nserver: {}", "duplicate"),
        ("worker: {external: [lab]}", "`worker.external` must be a mapping from names to {command:"),
        ("worker: {external: {lab: {}}}", "needs the field `command`"),
        ("worker: {external: {\"a b\": {command: x}}}", "`a b` is no program's name"),
        ("worker: {external: {lab: {command: x, env: {A: 1}}}}", "quote it: \"1\""),
        ("worker: {secrets: [a]}", "`worker.secrets` must be a mapping from names to {file:"),
        ("worker: {secrets: {a: {tasks: [t]}}}", "needs the field `file`"),
        ("worker: {secrets: {a: {file: x}}}", "`tasks` must name the tasks"),
        ("worker: {secrets: {a/b: {file: x, tasks: [t]}}}", "`a/b` cannot be the name of a secret"),
        ("data_dir: 3", "quote it: \"3\""),
    ];
    for (text, expect) in table {
        let got = mistakes_of(text);
        assert!(got.contains(expect), "{text}\n  gave     {got}\n  expected {expect}");
    }
}

#[test]
fn several_mistakes_at_once() {
    let got = mistakes_of("server:\n  listen: x\n  lease: 1d\nworker:\n  slot: 3\n");
    insta::assert_snapshot!(got, @r"
    /etc/taskbot.yaml:2:11: error: `server.listen`: `x` is no address; expected ADDR:PORT, such as 127.0.0.1:7400
    /etc/taskbot.yaml:3:10: error: `server.lease` must be from 3s to 1h
    /etc/taskbot.yaml:5:3: error: `worker` has no field `slot` (did you mean `slots`?)
    ");
}

#[test]
fn values_know_where_they_come_from() {
    let text = "server: {listen: \"127.0.0.1:1\"}\nrules: {folder: rules}\nsources:\n  - nats: {name: a, servers: [\"nats://h\"], stream: {name: S}}\n";
    let mut loaded = loaded(text);
    let over = Overrides {
        listen: Some("127.0.0.1:2".to_owned()),
        data_dir: Some("/d".into()),
        ..Overrides::default()
    };
    let given = [("listen".to_owned(), Given::Flag), ("data_dir".to_owned(), Given::Env)].into();
    loaded.lay_over(&over, &given).unwrap();
    let rows = loaded.rows();
    let row = |path: &str| {
        let row = rows.iter().find(|row| row.path == path).unwrap_or_else(|| panic!("{path} in {rows:?}"));
        (row.value.as_str().unwrap_or_default().to_owned(), row.origin)
    };
    assert_eq!(row("server.listen"), ("127.0.0.1:2".to_owned(), Origin::Flag));
    assert_eq!(row("data_dir"), ("/d".to_owned(), Origin::Env));
    assert_eq!(row("rules.folder"), ("/etc/rules".to_owned(), Origin::File));
    assert_eq!(row("sources[0].nats.name"), ("a".to_owned(), Origin::File));
    assert_eq!(row("server.lease"), ("1m".to_owned(), Origin::Default));
}

#[test]
fn programs_are_found_from_the_files_folder() {
    let loaded = loaded("worker: {external: {a: {command: [bin/a, -x]}, b: {command: b, untrusted: true}}}");
    let programs = &loaded.config.worker.external;
    assert_eq!(programs["a"].command, ["/etc/bin/a", "-x"]);
    assert_eq!(
        (programs["b"].command.as_slice(), programs["b"].untrusted),
        (["b".to_owned()].as_slice(), true)
    );
    let rows = loaded.rows();
    assert!(rows.iter().any(|row| row.path == "worker.external.b.untrusted" && row.origin == Origin::File));
}

#[test]
fn nothing_is_everything_by_default() {
    for text in ["", "# only a comment\n", "{}"] {
        assert!(loaded(text).rows().iter().all(|row| row.origin == Origin::Default), "{text}");
    }
}

#[test]
fn passwords_are_not_shown() {
    let loaded = loaded(
        "database: {url: \"postgres://me:secret@db/x\"}\nfiles: {url: \"s3://b/p\", options: {aws_secret_access_key: hidden}}\n",
    );
    let shown = loaded.values().to_string();
    assert!(!shown.contains("secret@") && !shown.contains("hidden"), "{shown}");
    assert!(shown.contains("me:***@db"), "{shown}");
}

#[test]
fn every_documented_example_is_right() {
    let docs = include_str!("../../../../docs/configuration.md");
    let examples: Vec<&str> =
        docs.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 8, "{} examples", examples.len());
    let external = include_str!("../../../../docs/external-executors.md");
    let external = external.split("```yaml\nworker:").nth(1).and_then(|rest| rest.split("```").next());
    let external = format!("worker:{}", external.unwrap());
    let alts = include_str!("../../../../docs/alts.md");
    let alts = alts.split("```yaml\ninterfaces:").nth(1).and_then(|rest| rest.split("```").next());
    let alts = format!("interfaces:{}", alts.unwrap());
    let paddles = include_str!("../../../../docs/paddles.md");
    let paddles = paddles.split("```yaml\nserver:").nth(1).and_then(|rest| rest.split("```").next());
    let paddles = format!("server:{}", paddles.unwrap());
    for example in examples.into_iter().chain([external.as_str(), alts.as_str(), paddles.as_str()]) {
        let found = mistakes_of(example);
        assert_eq!(found, "", "{example}");
    }
}

#[test]
fn every_value_is_documented() {
    let docs = include_str!("../../../../docs/configuration.md");
    for row in Loaded::default().rows() {
        assert!(
            docs.contains(&format!("`{}`", row.path)),
            "docs/configuration.md does not tell of `{}`",
            row.path
        );
    }
}
