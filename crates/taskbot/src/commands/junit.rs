//! Outcomes of rule tests as JUnit XML, as every CI reads it: a suite for each file.

use crate::{fault::Fault, output};
use anyhow::Result;
use rules::rule_test::TestOutcome;
use std::{collections::BTreeMap, fmt::Write, path::Path};

/// Writes the outcomes; `-` is standard output.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(file: &Path, outcomes: &[TestOutcome]) -> Result<()> {
    let text = document(outcomes);
    if file.as_os_str() == "-" {
        return Ok(output::write(text.as_bytes())?);
    }
    let written = std::fs::write(file, text);
    written.map_err(|error| Fault::usage(format!("cannot write {}: {error}", file.display())).into())
}

fn document(outcomes: &[TestOutcome]) -> String {
    let mut files: BTreeMap<&str, Vec<&TestOutcome>> = BTreeMap::new();
    for outcome in outcomes {
        files.entry(&outcome.file).or_default().push(outcome);
    }
    let failed = |outcomes: &[&TestOutcome]| outcomes.iter().filter(|outcome| !outcome.passed).count();
    let all: Vec<&TestOutcome> = outcomes.iter().collect();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let mut line = |written: std::fmt::Arguments<'_>| {
        // Writing to a text never fails.
        _ = text.write_fmt(written);
        text.push('\n');
    };
    line(format_args!("<testsuites tests=\"{}\" failures=\"{}\">", all.len(), failed(&all)));
    for (file, outcomes) in &files {
        let name = escaped(file);
        let (count, failures) = (outcomes.len(), failed(outcomes));
        line(format_args!("  <testsuite name=\"{name}\" tests=\"{count}\" failures=\"{failures}\">"));
        for outcome in outcomes {
            let case = format!(
                "    <testcase classname=\"{name}\" name=\"{}\" file=\"{name}\" line=\"{}\"",
                escaped(&outcome.name),
                outcome.line
            );
            if outcome.passed {
                line(format_args!("{case}/>"));
                continue;
            }
            let difference = escaped(outcome.difference.as_deref().unwrap_or("it fails"));
            line(format_args!("{case}>"));
            line(format_args!("      <failure message=\"not as expected\">{difference}</failure>"));
            line(format_args!("    </testcase>"));
        }
        line(format_args!("  </testsuite>"));
    }
    line(format_args!("</testsuites>"));
    text
}

/// A text in XML; characters that XML cannot hold become the replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_for_each_file() {
        let outcome = |file: &str, name: &str, difference: Option<&str>| TestOutcome {
            file: file.to_owned(),
            name: name.to_owned(),
            line: 3,
            passed: difference.is_none(),
            difference: difference.map(str::to_owned),
        };
        let outcomes = [
            outcome("a.yaml", "one & two", None),
            outcome("b.yaml", "\"three\"", Some("+ <task>\u{7}\n- other")),
        ];
        insta::assert_snapshot!(document(&outcomes), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites tests="2" failures="1">
          <testsuite name="a.yaml" tests="1" failures="0">
            <testcase classname="a.yaml" name="one &amp; two" file="a.yaml" line="3"/>
          </testsuite>
          <testsuite name="b.yaml" tests="1" failures="1">
            <testcase classname="b.yaml" name="&quot;three&quot;" file="b.yaml" line="3">
              <failure message="not as expected">+ &lt;task&gt;�
        - other</failure>
            </testcase>
          </testsuite>
        </testsuites>
        "#);
    }
}
