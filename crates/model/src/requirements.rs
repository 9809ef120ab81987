//! What a task needs and what a worker offers.

use crate::{ids::QueueName, task_file::SECRET_LABEL, units::format_size};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt};

/// A way of running a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExecutorKind {
    /// A container of a Docker or Podman engine.
    Container,
    /// A virtual machine.
    Vm,
    /// bubblewrap on the worker's host.
    Sandbox,
    /// The worker's host itself, without isolation.
    Local,
    /// A configured program that provides environments.
    External,
}

impl ExecutorKind {
    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Vm => "vm",
            Self::Sandbox => "sandbox",
            Self::Local => "local",
            Self::External => "external",
        }
    }
}

impl fmt::Display for ExecutorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The most images of containers that a worker tells of.
pub const IMAGES_TOLD_MAX: usize = 500;
/// How many images a reason names.
const IMAGES_NAMED_MAX: usize = 5;

/// What a task needs of a worker. Empty fields ask for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Requirements {
    /// The architecture, in the kernel's words (`x86_64`, `aarch64`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// One of these must be there; none named means any.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub executors: BTreeSet<ExecutorKind>,
    /// Where the executor is a configured program: one of these must be there; none named means any.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub providers: BTreeSet<String>,
    /// Where the executor is a virtual machine: one of these images must be there; none named means any.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub vm_images: BTreeSet<String>,
    /// Where the executor is a container: one of these images must be there or be pulled; none named means any.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub container_images: BTreeSet<String>,
    /// All of these labels must be there.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
    /// Memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Disk space in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Hardware virtualisation.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub kvm: bool,
    /// An agent of another system, rather than a worker of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign: Option<ForeignNeed>,
}

/// Which agents of another system may run a task; our own workers never do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ForeignNeed {
    /// The system, such as `testflinger`.
    pub system: String,
    /// Its agents that are not to be given the task.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub exclude: BTreeSet<String>,
}

/// An agent of another system that asks for tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ForeignAgent {
    /// The system.
    pub system: String,
    /// Its name there.
    pub agent: String,
}

/// What a worker offers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Offer {
    /// Which of the workers of its name it is: the same as long as it keeps its work folder. Two at a time are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The queues it serves.
    pub queues: Vec<QueueName>,
    /// The architectures it can run (foreign ones by emulation).
    pub arches: BTreeSet<String>,
    /// The architectures of virtual machines that it runs, its own and emulated ones.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub vm_arches: BTreeSet<String>,
    /// The executors that work on it.
    pub executors: BTreeSet<ExecutorKind>,
    /// The configured programs that provide environments on it, by name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub providers: BTreeSet<String>,
    /// The images of virtual machines that it has, by their names in its configuration; nothing said means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_images: Option<BTreeSet<String>>,
    /// The images of containers that it has; nothing said means any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containers: Option<ContainerImages>,
    /// Free labels.
    pub labels: BTreeSet<String>,
    /// Memory for tasks, in bytes.
    pub memory_bytes: u64,
    /// Disk space for tasks, in bytes.
    pub disk_bytes: u64,
    /// Processors.
    pub cpus: u32,
    /// Whether hardware virtualisation works.
    pub kvm: bool,
    /// How many attempts it runs at the same time.
    pub slots: u32,
    /// Set when it is an agent of another system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<ForeignAgent>,
}

/// The images of containers that a worker has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContainerImages {
    /// Their names, as [`image_name`] writes them; not more than [`IMAGES_TOLD_MAX`].
    pub there: BTreeSet<String>,
    /// Whether it pulls others.
    pub pulls: bool,
}

/// The one way to write an image's name, of the many that engines take: `docker.io/library/fedora` is
/// `fedora:latest`, and so is `localhost/fedora`.
#[must_use]
pub fn image_name(name: &str) -> String {
    let bare = name.strip_prefix("docker.io/").map(|name| name.strip_prefix("library/").unwrap_or(name));
    let bare = bare.or_else(|| name.strip_prefix("localhost/")).unwrap_or(name);
    let last = bare.rsplit('/').next().unwrap_or(bare);
    if last.contains([':', '@']) { bare.to_owned() } else { format!("{bare}:latest") }
}

impl Requirements {
    /// Both needs at once; of two architectures or sizes the one in `self` or the larger counts.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.arch = self.arch.or_else(|| other.arch.clone());
        if self.executors.is_empty() {
            self.executors = other.executors.clone();
        } else if !other.executors.is_empty() {
            self.executors.retain(|kind| other.executors.contains(kind));
        }
        self.providers.extend(other.providers.iter().cloned());
        self.vm_images.extend(other.vm_images.iter().cloned());
        self.container_images.extend(other.container_images.iter().cloned());
        self.labels.extend(other.labels.iter().cloned());
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        self.disk_bytes = self.disk_bytes.max(other.disk_bytes);
        self.cpus = self.cpus.max(other.cpus);
        self.kvm |= other.kvm;
        self.foreign = self.foreign.or_else(|| other.foreign.clone());
        self
    }

    /// What the offer lacks, in words that go behind "it lacks"; nothing when it will do.
    #[must_use]
    pub fn lacking(&self, offer: &Offer) -> Vec<String> {
        let mut lacks = Vec::new();
        lacks.extend(self.stranger(offer.foreign.as_ref()).map(|why| format!("being for it: it {why}")));
        lacks.extend(self.arch_lack(offer));
        lacks.extend(self.executor_lack(offer));
        for label in self.labels.difference(&offer.labels) {
            lacks.push(match label.strip_prefix(SECRET_LABEL) {
                Some(secret) => format!("the secret {secret}"),
                None => format!("label {label}"),
            });
        }
        for (what, wanted, offered) in
            [("memory", self.memory_bytes, offer.memory_bytes), ("disk", self.disk_bytes, offer.disk_bytes)]
        {
            if let Some(wanted) = wanted.filter(|wanted| *wanted > offered) {
                lacks.push(format!("{what} {} (offered: {})", format_size(wanted), format_size(offered)));
            }
        }
        if let Some(cpus) = self.cpus.filter(|cpus| *cpus > offer.cpus) {
            lacks.push(format!("cpus {cpus} (offered: {})", offer.cpus));
        }
        if self.kvm && !offer.kvm {
            lacks.push("kvm".to_owned());
        }
        lacks
    }

    fn arch_lack(&self, offer: &Offer) -> Option<String> {
        let arch = self.arch.as_ref().filter(|arch| !offer.arches.contains(*arch))?;
        let in_machines = offer.vm_arches.contains(arch);
        if !self.is_for_machines() {
            let but = if in_machines { "; in virtual machines alone also this one" } else { "" };
            return Some(format!("arch {arch} (offered: {}{but})", list(&offer.arches)));
        }
        (!in_machines).then(|| format!("arch {arch} (offered: {})", list(&offer.vm_arches)))
    }

    /// Why none of the executors will do. Of one that is there, what is not there for it.
    fn executor_lack(&self, offer: &Offer) -> Option<String> {
        if self.executors.is_empty() || self.executors.iter().any(|kind| self.has_executor(*kind, offer)) {
            return None;
        }
        let missing: BTreeSet<_> = self.executors.difference(&offer.executors).copied().collect();
        let mut ways = Vec::new();
        if !missing.is_empty() {
            ways.push(format!("executor {} (offered: {})", list(&missing), list(&offer.executors)));
        }
        ways.extend(self.executors.intersection(&offer.executors).filter_map(|kind| match kind {
            ExecutorKind::External => {
                Some(format!("provider {} (offered: {})", list(&self.providers), list(&offer.providers)))
            }
            ExecutorKind::Vm => {
                let there = offer.vm_images.as_ref()?;
                Some(format!("image {} for a vm (there: {})", list(&self.vm_images), list(there)))
            }
            ExecutorKind::Container => {
                let images = offer.containers.as_ref()?;
                let there = images.there.iter().take(IMAGES_NAMED_MAX).cloned().collect();
                let more = if images.there.len() > IMAGES_NAMED_MAX { ", …" } else { "" };
                let (wanted, there) = (list(&self.container_images), list(&there));
                Some(format!("image {wanted} (it pulls none; there: {there}{more})"))
            }
            ExecutorKind::Sandbox | ExecutorKind::Local => None,
        }));
        Some(ways.join(" or "))
    }

    /// What an agent of another system, or a worker of ours, is that is not meant; tasks of the two never mix.
    #[must_use]
    pub fn stranger(&self, agent: Option<&ForeignAgent>) -> Option<String> {
        match (&self.foreign, agent) {
            (None, None) => None,
            (None, Some(agent)) => Some(format!("is an agent of {}", agent.system)),
            (Some(need), Some(agent)) if need.system == agent.system => {
                need.exclude.contains(&agent.agent).then(|| "is excluded by the task".to_owned())
            }
            (Some(need), _) => Some(format!("is no agent of {}", need.system)),
        }
    }

    /// Whether the offer has this executor, and one of the programs or images that are named for it.
    fn has_executor(&self, kind: ExecutorKind, offer: &Offer) -> bool {
        let provided = match kind {
            ExecutorKind::External => has_one_of(&self.providers, Some(&offer.providers)),
            ExecutorKind::Vm => has_one_of(&self.vm_images, offer.vm_images.as_ref()),
            ExecutorKind::Container => {
                offer.containers.as_ref().is_none_or(|images| images.pulls || self.has_image(images))
            }
            _ => true,
        };
        offer.executors.contains(&kind) && provided
    }

    fn has_image(&self, images: &ContainerImages) -> bool {
        let mut wanted = self.container_images.iter();
        self.container_images.is_empty() || wanted.any(|name| images.there.contains(&image_name(name)))
    }

    /// Whether a worker with this offer would first have to pull the image of its container.
    #[must_use]
    pub fn must_pull(&self, offer: &Offer) -> bool {
        !self.container_images.is_empty()
            && offer.containers.as_ref().is_some_and(|images| !self.has_image(images))
    }

    /// Whether it takes up memory or disk space that is counted.
    #[must_use]
    pub const fn has_size(&self) -> bool {
        self.memory_bytes.is_some() || self.disk_bytes.is_some()
    }

    /// Whether only a virtual machine will do, whose architecture need not be the worker's.
    fn is_for_machines(&self) -> bool {
        self.executors.len() == 1 && self.executors.contains(&ExecutorKind::Vm)
    }

    /// Whether the offer will do.
    #[must_use]
    pub fn met_by(&self, offer: &Offer) -> bool {
        self.lacking(offer).is_empty()
    }
}

impl fmt::Display for Requirements {
    /// `arch x86_64, container or sandbox, label big`; `nothing special` when empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(arch) = &self.arch {
            parts.push(format!("arch {arch}"));
        }
        if !self.executors.is_empty() {
            let or = |images: &BTreeSet<String>| {
                images.iter().map(String::as_str).collect::<Vec<_>>().join(" or ")
            };
            let (machines, containers) = (&self.vm_images, &self.container_images);
            let kinds = self.executors.iter().map(|kind| match kind {
                ExecutorKind::Vm if !machines.is_empty() => format!("vm of image {}", or(machines)),
                ExecutorKind::Container if !containers.is_empty() => {
                    format!("container of image {}", or(containers))
                }
                kind => kind.to_string(),
            });
            parts.push(kinds.collect::<Vec<_>>().join(" or "));
        }
        if !self.providers.is_empty() {
            let providers: Vec<_> = self.providers.iter().map(String::as_str).collect();
            parts.push(format!("provider {}", providers.join(" or ")));
        }
        parts.extend(self.labels.iter().map(|label| format!("label {label}")));
        parts.extend(self.memory_bytes.map(|bytes| format!("memory {}", format_size(bytes))));
        parts.extend(self.disk_bytes.map(|bytes| format!("disk {}", format_size(bytes))));
        parts.extend(self.cpus.map(|cpus| format!("cpus {cpus}")));
        if self.kvm {
            parts.push("kvm".to_owned());
        }
        if let Some(foreign) = &self.foreign {
            parts.push(format!("an agent of {}", foreign.system));
            parts.extend(foreign.exclude.iter().map(|agent| format!("not {agent}")));
        }
        if parts.is_empty() {
            return f.write_str("nothing special");
        }
        f.write_str(&parts.join(", "))
    }
}

/// Whether one of those that are wanted is there; wanting none, or there being any, will do.
fn has_one_of(wanted: &BTreeSet<String>, there: Option<&BTreeSet<String>>) -> bool {
    wanted.is_empty() || there.is_none_or(|there| !wanted.is_disjoint(there))
}

fn list<T: fmt::Display>(set: &BTreeSet<T>) -> String {
    if set.is_empty() {
        return "none".to_owned();
    }
    set.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_other_systems_go_to_their_agents_only() {
        let need = |system: &str| Requirements {
            foreign: Some(ForeignNeed { system: system.into(), exclude: ["b".to_owned()].into() }),
            ..Requirements::default()
        };
        let agent = |agent: &str| Offer {
            foreign: Some(ForeignAgent { system: "testflinger".into(), agent: agent.into() }),
            ..Offer::default()
        };
        assert!(need("testflinger").met_by(&agent("a")));
        for (need, offer, lack) in [
            (need("testflinger"), agent("b"), "is excluded by the task"),
            (need("paddles"), agent("a"), "is no agent of paddles"),
            (need("testflinger"), Offer::default(), "is no agent of testflinger"),
            (Requirements::default(), agent("a"), "is an agent of testflinger"),
        ] {
            assert_eq!(need.stranger(offer.foreign.as_ref()).as_deref(), Some(lack));
            assert!(!need.met_by(&offer));
        }
    }

    #[test]
    fn offers_that_do_and_that_lack() {
        let offer = Offer {
            arches: ["x86_64".to_owned()].into(),
            executors: [ExecutorKind::Container].into(),
            labels: ["big".to_owned()].into(),
            memory_bytes: 1000,
            cpus: 2,
            ..Offer::default()
        };
        let check = |needs: serde_json::Value, expect: &[&str]| {
            let needs: Requirements = serde_json::from_value(needs).unwrap();
            assert_eq!(needs.lacking(&offer), expect);
        };
        check(serde_json::json!({}), &[]);
        check(
            serde_json::json!({"arch": "x86_64", "executors": ["vm", "container"], "labels": ["big"]}),
            &[],
        );
        check(serde_json::json!({"arch": "s390x"}), &["arch s390x (offered: x86_64)"]);
        check(serde_json::json!({"executors": ["vm"]}), &["executor vm (offered: container)"]);
        check(
            serde_json::json!({"labels": ["fast", "secret:repo"], "memory_bytes": 2048, "kvm": true}),
            &["label fast", "the secret repo", "memory 2 KiB (offered: 1000 B)", "kvm"],
        );
        let offer = Offer {
            executors: [ExecutorKind::Container, ExecutorKind::Vm].into(),
            vm_arches: ["x86_64".to_owned(), "aarch64".to_owned()].into(),
            ..offer
        };
        let check = |needs: serde_json::Value, expect: &[&str]| {
            let needs: Requirements = serde_json::from_value(needs).unwrap();
            assert_eq!(needs.lacking(&offer), expect);
        };
        check(serde_json::json!({"arch": "aarch64", "executors": ["vm"]}), &[]);
        check(
            serde_json::json!({"arch": "aarch64", "executors": ["vm", "container"]}),
            &["arch aarch64 (offered: x86_64; in virtual machines alone also this one)"],
        );
        check(
            serde_json::json!({"arch": "s390x", "executors": ["vm"]}),
            &["arch s390x (offered: aarch64, x86_64)"],
        );
        let offer = Offer {
            executors: [ExecutorKind::Container, ExecutorKind::External].into(),
            providers: ["lab".to_owned()].into(),
            ..offer
        };
        let check = |needs: serde_json::Value, expect: &[&str]| {
            let needs: Requirements = serde_json::from_value(needs).unwrap();
            assert_eq!(needs.lacking(&offer), expect);
        };
        check(serde_json::json!({"executors": ["external"], "providers": ["lab", "cloud"]}), &[]);
        check(serde_json::json!({"executors": ["external", "container"], "providers": ["cloud"]}), &[]);
        check(
            serde_json::json!({"executors": ["external", "vm"], "providers": ["cloud"]}),
            &["executor vm (offered: container, external) or provider cloud (offered: lab)"],
        );
        let offer = Offer {
            executors: [ExecutorKind::Container, ExecutorKind::Vm].into(),
            vm_images: Some(["noble".to_owned()].into()),
            ..offer
        };
        let check = |needs: serde_json::Value, expect: &[&str]| {
            let needs: Requirements = serde_json::from_value(needs).unwrap();
            assert_eq!(needs.lacking(&offer), expect);
        };
        check(serde_json::json!({"executors": ["vm"], "vm_images": ["noble", "trixie"]}), &[]);
        check(serde_json::json!({"executors": ["container", "vm"], "vm_images": ["trixie"]}), &[]);
        check(
            serde_json::json!({"executors": ["vm"], "vm_images": ["trixie"]}),
            &["image trixie for a vm (there: noble)"],
        );
        let with_images = |pulls: bool| Offer {
            executors: [ExecutorKind::Container].into(),
            containers: Some(ContainerImages { there: ["fedora:42".to_owned()].into(), pulls }),
            ..offer.clone()
        };
        let check = |pulls: bool, needs: serde_json::Value, must_pull: bool, expect: &[&str]| {
            let needs: Requirements = serde_json::from_value(needs).unwrap();
            let offer = with_images(pulls);
            assert_eq!((needs.lacking(&offer), needs.must_pull(&offer)), (texts(expect), must_pull));
        };
        let image = |name: &str| serde_json::json!({"executors": ["container"], "container_images": [name]});
        check(false, image("fedora:42"), false, &[]);
        check(false, image("docker.io/library/fedora:42"), false, &[]);
        check(false, serde_json::json!({"executors": ["container"]}), false, &[]);
        check(true, image("fedora:43"), true, &[]);
        check(false, image("fedora:43"), true, &["image fedora:43 (it pulls none; there: fedora:42)"]);
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn names_of_images() {
        let check = |name: &str, expect: &str| assert_eq!(image_name(name), expect);
        check("fedora", "fedora:latest");
        check("docker.io/library/fedora", "fedora:latest");
        check("docker.io/group/name:1", "group/name:1");
        check("localhost/taskbot-test/busybox:1", "taskbot-test/busybox:1");
        check("localhost:5000/name", "localhost:5000/name:latest");
        check("registry.example.org/name@sha256:ab", "registry.example.org/name@sha256:ab");
    }
}
