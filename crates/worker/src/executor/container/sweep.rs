//! Removing what dead workers left at the engine.

use super::{
    super::{AttemptLabel, Swept},
    LABEL_ATTEMPT, LABEL_DEADLINE, LABEL_WORKER,
    engine::{Engine, gone_is_fine, reason},
    image::{ATTEMPT_REPO, Layers},
    run::deadline,
};
use bollard::{
    errors::Error,
    query_parameters::{
        ListImagesOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
        RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
    },
};
use chrono::{DateTime, Utc};
use model::WorkerName;
use std::collections::{HashMap, HashSet};

/// How often it is looked for leftovers in one sweep: what a dead worker asked for last may still come into being, and
/// hold what is to be removed.
const PASSES_MAX: usize = 3;

/// Who is to be swept away.
struct Doomed<'a> {
    worker: &'a WorkerName,
    now: DateTime<Utc>,
    alive: &'a HashSet<AttemptLabel>,
}

impl Doomed<'_> {
    fn is(&self, labels: &HashMap<String, String>) -> bool {
        let Some(attempt) = labels.get(LABEL_ATTEMPT) else { return false };
        let overdue =
            labels.get(LABEL_DEADLINE).and_then(|text| deadline(text)).is_some_and(|time| self.now > time);
        let ours = labels.get(LABEL_WORKER).is_some_and(|name| name == self.worker.as_str());
        let living =
            AttemptLabel::parse(self.worker, attempt).is_some_and(|label| self.alive.contains(&label));
        overdue || ours && !living
    }
}

pub(super) async fn sweep(
    engine: &Engine,
    worker: &WorkerName,
    now: DateTime<Utc>,
    alive: &HashSet<AttemptLabel>,
    layers: &Layers,
) -> Result<Swept, String> {
    let doomed = Doomed { worker, now, alive };
    let (mut swept, mut errors) = (Swept::default(), Vec::new());
    for _ in 0..PASSES_MAX {
        errors.clear();
        let mut note = |what: &str, (removed, wrong): (usize, Option<String>)| {
            errors.extend(wrong.map(|error| format!("{what}: {error}")));
            removed
        };
        // In this order: containers hold volumes and images.
        swept.containers += note("containers", containers(engine, &doomed).await);
        swept.volumes += note("volumes", volumes(engine, &doomed).await);
        swept.images += note("images", images(engine, &doomed).await);
        swept.images += note("layers", counted(layers.trim(engine, worker, now).await));
        if errors.is_empty() {
            return Ok(swept);
        }
    }
    Err(format!("{}: {}", engine.version, errors.join("; ")))
}

fn by_label() -> HashMap<&'static str, Vec<&'static str>> {
    HashMap::from([("label", vec![LABEL_ATTEMPT])])
}

/// How many were removed, and what went wrong with one of the others.
type Removed = (usize, Option<String>);

fn counted(result: Result<usize, String>) -> Removed {
    result.map_or_else(|error| (0, Some(error)), |removed| (removed, None))
}

/// Takes note of a removal: one that cannot be done does not end the sweep.
fn count(removed: &mut Removed, name: &str, result: Result<(), Error>) {
    match gone_is_fine(result) {
        Ok(()) => removed.0 += 1,
        Err(error) => removed.1 = Some(format!("{name}: {}", reason(&error))),
    }
}

async fn containers(engine: &Engine, doomed: &Doomed<'_>) -> Removed {
    let found = match engine.containers(LABEL_ATTEMPT).await {
        Ok(found) => found,
        Err(error) => return (0, Some(error)),
    };
    let mut removed = (0, None);
    for container in found {
        if container.labels.as_ref().is_some_and(|labels| doomed.is(labels)) {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            let id = &container.id;
            count(&mut removed, id, engine.docker.remove_container(id, Some(options)).await);
        }
    }
    removed
}

async fn volumes(engine: &Engine, doomed: &Doomed<'_>) -> Removed {
    let options = ListVolumesOptionsBuilder::default().filters(&by_label()).build();
    let found = match engine.docker.list_volumes(Some(options)).await {
        Ok(found) => found.volumes.unwrap_or_default(),
        Err(error) => return (0, Some(reason(&error))),
    };
    let mut removed = (0, None);
    for volume in found.iter().filter(|volume| doomed.is(&volume.labels)) {
        let options = RemoveVolumeOptionsBuilder::default().force(true).build();
        count(&mut removed, &volume.name, engine.docker.remove_volume(&volume.name, Some(options)).await);
    }
    removed
}

async fn images(engine: &Engine, doomed: &Doomed<'_>) -> Removed {
    let filters = HashMap::from([("reference", vec![ATTEMPT_REPO])]);
    let options = ListImagesOptionsBuilder::default().filters(&filters).build();
    let found = match engine.docker.list_images(Some(options)).await {
        Ok(found) => found,
        Err(error) => return (0, Some(reason(&error))),
    };
    let mut removed = (0, None);
    // An image has the labels of the container that it was committed from.
    for image in found.iter().filter(|image| doomed.is(&image.labels)) {
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        let done = engine.docker.remove_image(&image.id, Some(options), None).await.map(drop);
        count(&mut removed, &image.id, done);
    }
    removed
}
