//! The lowest channel names of the last scan. Asks nothing.

use std::{collections::BTreeMap, sync::Mutex};

use tokio::time::{Duration, Instant};

use crate::{channel::Channel, store::Head};

/// The result of the last scan.
#[derive(Default)]
pub(super) struct ListingCache(pub(super) Mutex<Option<Listing>>);

/// The lowest names that start with `prefix` and are above `after`.
pub(super) struct Listing {
    pub(super) prefix: String,
    pub(super) after: Option<Channel>,
    pub(super) found: BTreeMap<Channel, Head>,
    /// Whether these are all of them.
    pub(super) whole: bool,
    pub(super) when: Instant,
}

impl Listing {
    /// The page above `after`, if these names suffice.
    pub(super) fn page(&self, prefix: &str, after: &Channel, limit: usize) -> Option<Vec<(Channel, Head)>> {
        let covers =
            self.prefix == prefix && self.after.as_ref() <= Some(after) && self.when.elapsed() < REMEMBERED_FOR;
        let page = covers.then(|| self.after(Some(after), limit))?;
        (self.whole || page.len() == limit).then_some(page)
    }

    pub(super) fn after(&self, after: Option<&Channel>, limit: usize) -> Vec<(Channel, Head)> {
        let is_later = |name: &Channel| after.is_none_or(|after| name > after);
        let later = self.found.iter().filter(|(name, _)| is_later(name));
        later.take(limit).map(|(name, head)| (name.clone(), *head)).collect()
    }

    /// Records that a channel was created or removed.
    pub(super) fn note(&mut self, channel: &Channel, head: Option<Head>) {
        let Some(head) = head else {
            self.found.remove(channel);
            return;
        };
        let is_asked_for = channel.as_str().starts_with(&self.prefix) && Some(channel) > self.after.as_ref();
        let is_covered = self.whole || self.found.last_key_value().is_some_and(|(last, _)| channel < last);
        if is_asked_for && is_covered {
            self.take(channel.clone(), head);
        }
    }

    pub(super) fn take(&mut self, channel: Channel, head: Head) {
        self.found.insert(channel, head);
        if self.found.len() > MAX_LISTED {
            self.found.pop_last();
            self.whole = false;
        }
    }
}

/// Most names that are remembered.
const MAX_LISTED: usize = 65_536;

/// How long they are remembered.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Cursor;

    #[test]
    fn channels_created_or_removed_since_the_scan_are_listed_correctly() {
        let channel = |name: &str| Channel::new(name).unwrap();
        let head = Head { cursor: Cursor { epoch: 1, seq: 1, tag: 1 }, closed: false };
        let (prefix, found, when) = ("a/".to_owned(), BTreeMap::new(), Instant::now());
        let mut listing = Listing { prefix, after: None, found, whole: true, when };
        let names = |listing: &Listing| listing.found.keys().map(ToString::to_string).collect::<Vec<_>>();
        for name in ["a/1", "a/4", "b/1"] {
            listing.note(&channel(name), Some(head));
        }
        assert_eq!(names(&listing), ["a/1", "a/4"]);
        // Other names may follow the last one, so one above it is not added.
        listing.whole = false;
        listing.note(&channel("a/3"), Some(head));
        listing.note(&channel("a/5"), Some(head));
        listing.note(&channel("a/1"), None);
        assert_eq!(names(&listing), ["a/3", "a/4"]);
    }
}
