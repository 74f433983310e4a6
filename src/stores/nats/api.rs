//! The JetStream API for one stream. Knows no entries.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    connection::{Connection, Responses},
    error::CallError,
    response::{
        CreatedConsumer, EXPECTED_SEQUENCE, ErrorResponse, GetResponse, PublishAck, RawMessage, StreamInfo,
        pulled_within_limit,
    },
    settings::Settings,
    timing::nanos,
};

/// Which server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadFrom {
    /// Any replica, which may be behind.
    AnyReplica,
    /// The stream's leader.
    Leader,
}

/// Which message is requested.
#[derive(Clone, Copy, Debug)]
pub(super) enum Selector {
    /// The newest message of the subject.
    Last,
    /// The first message of the subject at or after this stream sequence.
    AtOrAfter(u64),
}

/// One stream, by its name.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: String,
    /// Whether one request can return several messages.
    pub(super) batches: bool,
}

impl Stream {
    /// One message, if there is one.
    pub(super) async fn message(
        &self,
        connection: &Connection,
        subject: &str,
        selector: Selector,
        read_from: ReadFrom,
        request_timeout: Duration,
    ) -> Result<Option<RawMessage>, CallError> {
        match read_from {
            ReadFrom::AnyReplica => {
                let (to, body) = match selector {
                    Selector::Last => (connection.api(&format!("DIRECT.GET.{}.{subject}", self.name)), Bytes::new()),
                    Selector::AtOrAfter(at) => (
                        connection.api(&format!("DIRECT.GET.{}", self.name)),
                        json!({"seq": at.max(1), "next_by_subj": subject}).to_string().into(),
                    ),
                };
                RawMessage::direct(connection.request(&to, None, body, request_timeout).await?)
            }
            ReadFrom::Leader => {
                let body = match selector {
                    Selector::Last => json!({"last_by_subj": subject}),
                    Selector::AtOrAfter(at) => json!({"seq": at.max(1), "next_by_subj": subject}),
                };
                match call::<GetResponse>(connection, &format!("STREAM.MSG.GET.{}", self.name), &body, request_timeout)
                    .await
                {
                    Ok(got) => got.message.raw().map(Some),
                    Err(CallError::Refused(api_error)) if api_error.is_no_message() => Ok(None),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Up to `limit` messages of the subject, starting at this stream sequence. Fewer do not mean the end.
    pub(super) async fn messages(
        &self,
        connection: &Connection,
        subject: &str,
        from: u64,
        limit: FetchLimit,
        request_timeout: Duration,
    ) -> Result<Vec<RawMessage>, CallError> {
        if limit.messages <= 1 {
            let one = self
                .message(connection, subject, Selector::AtOrAfter(from), ReadFrom::AnyReplica, request_timeout)
                .await?;
            return Ok(one.into_iter().collect());
        }
        if !self.batches {
            return self.pull(connection, subject, from, limit, request_timeout).await;
        }
        let body =
            json!({"seq": from.max(1), "next_by_subj": subject, "batch": limit.messages, "max_bytes": limit.bytes});
        let answers = connection
            .request_many(connection.api(&format!("DIRECT.GET.{}", self.name)), body.to_string().into())
            .await?;
        collect(answers, limit, request_timeout, RawMessage::direct).await
    }

    /// As [`Stream::messages`], for servers that cannot return several messages: by a consumer that is used once.
    async fn pull(
        &self,
        connection: &Connection,
        subject: &str,
        from: u64,
        limit: FetchLimit,
        request_timeout: Duration,
    ) -> Result<Vec<RawMessage>, CallError> {
        let config = json!({
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": from.max(1),
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subject": subject,
            "inactive_threshold": nanos(request_timeout * 2),
            "mem_storage": true,
            "num_replicas": 1,
        });
        let consumer = self.create_consumer(connection, &config, request_timeout).await?;
        let messages = self.fetch(connection, &consumer, limit, request_timeout, pulled_within_limit).await;
        self.delete_consumer(connection, &consumer).await;
        messages
    }

    /// Deletes the subject's messages below this stream sequence.
    pub(super) async fn purge(
        &self,
        connection: &Connection,
        subject: &str,
        below: u64,
        request_timeout: Duration,
    ) -> Result<(), CallError> {
        let body = json!({"filter": subject, "seq": below});
        call::<Value>(connection, &format!("STREAM.PURGE.{}", self.name), &body, request_timeout).await.map(drop)
    }

    /// Deletes one message.
    #[cfg(feature = "testing")]
    pub(super) async fn delete(
        &self,
        connection: &Connection,
        at: u64,
        request_timeout: Duration,
    ) -> Result<(), CallError> {
        let what = format!("STREAM.MSG.DELETE.{}", self.name);
        call::<Value>(connection, &what, &json!({"seq": at, "no_erase": true}), request_timeout).await.map(drop)
    }

    /// The state and the configuration of the stream.
    pub(super) async fn info(
        &self,
        connection: &Connection,
        request_timeout: Duration,
    ) -> Result<StreamInfo, CallError> {
        call(connection, &format!("STREAM.INFO.{}", self.name), &json!({}), request_timeout).await
    }

    /// Creates an ephemeral consumer; returns its name.
    pub(super) async fn create_consumer(
        &self,
        connection: &Connection,
        config: &Value,
        request_timeout: Duration,
    ) -> Result<String, CallError> {
        let body = json!({"stream_name": self.name, "config": config});
        let consumer: CreatedConsumer =
            call(connection, &format!("CONSUMER.CREATE.{}", self.name), &body, request_timeout).await?;
        Ok(consumer.name)
    }

    /// Fetches up to `limit` messages from a consumer. Fewer mean the end.
    pub(super) async fn fetch<T>(
        &self,
        connection: &Connection,
        consumer: &str,
        limit: FetchLimit,
        request_timeout: Duration,
        read: impl Fn(async_nats::Message) -> Result<Option<T>, CallError>,
    ) -> Result<Vec<T>, CallError> {
        let body = json!({"batch": limit.messages, "max_bytes": limit.bytes, "no_wait": true});
        let next = connection.api(&format!("CONSUMER.MSG.NEXT.{}.{consumer}", self.name));
        let answers = connection.request_many(next, body.to_string().into()).await?;
        collect(answers, limit, request_timeout, read).await
    }

    /// Deletes a consumer, without waiting: it would expire soon anyway.
    pub(super) async fn delete_consumer(&self, connection: &Connection, consumer: &str) {
        connection.send(connection.api(&format!("CONSUMER.DELETE.{}.{consumer}", self.name)).into()).await;
    }

    /// Has new messages of the subject pushed to this inbox.
    pub(super) async fn push_new_to(
        &self,
        connection: &Connection,
        subject: &str,
        inbox: &str,
        heartbeat: Duration,
        request_timeout: Duration,
    ) -> Result<(), CallError> {
        let config = json!({
            "deliver_subject": inbox,
            "deliver_policy": "new",
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": 1,
            "filter_subject": subject,
            "flow_control": true,
            "idle_heartbeat": nanos(heartbeat),
            "inactive_threshold": nanos(heartbeat * 3),
            "mem_storage": true,
            "num_replicas": 1,
        });
        let body = json!({"stream_name": self.name, "config": config});
        call::<Value>(connection, &format!("CONSUMER.CREATE.{}", self.name), &body, request_timeout).await.map(drop)
    }
}

/// Collects responses until there are enough, or one marks the end.
async fn collect<T>(
    mut answers: Responses,
    limit: FetchLimit,
    request_timeout: Duration,
    read: impl Fn(async_nats::Message) -> Result<Option<T>, CallError>,
) -> Result<Vec<T>, CallError> {
    let mut messages = Vec::new();
    while messages.len() < limit.messages {
        match answers.next(request_timeout).await? {
            Some(answer) if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS) => {
                return Err(CallError::NoResponders);
            }
            Some(answer) => match read(answer)? {
                Some(raw) => messages.push(raw),
                None => break,
            },
            None => return Err(CallError::NoResponse("not all responses arrived".into())),
        }
    }
    Ok(messages)
}

/// How much to fetch at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchLimit {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// Publishes on condition that the subject's last message is the expected one; returns the stream sequence.
pub(super) async fn publish(
    connection: &Connection,
    subject: &str,
    headers: HeaderMap,
    body: Bytes,
    request_timeout: Duration,
) -> Result<u64, CallError> {
    let answer = connection.request(subject, Some(headers), body, request_timeout).await?;
    let unreadable = CallError::Malformed("an acknowledgement");
    match serde_json::from_slice(&answer.payload) {
        Ok(PublishAck { error: Some(api_error), .. }) => Err(CallError::Refused(api_error)),
        Ok(PublishAck { seq: Some(at), .. }) if at > 0 => Ok(at),
        _ => Err(unreadable),
    }
}

/// The header that makes the server accept a message only if the subject's last message is at this sequence.
pub(super) fn expect_last(at: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(EXPECTED_SEQUENCE, at.to_string());
    headers
}

/// The state of the stream that has this name now.
pub(super) async fn info(connection: &Connection, settings: &Settings) -> Result<StreamInfo, CallError> {
    call::<StreamInfo>(connection, &format!("STREAM.INFO.{}", settings.prefix), &json!({}), settings.request_timeout)
        .await
}

pub(super) async fn call<T: for<'de> Deserialize<'de>>(
    connection: &Connection,
    what: &str,
    body: &Value,
    request_timeout: Duration,
) -> Result<T, CallError> {
    let answer = connection.request(&connection.api(what), None, body.to_string().into(), request_timeout).await?;
    parse_response(&answer.payload)
}

fn parse_response<T: for<'de> Deserialize<'de>>(payload: &[u8]) -> Result<T, CallError> {
    // Only a response with `error` parses as one.
    if let Ok(ErrorResponse { error }) = serde_json::from_slice(payload) {
        return Err(CallError::Refused(error));
    }
    serde_json::from_slice(payload).map_err(|_| CallError::Malformed("a JetStream response"))
}
