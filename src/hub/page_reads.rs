//! Reads pages for readers that catch up; readers of the same history share them.

use std::sync::Arc;

use tokio::{runtime::Handle, task::yield_now};

use super::{
    admission::Refused,
    advance::advance_if_needed,
    error::ReadError,
    shared::Shared,
    shared_call::Completion,
    shared_page::{ReadContext, SharedPage},
    shared_read::{ReadOrigin, SharedRead, Sharing},
    stats::ReadPurpose,
    topic::Topic,
};
use crate::store::{Limit, Start};

/// The page that a reader needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageRequest {
    pub(super) start: Start,
    pub(super) limit: Limit,
    pub(super) sharing: Sharing,
}

/// Joins a read that yields the requested page, or begins one. Only reads after a cursor are shared: every other start
/// means the moment of its own request.
pub(super) fn request_page(shared: &Arc<Shared>, topic: &Arc<Topic>, request: PageRequest) -> Arc<SharedRead> {
    let PageRequest { start, limit, sharing } = request;
    let (read, origin) = match start {
        Start::After(cursor) => topic.shared_reads.share(cursor, limit, sharing, topic.generation()),
        _ => (Arc::new(SharedRead::new()), ReadOrigin::New),
    };
    if origin == ReadOrigin::New {
        // The version is taken before the read: the read proves nothing about a change that comes while it runs.
        let context = ReadContext { start, limit, version: topic.version(), generation: topic.generation() };
        spawn_read(shared, topic, context, &read);
    }
    read
}

fn spawn_read(shared: &Arc<Shared>, topic: &Arc<Topic>, context: ReadContext, read: &Arc<SharedRead>) {
    let completion = Completion::new(Arc::downgrade(read));
    let Ok(runtime) = Handle::try_current() else { return completion.complete(Err(ReadError::no_runtime())) };
    let (shared, topic) = (shared.clone(), topic.clone());
    let task = runtime.spawn(async move {
        let page = read_page(&shared, &topic, context).await;
        // A store that answers without waiting would complete reads as fast as they are requested: readers that keep up
        // would run only after all that catch up.
        let permit = shared.reads.completions.acquire().await;
        if matches!(context.start, Start::After(_)) && topic.has_several_readers() {
            shared.reads.recent.keep(completion.call(), &page);
        }
        completion.complete(page);
        yield_now().await;
        drop(permit);
    });
    read.set_task(task.abort_handle());
}

async fn read_page(
    shared: &Arc<Shared>,
    topic: &Arc<Topic>,
    context: ReadContext,
) -> Result<Arc<SharedPage>, ReadError> {
    let permit = shared.reads.catching_up.acquire().await;
    let permit = permit.map_err(|Refused { by, retry }| {
        shared.counters.refused(by);
        ReadError::Overloaded { retry }
    })?;
    let ReadContext { start, limit, .. } = context;
    let page = shared.store_calls.read_page(ReadPurpose::CatchUp, topic.channel(), start, limit).await;
    drop(permit);
    let page = page?;
    if limit != Limit::POSITION {
        shared.counters.caught_up_by_a_page();
    }
    advance_if_needed(shared, topic.anchor(page.head), topic);
    let page = SharedPage::new(page, context);
    // A page by time may have gaps.
    if !matches!(context.start, Start::Time(_)) {
        topic.shared_reads.note(&page);
        topic.backfill(&page);
    }
    Ok(Arc::new(page))
}
