//! What a machine boots from: disks over images, initial RAM disks, seeds and answers.

use super::{
    super::{
        ExecError, OUTPUT_DIR,
        host::{self, infra},
    },
    cpio::Cpio,
    guest, iso,
    scripts::{HOME, WORK_DIR},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::process::Command;

/// How long `qemu-img` may take to make a disk.
const IMAGE_LIMIT: Duration = Duration::from_secs(60);
/// What qcow2 files begin with.
const QCOW2: &[u8; 4] = b"QFI\xfb";
/// Where a tar archive says what it is.
const TAR_MAGIC_AT: u64 = 257;
/// The first process of a machine with our agent in its initial RAM disk.
const INIT: &str = include_str!("init.sh");
/// What it mounts.
const FSTAB: &str = "proc /proc proc defaults 0 0
sysfs /sys sysfs defaults 0 0
tmpfs /run tmpfs defaults 0 0
devpts /dev/pts devpts defaults 0 0
cgroup2 /sys/fs/cgroup cgroup2 defaults 0 0
";
/// The folders that it needs, and those below its `/dev`.
const FOLDERS: [(&str, u32); 9] = [
    ("proc", 0o555),
    ("sys", 0o555),
    ("dev", 0o755),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("taskbot", 0o755),
    ("taskbot/dev", 0o755),
    ("taskbot/dev/shm", 0o1777),
    ("taskbot/dev/pts", 0o755),
];
/// The links below its `/dev`.
const LINKS: [(&str, &str); 4] =
    [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")];
/// Where it is.
pub(super) const INIT_PATH: &str = "/taskbot/init";
/// What starts the agent early in a boot with cloud-init, and once the system is up.
const START_AGENT: &str = r#"mkdir -p /run/taskbot-boot
echo AGENT | base64 -d >/run/taskbot-boot/agent
if [ -d /run/systemd/system ]; then
  systemd-run --no-block --collect --unit=taskbot-agent -p After=multi-user.target sh /run/taskbot-boot/agent
else
  setsid sh /run/taskbot-boot/agent </dev/null >/dev/null 2>&1 &
fi"#;

/// How an image holds its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) name: &'static str,
    pub(super) disk_bytes: u64,
}

/// A file of the task: inside of its work folder also after all links.
pub(super) fn inside(work: &Path, path: &str) -> Result<PathBuf, ExecError> {
    let missing = |why: String| ExecError::BadTask(format!("`{path}` is not among the task's files: {why}"));
    let root = work.canonicalize().map_err(infra)?;
    let found = root.join(path).canonicalize().map_err(|error| missing(error.to_string()))?;
    if !found.starts_with(&root) {
        return Err(missing("it leads out of the work folder".to_owned()));
    }
    if !found.is_file() {
        return Err(missing("it is no file".to_owned()));
    }
    Ok(found)
}

/// The format of an image. One that leads to other files is refused: it could name any of the host's.
pub(super) fn format(image: &Path) -> Result<Format, ExecError> {
    let bad = |why: &str| ExecError::BadTask(format!("the image {}: {why}", image.display()));
    let mut file = File::open(image).map_err(|error| bad(&error.to_string()))?;
    let bytes = file.metadata().map_err(infra)?.len();
    let mut head = [0; 104];
    let count = read_up_to(&mut file, &mut head).map_err(infra)?;
    if count < head.len() || &head[..4] != QCOW2 {
        return Ok(Format { name: "raw", disk_bytes: bytes });
    }
    let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|n| head[at + n]));
    let version = number(4) >> 32;
    // Bit 2 says that the data are in another file.
    if number(8) != 0 || version >= 3 && number(72) & 4 != 0 {
        return Err(bad(
            "it refers to another file, which is not allowed; `qemu-img convert` makes one of both",
        ));
    }
    Ok(Format { name: "qcow2", disk_bytes: number(24) })
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    loop {
        match file.read(&mut buffer[count..])? {
            0 => return Ok(count),
            more => count += more,
        }
    }
}

/// Makes a disk: a layer over an image, or a blank one.
pub(super) async fn disk(over: Option<(&Path, Format)>, to: &Path, bytes: u64) -> Result<(), ExecError> {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]);
    if let Some((image, format)) = over {
        command.arg("-F").arg(format.name).arg("-b").arg(image);
    }
    command.arg(to).arg(over.map_or(bytes, |(_, format)| format.disk_bytes.max(bytes)).to_string());
    command.env_clear().env("PATH", host::PATH).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(IMAGE_LIMIT, command.output()).await;
    let output = output.map_err(|_| infra("qemu-img does not end"))?;
    let output = output.map_err(|error| infra(format!("qemu-img: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(infra(format!("qemu-img: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// What of ours is in an initial RAM disk.
pub(super) struct Own<'a> {
    /// What our agent begins its words with.
    pub(super) mark: &'a str,
    /// What drivers are loaded before anything else.
    pub(super) drivers: &'a str,
    /// A tar archive of the task's files, unless they come by the disk.
    pub(super) files: Option<&'a [u8]>,
}

/// Puts archives together to an initial RAM disk; with our agent, if it is to be in there.
pub(super) fn initrd(archives: &[PathBuf], own: Option<&Own<'_>>, to: &Path) -> Result<(), ExecError> {
    let mut cpio = Cpio::new(BufWriter::new(File::create(to).map_err(infra)?));
    for archive in archives {
        let bad = |error: io::Error| ExecError::BadTask(format!("{}: {error}", archive.display()));
        let mut file = File::open(archive).map_err(bad)?;
        let mut magic = [0; 5];
        file.seek(SeekFrom::Start(TAR_MAGIC_AT)).map_err(bad)?;
        let count = read_up_to(&mut file, &mut magic).map_err(bad)?;
        file.seek(SeekFrom::Start(0)).map_err(bad)?;
        let mut content = BufReader::new(file);
        if count == magic.len() && &magic == b"ustar" {
            cpio.tar(content).map_err(bad)?;
        } else {
            cpio.raw(&mut content).map_err(bad)?;
        }
    }
    if let Some(own) = own {
        let agent = guest::agent(own.mark);
        for (name, mode) in FOLDERS {
            cpio.folder(name, mode).map_err(infra)?;
        }
        for (name, target) in LINKS {
            cpio.link(&format!("taskbot/dev/{name}"), target).map_err(infra)?;
        }
        let files = [
            ("taskbot/init", 0o755, INIT),
            ("taskbot/agent", 0o644, agent.as_str()),
            ("taskbot/fstab", 0o644, FSTAB),
            ("taskbot/drivers", 0o644, own.drivers),
        ];
        for (name, mode, text) in files {
            cpio.file(name, mode, text.len() as u64, &mut text.as_bytes()).map_err(infra)?;
        }
        if let Some(files) = own.files {
            task_files(&mut cpio, files).map_err(infra)?;
        }
        cpio.end().map_err(infra)?;
    }
    cpio.finish().map_err(infra)
}

/// Adds the work folder and the home of commands.
fn task_files(cpio: &mut Cpio<impl Write>, files: &[u8]) -> io::Result<()> {
    let inside = |path: &'static str| path.trim_start_matches('/');
    let (work, home) = (inside(WORK_DIR), inside(HOME));
    let output = format!("{work}/{OUTPUT_DIR}");
    for folder in [work, &output, home] {
        // Each after those that it is in.
        for (end, _) in folder.match_indices('/').chain([(folder.len(), "")]) {
            let folder = &folder[..end];
            cpio.folder(folder, if folder == "var/tmp" { 0o1777 } else { 0o755 })?;
        }
    }
    cpio.tar_into(&format!("{work}/"), files)
}

/// Makes the seed that cloud-init finds by its label: it starts our agent.
pub(super) fn seed(mark: &str, id: &str, to: &Path) -> Result<(), ExecError> {
    let start = START_AGENT.replace("AGENT", &STANDARD.encode(guest::agent(mark)));
    // JSON is YAML.
    let user = serde_json::json!({"bootcmd": [["sh", "-c", start]], "ssh_deletekeys": false});
    let user = format!("#cloud-config\n{user}\n");
    let meta = format!("instance-id: taskbot-{id}\nlocal-hostname: taskbot\n");
    let files = [("user-data".to_owned(), user.into_bytes()), ("meta-data".to_owned(), meta.into_bytes())];
    fs::write(to, iso::medium("cidata", &files).map_err(infra)?).map_err(infra)
}

/// Makes the medium with the answers of an unattended installation.
pub(super) fn answers(label: &str, files: &[(String, PathBuf)], to: &Path) -> Result<(), ExecError> {
    let mut contents = Vec::new();
    for (name, path) in files {
        let mut content = Vec::new();
        let most = iso::ISO_BYTES_MAX as u64 + 1;
        let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut content));
        read.map_err(|error| ExecError::BadTask(format!("{}: {error}", path.display())))?;
        contents.push((name.clone(), content));
    }
    let medium = iso::medium(label, &contents).map_err(|error| ExecError::BadTask(error.to_string()))?;
    let mut file = File::create(to).map_err(infra)?;
    file.write_all(&medium).map_err(infra)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_lead_to_files_of_the_host_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        let make = |args: &[&str]| {
            let status = std::process::Command::new("qemu-img").arg("create").args(args).output().unwrap();
            assert!(status.status.success(), "{status:?}");
        };
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        make(&["-f", "qcow2", &text(&path("good")), "100M"]);
        assert_eq!(format(&path("good")).unwrap(), Format { name: "qcow2", disk_bytes: 100 << 20 });
        make(&["-f", "qcow2", "-b", &text(&path("good")), "-F", "qcow2", &text(&path("over"))]);
        assert!(matches!(format(&path("over")), Err(ExecError::BadTask(_))));
        let outside = format!("data_file={},data_file_raw=on", text(&path("data")));
        make(&["-f", "qcow2", "-o", &outside, &text(&path("split")), "1M"]);
        assert!(matches!(format(&path("split")), Err(ExecError::BadTask(_))));
        fs::write(path("raw"), [0; 4096]).unwrap();
        assert_eq!(format(&path("raw")).unwrap(), Format { name: "raw", disk_bytes: 4096 });
        fs::write(path("short"), QCOW2).unwrap();
        assert_eq!(format(&path("short")).unwrap().name, "raw");
    }

    #[test]
    fn files_are_inside() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("dir")).unwrap();
        fs::write(temp.path().join("dir/file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", temp.path().join("out")).unwrap();
        std::os::unix::fs::symlink("dir/file", temp.path().join("in")).unwrap();
        assert!(inside(temp.path(), "in").unwrap().ends_with("dir/file"));
        for (path, why) in [("out", "leads out"), ("dir", "no file"), ("none", "No such file")] {
            let error = inside(temp.path(), path).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
