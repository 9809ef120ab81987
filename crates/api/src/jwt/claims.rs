//! What claims say: when a token holds, whose it is, and what that lets it do.

use super::{LEEWAY, Refusal};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use store::{Bounds, Role};

/// The longest name of a caller in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// What a claim lets a caller do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The claim: `groups`, or by a path `realm_access.roles`; without one, every token that holds fits.
    pub claim: Option<String>,
    /// What the claim must be, or hold: one of its list, or a word of `scope`.
    pub has: String,
    /// The role that it gives.
    pub role: Role,
    /// Within which bounds.
    pub bounds: Bounds,
}

impl Mapping {
    /// Whether claims are as this wants them.
    pub(super) fn fits(&self, claims: &Map<String, Value>) -> bool {
        let Some(claim) = &self.claim else { return true };
        match find(claims, claim) {
            Some(Value::Array(values)) => values.iter().any(|value| self.is(value)),
            // RFC 8693: a list of words.
            Some(Value::String(text)) if claim == "scope" => text.split(' ').any(|word| word == self.has),
            Some(value) => self.is(value),
            None => false,
        }
    }

    fn is(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => *text == self.has,
            Value::Bool(flag) => self.has.parse() == Ok(*flag),
            Value::Number(number) => {
                self.has.parse().is_ok_and(|wanted: serde_json::Number| wanted == *number)
            }
            _ => false,
        }
    }
}

/// A claim by its name, or else by a path with dots.
fn find<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

/// Holds `exp`, `nbf` and `iat` against the clock.
pub(super) fn check_times(
    claims: &Map<String, Value>,
    must_expire: bool,
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            let seconds = value.as_i64().or_else(|| {
                // As some write them: 1.7e9. The seconds' parts do not matter.
                value.as_f64().filter(|seconds| seconds.abs() < 1e15).map(|seconds| seconds as i64)
            });
            let at = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
            at.map(Some).ok_or_else(|| Refusal::Claims(format!("the token's `{name}` is no time")))
        }
    };
    match time("exp")? {
        Some(at) if at + LEEWAY <= now => return Err(Refusal::Expired),
        None if must_expire => {
            return Err(Refusal::Claims("the token has no `exp`: it would never expire".to_owned()));
        }
        _ => {}
    }
    for name in ["nbf", "iat"] {
        if time(name)?.is_some_and(|at| at - LEEWAY > now) {
            return Err(Refusal::Claims(format!("the token's `{name}` is in the future")));
        }
    }
    Ok(())
}

/// The caller's name.
pub(super) fn name_of(claims: &Map<String, Value>, claim: &str) -> Result<String, String> {
    let name = find(claims, claim).and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(format!("the token's `{claim}` must name the caller in 1 to {NAME_BYTES_MAX} bytes"));
    }
    Ok(name.to_owned())
}
