//! XML as a stream of elements and text, with the lines that it stands on: what the XML formats share.
//!
//! A document type, and with it every entity of one's own, is refused; nothing is ever loaded. Namespaces are
//! left out of names.

use crate::{
    parse_error::{Fault, line_at},
    parsed::clean_name,
};
use quick_xml::{
    Reader,
    escape::{resolve_predefined_entity, unescape},
    events::{BytesRef, BytesStart, Event},
};

/// How deep elements can be nested, those that are not read included.
pub const ELEMENT_DEPTH_MAX: usize = 64;
/// The most attributes of one element.
pub const ATTRIBUTES_MAX: usize = 64;

/// A step through a document. An element without content opens and closes.
#[derive(Debug)]
pub(crate) enum Node {
    Open(String, Attributes),
    /// Text or a part of it: plain, of CDATA, of an entity.
    Words(String),
    Close,
}

/// The attributes of an element, decoded.
#[derive(Debug, Default)]
pub(crate) struct Attributes(Vec<(String, String)>);

impl Attributes {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A document being read.
pub(crate) struct Xml<'a> {
    reader: Reader<&'a [u8]>,
    text: &'a str,
    /// The byte offset up to which lines are counted.
    at: usize,
    line: u32,
    /// The open elements with the lines that they stand on.
    open: Vec<(String, u32)>,
    /// Whether the root element was closed.
    done: bool,
}

impl<'a> Xml<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        Self { reader, text, at: 0, line: 1, open: Vec::new(), done: false }
    }

    /// The line on which the last step began.
    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    /// The next step; nothing at the end of a whole document.
    pub(crate) fn next(&mut self) -> Result<Option<Node>, Fault> {
        loop {
            self.advance(usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX));
            let event = match self.reader.read_event() {
                Ok(event) => event,
                Err(error) => return Err(self.broken(&error)),
            };
            let node = match event {
                Event::Eof => return self.end().map(|()| None),
                Event::Start(start) => Some(self.open(&start)?),
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => None,
                Event::End(_) => {
                    self.open.pop();
                    self.done = self.open.is_empty();
                    Some(Node::Close)
                }
                Event::Text(text) => {
                    self.words(&text.decode().map_err(|error| Fault::new(self.line, error.to_string()))?)?
                }
                Event::CData(text) => {
                    self.words(&text.decode().map_err(|error| Fault::new(self.line, error.to_string()))?)?
                }
                Event::GeneralRef(reference) => {
                    let word = self.resolve(&reference)?;
                    self.words(&word)?
                }
                Event::DocType(_) => {
                    return Err(Fault::new(self.line, "a document type is not read").help(
                        "remove `<!DOCTYPE …>`; entities of its own are refused, external ones are never loaded",
                    ));
                }
            };
            if node.is_some() {
                return Ok(node);
            }
        }
    }

    /// Counts the lines up to an offset; offsets only grow, so that the whole document is walked once.
    fn advance(&mut self, offset: usize) {
        let offset = offset.min(self.text.len());
        if offset > self.at {
            let passed = line_at(&self.text.as_bytes()[self.at..offset], offset - self.at) - 1;
            self.line = self.line.saturating_add(passed);
            self.at = offset;
        }
    }

    fn broken(&mut self, error: &quick_xml::Error) -> Fault {
        self.advance(usize::try_from(self.reader.error_position()).unwrap_or(usize::MAX));
        let fault = Fault::new(self.line, format!("broken XML: {error}"));
        match self.open.last() {
            Some((tag, line)) => fault.help(format!(
                "the element <{tag}> from line {line} is open here; the document may be truncated"
            )),
            None => fault.help("write well-formed XML"),
        }
    }

    fn words(&self, words: &str) -> Result<Option<Node>, Fault> {
        if !self.open.is_empty() {
            return Ok(Some(Node::Words(words.to_owned())));
        }
        if words.trim().is_empty() {
            return Ok(None);
        }
        Err(Fault::new(self.line, "text outside of the root element")
            .help("the document is not XML alone; write other output elsewhere"))
    }

    fn resolve(&self, reference: &BytesRef<'_>) -> Result<String, Fault> {
        if let Ok(Some(c)) = reference.resolve_char_ref() {
            return Ok(c.to_string());
        }
        let name = String::from_utf8_lossy(reference).into_owned();
        resolve_predefined_entity(&name).map(str::to_owned).ok_or_else(|| {
            Fault::new(self.line, format!("the entity `&{};` is not known", clean_name(&name)))
                .help("known are amp, lt, gt, quot, apos and characters by number; write `&amp;` for `&`")
        })
    }

    fn open(&mut self, start: &BytesStart<'_>) -> Result<Node, Fault> {
        let tag = clean_name(&String::from_utf8_lossy(start.local_name().as_ref()));
        if self.done {
            return Err(Fault::new(self.line, format!("<{tag}> behind the end of the root element"))
                .help("write one document per file"));
        }
        if self.open.len() >= ELEMENT_DEPTH_MAX {
            return Err(Fault::new(
                self.line,
                format!("elements are nested deeper than {ELEMENT_DEPTH_MAX}"),
            ));
        }
        let attributes = self.attributes(start)?;
        self.open.push((tag.clone(), self.line));
        Ok(Node::Open(tag, attributes))
    }

    fn attributes(&self, start: &BytesStart<'_>) -> Result<Attributes, Fault> {
        let mut attributes: Vec<(String, String)> = Vec::new();
        // The library's own check for duplicates is quadratic in a hostile number of attributes.
        for attribute in start.attributes().with_checks(false) {
            let attribute =
                attribute.map_err(|error| Fault::new(self.line, format!("broken attribute: {error}")))?;
            if attributes.len() == ATTRIBUTES_MAX {
                return Err(Fault::new(self.line, format!("more than {ATTRIBUTES_MAX} attributes")));
            }
            let key = String::from_utf8_lossy(attribute.key.local_name().as_ref()).into_owned();
            let raw = String::from_utf8_lossy(&attribute.value);
            let value = unescape(&raw).map_err(|error| {
                Fault::new(self.line, format!("attribute `{}`: {error}", clean_name(&key)))
                    .help("known entities are amp, lt, gt, quot, apos and characters by number; write `&amp;` for `&`")
            })?;
            if attributes.iter().any(|(known, _)| *known == key) {
                return Err(Fault::new(self.line, format!("attribute `{}` comes twice", clean_name(&key))));
            }
            attributes.push((key, value.into_owned()));
        }
        Ok(Attributes(attributes))
    }

    fn end(&self) -> Result<(), Fault> {
        match self.open.last() {
            Some((tag, line)) => {
                Err(Fault::new(self.line, format!("the document ends inside <{tag}> from line {line}"))
                    .help("the document is truncated"))
            }
            None if self.done => Ok(()),
            None => {
                Err(Fault::new(self.line, "the document is empty")
                    .help("the tests died before they wrote it"))
            }
        }
    }
}
