//! What a program that provides environments must do, tried on one of somebody's own.

use super::{
    super::{
        AttemptLabel, CollectLimits, ExecRequest, Executor, Exit, LogSink, OUTPUT_DIR, Profile,
        ProvisionRequest, Provisioned, SizeLimits,
    },
    Capabilities, External, ExternalConfig, Program, capabilities, command,
    protocol::Request,
    session::{CallError, GIVE_UP_LIMIT, Session},
};
use crate::executor::{Allow, HostConfig};
use chrono::TimeDelta;
use model::{
    Clock, Ids, TaskId, WorkerName,
    task::Trust,
    task_file::{Environment, ExternalWish, Sizes},
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// The name of the program under test, as its tasks call it.
const PROVIDER: &str = "program";
/// How long a command of the test may take; none needs a second.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long a command that sleeps is let run before it is stopped.
const SHORT_LIMIT: Duration = Duration::from_secs(1);
/// How many bytes a command writes to see that none is lost.
const OUTPUT_BYTES: usize = 3 << 20;
/// What is found in the program's surroundings, and must not be in a command's.
const OWN_VARIABLE: &str = "TASKBOT_CONFORMANCE_OWN";

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// What.
    pub name: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// Why it failed or was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// What came of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it must be.
    Passed,
    /// Not as it must be.
    Failed,
    /// Not tried: the program does not offer it, or an earlier case failed.
    Skipped,
}

/// What a case comes to: nothing more to say, or why not.
type Tried = Result<(), Trouble>;

/// Why a case did not pass.
enum Trouble {
    Failed(String),
    Skipped(String),
}

impl<E: std::fmt::Display> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What the cases need.
#[derive(Clone)]
pub struct Surroundings {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// An empty folder.
    pub folder: PathBuf,
    /// How long the program may take to make an environment.
    pub provision_limit: Duration,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Tries all cases on a program, which is told `with` when it makes an environment; `tell` hears of each at once.
pub async fn run(
    mut program: Program,
    with: Map<String, Value>,
    around: Surroundings,
    tell: &mut (dyn FnMut(&Case) + Send),
) -> Vec<Case> {
    program.env.insert(OWN_VARIABLE.to_owned(), "1".to_owned());
    let mut bench = Bench { program, with, around, cases: Vec::new(), tell };
    let Some(found) = bench.first().await else { return bench.cases };
    bench.in_an_environment(&found).await;
    bench.of_ends(&found).await;
    bench.cases
}

struct Bench<'a> {
    program: Program,
    with: Map<String, Value>,
    around: Surroundings,
    cases: Vec<Case>,
    tell: &'a mut (dyn FnMut(&Case) + Send),
}

impl Bench<'_> {
    fn note(&mut self, name: &'static str, began: Instant, tried: Tried) -> bool {
        let (verdict, reason) = match tried {
            Ok(()) => (Verdict::Passed, None),
            Err(Trouble::Failed(why)) => (Verdict::Failed, Some(why)),
            Err(Trouble::Skipped(why)) => (Verdict::Skipped, Some(why)),
        };
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let case = Case { name, verdict, reason, duration_ms };
        (self.tell)(&case);
        self.cases.push(case);
        verdict == Verdict::Passed
    }

    fn executor(&self) -> External {
        let host = HostConfig {
            worker: WorkerName::new("conformance"),
            folder: self.around.folder.clone(),
            sizes: SizeLimits::default(),
            allow: Allow::default(),
        };
        let programs = [(PROVIDER.to_owned(), self.program.clone())].into();
        let config = ExternalConfig { host, programs, time_factor: 1.0 };
        External::new(config, Arc::clone(&self.around.clock))
    }

    fn label(&self) -> AttemptLabel {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.around.ids.secret()[..16]);
        AttemptLabel {
            worker: WorkerName::new("conformance"),
            task: TaskId::new(uuid::Uuid::from_bytes(bytes)),
            attempt: 1,
        }
    }

    async fn provision(
        &self,
        reboot: bool,
        stop: &CancellationToken,
    ) -> Result<Box<dyn Provisioned>, String> {
        let wish = ExternalWish {
            provider: PROVIDER.to_owned(),
            with: self.with.clone(),
            reboot,
            sizes: Sizes::default(),
        };
        let limit = self.around.provision_limit;
        let request = ProvisionRequest {
            label: &self.label(),
            environment: &Environment::External(wish),
            trust: Trust::Trusted,
            limit,
            deadline: self.around.clock.now() + TimeDelta::hours(1),
        };
        let log = Heard::default();
        let made = self.executor().provision(&request, &log, stop).await;
        made.map_err(|error| format!("{error}{}", log.shown()))
    }

    /// A session in which an environment was made, past the executor.
    async fn session(&self, label: &AttemptLabel) -> Result<Session, String> {
        let command = command(
            Command::new(&self.program.command[0]),
            &self.program.command[1..],
            &self.program,
            &self.around.folder,
        );
        let name = label.to_string();
        let session = Session::spawn(PROVIDER, &name, command)?;
        let never = CancellationToken::new();
        let (sizes, limit) = (SizeLimits::default().default, self.around.provision_limit);
        let asked = Request::Provision {
            label: &name,
            worker: label.worker.as_str(),
            task: label.task.to_string(),
            attempt: label.attempt,
            trusted: true,
            with: &self.with,
            memory_bytes: sizes.memory_bytes,
            cpus: sizes.cpus,
            disk_bytes: sizes.disk_bytes,
            processes: sizes.processes,
            limit_s: limit.as_secs(),
            deadline: self.around.clock.now() + TimeDelta::hours(1),
        };
        let made = async {
            capabilities(&session, super::CAPABILITIES_LIMIT, &never).await?;
            session.call(&asked, limit, &Heard::default(), &never).await
        };
        made.await.map_err(said)?;
        Ok(session)
    }

    async fn first(&mut self) -> Option<Capabilities> {
        let began = Instant::now();
        let executor = self.executor();
        let found = executor.aside(PROVIDER, &self.program, async |_, found| Ok(found)).await;
        let (found, tried) = match found {
            Ok(found) => (Some(found), Ok(())),
            Err(why) => (None, Err(Trouble::Failed(why))),
        };
        self.note("says what it can", began, tried);
        let began = Instant::now();
        let asked = executor.aside(PROVIDER, &self.program, async |session, _| {
            let never = CancellationToken::new();
            let limit = super::CAPABILITIES_LIMIT;
            match session.call(&Request::Unknown, limit, &Heard::default(), &never).await {
                Ok(_) => Ok(Err("it was answered with `ok`")),
                Err(CallError::Refused(_)) => capabilities(session, limit, &never).await.map(|_| Ok(())),
                Err(error) => Err(error),
            }
        });
        let tried = match asked.await {
            Ok(answered) => answered.map_err(Trouble::from),
            Err(why) => Err(Trouble::Failed(why)),
        };
        found.as_ref()?;
        self.note("refuses what it does not know, and goes on", began, tried);
        found
    }

    async fn in_an_environment(&mut self, found: &Capabilities) {
        let began = Instant::now();
        let made = self.provision(false, &CancellationToken::new()).await;
        let mut place = match made {
            Ok(place) => {
                self.note("makes an environment", began, Ok(()));
                place
            }
            Err(why) => {
                self.note("makes an environment", began, Err(Trouble::Failed(why)));
                return;
            }
        };
        macro_rules! case {
            ($name:literal, $work:expr) => {{
                let began = Instant::now();
                let tried = $work.await;
                self.note($name, began, tried);
            }};
        }
        let tree = self.around.folder.join("tree");
        case!("takes files in", takes_in(&mut *place, &tree));
        case!("keeps exit codes and signals", keeps_codes(&mut *place));
        case!("gives all of the output, in order", gives_output(&mut *place));
        case!("gives commands their variables and no others", gives_variables(&mut *place));
        case!("gives commands nothing to read", gives_no_input(&mut *place));
        case!("runs `prepare` as it runs `run`", prepares(&mut *place));
        case!("ends what commands leave running", ends_leftovers(&mut *place));
        case!("ends a command when told to, and goes on", stops(&mut *place));
        case!("takes more files in, over those that are there", takes_more(&mut *place, &tree));
        let out = self.around.folder.join("out");
        case!("takes files out", takes_out(&mut *place, &out));
        case!("lets a person in", lets_in(found, &mut *place));
        case!("removes the environment", async { place.destroy().await.map_err(Trouble::from) });
    }

    async fn of_ends(&mut self, found: &Capabilities) {
        let began = Instant::now();
        let tried = reboots(found, self).await;
        self.note("reboots, and keeps the files", began, tried);
        let began = Instant::now();
        let tried = self.ends_at_end_of_input(None).await;
        self.note("ends when its input ends", began, tried);
        let began = Instant::now();
        let argv = ["/bin/sh", "-c", "sleep 600"].map(str::to_owned);
        let tried = self.ends_at_end_of_input(Some(&argv)).await;
        self.note("ends when its input ends while a command runs", began, tried);
        let began = Instant::now();
        let tried = self.two_at_once().await;
        self.note("makes two environments at once", began, tried);
        let began = Instant::now();
        let tried = self.sweeps(found).await;
        self.note("removes what a killed program left", began, tried);
    }

    async fn ends_at_end_of_input(&self, argv: Option<&[String]>) -> Tried {
        let session = self.session(&self.label()).await?;
        if let Some(argv) = argv {
            let env = BTreeMap::from([("PATH".to_owned(), super::host::PATH.to_owned())]);
            session
                .send(&Request::Exec { profile: "run", argv, env: &env, limit_s: 600 })
                .await
                .map_err(said)?;
        }
        if session.close(GIVE_UP_LIMIT).await {
            return Ok(());
        }
        Err(Trouble::Failed(format!("it still runs {} s later", GIVE_UP_LIMIT.as_secs())))
    }

    async fn two_at_once(&self) -> Tried {
        let never = CancellationToken::new();
        let (one, two) = tokio::join!(self.provision(false, &never), self.provision(false, &never));
        let (mut one, mut two) = (one?, two?);
        let tried = async {
            line(&mut *one, "echo one >here", Exit::Code(0)).await?;
            line(&mut *two, "test ! -e here && echo two >here", Exit::Code(0)).await?;
            line(&mut *one, "grep -q one here", Exit::Code(0)).await.map(drop)
        };
        let tried = tried.await;
        let (first, second) = tokio::join!(one.destroy(), two.destroy());
        tried?;
        first?;
        second?;
        Ok(())
    }

    async fn sweeps(&self, found: &Capabilities) -> Tried {
        if !found.sweep {
            return Err(Trouble::Skipped("it does not offer `sweep`".to_owned()));
        }
        let (dead, alive) = (self.label(), self.label());
        let strange = AttemptLabel { worker: WorkerName::new("conformance-other"), ..self.label() };
        let executor = self.executor();
        let worker = WorkerName::new("conformance");
        // What an earlier run left is not this one's.
        executor.sweep_one(PROVIDER, &self.program, &worker, &[]).await?;
        let living = self.session(&alive).await?;
        let strangers = self.session(&strange).await?;
        let session = self.session(&dead).await?;
        session.kill();
        drop(session);
        let swept = executor.sweep_one(PROVIDER, &self.program, &worker, &[alive.to_string()]).await?;
        // What the program keeps nowhere but in itself is gone with it.
        if swept > 1 {
            return Err(Trouble::Failed(format!("{swept} were removed, at most 1 was left")));
        }
        let again = executor.sweep_one(PROVIDER, &self.program, &worker, &[alive.to_string()]).await?;
        if again > 0 {
            return Err(Trouble::Failed(format!("{again} more were removed the second time")));
        }
        let never = CancellationToken::new();
        for (session, whose) in [(living, "that is alive"), (strangers, "of another worker")] {
            let destroyed = session.call(&Request::Destroy, COMMAND_LIMIT, &Heard::default(), &never).await;
            destroyed.map_err(|error| format!("an environment {whose} was removed: {}", said(error)))?;
            session.close(GIVE_UP_LIMIT).await;
        }
        Ok(())
    }
}

fn said(error: CallError) -> String {
    super::super::ExecError::from(error).to_string()
}

/// What a program said to a log.
#[derive(Default)]
struct Heard(Mutex<Vec<u8>>);

impl LogSink for Heard {
    fn write(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }
}

impl Heard {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn shown(&self) -> String {
        let bytes = self.bytes();
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(500)..]).trim().to_owned();
        if text.is_empty() { text } else { format!("; the log: {text}") }
    }
}

/// Runs a line and compares how it ends; what it wrote.
async fn line(place: &mut dyn Provisioned, text: &str, expect: Exit) -> Result<Vec<u8>, String> {
    with_limit(place, text, &BTreeMap::new(), COMMAND_LIMIT, expect).await
}

async fn with_limit(
    place: &mut dyn Provisioned,
    text: &str,
    env: &BTreeMap<String, String>,
    limit: Duration,
    expect: Exit,
) -> Result<Vec<u8>, String> {
    let lines = [text.to_owned()];
    let request = ExecRequest { profile: Profile::Run, lines: &lines, dir: "", env, limit, idle: None };
    let log = Heard::default();
    let ended = place.exec(&request, &log, &CancellationToken::new()).await;
    let ended = ended.map_err(|error| format!("`{text}`: {error}"))?;
    if ended != expect {
        return Err(format!("`{text}` ended with {ended:?}, not with {expect:?}{}", log.shown()));
    }
    Ok(log.bytes())
}

async fn takes_in(place: &mut dyn Provisioned, tree: &Path) -> Tried {
    fs::create_dir_all(tree.join("deep/er"))?;
    fs::write(tree.join("deep/er/file"), "content\n")?;
    fs::write(tree.join("a name with spaces é"), "odd\n")?;
    fs::write(tree.join("script.sh"), "#!/bin/sh\necho from a script\n")?;
    fs::set_permissions(tree.join("script.sh"), fs::Permissions::from_mode(0o755))?;
    std::os::unix::fs::symlink("deep/er/file", tree.join("link"))?;
    place.copy_in(tree).await?;
    let text = "grep -q content link && grep -q odd 'a name with spaces é' && test -d \"$TASKBOT_OUTPUT\" && ./script.sh";
    let heard = line(place, text, Exit::Code(0)).await?;
    if heard != b"from a script\n" {
        return Err(Trouble::Failed(format!("a script wrote {:?}", String::from_utf8_lossy(&heard))));
    }
    Ok(())
}

async fn keeps_codes(place: &mut dyn Provisioned) -> Tried {
    for code in [0, 1, 7, 126] {
        line(place, &format!("exit {code}"), Exit::Code(code)).await?;
    }
    line(place, "kill -9 $$", Exit::Signal(9)).await?;
    Ok(())
}

async fn gives_output(place: &mut dyn Provisioned) -> Tried {
    let heard =
        line(place, "for n in 1 2 3 4 5 6 7 8 9; do echo o$n; echo e$n >&2; done", Exit::Code(0)).await?;
    let expect: String = (1..10).map(|n| format!("o{n}\ne{n}\n")).collect();
    if heard != expect.as_bytes() {
        let heard = String::from_utf8_lossy(&heard).into_owned();
        return Err(Trouble::Failed(format!("standard output and error came as {heard:?}")));
    }
    let text = format!("head -c {OUTPUT_BYTES} /dev/zero; printf '\\377\\n'");
    let heard = line(place, &text, Exit::Code(0)).await?;
    let whole = heard.len() == OUTPUT_BYTES + 2 && heard.ends_with(b"\0\xff\n");
    if !whole {
        let count = heard.len();
        return Err(Trouble::Failed(format!("of {} bytes, {count} came, or changed ones", OUTPUT_BYTES + 2)));
    }
    Ok(())
}

async fn gives_variables(place: &mut dyn Provisioned) -> Tried {
    let odd = "a b\n$(true) `x` 'q' \"r\" ${HOME} \\ é";
    let env = [("ODD".to_owned(), odd.to_owned())].into();
    let heard = with_limit(place, "printf %s \"$ODD\"", &env, COMMAND_LIMIT, Exit::Code(0)).await?;
    if heard != odd.as_bytes() {
        let heard = String::from_utf8_lossy(&heard).into_owned();
        return Err(Trouble::Failed(format!("a variable came as {heard:?}, it is {odd:?}")));
    }
    let own =
        format!("test -z \"${OWN_VARIABLE}\" && test -n \"$PATH\" && test \"$(pwd)\" = \"$TASKBOT_WORK\"");
    line(place, &own, Exit::Code(0)).await?;
    line(place, "test -z \"$ODD\"", Exit::Code(0)).await?;
    Ok(())
}

async fn gives_no_input(place: &mut dyn Provisioned) -> Tried {
    let text = "if read -r line; then echo \"it read: $line\"; exit 1; fi";
    line(place, text, Exit::Code(0)).await?;
    Ok(())
}

async fn prepares(place: &mut dyn Provisioned) -> Tried {
    let lines = ["echo first >prepared".to_owned(), "echo second >>prepared".to_owned()];
    let request = ExecRequest {
        profile: Profile::Install,
        lines: &lines,
        dir: "deep",
        env: &BTreeMap::new(),
        limit: COMMAND_LIMIT,
        idle: None,
    };
    let log = Heard::default();
    let prepared = place.prepare(&request, None, &log, &CancellationToken::new()).await?;
    if prepared.exit != Exit::Code(0) {
        return Err(Trouble::Failed(format!("it ended with {:?}{}", prepared.exit, log.shown())));
    }
    line(place, "grep -q second deep/prepared", Exit::Code(0)).await?;
    Ok(())
}

async fn ends_leftovers(place: &mut dyn Provisioned) -> Tried {
    line(place, "sleep 600 >/dev/null 2>&1 & echo $! >pid", Exit::Code(0)).await?;
    let began = Instant::now();
    // One that holds the output open must not keep the answer back either.
    line(place, "sleep 601 & echo $! >>pid", Exit::Code(0)).await?;
    if began.elapsed() > COMMAND_LIMIT / 2 {
        return Err(Trouble::Failed("a command that left a process running came to no end".to_owned()));
    }
    let alive = "for pid in $(cat pid); do ! grep -qs '[s]leep' /proc/$pid/cmdline || exit 1; done";
    line(place, alive, Exit::Code(0)).await.map_err(|why| format!("processes were left running: {why}"))?;
    Ok(())
}

async fn stops(place: &mut dyn Provisioned) -> Tried {
    let began = Instant::now();
    let text = "trap '' TERM INT HUP; (sleep 602 & echo $! >stopped; wait); sleep 603";
    with_limit(place, text, &BTreeMap::new(), SHORT_LIMIT, Exit::TimedOut).await?;
    let took = began.elapsed();
    line(place, "! grep -qs '[s]leep' /proc/$(cat stopped)/cmdline", Exit::Code(0))
        .await
        .map_err(|why| format!("after {:.1} s: {why}", took.as_secs_f32()))?;
    Ok(())
}

async fn takes_more(place: &mut dyn Provisioned, tree: &Path) -> Tried {
    crate::files::remove(tree)?;
    fs::create_dir_all(tree.join("deep"))?;
    fs::write(tree.join("deep/new"), "new\n")?;
    place.copy_in(tree).await?;
    line(place, "grep -q new deep/new && grep -q content deep/er/file", Exit::Code(0)).await?;
    Ok(())
}

async fn takes_out(place: &mut dyn Provisioned, out: &Path) -> Tried {
    let text = "mkdir \"$TASKBOT_OUTPUT/logs\"; echo log >\"$TASKBOT_OUTPUT/logs/a.log\"; echo b >deep/b.log; echo c >c.txt; \
                ln -s ../../c.txt \"$TASKBOT_OUTPUT/link\"";
    line(place, text, Exit::Code(0)).await?;
    let limits = CollectLimits { total_bytes: 1 << 20, files: 100 };
    let names = async |place: &mut dyn Provisioned, globs: &[String], to: &Path| {
        let collected = place.copy_out(globs, limits, to).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(collected.files.into_iter().map(|file| file.name).collect::<Vec<_>>())
    };
    let found = names(place, &["deep/*.log".to_owned()], out).await?;
    if found != ["deep/b.log", "logs/a.log"] {
        return Err(Trouble::Failed(format!(
            "deep/b.log and logs/a.log were expected, and no link followed; there was {found:?}"
        )));
    }
    if fs::read(out.join("logs/a.log"))? != b"log\n" {
        return Err(Trouble::Failed(format!("{OUTPUT_DIR}/logs/a.log came with another content")));
    }
    line(place, "rm -r \"$TASKBOT_OUTPUT\"", Exit::Code(0)).await?;
    let found = names(place, &[], &out.with_extension("none")).await?;
    if !found.is_empty() {
        return Err(Trouble::Failed(format!("the output folder was removed, and still there was {found:?}")));
    }
    Ok(())
}

async fn lets_in(found: &Capabilities, place: &mut dyn Provisioned) -> Tried {
    if !found.hold {
        return Err(Trouble::Skipped("it does not offer `hold`".to_owned()));
    }
    place.keep().await?;
    line(place, "echo cleaned up", Exit::Code(0)).await?;
    Ok(())
}

async fn reboots(found: &Capabilities, bench: &Bench<'_>) -> Tried {
    if !found.reboot {
        return Err(Trouble::Skipped("it does not offer `reboot`".to_owned()));
    }
    let mut place = bench.provision(true, &CancellationToken::new()).await?;
    let tried = async {
        let tree = bench.around.folder.join("before");
        fs::create_dir_all(&tree)?;
        fs::write(tree.join("file"), "content\n")?;
        place.copy_in(&tree).await?;
        let lines = ["echo prepared >prepared".to_owned()];
        let request = ExecRequest {
            profile: Profile::Install,
            lines: &lines,
            dir: "",
            env: &BTreeMap::new(),
            limit: COMMAND_LIMIT,
            idle: None,
        };
        place.prepare(&request, None, &Heard::default(), &CancellationToken::new()).await?;
        line(&mut *place, "grep -q content file && grep -q prepared prepared", Exit::Code(0)).await?;
        Ok(())
    };
    let tried: Tried = tried.await;
    let destroyed = place.destroy().await;
    tried?;
    destroyed.map_err(Trouble::from)
}
