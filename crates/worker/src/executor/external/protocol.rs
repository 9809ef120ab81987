//! The messages, one JSON object a line: requests go to the program, lines come back.

use base64::Engine as _;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

/// The version of the protocol that we speak.
pub(super) const PROTOCOL: u32 = 1;
/// The longest line that a program may say, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;
/// How many notes a program may make on itself and on an environment.
pub(super) const NOTES_MAX: usize = 16;
/// The longest text in an answer (a name, a note, a message), in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 4096;
/// How much of a bad line is quoted, in characters.
const QUOTED_CHARS: usize = 200;

/// What a program is asked to do.
#[derive(Debug, Serialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(super) enum Request<'a> {
    /// What are you?
    Capabilities { protocol: u32 },
    /// Make an environment.
    Provision {
        label: &'a str,
        worker: &'a str,
        task: String,
        attempt: u32,
        trusted: bool,
        with: &'a Map<String, Value>,
        memory_bytes: u64,
        cpus: u32,
        disk_bytes: u64,
        processes: u32,
        limit_s: u64,
        deadline: DateTime<Utc>,
    },
    /// Unpack a tar archive in the work folder.
    CopyIn { archive: &'a Path },
    /// Run a command.
    Exec { profile: &'static str, argv: &'a [String], env: &'a BTreeMap<String, String>, limit_s: u64 },
    /// End a command with all its processes.
    Stop { of: u64 },
    /// Pack files and folders of the work folder into a tar archive.
    CopyOut { archive: &'a Path, paths: &'a [&'a str], bytes_max: u64 },
    /// Start the environment anew, with its files.
    Reboot { limit_s: u64 },
    /// Let a person get in.
    Hold { limit_s: u64 },
    /// Remove the environment.
    Destroy,
    /// Remove the environments of a worker's dead attempts.
    Sweep { worker: &'a str, alive: &'a [String] },
    /// Nothing that anybody knows: the conformance test asks it.
    #[serde(rename = "taskbot-unknown-request")]
    Unknown,
}

impl Request<'_> {
    /// What it asks, for messages.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Capabilities { .. } => "capabilities",
            Self::Provision { .. } => "provision",
            Self::CopyIn { .. } => "copy_in",
            Self::Exec { .. } => "exec",
            Self::Stop { .. } => "stop",
            Self::CopyOut { .. } => "copy_out",
            Self::Reboot { .. } => "reboot",
            Self::Hold { .. } => "hold",
            Self::Destroy => "destroy",
            Self::Sweep { .. } => "sweep",
            Self::Unknown => "an unknown request",
        }
    }

    /// The line, with its end.
    pub(super) fn line(&self, id: u64) -> serde_json::Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Numbered<'a> {
            id: u64,
            #[serde(flatten)]
            request: &'a Request<'a>,
        }
        let mut line = serde_json::to_vec(&Numbered { id, request: self })?;
        line.push(b'\n');
        Ok(line)
    }
}

/// What a program says.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// The request was carried out.
    Ok(Map<String, Value>),
    /// It was not.
    Error(Refusal),
    /// A line for the log.
    Log(String),
    /// Bytes that a command wrote.
    Output(Vec<u8>),
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refusal {
    pub(super) kind: RefusalKind,
    pub(super) message: String,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RefusalKind {
    /// It cannot be had here.
    Unavailable,
    /// The program or what it uses let us down.
    Infra,
    /// The task asks for nonsense.
    BadTask,
}

/// Reads a line: the number of the request that it belongs to, and what it says.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(line: &[u8]) -> Result<(u64, Said), String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        id: u64,
        ok: Option<Map<String, Value>>,
        error: Option<Refusal>,
        log: Option<String>,
        output: Option<String>,
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let said = match (line.ok, line.error, line.log, line.output) {
        (Some(answer), None, None, None) => Said::Ok(answer),
        (None, Some(mut refusal), None, None) => {
            refusal.message = short(&refusal.message);
            Said::Error(refusal)
        }
        (None, None, Some(text), None) => Said::Log(text),
        (None, None, None, Some(output)) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(output);
            Said::Output(bytes.map_err(|error| format!("`output` is not base64: {error}"))?)
        }
        _ => return Err("a line has one of `ok`, `error`, `log` and `output`".to_owned()),
    };
    Ok((line.id, said))
}

/// What a program is and can.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Capabilities {
    pub(super) protocol: u32,
    pub(super) name: String,
    pub(super) version: String,
    #[serde(default)]
    pub(super) reboot: bool,
    #[serde(default)]
    pub(super) sweep: bool,
    #[serde(default)]
    pub(super) hold: bool,
    #[serde(default)]
    pub(super) notes: Vec<String>,
}

/// An environment that a program made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Made {
    /// The work folder's path, as commands see it.
    pub(super) work_dir: String,
    /// The home folder of commands.
    #[serde(default = "tmp")]
    pub(super) home: String,
    pub(super) arch: Option<String>,
    pub(super) image: Option<String>,
    pub(super) image_digest: Option<String>,
    #[serde(default)]
    pub(super) notes: Vec<String>,
}

/// How a person gets into an environment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Held {
    enter: Vec<String>,
}

impl Held {
    /// The lines that say how.
    pub(super) fn enter(answer: Map<String, Value>) -> Result<Vec<String>, String> {
        let held: Self = parse(answer)?;
        match held.enter.is_empty() {
            true => Err("`enter` says nothing".to_owned()),
            false => Ok(notes(&held.enter)),
        }
    }
}

fn tmp() -> String {
    "/tmp".to_owned()
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum CommandEnd {
    /// With this code.
    Code(u8),
    /// By this signal.
    Signal(u8),
    /// By what happened to its environment.
    Ended(Fate),
}

/// What happens to environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    /// Memory ran out.
    Oom,
    /// Disk space ran out.
    Disk,
    /// It is gone.
    Gone,
}

impl Capabilities {
    pub(super) fn of(answer: Map<String, Value>) -> Result<Self, String> {
        let mut found: Self = parse(answer)?;
        if found.protocol != PROTOCOL {
            return Err(format!("it speaks protocol {}, this worker speaks {PROTOCOL}", found.protocol));
        }
        found.name = short(&found.name);
        found.version = short(&found.version);
        found.notes = notes(&found.notes);
        Ok(found)
    }
}

impl Made {
    pub(super) fn of(answer: Map<String, Value>) -> Result<Self, String> {
        let mut made: Self = parse(answer)?;
        for (what, path) in [("work_dir", &made.work_dir), ("home", &made.home)] {
            let plain = Path::new(path).components().all(|part| !matches!(part, Component::ParentDir));
            let fits = path.starts_with('/') && path.len() <= TEXT_BYTES_MAX && plain;
            if !fits || path.chars().any(char::is_control) {
                return Err(format!("`{what}` must be an absolute path without `..`, it is {path:?}"));
            }
        }
        for text in [&mut made.arch, &mut made.image, &mut made.image_digest].into_iter().flatten() {
            *text = short(text);
        }
        made.notes = notes(&made.notes);
        Ok(made)
    }
}

/// An answer's fields; those that are not known are left alone.
pub(super) fn parse<T: serde::de::DeserializeOwned>(answer: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(answer)).map_err(|error| error.to_string())
}

fn notes(notes: &[String]) -> Vec<String> {
    notes.iter().take(NOTES_MAX).map(|note| short(note)).collect()
}

/// A text in one line and of a fit length.
fn short(text: &str) -> String {
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
    text
}

/// A line as it is shown in messages.
pub(super) fn quoted(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(QUOTED_CHARS * 4)]);
    let mut shown: String = text.trim_end().chars().take(QUOTED_CHARS).collect();
    if shown.len() < line.trim_ascii_end().len() {
        shown.push('…');
    }
    format!("`{}`", shown.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_that_are_read_and_that_are_not() {
        let check = |line: &str, expect: Result<(u64, Said), &str>| match (read(line.as_bytes()), expect) {
            (Ok(got), Ok(expect)) => assert_eq!(got, expect, "{line}"),
            (Err(got), Err(part)) => assert!(got.contains(part), "{line}: {got}"),
            (got, _) => panic!("{line}: {got:?}"),
        };
        check(r#"{"id": 3, "ok": {}}"#, Ok((3, Said::Ok(Map::new()))));
        check(r#"{"id": 3, "log": "hello"}"#, Ok((3, Said::Log("hello".into()))));
        check(r#"{"id": 3, "output": "aGkK"}"#, Ok((3, Said::Output(b"hi\n".to_vec()))));
        let refusal = Refusal { kind: RefusalKind::BadTask, message: "no such image".into() };
        check(
            r#"{"id": 3, "error": {"kind": "bad_task", "message": "no such image"}}"#,
            Ok((3, Said::Error(refusal))),
        );
        check(r#"{"id": 3}"#, Err("one of"));
        check(r#"{"id": 3, "ok": {}, "log": "x"}"#, Err("one of"));
        check(r#"{"id": 3, "ok": 1}"#, Err("invalid type"));
        check(r#"{"id": -1, "ok": {}}"#, Err("invalid value"));
        check(r#"{"ok": {}}"#, Err("missing field `id`"));
        check(r#"{"id": 3, "output": "§"}"#, Err("not base64"));
        check(r#"{"id": 3, "error": {"kind": "mine", "message": ""}}"#, Err("unknown variant `mine`"));
        check(r#"{"id": 3, "yes": {}}"#, Err("unknown field `yes`"));
        check("Starting up...", Err("expected value"));
        check(&"[".repeat(10_000), Err("invalid type"));
    }

    #[test]
    fn answers_are_checked() {
        let fields = |value: Value| value.as_object().cloned().unwrap();
        let check = |value: Value, expect: &str| {
            let error = Made::of(fields(value)).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        check(json!({}), "missing field `work_dir`");
        check(json!({"work_dir": "task"}), "an absolute path");
        check(json!({"work_dir": "/task/../etc"}), "an absolute path");
        check(json!({"work_dir": "/task\n"}), "an absolute path");
        check(json!({"work_dir": "/task", "home": ""}), "`home` must be");
        let made =
            Made::of(fields(json!({"work_dir": "/w", "notes": vec!["a\nb"; 100], "more": 1}))).unwrap();
        assert_eq!(
            (made.notes.len(), made.notes[0].as_str(), made.home.as_str()),
            (NOTES_MAX, "a b", "/tmp")
        );
        let enter = |value: Value| Held::enter(fields(value));
        assert_eq!(enter(json!({"enter": ["ssh\nx"], "more": 1})).unwrap(), ["ssh x"]);
        for bad in [json!({}), json!({"enter": []}), json!({"enter": "ssh x"})] {
            enter(bad.clone()).expect_err(&bad.to_string());
        }
        let old = json!({"protocol": 9, "name": "x", "version": "1"});
        assert!(Capabilities::of(fields(old)).unwrap_err().contains("speaks protocol 9"));
        let end = |value: Value| parse::<CommandEnd>(fields(value));
        assert_eq!(end(json!({"code": 7})).unwrap(), CommandEnd::Code(7));
        assert_eq!(end(json!({"ended": "oom"})).unwrap(), CommandEnd::Ended(Fate::Oom));
        for bad in
            [json!({"code": 300}), json!({}), json!({"code": 0, "signal": 9}), json!({"ended": "well"})]
        {
            end(bad.clone()).expect_err(&bad.to_string());
        }
    }

    #[test]
    fn long_lines_are_quoted_in_part() {
        assert_eq!(quoted(b"a\tb\n"), "`a\\tb`");
        assert_eq!(quoted(&[b'x'; 10_000]).chars().count(), QUOTED_CHARS + 3);
        assert_eq!(short(&"é".repeat(4000)).chars().count(), TEXT_BYTES_MAX / 2 + 1);
    }
}
