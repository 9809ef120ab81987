//! Hostile images: what they say of themselves must decide nothing.

use super::{Stand, Victim};
use crate::engine::{self, connect};
use bollard::{
    Docker,
    models::{ContainerConfig, ContainerCreateBody, HealthConfig},
    query_parameters::{
        CommitContainerOptionsBuilder, CreateContainerOptions, ListVolumesOptions, RemoveContainerOptions,
        RemoveImageOptions,
    },
};
use model::requirements::ExecutorKind;

/// An image of a test's own, on the one that all share; removed at the end.
struct Image {
    docker: Docker,
    name: String,
}

impl Image {
    async fn new(config: ContainerConfig) -> Self {
        let docker = connect(&engine::socket(engine::Kind::Docker)).negotiate_version().await.unwrap();
        let name = format!("hostile-{}", uuid::Uuid::from_bytes(super::random()));
        let body = ContainerCreateBody { image: Some(engine::image()), ..ContainerCreateBody::default() };
        let made = docker.create_container(None::<CreateContainerOptions>, body).await.unwrap();
        let options =
            CommitContainerOptionsBuilder::default().container(&made.id).repo(&name).tag("1").build();
        docker.commit_container(options, config).await.unwrap();
        docker.remove_container(&made.id, None::<RemoveContainerOptions>).await.unwrap();
        Self { docker, name: format!("{name}:1") }
    }

    async fn remove(self) {
        self.docker.remove_image(&self.name, None::<RemoveImageOptions>, None).await.unwrap();
    }

    async fn volumes(&self) -> usize {
        let found = self.docker.list_volumes(None::<ListVolumesOptions>).await.unwrap();
        // Those that images bring have no label; nobody else makes such.
        let nobodys = found.volumes.unwrap_or_default().into_iter().filter(|volume| volume.labels.is_empty());
        nobodys.count()
    }
}

fn texts(texts: &[&str]) -> Option<Vec<String>> {
    Some(texts.iter().map(|text| (*text).to_owned()).collect())
}

impl Stand {
    fn of_image(image: &Image, sizes: &str) -> (Self, String) {
        let stand = Self::new(ExecutorKind::Container);
        let environment = format!("environment: {{container: {{image: '{}', {sizes}}}}}", image.name);
        (stand, environment)
    }

    async fn run_in(&self, environment: &str, rest: &str) -> super::Went {
        let repo = self.repository("run: 'true'", &[]);
        std::fs::write(repo.join("task.yaml"), format!("name: t\n{environment}\n{rest}\n")).unwrap();
        self.run_folder(&repo, &super::Control::default(), &Default::default()).await
    }
}

/// Its entry point, command, user, folder, health check and stop signal are not asked for, and its variables
/// cannot stand for ours.
#[tokio::test]
async fn what_an_image_says_of_itself() {
    let victim = Victim::new();
    let evil = "/bin/sh";
    let image = Image::new(ContainerConfig {
        entrypoint: texts(&[evil, "-c", "echo entry point; sleep 100"]),
        cmd: texts(&["echo command"]),
        user: Some("0:0".into()),
        working_dir: Some("/proc/1".into()),
        env: texts(&[
            "LD_PRELOAD=/evil.so",
            "LD_LIBRARY_PATH=/evil",
            "ENV=/evil.sh",
            "BASH_ENV=/evil.sh",
            "IFS=/",
            "TASKBOT_OUTPUT=/evil",
            "TASKBOT_INPUTS=/evil",
            "HOME=/evil",
            "TASKBOT_TASK_NAME=evil",
            "HTTP_PROXY=http://evil.example",
        ]),
        healthcheck: Some(HealthConfig {
            test: texts(&["CMD-SHELL", "echo healthy >> /task/work/health; echo healthy >> /tmp/health"]),
            interval: Some(1_000_000_000),
            timeout: Some(1_000_000_000),
            retries: Some(1),
            ..HealthConfig::default()
        }),
        stop_signal: Some("SIGWINCH".into()),
        shell: texts(&[evil, "-c"]),
        ..ContainerConfig::default()
    })
    .await;
    let (stand, environment) = Stand::of_image(&image, "");
    let went = stand
        .run_in(
            &environment,
            "prepare: echo prepared\nrun: |\n  id -u; pwd; echo \"$TASKBOT_OUTPUT $TASKBOT_INPUTS $HOME $TASKBOT_TASK_NAME\"; sleep 3; ls health /tmp/health || echo no health\n",
        )
        .await;
    went.is("passed", "").logs("65534").logs("/task/work\n");
    went.logs("/task/work/.taskbot/output /task/work/.taskbot/inputs.json /tmp t").logs("no health");
    assert!(!went.log.contains("entry point"), "{}", went.log);
    victim.is_whole();
    stand.clean().await;
    image.remove().await;
}

/// A first program that cannot be found, and one that lies: errors of the task, or failures, never passes.
#[tokio::test]
async fn an_image_whose_path_leads_nowhere() {
    let image =
        Image::new(ContainerConfig { env: texts(&["PATH=/nowhere"]), ..ContainerConfig::default() }).await;
    let (stand, environment) = Stand::of_image(&image, "");
    let went = stand.run_in(&environment, "run: echo hello").await;
    let (outcome, reason) = went.outcome();
    assert!(
        outcome == "passed" || outcome == "error(bad_task)" && reason.contains("has no shell"),
        "{outcome}: {reason}\n{}",
        went.log
    );
    stand.clean().await;
    image.remove().await;
}

/// Volumes of an image are places that could be written to without a limit, and that could hide ours.
#[tokio::test]
async fn volumes_of_an_image() {
    let volumes = texts(&["/data", "/task", "/task/work/.taskbot", "/tmp", "/usr/share/x"]);
    let image = Image::new(ContainerConfig { volumes, ..ContainerConfig::default() }).await;
    let before = image.volumes().await;
    let (stand, environment) = Stand::of_image(&image, "disk: 8M");
    let went = stand
        .run_in(
            &environment,
            "run: |\n  echo result > \"$TASKBOT_OUTPUT/r.txt\"; cat \"$TASKBOT_INPUTS\"; (echo x > /data/x) 2>/dev/null || echo read-only\nartifacts: {paths: ['*.txt']}",
        )
        .await;
    went.is("passed", "");
    assert_eq!(went.artifacts(), ["r.txt"], "{}", went.log);
    for folder in ["/data", "/usr/share/x"] {
        let fill = format!("i=0; while :; do head -c 200000 /dev/zero > {folder}/f$i; i=$((i+1)); done");
        let went = stand
            .run_in(&environment, &format!("prepare: '{fill}'\nrun: 'true'\ntimeout: {{prepare: 30s}}"))
            .await;
        went.is("error(limit)", "prepare used more disk space");
        let went = stand.run_in(&environment, &format!("run: '{fill}'\ntimeout: {{run: 30s}}")).await;
        let (outcome, reason) = went.outcome();
        assert!(
            outcome == "error(limit)"
                || outcome == "failed"
                    && (went.log.contains("ead-only file system") || went.log.contains("ermission denied")),
            "{outcome}: {reason}\n{}",
            went.log
        );
    }
    stand.clean().await;
    assert_eq!(image.volumes().await, before, "volumes were left");
    image.remove().await;
}
