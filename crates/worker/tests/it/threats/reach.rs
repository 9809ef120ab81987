//! What a task must not reach: the worker's token, its loopback, and the metadata address.

use super::{ISOLATED, Stand};
use crate::engine::{self, service};
use model::requirements::ExecutorKind;
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A service at the worker's loopback that answers everybody, and counts them.
struct Loopback {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Loopback {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nreached";
                let _ = std::io::Write::write_all(&mut stream.unwrap(), answer.as_bytes());
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Looks for a secret wherever a process of this host could keep it.
const SEARCH: &str = r#"
for place in FILE /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/rootFILE /proc/[0-9]*/cwd/FILE /proc/[0-9]*/fd/[0-9] \
    /run/secrets/* /var/lib/taskbot/* /etc/taskbot/* /root/.docker/config.json /var/run/docker.sock; do
  if [ -p "$place" ] || [ -c "$place" ]; then continue; fi
  timeout 2 cat "$place" 2>/dev/null | tr '\0' '\n' | grep -e SECRET -e WORD && exit 1
done
env | grep -e SECRET -e WORD && exit 1
for folder in /proc/[0-9]*/cwd; do ls "$folder" 2>/dev/null | grep token && exit 1; done
echo "nothing found"
"#;

#[tokio::test]
async fn the_workers_token() {
    for kind in ISOLATED {
        let stand = Stand::new(kind);
        let token = stand.here.path().join("token");
        fs::write(&token, "tbw_0123456789_secret\n").unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        // What the worker's own environment holds stands for a token that was given by it.
        let own = service("TASKBOT_TEST_POSTGRES_URL");
        // Patterns that do not match themselves: the script is read by a process, too.
        let (start, end) = own.split_at(own.len() - 1);
        let script = SEARCH
            .replace("FILE", token.to_str().unwrap())
            .replace("SECRET", "tbw_012345678[9]_secret")
            .replace("WORD", &format!("'{start}[{end}]'"));
        let files = [("search", script.as_str())];
        let went = stand.run("prepare: sh ./search\nrun: sh ./search\ncleanup: sh ./search", &files).await;
        went.is("passed", "");
        assert_eq!(went.log.matches("nothing found").count(), 3, "{kind}: {}", went.log);
        stand.clean().await;
    }
}

/// Tries addresses by whatever client there is; says which answered.
const CALL: &str = r#"
PATH=$PATH:/bin:/usr/bin
for url in "$@"; do
  for get in "wget -q -T 2 -O -" "busybox wget -q -T 2 -O -" "curl -s -m 2"; do
    timeout 4 $get "http://$url/latest/meta-data" 2>/dev/null | grep -q reached && echo "$url answered"
  done
done
# The static BusyBox of small images has a wget that dies of looking up names.
for url in "$@"; do
  case $url in *:*) port=${url##*:} ;; *) port=80 ;; esac
  printf 'GET / HTTP/1.0\r\n\r\n' | timeout 4 nc -w 2 "${url%:*}" "$port" 2>/dev/null | grep -q reached && echo "$url answered"
done
echo "called all"
"#;

#[tokio::test]
async fn the_workers_loopback_and_the_metadata_address() {
    let loopback = Loopback::start();
    for kind in ISOLATED {
        let stand = Stand::new(kind);
        let line = format!(
            "sh ./call 127.0.0.1:{0} localhost:{0} 127.1:{0} 0.0.0.0:{0} 169.254.169.254",
            loopback.port
        );
        let went =
            stand.run(&format!("prepare: {line}\nrun: {line}\ncleanup: {line}"), &[("call", CALL)]).await;
        went.is("passed", "");
        assert_eq!(went.log.matches("called all").count(), 3, "{kind}: {}", went.log);
        assert!(!went.log.contains("answered"), "{kind}: {}", went.log);
        assert_eq!(loopback.asked(), 0, "{kind} reached the worker's loopback");
        stand.clean().await;
    }
}

/// The metadata service of a cloud that the engine's host is in: another host behind a bridge, and a route to it.
struct Cloud {
    server: String,
}

const METADATA: &str = "169.254.169.254";

impl Cloud {
    fn start() -> Self {
        let serve = format!("ip addr add {METADATA}/32 dev lo; while :; do echo reached | nc -l -p 80; done");
        let server = Self::docker(&["run", "-d", "IMAGE", "sh", "-c", &serve]);
        let address = Self::docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", &server]);
        let cloud = Self { server };
        cloud.route(&["replace", METADATA, "via", &address]);
        cloud
    }

    fn route(&self, words: &[&str]) {
        Self::docker(&[&["run", "--rm", "--network", "host", "IMAGE", "ip", "route"], words].concat());
    }

    /// Asks it from a container in this network.
    fn asked_from(network: &str) -> String {
        let ask = format!("echo | nc -w 2 {METADATA} 80");
        Self::docker(&["run", "--rm", "--network", network, "IMAGE", "sh", "-c", &ask])
    }

    fn docker(words: &[&str]) -> String {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", engine::socket(engine::Kind::Docker).display()));
        for word in words {
            match *word {
                "IMAGE" => command.arg(engine::image()),
                "run" => command.args(["run", "--cap-drop", "ALL", "--cap-add", "NET_ADMIN"]),
                word => command.arg(word),
            };
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.route(&["del", METADATA]);
        Self::docker(&["rm", "-f", &self.server]);
    }
}

#[tokio::test]
async fn prepare_has_network_and_no_way_to_the_metadata_service() {
    let _cloud = Cloud::start();
    assert_eq!(Cloud::asked_from("bridge"), "reached", "it is there");
    let stand = Stand::new(ExecutorKind::Container);
    let line = "ip route; sh ./call 169.254.169.254";
    let went = stand.run(&format!("prepare: {line}\nrun: {line}"), &[("call", CALL)]).await;
    went.is("passed", "");
    assert!(went.log.contains("default via"), "prepare has network: {}", went.log);
    assert_eq!(went.log.matches("called all").count(), 2, "{}", went.log);
    assert!(!went.log.contains("answered"), "{}", went.log);
    assert_eq!(Cloud::asked_from("host"), "reached", "the host's own way to it is as it was");
    stand.clean().await;
}

#[tokio::test]
async fn a_machine_reaches_nothing() {
    let loopback = Loopback::start();
    let stand = Stand::new(ExecutorKind::Vm);
    let line = format!(
        "sh ./call 127.0.0.1:{0} 10.0.2.2:{0} 10.0.2.3:{0} 169.254.169.254; ls /sys/class/net",
        loopback.port
    );
    let went = stand.run(&format!("prepare: {line}\nrun: {line}"), &[("call", CALL)]).await;
    went.is("passed", "");
    assert!(!went.log.contains("answered") && !went.log.contains("eth0"), "{}", went.log);
    assert_eq!(loopback.asked(), 0);
    stand.clean().await;
}

#[tokio::test]
async fn what_is_fetched_comes_from_outside() {
    let loopback = Loopback::start();
    let stand = Stand::new(ExecutorKind::Sandbox);
    let token = stand.here.path().join("token");
    fs::write(&token, "tbw_0123456789_secret\n").unwrap();
    let port = loopback.port;
    for url in [
        format!("http://127.0.0.1:{port}/x"),
        format!("http://localhost:{port}/x"),
        format!("http://2130706433:{port}/x"),
        format!("http://[::1]:{port}/x"),
        format!("http://[::ffff:127.0.0.1]:{port}/x"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://[fd00:ec2::254]/latest/meta-data".to_owned(),
        format!("file://{}", token.display()),
        format!("file://{}/../token", stand.here.path().display()),
    ] {
        let went = stand.run(&format!("fetch: [{{url: '{url}', to: in/}}]\nrun: cat in/*"), &[]).await;
        let (outcome, reason) = went.outcome();
        assert_eq!(outcome, "error(bad_task)", "{url}: {reason}");
        assert!(
            ["not a public address", "no file below a folder", "No such file"]
                .iter()
                .any(|why| reason.contains(why)),
            "{url}: {reason}"
        );
    }
    assert_eq!(loopback.asked(), 0);
    stand.clean().await;
}

/// Tries to be root in a user namespace of its own, by every way that is at hand.
const NAMESPACE: &str = r#"
PATH=$PATH:/bin:/usr/bin:/sbin:/usr/sbin
unshare -U true 2>/dev/null && echo "unshare got through"
unshare -Ur true 2>/dev/null && echo "unshare -r got through"
bwrap --unshare-user --ro-bind / / true 2>/dev/null && echo "bwrap got through"
perl -e 'exit(syscall($ARGV[0], 0x10000000) == -1)' $([ "$(uname -m)" = x86_64 ] && echo 272 || echo 97) 2>/dev/null && echo "perl got through"
perl -e 'my $p = syscall($ARGV[0], 0x10000011, 0, 0, 0, 0); exit($p == -1 ? 1 : 0)' $([ "$(uname -m)" = x86_64 ] && echo 56 || echo 220) 2>/dev/null && echo "clone got through"
(echo a; echo b) | sort >/dev/null && echo "processes are made"
"#;

#[tokio::test]
async fn a_user_namespace_of_its_own() {
    for kind in ISOLATED {
        let stand = Stand::new(kind);
        let files = [("own", NAMESPACE)];
        let went = stand.run("prepare: sh ./own\nrun: sh ./own\ncleanup: sh ./own", &files).await;
        went.is("passed", "");
        assert_eq!(went.log.matches("processes are made").count(), 3, "{kind}: {}", went.log);
        assert!(!went.log.contains("got through"), "{kind}: {}", went.log);
        stand.clean().await;
    }
}
