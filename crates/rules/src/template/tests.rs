use super::*;
use crate::facts::Facts;
use chrono::DateTime;
use serde_json::json;
use std::sync::Arc;

fn engine() -> Engine {
    Engine::new(Arc::new(Facts::default()))
}

fn render(text: &str) -> Result<Value, ScriptError> {
    let engine = engine();
    let roots = json!({"topic": "t", "source": "s", "headers": {}, "body": {"a": 1, "list": [1, "b"], "t": "é}", "long": "x".repeat(40_000)}});
    let scope = Scope::new(&roots, DateTime::UNIX_EPOCH).with(&[("x", json!("X")), ("ü", json!(1))]);
    Template::parse(&engine, text, &["x", "n"])?.render(&engine, &scope.with(&[("n", json!(5))]))
}

#[test]
fn holes_end_at_their_own_brace() {
    for (text, expect) in [
        ("", json!("")),
        ("plain", json!("plain")),
        ("${x}", json!("X")),
        ("a-${x}/b ${n}", json!("a-X/b 5")),
        ("${n}", json!(5)),
        ("${event.body.list}", json!([1, "b"])),
        ("${event.body}", json!({"a": 1, "list": [1, "b"], "t": "é}", "long": "x".repeat(40_000)})),
        ("${event.body.nope}", json!(null)),
        ("${ n + 1 }", json!(6)),
        (" ${n}", json!(" 5")),
        ("${#{a: 1}.a}z", json!("1z")),
        ("${\"}\"}z", json!("}z")),
        ("${\"\\\"}\"}z", json!("\"}z")),
        ("${`q${x}}`}z", json!("qX}z")),
        ("${ /* } */ n }z", json!("5z")),
        ("${ n // }\n}z", json!("5z")),
        ("${'}'}z", json!("}z")),
        ("${`a${`b${x}`}d${n}e`}z", json!("abXd5ez")),
        ("${`a${#{x:1}.x}`}}z", json!("a1}z")),
        ("${[1, 2].map(|x| { x }).join(\"}\")}!", json!("1}2!")),
        ("${if n == 5 { \"five\" } else { \"other\" }}!", json!("five!")),
        ("é${x}é", json!("éXé")),
        ("$${x} ${x}", json!("${x} X")),
        ("$$${x}", json!("$${x}")),
        ("$x $ {x} $$ }", json!("$x $ {x} $$ }")),
        ("a$", json!("a$")),
        ("${true}${1.5}", json!("true1.5")),
    ] {
        assert_eq!(render(text), Ok(expect), "{text}");
    }
}

#[test]
fn a_text_without_holes_is_constant() {
    for (text, expect) in [("", true), ("a $x", true), ("$${x}", true), ("${x}", false), ("a${x}", false)] {
        let template = Template::parse(&engine(), text, &["x"]).expect(text);
        assert_eq!(template.is_constant(), expect, "{text}");
        assert_eq!(template.variables().collect::<Vec<_>>(), if expect { vec![] } else { vec!["x"] });
    }
}

#[test]
fn mistakes_have_their_places_in_the_text() {
    let shown: String = [
        "${x",
        "a ${",
        "a ${\"}",
        "${}",
        "é ${nope}",
        "a ${x} ${x.}",
        "é${event.body.nope} b",
        "a ${event.body.list}",
        "a ${event.body}",
        "a ${event.body.nope.x} c",
        "a ${`${n + 1}${y}`}",
        "${x}\n${event.body.list[7]}",
        "${event.body.long}${event.body.long}",
        "${n +}",
    ]
    .iter()
    .map(|text| {
        let error = render(text).expect_err(text);
        let marked = text.get(error.span.clone()).unwrap_or("(outside)");
        let help = error.help.map_or_else(String::new, |help| format!(" ({help})"));
        format!("{text:?}\n  {:?} {marked:?} {:?}: {}{help}\n", error.span, error.kind, error.message)
    })
    .collect();
    insta::assert_snapshot!(shown);
}

#[test]
fn a_text_has_a_limited_number_of_holes() {
    assert!(Template::parse(&engine(), &"${n}".repeat(HOLES_MAX), &["n"]).is_ok());
    assert!(Template::parse(&engine(), &"${n}".repeat(HOLES_MAX + 1), &["n"]).is_err());
}

proptest::proptest! {
    #[test]
    fn any_text_is_split_without_loss(text in "[a${}\"'`#| \u{e9}/*\n]{0,24}") {
        let engine = engine();
        if let Ok(pieces) = split(&engine, &text) {
            let length: usize = pieces.iter().map(|piece| match piece {
                Piece::Text(plain) => plain.len() + plain.matches("${").count(),
                Piece::Hole(source, at) => {
                    assert_eq!(&text[*at..at + source.len()], *source);
                    source.len() + 3
                }
            }).sum();
            proptest::prop_assert_eq!(length, text.len());
        }
    }
}
