//! The lowest names of channels, as they were listed last. Asks nothing.

use std::{collections::BTreeMap, sync::Mutex};

use tokio::time::{Duration, Instant};

use crate::{channel::Channel, store::Head};

/// What was listed last.
#[derive(Default)]
pub(super) struct ListingCache(pub(super) Mutex<Option<Listing>>);

/// The lowest names that begin with `prefix` and come after `after`.
pub(super) struct Listing {
    pub(super) prefix: String,
    pub(super) after: Option<Channel>,
    pub(super) found: BTreeMap<Channel, Head>,
    /// Whether there were no more.
    pub(super) whole: bool,
    pub(super) when: Instant,
}

impl Listing {
    /// The page after `after`, when it can be told from here.
    pub(super) fn page(&self, prefix: &str, after: &Channel, limit: usize) -> Option<Vec<(Channel, Head)>> {
        let covers = self.prefix == prefix && self.after.as_ref() <= Some(after) && self.when.elapsed() < REMEMBERED;
        let page = covers.then(|| self.after(Some(after), limit))?;
        (self.whole || page.len() == limit).then_some(page)
    }

    pub(super) fn after(&self, after: Option<&Channel>, limit: usize) -> Vec<(Channel, Head)> {
        let is_later = |name: &Channel| after.is_none_or(|after| name > after);
        let later = self.found.iter().filter(|(name, _)| is_later(name));
        later.take(limit).map(|(name, head)| (name.clone(), *head)).collect()
    }

    /// Takes note of a channel that came or went.
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

/// For how long.
pub(super) const REMEMBERED: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Cursor;

    #[test]
    fn what_came_and_went_since_is_listed_as_it_is() {
        let channel = |name: &str| Channel::new(name).unwrap();
        let head = Head { cursor: Cursor { epoch: 1, seq: 1, tag: 1 }, closed: false };
        let (prefix, found, when) = ("a/".to_owned(), BTreeMap::new(), Instant::now());
        let mut listing = Listing { prefix, after: None, found, whole: true, when };
        let names = |listing: &Listing| listing.found.keys().map(ToString::to_string).collect::<Vec<_>>();
        for name in ["a/1", "a/4", "b/1"] {
            listing.note(&channel(name), Some(head));
        }
        assert_eq!(names(&listing), ["a/1", "a/4"]);
        // Of what comes after the last, others may lie in between.
        listing.whole = false;
        listing.note(&channel("a/3"), Some(head));
        listing.note(&channel("a/5"), Some(head));
        listing.note(&channel("a/1"), None);
        assert_eq!(names(&listing), ["a/3", "a/4"]);
    }
}
