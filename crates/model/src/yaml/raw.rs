//! The tree as serde-saphyr gives it, every node with its place.

use serde::{Deserialize, Deserializer, de};
use serde_yaml::Spanned;

/// The tree as serde-saphyr gives it.
#[derive(Debug)]
pub(super) enum Raw {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<RawKey>, Spanned<Raw>)>),
}

/// A key: any scalar, taken as text.
#[derive(Debug)]
pub(super) struct RawKey(pub(super) String);

impl<'de> Deserialize<'de> for RawKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A plain `null` is a key like any other: clauses ask with it.
        Option::<String>::deserialize(deserializer)
            .map(|text| Self(text.unwrap_or_else(|| "null".to_owned())))
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Raw;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a YAML value")
            }

            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
                Raw::deserialize(deserializer)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::Int(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Raw, E> {
                i64::try_from(value)
                    .map(Raw::Int)
                    .map_err(|_| E::custom("the number is too large; quote it if it is an id"))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
                Ok(Raw::Float(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
                Ok(Raw::Text(value.to_owned()))
            }

            fn visit_string<E>(self, value: String) -> Result<Raw, E> {
                Ok(Raw::Text(value))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Raw::List(list))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
                let mut map: Vec<(Spanned<RawKey>, Spanned<Raw>)> = Vec::new();
                while let Some(key) = entries.next_key::<Spanned<RawKey>>()? {
                    map.push((key, entries.next_value()?));
                }
                Ok(Raw::Map(map))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
