//! One mapping of the file: each field is read once, into its place, and noted as coming from the file.

use super::Origin;
use model::yaml::{Fields, Node, Reader};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

/// What reading a file shares.
pub(super) struct File<'f> {
    /// The reader.
    pub(super) reader: &'f Reader,
    /// What relative paths are relative to.
    pub(super) folder: &'f Path,
    /// What was set.
    pub(super) origins: &'f RefCell<BTreeMap<String, Origin>>,
}

/// A mapping of the file.
pub(super) struct Section<'f, 'n> {
    pub(super) file: &'f File<'f>,
    fields: Fields<'n>,
    prefix: String,
}

impl<'f, 'n> Section<'f, 'n> {
    /// A mapping; `None` when the node is none (noted).
    pub(super) fn of(file: &'f File<'f>, node: &'n Node, what: &'static str, prefix: &str) -> Option<Self> {
        let fields = file.reader.fields(node, what)?;
        Some(Self { file, fields, prefix: prefix.to_owned() })
    }

    /// The mapping's place.
    pub(super) const fn span(&self) -> &'n Range<usize> {
        self.fields.span()
    }

    /// A section below.
    pub(super) fn section(&mut self, name: &'static str, what: &'static str) -> Option<Section<'f, 'n>> {
        let node = self.fields.get(name)?;
        Section::of(self.file, node, what, &self.path(name))
    }

    fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// A field's node; what it holds counts as set by the file.
    pub(super) fn node(&mut self, name: &'static str) -> Option<&'n Node> {
        let node = self.fields.get(name)?;
        self.file.origins.borrow_mut().insert(self.path(name), Origin::File);
        Some(node)
    }

    /// A field that must be there.
    pub(super) fn require(&mut self, name: &'static str) -> Option<&'n Node> {
        let node = self.fields.require(self.file.reader, name)?;
        self.file.origins.borrow_mut().insert(self.path(name), Origin::File);
        Some(node)
    }

    /// A field read by one of the reader's ways, put into its place.
    pub(super) fn with<T>(
        &mut self,
        name: &'static str,
        into: &mut T,
        read: impl FnOnce(&Reader, &Node, &str) -> Option<T>,
    ) {
        let what = format!("`{}`", self.path(name));
        if let Some(node) = self.node(name)
            && let Some(value) = read(self.file.reader, node, &what)
        {
            *into = value;
        }
    }

    /// A text that is not empty.
    pub(super) fn name(&mut self, name: &'static str, into: &mut String) {
        self.with(name, into, |reader, node, what| reader.name_of(node, what));
    }

    /// A text that may be missing.
    pub(super) fn maybe_name(&mut self, name: &'static str, into: &mut Option<String>) {
        self.with(name, into, |reader, node, what| reader.name_of(node, what).map(Some));
    }

    /// `true` or `false`.
    pub(super) fn bool(&mut self, name: &'static str, into: &mut bool) {
        self.with(name, into, |reader, node, what| reader.bool_of(node, what));
    }

    /// A path; relative ones are relative to the file's folder.
    pub(super) fn path_of(&mut self, name: &'static str, into: &mut PathBuf) {
        let folder = self.file.folder;
        self.with(name, into, |reader, node, what| reader.name_of(node, what).map(|text| folder.join(text)));
    }

    /// A path that may be missing.
    pub(super) fn maybe_path(&mut self, name: &'static str, into: &mut Option<PathBuf>) {
        let folder = self.file.folder;
        self.with(name, into, |reader, node, what| {
            reader.name_of(node, what).map(|text| Some(folder.join(text)))
        });
    }

    /// Paths.
    pub(super) fn paths(&mut self, name: &'static str, into: &mut Vec<PathBuf>) {
        let folder = self.file.folder;
        self.with(name, into, |reader, node, what| {
            Some(reader.texts_of(node, what)?.into_iter().map(|text| folder.join(text)).collect())
        });
    }

    /// Texts.
    pub(super) fn texts(&mut self, name: &'static str, into: &mut Vec<String>) {
        self.with(name, into, |reader, node, what| reader.texts_of(node, what));
    }

    /// Texts that stand for something.
    pub(super) fn parsed_list<T>(
        &mut self,
        name: &'static str,
        into: &mut Vec<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) {
        self.with(name, into, |reader, node, what| {
            let texts = reader.texts_of(node, what)?;
            let parsed = texts.iter().map(|text| parse(text)).collect::<Result<_, String>>();
            parsed.map_err(|why| reader.error(&node.span, format!("{what}: {why}"))).ok()
        });
    }

    /// Texts, each once.
    pub(super) fn set(&mut self, name: &'static str, into: &mut BTreeSet<String>) {
        self.with(name, into, |reader, node, what| Some(reader.texts_of(node, what)?.into_iter().collect()));
    }

    /// A whole number from 1 on.
    pub(super) fn count(&mut self, name: &'static str, max: u32, into: &mut u32) {
        self.with(name, into, |reader, node, what| {
            u32::try_from(reader.int_of(node, what, 1..i64::from(max) + 1)?).ok()
        });
    }

    /// A size in bytes.
    pub(super) fn size(&mut self, name: &'static str, into: &mut u64) {
        self.with(name, into, |reader, node, what| reader.size_of(node, what));
    }

    /// A size that may be missing.
    pub(super) fn maybe_size(&mut self, name: &'static str, into: &mut Option<u64>) {
        self.with(name, into, |reader, node, what| reader.size_of(node, what).map(Some));
    }

    /// A duration.
    pub(super) fn duration(&mut self, name: &'static str, into: &mut Duration) {
        self.with(name, into, |reader, node, what| reader.duration_of(node, what));
    }

    /// A duration, or `forever`.
    pub(super) fn keep(&mut self, name: &'static str, into: &mut Option<Duration>) {
        self.with(name, into, |reader, node, what| match node.as_text() {
            Some("forever") => Some(None),
            _ => reader.duration_of(node, what).map(Some),
        });
    }

    /// A text that `parse` understands.
    pub(super) fn parsed<T>(
        &mut self,
        name: &'static str,
        into: &mut T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) {
        self.with(name, into, |reader, node, what| {
            let text = reader.name_of(node, what)?;
            parse(&text).map_err(|why| reader.error(&node.span, format!("{what}: {why}"))).ok()
        });
    }

    /// Notes every field that is none.
    pub(super) fn finish(self) {
        self.fields.finish(self.file.reader);
    }
}
