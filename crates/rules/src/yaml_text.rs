//! Values as YAML text that our own reader takes back as they are.

use serde_json::{Map, Value};

/// A value in flow style, on one line: `{item: {id: a-1-1}, n: 1}`.
pub(crate) fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("{}: {}", text(name), flow(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::String(value) => text(value),
        Value::Number(number) => plain_number(number),
        Value::Bool(_) | Value::Null => value.to_string(),
    }
}

/// A value in block style, each line indented by so many blanks; begins on a new line.
pub(crate) fn block(value: &Value, indent: usize) -> String {
    let blanks = " ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().map(|(name, value)| entry(name, value, indent)).collect()
        }
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| match item {
                Value::Object(fields) if !fits(item, indent + 2) => {
                    let inner = block(&Value::Object(Map::clone(fields)), indent + 2);
                    format!("{blanks}- {}", inner.trim_start())
                }
                _ => format!("{blanks}- {}\n", flow(item)),
            })
            .collect(),
        other => format!("{blanks}{}\n", flow(other)),
    }
}

/// `name: value`, with the value on the same line where it fits.
pub(crate) fn entry(name: &str, value: &Value, indent: usize) -> String {
    let blanks = " ".repeat(indent);
    if fits(value, indent + name.len() + 2) {
        return format!("{blanks}{}: {}\n", text(name), flow(value));
    }
    format!("{blanks}{}:\n{}", text(name), block(value, indent + 2))
}

/// The widest line that is written in flow style.
const LINE_CHARS_MAX: usize = 100;

fn fits(value: &Value, before: usize) -> bool {
    match value {
        Value::Array(items) if items.is_empty() => true,
        Value::Object(fields) if fields.is_empty() => true,
        Value::Array(_) | Value::Object(_) => before + flow(value).chars().count() <= LINE_CHARS_MAX,
        _ => true,
    }
}

/// The reader takes numbers only as Rust prints them.
fn plain_number(number: &serde_json::Number) -> String {
    match (number.as_i64(), number.as_f64()) {
        (None, Some(float)) => float.to_string(),
        _ => number.to_string(),
    }
}

/// A text: plain where no YAML reader makes something else of it, else in double quotes.
pub(crate) fn text(text: &str) -> String {
    const WORDS: [&str; 11] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", ""];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/' | '.'))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./+-@=~^".contains(c))
        && text.chars().any(|c| c.is_ascii_alphabetic())
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        && text.trim_start_matches(['.', '+', '-']).parse::<f64>().is_err();
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::yaml::Reader;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn words_are_quoted_where_yaml_changes_them() {
        let check = |given: &str, expect: &str| assert_eq!(text(given), expect);
        check("bash-5.2-1.fc42", "bash-5.2-1.fc42");
        check("no", "\"no\"");
        check("3.10", "\"3.10\"");
        check(".inf", "\".inf\"");
        check("a: b", "\"a: b\"");
        check("${x}", "\"${x}\"");
        check("", "\"\"");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(texts in prop::collection::vec("\\PC{0,40}", 1..6), n in any::<i64>(), f in -1e6..1e6_f64) {
            let value = json!({"texts": texts, "n": n, "f": f, "deep": {"a": [{"b": texts[0], "c": {}}, []], "long": vec!["x"; 80]}, "none": null});
            for written in [block(&value, 0), format!("{}\n", flow(&value))] {
                let reader = Reader::new("t.yaml", &written);
                let node = reader.parse();
                let report = reader.into_report();
                prop_assert!(!report.has_errors(), "{written}\n{report}");
                prop_assert_eq!(node.unwrap().to_json(), value.clone(), "{}", written);
            }
        }
    }
}
