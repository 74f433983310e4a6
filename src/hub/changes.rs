//! Applies changes of channels to the followed ones: those that the store hints at, and those that this process made.

use std::sync::Arc;

use super::{advance::advance_if_needed, revocations_channel::is_revocations, shared::Shared};
use crate::{
    channel::Channel,
    store::{Appended, Change, Head, StoreError},
};

/// A hint may be outdated, and may repeat an append of this process: the ring ignores entries that it holds.
pub(super) fn apply_hint(shared: &Arc<Shared>, hint: Change) {
    if concerns_revocations(&hint) {
        shared.subjects.hint.notify_one();
    }
    match hint {
        Change::Resync => shared.recheck.notify_one(),
        Change::Head(channel, head) => {
            if let Some(topic) = shared.topic(&channel) {
                advance_if_needed(shared, topic.hint_head(head), &topic);
            }
        }
        Change::Entries(entries) => {
            if let Some(topic) = entries.first().and_then(|entry| shared.topic(&entry.channel)) {
                advance_if_needed(shared, topic.feed(&entries, None), &topic);
            }
        }
    }
}

fn concerns_revocations(hint: &Change) -> bool {
    match hint {
        Change::Resync => true,
        Change::Head(channel, _) => is_revocations(channel),
        Change::Entries(entries) => entries.first().is_some_and(|entry| is_revocations(&entry.channel)),
    }
}

/// This process tried to append.
pub(super) fn append_finished(shared: &Arc<Shared>, channel: &Channel, result: &Result<Appended, StoreError>) {
    shared.counters.append_finished(result);
    match result {
        Ok(appended) => {
            shared.append_outage.succeeded();
            if let Some(topic) = shared.topic(channel) {
                advance_if_needed(shared, topic.feed(&appended.entries, Some(appended.head)), &topic);
            }
        }
        Err(error) if error.is_retryable() => shared.append_outage.failed(error),
        // An error that the append itself caused says nothing about the store.
        Err(_) => {}
    }
}

/// This process replaced the channel's history, or deleted it: then there is no head.
pub(super) fn replaced(shared: &Arc<Shared>, channel: &Channel, head: Option<Head>) {
    if let Some(topic) = shared.topic(channel) {
        let advance = head.map_or_else(|| topic.invalidate(), |head| topic.confirm_head(head));
        advance_if_needed(shared, advance, &topic);
    }
}
