//! Places that are opened again, made again, or in trouble.

use super::super::{
    case::{Case, channel, keyed, numbered, texts},
    harness::{Harness, Time},
};
use crate::{
    channel::Channel,
    event::Event,
    store::{Append, Expect, Health, Outcome, Reason, Retention, Start, Store, StoreError},
};

/// Limits that are raised by opening the place again hold from then on, also for what is there.
///
/// # Panics
/// When the clause does not hold.
pub async fn raised_limits_hold_at_once<H: Harness>(harness: &H) {
    let (small, large) = (small(harness), Retention::default());
    let case = Case::keeping("raised_limits_hold_at_once", harness, small).await;
    fill(&case, &numbered(2, 5)).await;
    let Some(case) = case.reopened(large.clone()).await else { return };
    case.same("what is kept", case.store.retention(), large);
    is_whole(&case, 5).await;
    // At once, too: less than half of what is kept now.
    case.append(&channel("a"), numbered(6, 60)).await;
    case.advance(45).await;
    is_whole(&case, 60).await;
}

/// Limits that are lowered by opening the place again take nothing away for half a minute, and hold in the end.
///
/// # Panics
/// When the clause does not hold.
pub async fn lowered_limits_lose_nothing_at_once<H: Harness>(harness: &H) {
    let (small, large) = (small(harness), Retention::default());
    let case = Case::keeping("lowered_limits_lose_nothing_at_once", harness, large).await;
    fill(&case, &numbered(2, 55)).await;
    let Some(case) = case.reopened(small.clone()).await else { return };
    case.same("what is kept", case.store.retention(), small);
    is_whole(&case, 55).await;
    let many = case.store.append(&channel("a"), Append::new(vec![Event::text("x"); 6])).await;
    case.refused("more than half of what is told", many, |error| matches!(error, StoreError::TooLarge { .. }));
    for n in numbered(56, 60) {
        case.append(&channel("a"), [n]).await;
    }
    case.advance(25).await;
    is_whole(&case, 60).await;
    if case.time() != Time::Controlled {
        return;
    }
    // A quarter of an hour.
    case.advance(900).await;
    for n in numbered(61, 80) {
        case.append(&channel("a"), [n]).await;
    }
    let page = case.read(&channel("a"), Start::Earliest).await;
    case.holds("10 to 20 entries", page.entries.len(), |kept| (10..=20).contains(kept));
    case.same("the newest", texts(&page.entries).last().copied(), Some("80"));
}

/// Keeps less than [`fill`] brings, or for less long than the clauses wait.
fn small<H: Harness>(harness: &H) -> Retention {
    let brief = harness.time().unit() * 20;
    Retention::default().events(10).bytes(2_000).age(brief).key_window(brief).forget_after(brief)
}

/// Appends `1` with a key, and `texts`; makes a channel that holds nothing.
async fn fill<H: Harness>(case: &Case<'_, H>, texts: &[String]) {
    let a = channel("a");
    case.append_all(&a, Append::new([keyed("1", "k")])).await;
    for text in texts {
        case.append(&a, [text]).await;
    }
    case.done("an init of nothing", case.store.init(&channel("empty"), vec![], Expect::Any).await);
}

/// Whether the events from `1` to `last` are there, with the key, and the channel that holds nothing.
async fn is_whole<H: Harness>(case: &Case<'_, H>, last: u64) {
    let a = channel("a");
    // A store may drop something while it is used.
    case.append(&channel("other"), ["x"]).await;
    let page = case.read(&a, Start::Earliest).await;
    let all = numbered(1, last);
    case.same("the texts", texts(&page.entries), all.iter().map(|n| &**n).collect());
    let first = case.some("an entry", page.entries.first()).cursor;
    case.same("what follows the first", case.continued(&a, first).await.entries.len() as u64, last - 1);
    let again = case.append_all(&a, Append::new([keyed("1", "k")])).await;
    case.same("what a known key brought", again.entries, vec![]);
    let init = case.store.init(&channel("empty"), vec![], Expect::NeverUsed).await;
    case.refused("an init where a record is", init, |error| matches!(error, StoreError::Conflict { .. }));
}

/// A place that was wiped and made again is another place: cursors of before are of another epoch, of a channel that has
/// events again as of absent ones.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_place_that_is_wiped_has_another_epoch<H: Harness>(harness: &H) {
    let case = Case::new("a_place_that_is_wiped_has_another_epoch", harness).await;
    let (a, absent) = (channel("a"), channel("absent"));
    let mut old = vec![(a.clone(), case.head(&a).await.cursor), (absent.clone(), case.head(&absent).await.cursor)];
    let before = case.append(&a, ["x", "y"]).await;
    old.extend(before.entries.iter().map(|entry| (a.clone(), entry.cursor)));
    let case = case.wiped().await;
    are_of_another_epoch(&case, &old).await;
    case.append(&a, ["x", "y", "z"]).await;
    are_of_another_epoch(&case, &old).await;
    case.same("the texts", texts(&case.read(&a, Start::Earliest).await.entries), vec!["x", "y", "z"]);
}

async fn are_of_another_epoch<H: Harness>(case: &Case<'_, H>, cursors: &[(Channel, crate::cursor::Cursor)]) {
    for (of, cursor) in cursors {
        let page = case.read(of, Start::After(*cursor)).await;
        case.same("the outcome of a cursor of before", page.outcome, Outcome::Reset(Reason::EpochChanged));
    }
}

/// A store whose appends fail says that it is not ready, and is again soon after that has ended, though nobody does anything
/// but ask. What was appended before is there.
///
/// # Panics
/// When the clause does not hold.
pub async fn trouble_is_told_and_so_is_its_end<H: Harness>(harness: &H) {
    let case = Case::new("trouble_is_told_and_so_is_its_end", harness).await;
    let a = channel("a");
    let before = case.append(&a, ["before"]).await.head.cursor;
    case.becomes_ready().await;
    if case.begin_trouble().await.is_none() {
        return;
    }
    // A server that is being stopped may still answer a few.
    let mut tries = 0..100;
    let failed = loop {
        let done = case.store.append(&a, Append::new([Event::text("meanwhile")])).await;
        if done.is_err() || tries.next().is_none() {
            break done;
        }
    };
    case.refused("an append in trouble", failed, |error| {
        matches!(error, StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::Full(_))
    });
    case.holds("a store that is not ready", case.store.health(), |health| *health != Health::Ready);
    case.end_trouble().await;
    case.becomes_ready().await;
    let after = case.append(&a, ["after"]).await.head.cursor;
    let page = case.continued(&a, before).await;
    case.holds("the entry of after", page.entries, |entries| entries.iter().any(|entry| entry.cursor == after));
}
