//! Concurrent calls, and futures that are dropped. Worth running on a runtime with several threads.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::super::{
    case::{ALL, Case, channel, keyed, texts},
    harness::Harness,
};
use crate::{
    channel::Channel,
    event::Event,
    store::{Append, Expect, Limit, Outcome, Reason, Retention, Start, Store, StoreError},
};

/// The batches of concurrent appenders stay contiguous and in the order of each appender, and a concurrent reader sees every
/// event exactly once.
///
/// # Panics
/// When the clause does not hold.
pub async fn concurrent_appends_leave_one_dense_order<H: Harness>(harness: &H) {
    let case = Case::new("concurrent_appends_leave_one_dense_order", harness).await;
    let (a, mut next) = (channel("a"), case.head(&channel("a")).await.cursor);
    let mut appenders = Vec::new();
    for who in 0..APPENDERS {
        let (store, a) = (case.second().await, a.clone());
        appenders.push(tokio::spawn(async move {
            for n in 0..ROUNDS {
                let batch = (0..3).map(|k| Event::text(format!("{who}:{:03}", n * 3 + k)));
                appended(store.append(&a, Append::new(batch)).await);
                tokio::task::yield_now().await;
            }
        }));
    }
    let mut seen = Vec::new();
    let mut rounds = 0;
    loop {
        let ended = appenders.iter().all(tokio::task::JoinHandle::is_finished);
        let page = case.read_at_most(&a, Start::After(next), Limit { events: 7, ..Limit::default() }).await;
        case.same("the outcome of reading the next page", page.outcome, Outcome::Continued);
        for entry in &page.entries {
            case.same("the position before an entry", entry.prev(), next);
            next = entry.cursor;
        }
        case.same("the position after a page", page.next, next);
        seen.extend(page.entries);
        if ended && next == page.head.cursor {
            break;
        }
        rounds += usize::from(ended);
        case.holds("the head to be reached after the last append", rounds, |rounds| *rounds < FEW);
        tokio::task::yield_now().await;
    }
    let seen = texts(&seen);
    for who in 0..APPENDERS {
        let own: Vec<_> = seen.iter().filter(|text| text.starts_with(&format!("{who}:"))).copied().collect();
        let expected: Vec<_> = (0..ROUNDS * 3).map(|n| format!("{who}:{n:03}")).collect();
        case.same("the events of one appender", own, expected.iter().map(|n| &**n).collect());
    }
    let whose = |text: &&str| text.split(':').next().map(str::to_owned);
    for batch in seen.chunks(3) {
        let rest = batch.iter().skip(1);
        case.holds("a batch in one piece", batch, |batch| batch.iter().zip(rest).all(|(a, b)| whose(a) == whose(b)));
    }
}

/// Of concurrent inits and appends that expect an unused channel, exactly one succeeds; the others fail with `Conflict`.
///
/// # Panics
/// When the clause does not hold.
pub async fn of_concurrent_calls_with_one_expectation_one_succeeds<H: Harness>(harness: &H) {
    let case = Case::new("of_concurrent_calls_with_one_expectation_one_succeeds", harness).await;
    for round in 0..10 {
        let a = channel(&format!("a{round}"));
        let mut racers = Vec::new();
        for who in 0..6 {
            let (store, a) = (case.second().await, a.clone());
            racers.push(tokio::spawn(async move {
                let event = Event::text(who.to_string());
                let won = if who % 2 == 0 {
                    store.init(&a, vec![event], Expect::NeverUsed).await.map(|head| head.cursor)
                } else {
                    let append = Append::new([event]).expecting(Expect::NeverUsed);
                    store.append(&a, append).await.map(|done| done.head.cursor)
                };
                match won {
                    Ok(cursor) => Some(cursor),
                    Err(StoreError::Conflict { .. }) => None,
                    Err(error) => panic!("a concurrent call: expected success or `Conflict`, got {error:?}"),
                }
            }));
        }
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await {
                Ok(won) => winners.extend(won),
                Err(error) => case.fail("a concurrent call", "no panic", &error),
            }
        }
        case.same("the heads of the calls that succeeded", winners, vec![case.head(&a).await.cursor]);
        case.same("the number of entries", case.read(&a, Start::Earliest).await.entries.len(), 1);
    }
}

/// An append that is dropped after any number of polls is applied whole or not at all. Repeating it with the same keys stores its
/// events once.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_dropped_append_happened_whole_or_not_at_all<H: Harness>(harness: &H) {
    let case = Case::new("a_dropped_append_happened_whole_or_not_at_all", harness).await;
    let a = channel("a");
    let mut finished = false;
    let mut polls = 0;
    while !finished && polls < 50 {
        let batch: Vec<_> = (0..5).map(|n| keyed(&format!("{polls}/{n}"), &format!("{polls}/{n}"))).collect();
        finished = poll_and_drop(&case.store, &a, Append::new(batch.clone()), polls).await;
        let before: Vec<_> = case.read(&a, Start::Earliest).await.entries;
        let mine = before.iter().filter(|entry| entry.data.as_shown().starts_with(&format!("{polls}/"))).count();
        case.holds("all entries of the dropped batch or none", mine, |n| [0, 5].contains(n));
        // With the same keys, it is stored once, whether or not the dropped append was applied.
        let again = case.append_all(&a, Append::new(batch)).await;
        case.holds("all entries of the repeated batch or none to be new", again.entries.len(), |n| [0, 5].contains(n));
        polls += 1;
    }
    let all = case.read(&a, Start::Earliest).await.entries;
    let expected: Vec<_> = (0..polls).flat_map(|p| (0..5).map(move |n| format!("{p}/{n}"))).collect();
    case.same("all texts at the end", texts(&all), expected.iter().map(|text| &**text).collect());
}

/// Polls the append at most `polls` times without waiting to be woken, and lets other tasks run in between. Returns whether it
/// completed.
async fn poll_and_drop<S: Store>(store: &S, channel: &Channel, append: Append, polls: usize) -> bool {
    let mut future = pin!(store.append(channel, append));
    for _ in 0..polls {
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        match polled.map(drop) {
            Poll::Ready(()) => return true,
            Poll::Pending => tokio::task::yield_now().await,
        }
    }
    false
}

/// The pages of a reader have no gaps while retention drops entries, except after a reset with `Trimmed`.
///
/// # Panics
/// When the clause does not hold.
pub async fn pages_have_no_gaps_while_entries_are_dropped<H: Harness>(harness: &H) {
    let retention = Retention::default().events(20);
    let case = Case::keeping("pages_have_no_gaps_while_entries_are_dropped", harness, retention).await;
    let (a, second) = (channel("a"), Arc::new(case.second().await));
    let (mut next, mut rounds) = (case.head(&a).await.cursor, 0);
    let appender = tokio::spawn({
        let a = a.clone();
        async move {
            for n in 0..200 {
                appended(second.append(&a, Append::new((0..7).map(|k| Event::text(format!("{n}/{k}"))))).await);
                tokio::task::yield_now().await;
            }
        }
    });
    loop {
        let ended = appender.is_finished();
        let page = case.read_at_most(&a, Start::After(next), Limit { events: 3, ..Limit::default() }).await;
        match page.outcome {
            Outcome::Continued => case.same("where a continued page starts", page.from, next),
            Outcome::Reset(Reason::Trimmed) => {
                case.holds("a later position after a `Trimmed` reset", page.from.seq, |seq| *seq > next.seq);
            }
            other @ Outcome::Reset(_) => case.fail("the outcome", "`Continued` or `Trimmed`", &other),
        }
        next = page.from;
        for entry in &page.entries {
            case.same("the position before an entry", entry.prev(), next);
            next = entry.cursor;
        }
        if ended && next == page.head.cursor {
            break;
        }
        rounds += usize::from(ended);
        case.holds("the head to be reached after the last append", rounds, |rounds| *rounds < FEW);
        tokio::task::yield_now().await;
    }
    let all = case.read_at_most(&a, Start::Last(5), ALL).await;
    case.same("the number of entries from `Last(5)`", all.entries.len(), 5);
}

fn appended<T>(result: Result<T, StoreError>) -> T {
    result.unwrap_or_else(|error| panic!("an append: expected success, got {error:?}"))
}

const APPENDERS: usize = 5;
const ROUNDS: usize = 40;

/// More pages than any store needs to return everything that was appended.
const FEW: usize = 2_000;
