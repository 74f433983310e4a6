//! What a group of appends does to a channel, decided before anything is sent. Pure, except that it draws tags.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};

use super::{
    body,
    keys::Keys,
    record::{Kind, Record},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::{Event, EventKey},
    store::{
        Append, Appended, StoreError, Unit,
        kit::{self, Addition, Before, Decision, Fingerprints, Keep, Known, Sequencer, entry_size},
        resume,
    },
};

/// A channel before a group of appends.
pub(super) struct ChannelBefore<'a> {
    pub(super) channel: &'a Channel,
    /// Its newest record; `None` when it has no log.
    pub(super) record: Option<Record>,
    /// Where its log starts while it has none.
    pub(super) absent: Cursor,
    /// Its keys; while they are unknown, no event may have a key.
    pub(super) keys: Option<&'a Keys>,
    pub(super) now: u64,
    /// The most bytes of a body.
    pub(super) max_bytes: usize,
}

/// The effect of a group.
pub(super) struct Plan {
    /// One answer per append that was considered. The appends after these did not fit into one message.
    pub(super) answers: Vec<Result<Appended, StoreError>>,
    /// The message to publish before the answers hold; without one they hold for the channel as it is.
    pub(super) message: Option<Planned>,
}

/// A message to publish.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) record: Record,
    pub(super) body: Bytes,
    /// The new keys.
    pub(super) keys: Vec<(EventKey, Known)>,
}

/// Decides the appends in order, each on the result of those before it.
pub(super) fn appends<'a>(before: &ChannelBefore<'_>, group: impl IntoIterator<Item = &'a Append>) -> Plan {
    let mut draft = Draft::new(before);
    let mut answers = Vec::new();
    for append in group {
        match draft.judge(append) {
            Judged::Answer(answer) => answers.push(answer),
            Judged::Later => break,
        }
    }
    Plan { answers, message: draft.finish() }
}

/// The message of an init, which starts a log of its own. Events that retention would drop are only counted. Fails when
/// the others do not fit.
pub(super) fn init(
    channel: &Channel,
    start: Cursor,
    events: Vec<Event>,
    now: u64,
    keep: Keep,
    max: usize,
) -> Result<Planned, StoreError> {
    let dropped = dropped(channel, &events, keep);
    let size: usize = events.iter().skip(dropped).map(encoded_size).sum();
    if size > max {
        return Err(StoreError::TooLarge { size: size as u64, max: max as u64, unit: Unit::Bytes });
    }
    let mut record = Record::new(Kind::Init, start, now);
    let mut body = BytesMut::new();
    let mut log = Sequencer::new(channel, start, now);
    for (nth, event) in events.into_iter().enumerate() {
        if nth == dropped {
            record = Record { kind: Kind::Init, ..record.following(now) };
        }
        let entry = log.entry(event, resume::fresh_tag());
        if nth >= dropped {
            body::put(&mut body, &entry, None);
        }
        record.push(entry.cursor.tag, entry.time, entry.size() as u64, None);
    }
    Ok(Planned { record, body: body.freeze(), keys: Vec::new() })
}

/// How many of the oldest events would never be visible. The newest always stays.
fn dropped(channel: &Channel, events: &[Event], keep: Keep) -> usize {
    let mut bytes = 0_u64;
    let fits = |event: &&Event| {
        bytes = bytes.saturating_add(entry_size(channel, event));
        bytes <= keep.bytes
    };
    let count = usize::try_from(keep.events).unwrap_or(usize::MAX);
    let kept = events.iter().rev().take(count).take_while(fits).count().max(1);
    events.len().saturating_sub(kept)
}

/// A message under construction.
struct Draft<'a> {
    before: &'a ChannelBefore<'a>,
    record: Record,
    body: BytesMut,
    /// The new keys.
    keys: HashMap<EventKey, Known>,
    /// Whether the log exists by now.
    exists: bool,
    /// Whether there is anything to publish.
    changes: bool,
}

enum Judged {
    Answer(Result<Appended, StoreError>),
    /// It does not fit into this message.
    Later,
}

impl<'a> Draft<'a> {
    fn new(before: &'a ChannelBefore<'a>) -> Self {
        let record = match &before.record {
            Some(record) => record.following(before.now),
            None => Record::new(Kind::Append, before.absent, before.now),
        };
        let exists = before.record.is_some();
        Self { before, record, body: BytesMut::new(), keys: HashMap::new(), exists, changes: false }
    }

    fn judge(&mut self, append: &Append) -> Judged {
        let head = self.record.head();
        let before = if self.exists { Before::recorded(head) } else { Before::absent(head) };
        let decision = before.decide(append, Fingerprints::of(&append.events), |key| Ok(self.known(key)));
        let decided = match decision {
            Ok(Decision::Write(decided)) => decided,
            Ok(Decision::Unchanged(appended)) => return Judged::Answer(Ok(appended)),
            Err(refused) => return Judged::Answer(Err(refused)),
        };
        let size: usize = append.events.iter().map(encoded_size).sum();
        if size > self.before.max_bytes {
            let max = self.before.max_bytes as u64;
            return Judged::Answer(Err(StoreError::TooLarge { size: size as u64, max, unit: Unit::Bytes }));
        }
        if self.body.len() + size > self.before.max_bytes {
            return Judged::Later;
        }
        Judged::Answer(Ok(self.apply(append, decided)))
    }

    fn known(&self, key: &EventKey) -> Option<Known> {
        let earlier = || self.before.keys.and_then(|keys| keys.get(key));
        self.keys.get(key).copied().or_else(earlier)
    }

    fn apply(&mut self, append: &Append, decided: kit::Draft) -> Appended {
        let (channel, stamp) = (self.before.channel, self.record.stamp);
        let Addition { appended, keys, .. } =
            decided.complete(channel, append.events.clone(), stamp, resume::fresh_tag);
        let new = append.events.iter().zip(&appended.receipts).filter(|(_, receipt)| !receipt.duplicate);
        for ((event, _), entry) in new.zip(&appended.entries) {
            body::put(&mut self.body, entry, Some(event));
            self.record.push(entry.cursor.tag, entry.time, entry.size() as u64, event.key());
        }
        self.keys.extend(keys);
        self.record.closed = appended.head.closed;
        (self.exists, self.changes) = (true, true);
        appended
    }

    fn finish(self) -> Option<Planned> {
        let keys = self.keys.into_iter().collect();
        self.changes.then(|| Planned { record: self.record, body: self.body.freeze(), keys })
    }
}

/// The most bytes of an event in a body.
fn encoded_size(event: &Event) -> usize {
    let name = event.name().map_or(0, |name| name.as_str().len());
    let key = event.key().map_or(0, |key| key.as_str().len());
    body::ITEM_BYTES + name + key + event.data().len()
}
