//! All events of a channel, encoded as they are sent.

#[derive(Default)]
pub(super) struct Log {
    /// The chunks of a stream, one per event, joined.
    stream: Vec<u8>,
    /// Where event `n` begins in `stream`.
    begins: Vec<usize>,
    /// The objects of a long poll, each followed by a comma.
    objects: String,
    /// Where object `n` begins in `objects`.
    object_begins: Vec<usize>,
}

impl Log {
    pub(super) fn push(&mut self, text: &str) {
        let id = self.begins.len();
        self.begins.push(self.stream.len());
        let frame = format!("data: {text}\nid: {id}\n\n");
        self.stream.extend_from_slice(format!("{:x}\r\n{frame}\r\n", frame.len()).as_bytes());
        self.object_begins.push(self.objects.len());
        self.objects += &format!("{{\"id\":\"{id}\",\"channel\":\"a\",\"time\":1732094400123,\"data\":\"{text}\"}},");
    }

    pub(super) fn len(&self) -> usize {
        self.begins.len()
    }

    pub(super) fn after(&self, position: usize) -> &[u8] {
        self.begins.get(position).map_or(&[], |begin| &self.stream[*begin..])
    }

    /// The whole answer to a poll.
    pub(super) fn answer(&self, position: usize) -> Vec<u8> {
        let body = self.objects[self.object_begins[position]..].trim_end_matches(',');
        let (last, length) = (self.len() - 1, body.len() + 2);
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLast-Event-ID: {last}\r\nContent-Length: {length}\r\n\r\n[{body}]"
        )
        .into_bytes()
    }
}
