//! Containers of a real engine.

use crate::{
    common::{Commands, Log, clock, container, ended, label, provision, tree, until},
    engine::{self, Engine, Kind, connect},
};
use bollard::query_parameters::{
    ListImagesOptionsBuilder, ListVolumesOptionsBuilder, RemoveImageOptionsBuilder,
};
use model::{
    WorkerName,
    task::Trust,
    task_file::{ContainerWish, Environment, Relaxed, Sizes},
};
use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use taskbot_worker::executor::{
    Allow, AttemptLabel, CollectLimits, ContainerConfig, Containers, DEADLINE_GRACE, ExecError, Executor,
    Exit, Profile, ProvisionError, ProvisionRequest, Provisioned, Pull,
};
use tokio_util::sync::CancellationToken;

/// Makes a test of each of these functions for Docker, and another for Podman.
macro_rules! on_each_engine {
    ($($name:ident),+ $(,)?) => {
        mod docker {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::engine::Kind::Docker).await;
            })+
        }

        mod podman {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::engine::Kind::Podman).await;
            })+
        }
    };
}

on_each_engine! {
    a_whole_attempt,
    codes_and_signals,
    limits_of_time,
    memory_disk_and_processes_are_limited,
    a_hundred_megabytes_without_a_line_end,
    a_run_is_isolated,
    relaxations_are_the_workers_to_grant,
    prepared_layers_are_kept_and_reused,
    an_engine_that_went_away_lets_the_task_down,
    a_second_attempt_starts_like_a_bare_container,
    a_failed_prepare_keeps_nothing,
    hostile_output,
    images_that_cannot_be_had,
    an_image_without_a_shell,
    a_container_dies_by_its_own_deadline,
    a_killed_worker_is_swept_up_after,
    the_living_are_not_swept,
}

struct Bench {
    temp: tempfile::TempDir,
    config: ContainerConfig,
    label: AttemptLabel,
}

impl Bench {
    /// A worker of its own on the engine that all tests share.
    fn new(kind: Kind) -> Self {
        Self::at(engine::socket(kind), &engine::image())
    }

    fn at(socket: PathBuf, image: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let worker = WorkerName::new(label("x", 1).task.to_string());
        let mut config = ContainerConfig::new(worker.clone(), vec![socket], temp.path().join("layers"));
        config.default_image = Some(image.to_owned());
        let label = label(worker.as_str(), 1);
        Self { temp, config, label }
    }

    fn executor(&self) -> Containers {
        Containers::new(self.config.clone(), clock())
    }

    async fn place(&self, sizes: Sizes) -> Box<dyn Provisioned> {
        provision(&self.executor(), &self.label, &container(None, sizes), Trust::Trusted).await.unwrap()
    }

    /// Containers, volumes and images of this worker at the engine.
    async fn left(&self) -> (usize, usize, usize) {
        left(&self.config.sockets[0], self.config.worker.as_str()).await
    }
}

async fn left(socket: &Path, worker: &str) -> (usize, usize, usize) {
    let docker = connect(socket).negotiate_version().await.unwrap();
    let mine = format!("taskbot.worker={worker}");
    let filters = HashMap::from([("label", vec![mine.as_str()])]);
    let containers = engine::containers(socket, &serde_json::json!({"label": [mine]})).await;
    let volumes = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let volumes = docker.list_volumes(Some(volumes)).await.unwrap().volumes.unwrap_or_default().len();
    let filters = HashMap::from([("label", vec![mine.as_str()]), ("reference", vec!["taskbot-attempt"])]);
    let images = ListImagesOptionsBuilder::default().filters(&filters).build();
    (containers, volumes, docker.list_images(Some(images)).await.unwrap().len())
}

const ALL: CollectLimits = CollectLimits { total_bytes: 1 << 20, files: 100 };

async fn a_whole_attempt(kind: Kind) {
    let bench = Bench::new(kind);
    let executor = bench.executor();
    assert!(executor.probe().await.unwrap().version.contains(|c: char| c.is_ascii_digit()));
    let mut place = bench.place(Sizes::default()).await;
    let from = bench.temp.path().join("tree");
    tree(&from);
    place.copy_in(&from).await.unwrap();
    let mut prepare = Commands::new(
        Profile::Install,
        &["test $(id -u) = 0; echo installed > /etc/installed; echo p > prepared"],
    );
    prepare.env.insert("TASKBOT_X".into(), "x y".into());
    let log = Log::default();
    let stop = CancellationToken::new();
    let prepared = place.prepare(&prepare.request(), None, &log, &stop).await.unwrap();
    assert_eq!((prepared.exit, prepared.from_cache), (Exit::Code(0), false), "{}", log.text());
    // Also what comes when there is a container already.
    let more = bench.temp.path().join("more");
    fs::create_dir_all(more.join("deep")).unwrap();
    fs::write(more.join("deep/fetched"), "fetched\n").unwrap();
    place.copy_in(&more).await.unwrap();
    let mut run = Commands::run(&[
        "cat deep/file deep/fetched link prepared /etc/installed \"$TASKBOT_INPUTS\"; id -u; echo \"$TASKBOT_X\" >&2",
        "echo out; echo err >&2; echo out; cd deep; echo x > new; echo p >> ../prepared",
        "mkdir -p logs \"$TASKBOT_OUTPUT\"; echo r > \"$TASKBOT_OUTPUT/r.txt\"; echo l > logs/a.log; pwd; false; echo no",
        "echo not reached",
    ]);
    run.env.insert("TASKBOT_X".into(), "x y".into());
    let text = ended(run.on(&mut place).await, Exit::Code(1));
    let expect = "from the repository\nfetched\nfrom the repository\np\ninstalled\n{\"a\": 1}\n65534\nx y\nout\nerr\nout\n/task/work\n";
    assert_eq!(text, expect);
    let to = bench.temp.path().join("out");
    let collected = place.copy_out(&["logs/*".into()], ALL, &to).await.unwrap();
    let names: Vec<_> = collected.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["logs/a.log", "r.txt"]);
    assert_eq!(fs::read_to_string(to.join("r.txt")).unwrap(), "r\n");
    let only = place.copy_out(&[], ALL, &bench.temp.path().join("only")).await.unwrap();
    assert_eq!(only.files.len(), 1);
    ended(
        Commands::new(Profile::Cleanup, &["test -e deep/new; test $(id -u) = 65534"]).on(&mut place).await,
        Exit::Code(0),
    );
    let report = place.report();
    assert!(report.image_digest.is_some_and(|digest| digest.contains("sha256:")));
    assert_eq!(report.arch, std::env::consts::ARCH);
    assert_eq!(bench.left().await, (1, 1, 1));
    place.destroy().await.unwrap();
    assert_eq!(bench.left().await, (0, 0, 0));
}

async fn codes_and_signals(kind: Kind) {
    let bench = Bench::new(kind);
    let mut place = bench.place(Sizes::default()).await;
    for (line, expect) in [
        ("exit 77", Exit::Code(77)),
        ("kill -TERM $$", Exit::Signal(15)),
        ("kill -KILL $$", Exit::Signal(9)),
        ("no-such-program", Exit::Code(127)),
    ] {
        ended(Commands::run(&[line]).on(&mut place).await, expect);
    }
    ended(Commands::run(&[]).on(&mut place).await, Exit::Code(0));
    place.destroy().await.unwrap();
}

async fn limits_of_time(kind: Kind) {
    let bench = Bench::new(kind);
    let mut place = bench.place(Sizes::default()).await;
    let stubborn =
        "trap '' TERM INT HUP; (trap '' TERM; while :; do sleep 1; done) & while :; do sleep 1; done";
    let hang = Commands::run(&["echo began", stubborn]).limit(Duration::from_secs(2));
    assert_eq!(ended(hang.on(&mut place).await, Exit::TimedOut), "began\n");
    let idle = Commands::run(&["echo began", stubborn]).idle(Duration::from_secs(1));
    ended(idle.on(&mut place).await, Exit::Idle);
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let canceller = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        cancel.cancel();
    });
    ended(Commands::run(&[stubborn]).stoppable(&mut place, &stop).await, Exit::Stopped);
    canceller.await.unwrap();
    ended(Commands::run(&["(sleep 1000 &) ; echo done"]).on(&mut place).await, Exit::Code(0));
    place.destroy().await.unwrap();
    assert_eq!(bench.left().await, (0, 0, 0));
}

async fn memory_disk_and_processes_are_limited(kind: Kind) {
    let bench = Bench::new(kind);
    let sizes = Sizes {
        memory_bytes: Some(64 << 20),
        disk_bytes: Some(8 << 20),
        processes: Some(40),
        ..Sizes::default()
    };
    let mut place = bench.place(sizes).await;
    ended(
        Commands::run(&["x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}"]).on(&mut place).await,
        Exit::Oom,
    );
    // A pass that lost a child to the limit is a pass.
    let survived = "tail -c 200000000 /dev/zero > /dev/null || echo survived";
    assert_eq!(
        ended(Commands::run(&[survived]).on(&mut place).await, Exit::Code(0)).trim(),
        "Killed\nsurvived"
    );
    let fill = "i=0; while :; do head -c 100000 /dev/zero > f$i; i=$((i+1)); done";
    ended(Commands::run(&[fill]).on(&mut place).await, Exit::OutOfDisk);
    ended(Commands::new(Profile::Cleanup, &["rm -f f*"]).on(&mut place).await, Exit::Code(0));
    ended(Commands::run(&["exec head -c 100000000 /dev/zero > big"]).on(&mut place).await, Exit::OutOfDisk);
    ended(Commands::new(Profile::Cleanup, &["rm -f big"]).on(&mut place).await, Exit::Code(0));
    // What `prepare` installs counts, too.
    let install = format!("cd /; {fill}");
    ended(Commands::new(Profile::Install, &[&install]).on(&mut place).await, Exit::OutOfDisk);
    let bomb = Commands::run(&["bomb() { bomb | bomb & }; bomb; sleep 1000"]).limit(Duration::from_secs(3));
    let (exit, log) = bomb.on(&mut place).await;
    let exit = exit.unwrap();
    assert!(matches!(exit, Exit::TimedOut | Exit::Code(1..) | Exit::Signal(_)), "{exit:?} {}", log.text());
    ended(Commands::run(&["echo fine"]).on(&mut place).await, Exit::Code(0));
    place.destroy().await.unwrap();
    assert_eq!(bench.left().await, (0, 0, 0));
}

async fn a_hundred_megabytes_without_a_line_end(kind: Kind) {
    let bench = Bench::new(kind);
    let mut place = bench.place(Sizes::default()).await;
    let (exit, log) = Commands::run(&["head -c 104857600 /dev/zero; echo end >&2"]).on(&mut place).await;
    assert_eq!(exit.unwrap(), Exit::Code(0));
    assert_eq!(log.bytes(), 104_857_600 + 4);
    place.destroy().await.unwrap();
}

async fn a_run_is_isolated(kind: Kind) {
    let bench = Bench::new(kind);
    let mut place = bench.place(Sizes::default()).await;
    for line in [
        "echo x > /x",
        "echo x > /etc/x",
        "echo x > /dev/x",
        "echo x > /sys/kernel/x",
        "mount -t tmpfs none /tmp",
        "chown 0:0 /task/work",
        "test $(id -u) = 0",
        "ls /var/run/docker.sock",
        "test $(ls -d /proc/[0-9]* | wc -l) -gt 15",
        "ls /sys/class/net | grep -v '^lo$'",
        "dd if=/dev/zero of=/tmp/x bs=1M count=1000",
        "mknod /tmp/x b 8 0",
    ] {
        let (exit, log) = Commands::run(&[line]).on(&mut place).await;
        assert!(matches!(exit.unwrap(), Exit::Code(1..)), "{line}: {}", log.text());
    }
    let status = "grep -c '^Cap\\(Eff\\|Prm\\|Bnd\\|Inh\\):.0000000000000000$' /proc/self/status; grep -c '^NoNewPrivs:.1$' /proc/self/status";
    assert_eq!(ended(Commands::run(&[status]).on(&mut place).await, Exit::Code(0)), "4\n1\n");
    ended(
        Commands::run(&["echo x > /tmp/x; echo x > /var/tmp/x; echo x > /task/work/x; echo x > /run/x"])
            .on(&mut place)
            .await,
        Exit::Code(0),
    );
    // `prepare` is root with six capabilities and without new privileges.
    let install = Commands::new(Profile::Install, &["grep '^CapEff' /proc/self/status; echo x > /x"]);
    let text = ended(install.on(&mut place).await, Exit::Code(0));
    assert_eq!(u64::from_str_radix(text.split_whitespace().last().unwrap(), 16).unwrap().count_ones(), 6);
    place.destroy().await.unwrap();
}

async fn relaxations_are_the_workers_to_grant(kind: Kind) {
    let mut bench = Bench::new(kind);
    let wish = |relaxed: Relaxed| {
        Environment::Container(ContainerWish { image: None, sizes: Sizes::default(), relaxed })
    };
    let all =
        Relaxed { network: true, root: true, writable_root: true, capabilities: vec!["NET_ADMIN".into()] };
    let refuse = async |bench: &Bench, trust: Trust, expect: &str| match provision(
        &bench.executor(),
        &bench.label,
        &wish(all.clone()),
        trust,
    )
    .await
    {
        Err(ProvisionError::Unavailable(why)) => assert!(why.contains(expect), "{why}"),
        other => panic!("{:?}", other.err()),
    };
    refuse(&bench, Trust::Trusted, "network, root, writable_root, capability NET_ADMIN: this worker's conf")
        .await;
    bench.config.allow = Allow { network: true, root: true, writable_root: true, capabilities: vec![] };
    refuse(&bench, Trust::Trusted, "asks for capability NET_ADMIN").await;
    bench.config.allow.capabilities.push("NET_ADMIN".into());
    refuse(&bench, Trust::Untrusted, "the task is not trusted").await;
    let mut place =
        provision(&bench.executor(), &bench.label, &wish(all.clone()), Trust::Trusted).await.unwrap();
    assert_eq!(
        place.report().notes,
        ["isolation relaxed: network, root, writable root file system, NET_ADMIN"]
    );
    let line = "test $(id -u) = 0; echo x > /x; echo x > /task/work/x; ls /sys/class/net; grep '^CapEff' /proc/self/status";
    let text = ended(Commands::run(&[line]).on(&mut place).await, Exit::Code(0));
    assert!(text.contains("eth0"), "{text}");
    assert_eq!(u64::from_str_radix(text.split_whitespace().last().unwrap(), 16).unwrap().count_ones(), 7);
    place.destroy().await.unwrap();
}

async fn prepared_layers_are_kept_and_reused(kind: Kind) {
    let mut bench = Bench::new(kind);
    bench.config.layers_max = 1;
    let unique = bench.label.to_string();
    let line = format!("echo {unique} > /etc/installed");
    let prepare = async |key: Option<&str>, lines: &[&str], number: u32| {
        let label = AttemptLabel { attempt: number, ..bench.label.clone() };
        let executor = bench.executor();
        let mut place =
            provision(&executor, &label, &container(None, Sizes::default()), Trust::Trusted).await.unwrap();
        let from = bench.temp.path().join(format!("tree{number}"));
        tree(&from);
        place.copy_in(&from).await.unwrap();
        let commands = Commands::new(Profile::Install, lines);
        let log = Log::default();
        let done = place.prepare(&commands.request(), key, &log, &CancellationToken::new()).await.unwrap();
        assert_eq!(done.exit, Exit::Code(0), "{}", log.text());
        let text =
            ended(Commands::run(&["cat /etc/installed deep/file"]).on(&mut place).await, Exit::Code(0));
        assert_eq!(text, format!("{unique}\nfrom the repository\n"));
        assert_eq!(place.report().prepared_from_cache, done.from_cache);
        place.destroy().await.unwrap();
        (done.from_cache, log.text())
    };
    assert!(!prepare(Some("a"), &[&line], 1).await.0);
    assert!(prepare(Some("a"), &[&line], 2).await.0);
    assert!(!prepare(Some("b"), &[&line], 3).await.0, "another key");
    assert!(!prepare(Some("a"), &[&line, "true"], 4).await.0, "other lines");
    assert!(!prepare(None, &[&line], 5).await.0, "no key");
    // What changes the work folder cannot be taken from a layer.
    let changes = format!("{line}; echo x > built");
    let (cached, log) = prepare(Some("c"), &[&changes], 6).await;
    assert!(!cached && log.contains("changed the work folder"), "{log}");
    assert!(!prepare(Some("c"), &[&changes], 7).await.0);
    let touched = format!("{line}; echo from the repository > deep/file; touch -d @1000000000 deep/file");
    assert!(!prepare(Some("d"), &[&touched], 8).await.0);
    assert!(!prepare(Some("d"), &[&touched], 9).await.0);
    assert!(prepare(Some("b"), &[&line], 10).await.0);
    assert_eq!(bench.left().await, (0, 0, 0));
    // Over the cap, the least recently used go; other workers' layers stay.
    let docker = connect(&bench.config.sockets[0]);
    bench.executor().sweep(&HashSet::new()).await.unwrap();
    let kept: Vec<_> = fs::read_dir(bench.temp.path().join("layers")).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1);
    for tag in kept {
        let name = format!("taskbot-layer:{}", tag.file_name().to_str().unwrap());
        assert!(docker.inspect_image(&name).await.is_ok());
        docker.remove_image(&name, Some(RemoveImageOptionsBuilder::default().build()), None).await.unwrap();
    }
    // A layer that somebody removed is made again.
    assert!(!prepare(Some("b"), &[&line], 11).await.0);
}

/// With a prepared layer an attempt starts in the time of one that has nothing to prepare.
async fn a_second_attempt_starts_like_a_bare_container(kind: Kind) {
    let bench = Bench::new(kind);
    let unique = bench.label.to_string();
    let lines = [format!("sleep 8; echo {unique} > /etc/installed")];
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let attempt = async |number: u32, lines: &[&str]| {
        let began = Instant::now();
        let label = AttemptLabel { attempt: number, ..bench.label.clone() };
        let wish = container(None, Sizes::default());
        let mut place = provision(&bench.executor(), &label, &wish, Trust::Trusted).await.unwrap();
        let from = bench.temp.path().join(format!("tree{number}"));
        tree(&from);
        place.copy_in(&from).await.unwrap();
        if !lines.is_empty() {
            let commands = Commands::new(Profile::Install, lines);
            let log = Log::default();
            let stop = CancellationToken::new();
            place.prepare(&commands.request(), Some("commit"), &log, &stop).await.unwrap();
        }
        ended(Commands::run(&["true"]).on(&mut place).await, Exit::Code(0));
        let took = began.elapsed();
        place.destroy().await.unwrap();
        took
    };
    let first = attempt(1, &lines).await;
    let mut fastest = [Duration::MAX; 2];
    for number in 0..3 {
        fastest[0] = fastest[0].min(attempt(10 + number, &[]).await);
        fastest[1] = fastest[1].min(attempt(20 + number, &lines).await);
    }
    let [bare, second] = fastest;
    assert!(second < bare * 2 && second * 2 < first, "bare {bare:?}, first {first:?}, second {second:?}");
    bench.executor().sweep(&HashSet::new()).await.unwrap();
}

async fn a_failed_prepare_keeps_nothing(kind: Kind) {
    let bench = Bench::new(kind);
    let mut place = bench.place(Sizes::default()).await;
    let commands = Commands::new(Profile::Install, &["echo x > /etc/x; exit 3"]);
    let stop = CancellationToken::new();
    let done = place.prepare(&commands.request(), Some("k"), &Log::default(), &stop).await.unwrap();
    assert_eq!(done.exit, Exit::Code(3));
    ended(Commands::new(Profile::Cleanup, &["test ! -e /etc/x"]).on(&mut place).await, Exit::Code(0));
    place.destroy().await.unwrap();
    assert!(!bench.temp.path().join("layers").exists());
}

async fn hostile_output(kind: Kind) {
    let bench = Bench::new(kind);
    let mut place = bench.place(Sizes::default()).await;
    let line = "mkdir -p .taskbot; rm -rf .taskbot/output; ln -s /etc .taskbot/output; ln -s /etc/passwd a.log; mkfifo b.log; \
                ln -s ../../x c.log; truncate -s 50M hole.log; mkdir locked; echo x > locked/d.log; chmod 0 locked";
    ended(Commands::run(&[line]).on(&mut place).await, Exit::Code(0));
    let to = bench.temp.path().join("out");
    let collected = place.copy_out(&["**".into()], ALL, &to).await.unwrap();
    let names: Vec<_> = collected.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["locked/d.log"]);
    let skipped: Vec<_> = collected.skipped.iter().map(|skipped| skipped.name.as_str()).collect();
    assert_eq!(skipped, ["a.log", "b.log", "c.log", "hole.log"]);
    // The output folder is gone: that is nothing to collect, and no error.
    ended(Commands::run(&["rm -rf .taskbot"]).on(&mut place).await, Exit::Code(0));
    let none = place.copy_out(&[], ALL, &bench.temp.path().join("none")).await.unwrap();
    assert!(none.files.is_empty());
    place.destroy().await.unwrap();
}

async fn images_that_cannot_be_had(kind: Kind) {
    let mut bench = Bench::new(kind);
    let check = async |bench: &Bench, image: Option<&str>, expect: &str| {
        let wish = container(image, Sizes::default());
        match provision(&bench.executor(), &bench.label, &wish, Trust::Trusted).await {
            Err(error) => assert!(error.to_string().contains(expect), "{error}"),
            Ok(_) => panic!("provided {image:?}"),
        }
        assert_eq!(bench.left().await, (0, 0, 0));
    };
    check(&bench, Some("localhost:1/no/such:image"), "image localhost:1/no/such:image cannot be pulled")
        .await;
    check(&bench, Some("--privileged"), "cannot be an image's name").await;
    bench.config.pull = Pull::Never;
    check(&bench, Some("no/such:image"), "pulling is switched off").await;
    bench.config.default_image = None;
    check(&bench, None, "no default").await;
    bench.config.sockets = vec!["/nonexistent/docker.sock".into()];
    let wish = container(Some("x"), Sizes::default());
    let refused = provision(&bench.executor(), &bench.label, &wish, Trust::Trusted).await;
    assert!(matches!(refused, Err(ProvisionError::Unavailable(_))));
    assert!(bench.executor().probe().await.unwrap_err().contains("/nonexistent/docker.sock"));
}

async fn an_engine_that_went_away_lets_the_task_down(kind: Kind) {
    let mut bench = Bench::new(kind);
    let folder = tempfile::tempdir().unwrap();
    let (real, between) = (bench.config.sockets[0].clone(), folder.path().join("engine.sock"));
    let listener = tokio::net::UnixListener::bind(&between).unwrap();
    let proxy = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (mut ours, _) = listener.accept().await.unwrap();
            let mut engine = tokio::net::UnixStream::connect(&real).await.unwrap();
            connections.spawn(async move { tokio::io::copy_bidirectional(&mut ours, &mut engine).await });
        }
    });
    bench.config.sockets = vec![between];
    let executor = bench.executor();
    executor.probe().await.unwrap();
    proxy.abort();
    assert!(proxy.await.unwrap_err().is_cancelled());
    let wish = container(Some("x"), Sizes::default());
    let refused = provision(&executor, &bench.label, &wish, Trust::Trusted).await;
    // Not as if this worker never had one: another attempt may find it.
    assert!(matches!(refused, Err(ProvisionError::Infra(_))), "{:?}", refused.err());
}

async fn an_image_without_a_shell(kind: Kind) {
    let bench = Bench::new(kind);
    let docker = connect(&engine::socket(kind));
    let mut rootfs = tar::Builder::new(Vec::new());
    rootfs.append_path_with_name("/etc/hostname", "file").unwrap();
    engine::import(&docker, "taskbot-test/empty", &rootfs.into_inner().unwrap()).await;
    let wish = container(Some("taskbot-test/empty:latest"), Sizes::default());
    let mut place = provision(&bench.executor(), &bench.label, &wish, Trust::Trusted).await.unwrap();
    let (exit, log) = Commands::run(&["true"]).on(&mut place).await;
    assert!(
        matches!(&exit, Err(ExecError::BadTask(why)) if why.contains("has no shell")),
        "{exit:?} {}",
        log.text()
    );
    place.destroy().await.unwrap();
    assert_eq!(bench.left().await, (0, 0, 0));
}

async fn a_container_dies_by_its_own_deadline(kind: Kind) {
    let bench = Bench::new(kind);
    let wish = container(None, Sizes::default());
    let request = ProvisionRequest {
        label: &bench.label,
        environment: &wish,
        trust: Trust::Trusted,
        limit: Duration::from_secs(60),
        deadline: clock().now() - DEADLINE_GRACE + Duration::from_secs(3),
    };
    let executor = bench.executor();
    let mut place = executor.provision(&request, &Log::default(), &CancellationToken::new()).await.unwrap();
    // Nobody kills it: it is not our time limit that ends it.
    ended(Commands::run(&["sleep 1000"]).on(&mut place).await, Exit::Signal(9));
    drop(place);
    // And anybody's sweep takes it away then.
    let other = Bench::new(kind);
    until("it is swept away", async || {
        other.executor().sweep(&HashSet::new()).await.unwrap();
        bench.left().await == (0, 0, 0)
    })
    .await;
}

#[tokio::test]
async fn an_engine_killed_in_mid_run() {
    let mut engine = Engine::start().await;
    let bench = Bench::at(engine.socket(), "box:latest");
    let mut place = bench.place(Sizes::default()).await;
    let run = tokio::spawn(async move {
        let log = std::sync::Arc::new(Log::default());
        let commands = Commands::run(&["echo up; sleep 1000"]);
        let stop = CancellationToken::new();
        let exit = place.exec(&commands.request(), &*log, &stop).await;
        (exit, log.text(), place)
    });
    let docker = connect(&engine.socket());
    until("the container runs", async || {
        docker.list_containers(None).await.is_ok_and(|running| running.len() == 1)
    })
    .await;
    engine.kill();
    let (exit, text, place) = run.await.unwrap();
    assert!(matches!(&exit, Err(ExecError::Infra(why)) if why.contains("went away")), "{exit:?} {text}");
    assert!(place.destroy().await.is_err());
    // The executor finds an engine that is back by itself, and is quiet without one.
    let executor = bench.executor();
    assert!(executor.probe().await.is_err());
    assert_eq!(executor.sweep(&HashSet::new()).await.unwrap(), Default::default());
}

/// A registry with passwords: what is pulled by which policy, and which digest is told.
#[tokio::test]
async fn a_private_registry() {
    const IMAGE: &str = "localhost:5000/team/box:1";
    let engine = Engine::start().await;
    let _registry = engine.registry(IMAGE).await;
    let mut bench = Bench::at(engine.socket(), IMAGE);
    let file = bench.temp.path().join("config.json");
    let login = |password: &str| {
        let auth = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("user:{password}"));
        fs::write(&file, format!(r#"{{"auths": {{"localhost:5000": {{"auth": "{auth}"}}}}}}"#)).unwrap();
    };
    let docker = connect(&engine.socket());
    let forget = async || {
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        docker.remove_image(IMAGE, Some(options), None).await.unwrap();
    };
    let mut number = 0;
    let mut attempt = async |bench: &Bench, image: &str| {
        number += 1;
        let label = AttemptLabel { attempt: number, ..bench.label.clone() };
        let wish = container(Some(image), Sizes::default());
        let request = ProvisionRequest {
            label: &label,
            environment: &wish,
            trust: Trust::Untrusted,
            limit: Duration::from_secs(60),
            deadline: clock().now() + Duration::from_secs(3600),
        };
        let log = Log::default();
        let executor = bench.executor();
        let mut place = executor
            .provision(&request, &log, &CancellationToken::new())
            .await
            .map_err(|error| error.to_string())?;
        ended(Commands::run(&["true"]).on(&mut place).await, Exit::Code(0));
        let digest = place.report().image_digest.unwrap();
        place.destroy().await.unwrap();
        Ok::<_, String>((digest, log.text().contains("pulling image")))
    };
    forget().await;
    let refused = attempt(&bench, IMAGE).await.unwrap_err();
    assert!(refused.contains("cannot be pulled"), "{refused}");
    bench.config.registry_config = Some(file.clone());
    login("guess");
    let refused = attempt(&bench, IMAGE).await.unwrap_err();
    assert!(refused.contains("cannot be pulled") && refused.contains("unauthorized"), "{refused}");
    login("secret");
    let (digest, pulled) = attempt(&bench, IMAGE).await.unwrap();
    assert!(digest.starts_with("localhost:5000/team/box@sha256:") && pulled, "{digest}");
    assert_eq!(attempt(&bench, IMAGE).await.unwrap(), (digest.clone(), false), "it is there");
    // Somebody pushes another image under the same name.
    engine.push(IMAGE, "newer").await;
    let there = attempt(&bench, IMAGE).await.unwrap();
    bench.config.pull = Pull::Always;
    let (newer, pulled) = attempt(&bench, IMAGE).await.unwrap();
    assert!(pulled && newer != digest, "{there:?} {newer}");
    // By its digest it stays the same.
    let (again, _) = attempt(&bench, &digest).await.unwrap();
    assert_eq!(again, digest);
    bench.config.pull = Pull::Never;
    forget().await;
    let refused = attempt(&bench, IMAGE).await.unwrap_err();
    assert!(refused.contains("pulling is switched off"), "{refused}");
}

#[tokio::test]
async fn an_engine_that_comes_back() {
    let mut first = Engine::start().await;
    let mut bench = Bench::at(first.socket(), "box:latest");
    let second = Engine::start().await;
    bench.config.sockets.push(second.socket());
    let executor = bench.executor();
    assert!(executor.probe().await.unwrap().notes[0].contains(first.socket().to_str().unwrap()));
    first.kill();
    assert!(executor.probe().await.unwrap().notes[0].contains(second.socket().to_str().unwrap()));
}

/// Not a test of its own: the worker that `a_killed_worker_is_swept_up_after` kills.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how the test tells its child what to do")]
async fn child_that_gets_killed() {
    let Ok(order) = std::env::var("TASKBOT_TEST_CHILD_WORKER") else { return };
    let (kind, worker) = order.split_once(' ').unwrap();
    let kind = if kind == "Podman" { Kind::Podman } else { Kind::Docker };
    let mut bench = Bench::new(kind);
    bench.config.worker = WorkerName::new(worker);
    bench.label = label(worker, 1);
    let mut place = bench.place(Sizes::default()).await;
    let prepare = Commands::new(Profile::Install, &["echo x > /x"]);
    place.prepare(&prepare.request(), None, &Log::default(), &CancellationToken::new()).await.unwrap();
    let _ = Commands::run(&["sleep 1000"]).on(&mut place).await;
}

async fn a_killed_worker_is_swept_up_after(kind: Kind) {
    let bench = Bench::new(kind);
    let worker = bench.config.worker.as_str();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "container::child_that_gets_killed"])
        .env("TASKBOT_TEST_CHILD_WORKER", format!("{kind:?} {worker}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the worker's task runs", async || {
        let mine = format!("taskbot.worker={worker}");
        let filters = serde_json::json!({"label": [mine], "status": ["running"]});
        engine::containers(&engine::socket(kind), &filters).await == 1 && bench.left().await.2 == 1
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(bench.left().await, (1, 1, 1));
    let none = HashSet::new();
    // Another worker leaves it alone: its deadline has not passed.
    Bench::new(kind).executor().sweep(&none).await.unwrap();
    assert_eq!(bench.left().await, (1, 1, 1));
    let swept = bench.executor().sweep(&none).await.unwrap();
    assert_eq!((swept.containers, swept.volumes), (1, 1));
    assert_eq!(bench.left().await, (0, 0, 0));
}

async fn the_living_are_not_swept(kind: Kind) {
    let bench = Bench::new(kind);
    let mut place = bench.place(Sizes::default()).await;
    ended(Commands::run(&["true"]).on(&mut place).await, Exit::Code(0));
    let swept = bench.executor().sweep(&[bench.label.clone()].into()).await.unwrap();
    assert_eq!((swept.containers, swept.volumes), (0, 0));
    assert_eq!(bench.left().await, (1, 1, 0));
    place.destroy().await.unwrap();
}
