//! What differs between architectures: QEMU's program, its machine, its firmware.

use model::task_file::Firmware;
use std::path::{Path, PathBuf};

/// An architecture that machines can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arch {
    /// In the kernel's words.
    pub(super) name: &'static str,
    /// QEMU's program.
    pub(super) program: &'static str,
    /// QEMU's machine.
    pub(super) machine: &'static str,
    /// What draws a screen of which pictures can be taken.
    screen: &'static str,
    /// The serial console in the kernel's words.
    pub(super) console: &'static str,
    /// Where distributions put UEFI: the code, and the template of its variables.
    uefi: &'static [(&'static str, &'static str)],
    /// Whether it can boot without UEFI.
    bios: bool,
}

const ARCHES: [Arch; 2] = [
    Arch {
        name: "x86_64",
        program: "qemu-system-x86_64",
        machine: "q35",
        screen: "VGA",
        console: "ttyS0",
        uefi: &[
            ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
            ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
            ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
            ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
        ],
        bios: true,
    },
    Arch {
        name: "aarch64",
        program: "qemu-system-aarch64",
        machine: "virt,gic-version=max",
        screen: "ramfb",
        console: "ttyAMA0",
        uefi: &[
            ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
            (
                "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw",
                "/usr/share/edk2/aarch64/vars-template-pflash.raw",
            ),
        ],
        bios: false,
    },
];

impl Arch {
    /// Those of which this host has the emulator.
    pub(super) fn present() -> Vec<Self> {
        ARCHES.into_iter().filter(|arch| super::host::program(arch.program).is_some()).collect()
    }

    /// By name.
    pub(super) fn find(name: &str) -> Option<Self> {
        ARCHES.into_iter().find(|arch| arch.name == name)
    }

    /// The firmware's code and variables, where UEFI is to be used.
    pub(super) fn firmware(self, wish: Firmware) -> Result<Option<(PathBuf, PathBuf)>, String> {
        match wish {
            Firmware::Bios if !self.bios => {
                Err(format!("{} has no BIOS: ask for `firmware: uefi`", self.name))
            }
            Firmware::Bios => Ok(None),
            Firmware::Default if self.bios => Ok(None),
            Firmware::Default | Firmware::Uefi => {
                let there =
                    |(code, vars): &&(&str, &str)| Path::new(code).is_file() && Path::new(vars).is_file();
                let found = self.uefi.iter().find(there);
                let missing =
                    || format!("this worker has no UEFI for {} (packages ovmf, qemu-efi-aarch64)", self.name);
                found.map(|(code, vars)| Some((code.into(), vars.into()))).ok_or_else(missing)
            }
        }
    }

    /// A screen, with a keyboard on it.
    pub(super) fn screen(self) -> Vec<String> {
        vec!["-device".to_owned(), self.screen.to_owned()]
    }
}
