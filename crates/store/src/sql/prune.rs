//! Retention: what is older than it is kept goes, oldest first, a limited number at a time.

use super::{
    session::{Dialect, Session},
    tasks::milliseconds,
    value::{Value, values},
};
use crate::{Pruned, Result, Retention};
use chrono::{DateTime, Utc};
use std::time::Duration;

/// A kind of rows that grow old.
struct Kind {
    name: &'static str,
    table: &'static str,
    /// Its key.
    key: &'static str,
    /// Which rows are old, `$1` being the time before which.
    old: &'static str,
    /// What to set instead of removing the row.
    clear: Option<&'static str>,
    /// Rows of other tables that go with them: table and column.
    with: &'static [(&'static str, &'static str)],
}

const BODIES: Kind = Kind {
    name: "bodies",
    table: "event",
    key: "seq",
    old: "payload is not null and hold_until is null and received_at < $1 \
        and seq not in (select event_seq from held_event) and seq not in (select event_seq from collect_event)",
    clear: Some("payload = null"),
    with: &[],
};
const EVENTS: Kind = Kind {
    name: "events",
    table: "event",
    key: "seq",
    old: "hold_until is null and received_at < $1 \
        and seq not in (select event_seq from held_event) and seq not in (select event_seq from collect_event)",
    clear: None,
    with: &[("firing", "event_seq"), ("commit_pin", "event_seq")],
};
const MESSAGES: Kind = Kind {
    name: "messages",
    table: "outbox",
    key: "id",
    // What a sink has not come to yet stays, up to `SINK_BACKLOG_MAX`.
    old: "published_at is not null and created_at < $1 and (\
        outbox.position <= (select coalesce(min(s.position), (select r.position from relay r)) from sink s) \
        or outbox.position <= (select r.position - 1000000 from relay r))",
    clear: None,
    with: &[],
};
const LOG_CHUNKS: Kind = Kind {
    name: "log_chunks",
    table: "log_chunk",
    key: "key",
    old: "created_at < $1",
    clear: None,
    with: &[],
};
const ARTIFACTS: Kind =
    Kind { name: "artifacts", table: "artifact", key: "key", old: "created_at < $1", clear: None, with: &[] };
const TASKS: Kind = Kind {
    name: "tasks",
    table: "task",
    key: "id",
    old: "state in ('finished', 'cancelled', 'superseded') and since < $1",
    clear: None,
    with: &[("attempt", "task_id")],
};
/// Parts go before what they are a part of, since they were stored after it.
const RESULTS: Kind = Kind {
    name: "results",
    table: "result",
    key: "id",
    old: "created_at < $1",
    clear: None,
    with: &[("result_value", "result_id")],
};
const DEAD_LETTERS: Kind = Kind {
    name: "dead_letters",
    table: "dead_letter",
    key: "id",
    old: "created_at < $1",
    clear: None,
    with: &[],
};
const AUDIT: Kind = Kind { name: "audit", table: "audit", key: "id", old: "at < $1", clear: None, with: &[] };
/// What is old of tasks that have ended, or that are gone.
macro_rules! of_ended_tasks {
    ($table:literal) => {
        concat!(
            "created_at < $1 and not exists (select 1 from task t where t.id = ",
            $table,
            ".id and t.state not in ('finished', 'cancelled', 'superseded'))"
        )
    };
}
/// What jobs of other systems' agents left; attachments of those that wait are still to be had.
const FOREIGN_FRAGMENTS: Kind = Kind {
    name: "foreign_fragments",
    table: "foreign_fragment",
    key: "key",
    old: of_ended_tasks!("foreign_fragment"),
    clear: None,
    with: &[],
};
const FOREIGN_FILES: Kind = Kind {
    name: "foreign_files",
    table: "foreign_file",
    key: "key",
    old: of_ended_tasks!("foreign_file"),
    clear: None,
    with: &[],
};
/// They go after their tasks; those that have none by their age.
const FOREIGN_JOBS: Kind = Kind {
    name: "foreign_jobs",
    table: "foreign_job",
    key: "id",
    old: "created_at < $1 and not exists (select 1 from task t where t.id = foreign_job.id)",
    clear: None,
    with: &[("foreign_tag", "id")],
};
/// A run goes with its jobs when the last report of it is old; one of which a job is not over stays.
const PADDLES_JOBS: Kind = Kind {
    name: "paddles_jobs",
    table: "paddles_job",
    key: "seq",
    old: "run_id in (select id from paddles_run where coalesce(updated, posted) < $1 \
        and queued = 0 and running = 0 and waiting = 0)",
    clear: None,
    with: &[("paddles_job_node", "seq")],
};
const PADDLES_RUNS: Kind = Kind {
    name: "paddles_runs",
    table: "paddles_run",
    key: "id",
    old: "coalesce(updated, posted) < $1 and queued = 0 and running = 0 and waiting = 0 \
        and not exists (select 1 from paddles_job j where j.run_id = paddles_run.id)",
    clear: None,
    with: &[],
};
/// Tokens, secrets and logins that have expired are not to be had any more.
const FOREIGN_RECORDS: Kind = Kind {
    name: "foreign_records",
    table: "foreign_record",
    key: "system || '/' || kind || '/' || name",
    old: "expires_at <= $1",
    clear: None,
    with: &[],
};
/// Windows that are over hold nothing off; they go without being asked.
const WISHES: Kind =
    Kind { name: "wishes", table: "wish", key: "hash", old: "until < $1", clear: None, with: &[] };

pub(crate) async fn prune(
    session: &mut Session,
    retention: &Retention,
    limit: u32,
    dry_run: bool,
) -> Result<Pruned> {
    let kinds: [(&Kind, Option<Duration>); 16] = [
        (&BODIES, retention.bodies),
        (&EVENTS, retention.events),
        (&MESSAGES, retention.messages),
        (&LOG_CHUNKS, retention.files),
        (&ARTIFACTS, retention.files),
        (&FOREIGN_FRAGMENTS, retention.files),
        (&FOREIGN_FILES, retention.files),
        (&TASKS, retention.tasks),
        (&FOREIGN_JOBS, retention.tasks),
        (&PADDLES_JOBS, retention.tasks),
        (&PADDLES_RUNS, retention.tasks),
        (&RESULTS, retention.results),
        (&DEAD_LETTERS, retention.dead_letters),
        (&AUDIT, retention.audit),
        (&WISHES, Some(Duration::ZERO)),
        (&FOREIGN_RECORDS, Some(Duration::ZERO)),
    ];
    let mut pruned = Pruned::default();
    for (kind, keep) in kinds {
        let Some(keep) = keep else { continue };
        let before = session.now - milliseconds(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
        let (rows, keys) = prune_kind(session, kind, before, limit, dry_run).await?;
        if rows > 0 {
            pruned.rows.insert(kind.name.to_owned(), rows);
        }
        pruned.keys.extend(keys);
    }
    Ok(pruned)
}

/// Removes the oldest rows of a kind. Gives their number, and the paths of files.
async fn prune_kind(
    session: &mut Session,
    kind: &Kind,
    before: DateTime<Utc>,
    limit: u32,
    dry_run: bool,
) -> Result<(u64, Vec<String>)> {
    let Kind { table, key, old, .. } = kind;
    let oldest = format!("select {key} from {table} where {old} order by {key} limit $2");
    let count = format!("select count(*) as n from ({oldest}) as oldest");
    if dry_run {
        return Ok((session.one(count, values![before, limit]).await?.number("n")?, Vec::new()));
    }
    for (other, column) in kind.with {
        let sql = format!("delete from {other} where {column} in ({oldest})");
        session.run(sql, values![before, limit]).await?;
    }
    if let Some(set) = kind.clear {
        let sql = format!("update {table} set {set} where {key} in ({oldest})");
        return Ok((session.run(sql, values![before, limit]).await?, Vec::new()));
    }
    if *key != "key" {
        let sql = format!("delete from {table} where {key} in ({oldest})");
        return Ok((session.run(sql, values![before, limit]).await?, Vec::new()));
    }
    let sql = format!("{oldest}{}", if session.dialect() == Dialect::Postgres { " for update" } else { "" });
    let rows = session.all(sql, values![before, limit]).await?;
    let keys = rows.iter().map(|row| row.text("key")).collect::<Result<Vec<_>>>()?;
    let list = match session.dialect() {
        Dialect::Sqlite => "(select value from json_each($1))",
        Dialect::Postgres => "(select unnest($1::text[]))",
    };
    let sql = format!("delete from {table} where key in {list}");
    let removed = session.run(sql, vec![Value::texts(&keys)]).await?;
    Ok((removed, keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlog_of_sinks_is_the_documented_one() {
        assert!(MESSAGES.old.contains(&format!("- {} ", crate::SINK_BACKLOG_MAX)));
    }
}
