//! What the name of a run says: `user-YYYY-MM-DD_HH:MM:SS-suite-branch-kernel-flavor-machine_type[-distro]`.

use chrono::{DateTime, NaiveDateTime, Utc};

/// How times stand in names and in `timestamp`.
pub const TIMESTAMP_FORM: &str = "%Y-%m-%d_%H:%M:%S";
/// The bytes of such a time.
const TIMESTAMP_BYTES: usize = 19;

/// Suites whose names have a dash.
const DASHED_SUITES: [&str; 14] = [
    "big-cluster",
    "ceph-ansible",
    "ceph-deploy",
    "ceph-disk",
    "ceph-volume",
    "crimson-rados",
    "crimson-rados-experimental",
    "experimental-teuthology",
    "fs-upgrade",
    "kernel-upgrade",
    "perf-basic",
    "powercycle-ec",
    "rados-crimson",
    "seastore-rados",
];
/// Kinds of machines.
const MACHINE_TYPES: [&str; 18] = [
    "apollo",
    "bruuni",
    "burnupi",
    "cloud",
    "gibba",
    "incerta",
    "magna",
    "mako",
    "mira",
    "openstack",
    "ovh",
    "plana",
    "saya",
    "senta",
    "smithi",
    "trial",
    "typica",
    "vps",
];

/// What a run's name says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunName {
    /// Who scheduled it.
    pub user: Option<String>,
    /// When.
    pub scheduled: Option<DateTime<Utc>>,
    /// Which tests.
    pub suite: Option<String>,
    /// Of what is tested.
    pub branch: Option<String>,
    /// The kind of machines.
    pub machine_type: Option<String>,
}

impl RunName {
    /// Reads a name; what it does not say is missing.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        let Some((user, scheduled, rest)) = split_at_time(name) else { return Self::default() };
        let mut parsed = Self { user: Some(user.to_owned()), scheduled: Some(scheduled), ..Self::default() };
        let parts: Vec<&str> = rest.split('-').collect();
        let is_machine = |part: &str| {
            let mut kinds = part.split(',');
            kinds.all(|kind| MACHINE_TYPES.contains(&kind))
        };
        let machine = parts.iter().rposition(|part| is_machine(part)).unwrap_or(parts.len() - 1);
        let suite_parts = suite_parts(&parts);
        // A kernel and a flavor come before the machines; a kernel that nobody chose is a dash itself.
        let kernel = if machine >= 3 && parts[machine - 2].is_empty() && parts[machine - 3].is_empty() {
            2
        } else {
            1
        };
        let Some(branch_end) = machine.checked_sub(1 + kernel).filter(|end| *end > suite_parts) else {
            // Not that many parts: the suite and the branch are what is sure.
            parsed.suite = Some(parts[..suite_parts].join("-")).filter(|suite| !suite.is_empty());
            parsed.branch = parts.get(suite_parts).map(|branch| (*branch).to_owned());
            return parsed;
        };
        parsed.suite = Some(parts[..suite_parts].join("-"));
        parsed.branch = Some(parts[suite_parts..branch_end].join("-"));
        parsed.machine_type = Some(parts[machine].to_owned());
        parsed
    }
}

/// The user, the time, and what follows them.
fn split_at_time(name: &str) -> Option<(&str, DateTime<Utc>, &str)> {
    for (at, _) in name.match_indices('-') {
        let Some(text) = name.get(at + 1..at + 1 + TIMESTAMP_BYTES) else { break };
        let Ok(time) = NaiveDateTime::parse_from_str(text, TIMESTAMP_FORM) else { continue };
        let rest = name[at + 1 + TIMESTAMP_BYTES..].strip_prefix('-')?;
        return (at > 0).then(|| (&name[..at], time.and_utc(), rest));
    }
    None
}

/// How many parts are the suite's.
fn suite_parts(parts: &[&str]) -> usize {
    // `upgrade:quincy-x`, `upgrade:reef-x-singleton` …
    if parts[0].contains(':') && parts.get(1) == Some(&"x") {
        return 2;
    }
    let known = DASHED_SUITES.iter().filter(|suite| {
        let own: Vec<&str> = suite.split('-').collect();
        let (last, before) = own.split_last().unwrap_or((&"", &[]));
        parts.starts_with(before)
            && parts.get(before.len()).is_some_and(|part| part.split(':').next() == Some(last))
    });
    known.map(|suite| suite.split('-').count()).max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, expect: [&str; 5]| {
            let parsed = RunName::parse(name);
            let scheduled = parsed.scheduled.map(|time| time.format("%F %T").to_string());
            let got = [parsed.user, scheduled, parsed.suite, parsed.branch, parsed.machine_type];
            assert_eq!(got.map(|part| part.unwrap_or_default()), expect.map(str::to_owned), "{name}");
        };
        let at = "2013-09-25 23:00:06";
        check(
            "teuthology-2013-09-25_23:00:06-rados-master-testing-basic-plana",
            ["teuthology", at, "rados", "master", "plana"],
        );
        check(
            "a-b-2013-09-25_23:00:06-rados-wip-my-fix-distro-default-smithi",
            ["a-b", at, "rados", "wip-my-fix", "smithi"],
        );
        check(
            "me-2013-09-25_23:00:06-upgrade:quincy-x-main-distro-default-smithi",
            ["me", at, "upgrade:quincy-x", "main", "smithi"],
        );
        check(
            "me-2013-09-25_23:00:06-ceph-deploy-jewel-distro-basic-vps-centos",
            ["me", at, "ceph-deploy", "jewel", "vps"],
        );
        check(
            "me-2013-09-25_23:00:06-rados:verify-main---basic-plana,mira",
            ["me", at, "rados:verify", "main", "plana,mira"],
        );
        check("me-2013-09-25_23:00:06-rgw-main-distro-basic-newkind", ["me", at, "rgw", "main", "newkind"]);
        check("me-2013-09-25_23:00:06-rgw-main", ["me", at, "rgw", "main", ""]);
        check("my run", [""; 5]);
        check("me-2013-13-25_23:00:06-rgw-main", [""; 5]);
        check("-2013-09-25_23:00:06-", [""; 5]);
        check("me-2013-09-25_23:00:06-", ["me", at, "", "", ""]);
    }
}
