//! Which distributions can be tested on, and in what: from a request's words to an environment.

use model::requirements::ExecutorKind;
use std::{collections::BTreeSet, fmt};

/// The most platforms.
pub const PLATFORMS_MAX: usize = 1000;

/// A distribution's version that can be tested on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The distribution, in small letters: `almalinux`.
    pub dist: String,
    /// What else it is called.
    pub aliases: Vec<String>,
    /// The version: `9` also stands for 9.4 where nothing nearer is named.
    pub version: String,
    /// The architectures, in the kernel's words.
    pub arches: BTreeSet<String>,
    /// The image of containers.
    pub container: Option<String>,
    /// The name of a machine's image in the workers' configuration.
    pub vm: Option<String>,
    /// What the workers' program `opennebula` is told as its image.
    pub external: Option<String>,
}

/// The architectures that all of [`KNOWN`] publish images for.
const ARCHES: [&str; 4] = ["x86_64", "aarch64", "ppc64le", "s390x"];
/// The distributions that everybody has, with the versions that they publish images of.
const KNOWN: [(&str, &[&str]); 5] = [
    ("almalinux", &["8", "9", "10"]),
    ("fedora", &["41", "42", "43"]),
    ("debian", &["11", "12", "13"]),
    ("ubuntu", &["20.04", "22.04", "24.04"]),
    ("centos", &["9", "10"]),
];

/// The platforms of those who configure none.
#[must_use]
pub fn known_platforms() -> Vec<Platform> {
    let of = |dist: &str, version: &str| Platform {
        dist: dist.to_owned(),
        aliases: match dist {
            "almalinux" => vec!["alma".to_owned()],
            "centos" => vec!["centos-stream".to_owned()],
            _ => Vec::new(),
        },
        version: version.to_owned(),
        arches: ARCHES.map(str::to_owned).into(),
        container: Some(match dist {
            "centos" => format!("quay.io/centos/centos:stream{version}"),
            _ => format!("{dist}:{version}"),
        }),
        vm: None,
        external: None,
    };
    KNOWN.iter().flat_map(|(dist, versions)| versions.iter().map(|version| of(dist, version))).collect()
}

/// What a request asks to be tested in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runner {
    /// Whatever is there.
    Any,
    /// Containers.
    Docker,
    /// Machines.
    OpenNebula,
}

impl Runner {
    /// By its word.
    pub(super) fn of(text: &str) -> Option<Self> {
        match text {
            "any" => Some(Self::Any),
            "docker" => Some(Self::Docker),
            "opennebula" => Some(Self::OpenNebula),
            _ => None,
        }
    }

    /// What can stand for it, the first that is able.
    const fn kinds(self) -> &'static [ExecutorKind] {
        match self {
            Self::Any => &[ExecutorKind::Container, ExecutorKind::Vm, ExecutorKind::External],
            Self::Docker => &[ExecutorKind::Container],
            Self::OpenNebula => &[ExecutorKind::Vm, ExecutorKind::External],
        }
    }
}

/// An environment to test in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// What runs it.
    pub(super) kind: ExecutorKind,
    /// The image.
    pub(super) image: String,
    /// The distribution, as it is called here.
    pub(super) dist: String,
    /// The version, as it was asked for.
    pub(super) version: String,
    /// The architecture, in the kernel's words.
    pub(super) arch: String,
}

/// What a request's words do not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unknown {
    /// The field.
    pub(super) field: &'static str,
    /// What is wrong, and what is known.
    pub(super) why: String,
}

/// An architecture in the kernel's words. The 32-bit ones run where the 64-bit ones do.
pub(super) fn kernel_arch(text: &str) -> &str {
    match text {
        "i386" | "i486" | "i586" | "i686" | "amd64" | "x86_64_v2" => "x86_64",
        "arm64" => "aarch64",
        "ppc64el" => "ppc64le",
        other => other,
    }
}

/// What a kind of environment is made of on a platform, where it has one.
fn image(kind: ExecutorKind, platform: &Platform) -> Option<&str> {
    match kind {
        ExecutorKind::Container => platform.container.as_deref(),
        ExecutorKind::Vm => platform.vm.as_deref(),
        _ => platform.external.as_deref(),
    }
}

/// What refuses a runner that nothing fits: where it would fit, and which runners this place has.
fn no_environment(platforms: &[Platform], of_arch: &[&&&Platform], runner: Runner) -> String {
    let fits = |runner: Runner, platform: &Platform| {
        runner.kinds().iter().any(|kind| image(*kind, platform).is_some())
    };
    let able = platforms.iter().filter(|platform| fits(runner, platform));
    let able = listed(able.map(|platform| format!("{} {}", platform.dist, platform.version)));
    let known = if able.is_empty() { "no platform has one".to_owned() } else { format!("known are {able}") };
    let others = [("docker", Runner::Docker), ("opennebula", Runner::OpenNebula)].into_iter();
    let others = others.filter(|(_, other)| of_arch.iter().any(|platform| fits(*other, platform)));
    let others = listed(others.map(|(word, _)| word));
    if others.is_empty() { known } else { format!("{known}; this one has {others}") }
}

fn listed<T: fmt::Display>(texts: impl IntoIterator<Item = T>) -> String {
    let all: BTreeSet<String> = texts.into_iter().map(|text| text.to_string()).collect();
    all.into_iter().collect::<Vec<_>>().join(", ")
}

/// What can test on a platform, the first that is best.
pub(super) fn places(
    platforms: &[Platform],
    runner: Runner,
    dist: &str,
    version: &str,
    arch: &str,
) -> Result<Vec<Place>, Unknown> {
    let wrong = |field, why| Err(Unknown { field, why });
    let (name, kernel) = (dist.trim().to_ascii_lowercase(), kernel_arch(arch.trim()).to_owned());
    let is_named = |platform: &&Platform| platform.dist == name || platform.aliases.contains(&name);
    let of_dist: Vec<&Platform> = platforms.iter().filter(is_named).collect();
    if of_dist.is_empty() {
        let known = listed(platforms.iter().map(|platform| &platform.dist));
        return wrong("dist_name", format!("`{dist}` is not known; known are {known}"));
    }
    // 9.4 is a 9, where there is no 9.4.
    let mut wanted = version.trim();
    let of_version = loop {
        let found: Vec<&&Platform> = of_dist.iter().filter(|platform| platform.version == wanted).collect();
        match wanted.rsplit_once('.') {
            _ if !found.is_empty() => break found,
            Some((shorter, _)) => wanted = shorter,
            None => {
                let known = listed(of_dist.iter().map(|platform| &platform.version));
                return wrong("dist_version", format!("{name} `{version}` is not known; known are {known}"));
            }
        }
    };
    let of_arch: Vec<_> = of_version.iter().filter(|platform| platform.arches.contains(&kernel)).collect();
    if of_arch.is_empty() {
        let known = listed(of_version.iter().flat_map(|platform| &platform.arches));
        return wrong("dist_arch", format!("{name} {version} has no `{arch}`; known are {known}"));
    }
    let place = |kind: ExecutorKind, platform: &Platform| {
        image(kind, platform).map(|image| Place {
            kind,
            image: image.to_owned(),
            dist: platform.dist.clone(),
            version: version.trim().to_owned(),
            arch: kernel.clone(),
        })
    };
    let places: Vec<Place> = runner
        .kinds()
        .iter()
        .flat_map(|kind| of_arch.iter().filter_map(|platform| place(*kind, platform)))
        .collect();
    if places.is_empty() {
        let kinds = listed(runner.kinds());
        let known = no_environment(platforms, &of_arch, runner);
        let why = format!("{name} {version} {arch} has no environment for it ({kinds}); {known}");
        return wrong("runner_type", why);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_to_environments() {
        let mut platforms = known_platforms();
        platforms.push(Platform {
            dist: "almalinux".to_owned(),
            aliases: Vec::new(),
            version: "9.4".to_owned(),
            arches: ["x86_64".to_owned()].into(),
            container: None,
            vm: Some("alma-9.4".to_owned()),
            external: Some("nebula".to_owned()),
        });
        let check = |runner: Runner, dist: &str, version: &str, arch: &str, expect: &str| {
            let got = match places(&platforms, runner, dist, version, arch) {
                Ok(places) => {
                    let one = |place: &Place| format!("{} {} {}", place.kind, place.image, place.arch);
                    places.iter().map(one).collect::<Vec<_>>().join(", ")
                }
                Err(unknown) => format!("{}: {}", unknown.field, unknown.why),
            };
            assert_eq!(got, expect, "{runner:?} {dist} {version} {arch}");
        };
        use Runner::{Any, Docker, OpenNebula};
        check(Docker, "almalinux", "9", "x86_64", "container almalinux:9 x86_64");
        check(Any, "AlmaLinux", "9.5", "amd64", "container almalinux:9 x86_64");
        check(Any, "alma", "8.10", "i686", "container almalinux:8 x86_64");
        check(Docker, "debian", "12", "arm64", "container debian:12 aarch64");
        check(Docker, "ubuntu", "20.04", "x86_64", "container ubuntu:20.04 x86_64");
        check(Any, "almalinux", "9.4", "x86_64", "vm alma-9.4 x86_64, external nebula x86_64");
        check(
            Docker,
            "almalinux",
            "9.4",
            "x86_64",
            "runner_type: almalinux 9.4 x86_64 has no environment for it (container); known are almalinux 10, \
             almalinux 8, almalinux 9, centos 10, centos 9, debian 11, debian 12, debian 13, fedora 41, fedora 42, \
             fedora 43, ubuntu 20.04, ubuntu 22.04, ubuntu 24.04; this one has opennebula",
        );
        check(
            OpenNebula,
            "debian",
            "12",
            "x86_64",
            "runner_type: debian 12 x86_64 has no environment for it (external, vm); known are almalinux 9.4; \
             this one has docker",
        );
        check(
            Any,
            "suse",
            "15",
            "x86_64",
            "dist_name: `suse` is not known; known are almalinux, centos, debian, fedora, ubuntu",
        );
        check(
            Any,
            "ubuntu",
            "20",
            "x86_64",
            "dist_version: ubuntu `20` is not known; known are 20.04, 22.04, 24.04",
        );
        check(
            Any,
            "debian",
            "12",
            "sparc",
            "dist_arch: debian 12 has no `sparc`; known are aarch64, ppc64le, s390x, x86_64",
        );
    }
}
