//! The configuration file, section by section.

use super::{
    Anonymous, Config, Database, Executors, Fetch, Files, Git, Interfaces, Loaded, Machines, Network,
    Paddles, ResultsDb, Rules, Server, Worker, alts, bus,
    section::{File, Section},
    signed, sinks, testflinger,
};
use model::{
    diagnostic::Report,
    task_file::{FetchKind, Firmware, VmLogin, is_secret_name},
    topic::{OWN_PREFIX, TopicPattern},
    yaml::{Node, Reader, Value},
};
use scheduler::heard::{Comments, Requests};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use store::{Retention, Role};
use worker::{
    executor::{Allow, GrantedSizes, Program, SizeLimits, VmImage},
    git::Protocol,
    secrets::SecretSource,
};

/// The most connections to a database.
const CONNECTIONS_MAX: u32 = 1000;
/// The most attempts that a worker runs at the same time.
const SLOTS_MAX: u32 = 1024;
/// The shortest lease.
const LEASE_MIN: Duration = Duration::from_secs(3);
/// The longest lease.
const LEASE_MAX: Duration = Duration::from_secs(3600);
/// The most options of an object store.
const OPTIONS_MAX: usize = 100;
/// The most systems that listen for tests.
const SYSTEMS_MAX: usize = 1000;
/// The most entries of what is heard of comments or requests.
const HEARD_MAX: usize = 100;
/// The shortest time between two looks at a repository of rules.
const RULES_POLL_MIN: Duration = Duration::from_secs(5);

/// Reads a configuration file's text. `None` when it has mistakes; the report has them all, and the warnings.
pub(super) fn read(name: &str, text: &str, folder: &Path) -> (Option<Loaded>, Report) {
    let reader = Reader::new(name, text);
    let origins = RefCell::new(BTreeMap::new());
    let mut config = Config::default();
    let file = File { reader: &reader, folder, origins: &origins };
    match reader.parse() {
        // An empty file says nothing.
        Some(Node { value: Value::Null, .. }) | None => {}
        Some(root) => {
            if let Some(section) = Section::of(&file, &root, "the configuration", "") {
                whole(section, &mut config);
            }
        }
    }
    let failed = reader.failed();
    let origins = origins.into_inner();
    ((!failed).then_some(Loaded { config, origins }), reader.into_report())
}

fn whole(mut section: Section<'_, '_>, config: &mut Config) {
    section.parsed("installation", &mut config.installation, |text| check_word("installation", text));
    section.path_of("data_dir", &mut config.data_dir);
    if let Some(section) = section.section("server", "`server`") {
        server(section, &mut config.server);
    }
    if let Some(section) = section.section("database", "`database`") {
        database(section, &mut config.database);
    }
    if let Some(section) = section.section("rules", "`rules`") {
        rules(section, &mut config.rules);
    }
    if let Some(section) = section.section("git", "`git`") {
        git(section, &mut config.git);
    }
    if let Some(node) = section.node("sources") {
        config.sources = bus::sources(section.file, node, &config.installation);
    }
    if let Some(node) = section.node("outlet") {
        config.outlet = bus::outlet(section.file, node, &config.installation);
    }
    if let Some(node) = section.node("sinks") {
        config.sinks = sinks::read_all(section.file, node);
    }
    if let Some(section) = section.section("files", "`files`") {
        files(section, &mut config.files);
    }
    if let Some(section) = section.section("retention", "`retention`") {
        retention(section, &mut config.retention);
    }
    if let Some(section) = section.section("retest", "`retest`") {
        retest(section, config);
    }
    if let Some(section) = section.section("interfaces", "`interfaces`") {
        interfaces(section, &mut config.interfaces);
    }
    if let Some(section) = section.section("worker", "`worker`") {
        worker(section, &mut config.worker);
    }
    section.finish();
}

/// A name that goes into subjects and ids.
pub(super) fn check_word(what: &str, text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= 64;
    if fits && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is no {what}; expected up to 64 letters, digits, - and _"))
}

fn server(mut section: Section<'_, '_>, server: &mut Server) {
    section.maybe_name("name", &mut server.name);
    section.parsed("listen", &mut server.listen, address);
    section.parsed("public_url", &mut server.public_url, |text| {
        let url = reqwest::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.map(|_| Some(text.to_owned())).ok_or_else(|| format!("`{text}` is no URL; expected https://HOST"))
    });
    if let Some(section) = section.section("anonymous", "`anonymous`") {
        server.anonymous = anonymous(section);
    }
    if let Some(node) = section.node("jwt") {
        server.jwt = signed::read(section.file, node);
    }
    section.with("lease", &mut server.lease, |reader, node, what| {
        let lease = reader.duration_of(node, what)?;
        if (LEASE_MIN..=LEASE_MAX).contains(&lease) {
            return Some(lease);
        }
        reader.error(&node.span, format!("{what} must be from 3s to 1h"));
        None
    });
    section.parsed("default_queue", &mut server.default_queue, |text| check_word("queue", text));
    section.finish();
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no address; expected ADDR:PORT, such as 127.0.0.1:{}", super::PORT))
}

fn retest(mut section: Section<'_, '_>, config: &mut Config) {
    let retest = &mut config.retest;
    section.duration("window", &mut retest.window);
    if let Some(node) = section.node("systems") {
        let file = section.file;
        let items = file.reader.list_of(node, "`retest.systems`").unwrap_or_default();
        if items.len() > SYSTEMS_MAX {
            let message =
                format!("`retest.systems` has {} entries, at most {SYSTEMS_MAX} are read", items.len());
            file.reader.error(&node.span, message);
        }
        for (at, item) in items.iter().take(SYSTEMS_MAX).enumerate() {
            let prefix = format!("retest.systems[{at}]");
            let Some(mut entry) = Section::of(file, item, "a system", &prefix) else { continue };
            let (mut tests, mut system) = (String::new(), String::new());
            entry.require("tests");
            entry.name("tests", &mut tests);
            entry.require("system");
            entry.parsed("system", &mut system, |text| check_word("system", text));
            entry.finish();
            retest.systems.push((tests, system));
        }
    }
    section.parsed("resultsdb", &mut config.retest_resultsdb, |text| {
        results::elsewhere::ResultsDbElsewhere::new(text).map(|_| Some(text.to_owned()))
    });
    heard(&mut section, "comments", |entry| {
        let mut comments = Comments::default();
        entry.require("authors");
        entry.set("authors", &mut comments.authors);
        retest.comments.push(Comments { topics: topics(entry), ..comments });
    });
    heard(&mut section, "requests", |entry| {
        let mut requests = Requests::default();
        entry.set("agents", &mut requests.agents);
        retest.requests.push(Requests { topics: topics(entry), ..requests });
    });
    section.finish();
}

/// Reads the entries of a list of what is heard.
fn heard<'f, 'n>(
    section: &mut Section<'f, 'n>,
    name: &'static str,
    mut read: impl FnMut(&mut Section<'f, 'n>),
) {
    let Some(node) = section.node(name) else { return };
    let file = section.file;
    let what = format!("`retest.{name}`");
    let items = file.reader.list_of(node, &what).unwrap_or_default();
    if items.len() > HEARD_MAX {
        let message = format!("{what} has {} entries, at most {HEARD_MAX} are read", items.len());
        file.reader.error(&node.span, message);
    }
    for (at, item) in items.iter().take(HEARD_MAX).enumerate() {
        let prefix = format!("retest.{name}[{at}]");
        let Some(mut entry) = Section::of(file, item, "an entry", &prefix) else { continue };
        read(&mut entry);
        entry.finish();
    }
}

/// Topics of events of others; those of our own would ask for what they tell of.
fn topics(section: &mut Section<'_, '_>) -> Vec<TopicPattern> {
    let mut topics = Vec::new();
    section.require("topics");
    section.parsed_list("topics", &mut topics, |text| {
        let pattern = TopicPattern::parse(text).map_err(|error| format!("`{text}`: {error}"))?;
        let own = text.split('.').next() == Some(OWN_PREFIX);
        if own { Err(format!("`{text}` is one of our own topics")) } else { Ok(pattern) }
    });
    topics
}

fn interfaces(mut section: Section<'_, '_>, interfaces: &mut Interfaces) {
    if let Some(section) = section.section("resultsdb", "`interfaces.resultsdb`") {
        resultsdb(section, &mut interfaces.resultsdb);
    }
    if let Some(mut section) = section.section("rats", "`interfaces.rats`") {
        let rats = &mut interfaces.rats;
        section.bool("enabled", &mut rats.enabled);
        section.parsed("listen", &mut rats.listen, |text| address(text).map(Some));
        section.bool("get", &mut rats.get);
        section.finish();
    }
    if let Some(section) = section.section("testflinger", "`interfaces.testflinger`") {
        testflinger::read(section, &mut interfaces.testflinger);
    }
    if let Some(section) = section.section("alts", "`interfaces.alts`") {
        alts::read(section, &mut interfaces.alts);
    }
    if let Some(section) = section.section("paddles", "`interfaces.paddles`") {
        paddles(section, &mut interfaces.paddles);
    }
    section.finish();
}

fn paddles(mut section: Section<'_, '_>, paddles: &mut Paddles) {
    section.bool("enabled", &mut paddles.enabled);
    section.parsed("listen", &mut paddles.listen, |text| address(text).map(Some));
    let settings = &mut paddles.settings;
    section.parsed("shape", &mut settings.seed_shape, |text| match text {
        "today" => Ok(false),
        "seed" => Ok(true),
        other => Err(format!("`{other}` is neither today nor seed")),
    });
    section.duration("lease", &mut settings.lease);
    section.maybe_name("log_href", &mut settings.log_href);
    section.count("runs", store::PADDLES_ROWS_MAX, &mut settings.runs);
    section.finish();
}

fn resultsdb(mut section: Section<'_, '_>, resultsdb: &mut ResultsDb) {
    section.bool("enabled", &mut resultsdb.enabled);
    section.parsed("listen", &mut resultsdb.listen, |text| address(text).map(Some));
    section.with("extra_outcomes", &mut resultsdb.extra_outcomes, |reader, node, what| {
        let mut all = reader.texts_of(node, what)?;
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|outcome| seen.insert(outcome.clone()));
        Some(all)
    });
    let (reader, span) = (section.file.reader, section.span());
    for outcome in &resultsdb.extra_outcomes {
        if outcome.is_empty() || outcome.bytes().any(|byte| !byte.is_ascii_uppercase() && byte != b'_') {
            let message = format!("`{outcome}` is no outcome; expected capitals, such as QUEUED");
            reader.error(span, message);
        }
    }
    section.finish();
}

fn anonymous(mut section: Section<'_, '_>) -> Option<Anonymous> {
    let mut role = None;
    let mut networks = Vec::new();
    section.require("role");
    section.parsed("role", &mut role, |text| text.parse::<Role>().map(Some));
    section.require("networks");
    section.with("networks", &mut networks, |reader, node, what| {
        let texts = reader.texts_of(node, what)?;
        let parse = |text: &String| {
            parse_network(text).map_err(|why| reader.error(&node.span, format!("{what}: {why}"))).ok()
        };
        texts.iter().map(parse).collect()
    });
    section.finish();
    Some(Anonymous { role: role?, networks })
}

/// `10.0.0.0/8`, `::1/128`, or a single address.
pub(super) fn parse_network(text: &str) -> Result<Network, String> {
    let wrong = || format!("`{text}` is no network; expected ADDRESS/BITS, such as 10.0.0.0/8 or fd00::/8");
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Ok(most), |bits| bits.parse::<u8>().map_err(|_| wrong()))?;
    if bits > most { Err(wrong()) } else { Ok(Network { address, bits }) }
}

fn database(mut section: Section<'_, '_>, database: &mut Database) {
    section.parsed("url", &mut database.url, |text| check_database_url(text).map(|()| Some(text.to_owned())));
    section.maybe_path("password_file", &mut database.password_file);
    section.count("connections", CONNECTIONS_MAX, &mut database.connections);
    section.finish();
}

/// Checks the form of a database's URL.
pub(super) fn check_database_url(text: &str) -> Result<(), String> {
    if let Some(path) = text.strip_prefix("sqlite:") {
        return if path.is_empty() { Err("`sqlite:` needs a path".to_owned()) } else { Ok(()) };
    }
    let url = reqwest::Url::parse(text).map_err(|_| database_forms(text))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(database_forms(text));
    }
    Ok(())
}

fn database_forms(text: &str) -> String {
    let scheme = text.split(':').next().unwrap_or_default();
    format!("`{scheme}` is no database; expected sqlite:PATH or postgres://USER@HOST/NAME")
}

fn rules(mut section: Section<'_, '_>, rules: &mut Rules) {
    section.maybe_path("folder", &mut rules.folder);
    section.maybe_name("git", &mut rules.git);
    section.maybe_name("ref", &mut rules.reference);
    section.maybe_name("path", &mut rules.path);
    section.duration("poll", &mut rules.poll);
    section.maybe_path("webhook_secret_file", &mut rules.webhook_secret_file);
    let (reader, span) = (section.file.reader, section.span());
    if rules.git.is_some() && rules.folder.is_some() {
        reader.error(span, "`rules` has a `folder` and a `git` repository; rules come from one of them");
    }
    if rules.git.is_none() {
        let of_git = [
            ("path", rules.path.is_some(), "; rules in a folder of this machine are `rules: {folder: …}`"),
            ("ref", rules.reference.is_some(), ""),
            ("webhook_secret_file", rules.webhook_secret_file.is_some(), ""),
        ];
        for (name, _, hint) in of_git.into_iter().filter(|(_, there, _)| *there) {
            reader.error(
                span,
                format!("`rules.{name}` is of a git repository, and `rules.git` is missing{hint}"),
            );
        }
    }
    if rules.poll < RULES_POLL_MIN {
        reader.error(span, format!("`rules.poll` must be at least {} s", RULES_POLL_MIN.as_secs()));
    }
    section.set("hosts", &mut rules.hosts);
    section.set("authors", &mut rules.authors);
    section.bool("file_urls", &mut rules.file_urls);
    section.finish();
}

fn git(mut section: Section<'_, '_>, git: &mut Git) {
    section.with("protocols", &mut git.protocols, |reader, node, what| {
        let parse = |text: &String| {
            let known = [Protocol::Https, Protocol::Ssh, Protocol::Http, Protocol::Git];
            let found = known.into_iter().find(|protocol| protocol.to_string() == *text);
            if found.is_none() {
                reader.error(
                    &node.span,
                    format!("{what}: `{text}` is no protocol; expected https, ssh, http or git"),
                );
            }
            found
        };
        reader.texts_of(node, what)?.iter().map(parse).collect()
    });
    section.texts("hosts", &mut git.hosts);
    section.paths("folders", &mut git.folders);
    section.size("cache", &mut git.cache_bytes);
    section.finish();
}

pub(super) fn files(mut section: Section<'_, '_>, files: &mut Files) {
    section.parsed("url", &mut files.url, |text| {
        let url = reqwest::Url::parse(text).map_err(|_| {
            format!("`{text}` is no URL; expected file:///PATH, s3://BUCKET/PREFIX, az://… or gs://…")
        })?;
        object_store::ObjectStoreScheme::parse(&url).map_err(|error| error.to_string())?;
        Ok(Some(text.to_owned()))
    });
    section.with("options", &mut files.options, texts_by_name);
    section.maybe_path("options_file", &mut files.options_file);
    section.finish();
}

fn retention(mut section: Section<'_, '_>, retention: &mut Retention) {
    section.keep("bodies", &mut retention.bodies);
    section.keep("events", &mut retention.events);
    section.keep("messages", &mut retention.messages);
    section.keep("tasks", &mut retention.tasks);
    section.keep("files", &mut retention.files);
    section.keep("results", &mut retention.results);
    section.keep("dead_letters", &mut retention.dead_letters);
    section.keep("audit", &mut retention.audit);
    section.finish();
}

fn worker(mut section: Section<'_, '_>, worker: &mut Worker) {
    section.maybe_name("name", &mut worker.name);
    section.texts("queues", &mut worker.queues);
    section.count("slots", SLOTS_MAX, &mut worker.slots);
    section.set("labels", &mut worker.labels);
    section.set("arches", &mut worker.arches);
    section.maybe_size("memory", &mut worker.memory_bytes);
    section.maybe_size("disk", &mut worker.disk_bytes);
    section.with("cpus", &mut worker.cpus, |reader, node, what| {
        Some(u32::try_from(reader.int_of(node, what, 1..4097)?).ok())
    });
    section.maybe_path("work_dir", &mut worker.work_dir);
    section.with("time_factor", &mut worker.time_factor, |reader, node, what| match &node.value {
        Value::Float(factor) if (0.1..=100.0).contains(factor) => Some(*factor),
        Value::Int(factor @ 1..=100) => f64::from(u8::try_from(*factor).ok()?).into(),
        _ => {
            reader.error(&node.span, format!("{what} must be a number from 0.1 to 100"));
            None
        }
    });
    if let Some(section) = section.section("executors", "`executors`") {
        executors(section, &mut worker.executors);
    }
    if let Some(section) = section.section("allow", "`allow`") {
        allow(section, &mut worker.allow);
    }
    if let Some(section) = section.section("sizes", "`sizes`") {
        sizes(section, &mut worker.sizes);
    }
    if let Some(section) = section.section("fetch", "`fetch`") {
        fetch(section, &mut worker.fetch);
    }
    if let Some(section) = section.section("vm", "`vm`") {
        machines(section, &mut worker.vm);
    }
    if let Some(mut section) = section.section("hold", "`hold`") {
        section.duration("max", &mut worker.hold_max);
        section.bool("untrusted", &mut worker.hold_untrusted);
        section.finish();
    }
    if let Some(node) = section.node("secrets") {
        worker.secrets = secrets(section.file, node);
    }
    if let Some(node) = section.node("external") {
        worker.external = programs(section.file, node);
    }
    section.finish();
}

fn executors(mut section: Section<'_, '_>, executors: &mut Executors) {
    section.bool("container", &mut executors.container);
    section.bool("vm", &mut executors.vm);
    section.bool("sandbox", &mut executors.sandbox);
    section.bool("local", &mut executors.local);
    section.bool("local_untrusted", &mut executors.local_untrusted);
    section.paths("sockets", &mut executors.sockets);
    section.maybe_name("default_image", &mut executors.default_image);
    section.parsed("pull", &mut executors.pull, |text| match text {
        "always" | "if_missing" | "never" => Ok(text.to_owned()),
        other => Err(format!("`{other}` is no such time; expected always, if_missing or never")),
    });
    section.maybe_path("registry_config", &mut executors.registry_config);
    section.name("network", &mut executors.network);
    section.bool("link_local", &mut executors.link_local);
    section.maybe_name("runtime", &mut executors.runtime);
    section.paths("binds", &mut executors.binds);
    section.finish();
}

fn machines(mut section: Section<'_, '_>, machines: &mut Machines) {
    section.set("network", &mut machines.network);
    section.with("kvm", &mut machines.kvm, |reader, node, what| reader.bool_of(node, what).map(Some));
    let file = section.file;
    if let Some(node) = section.node("images") {
        let Value::Map(entries) = &node.value else {
            file.reader.error(&node.span, "`worker.vm.images` must be a mapping from names to {path: …}");
            return;
        };
        for (key, node) in entries {
            if let Some(section) =
                Section::of(file, node, "an image", &format!("worker.vm.images.{}", key.text))
                && let Some(image) = image(section)
            {
                machines.images.insert(key.text.clone(), image);
            }
        }
    }
    section.finish();
}

/// Programs by name.
fn secrets(file: &File<'_>, node: &Node) -> BTreeMap<String, SecretSource> {
    let mut secrets = BTreeMap::new();
    let Value::Map(entries) = &node.value else {
        let wrong = "`worker.secrets` must be a mapping from names to {file: PATH, tasks: [NAME, …]}";
        file.reader.error(&node.span, wrong);
        return secrets;
    };
    for (key, node) in entries {
        if !is_secret_name(&key.text) {
            let wrong = format!("`worker.secrets`: `{}` cannot be the name of a secret", key.text);
            let help = "use letters, digits, `.`, `_` and `-`, a letter or digit first: it names a file";
            file.reader.error_help(&key.span, wrong, help);
        }
        let path = format!("worker.secrets.{}", key.text);
        let Some(mut section) = Section::of(file, node, "a secret", &path) else { continue };
        let mut source = SecretSource::default();
        let span = section.span().clone();
        section.require("file");
        section.path_of("file", &mut source.file);
        section.set("tasks", &mut source.tasks);
        section.set("repositories", &mut source.repos);
        section.finish();
        if source.tasks.is_empty() {
            let wrong = "`tasks` must name the tasks that may have the secret; [\"*\"] for all that it is registered for";
            file.reader.error(&span, wrong);
        }
        secrets.insert(key.text.clone(), source);
    }
    secrets
}

fn programs(file: &File<'_>, node: &Node) -> BTreeMap<String, Program> {
    let mut programs = BTreeMap::new();
    let Value::Map(entries) = &node.value else {
        let wrong = "`worker.external` must be a mapping from names to {command: [PROGRAM, ARGUMENT, …]}";
        file.reader.error(&node.span, wrong);
        return programs;
    };
    for (key, node) in entries {
        let path = format!("worker.external.{}", key.text);
        if let Err(why) = check_word("program's name", &key.text) {
            file.reader.error(&key.span, format!("`worker.external`: {why}"));
        }
        if let Some(section) = Section::of(file, node, "a program", &path)
            && let Some(program) = program(section)
        {
            programs.insert(key.text.clone(), program);
        }
    }
    programs
}

fn program(mut section: Section<'_, '_>) -> Option<Program> {
    let (span, file) = (section.span().clone(), section.file);
    let mut program = Program { command: Vec::new(), env: BTreeMap::new(), untrusted: false };
    section.require("command");
    section.texts("command", &mut program.command);
    section.bool("untrusted", &mut program.untrusted);
    section.with("env", &mut program.env, texts_by_name);
    section.finish();
    if program.command.is_empty() {
        file.reader
            .error(&span, "`command` must name the program, such as [/usr/local/bin/my-cloud, --fast]");
        return None;
    }
    // A path is one of the configuration's folder, like all others; a plain name is looked for.
    if program.command[0].contains('/') {
        program.command[0] = file.folder.join(&program.command[0]).to_string_lossy().into_owned();
    }
    Some(program)
}

/// A mapping from names to texts.
fn texts_by_name(reader: &Reader, node: &Node, what: &str) -> Option<BTreeMap<String, String>> {
    let Value::Map(entries) = &node.value else {
        reader.error(&node.span, format!("{what} must be a mapping, it is {}", node.value.kind()));
        return None;
    };
    if entries.len() > OPTIONS_MAX {
        let count = entries.len();
        reader.error(&node.span, format!("{what} has {count} entries, at most {OPTIONS_MAX} are read"));
    }
    entries
        .iter()
        .map(|(key, node)| Some((key.text.clone(), reader.text_of(node, &format!("`{}`", key.text))?)))
        .collect()
}

fn image(mut section: Section<'_, '_>) -> Option<VmImage> {
    let (span, file) = (section.span().clone(), section.file);
    let mut image = VmImage {
        path: PathBuf::new(),
        arch: None,
        login: VmLogin::CloudInit,
        firmware: Firmware::Default,
        sha256: None,
    };
    section.path_of("path", &mut image.path);
    section.maybe_name("arch", &mut image.arch);
    section.parsed("firmware", &mut image.firmware, |text| match text {
        "bios" => Ok(Firmware::Bios),
        "uefi" => Ok(Firmware::Uefi),
        other => Err(format!("`{other}` is no firmware; expected bios or uefi")),
    });
    section.maybe_name("sha256", &mut image.sha256);
    let mut user = None;
    section.maybe_name("user", &mut user);
    let mut password_file = None;
    section.maybe_path("password_file", &mut password_file);
    section.finish();
    if image.path.as_os_str().is_empty() {
        file.reader.error(&span, "an image needs the field `path`");
        return None;
    }
    if let Some(user) = user {
        let password = password_file.map(|path| super::read_secret(&path)).transpose();
        let password = password.map_err(|why| file.reader.error(&span, why.to_string())).ok()?;
        image.login = VmLogin::Console { user, password };
    }
    Some(image)
}

fn allow(mut section: Section<'_, '_>, allow: &mut Allow) {
    section.bool("network", &mut allow.network);
    section.bool("root", &mut allow.root);
    section.bool("writable_root", &mut allow.writable_root);
    section.texts("capabilities", &mut allow.capabilities);
    section.finish();
}

fn sizes(mut section: Section<'_, '_>, limits: &mut SizeLimits) {
    if let Some(section) = section.section("default", "`sizes.default`") {
        granted(section, &mut limits.default);
    }
    if let Some(section) = section.section("max", "`sizes.max`") {
        granted(section, &mut limits.max);
    }
    section.finish();
}

fn granted(mut section: Section<'_, '_>, sizes: &mut GrantedSizes) {
    section.size("memory", &mut sizes.memory_bytes);
    section.count("cpus", 4096, &mut sizes.cpus);
    section.size("disk", &mut sizes.disk_bytes);
    section.count("processes", 1_000_000, &mut sizes.processes);
    section.size("tmp", &mut sizes.tmp_bytes);
    section.finish();
}

/// A URL with the variables of what it looks up.
fn lookup_url(kind: FetchKind, text: &str) -> Result<String, String> {
    let known = worker::fetch::url_variables(kind);
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or("a `${` has no `}`")?;
        if !known.contains(&name) {
            return Err(format!("there is no `${{{name}}}`; known are {}", known.join(", ")));
        }
        rest = after;
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no http or https URL"))
    }
}

fn fetch(mut section: Section<'_, '_>, fetch: &mut Fetch) {
    section.size("cache", &mut fetch.cache_bytes);
    section.size("file", &mut fetch.file_bytes);
    section.set("private_hosts", &mut fetch.private_hosts);
    section.parsed_list("refused_networks", &mut fetch.refused_networks, str::parse);
    for (kind, into) in [
        (FetchKind::Koji, &mut fetch.lookups.koji),
        (FetchKind::Bodhi, &mut fetch.lookups.bodhi),
        (FetchKind::Compose, &mut fetch.lookups.compose),
    ] {
        section.parsed(kind.as_str(), into, |text| lookup_url(kind, text).map(Some));
    }
    section.paths("folders", &mut fetch.folders);
    section.finish();
}
