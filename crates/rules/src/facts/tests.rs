use super::*;
use serde_json::json;

fn read(file: &str, text: &str) -> (Facts, Report) {
    let (mut facts, mut report) = (Facts::default(), Report::default());
    facts.add_table("t", file, text, &mut report);
    (facts, report)
}

#[test]
fn rows_of_each_form() {
    for (file, text, key, expect) in [
        ("t.yaml", "a: 1\nb: [u, v]\n", "b", json!(["u", "v"])),
        ("t.yml", "- a\n- b\n", "b", json!(true)),
        ("t.yaml", "f42: {arches: [x86_64], old: true}\n", "f42", json!({"arches": ["x86_64"], "old": true})),
        (
            "t.json",
            r#"{"a": {"b": [1.50, 18446744073709551615, null]}}"#,
            "a",
            json!({"b": [1.5, u64::MAX, null]}),
        ),
        ("t.json", r#"["a", "b"]"#, "a", json!(true)),
        (
            "t.csv",
            "name,lang,owner\nbash,C,ada\nzsh,\"C, sh\",\"b\"\"o\"\"b\"\n",
            "zsh",
            json!({"lang": "C, sh", "owner": "b\"o\"b"}),
        ),
        ("t.csv", "name\nbash\nzsh\n", "bash", json!(true)),
        ("t.csv", "\u{feff}name, lang\r\n\r\nbash , C\r\n", "bash", json!({"lang": "C"})),
    ] {
        let (facts, report) = read(file, text);
        assert_eq!(report.to_string(), "", "{text}");
        assert_eq!(facts.lookup("t", key), Some(&expect), "{text}");
        assert_eq!(facts.lookup("t", "absent"), None);
        assert_eq!(facts.lookup("u", key), None);
        assert_eq!(
            facts.missing("t"),
            Some(json!(if expect == true { Value::Bool(false) } else { Value::Null }))
        );
        assert_eq!((facts.missing("u"), facts.has("t"), facts.has("u")), (None, true, false));
        assert_eq!(facts.names().collect::<Vec<_>>(), ["t"]);
    }
}

#[test]
fn mistakes_have_their_places() {
    let mut shown = String::new();
    for (file, text) in [
        ("t.yaml", "a: 1\nb: 3.10\n"),
        ("t.yaml", "a: 1\na: 2\n"),
        ("t.yaml", "- a\n- b\n- a\n"),
        ("t.yaml", "- a\n- 5\n"),
        ("t.yaml", "just a text"),
        ("t.yaml", ""),
        ("t.yaml", "\"\": 1\n"),
        ("t.json", "{\"a\": 1,\n \"a\": 2}"),
        ("t.json", "{\"é\": {\"x\": 1, \"x\": 2}}"),
        ("t.json", "{\"a\": 1,}"),
        ("t.json", "[\"a\", \"a\"]"),
        ("t.json", "[1]"),
        ("t.json", "5"),
        ("t.json", ""),
        ("t.csv", ""),
        ("t.csv", "name,lang\nbash,C\nzsh\n"),
        ("t.csv", "name,lang\nbash,C\nzsh,C,sh\nbash,D\n,E\n"),
        ("t.csv", "name,name\n"),
        ("t.csv", "name,,x\n"),
    ] {
        let (facts, report) = read(file, text);
        assert!(report.has_errors(), "{text}");
        assert!(facts.has("t") && facts.lookup("t", "a").is_none(), "nothing half done: {text}");
        shown.push_str(&format!("{report}\n"));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn tables_have_limits() {
    let rows = |count: usize| (0..count).map(|n| format!("k{n}\n")).collect::<String>();
    assert!(!read("t.csv", &format!("name\n{}", rows(ROWS_MAX))).1.has_errors());
    for (file, text, expect) in [
        ("t.csv", format!("name\n{}", rows(ROWS_MAX + 1)), "at most 100000 rows"),
        ("t.csv", format!("name\n{}\n", "x".repeat(KEY_BYTES_MAX + 1)), "at most 1024 bytes"),
        ("t.csv", format!("name{}\n", ",x".repeat(COLUMNS_MAX)), "at most 64 columns"),
        ("t.json", format!("[\"{}\"]", "x".repeat(TABLE_BYTES_MAX)), "at most 4194304 are read"),
        ("t.yaml", "x".repeat(FILE_BYTES_MAX + 1), "is read from CSV or JSON"),
        ("t.json", format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)), "recursion limit"),
    ] {
        let report = read(file, &text).1.to_string();
        assert!(report.contains(expect), "{report:.300}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(text in "[a-c\",:\\[\\]{}\n\r \u{e9}]{0,40}", ending in "yaml|json|csv") {
        let (_, report) = read(&format!("t.{ending}"), &text);
        for found in &report.diagnostics {
            proptest::prop_assert!(text.get(found.span.clone()).is_some(), "{found}");
        }
    }
}
