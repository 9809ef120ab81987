//! Installations: a medium that installs itself unattended, then the system that it left; and media that do not.

use super::{Bench, given};
use crate::common::{Commands, Log, ended, processes, until};
use model::task_file::{Answers, ConsoleStep, Sizes, VmInstall, VmLogin, VmWish};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use taskbot_worker::executor::{CollectLimits, Exit, Provisioned, StartError};
use tokio_util::sync::CancellationToken;

/// What every system here does first. The order of the drivers is that of their dependencies.
const BEGIN: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /proc /sys
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev
mkdir -p /run /root /tmp /etc /var/tmp
for m in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk virtio_console \
  scsi_common scsi_mod virtio_scsi cdrom sr_mod isofs; do
  [ ! -e /lib/modules/$m.ko ] || insmod /lib/modules/$m.ko
done
"#;

/// The installer: copies the system onto the disk, and the answers behind it.
const INSTALLER: &str = r#"
echo INSTALLER-UP
n=0; until [ -b /dev/vda ] && [ -b /dev/sr1 ] || [ $n -gt 50 ]; do sleep 0.2; n=$((n+1)); done
mkdir -p /cd /answers
mount -t iso9660 /dev/sr0 /cd && mount -t iso9660 /dev/sr1 /answers || { echo NO-MEDIA; sleep 1000; }
dd if=/cd/payload.img of=/dev/vda bs=1M && dd if=/answers/ks.cfg of=/dev/vda bs=1M seek=150 && sync
echo INSTALL-DONE
poweroff -f
"#;

/// The installed system: takes its name from the answers, and lets root in.
const INSTALLED: &str = r#"
n=0; until [ -b /dev/vda ] || [ $n -gt 50 ]; do sleep 0.2; n=$((n+1)); done
hostname "$(dd if=/dev/vda bs=1M skip=150 count=1 2>/dev/null | sed -n 's/^hostname=//p')"
echo 'root:$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA:0:0:root:/root:/bin/sh' >/etc/passwd
echo BOOTED-FROM-DISK
while :; do setsid getty -L 115200 ttyS0 vt100; done
"#;

const GRUB: &str = "set timeout=0\nserial --unit=0\nterminal_output serial\n\
    linux /boot/vmlinuz console=ttyS0 quiet panic=-1\ninitrd /boot/initrd\nboot\n";

fn shell(script: &str, folder: &Path) {
    let output = Command::new("sh").args(["-e", "-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A medium that boots the test's kernel with this first process; `payload` is on it as a file.
fn medium(to: &Path, init: &str, payload: Option<&Path>) {
    let temp = tempfile::tempdir().unwrap();
    let (iso, extra) = (temp.path().join("iso"), temp.path().join("extra"));
    fs::create_dir_all(iso.join("boot/grub")).unwrap();
    fs::create_dir_all(extra.join("lib/modules")).unwrap();
    fs::copy(given("TASKBOT_TEST_VM_KERNEL"), iso.join("boot/vmlinuz")).unwrap();
    for driver in fs::read_dir(given("TASKBOT_TEST_VM_MODULES")).unwrap().flatten() {
        fs::copy(driver.path(), extra.join("lib/modules").join(driver.file_name())).unwrap();
    }
    fs::write(extra.join("init"), format!("{BEGIN}{init}")).unwrap();
    let base = given("TASKBOT_TEST_VM_INITRD");
    // Two compressed archives, one behind the other.
    shell("chmod 755 init; find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 > ../extra.gz", &extra);
    shell(&format!("cat '{}' ../extra.gz > boot/initrd", base.display()), &iso);
    fs::write(iso.join("boot/grub/grub.cfg"), GRUB).unwrap();
    if let Some(payload) = payload {
        fs::copy(payload, iso.join("payload.img")).unwrap();
    }
    shell(&format!("grub-mkrescue -o '{}' iso", to.display()), temp.path());
}

fn wish(install: VmInstall) -> VmWish {
    VmWish {
        install: Some(install),
        login: Some(VmLogin::Console { user: "root".into(), password: Some("secret".into()) }),
        sizes: Sizes { memory_bytes: Some(256 << 20), disk_bytes: Some(200 << 20), ..Sizes::default() },
        ..VmWish::default()
    }
}

fn install() -> VmInstall {
    let files = BTreeMap::from([("ks.cfg".to_owned(), "answers.cfg".to_owned())]);
    VmInstall {
        iso: Some("boot.iso".into()),
        kernel: None,
        initrd: Vec::new(),
        append: None,
        answers: Some(Answers { label: "OEMDRV".into(), files }),
        console: vec![ConsoleStep {
            until: "INSTALLER-UP".into(),
            send: None,
            screenshot: Some("installer".into()),
            idle: None,
        }],
        until: Some("INSTALL-DONE".into()),
        idle: Duration::from_secs(30),
        timeout: Duration::from_secs(90),
    }
}

async fn files_of(place: &mut Box<dyn Provisioned>) -> Vec<String> {
    let to = tempfile::tempdir().unwrap();
    let limits = CollectLimits { total_bytes: 1 << 20, files: 10 };
    let collected = place.copy_out(&[], limits, to.path()).await.unwrap();
    let names: Vec<_> = collected.files.into_iter().map(|file| file.name).collect();
    for name in names.iter().filter(|name| name.ends_with(".png")) {
        let picture = fs::read(to.path().join(name)).unwrap();
        assert_eq!(&picture[..8], b"\x89PNG\r\n\x1a\n", "{name}");
    }
    names
}

#[tokio::test]
async fn an_installed_system_boots_from_its_disk() {
    let bench = Bench::new();
    let mut place = bench
        .place(wish(install()), |work| {
            let payload = work.join("payload.tmp");
            medium(&payload, INSTALLED, None);
            medium(&work.join("boot.iso"), INSTALLER, Some(&payload));
            fs::remove_file(payload).unwrap();
            fs::write(work.join("answers.cfg"), "hostname=by-the-answers\n").unwrap();
        })
        .await;
    let log = Log::default();
    let started = place.start(&log, &CancellationToken::new()).await;
    started.unwrap_or_else(|error| panic!("{error}: {}", log.text()));
    for text in ["INSTALL-DONE", "installed\n", "BOOTED-FROM-DISK"] {
        assert!(log.text().contains(text), "{text}: {}", log.text());
    }
    let lines = [
        "hostname",
        "cat deep/file; ls boot.iso 2>/dev/null || echo not copied",
        "ls /sys/block | grep -c '^sr'",
    ];
    let text = ended(Commands::run(&lines).on(&mut place).await, Exit::Code(1));
    assert_eq!(
        text, "by-the-answers\nfrom the repository\nnot copied\n0\n",
        "the medium is not in the drive any more"
    );
    // The machine comes back from a reset, and the next line runs in it.
    let lines = ["echo s >/tmp/before; reboot -f; sleep 100", "test ! -e /tmp/before; hostname"];
    let text = ended(Commands::run(&lines).on(&mut place).await, Exit::Code(0));
    assert!(text.contains("the machine resets itself") && text.ends_with("by-the-answers\n"), "{text}");
    let files = files_of(&mut place).await;
    assert_eq!(files, ["vm/boot-console.log", "vm/install-console.log", "vm/installer.png"]);
    place.destroy().await.unwrap();
    assert_eq!(bench.left(), 0);
}

#[tokio::test]
async fn who_switches_itself_off_half_way_is_on_a_picture() {
    let bench = Bench::new();
    let failing = VmInstall { answers: None, console: Vec::new(), ..install() };
    let mut place = bench
        .place(wish(failing), |work| medium(&work.join("boot.iso"), "echo NO-DISK >&2\npoweroff -f\n", None))
        .await;
    let log = Log::default();
    let error = place.start(&log, &CancellationToken::new()).await.expect_err("it comes up");
    assert!(
        matches!(&error, StartError::Failed(why) if why.contains("guest-shutdown") && why.contains("NO-DISK")),
        "{error}"
    );
    assert_eq!(files_of(&mut place).await, ["vm/failure.png", "vm/install-console.log"]);
    place.destroy().await.unwrap();
    assert_eq!(bench.left(), 0);
}

#[tokio::test]
async fn a_broken_medium_says_so_by_console_and_picture() {
    let bench = Bench::new();
    let broken = VmInstall { idle: Duration::from_secs(2), console: Vec::new(), ..install() };
    let mut place = bench
        .place(wish(broken), |work| {
            fs::write(work.join("boot.iso"), vec![0; 1 << 20]).unwrap();
            fs::write(work.join("answers.cfg"), "").unwrap();
        })
        .await;
    let log = Log::default();
    let error = place.start(&log, &CancellationToken::new()).await.expect_err("it comes up");
    assert!(
        matches!(&error, StartError::TimedOut(why) if why.contains("the console was silent for 6s")),
        "{error}"
    );
    assert_eq!(files_of(&mut place).await, ["vm/failure.png", "vm/install-console.log"]);
    place.destroy().await.unwrap();
    assert_eq!(bench.left(), 0);
}

/// Out of time, and cancelled, in the middle of an installation that would go on for ever.
#[tokio::test]
async fn an_installation_ends_when_it_is_told_to() {
    let bench = Bench::new();
    for is_cancelled in [false, true] {
        let timeout = Duration::from_secs(if is_cancelled { 600 } else { 1 });
        let endless = VmInstall { idle: Duration::from_secs(600), timeout, console: Vec::new(), ..install() };
        let mut place = bench
            .place(wish(endless), |work| {
                fs::write(work.join("boot.iso"), vec![0; 1 << 20]).unwrap();
                fs::write(work.join("answers.cfg"), "").unwrap();
            })
            .await;
        let (log, stop) = (Log::default(), CancellationToken::new());
        let cancelling = async {
            if is_cancelled {
                until("it installs", async || log.text().contains("installing onto a blank disk")).await;
                stop.cancel();
            }
            Instant::now()
        };
        let (started, told) = tokio::join!(place.start(&log, &stop), cancelling);
        let error = started.expect_err("it comes up");
        assert!(
            told.elapsed() < Duration::from_secs(if is_cancelled { 10 } else { 30 }),
            "{:?}",
            told.elapsed()
        );
        match &error {
            StartError::Stopped if is_cancelled => {}
            StartError::TimedOut(why) if !is_cancelled => assert!(why.contains("took too long"), "{why}"),
            other => panic!("{is_cancelled}: {other}"),
        }
        assert!(files_of(&mut place).await.contains(&"vm/install-console.log".to_owned()));
        place.destroy().await.unwrap();
        assert_eq!((bench.left(), processes(&bench.temp.path().display().to_string())), (0, 0));
        fs::remove_dir_all(bench.temp.path().join("tree")).unwrap();
    }
}
