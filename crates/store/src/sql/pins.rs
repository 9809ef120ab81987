//! Commits that are pinned for an event: the first task that is resolved decides for all of the same repository.

use super::{session::Session, value::values};
use crate::{Result, StoreError};
use model::{
    Task,
    task::{Origin, Repo, TaskKind},
};
use sha2::{Digest, Sha256};

const PINNED: &str = "select p.commit_id from task t join commit_pin p on p.event_seq = t.event_seq \
    and p.generation = t.generation and p.repo = $2 where t.id = $1";
const PIN: &str = "insert into commit_pin (event_seq, generation, repo, commit_id) \
    select t.event_seq, t.generation, $2, $3 from task t where t.id = $1 \
    on conflict (event_seq, generation, repo) do nothing";

/// What a task's commit is pinned by, with the hash that stands for it; nothing for tasks that no rule wished: a
/// person who asks for the newest commit gets it.
fn pin_of(task: &Task) -> Option<[u8; 32]> {
    match (&task.kind, &task.origin) {
        (TaskKind::Repo { repo, .. }, Origin::Rule { .. }) => Some(hash_of(repo)),
        _ => None,
    }
}

fn hash_of(repo: &Repo) -> [u8; 32] {
    let mut hash = Sha256::new();
    let parts = [Some(&repo.git), repo.reference.as_ref(), repo.path.as_ref()];
    for part in parts {
        // A missing part is another thing than an empty one.
        hash.update([u8::from(part.is_some())]);
        let part = part.map_or("", String::as_str);
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The commit that is pinned for a task.
pub(crate) async fn pinned(session: &mut Session, task: &Task) -> Result<Option<String>> {
    let Some(repo) = pin_of(task) else { return Ok(None) };
    let row = session.first(PINNED, values![task.id, repo]).await?;
    row.map(|row| row.text("commit_id")).transpose()
}

/// Pins a commit for a task's event. `false` when another one was pinned before.
pub(crate) async fn pin(session: &mut Session, task: &Task, commit: &str) -> Result<bool> {
    let Some(repo) = pin_of(task) else { return Ok(true) };
    if session.run(PIN, values![task.id, repo, commit]).await? > 0 {
        return Ok(true);
    }
    let pinned = pinned(session, task).await?.ok_or_else(|| StoreError::Inconsistent {
        table: "commit_pin",
        message: format!("what pins the commit of {} is neither new nor there", task.id),
    })?;
    Ok(pinned == commit)
}
