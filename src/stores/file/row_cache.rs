//! Rows of channels, and floors, as they are within the writer's current transaction.

use std::collections::{HashMap, hash_map};

use rusqlite::Connection;

use super::{
    channel_row::{ChannelRow, MAX_SEQ},
    commit_error::OperationError,
    error::from_sql,
    floors, format,
    shared_retention::OtherCommits,
};
use crate::{
    channel::Channel,
    store::{Head, StoreError, floor, resume::Record},
};

#[derive(Default)]
pub(super) struct RowCache {
    /// The place's epoch, and the least floor of any name.
    origin: (u64, u64),
    /// Floors of buckets of names. Valid as long as `rows` are.
    floors: HashMap<u16, u64>,
    /// Rows as they are in the database or, if in `changed`, as they will be. Valid while no other connection commits.
    rows: HashMap<Channel, Option<ChannelRow>>,
    changed: Vec<Channel>,
    /// `PRAGMA data_version` when all of this was read.
    data_version: Option<i64>,
    /// Whether removed channels left entries or keys behind.
    pub(super) left_garbage: bool,
}

impl RowCache {
    /// At the start of a transaction: forgets everything if another connection has committed, perhaps a newer format.
    pub(super) fn begin(&mut self, db: &Connection) -> Result<OtherCommits, StoreError> {
        let data_version = read_data_version(db).map_err(from_sql)?;
        let same = self.data_version == Some(data_version);
        if !same || self.rows.len() > MAX_CACHED_ROWS {
            format::check_write(db)?;
            self.rows.clear();
            self.floors.clear();
            self.origin = floors::origin(db).map_err(from_sql)?;
            self.data_version = Some(data_version);
        }
        Ok(if same { OtherCommits::None } else { OtherCommits::Possible })
    }

    /// Writes the rows that were only changed in memory.
    pub(super) fn flush(&mut self, db: &Connection) -> rusqlite::Result<()> {
        for channel in self.changed.drain(..) {
            if let Some(Some(row)) = self.rows.get(&channel) {
                row.update(db)?;
            }
        }
        Ok(())
    }

    /// Forgets everything: some of what it wrote was rolled back.
    pub(super) fn clear(&mut self) {
        self.data_version = None;
        self.rows.clear();
        self.floors.clear();
        self.changed.clear();
    }

    /// The channel's row, without retention applied to it.
    pub(super) fn row(&mut self, db: &Connection, channel: &Channel) -> Result<Option<ChannelRow>, OperationError> {
        let known = match self.rows.entry(channel.clone()) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(none) => none.insert(ChannelRow::load(db, channel)?),
        };
        Ok(known.clone())
    }

    /// Changes the row in memory; [`flush`](Self::flush) writes it.
    pub(super) fn store_row(&mut self, channel: &Channel, row: ChannelRow) {
        self.rows.insert(channel.clone(), Some(row));
        if !self.changed.contains(channel) {
            self.changed.push(channel.clone());
        }
    }

    /// The head of a channel that has no record.
    pub(super) fn absent_head(&mut self, db: &Connection, channel: &Channel) -> Result<Head, OperationError> {
        let floor = self.floor(db, channel)?;
        Ok(Record::absent(self.origin.0, floor, channel).head)
    }

    pub(super) fn floor(&mut self, db: &Connection, channel: &Channel) -> Result<u64, OperationError> {
        let floor = match self.floors.entry(floor::bucket_of(channel)) {
            hash_map::Entry::Occupied(known) => *known.get(),
            hash_map::Entry::Vacant(none) => *none.insert(floors::of_bucket(db, floor::bucket_of(channel))?),
        };
        Ok(floor.max(self.origin.1))
    }

    /// Raises the floor of the channel's bucket above `seq`.
    pub(super) fn raise_floor(&mut self, db: &Connection, channel: &Channel, seq: u64) -> Result<(), OperationError> {
        let raised = floor::raised(self.floor(db, channel)?, seq);
        floors::write(db, floor::bucket_of(channel), raised)?;
        self.floors.insert(floor::bucket_of(channel), raised);
        Ok(())
    }

    /// Removes the record; the janitor removes its entries and keys later.
    pub(super) fn remove(&mut self, db: &Connection, channel: &Channel, id: i64) -> Result<(), OperationError> {
        db.prepare_cached("DELETE FROM channels WHERE id = ?1")?.execute([id])?;
        db.prepare_cached("INSERT OR IGNORE INTO garbage (channel) VALUES (?1)")?.execute([id])?;
        self.left_garbage = true;
        self.rows.insert(channel.clone(), None);
        self.changed.retain(|changed| changed != channel);
        Ok(())
    }

    /// Removes a record that cannot be read. Returns the highest `seq` that its log may have reached.
    pub(super) fn remove_damaged(&mut self, db: &Connection, channel: &Channel) -> Result<u64, OperationError> {
        let sql = "SELECT id, head_seq, earliest_seq FROM channels WHERE name = ?1";
        let found = db
            .prepare_cached(sql)?
            .query_row([channel.as_str()], |row| Ok((row.get(0)?, [row.get::<_, i64>(1)?, row.get(2)?])));
        let (id, seqs) = found?;
        let sql = "SELECT max(seq) FROM entries WHERE channel = ?1";
        let last: Option<i64> = db.prepare_cached(sql)?.query_row([id], |row| row.get(0))?;
        self.remove(db, channel, id)?;
        Ok(seqs.into_iter().chain(last).map(|seq| seq as u64).filter(|seq| *seq <= MAX_SEQ).max().unwrap_or(0))
    }
}

fn read_data_version(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// The number of rows cached between transactions.
const MAX_CACHED_ROWS: usize = 4096;
