//! The janitor: one node at a time looks through all channels, and has those maintained that are due. Readers have
//! stopped seeing what is deleted long before.

use std::{
    collections::HashMap,
    error::Error as _,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::{JoinError, JoinSet},
    time::Instant,
};

use super::{
    api::{self, ReadFrom, Selector},
    error::CallError,
    record::Kind,
    response::RawMessage,
    scan::Scan,
    shared::Inner,
    timing::jittered,
};
use crate::{
    channel::Channel,
    store::{StoreError, log_pace::ChannelLog},
};

impl Inner {
    /// Maintains all channels that are due. A channel that fails does not hold up the others.
    async fn sweep(self: &Arc<Self>, notes: &mut Notes) -> Result<(), StoreError> {
        let place = self.place().await?;
        self.recent_keep(&place).await?;
        let mut scan = Scan::of_channels(self, Arc::clone(&place)).await?;
        notes.begin();
        loop {
            let page = scan.next().await?;
            if page.is_empty() {
                return Ok(());
            }
            let now = self.clock.now();
            let named = page.into_iter().filter_map(|(subject, raw)| Some((place.channel(&subject)?, raw)));
            let due: Vec<_> = named.filter(|(channel, raw)| self.is_due(channel, raw, now, notes)).collect();
            let mut running = JoinSet::new();
            for (channel, raw) in due {
                if running.len() >= MAX_CONCURRENT
                    && let Some(done) = running.join_next().await
                {
                    notes.take(done, &self.damaged);
                }
                let inner = Arc::clone(self);
                running.spawn(async move {
                    let done = inner.maintain(&channel).await;
                    (channel, raw.at, done)
                });
            }
            while let Some(done) = running.join_next().await {
                notes.take(done, &self.damaged);
            }
        }
    }

    /// Whether the channel may need maintenance, judging by its newest message. An unreadable one does.
    fn is_due(&self, channel: &Channel, raw: &RawMessage, now: u64, notes: &Notes) -> bool {
        if notes.is_skipped(channel) {
            return false;
        }
        let Ok((record, after)) = raw.header() else { return true };
        let keep = self.last_keep();
        if record.kind == Kind::Gone || keep.is_forgotten(&record, now) {
            return true;
        }
        // A single message is the record, so there is nothing to trim; keys are copied when their messages are deleted.
        let is_alone = record.kind != Kind::Append || record.base == record.start || after == Some(0);
        !is_alone && !notes.is_quiet(channel, raw.at, now)
    }

    /// Whether this process maintains idle channels for the next period: the first node to write does.
    async fn takes_turn(&self, period: Duration) -> Result<bool, StoreError> {
        let place = self.place().await?;
        let (subject, request_timeout) = (place.subject("janitor"), self.settings.request_timeout);
        let last = place
            .stream
            .message(&self.connection, &subject, Selector::Last, ReadFrom::Leader, request_timeout)
            .await
            .map_err(CallError::into_store_error)?;
        let now = self.clock.now();
        let stamp = |body: &[u8]| std::str::from_utf8(body).ok()?.parse::<u64>().ok();
        let since = last.as_ref().and_then(|last| stamp(&last.body)).unwrap_or(0);
        let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX) / 2;
        // A time in the future was written by a wrong clock.
        if (since..since.saturating_add(period)).contains(&now) {
            return Ok(false);
        }
        let mut headers = api::expect_last(last.map_or(0, |last| last.at));
        headers.insert("Nats-Rollup", "sub");
        match api::publish(&self.connection, &subject, headers, Bytes::from(now.to_string()), request_timeout).await {
            Ok(_) => Ok(true),
            Err(CallError::Refused(api_error)) if api_error.is_conflict() => Ok(false),
            // Deleting needs no room: every node does it then, because none can claim the turn.
            Err(CallError::Refused(api_error)) if api_error.is_full() => Ok(true),
            Err(error) => Err(error.into_store_error()),
        }
    }
}

/// What earlier sweeps found.
#[derive(Default)]
struct Notes {
    /// Channels that failed to be maintained: when last, and how often. They are retried later.
    failed: HashMap<Channel, (Instant, u32)>,
    /// Channels without work while their newest message is at this sequence, and until this time.
    quiet: HashMap<Channel, (u64, u64)>,
}

impl Notes {
    /// Drops old notes at the start of a sweep.
    fn begin(&mut self) {
        self.failed.retain(|_, (then, _)| then.elapsed() < MAX_SKIP * 2);
        if self.quiet.len() >= MAX_NOTES {
            self.quiet.clear();
        }
    }

    fn is_skipped(&self, channel: &Channel) -> bool {
        self.failed.get(channel).is_some_and(|(then, times)| then.elapsed() < skip_for(*times))
    }

    fn is_quiet(&self, channel: &Channel, at: u64, now: u64) -> bool {
        self.quiet.get(channel).is_some_and(|(seen, until)| *seen == at && now <= *until)
    }

    fn take(&mut self, done: Result<(Channel, u64, Result<u64, StoreError>), JoinError>, log: &ChannelLog) {
        let Ok((channel, at, done)) = done else { return };
        match done {
            Ok(until) => {
                self.failed.remove(&channel);
                if until > 0 && self.quiet.len() < MAX_NOTES {
                    self.quiet.insert(channel, (at, until));
                } else {
                    self.quiet.remove(&channel);
                }
            }
            Err(error) => self.record_failure(channel, &error, log),
        }
    }

    fn record_failure(&mut self, channel: Channel, error: &StoreError, log: &ChannelLog) {
        // A server that is away fails for every channel, which is not logged for each.
        if !error.is_retryable() && log.is_due(channel.as_str()) {
            let (channel, source) = (channel.as_str(), error.source());
            tracing::warn!(%error, source, channel, "maintenance of a channel failed; it is skipped for a while");
        }
        if let Some((then, times)) = self.failed.get_mut(&channel) {
            (*then, *times) = (Instant::now(), times.saturating_add(1));
        } else if self.failed.len() < MAX_NOTES {
            self.failed.insert(channel, (Instant::now(), 1));
        }
    }
}

/// How long a channel is skipped after that many failures: doubles, starting at one second.
fn skip_for(times: u32) -> Duration {
    Duration::from_secs(1 << times.min(10)).min(MAX_SKIP)
}

/// Runs while the store exists.
pub(super) async fn run(inner: Weak<Inner>, period: Duration) {
    let mut notes = Notes::default();
    loop {
        tokio::time::sleep(jittered(period)).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.states.forget_idle(IDLE_AFTER);
        inner.forget_listing();
        let swept = match inner.takes_turn(period).await {
            Ok(true) => inner.sweep(&mut notes).await,
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        inner.refresh_time().await;
        match &swept {
            Ok(()) if notes.failed.is_empty() => inner.upkeep.janitor_is_done(),
            _ => inner.upkeep.janitor_is_behind(),
        }
        if let Err(error) = swept {
            tracing::debug!(%error, "cannot maintain idle channels");
        }
    }
}

/// How long the state of a channel is remembered after the last append.
const IDLE_AFTER: Duration = Duration::from_secs(60);

/// How many channels are maintained concurrently.
const MAX_CONCURRENT: usize = 32;

/// Most channels with a note; the others are checked by every sweep.
const MAX_NOTES: usize = 65_536;

const MAX_SKIP: Duration = Duration::from_secs(600);
