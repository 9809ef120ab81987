//! A new fedup is submitted for testing: three differently set up systems are upgraded with it.

use super::{
    TOPIC, ended,
    packages::{self, Build},
};
use crate::{
    shipped::{run, send, shipped_with},
    support::environment::{full, root},
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// What the systems run.
const KERNEL: Build<'_> = Build("kernel", "6.1.192", "2.fc42");
const FEDUP: Build<'_> = Build("fedup", "0.9.4", "1.fc42");
/// Loses what it must keep, where there is something.
const DRACUT: Build<'_> = Build("fedup-dracut", "0.9.3", "1.fc42");

/// Has the next boot do the upgrade.
const PREPARE: &str = "#!/bin/sh\nset -e\n[ \"$1\" = --network ]\nmkdir -p /system-upgrade\n\
    cp /usr/lib/fedup/apply /system-upgrade/apply\necho \"$2\" > /system-upgrade/target\n";
/// The upgrade itself, early in that boot.
const APPLY: &str = "#!/bin/sh\nset -e\ntarget=$(cat /system-upgrade/target)\nrm -rf /system-upgrade\n\
    sed -i \"s/^VERSION_ID=.*/VERSION_ID=$target/\" /etc/os-release\nsync\n";
const LOSES: &str = "rm -rf /srv/*\n";

/// Disks with a system of release 42, by the same parts as the shipped test ISO: `$here` holds the kernel, `$repo` is that
/// ISO's repository. A folder `$here/extra/NAME` has what is set up beside, and gives the disk `$here/NAME.img`.
const DISKS: &str = r#"set -eu
build=$here/build
. "$repo/lib.sh"
mkdir -p "$build"
find_kernel
find_busybox
base "$build/initrd"
cp "$repo/init.sh" "$build/initrd/init"
echo "$modules" > "$build/initrd/etc/modules"
chmod 755 "$build/initrd/init"
base "$build/root"
cd "$build/root"
mkdir -p boot/grub root var/tmp var/task usr/bin
cp "$vmlinuz" boot/vmlinuz
(cd ../initrd && find . | cpio -o -H newc --quiet --owner=0:0) | gzip -1 > boot/initrd.img
cp "$repo/rc.sh" etc/rc
echo '[ ! -x /system-upgrade/apply ] || /system-upgrade/apply' >> etc/rc
chmod 755 etc/rc
printf 'root::0:0:root:/root:/bin/sh\nuser:*:1000:1000:user:/home/user:/bin/sh\n' > etc/passwd
echo 'root:x:0:' > etc/group
printf '::sysinit:/etc/rc\nttyS0::respawn:/sbin/getty -L ttyS0 115200 vt100\n::ctrlaltdel:/sbin/reboot\n::shutdown:/bin/umount -a -r\n' > etc/inittab
printf 'ID=test\nVERSION_ID=42\n' > etc/os-release
echo "$modules" > etc/modules
echo "to-be-upgraded" > etc/hostname
printf 'set timeout=0\nserial --unit=0\nterminal_output serial\nlinux /boot/vmlinuz root=/dev/vda1 console=ttyS0 panic=10\ninitrd /boot/initrd.img\nboot\n' > boot/grub/grub.cfg
images=/usr/lib/grub/i386-pc
grub-mkimage -O i386-pc -d "$images" -p '(hd0,msdos1)/boot/grub' -o "$build/core.img" biosdisk part_msdos ext2 normal linux configfile serial terminal echo
for extra in "$here"/extra/*; do
    disk=$here/$(basename "$extra").img
    cp -a "$build/root" "$build/full"
    cp -a "$extra/." "$build/full"
    truncate -s 129M "$disk"
    printf 'o\nn\np\n1\n2048\n\na\n1\nw\n' | busybox fdisk -u "$disk" >/dev/null 2>&1 || : # a file's table is not read again
    mke2fs -q -t ext4 -d "$build/full" -E offset=1048576 "$disk" 128m
    dd if="$images/boot.img" of="$disk" bs=440 count=1 conv=notrunc 2>/dev/null
    dd if="$build/core.img" of="$disk" bs=512 seek=1 conv=notrunc 2>/dev/null
    rm -rf "$build/full"
done
rm -rf "$build"
"#;

fn file(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A system's name, and what is set up beside: names of files with what is in them.
type System<'a> = (&'static str, &'a [(&'a str, &'a str)]);

/// The systems that are upgraded.
const SYSTEMS: [System<'_>; 3] = [
    ("minimal", &[]),
    ("server", &[("srv/data", "data\n"), ("usr/local/etc/conf", "x = 1\n")]),
    ("workstation", &[("home/user/letter", "Dear\n")]),
];

/// The disks of systems by their names.
fn disks(here: &Path, systems: &[System<'_>]) -> Vec<(&'static str, PathBuf)> {
    for (system, files) in systems {
        let extra = here.join("extra").join(system);
        file(&extra, "usr/bin/fedup", PREPARE);
        file(&extra, "usr/lib/fedup/apply", APPLY);
        for (name, text) in *files {
            file(&extra, name, text);
        }
    }
    let repo = root().join("deploy/task-repos/anaconda-test-iso");
    run(Command::new("sh").args(["-c", DISKS]).env("here", here).env("repo", repo));
    systems.iter().map(|(system, _)| (*system, here.join(format!("{system}.img")))).collect()
}

/// The disk of one system.
pub(super) fn one_disk(folder: &Path, files: &[(&str, &str)]) -> PathBuf {
    let here = folder.join("made");
    packages::kernel(KERNEL, "x86_64", "amd64", &here.join("kernel"));
    disks(&here, &[("one", files)]).swap_remove(0).1
}

fn package(folder: &Path, build: Build<'_>, name: &str, text: &str) {
    let own = tempfile::tempdir_in(folder).unwrap();
    file(own.path(), name, text);
    let Build(of, version, release) = build;
    packages::rpm(
        build,
        "noarch",
        own.path(),
        &folder.join(format!("packages/{of}/{version}/{release}/noarch")),
    );
}

fn update(builds: &[Build<'_>]) -> Value {
    let builds: Vec<_> = builds.iter().map(|build| json!({"nvr": build.nvr(), "epoch": 0})).collect();
    json!({"agent": "somebody", "update": {
        "alias": "FEDORA-2026-0000000003", "title": "fedup", "type": "bugfix", "request": "testing", "critpath": false,
        "release": {"name": "F42", "version": "42"}, "notes": "none", "builds": builds,
    }})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systems_are_upgraded() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("made");
    packages::kernel(KERNEL, "x86_64", "amd64", &here.join("kernel"));
    let mut worker = "  vm:\n    kvm: false\n    images:\n".to_owned();
    for (name, disk) in disks(&here, &SYSTEMS) {
        worker += &format!("      upgrade-F42-{name}: {{path: {}, user: root}}\n", disk.display());
    }
    package(folder.path(), FEDUP, "usr/bin/fedup", PREPARE);
    package(folder.path(), DRACUT, "usr/lib/fedup/apply", &format!("{APPLY}{LOSES}"));
    let installation = shipped_with(folder.path().to_owned(), &[], &worker).await;
    // Each of the two triggers: in the normal run the one that must be caught.
    let builds: &[_] = if full() { &[FEDUP, DRACUT] } else { &[DRACUT] };
    let topic = format!("{TOPIC}.bodhi.update.request.testing");
    installation.bus.publish([send(&topic, "update", &update(builds))]).await;
    for task in ended(&installation, "upgrade-tests", 3 * builds.len()).await {
        let configuration = task.inputs["configuration"].as_str().unwrap();
        let broken = task.item["id"] == DRACUT.nvr() && configuration == "server";
        let shown = task.shown();
        assert_eq!(
            task.outcome(),
            if broken { "failed" } else { "passed" },
            "{}\n{shown}",
            task.complaints()
        );
        let testcase = format!("compose.upgrade-{configuration}");
        assert!(task.results.iter().any(|result| result["testcase"] == *testcase), "{shown}");
        assert_eq!(task.complaints().contains("the data are kept"), broken, "{}\n{shown}", task.complaints());
        assert!(task.files.iter().any(|name| name == "vm/boot-console.log"), "{shown}");
    }
    installation.remove().await;
}
