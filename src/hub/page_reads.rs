//! Reads pages for readers that catch up; readers of the same history share them.

use std::sync::Arc;

use tokio::{runtime::Handle, task::yield_now};

use super::{
    advance::advance_if_needed,
    catch_up::{read_folded, read_one},
    error::ReadError,
    fold::Folding,
    read_options::ReadOptions,
    shared::Shared,
    shared_call::Completion,
    shared_page::{ReadContext, SharedPage},
    shared_read::{ReadOrigin, ReadStart, SharedRead, Sharing},
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
pub(super) fn request_page(
    shared: &Arc<Shared>,
    topic: &Arc<Topic>,
    request: PageRequest,
    options: Option<&ReadOptions>,
) -> Arc<SharedRead> {
    let PageRequest { start, limit, sharing } = request;
    // A page by time contains only some entries.
    let folding = options.filter(|_| matches!(start, Start::After(_))).and_then(ReadOptions::folding);
    // The limit of the request is that of what is left.
    let limit = if folding.is_some() { shared.options.page } else { limit };
    let (read, origin) = match start {
        Start::After(cursor) if sharing != Sharing::Nothing => {
            let start = ReadStart { folding: folding.as_ref().map(Folding::key), cursor };
            topic.shared_reads.share(start, limit, sharing, topic.generation())
        }
        _ => (Arc::new(SharedRead::new()), ReadOrigin::New),
    };
    if origin == ReadOrigin::New {
        // The version is taken before the read: the read proves nothing about a change that comes while it runs.
        let (version, generation) = (topic.version(), topic.generation());
        let context = ReadContext { start, limit, is_folded: folding.is_some(), version, generation };
        spawn_read(shared, topic, context, folding, &read);
    }
    read
}

fn spawn_read(
    shared: &Arc<Shared>,
    topic: &Arc<Topic>,
    context: ReadContext,
    folding: Option<Folding>,
    read: &Arc<SharedRead>,
) {
    let completion = Completion::new(Arc::downgrade(read));
    let Ok(runtime) = Handle::try_current() else { return completion.complete(Err(ReadError::no_runtime())) };
    let (shared, topic) = (shared.clone(), topic.clone());
    let task = runtime.spawn(async move {
        let page = read_page(&shared, &topic, context, folding).await;
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
    folding: Option<Folding>,
) -> Result<Arc<SharedPage>, ReadError> {
    let page = read_one(shared, topic.channel(), context.start, context.limit).await?;
    advance_if_needed(shared, topic.anchor(page.head), topic);
    if let Some(folding) = folding {
        let page = read_folded(shared, topic.channel(), &folding, page).await;
        // The ring is not for what was merged.
        return Ok(Arc::new(SharedPage::new(page, context)));
    }
    let page = SharedPage::new(page, context);
    // A page by time may have gaps.
    if !matches!(context.start, Start::Time(_)) {
        topic.shared_reads.note(&page);
        topic.backfill(&page);
    }
    Ok(Arc::new(page))
}
