//! Rows beside those that requests bring: copies of rows that the program wrote, with identities and times of their own.

use crate::database::Database;
use sqlx::{AssertSqlSafe, Row as _, postgres::PgRow};

/// The item of the results that are copied; see [`crate::requests::sample`].
pub(crate) const SAMPLE_ITEM: &str = "sample-1.0-1.fc42";
/// How many results one copy brings.
pub(crate) const SAMPLE_RESULTS: i64 = 40;
/// The queue of the job that is copied.
pub(crate) const SAMPLE_QUEUE: &str = "sample";
/// The run whose job is copied.
pub(crate) const SAMPLE_RUN: &str = "me-2026-11-20_09:00:00-rados-main-distro-sample-smithi";
/// How many jobs a run has that is copied.
const JOBS_OF_RUN: i64 = 200;

/// The tables that are filled.
const TABLES: [&str; 6] = ["result", "result_value", "task", "foreign_job", "paddles_run", "paddles_job"];
/// The id of the copy number `n`: in the order of time, as the program's are.
const ID: &str = "(right(encode(int8send(1600000000000 + n), 'hex'), 12) || '7' || left(md5(n::text), 3) || '8' \
    || right(md5(n::text), 15))::uuid";

/// Fills the database up to so many results, jobs of Testflinger and jobs of paddles. No program looks at it then.
pub(crate) async fn to(database: &Database, rows: i64) {
    let indexes = take_indexes(database).await;
    results(database, rows).await;
    foreign_jobs(database, rows).await;
    paddles_jobs(database, rows).await;
    // Made at the end, an index costs a sort; kept up to date, a search for each row.
    for index in indexes {
        run(database, &index).await;
    }
    run(database, "vacuum (analyze)").await;
    run(database, "checkpoint").await;
}

/// The copies lie in the past, one second apart, so that what comes is newer.
async fn results(database: &Database, rows: i64) {
    let stored = count(database, "result").await;
    let (from, last) = (stored / SAMPLE_RESULTS, rows / SAMPLE_RESULTS);
    let top = number(database, "select max(id) from result").await;
    let sample = format!(
        "create table sample as select *, row_number() over (order by id) as nth from result \
         where item_id = '{SAMPLE_ITEM}'"
    );
    run(database, &sample).await;
    let new = format!("{top} + (n - {from} - 1) * {SAMPLE_RESULTS} + s.nth");
    let copies = format!("generate_series({from} + 1, {last}) n cross join lateral");
    let changed = [
        ("id", new.clone()),
        ("item_id", "s.item_id || '-' || n".to_owned()),
        ("scenario", format!("sha256(convert_to(({new})::text, 'UTF8'))")),
        ("data", format!("replace(s.data, '{SAMPLE_ITEM}', '{SAMPLE_ITEM}-' || n)")),
        ("created_at", "s.created_at - n * interval '1 second'".to_owned()),
    ];
    copy(database, "result", &changed, &format!("{copies} (select *, n as k from sample offset 0) s")).await;
    let changed = [
        ("result_id", new),
        ("value", "case when s.key = 'item' then s.value || '-' || n else s.value end".to_owned()),
        ("at", "s.at - n * interval '1 second'".to_owned()),
    ];
    run(
        database,
        "create table sample_value as select v.*, s.nth from result_value v join sample s on s.id = v.result_id \
         order by s.nth",
    )
    .await;
    let from = format!("{copies} (select *, n as k from sample_value offset 0) s");
    copy(database, "result_value", &changed, &from).await;
    run(database, "drop table sample, sample_value").await;
    count_on(database, "result", "id").await;
}

/// A job that has ended, and its task.
async fn foreign_jobs(database: &Database, rows: i64) {
    let copies = format!("generate_series({} + 1, {rows}) n", count(database, "foreign_job").await);
    let task = format!("select * from task where queue = '{SAMPLE_QUEUE}' order by id desc limit 1");
    let changed = [("id", ID.to_owned()), ("key", "sha256(convert_to(n::text, 'UTF8'))".to_owned())];
    copy(database, "task", &changed, &format!("{copies} cross join ({task}) s")).await;
    let job = format!("select * from foreign_job where queue = '{SAMPLE_QUEUE}' order by id desc limit 1");
    let changed = [
        ("id", ID.to_owned()),
        ("job_id", ID.to_owned()),
        ("created_at", "s.created_at - n * interval '1 second'".to_owned()),
    ];
    copy(database, "foreign_job", &changed, &format!("{copies} cross join ({job}) s")).await;
}

/// Jobs in runs that have ended, so long ago that their tasks are not kept any more.
async fn paddles_jobs(database: &Database, rows: i64) {
    let sample = format!("select * from paddles_run where name = '{SAMPLE_RUN}'");
    let job = format!("select j.* from paddles_job j join ({sample}) r on r.id = j.run_id limit 1");
    let jobs = count(database, "paddles_job").await;
    let (first, last) = (jobs / JOBS_OF_RUN + 1, rows / JOBS_OF_RUN);
    let top = number(database, "select max(id) from paddles_run").await - first + 1;
    let changed = [
        ("id", format!("{top} + n")),
        ("name", "s.name || n".to_owned()),
        ("listed_at", "s.listed_at - n * interval '200 seconds'".to_owned()),
        ("posted", "s.posted - n * interval '200 seconds'".to_owned()),
        ("pass", JOBS_OF_RUN.to_string()),
    ];
    let from = format!("generate_series({first}, {last}) n cross join ({sample}) s");
    copy(database, "paddles_run", &changed, &from).await;
    let seq = number(database, "select max(seq) from paddles_job").await;
    let nth = format!("((n - {first}) * {JOBS_OF_RUN} + nth)");
    let changed = [
        ("seq", format!("{seq} + {nth}")),
        ("run_id", format!("{top} + n")),
        ("job_id", format!("{nth}::text")),
        ("task_id", ID.to_owned()),
        ("body", format!("replace(s.body, '\"1\"', '\"' || {nth} || '\"')")),
        ("posted", format!("s.posted - {nth} * interval '1 second'")),
        ("updated", format!("s.updated - {nth} * interval '1 second'")),
    ];
    let from = format!(
        "generate_series({first}, {last}) n cross join lateral (select nth, n as k from \
         generate_series(1, {JOBS_OF_RUN}) nth offset 0) t cross join ({job}) s"
    );
    copy(database, "paddles_job", &changed, &from).await;
    count_on(database, "paddles_run", "id").await;
    count_on(database, "paddles_job", "seq").await;
}

/// Inserts rows `s` with other values in some columns.
async fn copy(database: &Database, table: &str, changed: &[(&str, String)], from: &str) {
    let columns = format!(
        "select column_name::text from information_schema.columns where table_name = '{table}' order by ordinal_position"
    );
    let columns = texts(database, &columns).await;
    let values: Vec<_> = columns
        .iter()
        .map(|column| {
            let changed = changed.iter().find(|(name, _)| name == column);
            changed.map_or_else(|| format!("s.{column}"), |(_, value)| value.clone())
        })
        .collect();
    let (columns, values) = (columns.join(", "), values.join(", "));
    run(
        database,
        &format!("insert into {table} ({columns}) overriding system value select {values} from {from}"),
    )
    .await;
}

/// Drops the keys and indexes of the tables; how they are made again.
async fn take_indexes(database: &Database) -> Vec<String> {
    let tables = format!("'{}'", TABLES.join("', '"));
    let constraints = format!(
        "select format('alter table %s drop constraint %I', conrelid::regclass, conname) as gone, \
         format('alter table %s add constraint %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) as made \
         from pg_constraint where conrelid::regclass::text in ({tables}) and contype in ('p', 'u', 'f')"
    );
    let indexes = format!(
        "select format('drop index %I', indexname) as gone, indexdef as made from pg_indexes where tablename in ({tables})"
    );
    let mut made = Vec::new();
    // What is left after the first are the indexes that are no keys.
    for sql in [constraints, indexes] {
        let read = |row: &PgRow| (row.get::<String, _>("gone"), row.get::<String, _>("made"));
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&database.pool).await.unwrap();
        for (gone, again) in rows.iter().map(read) {
            run(database, &gone).await;
            made.push(again);
        }
    }
    made
}

/// Lets the table's own numbers go on behind the copies.
async fn count_on(database: &Database, table: &str, column: &str) {
    let last = format!("select max({column}) from {table}");
    run(database, &format!("select setval(pg_get_serial_sequence('{table}', '{column}'), ({last}))")).await;
}

async fn count(database: &Database, table: &str) -> i64 {
    number(database, &format!("select count(*) from {table}")).await
}

async fn number(database: &Database, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&database.pool).await.unwrap()
}

async fn texts(database: &Database, sql: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&database.pool).await.unwrap()
}

async fn run(database: &Database, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&database.pool).await.unwrap();
}
