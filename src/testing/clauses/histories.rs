//! How one history of a channel is distinguished from another.

use std::collections::HashSet;

use super::super::{
    case::{Case, channel, keyed, numbered, texts, timed},
    harness::Harness,
};
use crate::{
    event::Event,
    store::{Append, Expect, Outcome, Reason, Retention, Start, Store, StoreError},
};

/// An init of an absent channel starts above the floor, and deleting the channel raises the floor above that log.
///
/// # Panics
/// When the clause does not hold.
pub async fn an_init_of_nothing_counts_for_the_floor<H: Harness>(harness: &H) {
    let case = Case::new("an_init_of_nothing_counts_for_the_floor", harness).await;
    let a = channel("a");
    let mut last = case.head(&a).await.cursor.seq;
    for round in 1..4 {
        let events = vec![Event::text("x"); round];
        let head = case.done("an init", case.store.init(&a, events, Expect::NeverUsed).await);
        case.same("the seq after an init of an absent channel", head.cursor.seq, last + round as u64);
        case.done("a delete", case.store.delete(&a).await);
        let absent = case.head(&a).await.cursor;
        case.holds("a floor above the deleted log", absent.seq, |seq| *seq > head.cursor.seq);
        last = absent.seq;
    }
}

/// Two places have different epochs: a cursor of one is `EpochChanged` in the other, even for the same channel and events.
///
/// # Panics
/// When the clause does not hold.
pub async fn two_places_have_two_epochs<H: Harness>(harness: &H) {
    let one = Case::new("two_places_have_two_epochs", harness).await;
    let other = Case::new("two_places_have_two_epochs", harness).await;
    let a = channel("a");
    let mut cursors = vec![one.head(&a).await.cursor];
    for case in [&one, &other] {
        case.append(&a, ["x", "y"]).await;
    }
    cursors.push(one.head(&a).await.cursor);
    for cursor in cursors {
        let page = other.read(&a, Start::After(cursor)).await;
        other.same("the outcome of another place's cursor", page.outcome, Outcome::Reset(Reason::EpochChanged));
    }
}

/// Tags are random: equal entries have different tags, within one log and at the same `seq` of two logs.
///
/// # Panics
/// When the clause does not hold.
pub async fn tags_distinguish_equal_entries<H: Harness>(harness: &H) {
    let case = Case::new("tags_distinguish_equal_entries", harness).await;
    let mut tags = Vec::new();
    for name in ["a", "b"] {
        for _ in 0..10 {
            let done = case.append(&channel(name), vec!["x"; 20]).await;
            tags.extend(done.entries.iter().map(|entry| entry.cursor.tag));
        }
    }
    let distinct: HashSet<_> = tags.iter().collect();
    // Among 400 random 32-bit numbers, two are equal in one of 50 000 runs, and three pairs practically never.
    case.holds("at least 397 different tags of 400", distinct.len(), |distinct| *distinct >= 397);
    let low_bits: HashSet<_> = tags.iter().map(|tag| tag & 0xff).collect();
    let high_bits: HashSet<_> = tags.iter().map(|tag| tag >> 24).collect();
    // 400 random bytes leave out 54 of the 256 values on average.
    case.holds("tags that use all 32 bits", (low_bits.len(), high_bits.len()), |(low, high)| *low > 150 && *high > 150);
}

/// A tail that was lost, and then appended again with the same events, is another history: the lost cursors are `EpochChanged`.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_regrown_tail_with_the_same_events_is_another_history<H: Harness>(harness: &H) {
    let case = Case::new("a_regrown_tail_with_the_same_events_is_another_history", harness).await;
    let a = channel("a");
    let old = case.append(&a, numbered(1, 6)).await.entries;
    if case.lose_tail(&a, 3).await.is_none() {
        return;
    }
    case.append(&a, numbered(4, 6)).await;
    for lost in old.iter().skip(3) {
        let page = case.read(&a, Start::After(lost.cursor)).await;
        case.same("the outcome of a lost cursor", page.outcome, Outcome::Reset(Reason::EpochChanged));
        case.same("the texts", texts(&page.entries), vec!["1", "2", "3", "4", "5", "6"]);
    }
}

/// `NeverUsed` holds until the channel has a record, which an empty init or a close creates, too, and holds again after a delete.
/// Appends that are refused create no record.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_channel_is_never_used_until_it_has_a_record<H: Harness>(harness: &H) {
    let retention = Retention::default().events(10);
    let case = Case::keeping("a_channel_is_never_used_until_it_has_a_record", harness, retention).await;
    let (filled, closed, refused) = (channel("filled"), channel("closed"), channel("refused"));
    case.done("an empty init", case.store.init(&filled, vec![], Expect::Any).await);
    case.append_all(&closed, Append::new([]).closing()).await;
    for of in [&filled, &closed] {
        let init = case.store.init(of, vec![Event::text("x")], Expect::NeverUsed).await;
        case.refused("an init that expects no record", init, |error| matches!(error, StoreError::Conflict { .. }));
        let close = Append::new([Event::text("x")]).closing().expecting(Expect::NeverUsed);
        case.refused("an append that expects no record", case.store.append(of, close).await, |error| {
            matches!(error, StoreError::Conflict { .. } | StoreError::Closed { .. })
        });
    }
    let absent = case.head(&refused).await;
    let elsewhere = Expect::At(case.head(&closed).await.cursor);
    let conflict = case.store.append(&refused, Append::new([Event::text("x")]).expecting(elsewhere)).await;
    case.refused("an append at another head", conflict, |error| matches!(error, StoreError::Conflict { .. }));
    let many = case.store.append(&refused, Append::new(vec![Event::text("x"); 6])).await;
    case.refused("an append of too many events", many, |error| matches!(error, StoreError::TooLarge { .. }));
    let twice = Append::new([keyed("x", "k"), keyed("y", "k")]);
    let reused = case.store.append(&refused, twice).await;
    case.refused("a batch with one key for two events", reused, |error| matches!(error, StoreError::KeyReused { .. }));
    let empty = Append::new([]).expecting(elsewhere);
    case.same(
        "the head of an empty append with an `expect` that does not hold",
        case.append_all(&refused, empty).await.head,
        absent,
    );
    case.append_all(&refused, Append::new([Event::text("x")]).expecting(Expect::NeverUsed)).await;
    case.done("a delete", case.store.delete(&closed).await);
    case.append_all(&closed, Append::new([Event::text("x")]).expecting(Expect::NeverUsed)).await;
}

/// An init stores its events in the order given, whatever their times are.
///
/// # Panics
/// When the clause does not hold.
pub async fn an_init_keeps_its_order<H: Harness>(harness: &H) {
    let case = Case::new("an_init_keeps_its_order", harness).await;
    let a = channel("a");
    let times = [30, 10, 20, 20, 5];
    let events = times.iter().map(|time| timed(&time.to_string(), *time)).collect();
    case.done("an init", case.store.init(&a, events, Expect::Any).await);
    let page = case.read(&a, Start::Earliest).await;
    case.same("the texts", texts(&page.entries), vec!["30", "10", "20", "20", "5"]);
    case.same(
        "the texts of a start at a time",
        texts(&case.read(&a, Start::Time(15)).await.entries),
        vec!["30", "20", "20"],
    );
}

/// A cursor whose successors were dropped is `Trimmed` on a closed channel, too, and `EpochChanged` after an init.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_close_does_not_hide_what_was_trimmed<H: Harness>(harness: &H) {
    let retention = Retention::default().events(3);
    let case = Case::keeping("a_close_does_not_hide_what_was_trimmed", harness, retention).await;
    let a = channel("a");
    let first = case.append(&a, ["first"]).await.head.cursor;
    for n in numbered(1, 20) {
        case.append(&a, [n]).await;
    }
    case.append_all(&a, Append::new([]).closing()).await;
    let page = case.read(&a, Start::After(first)).await;
    case.same("the outcome on a closed channel", page.outcome, Outcome::Reset(Reason::Trimmed));
    case.same("the last text", texts(&page.entries).last().copied(), Some("20"));
    case.done("an init", case.store.init(&a, vec![Event::text("new")], Expect::Any).await);
    let page = case.read(&a, Start::After(first)).await;
    case.same("the outcome after an init", page.outcome, Outcome::Reset(Reason::EpochChanged));
}
