//! `vm`: how a task file says which machine it wants and how that comes up.

use super::Sizes;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// How long a machine may take from power-on to its first command, before the worker's factor.
pub const VM_BOOT_DEFAULT: Duration = Duration::from_secs(180);
/// How long an installation may take, before the worker's factor.
pub const VM_INSTALL_DEFAULT: Duration = Duration::from_secs(3600);
/// How long a machine that is being installed may be silent, before the worker's factor.
pub const VM_INSTALL_IDLE_DEFAULT: Duration = Duration::from_secs(600);
/// The most steps of a dialogue on a console.
pub const CONSOLE_STEPS_MAX: usize = 100;
/// The longest text that is waited for on a console, in bytes.
pub const CONSOLE_TEXT_BYTES_MAX: usize = 256;

/// `vm: {image: …}`, `vm: {kernel: …}` or `vm: {install: …}`. Paths of files are relative to the folder that
/// holds the task file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VmWish {
    /// An image by its name in the worker's configuration.
    pub image: Option<String>,
    /// A disk image (qcow2 or raw) among the task's files.
    pub image_file: Option<String>,
    /// A kernel that is booted directly.
    pub kernel: Option<String>,
    /// What that kernel gets as its initial RAM disk: archives (cpio or tar), one after the other.
    pub initrd: Vec<String>,
    /// More of the kernel's command line.
    pub append: Option<String>,
    /// An installation onto a blank disk, which is booted then.
    pub install: Option<VmInstall>,
    /// How the commands get in.
    pub login: Option<VmLogin>,
    /// What is awaited and typed on the serial console before commands run.
    pub console: Vec<ConsoleStep>,
    /// The architecture, in the kernel's words; that of the worker when missing.
    pub arch: Option<String>,
    /// How it boots from a disk.
    pub firmware: Firmware,
    /// How long it may take from power-on to its first command.
    pub boot: Option<Duration>,
    /// What it reaches.
    pub network: VmNetwork,
    /// Its sizes.
    #[serde(flatten)]
    pub sizes: Sizes,
}

impl VmWish {
    /// How long installing and booting may take, before the worker's factor.
    #[must_use]
    pub fn start_limit(&self) -> Duration {
        let install = self.install.as_ref().map_or(Duration::ZERO, |install| install.timeout);
        install.saturating_add(self.boot_limit())
    }

    /// How long booting may take, before the worker's factor.
    #[must_use]
    pub fn boot_limit(&self) -> Duration {
        self.boot.unwrap_or(VM_BOOT_DEFAULT)
    }

    /// Every path of a file of the task.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let install = self.install.iter_mut().flat_map(|install| {
            let own = [&mut install.iso, &mut install.kernel].into_iter().flatten();
            let answers = install.answers.iter_mut().flat_map(|answers| answers.files.values_mut());
            own.chain(&mut install.initrd).chain(answers)
        });
        let own = [&mut self.image_file, &mut self.kernel].into_iter().flatten();
        own.chain(&mut self.initrd).chain(install)
    }

    /// Every text in which inputs are filled in.
    pub fn texts_mut(&mut self) -> Vec<&mut String> {
        let install_append = self.install.iter_mut().filter_map(|install| install.append.as_mut());
        let own = [&mut self.image, &mut self.append, &mut self.arch].into_iter().flatten();
        let mut texts: Vec<&mut String> = own.chain(install_append).collect();
        texts.extend(self.console.iter_mut().map(|step| &mut step.until));
        texts
    }
}

/// `install: {iso: …, answers: …, until: …}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VmInstall {
    /// The medium that is in the drive.
    pub iso: Option<String>,
    /// A kernel that is booted in place of the medium's boot loader.
    pub kernel: Option<String>,
    /// Its initial RAM disk.
    #[serde(default)]
    pub initrd: Vec<String>,
    /// Its command line.
    pub append: Option<String>,
    /// A second medium with the answers of an unattended installation.
    pub answers: Option<Answers>,
    /// The dialogue on the serial console.
    #[serde(default)]
    pub console: Vec<ConsoleStep>,
    /// The text on the serial console that says that all is done. Without it, the end is that the machine
    /// switches itself off or resets.
    pub until: Option<String>,
    /// How long the console may be silent.
    pub idle: Duration,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// `answers: {label: OEMDRV, files: {ks.cfg: kickstart.cfg}}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// The label of the medium, by which installers find it.
    pub label: String,
    /// Names on the medium, and the task's files that they hold.
    pub files: BTreeMap<String, String>,
}

/// How commands get into a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmLogin {
    /// By cloud-init, which starts our agent.
    CloudInit,
    /// By a login of root on the serial console.
    Console {
        /// Whom we log in as: root, or who may become root without a password.
        user: String,
        /// Nothing when none is asked for.
        password: Option<String>,
    },
    /// Not at all: what the console says decides.
    None,
}

/// One step of a dialogue on the serial console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleStep {
    /// The text that is waited for.
    pub until: String,
    /// What is typed then.
    pub send: Option<String>,
    /// The name of a picture of the screen that is taken then.
    pub screenshot: Option<String>,
    /// How long the console may be silent before the text comes.
    pub idle: Option<Duration>,
}

/// How a machine boots from a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Firmware {
    /// By BIOS where the architecture has one.
    #[default]
    Default,
    /// By BIOS.
    Bios,
    /// By UEFI.
    Uefi,
}

/// What a machine reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmNetwork {
    /// Nothing: it has no network card.
    #[default]
    None,
    /// These `HOST:PORT` alone.
    Only(Vec<String>),
    /// All that the worker reaches.
    All,
}
