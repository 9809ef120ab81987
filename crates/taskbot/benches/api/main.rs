//! What a request costs: milliseconds of the processor in the server and in its database's sessions, by interface,
//! with few and with many rows stored; writes one after the other, and by several clients at a time, as they come to
//! a server that is busy. The floor of the first figures is what the program that is replaced was measured to take;
//! the floor of the second is the first.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "its results go to standard output")]

#[path = "../common/database.rs"]
mod database;
#[path = "../common/measure.rs"]
mod measure;
#[path = "../common/services.rs"]
mod services;

mod bare;
mod client;
mod fill;
mod program;
mod requests;

use client::Client;
use database::Database;
use measure::print;
use program::Program;
use requests::Cost;
use store::Upkeep as _;

/// How many rows are stored beside those that the requests bring.
const FEW: i64 = 1_000;
const MANY: i64 = 1_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let database = Database::fresh().await;
    // What is measured has a store of its own.
    database.store.close().await;
    let program = Program::start(&database).await;
    requests::sample(&Client::new(program.address)).await;
    program.end();
    let few = measure(&database, FEW).await;
    for Cost { name, replaced_ms, cpu_ms } in &few {
        print(&format!("{name}, {FEW} rows"), *cpu_ms, "ms CPU", *replaced_ms);
    }
    // Some minutes: most of it are the database's indexes.
    for (few, many) in few.iter().zip(measure(&database, MANY).await) {
        print(&format!("{}, {MANY} rows", few.name), many.cpu_ms, "ms CPU", Some(few.cpu_ms));
    }
    print("bare: a row inserted and committed by SQL", bare::insert(&database).await, "ms CPU", None);
}

/// All figures with so many rows stored, from a program that has just begun.
async fn measure(database: &Database, rows: i64) -> Vec<Cost> {
    fill::to(database, rows).await;
    let program = Program::start(database).await;
    let costs = requests::all(&Client::new(program.address), &program, database).await;
    program.end();
    costs
}
