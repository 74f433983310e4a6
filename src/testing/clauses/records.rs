//! Records that outlive entries, floors, and new histories.

use super::super::{
    case::{Case, channel, numbered, seqs, texts},
    harness::Harness,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::Event,
    store::{Append, Expect, Limit, Outcome, Reason, Retention, Start, Store, StoreError},
};

/// The head of an absent channel is a cursor that continues when the first event is appended.
///
/// # Panics
/// When the clause does not hold.
pub async fn an_absent_channel_continues_at_its_first_event<H: Harness>(harness: &H) {
    let case = Case::new("an_absent_channel_continues_at_its_first_event", harness).await;
    let a = channel("a");
    let absent = case.head(&a).await;
    case.same("the tag and the closed flag of an absent channel", (absent.cursor.tag, absent.closed), (0, false));
    for start in [Start::Earliest, Start::Latest, Start::Last(3), Start::Time(0), Start::After(absent.cursor)] {
        let page = case.read(&a, start).await;
        case.same("the outcome on an absent channel", page.outcome, Outcome::Continued);
        case.same(
            "the positions in a page of an absent channel",
            (page.from, page.next, page.head),
            (absent.cursor, absent.cursor, absent),
        );
    }
    let first = case.append(&a, ["first"]).await;
    case.same("the epoch and seq of the first entry", (first.head.cursor.epoch, first.head.cursor.seq), {
        (absent.cursor.epoch, absent.cursor.seq + 1)
    });
    case.same("the entries after the cursor", case.continued(&a, absent.cursor).await.entries, first.entries);
}

/// Reading an absent channel, asking for its head and watching for changes store nothing. Neither does an empty append, nor the
/// delete of an absent channel.
///
/// # Panics
/// When the clause does not hold.
pub async fn reading_an_absent_channel_stores_nothing<H: Harness>(harness: &H) {
    let case = Case::new("reading_an_absent_channel_stores_nothing", harness).await;
    let _watch = case.watch().await;
    // Each call has a channel of its own, so that no call can hide what another one stored.
    let names = ["asked", "earliest", "after", "time", "position", "appended", "deleted"].map(channel);
    let heads = case.done("heads", case.store.heads(&names).await);
    let [_, earliest, after, time, position, appended, deleted] = &names;
    case.read(earliest, Start::Earliest).await;
    case.read(after, Start::After(case.head(after).await.cursor)).await;
    case.read(time, Start::Time(0)).await;
    case.read_at_most(position, Start::Latest, Limit::POSITION).await;
    case.append_all(appended, Append::new([])).await;
    case.done("a delete of an absent channel", case.store.delete(deleted).await);
    case.same(
        "the heads of absent channels, asked for again",
        case.done("heads", case.store.heads(&names).await),
        heads,
    );
    case.same("the listed channels", case.done("a listing", case.store.channels("", None, 10).await), vec![]);
    for of in &names {
        let done = case.store.append(of, Append::new([Event::text("x")]).expecting(Expect::NeverUsed)).await;
        case.done(&format!("an append to {of:?}, which was never used"), done);
    }
}

/// After the last entry was dropped, its cursor still continues, the next entry has the next `seq`, and a closed channel is still
/// closed.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_record_outlives_its_entries<H: Harness>(harness: &H) {
    let unit = harness.time().unit();
    let retention = Retention::default().age(unit * 5);
    let case = Case::keeping("a_record_outlives_its_entries", harness, retention).await;
    let (open, closed) = (channel("open"), channel("closed"));
    let before = case.append(&open, ["x", "y"]).await;
    let last = case.append_all(&closed, Append::new([Event::text("x")]).closing()).await;
    case.advance(20).await;
    for (of, head) in [(&open, before.head), (&closed, last.head)] {
        case.same("the head after the entries were dropped", case.head(of).await, head);
        let page = case.continued(of, head.cursor).await;
        case.same(
            "the page after the entries were dropped",
            (page.entries.len(), page.next, page.head),
            (0, head.cursor, head),
        );
        let never = Append::new([Event::text("z")]).expecting(Expect::NeverUsed);
        case.refused("an append that expects no record", case.store.append(of, never).await, |error| {
            matches!(error, StoreError::Conflict { .. } | StoreError::Closed { .. })
        });
    }
    let first = before.entries.first().map_or(before.head.cursor, |entry| entry.cursor);
    let page = case.read(&open, Start::After(first)).await;
    case.same("the outcome of an older cursor", page.outcome, Outcome::Reset(Reason::Trimmed));
    let next = case.append(&open, ["z"]).await;
    case.same("the seq after the dropped entries", next.head.cursor.seq, before.head.cursor.seq + 1);
    case.same("the entries after the cursor", case.continued(&open, before.head.cursor).await.entries, next.entries);
}

/// A forgotten channel is absent. Its next entries have a `seq` above all of its earlier ones, and none of its earlier cursors
/// continues.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_forgotten_channel_raises_the_floor<H: Harness>(harness: &H) {
    let unit = harness.time().unit();
    let retention = Retention::default().age(unit * 4).key_window(unit * 4).forget_after(unit * 8);
    let case = Case::keeping("a_forgotten_channel_raises_the_floor", harness, retention).await;
    let a = channel("a");
    let mut cursors = vec![case.head(&a).await.cursor];
    cursors.extend(case.append(&a, numbered(1, 5)).await.entries.iter().map(|entry| entry.cursor));
    // A store may forget records only while it handles other calls, so some are made.
    for _ in 0..12 {
        case.advance(5).await;
        case.append(&channel("other"), ["x"]).await;
        case.read(&a, Start::Earliest).await;
    }
    is_new_above(&case, &a, &cursors).await;
}

/// A deleted channel is absent at once. Its next entries have a `seq` above all of its earlier ones, and none of its earlier
/// cursors continues.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_deleted_channel_raises_the_floor<H: Harness>(harness: &H) {
    let case = Case::new("a_deleted_channel_raises_the_floor", harness).await;
    let a = channel("a");
    let mut cursors = vec![case.head(&a).await.cursor];
    for round in 0..3 {
        cursors.extend(case.append(&a, numbered(1, 5 - round)).await.entries.iter().map(|entry| entry.cursor));
        case.done("a delete", case.store.delete(&a).await);
        case.same("the entries of a deleted channel", case.read(&a, Start::Earliest).await.entries, vec![]);
        is_new_above(&case, &a, &cursors).await;
        cursors.push(case.head(&a).await.cursor);
    }
}

/// Each delete raises the floor above the deleted log, and by a random step, so that a floor whose rise was lost does not rise to
/// the same position again.
///
/// # Panics
/// When the clause does not hold.
pub async fn floors_rise_by_unpredictable_steps<H: Harness>(harness: &H) {
    let case = Case::new("floors_rise_by_unpredictable_steps", harness).await;
    let a = channel("a");
    let mut steps = Vec::new();
    for _ in 0..6 {
        let last = case.append(&a, ["x"]).await.head.cursor.seq;
        case.done("a delete", case.store.delete(&a).await);
        let floor = case.head(&a).await.cursor.seq;
        case.holds(&format!("a floor above {last}"), floor, |floor| *floor > last);
        steps.push(floor - last);
    }
    steps.sort_unstable();
    steps.dedup();
    case.holds("steps that differ", steps, |steps| steps.len() > 1);
}

/// Deleting some channels leaves the heads of most absent channels unchanged, so that their readers are not reset.
///
/// # Panics
/// When the clause does not hold.
pub async fn forgetting_a_channel_leaves_absent_others_alone<H: Harness>(harness: &H) {
    let case = Case::new("forgetting_a_channel_leaves_absent_others_alone", harness).await;
    let absent: Vec<_> = (0..64).map(|n| channel(&format!("absent {n}"))).collect();
    let before = case.done("heads", case.store.heads(&absent).await);
    for n in 0..8 {
        let goes = channel(&format!("goes {n}"));
        case.append(&goes, numbered(1, 3)).await;
        case.done("a delete", case.store.delete(&goes).await);
    }
    let after = case.done("heads", case.store.heads(&absent).await);
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    // With 1 024 buckets and 8 deletes, 0.5 of the 64 heads move on average.
    case.holds("at most 8 of 64 heads to change", moved, |moved| *moved <= 8);
}

/// Checks that the channel has no record, that new entries are above all `cursors`, and that none of these continues then.
async fn is_new_above<H: Harness>(case: &Case<'_, H>, of: &Channel, cursors: &[Cursor]) {
    let absent = case.head(of).await;
    let highest = cursors.iter().map(|cursor| cursor.seq).max().unwrap_or(0);
    case.same("the tag and the closed flag of an absent channel", (absent.cursor.tag, absent.closed), (0, false));
    case.holds(&format!("a floor of at least {highest}"), absent.cursor.seq, |seq| *seq >= highest);
    let fresh = Append::new(["new 1", "new 2"].map(Event::text)).expecting(Expect::NeverUsed);
    let fresh = case.append_all(of, fresh).await;
    case.same("the first seq above the floor", seqs(&fresh.entries).first().copied(), Some(absent.cursor.seq + 1));
    case.same("the entries after the cursor", case.continued(of, absent.cursor).await.entries, fresh.entries.clone());
    for cursor in cursors.iter().filter(|cursor| **cursor != absent.cursor) {
        let page = case.read(of, Start::After(*cursor)).await;
        case.holds("a reset for a cursor of an older log", page.outcome, |outcome| *outcome != Outcome::Continued);
        case.same("the entries in the page of a reset", page.entries, fresh.entries.clone());
    }
}

/// After an init the channel holds exactly its events, in the order given, under a new epoch; older cursors are `EpochChanged`.
///
/// # Panics
/// When the clause does not hold.
pub async fn init_replaces_the_history<H: Harness>(harness: &H) {
    let case = Case::new("init_replaces_the_history", harness).await;
    let a = channel("a");
    let mut cursors = vec![case.head(&a).await.cursor];
    for round in [3, 0, 2] {
        cursors.extend(case.append(&a, ["old", "old"]).await.entries.iter().map(|entry| entry.cursor));
        let events = numbered(1, round).into_iter().map(Event::text).collect();
        let head = case.done("an init", case.store.init(&a, events, Expect::Any).await);
        case.same("the head after an init", case.head(&a).await, head);
        case.holds("a new epoch", head.cursor.epoch, |epoch| cursors.iter().all(|cursor| cursor.epoch != *epoch));
        let page = case.read(&a, Start::Earliest).await;
        case.same("the number of texts after an init", texts(&page.entries).len() as u64, round);
        case.same("the texts after an init", texts(&page.entries), numbered(1, round).iter().map(|n| &**n).collect());
        for cursor in &cursors {
            let page = case.read(&a, Start::After(*cursor)).await;
            case.same("the outcome of an older cursor", page.outcome, Outcome::Reset(Reason::EpochChanged));
        }
        let next = case.append(&a, ["next"]).await;
        case.same("the entries after an init", case.continued(&a, head.cursor).await.entries, next.entries);
        cursors.extend([page.from, page.next, next.head.cursor]);
    }
}

/// When a short init has replaced a long log and the channel was then deleted, the floor is above the long log too, so that an
/// earlier head of the absent channel is reset.
///
/// # Panics
/// When the clause does not hold.
pub async fn the_floor_covers_what_init_replaced<H: Harness>(harness: &H) {
    let case = Case::new("the_floor_covers_what_init_replaced", harness).await;
    let (a, other) = (channel("a"), channel("other"));
    case.append(&other, ["1", "2"]).await;
    case.done("a delete", case.store.delete(&other).await);
    let absent = case.head(&a).await.cursor;
    case.append(&a, numbered(1, 20)).await;
    let short = vec![Event::text("x"); 2];
    case.done("an init", case.store.init(&a, short, Expect::Any).await);
    case.done("a delete", case.store.delete(&a).await);
    let page = case.done("a read", case.store.read(&a, Start::After(absent), Limit::default()).await);
    case.holds("a reset, because 22 events were lost", page.outcome, |outcome| *outcome != Outcome::Continued);
}
