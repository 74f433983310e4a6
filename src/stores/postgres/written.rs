//! The server's answer to a write, split into the results of the group's appends. Asks nothing.

use tokio_postgres::Row;

use crate::{
    channel::Channel,
    cursor::Cursor,
    event::Event,
    store::{Append, Appended, Head, Receipt, StoreError, kit::Sequencer},
};

/// What the server did.
pub(super) struct Written {
    pub(super) status: i32,
    /// The first event with a key that stands for a different event: then nothing was done.
    pub(super) reused: Option<usize>,
    pub(super) head: Head,
    /// The position before the first new entry.
    pub(super) base: Cursor,
    pub(super) stamp: u64,
    pub(super) tags: Vec<u32>,
    /// `None` when no event had a key, so that all are new.
    pub(super) verdicts: Option<Vec<Verdict>>,
}

/// What became of an event.
#[derive(Clone, Copy)]
pub(super) enum Verdict {
    /// Its key was known.
    Known(Receipt),
    /// It is the next new entry.
    New,
    /// It repeats the `nth` new entry, another event of the same call.
    Again(u64),
}

pub(super) fn from_row(row: &Row, tags: Vec<u32>) -> Result<Written, tokio_postgres::Error> {
    let epoch = row.try_get::<_, i64>("o_epoch")? as u64;
    let cursor = |seq, tag| -> Result<Cursor, tokio_postgres::Error> {
        Ok(Cursor { epoch, seq: row.try_get::<_, i64>(seq)? as u64, tag: row.try_get::<_, i32>(tag)? as u32 })
    };
    let head = Head { cursor: cursor("o_seq", "o_tag")?, closed: row.try_get("o_closed")? };
    Ok(Written {
        status: row.try_get("o_status")?,
        reused: row.try_get::<_, Option<i64>>("o_reused")?.map(|nth| nth.saturating_sub(1) as usize),
        head,
        base: cursor("o_base_seq", "o_base_tag")?,
        stamp: row.try_get::<_, i64>("o_stamp")? as u64,
        tags,
        verdicts: row
            .try_get::<_, Option<Vec<bool>>>("o_fresh")?
            .map(|fresh| verdicts(row, epoch, &fresh))
            .transpose()?,
    })
}

fn verdicts(row: &Row, epoch: u64, fresh: &[bool]) -> Result<Vec<Verdict>, tokio_postgres::Error> {
    let seqs: Vec<Option<i64>> = row.try_get("o_seqs")?;
    let tags: Vec<Option<i32>> = row.try_get("o_tags")?;
    let times: Vec<Option<i64>> = row.try_get("o_times")?;
    let nth: Vec<Option<i64>> = row.try_get("o_nth")?;
    let known = seqs.into_iter().zip(tags).zip(times);
    let all = fresh.iter().zip(nth).zip(known).map(|((fresh, nth), ((seq, tag), time))| match (seq, tag, time) {
        (Some(seq), Some(tag), Some(time)) => Verdict::Known(Receipt {
            cursor: Cursor { epoch, seq: seq as u64, tag: tag as u32 },
            time: time as u64,
            duplicate: true,
        }),
        _ if *fresh => Verdict::New,
        _ => Verdict::Again(nth.unwrap_or(0) as u64),
    });
    Ok(all.collect())
}

/// The result of an init.
pub(super) fn init_result(written: Written) -> Result<Head, StoreError> {
    match written.status {
        0 => Ok(written.head),
        _ => Err(StoreError::Conflict { head: written.head }),
    }
}

/// The results of a group's appends, in order: as if they had been made one after the other.
pub(super) fn append_results(
    channel: &Channel,
    written: Written,
    group: Vec<Append>,
) -> Vec<Result<Appended, StoreError>> {
    let log = Sequencer::new(channel, written.base, written.stamp);
    let mut splitter = ResultSplitter { log, at: 0, new: Vec::new(), written };
    let mut answers: Vec<_> = group.into_iter().map(|append| splitter.next_append(append)).collect();
    // Only the last append of a call can close the channel, and its head shows that.
    if let Some(Ok(last)) = answers.last_mut() {
        last.head = splitter.written.head;
    }
    answers
}

/// Splits the answer for a group.
struct ResultSplitter<'a> {
    /// Makes the new entries.
    log: Sequencer<'a>,
    written: Written,
    /// How many events have been handled.
    at: usize,
    /// The receipts of the new entries so far.
    new: Vec<Receipt>,
}

impl ResultSplitter<'_> {
    fn next_append(&mut self, append: Append) -> Result<Appended, StoreError> {
        let (from, count) = (self.at, append.events.len());
        self.at += count;
        match self.written.status {
            0 => {}
            // In a group on a closed channel, appends that add nothing new succeed.
            2 if self.all_known(from, count) => {}
            2 => return Err(StoreError::Closed { head: self.written.head }),
            _ => return Err(StoreError::Conflict { head: self.written.head }),
        }
        let mut appended = Appended { receipts: Vec::new(), entries: Vec::new(), head: self.written.head };
        for (nth, event) in append.events.into_iter().enumerate() {
            self.event(from + nth, event, &mut appended);
        }
        if self.written.status == 0 {
            appended.head = Head { cursor: self.log.position(), closed: self.written.head.closed };
        }
        Ok(appended)
    }

    fn event(&mut self, at: usize, event: Event, appended: &mut Appended) {
        let verdict = match &self.written.verdicts {
            None => Some(Verdict::New),
            Some(verdicts) => verdicts.get(at).copied(),
        };
        let receipt = match verdict {
            Some(Verdict::Known(receipt)) => receipt,
            Some(Verdict::Again(nth)) => {
                let first = (nth as usize).checked_sub(1).and_then(|index| self.new.get(index));
                // The first event with a key precedes those that repeat it.
                let none = Receipt { cursor: self.log.position(), time: self.written.stamp, duplicate: true };
                Receipt { duplicate: true, ..first.copied().unwrap_or(none) }
            }
            Some(Verdict::New) | None => {
                let tag = self.written.tags.get(at).copied().unwrap_or_default();
                let entry = self.log.entry(event, tag);
                let receipt = Receipt::appended(entry.cursor, entry.time);
                self.new.push(receipt);
                appended.entries.push(entry);
                receipt
            }
        };
        appended.receipts.push(receipt);
    }

    fn all_known(&self, from: usize, count: usize) -> bool {
        let verdicts = self.written.verdicts.as_ref().and_then(|all| all.get(from..from + count));
        verdicts.is_some_and(|verdicts| verdicts.iter().all(|verdict| matches!(verdict, Verdict::Known(_))))
    }
}
