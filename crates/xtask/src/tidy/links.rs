//! Links in documents lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{File, expect_none, files, root};

/// The links of a document with their line, and the anchors it offers.
#[derive(Debug, Default, PartialEq)]
struct Document {
    links: Vec<(usize, String)>,
    anchors: BTreeSet<String>,
}

fn read(text: &str) -> Document {
    let mut document = Document::default();
    let mut heading: Option<String> = None;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (event, range) in Parser::new_ext(text, Options::all() - Options::ENABLE_WIKILINKS).into_offset_iter()
    {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                let line = text[..range.start].lines().count().max(1);
                document.links.push((line, dest_url.into_string()));
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(words) | Event::Code(words) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&words);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor(&heading.take().unwrap_or_default());
                let before = seen.entry(anchor.clone()).or_default();
                document.anchors.insert(if *before == 0 { anchor } else { format!("{anchor}-{before}") });
                *before += 1;
            }
            _ => {}
        }
    }
    document
}

/// The anchor that forges make of a heading.
fn anchor(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let kept = lower.chars().filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The path from the root that a link in `from` means; none when it leaves the tree.
fn resolve(from: &str, link: &str) -> Option<String> {
    let mut path = PathBuf::new();
    for component in Path::new(from).parent()?.join(link).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if path.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path.display().to_string())
}

/// Why a link of the document at `from` leads nowhere.
fn broken(documents: &BTreeMap<String, Document>, from: &str, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { Some(from.to_owned()) } else { resolve(from, file) };
    let Some(target) = target else { return Some("leads out of the tree".to_owned()) };
    match documents.get(&target) {
        Some(document) if !anchor.is_empty() && !document.anchors.contains(anchor) => {
            Some(format!("{target} has no heading for #{anchor}; there are: {:?}", document.anchors))
        }
        None if !root().join(&target).exists() => Some(format!("there is no {target}")),
        _ => None,
    }
}

#[test]
fn links_lead_somewhere() {
    let files: Vec<File> = files().into_iter().filter(|file| file.extension() == "md").collect();
    let documents: BTreeMap<String, Document> =
        files.into_iter().map(|file| (file.path, read(&file.text))).collect();
    assert!(documents.contains_key("README.md"), "there is a README.md");
    expect_none(documents.iter().flat_map(|(path, document)| {
        let documents = &documents;
        document.links.iter().filter_map(move |(line, link)| {
            broken(documents, path, link).map(|why| format!("{path}:{line}: {link}: {why}"))
        })
    }));
}

#[test]
fn broken_links_are_found() {
    let text = "# The `one` thing\n\n## Two & three\n## Two & three\n\n[a](#two--three)\n`[code](x)`\n```\n[b](x)\n```\n![i](i.png)\n";
    let document = read(text);
    assert_eq!(document.links, [(5, "#two--three".to_owned()), (10, "i.png".to_owned())]);
    let anchors: Vec<&str> = document.anchors.iter().map(String::as_str).collect();
    assert_eq!(anchors, ["the-one-thing", "two--three", "two--three-1"]);

    let documents = BTreeMap::from([("docs/a.md".to_owned(), document)]);
    for (link, expect) in [
        ("#two--three-1", None),
        ("#two", Some("docs/a.md has no heading")),
        ("a.md#the-one-thing", None),
        ("../docs/./a.md#nothing", Some("docs/a.md has no heading")),
        ("../Cargo.toml", None),
        ("../crates", None),
        ("none.md", Some("there is no docs/none.md")),
        ("../../a.md", Some("leads out of the tree")),
        ("/etc/passwd", Some("leads out of the tree")),
        ("https://example.org/none", None),
    ] {
        let found = broken(&documents, "docs/a.md", link);
        let right = match (&found, expect) {
            (Some(found), Some(expect)) => found.starts_with(expect),
            (found, expect) => found.is_none() && expect.is_none(),
        };
        assert!(right, "{link}: {found:?} instead of {expect:?}");
    }
}
