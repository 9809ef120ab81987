//! What other systems report: results and jobs, many at a time.

use crate::{
    Scheduler,
    gather::{self, Gather, Shared},
};
use store::{Entry, NewEntry, PaddlesReport, PaddlesReported, Result};

impl Shared for NewEntry {
    type Written = Entry;

    fn gather(scheduler: &Scheduler) -> &Gather<Self> {
        scheduler.entries()
    }

    async fn write(scheduler: &Scheduler, batch: &[Self]) -> Result<Vec<Entry>> {
        scheduler.store().add_entries(batch).await
    }
}

impl Shared for PaddlesReport {
    type Written = PaddlesReported;

    fn gather(scheduler: &Scheduler) -> &Gather<Self> {
        scheduler.paddles_reports()
    }

    async fn write(scheduler: &Scheduler, batch: &[Self]) -> Result<Vec<PaddlesReported>> {
        scheduler.store().report_paddles_jobs(batch).await
    }
}

impl Scheduler {
    /// Stores a result that belongs to no task of ours, and tells it.
    ///
    /// # Errors
    /// The database is away, or refuses it.
    pub async fn report_entry(&self, entry: NewEntry) -> Result<Entry> {
        gather::write(self, entry).await
    }

    /// Takes over what is reported of a job, and lets its task follow.
    ///
    /// # Errors
    /// The database is away, or refuses it.
    pub async fn report_paddles_job(&self, report: PaddlesReport) -> Result<PaddlesReported> {
        gather::write(self, report).await
    }
}
