//! What a database's error means to a caller.

use crate::StoreError;
use sqlx::migrate::MigrateError;

/// An error with whether the same transaction may go through when it is tried again at once.
pub(crate) struct Classified {
    pub(crate) error: StoreError,
    pub(crate) again: bool,
}

/// Classifies an error by its code: SQLSTATE, or SQLite's extended result code.
pub(crate) fn classify(error: &sqlx::Error) -> Classified {
    let text = error.to_string();
    let mut again = false;
    let error = match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => StoreError::Unavailable(text),
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default().into_owned();
            if database.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
                by_sqlite_code(code.parse().unwrap_or(0), text)
            } else {
                again = matches!(code.as_str(), "40001" | "40P01");
                by_sqlstate(&code, text)
            }
        }
        sqlx::Error::Encode(_) => StoreError::Poison(text),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            StoreError::Inconsistent { table: "(row)", message: text }
        }
        _ => StoreError::Database(text),
    };
    Classified { error, again }
}

/// <https://www.sqlite.org/rescode.html>: the low byte is the primary code.
fn by_sqlite_code(code: i32, text: String) -> StoreError {
    const UNIQUE: i32 = 2067;
    const PRIMARY_KEY: i32 = 1555;
    match (code, code & 0xff) {
        (UNIQUE | PRIMARY_KEY, _) => StoreError::Conflict(text),
        (_, 13) => StoreError::Full(text),
        // busy, locked, read-only, I/O error, cannot open
        (_, 5 | 6 | 8 | 10 | 14) => StoreError::Unavailable(text),
        // too big, constraint, mismatch
        (_, 18..=20) => StoreError::Poison(text),
        _ => StoreError::Database(text),
    }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn by_sqlstate(code: &str, text: String) -> StoreError {
    match code {
        "53100" => StoreError::Full(text),
        "23505" => StoreError::Conflict(text),
        // statement or lock time-out, read-only (a standby after a fail-over)
        "57014" | "55P03" | "25006" => StoreError::Unavailable(text),
        _ => match code.get(..2) {
            // connection, resources, operator's intervention, rolled back, system
            Some("08" | "53" | "57" | "40" | "58") => StoreError::Unavailable(text),
            // data, constraint, program limit (an index entry that is too long)
            Some("22" | "23" | "54") => StoreError::Poison(text),
            _ => StoreError::Database(text),
        },
    }
}

/// What a failed migration means.
pub(crate) fn of_migration(error: MigrateError, newest: i64) -> StoreError {
    match error {
        MigrateError::VersionMissing(version) if version > newest => StoreError::Schema(format!(
            "it is at version {version}, this program knows versions up to {newest}: run the newer program"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            let classified = classify(&error).error;
            if classified.is_transient() { classified } else { StoreError::Schema(error.to_string()) }
        }
        other => StoreError::Schema(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_what_they_mean() {
        let name = |error: StoreError| match error {
            StoreError::Unavailable(_) => "unavailable",
            StoreError::Full(_) => "full",
            StoreError::Poison(_) => "poison",
            StoreError::Conflict(_) => "conflict",
            _ => "database",
        };
        for (code, expect) in [
            ("08006", "unavailable"),
            ("57P01", "unavailable"),
            ("40001", "unavailable"),
            ("53300", "unavailable"),
            ("53100", "full"),
            ("22P05", "poison"),
            ("22021", "poison"),
            ("54000", "poison"),
            ("23505", "conflict"),
            ("42601", "database"),
            ("", "database"),
        ] {
            assert_eq!(name(by_sqlstate(code, String::new())), expect, "{code}");
        }
        for (code, expect) in
            [(5, "unavailable"), (13, "full"), (2067, "conflict"), (778, "unavailable"), (1, "database")]
        {
            assert_eq!(name(by_sqlite_code(code, String::new())), expect, "{code}");
        }
    }
}
