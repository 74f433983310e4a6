//! Which channels there are, in the order of their names. The server knows no such order, so the headers of all are looked
//! at, and the lowest names are remembered for those who ask for the pages that follow.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::time::{Duration, Instant};

use super::{error::unavailable, handle::Inner, record::Kind, scan::Scan, sync::lock};
use crate::{
    channel::Channel,
    store::{Head, StoreError},
};

/// What was listed last.
#[derive(Default)]
pub(super) struct ListingCache(Mutex<Option<Listing>>);

/// The lowest names that begin with `prefix` and come after `after`.
struct Listing {
    prefix: String,
    after: Option<Channel>,
    found: BTreeMap<Channel, Head>,
    /// Whether there were no more.
    whole: bool,
    when: Instant,
}

impl Listing {
    /// The page after `after`, when it can be told from here.
    fn page(&self, prefix: &str, after: &Channel, limit: usize) -> Option<Vec<(Channel, Head)>> {
        let covers = self.prefix == prefix && self.after.as_ref() <= Some(after) && self.when.elapsed() < REMEMBERED;
        let page = covers.then(|| self.after(Some(after), limit))?;
        (self.whole || page.len() == limit).then_some(page)
    }

    fn after(&self, after: Option<&Channel>, limit: usize) -> Vec<(Channel, Head)> {
        let is_later = |name: &Channel| after.is_none_or(|after| name > after);
        let later = self.found.iter().filter(|(name, _)| is_later(name));
        later.take(limit).map(|(name, head)| (name.clone(), *head)).collect()
    }

    /// Takes note of a channel that came or went.
    fn note(&mut self, channel: &Channel, head: Option<Head>) {
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

    fn take(&mut self, channel: Channel, head: Head) {
        self.found.insert(channel, head);
        if self.found.len() > MAX_LISTED {
            self.found.pop_last();
            self.whole = false;
        }
    }
}

impl Inner {
    pub(super) async fn channels(
        self: &Arc<Self>,
        prefix: &str,
        after: Option<&Channel>,
        limit: usize,
    ) -> Result<Vec<(Channel, Head)>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let known = |after: &Channel| lock(&self.listed.0).as_ref()?.page(prefix, after, limit);
        if let Some(page) = after.and_then(known) {
            return Ok(page);
        }
        let asked = tokio::time::timeout(self.settings.timeout * TIMEOUTS, self.list(prefix, after)).await;
        let listing =
            self.note_result(asked.unwrap_or_else(|_| Err(unavailable("no list of the channels in time"))))?;
        let page = listing.after(after, limit);
        *lock(&self.listed.0) = Some(listing);
        Ok(page)
    }

    async fn list(&self, prefix: &str, after: Option<&Channel>) -> Result<Listing, StoreError> {
        self.invalidate_place();
        let place = self.place().await?;
        self.recent_keep(&place).await?;
        let mut scan = Scan::of_channels(self, Arc::clone(&place)).await?;
        let (prefix, found, when) = (prefix.to_owned(), BTreeMap::new(), Instant::now());
        let mut listing = Listing { prefix, after: after.cloned(), found, whole: true, when };
        loop {
            let some = scan.next().await?;
            if some.is_empty() {
                return Ok(listing);
            }
            for (subject, raw) in some {
                let Some(channel) = place.channel(&subject) else { continue };
                if !channel.as_str().starts_with(&listing.prefix) || after.is_some_and(|after| channel <= *after) {
                    continue;
                }
                match raw.header() {
                    Ok((record, _)) if self.is_living(&record) => listing.take(channel, record.head()),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, ?channel, "a channel whose record cannot be read is not listed");
                    }
                }
            }
        }
    }

    fn is_living(&self, record: &super::record::Record) -> bool {
        record.kind != Kind::Gone && !self.last_keep().is_forgotten(record, self.clock.since(record.stamp))
    }

    /// This process began or ended a log: what it lists shows that.
    pub(super) fn note_listed(&self, channel: &Channel, head: Option<Head>) {
        if let Some(listing) = lock(&self.listed.0).as_mut() {
            listing.note(channel, head);
        }
    }

    /// Forgets what was listed a while ago.
    pub(super) fn forget_listing(&self) {
        lock(&self.listed.0).take_if(|listing| listing.when.elapsed() > REMEMBERED);
    }
}

/// Most names that are remembered.
const MAX_LISTED: usize = 65_536;

/// For how long.
const REMEMBERED: Duration = Duration::from_secs(10);

/// A list of many channels may take so many times as long as another call.
const TIMEOUTS: u32 = 6;

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
