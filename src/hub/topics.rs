//! Which channels are followed: those that have readers, and for a while those that had. Pure: time is passed in.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::topic::Topic;
use crate::channel::Channel;

#[derive(Debug, Default)]
pub(super) struct Topics {
    followed: HashMap<Channel, FollowedTopic>,
    /// When a channel's last reader left, oldest first. An item is void once its channel has a reader or is gone.
    idle: VecDeque<(Instant, Channel)>,
    lingering: usize,
}

#[derive(Debug)]
struct FollowedTopic {
    topic: Arc<Topic>,
    /// When it was found without readers.
    idle_since: Option<Instant>,
}

impl Topics {
    pub(super) fn get(&self, channel: &Channel) -> Option<&Arc<Topic>> {
        self.followed.get(channel).map(|followed| &followed.topic)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.followed.values().map(|followed| &followed.topic)
    }

    pub(super) fn len(&self) -> usize {
        self.followed.len()
    }

    /// How many have no reader.
    pub(super) fn lingering(&self) -> usize {
        self.lingering
    }

    /// Whether a reader of `channel` keeps the number of channels within `max`. The one that has lingered longest makes room.
    pub(super) fn make_room(&mut self, channel: &Channel, max: usize) -> bool {
        if self.followed.len() < max || self.followed.contains_key(channel) {
            return true;
        }
        while self.followed.len() >= max && self.drop_oldest() {}
        self.followed.len() < max
    }

    /// The topic of a channel that gets a reader.
    pub(super) fn join(&mut self, channel: &Channel, new_topic: impl FnOnce() -> Topic) -> &Arc<Topic> {
        let followed = self.followed.entry(channel.clone());
        let followed = followed.or_insert_with(|| FollowedTopic { topic: Arc::new(new_topic()), idle_since: None });
        if followed.idle_since.take().is_some() {
            self.lingering -= 1;
        }
        &followed.topic
    }

    /// Records that a channel's last reader left; by now another one may have joined, or left in turn. When more than
    /// `max_lingering` linger, the one that has lingered longest is dropped.
    pub(super) fn emptied(&mut self, channel: &Channel, now: Instant, max_lingering: usize) {
        let Some(followed) = self.followed.get_mut(channel) else { return };
        if followed.idle_since.is_some() || followed.topic.has_readers() {
            return;
        }
        followed.idle_since = Some(now);
        self.lingering += 1;
        self.idle.push_back((now, channel.clone()));
        while self.lingering > max_lingering && self.drop_oldest() {}
        // Void items are removed once they are the majority: O(1) amortised.
        if self.idle.len() > 2 * self.lingering + 64 {
            let Self { followed, idle, .. } = self;
            idle.retain(|(since, channel)| is_idle(followed, channel, *since));
        }
    }

    /// Drops the channels that have lingered for `linger`.
    pub(super) fn expire(&mut self, now: Instant, linger: Duration) {
        let is_over = |idle: &VecDeque<(Instant, Channel)>| {
            idle.front().is_some_and(|(since, _)| now.duration_since(*since) >= linger)
        };
        while is_over(&self.idle) && self.drop_oldest() {}
    }

    /// Returns whether there was an item.
    fn drop_oldest(&mut self) -> bool {
        let Some((since, channel)) = self.idle.pop_front() else { return false };
        if is_idle(&self.followed, &channel, since) {
            self.followed.remove(&channel);
            self.lingering -= 1;
        }
        true
    }
}

fn is_idle(followed: &HashMap<Channel, FollowedTopic>, channel: &Channel, since: Instant) -> bool {
    followed.get(channel).is_some_and(|followed| followed.idle_since == Some(since))
}

#[cfg(all(test, not(tower_events_loom)))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::hub::topic::Occupancy;

    fn channel(n: u64) -> Channel {
        Channel::new(format!("c{n}")).unwrap()
    }

    fn topic(n: u64) -> Topic {
        Topic::new(channel(n), 1 << 10, Arc::default())
    }

    #[test]
    fn when_too_many_linger_the_oldest_is_dropped() {
        let (mut topics, start) = (Topics::default(), Instant::now());
        for n in 0..5 {
            topics.join(&channel(n), || topic(n));
            topics.emptied(&channel(n), start + Duration::from_secs(n), 3);
        }
        let left: Vec<_> = (0..5).filter(|n| topics.get(&channel(*n)).is_some()).collect();
        assert_eq!((left, topics.lingering()), (vec![2, 3, 4], 3));
    }

    #[test]
    fn a_channel_beyond_the_limit_takes_the_place_of_one_that_lingers() {
        let (mut topics, start) = (Topics::default(), Instant::now());
        let slots = [0, 1].map(|n| topics.join(&channel(n), || topic(n)).join());
        assert!(topics.make_room(&channel(2), 3) && topics.make_room(&channel(1), 2));
        assert!(!topics.make_room(&channel(2), 2), "both have readers");
        assert_eq!(topics.get(&channel(0)).unwrap().leave(&slots[0]), Occupancy::Empty);
        topics.emptied(&channel(0), start, 10);
        assert!(topics.make_room(&channel(2), 2));
        assert_eq!((topics.len(), topics.lingering(), topics.get(&channel(0)).is_none()), (1, 0, true));
        assert!(!topics.make_room(&channel(2), 0));
    }

    #[test]
    fn channels_that_lingered_long_enough_are_dropped_unless_joined_again() {
        let (mut topics, start, linger) = (Topics::default(), Instant::now(), Duration::from_secs(30));
        for n in 0..3 {
            topics.join(&channel(n), || topic(n));
            topics.emptied(&channel(n), start + Duration::from_secs(n), 10);
        }
        topics.join(&channel(0), || topic(0));
        topics.expire(start + Duration::from_secs(31), linger);
        assert_eq!((topics.len(), topics.lingering()), (2, 1));
        assert!(topics.get(&channel(0)).is_some() && topics.get(&channel(1)).is_none());
        topics.expire(start + Duration::from_secs(32), linger);
        assert_eq!((topics.len(), topics.lingering()), (1, 0));
    }

    #[test]
    fn a_channel_lingers_once_and_not_while_it_has_readers() {
        let (mut topics, now) = (Topics::default(), Instant::now());
        let slot = topics.join(&channel(0), || topic(0)).join();
        topics.emptied(&channel(0), now, 10);
        assert_eq!(topics.lingering(), 0, "another reader joined meanwhile");
        assert_eq!(topics.get(&channel(0)).unwrap().leave(&slot), Occupancy::Empty);
        // Of two readers that left, one after the other, both report it late.
        for _ in 0..2 {
            topics.emptied(&channel(0), now, 10);
            assert_eq!(topics.lingering(), 1);
        }
    }

    #[test]
    fn joining_and_leaving_accumulates_no_more_than_twice_what_lingers() {
        for lingering in [1, 10] {
            let (mut topics, start, mut longest) = (Topics::default(), Instant::now(), 0);
            for n in 0..10_000 {
                let channel = channel(n.min(lingering - 1));
                topics.join(&channel, || topic(0));
                topics.emptied(&channel, start + Duration::from_millis(n), 10);
                longest = longest.max(topics.idle.len());
            }
            assert_eq!((topics.lingering() as u64, longest as u64), (lingering, 2 * lingering + 64));
        }
    }
}
