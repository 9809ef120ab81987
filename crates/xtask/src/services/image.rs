//! The container image that tests run: BusyBox and nothing else, made here without any registry.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Context;
use super::engine_api::Engine;
use crate::environment::find_program;

pub(super) const NAME: &str = "taskbot-test/busybox:1";

/// Enough of an ELF file to hold the name of the dynamic loader, if it has one.
const ELF_HEAD_BYTES: usize = 4096;

/// Imports the image unless the engine has it; whether it was imported.
pub(super) fn provide(engine: &Engine, context: &Context) -> Result<bool> {
    if engine.has_image(NAME)? {
        return Ok(false);
    }
    let root = context.folder.join("image");
    fill(&root).context("cannot make the root file system of the test image")?;
    let archive = context.folder.join("image.tar");
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "-C"])
        .arg(&root)
        .arg("-cf")
        .arg(&archive)
        .arg(".");
    context.shell.run_quietly(&mut tar, &context.folder.join("tar.log"))?;
    engine.import_image(NAME, &fs::read(&archive)?)?;
    Ok(true)
}

pub(super) fn remove(engine: &Engine) {
    if let Err(error) = engine.remove_image(NAME) {
        eprintln!("warning: cannot remove {NAME}: {error:#}");
    }
}

/// BusyBox under all the names it knows, and the folders and files that programs expect.
pub(super) fn fill(root: &Path) -> Result<()> {
    let busybox = find_static_busybox()?;
    for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr/bin", "var/tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for folder in ["tmp", "var/tmp"] {
        fs::set_permissions(root.join(folder), fs::Permissions::from_mode(0o1777))?;
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    fs::copy(&busybox, root.join("bin/busybox"))?;
    fs::set_permissions(root.join("bin/busybox"), fs::Permissions::from_mode(0o755))?;
    let list = Command::new(&busybox).arg("--list").output()?;
    ensure!(list.status.success(), "`busybox --list` ended with {}", list.status);
    let names = String::from_utf8(list.stdout)?;
    for name in names.lines().filter(|&name| name != "busybox") {
        symlink("busybox", root.join("bin").join(name))?;
    }
    ensure!(root.join("bin/sh").is_symlink(), "{} has no shell", busybox.display());
    // For scripts that start with `#!/usr/bin/env sh`.
    symlink("/bin/busybox", root.join("usr/bin/env"))?;
    Ok(())
}

/// The one of busybox-static: nothing else is in the image for it to load.
fn find_static_busybox() -> Result<PathBuf> {
    let busybox = find_program("busybox").context("there is no busybox")?;
    let bytes = fs::read(&busybox)?;
    let head = &bytes[..bytes.len().min(ELF_HEAD_BYTES)];
    let loads = |name: &[u8]| head.windows(name.len()).any(|window| window == name);
    ensure!(
        !loads(b"/ld-linux") && !loads(b"/ld-musl"),
        "{} is linked dynamically: install busybox-static in its place",
        busybox.display()
    );
    Ok(busybox)
}
