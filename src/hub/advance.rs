//! Brings rings up to date: reads the store on a ring's behalf after hints were lost or came with a gap.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{
    shared::Shared,
    stats::ReadPurpose,
    topic::{Advance, Topic},
};
use crate::{cursor::Cursor, store::Start};

pub(super) fn advance_if_needed(shared: &Arc<Shared>, advance: Advance, topic: &Arc<Topic>) {
    if advance == Advance::NotNeeded {
        return;
    }
    // Claimed only where the claim can be used: without a runtime the topic stays stale until heads are compared next.
    let Ok(runtime) = Handle::try_current() else { return };
    let Some(from) = topic.begin_advance() else { return };
    runtime.spawn(advance_topic(shared.clone(), AdvanceClaim { topic: topic.clone(), is_released: false }, from));
}

/// Reads until nothing newer was seen. A failure leaves the ring as it is: the next comparison of heads tries again.
async fn advance_topic(shared: Arc<Shared>, mut claim: AdvanceClaim, mut from: Cursor) {
    let topic = claim.topic.clone();
    loop {
        // The queue is bounded by the followed channels, each of which reads once at a time.
        let permit = shared.reads.advancing.acquire().await;
        let page = shared.store_calls.read_page(
            ReadPurpose::Advance,
            topic.channel(),
            Start::After(from),
            shared.options.page,
        );
        let page = page.await;
        drop(permit);
        match page {
            Ok(page) => topic.apply_read(&page),
            Err(error) => return topic.note_unreadable(&error.into(), &shared.unreadable),
        }
        match topic.continue_advance() {
            Some(next) => from = next,
            None => return claim.is_released = true,
        }
    }
}

/// The claim to read on a ring's behalf, released however the task ends.
struct AdvanceClaim {
    topic: Arc<Topic>,
    /// The topic released it itself.
    is_released: bool,
}

impl Drop for AdvanceClaim {
    fn drop(&mut self) {
        if !self.is_released {
            self.topic.abandon_advance();
        }
    }
}
