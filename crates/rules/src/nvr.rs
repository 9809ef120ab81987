//! Names of RPM packages and builds: `name-version-release`, with or without epoch and architecture.

/// A build: `python-arrow-1.0-1.fc42`, `perl-1:5.40-3.fc42`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nvr<'t> {
    /// The name; it may hold dashes.
    pub name: &'t str,
    /// The epoch, if it is written.
    pub epoch: Option<u32>,
    /// The version.
    pub version: &'t str,
    /// The release.
    pub release: &'t str,
}

/// A package: a build's part for one architecture, `bash-5.2-1.fc42.x86_64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nevra<'t> {
    /// The build's part.
    pub nvr: Nvr<'t>,
    /// The architecture; `src` or `nosrc` for source packages.
    pub arch: &'t str,
}

/// The architectures that end a name without `.rpm`. A release may end in any word (`1.fc42`), so that
/// others are only taken for one in a file's name.
pub const ARCHES: [&str; 46] = [
    "aarch64",
    "alpha",
    "amd64",
    "arm64",
    "armv5tel",
    "armv6hl",
    "armv6l",
    "armv7hl",
    "armv7hnl",
    "armv7l",
    "athlon",
    "i386",
    "i486",
    "i586",
    "i686",
    "ia32e",
    "ia64",
    "loongarch64",
    "m68k",
    "mips",
    "mips64",
    "mips64el",
    "mips64r6",
    "mips64r6el",
    "mipsel",
    "mipsr6",
    "mipsr6el",
    "noarch",
    "nosrc",
    "pentium3",
    "pentium4",
    "ppc",
    "ppc64",
    "ppc64le",
    "ppc64p7",
    "riscv32",
    "riscv64",
    "s390",
    "s390x",
    "sh4",
    "sparc64",
    "src",
    "x86_64",
    "x86_64_v2",
    "x86_64_v3",
    "x86_64_v4",
];

/// Parses `name-[epoch:]version-release`, from the right.
///
/// `None` when a part is missing or empty, for white space or slashes, and for a file's name (see
/// [`parse_nevra`]).
#[must_use]
pub fn parse(text: &str) -> Option<Nvr<'_>> {
    let (rest, release) = text.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    let (epoch, version) = match version.split_once(':') {
        Some((epoch, version)) => (Some(parse_epoch(epoch)?), version),
        None => (None, version),
    };
    let (epoch, name) = match name.split_once(':') {
        // The old form, `epoch:name-version-release`.
        Some((before, name)) if epoch.is_none() => (Some(parse_epoch(before)?), name),
        _ => (epoch, name),
    };
    let parts = [name, version, release];
    let clean =
        |part: &&str| !part.is_empty() && part.chars().all(|c| !c.is_whitespace() && !matches!(c, '/' | ':'));
    let whole = parts.iter().all(clean) && !release.to_ascii_lowercase().ends_with(".rpm");
    whole.then_some(Nvr { name, epoch, version, release })
}

/// Parses `name-[epoch:]version-release.arch`, also with `.rpm` (`bash-5.2-1.fc42.src.rpm`).
#[must_use]
pub fn parse_nevra(text: &str) -> Option<Nevra<'_>> {
    let file = text.strip_suffix(".rpm");
    let (nvr, arch) = file.unwrap_or(text).rsplit_once('.')?;
    let plausible = !arch.is_empty() && arch.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    if !(ARCHES.contains(&arch) || (file.is_some() && plausible)) {
        return None;
    }
    Some(Nevra { nvr: parse(nvr)?, arch })
}

/// Digits only, so that `+1` and an empty epoch are none.
fn parse_epoch(text: &str) -> Option<u32> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name|epoch|version|release|arch`
    fn show(nvr: Nvr<'_>, arch: &str) -> String {
        let epoch = nvr.epoch.map_or_else(String::new, |epoch| epoch.to_string());
        format!("{}|{epoch}|{}|{}|{arch}", nvr.name, nvr.version, nvr.release)
    }

    #[test]
    fn builds_are_parsed_from_the_right() {
        for (text, expect) in [
            ("bash-5.2-1.fc42", "bash||5.2|1.fc42|"),
            ("python-arrow-1.0-1.fc42", "python-arrow||1.0|1.fc42|"),
            ("java-21-openjdk-21.0.4.0.7-2.fc42", "java-21-openjdk||21.0.4.0.7|2.fc42|"),
            ("perl-4:5.40-3.fc42", "perl|4|5.40|3.fc42|"),
            ("4:perl-5.40-3.fc42", "perl|4|5.40|3.fc42|"),
            ("a-1-2", "a||1|2|"),
            ("kernel-6.1~rc1^git1-0.1", "kernel||6.1~rc1^git1|0.1|"),
            ("-a-1-2", "-a||1|2|"),
            ("libstdc++-14.2-1", "libstdc++||14.2|1|"),
        ] {
            assert_eq!(parse(text).map(|nvr| show(nvr, "")).as_deref(), Some(expect), "{text}");
        }
    }

    #[test]
    fn what_is_no_build_is_none() {
        for text in [
            "",
            "-",
            "--",
            "bash",
            "bash-5.2",
            "-5.2-1",
            "bash--1",
            "bash-5.2-",
            "a b-1-2",
            "a-1-2\n",
            "https://example.org/bash-5.2-1",
            "bash-:5.2-1",
            "bash-x:5.2-1",
            "bash-1:2:5.2-1",
            "1:bash-2:5.2-1",
            "bash-+1:5.2-1",
            "bash-5.2-1.fc42.src.rpm",
            "bash-99999999999:1-1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn packages_have_an_architecture() {
        for (text, expect) in [
            ("bash-5.2-1.fc42.x86_64", "bash||5.2|1.fc42|x86_64"),
            ("bash-5.2-1.fc42.x86_64.rpm", "bash||5.2|1.fc42|x86_64"),
            ("bash-5.2-1.fc42.src.rpm", "bash||5.2|1.fc42|src"),
            ("bash-0:5.2-1.fc42.noarch", "bash|0|5.2|1.fc42|noarch"),
            ("1:bind-libs-9.18-1.fc42.aarch64", "bind-libs|1|9.18|1.fc42|aarch64"),
            ("game-1-1.e2k.rpm", "game||1|1|e2k"),
        ] {
            assert_eq!(parse_nevra(text).map(|p| show(p.nvr, p.arch)).as_deref(), Some(expect), "{text}");
        }
        for text in [
            "",
            "bash-5.2-1.fc42",
            "bash-5.2-1",
            "bash.rpm",
            "bash-5.2.rpm",
            "a-1-2.e2k",
            ".x86_64",
            "a-1-2..rpm",
        ] {
            assert_eq!(parse_nevra(text), None, "{text}");
        }
    }
}
