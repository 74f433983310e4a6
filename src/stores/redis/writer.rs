//! Appends of many callers at once: what waits while others are under way goes to the server as one call. Knows how to send
//! them and what the answers mean, not how the scripts decide.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use redis::Value;
use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{
    codec::{self, Unpacker},
    error::{CallError, TimedOut, malformed},
    script::Op,
    shared::Shared,
};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
    store::{Append, Appended, Entry, Expect, Head, Receipt, StoreError, fingerprint, resume},
};

/// The queue of a store's appends, and the task that sends them.
pub(super) struct Writer {
    queue: Mutex<Option<(mpsc::Sender<QueuedAppend>, JoinHandle<()>)>>,
    /// One permit per call under way. Whoever waits gets one before all who come later.
    calls: Arc<Semaphore>,
}

impl Default for Writer {
    fn default() -> Self {
        Self { queue: Mutex::default(), calls: Arc::new(Semaphore::new(MAX_CALLS)) }
    }
}

/// One append that waits.
struct QueuedAppend {
    channel: Channel,
    append: Append,
    /// The marks of the new entries.
    tags: Vec<u32>,
    deadline: Instant,
    done: oneshot::Sender<Result<Appended, StoreError>>,
}

impl QueuedAppend {
    /// About as many bytes as it takes in a call.
    fn size(&self) -> usize {
        self.append.events.iter().map(|event| event.data().len() + 64).sum()
    }

    fn has_keys(&self) -> bool {
        self.append.events.iter().any(|event| event.key().is_some())
    }

    /// Whether its fate is that of its neighbours on the channel: each brings something, and depends on nothing.
    fn is_plain(&self) -> bool {
        let Append { events, expect, close } = &self.append;
        !events.is_empty() && matches!(expect, Expect::Any) && !close && !self.has_keys()
    }
}

impl Writer {
    pub(super) async fn append(
        &self,
        shared: &Arc<Shared>,
        channel: &Channel,
        append: Append,
    ) -> Result<Appended, StoreError> {
        let (done, answer) = oneshot::channel();
        let deadline = shared.deadline();
        let tags = append.events.iter().map(|_| resume::fresh_tag()).collect();
        let job = QueuedAppend { channel: channel.clone(), append, tags, deadline, done };
        if let Some(_permit) = self.try_first_call() {
            // The queue's task would only be a detour.
            for call in split(vec![job], 0) {
                call.send(shared).await;
            }
            shared.sweep_if_due();
            return answer.await.unwrap_or_else(|_| Err(malformed("end")));
        }
        let permit = self.sender(shared).reserve_owned();
        match timeout_at(deadline, permit).await {
            Ok(Ok(permit)) => _ = permit.send(job),
            Ok(Err(_)) => return Err(StoreError::Unavailable("the runtime of the store's task is gone".into())),
            Err(_) => return Err(StoreError::Unavailable(Box::new(TimedOut(shared.settings.timeout)))),
        }
        // The task answers by the deadline, unless its runtime ends.
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the runtime of the store's task is gone".into())))
    }

    /// A permit when no call is under way: else to wait a little and go with others is faster for all.
    fn try_first_call(&self) -> Option<SemaphorePermit<'_>> {
        (self.calls.available_permits() == MAX_CALLS).then(|| self.calls.try_acquire().ok()).flatten()
    }

    /// The queue; its task is started on the runtime of the first caller, and again when that runtime is gone.
    fn sender(&self, shared: &Arc<Shared>) -> mpsc::Sender<QueuedAppend> {
        let mut current = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((sender, task)) if !task.is_finished() => sender.clone(),
            _ => {
                let (sender, jobs) = mpsc::channel(QUEUE_LENGTH);
                let task = tokio::spawn(run_queue(Arc::clone(shared), Arc::clone(&self.calls), jobs));
                current.insert((sender, task)).0.clone()
            }
        }
    }
}

/// Sends what waits until the store is gone. While as many calls are under way as may be, what comes gathers.
async fn run_queue(shared: Arc<Shared>, calls: Arc<Semaphore>, mut jobs: mpsc::Receiver<QueuedAppend>) {
    while let Some(first) = jobs.recv().await {
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else { return };
        // Those who got the last call's answers append again now, and come along.
        tokio::task::yield_now().await;
        let mut taken = vec![first];
        while let Some(job) = (taken.len() < MAX_JOBS).then(|| jobs.try_recv().ok()).flatten() {
            taken.push(job);
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            for call in split(taken, shared.settings.inline.min(MAX_GROUP_BYTES)) {
                call.send(&shared).await;
            }
            drop(permit);
            shared.sweep_if_due();
        });
    }
}

/// What goes to the server in one call: appends of one channel after the other in the order in which they came. Plain ones
/// that follow each other are one group, which costs the server little more than its entries.
#[derive(Default)]
struct Call {
    channels: Vec<Channel>,
    groups: Vec<AppendGroup>,
    bytes: usize,
}

/// Appends to one channel that share their fate.
struct AppendGroup {
    /// Which of the call's channels.
    channel: usize,
    jobs: Vec<QueuedAppend>,
    bytes: usize,
}

/// Splits what is too large for one call. What nobody waits for any more was dropped before it was sent.
fn split(jobs: Vec<QueuedAppend>, most_together: usize) -> Vec<Call> {
    let (mut calls, mut last) = (Vec::new(), Call::default());
    // The last group of each channel of the last call.
    let mut known: HashMap<Channel, usize> = HashMap::new();
    for job in jobs.into_iter().filter(|job| !job.done.is_closed()) {
        let bytes = job.size();
        if last.bytes > 0 && last.bytes + bytes > MAX_BYTES {
            calls.push(std::mem::take(&mut last));
            known.clear();
        }
        last.add(job, bytes, &mut known, most_together);
    }
    calls.push(last);
    calls.retain(|call| !call.groups.is_empty());
    calls
}

impl Call {
    fn add(&mut self, job: QueuedAppend, bytes: usize, known: &mut HashMap<Channel, usize>, most_together: usize) {
        self.bytes += bytes;
        let before = known.get(&job.channel).copied();
        let fits = |group: &&mut AppendGroup| {
            let is_plain = job.is_plain() && group.jobs.first().is_some_and(QueuedAppend::is_plain);
            is_plain && group.bytes + bytes <= most_together
        };
        if let Some(group) = before.and_then(|nth| self.groups.get_mut(nth)).filter(fits) {
            group.bytes += bytes;
            return group.jobs.push(job);
        }
        let channel = match before.and_then(|nth| self.groups.get(nth)) {
            Some(group) => group.channel,
            None => {
                self.channels.push(job.channel.clone());
                self.channels.len() - 1
            }
        };
        known.insert(job.channel.clone(), self.groups.len());
        self.groups.push(AppendGroup { channel, jobs: vec![job], bytes });
    }

    fn deadline(&self) -> Option<Instant> {
        self.groups.iter().flat_map(|group| &group.jobs).map(|job| job.deadline).min()
    }

    async fn send(self, shared: &Shared) {
        let Some(deadline) = self.deadline() else { return };
        let build = |place: u64, cmd: &mut redis::Cmd| {
            cmd.arg(shared.floor_step());
            self.groups.iter().for_each(|group| group.arguments(place, cmd));
        };
        let answers =
            shared.call(&shared.writes, Op::Append, &self.channels, deadline, CallError::into_write_error, build).await;
        match answers {
            Ok((_, answers)) => {
                let mut answers = answers.into_iter();
                self.groups.into_iter().for_each(|group| group.answer(answers.next()));
            }
            Err(error) => {
                let error = Arc::new(error);
                for job in self.groups.into_iter().flat_map(|group| group.jobs) {
                    _ = job.done.send(Err(StoreError::shared(Arc::clone(&error))));
                }
            }
        }
    }
}

impl AppendGroup {
    /// As the script reads it.
    fn arguments(&self, place: u64, cmd: &mut redis::Cmd) {
        let Some(first) = self.jobs.first() else { return };
        let (expect, keyed) = (codec::expectation(first.append.expect), first.has_keys());
        let events = || self.jobs.iter().flat_map(|job| job.append.events.iter().zip(&job.tags));
        let flags = u8::from(first.append.close) + 2 * u8::from(keyed) + 4 * u8::from(!expect.is_empty());
        let absent = epoch_of(place, &first.channel);
        cmd.arg(codec::group_header(self.channel, events().count(), flags, absent));
        if !expect.is_empty() {
            cmd.arg(expect);
        }
        events().for_each(|(event, tag)| _ = cmd.arg(codec::blob_of(event, *tag)));
        if keyed {
            events().for_each(|(event, _)| _ = cmd.arg(event.key().map_or("", |key| key.as_str())));
            cmd.arg(self.fingerprints());
        }
    }

    /// The fingerprints of all events in a row. A group with keys is one append.
    fn fingerprints(&self) -> Vec<u8> {
        let events = self.jobs.iter().flat_map(|job| &job.append.events);
        events.flat_map(|event| event.key().map_or(0, |_| fingerprint(event)).to_be_bytes()).collect()
    }

    /// Gives each what the script said of all.
    fn answer(self, answer: Option<Value>) {
        let Some(Value::BulkString(text)) = answer else { return self.fail(|| malformed("answer for each append")) };
        let mut answer = Unpacker(&text);
        let Some(kind) = answer.kind() else { return self.fail(|| malformed("kind")) };
        if matches!(kind, b'X' | b'U') {
            return self.fail(|| CallError::channel_error(kind, answer.0));
        }
        // Of one that was applied the position before it, and whether the channel is closed after it.
        let Some(head) = answer.head() else { return self.fail(|| malformed("head")) };
        match kind {
            b'C' => return self.fail(|| StoreError::Conflict { head }),
            b'L' => return self.fail(|| StoreError::Closed { head }),
            b'R' => {
                let index = answer.tag().unwrap_or_default() as usize;
                return self.fail(|| StoreError::KeyReused { index });
            }
            _ => {}
        }
        let Some(stamp) = answer.number() else { return self.fail(|| malformed("time")) };
        let mut last = head.cursor;
        for job in self.jobs {
            let (done, mut appended) =
                (job.done, appended(job.channel, job.append, &job.tags, last, stamp, &mut answer));
            last = appended.head.cursor;
            // A group of several closes nothing, and is refused when it comes after the end.
            appended.head.closed = head.closed;
            _ = done.send(Ok(appended));
        }
    }

    fn fail(self, error: impl Fn() -> StoreError) {
        self.jobs.into_iter().for_each(|job| _ = job.done.send(Err(error())));
    }
}

/// What an append that was applied after this position did. What is left of the answer tells which of its keys were known.
fn appended(
    channel: Channel,
    append: Append,
    tags: &[u32],
    mut last: Cursor,
    stamp: u64,
    answer: &mut Unpacker<'_>,
) -> Appended {
    let epoch = last.epoch;
    let mut known = next_known(answer, epoch);
    let (mut receipts, mut entries) = (Vec::with_capacity(append.events.len()), Vec::new());
    for (nth, (event, tag)) in append.events.into_iter().zip(tags).enumerate() {
        if let Some((_, receipt)) = known.filter(|(of, _)| *of as usize == nth) {
            receipts.push(receipt);
            known = next_known(answer, epoch);
            continue;
        }
        let (prev_tag, time) = (last.tag, event.time().unwrap_or(stamp));
        last = Cursor { seq: last.seq + 1, tag: *tag, ..last };
        let (data, name) = event.into_parts();
        receipts.push(Receipt { cursor: last, time, duplicate: false });
        entries.push(Entry { channel: channel.clone(), cursor: last, prev_tag, appended: stamp, time, name, data });
    }
    Appended { receipts, entries, head: Head { cursor: last, closed: false } }
}

/// A position and a time.
fn position(answer: &mut Unpacker<'_>, epoch: u64) -> Option<(Cursor, u64)> {
    let cursor = Cursor { epoch, seq: answer.number()?, tag: answer.tag()? };
    Some((cursor, answer.number()?))
}

/// The next event that was known already: which one, and as what.
fn next_known(answer: &mut Unpacker<'_>, epoch: u64) -> Option<(u32, Receipt)> {
    let nth = answer.tag()?;
    let (cursor, time) = position(answer, epoch)?;
    Some((nth, Receipt { cursor, time, duplicate: true }))
}

/// Calls under way at once: one is worked on by the server while the next is written.
const MAX_CALLS: usize = 2;

/// Most appends in one call, so that others get their turn at the server.
const MAX_JOBS: usize = 128;

/// Most bytes in one call, if it is not a single append.
const MAX_BYTES: usize = 1 << 20;

/// Most bytes in a group of several: the server joins what nodes are told of it in pieces of 8 KiB, and a longer text costs it
/// twice as much.
const MAX_GROUP_BYTES: usize = 7000;

/// Appends that wait in the queue; more wait before it.
const QUEUE_LENGTH: usize = 1024;
