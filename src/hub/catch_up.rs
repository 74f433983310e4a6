//! Reads of the store for readers that catch up: one page, or all up to the head folded into one.

use tokio::{
    task::yield_now,
    time::{Duration, Instant, timeout_at},
};

use super::{
    admission::Refused,
    error::ReadError,
    fold::{Fold, Folding},
    shared::Shared,
    stats::ReadPurpose,
};
use crate::{
    channel::Channel,
    store::{Limit, Page, Start},
};

/// Reads a page once it is its turn.
pub(super) async fn read_one(
    shared: &Shared,
    channel: &Channel,
    start: Start,
    limit: Limit,
) -> Result<Page, ReadError> {
    let permit = shared.reads.catching_up.acquire().await;
    let _permit = permit.map_err(|Refused { by, retry }| {
        shared.counters.refused(by);
        ReadError::Overloaded { retry }
    })?;
    let page = shared.store_calls.read_page(ReadPurpose::CatchUp, channel, start, limit).await?;
    if limit != Limit::POSITION {
        shared.counters.caught_up_by_a_page();
    }
    Ok(page)
}

/// Reads what follows `first` up to its head, and folds it all. Each page is read in its turn, as if a reader had asked for it.
pub(super) async fn read_folded(shared: &Shared, channel: &Channel, folding: &Folding, first: Page) -> Page {
    let deadline = Instant::now() + MAX_TIME;
    let mut fold = Fold::new(folding, first);
    while let Some(limit) = fold.wanted(shared.options.page) {
        // A store that answers without waiting would keep other tasks from running.
        yield_now().await;
        if Instant::now() >= deadline {
            break;
        }
        match timeout_at(deadline, read_one(shared, channel, Start::After(fold.next()), limit)).await {
            Ok(Ok(page)) => fold.add(page),
            // What was read before is delivered; the next read meets the failure.
            Ok(Err(_)) | Err(_) => break,
        }
    }
    fold.into_page()
}

/// How long the reader of a slow store waits for pages after the first: it can have what was read by then.
const MAX_TIME: Duration = Duration::from_secs(1);
