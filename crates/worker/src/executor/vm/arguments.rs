//! The command line of a machine. Names of files go in as JSON, so that none can become an option.

use super::arch::Arch;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The names of the sockets and files of a machine, in its folder.
pub(super) const QMP_SOCKET: &str = "qmp.sock";
pub(super) const CONSOLE_SOCKET: &str = "console.sock";
pub(super) const CONTROL_SOCKET: &str = "control.sock";
pub(super) const OUTPUT_SOCKET: &str = "output.sock";
/// The socket in a machine's folder by which a person gets into it once it is held.
pub const PERSON_SOCKET: &str = "person.sock";
pub(super) const INPUT_DISK: &str = "input.raw";
pub(super) const OUTPUT_DISK: &str = "output.raw";

/// How much translated code emulation keeps, in MiB. Left to itself it takes a gigabyte, which a whole distribution
/// fills: more than [`OWN_MEMORY_BYTES`](super::OWN_MEMORY_BYTES) leaves it.
const TRANSLATED_MIB: u32 = 256;

/// What a machine is made of.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) arch: Arch,
    pub(super) kvm: bool,
    pub(super) memory_bytes: u64,
    pub(super) cpus: u32,
    /// Its folder, in which QEMU is started.
    pub(super) folder: PathBuf,
    pub(super) kernel: Option<Kernel>,
    /// The firmware's code and this machine's variables.
    pub(super) firmware: Option<(PathBuf, PathBuf)>,
    /// The disk that it has.
    pub(super) disk: Option<PathBuf>,
    /// A small disk that is only read.
    pub(super) seed: Option<PathBuf>,
    /// Media in drives; the first is booted from, if any is.
    pub(super) media: Vec<PathBuf>,
    pub(super) boot_medium: bool,
    /// Whether our agent's ports and disks are there.
    pub(super) agent: bool,
    /// Whether it ends when the guest resets it.
    pub(super) ends_at_reset: bool,
    /// Whether QEMU stays at the machine's end, so that there still is a screen to be looked at.
    pub(super) stays_at_end: bool,
    pub(super) network: Network,
}

/// A kernel that is booted directly.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    pub(super) kernel: PathBuf,
    pub(super) initrd: Option<PathBuf>,
    pub(super) append: String,
}

/// What it reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Network {
    None,
    /// For each an address inside, and the script that connects it.
    Only(Vec<Forward>),
    All,
}

/// A way out of a closed network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forward {
    /// The host's name.
    pub(super) host: String,
    /// Its address inside.
    pub(super) address: String,
    pub(super) port: u16,
    /// The program that connects standard input and output with it, in the machine's folder.
    pub(super) script: String,
}

impl Machine {
    pub(super) fn arguments(&self) -> Vec<String> {
        let accel = if self.kvm { "kvm".to_owned() } else { format!("tcg,tb-size={TRANSLATED_MIB}") };
        let cpu = match (self.kvm, self.arch.name) {
            (true, _) => "host",
            // The full algorithm for pointer authentication costs most of the time in emulation.
            (false, "aarch64") => "max,pauth-impdef=on",
            // Nor are five levels of page tables for free: no guest of ours has 64 TiB.
            (false, "x86_64") => "max,la57=off",
            (false, _) => "max",
        };
        let spawn = if matches!(self.network, Network::Only(_)) { "allow" } else { "deny" };
        let mut args: Vec<String> = [
            "-name".to_owned(),
            format!("guest={},process=taskbot-vm", self.name),
            "-machine".to_owned(),
            self.arch.machine.to_owned(),
            "-accel".to_owned(),
            accel,
            "-cpu".to_owned(),
            cpu.to_owned(),
            "-m".to_owned(),
            format!("{}M", (self.memory_bytes >> 20).max(32)),
            "-smp".to_owned(),
            self.cpus.to_string(),
            "-nodefaults".to_owned(),
            "-no-user-config".to_owned(),
            "-display".to_owned(),
            "none".to_owned(),
            "-sandbox".to_owned(),
            format!("on,obsolete=deny,elevateprivileges=deny,spawn={spawn},resourcecontrol=deny"),
            "-device".to_owned(),
            "virtio-rng-pci".to_owned(),
        ]
        .into();
        self.sockets(&mut args);
        self.boots(&mut args);
        self.disks(&mut args);
        self.network(&mut args);
        if self.ends_at_reset {
            args.push("-no-reboot".to_owned());
        }
        if self.stays_at_end {
            args.push("-no-shutdown".to_owned());
        }
        args
    }

    fn socket(args: &mut Vec<String>, id: &str, name: &str) {
        // Relative to its folder: a socket's path has about a hundred bytes at most.
        args.extend(["-chardev".to_owned(), format!("socket,id={id},path={name},server=on,wait=off")]);
    }

    fn sockets(&self, args: &mut Vec<String>) {
        let add =
            |args: &mut Vec<String>, words: &[&str]| args.extend(words.iter().map(|word| (*word).to_owned()));
        Self::socket(args, "qmp", QMP_SOCKET);
        add(args, &["-mon", "chardev=qmp,mode=control"]);
        Self::socket(args, "console", CONSOLE_SOCKET);
        add(args, &["-serial", "chardev:console"]);
        if !self.agent {
            return;
        }
        add(args, &["-device", "virtio-serial-pci"]);
        for (id, name, port) in [
            ("control", CONTROL_SOCKET, "taskbot.control"),
            ("output", OUTPUT_SOCKET, "taskbot.output"),
            ("person", PERSON_SOCKET, "taskbot.person"),
        ] {
            Self::socket(args, id, name);
            add(args, &["-device", &format!("virtserialport,chardev={id},name={port}")]);
        }
    }

    fn boots(&self, args: &mut Vec<String>) {
        if let Some(kernel) = &self.kernel {
            args.extend(["-kernel".to_owned(), kernel.kernel.display().to_string()]);
            if let Some(initrd) = &kernel.initrd {
                args.extend(["-initrd".to_owned(), initrd.display().to_string()]);
            }
            args.extend(["-append".to_owned(), kernel.append.clone()]);
        } else {
            args.extend(self.arch.screen());
        }
        if let Some((code, vars)) = &self.firmware {
            blockdev(
                args,
                &json!({"driver": "raw", "node-name": "code", "read-only": true, "file": file(code)}),
            );
            blockdev(args, &json!({"driver": "raw", "node-name": "vars", "file": file(vars)}));
            for (slot, node) in ["code", "vars"].into_iter().enumerate() {
                args.extend(["-machine".to_owned(), format!("pflash{slot}={node}")]);
            }
        }
    }

    fn disks(&self, args: &mut Vec<String>) {
        let device = |args: &mut Vec<String>, text: String| args.extend(["-device".to_owned(), text]);
        if let Some(disk) = &self.disk {
            let discard =
                json!({"driver": "qcow2", "node-name": "disk", "discard": "unmap", "file": file(disk)});
            blockdev(args, &discard);
            device(args, "virtio-blk-pci,drive=disk,bootindex=2".to_owned());
        }
        if let Some(seed) = &self.seed {
            blockdev(
                args,
                &json!({"driver": "raw", "node-name": "seed", "read-only": true, "file": file(seed)}),
            );
            device(args, "virtio-blk-pci,drive=seed".to_owned());
        }
        if !self.media.is_empty() {
            device(args, "virtio-scsi-pci,id=scsi".to_owned());
        }
        for (number, medium) in self.media.iter().enumerate() {
            let node = format!("medium{number}");
            blockdev(
                args,
                &json!({"driver": "raw", "node-name": node, "read-only": true, "file": file(medium)}),
            );
            let first = if number == 0 && self.boot_medium { ",bootindex=1" } else { "" };
            device(args, format!("scsi-cd,bus=scsi.0,drive={node}{first}"));
        }
        if self.agent {
            let input = file(&self.folder.join(INPUT_DISK));
            blockdev(args, &json!({"driver": "raw", "node-name": "input", "read-only": true, "file": input}));
            device(args, "virtio-blk-pci,drive=input,serial=taskbot-in".to_owned());
            let output = file(&self.folder.join(OUTPUT_DISK));
            blockdev(
                args,
                &json!({"driver": "raw", "node-name": "output", "discard": "unmap", "file": output}),
            );
            device(args, "virtio-blk-pci,drive=output,serial=taskbot-out".to_owned());
        }
    }

    fn network(&self, args: &mut Vec<String>) {
        let user = match &self.network {
            Network::None => {
                args.extend(["-nic".to_owned(), "none".to_owned()]);
                return;
            }
            Network::All => "user,id=net".to_owned(),
            Network::Only(ways) => {
                let ways = ways.iter().map(|way| {
                    format!(",guestfwd=tcp:{}:{}-cmd:/bin/bash {}", way.address, way.port, way.script)
                });
                format!("user,id=net,restrict=on{}", ways.collect::<String>())
            }
        };
        args.extend([
            "-netdev".to_owned(),
            user,
            "-device".to_owned(),
            "virtio-net-pci,netdev=net".to_owned(),
        ]);
    }
}

fn blockdev(args: &mut Vec<String>, node: &Value) {
    args.extend(["-blockdev".to_owned(), node.to_string()]);
}

fn file(path: &Path) -> Value {
    json!({"driver": "file", "filename": path, "cache": {"direct": false}})
}
