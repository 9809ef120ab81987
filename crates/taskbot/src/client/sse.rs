//! Server-sent events, taken out of a stream of bytes.

/// The longest event in bytes: the largest body of an event with its envelope, and as text once more.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SseEvent {
    /// Where to go on after it.
    pub(crate) id: Option<String>,
    /// What kind it is.
    pub(crate) name: String,
    /// What it says.
    pub(crate) data: String,
}

/// Takes events out of bytes that come in pieces.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    event: SseEvent,
    has_data: bool,
}

impl Parser {
    /// Takes a piece; returns the events that it completes.
    ///
    /// # Errors
    /// An event is larger than any that a server sends.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<Vec<SseEvent>, String> {
        let mut events = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() + self.event.data.len() > EVENT_BYTES_MAX {
                return Err(format!("an event of the stream has over {EVENT_BYTES_MAX} bytes"));
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let line = String::from_utf8_lossy(&line);
                events.extend(self.take_line(line.trim_end_matches(['\n', '\r'])));
            }
        }
        Ok(events)
    }

    fn take_line(&mut self, line: &str) -> Option<SseEvent> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments (heartbeats) have an empty name; others are for later versions.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_in_pieces() {
        let text = ": beat\n\nid: 7\nevent: a.b\ndata: {\"x\":\ndata: 1}\n\r\ndata:\n\nid: 9\n\nevent: open";
        for size in [1, 2, 7, 1000] {
            let mut parser = Parser::default();
            let pieces = text.as_bytes().chunks(size).map(|piece| parser.push(piece).unwrap());
            let events: Vec<_> = pieces.collect::<Vec<_>>().concat();
            let expect = [("a.b", "{\"x\":\n1}", Some("7".to_owned())), ("", "", None)];
            let got: Vec<_> =
                events.iter().map(|e| (e.name.as_str(), e.data.as_str(), e.id.clone())).collect();
            assert_eq!(got, expect, "in pieces of {size}");
        }
    }
}
