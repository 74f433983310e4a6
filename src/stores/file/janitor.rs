//! What has to be done some time: channels that nobody appends to, keys, what removed channels left behind. A little with
//! each transaction, the rest when the writer is idle.

use std::time::Duration;

use rusqlite::Connection;

use super::{
    apply::{Desk, Failed},
    error::corrupt,
    trim,
    writer::LONGEST_PAUSE,
};
use crate::{channel::Channel, store::Keep};

pub(super) struct Janitor {
    /// In Unix milliseconds; `None` when the last look has left something to do.
    next: Option<u64>,
    /// How long to wait for the next look when nobody appends.
    pause: Duration,
}

impl Janitor {
    pub(super) fn new(keep: &Keep) -> Self {
        let pause = Duration::from_millis(keep.period() / 4).clamp(Duration::from_millis(100), LONGEST_PAUSE);
        Self { next: None, pause }
    }

    /// There is something to do.
    pub(super) fn call(&mut self) {
        self.next = None;
    }

    /// How long the writer may wait before it looks.
    pub(super) fn pause(&self) -> Duration {
        if self.next.is_none() { BETWEEN_STEPS } else { self.pause }
    }

    /// Whether a transaction of its own is worth it. Reads only.
    pub(super) fn is_due(&mut self, db: &Connection, now: u64) -> bool {
        let sql = "SELECT EXISTS (SELECT 1 FROM channels WHERE due <= ?1) OR EXISTS (SELECT 1 FROM garbage)";
        let due = db.prepare_cached(sql).and_then(|mut statement| statement.query_row([now as i64], |row| row.get(0)));
        let due = self.next.is_none() || due.unwrap_or(false);
        if due {
            self.next = None;
        }
        due
    }

    /// Does a step of it, if it is time.
    pub(super) fn work(&mut self, db: &Connection, desk: &mut Desk, now: u64) -> Result<(), Failed> {
        if self.next.is_some_and(|next| now < next) {
            return Ok(());
        }
        let looked_after = look_after(db, desk, now)?;
        let collected = trim::expire_keys(db, &desk.keep, now)? + trim::collect_garbage(db)? + trim::shrink(db)?;
        let nothing = looked_after < AT_ONCE && collected == 0;
        self.next = nothing.then_some(next_due(db, now, desk.keep.period())?);
        Ok(())
    }
}

fn look_after(db: &Connection, desk: &mut Desk, now: u64) -> Result<usize, Failed> {
    let sql = "SELECT name FROM channels WHERE due <= ?1 ORDER BY due LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let names = statement.query_map((now as i64, AT_ONCE as i64), |row| row.get::<_, String>(0))?;
    let names: Vec<_> = names.collect::<Result<_, _>>()?;
    for name in &names {
        let channel = Channel::new(name).map_err(|error| corrupt(format!("a channel's name: {error}")))?;
        desk.look_after(db, now, &channel)?;
    }
    Ok(names.len())
}

/// When the first channel is due. One that comes meanwhile is due later than that.
fn next_due(db: &Connection, now: u64, period: u64) -> rusqlite::Result<u64> {
    let first: Option<i64> = db.prepare_cached("SELECT min(due) FROM channels")?.query_row([], |row| row.get(0))?;
    let latest = now.saturating_add(period);
    Ok(first.map_or(latest, |first| (first as u64).clamp(now + 1, latest)))
}

/// So many channels are looked at in one step.
const AT_ONCE: usize = 4;

/// Between two steps of work that is left, so that others can write.
const BETWEEN_STEPS: Duration = Duration::from_millis(5);
