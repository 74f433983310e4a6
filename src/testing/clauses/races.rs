//! Concurrent calls that affect each other. Worth running on a runtime with one thread and on one with several.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::super::{
    case::{Case, channel, keyed, numbered, texts},
    harness::Harness,
};
use crate::{
    channel::Channel,
    cursor::Cursor,
    event::Event,
    store::{Append, Appended, Expect, Head, Page, Start, Store, StoreError},
};

/// Of concurrent appends with the same key, one is stored as new and all the others report its entry as a duplicate.
///
/// # Panics
/// When the clause does not hold.
pub async fn of_concurrent_appends_with_one_key_one_is_new<H: Harness>(harness: &H) {
    let case = Case::new("of_concurrent_appends_with_one_key_one_is_new", harness).await;
    let a = channel("a");
    for round in 0..10 {
        let appends = (0..6).map(|_| Append::new([keyed("x", &format!("k{round}"))]));
        let receipts: Vec<_> = at_once(&case, &a, appends)
            .await
            .into_iter()
            .flat_map(|done| case.done("an append", done).receipts)
            .collect();
        let new = receipts.iter().filter(|receipt| !receipt.duplicate).count();
        case.same("the number of appends that are not duplicates", new, 1);
        let cursors: BTreeSet<_> = receipts.iter().map(|receipt| place_of(receipt.cursor)).collect();
        case.same("the number of different entries in the receipts", cursors.len(), 1);
        case.same("the number of entries", case.read(&a, Start::Earliest).await.entries.len(), round + 1);
    }
}

/// Of concurrent appends that expect the same head, exactly one succeeds; the others fail with `Conflict`.
///
/// # Panics
/// When the clause does not hold.
pub async fn of_concurrent_appends_at_one_head_one_succeeds<H: Harness>(harness: &H) {
    let case = Case::new("of_concurrent_appends_at_one_head_one_succeeds", harness).await;
    let a = channel("a");
    case.append(&a, ["first"]).await;
    for round in 0..10 {
        let head = case.head(&a).await.cursor;
        let appends = (0..6).map(|n| Append::new([Event::text(n.to_string())]).expecting(Expect::At(head)));
        let mut won = 0;
        for done in at_once(&case, &a, appends).await {
            match done {
                Ok(_) => won += 1,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => case.fail("a concurrent append", "success or `Conflict`", &error),
            }
        }
        case.same("the number of appends that succeeded", won, 1);
        case.same("the number of entries", case.read(&a, Start::Earliest).await.entries.len(), round + 2);
    }
}

/// Makes the appends concurrently, each through a store of its own.
async fn at_once<H: Harness>(
    case: &Case<'_, H>,
    of: &Channel,
    appends: impl Iterator<Item = Append>,
) -> Vec<Result<Appended, StoreError>> {
    let mut racers = Vec::new();
    for append in appends {
        let (store, of) = (case.second().await, of.clone());
        racers.push(tokio::spawn(async move { store.append(&of, append).await }));
    }
    let mut done = Vec::new();
    for racer in racers {
        match racer.await {
            Ok(result) => done.push(result),
            Err(error) => case.fail("a concurrent append", "no panic", &error),
        }
    }
    done
}

/// Every append that is acknowledged during a concurrent close is stored before the close; all other appends are refused.
///
/// # Panics
/// When the clause does not hold.
pub async fn appends_acknowledged_during_a_close_are_kept<H: Harness>(harness: &H) {
    let case = Case::new("appends_acknowledged_during_a_close_are_kept", harness).await;
    for round in 0..8 {
        let a = channel(&format!("a{round}"));
        let others = appenders(&case, &a).await;
        let_others_run(round * 3).await;
        let closed = case.append_all(&a, Append::new([]).closing()).await.head;
        let acknowledged = acknowledged(&case, others).await;
        let page = case.read(&a, Start::Earliest).await;
        case.same("the entries, which are those acknowledged during a close", positions(&page), acknowledged);
        case.same("the head", page.head, closed);
    }
}

/// Every append that is acknowledged during a concurrent init belongs to the history of its receipt's epoch: to the old one,
/// which the init replaced, or to the new one, from which it is read.
///
/// # Panics
/// When the clause does not hold.
pub async fn appends_acknowledged_during_an_init_belong_to_one_history<H: Harness>(harness: &H) {
    let case = Case::new("appends_acknowledged_during_an_init_belong_to_one_history", harness).await;
    for round in 0..8 {
        let a = channel(&format!("a{round}"));
        let others = appenders(&case, &a).await;
        let_others_run(round * 3).await;
        let start = case.done("an init", case.store.init(&a, vec![Event::text("init")], Expect::Any).await);
        let mut acknowledged = acknowledged(&case, others).await;
        acknowledged.retain(|(epoch, ..), _| *epoch == start.cursor.epoch);
        acknowledged.insert(place_of(start.cursor), "init".to_owned());
        let page = case.read(&a, Start::Earliest).await;
        case.same("the entries, which are those acknowledged after an init", positions(&page), acknowledged);
    }
}

/// Every append that is acknowledged during a concurrent delete was deleted with the old log, or is read from the new one.
///
/// # Panics
/// When the clause does not hold.
pub async fn appends_acknowledged_during_a_delete_are_dropped_or_kept<H: Harness>(harness: &H) {
    let case = Case::new("appends_acknowledged_during_a_delete_are_dropped_or_kept", harness).await;
    for round in 0..8 {
        let a = channel(&format!("a{round}"));
        let others = appenders(&case, &a).await;
        let_others_run(round * 3).await;
        case.done("a delete", case.store.delete(&a).await);
        let mut acknowledged = acknowledged(&case, others).await;
        let page = case.read(&a, Start::Earliest).await;
        acknowledged.retain(|(_, seq, _), _| *seq > page.from.seq);
        case.same("the entries, which are those acknowledged after a delete", positions(&page), acknowledged);
    }
}

type Appenders = Vec<tokio::task::JoinHandle<Vec<Result<Appended, StoreError>>>>;

/// Starts tasks that each append ten events, one after the other.
async fn appenders<H: Harness>(case: &Case<'_, H>, of: &Channel) -> Appenders {
    let mut appenders = Vec::new();
    for nth in 0..4 {
        let (store, of) = (case.second().await, of.clone());
        appenders.push(tokio::spawn(async move {
            let mut done = Vec::new();
            for n in 0..10 {
                done.push(store.append(&of, Append::new([Event::text(format!("{nth}:{n}"))])).await);
                let_others_run((nth + n) % 3).await;
            }
            done
        }));
    }
    appenders
}

/// Lets other tasks make some progress. Callers vary `times`: a runtime with one thread schedules its tasks so evenly that a
/// fixed number would produce the same interleaving every time.
async fn let_others_run(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

/// The parts of a cursor, as a type that has an order: epoch, `seq`, tag.
type Position = (u64, u64, u32);

fn place_of(cursor: Cursor) -> Position {
    (cursor.epoch, cursor.seq, cursor.tag)
}

fn positions(page: &Page) -> BTreeMap<Position, String> {
    page.entries.iter().map(|entry| (place_of(entry.cursor), entry.data.as_shown().to_owned())).collect()
}

/// The entries of the appends that succeeded.
async fn acknowledged<H: Harness>(case: &Case<'_, H>, appenders: Appenders) -> BTreeMap<Position, String> {
    let mut all = BTreeMap::new();
    for appender in appenders {
        let done = match appender.await {
            Ok(done) => done,
            Err(error) => case.fail("an appender", "no panic", &error),
        };
        for result in done {
            match result {
                Ok(done) => {
                    let of = |entry: &crate::store::Entry| (place_of(entry.cursor), entry.data.as_shown().to_owned());
                    all.extend(done.entries.iter().map(of));
                }
                // A store may refuse an append when it is overloaded, if it changes nothing then.
                Err(StoreError::Closed { .. } | StoreError::Unavailable(_)) => {}
                Err(error) => case.fail("a concurrent append", "success, `Closed` or `Unavailable`", &error),
            }
        }
    }
    all
}

/// A concurrent reader sees each batch whole or not at all, never sees a head below what it has read, and sees the last batch
/// together with the close.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_reader_sees_a_batch_whole<H: Harness>(harness: &H) {
    let case = Case::new("a_reader_sees_a_batch_whole", harness).await;
    let (a, second) = (channel("a"), case.second().await);
    let batch = |size| Append::new(numbered(1, size).into_iter().map(Event::text));
    // The number of entries after each batch.
    let ends = [0, 5, 10, 15, 20, 320, 325, 330, 335];
    let appender = tokio::spawn({
        let a = a.clone();
        async move {
            for size in [5, 5, 5, 5, 300, 5, 5] {
                second.append(&a, batch(size)).await?;
                let_others_run(1 + size as usize % 2).await;
            }
            second.append(&a, batch(5).closing()).await
        }
    });
    let start = case.head(&a).await.cursor;
    for reads in 1.. {
        let ended = appender.is_finished();
        let page = case.read(&a, Start::Earliest).await;
        let whole = page.entries.len();
        case.holds("the number of entries of whole batches", whole, |whole| ends.contains(whole));
        let last = page.entries.last().map_or(start, |last| last.cursor);
        case.same("the head of the page", page.head.cursor.seq, last.seq);
        case.same("the closed flag, which is set by the last batch", page.head.closed, whole == 335);
        let head = case.head(&a).await;
        case.holds(&format!("no head below {last:?}"), head, |head| head.cursor.seq >= last.seq);
        if ended {
            case.same("the number of entries at the end", whole, 335);
            break;
        }
        let_others_run(1 + reads % 3).await;
    }
    match appender.await {
        Ok(done) => _ = case.done("an append", done),
        Err(error) => case.fail("an appender", "no panic", &error),
    }
}

/// A concurrent reader sees the entries from before an init or all of its events, never a mixture.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_reader_sees_an_init_whole<H: Harness>(harness: &H) {
    let case = Case::new("a_reader_sees_an_init_whole", harness).await;
    let (a, second) = (channel("a"), case.second().await);
    let init = |round: usize| vec![Event::text(round.to_string()); 3 + round % 2 * 4];
    case.done("an init", case.store.init(&a, init(0), Expect::Any).await);
    let initialiser = tokio::spawn({
        let a = a.clone();
        async move {
            for round in 1..20 {
                second.init(&a, init(round), Expect::Any).await?;
                let_others_run(round % 3).await;
            }
            Ok(())
        }
    });
    let mut reads = 0;
    while !initialiser.is_finished() {
        reads += 1;
        let page = case.read(&a, Start::Earliest).await;
        let seen = texts(&page.entries);
        case.holds("the events of one init", seen, |seen| {
            let round = seen.first().and_then(|text| text.parse::<usize>().ok());
            round.is_some_and(|round| *seen == vec![&*round.to_string(); 3 + round % 2 * 4])
        });
        let_others_run(1 + reads % 3).await;
    }
    match initialiser.await {
        Ok(done) => case.done("an init", done),
        Err(error) => case.fail("the task that calls `init`", "no panic", &error),
    }
}

/// An init or delete that is dropped after any number of polls is applied whole or not at all.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_dropped_init_or_delete_happened_whole_or_not_at_all<H: Harness>(harness: &H) {
    let case = Case::new("a_dropped_init_or_delete_happened_whole_or_not_at_all", harness).await;
    let a = channel("a");
    for polls in 0..20 {
        case.done("an init", case.store.init(&a, vec![Event::text("old"); 3], Expect::Any).await);
        let init = case.store.init(&a, vec![Event::text("new"); 2], Expect::Any);
        poll_and_drop(init, polls).await;
        comes_to_be(&case, &a, &[vec!["old"; 3], vec!["new"; 2]]).await;
        case.done("an init", case.store.init(&a, vec![Event::text("old"); 3], Expect::Any).await);
        poll_and_drop(case.store.delete(&a), polls).await;
        comes_to_be(&case, &a, &[vec!["old"; 3], vec![]]).await;
    }
}

async fn comes_to_be<H: Harness>(case: &Case<'_, H>, of: &Channel, allowed: &[Vec<&str>]) {
    let page = case.read(of, Start::Earliest).await;
    case.holds(&format!("one of {allowed:?}"), texts(&page.entries), |seen| allowed.contains(seen));
    let Head { cursor, .. } = page.head;
    case.same("the head of the page", cursor.seq, page.entries.last().map_or(page.from.seq, |last| last.cursor.seq));
}

async fn poll_and_drop<T>(future: impl Future<Output = T>, polls: usize) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        match polled.map(drop) {
            Poll::Ready(()) => return,
            Poll::Pending => tokio::task::yield_now().await,
        }
    }
}
