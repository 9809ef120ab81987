//! The FMF tree of a tmt repository, as far as to name its plans and tests. What a plan does, and whether
//! `adjust` switches it off somewhere, stays tmt's own to say. <https://fmf.readthedocs.io/>

use super::FMF_VERSION;
use crate::{
    diagnostic::Report,
    yaml::{Node, Reader, Value},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most files of a tree.
pub const FMF_FILES_MAX: usize = 2_000;
/// The most nodes of a tree.
pub const FMF_NODES_MAX: usize = 20_000;
/// How deep nodes can be nested.
const FMF_DEPTH_MAX: usize = 32;
/// The plan that tmt makes up where there are tests but no plans.
pub const DEFAULT_PLAN: &str = "/default/plan";

/// A plan or a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FmfNode {
    /// Its name, such as `/plans/ci`.
    pub name: String,
    /// One line for people.
    pub summary: Option<String>,
    /// Whether it is switched on. One that `adjust` may switch on counts as such.
    pub enabled: bool,
    /// The file that it stands in.
    pub file: String,
}

/// The plans and tests of a tree, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FmfTree {
    /// The plans.
    pub plans: Vec<FmfNode>,
    /// The tests.
    pub tests: Vec<FmfNode>,
}

impl FmfTree {
    /// The names of the plans to run: those that are switched on; [`DEFAULT_PLAN`] where there are tests but
    /// no plan at all.
    #[must_use]
    pub fn plan_names(&self) -> Vec<&str> {
        if self.plans.is_empty() && self.tests.iter().any(|test| test.enabled) {
            return vec![DEFAULT_PLAN];
        }
        self.plans.iter().filter(|plan| plan.enabled).map(|plan| plan.name.as_str()).collect()
    }
}

/// Whether a path in the repository is part of its tree.
#[must_use]
pub fn is_fmf_file(name: &str) -> bool {
    let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
    file.len() > 4 && file.ends_with(".fmf") && !name.starts_with(".git/")
}

/// What a node has, its own or its parent's.
#[derive(Debug, Clone, Default)]
struct Data {
    plan: bool,
    test: bool,
    enabled: Option<bool>,
    adjusted: bool,
    summary: Option<String>,
}

/// A node on its way: its data, where it stands, and whether anything is below it.
#[derive(Debug, Default)]
struct Draft {
    data: Data,
    file: String,
    parent: bool,
}

/// Reads a tree from the paths and texts of its `*.fmf` files, relative to the folder that holds `.fmf`.
///
/// # Errors
/// Files that are no YAML, each mistake with its place; too many files or nodes; neither a plan nor a test.
pub fn read_fmf(files: &BTreeMap<String, String>) -> Result<FmfTree, Report> {
    let mut report = Report::default();
    if files.len() > FMF_FILES_MAX {
        report.push_file_error(FMF_VERSION, format!("more than {FMF_FILES_MAX} *.fmf files"));
        return Err(report);
    }
    // By node and not by file: `a/main.fmf` comes before `a/b.fmf`, and `a.fmf` speaks of the same node as it.
    let mut by_node: BTreeMap<Vec<String>, Vec<&str>> = BTreeMap::new();
    for file in files.keys().filter(|name| is_fmf_file(name)) {
        by_node.entry(node_of(file)).or_default().push(file);
    }
    let mut drafts: BTreeMap<Vec<String>, Draft> = BTreeMap::new();
    for (path, names) in by_node {
        for name in names {
            let reader = Reader::foreign(name, &files[name]);
            if let Some(node) = reader.parse()
                && let Err(error) = grow(&mut drafts, path.clone(), &node, name)
            {
                report.push_file_error(name, error);
                return Err(report);
            }
            report.merge(reader.into_report());
        }
    }
    if report.has_errors() {
        return Err(report);
    }
    let tree = finish(drafts);
    if tree.plans.is_empty() && tree.tests.is_empty() {
        let message = "no *.fmf file holds a plan (a node with `execute`) or a test (a node with `test`)";
        report.push_file_error(FMF_VERSION, message);
        return Err(report);
    }
    Ok(tree)
}

/// The node that a file speaks of: `plans/ci.fmf` is `/plans/ci`, `plans/main.fmf` is `/plans`. A dot at the
/// start of a file's name only hides it.
fn node_of(file: &str) -> Vec<String> {
    let stem = file.strip_suffix(".fmf").unwrap_or(file);
    let mut path: Vec<String> = stem.split('/').map(str::to_owned).collect();
    let last = path.pop().unwrap_or_default();
    let last = last.trim_start_matches('.');
    if last != "main" {
        path.push(last.to_owned());
    }
    path
}

/// Adds what a mapping says of a node, and the nodes below it, whose keys begin with `/`.
fn grow(
    drafts: &mut BTreeMap<Vec<String>, Draft>,
    path: Vec<String>,
    node: &Node,
    file: &str,
) -> Result<(), String> {
    if drafts.len() > FMF_NODES_MAX {
        return Err(format!("the tree has more than {FMF_NODES_MAX} nodes"));
    }
    if path.len() > FMF_DEPTH_MAX {
        return Err(format!("nodes are nested deeper than {FMF_DEPTH_MAX}"));
    }
    let entries: &[_] = match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    };
    // `/: {inherit: false}` starts anew.
    let inherits = node.get("/").and_then(|node| node.get("inherit")).map(|node| &node.value)
        != Some(&Value::Bool(false));
    let mut data = if inherits { inherited(drafts, &path) } else { Data::default() };
    for (key, node) in entries {
        let (key, adds) = (key.text.trim_end_matches(['+', '-', '~']), key.text.ends_with('+'));
        match key {
            "execute" => data.plan = true,
            "test" => data.test = true,
            "enabled" => data.enabled = boolean(node),
            "summary" if adds => {
                data.summary.get_or_insert_default().push_str(node.as_text().unwrap_or_default());
            }
            "summary" => data.summary = node.as_text().map(str::to_owned),
            "adjust" => data.adjusted = switches(node),
            _ => {}
        }
    }
    for above in (0..path.len()).map(|above| &path[..above]) {
        // A node in between that nobody wrote hands on what it was handed.
        let data = inherited(drafts, above);
        drafts.entry(above.to_vec()).or_insert_with(|| Draft { data, ..Draft::default() }).parent = true;
    }
    let parent = drafts.get(&path).is_some_and(|known| known.parent);
    drafts.insert(path.clone(), Draft { data, file: file.to_owned(), parent });
    for (key, node) in entries {
        let inner: Vec<String> =
            key.text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if key.text.starts_with('/') && !inner.is_empty() {
            grow(drafts, [path.clone(), inner].concat(), node, file)?;
        }
    }
    Ok(())
}

/// What the node itself said in another file, or else what the nearest node above it says.
fn inherited(drafts: &BTreeMap<Vec<String>, Draft>, path: &[String]) -> Data {
    (0..=path.len())
        .rev()
        .find_map(|above| drafts.get(&path[..above]))
        .map(|draft| draft.data.clone())
        .unwrap_or_default()
}

/// FMF is YAML 1.1 to its authors.
fn boolean(node: &Node) -> Option<bool> {
    match &node.value {
        Value::Bool(value) => Some(*value),
        Value::Text(text) => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" | "y" => Some(true),
            "no" | "off" | "false" | "n" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Whether an `adjust` can switch its node on.
fn switches(node: &Node) -> bool {
    let rules = match &node.value {
        Value::List(rules) => rules.as_slice(),
        _ => std::slice::from_ref(node),
    };
    rules.iter().any(|rule| rule.get("enabled").and_then(boolean) == Some(true))
}

/// Plans and tests are leaves: what has nodes below it only hands on its data.
fn finish(drafts: BTreeMap<Vec<String>, Draft>) -> FmfTree {
    let mut tree = FmfTree::default();
    for (path, draft) in drafts.into_iter().filter(|(_, draft)| !draft.parent) {
        let node = FmfNode {
            name: format!("/{}", path.join("/")),
            summary: draft.data.summary,
            enabled: draft.data.enabled.unwrap_or(true) || draft.data.adjusted,
            file: draft.file,
        };
        if draft.data.plan {
            tree.plans.push(node);
        } else if draft.data.test {
            tree.tests.push(node);
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(files: &[(&str, &str)]) -> String {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let tree = match read_fmf(&files) {
            Ok(tree) => tree,
            Err(report) => return report.to_string(),
        };
        let line = |kind: &str, node: &FmfNode| {
            let off = if node.enabled { "" } else { " (off)" };
            let summary = node.summary.as_ref().map(|summary| format!(": {summary}")).unwrap_or_default();
            format!("{kind} {}{off} in {}{summary}", node.name, node.file)
        };
        let plans = tree.plans.iter().map(|node| line("plan", node));
        let mut lines: Vec<String> = plans.chain(tree.tests.iter().map(|node| line("test", node))).collect();
        lines.push(format!("runs {}", tree.plan_names().join(" ")));
        lines.join("\n")
    }

    #[test]
    fn plans_and_tests_of_a_tree() {
        insta::assert_snapshot!(shown(&[
            ("main.fmf", "contact: me\n"),
            ("plans/main.fmf", "discover: {how: fmf}\nexecute: {how: tmt}\nversion: 3.10\n"),
            ("plans/ci.fmf", "summary: Basic tests\ndiscover+: {filter: 'tier:1'}\n"),
            ("plans/full.fmf", "summary: All\n/long:\n  enabled: no\n/short:\n  summary+: ' of it'\n/deep/er:\n  provision: {how: local}\n/deep/est: {}\n"),
            ("plans/sub/x.fmf", "provision: {how: local}\n"),
            ("plans/sub/y.fmf", "provision: {how: local}\n"),
            ("plans/other.fmf", "enabled: false\nadjust:\n  - when: distro == fedora\n    enabled: true\n"),
            ("plans/none.fmf", "/:\n  inherit: false\nsummary: only data\n"),
            ("tests/main.fmf", "test: ./test.sh\nduration: 5m\n"),
            ("tests/a.fmf", "summary: A\n"),
            ("tests/.hidden.fmf", "tag: [x]\n"),
            ("README.md", "not: [read"),
        ]), @r#"
        plan /plans/ci in plans/ci.fmf: Basic tests
        plan /plans/full/deep/er in plans/full.fmf: All
        plan /plans/full/deep/est in plans/full.fmf: All
        plan /plans/full/long (off) in plans/full.fmf: All
        plan /plans/full/short in plans/full.fmf: All of it
        plan /plans/other in plans/other.fmf
        plan /plans/sub/x in plans/sub/x.fmf
        plan /plans/sub/y in plans/sub/y.fmf
        test /tests/a in tests/a.fmf: A
        test /tests/hidden in tests/.hidden.fmf
        runs /plans/ci /plans/full/deep/er /plans/full/deep/est /plans/full/short /plans/other /plans/sub/x /plans/sub/y
        "#);
    }

    #[test]
    fn one_file_is_enough_and_tests_alone_make_a_plan() {
        insta::assert_snapshot!(shown(&[("plan.fmf", "execute: {script: make check}\n")]), @r#"
        plan /plan in plan.fmf
        runs /plan
        "#);
        insta::assert_snapshot!(shown(&[("main.fmf", "/smoke: {test: ./a}\n/off: {test: ./b, enabled: false}\n")]), @r#"
        test /off (off) in main.fmf
        test /smoke in main.fmf
        runs /default/plan
        "#);
        insta::assert_snapshot!(shown(&[("main.fmf", "test: ./a\nenabled: false\n")]), @r#"
        test / (off) in main.fmf
        runs
        "#);
        // Two files that speak of one node.
        insta::assert_snapshot!(shown(&[("a.fmf", "test: ./a\n"), ("a/main.fmf", "summary: both\n")]), @r#"
        test /a in a/main.fmf: both
        runs /default/plan
        "#);
    }

    #[test]
    fn mistakes() {
        insta::assert_snapshot!(shown(&[("a.fmf", "test: [x\n"), ("b.fmf", "test: x\ntest: y\n")]), @r#"
        a.fmf:1:7: error: unclosed bracket '['
        b.fmf:2:1: error: duplicate mapping key: test (each key may stand only once in a mapping: join the two entries)
        "#);
        insta::assert_snapshot!(shown(&[("a.fmf", "story: x\n")]), @".fmf/version:1:1: error: no *.fmf file holds a plan (a node with `execute`) or a test (a node with `test`)");
        insta::assert_snapshot!(shown(&[]), @".fmf/version:1:1: error: no *.fmf file holds a plan (a node with `execute`) or a test (a node with `test`)");
        let wide: String = (0..FMF_NODES_MAX + 2).map(|n| format!("/{n}: {{}}\n")).collect();
        insta::assert_snapshot!(shown(&[("a.fmf", &wide)]), @"a.fmf:1:1: error: the tree has more than 20000 nodes");
        let deep = format!("{}: {{}}\n", "/a".repeat(100));
        insta::assert_snapshot!(shown(&[("a.fmf", &deep)]), @"a.fmf:1:1: error: nodes are nested deeper than 32");
    }
}
