//! Both backends. What a call does is written once, over a session that is a transaction of either database;
//! statements have one text where both take it, and one for each where they differ.
//!
//! Locks are taken in one order, so that PostgreSQL finds few deadlocks: events by identity, wishes by hash,
//! groups by name, tasks by id, batches by id. What it rolls back all the same is tried again.
//!
//! Lanes, queues and batches are made before the transaction that needs them: one that is left over harms
//! nobody, and no transaction waits for another that makes the same.

mod backend;
mod bind;
mod error;
mod session;
mod value;
mod where_clause;

mod probe;

mod rule_sets;

mod applying;
mod collecting;
mod conflict;
mod counters;
mod deduping;
mod holds;
mod limits;
mod schedules;

mod rules_at_work;

mod inbox;
mod inbox_read;

mod lanes;
mod later;
mod making;
mod pins;
mod places;
mod task_row;
mod tasks;
mod tasks_read;
mod work;

mod callbacks;
mod claim;
mod finish;
mod heartbeat;
mod queues;
mod workers;

mod files;
mod results;
mod results_read;

mod resultsdb;
mod resultsdb_read;

mod retests;

mod foreign;
mod foreign_read;
mod foreign_records;

mod paddles;
mod paddles_job;
mod paddles_nodes;
mod paddles_queues;
mod paddles_read;
mod paddles_reports;
mod paddles_row;

mod dead_letters;
mod outbox;
mod outgoing;
mod sinks;

mod access;
mod prune;
mod upkeep;

pub use backend::{PoolOptions, PostgresStore, SqliteStore};
pub use probe::Probe;

use crate::Result;
use backend::Backend;
use lanes::Lane;
use model::{
    Ids, Requirements, TaskId,
    ids::{BatchId, QueueName},
};
use session::Session;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

/// The store over either database.
#[derive(Debug)]
pub struct SqlStore {
    backend: Backend,
    ids: Arc<dyn Ids>,
    known: Mutex<Known>,
}

/// What is known of rows that never change once they are committed.
#[derive(Debug, Default)]
struct Known {
    lanes: HashMap<i64, Arc<Lane>>,
    lane_ids: HashMap<QueueName, HashMap<Requirements, i64>>,
    queues: HashSet<QueueName>,
    batches: HashMap<String, BatchId>,
}

impl Known {
    fn add_lane(&mut self, lane: Lane) -> Arc<Lane> {
        let lane = Arc::new(lane);
        self.lane_ids.entry(lane.queue.clone()).or_default().insert(lane.needs.clone(), lane.id);
        self.lanes.insert(lane.id, lane.clone());
        lane
    }
}

impl SqlStore {
    fn new(backend: Backend, ids: Arc<dyn Ids>) -> Self {
        Self { backend, ids, known: Mutex::default() }
    }

    /// A connection for queries.
    async fn read(&self) -> Result<Session> {
        self.backend.read().await
    }

    /// A transaction.
    async fn write(&self) -> Result<Session> {
        let mut session = self.backend.write().await?;
        session.read_clock().await?;
        Ok(session)
    }

    /// A transaction whose clock is still to be taken from a row.
    async fn write_timed(&self) -> Result<Session> {
        self.backend.write().await
    }

    /// A transaction that does not wait for the disk. Its clock is still to be read.
    async fn write_unclocked(&self) -> Result<Session> {
        self.backend.write_passing().await
    }

    /// A transaction that does not wait for the disk.
    async fn write_passing(&self) -> Result<Session> {
        let mut session = self.write_unclocked().await?;
        session.read_clock().await?;
        Ok(session)
    }

    /// A transaction that holds the lock of a task's group.
    async fn write_on(&self, task: TaskId) -> Result<Session> {
        let mut session = self.backend.write().await?;
        session.read_clock_and_lock_group_of(task).await?;
        Ok(session)
    }

    /// What is known. A panic elsewhere cannot have left it half changed.
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
