//! How RPM and Debian order versions.

use std::cmp::Ordering;

/// Compares two versions or two releases as RPM does (`rpmvercmp` of RPM 4.15 and later): segments of digits
/// and of letters, `~` sorts before anything (also before nothing), `^` after nothing and before anything
/// else, leading zeros and all other characters do not count.
///
/// Source: `rpmio/rpmvercmp.c`.
#[must_use]
pub fn compare_rpm(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    if a == b {
        return Ordering::Equal;
    }
    loop {
        a = skip(a, |c| !is_rpm_significant(c));
        b = skip(b, |c| !is_rpm_significant(c));
        match (a.first(), b.first()) {
            (Some(b'~'), Some(b'~')) | (Some(b'^'), Some(b'^')) => {
                (a, b) = (&a[1..], &b[1..]);
                continue;
            }
            (Some(b'~'), _) | (None, Some(b'^')) => return Ordering::Less,
            (_, Some(b'~')) | (Some(b'^'), None) => return Ordering::Greater,
            (Some(b'^'), _) => return Ordering::Less,
            (_, Some(b'^')) => return Ordering::Greater,
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(_), Some(_)) => {}
        }
        let numeric = a[0].is_ascii_digit();
        let same_kind = |c: u8| if numeric { c.is_ascii_digit() } else { c.is_ascii_alphabetic() };
        let (one, rest_a) = a.split_at(a.len() - skip(a, same_kind).len());
        let (two, rest_b) = b.split_at(b.len() - skip(b, same_kind).len());
        if two.is_empty() {
            // Segments of different kinds: the one of digits is newer.
            return if numeric { Ordering::Greater } else { Ordering::Less };
        }
        let order = if numeric { compare_digits(one, two) } else { one.cmp(two) };
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// Compares `[epoch:]version[-release]` as RPM does: a missing epoch is 0, a missing release is older than
/// any (so a version alone is older than each of its releases).
///
/// Source: `parseEVR` and `rpmverCmp` of `lib/rpmver.c`.
#[must_use]
pub fn compare_rpm_evr(a: &str, b: &str) -> Ordering {
    let (epoch_a, version_a, release_a) = split_rpm_evr(a);
    let (epoch_b, version_b, release_b) = split_rpm_evr(b);
    compare_rpm(epoch_a, epoch_b).then_with(|| compare_rpm(version_a, version_b)).then_with(|| {
        match (release_a, release_b) {
            (Some(a), Some(b)) => compare_rpm(a, b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    })
}

fn split_rpm_evr(evr: &str) -> (&str, &str, Option<&str>) {
    let digits = evr.bytes().take_while(u8::is_ascii_digit).count();
    let (epoch, rest) = match evr[digits..].strip_prefix(':') {
        Some(rest) if digits > 0 => (&evr[..digits], rest),
        Some(rest) => ("0", rest),
        None => ("0", evr),
    };
    match rest.rsplit_once('-') {
        Some((version, release)) => (epoch, version, Some(release)),
        None => (epoch, rest, None),
    }
}

/// Compares `[epoch:]version[-revision]` as Debian does: a missing epoch or revision is 0; letters sort
/// before all other characters, `~` before everything, also before the end.
///
/// Source: Debian Policy 5.6.12 and dpkg's `lib/dpkg/version.c`.
#[must_use]
pub fn compare_debian(a: &str, b: &str) -> Ordering {
    let (epoch_a, version_a, revision_a) = split_debian(a.trim());
    let (epoch_b, version_b, revision_b) = split_debian(b.trim());
    compare_digits(epoch_a.as_bytes(), epoch_b.as_bytes())
        .then_with(|| compare_debian_part(version_a, version_b))
        .then_with(|| compare_debian_part(revision_a, revision_b))
}

fn split_debian(text: &str) -> (&str, &str, &str) {
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|c| c.is_ascii_digit()) => (epoch, rest),
        _ => ("", text),
    };
    let (version, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, version, revision)
}

fn compare_debian_part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        while a.first().is_some_and(|c| !c.is_ascii_digit()) || b.first().is_some_and(|c| !c.is_ascii_digit())
        {
            let order = debian_weight(a.first()).cmp(&debian_weight(b.first()));
            if order.is_ne() {
                return order;
            }
            // Equal weights here are equal characters, so neither is at its end.
            (a, b) = (&a[1..], &b[1..]);
        }
        let (digits_a, rest_a) = a.split_at(a.len() - skip(a, |c| c.is_ascii_digit()).len());
        let (digits_b, rest_b) = b.split_at(b.len() - skip(b, |c| c.is_ascii_digit()).len());
        let order = compare_digits(digits_a, digits_b);
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

const fn debian_weight(c: Option<&u8>) -> i32 {
    match c {
        Some(b'~') => -1,
        None | Some(b'0'..=b'9') => 0,
        Some(c) if c.is_ascii_alphabetic() => *c as i32,
        Some(c) => *c as i32 + 256,
    }
}

/// Compares two numbers of any length.
fn compare_digits(a: &[u8], b: &[u8]) -> Ordering {
    let (a, b) = (skip(a, |c| c == b'0'), skip(b, |c| c == b'0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn skip(text: &[u8], skipped: impl Fn(u8) -> bool) -> &[u8] {
    let len = text.iter().take_while(|c| skipped(**c)).count();
    &text[len..]
}

const fn is_rpm_significant(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'~' || c == b'^'
}

#[cfg(test)]
mod tests;
