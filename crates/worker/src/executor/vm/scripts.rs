//! What our agent is told to run, in a shell of its own, by its functions. Everything that comes from elsewhere is
//! quoted.

use super::super::{ExecRequest, OUTPUT_DIR, supervise::variables};
use crate::secrets::{SECRETS_DIR, SECRETS_VARIABLE};
use std::fmt::Write as _;

/// The work folder in machines: on a disk where there is one.
pub(super) const WORK_DIR: &str = "/var/task";
/// Where commands have their home.
pub(super) const HOME: &str = "/var/tmp/taskbot-home";

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Runs one line of a request; what `init.sh` keeps open for scripts of ours is closed to it.
pub(super) fn line(request: &ExecRequest<'_>, line: &str, secrets: bool) -> String {
    let mut script = String::new();
    for (name, value) in variables(request, WORK_DIR, HOME) {
        // Writing to a text does not fail.
        let _ = writeln!(script, "export {name}={}", quoted(&value));
    }
    if secrets {
        let _ = writeln!(script, "export {SECRETS_VARIABLE}={SECRETS_DIR}");
    }
    let folder = super::super::host::start_folder(WORK_DIR, request.dir);
    let [home, folder, line] = [HOME, &folder, line].map(quoted);
    let _ = writeln!(
        script,
        "[ -d {home} ] || mkdir -p {home}\ncd -- {folder} || exit 126\nexec sh -e -c {line} 9<&-"
    );
    script
}

/// Unpacks an archive that begins so many MiB into the disk, as the agent's own `take` does.
pub(super) fn unpack(at_mib: u64, bytes: u64) -> String {
    let count = bytes.div_ceil(1 << 20);
    format!(
        "disks && mkdir -p {WORK_DIR}/{OUTPUT_DIR} && cd {WORK_DIR} && \
         dd if=\"$IN\" bs=1048576 skip={at_mib} count={count} 2>/dev/null | tar -x -f -"
    )
}

/// Runs scripts where the work folder did not outlive a reset: in machines whose root is in memory.
pub(super) fn unless_there(scripts: &[String]) -> String {
    format!("[ -d {WORK_DIR} ] || {{ {}; }}", scripts.join(" && "))
}

/// Packs the output folder, and the whole work folder if it is wanted, onto the disk that we read.
pub(super) fn pack(whole: bool) -> String {
    let rest = if whole { " ." } else { "" };
    format!(
        "disks && mkdir -p {WORK_DIR}/{OUTPUT_DIR} && cd {WORK_DIR} && \
         tar -c -f - {OUTPUT_DIR}{rest} 2>/dev/null | dd of=\"$OUT\" bs=65536 conv=fsync 2>/dev/null"
    )
}

/// Sets up the network where nothing else does, and the names of the hosts that can be reached.
pub(super) fn network(configure: bool, hosts: &[(String, String)]) -> String {
    let mut script = String::new();
    if configure {
        script.push_str(
            "for n in /sys/class/net/e*; do n=${n##*/}\nip link set \"$n\" up\nip addr add 10.0.2.15/24 dev \"$n\"\n\
             ip route add default via 10.0.2.2\ndone\nmkdir -p /etc\necho nameserver 10.0.2.3 >/etc/resolv.conf\n",
        );
    }
    for (address, host) in hosts {
        let _ = writeln!(script, "echo {} >>/etc/hosts", quoted(&format!("{address} {host}")));
    }
    script
}

/// A shell on the port for a person, again and again; without the task's secrets. `mark` tells that it is there.
/// The port can be opened only once, and writing to it waits until somebody is at its other end.
pub(super) fn for_a_person(mark: &str, dir: &str) -> String {
    let folder = quoted(&super::super::host::start_folder(WORK_DIR, dir));
    format!(
        "rm -rf {SECRETS_DIR}/* {SECRETS_DIR}/.[!.]*\numount {SECRETS_DIR} 2>/dev/null\n\
         for p in /sys/class/virtio-ports/*; do\nname=\n[ ! -r \"$p/name\" ] || read -r name <\"$p/name\"\n\
         [ \"$name\" != taskbot.person ] || port=/dev/${{p##*/}}\ndone\n\
         [ -c \"$port\" ] || exit 1\nexport HOME={HOME} TASKBOT_WORK={WORK_DIR}\n\
         cd -- {folder} || cd /\necho {mark}\n\
         exec sh -c 'while :; do sh -i 0<>\"$0\" 1>&0 2>&1; sleep 1; done' \"$port\" 9<&-"
    )
}

/// What is typed on a console where a shell waits: starts the agent that is at the beginning of our disk.
pub(super) fn typed(agent_bytes: u64) -> String {
    let blocks = agent_bytes.div_ceil(1024);
    format!(
        " for d in /sys/block/*; do [ \"$(cat $d/serial 2>/dev/null)\" = taskbot-in ] && \
         $([ $(id -u) = 0 ] || echo sudo -n) dd if=/dev/${{d##*/}} bs=1024 count={blocks} 2>/dev/null \
         | head -c {agent_bytes} >/tmp/.agent; done; \
         $([ $(id -u) = 0 ] || echo sudo -n) setsid sh /tmp/.agent </dev/null >/dev/null 2>&1 &\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_quotes() {
        for text in ["a b", "it's", "$(reboot)", "`x`", "a\nb", "'; rm -rf / #", "\\"] {
            let output = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("printf %s {}", quoted(text)))
                .output();
            assert_eq!(String::from_utf8_lossy(&output.unwrap().stdout), text);
        }
    }
}
