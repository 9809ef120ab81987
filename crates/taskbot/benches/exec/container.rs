//! A task that does nothing in a container, by the worker's executor, against the bare engine API.
//!
//! The floor makes a container with the same isolation (limits, temporary file systems, init, no capabilities, a
//! volume for the work folder, no logs kept), starts it, waits for its end and removes both. With files, the same
//! archives are uploaded and downloaded. It attaches to no output, watches no limits and asks nothing twice.

use crate::{measure::print, quantile::median, services::required, silent::Silent};
use bollard::{
    API_DEFAULT_VERSION, Docker, body_full,
    models::{
        ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
        VolumeCreateRequest,
    },
    query_parameters::{
        CreateContainerOptions, DownloadFromContainerOptionsBuilder, RemoveContainerOptionsBuilder,
        UploadToContainerOptionsBuilder, WaitContainerOptions,
    },
};
use futures_util::TryStreamExt;
use model::{
    Clock, Ids, SystemClock, SystemIds, TaskId, WorkerName,
    task::Trust,
    task_file::{ContainerWish, Environment, Relaxed, Sizes},
};
use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use worker::executor::{
    AttemptLabel, CollectLimits, ContainerConfig, Containers, ExecRequest, Executor, Exit, Profile,
    ProvisionRequest,
};

/// How many of each are measured, in turn, after a few that are not.
const ROUNDS: usize = 30;
const WARM_UP: usize = 3;

pub(crate) async fn run() {
    let socket = required("TASKBOT_TEST_DOCKER_SOCKET");
    let image = required("TASKBOT_TEST_DOCKER_IMAGE");
    let docker = Docker::connect_with_unix(&socket, 60, API_DEFAULT_VERSION).unwrap();
    let state = tempfile::tempdir().unwrap();
    let name = WorkerName::new(format!("bench-{}", SystemIds.next().simple()));
    let mut config =
        ContainerConfig::new(name.clone(), vec![PathBuf::from(&socket)], state.path().join("layers"));
    config.default_image = Some(image.clone());
    let executor = Containers::new(config, Arc::new(SystemClock));
    // The first attempt makes the layer; those that are measured find it.
    attempt(&executor, &name, None, Some("true # prepared")).await;
    let mut times: [Vec<f64>; 5] = Default::default();
    for round in 0..WARM_UP + ROUNDS {
        let measured = [
            timed(bare_container(&docker, &image, false)).await,
            timed(attempt(&executor, &name, None, None)).await,
            timed(bare_container(&docker, &image, true)).await,
            timed(attempt(&executor, &name, Some(state.path()), None)).await,
            timed(attempt(&executor, &name, None, Some("true # prepared"))).await,
        ];
        if round >= WARM_UP {
            times.iter_mut().zip(measured).for_each(|(times, took)| times.push(took));
        }
    }
    let [bare, run, bare_files, files, prepared] = times.map(median);
    print("container: a task that does nothing", files, "ms", Some(bare_files));
    print("container: without any files", run, "ms", Some(bare));
    print("container: without files, prepared before", prepared, "ms", Some(bare));
    executor.sweep(&HashSet::new()).await.unwrap();
}

/// How long it takes, in milliseconds.
async fn timed(work: impl Future<Output = ()>) -> f64 {
    let begun = Instant::now();
    work.await;
    begun.elapsed().as_secs_f64() * 1000.0
}

/// The engine's API alone, with the isolation that tasks have.
async fn bare_container(docker: &Docker, image: &str, files: bool) {
    let volume = format!("bench-{}", SystemIds.next().simple());
    let request = VolumeCreateRequest { name: Some(volume.clone()), ..VolumeCreateRequest::default() };
    docker.create_volume(request).await.unwrap();
    let created = docker.create_container(None::<CreateContainerOptions>, body(image, &volume)).await;
    let id = created.unwrap().id;
    if files {
        let options = UploadToContainerOptionsBuilder::default().path("/task").build();
        docker.upload_to_container(&id, Some(options), body_full(archive().into())).await.unwrap();
    }
    docker.start_container(&id, None).await.unwrap();
    let ended: Vec<_> = docker.wait_container(&id, None::<WaitContainerOptions>).try_collect().await.unwrap();
    assert_eq!(ended[0].status_code, 0);
    if files {
        let options = DownloadFromContainerOptionsBuilder::default().path("/task/work/output").build();
        let got: Vec<_> = docker.download_from_container(&id, Some(options)).try_collect().await.unwrap();
        assert!(!got.is_empty());
    }
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    docker.remove_container(&id, Some(options)).await.unwrap();
    docker.remove_volume(&volume, None::<bollard::query_parameters::RemoveVolumeOptions>).await.unwrap();
}

fn body(image: &str, volume: &str) -> ContainerCreateBody {
    let tmpfs = ["/tmp", "/var/tmp", "/run"]
        .map(|folder| (folder.to_owned(), format!("rw,exec,nosuid,nodev,mode=1777,size={}", 1 << 28)));
    let work = Mount {
        target: Some("/task".to_owned()),
        source: Some(volume.to_owned()),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
        ..Mount::default()
    };
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["sh".to_owned()]),
        cmd: Some(vec!["-c".to_owned(), "true".to_owned()]),
        user: Some("65534:65534".to_owned()),
        host_config: Some(HostConfig {
            memory: Some(1 << 30),
            memory_swap: Some(1 << 30),
            nano_cpus: Some(1_000_000_000),
            pids_limit: Some(512),
            network_mode: Some("none".to_owned()),
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            tmpfs: Some(tmpfs.into()),
            init: Some(true),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            mounts: Some(vec![work]),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// The work folder of a task with one file.
fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for folder in ["work/", "work/output/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o777);
        header.set_size(0);
        builder.append_data(&mut header, folder, std::io::empty()).unwrap();
    }
    let file = &b"run: \"true\"\n"[..];
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(file.len() as u64);
    builder.append_data(&mut header, "work/task.yaml", file).unwrap();
    builder.into_inner().unwrap()
}

/// What an attempt does with its environment; with a folder, files are taken in and out too.
async fn attempt(executor: &Containers, worker: &WorkerName, files: Option<&Path>, prepare: Option<&str>) {
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
    if let Some(line) = prepare {
        let lines = [line.to_owned()];
        let (profile, env) = (Profile::Install, BTreeMap::new());
        let request = ExecRequest { profile, lines: &lines, dir: "", env: &env, limit, idle: None };
        place.prepare(&request, Some("bench"), &Silent, &stop).await.unwrap();
    }
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
