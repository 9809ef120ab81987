//! External files, from a server that cuts, redirects and lies.

use crate::http::{Reply, Request, Server};
use model::{
    ErrorReason, SystemClock, SystemIds,
    task_file::{Fetch, FetchKind},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::{
    path::Path,
    sync::{Arc, Mutex},
};
use taskbot_worker::{
    config::{FetchConfig, FetchLookups, FetchServer},
    fetch::{FetchError, Fetched, Fetcher, Wanted, check_free, plan, prune},
    logs::AttemptLog,
};
use tempfile::TempDir;

fn entry(url: &str, to: &str) -> Fetch {
    Fetch::of_url(url.to_owned(), to.to_owned())
}

fn inputs(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn plans() {
    let check = |entries: &[Fetch], given: Value, expect: Result<&[(&str, &str)], &str>| {
        let got = plan(entries, &inputs(given));
        match expect {
            Ok(expect) => {
                let got: Vec<_> =
                    got.unwrap().iter().map(|one| (one.url.to_string(), one.to.clone())).collect();
                let expect: Vec<_> =
                    expect.iter().map(|(url, to)| ((*url).to_owned(), (*to).to_owned())).collect();
                assert_eq!(got, expect);
            }
            Err(expect) => {
                let error = got.unwrap_err();
                assert!(error.message.contains(expect), "{error}");
            }
        }
    };
    let one = |url: &str, to: &str| [entry(url, to)];
    check(
        &one("https://a.example.org/${nvr}.rpm", "rpms/"),
        json!({"nvr": "x-1-1"}),
        Ok(&[("https://a.example.org/x-1-1.rpm", "rpms/x-1-1.rpm")]),
    );
    check(
        &one("${urls}", "in/"),
        json!({"urls": ["http://a/x%20y.tar", "http://a/b/"]}),
        Ok(&[("http://a/x%20y.tar", "in/x y.tar"), ("http://a/b/", "in/index")]),
    );
    check(&one("${urls}", "in/"), json!({"urls": []}), Ok(&[]));
    check(&one("http://a/%2e%2e%2fx", "in/"), json!({}), Ok(&[("http://a/%2e%2e%2fx", "in/.._x")]));
    check(&one("${urls}", "one"), json!({"urls": ["http://a/1", "http://a/2"]}), Err("end it with `/`"));
    check(&one("${urls}", "in/"), json!({"urls": ["http://a/1", "http://b/1"]}), Err("both go to `in/1`"));
    check(&one("${urls}", "in/"), json!({"urls": [1]}), Err("must be a list of texts"));
    check(&one("${url}", "in/"), json!({}), Err("is no URL"));
    check(&one("ftp://a/x", "in/"), json!({}), Err("only http, https and file"));
    check(&one("http://a/x", "${to}"), json!({"to": "../x"}), Err("no file below the work folder"));
    check(&one("http://a/x", ".taskbot/inputs.json"), json!({}), Err("no file below the work folder"));
    let sum = Fetch { sha256: Some("${sum}".into()), ..entry("http://a/x", "x") };
    check(&[sum], json!({"sum": "abc"}), Err("64 hexadecimal digits"));
}

#[test]
fn a_tree_cannot_lead_files_elsewhere() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir(tree.path().join("dir")).unwrap();
    std::fs::write(tree.path().join("file"), "").unwrap();
    std::os::unix::fs::symlink("/etc", tree.path().join("link")).unwrap();
    for (inner, free) in [
        ("new", true),
        ("dir/new", true),
        ("file", true),
        ("dir", false),
        ("file/x", false),
        ("link/x", false),
        ("link", false),
    ] {
        assert_eq!(check_free(tree.path(), inner).is_ok(), free, "{inner}");
    }
}

/// A server, a cache, and what was asked.
struct Bench {
    server: Server,
    asked: Arc<Mutex<Vec<Request>>>,
    cache: TempDir,
    work: TempDir,
}

impl Bench {
    async fn new(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let server = Server::start(Arc::new(move |request: Request| {
            let mut seen = seen.lock().unwrap();
            let reply = answer(&request, seen.len());
            seen.push(request);
            Box::pin(std::future::ready(reply))
        }));
        let (cache, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Self { server: server.await, asked, cache, work }
    }

    fn fetcher(&self, bytes_max: u64) -> Fetcher {
        let config = FetchConfig {
            cache_dir: self.cache.path().to_owned(),
            file_bytes_max: bytes_max,
            private_hosts: ["127.0.0.1".to_owned()].into(),
            refused_networks: vec!["203.0.114.0/24".parse().unwrap()],
            lookups: FetchLookups {
                koji: Some(format!(
                    "{}/packages/${{name}}/${{version}}/${{release}}/${{arch}}/",
                    self.server.url()
                )),
                bodhi: Some(format!("{}/updates/${{id}}", self.server.url())),
                compose: Some(format!("{}/composes/${{id}}/compose/", self.server.url())),
            },
            ..FetchConfig::default()
        };
        Fetcher::new(&config, Arc::new(SystemClock), Arc::new(SystemIds)).unwrap()
    }

    async fn fetch(&self, path: &str, sha256: Option<&str>) -> Result<Fetched, FetchError> {
        let url = format!("{}{path}", self.server.url());
        self.fetch_url(&url, sha256).await
    }

    async fn fetch_url(&self, url: &str, sha256: Option<&str>) -> Result<Fetched, FetchError> {
        let wanted =
            Wanted { url: url.parse().unwrap(), to: "in/file".into(), sha256: sha256.map(str::to_owned) };
        let fetched = self.fetcher(1 << 20).fetch(&[wanted], self.work.path(), &silent()).await?;
        Ok(fetched[0].clone())
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(self.work.path().join("in/file")).unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn silent() -> AttemptLog {
    AttemptLog::new(Arc::new(SystemClock), Box::new(|_| {}))
}

fn sum(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn tagged(etag: &str, body: &[u8]) -> Reply {
    Reply::Answer { status: 200, headers: vec![("etag", etag.to_owned())], body: body.to_vec() }
}

#[tokio::test]
async fn what_is_known_by_its_checksum_is_fetched_once() {
    let bench = Bench::new(|_, _| Reply::text(200, "content")).await;
    let expect = sum(b"content");
    let first = bench.fetch("/f", Some(&expect)).await.unwrap();
    assert_eq!((first.from_cache, first.size_bytes, first.sha256.as_str()), (false, 7, expect.as_str()));
    std::fs::write(bench.work.path().join("in/file"), "changed by the task").unwrap();
    let second = bench.fetch("/f", Some(&expect)).await.unwrap();
    assert!(second.from_cache);
    assert_eq!((bench.content(), bench.asked()), (b"content".to_vec(), 1));
}

#[tokio::test]
async fn what_has_no_checksum_is_asked_for_again() {
    let bench = Bench::new(|request, at| match (request.headers.get("if-none-match"), at) {
        (Some(tag), 1) if tag == "\"one\"" => Reply::status(304),
        (_, 0) => tagged("\"one\"", b"one"),
        _ => tagged("\"two\"", b"two"),
    })
    .await;
    for (content, from_cache) in [("one", false), ("one", true), ("two", false)] {
        let fetched = bench.fetch("/f", None).await.unwrap();
        assert_eq!((fetched.from_cache, bench.content()), (from_cache, content.as_bytes().to_vec()));
    }
}

#[tokio::test]
async fn a_broken_transfer_is_taken_up_where_it_broke() {
    let body: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let sent = body.clone();
    let bench = Bench::new(move |request, at| {
        let headers = vec![("etag", "\"v\"".to_owned())];
        match request.headers.get("range") {
            None => Reply::Cut { status: 200, headers, body: sent.clone(), after: 300_000 },
            Some(range) => {
                let from: usize =
                    range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
                let range = format!("bytes {from}-{}/{}", sent.len() - 1, sent.len());
                let headers = [headers, vec![("content-range", range)]].concat();
                let body = sent[from..].to_vec();
                let after = if at < 2 { 100_000 } else { body.len() };
                Reply::Cut { status: 206, headers, body, after }
            }
        }
    })
    .await;
    let fetched = bench.fetch("/f", Some(&sum(&body))).await.unwrap();
    assert_eq!(fetched.size_bytes, body.len() as u64);
    assert_eq!(bench.content(), body);
    let asked = bench.asked.lock().unwrap();
    assert!(asked[1..].iter().all(|request| request.headers.contains_key("range")), "{}", asked.len());
}

#[tokio::test]
async fn what_goes_wrong_says_whose_fault_it_is() {
    let bench = Bench::new(|request, _| match request.path.as_str() {
        "/lies" => Reply::text(200, "other"),
        "/large" => Reply::Answer { status: 200, headers: Vec::new(), body: vec![0; (1 << 20) + 1] },
        "/broken" => Reply::status(503),
        "/loop" => {
            Reply::Answer { status: 302, headers: vec![("location", "/loop".into())], body: Vec::new() }
        }
        "/out" => Reply::Answer {
            status: 302,
            headers: vec![("location", "http://169.254.169.254/latest".into())],
            body: Vec::new(),
        },
        "/name" => Reply::Answer {
            status: 302,
            headers: vec![("location", "http://localhost:1/".into())],
            body: Vec::new(),
        },
        "/mapped" => Reply::Answer {
            status: 307,
            headers: vec![("location", "http://[::ffff:127.0.0.1]:1/".into())],
            body: Vec::new(),
        },
        "/range" => Reply::Answer {
            status: 308,
            headers: vec![("location", "http://203.0.114.7/".into())],
            body: Vec::new(),
        },
        "/file" => Reply::Answer {
            status: 302,
            headers: vec![("location", "file:///etc/passwd".into())],
            body: Vec::new(),
        },
        _ => Reply::status(404),
    })
    .await;
    let expect = sum(b"content");
    for (path, reason, text) in [
        ("/lies", ErrorReason::BadTask, "has SHA-256"),
        ("/large", ErrorReason::Limit, "at most 1 MiB"),
        ("/broken", ErrorReason::Infra, "503"),
        ("/loop", ErrorReason::BadTask, "redirects"),
        ("/out", ErrorReason::BadTask, "169.254.169.254 is not a public address"),
        ("/name", ErrorReason::BadTask, "not a public address"),
        ("/mapped", ErrorReason::BadTask, "not a public address"),
        ("/range", ErrorReason::BadTask, "203.0.114.7 is not a public address, or refused"),
        ("/file", ErrorReason::BadTask, "cannot be followed"),
        ("/none", ErrorReason::BadTask, "404"),
    ] {
        let error = bench.fetch(path, Some(&expect)).await.unwrap_err();
        assert_eq!(error.reason, reason, "{path}: {error}");
        assert!(error.message.contains(text), "{path}: {error}");
        assert!(!bench.work.path().join("in/file").exists());
    }
    let error = bench.fetch_url("http://[::1]:9/x", None).await.unwrap_err();
    assert!(error.message.contains("not a public address"), "{error}");
    // A name is judged by what it resolves to, in the network's own words too.
    for url in
        ["http://localhost:9/x", "http://LOCALHOST:9/x", "http://127.2/x", "http://[::ffff:a9fe:a9fe]/x"]
    {
        let error = bench.fetch_url(url, None).await.unwrap_err();
        assert!(error.message.contains("not a public address"), "{url}: {error}");
    }
    let shown = bench.fetch_url("http://user:secret@10.0.0.1/x", None).await.unwrap_err();
    assert!(!shown.message.contains("secret"), "{shown}");
}

#[tokio::test]
async fn files_of_this_machine_only_from_allowed_folders() {
    let bench = Bench::new(|_, _| Reply::status(404)).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("allowed"), "local").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
    let config = FetchConfig {
        cache_dir: bench.cache.path().to_owned(),
        file_folders: vec![folder.path().to_owned()],
        ..FetchConfig::default()
    };
    let fetcher = Fetcher::new(&config, Arc::new(SystemClock), Arc::new(SystemIds)).unwrap();
    let fetch = async |path: &Path| {
        let url = url::Url::from_file_path(path).unwrap();
        let wanted = Wanted { url, to: "in/file".into(), sha256: None };
        fetcher.fetch(&[wanted], bench.work.path(), &silent()).await
    };
    assert_eq!(fetch(&folder.path().join("allowed")).await.unwrap()[0].sha256, sum(b"local"));
    for path in [folder.path().join("link"), folder.path().join("../x"), "/etc/passwd".into()] {
        assert_eq!(fetch(&path).await.unwrap_err().reason, ErrorReason::BadTask, "{}", path.display());
    }
}

#[tokio::test]
async fn many_at_once_ask_once_and_the_cache_is_kept_small() {
    let bench = Bench::new(|request, _| Reply::text(200, &request.path)).await;
    let expect = sum(b"/same");
    let all = futures_util::future::join_all((0..8).map(|_| bench.fetch("/same", Some(&expect)))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(bench.asked(), 1);
    for path in ["/a", "/b", "/c"] {
        bench.fetch(path, None).await.unwrap();
    }
    assert_eq!(prune(bench.cache.path(), 4).unwrap(), 2, "the oldest go first, until 4 bytes are left");
    assert_eq!(std::fs::read_dir(bench.cache.path()).unwrap().count(), 2);
    bench.fetch("/c", Some(&sum(b"/c"))).await.unwrap();
    assert_eq!(prune(bench.cache.path(), 0).unwrap(), 3);
}

/// A folder as web servers show it, with links that lead elsewhere.
fn page(names: &[&str]) -> Reply {
    let links: String =
        names.iter().map(|name| format!("<tr><td><a href=\"{name}\">{name}</a></td></tr>\n")).collect();
    Reply::text(
        200,
        &format!(
            "<html><a href=\"?C=N;O=D\">Name</a> <a href='/packages/'>Up</a> <a href=\"../secret.rpm\">x</a> \
             <a href=\"http://203.0.114.7/evil-1-1.rpm\">x</a>{links}</html>"
        ),
    )
}

fn koji(request: &Request, _: usize) -> Reply {
    match request.path.as_str() {
        "/packages/hello/2.12/1.fc42/x86_64/" => page(&[
            "hello-2.12-1.fc42.x86_64.rpm",
            "hello-debuginfo-2.12-1.fc42.x86_64.rpm",
            "hello%2b-2.12-1.fc42.x86_64.rpm",
            "build.log",
        ]),
        "/packages/hello/2.12/1.fc42/noarch/" => page(&["hello-doc-2.12-1.fc42.noarch.rpm"]),
        "/packages/lib-x/1/2/src/" => page(&["lib-x-1-2.src.rpm"]),
        "/updates/FEDORA-2026-1" => {
            Reply::json(&json!({"update": {"builds": [{"nvr": "hello-2.12-1.fc42"}, {"nvr": "lib-x-1-2"}]}}))
        }
        "/updates/FEDORA-2026-2" => {
            Reply::json(&json!({"update": {"builds": [{"nvr": "../../secret-1-1"}]}}))
        }
        "/updates/FEDORA-2026-3" => Reply::text(200, "<html>"),
        "/composes/C-1/compose/metadata/images.json" => Reply::json(&json!({"payload": {"images": {
            "Server": {
                "x86_64": [
                    {"path": "Server/x86_64/iso/boot.iso", "size": 3, "checksums": {"sha256": sum(b"iso")}},
                    {"path": "Server/x86_64/images/disk.qcow2", "checksums": {"sha256": sum(b"disk")}},
                ],
                "aarch64": [{"path": "Server/aarch64/iso/boot.iso", "checksums": {"sha256": sum(b"arm")}}],
            },
        }}})),
        "/composes/C-2/compose/metadata/images.json" => {
            Reply::json(&json!({"payload": {"images": {"S": {"x86_64": [{"path": "../x.iso"}]}}}}))
        }
        "/composes/C-1/compose/Server/x86_64/iso/boot.iso" => Reply::text(200, "iso"),
        _ => Reply::status(404),
    }
}

#[tokio::test]
async fn builds_updates_and_composes_are_looked_up() {
    let bench = Bench::new(koji).await;
    let (fetcher, log) = (bench.fetcher(1 << 20), silent());
    let look = async |kind: FetchKind, what: &str, arch: &[&str], files: &[&str], given: Value| {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let entry = Fetch {
            kind,
            arch: texts(arch),
            files: texts(files),
            ..Fetch::of_url(what.into(), "in/".into())
        };
        let entries = fetcher.look_up(&[entry], &inputs(given.clone()), &log).await?;
        let wanted = plan(&entries, &inputs(given))?;
        Ok::<_, FetchError>(
            wanted.into_iter().map(|one| format!("{} {}", one.to, one.url.path())).collect::<Vec<_>>(),
        )
    };
    let folder = "/packages/hello/2.12/1.fc42";
    let main = format!("in/hello-2.12-1.fc42.x86_64.rpm {folder}/x86_64/hello-2.12-1.fc42.x86_64.rpm");
    let plus = format!("in/hello+-2.12-1.fc42.x86_64.rpm {folder}/x86_64/hello%2b-2.12-1.fc42.x86_64.rpm");
    let doc = format!("in/hello-doc-2.12-1.fc42.noarch.rpm {folder}/noarch/hello-doc-2.12-1.fc42.noarch.rpm");
    let source = "in/lib-x-1-2.src.rpm /packages/lib-x/1/2/src/lib-x-1-2.src.rpm".to_owned();
    let given = json!({"nvr": "hello-2.12-1.fc42", "nvrs": ["hello-2.12-1.fc42", "lib-x-1-2"]});
    let both = ["x86_64", "noarch"];
    let koji = FetchKind::Koji;
    let found = look(koji, "${nvr}", &both, &[], given.clone()).await.unwrap();
    assert_eq!(found, [doc.clone(), plus, main.clone()]);
    let found = look(koji, "${nvrs}", &["src", "noarch"], &[], given.clone()).await.unwrap();
    assert_eq!(found, [doc.clone(), source.clone()]);
    let found = look(koji, "${nvr}", &both, &["*-debuginfo-*"], given.clone()).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let found = look(FetchKind::Bodhi, "FEDORA-2026-1", &["src", "noarch"], &[], json!({})).await.unwrap();
    assert_eq!(found, [doc, source]);
    let check = async |kind, what: &str, arch: &[&str], text: &str, reason: ErrorReason| {
        let error = look(kind, what, arch, &["*.iso", "*.rpm"], given.clone()).await.unwrap_err();
        assert!(error.message.contains(text), "{what}: {error}");
        assert_eq!(error.reason, reason, "{what}: {error}");
    };
    let bad = ErrorReason::BadTask;
    check(koji, "hello", &[], "expected NAME-VERSION-RELEASE", bad).await;
    check(koji, "../etc/passwd-1-1", &[], "is no name of a koji", bad).await;
    check(koji, "hello-9-9", &[], "there is no build `hello-9-9`", bad).await;
    check(koji, "hello-2.12-1.fc42", &["s390x"], "there is no build `hello-2.12-1.fc42` for s390x", bad)
        .await;
    check(FetchKind::Bodhi, "FEDORA-2026-2", &[], "names no builds", ErrorReason::Infra).await;
    check(FetchKind::Bodhi, "FEDORA-2026-3", &[], "holds no JSON", ErrorReason::Infra).await;
    check(FetchKind::Bodhi, "FEDORA-2026-4", &[], "404", bad).await;
    check(FetchKind::Compose, "C-2", &["x86_64"], "outside of the compose", ErrorReason::Infra).await;
    check(FetchKind::Compose, "C-1", &["ppc64le"], "holds no such file for ppc64le", bad).await;

    // What a compose says of its images' checksums is held against them.
    let entry = |kind, what: &str, files: &str| Fetch {
        kind,
        arch: vec!["x86_64".into()],
        files: vec![files.into()],
        ..Fetch::of_url(what.into(), "in/".into())
    };
    let entries = [entry(FetchKind::Compose, "C-1", "*.iso")];
    let entries = fetcher.look_up(&entries, &Map::new(), &log).await.unwrap();
    let wanted = plan(&entries, &Map::new()).unwrap();
    let fetched = fetcher.fetch(&wanted, bench.work.path(), &log).await.unwrap();
    assert_eq!((fetched[0].to.as_str(), &fetched[0].sha256), ("in/boot.iso", &sum(b"iso")));

    let plain = FetchConfig { cache_dir: bench.cache.path().to_owned(), ..FetchConfig::default() };
    let plain = Fetcher::new(&plain, Arc::new(SystemClock), Arc::new(SystemIds)).unwrap();
    let error = plain.look_up(&[entry(koji, "a-1-1", "*")], &Map::new(), &log).await.unwrap_err();
    assert!(error.message.contains("`worker.fetch.koji`"), "{error}");
}

#[tokio::test]
async fn artifacts_come_from_the_own_server_by_reference_and_checksum() {
    const TOKEN: &str = "agent-token";
    let iso = sum(b"iso");
    let path = "/api/v1/worker/tasks/0197411c-5d3e/artifacts/0197411c-a1ee";
    let wanted_sha = iso.clone();
    let bench = Bench::new(move |request, _| {
        let shown = request.headers.get("authorization").map(String::as_str);
        let known = request.query.get("sha256") == Some(&wanted_sha);
        match (request.path == path && known, shown) {
            (_, None) => Reply::status(401),
            (true, Some(shown)) if shown == format!("Bearer {TOKEN}") => Reply::text(200, "iso"),
            _ => Reply::status(404),
        }
    })
    .await;
    let server = url::Url::parse(&bench.server.url()).unwrap();
    let config = |server: Option<FetchServer>| FetchConfig {
        cache_dir: bench.cache.path().to_owned(),
        server,
        ..FetchConfig::default()
    };
    let make =
        |config: FetchConfig| Fetcher::new(&config, Arc::new(SystemClock), Arc::new(SystemIds)).unwrap();
    let own = FetchServer { url: server, token: Some(taskbot_worker::client::Token::new(TOKEN)) };
    let (with, without) = (make(config(Some(own))), make(config(None)));
    let href = "/api/v1/tasks/0197411c-5d3e/artifacts/0197411c-a1ee";
    let entry = Fetch { sha256: Some("${sha256}".into()), ..entry("${iso}", "boot.iso") };
    let get = async |fetcher: &Fetcher, href: &str, sha256: &str| {
        let wanted = plan(std::slice::from_ref(&entry), &inputs(json!({"iso": href, "sha256": sha256})))?;
        fetcher.fetch(&wanted, bench.work.path(), &silent()).await
    };
    assert_eq!(get(&with, href, &iso).await.unwrap()[0].sha256, iso);
    assert_eq!(std::fs::read(bench.work.path().join("boot.iso")).unwrap(), b"iso");
    let check = async |fetcher: &Fetcher, href: &str, sha256: &str, text: &str| {
        let error = get(fetcher, href, sha256).await.unwrap_err();
        assert!(error.message.contains(text), "{href}: {error}");
    };
    check(&without, href, &iso, "there is none here").await;
    check(&with, href, "", "with its `sha256`").await;
    check(&with, href, &sum(b"other"), "404").await;
    check(&with, "/api/v1/tasks/../worker/artifacts/x", &iso, "is no URL").await;
    // The token is for artifacts alone, and other addresses of that host stay closed.
    check(&with, &format!("{}/api/v1/tasks", bench.server.url()), &iso, "not a public address").await;
}
