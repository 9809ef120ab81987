//! A Docker engine of its own, in namespaces that end with it, and the image that tests run.
//!
//! Network, mounts and processes of the engine and its containers are in namespaces of their own: nothing of
//! them shows on the host, they reach nothing outside, and one SIGKILL leaves nothing of them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::daemon::{Daemon, Stop};
use super::engine_api::Engine;
use super::{Cleanup, Context, Running, START_TIMEOUT, image};
use crate::environment::{find_program, variable};
use crate::install::Privilege;

pub(super) const SOCKET: &str = "TASKBOT_TEST_DOCKER_SOCKET";
const IMAGE: &str = "TASKBOT_TEST_DOCKER_IMAGE";
const DOCKERD: &str = "TASKBOT_TEST_DOCKERD";

/// How long the kernel may take to end all processes of the engine's namespace.
const NAMESPACE_STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs inside of the namespaces, with a folder and the engine's command. A containerd of the host must not be
/// used: its containers would be outside. The engine's own leaves reports in the temporary folder.
const PREPARE: &str = r#"
export TMPDIR="$1"; shift
if [ -d /run/containerd ]; then mount -t tmpfs tmpfs /run/containerd; fi
exec "$@""#;

pub(super) fn start(context: &Context) -> Result<Running> {
    let dockerd = match variable(DOCKERD) {
        Some(program) => PathBuf::from(program),
        None => find_program("dockerd").context("there is no dockerd")?,
    };
    let dockerd_export = (DOCKERD, dockerd.display().to_string());
    if let Some(socket) = &context.existing {
        let socket = PathBuf::from(socket.strip_prefix("unix://").unwrap_or(socket));
        let engine = Engine::new(&socket);
        engine.ping().with_context(|| format!("no engine answers at {}", socket.display()))?;
        let (image, cleanup) = match variable(IMAGE) {
            Some(image) => (image, Cleanup::default()),
            None if image::provide(&engine, context)? => {
                let cleanup = Cleanup::new(move || image::remove(&engine));
                (image::NAME.to_owned(), cleanup)
            }
            None => (image::NAME.to_owned(), Cleanup::default()),
        };
        let exports = vec![(SOCKET, socket.display().to_string()), (IMAGE, image), dockerd_export];
        let description = format!("Docker engine at {}", socket.display());
        return Ok(Running { description, exports, daemon: None, _cleanup: cleanup });
    }
    let socket = context.folder.join("docker.sock");
    let (daemon, cleanup) = serve(context, &dockerd, &socket)?;
    let engine = Engine::new(&socket);
    let mut running =
        Running { description: String::new(), exports: vec![], daemon: Some(daemon), _cleanup: cleanup };
    let answers = context.shell.wait_until(START_TIMEOUT, || {
        if let Some(end) = running.daemon.as_mut().and_then(Daemon::ended) {
            bail!("it ended at once: {end}");
        }
        Ok(engine.ping().is_ok())
    })?;
    ensure!(answers, "it did not answer within {START_TIMEOUT:?}");
    image::provide(&engine, context)?;
    running.description =
        format!("Docker engine {} at {} with {}", engine.version()?, socket.display(), image::NAME);
    running.exports =
        vec![(SOCKET, socket.display().to_string()), (IMAGE, image::NAME.to_owned()), dockerd_export];
    Ok(running)
}

fn serve(context: &Context, dockerd: &Path, socket: &Path) -> Result<(Daemon, Cleanup)> {
    let folder = &context.folder;
    let cgroup = format!("taskbot-test-{}", std::process::id());
    let mut argv = vec![dockerd.as_os_str().to_owned()];
    for (option, path) in [("data-root", "data"), ("exec-root", "exec"), ("pidfile", "docker.pid")] {
        argv.extend([format!("--{option}").into(), folder.join(path).into_os_string()]);
    }
    argv.extend(["--host".into(), format!("unix://{}", socket.display()).into()]);
    argv.extend(["--group".into(), nix::unistd::getegid().to_string().into()]);
    // Its own cgroup, managed by itself: what a killed engine leaves there is then ours to remove.
    argv.extend(["--exec-opt".into(), "native.cgroupdriver=cgroupfs".into()]);
    argv.extend(["--cgroup-parent".into(), format!("/{cgroup}").into()]);
    in_namespaces(context, &argv, "dockerd.log", Some(cgroup))
}

/// Starts an engine in namespaces of its own; what it leaves in this control group is removed after it.
pub(super) fn in_namespaces(
    context: &Context,
    argv: &[OsString],
    log: &str,
    cgroup: Option<String>,
) -> Result<(Daemon, Cleanup)> {
    let privilege = Privilege::find().context("a container engine cannot be started")?;
    let folder = &context.folder;
    let mut command = privilege.command("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]);
    command.args(["--mount-proc", "sh", "-c", PREPARE, "sh"]).arg(folder).args(argv);
    let stop = match privilege {
        Privilege::Root => Stop::Signal(Signal::SIGKILL),
        Privilege::Sudo => Stop::Command(Box::new(move |pid| {
            // sudo cannot pass SIGKILL on: the namespace's guard itself must get it.
            let guard = descendant(pid, "unshare").unwrap_or(pid);
            // The shell's own: the program is missing on small systems.
            let mut kill = privilege.command("sh");
            kill.args(["-c", &format!("kill -KILL {guard}")]);
            kill
        })),
    };
    // What an engine's helpers leave in the current folder goes with ours.
    command.current_dir(folder);
    let daemon = Daemon::spawn(&mut command, &folder.join(log), stop)?;
    let guard = daemon.pid();
    let mut init = None;
    let forked = context.shell.wait_until(START_TIMEOUT, || {
        init = descendant(guard, "unshare").and_then(first_child);
        Ok(init.is_some() || !is_alive(guard))
    });
    let cleanup = Cleanup::new(move || {
        // The kernel ends the first process of a namespace only after all others.
        let killed_at = Instant::now();
        while init.is_some_and(is_alive) {
            if killed_at.elapsed() > NAMESPACE_STOP_TIMEOUT {
                eprintln!("warning: processes of a container engine do not end");
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        if let Some(cgroup) = cgroup {
            remove_cgroups(&cgroup, privilege);
        }
    });
    forked?;
    Ok((daemon, cleanup))
}

/// Removes the empty groups that containers leave, in every hierarchy.
fn remove_cgroups(name: &str, privilege: Privilege) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        let group = hierarchy.join(name);
        if group.is_dir() {
            // Depth first; only folders can be removed there, and their files go with them.
            let find =
                privilege.command("find").arg(&group).args(["-depth", "-type", "d", "-delete"]).status();
            if !find.is_ok_and(|status| status.success()) {
                eprintln!("warning: cannot remove {}", group.display());
            }
        }
    }
}

/// A process as the kernel lists it.
struct Process {
    pid: u32,
    parent: u32,
    name: String,
    /// It has ended and only waits for somebody to ask how; where nobody does, it stays.
    zombie: bool,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may itself contain brackets and spaces.
        let (pid_and_name, rest) = stat.rsplit_once(')')?;
        let (_, name) = pid_and_name.split_once('(')?;
        let mut rest = rest.split_whitespace();
        let zombie = rest.next()? == "Z";
        Some(Self { pid, parent: rest.next()?.parse().ok()?, name: name.to_owned(), zombie })
    }
}

fn is_alive(pid: u32) -> bool {
    Process::read(pid).is_some_and(|process| !process.zombie)
}

fn processes() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Process::read(entry.file_name().to_str()?.parse().ok()?))
}

fn first_child(pid: u32) -> Option<u32> {
    processes().find(|process| process.parent == pid).map(|process| process.pid)
}

/// The process of this name among `pid` and its descendants.
fn descendant(pid: u32, name: &str) -> Option<u32> {
    let all: Vec<_> = processes().collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        if all.iter().any(|process| process.pid == member && process.name == name) {
            return Some(member);
        }
        family.extend(all.iter().filter(|process| process.parent == member).map(|process| process.pid));
        next += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_by_name() {
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 602; true"]).spawn().unwrap();
        let started = Instant::now();
        let found = std::iter::repeat_with(|| descendant(child.id(), "sleep"))
            .take_while(|_| started.elapsed() < START_TIMEOUT)
            .find_map(|found| found);
        let sleep = found.expect("the shell starts `sleep`");
        assert_eq!(first_child(child.id()), Some(sleep));
        assert_eq!(descendant(child.id(), "no-such-program"), None);
        for pid in [sleep, child.id()] {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
            nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
        }
        child.wait().unwrap();
    }
}
