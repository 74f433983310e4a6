//! What an append, an init or a delete does within the writer's transaction. Decides in memory and writes rows; commits
//! nothing.

use std::collections::{HashMap, hash_map};

use rusqlite::Connection;

use super::{
    notify_file::Changed,
    error::from_sql,
    floors, format,
    push::{find_key, push, push_all},
    record::{Line, MOST_SEQ},
    trim,
    users::{Others, Users},
};
use crate::{
    channel::Channel,
    cursor::{Cursor, epoch_of},
    event::Event,
    store::{
        Append, Appended, Change, Entry, Expect, Head, Keep, Prints, Receipt, StoreError, floor, judge,
        resume::{self, Record},
    },
};

/// The writer's view of the database: as it is within the current transaction.
pub(super) struct Desk {
    pub(super) users: Users,
    /// The place's epoch, and the floor that all names have at least.
    place: (u64, u64),
    /// Floors of buckets of names; as the lines.
    floors: HashMap<u16, u64>,
    /// Rows as they are in the database or, when they are in `changed`, as they will be. Valid while no other connection
    /// has committed.
    lines: HashMap<Channel, Option<Line>>,
    changed: Vec<Channel>,
    /// What `PRAGMA data_version` was when all of this was read.
    version: Option<i64>,
    /// What to tell others when the transaction is committed, and those in this process.
    pub(super) notifications: Vec<Changed>,
    pub(super) changes: Vec<Change>,
    /// Whether removed channels left something behind.
    pub(super) left_garbage: bool,
}

/// Why an operation was not done.
#[derive(Debug)]
pub(super) enum Failed {
    /// By the contract; it has changed nothing, and others of the transaction may go on.
    Refused(StoreError),
    /// By the database; the transaction is lost.
    Sql(StoreError),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(from_sql(error))
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        match error {
            reused @ StoreError::KeyReused { .. } => Self::Refused(reused),
            other => Self::Sql(other),
        }
    }
}

impl Desk {
    pub(super) fn new(own: Keep) -> Self {
        let (floors, lines, changed, notifications, changes) = Default::default();
        let users = Users::new(own);
        Self { users, place: (0, 0), floors, lines, changed, version: None, notifications, changes, left_garbage: false }
    }

    /// Begins with a transaction: takes notice of what others have committed, also of a newer format.
    pub(super) fn begin(&mut self, db: &Connection, now: u64) -> Result<Others, StoreError> {
        let version = self.data_version(db).map_err(from_sql)?;
        let same = self.version == Some(version);
        if !same || self.lines.len() > MOST_LINES {
            format::check_write(db)?;
            self.lines.clear();
            self.floors.clear();
            self.place = floors::origin(db).map_err(from_sql)?;
            self.version = Some(version);
        }
        let others = if same { Others::WroteNothing } else { Others::MayHaveWritten };
        self.users.look_again(db, now, others)?;
        Ok(others)
    }

    fn data_version(&self, db: &Connection) -> rusqlite::Result<i64> {
        db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
    }

    /// Writes what was changed in memory only.
    pub(super) fn flush(&mut self, db: &Connection) -> rusqlite::Result<()> {
        for channel in self.changed.drain(..) {
            if let Some(Some(line)) = self.lines.get(&channel) {
                line.update(db)?;
            }
        }
        Ok(())
    }

    /// Forgets what the transaction did: it was rolled back.
    pub(super) fn abandon(&mut self) {
        self.distrust();
        self.notifications.clear();
        self.changes.clear();
    }

    /// Forgets what it knows of the rows: some of what it wrote was undone, and all that others wanted is in the database.
    pub(super) fn distrust(&mut self) {
        self.version = None;
        self.lines.clear();
        self.floors.clear();
        self.changed.clear();
    }

    pub(super) fn append(
        &mut self,
        db: &Connection,
        now: u64,
        to: &Channel,
        append: &Append,
    ) -> Result<Appended, Failed> {
        let line = self.fresh_line(db, now, to)?;
        let head = match &line {
            Some(line) => line.record.head,
            None => self.absent(db, to)?,
        };
        let stamp = line.as_ref().map_or(now, |line| now.max(line.newest));
        let prints = Prints::of(&append.events);
        let known = self.judge(db, now, line.as_ref(), &append.events, &prints)?;
        let brings = known.iter().any(Option::is_none);
        // What changes nothing succeeds whatever was expected, so that a repeated append succeeds as the first did.
        if !brings && (!append.close || head.closed) {
            return Ok(Appended { receipts: known.into_iter().flatten().collect(), entries: Vec::new(), head });
        }
        if brings && head.closed {
            return Err(Failed::Refused(StoreError::Closed { head }));
        }
        check(line.as_ref(), head, append.expect)?;
        let mut line = match line {
            Some(line) => line,
            None => self.insert(db, now, to, head.cursor)?,
        };
        let (receipts, entries) = push_all(db, &mut line, to, &append.events, (&prints, known), stamp)?;
        line.record.head.closed |= append.close;
        let head = line.record.head;
        trim::trim(db, &mut line, &self.users.keep, now, entries.len() as u64)?;
        // It was empty, and was to be forgotten later than its entries are to go.
        let next = line.next_look(&self.users.keep, now);
        if next < line.due {
            line.due = next;
            line.update_due(db)?;
        }
        self.tell(&line, to, &entries, append);
        self.put(to, line);
        Ok(Appended { receipts, entries, head })
    }

    fn tell(&mut self, line: &Line, to: &Channel, entries: &[Entry], append: &Append) {
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            let (begin, end) = (first.cursor.seq, last.cursor.seq);
            match self.notifications.last_mut() {
                // Appends of one transaction to one channel are one piece.
                Some(Changed::Entries { channel, last, .. }) if *channel == line.id && *last + 1 == begin => *last = end,
                _ => self.notifications.push(Changed::Entries { channel: line.id, first: begin, last: end }),
            }
            self.changes.push(Change::Entries(entries.to_vec()));
        }
        if append.close {
            self.notifications.push(Changed::Head { channel: line.id });
            self.changes.push(Change::Head(to.clone(), line.record.head));
        }
    }

    pub(super) fn init(
        &mut self,
        db: &Connection,
        now: u64,
        of: &Channel,
        events: &[Event],
        expect: Expect,
    ) -> Result<Head, Failed> {
        let (above, stamp) = match self.fresh_line(db, now, of) {
            Ok(old) => {
                let head = match &old {
                    Some(line) => line.record.head,
                    None => self.absent(db, of)?,
                };
                check(old.as_ref(), head, expect)?;
                let stamp = old.as_ref().map_or(now, |line| now.max(line.newest));
                if let Some(old) = old {
                    self.remove(db, of, old.id)?;
                }
                (head.cursor.seq, stamp)
            }
            // Of what cannot be read, nothing can be expected.
            Err(Failed::Sql(StoreError::Corrupt(_))) if expect == Expect::Any => {
                (self.remove_damaged(db, of)?.max(self.floor(db, of)?), now)
            }
            Err(error) => return Err(error),
        };
        // Goes on above the old head, so that the floor covers the replaced log too when this one is forgotten.
        let start = Cursor { epoch: epoch_of(resume::fresh_epoch(), of), seq: above, tag: 0 };
        let mut line = self.insert(db, now, of, start)?;
        for event in events {
            push(db, &mut line, of, event, stamp)?;
        }
        trim::trim(db, &mut line, &self.users.keep, now, events.len() as u64)?;
        let head = line.record.head;
        self.notifications.push(Changed::Head { channel: line.id });
        self.changes.push(Change::Head(of.clone(), head));
        self.put(of, line);
        Ok(head)
    }

    pub(super) fn delete(&mut self, db: &Connection, now: u64, channel: &Channel) -> Result<(), Failed> {
        match self.fresh_line(db, now, channel) {
            Ok(None) => return Ok(()),
            Ok(Some(line)) => self.forget(db, channel, &line)?,
            Err(Failed::Sql(StoreError::Corrupt(_))) => {
                let above = self.remove_damaged(db, channel)?;
                self.raise(db, channel, above)?;
            }
            Err(error) => return Err(error),
        }
        // A removed channel has no id for others to ask for.
        self.notifications.push(Changed::Anything);
        let head = self.absent(db, channel)?;
        self.changes.push(Change::Head(channel.clone(), head));
        Ok(())
    }

    /// Has the janitor look at one channel. Returns the id of the record that it had.
    pub(super) fn look_after(&mut self, db: &Connection, now: u64, channel: &Channel) -> Result<Option<i64>, Failed> {
        let found = self.line(db, channel)?.map(|line| line.id);
        if let Some(mut line) = self.fresh_line(db, now, channel)? {
            line.due = line.next_look(&self.users.keep, now);
            line.update_due(db)?;
            self.put(channel, line);
        }
        Ok(found)
    }

    /// The head of a channel that has no record.
    fn absent(&mut self, db: &Connection, channel: &Channel) -> Result<Head, Failed> {
        let floor = self.floor(db, channel)?;
        Ok(Record::absent(self.place.0, floor, channel).head)
    }

    fn floor(&mut self, db: &Connection, channel: &Channel) -> Result<u64, Failed> {
        let floor = match self.floors.entry(floor::bucket_of(channel)) {
            hash_map::Entry::Occupied(known) => *known.get(),
            hash_map::Entry::Vacant(none) => *none.insert(floors::of_bucket(db, floor::bucket_of(channel))?),
        };
        Ok(floor.max(self.place.1))
    }

    /// The channel's line as it is.
    fn line(&mut self, db: &Connection, channel: &Channel) -> Result<Option<Line>, Failed> {
        let known = match self.lines.entry(channel.clone()) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(none) => none.insert(Line::load(db, channel)?),
        };
        Ok(known.clone())
    }

    /// The channel's line, after retention was applied to it.
    fn fresh_line(&mut self, db: &Connection, now: u64, channel: &Channel) -> Result<Option<Line>, Failed> {
        let Some(mut line) = self.line(db, channel)? else { return Ok(None) };
        // Judged by the clock of who asks, not by the stamps of others: one whose clock is ahead would have all others drop
        // what is young.
        if trim::trim(db, &mut line, &self.users.keep, now, 0)? {
            self.put(channel, line.clone());
        }
        if trim::is_forgotten(db, &line, &self.users.keep, now)? {
            self.forget(db, channel, &line)?;
            return Ok(None);
        }
        Ok(Some(line))
    }

    fn put(&mut self, channel: &Channel, line: Line) {
        self.lines.insert(channel.clone(), Some(line));
        if !self.changed.contains(channel) {
            self.changed.push(channel.clone());
        }
    }

    fn insert(&mut self, db: &Connection, now: u64, channel: &Channel, start: Cursor) -> Result<Line, Failed> {
        let mut line = Line::new(start, now, 0);
        // Entries are to come; if none do, the first look is for nothing.
        line.due = line.next_look(&self.users.keep, now).min(trim::too_old_at(&self.users.keep, now));
        line.insert(db, channel)?;
        Ok(line)
    }

    /// Removes the record and raises the floor.
    fn forget(&mut self, db: &Connection, channel: &Channel, line: &Line) -> Result<(), Failed> {
        self.raise(db, channel, line.record.head.cursor.seq)?;
        self.remove(db, channel, line.id)
    }

    /// Raises the floor of the channel's bucket above `seq`.
    fn raise(&mut self, db: &Connection, channel: &Channel, seq: u64) -> Result<(), Failed> {
        let raised = floor::raised(self.floor(db, channel)?, seq);
        floors::write(db, floor::bucket_of(channel), raised)?;
        self.floors.insert(floor::bucket_of(channel), raised);
        Ok(())
    }

    /// Removes the record; its entries and keys go later.
    fn remove(&mut self, db: &Connection, channel: &Channel, id: i64) -> Result<(), Failed> {
        db.prepare_cached("DELETE FROM channels WHERE id = ?1")?.execute([id])?;
        db.prepare_cached("INSERT OR IGNORE INTO garbage (channel) VALUES (?1)")?.execute([id])?;
        self.left_garbage = true;
        self.lines.insert(channel.clone(), None);
        self.changed.retain(|changed| changed != channel);
        Ok(())
    }

    /// Removes a record that cannot be read. Returns to which `seq` its log may have come.
    fn remove_damaged(&mut self, db: &Connection, channel: &Channel) -> Result<u64, Failed> {
        let sql = "SELECT id, head_seq, earliest_seq FROM channels WHERE name = ?1";
        let found = db
            .prepare_cached(sql)?
            .query_row([channel.as_str()], |row| Ok((row.get(0)?, [row.get::<_, i64>(1)?, row.get(2)?])));
        let (id, seqs) = found?;
        let sql = "SELECT max(seq) FROM entries WHERE channel = ?1";
        let last: Option<i64> = db.prepare_cached(sql)?.query_row([id], |row| row.get(0))?;
        self.remove(db, channel, id)?;
        Ok(seqs.into_iter().chain(last).map(|seq| seq as u64).filter(|seq| *seq <= MOST_SEQ).max().unwrap_or(0))
    }

    /// What each event's key was appended as before, if it was; also for keys that the batch itself repeats, with the
    /// receipt of [`push_all`] then.
    fn judge(
        &self,
        db: &Connection,
        now: u64,
        line: Option<&Line>,
        events: &[Event],
        prints: &Prints,
    ) -> Result<Vec<Option<Receipt>>, Failed> {
        let since = self.users.keep.oldest_key(now);
        judge(events, prints, |key| match line {
            Some(line) => find_key(db, line, key, since),
            None => Ok(None),
        })
    }
}

fn check(line: Option<&Line>, head: Head, expect: Expect) -> Result<(), Failed> {
    let holds = match expect {
        Expect::Any => true,
        Expect::NeverUsed => line.is_none(),
        Expect::At(cursor) => cursor == head.cursor,
    };
    if holds { Ok(()) } else { Err(Failed::Refused(StoreError::Conflict { head })) }
}

/// So many rows are remembered between transactions.
const MOST_LINES: usize = 4096;
