//! The stream as a place: its identity, its subjects, and what JetStream can be asked about it. Knows no entries.

use std::time::Duration;

use async_nats::HeaderMap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    answer::{AFTER, Ack, Failed, Got, Info, Made, Raw},
    fault::{Fault, corrupt},
    link::Link,
    options::Settings,
};
use crate::{channel::Channel, store::StoreError};

/// One stream, as long as it is the same one.
#[derive(Debug)]
pub(super) struct Place {
    stream: String,
    /// `<prefix>.<nonce>`: a stream that this crate makes anew has other subjects, so nothing meant for this one reaches it.
    root: String,
    /// Of the nonce and the time of the stream's making: differs even when a stream is made anew with the same subjects.
    pub(super) epoch: u64,
    /// Whether one request can bring several messages.
    batches: bool,
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// Any replica: it may be behind.
    Any,
    /// The leader.
    Leader,
}

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    /// The newest message of the subject.
    Last,
    /// The first at this place in the stream or after.
    From(u64),
}

impl Place {
    /// Finds the stream, or makes it.
    pub(super) async fn open(link: &Link, settings: &Settings) -> Result<Self, StoreError> {
        // Another node may make it at the same moment, and it may be gone again when asked for.
        for _ in 0..5 {
            match info(link, settings).await {
                Err(Fault::Refused(refusal)) if refusal.is_no_stream() => {}
                Err(fault) => return Err(fault.harmless()),
                Ok(info) => return Self::of(link, settings, info),
            }
            if settings.most_bytes.is_some() && !link.is_at_least(2, 11) {
                return Err(super::fault::unavailable("most_bytes needs a server from 2.11 on"));
            }
            let nonce = format!("{:016x}", crate::store::resume::fresh_epoch());
            let request = settings.stream(&format!("{}.{nonce}", settings.prefix));
            match call::<Info>(link, &format!("STREAM.CREATE.{}", settings.prefix), &request, settings.patience).await {
                Ok(info) => {
                    tracing::info!(stream = settings.prefix, "made the JetStream stream");
                    return Self::of(link, settings, info);
                }
                // 10058: it is there by now.
                Err(Fault::Refused(refusal)) if refusal.err_code == 10_058 => {}
                Err(fault) => return Err(fault.harmless()),
            }
        }
        Err(super::fault::unavailable("the JetStream stream comes and goes"))
    }

    fn of(link: &Link, settings: &Settings, info: Info) -> Result<Self, StoreError> {
        let [subject] = info.config.subjects.as_slice() else { return Err(corrupt("the stream's subjects")) };
        let root = subject.strip_suffix(".>").ok_or_else(|| corrupt("the stream's subject"))?;
        let nonce = root.strip_prefix(&format!("{}.", settings.prefix)).filter(|nonce| !nonce.contains('.'));
        let nonce = nonce.and_then(|nonce| u64::from_str_radix(nonce, 16).ok());
        let nonce = nonce.ok_or_else(|| corrupt("the stream's subject"))?;
        if !info.config.allow_direct || !info.config.allow_rollup_hdrs || info.config.deny_purge {
            return Err(corrupt("a stream without direct get, rollup or purge"));
        }
        Ok(Self {
            stream: settings.prefix.clone(),
            root: root.to_owned(),
            epoch: epoch(nonce, &info.created),
            batches: link.is_at_least(2, 11),
        })
    }

    /// Where a channel's entries are.
    pub(super) fn entries(&self, channel: &Channel) -> String {
        format!("{}.c.{}", self.root, token(channel))
    }

    /// Where keys are that outlived their entries.
    pub(super) fn keys(&self, channel: &Channel) -> String {
        format!("{}.k.{}", self.root, token(channel))
    }

    pub(super) fn floor(&self) -> String {
        format!("{}.floor", self.root)
    }

    /// Who looks after what nobody uses.
    pub(super) fn lease(&self) -> String {
        format!("{}.janitor", self.root)
    }

    /// All channels' entries.
    pub(super) fn all(&self) -> String {
        format!("{}.c.>", self.root)
    }

    /// The channel of a subject of [`Place::all`].
    pub(super) fn channel(&self, subject: &str) -> Option<Channel> {
        let token = subject.strip_prefix(&self.root)?.strip_prefix(".c.")?;
        let name = URL_SAFE_NO_PAD.decode(token).ok()?;
        Channel::new(std::str::from_utf8(&name).ok()?).ok()
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.root == other.root
    }

    /// One message as it is, when there is one.
    pub(super) async fn raw(
        &self,
        link: &Link,
        subject: &str,
        which: Which,
        via: Via,
        patience: Duration,
    ) -> Result<Option<Raw>, Fault> {
        match via {
            Via::Any => {
                let (to, body) = match which {
                    Which::Last => (format!("$JS.API.DIRECT.GET.{}.{subject}", self.stream), Bytes::new()),
                    Which::From(at) => (
                        format!("$JS.API.DIRECT.GET.{}", self.stream),
                        json!({"seq": at.max(1), "next_by_subj": subject}).to_string().into(),
                    ),
                };
                Raw::direct(link.request(&to, None, body, patience).await?)
            }
            Via::Leader => {
                let body = match which {
                    Which::Last => json!({"last_by_subj": subject}),
                    Which::From(at) => json!({"seq": at.max(1), "next_by_subj": subject}),
                };
                match call::<Got>(link, &format!("STREAM.MSG.GET.{}", self.stream), &body, patience).await {
                    Ok(got) => got.message.raw().map(Some),
                    Err(Fault::Refused(refusal)) if refusal.is_no_message() => Ok(None),
                    Err(fault) => Err(fault),
                }
            }
        }
    }

    /// Up to `most` messages of the subject from this place in the stream on; fewer are not the end.
    pub(super) async fn several(
        &self,
        link: &Link,
        subject: &str,
        from: u64,
        most: Most,
        patience: Duration,
    ) -> Result<Vec<Raw>, Fault> {
        if most.messages <= 1 {
            let one = self.raw(link, subject, Which::From(from), Via::Any, patience).await?;
            return Ok(one.into_iter().collect());
        }
        if !self.batches {
            return self.pull(link, subject, from, most, patience).await;
        }
        let body =
            json!({"seq": from.max(1), "next_by_subj": subject, "batch": most.messages, "max_bytes": most.bytes});
        let (inbox, answers) = link.inbox().await?;
        link.ask(format!("$JS.API.DIRECT.GET.{}", self.stream), inbox, body.to_string().into()).await?;
        collect(link, answers, most, patience, Raw::direct).await
    }

    /// As [`Place::several`] for servers that cannot answer with a batch: by a consumer that is used once.
    async fn pull(
        &self,
        link: &Link,
        subject: &str,
        from: u64,
        most: Most,
        patience: Duration,
    ) -> Result<Vec<Raw>, Fault> {
        let config = json!({
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": from.max(1),
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subject": subject,
            "inactive_threshold": nanos(patience * 2),
            "mem_storage": true,
            "num_replicas": 1,
        });
        let body = json!({"stream_name": self.stream, "config": config});
        let made: Made = call(link, &format!("CONSUMER.CREATE.{}", self.stream), &body, patience).await?;
        let (inbox, answers) = link.inbox().await?;
        let body = json!({"batch": most.messages, "max_bytes": most.bytes, "no_wait": true});
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, made.name);
        link.ask(next, inbox, body.to_string().into()).await?;
        let several = collect(link, answers, most, patience, Raw::pulled).await;
        // Without waiting: it ends by itself soon.
        link.send(format!("$JS.API.CONSUMER.DELETE.{}.{}", self.stream, made.name).into()).await;
        several
    }

    /// Drops the subject's messages below this place in the stream.
    pub(super) async fn purge(&self, link: &Link, subject: &str, below: u64, patience: Duration) -> Result<(), Fault> {
        let body = json!({"filter": subject, "seq": below});
        call::<Value>(link, &format!("STREAM.PURGE.{}", self.stream), &body, patience).await.map(drop)
    }

    /// Drops one message.
    #[cfg(feature = "testing")]
    pub(super) async fn delete(&self, link: &Link, at: u64, patience: Duration) -> Result<(), Fault> {
        let what = format!("STREAM.MSG.DELETE.{}", self.stream);
        call::<Value>(link, &what, &json!({"seq": at, "no_erase": true}), patience).await.map(drop)
    }

    /// The subjects of all channels, a page of them from this one on, and how many there are.
    pub(super) async fn subjects(&self, link: &Link, from: usize, patience: Duration) -> Result<Subjects, Fault> {
        let body = json!({"subjects_filter": self.all(), "offset": from});
        let info = call::<Info>(link, &format!("STREAM.INFO.{}", self.stream), &body, patience).await?;
        let total = info.total;
        Ok(Subjects { subjects: info.state.subjects.unwrap_or_default().into_keys().collect(), total })
    }

    /// Has all that is new pushed to this inbox.
    pub(super) async fn follow(
        &self,
        link: &Link,
        inbox: &str,
        beat: Duration,
        patience: Duration,
    ) -> Result<(), Fault> {
        let config = json!({
            "deliver_subject": inbox,
            "deliver_policy": "new",
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": 1,
            "filter_subject": self.all(),
            "flow_control": true,
            "idle_heartbeat": nanos(beat),
            "inactive_threshold": nanos(beat * 3),
            "mem_storage": true,
            "num_replicas": 1,
        });
        let body = json!({"stream_name": self.stream, "config": config});
        call::<Value>(link, &format!("CONSUMER.CREATE.{}", self.stream), &body, patience).await.map(drop)
    }
}

/// Takes answers until there are enough, or one is the end.
async fn collect(
    link: &Link,
    mut answers: async_nats::Subscriber,
    most: Most,
    patience: Duration,
    read: impl Fn(async_nats::Message) -> Result<Option<Raw>, Fault>,
) -> Result<Vec<Raw>, Fault> {
    let mut several = Vec::new();
    while several.len() < most.messages {
        let next = std::future::poll_fn(|cx| futures_core::Stream::poll_next(std::pin::Pin::new(&mut answers), cx));
        let answer = tokio::select! {
            answer = timeout(patience, next) => answer,
            () = link.broken() => return Err(Fault::NoAnswer("the connection broke".into())),
        };
        match answer {
            Ok(Some(answer)) if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS) => {
                return Err(Fault::Nobody);
            }
            Ok(Some(answer)) => match read(answer)? {
                Some(raw) => several.push(raw),
                None => break,
            },
            Ok(None) | Err(_) => return Err(Fault::NoAnswer("a batch did not end".into())),
        }
    }
    Ok(several)
}

/// The size of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// A page of subjects.
pub(super) struct Subjects {
    pub(super) subjects: Vec<String>,
    pub(super) total: usize,
}

/// Publishes after exactly this message of the subject, and says where.
pub(super) async fn publish(
    link: &Link,
    subject: &str,
    headers: HeaderMap,
    body: Bytes,
    patience: Duration,
) -> Result<u64, Fault> {
    let answer = link.request(subject, Some(headers), body, patience).await?;
    let unreadable = Fault::Unreadable("an acknowledgement");
    match serde_json::from_slice(&answer.payload) {
        Ok(Ack { error: Some(refusal), .. }) => Err(Fault::Refused(refusal)),
        Ok(Ack { seq: Some(at), .. }) if at > 0 => Ok(at),
        _ => Err(unreadable),
    }
}

/// The headers of a message that may only come right after that one.
pub(super) fn after(at: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AFTER, at.to_string());
    headers
}

/// Fails unless the stream is still the one of `place`.
pub(super) async fn info(link: &Link, settings: &Settings) -> Result<Info, Fault> {
    call::<Info>(link, &format!("STREAM.INFO.{}", settings.prefix), &json!({}), settings.patience).await
}

async fn call<T: for<'de> Deserialize<'de>>(
    link: &Link,
    what: &str,
    body: &Value,
    patience: Duration,
) -> Result<T, Fault> {
    let answer = link.request(&format!("$JS.API.{what}"), None, body.to_string().into(), patience).await?;
    parsed(&answer.payload)
}

fn parsed<T: for<'de> Deserialize<'de>>(payload: &[u8]) -> Result<T, Fault> {
    // An answer without `error` lets the rest be read.
    if let Ok(Failed { error }) = serde_json::from_slice(payload) {
        return Err(Fault::Refused(error));
    }
    serde_json::from_slice(payload).map_err(|_| Fault::Unreadable("an answer of JetStream"))
}

/// Any name as one token of a subject, which holds neither `.`, `*`, `>` nor white space.
fn token(channel: &Channel) -> String {
    URL_SAFE_NO_PAD.encode(channel.as_str())
}

fn epoch(nonce: u64, created: &str) -> u64 {
    created.bytes().fold(nonce, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(i64::MAX as u64)
}
