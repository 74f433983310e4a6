//! How much is kept: never less than the limits, at most twice as much.

use super::super::{
    case::{Case, channel, numbered, seqs, texts},
    harness::Harness,
};
use crate::{
    event::Event,
    store::{Append, Entry, Expect, Retention, Start, Store, StoreError, Unit},
};

/// A channel keeps at least the maximum number of entries, and at most twice as many; it keeps the newest ones.
///
/// # Panics
/// When the clause does not hold.
pub async fn keeps_the_count_and_at_most_twice<H: Harness>(harness: &H) {
    let retention = Retention::default().events(10);
    let case = Case::keeping("keeps_the_count_and_at_most_twice", harness, retention).await;
    let a = channel("a");
    for n in 1..=50_usize {
        let head = case.append(&a, [n.to_string()]).await.head.cursor;
        let page = case.read(&a, Start::Earliest).await;
        let (least, kept) = (n.min(10), page.entries.len());
        case.holds(&format!("{least} to 20 of {n} entries"), kept, |kept| (least..=20).contains(kept));
        let newest: Vec<_> = (head.seq + 1 - kept as u64..=head.seq).collect();
        case.same("the newest entries", seqs(&page.entries), newest);
    }
}

/// A channel keeps at least the newest entries that fit the maximum number of bytes, and at most those that fit twice as many.
///
/// # Panics
/// When the clause does not hold.
pub async fn keeps_the_bytes_and_at_most_twice<H: Harness>(harness: &H) {
    let retention = Retention::default().bytes(10_000);
    let case = Case::keeping("keeps_the_bytes_and_at_most_twice", harness, retention).await;
    let a = channel("a");
    let mut sizes: Vec<usize> = Vec::new();
    for n in 0..60 {
        let done = case.append(&a, ["x".repeat(1 + n * 37 % 900)]).await;
        sizes.extend(done.entries.iter().map(Entry::size));
        let page = case.read(&a, Start::Earliest).await;
        let fitting = |most: usize| {
            let mut sum = 0;
            sizes
                .iter()
                .rev()
                .take_while(|size| {
                    sum += **size;
                    sum <= most
                })
                .count()
        };
        let (least, most) = (fitting(10_000), fitting(20_000));
        case.holds(&format!("{least} to {most} entries"), page.entries.len(), |kept| (least..=most).contains(kept));
    }
}

/// A channel keeps all entries that are younger than the maximum age, and none that are older than twice that age.
///
/// # Panics
/// When the clause does not hold.
pub async fn keeps_the_age_and_at_most_twice<H: Harness>(harness: &H) {
    let unit = harness.time().unit();
    let retention = Retention::default().age(unit * 40);
    let case = Case::keeping("keeps_the_age_and_at_most_twice", harness, retention).await;
    let a = channel("a");
    case.append(&a, ["old"]).await;
    case.advance(10).await;
    case.append(&a, ["middle"]).await;
    case.advance(10).await;
    case.append(&a, ["new"]).await;
    let page = case.read(&a, Start::Earliest).await;
    case.same("the texts at half of the maximum age", texts(&page.entries), vec!["old", "middle", "new"]);
    case.advance(61).await;
    // A store may trim while it appends.
    case.append(&a, ["newer"]).await;
    let page = case.read(&a, Start::Earliest).await;
    case.holds("no entry older than twice the maximum age", texts(&page.entries), |texts| !texts.contains(&"old"));
    case.same("the newest text", texts(&page.entries).last().copied(), Some("newer"));
    case.advance(81).await;
    case.append(&a, ["newest"]).await;
    let page = case.read(&a, Start::Earliest).await;
    case.same("the texts that are young enough", texts(&page.entries), vec!["newest"]);
}

/// A clock that steps back neither drops nor reorders entries, and the timestamps of appends never decrease.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_clock_that_steps_back_does_no_harm<H: Harness>(harness: &H) {
    let unit = harness.time().unit();
    let retention = Retention::default().age(unit * 100).key_window(unit * 100);
    let case = Case::keeping("a_clock_that_steps_back_does_no_harm", harness, retention).await;
    let a = channel("a");
    let mut all = case.append(&a, numbered(1, 3)).await.entries;
    if case.step_back(10_000).await.is_none() {
        return;
    }
    all.extend(case.append(&a, numbered(4, 6)).await.entries);
    case.advance(50).await;
    all.extend(case.append(&a, numbered(7, 9)).await.entries);
    let page = case.read(&a, Start::Earliest).await;
    case.same("the entries after a step back", &page.entries, &all);
    for (before, entry) in all.iter().zip(all.iter().skip(1)) {
        case.holds("timestamps that never decrease", (before.appended, entry.appended), |(a, b)| a <= b);
    }
    // The clock is right again: the entries that were appended meanwhile do not count as older than they are.
    case.advance(10_000 - 50 + 20).await;
    let page = case.read(&a, Start::Earliest).await;
    case.same("the entries when the clock is right again", &page.entries, &all);
}

/// `retention` returns the limits. An append of more than half of them is refused with `TooLarge`, whatever the state of the
/// channel, and an append of half of them resets no reader that had kept up.
///
/// # Panics
/// When the clause does not hold.
pub async fn an_append_is_at_most_half_of_what_is_kept<H: Harness>(harness: &H) {
    let retention = Retention::default().events(10).bytes(2_000);
    let case = Case::keeping("an_append_is_at_most_half_of_what_is_kept", harness, retention.clone()).await;
    case.same("the retention", case.store.retention(), retention);
    let a = channel("a");
    for round in 0..8 {
        let before = case.head(&a).await.cursor;
        let many = case.store.append(&a, Append::new(numbered(1, 6).into_iter().map(Event::text))).await;
        case.refused("more than half of the events", many, |error| is_too_large(error, (6, 5, Unit::Events)));
        let close = Append::new([text_of(300), text_of(300), text_of(401)]).closing();
        let large = case.store.append(&a, close).await;
        case.refused("more than half of the bytes", large, |error| is_too_large(error, (1001, 1000, Unit::Bytes)));
        let one = case.store.append(&a, Append::new([text_of(1001)])).await;
        case.refused("one event of more than half", one, |error| is_too_large(error, (1001, 1000, Unit::Bytes)));
        case.same("the head after refusals", case.head(&a).await.cursor, before);
        let most = if round % 2 == 0 { vec![text_of(200); 5] } else { vec![text_of(1000)] };
        let done = case.append_all(&a, Append::new(most)).await;
        case.same("the entries after the cursor", case.continued(&a, before).await.entries, done.entries);
    }
    case.append_all(&a, Append::new([]).closing()).await;
    let many = Append::new(numbered(1, 6).into_iter().map(Event::text)).expecting(Expect::NeverUsed);
    let refused = case.store.append(&a, many).await;
    case.refused("too many events on a closed channel", refused, |error| is_too_large(error, (6, 5, Unit::Events)));
}

/// An event whose entry in the channel `a` has this size.
fn text_of(bytes: usize) -> Event {
    Event::text("x".repeat(bytes - 65))
}

fn is_too_large(error: &StoreError, expected: (u64, u64, Unit)) -> bool {
    matches!(error, StoreError::TooLarge { size, max, unit } if (*size, *max, *unit) == expected)
}

/// However small the maximum number of entries is, a single small event is accepted and kept.
///
/// # Panics
/// When the clause does not hold.
pub async fn one_event_always_fits<H: Harness>(harness: &H) {
    for events in [1, 2, 3] {
        let retention = Retention::default().events(events);
        let case = Case::keeping("one_event_always_fits", harness, retention).await;
        let a = channel("a");
        for n in 1..=5 {
            case.append(&a, [n.to_string()]).await;
            let page = case.read(&a, Start::Last(1)).await;
            case.same("the newest text", texts(&page.entries), vec![&*n.to_string()]);
        }
        let two = case.store.append(&a, Append::new(["x", "y"].map(Event::text))).await;
        case.refused("two events at once", two, |error| is_too_large(error, (2, 1, Unit::Events)));
    }
}

/// An init with more events than are kept keeps the newest ones, and the channel's first page shows that others were dropped.
///
/// # Panics
/// When the clause does not hold.
pub async fn an_init_keeps_the_newest_of_more_than_is_kept<H: Harness>(harness: &H) {
    let retention = Retention::default().events(5);
    let case = Case::keeping("an_init_keeps_the_newest_of_more_than_is_kept", harness, retention).await;
    let a = channel("a");
    let events = numbered(1, 30).into_iter().map(Event::text).collect();
    let head = case.done("an init", case.store.init(&a, events, Expect::Any).await);
    let page = case.read(&a, Start::Earliest).await;
    case.holds("5 to 10 entries", page.entries.len(), |kept| (5..=10).contains(kept));
    case.same("the head of the page", page.head, head);
    let newest = numbered(31 - page.entries.len() as u64, 30);
    case.same("the newest texts", texts(&page.entries), newest.iter().map(|n| &**n).collect());
    case.holds("a tag that shows that entries were dropped before", page.from.tag, |tag| *tag != 0);
    let next = case.append(&a, ["31"]).await;
    case.same("the entries after an init", case.continued(&a, head.cursor).await.entries, next.entries);
}
