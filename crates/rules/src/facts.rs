//! Tables of facts beside the rules: which architectures are supported, what is critical path.

use model::{
    diagnostic::{Diagnostic, Report, Severity, nearest},
    yaml::{FILE_BYTES_MAX, Node, Reader, Value as Yaml, line_column},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, Error as _},
};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::Range,
    sync::Arc,
};

/// The largest file of a table in bytes; YAML has a smaller limit of its own.
pub const TABLE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most rows of a table.
pub const ROWS_MAX: usize = 100_000;
/// The longest key in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// The most columns of a CSV table.
pub const COLUMNS_MAX: usize = 64;

/// The tables of a rule set, by name.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    tables: BTreeMap<String, Table>,
}

/// One table.
#[derive(Debug, Clone)]
struct Table {
    rows: HashMap<String, Value>,
    /// A mere list of keys: what is not in it is `false`.
    is_set: bool,
}

/// Rows while a file is read.
struct Rows<'r> {
    table: Table,
    file: &'r str,
    text: &'r str,
    report: &'r mut Report,
    failed: bool,
}

impl Facts {
    /// Reads a table from a file's text. Its form goes by the file's ending:
    /// - `.yaml`, `.yml`, `.json`: a mapping from key to any value, or a list of keys;
    /// - `.csv`: a header, then rows whose first column is the key; a row's value is a mapping from the other
    ///   columns' names to their texts. With one column it is a list of keys.
    ///
    /// In a list of keys each has the value `true`. Mistakes are noted in the report, with their places; the
    /// table is then empty, so that its name is still known.
    pub fn add_table(&mut self, name: &str, file: &str, text: &str, report: &mut Report) {
        report.sources.insert(file.to_owned(), Arc::from(text));
        let table = Table { rows: HashMap::new(), is_set: false };
        let mut rows = Rows { table, file, text, report, failed: false };
        if text.len() > TABLE_BYTES_MAX {
            rows.error(
                0..0,
                format!("the file has {} bytes, at most {TABLE_BYTES_MAX} are read", text.len()),
                None,
            );
        } else {
            match file.rsplit_once('.').map(|(_, ending)| ending) {
                Some("csv") => rows.read_csv(),
                Some("json") => rows.read_json(),
                _ => rows.read_yaml(),
            }
        }
        let failed = rows.failed;
        let mut table = rows.table;
        if failed {
            table.rows.clear();
        }
        self.tables.insert(name.to_owned(), table);
    }

    /// A row; nothing when the table or the key is not there.
    #[must_use]
    pub fn lookup(&self, table: &str, key: &str) -> Option<&Value> {
        self.tables.get(table)?.rows.get(key)
    }

    /// What a missing key gives: `false` in a list of keys, null elsewhere. Nothing for an unknown table.
    #[must_use]
    pub fn missing(&self, table: &str) -> Option<Value> {
        Some(if self.tables.get(table)?.is_set { Value::Bool(false) } else { Value::Null })
    }

    /// Whether there is such a table.
    #[must_use]
    pub fn has(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }

    /// The tables' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    /// Which table may have been meant.
    pub(crate) fn advice(&self, table: &str) -> String {
        if self.tables.is_empty() {
            return "there are no tables: put YAML, CSV or JSON files into `facts/`".to_owned();
        }
        match nearest(table, self.names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there is {}", self.names().collect::<Vec<_>>().join(", ")),
        }
    }
}

impl Rows<'_> {
    fn error(&mut self, span: Range<usize>, message: String, help: Option<&str>) {
        self.failed = true;
        let (line, column) = line_column(self.text, span.start);
        self.report.push(Diagnostic {
            severity: Severity::Error,
            file: self.file.to_owned(),
            line,
            column,
            span,
            message,
            help: help.map(str::to_owned),
        });
    }

    /// Adds a row; false when there are too many.
    fn add(&mut self, key: &str, span: &Range<usize>, value: Value) -> bool {
        if key.is_empty() {
            self.error(span.clone(), "a key must not be empty".to_owned(), None);
        } else if key.len() > KEY_BYTES_MAX {
            self.error(span.clone(), format!("a key has at most {KEY_BYTES_MAX} bytes"), None);
        } else if self.table.rows.len() == ROWS_MAX {
            self.error(span.clone(), format!("a table has at most {ROWS_MAX} rows"), None);
            return false;
        } else if self.table.rows.insert(key.to_owned(), value).is_some() {
            self.error(
                span.clone(),
                format!("the key `{key}` stands here a second time"),
                Some("keep one of them"),
            );
        }
        true
    }

    fn read_yaml(&mut self) {
        if self.text.len() > FILE_BYTES_MAX {
            let message =
                format!("a YAML file of {} bytes, at most {FILE_BYTES_MAX} are read", self.text.len());
            return self.error(0..0, message, Some("a larger table is read from CSV or JSON"));
        }
        let reader = Reader::new(self.file, self.text);
        let root = reader.parse();
        let failed = reader.failed();
        self.report.merge(reader.into_report());
        self.failed |= failed;
        match root.map(|root| (root.value, root.span)) {
            Some((Yaml::Map(entries), _)) => {
                for (key, value) in &entries {
                    if !self.add(&key.text, &key.span, value.to_json()) {
                        return;
                    }
                }
            }
            Some((Yaml::List(items), _)) => {
                self.table.is_set = true;
                for item in &items {
                    if !self.add_item(item) {
                        return;
                    }
                }
            }
            Some((other, span)) => {
                let message = format!("a table is a mapping or a list of keys, this is {}", other.kind());
                self.error(span, message, None);
            }
            None => {}
        }
    }

    fn add_item(&mut self, item: &Node) -> bool {
        let Some(key) = item.as_text() else {
            let message = format!("a list of keys holds texts, this is {}", item.value.kind());
            self.error(item.span.clone(), message, Some("quote it, or make the table a mapping"));
            return true;
        };
        self.add(key, &item.span, Value::Bool(true))
    }

    fn read_json(&mut self) {
        let (file_end, text) = (self.text.len(), self.text);
        match serde_json::from_str::<Strict>(text) {
            Ok(Strict(Value::Object(entries))) => {
                for (key, value) in entries {
                    if !self.add(&key, &(0..0), value) {
                        return;
                    }
                }
            }
            Ok(Strict(Value::Array(items))) => {
                self.table.is_set = true;
                for item in items {
                    let Value::String(key) = item else {
                        let kind = model::event::json_kind(&item);
                        return self.error(
                            0..0,
                            format!("a list of keys holds texts, there is {kind}"),
                            None,
                        );
                    };
                    let span = self.again(&key);
                    if !self.add(&key, &span, Value::Bool(true)) {
                        return;
                    }
                }
            }
            Ok(Strict(other)) => {
                let kind = model::event::json_kind(&other);
                self.error(
                    0..file_end,
                    format!("a table is an object or a list of keys, this is {kind}"),
                    None,
                );
            }
            Err(error) => {
                let line_start: usize =
                    text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
                // serde_json counts bytes, and stands after what it has read.
                let at = (line_start + error.column().saturating_sub(1)).min(file_end);
                let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                let message = error.to_string();
                let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
                self.error(at..at, format!("bad JSON: {message}"), None);
            }
        }
    }

    /// The last place of a key that is there already: serde tells no places.
    fn again(&self, key: &str) -> Range<usize> {
        let quoted = Value::from(key).to_string();
        let known = self.table.rows.contains_key(key);
        let found = known.then(|| self.text.rfind(&quoted)).flatten();
        found.map_or(0..0, |at| at..at + quoted.len())
    }

    fn read_csv(&mut self) {
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(self.text);
        let offset = self.text.len() - text.len();
        let mut reader =
            csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
        let header: Vec<String> = match reader.headers() {
            Ok(header) => header.iter().map(str::to_owned).collect(),
            Err(error) => return self.error(0..0, format!("bad CSV: {error}"), None),
        };
        if header.iter().all(String::is_empty) {
            return self.error(0..0, "the first line must name the columns".to_owned(), None);
        }
        if !self.check_header(&header) {
            return;
        }
        self.table.is_set = header.len() == 1;
        for record in reader.records() {
            let record = match record {
                Ok(record) => record,
                Err(error) => return self.error(0..0, format!("bad CSV: {error}"), None),
            };
            let start = record.position().map_or(0, |at| usize::try_from(at.byte()).unwrap_or(0)) + offset;
            let start = start.min(self.text.len());
            let rest = &self.text[start..];
            let skipped = rest.len() - rest.trim_start_matches(['\r', '\n']).len();
            let line = rest[skipped..].lines().next().unwrap_or_default().len();
            let span = start + skipped..start + skipped + line;
            if record.len() != header.len() {
                let message = format!("the row has {} columns, the header {}", record.len(), header.len());
                self.error(span, message, Some("put values with commas into double quotes"));
                continue;
            }
            let mut fields = record.iter();
            let key = fields.next().unwrap_or_default();
            let value = if self.table.is_set {
                Value::Bool(true)
            } else {
                Value::Object(
                    header.iter().skip(1).cloned().zip(fields.map(Value::from)).collect::<Map<_, _>>(),
                )
            };
            if !self.add(key, &span, value) {
                return;
            }
        }
    }

    fn check_header(&mut self, header: &[String]) -> bool {
        let span = 0..self.text.lines().next().unwrap_or_default().len();
        if header.len() > COLUMNS_MAX {
            self.error(span, format!("a table has at most {COLUMNS_MAX} columns"), None);
            return false;
        }
        for (at, name) in header.iter().enumerate() {
            if name.is_empty() {
                self.error(span.clone(), format!("column {} has no name", at + 1), None);
            } else if header[..at].contains(name) {
                self.error(span.clone(), format!("two columns are named `{name}`"), None);
            }
        }
        !self.failed
    }
}

/// JSON whose objects have each key once.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        StrictSeed.deserialize(deserializer).map(Self)
    }
}

struct StrictSeed;

impl<'de> DeserializeSeed<'de> for StrictSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for StrictSeed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Self)?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` stands here a second time")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests;
