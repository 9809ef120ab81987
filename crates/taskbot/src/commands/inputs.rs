//! Inputs and items as the command line gives them.

use crate::fault::Fault;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Reads `NAME=VALUE`s. A value that is JSON other than a plain word is taken as JSON, all else as text.
///
/// # Errors
/// One has no name, or stands twice.
pub(super) fn parse(flag: &str, inputs: &[String]) -> Result<Map<String, Value>, Fault> {
    let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    Ok(pairs(flag, inputs)?.into_iter().map(|(name, text)| (name, value(&text))).collect())
}

/// Reads the `NAME=VALUE`s of a flag as texts.
///
/// # Errors
/// One has no name, or stands twice.
pub(super) fn pairs(flag: &str, given: &[String]) -> Result<BTreeMap<String, String>, Fault> {
    let mut pairs = BTreeMap::new();
    for pair in given {
        let Some((name, text)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            let lacks = if pair.contains('=') { "name" } else { "value" };
            return Err(Fault::usage(format!("{flag}: `{pair}` has no {lacks}; expected NAME=VALUE")));
        };
        if pairs.insert(name.to_owned(), text.to_owned()).is_some() {
            return Err(Fault::usage(format!("{flag}: `{name}` is given twice")));
        }
    }
    Ok(pairs)
}

/// Reads `TYPE:ID`.
///
/// # Errors
/// It has no type or no id.
pub(super) fn item(text: &str) -> Result<Value, Fault> {
    match text.split_once(':') {
        Some((kind, id)) if !kind.is_empty() && !id.is_empty() => {
            Ok(serde_json::json!({"type": kind, "id": id}))
        }
        _ => Err(Fault::usage(format!(
            "--item: `{text}` is no item; expected TYPE:ID, such as koji_build:audit-2.8-1.fc42"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs() {
        let parse = |inputs: &[&str]| {
            let inputs: Vec<String> = inputs.iter().map(|&input| input.to_owned()).collect();
            parse("--input", &inputs).map(|map| Value::Object(map).to_string()).map_err(|fault| fault.message)
        };
        let got = parse(&["a=x=y", "b=3", "c=[1,\"2\"]", "d=\"3\"", "e=", "f=1.2.3"]).unwrap();
        assert_eq!(got, r#"{"a":"x=y","b":3,"c":[1,"2"],"d":"3","e":"","f":"1.2.3"}"#);
        assert!(parse(&["a"]).unwrap_err().contains("NAME=VALUE"));
        assert!(parse(&["=a"]).unwrap_err().contains("NAME=VALUE"));
        assert!(parse(&["a=1", "a=2"]).unwrap_err().contains("twice"));
        assert_eq!(item("bodhi_update:F:1").unwrap()["id"], "F:1");
        assert!(item("audit").is_err());
    }
}
