//! Secrets in real environments: read by commands, in memory, and nowhere else.

use crate::common::{Commands, clock, container, ended, label, local, provision, sandbox};
use crate::engine;
use model::{
    SystemClock, SystemIds, WorkerName,
    protocol::AttemptEnd,
    task::Trust,
    task_file::{Environment, Sizes},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use taskbot_worker::{
    config::{FetchConfig, RunConfig},
    executor::{
        Allow, AttemptLabel, CollectLimits, ContainerConfig, Containers, Executor, Exit, HostConfig, Local,
        Profile, Provisioned, Sandbox, SandboxConfig, SizeLimits, UIDS,
    },
    fetch::Fetcher,
    local_run::{LocalOptions, run_local},
    runner::{Control, Runner},
    secrets::{Secret, SecretSource, Secrets},
};

const VALUE: &str = "hunter2-is-no-secret\n%s \\n";

pub(crate) fn values() -> Arc<[Secret]> {
    let secret = |name: &str, value: &str| Secret { name: name.to_owned(), value: value.into() };
    [secret("token", VALUE), secret("key", "another-one")].into()
}

fn host(folder: &Path, worker: &WorkerName) -> HostConfig {
    let (sizes, allow) = (SizeLimits::default(), Allow::default());
    HostConfig { worker: worker.clone(), folder: folder.join("attempts"), sizes, allow }
}

/// What every executor must do; gives what `/proc/mounts` says of the folder.
async fn given(executor: &dyn Executor, label: &AttemptLabel, environment: &Environment) -> String {
    let mut place = provision(executor, label, environment, Trust::Trusted).await.unwrap();
    place.give_secrets(&values()).unwrap();
    let found = in_place(&mut place).await;
    let all = CollectLimits { total_bytes: 1 << 20, files: 100 };
    let to = tempfile::tempdir().unwrap();
    let collected = place.copy_out(&["**".into()], all, to.path()).await.unwrap();
    assert!(collected.files.is_empty(), "{collected:?}");
    place.destroy().await.unwrap();
    assert!(!Path::new("/dev/shm").join(format!("taskbot-secrets-{label}")).exists());
    found
}

/// Reads them in an environment.
pub(crate) async fn in_place(place: &mut Box<dyn Provisioned>) -> String {
    let prepare = Commands::new(Profile::Install, &["echo \"[$TASKBOT_SECRETS]\""]);
    assert_eq!(ended(prepare.on(place).await, Exit::Code(0)), "[]\n", "`prepare` has none");
    let text = Commands::run(&[
        "cat \"$TASKBOT_SECRETS/token\"; echo; cat \"$TASKBOT_SECRETS/key\"; echo",
        "ls \"$TASKBOT_SECRETS\"; ls -l \"$TASKBOT_SECRETS/key\" | cut -c1-10",
        "! env | grep 'hunter[2]'; ! cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | grep -q 'hunter[2]\\|n[o]ther-one'",
    ]);
    let text = ended(text.on(place).await, Exit::Code(0));
    assert_eq!(text, format!("{VALUE}\nanother-one\nkey\ntoken\n-rw-------\n"));
    let again = Commands::new(Profile::Cleanup, &["cat \"$TASKBOT_SECRETS/key\"; exit 3"]);
    assert_eq!(ended(again.on(place).await, Exit::Code(3)), "another-one");
    let mounts = Commands::run(&[
        "grep \" $TASKBOT_SECRETS \\| /dev/shm \" /proc/mounts; read -r line || echo no more input",
    ]);
    let mounts = ended(mounts.on(place).await, Exit::Code(0));
    assert!(mounts.contains("no more input"), "{mounts}");
    mounts
}

#[tokio::test]
async fn a_container_has_them_in_memory() {
    let temp = tempfile::tempdir().unwrap();
    let worker = WorkerName::new(label("x", 1).task.to_string());
    for kind in [engine::Kind::Docker, engine::Kind::Podman] {
        let mut config =
            ContainerConfig::new(worker.clone(), vec![engine::socket(kind)], temp.path().join("layers"));
        config.default_image = Some(engine::image());
        let executor = Containers::new(config, clock());
        let mounts = given(&executor, &label(worker.as_str(), 1), &container(None, Sizes::default())).await;
        assert!(mounts.contains("tmpfs /run/taskbot-secrets tmpfs"), "{mounts}");
    }
}

#[tokio::test]
async fn a_sandbox_has_them_in_memory() {
    let temp = tempfile::tempdir().unwrap();
    let worker = WorkerName::new("w");
    let config = SandboxConfig { host: host(temp.path(), &worker), binds: Vec::new(), uids: UIDS };
    let executor = Sandbox::new(config, clock());
    let mounts = given(&executor, &label("w", 1), &sandbox(Sizes::default())).await;
    assert!(mounts.contains("tmpfs /run/taskbot-secrets tmpfs"), "{mounts}");
}

#[tokio::test]
async fn without_isolation_they_are_in_the_machines_memory_and_are_swept() {
    let temp = tempfile::tempdir().unwrap();
    let worker = WorkerName::new("w");
    let executor = Local::new(host(temp.path(), &worker), false, clock());
    let mounts = given(&executor, &label("w", 1), &local(Sizes::default())).await;
    assert!(mounts.contains(" /dev/shm tmpfs"), "{mounts}");
    let left = label("w", 2);
    let mut place = provision(&executor, &left, &local(Sizes::default()), Trust::Trusted).await.unwrap();
    place.give_secrets(&values()).unwrap();
    ended(Commands::run(&["true"]).on(&mut place).await, Exit::Code(0));
    let folder = PathBuf::from(format!("/dev/shm/taskbot-secrets-{left}"));
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(folder.join("key").exists());
    // As if its worker had been killed.
    drop(place);
    executor.sweep(&[].into()).await.unwrap();
    assert!(!folder.exists());
}

/// A worker with two secrets, and a task in a folder.
struct Bench {
    here: tempfile::TempDir,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Bench {
    fn new(task: &str) -> Self {
        let here = tempfile::tempdir().unwrap();
        fs::create_dir(here.path().join("repo")).unwrap();
        let task = format!("name: t\nenvironment: {{sandbox: {{}}}}\n{task}");
        fs::write(here.path().join("repo/task.yaml"), task).unwrap();
        Self { here, log: Arc::default() }
    }

    fn secrets(&self, tasks: &str) -> Secrets {
        let source = |secret: &Secret| {
            let file = self.here.path().join(&secret.name);
            fs::write(&file, &secret.value).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            (secret.name.clone(), SecretSource { file, tasks: [tasks.to_owned()].into(), repos: [].into() })
        };
        Secrets(values().iter().map(source).collect())
    }

    /// The outcome with its reason, the log, and how many files were left.
    async fn run(&self, trusted: bool, secrets: Secrets) -> (String, String, usize) {
        let here = self.here.path();
        let fetch = FetchConfig { cache_dir: here.join("fetch"), ..FetchConfig::default() };
        let config = SandboxConfig { host: host(here, &"w".into()), binds: Vec::new(), uids: UIDS };
        let runner = Runner {
            worker: "w".into(),
            config: RunConfig { fetch: fetch.clone(), secrets, ..RunConfig::default() },
            executors: vec![Arc::new(Sandbox::new(config, clock()))],
            git: crate::attempt::git(here),
            fetcher: Arc::new(Fetcher::new(&fetch, Arc::new(SystemClock), Arc::new(SystemIds)).unwrap()),
            clock: clock(),
        };
        let log = Arc::clone(&self.log);
        let out = Box::new(move |bytes: &[u8]| log.lock().unwrap().extend_from_slice(bytes));
        let options =
            LocalOptions { trusted, artifacts_to: Some(here.join("out")), ..LocalOptions::default() };
        let control = Control::default();
        let ended = run_local(&runner, &here.join("repo"), here, &options, out, &control, &SystemIds).await;
        let ended = ended.unwrap();
        let AttemptEnd::Outcome { outcome, reason } = &ended.finish.end else { panic!("{ended:?}") };
        let all = serde_json::to_string(&ended.finish).unwrap();
        let log = String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned();
        for text in [&all, &log] {
            assert!(!text.contains("hunter2") && !text.contains("another-one"), "{text}");
        }
        (format!("{outcome} {}", reason.as_deref().unwrap_or_default()), log, ended.artifacts.len())
    }
}

#[tokio::test]
async fn what_a_task_says_of_them_is_masked() {
    let bench = Bench::new(
        r#"secrets: [token]
run: |
  cd "$TASKBOT_OUTPUT"; key=$(cat "$TASKBOT_SECRETS/key")
  printf another-; sleep 0.3; echo one
  base64 "$TASKBOT_SECRETS/token"; echo "x$key" | base64; od -An -tx1 "$TASKBOT_SECRETS/key" | tr -d ' '
  cat "$TASKBOT_SECRETS/token"; echo "key=$key" > note.txt
  { printf '\0'; cat "$TASKBOT_SECRETS/key"; } > binary
  printf '1..1\nnot ok 1 - said %s\n' "$key" > r.tap
  echo "$key" >&2; exit 1
results: {format: tap, path: r.tap, exit: {1: from-results}}
"#,
    );
    let (outcome, log, files) = bench.run(true, bench.secrets("t")).await;
    assert!(outcome.starts_with("failed failed: t.said [secret key]"), "{outcome}\n{log}");
    assert!(log.matches("[secret key]").count() >= 4, "{log}");
    assert!(
        log.contains("[secret token]") && log.contains("`binary` is left out: it holds a secret"),
        "{log}"
    );
    assert_eq!(files, 2, "{log}");
    let out = bench.here.path().join("out");
    assert_eq!(fs::read_to_string(out.join("note.txt")).unwrap(), "key=[secret key]\n");
    assert!(!out.join("binary").exists());
}

#[tokio::test]
async fn who_may_not_have_them_is_told_and_gets_nothing() {
    let task = "secrets: [token]\nrun: 'false'\n";
    let check = async |task: &str, trusted: bool, secrets: &dyn Fn(&Bench) -> Secrets, expect: &str| {
        let bench = Bench::new(task);
        let (outcome, log, _) = bench.run(trusted, secrets(&bench)).await;
        assert!(outcome.contains(expect), "{outcome}\n{log}");
    };
    let ours = |bench: &Bench| bench.secrets("t");
    check(task, false, &ours, "error(bad_task) the task needs the secret `token`: the task is not trusted")
        .await;
    let none = "run: 'test -z \"$TASKBOT_SECRETS\"; ! ls /run/taskbot-secrets'\n";
    check(none, false, &ours, "passed").await;
    check(task, true, &|_| Secrets::default(), "needs the secret `token`: give it by --secret NAME=FILE")
        .await;
    check(
        task,
        true,
        &|bench| bench.secrets("other"),
        "error(no_worker) this worker's configuration does not give",
    )
    .await;
    let open = |bench: &Bench| {
        let secrets = bench.secrets("t");
        fs::set_permissions(bench.here.path().join("token"), fs::Permissions::from_mode(0o644)).unwrap();
        secrets
    };
    check(task, true, &open, "everybody may use it (mode 644)").await;
}
