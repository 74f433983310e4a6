//! Places that are reopened with other limits, wiped, or unable to store anything.

use super::super::{
    case::{Case, channel, keyed, numbered, texts},
    harness::{Harness, Time},
};
use crate::{
    channel::Channel,
    event::Event,
    store::{Append, Expect, Health, Outcome, Reason, Retention, Start, Store, StoreError},
};

/// Limits that are raised by reopening the place apply at once, also to what is already stored.
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
    // Accepted at once: it is less than half of the raised limits.
    case.append(&channel("a"), numbered(6, 60)).await;
    case.advance(45).await;
    is_whole(&case, 60).await;
}

/// Limits that are lowered by reopening the place drop nothing for half a minute, and take effect in the end. The maximum size
/// of an append follows them at once.
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
    case.refused("an append of more than half of the lowered limits", many, |error| {
        matches!(error, StoreError::TooLarge { .. })
    });
    for n in numbered(56, 60) {
        case.append(&channel("a"), [n]).await;
    }
    case.advance(25).await;
    is_whole(&case, 60).await;
    if case.time() != Time::Controlled {
        return;
    }
    // 15 minutes: by then the lowered limits must have taken effect.
    case.advance(900).await;
    for n in numbered(61, 80) {
        case.append(&channel("a"), [n]).await;
    }
    let page = case.read(&channel("a"), Start::Earliest).await;
    case.holds("10 to 20 entries", page.entries.len(), |kept| (10..=20).contains(kept));
    case.same("the newest", texts(&page.entries).last().copied(), Some("80"));
}

/// Limits that are below what [`fill`] appends, and shorter than the clauses wait.
fn small<H: Harness>(harness: &H) -> Retention {
    let brief = harness.time().unit() * 20;
    Retention::default().events(10).bytes(2_000).age(brief).key_window(brief).forget_after(brief)
}

/// Appends `1` with a key, then `texts`, and creates another channel that has no entries.
async fn fill<H: Harness>(case: &Case<'_, H>, texts: &[String]) {
    let a = channel("a");
    case.append_all(&a, Append::new([keyed("1", "k")])).await;
    for text in texts {
        case.append(&a, [text]).await;
    }
    case.done("an empty init", case.store.init(&channel("empty"), vec![], Expect::Any).await);
}

/// Checks that the events from `1` to `last`, the key, and the record of the channel without entries are still there.
async fn is_whole<H: Harness>(case: &Case<'_, H>, last: u64) {
    let a = channel("a");
    // A store may drop entries only when something is appended.
    case.append(&channel("other"), ["x"]).await;
    let page = case.read(&a, Start::Earliest).await;
    let all = numbered(1, last);
    case.same("the texts", texts(&page.entries), all.iter().map(|n| &**n).collect());
    let first = case.some("an entry", page.entries.first()).cursor;
    case.same("what follows the first", case.continued(&a, first).await.entries.len() as u64, last - 1);
    let again = case.append_all(&a, Append::new([keyed("1", "k")])).await;
    case.same("the new entries of a known key", again.entries, vec![]);
    let init = case.store.init(&channel("empty"), vec![], Expect::NeverUsed).await;
    case.refused("an init that expects no record", init, |error| matches!(error, StoreError::Conflict { .. }));
}

/// A place that was wiped and created again is a different place: every cursor from before is reset with `EpochChanged`, on
/// absent channels and on channels that have events again.
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
        case.same("the outcome of a cursor from before the wipe", page.outcome, Outcome::Reset(Reason::EpochChanged));
    }
}

/// A store whose appends fail is not ready. Once the cause is gone, it is ready again within seconds, even if nothing is called
/// but `health`, and the entries from before are still there.
///
/// # Panics
/// When the clause does not hold.
pub async fn health_reports_trouble_and_its_end<H: Harness>(harness: &H) {
    let case = Case::new("health_reports_trouble_and_its_end", harness).await;
    let a = channel("a");
    let before = case.append(&a, ["before"]).await.head.cursor;
    case.becomes_ready().await;
    if case.begin_trouble().await.is_none() {
        return;
    }
    // A server that is being stopped may still accept some appends.
    let mut tries = 0..100;
    let failed = loop {
        let done = case.store.append(&a, Append::new([Event::text("meanwhile")])).await;
        if done.is_err() || tries.next().is_none() {
            break done;
        }
    };
    case.refused("an append while appends must fail", failed, |error| {
        matches!(error, StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::Full(_))
    });
    case.holds("a store that is not ready", case.store.health(), |health| *health != Health::Ready);
    case.end_trouble().await;
    case.becomes_ready().await;
    let after = case.append(&a, ["after"]).await.head.cursor;
    let page = case.continued(&a, before).await;
    case.holds("the entry that was appended afterwards", page.entries, |entries| {
        entries.iter().any(|entry| entry.cursor == after)
    });
}
