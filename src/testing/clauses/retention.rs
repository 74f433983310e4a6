//! How much is kept: never less than the limits, at most twice as much.

use super::super::{
    case::{Case, channel, numbered, seqs, texts},
    harness::Harness,
};
use crate::store::{Entry, Retention, Start};

/// By count.
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

/// By bytes.
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

/// By age.
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
    case.same("half as old as is kept", texts(&page.entries), vec!["old", "middle", "new"]);
    case.advance(61).await;
    // A store may trim while it appends.
    case.append(&a, ["newer"]).await;
    let page = case.read(&a, Start::Earliest).await;
    case.holds("nothing more than twice as old as is kept", texts(&page.entries), |texts| !texts.contains(&"old"));
    case.same("the newest", texts(&page.entries).last().copied(), Some("newer"));
    case.advance(81).await;
    case.append(&a, ["newest"]).await;
    let page = case.read(&a, Start::Earliest).await;
    case.same("what is young enough", texts(&page.entries), vec!["newest"]);
}

/// A clock that steps back neither drops nor reorders; stamps do not decrease.
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
        case.holds("stamps that never decrease", (before.appended, entry.appended), |(a, b)| a <= b);
    }
    // The clock is put right again: those that came meanwhile are not older than they are.
    case.advance(10_000 - 50 + 20).await;
    let page = case.read(&a, Start::Earliest).await;
    case.same("the entries when the clock is right again", &page.entries, &all);
}

/// A batch that is more than is kept is appended whole, and its newest events are kept.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_batch_larger_than_the_retention_is_fine<H: Harness>(harness: &H) {
    let retention = Retention::default().events(5);
    let case = Case::keeping("a_batch_larger_than_the_retention_is_fine", harness, retention).await;
    let a = channel("a");
    let done = case.append(&a, numbered(1, 30)).await;
    case.same("the new entries", done.entries.len(), 30);
    for n in 31..=33 {
        let page = case.read(&a, Start::Last(5)).await;
        case.same("the last five", page.entries.len(), 5);
        case.same("the newest", page.next, page.head.cursor);
        case.append(&a, [n.to_string()]).await;
    }
    let page = case.read(&a, Start::Earliest).await;
    case.holds("at most twice 5", page.entries.len(), |kept| (5..=10).contains(kept));
}
