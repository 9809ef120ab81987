//! Configurations of other systems, said in ours: what is known becomes a setting, what needs no setting here is said to,
//! and what is not known is told and not lost.
//!
//! Secrets are never printed: each goes into a file of its own, which ours names.

mod alts;
mod testflinger;

pub(crate) use alts::alts;
pub(crate) use testflinger::testflinger;

use std::fmt::Write as _;

/// The longest configuration that is read, in bytes.
pub(crate) const IMPORT_BYTES_MAX: u64 = 1024 * 1024;

/// A configuration in our form.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Imported {
    /// What is set: lines of YAML.
    lines: Vec<String>,
    /// What needs nothing here, or something else than a setting.
    notes: Vec<String>,
    /// What is not known: it is told as a warning, too.
    pub(crate) unknown: Vec<String>,
    /// Files with secrets, with what they hold.
    pub(crate) secrets: Vec<(&'static str, String)>,
}

impl Imported {
    /// Sets something.
    fn set(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// Says something about an entry.
    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Tells of an entry that is not known. What its name says to be secret is not shown.
    fn not_known(&mut self, name: &str, value: &str) {
        let secret = ["pass", "secret", "key", "token", "auth", "connection"];
        let small = name.to_lowercase();
        let hidden = secret.iter().any(|word| small.contains(word)) && !value.is_empty();
        let value = if hidden { "***" } else { value };
        let line: String = format!("{name}: {value}").chars().filter(|c| !c.is_control()).collect();
        self.unknown.push(line.trim_end().to_owned());
    }

    /// Keeps a secret for a file of its own.
    fn secret(&mut self, file: &'static str, text: String) {
        self.secrets.push((file, text));
    }

    /// The file, with what is to be said as comments.
    pub(crate) fn yaml(&self, from: &str) -> String {
        let mut text = format!("# From {from}.\n");
        for (file, _) in &self.secrets {
            let _ = writeln!(
                text,
                "# {file}: a secret of its own; beside this file, readable by the server only"
            );
        }
        for line in &self.lines {
            let _ = writeln!(text, "{line}");
        }
        for (title, all) in [
            ("Taken over in another way, or not needed:", &self.notes),
            ("Not known, and not taken over:", &self.unknown),
        ] {
            if !all.is_empty() {
                let _ = writeln!(text, "#\n# {title}");
            }
            for one in all {
                let _ = writeln!(text, "# - {one}");
            }
        }
        text
    }
}

/// A text as YAML has it, whatever is in it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
