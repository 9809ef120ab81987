//! What the least of a write costs by itself.

use crate::{database::Database, program::ticks};
use sqlx::Connection as _;

/// How many rows are written, one after the other.
const ROWS: u32 = 2_000;

/// Milliseconds of the processor, here and in the database's session, for a transaction that writes one small row.
pub(crate) async fn insert(database: &Database) -> f64 {
    let sql = "create table bare (id bigint generated always as identity primary key, data text not null)";
    sqlx::query(sql).execute(&database.pool).await.unwrap();
    let mut connection = database.pool.acquire().await.unwrap();
    let session: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *connection).await.unwrap();
    let taken = || ticks(session.unsigned_abs()) + ticks(std::process::id());
    let mut before = 0;
    // As many before, unmeasured.
    for row in 0..2 * ROWS {
        if row == ROWS {
            before = taken();
        }
        let mut transaction = connection.begin().await.unwrap();
        let insert = sqlx::query("insert into bare (data) values ($1)").bind("a row as small as rows are");
        insert.execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
    }
    crate::program::milliseconds(taken() - before) / f64::from(ROWS)
}
