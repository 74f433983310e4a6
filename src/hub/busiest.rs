//! The followed channels with the most readers.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use super::topic::Topic;
use crate::channel::Channel;

/// At most `count` channels with their readers, the most first; those without readers are left out.
pub(super) fn busiest(topics: &[Arc<Topic>], count: usize) -> Vec<(Channel, usize)> {
    let mut found = BinaryHeap::new();
    for (index, topic) in topics.iter().enumerate() {
        match topic.readers() {
            0 => continue,
            readers => found.push(Reverse((readers, Reverse(index)))),
        }
        if found.len() > count {
            found.pop();
        }
    }
    let found = found.into_sorted_vec();
    let channel = |index: usize| topics.get(index).map(|topic| topic.channel().clone());
    found.into_iter().filter_map(|Reverse((readers, Reverse(index)))| Some((channel(index)?, readers))).collect()
}

#[cfg(all(test, not(tower_events_loom)))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_channels_with_the_most_readers_come_first() {
        let topic = |readers: usize| {
            let topic = Topic::new(Channel::new(format!("c{readers}")).unwrap(), 1, Arc::default());
            (0..readers).for_each(|_| drop(topic.join()));
            Arc::new(topic)
        };
        let topics: Vec<_> = [3, 0, 9, 1, 7].map(topic).into();
        let names = |count| {
            let found = busiest(&topics, count);
            found.into_iter().map(|(channel, readers)| format!("{channel} {readers}")).collect::<Vec<_>>()
        };
        assert_eq!(names(2), ["c9 9", "c7 7"]);
        assert_eq!(names(9), ["c9 9", "c7 7", "c3 3", "c1 1"], "those without readers are left out");
        assert!(names(0).is_empty());
    }
}
