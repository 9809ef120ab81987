//! The key that makes a task once.

use crate::{ids::SourceName, item::Item};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;

/// SHA-256 over what identifies a wish. The rule's revision is left out on purpose: a rule edited between
/// two deliveries of one event must not make a second task.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskKey(pub [u8; 32]);

/// What identifies a wish of a rule.
#[derive(Debug, Clone, Copy)]
pub struct KeyParts<'a> {
    /// The event's dedupe domain.
    pub domain: &'a SourceName,
    /// The event's id.
    pub event: &'a str,
    /// How often the event was replayed; 0 at first.
    pub generation: u32,
    /// The rule's name.
    pub rule: &'a str,
    /// The entry's place in `then`.
    pub entry: u32,
    /// The item.
    pub item: Option<&'a Item>,
    /// The matrix cell (an object; empty without a matrix).
    pub cell: &'a Value,
    /// The inputs (an object).
    pub inputs: &'a Value,
}

impl TaskKey {
    /// The key of a rule's wish.
    #[must_use]
    pub fn of_wish(parts: KeyParts<'_>) -> Self {
        let mut hash = Sha256::new();
        // Each part goes in with its length, so that no two lists of parts give the same bytes.
        let mut put = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        put(b"wish");
        put(parts.domain.as_str().as_bytes());
        put(parts.event.as_bytes());
        put(&parts.generation.to_be_bytes());
        put(parts.rule.as_bytes());
        put(&parts.entry.to_be_bytes());
        put(parts.item.map_or("", |item| &item.kind).as_bytes());
        put(parts.item.map_or("", |item| &item.id).as_bytes());
        // serde_json's maps are sorted by key, so equal objects give equal text.
        put(parts.cell.to_string().as_bytes());
        put(parts.inputs.to_string().as_bytes());
        Self(hash.finalize().into())
    }

    /// The key of a wish that nothing but its own id identifies: submitted by hand, or a re-run.
    #[must_use]
    pub fn of_id(what: &str, id: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((what.len() as u64).to_be_bytes());
        hash.update(what);
        hash.update(id);
        Self(hash.finalize().into())
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskKey({self})")
    }
}

impl Serialize for TaskKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TaskKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut key = [0; 32];
        hex::decode_to_slice(text, &mut key).map_err(de::Error::custom)?;
        Ok(Self(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_part_counts_and_no_two_run_together() {
        let domain = SourceName::from("bus");
        let item = Item::new("koji_build", "a-1-1");
        let (cell, inputs) = (json!({}), json!({"b": 1, "a": 2}));
        let base = KeyParts {
            domain: &domain,
            event: "e",
            generation: 0,
            rule: "r",
            entry: 0,
            item: Some(&item),
            cell: &cell,
            inputs: &inputs,
        };
        let key = TaskKey::of_wish(base);
        assert_eq!(key, TaskKey::of_wish(KeyParts { inputs: &json!({"a": 2, "b": 1}), ..base }));
        for other in [
            KeyParts { event: "er", rule: "", ..base },
            KeyParts { generation: 1, ..base },
            KeyParts { entry: 1, ..base },
            KeyParts { item: None, ..base },
            KeyParts { cell: &json!({"arch": "x"}), ..base },
            KeyParts { inputs: &json!({"a": 2}), ..base },
        ] {
            assert_ne!(key, TaskKey::of_wish(other));
        }
    }
}
