//! Tables, and the same tables against the real `rpm` and `dpkg` where they are installed.

use super::*;
use proptest::prelude::*;
use std::process::Command;

/// RPM's own vectors (`tests/rpmvercmp.at`), without those that only swap the sides.
const RPM: [(&str, &str, Ordering); 54] = {
    use Ordering::{Equal, Greater, Less};
    [
        ("1.0", "1.0", Equal),
        ("1.0", "2.0", Less),
        ("2.0.1", "2.0.1", Equal),
        ("2.0", "2.0.1", Less),
        ("2.0.1a", "2.0.1a", Equal),
        ("2.0.1a", "2.0.1", Greater),
        ("5.5p1", "5.5p1", Equal),
        ("5.5p1", "5.5p2", Less),
        ("5.5p10", "5.5p10", Equal),
        ("5.5p1", "5.5p10", Less),
        ("10xyz", "10.1xyz", Less),
        ("xyz10", "xyz10", Equal),
        ("xyz10", "xyz10.1", Less),
        ("xyz.4", "xyz.4", Equal),
        ("xyz.4", "8", Less),
        ("xyz.4", "2", Less),
        ("5.5p2", "5.6p1", Less),
        ("5.6p1", "6.5p1", Less),
        ("6.0.rc1", "6.0", Greater),
        ("10b2", "10a1", Greater),
        ("1.0aa", "1.0a", Greater),
        ("10.0001", "10.0001", Equal),
        ("10.0001", "10.1", Equal),
        ("10.0001", "10.0039", Less),
        ("4.999.9", "5.0", Less),
        ("20101121", "20101121", Equal),
        ("20101121", "20101122", Less),
        ("2_0", "2_0", Equal),
        ("2.0", "2_0", Equal),
        ("a", "a", Equal),
        ("a+", "a+", Equal),
        ("a+", "a_", Equal),
        ("+a", "_a", Equal),
        ("+_", "_+", Equal),
        ("1.0~rc1", "1.0~rc1", Equal),
        ("1.0~rc1", "1.0", Less),
        ("1.0~rc1", "1.0~rc2", Less),
        ("1.0~rc1~git123", "1.0~rc1~git123", Equal),
        ("1.0~rc1~git123", "1.0~rc1", Less),
        ("1.0^", "1.0^", Equal),
        ("1.0^", "1.0", Greater),
        ("1.0^git1", "1.0^git1", Equal),
        ("1.0^git1", "1.0", Greater),
        ("1.0^git1", "1.0^git2", Less),
        ("1.0^git1", "1.01", Less),
        ("1.0^20160101", "1.0^20160101", Equal),
        ("1.0^20160101", "1.0.1", Less),
        ("1.0^20160101^git1", "1.0^20160101^git1", Equal),
        ("1.0^20160102", "1.0^20160101^git1", Greater),
        ("1.0~rc1^git1", "1.0~rc1^git1", Equal),
        ("1.0~rc1^git1", "1.0~rc1", Greater),
        ("1.0^git1~pre", "1.0^git1", Less),
        // The known oddities, kept as they are.
        ("1b.fc17", "1.fc17", Less),
        ("1.", "1", Equal),
    ]
};

const EVR: [(&str, &str, Ordering); 16] = {
    use Ordering::{Equal, Greater, Less};
    [
        ("1:1.0-1", "2.0-1", Greater),
        ("0:1.0-1", "1.0-1", Equal),
        (":1.0-1", "1.0-1", Equal),
        ("1.0-1", "1.0-2", Less),
        ("1.0-1.fc42", "1.0-1.fc43", Less),
        ("1.0-1~bootstrap", "1.0-1", Less),
        ("1.0", "1.0-1", Less),
        ("1.0", "1.0", Equal),
        ("2.0", "1.0-9", Greater),
        ("10:1", "9:1", Greater),
        ("010:1", "10:1", Equal),
        ("1.0-rc-1", "1.0-rc-2", Less),
        ("a:1", "b:1", Less),
        ("5.2.15-3.fc42", "5.2.9-1.fc42", Greater),
        ("6.1~rc1-1", "6.1-1", Less),
        ("18446744073709551616-1", "18446744073709551617-1", Less),
    ]
};

const DEBIAN: [(&str, &str, Ordering); 28] = {
    use Ordering::{Equal, Greater, Less};
    [
        ("1.0", "1.0", Equal),
        ("1.0", "1.0-0", Equal),
        ("1.0-1", "1.0-2", Less),
        ("1:1.0", "2.0", Greater),
        ("0:1.0", "1.0", Equal),
        ("1.0~rc1-1", "1.0-1", Less),
        ("1.0~~", "1.0~", Less),
        ("1.0~", "1.0", Less),
        ("1.0a", "1.0+", Less),
        ("1.0a", "1.0", Greater),
        ("1.0+b1", "1.0", Greater),
        ("1.0-1+b1", "1.0-1", Greater),
        ("1.0-1~bpo12+1", "1.0-1", Less),
        ("9", "10", Less),
        ("1.09", "1.9", Equal),
        ("1.2.3", "1.2", Greater),
        ("1.2-3-4", "1.2-3-5", Less),
        ("1.2-3-4", "1.2-4", Greater),
        ("2.36-9+deb12u7", "2.36-9+deb12u10", Less),
        ("1.0-1ubuntu1", "1.0-1", Greater),
        ("1:2:3", "1:2", Greater),
        ("20240101", "2024.01.01", Greater),
        ("0.0.0", "0", Greater),
        ("0-0", "0", Equal),
        ("1.a", "1.1", Greater),
        ("1a1", "1a01", Equal),
        ("7:4.4.2-0ubuntu0.22.04.1", "7:4.4.2-0ubuntu0.22.04.1", Equal),
        ("99999999999999999999", "100000000000000000000", Less),
    ]
};

fn check(table: &[(&str, &str, Ordering)], compare: fn(&str, &str) -> Ordering) {
    for (a, b, expect) in table {
        assert_eq!(compare(a, b), *expect, "{a} to {b}");
        assert_eq!(compare(b, a), expect.reverse(), "{b} to {a}");
    }
}

#[test]
fn rpm_vectors() {
    check(&RPM, compare_rpm);
    check(&EVR, compare_rpm_evr);
}

#[test]
fn debian_vectors() {
    check(&DEBIAN, compare_debian);
}

/// Short texts over the characters that matter, many of them nearly equal.
fn version(separators: &'static str) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("[0-2a-b{separators}]{{1,6}}")).expect("a pattern")
}

/// All pairs of a fixed set of random versions, so that one call of the program asks for many.
fn pairs(separators: &'static str, count: usize) -> Vec<(String, String)> {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let strategy = (version(separators), version(separators));
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("a tree").current()).collect()
}

proptest! {
    #[test]
    fn orders_are_orders(a in "[0-2ab.~^:+-]{0,7}", b in "[0-2ab.~^:+-]{0,7}", c in "[0-2ab.~^:+-]{0,7}") {
        for compare in [compare_rpm, compare_rpm_evr, compare_debian] {
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }
        // RPM's is known not to be transitive across letters and carets; Debian's is.
        if compare_debian(&a, &b).is_le() && compare_debian(&b, &c).is_le() {
            prop_assert!(compare_debian(&a, &c).is_le());
        }
    }

    #[test]
    fn any_text_compares(a in ".*", b in ".*") {
        for compare in [compare_rpm, compare_rpm_evr, compare_debian] {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }
    }
}

/// Whether a program is there; without it the tables above have to do.
fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn real_rpm_agrees() {
    if !is_installed("rpm") {
        return;
    }
    let mut asked: Vec<(String, String)> = pairs(".~^_", 2_000);
    asked.extend(RPM.iter().map(|(a, b, _)| ((*a).to_owned(), (*b).to_owned())));
    let calls: String = asked.iter().map(|(a, b)| format!("print(rpm.vercmp('{a}','{b}')..';')")).collect();
    // One macro has a limited length.
    let mut answers = Vec::new();
    for chunk in calls.split_inclusive("..';')").collect::<Vec<_>>().chunks(200) {
        let program = format!("%{{lua:{}}}", chunk.concat());
        let output = Command::new("rpm").args(["--eval", &program]).output().expect("rpm");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        answers.extend(
            text.trim().split(';').filter(|a| !a.is_empty()).map(|a| a.parse::<i32>().expect("a number")),
        );
    }
    assert_eq!(answers.len(), asked.len());
    for ((a, b), answer) in asked.iter().zip(answers) {
        assert_eq!(compare_rpm(a, b), answer.cmp(&0), "{a} to {b}");
    }
}

#[test]
fn real_dpkg_agrees() {
    if !is_installed("dpkg") {
        return;
    }
    let mut asked: Vec<(String, String)> = pairs(".~+", 150);
    asked.retain(|(a, b)| [a, b].iter().all(|text| text.starts_with(|c: char| c.is_ascii_digit())));
    asked.extend(DEBIAN.iter().map(|(a, b, _)| ((*a).to_owned(), (*b).to_owned())));
    for (a, b) in asked {
        let holds = |relation: &str| {
            let output =
                Command::new("dpkg").args(["--compare-versions", &a, relation, &b]).output().expect("dpkg");
            assert!(output.stderr.is_empty(), "{a} {b}: {}", String::from_utf8_lossy(&output.stderr));
            output.status.success()
        };
        let real = if holds("lt") {
            Ordering::Less
        } else if holds("eq") {
            Ordering::Equal
        } else {
            Ordering::Greater
        };
        assert_eq!(compare_debian(&a, &b), real, "{a} to {b}");
    }
}
