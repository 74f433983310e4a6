//! Follows the revocations in the store, and makes sure in every interval that none is missing. Hints hasten it; only reads
//! count, and only those that began after a revocation was recorded are certain to have it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use super::{
    follower_tasks::restart_after_panics,
    revocations_channel::revocations_channel,
    shared::Shared,
    stats::ReadPurpose,
    subjects::{ReadFromStart, Subjects},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::Event,
    store::{Append, Expect, Limit, Outcome, Page, Start, Store as _, StoreError},
};

/// Waits until it is certain that no revocation is missing.
///
/// # Errors
/// When it takes longer than the interval.
pub(super) async fn follow(shared: Arc<Shared>) -> Result<(), StoreError> {
    let runtime = Handle::try_current().map_err(|source| StoreError::Unavailable(source.into()))?;
    let (subjects, weak) = (shared.subjects.clone(), Arc::downgrade(&shared));
    let run = move || run(weak.clone(), subjects.clone());
    shared.subjects.ensure_follower(|| runtime.spawn(restart_after_panics(run)));
    let deadline = Instant::now() + shared.subjects.interval();
    loop {
        // Created before the check: from then on it misses no notification.
        let certain = shared.subjects.became_certain.notified();
        if shared.subjects.is_certain() {
            return Ok(());
        }
        timeout_at(deadline, certain).await.map_err(|elapsed| StoreError::Unavailable(elapsed.into()))?;
    }
}

/// Holds the hub only while it reads, so that dropping its last handle and reader ends this.
async fn run(shared: Weak<Shared>, subjects: Arc<Subjects>) {
    let Ok(channel) = revocations_channel() else { return };
    let mut position = None;
    loop {
        if subjects.is_unused_for(LINGER) {
            return;
        }
        let Some(hub) = shared.upgrade() else { return };
        let until = subjects.certain_until().unwrap_or_else(|| Instant::now() + subjects.interval());
        // A store that hangs must not delay the end of the readers.
        let refreshed = timeout_at(until, refresh(&hub, &channel, &mut position)).await;
        drop(hub);
        if subjects.certain_until().is_some_and(|until| until <= Instant::now()) {
            tracing::warn!("revocations cannot be read in time: readers with a subject end");
            subjects.lapse();
        }
        let pause = subjects.interval() / if matches!(refreshed, Ok(Ok(()))) { 4 } else { 16 };
        let next = Instant::now() + pause.mul_f64(1.0 - fastrand::f64() / 4.0);
        let next = subjects.certain_until().map_or(next, |until| next.min(until));
        // Early when something may have been revoked.
        _ = timeout_at(next, subjects.hint.notified()).await;
    }
}

/// Reads what is new. When it succeeds, everything is known that was recorded before it began.
async fn refresh(hub: &Shared, channel: &Channel, position: &mut Option<Cursor>) -> Result<(), StoreError> {
    let began = Instant::now();
    let heads = hub.store_calls.each_head(std::slice::from_ref(channel)).await;
    let head = heads.into_iter().next().unwrap_or_else(|| Err(StoreError::Corrupt("no head".into()).into()))?.cursor;
    let mut read = ReadFromStart::default();
    let mut from_start = position.is_none();
    while *position != Some(head) {
        let start = position.map_or(Start::Earliest, Start::After);
        let page = hub.store_calls.read_page(ReadPurpose::Advance, channel, start, PAGE).await?;
        if page.outcome != Outcome::Continued && position.is_some() {
            tracing::warn!(outcome = ?page.outcome, "revocations may have been lost: readers with a subject end");
            hub.subjects.lapse();
            (*position, from_start, read) = (None, true, ReadFromStart::default());
            continue;
        }
        if position.is_none() {
            read.any_dropped = page.from.tag != 0;
        }
        take(hub, &page, &mut read);
        *position = Some(page.next);
        // A replica that is behind does not count; what was appended after the head was read does no harm.
        if page.next.epoch == head.epoch && page.next.seq >= head.seq {
            break;
        }
        if page.entries.is_empty() {
            return Err(StoreError::Unavailable("a read ended before the head".into()));
        }
    }
    if from_start {
        hub.subjects.read_all(read, &hub.store.retention());
        if head.tag == 0 {
            make_record(hub, channel).await;
        }
    }
    hub.subjects.confirm(began);
    Ok(())
}

fn take(hub: &Shared, page: &Page, read: &mut ReadFromStart) {
    let kept_for = hub.store.retention().age;
    for entry in &page.entries {
        read.oldest.get_or_insert(entry.appended);
        read.entries += 1;
        read.bytes += u64::try_from(entry.size()).unwrap_or(u64::MAX);
        hub.subjects.revoked(entry, kept_for);
    }
}

/// Makes the channel exist: the position of one that does not is reset whenever another channel of its bucket is forgotten.
/// Whether it succeeds does not matter for what is known.
async fn make_record(hub: &Shared, channel: &Channel) {
    if let Ok(marker) = Event::json(&()) {
        _ = hub.store.append(channel, Append::new([marker]).expecting(Expect::NeverUsed)).await;
    }
}

const PAGE: Limit = Limit::new(1_000, 1 << 20);

/// How long revocations are followed after the last reader with a subject left.
const LINGER: Duration = Duration::from_secs(30);
