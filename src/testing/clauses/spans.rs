//! How long entries, keys and records are kept, extreme limits, and health.

use std::time::Duration;

use super::super::{
    case::{Case, channel, keyed, numbered, texts, timed},
    harness::Harness,
};
use crate::store::{Append, Expect, Health, Limit, Outcome, Reason, Retention, Start, Store, StoreError};

/// A start at a time is `Trimmed` if an entry with a later time was dropped because of its bytes or age, or by an init with more
/// events than are kept, even if no entry is left. After an init that keeps all of its events, nothing counts as dropped.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_time_is_trimmed_however_the_entry_was_dropped<H: Harness>(harness: &H) {
    let unit = harness.time().unit();
    let retention = Retention::default().bytes(400).age(unit * 40);
    let case = Case::keeping("a_time_is_trimmed_however_the_entry_was_dropped", harness, retention).await;
    let (bytes, age, init) = (channel("bytes"), channel("age"), channel("init"));
    for time in [900, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100] {
        case.append_all(&bytes, Append::new([timed("x", time)])).await;
    }
    case.append_all(&age, Append::new([timed("x", 900)])).await;
    let events = (0..20).map(|n| timed("x", 900 - n)).collect();
    case.done("an init", case.store.init(&init, events, Expect::Any).await);
    is_trimmed_above(&case, &bytes, 900).await;
    case.same(
        "the outcome after an init with more than is kept",
        case.read(&init, Start::Time(899)).await.outcome,
        TRIMMED,
    );
    case.advance(85).await;
    is_trimmed_above(&case, &age, 900).await;
    case.same("the entries", case.read(&age, Start::Earliest).await.entries, vec![]);
    case.done("an init", case.store.init(&age, vec![timed("y", 1)], Expect::Any).await);
    let page = case.read(&age, Start::Time(0)).await;
    case.same(
        "the outcome and the texts after an init",
        (page.outcome, texts(&page.entries)),
        (Outcome::Continued, vec!["y"]),
    );
}

async fn is_trimmed_above<H: Harness>(case: &Case<'_, H>, of: &crate::channel::Channel, time: u64) {
    case.same(
        "the outcome of a start below the dropped time",
        case.read(of, Start::Time(time - 1)).await.outcome,
        TRIMMED,
    );
    case.same(
        "the outcome of a start at the dropped time",
        case.read(of, Start::Time(time)).await.outcome,
        Outcome::Continued,
    );
}

const TRIMMED: Outcome = Outcome::Reset(Reason::Trimmed);

/// An entry, a key and a record are kept until their limits are reached, however other channels are used meanwhile.
///
/// # Panics
/// When the clause does not hold.
pub async fn nothing_is_dropped_early<H: Harness>(harness: &H) {
    let unit = harness.time().unit();
    let retention = Retention::default().age(unit * 60).key_window(unit * 60).forget_after(unit * 60);
    let case = Case::keeping("nothing_is_dropped_early", harness, retention).await;
    let (a, other) = (channel("a"), channel("other"));
    let first = case.append_all(&a, Append::new([keyed("x", "k")])).await;
    for _ in 0..4 {
        case.advance(9).await;
        case.append(&other, ["x"]).await;
        case.same("the entries", case.read(&a, Start::Earliest).await.entries, first.entries.clone());
        let again = case.append_all(&a, Append::new([keyed("x", "k")])).await;
        case.same("the new entries of a known key", again.entries, vec![]);
        let (seen, expected) = (again.receipts.first().copied(), first.receipts.first().copied());
        case.same(
            "the entry and time of a known key",
            seen.map(|receipt| (receipt.cursor, receipt.time)),
            expected.map(|receipt| (receipt.cursor, receipt.time)),
        );
    }
    // The entry expires; its record does not.
    case.advance(54).await;
    case.append(&other, ["x"]).await;
    let head = case.head(&a).await;
    case.same("the head before the record is forgotten", head, first.head);
    case.same(
        "the outcome before the record is forgotten",
        case.continued(&a, head.cursor).await.outcome,
        Outcome::Continued,
    );
}

/// A delete forgets the channel's keys, and the keys of a refused append are not remembered. An append that closes the channel
/// succeeds even if all of its events are duplicates.
///
/// # Panics
/// When the clause does not hold.
pub async fn keys_last_as_long_as_their_log<H: Harness>(harness: &H) {
    let case = Case::new("keys_last_as_long_as_their_log", harness).await;
    let a = channel("a");
    let head = case.append_all(&a, Append::new([keyed("1", "k")])).await.head.cursor;
    case.append(&a, ["2"]).await;
    let refused = Append::new([keyed("3", "refused")]).expecting(Expect::At(head));
    case.refused("an append at an older head", case.store.append(&a, refused).await, |error| {
        matches!(error, StoreError::Conflict { .. })
    });
    let done = case.append_all(&a, Append::new([keyed("4", "refused")])).await;
    case.same("the new entries of a key of a refused append", texts(&done.entries), vec!["4"]);
    let closed = case.append_all(&a, Append::new([keyed("1", "k")]).closing()).await;
    case.same(
        "the closed flag and the number of new entries of a close with known events",
        (closed.head.closed, closed.entries.len()),
        (true, 0),
    );
    case.same("the head after it", case.head(&a).await, closed.head);
    case.done("a delete", case.store.delete(&a).await);
    let done = case.append_all(&a, Append::new([keyed("other", "k")])).await;
    case.same("the new entries of a key after a delete", texts(&done.entries), vec!["other"]);
}

/// Limits may have extreme values: the largest ones limit nothing, a read of no events returns a position only, and a read of
/// no bytes returns one entry.
///
/// # Panics
/// When the clause does not hold.
pub async fn limits_may_be_extreme<H: Harness>(harness: &H) {
    let ever = Duration::MAX;
    let retention = Retention::default().events(u64::MAX).bytes(u64::MAX).age(ever).key_window(ever).forget_after(ever);
    let case = Case::keeping("limits_may_be_extreme", harness, retention).await;
    let a = channel("a");
    let first = case.append_all(&a, Append::new([keyed("0", "k")])).await;
    for n in numbered(1, 20) {
        case.append(&a, [n]).await;
    }
    case.advance(5).await;
    let again = case.append_all(&a, Append::new([keyed("0", "k")])).await;
    case.same("the new entries of a known key", again.entries, vec![]);
    for start in [Start::Earliest, Start::Last(u64::MAX), Start::Time(0), Start::After(first.head.cursor)] {
        let due = if start == Start::After(first.head.cursor) { 20 } else { 21 };
        let all = case.read_at_most(&a, start, Limit { events: usize::MAX, bytes: usize::MAX }).await;
        case.same("all entries", all.entries.len(), due);
        for bytes in [0, usize::MAX] {
            let none = case.read_at_most(&a, start, Limit { events: 0, bytes }).await;
            case.same(
                "the number of entries and the next position of a read of no events",
                (none.entries.len(), none.next),
                (0, none.from),
            );
            let one = case.read_at_most(&a, start, Limit { events: 1, bytes }).await;
            case.same("one entry", one.entries.len(), 1);
        }
    }
}

/// The heads of a thousand channels are returned in the order asked, even if some are absent and some are asked for repeatedly.
///
/// # Panics
/// When the clause does not hold.
pub async fn heads_of_a_thousand_come_in_order<H: Harness>(harness: &H) {
    let case = Case::new("heads_of_a_thousand_come_in_order", harness).await;
    let name = |n: usize| channel(&format!("room {n}"));
    let mut written = Vec::new();
    for n in 0..200 {
        written.push(case.append(&name(n), vec!["x"; 1 + n % 3]).await.head);
    }
    let asked: Vec<_> = (0..1000).map(|n| name(n * 7 % 250)).collect();
    let heads = case.done("heads", case.store.heads(&asked).await);
    case.same("the number of heads", heads.len(), asked.len());
    for (n, head) in heads.into_iter().enumerate() {
        match written.get(n * 7 % 250) {
            Some(expected) => case.same("the head of a channel", head, *expected),
            None => case.same("the tag of an absent channel", head.cursor.tag, 0),
        }
    }
}

/// A store is ready right after a successful append, and within seconds after a stream of changes was opened.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_store_that_answers_is_ready<H: Harness>(harness: &H) {
    let case = Case::new("a_store_that_answers_is_ready", harness).await;
    case.append(&channel("a"), ["x"]).await;
    case.same("the health after an append", case.store.health(), Health::Ready);
    let _watch = case.watch().await;
    case.becomes_ready().await;
    case.append(&channel("a"), ["x"]).await;
    case.same("the health after another append", case.store.health(), Health::Ready);
}
