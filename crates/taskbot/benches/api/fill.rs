//! Rows beside those that requests bring: copies of rows that the program wrote, with identities of their own.

use crate::database::Database;
use sqlx::AssertSqlSafe;

/// The item of the results that are copied; see [`crate::requests::sample`].
pub(crate) const SAMPLE_ITEM: &str = "sample-1.0-1.fc42";
/// How many results one copy brings.
pub(crate) const SAMPLE_RESULTS: i64 = 40;
/// The queue of the job that is copied.
pub(crate) const SAMPLE_QUEUE: &str = "sample";

/// Fills the database up to so many results and ended jobs.
pub(crate) async fn to(database: &Database, rows: i64) {
    let stored: i64 = count(database, "result").await;
    let copies = (rows - stored).max(0) / SAMPLE_RESULTS;
    let from = stored / SAMPLE_RESULTS;
    // The copies lie in the past, one second apart, so that what comes is newer.
    run(
        database,
        format!(
            "with sample as materialized (select r.*, row_number() over (order by id) as nth from result r \
                where item_id = '{SAMPLE_ITEM}'), top as (select max(id) as id from result), \
            copy as materialized (select s.id as old, t.id + (n - 1) * {SAMPLE_RESULTS} + s.nth as new, n, s.* \
                from sample s, top t, generate_series(1, {copies}) n), \
            made as (insert into result overriding system value \
                select (jsonb_populate_record(null::result, to_jsonb(c) || jsonb_build_object('id', c.new, \
                    'item_id', c.item_id || '-' || (n + {from}), \
                    'scenario', sha256(convert_to(c.new::text, 'UTF8')), \
                    'data', replace(c.data, '{SAMPLE_ITEM}', '{SAMPLE_ITEM}-' || (n + {from})), \
                    'created_at', c.created_at - n * interval '1 second'))).* from copy c) \
            insert into result_value (result_id, key, value, at) \
                select c.new, v.key, case when v.key = 'item' then v.value || '-' || (n + {from}) else v.value end, \
                    v.at - n * interval '1 second' \
                from copy c join result_value v on v.result_id = c.old"
        ),
    )
    .await;
    run(
        database,
        "select setval(pg_get_serial_sequence('result', 'id'), (select max(id) from result))".to_owned(),
    )
    .await;
    let copies = (rows - count(database, "task").await).max(0);
    run(
        database,
        format!(
            "with sample as materialized (select t.*, j.job_id from task t join foreign_job j on j.id = t.id \
                where t.queue = '{SAMPLE_QUEUE}' limit 1), \
            copy as materialized (select gen_random_uuid() as new, n, to_jsonb(s) as sample, s.id as old \
                from sample s, generate_series(1, {copies}) n), \
            made as (insert into task select (jsonb_populate_record(null::task, c.sample \
                || jsonb_build_object('id', c.new, 'key', sha256(convert_to(c.new::text, 'UTF8'))))).* from copy c) \
            insert into foreign_job select (jsonb_populate_record(null::foreign_job, to_jsonb(j) \
                || jsonb_build_object('id', c.new, 'job_id', c.new, \
                    'created_at', j.created_at - n * interval '1 second'))).* \
                from copy c join foreign_job j on j.id = c.old"
        ),
    )
    .await;
    // Outside of what is measured: the database tidies up once.
    run(database, "vacuum (analyze)".to_owned()).await;
    run(database, "checkpoint".to_owned()).await;
}

async fn count(database: &Database, table: &str) -> i64 {
    let sql = AssertSqlSafe(format!("select count(*) from {table}"));
    sqlx::query_scalar(sql).fetch_one(&database.pool).await.unwrap()
}

async fn run(database: &Database, sql: String) {
    sqlx::query(AssertSqlSafe(sql)).execute(&database.pool).await.unwrap();
}
