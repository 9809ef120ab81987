//! Finding out whether machines run at all: a guest of a few bytes that ends itself.

use super::{arch::Arch, host};
use std::{process::Stdio, time::Duration};
use tokio::process::Command;

/// How long that guest may take; where KVM hangs it never ends.
const GUEST_LIMIT: Duration = Duration::from_secs(15);
/// The size of a boot sector, and of the disk that it is on, in bytes: a smaller one is not read.
const SECTOR: usize = 512;
const DISK: usize = 1 << 20;
/// `mov al, 16; out 0xf4, al; hlt`: tells the exit device to end QEMU with 2 * 16 + 1.
const BOOT_SECTOR: [u8; 6] = [0xb0, 0x10, 0xe6, 0xf4, 0xf4, 0xf4];
const BOOT_SECTOR_CODE: i32 = 33;
/// `movz w0, #8; movk w0, #0x8400, lsl #16; hvc #0`: asks the firmware interface to switch off.
const SWITCH_OFF: [u32; 3] = [0x5280_0100, 0x72b0_8000, 0xd400_0002];

/// Whether a guest runs.
pub(super) async fn guest_runs(arch: &str, kvm: bool) -> Result<(), String> {
    let arch = Arch::find(arch).filter(|arch| Arch::present().contains(arch));
    let arch = arch.ok_or_else(|| "QEMU is missing".to_owned())?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("guest");
    let x86 = arch.name == "x86_64";
    let content = if x86 {
        let mut sector = BOOT_SECTOR.to_vec();
        sector.resize(SECTOR - 2, 0);
        sector.extend([0x55, 0xaa]);
        sector.resize(DISK, 0);
        sector
    } else {
        SWITCH_OFF.iter().flat_map(|word| word.to_le_bytes()).collect()
    };
    std::fs::write(&file, content).map_err(|error| error.to_string())?;
    let accel = if kvm { "kvm" } else { "tcg" };
    let mut command = Command::new(arch.program);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-m", "64M", "-nic", "none"]);
    command.arg("-machine").arg(format!("{},accel={accel}", arch.machine));
    command.args(["-cpu", if kvm { "host" } else { "max" }]);
    if x86 {
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-drive"]);
        command.arg(format!("format=raw,file={}", file.display()));
    } else {
        command.arg("-kernel").arg(&file);
    }
    command.env_clear().env("PATH", host::PATH).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(GUEST_LIMIT, command.output()).await;
    let output = output.map_err(|_| format!("a guest did not end within {} s", GUEST_LIMIT.as_secs()))?;
    let output = output.map_err(|error| format!("{}: {error}", arch.program))?;
    let expect = if x86 { BOOT_SECTOR_CODE } else { 0 };
    if output.status.code() == Some(expect) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("a guest ended with {}: {said}", output.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_guest_itself_is_right() {
        // By emulation, so that only the guest can be wrong.
        for arch in ["x86_64", "aarch64"] {
            assert_eq!(guest_runs(arch, false).await, Ok(()), "{arch}");
        }
        assert!(guest_runs("vax", false).await.is_err());
    }
}
