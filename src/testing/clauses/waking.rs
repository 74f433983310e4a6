//! How streams of changes wake their tasks, and what hints contain.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_core::Stream;

use super::super::{
    case::{Case, Watch, channel},
    harness::Harness,
};
use crate::{
    event::Event,
    store::{Append, Change, Entry, Store},
};

/// A pending stream of changes wakes the waker of its last poll after an append. A stream that is dropped keeps no waker.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_waiting_stream_of_changes_is_woken<H: Harness>(harness: &H) {
    let case = Case::new("a_waiting_stream_of_changes_is_woken", harness).await;
    let (a, second) = (channel("a"), case.second().await);
    for store in [&case.store, &second] {
        let mut stream: Pin<Box<dyn Stream<Item = Change> + Send>> = Box::pin(case.store.changes());
        let (first, last) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        // Polled until it is armed, then until it is pending with both wakers in turn: other hints may arrive meanwhile.
        let mut is_armed = false;
        loop {
            is_armed |= polls_as(&mut stream, &first).is_ready();
            if !is_armed {
                case.wait().await;
            } else if polls_as(&mut stream, &first).is_pending() && polls_as(&mut stream, &last).is_pending() {
                break;
            }
        }
        case.done("an append", store.append(&a, Append::new([Event::text("x")])).await);
        for _ in 0..500 {
            if last.count() > 0 {
                break;
            }
            case.wait().await;
        }
        case.holds("the waker of the last poll to be woken", last.count(), |wakes| *wakes > 0);
        drop(stream);
        for wakes in [first, last] {
            for _ in 0..500 {
                if Arc::strong_count(&wakes) == 1 {
                    break;
                }
                case.wait().await;
            }
            case.same("the references that a dropped stream keeps to a waker", Arc::strong_count(&wakes) - 1, 0);
        }
    }
}

fn polls_as(stream: &mut Pin<Box<dyn Stream<Item = Change> + Send>>, wakes: &Arc<Wakes>) -> Poll<Option<Change>> {
    stream.as_mut().poll_next(&mut Context::from_waker(&Waker::from(Arc::clone(wakes))))
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The entries of a hint belong to one channel and are contiguous, as the store assigned them, even under concurrent appends.
///
/// # Panics
/// When the clause does not hold.
pub async fn a_change_holds_contiguous_entries_of_one_channel<H: Harness>(harness: &H) {
    let case = Case::new("a_change_holds_contiguous_entries_of_one_channel", harness).await;
    let names = ["a", "b", "c"].map(channel);
    let mut watch = case.watch().await;
    let mut appenders = Vec::new();
    // Dropping a store may lose hints that it has not sent yet, so all stores are kept.
    let mut kept = Vec::new();
    for nth in 0..3 {
        let (store, names) = (Arc::new(case.second().await), names.clone());
        kept.push(Arc::clone(&store));
        appenders.push(tokio::spawn(async move {
            for n in 0..20 {
                for name in &names {
                    let batch = (0..=n % 3).map(|k| Event::text(format!("{nth}:{n}:{k}")));
                    store.append(name, Append::new(batch)).await?;
                }
            }
            Ok(())
        }));
    }
    for appender in appenders {
        match appender.await {
            Ok(done) => case.done("an append", done),
            Err(error) => case.fail("an appender", "no panic", &error),
        }
    }
    let mut missing = HashMap::new();
    let mut entries = HashMap::new();
    for name in &names {
        missing.insert(name.clone(), case.head(name).await.cursor.seq);
        let page = case.read(name, crate::store::Start::Earliest).await;
        entries.extend(page.entries.into_iter().map(|entry| ((name.clone(), entry.cursor.seq), entry)));
    }
    while !missing.is_empty() {
        match watch.next(&format!("hints that lead to {missing:?}")).await {
            Change::Resync => missing.clear(),
            Change::Head(of, head) => missing.retain(|name, seq| *name != of || *seq > head.cursor.seq),
            Change::Entries(hint) if hint.iter().any(|entry| !names.contains(&entry.channel)) => {}
            Change::Entries(hint) => {
                for entry in &hint {
                    let stored = entries.get(&(entry.channel.clone(), entry.cursor.seq));
                    case.same("an entry of a hint", Some(entry), stored);
                }
                are_neighbours(&case, &hint);
                let last = hint.last().map(|last| (last.channel.clone(), last.cursor.seq));
                missing.retain(|name, seq| last.as_ref().is_none_or(|(of, last)| name != of || *seq > *last));
            }
        }
    }
}

fn are_neighbours<H: Harness>(case: &Case<'_, H>, hint: &[Entry]) {
    case.holds("at least one entry", hint.len(), |entries| *entries > 0);
    for (before, entry) in hint.iter().zip(hint.iter().skip(1)) {
        case.same("the channel of an entry", &entry.channel, &before.channel);
        case.same("the position before an entry", entry.prev(), before.cursor);
    }
}

/// An append that closes the channel is announced with the closed head, too.
///
/// # Panics
/// When the clause does not hold.
pub async fn changes_announce_a_close_with_events<H: Harness>(harness: &H) {
    let case = Case::new("changes_announce_a_close_with_events", harness).await;
    let (a, second) = (channel("a"), case.second().await);
    let mut watch = case.watch().await;
    let append = Append::new(["1", "2"].map(Event::text)).closing();
    let closed = case.done("an append", second.append(&a, append).await).head;
    until_head(&mut watch, "a close", |change| matches!(change, Change::Head(of, head) if *of == a && *head == closed))
        .await;
}

/// Changes are announced whatever the channel's name is, and also after a delete.
///
/// # Panics
/// When the clause does not hold.
pub async fn changes_announce_any_name<H: Harness>(harness: &H) {
    let case = Case::new("changes_announce_any_name", harness).await;
    let second = case.second().await;
    let mut watch = case.watch().await;
    let names = [" ", "*", ">", "a.b", "a b", "%00", "\u{e4}", "\u{1f600}", "\u{2028}", "'", "\"", "\\", "{a}", "a:b"];
    let long = "x".repeat(255);
    for name in names.into_iter().chain([&*long]) {
        let of = channel(name);
        for store in [&case.store, &second] {
            let done = case.done("an append", store.append(&of, Append::new([Event::text("x")])).await);
            watch.until(&of, done.head.cursor.seq).await;
        }
        case.done("a delete", second.delete(&of).await);
        let absent = case.head(&of).await;
        until_head(
            &mut watch,
            "a delete",
            |change| matches!(change, Change::Head(told, head) if *told == of && *head == absent),
        )
        .await;
        let done = case.done("an append", second.append(&of, Append::new([Event::text("x")])).await);
        watch.until(&of, done.head.cursor.seq).await;
    }
}

/// The hint of a quiet channel is not lost among the hints of busy ones, even if the stream is not polled meanwhile.
///
/// # Panics
/// When the clause does not hold.
pub async fn changes_of_a_quiet_channel_are_not_lost_among_busy_ones<H: Harness>(harness: &H) {
    let case = Case::new("changes_of_a_quiet_channel_are_not_lost_among_busy_ones", harness).await;
    let (quiet, second) = (channel("quiet"), case.second().await);
    let mut watch = case.watch().await;
    let head = case.done("an append", second.append(&quiet, Append::new([Event::text("x")])).await).head;
    for n in 0..400 {
        let busy = channel(&format!("busy {}", n % 40));
        case.done("an append", second.append(&busy, Append::new(["x", "y"].map(Event::text))).await);
    }
    watch.until(&quiet, head.cursor.seq).await;
}

/// Takes hints until one passes the test or is a resync.
async fn until_head<H: Harness>(watch: &mut Watch<'_, H>, what: &str, test: impl Fn(&Change) -> bool) {
    loop {
        let change = watch.next(&format!("a hint of {what}")).await;
        if matches!(change, Change::Resync) || test(&change) {
            return;
        }
    }
}
