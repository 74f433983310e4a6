//! Appends to one channel, one call at a time per process: what waits meanwhile goes together in the next call, so that a
//! busy channel costs one transaction per round trip and not one per append. Knows no SQL.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::oneshot, time::Instant};

use super::{
    error::CallError,
    write::{self, Written},
};
use crate::{
    channel::Channel,
    store::{Append, Appended, Expect, StoreError, size_of},
};

/// The appends that wait, by channel. A channel is in the map exactly while a task writes it.
#[derive(Default)]
pub(super) struct AppendQueues(Mutex<State>);

#[derive(Default)]
struct State {
    queues: HashMap<Channel, VecDeque<WaitingAppend>>,
    /// Of all queues, in bytes.
    bytes: u64,
    appends: usize,
    /// How far channels were that were written last.
    reached: HashMap<Channel, u64>,
}

struct WaitingAppend {
    append: Append,
    bytes: u64,
    answer: oneshot::Sender<Result<Appended, StoreError>>,
}

impl AppendQueues {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many appends wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.lock().appends
    }

    /// Whether what was taken last is all that this process has to write.
    fn is_alone(&self) -> bool {
        let state = self.lock();
        state.queues.len() == 1 && state.appends == 0
    }

    /// A `seq` that the channel has reached.
    fn reached(&self, channel: &Channel) -> u64 {
        self.lock().reached.get(channel).copied().unwrap_or(0)
    }

    fn note_reached(&self, channel: &Channel, seq: u64) {
        let mut state = self.lock();
        if let Some(reached) = state.reached.get_mut(channel) {
            *reached = seq;
            return;
        }
        // A channel that is dropped here takes the slower path once.
        if state.reached.len() >= MAX_REACHED {
            state.reached.clear();
        }
        state.reached.insert(channel.clone(), seq);
    }

    /// Takes what goes together, or ends the channel's turn when nothing waits. Appends that nobody waits for any more are
    /// left out: they were not sent, so they did not happen.
    fn next(&self, channel: &Channel) -> Option<Vec<WaitingAppend>> {
        let mut state = self.lock();
        let State { queues, bytes, appends, .. } = &mut *state;
        let queue = queues.get_mut(channel)?;
        let mut group = Vec::new();
        let (mut events, mut size) = (0, 0);
        while let Some(waiting) = queue.front() {
            let fits = group.is_empty() || (events + waiting.append.events.len() <= MAX_EVENTS && size < MAX_BYTES);
            let joins = is_plain(&waiting.append) || group.is_empty();
            if !(fits && joins) {
                break;
            }
            let Some(waiting) = queue.pop_front() else { break };
            (*bytes, *appends) = (*bytes - waiting.bytes, *appends - 1);
            if waiting.answer.is_closed() {
                continue;
            }
            (events, size) = (events + waiting.append.events.len(), size + waiting.bytes);
            let alone = !is_plain(&waiting.append);
            group.push(waiting);
            if alone {
                break;
            }
        }
        if group.is_empty() {
            queues.remove(channel);
            return None;
        }
        Some(group)
    }

    /// Answers everyone who waits for the channel: the server is away, and waiting on would only take longer.
    fn fail_rest(&self, channel: &Channel, error: &Arc<StoreError>) {
        let mut state = self.lock();
        let Some(queue) = state.queues.get_mut(channel) else { return };
        let rest = std::mem::take(queue);
        state.appends -= rest.len();
        state.bytes -= rest.iter().map(|waiting| waiting.bytes).sum::<u64>();
        drop(state);
        for waiting in rest {
            let source = StoreError::shared(Arc::clone(error));
            _ = waiting.answer.send(Err(unsent(source)));
        }
    }
}

/// Appends by way of the channel's queue. Dropping the future leaves the append to be made whole, or not at all.
pub(super) async fn append(inner: &Arc<Inner>, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
    let bytes = append.events.iter().map(|event| size_of(channel, event)).sum();
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

/// Says whether the channel needs someone to write it.
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
    // A runtime that shuts down drops this task anywhere: the queue goes with it, or later appends would wait for ever.
    let guard = QueueGuard { inner: &inner, channel: &channel };
    while let Some(group) = inner.append_queues.next(&channel) {
        write_group(&inner, &channel, group).await;
    }
    std::mem::forget(guard);
}

/// Removes the channel's queue when its task is dropped in the middle.
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
            (Ok(written), told) => return answer(inner, channel, group, written, told),
            (Err(error), _) => return fail(inner, channel, group, error),
        }
    }
}

/// Whether a statement has told the other nodes what it did.
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
    // An append must not fail because nobody can be told.
    if options.notify_as.is_some() && written.as_ref().is_err_and(CallError::may_be_of_notify) {
        options.notify_as = None;
        written = write::write(&inner.database, &inner.settings, channel, &events, options).await;
    }
    if let Ok(written) = &written {
        inner.append_queues.note_reached(channel, written.head.cursor.seq);
    }
    (written, if options.notify_as.is_some() { Notified::InTransaction } else { Notified::NotYet })
}

/// Refuses the append that has the event at `at`, whose key stands for another one. Nothing was written, and the others go
/// again without it.
fn refuse(group: &mut Vec<WaitingAppend>, mut at: usize) {
    let mut nth = 0;
    while let Some(waiting) = group.get(nth) {
        let count = waiting.append.events.len();
        if at < count {
            break;
        }
        (at, nth) = (at - count, nth + 1);
    }
    // An answer that fits nothing must not be asked for again and again.
    let refused = group.remove(nth.min(group.len() - 1));
    _ = refused.answer.send(Err(StoreError::KeyReused { index: at }));
}

fn answer(inner: &Inner, channel: &Channel, group: Vec<WaitingAppend>, written: Written, told: Notified) {
    let (appends, answers): (Vec<_>, Vec<_>) =
        group.into_iter().map(|waiting| (waiting.append, waiting.answer)).unzip();
    let results = write::append_results(channel, written, appends);
    if let (Some(head), Notified::NotYet) = (inner.tell_appended(channel, &results), told) {
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

/// What is not known of those that were sent is known of those that were not.
fn unsent(error: StoreError) -> StoreError {
    match error {
        StoreError::Unknown(source) => StoreError::Unavailable(source),
        other => other,
    }
}

/// Whether an append can share its call: neither its condition nor its close concerns the others.
fn is_plain(append: &Append) -> bool {
    append.expect == Expect::Any && !append.close
}

/// Most events of appends that go together.
const MAX_EVENTS: usize = 1000;

/// About how many bytes go together.
const MAX_BYTES: u64 = 1 << 20;

/// Most channels of which a reached `seq` is remembered.
const MAX_REACHED: usize = 4096;

/// Most appends that wait in one process, and most bytes of them.
const MAX_WAITING: usize = 100_000;
const MAX_WAITING_BYTES: u64 = 64 << 20;
