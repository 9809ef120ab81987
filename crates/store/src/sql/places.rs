//! Making queues, lanes and batches before the transaction that needs them.

use super::{
    SqlStore,
    lanes::{Lane, hash_of},
    session::transaction,
    value::{json, values},
};
use crate::{NewTask, Result};
use model::{
    Requirements,
    ids::{BatchId, QueueName},
};
use std::collections::BTreeSet;

/// What tasks want to be there.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    queues: BTreeSet<QueueName>,
    lanes: BTreeSet<(QueueName, Requirements)>,
    batches: BTreeSet<String>,
}

impl Wanted {
    /// What these tasks want. One that waits for something gets its lane later.
    pub(crate) fn by<'a>(tasks: impl IntoIterator<Item = &'a NewTask>) -> Self {
        let mut wanted = Self::default();
        for task in tasks {
            wanted.queues.insert(task.queue.clone());
            if task.wait.is_none() {
                wanted.lanes.insert((task.queue.clone(), task.needs.clone()));
            }
            wanted.batches.extend(task.batch.clone());
        }
        wanted
    }
}

impl SqlStore {
    /// Makes what is missing.
    pub(crate) async fn make_places(&self, wanted: Wanted) -> Result<()> {
        let Wanted { queues, lanes, batches } = wanted;
        for queue in queues {
            self.make_queue(&queue).await?;
        }
        for (queue, needs) in lanes {
            self.make_lane(&queue, &needs).await?;
        }
        for batch in batches {
            self.make_batch(&batch).await?;
        }
        Ok(())
    }

    async fn make_queue(&self, queue: &QueueName) -> Result<()> {
        if self.known().queues.contains(queue) {
            return Ok(());
        }
        let sql = "insert into queue (name) values ($1) on conflict (name) do nothing";
        transaction!(self, |session| session.run(sql, values![queue]))?;
        self.known().queues.insert(queue.clone());
        Ok(())
    }

    /// The lane of a queue for tasks with these needs.
    pub(crate) async fn make_lane(&self, queue: &QueueName, needs: &Requirements) -> Result<i64> {
        if let Some(id) = self.lane_id(queue, needs) {
            return Ok(id);
        }
        self.make_queue(queue).await?;
        let (text, hash) = (json(needs)?, hash_of(needs)?);
        let insert = "insert into lane (queue, hash, requirements) values ($1, $2, $3) \
            on conflict (queue, hash) do nothing";
        transaction!(self, |session| session.run(insert, values![queue, hash, text.as_str()]))?;
        let select = "select id from lane where queue = $1 and hash = $2";
        let id = self.read().await?.one(select, values![queue, hash]).await?.int("id")?;
        self.known().add_lane(Lane { id, queue: queue.clone(), needs: needs.clone() });
        Ok(id)
    }

    /// The lane, when it is known.
    pub(crate) fn lane_id(&self, queue: &QueueName, needs: &Requirements) -> Option<i64> {
        self.known().lane_ids.get(queue).and_then(|lanes| lanes.get(needs)).copied()
    }

    async fn make_batch(&self, name: &str) -> Result<()> {
        if self.batch_id(name).is_some() {
            return Ok(());
        }
        let insert = "insert into batch (id, name, tasks, final_tasks, created_at) values ($1, $2, 0, 0, $3) \
            on conflict (name) do nothing";
        let id = BatchId::new(self.ids.next());
        transaction!(self, |session| {
            let now = session.now;
            session.run(insert, values![id, name, now])
        })?;
        let row = self.read().await?.one("select id from batch where name = $1", values![name]).await?;
        self.known().batches.insert(name.to_owned(), row.id("id")?.into());
        Ok(())
    }

    /// The batch of a name, when it is known.
    pub(crate) fn batch_id(&self, name: &str) -> Option<BatchId> {
        self.known().batches.get(name).copied()
    }
}
