//! What JetStream answers. Pure: asks nothing.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;

use super::{
    fault::{Fault, Refusal, corrupt},
    record::{self, Message, Record},
};
use crate::store::StoreError;

/// A message of the stream, not looked into.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) at: u64,
    after: Option<u64>,
    record: Option<String>,
    pub(super) body: Bytes,
}

impl Raw {
    pub(super) fn direct(answer: async_nats::Message) -> Result<Option<Self>, Fault> {
        // 404 none, 408 a bad request, 204 the end of a batch.
        if answer.status.is_some() {
            return Ok(None);
        }
        let headers = answer.headers.as_ref().ok_or(Fault::Unreadable("a message without headers"))?;
        let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
        let at = header("Nats-Sequence").and_then(|at| at.parse().ok());
        Ok(Some(Self {
            at: at.ok_or(Fault::Unreadable("a message's place"))?,
            after: header(AFTER).and_then(|after| after.parse().ok()),
            record: header(record::NAME),
            body: answer.payload,
        }))
    }

    /// What was pulled from a consumer; none at the end.
    pub(super) fn pulled(message: async_nats::Message) -> Result<Option<Self>, Fault> {
        if message.status.is_some() {
            return Ok(None);
        }
        let place = message.reply.as_deref().and_then(position).map(|(at, _)| at);
        let at = place.ok_or(Fault::Unreadable("a consumer's message"))?;
        Ok(Some(Self::delivered(&message, at)))
    }

    /// What a consumer delivered, with its place.
    pub(super) fn delivered(message: &async_nats::Message, at: u64) -> Self {
        let header = |name: &str| message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
        let after = header(AFTER).and_then(|after| after.parse().ok());
        Self { at, after, record: header(record::NAME), body: message.payload.clone() }
    }

    pub(super) fn message(self) -> Result<Message, StoreError> {
        let record = self.record.as_deref().and_then(Record::parse).ok_or_else(|| corrupt("a message's header"))?;
        Ok(Message { at: self.at, after: self.after, record, body: self.body })
    }
}

/// What `info` and the making of a stream answer.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) config: Config,
    pub(super) created: String,
    #[serde(default)]
    pub(super) state: State,
    #[serde(default)]
    pub(super) total: usize,
}

#[derive(Debug, Deserialize)]
pub(super) struct Config {
    #[serde(default)]
    pub(super) subjects: Vec<String>,
    #[serde(default)]
    pub(super) allow_direct: bool,
    #[serde(default)]
    pub(super) allow_rollup_hdrs: bool,
    #[serde(default)]
    pub(super) deny_purge: bool,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct State {
    pub(super) subjects: Option<std::collections::HashMap<String, u64>>,
}

#[derive(Deserialize)]
pub(super) struct Failed {
    pub(super) error: Refusal,
}

#[derive(Deserialize)]
pub(super) struct Ack {
    pub(super) error: Option<Refusal>,
    pub(super) seq: Option<u64>,
}

/// A consumer that was made.
#[derive(Deserialize)]
pub(super) struct Made {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Got {
    pub(super) message: Stored,
}

#[derive(Deserialize)]
pub(super) struct Stored {
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

impl Stored {
    pub(super) fn raw(self) -> Result<Raw, Fault> {
        let unreadable = || Fault::Unreadable("a stored message");
        let headers = STANDARD.decode(self.hdrs).map_err(|_| unreadable())?;
        let headers = String::from_utf8(headers).map_err(|_| unreadable())?;
        let header = |name: &str| {
            let line = headers.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        Ok(Raw {
            at: self.seq,
            after: header(AFTER).and_then(|after| after.parse().ok()),
            record: header(record::NAME),
            body: STANDARD.decode(self.data).map_err(|_| unreadable())?.into(),
        })
    }
}

/// Where in the stream a message is, and its number at the consumer: from
/// `$JS.ACK.<stream>.<consumer>.<deliveries>.<place>.<number>.<time>.<pending>`, or that with a domain and an account after
/// `ACK` and a token at the end.
pub(super) fn position(reply: &str) -> Option<(u64, u64)> {
    let words: Vec<_> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let skipped = if words.len() > 7 { 2 } else { 0 };
    let word = |nth: usize| words.get(skipped + nth)?.parse().ok();
    Some((word(3)?, word(4)?))
}

/// Besides being the condition, it stays with the message and names the one before it.
pub(super) const AFTER: &str = "Nats-Expected-Last-Subject-Sequence";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_from_both_forms_of_the_reply() {
        assert_eq!(position("$JS.ACK.ev.c.1.57.3.1700.0"), Some((57, 3)));
        assert_eq!(position("$JS.ACK.hub.abc.ev.c.1.57.3.1700.0.rnd"), Some((57, 3)));
        assert_eq!(position("$JS.ACK.hub.abc.ev.c.1.57.3.1700.0"), Some((57, 3)));
        for bad in ["", "$JS.ACK", "$JS.ACK.ev.c.1.x.3.1700.0", "_INBOX.a"] {
            assert_eq!(position(bad), None, "{bad}");
        }
    }
}
