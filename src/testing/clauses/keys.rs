//! Idempotency.

use super::super::{
    case::{Case, channel, keyed, numbered, texts},
    harness::Harness,
};
use crate::{
    cursor::Cursor,
    error::InvalidEvent,
    event::{Data, Event},
    store::{Append, Expect, Receipt, Retention, Start, Store, StoreError},
};

/// An append with a known key stores nothing, and its receipt is that of the first append, with the same cursor and time,
/// marked as a duplicate.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_key_is_appended_once<H: Harness>(harness: &H) {
    let case = Case::new("a_key_is_appended_once", harness).await;
    let (a, second) = (channel("a"), case.second().await);
    let first = case.append_all(&a, Append::new([keyed("first", "k")])).await;
    case.append(&a, ["between"]).await;
    case.advance(2).await;
    let again = Append::new([keyed("first", "k")]);
    for store in [&case.store, &second] {
        let repeated = case.done("a repeated append", store.append(&a, again.clone()).await);
        let expected: Vec<_> = first.receipts.iter().map(|first| Receipt { duplicate: true, ..*first }).collect();
        case.same("the receipt of a repeated key", repeated.receipts, expected);
        case.same("the new entries of a repeated key", repeated.entries, vec![]);
    }
    case.same("the texts", texts(&case.read(&a, Start::Earliest).await.entries), vec!["first", "between"]);
    case.holds("a first receipt that is no duplicate", first.receipts, |receipts| {
        receipts.iter().all(|r| !r.duplicate)
    });
}

/// Each event of a batch is checked on its own, also against earlier events of the batch: only the new ones are appended.
///
/// # Panics
/// When the clause does not hold.
pub async fn each_event_of_a_batch_is_checked_separately<H: Harness>(harness: &H) {
    let case = Case::new("each_event_of_a_batch_is_checked_separately", harness).await;
    let a = channel("a");
    let first = case.append_all(&a, Append::new([keyed("1", "k1")])).await;
    let batch = [keyed("2", "k2"), keyed("1", "k1"), Event::text("3"), keyed("2", "k2"), Event::text("3")];
    let done = case.append_all(&a, Append::new(batch)).await;
    let duplicates: Vec<_> = done.receipts.iter().map(|receipt| receipt.duplicate).collect();
    case.same("the duplicate flags", duplicates, vec![false, true, false, true, false]);
    let seqs: Vec<_> = done.receipts.iter().map(|receipt| receipt.cursor.seq - first.head.cursor.seq).collect();
    case.same("the seqs after the first", seqs, vec![1, 0, 2, 1, 3]);
    case.same("the new entries", texts(&done.entries), vec!["2", "3", "3"]);
    case.same("the texts", texts(&case.read(&a, Start::Earliest).await.entries), vec!["1", "2", "3", "3"]);
}

/// A known key with different data, a different name or a different time is refused, and still identifies its first event.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_key_stands_for_one_event<H: Harness>(harness: &H) {
    let case = Case::new("a_key_stands_for_one_event", harness).await;
    let second = case.second().await;
    for (name, first) in variants("k").into_iter().enumerate() {
        let of = channel(&name.to_string());
        let done = case.append_all(&of, Append::new([first.clone()])).await;
        for store in [&case.store, &second] {
            for other in variants("k").into_iter().filter(|other| *other != first) {
                let refused = store.append(&of, Append::new([other.clone()])).await;
                case.refused(&format!("{other:?} with the key of {first:?}"), refused, |error| is_reused(error, 0));
            }
            let again = case.done("a repeated append", store.append(&of, Append::new([first.clone()])).await);
            case.same("the head after refusals", again.head, done.head);
            case.same("the entries of a repeated append", again.entries, vec![]);
        }
        case.same("the entries after refusals", case.read(&of, Start::Earliest).await.entries, done.entries);
    }
}

/// Events with the same key that differ in their data, the kind of the data, their name or their time.
fn variants(key: &str) -> [Event; 7] {
    let json = |json: &str| Data::from_json(json).map(Event::new);
    let made = || -> Result<_, InvalidEvent> {
        let (plain, named) = (Event::text("1"), Event::text("1").named("n")?);
        let (early, late) = (Event::text("1").at(0)?, Event::text("1").at(1_732_094_400_000)?);
        let all = [plain, Event::text("2"), json("1")?, named.clone(), named.named("m")?, early, late];
        let mut keyed = all;
        for event in &mut keyed {
            *event = event.clone().keyed(key)?;
        }
        Ok(keyed)
    };
    made().unwrap_or_else(|error| panic!("an event of the suite: {error}"))
}

fn is_reused(error: &StoreError, at: usize) -> bool {
    matches!(error, StoreError::KeyReused { index } if *index == at)
}

/// A batch with a reused key is refused as a whole: the error names the first such event, nothing is appended, and no key of the
/// batch is remembered.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_reused_key_refuses_the_whole_batch<H: Harness>(harness: &H) {
    let case = Case::new("a_reused_key_refuses_the_whole_batch", harness).await;
    let a = channel("a");
    let first = case.append_all(&a, Append::new([keyed("1", "k1"), keyed("2", "k2")])).await;
    let batch = [Event::text("x"), keyed("3", "k3"), keyed("2", "k2"), keyed("other", "k1"), keyed("other", "k2")];
    let refused = case.store.append(&a, Append::new(batch).closing()).await;
    case.refused("a batch with a reused key", refused, |error| is_reused(error, 3));
    case.same("the head after a refusal", case.head(&a).await, first.head);
    case.same("the texts after a refusal", texts(&case.read(&a, Start::Earliest).await.entries), vec!["1", "2"]);
    let done = case.append_all(&a, Append::new([keyed("other", "k3")])).await;
    case.same("the new entries of a key of a refused batch", texts(&done.entries), vec!["other"]);
}

/// A batch that uses one key for two different events is refused, also if the key is new and if the channel is absent.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_batch_repeats_a_key_only_with_its_event<H: Harness>(harness: &H) {
    let case = Case::new("a_batch_repeats_a_key_only_with_its_event", harness).await;
    let a = channel("a");
    let absent = case.head(&a).await;
    for _ in 0..2 {
        let batch = [keyed("1", "new"), Event::text("x"), keyed("1", "new"), keyed("2", "new")];
        let refused = case.store.append(&a, Append::new(batch)).await;
        case.refused("a batch with one key for two events", refused, |error| is_reused(error, 3));
    }
    case.same("the head after a refusal", case.head(&a).await, absent);
    let done = case.append_all(&a, Append::new([keyed("2", "new"), keyed("2", "new")])).await;
    case.same("the new entries of a key of a refused batch", texts(&done.entries), vec!["2"]);
}

/// `KeyReused` takes precedence over `Closed`, and `Closed` over `Conflict`.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_reused_key_takes_precedence_over_a_close_and_a_conflict<H: Harness>(harness: &H) {
    let case = Case::new("a_reused_key_takes_precedence_over_a_close_and_a_conflict", harness).await;
    let a = channel("a");
    let reused = || Append::new([Event::text("x"), keyed("2", "k")]);
    let first = case.append_all(&a, Append::new([keyed("1", "k")])).await;
    let refused = case.store.append(&a, reused().expecting(Expect::NeverUsed)).await;
    case.refused("a reused key with an `expect` that does not hold", refused, |error| is_reused(error, 1));
    let closed = case.append_all(&a, Append::new([]).closing()).await;
    for append in [reused(), reused().closing(), reused().expecting(Expect::NeverUsed)] {
        let refused = case.store.append(&a, append).await;
        case.refused("a reused key on a closed channel", refused, |error| is_reused(error, 1));
    }
    for expect in [Expect::NeverUsed, Expect::At(Cursor { seq: first.head.cursor.seq + 1, ..first.head.cursor })] {
        let refused = case.store.append(&a, Append::new([Event::text("x")]).expecting(expect)).await;
        case.refused(
            "an append to a closed channel with an `expect` that does not hold",
            refused,
            |error| matches!(error, StoreError::Closed { head } if *head == closed.head),
        );
    }
    case.same("the texts", texts(&case.read(&a, Start::Earliest).await.entries), vec!["1"]);
}

/// Keys are remembered per channel: a key of one channel is new in another.
///
/// # Panics
/// When the clause does not hold.
pub async fn keys_belong_to_one_channel<H: Harness>(harness: &H) {
    let case = Case::new("keys_belong_to_one_channel", harness).await;
    for name in ["a", "b"] {
        let done = case.append_all(&channel(name), Append::new([keyed("x", "k")])).await;
        case.same("the number of new entries", done.entries.len(), 1);
    }
}

/// A key is recognised within its window even if its entry was dropped, by count or by age, and even if the record would be
/// forgotten but for the key.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_key_outlives_its_entry<H: Harness>(harness: &H) {
    let unit = harness.time().unit();
    let retention = Retention::default().events(3).age(unit * 10).forget_after(unit * 10).key_window(unit * 200);
    let case = Case::keeping("a_key_outlives_its_entry", harness, retention).await;
    let a = channel("a");
    let first = case.append_all(&a, Append::new([keyed("first", "k")])).await;
    for n in numbered(1, 20) {
        case.append(&a, [n]).await;
    }
    for _ in 0..4 {
        let again = case.append_all(&a, Append::new([keyed("first", "k")])).await;
        case.same("the new entries of a key whose entry was dropped", again.entries, vec![]);
        let (seen, expected) = (again.receipts.first().copied(), first.receipts.first().copied());
        case.same("the receipt of a key whose entry was dropped", seen.map(|r| r.cursor), expected.map(|r| r.cursor));
        case.advance(30).await;
    }
}

/// After twice its window a key is forgotten: it is new, and may be used for another event.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_key_is_forgotten_after_its_window<H: Harness>(harness: &H) {
    let unit = harness.time().unit();
    let retention = Retention::default().key_window(unit * 10);
    let case = Case::keeping("a_key_is_forgotten_after_its_window", harness, retention).await;
    let a = channel("a");
    let mut watch = case.watch().await;
    case.append_all(&a, Append::new([keyed("first", "k")])).await;
    case.advance(21).await;
    // A store may forget keys only when something is appended.
    let other = case.second().await;
    case.done("an append", other.append(&a, Append::new([Event::text("between")])).await);
    let again = case.done("an append", other.append(&a, Append::new([keyed("second", "k")])).await);
    case.same("the new entries of a forgotten key", texts(&again.entries), vec!["second"]);
    // The first store may still remember the first use of the key when a hint brings the second one: it must forget only the
    // first.
    watch.until(&a, again.head.cursor.seq).await;
    let known = case.append_all(&a, Append::new([keyed("second", "k")])).await;
    case.same("the new entries of a key that another store has appended again", texts(&known.entries), vec![]);
}

/// Repeating a key does not extend its window: twice the window after its first append, the key is new.
///
/// # Panics
/// When the clause does not hold.
pub async fn repeating_a_key_does_not_extend_its_window<H: Harness>(harness: &H) {
    let unit = harness.time().unit();
    let retention = Retention::default().key_window(unit * 20);
    let case = Case::keeping("repeating_a_key_does_not_extend_its_window", harness, retention).await;
    let (a, keyed) = (channel("a"), || Append::new([keyed("x", "k")]));
    case.append_all(&a, keyed()).await;
    for _ in 0..4 {
        case.advance(9).await;
        // A store may forget the key after once its window; this append was new then, and begins another window.
        if !case.append_all(&a, keyed()).await.entries.is_empty() {
            return;
        }
    }
    case.advance(9).await;
    case.same("the new entries of a forgotten key", texts(&case.append_all(&a, keyed()).await.entries), vec!["x"]);
}

/// An init clears all keys of the channel, and the keys of its own events are not remembered.
///
/// # Panics
/// When the clause does not hold.
pub async fn init_clears_keys<H: Harness>(harness: &H) {
    let case = Case::new("init_clears_keys", harness).await;
    let a = channel("a");
    case.append_all(&a, Append::new([keyed("1", "k1")])).await;
    let events = vec![keyed("2", "k2"), keyed("2", "k2")];
    case.done("an init", case.store.init(&a, events, Expect::Any).await);
    let done = case.append_all(&a, Append::new([keyed("3", "k1"), keyed("4", "k2")])).await;
    case.same("the new entries of cleared keys", texts(&done.entries), vec!["3", "4"]);
    case.same("the texts", texts(&case.read(&a, Start::Earliest).await.entries), vec!["2", "2", "3", "4"]);
}

/// Repeating a successful append succeeds, even if it has closed the channel, or if its `expect` does not hold any longer.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_repeated_append_succeeds_as_the_first_did<H: Harness>(harness: &H) {
    let case = Case::new("a_repeated_append_succeeds_as_the_first_did", harness).await;
    let a = channel("a");
    let first = Append::new([keyed("1", "k1")]).expecting(Expect::NeverUsed);
    let done = case.append_all(&a, first.clone()).await;
    let last = Append::new([keyed("2", "k2")]).expecting(Expect::At(done.head.cursor)).closing();
    let closed = case.append_all(&a, last.clone()).await;
    for (repeated, cursor) in [(first, done.head.cursor), (last, closed.head.cursor)] {
        let again = case.append_all(&a, repeated).await;
        let receipts = again.receipts.iter().map(|receipt| (receipt.cursor, receipt.duplicate)).collect();
        case.same("the receipt of a repeated append", receipts, vec![(cursor, true)]);
        case.same("the head of a repeated append", again.head, closed.head);
    }
}
