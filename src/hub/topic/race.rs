//! The races of a topic, explored by `loom`: a wake while a reader parks, the hand-over from the store to the ring, and a
//! reader that leaves while it is woken.
//!
//! `RUSTFLAGS="--cfg tower_events_loom" cargo test --lib --release race`

use std::task::Poll;

use loom::{
    future::block_on,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::*;
use crate::{event::Data, store::Entry};

const LAST: u64 = 2;

fn at(seq: u64) -> Cursor {
    Cursor { epoch: 1, seq, tag: seq as u32 }
}

fn head(seq: u64) -> Head {
    Head { cursor: at(seq), closed: false }
}

fn entry(seq: u64) -> Entry {
    let channel = Channel::new("a").unwrap();
    let prev_tag = at(seq - 1).tag;
    Entry { channel, cursor: at(seq), prev_tag, appended: 0, time: 0, name: None, data: Data::text("") }
}

fn topic() -> Arc<Topic> {
    Arc::new(Topic::new(Channel::new("a").unwrap(), 1 << 20, std::sync::Arc::default()))
}

#[test]
fn a_reader_that_parks_is_woken_by_entries_that_are_fed_meanwhile() {
    loom::model(|| {
        let topic = topic();
        let _ = topic.anchor(head(0));
        let publisher = thread::spawn({
            let topic = topic.clone();
            move || assert_eq!(topic.feed(&[entry(1)], None), Advance::NotNeeded)
        });
        let mut slot = topic.join();
        let seen = block_on(std::future::poll_fn(|cx| match topic.poll(&mut slot, at(0), cx) {
            TopicLookup::Run(run) => Poll::Ready(run.next()),
            _ => Poll::Pending,
        }));
        assert_eq!(seen, at(1));
        publisher.join().unwrap();
    });
}

#[test]
fn a_reader_that_took_the_last_run_is_woken_by_the_next() {
    let parked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let has_parked = parked.clone();
    loom::model(move || {
        let topic = topic();
        let _ = topic.anchor(head(0));
        let publisher = thread::spawn({
            let topic = topic.clone();
            move || (1..=LAST).for_each(|seq| assert_eq!(topic.feed(&[entry(seq)], None), Advance::NotNeeded))
        });
        let (mut slot, mut position, mut waker) = (topic.join(), at(0), None);
        block_on(std::future::poll_fn(|cx| {
            // `will_wake` is false for clones of the model's own waker.
            let waker = waker.get_or_insert_with(|| Waker::from(std::sync::Arc::new(Forward(cx.waker().clone()))));
            let cx = &Context::from_waker(waker);
            while position != at(LAST) {
                if topic.is_parked(&slot, cx) {
                    parked.store(true, Ordering::SeqCst);
                    return Poll::Pending;
                }
                match topic.poll(&mut slot, position, cx) {
                    TopicLookup::Run(run) => {
                        position = run.next();
                        slot.take_run();
                    }
                    _ => return Poll::Pending,
                }
            }
            Poll::Ready(())
        }));
        publisher.join().unwrap();
    });
    assert!(has_parked.load(Ordering::SeqCst), "no reader ever waited without another lookup");
}

struct Forward(Waker);

impl std::task::Wake for Forward {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.wake_by_ref();
    }
}

/// A store that consists of its head only: entry `n` is `entry(n)`.
struct Log(Mutex<u64>);

impl Log {
    fn head(&self) -> u64 {
        *self.0.lock().unwrap()
    }

    fn page_after(&self, from: Cursor) -> Page {
        let last = self.head();
        let entries = (from.seq + 1..=last).map(entry).collect();
        Page { outcome: Outcome::Continued, from, entries, next: at(last), head: head(last) }
    }
}

/// What the hub does when a ring needs a read.
fn advance_if_needed(advance: Advance, topic: &Topic, log: &Log) {
    if advance == Advance::NotNeeded || topic.claim_advance() == Advance::NotNeeded {
        return;
    }
    while let Some(position) = topic.next_advance() {
        topic.apply_read(&log.page_after(position));
    }
}

/// What a channel reader does: read from the ring if it holds the position, else from the store, and wait only if nothing
/// follows.
fn read_to_the_end(topic: &Topic, log: &Log) {
    let mut slot = topic.join();
    let (mut position, mut verified) = (at(0), None);
    let read = |cx: &mut Context<'_>| {
        while position != at(LAST) {
            match topic.poll(&mut slot, position, cx) {
                TopicLookup::Run(run) => {
                    assert_eq!(run.encoded_entries()[0].entry().prev(), position, "no entry is skipped or repeated");
                    position = run.next();
                }
                TopicLookup::CaughtUp { .. } => return Poll::Pending,
                TopicLookup::NotInRing { version } | TopicLookup::BeforeRing { version }
                    if verified == Some(version) =>
                {
                    return Poll::Pending;
                }
                TopicLookup::NotInRing { .. } | TopicLookup::BeforeRing { .. } => {
                    let version = topic.version();
                    let page = log.page_after(position);
                    advance_if_needed(topic.anchor(page.head), topic, log);
                    verified = page.entries.is_empty().then_some(version);
                    position = page.next;
                }
            }
        }
        Poll::Ready(())
    };
    let mut read = read;
    block_on(std::future::poll_fn(move |cx| read(cx)));
    topic.leave(&slot);
}

#[test]
fn the_hand_over_from_the_store_to_the_ring_neither_skips_nor_hangs() {
    let mut model = loom::model::Builder::new();
    // All schedules take ten minutes: `LOOM_MAX_PREEMPTIONS=100` runs them. According to loom's authors two or three
    // preemptions reveal almost every bug.
    model.preemption_bound.get_or_insert(6);
    model.check(|| {
        let (topic, log) = (topic(), Arc::new(Log(Mutex::new(0))));
        let publisher = thread::spawn({
            let (topic, log) = (topic.clone(), log.clone());
            move || {
                for seq in 1..=LAST {
                    *log.0.lock().unwrap() = seq;
                    advance_if_needed(topic.feed(&[entry(seq)], Some(head(seq))), &topic, &log);
                }
            }
        });
        read_to_the_end(&topic, &log);
        publisher.join().unwrap();
    });
}

#[test]
fn entries_that_are_fed_out_of_order_are_all_read() {
    loom::model(|| {
        let (topic, log) = (topic(), Arc::new(Log(Mutex::new(0))));
        let _ = topic.anchor(head(0));
        let publishers = [1, 2].map(|_| {
            let (topic, log) = (topic.clone(), log.clone());
            thread::spawn(move || {
                let seq = {
                    let mut last = log.0.lock().unwrap();
                    *last += 1;
                    *last
                };
                advance_if_needed(topic.feed(&[entry(seq)], Some(head(seq))), &topic, &log);
            })
        });
        for publisher in publishers {
            publisher.join().unwrap();
        }
        // A publisher that found a gap has read the store, or left that to the one that was reading.
        assert!(matches!(topic.peek(at(LAST)), TopicLookup::CaughtUp { .. }));
    });
}

#[test]
fn a_hint_that_comes_while_the_store_is_read_is_not_forgotten() {
    loom::model(|| {
        let (topic, log) = (topic(), Arc::new(Log(Mutex::new(0))));
        let _ = topic.anchor(head(0));
        let publishers = [1, 2].map(|_| {
            let (topic, log) = (topic.clone(), log.clone());
            thread::spawn(move || {
                *log.0.lock().unwrap() += 1;
                advance_if_needed(topic.hint_head(head(log.head())), &topic, &log);
            })
        });
        for publisher in publishers {
            publisher.join().unwrap();
        }
        assert!(matches!(topic.peek(at(LAST)), TopicLookup::CaughtUp { .. }));
    });
}

#[test]
fn a_reader_that_leaves_takes_no_other_readers_wake() {
    loom::model(|| {
        let topic = topic();
        let _ = topic.anchor(head(0));
        let leaver = topic.join();
        let publisher = thread::spawn({
            let topic = topic.clone();
            move || assert_eq!(topic.feed(&[entry(1)], None), Advance::NotNeeded)
        });
        let stayer = thread::spawn({
            let topic = topic.clone();
            move || {
                let mut slot = topic.join();
                block_on(std::future::poll_fn(|cx| match topic.poll(&mut slot, at(0), cx) {
                    TopicLookup::Run(_) => Poll::Ready(()),
                    _ => Poll::Pending,
                }));
            }
        });
        topic.leave(&leaver);
        publisher.join().unwrap();
        stayer.join().unwrap();
    });
}

#[test]
fn a_drain_reaches_a_reader_that_parks() {
    loom::model(|| {
        let (topic, draining) = (topic(), Arc::new(AtomicBool::new(false)));
        let _ = topic.anchor(head(0));
        let drainer = thread::spawn({
            let (topic, draining) = (topic.clone(), draining.clone());
            move || {
                draining.store(true, Ordering::SeqCst);
                topic.wake_all();
            }
        });
        let mut slot = topic.join();
        block_on(std::future::poll_fn(|cx| {
            let _ = topic.poll(&mut slot, at(0), cx);
            if draining.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        }));
        drainer.join().unwrap();
    });
}
