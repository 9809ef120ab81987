//! What a transaction writes without an answer waits for its end, or for a statement that names its table: it goes to
//! PostgreSQL in one statement then. Each statement costs as much as a row does.

use super::{
    session::{Bulk, columns_of},
    value::Value,
};

/// Writes that wait.
#[derive(Debug, Default)]
pub(crate) struct Later(Vec<Write>);

#[derive(Debug)]
struct Write {
    bulk: &'static Bulk,
    verb: Verb,
    rows: Vec<Vec<Value>>,
}

/// What is done with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Each has a value for every column.
    Insert,
    /// Each is found by its first value.
    Update,
}

impl Later {
    /// Takes rows, which are not none, behind those that wait; gives them back when they must not be in one statement with those.
    pub(crate) fn add(
        &mut self,
        bulk: &'static Bulk,
        verb: Verb,
        rows: Vec<Vec<Value>>,
    ) -> Result<(), Vec<Vec<Value>>> {
        match self.0.iter_mut().find(|write| write.bulk.table == bulk.table) {
            None => self.0.push(Write { bulk, verb, rows }),
            Some(write) if verb == Verb::Insert && std::ptr::eq(write.bulk, bulk) && write.verb == verb => {
                write.rows.extend(rows);
            }
            // The parts of one statement do not see what the others write.
            Some(_) => return Err(rows),
        }
        Ok(())
    }

    /// Whether a statement with this text has to come after them.
    pub(crate) fn concern(&self, text: &str) -> bool {
        self.0.iter().any(|write| names(text, write.bulk.table))
    }

    /// All that waits, as one statement of PostgreSQL; none when nothing does.
    pub(crate) fn take(&mut self) -> Option<(String, Vec<Value>)> {
        let mut writes = std::mem::take(&mut self.0);
        let last = writes.pop()?;
        let mut values = Vec::new();
        let mut text = String::new();
        for (n, write) in writes.into_iter().enumerate() {
            text.push_str(if n == 0 { "with " } else { ", " });
            text.push_str(&format!("w{n} as ({})", write.text(values.len() + 1)));
            values.extend(columns_of(write.bulk, write.rows));
        }
        if !values.is_empty() {
            text.push(' ');
        }
        text.push_str(&last.text(values.len() + 1));
        values.extend(columns_of(last.bulk, last.rows));
        Some((text, values))
    }
}

impl Write {
    fn text(&self, first: usize) -> String {
        match self.verb {
            Verb::Insert => self.bulk.postgres(first),
            Verb::Update => self.bulk.postgres_update(first),
        }
    }
}

/// Whether a text has this name in it as a word.
fn names(text: &str, name: &str) -> bool {
    let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let bytes = text.as_bytes();
    text.match_indices(name).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        !is_part(before) && !is_part(bytes.get(at + name.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{session::Kind, value::values};

    const ONE: Bulk = Bulk {
        table: "one",
        columns: &[("id", Kind::Int), ("text", Kind::Text)],
        tail: "on conflict do nothing",
    };
    const TWO: Bulk = Bulk { table: "two", columns: &[("id", Kind::Int), ("at", Kind::Time)], tail: "" };
    const OTHER_TWO: Bulk = Bulk { table: "two", columns: &[("id", Kind::Int)], tail: "" };

    #[test]
    fn what_waits_is_one_statement() {
        let (one, two) = (&ONE, &TWO);
        let mut later = Later::default();
        assert!(later.take().is_none());
        later.add(one, Verb::Insert, vec![values![1_i64, "a"]]).unwrap();
        later.add(two, Verb::Update, vec![values![1_i64, None::<&str>]]).unwrap();
        later.add(one, Verb::Insert, vec![values![2_i64, "b"]]).unwrap();
        assert!(later.add(two, Verb::Update, vec![values![1_i64, None::<&str>]]).is_err(), "one row twice");
        assert!(later.add(&OTHER_TWO, Verb::Insert, vec![values![1_i64]]).is_err(), "one table twice");
        let (text, values) = later.take().unwrap();
        assert_eq!(
            text,
            "with w0 as (insert into one (id, text) select * from unnest($1::bigint[], $2::text[]) on conflict do nothing) \
             update two t set at = u.at from unnest($3::bigint[], $4::timestamptz[]) as u (id, at) where t.id = u.id"
        );
        assert_eq!(values.len(), 4);
        assert!(later.take().is_none());
        later.add(one, Verb::Insert, vec![values![1_i64, "a"]]).unwrap();
        let (text, _) = later.take().unwrap();
        assert_eq!(
            text,
            "insert into one (id, text) select * from unnest($1::bigint[], $2::text[]) on conflict do nothing"
        );
    }

    #[test]
    fn a_statement_that_names_a_table_comes_after_it() {
        let check = |text: &str, expect: bool| assert_eq!(names(text, "task"), expect, "{text}");
        check("select * from task where id = $1", true);
        check("select * from task", true);
        check("task", true);
        check("update batch set tasks = tasks + $2", false);
        check("select task_id from result join sub_task s", false);
        check("select task_id from result join task t", true);
        check("insert into task(id)", true);
    }
}
