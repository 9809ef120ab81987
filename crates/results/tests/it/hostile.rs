//! Arbitrary documents: no parser panics, and no failure is ever reported as passed.

use model::{
    Outcome,
    task_file::{ExitMeans, RESULT_FORMATS, ResultFormat},
};
use proptest::{prelude::*, sample::select};
use taskbot_results::{Parsed, ParsedResult, conclude, parse};

/// Every result at any depth.
fn all(parsed: &Parsed) -> Vec<&ParsedResult> {
    fn walk<'a>(results: &'a [ParsedResult], found: &mut Vec<&'a ParsedResult>) {
        for result in results {
            found.push(result);
            walk(&result.children, found);
        }
    }
    let mut found = Vec::new();
    walk(&parsed.results, &mut found);
    found
}

/// Lines that make up TAP, and some that nearly do.
fn tap_line() -> impl Strategy<Value = String> {
    let indent = select(vec!["", "", "", "    ", "        ", "  ", "      "]);
    let text = select(vec![
        "TAP version 14",
        "1..1",
        "1..2",
        "1..3",
        "1..0 # SKIP",
        "ok",
        "ok 1 - a",
        "ok 2",
        "ok 3 # SKIP",
        "not ok",
        "not ok 1 - b",
        "not ok 2 # TODO",
        "not ok 3",
        "# Subtest: s",
        "---",
        "...",
        "a: b",
        "Bail out!",
        "noise",
        "pragma +strict",
        "NOT OK",
        "ok 1 - a {",
        "not ok 2 {",
        "{",
        "}",
        "1..1",
        "",
    ]);
    (indent, text).prop_map(|(indent, text)| format!("{indent}{text}"))
}

/// Pieces that make up JUnit XML, and some that nearly do.
fn xml_piece() -> impl Strategy<Value = String> {
    select(vec![
        "<testsuites>",
        "</testsuites>",
        "<testsuite name='s'>",
        "</testsuite>",
        "<testcase name='c'>",
        "</testcase>",
        "<testcase/>",
        "<failure/>",
        "<error message='m'>",
        "</error>",
        "<skipped/>",
        "<flakyFailure>",
        "</flakyFailure>",
        "text",
        "&amp;",
        "&x;",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "<a ",
        "'",
        "\"",
        ">",
        "<",
        "&#0;",
        "\n",
        "\0",
        "<?x",
        "<!DOCTYPE x>",
    ])
    .prop_map(str::to_owned)
}

/// A TAP document of groups, each a subtest with its own points, then changed in one place or not at all.
fn damaged_tap() -> impl Strategy<Value = String> {
    let groups = proptest::collection::vec(proptest::collection::vec(any::<bool>(), 0..4), 1..5);
    let damage = (0_u8..6, any::<prop::sample::Index>());
    (groups, damage).prop_map(|(groups, (how, place))| {
        let mut lines = vec![format!("1..{}", groups.len())];
        for (n, points) in groups.iter().enumerate() {
            let word = |ok: bool| if ok { "ok" } else { "not ok" };
            if !points.is_empty() {
                lines.extend(points.iter().enumerate().map(|(n, ok)| format!("    {} {}", word(*ok), n + 1)));
                lines.push(format!("    1..{}", points.len()));
            }
            lines.push(format!("{} {} - group", word(points.iter().all(|ok| *ok)), n + 1));
        }
        let at = place.index(lines.len());
        match how {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => lines.swap(at, 0),
            3 => lines[at].insert_str(0, "    "),
            4 => lines[at] = lines[at].trim_start().to_owned(),
            _ => {}
        }
        lines.join("\n")
    })
}

/// What can stand inside a test case, and what it makes of the case.
const MARKS: [(&str, Outcome); 6] = [
    ("<system-out>x</system-out>", Outcome::Passed),
    ("<skipped/>", Outcome::Skipped),
    ("<flakyFailure message='m'/>", Outcome::Info),
    ("<failure message='m'>text</failure>", Outcome::Failed),
    ("<rerunFailure/>", Outcome::Failed),
    ("<error/>", Outcome::Error(model::ErrorReason::Task)),
];

/// Documents as the tools write them, each with a failure at its start and a pass at its end.
const SAMPLES: [(ResultFormat, &str); 10] = [
    (ResultFormat::Tap, "TAP version 14\n1..2\nnot ok 1 - a\n  ---\n  message: m\n  ...\nok 2 - b\n"),
    (
        ResultFormat::Junit,
        "<testsuites failures=\"1\"><testsuite name=\"s\" tests=\"2\" failures=\"1\"><testcase name=\"a\"><failure message=\"m\">text</failure></testcase><testcase name=\"b\"/></testsuite></testsuites>",
    ),
    (
        ResultFormat::Json,
        r#"{"results": [{"name": "a", "outcome": "failed", "data": {"line": 1}}, {"name": "b", "outcome": "passed"}]}"#,
    ),
    (
        ResultFormat::Tmt,
        r#"[{"name": "/a", "result": "fail", "log": ["x"]}, {"name": "/b", "result": "pass"}]"#,
    ),
    (
        ResultFormat::Autopkgtest,
        "a                    FAIL non-zero exit status 1\nb                    PASS\n",
    ),
    (ResultFormat::Tmt, "- name: /a\n  result: fail\n  note:\n    - n\n- name: /b\n  result: pass\n"),
    (
        ResultFormat::Resultyaml,
        "results:\n- {item: a, type: koji_build, outcome: FAILED}\n- item: b\n  type: koji_build\n  outcome: PASSED\n",
    ),
    (
        ResultFormat::Sarif,
        r#"{"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}, "invocations": [{"executionSuccessful": false}], "results": [{"ruleId": "a", "level": "error"}, {"ruleId": "b", "kind": "pass"}]}]}"#,
    ),
    (
        ResultFormat::Firehose,
        "<analysis><metadata><generator name=\"t\"/></metadata><results><failure/><issue test-id=\"a\"><message>m</message></issue><info/></results></analysis>",
    ),
    (
        ResultFormat::Resultyaml,
        r#"{"results": [{"item": "a", "type": "koji_build", "outcome": "FAILED"}, {"outcome": "PASSED"}]}"#,
    ),
];

/// How an attempt with this one document and exit code 0 ends.
fn outcome(format: ResultFormat, document: &[u8]) -> Outcome {
    let exit = [("0".to_owned(), ExitMeans::FromResults)].into();
    conclude(0, &exit, Some("r"), vec![parse(format, "r", document)]).outcome
}

/// Words that make up the other formats, in any order.
fn pieced() -> impl Strategy<Value = (ResultFormat, String)> {
    let yaml = vec![
        "- ",
        "name: /a",
        "result: pass",
        "result: fail",
        "\n",
        "  ",
        "check: ",
        "subresult:",
        "\n  - ",
        "original-result: fail",
        "results:",
        "outcome: PASSED",
        "outcome: FAILED",
        "item: a",
        "type: b",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "&a ",
        "*a",
        "\"",
        "#",
        "\t",
        "!!x ",
    ];
    let json = vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"version\": \"2.1.0\"",
        "\"runs\"",
        "\"tool\": {\"driver\": {\"name\": \"t\"}}",
        "\"results\"",
        "\"level\": \"error\"",
        "\"ruleId\": \"a\"",
        "null",
        "1e999",
        "\"\\ud800\"",
        "\"metadata\": {\"generator\": {\"name\": \"g\"}}",
        "\"type\": \"Issue\"",
        "\"name\": \"a\"",
        "\"result\": \"pass\"",
        "\"outcome\": \"passed\"",
    ];
    let xml = vec![
        "<analysis>",
        "</analysis>",
        "<metadata>",
        "</metadata>",
        "<generator name='g'/>",
        "<results>",
        "</results>",
        "<issue>",
        "</issue>",
        "<failure>",
        "</failure>",
        "<info/>",
        "<message>",
        "</message>",
        "<location>",
        "</location>",
        "<trace>",
        "<state>",
        "</state>",
        "</trace>",
        "<custom-fields>",
        "</custom-fields>",
        "<str-field name='a'>",
        "</str-field>",
        "text",
        "&amp;",
        "<point line='1' column='2'/>",
    ];
    let summary = vec![
        "a ",
        "* ",
        "PASS",
        "FAIL",
        "SKIP",
        "FLAKY",
        "\n",
        " ",
        "badpkg: ",
        "blame: x",
        "testbed failure: y",
        "é",
        "\u{0}",
        ":",
    ];
    use ResultFormat as F;
    let of = |formats: Vec<F>, pieces: Vec<&'static str>| {
        (select(formats), proptest::collection::vec(select(pieces), 0..24))
            .prop_map(|(format, pieces)| (format, pieces.concat()))
    };
    prop_oneof![
        of(vec![F::Tmt, F::Resultyaml], yaml),
        of(vec![F::Sarif, F::Firehose, F::Tmt, F::Resultyaml, F::Json], json),
        of(vec![F::Firehose, F::Junit], xml),
        of(vec![F::Autopkgtest], summary),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes_never_panic(document in proptest::collection::vec(any::<u8>(), 0..400)) {
        for (format, _) in RESULT_FORMATS {
            let _ = parse(format, "r", &document);
        }
    }

    #[test]
    fn text_never_panics(document in "\\PC{0,200}") {
        for (format, _) in RESULT_FORMATS {
            let _ = parse(format, "r", document.as_bytes());
        }
    }

    #[test]
    fn pieces_never_panic_nor_hide((format, document) in pieced()) {
        let Ok(parsed) = parse(format, "r", document.as_bytes()) else { return Ok(()) };
        for result in all(&parsed) {
            // tmt's own word stands where it has turned a result round.
            let turned = result.data.contains_key("original_result");
            let hidden = result.outcome == Outcome::Passed && result.children.iter().any(|child| !child.outcome.is_good());
            prop_assert!(!hidden || turned, "{document}\n{parsed:?}");
        }
    }

    #[test]
    fn a_whole_document_with_a_failure_never_passes_when_it_is_damaged(
        sample in select(SAMPLES.to_vec()), cut in any::<prop::sample::Index>(), byte in any::<u8>(), how in 0_u8..4,
    ) {
        let (format, document) = sample;
        let whole = outcome(format, document.as_bytes());
        prop_assert!(!whole.is_good(), "{format:?} {whole}");
        let mut damaged = document.as_bytes().to_vec();
        let at = cut.index(damaged.len());
        match how {
            0 => damaged.truncate(at),
            1 => drop(damaged.drain(..at)),
            2 => damaged.insert(at, byte),
            _ => {
                let more = damaged.clone();
                damaged.extend(more);
            }
        }
        // Neither what is cut off at the end nor what is doubled makes a pass. At the start, whole lines can go
        // unseen where each stands alone, and a changed byte can make another word.
        let got = outcome(format, &damaged);
        let lines = [ResultFormat::Autopkgtest, ResultFormat::Tmt, ResultFormat::Resultyaml].contains(&format);
        let unseen = how == 2 || (how == 1 && lines);
        prop_assert!(!got.is_good() || unseen, "{format:?} {got}\n{}", String::from_utf8_lossy(&damaged));
    }

    #[test]
    fn tap_never_hides_a_failure(lines in proptest::collection::vec(tap_line(), 0..14)) {
        let document = lines.join("\n");
        let Ok(parsed) = parse(ResultFormat::Tap, "r", document.as_bytes()) else { return Ok(()) };
        // Comments, YAML and what follows a bail-out hold no points.
        if document.contains("---") || document.contains("Bail out!") {
            return Ok(());
        }
        let written = lines.iter().filter(|line| line.trim().starts_with("not ok")).count();
        let read = all(&parsed).iter().filter(|result| result.outcome != Outcome::Passed).count();
        prop_assert!(read >= written, "{document}\n{parsed:?}");
        for result in all(&parsed) {
            let hidden = result.outcome == Outcome::Passed && result.children.iter().any(|child| !child.outcome.is_good());
            prop_assert!(!hidden, "{document}\n{parsed:?}");
        }
    }

    #[test]
    fn a_whole_tap_document_says_what_was_written(points in proptest::collection::vec((any::<bool>(), "[a-z ]{0,12}"), 1..30), first in any::<bool>()) {
        let lines: Vec<String> = points.iter().enumerate()
            .map(|(n, (ok, name))| format!("{}ok {} - {name}", if *ok { "" } else { "not " }, n + 1)).collect();
        let plan = format!("1..{}", points.len());
        let document = if first { format!("{plan}\n{}", lines.join("\n")) } else { format!("{}\n{plan}", lines.join("\n")) };
        let parsed = parse(ResultFormat::Tap, "r", document.as_bytes()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let read: Vec<bool> = parsed.results.iter().map(|result| result.outcome == Outcome::Passed).collect();
        prop_assert_eq!(read, points.iter().map(|(ok, _)| *ok).collect::<Vec<_>>());
        // Without any one of its lines it is no document.
        for left_out in 0..lines.len() {
            let shorter: Vec<&str> = lines.iter().enumerate().filter(|(n, _)| *n != left_out).map(|(_, line)| line.as_str()).collect();
            let document = format!("{plan}\n{}", shorter.join("\n"));
            prop_assert!(parse(ResultFormat::Tap, "r", document.as_bytes()).is_err(), "{}", document);
        }
    }

    #[test]
    fn damage_never_hides_a_failure(document in damaged_tap()) {
        let Ok(parsed) = parse(ResultFormat::Tap, "r", document.as_bytes()) else { return Ok(()) };
        let written = document.lines().filter(|line| line.trim().starts_with("not ok")).count();
        let read = all(&parsed).iter().filter(|result| result.outcome == Outcome::Failed).count();
        prop_assert!(read >= written, "{document}\n{parsed:?}");
        prop_assert_eq!(parsed.results.iter().any(|result| result.outcome == Outcome::Failed), written > 0);
    }

    #[test]
    fn a_junit_case_is_the_worst_of_its_marks(cases in proptest::collection::vec(proptest::collection::vec(0..MARKS.len(), 0..4), 1..8)) {
        let inside: Vec<String> = cases.iter().map(|marks| {
            format!("<testcase name='c'>{}</testcase>", marks.iter().map(|mark| MARKS[*mark].0).collect::<String>())
        }).collect();
        let document = format!("<testsuite name='s'>{}</testsuite>", inside.concat());
        let parsed = parse(ResultFormat::Junit, "r", document.as_bytes()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let read: Vec<Outcome> = parsed.results[0].children.iter().map(|case| case.outcome).collect();
        // Output says nothing about the outcome: it counts only where there is no mark at all.
        let expect: Vec<Outcome> = cases.iter().map(|marks| {
            taskbot_results::parsed::worst(marks.iter().filter(|mark| **mark > 0).map(|mark| MARKS[*mark].1)).unwrap_or(Outcome::Passed)
        }).collect();
        prop_assert_eq!(&read, &expect);
        prop_assert_eq!(Some(parsed.results[0].outcome), taskbot_results::parsed::worst(read));
    }

    #[test]
    fn junit_pieces_never_panic_nor_hide(pieces in proptest::collection::vec(xml_piece(), 0..24)) {
        let document = pieces.concat();
        let Ok(parsed) = parse(ResultFormat::Junit, "r", document.as_bytes()) else { return Ok(()) };
        for result in all(&parsed) {
            let hidden = result.children.iter().any(|child| child.outcome.severity() > result.outcome.severity());
            prop_assert!(!hidden, "{document}\n{parsed:?}");
        }
    }

    #[test]
    fn a_cut_junit_document_is_an_error(cut in 1_usize..330) {
        let document = "<?xml version=\"1.0\"?>\n<testsuites><testsuite name=\"s\" tests=\"2\" failures=\"1\" time=\"1.0\"><properties><property name=\"a\" value=\"b\"/></properties><testcase classname=\"a\" name=\"b\"><failure message=\"m\">text</failure></testcase><testcase name=\"c\"><system-out><![CDATA[out]]></system-out></testcase></testsuite></testsuites>";
        let cut = cut.min(document.len() - 1);
        prop_assert!(parse(ResultFormat::Junit, "r", document.as_bytes()).is_ok());
        prop_assert!(parse(ResultFormat::Junit, "r", &document.as_bytes()[..cut]).is_err(), "{}", &document[..cut]);
    }
}
