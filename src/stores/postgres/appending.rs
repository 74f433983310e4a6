//! Appends through the queue of their channel: one call at a time per channel and process. Knows no SQL.

use std::{collections::VecDeque, sync::Arc};

use tokio::{sync::oneshot, time::Instant};

use super::{
    append_queues::{MAX_WAITING, MAX_WAITING_BYTES, WaitingAppend},
    error::CallError,
    shared::Inner,
    write,
    written::{self, Written},
};
use crate::{
    channel::Channel,
    store::{Append, Appended, Expect, StoreError, kit::entry_size},
};

/// Appends through the channel's queue. If the future is dropped, the append is still applied as a whole or not at all.
pub(super) async fn append(inner: &Arc<Inner>, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
    let bytes = append.events.iter().map(|event| entry_size(channel, event)).sum();
    let (answer, answered) = oneshot::channel();
    let waiting = WaitingAppend { append, bytes, answer };
    if enqueue(inner, channel, waiting)? {
        inner.database.runtime.spawn(write_all(Arc::clone(inner), channel.clone()));
    }
    match answered.await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unknown("the runtime of the store is shutting down".into())),
    }
}

/// Returns whether a task has to be started for the channel.
fn enqueue(inner: &Inner, channel: &Channel, waiting: WaitingAppend) -> Result<bool, StoreError> {
    let mut state = inner.append_queues.lock();
    if state.appends > 0 && (state.bytes + waiting.bytes > MAX_WAITING_BYTES || state.appends >= MAX_WAITING) {
        return Err(StoreError::Unavailable("too many appends wait for PostgreSQL".into()));
    }
    state.bytes += waiting.bytes;
    state.appends += 1;
    match state.queues.get_mut(channel) {
        Some(queue) => {
            queue.push_back(waiting);
            Ok(false)
        }
        None => {
            state.queues.insert(channel.clone(), VecDeque::from([waiting]));
            Ok(true)
        }
    }
}

async fn write_all(inner: Arc<Inner>, channel: Channel) {
    // A runtime that shuts down may drop this task at any await. The queue must go with it, or later appends would wait
    // for ever.
    let guard = QueueGuard { inner: &inner, channel: &channel };
    while let Some(group) = inner.append_queues.next(&channel) {
        write_group(&inner, &channel, group).await;
    }
    std::mem::forget(guard);
}

/// Removes the channel's queue when its task is dropped before it has ended.
struct QueueGuard<'a> {
    inner: &'a Inner,
    channel: &'a Channel,
}

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        let error = Arc::new(StoreError::Unavailable("the runtime of the store is shutting down".into()));
        self.inner.append_queues.fail_rest(self.channel, &error);
        self.inner.append_queues.lock().queues.remove(self.channel);
    }
}

async fn write_group(inner: &Inner, channel: &Channel, mut group: Vec<WaitingAppend>) {
    while !group.is_empty() {
        match write_together(inner, channel, &group).await {
            (Ok(Written { reused: Some(at), .. }), _) => refuse(&mut group, at),
            (Ok(written), notified) => return answer(inner, channel, group, written, notified),
            (Err(error), _) => return fail(inner, channel, group, error),
        }
    }
}

/// Whether the other nodes have been notified of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Notified {
    InTransaction,
    NotYet,
}

async fn write_together(
    inner: &Inner,
    channel: &Channel,
    group: &[WaitingAppend],
) -> (Result<Written, CallError>, Notified) {
    let appends = || group.iter().map(|waiting| &waiting.append);
    let events: Vec<_> = appends().flat_map(|append| &append.events).collect();
    let notifier = &inner.listener.notifier;
    let mut options = write::WriteOptions {
        expect: appends().next().map_or(Expect::Any, |first| first.expect),
        close: appends().any(|append| append.close),
        init: None,
        notify_as: if inner.append_queues.is_alone() { notifier.try_notify_inline() } else { None },
        reached: inner.append_queues.reached(channel),
    };
    let began = Instant::now();
    let mut written = write::write(&inner.database, &inner.settings, channel, &events, options).await;
    notifier.note_pace(began.elapsed());
    // An append must not fail because a notification did.
    if options.notify_as.is_some() && written.as_ref().is_err_and(CallError::may_be_of_notify) {
        options.notify_as = None;
        written = write::write(&inner.database, &inner.settings, channel, &events, options).await;
    }
    if let Ok(written) = &written {
        inner.append_queues.note_reached(channel, written.head.cursor.seq);
    }
    (written, if options.notify_as.is_some() { Notified::InTransaction } else { Notified::NotYet })
}

/// Refuses the append with the event at index `at`: its key stands for a different event. Nothing was written, and
/// the others are sent again without it.
fn refuse(group: &mut Vec<WaitingAppend>, mut at: usize) {
    let mut nth = 0;
    while let Some(waiting) = group.get(nth) {
        let count = waiting.append.events.len();
        if at < count {
            break;
        }
        (at, nth) = (at - count, nth + 1);
    }
    // An index out of range must not lead to an endless loop.
    let refused = group.remove(nth.min(group.len() - 1));
    _ = refused.answer.send(Err(StoreError::KeyReused { index: at }));
}

fn answer(inner: &Inner, channel: &Channel, group: Vec<WaitingAppend>, written: Written, notified: Notified) {
    let (appends, answers): (Vec<_>, Vec<_>) =
        group.into_iter().map(|waiting| (waiting.append, waiting.answer)).unzip();
    let results = written::append_results(channel, written, appends);
    if let (Some(head), Notified::NotYet) = (inner.notify_appended(channel, &results), notified) {
        inner.listener.notifier.note(channel, head);
    }
    answers.into_iter().zip(results).for_each(|(answer, result)| _ = answer.send(result));
}

fn fail(inner: &Inner, channel: &Channel, group: Vec<WaitingAppend>, error: CallError) {
    let away = error.is_connection_lost();
    let error = Arc::new(error.into_write_error());
    for waiting in group {
        _ = waiting.answer.send(Err(StoreError::shared(Arc::clone(&error))));
    }
    if away {
        inner.append_queues.fail_rest(channel, &error);
    }
}
