//! The heads of channels, and the list of channels.

use std::collections::HashMap;

use tokio_postgres::{Row, types::Type};

use super::{
    database::{Database, Param},
    error::CallError,
    page::{absent_record, bucket, corrupt},
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    store::{Head, Source, StoreError},
};

/// The heads of many channels, in the requested order.
pub(super) async fn heads(database: &Database, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
    let likely = database.absent.were_absent(channels);
    let heads = if channels.len() > MAX_PROBABLY_EXISTING || likely.contains(&true) {
        heads_of_any(database, channels).await?
    } else {
        heads_of_existing(database, channels).await?
    };
    // An empty channel is likely to be forgotten next.
    database.absent.record(channels.iter().zip(&heads).map(|(channel, head)| (channel, head.cursor.tag == 0)));
    Ok(heads)
}

/// The heads of channels that probably all exist; absent ones cost a second statement.
async fn heads_of_existing(database: &Database, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
    let names: Vec<_> = channels.iter().map(Channel::as_str).collect();
    let rows = database.read(&database.sql.heads_of_existing, &[(&names, Type::TEXT_ARRAY)]).await;
    let rows = rows.map_err(CallError::into_read_error)?;
    let existing: HashMap<_, _> = rows.iter().map(existing).collect::<Result<_, _>>().map_err(StoreError::Corrupt)?;
    let mut heads: Vec<_> = names.iter().map(|name| existing.get(name).copied().flatten()).collect();
    let pairs = channels.iter().zip(&heads);
    let absent: Vec<_> = pairs.filter(|(_, head)| head.is_none()).map(|(channel, _)| channel.clone()).collect();
    if !absent.is_empty() {
        let slots = heads.iter_mut().filter(|head| head.is_none());
        slots.zip(heads_of_any(database, &absent).await?).for_each(|(slot, head)| *slot = Some(head));
    }
    Ok(heads.into_iter().flatten().collect())
}

fn existing(row: &Row) -> Result<(&str, Option<Head>), Source> {
    Ok((row.try_get(0)?, head_from(row, 1)?))
}

/// The heads of channels, existing or not.
async fn heads_of_any(database: &Database, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
    let names: Vec<_> = channels.iter().map(Channel::as_str).collect();
    let buckets: Vec<_> = channels.iter().map(bucket).collect();
    let params: [Param<'_>; 2] = [(&names, Type::TEXT_ARRAY), (&buckets, Type::INT4_ARRAY)];
    let rows = database.read(&database.sql.heads, &params).await.map_err(CallError::into_read_error)?;
    let mut heads = vec![None; channels.len()];
    for row in &rows {
        let (nth, head) = head(row, channels).map_err(StoreError::Corrupt)?;
        if let Some(slot) = heads.get_mut(nth) {
            *slot = Some(head);
        }
    }
    heads.into_iter().map(|head| head.ok_or_else(|| corrupt("the place has no row"))).collect()
}

/// Most channels for which all are assumed to exist.
const MAX_PROBABLY_EXISTING: usize = 100;

/// A head, and the index of its channel.
fn head(row: &Row, channels: &[Channel]) -> Result<(usize, Head), Source> {
    let nth = row.try_get::<_, i32>(1)?.saturating_sub(1) as usize;
    if let Some(head) = head_from(row, 2)? {
        return Ok((nth, head));
    }
    let channel = channels.get(nth).ok_or("the server returned a head that was not requested")?;
    let floor = row.try_get::<_, Option<i64>>(3)?.ok_or("the floor lacks a row")?;
    Ok((nth, absent_record(channel, row.try_get(0)?, floor).head))
}

/// The head in four columns; `None` when the first, the epoch, is null.
fn head_from(row: &Row, at: usize) -> Result<Option<Head>, Source> {
    let Some(epoch) = row.try_get::<_, Option<i64>>(at)? else { return Ok(None) };
    let (seq, tag) = (row.try_get::<_, i64>(at + 1)? as u64, row.try_get::<_, i32>(at + 2)? as u32);
    Ok(Some(Head { cursor: Cursor { epoch: epoch as u64, seq, tag }, closed: row.try_get(at + 3)? }))
}

/// A page of the channels with names that start with `prefix`. Channels without a record are left out.
pub(super) async fn channels(
    database: &Database,
    prefix: &str,
    after: Option<&Channel>,
    limit: usize,
) -> Result<Vec<(Channel, Head)>, StoreError> {
    let mut after = after.map_or(String::new(), |after| after.as_str().to_owned());
    // No name contains NUL, which the server accepts in no text.
    if limit == 0 || prefix.contains('\0') {
        return Ok(Vec::new());
    }
    // As long as a name can be, so every name with the prefix sorts before it.
    let (last, limit) = (format!("{prefix}{}", "\u{10ffff}".repeat(64)), limit.min(MAX_LISTED) as i64);
    loop {
        let (names, kind) = ((&prefix, &after, &last), Type::TEXT);
        let params: [Param<'_>; 4] =
            [(names.0, kind.clone()), (names.1, kind.clone()), (names.2, kind), (&limit, Type::INT8)];
        let rows = database.read(&database.sql.names, &params).await.map_err(CallError::into_read_error)?;
        let Some(row) = rows.last() else { return Ok(Vec::new()) };
        after = row.try_get(0).map_err(|error| StoreError::Corrupt(error.into()))?;
        let listed: Vec<_> = rows.iter().filter_map(|row| listed(database, row)).collect();
        if !listed.is_empty() {
            return Ok(listed);
        }
    }
}

fn listed(database: &Database, row: &Row) -> Option<(Channel, Head)> {
    let name: &str = row.try_get(0).ok()?;
    let read = || Ok::<_, Source>((Channel::new(name)?, head_from(row, 1)?.ok_or("it has no record")?));
    match read() {
        Ok(listed) => Some(listed),
        Err(error) => {
            if database.damaged.is_due(name) {
                tracing::error!(channel = name, %error, "a channel in PostgreSQL cannot be listed");
            }
            None
        }
    }
}

/// Most channels of one page.
const MAX_LISTED: usize = 1000;
