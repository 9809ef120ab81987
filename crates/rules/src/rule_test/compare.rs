//! What differs between what is expected of a rule and what it wishes.

use super::Expected;
use model::RuleName;
use serde_json::Value;

pub(super) fn listed(mark: &str, wishes: &[Value]) -> String {
    wishes.iter().map(|wish| format!("{mark}{wish}")).collect::<Vec<_>>().join("\n")
}

/// Pairs expected and got; each expected one takes the got one that meets it.
pub(super) fn compare(name: &RuleName, expected: &[Expected], got: Vec<Value>) -> Option<String> {
    let pairs = paired(expected, &got);
    let missing: Vec<&Expected> = expected
        .iter()
        .zip(&pairs)
        .filter(|(_, pair)| pair.is_none())
        .map(|(expected, _)| expected)
        .collect();
    let left: Vec<Value> = got
        .into_iter()
        .enumerate()
        .filter(|(at, _)| !pairs.contains(&Some(*at)))
        .map(|(_, wish)| wish)
        .collect();
    if missing.is_empty() && left.is_empty() {
        return None;
    }
    let mut out = format!("{name}: wishes other things than expected (- expected, + wished)");
    for expected in missing {
        out.push_str(&format!("\n    - {}", expected.wish));
        // The one that is nearest says most: the fields that differ.
        let near = left.iter().map(|wish| differing("", &expected.wish, wish)).min_by_key(Vec::len);
        if let Some(fields) = near.filter(|fields| fields.len() <= 3) {
            for field in fields {
                out.push_str(&format!("\n        {field}"));
            }
        }
    }
    if !left.is_empty() {
        out.push('\n');
        out.push_str(&listed("    + ", &left));
    }
    Some(out)
}

/// For each expected wish the place of a wish that meets it, each used once, as many as possible.
pub(super) fn paired(expected: &[Expected], got: &[Value]) -> Vec<Option<usize>> {
    /// Finds a wish for one expected, moving others where they have another choice (Kuhn's algorithm).
    fn find(at: usize, meets: &[Vec<bool>], taken: &mut [Option<usize>], tried: &mut [bool]) -> bool {
        for wish in 0..taken.len() {
            if !meets[at][wish] || tried[wish] {
                continue;
            }
            tried[wish] = true;
            if taken[wish].is_none_or(|other| find(other, meets, taken, tried)) {
                taken[wish] = Some(at);
                return true;
            }
        }
        false
    }
    let meets: Vec<Vec<bool>> = expected
        .iter()
        .map(|expected| got.iter().map(|wish| differing("", &expected.wish, wish).is_empty()).collect())
        .collect();
    let mut taken = vec![None; got.len()];
    for at in 0..expected.len() {
        find(at, &meets, &mut taken, &mut vec![false; got.len()]);
    }
    (0..expected.len()).map(|at| taken.iter().position(|taken| *taken == Some(at))).collect()
}

/// The fields of `expected` that `got` does not have so, each in words. Lists must be equal in length.
fn differing(path: &str, expected: &Value, got: &Value) -> Vec<String> {
    let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => expected
            .iter()
            .flat_map(|(name, expected)| match got.get(name) {
                Some(got) => differing(&inner(name), expected, got),
                None => vec![format!("{}: expected {expected}, there is none", inner(name))],
            })
            .collect(),
        (Value::Array(expected), Value::Array(got)) if expected.len() == got.len() => expected
            .iter()
            .zip(got)
            .enumerate()
            .flat_map(|(at, (expected, got))| differing(&format!("{path}[{at}]"), expected, got))
            .collect(),
        _ if expected == got || crate::predicate::equal(expected, got) == Some(true) => Vec::new(),
        _ => vec![format!("{path}: expected {expected}, got {got}")],
    }
}
