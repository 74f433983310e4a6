//! What parks and wakes the readers of a topic.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::Wake,
};

use super::*;
use crate::{
    event::Data,
    hub::shared_page::ReadContext,
    store::{Limit, Reason, Start},
};

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn head(seq: u64) -> Head {
    Head { cursor: Cursor { epoch: 1, seq, tag: seq as u32 }, closed: false }
}

/// Two entries are more than a run.
fn entry(seq: u64) -> Entry {
    Entry {
        channel: Channel::new("a").unwrap(),
        cursor: head(seq).cursor,
        prev_tag: seq as u32 - 1,
        appended: 0,
        time: 0,
        name: None,
        data: Data::text("x".repeat(40 << 10)),
    }
}

fn page(from: u64, to: u64) -> Page {
    let (from, head) = (head(from).cursor, head(to));
    Page { outcome: Outcome::Continued, from, entries: Vec::new(), next: head.cursor, head }
}

#[test]
fn a_read_wakes_readers_only_when_it_changes_the_ring() {
    let topic = Topic::new(Channel::new("a").unwrap(), 1 << 20, Arc::default());
    assert_eq!(topic.anchor(head(1)), Advance::NotNeeded);
    let (mut slot, count) = (topic.join(), Arc::new(Count::default()));
    let mut park = || topic.poll(&mut slot, head(1).cursor, &Context::from_waker(&count.clone().into()));
    for (read, woken) in [(page(1, 1), 0), (page(0, 0), 0), (page(1, 3), 1)] {
        assert!(matches!(park(), TopicLookup::CaughtUp { closed: false }));
        topic.apply_read(&read);
        assert_eq!(count.0.load(Relaxed), woken, "{read:?}");
    }
    assert_eq!((topic.has_readers(), topic.leave(&slot)), (true, Occupancy::Empty));
}

#[test]
fn a_parked_reader_looks_again_after_any_wake_and_with_another_waker() {
    let topic = Topic::new(Channel::new("a").unwrap(), 1 << 20, Arc::default());
    let _ = topic.anchor(head(0));
    let [one, other] = [(); 2].map(|()| Waker::from(Arc::new(Count::default())));
    let (one, other) = (&Context::from_waker(&one), &Context::from_waker(&other));
    let mut slot = topic.join();
    let _ = topic.feed(&[entry(1), entry(2)], None);
    let mut lookup = |seq, cx: &Context<'_>, change: &dyn Fn()| {
        if let TopicLookup::Run(_) = topic.poll(&mut slot, head(seq).cursor, cx) {
            assert!(!topic.is_parked(&slot, cx), "the run was not taken yet");
            slot.take_run();
        }
        change();
        (topic.is_parked(&slot, one), topic.is_parked(&slot, other))
    };
    assert_eq!(lookup(0, one, &|| ()), (false, false), "the second entry follows");
    assert_eq!(lookup(1, one, &|| ()), (true, false), "it took the last entry");
    assert_eq!(lookup(2, other, &|| ()), (false, true), "another task polls now");
    assert_eq!(lookup(2, one, &|| topic.wake_all()), (false, false));
    assert_eq!(lookup(2, one, &|| assert_eq!(topic.feed(&[entry(3)], None), Advance::NotNeeded)), (false, false));
    let _ = topic.feed(&[], Some(Head { closed: true, ..head(3) }));
    assert_eq!(lookup(2, one, &|| ()), (false, false), "the close follows");
    assert_eq!(lookup(3, one, &|| ()), (false, false), "nothing ever follows");
}

#[test]
fn a_reader_is_woken_unless_it_has_more_than_one_run_to_take() {
    let topic = Topic::new(Channel::new("a").unwrap(), 1 << 20, Arc::default());
    let _ = topic.anchor(head(0));
    let _ = topic.feed(&[entry(1), entry(2)], None);
    for (seq, woken) in [(0, 0), (1, 1), (2, 1)] {
        let (mut slot, count) = (topic.join(), Arc::new(Count::default()));
        topic.poll(&mut slot, head(seq).cursor, &Context::from_waker(&count.clone().into()));
        topic.wake_all();
        assert_eq!(count.0.load(Relaxed), woken, "at {seq}");
    }
}

#[test]
fn a_reader_that_registers_for_any_change_is_not_parked() {
    let topic = Topic::new(Channel::new("a").unwrap(), 1 << 20, Arc::default());
    let _ = topic.anchor(head(0));
    let waker = Waker::from(Arc::new(Count::default()));
    let (mut slot, cx) = (topic.join(), &Context::from_waker(&waker));
    topic.poll(&mut slot, head(0).cursor, cx);
    assert!(topic.is_parked(&slot, cx));
    topic.register(&mut slot, cx);
    assert!(!topic.is_parked(&slot, cx));
}

#[test]
fn a_read_that_finds_another_history_begins_another_generation() {
    let topic = Topic::new(Channel::new("a").unwrap(), 1 << 20, Arc::default());
    let _ = topic.anchor(head(1));
    let reset = Page { outcome: Outcome::Reset(Reason::EpochChanged), ..page(1, 5) };
    for (read, is_another) in [(page(1, 1), false), (page(1, 3), false), (reset.clone(), true), (reset, true)] {
        let before = topic.generation();
        topic.apply_read(&read);
        assert_eq!(topic.generation() != before, is_another, "{read:?}");
    }
}

#[test]
fn the_total_follows_the_size_of_the_ring() {
    let total = Arc::<AtomicUsize>::default();
    let topic = Topic::new(Channel::new("a").unwrap(), 1 << 20, total.clone());
    let bytes = || (total.load(Relaxed), lock(&topic.state).ring.bytes());
    let _ = topic.invalidate();
    assert_eq!(bytes(), (0, 0), "no ring yet");
    let _ = topic.anchor(head(1));
    let _ = topic.feed(&[entry(2)], None);
    let (fed, _) = bytes();
    assert_eq!(bytes(), (fed, fed));
    let context =
        ReadContext { start: Start::Earliest, limit: Limit::new(1, 1), is_folded: false, version: 1, generation: 0 };
    let older = SharedPage::new(Page { entries: vec![entry(1)], ..page(0, 1) }, context);
    let _readers = [topic.join(), topic.join()];
    topic.backfill(&older);
    assert_eq!(bytes(), (2 * fed, 2 * fed));
    topic.apply_read(&Page { outcome: Outcome::Reset(Reason::EpochChanged), ..page(2, 5) });
    assert_eq!(bytes(), (0, 0));
    let _ = topic.feed(&[entry(6)], None);
    drop(topic);
    assert_eq!(total.load(Relaxed), 0);
}
