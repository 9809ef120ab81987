//! A running machine, and waiting for it: for texts on its console, for our agent, for its end.

use super::{
    super::{
        ExecError, LogSink, StartError,
        host::{Place, infra},
    },
    arguments::{CONSOLE_SOCKET, CONTROL_SOCKET, Machine, OUTPUT_SOCKET, PERSON_SOCKET, QMP_SOCKET},
    console::{Console, PANIC_REST},
    guest::{Guest, Input},
    process::Process,
    qmp::{Qmp, connect},
};
use futures_util::FutureExt as _;
use model::{task_file::ConsoleStep, units::format_duration};
use serde_json::json;
use std::{
    fs::File,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How often a machine may reset itself before it is taken for one that goes round in circles.
pub(super) const RESETS_MAX: u32 = 5;
/// The most pictures of one machine.
const PICTURES_MAX: usize = 50;
/// How long the console of a machine that has ended must be silent.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// How many lines of the console a reason quotes.
pub(super) const QUOTED_LINES: usize = 3;

/// A running machine.
pub(super) struct Running {
    pub(super) process: Arc<Process>,
    pub(super) qmp: Qmp,
    pub(super) console: Console,
    pub(super) guest: Option<Guest>,
    /// How much of the console the log has.
    logged: u64,
    /// Up to where no kernel's panic was seen on the console.
    calm_until: u64,
    pictures: PathBuf,
    /// See [`Machine::stays_at_end`].
    stays_at_end: bool,
}

/// Until when something is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) until: Instant,
    pub(super) idle: Option<Duration>,
}

/// Why something that was waited for did not come.
#[derive(Debug)]
pub(super) enum Setback {
    /// The machine ended, panicked or went round in circles.
    Ended(String),
    /// It took too long or was silent for too long.
    TooLong(String),
    /// Cancelled.
    Stopped,
    /// It is our fault.
    Ours(ExecError),
}

impl From<ExecError> for Setback {
    fn from(error: ExecError) -> Self {
        Self::Ours(error)
    }
}

impl Setback {
    /// What that is of a machine that the worker's own image makes, or one of the task's.
    pub(super) fn into_start(self, of_worker: bool) -> StartError {
        match self {
            Self::Ended(why) | Self::TooLong(why) if of_worker => StartError::Infra(why),
            Self::Ended(why) => StartError::Failed(why),
            Self::TooLong(why) => StartError::TimedOut(why),
            Self::Stopped => StartError::Stopped,
            Self::Ours(ExecError::Infra(why)) => StartError::Infra(why),
            Self::Ours(ExecError::BadTask(why)) => StartError::BadTask(why),
        }
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
enum Goal<'a> {
    /// One of these texts on the console, after a position.
    Text(&'a [&'a str], u64),
    /// Our agent.
    Agent,
    /// That the machine switches itself off or resets.
    End,
}

impl Goal<'_> {
    fn what(self) -> String {
        match self {
            Self::Text(texts, _) => format!("waiting for `{}` on the console", texts.join("` or `")),
            Self::Agent => "booting".to_owned(),
            Self::End => "waiting for the machine's end".to_owned(),
        }
    }
}

impl Running {
    /// Starts a machine. `files` is where its console and pictures are kept, `phase` begins their names.
    pub(super) async fn start(
        place: &Place,
        machine: &Machine,
        agent: Option<(&str, Input)>,
        files: &Path,
        phase: &str,
    ) -> Result<Self, ExecError> {
        for name in [QMP_SOCKET, CONSOLE_SOCKET, CONTROL_SOCKET, OUTPUT_SOCKET, PERSON_SOCKET] {
            match std::fs::remove_file(place.root.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(infra(error)),
                _ => {}
            }
        }
        std::fs::create_dir_all(files).map_err(infra)?;
        let process = Process::spawn(place, machine.arch.program, &machine.arguments(), phase)?;
        // By a descriptor of the folder: a socket's path has about a hundred bytes at most.
        let folder = File::open(&place.root).map_err(infra)?;
        let short = |name: &str| PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()));
        let connecting = async {
            let console = connect(&short(CONSOLE_SOCKET)).await?;
            let console = Console::open(console, &files.join(format!("{phase}-console.log")))?;
            let guest = match agent {
                Some((mark, input)) => {
                    Some(Guest::open(&short(CONTROL_SOCKET), &short(OUTPUT_SOCKET), mark, input).await?)
                }
                None => None,
            };
            let qmp = Qmp::open(&short(QMP_SOCKET)).await?;
            Ok::<_, ExecError>((qmp, console, guest))
        };
        let (qmp, console, guest) = tokio::select! {
            connected = connecting => connected?,
            how = process.ended() => {
                return Err(infra(format!("QEMU ended at once ({how}): {}", process.said())));
            }
        };
        Ok(Self {
            process,
            qmp,
            console,
            guest,
            logged: 0,
            calm_until: 0,
            pictures: files.to_owned(),
            stays_at_end: machine.stays_at_end,
        })
    }

    /// After a reset: what a kernel said before is over.
    pub(super) fn begins_again(&mut self) {
        self.calm_until = self.console.news(u64::MAX).1;
    }

    /// Passes on to the log what came on the console.
    pub(super) fn show(&mut self, log: &dyn LogSink) {
        let (news, position) = self.console.news(self.logged);
        self.logged = position;
        if !news.is_empty() {
            log.write(&news);
        }
    }

    /// Comes back when a goal is reached: for a text with its number and the position behind it. Nothing when
    /// it cannot be reached any more.
    async fn goal(&self, goal: Goal<'_>) -> Option<(usize, u64)> {
        match goal {
            Goal::Text(texts, from) => {
                let found = texts.iter().enumerate().find_map(|(number, text)| {
                    self.console.find(text, from).map(|position| (number, position))
                });
                match found {
                    Some(found) => Some(found),
                    None => std::future::pending().await,
                }
            }
            Goal::Agent => match &self.guest {
                Some(guest) => guest.ready().await.then_some((0, 0)),
                None => None,
            },
            Goal::End => {
                self.process.ended().await;
                Some((0, 0))
            }
        }
    }

    /// Waits for something while the machine runs; its console goes to the log.
    async fn reach(
        &mut self,
        goal: Goal<'_>,
        patience: Patience,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<(usize, u64), Setback> {
        let what = &goal.what();
        let (mut came, mut seen) = (self.console.came.clone(), self.qmp.seen.clone());
        let mut last = Instant::now();
        let mut resets = self.qmp.seen.borrow().resets;
        loop {
            came.mark_unchanged();
            seen.mark_unchanged();
            self.show(log);
            let told = seen.borrow().clone();
            if told.resets > resets {
                self.begins_again();
                resets = told.resets;
            }
            let panicked =
                self.console.has_panicked(self.calm_until).map_err(|calm| self.calm_until = calm).is_ok();
            if told.panicked || told.resets > RESETS_MAX {
                let why =
                    if told.panicked { "its kernel panicked" } else { "it resets itself again and again" };
                return Err(Setback::Ended(self.reason(what, why)));
            }
            if self.stays_at_end && told.shutdown.is_some() {
                return self.at_the_end(goal, log).await.ok_or_else(|| Setback::Ended(self.ended(what, "")));
            }
            let silent_until = patience.idle.map_or(patience.until, |idle| last + idle);
            let quiet = tokio::select! {
                biased;
                reached = self.goal(goal) => match reached {
                    Some(reached) => {
                        self.show(log);
                        return Ok(reached);
                    }
                    // The goal's line is closed: the machine is about to be gone.
                    None => {
                        let how = self.process.ended().await;
                        return Err(Setback::Ended(self.ended(what, &how)));
                    }
                },
                Ok(()) = came.changed() => { last = Instant::now(); None }
                Ok(()) = seen.changed() => None,
                how = self.process.ended() => return Err(Setback::Ended(self.ended(what, &how))),
                () = stop.cancelled() => return Err(Setback::Stopped),
                () = sleep_until(patience.until) => Some("it took too long".to_owned()),
                () = sleep_until(last + PANIC_REST), if panicked => {
                    return Err(Setback::Ended(self.reason(what, "its kernel panicked")));
                }
                () = sleep_until(silent_until), if patience.idle.is_some() => {
                    let idle = format_duration(patience.idle.unwrap_or_default());
                    Some(format!("the console was silent for {idle}"))
                }
            };
            if let Some(why) = quiet {
                return Err(Setback::TooLong(self.reason(what, &why)));
            }
        }
    }

    /// What is reached once the machine has ended and QEMU stays: its last words may still be on their way.
    async fn at_the_end(&mut self, goal: Goal<'_>, log: &dyn LogSink) -> Option<(usize, u64)> {
        let mut came = self.console.came.clone();
        while let Ok(Ok(())) = timeout(LAST_WORDS, came.changed()).await {}
        self.show(log);
        match goal {
            Goal::End => Some((0, 0)),
            goal => self.goal(goal).now_or_never().flatten(),
        }
    }

    /// Waits for a text on the console after a position; gives the position behind it.
    pub(super) async fn text(
        &mut self,
        wanted: &[&str],
        from: u64,
        patience: Patience,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<(usize, u64), Setback> {
        self.reach(Goal::Text(wanted, from), patience, log, stop).await
    }

    /// Waits for our agent.
    pub(super) async fn agent(
        &mut self,
        patience: Patience,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<(), Setback> {
        self.reach(Goal::Agent, patience, log, stop).await.map(drop)
    }

    /// Waits until the machine switches itself off or resets.
    pub(super) async fn end(
        &mut self,
        patience: Patience,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<(), Setback> {
        self.reach(Goal::End, patience, log, stop).await.map(drop)
    }

    /// Goes through a dialogue on the console; gives the position behind it.
    pub(super) async fn dialogue(
        &mut self,
        steps: &[ConsoleStep],
        patience: Patience,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<u64, Setback> {
        let mut position = 0;
        for step in steps {
            let patience = Patience { idle: step.idle.or(patience.idle), ..patience };
            (_, position) = self.text(&[&step.until], position, patience, log, stop).await?;
            if let Some(name) = &step.screenshot {
                self.picture(name).await?;
            }
            if let Some(text) = &step.send {
                self.console.send(text).await?;
            }
        }
        Ok(position)
    }

    /// Takes a picture of the screen.
    pub(super) async fn picture(&self, name: &str) -> Result<(), ExecError> {
        let there = std::fs::read_dir(&self.pictures).map_err(infra)?.count();
        if there > PICTURES_MAX {
            return Err(ExecError::BadTask(format!("more than {PICTURES_MAX} pictures of the screen")));
        }
        let path = self.pictures.join(format!("{name}.png"));
        let arguments = json!({"filename": path.display().to_string(), "format": "png"});
        self.qmp.execute("screendump", arguments).await.map(drop)
    }

    fn ended(&self, what: &str, how: &str) -> String {
        let shutdown = self.qmp.seen.borrow().shutdown.clone();
        let why = match shutdown {
            Some(why) => format!("the machine ended ({why})"),
            None => format!("QEMU ended ({how}) {}", self.process.said()),
        };
        self.reason(what, &why)
    }

    fn reason(&self, what: &str, why: &str) -> String {
        let last = self.console.last_lines(QUOTED_LINES);
        if last.is_empty() {
            format!("{what}: {why}")
        } else {
            format!("{what}: {why}; last on its console: {last}")
        }
    }
}
