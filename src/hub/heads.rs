//! Answers requests for heads together: one call decides every start at a head, and every return to one, for all readers
//! that asked before it began.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::{
    advance::advance_if_needed,
    error::ReadError,
    head_requests::{Enqueued, HeadRequest},
    shared::Shared,
    stats::RefusedBy,
};
use crate::channel::Channel;

/// Requests the channel's head, from a call that begins after this.
pub(super) fn request_head(shared: &Arc<Shared>, channel: &Channel) -> Arc<HeadRequest> {
    let Ok(runtime) = Handle::try_current() else {
        return Arc::new(HeadRequest::failed(ReadError::no_runtime()));
    };
    match shared.head_requests.enqueue(channel) {
        Enqueued::Waiting(request) => request,
        Enqueued::TaskNeeded(request) => {
            runtime.spawn(answer_requests(CountedTask(Some(shared.clone()))));
            request
        }
        Enqueued::Full => {
            shared.counters.refused(RefusedBy::WaitingHeads);
            let retry = Duration::from_secs(1 + fastrand::u64(..4));
            Arc::new(HeadRequest::failed(ReadError::Overloaded { retry }))
        }
    }
}

/// Makes calls until no request is left.
async fn answer_requests(mut task: CountedTask) {
    let Some(shared) = task.0.clone() else { return };
    while let Some(requests) = shared.head_requests.take() {
        let (channels, requests): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        let heads = shared.store_calls.each_head(&channels).await;
        for ((channel, request), head) in channels.iter().zip(requests).zip(heads) {
            if let (Ok(head), Some(topic)) = (&head, shared.topic(channel)) {
                advance_if_needed(&shared, topic.anchor(*head), &topic);
            }
            request.complete(head);
        }
    }
    task.0 = None;
}

/// A task that counts as running until it finds no request; if it ends before that, dropping this stops counting it.
struct CountedTask(Option<Arc<Shared>>);

impl Drop for CountedTask {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.head_requests.abandon();
        }
    }
}
