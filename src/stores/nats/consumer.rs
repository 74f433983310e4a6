//! The consumer of all new messages, one per process, which feeds all watchers. Whatever it may have missed becomes a
//! `Resync`.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use async_nats::{Message, StatusCode, Subscriber};
use futures_core::Stream;
use tokio::time::{sleep, timeout};

use super::{
    error::CallError,
    place::Place,
    record::Kind,
    response::{RawMessage, position},
    shared::Inner,
    timing::jittered,
};
use crate::{store::Change, stores::outage_log::Part};

/// Runs while anyone watches.
pub(super) async fn run(inner: Weak<Inner>) {
    let mut pause = MIN_PAUSE;
    loop {
        let Some(inner) = inner.upgrade().filter(|inner| inner.consumer.must_continue()) else { return };
        match follow(&inner).await {
            // It had been working, so the next attempt follows soon.
            Ok(()) => pause = MIN_PAUSE,
            Err(error) => {
                if inner.connection.outages.failed(Part::Changes) {
                    tracing::warn!(%error, "cannot follow the JetStream stream");
                }
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
        inner.consumer.watchers.disarm();
        drop(inner);
        sleep(jittered(pause)).await;
    }
}

/// Follows the stream until something may have been missed.
async fn follow(inner: &Arc<Inner>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let place = inner.place().await?;
    let (inbox, mut messages) = inner.connection.inbox().await?;
    if let Err(error) = place
        .stream
        .push_new_to(&inner.connection, &place.all(), &inbox, HEARTBEAT, inner.settings.request_timeout)
        .await
    {
        inner.invalidate_place();
        return Err(Box::new(error));
    }
    inner.consumer.watchers.arm();
    if inner.connection.outages.recovered(Part::Changes) {
        tracing::info!("following the JetStream stream again");
    }
    let mut delivered = 0;
    loop {
        let next = tokio::select! {
            next = timeout(HEARTBEAT * 5 / 2, next(&mut messages)) => next,
            () = inner.connection.broken() => return Ok(()),
        };
        let Ok(Some(message)) = next else {
            inner.invalidate_place();
            return Ok(());
        };
        if !inner.consumer.must_continue() || !handle(inner, &place, message, &mut delivered).await? {
            return Ok(());
        }
    }
}

/// Handles one message; returns whether it follows the previous one.
async fn handle(inner: &Inner, place: &Place, message: Message, delivered: &mut u64) -> Result<bool, CallError> {
    if message.status == Some(StatusCode::IDLE_HEARTBEAT) {
        return Ok(on_heartbeat(inner, message, *delivered).await);
    }
    let position = message.reply.as_deref().and_then(position);
    let (at, nth) = position.ok_or(CallError::Malformed("a consumer's message"))?;
    if nth != *delivered + 1 {
        return Ok(false);
    }
    *delivered = nth;
    deliver_hint(inner, place, &message, at);
    Ok(true)
}

/// A heartbeat tells how far the consumer has come, or requests an answer before it continues.
async fn on_heartbeat(inner: &Inner, message: Message, delivered: u64) -> bool {
    if let Some(reply) = message.reply {
        inner.connection.send(reply).await;
        return true;
    }
    let header = |name: &str| message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
    if let Some(stalled) = header("Nats-Consumer-Stalled") {
        inner.connection.send(stalled.into()).await;
    }
    header("Nats-Last-Consumer").is_none_or(|last| last.parse() == Ok(delivered))
}

fn deliver_hint(inner: &Inner, place: &Place, message: &Message, at: u64) {
    let Some(channel) = place.channel(&message.subject) else { return };
    // If it is unreadable now it stays so, and a read will report that.
    let Ok(message) = RawMessage::delivered(message, at).message() else { return };
    inner.note_seen(&channel, at);
    let record = message.record;
    match record.kind {
        Kind::Gone | Kind::Init => inner.consumer.watchers.notify(|| Change::Head(channel.clone(), record.head())),
        Kind::Append => {
            if let Ok(entries) = message.entries(&channel)
                && !entries.is_empty()
            {
                inner.consumer.watchers.notify(|| Change::Entries(entries.clone()));
            }
            if record.closed || record.count == 0 {
                inner.consumer.watchers.notify(|| Change::Head(channel.clone(), record.head()));
            }
        }
    }
}

async fn next(messages: &mut Subscriber) -> Option<Message> {
    poll_fn(|cx| Pin::new(&mut *messages).poll_next(cx)).await
}

/// How often the consumer sends a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(2);

const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(2);
