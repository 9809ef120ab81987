//! Recorded dumps: the line format of fedora-messaging's recorder, one message as a file, or an array of them.

use model::{
    Event, Topic,
    event::{EVENT_BYTES_MAX, EventError, RecordedMessage, parse_body, sent_at},
};
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};
use std::io::{self, BufRead, Write};

/// The longest line of a dump: a body of the largest size with its topic, id and headers.
pub const LINE_BYTES_MAX: usize = EVENT_BYTES_MAX + 1024 * 1024;
/// The largest file that is one document (a message over several lines, or an array).
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a JSON text holds.
#[derive(Debug)]
pub enum Parsed {
    /// A whole message, and its parsed body.
    Message(RecordedMessage, Value),
    /// A plain body.
    Body(Value),
}

/// Parses a JSON text that is a whole message (a text `topic`, an object `body`, and `headers` and `id` of the
/// right types if they are there) or else a plain body.
///
/// # Errors
/// It is no JSON object, or too large.
pub fn parse(text: &[u8]) -> Result<Parsed, EventError> {
    let mut whole = parse_body(text)?;
    let is = |key: &str, fits: fn(&Value) -> bool| whole.get(key).is_some_and(fits);
    let may = |key: &str, fits: fn(&Value) -> bool| whole.get(key).is_none_or(fits);
    let headers = may("headers", Value::is_object);
    let id = may("id", |id| id.is_string() || id.is_null());
    if is("topic", Value::is_string) && is("body", Value::is_object) && headers && id {
        // A second pass, that keeps the body's bytes.
        let message = serde_json::from_slice(text).map_err(|error| EventError::Json(error.to_string()))?;
        return Ok(Parsed::Message(message, whole["body"].take()));
    }
    Ok(Parsed::Body(whole))
}

/// A part of a dump that is no message.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    /// The content is wrong; the messages after it can still be read, unless the file is one document.
    #[error("line {line}: {reason}")]
    Content {
        /// Where it begins, from 1.
        line: usize,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// The input cannot be read.
    #[error("line {line}: cannot read: {error}")]
    Read {
        /// Where reading stopped, from 1.
        line: usize,
        /// Why.
        error: io::Error,
    },
}

/// Reads a dump message by message. JSON lines are read one at a time; a document is read whole.
#[derive(Debug)]
pub struct RecordedReader<R> {
    input: R,
    topic: Option<Topic>,
    /// The number of the line that was read last.
    line: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Start,
    Lines,
    /// The messages of a document that was read, last first.
    Document(Vec<Result<RecordedMessage, RecordedError>>),
    End,
}

impl<R: BufRead> RecordedReader<R> {
    /// Reads from the input. A plain body gets the topic that is given here; without one it is an error.
    pub fn new(input: R, topic: Option<Topic>) -> Self {
        Self { input, topic, line: 0, state: State::Start }
    }

    /// Reads the next line that is not blank.
    fn read_line(&mut self) -> Option<Result<Vec<u8>, RecordedError>> {
        loop {
            let mut bytes = Vec::new();
            self.line += 1;
            match read_bounded(&mut self.input, LINE_BYTES_MAX, &mut bytes) {
                Err(error) => {
                    self.state = State::End;
                    return Some(Err(RecordedError::Read { line: self.line, error }));
                }
                Ok(0) => return None,
                Ok(read) if read > LINE_BYTES_MAX => {
                    let reason = format!("the line has {read} bytes; at most {LINE_BYTES_MAX} are read");
                    return Some(Err(RecordedError::Content { line: self.line, reason }));
                }
                Ok(_) if bytes.trim_ascii().is_empty() => {}
                Ok(_) => return Some(Ok(bytes)),
            }
        }
    }

    /// Looks at the first line, to tell lines from a document.
    fn start(&mut self) -> Option<Result<RecordedMessage, RecordedError>> {
        self.state = State::Lines;
        let first = match self.read_line()? {
            Ok(first) => strip_bom(first),
            Err(error) => return Some(Err(error)),
        };
        let is_array = first.trim_ascii_start().starts_with(b"[");
        let open = serde_json::from_slice::<serde::de::IgnoredAny>(&first).is_err_and(|error| error.is_eof());
        if !is_array && !open {
            return Some(self.message(&first, self.line));
        }
        match self.document(first) {
            Ok(text) if is_array => self.array(&text),
            Ok((first_line, text)) => {
                self.state = State::End;
                Some(self.message(&text, first_line))
            }
            Err(error) => {
                self.state = State::End;
                Some(Err(error))
            }
        }
    }

    /// Reads the rest of a document; returns the number of its first line and its text.
    fn document(&mut self, mut text: Vec<u8>) -> Result<(usize, Vec<u8>), RecordedError> {
        let line = self.line;
        let room = DOCUMENT_BYTES_MAX.saturating_sub(text.len()) as u64;
        let rest = io::Read::read_to_end(&mut io::Read::take(&mut self.input, room + 1), &mut text);
        rest.map_err(|error| RecordedError::Read { line, error })?;
        if text.len() > DOCUMENT_BYTES_MAX {
            let reason = format!(
                "the document has over {DOCUMENT_BYTES_MAX} bytes; write one message a line instead (JSON lines)"
            );
            return Err(RecordedError::Content { line, reason });
        }
        Ok((line, text))
    }

    fn array(
        &mut self,
        (first_line, text): &(usize, Vec<u8>),
    ) -> Option<Result<RecordedMessage, RecordedError>> {
        let items: Vec<&RawValue> = match serde_json::from_slice(text) {
            Ok(items) => items,
            Err(error) => {
                self.state = State::End;
                let (line, reason) = located(&error, *first_line);
                return Some(Err(RecordedError::Content { line, reason }));
            }
        };
        let (mut line, mut at) = (*first_line, 0);
        let mut messages = Vec::with_capacity(items.len());
        for item in items {
            // The items borrow from the text, in its order: their offsets tell their lines.
            let offset = item.get().as_ptr().addr() - text.as_ptr().addr();
            line += newlines(&text[at..offset]);
            at = offset;
            messages.push(self.message(item.get().as_bytes(), line));
        }
        messages.reverse();
        self.state = State::Document(messages);
        self.next()
    }

    fn message(&self, text: &[u8], line: usize) -> Result<RecordedMessage, RecordedError> {
        // Else a cut-off line would be reported as an error of the next one.
        let text = text.trim_ascii_end();
        let parsed = parse(text).map_err(|error| {
            // The error's own place counts from the start of the text.
            let located = serde_json::from_slice::<Value>(text).err().map(|error| located(&error, line));
            let (line, reason) = located.unwrap_or_else(|| (line, error.to_string()));
            RecordedError::Content { line, reason }
        })?;
        match (parsed, &self.topic) {
            (Parsed::Message(message, _), _) => Ok(message),
            (Parsed::Body(_), Some(topic)) => {
                let body = serde_json::from_slice(text)
                    .map_err(|error| RecordedError::Content { line, reason: error.to_string() })?;
                let topic = topic.to_string();
                Ok(RecordedMessage { id: None, topic, headers: Map::new(), body })
            }
            (Parsed::Body(body), None) => {
                Err(RecordedError::Content { line, reason: missing(&body).to_owned() })
            }
        }
    }
}

impl<R: BufRead> Iterator for RecordedReader<R> {
    type Item = Result<RecordedMessage, RecordedError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.state {
            State::Start => self.start(),
            State::Lines => {
                let line = self.read_line()?;
                Some(line.and_then(|text| self.message(&text, self.line)))
            }
            State::Document(messages) => messages.pop(),
            State::End => None,
        }
    }
}

/// Why an object is no recorded message.
fn missing(body: &Value) -> &'static str {
    match (body.get("topic"), body.get("body")) {
        (None, _) => "expected a recorded message: `topic` is missing; give a topic if this is a plain body",
        (Some(topic), _) if !topic.is_string() => "expected a recorded message: `topic` must be a text",
        (_, None) => "expected a recorded message: `body` is missing",
        (_, Some(inner)) if !inner.is_object() => "expected a recorded message: `body` must be an object",
        _ => "expected a recorded message: `headers` must be an object and `id` a text",
    }
}

/// The line of a parser's error in the file, and what it says with its column.
fn located(error: &serde_json::Error, first_line: usize) -> (usize, String) {
    let text = model::event::json_words(error);
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    let line = first_line + error.line().saturating_sub(1);
    (line, format!("no JSON: column {}: {what}", error.column()))
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn strip_bom(bytes: Vec<u8>) -> Vec<u8> {
    bytes.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(bytes)
}

/// Reads up to and with the next line feed, and returns how many bytes that were; keeps at most `max` of them.
fn read_bounded(input: &mut impl BufRead, max: usize, kept: &mut Vec<u8>) -> io::Result<usize> {
    let mut read = 0;
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(available.len(), |end| end + 1);
        let room = max.saturating_sub(kept.len()).min(taken);
        kept.extend_from_slice(&available[..room]);
        read += taken;
        let ended = end.is_some() || taken == 0;
        input.consume(taken);
        if ended {
            return Ok(read);
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    topic: &'a str,
    headers: &'a Map<String, Value>,
    body: &'a RawValue,
    queue: Option<&'a str>,
    priority: Option<u8>,
}

/// Writes an event as one line that [`RecordedReader`] and other tools read. Line breaks between the body's
/// tokens become spaces; nothing else of it changes. The time goes into `sent-at` when no header tells it.
///
/// # Errors
/// The body is no JSON, or the output cannot be written.
pub fn write_line(event: &Event, output: &mut impl Write) -> io::Result<()> {
    let text = std::str::from_utf8(&event.payload)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
        .replace(['\n', '\r'], " ");
    let body: &RawValue = serde_json::from_str(&text)?;
    let mut headers = event.headers.clone();
    if let Some(time) = event.time
        && !headers.contains_key("ce-time")
        && sent_at(&headers).is_none()
    {
        headers.insert("sent-at".to_owned(), time.to_rfc3339().into());
    }
    let (id, topic) = (event.id.as_str(), event.topic.as_str());
    let line = Line { id, topic, headers: &headers, body, queue: None, priority: None };
    serde_json::to_writer(&mut *output, &line)?;
    output.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn read(text: &[u8], topic: Option<&str>) -> Vec<String> {
        RecordedReader::new(text, topic.map(Topic::from))
            .map(|message| match message {
                Ok(message) => format!("{} {}", message.topic, message.body.get()),
                Err(error) => error.to_string(),
            })
            .collect()
    }

    #[test]
    fn forms() {
        let check = |text: &str, topic: Option<&str>, expect: &[&str]| {
            assert_eq!(read(text.as_bytes(), topic), expect, "{text}");
        };
        let (a, b) = (r#"{"topic": "a", "body": {"n":  1}}"#, r#"{"topic": "b", "id": "i", "body": {}}"#);
        check("", None, &[]);
        check("\n \n", None, &[]);
        check(a, None, &[r#"a {"n":  1}"#]);
        check(&format!("\u{feff}{a}\r\n\n{b}"), None, &[r#"a {"n":  1}"#, "b {}"]);
        check("{\n \"topic\": \"a\",\n \"body\": {}\n}\n", None, &["a {}"]);
        check(&format!("[{a},\n{b}]"), None, &[r#"a {"n":  1}"#, "b {}"]);
        check("[]", None, &[]);
        check("{\"x\": 1}", Some("t"), &["t {\"x\": 1}"]);
        check("{\n\"x\": 1}", Some("t"), &["t {\n\"x\": 1}"]);
        check(a, Some("t"), &[r#"a {"n":  1}"#]);
    }

    #[test]
    fn errors_are_located_and_the_rest_is_read() {
        let good = r#"{"topic": "a", "body": {}}"#;
        let check = |text: String, expect: &[&str]| {
            let got = read(text.as_bytes(), None);
            assert_eq!(got.len(), expect.len(), "{got:?}");
            for (got, expect) in got.iter().zip(expect) {
                assert!(got.starts_with(expect), "{got}");
            }
        };
        check(format!("{good}\n{{\"topic\": \n{good}"), &["a {}", "line 2: no JSON: column 9: EOF", "a {}"]);
        check(
            format!("{good}\n\n[1]\n7\n{good}"),
            &["a {}", "line 3: the body must be", "line 4: the", "a {}"],
        );
        check("{\"x\": 1}\n".to_owned(), &["line 1: expected a recorded message: `topic` is missing"]);
        check("{\"topic\": \"a\"}".to_owned(), &["line 1: expected a recorded message: `body` is missing"]);
        check(
            "{\"topic\": 1, \"body\": {}}".to_owned(),
            &["line 1: expected a recorded message: `topic` must"],
        );
        check("{\n\"topic\": \"a\",\n\"body\": {]\n}".to_owned(), &["line 3: no JSON: column 10: "]);
        check(format!("[\n{good},\n\n{{\"body\": {{}}}}]"), &["a {}", "line 4: expected a recorded message"]);
        check(format!("[\n{good},\n}}"), &["line 3: no JSON: column 1: "]);
        check("no json at all\n{}".to_owned(), &["line 1: no JSON: column 2: ", "line 2: expected"]);
    }

    #[test]
    fn long_lines_are_skipped() {
        let mut text = vec![b'x'; LINE_BYTES_MAX + 1];
        text.extend_from_slice(b"\n{\"topic\": \"a\", \"body\": {}}\n");
        let got = read(&text, None);
        assert!(got[0].starts_with("line 1: the line has 9437186 bytes"), "{got:?}");
        assert_eq!(got[1..], ["a {}"]);
        let got = read(&[b"[", &*vec![b' '; DOCUMENT_BYTES_MAX + 1]].concat(), None);
        assert!(got[0].contains("at most") || got[0].contains("JSON lines"), "{got:?}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let line = r#"{"topic": "a.b", "id": "7", "headers": {"x": "y"}, "body": {"n": 1.10, "t": "ü\n"}}"#;
        let message: RecordedMessage = serde_json::from_str(line).unwrap();
        let mut event = message.into_event(&"api".into(), DateTime::UNIX_EPOCH);
        event.payload = b"{\n  \"n\": 1.10\n}"[..].into();
        event.time = DateTime::from_timestamp(1, 0);
        let mut written = Vec::new();
        write_line(&event, &mut written).unwrap();
        assert_eq!(newlines(&written), 1);
        let again = RecordedReader::new(&*written, None).next().unwrap().unwrap();
        assert_eq!(again.body.get(), "{   \"n\": 1.10 }");
        let again = again.into_event(&"api".into(), DateTime::UNIX_EPOCH);
        assert_eq!((again.id, again.topic, again.time), (event.id, event.topic, event.time));
        assert_eq!(again.headers["x"], "y");
    }
}
