//! Prefixes of channel names that the hub reserves for producers in this process. Read by every publishing request, so without
//! a lock; there are as many as the application has kinds of such channels.

use std::sync::OnceLock;

use crate::channel::Channel;

/// A list that only grows.
#[derive(Debug, Default)]
pub(super) struct OwnedPrefixes(OnceLock<Box<Node>>);

#[derive(Debug)]
struct Node {
    prefix: Box<str>,
    rest: OwnedPrefixes,
}

impl OwnedPrefixes {
    /// Adds `prefix`, unless it is there.
    pub(super) fn add(&self, prefix: &str) {
        let mut list = self;
        loop {
            let node = list.0.get_or_init(|| Box::new(Node { prefix: prefix.into(), rest: Self::default() }));
            if *node.prefix == *prefix {
                return;
            }
            list = &node.rest;
        }
    }

    pub(super) fn contain(&self, channel: &Channel) -> bool {
        let mut list = self;
        while let Some(node) = list.0.get() {
            if channel.as_str().starts_with(&*node.prefix) {
                return true;
            }
            list = &node.rest;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_owned_if_its_name_begins_with_one_of_the_prefixes() {
        let owned = OwnedPrefixes::default();
        let is_owned = |name: &str| owned.contain(&Channel::new(name).unwrap());
        assert!(!is_owned("run:1"));
        ["run:", "job:", "run:"].iter().for_each(|prefix| owned.add(prefix));
        for (name, expected) in [("run:1", true), ("job:", true), ("ru", false), ("a run:1", false)] {
            assert_eq!(is_owned(name), expected, "{name}");
        }
        assert!(owned.0.get().unwrap().rest.0.get().unwrap().rest.0.get().is_none(), "a prefix is kept once");
    }
}
