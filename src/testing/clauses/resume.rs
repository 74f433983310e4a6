//! Resumes that continue only on proof, and the other starts.

use super::super::{
    case::{Case, channel, numbered, seqs, texts, timed},
    harness::Harness,
};
use crate::{
    cursor::Cursor,
    event::MAX_TIME,
    store::{Append, Limit, Outcome, Reason, Retention, Start},
};

/// A resume from a cursor of the log is `Continued` and returns exactly the entries after it. A cursor with another tag or epoch
/// is reset with `EpochChanged`, and one whose `seq` is above the head with `Ahead`.
///
/// # Panics
/// When the clause does not hold.
pub async fn continues_only_on_proof<H: Harness>(harness: &H) {
    let case = Case::new("continues_only_on_proof", harness).await;
    let a = channel("a");
    let start = case.read(&a, Start::Latest).await.next;
    let entries = case.append(&a, numbered(1, 8)).await.entries;
    let cursors: Vec<_> = std::iter::once(start).chain(entries.iter().map(|entry| entry.cursor)).collect();
    let head = case.head(&a).await.cursor;
    for (passed, cursor) in cursors.iter().enumerate() {
        let page = case.continued(&a, *cursor).await;
        case.same("the entries after a cursor", page.entries, entries.iter().skip(passed).cloned().collect());
        let forged = [Cursor { tag: cursor.tag ^ 1, ..*cursor }, Cursor { epoch: cursor.epoch ^ 1, ..*cursor }];
        for forged in forged {
            is_reset(&case, forged, Reason::EpochChanged).await;
        }
    }
    for seq in [head.seq + 1, u64::MAX] {
        is_reset(&case, Cursor { seq, ..head }, Reason::Ahead).await;
        is_reset(&case, Cursor { seq, epoch: head.epoch ^ 1, ..head }, Reason::EpochChanged).await;
    }
}

/// Checks that the resume is reset for `reason`, and that its page holds all retained entries.
async fn is_reset<H: Harness>(case: &Case<'_, H>, cursor: Cursor, reason: Reason) {
    let a = channel("a");
    let page = case.read(&a, Start::After(cursor)).await;
    case.same(&format!("the outcome of a resume from {cursor:?}"), page.outcome, Outcome::Reset(reason));
    let earliest = case.read(&a, Start::Earliest).await;
    case.same("where the page of a reset starts", page.from, earliest.from);
    case.same("the entries in the page of a reset", page.entries, earliest.entries);
}

/// A cursor below the predecessor of the oldest retained entry is `Trimmed`; the cursor of that predecessor still continues.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_cursor_before_dropped_entries_is_trimmed<H: Harness>(harness: &H) {
    let retention = Retention::default().events(5);
    let case = Case::keeping("a_cursor_before_dropped_entries_is_trimmed", harness, retention).await;
    let a = channel("a");
    let mut cursors = vec![case.read(&a, Start::Latest).await.next];
    for n in 1..=40 {
        cursors.push(case.append(&a, [n.to_string()]).await.head.cursor);
    }
    let earliest = case.read(&a, Start::Earliest).await;
    let head = earliest.head.cursor;
    case.holds("a position above 0, because entries were dropped", earliest.from.seq, |seq| *seq > 0);
    for cursor in cursors {
        if cursor.seq < earliest.from.seq {
            is_reset(&case, cursor, Reason::Trimmed).await;
        } else {
            let page = case.continued(&a, cursor).await;
            case.same("the entries after a cursor", seqs(&page.entries), (cursor.seq + 1..=head.seq).collect());
            is_reset(&case, Cursor { tag: cursor.tag ^ 1, ..cursor }, Reason::EpochChanged).await;
        }
    }
}

/// When the tail of a log was lost, the cursors of the lost entries are `Ahead`. Once new entries have their `seq`, these cursors
/// are `EpochChanged`, however long the log becomes. Cursors before the lost tail continue.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_regrown_tail_is_another_history<H: Harness>(harness: &H) {
    let case = Case::new("a_regrown_tail_is_another_history", harness).await;
    let a = channel("a");
    let old = case.append(&a, numbered(1, 10)).await.entries;
    if case.lose_tail(&a, 3).await.is_none() {
        return;
    }
    let lost: Vec<_> = old.iter().skip(7).map(|entry| entry.cursor).collect();
    for cursor in &lost {
        is_reset(&case, *cursor, Reason::Ahead).await;
    }
    for n in 0..6 {
        case.append(&a, [format!("new {n}")]).await;
        for cursor in &lost {
            let reason = if cursor.seq > case.head(&a).await.cursor.seq { Reason::Ahead } else { Reason::EpochChanged };
            is_reset(&case, *cursor, reason).await;
        }
    }
    for kept in old.iter().take(7) {
        let page = case.continued(&a, kept.cursor).await;
        case.same(
            "the last seq after a cursor that was not lost",
            seqs(&page.entries).last().copied(),
            Some(old_end(&old) + 3),
        );
    }
}

fn old_end(old: &[crate::store::Entry]) -> u64 {
    old.last().map_or(0, |last| last.cursor.seq)
}

/// `Earliest`, `Latest` and `Last` start at the oldest entry, at the head, and at the n-th last entry, and never reset.
///
/// # Panics
/// When the clause does not hold.
pub async fn starts_at_earliest_latest_and_last<H: Harness>(harness: &H) {
    let retention = Retention::default().events(10);
    let case = Case::keeping("starts_at_earliest_latest_and_last", harness, retention).await;
    let a = channel("a");
    for start in [Start::Earliest, Start::Latest, Start::Last(5)] {
        let page = case.read(&a, start).await;
        case.same(
            "the outcome and the number of entries of an absent channel",
            (page.outcome, page.entries.len()),
            (Outcome::Continued, 0),
        );
    }
    for n in numbered(1, 30) {
        case.append(&a, [n]).await;
    }
    let all = case.read(&a, Start::Earliest).await;
    let head = all.head.cursor;
    let kept = all.entries.len() as u64;
    for n in [0, 1, 3, kept, kept + 5, u64::MAX] {
        let page = case.read(&a, Start::Last(n)).await;
        case.same("the outcome of the last entries", page.outcome, Outcome::Continued);
        let expected: Vec<_> = (head.seq - n.min(kept) + 1..=head.seq).collect();
        case.same(&format!("the last {n} entries"), seqs(&page.entries), expected);
        case.same("the position after the last entries", page.next, head);
        case.continued(&a, page.from).await;
    }
    let page = case.read_at_most(&a, Start::Last(5), Limit { events: 2, ..Limit::default() }).await;
    case.same("a page of the last entries", seqs(&page.entries), vec![head.seq - 4, head.seq - 3]);
}

/// A start at a time filters only its own page; reading continues from the page's `next` by `seq`, unfiltered.
///
/// # Panics
/// When the clause does not hold.
pub async fn starts_at_a_time_and_goes_on_by_seq<H: Harness>(harness: &H) {
    let case = Case::new("starts_at_a_time_and_goes_on_by_seq", harness).await;
    let a = channel("a");
    let times = [10, 50, 20, 40, 40, 30, 5];
    case.append_all(&a, Append::new(times.map(|time| timed(&time.to_string(), time)))).await;
    for (after, expected) in [
        (0, vec!["10", "50", "20", "40", "40", "30", "5"]),
        (10, vec!["50", "20", "40", "40", "30"]),
        (39, vec!["50", "40", "40"]),
        (49, vec!["50"]),
        (50, vec![]),
        (u64::MAX, vec![]),
    ] {
        let page = case.read(&a, Start::Time(after)).await;
        case.same(&format!("the texts after time {after}"), texts(&page.entries), expected);
        case.same("the outcome of a time", page.outcome, Outcome::Continued);
        let rest = case.continued(&a, page.next).await.entries;
        case.holds("no entry with a later time after the page", rest, |rest| {
            rest.iter().all(|entry| entry.time <= after)
        });
    }
    let page = case.read_at_most(&a, Start::Time(39), Limit { events: 1, ..Limit::default() }).await;
    case.same("the texts of a page of one entry", texts(&page.entries), vec!["50"]);
    let rest = case.continued(&a, page.next).await;
    case.same("the texts after the page, unfiltered", texts(&rest.entries), vec!["20", "40", "40", "30", "5"]);
    let late = case.read(&a, Start::Time(50)).await.next;
    case.append_all(&a, Append::new([timed("back-dated", 1)])).await;
    case.same(
        "the texts after a back-dated event was appended",
        texts(&case.continued(&a, late).await.entries),
        vec!["back-dated"],
    );
}

/// A start at a time `t` is `Trimmed` if and only if an entry was dropped that has `time > t` and was appended after `t`, also if
/// that entry was back-dated.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_time_is_trimmed_when_a_newer_entry_was_dropped<H: Harness>(harness: &H) {
    let retention = Retention::default().events(2);
    let case = Case::keeping("a_time_is_trimmed_when_a_newer_entry_was_dropped", harness, retention).await;
    let a = channel("a");
    for time in [100, 900, 200, 300, 400, 500, 600, 700] {
        case.append_all(&a, Append::new([timed(&time.to_string(), time)])).await;
    }
    let oldest = case.read(&a, Start::Earliest).await;
    case.holds("the entry with the largest time to be dropped", texts(&oldest.entries), |texts| {
        !texts.contains(&"900")
    });
    for (after, outcome) in [
        (0, Outcome::Reset(Reason::Trimmed)),
        (899, Outcome::Reset(Reason::Trimmed)),
        (900, Outcome::Continued),
        (901, Outcome::Continued),
    ] {
        let page = case.read(&a, Start::Time(after)).await;
        case.same(&format!("the outcome of time {after}"), page.outcome, outcome);
        let kept: Vec<_> = oldest.entries.iter().filter(|entry| entry.time > after).cloned().collect();
        case.same(&format!("the retained entries after time {after}"), page.entries, kept);
    }
}

/// An entry that is dated after its append is found by its own time while it is retained. Once it is dropped, starts before its
/// append are `Trimmed`, and starts at or after the append of the newest dropped entry continue.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_time_ahead_of_its_append_does_not_stay_trimmed<H: Harness>(harness: &H) {
    let retention = Retention::default().events(3);
    let case = Case::keeping("a_time_ahead_of_its_append_does_not_stay_trimmed", harness, retention).await;
    let a = channel("a");
    let ahead = case.append_all(&a, Append::new([timed("ahead", MAX_TIME)])).await.entries;
    let appended = ahead.first().map_or(0, |entry| entry.appended);
    let page = case.read(&a, Start::Time(appended)).await;
    case.same(
        "the outcome and the entries while the entry dated ahead is retained",
        (page.outcome, page.entries),
        (Outcome::Continued, ahead),
    );
    let mut all = Vec::new();
    for n in numbered(1, 20) {
        case.advance(1).await;
        all.extend(case.append(&a, [n]).await.entries);
    }
    let oldest = case.read(&a, Start::Earliest).await;
    case.holds("the entry dated ahead to be dropped", oldest.from.seq, |seq| *seq > 1);
    let newest_dropped = all.iter().rfind(|entry| entry.cursor.seq <= oldest.from.seq);
    let newest_dropped = newest_dropped.map_or(appended, |entry| entry.appended);
    for (after, outcome) in [
        (0, Outcome::Reset(Reason::Trimmed)),
        (appended - 1, Outcome::Reset(Reason::Trimmed)),
        (newest_dropped, Outcome::Continued),
        (newest_dropped + 1, Outcome::Continued),
        (MAX_TIME, Outcome::Continued),
    ] {
        let page = case.read(&a, Start::Time(after)).await;
        case.same(&format!("the outcome of time {after}"), page.outcome, outcome);
        let kept: Vec<_> = oldest.entries.iter().filter(|entry| entry.time > after).cloned().collect();
        case.same(&format!("the retained entries after time {after}"), page.entries, kept);
    }
}
