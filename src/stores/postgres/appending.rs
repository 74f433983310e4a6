//! Appends through the queue of their channel: one call at a time per channel and process. Knows no SQL.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    append_queues::{self, AppendTask, WaitingAppend},
    error::CallError,
    shared::Inner,
    write,
    written::{self, Written},
};
use crate::{
    channel::Channel,
    store::{
        Append, Appended, Expect, StoreError,
        kit::{events_size, write_queue::Waiting},
    },
};

/// Appends through the channel's queue. If the future is dropped, the append is still applied as a whole or not at all.
pub(super) async fn append(inner: &Arc<Inner>, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
    let bytes = events_size(channel, &append.events);
    let (answer, task) = inner.append_queues.waiting.push(channel, append, bytes)?;
    if let Some(task) = task {
        inner.database.runtime.spawn(write_all(Arc::clone(inner), task));
    }
    answer.await
}

async fn write_all(inner: Arc<Inner>, mut task: AppendTask) {
    while let Some(group) = append_queues::next_group(&mut task) {
        write_group(&inner, &mut task, group).await;
    }
}

async fn write_group(inner: &Inner, task: &mut AppendTask, mut group: Vec<WaitingAppend>) {
    while !group.is_empty() {
        match write_together(inner, task, &group).await {
            (Ok(Written { reused: Some(at), .. }), _) => refuse(&mut group, at),
            (Ok(written), notified) => return answer(inner, task.key(), group, written, notified),
            (Err(error), _) => return fail(task, group, error),
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
    task: &AppendTask,
    group: &[WaitingAppend],
) -> (Result<Written, CallError>, Notified) {
    let channel = task.key();
    let appends = || group.iter().map(|waiting| &waiting.write);
    let events: Vec<_> = appends().flat_map(|append| &append.events).collect();
    let notifier = &inner.listener.notifier;
    let mut options = write::WriteOptions {
        expect: appends().next().map_or(Expect::Any, |first| first.expect),
        close: appends().any(|append| append.close),
        init: None,
        notify_as: if task.is_alone() { notifier.try_notify_inline() } else { None },
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
        let count = waiting.write.events.len();
        if at < count {
            break;
        }
        (at, nth) = (at - count, nth + 1);
    }
    // An index out of range must not lead to an endless loop.
    let refused = group.remove(nth.min(group.len() - 1));
    refused.answer(Err(StoreError::KeyReused { index: at }));
}

fn answer(inner: &Inner, channel: &Channel, group: Vec<WaitingAppend>, written: Written, notified: Notified) {
    let (appends, callers): (Vec<_>, Vec<_>) = group.into_iter().map(Waiting::split).unzip();
    let results = written::append_results(channel, written, appends);
    if let (Some(head), Notified::NotYet) = (inner.notify_appended(channel, &results), notified) {
        inner.listener.notifier.note(channel, head);
    }
    callers.into_iter().zip(results).for_each(|(caller, result)| caller.answer(result));
}

fn fail(task: &mut AppendTask, group: Vec<WaitingAppend>, error: CallError) {
    let away = error.is_connection_lost();
    let error = Arc::new(error.into_write_error());
    Waiting::fail_shared(group, &error);
    // Those behind it would fail as well, and waiting longer would not help.
    if away {
        task.fail_waiting(&error);
    }
}
