//! A task that does nothing in a container, by the worker's executor, against the bare engine API doing create,
//! start, wait and remove.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on panics")]
#![expect(clippy::print_stdout, reason = "its results go to standard output")]

#[path = "common/measure.rs"]
mod measure;

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{CreateContainerOptions, RemoveContainerOptions, WaitContainerOptions},
};
use futures_util::TryStreamExt;
use measure::{median, print, required};
use model::{
    Clock, Ids, SystemClock, SystemIds, TaskId, WorkerName,
    task::Trust,
    task_file::{ContainerWish, Environment, Relaxed, Sizes},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use worker::executor::{
    AttemptLabel, CollectLimits, ContainerConfig, Containers, ExecRequest, Executor, Exit, LogSink, Profile,
    ProvisionRequest,
};

/// How many of each are measured, in turn, after a few that are not.
const ROUNDS: usize = 30;
const WARM_UP: usize = 3;

#[tokio::main]
async fn main() {
    let socket = required("TASKBOT_TEST_DOCKER_SOCKET");
    let image = required("TASKBOT_TEST_DOCKER_IMAGE");
    let docker = Docker::connect_with_unix(&socket, 60, API_DEFAULT_VERSION).unwrap();
    let state = tempfile::tempdir().unwrap();
    let name = WorkerName::new(format!("bench-{}", SystemIds.next().simple()));
    let mut config =
        ContainerConfig::new(name.clone(), vec![PathBuf::from(&socket)], state.path().join("layers"));
    config.default_image = Some(image.clone());
    let executor = Containers::new(config, Arc::new(SystemClock));
    let (mut bare, mut run, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let times = [
            timed(bare_container(&docker, &image)).await,
            timed(attempt(&executor, &name, None)).await,
            timed(attempt(&executor, &name, Some(state.path()))).await,
        ];
        if round >= WARM_UP {
            bare.push(times[0]);
            run.push(times[1]);
            attempts.push(times[2]);
        }
    }
    let floor = median(bare);
    print("container: run nothing", median(run), "ms", Some(floor));
    print("container: files in, run nothing, files out", median(attempts), "ms", Some(floor));
}

/// How long it takes, in milliseconds.
async fn timed(work: impl Future<Output = ()>) -> f64 {
    let begun = Instant::now();
    work.await;
    begun.elapsed().as_secs_f64() * 1000.0
}

/// The engine's API alone, with the isolation that tasks have.
async fn bare_container(docker: &Docker, image: &str) {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec!["true".to_owned()]),
        user: Some("65534:65534".to_owned()),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".to_owned()]),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let id = docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
    docker.start_container(&id, None).await.unwrap();
    let ended: Vec<_> = docker.wait_container(&id, None::<WaitContainerOptions>).try_collect().await.unwrap();
    assert_eq!(ended[0].status_code, 0);
    docker.remove_container(&id, None::<RemoveContainerOptions>).await.unwrap();
}

/// What an attempt does with its environment; with a folder, files are taken in and out too.
async fn attempt(executor: &Containers, worker: &WorkerName, files: Option<&Path>) {
    let label = AttemptLabel { worker: worker.clone(), task: TaskId::new(SystemIds.next()), attempt: 1 };
    let wish = ContainerWish { image: None, sizes: Sizes::default(), relaxed: Relaxed::default() };
    let stop = CancellationToken::new();
    let request = ProvisionRequest {
        label: &label,
        environment: &Environment::Container(wish),
        trust: Trust::Untrusted,
        limit: Duration::from_secs(60),
        deadline: SystemClock.now() + Duration::from_secs(600),
    };
    let mut place = executor.provision(&request, &Silent, &stop).await.unwrap();
    if let Some(folder) = files {
        let from = folder.join("from");
        std::fs::create_dir_all(&from).unwrap();
        std::fs::write(from.join("task.yaml"), "run: \"true\"\n").unwrap();
        place.copy_in(&from).await.unwrap();
    }
    let (lines, env) = (["true".to_owned()], BTreeMap::new());
    let limit = Duration::from_secs(60);
    let request = ExecRequest { profile: Profile::Run, lines: &lines, dir: "", env: &env, limit, idle: None };
    assert_eq!(place.exec(&request, &Silent, &stop).await.unwrap(), Exit::Code(0));
    if let Some(folder) = files {
        let limits = CollectLimits { total_bytes: 1 << 20, files: 100 };
        let to = folder.join("to");
        place.copy_out(&[], limits, &to).await.unwrap();
        std::fs::remove_dir_all(to).unwrap();
    }
    place.destroy().await.unwrap();
}

/// A log that nobody reads.
struct Silent;

impl LogSink for Silent {
    fn write(&self, _: &[u8]) {}
}
