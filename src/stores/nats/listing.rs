//! The existing channels, in the order of their names. The server has no such order, so the headers of all channels are
//! scanned, and the lowest names are remembered for the following pages.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use super::{
    error::unavailable,
    listing_cache::{Listing, REMEMBERED_FOR},
    record::Kind,
    scan::Scan,
    shared::Inner,
    sync::lock,
};
use crate::{
    channel::Channel,
    store::{Head, StoreError},
};

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
        let result = tokio::time::timeout(self.settings.timeout * LISTING_TIMEOUTS, self.list(prefix, after)).await;
        let listing =
            self.note_read(result.unwrap_or_else(|_| Err(unavailable("the channels were not listed in time"))))?;
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
            let page = scan.next().await?;
            if page.is_empty() {
                return Ok(listing);
            }
            for (subject, raw) in page {
                let Some(channel) = place.channel(&subject) else { continue };
                if !channel.as_str().starts_with(&listing.prefix) || after.is_some_and(|after| channel <= *after) {
                    continue;
                }
                match raw.header() {
                    Ok((record, _)) if self.is_living(&record) => listing.take(channel, record.head()),
                    Ok(_) => {}
                    Err(error) if self.damaged.is_due(channel.as_str()) => {
                        tracing::error!(%error, channel = channel.as_str(), "a channel with an unreadable record is not listed");
                    }
                    Err(_) => {}
                }
            }
        }
    }

    fn is_living(&self, record: &super::record::Record) -> bool {
        record.kind != Kind::Gone && !self.last_keep().is_forgotten(record, self.clock.since(record.stamp))
    }

    /// Updates the remembered names when this process creates or removes a log.
    pub(super) fn note_listed(&self, channel: &Channel, head: Option<Head>) {
        if let Some(listing) = lock(&self.listed.0).as_mut() {
            listing.note(channel, head);
        }
    }

    /// Forgets the remembered names once they are old.
    pub(super) fn forget_listing(&self) {
        lock(&self.listed.0).take_if(|listing| listing.when.elapsed() > REMEMBERED_FOR);
    }
}

/// Listing many channels may take this many timeouts.
const LISTING_TIMEOUTS: u32 = 6;
