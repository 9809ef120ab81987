//! Reading a task file: all its mistakes at once, each with its place.

use super::{
    ARTIFACTS_BYTES_MAX, Artifacts, ContainerWish, Environment, ExitMeans, ExternalWish, FETCH_KINDS, Fetch,
    FetchKind, HostWish, INPUT_KINDS, Input, InputKind, LIST_MAX, OUTPUT_PREFIX, PHASE_TIMEOUT_MAX, Publish,
    RESULT_FORMATS, Relaxed, ResultFormat, Results, Sizes, TaskFile, TimeoutMeans, Timeouts, VmLogin,
    check_value, default_exit, is_inner_path, is_input_name, is_secret_name, read_vm::read_vm, substitutions,
};
use crate::{
    diagnostic::Report,
    outcome::Outcome,
    requirements::Requirements,
    retry::{RETRIES_MAX, RetryOn, RetryPolicy},
    yaml::{Fields, Node, Reader, Value as Yaml},
};
use std::collections::BTreeMap;

/// Parses a task file.
///
/// # Errors
/// All mistakes that were found, each with its place. Warnings come with the file.
pub fn parse(file: &str, text: &str) -> Result<(TaskFile, Report), Report> {
    let reader = Reader::new(file, text);
    let parsed = reader.parse().and_then(|node| read_task(&reader, &node));
    let failed = reader.failed();
    let report = reader.into_report();
    match parsed {
        Some(parsed) if !failed => Ok((parsed, report)),
        _ => Err(report),
    }
}

fn read_task(reader: &Reader, node: &Node) -> Option<TaskFile> {
    let mut fields = reader.fields(node, "a task file")?;
    let name = fields.require(reader, "name").and_then(|node| reader.name_of(node, "`name`"));
    let owner = fields.get("owner").and_then(|node| reader.text_of(node, "`owner`"));
    let description = fields.get("description").and_then(|node| reader.text_of(node, "`description`"));
    let inputs = fields.get("inputs").map(|node| read_inputs(reader, node)).unwrap_or_default();
    let environment =
        fields.get("environment").map_or_else(default_environment, |node| read_environments(reader, node));
    let needs = fields.get("needs").map(|node| read_needs(reader, node)).unwrap_or_default();
    let fetch = fields.get("fetch").map(|node| read_fetches(reader, node)).unwrap_or_default();
    let secrets = fields.get("secrets").map(|node| read_secret_names(reader, node)).unwrap_or_default();
    let commands =
        |node: Option<&Node>, what| node.and_then(|node| reader.texts_of(node, what)).unwrap_or_default();
    let prepare = commands(fields.get("prepare"), "`prepare`");
    // In machines without a login there is nothing to run.
    let is_closed =
        |one: &Environment| matches!(one, Environment::Vm(wish) if wish.login == Some(VmLogin::None));
    let closed = environment.iter().filter(|one| is_closed(one)).count();
    let run_node = if closed > 0 { fields.get("run") } else { fields.require(reader, "run") };
    let run = commands(run_node, "`run`");
    let cleanup = commands(fields.get("cleanup"), "`cleanup`");
    let timeout = fields.get("timeout").map(|node| read_timeouts(reader, node)).unwrap_or_default();
    let results = fields.get("results").and_then(|node| read_results(reader, node)).unwrap_or_default();
    let artifacts = fields.get("artifacts").map(|node| read_artifacts(reader, node)).unwrap_or_default();
    let retry = fields.get("retry").map(|node| read_retry(reader, node)).unwrap_or_default();
    fields.finish(reader);
    if closed > 0 {
        let lines = [("prepare", &prepare), ("run", &run), ("cleanup", &cleanup)];
        if let Some((name, _)) = lines.iter().find(|(_, lines)| !lines.is_empty()) {
            let message = format!("no command can run in a machine with `login: none`: leave `{name}` out");
            reader.error(&node.span, message);
        }
        if closed < environment.len() {
            let message =
                "a machine with `login: none` runs no commands: no other environment can stand beside it";
            reader.error(&node.span, message);
        }
    } else if let Some(node) = run_node
        && run.iter().all(|line| line.trim().is_empty())
    {
        reader.error(&node.span, "`run` must hold a command");
    }
    let file = TaskFile {
        name: name?,
        owner,
        description,
        inputs,
        environment,
        needs,
        fetch,
        secrets,
        prepare,
        run,
        cleanup,
        timeout,
        results,
        artifacts,
        retry,
    };
    check_substitutions(reader, node, &file);
    Some(file)
}

/// The names of secrets, in a task file and where tasks are registered.
pub fn read_secret_names(reader: &Reader, node: &Node) -> Vec<String> {
    let names = reader.texts_of(node, "`secrets`").unwrap_or_default();
    if let Some(name) = names.iter().find(|name| !is_secret_name(name)) {
        let message = format!("`{name}` cannot be the name of a secret");
        let help = "use letters, digits, `.`, `_` and `-`, a letter or digit first: it names a file";
        reader.error_help(&node.span, message, help);
    }
    names
}

/// Without `environment` a task runs in the worker's default image, or else in its sandbox.
fn default_environment() -> Vec<Environment> {
    let container = ContainerWish { image: None, sizes: Sizes::default(), relaxed: Relaxed::default() };
    let sandbox = HostWish { programs: Vec::new(), sizes: Sizes::default(), relaxed: Relaxed::default() };
    vec![Environment::Container(container), Environment::Sandbox(sandbox)]
}

fn read_inputs(reader: &Reader, node: &Node) -> BTreeMap<String, Input> {
    let Yaml::Map(entries) = &node.value else {
        reader.error(
            &node.span,
            format!("`inputs` must be a mapping from names to {{type: …}}, it is {}", node.value.kind()),
        );
        return BTreeMap::new();
    };
    let mut inputs = BTreeMap::new();
    for (key, node) in entries {
        if !is_input_name(&key.text) {
            reader.error_help(
                &key.span,
                format!("`{}` cannot be an input's name", key.text),
                "use lower-case letters, digits and `_`, a letter first: it also becomes a variable `TASKBOT_INPUT_…`",
            );
        }
        if let Some(input) = read_input(reader, node) {
            inputs.insert(key.text.clone(), input);
        }
    }
    inputs
}

fn read_input(reader: &Reader, node: &Node) -> Option<Input> {
    let mut fields = reader.fields(node, "an input")?;
    let kind = fields.get("type").map_or(Some(InputKind::String), |node| {
        let text = reader.text_of(node, "`type`")?;
        let found = INPUT_KINDS.into_iter().find(|kind| kind.as_str() == text);
        if found.is_none() {
            let known = INPUT_KINDS.map(InputKind::as_str).join(", ");
            reader.error(&node.span, format!("`{text}` is no type of inputs; known are {known}"));
        }
        found
    });
    let required = fields.get("required").and_then(|node| reader.bool_of(node, "`required`"));
    let default_node = fields.get("default");
    let default = default_node.map(Node::to_json);
    let description = fields.get("description").and_then(|node| reader.text_of(node, "`description`"));
    let choices_node = fields.get("choices");
    let choices = choices_node
        .and_then(|node| reader.list_of(node, "`choices`"))
        .map(|items| items.iter().map(Node::to_json).collect::<Vec<_>>())
        .unwrap_or_default();
    fields.finish(reader);
    let kind = kind?;
    if let (Some(node), Some(value)) = (default_node, &default)
        && let Err(error) = check_value(kind, &choices, value)
    {
        reader.error(&node.span, format!("the default {error}"));
    }
    if let (Some(true), Some(node)) = (required, default_node) {
        reader.error(&node.span, "an input with a default is never missing: drop `required` or `default`");
    }
    Some(Input { kind, required: required.unwrap_or(false), default, description, choices })
}

fn read_environments(reader: &Reader, node: &Node) -> Vec<Environment> {
    let items = match &node.value {
        Yaml::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() || items.len() > LIST_MAX {
        reader.error(
            &node.span,
            "`environment` must name at least one environment, such as `container: {image: …}`",
        );
    }
    items.iter().filter_map(|item| read_environment(reader, item)).collect()
}

const ENVIRONMENTS: &str = "one of container, vm, sandbox, local, external";

fn read_environment(reader: &Reader, node: &Node) -> Option<Environment> {
    let Yaml::Map(entries) = &node.value else {
        reader.error(
            &node.span,
            format!("an environment must be {ENVIRONMENTS}, such as `container: {{image: …}}`"),
        );
        return None;
    };
    let [(key, node)] = entries.as_slice() else {
        reader.error_help(
            &node.span,
            "an environment must have one key",
            "write each alternative as an entry of a list",
        );
        return None;
    };
    let node = &empty_if_null(node);
    match key.text.as_str() {
        "container" => {
            let mut fields = reader.fields(node, "`container`")?;
            let image = fields.get("image").and_then(|node| reader.name_of(node, "`image`"));
            let (sizes, relaxed) = (read_sizes(reader, &mut fields), read_relaxed(reader, &mut fields));
            fields.finish(reader);
            Some(Environment::Container(ContainerWish { image, sizes, relaxed }))
        }
        "vm" => read_vm(reader, node).map(Box::new).map(Environment::Vm),
        host @ ("sandbox" | "local") => {
            let mut fields = reader.fields(node, if host == "sandbox" { "`sandbox`" } else { "`local`" })?;
            let programs = fields.get("programs").and_then(|node| reader.texts_of(node, "`programs`"));
            let (sizes, relaxed) = (read_sizes(reader, &mut fields), read_relaxed(reader, &mut fields));
            fields.finish(reader);
            let wish = HostWish { programs: programs.unwrap_or_default(), sizes, relaxed };
            Some(if host == "sandbox" { Environment::Sandbox(wish) } else { Environment::Local(wish) })
        }
        "external" => {
            let mut fields = reader.fields(node, "`external`")?;
            let provider =
                fields.require(reader, "provider").and_then(|node| reader.name_of(node, "`provider`"));
            let with = fields.get("with").and_then(|node| read_with(reader, node)).unwrap_or_default();
            let reboot = fields.get("reboot").and_then(|node| reader.bool_of(node, "`reboot`"));
            let sizes = read_sizes(reader, &mut fields);
            fields.finish(reader);
            let reboot = reboot.unwrap_or(false);
            Some(Environment::External(ExternalWish { provider: provider?, with, reboot, sizes }))
        }
        other => {
            let message = format!("`{other}` is no environment; known is {ENVIRONMENTS}");
            reader.error(&key.span, message);
            None
        }
    }
}

/// What a program is told in its own words: a mapping.
fn read_with(reader: &Reader, node: &Node) -> Option<serde_json::Map<String, serde_json::Value>> {
    let with = node.to_json().as_object().cloned();
    if with.is_none() {
        reader.error(&node.span, "`with` must be a mapping, such as `{image: fedora-42}`");
    }
    with
}

/// `sandbox:` alone means `sandbox: {}`.
fn empty_if_null(node: &Node) -> Node {
    match node.value {
        Yaml::Null => Node { value: Yaml::Map(Vec::new()), span: node.span.clone() },
        _ => node.clone(),
    }
}

pub(super) fn read_sizes(reader: &Reader, fields: &mut Fields<'_>) -> Sizes {
    let small =
        |node: &Node, what| reader.int_of(node, what, 1..1_000_001).and_then(|n| u32::try_from(n).ok());
    Sizes {
        memory_bytes: fields.get("memory").and_then(|node| reader.size_of(node, "`memory`")),
        cpus: fields.get("cpus").and_then(|node| small(node, "`cpus`")),
        disk_bytes: fields.get("disk").and_then(|node| reader.size_of(node, "`disk`")),
        processes: fields.get("processes").and_then(|node| small(node, "`processes`")),
    }
}

fn read_relaxed(reader: &Reader, fields: &mut Fields<'_>) -> Relaxed {
    let mut flag =
        |name: &'static str| fields.get(name).and_then(|node| reader.bool_of(node, name)).unwrap_or(false);
    let (network, root, writable_root) = (flag("network"), flag("root"), flag("writable_root"));
    let capabilities = fields.get("capabilities").and_then(|node| reader.texts_of(node, "`capabilities`"));
    Relaxed { network, root, writable_root, capabilities: capabilities.unwrap_or_default() }
}

/// Reads `needs: {arch, labels, memory, disk, cpus, kvm}`; rules read theirs by the same words.
#[must_use]
pub fn read_needs(reader: &Reader, node: &Node) -> Requirements {
    let Some(mut fields) = reader.fields(node, "`needs`") else { return Requirements::default() };
    let needs = Requirements {
        arch: fields.get("arch").and_then(|node| reader.name_of(node, "`arch`")),
        labels: fields
            .get("labels")
            .and_then(|node| reader.texts_of(node, "`labels`"))
            .map(|labels| labels.into_iter().collect())
            .unwrap_or_default(),
        memory_bytes: fields.get("memory").and_then(|node| reader.size_of(node, "`memory`")),
        disk_bytes: fields.get("disk").and_then(|node| reader.size_of(node, "`disk`")),
        cpus: fields
            .get("cpus")
            .and_then(|node| reader.int_of(node, "`cpus`", 1..10_001))
            .and_then(|cpus| u32::try_from(cpus).ok()),
        kvm: fields.get("kvm").and_then(|node| reader.bool_of(node, "`kvm`")).unwrap_or(false),
        executors: std::collections::BTreeSet::new(),
        providers: std::collections::BTreeSet::new(),
        foreign: None,
        vm_images: std::collections::BTreeSet::new(),
        container_images: std::collections::BTreeSet::new(),
    };
    fields.finish(reader);
    needs
}

fn read_fetches(reader: &Reader, node: &Node) -> Vec<Fetch> {
    let items = reader.list_of(node, "`fetch`").unwrap_or_default();
    items.iter().filter_map(|item| read_fetch(reader, item)).collect()
}

fn read_fetch(reader: &Reader, node: &Node) -> Option<Fetch> {
    let mut fields = reader.fields(node, "an entry of `fetch`")?;
    let named: Vec<_> =
        FETCH_KINDS.iter().filter_map(|kind| Some((*kind, fields.get(kind.as_str())?))).collect();
    let what = match named.as_slice() {
        [(kind, node)] => reader.name_of(node, &format!("`{}`", kind.as_str())).map(|what| (*kind, what)),
        [] => {
            reader.error(
                &node.span,
                "an entry of `fetch` needs one of the fields `url`, `koji`, `bodhi`, `compose`",
            );
            None
        }
        [_, (kind, node), ..] => {
            reader.error(&node.span, format!("`{}`: an entry of `fetch` names one thing", kind.as_str()));
            None
        }
    };
    let is_url = what.as_ref().is_none_or(|(kind, _)| *kind == FetchKind::Url);
    let mut texts = |name: &'static str| {
        let node = fields.get(name)?;
        if is_url {
            reader
                .error(&node.span, format!("`{name}` is for what is looked up: `koji`, `bodhi`, `compose`"));
        }
        reader.texts_of(node, &format!("`{name}`"))
    };
    let (arch, files) = (texts("arch").unwrap_or_default(), texts("files").unwrap_or_default());
    let to_node = fields.require(reader, "to");
    let to = to_node.and_then(|node| reader.name_of(node, "`to`"));
    let sha_node = fields.get("sha256");
    let sha256 = sha_node.and_then(|node| reader.text_of(node, "`sha256`"));
    fields.finish(reader);
    if let (Some(node), Some(to)) = (to_node, &to)
        && !is_inner_path(to)
    {
        reader.error(
            &node.span,
            format!("`{to}` leaves the work folder; expected a relative path without `..`"),
        );
    }
    if let (Some(node), Some(sha)) = (sha_node, &sha256)
        && !sha.contains("${")
        && (sha.len() != 64 || !sha.chars().all(|c| c.is_ascii_hexdigit()))
    {
        reader.error(&node.span, "`sha256` must have 64 hexadecimal digits");
    }
    if !is_url {
        if let (Some(node), Some(to)) = (to_node, &to)
            && !to.ends_with('/')
        {
            reader.error(&node.span, format!("`{to}` takes several files: end it with `/`"));
        }
        if let Some(node) = sha_node {
            reader.error(&node.span, "`sha256` is for one file by its `url`");
        }
    }
    let (kind, what) = what?;
    Some(Fetch { kind, what, to: to?, sha256, arch, files })
}

fn read_timeouts(reader: &Reader, node: &Node) -> Timeouts {
    let default = Timeouts::default();
    let Some(mut fields) = reader.fields(node, "`timeout`") else { return default };
    let mut limit = |name: &'static str| {
        let node = fields.get(name)?;
        let limit = reader.duration_of(node, name)?;
        if limit.is_zero() || limit > PHASE_TIMEOUT_MAX {
            reader.error(&node.span, format!("`{name}` must be more than nothing and at most 24h"));
        }
        Some(limit)
    };
    let timeouts = Timeouts {
        provision: limit("provision").unwrap_or(default.provision),
        fetch: limit("fetch").unwrap_or(default.fetch),
        prepare: limit("prepare").unwrap_or(default.prepare),
        run: limit("run").unwrap_or(default.run),
        idle: limit("idle"),
        cleanup: limit("cleanup").unwrap_or(default.cleanup),
        outcome: TimeoutMeans::Error,
    };
    let outcome = fields.get("outcome").and_then(|node| match reader.text_of(node, "`outcome`")?.as_str() {
        "error" => Some(TimeoutMeans::Error),
        "failed" => Some(TimeoutMeans::Failed),
        other => {
            reader.error(&node.span, format!("a time-out is `error` or `failed`, not `{other}`"));
            None
        }
    });
    fields.finish(reader);
    Timeouts { outcome: outcome.unwrap_or_default(), ..timeouts }
}

fn read_results(reader: &Reader, node: &Node) -> Option<Results> {
    let mut fields = reader.fields(node, "`results`")?;
    let testcase = fields.get("testcase").and_then(|node| reader.name_of(node, "`testcase`"));
    let publish = fields.get("publish").and_then(|node| match reader.text_of(node, "`publish`")?.as_str() {
        "summary" => Some(Publish::Summary),
        "all" => Some(Publish::All),
        other => {
            reader.error(&node.span, format!("`publish` is summary or all, not `{other}`"));
            None
        }
    });
    let format = fields.get("format").and_then(|node| {
        let text = reader.text_of(node, "`format`")?;
        let found = RESULT_FORMATS.into_iter().find(|(_, name)| *name == text).map(|(format, _)| format);
        if found.is_none() {
            let known = RESULT_FORMATS.map(|(_, name)| name).join(", ");
            reader.error(&node.span, format!("`{text}` is no format of results; known are {known}"));
        }
        found
    });
    let format = format.unwrap_or_default();
    let path_node = fields.get("path");
    let path = path_node.and_then(|node| reader.name_of(node, "`path`")).map(in_output);
    let exit = fields.get("exit").map_or_else(|| default_exit(format), |node| read_exit(reader, node));
    fields.finish(reader);
    match (format, path_node, &path) {
        (ResultFormat::Exit, Some(node), _) => {
            let known = RESULT_FORMATS.iter().map(|(_, name)| *name).filter(|name| *name != "exit");
            let known = known.collect::<Vec<_>>().join(", ");
            reader.error(&node.span, format!("`path` names a result file: say its `format` too ({known})"));
        }
        (ResultFormat::Exit, None, _) => {}
        (_, None, _) => reader.error(&node.span, "`results` needs the field `path`: the result file"),
        (_, Some(node), Some(path)) if !is_inner_path(path) => {
            reader.error(
                &node.span,
                format!("`{path}` leaves the work folder; expected a relative path without `..`"),
            );
        }
        _ => {}
    }
    Some(Results { testcase, publish: publish.unwrap_or_default(), format, path, exit })
}

/// How [`OUTPUT_PREFIX`] is written as well.
const OUTPUT_BRACED: &str = "${TASKBOT_OUTPUT}/";

/// A path in the output folder in its one form, also where it is written with braces.
fn in_output(path: String) -> String {
    path.strip_prefix(OUTPUT_BRACED).map_or(path.clone(), |inner| format!("{OUTPUT_PREFIX}{inner}"))
}

fn read_exit(reader: &Reader, node: &Node) -> BTreeMap<String, ExitMeans> {
    let Yaml::Map(entries) = &node.value else {
        reader.error(&node.span, "`exit` must be a mapping from exit codes to outcomes, such as `{0: passed, 1: failed, \"*\": error}`");
        return BTreeMap::new();
    };
    let mut exit = BTreeMap::new();
    for (key, node) in entries {
        if key.text != "*" && key.text.parse::<u8>().is_err() {
            reader.error(
                &key.span,
                format!("`{}` is no exit code; expected 0 to 255, or \"*\" for the others", key.text),
            );
        }
        let Some(text) = reader.text_of(node, "an outcome") else { continue };
        if text.contains('(') {
            // A task must not be able to call for its own retries.
            reader.error(
                &node.span,
                format!("`{text}`: say `error` alone; why it is one is noted by the worker"),
            );
            continue;
        }
        match text.parse() {
            Ok(means) => {
                exit.insert(key.text.clone(), means);
            }
            Err(error) => reader.error(&node.span, error),
        }
    }
    // What nobody named is an error, never a pass.
    exit.entry("*".to_owned())
        .or_insert(ExitMeans::Outcome(Outcome::Error(crate::outcome::ErrorReason::Task)));
    exit
}

fn read_artifacts(reader: &Reader, node: &Node) -> Artifacts {
    let default = Artifacts::default();
    let Some(mut fields) = reader.fields(node, "`artifacts`") else { return default };
    let paths_node = fields.get("paths");
    let paths = paths_node.and_then(|node| reader.texts_of(node, "`paths`")).unwrap_or_default();
    let mut paths: Vec<_> = paths.into_iter().map(in_output).collect();
    // Everything there is taken in any case; below the work folder it would be something else.
    paths.retain(|path| !path.starts_with(OUTPUT_PREFIX));
    let max_node = fields.get("max");
    let max_bytes = max_node.and_then(|node| reader.size_of(node, "`max`")).unwrap_or(default.max_bytes);
    let publish = fields.get("publish").and_then(|node| reader.bool_of(node, "`publish`")).unwrap_or(false);
    fields.finish(reader);
    if let Some(node) = paths_node
        && let Some(path) = paths.iter().find(|path| !is_inner_path(path))
    {
        reader.error(
            &node.span,
            format!("`{path}` leaves the work folder; expected a relative glob without `..`"),
        );
    }
    if let Some(node) = max_node
        && max_bytes > ARTIFACTS_BYTES_MAX
    {
        reader.error(&node.span, "`max` must be at most 20G");
    }
    Artifacts { paths, max_bytes, publish }
}

fn read_retry(reader: &Reader, node: &Node) -> RetryPolicy {
    let default = RetryPolicy::default();
    let Some(mut fields) = reader.fields(node, "`retry`") else { return default };
    let on_node = fields.get("on");
    let on = on_node.and_then(|node| reader.texts_of(node, "`on`").map(|texts| (node, texts)));
    let on = on.map(|(node, texts)| {
        let known = [
            ("error", RetryOn::Error),
            ("lost", RetryOn::Lost),
            ("timeout", RetryOn::Timeout),
            ("oom", RetryOn::Oom),
        ];
        let read = |text: &String| {
            let found = known.iter().find(|(name, _)| name == text).map(|(_, on)| *on);
            if found.is_none() {
                reader.error_help(
                    &node.span,
                    format!("`{text}` is nothing to retry on; known are error, lost, timeout, oom"),
                    "a failed test is never retried: it failed",
                );
            }
            found
        };
        texts.iter().filter_map(read).collect()
    });
    let max = fields.get("max").and_then(|node| reader.int_of(node, "`max`", 0..i64::from(RETRIES_MAX) + 1));
    fields.finish(reader);
    let max = max.and_then(|max| u32::try_from(max).ok()).unwrap_or(default.max);
    RetryPolicy { on: on.unwrap_or(default.on), max }
}

/// Every `${…}` must name an input.
fn check_substitutions(reader: &Reader, root: &Node, file: &TaskFile) {
    for place in ["environment", "fetch", "artifacts", "name", "results"] {
        if let Some(node) = root.get(place) {
            check_node(reader, node, file, matches!(place, "artifacts" | "results"));
        }
    }
}

/// `in_output`: whether the output folder may be spoken of.
fn check_node(reader: &Reader, node: &Node, file: &TaskFile, in_output: bool) {
    match &node.value {
        Yaml::Text(text) => {
            for (name, span) in substitutions(text) {
                let is_output = in_output && span.start == 0 && text.starts_with(OUTPUT_BRACED);
                if !is_output && !file.inputs.contains_key(name) {
                    let known: Vec<_> = file.inputs.keys().map(String::as_str).collect();
                    let help = crate::diagnostic::nearest(name, known.iter().copied()).map_or_else(
                        || {
                            format!(
                                "declared inputs: {}",
                                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                            )
                        },
                        |near| format!("did you mean `${{{near}}}`?"),
                    );
                    reader.error_help(
                        &reader.inside(node, span),
                        format!("no input is named `{name}`"),
                        help,
                    );
                }
            }
        }
        Yaml::List(items) => items.iter().for_each(|item| check_node(reader, item, file, in_output)),
        Yaml::Map(entries) => {
            entries.iter().for_each(|(_, node)| check_node(reader, node, file, in_output));
        }
        _ => {}
    }
}
