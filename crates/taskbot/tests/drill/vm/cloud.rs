//! A cloud image is announced, spawned and tested. In full it is as distributions make them: Debian with its own kernel,
//! systemd and cloud-init, which is asked for nothing but what every cloud gives it. Else a small system in which a script
//! does with the seed what cloud-init would.

use super::{WORKER, ended, packages, told, upgrades};
use crate::{
    shipped::run,
    support::{
        environment::{full, optional},
        installation::{Installation, Plan},
        repository::task_file,
    },
};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// An image that is there already: qcow2 or raw, for this architecture, with cloud-init.
const IMAGE: &str = "TASKBOT_TEST_CLOUD_IMAGE";

/// Makes `disk.qcow2` in `$1`: the smallest Debian, with cloud-init and the kernel of a package `$2`. What stands for
/// another package's name debootstrap does not find by itself.
const MAKE: &str = r#"set -eu
cd "$1"
root=$1/root
debootstrap --variant=minbase \
    --include=systemd-sysv,udev,cloud-init,python3-cffi-backend,initramfs-tools,linux-base,kmod,iproute2 \
    bookworm "$root" http://deb.debian.org/debian >debootstrap.log 2>&1 || { tail debootstrap.log >&2; exit 1; }
cp "$2" "$root/kernel.deb"
chroot "$root" dpkg --install /kernel.deb >kernel.log 2>&1 || { tail kernel.log >&2; exit 1; }
rm -rf "$root/kernel.deb" "$root"/var/lib/apt/lists/* "$root"/var/cache/* "$root"/usr/share/doc "$root"/usr/share/locale
: > "$root/etc/machine-id"
echo cloud-image > "$root/etc/hostname"
echo 'locale: false' > "$root/etc/cloud/cloud.cfg.d/90_no_locales.cfg"
echo '/dev/vda1 / ext4 defaults 0 1' > "$root/etc/fstab"
mkdir -p "$root/boot/grub"
printf 'set timeout=0\nserial --unit=0\nterminal_output serial\nlinux /vmlinuz root=/dev/vda1 rw console=ttyS0 panic=10\ninitrd /initrd.img\nboot\n' > "$root/boot/grub/grub.cfg"
images=/usr/lib/grub/i386-pc
grub-mkimage -O i386-pc -d "$images" -p '(hd0,msdos1)/boot/grub' -o core.img biosdisk part_msdos ext2 normal linux configfile serial terminal
truncate -s 769M disk.raw
printf 'o\nn\np\n1\n2048\n\na\n1\nw\n' | busybox fdisk -u disk.raw >/dev/null 2>&1 || : # a file's table is not read again
mke2fs -q -t ext4 -d "$root" -E offset=1048576 disk.raw 768m
dd if="$images/boot.img" of=disk.raw bs=440 count=1 conv=notrunc 2>/dev/null
dd if=core.img of=disk.raw bs=512 seek=1 conv=notrunc 2>/dev/null
qemu-img convert -O qcow2 disk.raw disk.qcow2
rm -rf "$root" disk.raw
"#;

const RULE: &str = r#"rules:
  - name: test-cloud-image
    on: drill.image.published
    when: {body.kind: cloud}
    then:
      - task: cloud-check
        item: {type: image, id: "${event.body.name}"}
"#;

/// What a user of the image would look at: who it is told that it is, that systemd is up, and that cloud-init is content.
const CHECK: &str = r#"set -x
test "$(hostname)" = taskbot
test "$(cat /proc/1/comm)" = systemd
systemctl is-active multi-user.target
cloud-init status --wait --long
cat /run/cloud-init/result.json
grep -q NoCloud /run/cloud-init/result.json
test "$(findmnt -n -o SOURCE /)" = /dev/vda1
grep . /etc/machine-id
echo tested > "$TASKBOT_OUTPUT/verdict.txt""#;

/// Stands for cloud-init: finds the medium by its label, and does what is in it. Nothing else lets anybody in.
const STAND_IN: &str = r##"#!/bin/sh
mkdir -p /run/seed
for disk in /dev/vd?; do
    label=$(dd if="$disk" bs=1 skip=32808 count=6 2>/dev/null | tr A-Z a-z)
    [ "$label" = cidata ] && mount -t iso9660 -o ro "$disk" /run/seed && break
done
hostname "$(sed -n 's/^local-hostname: //p' /run/seed/meta-data)"
read -r first < /run/seed/user-data
[ "$first" = "#cloud-config" ] || exit 1
# The one command: its words are JSON.
sed -n 's/.*"bootcmd":\[\["sh","-c","\(.*\)"\]\].*/\1/p' /run/seed/user-data | sed 's/\\n/\n/g; s/\\"/"/g; s/\\\\/\\/g' > /run/bootcmd
echo "CLOUD-INIT runs $(wc -c < /run/bootcmd) bytes"
sh /run/bootcmd
"##;
const INITTAB: &str = "::sysinit:/etc/rc\n::once:/usr/lib/cloud-init\n::ctrlaltdel:/sbin/reboot\n::shutdown:/bin/umount -a -r\n";

const SMALL_CHECK: &str = r#"set -x
test "$(hostname)" = taskbot
grep -q ' / ext4 ' /proc/mounts
grep -q 'instance-id: taskbot-' /run/seed/meta-data
echo tested > "$TASKBOT_OUTPUT/verdict.txt""#;

/// Whether a whole distribution is booted.
fn is_whole() -> bool {
    full() || optional(IMAGE).is_some()
}

fn image(folder: &Path) -> PathBuf {
    if !is_whole() {
        return upgrades::one_disk(folder, &[("usr/lib/cloud-init", STAND_IN), ("etc/inittab", INITTAB)]);
    }
    if let Some(given) = optional(IMAGE) {
        return given.into();
    }
    let kernel = packages::file("linux-image-", "amd64");
    run(Command::new("sh").args(["-c", MAKE, "make"]).arg(folder).arg(kernel));
    folder.join("disk.qcow2")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_image_is_spawned_and_tested() {
    let folder = tempfile::tempdir().unwrap();
    let disk = image(folder.path());
    let images = format!("    images: {{cloud: {{path: {}}}}}\n", disk.display());
    let worker = WORKER.replace("vm: {kvm: false}\n", &format!("vm:\n    kvm: false\n{images}"));
    let (environment, check) = match is_whole() {
        true => ("vm: {image: cloud, memory: 512M, cpus: 2}", CHECK),
        false => ("vm: {image: cloud, memory: 256M}", SMALL_CHECK),
    };
    let check = task_file("cloud-check", environment, check);
    let plan = Plan {
        repositories: &[("cloud-check", &[("task.yaml", check.as_str())])],
        rules: &[("cloud.yaml", RULE)],
        worker: &worker,
        slots: 1,
        ..Plan::default()
    };
    let installation = Installation::start(&plan).await;
    let published = |kind: &str| {
        crate::shipped::send(
            "drill.image.published",
            kind,
            &json!({"name": format!("debian-12-{kind}"), "kind": kind}),
        )
    };
    installation.bus.publish([published("live"), published("cloud")]).await;
    for task in ended(&installation, "cloud-check", 1).await {
        let shown = task.shown();
        assert_eq!(task.outcome(), "passed", "{shown}");
        assert_eq!(task.item, json!({"type": "image", "id": "debian-12-cloud"}), "{shown}");
        assert_eq!(task.results[0]["testcase"], "drill.cloud-check", "{shown}");
        for file in ["verdict.txt", "vm/boot-console.log"] {
            assert!(task.files.iter().any(|name| name == file), "{file}: {shown}");
        }
    }
    assert_eq!(told(&installation, "taskbot.result.new").await, 1, "the live image is nobody's business");
    crate::verify::nothing_left(&installation).await;
    installation.remove().await;
}
