//! Lists channels.

use std::ops::Bound;

use rusqlite::{Connection, TransactionBehavior};

use super::{
    channel_row::{CHANNEL_COLUMNS, ChannelRow, read_name},
    core::Core,
    error::from_sql,
    format, retention,
    shared_retention::SnapshotRetention,
};
use crate::{
    channel::Channel,
    store::{Head, StoreError, kit::listing_start},
};

/// A page of the channels whose names start with `prefix` and follow `after`.
pub(super) fn channels(
    core: &Core,
    db: &mut Connection,
    now: u64,
    prefix: &str,
    after: Option<&Channel>,
    limit: usize,
) -> Result<Vec<(Channel, Head)>, StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Deferred).map_err(from_sql)?;
    format::check_read(&transaction)?;
    let limits = SnapshotRetention::new(&transaction, &core.keep, now);
    // The index of names compares bytes.
    let (relation, name) = match listing_start(prefix, after) {
        Bound::Excluded(after) => (">", after),
        Bound::Included(prefix) => (">=", prefix),
        Bound::Unbounded => (">=", ""),
    };
    let sql = format!("SELECT {CHANNEL_COLUMNS}, name FROM channels WHERE name {relation} ?1 ORDER BY name");
    let mut statement = transaction.prepare_cached(&sql).map_err(from_sql)?;
    let mut rows = statement.query([name]).map_err(from_sql)?;
    let (limit, mut listed) = (limit.min(MAX_LISTED), Vec::new());
    while listed.len() < limit {
        let Some(row) = rows.next().map_err(from_sql)? else { break };
        let name = row.get_ref(13).map_err(from_sql)?.as_bytes().unwrap_or_default();
        if !name.starts_with(prefix.as_bytes()) {
            break;
        }
        let channel_row = ChannelRow::from_row(row).map_err(from_sql).and_then(ChannelRow::validated);
        // An unreadable name is skipped, not replaced: a replacement may sort elsewhere, and a listing that continued
        // after it could loop.
        let named = channel_row.and_then(|channel_row| Ok((read_name(row, 13)?, channel_row)));
        match named {
            Ok((channel, channel_row)) => {
                if !limits.is_expired(|keep| retention::is_forgotten(&transaction, &channel_row, keep, now))? {
                    listed.push((channel, channel_row.log.record.head));
                }
            }
            Err(error) => core.quarantine.report(&core.paths.db, &String::from_utf8_lossy(name), &error),
        }
    }
    Ok(listed)
}

/// The most channels listed at once.
const MAX_LISTED: usize = 1000;
