//! Reading `vm`: which machine, and how it comes up.

use super::{
    LIST_MAX, is_inner_path,
    read::read_sizes,
    vm::{
        Answers, CONSOLE_STEPS_MAX, CONSOLE_TEXT_BYTES_MAX, ConsoleStep, Firmware, VM_INSTALL_DEFAULT,
        VM_INSTALL_IDLE_DEFAULT, VmInstall, VmLogin, VmNetwork, VmWish,
    },
};
use crate::{
    task_file::PHASE_TIMEOUT_MAX,
    yaml::{Fields, Node, Reader, Value as Yaml},
};
use std::{collections::BTreeMap, time::Duration};

/// Reads `vm: {…}`.
pub(super) fn read_vm(reader: &Reader, node: &Node) -> Option<VmWish> {
    let mut fields = reader.fields(node, "`vm`")?;
    let image_node = fields.get("image");
    let (image, image_file) = image_node.map(|node| read_image(reader, node)).unwrap_or_default();
    let kernel_node = fields.get("kernel");
    let kernel = kernel_node.and_then(|node| path_of(reader, node, "`kernel`"));
    let initrd_node = fields.get("initrd");
    let initrd = initrd_node.map(|node| paths_of(reader, node, "`initrd`")).unwrap_or_default();
    let append_node = fields.get("append");
    let append = append_node.and_then(|node| line_of(reader, node, "`append`"));
    let install_node = fields.get("install");
    let install = install_node.and_then(|node| read_install(reader, node));
    let login_node = fields.get("login");
    let login = login_node.and_then(|node| read_login(reader, node));
    let console = fields.get("console").map(|node| read_console(reader, node)).unwrap_or_default();
    let arch = fields.get("arch").and_then(|node| reader.name_of(node, "`arch`"));
    let firmware_node = fields.get("firmware");
    let firmware = firmware_node.and_then(|node| read_firmware(reader, node)).unwrap_or_default();
    let boot = limit_of(reader, &mut fields, "boot");
    let network = fields.get("network").and_then(|node| read_network(reader, node)).unwrap_or_default();
    let sizes = read_sizes(reader, &mut fields);
    fields.finish(reader);
    let sources: Vec<_> = [image_node, kernel_node, install_node].into_iter().flatten().collect();
    match sources.as_slice() {
        [] => reader.error_help(
            &node.span,
            "`vm` says nothing to boot",
            "name `image` (a cloud image), `kernel` with `initrd`, or `install` (an installation from `iso`)",
        ),
        [_] => {}
        [.., last] => reader.error(&last.span, "a machine has one of `image`, `kernel` and `install`"),
    }
    for (name, node) in [("initrd", initrd_node), ("append", append_node)] {
        if let (None, Some(node)) = (kernel_node, node) {
            reader.error(&node.span, format!("`{name}` goes with `kernel`"));
        }
    }
    if let (Some(VmLogin::None), Some(node), true) = (&login, login_node, console.is_empty()) {
        reader.error_help(
            &node.span,
            "nothing says how the machine is known to be well",
            "with `login: none` name in `console` what must come: [{until: \"login:\", idle: 5m}]",
        );
    }
    let login_node = login_node.filter(|_| login != Some(VmLogin::None));
    for (name, node) in [("login", login_node), ("firmware", firmware_node)] {
        if let (Some(_), Some(node)) = (kernel_node, node) {
            reader.error(
                &node.span,
                format!("`{name}` is for machines that boot from a disk, not for `kernel`"),
            );
        }
    }
    Some(VmWish {
        image,
        image_file,
        kernel,
        initrd,
        append,
        install,
        login,
        console,
        arch,
        firmware,
        boot,
        network,
        sizes,
    })
}

/// A name, or `{file: …}`.
fn read_image(reader: &Reader, node: &Node) -> (Option<String>, Option<String>) {
    if !matches!(node.value, Yaml::Map(_)) {
        return (reader.name_of(node, "`image`"), None);
    }
    let Some(mut fields) = reader.fields(node, "`image`") else { return (None, None) };
    let file = fields.require(reader, "file").and_then(|node| path_of(reader, node, "`file`"));
    fields.finish(reader);
    (None, file)
}

fn read_install(reader: &Reader, node: &Node) -> Option<VmInstall> {
    let mut fields = reader.fields(node, "`install`")?;
    let iso = fields.get("iso").and_then(|node| path_of(reader, node, "`iso`"));
    let kernel = fields.get("kernel").and_then(|node| path_of(reader, node, "`kernel`"));
    let initrd = fields.get("initrd").map(|node| paths_of(reader, node, "`initrd`")).unwrap_or_default();
    let append = fields.get("append").and_then(|node| line_of(reader, node, "`append`"));
    let answers = fields.get("answers").and_then(|node| read_answers(reader, node));
    let console = fields.get("console").map(|node| read_console(reader, node)).unwrap_or_default();
    let until = fields.get("until").and_then(|node| console_text(reader, node, "`until`"));
    let idle = limit_of(reader, &mut fields, "idle").unwrap_or(VM_INSTALL_IDLE_DEFAULT);
    let timeout = limit_of(reader, &mut fields, "timeout").unwrap_or(VM_INSTALL_DEFAULT);
    fields.finish(reader);
    if iso.is_none() && kernel.is_none() {
        reader.error(&node.span, "`install` needs `iso`, the medium, or a `kernel` that installs");
    }
    if kernel.is_none() && (append.is_some() || !initrd.is_empty()) {
        reader.error(&node.span, "`initrd` and `append` go with `kernel`");
    }
    Some(VmInstall { iso, kernel, initrd, append, answers, console, until, idle, timeout })
}

fn read_answers(reader: &Reader, node: &Node) -> Option<Answers> {
    let mut fields = reader.fields(node, "`answers`")?;
    let label_node = fields.require(reader, "label");
    let label = label_node.and_then(|node| reader.name_of(node, "`label`"));
    let files_node = fields.require(reader, "files");
    fields.finish(reader);
    if let (Some(node), Some(label)) = (label_node, &label)
        && (label.len() > 32 || !label.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)))
    {
        reader.error(&node.span, "`label` has at most 32 letters, digits, `_` and `-`");
    }
    let Yaml::Map(entries) = &files_node?.value else {
        reader.error(
            &files_node?.span,
            "`files` must be a mapping from names on the medium to files of the task",
        );
        return None;
    };
    let mut files = BTreeMap::new();
    for (key, node) in entries {
        let fit = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if key.text.is_empty() || key.text.len() > 30 || !key.text.bytes().all(fit) {
            reader.error(
                &key.span,
                format!(
                    "`{}` cannot be a name on the medium: at most 30 letters, digits, `.`, `_`, `-`",
                    key.text
                ),
            );
        }
        files.insert(key.text.clone(), path_of(reader, node, "a file")?);
    }
    Some(Answers { label: label?, files })
}

fn read_login(reader: &Reader, node: &Node) -> Option<VmLogin> {
    if let Yaml::Text(text) = &node.value {
        match text.as_str() {
            "cloud-init" => return Some(VmLogin::CloudInit),
            "none" => return Some(VmLogin::None),
            _ => {}
        }
        reader.error(
            &node.span,
            format!("`login` is `cloud-init`, `none` or `{{user: …, password: …}}`, not `{text}`"),
        );
        return None;
    }
    let mut fields = reader.fields(node, "`login`")?;
    let user = fields.require(reader, "user").and_then(|node| line_of(reader, node, "`user`"));
    let password = fields.get("password").and_then(|node| line_of(reader, node, "`password`"));
    fields.finish(reader);
    Some(VmLogin::Console { user: user?, password })
}

fn read_console(reader: &Reader, node: &Node) -> Vec<ConsoleStep> {
    let Some(items) = reader.list_of(node, "`console`") else { return Vec::new() };
    if items.len() > CONSOLE_STEPS_MAX {
        reader.error(&node.span, format!("`console` has at most {CONSOLE_STEPS_MAX} steps"));
    }
    items.iter().filter_map(|item| read_step(reader, item)).collect()
}

fn read_step(reader: &Reader, node: &Node) -> Option<ConsoleStep> {
    let mut fields = reader.fields(node, "a step of `console`")?;
    let until = fields.require(reader, "until").and_then(|node| console_text(reader, node, "`until`"));
    let send = fields.get("send").and_then(|node| reader.text_of(node, "`send`"));
    let shot_node = fields.get("screenshot");
    let screenshot = shot_node.and_then(|node| reader.name_of(node, "`screenshot`"));
    let idle = limit_of(reader, &mut fields, "idle");
    fields.finish(reader);
    if let (Some(node), Some(name)) = (shot_node, &screenshot)
        && (name.len() > 64 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)))
    {
        reader.error(&node.span, "`screenshot` is a name of at most 64 letters, digits, `_` and `-`");
    }
    Some(ConsoleStep { until: until?, send, screenshot, idle })
}

fn read_firmware(reader: &Reader, node: &Node) -> Option<Firmware> {
    match reader.text_of(node, "`firmware`")?.as_str() {
        "bios" => Some(Firmware::Bios),
        "uefi" => Some(Firmware::Uefi),
        other => {
            reader.error(&node.span, format!("`firmware` is bios or uefi, not `{other}`"));
            None
        }
    }
}

fn read_network(reader: &Reader, node: &Node) -> Option<VmNetwork> {
    if let Yaml::Bool(all) = node.value {
        return Some(if all { VmNetwork::All } else { VmNetwork::None });
    }
    let only = reader.texts_of(node, "`network`")?;
    for endpoint in &only {
        let fit = |b: u8| b.is_ascii_alphanumeric() || b".-".contains(&b);
        let good = endpoint.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && host.bytes().all(fit) && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !good && !endpoint.contains("${") {
            reader.error(&node.span, format!("`{endpoint}` is no HOST:PORT, such as deb.example.org:80"));
        }
    }
    Some(VmNetwork::Only(only))
}

fn limit_of(reader: &Reader, fields: &mut Fields<'_>, name: &'static str) -> Option<Duration> {
    let node = fields.get(name)?;
    let limit = reader.duration_of(node, name)?;
    if limit.is_zero() || limit > PHASE_TIMEOUT_MAX {
        reader.error(&node.span, format!("`{name}` must be more than nothing and at most 24h"));
    }
    Some(limit)
}

fn path_of(reader: &Reader, node: &Node, what: &str) -> Option<String> {
    let path = reader.name_of(node, what)?;
    if !is_inner_path(&path) {
        let message = format!("`{path}` leaves the work folder; expected a relative path without `..`");
        reader.error(&node.span, message);
    }
    Some(path)
}

fn paths_of(reader: &Reader, node: &Node, what: &str) -> Vec<String> {
    let paths = reader.texts_of(node, what).unwrap_or_default();
    if paths.len() > LIST_MAX {
        reader.error(&node.span, format!("{what} has at most {LIST_MAX} entries"));
    }
    if let Some(path) = paths.iter().find(|path| !is_inner_path(path)) {
        let message = format!("`{path}` leaves the work folder; expected a relative path without `..`");
        reader.error(&node.span, message);
    }
    paths
}

fn line_of(reader: &Reader, node: &Node, what: &str) -> Option<String> {
    let text = reader.text_of(node, what)?;
    if text.chars().any(char::is_control) {
        reader.error(&node.span, format!("{what} must be one line without control characters"));
    }
    Some(text)
}

fn console_text(reader: &Reader, node: &Node, what: &str) -> Option<String> {
    let text = reader.text_of(node, what)?;
    if text.is_empty() || text.len() > CONSOLE_TEXT_BYTES_MAX {
        reader.error(&node.span, format!("{what} must have 1 to {CONSOLE_TEXT_BYTES_MAX} bytes"));
    }
    Some(text)
}
