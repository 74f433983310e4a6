//! Conditions and closing.

use super::super::{
    case::{Case, channel, texts},
    harness::Harness,
};
use crate::{
    cursor::Cursor,
    event::Event,
    store::{Append, Expect, Head, Start, Store, StoreError},
};

/// An append whose `expect` does not hold fails with `Conflict`, which contains the head, and changes nothing.
///
/// # Panics
/// When the clause does not hold.
pub async fn an_append_checks_its_expectation<H: Harness>(harness: &H) {
    let case = Case::new("an_append_checks_its_expectation", harness).await;
    let a = channel("a");
    let append = |expect| Append::new([Event::text("x"), Event::text("y")]).expecting(expect);
    let absent = case.head(&a).await.cursor;
    for wrong in wrong_for(absent) {
        let refused = case.store.append(&a, append(wrong)).await;
        case.refused("an append to an absent channel that expects another head", refused, |error| {
            conflicts_at(error, absent)
        });
    }
    let first = case.append_all(&a, append(Expect::At(absent))).await.head.cursor;
    let second = case.append_all(&a, append(Expect::At(first))).await.head.cursor;
    for wrong in wrong_for(second).into_iter().chain([absent, first].map(Expect::At)).chain([Expect::NeverUsed]) {
        let refused = case.store.append(&a, append(wrong)).await;
        case.refused("an append that expects another head", refused, |error| conflicts_at(error, second));
        case.refused("a close that expects another head", case.store.append(&a, closing(wrong)).await, |error| {
            conflicts_at(error, second)
        });
    }
    case.same("the head after refusals", case.head(&a).await, Head { cursor: second, closed: false });
    case.append_all(&a, append(Expect::Any)).await;
    let b = channel("b");
    case.append_all(&b, append(Expect::NeverUsed)).await;
}

fn closing(expect: Expect) -> Append {
    Append::new([]).expecting(expect).closing()
}

/// Expectations that each differ from `head` in one field.
fn wrong_for(head: Cursor) -> [Expect; 3] {
    let (epoch, seq, tag) = (head.epoch ^ 1, head.seq + 1, head.tag ^ 1);
    [Cursor { epoch, ..head }, Cursor { seq, ..head }, Cursor { tag, ..head }].map(Expect::At)
}

fn conflicts_at(error: &StoreError, cursor: Cursor) -> bool {
    matches!(error, StoreError::Conflict { head } if head.cursor == cursor)
}

/// An init whose `expect` does not hold fails with `Conflict`, which contains the head, and changes nothing.
///
/// # Panics
/// When the clause does not hold.
pub async fn an_init_checks_its_expectation<H: Harness>(harness: &H) {
    let case = Case::new("an_init_checks_its_expectation", harness).await;
    let a = channel("a");
    let init = |expect| case.store.init(&a, vec![Event::text("init")], expect);
    let head = case.done("an init of an absent channel", init(Expect::NeverUsed).await);
    for wrong in wrong_for(head.cursor).into_iter().chain([Expect::NeverUsed]) {
        case.refused("an init that expects another head", init(wrong).await, |error| conflicts_at(error, head.cursor));
    }
    case.same("the head after refusals", case.head(&a).await, head);
    let next = case.done("an init as expected", init(Expect::At(head.cursor)).await);
    case.holds("another epoch", next.cursor.epoch, |epoch| *epoch != head.cursor.epoch);
    case.done("a delete", case.store.delete(&a).await);
    case.done("an init after a delete", init(Expect::NeverUsed).await);
}

/// A closed channel keeps its entries and refuses new events with `Closed`. Closing it again succeeds.
///
/// # Panics
/// When the clause does not hold.
pub async fn nothing_follows_a_close<H: Harness>(harness: &H) {
    let case = Case::new("nothing_follows_a_close", harness).await;
    let (a, empty) = (channel("a"), channel("empty"));
    case.append(&a, ["1", "2"]).await;
    for of in [&a, &empty] {
        let closed = case.append_all(of, Append::new([]).closing()).await.head;
        case.same("the closed flag", closed.closed, true);
        for refused in [Append::new([Event::text("x")]), Append::new([Event::text("x")]).closing()] {
            case.refused(
                "an append after a close",
                case.store.append(of, refused).await,
                |error| matches!(error, StoreError::Closed { head } if *head == closed),
            );
        }
        case.same("the head after closing again", case.append_all(of, Append::new([]).closing()).await.head, closed);
        case.same("the head of an empty append after a close", case.append_all(of, Append::new([])).await.head, closed);
        case.same("the head after a close", case.head(of).await, closed);
        case.same("a page's head after a close", case.continued(of, closed.cursor).await.head, closed);
    }
    case.same("the texts", texts(&case.read(&a, Start::Earliest).await.entries), vec!["1", "2"]);
}

/// The events of an append that closes the channel and the close become visible together.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_close_is_one_step_with_its_append<H: Harness>(harness: &H) {
    let case = Case::new("a_close_is_one_step_with_its_append", harness).await;
    let a = channel("a");
    let before = case.head(&a).await.cursor;
    let done = case.append_all(&a, Append::new([Event::text("1"), Event::text("2")]).closing()).await;
    case.same("the closed flag", done.head.closed, true);
    let page = case.continued(&a, before).await;
    case.same("the texts of a closing append", texts(&page.entries), vec!["1", "2"]);
    case.same("the head of a closing append", page.head, done.head);
}

/// An init reopens a closed channel, with a new epoch.
///
/// # Panics
/// When the clause does not hold.
pub async fn init_opens_a_closed_channel<H: Harness>(harness: &H) {
    let case = Case::new("init_opens_a_closed_channel", harness).await;
    let a = channel("a");
    let closed = case.append_all(&a, Append::new([Event::text("1")]).closing()).await.head;
    let opened = case.done("an init", case.store.init(&a, vec![], Expect::At(closed.cursor)).await);
    case.same("the closed flag after an init", opened.closed, false);
    case.holds("a new epoch", opened.cursor.epoch, |epoch| *epoch != closed.cursor.epoch);
    case.append(&a, ["2"]).await;
    case.same("the texts", texts(&case.read(&a, Start::Earliest).await.entries), vec!["2"]);
}
