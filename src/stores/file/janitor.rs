//! Background work: retention of idle channels, expired keys, rows that removed channels left behind. One step is part
//! of each transaction; further steps run while the writer is idle. Each task of a step has a savepoint, so that one
//! that fails does not fail the requests in the same transaction.

use std::{
    error::Error as _,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{
    channel_row::{CHANNEL_COLUMNS, ChannelRow, placeholder_name, read_name},
    commit_error::OperationError,
    core::Core,
    error::corrupt,
    retention,
    savepoint::{SavepointError, in_savepoint},
    shared_retention::SharedRetention,
    transaction::TxState,
};
use crate::{
    channel::Channel,
    store::{StoreError, kit::Keep},
    stores::outage_log::Part,
};

pub(super) struct Janitor {
    /// In Unix milliseconds; `None` if there is work left.
    next_run: Option<u64>,
    /// How long the writer waits between checks for work while no requests come.
    pause: Duration,
    /// No work is done until then, since some has failed.
    postponed_until: Option<Instant>,
    /// The shared retention at the last step.
    last_keep: Keep,
    /// The last channel id whose `due` was checked against the shared retention, which may have become shorter since
    /// `due` was written. `None` once all are checked.
    checked_up_to: Option<i64>,
}

impl Janitor {
    pub(super) fn new(keep: &Keep) -> Self {
        let pause = Duration::from_millis(keep.period() / 4).clamp(Duration::from_millis(100), MAX_PAUSE);
        Self { next_run: None, pause, postponed_until: None, last_keep: *keep, checked_up_to: Some(0) }
    }

    /// There is work to do.
    pub(super) fn wake(&mut self) {
        self.next_run = None;
    }

    /// How long the writer may wait before it checks for work.
    pub(super) fn pause(&self) -> Duration {
        if self.next_run.is_none() && !self.is_postponed() { BETWEEN_STEPS } else { self.pause }
    }

    /// Does no work for [`POSTPONE_FOR`], since it would fail again.
    pub(super) fn postpone(&mut self, core: &Core, error: &StoreError) {
        self.postponed_until = Some(Instant::now() + POSTPONE_FOR);
        core.upkeep.janitor_is_behind();
        if core.health.outages.failed(Part::Upkeep) {
            let (file, source) = (core.paths.db.display(), error.source());
            tracing::warn!(%file, %error, source, "maintenance of an event file fails; trying again every {POSTPONE_FOR:?}");
        }
    }

    fn is_postponed(&self) -> bool {
        self.postponed_until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether there is enough work for a transaction of its own. Reads only.
    pub(super) fn is_due(&mut self, db: &Connection, retention: &SharedRetention, core: &Core) -> bool {
        if self.is_postponed() {
            return false;
        }
        let now = core.now();
        let sql = "SELECT EXISTS (SELECT 1 FROM channels WHERE due <= ?1) OR EXISTS (SELECT 1 FROM garbage)
                     OR EXISTS (SELECT 1 FROM keys WHERE came < ?2)";
        let bounds = (now as i64, retention.keep.oldest_key(now) as i64);
        let due = db.prepare_cached(sql).and_then(|mut statement| statement.query_row(bounds, |row| row.get(0)));
        let due = self.next_run.is_none() || retention.due() <= now || due.unwrap_or(false);
        if due {
            self.next_run = None;
        } else {
            core.upkeep.janitor_is_done();
        }
        due
    }

    /// Does a step of the work, if it is time. Fails if the database has rolled back the whole transaction, which then
    /// has to be repeated.
    pub(super) fn run_step(
        &mut self,
        db: &Connection,
        state: &mut TxState,
        core: &Core,
        now: u64,
    ) -> Result<(), OperationError> {
        let keep = state.retention.keep;
        // A process that kept more is gone.
        if keep.largest(&std::mem::replace(&mut self.last_keep, keep)) != keep {
            (self.next_run, self.checked_up_to) = (None, Some(0));
        }
        if self.is_postponed() || self.next_run.is_some_and(|next| now < next) {
            return Ok(());
        }
        let mut step = Step { db, core, now, failed: None };
        step.in_savepoint(state, |state| Ok(state.retention.announce(db, now)?))?;
        let mut done = step.maintain_due(state)?;
        if let Some(after) = self.checked_up_to {
            let (found, checked_up_to) =
                step.in_savepoint(state, |_| bring_forward(db, &keep, now, after))?.unwrap_or_default();
            (done, self.checked_up_to) = (done + found, checked_up_to);
        }
        done += step.in_savepoint(state, |_| Ok(retention::expire_keys(db, &keep, now)?))?.unwrap_or(0);
        done += step.in_savepoint(state, |_| Ok(retention::collect_garbage(db)?))?.unwrap_or(0);
        done += step.in_savepoint(state, |_| Ok(retention::shrink(db)?))?.unwrap_or(0);
        let next =
            step.in_savepoint(state, |state| Ok(next_due(db, now, keep.period())?.min(state.retention.due())))?;
        let is_done = done == 0 && self.checked_up_to.is_none();
        match step.failed {
            Some(error) => self.postpone(core, &error),
            None if is_done => note_done(core),
            None => core.upkeep.janitor_is_behind(),
        }
        self.next_run = next.filter(|_| is_done);
        Ok(())
    }
}

fn note_done(core: &Core) {
    core.upkeep.janitor_is_done();
    if core.health.outages.recovered(Part::Upkeep) {
        tracing::info!(file = %core.paths.db.display(), "maintenance of an event file succeeds again");
    }
}

struct Step<'a> {
    db: &'a Connection,
    core: &'a Core,
    now: u64,
    /// The first failure that does not concern one channel only.
    failed: Option<StoreError>,
}

impl Step<'_> {
    /// Does all of a task, or none of it. `None` if it failed, and only it was rolled back.
    fn in_savepoint<T>(
        &mut self,
        state: &mut TxState,
        task: impl FnOnce(&mut TxState) -> Result<T, OperationError>,
    ) -> Result<Option<T>, OperationError> {
        match self.try_in_savepoint(state, task)? {
            Ok(done) => Ok(Some(done)),
            Err(error) => {
                self.failed.get_or_insert(error);
                Ok(None)
            }
        }
    }

    fn try_in_savepoint<T>(
        &mut self,
        state: &mut TxState,
        task: impl FnOnce(&mut TxState) -> Result<T, OperationError>,
    ) -> Result<Result<T, StoreError>, OperationError> {
        let db = self.db;
        let done = in_savepoint(db, || {
            let done = task(state)?;
            state.flush(db)?;
            Ok(done)
        });
        match done {
            Ok(done) => Ok(Ok(done)),
            Err(SavepointError::TransactionLost(error)) => Err(error),
            Err(SavepointError::RolledBack(OperationError::Aborted(error) | OperationError::Refused(error))) => {
                state.clear_cache();
                Ok(Err(error))
            }
        }
    }

    /// Maintains some channels that are due; returns how many.
    fn maintain_due(&mut self, state: &mut TxState) -> Result<usize, OperationError> {
        let (db, now) = (self.db, self.now);
        let due = self.in_savepoint(state, |_| Ok(due_channels(db, now)?))?.unwrap_or_default();
        for id in &due {
            let mut name = None;
            let result = self.try_in_savepoint(state, |state| {
                let channel = name.insert(name_of(db, *id)?);
                // If the name in the row is damaged, the index does not find this row by it, but none or another.
                match state.writes(db, now).maintain(channel)? {
                    Some(found) if found == *id => Ok(()),
                    _ => Err(corrupt(format!("looking up the name of channel {id} does not find it")).into()),
                }
            })?;
            if let Err(error) = result {
                let name = name.map_or_else(|| placeholder_name(*id), |name| name.as_str().to_owned());
                self.core.quarantine.report(&self.core.paths.db, &name, &error);
                // Postponed, so that it does not delay other channels, here and in other processes.
                let later = now.saturating_add(DAMAGED_DELAY_MS);
                self.in_savepoint(state, |_| Ok(update_due(db, *id, later)?))?;
            }
        }
        Ok(due.len())
    }
}

/// The channels that are due first. Read from the index alone, so that a damaged row does not affect the others.
fn due_channels(db: &Connection, now: u64) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT id FROM channels WHERE due <= ?1 ORDER BY due LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map((now as i64, MAINTAINED_PER_STEP as i64), |row| row.get(0))?;
    rows.collect()
}

fn name_of(db: &Connection, id: i64) -> Result<Channel, OperationError> {
    let mut statement = db.prepare_cached("SELECT name FROM channels WHERE id = ?1")?;
    Ok(statement.query_row([id], |row| Ok(read_name(row, 0)))??)
}

/// Makes channels due whose `due` is too late for the current retention. Returns how many, and the last id that it
/// checked; `None` if no more follow.
fn bring_forward(db: &Connection, keep: &Keep, now: u64, after: i64) -> Result<(usize, Option<i64>), OperationError> {
    let sql = format!("SELECT {CHANNEL_COLUMNS} FROM channels WHERE id > ?1 ORDER BY id LIMIT ?2");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query((after, CHECKED_PER_STEP as i64))?;
    let (mut count, mut last, mut late) = (0, after, Vec::new());
    while let Some(row) = rows.next()? {
        (count, last) = (count + 1, row.get(0)?);
        let is_late = match ChannelRow::from_row(row) {
            Ok(channel_row) => {
                retention::is_exceeded(keep, &channel_row, now)
                    || retention::next_maintenance(&channel_row, keep, now) < channel_row.log.due
            }
            // Maintaining it reports the damage.
            Err(_) => true,
        };
        if is_late {
            late.push(last);
        }
    }
    for id in &late {
        update_due(db, *id, now)?;
    }
    Ok((late.len(), (count == CHECKED_PER_STEP).then_some(last)))
}

fn update_due(db: &Connection, id: i64, due: u64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE channels SET due = ?1 WHERE id = ?2")?.execute((due as i64, id)).map(|_| ())
}

/// When the first channel is due, at most `period` from now, since keys may expire by then.
fn next_due(db: &Connection, now: u64, period: u64) -> rusqlite::Result<u64> {
    let first: Option<i64> = db.prepare_cached("SELECT min(due) FROM channels")?.query_row([], |row| row.get(0))?;
    let latest = now.saturating_add(period);
    Ok(first.map_or(latest, |first| (first as u64).clamp(now + 1, latest)))
}

/// Channels maintained per step.
const MAINTAINED_PER_STEP: usize = 4;

/// Channels checked per step, which are only read.
const CHECKED_PER_STEP: usize = 64;

/// The longest that the writer waits between checks for work.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The pause between steps while work is left, so that other processes can write.
const BETWEEN_STEPS: Duration = Duration::from_millis(5);

/// How long no work is done after a failure.
const POSTPONE_FOR: Duration = Duration::from_secs(10);

/// When a damaged channel is due again, in milliseconds.
const DAMAGED_DELAY_MS: u64 = 60 * 60 * 1000;
