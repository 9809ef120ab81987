//! Conditions of lists, put together from constants; values are always bound.

use super::{session::Dialect, value::Value};
use crate::{PAGE_MAX, Page};

/// The conditions and values of a list.
#[derive(Debug)]
pub(crate) struct Where {
    dialect: Dialect,
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Where {
    pub(crate) const fn new(dialect: Dialect) -> Self {
        Self { dialect, conditions: Vec::new(), values: Vec::new() }
    }

    /// Adds a condition without a value.
    pub(crate) fn plain(&mut self, condition: &str) {
        self.conditions.push(condition.to_owned());
    }

    /// Adds a condition in which `?` stands for the value.
    pub(crate) fn add(&mut self, condition: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        self.conditions.push(condition.replace('?', &format!("${}", self.values.len())));
    }

    /// Adds a condition when there is a value.
    pub(crate) fn maybe<T: Into<Value>>(&mut self, condition: &str, value: Option<T>) {
        if let Some(value) = value {
            self.add(condition, value);
        }
    }

    /// A text column whose index on PostgreSQL holds the start of long texts.
    pub(crate) fn long_text(&mut self, column: &str, value: Option<&String>) {
        let condition = match self.dialect {
            Dialect::Sqlite => format!("{column} = ?"),
            Dialect::Postgres => format!("left({column}, 256) = left(?, 256) and {column} = ?"),
        };
        self.maybe(&condition, value);
    }

    /// A column whose value is one of a list; an empty list asks for nothing.
    pub(crate) fn any_of(&mut self, column: &str, list: Vec<String>) {
        if list.is_empty() {
            return;
        }
        let condition = match self.dialect {
            Dialect::Sqlite => format!("{column} in (select value from json_each(?))"),
            Dialect::Postgres => format!("{column} = any(?)"),
        };
        self.add(&condition, Value::Texts(list));
    }

    /// Adds to the last condition another that may hold in its place; the brackets are theirs.
    pub(crate) fn or(&mut self, condition: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        let other = condition.replace('?', &format!("${}", self.values.len()));
        if let Some(last) = self.conditions.last_mut() {
            *last = format!("{last} or {other}");
        }
    }

    /// The clause, and the values that it binds.
    pub(crate) fn text(self) -> (String, Vec<Value>) {
        if self.conditions.is_empty() {
            return (String::new(), self.values);
        }
        (format!("where {}", self.conditions.join(" and ")), self.values)
    }

    /// The whole statement: one row more than the page holds, to know whether there is a next.
    pub(crate) fn statement(self, select: &str, order: &str, limit: u32) -> (String, Vec<Value>) {
        let (conditions, mut values) = self.text();
        values.push((i64::from(page_size(limit)) + 1).into());
        let n = values.len();
        (format!("{select} {conditions} order by {order} limit ${n}"), values)
    }
}

/// How many entries a page has.
fn page_size(limit: u32) -> u32 {
    limit.clamp(1, PAGE_MAX)
}

/// Cuts the row off that only says that there is a next page.
pub(crate) fn page<T>(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Page<T> {
    let size = page_size(limit) as usize;
    let more = items.len() > size;
    items.truncate(size);
    let next = if more { items.last().map(cursor) } else { None };
    Page { items, next }
}
