//! The first command in a virtual machine, against bare QEMU with the same kernel and initial RAM disk whose first
//! process is a script with that command.

use crate::{measure::print, quantile::median, services::required, silent::Silent};
use model::{
    Clock, Ids, SystemClock, SystemIds, TaskId, WorkerName,
    task::Trust,
    task_file::{Environment, Sizes, VmWish},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use worker::executor::{
    Allow, AttemptLabel, ExecRequest, Executor, Exit, HostConfig, Machines, Profile, ProvisionRequest,
    SizeLimits, VmConfig, kvm_works,
};

const ROUNDS: usize = 5;
const MEMORY_BYTES: u64 = 192 << 20;
/// What the worker tells an emulated kernel when the task says nothing.
const UNSAID: &str = "quiet cryptomgr.notests";
/// What the bare machine says when its command has run.
const DONE: &str = "the first command has run";

pub(crate) async fn run() {
    let temp = tempfile::tempdir().unwrap();
    let kernel = required("TASKBOT_TEST_VM_KERNEL");
    let initrd = required("TASKBOT_TEST_VM_INITRD");
    let kvm = kvm_works().await.is_ok();
    let with_init = temp.path().join("initrd");
    append_init(Path::new(&initrd), &with_init, temp.path());
    let host = HostConfig {
        worker: WorkerName::new("bench"),
        folder: temp.path().join("attempts"),
        sizes: SizeLimits::default(),
        allow: Allow::default(),
    };
    let config = VmConfig {
        host,
        images: BTreeMap::new(),
        network: BTreeSet::new(),
        time_factor: 10.0,
        kvm: Some(kvm),
    };
    let machines = Machines::new(config, Arc::new(SystemClock), Arc::new(SystemIds));
    machines.probe().await.unwrap();
    let mut times: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        times[0].push(bare(&kernel, &with_init, kvm, "quiet"));
        times[1].push(bare(&kernel, &with_init, kvm, UNSAID));
        times[2].push(ours(&machines, &kernel, &initrd, temp.path()).await);
    }
    let [bare, alike, ours] = times.map(median);
    let name = if kvm { "vm: first command (KVM)" } else { "vm: first command (emulated)" };
    print(name, ours, "ms", Some(bare));
    if !kvm {
        print("vm: the same, against a kernel that tests no ciphers", ours, "ms", Some(alike));
    }
}

/// The same initial RAM disk with a first process of its own.
fn append_init(from: &Path, to: &Path, scratch: &Path) {
    let folder = scratch.join("init");
    fs::create_dir(&folder).unwrap();
    let script =
        format!("#!/bin/sh\nmount -t devtmpfs dev /dev\ntrue\necho {DONE} >/dev/console\nsleep 1000\n");
    fs::write(folder.join("init"), script).unwrap();
    let pack = "chmod 755 init; echo init | cpio --quiet -o -H newc";
    let packed = Command::new("sh").args(["-c", pack]).current_dir(&folder).output().unwrap();
    assert!(packed.status.success());
    let mut all = fs::read(from).unwrap();
    // Each archive begins at a multiple of four bytes.
    all.resize(all.len().next_multiple_of(4), 0);
    all.extend(packed.stdout);
    fs::write(to, all).unwrap();
}

/// Milliseconds until the command has run in a bare machine.
fn bare(kernel: &str, initrd: &Path, kvm: bool, append: &str) -> f64 {
    let (machine, cpu) = if kvm { ("q35,accel=kvm", "host") } else { ("q35,accel=tcg", "max") };
    let begun = Instant::now();
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-serial", "stdio"])
        .args(["-machine", machine, "-cpu", cpu, "-smp", "1", "-device", "virtio-rng-pci"])
        .args(["-m", &format!("{}M", MEMORY_BYTES >> 20), "-kernel", kernel, "-initrd"])
        .arg(initrd)
        .args(["-append", &format!("console=ttyS0 {append}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(qemu.stdout.take().unwrap()).lines();
    let said = lines.map(Result::unwrap).any(|line| line.contains(DONE));
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    assert!(said, "the bare machine did not get to its command");
    took
}

/// Milliseconds until the worker has a command's end: from provisioning on, with its files going in.
async fn ours(machines: &Machines, kernel: &str, initrd: &str, scratch: &Path) -> f64 {
    let from = scratch.join("tree");
    fs::create_dir(&from).unwrap();
    fs::copy(kernel, from.join("vmlinuz")).unwrap();
    fs::copy(initrd, from.join("initrd")).unwrap();
    let wish = VmWish {
        kernel: Some("vmlinuz".into()),
        initrd: vec!["initrd".into()],
        sizes: Sizes { memory_bytes: Some(MEMORY_BYTES), disk_bytes: Some(64 << 20), ..Sizes::default() },
        ..VmWish::default()
    };
    let label =
        AttemptLabel { worker: WorkerName::new("bench"), task: TaskId::new(SystemIds.next()), attempt: 1 };
    let stop = CancellationToken::new();
    let request = ProvisionRequest {
        label: &label,
        environment: &Environment::Vm(Box::new(wish)),
        trust: Trust::Untrusted,
        limit: Duration::from_secs(60),
        deadline: SystemClock.now() + Duration::from_secs(3600),
    };
    let begun = Instant::now();
    let mut place = machines.provision(&request, &Silent, &stop).await.unwrap();
    place.copy_in(&from).await.unwrap();
    place.start(&Silent, &stop).await.unwrap();
    let (lines, env) = (["true".to_owned()], BTreeMap::new());
    let limit = Duration::from_secs(120);
    let request = ExecRequest { profile: Profile::Run, lines: &lines, dir: "", env: &env, limit, idle: None };
    assert_eq!(place.exec(&request, &Silent, &stop).await.unwrap(), Exit::Code(0));
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    place.destroy().await.unwrap();
    fs::remove_dir_all(from).ok();
    took
}
