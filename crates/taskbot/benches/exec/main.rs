//! What running a task costs beyond what the bare parts under it cost: the engine, QEMU, git, a pipe.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "its results go to standard output")]

mod checkout;
mod container;
mod logs;
#[path = "../common/measure.rs"]
mod measure;
#[path = "../common/quantile.rs"]
mod quantile;
#[path = "../common/services.rs"]
mod services;
mod silent;
mod vm;

#[tokio::main]
async fn main() {
    logs::run().await;
    checkout::run().await;
    container::run().await;
    vm::run().await;
}
