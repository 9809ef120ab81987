//! RPM packages of kernels, BusyBox and small programs, as the build system would keep them.

use crate::{shipped::run, support::environment::required};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// An architecture in the kernel's words, and in Debian's.
pub(super) const ARCHES: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];

/// Name, version and release of a package.
#[derive(Clone, Copy)]
pub(super) struct Build<'a>(pub(super) &'a str, pub(super) &'a str, pub(super) &'a str);

impl Build<'_> {
    pub(super) fn nvr(&self) -> String {
        format!("{}-{}-{}", self.0, self.1, self.2)
    }
}

/// Packs the files below `root` as a package of this architecture into a folder.
pub(super) fn rpm(build: Build<'_>, arch: &str, root: &Path, to: &Path) {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir_all(to).unwrap();
    let Build(name, version, release) = build;
    let mut files = String::new();
    for entry in fs::read_dir(root).unwrap() {
        files += &format!("/{}\n", entry.unwrap().file_name().display());
    }
    // The files are for another architecture: nothing here may look into them.
    let spec = format!(
        "%global debug_package %{{nil}}\n%global __os_install_post %{{nil}}\n%global _build_id_links none\n\
         %global _binary_payload w1.gzdio\n\
         Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: A package\nLicense: MIT\nAutoReqProv: no\n\
         %description\nA package.\n%install\nmkdir -p %{{buildroot}}\ncp -al {}/. %{{buildroot}}/\n%files\n{files}",
        root.display()
    );
    let file = place.path().join(format!("{name}.spec"));
    fs::write(&file, spec).unwrap();
    run(Command::new("rpmbuild")
        .args(["-bb", "--quiet", "--target", arch])
        .args(["--define", &format!("_topdir {}", place.path().display())])
        .arg(&file));
    let built = place.path().join(format!("RPMS/{arch}/{}.{arch}.rpm", build.nvr()));
    fs::copy(built, to.join(format!("{}.{arch}.rpm", build.nvr()))).unwrap();
}

/// A package of Debian that the tests are given.
pub(super) fn file(name: &str, debian_arch: &str) -> PathBuf {
    let folder = PathBuf::from(required("TASKBOT_TEST_KERNEL_PACKAGES"));
    let package = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap()).find(|entry| {
        let file = entry.file_name().display().to_string();
        file.starts_with(name) && file.ends_with(&format!("_{debian_arch}.deb"))
    });
    package.unwrap_or_else(|| panic!("{}: no {name} for {debian_arch}", folder.display())).path()
}

/// Such a package, unpacked.
pub(super) fn unpacked(name: &str, debian_arch: &str, to: &Path) {
    run(Command::new("dpkg-deb").arg("--extract").arg(file(name, debian_arch)).arg(to));
}

/// Packs Debian's kernel as Fedora's two packages into a folder; gives the version that it says of itself.
pub(super) fn kernel(build: Build<'_>, arch: &str, debian_arch: &str, to: &Path) -> String {
    let place = tempfile::tempdir_in(to.ancestors().find(|folder| folder.exists()).unwrap()).unwrap();
    let whole = place.path().join("whole");
    unpacked("linux-image-", debian_arch, &whole);
    let versions = fs::read_dir(whole.join("lib/modules")).unwrap();
    let version = versions.map(|entry| entry.unwrap().file_name().display().to_string()).next().unwrap();
    let inner = format!("lib/modules/{version}");
    let (core, modules) = (place.path().join("core"), place.path().join("modules"));
    for folder in [&core, &modules] {
        fs::create_dir_all(folder.join(&inner)).unwrap();
    }
    let vmlinuz = whole.join(format!("boot/vmlinuz-{version}"));
    fs::rename(vmlinuz, core.join(&inner).join("vmlinuz")).unwrap();
    fs::rename(whole.join(&inner).join("kernel"), modules.join(&inner).join("kernel")).unwrap();
    let Build(name, number, release) = build;
    rpm(Build(&format!("{name}-core"), number, release), arch, &core, to);
    rpm(Build(&format!("{name}-modules-core"), number, release), arch, &modules, to);
    version
}

/// Packs Debian's static BusyBox into a folder.
pub(super) fn busybox(build: Build<'_>, arch: &str, debian_arch: &str, to: &Path) {
    let place = tempfile::tempdir().unwrap();
    let (whole, own) = (place.path().join("whole"), place.path().join("own"));
    unpacked("busybox-static", debian_arch, &whole);
    fs::create_dir_all(own.join("usr/sbin")).unwrap();
    let program = ["bin/busybox", "usr/bin/busybox"].map(|path| whole.join(path));
    let program = program.iter().find(|path| path.exists()).unwrap();
    fs::copy(program, own.join("usr/sbin/busybox")).unwrap();
    rpm(build, arch, &own, to);
}
