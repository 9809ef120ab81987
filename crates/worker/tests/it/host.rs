//! The executors on this host, each with the same demands.

use crate::common::{Commands, Log, clock, ended, label, local, processes, provision, sandbox, tree, until};
use model::{
    WorkerName,
    requirements::ExecutorKind,
    task::Trust,
    task_file::{Environment, HostWish, Relaxed, Sizes},
};
use std::{
    collections::HashSet,
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};
use taskbot_worker::executor::{
    Allow, CollectLimits, Executor, Exit, HostConfig, Local, NO_ISOLATION, Profile, ProvisionError, Sandbox,
    SandboxConfig, SizeLimits, UIDS,
};
use tokio_util::sync::CancellationToken;

struct Bench {
    temp: tempfile::TempDir,
    kind: ExecutorKind,
    executor: Box<dyn Executor>,
}

impl Bench {
    fn new(kind: ExecutorKind) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let executor = executor(kind, &temp.path().join("attempts"), "bench");
        Self { temp, kind, executor }
    }

    fn wish(&self, sizes: Sizes) -> Environment {
        if self.kind == ExecutorKind::Sandbox { sandbox(sizes) } else { local(sizes) }
    }

    async fn place(&self, sizes: Sizes) -> Box<dyn taskbot_worker::executor::Provisioned> {
        provision(&*self.executor, &label("bench", 1), &self.wish(sizes), Trust::Trusted).await.unwrap()
    }

    fn left(&self) -> usize {
        fs::read_dir(self.temp.path().join("attempts")).map_or(0, Iterator::count)
    }
}

fn executor(kind: ExecutorKind, folder: &Path, worker: &str) -> Box<dyn Executor> {
    let host = HostConfig {
        worker: WorkerName::new(worker),
        folder: folder.to_owned(),
        sizes: SizeLimits::default(),
        allow: Allow { network: true, ..Allow::default() },
    };
    match kind {
        ExecutorKind::Sandbox => {
            let config = SandboxConfig { host, binds: Vec::new(), uids: UIDS };
            Box::new(Sandbox::new(config, clock()))
        }
        _ => Box::new(Local::new(host, false, clock())),
    }
}

const BOTH: [ExecutorKind; 2] = [ExecutorKind::Sandbox, ExecutorKind::Local];

#[tokio::test]
async fn a_whole_attempt() {
    for kind in BOTH {
        let bench = Bench::new(kind);
        assert!(!bench.executor.probe().await.unwrap().version.is_empty());
        let mut place = bench.place(Sizes::default()).await;
        let from = bench.temp.path().join("tree");
        tree(&from);
        place.copy_in(&from).await.unwrap();
        let second = bench.temp.path().join("more");
        fs::create_dir_all(second.join("deep")).unwrap();
        fs::write(second.join("deep/fetched"), "fetched\n").unwrap();
        place.copy_in(&second).await.unwrap();
        let mut prepare = Commands::new(Profile::Install, &["echo prepared > prepared"]);
        prepare.env.insert("TASKBOT_X".into(), "x y".into());
        let log = Log::default();
        let stop = CancellationToken::new();
        let prepared = place.prepare(&prepare.request(), Some("key"), &log, &stop).await.unwrap();
        assert_eq!(prepared.exit, Exit::Code(0), "{}", log.text());
        let mut run = Commands::run(&[
            "cat deep/file deep/fetched prepared link; cat \"$TASKBOT_INPUTS\"",
            "echo \"$TASKBOT_X\" >&2; cd deep; pwd",
            "echo result > \"$TASKBOT_OUTPUT/r.txt\"; mkdir -p logs; echo log > logs/a.log; pwd",
            "false; echo not reached",
            "echo not reached either",
        ]);
        run.env.insert("TASKBOT_X".into(), "x y".into());
        let text = ended(run.on(&mut place).await, Exit::Code(1));
        let work = place.work_dir();
        assert_eq!(
            text,
            format!(
                "from the repository\nfetched\nprepared\nfrom the repository\n{{\"a\": 1}}\nx y\n{work}/deep\n{work}\n"
            ),
        );
        let to = bench.temp.path().join("out");
        let limits = CollectLimits { total_bytes: 1000, files: 10 };
        let collected = place.copy_out(&["logs/*".into()], limits, &to).await.unwrap();
        let names: Vec<_> = collected.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["logs/a.log", "r.txt"]);
        let cleanup = Commands::new(Profile::Cleanup, &["test -e prepared"]);
        ended(cleanup.on(&mut place).await, Exit::Code(0));
        assert_eq!(place.report().notes.iter().any(|note| note == NO_ISOLATION), kind == ExecutorKind::Local);
        place.destroy().await.unwrap();
        assert_eq!(bench.left(), 0);
    }
}

#[tokio::test]
async fn codes_and_signals() {
    for kind in BOTH {
        let bench = Bench::new(kind);
        let mut place = bench.place(Sizes::default()).await;
        for (line, expect) in [
            ("exit 0", Exit::Code(0)),
            ("exit 77", Exit::Code(77)),
            ("kill -TERM $$", Exit::Signal(15)),
            ("kill -KILL $$", Exit::Signal(9)),
            ("no-such-program", Exit::Code(127)),
            ("sh -c 'kill -SEGV $$'", Exit::Signal(11)),
        ] {
            ended(Commands::run(&[line]).on(&mut place).await, expect);
        }
        ended(Commands::run(&[]).on(&mut place).await, Exit::Code(0));
        place.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn limits_of_time() {
    for kind in BOTH {
        let bench = Bench::new(kind);
        let mut place = bench.place(Sizes::default()).await;
        // SIGTERM is of no help against it, and neither is hiding in the background.
        let stubborn = "trap '' TERM INT HUP; (trap '' TERM; while :; do sleep 4321.5; done) & while :; do sleep 4321.5; done";
        let began = Instant::now();
        let hang = Commands::run(&["echo began", stubborn]).limit(Duration::from_secs(1));
        let text = ended(hang.on(&mut place).await, Exit::TimedOut);
        assert_eq!(text, "began\n");
        let idle = Commands::run(&["echo began", stubborn]).idle(Duration::from_millis(500));
        ended(idle.on(&mut place).await, Exit::Idle);
        let stop = CancellationToken::new();
        let cancel = stop.clone();
        let canceller = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            cancel.cancel();
        });
        ended(Commands::run(&[stubborn]).stoppable(&mut place, &stop).await, Exit::Stopped);
        canceller.await.unwrap();
        // Output resets the silence.
        let busy = Commands::run(&["for i in 1 2 3 4 5; do echo $i; sleep 0.3; done"]);
        ended(busy.idle(Duration::from_secs(2)).on(&mut place).await, Exit::Code(0));
        assert!(began.elapsed() < Duration::from_secs(30));
        until("the stubborn are gone", async || processes("sleep\u{0}4321.5") == 0).await;
        place.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn background_processes_do_not_outlive_their_command() {
    for kind in BOTH {
        let bench = Bench::new(kind);
        let mut place = bench.place(Sizes::default()).await;
        let began = Instant::now();
        let line = "setsid sh -c 'sleep 5432.1' </dev/null >/dev/null 2>&1 & echo started";
        ended(Commands::run(&[line]).on(&mut place).await, Exit::Code(0));
        // Also with the pipe held open.
        ended(Commands::run(&["setsid sleep 5432.1 &"]).on(&mut place).await, Exit::Code(0));
        assert!(began.elapsed() < Duration::from_secs(20));
        until("the background is gone", async || processes("sleep\u{0}5432.1") == 0).await;
        place.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn memory_disk_and_processes_are_limited() {
    for kind in BOTH {
        let bench = Bench::new(kind);
        let sizes = Sizes {
            memory_bytes: Some(64 << 20),
            disk_bytes: Some(8 << 20),
            processes: Some(50),
            ..Sizes::default()
        };
        let mut place = bench.place(sizes).await;
        let eat = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}";
        let (exit, log) = Commands::run(&[eat]).on(&mut place).await;
        let report = place.report();
        // Without a control group only the failed allocation is seen.
        let expect = |exit| exit == Exit::Oom || (!report.notes.is_empty() && exit != Exit::Code(0));
        assert!(exit.as_ref().is_ok_and(|exit| expect(*exit)), "{exit:?} {} {report:?}", log.text());
        // Many files: only looking at the folder tells.
        let fill = "i=0; while :; do head -c 100000 /dev/zero > f$i; i=$((i+1)); done";
        ended(Commands::run(&[fill]).on(&mut place).await, Exit::OutOfDisk);
        ended(
            Commands::run(&["rm -f f*; exec head -c 100000000 /dev/zero > big"]).on(&mut place).await,
            Exit::OutOfDisk,
        );
        ended(Commands::run(&["rm -f big"]).on(&mut place).await, Exit::Code(0));
        // A bomb does not bring down the host, and ends with its time.
        let bomb = "bomb() { bomb | bomb & }; bomb; sleep 9876.5";
        let bomb = Commands::run(&[bomb]).limit(Duration::from_secs(3));
        let (exit, log) = bomb.on(&mut place).await;
        let exit = exit.unwrap();
        assert!(matches!(exit, Exit::TimedOut | Exit::Code(_) | Exit::Signal(_)), "{exit:?} {}", log.text());
        until("the bomb is gone", async || processes("9876.5") == 0).await;
        ended(Commands::run(&["echo fine"]).on(&mut place).await, Exit::Code(0));
        place.destroy().await.unwrap();
        assert_eq!(bench.left(), 0);
    }
}

#[tokio::test]
async fn a_hundred_megabytes_without_a_line_end() {
    for kind in BOTH {
        let bench = Bench::new(kind);
        let mut place = bench.place(Sizes::default()).await;
        let (exit, log) = Commands::run(&["head -c 104857600 /dev/zero; echo end >&2"]).on(&mut place).await;
        assert_eq!(exit.unwrap(), Exit::Code(0));
        assert_eq!(log.bytes(), 104_857_600 + 4);
        place.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn the_sandbox_isolates() {
    let bench = Bench::new(ExecutorKind::Sandbox);
    let secret = bench.temp.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let mut place = bench.place(Sizes::default()).await;
    for line in [
        format!("cat {}", secret.display()),
        "echo x > /usr/x".into(),
        "echo x > /etc/x".into(),
        "echo x > /x".into(),
        "echo x > /dev/x".into(),
        "echo x > /var/x".into(),
        "cat /etc/shadow".into(),
        "ls /root /home".into(),
        "mount -t tmpfs none /mnt".into(),
        "chown 0:0 /task".into(),
        "test \"$(id -u)\" = 0".into(),
        // Nobody but ourselves is to be seen.
        "ls -d /proc/[0-9]* | wc -l | { read n; test $n -gt 12; }".into(),
        "grep -qv '0000000000000000' /proc/self/status -e CapEff | grep .".into(),
        "test -n \"$(cat /proc/net/route | tail -n +2)\"".into(),
        "test \"$(ls /sys/class/net 2>/dev/null)\"".into(),
        "env | grep -v '^\\(PATH\\|PWD\\|HOME\\|TMPDIR\\|LANG\\|TASKBOT_[A-Z]*\\|SHLVL\\|_\\|OLDPWD\\)='"
            .into(),
        "head -c 1000000000 /dev/zero > /tmp/x".into(),
        "head -c 1000000000 /dev/zero > /dev/shm/x".into(),
    ] {
        let (exit, log) = Commands::run(&[&line]).on(&mut place).await;
        let exit = exit.unwrap();
        assert!(exit != Exit::Code(0), "{line}: {}", log.text());
    }
    for line in [
        "echo x > /tmp/x",
        "echo x > /task/x",
        "echo x > /dev/null",
        "ls /etc && grep root /etc/passwd",
        "grep -q 'CapEff:.*0000000000000000' /proc/self/status",
        "grep -q 'NoNewPrivs:.1' /proc/self/status",
    ] {
        ended(Commands::run(&[line]).on(&mut place).await, Exit::Code(0));
    }
    place.destroy().await.unwrap();
}

#[tokio::test]
async fn network_only_where_it_is_due() {
    let bench = Bench::new(ExecutorKind::Sandbox);
    let interfaces = "wc -l < /proc/net/dev";
    let host = fs::read_to_string("/proc/net/dev").unwrap().lines().count();
    let count = async |profile: Profile, network: bool| {
        let wish = HostWish {
            programs: vec!["sh".into()],
            sizes: Sizes::default(),
            relaxed: Relaxed { network, ..Relaxed::default() },
        };
        let environment = Environment::Sandbox(wish);
        let label = label("bench", 1);
        let mut place = provision(&*bench.executor, &label, &environment, Trust::Trusted).await.unwrap();
        let text = ended(Commands::new(profile, &[interfaces]).on(&mut place).await, Exit::Code(0));
        place.destroy().await.unwrap();
        text.trim().parse::<usize>().unwrap()
    };
    // Two lines of heading, and the loopback.
    assert_eq!(count(Profile::Run, false).await, 3);
    assert_eq!(count(Profile::Cleanup, false).await, 3);
    assert_eq!(count(Profile::Install, false).await, host);
    assert_eq!(count(Profile::Run, true).await, host);
}

#[tokio::test]
async fn what_cannot_be_had() {
    let bench = Bench::new(ExecutorKind::Sandbox);
    let none = Relaxed::default;
    let check = async |programs: &[&str], sizes: Sizes, relaxed: Relaxed, trust: Trust, expect: &str| {
        let programs = programs.iter().map(|name| (*name).to_owned()).collect();
        let environment = Environment::Sandbox(HostWish { programs, sizes, relaxed });
        match provision(&*bench.executor, &label("bench", 1), &environment, trust).await {
            Err(ProvisionError::Unavailable(why)) => assert!(why.contains(expect), "{why}"),
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{expect}: provided"),
        }
        assert_eq!(bench.left(), 0);
    };
    let small = Sizes::default;
    check(&["sh", "no-such-program"], small(), none(), Trust::Trusted, "lacks the programs no-such-program")
        .await;
    check(&["../sh"], small(), none(), Trust::Trusted, "lacks the programs ../sh").await;
    let huge = Sizes { memory_bytes: Some(1 << 50), ..small() };
    check(&[], huge, none(), Trust::Trusted, "memory 1024 TiB, this worker gives at most").await;
    let network = Relaxed { network: true, ..none() };
    check(&[], small(), network, Trust::Untrusted, "asks for network: the task is not trusted").await;
    let root = Relaxed { root: true, ..none() };
    check(&[], small(), root, Trust::Trusted, "asks for root: this worker's configuration").await;
    let local_bench = Bench::new(ExecutorKind::Local);
    let refused = provision(&*local_bench.executor, &label("w", 1), &local(small()), Trust::Untrusted).await;
    assert!(matches!(refused, Err(ProvisionError::Unavailable(_))));
}

#[tokio::test]
async fn traps_set_by_one_command_for_the_next() {
    let bench = Bench::new(ExecutorKind::Sandbox);
    let victim = bench.temp.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("started"), "kept").unwrap();
    let mut place = bench.place(Sizes::default()).await;
    let line = format!("rm -rf .taskbot; ln -s {} .taskbot; mkdir locked; chmod 0 locked", victim.display());
    ended(Commands::run(&[&line]).on(&mut place).await, Exit::Code(0));
    let from = bench.temp.path().join("tree");
    tree(&from);
    assert!(place.copy_in(&from).await.is_err(), "went through a link");
    ended(Commands::run(&["true"]).on(&mut place).await, Exit::Code(0));
    let limits = CollectLimits { total_bytes: 1000, files: 10 };
    place.copy_out(&["**".into()], limits, &bench.temp.path().join("out")).await.unwrap();
    place.destroy().await.unwrap();
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(victim.join("started")).unwrap(), "kept");
    assert_eq!(bench.left(), 0);
}

#[tokio::test]
async fn bad_requests() {
    let bench = Bench::new(ExecutorKind::Local);
    let mut place = bench.place(Sizes::default()).await;
    for (name, value) in
        [("LD_PRELOAD", "x"), ("PATH", "/x"), ("lower", "x"), ("A=B", "x"), ("", "x"), ("A", "\0")]
    {
        let mut commands = Commands::run(&["true"]);
        commands.env.insert(name.into(), value.into());
        assert!(commands.on(&mut place).await.0.is_err(), "{name}");
    }
    let long = format!("true {}", "x".repeat(200_000));
    let (exit, _) = Commands::run(&[&long]).on(&mut place).await;
    assert!(exit.unwrap_err().to_string().contains("too long"));
    place.destroy().await.unwrap();
}

/// Everything above that the sandbox promises holds for a worker that is not root, too.
#[test]
fn the_sandbox_works_for_a_normal_user() {
    let temp = tempfile::tempdir().unwrap();
    let program = temp.path().join("it");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = std::process::Command::new("setpriv");
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(temp.path(), Some(61_999), Some(61_999)).unwrap();
        command.args(["--reuid", "61999", "--regid", "61999", "--clear-groups"]);
    }
    let output = command
        .arg("--")
        .arg(&program)
        .args(["--exact", "host::a_whole_attempt", "host::the_sandbox_isolates", "host::codes_and_signals"])
        .args(["host::traps_set_by_one_command_for_the_next", "host::limits_of_time"])
        .env("TMPDIR", temp.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("5 passed"), "{said}");
}

/// Not a test of its own: the worker that `a_killed_worker_is_swept_up_after` kills.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how the test tells its child what to do")]
async fn child_that_gets_killed() {
    let Ok(order) = std::env::var("TASKBOT_TEST_CHILD") else { return };
    let (kind, folder) = order.split_once(':').unwrap();
    let kind = if kind == "sandbox" { ExecutorKind::Sandbox } else { ExecutorKind::Local };
    let executor = executor(kind, Path::new(folder), "dead");
    let wish =
        if kind == ExecutorKind::Sandbox { sandbox(Sizes::default()) } else { local(Sizes::default()) };
    let mut place = provision(&*executor, &label("dead", 1), &wish, Trust::Trusted).await.unwrap();
    let line = format!("setsid sleep {} & echo > \"$TASKBOT_WORK/up\"; sleep {}", SLEEP, SLEEP);
    let _ = Commands::run(&[&line]).on(&mut place).await;
}

/// A duration that no other test sleeps.
const SLEEP: &str = "6543.2";

#[tokio::test]
async fn a_killed_worker_is_swept_up_after() {
    for kind in BOTH {
        let bench = Bench::new(kind);
        let folder = bench.temp.path().join("attempts");
        let mut worker = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "host::child_that_gets_killed"])
            .env("TASKBOT_TEST_CHILD", format!("{}:{}", kind.as_str(), folder.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let up = async || {
            let attempts = fs::read_dir(&folder).into_iter().flatten().flatten();
            attempts.into_iter().any(|entry| entry.path().join("work/up").exists())
        };
        until("the worker's task runs", up).await;
        worker.kill().unwrap();
        worker.wait().unwrap();
        let alive = HashSet::new();
        // Another worker leaves it alone: its deadline has not passed.
        let other = executor(kind, &folder, "other");
        assert_eq!(other.sweep(&alive).await.unwrap().folders, 0);
        let same = executor(kind, &folder, "dead");
        let swept = same.sweep(&alive).await.unwrap();
        assert_eq!(swept.folders, 1);
        until("its processes are gone", async || processes(&format!("sleep\u{0}{SLEEP}")) == 0).await;
        assert_eq!(bench.left(), 0);
        assert_eq!(same.sweep(&alive).await.unwrap(), Default::default());
    }
}

#[tokio::test]
async fn the_living_are_not_swept() {
    let bench = Bench::new(ExecutorKind::Sandbox);
    let living = label("bench", 1);
    let mut place =
        provision(&*bench.executor, &living, &sandbox(Sizes::default()), Trust::Trusted).await.unwrap();
    assert_eq!(bench.executor.sweep(&[living].into()).await.unwrap(), Default::default());
    ended(Commands::run(&["true"]).on(&mut place).await, Exit::Code(0));
    place.destroy().await.unwrap();
}
