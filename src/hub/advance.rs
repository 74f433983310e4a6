//! Brings rings up to date: reads the store on a ring's behalf after hints were lost or came with a gap.

use std::sync::Arc;

use tokio::{runtime::Handle, task::yield_now};

use super::{
    shared::Shared,
    stats::ReadPurpose,
    topic::{Advance, Topic},
};
use crate::store::Start;

pub(super) fn advance_if_needed(shared: &Arc<Shared>, advance: Advance, topic: &Arc<Topic>) {
    if advance == Advance::NotNeeded {
        return;
    }
    // Claimed only where the claim can be used: without a runtime the ring misses it until heads are compared next.
    let Ok(runtime) = Handle::try_current() else { return };
    if topic.claim_advance() == Advance::Needed {
        runtime.spawn(advance_topic(shared.clone(), AdvanceClaim { topic: topic.clone(), is_released: false }));
    }
}

/// Reads until nothing is missing. A failure leaves the ring as it is: the next comparison of heads tries again.
async fn advance_topic(shared: Arc<Shared>, mut claim: AdvanceClaim) {
    let topic = claim.topic.clone();
    // What is missing may be on its way: appends of this process that were committed together are answered in any order.
    yield_now().await;
    while let Some(from) = topic.next_advance() {
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
    }
    claim.is_released = true;
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
