//! Compares a page with the model.

use super::log::ModelLog;
use crate::{
    cursor::Cursor,
    store::{Entry, Limit, Outcome, Page, Start},
    testing::{case::Case, harness::Harness},
};

/// Checks that the page holds the model's entries, from the correct position and without gaps.
pub(super) fn check_page<H: Harness>(
    case: &Case<'_, H>,
    log: &ModelLog,
    earliest: Cursor,
    start: Start,
    limit: Limit,
    page: &Page,
) {
    let head = log.head().cursor;
    let outcome = match start {
        Start::Beginning | Start::Earliest | Start::Latest | Start::Last(_) => Outcome::Continued,
        Start::After(cursor) => log.outcome(cursor, earliest.seq),
        Start::Time(time) => {
            let allowed = log.outcomes_of_time(time, earliest.seq);
            case.holds(&format!("one of {allowed:?} for {start:?}"), page.outcome, |outcome| allowed.contains(outcome));
            page.outcome
        }
    };
    case.same(&format!("the outcome of {start:?} from {earliest:?} to {head:?}"), page.outcome, outcome);
    let from = match (start, outcome) {
        (Start::Latest, _) => head.seq,
        (Start::Last(n), _) => head.seq.saturating_sub(n).max(earliest.seq),
        (Start::After(cursor), Outcome::Continued) => cursor.seq,
        _ => earliest.seq,
    };
    let after = if let Start::Time(time) = start { Some(time) } else { None };
    let due = || log.after(from).filter(|entry| after.is_none_or(|time| entry.time > time));
    let expected: Vec<_> = due().take(page.entries.len()).cloned().collect();
    case.same(&format!("the entries of {start:?}"), &page.entries, &expected);
    case.same("the position of a page", Some(page.from), log.position(page.from.seq));
    if after.is_none() {
        case.same("the seq where a page starts", page.from.seq, from);
    }
    check_bounds(case, limit, page, due().count());
    // Nothing that is due lies between the last entry and the position after the page.
    let last = page.entries.last().map_or(page.from, |last| last.cursor);
    case.same("the position after a page", Some(page.next), log.position(page.next.seq));
    let skipped = due().filter(|entry| (last.seq + 1..=page.next.seq).contains(&entry.cursor.seq)).count();
    case.same("the number of entries skipped at the end of a page", skipped, 0);
    case.holds("a position at or after the last entry", page.next.seq, |next| *next >= last.seq);
    if after.is_none() {
        case.same("the position after a page", page.next, last);
    }
}

fn check_bounds<H: Harness>(case: &Case<'_, H>, limit: Limit, page: &Page, due: usize) {
    let (count, bytes) = (page.entries.len(), page.entries.iter().map(Entry::size).sum::<usize>());
    case.holds(&format!("a page within {limit:?}"), (count, bytes), |(count, bytes)| {
        *count <= limit.events && (*bytes <= limit.bytes || *count == 1)
    });
    case.holds("at least one entry when one is due", count, |count| *count > 0 || limit.events == 0 || due == 0);
}
