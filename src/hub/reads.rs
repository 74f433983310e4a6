//! Reads of the store. Two budgets: what brings followed channels on, for which live readers wait, and what single readers
//! catch up. The second never delays the first.

use std::{future::Future, sync::Arc};

use tokio::{runtime::Handle, sync::Semaphore, task::yield_now, time::timeout};

use super::{
    admission::{Admission, Refused},
    error::ReadError,
    lease::Leases,
    options::HubOptions,
    recent::RecentPages,
    shared::Shared,
    shared_call::Completion,
    shared_page::{ReadContext, SharedPage},
    shared_read::{ReadOrigin, SharedRead, Sharing},
    topic::{Advance, Topic},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Limit, Page, Start, Store, StoreError},
};

#[derive(Debug)]
pub(super) struct ReadBudgets {
    catching_up: Admission,
    advancing: Semaphore,
    /// How many readers that catch up are woken before all others have had their turn.
    completions: Semaphore,
    pub(super) recent: RecentPages,
    pub(super) leases: Leases,
}

impl ReadBudgets {
    pub(super) fn new(options: &HubOptions) -> Self {
        Self {
            catching_up: Admission::new(options.reads, options.waiting_reads, options.read_queue_timeout),
            advancing: Semaphore::new(options.advancing_reads.min(Semaphore::MAX_PERMITS)),
            completions: Semaphore::new(MAX_COMPLETIONS_AT_ONCE),
            recent: RecentPages::new(options.recent_page_bytes),
            leases: Leases::default(),
        }
    }
}

/// What a reader has to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageRequest {
    pub(super) start: Start,
    pub(super) limit: Limit,
    pub(super) sharing: Sharing,
}

impl Shared {
    /// Reads on a subscriber's behalf. Resuming readers share their reads; the other starts are pinned to their own moment and
    /// never shared.
    pub(super) fn share_read(self: &Arc<Self>, topic: &Arc<Topic>, request: PageRequest) -> Arc<SharedRead> {
        let PageRequest { start, limit, sharing } = request;
        let (read, origin) = match start {
            Start::After(cursor) => topic.shared_reads.share(cursor, limit, sharing, topic.generation()),
            _ => (Arc::new(SharedRead::new()), ReadOrigin::New),
        };
        if origin == ReadOrigin::New {
            // The version comes first: a change during the read makes it one of which the read says nothing.
            let context = ReadContext { start, limit, version: topic.version(), generation: topic.generation() };
            self.spawn_read(topic, context, &read);
        }
        read
    }

    fn spawn_read(self: &Arc<Self>, topic: &Arc<Topic>, context: ReadContext, read: &Arc<SharedRead>) {
        let completion = Completion::new(Arc::downgrade(read));
        // Without a runtime the completion is dropped, which answers.
        let Ok(runtime) = Handle::try_current() else { return };
        let (shared, topic) = (self.clone(), topic.clone());
        let task = runtime.spawn(async move {
            let answer = shared.read(&topic, context).await;
            // A store that never waits answers as fast as it is asked: readers that keep up would have their turn only after
            // all that catch up.
            let permit = shared.reads.completions.acquire().await;
            if matches!(context.start, Start::After(_)) && topic.has_several_readers() {
                shared.reads.recent.keep(completion.call(), &answer);
            }
            completion.complete(answer);
            yield_now().await;
            drop(permit);
        });
        read.set_task(task.abort_handle());
    }

    async fn read(self: &Arc<Self>, topic: &Arc<Topic>, context: ReadContext) -> Result<Arc<SharedPage>, ReadError> {
        let permit = self.reads.catching_up.acquire().await;
        let permit = permit.map_err(|Refused { retry }| ReadError::Overloaded { retry })?;
        let page = self.read_page(topic.channel(), context.start, context.limit).await;
        drop(permit);
        let page = page?;
        let advance = topic.anchor(page.head);
        self.advance_if(advance, topic);
        let shared_page = SharedPage::new(page, context);
        // What a time was asked for may have gaps.
        if !matches!(context.start, Start::Time(_)) {
            topic.shared_reads.note(&shared_page);
            topic.backfill(&shared_page);
        }
        Ok(Arc::new(shared_page))
    }

    async fn read_page(&self, channel: &Channel, start: Start, limit: Limit) -> Result<Page, StoreError> {
        let page = self.in_time(self.store.read(channel, start, limit)).await;
        match &page {
            Ok(_) => self.outage.succeeded(),
            // A corrupt channel says nothing of the others.
            Err(StoreError::Corrupt(_)) => {}
            Err(error) => self.outage.failed(error),
        }
        page
    }

    /// What `call` gives, unless it takes longer than a read may.
    async fn in_time<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let called = timeout(self.options.read_timeout, call).await;
        called.unwrap_or_else(|elapsed| Err(StoreError::Unavailable(elapsed.into())))
    }

    pub(super) fn advance_if(self: &Arc<Self>, advance: Advance, topic: &Arc<Topic>) {
        if advance == Advance::NotNeeded {
            return;
        }
        // Without a runtime the topic stays stale, and the next comparison of heads brings it on: the right to read is
        // claimed only where it can be used.
        let Ok(runtime) = Handle::try_current() else { return };
        let Some(from) = topic.begin_advance() else { return };
        runtime.spawn(advance_topic(self.clone(), Advancing { topic: topic.clone(), is_released: false }, from));
    }
}

/// Reads on the ring's behalf until nothing newer was seen. A failure leaves the ring as it is: the next comparison of
/// heads tries again.
async fn advance_topic(shared: Arc<Shared>, mut advancing: Advancing, mut from: Cursor) {
    let topic = advancing.topic.clone();
    loop {
        // Never closed. Bounded by the followed channels, of which each reads once at a time.
        let permit = shared.reads.advancing.acquire().await;
        let page = shared.read_page(topic.channel(), Start::After(from), shared.options.page).await;
        drop(permit);
        match page {
            Ok(page) => topic.apply_read(&page),
            Err(error) => return topic.note_unreadable(&error.into()),
        }
        match topic.continue_advance() {
            Some(next) => from = next,
            None => return advancing.is_released = true,
        }
    }
}

/// The right to read on the ring's behalf; given back when the task ends, however it ends.
struct Advancing {
    topic: Arc<Topic>,
    /// The topic took the right back itself.
    is_released: bool,
}

impl Drop for Advancing {
    fn drop(&mut self) {
        if !self.is_released {
            self.topic.abandon_advance();
        }
    }
}

/// A page takes its reader some hundred microseconds to hand out, so that others wait for a few milliseconds.
const MAX_COMPLETIONS_AT_ONCE: usize = 8;
