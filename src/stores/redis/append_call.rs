//! One call to the server that carries many appends: how they are packed, and what the reply says about each. How the
//! script decides is not known here.

use std::collections::HashMap;

use redis::Value;
use tokio::time::Instant;

use super::{
    codec::{self, Unpacker},
    error::{CallError, malformed},
    script::Op,
    shared::Shared,
};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
    store::{
        Append, Appended, Expect, Head, Receipt, StoreError, fingerprint,
        kit::{Sequencer, write_queue},
    },
};

/// An append that waits to be sent, and its caller.
pub(super) type Waiting = write_queue::Waiting<QueuedAppend, Appended>;

/// One append that waits to be sent.
pub(super) struct QueuedAppend {
    pub(super) channel: Channel,
    pub(super) append: Append,
    /// The tags of the new entries.
    pub(super) tags: Vec<u32>,
    pub(super) deadline: Instant,
}

impl QueuedAppend {
    /// About how many bytes it takes up in a call.
    fn size(&self) -> usize {
        self.append.events.iter().map(|event| event.data().len() + 64).sum()
    }

    fn has_keys(&self) -> bool {
        self.append.events.iter().any(|event| event.key().is_some())
    }

    /// Whether it can share a group: it adds events and depends on nothing, so the group succeeds or fails as a whole.
    fn is_plain(&self) -> bool {
        let Append { events, expect, close } = &self.append;
        !events.is_empty() && matches!(expect, Expect::Any) && !close && !self.has_keys()
    }
}

/// What goes to the server in one call: the appends of each channel, in the order in which they came. Consecutive plain
/// ones form one group, which costs the server little more than its entries.
#[derive(Default)]
pub(super) struct Call {
    channels: Vec<Channel>,
    groups: Vec<AppendGroup>,
    bytes: usize,
}

/// Appends to one channel that succeed or fail together.
struct AppendGroup {
    /// Index into the call's channels.
    channel: usize,
    jobs: Vec<Waiting>,
    bytes: usize,
}

/// Splits what is too large for one call. Appends without a waiting caller are dropped here, before anything is sent.
pub(super) fn split(jobs: Vec<Waiting>, most_together: usize) -> Vec<Call> {
    let (mut calls, mut last) = (Vec::new(), Call::default());
    // The last group of each channel in the last call.
    let mut known: HashMap<Channel, usize> = HashMap::new();
    for job in jobs.into_iter().filter(|job| !job.is_abandoned()) {
        let bytes = job.write.size();
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
    fn add(&mut self, job: Waiting, bytes: usize, known: &mut HashMap<Channel, usize>, most_together: usize) {
        self.bytes += bytes;
        let before = known.get(&job.write.channel).copied();
        let fits = |group: &&mut AppendGroup| {
            let is_plain = job.write.is_plain() && group.jobs.first().is_some_and(|first| first.write.is_plain());
            is_plain && group.bytes + bytes <= most_together
        };
        if let Some(group) = before.and_then(|nth| self.groups.get_mut(nth)).filter(fits) {
            group.bytes += bytes;
            return group.jobs.push(job);
        }
        let channel = match before.and_then(|nth| self.groups.get(nth)) {
            Some(group) => group.channel,
            None => {
                self.channels.push(job.write.channel.clone());
                self.channels.len() - 1
            }
        };
        known.insert(job.write.channel.clone(), self.groups.len());
        self.groups.push(AppendGroup { channel, jobs: vec![job], bytes });
    }

    fn deadline(&self) -> Option<Instant> {
        self.groups.iter().flat_map(|group| &group.jobs).map(|job| job.write.deadline).min()
    }

    pub(super) async fn send(self, shared: &Shared) {
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
            Err(error) => Waiting::fail(self.groups.into_iter().flat_map(|group| group.jobs), error),
        }
    }
}

impl AppendGroup {
    /// The arguments, as the script reads them.
    fn arguments(&self, place: u64, cmd: &mut redis::Cmd) {
        let Some(first) = self.jobs.first().map(|job| &job.write) else { return };
        let (expect, keyed) = (codec::expectation(first.append.expect), first.has_keys());
        let events = || self.jobs.iter().flat_map(|job| job.write.append.events.iter().zip(&job.write.tags));
        let flags = u8::from(first.append.close) + 2 * u8::from(keyed) + 4 * u8::from(!expect.is_empty());
        let absent = epoch_of(place, &first.channel);
        cmd.arg(codec::group_header(self.channel, events().count(), flags, absent));
        if !expect.is_empty() {
            cmd.arg(expect);
        }
        events().for_each(|(event, tag)| _ = cmd.arg(codec::event_bytes(event, *tag)));
        if keyed {
            events().for_each(|(event, _)| _ = cmd.arg(event.key().map_or("", |key| key.as_str())));
            cmd.arg(self.fingerprints());
        }
    }

    /// The fingerprints of all events, concatenated. A group with keys holds a single append.
    fn fingerprints(&self) -> Vec<u8> {
        let events = self.jobs.iter().flat_map(|job| &job.write.append.events);
        events.flat_map(|event| event.key().map_or(0, |_| fingerprint(event)).to_be_bytes()).collect()
    }

    /// Answers each append from the script's reply for the group.
    fn answer(self, answer: Option<Value>) {
        let Some(Value::BulkString(text)) = answer else { return self.fail(|| malformed("reply for each append")) };
        let mut answer = Unpacker(&text);
        let Some(kind) = answer.kind() else { return self.fail(|| malformed("kind")) };
        if matches!(kind, b'X' | b'U') {
            return self.fail(|| CallError::channel_error(kind, answer.0));
        }
        // For an applied group: the position before it, and whether the channel is closed after it.
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
            let (QueuedAppend { channel, append, tags, .. }, caller) = job.split();
            let mut appended = appended(channel, append, &tags, last, stamp, &mut answer);
            last = appended.head.cursor;
            // A group of several appends closes nothing, and is refused when the channel is closed.
            appended.head.closed = head.closed;
            caller.answer(Ok(appended));
        }
    }

    fn fail(self, error: impl Fn() -> StoreError) {
        self.jobs.into_iter().for_each(|job| job.answer(Err(error())));
    }
}

/// The result of an append that was applied after position `last`. The rest of the reply says which of its keys were
/// known.
fn appended(
    channel: Channel,
    append: Append,
    tags: &[u32],
    last: Cursor,
    stamp: u64,
    answer: &mut Unpacker<'_>,
) -> Appended {
    let (epoch, mut log) = (last.epoch, Sequencer::new(&channel, last, stamp));
    let mut known = next_known(answer, epoch);
    let (mut receipts, mut entries) = (Vec::with_capacity(append.events.len()), Vec::new());
    for (nth, (event, tag)) in append.events.into_iter().zip(tags).enumerate() {
        if let Some((_, receipt)) = known.filter(|(of, _)| *of as usize == nth) {
            receipts.push(receipt);
            known = next_known(answer, epoch);
            continue;
        }
        let entry = log.entry(event, *tag);
        receipts.push(Receipt::appended(entry.cursor, entry.time));
        entries.push(entry);
    }
    Appended { receipts, entries, head: Head::open(log.position()) }
}

/// A position and a time.
fn position(answer: &mut Unpacker<'_>, epoch: u64) -> Option<(Cursor, u64)> {
    let cursor = Cursor { epoch, seq: answer.number()?, tag: answer.tag()? };
    Some((cursor, answer.number()?))
}

/// The next event with a known key: its index and its receipt.
fn next_known(answer: &mut Unpacker<'_>, epoch: u64) -> Option<(u32, Receipt)> {
    let nth = answer.tag()?;
    let (cursor, time) = position(answer, epoch)?;
    Some((nth, Receipt { cursor, time, duplicate: true }))
}

/// Most bytes in one call, unless it is a single append.
const MAX_BYTES: usize = 1 << 20;
