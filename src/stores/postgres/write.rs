//! Appends and inits as one call each: the columns that are sent, and the rows that come back. A group of appends to
//! one channel is one call. Never waits for anything but the call.

use tokio_postgres::{Row, types::Type};

use super::{
    database::{Database, Param},
    error::CallError,
    settings::Settings,
    written::{self, Written},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::Event,
    store::{Expect, Head, fingerprint, kit::entry_size, resume},
};

/// Events as columns, in the order of the function's parameters.
struct Columns<'a> {
    data: Vec<&'a [u8]>,
    is_text: Vec<bool>,
    names: Vec<Option<&'a str>>,
    times: Vec<Option<i64>>,
    /// `None` when no event has a key: then the server has nothing to look up.
    keys: Option<Vec<Option<&'a str>>>,
    /// The fingerprints of events with keys; 0 for others.
    prints: Option<Vec<i64>>,
    tags: Vec<i32>,
    /// `tags` shifted by one; the server knows the tag before the first event.
    prev_tags: Vec<Option<i32>>,
    sizes: Vec<i32>,
    bytes: i64,
}

impl<'a> Columns<'a> {
    fn new(channel: &Channel, events: &[&'a Event]) -> Self {
        let keyed = events.iter().any(|event| event.key().is_some());
        let print = |event: &&Event| event.key().map_or(0, |_| fingerprint(event) as i64);
        let tags: Vec<_> = events.iter().map(|_| resume::fresh_tag() as i32).collect();
        let sizes: Vec<_> = events.iter().map(|event| entry_size(channel, event) as i32).collect();
        Self {
            data: events.iter().map(|event| event.data().as_shown().as_bytes()).collect(),
            is_text: events.iter().map(|event| event.data().as_text().is_some()).collect(),
            names: events.iter().map(|event| event.name().map(|name| name.as_str())).collect(),
            times: events.iter().map(|event| event.time().map(|time| time as i64)).collect(),
            keys: keyed.then(|| events.iter().map(|event| event.key().map(|key| key.as_str())).collect()),
            prints: keyed.then(|| events.iter().map(print).collect()),
            prev_tags: std::iter::once(None).chain(tags.iter().copied().map(Some)).take(tags.len()).collect(),
            tags,
            bytes: sizes.iter().map(|size| i64::from(*size)).sum(),
            sizes,
        }
    }
}

/// What is written besides the events.
#[derive(Clone, Copy)]
pub(super) struct WriteOptions<'a> {
    pub(super) expect: Expect,
    pub(super) close: bool,
    /// The epoch of the history that replaces the channel's.
    pub(super) init: Option<u64>,
    /// The id of this node, if the call notifies the others in its own transaction.
    pub(super) notify_as: Option<&'a str>,
    /// A `seq` that the channel has reached, as far as known.
    pub(super) reached: u64,
}

impl WriteOptions<'_> {
    fn is_plain(self) -> bool {
        self.expect == Expect::Any && !self.close && self.init.is_none()
    }
}

/// Writes events to one channel atomically.
pub(super) async fn write(
    database: &Database,
    settings: &Settings,
    channel: &Channel,
    events: &[&Event],
    options: WriteOptions<'_>,
) -> Result<Written, CallError> {
    if let ([event], true) = (events, options.is_plain() && settings.lock_ms.is_none()) {
        if event.key().is_none() {
            if let Some(written) = write_one(database, settings, channel, event, options).await? {
                return Ok(written);
            }
        }
    }
    let mut columns = Columns::new(channel, events);
    if options.init.is_some() {
        (columns.keys, columns.prints) = (None, None);
    }
    let (expect, at) = match options.expect {
        Expect::Any => (0, Cursor { epoch: 0, seq: options.reached, tag: 0 }),
        Expect::NeverUsed => (1, Cursor { epoch: 0, seq: 0, tag: 0 }),
        Expect::At(cursor) => (2, cursor),
    };
    let (name, keep, now) = (channel.as_str(), settings.keep.as_slice(), settings.now());
    let init = options.init.map(|epoch| epoch as i64);
    let (epoch, tag) = (at.epoch as i64, at.tag as i32);
    // No entry has a `seq` that large, so saturating matches nothing either.
    let seq = i64::try_from(at.seq).unwrap_or(i64::MAX);
    let rows = database
        .write(
            &database.sql.write,
            &[
                (&name, Type::TEXT),
                (&now, Type::INT8),
                (&keep, Type::INT8_ARRAY),
                (&settings.lock_ms, Type::INT4),
                (&settings.sync, Type::TEXT),
                (&init, Type::INT8),
                (&expect, Type::INT4),
                (&epoch, Type::INT8),
                (&seq, Type::INT8),
                (&tag, Type::INT4),
                (&options.close, Type::BOOL),
                (&columns.data, Type::BYTEA_ARRAY),
                (&columns.is_text, Type::BOOL_ARRAY),
                (&columns.names, Type::TEXT_ARRAY),
                (&columns.times, Type::INT8_ARRAY),
                (&columns.keys, Type::TEXT_ARRAY),
                (&columns.tags, Type::INT4_ARRAY),
                (&columns.prev_tags, Type::INT4_ARRAY),
                (&columns.sizes, Type::INT4_ARRAY),
                (&columns.bytes, Type::INT8),
                (&columns.prints, Type::INT8_ARRAY),
                (&options.notify_as, Type::TEXT),
            ],
        )
        .await?;
    let row = rows.first().ok_or_else(|| CallError::Malformed("the server answered an append with no row".into()))?;
    let tags = columns.tags.iter().map(|tag| *tag as u32).collect();
    let written = written::from_row(row, tags).map_err(|error| CallError::Malformed(error.into()))?;
    if written.status == 0 && written.head.cursor.seq > written.base.seq {
        database.note_writable();
    }
    Ok(written)
}

/// Appends one event where there is nothing to decide; `None` when there is.
async fn write_one(
    database: &Database,
    settings: &Settings,
    channel: &Channel,
    event: &Event,
    WriteOptions { notify_as, reached, .. }: WriteOptions<'_>,
) -> Result<Option<Written>, CallError> {
    let (name, now, gen_reached) = (channel.as_str(), settings.now(), generation(reached));
    let (tag, size) = (resume::fresh_tag(), entry_size(channel, event) as i32);
    let (time, is_text) = (event.time().map(|time| time as i64), event.data().as_text().is_some());
    let (event_name, data) = (event.name().map(|name| name.as_str()), event.data().as_shown().as_bytes());
    let params: [Param<'_>; 10] = [
        (&name, Type::TEXT),
        (&(tag as i32), Type::INT4),
        (&size, Type::INT4),
        (&time, Type::INT8),
        (&is_text, Type::BOOL),
        (&event_name, Type::TEXT),
        (&data, Type::BYTEA),
        (&now, Type::INT8),
        (&gen_reached, Type::INT8),
        (&notify_as, Type::TEXT),
    ];
    let [without_notify @ .., _] = &params;
    let rows = match notify_as {
        Some(_) => database.write(&database.sql.write_one_and_notify, &params).await?,
        None => database.write(&database.sql.write_one, without_notify).await?,
    };
    let Some(row) = rows.first() else { return Ok(None) };
    let (written, retained) = one_written(row, tag).map_err(|error| CallError::Malformed(error.into()))?;
    database.note_writable();
    if retained.is_too_much(&settings.keep) {
        let keep = settings.keep.as_slice();
        let params = [(&name as _, Type::TEXT), (&now as _, Type::INT8), (&keep as _, Type::INT8_ARRAY)];
        // The event is appended in any case; the next append trims the channel.
        if let Err(error) = database.write(&database.sql.trim, &params).await {
            tracing::debug!(error = %error.into_read_error(), "could not trim a channel in PostgreSQL");
        }
    }
    Ok(Some(written))
}

/// The generation of a seq, as in the table `head`.
fn generation(seq: u64) -> i64 {
    (seq >> 9) as i64
}

/// What a channel retains after an append.
struct Retained {
    events: i64,
    bytes: i64,
    /// Whether it is time to look for entries that are too old.
    is_due: bool,
}

impl Retained {
    /// A quarter above the limits, so that many entries are deleted at once and most appends delete none.
    fn is_too_much(&self, [most_events, max_bytes, ..]: &[i64; 5]) -> bool {
        let above = |most: i64| most.saturating_add(most / 4);
        self.is_due || self.events > above(*most_events) || (self.events > 1 && self.bytes > above(*max_bytes))
    }
}

fn one_written(row: &Row, tag: u32) -> Result<(Written, Retained), tokio_postgres::Error> {
    let (epoch, seq) = (row.try_get::<_, i64>(0)? as u64, row.try_get::<_, i64>(1)? as u64);
    let base = Cursor { epoch, seq: seq.saturating_sub(1), tag: row.try_get::<_, i32>(2)? as u32 };
    let (head, stamp) = (Head { cursor: Cursor { epoch, seq, tag }, closed: false }, row.try_get::<_, i64>(3)?);
    let events = (seq as i64).saturating_sub(row.try_get(4)?);
    let retained = Retained { events, bytes: row.try_get(5)?, is_due: stamp > row.try_get(6)? };
    Ok((
        Written { status: 0, reused: None, head, base, stamp: stamp as u64, tags: vec![tag], verdicts: None },
        retained,
    ))
}
