//! Hints of changes. Reads are truth, so a hint may be late or imprecise, but a store that is not under load must yield one.

use std::collections::HashMap;

use super::super::{
    case::{Case, Watch, channel, numbered},
    harness::Harness,
};
use crate::{
    event::{Data, Event},
    store::{Append, Appended, Change, Entry, Expect, Store},
};

/// The first hint of every stream of changes is a `Resync`.
///
/// # Panics
/// When the clause does not hold.
pub async fn changes_begin_with_a_resync<H: Harness>(harness: &H) {
    let case = Case::new("changes_begin_with_a_resync", harness).await;
    case.append(&channel("a"), ["before"]).await;
    let first = case.watch().await;
    let second = case.watch().await;
    drop((first, second));
}

/// Every stream of changes announces every append, through whichever store of the place it was made: with the entries as the
/// store assigned them, or with the new head.
///
/// # Panics
/// When the clause does not hold.
pub async fn changes_announce_appends<H: Harness>(harness: &H) {
    let case = Case::new("changes_announce_appends", harness).await;
    let second = case.second().await;
    let names = ["a", "b", "c"].map(channel);
    let (mut one, mut two) = (case.watch().await, case.watch().await);
    for round in 0..5 {
        for name in &names {
            let before = case.head(name).await.cursor.seq;
            let append = Append::new(numbered(1, 1 + round).into_iter().map(Event::text));
            let store = if round % 2 == 0 { &case.store } else { &second };
            let done = case.done("an append", store.append(name, append).await);
            for watch in [&mut one, &mut two] {
                is_announced(&case, watch, before, &done).await;
            }
        }
    }
}

/// Takes hints until one covers the append, whose first entry follows `before`, and checks that they agree with the append.
async fn is_announced<H: Harness>(case: &Case<'_, H>, watch: &mut Watch<'_, H>, before: u64, done: &Appended) {
    let head = done.head;
    let of = case.some("a new entry", done.entries.first()).channel.clone();
    let mut announced = Vec::new();
    while announced.last().is_none_or(|last: &Entry| last.cursor.seq < head.cursor.seq) {
        match watch.next(&format!("a hint of {of:?} at {}", head.cursor.seq)).await {
            Change::Resync => return,
            Change::Head(changed, announced) if changed == of && announced.cursor.seq > before => {
                return case.same("the head of a hint", announced, head);
            }
            Change::Head(..) => {}
            Change::Entries(entries) => {
                announced.extend(entries.into_iter().filter(|entry| entry.channel == of && entry.cursor.seq > before));
            }
        }
    }
    case.holds(&format!("the last of {:?}", done.entries), announced, |announced| done.entries.ends_with(announced));
}

/// A close, an init and a delete are announced, too.
///
/// # Panics
/// When the clause does not hold.
pub async fn changes_announce_close_init_and_delete<H: Harness>(harness: &H) {
    let case = Case::new("changes_announce_close_init_and_delete", harness).await;
    let a = channel("a");
    case.append(&a, ["1"]).await;
    let mut watch = case.watch().await;
    let closed = case.append_all(&a, Append::new([]).closing()).await.head;
    expect_change(&case, &mut watch, "a close", |change| matches!(change, Change::Head(_, head) if *head == closed))
        .await;
    let new = case.done("an init", case.store.init(&a, vec![Event::text("2")], Expect::Any).await);
    expect_change(&case, &mut watch, "an init", |change| match change {
        Change::Head(_, head) => *head == new,
        Change::Entries(entries) => entries.last().is_some_and(|last| last.cursor == new.cursor),
        Change::Resync => true,
    })
    .await;
    case.done("a delete", case.store.delete(&a).await);
    let absent = case.head(&a).await;
    expect_change(&case, &mut watch, "a delete", |change| matches!(change, Change::Head(_, head) if *head == absent))
        .await;
}

async fn expect_change<H: Harness>(
    _: &Case<'_, H>,
    watch: &mut Watch<'_, H>,
    what: &str,
    test: impl Fn(&Change) -> bool,
) {
    loop {
        let change = watch.next(&format!("a hint of {what}")).await;
        if matches!(change, Change::Resync) || test(&change) {
            return;
        }
    }
}

/// While a stream of changes is not polled, the store holds at most 16 MiB of hints for it; the hints that it then yields still
/// lead to the head of every changed channel.
///
/// # Panics
/// When the clause does not hold.
pub async fn changes_not_taken_are_coalesced<H: Harness>(harness: &H) {
    let case = Case::new("changes_not_taken_are_coalesced", harness).await;
    let mut watch = case.watch().await;
    let large = Data::text("x".repeat(256 << 10));
    let names = ["a", "b"].map(channel);
    for _ in 0..48 {
        for name in &names {
            case.append_all(name, Append::new([Event::new(large.clone())])).await;
        }
    }
    let heads = case.done("heads", case.store.heads(&names).await);
    let mut missing: HashMap<_, _> = names.into_iter().zip(heads).collect();
    let mut bytes = 0;
    while !missing.is_empty() {
        let change = match watch.now() {
            Some(change) => change,
            None => watch.next(&format!("hints that lead to {missing:?}")).await,
        };
        match change {
            Change::Resync => missing.clear(),
            Change::Head(of, head) => missing.retain(|missed, last| of != *missed || head.cursor != last.cursor),
            Change::Entries(entries) => {
                bytes += entries.iter().map(Entry::size).sum::<usize>();
                missing.retain(|_, last| entries.iter().all(|entry| entry.cursor != last.cursor));
            }
        }
    }
    case.holds("at most 16 MiB of the 24 MiB of entries kept for a stream", bytes, |bytes| *bytes <= 16 << 20);
}

/// Dropping a stream of changes, polled or not and whenever it was opened, affects neither appends nor other streams.
///
/// # Panics
/// When the clause does not hold.
pub async fn dropped_changes_do_no_harm<H: Harness>(harness: &H) {
    let case = Case::new("dropped_changes_do_no_harm", harness).await;
    let (a, second) = (channel("a"), case.second().await);
    let mut older = case.watch().await;
    for round in 0..10 {
        drop(case.store.changes());
        let polled = case.watch().await;
        let mut newer = case.watch().await;
        let unpolled = case.store.changes();
        let store = if round % 2 == 0 { &case.store } else { &second };
        // The streams are dropped with hints pending in them, and while no hint is pending in the others.
        let mut append = async |text: &str| {
            let done = case.done("an append", store.append(&a, Append::new([Event::text(text)])).await);
            older.until(&a, done.head.cursor.seq).await;
            newer.until(&a, done.head.cursor.seq).await;
        };
        append("before").await;
        drop(polled);
        append("between").await;
        drop(unpolled);
        append("after").await;
    }
}
