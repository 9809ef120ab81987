//! Processes that will not end, that outlive the run, and that end or unmount what they find.

use super::{ISOLATED, ON_THIS_HOST, Stand};
use crate::common::{processes, until};
use model::requirements::ExecutorKind;
use std::time::Duration;

/// Stubborn, in the background, in a session of their own, twice forked, without our environment, and with the
/// log held open. Each sleeps for a time that no other test does.
const SURVIVORS: &str = r#"
trap '' TERM INT HUP QUIT PIPE
stubborn="trap '' TERM INT HUP; while :; do sleep TIME; done"
sh -c "$stubborn" &
setsid sh -c "$stubborn" &
setsid sh -c "(setsid sh -c \"$stubborn\" &) &"
(env -i PATH="$PATH" setsid sh -c "(trap '' TERM; exec sleep TIME) &") </dev/null >/dev/null 2>&1
echo all started
"#;

#[tokio::test]
async fn nothing_outlives_its_phase() {
    for (n, kind) in ON_THIS_HOST.into_iter().enumerate() {
        let time = format!("81{n}4.5");
        let script = SURVIVORS.replace("TIME", &time);
        let stand = Stand::new(kind);
        // Where the one that started them ends by itself …
        let went = stand
            .run("prepare: sh ./survive\nrun: sh ./survive\ncleanup: sh ./survive", &[("survive", &script)])
            .await;
        went.is("passed", "").logs("all started");
        assert_eq!(processes(&format!("sleep\0{time}")), 0, "{kind}: something outlived the run");
        // … and where it does not.
        let script = format!("{script}\nwhile :; do sleep {time}; done\n");
        let went = stand.run("run: sh ./survive\ntimeout: {run: 2s}", &[("survive", &script)]).await;
        went.is("error(timeout)", "run took longer than its limit of 2s");
        assert!(went.took < Duration::from_secs(20), "{kind}: {:?}", went.took);
        until("the stubborn are gone", async || processes(&format!("sleep\0{time}")) == 0).await;
        stand.clean().await;
    }
}

/// Ends everything that it can, and unmounts everything that is mounted.
#[tokio::test]
async fn what_kills_and_unmounts_finds_only_itself() {
    let bystander = std::process::Command::new("sleep").arg("8371.5").spawn().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for kind in ISOLATED {
        let stand = Stand::new(kind);
        for (line, outcome, reason) in [
            ("kill -9 -1; sleep 60", "error(task)", "signal 9"),
            (
                "kill -9 1 2>/dev/null || :; for p in /proc/[0-9]*; do kill -9 ${p#/proc/} 2>/dev/null || :; done; sleep 60",
                "error(task)",
                "signal 9",
            ),
            (
                "cut -d' ' -f5 /proc/self/mountinfo | sort -r | while read -r m; do umount -l \"$m\" 2>/dev/null && echo unmounted; done || :; umount -a 2>/dev/null || :; mount -o remount,rw / 2>/dev/null && echo remounted || :",
                "passed",
                "",
            ),
        ] {
            for phase in ["run", "prepare"] {
                let rest = if phase == "run" { String::new() } else { "\nrun: 'true'".to_owned() };
                let went =
                    stand.run(&format!("{phase}: |\n  {line}{rest}\ncleanup: echo cleaned"), &[]).await;
                let (got, said) = went.outcome();
                assert_eq!(got, outcome, "{kind} {phase} {line}: {said}\n{}", went.log);
                assert!(said.contains(reason), "{kind} {phase} {line}: {said}");
                went.logs("cleaned");
                assert!(
                    !went.log.contains("\nunmounted") && !went.log.contains("remounted\n"),
                    "{}",
                    went.log
                );
            }
        }
        stand.clean().await;
    }
    let mut bystander = bystander;
    assert!(bystander.try_wait().unwrap().is_none(), "a process of this host was ended");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts);
}

/// In a machine a task is root: it ends all there is, also our agent, and that is told.
#[tokio::test]
async fn a_machine_whose_task_ends_everything() {
    let stand = Stand::new(ExecutorKind::Vm);
    let went = stand.run("run: |\n  echo begun\n  sync; for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = 1 ] || [ $p = $$ ] || kill -9 $p 2>/dev/null || true; done\n  sleep 100\ntimeout: {run: 20s, idle: 3s}\ncleanup: echo cleaned", &[]).await;
    let (outcome, reason) = went.outcome();
    assert!(
        outcome == "error(timeout)" && reason.contains("no output")
            || outcome == "error(task)" && reason.contains("the machine ended"),
        "{outcome}: {reason}\n{}",
        went.log
    );
    stand.clean().await;
}
