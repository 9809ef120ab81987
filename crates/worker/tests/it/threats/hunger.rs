//! Tasks that eat what there is: processes, memory, disk, log.

use super::{ISOLATED, ON_THIS_HOST, Stand, Went, is_full};
use crate::common::{processes, until};
use model::requirements::ExecutorKind;
use std::{sync::Arc, time::Duration};
use taskbot_worker::{
    logs::spool::{Spool, SpoolLimits},
    runner::Control,
};

#[tokio::test]
async fn a_fork_bomb() {
    for kind in ON_THIS_HOST {
        let stand = Stand::new(kind).sized("processes: 60, memory: 128M");
        let bomb = "bomb() { bomb | bomb & }; bomb; sleep 7411.5";
        let went = stand.run(&format!("run: '{bomb}'\ntimeout: {{run: 3s}}"), &[]).await;
        let (outcome, reason) = went.outcome();
        // Busy shells give up when they cannot fork; the one that sleeps does not.
        assert!(
            matches!(outcome, "error(timeout)" | "error(task)" | "error(oom)"),
            "{kind}: {outcome} {reason}\n{}",
            went.log
        );
        assert!(went.took < Duration::from_secs(30), "{kind}: {:?}", went.took);
        until("the bomb is gone", async || processes("7411.5") == 0).await;
        stand.clean().await;
    }
}

#[tokio::test]
async fn memory_filling() {
    let eat = "awk 'BEGIN { s = \"x\"; for (;;) s = s s }'";
    let shared = "head -c 1000000000 /dev/zero > /dev/shm/x";
    let temporary = "head -c 1000000000 /dev/zero > /tmp/x";
    for kind in ISOLATED {
        let stand = Stand::new(kind).sized("memory: 64M");
        stand.run(&format!("run: {eat}"), &[]).await.is("error(oom)", "run ran out of memory");
        // Also in `prepare`, where it is an error of the task all the same.
        stand
            .run(&format!("prepare: {eat}\nrun: 'true'"), &[])
            .await
            .is("error(oom)", "prepare ran out of memory");
        for line in [shared, temporary] {
            let went = stand.run(&format!("run: {line}"), &[]).await;
            let (outcome, reason) = went.outcome();
            assert!(
                matches!(outcome, "error(oom)" | "failed" | "error(limit)"),
                "{kind} {line}: {outcome} {reason}\n{}",
                went.log
            );
        }
        stand.clean().await;
    }
}

/// Each way in which disk space can be used without the folder's files being large.
#[tokio::test]
async fn disk_filling() {
    let ways = [
        ("one file", "cat /dev/zero > big; sleep 60"),
        ("many files", "i=0; while :; do head -c 200000 /dev/zero > f$i; i=$((i+1)); done"),
        ("the output", "cat /dev/zero > \"$TASKBOT_OUTPUT/big\"; sleep 60"),
        (
            "no names",
            "exec 3> gone; rm gone; cat /dev/zero >&3 || :; exec 4> gone; rm gone; cat /dev/zero >&4 || :; sleep 60",
        ),
        ("nothing but names", "mkdir d; cd d; i=0; while :; do : > $i; i=$((i+1)); done"),
    ];
    for kind in ISOLATED {
        let stand = Stand::new(kind).sized("disk: 8M");
        for (way, line) in ways {
            let went = stand
                .run(&format!("run: |\n  {line}\ntimeout: {{run: 40s}}\nartifacts: {{paths: ['big']}}"), &[])
                .await;
            let (outcome, reason) = went.outcome();
            assert_eq!(outcome, "error(limit)", "{kind}, {way}: {reason}\n{}", went.log);
            assert!(reason.contains("more disk space than it may"), "{reason}");
        }
        // `prepare` of a container can fill more than the work folder.
        let folder = if kind == ExecutorKind::Container { "/usr" } else { "." };
        let line = format!(
            "i=0; mkdir -p {folder}/d; while :; do head -c 200000 /dev/zero > {folder}/d/f$i; i=$((i+1)); done"
        );
        stand
            .run(&format!("prepare: '{line}'\nrun: 'true'\ntimeout: {{prepare: 40s}}"), &[])
            .await
            .is("error(limit)", "prepare used more disk space");
        stand.clean().await;
    }
}

/// A log without a line's end.
#[tokio::test]
async fn a_flood_of_log() {
    let bytes: u64 = if is_full() { 1 << 30 } else { 10 << 20 };
    for kind in ON_THIS_HOST {
        let stand = Stand::new(kind);
        let repo = stand.repository(&format!("run: 'head -c {bytes} /dev/zero; echo; echo the end'"), &[]);
        let folder = stand.here.path().join("log");
        let limits = SpoolLimits { head_bytes: 1 << 20, tail_bytes: 1 << 20, ..SpoolLimits::default() };
        let spool = Arc::new(Spool::create(&folder, limits).unwrap());
        let kept = Arc::clone(&spool);
        let before = resident_kilobytes();
        let (ended, took) =
            stand.run_to(&repo, &Control::default(), Box::new(move |bytes| kept.append(bytes))).await;
        let grown = resident_kilobytes().saturating_sub(before);
        spool.seal();
        let summary = spool.summary();
        let text = String::from_utf8_lossy(&std::fs::read(folder.join("data")).unwrap()).into_owned();
        let went = Went { ended, log: text[text.len() - 2000..].to_owned(), took };
        went.is("passed", "").logs("the end");
        assert!(summary.truncated && summary.bytes <= (2 << 20) + 256, "{kind}: {summary:?}");
        assert!(text.contains("bytes of log are missing here"), "the log says what is missing");
        assert!(grown < 64 << 10, "{kind}: the worker grew by {grown} KiB");
        stand.clean().await;
    }
}

fn resident_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}
