//! Runs and jobs: what is read of them.

use super::{
    paddles_row::{JOB_COLUMNS, RUN_COLUMNS, read_job, read_run},
    session::{Dialect, Session},
    value::{Value, values},
    where_clause::Where,
};
use crate::{
    PADDLES_ROWS_MAX, PaddlesField, PaddlesJob, PaddlesJobQuery, PaddlesRun, PaddlesRunQuery, Result,
};

pub(crate) async fn run(session: &mut Session, name: &str) -> Result<Option<PaddlesRun>> {
    let sql = format!("select {RUN_COLUMNS} from paddles_run r where r.name = $1");
    session.first(sql, values![name]).await?.as_ref().map(read_run).transpose()
}

const fn column(field: PaddlesField) -> &'static str {
    match field {
        PaddlesField::Branch => "r.branch",
        PaddlesField::Date => "r.listed_at",
        PaddlesField::MachineType => "r.machine_type",
        PaddlesField::Status => "r.status",
        PaddlesField::Suite => "r.suite",
        // Of any of its jobs.
        PaddlesField::Sha1 => "v.sha1",
        PaddlesField::User => "r.by_user",
        PaddlesField::Flavor => "r.flavor",
    }
}

/// Everything that begins with a text is at or after it, and before this.
fn after_all(prefix: &str) -> String {
    format!("{prefix}\u{10ffff}")
}

fn conditions(dialect: Dialect, query: &PaddlesRunQuery) -> Where {
    let mut conditions = Where::new(dialect);
    for (field, value) in &query.fields {
        conditions.add(&format!("{} = ?", column(*field)), value);
    }
    if let Some(prefix) = &query.sha1 {
        conditions.add("r.id in (select s.run_id from paddles_job s where s.sha1 >= ?", prefix);
        // The second half of the same condition: a range, which the index serves.
        conditions.add("s.sha1 < ?)", after_all(prefix));
    }
    conditions.maybe("r.listed_at >= ?", query.from);
    conditions.maybe("r.listed_at < ?", query.until);
    if query.queued {
        conditions.plain("r.queued > 0");
    }
    conditions
}

fn limited(select: &str, conditions: Where, order: &str, limit: u32, offset: u64) -> (String, Vec<Value>) {
    let (clause, mut values) = conditions.text();
    values.push(limit.min(PADDLES_ROWS_MAX).into());
    values.push(offset.into());
    let n = values.len();
    (format!("{select} {clause} order by {order} limit ${} offset ${n}", n - 1), values)
}

pub(crate) async fn runs(session: &mut Session, query: &PaddlesRunQuery) -> Result<Vec<PaddlesRun>> {
    let conditions = conditions(session.dialect(), query);
    let order = match (query.by_posted, query.oldest_first) {
        (true, _) => "r.posted desc, r.id desc",
        (false, true) => "r.listed_at, r.id",
        (false, false) => "r.listed_at desc, r.id desc",
    };
    let select = format!("select {RUN_COLUMNS} from paddles_run r");
    let (sql, values) = limited(&select, conditions, order, query.limit, query.offset);
    session.all(sql, values).await?.iter().map(read_run).collect()
}

pub(crate) async fn values(
    session: &mut Session,
    field: PaddlesField,
    query: &PaddlesRunQuery,
) -> Result<Vec<String>> {
    let mut conditions = conditions(session.dialect(), query);
    let column = column(field);
    conditions.plain(&format!("{column} is not null"));
    let shown = match (field, session.dialect()) {
        (PaddlesField::Date, Dialect::Sqlite) => "date(r.listed_at / 1000000, 'unixepoch')".to_owned(),
        (PaddlesField::Date, Dialect::Postgres) => {
            "to_char(r.listed_at at time zone 'UTC', 'YYYY-MM-DD')".to_owned()
        }
        (_, Dialect::Sqlite) => column.to_owned(),
        (_, Dialect::Postgres) => format!("{column} collate \"C\""),
    };
    let of_jobs = if field == PaddlesField::Sha1 { " join paddles_job v on v.run_id = r.id" } else { "" };
    let select = format!("select distinct {shown} as value from paddles_run r{of_jobs}");
    let (sql, values) = limited(&select, conditions, "value", PADDLES_ROWS_MAX, 0);
    session.all(sql, values).await?.iter().map(|row| row.text("value")).collect()
}

pub(crate) async fn jobs(session: &mut Session, query: &PaddlesJobQuery) -> Result<Vec<PaddlesJob>> {
    let mut conditions = Where::new(session.dialect());
    // By its number, so that the index of the run's jobs gives them in order.
    conditions.maybe("j.run_id = (select w.id from paddles_run w where w.name = ?)", query.run.as_ref());
    conditions.maybe("j.job_id = ?", query.job_id.as_ref());
    conditions.maybe("j.status = ?", query.status.as_ref());
    conditions.maybe("j.name = ?", query.name.as_ref());
    conditions.maybe("j.sha1 = ?", query.sha1.as_ref());
    conditions.maybe("j.branch = ?", query.branch.as_ref());
    conditions.maybe("j.by_user = ?", query.user.as_ref());
    conditions.maybe("j.queue = ?", query.queue.as_ref());
    conditions.maybe("j.posted >= ?", query.posted_after);
    conditions.maybe("j.posted < ?", query.posted_before);
    conditions.maybe("j.seq < ?", query.before);
    conditions.maybe("j.seq in (select n.seq from paddles_job_node n where n.node = ?)", query.node.as_ref());
    if let Some(text) = &query.description {
        let position = match session.dialect() {
            Dialect::Sqlite => "instr(j.description, ?) > 0",
            Dialect::Postgres => "position(? in j.description) > 0",
        };
        conditions.add(position, text);
    }
    let body = if query.brief { "" } else { ", j.body" };
    let select =
        format!("select {JOB_COLUMNS}{body} from paddles_job j join paddles_run r on r.id = j.run_id");
    let (sql, values) = limited(&select, conditions, "j.seq desc", query.limit, query.offset);
    session.all(sql, values).await?.iter().map(|row| read_job(row, query.brief)).collect()
}
