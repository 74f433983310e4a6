//! JetStream's responses. Pure: asks nothing.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;

use super::{
    body::Message,
    error::{ApiError, CallError, corrupt},
    record::{self, Record},
    server_clock::unix_millis,
};
use crate::store::StoreError;

/// A stored message, not parsed yet.
#[derive(Debug)]
pub(super) struct RawMessage {
    pub(super) at: u64,
    after: Option<u64>,
    record: Option<String>,
    pub(super) body: Bytes,
    /// When the server stored it, in Unix milliseconds; known from the leader only.
    pub(super) time: Option<u64>,
}

impl RawMessage {
    pub(super) fn direct(answer: async_nats::Message) -> Result<Option<Self>, CallError> {
        if let Some(status) = answer.status {
            return check_end(status.as_u16(), answer.description.as_deref()).map(|()| None);
        }
        let headers = answer.headers.as_ref().ok_or(CallError::Malformed("a message without headers"))?;
        let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        let at = header("Nats-Sequence").and_then(|at| at.parse().ok());
        Ok(Some(Self {
            at: at.ok_or(CallError::Malformed("a message's place"))?,
            after: header(EXPECTED_SEQUENCE).and_then(|after| after.parse().ok()),
            record: header(record::NAME),
            body: answer.payload,
            time: None,
        }))
    }

    /// A message fetched from a consumer; `None` at the end.
    pub(super) fn pulled(message: async_nats::Message) -> Result<Option<Self>, CallError> {
        if let Some(status) = message.status {
            return check_end(status.as_u16(), message.description.as_deref()).map(|()| None);
        }
        let place = message.reply.as_deref().and_then(position).map(|(at, _)| at);
        let at = place.ok_or(CallError::Malformed("a consumer's message"))?;
        Ok(Some(Self::delivered(&message, at)))
    }

    /// A message delivered by a consumer, with its stream sequence.
    pub(super) fn delivered(message: &async_nats::Message, at: u64) -> Self {
        let header = |name: &str| message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
        let after = header(EXPECTED_SEQUENCE).and_then(|after| after.parse().ok());
        Self { at, after, record: header(record::NAME), body: message.payload.clone(), time: None }
    }

    /// The record, and the sequence of the predecessor that it was published on.
    pub(super) fn header(&self) -> Result<(Record, Option<u64>), StoreError> {
        let text = self.record.as_ref().ok_or_else(|| corrupt("a message's header"))?;
        Ok((Record::parse(text)?, self.after))
    }

    pub(super) fn message(self) -> Result<Message, StoreError> {
        let (record, after) = self.header()?;
        Ok(Message { at: self.at, after, record, body: self.body })
    }
}

/// The response to a request for the stream's state, and to its creation.
#[derive(Debug, Deserialize)]
pub(super) struct StreamInfo {
    pub(super) config: StreamConfig,
    #[serde(default)]
    pub(super) created: String,
    #[serde(default)]
    pub(super) state: StreamState,
    #[serde(default)]
    cluster: Option<Cluster>,
}

impl StreamInfo {
    /// The name of the server that leads the stream.
    pub(super) fn leader(&self) -> Option<&str> {
        self.cluster.as_ref()?.leader.as_deref()
    }
}

#[derive(Debug, Deserialize)]
struct Cluster {
    #[serde(default)]
    leader: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct StreamConfig {
    #[serde(default)]
    pub(super) subjects: Vec<String>,
    #[serde(default)]
    pub(super) allow_direct: bool,
    #[serde(default)]
    pub(super) allow_rollup_hdrs: bool,
    #[serde(default)]
    pub(super) deny_purge: bool,
    #[serde(default)]
    deny_delete: bool,
    #[serde(default)]
    num_replicas: u32,
    #[serde(default)]
    retention: String,
    #[serde(default)]
    discard: String,
    #[serde(default)]
    max_age: i64,
    #[serde(default)]
    max_msgs: i64,
    #[serde(default)]
    max_msgs_per_subject: i64,
}

impl StreamConfig {
    /// Whether other servers than the leader may respond.
    pub(super) fn is_replicated(&self) -> bool {
        self.num_replicas > 1
    }

    /// The settings by which the server would delete messages, or refuse deletions: each breaks what the store
    /// guarantees.
    pub(super) fn limits(&self) -> Option<String> {
        let mut limits = Vec::new();
        for (name, value) in [
            ("max_age", self.max_age),
            ("max_msgs", self.max_msgs),
            ("max_msgs_per_subject", self.max_msgs_per_subject),
        ] {
            if value > 0 {
                limits.push(format!("{name}: {value}"));
            }
        }
        for (name, value, ours) in [("retention", &self.retention, "limits"), ("discard", &self.discard, "new")] {
            if value != ours {
                limits.push(format!("{name}: {value}"));
            }
        }
        if self.deny_delete {
            limits.push("deny_delete".into());
        }
        (!limits.is_empty()).then(|| limits.join(", "))
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct StreamState {
    #[serde(default)]
    pub(super) messages: u64,
    #[serde(default)]
    pub(super) last_seq: u64,
    #[serde(default)]
    pub(super) num_subjects: usize,
}

#[derive(Deserialize)]
pub(super) struct ErrorResponse {
    pub(super) error: ApiError,
}

#[derive(Deserialize)]
pub(super) struct PublishAck {
    pub(super) error: Option<ApiError>,
    pub(super) seq: Option<u64>,
}

/// A created consumer.
#[derive(Deserialize)]
pub(super) struct CreatedConsumer {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct GetResponse {
    pub(super) message: StoredMessage,
}

#[derive(Deserialize)]
pub(super) struct StoredMessage {
    seq: u64,
    #[serde(default)]
    time: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

impl StoredMessage {
    pub(super) fn raw(self) -> Result<RawMessage, CallError> {
        let unreadable = || CallError::Malformed("a stored message");
        let headers = STANDARD.decode(self.hdrs).map_err(|_| unreadable())?;
        let headers = String::from_utf8(headers).map_err(|_| unreadable())?;
        let header = |name: &str| {
            let line = headers.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        Ok(RawMessage {
            at: self.seq,
            after: header(EXPECTED_SEQUENCE).and_then(|after| after.parse().ok()),
            record: header(record::NAME),
            body: STANDARD.decode(self.data).map_err(|_| unreadable())?.into(),
            time: unix_millis(&self.time),
        })
    }
}

/// As [`RawMessage::pulled`]; `None` also when the next message exceeds the requested bytes.
pub(super) fn pulled_within_limit(message: async_nats::Message) -> Result<Option<RawMessage>, CallError> {
    let does_not_fit = |description: &String| description.to_ascii_lowercase().contains("maxbytes");
    if message.status.is_some() && message.description.as_ref().is_some_and(does_not_fit) {
        return Ok(None);
    }
    RawMessage::pulled(message)
}

/// Whether a status means that there are no (more) messages. Any other status interrupts the response, and what arrived
/// so far is not complete.
fn check_end(status: u16, description: Option<&str>) -> Result<(), CallError> {
    match status {
        // The end of a batch; no message; and a timeout or an invalid request.
        204 | 404 | 408 => Ok(()),
        _ => Err(CallError::NoResponse(format!(
            "JetStream interrupted the response: {status} {}",
            description.unwrap_or_default()
        ))),
    }
}

/// The stream sequence and the consumer sequence of a message, from `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream
/// sequence>.<consumer sequence>.<time>.<pending>`. A longer form has a domain and an account after `ACK` and a token
/// at the end.
pub(super) fn position(reply: &str) -> Option<(u64, u64)> {
    let words: Vec<_> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let skipped = if words.len() > 7 { 2 } else { 0 };
    let word = |nth: usize| words.get(skipped + nth)?.parse().ok();
    Some((word(3)?, word(4)?))
}

/// The condition of a publish. It stays in the message's headers, so it also names the predecessor.
pub(super) const EXPECTED_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_status_counts_as_the_end() {
        for (status, description) in [(204, "EOB"), (404, "No Messages"), (408, "Request Timeout")] {
            assert!(check_end(status, Some(description)).is_ok(), "{status}");
        }
        for (status, description) in
            [(409, "Server Shutdown"), (409, "Consumer Deleted"), (413, "Too Many Results"), (503, "")]
        {
            assert!(
                matches!(check_end(status, Some(description)), Err(CallError::NoResponse(_))),
                "{status} {description}"
            );
        }
        let message = |description: &str| async_nats::Message {
            subject: "a".into(),
            reply: None,
            payload: Bytes::new(),
            headers: None,
            status: async_nats::StatusCode::from_u16(409).ok(),
            description: Some(description.into()),
            length: 0,
        };
        assert!(matches!(pulled_within_limit(message("Message Size Exceeds MaxBytes")), Ok(None)));
        assert!(pulled_within_limit(message("Consumer Deleted")).is_err());
        assert!(RawMessage::pulled(message("Message Size Exceeds MaxBytes")).is_err(), "a scan must not end early");
    }

    #[test]
    fn positions_are_parsed_from_both_forms_of_the_reply() {
        assert_eq!(position("$JS.ACK.ev.c.1.57.3.1700.0"), Some((57, 3)));
        assert_eq!(position("$JS.ACK.hub.abc.ev.c.1.57.3.1700.0.rnd"), Some((57, 3)));
        assert_eq!(position("$JS.ACK.hub.abc.ev.c.1.57.3.1700.0"), Some((57, 3)));
        for bad in ["", "$JS.ACK", "$JS.ACK.ev.c.1.x.3.1700.0", "_INBOX.a"] {
            assert_eq!(position(bad), None, "{bad}");
        }
    }
}
