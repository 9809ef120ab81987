//! What must not stand in the sources.

use std::collections::BTreeSet;
use std::path::Path;

use super::{File, expect_none, files, root};
use crate::environment;

/// Unfinished work, by the extensions of the files in which it is looked for. In pieces, to pass itself.
const UNFINISHED: &[(&str, &[&str])] = &[
    (concat!("todo", "!("), &["rs"]),
    (concat!("unimplemented", "!("), &["rs"]),
    (concat!("dbg", "!("), &["rs"]),
    (concat!("#[", "ignore"), &["rs"]),
    (concat!("FIX", "ME"), &["rs", "md", "toml", "sql", "sh", "yaml"]),
    (concat!("X", "XX"), &["rs", "md", "toml", "sql", "sh", "yaml"]),
];
/// Crates that may read environment variables: the binary, and this tool.
const READ_ENVIRONMENT: &[&str] = &["crates/taskbot/", "crates/xtask/"];
/// How environment variables are read.
const READS: &[&str] = &["env::var", "env::{var"];

/// Whether `word` stands in `line` on its own, where its ends are letters or digits.
fn has_word(line: &str, word: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !(is_word(before) && is_word(word.chars().next())
            || is_word(after) && is_word(word.chars().next_back()))
    })
}

#[test]
fn nothing_is_left_unfinished() {
    expect_none(files().iter().flat_map(|file| {
        let words = UNFINISHED.iter().filter(|(_, extensions)| extensions.contains(&file.extension()));
        words.flat_map(move |(word, _)| {
            file.lines()
                .filter(|(_, line)| has_word(line, word))
                .map(move |(number, _)| format!("{}:{number}: `{word}`", file.path))
        })
    }));
}

/// The source without what is compiled for tests only; the lines keep their numbers.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    // The indentation of the `#[cfg(test)]` whose item is being skipped.
    let mut skipping: Option<&str> = None;
    for line in text.lines() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        match skipping {
            None if code.starts_with("#[cfg(test)]") => skipping = Some(indent),
            None => kept.push_str(line),
            // rustfmt puts the end of an item at the indentation of its beginning.
            Some(start) if indent == start && (code.starts_with('}') || code.ends_with([';', '}', ','])) => {
                skipping = None;
            }
            Some(_) => {}
        }
        kept.push('\n');
    }
    kept
}

/// Files of modules that are declared for tests only.
fn test_modules(file: &File) -> Vec<String> {
    let mut lines = file.text.lines().map(str::trim);
    let mut modules = Vec::new();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]"
            && let Some(module) = lines.next().and_then(|line| line.strip_suffix(';'))
            && let Some(name) = module.split(' ').skip_while(|&word| word != "mod").nth(1)
        {
            let path = Path::new(&file.path);
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let folder = match stem {
                "mod" | "lib" | "main" => path.parent().map(Path::to_owned).unwrap_or_default(),
                _ => path.with_extension(""),
            };
            modules.push(folder.join(name).display().to_string());
        }
    }
    modules
}

#[test]
fn only_the_binary_reads_the_environment() {
    let files = files();
    let for_tests: BTreeSet<String> = files.iter().flat_map(test_modules).collect();
    let of_tests = |path: &str| {
        let stem = path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.contains("/tests/")
            || path.contains("/benches/")
            || Path::new(stem).ancestors().any(|module| for_tests.contains(&module.display().to_string()))
    };
    let sources = files.iter().filter(|file| {
        file.extension() == "rs"
            && !of_tests(&file.path)
            && !READ_ENVIRONMENT.iter().any(|folder| file.path.starts_with(folder))
    });
    expect_none(sources.flat_map(|file| {
        let code = File { path: file.path.clone(), text: without_tests(&file.text) };
        let reads = code.lines().filter(|(_, line)| READS.iter().any(|read| line.contains(read)));
        reads
            .map(|(number, line)| format!("{}:{number}: take it as an argument: {}", code.path, line.trim()))
            .collect::<Vec<_>>()
    }));
}

#[test]
fn no_path_of_this_machine_stands_anywhere() {
    let root = root();
    let home = environment::variable("HOME").map(|home| Path::new(&home).join(".cargo"));
    let here = [Some(root.clone()), root.parent().map(|parent| parent.join("shared")), home];
    // A short one, as in a container, would be found inside of innocent relative paths.
    let here: Vec<String> = here
        .into_iter()
        .flatten()
        .filter(|path| path.components().count() > 2)
        .map(|path| path.display().to_string())
        .collect();
    expect_none(files().iter().flat_map(|file| {
        let found = file.lines().filter(|(_, line)| here.iter().any(|path| line.contains(path.as_str())));
        found.map(|(number, line)| format!("{}:{number}: {}", file.path, line.trim())).collect::<Vec<_>>()
    }));
}

#[test]
fn words_stand_on_their_own() {
    let xs = "X".repeat(3);
    for (line, word, expect) in [
        (format!("// {xs}: later"), xs.as_str(), true),
        (format!("mktemp /tmp/a.{}", "X".repeat(6)), &xs, false),
        (format!("{xs}_A"), &xs, false),
        ("  #[skip = \"slow\"]".to_owned(), "#[skip", true),
        ("  #[skipped]".to_owned(), "#[skip", false),
        ("let a = my_call!();".to_owned(), "call!(", false),
    ] {
        assert_eq!(has_word(&line, word), expect, "{word} in {line}");
    }
}

#[test]
fn code_for_tests_is_left_out() {
    let text = "fn a() {\n    one();\n}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n\
                #[cfg(test)]\nuse d;\nfn e() {}\nimpl F {\n    #[cfg(test)]\n    fn g() {\n        h();\n    }\n    i();\n}\n";
    let kept: Vec<String> = without_tests(text).lines().map(str::to_owned).collect();
    assert_eq!(kept.len(), text.lines().count(), "line numbers stay");
    let kept: Vec<&str> = kept.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    assert_eq!(kept, ["fn a() {", "one();", "}", "fn c() {}", "fn e() {}", "impl F {", "i();", "}"]);

    let modules = |path: &str| {
        let text = "#[cfg(test)]\nmod one;\n#[cfg(test)]\npub(crate) mod two;\nmod three;\n#[cfg(test)]\nmod four {\n}\n";
        test_modules(&File { path: path.to_owned(), text: text.to_owned() }).join(" ")
    };
    assert_eq!(modules("crates/a/src/lib.rs"), "crates/a/src/one crates/a/src/two");
    assert_eq!(modules("crates/a/src/b.rs"), "crates/a/src/b/one crates/a/src/b/two");
}
