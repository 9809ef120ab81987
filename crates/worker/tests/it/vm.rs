//! Virtual machines: real kernels in real QEMU, by emulation.

mod install;

use crate::common::{Commands, Log, clock, ended, label, processes, provision, tree, until};
use model::{
    SystemIds, WorkerName,
    task::Trust,
    task_file::{ConsoleStep, Environment, Sizes, VmLogin, VmNetwork, VmWish},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};
use taskbot_worker::executor::{
    Allow, CollectLimits, Executor, Exit, HostConfig, Machines, PERSON_SOCKET, Profile, ProvisionError,
    Provisioned, SizeLimits, StartError, VmConfig,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_util::sync::CancellationToken;

/// A file that the tests are given by this variable.
#[expect(clippy::disallowed_methods, reason = "how tests are told of what they need")]
pub(crate) fn given(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: run the tests by `cargo xtask test`"));
    path.into()
}

fn machines(folder: &Path, worker: &str) -> Machines {
    let host = HostConfig {
        worker: WorkerName::new(worker),
        folder: folder.to_owned(),
        sizes: SizeLimits::default(),
        allow: Allow { network: true, ..Allow::default() },
    };
    let config = VmConfig {
        host,
        images: BTreeMap::new(),
        network: BTreeSet::new(),
        time_factor: 3.0,
        kvm: Some(false),
    };
    Machines::new(config, clock(), Arc::new(SystemIds))
}

/// A machine of the test's kernel with BusyBox.
pub(crate) fn kernel_wish() -> VmWish {
    VmWish {
        kernel: Some("boot/vmlinuz".into()),
        initrd: vec!["boot/initrd".into()],
        sizes: Sizes { memory_bytes: Some(192 << 20), disk_bytes: Some(64 << 20), ..Sizes::default() },
        ..VmWish::default()
    }
}

/// The kernel and its initial RAM disk among a task's files.
pub(crate) fn boot_files(work: &Path) {
    fs::create_dir_all(work.join("boot")).unwrap();
    fs::copy(given("TASKBOT_TEST_VM_KERNEL"), work.join("boot/vmlinuz")).unwrap();
    fs::copy(given("TASKBOT_TEST_VM_INITRD"), work.join("boot/initrd")).unwrap();
}

struct Bench {
    temp: tempfile::TempDir,
    machines: Machines,
}

impl Bench {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let machines = machines(&temp.path().join("attempts"), "bench");
        Self { temp, machines }
    }

    /// A machine whose files are there; the work folder as `fill` makes it.
    async fn place(&self, wish: VmWish, fill: impl FnOnce(&Path)) -> Box<dyn Provisioned> {
        let environment = Environment::Vm(Box::new(wish));
        let mut place =
            provision(&self.machines, &label("bench", 1), &environment, Trust::Trusted).await.unwrap();
        let from = self.temp.path().join("tree");
        tree(&from);
        fill(&from);
        place.copy_in(&from).await.unwrap();
        place
    }

    /// The machine with the test's kernel, up.
    async fn up(&self) -> Box<dyn Provisioned> {
        let mut place = self.place(kernel_wish(), boot_files).await;
        let log = Log::default();
        let started = place.start(&log, &CancellationToken::new()).await;
        started.unwrap_or_else(|error| panic!("{error}: {}", log.text()));
        place
    }

    fn left(&self) -> usize {
        fs::read_dir(self.temp.path().join("attempts")).map_or(0, Iterator::count)
    }
}

/// What the other executors do, in one machine: to start one for each would take minutes.
#[tokio::test]
async fn a_whole_attempt() {
    let bench = Bench::new();
    assert!(bench.machines.probe().await.unwrap().version.starts_with("QEMU "));
    let mut place = bench.up().await;
    place.give_secrets(&crate::secrets::values()).unwrap();
    let mounts = crate::secrets::in_place(&mut place).await;
    assert!(mounts.contains("taskbot-secrets /run/taskbot-secrets tmpfs"), "{mounts}");
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
        "for i in 1 2 3; do echo out $i; echo err $i >&2; done; false; echo not reached",
        "echo not reached either",
    ]);
    run.env.insert("TASKBOT_X".into(), "x y".into());
    let text = ended(run.on(&mut place).await, Exit::Code(1));
    let work = place.work_dir();
    assert_eq!(
        text,
        format!(
            "from the repository\nfetched\nprepared\nfrom the repository\n{{\"a\": 1}}\nx y\n{work}/deep\n{work}\nout 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n"
        ),
    );
    // Both ways that scripts come in by, short ones by a port and long ones by the disk, with what a shell could take for
    // something else.
    let long =
        format!("echo '{}' | wc -c; echo \"a\\b  %s `echo c`\"; echo d\n  echo ' e '", "x%\\ ".repeat(3000));
    let odd = "echo \"a\\b  %s `echo c`\"; echo d\n  echo ' e '";
    let odd_text = "a\\b  %s c\nd\n e \n";
    let text = ended(Commands::run(&[&long, odd, &long]).on(&mut place).await, Exit::Code(0));
    assert_eq!(text, format!("12001\n{odd_text}{odd_text}12001\n{odd_text}"));
    codes_and_signals(&mut place).await;
    limits_of_time(&mut place).await;
    background_processes(&mut place).await;
    isolation(&mut place).await;
    // A megabyte without a line end, and bytes that look like our own words.
    let flood = Commands::run(&["head -c 1000000 /dev/zero; printf '\\036x end 1 0 0\\n'; echo end >&2"]);
    let (exit, log) = flood.on(&mut place).await;
    assert_eq!(exit.unwrap(), Exit::Code(0));
    assert_eq!(log.bytes(), 1_000_000 + 13 + 4);
    let to = bench.temp.path().join("out");
    let limits = CollectLimits { total_bytes: 1_000_000, files: 10 };
    let collected = place.copy_out(&["logs/*".into()], limits, &to).await.unwrap();
    let names: Vec<_> = collected.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["logs/a.log", "r.txt", "vm/boot-console.log"], "{:?}", collected.skipped);
    assert_eq!(fs::read_to_string(to.join("r.txt")).unwrap(), "result\n");
    let cleanup = Commands::new(Profile::Cleanup, &["test -e prepared"]);
    ended(cleanup.on(&mut place).await, Exit::Code(0));
    a_person_gets_in(&mut place).await;
    // Memory that is not there; the machine lives on.
    let eat = Commands::run(&[
        "echo 1 > /proc/sys/vm/overcommit_memory; awk 'BEGIN { s = \"x\"; for (;;) s = s s }'",
    ]);
    ended(eat.on(&mut place).await, Exit::Oom);
    // More than fits onto the disk that is read.
    let fill = Commands::run(&[
        "i=0; while [ $i -lt 80 ]; do ln -s /x \"$TASKBOT_OUTPUT/l$i\"; i=$((i+1)); done; echo more > \"$TASKBOT_OUTPUT/more\"",
    ]);
    ended(fill.on(&mut place).await, Exit::Code(0));
    let again = place.copy_out(&[], limits, &bench.temp.path().join("again")).await.unwrap();
    assert!(again.files.iter().any(|file| file.name == "more"), "{again:?}");
    assert!(again.skipped.iter().any(|skipped| skipped.reason.contains("link")), "{again:?}");
    // The machine wrecks itself, and that is told.
    ended(
        Commands::run(&["echo s > /proc/sysrq-trigger; echo o > /proc/sysrq-trigger; sleep 100"])
            .on(&mut place)
            .await,
        Exit::Gone,
    );
    ended(Commands::run(&["true"]).on(&mut place).await, Exit::Gone);
    let rest = place.copy_out(&[], limits, &bench.temp.path().join("rest")).await.unwrap();
    assert_eq!(rest.files.len(), 1, "{rest:?}");
    place.destroy().await.unwrap();
    assert_eq!(bench.left(), 0);
}

/// Kept for a person, without the secrets; then the next command runs as ever.
async fn a_person_gets_in(place: &mut Box<dyn Provisioned>) {
    let enter = place.keep().await.unwrap();
    let folder = enter[0].strip_prefix("taskbot worker enter ").unwrap();
    for _ in 0..2 {
        let mut line = UnixStream::connect(Path::new(folder).join(PERSON_SOCKET)).await.unwrap();
        line.write_all(b"cat prepared; ls -A /run/taskbot-secrets; sleep 7123.4 & echo left $((40 + 2))\n")
            .await
            .unwrap();
        let (mut heard, mut buffer) = (String::new(), [0; 1000]);
        while !heard.contains("left 42") {
            let read = tokio::time::timeout(Duration::from_secs(60), line.read(&mut buffer)).await;
            let count = read.unwrap_or_else(|_| panic!("the machine only said {heard:?}")).unwrap();
            heard += &String::from_utf8_lossy(&buffer[..count]);
        }
        assert!(heard.contains("prepared\n") && !heard.contains("repo-token"), "{heard}");
    }
    let text = ended(
        Commands::run(&["cat prepared; ps | grep -c '[s]leep 7123' || :"]).on(place).await,
        Exit::Code(0),
    );
    assert_eq!(text, "prepared\n0\n", "what the person left is gone");
}

async fn codes_and_signals(place: &mut Box<dyn Provisioned>) {
    for (line, expect) in [
        ("exit 0", Exit::Code(0)),
        ("exit 77", Exit::Code(77)),
        ("kill -TERM $$", Exit::Signal(15)),
        ("kill -KILL $$", Exit::Signal(9)),
        ("no-such-program", Exit::Code(127)),
        ("sh -c 'kill -SEGV $$'", Exit::Signal(11)),
    ] {
        ended(Commands::run(&[line]).on(place).await, expect);
    }
    ended(Commands::run(&[]).on(place).await, Exit::Code(0));
}

async fn limits_of_time(place: &mut Box<dyn Provisioned>) {
    let stubborn = "trap '' TERM INT HUP; (trap '' TERM; while :; do sleep 4321.5; done) & while :; do sleep 4321.5; done";
    let hang = Commands::run(&["echo began", stubborn]).limit(Duration::from_secs(2));
    let began = Instant::now();
    let text = ended(hang.on(place).await, Exit::TimedOut);
    assert_eq!(text, "began\n");
    assert!(began.elapsed() < Duration::from_secs(12), "dead within 10 s");
    let idle = Commands::run(&["echo began", stubborn]).idle(Duration::from_secs(1));
    ended(idle.on(place).await, Exit::Idle);
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    let canceller = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cancel.cancel();
    });
    ended(Commands::run(&[stubborn]).stoppable(place, &stop).await, Exit::Stopped);
    canceller.await.unwrap();
    ended(Commands::run(&["! ps | grep -v grep | grep 4321"]).on(place).await, Exit::Code(0));
}

async fn background_processes(place: &mut Box<dyn Provisioned>) {
    let line = "setsid sh -c 'sleep 5432.1' </dev/null >/dev/null 2>&1 & setsid sleep 5432.1 & env -i sleep 5432.1 & echo started";
    ended(Commands::run(&[line]).on(place).await, Exit::Code(0));
    ended(Commands::run(&["! ps | grep -v grep | grep 5432"]).on(place).await, Exit::Code(0));
}

async fn isolation(place: &mut Box<dyn Provisioned>) {
    for line in [
        // No network card but the loopback, and nothing of the host's disks.
        "test \"$(ls /sys/class/net)\" = lo",
        "test \"$(ls /sys/block | grep -vc '^vd[ab]$')\" = 0",
        "! echo x > /dev/vda",
        "test -z \"$MARK$IN$OUT\"",
        "env | grep -v '^\\(PATH\\|PWD\\|HOME\\|TMPDIR\\|LANG\\|TASKBOT_[A-Z]*\\|SHLVL\\|_\\|OLDPWD\\|TERM\\)=' | grep . && exit 1; true",
        "ls -l /proc/self/fd | grep vport && exit 1; true",
    ] {
        let (exit, log) = Commands::run(&[line]).on(place).await;
        assert_eq!(exit.unwrap(), Exit::Code(0), "{line}: {}", log.text());
    }
}

#[tokio::test]
async fn a_fork_bomb_ends_with_its_machine() {
    let bench = Bench::new();
    let mut place = bench.up().await;
    let bomb = Commands::run(&["bomb() { bomb | bomb & }; bomb; sleep 9876.5"]).limit(Duration::from_secs(3));
    let began = Instant::now();
    let (exit, log) = bomb.on(&mut place).await;
    let exit = exit.unwrap();
    assert!(
        matches!(exit, Exit::TimedOut | Exit::Oom | Exit::Gone | Exit::Code(_)),
        "{exit:?} {}",
        log.text()
    );
    assert!(began.elapsed() < Duration::from_secs(60));
    place.destroy().await.unwrap();
    assert_eq!(bench.left(), 0);
}

#[tokio::test]
async fn a_machine_that_nothing_gets_into_is_known_by_its_console() {
    let bench = Bench::new();
    let step = |until: &str| ConsoleStep { until: until.into(), send: None, screenshot: None, idle: None };
    let wish = |steps: &[&str]| VmWish {
        login: Some(VmLogin::None),
        append: Some("loglevel=7".into()),
        initrd: Vec::new(),
        console: steps.iter().map(|until| step(until)).collect(),
        ..kernel_wish()
    };
    let on = CancellationToken::new();
    let mut place = bench.place(wish(&["Linux version", "Command line: console="]), boot_files).await;
    let log = Log::default();
    place.start(&log, &on).await.unwrap_or_else(|error| panic!("{error}: {}", log.text()));
    assert!(!log.text().contains("rdinit"), "it is the task's own: {}", log.text());
    let (exit, _) = Commands::run(&[]).on(&mut place).await;
    assert_eq!(exit.unwrap(), Exit::Code(0));
    let (limits, to) = (CollectLimits { total_bytes: 1 << 20, files: 10 }, tempfile::tempdir().unwrap());
    let collected = place.copy_out(&[], limits, to.path()).await.unwrap();
    assert_eq!(
        collected.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(),
        ["vm/boot-console.log"]
    );
    place.destroy().await.unwrap();
    // Without a root file system its kernel panics, and what must come does not.
    let mut place = bench.place(wish(&["Linux version", "never said"]), boot_files).await;
    let error = place.start(&Log::default(), &on).await.unwrap_err();
    assert!(matches!(&error, StartError::Failed(why) if why.contains("waiting for `never said`")), "{error}");
    place.destroy().await.unwrap();
    assert_eq!(bench.left(), 0);
}

#[tokio::test]
async fn what_a_task_left_comes_out_of_a_machine_whose_drivers_it_removed() {
    let bench = Bench::new();
    let mut place = bench.up().await;
    let wreck = Commands::run(&["rm -rf /lib", "echo result > \"$TASKBOT_OUTPUT/r.txt\""]);
    ended(wreck.on(&mut place).await, Exit::Code(0));
    let to = bench.temp.path().join("out");
    let limits = CollectLimits { total_bytes: 1 << 20, files: 10 };
    let collected = place.copy_out(&[], limits, &to).await.unwrap();
    assert_eq!(fs::read_to_string(to.join("r.txt")).unwrap(), "result\n", "{:?}", collected.skipped);
    place.destroy().await.unwrap();
}

#[tokio::test]
async fn a_kernel_that_panics_in_the_middle_of_a_command_and_stays() {
    let bench = Bench::new();
    let wish = VmWish { append: Some("quiet panic=0".into()), ..kernel_wish() };
    let mut place = bench.place(wish, boot_files).await;
    let started = place.start(&Log::default(), &CancellationToken::new()).await;
    started.unwrap();
    let began = Instant::now();
    let (exit, log) = Commands::run(&["echo c >/proc/sysrq-trigger; sleep 600"]).on(&mut place).await;
    assert_eq!(exit.unwrap(), Exit::Gone, "{}", log.text());
    assert!(log.text().contains("the machine's kernel panicked"), "{}", log.text());
    assert!(began.elapsed() < Duration::from_secs(120));
    place.destroy().await.unwrap();
    assert_eq!(bench.left(), 0);
}

#[tokio::test]
async fn what_does_not_come_up_says_why() {
    let bench = Bench::new();
    let start = async |wish: VmWish, fill: fn(&Path), stop: &CancellationToken| {
        let mut place = bench.place(wish, fill).await;
        let log = Log::default();
        let error = place.start(&log, stop).await.expect_err("it comes up");
        let limits = CollectLimits { total_bytes: 1 << 20, files: 10 };
        let to = tempfile::tempdir().unwrap();
        let collected = place.copy_out(&[], limits, to.path()).await.unwrap();
        place.destroy().await.unwrap();
        assert_eq!(bench.left(), 0);
        fs::remove_dir_all(bench.temp.path().join("tree")).unwrap();
        let names: Vec<_> = collected.files.into_iter().map(|file| file.name).collect();
        (error, log.text(), names)
    };
    let on = CancellationToken::new();
    let wish = VmWish { kernel: Some("link-out".into()), ..kernel_wish() };
    let out: fn(&Path) = |work| {
        boot_files(work);
        std::os::unix::fs::symlink("/etc/passwd", work.join("link-out")).unwrap();
    };
    let (error, ..) = start(wish, out, &on).await;
    assert!(
        matches!(&error, StartError::BadTask(why) if why.contains("leads out of the work folder")),
        "{error}"
    );
    let wish = VmWish { initrd: vec!["none".into()], ..kernel_wish() };
    let (error, ..) = start(wish, boot_files, &on).await;
    assert!(matches!(&error, StartError::BadTask(why) if why.contains("`none`")), "{error}");
    // Without drivers there is no agent: the machine switches itself off, and its console says why.
    let wish = VmWish {
        initrd: vec!["boot/initrd".into()],
        append: Some("quiet modules=none".into()),
        ..kernel_wish()
    };
    let bare: fn(&Path) = |work| {
        boot_files(work);
        fs::write(work.join("boot/initrd"), "").unwrap();
    };
    let (error, log, files) = start(wish, bare, &on).await;
    assert!(matches!(&error, StartError::Failed(_)), "{error}");
    assert!(log.contains("panic") || error.to_string().contains("panic"), "{error}: {log}");
    assert!(files.contains(&"vm/boot-console.log".to_owned()), "{files:?}");
    // One that stays as it is after a panic does not wait for its limit.
    let wish = VmWish {
        initrd: vec!["boot/initrd".into()],
        append: Some("quiet modules=none panic=0".into()),
        boot: Some(Duration::from_secs(600)),
        ..kernel_wish()
    };
    let (error, ..) = start(wish, bare, &on).await;
    assert!(matches!(&error, StartError::Failed(why) if why.contains("its kernel panicked")), "{error}");
    // Too slow.
    let wish = VmWish { boot: Some(Duration::from_millis(100)), ..kernel_wish() };
    let (error, ..) = start(wish, boot_files, &on).await;
    assert!(matches!(&error, StartError::TimedOut(why) if why.contains("took too long")), "{error}");
    let stop = CancellationToken::new();
    stop.cancel();
    let (error, ..) = start(kernel_wish(), boot_files, &stop).await;
    assert!(matches!(error, StartError::Stopped), "{error}");
}

#[tokio::test]
async fn what_cannot_be_had() {
    let bench = Bench::new();
    let check = async |wish: VmWish, trust: Trust, expect: &str| {
        let environment = Environment::Vm(Box::new(wish));
        match provision(&bench.machines, &label("bench", 1), &environment, trust).await {
            Err(ProvisionError::Unavailable(why)) => assert!(why.contains(expect), "{why}"),
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{expect}: provided"),
        }
        assert_eq!(bench.left(), 0);
    };
    let with = |change: fn(&mut VmWish)| {
        let mut wish = kernel_wish();
        change(&mut wish);
        wish
    };
    check(with(|wish| wish.image = Some("none".into())), Trust::Trusted, "no image `none`; it has: none")
        .await;
    check(with(|wish| wish.arch = Some("vax".into())), Trust::Trusted, "no QEMU for `vax`").await;
    check(with(|wish| wish.sizes.memory_bytes = Some(1 << 50)), Trust::Trusted, "gives at most").await;
    check(with(|wish| wish.network = VmNetwork::All), Trust::Untrusted, "the task is not trusted").await;
    let only = with(|wish| wish.network = VmNetwork::Only(vec!["example.org:80".into()]));
    check(only, Trust::Trusted, "asks to reach example.org:80: this worker's configuration").await;
}

/// Not a test of its own: the worker that `a_killed_worker_leaves_no_machine` kills.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how the test tells its child what to do")]
async fn child_that_gets_killed() {
    let Ok(folder) = std::env::var("TASKBOT_TEST_CHILD_VM") else { return };
    let machines = machines(Path::new(&folder), "dead");
    let environment = Environment::Vm(Box::new(kernel_wish()));
    let mut place = provision(&machines, &label("dead", 1), &environment, Trust::Trusted).await.unwrap();
    let temp = tempfile::tempdir().unwrap();
    boot_files(temp.path());
    place.copy_in(temp.path()).await.unwrap();
    place.start(&Log::default(), &CancellationToken::new()).await.unwrap();
    let _ = Commands::run(&["sleep 100"]).on(&mut place).await;
}

#[tokio::test]
async fn a_killed_worker_leaves_no_machine() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("attempts");
    let mut worker = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "vm::child_that_gets_killed"])
        .env("TASKBOT_TEST_CHILD_VM", &folder)
        .env("TMPDIR", temp.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let text = folder.to_string_lossy().into_owned();
    until("the worker's machine runs", async || processes(&text) > 0).await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert!(processes(&text) > 0, "the machine outlives its worker");
    let alive = HashSet::new();
    // Another worker leaves it alone: its deadline has not passed.
    assert_eq!(machines(&folder, "other").sweep(&alive).await.unwrap().folders, 0);
    let same = machines(&folder, "dead");
    let swept = same.sweep(&alive).await.unwrap();
    assert_eq!((swept.folders, swept.processes > 0), (1, true));
    until("its process is gone", async || processes(&text) == 0).await;
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    assert_eq!(same.sweep(&alive).await.unwrap(), Default::default());
}
