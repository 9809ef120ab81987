//! paddles' room of the store.

use super::{
    SqlStore, paddles_job, paddles_nodes, paddles_queues, paddles_read, paddles_reports,
    paddles_row::make_run, places::Wanted, session::transaction, tasks::milliseconds,
};
use crate::{
    Paddles, PaddlesField, PaddlesJob, PaddlesJobQuery, PaddlesNodeChange, PaddlesNodeQuery, PaddlesNodes,
    PaddlesPause, PaddlesPopped, PaddlesQueue, PaddlesReport, PaddlesReported, PaddlesRun, PaddlesRunQuery,
    PaddlesTarget, Result,
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use model::paddles::{Node, RunName};
use std::collections::BTreeMap;

/// How many jobs are removed with their run in one transaction.
const REMOVED_AT_ONCE: u32 = 200;

#[async_trait]
impl Paddles for SqlStore {
    async fn add_paddles_run(&self, name: &str, parsed: &RunName) -> Result<bool> {
        transaction!(self, |session| make_run(session, name, parsed))
    }

    async fn paddles_run(&self, name: &str) -> Result<Option<PaddlesRun>> {
        paddles_read::run(&mut self.read().await?, name).await
    }

    async fn paddles_runs(&self, query: &PaddlesRunQuery) -> Result<Vec<PaddlesRun>> {
        paddles_read::runs(&mut self.read().await?, query).await
    }

    async fn paddles_values(&self, field: PaddlesField, query: &PaddlesRunQuery) -> Result<Vec<String>> {
        paddles_read::values(&mut self.read().await?, field, query).await
    }

    async fn remove_paddles_run(&self, name: &str, who: &str) -> Result<bool> {
        if self.paddles_run(name).await?.is_none() {
            return Ok(false);
        }
        loop {
            let query = PaddlesJobQuery {
                run: Some(name.to_owned()),
                brief: true,
                limit: REMOVED_AT_ONCE,
                ..PaddlesJobQuery::default()
            };
            let jobs = self.paddles_jobs(&query).await?;
            if jobs.is_empty() {
                return transaction!(self, |session| paddles_job::remove_run(session, name));
            }
            transaction!(self, |session| paddles_job::remove_jobs(self, session, &jobs, who))?;
        }
    }

    async fn report_paddles_jobs(&self, reports: &[PaddlesReport]) -> Result<Vec<PaddlesReported>> {
        let tasks = reports.iter().filter_map(|report| match &report.target {
            PaddlesTarget::New { task, .. } => Some(&**task),
            PaddlesTarget::Existing { .. } => None,
        });
        self.make_places(Wanted::by(tasks)).await?;
        transaction!(self, |session| paddles_reports::take_over(self, session, reports))
    }

    async fn paddles_jobs(&self, query: &PaddlesJobQuery) -> Result<Vec<PaddlesJob>> {
        paddles_read::jobs(&mut self.read().await?, query).await
    }

    async fn remove_paddles_job(&self, run: &str, job_id: &str, who: &str) -> Result<bool> {
        let query = PaddlesJobQuery {
            run: Some(run.to_owned()),
            job_id: Some(job_id.to_owned()),
            brief: true,
            limit: 1,
            ..PaddlesJobQuery::default()
        };
        let jobs = self.paddles_jobs(&query).await?;
        if jobs.is_empty() {
            return Ok(false);
        }
        Ok(transaction!(self, |session| paddles_job::remove_jobs(self, session, &jobs, who))? > 0)
    }

    async fn pop_paddles_job(&self, queue: &str, lease_ms: u64) -> Result<PaddlesPopped> {
        transaction!(self, passing | session | paddles_queues::pop(session, queue, milliseconds(lease_ms)))
    }

    async fn paddles_queues(&self) -> Result<Vec<PaddlesQueue>> {
        let now = self.now_of_database().await?;
        paddles_queues::list(&mut self.read().await?, now).await
    }

    async fn add_paddles_queue(&self, name: &str) -> Result<bool> {
        transaction!(self, |session| paddles_queues::add(session, name))
    }

    async fn pause_paddles_queue(&self, name: &str, by: &str, for_ms: Option<u64>) -> Result<PaddlesPause> {
        transaction!(self, |session| paddles_queues::pause(session, name, by, for_ms.map(milliseconds)))
    }

    async fn count_paddles_queue(&self, name: &str) -> Result<u64> {
        paddles_queues::count(&mut self.read().await?, name).await
    }

    async fn paddles_nodes(&self, query: &PaddlesNodeQuery) -> Result<Vec<Node>> {
        paddles_nodes::list(&mut self.read().await?, query).await
    }

    async fn paddles_node(&self, name: &str) -> Result<Option<Node>> {
        paddles_nodes::one(&mut self.read().await?, name).await
    }

    async fn paddles_machine_types(&self) -> Result<Vec<String>> {
        paddles_nodes::machine_types(&mut self.read().await?).await
    }

    async fn add_paddles_node(&self, node: &Node) -> Result<bool> {
        transaction!(self, |session| paddles_nodes::add(session, node))
    }

    async fn change_paddles_node(&self, name: &str, change: &PaddlesNodeChange) -> Result<PaddlesNodes> {
        transaction!(self, |session| paddles_nodes::change(session, name, change))
    }

    async fn remove_paddles_node(&self, name: &str) -> Result<bool> {
        transaction!(self, |session| paddles_nodes::remove(session, name))
    }

    async fn lock_paddles_nodes(
        &self,
        query: &PaddlesNodeQuery,
        count: u32,
        locked_by: &str,
        description: Option<&str>,
    ) -> Result<PaddlesNodes> {
        transaction!(self, |session| paddles_nodes::lock(session, query, count, locked_by, description))
    }

    async fn unlock_paddles_nodes(&self, names: &[String], locked_by: &str) -> Result<PaddlesNodes> {
        transaction!(self, |session| paddles_nodes::unlock(session, names, locked_by))
    }

    async fn paddles_node_stats(
        &self,
        node: Option<&str>,
        machine_type: Option<&str>,
        since: Option<DateTime<Utc>>,
    ) -> Result<BTreeMap<String, BTreeMap<String, u64>>> {
        paddles_nodes::stats(&mut self.read().await?, node, machine_type, since).await
    }
}
