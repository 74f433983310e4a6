//! Appends of many callers at once: what waits while others are under way goes to the server as one call. Knows how to send
//! them and what the answers mean, not how the scripts decide.

use std::sync::{Arc, Mutex, PoisonError};

use redis::Value;
use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{
    codec::{self, Packed},
    failure::{Failure, Late, strange},
    script::{Op, hex},
    shared::Shared,
};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
    event::Event,
    store::{Append, Appended, Entry, Expect, Receipt, StoreError, resume},
};

/// The queue of a store's appends, and the task that sends them.
pub(super) struct Writer {
    queue: Mutex<Option<(mpsc::Sender<Job>, JoinHandle<()>)>>,
    /// One permit per call under way. Whoever waits gets one before all who come later.
    calls: Arc<Semaphore>,
}

impl Default for Writer {
    fn default() -> Self {
        Self { queue: Mutex::default(), calls: Arc::new(Semaphore::new(CALLS)) }
    }
}

/// One append that waits.
struct Job {
    channel: Channel,
    append: Append,
    /// The marks of the new entries.
    tags: Vec<u32>,
    deadline: Instant,
    done: oneshot::Sender<Result<Appended, StoreError>>,
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
        let job = Job { channel: channel.clone(), append, tags, deadline, done };
        if let Some(_permit) = self.alone() {
            // The queue's task would only be a detour.
            send(shared, vec![job]).await;
            shared.sweep_soon();
            return answer.await.unwrap_or_else(|_| Err(strange("end")));
        }
        let sending = self.sender(shared).reserve_owned();
        match timeout_at(deadline, sending).await {
            Ok(Ok(place)) => _ = place.send(job),
            Ok(Err(_)) => return Err(StoreError::Unavailable("the runtime of the store's task is gone".into())),
            Err(_) => return Err(StoreError::Unavailable(Box::new(Late(shared.options.patience)))),
        }
        // The task answers by the deadline, unless its runtime ends.
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the runtime of the store's task is gone".into())))
    }

    /// A permit when no call is under way: else to wait a little and go with others is faster for all.
    fn alone(&self) -> Option<SemaphorePermit<'_>> {
        (self.calls.available_permits() == CALLS).then(|| self.calls.try_acquire().ok()).flatten()
    }

    /// The queue; its task is started on the runtime of the first caller, and again when that runtime is gone.
    fn sender(&self, shared: &Arc<Shared>) -> mpsc::Sender<Job> {
        let mut current = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((sender, task)) if !task.is_finished() => sender.clone(),
            _ => {
                let (sender, jobs) = mpsc::channel(QUEUE);
                let task = tokio::spawn(write(Arc::clone(shared), Arc::clone(&self.calls), jobs));
                current.insert((sender, task)).0.clone()
            }
        }
    }
}

/// Sends what waits until the store is gone. While as many calls are under way as may be, what comes gathers.
async fn write(shared: Arc<Shared>, calls: Arc<Semaphore>, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.recv().await {
        let Ok(permit) = Arc::clone(&calls).acquire_owned().await else { return };
        // Those who got the last call's answers append again now, and come along.
        tokio::task::yield_now().await;
        let mut taken = vec![first];
        while let Some(job) = (taken.len() < MOST_JOBS).then(|| jobs.try_recv().ok()).flatten() {
            taken.push(job);
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            for batch in batches(taken) {
                send(&shared, batch).await;
            }
            drop(permit);
            shared.sweep_soon();
        });
    }
}

/// Splits what is too large for one call. What nobody waits for any more was dropped before it was sent.
fn batches(jobs: Vec<Job>) -> Vec<Vec<Job>> {
    let (mut batches, mut bytes) = (vec![Vec::new()], 0);
    for job in jobs.into_iter().filter(|job| !job.done.is_closed()) {
        bytes += job.append.events.iter().map(|event| event.data().len() + 64).sum::<usize>();
        if bytes > MOST_BYTES {
            bytes = 0;
            batches.push(Vec::new());
        }
        if let Some(last) = batches.last_mut() {
            last.push(job);
        }
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}

async fn send(shared: &Shared, jobs: Vec<Job>) {
    let Some(deadline) = jobs.iter().map(|job| job.deadline).min() else { return };
    match call(shared, &jobs, deadline).await {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            for job in jobs {
                let result = match answers.next() {
                    Some(Value::BulkString(text)) => appended(job.channel, job.append, &job.tags, &text),
                    _ => Err(strange("answer for each append")),
                };
                _ = job.done.send(result);
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for job in jobs {
                _ = job.done.send(Err(StoreError::shared(Arc::clone(&error))));
            }
        }
    }
}

async fn call(shared: &Shared, jobs: &[Job], deadline: Instant) -> Result<Vec<Value>, StoreError> {
    let build = |place: u64, cmd: &mut redis::Cmd| {
        cmd.arg(shared.step()).arg(jobs.len());
        for job in jobs {
            let absent = hex(epoch_of(place, &job.channel));
            cmd.arg(job.channel.as_str()).arg(absent).arg(expected(job.append.expect));
            let keyed = job.append.events.iter().any(|event| event.key().is_some());
            cmd.arg(u8::from(job.append.close)).arg(u8::from(keyed)).arg(job.append.events.len());
            for (event, tag) in job.append.events.iter().zip(&job.tags) {
                cmd.arg(*tag);
                time_of(event, cmd);
                cmd.arg(event.key().map_or("", |key| key.as_str())).arg(codec::blob_of(event));
            }
        }
    };
    shared.at(&shared.writes, Op::Append, deadline, Failure::of_write, build).await.map(|(_, answers)| answers)
}

/// A condition as the script compares it.
pub(super) fn expected(expect: Expect) -> Vec<u8> {
    match expect {
        Expect::Any => Vec::new(),
        Expect::NeverUsed => b"new".to_vec(),
        Expect::At(cursor) => codec::condition_of(cursor),
    }
}

pub(super) fn time_of(event: &Event, cmd: &mut redis::Cmd) {
    match event.time() {
        Some(time) => cmd.arg(time),
        None => cmd.arg(""),
    };
}

/// What the script said of one append.
fn appended(channel: Channel, append: Append, tags: &[u32], answer: &[u8]) -> Result<Appended, StoreError> {
    let mut answer = Packed(answer);
    let (kind, head) = (answer.kind(), answer.head().ok_or_else(|| strange("head"))?);
    match kind {
        Some(b'C') => return Err(StoreError::Conflict { head }),
        Some(b'L') => return Err(StoreError::Closed { head }),
        _ => {}
    }
    let epoch = head.cursor.epoch;
    let (mut last, stamp) = position(&mut answer, epoch).ok_or_else(|| strange("position"))?;
    let mut known = next_known(&mut answer, epoch);
    let (mut receipts, mut entries) = (Vec::with_capacity(append.events.len()), Vec::new());
    for (nth, (event, tag)) in append.events.into_iter().zip(tags).enumerate() {
        if let Some((_, receipt)) = known.filter(|(of, _)| *of as usize == nth) {
            receipts.push(receipt);
            known = next_known(&mut answer, epoch);
            continue;
        }
        let (prev_tag, time) = (last.tag, event.time().unwrap_or(stamp));
        last = Cursor { seq: last.seq + 1, tag: *tag, ..last };
        let (data, name) = event.into_parts();
        receipts.push(Receipt { cursor: last, time, duplicate: false });
        entries.push(Entry { channel: channel.clone(), cursor: last, prev_tag, appended: stamp, time, name, data });
    }
    Ok(Appended { receipts, entries, head })
}

/// A position and a time.
fn position(answer: &mut Packed<'_>, epoch: u64) -> Option<(Cursor, u64)> {
    let cursor = Cursor { epoch, seq: answer.number()?, tag: answer.tag()? };
    Some((cursor, answer.number()?))
}

/// The next event that was known already: which one, and as what.
fn next_known(answer: &mut Packed<'_>, epoch: u64) -> Option<(u32, Receipt)> {
    let nth = answer.tag()?;
    let (cursor, time) = position(answer, epoch)?;
    Some((nth, Receipt { cursor, time, duplicate: true }))
}

/// Calls under way at once: one is worked on by the server while the next is written.
const CALLS: usize = 2;

/// Most appends in one call, so that others get their turn at the server.
const MOST_JOBS: usize = 128;

/// Most bytes in one call, if it is not a single append.
const MOST_BYTES: usize = 1 << 20;

/// Appends that wait in the queue; more wait before it.
const QUEUE: usize = 1024;
