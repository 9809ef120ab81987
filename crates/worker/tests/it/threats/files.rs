//! Escape from the work folder, by links, names and archives.

use super::{ISOLATED, ON_THIS_HOST, Stand, Victim};

/// All that a task can do to its folder so that whoever copies from it goes astray.
const TRAPS: &str = r#"
try() { "$@" 2>/dev/null && echo "$*" >> escaped || :; }
ln -s VICTIM way-out
try cp task.yaml way-out/new
try cp task.yaml VICTIM/new
try cp task.yaml ../../../../../../../../VICTIM/new
try cp task.yaml ../new
try ln VICTIM/file hard
try mknod device b 8 0
try sh -c 'echo x > /etc/passwd'
mkfifo fifo.log
ln -s VICTIM/file link.log
ln -s /proc/self/root/VICTIM root
ln -s . round
mkdir -p dir; ln -s ../way-out dir/over
echo odd > "$(printf 'new\nline.log')"
echo odd > "$(printf 'bytes\377.log')"
echo odd > ./-rf.log
echo odd > './--help.log'
echo odd > '$(touch VICTIM/new).log'
echo fine > "$TASKBOT_OUTPUT/fine.txt"
ln -s VICTIM/file "$TASKBOT_OUTPUT/out.txt"
ln -s VICTIM "$TASKBOT_OUTPUT/out"
test ! -s escaped
"#;

#[tokio::test]
async fn links_and_names_lead_nowhere() {
    for kind in ISOLATED {
        let victim = Victim::new();
        let stand = Stand::new(kind);
        let script = TRAPS.replace("VICTIM", victim.path().to_str().unwrap());
        let went = stand
            .run("run: sh ./traps\nartifacts: {paths: ['*.log', 'dir/**', 'way-out/**', 'root/**', 'escaped']}", &[("traps", &script)])
            .await;
        went.is("passed", "");
        let mut names = went.artifacts();
        names.sort_unstable();
        let hostile = format!("$(touch {}/new).log", victim.path().display());
        // A name with slashes is a folder with a file.
        assert!(!names.contains(&hostile.as_str()) || hostile.contains('/'), "{names:?}");
        assert_eq!(names, ["--help.log", "-rf.log", "fine.txt"], "{kind}: {}", went.log);
        for reason in ["`link.log` is left out", "`out.txt` is left out", "holds control characters"] {
            went.logs(reason);
        }
        victim.is_whole();
        stand.clean().await;
    }
}

#[tokio::test]
async fn the_output_folder_can_be_turned_into_a_link_and_takes_nothing_along() {
    for kind in ISOLATED {
        for line in [
            "rm -rf .taskbot; ln -s VICTIM .taskbot",
            "rm -rf .taskbot/output; ln -s VICTIM .taskbot/output",
            "rm -rf .taskbot/output; ln -s /etc .taskbot/output",
            "rm -rf .taskbot; echo x > .taskbot",
            "rm -rf .taskbot .[a-z]* * || :",
        ] {
            let victim = Victim::new();
            let stand = Stand::new(kind);
            let line = line.replace("VICTIM", victim.path().to_str().unwrap());
            let went = stand
                .run(&format!("run: \"{line}\"\ncleanup: 'true'\nartifacts: {{paths: ['**']}}"), &[])
                .await;
            let names = went.artifacts();
            assert!(
                !names.iter().any(|name| name.contains("passwd") || *name == "file"),
                "{kind} {line}: {names:?}"
            );
            went.is("passed", "");
            victim.is_whole();
            stand.clean().await;
        }
    }
}

/// What `prepare` leaves stands in the way of the files that come after it.
#[tokio::test]
async fn traps_that_prepare_sets_catch_nobody() {
    for kind in ISOLATED {
        let victim = Victim::new();
        let stand = Stand::new(kind);
        let line = format!("rm -rf .task*; ln -s {} .task\"\"bot", victim.path().display());
        let went = stand.run(&format!("prepare: '{line}'\nrun: 'true'"), &[]).await;
        let (outcome, reason) = went.outcome();
        assert!(
            outcome == "passed" || (outcome == "error(bad_task)" && reason.contains("is in the way")),
            "{kind}: {outcome} {reason}\n{}",
            went.log
        );
        victim.is_whole();
        stand.clean().await;
        // The mark that commands began is a folder now.
        let line = "rm -rf /run/taskbot/started; mkdir -p /run/taskbot/started/x 2>/dev/null || :";
        let went = stand.run(&format!("prepare: '{line}'\nrun: '{line}'\ncleanup: echo cleaned"), &[]).await;
        went.is("passed", "").logs("cleaned");
        stand.clean().await;
    }
}

/// Moves chains of twenty folders into each other, so that no path of it needs to be written; the last holds a file.
const DIG: &str = r#"
name=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
chain=$name; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do chain=$chain/$name; done
mkdir -p old/$chain; i=0
while [ $i -lt $1 ]; do
  mkdir -p new/$chain; mv old new/$chain/old; mv new old; i=$((i+1))
  [ -z "$2" ] || head -c 2000000 /dev/zero > old/$chain/file
done
[ -z "$2" ] || sleep 60
"#;

/// Deeper than any path can be written: counted, cleaned up, and no worker dies of it.
#[tokio::test]
async fn folders_without_end() {
    for kind in ISOLATED {
        let stand = Stand::new(kind).sized("disk: 64M");
        let went = stand.run("run: sh ./dig 60\nartifacts: {paths: ['**']}", &[("dig", DIG)]).await;
        went.is("passed", "");
        stand.clean().await;
        // What is down there counts: it was put there before it was that deep.
        let fill = "run: sh ./dig 40 filled\ntimeout: {run: 60s}";
        stand.run(fill, &[("dig", DIG)]).await.is("error(limit)", "disk space");
        stand.clean().await;
    }
}

/// A result that lies in the repository is nothing that was tested.
#[tokio::test]
async fn a_result_of_an_earlier_run() {
    for kind in ON_THIS_HOST {
        let stand = Stand::new(kind);
        for (run, expect, reason) in [
            ("'true'", "error(bad_results)", "was not written by this attempt"),
            ("touch r.tap", "passed", ""),
            ("cp -p r.tap kept && cat kept >r.tap", "passed", ""),
            ("cp -p r.tap $TASKBOT_OUTPUT/s.tap", "passed", ""),
            ("echo 'not ok 1 - new' >s.tap && echo 1..1 >>s.tap", "failed", "new"),
        ] {
            let task = format!("run: {run}\nresults: {{format: tap, path: '*.tap'}}");
            let went = stand.run(&task, &[("r.tap", "1..1\nok 1 - old\n")]).await;
            went.is(expect, reason);
        }
        stand.clean().await;
    }
}
