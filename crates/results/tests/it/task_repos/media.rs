//! Media and kernels' files, made of packages that are built here. That they boot is for virtual machines to test.

use super::{Checkout, rpmbuild};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const KERNEL: &str = "6.0.0-1.test";

/// A package with a kernel and a module, as kernels' packages are laid out.
fn kernel_package(folder: &Path) -> PathBuf {
    let spec = format!(
        "Name: kernelpkg\nVersion: 1.0\nRelease: 1\nSummary: A kernel\nLicense: MIT\nBuildArch: noarch\n%description\nA kernel.\n\
         %install\nmkdir -p %{{buildroot}}/lib/modules/{KERNEL}/kernel\necho kernel > %{{buildroot}}/lib/modules/{KERNEL}/vmlinuz\n\
         echo module > %{{buildroot}}/lib/modules/{KERNEL}/kernel/loop.ko\nxz %{{buildroot}}/lib/modules/{KERNEL}/kernel/loop.ko\n\
         %files\n/lib/modules/{KERNEL}\n"
    );
    rpmbuild(folder, "kernelpkg", &spec, &[]).1
}

/// A package with a file, of the update that goes onto the medium.
fn update_package(folder: &Path) -> PathBuf {
    let spec = "Name: anaconda\nVersion: 1.0\nRelease: 1\nSummary: An installer\nLicense: MIT\nBuildArch: noarch\n%description\nAn installer.\n\
                %install\nmkdir -p %{buildroot}/usr/share/anaconda\necho new > %{buildroot}/usr/share/anaconda/version\n%files\n/usr/share/anaconda\n";
    rpmbuild(folder, "anaconda", spec, &[]).1
}

/// Where `fetch` puts the files of its entry with this number.
fn fetched(checkout: &Checkout, entry: usize) -> PathBuf {
    let folder = checkout.folder.path().join(&checkout.task.fetch[entry].to);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn iso() -> Checkout {
    Checkout::new(
        "anaconda-test-iso",
        json!({"update": "FEDORA-2026-1", "release": "F42", "kernel": ["set by the test"]}),
    )
}

#[test]
fn a_test_iso_holds_the_update_and_what_installs_it() {
    let place = tempfile::tempdir().unwrap();
    let checkout = iso();
    fs::copy(kernel_package(place.path()), fetched(&checkout, 0).join("kernel.rpm")).unwrap();
    fs::copy(update_package(place.path()), fetched(&checkout, 1).join("anaconda-1.0-1.noarch.rpm")).unwrap();
    let ran = checkout.run();
    let (outcome, shown) = ran.shown();
    assert_eq!(outcome, "passed", "{shown}\n{}", ran.log);
    assert!(shown.starts_with("passed anaconda-1.0-1.noarch.rpm is in the system\n"), "{shown}");
    assert!(shown.contains("passed the medium holds boot/vmlinuz"), "{shown}");

    // What is on the medium, read back from it.
    let image = checkout.folder.path().join(".taskbot/output/test.iso");
    let read = |name: &str| {
        let to = place.path().join("read");
        let _ = fs::remove_file(&to);
        output(
            Command::new("xorriso")
                .args(["-osirrox", "on", "-indev"])
                .arg(&image)
                .args(["-extract", name])
                .arg(&to),
        );
        to
    };
    assert_eq!(fs::read_to_string(read("/boot/vmlinuz")).unwrap(), "kernel\n");
    assert_eq!(
        fs::read_to_string(read("/test-iso")).unwrap(),
        format!("update=FEDORA-2026-1\nrelease=F42\nkernel={KERNEL}\n")
    );
    let root = read("/root.tar.gz");
    let files = output(Command::new("tar").arg("-tzf").arg(&root));
    for name in ["./usr/share/anaconda/version", "./bin/sh", "./sbin", "./etc/rc"] {
        assert!(files.lines().any(|line| line == name), "no {name} in\n{files}");
    }
    let told = output(
        Command::new("tar")
            .arg("-xzOf")
            .arg(&root)
            .args(["./etc/os-release", "./usr/share/test-iso/packages"]),
    );
    assert_eq!(told, "NAME=\"Test system\"\nID=test\nVERSION_ID=\"F42\"\nanaconda-1.0-1.noarch.rpm\n");
    let initrd = read("/boot/initrd.img");
    let files = output(Command::new("sh").arg("-c").arg("gzip -dc \"$0\" | cpio -t --quiet").arg(&initrd));
    for name in ["init", "bin/install-system", "bin/busybox", "etc/modules"] {
        assert!(files.lines().any(|line| line == name), "no {name} in\n{files}");
    }
}

#[test]
fn an_update_that_cannot_be_unpacked_fails_and_a_missing_kernel_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let checkout = iso();
    fs::copy(kernel_package(place.path()), fetched(&checkout, 0).join("kernel.rpm")).unwrap();
    fs::write(fetched(&checkout, 1).join("anaconda.rpm"), "no package").unwrap();
    let (outcome, shown) = checkout.run().shown();
    assert_eq!((outcome, shown.as_str()), ("failed", "failed anaconda.rpm cannot be unpacked"));
    assert!(!checkout.folder.path().join(".taskbot/output/test.iso").exists());

    let check = |fill: &dyn Fn(&Checkout), expect: &str| {
        let checkout = iso();
        fill(&checkout);
        let ran = checkout.run();
        assert_eq!(ran.conclusion.outcome.as_str(), "error(task)", "{}", ran.log);
        assert!(ran.log.contains(expect), "no {expect:?} in\n{}", ran.log);
    };
    check(&|_| {}, "no kernel: give URLs of its packages in `kernel`");
    check(
        &|checkout| fs::write(fetched(checkout, 0).join("kernel.rpm"), "cut").unwrap(),
        "kernel.rpm cannot be unpacked",
    );
    check(
        &|checkout| fs::write(fetched(checkout, 0).join("kernel.zip"), "").unwrap(),
        "neither an RPM nor a Debian package",
    );
    let none = update_package(place.path());
    check(
        &|checkout| assert!(fs::copy(&none, fetched(checkout, 0).join("k.rpm")).is_ok()),
        "the packages in `kernel` hold no vmlinuz",
    );
}

#[test]
fn a_kernel_and_its_modules_become_what_a_machine_boots() {
    let place = tempfile::tempdir().unwrap();
    let checkout = Checkout::new(
        "kernel-boot-files",
        json!({"nvr": "kernel-6.0.0-1.test", "arch": "x86_64", "kernel": ["set by the test"]}),
    );
    fs::copy(kernel_package(place.path()), fetched(&checkout, 0).join("kernel.rpm")).unwrap();
    let ran = checkout.run();
    assert_eq!(ran.conclusion.outcome.as_str(), "passed", "{}", ran.log);
    let left = checkout.folder.path().join(".taskbot/output");
    assert_eq!(fs::read_to_string(left.join("vmlinuz")).unwrap(), "kernel\n");
    let script = "gzip -dc \"$0\" | cpio -i --quiet --to-stdout etc/kernel-under-test etc/kernel-build lib/modules/*/kernel/loop.ko";
    let told = output(Command::new("sh").arg("-c").arg(script).arg(left.join("initrd")));
    // Modules are unpacked: not every kernel does that by itself.
    assert_eq!(told, format!("kernel-6.0.0-1.test\n{KERNEL}\nmodule\n"));
}
