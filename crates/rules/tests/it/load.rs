//! Reading a rules folder.

use crate::{TASKS, rule};
use std::{fs, path::Path};
use taskbot_rules::{RuleFiles, read_folder};

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn names(files: &RuleFiles) -> Vec<&str> {
    files.files.keys().map(String::as_str).collect()
}

#[test]
fn what_belongs_to_a_rule_set_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let rules = rule("then: [{task: rpmlint}]");
    write(
        folder.path(),
        &[
            ("tasks.yaml", TASKS),
            ("a.yaml", &rules),
            ("deep/er/b.yml", "rules: []"),
            ("a.test.yaml", "tests: []"),
            ("facts/t.csv", "a,b\n1,2\n"),
            ("facts/deep/u.json", "{}"),
            ("fixtures/x.json", "{}"),
            ("README.md", "no rule"),
            (".hidden.yaml", "["),
            (".git/config.yaml", "["),
            ("another/tasks.yaml", "tasks: {}"),
            ("another/rules.yaml", "["),
        ],
    );
    let files = read_folder(folder.path()).unwrap();
    assert_eq!(
        names(&files),
        [
            "a.test.yaml",
            "a.yaml",
            "deep/er/b.yml",
            "facts/deep/u.json",
            "facts/t.csv",
            "fixtures/x.json",
            "tasks.yaml"
        ]
    );
    assert_eq!(files.base.as_deref(), Some(folder.path().canonicalize().unwrap().as_path()));
    crate::compiled(&files);

    let one = read_folder(&folder.path().join("a.yaml")).unwrap();
    assert_eq!(names(&one), ["a.yaml", "facts/deep/u.json", "facts/t.csv", "fixtures/x.json", "tasks.yaml"]);
}

#[test]
fn what_cannot_be_read_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("rules");
    write(&inside, &[("a.yaml", "rules: []"), ("big.yaml", &"#".repeat(1024 * 1024 + 1))]);
    fs::write(inside.join("latin.yaml"), b"rules: [] # \xe4").unwrap();
    write(folder.path(), &[("outside/secret.yaml", "x")]);
    std::os::unix::fs::symlink("../outside/secret.yaml", inside.join("link.yaml")).unwrap();
    std::os::unix::fs::symlink("../outside", inside.join("linked")).unwrap();
    std::os::unix::fs::symlink("nowhere.yaml", inside.join("broken.yaml")).unwrap();
    std::os::unix::fs::symlink("a.yaml", inside.join("fine.yaml")).unwrap();
    insta::assert_snapshot!(read_folder(&inside).unwrap_err().to_string(), @r#"
    big.yaml:1:1: error: the file has 1048577 bytes, at most 1048576 are read
    broken.yaml:1:1: error: No such file or directory (os error 2)
    latin.yaml:1:1: error: the file is no UTF-8 text (byte 12)
    link.yaml:1:1: error: the link leads out of the rules folder
    linked:1:1: error: the link leads out of the rules folder
    "#);
    let missing = read_folder(&inside.join("nope")).unwrap_err().to_string();
    assert!(missing.contains("No such file"), "{missing}");
}

#[test]
fn a_link_in_a_circle_ends() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("a.yaml", "rules: []")]);
    std::os::unix::fs::symlink(".", folder.path().join("again")).unwrap();
    let report = read_folder(folder.path()).unwrap_err().to_string();
    assert!(report.contains("folders are nested deeper than 16"), "{report}");
}

#[test]
fn the_revision_is_the_content() {
    let files = RuleFiles::of([("a.yaml", "x"), ("b.yaml", "y")]);
    assert_eq!(files.revision(), RuleFiles::of([("b.yaml", "y"), ("a.yaml", "x")]).revision());
    assert_eq!(files.revision().as_str().len(), 64);
    for other in [
        RuleFiles::of([("a.yaml", "xb.yamly")]),
        RuleFiles::of([("a.yaml", "y"), ("b.yaml", "x")]),
        RuleFiles { base: Some("/srv".into()), ..files.clone() },
    ] {
        assert_ne!(files.revision(), other.revision());
    }
    let text = serde_json::to_string(&files).unwrap();
    assert_eq!(serde_json::from_str::<RuleFiles>(&text).unwrap(), files);
}
