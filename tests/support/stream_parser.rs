//! A parser of `text/event-stream`, written from the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream".
//! It shares no code with the crate, so that an error in one is not repeated in the other.

/// One dispatched event, as a page's listener sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `type`: `message` unless a field named it.
    pub name: String,
    /// `data`.
    pub data: String,
    /// `lastEventId`.
    pub id: String,
}

/// Bytes in, events out. The stream may be split anywhere between calls of [`Parser::push`].
#[derive(Default)]
pub struct Parser {
    started: bool,
    line: Vec<u8>,
    after_cr: bool,
    data: String,
    name: String,
    id_buffer: String,
    /// The "last event ID string": what a reconnect sends as `Last-Event-ID`.
    pub last_event_id: String,
    /// The last valid `retry`, in milliseconds.
    pub retry: Option<u64>,
    /// Comments, without the colon.
    pub comments: Vec<String>,
    /// Fields that the standard does not define.
    pub unknown_fields: Vec<String>,
    /// Complete blocks, whether or not they dispatched an event.
    pub blocks: usize,
    /// Blocks without data, which dispatch no event.
    pub silent_blocks: usize,
}

impl Parser {
    /// The events that `bytes` complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Message> {
        bytes.iter().filter_map(|byte| self.push_byte(*byte)).collect()
    }

    /// A line ends with CRLF, LF or CR. What follows the last line end is never interpreted, because an incomplete block at
    /// the end of the stream is discarded.
    fn push_byte(&mut self, byte: u8) -> Option<Message> {
        let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
        match byte {
            b'\n' if after_cr => None,
            b'\n' | b'\r' => {
                let line = std::mem::take(&mut self.line);
                self.end_of_line(&line)
            }
            _ => {
                self.line.push(byte);
                None
            }
        }
    }

    fn end_of_line(&mut self, line: &[u8]) -> Option<Message> {
        // "UTF-8 decode" strips one leading byte order mark. Line ends are ASCII, so decoding line by line is equivalent.
        let first = !std::mem::replace(&mut self.started, true);
        let line = if first { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line) } else { line };
        let line = String::from_utf8_lossy(line);
        if line.is_empty() {
            return self.dispatch();
        }
        match line.split_once(':') {
            Some(("", comment)) => self.comments.push(comment.to_owned()),
            Some((field, value)) => self.field(field, value.strip_prefix(' ').unwrap_or(value)),
            None => self.field(&line, ""),
        }
        None
    }

    fn field(&mut self, field: &str, value: &str) {
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id_buffer),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok();
            }
            "id" | "retry" => {}
            unknown => self.unknown_fields.push(unknown.to_owned()),
        }
    }

    fn dispatch(&mut self) -> Option<Message> {
        self.blocks += 1;
        self.last_event_id.clone_from(&self.id_buffer);
        let (mut data, name) = (std::mem::take(&mut self.data), std::mem::take(&mut self.name));
        if data.is_empty() {
            self.silent_blocks += 1;
            return None;
        }
        data.pop(); // "If the data buffer's last character is a U+000A LINE FEED (LF), then remove" it.
        let name = if name.is_empty() { "message".to_owned() } else { name };
        Some(Message { name, data, id: self.last_event_id.clone() })
    }
}
