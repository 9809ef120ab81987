//! `docs/outcomes.md` against the functions that it describes: every row of every table, and no outcome, no
//! exit code and no format left out.

use model::{
    Outcome,
    outcome::{
        OUTCOMES,
        words::{self, TapDirective},
    },
    task_file::{ExitMeans, RESULT_FORMATS},
};
use std::collections::BTreeSet;

/// The rows of the table whose header begins with this cell. Marks of code are taken off.
fn table(first: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let docs = include_str!("../../../../docs/outcomes.md");
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    let mut lines = docs.lines().filter(|line| line.starts_with('|') || line.is_empty());
    let found: Vec<_> = lines
        .by_ref()
        .skip_while(|line| cells(line).first().is_none_or(|cell| cell != first))
        .take_while(|line| !line.is_empty())
        .collect();
    assert!(found.len() > 2, "docs/outcomes.md has no table that begins with `{first}`");
    (cells(found[0]), found[2..].iter().map(|line| cells(line)).collect())
}

fn told(outcome: Option<Outcome>) -> String {
    outcome.map_or_else(|| "none".to_owned(), |outcome| outcome.to_string())
}

fn means(means: ExitMeans) -> String {
    match means {
        ExitMeans::Outcome(outcome) => outcome.to_string(),
        ExitMeans::FromResults => "from-results".to_owned(),
        ExitMeans::FromFailures => "from-failures".to_owned(),
    }
}

fn format_says(format: &str, says: &str) -> Option<Outcome> {
    let (word, more) = says.split_once(", ").map_or((says, None), |(word, more)| (word, Some(more)));
    match format {
        "tap" => {
            let (ok, directive) = says.split_once(" # ").map_or((says, None), |(ok, word)| (ok, Some(word)));
            let directive = directive.map(|word| match word {
                "SKIP" => TapDirective::Skip,
                "TODO" => TapDirective::Todo,
                other => panic!("no directive {other}"),
            });
            Some(words::tap(ok == "ok", directive))
        }
        "junit" => match says.strip_prefix("status=\"") {
            Some(status) => words::junit_status(status.trim_end_matches('"')),
            None => words::junit(says),
        },
        "tmt" => words::tmt(says),
        "autopkgtest" => words::autopkgtest(says),
        "sarif" => words::sarif(word, more.unwrap_or("none")),
        "firehose" => words::firehose(word, more),
        "resultyaml" => words::result_yaml(says),
        "json" => says.parse().ok(),
        other => panic!("no function for the format {other}"),
    }
}

#[test]
fn formats() {
    let (_, rows) = table("format");
    let mut seen = BTreeSet::new();
    for row in &rows {
        let [format, says, outcome] = row.as_slice() else { panic!("{row:?}") };
        assert_eq!(told(format_says(format, says)), *outcome, "{format} {says}");
        seen.insert(format.as_str());
    }
    let formats: BTreeSet<_> =
        RESULT_FORMATS.iter().map(|(_, name)| *name).filter(|name| *name != "exit").collect();
    assert_eq!(seen, formats);
    // A word that no row names is no outcome; TAP has no words, and our own are read as they are.
    for format in ["junit", "tmt", "autopkgtest", "sarif", "firehose", "resultyaml", "json"] {
        for word in ["", "nonsense", "ok", "Passed "] {
            assert_eq!(format_says(format, word), None, "{format} {word}");
        }
    }
}

#[test]
fn exit_codes() {
    let (header, rows) = table("exit code");
    let functions: [fn(u8) -> ExitMeans; 4] =
        [words::exit_code, words::test_exit_code, words::tmt_exit_code, words::autopkgtest_exit_code];
    let mut named: BTreeSet<u8> = rows.iter().filter_map(|row| row[0].parse().ok()).collect();
    for row in &rows {
        let codes: Vec<u8> = match row[0].parse() {
            Ok(code) => vec![code],
            Err(_) => (0..=u8::MAX).filter(|code| !named.contains(code)).collect(),
        };
        for code in codes {
            for (function, expect) in functions.iter().zip(&row[1..]) {
                assert_eq!(means(function(code)), *expect, "exit code {code} of {row:?}");
            }
            named.insert(code);
        }
    }
    assert_eq!(named.len(), 256);
    let formats: BTreeSet<_> = header[1..].iter().flat_map(|cell| cell.split(", ")).collect();
    assert_eq!(formats, RESULT_FORMATS.iter().map(|(_, name)| *name).collect());
    // What a task file without `exit` gets is the same.
    for (column, cell) in header.iter().enumerate().skip(1) {
        for format in cell.split(", ") {
            let path = if format == "exit" { "" } else { "path: r" };
            let text = format!("name: a\nrun: x\nresults:\n  format: {format}\n  {path}\n");
            let (file, _) =
                model::task_file::parse("task.yaml", &text).unwrap_or_else(|report| panic!("{report}"));
            for code in 0..=u8::MAX {
                let exit = &file.results.exit;
                let got = exit.get(&code.to_string()).unwrap_or(&exit["*"]);
                assert_eq!(*got, functions[column - 1](code), "{format} {code}");
            }
        }
    }
}

#[test]
fn what_others_say() {
    let (_, rows) = table("system");
    let mut seen = BTreeSet::new();
    for row in &rows {
        let [system, says, outcome] = row.as_slice() else { panic!("{row:?}") };
        let (word, more) =
            says.split_once(", ").map_or((says.as_str(), None), |(word, more)| (word, Some(more)));
        let got = match system.as_str() {
            "paddles" => words::from_paddles(word),
            "Testflinger" => Some(words::from_testflinger(word, more.unwrap().parse().unwrap())),
            "ALTS" => Some(words::from_alts(word, more == Some("true"))),
            "ResultsDB" => words::from_resultsdb(word),
            "CI message" => words::from_ci_message(word, more),
            other => panic!("no function for {other}"),
        };
        assert_eq!(told(got), *outcome, "{system} {says}");
        seen.insert(system.as_str());
    }
    assert_eq!(seen.len(), 5);
}

#[test]
fn what_we_say() {
    let (header, rows) = table("outcome");
    let said: BTreeSet<_> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(said, OUTCOMES.iter().map(|(_, text)| *text).collect());
    let more = ["SKIPPED", "NOT_APPLICABLE", "ERROR"];
    for row in &rows {
        let outcome: Outcome = row[0].parse().unwrap();
        let (phase, code) = words::testflinger(outcome);
        let (status, result) = words::ci_message(outcome);
        let expect = [
            outcome.to_string(),
            outcome.exit_code().to_string(),
            words::paddles(outcome).to_owned(),
            format!("{phase}, {code}"),
            words::alts(outcome).to_owned(),
            words::resultsdb(outcome, &[]).to_owned(),
            words::resultsdb(outcome, &more).to_owned(),
            result.map_or_else(|| status.to_owned(), |result| format!("{status}, {result}")),
        ];
        assert_eq!(row.as_slice(), expect, "{header:?}");
        // What comes back is as good or as bad as what went out: no failure is told as a pass.
        let back = [
            words::from_paddles(&expect[2]),
            Some(words::from_testflinger(phase, code)),
            words::from_resultsdb(&expect[5]),
            words::from_resultsdb(&expect[6]),
            words::from_ci_message(status, result),
        ];
        for back in back {
            assert_eq!(back.map(Outcome::is_good), Some(outcome.is_good()), "{outcome}: {back:?}");
        }
    }
}
