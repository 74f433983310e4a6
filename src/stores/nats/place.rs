//! The stream as a place: its identity and its subjects. Knows no entries.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    api::{ReadFrom, Selector, Stream, call, expect_last, info, publish},
    connection::Connection,
    error::{CallError, corrupt, foreign, unavailable, unsupported_server},
    identity::{Identity, NEWEST_FORMAT},
    response::StreamInfo,
    settings::Settings,
    timing::jittered,
};
use crate::{
    channel::Channel,
    store::{Format, StoreError, floor::bucket_of},
};

/// One stream, for as long as it keeps its identity.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) stream: Stream,
    /// `<prefix>.<nonce>`: a stream that is created anew has a new nonce, so no message meant for this one reaches it.
    root: String,
    /// From the message that identifies the place: the epoch, the message's stream sequence, and the format.
    pub(super) epoch: u64,
    at: u64,
    format: Format,
    /// Limits of the stream that this crate does not set.
    pub(super) limits: Option<String>,
}

impl Place {
    /// Finds the stream or creates it. If it is missing, waits `delay` first, because a deletion may be in progress.
    pub(super) async fn open(
        connection: &Connection,
        settings: &Settings,
        mut delay: Option<Duration>,
    ) -> Result<Self, StoreError> {
        // Another node may create it at the same moment, and it may be deleted again before the next request.
        for _ in 0..5 {
            match info(connection, settings).await {
                Err(CallError::Refused(api_error)) if api_error.is_no_stream() => {}
                Err(error) => return Err(error.into_store_error()),
                Ok(info) => return Self::of(connection, settings, info).await,
            }
            if let Some(delay) = delay.take() {
                tokio::time::sleep(jittered(delay)).await;
                continue;
            }
            if settings.max_bytes.is_some() && !connection.is_at_least(2, 11) {
                return Err(unsupported_server("the option `max_bytes` needs server 2.11 or newer"));
            }
            let nonce = format!("{:016x}", crate::store::resume::fresh_epoch());
            let request = settings.stream(&format!("{}.{nonce}", settings.prefix));
            match call::<StreamInfo>(
                connection,
                &format!("STREAM.CREATE.{}", settings.prefix),
                &request,
                settings.request_timeout,
            )
            .await
            {
                Ok(info) => {
                    tracing::info!(stream = settings.prefix, "created the JetStream stream");
                    return Self::of(connection, settings, info).await;
                }
                // 10058: the stream name is in use, so another node created it.
                Err(CallError::Refused(api_error)) if api_error.err_code == 10_058 => {}
                Err(error) => return Err(error.into_store_error()),
            }
        }
        Err(unavailable("the JetStream stream keeps appearing and disappearing"))
    }

    async fn of(connection: &Connection, settings: &Settings, info: StreamInfo) -> Result<Self, StoreError> {
        let [subject] = info.config.subjects.as_slice() else { return Err(foreign("the number of its subjects")) };
        let root = subject.strip_suffix(".>").ok_or_else(|| foreign("its subject"))?;
        let nonce = root.strip_prefix(&format!("{}.", settings.prefix)).filter(|nonce| !nonce.contains('.'));
        let nonce = nonce.and_then(|nonce| u64::from_str_radix(nonce, 16).ok());
        nonce.ok_or_else(|| foreign("its subject"))?;
        if !info.config.allow_direct || !info.config.allow_rollup_hdrs || info.config.deny_purge {
            return Err(foreign("the lack of direct get, rollup or purge"));
        }
        let mut place = Self {
            stream: Stream { name: settings.prefix.clone(), batches: connection.is_at_least(2, 11) },
            root: root.to_owned(),
            epoch: 0,
            at: 0,
            format: Format::new(NEWEST_FORMAT),
            limits: info.config.limits(),
        };
        let (at, identity) = place.identify(connection, settings.request_timeout).await?;
        (place.at, place.epoch, place.format) = (at, identity.epoch, identity.format);
        Ok(place)
    }

    /// Reads the message that identifies the place. If it is missing, writes a new one: then this is another place than
    /// before.
    async fn identify(
        &self,
        connection: &Connection,
        request_timeout: Duration,
    ) -> Result<(u64, Identity), StoreError> {
        for _ in 0..5 {
            let (at, wanted) = match self.identity(connection, request_timeout).await? {
                None => (0, Identity::fresh()),
                Some((at, stored)) => match stored.raised()? {
                    None => return Ok((at, stored)),
                    Some(raised) => (at, raised),
                },
            };
            let mut headers = expect_last(at);
            headers.insert("Nats-Rollup", "sub");
            match publish(connection, &self.subject("place"), headers, wanted.to_string().into(), request_timeout).await
            {
                Ok(at) => return Ok((at, wanted)),
                // Another node was faster.
                Err(CallError::Refused(api_error)) if api_error.is_conflict() => {}
                Err(error) => return Err(error.into_store_error()),
            }
        }
        Err(unavailable("the stream's identity keeps appearing and disappearing"))
    }

    async fn identity(
        &self,
        connection: &Connection,
        request_timeout: Duration,
    ) -> Result<Option<(u64, Identity)>, StoreError> {
        let raw = self
            .stream
            .message(connection, &self.subject("place"), Selector::Last, ReadFrom::Leader, request_timeout)
            .await;
        let Some(raw) = raw.map_err(CallError::into_store_error)? else { return Ok(None) };
        let identity = std::str::from_utf8(&raw.body).ok().and_then(Identity::parse);
        Ok(Some((raw.at, identity.ok_or_else(|| corrupt("the stream's identity"))?)))
    }

    /// Whether this is still the same place, and has been since it was found. Its format may have been upgraded.
    pub(super) async fn is_same(&self, connection: &Connection, request_timeout: Duration) -> Result<bool, StoreError> {
        Ok(self.has_identity(self.identity(connection, request_timeout).await?))
    }

    fn has_identity(&self, stored: Option<(u64, Identity)>) -> bool {
        // The message was read below this place's root, so only its epoch can differ.
        stored.is_some_and(|(_, identity)| identity.epoch == self.epoch)
    }

    /// Whether this is still the same place with the same format.
    pub(super) async fn is_same_and_unchanged(
        &self,
        connection: &Connection,
        request_timeout: Duration,
    ) -> Result<bool, StoreError> {
        let stored = self.identity(connection, request_timeout).await?;
        Ok(stored.is_some_and(|(at, _)| at == self.at) && self.has_identity(stored))
    }

    /// Fails when this version must not write here.
    pub(super) fn may_write(&self) -> Result<(), StoreError> {
        self.format.may_write(NEWEST_FORMAT)
    }

    /// The subject of a channel's entries.
    pub(super) fn entries(&self, channel: &Channel) -> String {
        format!("{}.c.{}", self.root, token(channel))
    }

    /// The subject of a channel's keys that outlived their entries.
    pub(super) fn keys(&self, channel: &Channel) -> String {
        format!("{}.k.{}", self.root, token(channel))
    }

    /// The subject of a channel's announcement, which reveals a lost log.
    pub(super) fn announcement(&self, channel: &Channel) -> String {
        format!("{}.b.{}", self.root, token(channel))
    }

    /// The filter for all announcements.
    pub(super) fn announcements(&self) -> String {
        format!("{}.b.*", self.root)
    }

    /// The channel of a subject that matches [`Place::announcements`].
    pub(super) fn announced_channel(&self, subject: &str) -> Option<Channel> {
        channel_of(subject.strip_prefix(&self.root)?.strip_prefix(".b.")?)
    }

    pub(super) fn floor(&self, bucket: u16) -> String {
        format!("{}.f.{bucket}", self.root)
    }

    pub(super) fn floors(&self) -> String {
        format!("{}.f.*", self.root)
    }

    /// The bucket of a subject that matches [`Place::floors`].
    pub(super) fn bucket(&self, subject: &str) -> Option<u16> {
        subject.strip_prefix(&self.root)?.strip_prefix(".f.")?.parse().ok()
    }

    /// The bucket of a channel's floor.
    pub(super) fn floor_of(channel: &Channel) -> u16 {
        bucket_of(channel)
    }

    /// The subject of a message that exists once per place.
    pub(super) fn subject(&self, name: &str) -> String {
        format!("{}.{name}", self.root)
    }

    /// The filter for all channels' entries.
    pub(super) fn all(&self) -> String {
        format!("{}.c.>", self.root)
    }

    /// The channel of a subject that matches [`Place::all`].
    pub(super) fn channel(&self, subject: &str) -> Option<Channel> {
        channel_of(subject.strip_prefix(&self.root)?.strip_prefix(".c.")?)
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.root == other.root
    }

    /// Whether the format and the limits are the same as well.
    pub(super) fn is_unchanged(&self, other: &Self) -> bool {
        self.is(other) && self.at == other.at && self.limits == other.limits
    }
}

/// Encodes a name as one token of a subject, which excludes `.`, `*`, `>` and white space.
pub(super) fn token(channel: &Channel) -> String {
    URL_SAFE_NO_PAD.encode(channel.as_str())
}

/// Parses what [`token`] wrote.
pub(super) fn channel_of(token: &str) -> Option<Channel> {
    let name = URL_SAFE_NO_PAD.decode(token).ok()?;
    Channel::new(std::str::from_utf8(&name).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_keeps_its_identity_when_its_format_is_upgraded_but_not_with_another_epoch() {
        let identity = Identity::fresh();
        let place = Place {
            stream: Stream { name: "events".into(), batches: false },
            root: "events.1".into(),
            epoch: identity.epoch,
            at: 5,
            format: identity.format,
            limits: None,
        };
        assert!(place.has_identity(Some((5, identity))) && place.has_identity(Some((9, identity))));
        let other = Identity { epoch: identity.epoch ^ 1, ..identity };
        assert!(!place.has_identity(Some((5, other))) && !place.has_identity(None));
    }
}
